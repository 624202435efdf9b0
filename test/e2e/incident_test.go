package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

// An alert of a rule that always holds is one incident: through three agents that are killed with SIGKILL, and a receiver that is down for the first of them, a webhook
// hears of it once and a remedy is done once; when the rule is gone, its end is told once.
func TestE2EIncident(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	var mu sync.Mutex
	down, told := true, map[string]string{} // by the name of the notification
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct{ Status string }
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err := json.Unmarshal(body, &m); err != nil {
			t.Error(err)
		}
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		told[r.Header.Get("Idempotency-Key")] = m.Status
	}))
	defer hook.Close()
	heard := func() string {
		mu.Lock()
		defer mu.Unlock()
		var all []string
		for _, status := range told {
			all = append(all, status)
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	rules, config, remedy, done := filepath.Join(dir, "rules.yml"), filepath.Join(dir, "perfagent.yml"), filepath.Join(dir, "remedy"), filepath.Join(dir, "done")
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	rule := func(name, expression string) {
		write(rules, "groups:\n- name: test\n  interval: 1s\n  rules:\n  - {alert: "+name+", expr: '"+expression+"', labels: {severity: error, service_name: shop}}\n", 0o644)
	}
	rule("Always", "vector(1)")
	write(remedy, "#!/bin/sh\necho $PERFAGENT_ALERT_NAME >>"+done+"\n", 0o755)
	write(config, fmt.Sprintf("notify:\n  receivers: [{name: hook, webhook: {url: '%s'}}]\n  group-wait: 1s\n  group-interval: 1s\nalert.rules-file: %s\nremedies:\n  mode: on\n"+
		"  rules: [{name: again, matchers: [alertname=Always], command: [%s], allow-root: true}]\n", hook.URL, rules, remedy), 0o644)
	s := startServer(t, servers.Options{Kind: servers.Go})
	start := func() *agent.Agent {
		return startAgent(t, agent.Options{Ports: []int{s.Port}, NoTrace: true, Args: []string{"--config.file=" + config, "--storage.path=" + filepath.Join(dir, "storage")}})
	}
	metric := func(a *agent.Agent, line string) bool {
		text, _ := a.Get("/metrics")
		return strings.Contains(text, line)
	}
	first := start()
	if !until(servers.Slow(40*time.Second), func() bool {
		return metric(first, `perfagent_notifications_queue_length{receiver="hook"} 1`) && metric(first, `perfagent_remedies_total{decision="run"} 1`) &&
			!metric(first, `perfagent_notification_attempts_failed_total{integration="webhook",receiver="hook"} 0`)
	}) {
		t.Fatalf("the first agent: %s", first.Log())
	}
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	down = false
	mu.Unlock()
	second := start()
	if !until(servers.Slow(40*time.Second), func() bool { return heard() == "firing" }) {
		t.Fatalf("heard %q; the second agent: %s", heard(), second.Log())
	}
	if err := second.Kill(); err != nil {
		t.Fatal(err)
	}
	third := start()
	if !until(servers.Slow(40*time.Second), func() bool { text, _ := third.Get("/api/v1/alerts"); return strings.Contains(text, `"Always"`) }) {
		t.Fatalf("the third agent: %s", third.Log())
	}
	rule("Never", "vector(1) > 2")
	if err := third.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if !until(servers.Slow(40*time.Second), func() bool { return heard() == "firing resolved" }) {
		t.Errorf("heard %q; the third agent: %s", heard(), third.Log())
	}
	if text, err := os.ReadFile(done); err != nil || string(text) != "Always\n" {
		t.Errorf("remedies done: %v %q", err, text)
	}
}
