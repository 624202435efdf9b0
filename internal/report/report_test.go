package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/chart"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func of(v float64) *float64 { return &v }

// hostile is what clients may send as a name: HTML, Markdown, links, terminal escapes, text that turns its direction.
const hostile = "<script>alert(1)</script> | `x` *b* [l](http://evil.example) http://evil.example www.evil.example \x1b[31m\u202egnp\u0085\n# head {{.}} \xff"

// fixture is a report with a value in each of its places.
func fixture() *Report {
	end := noon.Add(-2 * time.Hour)
	figures := Figures{Requests: 123456, Failures: 789, RPS: of(1.42889), ErrorPercent: of(0.639094), Average: of(31.25), P50: of(12.5), P95: of(180), P99: of(2450)}
	quiet := Figures{Requests: 1000, RPS: of(0.0115741), ErrorPercent: of(0), Average: of(0.31), P50: of(0.25), P95: of(0.9), P99: of(1.2)}
	none := Figures{}
	c := &chart.Chart{Title: "response time " + hostile, From: noon.Add(-day), To: noon, Step: 2 * time.Hour,
		Values: []float64{10, 12, math.NaN(), math.NaN(), 20, 22, 30, 31, 180, 40, 30, 20}, Marks: []chart.Mark{{From: noon.Add(-8 * time.Hour), To: noon.Add(-6 * time.Hour), Critical: true, Text: hostile}}}
	r := &Report{Title: "Performance of web-1", Host: "web-1", Version: "1.2.3", Generated: noon, From: noon.Add(-day), To: noon,
		Summary:  []string{"In the day 123,456 requests were answered.", "The worst: " + hostile + "."},
		Coverage: Coverage{CountedSeconds: 79200, SharePercent: 91.6667, StepSeconds: 60, GapsTotal: 3, Gaps: []Gap{{noon.Add(-20 * time.Hour), noon.Add(-18 * time.Hour)}}},
		Traffic:  figures, Before: &quiet,
		ServicesTotal: 30, Services: []ServiceRow{{Service: "shop", Endpoints: 7, Level: "critical", Figures: figures, P95Before: of(90)}, {Service: hostile, Namespace: "a|b", Endpoints: 1, Figures: none}},
		EndpointsTotal: 2000, SlowestTotal: 900,
		Slowest: []EndpointRow{{Service: "shop", Method: "GET", Route: "/orders/{id}", Level: "poor", Figures: figures, P95Before: of(6)}, {Service: "shop", Method: "GET", Route: hostile, Level: "good", Figures: quiet, P95Before: of(0.9)}},
		Failing: []EndpointRow{}, Busiest: []EndpointRow{{Service: "shop", Method: "POST", Route: "/pay", Figures: quiet}},
		Objectives: []Objective{{Service: "shop", Route: "GET /orders/{id}", Kind: "availability", Target: "99.9 % of requests succeed", WindowDays: 30, LeftPercent: of(-12.5)},
			{Service: "gone", Kind: "latency", Target: "99 % of requests within 300 ms", WindowDays: 7, Unmatched: true}},
		IncidentsTotal: 42, IncidentsUnknown: "alerts of the history: timeout",
		Incidents: []Incident{{ID: "f1", Kind: "finding", Severity: "critical", Subject: "shop GET " + hostile, Start: noon.Add(-3 * time.Hour), End: &end, Summary: hostile,
			Causes: []ProbableCause{{"the disk is busy " + hostile, 0.83}}, NextSteps: []string{"look at " + hostile}, Foreseen: "disk full, likely on 5 March 10:00 UTC"},
			{Kind: "alert", Severity: "warning", Subject: "the host", Start: noon.Add(-time.Hour), Summary: "memory is short", Labels: map[string]string{"alertname": "Memory"}}},
		Trends: []Metric{(Metric{Metric: "response_time", Name: "response time, 95th percentile", Unit: "ms", Average: of(45.5), Peak: of(180), Latest: of(20), Summary: "s",
			Trend: "rose by 12 %", Changes: []string{"on 2 March 06:00 UTC from 20 ms to 180 ms"}}).Drawn(c),
			{Metric: "disk_space_used", Name: "use of the fullest disk " + hostile, Unit: "percent", Average: of(80), Peak: of(91), Latest: of(91), Summary: "s",
				Limits: []Ahead{{Limit: "disk full", Likely: &noon, Summary: "disk full (100 %) is likely reached on 5 March"}}},
			{Metric: "cpu_usage", Name: "use of processors", Unit: "percent", Summary: "s", Unknown: "there is no value in the day"}},
		Resources: []ServiceResources{{hostile, of(12.5), of(99.4), of(512), nil}},
		Losses:    []Loss{{"reader", "ring_full", 17}}, Notes: []string{"a file of the history is damaged: " + hostile}}
	return r
}

// Each format of a report is exactly the golden file. UPDATE_GOLDEN=1 writes them anew.
func TestGoldens(t *testing.T) {
	for _, format := range Formats {
		var got bytes.Buffer
		if err := fixture().Write(&got, format); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join("testdata", "report"+Extensions[format])
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(name, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s differs:\n%s", name, got.Bytes())
		}
	}
	if err := fixture().Write(io.Discard, "pdf"); err == nil {
		t.Error("a PDF is written")
	}
}

// What clients sent is text in the page: it has no script, no link, no address of elsewhere, and no attribute that runs or styles; its one
// style is what the policy names.
func TestPageIsHarmless(t *testing.T) {
	var page bytes.Buffer
	if err := fixture().Write(&page, "html"); err != nil {
		t.Fatal(err)
	}
	elements := map[string]int{}
	d := xml.NewDecoder(bytes.NewReader(page.Bytes()))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		e, is := token.(xml.StartElement)
		if !is {
			continue
		}
		elements[e.Name.Local]++
		for _, a := range e.Attr {
			if n := a.Name.Local; strings.HasPrefix(n, "on") || n == "style" || n == "href" || n == "src" || n == "id" {
				t.Errorf("%s has %s=%q", e.Name.Local, n, a.Value)
			}
		}
	}
	if elements["script"]+elements["a"]+elements["img"]+elements["link"]+elements["iframe"] != 0 || elements["style"] != 1 || elements["svg"] != 1 {
		t.Errorf("%v", elements)
	}
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindSubmatch(page.Bytes())[1]
	sum := sha256.Sum256(style)
	if !strings.Contains(ContentPolicy, base64.StdEncoding.EncodeToString(sum[:])) {
		t.Error("the policy does not let the page use its style")
	}
	if bytes.Contains(style, []byte("url(")) || bytes.Contains(style, []byte("@import")) {
		t.Error("the style asks for something of elsewhere")
	}
	checkClean(t, page.String())
}

// checkClean fails for characters that a terminal obeys, and those that turn text.
func checkClean(t *testing.T, text string) {
	t.Helper()
	if i := strings.IndexAny(text, "\x1b\u0085\u202e\x00"); i >= 0 || strings.ToValidUTF8(text, "") != text {
		t.Errorf("%q is in the text", text[max(0, i-40):min(len(text), i+40)])
	}
}

// In Markdown names are code, and other text has no mark-up: no line of it begins a heading, no table has more cells than its head.
func TestMarkdownIsHarmless(t *testing.T) {
	text := fixture().markdown()
	checkClean(t, text)
	outside := regexp.MustCompile("`[^`\n]*`").ReplaceAllString(strings.ReplaceAll(text, "\\`", ""), "CODE")
	for _, wrong := range []string{"<script", `[^\\]\]\(`, "[^\\\\]://", `www\.`, "\n# head", `[^\\*]\*[^\\*]`} {
		if regexp.MustCompile(wrong).MatchString(outside) {
			t.Errorf("%q is in\n%s", wrong, outside)
		}
	}
	bar := regexp.MustCompile(`(^|[^\\])\|`)
	cells := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			cells = 0
			continue
		}
		n := len(bar.FindAllString(line, -1))
		if cells == 0 {
			cells = n
		}
		if n != cells {
			t.Errorf("%d bars instead of %d in %s", n, cells, line)
		}
	}
}

// A report in JSON is read again as it was.
func TestJSON(t *testing.T) {
	var out bytes.Buffer
	if err := fixture().Write(&out, "json"); err != nil {
		t.Fatal(err)
	}
	var back Report
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields()
	if err := d.Decode(&back); err != nil {
		t.Fatal(err)
	}
	if back.Traffic.Requests != 123456 || *back.Objectives[0].LeftPercent != -12.5 || back.Incidents[1].End != nil {
		t.Errorf("%+v", back)
	}
}

// The times that are meant by each way to say it, at 14:37:20 on a Wednesday; both ends are whole minutes, from two days on whole hours.
func TestSpan(t *testing.T) {
	now := time.Date(2026, 3, 4, 14, 37, 20, 0, time.UTC)
	for _, c := range []struct {
		wanted         Wanted
		from, to, fail string
	}{
		{Wanted{}, "2026-03-03T14:37:00Z", "2026-03-04T14:37:00Z", ""},
		{Wanted{Range: "hourly"}, "2026-03-04T13:00:00Z", "2026-03-04T14:00:00Z", ""},
		{Wanted{Range: "daily"}, "2026-03-03T00:00:00Z", "2026-03-04T00:00:00Z", ""},
		{Wanted{Range: "weekly"}, "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z", ""},
		{Wanted{Last: "6h"}, "2026-03-04T08:37:00Z", "2026-03-04T14:37:00Z", ""},
		{Wanted{Last: "7d"}, "2026-02-25T14:00:00Z", "2026-03-04T14:00:00Z", ""},
		{Wanted{From: "now-6h", To: "now-1h"}, "2026-03-04T08:37:00Z", "2026-03-04T13:37:00Z", ""},
		{Wanted{From: "2026-03-01T01:30:00+01:00", To: "2026-03-01T06:00:00Z"}, "2026-03-01T00:30:00Z", "2026-03-01T06:00:00Z", ""},
		{Wanted{From: "now-1h", To: "2027-01-01T00:00:00Z"}, "2026-03-04T13:37:00Z", "2026-03-04T14:37:00Z", ""},
		{Wanted{Range: "daily", Last: "6h"}, "", "", "exclude each other"},
		{Wanted{To: "now"}, "", "", "to needs from"},
		{Wanted{Last: "5m"}, "", "", "10 minutes"},
		{Wanted{Last: "500d"}, "", "", "400 days"},
		{Wanted{Last: "-6h"}, "", "", "last: "},
		{Wanted{Last: "99999999w"}, "", "", "last: "},
		{Wanted{Last: "30501w"}, "", "", "last: "}, // 2^64 nanoseconds and three days
		{Wanted{From: "now-30501w"}, "", "", "from: "},
		{Wanted{Range: "yearly"}, "", "", "is not one of"},
		{Wanted{From: "yesterday"}, "", "", "from: "},
		{Wanted{From: "now-1h", To: "now-2h"}, "", "", "10 minutes"},
	} {
		s, err := c.wanted.Span(now)
		if c.fail != "" {
			if err == nil || !strings.Contains(err.Error(), c.fail) {
				t.Errorf("%+v: %v, expected %s", c.wanted, err, c.fail)
			}
			continue
		}
		if err != nil || s.From.Format(time.RFC3339) != c.from || s.To.Format(time.RFC3339) != c.to || s.length()%s.Step != 0 {
			t.Errorf("%+v: %s to %s by %s, %v", c.wanted, s.From, s.To, s.Step, err)
		}
	}
	for _, c := range []struct{ day, monday string }{{"2026-03-02", "2026-03-02"}, {"2026-03-08", "2026-03-02"}, {"2026-03-09", "2026-03-09"}} {
		at, _ := time.Parse(time.DateOnly, c.day)
		if end, _, _ := lastFull("weekly", at.Add(time.Hour)); end.Format(time.DateOnly) != c.monday {
			t.Errorf("on %s the last week ends at %s", c.day, end)
		}
	}
}
