// Package host tells what the kernel's files say about processes: who they are, where they run, which TLS libraries
// they use, and what the wall clock said at a monotonic instant. It only reads.
package host

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// processEntries is how many processes are remembered, about 400 bytes each: 3 MiB at worst. It holds every
	// process with traffic on all but extreme hosts; beyond it the least recently used one is read again.
	processEntries = 8192
	// processRecheck is how long an identity is believed. A pid comes back only after pid_max others (at least 32768),
	// so a few seconds are safe, and a check costs about 10 us.
	processRecheck = 5 * time.Second
	// processSlots is the size of the table in front of the map: busy processes are few, and it spares the hashing.
	processSlots = 256
	// processTouch is how exact the order of use is; within it an entry is not moved again.
	processTouch = int64(time.Second)
	// neverTouched is long before any instant.
	neverTouched = math.MinInt64 / 2
)

// Identity is who a process is. Strings never change once returned.
type Identity struct {
	Service     string // never empty; valid UTF-8, printable, at most 128 bytes
	Namespace   string // service.namespace of the process's OTEL_RESOURCE_ATTRIBUTES; may be empty
	ContainerID string // 64 hexadecimal digits, or empty
	Executable  string // path as the process sees it; empty where it could not be read
	// Started is when the process started, since boot (suspend included), to 10 ms; 0 where it could not be read.
	Started time.Duration
	// Chosen tells whether ProcessOptions.Filter admits the process; always true for the zero filter.
	Chosen bool
}

// ProcessOptions configure Processes. The zero value is the live host without a filter.
type ProcessOptions struct {
	Root    string        // directory that holds proc and var; "" means "/"
	Entries int           // most processes remembered; 0 means 8192
	Recheck time.Duration // how long an identity is believed; 0 means 5 s
	Filter  Filter        // decides Identity.Chosen
	// Services are the rules of the services file; nil, also inside, means none. New ones count from the next look-up on.
	Services *atomic.Pointer[Services]
}

// Processes remembers who each process is. It has one owner: its methods must not be called at the same time.
type Processes struct {
	reader   identityReader
	services *atomic.Pointer[Services] // the reader has those in force
	recheck  int64                     // ns
	limit    int
	entries  map[uint32]*process
	recent   process // head of the ring of entries; recent.next is the one used last
	slots    [processSlots]*process
}

// process is one remembered identity, a link of the ring ordered by use.
type process struct {
	next, previous *process
	pid            uint32
	comm           [16]byte
	known          bool  // false: the process had ended before it could be read
	checkedNS      int64 // when the identity was last compared with the process
	touchedNS      int64 // when the entry was last moved to the front
	startTicks     uint64
	identity       *Identity         // never changed, only replaced
	services       *Services         // that it was named by
	rule           int               // see reading
	ruled          bool              // see reading
	servers        map[int]*Identity // by rule: who it is where it serves another port than those that name it
}

// NewProcesses returns an empty cache.
func NewProcesses(options ProcessOptions) *Processes {
	p := &Processes{
		reader:   newIdentityReader(options.Root, options.Filter),
		services: options.Services,
		recheck:  int64(options.Recheck),
		limit:    options.Entries,
		entries:  make(map[uint32]*process),
	}
	if p.services == nil {
		p.services = new(atomic.Pointer[Services])
	}
	if p.recheck == 0 {
		p.recheck = int64(processRecheck)
	}
	if p.limit == 0 {
		p.limit = processEntries
	}
	p.recent.next, p.recent.previous = &p.recent, &p.recent
	return p
}

// Identify returns who a process is. Comm is its task name, the fallback where the process has ended. NowNS is any
// monotonic time in nanoseconds that never goes far back, such as the latest instant of the batch being handled: it
// decides when a remembered identity is checked against the process's start time, and spares a clock reading.
//
// The same pointer means that nothing has changed; what it points to is not to be written to.
func (p *Processes) Identify(pid uint32, comm *[16]byte, nowNS int64) *Identity {
	return p.identify(pid, comm, nowNS).identity
}

// IdentifyServer is Identify for the server of an exchange at a TCP port (0 for none): a rule of the services file may
// name what the process does at that port, where it serves several.
func (p *Processes) IdentifyServer(pid uint32, port uint16, comm *[16]byte, nowNS int64) *Identity {
	entry := p.identify(pid, comm, nowNS)
	services := p.reader.services
	if services == nil || len(services.ports) == 0 {
		return entry.identity
	}
	rule, ok := services.ports[port]
	if !ok {
		return entry.identity
	}
	rule = min(rule, entry.rule)
	name := services.rules[rule].name
	if name == entry.identity.Service {
		return entry.identity
	}
	if entry.servers[rule] == nil {
		if entry.servers == nil {
			entry.servers = make(map[int]*Identity)
		}
		server := *entry.identity
		server.Service = name
		entry.servers[rule] = &server
	}
	return entry.servers[rule]
}

// identify returns a process's entry, read or checked where that is due.
func (p *Processes) identify(pid uint32, comm *[16]byte, nowNS int64) *process {
	p.reader.services = p.services.Load()
	entry := p.slots[pid%processSlots]
	if entry == nil || entry.pid != pid {
		if entry = p.entries[pid]; entry == nil {
			return p.add(pid, comm, nowNS)
		}
		p.slots[pid%processSlots] = entry
	}
	if nowNS-entry.touchedNS >= processTouch {
		p.touch(entry, nowNS)
	}
	if p.isDue(entry, comm, nowNS) {
		p.check(entry, comm, nowNS)
	}
	return entry
}

// isDue tells whether an entry is to be compared with its process.
func (p *Processes) isDue(entry *process, comm *[16]byte, nowNS int64) bool {
	return nowNS-entry.checkedNS >= p.recheck || entry.services != p.reader.services || !entry.known && entry.comm != *comm
}

// Describe is Identify for a process that exchanges nothing: Recent leaves it out.
func (p *Processes) Describe(pid uint32, comm *[16]byte, nowNS int64) *Identity {
	p.reader.services = p.services.Load()
	entry := p.entries[pid]
	if entry == nil {
		entry = p.add(pid, comm, nowNS)
		entry.touchedNS = neverTouched
	} else if p.isDue(entry, comm, nowNS) {
		p.check(entry, comm, nowNS)
	}
	return entry.identity
}

// Forget drops a process, for instance because it was seen to exit.
func (p *Processes) Forget(pid uint32) {
	if entry := p.entries[pid]; entry != nil {
		p.remove(entry)
	}
}

// Recent returns the chosen processes that were identified within the time before nowNS, the latest first, at most as many
// as given. Those that had ended before they could be read are left out.
func (p *Processes) Recent(nowNS int64, within time.Duration, most int) []Watched {
	var recent []Watched
	for entry := p.recent.next; entry != &p.recent && len(recent) < most; entry = entry.next {
		// The order is that of the calls, whose instants may lie apart: an older one does not end the walk.
		if entry.known && entry.identity.Chosen && nowNS-entry.touchedNS <= int64(within) {
			recent = append(recent, Watched{entry.pid, entry.identity})
		}
	}
	return recent
}

// Len returns how many processes are remembered.
func (p *Processes) Len() int { return len(p.entries) }

// add reads a process that is not remembered, making room by dropping the one that was used longest ago.
func (p *Processes) add(pid uint32, comm *[16]byte, nowNS int64) *process {
	if len(p.entries) >= p.limit {
		p.remove(p.recent.previous)
	}
	entry := &process{pid: pid, touchedNS: nowNS}
	p.fill(entry, comm, nowNS)
	p.entries[pid] = entry
	p.slots[pid%processSlots] = entry
	p.pushFront(entry)
	return entry
}

// check makes sure that an entry still describes the process of its pid. A process that ended keeps its identity:
// records of its last exchanges arrive late. An exec keeps the start time, so the executable is compared too. A process that
// no rule names may have begun to listen at a rule's port.
func (p *Processes) check(entry *process, comm *[16]byte, nowNS int64) {
	entry.checkedNS = nowNS
	stat, err := p.reader.proc.stat(entry.pid)
	if err != nil && entry.known {
		if entry.services != p.reader.services {
			entry.services, entry.rule, entry.servers = p.reader.services, noRule, nil
		}
		return
	}
	mayListen := entry.services != nil && len(entry.services.ports) > 0 && !entry.ruled
	if entry.known && stat.startTicks == entry.startTicks && entry.services == p.reader.services && !mayListen {
		executable := p.reader.proc.executable(entry.pid)
		if executable == "" || executable == entry.identity.Executable {
			return
		}
	}
	p.fill(entry, comm, nowNS)
}

// fill reads an entry's process.
func (p *Processes) fill(entry *process, comm *[16]byte, nowNS int64) {
	found, err := p.reader.identify(entry.pid, p.isChosenDescendant)
	entry.known = err == nil
	if err != nil {
		found.Service = cleanName(commText(*comm))
	}
	if entry.identity == nil || *entry.identity != found.Identity {
		entry.identity, entry.servers = &found.Identity, nil
	}
	if entry.services != p.reader.services {
		entry.services, entry.servers = p.reader.services, nil
	}
	entry.startTicks, entry.rule, entry.ruled = found.startTicks, found.rule, found.ruled
	entry.comm, entry.checkedNS = *comm, nowNS
}

// isChosenDescendant tells whether a process was found before to descend from one of the filter's, so that its
// children are found when it ends before them.
func (p *Processes) isChosenDescendant(pid uint32) bool {
	entry := p.entries[pid]
	return entry != nil && entry.known && entry.identity.Chosen
}

// touch moves an entry to the front of the ring.
func (p *Processes) touch(entry *process, nowNS int64) {
	entry.touchedNS = nowNS
	entry.previous.next, entry.next.previous = entry.next, entry.previous
	p.pushFront(entry)
}

func (p *Processes) pushFront(entry *process) {
	entry.previous, entry.next = &p.recent, p.recent.next
	entry.next.previous, p.recent.next = entry, entry
}

func (p *Processes) remove(entry *process) {
	entry.previous.next, entry.next.previous = entry.next, entry.previous
	delete(p.entries, entry.pid)
	if slot := &p.slots[entry.pid%processSlots]; *slot == entry {
		*slot = nil
	}
}
