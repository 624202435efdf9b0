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

// queryable lets the engine ask the history for expressions in which series keep their value for as long as lookback. A rule's,
// which will be evaluated again, have the time of this evaluation; others 0. Each series counts as a number of samples. A window has at
// least that many intervals; 0 means windowSamples.
func (e *Engine) queryable(lookback time.Duration, ruleAt int64, seriesSamples, inWindow int) storage.Queryable {
	return storage.QueryableFunc(func(from, to int64) (storage.Querier, error) {
		h := e.history()
		if h == nil {
			return nil, ErrNoHistory
		}
		return &querier{engine: e, h: h, from: from, to: to, lookback: lookback, ruleAt: ruleAt, seriesSamples: seriesSamples,
			inWindow: int64(cmp.Or(inWindow, windowSamples))}, nil
	})
}

// querier answers one query. What it has read of the history stays there until it is closed.
type querier struct {
	engine     *Engine
	h          *history.History
	from, to   int64
	lookback   time.Duration
	ruleAt     int64 // of a rule: when it is evaluated
	open       []*history.Result
	selections []*selection

	inWindow        int64 // intervals that a window has at least
	seriesSamples   int   // that each series counts as
	samples, places int   // of the selections so far
	over            error // why nothing more is read
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
	hourMS   = 3600_000
	dayMS    = 24 * hourMS
	minuteMS = 60_000
	// windowSamples is how many intervals a range should have at least: what is extrapolated at its ends is one of them at most.
	windowSamples = 60
)

// hoursFrom is the window from which on an instant's increase is read by hours, ms: what is between its ends need not be fine.
const hoursFrom = 4 * hourMS

// resolution is the longest interval of samples that answers a selector as well as the shortest would.
//
// A range needs many samples, of which the first and the last decide. An instant needs the latest: longer intervals have the same
// value at their end, so they do where every evaluation is at one.
func resolution(hints *storage.SelectHints, lookback time.Duration, inWindow int64) time.Duration {
	for _, interval := range []time.Duration{time.Hour, time.Minute} {
		ms := interval.Milliseconds()
		if hints.Range >= inWindow*ms {
			return interval
		}
		evaluated := hints.Start - 1 + lookback.Milliseconds()
		if hints.Range == 0 && hints.Step >= ms && hints.Step%ms == 0 && evaluated%ms == 0 {
			return interval
		}
	}
	return 0
}

// byEnds tells whether the first and the last sample of a selector's one window alone decide, and the starts that are between them.
func byEnds(hints *storage.SelectHints) bool {
	return hints.Step == 0 && hints.Range > 0 && (hints.Func == "rate" || hints.Func == "increase")
}

// Select implements storage.Querier.
func (q *querier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	if q.over != nil { // the engine hears of it only when it takes the series
		return storage.ErrSeriesSet(q.over)
	}
	if hints == nil {
		hints = &storage.SelectHints{Start: q.from, End: q.to}
	}
	s := &selection{engine: q.engine, h: q.h, hints: hints, step: resolution(hints, q.lookback, q.inWindow), remembers: q.ruleAt != 0}
	s.key = reminderKey{window: hints.Range, step: s.step, offset: q.ruleAt - hints.End}
	if s.remembers {
		s.key.matchers = selectorText(matchers)
	}
	if err := q.read(ctx, s, newChooser(ctx, matchers)); err != nil {
		q.over = err
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
	trails    bool // with all samples of its window
	key       reminderKey
	revision  uint64
	counted   int64 // from when on it was read
}

// read asks the history.
//
// Counts of distributions begin anew at midnight UTC, so that a value is the same whatever is asked for: they are the sum of what
// the history has of the day. For that the hours of the day are read from midnight on, and those of the day before, which tell
// what there already was; unless it is remembered.
func (q *querier) read(ctx context.Context, s *selection, c *chooser) error {
	from, to := s.hints.Start, s.hints.End
	counts := c.hasDistributions()
	s.remembers = s.remembers && counts
	if s.remembers && s.hints.Range == 0 && s.hints.Step == 0 && c.onlyDistributions() {
		from = q.latest(from, to)
		s.hints.Start = from
	}
	var before *reminder
	if s.remembers {
		s.trails = c.onlyNumbers()
		s.key.trails, s.revision = s.trails, q.h.Revision()
		before = q.engine.memory.find(s.key, q.h, s.revision, from, to)
	}
	counted := from
	switch {
	case before != nil:
		counted = before.at + 1
	case counts:
		counted = floor(from-1, hourMS) + 1
	}
	parts := s.parts(counted, from, to)
	if s.counted = counted; before != nil && s.trails {
		parts = []part{{counted, to, 0}}
	}
	var queries []history.Query // of one moment: no tick comes between a series and the grid
	for _, p := range parts {
		queries = append(queries, p.query(ticksMatcher))
	}
	matchers := c.matchers()
	if counts && before == nil { // of what was before, no step is asked for
		queries = append(queries, part{dayOf(counted)*dayMS - dayMS + 1, counted - 1, time.Hour}.query(matchers))
	}
	for _, p := range parts {
		queries = append(queries, p.query(matchers))
	}
	results, err := q.h.SelectAll(queries...)
	if err = cmp.Or(ctx.Err(), err); err != nil {
		for _, r := range results {
			r.Close()
		}
		return err
	}
	q.open, q.selections = append(q.open, results...), append(q.selections, s)
	if s.grid, err = newGrid(results[:len(parts)]); err != nil {
		return err
	}
	s.grid.from, s.grid.to = counted, to
	results = results[len(parts):]
	s.warn(results)
	var remembers []remembered
	if before != nil {
		remembers = before.series
	}
	return q.gather(ctx, s, c, results, remembers)
}

// part is a time that is read in one resolution, both ends included, ms.
type part struct {
	from, to int64
	step     time.Duration
}

func (p part) query(matchers []history.Matcher) history.Query {
	return history.Query{From: time.UnixMilli(p.from), To: time.UnixMilli(p.to), Step: p.step, Matchers: matchers}
}

var ticksMatcher = []history.Matcher{{Name: labels.MetricName, Match: func(name string) bool { return name == history.TicksMetric }}}

// parts divides what is to be read. Where the ends of a window decide, the shortest intervals are read around both of them, minutes
// up to full hours, and between those hours. Before that, what was counted need not be one of the longer intervals.
func (s *selection) parts(counted, from, to int64) []part {
	if s.step.Milliseconds() <= shortest || !byEnds(s.hints) {
		return []part{{counted, to, s.step}}
	}
	first, last := floor(from-1, minuteMS)+minuteMS, floor(to, minuteMS)
	var all []part
	add := func(until int64, step time.Duration) {
		if until >= counted {
			all = append(all, part{counted, until, step})
			counted = until + 1
		}
	}
	if floor(counted-1, minuteMS) == counted-1 {
		add(first-minuteMS, time.Minute)
	}
	add(first, 0)
	if s.hints.Range >= hoursFrom {
		add(floor(first-1, hourMS)+hourMS, time.Minute)
		add(floor(to, hourMS), time.Hour)
	}
	add(last, time.Minute)
	add(to, 0)
	return all
}

// gather adds each series that was found in any part, or is remembered.
func (q *querier) gather(ctx context.Context, s *selection, c *chooser, results []*history.Result, before []remembered) error {
	groups := map[string]*group{}
	var name []byte
	find := func(series *history.Series) *group {
		name = name[:0]
		for _, l := range series.Labels {
			name = append(append(append(append(name, l.Name...), 0xff), l.Value...), 0xff)
		}
		g := groups[string(name)]
		if g == nil {
			g = &group{selection: s, label: series}
			groups[string(name)] = g
			s.groups = append(s.groups, g)
		}
		return g
	}
	for i := range before {
		find(before[i].series).resume = before[i].states
	}
	for _, r := range results {
		for _, series := range r.Series {
			g := find(series)
			g.parts = append(g.parts, series)
		}
	}
	slices.SortFunc(s.groups, func(a, b *group) int { return compareLabels(a.label.Labels, b.label.Labels) })
	n := 0
	for _, g := range s.groups { // before any labels are made
		g.chosen = c.of(g.label)
		n += len(g.chosen)
	}
	if err := cmp.Or(ctx.Err(), q.charge(n, s.hints)); err != nil {
		s.remembers = false // what was not read must not be taken for what is not there
		return err
	}
	for _, g := range s.groups {
		s.add(g)
	}
	return nil
}

func compareLabels(a, b []analytics.Label) int {
	return slices.CompareFunc(a, b, func(a, b analytics.Label) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
	})
}

// latest is from when on samples may matter to an instant: where the agent counted shortly before it, whatever is older has been
// replaced or has ended.
func (q *querier) latest(from, to int64) int64 {
	near := to - patience - 2*shortest
	if near <= from {
		return from
	}
	r, err := q.h.Select(part{near, to, 0}.query(ticksMatcher))
	if err != nil {
		return from
	}
	defer r.Close()
	g, err := newGrid([]*history.Result{r})
	if err != nil || len(g.times) == 0 || slices.ContainsFunc(g.intervals, func(n int64) bool { return n != shortest }) {
		return from
	}
	return near
}

// add adds the projections of a series that are chosen.
func (s *selection) add(g *group) {
	for _, p := range g.chosen {
		if p.kind == bucket {
			g.buckets++
		}
		if p.kind != plain {
			g.keeps++
		}
		s.all = append(s.all, &series{group: g, projection: p, labels: s.engine.known.of(g.label.Labels, &p)})
	}
	if g.buckets > 1 { // which one table is for
		g.keeps += 1 - g.buckets
	}
	g.chosen = nil
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
	from, to         int64 // what was asked for
}

// newGrid makes a grid of the ticks of several parts, in the order of time.
func newGrid(parts []*history.Result) (*grid, error) {
	g := new(grid)
	for _, r := range parts {
		for _, s := range r.Series {
			it := s.Iterate()
			for it.Next() {
				g.times, g.intervals = append(g.times, it.At().Time), append(g.intervals, it.At().Interval)
			}
			if it.Err() != nil {
				return nil, it.Err()
			}
		}
	}
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
	selection *selection
	label     *history.Series          // any, for its labels
	parts     []*history.Series        // what there is of it, in the order of time
	resume    map[stateKey]*countState // what is remembered of before
	chosen    []projection             // until they are series
	buckets   int                      // that are asked for
	keeps     int                      // states that are to be remembered
	kept      map[stateKey]*countState
	walks     []*countWalk // that are remembered with their samples
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
		return newIterator(&figureWalk{main: chain{parts: g.parts}, series: g.parts[len(g.parts)-1], grid: g.selection.grid}, g.selection)
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
