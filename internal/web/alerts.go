package web

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
)

// AlertsOptions is where the alerts come from.
type AlertsOptions struct {
	// Manager evaluates the rules; where it returns nil nobody does, for the reason that Off tells.
	Manager func() *alert.Manager
	Off     func() string
	// Status tells how notifications stand for alerts that fire, by their labels, in their order; nil: nobody knows.
	Status func(ctx context.Context, labels []map[string]string) []AlertStatus
	Now    func() time.Time // nil means time.Now
}

// AlertStatus is what keeps an alert from being told, and who was told of it.
type AlertStatus struct {
	SilencedBy    []SilenceJSON      `json:"silenced_by,omitempty"`
	InhibitedBy   []string           `json:"inhibited_by,omitempty" about:"critical alerts for which this one is not told"`
	Notifications []NotificationJSON `json:"notifications,omitempty" about:"how it stands with each receiver that is to be told"`
}

// SilenceJSON is a silence that keeps an alert from being told.
type SilenceJSON struct {
	Matchers string    `json:"matchers"`
	Comment  string    `json:"comment,omitempty"`
	Until    time.Time `json:"until"`
}

// NotificationJSON is how an alert stands with a receiver.
type NotificationJSON struct {
	Receiver    string     `json:"receiver"`
	Integration string     `json:"integration" about:"alertmanager, webhook, slack, pagerduty, email, log"`
	State       string     `json:"state" about:"told, waiting, failing, given up, silenced, inhibited, quiet hours; unknown: it does not say in time"`
	ToldAt      *time.Time `json:"told_at,omitempty" about:"when it was told last"`
	NextAt      *time.Time `json:"next_at,omitempty" about:"when it is told next, or again"`
	QuietUntil  *time.Time `json:"quiet_until,omitempty" about:"when the quiet hours end"`
}

// alertsPageMax bounds the alerts that /alerts lists; the counts are of all.
const alertsPageMax = 1000

type alertsJSON struct {
	Time       time.Time       `json:"time"`
	Evaluating bool            `json:"evaluating" about:"whether rules are evaluated"`
	Why        string          `json:"why_not,omitempty" about:"why they are not"`
	Rules      int             `json:"rules"`
	Failing    int             `json:"rules_failing" about:"rules whose latest evaluation failed; /api/v1/rules says why"`
	Firing     int             `json:"firing_total"`
	Pending    int             `json:"pending_total"`
	Alerts     []alertJSON     `json:"alerts" about:"firing ones first, the most severe and the oldest of them first; at most 1000"`
	Resolved   []alertJSON     `json:"resolved" about:"of the last 24 hours, the latest first; at most 200"`
	Objectives []objectiveJSON `json:"objectives"`
}

type alertJSON struct {
	Name            string            `json:"alertname"`
	State           string            `json:"state" about:"firing, pending, resolved"`
	Severity        string            `json:"severity,omitempty" about:"info, warning, error, critical"`
	Service         string            `json:"service_name,omitempty"`
	Route           string            `json:"http_route,omitempty"`
	Summary         string            `json:"summary,omitempty"`
	Description     string            `json:"description,omitempty"`
	NextStep        string            `json:"next_step,omitempty" about:"what to do first"`
	Value           *float64          `json:"value" about:"of the rule's expression at the latest evaluation"`
	ActiveAt        time.Time         `json:"active_at" about:"since when the expression holds"`
	FiredAt         *time.Time        `json:"fired_at,omitempty"`
	ResolvedAt      *time.Time        `json:"resolved_at,omitempty"`
	KeepFiringSince *time.Time        `json:"keep_firing_since,omitempty"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
	Group           string            `json:"rule_group,omitempty"`
	File            string            `json:"rule_file,omitempty" about:"builtin and objective are no files"`
	AlertStatus
}

type objectiveJSON struct {
	Service     string             `json:"service_name"`
	Route       string             `json:"http_route,omitempty"`
	Kind        string             `json:"objective" about:"availability, latency"`
	Target      float64            `json:"target_percent"`
	LatencyMS   float64            `json:"latency_ms,omitempty"`
	Exact       bool               `json:"exact" about:"false: the latency's bound lies within a bucket, and requests are interpolated there (2 % wide)"`
	WindowDays  float64            `json:"window_days"`
	BudgetLeft  *float64           `json:"error_budget_left_percent" about:"100 is all of it, below 0 it is overdrawn; null: no request was seen"`
	BurnRates   map[string]float64 `json:"burn_rates" about:"by window: at 1 the budget lasts for just its window"`
	BudgetState string             `json:"state" about:"ok; burning: an alert of it fires; spent; unknown"`
}

var severities = []string{"critical", "error", "warning", "info"}

// alertsRoute serves what fires, what may, and what did.
func alertsRoute(o AlertsOptions) Route {
	r := Route{Path: "/alerts", Summary: "Alerts that are pending, firing, or were resolved lately, with what to do next and who was told; objectives with their error budgets.",
		Parameters: []Parameter{{Name: "alertname", Description: "only alerts of this name"}, {Name: "service_name", Description: "only alerts of this service"}},
		Response:   alertsJSON{}}
	return r.serveJSON(func(q map[string]string) (any, error) { return o.document(q), nil })
}

// chosen tells whether an alert has the labels that a query asks for.
func chosen(labels, q map[string]string) bool {
	for name, value := range q {
		if value != "" && labels[name] != value {
			return false
		}
	}
	return true
}

func (o *AlertsOptions) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// shown is an instant as documents have it: UTC, to a millisecond. What is between has no meaning to people, and ends in .999999999.
func shown(t time.Time) time.Time { return t.UTC().Round(time.Millisecond) }

func (o *AlertsOptions) document(q map[string]string) *alertsJSON {
	d := &alertsJSON{Time: shown(o.now()), Alerts: []alertJSON{}, Resolved: []alertJSON{}, Objectives: []objectiveJSON{}}
	m := o.Manager()
	if m == nil {
		if o.Off != nil {
			d.Why = o.Off()
		}
		return d
	}
	d.Evaluating = true
	var all []alertJSON
	for _, g := range m.Groups(true) {
		d.Rules += len(g.Rules)
		for i := range g.Rules {
			if g.Rules[i].Health == alert.HealthBad {
				d.Failing++
			}
			for j := range g.Rules[i].Alerts {
				all = append(all, newAlertJSON(&g.Rules[i].Alerts[j]))
			}
		}
	}
	d.Objectives = append(d.Objectives, objectivesJSON(m.Objectives(), all)...)
	d.choose(all, q)
	o.addStatus(d.Alerts)
	for _, r := range m.Resolved() {
		if chosen(r.Labels, q) {
			d.Resolved = append(d.Resolved, newAlertJSON(&r))
		}
	}
	return d
}

// choose takes over the alerts that a query asks for.
func (d *alertsJSON) choose(all []alertJSON, q map[string]string) {
	for i := range all {
		if !chosen(all[i].Labels, q) {
			continue
		}
		d.Alerts = append(d.Alerts, all[i])
		if all[i].FiredAt != nil {
			d.Firing++
		} else {
			d.Pending++
		}
	}
	sortAlerts(d.Alerts)
	d.Alerts = d.Alerts[:min(len(d.Alerts), alertsPageMax)]
}

// addStatus adds how notifications stand to the alerts that fire, which come first.
func (o *AlertsOptions) addStatus(all []alertJSON) {
	if o.Status == nil {
		return
	}
	var labels []map[string]string
	for i := range all {
		if all[i].FiredAt != nil {
			labels = append(labels, all[i].Labels)
		}
	}
	if len(labels) == 0 {
		return
	}
	for i, status := range o.Status(context.Background(), labels) { // which bounds its time itself: others may wait for the same answer
		all[i].AlertStatus = status
	}
}

func newAlertJSON(a *alert.AlertView) alertJSON {
	j := alertJSON{Name: a.Labels["alertname"], State: a.State.String(), Severity: a.Labels["severity"], Service: a.Labels["service_name"], Route: a.Labels["http_route"],
		Summary: a.Annotations["summary"], Description: a.Annotations["description"], NextStep: a.Annotations["next_step"], ActiveAt: shown(a.ActiveAt),
		FiredAt: instant(a.FiredAt), ResolvedAt: instant(a.ResolvedAt), KeepFiringSince: instant(a.KeepFiringSince), Labels: a.Labels, Annotations: a.Annotations,
		Group: a.Group, File: a.File}
	if a.State == alert.Inactive {
		j.State = "resolved"
	}
	if !math.IsNaN(a.Value) && !math.IsInf(a.Value, 0) { // JSON has neither
		j.Value = &a.Value
	}
	return j
}

// instant is a time that may be none.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = shown(t)
	return &t
}

func sortAlerts(all []alertJSON) {
	rank := func(a *alertJSON) int {
		i := slices.Index(severities, a.Severity)
		if i < 0 {
			i = len(severities)
		}
		if a.FiredAt == nil {
			i += 100
		}
		return i
	}
	slices.SortStableFunc(all, func(a, b alertJSON) int {
		return cmp.Or(cmp.Compare(rank(&a), rank(&b)), a.ActiveAt.Compare(b.ActiveAt))
	})
}

func objectivesJSON(views []alert.ObjectiveView, alerts []alertJSON) (all []objectiveJSON) {
	for i := range views {
		v := &views[i]
		j := objectiveJSON{Service: v.Service, Route: v.Route, Kind: v.Kind, Target: v.AvailabilityPercent, Exact: v.Exact, WindowDays: v.Window.Hours() / 24,
			BurnRates: v.BurnRates, BudgetState: "unknown"}
		if v.Kind == "latency" {
			j.Target, j.LatencyMS = v.LatencyPercent, v.LatencyMS
		}
		if v.BudgetLeft != nil {
			left := 100 * *v.BudgetLeft
			j.BudgetLeft, j.BudgetState = &left, "ok"
		}
		burning := slices.ContainsFunc(alerts, func(a alertJSON) bool {
			return a.FiredAt != nil && a.Name == "ErrorBudgetBurn" && contains(a.Labels, v.Labels)
		})
		switch {
		case j.BudgetLeft != nil && *j.BudgetLeft <= 0:
			j.BudgetState = "spent"
		case burning: // also where the budget itself, which is computed less often, is not known yet
			j.BudgetState = "burning"
		}
		all = append(all, j)
	}
	return all
}

// contains tells whether a set has all labels of another one.
func contains(all, some map[string]string) bool {
	for name, value := range some {
		if all[name] != value {
			return false
		}
	}
	return true
}
