package alert

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
)

// group is an ordered list of rules that are evaluated one after the other, at the same times.
type group struct {
	name, file string
	origin     Origin
	interval   time.Duration
	offset     time.Duration // query_offset
	limit      int
	rules      []*rule

	next    time.Time       // of the next evaluation
	last    time.Time       // of the latest one; zero: none
	took    time.Duration   // it
	stale   []labels.Labels // series of rules that are gone
	samples int             // of the latest evaluation

	evaluations, failures uint64 // of rules
	iterations, missed    uint64 // of the group
}

// key names the group in metrics, as in Prometheus.
func (g *group) key() string { return g.file + ";" + g.name }

// same tells whether a group is the same in two readings of the files.
func (g *group) same(o *group) bool {
	return g.interval == o.interval && g.limit == o.limit && g.offset == o.offset &&
		slices.EqualFunc(g.rules, o.rules, func(a, b *rule) bool { return a.definition() == b.definition() })
}

// takeOver gives the group what its predecessor's rules left, and returns the rules that found no successor.
func (g *group) takeOver(from *group) (gone []*rule) {
	g.last, g.took, g.next, g.samples, g.stale = from.last, from.took, from.next, from.samples, from.stale
	g.evaluations, g.failures, g.iterations, g.missed = from.evaluations, from.failures, from.iterations, from.missed
	byKey := map[string][]*rule{}
	for _, r := range from.rules {
		byKey[r.key()] = append(byKey[r.key()], r)
	}
	for _, r := range g.rules {
		same := byKey[r.key()]
		if len(same) == 0 {
			continue
		}
		byKey[r.key()] = same[1:]
		r.series = same[0].series
		if r.alerting && same[0].alerting {
			r.active = same[0].active
		}
	}
	for _, r := range from.rules {
		if slices.Contains(byKey[r.key()], r) {
			gone = append(gone, r)
			g.abandon(r)
		}
	}
	return gone
}

// abandon has the series of a rule marked stale at the next evaluation.
func (g *group) abandon(r *rule) {
	for _, series := range r.series {
		g.stale = append(g.stale, series)
	}
}

// evaluate evaluates the group's rules in their order: what one records, the next one sees.
func (m *Manager) evaluate(ctx context.Context, g *group, at time.Time) {
	began := m.now()
	samples := 0
	for _, r := range g.rules {
		if ctx.Err() != nil {
			return
		}
		samples += m.evaluateRule(ctx, g, r, at)
	}
	if len(g.stale) > 0 && m.record(g, at, nil, g.stale) == nil {
		g.stale = nil
	}
	defer m.lock()()
	g.last, g.took, g.samples = at, m.now().Sub(began), samples
	g.iterations++
}

// evaluateRule evaluates a rule, tells the Sink, and records the series that it leaves. It returns their number.
func (m *Manager) evaluateRule(ctx context.Context, g *group, r *rule, at time.Time) int {
	began := m.now()
	e := &evaluation{source: m.source, at: at, offset: g.offset, limit: g.limit, outer: m.outer, failed: m.templateFailed}
	var samples promql.Vector
	var err error
	if r.alerting {
		samples, err = r.alert(ctx, e, m.lock)
	} else {
		samples, err = r.record(ctx, e)
	}
	m.tell(r, at)
	if err == nil {
		err = m.recordRule(g, r, at, samples)
	}
	defer m.lock()()
	g.evaluations++
	r.keep(g, samples)
	if err != nil && (r.err == nil || r.err.Error() != err.Error()) && ctx.Err() == nil { // once, not every 15 s
		m.log.Warn("evaluating a rule failed", "group", g.name, "file", g.file, "rule", r.name, "err", err)
	}
	r.at, r.took, r.err, r.health = began, m.now().Sub(began), err, HealthGood
	if err != nil {
		g.failures++
		r.health = HealthBad
	}
	return len(samples)
}

// recordRule records what a rule yields, and that what it yielded before and does not any more is stale.
func (m *Manager) recordRule(g *group, r *rule, at time.Time, samples promql.Vector) error {
	now := make(map[string]labels.Labels, len(samples))
	for _, s := range samples {
		now[s.Metric.String()] = s.Metric
	}
	var gone []labels.Labels
	for name, series := range r.series {
		if _, ok := now[name]; !ok {
			gone = append(gone, series)
		}
	}
	if len(samples)+len(gone) == 0 {
		return nil
	}
	if err := m.record(g, at, samples, gone); err != nil {
		return err
	}
	r.series = now
	return nil
}

func (m *Manager) record(g *group, at time.Time, samples promql.Vector, gone []labels.Labels) error {
	at = at.Add(-g.offset)
	return m.source.Record(at, append(samples, stale(at, gone)...))
}

// stale are the markers that end series.
func stale(at time.Time, gone []labels.Labels) (markers promql.Vector) {
	for _, series := range gone {
		markers = append(markers, promql.Sample{Metric: series, T: at.UnixMilli(), F: math.Float64frombits(value.StaleNaN)})
	}
	return markers
}
