package alert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// Health says how the latest evaluation of a rule went, in Prometheus' words.
type Health string

// The healths of a rule.
const (
	HealthUnknown Health = "unknown" // it was not evaluated yet
	HealthGood    Health = "ok"
	HealthBad     Health = "err"
)

// A rule fails whose labels make one series, or one alert, of two; in Prometheus' words.
var (
	errSameSeries = errors.New("vector contains metrics with the same labelset after applying rule labels")
	errSameAlert  = errors.New("vector contains metrics with the same labelset after applying alert labels")
)

// rule is one recording or alerting rule with what its evaluations left. Its group evaluates it; mu of the Manager guards what
// changes.
type rule struct {
	name          string
	alerting      bool
	interval      time.Duration // of its group
	nth           int           // of those with its key in its group, from 0
	expr          string        // as the parser writes it
	hold          time.Duration
	keepFiringFor time.Duration
	labels        labels.Labels
	annotations   labels.Labels
	templates     *templates

	active  map[uint64]*instance     // of an alerting rule, by the hash of their labels
	dropped []*instance              // that fired, and were dropped for the group's limit
	series  map[string]labels.Labels // that the latest evaluation recorded
	latest  promql.Vector            // what a recording rule yielded; of objectives only
	health  Health
	err     error
	took    time.Duration
	at      time.Time // of the latest evaluation; zero: none
}

// newRule makes a rule of one that was checked; outer are its group's labels.
func newRule(r rulefmt.Rule, outer map[string]string, promQL parser.Parser) (*rule, error) {
	expr, err := promQL.ParseExpr(r.Expr)
	if err != nil {
		return nil, fmt.Errorf("parsing the expression: %w", err)
	}
	all := map[string]string{}
	for name, value := range outer {
		all[name] = value
	}
	for name, value := range r.Labels {
		all[name] = value
	}
	made := &rule{name: r.Record, expr: expr.String(), labels: labels.FromMap(all), health: HealthUnknown}
	if r.Alert != "" {
		made.alerting, made.name, made.active = true, r.Alert, map[uint64]*instance{}
		made.hold, made.keepFiringFor = time.Duration(r.For), time.Duration(r.KeepFiringFor)
		made.annotations = labels.FromMap(r.Annotations)
		if made.templates, err = newTemplates(made); err != nil {
			return nil, fmt.Errorf("rule %q: %w", made.name, err)
		}
	}
	return made, nil
}

// key tells which rule of another reading of the files this one is: the name and labels, as in Prometheus.
func (r *rule) key() string { return r.name + r.labels.String() }

// definition is all that a rule file says of it.
func (r *rule) definition() string {
	return fmt.Sprintf("%t %s %q %s %s %s %s", r.alerting, r.name, r.expr, r.hold, r.keepFiringFor, r.labels, r.annotations)
}

// record evaluates a recording rule.
func (r *rule) record(ctx context.Context, e *evaluation) (promql.Vector, error) {
	found, err := e.source.Vector(ctx, r.expr, e.at.Add(-e.offset))
	if err != nil {
		return nil, err
	}
	result := make(promql.Vector, 0, len(found)) // the source may keep its own
	seen := make(map[uint64]bool, len(found))
	builder := labels.NewBuilder(labels.EmptyLabels())
	for _, s := range found {
		builder.Reset(s.Metric)
		builder.Set(model.MetricNameLabel, r.name)
		r.labels.Range(func(l labels.Label) { builder.Set(l.Name, l.Value) })
		s.Metric = builder.Labels()
		hash := s.Metric.Hash()
		if seen[hash] {
			return nil, errSameSeries
		}
		seen[hash] = true
		result = append(result, s)
	}
	if e.limit > 0 && len(result) > e.limit {
		return nil, fmt.Errorf("exceeded limit of %d with %d series", e.limit, len(result))
	}
	return result, nil
}

// worst is the most severe state of the rule's alerts.
func (r *rule) worst() State {
	state := Inactive
	if r.at.IsZero() {
		state = Unknown
	}
	for _, a := range r.active {
		state = max(state, a.state)
	}
	return state
}

// sorted returns the rule's alerts in the order of their labels.
func (r *rule) sorted() []*instance {
	all := make([]*instance, 0, len(r.active))
	for _, a := range r.active {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *instance) int { return strings.Compare(a.labels.String(), b.labels.String()) })
	return all
}
