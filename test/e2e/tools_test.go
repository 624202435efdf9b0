package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

// accessLog counts the lines of nginx' own log by status; "" where nginx found the client gone and sent nothing.
func accessLog(t *testing.T, s *servers.Server) map[string]int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 7 {
			continue // being written
		}
		status := fields[2]
		if fields[len(fields)-1] == "0" {
			status = ""
		}
		counts[status]++
	}
	return counts
}

// missing skips where a tool may be missing, and fails where it must not.
func missing(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err == nil {
		return
	} else if os.Getenv("PERFAGENT_TEST_PARTIAL") != "" {
		t.Skip(err)
	} else {
		t.Fatal(err)
	}
}

// wrk at full rate for two seconds: the agent's count is that of nginx' own access log, status by status.
func TestE2EAccessLog(t *testing.T) {
	requireRoot(t)
	missing(t, "wrk")
	s := startServer(t, servers.Options{Kind: servers.Nginx})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, NoTrace: true})
	const connections = 16
	for _, path := range []string{"/fast", "/status/404", "/bytes/2000"} {
		cmd := exec.Command("wrk", "-t1", fmt.Sprintf("-c%d", connections), "-d1s", "http://"+s.Address+path)
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("wrk: %v: %s", err, output)
		}
	}
	const name = "http_server_request_duration_seconds_count"
	var m agent.Metrics
	var want map[string]int
	equal := until(visibleTimeout, func() bool {
		var err error
		if m, err = a.Metrics(); err != nil {
			t.Fatal(err)
		}
		want = accessLog(t, s)
		all := 0
		for _, count := range want {
			all += count
		}
		// The last records of the client's end may come a moment later.
		clients := int(m.Sum("perfagent_exchanges_total", "role", "client"))
		return int(m.Sum(name)) == all && clients >= all
	})
	for status, count := range want {
		if got := int(m.Sum(name, "http_response_status_code", status)); got != count {
			t.Errorf("status %q: nginx logged %d, the agent counts %d", status, count, got)
		}
	}
	server, clients := int(m.Sum("perfagent_exchanges_total", "role", "server")), int(m.Sum("perfagent_exchanges_total", "role", "client"))
	if !equal || len(m.Lost()) > 0 {
		t.Errorf("nginx logged %v, the agent counts %d; lost %v", want, server, m.Lost())
	}
	// wrk leaves its last requests unread when its time is over, and nginx may never have read them.
	if clients < server || clients > server+3*connections {
		t.Errorf("client exchanges: expected %d to %d, got %d", server, server+3*connections, clients)
	}
}

// curl: GET, HEAD, HTTP/1.0, and an upload that waits for 100 Continue.
func TestE2ECurl(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	missing(t, "curl")
	s := startServer(t, servers.Options{Kind: servers.Go})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	b := newBook(t, a)
	file := writeFile(t, "upload", strings.Repeat("u", 2_000_003))
	url := "http://" + s.Address
	for _, c := range []struct {
		args []string
		want expectation
	}{
		{[]string{url + "/fast"}, expectation{method: "GET", path: "/fast", status: 200, responseSize: 2}},
		{[]string{"-I", url + "/fast"}, expectation{method: "HEAD", path: "/fast", status: 200}},
		{[]string{"--http1.0", url + "/fast"}, expectation{method: "GET", path: "/fast", status: 200, responseSize: 2, protocol: "http/1.0"}},
		{[]string{"-T", file, url + "/upload"}, expectation{method: "PUT", path: "/upload", status: 200, requestSize: 2_000_003, responseSize: 7}},
		{[]string{"--data-binary", "@" + file, url + "/upload"}, expectation{method: "POST", path: "/upload", status: 200, requestSize: 2_000_003, responseSize: 7}},
		{[]string{url + "/status/404"}, expectation{method: "GET", path: "/status/404", status: 404}},
	} {
		id := b.id()
		args := append([]string{"-sS", "-o", "/dev/null", "-H", "X-Request-Id: " + id}, c.args...)
		began := time.Now()
		if output, err := exec.Command("curl", args...).CombinedOutput(); err != nil {
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatal(err)
			}
			t.Fatalf("curl %v: %v: %s", c.args, err, output)
		}
		want := c.want
		want.id, want.role, want.port, want.maxNS = id, "server", s.Port, int64(time.Since(began))
		if want.protocol == "" {
			want.protocol = "http/1.1"
		}
		b.expectBoth(want)
		b.want[len(b.want)-1].pid = 0 // curl's, which is gone
	}
	b.check()
	for _, e := range b.mine(a) {
		if e.Role == "client" && e.Comm != "curl" {
			t.Errorf("comm of the client: %q", e.Comm)
		}
	}
	b.settle(s)
	balance(t, a, b)
}
