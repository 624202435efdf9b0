// Package export makes of snapshots what others read: Prometheus' formats, OTLP, and lines of single exchanges.
package export

import (
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
)

// Source is where exporters read from.
type Source interface {
	Snapshot() *analytics.Snapshot
}

// BuildInfo is what perfagent_build_info says.
type BuildInfo struct {
	Version, Revision, GoVersion string
}

// ProbeStatus tells the state of the kernel side at the time of the call. Every function may be nil: what it would tell
// is then absent. They are called from any goroutine.
type ProbeStatus struct {
	Backend   func() string
	Probes    func() []ProbeState
	Maps      func() []MapState
	Undecoded func() []Undecoded // the largest first
}

// ProbeState is one row of perfagent_probe_attached.
type ProbeState struct {
	Probe, Backend string
	Attached       bool
}

// MapState is the use of one BPF map.
type MapState struct {
	Name           string
	Entries        uint64
	EntriesUnknown bool // the kernel does not count this map's entries
	MaxEntries     uint64
	Bytes          uint64 // kernel memory
}

// Undecoded is how many connections of a service cannot be understood, and why.
type Undecoded struct {
	Service, Reason string
	Connections     uint64
}

// WebConnections tells what became of the connections to the agent.
type WebConnections struct {
	Open   int
	Closed []ClosedConnections // each reason, whether it occurred or not
}

// ClosedConnections is how many connections were closed for one reason.
type ClosedConnections struct {
	Reason string
	Count  uint64
}

// CollectorOptions configures a Collector.
type CollectorOptions struct {
	Source Source
	Build  BuildInfo
	Probes ProbeStatus
	// Reload tells whether the configuration was last loaded with success, and when it was the last time. It is exported
	// where it is not nil.
	Reload func() (successful bool, last time.Time)
	// Host is the latest sample of the host's resources, nil before the first. It is exported where the function is not nil.
	Host func() *host.Sample
	// Witness tells what the kernel side saw the host suffer from; nil, and a nil result: nothing is known of it.
	Witness func() *HostStats
	// Web tells what became of the connections to the agent; nil where it serves nothing.
	Web func() WebConnections
	// Exports tells how the exports over OTLP ended; nil where there are none.
	Exports func() []ExportCount
}

// Collector exports snapshots as constant metrics. It is the union of the agent's own few metrics, the host's resources,
// and the histograms of all endpoints, which Metrics streams rather than gathers (see there).
type Collector struct {
	agent      agentCollector
	host       hostCollector
	histograms histogramCollector
}

// NewCollector returns a collector of everything but the runtime's go_* and process_*.
func NewCollector(o CollectorOptions) *Collector {
	return &Collector{agent: agentCollector{o}, host: hostCollector{o.Host}, histograms: histogramCollector{o.Source}}
}

// Describe implements prometheus.Collector. It describes nothing, which makes the collector an unchecked one: labels
// whose value is unknown are absent, so the series of a metric differ in their labels.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.agent.Collect(ch)
	c.host.Collect(ch)
	c.histograms.Collect(ch)
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descBuildInfo = describe("perfagent_build_info", "Always 1; the labels tell the build and the backend in use.",
		"version", "revision", "goversion", "backend")
	descExchanges = describe("perfagent_exchanges_total", "Exchanges that the kernel side completed and the agent reported.",
		"protocol", "role")
	descLost = describe("perfagent_exchanges_lost_total", "Exchanges known to have happened and not reported.",
		"stage", "reason")
	descParseErrors = describe("perfagent_parse_errors_total", "Captured messages that could not be understood.",
		"protocol", "reason")
	descAttached   = describe("perfagent_probe_attached", "Whether the probe is attached.", "probe", "backend")
	descMapEntries = describe("perfagent_bpf_map_entries", "Entries in use of a BPF map.", "map")
	descMapMax     = describe("perfagent_bpf_map_max_entries", "Most entries that a BPF map can hold.", "map")
	descMapBytes   = describe("perfagent_bpf_map_bytes", "Kernel memory of a BPF map.", "map")
	descEndpoints  = describe("perfagent_endpoints", "Endpoints with series of their own.")
	descOverflowed = describe("perfagent_endpoints_overflowed_total",
		"Exchanges counted under _OTHER because the limit of endpoints was reached.")
	descWindowBytes = describe("perfagent_window_bytes", "Memory of the sealed sub-windows of all endpoints.")
	descUndecoded   = describe("perfagent_undecoded_connections", "Connections whose traffic cannot be understood.",
		"service_name", "reason")
	descReloadOK = describe("perfagent_config_last_reload_successful", "Whether the last attempt to load the configuration succeeded.")
	descReloadAt = describe("perfagent_config_last_reload_success_timestamp_seconds",
		"When the configuration was last loaded with success.")
	descWeb       = describe("perfagent_web_connections", "Connections to the agent that are open.")
	descWebClosed = describe("perfagent_web_connections_closed_total",
		"Connections to the agent that were closed to make room, or because the client did not read.", "reason")
	descExports = describe("perfagent_otlp_exports_total", "Exports over OTLP, by how they ended.", "result")
	descActive  = describe("http_server_active_requests", "HTTP requests that servers are working on.", "service_name")
)

// agentCollector exports everything but the endpoints' histograms.
type agentCollector struct{ CollectorOptions }

func (c agentCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descBuildInfo, descExchanges, descLost, descParseErrors, descAttached, descMapEntries,
		descMapMax, descMapBytes, descEndpoints, descOverflowed, descWindowBytes, descUndecoded, descReloadOK, descReloadAt,
		descExports, descActive, descWeb, descWebClosed} {
		ch <- d
	}
}

func (c agentCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, validLabels(labels)...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), validLabels(labels)...)
	}
	s := c.Source.Snapshot()
	for _, k := range s.Exchanges {
		counter(descExchanges, k.Count, k.Protocol, k.Role.String())
	}
	for _, l := range s.Lost {
		counter(descLost, l.Count, l.Stage, l.Reason)
	}
	for _, p := range s.ParseErrors {
		counter(descParseErrors, p.Count, p.Protocol, p.Reason)
	}
	gauge(descEndpoints, float64(s.EndpointsOwn))
	counter(descOverflowed, s.Overflowed)
	gauge(descWindowBytes, float64(s.WindowBytes))
	for service, n := range activeByService(s) {
		gauge(descActive, float64(n), service)
	}
	if c.Exports != nil {
		for _, x := range c.Exports() {
			counter(descExports, x.Count, x.Result)
		}
	}
	if c.Web != nil {
		web := c.Web()
		gauge(descWeb, float64(web.Open))
		for _, closed := range web.Closed {
			counter(descWebClosed, closed.Count, closed.Reason)
		}
	}
	c.collectStatus(gauge)
	c.collectWitness(ch)
}

// activeByService is Snapshot.Active with the services that have no request in progress: a gauge that vanishes at zero keeps
// its last value in whoever reads it.
func activeByService(s *analytics.Snapshot) map[string]int64 {
	if s.Active == nil {
		return nil
	}
	all := maps.Clone(s.Active)
	for i, e := range s.Endpoints {
		if i == 0 || e.Service != s.Endpoints[i-1].Service {
			all[e.Service] += 0
		}
	}
	return all
}

// collectStatus exports what does not come from the snapshot.
func (c agentCollector) collectStatus(gauge func(*prometheus.Desc, float64, ...string)) {
	backend := ""
	if c.Probes.Backend != nil {
		backend = c.Probes.Backend()
	}
	gauge(descBuildInfo, 1, c.Build.Version, c.Build.Revision, c.Build.GoVersion, backend)
	if c.Reload != nil {
		successful, last := c.Reload()
		gauge(descReloadOK, oneIf(successful))
		gauge(descReloadAt, float64(last.UnixNano())/1e9)
	}
	if c.Probes.Probes != nil {
		for _, p := range c.Probes.Probes() {
			gauge(descAttached, oneIf(p.Attached), p.Probe, p.Backend)
		}
	}
	if c.Probes.Maps != nil {
		for _, m := range c.Probes.Maps() {
			if !m.EntriesUnknown {
				gauge(descMapEntries, float64(m.Entries), m.Name)
			}
			gauge(descMapMax, float64(m.MaxEntries), m.Name)
			gauge(descMapBytes, float64(m.Bytes), m.Name)
		}
	}
	if c.Probes.Undecoded != nil {
		for _, u := range c.Probes.Undecoded() {
			gauge(descUndecoded, float64(u.Connections), u.Service, u.Reason)
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// validLabels keeps one odd name from failing the whole scrape.
func validLabels(labels []string) []string {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "\uFFFD")
	}
	return labels
}

// label is a name with its value.
type label struct{ name, value string }

// labelSet is a series' labels in the order of their names, which is how Prometheus wants them. One serves all series of
// a family, one after the other.
type labelSet struct {
	pairs [10]label
	n     int
}

// add appends a label where its value is known.
func (l *labelSet) add(name, value string) {
	if value != "" {
		l.pairs[l.n] = label{name, value}
		l.n++
	}
}

func (l *labelSet) reset() { l.n = 0 }

func (l *labelSet) all() []label { return l.pairs[:l.n] }

// histogramFamily is one metric of all endpoints. each calls yield for every series that has a value.
type histogramFamily struct {
	name, help string
	each       func(s *analytics.Snapshot, yield yieldFunc)
}

// yieldFunc receives a series; the labels are valid during the call.
type yieldFunc func(l *labelSet, h *analytics.Histogram, created time.Time)

// Series of all families carry service_namespace where it is known: without it, services of the same name in two
// namespaces would collide.
var histogramFamilies = []histogramFamily{
	{"http_server_request_duration_seconds", "Time from the first byte of a request's arrival to the last byte of its response.", eachServerDuration},
	{"http_client_request_duration_seconds", "Time from sending the first byte of a request to reading the last byte of its response.", eachClientDuration},
	{"perfagent_http_server_phase_duration_seconds", "Time that requests spent in each phase.", eachPhase},
	{"http_server_request_body_size_bytes", "Body bytes of requests, chunk framing included.", eachRequestSize},
	{"http_server_response_body_size_bytes", "Body bytes of responses, chunk framing included.", eachResponseSize},
}

func eachServerDuration(s *analytics.Snapshot, yield yieldFunc) {
	var l labelSet
	for _, e := range s.Endpoints {
		for i := range e.Series {
			o := &e.Series[i]
			if o.Duration.Count() == 0 {
				continue
			}
			l.reset()
			l.add("error_type", o.ErrorType)
			l.add("http_request_method", e.Method)
			l.add("http_response_status_code", statusText(o.Status))
			l.add("http_route", e.Route)
			l.add("network_protocol_version", protocolVersion(o.Protocol))
			l.add("service_name", e.Service)
			l.add("service_namespace", e.Namespace)
			l.add("url_scheme", scheme(o.Outcome))
			yield(&l, &o.Duration, o.Created)
		}
	}
}

func eachClientDuration(s *analytics.Snapshot, yield yieldFunc) {
	var l labelSet
	for _, t := range s.Targets {
		for i := range t.Series {
			o := &t.Series[i]
			if o.Duration.Count() == 0 {
				continue
			}
			l.reset()
			l.add("error_type", o.ErrorType)
			l.add("http_request_method", t.Method)
			l.add("http_response_status_code", statusText(o.Status))
			l.add("network_protocol_version", protocolVersion(o.Protocol))
			l.add("server_address", t.Address)
			l.add("server_port", statusText(t.Port))
			l.add("service_name", t.Service)
			l.add("service_namespace", t.Namespace)
			l.add("url_scheme", scheme(o.Outcome))
			yield(&l, &o.Duration, o.Created)
		}
	}
}

func eachPhase(s *analytics.Snapshot, yield yieldFunc) {
	var l labelSet
	for _, e := range s.Endpoints {
		for _, p := range [...]struct {
			name string
			h    *analytics.Histogram
		}{{"queue", &e.Queue}, {"processing", &e.Processing}, {"transfer", &e.Transfer}} {
			yieldEndpoint(&l, e, p.name, p.h, yield)
		}
	}
}

func eachRequestSize(s *analytics.Snapshot, yield yieldFunc) {
	var l labelSet
	for _, e := range s.Endpoints {
		yieldEndpoint(&l, e, "", &e.RequestSize, yield)
	}
}

func eachResponseSize(s *analytics.Snapshot, yield yieldFunc) {
	var l labelSet
	for _, e := range s.Endpoints {
		yieldEndpoint(&l, e, "", &e.ResponseSize, yield)
	}
}

func yieldEndpoint(l *labelSet, e *analytics.Endpoint, phase string, h *analytics.Histogram, yield yieldFunc) {
	if h.Count() == 0 {
		return
	}
	l.reset()
	l.add("http_request_method", e.Method)
	l.add("http_route", e.Route)
	l.add("phase", phase)
	l.add("service_name", e.Service)
	l.add("service_namespace", e.Namespace)
	yield(l, h, e.Created)
}

// statusText is the number as text, or nothing for 0, which stands for unknown.
func statusText(n uint16) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

func protocolVersion(protocol string) string { return strings.TrimPrefix(protocol, "http/") }

// scheme is empty for the outcome that stands for many.
func scheme(o analytics.Outcome) string {
	switch {
	case o.ErrorType == analytics.Other && o.Protocol == "":
		return ""
	case o.TLS:
		return "https"
	}
	return "http"
}

// histogramCollector collects the endpoints' histograms.
type histogramCollector struct{ source Source }

var histogramDescs = func() (all []*prometheus.Desc) {
	for _, f := range histogramFamilies {
		all = append(all, describe(f.name, f.help))
	}
	return all
}()

func (c histogramCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.source.Snapshot()
	for i, f := range histogramFamilies {
		f.each(s, func(l *labelSet, h *analytics.Histogram, created time.Time) {
			ch <- &histogramMetric{histogramDescs[i], *l, h, created}
		})
	}
	eachLevel(s, func(l *labelSet, level analytics.Level) {
		ch <- &levelMetric{*l, float64(level)}
	})
}

// histogramMetric is one series that carries classic and native buckets, which client_golang's own constant metrics do
// not do together.
type histogramMetric struct {
	desc    *prometheus.Desc
	labels  labelSet
	h       *analytics.Histogram
	created time.Time
}

func (m *histogramMetric) Desc() *prometheus.Desc { return m.desc }

func (m *histogramMetric) Write(out *dto.Metric) error {
	var p projection
	filled := p.fill(&m.labels, m.h, m.created)
	out.Label, out.Histogram = filled.Label, filled.Histogram
	return nil
}
