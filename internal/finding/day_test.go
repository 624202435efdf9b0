package finding

import (
	"fmt"
	"math"
	"testing"
)

// quietDay lets a day of seasonal traffic pass: it triples until noon, response times and processors follow a little, and there are a cron job each
// hour, a slow garbage collection now and then, and a client that asks for what is not there.
func (w *world) quietDay() {
	rates := make([]float64, len(w.endpoints))
	times := make([]float64, len(w.endpoints))
	for i, n := range w.endpoints {
		rates[i], times[i] = n.rps, n.ms
	}
	for range 8640 {
		hour := float64(w.now.Hour()) + float64(w.now.Minute())/60
		busy := (1 - math.Cos(2*math.Pi*(hour-1)/24)) / 2 // least at 1:00, most at 13:00
		for i, n := range w.endpoints {
			n.rps = rates[i] * (.5 + busy)
			n.ms = times[i] * (1 + .1*busy)
			if w.random.IntN(500) == 0 {
				n.ms *= 1.5
			}
		}
		w.load = .5 + busy
		w.cron = w.now.Minute() == 0
		w.step()
	}
	for i, n := range w.endpoints {
		n.rps, n.ms = rates[i], times[i]
	}
}

// Shows that days of seasonal traffic raise no finding that anybody would be woken by, and no more than a few warnings and pieces of information.
func TestQuietDays(t *testing.T) {
	t.Parallel()
	const days = 2
	w := newWorld(t, 5, Options{})
	for i := range 6 {
		n := w.serve("shop", fmt.Sprintf("GET /pages/%d", i), .2+.4*float64(i), 20)
		n.fails, n.burst = .002*float64(i%2), .05
	}
	w.serve("admin", "GET /", 1./60, 50).spread = .8
	w.call("shop", "db.example", 3, 3)
	w.measured(Measure{CPUUsage, Subject{}}, func() float64 {
		v := 15*w.load + 2*w.random.NormFloat64()
		if w.cron {
			v += 25
		}
		return v
	})
	w.measured(Measure{MemoryUsage, Subject{}}, func() float64 { return 40 + 5*w.load + .1*w.random.NormFloat64() })
	w.measured(Measure{PressureCPU, Subject{}}, func() float64 { return w.load * math.Exp(.5*w.random.NormFloat64()) })
	w.measured(Measure{Retransmits, Subject{}}, func() float64 { return float64(w.poisson(.1)) })
	w.measured(Measure{RTT, Subject{Service: "shop"}}, func() float64 { return .3 * math.Exp(.3*w.random.NormFloat64()) })
	for range days {
		w.quietDay()
	}
	bySeverity := map[string]int{}
	for _, f := range w.found {
		bySeverity[f.Severity]++
		t.Logf("%s %s: %g, usually %g, score %.1f", f.Start.Format("2 15:04:05"), f.Summary, f.Peak, f.Expected, f.Score)
	}
	t.Logf("%v of %+v", bySeverity, w.Stats())
	if bySeverity[Error]+bySeverity[Critical] > 0 || bySeverity[Warning] > days || len(w.found) > 3*days {
		t.Errorf("in %d days: %v", days, bySeverity)
	}
}
