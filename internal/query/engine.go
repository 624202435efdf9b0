// Package query answers PromQL over the local history, with Prometheus' own engine. Series have the names and labels of /metrics,
// without job and instance, which a server that scrapes adds: there is one agent here. Each distribution is there twice, as native
// histogram and as classic buckets, whatever /metrics shows.
package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
)

// What the engine works with, under names that do without its module.
type (
	Vector  = promql.Vector
	Matrix  = promql.Matrix
	Sample  = promql.Sample
	Labels  = labels.Labels
	Matcher = labels.Matcher
)

const (
	// MaxSamplesDefault bounds what one query holds, in numbers of 16 bytes: 24 MB. A native histogram with 60 buckets counts as 36, a
	// series as 32: all 22 buckets of 2,000 endpoints are 44,000 series.
	MaxSamplesDefault = 1_500_000
	// TimeoutDefault is less than the server's time for an answer.
	TimeoutDefault = 30 * time.Second
	// ConcurrencyDefault bounds the queries that are evaluated at once; others wait. Those of rules are beside them.
	ConcurrencyDefault = 2
	// stepsMax is the most points of one series in an answer, as in Prometheus.
	stepsMax = 11_000
	// lookback is how long a series without a newer sample keeps its value, as in Prometheus.
	lookback = 5 * time.Minute
	// subqueryStep is the step of subqueries that name none: Prometheus' default evaluation interval.
	subqueryStep = time.Minute
)

// ErrNoHistory says that there is nothing to ask.
var ErrNoHistory = errors.New("there is no local history: --storage.retention is 0, or the agent has just been started")

// Options configure an Engine.
type Options struct {
	History     func() *history.History // the one to ask; it may return nil, and another one later
	MaxSamples  int                     // of one query; 0 means MaxSamplesDefault
	Timeout     time.Duration           // of one query; 0 means TimeoutDefault
	Concurrency int                     // queries at once; 0 means ConcurrencyDefault
	// Describe yields what is known of metrics beside those of exchanges and the host, which this package knows; nil: nothing is.
	Describe func(yield func(name, kind, help string))
	Log      *slog.Logger // nil means slog.Default
}

// Engine evaluates PromQL. Its methods may be called from any goroutine.
type Engine struct {
	o       Options
	parser  parser.Parser
	queries *promql.Engine // of people and dashboards
	rules   *promql.Engine // whose evaluation must not wait for those
	places  *places        // of queries, and of what is asked beside PromQL
	known   labelSets
	memory  memory
}

// New returns an engine.
func New(o Options) *Engine {
	if o.MaxSamples == 0 {
		o.MaxSamples = MaxSamplesDefault
	}
	if o.Timeout == 0 {
		o.Timeout = TimeoutDefault
	}
	if o.Concurrency == 0 {
		o.Concurrency = ConcurrencyDefault
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	e := &Engine{o: o, parser: parser.NewParser(parser.Options{})}
	options := promql.EngineOpts{
		Logger: o.Log, MaxSamples: o.MaxSamples, Timeout: o.Timeout, LookbackDelta: lookback, Parser: e.parser,
		NoStepSubqueryIntervalFn: func(int64) int64 { return subqueryStep.Milliseconds() },
		EnableAtModifier:         true, EnableNegativeOffset: true, EnablePerStepStats: true,
		// A counter's first value, and the one after midnight, count from the start that comes with them.
		UseStartTimestamps: true,
		// The context is looked at within series as well.
		EnableQueryCost: true,
	}
	e.rules = promql.NewEngine(options)
	e.places = newPlaces(o.Concurrency)
	options.ActiveQueryTracker = e.places
	e.queries = promql.NewEngine(options)
	return e
}

// Vector evaluates an expression at one time for a rule. A scalar is one sample without labels.
func (e *Engine) Vector(ctx context.Context, expr string, at time.Time) (Vector, error) {
	parsed, err := e.parse(expr)
	if err != nil {
		return nil, err
	}
	seriesSamples, err := e.bounded(parsed, at, at, 0)
	if err != nil {
		return nil, err
	}
	q, err := e.rules.NewInstantQuery(ctx, e.queryable(lookback, at.UnixMilli(), seriesSamples, 0), nil, expr, at)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	r := q.Exec(ctx)
	if r.Err != nil {
		return nil, r.Err
	}
	switch v := r.Value.(type) {
	case promql.Vector:
		return append(Vector(nil), v...), nil // the query takes its own back
	case promql.Scalar:
		return Vector{{T: v.T, F: v.V, Metric: labels.EmptyLabels()}}, nil
	}
	return nil, fmt.Errorf("%q is neither a vector nor a scalar", expr)
}

// Record keeps the values of series that rules make, ALERTS and ALERTS_FOR_STATE among them. Queries see them at once. A value that
// is Stale ends a series.
func (e *Engine) Record(at time.Time, samples Vector) error {
	h := e.history()
	if h == nil {
		return ErrNoHistory
	}
	all := make([]history.RecordedSample, 0, len(samples))
	skipped := 0
	for i := range samples {
		if samples[i].H != nil {
			skipped++
			continue
		}
		s := history.RecordedSample{Value: samples[i].F}
		samples[i].Metric.Range(func(l labels.Label) {
			s.Labels = append(s.Labels, analytics.Label{Name: l.Name, Value: l.Value})
		})
		nameFirst(s.Labels)
		all = append(all, s)
	}
	if err := h.Record(at, all); err != nil {
		return err
	}
	if skipped > 0 {
		return fmt.Errorf("%d native histograms were not recorded: the history keeps numbers of rules alone", skipped)
	}
	return nil
}

// nameFirst puts the name in front of labels that sort before it.
func nameFirst(all []analytics.Label) {
	for i := range all {
		if all[i].Name == labels.MetricName {
			name := all[i]
			copy(all[1:i+1], all[:i])
			all[0] = name
			return
		}
	}
}

// Stale is the value that ends a series.
func Stale() float64 { return math.Float64frombits(value.StaleNaN) }

// IsStale tells whether a value ends a series.
func IsStale(v float64) bool { return value.IsStaleNaN(v) }

// LabelsOf makes labels of names and values, one after the other.
func LabelsOf(namesAndValues ...string) Labels { return labels.FromStrings(namesAndValues...) }

// LabelsFromMap makes labels of a map.
func LabelsFromMap(m map[string]string) Labels { return labels.FromMap(m) }

// Check says what is wrong with an expression, or whether it would take too much at one time; nil for nothing.
func (e *Engine) Check(expr string) error {
	parsed, err := e.parse(expr)
	if err == nil {
		now := time.Now()
		_, err = e.bounded(parsed, now, now, 0)
	}
	return err
}

// history is the one to ask, nil where there is none.
func (e *Engine) history() *history.History {
	if e.o.History == nil {
		return nil
	}
	return e.o.History()
}

// places bounds the queries that are evaluated at once.
type places struct {
	most int
	free chan struct{}
}

func newPlaces(most int) *places { return &places{most, make(chan struct{}, most)} }

// GetMaxConcurrent implements promql.QueryTracker.
func (p *places) GetMaxConcurrent() int { return p.most }

// Insert implements promql.QueryTracker: it waits for a place.
func (p *places) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case p.free <- struct{}{}:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Delete implements promql.QueryTracker.
func (p *places) Delete(int) { <-p.free }

// Close implements promql.QueryTracker.
func (p *places) Close() error { return nil }
