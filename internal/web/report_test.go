package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/report"
)

// reporting makes the world's server serve reports as well.
func (w *analysisWorld) reporting(change func(*report.Options)) {
	o := ReportOptions{report.Options{Engine: w.options.Engine, Judge: analytics.NewEngine(analytics.Options{}).Judge, Objectives: w.options.Objectives,
		Analyse: w.options.Report, Sources: []report.IncidentSource{report.RecordedAlerts{Engine: w.options.Engine}}, Host: "web-1", Version: "1.2.3", Now: w.options.Now}}
	if change != nil {
		change(&o.Options)
	}
	w.server = NewServer(ServerOptions{Analysis: w.options, Report: o})
}

func (w *analysisWorld) report(parameters string) *httptest.ResponseRecorder {
	r := httptest.NewRecorder()
	w.server.handler.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/report?"+parameters, nil))
	return r
}

func (w *analysisWorld) reportOf(parameters string) *report.Report {
	w.t.Helper()
	r := w.report("format=json&" + parameters)
	if r.Code != http.StatusOK {
		w.t.Fatalf("%d %s", r.Code, r.Body)
	}
	made := &report.Report{}
	if err := json.Unmarshal(r.Body.Bytes(), made); err != nil {
		w.t.Fatal(err)
	}
	return made
}

// A known load of two hours is reported with its exact counts, its percentiles within the histogram's error, the hour before, the gap, and the
// endpoints in the order of what is wrong with them; what is not known is not there.
func TestReport(t *testing.T) {
	w := newAnalysisWorld(t)
	for _, line := range []string{"signal ms 20 step:1h:40", "signal bad 0 step:1h:10", "endpoint shop GET /cart rate=1 ms=ms", "endpoint shop POST /pay rate=0.5 ms=200 errors=bad",
		"endpoint till GET /rare rate=0.001 ms=5", "signal cpu 30 step:90m:40", "host cpu=cpu", "gap 80m 90m", "load 2h"} {
		w.run(line)
	}
	end := w.start.Add(110 * time.Minute)
	left := -0.25
	w.options.Objectives = func() []alert.ObjectiveView {
		return []alert.ObjectiveView{{Objective: alert.Objective{Service: "shop", AvailabilityPercent: 99.9}, Kind: "availability", BudgetLeft: &left}}
	}
	w.reporting(func(o *report.Options) {
		o.Sources = append(o.Sources, report.Findings(func(_, _ time.Time) ([]*finding.Finding, error) {
			return []*finding.Finding{{ID: "f1", Measure: finding.Measure{Metric: "error_rate", Subject: finding.Subject{Service: "shop", Method: "POST", Route: "/pay"}},
				Start: w.start.Add(time.Hour), End: &end, Severity: finding.Critical, Summary: "POST /pay of shop fails", Causes: []finding.Cause{{Summary: "a new version", Confidence: .9}}}}, nil
		}))
	})
	r := w.reportOf("range=hourly")
	if !r.From.Equal(w.start.Add(time.Hour)) || !r.To.Equal(w.start.Add(2*time.Hour)) {
		t.Fatalf("%s to %s", r.From, r.To)
	}
	// 50 of 60 minutes were counted; before, there were 1.5 requests a second for the whole hour, and 3 rare ones at most.
	if r.Coverage.CountedSeconds != 3000 || r.Coverage.GapsTotal != 1 || !r.Coverage.Gaps[0].From.Equal(w.start.Add(80*time.Minute)) || !r.Coverage.Gaps[0].To.Equal(w.start.Add(90*time.Minute)) {
		t.Errorf("%+v", r.Coverage)
	}
	if r.Before == nil || r.Before.Requests < 5400 || r.Before.Requests > 5410 || r.Before.Failures != 0 {
		t.Errorf("before: %+v", r.Before)
	}
	if n := r.Traffic.Requests; n < 4500 || n > 4510 || r.Traffic.Failures < 100 || r.Traffic.Failures > 200 {
		t.Errorf("%+v", r.Traffic)
	}
	if p := *r.Traffic.P50; p < 55 || p > 66 {
		t.Errorf("the median is %g", p)
	}
	if r.EndpointsTotal != len(r.Busiest) || r.ServicesTotal != len(r.Services) || r.Services[0].Service != "shop" || r.Services[0].Endpoints != 2 {
		t.Errorf("%+v %d", r.Services, r.EndpointsTotal)
	}
	if len(r.Slowest) != 2 || r.Slowest[0].Route != "/pay" || r.Slowest[0].Level != "critical" && r.Slowest[0].Level != "poor" || len(r.Failing) != 1 || r.Failing[0].Failures != r.Traffic.Failures {
		t.Errorf("%+v\n%+v", r.Slowest, r.Failing)
	}
	if b := r.Slowest[1].P95Before; b == nil || *b < 20 || *b > 23 {
		t.Errorf("%+v", r.Slowest[1])
	}
	if r.IncidentsTotal != 1 || r.IncidentsUnknown != "" || r.Incidents[0].Causes[0].Summary != "a new version" || *r.Objectives[0].LeftPercent != -25 {
		t.Errorf("%+v %+v", r.Incidents, r.Objectives)
	}
	text := strings.Join(r.Summary, "\n")
	for _, says := range []string{"half of them within 6", "slower (half within 20", "failed (", "all of them at POST /pay of shop", "without error budget left are 1 of 1 objectives: shop (availability)",
		"POST /pay of shop fails; probably because of this: a new version", "during 83.3 % of the range only"} {
		if !strings.Contains(text, says) {
			t.Errorf("%q is missing in\n%s", says, text)
		}
	}
	if len(r.Summary) < 3 || len(r.Summary) > 6 {
		t.Errorf("%d sentences", len(r.Summary))
	}
	if i := strings.Index(fmt.Sprint(r.LossesUnknown, r.ResourcesUnknown), "no count of losses"); i < 0 || r.ResourcesUnknown == "" {
		t.Errorf("%q %q", r.LossesUnknown, r.ResourcesUnknown)
	}
	page := w.report("range=hourly")
	if got := page.Header(); page.Code != http.StatusOK || !strings.HasPrefix(got.Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-") || got.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%d %v", page.Code, got)
	}
	if n := bytes.Count(page.Body.Bytes(), []byte("<svg ")); n != 4 { // of response time, throughput, errors and processors; of the others nothing is known
		t.Errorf("%d pictures, %d metrics", n, len(r.Trends))
	}
	if name := os.Getenv("REPORT_FILE"); name != "" { // to look at
		if err := os.WriteFile(name, page.Body.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A range that the history does not reach says so, and has no number that nobody counted.
func TestReportWithoutData(t *testing.T) {
	w := newAnalysisWorld(t)
	w.run("endpoint shop GET /cart rate=1 ms=20")
	w.run("load 20m")
	w.reporting(nil)
	r := w.reportOf("from=2026-02-01T00:00:00Z&to=2026-02-01T06:00:00Z")
	if r.Coverage.CountedSeconds != 0 || r.Coverage.GapsTotal != 1 || r.Traffic.RPS != nil || r.Traffic.P95 != nil || r.Traffic.ErrorPercent != nil || r.Before != nil || len(r.Services) != 0 {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(r.Summary[0], "counted nothing in this range") {
		t.Errorf("%q", r.Summary)
	}
	for _, m := range r.Trends {
		if m.Average != nil || m.Unknown == "" {
			t.Errorf("%+v", m)
		}
	}
	if r = w.reportOf("last=20m"); r.Before != nil || r.Traffic.Requests != 1200 || !strings.Contains(strings.Join(r.Summary, " "), "nothing to compare that with") {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct {
		parameters, says string
		code             int
	}{
		{"range=yearly", "hourly, daily, weekly", 400}, {"last=1m", "10 minutes", 400}, {"format=pdf", "html, markdown, json", 400}, {"since=1h", "unknown parameter", 400},
		{"format=markdown&last=20m", "# Performance of web-1", 200},
	} {
		if got := w.report(c.parameters); got.Code != c.code || !strings.Contains(got.Body.String(), c.says) {
			t.Errorf("%s: %d %s", c.parameters, got.Code, got.Body)
		}
	}
	w.reporting(func(o *report.Options) {
		o.Engine = query.New(query.Options{History: func() *history.History { return nil }})
	})
	if got := w.report("last=1h"); got.Code != http.StatusServiceUnavailable {
		t.Errorf("without history: %d %s", got.Code, got.Body)
	}
}

// Two thousand endpoints make tables of some rows, and the rest is counted.
func TestReportBounds(t *testing.T) {
	w := newAnalysisWorld(t)
	for i := range 2000 {
		w.run(fmt.Sprintf("endpoint s%d GET /e%d rate=0.1 ms=20", i%40, i))
	}
	w.run("load 20m")
	w.reporting(nil)
	r := w.reportOf("last=20m")
	if r.EndpointsTotal != 2000 || len(r.Busiest) != 15 || r.ServicesTotal != 40 || len(r.Services) != 25 || r.Traffic.Requests != 240_000 {
		t.Errorf("%d endpoints, %d rows, %d services, %d rows, %d requests", r.EndpointsTotal, len(r.Busiest), r.ServicesTotal, len(r.Services), r.Traffic.Requests)
	}
	if page := w.report("last=20m"); page.Body.Len() > 300<<10 || !strings.Contains(page.Body.String(), "; not listed: 1985 more") {
		t.Errorf("%d bytes", page.Body.Len())
	}
}

// Where there is very much to read, the report is of whole hours; of the range before it no more is read than may be, and the report says so instead of
// claiming that nothing was counted.
func TestReportMuchToRead(t *testing.T) {
	w := newAnalysisWorld(t)
	for _, line := range []string{"signal ms 20", "endpoint shop GET /cart rate=1 ms=ms", "load 5h"} {
		w.run(line)
	}
	w.reporting(func(o *report.Options) { o.BytesMax = 1 })
	from, to := fmt.Sprint(w.start.Add(150*time.Minute).Unix()), fmt.Sprint(w.start.Add(285*time.Minute).Unix())
	r := w.reportOf("from=" + from + "&to=" + to)
	if !r.From.Equal(w.start.Add(2*time.Hour)) || !r.To.Equal(w.start.Add(4*time.Hour)) || r.Traffic.Requests != 7200 || r.Before != nil {
		t.Errorf("%s to %s: %+v, before %+v", r.From, r.To, r.Traffic, r.Before)
	}
	text, notes := strings.Join(r.Summary, "\n"), strings.Join(r.Notes, "\n")
	if !strings.Contains(text, "not compared with the 2 hours before, of which there is too much to read") || strings.Contains(text, "less than half") ||
		!strings.Contains(notes, "whole hours") || !strings.Contains(notes, "too much to read") {
		t.Errorf("%s\n%s", text, notes)
	}
	// What is too much in minutes is little in hours.
	w.reporting(func(o *report.Options) { o.BytesMax = 600 })
	if r = w.reportOf("from=" + from + "&to=" + to); r.Before == nil || r.Before.Requests != 7200 || r.Traffic.Requests != 7200 {
		t.Errorf("%+v, before %+v, %q", r.Traffic, r.Before, r.Notes)
	}
	// Less than an hour cannot be cut to hours, and is read all the same.
	w.reporting(func(o *report.Options) { o.BytesMax = 1 })
	if r = w.reportOf("from=" + fmt.Sprint(w.start.Add(130*time.Minute).Unix()) + "&to=" + fmt.Sprint(w.start.Add(160*time.Minute).Unix())); r.Traffic.Requests != 1800 || r.Before != nil {
		t.Errorf("%+v, before %+v", r.Traffic, r.Before)
	}
}
