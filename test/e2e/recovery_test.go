package e2e

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// ready tells whether /-/ready answers 200.
func ready(a *agent.Agent) bool {
	response, err := http.Get("http://" + a.Address + "/-/ready")
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// An agent whose reader fails opens the kernel side anew, without a restart: what was seen before and after is counted, with the
// connections that are older than it, a request that was under way is lost and said so, what came meanwhile is nowhere, and /-/ready, the
// health and the metrics tell of the gap. Shown by a fault that lasts as long as a file is there.
func TestE2EReaderFails(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	fault := filepath.Join(t.TempDir(), "fault")
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Env: []string{"PERFAGENT_BREAK=" + fault}})
	b := newBook(t, a)
	b.fast(s, 101)
	b.check()
	kept := b.dial(s, client.Options{})
	b.do(kept, s, client.Request{})
	b.check()
	waiting, err := net.Dial("tcp", s.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	metric := func(name string, want float64, labels ...string) func() bool {
		return func() bool { m, err := a.Metrics(); return err == nil && m.Sum(name, labels...) == want }
	}
	if _, err := waiting.Write([]byte("GET /sleep/600000 HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if !until(visibleTimeout, metric("http_server_active_requests", 1)) {
		t.Fatal("the request is not under way")
	}
	if !ready(a) {
		t.Error("not ready before the fault")
	}
	if err := os.WriteFile(fault, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !until(visibleTimeout, metric("perfagent_part_up", 0, "part", "probes")) || ready(a) {
		t.Error("the agent does not say that it observes nothing")
	}
	if health, err := a.Get("/monitoring/health"); err != nil || !strings.Contains(health, "nothing is observed since") || !strings.Contains(health, "no probes are attached") {
		t.Errorf("%s, %v", health, err)
	}
	for range 7 { // nobody sees these
		response, err := http.Get("http://" + s.Address + "/fast")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	if err := os.Remove(fault); err != nil {
		t.Fatal(err)
	}
	if !until(visibleTimeout, func() bool { return ready(a) }) {
		t.Fatal("the kernel side is not opened anew")
	}
	if m, err := a.Metrics(); err != nil || m.Sum("perfagent_recoveries_total", "part", "probes") != 1 || m.Sum("perfagent_part_up", "part", "probes") != 1 ||
		m.Sum("perfagent_part_away_seconds_total", "part", "probes") <= 0 {
		t.Errorf("the agent does not say that it came back: %v", err)
	}
	b.do(kept, s, client.Request{})
	b.fast(s, 13)
	b.check()
	b.settle(s)
	balanceLost(t, a, len(b.want)+2, 2) // both ends of the request that was under way
	if m, err := a.Metrics(); err != nil || m.Sum("perfagent_exchanges_lost_total", "stage", "reader") != 2 {
		t.Errorf("lost: %v, %v", m.Lost(), err)
	}
	if log := a.Log(); strings.Count(log, "opened anew") != 1 || !strings.Contains(log, "observing again") {
		t.Error("the log does not tell of it once")
	}
}

// Hooks for which the kernel has no room at the start are attached once it has, of both halves of the kernel side, without a restart: the
// agent says what is not visible until then, and that it is over.
func TestE2EBusyHooks(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	fault := filepath.Join(t.TempDir(), "fault")
	if err := os.WriteFile(fault, []byte("run_sweep iter_sweep tp_block_rq_complete"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Env: []string{"PERFAGENT_BREAK=" + fault}})
	attached := func(probe string) float64 {
		m, err := a.Metrics()
		if err != nil {
			return -1
		}
		return m.Sum("perfagent_probe_attached", "probe", probe)
	}
	if attached("run_sweep") != 0 || attached("host_tp_block_rq_complete") != 0 {
		t.Fatal("the fault does nothing")
	}
	health, err := a.Get("/monitoring/health")
	if err != nil || !strings.Contains(health, "how long disks take") || !strings.Contains(health, "silent connection") {
		t.Errorf("%s, %v", health, err)
	}
	if err := os.Remove(fault); err != nil {
		t.Fatal(err)
	}
	if !until(visibleTimeout, func() bool {
		m, err := a.Metrics()
		return err == nil && m.Sum("perfagent_recoveries_total", "part", "hooks") == 1 && m.Sum("perfagent_part_up", "part", "hooks") == 1
	}) {
		t.Error("the hooks are not attached")
	}
	if attached("run_sweep")+attached("iter_sweep") == 0 || attached("host_tp_block_rq_complete") != 1 {
		t.Error("a hook is missing still")
	}
	if health, err = a.Get("/monitoring/health"); err != nil || strings.Contains(health, "how long disks take") || strings.Contains(health, "silent connection") {
		t.Errorf("%s, %v", health, err)
	}
	b := newBook(t, a)
	b.fast(s, 13)
	b.check() // the last of them is shown by the sweep
	b.settle(s)
	balance(t, a, b)
}
