// Package analytics turns exchanges into statistics: endpoints with histograms, counters, and immutable snapshots of
// both, from which every exporter reads.
package analytics

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// EndpointsDefault is the default of Limits.Endpoints.
	EndpointsDefault = 2000
	// IdleDefault is the default of Limits.Idle.
	IdleDefault = 10 * time.Minute

	// overflowEndpointsMax bounds the (service, method) pairs whose exchanges beyond the limit are told apart; all others
	// share one endpoint.
	overflowEndpointsMax = 256
	// sweepInterval is how often a full engine looks for idle endpoints to make room.
	sweepInterval = time.Second
	// kindsMax bounds the pairs of protocol and role that are counted.
	kindsMax = 16
)

// Limits bounds the engine's memory.
type Limits struct {
	// Endpoints is the most server endpoints (service, namespace, method, route) with series of their own, and likewise
	// the most client targets. Exchanges beyond it are counted under the route (or server address) Other. 0 means
	// EndpointsDefault.
	Endpoints int
	// Idle is how long an endpoint without exchanges keeps its series. 0 means IdleDefault; below 0, for ever.
	Idle time.Duration
}

// Options configures an Engine.
type Options struct {
	Limits Limits
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Engine groups exchanges by endpoint and target. One goroutine calls Add; everything else may be called from any goroutine.
type Engine struct {
	Counters

	limits Limits
	now    func() time.Time

	// Locks are taken in this order. ticking is held for a whole tick, consumers of seals included.
	ticking  sync.Mutex
	building sync.Mutex // held while counts are moved or shown: by a tick, a snapshot, or a change of routes
	mu       sync.Mutex // guards what follows; held for one Add, or while entries are listed

	entries    map[Key]*entry
	kinds      []Kind
	overflowed uint64
	lastSweep  time.Time
	// The values of the map, in the order of their keys once a snapshot was made.
	list        []*entry
	listChanged bool
	// epoch changes when an entry is forgotten: a Handle of before may lead to it.
	epoch uint64
	// How many entries there are, and how many of them are for others, by role.
	counts, others [2]int
	next           unsealed

	active atomic.Pointer[map[string]int64]

	clock     clockTicks // guarded by ticking
	windows   windows
	recently  recentBooks
	consumers []func(*Seal) // guarded by ticking

	current atomic.Pointer[Snapshot]
}

// Kind counts the exchanges of a protocol and role.
type Kind struct {
	Protocol string
	Role     wire.Role
	Count    uint64
}

// NewEngine returns an empty engine.
func NewEngine(o Options) *Engine {
	o.Limits.Endpoints = cmp.Or(o.Limits.Endpoints, EndpointsDefault)
	o.Limits.Idle = cmp.Or(o.Limits.Idle, IdleDefault)
	if o.Now == nil {
		o.Now = time.Now
	}
	e := &Engine{
		limits:  o.Limits,
		now:     o.Now,
		epoch:   1,
		entries: map[Key]*entry{},
		// Present from the start, so that the first exchange is an increase.
		kinds: []Kind{{Protocol: "http/1.1", Role: wire.RoleServer}, {Protocol: "http/1.1", Role: wire.RoleClient}},
	}
	now := o.Now()
	e.clock.start(now)
	e.windows.start(e.clock, e.limits.Endpoints)
	e.recently.start(e.clock)
	return e
}

// SetActive replaces the numbers of requests in progress, by service. The engine keeps the map: the caller must not
// change it afterwards.
func (e *Engine) SetActive(byService map[string]int64) { e.active.Store(&byService) }

// Active returns the numbers of requests in progress as they were last set, nil when unknown. The map is shared: read only.
func (e *Engine) Active() map[string]int64 {
	if active := e.active.Load(); active != nil {
		return *active
	}
	return nil
}

// A Handle remembers where an engine counts the exchanges of one service, namespace, method, and route or target, so that
// these are not looked up for each. Its zero value is ready. It is used with one engine, by the caller of AddTo.
type Handle struct {
	entry  *entry
	epoch  uint64
	kind   int
	series int // the latest exchange's; -1: none yet
}

// sampling returns what Requests knows of the entry.
func (h *Handle) sampling() *sampling { return &h.entry.sampling }

// Add counts one exchange. Phases, sizes and durations of -1 (not seen) enter no histogram; the exchange is counted all
// the same. It keeps nothing of ex, and allocates only for what it meets first.
func (e *Engine) Add(ex *wire.Exchange) {
	var h Handle
	e.AddTo(&h, ex)
}

// AddTo is Add for an exchange with the role, protocol, service, namespace, method, and route or target (host and
// server's address) of all others that are counted with the same handle.
func (e *Engine) AddTo(h *Handle, ex *wire.Exchange) {
	e.mu.Lock()
	if h.epoch != e.epoch {
		e.find(h, ex)
	}
	e.kinds[h.kind].Count++
	n := h.entry
	n.touched, n.changed, n.fresh = true, true, true
	h.series = addSeries(&n.live.Series, h.series, ex, e.now)
	if ex.Role != wire.RoleClient { // nobody asks for those of targets yet
		n.live.Phases.add(ex)
	}
	e.mu.Unlock()
}

// find fills a handle. What is beyond the limits is looked up each time, since it is counted each time.
func (e *Engine) find(h *Handle, ex *wire.Exchange) {
	overflowed := e.overflowed
	*h = Handle{kind: e.kind(ex), series: -1, entry: e.entryOf(ex)}
	if e.overflowed == overflowed {
		h.epoch = e.epoch
	}
}

// kind returns which of kinds the exchange counts to.
func (e *Engine) kind(ex *wire.Exchange) int {
	for i := range e.kinds {
		if k := &e.kinds[i]; k.Role == ex.Role && k.Protocol == ex.Protocol {
			return i
		}
	}
	k := Kind{Protocol: label(ex.Protocol), Role: ex.Role}
	if len(e.kinds) >= kindsMax {
		k.Protocol = Other
	}
	for i := range e.kinds {
		if e.kinds[i].Protocol == k.Protocol && e.kinds[i].Role == k.Role {
			return i
		}
	}
	e.kinds = append(e.kinds, k)
	return len(e.kinds) - 1
}

func (e *Engine) entryOf(ex *wire.Exchange) *entry {
	var buf [256]byte
	k, address := keyOf(ex, buf[:0])
	if n := e.lookUp(k, address); n != nil {
		n.ended = false
		return n
	}
	k.clean()
	k.Address = string(address)
	n := e.entries[k]
	if n == nil {
		n = e.admit(k)
	}
	n.source, n.ended = ex.RouteSource, false
	return n
}

// lookUp is the map's look-up with an address in bytes, which it does not make a string.
func (e *Engine) lookUp(k Key, address []byte) *entry {
	return e.entries[Key{Role: k.Role, Convention: k.Convention, Service: k.Service, Namespace: k.Namespace, Operation: k.Operation, Address: string(address), Port: k.Port}]
}

// admit makes the entry of a key that has none, or returns the one that it shares with others.
func (e *Engine) admit(k Key) *entry {
	switch {
	case k.isOther(): // the router's doing, not the limit's
	case !e.full(k.Role) || e.makeRoom() && !e.full(k.Role):
		return e.add(k)
	default:
		e.overflowed++
	}
	key := k.other(false)
	if n := e.entries[key]; n != nil {
		return n
	}
	if e.others[k.Role&1] >= overflowEndpointsMax {
		key = k.other(true)
		if n := e.entries[key]; n != nil {
			return n
		}
	}
	e.others[k.Role&1]++
	return e.add(key)
}

func (e *Engine) add(k Key) *entry {
	delete(e.next.remembered, k)
	n := newEntry(k, e.now())
	e.entries[k] = n
	e.counts[k.Role&1]++
	e.list = append(e.list, n)
	e.listChanged = true
	return n
}

// own returns how many entries of a role have a key of their own.
func (e *Engine) own(role wire.Role) int { return e.counts[role&1] - e.others[role&1] }

func (e *Engine) full(role wire.Role) bool { return e.own(role) >= e.limits.Endpoints }

// makeRoom forgets idle entries, at most once per sweepInterval, and reports whether it looked. Without it, an agent
// that nobody scrapes would stay full of endpoints that are long gone.
func (e *Engine) makeRoom() bool {
	now := e.now()
	if now.Sub(e.lastSweep) < sweepInterval {
		return false
	}
	e.sweep(now)
	return true
}

// sweep notes who was busy since the last sweep and forgets who was idle for too long. The time of an exchange is known
// to the distance between two sweeps, which costs Add no clock.
func (e *Engine) sweep(now time.Time) {
	e.lastSweep = now
	e.epoch++
	if e.limits.Idle < 0 {
		return
	}
	e.list = slices.DeleteFunc(e.list, func(n *entry) bool {
		if !n.idle(now, e.limits.Idle) {
			return false
		}
		e.forget(n)
		e.next.left(n)
		return true
	})
}

// forget takes an entry out of the books, but for the list.
func (e *Engine) forget(n *entry) {
	delete(e.entries, n.key)
	e.counts[n.key.Role&1]--
	if n.key.isOther() {
		e.others[n.key.Role&1]--
	}
}

// Reroute moves what was counted under learned routes to what these routes have become: current returns, for a service and
// a route of before, the one that its requests are counted under now. Consumers of seals hear of it with the next one. Counters
// of two routes that became one are summed, unless somebody may have read the one that ends: who knows its counts already would
// see them a second time as an increase of the other one. It then stays as it is until it is idle for long enough.
func (e *Engine) Reroute(current func(service, route string) string) {
	e.building.Lock()
	defer e.building.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = slices.DeleteFunc(e.list, func(n *entry) bool {
		if !learned(&n.key, n.source) || n.ended {
			return false
		}
		key := n.key
		key.Name = routeLabel(current(key.Service, key.Name))
		if key == n.key {
			return false
		}
		e.epoch++
		e.listChanged = true
		e.next.rename(n.key, key)
		into := e.entries[key]
		switch {
		case into == nil:
			delete(e.entries, n.key)
			n.key, n.changed, n.view = key, true, nil
			e.entries[key] = n
			return false
		case n.shown:
			n.ended = true
			if n.fresh {
				since := n.take()
				n.total.merge(&since)
				e.next.add(&Sealed{key, n.source, since})
			}
			return false
		}
		e.forget(n)
		into.absorb(n)
		return true
	})
	e.next.renameLeft(current)
}

// learned tells whether the name of a key is a route that may become another.
func learned(k *Key, source wire.RouteSource) bool {
	return k.Role != wire.RoleClient && source == wire.RouteLearned && k.Name != Other
}
