package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// command prepares the agent's binary with arguments.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := agent.Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = agent.Environment()
	return cmd
}

// run executes a command that must end by itself and returns its output and exit code.
func run(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	timer := time.AfterFunc(servers.Slow(time.Minute), func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// What keeps the agent from starting ends it with the right code and one line that names the cause.
func TestE2EStartErrors(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	unknown := writeFile(t, "unknown.yml", "capture:\n  port: [1]\nnonsense: 1\n")
	bad := writeFile(t, "bad.yml", "limits:\n  endpoints: many\n")
	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"unknown-flag", []string{"--no-such-flag"}, 2, []string{"no-such-flag"}},
		{"bad-value", []string{"--capture.backend=magic"}, 2, []string{"magic", "tracepoint"}},
		{"bad-port", []string{"--capture.port=70000"}, 2, []string{"70000"}},
		{"busy-port", []string{"--web.listen-address=" + busy.Addr().String()}, 1, []string{busy.Addr().String(), "in use"}},
		{"missing-config", []string{"--config.file=/nonexistent/perfagent.yml"}, -1, []string{"/nonexistent/perfagent.yml"}},
		{"unknown-key", []string{"--config.file=" + unknown}, -1, []string{unknown, "3", "nonsense"}},
		{"bad-config-value", []string{"--config.file=" + bad}, -1, []string{bad, "2", "endpoints"}},
		{"missing-routes", []string{"--routes.file=/nonexistent/routes"}, -1, []string{"/nonexistent/routes"}},
		{"ready-file", []string{"--ready-file=/nonexistent/ready"}, 1, []string{"/nonexistent/ready"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"run", "--capture.port=1", "--web.socket=" + filepath.Join(t.TempDir(), "socket")}
			if c.name != "busy-port" {
				args = append(args, "--web.listen-address=127.0.0.1:0")
			}
			_, stderr, code := run(t, command(t, append(args, c.args...)...))
			// Whether a bad configuration is a usage error is the program's choice; that it fails is not.
			if c.code >= 0 && code != c.code || c.code < 0 && code != 1 && code != 2 {
				t.Errorf("exit code: expected %d (-1: 1 or 2), got %d", c.code, code)
			}
			for _, word := range c.says {
				if !strings.Contains(stderr, word) {
					t.Errorf("expected %q in: %s", word, stderr)
				}
			}
		})
	}
}

// Without privileges the agent says so in a line with the remedy.
func TestE2EUnprivileged(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	_, stderr, code := run(t, unprivileged(t, nil, "run", "--capture.port=1", "--web.listen-address=127.0.0.1:0", "--web.socket="))
	lower := strings.ToLower(stderr)
	if code != 1 || !strings.Contains(lower, "root") && !strings.Contains(lower, "cap_") {
		t.Errorf("expected exit code 1 and a line that names root or a capability; got %d: %s", code, stderr)
	}
}

// Where one capability is missing, run and check name that one and no other remedy, check in its last line; with both a user
// other than root observes.
func TestE2ECapabilities(t *testing.T) {
	requireRoot(t)
	for missing, has := range map[string][]uintptr{
		"CAP_BPF":     {unix.CAP_PERFMON},
		"CAP_PERFMON": {unix.CAP_BPF},
		"":            {unix.CAP_BPF, unix.CAP_PERFMON},
	} {
		if hasCapability(t, unix.CAP_SYS_RESOURCE) { // for maps before Linux 5.11
			has = append(has, unix.CAP_SYS_RESOURCE)
		}
		stdout, stderr, code := run(t, unprivileged(t, has, "check"))
		lines := strings.Split(strings.TrimSpace(stdout), "\n")
		last := lines[len(lines)-1]
		if missing == "" {
			if !strings.HasPrefix(last, "This host shows HTTP/1 exchanges") {
				t.Errorf("with all capabilities: %s%s", stdout, stderr)
			}
			unnamed(t, has, stdout)
			continue
		}
		if want := "This host shows no exchanges: " + missing + " is missing."; code != 3 || last != want {
			t.Errorf("exit code %d, last line %q, expected %q", code, last, want)
		}
		_, stderr, code = run(t, unprivileged(t, has, "run", "--capture.port=1", "--web.listen-address=127.0.0.1:0", "--web.socket="))
		if want := "operation not permitted without " + missing + ": run as root"; code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("run: exit code %d, expected %q in %s", code, want, stderr)
		}
		for _, wrong := range []string{"memlock", "locked", "verifier", "lockdown is"} {
			if text := strings.ToLower(stdout + stderr); strings.Contains(text, wrong) {
				t.Errorf("without %s there is %q in %s", missing, wrong, text)
			}
		}
	}
}

// unnamed shows that an agent that may not name processes of other users says so once in its log, and in its health, in the
// words of check.
func unnamed(t *testing.T, has []uintptr, checked string) {
	t.Helper()
	const what, why = "names of processes of other users", "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
	if !strings.Contains(strings.Join(strings.Fields(checked), " "), "! "+what+": "+why) {
		t.Errorf("check: %s", checked)
	}
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p, err := servers.StartProcess(unprivileged(t, has, "run", "--capture.port=1", "--web.listen-address="+address, "--web.socket="), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	var health struct {
		Status     string
		NotVisible []string `json:"not_visible"`
	}
	if !until(servers.Slow(20*time.Second), func() bool {
		response, err := http.Get("http://" + address + "/monitoring/health")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return json.NewDecoder(response.Body).Decode(&health) == nil
	}) {
		t.Errorf("no health: %s", p.Log())
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if !slices.Contains(health.NotVisible, what+": "+why) || health.Status != "degraded" {
		t.Errorf("health: %+v", health)
	}
	if n := strings.Count(p.Log(), "not visible: "+what); n != 1 || !strings.Contains(p.Log(), why) {
		t.Errorf("%d times in the log: %s", n, p.Log())
	}
}

// hasCapability tells whether this process can pass a capability on.
func hasCapability(t *testing.T, capability int) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // of 32 bits each
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[capability/32].Permitted>>(capability%32)&1 == 1
}

// unprivileged prepares the agent's binary to be run as nobody, with these capabilities.
func unprivileged(t *testing.T, capabilities []uintptr, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := agent.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "perfagent-unprivileged")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "perfagent") // the original may be where only root may look
	if err := errors.Join(os.WriteFile(copied, data, 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, args...)
	cmd.Dir, cmd.Env = dir, agent.Environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: capabilities}
	return cmd
}

// What a running agent's log and health say is not visible, check says too, in the same words and with the same reasons.
func TestE2ECheckLikeRun(t *testing.T) {
	a := startAgent(t, agent.Options{Ports: []int{freePort(t)}, NoTrace: true})
	text, err := a.Get("/monitoring/health")
	var health struct {
		Backend    string
		NotVisible []string `json:"not_visible"`
	}
	if err := errors.Join(err, json.Unmarshal([]byte(text), &health)); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, _ := run(t, command(t, "check", "-o", "json", "--capture.backend="+health.Backend))
	var report struct {
		NotVisible []struct{ What, Why string } `json:"not_visible"`
		Backends   []struct {
			Name  string
			Hooks []struct{ Loss string }
		}
		Host struct{ Hooks []struct{ Loss string } }
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	said, losses := make(map[string]bool), make(map[string]bool)
	for _, s := range report.NotVisible {
		said[s.What+": "+s.Why] = true
	}
	for _, missing := range health.NotVisible {
		what, _, _ := strings.Cut(missing, ": ")
		if !said[missing] || !strings.Contains(a.Log(), "not visible: "+what) {
			t.Errorf("%q is not in what check says, %v, or in the log, %s", missing, said, a.Log())
		}
		losses[missing] = true
	}
	hooks := report.Host.Hooks
	for _, b := range report.Backends {
		if b.Name == health.Backend {
			hooks = append(hooks, b.Hooks...)
		}
	}
	for _, h := range hooks {
		if h.Loss != "" && !strings.Contains(fmt.Sprint(losses), h.Loss) {
			t.Errorf("check says that %s are not visible, run does not: %v", h.Loss, losses)
		}
	}
}

// perfagent trace follows a running agent through its socket: JSON lines, a limit, filters, and no control character
// in the text form.
func TestE2ETraceCommand(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Raw}) // others answer 400 to control characters in a header
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	for _, c := range []struct {
		name string
		args []string
		want int
	}{
		{"json", []string{"-o", "json", "--limit=7"}, 7},
		{"status", []string{"-o", "json", "--status=500", "--limit=3"}, 3},
		{"slower", []string{"-o", "json", "--slower=40ms", "--limit=3"}, 3},
		{"text", []string{"--limit=7"}, 7},  // 80 columns, as on a terminal
		{"whole", []string{"--limit=7"}, 7}, // into a pipe: paths are not cut
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := command(t, append([]string{"trace", "--web.socket=" + a.Socket}, c.args...)...)
			if c.name == "text" {
				cmd.Env = append(cmd.Env, "COLUMNS=80")
			}
			var out, errOut bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errOut
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			b := newBook(t, a)
			// The command subscribes at a time of its own: keep making exchanges until it has its number.
			var err error
			over := until(servers.Slow(15*time.Second), func() bool {
				for _, target := range []string{"/fast", "/sleep/50", "/status/500"} {
					b.each(s, 1, client.Request{Target: target, Header: []string{"User-Agent: \x1b[31m"}})
				}
				select {
				case err = <-ended:
					return true
				default:
					return false
				}
			})
			if !over {
				cmd.Process.Kill()
				<-ended
			}
			if err != nil || !over {
				t.Fatalf("ended: %t, %v: %s", over, err, errOut.String())
			}
			checkTrace(t, c.name, c.want, out.String())
		})
	}
}

func checkTrace(t *testing.T, name string, want int, output string) {
	t.Helper()
	if i := strings.IndexFunc(output, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' }); i >= 0 {
		t.Errorf("control character at byte %d of %.300q", i, output)
	}
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if name == "text" || name == "whole" {
		const header = 2
		if len(lines) != header+want || !strings.Contains(output, "/fast") {
			t.Errorf("expected a header and %d lines, got: %s", want, output)
		}
		for _, line := range lines {
			if name == "text" && utf8.RuneCountInString(line) > 80 {
				t.Errorf("more than 80 columns: %s", line)
			}
		}
		if name == "whole" && !strings.Contains(output, "//test.example/sleep/50") {
			t.Errorf("a client's path is cut: %s", output)
		}
		return
	}
	if len(lines) != want {
		t.Errorf("expected %d lines, got %d", want, len(lines))
	}
	for _, line := range lines {
		var e agent.Exchange
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if name == "status" && e.Status != 500 || name == "slower" && orMissing(e.DurationNS) < int64(40*time.Millisecond) {
			t.Errorf("the filter %s lets pass: %s", name, line)
		}
	}
}

// check and version answer, with an exit code of the contract.
func TestE2ECheckAndVersion(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	stdout, stderr, code := run(t, command(t, "check"))
	if code != 0 && code != 3 {
		t.Errorf("check: exit code %d: %s", code, stderr)
	}
	for _, word := range []string{"tracepoint", "fentry", "kprobe", "syscall", "BTF"} {
		if !strings.Contains(stdout, word) {
			t.Errorf("check does not speak of %s: %s", word, stdout)
		}
	}
	stdout, stderr, _ = run(t, command(t, "check", "-o", "json"))
	var report struct {
		Host struct {
			Hooks []struct {
				Name, Reason string
				Available    bool
			}
		}
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || len(report.Host.Hooks) < 9 {
		t.Errorf("check -o json: %v, %s %s", err, stdout, stderr)
	}
	for _, h := range report.Host.Hooks {
		if !h.Available { // on every kernel that is tested
			t.Errorf("%s is missing: %s", h.Name, h.Reason)
		}
	}
	stdout, stderr, code = run(t, command(t, "version"))
	if code != 0 || !strings.Contains(stdout, "go1.") {
		t.Errorf("version: exit code %d: %s %s", code, stdout, stderr)
	}
}

// A real Prometheus scrapes the agent, once with native histograms and once with classic ones, and answers the right
// count and quantile. promtool finds nothing to complain about in the metrics.
func TestE2EPrometheus(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	s := startServer(t, servers.Options{Kind: servers.Go})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	b := newBook(t, a)
	b.each(s, 101, client.Request{Target: "/sleep/20"})
	b.check()
	b.settle(s)
	lint(t, a)
	selector := fmt.Sprintf(`{http_request_method="GET",http_response_status_code="200",http_route=~"/sleep/.*"}`)
	for _, c := range []struct {
		name, count, quantile string
		args                  []string
		low, high             float64
	}{
		{"native", "histogram_count(http_server_request_duration_seconds" + selector + ")",
			"histogram_quantile(0.5, http_server_request_duration_seconds" + selector + ")",
			[]string{"--enable-feature=native-histograms"}, 0.0195, 0.024},
		{"classic", "http_server_request_duration_seconds_count" + selector,
			"histogram_quantile(0.5, http_server_request_duration_seconds_bucket" + selector + ")", nil, 0.01, 0.025},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := startPrometheus(t, a, c.args...)
			p.expect(t, "sum("+c.count+")", 101, 101)
			p.expect(t, "sum by () ("+c.quantile+")", c.low, c.high)
			p.expect(t, `sum(perfagent_exchanges_total{role="server"})`, 102, 102)
			p.expect(t, `sum(perfagent_exchanges_lost_total)`, 0, 0)
		})
	}
}

// lint runs promtool over the agent's metrics.
func lint(t *testing.T, a *agent.Agent) {
	t.Helper()
	text, err := a.Get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if output, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(output)) > 0 {
		t.Errorf("promtool check metrics: %v: %s", err, output)
	}
}

// An agent that sees nothing says why that probably is, and then that it has seen the first exchange.
func TestE2EFirstExchange(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, NoTrace: true})
	said := func(want string) {
		t.Helper()
		if !until(servers.Slow(30*time.Second), func() bool { return strings.Contains(a.Log(), want) }) {
			t.Errorf("%q is missing in %s", want, a.Log())
		}
	}
	said("exchanges: none in the first 10 s: no HTTP request in clear was made to or by what is watched. " +
		fmt.Sprintf("If that is a web server, this makes one: curl http://127.0.0.1:%d/", s.Port))
	if strings.Contains(a.Log(), "the first was seen") {
		t.Errorf("what was not there was seen: %s", a.Log())
	}
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/fast", s.Port))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	said("exchanges: the first was seen after ")
	stdout, stderr, _ := run(t, command(t, "check", fmt.Sprintf("--capture.port=%d", freePort(t))))
	if !strings.Contains(strings.Join(strings.Fields(stdout), " "), "nothing listens on port ") {
		t.Errorf("check: %s%s", stdout, stderr)
	}
}
