package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// A known load is in the history of an agent that runs, and that was killed afterwards, with its exact counts. A second agent keeps
// its history in memory meanwhile, and says so.
func TestE2EHistory(t *testing.T) {
	t.Parallel()
	storage := t.TempDir()
	s := startServer(t, servers.Options{Kind: servers.Go})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, NoTrace: true, Args: []string{"--storage.path=" + storage}})
	conn, err := client.Dial(client.Options{Address: s.Address})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const fine, failed = 97, 13
	for i := range fine + failed {
		target := "/fast"
		if i >= fine {
			target = "/status/503"
		}
		if _, err := conn.Do(client.Request{Target: target}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]uint64{"200": fine, "503": failed}
	if !until(servers.Slow(25*time.Second), func() bool { // the next tick, or the one after it
		return fmt.Sprint(dumped(t, storage)) == fmt.Sprint(want)
	}) {
		t.Fatalf("beside the agent: %v", dumped(t, storage))
	}
	if got := asked(t, a); got != fmt.Sprint(want) {
		t.Errorf("PromQL: %s", got)
	}
	second := startAgent(t, agent.Options{Ports: []int{s.Port}, NoTrace: true, Args: []string{"--storage.path=" + storage}})
	health, err := second.Get("/monitoring/health")
	if err != nil || !strings.Contains(health, "another agent writes there") {
		t.Errorf("the second agent says %v %s", err, health)
	}
	metrics, err := a.Get("/metrics")
	if err != nil || !strings.Contains(metrics, "perfagent_history_persistent 1\n") {
		t.Errorf("the first agent's history is not on the disk: %v", err)
	}
	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := dumped(t, storage); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after a kill: %v", got)
	}
	if info, err := os.Stat(filepath.Join(storage, "history")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v", info, err)
	}
}

// asked returns what the agent answers to PromQL over its history: the requests of the day by status.
func asked(t *testing.T, a *agent.Agent) string {
	t.Helper()
	body, err := a.Get("/api/v1/query?query=" + url.QueryEscape("sum by (http_response_status_code) (http_server_request_duration_seconds_count)"))
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := errors.Join(err, json.Unmarshal([]byte(body), &answer)); err != nil {
		t.Fatal(err)
	}
	counts := map[string]any{}
	for _, r := range answer.Data.Result {
		counts[r.Metric["http_response_status_code"]] = r.Value[1]
	}
	return fmt.Sprint(counts)
}

// dumped is how many requests the history of a directory has, by status.
func dumped(t *testing.T, storage string) map[string]uint64 {
	t.Helper()
	out, err := command(t, "history", "dump", "--storage.path", storage, "--format", "json", "--step", "10s",
		"--match", "http_server_request_duration_seconds").Output()
	if err != nil {
		return nil // the first tick is still to come
	}
	counts := map[string]uint64{}
	for line := range strings.Lines(string(out)) {
		var sample struct {
			Labels map[string]string
			Count  uint64
		}
		if err := json.Unmarshal([]byte(line), &sample); err != nil {
			t.Fatal(err)
		}
		counts[sample.Labels["http_response_status_code"]] += sample.Count
	}
	return counts
}
