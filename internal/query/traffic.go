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
func (e *Engine) Traffic(ctx context.Context, q TrafficQuestion) (*Traffic, error) {
	steps := int64(q.End.Sub(q.Start) / max(q.Step, 1))
	if q.Step < shortest*time.Millisecond || steps < 1 || steps > trafficStepsMax {
		return nil, BadDataError{fmt.Errorf("%d steps of %s are not between 1 and %d of 10 s or more", steps, q.Step, trafficStepsMax)}
	}
	ctx, cancel := context.WithTimeout(ctx, e.o.Timeout)
	defer cancel()
	place, err := e.places.Insert(ctx, "")
	if err != nil {
		return nil, inTime(err, "query queue")
	}
	defer e.places.Delete(place)
	h := e.history()
	if h == nil {
		return nil, ErrNoHistory
	}
	results, err := h.SelectAll(q.query(ticksMatcher), q.query(q.matchers()))
	if err != nil {
		return nil, promql.ErrStorage{Err: err}
	}
	defer func() {
		for _, r := range results {
			r.Close()
		}
	}()
	ticks, found := results[0], results[1]
	if q.BytesMax > 0 && found.PackedBytes() > q.BytesMax {
		return nil, ErrMuchToRead
	}
	return q.add(ctx, ticks, found, int(steps))
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
