package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/query"
)

// ruleSeriesMax is what evaluating one series of one rule may take: 5,000 every 15 s are one percent of a core.
const ruleSeriesMax = 30 * time.Microsecond

// engineQueries measures questions in PromQL, with all that stands between an expression and its answer.
func (b *bench) engineQueries(h *history.History, end time.Time, feed func(*analytics.Seal)) error {
	engine := query.New(query.Options{History: func() *history.History { return h }})
	one := `{http_route="/api/v1/things/20/{id}"}`
	p99 := func(series string) string {
		return "histogram_quantile(0.99, sum by (http_route) (rate(" + series + ")))"
	}
	classic := func(series string) string {
		return "histogram_quantile(0.99, sum by (http_route, le) (rate(" + series + ")))"
	}
	for _, q := range []struct {
		what, expr string
		back, step time.Duration
		bound      time.Duration
	}{
		{"PromQL: p99 of an endpoint over 24 h, ms", p99("http_server_request_duration_seconds" + one + "[24h]"), 0, 0, dayQueryMax},
		{"PromQL: p99 of an endpoint over 7 days, ms", p99("http_server_request_duration_seconds" + one + "[7d]"), 0, 0, weekQueryMax},
		{"PromQL: the same, classic, ms", classic("http_server_request_duration_seconds_bucket" + one + "[7d]"), 0, 0, weekQueryMax},
		{"PromQL: p99 of all endpoints over 7 days, ms", p99("http_server_request_duration_seconds[7d]"), 0, 0, wholeQueryMax},
		{"PromQL: the same, classic, ms", classic("http_server_request_duration_seconds_bucket[7d]"), 0, 0, wholeQueryMax},
		{"PromQL: p99 of an endpoint, each 10 min of 24 h, ms", p99("http_server_request_duration_seconds" + one + "[1h]"), 24 * time.Hour, 10 * time.Minute, 0},
		{"PromQL: p99 of all endpoints, each hour of 7 days, ms", p99("http_server_request_duration_seconds[1h]"), 168 * time.Hour, time.Hour, 0},
		{"PromQL: rate of all endpoints, each hour of 7 days, ms", "sum by (http_route) (rate(http_server_request_duration_seconds_count[1h]))", 168 * time.Hour, time.Hour, 0},
	} {
		best := time.Duration(math.MaxInt64)
		for range 3 {
			began := time.Now()
			a, err := engine.Ask(context.Background(), query.Question{Expr: q.expr, Start: end.Add(-q.back), End: end, Step: q.step})
			if err != nil {
				return fmt.Errorf("%s: %w", q.expr, err)
			}
			empty := a.Value.String() == ""
			a.Close()
			if empty {
				return errors.New(q.expr + " found nothing")
			}
			best = min(best, time.Since(began))
		}
		if q.bound == 0 {
			fmt.Printf("  %-52s %8.1f\n", q.what, float64(best)/1e6)
			continue
		}
		b.say(q.what, float64(best)/1e6, float64(q.bound)/1e6, "%8.1f")
	}
	return b.rules(engine, end, feed)
}

// rules measures the evaluation of rules, as it goes on while ticks come.
func (b *bench) rules(engine *query.Engine, end time.Time, feed func(*analytics.Seal)) error {
	rules := []struct{ what, expr, series string }{
		{"rule: a rate of 5 m", "sum by (http_route) (rate(http_server_request_duration_seconds_count[5m]))", "http_server_request_duration_seconds_count"},
		{"rule: a p99 of 5 m", "histogram_quantile(0.99, sum by (http_route) (rate(http_server_request_duration_seconds[5m])))", "http_server_request_duration_seconds"},
		{"rule: a rate of 1 h", "sum by (http_route) (rate(http_server_request_duration_seconds_count[1h]))", "http_server_request_duration_seconds_count"},
		{"rule: a value", "http_server_request_duration_seconds_count > 1e9", "http_server_request_duration_seconds_count"},
		{"rule: a classic bucket", `sum by (http_route) (rate(http_server_request_duration_seconds_bucket{le="0.25"}[5m]))`, `http_server_request_duration_seconds_bucket{le="0.25"}`},
	}
	const ticks = 90
	used := make([]time.Duration, len(rules))
	for i := range ticks {
		end = end.Add(analytics.TickInterval)
		feed(b.load.seal(end, analytics.TickInterval))
		if i%2 != 0 { // each evaluation finds two ticks that are new
			continue
		}
		for j, r := range rules {
			before := usage().cpu
			if _, err := engine.Vector(context.Background(), r.expr, end); err != nil {
				return err
			}
			if i > 0 { // the first one remembers
				used[j] += usage().cpu - before
			}
		}
	}
	for j, r := range rules {
		v, err := engine.Vector(context.Background(), "count("+r.series+")", end)
		if err != nil {
			return err
		}
		if len(v) != 1 {
			return fmt.Errorf("%s found %d values", r.series, len(v))
		}
		each := float64(used[j]) / (ticks/2 - 1) / v[0].F / 1e3
		bound := float64(ruleSeriesMax) / 1e3
		if j == 1 { // a native histogram is a hundred numbers
			fmt.Printf("  %-52s %8.1f\n", fmt.Sprintf("%s, us of a series (%g)", r.what, v[0].F), each)
			continue
		}
		b.say(fmt.Sprintf("%s, us of a series (%g)", r.what, v[0].F), each, bound, "%8.1f")
	}
	return nil
}
