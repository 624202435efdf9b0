package export

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

// What rules say of themselves is in /metrics, each series once, and nothing of it where no rules are evaluated.
func TestRulesMetrics(t *testing.T) {
	left := .25
	state := &RulesState{
		Groups: []RuleGroupState{{Key: "f.yml;g", Interval: 15 * time.Second, Took: 2 * time.Millisecond, Last: time.UnixMilli(1500), Rules: 3, Samples: 4,
			Evaluations: 9, Failures: 1, Iterations: 3, Missed: 2, Overruns: 1}, {Key: "f.yml;new"}},
		Alerts:     []map[string]string{{"alertname": "A", "alertstate": "firing", "bad": "\xff"}, {"alertname": "A", "alertstate": "firing", "bad": "\xff"}},
		Objectives: []ObjectiveState{{Labels: map[string]string{"service_name": "shop", "objective": "latency"}, BudgetLeft: &left, BurnRates: map[string]float64{"1h": 2}}, {}},
	}
	current := state
	m, err := NewMetrics(MetricsOptions{CollectorOptions: CollectorOptions{Source: analytics.NewEngine(analytics.Options{}), Rules: func() *RulesState { return current }}, WithoutRuntime: true})
	if err != nil {
		t.Fatal(err)
	}
	scrape := func() string {
		w := httptest.NewRecorder()
		if err := m.Scrape(w, httptest.NewRequest("GET", "/metrics", nil)); err != nil {
			t.Fatal(err)
		}
		return w.Body.String()
	}
	text := scrape()
	for _, want := range []string{
		"\nALERTS{alertname=\"A\",alertstate=\"firing\",bad=\"\uFFFD\"} 1\n",
		"\nperfagent_objective_error_budget_left_ratio{objective=\"latency\",service_name=\"shop\"} 0.25\n",
		"\nperfagent_objective_burn_rate{objective=\"latency\",service_name=\"shop\",window=\"1h\"} 2\n",
		"\nperfagent_rule_evaluations_total{rule_group=\"f.yml;g\"} 9\n",
		"\nperfagent_rule_evaluation_failures_total{rule_group=\"f.yml;g\"} 1\n",
		"\nperfagent_rule_group_iterations_total{rule_group=\"f.yml;g\"} 5\n",
		"\nperfagent_rule_group_iterations_missed_total{rule_group=\"f.yml;g\"} 2\n",
		"\nperfagent_rule_group_overruns_total{rule_group=\"f.yml;g\"} 1\n",
		"\nperfagent_rule_group_last_evaluation_timestamp_seconds{rule_group=\"f.yml;g\"} 1.5\n",
		"\nperfagent_rule_group_last_duration_seconds{rule_group=\"f.yml;g\"} 0.002\n",
	} {
		if strings.Count(text, want) != 1 {
			t.Errorf("not once: %s", want)
		}
	}
	if strings.Contains(text, `timestamp_seconds{rule_group="f.yml;new"}`) {
		t.Error("a group that was not evaluated has a time")
	}
	if current = nil; strings.Contains(scrape(), "rule") {
		t.Error("rules without rules")
	}
}
