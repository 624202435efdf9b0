package alert

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// The built-in rules are written for one host whose history has every distribution in both forms. A Prometheus server that scrapes
// many agents raises the same alerts with the same rules where two things are added: each host is judged for itself, by the label
// instance, and what reads one form of a histogram reads the other one where that is not there, as the server may scrape either.

// instanceLabel is what a server adds to the series of each agent that it scrapes.
const instanceLabel = "instance"

// serverHeader stands above the rules.
const serverHeader = `# The agent's built-in rules, for a Prometheus server that scrapes agents: "make generate-rules" writes this file, and a test compares.
# Each host is judged for itself. Thresholds are the defaults of alerts.thresholds; each ratio stands beside an absolute size and a
# number of requests, so that nothing fires on chance.
`

// WriteServerRules writes the built-in rules as a rule file for Prometheus servers.
func (b *Builtin) WriteServerRules(w io.Writer) error {
	var out strings.Builder
	out.WriteString(serverHeader + "groups:\n")
	for _, g := range b.groups() {
		fmt.Fprintf(&out, "- name: perfagent-%s\n  interval: %s\n  rules:\n", g.Name, g.Interval)
		for i := range g.Rules {
			if err := writeServerRule(&out, &g.Rules[i]); err != nil {
				return fmt.Errorf("rule %q: %w", g.Rules[i].Alert, err)
			}
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func writeServerRule(out *strings.Builder, r *rulefmt.Rule) error {
	expr, err := serverExpr(r.Expr)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  - alert: %s\n    expr: |2-\n", r.Alert)
	for line := range strings.Lines(expr) {
		fmt.Fprintf(out, "      %s\n", strings.TrimRight(line, "\n"))
	}
	if r.For > 0 {
		fmt.Fprintf(out, "    for: %s\n", r.For)
	}
	annotations := maps.Clone(r.Annotations)
	annotations["summary"] = "{{ $labels.instance }}: " + annotations["summary"]
	for _, part := range []struct {
		name  string
		texts map[string]string
	}{{"labels", r.Labels}, {"annotations", annotations}} {
		fmt.Fprintf(out, "    %s:\n", part.name)
		for _, key := range slices.Sorted(maps.Keys(part.texts)) {
			fmt.Fprintf(out, "      %s: '%s'\n", key, strings.ReplaceAll(part.texts[key], "'", "''"))
		}
	}
	return nil
}

// serverExpr makes of a built-in rule's expression the one for a server.
func serverExpr(text string) (string, error) {
	expr, err := promQL().ParseExpr(text)
	if err != nil {
		return "", err
	}
	return forServer(expr).Pretty(0), nil
}

// forServer changes an expression from its leaves up, and returns what stands in its place.
func forServer(expr parser.Expr) parser.Expr {
	switch e := expr.(type) {
	case *parser.AggregateExpr:
		e.Expr = forServer(e.Expr)
		if !e.Without {
			e.Grouping = withInstance(e.Grouping)
		}
	case *parser.BinaryExpr:
		e.LHS, e.RHS = forServer(e.LHS), forServer(e.RHS)
		if e.VectorMatching != nil && e.VectorMatching.On {
			e.VectorMatching.MatchingLabels = withInstance(e.VectorMatching.MatchingLabels)
		}
	case *parser.ParenExpr:
		e.Expr = forServer(e.Expr)
	case *parser.UnaryExpr:
		e.Expr = forServer(e.Expr)
	case *parser.Call:
		for i := range e.Args {
			e.Args[i] = forServer(e.Args[i])
		}
		return inBothForms(e)
	}
	return expr
}

func withInstance(names []string) []string {
	if slices.Contains(names, instanceLabel) {
		return names
	}
	return append([]string{instanceLabel}, names...)
}

// inBothForms adds to what reads one form of a histogram the same of the other one.
func inBothForms(call *parser.Call) parser.Expr {
	switch {
	case call.Func.Name == "rate" || call.Func.Name == "increase":
		for suffix, function := range map[string]string{"_count": "histogram_count", "_sum": "histogram_sum"} {
			if family, is := histogramOf(call, suffix); is {
				native := &parser.Call{Func: parser.Functions[function], Args: parser.Expressions{renamed(call, family)}}
				return either(call, native)
			}
		}
	case call.Func.Name == "histogram_quantile":
		sum, is := call.Args[1].(*parser.AggregateExpr)
		if !is {
			break
		}
		rate, is := sum.Expr.(*parser.Call)
		if !is {
			break
		}
		if family, is := histogramOf(rate, ""); is {
			buckets := *sum
			buckets.Grouping = append(slices.Clone(sum.Grouping), labels.BucketLabel)
			buckets.Expr = renamed(rate, family+"_bucket")
			classic := *call
			classic.Args = parser.Expressions{call.Args[0], &buckets}
			return either(call, &classic)
		}
	}
	return call
}

// either has the second where the first has nothing.
func either(first, second parser.Expr) parser.Expr {
	matching := &parser.VectorMatching{Card: parser.CardManyToMany}
	return &parser.ParenExpr{Expr: &parser.BinaryExpr{Op: parser.LOR, LHS: first, RHS: second, VectorMatching: matching}}
}

// histogramOf returns the name of the histogram that a rate reads by a suffix.
func histogramOf(rate *parser.Call, suffix string) (family string, is bool) {
	selector := selectorOf(rate)
	if selector == nil {
		return "", false
	}
	family, is = strings.CutSuffix(selector.Name, suffix)
	return family, is && (family == durations || family == phases)
}

// selectorOf is what a function of a range reads; nil where it reads something else.
func selectorOf(call *parser.Call) *parser.VectorSelector {
	matrix, is := call.Args[0].(*parser.MatrixSelector)
	if !is {
		return nil
	}
	return matrix.VectorSelector.(*parser.VectorSelector)
}

// renamed is the same function of the same range of another metric.
func renamed(call *parser.Call, name string) *parser.Call {
	selector := *selectorOf(call)
	selector.Name = name
	selector.LabelMatchers = slices.Clone(selector.LabelMatchers)
	for i, m := range selector.LabelMatchers {
		if m.Name == model.MetricNameLabel {
			selector.LabelMatchers[i] = labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, name)
		}
	}
	matrix := *call.Args[0].(*parser.MatrixSelector)
	matrix.VectorSelector = &selector
	other := *call
	other.Args = parser.Expressions{&matrix}
	return &other
}
