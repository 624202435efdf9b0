package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/wire"
)

// Shows that a rule whose evaluation would take too much is refused when its file is read, with its name, and that one with a week's
// subquery is taken, as the built-in ones are.
func TestRulesAreBounded(t *testing.T) {
	c := defaultConfig()
	file := filepath.Join(t.TempDir(), "rules.yml")
	c.Alerts.RulesFiles = []string{file}
	write := func(window string) {
		t.Helper()
		text := "groups: [{name: g, rules: [{record: weekly, expr: 'max_over_time(nope[" + window + "])'}]}]\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("7d:1m")
	if _, err := c.rules(); err != nil {
		t.Error(err)
	}
	write("7d:1s")
	if _, err := c.rules(); err == nil || !strings.Contains(err.Error(), `rules.yml: group "g": rule "weekly": exceeded maximum resolution`) {
		t.Error(err)
	}
}

// Shows what of an objective is refused, with what was probably meant: percentages that are shares, and routes that no label has.
func TestObjectivesAreChecked(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"{service: shop, availability-percent: 99.9}", ""},
		{"{service: shop, route: 'GET /orders/{id}', latency-ms: 300, latency-percent: 50}", ""},
		{"{service: shop, route: '/orders/{id}', availability-percent: 99}", ""},
		{"{service: shop, availability-percent: 0.999}", `f.yml:2: objectives: availability-percent: "0.999" is a share; did you mean 99.9?`},
		{"{service: shop, latency-ms: 300, latency-percent: .95}", `latency-percent: ".95" is a share; did you mean 95?`},
		{"{service: shop, availability-percent: 9.99}", `"9.99" is less than 50: give the percentage of requests that shall be good`},
		{"{service: shop, availability-percent: 100}", "100 leaves no budget"},
		{"{service: shop, route: 'GET /orders/:id', availability-percent: 99}", "f.yml:2: objectives: route: \"GET /orders/:id\" matches nothing: parameters stand in braces; did you mean GET /orders/{id}?"},
		{"{service: shop, route: '/u/<int:user>/${x}', availability-percent: 99}", "did you mean /u/{user}/{x}?"},
		{"{service: shop, route: 'get /orders', availability-percent: 99}", `"get" is no method; write it as in GET /orders`},
		{"{service: shop, route: 'orders/{id}', availability-percent: 99}", "its path begins with /"},
		{"{service: shop, route: 'GET orders', availability-percent: 99}", "its path begins with /"},
	} {
		config := defaultConfig()
		file := filepath.Join(t.TempDir(), "f.yml")
		if err := os.WriteFile(file, []byte("objectives:\n  - "+c.yaml+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := applyFile(config.settings(), file)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.yaml, err, c.want)
		}
	}
}

// Shows that a pattern of rule files that chooses none is a warning with the place where it stands, not an error, and that a severity
// that nobody knows is one beside it; a name without a pattern must exist. What a reload says of them counts files, and no built-in rules.
func TestRuleWarnings(t *testing.T) {
	dir := t.TempDir()
	rules, file := filepath.Join(dir, "r.yml"), filepath.Join(dir, "f.yml")
	if err := os.WriteFile(rules, []byte("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up == 0, labels: {severity: page}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("log.level: info\nalert.rules-file: ["+dir+"/none-*.yml, "+rules+"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := (&configSource{file: file}).load()
	if err != nil {
		t.Fatal(err)
	}
	read, err := config.rules()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{file + ":2: alert.rules-file: no file matches " + dir + "/none-*.yml", rules + `:4: alert "A": the severity "page" is none of`}
	if len(read.Warnings) != 2 || read.Warnings[0] != want[0] || !strings.HasPrefix(read.Warnings[1], want[1]) {
		t.Errorf("warnings are %q, want %q", read.Warnings, want)
	}
	if got := rulesRead(read); got != "1 rule file with 1 rule" {
		t.Errorf("read %q", got)
	}
	config.Alerts.RulesFiles = nil
	if read, err = config.rules(); err != nil || rulesRead(read) != "" {
		t.Errorf("without files %q are read, %v", rulesRead(read), err)
	}
	config.Alerts.RulesFiles = []string{dir + "/none.yml"}
	if _, err := config.rules(); err == nil {
		t.Error("a file that is not there is taken")
	}
}

// Shows what is said of an objective that nothing is counted of: once for both of its parts, with the service that was probably meant.
func TestUncountedObjectives(t *testing.T) {
	engine := analytics.NewEngine(analytics.Options{})
	engine.Add(&wire.Exchange{Role: wire.RoleServer, Protocol: "http/1.1", Service: "shop", Operation: wire.Operation{Verb: "GET", Name: "/"},
		Arrived: 1, Read: 2, Responded: 3, Finished: 4, Outcome: wire.Outcome{Code: 200}})
	view := func(service, route string, unmatched bool) alert.ObjectiveView {
		return alert.ObjectiveView{Objective: alert.Objective{Service: service, Route: route}, Unmatched: unmatched}
	}
	got := uncounted([]alert.ObjectiveView{view("shop", "", false), view("shpo", "", true), view("shpo", "", true), view("shop", "GET /x", true), view("warehouse", "", true)}, engine.Snapshot())
	want := []string{"objective of shpo has no requests: nothing of that service and route is counted; did you mean shop?",
		"objective of shop GET /x has no requests: nothing of that service and route is counted, though other routes of it are", "objective of warehouse has no requests"}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}
}
