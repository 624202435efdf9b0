package query

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
)

// What exchanges did over a long time is read as the history has it: what was counted in each interval, added up by steps. PromQL
// makes totals of that, series by series, and takes differences of those: of the percentile, the throughput and the errors of
// many endpoints it would be three readings, each of which takes some ten times as long.

// trafficStepsMax bounds the steps of an answer, each of which has a histogram: 1 KiB usually, 12 at worst.
const trafficStepsMax = 2_000

// trafficCopyBytes bounds what is copied of files, so that few are opened for each series.
const trafficCopyBytes = 8 << 20

// ErrMuchToRead says that an answer would take too long; longer steps take less.
var ErrMuchToRead = errors.New("there is too much to read in steps of this length")

// TrafficQuestion asks what exchanges did in each step of a time.
type TrafficQuestion struct {
	Family     string            // the metric, whose distributions are added up
	Labels     map[string]string // that all series have
	Start, End time.Time         // multiples of the step
	Step       time.Duration     // a multiple of 10 s
	BytesMax   int64             // what may be unpacked, as it is stored, else ErrMuchToRead; 0: no bound
}

// Traffic is what was found.
type Traffic struct {
	Series   int // that were added up
	Periods  []Period
	Warnings []string // what the answer may lack
}

// Period is what exchanges did in one step.
type Period struct {
	End      time.Time
	Counted  time.Duration // in which the agent counted
	Requests uint64        // those without a duration among them
	Failures uint64        // of them, as alerts count them: a status of 5xx or no answer, or what a client takes for an error
	Values   analytics.Histogram
}

// Traffic adds up what all series did that the question chooses.
func (e *Engine) Traffic(ctx context.Context, q TrafficQuestion) (t *Traffic, err error) {
	err = e.read(ctx, &q, func(ctx context.Context, ticks, found *history.Result, steps int) error {
		t, err = q.add(ctx, ticks, found, steps)
		return err
	})
	return t, err
}

// read finds the series of a question, and the agent's ticks, for somebody who adds them up.
func (e *Engine) read(ctx context.Context, q *TrafficQuestion, use func(ctx context.Context, ticks, found *history.Result, steps int) error) error {
	steps := int64(q.End.Sub(q.Start) / max(q.Step, 1))
	if q.Step < shortest*time.Millisecond || steps < 1 || steps > trafficStepsMax {
		return BadDataError{fmt.Errorf("%d steps of %s are not between 1 and %d of 10 s or more", steps, q.Step, trafficStepsMax)}
	}
	ctx, cancel := context.WithTimeout(ctx, e.o.Timeout)
	defer cancel()
	place, err := e.places.Insert(ctx, "")
	if err != nil {
		return inTime(err, "query queue")
	}
	defer e.places.Delete(place)
	h := e.history()
	if h == nil {
		return ErrNoHistory
	}
	results, err := h.SelectAll(q.query(ticksMatcher), q.query(q.matchers()))
	if err != nil {
		return promql.ErrStorage{Err: err}
	}
	defer func() {
		for _, r := range results {
			r.Close()
		}
	}()
	if q.BytesMax > 0 && results[1].PackedBytes() > q.BytesMax {
		return ErrMuchToRead
	}
	return use(ctx, results[0], results[1], int(steps))
}

// query asks for the longest intervals of which none belongs to two steps.
func (q *TrafficQuestion) query(matchers []history.Matcher) history.Query {
	interval := time.Duration(0)
	for _, i := range []time.Duration{time.Minute, time.Hour} {
		if q.Step%i == 0 && q.Start.UnixMilli()%i.Milliseconds() == 0 {
			interval = i
		}
	}
	return history.Query{From: q.Start.Add(time.Millisecond), To: q.End, Step: interval, Matchers: matchers, CopyBytes: trafficCopyBytes}
}

func (q *TrafficQuestion) matchers() []history.Matcher {
	equal := func(name, want string) history.Matcher {
		return history.Matcher{Name: name, Match: func(value string) bool { return value == want }}
	}
	all := []history.Matcher{equal(labels.MetricName, q.Family)}
	for _, name := range slices.Sorted(maps.Keys(q.Labels)) {
		all = append(all, equal(name, q.Labels[name]))
	}
	return all
}

// add adds the samples of all series to their periods.
func (q *TrafficQuestion) add(ctx context.Context, ticks, found *history.Result, steps int) (*Traffic, error) {
	t := &Traffic{Series: len(found.Series), Periods: make([]Period, steps)}
	for _, missing := range found.Missing {
		t.Warnings = append(t.Warnings, missingText(missing))
	}
	unit := analytics.Nanoseconds
	if len(found.Series) > 0 {
		unit = found.Series[0].Unit
	}
	for i := range t.Periods {
		t.Periods[i] = Period{End: q.Start.Add(time.Duration(i+1) * q.Step), Values: analytics.NewHistogram(unit)}
	}
	for _, s := range ticks.Series {
		err := q.each(s, t, func(p *Period, s *history.Sample) error {
			p.Counted += time.Duration(math.Round(s.Value)) * shortest * time.Millisecond
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, s := range found.Series {
		if err := ctx.Err(); err != nil {
			return nil, inTime(err, "reading of the history")
		}
		failed := isFailure(s.Labels)
		err := q.each(s, t, func(p *Period, s *history.Sample) error {
			n := s.Count() + s.Untimed
			if p.Requests += n; failed {
				p.Failures += n
			}
			return s.AddTo(&p.Values)
		})
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}

// each hands a series' samples out with the period that they belong to.
func (q *TrafficQuestion) each(s *history.Series, t *Traffic, use func(*Period, *history.Sample) error) error {
	start, step := q.Start.UnixMilli(), q.Step.Milliseconds()
	it := s.Iterate()
	for it.Next() {
		i := (it.At().Time - start - 1) / step
		if i < 0 || i >= int64(len(t.Periods)) {
			continue
		}
		if err := use(&t.Periods[i], it.At()); err != nil {
			return promql.ErrStorage{Err: fmt.Errorf("read the history: %w", err)}
		}
	}
	if err := it.Err(); err != nil {
		return promql.ErrStorage{Err: err}
	}
	return nil
}

// isFailure tells whether a series is of failures: a stream that its client ended was answered.
func isFailure(all []analytics.Label) bool {
	code := labelOf(all, "http_response_status_code")
	return labelOf(all, "error_type") != "" && (code == "" || !strings.ContainsRune("123", rune(code[0])))
}

// groupsMax bounds the groups of TrafficBy, each of which has a histogram of 1 KiB.
const groupsMax = 10_000

// Group is what the exchanges did, over the whole time, whose series have the same values of some labels.
type Group struct {
	Values []string // of those labels
	Period
}

// TrafficBy adds up what all series did that the question chooses, over its whole time and for each combination of the values of some
// labels. Counted is the agent's, the same in all groups; its parts by step are returned as well.
func (e *Engine) TrafficBy(ctx context.Context, q TrafficQuestion, by []string) (groups []*Group, counted []time.Duration, warnings []string, err error) {
	err = e.read(ctx, &q, func(ctx context.Context, ticks, found *history.Result, steps int) error {
		t, err := q.add(ctx, ticks, &history.Result{Missing: found.Missing}, steps)
		if err != nil {
			return err
		}
		whole := time.Duration(0)
		for i := range t.Periods {
			counted = append(counted, t.Periods[i].Counted)
			whole += t.Periods[i].Counted
		}
		warnings = t.Warnings
		groups, err = q.group(ctx, found, by, whole)
		return err
	})
	return groups, counted, warnings, err
}

// group adds the samples of all series to their groups, in the order of their values.
func (q *TrafficQuestion) group(ctx context.Context, found *history.Result, by []string, counted time.Duration) (groups []*Group, err error) {
	at := map[string]*Group{}
	whole := TrafficQuestion{Start: q.Start, End: q.End, Step: q.End.Sub(q.Start)}
	for _, s := range found.Series {
		if err := ctx.Err(); err != nil {
			return nil, inTime(err, "reading of the history")
		}
		values := make([]string, len(by))
		for i, name := range by {
			values[i] = labelOf(s.Labels, name)
		}
		key := strings.Join(values, "\x00")
		g := at[key]
		if g == nil {
			if len(groups) == groupsMax {
				return nil, fmt.Errorf("there are more than %d endpoints; ask for a shorter time", groupsMax)
			}
			g = &Group{Values: values, Period: Period{End: q.End, Counted: counted, Values: analytics.NewHistogram(s.Unit)}}
			at[key], groups = g, append(groups, g)
		}
		failed := isFailure(s.Labels)
		err := whole.each(s, &Traffic{Periods: make([]Period, 1)}, func(_ *Period, s *history.Sample) error {
			n := s.Count() + s.Untimed
			if g.Requests += n; failed {
				g.Failures += n
			}
			return s.AddTo(&g.Period.Values)
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(groups, func(a, b *Group) int { return slices.Compare(a.Values, b.Values) })
	return groups, nil
}
