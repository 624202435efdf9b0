package alert

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// An objective's rules are valid whatever its service and route are called, count requests by the labels that a route has, and use a
// classic bucket where one ends at the bound.
func TestObjectiveRules(t *testing.T) {
	for _, c := range []struct {
		o    Objective
		want []string
	}{
		{Objective{Service: "shop", AvailabilityPercent: 99.9}, []string{
			`sum(increase(http_server_request_duration_seconds_count{error_type!="",service_name="shop"}[5m])) or 0 * `,
			`> 0.0144 and objective:failures:increase1h{objective="availability",service_name="shop"} >= 10`, "/ 0.001"}},
		{Objective{Service: `a"b\`, Route: "GET /x/{id}", LatencyMS: 250, LatencyPercent: 99}, []string{
			`http_request_method="GET",http_route="/x/{id}"`, `service_name="a\"b\\"`, `le=~"0\\.25"`}},
		{Objective{Service: "a", Route: "/x", LatencyMS: 1000, LatencyPercent: 90}, []string{`le=~"1|1\\.0"`}},
		{Objective{Service: "a", LatencyMS: 120, LatencyPercent: 90}, []string{"histogram_fraction(0, 0.12, sum(increase(http_server_request_duration_seconds{"}},
	} {
		rules, err := Parse(nil, nil, []Objective{c.o})
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, g := range rules.groups {
			for _, r := range g.rules {
				all.WriteString(r.expr + "\n")
			}
		}
		for _, want := range c.want {
			if !strings.Contains(all.String(), want) {
				t.Errorf("%+v: not there: %s\n%s", c.o, want, all.String())
			}
		}
	}
}

// The budget that is left and the burn rates are what the rules recorded last; without a request nothing is known.
func TestObjectiveView(t *testing.T) {
	r := newRig(t, oneRule)
	rules, err := Parse(nil, nil, []Objective{{Service: "shop", AvailabilityPercent: 99}})
	if err != nil {
		t.Fatal(err)
	}
	one := func(v float64) promql.Vector { return promql.Vector{{Metric: labels.EmptyLabels(), F: v}} }
	for _, g := range rules.groups {
		for _, rule := range g.rules {
			switch rule.name {
			case "objective:requests:increase1h":
				r.source.answers[rule.expr] = one(1000)
			case "objective:failures:increase1h":
				r.source.answers[rule.expr] = one(30)
			case budgetMetric:
				r.source.answers[rule.expr] = one(.4)
			}
		}
	}
	r.Apply(rules)
	if v := r.Objectives(); len(v) != 1 || v[0].BudgetLeft != nil || len(v[0].BurnRates) != 0 {
		t.Errorf("%+v", v)
	}
	r.to("00:00:00")
	v := r.Objectives()
	if len(v) != 1 || *v[0].BudgetLeft != .4 || v[0].BurnRates["1h"] < 2.999 || v[0].BurnRates["1h"] > 3.001 || v[0].Window != WindowDefault || !v[0].Exact {
		t.Errorf("%+v", v)
	}
}

// Shows that what is left of a budget is known with the first evaluation after a start, whose instant is the last multiple of the
// budget's interval, and not up to five minutes later; a group of a file waits for the next multiple of its own.
func TestObjectiveAtOnce(t *testing.T) {
	r := newRig(t, oneRule)
	r.clock = midnight.Add(3*time.Minute + 17*time.Second)
	rules, err := Parse([]File{{"late.yml", []byte(oneRule)}}, nil, []Objective{{Service: "shop", AvailabilityPercent: 99}})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.groups {
		for _, rule := range g.rules {
			if rule.name == budgetMetric {
				r.source.answers[rule.expr] = promql.Vector{{Metric: labels.EmptyLabels(), F: .4}}
			}
		}
	}
	r.Apply(rules)
	r.Evaluate(t.Context(), r.clock)
	if v := r.Objectives(); len(v) != 1 || v[0].BudgetLeft == nil || *v[0].BudgetLeft != .4 {
		t.Errorf("%+v", v)
	}
	for _, g := range r.Manager.Groups(false) {
		switch {
		case strings.HasSuffix(g.Name, "budget") && !g.Last.Equal(midnight):
			t.Errorf("the budget is of %s", g.Last)
		case g.Origin == OriginFile && !g.Last.IsZero():
			t.Errorf("a file's group was evaluated for %s", g.Last)
		}
	}
}

// Shows that the budget of a service whose first request comes after the first evaluation is known within a minute, not five, and is
// then computed every five minutes, and that no evaluation counts as missed.
func TestObjectiveSoon(t *testing.T) {
	r := newRig(t, oneRule)
	rules, err := Parse(nil, nil, []Objective{{Service: "shop", AvailabilityPercent: 99}})
	if err != nil {
		t.Fatal(err)
	}
	var expr string
	for _, g := range rules.groups {
		for _, rule := range g.rules {
			if rule.name == budgetMetric {
				expr = rule.expr
			}
		}
	}
	budget := func() GroupView {
		groups := r.Manager.Groups(false)
		return groups[slices.IndexFunc(groups, func(g GroupView) bool { return strings.HasSuffix(g.Name, "budget") })]
	}
	r.clock = midnight.Add(2*time.Minute + 15*time.Second)
	r.Apply(rules)
	r.to("00:03:15")
	if v := r.Objectives(); v[0].BudgetLeft != nil || !budget().Last.Equal(midnight.Add(3*time.Minute)) {
		t.Errorf("%+v, looked at %s", v, budget().Last)
	}
	r.source.answers[expr] = promql.Vector{{Metric: labels.EmptyLabels(), F: .4}}
	r.to("00:04:00")
	if v := r.Objectives(); v[0].BudgetLeft == nil || *v[0].BudgetLeft != .4 {
		t.Errorf("%+v", v)
	}
	before := budget().Iterations
	r.to("00:15:00")
	if g := budget(); g.Iterations != before+3 || g.Missed != 0 || !g.Last.Equal(midnight.Add(15*time.Minute)) {
		t.Errorf("%d evaluations after %d, %d missed, the last at %s", g.Iterations, before, g.Missed, g.Last)
	}
}

// Shows that an objective is said to match nothing once its rules have looked and found no series at all, and not before, nor where a
// service is merely silent.
func TestObjectiveUnmatched(t *testing.T) {
	for _, found := range []promql.Vector{nil, {{Metric: labels.EmptyLabels(), F: 0}}} {
		r := newRig(t, oneRule)
		rules, err := Parse(nil, nil, []Objective{{Service: "shop", AvailabilityPercent: 99}})
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range rules.groups {
			for _, rule := range g.rules {
				if rule.name == longestRequests {
					r.source.answers[rule.expr] = found
				}
			}
		}
		r.Apply(rules)
		if v := r.Objectives(); v[0].Unmatched {
			t.Error("it matches nothing before anybody has looked")
		}
		r.to("00:02:00")
		if v := r.Objectives(); v[0].Unmatched != (found == nil) {
			t.Errorf("with %v: %+v", found, v[0])
		}
	}
}

// Every built-in rule is valid with any thresholds, has a severity, and says what it means and what to do.
func TestBuiltinRules(t *testing.T) {
	for _, b := range []*Builtin{{}, {Persistent: true, Thresholds: Thresholds{ResponseTimeMS: 20, ErrorRatePercent: 99, CPUUsagePercent: 100, MemoryUsagePercent: 50, ThroughputRPS: 50}}} {
		rules, err := Parse(nil, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, g := range rules.groups {
			for _, r := range g.rules {
				if names[r.name] {
					t.Errorf("%s is there twice", r.name)
				}
				names[r.name] = true
				for _, key := range []string{"summary", "description", "next_step"} {
					if r.annotations.Get(key) == "" {
						t.Errorf("%s has no %s", r.name, key)
					}
				}
				switch r.labels.Get("severity") {
				case severityInfo, severityWarning, severityError, severityCritical:
				default:
					t.Errorf("%s has the severity %q", r.name, r.labels.Get("severity"))
				}
			}
		}
		if names["HTTPThroughputLow"] != (b.ThroughputRPS > 0) || names["PerfagentHistoryNotKept"] != b.Persistent {
			t.Errorf("%v", names)
		}
	}
}
