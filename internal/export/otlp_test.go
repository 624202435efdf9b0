package export

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/slim/otlp/metrics/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
	perfhttp "github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

// otlpPoint is a data point with what stands around it.
type otlpPoint struct {
	resource, attributes map[string]string
	metric               *metricspb.Metric
	histogram            *metricspb.ExponentialHistogramDataPoint
	number               *metricspb.NumberDataPoint
	classic              *metricspb.HistogramDataPoint
}

func attributesOf(all []*commonpb.KeyValue) map[string]string {
	m := map[string]string{}
	for _, kv := range all {
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			m[kv.Key] = fmt.Sprintf("int:%d", v.IntValue)
		default:
			m[kv.Key] = fmt.Sprintf("%T", v)
		}
	}
	return m
}

// otlpPoints decodes a request with the official types, and fails for anything that they do not know.
func otlpPoints(t testing.TB, body []byte) (all []otlpPoint) {
	t.Helper()
	var request collectorpb.ExportMetricsServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		t.Fatal(err)
	}
	for _, r := range request.ResourceMetrics {
		if r.SchemaUrl != otlpSchema || len(r.ScopeMetrics) != 1 || r.ScopeMetrics[0].Scope.GetName() != otlpScope {
			t.Fatalf("resource %v", r)
		}
		for _, m := range r.ScopeMetrics[0].Metrics {
			p := otlpPoint{resource: attributesOf(r.Resource.Attributes), metric: m}
			switch data := m.Data.(type) {
			case *metricspb.Metric_ExponentialHistogram:
				if data.ExponentialHistogram.AggregationTemporality != metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
					t.Errorf("%s: %v", m.Name, data.ExponentialHistogram.AggregationTemporality)
				}
				for _, p.histogram = range data.ExponentialHistogram.DataPoints {
					p.attributes = attributesOf(p.histogram.Attributes)
					all = append(all, p)
				}
			case *metricspb.Metric_Sum:
				if data.Sum.AggregationTemporality != metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
					t.Errorf("%s: %v", m.Name, data.Sum.AggregationTemporality)
				}
				for _, p.number = range data.Sum.DataPoints {
					p.attributes = attributesOf(p.number.Attributes)
					all = append(all, p)
				}
			case *metricspb.Metric_Gauge:
				for _, p.number = range data.Gauge.DataPoints {
					p.attributes = attributesOf(p.number.Attributes)
					all = append(all, p)
				}
			case *metricspb.Metric_Histogram:
				if data.Histogram.AggregationTemporality != metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
					t.Errorf("%s: %v", m.Name, data.Histogram.AggregationTemporality)
				}
				for _, p.classic = range data.Histogram.DataPoints {
					p.attributes = attributesOf(p.classic.Attributes)
					all = append(all, p)
				}
			default:
				t.Fatalf("%s: %T", m.Name, data)
			}
		}
	}
	return all
}

// randomEngine has endpoints and targets of several services with random durations and sizes.
func randomEngine(c *clock, seed uint64, exchanges int) *analytics.Engine {
	e := analytics.NewEngine(analytics.Options{Now: c.now})
	r := rand.New(rand.NewPCG(seed, 1))
	for range exchanges {
		ex := exchange()
		if r.IntN(4) == 0 {
			ex = clientExchange()
			ex.Host = fmt.Appendf(nil, "h%d.example", r.IntN(3))
		}
		ex.Service, ex.Namespace = fmt.Sprintf("service-%d", r.IntN(4)), []string{"", "prod"}[r.IntN(2)]
		if ex.Name != "" {
			ex.Name = fmt.Sprintf("/r/%d", r.IntN(5))
		}
		ex.Outcome = perfhttp.Answered(wire.RoleServer, []uint16{200, 404, 500, 0}[r.IntN(4)])
		if ex.Code == 0 {
			ex.Outcome = perfhttp.CutOff(wire.ClassAborted, 0)
		}
		if ex.Read != 0 {
			ex.Read = ex.Arrived + int64(math.Exp(r.Float64()*20)) - 1 // also 0
		}
		ex.Responded = max(ex.Read, ex.Arrived) + int64(math.Exp(r.NormFloat64()*3+14))
		ex.Finished = ex.Responded + int64(math.Exp(r.Float64()*22)) - 1
		ex.ResponseSize = int64(math.Exp(r.Float64()*30)) - 1
		e.Add(ex)
	}
	e.SetActive(map[string]int64{"service-1": 3, "only-active": 0})
	return e
}

func encodeAll(t testing.TB, e *OTLPExporter) (bodies [][]byte) {
	t.Helper()
	e.pinned.snapshot = e.source.Snapshot()
	own, err := e.own.Gather()
	if err != nil {
		t.Fatal(err)
	}
	err = e.encoder.encode(e.pinned.snapshot, own, func(body []byte) error {
		bodies = append(bodies, slices.Clone(body))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bodies
}

func newExporter(t testing.TB, o OTLPOptions) *OTLPExporter {
	t.Helper()
	if o.Endpoint == "" {
		o.Endpoint = "http://otlp.example:4318/v1/metrics"
	}
	e, err := NewOTLPExporter(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// nativeBuckets spreads the spans of a native histogram: index to count.
func nativeBuckets(h *dto.Histogram) map[int]uint64 {
	all := map[int]uint64{}
	index, count, k := 0, int64(0), 0
	for _, span := range h.PositiveSpan {
		index += int(span.GetOffset())
		for range span.GetLength() {
			count += h.PositiveDelta[k]
			if count > 0 {
				all[index] = uint64(count)
			}
			index, k = index+1, k+1
		}
	}
	return all
}

// seriesKey is a series as Prometheus names it.
func seriesKey(family string, labels map[string]string) string {
	var pairs []string
	for name, value := range labels {
		pairs = append(pairs, name+"="+value)
	}
	slices.Sort(pairs)
	return family + "{" + strings.Join(pairs, ",") + "}"
}

// keyOfPoint names a data point as Prometheus names its series: by the attributes' and the resource's labels.
func keyOfPoint(t *testing.T, p otlpPoint) string {
	t.Helper()
	family := strings.NewReplacer(".", "_").Replace(p.metric.Name)
	switch p.metric.Unit {
	case "s":
		family += "_seconds"
	case "By":
		family += "_bytes"
	}
	labels := map[string]string{"service_name": p.resource["service.name"]}
	if namespace := p.resource["service.namespace"]; namespace != "" {
		labels["service_namespace"] = namespace
	}
	for name, value := range p.attributes {
		number, isNumber := strings.CutPrefix(value, "int:")
		if isNumber != (name == "http.response.status_code" || name == "server.port") {
			t.Errorf("%s: attribute %s is %q", p.metric.Name, name, value)
		}
		labels[strings.ReplaceAll(name, ".", "_")] = number
	}
	return seriesKey(family, labels)
}

// Random data: every series that /metrics has is in OTLP, and no other, with the same count, sum, zeros and buckets as
// its native histogram, however many requests it takes.
func TestOTLPEqualsNative(t *testing.T) {
	for _, c := range []struct {
		name   string
		engine func() *analytics.Engine
	}{
		{"a bit of everything", func() *analytics.Engine { return filledEngine(newClock()) }},
		{"random", func() *analytics.Engine { return randomEngine(newClock(), 1, 20_000) }},
		{"other random", func() *analytics.Engine { return randomEngine(newClock(), 2, 300) }},
		{"several requests", func() *analytics.Engine { return largeEngine(newClock()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "several requests" && testing.Short() {
				t.Skip("as many series as there may be")
			}
			engine := c.engine()
			o := collectorOptions(engine)
			points := map[string]otlpPoint{}
			bodies := encodeAll(t, newExporter(t, OTLPOptions{CollectorOptions: o, Host: "h1"}))
			for _, body := range bodies {
				if len(body) > 2*otlpBodyBytes {
					t.Errorf("a request of %d bytes", len(body))
				}
				for _, p := range otlpPoints(t, body) {
					if p.histogram == nil {
						continue
					}
					key := keyOfPoint(t, p)
					if _, twice := points[key]; twice {
						t.Errorf("%s comes twice", key)
					}
					points[key] = p
					if p.resource["host.name"] != "h1" || p.resource["service.instance.id"] != "h1" {
						t.Errorf("resource %v", p.resource)
					}
				}
			}
			if c.name == "several requests" && len(bodies) < 2 {
				t.Errorf("%d requests", len(bodies))
			}
			series := 0
			for name, family := range decode(t, scrape(t, metricsOf(t, engine, true), protoAccept)) {
				if family.GetType() != dto.MetricType_HISTOGRAM {
					continue
				}
				for _, m := range family.Metric {
					series++
					labels := map[string]string{}
					for _, l := range m.Label {
						labels[l.GetName()] = l.GetValue()
					}
					key := seriesKey(name, labels)
					p, ok := points[key]
					if !ok {
						t.Errorf("%s is not exported", key)
						continue
					}
					compareHistograms(t, key, p, m.Histogram)
				}
			}
			if series != len(points) || series == 0 {
				t.Errorf("%d series, %d data points", series, len(points))
			}
		})
	}
}

func compareHistograms(t *testing.T, key string, p otlpPoint, want *dto.Histogram) {
	t.Helper()
	got := p.histogram
	if got.Count != want.GetSampleCount() || got.GetSum() != want.GetSampleSum() || got.ZeroCount != want.GetZeroCount() ||
		got.Scale != want.GetSchema() || got.ZeroThreshold != want.GetZeroThreshold() {
		t.Errorf("%s: %v\nwant %v", key, got, want)
	}
	if created := want.CreatedTimestamp.AsTime().UnixNano(); got.StartTimeUnixNano != uint64(created) || got.TimeUnixNano < got.StartTimeUnixNano {
		t.Errorf("%s: from %d to %d, created %d", key, got.StartTimeUnixNano, got.TimeUnixNano, created)
	}
	buckets, total := map[int]uint64{}, got.ZeroCount
	for i, n := range got.Positive.GetBucketCounts() {
		if n > 0 {
			buckets[int(got.Positive.Offset)+i+1] = n
			total += n
		}
	}
	if native := nativeBuckets(want); fmt.Sprint(buckets) != fmt.Sprint(native) || total != got.Count {
		t.Errorf("%s: buckets %v, native %v, %d of %d", key, buckets, native, total, got.Count)
	}
	if got.Min == nil || got.Max == nil || got.GetMin() > got.GetMax() || got.GetMin()*float64(got.Count) > got.GetSum()*(1+1e-9) ||
		got.GetMax()*float64(got.Count) < got.GetSum()*(1-1e-9) {
		t.Errorf("%s: min %v, max %v, sum %v, count %d", key, got.GetMin(), got.GetMax(), got.GetSum(), got.Count)
	}
	if len(got.Positive.GetBucketCounts()) > 0 && (got.Positive.BucketCounts[0] == 0 || got.Positive.BucketCounts[len(got.Positive.BucketCounts)-1] == 0) {
		t.Errorf("%s: empty buckets at an end", key)
	}
}

// The agent's own counters and gauges, and the requests in progress of each service, are those of /metrics.
func TestOTLPNumbers(t *testing.T) {
	engine := filledEngine(newClock())
	o := collectorOptions(engine)
	got := map[string]float64{}
	for _, body := range encodeAll(t, newExporter(t, OTLPOptions{CollectorOptions: o, Host: "h1"})) {
		for _, p := range otlpPoints(t, body) {
			if p.number == nil {
				continue
			}
			sum := p.metric.GetSum()
			if (sum != nil) != (p.number.StartTimeUnixNano != 0) || p.number.TimeUnixNano == 0 {
				t.Errorf("%s from %d", p.metric.Name, p.number.StartTimeUnixNano)
			}
			key := strings.TrimPrefix(keyOfPoint(t, p), "") + map[bool]string{true: " grows"}[sum.GetIsMonotonic()]
			got[key] = p.number.GetAsDouble()
		}
	}
	for key, want := range map[string]float64{
		"http_server_active_requests{service_name=shop}":                                                                 2,
		"perfagent_exchanges{protocol=http/1.1,role=server,service_name=perfagent} grows":                                4,
		"perfagent_exchanges_lost{reason=queue_full,service_name=perfagent,stage=queue} grows":                           5,
		"perfagent_bpf_map_bytes{map=counters,service_name=perfagent}":                                                   4096,
		"perfagent_otlp_exports{result=success,service_name=perfagent} grows":                                            0,
		"perfagent_undecoded_connections{reason=tls,service_name=shop}":                                                  4,
		"perfagent_build_info{backend=tracepoint,goversion=go1.26,revision=abcdef,service_name=perfagent,version=1.2.3}": 1,
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s: %v %v, want %v; all: %v", key, v, ok, want, got)
		}
	}
}

// The host's metrics go the same way: gauges and counters of the sampler, and the classic histograms of what the kernel side
// saw, bucket by bucket.
func TestOTLPHost(t *testing.T) {
	o := collectorOptions(filledEngine(newClock()))
	o.Host = func() *host.Sample {
		return &host.Sample{Memory: &host.Memory{Total: 100, Available: 30}, Load: &host.Load{One: 1.5}}
	}
	latency := Latency{Bounds: []float64{0.001, 0.002}, Buckets: []uint64{5, 2, 1}, Sum: 0.25}
	o.Witness = func() *HostStats {
		return &HostStats{RunQueue: &latency, Services: []ServiceStats{{Service: "shop", RTT: latency, TCP: TCPEvents{Retransmits: 11}}}}
	}
	got := map[string]string{}
	for _, body := range encodeAll(t, newExporter(t, OTLPOptions{CollectorOptions: o, Host: "h1"})) {
		for _, p := range otlpPoints(t, body) {
			switch {
			case p.classic != nil:
				c := p.classic
				got[keyOfPoint(t, p)] = fmt.Sprint(c.Count, c.GetSum(), c.BucketCounts, c.ExplicitBounds, c.StartTimeUnixNano == 0 && c.TimeUnixNano != 0)
			case p.number != nil:
				got[keyOfPoint(t, p)] = fmt.Sprint(p.number.GetAsDouble())
			}
		}
	}
	for key, want := range map[string]string{
		"perfagent_host_memory_total_bytes{service_name=perfagent}":        "100",
		"perfagent_host_load1{service_name=perfagent}":                     "1.5",
		"perfagent_host_run_queue_latency_seconds{service_name=perfagent}": "8 0.25 [5 2 1] [0.001 0.002] true",
		"perfagent_tcp_rtt_seconds{service_name=shop}":                     "8 0.25 [5 2 1] [0.001 0.002] true",
		"perfagent_tcp_retransmits{service_name=shop}":                     "11",
	} {
		if got[key] != want {
			t.Errorf("%s: %q, want %q", key, got[key], want)
		}
	}
	if t.Failed() {
		t.Log(slices.Sorted(maps.Keys(got)))
	}
}

// Every family has the conventions' name, or one that turns into the family's again.
func TestOTLPNames(t *testing.T) {
	for _, f := range analytics.Families {
		if _, ok := otlpMetrics[f.Name]; !ok {
			t.Errorf("%s has no name in otlpMetrics", f.Name)
		}
	}
	for family, want := range map[string]otlpMetric{
		"perfagent_bpf_map_bytes":                                {"perfagent.bpf_map", "By"},
		"perfagent_exchanges_lost_total":                         {"perfagent.exchanges_lost", ""},
		"perfagent_config_last_reload_success_timestamp_seconds": {"perfagent.config_last_reload_success_timestamp", "s"},
		"http_server_active_requests":                            {"http.server.active_requests", "{request}"},
	} {
		if got := otlpMetricOf(family); got != want {
			t.Errorf("%s: %v", family, got)
		}
	}
}

// receiver is a transport that answers as it is told, in turn; the last answer is repeated.
type receiver struct {
	mu      sync.Mutex
	answers []answer
	got     []time.Time
	bodies  [][]byte
	header  http.Header
}

type answer struct {
	status     int // 0: no connection
	retryAfter string
	body       []byte
	hangs      bool // until the client gives up
}

func (r *receiver) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := unzip(request.Body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	a := r.answers[min(len(r.got), len(r.answers)-1)]
	r.got, r.bodies, r.header = append(r.got, time.Now()), append(r.bodies, body), request.Header.Clone()
	r.mu.Unlock()
	if a.hangs {
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	if a.status == 0 {
		return nil, errors.New("connection refused")
	}
	response := &http.Response{StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(a.body)), Request: request}
	response.Header.Set("Retry-After", a.retryAfter)
	response.Header.Set("Location", "/elsewhere")
	return response, nil
}

func unzip(r io.Reader) ([]byte, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func counted(e *OTLPExporter) map[string]uint64 {
	all := map[string]uint64{}
	for _, x := range e.Exports() {
		all[x.Result] = x.Count
	}
	return all
}

func partialAnswer(t *testing.T, rejected int64, message string) []byte {
	t.Helper()
	b, err := proto.Marshal(&collectorpb.ExportMetricsServiceResponse{
		PartialSuccess: &collectorpb.ExportMetricsPartialSuccess{RejectedDataPoints: rejected, ErrorMessage: message},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What the receiver answers decides what follows: when the next attempt comes, what is counted, and what is logged, once.
func TestOTLPAnswers(t *testing.T) {
	for _, c := range []struct {
		name     string
		answers  []answer
		minutes  int
		attempts [2]int // least and most
		want     map[string]uint64
		logged   []string // each exactly once
	}{
		{"taken", []answer{{status: 200}}, 3, [2]int{3, 3}, map[string]uint64{"success": 3}, nil},
		{"comes back", []answer{{status: 503}, {status: 429}, {status: 200}}, 2, [2]int{4, 4}, map[string]uint64{"success": 2},
			[]string{"status 503", "status 429", "works again"}},
		{"asks for patience", []answer{{status: 503, retryAfter: "20"}, {status: 200}}, 1, [2]int{2, 2}, map[string]uint64{"success": 1}, []string{"works again"}},
		{"asks for much patience", []answer{{status: 503, retryAfter: "150"}, {status: 200}}, 4, [2]int{2, 2}, map[string]uint64{"success": 1, "superseded": 3}, []string{"works again"}},
		{"asks with a date", []answer{{status: 503, retryAfter: "Sat, 01 Jan 2000 00:03:30 GMT"}, {status: 200}}, 4, [2]int{2, 2}, map[string]uint64{"success": 1, "superseded": 3}, nil},
		{"dead", []answer{{}}, 10, [2]int{40, 80}, map[string]uint64{"superseded": 10}, []string{"unreachable"}},
		{"hangs", []answer{{hangs: true}}, 3, [2]int{8, 15}, map[string]uint64{"superseded": 3}, []string{"unreachable"}},
		{"refuses", []answer{{status: 400, body: []byte("\x12\x05wrong")}}, 3, [2]int{3, 3}, map[string]uint64{"rejected": 3}, []string{"reason=wrong"}},
		{"too large", []answer{{status: 413}}, 2, [2]int{2, 2}, map[string]uint64{"rejected": 2}, []string{"status 413"}},
		{"redirects", []answer{{status: 302}}, 2, [2]int{2, 2}, map[string]uint64{"rejected": 2}, []string{"status 302"}},
		{"takes a part", []answer{{status: 200, body: partialAnswer(t, 7, "no room")}}, 3, [2]int{3, 3}, map[string]uint64{"partial_success": 3}, []string{"7 data points: no room"}},
		{"warns", []answer{{status: 200, body: partialAnswer(t, 0, "old version")}}, 3, [2]int{3, 3}, map[string]uint64{"success": 3}, []string{"old version"}},
		{"answers nonsense", []answer{{status: 200, body: bytes.Repeat([]byte{0xff}, 99)}}, 2, [2]int{2, 2}, map[string]uint64{"success": 2}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				r := &receiver{answers: c.answers}
				e := newExporter(t, OTLPOptions{CollectorOptions: collectorOptions(filledEngine(newClock())), Transport: r,
					Log: slog.New(slog.NewTextHandler(&log, nil))})
				ctx, cancel := context.WithCancel(t.Context())
				var done sync.WaitGroup
				done.Go(func() { e.Run(ctx) })
				time.Sleep(time.Duration(c.minutes)*time.Minute + 59*time.Second) // the bubble's time
				synctest.Wait()
				attempts := len(r.got)
				cancel()
				done.Wait()
				if last := len(r.got) - attempts; last != 1 {
					t.Errorf("%d attempts at the end", last)
				}
				got := counted(e)
				total := uint64(0)
				for result, n := range got {
					total += n
					// The one that was under way at the end, and the last one, may be either.
					if n < c.want[result] || n > c.want[result]+2 {
						t.Errorf("%s: %d, want %d", result, n, c.want[result])
					}
				}
				if total < uint64(c.minutes)+1 || total > uint64(c.minutes)+2 {
					t.Errorf("%d exports", total)
				}
				if attempts < c.attempts[0] || attempts > c.attempts[1]+8 || c.attempts[0] == c.attempts[1] && attempts != c.attempts[0] {
					t.Errorf("%d attempts: %v", attempts, r.got)
				}
				for _, text := range c.logged {
					if n := strings.Count(log.String(), text); n != 1 {
						t.Errorf("%q is logged %d times: %s", text, n, log.String())
					}
				}
				if c.logged == nil && c.name != "asks with a date" && log.Len() > 0 {
					t.Errorf("logged: %s", log.String())
				}
			})
		})
	}
}

// A pause is at least what the receiver asked for.
func TestOTLPRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answers: []answer{{status: 429, retryAfter: "17"}, {status: 200}}}
		e := newExporter(t, OTLPOptions{CollectorOptions: collectorOptions(filledEngine(newClock())), Transport: r})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		e.export(ctx, 0)
		if len(r.got) != 2 || r.got[1].Sub(r.got[0]) < 17*time.Second || r.got[1].Sub(r.got[0]) > 20*time.Second {
			t.Errorf("attempts at %v", r.got)
		}
		if !bytes.Equal(r.bodies[0], r.bodies[1]) {
			t.Error("the second attempt sends something else")
		}
	})
	for text, want := range map[string]time.Duration{"": 0, "-1": 0, "x": 0, "5": 5 * time.Second, "99999999": retryAfterMax,
		"Mon, 01 Jan 2001 00:00:00 GMT": 0, "Fri, 31 Dec 9999 23:59:59 GMT": retryAfterMax} {
		if got := retryAfter(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// Over a real connection: the path, the headers and the compression are what the specification wants, TLS is checked
// with the given file, and a page that redirects is no success.
func TestOTLPOverHTTP(t *testing.T) {
	requests := make(chan *http.Request, 10)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := unzip(r.Body)
		if err != nil || len(otlpPoints(t, body)) == 0 {
			t.Errorf("body: %v", err)
		}
		requests <- r
	})
	options := OTLPOptions{CollectorOptions: collectorOptions(filledEngine(newClock())), Header: http.Header{"Api-Key": {"s3cret"}}}
	for _, server := range []*httptest.Server{httptest.NewServer(handler), httptest.NewTLSServer(handler)} {
		defer server.Close()
		o := options
		o.Endpoint = server.URL + "/v1/metrics"
		if server.Certificate() != nil {
			o.CAFile = filepath.Join(t.TempDir(), "ca.pem")
			block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			if err := os.WriteFile(o.CAFile, block, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		e := newExporter(t, o)
		e.export(t.Context(), 1)
		e.client.CloseIdleConnections()
		if got := counted(e); got["success"] != 1 {
			t.Fatalf("%v", got)
		}
		r := <-requests
		if r.Method != http.MethodPost || r.URL.Path != "/v1/metrics" || r.Header.Get("Content-Type") != "application/x-protobuf" ||
			r.Header.Get("Api-Key") != "s3cret" || r.Header.Get("User-Agent") != "perfagent/1.2.3" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		if server.Certificate() != nil { // without the file it is nobody's certificate
			o.CAFile = ""
			e := newExporter(t, o)
			e.export(t.Context(), 1)
			if got := counted(e); got["superseded"] != 1 {
				t.Errorf("an unknown certificate: %v", got)
			}
		}
	}
	options.CAFile = filepath.Join(t.TempDir(), "none.pem")
	if _, err := NewOTLPExporter(options); err == nil {
		t.Error("a CA file that is missing is accepted")
	}
	if err := os.WriteFile(options.CAFile, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewOTLPExporter(options); err == nil {
		t.Error("a CA file without certificates is accepted")
	}
}

// What is logged of an endpoint holds no credentials.
func TestOTLPLogsNoSecrets(t *testing.T) {
	var log bytes.Buffer
	e := newExporter(t, OTLPOptions{CollectorOptions: collectorOptions(filledEngine(newClock())), Endpoint: "http://user:s3cret@127.0.0.1:1/v1/metrics?key=s3cret",
		Header: http.Header{"Api-Key": {"s3cret"}}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	e.export(t.Context(), 1)
	if text := log.String(); strings.Contains(text, "s3cret") || !strings.Contains(text, "http://127.0.0.1:1/v1/metrics") {
		t.Errorf("logged: %s", text)
	}
}

// An exporter whose receiver hangs holds nobody up: exchanges are counted and scrapes answered meanwhile, and it ends
// within its time.
func TestOTLPHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := analytics.NewEngine(analytics.Options{})
		engine.Add(exchange())
		e := newExporter(t, OTLPOptions{CollectorOptions: collectorOptions(engine), Transport: &receiver{answers: []answer{{hangs: true}}}})
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { e.Run(ctx) })
		time.Sleep(e.interval + time.Second)
		synctest.Wait() // it is inside the attempt
		before := time.Now()
		for range 1000 {
			engine.Add(exchange())
		}
		o := collectorOptions(engine)
		o.Exports = e.Exports
		m, err := NewMetrics(MetricsOptions{CollectorOptions: o, WithoutRuntime: true})
		if err != nil {
			t.Fatal(err)
		}
		if text := scrape(t, m, "").Body.String(); !strings.Contains(text, `perfagent_otlp_exports_total{result="superseded"} 0`) {
			t.Error("the exports are not counted")
		}
		if waited := time.Since(before); waited != 0 {
			t.Errorf("held up for %v", waited)
		}
		cancel()
		done.Wait()
		if took := time.Since(before); took > otlpFlushTimeout {
			t.Errorf("it took %v to end", took)
		}
	})
}

// Answers are read as the official types read them, and any bytes are survived, cut anywhere.
func FuzzOTLPAnswer(f *testing.F) {
	whole, err := proto.Marshal(&collectorpb.ExportMetricsServiceResponse{
		PartialSuccess: &collectorpb.ExportMetricsPartialSuccess{RejectedDataPoints: 300, ErrorMessage: "too old"}})
	if err != nil {
		f.Fatal(err)
	}
	for i := range len(whole) + 1 {
		f.Add(whole[:i])
	}
	f.Add(protowire.AppendFixed32(protowire.AppendTag(nil, 1, protowire.Fixed32Type), 5))
	f.Fuzz(func(t *testing.T, b []byte) {
		rejected, message := parsePartialSuccess(b)
		if rejected < 0 || len(message) > len(b) {
			t.Fatalf("%d %q", rejected, message)
		}
		parseStatusMessage(b)
		var want collectorpb.ExportMetricsServiceResponse
		if proto.Unmarshal(b, &want) != nil || bytes.Count(b, []byte{0x0a}) > 1 {
			return // no message, or maybe one with parts that the official types merge
		}
		if p := want.PartialSuccess; max(p.GetRejectedDataPoints(), 0) != rejected || p.GetErrorMessage() != message {
			t.Errorf("%x: %d %q, want %v", b, rejected, message, p)
		}
	})
}

// The encoder's messages are valid for any names.
func FuzzOTLPEncoder(f *testing.F) {
	f.Add("shop", "prod", "/items/{id}", int64(5))
	f.Add("", "", "", int64(0))
	f.Add("\xff\x00", "a\nb", "\"", int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, service, namespace, route string, duration int64) {
		engine := analytics.NewEngine(analytics.Options{})
		ex := exchange()
		ex.Service, ex.Namespace, ex.Name = service, namespace, route
		ex.Finished = ex.Responded + max(duration, 0)/2
		engine.Add(ex)
		engine.SetActive(map[string]int64{service: 1})
		var count uint64
		for _, body := range encodeAll(t, newExporter(t, OTLPOptions{CollectorOptions: collectorOptions(engine), Host: route})) {
			for _, p := range otlpPoints(t, body) {
				if p.metric.Name == "http.server.request.duration" {
					count += p.histogram.Count
				}
			}
		}
		if count != 1 {
			t.Errorf("%d exchanges", count)
		}
	})
}

// An export that failed in its middle leaves nothing behind for the next one.
func TestOTLPAfterFailure(t *testing.T) {
	if testing.Short() {
		t.Skip("as many series as there may be")
	}
	r := &receiver{answers: []answer{{status: 200}, {status: 400}, {status: 200}}}
	e := newExporter(t, OTLPOptions{CollectorOptions: collectorOptions(largeEngine(newClock())), Transport: r})
	e.export(t.Context(), 1)
	e.export(t.Context(), 1)
	if got := counted(e); got["rejected"] != 1 || got["success"] != 1 || len(r.bodies) < 5 {
		t.Fatalf("%v, %d requests", got, len(r.bodies))
	}
	seen := map[string]bool{}
	for _, body := range r.bodies[2:] {
		for _, p := range otlpPoints(t, body) {
			key := keyOfPoint(t, p)
			if seen[key] {
				t.Fatalf("%s comes twice", key)
			}
			seen[key] = true
		}
	}
	if len(seen) < 12_000 { // six histograms of each endpoint
		t.Errorf("%d series", len(seen))
	}
}

// A snapshot of 2,000 endpoints takes the memory of one request.
func TestOTLPMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("as many series as there may be")
	}
	r := &receiver{answers: []answer{{status: 200}}}
	e := newExporter(t, OTLPOptions{CollectorOptions: collectorOptions(largeEngine(newClock())), Transport: r})
	e.export(t.Context(), 1)
	held := cap(e.encoder.body) + cap(e.encoder.metrics) + e.zipped.Cap()
	for _, p := range e.encoder.points {
		held += cap(p)
	}
	t.Logf("%d requests, %d KiB held", len(r.got), held>>10)
	if len(r.got) < 2 || held > 8<<20 {
		t.Errorf("%d requests, %d bytes held", len(r.got), held)
	}
}

func BenchmarkOTLPEncode(b *testing.B) {
	e := newExporter(b, OTLPOptions{CollectorOptions: collectorOptions(largeEngine(newClock()))})
	s := e.source.Snapshot()
	size := 0
	b.ReportAllocs()
	for b.Loop() {
		size = 0
		if err := e.encoder.encode(s, nil, func(body []byte) error { size += len(body); return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(size), "B/export")
}

// What an export of 2,000 endpoints costs, taken by the receiver or not: of one that is dead only the first request is
// laid out.
func BenchmarkOTLPExport(b *testing.B) {
	for name, status := range map[string]int{"taken": 200, "dead": 0} {
		b.Run(name, func(b *testing.B) {
			e := newExporter(b, OTLPOptions{CollectorOptions: collectorOptions(largeEngine(newClock())), Transport: answers(status)})
			b.ReportAllocs()
			for b.Loop() {
				e.export(b.Context(), 1)
			}
		})
	}
}

// answers is a transport that answers with the status; 0: there is no connection.
type answers int

func (a answers) RoundTrip(request *http.Request) (*http.Response, error) {
	if a == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: int(a), Header: http.Header{}, Body: http.NoBody, Request: request}, nil
}
