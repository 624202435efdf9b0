package finding

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

// BenchmarkEndpoints measures a tick of 2,000 endpoints: what it costs of a core, for a value, and the memory for a series.
func BenchmarkEndpoints(b *testing.B) {
	w := newWorld(nil, 1, Options{})
	for i := range 2000 {
		w.serve(fmt.Sprintf("service-%d", i%40), fmt.Sprintf("GET /pages/%d", i), 2, 20)
	}
	var seals []*analytics.Seal
	for range 12 {
		s := &analytics.Seal{}
		for _, n := range w.endpoints {
			s.Entries = append(s.Entries, n.sealed(w))
		}
		seals = append(seals, s)
	}
	consume := func(i int) {
		s := *seals[i%len(seals)]
		w.now = w.now.Add(10 * time.Second)
		s.Tick, s.To = int64(i+1), w.now
		w.Consume(&s, nil, nil)
	}
	var before, after runtime.MemStats
	w.endpoints = nil
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 300 {
		consume(i)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	i, began := 300, processorSeconds(b)
	for b.Loop() {
		consume(i)
		i++
	}
	stats := w.Stats()
	tick := (processorSeconds(b) - began) / float64(i-300) // whatever else the machine does
	b.ReportMetric(1e9*tick/float64(stats.Series), "cpu-ns/series")
	b.ReportMetric(100*tick/10, "%core")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(stats.Series), "B/series")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
	b.ReportMetric(float64(stats.Series), "series")
}

// processorSeconds is the processor time that the process took so far.
func processorSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
