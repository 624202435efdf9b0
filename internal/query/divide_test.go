package query

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// Shows that a range of steps that does not fit at once has the answer of one that does, over series that begin, end and pause, and
// midnight; that the answer as a whole is bounded; and that what depends on the whole range is refused instead.
func TestDivide(t *testing.T) {
	x := newHost(t, noon.Add(11*time.Hour+58*time.Minute)) // two minutes before midnight
	for i := range 60 {
		var entries []string
		for n := range 20 {
			if (i/10+n)%3 != 0 {
				entries = append(entries, fmt.Sprint("/", n))
			}
		}
		for _, route := range entries {
			x.tick(served(route, 200, float64(5+i)))
		}
	}
	whole := x.engine
	small := New(Options{History: whole.o.History, Log: quiet, MaxSamples: 20_000})
	q := Question{Start: x.now.Add(-90 * time.Minute), End: x.now, Step: 15 * time.Second}
	const durations = "http_server_request_duration_seconds"
	for _, expr := range []string{
		"sum(rate(" + durations + "_bucket[1m]))", "sum by (le) (increase(" + durations + "_bucket[5m]))", "topk(2, rate(" + durations + "_bucket[5m]))",
		"histogram_quantile(0.9, sum by (le) (rate(" + durations + "_bucket[5m])))", "sum(rate(" + durations + "[5m]))",
		"count(" + durations + "_bucket) > 300", "absent(" + durations + "_bucket > 1e9)", "sum(" + durations + "_bucket offset 10m)",
		"max_over_time(sum(rate(" + durations + "_bucket[1m]))[10m:1m])", "count_values('n', " + durations + "_bucket{le='+Inf'})",
	} {
		q.Expr = expr
		want, err := whole.Ask(context.Background(), q)
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		parsed, err := small.parse(expr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := small.evaluate(context.Background(), &q, parsed); !tooMuch(err) {
			t.Errorf("%s fits at once: %v", expr, err)
		}
		got, err := small.Ask(context.Background(), q)
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		if got.Value.String() != want.Value.String() || len(want.Value.String()) < 100 {
			t.Errorf("%s:\n%.300s\nand not\n%.300s", expr, got.Value, want.Value)
		}
		want.Close()
		got.Close()
	}
	for _, expr := range []string{durations + "_bucket", "sum(" + durations + "_bucket) / sum(" + durations + "_bucket @ end())"} {
		q.Expr = expr
		if _, err := small.Ask(context.Background(), q); !tooMuch(err) {
			t.Errorf("%s: %v", expr, err)
		}
	}
	q.Expr, q.Timeout = "sum("+durations+"_bucket)", time.Nanosecond
	if _, err := small.Ask(context.Background(), q); ErrorType(err) != "timeout" && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without time: %v", err)
	}
}
