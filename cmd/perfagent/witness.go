package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/probes"
)

const (
	// witnessInterval is how old the host's statistics get: shorter than any scrape interval in use.
	witnessInterval = 5 * time.Second
	// witnessShare bounds what reading costs: after a reading that took t, the next waits 200 t.
	witnessShare = 200
	// witnessIdle is how long a process without TCP events is watched, and a service without any keeps its series.
	witnessIdle = 10 * time.Minute
	// witnessServices is how many services are told apart; the kernel side knows as many groups. The last is for the rest.
	witnessServices = probes.HostGroupsMax
)

// witness gathers what the host and its services suffer from. One goroutine owns it; stats may be called from any.
type witness struct {
	host      *probes.Host
	ports     []uint16 // that were chosen; empty: all
	filtered  bool     // processes were chosen
	processes *host.Processes
	listeners *host.Listeners
	log       *slog.Logger
	maps      []export.MapState // of the kernel side; their sizes do not change

	services map[serviceKey]*serviceTotals
	groups   [witnessServices]*serviceTotals // those that have a group of the kernel side
	members  map[uint32]*member
	disks    map[diskKey]*probes.Latency
	runQueue probes.Latency
	strays   export.TCPEvents
	lost     export.HostLost
	failing  bool
	again    atomic.Bool // hooks that are missing are to be tried again
	latest   atomic.Pointer[export.HostStats]
}

type serviceKey struct{ service, namespace string }

type diskKey struct {
	device    string
	operation probes.DiskOperation
}

// serviceTotals is what a service's processes have gone through since it was first seen.
type serviceTotals struct {
	serviceKey
	group                  uint32
	runQueue, rtt, connect probes.Latency
	events                 export.TCPEvents
	stalled                uint64
	seen                   time.Time
}

// member is a watched process of a service.
type member struct {
	service *serviceTotals
	seen    time.Time
}

// newWitness takes a kernel side that counts TCP of the given ports only; none means all.
func newWitness(h *probes.Host, ports []uint16, filter host.Filter, services *atomic.Pointer[host.Services], log *slog.Logger) *witness {
	w := &witness{
		ports:     ports,
		filtered:  !filter.IsZero(),
		processes: host.NewProcesses(host.ProcessOptions{Filter: filter, Entries: probes.HostWatchedMax, Services: services}),
		listeners: host.NewListeners(),
		log:       log,
		services:  make(map[serviceKey]*serviceTotals),
		members:   make(map[uint32]*member),
		disks:     make(map[diskKey]*probes.Latency),
	}
	w.use(h)
	return w
}

// run reads until the context ends.
func (w *witness) run(ctx context.Context) {
	for {
		start := time.Now()
		w.readOnce(start)
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(witnessInterval, witnessShare*time.Since(start))):
		}
	}
}

// readOnce takes over what was counted since the last time, and publishes the sums.
func (w *witness) readOnce(now time.Time) {
	if w.again.CompareAndSwap(true, false) {
		if err := w.host.Again(); err != nil {
			w.log.Debug("hooks cannot be attached yet", "err", err)
		}
	}
	r, err := w.host.Read()
	if r != nil {
		w.add(r, now)
		w.forget(now)
		refused, watchErr := w.host.Watch(w.watched())
		if err = errors.Join(err, watchErr); refused > 0 {
			w.log.Debug("not watched: too many processes", "processes", refused)
		}
	}
	ports, portsErr := w.listeningPorts()
	overflows, overflowsErr := host.ListenOverflows("")
	if err = errors.Join(err, portsErr, overflowsErr); err != nil && !w.failing {
		w.log.Warn("the host's statistics are incomplete", "err", err)
	}
	w.failing = err != nil
	w.publish(ports, overflows, overflowsErr == nil)
}

// listeningPorts are those that were chosen, and that a chosen process listens at.
func (w *witness) listeningPorts() ([]host.ListenPort, error) {
	ports, err := w.listeners.Read()
	if len(w.ports) > 0 {
		ports = slices.DeleteFunc(ports, func(p host.ListenPort) bool { return !slices.Contains(w.ports, p.Port) })
	}
	if !w.filtered || err != nil {
		return ports, err
	}
	processes, err := w.host.Listeners()
	return slices.DeleteFunc(ports, func(p host.ListenPort) bool {
		return !slices.ContainsFunc(processes[p.Port], func(tgid uint32) bool {
			return w.processes.Identify(tgid, new([16]byte), host.Monotonic()).Chosen
		})
	}), err
}

// add adds a reading to the totals. The first counts of a process are those since it was first seen by the kernel side, not
// by this one, so nothing is lost in between but its waits for a processor.
func (w *witness) add(r *probes.HostReading, now time.Time) {
	w.runQueue.Add(&r.RunQueue)
	for group, l := range r.Groups {
		if s := w.groups[group]; s != nil {
			s.runQueue.Add(&l)
		}
	}
	for _, d := range r.Disks {
		key := diskKey{host.DiskName("", d.Major, d.Minor), d.Operation}
		if w.disks[key] == nil {
			w.disks[key] = new(probes.Latency)
		}
		w.disks[key].Add(&d.Latency)
	}
	for _, s := range w.services {
		s.stalled = 0
	}
	for tgid, t := range r.TCP {
		w.addTCP(tgid, &t, now)
	}
	w.lost.Processes += r.ProcessesFull
	w.lost.Connects += r.OwnersFull
	w.lost.Disks += r.DisksFull
}

func (w *witness) addTCP(tgid uint32, t *probes.TCPHealth, now time.Time) {
	events := &w.strays
	if tgid != 0 {
		var comm [16]byte
		copy(comm[:], t.Comm)
		identity := w.processes.Identify(tgid, &comm, host.Monotonic())
		if !identity.Chosen {
			return
		}
		s := w.service(serviceKey{identity.Service, identity.Namespace})
		s.seen = now
		s.rtt.Add(&t.RTT)
		s.connect.Add(&t.Connect)
		s.stalled += uint64(t.Stalled)
		w.members[tgid] = &member{s, now}
		events = &s.events
	}
	events.Retransmits += t.Retransmits
	events.ConnectsFailed += t.ConnectsFailed
	events.ResetsSent += t.ResetsSent
	events.ResetsReceived += t.ResetsReceived
}

// service returns the totals of a service, or those of the rest where there are too many.
func (w *witness) service(key serviceKey) *serviceTotals {
	if s := w.services[key]; s != nil {
		return s
	}
	group := uint32(slices.Index(w.groups[:witnessServices-1], nil))
	if group >= witnessServices-1 {
		group, key = witnessServices-1, serviceKey{service: analytics.Other}
		if s := w.services[key]; s != nil {
			return s
		}
	}
	s := &serviceTotals{serviceKey: key, group: group}
	w.services[key], w.groups[group] = s, s
	return s
}

// forget drops processes and services of which nothing was seen for long, and processes that ended.
func (w *witness) forget(now time.Time) {
	for tgid, m := range w.members {
		if now.Sub(m.seen) > witnessIdle || syscall.Kill(int(tgid), 0) == syscall.ESRCH {
			delete(w.members, tgid)
		}
	}
	for key, s := range w.services {
		if now.Sub(s.seen) > witnessIdle {
			delete(w.services, key)
			w.groups[s.group] = nil
		}
	}
}

func (w *witness) watched() map[uint32]uint32 {
	groups := make(map[uint32]uint32, len(w.members))
	for tgid, m := range w.members {
		groups[tgid] = m.service.group
	}
	return groups
}

// publish makes a copy for the exporters.
func (w *witness) publish(ports []host.ListenPort, overflows uint64, known bool) {
	stats := &export.HostStats{Lost: w.lost, Unseen: export.Unseen{
		Connects: !w.host.Observes(probes.ObserveTCP), Retransmits: !w.host.Observes(probes.ObserveRetransmits),
		ResetsSent: !w.host.Observes(probes.ObserveResetsSent), ResetsReceived: !w.host.Observes(probes.ObserveResetsReceived),
		Stalls: !w.host.Observes(probes.ObserveStalls),
	}}
	if w.host.Observes(probes.ObserveRunQueue) {
		stats.RunQueue = exportLatency(&w.runQueue)
	}
	if w.host.Observes(probes.ObserveTCP) {
		strays := w.strays
		stats.Unattributed = &strays
	}
	for key, l := range w.disks {
		stats.Disks = append(stats.Disks, export.DiskStats{Device: key.device, Operation: key.operation.String(), Latency: *exportLatency(l)})
	}
	for key, s := range w.services {
		e := export.ServiceStats{Service: key.service, Namespace: key.namespace, RTT: *exportLatency(&s.rtt),
			Connect: *exportLatency(&s.connect), TCP: s.events, Stalled: s.stalled}
		if stats.RunQueue != nil {
			e.RunQueue = exportLatency(&s.runQueue)
		}
		stats.Services = append(stats.Services, e)
	}
	for _, p := range ports {
		stats.Ports = append(stats.Ports, export.ListenPort(p))
	}
	if known {
		stats.ListenOverflows = &overflows
	}
	slices.SortFunc(stats.Disks, func(a, b export.DiskStats) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.Operation, b.Operation))
	})
	slices.SortFunc(stats.Services, func(a, b export.ServiceStats) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Namespace, b.Namespace))
	})
	w.latest.Store(stats)
}

// stats returns what was gathered last; nil before the first time.
func (w *witness) stats() *export.HostStats { return w.latest.Load() }

// latencyBounds are the bounds of probes.Latency in seconds.
var latencyBounds = func() (bounds []float64) {
	for i := range probes.LatencyBuckets - 1 {
		bounds = append(bounds, float64(probes.LatencyFloor<<i)/float64(time.Second))
	}
	return bounds
}()

func exportLatency(l *probes.Latency) *export.Latency {
	return &export.Latency{Bounds: latencyBounds, Buckets: slices.Clone(l.Buckets[:]), Sum: float64(l.SumNS) / float64(time.Second)}
}
