package probes

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/bits"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Bounds of the host side, most of them those of bpf/host.h.
const (
	HostGroupsMax  = uint32(hostHostLimitsGROUPS_MAX) // groups that Watch tells apart
	HostWatchedMax = int(hostHostLimitsWATCHED_MAX)   // processes that Watch takes
	watchSlots     = uint32(hostHostLimitsWATCH_SLOTS)
	watchBits      = int(hostHostLimitsWATCH_BITS)
	watchTries     = int(hostHostLimitsWATCH_TRIES)
	watchHash      = 0x9e3779b1 // WATCH_HASH
	// shardsMax bounds the copies of a group's histogram: 7 KiB each.
	shardsMax = 4

	// LatencyBuckets is how many buckets a Latency has. The first counts what took less than LatencyFloor, each further
	// one what took less than twice the bound before, the last one all the rest.
	LatencyBuckets = int(hostHostLimitsLATENCY_BUCKETS)
	LatencyFloor   = 1 << hostHostLimitsLATENCY_SHIFT * time.Nanosecond

	// listenersInterval is how often descriptors are searched for sockets that were handed on: it costs about 0.3 us for
	// each descriptor of the host.
	listenersInterval = time.Minute
	// idleReadings is after how many readings without a change a process makes room for another.
	idleReadings = 12
)

// Duties of the host side. Unlike those of a Probe each has one way only: tracepoints that Linux 5.10 has.
const (
	dutyRunQueue    duty = "run_queue"   // tasks that wait for a processor
	dutyBlock       duty = "block_io"    // requests that wait for a disk
	dutyTCPState    duty = "tcp_state"   // connects, closes, listeners
	dutyRetransmit  duty = "retransmit"  // segments sent again
	dutyHandshake   duty = "handshake"   // handshakes answered again
	dutyResetSent   duty = "reset_sent"  // connections reset
	dutyResetGot    duty = "reset_got"   // connections that the peer reset
	dutyConnections duty = "connections" // connections that live long
	dutyListeners   duty = "listeners"   // sockets that listened before the start
)

// hostDuties are the programs of bpf/host.bpf.c, the ways to fulfil a duty in the order of preference, and what a user does
// not see without any.
var hostDuties = []struct {
	duty     duty
	programs []string
	missing  string
}{
	{dutyRunQueue, []string{hostProgTpSchedSwitch}, "how long tasks wait for a processor"},
	{dutyBlock, []string{hostProgTpBlockRqComplete}, "how long disks take"},
	{dutyTCPState, []string{hostProgTpTcpState},
		"connect times, round trip times of connections that end, and whose connections are reset"},
	{dutyRetransmit, []string{hostProgTpTcpRetransmitSkb}, "TCP retransmits"},
	{dutyHandshake, []string{hostProgTpTcpRetransmitSynack}, "TCP retransmits of handshakes"},
	{dutyResetSent, []string{hostProgTpTcpSendReset}, "TCP resets sent"},
	{dutyResetGot, []string{hostProgTpTcpReceiveReset}, "TCP resets received"},
	{dutyConnections, []string{hostProgRunConnections, hostProgIterConnections},
		"round trip times of connections while they last, and connections that the peer stalls"},
	{dutyListeners, []string{hostProgIterListeners},
		"whose TCP connections are reset or lossy, of servers started before the agent that do not speak HTTP/1 in clear"},
}

// HostOptions configure a Host.
type HostOptions struct {
	// Connections is the probe whose connections are walked, and which knows who reads from them. It must be closed after
	// the Host. Nil: connections are seen when they begin and end.
	Connections *Probe
	Ports       []uint16 // TCP is counted of connections to and from these, at most 32; empty: all
	Refuse      []string // programs to treat as if the kernel refused them, for tests
	// Broken is a fault that tests inject into loading a program, and into opening all of it (host); nil: none.
	Broken func(program string) error
	Log    *slog.Logger // nil: silent
}

// Host is the kernel side that counts what the host and its TCP connections suffer from. Its methods must not be called
// at the same time. Close detaches everything.
type Host struct {
	Hooks []Hook

	log *slog.Logger
	object
	ports  []uint16
	conns  *ebpf.Map // the other probe's; nil without one
	shards int

	connections      *walk
	listeners        *link.Iter
	walked, searched int64 // when, monotonic ns

	watched   [watchSlots]uint64
	groups    map[uint32]hostLatency // what was read of each last, and so on
	runQueue  hostLatency
	disks     map[hostDisk]hostLatency
	processes map[uint32]*processCounts
	full      hostHostState
}

// processCounts is what was last read of a process; its entry in the map goes after idleReadings without a change.
type processCounts struct {
	raw  hostTcpHealth
	idle int // readings without a change
}

// OpenHost loads and attaches what this kernel has; what it lacks is listed in Hooks. An error means that
// nothing can be loaded at all.
func OpenHost(o HostOptions) (*Host, error) {
	h := &Host{log: o.Log, ports: o.Ports, object: object{refuse: o.Refuse, broken: o.Broken}, groups: make(map[uint32]hostLatency), disks: make(map[hostDisk]hostLatency),
		processes: make(map[uint32]*processCounts)}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if o.Connections != nil {
		h.conns = o.Connections.maps[trafficMapConns]
	}
	if err := h.open(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// open does what must not fail. A duty that no program fulfils is none of it: it is listed in Hooks, and the rest is observed.
func (h *Host) open() error {
	var err error
	if h.broken != nil {
		if err = h.broken("host"); err != nil {
			return err
		}
	}
	if h.kernel, err = openKernel(); err != nil {
		return err
	}
	if err := h.kernel.liftMemlock(); err != nil {
		return err
	}
	if err := h.loadMaps(); err != nil {
		return err
	}
	for _, d := range hostDuties {
		h.fulfil(d.duty, d.programs, d.missing)
	}
	h.walked = monotonic()
	h.settle()
	return h.searchListeners()
}

// fulfil attaches the first of a duty's programs that this kernel takes, and notes what became of each.
func (h *Host) fulfil(d duty, programs []string, missing string) {
	for _, program := range programs {
		err := h.misfit(d)
		if err == nil {
			err = h.kernel.lacks(program)
		}
		if err == nil {
			err = h.attach(program)
		}
		hook := Hook{Program: program, Duty: string(d), Backend: BackendTracepoint, Attached: err == nil}
		if err == nil {
			h.Hooks = append(h.Hooks, hook)
			return
		}
		h.log.Debug("host hook is missing", "program", program, "err", err)
		hook.Reason, hook.Transient = reason(err), transient(err)
		h.Hooks = append(h.Hooks, hook)
	}
	for i := range h.Hooks {
		if h.Hooks[i].Duty == string(d) {
			h.Hooks[i].Loss = missing
		}
	}
}

// misfit returns why a duty cannot be fulfilled on this kernel, or nil where it may.
func (h *Host) misfit(d duty) error {
	switch {
	case d == dutyRunQueue && !h.kernel.hasField("sched_info", "last_queued"):
		return errors.New("this kernel does not keep when tasks were queued (CONFIG_SCHED_INFO)")
	case d == dutyRunQueue && !h.kernel.hasField("sched_entity", "cfs_rq"):
		return errors.New("this kernel's tasks do not lead to their run queue (CONFIG_FAIR_GROUP_SCHED)")
	case d == dutyConnections && h.conns == nil:
		return errors.New("no connections are followed")
	}
	return nil
}

// configure reads the embedded object, and gives it this host's sizes and settings; it returns the maps that are another's.
func (h *Host) configure() (shared map[string]*ebpf.Map, err error) {
	spec, err := loadHost()
	if err != nil {
		return nil, fmt.Errorf("read the embedded BPF object: %w", err)
	}
	h.spec = spec
	processors, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count the processors: %w", err)
	}
	h.shards = min(shardsMax, 1<<bits.Len(uint(processors-1)))
	spec.Maps[hostMapGroups].MaxEntries = HostGroupsMax * uint32(h.shards)
	config := hostHostConfig{SelfPid: initPID(), Shards: uint32(h.shards), PortsLen: uint32(len(h.ports))}
	copy(config.Ports[:], h.ports)
	if err := spec.Variables[hostVarHOST].Set(config); err != nil {
		return nil, fmt.Errorf("set the host side's configuration: %w", err)
	}
	shared = map[string]*ebpf.Map{}
	if h.conns != nil {
		conns := spec.Maps[hostMapConns]
		// The other probe's values are longer than the part that is declared, which the kernel would compare.
		conns.ValueSize, conns.Key, conns.Value = h.conns.ValueSize(), nil, nil
		conns.MaxEntries, conns.Flags = h.conns.MaxEntries(), h.conns.Flags()
		shared[hostMapConns] = h.conns
	}
	return shared, nil
}

// loadMaps creates the maps.
func (h *Host) loadMaps() error {
	shared, err := h.configure()
	if err != nil {
		return err
	}
	if err := h.makeMaps(shared); err != nil {
		return err
	}
	if err := h.maps[hostMapProcesses].Put(uint32(0), hostTcpHealth{}); err != nil {
		return fmt.Errorf("make room for what cannot be attributed: %w", err)
	}
	return nil
}

// attach loads one program and attaches it.
func (h *Host) attach(program string) error {
	programs, err := h.load(program)
	if err != nil {
		return err
	}
	var l io.Closer
	switch prog := programs[program]; program {
	case hostProgRunConnections:
		h.connections, err = walkBy(prog)
		l = h.connections
	case hostProgIterConnections:
		h.connections, err = walkOver(h.conns, prog)
		l = h.connections
	case hostProgIterListeners:
		h.listeners, err = link.AttachIter(link.IterOptions{Program: prog})
		l = h.listeners
	default:
		l, err = link.AttachTracing(link.TracingOptions{Program: prog})
	}
	if err != nil {
		if program == hostProgRunConnections || program == hostProgIterConnections {
			h.connections = nil
		}
		h.unload(programs)
		return fmt.Errorf("attach: %w", err)
	}
	h.links = append(h.links, l)
	return nil
}

// Observation is something that a Host may see.
type Observation int

const (
	ObserveRunQueue Observation = iota
	ObserveDisks
	ObserveTCP         // connects, and whose connections they are
	ObserveRetransmits // also of handshakes
	ObserveResetsSent
	ObserveResetsReceived
	ObserveStalls // connections that the peer's window keeps from sending
)

// observationDuties are what has to be seen for an observation to be complete.
var observationDuties = [...][]duty{
	ObserveRunQueue: {dutyRunQueue}, ObserveDisks: {dutyBlock}, ObserveTCP: {dutyTCPState}, ObserveRetransmits: {dutyRetransmit, dutyHandshake},
	ObserveResetsSent: {dutyResetSent}, ObserveResetsReceived: {dutyResetGot}, ObserveStalls: {dutyConnections},
}

// Observes tells whether a Host sees it. Without a hook of TCP's states nothing of TCP has an owner.
func (h *Host) Observes(o Observation) bool {
	for _, d := range observationDuties[o] {
		if !slices.ContainsFunc(h.Hooks, func(k Hook) bool { return k.Duty == string(d) && k.Attached }) {
			return false
		}
	}
	return true
}

// Watch replaces the processes whose waits for a processor are counted by group, which is below HostGroupsMax. It returns
// how many found no room; they are counted with the host only.
func (h *Host) Watch(groups map[uint32]uint32) (refused int, err error) {
	var table [watchSlots]uint64
	for i, tgid := range slices.Sorted(maps.Keys(groups)) {
		if i >= HostWatchedMax || groups[tgid] >= HostGroupsMax || !placeWatched(&table, tgid, groups[tgid]) {
			refused++
		}
	}
	for i, entry := range table {
		if entry == h.watched[i] {
			continue
		}
		if err := h.maps[hostMapWatched].Put(uint32(i), entry); err != nil {
			return refused, fmt.Errorf("watch process %d: %w", entry>>32, err)
		}
		h.watched[i] = entry
	}
	return refused, nil
}

// placeWatched enters a process as group_of in bpf/host.bpf.c looks for it.
func placeWatched(table *[watchSlots]uint64, tgid, group uint32) bool {
	at := tgid * watchHash >> (32 - watchBits)
	for i := range uint32(watchTries) {
		slot := &table[(at+i)%watchSlots]
		if *slot == 0 {
			*slot = uint64(tgid)<<32 | uint64(group)
			return true
		}
	}
	return false
}

// Latency is a distribution of durations. Bounds of its buckets are LatencyFloor times powers of two.
type Latency struct {
	Buckets [LatencyBuckets]uint64
	SumNS   uint64
}

// Count is how many durations there are.
func (l Latency) Count() (n uint64) {
	for _, b := range l.Buckets {
		n += b
	}
	return n
}

// Add adds what another distribution holds.
func (l *Latency) Add(o *Latency) {
	for i, n := range o.Buckets {
		l.Buckets[i] += n
	}
	l.SumNS += o.SumNS
}

// since returns what came to a histogram since it was read before. Its counts have 32 bits and may have wrapped.
func (raw *hostLatency) since(before *hostLatency) Latency {
	l := Latency{SumNS: raw.SumNs - before.SumNs}
	for i := range raw.Buckets {
		l.Buckets[i] = uint64(raw.Buckets[i] - before.Buckets[i])
	}
	return l
}

func (raw *hostLatency) add(o *hostLatency) {
	raw.SumNs += o.SumNs
	for i := range raw.Buckets {
		raw.Buckets[i] += o.Buckets[i]
	}
}

// DiskOperation is what a request asks of a disk.
type DiskOperation uint32

// As the kernel numbers them.
const (
	DiskRead DiskOperation = iota
	DiskWrite
	DiskFlush
	DiskDiscard
)

// String returns "read", "write", "flush" or "discard".
func (o DiskOperation) String() string {
	if names := [...]string{"read", "write", "flush", "discard"}; int(o) < len(names) {
		return names[o]
	}
	return "other"
}

// DiskLatency is how long requests of a disk took, from when they were made to when they were done: the wait in the I/O
// scheduler and the device together, as in /proc/diskstats.
type DiskLatency struct {
	Major, Minor uint32
	Operation    DiskOperation
	Latency      Latency
}

// TCPHealth is what a process's TCP connections went through.
type TCPHealth struct {
	Comm           string  // its task name, where it connected or closed by itself
	RTT            Latency // TCP's smoothed round trip time: one sample at the end, and one for each Read in which it was active
	Connect        Latency // from connect to the end of the handshake
	ConnectsFailed uint64
	Retransmits    uint64 // segments
	ResetsSent     uint64
	ResetsReceived uint64
	Stalled        int // connections with data that the peer's window keeps back, now
}

// HostReading is what was counted since the reading before.
type HostReading struct {
	RunQueue Latency            // how long tasks that began to run had been ready for it
	Groups   map[uint32]Latency // the same of the watched processes, by group
	Disks    []DiskLatency
	// TCP by process. Process 0 stands for what cannot be attributed: connections that were opened before the start and are
	// no HTTP/1, segments for which there is no socket, and processes beyond the limit of 256 at a time.
	TCP map[uint32]TCPHealth

	ProcessesFull uint64 // events of processes that found no room
	OwnersFull    uint64 // connects that were not timed, because 1024 connections opened by this host are known
	DisksFull     uint64 // requests of disks that found no room
}

// Read walks the connections and returns what happened since the call before. It costs one or two system calls for each
// process with TCP connections, group and disk.
func (h *Host) Read() (*HostReading, error) {
	if err := h.walk(); err != nil {
		return nil, err
	}
	r := &HostReading{Groups: make(map[uint32]Latency), TCP: make(map[uint32]TCPHealth)}
	return r, errors.Join(h.readRunQueue(r), h.readGroups(r), h.readDisks(r), h.readProcesses(r), h.readState(r))
}

// walk visits the connections, and from time to time the descriptors of the host.
func (h *Host) walk() error {
	now := monotonic()
	if now-h.searched >= int64(listenersInterval) {
		if err := h.searchListeners(); err != nil {
			return err
		}
	}
	if h.connections == nil {
		return nil
	}
	if err := h.maps[hostMapWalked].Put(uint32(0), uint64(h.walked)); err != nil {
		return fmt.Errorf("walk the connections: %w", err)
	}
	h.walked = now
	if err := h.connections.run(); err != nil {
		return fmt.Errorf("walk the connections: %w", err)
	}
	return nil
}

// Listeners returns which processes listen at a port, in any network namespace; of processes that share a socket one is known.
// What listened before the Host was opened, or was handed on, is found within a minute.
func (h *Host) Listeners() (map[uint16][]uint32, error) {
	var key struct {
		Netns     uint32
		Port, Pad uint16
	} // struct listener
	var tgid uint32
	listeners := make(map[uint16][]uint32)
	it := h.maps[hostMapListeners].Iterate()
	for it.Next(&key, &tgid) {
		listeners[key.Port] = append(listeners[key.Port], tgid)
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read who listens: %w", err)
	}
	return listeners, nil
}

// searchListeners forgets listeners that ended, and finds who holds those that are.
func (h *Host) searchListeners() error {
	h.searched = monotonic()
	if h.listeners == nil {
		return nil
	}
	var key [8]byte // struct listener
	var tgid uint32
	var gone [][8]byte
	m := h.maps[hostMapListeners]
	it := m.Iterate()
	for it.Next(&key, &tgid) {
		if ended(tgid) {
			gone = append(gone, key)
		}
	}
	for _, key := range gone {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a listener: %w", err)
		}
	}
	if err := runIterator(h.listeners); err != nil {
		return fmt.Errorf("search listeners: %w", err)
	}
	return nil
}

// readRunQueue sums up what each processor has counted: a processor's own slot needs no atomic operation in the scheduler's path. Maps are
// never reset, since an increment between reading and writing would be lost; differences are made here.
func (h *Host) readRunQueue(r *HostReading) error {
	var each []hostLatency
	if err := h.maps[hostMapRunQueue].Lookup(uint32(0), &each); err != nil {
		return fmt.Errorf("read run queue latency: %w", err)
	}
	var raw hostLatency
	for i := range each {
		raw.add(&each[i])
	}
	r.RunQueue = raw.since(&h.runQueue)
	h.runQueue = raw
	return nil
}

// readGroups reads the groups that have ever been watched.
func (h *Host) readGroups(r *HostReading) error {
	for _, entry := range h.watched {
		if group := uint32(entry); entry != 0 {
			h.groups[group] = h.groups[group]
		}
	}
	for group, before := range h.groups {
		var raw hostLatency
		for shard := range uint32(h.shards) {
			var part hostLatency
			if err := h.maps[hostMapGroups].Lookup(group*uint32(h.shards)+shard, &part); err != nil {
				return fmt.Errorf("read run queue latency of group %d: %w", group, err)
			}
			raw.add(&part)
		}
		r.Groups[group] = raw.since(&before)
		h.groups[group] = raw
	}
	return nil
}

// readDisks reads the latency of each device and operation, in a hash map that fills up once and is not cleared: devices are few. An error
// may mean that the map changed under the iteration too often; the next reading has what this one misses.
func (h *Host) readDisks(r *HostReading) error {
	var key hostDisk
	var raw hostLatency
	it := h.maps[hostMapDisks].Iterate()
	for it.Next(&key, &raw) {
		before := h.disks[key]
		r.Disks = append(r.Disks, DiskLatency{Major: key.Major, Minor: key.Minor, Operation: DiskOperation(key.Operation),
			Latency: raw.since(&before)})
		h.disks[key] = raw
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read block I/O latency: %w", err)
	}
	return nil
}

// readProcesses reads the counts of all processes, and forgets those that ended, which do not count any more, and those
// that have long done nothing.
func (h *Host) readProcesses(r *HostReading) error {
	m := h.maps[hostMapProcesses]
	var tgids []uint32
	var key uint32
	var raw hostTcpHealth
	it := m.Iterate()
	for it.Next(&key, &raw) {
		tgids = append(tgids, key)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read TCP counts: %w", err)
	}
	for _, tgid := range tgids {
		over := tgid != 0 && ended(tgid) // before the counts are read, so that they are final
		if err := m.Lookup(tgid, &raw); err != nil {
			return fmt.Errorf("read TCP counts of process %d: %w", tgid, err)
		}
		p := h.processes[tgid]
		if p == nil {
			p = new(processCounts)
			h.processes[tgid] = p
		}
		r.TCP[tgid] = h.healthSince(&raw, &p.raw)
		p.idle++
		if raw != p.raw {
			p.raw, p.idle = raw, 0
		}
		if !over && (tgid == 0 || p.idle < idleReadings) {
			continue
		}
		if err := m.Delete(tgid); err != nil {
			return fmt.Errorf("forget process %d: %w", tgid, err)
		}
		delete(h.processes, tgid)
	}
	return nil
}

// healthSince makes differences of 32-bit counters, which may have wrapped around once between two readings: unsigned subtraction is right
// then, too.
func (h *Host) healthSince(raw, before *hostTcpHealth) TCPHealth {
	t := TCPHealth{
		Comm:           unix.ByteSliceToString(commBytes(&raw.Comm)),
		RTT:            raw.Rtt.since(&before.Rtt),
		Connect:        raw.Connect.since(&before.Connect),
		ConnectsFailed: uint64(raw.ConnectsFailed - before.ConnectsFailed),
		Retransmits:    uint64(raw.Retransmits - before.Retransmits),
		ResetsSent:     uint64(raw.ResetsSent - before.ResetsSent),
		ResetsReceived: uint64(raw.ResetsReceived - before.ResetsReceived),
	}
	if raw.Walk != before.Walk {
		t.Stalled = int(raw.Stalled) // else none of its connections was met on the walk
	}
	return t
}

func commBytes(comm *[16]int8) []byte {
	var b [16]byte
	for i, c := range comm {
		b[i] = byte(c)
	}
	return b[:]
}

func (h *Host) readState(r *HostReading) error {
	var s hostHostState
	if err := h.maps[hostMapState].Lookup(uint32(0), &s); err != nil {
		return fmt.Errorf("read host counters: %w", err)
	}
	r.ProcessesFull = s.ProcessesFull - h.full.ProcessesFull
	r.OwnersFull = s.OwnersFull - h.full.OwnersFull
	r.DisksFull = s.DisksFull - h.full.DisksFull
	h.full = s
	return nil
}

// ended tells whether there is no process of that id.
func ended(tgid uint32) bool { return errors.Is(unix.Kill(int(tgid), 0), unix.ESRCH) }

// monotonic is the clock of the kernel side, in nanoseconds.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // cannot fail for this clock
	}
	return ts.Nano()
}

// Maps lists the sizes of the maps; the other probe's is not among them, and none are once it is closed.
func (h *Host) Maps() []MapUse {
	var uses []MapUse
	for name, m := range h.maps {
		if slices.Contains(h.shared, name) {
			continue
		}
		uses = append(uses, MapUse{Name: "host_" + name, MaxEntries: uint64(m.MaxEntries()), Bytes: mapBytes(m)})
	}
	return uses
}

// Close detaches every program and frees every map.
func (h *Host) Close() error {
	h.changing.Lock()
	defer h.changing.Unlock()
	h.connections, h.listeners = nil, nil
	return h.object.close()
}

// CheckHost attaches the host side for an instant and says what this kernel offers of it.
func CheckHost() (BackendReport, error) {
	p, err := open(Options{Ports: []uint16{1}, Connections: 16, Heads: 16, RingBytes: os.Getpagesize()})
	if err != nil {
		return BackendReport{}, err
	}
	h, err := OpenHost(HostOptions{Connections: p})
	if err != nil {
		return BackendReport{}, errors.Join(err, p.Close())
	}
	r := BackendReport{Name: "host", Hooks: h.Hooks}
	return r, errors.Join(h.Close(), p.Close())
}
