package query

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
)

// walk goes through the samples that a Prometheus server would have stored of a series: its state at each.
type walk interface {
	// next goes on to the next sample; false: there is none, or err says what ended the walk early.
	next() bool
	err() error
	time() int64  // ms since 1970
	start() int64 // from when on it counts, ms since 1970; 0: not known
	stale() bool  // the series ends here, for now
	float() float64
	// fill makes h the histogram of the sample; false: it is a number.
	isNative() bool
	fill(h *histogram.FloatHistogram)
}

// place is where a walk is.
type place struct {
	at, from int64
	ended    bool
	failed   error
}

func (p *place) time() int64  { return p.at }
func (p *place) start() int64 { return p.from }
func (p *place) stale() bool  { return p.ended }
func (p *place) err() error   { return p.failed }

// steps goes through the grid and says where it has gaps.
type steps struct {
	grid *grid
	i    int
	last int64 // 0: none
}

const (
	// shortest is the shortest interval, ms.
	shortest = 10_000
	// patience is how long after the latest interval series have a value, ms. The next one may be about to be stored.
	patience = 2 * shortest
)

// peek is the next time of the grid.
func (s *steps) peek() int64 {
	if s.i < len(s.grid.times) {
		return s.grid.times[s.i]
	}
	return never
}

// gap returns when series end before the next time, because the agent did not count; never: they do not.
func (s *steps) gap() int64 {
	begins := s.grid.to
	if s.i < len(s.grid.times) {
		begins = s.grid.times[s.i] - s.grid.intervals[s.i] - 1
	}
	if s.last == 0 || begins < s.last+shortest || s.i == len(s.grid.times) && begins < s.last+patience {
		return never
	}
	return s.last + patience
}

// chain goes through the samples of several parts of a series, which are in the order of time.
type chain struct {
	parts []*history.Series
	it    *history.Iterator
}

// next returns the next sample, nil after the last.
func (c *chain) next() (*history.Sample, error) {
	for {
		if c.it != nil {
			if c.it.Next() {
				return c.it.At(), nil
			}
			if err := c.it.Err(); err != nil {
				return nil, err
			}
		}
		if len(c.parts) == 0 {
			return nil, nil
		}
		c.it, c.parts = c.parts[0].Iterate(), c.parts[1:]
	}
}

// countState is what a series of counts has come to.
type countState struct {
	day       int64
	had       bool  // counts in this day
	alive     bool  // it has a value
	since     int64 // from when on it counts
	last      int64 // time of the latest step; 0: none
	n         uint64
	histogram analytics.Histogram // of a native one
	buckets   []uint64            // of a table
	trail     []footprint         // the latest samples, of a walk that is remembered with them
}

// newFootprints is how many samples an evaluation mostly adds to those of the one before, at most.
const newFootprints = 6

// footprint is a sample of a walk.
type footprint struct {
	at, from int64
	n        uint64
	ended    bool
}

// clone returns a copy that does not change with the state.
func (c *countState) clone() *countState {
	copied := *c
	copied.histogram = analytics.NewHistogram(c.histogram.Unit())
	if c.histogram.Count() > 0 {
		copied.histogram = c.histogram.Clone()
	}
	copied.buckets = slices.Clone(c.buckets)
	return &copied
}

// enter begins a day.
func (c *countState) enter(day int64) {
	if day == c.day {
		return
	}
	c.alive = c.had && day == c.day+1
	if c.alive {
		c.since = day * dayMS
	}
	c.day, c.had, c.n = day, false, 0
	c.histogram.Reset()
	clear(c.buckets)
}

// countWalk adds up a distribution. A series has a value at each interval in which the agent counted, from its first count on,
// until it has counted nothing for a whole day (UTC). Its counts begin anew with each day.
type countWalk struct {
	place
	countState
	group      *group
	projection *projection
	unit       analytics.Unit
	main       chain
	sample     *history.Sample // the next one; nil: there is none
	steps      steps
	began      bool
	keepAt     int64       // the first time that is asked for: what was before it is remembered
	ahead      []footprint // that are remembered, and come first
	shown      uint64      // n of the present sample
}

func newCountWalk(g *group, p *projection) *countWalk {
	w := &countWalk{group: g, projection: p, steps: steps{grid: g.selection.grid}, keepAt: never, unit: g.label.Unit, main: chain{parts: g.parts}}
	w.day = math.MinInt64
	if g.selection.remembers && !g.selection.trails {
		w.keepAt = g.selection.hints.Start
	}
	if state := g.resume[w.stateKey()]; state != nil {
		w.countState, w.steps.last = *state.clone(), state.last
		w.ahead, w.trail = state.trail, make([]footprint, 0, len(state.trail)+newFootprints)
	} else {
		w.histogram = analytics.NewHistogram(w.unit)
	}
	if g.selection.trails {
		g.walks = append(g.walks, w)
	}
	return w
}

func (w *countWalk) stateKey() stateKey { return stateKey{w.projection.kind, w.projection.cell} }

// begin adds up what was before the first step.
func (w *countWalk) begin() {
	w.began = true
	w.read()
	first := w.steps.grid.from
	for w.failed == nil && w.sample != nil && w.sample.Time < first {
		w.enter(dayOf(w.sample.Time))
		w.add(w.sample)
		w.read()
	}
}

// read takes the next sample.
func (w *countWalk) read() {
	if w.failed == nil {
		w.sample, w.failed = w.main.next()
	}
}

// add counts a sample.
func (w *countWalk) add(s *history.Sample) {
	if !w.alive {
		w.alive, w.since = true, s.Time-s.Interval
	}
	w.had = true
	switch w.projection.kind {
	case native:
		if err := s.AddTo(&w.histogram); err != nil {
			w.failed = err
		}
	case sum:
		w.n += s.Total()
	case bucket:
		if w.buckets != nil {
			s.AddBelow(analytics.BoundCells(w.unit), w.buckets)
			return
		}
		w.n += s.CountBelow(w.projection.cell)
	default:
		w.n += s.Count()
	}
}

// next goes on to the next sample.
func (w *countWalk) next() bool {
	if len(w.ahead) > 0 {
		f := &w.ahead[0]
		w.at, w.from, w.ended, w.shown, w.ahead = f.at, f.from, f.ended, f.n, w.ahead[1:]
	} else if !w.step() {
		return false
	}
	if w.group.selection.trails && w.at >= w.group.selection.hints.Start {
		w.trail = append(w.trail, footprint{w.at, w.from, w.shown, w.ended})
	}
	return true
}

// finished tells whether all samples have been seen.
func (w *countWalk) finished() bool {
	return w.began && w.failed == nil && len(w.ahead) == 0 && w.sample == nil && w.steps.peek() == never
}

// step goes on to the next sample that is not remembered.
func (w *countWalk) step() bool {
	if !w.began {
		w.begin()
	}
	for w.failed == nil {
		next := w.steps.peek()
		if w.sample != nil {
			next = min(next, w.sample.Time)
		}
		w.keep(next)
		if gap := w.steps.gap(); gap < next && w.alive && !w.ended {
			w.at, w.ended = gap, true
			return true
		}
		if next == never {
			return false
		}
		was := w.alive && !w.ended
		w.enter(dayOf(next))
		if w.sample != nil && w.sample.Time == next {
			w.add(w.sample)
			w.read()
		}
		if next == w.steps.peek() {
			w.steps.i++
		}
		w.steps.last = next
		if w.alive || was {
			w.at, w.from, w.ended, w.shown = next, w.since, !w.alive, w.n
			return w.failed == nil
		}
	}
	return false
}

// keep has the state remembered before the first step that is asked for.
func (w *countWalk) keep(next int64) {
	if next < w.keepAt || w.keepAt == never {
		return
	}
	w.keepAt = never
	state := w.countState.clone()
	state.last = w.steps.last
	w.group.keep(w.stateKey(), state)
}

func (w *countWalk) float() float64 {
	if w.projection.kind == sum {
		return float64(w.shown) / analytics.PerUnit(w.unit)
	}
	return float64(w.shown)
}

func (w *countWalk) isNative() bool { return w.projection.kind == native }

// zeroThreshold is the width of the bucket of zeros, as /metrics has it.
const zeroThreshold = 0x1p-128

// bridge is the longest run of empty buckets within a span.
const bridge = 2

// fill makes the native histogram: schema 5, as /metrics has it.
func (w *countWalk) fill(h *histogram.FloatHistogram) {
	n := &w.histogram
	h.Schema, h.ZeroThreshold = analytics.Schema, zeroThreshold
	h.ZeroCount, h.Count, h.Sum = float64(n.Zeros()), float64(n.Count()), n.Sum()
	h.PositiveSpans, h.PositiveBuckets = h.PositiveSpans[:0], h.PositiveBuckets[:0]
	h.NegativeSpans, h.NegativeBuckets, h.CustomValues = h.NegativeSpans[:0], h.NegativeBuckets[:0], nil
	next := 0
	for index, count := range n.Native() {
		gap := index - next
		if last := len(h.PositiveSpans) - 1; last < 0 || gap > bridge {
			h.PositiveSpans = append(h.PositiveSpans, histogram.Span{Offset: int32(gap)})
		} else {
			for range gap {
				h.PositiveBuckets = append(h.PositiveBuckets, 0)
				h.PositiveSpans[last].Length++
			}
		}
		h.PositiveSpans[len(h.PositiveSpans)-1].Length++
		h.PositiveBuckets = append(h.PositiveBuckets, float64(count))
		next = index + 1
	}
}

// figureWalk goes through a figure, the ticks, or what a rule recorded. A figure that is missing where the agent counted has ended;
// a recorded series ends where its rule says so.
type figureWalk struct {
	place
	main    chain
	series  *history.Series
	grid    *grid
	steps   steps
	began   bool
	sample  *history.Sample
	pending *history.Sample
	v       float64
	given   int64 // time of the latest sample
}

func (w *figureWalk) next() bool {
	if !w.began {
		w.began, w.ended = true, true
		w.steps = steps{grid: w.grid}
		if w.series.Kind == history.Recorded {
			w.steps.grid = new(grid)
		}
		if p, has := w.series.Pending(); has {
			w.pending = &p
		}
		w.read()
	}
	for w.failed == nil {
		next := w.steps.peek()
		if w.sample != nil {
			next = min(next, w.sample.Time)
		}
		if gap := w.steps.gap(); gap < next && !w.ended {
			w.at, w.ended = gap, true
			return true
		}
		if next == never {
			return w.takePending()
		}
		if next == w.steps.peek() {
			w.steps.i++
		}
		w.steps.last = next
		if w.sample != nil && w.sample.Time == next {
			w.at, w.v = next, w.sample.Value
			w.ended = value.IsStaleNaN(w.v)
			w.read()
			return w.failed == nil
		}
		if !w.ended {
			w.at, w.ended = next, true
			return true
		}
	}
	return false
}

// takePending takes the value that waits for a tick.
func (w *figureWalk) takePending() bool {
	p := w.pending
	w.pending = nil
	if p == nil || p.Time <= w.at {
		return false
	}
	w.at, w.v, w.ended = p.Time, p.Value, value.IsStaleNaN(p.Value)
	return true
}

func (w *figureWalk) read() { w.sample, w.failed = w.main.next() }

func (w *figureWalk) float() float64                 { return w.v }
func (w *figureWalk) isNative() bool                 { return false }
func (w *figureWalk) fill(*histogram.FloatHistogram) {}

// iterator lets the engine walk. It is of times of type T, which is int64, because vet wants every Seek(int64) to be io.Seeker's.
type iterator[T int64] struct {
	walk
	from    int64
	type_   chunkenc.ValueType
	hint    histogram.CounterResetHint
	ranged  bool
	counted int64 // start of the sample before
	seen    bool
}

func newIterator(w walk, s *selection) *iterator[int64] {
	return &iterator[int64]{walk: w, from: s.hints.Start, ranged: s.hints.Range > 0}
}

// Next implements chunkenc.Iterator.
func (it *iterator[T]) Next() chunkenc.ValueType {
	for it.walk.next() {
		if it.walk.time() < it.from {
			continue
		}
		it.type_ = chunkenc.ValFloat
		if it.walk.isNative() {
			it.type_ = chunkenc.ValFloatHistogram
			it.setHint()
		}
		return it.type_
	}
	it.type_ = chunkenc.ValNone
	return it.type_
}

// setHint spares the engine looking for a reset in every bucket, where it sees all samples, one after the other.
func (it *iterator[T]) setHint() {
	start := it.walk.start()
	switch {
	case !it.ranged || !it.seen:
		it.hint = histogram.UnknownCounterReset
	case start != it.counted:
		it.hint = histogram.CounterReset
	default:
		it.hint = histogram.NotCounterReset
	}
	it.seen, it.counted = true, start
}

// Seek implements chunkenc.Iterator.
func (it *iterator[T]) Seek(t T) chunkenc.ValueType {
	if it.type_ != chunkenc.ValNone && it.walk.time() >= int64(t) {
		return it.type_
	}
	for it.Next() != chunkenc.ValNone {
		if it.walk.time() >= int64(t) {
			break
		}
	}
	return it.type_
}

// At implements chunkenc.Iterator.
func (it *iterator[T]) At() (int64, float64) {
	if it.walk.stale() {
		return it.walk.time(), Stale()
	}
	return it.walk.time(), it.walk.float()
}

// AtHistogram implements chunkenc.Iterator. The engine asks for floats.
func (it *iterator[T]) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("query: histograms have float counts")
}

// AtFloatHistogram implements chunkenc.Iterator.
func (it *iterator[T]) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	if h == nil {
		h = new(histogram.FloatHistogram)
	}
	if it.walk.stale() {
		*h = histogram.FloatHistogram{Sum: Stale()}
		return it.walk.time(), h
	}
	it.walk.fill(h)
	h.CounterResetHint = it.hint
	return it.walk.time(), h
}

// AtT implements chunkenc.Iterator.
func (it *iterator[T]) AtT() int64 { return it.walk.time() }

// AtST implements chunkenc.Iterator.
func (it *iterator[T]) AtST() int64 { return it.walk.start() }

// Err implements chunkenc.Iterator.
func (it *iterator[T]) Err() error { return it.walk.err() }
