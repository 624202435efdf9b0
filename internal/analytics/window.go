package analytics

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// TickInterval is how often sub-windows are sealed and levels judged. Windows end at the latest tick.
	TickInterval = 10 * time.Second
	// windowBytesPerEndpoint times Limits.Endpoints is what all sub-windows together may take: 6 MiB at 2,000 endpoints.
	// It is divided between the endpoints that there are. Two hundred busy ones keep the full resolution for an hour;
	// two thousand have estimates within some 4 %.
	windowBytesPerEndpoint = 3 << 10
	// ringBytesMin is what an endpoint gets in any case: all tallies of an hour and some cells.
	ringBytesMin = 1 << 10
)

// WindowLengths are the windows that can be asked for.
var WindowLengths = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}

// windows turn cumulative counts into what happened in the last minutes.
//
// Counting knows nothing of them. At each tick the difference between what an endpoint has counted and what it had at
// the tick before becomes a sealed sub-window, in a few dozen bytes; six of these become one of a minute, five of those one
// of five minutes. A window is a sum of sub-windows. It ends at the latest tick, and begins at a border of its coarsest
// sub-windows, so that it is never shorter than asked for: one of 1 minute is exact, those of 5 and 15 minutes are up to 50
// seconds longer, that of 60 minutes up to 4 minutes and 50 seconds. Every answer says from when to when it is, and rates
// are over that time. An exchange belongs to the sub-window in which it was counted, which is that in which it ended or,
// by at most a second, a later one.
//
// mu is taken before Engine.mu, never after it. The one goroutine that counts takes only the latter, except when routes have
// become others.
type windows struct {
	mu       sync.Mutex
	started  time.Time     // what was before was not seen
	offset   time.Duration // of started from the origin of ticks, which is a border of five minutes
	sealed   int64         // ticks since the origin that are sealed
	sealedAt time.Time
	rings    []*ring
	sorted   bool
	// Rings of endpoints that the engine forgot, which have sub-windows still.
	gone    map[ServerKey]*ring
	scratch scratch

	options LevelOptions
	general *aspectLimits
	levels  atomic.Pointer[[]EndpointLevels]
	cached  [4]*Window // by WindowLengths, since the latest tick
	bytes   atomic.Int64
}

func (w *windows) start(now time.Time) {
	origin := now.Truncate(ticksPerFive * TickInterval)
	w.started, w.offset = now, now.Sub(origin)
	w.sealed = int64(w.offset / TickInterval)
	w.sealedAt = now
	w.gone = map[ServerKey]*ring{}
	w.general = w.options.general()
}

// elapsed is the time since the origin of ticks. Steps of the wall clock do not show in it.
func (w *windows) elapsed(now time.Time) time.Duration { return w.offset + now.Sub(w.started) }

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
	w := &e.windows
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.sealed+1)*TickInterval - w.elapsed(e.now())
}

// Tick seals the sub-windows that the clock has completed since the last call, and judges levels. Run calls it; where
// there is no Run, there are no windows. It may be called at any time, and does nothing before the next border.
func (e *Engine) Tick() {
	w := &e.windows
	w.mu.Lock()
	defer w.mu.Unlock()
	now := e.now()
	tick := int64(w.elapsed(now) / TickInterval)
	if tick <= w.sealed {
		return
	}
	e.seal(tick)
	w.roll(tick)
	w.sealedAt = now.Add(time.Duration(tick)*TickInterval - w.elapsed(now))
	w.sealed = tick
	w.cached = [4]*Window{}
	w.judge()
}

// seal takes over what was counted since the latest seal, and with it the rings of the endpoints that are gone.
func (e *Engine) seal(tick int64) {
	w := &e.windows
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ticking = true
	allowance := w.allowance(e.limits.Endpoints)
	for _, s := range e.gone {
		w.sealEndpoint(s, tick, allowance)
		w.retire(s, e.limits.Endpoints)
	}
	e.gone = nil
	for _, s := range e.serverList {
		w.sealEndpoint(s, tick, allowance)
	}
	for _, j := range e.joins {
		w.handOver(j.from, j.into)
	}
	e.joins = nil
}

// allowance is how many bytes each ring may have.
func (w *windows) allowance(endpoints int) int {
	return max(endpoints*windowBytesPerEndpoint/max(len(w.rings), 1), ringBytesMin)
}

func (w *windows) sealEndpoint(s *endpoint, tick int64, allowance int) {
	if !s.unsealed {
		return
	}
	s.unsealed = false
	if s.ring == nil {
		s.ring = w.ringOf(&s.live.ServerKey)
	}
	s.ring.source = s.live.RouteSource
	s.ring.seal(tick-1, &s.live, &w.scratch)
	s.ring.fit(allowance, &w.scratch)
}

// ringOf returns the ring that an endpoint of the key left behind, or a new one.
func (w *windows) ringOf(k *ServerKey) *ring {
	if r := w.gone[*k]; r != nil {
		delete(w.gone, *k)
		r.gone = false
		return r
	}
	r := &ring{key: *k}
	r.limits = w.options.limitsOf(k, w.general)
	w.rings = append(w.rings, r)
	w.sorted = false
	return r
}

// rename makes the ring that of another key, with what an endpoint of that left behind.
func (w *windows) rename(r *ring, k *ServerKey) {
	r.key, w.sorted = *k, false
	r.limits = w.options.limitsOf(k, w.general)
	if left := w.gone[*k]; left != nil && left != r {
		delete(w.gone, *k)
		r.merge(left, &w.scratch)
		left.discard()
	}
}

// join adds the sub-windows of an endpoint that is merged into another one, whose counts are the sum of both by the next
// seal.
func (w *windows) join(into, from *endpoint) {
	switch {
	case from.ring == nil:
	case into.ring == nil:
		into.ring = from.ring
		w.rename(into.ring, &into.live.ServerKey)
	default:
		into.ring.base = sumBases(into.ring.base, from.ring.base, &w.scratch)
		into.ring.merge(from.ring, &w.scratch)
		from.ring.discard()
	}
}

// handOver moves the sub-windows of an endpoint, which goes on with none, to another one's.
func (w *windows) handOver(from, into *endpoint) {
	if from.ring == nil || from.ring.gone {
		return
	}
	if into.ring == nil {
		into.ring = w.ringOf(&into.live.ServerKey)
	}
	into.ring.merge(from.ring, &w.scratch)
	into.ring.source = into.live.RouteSource
	from.ring.logs = [tiers]recordLog{}
	from.ring.hide()
}

// rerouteGone gives rings of endpoints that are gone the keys that their routes have become.
func (w *windows) rerouteGone(current func(service, route string) string) {
	for k, r := range w.gone {
		if r.source != wire.RouteLearned || k.Route == Other {
			continue
		}
		route := routeLabel(current(k.Service, k.Route))
		if route == k.Route {
			continue
		}
		delete(w.gone, k)
		k.Route = route
		if i := slices.IndexFunc(w.rings, func(o *ring) bool { return o != r && o.key == k }); i >= 0 {
			w.rings[i].merge(r, &w.scratch)
			r.discard()
			continue
		}
		w.rename(r, &k)
		w.gone[k] = r
	}
}

// retire keeps the ring of an endpoint that the engine forgot, for as long as windows reach back. Beyond the limit what
// it counted is kept under Other.
func (w *windows) retire(s *endpoint, most int) {
	r := s.ring
	if r == nil {
		return
	}
	r.base, r.gone = nil, true
	if len(w.gone) < most {
		w.gone[r.key] = r
		return
	}
	k := ServerKey{Service: Other, Method: Other, Route: Other}
	i := slices.IndexFunc(w.rings, func(r *ring) bool { return r.key == k })
	if i < 0 {
		w.ringOf(&k).gone = true
		i = len(w.rings) - 1
		w.gone[k] = w.rings[i]
	}
	if w.rings[i] != r {
		w.rings[i].merge(r, &w.scratch)
		r.logs = [tiers]recordLog{}
	}
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
		if !r.gone || !r.empty() {
			return false
		}
		if w.gone[r.key] == r {
			delete(w.gone, r.key)
		}
		return true
	})
}

// judge judges the levels of all endpoints that had exchanges in the last five minutes.
func (w *windows) judge() {
	changed := w.levels.Load() == nil
	spans, from := w.spans(LevelWindow)
	long, longFrom := w.spans(levelLong)
	look := w.sealed%longEvery == 0
	for _, r := range w.rings {
		if r.empty() || r.last < from || r.gone {
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
	ServerKey
	Levels [Aspects]AspectLevel
}

// AspectLevel is a level, where one is known: there were enough exchanges, for long enough.
type AspectLevel struct {
	Level  Level
	Known  bool
	Severe bool // critical, and beyond the fifth limit
}

func (g *grades) aspectLevels() (all [Aspects]AspectLevel) {
	for a := range all {
		if j := &g.judged[a]; g.visible && j.known {
			all[a] = AspectLevel{j.grade.level(), true, j.grade.severe()}
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
	slices.SortFunc(w.rings, func(a, b *ring) int { return compareKeys(&a.key, &b.key) })
	w.sorted = true
}

func compareKeys(x, y *ServerKey) int {
	return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Service, y.Service),
		strings.Compare(x.Route, y.Route), strings.Compare(x.Method, y.Method))
}

// WindowMemory returns the bytes that sub-windows take.
func (e *Engine) WindowMemory() int64 { return e.windows.bytes.Load() }
