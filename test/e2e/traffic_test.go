package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// trafficCase is one shape of HTTP/1 traffic and the servers on which it is tried.
type trafficCase struct {
	name  string
	kinds []servers.Kind
	run   func(b *book, s *servers.Server)
}

var (
	everyKind = visible(servers.Nginx, servers.Go, servers.Node, servers.Uvicorn, servers.Gunicorn,
		servers.HTTPServer, servers.HTTPServerFork, servers.Uring, servers.Raw, servers.RawPrefork)
	keepAliveKinds = visible(servers.Nginx, servers.Go, servers.Node, servers.Uvicorn, servers.HTTPServer,
		servers.HTTPServerFork, servers.Uring, servers.Raw, servers.RawPrefork)
	fullKinds = []servers.Kind{servers.Go, servers.Node, servers.Uvicorn, servers.HTTPServer, servers.Raw}
	rawOnly   = []servers.Kind{servers.Raw}
)

// visible leaves out what the forced backend cannot see: io_uring makes no system call for a read or a write
// (KNOWN_ISSUES.md).
func visible(kinds ...servers.Kind) []servers.Kind {
	return slices.DeleteFunc(kinds, func(k servers.Kind) bool {
		return k == servers.Uring && os.Getenv("PERFAGENT_BACKEND") == "syscall"
	})
}

// few leaves, with -short, one kind of each sort: an event loop in C, goroutines, blocking threads, the test's own.
func few(kinds []servers.Kind) []servers.Kind {
	if !testing.Short() {
		return kinds
	}
	sorts := []servers.Kind{servers.Nginx, servers.Go, servers.HTTPServer, servers.Raw}
	return slices.DeleteFunc(slices.Clone(kinds), func(k servers.Kind) bool { return !slices.Contains(sorts, k) })
}

var trafficCases = []trafficCase{
	{"keep-alive", keepAliveKinds, func(b *book, s *servers.Server) { b.fast(s, 101) }},
	{"new-connections", everyKind, func(b *book, s *servers.Server) {
		for range 13 {
			b.fast(s, 1)
		}
	}},
	{"close", []servers.Kind{servers.Nginx, servers.Go, servers.Node, servers.Uvicorn, servers.HTTPServer}, connectionClose},
	{"http-1.0", []servers.Kind{servers.Nginx, servers.Go, servers.Node}, version10},
	{"methods", []servers.Kind{servers.Go, servers.Raw}, anyMethod},
	{"target-forms", []servers.Kind{servers.Go, servers.Raw}, targetForms},
	{"large-head", []servers.Kind{servers.Nginx, servers.Go, servers.Node, servers.Raw}, largeHead},
	{"pipelined", []servers.Kind{servers.Nginx, servers.Go, servers.Node, servers.Uvicorn, servers.Raw}, pipelined},
	{"pipelined-one-write", rawOnly, pipelinedOneWrite},
	{"request-split", []servers.Kind{servers.Nginx, servers.Go, servers.Node, servers.Raw}, requestSplit},
	{"response-split", rawOnly, responseSplit},
	{"chunked", fullKinds, func(b *book, s *servers.Server) { b.each(s, 7, client.Request{Target: "/chunked/11"}) }},
	{"head", []servers.Kind{servers.Nginx, servers.Go, servers.Node, servers.Raw}, headMethod},
	{"no-body", []servers.Kind{servers.Nginx, servers.Go, servers.Node, servers.Uvicorn, servers.Raw}, noBody},
	{"errors", []servers.Kind{servers.Nginx, servers.Go, servers.Node, servers.Uvicorn, servers.Raw}, errorStatuses},
	{"early-hints", []servers.Kind{servers.Go, servers.Raw}, func(b *book, s *servers.Server) {
		b.each(s, 7, client.Request{Target: "/hints"})
	}},
	{"continue", []servers.Kind{servers.Go, servers.Node, servers.Uvicorn, servers.HTTPServer, servers.Raw}, func(b *book, s *servers.Server) {
		b.each(s, 5, client.Request{Method: "POST", Target: "/upload", Size: 100_003, Expect: true})
	}},
	{"upload", fullKinds, func(b *book, s *servers.Server) {
		b.each(s, 3, client.Request{Method: "POST", Target: "/upload", Size: 5 << 20})
		b.each(s, 3, client.Request{Method: "POST", Target: "/upload", Body: []byte("short")})
	}},
	{"chunked-upload", []servers.Kind{servers.Go, servers.Node, servers.Uvicorn, servers.Raw}, func(b *book, s *servers.Server) {
		b.each(s, 3, client.Request{Method: "POST", Target: "/upload", Size: 100_003, Chunked: true})
	}},
	{"upgrade", rawOnly, upgrade},
	{"connect", []servers.Kind{servers.Go, servers.Raw}, connect},
	{"1-mib", keepAliveKinds, func(b *book, s *servers.Server) { b.each(s, 7, client.Request{Target: "/bytes/1048576"}) }},
	{"64-mib", []servers.Kind{servers.Nginx, servers.Go}, func(b *book, s *servers.Server) {
		b.each(s, 2, client.Request{Target: "/bytes/67108864"})
	}},
	{"sendfile", rawOnly, func(b *book, s *servers.Server) { b.each(s, 7, client.Request{Target: "/sendfile/1048576"}) }},
	{"writev", rawOnly, func(b *book, s *servers.Server) { b.each(s, 7, client.Request{Target: "/writev/70001"}) }},
	{"msg-more", rawOnly, func(b *book, s *servers.Server) { b.each(s, 7, client.Request{Target: "/more/5003"}) }},
	{"threads", rawOnly, func(b *book, s *servers.Server) { b.each(s, 7, client.Request{Target: "/threads"}) }},
	{"waiting-threads", []servers.Kind{servers.HTTPServer}, waitingThreads},
	{"passed-descriptor", rawOnly, func(b *book, s *servers.Server) { b.each(s, 7, client.Request{Target: "/passed"}) }},
	{"close-delimited", rawOnly, closeDelimited},
	{"work", fullKinds, func(b *book, s *servers.Server) {
		b.each(s, 3, client.Request{Target: "/sleep/50"})
		b.each(s, 1, client.Request{Target: "/sleep/500"})
	}},
	{"slow-reader", []servers.Kind{servers.Nginx, servers.Go}, slowReader},
	{"server-aborts", rawOnly, serverAborts},
	{"client-aborts", rawOnly, clientAborts},
	{"client-leaves", rawOnly, clientLeaves},
	{"descriptor-reuse", rawOnly, descriptorReuse},
}

// each makes count such exchanges on one connection.
func (b *book) each(s *servers.Server, count int, r client.Request) {
	b.t.Helper()
	conn := b.dial(s, client.Options{})
	defer conn.Close()
	for range count {
		b.do(conn, s, r)
	}
}

// Every shape of traffic, on every server that can produce it, is reported exactly once at both ends, with the right
// method, path, status and sizes, and the agent's counters agree at the end. All servers run before the agent.
func TestE2ETraffic(t *testing.T) {
	requireRoot(t)
	running, ports := startKinds(t, few(everyKind))
	a := startAgent(t, agent.Options{Ports: ports})
	var books []*book
	for _, c := range trafficCases {
		for _, kind := range few(c.kinds) {
			t.Run(c.name+"/"+string(kind), func(t *testing.T) {
				b := newBook(t, a)
				books = append(books, b)
				s := running[kind]
				if s == nil {
					t.Skipf("%s is not installed", kind)
				}
				c.run(b, s)
				b.check()
				b.settle(s)
			})
		}
	}
	balance(t, a, books...)
}

// startKinds starts one server of each kind; a kind that is not installed is left out where that is allowed.
func startKinds(t *testing.T, kinds []servers.Kind) (map[servers.Kind]*servers.Server, []int) {
	t.Helper()
	running := map[servers.Kind]*servers.Server{}
	var ports []int
	for _, kind := range kinds {
		s, err := startAny(t, kind)
		if err != nil {
			t.Logf("without %s: %v", kind, err)
			continue
		}
		running[kind] = s
		ports = append(ports, s.Port)
	}
	return running, ports
}

// waitingThreads keeps many threads of a blocking server inside a receiving call at a time.
func waitingThreads(b *book, s *servers.Server) {
	var conns []*client.Conn
	for range 43 {
		conn := b.dial(s, client.Options{})
		defer conn.Close()
		b.do(conn, s, client.Request{})
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		b.do(conn, s, client.Request{})
	}
}

func connectionClose(b *book, s *servers.Server) {
	for range 7 {
		b.each(s, 1, client.Request{Header: []string{"Connection: close"}})
	}
}

func version10(b *book, s *servers.Server) {
	for range 7 {
		b.each(s, 1, client.Request{Proto: "HTTP/1.0"})
	}
	b.each(s, 1, client.Request{Proto: "HTTP/1.0", NoHost: true})
}

func anyMethod(b *book, s *servers.Server) {
	conn := b.dial(s, client.Options{})
	defer conn.Close()
	for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "MKCOL",
		"M-SEARCH", "X", "BREW", "VERSION-CONTROL", "get", "!#$%&'*+.^_`|~09az"} {
		b.do(conn, s, client.Request{Method: method})
	}
}

func targetForms(b *book, s *servers.Server) {
	conn := b.dial(s, client.Options{})
	defer conn.Close()
	b.do(conn, s, client.Request{Target: "http://test.example/fast"})
	b.want[len(b.want)-1].path, b.want[len(b.want)-2].path = "/fast", "/fast"
	b.do(conn, s, client.Request{Target: "http://test.example:8080/fast?a=b"})
	b.want[len(b.want)-1].path, b.want[len(b.want)-2].path = "/fast", "/fast"
	b.do(conn, s, client.Request{Target: "/fast?a=/b?c"})
}

func largeHead(b *book, s *servers.Server) {
	b.each(s, 7, client.Request{Header: []string{"X-A: " + strings.Repeat("a", 4000), "X-B: " + strings.Repeat("b", 4200)}})
}

func pipelined(b *book, s *servers.Server) {
	conn := b.dial(s, client.Options{})
	defer conn.Close()
	for _, depth := range []int{2, 3, 5, 16} {
		b.pipeline(conn, s, make([]client.Request, depth))
	}
	b.do(conn, s, client.Request{}) // and one by itself after them
}

func pipelinedOneWrite(b *book, s *servers.Server) {
	conn := b.dial(s, client.Options{})
	defer conn.Close()
	for _, depth := range []int{2, 7, 16} {
		requests := make([]client.Request, depth)
		for i := range requests {
			requests[i].Target = fmt.Sprintf("/batch/%d", i)
		}
		b.pipeline(conn, s, requests)
	}
}

// requestSplit sends the head in two segments, divided at every byte in turn, and in three.
func requestSplit(b *book, s *servers.Server) {
	conn := b.dial(s, client.Options{})
	defer conn.Close()
	length := len((&client.Request{ID: b.prefix + "-100"}).Head())
	for offset := 1; offset < length; offset++ {
		b.do(conn, s, client.Request{Split: []int{offset}, SplitDelay: 200 * time.Microsecond})
	}
	b.do(conn, s, client.Request{Split: []int{1, length - 1}, SplitDelay: time.Millisecond})
}

func responseSplit(b *book, s *servers.Server) {
	conn := b.dial(s, client.Options{})
	defer conn.Close()
	for offset := 1; offset < len("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); offset++ {
		b.do(conn, s, client.Request{Target: fmt.Sprintf("/split/%d", offset)})
	}
	b.do(conn, s, client.Request{Target: "/bytewise"})
}

func headMethod(b *book, s *servers.Server) {
	conn := b.dial(s, client.Options{})
	defer conn.Close()
	for range 7 {
		b.do(conn, s, client.Request{Method: "HEAD"})
		b.do(conn, s, client.Request{})
	}
}

func noBody(b *book, s *servers.Server) {
	conn := b.dial(s, client.Options{})
	defer conn.Close()
	for range 3 {
		b.do(conn, s, client.Request{Target: "/status/204"})
		b.do(conn, s, client.Request{Target: "/status/304"})
		b.do(conn, s, client.Request{})
	}
}

func errorStatuses(b *book, s *servers.Server) {
	conn := b.dial(s, client.Options{})
	defer conn.Close()
	for range 3 {
		b.do(conn, s, client.Request{Target: "/status/404"})
	}
	conn = b.dial(s, client.Options{}) // some servers close after an error
	defer conn.Close()
	b.do(conn, s, client.Request{Target: "/status/500"})
}

// upgrade: the exchange ends with the 101, and what follows is not looked at.
func upgrade(b *book, s *servers.Server) {
	for range 5 {
		conn := b.dial(s, client.Options{})
		r := client.Request{Target: "/upgrade", Header: []string{"Connection: Upgrade", "Upgrade: echo"}}
		b.do(conn, s, r)
		echo(b.t, conn)
		conn.Close()
	}
}

func connect(b *book, s *servers.Server) {
	for range 5 {
		conn := b.dial(s, client.Options{})
		b.do(conn, s, client.Request{Method: "CONNECT", Target: "test.example:443"})
		echo(b.t, conn)
		conn.Close()
	}
}

// echo sends what is HTTP and what is not to a peer that returns it.
func echo(t *testing.T, conn *client.Conn) {
	t.Helper()
	for _, text := range []string{"\x16\x03\x01\x00", "GET /not-a-request HTTP/1.1\r\n\r\n"} {
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		back := make([]byte, len(text))
		for got := 0; got < len(back); {
			n, err := conn.Read(back[got:])
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
	}
}

func closeDelimited(b *book, s *servers.Server) {
	for range 7 {
		b.each(s, 1, client.Request{Target: "/close/10007"})
	}
	// The protocol is that of the request; the server answered as HTTP/1.0.
}

func slowReader(b *book, s *servers.Server) {
	conn := b.dial(s, client.Options{ReceiveBuffer: 16 << 10})
	defer conn.Close()
	b.do(conn, s, client.Request{Target: "/bytes/1048576", Pace: client.Pace{Bytes: 16 << 10, Delay: 3 * time.Millisecond}})
}

// serverAborts: no response, and half a response.
func serverAborts(b *book, s *servers.Server) {
	for _, target := range []string{"/abort", "/fin", "/abort"} {
		conn := b.dial(s, client.Options{})
		r := client.Request{ID: b.id(), Target: target}
		if result, err := conn.Do(r); err == nil {
			b.t.Errorf("%s answered %d", target, result.Status)
		}
		conn.Close()
		b.expectUnanswered(r, s, "aborted")
	}
	conn := b.dial(s, client.Options{})
	r := client.Request{ID: b.id(), Target: "/cut/100003"}
	result, err := conn.Do(r)
	if err == nil {
		b.t.Error("the cut response arrived whole")
	}
	conn.Close()
	b.expectUnanswered(r, s, "")
	server, ours := &b.want[len(b.want)-2], &b.want[len(b.want)-1]
	server.status, server.anyError = 200, true
	ours.status, ours.anyError = result.Status, true // 0 where the reset was faster than the reader: it takes the head away
}

// awaitRead returns when the server has read all that conn sent.
func awaitRead(t *testing.T, conn *client.Conn, s *servers.Server) {
	t.Helper()
	if err := s.AwaitRead(conn.LocalAddr(), visibleTimeout); err != nil {
		t.Fatal(err)
	}
}

// clientAborts: the client leaves before the response, with a reset and with an orderly end.
func clientAborts(b *book, s *servers.Server) {
	for i := range 7 {
		conn := b.dial(s, client.Options{})
		r := client.Request{ID: b.id(), Target: "/never"}
		if _, err := conn.Write(r.Head()); err != nil {
			b.t.Fatal(err)
		}
		awaitRead(b.t, conn, s)
		if i%2 == 0 {
			conn.Abort()
		} else {
			conn.Close()
		}
		b.expectUnanswered(r, s, "aborted")
	}
}

// clientLeaves: the client has closed when the server answers. The peer's reset arrives within the send, which took the
// response all the same.
func clientLeaves(b *book, s *servers.Server) {
	for range 7 {
		conn := b.dial(s, client.Options{})
		r := client.Request{ID: b.id(), Target: "/sleep/50"}
		if _, err := conn.Write(r.Head()); err != nil {
			b.t.Fatal(err)
		}
		awaitRead(b.t, conn, s)
		conn.Close()
		b.expectUnanswered(r, s, "aborted")
		server := &b.want[len(b.want)-2]
		server.status, server.errorType, server.anyError = 200, "", true // whole or cut short by the reset
	}
}

// descriptorReuse: after an abort the next connection has the same descriptor at both ends, and must not inherit the
// start of the aborted request.
func descriptorReuse(b *book, s *servers.Server) {
	for range 31 {
		conn := b.dial(s, client.Options{})
		r := client.Request{ID: b.id(), Target: "/never"}
		if _, err := conn.Write(r.Head()); err != nil {
			b.t.Fatal(err)
		}
		awaitRead(b.t, conn, s)
		conn.Abort()
		b.expectUnanswered(r, s, "aborted")
		b.fast(s, 1) // its duration is compared with the client's clock
	}
}
