package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/clock"
	"github.com/perfagent/perfagent/test/servers"
)

// expectation is one exchange as one end of it must be reported.
type expectation struct {
	id, role  string
	port      int // of the server; 0 for Unix sockets
	pid       int // 0: any
	protocol  string
	method    string
	path      string // empty: any
	status    int
	errorType string
	anyError  bool // error_type may be anything
	anySize   bool

	requestSize, responseSize int64

	minNS, maxNS int64 // of the duration; maxNS 0: not compared
	mayLackStart bool  // the duration may be missing
}

func (e expectation) key() string { return fmt.Sprintf("%s %s :%d", e.id, e.role, e.port) }

// difference returns what an exchange has else than expected.
func (e expectation) difference(got agent.Exchange) string {
	var d []string
	compare := func(name string, want, got any) {
		if want != got {
			d = append(d, fmt.Sprintf("%s: expected %v, got %v", name, want, got))
		}
	}
	compare("protocol", e.protocol, got.Protocol)
	compare("status_code", e.status, got.Status)
	if got.Method != e.method && got.Method != "_OTHER" || slices.Contains(knownMethods, e.method) {
		compare("method", e.method, got.Method)
	}
	if e.path != "" {
		compare("path", e.path, got.Path)
	}
	if e.pid != 0 {
		compare("pid", e.pid, got.PID)
	}
	if !e.anyError {
		compare("error_type", e.errorType, got.ErrorType)
	}
	if !e.anySize {
		compare("request_size_bytes", e.requestSize, orMissing(got.RequestSize))
		compare("response_size_bytes", e.responseSize, orMissing(got.ResponseSize))
	}
	if duration := orMissing(got.DurationNS); e.maxNS != 0 && (got.DurationNS != nil || !e.mayLackStart) && (duration < e.minNS || duration > e.maxNS) {
		d = append(d, fmt.Sprintf("duration_ns: expected %d to %d, got %d", e.minNS, e.maxNS, duration))
	}
	return strings.Join(d, "; ")
}

// knownMethods are reported as they are; others may be _OTHER.
var knownMethods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

func orMissing(v *int64) int64 {
	if v == nil {
		return -1
	}
	return *v
}

// book is what one test expects of one agent. Exchanges are told apart by their X-Request-Id, so that several
// workloads share an agent.
type book struct {
	t      *testing.T
	agents []*agent.Agent
	prefix string
	next   int
	want   []expectation
	ports  []int // that this book's clients talk to
}

// newBook opens a book. Workloads that share an agent have books of their own.
func newBook(t *testing.T, agents ...*agent.Agent) *book {
	return &book{t: t, agents: agents, prefix: fmt.Sprintf("%08x", rand.Uint32())}
}

// id returns a request id that no other exchange has.
func (b *book) id() string {
	b.next++
	return fmt.Sprintf("%s-%d", b.prefix, b.next)
}

// lastID returns the id that was given out last.
func (b *book) lastID() string { return fmt.Sprintf("%s-%d", b.prefix, b.next) }

func (b *book) dial(s *servers.Server, options client.Options) *client.Conn {
	b.t.Helper()
	options.Network, options.Address = s.Network, s.Address
	if options.Timeout == 0 {
		options.Timeout = servers.Slow(20 * time.Second)
	}
	conn, err := client.Dial(options)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return conn
}

// do makes one exchange, which must succeed, and expects it at both ends.
func (b *book) do(conn *client.Conn, s *servers.Server, r client.Request) client.Result {
	b.t.Helper()
	r.ID = b.id()
	result, err := conn.Do(r)
	if err != nil {
		b.t.Fatalf("%s %s to %s: %v; server: %s", r.Method, r.Target, s.Kind, err, s.Log())
	}
	b.expect(conn, s, result)
	return result
}

// fast makes count exchanges on a connection of their own and closes it.
func (b *book) fast(s *servers.Server, count int) {
	b.t.Helper()
	conn := b.dial(s, client.Options{})
	defer conn.Close()
	for range count {
		b.do(conn, s, client.Request{})
	}
}

// pipeline makes the exchanges with one write.
func (b *book) pipeline(conn *client.Conn, s *servers.Server, requests []client.Request) {
	b.t.Helper()
	for i := range requests {
		requests[i].ID = b.id()
	}
	results, err := conn.Pipeline(requests)
	if err != nil {
		b.t.Fatalf("pipelining %d to %s: %v", len(requests), s.Kind, err)
	}
	for _, result := range results {
		b.expect(conn, s, result)
	}
}

// expect adds a completed exchange at both ends.
func (b *book) expect(conn *client.Conn, s *servers.Server, r client.Result) {
	e := expected(r, s)
	ops := conn.Ops()
	sent, received := ops.SpanAt(true, r.RequestStart), ops.SpanAt(false, r.End-1)
	if sent.Known() && received.Known() {
		e.maxNS = received.After - sent.Before + int64(time.Millisecond)
	}
	if ms, ok := strings.CutPrefix(e.path, "/sleep/"); ok {
		n, _ := strconv.Atoi(ms)
		e.minNS = int64(n) * int64(time.Millisecond) * 98 / 100 // timers of some runtimes end early
	}
	b.expectBoth(e)
}

// expected returns the server end of a completed exchange.
func expected(r client.Result, s *servers.Server) expectation {
	e := expectation{id: r.ID, role: "server", port: s.Port, protocol: "http/1.1", method: r.Method, status: r.Status,
		requestSize: r.RequestBodySize, responseSize: r.BodySize}
	if e.method == "" {
		e.method = "GET"
	}
	if r.Proto == "HTTP/1.0" {
		e.protocol = "http/1.0"
	}
	e.path, _, _ = strings.Cut(r.Target, "?")
	switch {
	case r.Target == "":
		e.path = "/fast"
	case !strings.HasPrefix(r.Target, "/"):
		e.path = "" // absolute and authority form are compared where they are tested
	}
	return e
}

// expectBoth adds both ends; e is the server's.
func (b *book) expectBoth(e expectation) {
	server, ours := e, e
	ours.role, ours.pid = "client", os.Getpid()
	if e.status >= 500 {
		server.errorType = strconv.Itoa(e.status)
	}
	if e.status >= 400 {
		ours.errorType = strconv.Itoa(e.status)
	}
	b.want = append(b.want, server, ours)
}

// expectUnanswered adds both ends of an exchange without a response.
func (b *book) expectUnanswered(r client.Request, s *servers.Server, errorType string) {
	e := expected(client.Result{Request: r}, s)
	e.errorType, e.anySize = errorType, true
	b.want = append(b.want, e)
	e.role, e.pid = "client", os.Getpid()
	b.want = append(b.want, e)
}

// check waits until every agent shows what is expected, and then that it shows nothing else.
func (b *book) check() {
	b.t.Helper()
	b.checkWithin(visibleTimeout)
}

func (b *book) checkWithin(timeout time.Duration) {
	b.t.Helper()
	for _, a := range b.agents {
		until(timeout, func() bool { return len(b.mine(a)) >= len(b.want) })
		b.compare(a)
	}
}

// mine returns the agent's exchanges that belong to this book.
func (b *book) mine(a *agent.Agent) []agent.Exchange {
	var mine []agent.Exchange
	for _, e := range a.Exchanges() {
		if strings.HasPrefix(e.RequestID, b.prefix+"-") {
			mine = append(mine, e)
		}
	}
	return mine
}

func (b *book) compare(a *agent.Agent) {
	b.t.Helper()
	got := map[string][]agent.Exchange{}
	for _, e := range b.mine(a) {
		key := expectation{id: e.RequestID, role: e.Role, port: e.ServerPort}.key()
		got[key] = append(got[key], e)
	}
	var problems []string
	for _, want := range b.want {
		found := got[want.key()]
		delete(got, want.key())
		name := fmt.Sprintf("%s %s %s", want.key(), want.method, want.path)
		switch {
		case len(found) == 0:
			problems = append(problems, name+": not reported")
		case len(found) > 1:
			problems = append(problems, fmt.Sprintf("%s: reported %d times: %+v", name, len(found), found))
		default:
			if d := want.difference(found[0]); d != "" {
				problems = append(problems, name+": "+d)
			}
		}
	}
	for key, found := range got {
		problems = append(problems, fmt.Sprintf("%s: not expected: %+v", key, found[0]))
	}
	if len(problems) == 0 {
		return
	}
	const most = 12
	text := strings.Join(problems[:min(most, len(problems))], "\n  ")
	b.t.Errorf("expected %d exchanges, got %d (the trace left out %d); %d problems:\n  %s",
		len(b.want), len(b.mine(a)), a.Missed(), len(problems), text)
}

// settle proves that nothing more comes: after a last exchange on a new connection is seen, whatever was queued before
// it has been seen as well. Connections must be closed before.
func (b *book) settle(s *servers.Server) {
	b.t.Helper()
	b.fast(s, 1)
	b.check()
}

// balance checks the agent's counters: every exchange of both roles counted, nothing lost.
func balance(t *testing.T, a *agent.Agent, books ...*book) {
	t.Helper()
	want := map[string]int{}
	for _, b := range books {
		for _, e := range b.want {
			want[e.role]++
		}
	}
	got := map[string]int{}
	var lost []string
	equal := until(visibleTimeout, func() bool {
		m, err := a.Metrics()
		if err != nil {
			lost = []string{err.Error()}
			return false
		}
		lost = m.Lost()
		got["server"] = int(m.Sum("perfagent_exchanges_total", "role", "server"))
		got["client"] = int(m.Sum("perfagent_exchanges_total", "role", "client"))
		return got["server"] == want["server"] && got["client"] == want["client"]
	})
	if !equal || len(lost) > 0 {
		t.Errorf("perfagent_exchanges_total: expected %v, got %v; lost: %v", want, got, lost)
	}
	if bad := a.BadLines(); len(bad) > 0 {
		t.Errorf("trace lines that are not JSON: %q", bad)
	}
}

// elapsed returns the nanoseconds since a clock reading.
func elapsed(from int64) time.Duration { return time.Duration(clock.Now() - from) }
