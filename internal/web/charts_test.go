package web

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
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
		{"throughput.jpg", 404, "with .svg"},
		{"throughput.png?window=20m&width=4000&height=4000", 400, "more than 2097152 pixels"},
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

// A chart is drawn as PNG too, of the size that is asked for, with a line in the theme's colour.
func TestChartPNG(t *testing.T) {
	w := newAnalysisWorld(t)
	w.run("endpoint shop GET /cart rate=1 ms=20")
	w.run("load 20m")
	r := w.chart("throughput.png?window=20m&width=500&height=200&theme=dark")
	if r.Code != http.StatusOK || r.Header().Get("Content-Type") != "image/png" {
		t.Fatalf("%d %v %s", r.Code, r.Header(), r.Body)
	}
	picture, err := png.Decode(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := picture.Bounds().Size(); got.X != 500 || got.Y != 200 {
		t.Errorf("%v", got)
	}
	line := 0
	for x := range 500 {
		for y := range 200 {
			if r, g, b, _ := picture.At(x, y).RGBA(); r>>8 == 0x60 && g>>8 == 0xa5 && b>>8 == 0xfa {
				line++
			}
		}
	}
	if line < 200 { // a level line of 20 minutes is some 400 pixels long
		t.Errorf("%d pixels have the line's colour", line)
	}
}
