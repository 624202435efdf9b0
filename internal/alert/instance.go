package alert

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// State is how far an alert has come.
type State int

// The states, from the least to the most severe.
const (
	Unknown State = iota // the rule was not evaluated yet
	Inactive
	Pending
	Firing
)

var stateNames = [...]string{"unknown", "inactive", "pending", "firing"}

// String returns the state in Prometheus' words.
func (s State) String() string { return stateNames[s] }

// Names of the series that alerts leave, and of their label.
const (
	alertsMetric   = "ALERTS"
	forStateMetric = "ALERTS_FOR_STATE"
	stateLabel     = "alertstate"
)

// resolvedRetention is how long an alert that is over is remembered: so long /alerts shows it.
const resolvedRetention = 15 * time.Minute

// instance is one alert of a rule: a set of labels for which its expression has, or had, a value.
type instance struct {
	labels labels.Labels
	told   *telling // what its annotations are made of; another one after each evaluation
	state  State
	value  float64

	activeAt        time.Time // when the expression began to have a value
	firedAt         time.Time // zero: it does not fire, and did not
	resolvedAt      time.Time // zero: it is pending or fires
	keepFiringSince time.Time // from when on keep_firing_for counts; zero: it does not
	sentAt          time.Time // when the Sink heard of it last; zero: never
	endTold         bool      // it heard that it is over
	announced       bool      // the Sink has heard of it: after a restart it is no news
	resumed         bool      // the Sink had heard of it before the agent's start
	doubtful        bool      // it may have been there before the start, and was forgotten
	// heldUntil is set on alerts that fired when the agent ended: until then an expression without a value does not resolve
	// them, since the windows of rates begin empty.
	heldUntil time.Time
}

// evaluation is what the rules of a group share in one evaluation.
type evaluation struct {
	source     Source
	at         time.Time
	offset     time.Duration // query_offset
	limit      int
	outer      external
	failed     func(r *rule, err error) // told of templates that fail
	doubtUntil time.Time                // what begins until then may have been there before the agent's start

	// enter takes the lock for what the evaluation changes; ok: its group is still in force.
	enter func() (leave func(), ok bool)
}

// alert evaluates an alerting rule as Prometheus does: what has a value is pending, after `for` it fires, what has none any more
// is dropped or, once keep_firing_for is over, resolved. The result are the series that it leaves. The query and the templates run
// without lock.
func (r *rule) alert(ctx context.Context, e *evaluation) (promql.Vector, error) {
	found, err := e.source.Vector(ctx, r.expr, e.at.Add(-e.offset))
	if err != nil {
		return nil, err
	}
	now, err := r.instances(ctx, e, found)
	if err != nil {
		return nil, err
	}
	leave, ok := e.enter()
	if !ok {
		return nil, errRetired
	}
	defer leave()
	for hash, a := range now {
		if before, ok := r.active[hash]; ok && before.state != Inactive {
			before.value, before.told = a.value, a.told
		} else {
			r.active[hash] = a
		}
	}
	active := 0
	var result promql.Vector
	for hash, a := range r.active {
		_, present := now[hash]
		if !r.advance(a, hash, present, e.at) {
			continue
		}
		active++
		result = append(result, r.sample(a, e.at.Add(-e.offset)), r.forState(a, e.at.Add(-e.offset)))
	}
	if e.limit > 0 && active > e.limit {
		for _, a := range r.active {
			if a.state == Firing && !a.sentAt.IsZero() {
				r.dropped = append(r.dropped, a)
			}
		}
		r.active = map[uint64]*instance{}
		return nil, fmt.Errorf("exceeded limit of %d with %d alerts", e.limit, active)
	}
	return result, nil
}

// instances makes an alert of every element of a vector.
func (r *rule) instances(ctx context.Context, e *evaluation, found promql.Vector) (map[uint64]*instance, error) {
	now := make(map[uint64]*instance, len(found))
	builder := labels.NewBuilder(labels.EmptyLabels())
	for _, s := range found {
		s.Metric = bounded(s.Metric) // for templates, and what is remembered
		t := &telling{sample: s, at: e.at, outer: e.outer, failed: e.failed}
		builder.Reset(s.Metric)
		builder.Del(model.MetricNameLabel)
		r.labels.Range(func(l labels.Label) { builder.Set(l.Name, t.label(ctx, r, l, e.source)) })
		builder.Set(model.AlertNameLabel, r.name)
		all := bounded(builder.Labels())
		hash := all.Hash()
		if _, ok := now[hash]; ok {
			return nil, errSameAlert
		}
		t.eager(ctx, r, e.source)
		now[hash] = &instance{labels: all, told: t, state: Pending, value: s.F, activeAt: e.at, doubtful: !e.at.After(e.doubtUntil)}
	}
	return now, nil
}

// advance moves an alert on to this evaluation, and tells whether it is pending or fires.
func (r *rule) advance(a *instance, hash uint64, present bool, now time.Time) bool {
	if present {
		a.keepFiringSince, a.heldUntil = time.Time{}, time.Time{}
	} else if !r.keeps(a, now) {
		if a.state == Pending || !a.resolvedAt.IsZero() && now.Sub(a.resolvedAt) > resolvedRetention {
			delete(r.active, hash)
		}
		if a.state != Inactive {
			a.state, a.resolvedAt = Inactive, now
		}
		return false
	}
	switch held := now.Sub(a.activeAt) >= r.hold; {
	case a.state == Pending && held:
		a.state, a.firedAt = Firing, now
	case a.state == Firing && !held: // `for` has become longer
		a.state, a.firedAt, a.sentAt, a.keepFiringSince = Pending, time.Time{}, time.Time{}, time.Time{}
		a.announced, a.resumed = false, false
	}
	return true
}

// keeps tells whether an alert without a value goes on firing.
func (r *rule) keeps(a *instance, now time.Time) bool {
	if a.state != Firing {
		return false
	}
	if now.Before(a.heldUntil) {
		return true
	}
	if r.keepFiringFor == 0 {
		return false
	}
	if a.keepFiringSince.IsZero() {
		a.keepFiringSince = now
	}
	return now.Sub(a.keepFiringSince) < r.keepFiringFor
}

func (r *rule) sample(a *instance, at time.Time) promql.Sample {
	b := r.seriesOf(a, alertsMetric)
	b.Set(stateLabel, a.state.String())
	return promql.Sample{Metric: b.Labels(), T: at.UnixMilli(), F: 1}
}

func (r *rule) forState(a *instance, at time.Time) promql.Sample {
	return promql.Sample{Metric: r.seriesOf(a, forStateMetric).Labels(), T: at.UnixMilli(), F: float64(a.activeAt.Unix())}
}

// seriesOf begins the labels of a series about an alert: the rule's, over which the alert's go.
func (r *rule) seriesOf(a *instance, name string) *labels.Builder {
	b := labels.NewBuilder(r.labels)
	a.labels.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	b.Set(model.MetricNameLabel, name)
	b.Set(model.AlertNameLabel, r.name)
	return b
}
