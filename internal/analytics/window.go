package analytics

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// windowBytesPerEndpoint times Limits.Endpoints is what all sub-windows of a role together may take: 6 MiB at 2,000
	// endpoints. It is divided between the entries that there are. Two hundred busy ones keep the full resolution for an hour;
	// two thousand have estimates within some 4 %.
	windowBytesPerEndpoint = 3 << 10
	// ringBytesMin is what an entry gets in any case: all tallies of an hour and some cells.
	ringBytesMin = 1 << 10
)

// WindowLengths are the windows that can be asked for.
var WindowLengths = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}

// windows are what was seen in the last minutes: the first consumer of seals.
//
// What an entry did between two ticks becomes a sub-window, in a few dozen bytes; six of these become one of a minute, five of
// those one of five minutes. A window is a sum of sub-windows. It ends at the latest tick, and begins at a border of its coarsest
// sub-windows, so that it is never shorter than asked for: one of 1 minute is exact, those of 5 and 15 minutes are up to 50
// seconds longer, that of 60 minutes up to 4 minutes and 50 seconds. Every answer says from when to when it is, and rates
// are over that time. An exchange belongs to the sub-window in which it was counted, which is that in which it ended or,
// by at most a second, a later one.
type windows struct {
	mu     sync.Mutex
	limit  int           // of entries that are known to the engine at a time, by role
	offset time.Duration // of the start from the origin of ticks
	sealed int64         // ticks since the origin that are sealed
	at     time.Time     // when the latest of them was
	byKey  map[Key]*ring
	rings  []*ring // the same
	sorted bool
	// How many rings there are, and how many of them are of one key each, by role.
	roles, own [2]int

	scratch scratch
	loads   loads

	options LevelOptions
	general *aspectLimits
	levels  atomic.Pointer[[]EndpointLevels]
	cached  [4]*Window // by WindowLengths, since the latest tick
	bytes   atomic.Int64
}

func (w *windows) start(c clockTicks, limit int) {
	w.limit, w.offset, w.sealed, w.at = limit, c.offset, c.sealed, c.at
	w.byKey = map[Key]*ring{}
	w.general = w.options.general()
}

// SetLevels replaces the limits by which levels are judged. It may be called from any goroutine. Levels whose limits
// change are judged anew.
func (e *Engine) SetLevels(o LevelOptions) {
	w := &e.windows
	w.mu.Lock()
	defer w.mu.Unlock()
	w.options, w.general = o, o.general()
	for _, r := range w.rings {
		limits := o.limitsOf(&r.key, w.general)
		for a := range limits {
			if limits[a] != r.limits[a] {
				r.judged[a] = judged{}
			}
		}
		r.limits = limits
	}
	w.cached = [4]*Window{}
	w.publishLevels()
}

// consume takes a seal in.
func (w *windows) consume(s *Seal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range s.Renames {
		w.rename(&s.Renames[i])
	}
	for i := range s.Entries {
		n := s.Entries[i]
		r := w.ringOf(&n.Key)
		r.source = n.RouteSource
		r.seal(s.Tick-1, &n.Counts, &w.scratch)
		r.fit(w.allowance(n.Role), &w.scratch)
	}
	w.loads.consume(s)
	w.roll(s.Tick)
	w.sealed, w.at = s.Tick, s.To
	w.cached = [4]*Window{}
	w.judge(len(s.Renames) > 0)
}

// allowance is how many bytes each ring of a role may have.
func (w *windows) allowance(role wire.Role) int {
	return max(w.limit*windowBytesPerEndpoint/max(w.roles[role&1], 1), ringBytesMin)
}

// ringsPerEntry times the limit of entries is how many rings of a role and of one key each there may be: sub-windows outlive what the engine
// forgets.
const ringsPerEntry = 2

// ringOf returns the ring of a key, or a new one.
func (w *windows) ringOf(k *Key) *ring {
	if r := w.byKey[*k]; r != nil {
		return r
	}
	if !k.isOther() && w.own[k.Role&1] >= ringsPerEntry*w.limit {
		w.retire(k.Role)
	}
	r := &ring{key: *k, born: math.MaxInt64}
	r.limits = w.options.limitsOf(k, w.general)
	w.rings = append(w.rings, r)
	w.byKey[*k] = r
	w.count(k, 1)
	w.sorted = false
	return r
}

// retire keeps what the ring that was quiet for longest has for others.
func (w *windows) retire(role wire.Role) {
	var oldest *ring
	for _, r := range w.rings {
		if r.key.Role == role && !r.key.isOther() && (oldest == nil || r.last < oldest.last) {
			oldest = r
		}
	}
	if oldest == nil {
		return
	}
	w.drop(oldest)
	key := oldest.key.other(true)
	w.ringOf(&key).merge(oldest, &w.scratch)
}

// drop forgets a ring.
func (w *windows) drop(r *ring) {
	w.rings = slices.DeleteFunc(w.rings, func(o *ring) bool { return o == r })
	w.leave(r)
}

// leave takes a ring out of all but the list.
func (w *windows) leave(r *ring) {
	delete(w.byKey, r.key)
	w.count(&r.key, -1)
}

func (w *windows) count(k *Key, n int) {
	w.roles[k.Role&1] += n
	if !k.isOther() {
		w.own[k.Role&1] += n
	}
}

// rename gives what a route has to the one that it has become.
func (w *windows) rename(n *Rename) {
	r := w.byKey[n.From]
	if r == nil {
		return
	}
	if into := w.byKey[n.To]; into != nil {
		into.merge(r, &w.scratch)
		w.drop(r)
		return
	}
	delete(w.byKey, n.From)
	r.key, w.sorted = n.To, false
	r.limits = w.options.limitsOf(&r.key, w.general)
	w.byKey[n.To] = r
}

// roll goes on from the latest sealed tick to the tick.
func (w *windows) roll(tick int64) {
	var bytes int64
	from := max(w.sealed, tick-tierKeep[tiers-1]) + 1
	for _, r := range w.rings {
		if !r.empty() {
			for t := from; t <= tick; t++ {
				if t == tick || t%ticksPerMinute == 0 {
					r.roll(t, &w.scratch)
				}
			}
		}
		bytes += int64(r.capacity())
	}
	w.bytes.Store(bytes)
	w.rings = slices.DeleteFunc(w.rings, func(r *ring) bool {
		if !r.empty() {
			return false
		}
		w.leave(r)
		return true
	})
}

// judge judges the levels of all endpoints that had exchanges in the last five minutes. changed: they are to be published in any case.
func (w *windows) judge(changed bool) {
	changed = changed || w.levels.Load() == nil
	spans, from := w.spans(LevelWindow)
	long, longFrom := w.spans(levelLong)
	look := w.sealed%longEvery == 0
	for _, r := range w.rings {
		if r.key.Role == wire.RoleClient {
			continue // nobody has said what is good for those
		}
		if r.last < from {
			changed = r.hide() || changed
			continue
		}
		of := func(spans []span, from int64) *period {
			p := r.parts(spans)
			w.scratch.sum(&p)
			// An endpoint is as old as its first exchange: what it does in its first minutes is no low throughput.
			return newPeriod(&w.scratch.tally, &w.scratch.cells, w.seconds(max(from, r.born), w.sealed))
		}
		changed = r.grades.judge(of(spans, from), look, func() *period { return of(long, longFrom) }) || changed
	}
	if changed {
		w.publishLevels()
	}
}

// spans returns which sub-windows make up a window of the length that ends at the latest tick, and where it begins.
func (w *windows) spans(length time.Duration) (spans []span, from int64) {
	tier := 1
	switch {
	case length <= time.Minute:
		tier = 0
	case length > 15*time.Minute:
		tier = 2
	}
	floor := func(tick int64, tier int) int64 { return tick - tick%tierTicks[tier] }
	from = floor(max(w.sealed-int64(length/TickInterval), 0), tier)
	for at := from; tier >= 0; tier-- {
		to := floor(w.sealed, tier)
		if at < to {
			spans = append(spans, span{tier, at, to})
		}
		at = max(at, to)
	}
	return spans, from
}

// seconds is how long the time between two ticks is, as far as the engine saw it.
func (w *windows) seconds(from, to int64) float64 {
	d := time.Duration(to)*TickInterval - max(time.Duration(from)*TickInterval, w.offset)
	return max(d, 0).Seconds()
}

// EndpointLevels are the levels of one endpoint.
type EndpointLevels struct {
	Key
	Levels [Aspects]AspectLevel
}

// AspectLevel is a level, where one is known: there were enough exchanges, for long enough.
type AspectLevel struct {
	Level  Level
	Known  bool
	Severe bool // critical, and beyond the fifth limit
	Why    Unjudged
}

func (g *grades) aspectLevels() (all [Aspects]AspectLevel) {
	for a := range all {
		switch j := &g.judged[a]; {
		case g.limits[a].none():
			all[a].Why = Unlimited
		case !g.visible:
			all[a].Why = Silent
		case Aspect(a) == ResponseTime && g.unanswered:
			all[a].Why = Unanswered
		case j.known:
			all[a] = AspectLevel{Level: j.grade.level(), Known: true, Severe: j.grade.severe()}
		default:
			all[a].Why = j.why
		}
	}
	return all
}

// Levels returns the levels of all endpoints that have one, in the order of their keys, as of the latest tick. The slice is
// shared: read only.
func (e *Engine) Levels() []EndpointLevels {
	if all := e.windows.levels.Load(); all != nil {
		return *all
	}
	return nil
}

func (w *windows) publishLevels() {
	w.sort()
	all := make([]EndpointLevels, 0, len(w.rings))
	for _, r := range w.rings {
		l := EndpointLevels{r.key, r.aspectLevels()}
		if l.Levels[ResponseTime].Known || l.Levels[Throughput].Known || l.Levels[ErrorRate].Known {
			all = append(all, l)
		}
	}
	w.levels.Store(&all)
}

func (w *windows) sort() {
	if w.sorted {
		return
	}
	slices.SortFunc(w.rings, func(a, b *ring) int { return a.key.compare(&b.key) })
	w.sorted = true
}

// WindowMemory returns the bytes that sub-windows take.
func (e *Engine) WindowMemory() int64 { return e.windows.bytes.Load() }

// Judge is the level of a value of an endpoint (or a service, where there is no name), by the limits in force: of any time, where Levels
// are of the last minutes. Response times are in ms, error rates in percent.
func (e *Engine) Judge(k Key, a Aspect, value float64) AspectLevel {
	w := &e.windows
	w.mu.Lock()
	defer w.mu.Unlock()
	limits := w.options.limitsOf(&k, w.options.general())
	if limits[a].none() || math.IsNaN(value) {
		return AspectLevel{}
	}
	g := limits[a].grade(value, 1)
	return AspectLevel{Known: true, Level: g.level(), Severe: g.severe()}
}
