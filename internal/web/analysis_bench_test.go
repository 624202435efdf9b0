package web

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/wire"
)

// BenchmarkAnalysis is what an answer costs over the history of a day of a host with 2,000 endpoints, each of which has two requests in
// each minute: 2.9 million distributions in minutes.
func BenchmarkAnalysis(b *testing.B) {
	const endpoints, shown = 2000, 6 // a sixth of them in each tick
	w := newAnalysisWorld(b)
	w.history = history.Open(history.Options{Log: slog.New(slog.DiscardHandler), Path: b.TempDir(), MaxBytes: 4 << 30})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.history.Run(ctx) }()
	b.Cleanup(func() { stop(); <-done })
	w.options.Engine = query.New(query.Options{History: func() *history.History { return w.history }, Log: slog.New(slog.DiscardHandler), Timeout: time.Hour})
	w.options.Timeout = time.Hour // what is measured is processor time
	r := rand.New(rand.NewPCG(1, 2))
	const ticks = 8640
	w.cpu, w.memory, w.disk = "50", "60", "70"
	for i := range ticks {
		at := w.start.Add(time.Duration(i) * analysisTick)
		seal := &analytics.Seal{From: at, To: at.Add(analysisTick)}
		for k := i % shown; k < endpoints; k += shown {
			e := &analytics.Sealed{Key: analytics.Key{Role: wire.RoleServer, Service: fmt.Sprint("service", k%20), Operation: wire.Operation{Verb: "GET", Name: fmt.Sprint("/r", k)}}}
			e.Series = []analytics.Series{{Result: analytics.Result{Outcome: wire.Outcome{Code: 200}, Protocol: "http/1.1"}}}
			for range 2 {
				e.Series[0].Duration.Add(int64(20e6 * math.Exp(r.NormFloat64())))
			}
			seal.Entries = append(seal.Entries, e)
		}
		w.history.Consume(seal, w.sample(i))
		w.await(uint64(i + 1))
	}
	w.serve(ticks * analysisTick)
	for _, c := range []struct{ name, parameters string }{
		{"host", "metric=response_time&window=24h"},
		{"figure", "metric=cpu_usage&window=24h"},
		{"overview", "window=24h"},
		{"service", "metric=response_time&window=24h&service=service7"},
		{"endpoint", "metric=response_time&window=24h&route=/r7"},
		{"hour", "metric=response_time&window=1h"},
	} {
		b.Run(c.name, func(b *testing.B) {
			before := processorTime()
			var last *httptest.ResponseRecorder
			for b.Loop() {
				if last = w.ask(c.parameters); last.Code != 200 {
					b.Fatal(last.Body)
				}
			}
			b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N)/1000, "cpu-ms/op")
			b.ReportMetric(float64(last.Body.Len()), "answer-B")
		})
	}
}

// processorTime is what the process has used: other processes do not change it.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
