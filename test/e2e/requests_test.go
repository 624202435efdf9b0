package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

// shown is what /requests and the trace show of an exchange, as far as this test looks.
type shown struct {
	Kinds          []string `json:"kinds"`
	Role           string   `json:"role"`
	RequestID      string   `json:"request_id"`
	TraceID        string   `json:"trace_id"`
	SpanID         string   `json:"span_id"`
	UserAgent      string   `json:"user_agent"`
	UserHash       string   `json:"user_hash"`
	ForwardedFor   string   `json:"forwarded_for"`
	ClientAddress  string   `json:"client_address"`
	ClientPort     int      `json:"client_port"`
	ServerAddress  string   `json:"server_address"`
	ServerPort     int      `json:"server_port"`
	Method         string   `json:"method"`
	Path           string   `json:"path"`
	Status         int      `json:"status_code"`
	RequestSize    int64    `json:"request_size_bytes"`
	ResponseSize   int64    `json:"response_size_bytes"`
	DurationNS     int64    `json:"duration_ns"`
	QueueNS        *int64   `json:"queue_ns"`
	ProcessingNS   *int64   `json:"processing_ns"`
	TransferNS     *int64   `json:"transfer_ns"`
	ProtocolSpoken string   `json:"protocol"`
}

// curl sends one request and returns the local port and the number of body bytes.
func curl(t *testing.T, args ...string) (port int, size int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), servers.Slow(10*time.Second))
	defer cancel()
	args = append([]string{"-s", "-o", "/dev/null", "-w", "%{local_port} %{size_download}"}, args...)
	out, err := exec.CommandContext(ctx, "curl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl: %v: %s", err, out)
	}
	if _, err := fmt.Sscan(string(out), &port, &size); err != nil {
		t.Fatalf("curl: %v: %s", err, out)
	}
	return port, size
}

// followTrace collects the raw lines of the agent's trace until stop is called.
func followTrace(t *testing.T, a *agent.Agent) (stop func() string) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", a.Socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/trace", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1)
	go func() {
		defer response.Body.Close()
		var all strings.Builder
		for s := bufio.NewScanner(response.Body); s.Scan(); {
			all.WriteString(s.Text() + "\n")
		}
		lines <- all.String()
	}()
	return func() string {
		cancel()
		return <-lines
	}
}

var digits = regexp.MustCompile(`[0-9]+`)

// What curl sends is exactly what /requests and the trace show of both ends: identifiers, user agent, addresses, ports and
// sizes, with the claimed client beside the real one; users as hashes; failures among the failed. The values of all other
// headers, and the query, are nowhere.
func TestE2ERequests(t *testing.T) {
	t.Parallel()
	const (
		secret    = "c3VwZXItc2VjcmV0"
		user      = "alice-4711@example.com"
		traceID   = "4bf92f3577b34da6a3ce929d0e0e4736"
		spanID    = "00f067aa0ba902b7"
		userAgent = "e2e-requests/1.0 (test)"
	)
	s := startServer(t, servers.Options{Kind: servers.Nginx})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{"--trace.user-header=X-User-Id", "--trace.raw-paths=false"}, NoTrace: true})
	stop := followTrace(t, a)
	common := []string{"-A", userAgent, "-H", "Authorization: Bearer " + secret, "-H", "Cookie: session=" + secret, "-H", "X-Api-Key: " + secret}
	parent := "traceparent: 00-" + traceID + "-" + spanID + "-01"
	cases := []struct {
		target, user string
		args         []string
		want         shown // what is expected beside what is the same for all
	}{
		{"/fast", user, []string{"-H", "X-Request-Id: e2e-1", "-H", parent, "-H", "X-Forwarded-For: 203.0.113.7, 10.0.0.1"},
			shown{RequestID: "e2e-1", TraceID: traceID, SpanID: spanID, ForwardedFor: "203.0.113.7", Status: 200}},
		{"/bytes/2000", user, []string{"-H", parent, "-H", `Forwarded: by="x;y";for="[2001:db8:cafe::17]:4711", for=10.0.0.1`},
			shown{RequestID: traceID, TraceID: traceID, SpanID: spanID, ForwardedFor: "2001:db8:cafe::17", Status: 200}},
		{"/status/404", user, []string{"-H", "X-Request-Id: e2e-3", "-H", "traceparent: ff-" + traceID + "-" + spanID + "-01", "-H", "X-Forwarded-For: " + secret},
			shown{RequestID: "e2e-3", Status: 404}},
		{"/status/500", "bob", []string{"-H", "X-Request-Id: e2e-4", "-H", parent, "-H", parent},
			shown{RequestID: "e2e-4", Status: 500}},
		{"/fast", "bob", nil, shown{Status: 200}}, // an identifier made by the agent
	}
	for i := range cases {
		c := &cases[i]
		target := fmt.Sprintf("http://%s%s?token=%s", s.Address, c.target, secret)
		c.want.ClientPort, c.want.ResponseSize = curl(t, slices.Concat([]string{target, "-H", "x-user-id: " + c.user}, common, c.args)...)
		c.want.UserAgent, c.want.Method, c.want.ProtocolSpoken = userAgent, "GET", "http/1.1"
		c.want.Path = digits.ReplaceAllString(c.target, "{id}") // masked on both sides
		c.want.ClientAddress, c.want.ServerAddress, c.want.ServerPort = "127.0.0.1", "127.0.0.1", s.Port
	}
	all := waitRequests(t, a, len(cases)*2)
	made, hashes := map[string]bool{}, map[string]string{}
	for _, role := range []string{"server", "client"} {
		for _, c := range cases {
			got := find(t, all, role, c.want.ClientPort)
			checkTimes(t, got)
			if c.want.RequestID == "" {
				if len(got.RequestID) < 16 || made[got.RequestID] {
					t.Errorf("%s: made request id %q", role, got.RequestID)
				}
				made[got.RequestID] = true
				c.want.RequestID = got.RequestID
			}
			if hash := hashes[c.user]; len(got.UserHash) != 16 || hash != "" && hash != got.UserHash {
				t.Errorf("%s of %s: user hash %q, before %q", role, c.user, got.UserHash, hash)
			}
			hashes[c.user] = got.UserHash
			checkKinds(t, got)
			c.want.Role, c.want.Kinds, c.want.UserHash = role, got.Kinds, got.UserHash
			c.want.DurationNS, c.want.QueueNS, c.want.ProcessingNS, c.want.TransferNS = got.DurationNS, got.QueueNS, got.ProcessingNS, got.TransferNS
			if !reflect.DeepEqual(*got, c.want) {
				t.Errorf("%s %s:\n%+v, expected\n%+v", role, c.target, *got, c.want)
			}
		}
	}
	if hashes[user] == hashes["bob"] {
		t.Error("two users have one hash")
	}
	trace := stop()
	checkTraced(t, trace, all)
	everything := map[string]string{"trace": trace, "log": a.Log()}
	for _, page := range []string{"/requests?limit=1000", "/metrics", "/"} {
		text, err := a.Get(page)
		if err != nil {
			t.Fatal(err)
		}
		everything[page] = text
	}
	for where, text := range everything {
		for _, hidden := range []string{secret, user, "token=", "session="} {
			if strings.Contains(text, hidden) {
				t.Errorf("%q is in %s", hidden, where)
			}
		}
	}
}

// waitRequests returns what /requests shows once it shows n exchanges.
func waitRequests(t *testing.T, a *agent.Agent, n int) []*shown {
	t.Helper()
	var document struct{ Requests []*shown }
	var text string
	if !until(visibleTimeout, func() bool {
		var err error
		if text, err = a.Get("/requests?limit=1000"); err != nil {
			t.Fatal(err)
		}
		document.Requests = nil
		if err := json.Unmarshal([]byte(text), &document); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return len(document.Requests) >= n
	}) || len(document.Requests) != n {
		t.Fatalf("expected %d exchanges: %s", n, text)
	}
	return document.Requests
}

func find(t *testing.T, all []*shown, role string, port int) *shown {
	t.Helper()
	for _, s := range all {
		if s.Role == role && s.ClientPort == port {
			return s
		}
	}
	t.Fatalf("no exchange of the %s with port %d", role, port)
	return nil
}

// checkTimes: the phases are there, as far as the role has them, and none is longer than the whole.
func checkTimes(t *testing.T, s *shown) {
	t.Helper()
	sum := orMissing(s.ProcessingNS) + orMissing(s.TransferNS)
	if s.Role == "server" {
		sum += orMissing(s.QueueNS)
	}
	if s.ProcessingNS == nil || s.TransferNS == nil || (s.QueueNS == nil) != (s.Role == "client") || s.DurationNS <= 0 || sum > s.DurationNS {
		t.Errorf("%s: duration %d, queue %v, processing %v, transfer %v", s.Role, s.DurationNS, s.QueueNS, s.ProcessingNS, s.TransferNS)
	}
}

// checkKinds: of so few, all are among the slowest, and of the kind that their status says.
func checkKinds(t *testing.T, s *shown) {
	t.Helper()
	want := map[int]string{200: "slowest sample", 404: "slowest client_error", 500: "failed slowest"}[s.Status]
	if got := strings.Join(s.Kinds, " "); got != want {
		t.Errorf("%d is among %s, expected %s", s.Status, got, want)
	}
}

// checkTraced: the trace shows the same of each exchange as /requests.
func checkTraced(t *testing.T, trace string, all []*shown) {
	t.Helper()
	traced := 0
	for line := range strings.Lines(trace) {
		var s shown
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		kept := find(t, all, s.Role, s.ClientPort)
		s.Kinds = kept.Kinds
		if !reflect.DeepEqual(s, *kept) {
			t.Errorf("the trace shows\n%+v, /requests\n%+v", s, *kept)
		}
		traced++
	}
	if traced != len(all) {
		t.Errorf("%d exchanges traced, expected %d", traced, len(all))
	}
}
