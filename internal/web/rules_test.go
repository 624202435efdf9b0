package web

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/query"
)

// downSource has one element for each expression "down", and none for others.
type downSource struct{}

// Vector implements alert.Source.
func (downSource) Vector(_ context.Context, expr string, _ time.Time) (query.Vector, error) {
	if expr != "down" {
		return nil, nil
	}
	return query.Vector{{Metric: query.LabelsOf("__name__", "down", "instance", "a"), F: 2}}, nil
}

// Record implements alert.Source.
func (downSource) Record(time.Time, query.Vector) error { return nil }

const testRules = `
groups:
- name: one
  rules:
  - {alert: Down, expr: down, labels: {severity: error}, annotations: {summary: 'down by {{ $value }}', next_step: 'Start it.'}}
  - {alert: Later, expr: down, for: 1h, labels: {severity: info}}
- name: two
  limit: 7
  rules:
  - {record: down:sum, expr: sum(down), labels: {team: x}}
`

// rulesServer serves two groups that were evaluated once, at the clock's time.
func rulesServer(t *testing.T) http.Handler {
	t.Helper()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m := alert.New(alert.Options{Source: downSource{}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return at }})
	rules, err := alert.Parse([]alert.File{{Name: "/r.yml", Data: []byte(testRules)}}, nil, []alert.Objective{{Service: "shop", LatencyMS: 120, LatencyPercent: 99}})
	if err != nil {
		t.Fatal(err)
	}
	m.Apply(rules)
	m.Evaluate(context.Background(), at.Add(time.Second))
	status := func(_ context.Context, labels []map[string]string) (all []AlertStatus) {
		for _, l := range labels {
			all = append(all, AlertStatus{SilencedBy: []SilenceJSON{{Matchers: "of " + l["alertname"], Until: at}}, InhibitedBy: []string{"Worse"},
				Notifications: []NotificationJSON{{Receiver: "chat", Integration: "slack", State: "told", ToldAt: &at, NextAt: &at}}})
		}
		return all
	}
	return NewServer(ServerOptions{Alerts: AlertsOptions{Manager: func() *alert.Manager { return m }, Status: status}}).handler
}

func askRules(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// The answers have Prometheus' form, and its filters and pages choose what they do there.
func TestRulesAPI(t *testing.T) {
	h := rulesServer(t)
	for _, c := range []struct {
		path   string
		status int
		want   []string
		not    string
	}{
		{"/api/v1/alerts", 200, []string{`{"status":"success","data":{"alerts":[{"labels":{"alertname":"Down","instance":"a","severity":"error"},` +
			`"annotations":{"next_step":"Start it.","summary":"down by 2"},"state":"firing","activeAt":"2026-03-01T12:00:00Z","value":"2e+00"},` +
			`{"labels":{"alertname":"Later","instance":"a","severity":"info"},"annotations":{},"state":"pending","activeAt":"2026-03-01T12:00:00Z","value":"2e+00"}]}}`}, "Sum"},
		{"/api/v1/rules?file[]=/r.yml", 200, []string{`"groups":[{"name":"one","file":"/r.yml","rules":[{"state":"firing","name":"Down","query":"down","duration":0,"keepFiringFor":0,` +
			`"labels":{"severity":"error"},"annotations":{"next_step":"Start it.","summary":"down by {{ $value }}"},"alerts":[{`,
			`"health":"ok","evaluationTime":0,"lastEvaluation":"2026-03-01T12:00:00Z","type":"alerting"}`,
			`"interval":15,"limit":0,"evaluationTime":0,"lastEvaluation":"2026-03-01T12:00:00Z"}`,
			`{"name":"down:sum","query":"sum(down)","labels":{"team":"x"},"health":"ok","evaluationTime":0,"lastEvaluation":"2026-03-01T12:00:00Z","type":"recording"}],"interval":15,"limit":7`}, "objective"},
		{"/api/v1/rules?type=record&file[]=/r.yml", 200, []string{`"down:sum"`}, "Down"},
		{"/api/v1/rules?type=alert&rule_name[]=Later&exclude_alerts=true", 200, []string{`"name":"Later"`, `"alerts":null`}, "Down"},
		{"/api/v1/rules?rule_group[]=two&rule_group[]=one&match[]={team=\"x\"}", 200, []string{`"down:sum"`}, "Later"},
		{"/api/v1/rules?file[]=objective&rule_name[]=ErrorBudgetBurn", 200, []string{`"name":"shop latency fast","file":"objective"`, `"burn_rate":"14.4"`}, "/r.yml"},
		{"/api/v1/rules?file[]=/r.yml&group_limit=1", 200, []string{`"name":"one"`, `"groupNextToken":"`}, "two"},
		{"/api/v1/rules?type=both", 400, []string{`{"status":"error","errorType":"bad_data","error":"invalid parameter \"type\": not supported value \"both\""}`}, "success"},
		{"/api/v1/rules?match[]={a=~'" + strings.Repeat(".{1000}", 11) + "'}", 400, []string{"repeats too much"}, "success"},
		{"/api/v1/rules?match[]={}", 400, []string{"match[] must contain at least one non-empty matcher"}, "success"},
		{"/api/v1/rules?group_limit=0", 400, []string{"group_limit needs to be greater than 0"}, "success"},
		{"/api/v1/rules?group_next_token=x", 400, []string{"group_limit needs to be present"}, "success"},
		{"/api/v1/rules?group_limit=1&group_next_token=x", 400, []string{"invalid group_next_token 'x'. were rule groups changed?"}, "success"},
	} {
		status, body := askRules(t, h, strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22").Replace(c.path))
		if status != c.status || strings.Contains(body, c.not) {
			t.Errorf("%s: %d %s", c.path, status, body)
		}
		for _, want := range c.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s has not\n%s\nbut\n%s", c.path, want, body)
			}
		}
	}
	var page struct{ Data rulesJSON }
	_, body := askRules(t, h, "/api/v1/rules?file[]=/r.yml&group_limit=1")
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		t.Fatal(err)
	}
	if _, body = askRules(t, h, "/api/v1/rules?file[]=/r.yml&group_limit=1&group_next_token="+page.Data.Next); !strings.Contains(body, `"name":"two"`) || strings.Contains(body, "Next") {
		t.Error("the second page is", body)
	}
}

// /alerts has what fires in front, with what to do; an objective nobody has asked for has no budget known; and where no rules are
// evaluated it says why.
func TestAlerts(t *testing.T) {
	var d alertsJSON
	status, body := askRules(t, rulesServer(t), "/alerts")
	if err := json.Unmarshal([]byte(body), &d); err != nil || status != 200 {
		t.Fatal(status, err, body)
	}
	if !d.Evaluating || d.Firing != 1 || d.Pending != 1 || len(d.Alerts) != 2 || d.Alerts[0].Name != "Down" || d.Alerts[0].NextStep != "Start it." || *d.Alerts[0].Value != 2 {
		t.Errorf("%s", body)
	}
	if o := d.Objectives; len(o) != 1 || o[0].Kind != "latency" || o[0].Exact || o[0].BudgetLeft != nil || o[0].BudgetState != "unknown" || o[0].WindowDays != 30 || o[0].Target != 99 {
		t.Errorf("%+v", o)
	}
	// Who was told of what fires, and what keeps it from being told, stands with it.
	if want := `"silenced_by":[{"matchers":"of Down","until":"2026-03-01T12:00:00Z"}],"inhibited_by":["Worse"],` +
		`"notifications":[{"receiver":"chat","integration":"slack","state":"told","told_at":"2026-03-01T12:00:00Z","next_at":"2026-03-01T12:00:00Z"}]`; strings.Count(body, want) != 1 ||
		strings.Count(body, "silenced_by") != 1 {
		t.Errorf("%s", body)
	}
	// The link of a message leads to the alerts of its name and service.
	for query, want := range map[string]int{"?alertname=Later": 1, "?alertname=Down&service_name=shop": 0, "?alertname=Down": 1, "?service_name=shop": 0} {
		d := alertsJSON{}
		status, body := askRules(t, rulesServer(t), "/alerts"+query)
		if err := json.Unmarshal([]byte(body), &d); err != nil || status != 200 || len(d.Alerts) != want || d.Firing+d.Pending != want || d.Rules == 0 {
			t.Errorf("%s: %d %s %v", query, status, body, err)
		}
	}
	if status, _ := askRules(t, rulesServer(t), "/alerts?alert=Down"); status != 400 {
		t.Errorf("another parameter: %d", status)
	}
	off := NewServer(ServerOptions{Alerts: AlertsOptions{Manager: func() *alert.Manager { return nil }, Off: func() string { return "it is off" }}}).handler
	if _, body := askRules(t, off, "/alerts"); !strings.Contains(body, `"evaluating":false,"why_not":"it is off"`) {
		t.Error(body)
	}
	if status, body := askRules(t, off, "/api/v1/rules"); status != 200 || !strings.Contains(body, `{"status":"success","data":{"groups":[]}}`) {
		t.Error(status, body)
	}
}

// An objective of which an alert fires is burning, also while its budget, which is computed less often, is not known; a budget that is
// spent says more, and alerts of another objective, or pending ones, say nothing.
func TestObjectiveState(t *testing.T) {
	fired, spent, half := time.Unix(1, 0), -.1, .5
	labels := map[string]string{"service_name": "shop", "objective": "availability"}
	firing := alertJSON{Name: "ErrorBudgetBurn", FiredAt: &fired, Labels: map[string]string{"service_name": "shop", "objective": "availability", "burn_rate": "6"}}
	pending, other := firing, firing
	pending.FiredAt, other.Labels = nil, map[string]string{"service_name": "shop", "objective": "latency"}
	for _, c := range []struct {
		left  *float64
		alert alertJSON
		want  string
	}{{nil, firing, "burning"}, {&half, firing, "burning"}, {&spent, firing, "spent"}, {nil, pending, "unknown"}, {nil, other, "unknown"}, {&half, pending, "ok"}} {
		got := objectivesJSON([]alert.ObjectiveView{{Kind: "availability", Labels: labels, BudgetLeft: c.left}}, []alertJSON{c.alert})
		if len(got) != 1 || got[0].BudgetState != c.want {
			t.Errorf("%+v, want %s", got, c.want)
		}
	}
}
