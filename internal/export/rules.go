package export

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// RulesState is what the evaluation of rules says of itself.
type RulesState struct {
	Groups          []RuleGroupState
	Alerts          []map[string]string // labels of the series ALERTS
	Objectives      []ObjectiveState
	TemplateErrors  uint64
	StateErrors     uint64 // attempts to keep the alerts over a restart that failed
	ForgottenAlerts uint64
}

// RuleGroupState is one group of rules.
type RuleGroupState struct {
	Key                                       string // FILE;GROUP, as in Prometheus
	Interval, Took                            time.Duration
	Last                                      time.Time // zero: it was not evaluated yet
	Rules, Samples                            int
	Evaluations, Failures, Iterations, Missed uint64
}

// ObjectiveState is one part of an objective. Figures that are nil are not known.
type ObjectiveState struct {
	Labels     map[string]string
	BudgetLeft *float64
	BurnRates  map[string]float64 // by window
}

var (
	descRuleEvaluations = describe("perfagent_rule_evaluations_total", "Evaluations of rules.", "rule_group")
	descRuleFailures    = describe("perfagent_rule_evaluation_failures_total", "Evaluations of rules that failed.", "rule_group")
	descGroupIterations = describe("perfagent_rule_group_iterations_total", "Evaluations of the group, missed ones included.", "rule_group")
	descGroupMissed     = describe("perfagent_rule_group_iterations_missed_total", "Evaluations of the group that were left out, as the one before took too long or the host slept.", "rule_group")
	descGroupInterval   = describe("perfagent_rule_group_interval_seconds", "How often the group is evaluated.", "rule_group")
	descGroupTook       = describe("perfagent_rule_group_last_duration_seconds", "How long the latest evaluation of the group took.", "rule_group")
	descGroupLast       = describe("perfagent_rule_group_last_evaluation_timestamp_seconds", "When the group was evaluated last.", "rule_group")
	descGroupRules      = describe("perfagent_rule_group_rules", "Rules of the group.", "rule_group")
	descGroupSamples    = describe("perfagent_rule_group_last_evaluation_samples", "Series that the latest evaluation of the group left.", "rule_group")
	descTemplateErrors  = describe("perfagent_rule_template_failures_total", "Templates of labels and annotations that failed.")
	descStateErrors     = describe("perfagent_alert_state_write_errors_total", "Attempts to keep the alerts over a restart that failed.")
	descForgotten       = describe("perfagent_alerts_forgotten_total", "Alerts that are over and were dropped from /alerts early, for want of room.")
	descAlerts          = describe("ALERTS", "Alerts that are pending or firing.")
	descBudget          = describe("perfagent_objective_error_budget_left_ratio", "Share of an objective's error budget that is left; below 0 it is overdrawn.")
	descBurnRate        = describe("perfagent_objective_burn_rate", "How many times as fast as it may an objective's error budget is used up, over a window.")
)

// rulesCollector exports the state of rules, where they are evaluated.
type rulesCollector struct{ state func() *RulesState }

// Describe implements prometheus.Collector; see Collector.Describe.
func (c rulesCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c rulesCollector) Collect(ch chan<- prometheus.Metric) {
	if c.state == nil {
		return
	}
	s := c.state()
	if s == nil {
		return
	}
	for i := range s.Groups {
		s.Groups[i].collect(ch)
	}
	_, counter := figures(ch)
	counter(descTemplateErrors, s.TemplateErrors)
	counter(descStateErrors, s.StateErrors)
	counter(descForgotten, s.ForgottenAlerts)
	seen := map[string]bool{}
	for _, labels := range s.Alerts {
		m := newFreeMetric(descAlerts, labels, 1)
		if key := fmt.Sprint(m.labels); !seen[key] { // two rules may have made the same alert, and a series is there once
			seen[key] = true
			ch <- m
		}
	}
	for _, o := range s.Objectives {
		if o.BudgetLeft != nil {
			ch <- newFreeMetric(descBudget, o.Labels, *o.BudgetLeft)
		}
		for window, rate := range o.BurnRates {
			m := newFreeMetric(descBurnRate, o.Labels, rate)
			name := "window"
			m.labels = append(m.labels, &dto.LabelPair{Name: &name, Value: &window})
			m.sort()
			ch <- m
		}
	}
}

func (g *RuleGroupState) collect(ch chan<- prometheus.Metric) {
	key := validLabels([]string{g.Key})[0]
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, key)
	}
	counter := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), key)
	}
	counter(descRuleEvaluations, g.Evaluations)
	counter(descRuleFailures, g.Failures)
	counter(descGroupIterations, g.Iterations+g.Missed)
	counter(descGroupMissed, g.Missed)
	gauge(descGroupInterval, g.Interval.Seconds())
	gauge(descGroupTook, g.Took.Seconds())
	gauge(descGroupRules, float64(g.Rules))
	gauge(descGroupSamples, float64(g.Samples))
	if !g.Last.IsZero() {
		gauge(descGroupLast, float64(g.Last.UnixMilli())/1000)
	}
}

// freeMetric is a gauge with whatever labels it has.
type freeMetric struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	value  float64
}

func newFreeMetric(d *prometheus.Desc, labels map[string]string, value float64) *freeMetric {
	m := &freeMetric{desc: d, value: value}
	for name, text := range labels {
		text = validLabels([]string{text})[0]
		m.labels = append(m.labels, &dto.LabelPair{Name: &name, Value: &text})
	}
	m.sort()
	return m
}

func (m *freeMetric) sort() {
	slices.SortFunc(m.labels, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
}

// Desc implements prometheus.Metric.
func (m *freeMetric) Desc() *prometheus.Desc { return m.desc }

// Write implements prometheus.Metric.
func (m *freeMetric) Write(out *dto.Metric) error {
	out.Label, out.Gauge = m.labels, &dto.Gauge{Value: &m.value}
	return nil
}

// Own are the agent's own metrics, without those of histograms, of the host and of rules.
type Own struct{ registry *prometheus.Registry }

// NewOwn returns what yields the agent's own metrics.
func NewOwn(o CollectorOptions) *Own {
	registry := prometheus.NewRegistry()
	registry.MustRegister(agentCollector{o}, historyCollector{o.History}, partsCollector{o.Parts}, findingsCollector{o.Findings}) // they describe nothing, so none is refused
	return &Own{registry}
}

// Each calls yield for every gauge and counter of the agent as of now. What cannot be gathered is left out.
func (o *Own) Each(yield func(name string, labels map[string]string, value float64)) {
	families, _ := o.registry.Gather()
	for _, f := range families {
		for _, m := range f.Metric {
			labels := make(map[string]string, len(m.Label))
			for _, pair := range m.Label {
				labels[pair.GetName()] = pair.GetValue()
			}
			switch {
			case m.Gauge != nil:
				yield(f.GetName(), labels, m.Gauge.GetValue())
			case m.Counter != nil:
				yield(f.GetName(), labels, m.Counter.GetValue())
			}
		}
	}
}
