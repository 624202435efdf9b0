package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// hostile are request heads that no friendly client sends.
func hostile() []string {
	long := strings.Repeat("x", 64<<10)
	heads := []string{
		"GET /\x00nul HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /\x1b[31mred\x07 HTTP/1.1\r\nHost: \x1b]0;title\x07\r\nUser-Agent: \x1b[2J\r\n\r\n",
		"GET /\xff\xfe\xc0\x80 HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /fast HTTP/1.1\r\nX-Long: " + long + "\r\nHost: a\r\n\r\n",
		"GET /" + long + " HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /fast HTTP/9.9\r\n\r\n", "GET  /fast  HTTP/1.1\r\n\r\n", "GET /fast HTTP/1.1", "GET", " ", "\r\n\r\n", "\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"POST /upload HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"POST /upload HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"GET /fast HTTP/1.1\r\nX-Request-Id: a\"b\\c\x01\r\nHost: a\r\n\r\n",
	}
	whole := "GET /fast?cut HTTP/1.1\r\nHost: a\r\nX-Request-Id: cut\r\n\r\n"
	for i := 1; i < len(whole); i += 3 {
		heads = append(heads, whole[:i])
	}
	return heads
}

// Hostile heads leave the agent alive, nobody else's exchanges lost, and no raw control character in its output.
func TestE2EBadInput(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	running, ports := startKinds(t, []servers.Kind{servers.Nginx, servers.Go, servers.Raw})
	a := startAgent(t, agent.Options{Ports: ports})
	b := newBook(t, a)
	for _, s := range running {
		b.fast(s, 7)
		for _, text := range hostile() {
			conn := b.dial(s, client.Options{Timeout: time.Second})
			conn.Write([]byte(text)) // the server may close first
			if strings.HasSuffix(text, "\r\n\r\n") && s.Kind == servers.Nginx {
				conn.ReadResponse("GET") // any answer, or none
			}
			conn.Close()
		}
		b.fast(s, 101)
	}
	b.check()
	isControl := func(r rune) bool { return r != '\n' && unicode.IsControl(r) }
	for _, e := range a.Exchanges() { // decoded: an escape of JSON's own does not count
		if shown := e.Path + e.Method + e.Route + e.Service + e.RequestID; strings.ContainsFunc(shown, isControl) {
			t.Errorf("control character in %+q", shown)
		}
	}
	if text, err := a.Get("/metrics"); err != nil || strings.ContainsFunc(text, isControl) {
		t.Errorf("control character in the metrics, or none: %v", err)
	}
	for _, line := range a.BadLines() {
		t.Error("trace line is not JSON:", line)
	}
	if _, err := a.Metrics(); err != nil {
		t.Error(err)
	}
}

// Many distinct names are one endpoint, and many distinct words are as many as the limit allows, the rest in _OTHER: every
// exchange is counted all the same.
func TestE2EManyPaths(t *testing.T) {
	s := startServer(t, servers.Options{Kind: servers.Nginx})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{"--limits.endpoints=53"}, NoTrace: true})
	const clients, each = 4, 5003
	sent := 0
	expect := func() (m agent.Metrics) {
		t.Helper()
		if !until(visibleTimeout, func() bool { m, _ = a.Metrics(); return int(m.Sum("perfagent_exchanges_total")) == 2*sent }) {
			t.Errorf("perfagent_exchanges_total: expected %d, got %g; lost %v", 2*sent, m.Sum("perfagent_exchanges_total"), m.Lost())
		}
		if got := int(m.Sum("http_server_request_duration_seconds_count")); got != sent {
			t.Errorf("http_server_request_duration_seconds_count: expected %d, got %d", sent, got)
		}
		if got := m.Sum("perfagent_endpoints"); got < 1 || got > 2*54 {
			t.Errorf("perfagent_endpoints: expected at most 53 in each role, got %g", got)
		}
		return m
	}
	var group sync.WaitGroup
	for c := range clients {
		sent += each
		group.Go(func() { get(t, s, each, func(i int) string { return "/many/" + letters(c*each+i) }) })
	}
	group.Wait()
	m := expect()
	if got := int(m.Sum("http_server_request_duration_seconds_count", "http_route", "/many/{name}")); got < sent*9/10 {
		t.Errorf("/many/{name}: expected nearly %d, got %d", sent, got)
	}
	words := strings.Fields("user order invoice setting role report export token session webhook plan quota")
	get(t, s, len(words)*len(words), func(i int) string {
		return "/many/user/" + words[i%len(words)] + "/" + words[i/len(words)]
	})
	sent += len(words) * len(words)
	m = expect()
	if m.Sum("perfagent_endpoints_overflowed_total") == 0 || !m.Has("http_server_request_duration_seconds_count", "http_route", "_OTHER") {
		t.Error("no overflow into _OTHER")
	}
}

// get requests a number of targets on one connection.
func get(t *testing.T, s *servers.Server, count int, target func(int) string) {
	conn, err := client.Dial(client.Options{Address: s.Address})
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	for i := range count {
		if _, err := conn.Do(client.Request{Target: target(i)}); err != nil {
			t.Error(err)
			return
		}
	}
}

// letters spells n without digits, which a router could take for identifiers.
func letters(n int) string {
	text := []byte("path")
	for ; n > 0; n /= 26 {
		text = append(text, byte('a'+n%26))
	}
	return string(text)
}

// The routes file names the endpoints, in the trace and in the metrics.
func TestE2ERoutes(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	routes := writeFile(t, "routes", "GET /sleep/{ms}\n* /bytes/{n}\nPOST /upload\n")
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{"--routes.file=" + routes}})
	b := newBook(t, a)
	b.each(s, 7, client.Request{Target: "/sleep/1"})
	b.each(s, 5, client.Request{Target: "/bytes/1000"})
	b.each(s, 3, client.Request{Target: "/bytes/2000"})
	b.each(s, 2, client.Request{Method: "POST", Target: "/upload", Size: 10})
	b.check()
	b.settle(s)
	balance(t, a, b)
	m, err := a.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	for route, want := range map[string]float64{"/sleep/{ms}": 7, "/bytes/{n}": 8, "/upload": 2} {
		for _, name := range []string{"http_server_request_duration_seconds_count", "http_server_response_body_size_bytes_count"} {
			if got := m.Sum(name, "http_route", route); got != want {
				t.Errorf("%s{http_route=%q}: expected %g, got %g", name, route, want, got)
			}
		}
		for _, phase := range []string{"queue", "processing", "transfer"} {
			name := "perfagent_http_server_phase_duration_seconds_count"
			if got := m.Sum(name, "http_route", route, "phase", phase); got != want {
				t.Errorf("%s{http_route=%q, phase=%s}: expected %g, got %g", name, route, phase, want, got)
			}
		}
	}
	if got, want := m.Sum("http_server_response_body_size_bytes_sum", "http_route", "/bytes/{n}"), 11000.0; got != want {
		t.Errorf("response bytes of /bytes/{n}: expected %g, got %g", want, got)
	}
	for _, e := range b.mine(a) {
		if e.Role == "server" && strings.HasPrefix(e.Path, "/bytes/") && e.Route != "/bytes/{n}" {
			t.Errorf("route of %s in the trace: %q", e.Path, e.Route)
		}
	}
}
