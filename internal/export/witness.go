package export

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perfagent/perfagent/internal/analytics"
)

// HostStats is what the host and its TCP connections suffer from, counted since the agent's start. What could not be
// observed is nil or empty, and has no series.
type HostStats struct {
	RunQueue *Latency // how long tasks that began to run had been ready for it, all of the host
	Disks    []DiskStats
	Services []ServiceStats
	// Unattributed are events of TCP connections whose process is not known; nil where TCP is not observed.
	Unattributed *TCPEvents
	Ports        []ListenPort
	// ListenOverflows counts connection attempts that found a full backlog, since the network namespace began; nil: unknown.
	ListenOverflows *uint64
	Lost            HostLost
	Unseen          Unseen
}

// Unseen is what of the statistics is not observed: it has no series, since a 0 would say that nothing happened.
type Unseen struct{ Connects, Retransmits, ResetsSent, ResetsReceived, Stalls bool }

// Latency is a distribution of durations in classic buckets.
type Latency struct {
	Bounds  []float64 // upper bounds in seconds, ascending, without the infinite one
	Buckets []uint64  // counts of each bucket by itself, one more than bounds
	Sum     float64   // seconds
}

// DiskStats is how long requests of one kind took on one disk.
type DiskStats struct {
	Device, Operation string
	Latency           Latency
}

// ServiceStats is what one service's processes suffered.
type ServiceStats struct {
	Service, Namespace string
	RunQueue           *Latency // nil where its processes are not watched
	RTT, Connect       Latency  // without counts: no series
	TCP                TCPEvents
	Stalled            uint64 // connections that the peer's window keeps from sending, now
}

// TCPEvents are counts of what should not happen often.
type TCPEvents struct {
	Retransmits, ConnectsFailed, ResetsSent, ResetsReceived uint64
}

// ListenPort is how a TCP port copes with its connects.
type ListenPort struct {
	Port                       uint16
	Backlog, BacklogMax, Drops uint64
}

// HostLost counts events that found no room in the kernel side's tables.
type HostLost struct {
	Processes uint64 // counted, but not attributed
	Connects  uint64 // not timed and not attributed
	Disks     uint64 // requests not counted
}

// collectWitness exports the host's statistics; where nothing gathers them there is nothing.
func (c agentCollector) collectWitness(ch chan<- prometheus.Metric) {
	if c.Witness == nil {
		return
	}
	s := c.Witness()
	if s == nil {
		return
	}
	m := witnessMetrics{ch}
	if s.RunQueue != nil {
		m.histogram("perfagent_host_run_queue_latency_seconds",
			"Time that tasks were ready to run before a processor took them.", s.RunQueue)
	}
	for _, d := range s.Disks {
		m.histogram("perfagent_host_block_io_latency_seconds",
			"Time that requests of block devices took, from their making to their end.", &d.Latency,
			label("device", d.Device), label("operation", d.Operation))
	}
	for _, e := range s.Services {
		m.service(&e, &s.Unseen)
	}
	if s.Unattributed != nil {
		m.unattributed(s.Unattributed, &s.Unseen)
		m.lost(&s.Lost)
	}
	for _, p := range s.Ports {
		port := label("server_port", strconv.Itoa(int(p.Port)))
		m.gauge("perfagent_tcp_listen_backlog", "Connections that wait for the server to accept them.", p.Backlog, port)
		m.gauge("perfagent_tcp_listen_backlog_max", "Connections that may wait for the server to accept them.", p.BacklogMax, port)
		m.counter("perfagent_tcp_listen_drops_total",
			"Connection attempts that the port's sockets threw away, mostly because of a full backlog.", p.Drops, port)
	}
	if s.ListenOverflows != nil {
		m.counter("perfagent_tcp_listen_overflows_total", "Connection attempts that found a full backlog, on all ports.", *s.ListenOverflows)
	}
}

func label(name, value string) analytics.Label { return analytics.Label{Name: name, Value: value} }

// witnessMetrics sends constant metrics. Labels without a value are left out, as everywhere.
type witnessMetrics struct{ ch chan<- prometheus.Metric }

// service sends the TCP figures and the run-queue latency of a service. What this kernel cannot show is left out: a zero would say that
// it was seen and did not happen.
func (m witnessMetrics) service(e *ServiceStats, unseen *Unseen) {
	who := []analytics.Label{label("service_name", e.Service), label("service_namespace", e.Namespace)}
	with := func(more analytics.Label) []analytics.Label { return append(who[:len(who):len(who)], more) }
	m.histogram("perfagent_tcp_rtt_seconds",
		"TCP's smoothed round trip time: a sample when a connection ends, and every few seconds while it is in use.", &e.RTT, who...)
	m.histogram("perfagent_tcp_connect_duration_seconds", "Time from connect to the end of the handshake.", &e.Connect, who...)
	if !unseen.Connects {
		m.counter("perfagent_tcp_connects_failed_total", "Handshakes that did not succeed.", e.TCP.ConnectsFailed, who...)
	}
	if !unseen.Retransmits {
		m.counter("perfagent_tcp_retransmits_total", "TCP segments sent again.", e.TCP.Retransmits, who...)
	}
	if !unseen.ResetsSent {
		m.counter(tcpResets, tcpResetsHelp, e.TCP.ResetsSent, with(label("direction", "sent"))...)
	}
	if !unseen.ResetsReceived {
		m.counter(tcpResets, tcpResetsHelp, e.TCP.ResetsReceived, with(label("direction", "received"))...)
	}
	if !unseen.Stalls {
		m.gauge("perfagent_tcp_stalled_connections", "Connections with data that the peer's window keeps back.", e.Stalled, who...)
	}
	if e.RunQueue != nil {
		m.histogram("perfagent_process_run_queue_latency_seconds",
			"Time that a service's tasks were ready to run before a processor took them.", e.RunQueue, who...)
	}
}

const (
	tcpResets     = "perfagent_tcp_resets_total"
	tcpResetsHelp = "TCP connections reset."
)

// unattributed sends the events of connections whose process is not known: those that were open at the agent's start and have not been
// used since, and those of the kernel itself.
func (m witnessMetrics) unattributed(e *TCPEvents, unseen *Unseen) {
	for _, row := range []struct {
		event  string
		n      uint64
		unseen bool
	}{{"retransmit", e.Retransmits, unseen.Retransmits}, {"connect_failed", e.ConnectsFailed, unseen.Connects},
		{"reset_sent", e.ResetsSent, unseen.ResetsSent}, {"reset_received", e.ResetsReceived, unseen.ResetsReceived}} {
		if row.unseen {
			continue
		}
		m.counter("perfagent_tcp_unattributed_events_total", "TCP events of the host whose process is not known.", row.n,
			label("event", row.event))
	}
}

func (m witnessMetrics) lost(l *HostLost) {
	for _, row := range []struct {
		reason string
		n      uint64
	}{{"processes_full", l.Processes}, {"connects_full", l.Connects}, {"disks_full", l.Disks}} {
		m.counter("perfagent_host_events_lost_total",
			"Events that found no room in the kernel side's tables: of processes they count as unattributed.", row.n,
			label("reason", row.reason))
	}
}

func (m witnessMetrics) gauge(name, help string, v uint64, labels ...analytics.Label) {
	desc, values := describeLabels(name, help, labels)
	m.ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v), values...)
}

func (m witnessMetrics) counter(name, help string, v uint64, labels ...analytics.Label) {
	desc, values := describeLabels(name, help, labels)
	m.ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), values...)
}

// histogram sends a distribution that has counts.
func (m witnessMetrics) histogram(name, help string, l *Latency, labels ...analytics.Label) {
	buckets := make(map[float64]uint64, len(l.Bounds))
	var count uint64
	for i, n := range l.Buckets {
		count += n
		if i < len(l.Bounds) {
			buckets[l.Bounds[i]] = count
		}
	}
	if count == 0 {
		return
	}
	desc, values := describeLabels(name, help, labels)
	m.ch <- prometheus.MustNewConstHistogram(desc, count, l.Sum, buckets, values...)
}

func describeLabels(name, help string, labels []analytics.Label) (*prometheus.Desc, []string) {
	var names, values []string
	for _, l := range labels {
		if l.Value != "" {
			names, values = append(names, l.Name), append(values, l.Value)
		}
	}
	return describe(name, help, names...), validLabels(values)
}
