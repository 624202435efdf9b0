package export

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/perfagent/perfagent/internal/analytics"
)

const (
	// otlpScope names who made the metrics.
	otlpScope = "github.com/perfagent/perfagent"
	// otlpSchema is the version of the semantic conventions that names follow.
	otlpSchema = "https://opentelemetry.io/schemas/1.44.0"
	// otlpBodyBytes is the size at which a request is sent and the next one begins: memory stays that of one request, and
	// receivers bound what they take (the Collector 20 MiB). One endpoint of the largest kind adds at most half as much.
	otlpBodyBytes = 1 << 20
	// otlpCumulative is AggregationTemporality's value for counts since the start.
	otlpCumulative = 2
	// otlpAgentService is the service.name of the agent's own metrics.
	otlpAgentService = "perfagent"
	// otlpUnknownService is what the conventions want where a service has no name.
	otlpUnknownService = "unknown_service"
)

// otlpMetric is a metric's name in the semantic conventions, and its unit.
type otlpMetric struct{ name, unit string }

// otlpMetrics are the conventions' names of the Prometheus families: their dots cannot be told from the underscores.
var otlpMetrics = map[string]otlpMetric{
	"http_server_request_duration_seconds":         {"http.server.request.duration", "s"},
	"http_client_request_duration_seconds":         {"http.client.request.duration", "s"},
	"http_server_request_body_size_bytes":          {"http.server.request.body.size", "By"},
	"http_server_response_body_size_bytes":         {"http.server.response.body.size", "By"},
	"http_server_active_requests":                  {"http.server.active_requests", "{request}"},
	"rpc_server_call_duration_seconds":             {"rpc.server.call.duration", "s"},
	"rpc_client_call_duration_seconds":             {"rpc.client.call.duration", "s"},
	"db_client_operation_duration_seconds":         {"db.client.operation.duration", "s"},
	"perfagent_http_server_phase_duration_seconds": {"perfagent.http.server.phase.duration", "s"},
	"perfagent_tcp_rtt_seconds":                    {"perfagent.tcp.rtt", "s"},
	"perfagent_tcp_connect_duration_seconds":       {"perfagent.tcp.connect.duration", "s"},
}

// otlpMetricOf derives the name of a metric that the conventions do not know, so that the translation to Prometheus
// gives the family's name again: perfagent_bpf_map_bytes is perfagent.bpf_map in By.
func otlpMetricOf(family string) otlpMetric {
	if m, ok := otlpMetrics[family]; ok {
		return m
	}
	m := otlpMetric{name: strings.TrimSuffix(family, "_total")}
	for suffix, unit := range map[string]string{"_seconds": "s", "_bytes": "By"} {
		if rest, ok := strings.CutSuffix(m.name, suffix); ok {
			m = otlpMetric{rest, unit}
		}
	}
	m.name = strings.Replace(m.name, "_", ".", 1)
	return m
}

// otlpAttributes are the conventions' names of the labels; labels that are not here keep theirs.
var otlpAttributes = map[string]string{
	"db_operation_name": "db.operation.name", "db_query_summary": "db.query.summary", "db_system_name": "db.system.name",
	"error_type": "error.type", "http_request_method": "http.request.method",
	"http_response_status_code": "http.response.status_code", "http_route": "http.route",
	"network_protocol_version": "network.protocol.version", "rpc_method": "rpc.method",
	"rpc_response_status_code": "rpc.response.status_code", "rpc_system_name": "rpc.system.name",
	"server_address": "server.address", "server_port": "server.port", "service_name": "service.name",
	"service_namespace": "service.namespace", "url_scheme": "url.scheme",
}

// isOTLPInteger tells which labels are numbers in the conventions.
func isOTLPInteger(name string) bool {
	return name == "http_response_status_code" || name == "server_port"
}

// serviceView is one service's part of a snapshot.
type serviceView struct {
	namespace, name string
	part            analytics.Snapshot // Endpoints and Targets of the service alone
	active          int64
	hasActive       bool
}

// serviceViews splits a snapshot by service, in the order of their names. The views share the snapshot's memory.
func serviceViews(s *analytics.Snapshot) []*serviceView {
	type key struct{ namespace, name string }
	byKey := map[key]*serviceView{}
	view := func(namespace, name string) *serviceView {
		v := byKey[key{namespace, name}]
		if v == nil {
			v = &serviceView{namespace: namespace, name: name}
			byKey[key{namespace, name}] = v
		}
		return v
	}
	for i := 0; i < len(s.Endpoints); {
		first, from := s.Endpoints[i], i
		for i++; i < len(s.Endpoints) && s.Endpoints[i].Namespace == first.Namespace && s.Endpoints[i].Service == first.Service; i++ {
		}
		view(first.Namespace, first.Service).part.Endpoints = s.Endpoints[from:i]
	}
	for i := 0; i < len(s.Targets); {
		first, from := s.Targets[i], i
		for i++; i < len(s.Targets) && s.Targets[i].Namespace == first.Namespace && s.Targets[i].Service == first.Service; i++ {
		}
		view(first.Namespace, first.Service).part.Targets = s.Targets[from:i]
	}
	for name, n := range s.Active {
		v := view("", name)
		v.active, v.hasActive = n, true
	}
	all := make([]*serviceView, 0, len(byKey))
	for _, v := range byKey {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *serviceView) int {
		return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
	})
	return all
}

// otlpEncoder lays out snapshots as OTLP's ExportMetricsServiceRequest. It writes the wire format itself: messages of
// the generated types would hold all series of all services at once, and add half a megabyte to the program.
//
//	request      resource_metrics…                                 a service, and the agent itself
//	  resource   attributes: service.name, service.namespace, service.instance.id, host.name
//	  scope      metrics…                                          a family of series
//	    metric   name, description, unit, data points…             a series each
//
// Points are collected by metric while the endpoints of a service are gone through; then what is around them follows.
type otlpEncoder struct {
	host, version string
	start         time.Time // of the agent: counters that have no start of their own count from here

	now     time.Time // of the snapshot
	body    []byte    // finished resources
	points  [][]byte  // data points by histogram family
	metrics []byte    // finished metrics of the resource under way
	counts  []uint64
}

// encode calls send with one request after the other, until all of the snapshot was sent or send fails. The bytes are
// valid during the call. What is sent is a finished body, so nothing of a snapshot is left behind where send failed.
func (e *otlpEncoder) encode(s *analytics.Snapshot, own []*dto.MetricFamily, send func(body []byte) error) error {
	e.now, e.body = s.Time, e.body[:0]
	if e.points == nil {
		e.points = make([][]byte, len(analytics.Families))
	}
	e.addAgent(own)
	for _, v := range serviceViews(s) {
		if err := e.addService(v, send); err != nil {
			return err
		}
	}
	return send(e.body)
}

// addService lays out one service, in several requests where it is large.
func (e *otlpEncoder) addService(v *serviceView, send func([]byte) error) error {
	if v.hasActive {
		e.addActive(v.active)
	}
	sendIfFull := func() error {
		if len(e.body)+e.pending() < otlpBodyBytes {
			return nil
		}
		e.finishService(v)
		err := send(e.body)
		e.body = e.body[:0]
		return err
	}
	one := analytics.Snapshot{Time: e.now}
	for i := range v.part.Endpoints {
		one.Endpoints = v.part.Endpoints[i : i+1]
		e.addSeries(&one)
		if err := sendIfFull(); err != nil {
			return err
		}
	}
	one.Endpoints = nil
	for i := range v.part.Targets {
		one.Targets = v.part.Targets[i : i+1]
		e.addSeries(&one)
		if err := sendIfFull(); err != nil {
			return err
		}
	}
	e.finishService(v)
	return nil
}

// pending is the size of what is laid out and not yet in the body.
func (e *otlpEncoder) pending() int {
	n := len(e.metrics)
	for _, p := range e.points {
		n += len(p)
	}
	return n
}

// addSeries lays out the data points of all histograms of a part of a snapshot.
func (e *otlpEncoder) addSeries(s *analytics.Snapshot) {
	for i, f := range analytics.Families {
		f.EachOf(s, func(l *analytics.Labels, h *analytics.Histogram, created time.Time) {
			e.points[i] = nest(e.points[i], 1, func(b []byte) []byte { return e.appendPoint(b, l, h, created) })
		})
	}
}

// appendPoint lays out an ExponentialHistogramDataPoint. Its scale is the histogram's schema, and bucket i holds the
// values up to 2^((i+1)/32), which Prometheus counts as i+1.
func (e *otlpEncoder) appendPoint(b []byte, l *analytics.Labels, h *analytics.Histogram, created time.Time) []byte {
	for _, pair := range l.All() {
		if pair.Name != "service_name" && pair.Name != "service_namespace" { // they are the resource's
			b = appendLabel(b, 1, pair.Name, pair.Value)
		}
	}
	b = appendFixed(b, 2, nanoseconds(created))
	b = appendFixed(b, 3, nanoseconds(e.now))
	b = appendFixed(b, 4, h.Count())
	b = appendDouble(b, 5, h.Sum())
	b = appendVarint(b, 6, protowire.EncodeZigZag(analytics.Schema))
	b = appendFixed(b, 7, h.Zeros())
	b = nest(b, 8, func(b []byte) []byte { return e.appendBuckets(b, h) })
	perUnit := 1.
	if h.Unit() == analytics.Nanoseconds {
		perUnit = 1e9
	}
	b = appendDouble(b, 12, float64(h.Min())/perUnit)
	b = appendDouble(b, 13, float64(h.Max())/perUnit)
	return appendDouble(b, 14, prometheus.DefNativeHistogramZeroThreshold)
}

// appendBuckets lays out the counts from the first to the last bucket that is not empty; a histogram without any has no
// offset either.
func (e *otlpEncoder) appendBuckets(b []byte, h *analytics.Histogram) []byte {
	first := 0
	e.counts = e.counts[:0]
	for index, n := range h.Native() {
		if len(e.counts) == 0 {
			first = index
		}
		for len(e.counts) < index-first {
			e.counts = append(e.counts, 0)
		}
		e.counts = append(e.counts, n)
	}
	if len(e.counts) == 0 {
		return b
	}
	b = appendVarint(b, 1, protowire.EncodeZigZag(int64(first-1)))
	return nest(b, 2, func(b []byte) []byte {
		for _, n := range e.counts {
			b = binary.AppendUvarint(b, n)
		}
		return b
	})
}

// addActive lays out the number of requests in progress, which goes up and down.
func (e *otlpEncoder) addActive(n int64) {
	m := otlpMetrics["http_server_active_requests"]
	e.metrics = nest(e.metrics, 2, func(b []byte) []byte {
		b = appendMetricHead(b, m, "HTTP requests that servers are working on.")
		return nest(b, 7, func(b []byte) []byte {
			b = nest(b, 1, func(b []byte) []byte { return e.appendNumber(b, nil, float64(n), true) })
			return appendVarint(b, 2, otlpCumulative)
		})
	})
}

// finishService moves what was laid out of a service to the body. Nothing is left where there was nothing.
func (e *otlpEncoder) finishService(v *serviceView) {
	for i, f := range analytics.Families {
		points := e.points[i]
		if len(points) == 0 {
			continue
		}
		e.metrics = nest(e.metrics, 2, func(b []byte) []byte {
			b = appendMetricHead(b, otlpMetricOf(f.Name), f.Help)
			return nest(b, 10, func(b []byte) []byte { return appendVarint(append(b, points...), 2, otlpCumulative) })
		})
		e.points[i] = points[:0]
	}
	name := v.name
	if name == "" {
		name = otlpUnknownService
	}
	e.finishResource(v.namespace, name, "")
}

// addAgent lays out what is no service's as metrics of the agent: its own, the host's, and the levels of endpoints.
func (e *otlpEncoder) addAgent(families []*dto.MetricFamily) {
	for _, f := range families {
		if f.GetName() == "http_server_active_requests" {
			continue // that one is each service's own
		}
		e.metrics = nest(e.metrics, 2, func(b []byte) []byte {
			b = appendMetricHead(b, otlpMetricOf(f.GetName()), f.GetHelp())
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				return nest(b, 7, func(b []byte) []byte {
					b = appendVarint(e.appendNumbers(b, f, beganWithAgent(f.GetName())), 2, otlpCumulative)
					return appendVarint(b, 3, 1) // it only grows
				})
			case dto.MetricType_HISTOGRAM:
				return nest(b, 9, func(b []byte) []byte { return appendVarint(e.appendClassic(b, f), 2, otlpCumulative) })
			}
			return nest(b, 5, func(b []byte) []byte { return e.appendNumbers(b, f, false) })
		})
	}
	e.finishResource("", otlpAgentService, e.version)
}

// beganWithAgent tells which counters are 0 when the agent starts. The kernel's have counted since it booted, those of a service
// since it was first seen: they have no start time, which says that it is not known.
func beganWithAgent(family string) bool {
	for _, prefix := range [...]string{"perfagent_host_", "perfagent_service_", "perfagent_tcp_", "perfagent_process_"} {
		if strings.HasPrefix(family, prefix) {
			return false
		}
	}
	return true
}

// appendClassic lays out classic histograms as HistogramDataPoints, whose buckets are counted each for itself, with one for
// what is above the last bound.
func (e *otlpEncoder) appendClassic(b []byte, f *dto.MetricFamily) []byte {
	for _, m := range f.Metric {
		h := m.GetHistogram()
		b = nest(b, 1, func(b []byte) []byte {
			b = appendFixed(b, 3, nanoseconds(e.now)) // since when is not known: see beganWithAgent
			b = protowire.AppendTag(b, 4, protowire.Fixed64Type)
			b = protowire.AppendFixed64(b, h.GetSampleCount())
			b = protowire.AppendTag(b, 5, protowire.Fixed64Type)
			b = protowire.AppendFixed64(b, math.Float64bits(h.GetSampleSum()))
			counts, bounds := []byte(nil), []byte(nil)
			before := uint64(0)
			for _, bucket := range h.Bucket {
				if math.IsInf(bucket.GetUpperBound(), 1) {
					continue
				}
				counts = protowire.AppendFixed64(counts, bucket.GetCumulativeCount()-before)
				bounds = protowire.AppendFixed64(bounds, math.Float64bits(bucket.GetUpperBound()))
				before = bucket.GetCumulativeCount()
			}
			counts = protowire.AppendFixed64(counts, h.GetSampleCount()-before)
			b = protowire.AppendBytes(protowire.AppendTag(b, 6, protowire.BytesType), counts)
			b = protowire.AppendBytes(protowire.AppendTag(b, 7, protowire.BytesType), bounds)
			for _, l := range m.Label {
				if l.GetValue() != "" {
					b = appendLabel(b, 9, l.GetName(), l.GetValue())
				}
			}
			return b
		})
	}
	return b
}

func (e *otlpEncoder) appendNumbers(b []byte, f *dto.MetricFamily, cumulative bool) []byte {
	for _, m := range f.Metric {
		value := m.GetGauge().GetValue()
		if m.Counter != nil {
			value = m.Counter.GetValue()
		}
		b = nest(b, 1, func(b []byte) []byte { return e.appendNumber(b, m.Label, value, cumulative) })
	}
	return b
}

// appendNumber lays out a NumberDataPoint.
func (e *otlpEncoder) appendNumber(b []byte, labels []*dto.LabelPair, value float64, cumulative bool) []byte {
	if cumulative {
		b = appendFixed(b, 2, nanoseconds(e.start))
	}
	b = appendFixed(b, 3, nanoseconds(e.now))
	b = protowire.AppendTag(b, 4, protowire.Fixed64Type) // also a 0: that there is a value is part of the message
	b = protowire.AppendFixed64(b, math.Float64bits(value))
	for _, l := range labels {
		if l.GetValue() != "" {
			b = appendLabel(b, 7, l.GetName(), l.GetValue())
		}
	}
	return b
}

// finishResource puts the metrics that are laid out into a resource at the end of the body.
//
// The instance is the host: of the same service on several hosts it tells the series apart where, as in Prometheus, only
// name, namespace and instance become labels.
func (e *otlpEncoder) finishResource(namespace, service, version string) {
	if len(e.metrics) == 0 {
		return
	}
	e.body = nest(e.body, 1, func(b []byte) []byte {
		b = nest(b, 1, func(b []byte) []byte {
			b = appendAttribute(b, 1, "service.name", service)
			b = appendAttribute(b, 1, "service.namespace", namespace)
			b = appendAttribute(b, 1, "service.version", version)
			b = appendAttribute(b, 1, "service.instance.id", e.host)
			return appendAttribute(b, 1, "host.name", e.host)
		})
		b = nest(b, 2, func(b []byte) []byte {
			b = nest(b, 1, func(b []byte) []byte {
				return appendString(appendString(b, 1, otlpScope), 2, e.version)
			})
			return appendString(append(b, e.metrics...), 3, otlpSchema)
		})
		return appendString(b, 3, otlpSchema)
	})
	e.metrics = e.metrics[:0]
}

func appendMetricHead(b []byte, m otlpMetric, help string) []byte {
	return appendString(appendString(appendString(b, 1, m.name), 2, help), 3, m.unit)
}

// appendLabel lays out a label as the attribute that the conventions make of it.
func appendLabel(b []byte, field protowire.Number, name, value string) []byte {
	attribute, ok := otlpAttributes[name]
	if !ok {
		attribute = name
	}
	if isOTLPInteger(name) {
		if n, err := strconv.ParseUint(value, 10, 16); err == nil {
			return nest(b, field, func(b []byte) []byte {
				return nest(appendString(b, 1, attribute), 2, func(b []byte) []byte { return appendVarint(b, 3, n) })
			})
		}
	}
	return appendAttribute(b, field, attribute, value)
}

// appendAttribute lays out a KeyValue with a string, where the value is known.
func appendAttribute(b []byte, field protowire.Number, name, value string) []byte {
	if value == "" {
		return b
	}
	return nest(b, field, func(b []byte) []byte {
		return nest(appendString(b, 1, name), 2, func(b []byte) []byte { return appendString(b, 1, value) })
	})
}

// The functions below append one field; proto3 leaves out a field that has its default.

func appendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	// Receivers refuse the whole request for one byte that is no UTF-8.
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), strings.ToValidUTF8(s, "\uFFFD"))
}

func appendVarint(b []byte, field protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}

func appendFixed(b []byte, field protowire.Number, n uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), n)
}

func appendDouble(b []byte, field protowire.Number, v float64) []byte {
	return appendFixed(b, field, math.Float64bits(v))
}

// nest appends a message that fill lays out, behind its tag and its length. The length is known last, so the message
// moves up by the length's bytes.
func nest(b []byte, field protowire.Number, fill func([]byte) []byte) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	start := len(b)
	b = fill(b)
	size := len(b) - start
	b = protowire.AppendVarint(b, uint64(size)) // makes room
	shift := len(b) - start - size
	copy(b[start+shift:], b[start:start+size])
	protowire.AppendVarint(b[:start], uint64(size))
	return b
}

// nanoseconds is the instant in OTLP's form; 0 stands for unknown.
func nanoseconds(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(t.UnixNano(), 0))
}
