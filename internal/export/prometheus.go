// Package export makes of snapshots what others read: Prometheus' formats, OTLP, and lines of single exchanges.
package export

import (
	"maps"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/wire"
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
	Undecoded func() []analytics.Undecoded // the largest first
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
	// Classic are the histograms of exchanges that have classic buckets.
	Classic Classic
	Build   BuildInfo
	Probes  ProbeStatus
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
	// History is the state of the local history; nil, and a nil result: there is none.
	History func() *HistoryState
	// Rules is the state of rules and alerts; nil, and a nil result: none are evaluated.
	Rules func() *RulesState
	// Notify is the state of notifications; nil, and a nil result: there are none.
	Notify func() *NotifyState
	// Findings is what the detector of anomalies says; nil, and a nil result: there is none.
	Findings func() *FindingsState
	// Parts are parts that the agent can do without for a while.
	Parts PartsState
}

// Collector exports snapshots as constant metrics. It is the union of the agent's own few metrics, the host's resources,
// and the histograms of all endpoints, which Metrics streams rather than gathers (see there).
type Collector struct {
	agent      agentCollector
	host       hostCollector
	history    historyCollector
	rules      rulesCollector
	notify     notifyCollector
	parts      partsCollector
	findings   findingsCollector
	histograms histogramCollector
}

// NewCollector returns a collector of everything but the runtime's go_* and process_*.
func NewCollector(o CollectorOptions) *Collector {
	return &Collector{agent: agentCollector{o}, host: hostCollector{o.Host}, history: historyCollector{o.History},
		rules: rulesCollector{o.Rules}, notify: notifyCollector{o.Notify}, parts: partsCollector{o.Parts},
		findings:   findingsCollector{o.Findings},
		histograms: histogramCollector{o.Source, o.Classic}}
}

// Describe implements prometheus.Collector. It describes nothing, which makes the collector an unchecked one: labels
// whose value is unknown are absent, so the series of a metric differ in their labels.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.agent.Collect(ch)
	c.host.Collect(ch)
	c.history.Collect(ch)
	c.notify.Collect(ch)
	c.parts.Collect(ch)
	c.findings.Collect(ch)
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
	descUndecoded   = describe("perfagent_undecoded_connections", "Open connections whose bytes are not decoded, by what the first of them look like; of one within this host each end counts.",
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

// Collect sends the agent's own figures, from one snapshot, so that the books add up within a scrape. Labels may hold bytes of other
// programs (names of services): what is no UTF-8 would make the whole scrape fail, so it is replaced.
func (c agentCollector) Collect(ch chan<- prometheus.Metric) {
	gauge, counter := figures(ch)
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
	var last *analytics.Entry // of HTTP; they are in the order of their services
	for _, e := range s.Endpoints {
		if e.Convention == wire.ConventionHTTP && (last == nil || e.Service != last.Service) {
			all[e.Service] += 0
			last = e
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

// figures returns what hands gauges and counters to a channel, with labels made valid.
func figures(ch chan<- prometheus.Metric) (gauge func(d *prometheus.Desc, v float64, labels ...string), counter func(d *prometheus.Desc, v uint64, labels ...string)) {
	gauge = func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, validLabels(labels)...)
	}
	counter = func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), validLabels(labels)...)
	}
	return gauge, counter
}

// histogramCollector collects the endpoints' histograms.
type histogramCollector struct {
	source  Source
	classic Classic
}

var histogramDescs = func() (all []*prometheus.Desc) {
	for _, f := range analytics.Families {
		all = append(all, describe(f.Name, f.Help))
	}
	return all
}()

// Collect sends every histogram of a snapshot and the levels. This is the way of those who gather by the registry; /metrics itself streams
// (writeMetrics), as these metrics are objects of their own until the last one is sent.
func (c histogramCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.source.Snapshot()
	for i, f := range analytics.Families {
		f.EachOf(s, func(l *analytics.Labels, h *analytics.Histogram, created time.Time) {
			ch <- &histogramMetric{histogramDescs[i], *l, h, created, c.classic.has(&f)}
		})
	}
	eachLevel(s, func(l *analytics.Labels, level analytics.Level) {
		ch <- &levelMetric{*l, float64(level)}
	})
}

// histogramMetric is one series that may carry classic beside native buckets, which client_golang's own constant metrics do
// not do together.
type histogramMetric struct {
	desc    *prometheus.Desc
	labels  analytics.Labels
	h       *analytics.Histogram
	created time.Time
	classic bool
}

// Desc is the same one for all series of a family, which is how the registry knows that they belong together.
func (m *histogramMetric) Desc() *prometheus.Desc { return m.desc }

// Write never fails. What it fills in belongs to the caller: a projection is not used again here.
func (m *histogramMetric) Write(out *dto.Metric) error {
	var p projection
	filled := p.fill(&m.labels, m.h, m.created, m.classic)
	out.Label, out.Histogram = filled.Label, filled.Histogram
	return nil
}
