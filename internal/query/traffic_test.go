package query

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/wire"
)

// periods writes what was found, a line for each step: the seconds that were counted, requests, failures, and the median in ms.
func periods(t *Traffic) string {
	var b strings.Builder
	for _, p := range t.Periods {
		fmt.Fprintf(&b, "%s %gs %d %d", p.End.UTC().Format("15:04:05"), p.Counted.Seconds(), p.Requests, p.Failures)
		if p.Values.Count() > 0 {
			fmt.Fprintf(&b, " %.0f", p.Values.Quantile(0.5)/1e6)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func serverTraffic(start time.Time, steps int, step time.Duration) TrafficQuestion {
	return TrafficQuestion{Family: "http_server_request_duration_seconds", Start: start, End: start.Add(time.Duration(steps) * step), Step: step}
}

// Shows what requests did in each minute, of two endpoints with failures and an abort without a duration, around a time in which the
// agent did not count: in open ticks, and again when they are in segments, of 10 s and of minutes.
func TestTraffic(t *testing.T) {
	directory := t.TempDir()
	x := newHostOf(t, history.Open(history.Options{Log: quiet, Path: directory}), noon)
	aborted := served("/pay", 0)
	aborted.Series[0].Result = analytics.Result{Outcome: wire.Outcome{Class: wire.ClassServerFault, ErrorType: "aborted"}, Protocol: "http/1.1"}
	aborted.Series[0].Untimed = 2
	x.ticks(6, served("/cart", 200, 20, 20, 200), served("/pay", 503, 100))
	x.ticks(3, served("/cart", 404, 20), aborted)
	x.now = x.now.Add(40 * time.Second)
	x.ticks(5, served("/cart", 200, 50, 50))
	first := "12:01:00 60s 24 6 20\n"
	want := first + "12:02:00 30s 9 6 20\n12:03:00 50s 10 0 50\n12:04:00 0s 0 0\n"
	ask := func(q TrafficQuestion, want string) {
		t.Helper()
		got, err := x.engine.Traffic(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		if text := periods(got); text != want {
			t.Errorf("%+v:\n%swant\n%s", q, text, want)
		}
	}
	q := serverTraffic(noon, 4, time.Minute)
	ask(q, want)
	x.now = noon.Add(time.Hour + time.Second) // the hour becomes segments
	x.tick()
	ask(q, want)
	ask(serverTraffic(noon, 2, 30*time.Second), "12:00:30 30s 12 3 20\n12:01:00 30s 12 3 20\n")
	ask(serverTraffic(noon, 1, time.Hour), "13:00:00 140s 43 12 50\n")
	q = serverTraffic(noon, 1, time.Minute)
	q.Labels = map[string]string{"http_route": "/cart", "service_name": "shop"}
	ask(q, "12:01:00 60s 18 0 20\n")
	q.Labels["service_name"] = "till"
	ask(q, "12:01:00 60s 0 0\n")
	q = serverTraffic(noon, 1, time.Minute)
	q.Family = "http_server_response_body_size_bytes"
	got, err := x.engine.Traffic(context.Background(), q)
	if err != nil || got.Series != 2 || got.Periods[0].Requests != 24 || got.Periods[0].Values.Sum() != 24000 {
		t.Errorf("sizes: %+v %v", got, err)
	}
}

// Shows the same by route over the whole time, with what the agent counted in each step; a series without requests in that time has none.
func TestTrafficBy(t *testing.T) {
	x := newHost(t, noon)
	x.ticks(6, served("/cart", 200, 20, 20, 200), served("/pay", 503, 100))
	x.now = x.now.Add(time.Minute)
	x.ticks(6, served("/cart", 404, 20))
	groups, counted, warnings, err := x.engine.TrafficBy(context.Background(), serverTraffic(noon, 3, time.Minute), []string{"service_name", "http_route"})
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	got := fmt.Sprintln(counted)
	for _, g := range groups {
		got += fmt.Sprintf("%s: %d %d %.0f %s\n", strings.Join(g.Values, " "), g.Requests, g.Failures, g.Period.Values.Quantile(0.5)/1e6, g.Counted)
	}
	if want := "[1m0s 0s 1m0s]\nshop /cart: 24 0 20 2m0s\nshop /pay: 6 6 99 2m0s\n"; got != want {
		t.Errorf("%swant\n%s", got, want)
	}
	if _, _, _, err := query0().TrafficBy(context.Background(), serverTraffic(noon, 1, time.Minute), nil); !errors.Is(err, ErrNoHistory) {
		t.Error(err)
	}
}

func query0() *Engine {
	return New(Options{History: func() *history.History { return nil }, Log: quiet})
}

// Shows that PromQL finds as many requests, as many failures and the same percentile in each quarter of an hour.
func TestTrafficIsPromQL(t *testing.T) {
	x := newHost(t, noon)
	for i := range 360 {
		x.tick(served("/cart", 200, float64(10+i%7), float64(20+i%50)), served("/pay", 500, float64(5+i)))
	}
	got, err := x.engine.Traffic(context.Background(), serverTraffic(noon, 4, 15*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range got.Periods {
		for expr, v := range map[string]float64{
			"sum(increase(http_server_request_duration_seconds_count[15m]))":                                         float64(p.Requests),
			`sum(increase(http_server_request_duration_seconds_count{error_type!=""}[15m]))`:                         float64(p.Failures),
			`round(1000 * histogram_quantile(0.9, sum(increase(http_server_request_duration_seconds[15m]))) / 4, 1)`: float64(int(p.Values.Quantile(0.9)/1e6/4 + 0.5)),
		} {
			x.expect(p.End, expr, fmt.Sprintf("{} %.6g", v))
		}
	}
}

// What cannot be asked, or would be too much, is an error of its own.
func TestTrafficBounds(t *testing.T) {
	x := newHostOf(t, history.Open(history.Options{Log: quiet, Path: t.TempDir()}), noon)
	x.ticks(30, served("/cart", 200, 20, 30, 40))
	x.now = noon.Add(time.Hour + time.Second)
	x.tick()
	q := serverTraffic(noon, 10, time.Minute)
	q.BytesMax = 1
	if _, err := x.engine.Traffic(context.Background(), q); !errors.Is(err, ErrMuchToRead) {
		t.Errorf("a byte: %v", err)
	}
	q.BytesMax = 1000
	if _, err := x.engine.Traffic(context.Background(), q); err != nil {
		t.Errorf("1000 bytes: %v", err)
	}
	for _, q := range []TrafficQuestion{serverTraffic(noon, 1, time.Second), serverTraffic(noon, 0, time.Minute), serverTraffic(noon, 2001, time.Minute)} {
		if _, err := x.engine.Traffic(context.Background(), q); ErrorType(err) != "bad_data" {
			t.Errorf("%+v: %v", q, err)
		}
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := x.engine.Traffic(over, serverTraffic(noon, 1, time.Minute)); ErrorType(err) != "canceled" {
		t.Errorf("given up: %v", err)
	}
	if _, err := New(Options{Log: quiet}).Traffic(context.Background(), serverTraffic(noon, 1, time.Minute)); !errors.Is(err, ErrNoHistory) {
		t.Errorf("without a history: %v", err)
	}
}
