package alert

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
)

// WindowDefault is the time that an objective's error budget is for.
const WindowDefault = 30 * 24 * time.Hour

// Objective is what a service, or one of its routes, shall reach. Either part may be missing, not both.
type Objective struct {
	Service string
	Route   string // "METHOD /path/{param}" or "/path/{param}"; "": all of the service
	// AvailabilityPercent of the requests shall not fail; 0: no such objective.
	AvailabilityPercent float64
	// LatencyPercent of the requests that do not fail shall take at most LatencyMS; 0: no such objective.
	LatencyMS, LatencyPercent float64
	Window                    time.Duration // of the error budget; 0 means WindowDefault
}

// goal is one part of an objective.
type goal struct {
	kind    string  // the label objective
	allowed float64 // share of the requests that may miss it
	what    string  // what they do then
	// total and bad count requests over a window, and those of them that miss the goal.
	total, bad func(window string) string
}

// burn is a pair of windows over which errors must come at a rate times the allowed one: the long one says that it matters, the
// short one that it goes on. At 14.4 times the rate a budget of 30 days is gone in two days, at the rate itself in time.
type burn struct {
	rate        float64
	long, short string
	severity    string
}

var burns = []burn{
	{14.4, "1h", "5m", "critical"},
	{6, "6h", "30m", "error"},
	{3, "1d", "2h", "warning"},
	{1, "3d", "6h", "info"},
}

const (
	// burnFailuresMin requests must have missed the goal in the long window, and burnFailuresShortMin in the short one: with
	// less traffic, a share is chance.
	burnFailuresMin      = 10
	burnFailuresShortMin = 2
)

// Windows are computed as often as they can matter: the shortest at each evaluation, the budget every five minutes.
var objectiveSteps = []struct {
	name     string
	interval time.Duration
	windows  []string
	burns    []burn
}{
	{"fast", IntervalDefault, []string{"5m", "1h"}, burns[:1]},
	{"middle", time.Minute, []string{"30m", "6h"}, burns[1:2]},
	{"slow", 2 * time.Minute, []string{"2h", "1d", "3d"}, burns[2:]},
}

// longestRequests is the series of requests in the longest window.
const longestRequests = "objective:requests:increase3d"

const (
	// budgetInterval is how often the budget that is left is computed.
	budgetInterval = 5 * time.Minute
	// emptyInterval is how often an objective's rules look that found nothing: a service's first request may come just after the start.
	emptyInterval = time.Minute
)

// first is when a new group is evaluated for the first time: at the next multiple of its interval, and one of an objective at the last
// one, which is at once, as the history may know what it is about.
func (g *group) first(now time.Time) time.Time {
	at := now.Truncate(g.interval)
	if g.origin != OriginObjective && at.Before(now) {
		at = at.Add(g.interval)
	}
	return at
}

// step is the time between two evaluations of the group as things are.
func (g *group) step() time.Duration {
	if found := g.samples > 0 || g.last.IsZero() || g.overran; g.origin == OriginObjective && !found {
		return min(g.interval, emptyInterval)
	}
	return g.interval
}

// budgetMetric is the series of the budget that is left: 1 is all of it, below 0 it is overdrawn.
const budgetMetric = "objective:error_budget_left:ratio"

// objectiveGroups makes the rules of objectives.
func objectiveGroups(all []Objective) (groups []rulefmt.RuleGroup) {
	for i := range all {
		for _, g := range all[i].goals() {
			groups = append(groups, all[i].groups(&g)...)
		}
	}
	return groups
}

// goals are the parts of an objective.
func (o *Objective) goals() (goals []goal) {
	selector := o.selector()
	if o.AvailabilityPercent > 0 {
		total := func(w string) string { return requests("", selector, w) }
		goals = append(goals, goal{"availability", 1 - o.AvailabilityPercent/100, "fail", total, func(w string) string {
			return fmt.Sprintf("%s or 0 * %s", requests("", selector+`,error_type!=""`, w), total(w))
		}})
	}
	if o.LatencyPercent > 0 {
		answered := selector + `,error_type=""`
		goals = append(goals, goal{"latency", 1 - o.LatencyPercent/100, "take more than " + number(o.LatencyMS) + " ms",
			func(w string) string { return requests("", answered, w) },
			func(w string) string { return slower(answered, o.LatencyMS/1000, w) }})
	}
	return goals
}

// requests counts requests over a window.
func requests(by, selector, window string) string {
	if by != "" {
		by = "by (" + by + ") "
	}
	return fmt.Sprintf("sum %s(increase(http_server_request_duration_seconds_count{%s}[%s]))", by, selector, window)
}

// slower counts the requests that took longer than a bound: exactly where the histogram has a classic bucket that ends there, else
// interpolated within a bucket of the native one, which is 2 % wide.
func slower(selector string, seconds float64, window string) string {
	if slices.Contains(classicBounds, seconds) {
		le := number(seconds)
		if !strings.Contains(le, ".") {
			le = le + "|" + le + ".0" // as text formats differ
		}
		return fmt.Sprintf(`%s - sum (increase(http_server_request_duration_seconds_bucket{%s,le=~"%s"}[%s]))`, requests("", selector, window), selector,
			strings.ReplaceAll(le, ".", `\\.`), window)
	}
	h := fmt.Sprintf("sum (increase(http_server_request_duration_seconds{%s}[%s]))", selector, window)
	return fmt.Sprintf("histogram_count(%s) * (1 - histogram_fraction(0, %s, %s))", h, number(seconds), h)
}

// classicBounds are the bounds of the classic buckets of durations, in seconds.
var classicBounds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// splitRoute separates a route's method, "" for any.
func splitRoute(route string) (method, path string) {
	if before, after, found := strings.Cut(route, " "); found {
		return before, after
	}
	return "", route
}

// selector chooses the objective's requests.
func (o *Objective) selector() string {
	var parts []string
	for name, value := range o.labelSet() {
		parts = append(parts, name+"="+strconv.Quote(value))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func (o *Objective) labelSet() map[string]string {
	set := map[string]string{"service_name": o.Service}
	if method, path := splitRoute(o.Route); path != "" {
		set["http_route"] = path
		if method != "" {
			set["http_request_method"] = method
		}
	}
	return set
}

// window is the time that the error budget is for.
func (o *Objective) window() time.Duration {
	if o.Window == 0 {
		return WindowDefault
	}
	return o.Window
}

// groups makes the rules of one goal.
func (o *Objective) groups(g *goal) (groups []rulefmt.RuleGroup) {
	set := o.labelSet()
	set["objective"] = g.kind
	name := strings.Join(strings.Fields(o.Service+" "+o.Route+" "+g.kind), " ")
	for _, step := range objectiveSteps {
		made := rulefmt.RuleGroup{Name: name + " " + step.name, Interval: model.Duration(step.interval)}
		for _, w := range step.windows {
			made.Rules = append(made.Rules, rulefmt.Rule{Record: "objective:requests:increase" + w, Expr: g.total(w), Labels: set},
				rulefmt.Rule{Record: "objective:failures:increase" + w, Expr: g.bad(w), Labels: set})
		}
		for _, b := range step.burns {
			made.Rules = append(made.Rules, o.burnRule(g, &b, set))
		}
		groups = append(groups, made)
	}
	window := model.Duration(o.window()).String()
	return append(groups, rulefmt.RuleGroup{Name: name + " budget", Interval: model.Duration(budgetInterval), Rules: []rulefmt.Rule{
		{Record: budgetMetric, Labels: set, Expr: fmt.Sprintf("1 - (%s) / ((%s) > 0) / %s", g.bad(window), g.total(window), number(rounded(g.allowed)))}}})
}

// rounded takes away what a subtraction of decimal fractions adds: 1 - .999 is .001.
func rounded(v float64) float64 {
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 12, 64), 64)
	return v
}

// burnRule is the alert of one pair of windows.
func (o *Objective) burnRule(g *goal, b *burn, set map[string]string) rulefmt.Rule {
	selector := o.selector() + `,objective="` + g.kind + `"`
	count := func(what, window string) string {
		return fmt.Sprintf("objective:%s:increase%s{%s}", what, window, selector)
	}
	limit := number(rounded(b.rate * g.allowed))
	var terms []string
	for _, w := range []struct {
		window string
		least  int
	}{{b.long, burnFailuresMin}, {b.short, burnFailuresShortMin}} {
		terms = append(terms, fmt.Sprintf("%s / (%s > 0) > %s", count("failures", w.window), count("requests", w.window), limit),
			fmt.Sprintf("%s >= %d", count("failures", w.window), w.least))
	}
	all := map[string]string{"severity": b.severity, "burn_rate": number(b.rate)}
	for name, value := range set {
		all[name] = value
	}
	subject := "{{ $labels.service_name }}"
	if method, path := splitRoute(o.Route); method != "" {
		subject = "{{ $labels.http_request_method }} {{ $labels.http_route }} of " + subject
	} else if path != "" {
		subject = "{{ $labels.http_route }} of " + subject
	}
	pace := "more than " + number(b.rate) + " times as fast as it may"
	if b.rate == 1 {
		pace = "faster than it may"
	}
	return rulefmt.Rule{Alert: "ErrorBudgetBurn", Expr: strings.Join(terms, "\nand "), Labels: all, Annotations: map[string]string{
		"summary": fmt.Sprintf("{{ $value | humanizePercentage }} of the requests to %s %s, which uses its error budget up %s", subject, g.what, pace),
		"description": fmt.Sprintf("Over the last %s and the last %s more than %s %% of the requests %s; the objective allows %s %% over %s.", b.long, b.short,
			number(rounded(b.rate*g.allowed*100)), g.what, number(rounded(g.allowed*100)), model.Duration(o.window())),
		"next_step": "/requests shows the slowest and the failed requests, /performance/summary which route, phase or resource they share. Undo what changed last.",
	}}
}
