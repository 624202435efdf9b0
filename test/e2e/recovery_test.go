package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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
	for name, programs := range map[string]string{"some": "run_sweep iter_sweep tp_block_rq_complete", "all of the host": "run_sweep iter_sweep host"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			busyHooks(t, programs)
		})
	}
}

func busyHooks(t *testing.T, programs string) {
	s := startServer(t, servers.Options{Kind: servers.Go})
	fault := filepath.Join(t.TempDir(), "fault")
	if err := os.WriteFile(fault, []byte(programs), 0o600); err != nil {
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
	if err != nil || !strings.Contains(health, "how long disks take") && !strings.Contains(health, "suffer from") || !strings.Contains(health, "silent connection") {
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
	if health, err = a.Get("/monitoring/health"); err != nil || strings.Contains(health, "how long disks take") || strings.Contains(health, "suffer from") || strings.Contains(health, "silent connection") {
		t.Errorf("%s, %v", health, err)
	}
	b := newBook(t, a)
	b.fast(s, 13)
	b.check() // the last of them is shown by the sweep
	b.settle(s)
	balance(t, a, b)
}

// A trace socket whose path somebody removed is made anew, and traces are served there again.
func TestE2ETraceSocketRemoved(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	socket := filepath.Join(t.TempDir(), "trace.sock")
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{"--web.socket=" + socket}, NoTrace: true})
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	if !until(visibleTimeout, func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	}) {
		t.Fatal("the socket is not there again")
	}
	if !until(visibleTimeout, func() bool {
		m, err := a.Metrics()
		return err == nil && m.Sum("perfagent_recoveries_total", "part", "trace_socket") == 1
	}) {
		t.Error("the agent does not say so")
	}
}

// Of a chosen process that has ended, the processes that it forked are followed also after the kernel side was opened anew, which cannot
// find them by their parents any more.
func TestE2EReaderFailsOrphans(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	port := freePort(t)
	fault := filepath.Join(t.TempDir(), "fault")
	// The shell forks a server when it is told to, and ends when it is told to.
	shell := exec.Command("sh", "-c", fmt.Sprintf("read line; python3 -m http.server --bind 127.0.0.1 %d >/dev/null 2>&1 & echo $!; read line", port))
	in, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, agent.Options{PIDs: []int{shell.Process.Pid}, Env: []string{"PERFAGENT_BREAK=" + fault}})
	fmt.Fprintln(in)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(child, syscall.SIGKILL) })
	get := func() bool {
		response, err := http.Head(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err == nil {
			response.Body.Close()
		}
		return err == nil
	}
	if !until(visibleTimeout, get) || !until(visibleTimeout, func() bool { return len(a.Exchanges()) == 1 }) {
		t.Fatalf("the server's exchange is not seen: %+v", a.Exchanges())
	}
	fmt.Fprintln(in)
	if err := shell.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fault, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !until(visibleTimeout, func() bool { return !ready(a) }) {
		t.Fatal("the fault does nothing")
	}
	if err := os.Remove(fault); err != nil {
		t.Fatal(err)
	}
	if !until(visibleTimeout, func() bool { return ready(a) }) || !get() {
		t.Fatal("the kernel side is not opened anew")
	}
	if !until(visibleTimeout, func() bool { return len(a.Exchanges()) == 2 }) {
		t.Errorf("the server is not followed any more: %+v", a.Exchanges())
	}
}

// A history whose directory cannot be made at the start is kept in memory, and is in the directory, with what was counted before, once that
// can be made: without a restart, ready all the time, and said in the metrics and the health.
func TestE2EHistoryReturns(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	path := t.TempDir()
	inTheWay := filepath.Join(path, "history")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{"--storage.path=" + path}})
	b := newBook(t, a)
	b.fast(s, 101)
	b.check()
	metric := func(name string, want float64, labels ...string) func() bool {
		return func() bool { m, err := a.Metrics(); return err == nil && m.Sum(name, labels...) == want }
	}
	if !until(2*visibleTimeout, metric("perfagent_history_ticks_total", 1)) || !metric("perfagent_part_up", 0, "part", "history")() || !ready(a) {
		t.Error("the agent does not say that the history is in memory, or is not ready")
	}
	if health, err := a.Get("/monitoring/health"); err != nil || !strings.Contains(health, "kept in memory until its directory can be opened") {
		t.Errorf("%s, %v", health, err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if !until(3*visibleTimeout, metric("perfagent_recoveries_total", 1, "part", "history")) || !metric("perfagent_history_persistent", 1)() {
		t.Fatal("the history is not written")
	}
	b.settle(s)
	balance(t, a, b)
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	binary, err := agent.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dump := exec.Command(binary, "history", "dump", "--storage.path="+path, "--step=10s", "--format=csv", `--match={__name__="http_server_request_duration_seconds"}`)
	dump.Env = agent.Environment()
	out, err := dump.Output()
	if err != nil || !strings.Contains(string(out), "goserver") || !strings.Contains(string(out), "101") {
		t.Errorf("%s, %v", out, err)
	}
}
