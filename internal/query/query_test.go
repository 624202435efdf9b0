package query

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/wire"
)

// quiet is a log that nobody reads.
var quiet = slog.New(slog.DiscardHandler)

// noon is a time of which the day, the hour and the minute begin a good while before and after.
var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// host is an agent's history that is fed tick by tick, and an engine over it.
type host struct {
	t      *testing.T
	h      *history.History
	engine *Engine
	now    time.Time // end of the latest tick

	renames []analytics.Rename // of the next one
}

func newHost(t *testing.T, at time.Time) *host {
	t.Helper()
	return newHostOf(t, history.Open(history.Options{Log: quiet}), at)
}

func newHostOf(t *testing.T, h *history.History, at time.Time) *host {
	t.Helper()
	x := &host{t: t, h: h, now: at}
	x.engine = New(Options{History: func() *history.History { return x.h }, Log: quiet})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return x
}

// tick lets 10 s pass, in which entries did something.
func (x *host) tick(entries ...*analytics.Sealed) {
	x.t.Helper()
	from := x.now
	x.now = x.now.Add(10 * time.Second)
	want := x.h.Stats().Ticks + 1
	x.h.Consume(&analytics.Seal{From: from, To: x.now, Entries: entries, Renames: x.renames}, nil)
	x.renames = nil
	for deadline := time.Now().Add(10 * time.Second); x.h.Stats().Ticks < want; time.Sleep(50 * time.Microsecond) { // polling
		if time.Now().After(deadline) {
			x.t.Fatal("a tick was not taken over")
		}
	}
}

// ticks is that many ticks with the same content.
func (x *host) ticks(n int, entries ...*analytics.Sealed) {
	x.t.Helper()
	for range n {
		x.tick(entries...)
	}
}

// served is an endpoint that answered requests with a status, each after that many milliseconds.
func served(route string, code uint16, ms ...float64) *analytics.Sealed {
	s := &analytics.Sealed{Key: analytics.Key{Role: wire.RoleServer, Service: "shop", Operation: wire.Operation{Verb: "GET", Name: route}}}
	r := analytics.Result{Outcome: wire.Outcome{Code: code}, Protocol: "http/1.1"}
	if code >= 500 {
		r.Class, r.ErrorType = wire.ClassServerFault, fmt.Sprint(code)
	}
	s.Series = []analytics.Series{{Result: r}}
	s.RequestSize, s.ResponseSize = analytics.NewHistogram(analytics.Bytes), analytics.NewHistogram(analytics.Bytes)
	for _, d := range ms {
		s.Series[0].Duration.Add(int64(d * 1e6))
		s.ResponseSize.Add(1000)
	}
	return s
}

// at evaluates an expression, and returns each sample as "{labels} value", sorted.
func (x *host) at(at time.Time, expr string) string {
	x.t.Helper()
	v, err := x.engine.Vector(context.Background(), expr, at)
	if err != nil {
		return "error: " + err.Error()
	}
	var all []string
	for _, s := range v {
		text := fmt.Sprintf("%.6g", s.F)
		if s.H != nil {
			text = fmt.Sprintf("count:%.6g sum:%.6g", s.H.Count, s.H.Sum)
		}
		all = append(all, s.Metric.String()+" "+text)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func (x *host) expect(at time.Time, expr, want string) {
	x.t.Helper()
	if got := x.at(at, expr); got != want {
		x.t.Errorf("%s at %s:\n%s\nwant\n%s", expr, at.Format(time.DateTime), got, want)
	}
}

// Shows the figures of a steady load, 3 requests of 20 ms in 10 s and one of 200 ms, in both forms of histograms: a person can
// work them out.
func TestVectorSteady(t *testing.T) {
	x := newHost(t, noon)
	x.ticks(60, served("/cart", 200, 20, 20, 20, 200))
	for _, c := range []struct{ expr, want string }{
		{`http_server_request_duration_seconds_count{http_route="/cart"}`, `{__name__="http_server_request_duration_seconds_count", http_request_method="GET", ` +
			`http_response_status_code="200", http_route="/cart", network_protocol_version="1.1", service_name="shop", url_scheme="http"} 240`},
		{`sum(http_server_request_duration_seconds_sum)`, `{} 15.6`},
		{`sum(rate(http_server_request_duration_seconds_count[5m]))`, `{} 0.4`},
		{`sum by (le) (http_server_request_duration_seconds_bucket{le=~"0.01|0.025|0.1|0.25|.Inf"})`,
			"{le=\"+Inf\"} 240\n{le=\"0.01\"} 0\n{le=\"0.025\"} 180\n{le=\"0.1\"} 180\n{le=\"0.25\"} 240"},
		{`sum(rate(http_server_request_duration_seconds_bucket{le="1"}[1m]))`, `{} 0.4`},
		{`sum(rate(http_server_request_duration_seconds_bucket{le!="1"}[1m])) > 0 and sum(http_server_request_duration_seconds_bucket{le!~"1(\\.0)?"})`, `{} 5.2`}, // 4 times 0.3, 10 times 0.4
		{`sum(rate(http_server_request_duration_seconds[5m]))`, `{} count:0.4 sum:0.026`},
		{`histogram_count(sum(increase(http_server_request_duration_seconds[5m])))`, `{} 120`},
		{`histogram_quantile(0.99, sum(rate(http_server_request_duration_seconds[5m]))) > bool 0.19`, `{} 1`},
		{`histogram_fraction(0, 0.1, sum(rate(http_server_request_duration_seconds[5m])))`, `{} 0.75`},
		{`histogram_quantile(0.5, sum by (le) (rate(http_server_request_duration_seconds_bucket[5m]))) > bool 0.019`, `{} 1`},
		{`sum(rate(http_server_response_body_size_bytes_bucket{le="1024"}[5m]))`, `{} 0.4`},
		{`sum(http_server_response_body_size_bytes_sum)`, `{} 240000`},
		{`perfagent_history_ticks`, `{__name__="perfagent_history_ticks"} 1`},
		{`scalar(vector(2))`, `{} 2`},
		{`sum(rate(http_client_request_duration_seconds_count[5m]))`, ``},
	} {
		x.expect(x.now, c.expr, c.want)
	}
}

// Shows that a value is the same whatever is asked for: counts begin at midnight, and neither that nor a first request is lost
// to rate and increase.
func TestVectorMidnight(t *testing.T) {
	midnight := noon.Truncate(24 * time.Hour).Add(24 * time.Hour)
	x := newHost(t, midnight.Add(-30*time.Minute))
	x.ticks(180, served("/cart", 200, 20, 20))     // until midnight, 2 in 10 s
	x.ticks(180, served("/cart", 200, 20, 20, 20)) // 3 in 10 s
	count := `sum(http_server_request_duration_seconds_count)`
	x.expect(midnight, count, "{} 360")
	x.expect(midnight.Add(10*time.Second), count, "{} 3")
	x.expect(midnight.Add(30*time.Minute), count, "{} 540")
	for _, form := range []string{`sum(increase(http_server_request_duration_seconds_count[20m]))`, `histogram_count(sum(increase(http_server_request_duration_seconds[20m])))`,
		`sum(increase(http_server_request_duration_seconds_bucket{le="+Inf"}[20m]))`} {
		x.expect(midnight.Add(10*time.Minute), form, "{} 300.504") // 59 times 2 and 60 times 3, and as much again for the 10 s before the first sample
		x.expect(midnight.Add(30*time.Minute), form, "{} 360")
	}
	x.expect(midnight.Add(10*time.Second), `sum(irate(http_server_request_duration_seconds_count[1m]))`, "{} 0.3")
	x.tick(served("/cart", 500, 20, 20, 20, 20, 20))
	x.expect(x.now, `sum(increase(http_server_request_duration_seconds_count{http_response_status_code="500"}[5m]))`, "{} 5")
}

// Shows that a series keeps its value while its endpoint rests, ends while the agent does not run, and comes back; and that it is
// over after a day without a request.
func TestVectorRestAndGap(t *testing.T) {
	x := newHost(t, noon)
	count := `sum(http_server_request_duration_seconds_count)`
	x.ticks(6, served("/cart", 200, 20))
	x.ticks(180)
	x.expect(x.now, count, "{} 6")
	x.expect(x.now, `sum(rate(http_server_request_duration_seconds_count[5m]))`, "{} 0")
	before := x.now
	x.now = x.now.Add(2 * time.Minute) // the agent is restarted
	x.ticks(6, served("/cart", 200, 20))
	x.expect(before.Add(15*time.Second), count, "{} 6")
	x.expect(before.Add(time.Minute), count, "")
	x.expect(before.Add(time.Minute), `perfagent_history_ticks`, "")
	x.expect(x.now, count, "{} 12")
	x.expect(x.now, `sum(increase(http_server_request_duration_seconds_count[5m]))`, "{} 6.2069") // 6 in 290 s
	if err := x.engine.Record(x.now, nil); err != nil {
		t.Error(err)
	}
}

// Shows that a clock that goes back and forth loses and doubles nothing: ticks of one slot are summed, and the value goes on.
func TestVectorClockJumps(t *testing.T) {
	x := newHost(t, noon)
	x.ticks(12, served("/cart", 200, 20))
	x.now = x.now.Add(-time.Minute)
	x.ticks(12, served("/cart", 200, 20))
	x.expect(x.now, `sum(http_server_request_duration_seconds_count)`, "{} 24")
	x.expect(x.now, `histogram_count(sum(http_server_request_duration_seconds))`, "{} 24")
	x.now = x.now.Add(5 * time.Hour)
	x.ticks(3, served("/cart", 200, 20))
	x.expect(x.now, `sum(http_server_request_duration_seconds_count)`, "{} 27")
	x.expect(x.now, `sum(increase(http_server_request_duration_seconds_count[10m]))`, "{} 2.5") // two in the 20 s that were seen
}

// Shows that what a rule records is seen at once, at the time of its evaluation, and after the tick that takes it; and that it
// ends when the rule says so.
func TestRecord(t *testing.T) {
	x := newHost(t, noon)
	x.ticks(3)
	record := func(at time.Time, v float64) {
		t.Helper()
		err := x.engine.Record(at, Vector{{Metric: LabelsOf("__name__", "ALERTS", "alertname", "Slow", "Upper", "x"), F: v}})
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(v string) string { return `{Upper="x", __name__="ALERTS", alertname="Slow"} ` + v }
	at := x.now.Add(3 * time.Second)
	record(at, 1)
	x.expect(at, `ALERTS{alertname="Slow"}`, is("1"))
	x.expect(at.Add(-time.Millisecond), `ALERTS`, "")
	x.tick()
	x.expect(x.now, `ALERTS`, is("1"))
	x.ticks(3)
	x.expect(x.now, `ALERTS{alertname!="Fast"}`, is("1"))
	record(x.now, Stale())
	x.expect(x.now, `ALERTS`, "")
	x.tick()
	x.expect(x.now, `ALERTS`, "")
	x.expect(x.now.Add(-10*time.Second-time.Millisecond), `ALERTS`, is("1"))
	x.expect(x.now, `count_over_time(ALERTS[5m])`, `{Upper="x", alertname="Slow"} 1`)
	record(x.now, math.Inf(1))
	x.ticks(2)
	x.expect(x.now, `ALERTS`, is("+Inf"))
}

// Shows that there is an answer without a history.
func TestVectorWithoutHistory(t *testing.T) {
	e := New(Options{History: func() *history.History { return nil }, Log: quiet})
	if _, err := e.Vector(context.Background(), "up", noon); err == nil || !strings.Contains(err.Error(), "no local history") {
		t.Error(err)
	}
	if err := e.Record(noon, nil); err != ErrNoHistory {
		t.Error(err)
	}
}

// Shows that what is remembered of rules' selectors changes no value: an engine that is asked every 15 s answers as one that is asked
// for the first time, over rests, a gap, a midnight, routes that become others, and ticks that come late.
func TestVectorRemembered(t *testing.T) {
	x := newHost(t, noon.Truncate(24*time.Hour).Add(23*time.Hour+20*time.Minute))
	r := rand.New(rand.NewPCG(1, 2))
	exprs := []string{
		`http_server_request_duration_seconds_count`,
		`sum by (http_route) (rate(http_server_request_duration_seconds_count[5m]))`,
		`sum by (http_route) (increase(http_server_request_duration_seconds_sum[1h]))`,
		`rate(http_server_request_duration_seconds_bucket{le="0.025"}[5m])`,
		`rate(http_server_request_duration_seconds_bucket{le="0.025"}[5m] offset 10m)`,
		`sum by (le) (rate(http_server_request_duration_seconds_bucket[5m]))`,
		`sum(rate(http_server_request_duration_seconds[5m]))`,
		`http_server_request_duration_seconds`,
		`perfagent_history_ticks`,
	}
	compared := 0
	for i := range 400 {
		var entries []*analytics.Sealed
		if i%100 < 60 {
			entries = append(entries, served("/a", 200, 10+30*r.Float64(), 20))
		}
		if r.IntN(20) == 0 {
			entries = append(entries, served("/b", uint16(200+300*r.IntN(2)), 500*r.Float64()))
		}
		if i == 250 {
			x.now = x.now.Add(7 * time.Minute)
		}
		if i%150 == 100 {
			x.renames = []analytics.Rename{{From: served("/b", 200).Key, To: served("/a", 200).Key}}
		}
		x.tick(entries...)
		if i%3 != 2 && i%7 != 0 {
			continue
		}
		for _, late := range []time.Duration{0, 5 * time.Second, 23 * time.Second} {
			at := x.now.Add(late)
			fresh := New(Options{History: func() *history.History { return x.h }, Log: quiet})
			for _, expr := range exprs {
				got := x.at(at, expr)
				engine := x.engine
				x.engine = fresh
				want := x.at(at, expr)
				x.engine = engine
				if got != want && !strings.Contains(expr, "[1h]") {
					t.Fatalf("tick %d, %s at %s:\n%s\nwant\n%s", i, expr, at.Format(time.DateTime), got, want)
				}
				compared++
			}
			if late == 23*time.Second && i%5 > 0 {
				break
			}
		}
	}
	if len(x.engine.memory.reminders) < len(exprs)-1 {
		t.Errorf("only %d selectors are remembered", len(x.engine.memory.reminders))
	}
	t.Logf("%d comparisons", compared)
}

// Shows that a file of the history that is damaged is named in a warning, and that the rest is answered.
func TestDamageWarns(t *testing.T) {
	path := t.TempDir()
	h := history.Open(history.Options{Path: path, Log: quiet})
	x := newHostOf(t, h, noon)
	x.ticks(900, served("/cart", 200, 20))
	files, err := filepath.Glob(filepath.Join(path, "history", "10s_*T12*.db"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	read, err := history.OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	e := New(Options{History: func() *history.History { return read }, Log: quiet})
	a, err := e.Ask(context.Background(), Question{Expr: `sum(rate(http_server_request_duration_seconds_count[5m]))`,
		Start: noon.Add(30 * time.Minute), End: x.now, Step: 15 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if len(a.Warnings) == 0 || !strings.Contains(a.Warnings[0], "damaged") {
		t.Errorf("warnings: %q", a.Warnings)
	}
	if !strings.Contains(a.Value.String(), "0.1 @") {
		t.Errorf("answer: %s", a.Value)
	}
}
