package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/clock"
	"github.com/perfagent/perfagent/test/ends"
	"github.com/perfagent/perfagent/test/servers"
)

// span is the time that a socket call took: what the kernel did within it happened between the two.
type span struct{ before, after int64 }

// script plays both ends of one connection, one call after the other, so that each instant is known to lie within a call.
type script struct {
	t              *testing.T
	b              *book
	port           int
	client, server net.Conn

	id                  string
	method              string
	sent, read          span // the exchange under way: its first byte was handed over, and taken by the server
	responded, received span // the last byte handed over, and taken by the client
	requestSize         int64
	responseSize        int64
}

const endPause = 20 * time.Millisecond

func (s *script) timed(what string, call func() error) span {
	s.t.Helper()
	var at span
	at.before = clock.Now()
	err := call()
	at.after = clock.Now()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	return at
}

func (s *script) write(conn net.Conn, p string) span {
	s.t.Helper()
	return s.timed("write", func() error { _, err := conn.Write([]byte(p)); return err })
}

// take reads n bytes; the span is that of the last call.
func (s *script) take(conn net.Conn, n int) (at span) {
	s.t.Helper()
	buf := make([]byte, n)
	for got := 0; got < n; {
		at = s.timed("read", func() error {
			k, err := conn.Read(buf[got:])
			got += k
			if k > 0 {
				err = nil
			}
			return err
		})
	}
	return at
}

// request sends a request in these pieces and has the server read each. The first piece begins with the method.
func (s *script) request(method string, header []string, body ...string) {
	s.t.Helper()
	s.send("", method, header, body...)
}

// send is request behind bytes that are no part of it.
func (s *script) send(before, method string, header []string, body ...string) {
	s.t.Helper()
	s.id, s.method, s.responseSize, s.requestSize = s.b.id(), method, 0, 0
	lines := append([]string{method + " /end HTTP/1.1", "X-Request-Id: " + s.id, "Host: test"}, header...)
	pieces := append([]string{before + strings.Join(lines, "\r\n") + "\r\n\r\n"}, body...)
	for i, p := range pieces {
		sent := s.write(s.client, p)
		read := s.take(s.server, len(p))
		if i == 0 {
			s.sent, s.read = sent, read
		} else {
			s.requestSize += int64(len(p))
		}
	}
}

// respond hands over bytes of the response and has the client take them. size: how many of them are of the body.
func (s *script) respond(p string, size int) {
	s.t.Helper()
	s.responded = s.write(s.server, p)
	s.received = s.take(s.client, len(p))
	s.responseSize += int64(size)
}

// chunked begins a response in chunks, whose body's bytes so far are the given ones.
func (s *script) chunked(body string) {
	s.t.Helper()
	s.respond("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+body, len(body))
}

// over expects the exchange with this outcome, at the server's end over within the first span, at the client's within the second.
func (s *script) over(status int, errorType string, server, client span) {
	s.t.Helper()
	method := s.method
	want := expectation{id: s.id, port: s.port, protocol: "http/1.1", method: method, path: "/end", status: status, errorType: errorType,
		requestSize: s.requestSize, responseSize: s.responseSize, anySize: errorType != ""}
	for _, end := range []struct {
		role  string
		begun span
		over  span
	}{{"server", span{s.sent.before, s.read.after}, server}, {"client", s.sent, client}} {
		e := want
		e.role, e.pid = end.role, os.Getpid()
		e.minNS, e.maxNS = max(end.over.before-end.begun.after, 0), end.over.after-end.begun.before
		s.b.want = append(s.b.want, e)
	}
}

// complete expects the exchange, over with the latest bytes.
func (s *script) complete(status int) {
	s.t.Helper()
	s.over(status, "", s.responded, s.received)
}

// closing closes an end.
func (s *script) closing(conn net.Conn) span {
	s.t.Helper()
	return s.timed("close", conn.Close)
}

// reset closes an end so that the other gets a reset.
func (s *script) reset(conn net.Conn) span {
	s.t.Helper()
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		s.t.Fatal(err)
	}
	return s.closing(conn)
}

// halfClose says that an end has no more to send.
func (s *script) halfClose(conn net.Conn) span {
	s.t.Helper()
	return s.timed("shutdown", conn.(interface{ CloseWrite() error }).CloseWrite)
}

// learns is when the client can know that the server has closed: not before, and no later than its own read that tells.
func (s *script) learns(closed span) span {
	s.t.Helper()
	at := s.timed("read of the end", func() error {
		s.client.SetReadDeadline(time.Now().Add(servers.Slow(10 * time.Second)))
		if n, err := io.Copy(io.Discard, struct{ io.Reader }{s.client}); n > 0 {
			return fmt.Errorf("%d bytes, %v", n, err)
		}
		return nil
	})
	return span{closed.before, at.after}
}

func pauseEnd() { time.Sleep(endPause) }

// completeEnds are exchanges that end by themselves. Each is made twice on a connection: what follows changes nothing.
var completeEnds = map[string]func(s *script){
	"data-like-an-end": func(s *script) {
		s.request("GET", nil)
		s.chunked("11\r\nab\r\n0\r\n\r\ncdefghij\r\n") // 17 bytes of data
		pauseEnd()
		s.respond("7\r\n\r\n0\r\n\r\n", 10) // data that ends as a body does
		pauseEnd()
		s.respond("\r\n0\r\n\r\n", 7)
		s.complete(200)
	},
	"many-chunks": func(s *script) {
		s.request("GET", nil)
		s.chunked("")
		pauseEnd()
		p := strings.Repeat("3\r\nabc\r\n", 40) + "0\r\nA: b\r\n\r\n"
		s.respond(p, len(p))
		s.complete(200)
	},
	"large-chunk": func(s *script) {
		s.request("GET", nil)
		s.chunked("30D40\r\n")
		for range 4 {
			s.respond(strings.Repeat("y", 50_000), 50_000)
		}
		pauseEnd()
		s.respond("\r\n0;x\r\n\r\n", 9)
		s.complete(200)
	},
	"interim-in-front": func(s *script) {
		s.request("GET", nil)
		s.respond("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234", 4)
		pauseEnd()
		s.respond("56789", 5)
		s.complete(200)
	},
	"interim-and-chunks": func(s *script) {
		s.request("GET", nil)
		s.respond("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", 7)
		pauseEnd()
		s.respond("0\r\nT: x\r\n\r\n", 11)
		s.complete(200)
	},
	"length": func(s *script) {
		s.request("GET", nil)
		s.respond("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234", 5)
		pauseEnd()
		s.respond("56789", 5)
		s.complete(200)
	},
	"empty-lines-in-front": func(s *script) {
		s.send("\r\n\r\n", "GET", nil)
		pauseEnd()
		s.respond("HTTP/1.1 204 No Content\r\n\r\n", 0)
		s.complete(204)
	},
	"method-of-64": func(s *script) {
		s.request(strings.Repeat("METHOD-4", 8), nil)
		pauseEnd()
		s.respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 2)
		s.complete(200)
	},
	"upload-in-chunks": func(s *script) {
		// The body looks like requests, and ends with trailers.
		s.request("POST", []string{"Transfer-Encoding: chunked"}, "1b\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n\r\n", "1c\r\n", "GET /x HTTP/1.1\r\nHost: x\r\n\r\n",
			"\r\n0\r\n", "T: x\r\n\r\n")
		pauseEnd()
		s.respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 2)
		s.complete(200)
	},
	"response-before-the-body": func(s *script) {
		// The response is complete before the request is: the rest of the body is no request.
		s.request("POST", []string{"Content-Length: 38"}, "0123456789")
		s.respond("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno", 2)
		ended := [2]span{s.responded, s.received}
		pauseEnd()
		rest := "GET /no HTTP/1.1\r\nHost: x\r\n\r\n"[:28]
		s.write(s.client, rest)
		s.take(s.server, len(rest))
		s.requestSize = 38
		s.over(413, "", ended[0], ended[1])
		s.b.want[len(s.b.want)-1].errorType = "413"
	},
}

// serverCuts is an exchange that the server answers in part before it ends the connection.
func serverCuts(end func(*script, net.Conn) span, answer func(*script)) func(*script) {
	return func(s *script) {
		s.t.Helper()
		s.request("GET", nil)
		answer(s)
		pauseEnd()
		closed := end(s, s.server)
		s.over(200, "aborted", closed, s.learns(closed))
	}
}

// cutEnds are exchanges that end with their connection, in the middle.
var cutEnds = map[string]func(s *script){
	"server-closes-in-length": serverCuts((*script).closing, func(s *script) {
		s.respond("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234", 5)
	}),
	"server-closes-in-chunk":       serverCuts((*script).closing, func(s *script) { s.chunked("a\r\n01234") }),
	"server-closes-between-chunks": serverCuts((*script).closing, func(s *script) { s.chunked("5\r\n01234\r\n") }),
	"server-closes-behind-many-chunks": serverCuts((*script).closing, func(s *script) {
		s.chunked("")
		p := strings.Repeat("3\r\nabc\r\n", 1900)
		s.respond(p, len(p))
	}),
	"server-closes-in-trailers": serverCuts((*script).closing, func(s *script) { s.chunked("5\r\n01234\r\n0\r\nA: b\r\n") }),
	"server-resets-until-the-end": serverCuts((*script).reset, func(s *script) {
		s.respond("HTTP/1.1 200 OK\r\nServer: test\r\n\r\n01234", 5)
	}),
	"server-closes-behind-no-chunk": serverCuts((*script).closing, func(s *script) { s.chunked("5\r\n01234\r\nxyz\r\n0123") }),
	"server-resets-behind-no-chunk": serverCuts((*script).reset, func(s *script) {
		s.chunked("5\r\n01234\r\n")
		s.respond(strings.Repeat("no chunk", 300), 2400)
	}),
	"server-resets-in-chunk": serverCuts((*script).reset, func(s *script) { s.chunked("a\r\n01234") }),
	"server-closes-unanswered": func(s *script) {
		s.request("GET", nil)
		pauseEnd()
		closed := s.closing(s.server)
		s.over(0, "aborted", closed, s.learns(closed))
	},
	"client-gives-up": func(s *script) {
		s.request("GET", nil)
		pauseEnd()
		client := s.closing(s.client)
		pauseEnd()
		server := s.closing(s.server)
		s.over(0, "aborted", server, client)
	},
	"client-gives-up-in-response": func(s *script) {
		s.request("GET", nil)
		s.chunked("a\r\n01234")
		pauseEnd()
		client := s.closing(s.client)
		pauseEnd()
		server := s.closing(s.server)
		s.over(200, "aborted", server, client)
	},
	"client-resets": func(s *script) {
		s.request("GET", nil)
		pauseEnd()
		client := s.reset(s.client)
		server := s.closing(s.server)
		s.over(0, "aborted", span{client.before, server.after}, client)
	},
}

// lateEnds are exchanges whose last bytes are read when their connection is over already.
var lateEnds = map[string]func(s *script){
	"behind-the-fin": func(s *script) {
		s.request("GET", nil)
		s.late(s.closing)
	},
	"behind-both-fins": func(s *script) {
		s.request("GET", nil)
		s.halfClose(s.client)
		s.late(s.closing)
	},
	"behind-a-reset": func(s *script) {
		// What the server has not read makes its close a reset.
		s.request("GET", nil)
		s.write(s.client, "more than is read")
		s.late(s.closing)
	},
	"until-the-fin": func(s *script) {
		s.request("GET", nil)
		p := "HTTP/1.0 200 OK\r\n\r\nuntil the end"
		s.respond(p, 13)
		pauseEnd()
		s.closing(s.server)
		s.complete(200)
	},
}

// late answers, ends the server's connection and has the client read behind that.
func (s *script) late(end func(net.Conn) span) {
	s.t.Helper()
	p := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
	s.responded = s.write(s.server, p)
	end(s.server)
	pauseEnd()
	s.received = s.take(s.client, len(p))
	s.responseSize = 2
	s.complete(200)
	s.closing(s.client)
}

// pipelined makes two requests at once, so that user space follows the connection from then on.
func (s *script) pipelined() {
	s.t.Helper()
	var requests string
	var ids [2]string
	for i := range ids {
		ids[i] = s.b.id()
		requests += "GET /end HTTP/1.1\r\nX-Request-Id: " + ids[i] + "\r\nHost: test\r\n\r\n"
	}
	s.method, s.requestSize, s.responseSize = "GET", 0, 2
	s.sent = s.write(s.client, requests)
	s.read = s.take(s.server, len(requests))
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, id := range ids {
		s.id = id
		s.responded = s.write(s.server, answer)
		s.received = s.take(s.client, len(answer))
		s.complete(200)
	}
}

// overtaken has the next request overtake the end of a response: its last bytes come once user space follows the connection.
func (s *script) overtaken(final string) {
	s.t.Helper()
	s.request("GET", nil)
	// More than is captured of a head, and chunks that nobody but the kernel side has followed.
	s.chunked(strings.Repeat("64\r\n"+strings.Repeat("z", 100)+"\r\n", 30) + "8\r\nabc")
	first := *s
	s.request("GET", nil)
	second := *s
	pauseEnd()
	first.respond("defgh\r\n"+final, 7+len(final))
	first.complete(200)
	pauseEnd()
	second.respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 2)
	second.complete(200)
}

// endings runs scripts on connections of their own.
type endings struct {
	a        *agent.Agent
	listener net.Listener
	books    []*book
}

func (e *endings) run(t *testing.T, name string, play func(s *script)) {
	t.Run(name, func(t *testing.T) {
		s := &script{t: t, b: newBook(t, e.a)}
		e.books = append(e.books, s.b)
		var err error
		address := e.listener.Addr()
		if s.client, err = net.Dial(address.Network(), address.String()); err != nil {
			t.Fatal(err)
		}
		defer s.client.Close()
		if s.server, err = e.listener.Accept(); err != nil {
			t.Fatal(err)
		}
		defer s.server.Close()
		if tcp, ok := address.(*net.TCPAddr); ok {
			s.port = tcp.Port
		}
		play(s)
		s.b.check()
	})
}

// However an exchange ends, both ends show it once, with the right outcome, and as long as it took: the instants lie within
// the socket calls that made them. Over TCP, where every end is seen when it happens.
func TestE2EEnds(t *testing.T) {
	requireRoot(t)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	e := &endings{a: startAgent(t, agent.Options{Ports: []int{listener.Addr().(*net.TCPAddr).Port}}), listener: listener}
	for name, play := range completeEnds {
		e.run(t, "complete/"+name, func(s *script) { play(s); play(s) })
		e.run(t, "complete/"+name+"/pipelined", func(s *script) { s.pipelined(); play(s) })
	}
	for name, pieces := range ends.FinalChunks {
		play := func(s *script) {
			s.request("GET", nil)
			s.chunked("5\r\nhello\r\n")
			pauseEnd()
			for _, p := range pieces {
				s.respond(p, len(p))
			}
			s.complete(200)
		}
		e.run(t, "chunked/"+name, func(s *script) { play(s); play(s) })
		e.run(t, "chunked/"+name+"/pipelined", func(s *script) { s.pipelined(); play(s) })
		if len(pieces) == 1 {
			e.run(t, "chunked/"+name+"/overtaken", func(s *script) { s.overtaken(pieces[0]) })
		}
	}
	for name, play := range cutEnds {
		e.run(t, "cut/"+name, play)
		e.run(t, "cut/"+name+"/pipelined", func(s *script) { s.pipelined(); play(s) })
	}
	for name, play := range lateEnds {
		e.run(t, "late/"+name, play)
	}
	balance(t, e.a, e.books...)
}

// The same over Unix sockets, which only hooks on functions see closing: elsewhere cut exchanges are reported and may lack their
// duration.
func TestE2EEndsUnix(t *testing.T) {
	requireRoot(t)
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	e := &endings{a: startAgent(t, agent.Options{PIDs: []int{os.Getpid()}}), listener: listener}
	for name, play := range completeEnds {
		e.run(t, "complete/"+name, func(s *script) { play(s); play(s) })
	}
	closeSeen := hooksFunctions(e.a)
	for name, play := range cutEnds {
		if strings.Contains(name, "reset") {
			continue
		}
		e.run(t, "cut/"+name, func(s *script) {
			play(s)
			s.client.Close()
			for i := range s.b.want {
				w := &s.b.want[i]
				w.mayLackStart = w.errorType == "aborted" && !closeSeen
			}
		})
	}
}
