package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// Every reason of perfagent_exchanges_lost_total is provoked here. The exact number is known from the workload, or, where
// chance decides which exchanges are lost, from the trace: what it does not show must have been counted.

const (
	// inFlight is far more requests at once than the smallest limits allow, and prime.
	inFlight = 211
	// anyNumber of losses, as long as there are some.
	anyNumber = -1
	// fewIdle connections are silent while others lose exchanges.
	fewIdle = 13
)

// losses is how many exchanges must be lost, by reason; anyNumber for one reason alone.
type losses map[string]int

// checkLost waits until everything that the book expects is in the trace or counted as lost, and checks that what is
// shown is right and shown once, and that as many are lost for these reasons as are not shown. Everything that the agent
// has seen must be in the book.
func (b *book) checkLost(want losses) {
	b.t.Helper()
	a := b.agents[0]
	var m agent.Metrics
	until(visibleTimeout, func() bool {
		var err error
		if m, err = a.Metrics(); err != nil {
			b.t.Fatal(err)
		}
		reported := int(m.Sum("perfagent_exchanges_total"))
		return reported+int(m.Sum("perfagent_exchanges_lost_total")) == len(b.want) && len(b.mine(a)) == reported
	})
	shown := map[string]bool{}
	for _, e := range b.mine(a) {
		shown[expectation{id: e.RequestID, role: e.Role, port: e.ServerPort}.key()] = true
	}
	seen := *b
	seen.want = slices.DeleteFunc(slices.Clone(b.want), func(e expectation) bool { return !shown[e.key()] })
	seen.compare(a)

	missing := len(b.want) - len(seen.want)
	total := 0
	for reason, n := range want {
		got := int(m.Sum("perfagent_exchanges_lost_total", "reason", reason))
		if n == anyNumber && (got == 0 || got != missing) || n != anyNumber && got != n {
			b.t.Errorf("lost for the reason %s: expected %d, got %d", reason, n, got)
		}
		total += got
	}
	reported, lost := int(m.Sum("perfagent_exchanges_total")), int(m.Sum("perfagent_exchanges_lost_total"))
	if total != missing || lost != missing || reported != len(seen.want) {
		b.t.Errorf("of %d exchanges the trace shows %d (it left out %d); counted: reported %d, lost %d: %v",
			len(b.want), len(seen.want), a.Missed(), reported, lost, m.Lost())
	}
}

// openRequests makes count connections and has one unanswered request on each.
func openRequests(t *testing.T, b *book, s *servers.Server, count int, target string) ([]*client.Conn, []client.Request) {
	t.Helper()
	conns, requests := make([]*client.Conn, count), make([]client.Request, count)
	for i := range conns {
		conns[i] = b.dial(s, client.Options{})
		requests[i] = client.Request{ID: b.id(), Target: target}
		if _, err := conns[i].Write(requests[i].Head()); err != nil {
			t.Fatal(err)
		}
	}
	return conns, requests
}

// manyAtOnce has many requests in flight at once, and then answers all of them.
func (b *book) manyAtOnce(s *servers.Server) {
	b.t.Helper()
	conns, requests := openRequests(b.t, b, s, inFlight, "/sleep/500")
	for _, conn := range conns { // a slow server still reads when the first response is there
		awaitRead(b.t, conn, s)
	}
	for i, conn := range conns {
		response, err := conn.ReadResponse("GET")
		if err != nil {
			b.t.Fatal(err)
		}
		b.expect(conn, s, client.Result{Request: requests[i], Response: response})
		conn.Close()
	}
}

// silent makes count connections with one exchange each and waits until all are reported: from swept copies, as the
// connections stay open and silent.
func (b *book) silent(s *servers.Server, count int) []*client.Conn {
	b.t.Helper()
	conns := make([]*client.Conn, count)
	for i := range conns {
		conns[i] = b.dial(s, client.Options{})
		b.do(conns[i], s, client.Request{})
	}
	b.check()
	return conns
}

// More connections at once than the kernel side has room for: those beyond it are counted as lost, one by one.
func TestE2ELossConnections(t *testing.T) {
	s := startServer(t, servers.Options{Kind: servers.Raw})
	const room = 64
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{fmt.Sprint("--limits.connections=", room)}})
	b := newBook(t, a)
	b.manyAtOnce(s)
	b.checkLost(losses{"map_full": 2*inFlight - room})
}

// More requests in flight than the kernel side keeps heads for: the displaced ones are counted. Of connections that were
// silent meanwhile, what had been reported is not counted as lost as well.
func TestE2ELossHeads(t *testing.T) {
	s := startServer(t, servers.Options{Kind: servers.Raw})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{"--limits.heads=64"}})
	b := newBook(t, a)
	idle := b.silent(s, fewIdle)
	b.manyAtOnce(s)
	for _, conn := range idle {
		b.do(conn, s, client.Request{})
		conn.Close()
	}
	b.checkLost(losses{"evicted": anyNumber})
}

// A stopped agent cannot drain a small ring buffer: what does not fit is counted, and after it all is well again. Of
// connections that were silent before, what had been reported is not counted as lost as well.
func TestE2ELossRing(t *testing.T) {
	s := startServer(t, servers.Options{Kind: servers.Raw})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{"--capture.ring-bytes=65536"}})
	b := newBook(t, a)
	idle := b.silent(s, fewIdle)
	if err := a.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Signal(syscall.SIGCONT) })
	b.fast(s, 1009)
	for _, conn := range idle {
		b.do(conn, s, client.Request{})
		conn.Close()
	}
	if err := a.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.checkLost(losses{"ring_full": anyNumber})
	after := newBook(t, a)
	after.fast(s, 101)
	after.check()
}

// A worker that is held up lets the queue and then half of the ring buffer fill: batches are dropped, each of their
// exchanges is counted, and after it all is well again. Of connections that were silent before, what had been reported is
// not counted as lost as well.
func TestE2ELossQueue(t *testing.T) {
	s := startServer(t, servers.Options{Kind: servers.Raw})
	hold := filepath.Join(t.TempDir(), "hold")
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{"--capture.ring-bytes=65536"},
		Env: []string{"PERFAGENT_HOLD_WORKER=" + hold}})
	b := newBook(t, a)
	idle := b.silent(s, fewIdle)
	if err := os.WriteFile(hold, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// A request every few milliseconds: the queue is full of small batches soon, and few exchanges are lost.
	loads := b.dial(s, client.Options{})
	dropping := func() bool { return strings.Contains(a.Log(), "dropping exchanges") }
	if !until(servers.Slow(30*time.Second), func() bool { b.do(loads, s, client.Request{Target: "/sleep/2"}); return dropping() }) {
		t.Fatal("the agent drops nothing")
	}
	for _, conn := range idle {
		b.do(conn, s, client.Request{})
		conn.Close()
	}
	for range 307 { // two records each, more than half the ring buffer: the next batch is dropped as well
		b.do(loads, s, client.Request{Target: "/sleep/2"})
	}
	loads.Close()
	if err := os.Remove(hold); err != nil {
		t.Fatal(err)
	}
	b.checkLost(losses{"queue_full": anyNumber})
	after := newBook(t, a)
	after.fast(s, 101)
	after.check()
}

// A response that is not HTTP is counted as a loss of parsing, once at each end, and disturbs nothing else.
func TestE2ELossParse(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Raw})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	b := newBook(t, a)
	const count = 7
	conns, requests := openRequests(t, b, s, count, "/garbage")
	for i, conn := range conns {
		if _, err := conn.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		b.expectUnanswered(requests[i], s, "")
	}
	b.fast(s, 101)
	b.checkLost(losses{"parse": 2 * count})
}

// A response written from memory that is not mapped yet cannot be read where it is handed over: the server's end is
// lost as unreadable, or known from elsewhere and right; the client's end is reported in any case.
func TestE2ELossUnmapped(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Raw})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	b := newBook(t, a)
	const count = 13
	b.each(s, count, client.Request{Target: "/unmapped"})
	b.fast(s, 101)
	lost := count
	if os.Getenv("PERFAGENT_BACKEND") == "syscall" {
		lost = 0 // the call has faulted the page in before it returns
	}
	b.checkLost(losses{"unreadable": lost})
}

// Heads sent from a file were never in the process's memory, with any backend: a response and a request whose head is
// one are lost at the sending end, exactly, and reported at the other.
func TestE2ELossUnreadable(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Raw})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	b := newBook(t, a)
	const responses, requests = 13, 7
	b.each(s, responses, client.Request{Target: "/file"})
	conn := b.dial(s, client.Options{})
	b.do(conn, s, client.Request{}) // it has spoken HTTP
	for range requests {
		r := client.Result{Request: client.Request{ID: b.id()}, RequestStart: conn.Sent()}
		sendFromFile(t, conn, r.Head())
		var err error
		if r.Response, err = conn.ReadResponse("GET"); err != nil {
			t.Fatal(err)
		}
		b.expect(conn, s, r)
	}
	b.do(conn, s, client.Request{})
	conn.Close()
	b.checkLost(losses{"unreadable": responses + requests})
}

// sendFromFile sends p with sendfile.
func sendFromFile(t *testing.T, conn *client.Conn, p []byte) {
	t.Helper()
	name := writeFile(t, "request", string(p))
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := conn.SendFile(file, len(p), len(p)); err != nil {
		t.Fatal(err)
	}
}

// A request behind a body whose length stands behind what is captured of its head is not recognised: its response is the
// loss, at both ends, and the next exchange is well again.
func TestE2ELossHiddenRequest(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Raw})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	b := newBook(t, a)
	const count = 7
	conn := b.dial(s, client.Options{})
	for range count {
		first := client.Request{Method: "POST", Target: "/upload", ID: b.id(), Body: []byte("abc"),
			Header: []string{"X-Long: " + strings.Repeat("x", 2000)}}
		hidden := client.Request{Target: "/sleep/20", ID: b.id()} // a response of its own, not one with the first
		text := append(append(first.Head(), first.Body...), hidden.Head()...)
		if _, err := conn.Write(text); err != nil {
			t.Fatal(err)
		}
		for _, r := range []client.Request{first, hidden} {
			response, err := conn.ReadResponse(r.Method)
			if err != nil {
				t.Fatal(err)
			}
			e := expected(client.Result{Request: r, Response: response}, s)
			e.anySize = true // the hidden request counts for the body
			b.expectBoth(e)
		}
		b.do(conn, s, client.Request{})
	}
	conn.Close()
	b.checkLost(losses{"desync": 2 * count})
}

// Of an operation longer than 16 KiB on a pipelined connection 1 KiB is captured: the requests in it are reported, those
// behind it are lost, one by one, and the next ones are well again.
func TestE2ELossPipelined(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Raw})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	b := newBook(t, a)
	const size, captured = 128, 1024
	requests := make([]client.Request, inFlight) // 27 KB
	for i := range requests {
		r := client.Request{ID: fmt.Sprintf("%s-%d", b.prefix, i+1000)} // of one length
		r.Header = []string{"X: " + strings.Repeat("x", size-len(r.Head())-len("X: \r\n"))}
		requests[i] = r
	}
	conn := b.dial(s, client.Options{})
	results, err := conn.Pipeline(requests)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		b.expect(conn, s, r)
	}
	b.do(conn, s, client.Request{})
	b.pipeline(conn, s, make([]client.Request, 5))
	conn.Close()
	b.checkLost(losses{"desync": 2 * (inFlight - captured/size)})
}

// More irregular connections at once than user space follows: each request of the others is counted, and once there is
// room again all is well.
func TestE2ELossStreams(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Raw})
	const room, connections, depth = 16, 31, 3
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{fmt.Sprint("--limits.streams=", room)}})
	b := newBook(t, a)
	var conns []*client.Conn
	for range connections { // each is one at both of its ends
		conn := b.dial(s, client.Options{})
		b.pipeline(conn, s, make([]client.Request, depth))
		conns = append(conns, conn)
	}
	b.checkLost(losses{"streams_full": (2*connections - room) * depth})
	for _, conn := range conns {
		conn.Close()
	}
	after := newBook(t, a)
	after.settle(s)
	conn := after.dial(s, client.Options{})
	after.pipeline(conn, s, make([]client.Request, depth))
	conn.Close()
	after.settle(s)
	balanceLost(t, a, len(b.want)+len(after.want), (2*connections-room)*depth)
}

// balanceLost waits until the counters say that so many exchanges happened and so many of them were lost.
func balanceLost(t *testing.T, a *agent.Agent, happened, lost int) {
	t.Helper()
	var m agent.Metrics
	until(visibleTimeout, func() bool {
		m, _ = a.Metrics()
		return int(m.Sum("perfagent_exchanges_total")+m.Sum("perfagent_exchanges_lost_total")) == happened
	})
	if got := int(m.Sum("perfagent_exchanges_total")); got != happened-lost {
		t.Errorf("happened %d: expected %d reported, got %d; lost %v", happened, happened-lost, got, m.Lost())
	}
}
