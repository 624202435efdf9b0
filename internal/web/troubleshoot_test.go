package web

import (
	"context"
	"log/slog"
	"math"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/finding"
	perfhttp "github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/series"
	"github.com/perfagent/perfagent/internal/wire"
)

// troubled are findings of the time of a clock: of an endpoint, of the host, and one of a service that is over.
func troubled(c *clock) []*finding.Finding {
	effect, over := 75., c.now().Add(-20*time.Minute).UTC()
	slow := &finding.Finding{ID: "0123456789abcdef", Kind: finding.Anomaly, Unit: "ms", Start: c.now().Add(-3 * time.Minute).UTC(), Expected: 80, Low: 60, High: 110, Peak: 140,
		Latest: 138, EffectPercent: &effect, Score: 2.5, Confidence: .9, Severity: finding.Error, Requests: 1800,
		Measure: finding.Measure{Metric: finding.ResponseTime, Subject: finding.Subject{Role: "server", Service: "shop", Method: "GET", Route: "/items/{id}"}},
		Phases:  []finding.PhaseShift{{Phase: "processing", BeforeMS: 79, AfterMS: 139, SharePercent: 100}},
		Causes: []finding.Cause{{Measure: finding.Measure{Metric: finding.CPUThrottling, Subject: finding.Subject{Service: "shop"}}, Kind: series.KindPressure, Unit: "percent",
			After: 84, Score: 3, Confidence: .8, Relationship: "self", Summary: "The CPU limit of its control group stops it: throttled periods 0 % → 84 %."}},
		Until:     &finding.Until{Limit: "its objective", Likely: c.now().Add(time.Hour).UTC(), Earliest: c.now().Add(time.Minute).UTC()},
		Summary:   "`GET /items/{id}` of shop is 75 % slower than usual since 22:10 UTC (140 ms, usually 80 ms), probably because of the CPU limit of its control group.",
		NextSteps: []string{"Raise the CPU limit of shop, or give it less to do: cat /sys/fs/cgroup/GROUP/cpu.max, and nr_throttled in cpu.stat there."}}
	host := &finding.Finding{ID: "1123456789abcdef", Kind: finding.Anomaly, Unit: "percent", Start: c.now().Add(-4 * time.Minute).UTC(), Severity: finding.Info,
		Measure: finding.Measure{Metric: finding.PressureCPU}, Summary: "Tasks of the host wait for a processor for more of the time than usual since 22:09 UTC (40 %, usually 2 %)."}
	ended := &finding.Finding{ID: "2123456789abcdef", Kind: finding.Anomaly, Unit: "percent", Start: over.Add(-5 * time.Minute), End: &over, Severity: finding.Warning,
		Measure: finding.Measure{Metric: finding.ErrorRate, Subject: finding.Subject{Role: "server", Service: "stock"}},
		Summary: "stock failed more often from 21:48 UTC to 21:53 UTC (3 %, usually 0 %)."}
	return []*finding.Finding{slow, host, ended}
}

// troubleshootServer answers for two services: shop, whose /pay is as slow as ever, and stock.
func troubleshootServer(c *clock, findings []*finding.Finding, learning int) *Server {
	started := c.now()
	e := shopEngine(c)
	e.Lose(wire.LostQueueFull, 5000)
	return NewServer(ServerOptions{Performance: performanceOf(e, c), Agent: AgentOptions{Source: e, Now: c.now, Missing: func() []string { return []string{"Unix sockets"} }},
		Troubleshoot: TroubleshootOptions{Findings: func() []*finding.Finding { return findings }, Now: c.now,
			Watching: func() Watching { return Watching{Since: started, Series: 103, Learning: learning, Without: 2} },
			Foreseen: func() []finding.Foreseen {
				return []finding.Foreseen{{Measure: finding.Measure{Metric: finding.DiskSpaceUsed, Subject: finding.Subject{Device: "/var"}}, Unit: "percent", Latest: 91,
					Until: finding.Until{Limit: "the end of the space", Likely: c.now().Add(time.Hour).UTC(), Earliest: c.now().Add(time.Hour).UTC()}, Summary: "Used space of /var rises."}}
			}}})
}

// What is wrong comes first, the most severe first, each with causes and steps; what is well is said; and the answer is exactly the golden
// file. UPDATE_GOLDEN=1 writes it anew.
func TestTroubleshootGolden(t *testing.T) {
	c := newClock()
	c.advance(30 * time.Minute)
	findings := troubled(c)
	w := get(t, troubleshootServer(c, findings, 4), "/troubleshoot/performance", nil)
	golden(t, w, "troubleshoot.json")
}

// issuesOf are the issues of an answer in short: kind, severity, whose.
func issuesOf(d *troubleshooting) (all []string) {
	for i := range d.Issues {
		o := &d.Issues[i]
		all = append(all, strings.TrimSpace(o.Kind+" "+o.Severity+" "+o.Service+" "+o.Route))
	}
	return all
}

// The filter leaves the host's issues and the agent's; a service that is as bad as ever is an issue by its level, unless a finding of it says
// more; and where nobody looks, or too little is known, that is said rather than that all is well.
func TestTroubleshoot(t *testing.T) {
	c := newClock()
	c.advance(30 * time.Minute)
	findings := troubled(c)
	s := troubleshootServer(c, findings, 4)
	for _, x := range []struct {
		query, status string
		issues        []string
	}{
		{"", degraded, []string{"finding error shop /items/{id}", "level warning shop /pay", "agent warning", "finding info"}},
		{"?service=shop", degraded, []string{"finding error shop /items/{id}", "level warning shop /pay", "agent warning", "finding info"}},
		{"?service=st*", degraded, []string{"agent warning", "finding info"}},
	} {
		var d troubleshooting
		get(t, s, "/troubleshoot/performance"+x.query, &d)
		got := issuesOf(&d)
		if strings.Join(got, "; ") != strings.Join(x.issues, "; ") || d.Status != x.status {
			t.Errorf("%q: %s, %q", x.query, d.Status, got)
		}
	}
	for _, x := range []struct {
		options         TroubleshootOptions
		status, summary string
	}{
		{TroubleshootOptions{Off: func() string { return "anomalies.mode is off" }}, unknown, "Nobody looks for what is unusual: anomalies.mode is off."},
		{TroubleshootOptions{Findings: func() []*finding.Finding { return findings[2:] }, Watching: func() Watching { return Watching{c.now().Add(-time.Hour), 50, 3, 0} }},
			healthy, "Nothing unusual since 22:23 UTC on 14 November, watching 50 series, 3 of which are still learning what is usual."},
		{TroubleshootOptions{Findings: func() []*finding.Finding { return nil }, Watching: func() Watching { return Watching{c.now().Add(-time.Minute), 50, 40, 0} }},
			unknown, "Too early to say what is unusual: 50 series are watched since 22:52 UTC on 14 November, and 40 of them are still learning"},
	} {
		x.options.Now = c.now
		var d troubleshooting
		get(t, NewServer(ServerOptions{Performance: performanceOf(analytics.NewEngine(analytics.Options{Now: c.now}), c), Troubleshoot: x.options}), "/troubleshoot/performance", &d)
		if d.Status != x.status || !strings.HasPrefix(d.Summary, x.summary) || len(d.Issues) > 0 {
			t.Errorf("%s %s, want %s", d.Status, d.Summary, x.summary)
		}
	}
}

// An alert that fires for what a finding is about is part of it, with its severity if that is worse; others are issues of their own.
func TestTroubleshootAlerts(t *testing.T) {
	c := newClock()
	at := c.now()
	m := alert.New(alert.Options{Source: downSource{}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return at }})
	rules, err := alert.Parse([]alert.File{{Name: "/r.yml", Data: []byte(`
groups:
- name: one
  rules:
  - {alert: Slow, expr: down, labels: {severity: critical, service_name: shop}, annotations: {summary: 'shop is slow'}}
  - {alert: Other, expr: down, labels: {severity: warning, service_name: stock}, annotations: {summary: 'stock is down', next_step: 'Start it.'}}
  - {alert: Burn, expr: down, labels: {severity: info, burn_rate: "1", service_name: mail}, annotations: {summary: 'slowly'}}
  - {alert: Burn, expr: down, labels: {severity: critical, burn_rate: "14.4", service_name: mail}, annotations: {summary: 'fast'}}
  - {alert: Burn, expr: down, labels: {severity: error, burn_rate: "6", service_name: mail}, annotations: {summary: 'less fast'}}
  - {alert: Pending, expr: down, for: 1h, labels: {severity: critical, service_name: stock}}
`)}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Apply(rules)
	m.Evaluate(context.Background(), at.Add(20*time.Second))
	findings := troubled(c)[:1]
	s := NewServer(ServerOptions{Performance: performanceOf(analytics.NewEngine(analytics.Options{Now: c.now}), c),
		Alerts:       AlertsOptions{Manager: func() *alert.Manager { return m }},
		Troubleshoot: TroubleshootOptions{Findings: func() []*finding.Finding { return findings }, Now: c.now}})
	var d troubleshooting
	get(t, s, "/troubleshoot/performance", &d)
	if got := issuesOf(&d); !slices.Equal(got, []string{"finding critical shop /items/{id}", "alert critical mail", "alert warning stock"}) || d.Status != critical {
		t.Fatalf("%s %q", d.Status, got)
	}
	if a := d.Issues[0].Alerts; len(a) != 1 || a[0].Name != "Slow" {
		t.Errorf("%+v", a)
	}
	if o := d.Issues[1]; o.Summary != "fast" || len(o.Alerts) != 3 || o.Alerts[0].Severity != "critical" {
		t.Errorf("%+v", o)
	}
	if o := d.Issues[2]; o.Summary != "stock is down" || !slices.Equal(o.NextSteps, []string{"Start it."}) {
		t.Errorf("%+v", o)
	}
}

// Findings of one incident are one issue with effects, which has the worst severity, is found by the names of those, and leaves no issue by level of
// them nor calls them well.
func TestTroubleshootIncident(t *testing.T) {
	c := newClock()
	c.advance(30 * time.Minute)
	findings := troubled(c)[:2]
	effect := *findings[0]
	findings[0].Incident, findings[1].Severity = "", finding.Info
	effect.Incident = findings[1].ID // of the host
	findings = []*finding.Finding{&effect, findings[1]}
	s := troubleshootServer(c, findings, 4)
	for _, query := range []string{"", "?service=shop", "?service=nobody"} {
		var d troubleshooting
		get(t, s, "/troubleshoot/performance"+query, &d)
		if len(d.Issues) == 0 || d.Issues[0].Kind != issueFinding || d.Issues[0].Severity != finding.Error || d.Issues[0].Service != "" || len(d.Issues[0].Effects) != 1 ||
			!strings.HasSuffix(d.Issues[0].Summary, " Affected by it: `GET /items/{id}` of shop.") || d.Issues[0].Effects[0].ID != effect.ID {
			t.Fatalf("%q: %+v", query, d.Issues)
		}
		if got := issuesOf(&d); query != "?service=nobody" && !slices.Equal(got, []string{"finding error", "level warning shop /pay", "agent warning"}) {
			t.Errorf("%q: %q", query, got)
		}
		if strings.Contains(d.Healthy, "shop") {
			t.Errorf("%q: %s", query, d.Healthy)
		}
	}
}

// finer is an instant that is finer than a millisecond.
var finer = regexp.MustCompile(`"[^"]+":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{4,}[^"]*"`)

// Instants are shown to a millisecond, however the clocks that they come from stand.
func TestInstants(t *testing.T) {
	c := newClock()
	c.advance(999_999_990 * time.Nanosecond)
	at := c.now()
	m := alert.New(alert.Options{Source: downSource{}, Log: slog.New(slog.DiscardHandler), Now: c.now})
	rules, err := alert.Parse([]alert.File{{Name: "/r.yml", Data: []byte(`
groups:
- name: one
  rules:
  - {alert: Slow, expr: down, labels: {severity: critical, service_name: shop}}
`)}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Apply(rules)
	m.Evaluate(context.Background(), at.Add(20*time.Second))
	e := shopEngine(c)
	e.Add(clientExchange())
	performance := performanceOf(e, c)
	performance.System = func() *analytics.System { return &analytics.System{Time: &at} }
	s := NewServer(ServerOptions{Performance: performance, Alerts: AlertsOptions{Manager: func() *alert.Manager { return m }, Now: c.now},
		Requests: NewRequestsHandler(analytics.NewRequests(analytics.RequestsOptions{Now: func() int64 { return 1 }})),
		Agent: AgentOptions{Source: e, Now: c.now, Started: at, Reload: func() (bool, time.Time) { return true, at },
			Parts: func() []export.Recovery { return []export.Recovery{{Part: "otlp", Since: at, Last: at}} }},
		Troubleshoot: TroubleshootOptions{Findings: func() []*finding.Finding { return troubled(&clock{t: shown(c.now())}) }, Now: c.now,
			Watching: func() Watching { return Watching{Since: at} }}})
	for _, path := range []string{"/troubleshoot/performance", "/performance/summary", "/dashboard", "/alerts", "/monitoring/health", "/health/performance", "/requests",
		"/api/v1/rules", "/api/v1/alerts"} {
		w := get(t, s, path, nil)
		if found := finer.FindAllString(w.Body.String(), -1); w.Code != 200 || len(found) > 0 {
			t.Errorf("%s: %d %q", path, w.Code, found)
		}
	}
}

// A finding of failures says which they are, by the exchanges of it that are kept.
func TestTroubleshootFailures(t *testing.T) {
	c := newClock()
	requests := analytics.NewRequests(analytics.RequestsOptions{Now: func() int64 { return 1 }})
	e := analytics.NewEngine(analytics.Options{Now: c.now})
	var f *finding.Finding
	for i, status := range []uint16{500, 503, 503, 200, 404} {
		var h analytics.Handle
		ex := exchange()
		ex.Seq, ex.Outcome = uint32(i), perfhttp.Answered(ex.Role, status)
		e.AddTo(&h, ex)
		if p := requests.Pick(&h, ex); p.Any() {
			requests.Keep(p, ex)
		}
		f = &finding.Finding{ID: "f", Severity: finding.Error, Start: ex.Time.Add(-time.Second), Measure: finding.Measure{Metric: finding.ErrorRate,
			Subject: finding.Subject{Role: "server", Service: ex.Service, Namespace: ex.Namespace}}}
	}
	s := NewServer(ServerOptions{Performance: performanceOf(e, c), Requests: NewRequestsHandler(requests),
		Troubleshoot: TroubleshootOptions{Findings: func() []*finding.Finding { return []*finding.Finding{f} }, Now: c.now}})
	var d troubleshooting
	get(t, s, "/troubleshoot/performance", &d)
	if len(d.Issues) != 1 || !slices.Equal(d.Issues[0].Failures, []failureJSON{{"503", 2}, {"500", 1}}) {
		t.Errorf("%+v", d.Issues)
	}
}

// Kept exchanges and those of a trace name the finding that they belong to; without one the field is absent.
func TestRequestsNameTheirFinding(t *testing.T) {
	requests := analytics.NewRequests(analytics.RequestsOptions{Now: func() int64 { return 1 }})
	e := analytics.NewEngine(analytics.Options{})
	ex := exchange()
	var h analytics.Handle
	e.AddTo(&h, ex)
	if p := requests.Pick(&h, ex); p.Any() {
		requests.Keep(p, ex)
	}
	handler := NewRequestsHandler(requests)
	ask := func() string {
		w := httptest.NewRecorder()
		handler.answer(w, RequestsQuery{})
		return w.Body.String()
	}
	if body := ask(); !strings.Contains(body, `"path"`) || strings.Contains(body, `"finding"`) {
		t.Errorf("without findings: %s", body)
	}
	handler.SetFinding(func(*wire.Exchange) string { return "f1" })
	if body := ask(); !strings.Contains(body, `"finding":"f1"`) {
		t.Errorf("with a finding: %s", body)
	}
}

// What to do next is a command to copy, of the agent that answers and of the service; a step that names no page stays as it is.
func TestTroubleshootCommands(t *testing.T) {
	o := troubleshooter{TroubleshootOptions: TroubleshootOptions{Reach: func() finding.Reach { return finding.Reach{URL: "https://shop.example:9464"} }}}
	for step, want := range map[string]string{
		"/requests?kind=failed shows the requests.":       "curl -s 'https://shop.example:9464/requests?kind=failed&service=my+shop' shows the requests.",
		"/requests shows the slowest.":                    "curl -s 'https://shop.example:9464/requests?service=my+shop' shows the slowest.",
		"`journalctl -k | grep -i oom` names processes.":  "`journalctl -k | grep -i oom` names processes.",
		"/var is full: remove what is not needed (/tmp).": "/var is full: remove what is not needed (/tmp).",
	} {
		if got := o.asCommand(step, "my shop"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got, want := new(troubleshooter).get("/requests", "kind", "slowest,failed", "service", "it's"), "curl -s 'http://127.0.0.1:9464/requests?kind=slowest,failed&service=it%27s'"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Steps of before the agent counted do not make the requests of the others few.
func TestFewRequestsOfCountedSteps(t *testing.T) {
	p := 95.
	m := &measured{name: "response_time", percentile: &p, values: make([]float64, 60), requests: make([]uint64, 60)}
	for i := range m.values {
		if m.values[i] = math.NaN(); i >= 50 {
			m.values[i], m.requests[i] = 20, 400
		}
	}
	if s := statisticsIn(m); s.Few || *s.RequestsAStep != 400 || *s.Requests != 4000 {
		t.Errorf("few %t, %g a step, %d", s.Few, *s.RequestsAStep, *s.Requests)
	}
	for p, want := range map[float64]string{95: "95th", 99.9: "99.9th", 50: "50th", 1: "1st", 12: "12th", 42: "42nd", 93: "93rd"} {
		if got := ordinal(p); got != want {
			t.Errorf("%g: %s", p, got)
		}
	}
}
