package analytics

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// snapshotInterval is the least time between two snapshots: scrapes, dashboards and commands that ask at the same
	// time share one.
	snapshotInterval = 100 * time.Millisecond
	// parseErrorsMax bounds the pairs of protocol and reason that are counted.
	parseErrorsMax = 64
)

// Snapshot is an immutable view of everything the engine knows at one instant. Endpoints and Targets are in the order of
// their keys, and shared with other snapshots where nothing changed.
type Snapshot struct {
	Time time.Time

	Endpoints []*Entry // of servers
	Targets   []*Entry // of clients

	// Levels are those of the latest tick, of the endpoints that have one, in the order of their keys.
	Levels []EndpointLevels

	// WindowBytes is the memory of all sub-windows, as of the latest tick.
	WindowBytes int64

	// Active holds the numbers of requests in progress, by service; nil when unknown.
	Active map[string]int64

	Exchanges   []Kind
	Lost        []Lost // one per wire.Losses, in that order
	ParseErrors []ParseError

	// Recent is what of all that happened lately.
	Recent Recent

	// EndpointsOwn is how many server endpoints have series of their own.
	EndpointsOwn int
	// Overflowed is how many exchanges were counted under Other because of Limits.Endpoints.
	Overflowed uint64
}

// Lost is how many exchanges were lost for one reason.
type Lost struct {
	wire.Loss
	Count uint64
}

// ParseError is how many exchanges or fragments of a protocol could not be understood, for one reason.
type ParseError struct {
	Protocol, Reason string
	Count            uint64
}

// Undecoded is how many connections of a service cannot be understood, and why.
type Undecoded struct {
	Service, Reason string
	Connections     uint64
}

// Books is the balance of a snapshot: every exchange that happened was either reported or lost.
type Books struct {
	Seen, Reported, Lost uint64
}

// Balanced reports whether seen = reported + lost.
func (b Books) Balanced() bool { return b.Seen == b.Reported+b.Lost }

// Books compares what was reported and lost with the exchanges that are known, from elsewhere, to have been seen.
func (s *Snapshot) Books(seen uint64) Books {
	b := Books{Seen: seen}
	for i := range s.Exchanges {
		b.Reported += s.Exchanges[i].Count
	}
	for i := range s.Lost {
		b.Lost += s.Lost[i].Count
	}
	return b
}

// Counters counts what does not become an exchange. All methods may be called from any goroutine. The zero value is
// ready to use.
type Counters struct {
	lost [lossesMax]atomic.Uint64

	parseMu sync.Mutex
	parse   map[parseErrorKey]uint64
}

// lossesMax is room for all of wire.Losses.
const lossesMax = 32

type parseErrorKey struct{ protocol, reason string }

// Lose counts n exchanges that are lost for the reason, one of wire.Losses.
func (c *Counters) Lose(l wire.Loss, n uint64) { c.lost[lossIndex(l)].Add(n) }

// SetLost sets the total of a loss that is counted elsewhere, as the kernel side does. A loss is either set or counted.
func (c *Counters) SetLost(l wire.Loss, total uint64) { c.lost[lossIndex(l)].Store(total) }

// lossIndex panics for a loss that wire.Losses does not list: it would be missing from the books.
func lossIndex(l wire.Loss) int {
	for i := range wire.Losses {
		if wire.Losses[i] == l {
			return i
		}
	}
	panic("analytics: loss " + l.Stage + "/" + l.Reason + " is not listed")
}

// ParseError counts n messages of the protocol that were not understood for the reason.
func (c *Counters) ParseError(protocol, reason string, n uint64) {
	k := parseErrorKey{protocol, reason}
	c.parseMu.Lock()
	defer c.parseMu.Unlock()
	if c.parse == nil {
		c.parse = map[parseErrorKey]uint64{}
	}
	if _, known := c.parse[k]; !known && len(c.parse) >= parseErrorsMax {
		k = parseErrorKey{Other, Other}
	}
	c.parse[k] += n
}

func (c *Counters) losses() []Lost {
	all := make([]Lost, len(wire.Losses))
	for i, l := range wire.Losses {
		all[i] = Lost{l, c.lost[i].Load()}
	}
	return all
}

func (c *Counters) parseErrors() []ParseError {
	c.parseMu.Lock()
	all := make([]ParseError, 0, len(c.parse))
	for k, n := range c.parse {
		all = append(all, ParseError{k.protocol, k.reason, n})
	}
	c.parseMu.Unlock()
	slices.SortFunc(all, func(a, b ParseError) int {
		return cmp.Or(strings.Compare(a.Protocol, b.Protocol), strings.Compare(a.Reason, b.Reason))
	})
	return all
}

// Snapshot returns a view that is at most 100 ms old. Making one copies the endpoints that changed since the last one,
// and holds Add up meanwhile: about 1 us an endpoint.
func (e *Engine) Snapshot() *Snapshot {
	if s := e.recent(); s != nil {
		return s
	}
	e.building.Lock()
	defer e.building.Unlock()
	if s := e.recent(); s != nil { // another goroutine was quicker
		return s
	}
	s := e.build(e.now())
	e.current.Store(s)
	return s
}

func (e *Engine) recent() *Snapshot {
	s := e.current.Load()
	if s == nil {
		return nil
	}
	if age := e.now().Sub(s.Time); age < 0 || age >= snapshotInterval {
		return nil
	}
	return s
}

func (e *Engine) build(now time.Time) *Snapshot {
	s := &Snapshot{Time: now, Levels: e.Levels(), WindowBytes: e.WindowMemory(), Lost: e.losses(), ParseErrors: e.parseErrors()}
	if active := e.active.Load(); active != nil {
		s.Active = maps.Clone(*active)
	}
	var stale []*entry
	e.mu.Lock()
	e.sweep(now)
	if e.listChanged {
		slices.SortFunc(e.list, func(a, b *entry) int { return a.key.compare(&b.key) })
		e.listChanged = false
	}
	list := slices.Clone(e.list)
	for _, n := range list {
		if n.changed || n.view == nil {
			n.changed = false
			n.view = &Entry{n.key, n.source, n.created, n.live.clone()}
			stale = append(stale, n)
		}
	}
	s.Exchanges = slices.Clone(e.kinds)
	s.EndpointsOwn = e.own(wire.RoleServer)
	s.Overflowed = e.overflowed
	e.mu.Unlock()
	s.Recent = e.recently.since(s.Books(0))
	for _, n := range stale {
		if len(n.total.Series) > 0 {
			n.view.Counts = n.total.plus(&n.view.Counts)
		}
	}
	s.Endpoints, s.Targets = make([]*Entry, 0, len(list)), []*Entry{}
	for _, n := range list {
		n.shown = true
		if n.key.Role == wire.RoleClient {
			s.Targets = append(s.Targets, n.view)
		} else {
			s.Endpoints = append(s.Endpoints, n.view)
		}
	}
	return s
}
