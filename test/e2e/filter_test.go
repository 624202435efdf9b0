package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// Of two servers with the same traffic one is chosen, in each of the ways there are: the other's name and port appear nowhere,
// neither in metrics nor in the summary, while an agent that chose the other shows just these figures of it, and the chosen
// one has all of them.
func TestE2EFilters(t *testing.T) {
	t.Parallel()
	chosen, other := startServer(t, servers.Options{Kind: servers.HTTPServer}), startServer(t, servers.Options{Kind: servers.Go})
	both := []int{chosen.Port, other.Port}
	executable, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", chosen.PID()))
	if err != nil {
		t.Fatal(err)
	}
	reference := startAgent(t, agent.Options{Ports: []int{other.Port}, NoTrace: true})
	filtered := map[string]*agent.Agent{
		"port":       startAgent(t, agent.Options{Ports: []int{chosen.Port}, NoTrace: true}),
		"pid":        startAgent(t, agent.Options{PIDs: []int{chosen.PID()}, NoTrace: true}),
		"executable": startAgent(t, agent.Options{Ports: both, Args: []string{"--capture.executable=" + executable}, NoTrace: true}),
	}
	load := func() {
		for _, s := range []*servers.Server{chosen, other} {
			conn, err := client.Dial(client.Options{Address: s.Address})
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if _, err := conn.Do(client.Request{Target: "/"}); err != nil {
					t.Fatal(err)
				}
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// shown returns what an agent says once it has every kind of figure of a server.
	shown := func(a *agent.Agent, s *servers.Server) (name, text string) {
		var missing string
		ok := until(servers.Slow(40*time.Second), func() bool {
			load()
			metrics, err := a.Metrics()
			if err != nil {
				return false
			}
			for _, m := range metrics {
				if m.Name == "http_server_request_duration_seconds_count" {
					name = m.Labels["service_name"]
				}
			}
			for _, figure := range []string{"perfagent_service_cpu_seconds_total", "perfagent_tcp_rtt_seconds_count", "perfagent_tcp_retransmits_total",
				"perfagent_process_run_queue_latency_seconds_count", "http_server_active_requests"} {
				if missing = figure; name == "" || !metrics.Has(figure, "service_name", name) {
					return false
				}
			}
			summary, err := a.Get("/performance/summary")
			if missing = "summary"; err != nil || !strings.Contains(summary, name) {
				return false
			}
			if missing = "perfagent_tcp_listen_backlog"; !metrics.Has(missing, "server_port", fmt.Sprint(s.Port)) {
				return false
			}
			all, err := a.Get("/metrics")
			text = all + summary
			return err == nil
		})
		if !ok {
			t.Fatalf("not all figures of the server on port %d, called %q: %s is missing", s.Port, name, missing)
		}
		return name, text
	}
	name, _ := shown(reference, other)
	for by, a := range filtered {
		own, text := shown(a, chosen)
		if own == name {
			t.Fatalf("by %s: both servers are called %q", by, name)
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, name) || strings.Contains(line, fmt.Sprintf(`"%d"`, other.Port)) {
				t.Errorf("by %s %q is chosen, but there is: %s", by, own, line)
			}
		}
		// Nor anything else of this host: what has a service's name is the chosen one's, or the client's.
		metrics, err := agent.ParseMetrics(strings.Split(text, "\n{")[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range metrics {
			if s := m.Labels["service_name"]; s != "" && s != own && (by != "port" || !strings.Contains(s, "e2e")) {
				t.Errorf("by %s %q is chosen, but there is %q in %s", by, own, s, m.Name)
			}
			if m.Labels["server_port"] != "" && m.Labels["server_port"] != fmt.Sprint(chosen.Port) {
				t.Errorf("by %s: port %s in %s", by, m.Labels["server_port"], m.Name)
			}
		}
	}
}
