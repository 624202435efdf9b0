package finding

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
)

// Shows that processes that were started are counted also where their service was away meanwhile, as between two versions, and none where
// it is the same process again.
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

// Shows that an operation of a disk takes the time that its counters tell, and that the time is unknown in a tick in which one of them began
// anew, as those of milliseconds do that have 32 bits.
func TestDiskCounters(t *testing.T) {
	const ms = 1e-3
	e := New(Options{})
	now := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	counter := func(total float64) host.Counter { return host.Counter{Total: total} }
	for i, at := range []struct{ reads, readSeconds, writes, writeSeconds float64 }{
		{0, 0, 0, 0},
		{100, 200 * ms, 100, 600 * ms},
		{200, 0, 200, 1200 * ms},       // the time of reads began anew
		{10, 20 * ms, 1300, 1800 * ms}, // the reads
		{110, 220 * ms, 1400, 2400 * ms},
	} {
		now = now.Add(analytics.TickInterval)
		sample := &host.Sample{Time: now, Disks: []host.Disk{{Device: "sda", Reads: counter(at.reads), ReadSeconds: counter(at.readSeconds),
			Writes: counter(at.writes), WriteSeconds: counter(at.writeSeconds)}}}
		e.Consume(&analytics.Seal{Tick: int64(i + 1), From: now.Add(-analytics.TickInterval), To: now}, sample, nil)
	}
	past := e.Past(func(m *Measure) bool { return m.Metric == DiskLatency })
	if len(past.All) != 1 {
		t.Fatalf("%d series", len(past.All))
	}
	for i, want := range []float64{math.NaN(), 4, math.NaN(), math.NaN(), 4} {
		if got := float64(past.All[0].Values[i]); math.Abs(got-want) > 1e-4 || math.IsNaN(got) != math.IsNaN(want) {
			t.Errorf("tick %d: %g ms, and not %g", i+1, got, want)
		}
	}
}

// Shows when a service that leaks reaches the memory limit of its control group, whatever page cache is charged to that, and that one
// without a limit, one whose limit is far, and one of which the memory is not known reach none.
func TestMemoryLimit(t *testing.T) {
	e := New(Options{})
	now := time.Date(2026, 3, 2, 14, 0, 0, 0, time.UTC)
	const mb = 1 << 20
	group := func(path string, bytes, limit float64) []host.CgroupStats {
		return []host.CgroupStats{{Path: path, MemoryBytes: bytes, MemoryLimitBytes: limit}}
	}
	for tick := range 120 {
		now = now.Add(analytics.TickInterval)
		leaked := 60*mb + 20*mb*float64(tick)/120 // 80 of 100 MB after 20 minutes
		services := []host.Service{
			{Name: "leaks", ResidentBytes: leaked, Cgroups: group("/leaks", 99*mb, 100*mb)},
			{Name: "caches", ResidentBytes: 50 * mb, Cgroups: group("/caches", 60*mb+30*mb*float64(tick)/120, 100*mb)},
			{Name: "free", ResidentBytes: leaked, Cgroups: group("/free", leaked, math.Inf(1))},
			{Name: "far", ResidentBytes: leaked, Cgroups: group("/far", leaked, 1e4*mb)},
			{Name: "unseen", ResidentBytes: host.Unknown, Cgroups: group("/unseen", leaked, 100*mb)},
		}
		sample := &host.Sample{Time: now, Services: services}
		e.Consume(&analytics.Seal{Tick: int64(tick + 1), From: now.Add(-analytics.TickInterval), To: now}, sample, nil)
	}
	past := e.Past(MayBeForeseen)
	all := Foresee(past)
	if len(all) != 1 || all[0].Measure != (Measure{MemoryLimitUsage, Subject{Service: "leaks"}}) {
		t.Fatalf("%+v", all)
	}
	if off := all[0].Until.Likely.Sub(now.Add(20 * time.Minute)).Abs(); off > 2*time.Minute {
		t.Errorf("%s after %s", all[0].Until.Likely, now)
	}
	if s := all[0].Summary; !strings.HasPrefix(s, "Memory use of leaks rises (80 %), and reaches its memory limit at about 14:") {
		t.Error(s)
	}
	f := &Finding{ID: "f", Kind: Anomaly, Measure: Measure{MemoryResident, Subject{Service: "leaks"}}, Unit: "bytes",
		Start: now.Add(-5 * time.Minute), Expected: 60 * mb, Peak: 80 * mb}
	ofIt := e.Past(func(m *Measure) bool { return m.Service == "leaks" })
	ofIt.Start = 90
	explain(f, ofIt)
	if f.Until == nil || !strings.Contains(f.Summary, "; if it goes on like this, it reaches its memory limit at about 14:") {
		t.Errorf("%+v %s", f.Until, f.Summary)
	}
}
