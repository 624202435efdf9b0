package analytics

import (
	"math"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/host"
)

// The processors of a service are the mean over each window, whatever the latest sample says, as far as the service was watched; what
// is not known of some time is not taken for a zero.
func TestWindowProcessors(t *testing.T) {
	c := newClock()
	c.advance(100 * time.Second) // to a whole five minutes
	e := NewEngine(Options{Now: c.now})
	sample := &host.Sample{CPU: &host.CPU{Processors: 2}}
	e.ObserveHost(func() *host.Sample { return sample })
	var counter float64
	run := func(ticks int, processors float64) {
		for range ticks {
			e.Add(timed("/a", time.Millisecond))
			c.advance(TickInterval)
			counter += 10 * processors
			sample = &host.Sample{Time: c.now(), CPU: sample.CPU, Services: []host.Service{{Name: "shop", CPUSeconds: host.Counter{Total: counter}}}}
			e.Tick()
		}
	}
	expect := func(what string, length time.Duration, want float64) {
		t.Helper()
		got := windowOf(t, e, length).Services[0].Processors
		if math.Abs(got-want) > 1e-9 || math.IsNaN(got) != math.IsNaN(want) {
			t.Errorf("%s, %s: %g processors, want %g", what, length, got, want)
		}
	}
	run(1, 1)
	expect("after one sample", time.Minute, math.NaN())
	run(5, 1)
	expect("at first", time.Minute, 1)
	run(4, 0)
	expect("idle for 40 s", time.Minute, 1./3)
	expect("idle for 40 s", time.Hour, 5./9)
	run(2, 0)
	run(30, .5)
	expect("busy again", time.Minute, .5)
	expect("busy again", 5*time.Minute, .5)
	run(318, .25)
	expect("an hour later", 5*time.Minute, .25)
	expect("an hour later", time.Hour, (5+30*.5+318*.25)/359) // since the first sample
	run(40, .25)
	expect("over an hour", time.Hour, (12*.5+358*.25)/370) // from a border of five minutes
	before := len(e.windows.loads.byService[serviceName{"shop", ""}].meter.readings)
	if before > 80 {
		t.Errorf("%d readings", before)
	}
	sample = &host.Sample{Time: c.now(), CPU: sample.CPU}
	e.Add(timed("/a", time.Millisecond))
	c.advance(TickInterval)
	e.Tick()
	expect("not watched", time.Minute, math.NaN())
	counter = 0
	run(3, 2)
	expect("watched again", time.Minute, 2)
}
