package finding

import (
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
)

// Shows that processes that were started are counted also where their service was away meanwhile, as between two versions, and none where it
// is the same process again.
func TestStarts(t *testing.T) {
	for _, c := range []struct {
		pids   []uint32 // of the only process at each tick; 0: there is none
		starts float64  // at the last tick
	}{
		{[]uint32{1, 1}, 0},
		{[]uint32{1, 2}, 1},
		{[]uint32{1, 0, 2}, 1},
		{[]uint32{1, 0, 0, 0, 2}, 1},
		{[]uint32{1, 0, 1}, 0},
		{[]uint32{1, 0, 2, 2}, 0},
	} {
		e := New(Options{})
		now := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
		for i, pid := range c.pids {
			now = now.Add(analytics.TickInterval)
			sample := &host.Sample{Time: now}
			if pid != 0 {
				sample.Services = []host.Service{{Name: "shop", Processes: []host.Process{{PID: pid, StartSeconds: float64(pid)}}}}
			}
			e.Consume(&analytics.Seal{Tick: int64(i + 1), From: now.Add(-analytics.TickInterval), To: now}, sample, nil)
		}
		past := e.Past(func(m *Measure) bool { return m.Metric == ProcessStarts && m.Service == "shop" })
		if len(past.All) != 1 {
			t.Fatalf("%v: %d series", c.pids, len(past.All))
		}
		values := past.All[0].Values
		if got := float64(values[len(values)-1]); got != c.starts {
			t.Errorf("%v: %v were started, and not %v", c.pids, got, c.starts)
		}
	}
}
