package finding

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

// noises are what series without any anomaly may look like.
var noises = map[string]func(r *rand.Rand) func() float64{
	"normal":      func(r *rand.Rand) func() float64 { return r.NormFloat64 },
	"lognormal":   func(r *rand.Rand) func() float64 { return func() float64 { return math.Exp(.5 * r.NormFloat64()) } },
	"exponential": func(r *rand.Rand) func() float64 { return r.ExpFloat64 },
	"student": func(r *rand.Rand) func() float64 {
		return func() float64 { // three degrees of freedom
			a, b, c := r.NormFloat64(), r.NormFloat64(), r.NormFloat64()
			return r.NormFloat64() / math.Sqrt((a*a+b*b+c*c)/3)
		}
	},
	"drifting": func(r *rand.Rand) func() float64 { return autoregression(r, .9) },
	"slowly":   func(r *rand.Rand) func() float64 { return autoregression(r, .99) },
	"counts": func(r *rand.Rand) func() float64 {
		return func() float64 {
			n := 0.
			for p := r.Float64(); p > math.Exp(-5); n++ {
				p *= r.Float64()
			}
			return n
		}
	},
}

func autoregression(r *rand.Rand, phi float64) func() float64 {
	x := 0.
	return func() float64 {
		x = phi*x + r.NormFloat64()
		return x
	}
}

// Shows that noise of seven kinds raises as many alarms as are wanted, within a factor of two in all, from a week of series of each, whatever
// their effect.
func TestNoise(t *testing.T) {
	t.Parallel()
	const wanted, each, weeks = 1.0, 4, 1
	total := 0.
	for name, noise := range noises {
		e := New(Options{Sensitivity: wanted})
		r := rand.New(rand.NewPCG(1, 2))
		var sources []func() float64
		var tracks []*track
		g := e.groupOf(groupKey{})
		for i := range each {
			sources = append(sources, noise(r))
			tracks = append(tracks, e.newTrack(Measure{PressureCPU, Subject{Device: fmt.Sprint(i)}}, g))
		}
		now := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
		for tick := range int64(weeks * 7 * 8640) {
			now = now.Add(10 * time.Second)
			e.begin(&analytics.Seal{Tick: tick + 1, To: now})
			for i, track := range tracks {
				e.add(track, 1e3*sources[i](), 1, 0)
				if track.episode != nil && track.over() {
					track.episode = nil
				}
			}
		}
		per := float64(e.alarms) / each / weeks
		t.Logf("%-12s %.2f a week and series, %.2f by minutes", name, per, float64(e.longAlarms)/each/weeks)
		total += per / float64(len(noises))
	}
	t.Logf("%.2f in the mean", total)
	if total < wanted/2 || total > 2*wanted {
		t.Errorf("%.2f alarms a week and series, %g wanted", total, wanted)
	}
}

// Shows that failures that are independent of each other raise no more alarms than are wanted, by how many requests come and how many of them fail.
func TestFailureNoise(t *testing.T) {
	t.Parallel()
	const wanted, weeks = 1.0, 4
	for _, requests := range []float64{3, 30, 300} {
		for _, share := range []float64{.001, .02, .3} {
			w := newWorld(t, 1, Options{Sensitivity: wanted})
			w.begin(&analytics.Seal{Tick: 1, To: w.now})
			track := w.newTrack(Measure{Metric: ErrorRate}, w.groupOf(groupKey{}))
			for tick := range int64(weeks * 7 * 8640) {
				n := w.poisson(requests)
				failed := min(w.poisson(float64(n)*share), n)
				w.row, w.now = tick, w.now.Add(w.o.Tick)
				w.addFailures(track, uint64(n), uint64(failed))
				if track.episode != nil && track.over() {
					track.episode = nil
				}
			}
			per := float64(w.alarms) / weeks
			t.Logf("%g requests a tick, %g of them fail: %.2f alarms a week", requests, share, per)
			if per > 2*wanted {
				t.Errorf("%g requests a tick, %g of them fail: %.2f alarms a week", requests, share, per)
			}
		}
	}
}
