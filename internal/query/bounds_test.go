package query

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
)

// outcome is "ok", or the type of an error, of an expression over a range with that many steps of 10 s; 0: an instant.
func (x *host) outcome(expr string, steps int) (string, error) {
	q := Question{Expr: expr, Start: x.now, End: x.now, Timeout: 10 * time.Second}
	if steps > 0 {
		q.Start, q.Step = x.now.Add(-time.Duration(steps-1)*10*time.Second), 10*time.Second
	}
	a, err := x.engine.Ask(context.Background(), q)
	if err != nil {
		return ErrorType(err), err
	}
	a.Close()
	return "ok", nil
}

// nest puts an expression into a call, again and again.
func nest(n int, before, expr, after string) string {
	return strings.Repeat(before, n) + expr + strings.Repeat(after, n)
}

// Shows what is refused before it takes memory or time, by the number of steps of subqueries, by nesting, by regular expressions, and
// by labels and values that multiply; and that what people ask is answered.
func TestAskBounds(t *testing.T) {
	x := newHost(t, noon)
	x.ticks(30, served("/cart", 200, 20))
	const rate = `rate(http_server_request_duration_seconds_count[5m])`
	for _, c := range []struct {
		expr  string
		steps int
		want  string
	}{
		{`max_over_time(` + rate + `[7d:1m])`, 0, "ok"},
		{`max_over_time(` + rate + `[7d:1m])`, 1000, "ok"},
		{`max_over_time(` + rate + `[30d:5m])`, 0, "ok"},
		{`max_over_time(` + rate + `[34d:])`, 0, "ok"},
		{`max_over_time(` + rate + `[35d:])`, 0, "bad_data"}, // a minute each, where none is named
		{`max_over_time(vector(1)[15d:1ms])`, 0, "bad_data"},
		{`sum_over_time(nope[15d:1ms])`, 0, "bad_data"},
		{`nope[15d:1ms]`, 0, "bad_data"},
		{`sum_over_time(nope[15d:1ms] offset 1d)`, 0, "bad_data"},
		{`sum_over_time(nope[15d:1ms] @ 1)`, 0, "bad_data"},
		{`sum_over_time(nope[50s:1ms])`, 0, "ok"},
		{`sum_over_time(nope[51s:1ms])`, 0, "bad_data"},
		{`sum_over_time(nope[26s:1ms]) + sum_over_time(nope[26s:1ms])`, 0, "bad_data"}, // one after the other
		{`sum_over_time(nope[40s:1ms])`, 3, "bad_data"},                                // and 20 s of the range
		{`sum_over_time(nope[40s:1ms] @ end())`, 3, "ok"},                              // which is the same at each
		{`sum_over_time(sum_over_time(nope[1d:1m])[1d:1m])`, 0, "ok"},
		{`sum_over_time(sum_over_time(nope[1s:1ms])[1m:1m])`, 0, "ok"},
		{`sum_over_time(sum_over_time(nope[1s:1ms])[1m:1s])`, 0, "bad_data"}, // 59 s and 1 s, in ms
		{`quantile_over_time(scalar(vector(time())), vector(1)[7d:1m] @ 0)`, 400, "ok"},
		{`quantile_over_time(scalar(vector(time())), vector(1)[7d:1m] @ 0)`, 500, "bad_data"},
		{`quantile_over_time(scalar(vector(time())), nope[59h] @ 0)`, 500, "bad_data"},

		{nest(2400, "(", "1", ")"), 0, "ok"},
		{nest(2500, "(", "1", ")"), 0, "bad_data"},
		{nest(60000, "-", "nope", ""), 0, "bad_data"},
		{`nope{a=~"` + strings.Repeat(".{1000}", 9) + `"}`, 0, "ok"},
		{`nope{a=~"` + strings.Repeat(".{1000}", 11) + `"}`, 0, "bad_data"},
		{`nope{a!~'` + strings.Repeat(".{1000}", 11) + `'}`, 0, "bad_data"},
		{`nope{a=~"` + strings.Repeat("some/route|", 3000) + `"}`, 0, "ok"},
		{`label_replace(vector(1), "a", "$1", "b", "(.{400})")`, 0, "ok"},
		{`label_replace(vector(1), "a", "$1", "b", "(.{600})")`, 0, "bad_data"},

		{nest(30, "label_replace(", "vector(1)", `, "a", "$1x", "a", "(.*)")`), 0, "ok"},
		{nest(30, "label_replace(", "vector(1)", `, "a", "${1}${1}x", "a", "(.*)")`), 0, "execution"},
		{nest(30, "label_join(", "vector(1)", `, "a", "-", "a", "a")`), 0, "execution"},
		{`count_values("v", vector(1))`, 1000, "ok"},
		{`count_values("v", vector(time()))`, 2000, "ok"}, // in parts
		{`count_over_time(count_values("v", vector(time()))[1d:1m])`, 0, "execution"},
	} {
		if got, err := x.outcome(c.expr, c.steps); got != c.want {
			t.Errorf("%.100s over %d steps: %s (%.200v), want %s", c.expr, c.steps, got, err, c.want)
		}
	}
	_, err := x.outcome(`nope[1d:1s]`, 0)
	if want := `invalid parameter "query": exceeded maximum resolution of 50000 steps in subqueries. Try a longer step ([range:step]) or a shorter range`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// Shows that rules have the same bounds, when they are evaluated and when they are checked, and selectors of series that of regular expressions.
func TestVectorBounds(t *testing.T) {
	x := newHost(t, noon)
	for _, expr := range []string{`sum_over_time(nope[15d:1ms])`, `nope{a=~"` + strings.Repeat(".{1000}", 11) + `"}`} {
		if _, err := x.engine.Vector(context.Background(), expr, noon); err == nil {
			t.Errorf("%s is evaluated", expr)
		}
		if x.engine.Check(expr) == nil {
			t.Errorf("%s passes", expr)
		}
	}
	if err := x.engine.Check(`max_over_time(a[7d:1m])`); err != nil {
		t.Error(err)
	}
	if _, err := x.engine.Series(context.Background(), []string{`{a=~"` + strings.Repeat(".{1000}", 11) + `"}`}, noon, noon, 0); ErrorType(err) != "bad_data" {
		t.Error(err)
	}
}

// Shows that series count as samples, in all selectors together, each with its steps, and more where they are joined.
func TestSeriesCount(t *testing.T) {
	x := newHost(t, noon)
	for i := range 100 {
		x.tick(served(fmt.Sprint("/", i), 200, 20))
	}
	x.engine = New(Options{History: x.engine.o.History, Log: quiet, MaxSamples: 100 * (32 + 1)})
	const all = "http_server_request_duration_seconds_count"
	for _, c := range []struct {
		expr  string
		steps int
		want  string
	}{
		{all, 0, "ok"},
		{"sum(rate(" + all + "[1m]))", 0, "ok"},
		{"sum(" + all + ")", 2, "ok"}, // in two parts
		{"sum(" + all + ") / sum(" + all + ")", 0, "execution"},
		{all + "{http_route=~'/[0-2].'} + " + all + "{http_route=~'/4.'}", 0, "ok"}, // 30 of 72, and 20 places
		{all + "{http_route=~'/[0-4].'} + " + all + "{http_route=~'/5.'}", 0, "execution"},
		{all + "{http_route=~'/[0-4].'}", 30, "ok"},
		{all + "{http_route=~'/[0-4].'}", 60, "execution"},
		{"label_replace(" + all + ", 'a', '$1', 'b', '(.*)')", 0, "execution"},
	} {
		if got, err := x.outcome(c.expr, c.steps); got != c.want {
			t.Errorf("%s over %d steps: %s (%v), want %s", c.expr, c.steps, got, err, c.want)
		}
	}
	if _, err := x.outcome("http_server_request_duration_seconds_bucket", 0); !errors.Is(err, errManySelected) {
		t.Errorf("buckets: %v", err)
	}
}

// Shows that the time that a client gives is kept to, and that nothing goes on once it is gone, within what the engine evaluates of one series.
func TestAskTimeout(t *testing.T) {
	x := newHost(t, noon)
	q := Question{Expr: `quantile_over_time(scalar(vector(time() % 2)), vector(1)[7d:1m])`, Start: noon.Add(-10_000 * time.Second), End: noon, Step: time.Second,
		Timeout: 100 * time.Millisecond}
	began := time.Now()
	_, err := x.engine.Ask(context.Background(), q)
	if took := time.Since(began); ErrorType(err) != "timeout" || took > 2*time.Second {
		t.Errorf("%v after %s", err, took)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	q.Timeout, began = 0, time.Now()
	_, err = x.engine.Ask(ctx, q)
	var canceled promql.ErrQueryCanceled
	if took := time.Since(began); !errors.As(err, &canceled) || took > 2*time.Second {
		t.Errorf("%v after %s", err, took)
	}
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	if _, err := x.engine.LabelNames(ctx, nil, noon, noon, 0); ErrorType(err) != "canceled" {
		t.Errorf("names: %v", err)
	}
}

// Shows that a rule whose evaluation was refused finds everything once it is not: nothing is remembered of what was not read.
func TestRefusedIsNotRemembered(t *testing.T) {
	x := newHost(t, noon)
	x.ticks(30, served("/a", 200, 20), served("/b", 200, 20))
	const expr = "sum(http_server_request_duration_seconds_count)"
	x.engine.o.MaxSamples = 40
	x.expect(x.now, expr, "error: expanding series: "+errManySelected.Error())
	x.engine.o.MaxSamples = MaxSamplesDefault
	x.tick(served("/a", 200, 20))
	x.expect(x.now, expr, "{} 61")
}
