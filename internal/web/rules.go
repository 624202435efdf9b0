package web

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/query"
)

// apiSuccess is what answers of Prometheus' API are wrapped in.
type apiSuccess struct {
	Status string `json:"status" about:"success"`
	Data   any    `json:"data"`
}

type rulesJSON struct {
	Groups []ruleGroupJSON `json:"groups"`
	Next   string          `json:"groupNextToken,omitempty"`
}

type ruleGroupJSON struct {
	Name           string    `json:"name"`
	File           string    `json:"file"`
	Rules          []any     `json:"rules"`
	Interval       float64   `json:"interval"`
	Limit          int       `json:"limit"`
	EvaluationTime float64   `json:"evaluationTime"`
	LastEvaluation time.Time `json:"lastEvaluation"`
}

type alertingRuleJSON struct {
	State          string            `json:"state"`
	Name           string            `json:"name"`
	Query          string            `json:"query"`
	Duration       float64           `json:"duration"`
	KeepFiringFor  float64           `json:"keepFiringFor"`
	Labels         map[string]string `json:"labels"`
	Annotations    map[string]string `json:"annotations"`
	Alerts         []activeAlertJSON `json:"alerts"`
	Health         string            `json:"health"`
	LastError      string            `json:"lastError,omitempty"`
	EvaluationTime float64           `json:"evaluationTime"`
	LastEvaluation time.Time         `json:"lastEvaluation"`
	Type           string            `json:"type"`
}

type recordingRuleJSON struct {
	Name           string            `json:"name"`
	Query          string            `json:"query"`
	Labels         map[string]string `json:"labels"`
	Health         string            `json:"health"`
	LastError      string            `json:"lastError,omitempty"`
	EvaluationTime float64           `json:"evaluationTime"`
	LastEvaluation time.Time         `json:"lastEvaluation"`
	Type           string            `json:"type"`
}

type activeAlertJSON struct {
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
	State           string            `json:"state"`
	ActiveAt        *time.Time        `json:"activeAt,omitempty"`
	KeepFiringSince *time.Time        `json:"keepFiringSince,omitempty"`
	Value           string            `json:"value"`
}

type activeAlertsJSON struct {
	Alerts []activeAlertJSON `json:"alerts"`
}

// rulesRoutes are Prometheus' paths of rules and alerts, which Grafana and promtool read.
func rulesRoutes(o AlertsOptions) []Route {
	return []Route{
		Route{Path: "/api/v1/rules", Summary: "Rules with their state, as Prometheus has them.", Response: apiSuccess{},
			Parameters: []Parameter{
				{Name: "type", Description: "alert or record"},
				{Name: "rule_name[]", Description: "only rules of this name", Repeatable: true},
				{Name: "rule_group[]", Description: "only rules of this group", Repeatable: true},
				{Name: "file[]", Description: "only rules of this file; builtin and objective are none", Repeatable: true},
				{Name: "match[]", Description: "only rules whose labels a selector chooses", Repeatable: true},
				{Name: "exclude_alerts", Description: "true: without the alerts"},
				{Name: "group_limit", Description: "most groups of an answer"},
				{Name: "group_next_token", Description: "where the next answer begins"},
			}}.servePrometheus(func(q url.Values) (any, error) { return o.rules(q) }),
		Route{Path: "/api/v1/alerts", Summary: "Alerts that are pending or firing, as Prometheus has them.", Response: apiSuccess{}}.
			servePrometheus(func(url.Values) (any, error) { return o.active(), nil }),
	}
}

// servePrometheus makes a handler of what answers a query in the form of Prometheus' API. An error is the client's.
func (r Route) servePrometheus(answer func(url.Values) (any, error)) Route {
	answers := newAnswers()
	r.Errors, r.Question, r.Failure = append(r.Errors, http.StatusServiceUnavailable), true, apiFailure{}
	answers.refuse = func(w http.ResponseWriter) {
		fail(w, "unavailable", errors.New("too many questions are being answered"))
	}
	r.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		q, err := url.ParseQuery(req.URL.RawQuery)
		if err != nil {
			fail(w, "bad_data", err)
			return
		}
		answers.serve(w, req, q.Encode(), func(w http.ResponseWriter) {
			data, err := answer(q)
			if err != nil {
				fail(w, "bad_data", err)
				return
			}
			writeJSON(w, apiSuccess{"success", data})
		})
	})
	return r
}

// groups are all groups in Prometheus' order.
func (o *AlertsOptions) groups(withAlerts bool) []alert.GroupView {
	m := o.Manager()
	if m == nil {
		return nil
	}
	groups := m.Groups(withAlerts)
	slices.SortStableFunc(groups, func(a, b alert.GroupView) int {
		return cmp.Or(strings.Compare(a.File, b.File), strings.Compare(a.Name, b.Name))
	})
	return groups
}

// rulesQuery is what a question for rules chooses.
type rulesQuery struct {
	names, groups, files []string
	kind                 string
	passes               func(map[string]string) bool
	withoutAlerts        bool
	limit                int // of groups; 0: none
	from                 string
}

func invalidParameter(name string, err error) error {
	return fmt.Errorf("invalid parameter %q: %w", name, err)
}

func parseRulesQuery(q url.Values) (_ *rulesQuery, err error) {
	p := &rulesQuery{names: q["rule_name[]"], groups: q["rule_group[]"], files: q["file[]"], kind: strings.ToLower(q.Get("type")), from: q.Get("group_next_token")}
	if err := query.CheckSelectors(q["match[]"]); err != nil {
		return nil, err
	}
	if p.passes, err = alert.ParseMatchers(q["match[]"]); err != nil {
		return nil, err
	}
	if p.kind != "" && p.kind != "alert" && p.kind != "record" {
		return nil, invalidParameter("type", fmt.Errorf("not supported value %q", p.kind))
	}
	if text := q.Get("exclude_alerts"); text != "" {
		if p.withoutAlerts, err = strconv.ParseBool(strings.ToLower(text)); err != nil {
			return nil, invalidParameter("exclude_alerts", fmt.Errorf("error converting exclude_alerts: %w", err))
		}
	}
	if text := q.Get("group_limit"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, invalidParameter("group_limit", fmt.Errorf("group_limit needs to be a valid number: %w", err))
		}
		if p.limit = int(n); n <= 0 {
			return nil, invalidParameter("group_limit", errors.New("group_limit needs to be greater than 0"))
		}
	} else if p.from != "" {
		return nil, invalidParameter("group_next_token", errors.New("group_limit needs to be present in order to paginate over the groups"))
	}
	return p, nil
}

func groupToken(g *alert.GroupView) string {
	sum := sha256.Sum256([]byte(g.File + ";" + g.Name))
	return hex.EncodeToString(sum[:])
}

func (o *AlertsOptions) rules(q url.Values) (*rulesJSON, error) {
	p, err := parseRulesQuery(q)
	if err != nil {
		return nil, err
	}
	answer := &rulesJSON{Groups: []ruleGroupJSON{}}
	found := p.from == ""
	for _, g := range o.groups(!p.withoutAlerts) {
		found = found || groupToken(&g) == p.from
		if !found || !oneOf(p.groups, g.Name) || !oneOf(p.files, g.File) {
			continue
		}
		rules := p.rules(&g)
		if len(rules) == 0 {
			continue
		}
		if p.limit > 0 && len(answer.Groups) == p.limit {
			answer.Next = groupToken(&g)
			break
		}
		answer.Groups = append(answer.Groups, ruleGroupJSON{g.Name, g.File, rules, g.Interval.Seconds(), g.Limit, g.Took.Seconds(), shown(g.Last)})
	}
	if !found {
		return nil, invalidParameter("group_next_token", fmt.Errorf("invalid group_next_token '%s'. were rule groups changed?", p.from))
	}
	return answer, nil
}

// oneOf tells whether a value is chosen; an empty choice is of all.
func oneOf(chosen []string, value string) bool {
	return len(chosen) == 0 || slices.Contains(chosen, value)
}

// rules are those of a group that the question chooses.
func (p *rulesQuery) rules(g *alert.GroupView) (all []any) {
	for i := range g.Rules {
		r := &g.Rules[i]
		if !oneOf(p.names, r.Name) || !p.passes(r.Labels) {
			continue
		}
		switch {
		case r.Alerting && p.kind != "record":
			j := alertingRuleJSON{r.State.String(), r.Name, r.Query, r.For.Seconds(), r.KeepFiringFor.Seconds(), r.Labels, r.Annotations, nil, string(r.Health), r.Err,
				r.Took.Seconds(), shown(r.At), "alerting"}
			if !p.withoutAlerts {
				j.Alerts = activeAlerts(r)
			}
			all = append(all, j)
		case !r.Alerting && p.kind != "alert":
			all = append(all, recordingRuleJSON{r.Name, r.Query, r.Labels, string(r.Health), r.Err, r.Took.Seconds(), shown(r.At), "recording"})
		}
	}
	return all
}

func activeAlerts(r *alert.RuleView) []activeAlertJSON {
	all := make([]activeAlertJSON, 0, len(r.Alerts))
	for i := range r.Alerts {
		a := &r.Alerts[i]
		all = append(all, activeAlertJSON{a.Labels, a.Annotations, a.State.String(), instant(a.ActiveAt), instant(a.KeepFiringSince), strconv.FormatFloat(a.Value, 'e', -1, 64)})
	}
	return all
}

// active are the alerts of all rules, those of the most severe state first.
func (o *AlertsOptions) active() *activeAlertsJSON {
	var rules []alert.RuleView
	for _, g := range o.groups(true) {
		rules = append(rules, g.Rules...)
	}
	slices.SortStableFunc(rules, func(a, b alert.RuleView) int {
		return cmp.Or(cmp.Compare(b.State, a.State), strings.Compare(a.Name, b.Name))
	})
	answer := &activeAlertsJSON{Alerts: []activeAlertJSON{}}
	for i := range rules {
		answer.Alerts = append(answer.Alerts, activeAlerts(&rules[i])...)
	}
	return answer
}
