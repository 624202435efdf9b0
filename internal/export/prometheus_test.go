package export

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"

	"github.com/perfagent/perfagent/internal/analytics"
)

const protoAccept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"

func metricsOf(t testing.TB, s Source, withoutRuntime bool) *Metrics {
	t.Helper()
	m, err := NewMetrics(MetricsOptions{CollectorOptions: collectorOptions(s), WithoutRuntime: withoutRuntime})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func scrape(t testing.TB, m *Metrics, accept string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	if err := m.Scrape(w, r); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d: %s, %v", w.Code, w.Body, err)
	}
	return w
}

// The text of /metrics is exactly the golden file. UPDATE_GOLDEN=1 writes it anew.
func TestMetricsGolden(t *testing.T) {
	for file, accept := range map[string]string{
		"metrics.txt":         "",
		"metrics_openmetrics": "application/openmetrics-text;version=1.0.0",
	} {
		got := scrape(t, metricsOf(t, filledEngine(newClock()), true), accept).Body.Bytes()
		name := "testdata/" + file
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(name, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs:\n%s", file, got)
		}
	}
}

// The linters of Prometheus have nothing to say: client_golang's, and promtool where it is installed.
func TestMetricsLint(t *testing.T) {
	e := filledEngine(newClock())
	problems, err := testutil.CollectAndLint(NewCollector(collectorOptions(e)))
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	text := scrape(t, metricsOf(t, e, false), "").Body.Bytes()
	problems, err = promlint.New(bytes.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed")
	}
	c := exec.Command(promtool, "check", "metrics")
	c.Stdin = bytes.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

func decode(t testing.TB, w *httptest.ResponseRecorder) map[string]*dto.MetricFamily {
	t.Helper()
	d := expfmt.NewDecoder(w.Body, expfmt.ResponseFormat(w.Header()))
	all := map[string]*dto.MetricFamily{}
	for {
		f := &dto.MetricFamily{}
		err := d.Decode(f)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if all[f.GetName()] != nil {
			t.Fatalf("%s comes twice", f.GetName())
		}
		all[f.GetName()] = f
	}
}

// What is streamed equals what a registry gathers from the collector, in protobuf to the last field, whichever histograms have
// classic buckets.
func TestMetricsStreamEqualsGather(t *testing.T) {
	for _, name := range ClassicNames {
		t.Run(name, func(t *testing.T) {
			e := filledEngine(newClock())
			o := collectorOptions(e)
			var err error
			if o.Classic, err = ParseClassic(name); err != nil {
				t.Fatal(err)
			}
			registry := prometheus.NewRegistry()
			registry.MustRegister(NewCollector(o))
			gathered, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			m, err := NewMetrics(MetricsOptions{CollectorOptions: o, WithoutRuntime: true})
			if err != nil {
				t.Fatal(err)
			}
			compareFamilies(t, decode(t, scrape(t, m, protoAccept)), gathered)
			compareText(t, e.Snapshot(), o.Classic)
			// The text stream parses, and has each family once.
			text := scrape(t, m, "").Body.Bytes()
			parser := expfmt.NewTextParser(model.UTF8Validation)
			families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
			if err != nil || len(families) != len(gathered) {
				t.Errorf("%d families in text, %v", len(families), err)
			}
		})
	}
}

func compareFamilies(t *testing.T, streamed map[string]*dto.MetricFamily, gathered []*dto.MetricFamily) {
	t.Helper()
	if len(streamed) != len(gathered) {
		t.Errorf("%d families streamed, %d gathered", len(streamed), len(gathered))
	}
	key := func(m *dto.Metric) string { return fmt.Sprint(m.Label) }
	for _, want := range gathered {
		got := streamed[want.GetName()]
		if got == nil {
			t.Errorf("%s is not streamed", want.GetName())
			continue
		}
		for _, f := range []*dto.MetricFamily{got, want} {
			slices.SortFunc(f.Metric, func(a, b *dto.Metric) int { return strings.Compare(key(a), key(b)) })
			for _, m := range f.Metric {
				if !slices.IsSortedFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) }) {
					t.Errorf("%s: labels out of order: %v", want.GetName(), m.Label)
				}
			}
		}
		if !proto.Equal(got, want) {
			t.Errorf("%s:\n%v\nwant\n%v", want.GetName(), got, want)
		}
	}
}

// compareText tells whether the text is, byte for byte, what expfmt makes of the messages; of a histogram without buckets it
// is a summary.
func compareText(t *testing.T, s *analytics.Snapshot, classic Classic) {
	t.Helper()
	for _, format := range []expfmt.Format{expfmt.FmtText, expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1} {
		var got, want bytes.Buffer
		encoder := expfmt.NewEncoder(&want, format)
		for _, f := range analytics.Families {
			var p projection
			var all []*dto.Metric
			f.EachOf(s, func(l *analytics.Labels, h *analytics.Histogram, created time.Time) {
				m := proto.Clone(p.fill(l, h, created, classic.has(&f))).(*dto.Metric)
				if !classic.has(&f) {
					m.Summary = &dto.Summary{SampleCount: m.Histogram.SampleCount, SampleSum: m.Histogram.SampleSum}
					m.Histogram = nil
				}
				all = append(all, m)
			})
			family := message(&f, all...)
			if !classic.has(&f) {
				family.Type = dto.MetricType_SUMMARY.Enum()
			}
			if err := encoder.Encode(family); err != nil {
				t.Fatal(err)
			}
		}
		_ = encoder.(expfmt.Closer).Close()
		if err := writeMetrics(&got, format, nil, s, classic); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%s: %v\n%s\nwant\n%s", format, err, got.String(), want.String())
		}
	}
}

// By default durations alone have classic buckets. What phases and sizes sum up to is there all the same, and their native
// histograms are as they would be beside classic ones.
func TestClassicHistograms(t *testing.T) {
	e := filledEngine(newClock())
	byName := map[string]map[string]*dto.MetricFamily{}
	for _, name := range ClassicNames {
		o := collectorOptions(e)
		o.Classic, _ = ParseClassic(name)
		m, err := NewMetrics(MetricsOptions{CollectorOptions: o, WithoutRuntime: true})
		if err != nil {
			t.Fatal(err)
		}
		byName[name] = decode(t, scrape(t, m, protoAccept))
		text := scrape(t, m, "").Body.String()
		for metric, want := range map[string]bool{
			"http_server_request_duration_seconds":         name != "none",
			"http_client_request_duration_seconds":         name != "none",
			"perfagent_http_server_phase_duration_seconds": name == "all",
			"http_server_response_body_size_bytes":         name == "all",
		} {
			buckets, sums := strings.Contains(text, "\n"+metric+"_bucket{"), strings.Contains(text, "\n"+metric+"_sum{")
			if buckets != want || !sums || !strings.Contains(text, "\n"+metric+"_count{") {
				t.Errorf("%s: %s has buckets: %v, and a sum: %v", name, metric, buckets, sums)
			}
		}
	}
	for _, f := range analytics.Families {
		want := byName["all"][f.Name]
		for _, m := range want.Metric {
			m.Histogram.Bucket = nil
		}
		if got := byName["none"][f.Name]; len(want.Metric) == 0 || !proto.Equal(got, want) {
			t.Errorf("%v\nwant\n%v", got, want)
		}
	}
	if collectorOptions(e).Classic.String() != "durations" {
		t.Error("the default is another one")
	}
	if _, err := ParseClassic("some"); err == nil {
		t.Error("no error")
	}
}

// Native and classic buckets equal those that client_golang's own histogram makes of the same observations in seconds:
// no value lies in another bucket.
func TestNativeEqualsClientGolang(t *testing.T) {
	oracle := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "x", Help: "x", Buckets: analytics.DurationBounds, NativeHistogramBucketFactor: 1.022, // schema 5
	})
	var h analytics.Histogram
	r := rand.New(rand.NewPCG(1, 2))
	add := func(ns int64) {
		h.Add(ns)
		oracle.Observe(float64(ns) / 1e9)
	}
	for range 100_000 {
		add(int64(math.Exp(r.NormFloat64()*4 + 14)))
	}
	for _, b := range analytics.DurationBounds {
		for d := int64(-1); d <= 1; d++ {
			add(int64(math.Round(b*1e9)) + d)
		}
	}
	for ns := range int64(3000) {
		add(ns)
	}
	var want dto.Metric
	if err := oracle.Write(&want); err != nil {
		t.Fatal(err)
	}
	var p projection
	got := p.fill(&analytics.Labels{}, &h, time.Unix(0, 0), true)
	got.Histogram.CreatedTimestamp, want.Histogram.CreatedTimestamp = nil, nil
	if math.Abs(got.Histogram.GetSampleSum()-want.Histogram.GetSampleSum()) > 1e-6*want.Histogram.GetSampleSum() {
		t.Errorf("sum %v, want %v", got.Histogram.GetSampleSum(), want.Histogram.GetSampleSum())
	}
	want.Histogram.SampleSum = got.Histogram.SampleSum // the oracle adds floats
	if !proto.Equal(got.Histogram, want.Histogram) {
		t.Errorf("%v\nwant\n%v", got.Histogram, want.Histogram)
	}
	if len(got.Histogram.PositiveSpan) < 2 {
		t.Error("the test has no gap")
	}
}

// Reusing the room of one series for the next leaves nothing of the former.
func TestProjectionReuse(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var reused projection
	for i := range 50 {
		h := analytics.NewHistogram(analytics.Unit(i % 2))
		for range r.IntN(200) {
			h.Add(int64(math.Exp(r.Float64() * 30)))
		}
		var l analytics.Labels
		for k := range r.IntN(5) {
			l.Add(fmt.Sprintf("l%d", k), fmt.Sprint(r.IntN(100)))
		}
		var fresh projection
		classic := r.IntN(2) == 0
		got, want := reused.fill(&l, &h, time.Unix(int64(i), 5), classic), fresh.fill(&l, &h, time.Unix(int64(i), 5), classic)
		if !proto.Equal(got, want) {
			t.Fatalf("%v\nwant\n%v", got, want)
		}
	}
}

// Compression and HEAD are answered as they should be.
func TestScrape(t *testing.T) {
	m := metricsOf(t, filledEngine(newClock()), true)
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept-Encoding", "deflate, gzip;q=0.5")
	w := httptest.NewRecorder()
	if err := m.Scrape(w, r); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := io.ReadAll(z)
	if err != nil || !bytes.Equal(unzipped, scrape(t, m, "").Body.Bytes()) {
		t.Errorf("gzip: %v, %d bytes", err, len(unzipped))
	}
	w = httptest.NewRecorder()
	if err := m.Scrape(w, httptest.NewRequest(http.MethodHead, "/metrics", nil)); err != nil || w.Code != http.StatusOK || w.Body.Len() > 0 {
		t.Errorf("HEAD: %d, %d bytes, %v", w.Code, w.Body.Len(), err)
	}
}

// A configuration that was not applied shows, with the time of the last one that was.
func TestReloadStatus(t *testing.T) {
	o := collectorOptions(filledEngine(newClock()))
	o.Reload = func() (bool, time.Time) { return false, time.Unix(1_700_000_000, 500_000_000) }
	m, err := NewMetrics(MetricsOptions{CollectorOptions: o, WithoutRuntime: true})
	if err != nil {
		t.Fatal(err)
	}
	text := scrape(t, m, "").Body.String()
	for _, line := range []string{"perfagent_config_last_reload_successful 0\n", "perfagent_config_last_reload_success_timestamp_seconds 1.7000000005e+09\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q", line)
		}
	}
}

// largeEngine has 2,000 endpoints after 500 exchanges each.
func largeEngine(c *clock) *analytics.Engine {
	e := analytics.NewEngine(analytics.Options{Now: c.now})
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 2000 {
		ex := exchange()
		ex.Name = fmt.Sprintf("/api/v1/things/%d/{id}", i)
		for range 500 {
			ex.Read = ex.Arrived + int64(math.Exp(r.NormFloat64()*.8+10))
			ex.Responded = ex.Read + int64(math.Exp(r.NormFloat64()*.8+14))
			ex.Finished = ex.Responded + int64(math.Exp(r.NormFloat64()*.8+10))
			ex.ResponseSize = int64(math.Exp(r.NormFloat64() + 8))
			e.Add(ex)
		}
	}
	return e
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// Scraping 2,000 endpoints needs the memory of few.
func TestScrapeMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("as many series as there may be")
	}
	m := metricsOf(t, largeEngine(newClock()), true)
	for _, accept := range []string{"", protoAccept} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("Accept", accept)
		_ = m.Scrape(&discard{http.Header{}}, r) // makes the snapshot
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		if err := m.Scrape(&discard{http.Header{}}, r); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		t.Logf("%q: %d KiB allocated", accept, allocated>>10)
		if allocated > 32<<20 {
			t.Errorf("%q: %d bytes allocated by one scrape", accept, allocated)
		}
	}
}

// BenchmarkScrape also prints how many samples a scrape of 2,000 endpoints has, each with one status.
func BenchmarkScrape(b *testing.B) {
	m := metricsOf(b, largeEngine(newClock()), true)
	for name, accept := range map[string]string{"text": "", "text-gzip": "", "protobuf": protoAccept, "protobuf-gzip": protoAccept} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			r.Header.Set("Accept", accept)
			if strings.HasSuffix(name, "gzip") {
				r.Header.Set("Accept-Encoding", "gzip")
			}
			b.ReportAllocs()
			for b.Loop() {
				_ = m.Scrape(&discard{http.Header{}}, r)
			}
			b.ReportMetric(float64(seriesOf(b, m, accept)), "samples/scrape")
		})
	}
}

// seriesOf returns how many series a scrape in the format brings: of a native histogram, that is one.
func seriesOf(b *testing.B, m *Metrics, accept string) (n int) {
	b.Helper()
	w := scrape(b, m, accept)
	if accept == "" {
		for line := range strings.Lines(w.Body.String()) {
			if line[0] != '#' {
				n++
			}
		}
		return n
	}
	for _, f := range decode(b, w) {
		for _, metric := range f.Metric {
			n++
			if h := metric.Histogram; h != nil && h.Schema == nil {
				n += len(h.Bucket) + 2
			}
		}
	}
	return n
}
