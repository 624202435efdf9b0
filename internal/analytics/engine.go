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

// Engine groups exchanges by endpoint. One goroutine calls Add; everything else may be called from any goroutine.
type Engine struct {
	Counters

	limits Limits
	now    func() time.Time

	mu         sync.Mutex // guards what follows; held for one Add, or while a snapshot is made
	servers    map[ServerKey]*endpoint
	clients    map[ClientKey]*target
	kinds      []Kind
	overflowed uint64
	lastSweep  time.Time
	// The values of the maps, in the order of their keys once a snapshot was made.
	serverList  []*endpoint
	clientList  []*target
	listChanged bool

	// epoch changes when an entry is forgotten: a Handle of before may lead to it.
	epoch uint64

	// How many of the entries are overflow endpoints and targets.
	otherServers, otherClients int

	active atomic.Pointer[map[string]int64]
	// What windows need to know: endpoints that were forgotten since the latest tick, where there are ticks.
	ticking bool
	gone    []*endpoint
	joins   []join
	windows windows

	building sync.Mutex // serialises the makers of snapshots
	current  atomic.Pointer[Snapshot]
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
		servers: map[ServerKey]*endpoint{},
		clients: map[ClientKey]*target{},
		// Present from the start, so that the first exchange is an increase.
		kinds: []Kind{{Protocol: "http/1.1", Role: wire.RoleServer}, {Protocol: "http/1.1", Role: wire.RoleClient}},
	}
	e.windows.start(o.Now())
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
	endpoint *endpoint
	target   *target
	epoch    uint64
	kind     int
	series   int // the latest exchange's; -1: none yet
}

// sampling returns what Requests knows of the endpoint or target.
func (h *Handle) sampling() *sampling {
	if t := h.target; t != nil {
		return &t.sampling
	}
	return &h.endpoint.sampling
}

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
	if t := h.target; t != nil {
		t.touched, t.changed = true, true
		h.series = addSeries(&t.live.Series, h.series, ex, e.now)
	} else {
		s := h.endpoint
		s.touched, s.changed, s.unsealed = true, true, true
		h.series = addSeries(&s.live.Series, h.series, ex, e.now)
		s.live.Phases.add(ex)
	}
	e.mu.Unlock()
}

// find fills a handle. What is beyond the limits is looked up each time, since it is counted each time.
func (e *Engine) find(h *Handle, ex *wire.Exchange) {
	*h = Handle{kind: e.kind(ex), series: -1}
	overflowed := e.overflowed
	if ex.Role == wire.RoleClient {
		h.target = e.target(ex)
	} else {
		h.endpoint = e.endpoint(ex)
	}
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

func (e *Engine) endpoint(ex *wire.Exchange) *endpoint {
	if s := e.servers[ServerKey{ex.Service, ex.Namespace, ex.Method, ex.Route}]; s != nil {
		s.ended = false
		return s
	}
	return e.findEndpoint(ex)
}

// findEndpoint finds or makes the endpoint of a key that is not known as it stands.
func (e *Engine) findEndpoint(ex *wire.Exchange) *endpoint {
	k := ServerKey{label(ex.Service), label(ex.Namespace), label(ex.Method), routeLabel(ex.Route)}
	if s := e.servers[k]; s != nil {
		s.live.RouteSource, s.ended = ex.RouteSource, false
		return s
	}
	if k.Route == Other { // the router's doing, not the limit's
		return e.otherEndpoint(k)
	}
	if e.serversFull() && !(e.makeRoom() && !e.serversFull()) {
		e.overflowed++
		return e.otherEndpoint(k)
	}
	s := e.addEndpoint(k)
	s.live.RouteSource = ex.RouteSource
	return s
}

// Reroute moves what was counted under learned routes to what these routes have become: current returns, for a service and
// a route of before, the one that its requests are counted under now. Windows of two routes that became one are summed. So
// are their counters, unless somebody may have read the one that ends: who knows its counts already would see them a second
// time as an increase of the other one. It then stays as it is until it is idle for long enough.
func (e *Engine) Reroute(current func(service, route string) string) {
	e.windows.mu.Lock()
	defer e.windows.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	defer func(epoch uint64) {
		if e.epoch != epoch {
			e.windows.cached = [4]*Window{}
			e.windows.publishLevels()
		}
	}(e.epoch)
	e.serverList = slices.DeleteFunc(e.serverList, func(s *endpoint) bool {
		if s.live.RouteSource != wire.RouteLearned || s.live.Route == Other || s.ended {
			return false
		}
		route := routeLabel(current(s.live.Service, s.live.Route))
		if route == s.live.Route {
			return false
		}
		e.epoch++
		e.listChanged = true
		key := s.live.ServerKey
		key.Route = route
		into := e.servers[key]
		if into != nil && s.view != nil {
			s.ended = true
			e.joins = append(e.joins, join{s, into})
			return false
		}
		delete(e.servers, s.live.ServerKey)
		s.live.Route = route
		if into == nil {
			e.servers[s.live.ServerKey] = s
			s.changed = true
			if s.ring != nil {
				e.windows.rename(s.ring, &s.live.ServerKey)
			}
			return false
		}
		into.merge(s)
		e.windows.join(into, s)
		for i := range e.joins {
			if e.joins[i].into == s {
				e.joins[i].into = into
			}
		}
		return true
	})
	e.windows.rerouteGone(current)
}

// join is what is still to be done of a route that has become another: its sub-window under way is sealed first.
type join struct{ from, into *endpoint }

// otherEndpoint returns the endpoint that k shares with others.
func (e *Engine) otherEndpoint(k ServerKey) *endpoint {
	k.Route = Other
	if s := e.servers[k]; s != nil {
		return s
	}
	if e.otherServers >= overflowEndpointsMax {
		k = ServerKey{Service: Other, Method: Other, Route: Other}
		if s := e.servers[k]; s != nil {
			return s
		}
	}
	e.otherServers++
	return e.addEndpoint(k)
}

func (e *Engine) addEndpoint(k ServerKey) *endpoint {
	s := newEndpoint(k, e.now())
	e.servers[k] = s
	e.serverList = append(e.serverList, s)
	e.listChanged = true
	return s
}

func (e *Engine) target(ex *wire.Exchange) *target {
	var lower [256]byte
	name, port := hostName(ex.Host), ex.Remote.Port()
	if len(name) > 0 {
		name = appendLower(lower[:0], name)
	} else if a := ex.Remote.Addr(); a.IsValid() {
		name = a.Unmap().WithZone("").AppendTo(lower[:0])
	}
	if t := e.clients[ClientKey{ex.Service, ex.Namespace, ex.Method, string(name), port}]; t != nil {
		return t
	}
	k := ClientKey{label(ex.Service), label(ex.Namespace), label(ex.Method), string(name), port}
	if t := e.clients[k]; t != nil {
		return t
	}
	if e.clientsFull() && !(e.makeRoom() && !e.clientsFull()) {
		return e.otherTarget(k)
	}
	return e.addTarget(k)
}

func (e *Engine) otherTarget(k ClientKey) *target {
	e.overflowed++
	k.Address, k.Port = Other, 0
	if t := e.clients[k]; t != nil {
		return t
	}
	if e.otherClients >= overflowEndpointsMax {
		k = ClientKey{Service: Other, Method: Other, Address: Other}
		if t := e.clients[k]; t != nil {
			return t
		}
	}
	e.otherClients++
	return e.addTarget(k)
}

func (e *Engine) addTarget(k ClientKey) *target {
	now := e.now()
	t := &target{activity: activity{lastSeen: now}, live: Target{ClientKey: k, Created: now}}
	e.clients[k] = t
	e.clientList = append(e.clientList, t)
	e.listChanged = true
	return t
}

func appendLower(dst, src []byte) []byte {
	for _, c := range src {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

func (e *Engine) serversFull() bool { return len(e.servers)-e.otherServers >= e.limits.Endpoints }
func (e *Engine) clientsFull() bool { return len(e.clients)-e.otherClients >= e.limits.Endpoints }

// makeRoom forgets idle endpoints, at most once per sweepInterval, and reports whether it looked. Without it, an agent
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
	e.serverList = slices.DeleteFunc(e.serverList, func(s *endpoint) bool {
		if !s.idle(now, e.limits.Idle) {
			return false
		}
		delete(e.servers, s.live.ServerKey)
		if e.ticking { // until the next tick; an endpoint idles for minutes first, so there are few
			e.gone = append(e.gone, s)
		}
		if s.live.Route == Other {
			e.otherServers--
		}
		return true
	})
	e.clientList = slices.DeleteFunc(e.clientList, func(t *target) bool {
		if !t.idle(now, e.limits.Idle) {
			return false
		}
		delete(e.clients, t.live.ClientKey)
		if t.live.Address == Other {
			e.otherClients--
		}
		return true
	})
}

// idle reports whether the entry saw no exchange for the time.
func (a *activity) idle(now time.Time, limit time.Duration) bool {
	if a.touched {
		a.touched, a.lastSeen = false, now
	}
	return now.Sub(a.lastSeen) > limit
}
