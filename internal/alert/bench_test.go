package alert

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/wire"
)

// BenchmarkRules evaluates 25 rules over 200 endpoints, 5,000 series of rules, with the history and the engine that the agent has. Every
// 15 s may take 150 ms, which is .01 of a processor. A tick passes between two evaluations, as in the agent. One in fifty fires.
func BenchmarkRules(b *testing.B) {
	const endpoints, rules = 200, 25
	quiet := slog.New(slog.DiscardHandler)
	h := history.Open(history.Options{Log: quiet})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	defer func() { stop(); <-done }()
	now := time.Now().Truncate(time.Minute)
	tick := func() {
		want := h.Stats().Ticks + 1
		from := now
		now = now.Add(10 * time.Second)
		h.Consume(&analytics.Seal{From: from, To: now, Entries: busyEndpoints(endpoints)}, nil)
		for h.Stats().Ticks < want {
			time.Sleep(100 * time.Microsecond)
		}
	}
	now = now.Add(-30 * time.Minute)
	for range 180 {
		tick()
	}
	var text strings.Builder
	text.WriteString("groups:\n- name: g\n  interval: 10s\n  rules:\n")
	for i := range rules {
		fmt.Fprintf(&text, "  - alert: A%d\n    expr: sum by (http_route) (rate(http_server_request_duration_seconds_count[5m])) > %s\n    annotations: {summary: '{{ $value }}'}\n", i, []string{"1e9", "0.69"}[i/24])
	}
	parsed, err := Parse([]File{{"f.yml", []byte(text.String())}}, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	m := New(Options{Source: query.New(query.Options{History: func() *history.History { return h }, Log: quiet}), Log: quiet, Now: func() time.Time { return now }})
	m.Apply(parsed)
	b.ReportAllocs()
	used := time.Duration(0) // of processors: others may be busy
	for b.Loop() {
		b.StopTimer()
		tick()
		before := processorTime(b)
		b.StartTimer()
		m.Evaluate(ctx, now.Add(settle))
		used += processorTime(b) - before
	}
	b.ReportMetric(float64(used.Microseconds())/float64(b.N)/endpoints/rules, "us/series")
	b.ReportMetric(used.Seconds()/float64(b.N)/15, "cores")
	if g := m.Groups(false)[0]; g.Failures > 0 || g.Evaluations == 0 {
		b.Errorf("%+v", g)
	}
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// busyEndpoints did some requests each; every fiftieth more of them.
func busyEndpoints(n int) (all []*analytics.Sealed) {
	for i := range n {
		s := &analytics.Sealed{Key: analytics.Key{Role: wire.RoleServer, Service: "shop", Operation: wire.Operation{Verb: "GET", Name: fmt.Sprintf("/r%03d", i)}}}
		s.RequestSize, s.ResponseSize = analytics.NewHistogram(analytics.Bytes), analytics.NewHistogram(analytics.Bytes)
		s.Series = []analytics.Series{{Result: analytics.Result{Outcome: wire.Outcome{Code: 200}, Protocol: "http/1.1"}}}
		for j := range 5 + 2*(i%50/49) {
			s.Series[0].Duration.Add(int64(j+1) * 3e6)
		}
		all = append(all, s)
	}
	return all
}
