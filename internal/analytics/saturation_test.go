package analytics

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// saturationOf loads a service for minutes, each with requests per second and a mean response time and queue time in
// seconds that the load makes, and returns the estimate.
func saturationOf(t *testing.T, loads []float64, respond, queue func(rps float64) float64) Saturation {
	t.Helper()
	c := newClock()
	c.advance(100 * time.Second) // to a whole five minutes
	e := NewEngine(Options{Now: c.now})
	for _, rps := range loads {
		for range ticksPerMinute {
			for range int(rps * 10) {
				ex := timed("/a", time.Duration(1e9*respond(rps)))
				ex.Read += int64(1e9 * queue(rps))
				e.Add(ex)
			}
			c.advance(TickInterval)
			e.Tick()
		}
	}
	w := windowOf(t, e, 15*time.Minute)
	if len(w.Services) != 1 {
		t.Fatalf("%d services", len(w.Services))
	}
	return w.Services[0].Saturation
}

// A single server of 100 requests per second, whose response time is 1/(100-X), and four of 25 beside each other are found
// to be full at 100. A service whose times do not grow, or that always had the same load, says nothing, unless its requests
// wait.
func TestSaturation(t *testing.T) {
	none := func(float64) float64 { return 0 }
	varied := []float64{20, 45, 70, 30, 60, 50, 80, 40}
	steady := []float64{50, 50, 50, 50, 50, 50}
	r := rand.New(rand.NewPCG(1, 2))
	noise := func(respond func(float64) float64) func(float64) float64 {
		factors := map[float64]float64{}
		return func(rps float64) float64 {
			if factors[rps] == 0 {
				factors[rps] = 1 + .1*r.NormFloat64()
			}
			return respond(rps) * factors[rps]
		}
	}
	one := func(x float64) float64 { return 1 / (100 - x) }
	for name, c := range map[string]struct {
		loads          []float64
		respond, queue func(float64) float64
		method         string
		capacity       float64
		tolerance      float64
	}{
		"one server":             {varied, one, none, "load", 100, .01},
		"four servers":           {varied, func(x float64) float64 { return 4 / (100 - x) }, none, "load", 100, .01},
		"noise":                  {varied, noise(one), none, "load", 100, .15},
		"constant times":         {varied, func(float64) float64 { return .01 }, none, "", 0, 0},
		"far from its limit":     {varied, func(x float64) float64 { return 1 / (2000 - x) }, none, "", 0, 0},
		"the same load":          {steady, one, none, "", 0, 0},
		"short":                  {varied[:2], one, none, "", 0, 0},
		"the same load, waiting": {steady, func(float64) float64 { return .02 }, func(float64) float64 { return .01 }, "queue", 100, .01},
		"quicker with the load":  {varied, func(x float64) float64 { return 1 / (100 + x) }, none, "", 0, 0},
	} {
		got := saturationOf(t, c.loads, c.respond, c.queue)
		if got.Method != c.method || got.Known != (c.method != "") || math.Abs(got.CapacityRPS-c.capacity) > c.tolerance*c.capacity ||
			got.Known == (got.Reason != "") {
			t.Errorf("%s: %+v, want %s %v", name, got, c.method, c.capacity)
		}
		if got.Known {
			var sum float64
			for _, x := range c.loads {
				sum += x
			}
			if left := 1 - sum/float64(len(c.loads))/got.CapacityRPS; math.Abs(got.CapacityLeft-left) > .001 {
				t.Errorf("%s: %v is left, want %v", name, got.CapacityLeft, left)
			}
		}
	}
}

// Counting, ticking, asking and configuring go on at the same time (for the race detector), and nothing is lost.
func TestWindowConcurrency(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now, Limits: Limits{Endpoints: 50, Idle: time.Minute}})
	const n = 20_000
	var all sync.WaitGroup
	done := make(chan struct{})
	all.Go(func() {
		defer close(done)
		var h Handle
		ex := timed("/a", time.Millisecond)
		for i := range n / 2 {
			e.AddTo(&h, ex)
			other := timed("/", time.Millisecond)
			other.Name = string(rune('a' + i%60))
			e.Add(other)
		}
	})
	moved := 0
	for _, f := range []func(){
		func() {
			if moved++; moved < 90_000 { // half an hour, of which a window of an hour forgets nothing
				c.advance(20 * time.Millisecond)
			}
			e.Tick()
		},
		func() { e.Snapshot() },
		func() {
			for _, l := range WindowLengths {
				if _, err := e.Window(l); err != nil {
					t.Error(err)
				}
			}
		},
		func() { e.SetLevels(LevelOptions{}); e.Levels(); e.WindowMemory() },
	} {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					f()
				}
			}
		})
	}
	all.Wait()
	c.advance(TickInterval)
	e.Tick()
	var windows, counted uint64
	for _, k := range e.Snapshot().Exchanges {
		counted += k.Count
	}
	windows = windowOf(t, e, time.Hour).Total.Exchanges
	if counted != n || windows != n {
		t.Errorf("%d counted, %d in the window, of %d", counted, windows, n)
	}
}
