package query

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
)

// catalogStep is the resolution in which series are looked for: what the hours have need not be read again in minutes.
const catalogStep = time.Hour

// catalogMax bounds the series of an answer: 350 bytes each, 18 MB. 2,000 endpoints have more than 300,000.
const catalogMax = 50_000

var errManySeries = fmt.Errorf("the selectors choose more than %d series; ask for fewer, or for names or values of labels", catalogMax)

// errEmptySelector is Prometheus' answer to a selector that chooses everything.
var errEmptySelector = errors.New("match[] must contain at least one non-empty matcher")

// Found is what a question for names or series found.
type Found[T any] struct {
	All      []T
	Warnings []string
}

// Series returns the labels of the series that any of the selectors chooses and that have samples between two times, sorted. A
// limit of 0 is none.
func (e *Engine) Series(ctx context.Context, selectors []string, from, to time.Time, limit int) (Found[Labels], error) {
	ctx, cancel := context.WithTimeout(ctx, e.o.Timeout)
	defer cancel()
	var found Found[Labels]
	all, err := e.selectors(selectors)
	if err != nil {
		return found, err
	}
	seen := map[string]bool{}
	var key []byte
	over := false
	for _, matchers := range all {
		err := e.eachSeries(ctx, matchers, from, to, &found.Warnings, func(l Labels) {
			key = l.Bytes(key[:0])
			if seen[string(key)] {
				return
			}
			if over = over || len(found.All) == catalogMax; !over {
				seen[string(key)] = true
				found.All = append(found.All, l)
			}
		})
		if err != nil {
			return found, err
		}
		if over {
			return found, errManySeries
		}
	}
	slices.SortFunc(found.All, labels.Compare)
	return limited(found, limit), nil
}

// LabelNames returns the names of the labels of such series; without selectors of all.
func (e *Engine) LabelNames(ctx context.Context, selectors []string, from, to time.Time, limit int) (Found[string], error) {
	return e.collect(ctx, selectors, from, to, limit, eachName)
}

// LabelValues returns the values that a label has in such series; without selectors in all.
func (e *Engine) LabelValues(ctx context.Context, name string, selectors []string, from, to time.Time, limit int) (Found[string], error) {
	return e.collect(ctx, selectors, from, to, limit, eachValue(name))
}

func eachName(l Labels, add func(string)) {
	l.Range(func(l labels.Label) { add(l.Name) })
}

func eachValue(name string) func(Labels, func(string)) {
	return func(l Labels, add func(string)) {
		if v := l.Get(name); v != "" {
			add(v)
		}
	}
}

func (e *Engine) collect(ctx context.Context, selectors []string, from, to time.Time, limit int, each func(Labels, func(string))) (Found[string], error) {
	all := [][]*Matcher{nil}
	if len(selectors) > 0 {
		var err error
		if all, err = e.selectors(selectors); err != nil {
			return Found[string]{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, e.o.Timeout)
	defer cancel()
	found, err := e.texts(ctx, all, from, to, each)
	return limited(found, limit), err
}

// texts returns what each adds of the labels of all series that any of the selectors chooses, sorted.
func (e *Engine) texts(ctx context.Context, selectors [][]*Matcher, from, to time.Time, each func(Labels, func(string))) (Found[string], error) {
	var found Found[string]
	seen := map[string]struct{}{}
	for _, matchers := range selectors {
		err := e.eachSeries(ctx, matchers, from, to, &found.Warnings, func(l Labels) {
			each(l, func(text string) { seen[text] = struct{}{} })
		})
		if err != nil {
			return found, err
		}
	}
	found.All = slices.Sorted(maps.Keys(seen))
	return found, nil
}

// truncated is Prometheus' warning.
const truncated = "results truncated due to limit"

// limited cuts what was found, and says so as Prometheus does.
func limited[T any](f Found[T], limit int) Found[T] {
	if limit > 0 && len(f.All) > limit {
		f.All = f.All[:limit]
		f.Warnings = append(f.Warnings, truncated)
	}
	return f
}

// selectors reads series selectors.
func (e *Engine) selectors(texts []string) ([][]*Matcher, error) {
	all := make([][]*Matcher, 0, len(texts))
	if err := CheckSelectors(texts); err != nil {
		return nil, err
	}
	for _, text := range texts {
		matchers, err := e.parser.ParseMetricSelector(text)
		if err != nil {
			return nil, BadDataError{fmt.Errorf("invalid parameter \"match[]\": %w", err)}
		}
		if !slices.ContainsFunc(matchers, func(m *Matcher) bool { return !m.Matches("") }) {
			return nil, BadDataError{fmt.Errorf("invalid parameter \"match[]\": %w", errEmptySelector)}
		}
		all = append(all, matchers)
	}
	return all, nil
}

// eachSeries calls yield with the labels of all series that are chosen.
func (e *Engine) eachSeries(ctx context.Context, matchers []*Matcher, from, to time.Time, warnings *[]string, yield func(Labels)) error {
	h := e.history()
	if h == nil {
		return ErrNoHistory
	}
	c := newChooser(ctx, matchers)
	r, err := h.Select(history.Query{From: from, To: to, Step: catalogStep, Matchers: c.matchers()})
	if err != nil {
		return err
	}
	defer r.Close()
	for _, missing := range r.Missing {
		*warnings = append(*warnings, missingText(missing))
	}
	for _, s := range r.Series {
		for _, p := range c.of(s) {
			yield(e.known.of(s.Labels, &p))
		}
		if err := ctx.Err(); err != nil {
			return inTime(err, "search of series")
		}
	}
	return inTime(ctx.Err(), "search of series")
}

// LabelValues implements storage.LabelQuerier.
func (q *querier) LabelValues(ctx context.Context, name string, _ *storage.LabelHints, matchers ...*Matcher) ([]string, annotations.Annotations, error) {
	return q.names(ctx, matchers, eachValue(name))
}

// LabelNames implements storage.LabelQuerier.
func (q *querier) LabelNames(ctx context.Context, _ *storage.LabelHints, matchers ...*Matcher) ([]string, annotations.Annotations, error) {
	return q.names(ctx, matchers, eachName)
}

func (q *querier) names(ctx context.Context, matchers []*Matcher, each func(Labels, func(string))) ([]string, annotations.Annotations, error) {
	found, err := q.engine.texts(ctx, [][]*Matcher{matchers}, time.UnixMilli(q.from), time.UnixMilli(q.to), each)
	return found.All, nil, err
}

// Description is what is known of a metric.
type Description struct {
	Type string `json:"type"`
	Help string `json:"help"`
	Unit string `json:"unit"`
}

// Metadata describes the metrics of the history by name: one of them, or all where name is "". A limit of 0 is none.
func (e *Engine) Metadata(name string, limit int) map[string][]Description {
	all := map[string][]Description{}
	add := func(metric string, d Description) {
		if (name == "" || metric == name) && (limit == 0 || len(all) < limit) {
			all[metric] = []Description{d}
		}
	}
	for i := range analytics.Families {
		add(analytics.Families[i].Name, Description{Type: "histogram", Help: analytics.Families[i].Help})
	}
	analytics.EachMetric(func(m *analytics.Metric) {
		d := Description{Type: "gauge", Help: m.Help}
		if m.Counter {
			d.Type = "counter"
		}
		add(m.Name, d)
	})
	if e.o.Describe != nil {
		e.o.Describe(func(name, kind, help string) { add(name, Description{Type: kind, Help: help}) })
	}
	add(history.TicksMetric, Description{Type: "gauge", Help: "Intervals of 10 s in which the agent counted; where there is none, it did not."})
	return all
}

// BadDataError says that a question is malformed.
type BadDataError struct{ Err error }

func (e BadDataError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e BadDataError) Unwrap() error { return e.Err }

func missingText(missing string) string {
	return "a file of the history is damaged, and what it had is not in the answer: " + missing
}
