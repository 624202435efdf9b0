package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/servers"
)

// dashboardLine is where demo says what to open.
var dashboardLine = regexp.MustCompile(`(?m)^dashboard +http://(127\.0\.0\.1:\d+)/$`)

// demoRun is a demo under test.
type demoRun struct {
	*servers.Process
	address   string // of the agent
	temporary string // its directory for temporary files, and nobody else's
	parts     []int  // its processes
}

func startDemo(t *testing.T, args ...string) *demoRun {
	t.Helper()
	requireRoot(t)
	d := &demoRun{temporary: t.TempDir()}
	cmd := command(t, append([]string{"demo"}, args...)...)
	cmd.Env = append(cmd.Env, "TMPDIR="+d.temporary)
	var err error
	if d.Process, err = servers.StartProcess(cmd, filepath.Join(t.TempDir(), "output")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	if !until(servers.Slow(60*time.Second), func() bool {
		found := dashboardLine.FindStringSubmatch(d.Log())
		if found != nil {
			d.address = found[1]
		}
		select {
		case <-d.Done():
			t.Fatalf("the demo ended with code %d: %s", d.ExitCode(), d.Log())
		default:
		}
		return found != nil
	}) {
		t.Fatalf("no address of a dashboard: %s", d.Log())
	}
	d.parts = childrenOf(t, d.PID())
	if len(d.parts) != 7 {
		t.Errorf("%d processes", len(d.parts))
	}
	return d
}

// childrenOf lists the processes that a process has started.
func childrenOf(t *testing.T, pid int) (children []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // ended in the meantime
		}
		var child, parent int
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if _, err := fmt.Sscan(string(fields[1]), &parent); err != nil || parent != pid {
			continue
		}
		if _, err := fmt.Sscan(string(text), &child); err != nil {
			t.Fatal(err)
		}
		children = append(children, child)
	}
	return children
}

// get reads a JSON document of the demo's agent.
func (d *demoRun) get(path string, to any) error {
	response, err := http.Get("http://" + d.address + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(to)
}

// demoView is what of /dashboard the test looks at.
type demoView struct {
	Services []struct {
		Name string `json:"service_name"`
	}
	Endpoints []struct {
		Service string `json:"service_name"`
		Method  string
		Route   string `json:"http_route"`
	}
	Targets []struct {
		Service string `json:"service_name"`
		Address string `json:"server_address"`
		Port    int    `json:"server_port"`
	}
	Findings []json.RawMessage
	Alerts   struct {
		Firing int `json:"firing_total"`
	}
}

// missing says what is not to be seen yet, "" for nothing.
func (v *demoView) missing() string {
	for _, want := range []string{"front GET /products/{id}", "front POST /checkout", "orders POST /orders", "orders GET /orders/{id}",
		"catalogue GET /products/{id}", "payments POST /payments", "payments GET /payments/{id}"} {
		found := false
		for _, e := range v.Endpoints {
			found = found || e.Service+" "+e.Method+" "+e.Route == want
		}
		if !found {
			return want
		}
	}
	called := make(map[string]map[int]bool)
	for _, target := range v.Targets {
		if called[target.Service] == nil {
			called[target.Service] = make(map[int]bool)
		}
		called[target.Service][target.Port] = true
	}
	// Catalogue calls the database, and the cache, which does not speak HTTP.
	for service, calls := range map[string]int{"shoppers": 1, "front": 2, "orders": 3, "catalogue": 1} {
		if len(called[service]) != calls {
			return fmt.Sprintf("calls of %s: %v", service, called[service])
		}
	}
	return ""
}

// perfagent demo shows, at the address that it prints, the services with their learned routes and calls, and begins without a finding; it ends
// by itself and leaves no process, no file and no port behind.
func TestE2EDemo(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--duration="+servers.Slow(25*time.Second).String())
	var view demoView
	var problem string
	if !until(servers.Slow(20*time.Second), func() bool {
		view = demoView{}
		err := d.get("/dashboard?window=1m", &view)
		if problem = view.missing(); err != nil {
			problem = err.Error()
		}
		return problem == ""
	}) {
		t.Errorf("not to be seen: %s: %+v", problem, view)
	}
	if len(view.Findings) > 0 || view.Alerts.Firing > 0 {
		t.Errorf("findings at the start: %s, alerts that fire: %d", view.Findings, view.Alerts.Firing)
	}
	var requests struct{ Requests []json.RawMessage }
	if err := d.get("/requests?kind=slowest", &requests); err != nil || len(requests.Requests) == 0 {
		t.Errorf("no single exchanges: %v", err)
	}
	if log := d.Log(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the agent complains: %s", log)
	}
	select {
	case <-d.Done():
	case <-time.After(servers.Slow(60 * time.Second)):
		t.Fatalf("the demo does not end: %s", d.Log())
	}
	if code := d.ExitCode(); code != 0 || !strings.Contains(d.Log(), "the time is over") {
		t.Errorf("exit code %d: %s", code, d.Log())
	}
	d.nothingLeft(t)
	var ports []string
	for _, target := range view.Targets {
		ports = append(ports, fmt.Sprintf("127.0.0.1:%d", target.Port))
	}
	slices.Sort(ports)
	for _, address := range append(slices.Compact(ports), d.address) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			t.Errorf("something still listens on %s", address)
		}
	}
	if files, err := os.ReadDir(d.temporary); err != nil || len(files) > 0 {
		t.Errorf("files are left: %v %v", files, err)
	}
}

// nothingLeft waits until the demo's processes are gone.
func (d *demoRun) nothingLeft(t *testing.T) {
	t.Helper()
	for _, pid := range d.parts {
		if !until(servers.Slow(10*time.Second), func() bool {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // empty of one that only waits for init
			return err != nil || !strings.Contains(string(text), "\x00demo\x00part\x00")
		}) {
			t.Errorf("process %d is left", pid)
		}
	}
}

// On Ctrl-C the demo ends in order; where it is killed its processes end, too. Several at a time have a port each.
func TestE2EDemoEnds(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		d := startDemo(t)
		if err := d.Signal(signal); err != nil {
			t.Fatal(err)
		}
		select {
		case <-d.Done():
		case <-time.After(servers.Slow(20 * time.Second)):
			t.Fatalf("%s: the demo does not end: %s", signal, d.Log())
		}
		d.nothingLeft(t)
		if signal == syscall.SIGKILL {
			continue
		}
		if code := d.ExitCode(); code != 0 {
			t.Errorf("%s: exit code %d: %s", signal, code, d.Log())
		}
		if files, err := os.ReadDir(d.temporary); err != nil || len(files) > 0 {
			t.Errorf("%s: files are left: %v %v", signal, files, err)
		}
	}
}

// Without privileges the demo says what it needs, and starts nothing.
func TestE2EDemoUnprivileged(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	stdout, stderr, code := run(t, unprivileged(t, nil, "demo", "--duration=20s"))
	if code != 1 || !strings.Contains(stderr, "CAP_BPF") && !strings.Contains(stderr, "CAP_SYS_ADMIN") || !strings.Contains(stderr, "run as root") || stdout != "" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}
