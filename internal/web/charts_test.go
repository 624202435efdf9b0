package web

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/finding"
)

func (w *analysisWorld) chart(path string) *httptest.ResponseRecorder {
	r := httptest.NewRecorder()
	w.server.handler.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/charts/"+path, nil))
	return r
}

// elements counts the elements of a document by name, and fails where it is not well-formed.
func elements(t *testing.T, document []byte) map[string]int {
	t.Helper()
	found := map[string]int{}
	for d := xml.NewDecoder(bytes.NewReader(document)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if e, is := token.(xml.StartElement); is {
			found[e.Name.Local]++
			for _, a := range e.Attr {
				if strings.HasPrefix(a.Name.Local, "on") || strings.Contains(a.Name.Local, "href") {
					t.Errorf("%s has the attribute %s", e.Name.Local, a.Name.Local)
				}
			}
		}
	}
}

// A chart of a known load, with a gap and a finding, is exactly the golden file: a line in two pieces, the band, ticks that a person
// would choose. UPDATE_GOLDEN=1 writes it anew.
func TestChartGolden(t *testing.T) {
	w := newAnalysisWorld(t)
	end := w.start.Add(50 * time.Minute)
	w.options.Findings = func(_, _ time.Time) ([]*finding.Finding, error) {
		return []*finding.Finding{{Measure: finding.Measure{Metric: "response_time", Subject: finding.Subject{Service: "shop"}}, Start: w.start.Add(40 * time.Minute),
			End: &end, Severity: finding.Critical, Summary: "/cart is slow"}}, nil
	}
	for _, line := range []string{"signal ms 20 step:40m:20", "endpoint shop GET /cart rate=1 ms=ms", "gap 20m 25m", "load 1h"} {
		w.run(line)
	}
	r := w.chart("response_time.svg?window=1h&step=5m&service=shop&width=400&height=200")
	if r.Code != http.StatusOK || r.Header().Get("Content-Type") != "image/svg+xml" {
		t.Fatalf("%d %v %s", r.Code, r.Header(), r.Body)
	}
	if got := elements(t, r.Body.Bytes()); got["svg"] != 1 || got["script"] != 0 || got["title"] != 1 {
		t.Errorf("%v", got)
	}
	name := filepath.Join("testdata", "chart.svg")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(name, r.Body.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Body.Bytes(), want) {
		t.Errorf("%s differs:\n%s", name, r.Body)
	}
}

// Whatever is asked for is answered with a picture or a problem document; what clients sent as a name is text in it.
func TestCharts(t *testing.T) {
	w := newAnalysisWorld(t)
	w.run("endpoint shop GET /cart rate=1 ms=20")
	w.run("load 20m")
	for _, c := range []struct {
		path string
		code int
		says string
	}{
		{"throughput.svg?window=20m", 200, ">throughput, requests a second</text>"},
		{"throughput.svg?window=20m&theme=dark", 200, `fill="#111827"`},
		{"cpu_usage.svg?window=20m", 200, ">there is no value in the 20 minutes</text>"},
		{"response_time.svg?window=20m&service=%3Cscript%3E%26%00%22", 200, "&lt;script&gt;&amp;\uFFFD&#34;"},
		{"response_time.svg?window=20m&service=till", 200, ">no request of it was seen in the 20 minutes</text>"},
		{"throughput.svg?window=20m&width=4000&height=4000", 200, `width="4000"`},
		{"throughput.svg?width=4001", 400, "not a number from 240 to 4000"},
		{"throughput.svg?theme=red", 400, "light, dark"},
		{"throughput.svg?metric=cpu_usage", 400, "unknown parameter"},
		{"threads.svg", 400, "services only"},
		{"speed.svg", 404, "is not one of response_time, "},
		{"throughput.png", 404, "with .svg"},
		{"throughput", 404, "with .svg"},
	} {
		r := w.chart(c.path)
		if r.Code != c.code || !strings.Contains(r.Body.String(), c.says) {
			t.Errorf("%s: %d, expected %d %s\n%s", c.path, r.Code, c.code, c.says, r.Body)
		}
		if c.code == 200 {
			elements(t, r.Body.Bytes())
		} else if r.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %v", c.path, r.Header())
		}
	}
}

// The vertical axis begins at 0 unless something is below, and ends at a tick above the largest value; ticks are 1, 2 or 5 times a power of
// ten. A chart stays small, however many values it has.
func TestChartAxes(t *testing.T) {
	from := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		values         []float64
		min, max, step float64
	}{
		{[]float64{3, 97}, 0, 100, 20}, {[]float64{0.003}, 0, 0.003, 0.0005}, {[]float64{-3, 12}, -5, 15, 5}, {[]float64{0}, 0, 1, 0.2},
		{[]float64{math.NaN()}, 0, 1, 0.2}, {[]float64{1234}, 0, 1500, 500},
	} {
		x := &chart{values: c.values, from: from, to: from.Add(day), step: time.Hour, width: chartWidth, height: chartHeight}
		x.scale()
		if near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }; !near(x.min, c.min) || !near(x.max, c.max) || !near(x.tick, c.step) {
			t.Errorf("%v: %g to %g by %g, expected %g to %g by %g", c.values, x.min, x.max, x.tick, c.min, c.max, c.step)
		}
	}
	x := &chart{from: from, to: from.Add(1500 * time.Minute), step: time.Minute, width: chartSidesMax, height: chartSidesMax, colors: chartThemes["dark"]}
	for i := range 1500 {
		x.values, x.low, x.high = append(x.values, float64(i)), append(x.low, 0), append(x.high, 2e6)
		x.marks = append(x.marks, chartMark{from: from, to: from, text: strings.Repeat("<", 100)})
	}
	if got := x.svg(); len(got) > 256<<10 {
		t.Errorf("a chart of 1,500 values has %d bytes", len(got))
	} else if n := elements(t, got); n["g"] != chartMarksMax {
		t.Errorf("%v", n)
	}
}
