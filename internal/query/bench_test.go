package query

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
)

// busy is a history of some endpoints, with three requests in each interval.
func busy(b *testing.B, endpoints, ticks int, length time.Duration) (*Engine, time.Time) {
	b.Helper()
	h := history.Open(history.Options{Log: quiet})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	b.Cleanup(func() { stop(); <-done })
	r := rand.New(rand.NewPCG(1, 2))
	at := noon
	for range ticks {
		to := at.Add(length)
		s := &analytics.Seal{From: at, To: to}
		for i := range endpoints {
			ms := func() float64 { return 20 * math.Exp(r.NormFloat64()) }
			e := served(fmt.Sprint("/r", i), 200, ms(), ms(), ms())
			for _, h := range []*analytics.Histogram{&e.Queue, &e.Processing, &e.Transfer} {
				h.Add(int64(1e6 * r.Float64()))
			}
			s.Entries = append(s.Entries, e)
		}
		want := h.Stats().Ticks + 1
		h.Consume(s, nil)
		for h.Stats().Ticks < want {
			time.Sleep(20 * time.Microsecond) // this is no test
		}
		at = to
	}
	return New(Options{History: func() *history.History { return h }, Log: quiet}), at
}

// processorTime is what the process has used: other processes do not change it.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRules is what evaluating one series of a rule costs.
func BenchmarkRules(b *testing.B) {
	const endpoints = 200
	e, end := busy(b, endpoints, 500, 10*time.Second)
	for _, c := range []struct{ name, expr string }{
		{"value", "http_server_request_duration_seconds_count > 1e9"},
		{"rate5m", "sum(rate(http_server_request_duration_seconds_count[5m]))"},
		{"rate1h", "sum(rate(http_server_request_duration_seconds_count[1h]))"},
		{"bucket5m", `sum(rate(http_server_request_duration_seconds_bucket{le="0.25"}[5m]))`},
		{"native5m", "histogram_quantile(0.99, sum(rate(http_server_request_duration_seconds[5m])))"},
	} {
		b.Run(c.name, func(b *testing.B) {
			i := 0
			evaluate := func() {
				i++
				if _, err := e.Vector(context.Background(), c.expr, end.Add(time.Duration(i%40-40)*15*time.Second)); err != nil {
					b.Fatal(err)
				}
			}
			evaluate() // what is remembered from then on
			before := processorTime()
			for b.Loop() {
				evaluate()
			}
			b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N)/endpoints, "cpu-us/series")
		})
	}
}

// BenchmarkLong is what the percentiles of an endpoint cost over days.
func BenchmarkLong(b *testing.B) {
	e, end := busy(b, 2, 7*1440, time.Minute)
	for _, c := range []struct {
		name, expr string
		back, step time.Duration
	}{
		{"day", "histogram_quantile(0.99, rate(http_server_request_duration_seconds{http_route='/r1'}[24h]))", 0, 0},
		{"week", "histogram_quantile(0.99, rate(http_server_request_duration_seconds{http_route='/r1'}[7d]))", 0, 0},
		{"weekclassic", "histogram_quantile(0.99, rate(http_server_request_duration_seconds_bucket{http_route='/r1'}[7d]))", 0, 0},
		{"dayrange", "histogram_quantile(0.99, rate(http_server_request_duration_seconds{http_route='/r1'}[1h]))", 24 * time.Hour, 10 * time.Minute},
		{"weekrange", "histogram_quantile(0.99, rate(http_server_request_duration_seconds{http_route='/r1'}[1h]))", 168 * time.Hour, time.Hour},
	} {
		b.Run(c.name, func(b *testing.B) {
			before := processorTime()
			for b.Loop() {
				a, err := e.Ask(context.Background(), Question{Expr: c.expr, Start: end.Add(-c.back), End: end, Step: c.step})
				if err != nil {
					b.Fatal(err)
				}
				if a.Value.String() == "" {
					b.Fatal("nothing found")
				}
				a.Close()
			}
			b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N)/1000, "cpu-ms/op")
		})
	}
}

// BenchmarkWhole is what all of 200 endpoints cost over a week: hours alone, as such a window reads them.
func BenchmarkWhole(b *testing.B) {
	h := history.Open(history.Options{Path: b.TempDir(), Log: quiet, MaxBytes: 4 << 30})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	b.Cleanup(func() { stop(); <-done })
	r := rand.New(rand.NewPCG(1, 2))
	at := noon
	for range 169 {
		at = at.Add(time.Hour)
		s := &analytics.Seal{From: at.Add(-10 * time.Second), To: at}
		for i := range 200 {
			var ms []float64
			for range 200 {
				ms = append(ms, 20*math.Exp(r.NormFloat64()))
			}
			e := served(fmt.Sprint("/r", i), 200, ms...)
			for _, code := range []uint16{404, 500} {
				e.Series = append(e.Series, served("", code, ms[:5]...).Series...)
			}
			s.Entries = append(s.Entries, e)
		}
		want := h.Stats().Ticks + 1
		h.Consume(s, nil)
		for h.Stats().Ticks < want {
			time.Sleep(20 * time.Microsecond) // this is no test
		}
	}
	e := New(Options{History: func() *history.History { return h }, Log: quiet})
	debug.SetGCPercent(25) // as the agent
	debug.SetMemoryLimit(128 << 20)
	for _, c := range []struct {
		name, expr string
		back, step time.Duration
	}{
		{"native", "histogram_quantile(0.99, sum by (http_route) (rate(http_server_request_duration_seconds[7d])))", 0, 0},
		{"classic", "histogram_quantile(0.99, sum by (http_route, le) (rate(http_server_request_duration_seconds_bucket[7d])))", 0, 0},
		{"range", "sum by (http_route) (rate(http_server_request_duration_seconds_count[60h]))", 96 * time.Hour, time.Hour},
		{"rangenative", "histogram_quantile(0.99, sum by (http_route) (rate(http_server_request_duration_seconds[60h])))", 24 * time.Hour, time.Hour},
	} {
		b.Run(c.name, func(b *testing.B) {
			before := processorTime()
			for b.Loop() {
				a, err := e.Ask(context.Background(), Question{Expr: c.expr, Start: at.Add(-c.back), End: at, Step: c.step})
				if err != nil {
					b.Fatal(err)
				}
				a.Close()
			}
			b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N)/1000, "cpu-ms/op")
			b.ReportMetric(float64(residentPeak())/(1<<20), "peak-MiB")
		})
	}
}

// residentPeak is the most that the process has had, since the start.
func residentPeak() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Maxrss << 10
}
