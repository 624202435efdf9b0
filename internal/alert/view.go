package alert

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// AlertView is an alert as of its latest evaluation.
type AlertView struct {
	Labels, Annotations map[string]string
	State               State
	Value               float64
	ActiveAt            time.Time
	FiredAt             time.Time // zero: it does not fire
	KeepFiringSince     time.Time // zero: its expression has a value
	ResolvedAt          time.Time // zero: it is not over
	Rule, Group, File   string    // "" of alerts that are over

	told *telling
}

// RuleView is a rule as of its latest evaluation.
type RuleView struct {
	Name, Query         string
	Alerting            bool
	Labels, Annotations map[string]string
	For, KeepFiringFor  time.Duration
	State               State // of alerting rules
	Alerts              []AlertView
	Health              Health
	Err                 string
	Took                time.Duration
	At                  time.Time // zero: it was not evaluated yet
}

// GroupView is a group with its rules.
type GroupView struct {
	Name, File            string
	Origin                Origin
	Interval              time.Duration
	Limit                 int
	Rules                 []RuleView
	Last                  time.Time // instant of the latest evaluation; zero: none
	Took                  time.Duration
	Samples               int
	Evaluations, Failures uint64 // of rules
	Iterations, Missed    uint64 // of the group
	Overruns              uint64 // evaluations that were ended as they took too long
}

// ObjectiveView is one part of an objective with what is left of its error budget.
type ObjectiveView struct {
	Objective
	Kind       string // availability, latency
	Labels     map[string]string
	BudgetLeft *float64           // 1 is all; nil: no request was seen
	BurnRates  map[string]float64 // by window: 1 uses the budget up in just its time
	Exact      bool               // the latency's bound is one of the histogram's; else it is interpolated
	// Unmatched says that the rules were evaluated and found no endpoint of its service and route, not even a silent one, in the
	// longest of their windows.
	Unmatched bool
}

// Groups returns all groups in the order of their files. withAlerts has their alerts, with annotations expanded.
func (m *Manager) Groups(withAlerts bool) []GroupView {
	views, rules := m.views(withAlerts)
	for i := range views { // without lock, as templates may take their time
		for j := range views[i].Rules {
			for k := range views[i].Rules[j].Alerts {
				a := &views[i].Rules[j].Alerts[k]
				a.Annotations = a.told.annotations(rules[i][j]).Map()
			}
		}
	}
	return views
}

// views are all groups, without annotations of alerts, and their rules.
func (m *Manager) views(withAlerts bool) (views []GroupView, rules [][]*rule) {
	defer m.lock()()
	views = make([]GroupView, 0, len(m.groups))
	for _, g := range m.groups {
		v := GroupView{g.name, g.file, g.origin, g.interval, g.limit, make([]RuleView, 0, len(g.rules)), g.last, g.took, g.samples,
			g.evaluations, g.failures, g.iterations, g.missed, g.overruns}
		rules = append(rules, g.rules)
		for _, r := range g.rules {
			v.Rules = append(v.Rules, r.view(g, withAlerts))
		}
		views = append(views, v)
	}
	return views, rules
}

func (r *rule) view(g *group, withAlerts bool) RuleView {
	v := RuleView{Name: r.name, Query: r.expr, Alerting: r.alerting, Labels: r.labels.Map(), Annotations: r.annotations.Map(), For: r.hold,
		KeepFiringFor: r.keepFiringFor, Health: r.health, Took: r.took, At: r.at}
	if r.err != nil {
		v.Err = r.err.Error()
	}
	if !r.alerting {
		return v
	}
	v.State = r.worst()
	if withAlerts {
		for _, a := range r.sorted() {
			if a.state != Inactive {
				v.Alerts = append(v.Alerts, AlertView{Labels: a.labels.Map(), State: a.state, Value: a.value, ActiveAt: a.activeAt, FiredAt: a.firedAt,
					KeepFiringSince: a.keepFiringSince, Rule: r.name, Group: g.name, File: g.file, told: a.told})
			}
		}
	}
	return v
}

// Resolved returns the alerts that are over, the latest first.
func (m *Manager) Resolved() (views []AlertView) {
	unlock := m.lock()
	all, now := slices.Clone(m.resolved), m.now()
	unlock()
	tellAll(all)
	for _, r := range slices.Backward(all) {
		if now.Sub(r.ResolvedAt) <= resolvedAge {
			views = append(views, AlertView{Labels: r.Labels, Annotations: r.Annotations, State: Inactive, Value: r.Value, ActiveAt: r.ActiveAt,
				FiredAt: r.FiredAt, ResolvedAt: r.ResolvedAt})
		}
	}
	return views
}

// Series calls yield with the labels and values of ALERTS and of nothing else, for /metrics.
func (m *Manager) Series(yield func(all map[string]string)) {
	defer m.lock()()
	for _, g := range m.groups {
		for _, r := range g.rules {
			for _, a := range r.active {
				if a.state != Inactive {
					all := r.sample(a, g.last).Metric.Map()
					delete(all, labels.MetricName)
					yield(all)
				}
			}
		}
	}
}

// Objectives returns each part of the objectives.
func (m *Manager) Objectives() (views []ObjectiveView) {
	defer m.lock()()
	for i := range m.objectives {
		o := &m.objectives[i]
		for _, g := range o.goals() {
			v := ObjectiveView{Objective: *o, Kind: g.kind, Labels: o.labelSet(), BurnRates: map[string]float64{},
				Exact: g.kind != "latency" || slices.Contains(classicBounds, o.LatencyMS/1000)}
			v.Window = o.window()
			v.Labels["objective"] = g.kind
			m.measure(&v, g.allowed)
			views = append(views, v)
		}
	}
	return views
}

// measure takes what the rules of an objective yielded last.
func (m *Manager) measure(v *ObjectiveView, allowed float64) {
	counts := map[string]float64{}
	for _, g := range m.groups {
		if g.origin != OriginObjective {
			continue
		}
		for _, r := range g.rules {
			if r.alerting || !maps.Equal(r.labels.Map(), v.Labels) {
				continue
			}
			if len(r.latest) == 1 {
				counts[r.name] = r.latest[0].F
			}
			v.Unmatched = v.Unmatched || r.name == longestRequests && r.health == HealthGood && len(r.latest) == 0
		}
	}
	if left, ok := counts[budgetMetric]; ok {
		v.BudgetLeft = &left
	}
	for name, failures := range counts {
		if window, found := strings.CutPrefix(name, "objective:failures:increase"); found {
			if all := counts["objective:requests:increase"+window]; all > 0 && allowed > 0 {
				v.BurnRates[window] = failures / all / allowed
			}
		}
	}
}

// Trouble is what is wrong with the rules and what is remembered of alerts, for the agent's health.
func (m *Manager) Trouble() (all []string) {
	failing := 0
	for _, g := range m.Groups(false) {
		for _, r := range g.Rules {
			if r.Health == HealthBad {
				failing++
			}
		}
	}
	if failing > 0 {
		all = append(all, fmt.Sprintf("%d alert rules could not be evaluated: /api/v1/rules says why", failing))
	}
	if m.state != nil && m.state.failing.Load() {
		all = append(all, "the state of alerts cannot be written: after a restart they begin anew")
	}
	return all
}

// Counts are the Manager's own figures beside those of groups.
type Counts struct {
	Pending, Firing  int
	ResolvedLost     uint64 // alerts that are over and were forgotten early
	TemplateFailures uint64
	StateFailures    uint64 // attempts to write the state that failed
	StateDamaged     uint64 // states that could not be read
}

// Counts returns the figures as of now.
func (m *Manager) Counts() Counts {
	defer m.lock()()
	c := Counts{ResolvedLost: m.lost, TemplateFailures: m.templates.Load()}
	if m.state != nil {
		c.StateFailures, c.StateDamaged = m.state.failures.Load(), m.state.damaged
	}
	for _, g := range m.groups {
		for _, r := range g.rules {
			for _, a := range r.active {
				switch a.state {
				case Pending:
					c.Pending++
				case Firing:
					c.Firing++
				}
			}
		}
	}
	return c
}

// keep remembers what a rule of an objective yielded.
func (r *rule) keep(g *group, samples promql.Vector) {
	if g.origin == OriginObjective && !r.alerting {
		r.latest = samples
	}
}
