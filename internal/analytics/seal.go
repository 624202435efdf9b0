package analytics

import (
	"context"
	"slices"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

// TickInterval is how often what was counted is sealed. Windows end at the latest tick.
const TickInterval = 10 * time.Second

// Seal is what every entry did between two ticks. It never changes, and whoever consumes it needs nothing else of the engine.
type Seal struct {
	// Tick is the one that it ends with, counted from the origin of ticks (a border of five minutes). Of several that passed
	// at once, as when the machine slept, it is the last.
	Tick int64
	// From and To are wall clock times of the ticks at its ends.
	From, To time.Time
	// Renames are routes that have become others since the seal before, in the order in which they did: what a consumer has of
	// the first key goes on under the second one, summed with what that has. They come before Entries.
	Renames []Rename
	// Entries had exchanges; there is one for each key, in the order of the keys.
	Entries []*Sealed
}

// Rename says that a route has become another.
type Rename struct{ From, To Key }

// Sealed is what one entry did.
type Sealed struct {
	Key
	RouteSource wire.RouteSource // of the latest exchange
	Counts
}

// OnSeal has consume called with every seal from now on, in their order and never twice at a time, from the goroutine that
// ticks, which it must not hold up for long. No lock that counting or snapshots need is held meanwhile.
func (e *Engine) OnSeal(consume func(*Seal)) {
	e.ticking.Lock()
	defer e.ticking.Unlock()
	e.consumers = append(e.consumers, consume)
}

// clockTicks counts ticks by a clock whose steps do not show.
type clockTicks struct {
	started time.Time     // what was before was not seen
	offset  time.Duration // of started from the origin of ticks, which is a border of five minutes
	sealed  int64         // ticks since the origin that are sealed
	at      time.Time     // when the latest of them was
}

func (c *clockTicks) start(now time.Time) {
	*c = clockTicks{started: now, offset: now.Sub(now.Truncate(ticksPerFive * TickInterval)), at: now}
	c.sealed = int64(c.offset / TickInterval)
}

// elapsed is the time since the origin of ticks.
func (c *clockTicks) elapsed(now time.Time) time.Duration { return c.offset + now.Sub(c.started) }

// advance goes on to the latest tick, and tells whether there is a new one.
func (c *clockTicks) advance(now time.Time) bool {
	elapsed := c.elapsed(now)
	tick := int64(elapsed / TickInterval)
	if tick <= c.sealed {
		return false
	}
	c.sealed, c.at = tick, now.Add(time.Duration(tick)*TickInterval-elapsed)
	return true
}

// Run ticks until the context ends.
func (e *Engine) Run(ctx context.Context) {
	for {
		timer := time.NewTimer(e.untilTick())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			e.Tick()
		}
	}
}

func (e *Engine) untilTick() time.Duration {
	e.ticking.Lock()
	defer e.ticking.Unlock()
	return time.Duration(e.clock.sealed+1)*TickInterval - e.clock.elapsed(e.now())
}

// Tick seals what was counted since the last call, once the clock has passed another tick, and hands it to who consumes
// seals; windows and levels are the first of these. Run calls it; where there is no Run, there are no windows. It may be
// called at any time, and does nothing before the next tick.
func (e *Engine) Tick() {
	e.ticking.Lock()
	defer e.ticking.Unlock()
	from := e.clock.at
	if !e.clock.advance(e.now()) {
		return
	}
	s := &Seal{Tick: e.clock.sealed, From: from, To: e.clock.at}
	e.recently.add(s.Tick, s.To, e.books())
	e.seal(s)
	e.windows.consume(s)
	for _, consume := range e.consumers {
		consume(s)
	}
}

// seal moves what was counted to the seal, and to the totals.
func (e *Engine) seal(s *Seal) {
	e.building.Lock()
	defer e.building.Unlock()
	var moved []*entry
	e.mu.Lock()
	e.next.ticking = true
	s.Renames, s.Entries = e.next.take()
	first := len(s.Entries)
	for _, n := range e.list {
		if n.fresh {
			moved = append(moved, n)
			s.Entries = append(s.Entries, &Sealed{n.key, n.source, n.take()})
		}
	}
	e.mu.Unlock()
	for i, n := range moved {
		n.total.merge(&s.Entries[first+i].Counts)
	}
	s.unite()
}

// unite sorts the entries and makes those of one key one.
func (s *Seal) unite() {
	if s.ordered() {
		return
	}
	slices.SortStableFunc(s.Entries, func(a, b *Sealed) int { return a.Key.compare(&b.Key) })
	kept := s.Entries[:0]
	for _, n := range s.Entries {
		if len(kept) > 0 && kept[len(kept)-1].Key == n.Key {
			kept[len(kept)-1] = &Sealed{n.Key, n.RouteSource, kept[len(kept)-1].Counts.plus(&n.Counts)}
			continue
		}
		kept = append(kept, n)
	}
	clear(s.Entries[len(kept):])
	s.Entries = kept
}

// ordered tells whether there is nothing to unite, as usual: entries are listed in the order of their keys.
func (s *Seal) ordered() bool {
	for i := 1; i < len(s.Entries); i++ {
		if s.Entries[i-1].compare(&s.Entries[i].Key) >= 0 {
			return false
		}
	}
	return true
}

// rememberedMax bounds the routes of forgotten entries that may still become others.
const rememberedMax = 4096

// unsealed is what the next seal says beside what entries counted.
type unsealed struct {
	ticking bool // there are ticks, so that this is taken
	renames []Rename
	entries []*Sealed
	// Learned routes of entries that were forgotten: consumers may have them still.
	remembered map[Key]struct{}
}

func (u *unsealed) take() ([]Rename, []*Sealed) {
	renames, entries := u.renames, u.entries
	u.renames, u.entries = nil, nil
	return renames, entries
}

func (u *unsealed) add(s *Sealed) {
	if u.ticking {
		u.entries = append(u.entries, s)
	}
}

// rename notes that a route has become another, for what is in the next seal already as well.
func (u *unsealed) rename(from, to Key) {
	if !u.ticking {
		return
	}
	u.renames = append(u.renames, Rename{from, to})
	for i := range u.entries {
		if u.entries[i].Key == from {
			u.entries[i].Key = to
		}
	}
}

// left takes over what an entry that is forgotten counted since the latest tick.
func (u *unsealed) left(n *entry) {
	if n.fresh {
		u.add(&Sealed{n.key, n.source, n.live})
	}
	if !u.ticking || !learned(&n.key, n.source) {
		return
	}
	if u.remembered == nil {
		u.remembered = map[Key]struct{}{}
	}
	for k := range u.remembered {
		if len(u.remembered) >= rememberedMax {
			delete(u.remembered, k) // any of them
		}
		break
	}
	u.remembered[n.key] = struct{}{}
}

// renameLeft is Reroute for the entries that were forgotten.
func (u *unsealed) renameLeft(current func(service, route string) string) {
	for k := range u.remembered {
		to := k
		to.Name = routeLabel(current(k.Service, k.Name))
		if to != k {
			u.rename(k, to)
			delete(u.remembered, k)
			u.remembered[to] = struct{}{}
		}
	}
}
