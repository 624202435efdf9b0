package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/test/agent"
)

// ask is send with a head that is written out: ID in it becomes the request's.
func (s *script) ask(method, head string, body ...string) {
	s.t.Helper()
	s.begin(method)
	s.hand(strings.Replace(head, "ID", s.id, 1), true)
	for _, p := range body {
		s.hand(p, false)
		s.requestSize += int64(len(p))
	}
}

// begin begins another exchange.
func (s *script) begin(method string) {
	s.id, s.method, s.responseSize, s.requestSize = s.b.id(), method, 0, 0
}

// hand has the server read bytes of the client.
func (s *script) hand(p string, first bool) {
	s.t.Helper()
	sent := s.write(s.client, p)
	if read := s.take(s.server, len(p)); first {
		s.sent, s.read = sent, read
	}
}

// answers makes an exchange whose response is sent in these pieces; size: of its body.
func (s *script) answers(method string, status, size int, pieces ...string) {
	s.t.Helper()
	s.request(method, nil)
	for i, p := range pieces {
		if i > 0 {
			pauseEnd()
		}
		s.respond(p, 0)
	}
	s.responseSize = int64(size)
	s.complete(status)
}

// refuses expects the exchange to be complete with a client error, which is a failure at the client's end.
func (s *script) refuses(status int) {
	s.t.Helper()
	s.complete(status)
	s.b.want[len(s.b.want)-1].errorType = strconv.Itoa(status)
}

// uploadHead is the head of a request that names a longer body than comes.
const uploadHead = "PUT /end HTTP/1.1\r\n" + idHeader + "Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n"

const (
	okHead   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
	idHeader = "X-Request-Id: ID\r\nHost: test\r\n"
)

// framedEnds are exchanges whose bytes say in an unusual way where they end; otherwise as completeEnds.
var framedEnds = map[string]func(s *script){
	"line-feeds": func(s *script) {
		s.ask("GET", "GET /end HTTP/1.1\nX-Request-Id: ID\nHost: test\n\n")
		s.respond("HTTP/1.1 200 OK\nContent-Length: 10\nA:\n\n01234", 5)
		pauseEnd()
		s.respond("56789", 5)
		s.complete(200)
	},
	"line-feeds-in-pieces": func(s *script) {
		s.ask("POST", "POST /end HTTP/1.1\nX-Request-Id: ID\n")
		for _, p := range []string{"Content-Length: 3\nA:\nB:\r\nC:", "\n", "\nabc"} {
			s.hand(p, false)
		}
		s.requestSize = 3
		s.respond("HTTP/1.1 200 OK\nTransfer-Encoding:chunked\nA:\nB:\n", 0)
		s.respond("\n", 0)
		pauseEnd()
		s.respond("3\nabc\n0\n\n", 9)
		s.complete(200)
	},
	"short-lines": func(s *script) {
		s.ask("GET", "GET /end HTTP/1.1\r\nX-Request-Id: ID\r\nA:\nB:\nC:\nD:\nE:\n\r\n")
		s.respond("HTTP/1.1 200\n\n", 0)
		pauseEnd()
		s.closing(s.server)
		s.complete(200)
	},
	"blanks-behind-version": func(s *script) {
		s.ask("GET", "GET /end HTTP/1.1 \r\n"+idHeader+"\r\n")
		s.respond(okHead+"ok", 2)
		s.complete(200)
		s.ask("GET", "GET /end HTTP/1.1  \t \n"+idHeader+"\r\n")
		s.respond(okHead+"ok", 2)
		s.complete(200)
	},
	"many-empty-lines": func(s *script) {
		for _, empty := range []string{strings.Repeat("\r\n", 5), strings.Repeat("\n", 9), strings.Repeat("\r\n", 32)} {
			s.send(empty, "GET", nil)
			s.respond(okHead+"ok", 2)
			s.complete(200)
		}
	},
	"head-between": func(s *script) {
		// What the response to HEAD has no body of, the next one to GET has.
		head := "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nServer: test\r\n\r\n"
		s.answers("GET", 200, 10, head, "0123456789")
		s.answers("HEAD", 200, 0, head)
		s.answers("GET", 200, 10, head, "0123456789")
		s.answers("GET", 200, 10, head+"0123456789")
	},
	"bodyless-between": func(s *script) {
		rest := "Content-Length: 10\r\nServer: test\r\n\r\n"
		s.answers("GET", 200, 10, "HTTP/1.1 200 OK\r\n"+rest, "0123456789")
		s.answers("GET", 204, 0, "HTTP/1.1 204 No\r\n"+rest)
		s.answers("GET", 304, 0, "HTTP/1.1 304 No\r\n"+rest)
		s.answers("GET", 200, 10, "HTTP/1.1 200 OK\r\n"+rest, "0123456789")
	},
	"bodyless-last": func(s *script) {
		rest := "Content-Length: 10\r\nServer: test\r\n\r\n"
		s.answers("GET", 200, 10, "HTTP/1.1 200 OK\r\n"+rest, "0123456789")
		s.answers("GET", 204, 0, "HTTP/1.1 204 No\r\n"+rest)
		pauseEnd()
		s.closing(s.server)
	},
	"lengths-alike": func(s *script) {
		// They differ where eight bytes behind the name and a space do not.
		for _, length := range []string{":15", ":25", ": 000000011", ": 000000019", ": 15", ":015", ": 25"} {
			n, err := strconv.Atoi(strings.TrimLeft(length, ": "))
			if err != nil {
				s.t.Fatal(err)
			}
			s.request("GET", nil)
			s.respond("HTTP/1.1 200 OK\r\nContent-Length"+length+"\r\nServer: test\r\n\r\n0", 1)
			for range n - 1 { // byte by byte, so that any other length ends too early or not at all
				s.respond("x", 1)
			}
			s.complete(200)
		}
	},
	"length-twice": func(s *script) {
		s.answers("GET", 200, 10, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX: y\r\nContent-Length: 10\r\n\r\n01234", "56789")
	},
	"like-transfer-encoding": func(s *script) {
		s.answers("GET", 200, 15, "HTTP/1.1 200 OK\r\nTransfer-Id: 1\r\nContent-Length: 15\r\n\r\n0\r\n\r\n", "0123456789")
	},
	"codings": func(s *script) {
		s.answers("GET", 200, 19, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip,  Chunked \r\n\r\na\r\n01234", "56789\r\n0\n\r\n")
	},
	"interim-in-front": func(s *script) {
		s.answers("GET", 200, 2, strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 3)+okHead+"ok")
		s.answers("GET", 200, 2, strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 11)+okHead+"o", "k")
		s.answers("GET", 200, 2, strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 16)+okHead+"ok")
		s.answers("GET", 200, 2, strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 250)+okHead+"o", "k")
	},
	"long-interim": func(s *script) {
		hints := "HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("</style.css>;", 234) + "\r\n\r\n"
		s.answers("GET", 200, 2, hints+okHead+"ok")
		s.answers("GET", 200, 2, hints, okHead+"o", "k")
		s.answers("GET", 200, 2, hints[:700], hints[700:1023], hints[1023:1025], hints[1025:]+okHead, "ok")
		s.answers("GET", 200, 2, hints[:len(hints)-3], hints[len(hints)-3:len(hints)-1], "\n"+okHead, "ok")
	},
	"interim-head-then-answer": func(s *script) {
		// The response begins with its own head, not with the interim one's.
		s.answers("GET", 200, 2, "HTTP/1.1 103 Early Hints\r\nLink: a", "\r\n\r\n"+okHead+"ok")
	},
	"chunk-size-of-zeros": func(s *script) {
		s.answers("GET", 200, 40, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000000000a\r\n01234", "56789\r\n0\r\n\r\n")
	},
	"surplus": func(s *script) {
		// What stands behind a response's end is none of it.
		s.answers("GET", 200, 2, okHead+"ok, and more")
		s.answers("GET", 200, 2, okHead+"o", "k, and more")
		s.answers("GET", 200, 12, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\nok\r\n0\r\n\r\nand more")
	},
	"request-behind-upload": func(s *script) {
		s.ask("POST", "POST /end HTTP/1.1\r\n"+idHeader+"Transfer-Encoding: chunked\r\n\r\n", "5\r\n01234\r\n")
		first := *s
		s.begin("GET")
		next := strings.Replace("GET /end HTTP/1.1\r\n"+idHeader+"\r\n", "ID", s.id, 1)
		s.hand("5\r\n56789\r\n0\r\n\r\n"+next, true)
		first.requestSize += 15
		second := *s
		first.respond(okHead+"ok", 2)
		first.complete(200)
		pauseEnd()
		second.respond(okHead+"ok", 2)
		second.complete(200)
	},
	"two-as-long-as-one": func(s *script) {
		// Where one request was, two are that look like it to who compares its length, its first bytes and its last ones.
		head := func(id, target string) string {
			return "GET /end" + target + " HTTP/1.1\r\nX-Request-Id: " + id + "\r\nHost: test\r\n\r\n"
		}
		ids := []string{s.b.id() + "a", s.b.id() + "b"}
		both := head(ids[0], "") + head(ids[1], "")
		for range 2 {
			s.begin("GET")
			s.hand(head(s.id, "?"+strings.Repeat("x", len(both)-len(head(s.id, ""))-1)), true)
			s.respond(okHead+"ok", 2)
			s.complete(200)
		}
		s.hand(both, true)
		for _, s.id = range ids {
			s.responseSize = 0
			s.respond(okHead+"ok", 2)
			s.complete(200)
		}
	},
	"body-not-asked-for": func(s *script) {
		s.ask("PUT", uploadHead)
		s.respond("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno", 2)
		s.refuses(417)
		s.ask("PUT", "PUT /end HTTP/1.1\r\n"+idHeader+"Content-Length: 5\r\n\r\n", "01234")
		s.respond(okHead+"ok", 2)
		s.complete(200)
		s.answers("GET", 200, 2, okHead+"ok")
	},
	"chunks-not-asked-for": func(s *script) {
		// A response without a body: what it leaves open is the request's alone.
		s.ask("PUT", "PUT /end HTTP/1.1\r\n"+idHeader+"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
		s.respond("HTTP/1.1 307 Temporary Redirect\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", 0)
		s.complete(307)
		s.ask("PUT", "PUT /end HTTP/1.1\r\n"+idHeader+"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
		s.respond("HTTP/1.1 100 Continue\r\n\r\n", 0)
		s.hand("2\r\nab\r\n0\r\n\r\n", false)
		s.requestSize = 12
		s.respond(okHead+"ok", 2)
		s.complete(200)
		s.answers("GET", 200, 2, okHead+"ok")
	},
	"body-not-asked-for-sent": func(s *script) {
		s.ask("PUT", uploadHead)
		s.respond("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno", 2)
		for _, n := range []int{300, 700} {
			s.hand(strings.Repeat("x", n), false)
			s.requestSize += int64(n)
		}
		s.refuses(401)
		s.answers("GET", 200, 2, okHead+"ok")
	},
	"upload-given-up": func(s *script) {
		s.ask("POST", "POST /end HTTP/1.1\r\n"+idHeader+"Content-Length: 20\r\n\r\n", "01234")
		s.halfClose(s.client)
		pauseEnd()
		s.respond("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno", 2)
		s.refuses(400)
		s.closing(s.server)
	},
	"chunked-upload-given-up": func(s *script) {
		s.ask("POST", "POST /end HTTP/1.1\r\n"+idHeader+"Transfer-Encoding: chunked\r\n\r\n", "5\r\nabc")
		s.halfClose(s.client)
		pauseEnd()
		s.respond("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno", 2)
		s.refuses(400)
		s.closing(s.server)
	},
	"folded-alike": func(s *script) {
		// They differ where eight bytes behind the name's colon do not.
		for _, n := range []int{10000, 100001} {
			s.answers("GET", 200, n, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length:\r\n %d\r\nServer: %s\r\n\r\n", n, "test"[n/100001:]),
				strings.Repeat("x", n-1), "x")
		}
	},
	"answered-before-the-end-of-the-head": func(s *script) {
		s.ask("GET", "GET /end HTTP/1.1\r\nX-Request-Id: ID\r\nHost: te")
		s.respond("HTTP/1.1 408 Request Timeout\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", 2)
		ended := [2]span{s.responded, s.received}
		pauseEnd()
		s.closing(s.server)
		s.over(408, "", ended[0], ended[1])
		s.b.want[len(s.b.want)-1].errorType = "408"
		for i := range s.b.want[len(s.b.want)-2:] {
			s.b.want[len(s.b.want)-1-i].anySize = true
		}
	},
}

// closes tells of the scripts that end their connection themselves: they are made once on it.
var closes = map[string]bool{"short-lines": true, "bodyless-last": true, "upload-given-up": true, "chunked-upload-given-up": true, "answered-before-the-end-of-the-head": true}

// untrustedEnds are responses whose framing contradicts itself, or says nothing: the connection's end ends them, wherever that is.
var untrustedEnds = map[string]string{
	"lengths-differ":    "Content-Length: 2\r\nX: 0123456789\r\nContent-Length: 4\r\n",
	"length-of-64-bits": "Content-Length: 18446744073709551618\r\n",
	"length-of-63-bits": "Content-Length: 9223372036854775808\r\n",
	"length-goes-on":    "Content-Length: 1\r\n 2\r\nServer: test\r\n",
	"length-and-words":  "Content-Length: 2 or 3\r\n",
	"not-chunked":       "Transfer-Encoding: identity\r\n",
	"no-more-chunked":   "Transfer-Encoding: chunked, gzip\r\nContent-Length: 1\r\n",
}

// trustedCuts are responses whose framing is written in an unusual way, and that do not come to their end.
var trustedCuts = map[string]string{
	"length-folded":       "Content-Length:\r\n 10\r\n\r\n01234",
	"length-of-zeros":     "Content-Length: " + strings.Repeat("0", 30) + "10\r\n\r\n01234",
	"length-behind-tabs":  "Content-Length:" + strings.Repeat("\t", 30) + "10 \t\r\n\r\n01234",
	"coding-folded":       "Transfer-Encoding:\r\n chunked\r\nServer: test\r\n\r\n5\r\nabc",
	"codings-folded":      "Transfer-Encoding: gzip,\r\n\tchunked\r\n\r\n5\r\nabc",
	"coding-before-comma": "Transfer-Encoding: chunked ,\r\n\r\n5\r\nabc",
	"coding-before-blank": "Transfer-Encoding: chunked" + strings.Repeat(" ", 20) + "\r\n\r\n5\r\nabc",
}

// hugeChunks have more bytes than any connection carries.
var hugeChunks = map[string]string{
	"of-48-bits": "1000000000000", "of-52-bits": "0fffffffffffff", "of-64-bits": "ffffffffffffffff",
}

func runFraming(t *testing.T, e *endings, stream bool) {
	t.Helper()
	run := func(name string, twice bool, play func(s *script)) {
		e.run(t, name, func(s *script) {
			if play(s); twice {
				play(s)
			} else {
				s.client.Close() // some hooks learn of a Unix socket's end from both of its ends only
			}
		})
		if stream {
			e.run(t, name+"/pipelined", func(s *script) { s.pipelined(); play(s) })
		}
	}
	for name, play := range framedEnds {
		run("framed/"+name, !closes[name], play)
	}
	for name, header := range untrustedEnds {
		run("untrusted/"+name, false, func(s *script) {
			s.request("GET", nil)
			s.respond("HTTP/1.1 200 OK\r\n"+header+"\r\na\r\n01", 5)
			pauseEnd()
			s.respond("23456789\r\n", 10)
			pauseEnd()
			s.closing(s.server)
			s.complete(200)
		})
	}
}

// Framing in unusual bytes is understood as servers and clients do it, at both ends: status, sizes and durations are right, and
// what cannot be trusted is not. Over TCP, also where user space does the framing.
func TestE2EEndsFraming(t *testing.T) {
	requireRoot(t)
	e := listenEndings(t)
	runFraming(t, e, true)
	e.run(t, "cut/length-twice", serverCuts((*script).closing, func(s *script) {
		s.respond("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX: y\r\nContent-Length: 10\r\n\r\n01234", 5)
	}))
	for name, rest := range trustedCuts {
		play := serverCuts((*script).closing, func(s *script) { s.respond("HTTP/1.1 200 OK\r\n"+rest, 0) })
		e.run(t, "cut/"+name, play)
		e.run(t, "cut/"+name+"/pipelined", func(s *script) { s.pipelined(); play(s) })
	}
	e.run(t, "cut/long-interim", func(s *script) {
		s.request("GET", nil)
		s.respond("HTTP/1.1 103 Early Hints\r\nLink: "+strings.Repeat("</style.css>;", 234), 0)
		pauseEnd()
		closed := s.closing(s.server)
		s.over(0, "aborted", closed, s.learns(closed))
	})
	for name, size := range hugeChunks {
		play := serverCuts((*script).closing, func(s *script) { s.chunked(size + "\r\n01234") })
		e.run(t, "huge-chunk/"+name, play)
		e.run(t, "huge-chunk/"+name+"/pipelined", func(s *script) { s.pipelined(); play(s) })
	}
	balance(t, e.a, e.books...)
}

// The same over Unix sockets.
func TestE2EEndsFramingUnix(t *testing.T) {
	requireRoot(t)
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	e := &endings{a: startAgent(t, agent.Options{PIDs: []int{os.Getpid()}}), listener: listener}
	runFraming(t, e, false)
}

func listenEndings(t *testing.T) *endings {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return &endings{a: startAgent(t, agent.Options{Ports: []int{listener.Addr().(*net.TCPAddr).Port}}), listener: listener}
}

// unpairedEnds are responses to what nobody takes for a request; each is one lost exchange at either end, or as many as it says.
var unpairedEnds = map[string]struct {
	lost int
	play func(s *script)
}{
	"method-of-65": {1, func(s *script) {
		s.answers("GET", 200, 2, okHead+"ok")
		s.hand(strings.Repeat("METHOD-5", 8)+"X /end HTTP/1.1\r\n\r\n", true)
		s.respond(okHead+"ok", 0)
		s.answers("GET", 200, 2, okHead+"ok")
	}},
	"words": {4, func(s *script) {
		for _, words := range []string{"x", "SECRETBODYWORDS", strings.Repeat("x", 64), "SECRET BODY"} {
			s.ask("POST", "POST /end HTTP/1.1\r\n"+idHeader+"Content-Length: 5\r\n\r\n", "01234")
			s.respond(okHead+"ok", 2)
			s.complete(200)
			s.hand(words, true)
			s.respond("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 0)
		}
		s.answers("GET", 200, 2, okHead+"ok")
	}},
	"words-behind-a-body": {1, func(s *script) {
		s.ask("POST", "POST /end HTTP/1.1\r\n"+idHeader+"Content-Length: 5\r\n\r\n")
		s.hand("01234SECRETBODYWORDS", false)
		s.requestSize = 5
		s.respond(okHead+"ok", 2)
		s.complete(200)
		s.respond("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 0)
		s.answers("GET", 200, 2, okHead+"ok")
	}},
	"too-many-empty-lines": {1, func(s *script) {
		s.answers("GET", 200, 2, okHead+"ok")
		s.hand(strings.Repeat("\r\n", 33)+"GET /end HTTP/1.1\r\n\r\n", true)
		s.respond(okHead+"ok", 0)
		s.answers("GET", 200, 2, okHead+"ok")
	}},
	"server-first": {1, func(s *script) {
		s.respond("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", 0)
	}},
	"server-first-then-requests": {1, func(s *script) {
		s.respond("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 0)
		s.answers("GET", 200, 2, okHead+"ok")
	}},
	"idle-connection": {1, func(s *script) {
		s.answers("GET", 200, 2, okHead+"ok")
		s.respond("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", 0)
	}},
	"two-as-one-unnoticed": {2, func(s *script) {
		// They look like one request in all that is compared. Their responses tell, in one piece or in two.
		head := func(header string) string {
			return "GET /end HTTP/1.1\r\nX-Request-Id: " + s.id + "\r\n" + header + "Host: test\r\n\r\n"
		}
		for _, answer := range [][]string{{okHead + "ok" + okHead + "ok"}, {okHead + "ok", okHead + "ok"}} {
			s.begin("GET")
			s.hand(head("X: "+strings.Repeat("x", len(head(""))-len("X: \r\n"))+"\r\n"), true)
			s.respond(okHead+"ok", 2)
			s.complete(200)
			s.begin("GET")
			s.hand(head("")+head(""), true)
			s.responseSize = 2
			for _, p := range answer {
				s.respond(p, 0)
				if s.id != "" {
					s.complete(200)
				}
				s.id = ""
			}
		}
	}},
}

// A response without a request that was seen as one is a lost exchange, once at each end, and disturbs none of the others.
func TestE2EEndsUnpaired(t *testing.T) {
	requireRoot(t)
	e := listenEndings(t)
	lost, want := 0, 0
	for name, c := range unpairedEnds {
		e.run(t, name, c.play)
		lost += 2 * c.lost
	}
	for _, b := range e.books {
		want += len(b.want)
	}
	balanceLost(t, e.a, want+lost, lost)
	m, err := e.a.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	if got := int(m.Sum("perfagent_exchanges_lost_total", "reason", "desync")); got != lost {
		t.Errorf("expected %d lost as desync, got %d: %v", lost, got, m.Lost())
	}
}

// lineProtocols are what the client says and the server answers on a connection of a protocol that begins with a word.
var lineProtocols = map[string][2]string{
	"graphite":       {"local.random.diceroll 4 1668268694\n", ""},
	"zookeeper":      {"ruok", "imok"},
	"zookeeper-long": {"stat", "Zookeeper version: 3.9\nClients:\n"},
	"memcached":      {"get key\r\n", "END\r\n"},
	"memcached-set":  {"set key 0 0 5\nhello\n", "STORED\n"},
	"mail":           {"EHLO example.org\n", "250 ok\n"},
	"nameless":       {"a-word-of-many-letters", "no\n"},
}

// Protocols whose lines begin with a word are undecoded connections while they are open: no request is under way on them, and
// none is lost when they close.
func TestE2EUndecodedLines(t *testing.T) {
	requireRoot(t)
	e := listenEndings(t)
	var conns []net.Conn
	for _, say := range lineProtocols {
		client, err := net.Dial("tcp", e.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := e.listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, client, server)
		s := &script{t: t, client: client, server: server}
		if s.hand(say[0], true); say[1] != "" {
			s.respond(say[1], 0)
		}
	}
	expectSum(t, e.a, float64(len(conns)), "perfagent_undecoded_connections", "reason", "unknown")
	expectSum(t, e.a, 0, "http_server_active_requests")
	for _, conn := range conns {
		conn.Close()
	}
	expectSum(t, e.a, 0, "perfagent_undecoded_connections")
	balance(t, e.a)
}

// A connection that changes to HTTP/2 by Upgrade is the exchange with status 101, and from then on an undecoded one.
func TestE2EUpgradeH2C(t *testing.T) {
	requireRoot(t)
	e := listenEndings(t)
	const preface, settings = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	answer := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
	for name, glued := range map[string]bool{"apart": false, "glued": true} {
		e.run(t, name, func(s *script) {
			for range 2 { // the first server has not heard of it
				s.request("GET", []string{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"})
				if s.b.want == nil {
					s.respond(okHead+"ok", 2)
					s.complete(200)
				}
			}
			if glued {
				s.respond(answer+settings, 0)
			} else {
				s.respond(answer, 0)
			}
			s.complete(101)
			s.hand(preface+settings, false)
			s.respond(settings+"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88", 0)
			expectSum(t, e.a, 2, "perfagent_undecoded_connections", "reason", "http2")
			expectSum(t, e.a, 2, "perfagent_undecoded_connections")
		})
	}
	balance(t, e.a, e.books...)
}
