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

// queryable lets the engine ask the history for expressions in which series keep their value for as long as lookback.
func (e *Engine) queryable(lookback time.Duration) storage.Queryable {
	return storage.QueryableFunc(func(from, to int64) (storage.Querier, error) {
		h := e.history()
		if h == nil {
			return nil, ErrNoHistory
		}
		return &querier{engine: e, h: h, from: from, to: to, lookback: lookback}, nil
	})
}

// querier answers one query. What it has read of the history stays there until it is closed.
type querier struct {
	engine   *Engine
	h        *history.History
	from, to int64
	lookback time.Duration
	open     []*history.Result
	grids    map[gridKey]*grid
}

// Close implements storage.Querier.
func (q *querier) Close() error {
	for _, r := range q.open {
		r.Close()
	}
	q.open = nil
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
	s := &selection{engine: q.engine, hints: hints, step: resolution(hints, q.lookback)}
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
	engine   *Engine
	hints    *storage.SelectHints
	step     time.Duration
	grid     *grid
	all      []*series
	warnings annotations.Annotations
	latest   *table // of the group that was asked for buckets last
}

// read asks the history.
//
// Counts of distributions begin anew at midnight UTC, so that a value is the same whatever is asked for: they are the sum of what
// the history has of the day. For that the hours of the day are read from midnight on, and those of the day before, which tell
// what there already was.
func (q *querier) read(s *selection, c *chooser) error {
	from, to := s.hints.Start, s.hints.End
	matchers := c.matchers()
	counted := from
	if c.hasDistributions() {
		counted = floor(from-1, hourMS) + 1
	}
	main := history.Query{From: time.UnixMilli(counted), To: time.UnixMilli(to), Step: s.step, Matchers: matchers}
	queries := []history.Query{main}
	if counted < from || c.hasDistributions() {
		queries = append(queries, history.Query{From: time.UnixMilli(dayOf(counted)*dayMS - dayMS + 1), To: time.UnixMilli(counted - 1),
			Step: time.Hour, Matchers: matchers})
	}
	results, err := q.h.SelectAll(queries...)
	if err != nil {
		return err
	}
	q.open = append(q.open, results...)
	if s.grid, err = q.grid(gridKey{counted, to, s.step}); err != nil {
		return err
	}
	s.warn(results)
	var before []*history.Series
	if len(results) > 1 {
		before = results[1].Series
	}
	pairUp(results[0].Series, before, func(main, base *history.Series) {
		s.add(c, main, base)
	})
	return nil
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
func (s *selection) add(c *chooser, main, base *history.Series) {
	g := &group{selection: s, main: main, base: base}
	any := main
	if any == nil {
		if any = base; any.Kind != history.Distribution {
			return
		}
	}
	for _, p := range c.of(any) {
		if p.kind == bucket {
			g.buckets++
		}
		s.all = append(s.all, &series{group: g, projection: p, labels: s.engine.known.of(any.Labels, &p)})
	}
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
	main, base *history.Series // one of them may be nil
	buckets    int             // that are asked for
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
