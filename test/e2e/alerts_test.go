package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// slowRules fire for a slow route as soon as it is seen, and recover as soon as it is not.
const slowRules = `
groups:
- name: test
  interval: 2s
  rules:
  - record: test:slow_requests:increase30s
    expr: sum by (service_name, http_route) (increase(http_server_request_duration_seconds_count[30s]) - ignoring (le) increase(http_server_request_duration_seconds_bucket{le="0.05"}[30s]))
  - alert: TestSlow
    expr: test:slow_requests:increase30s >= 5
    labels: {severity: error}
    annotations:
      summary: '{{ $labels.http_route }} is slow'
      next_step: Look into the server.
`

// e2eAlerts is what the test reads of /alerts.
type e2eAlerts struct {
	Evaluating       bool
	Rules            int
	Failing          int `json:"rules_failing"`
	Alerts, Resolved []struct {
		Name     string `json:"alertname"`
		State    string
		Route    string `json:"http_route"`
		Summary  string
		NextStep string    `json:"next_step"`
		FiredAt  time.Time `json:"fired_at"`
	}
	Objectives []struct {
		Objective  string
		BudgetLeft *float64 `json:"error_budget_left_percent"`
	}
}

// A server that becomes slow fires a rule of a file, which shows in /alerts, Prometheus' API and ALERTS, and is resolved when the
// server is quick again. One that fires goes on with the same start after a kill of the agent, and ends with its rule at a reload. A
// rule file with a mistake refuses the start, and changes nothing at a reload.
func TestE2EAlerts(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	directory := t.TempDir()
	rules := filepath.Join(directory, "rules.yml")
	write := func(name, text string) string {
		name = filepath.Join(directory, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	write("rules.yml", slowRules)
	config := write("perfagent.yml", "objectives:\n- {service: shop, availability-percent: 99, latency-ms: 500, latency-percent: 90}\n")
	options := agent.Options{Ports: []int{s.Port}, NoTrace: true, Args: []string{"--storage.path=" + directory, "--alert.rules-file=" + rules,
		"--config.file=" + config, "--services.file=" + write("services", fmt.Sprintf("shop port=%d\n", s.Port)), "--web.enable-lifecycle"}}
	a := startAgent(t, options)
	conn, err := client.Dial(client.Options{Address: s.Address})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	beSlow := func() {
		for range 23 {
			if _, err := conn.Do(client.Request{Target: "/sleep/100"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	firing := func(d *e2eAlerts) bool { return len(d.Alerts) == 1 && d.Alerts[0].State == "firing" }
	beSlow()
	first := alertsUntil(t, a, firing)
	if f := first.Alerts[0]; f.Name != "TestSlow" || f.NextStep != "Look into the server." || f.Summary != f.Route+" is slow" {
		t.Errorf("%+v", f)
	}
	if first.Rules < 30 || first.Failing != 0 || len(first.Objectives) != 2 {
		t.Errorf("%+v", first)
	}
	for path, want := range map[string]string{
		"/api/v1/alerts": `"state":"firing","activeAt":"`,
		"/api/v1/rules?type=alert&file[]=" + rules: `"alerts":[{"labels":{"alertname":"TestSlow"`,
		"/metrics": `ALERTS{alertname="TestSlow",alertstate="firing",http_route="/sleep/`,
	} {
		if body, err := a.Get(path); err != nil || !strings.Contains(body, want) {
			t.Errorf("%s: %v, has not %s\n%.3000s", path, err, want, body)
		}
	}
	resolved := alertsUntil(t, a, func(d *e2eAlerts) bool { return len(d.Alerts) == 0 })
	if r := resolved.Resolved; len(r) != 1 || r[0].State != "resolved" || !r[0].FiredAt.Equal(first.Alerts[0].FiredAt) {
		t.Errorf("resolved: %+v", r)
	}
	beSlow()
	second := alertsUntil(t, a, firing)
	if !until(servers.Slow(10*time.Second), func() bool { // it is kept, and told, at the end of the evaluation
		kept, err := os.ReadFile(filepath.Join(directory, "alerts.state"))
		return err == nil && strings.Contains(string(kept), second.Alerts[0].FiredAt.Format(`"fired_at":"2006-01-02T15:04:05Z"`))
	}) {
		t.Fatal("the alert is not kept")
	}
	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	a = startAgent(t, options)
	again := alertsUntil(t, a, func(d *e2eAlerts) bool { return len(d.Alerts) == 1 })
	if f := again.Alerts[0]; f.State != "firing" || !f.FiredAt.Equal(second.Alerts[0].FiredAt) {
		t.Errorf("after the restart %+v, before it since %s", f, second.Alerts[0].FiredAt)
	}
	write("rules.yml", "groups:\n- name: a\n  rules:\n  - alert: Wrong\n    expr: sum(\n")
	mistake := `rules.yml:5: group "a", rule 1, "Wrong": could not parse expression`
	if status, body := reload(t, a); status != http.StatusInternalServerError || !strings.Contains(body, "rules.yml:5: ") {
		t.Errorf("a reload of a bad file: %d %s", status, body)
	}
	alertsUntil(t, a, firing)
	out, err := command(t, "run", "--alert.rules-file="+rules, "--web.listen-address=127.0.0.1:0").CombinedOutput()
	if err == nil || !strings.Contains(strings.ReplaceAll(string(out), `\"`, `"`), mistake) {
		t.Errorf("a start with a bad rule file: %v\n%s", err, out)
	}
	write("rules.yml", "groups: []\n")
	if status, body := reload(t, a); status != http.StatusOK {
		t.Errorf("a reload: %d %s", status, body)
	}
	alertsUntil(t, a, func(d *e2eAlerts) bool { return len(d.Alerts) == 0 && len(d.Resolved) == 2 })
}

// reload has the agent read its files anew.
func reload(t *testing.T, a *agent.Agent) (status int, body string) {
	t.Helper()
	response, err := http.Post("http://"+a.Address+"/-/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

// alertsUntil polls /alerts until it is as wanted.
func alertsUntil(t *testing.T, a *agent.Agent, wanted func(*e2eAlerts) bool) (d e2eAlerts) {
	t.Helper()
	var body string
	ok := until(servers.Slow(50*time.Second), func() bool {
		var err error
		body, err = a.Get("/alerts")
		d = e2eAlerts{}
		return err == nil && json.Unmarshal([]byte(body), &d) == nil && wanted(&d)
	})
	if !ok {
		t.Fatalf("/alerts: %s", body)
	}
	return d
}
