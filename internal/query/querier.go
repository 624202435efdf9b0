package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
)

// queryable lets the engine ask the history for expressions in which series keep their value for as long as lookback; remembers
// says that it will be asked again.
func (e *Engine) queryable(lookback time.Duration, remembers bool) storage.Queryable {
	return storage.QueryableFunc(func(from, to int64) (storage.Querier, error) {
		h := e.history()
		if h == nil {
			return nil, ErrNoHistory
		}
		return &querier{engine: e, h: h, from: from, to: to, lookback: lookback, remembers: remembers}, nil
	})
}

// querier answers one query. What it has read of the history stays there until it is closed.
type querier struct {
	engine     *Engine
	h          *history.History
	from, to   int64
	lookback   time.Duration
	remembers  bool // what was counted, for the next time
	open       []*history.Result
	selections []*selection
	grids      map[gridKey]*grid
}

// Close implements storage.Querier.
func (q *querier) Close() error {
	for _, s := range q.selections {
		if r, all := s.collect(); all && s.remembers {
			q.engine.memory.keep(s.key, r)
		}
	}
	for _, r := range q.open {
		r.Close()
	}
	q.open, q.selections = nil, nil
	return nil
}

const (
	hourMS = 3600_000
	dayMS  = 24 * hourMS
	// windowSamples is how many intervals a range should have at least: what is extrapolated at its ends is one of them at most.
	windowSamples = 60
)

// resolution is the longest interval of samples that answers a selector as well as the shortest would.
//
// A range needs many samples, of which the first and the last decide. An instant needs the latest: longer intervals have the same
// value at their end, so they do where every evaluation is at one.
func resolution(hints *storage.SelectHints, lookback time.Duration) time.Duration {
	for _, interval := range []time.Duration{time.Hour, time.Minute} {
		ms := interval.Milliseconds()
		if hints.Range >= windowSamples*ms {
			return interval
		}
		evaluated := hints.Start - 1 + lookback.Milliseconds()
		if hints.Range == 0 && hints.Step >= ms && hints.Step%ms == 0 && evaluated%ms == 0 {
			return interval
		}
	}
	return 0
}

// Select implements storage.Querier.
func (q *querier) Select(_ context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	if hints == nil {
		hints = &storage.SelectHints{Start: q.from, End: q.to}
	}
	s := &selection{engine: q.engine, h: q.h, hints: hints, step: resolution(hints, q.lookback), remembers: q.remembers}
	s.key = reminderKey{window: hints.Range, step: s.step}
	if q.remembers {
		s.key.matchers = selectorText(matchers)
	}
	if err := q.read(s, newChooser(matchers)); err != nil {
		return storage.ErrSeriesSet(err)
	}
	if sorted {
		slices.SortFunc(s.all, func(a, b *series) int { return labels.Compare(a.labels, b.labels) })
	}
	return &seriesSet{all: s.all, warnings: s.warnings}
}

// selection is what a selector has found.
type selection struct {
	engine    *Engine
	h         *history.History
	hints     *storage.SelectHints
	step      time.Duration
	grid      *grid
	groups    []*group
	all       []*series
	warnings  annotations.Annotations
	latest    *table // of the group that was asked for buckets last
	remembers bool
	key       reminderKey
	revision  uint64
}

// read asks the history.
//
// Counts of distributions begin anew at midnight UTC, so that a value is the same whatever is asked for: they are the sum of what
// the history has of the day. For that the hours of the day are read from midnight on, and those of the day before, which tell
// what there already was; unless it is remembered.
func (q *querier) read(s *selection, c *chooser) error {
	from, to := s.hints.Start, s.hints.End
	counts := c.hasDistributions()
	s.remembers = s.remembers && counts
	if s.remembers && s.hints.Range == 0 && s.hints.Step == 0 && c.onlyDistributions() {
		from = q.latest(from, to)
		s.hints.Start = from
	}
	var before *reminder
	if s.remembers {
		s.revision = q.h.Revision()
		before = q.engine.memory.find(s.key, q.h, s.revision, from)
	}
	counted, matchers := from, c.matchers()
	switch {
	case before != nil:
		counted = before.at + 1
	case counts:
		counted = floor(from-1, hourMS) + 1
	}
	queries := []history.Query{{From: time.UnixMilli(counted), To: time.UnixMilli(to), Step: s.step, Matchers: matchers}}
	if counts && before == nil {
		queries = append(queries, history.Query{From: time.UnixMilli(dayOf(counted)*dayMS - dayMS + 1), To: time.UnixMilli(counted - 1),
			Step: time.Hour, Matchers: matchers})
	}
	results, err := q.h.SelectAll(queries...)
	if err != nil {
		return err
	}
	q.open, q.selections = append(q.open, results...), append(q.selections, s)
	if s.grid, err = q.grid(gridKey{counted, to, s.step}); err != nil {
		return err
	}
	s.warn(results)
	if before != nil {
		s.addRemembered(c, results[0].Series, before)
		return nil
	}
	var base []*history.Series
	if len(results) > 1 {
		base = results[1].Series
	}
	pairUp(results[0].Series, base, func(main, base *history.Series) { s.add(c, &group{selection: s, main: main, base: base}) })
	return nil
}

// latest is from when on samples may matter to an instant: where the agent counted shortly before it, whatever is older has been
// replaced or has ended.
func (q *querier) latest(from, to int64) int64 {
	near := to - patience - 2*shortest
	if near <= from {
		return from
	}
	g, err := q.grid(gridKey{near, to, 0})
	if err != nil || len(g.times) == 0 || slices.ContainsFunc(g.intervals, func(n int64) bool { return n != shortest }) {
		return from
	}
	return near
}

// addRemembered adds what was found, and what has had counts before.
func (s *selection) addRemembered(c *chooser, found []*history.Series, before *reminder) {
	known := make([]*history.Series, len(before.series))
	states := make(map[*history.Series]map[stateKey]*countState, len(before.series))
	for i := range before.series {
		r := &before.series[i]
		known[i], states[r.series] = r.series, r.states
	}
	pairUp(found, known, func(main, base *history.Series) {
		s.add(c, &group{selection: s, main: main, label: base, resume: states[base]})
	})
}

// pairUp calls yield for each series of two sorted lists, with nil where one of them does not have it.
func pairUp(main, base []*history.Series, yield func(main, base *history.Series)) {
	for len(main) > 0 || len(base) > 0 {
		switch order := compareSeries(main, base); {
		case order < 0:
			yield(main[0], nil)
			main = main[1:]
		case order > 0:
			yield(nil, base[0])
			base = base[1:]
		default:
			yield(main[0], base[0])
			main, base = main[1:], base[1:]
		}
	}
}

func compareSeries(main, base []*history.Series) int {
	switch {
	case len(base) == 0:
		return -1
	case len(main) == 0:
		return 1
	}
	return slices.CompareFunc(main[0].Labels, base[0].Labels, func(a, b analytics.Label) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
	})
}

// add adds the projections of a series that are chosen.
func (s *selection) add(c *chooser, g *group) {
	any := g.any()
	if g.main == nil && any.Kind != history.Distribution {
		return
	}
	for _, p := range c.of(any) {
		if p.kind == bucket {
			g.buckets++
		}
		if p.kind != plain {
			g.keeps++
		}
		s.all = append(s.all, &series{group: g, projection: p, labels: s.engine.known.of(any.Labels, &p)})
	}
	if g.buckets > 1 { // which one table is for
		g.keeps += 1 - g.buckets
	}
	s.groups = append(s.groups, g)
}

// warn says where the answer lacks something.
func (s *selection) warn(results []*history.Result) {
	for _, r := range results {
		for _, missing := range r.Missing {
			s.warnings.Add(errors.New(missingText(missing)))
		}
	}
	coarse := int64(0)
	for i := range s.grid.times {
		if interval := s.grid.intervals[i]; s.hints.Range > 0 && interval > shortest && 2*interval > s.hints.Range {
			coarse = max(coarse, interval)
		}
	}
	if coarse > 0 {
		s.warnings.Add(fmt.Errorf("a part of the time is kept in intervals of %s alone, in which a window of %s has too few samples; use one of %s or more there",
			duration(coarse), duration(s.hints.Range), duration(2*coarse)))
	}
}

func duration(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// grid is when the agent counted: the ends of intervals, ms since 1970.
type grid struct {
	times, intervals []int64
	to               int64 // what was asked for
}

type gridKey struct {
	from, to int64
	step     time.Duration
}

// grid reads when the agent counted, once for all selectors that ask for the same time.
func (q *querier) grid(key gridKey) (*grid, error) {
	if g := q.grids[key]; g != nil {
		return g, nil
	}
	r, err := q.h.Select(history.Query{From: time.UnixMilli(key.from), To: time.UnixMilli(key.to), Step: key.step,
		Matchers: []history.Matcher{{Name: labels.MetricName, Match: func(name string) bool { return name == history.TicksMetric }}}})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	g := &grid{to: key.to}
	for _, s := range r.Series {
		it := s.Iterate()
		for it.Next() {
			g.times, g.intervals = append(g.times, it.At().Time), append(g.intervals, it.At().Interval)
		}
		if it.Err() != nil {
			return nil, it.Err()
		}
	}
	if q.grids == nil {
		q.grids = map[gridKey]*grid{}
	}
	q.grids[key] = g
	return g, nil
}

// floor is the largest multiple of unit that is not above n.
func floor(n, unit int64) int64 { return n - ((n%unit)+unit)%unit }

// dayOf numbers the day that an instant belongs to: counts of the day that ends at midnight include that instant.
func dayOf(ms int64) int64 { return floor(ms-1, dayMS) / dayMS }

// series implements storage.Series.
type series struct {
	group      *group
	projection projection
	labels     labels.Labels
}

// group is a series of the history, of which several projections may be asked for.
type group struct {
	selection  *selection
	main, base *history.Series          // what is asked for, and what was before it; either may be nil
	label      *history.Series          // where both are: its labels
	resume     map[stateKey]*countState // what is remembered
	buckets    int                      // that are asked for
	keeps      int                      // states that are to be remembered
	kept       map[stateKey]*countState
}

// any is a series of the group, for its labels.
func (g *group) any() *history.Series {
	switch {
	case g.main != nil:
		return g.main
	case g.base != nil:
		return g.base
	}
	return g.label
}

// keep notes a state that is to be remembered.
func (g *group) keep(key stateKey, state *countState) {
	if g.kept == nil {
		g.kept = map[stateKey]*countState{}
	}
	g.kept[key] = state
}

// Labels implements storage.Series.
func (s *series) Labels() labels.Labels { return s.labels }

// Iterator implements storage.Series.
func (s *series) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	g := s.group
	switch {
	case s.projection.kind == plain:
		return newIterator(&figureWalk{main: g.main.Iterate(), series: g.main, grid: g.selection.grid}, g.selection)
	case s.projection.kind == bucket && g.buckets > 1 && len(g.selection.grid.times) <= tableTimesMax:
		return newIterator(&tableWalk{table: g.table(), column: s.projection.cell}, g.selection)
	}
	return newIterator(newCountWalk(g, &s.projection), g.selection)
}

// seriesSet implements storage.SeriesSet.
type seriesSet struct {
	all      []*series
	at       *series
	warnings annotations.Annotations
}

// Next implements storage.SeriesSet.
func (s *seriesSet) Next() bool {
	if len(s.all) == 0 {
		return false
	}
	s.at, s.all = s.all[0], s.all[1:]
	return true
}

// At implements storage.SeriesSet.
func (s *seriesSet) At() storage.Series { return s.at }

// Err implements storage.SeriesSet.
func (s *seriesSet) Err() error { return nil }

// Warnings implements storage.SeriesSet.
func (s *seriesSet) Warnings() annotations.Annotations { return s.warnings }

// never is later than any time.
const never = math.MaxInt64
