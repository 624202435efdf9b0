package alert

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	overruns              uint64 // evaluations that were ended
	overran               bool   // the latest one was

	running bool   // it is evaluated now
	slowly  bool   // it took a place of slow ones
	epoch   uint64 // of the Manager, at the evaluation that is under way
	retired bool   // another has taken its place, or it is gone: what is still evaluated of it counts no more
	stop    context.CancelFunc
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
	g.evaluations, g.failures, g.iterations, g.missed, g.overruns = from.evaluations, from.failures, from.iterations, from.missed, from.overruns
	heirOf := heirs(from.rules, g.rules)
	for _, old := range from.rules {
		r := heirOf[old]
		if r == nil {
			gone = append(gone, old)
			g.abandon(old)
			continue
		}
		r.series = old.series
		if r.alerting && old.alerting {
			r.active = old.active
		}
	}
	return gone
}

// heirs finds for each rule the one that goes on with what it left: one that is the same in all, else one of the same name and labels, which
// several may have.
func heirs(from, to []*rule) map[*rule]*rule {
	found, taken := map[*rule]*rule{}, map[*rule]bool{}
	for _, known := range []func(*rule) string{(*rule).definition, (*rule).key} {
		left := map[string][]*rule{}
		for _, r := range to {
			if !taken[r] {
				left[known(r)] = append(left[known(r)], r)
			}
		}
		for _, r := range from {
			if same := left[known(r)]; found[r] == nil && len(same) > 0 {
				found[r], taken[same[0]] = same[0], true
				left[known(r)] = same[1:]
			}
		}
	}
	return found
}

// abandon has the series of a rule marked stale at the next evaluation.
func (g *group) abandon(r *rule) {
	for _, series := range r.series {
		g.stale = append(g.stale, series)
	}
}

// retire ends an evaluation of a group that is replaced.
func (g *group) retire() {
	g.retired = true
	if g.stop != nil {
		g.stop()
	}
}

// evaluationMin is the least time that an evaluation may take, also where a group is evaluated more often.
const evaluationMin = 10 * time.Second

// errOverrun says that a group's evaluation was ended, errRetired that its group is no more.
var (
	errOverrun = errors.New("the evaluation of its group took too long and was ended")
	errRetired = errors.New("the rule is gone")
)

// patience is how long an evaluation of the group may take.
func (g *group) patience() time.Duration { return max(g.interval, evaluationMin) }

// enter takes the lock for what an evaluation of a group changes; ok: the group is still in force, and
// the clock still the one that the evaluation began by.
func (m *Manager) enter(g *group) (leave func(), ok bool) {
	unlock := m.lock()
	if g.retired || g.epoch != m.epoch {
		unlock()
		return nil, false
	}
	return unlock, true
}

// evaluate evaluates the group's rules in their order: what one records, the next one sees. What takes too long is ended: its next time has come.
func (m *Manager) evaluate(ctx context.Context, g *group, at time.Time) {
	began := m.now()
	ctx, cancel := context.WithTimeoutCause(ctx, g.patience(), errOverrun)
	defer cancel()
	unlock, ok := m.enter(g)
	if !ok {
		return
	}
	g.stop = cancel
	unlock()
	samples, done := 0, 0
	for done < len(g.rules) && ctx.Err() == nil {
		samples += m.evaluateRule(ctx, g, g.rules[done], at)
		done++
	}
	overrun := ctx.Err() != nil && errors.Is(context.Cause(ctx), errOverrun)
	if overrun {
		m.leaveOut(g, done, at)
	}
	m.markStale(g, at)
	unlock, ok = m.enter(g)
	if !ok {
		return
	}
	defer unlock()
	g.stop, g.overran = nil, overrun
	if done == len(g.rules) || overrun { // else the agent ends
		g.last, g.took, g.samples = at, m.now().Sub(began), samples
		g.iterations++
	}
}

// leaveOut notes that an evaluation was ended before the rules from a place on had their turn. Their alerts stay as they were.
func (m *Manager) leaveOut(g *group, from int, at time.Time) {
	for _, r := range g.rules[from:] {
		m.tell(g, r, at)
	}
	unlock, ok := m.enter(g)
	if !ok {
		return
	}
	defer unlock()
	g.overruns++
	if !g.overran { // once, not every 15 s
		m.log.Warn("the evaluation of a group of rules took too long and was ended", "group", g.name, "file", g.file, "after", g.patience(), "rules_left_out", len(g.rules)-from)
	}
	for _, r := range g.rules[from:] {
		r.err, r.health = errOverrun, HealthBad
		g.failures++
	}
}

// markStale ends the series of rules that are gone.
func (m *Manager) markStale(g *group, at time.Time) {
	unlock, ok := m.enter(g)
	if !ok {
		return
	}
	gone := slices.Clone(g.stale)
	unlock()
	if len(gone) == 0 || m.record(g, at, nil, gone) != nil {
		return
	}
	defer m.lock()()
	g.stale = g.stale[len(gone):] // others are behind them
}

// evaluateRule evaluates a rule, tells the Sink, and records the series that it leaves. It returns their number.
func (m *Manager) evaluateRule(ctx context.Context, g *group, r *rule, at time.Time) int {
	began := m.now()
	unlock, ok := m.enter(g)
	if !ok {
		return 0
	}
	doubtUntil := m.started.Add(restartHold)
	unlock()
	e := &evaluation{source: m.source, at: at, offset: g.offset, limit: g.limit, outer: m.outer, failed: m.templateFailed, doubtUntil: doubtUntil,
		enter: func() (func(), bool) { return m.enter(g) }}
	var samples promql.Vector
	var err error
	if r.alerting {
		samples, err = r.alert(ctx, e)
	} else {
		samples, err = r.record(ctx, e)
	}
	m.tell(g, r, at)
	if err == nil {
		err = m.recordRule(g, r, at, samples)
	}
	if err != nil && errors.Is(context.Cause(ctx), errOverrun) {
		err = fmt.Errorf("%w after %s", errOverrun, g.patience())
	}
	unlock, ok = m.enter(g)
	if !ok {
		return 0
	}
	defer unlock()
	g.evaluations++
	r.keep(g, samples)
	isStop := ctx.Err() != nil && !errors.Is(err, errOverrun)
	if err != nil && (r.err == nil || r.err.Error() != err.Error()) && !isStop { // once, not every 15 s
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
	unlock, ok := m.enter(g)
	if !ok {
		return errRetired
	}
	var gone []labels.Labels
	for name, series := range r.series {
		if _, ok := now[name]; !ok {
			gone = append(gone, series)
		}
	}
	all := now // whoever takes the rule over meanwhile has to end these as well
	if len(gone) > 0 {
		all = maps.Clone(now)
		maps.Copy(all, r.series)
	}
	r.series = all
	unlock()
	if len(samples)+len(gone) == 0 {
		return nil
	}
	if err := m.record(g, at, samples, gone); err != nil {
		return err
	}
	if unlock, ok = m.enter(g); ok {
		r.series = now
		unlock()
	}
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
