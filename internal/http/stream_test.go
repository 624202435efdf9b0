package http

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

// tape feeds one connection's fragments to Streams, an instant of 10 apart (arrivals 3 earlier), and notes what comes out.
type tape struct {
	s     *Streams
	conn  uint64
	seq   uint32
	role  wire.Role
	flags wire.Flags
	at    int64
	out   []string
	last  wire.Exchange
	lost  map[wire.Loss]int
	fails int
}

func newTape(opts StreamOptions) *tape {
	t := &tape{conn: 1, role: wire.RoleServer, lost: map[wire.Loss]int{}}
	opts.Lost = func(l wire.Loss, n int) { t.lost[l] += n }
	opts.Failed = func(*ParseError) { t.fails++ }
	t.s = NewStreams(opts)
	return t
}

func (t *tape) note(ex *wire.Exchange) {
	t.last = *ex.Clone()
	t.out = append(t.out, fmt.Sprintf("%d %s %s %d %s %d %d", ex.Seq, ex.Verb, ex.Path, ex.Code, ex.ErrorType, ex.RequestSize, ex.ResponseSize))
}

func (t *tape) send(flags wire.Flags, data string, uncaptured uint64) {
	t.at += 10
	arrived := t.at
	if (flags&wire.FlagRequestDirection != 0) == (t.role == wire.RoleServer) { // received
		arrived -= 3
	}
	t.s.Fragment(&wire.Fragment{
		Conn: t.conn, Seq: t.seq, Role: t.role, Flags: t.flags | flags, At: t.at, Arrived: arrived,
		Length: uint64(len(data)) + uncaptured, Data: []byte(data),
	}, t.note)
}

func (t *tape) request(data string)  { t.send(wire.FlagRequestDirection, data, 0) }
func (t *tape) response(data string) { t.send(0, data, 0) }
func (t *tape) close()               { t.send(wire.FlagClosed, "", 0) }

// play runs a script: one line a fragment, "> data" requests, "< data" responses, "+N" behind it uncaptured bytes, "x"
// the close, "sweep N" a sweep N ns later with a deadline of a second. It is written with \r\n as ~.
func (t *tape) play(script string) {
	for line := range strings.Lines(script) {
		line = strings.ReplaceAll(strings.TrimSpace(line), "~", "\r\n")
		var gap uint64
		if data, n, ok := strings.Cut(line, "|+"); ok {
			line = data
			fmt.Sscan(n, &gap)
		}
		var wait int64
		switch {
		case line == "":
		case line == "x":
			t.close()
		case line == "reset":
			t.send(wire.FlagClosed|wire.FlagCut, "", 0)
		case line == "half":
			t.send(wire.FlagClosed|wire.FlagHalf, "", 0)
		case strings.HasPrefix(line, "> "):
			t.send(wire.FlagRequestDirection, line[2:], gap)
		case strings.HasPrefix(line, "< "):
			t.send(0, line[2:], gap)
		default:
			if n, _ := fmt.Sscanf(line, "sweep %d", &wait); n != 1 {
				panic("script: " + line)
			}
			t.at += wait
			t.s.Sweep(t.at, time.Second, t.note)
		}
	}
}

func (t *tape) result() string {
	s := strings.Join(t.out, "; ")
	for _, l := range wire.Losses {
		if n := t.lost[l]; n > 0 {
			s += fmt.Sprintf("; lost %s %d", l.Reason, n)
		}
	}
	return strings.TrimPrefix(s, "; ")
}

// TestStream shows what scripts of fragments become: seq, method, path, status, error, request size, response size.
func TestStream(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"plain", `> GET /a HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 2~~ok`, "0 GET /a 200  0 2"},
		{"three in one fragment", `> GET /a HTTP/1.1~~GET /b HTTP/1.1~~GET /c HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 1~~aHTTP/1.1 204 N~~HTTP/1.1 500 E~Content-Length: 0~~`,
			"0 GET /a 200  0 1; 1 GET /b 204  0 0; 2 GET /c 500 500 0 0"},
		{"chunked both ways", `> POST /a HTTP/1.1~Transfer-Encoding: chunked~~3~abc~
			> 0~~GET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~1~a~
			< 0~T: x~~HTTP/1.1 304 N~Content-Length: 7~~`, "0 POST /a 200  13 17; 1 GET /b 304  0 0"},
		{"a size of many zeros", `> GET /a HTTP/1.1~~
			< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~00000000000000000000a~0123456789~0~~`, "0 GET /a 200  0 40"},
		{"a chunk of 64 bits, cut off", `> GET /a HTTP/1.1~~
			< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~ffffffffffffffff~0123
			x`, "0 GET /a 200 aborted 0 22"},
		{"HEAD", `> HEAD /a HTTP/1.1~~GET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 7~~HTTP/1.1 200 OK~Content-Length: 1~~b`, "0 HEAD /a 200  0 0; 1 GET /b 200  0 1"},
		{"100-continue", `> PUT /a HTTP/1.1~Expect: 100-continue~Content-Length: 3~~
			< HTTP/1.1 100 Continue~~
			> abc
			< HTTP/1.1 103 E~Link: x~~HTTP/1.1 201 C~Content-Length: 0~~`, "0 PUT /a 201  3 0"},
		{"a body that was not asked for is not sent", `> PUT /a HTTP/1.1~Expect: 100-continue~Content-Length: 900~~
			< HTTP/1.1 417 E~Content-Length: 2~~no
			> PUT /b HTTP/1.1~Expect: 100-continue~Transfer-Encoding: chunked~~
			< HTTP/1.1 307 T~Content-Length: 0~~
			> GET /c HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~`, "0 PUT /a 417  0 2; 1 PUT /b 307  0 0; 2 GET /c 200  0 0"},
		{"a body that was not asked for is sent", `> PUT /a HTTP/1.1~Expect: 100-continue~Content-Length: 3~~
			< HTTP/1.1 417 E~Content-Length: 0~~
			> ab
			> cGET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~`, "0 PUT /a 417  3 0; 1 GET /b 200  0 0"},
		{"a body like a request that was asked for", `> PUT /a HTTP/1.1~Expect: 100-continue~Content-Length: 18~~
			< HTTP/1.1 200 OK~Content-Length: 0~~
			> GET /b HTTP/1.1~~
			x`, "0 PUT /a 200  18 0"},
		{"words in a request's place", `> POST /a HTTP/1.1~Content-Length: 5~~abcdeSECRETBODYWORDS
			< HTTP/1.1 200 OK~Content-Length: 0~~
			< HTTP/1.1 400 B~Content-Length: 0~~
			> GET /c HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~
			> GET secret
			x`, "0 POST /a 200  5 0; 2 GET /c 200  0 0; lost desync 2"},
		{"early final response", `> PUT /a HTTP/1.1~Content-Length: 6~~abc
			< HTTP/1.1 413 T~Content-Length: 0~~
			> defGET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~`, "0 PUT /a 413  6 0; 1 GET /b 200  0 0"},
		{"response to half a head", `> GET /a HTTP/1.1~Ho
			< HTTP/1.1 408 T~Content-Length: 0~~
			x`, "0 GET /a 408  -1 0"},
		{"close-delimited", `> GET /a HTTP/1.0~~
			< HTTP/1.0 200 OK~~ab
			< cd
			x`, "0 GET /a 200  0 4"},
		{"closed in the body", `> GET /a HTTP/1.1~~GET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 9~~ab
			x`, "0 GET /a 200 aborted 0 2; 1 GET /b 0 aborted 0 -1"},
		{"closed in a length that is folded", `> GET /a HTTP/1.1~~GET /b HTTP/1.1~Content-Length:~ ~	2~~ab
			< HTTP/1.1 200 OK~Content-Length:~ 0~~HTTP/1.1 200 OK~Content-Length:~	~ 9~~ab
			x`, "0 GET /a 200  0 0; 1 GET /b 200 aborted 2 2"},
		{"closed in chunks", `> GET /a HTTP/1.1~~
			< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~9~ab
			x`, "0 GET /a 200 aborted 0 5"},
		{"closed in the response's head", `> GET /a HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Le
			x`, "0 GET /a 200 aborted 0 -1"},
		{"closed in the status", `> GET /a HTTP/1.1~~
			< HTTP/1.1 20
			x`, "0 GET /a 0 aborted 0 -1"},
		{"closed in the request's head", `> GET /a HTTP/1.1~Ho
			x`, "0 GET /a 0 aborted -1 -1"},
		{"upgrade", `> GET /ws HTTP/1.1~Connection: upgrade~Upgrade: websocket~~
			< HTTP/1.1 101 S~~abc
			> GET /no HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~
			x`, "0 GET /ws 101  0 0"},
		{"upgrade refused", `> GET /a HTTP/1.1~Connection: upgrade~Upgrade: h2c~~
			< HTTP/1.1 200 O~Content-Length: 0~~
			> GET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~`, "0 GET /a 200  0 0; 1 GET /b 200  0 0"},
		{"CONNECT with eager data", `> CONNECT a:1 HTTP/1.1~~
			> 	tls
			< HTTP/1.1 200 OK~~
			< 	tls
			x`, "0 CONNECT  200  0 0"},
		{"CONNECT refused", `> CONNECT a:1 HTTP/1.1~~
			< HTTP/1.1 407 P~Content-Length: 0~~
			> CONNECT a:1 HTTP/1.1~~`, "0 CONNECT  407  0 0"},
		{"empty lines", `> POST /a HTTP/1.1~Content-Length: 1~~a~
			> ~GET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~~HTTP/1.1 200 OK~Content-Length: 0~~`, "0 POST /a 200  1 0; 1 GET /b 200  0 0"},
		{"bodies not captured", `> POST /a HTTP/1.1~Content-Length: 6000000000~~a|+5999999998
			> bGET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 5000000000~~ab|+4999999998
			< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~1000~a|+4000
			< |+95
			< ~0~~`, "0 POST /a 200  6000000000 5000000000; 1 GET /b 200  0 4109"},
		{"gap behind a chunk, found by the last chunk", `> GET /a HTTP/1.1~~
			< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~10~a|+5000
			< 5~abcde~0~~
			> GET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~`, "0 GET /a 200  0 5020; 1 GET /b 200  0 0"},
		{"gap behind a chunk, found by the next response", `> GET /a HTTP/1.1~~GET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~10~a|+5000
			< HTTP/1.1 200 OK~Content-Length: 0~~`, "0 GET /a 200  0 5005; 1 GET /b 200  0 0"},
		{"gap behind a chunk, found by silence", `> GET /a HTTP/1.1~~
			< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~10~a|+5000
			sweep 100000000
			sweep 100000001`, "0 GET /a 200  0 5005"},
		{"gap behind a chunk that hides a response", `> GET /a HTTP/1.1~~GET /b HTTP/1.1~~GET /c HTTP/1.1~~
			< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~10~a|+5000
			< HTTP/1.1 200 OK~Content-Length: 0~~
			x`, "0 GET /a 200  0 5005; 1 GET /b 200  0 0; lost desync 1"},
		{"gap behind a request's chunk", `> POST /a HTTP/1.1~Transfer-Encoding: chunked~~10~a|+5000
			> POST /b HTTP/1.1~Content-Length: 1~~b
			< HTTP/1.1 200 OK~Content-Length: 0~~HTTP/1.1 200 OK~Content-Length: 0~~`, "0 POST /a 200  5005 0; 1 POST /b 200  1 0"},
		{"gap that hides requests", `> GET /a HTTP/1.1~~|+500
			> GET /d HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~HTTP/1.1 201 OK~Content-Length: 0~~
			< HTTP/1.1 202 OK~Content-Length: 0~~HTTP/1.1 203 OK~Content-Length: 0~~
			x`, "0 GET /a 200  0 0; 2 GET /d 202  0 0; lost desync 2"},
		{"gap that hides a response", `> GET /a HTTP/1.1~~GET /b HTTP/1.1~~GET /c HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 1~~|+20
			< HTTP/1.1 200 OK~Content-Length: 0~~
			x`, "0 GET /a 200  0 1; 2 GET /c 200  0 0; lost desync 1"},
		{"gap in a request's head", `> GET /a HTTP/1.1~Hos|+3000
			> GET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~HTTP/1.1 200 OK~Content-Length: 0~~`, "0 GET /a 200  -1 0; 1 GET /b 200  0 0"},
		{"gap in a response's head", `> GET /a HTTP/1.1~~GET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 4~X|+300
			< HTTP/1.1 200 OK~Content-Length: 0~~`, "0 GET /a 200  0 4; 1 GET /b 200  0 0"},
		{"gap in a status", `> GET /a HTTP/1.1~~GET /b HTTP/1.1~~
			< HTTP/1.1 2|+300
			< HTTP/1.1 200 OK~Content-Length: 0~~`, "1 GET /b 200  0 0; lost desync 1"},
		{"not HTTP", `> hello world this is it~
			< HTTP/1.1 400 B~Content-Length: 0~~
			x`, "lost desync 1"},
		{"malformed request line", `> GET /a HTTP/1.x~~
			< HTTP/1.1 400 B~Content-Length: 0~~
			> GET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~`, "1 GET /b 200  0 0; lost parse 1"},
		{"unsolicited 408", `> GET /a HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~
			< HTTP/1.1 408 T~Content-Length: 0~~
			x`, "0 GET /a 200  0 0"},
		{"garbage response", `> GET /a HTTP/1.1~~
			< nonsense
			x`, "lost desync 1"},
		{"timeout once", `> GET /a HTTP/1.1~~GET /b HTTP/1.1~~
			sweep 999999999
			sweep 1
			sweep 5
			< HTTP/1.1 200 OK~Content-Length: 0~~
			< HTTP/1.1 200 OK~Content-Length: 0~~
			> GET /c HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~
			x`, "0 GET /a 0 timeout 0 -1; 1 GET /b 0 timeout 0 -1; 2 GET /c 200  0 0"},
		{"a long response is no timeout", `> GET /a HTTP/1.1~~GET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 2~~a
			sweep 2000000000
			< aHTTP/1.1 200 OK~Content-Length: 0~~`, "0 GET /a 200  0 2; 1 GET /b 200  0 0"},
		{"idle connection forgotten", `> GET /a HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~
			sweep 300000000000
			> GET /b HTTP/1.1~~`, "0 GET /a 200  0 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tp := newTape(StreamOptions{})
			tp.play(tt.script)
			if got := tp.result(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			checkBooks(t, tp)
		})
	}
}

// checkBooks closes the connection: every request that was seen was either reported or counted as lost.
func checkBooks(t *testing.T, tp *tape) {
	t.Helper()
	tp.close()
	st, n := tp.s.Stats(), 0
	for _, k := range tp.lost {
		n += k
	}
	if st.Requests != st.Reported+st.Lost || st.Lost != uint64(n) || st.Reported != uint64(len(tp.out)) || st.Streams != 0 {
		t.Errorf("books: %+v, lost %d", st, n)
	}
}

// TestStreamOlder shows a connection joined in the middle of a body: nothing is made up, and the next exchange is right.
func TestStreamOlder(t *testing.T) {
	tp := newTape(StreamOptions{})
	tp.flags = wire.FlagOlder
	tp.play(`> of a body~which ends
		< rest of a response
		< HTTP/1.1 200 OK~Content-Length: 0~~
		> GET /a HTTP/1.1~~
		< HTTP/1.1 200 OK~Content-Length: 1~~a`)
	if got, want := tp.result(), "0 GET /a 200  0 1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	checkBooks(t, tp)
}

// TestStreamJoined begins a pipelined connection at every byte: what follows the next fragments is reported, and never
// more than there was.
func TestStreamJoined(t *testing.T) {
	requests, responses := transcript(4)
	for cut := range len(requests) {
		tp := newTape(StreamOptions{})
		tp.flags = wire.FlagOlder
		tp.request(requests[cut:])
		tp.response(responses)
		tp.request("GET /after HTTP/1.1\r\n\r\n")
		tp.response("HTTP/1.1 222 OK\r\nContent-Length: 0\r\n\r\n")
		checkBooks(t, tp)
		if n := len(tp.out); n == 0 || n > 5 || !strings.Contains(tp.out[n-1], "/after 2") && cut == 0 {
			t.Fatalf("cut %d: %s", cut, tp.result())
		}
	}
}

// TestStreamInstants shows which fragments the instants are taken from, for both roles.
func TestStreamInstants(t *testing.T) {
	script := `> GE
		> T /a HTTP/1.1~~
		< HTTP/1.1 100 Continue~~
		< HT
		< TP/1.1 200 OK~Content-Length: 2~~a
		< b`
	tp := newTape(StreamOptions{})
	tp.seq = 41
	tp.play(script)
	e := tp.last
	if e.Arrived != 7 || e.Read != 10 || e.Responded != 40 || e.Finished != 60 || e.Seq != 41 || e.Flags != 0 {
		t.Errorf("server: %+v", e)
	}
	tp = newTape(StreamOptions{})
	tp.role = wire.RoleClient
	tp.play(script)
	if e = tp.last; e.Arrived != 10 || e.Read != 0 || e.Responded != 37 || e.Finished != 60 || e.Flags != 0 {
		t.Errorf("client: %+v", e)
	}
	tp = newTape(StreamOptions{})
	f := wire.Fragment{Conn: 1, Role: wire.RoleServer, Flags: wire.FlagRequestDirection | wire.FlagUnix, At: 5, Data: []byte("GET / HTTP/1.1\r\n\r\n")}
	tp.s.Fragment(&f, tp.note)
	tp.s.Fragment(&wire.Fragment{Conn: 1, At: 9, Length: 0, Flags: wire.FlagClosed}, tp.note)
	if e = tp.last; e.Arrived != 0 || e.Read != 5 || e.Finished != 9 || e.Flags != wire.FlagNoArrival|wire.FlagUnix|wire.FlagClosed {
		t.Errorf("no arrival: %+v", e)
	}
	// What was captured of a response before user space followed the connection: its first byte and its last.
	tp = newTape(StreamOptions{})
	tp.request("GET /a HTTP/1.1\r\n\r\n")
	tp.s.Fragment(&wire.Fragment{Conn: tp.conn, Role: tp.role, Arrived: 15, At: 25, Data: []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}, tp.note)
	if e = tp.last; e.Arrived != 7 || e.Read != 10 || e.Responded != 15 || e.Finished != 25 {
		t.Errorf("captured: %+v", e)
	}
}

// transcript returns n pipelined requests and their responses, of every framing.
func transcript(n int) (requests, responses string) {
	for i := range n {
		switch i % 4 {
		case 0:
			requests += fmt.Sprintf("GET /p/%d?q=1 HTTP/1.1\r\nHost: h%d\r\n\r\n", i, i)
			responses += "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
		case 1:
			requests += fmt.Sprintf("POST /p/%d HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\nGET / H", i)
			responses += "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nHTTP\r\n0\r\n\r\n"
		case 2:
			requests += fmt.Sprintf("HEAD /p/%d HTTP/1.1\nHost: h\n\n", i)
			responses += "HTTP/1.1 404 Not Found\nContent-Length: 99\n\n"
		case 3:
			requests += fmt.Sprintf("PUT /p/%d HTTP/1.1\r\nTransfer-Encoding: chunked\r\nUser-Agent: u\r\n\r\n1;x=y\r\na\r\n0\r\nT: v\r\n\r\n", i)
			responses += "HTTP/1.1 204 No Content\r\n\r\n"
		}
	}
	return requests, responses
}

// oracle reads a transcript with net/http, and returns what the tape should note, without sizes.
func oracle(t *testing.T, requests, responses string) (want []string) {
	t.Helper()
	in, out := bufio.NewReader(strings.NewReader(requests)), bufio.NewReader(strings.NewReader(responses))
	for i := 0; ; i++ {
		req, err := http.ReadRequest(in)
		if err == io.EOF {
			return want
		} else if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(out, req)
		for err == nil && resp.StatusCode == 100 {
			resp, err = http.ReadResponse(out, req)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("%d %s %s %d", i, req.Method, req.URL.Path, resp.StatusCode))
	}
}

// TestStreamSplit splits sixteen pipelined exchanges at every byte of both directions, then into random pieces; net/http says
// what they are.
func TestStreamSplit(t *testing.T) {
	requests, responses := transcript(16)
	want := oracle(t, requests, responses)
	sizes := [4]string{"0 5", "7 14", "0 0", "21 0"}
	check := func(tp *tape, what string) {
		t.Helper()
		if len(tp.out) != len(want) {
			t.Fatalf("%s: %d exchanges, want %d: %s", what, len(tp.out), len(want), tp.result())
		}
		for i, got := range tp.out {
			if w := want[i] + "  " + sizes[i%4]; got != w {
				t.Fatalf("%s: got %q, want %q", what, got, w)
			}
		}
		checkBooks(t, tp)
	}
	for cut := range len(requests) {
		tp := newTape(StreamOptions{})
		tp.request(requests[:cut])
		tp.request(requests[cut:])
		tp.response(responses)
		check(tp, fmt.Sprint("requests at ", cut))
	}
	for cut := range len(responses) {
		tp := newTape(StreamOptions{})
		tp.request(requests)
		tp.response(responses[:cut])
		tp.response(responses[cut:])
		check(tp, fmt.Sprint("responses at ", cut))
	}
	rng := rand.New(rand.NewSource(2))
	for round := range 200 {
		tp := newTape(StreamOptions{})
		for in, most := requests, 1+rng.Intn(40); len(in) > 0; {
			n := min(len(in), 1+rng.Intn(most))
			tp.request(in[:n])
			in = in[n:]
		}
		for out, most := responses, 1+rng.Intn(40); len(out) > 0; {
			n := min(len(out), 1+rng.Intn(most))
			tp.response(out[:n])
			out = out[n:]
		}
		check(tp, fmt.Sprint("round ", round))
	}
}

// TestStreamLongHead shows a head of 64 KiB in pieces: its beginning is kept, its end is found, the memory is bounded.
func TestStreamLongHead(t *testing.T) {
	tp := newTape(StreamOptions{})
	tp.request("GET /a HTTP/1.1\r\nHost: h\r\nX: ")
	for range 64 {
		tp.request(strings.Repeat("x", 1024))
	}
	if b := tp.s.Stats().Bytes; b > headMax+4*pendingBytes {
		t.Errorf("%d bytes", b)
	}
	tp.request("\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
	tp.response(okHead + "hello" + okHead + "hello")
	if got, want := tp.result(), "0 GET /a 200  0 5; 1 GET /b 200  0 5"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	checkBooks(t, tp)
}

// TestStreamsFull shows that connections without room are counted, request by request, also once there is room again.
func TestStreamsFull(t *testing.T) {
	tp := newTape(StreamOptions{MaxStreams: 1})
	tp.request("GET /a HTTP/1.1\r\n\r\n")
	tp.conn = 2
	two := "POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nabGET /c HTTP/1.1\r\n\r\n"
	tp.request(two)
	tp.response(okHead + "hello" + okHead + "hello")
	tp.conn = 1
	tp.close()
	tp.conn = 2
	tp.request(two)
	tp.response(okHead + "hello")
	tp.close()
	tp.conn = 3
	tp.request("GET /d HTTP/1.1\r\n\r\n")
	tp.response(okHead + "hello")
	if got, want := tp.result(), "0 GET /a 0 aborted 0 -1; 0 GET /d 200  0 5; lost streams_full 4"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	checkBooks(t, tp)
}

// TestStreamMemory shows that outstanding requests are bounded, and that all of them are counted beyond the bound.
func TestStreamMemory(t *testing.T) {
	tp := newTape(StreamOptions{MaxBytes: 64 << 10})
	for range 200 {
		tp.request(browserHead)
		if b := tp.s.Stats().Bytes; b > 64<<10 {
			t.Fatalf("%d bytes", b)
		}
	}
	tp.response(okHead + "hello")
	if got, want := tp.result(), "lost streams_full 200"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	checkBooks(t, tp)
}

// TestStreamIgnored shows that the end of HTTP on a connection is told once, and that nothing is kept for it.
func TestStreamIgnored(t *testing.T) {
	told := 0
	s := NewStreams(StreamOptions{Ignored: func(conn uint64) { told += int(conn) }})
	emit := func(*wire.Exchange) {}
	s.Fragment(&wire.Fragment{Conn: 7, Flags: wire.FlagRequestDirection, Data: []byte("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nGET")}, emit)
	s.Fragment(&wire.Fragment{Conn: 7, Data: []byte("HTTP/1.1 101 S\r\n\r\nHTTP/1.1 101 S\r\n\r\n")}, emit)
	s.Fragment(&wire.Fragment{Conn: 7, Data: []byte("HTTP/1.1 101 S\r\n\r\n")}, emit)
	if st := s.Stats(); told != 7 || st.Requests != 1 || st.Reported != 1 || st.Lost != 0 {
		t.Errorf("told %d, %+v", told, st)
	}
}

// TestStreamActive shows which requests of irregular connections are under way: those that a server was sent and has not
// answered to the end, in part or not; not what was reported as a timeout, nor what a client waits for.
func TestStreamActive(t *testing.T) {
	for script, want := range map[string]int{
		`> GET /a HTTP/1.1~~GET /b HTTP/1.1~~GET /c HT`:                                 3,
		"> GET /a HTTP/1.1~~GET /b HTTP/1.1~~\n< HTTP/1.1 200 OK~Content-Length: 3~~ab": 2,
		"> GET /a HTTP/1.1~~GET /b HTTP/1.1~~\n< HTTP/1.1 200 OK~Content-Length: 2~~ab": 1,
		"> GET /a HTTP/1.1~~\n< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~1~a~":       1,
		"> GET /a HTTP/1.1~~\n< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~1~a~0~~":    0,
		"> GET /a HTTP/1.1~~\n< HTTP/1.0 200 OK~~ab":                                    1,
		"> GET /a HTTP/1.1~~\n< HTTP/1.0 200 OK~~ab\nx":                                 0,
		"> GET /a HTTP/1.1~~GET /b HTTP/1.1~~\nsweep 1000000000":                        0,
		"> GET /a HTTP/1.1~Upgrade: x~~GET /b HTTP/1.1~~\n< HTTP/1.1 101 S~~":           0,
	} {
		for _, role := range []wire.Role{wire.RoleServer, wire.RoleClient} {
			tape := newTape(StreamOptions{})
			tape.role = role
			tape.play(script)
			if role == wire.RoleClient {
				want = 0
			}
			active := 0
			tape.s.EachActive(func(pid uint32, comm *[16]byte) { active++ })
			if active != want {
				t.Errorf("%s %q: %d requests, expected %d", role, script, active, want)
			}
		}
	}
}

// TestStreamAllocations shows that a pipelined connection allocates nothing in the steady state, also in pieces.
func TestStreamAllocations(t *testing.T) {
	requests, responses := transcript(16)
	s := NewStreams(StreamOptions{})
	n := 0
	emit := func(*wire.Exchange) { n++ }
	fragments := []wire.Fragment{
		{Conn: 1, Flags: wire.FlagRequestDirection, Data: []byte(requests[:100])},
		{Conn: 1, Flags: wire.FlagRequestDirection, Data: []byte(requests[100:])},
		{Conn: 1, Data: []byte(responses[:50])},
		{Conn: 1, Data: []byte(responses[50:])},
	}
	if allocs := testing.AllocsPerRun(100, func() {
		for i := range fragments {
			s.Fragment(&fragments[i], emit)
		}
	}); allocs != 0 || n != 101*16 {
		t.Errorf("%v allocations, %d exchanges", allocs, n)
	}
}

func BenchmarkStreamPipelined16(b *testing.B) {
	s := NewStreams(StreamOptions{})
	emit := func(*wire.Exchange) {}
	in := wire.Fragment{Conn: 1, Flags: wire.FlagRequestDirection, Data: bytes.Repeat([]byte(browserHead), 16)}
	out := wire.Fragment{Conn: 1, Data: bytes.Repeat([]byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 2\r\n\r\nok"), 16)}
	b.ReportAllocs()
	for b.Loop() {
		s.Fragment(&in, emit)
		s.Fragment(&out, emit)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/16, "ns/exchange")
}

// FuzzStream cuts any bytes into fragments of both directions of a few connections: no panic, no more exchanges than
// requests, bounded memory, and books that balance.
func FuzzStream(f *testing.F) {
	requests, responses := transcript(4)
	f.Add([]byte(requests+responses), []byte{40, 1, 90, 2, 200, 3})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), []byte{18, 1, 19, 0, 0, 16})
	f.Add([]byte("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nHTTP/1.1 101 OK\r\n\r\n"), []byte{54, 9, 19, 0})
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		const bound = 16 << 10
		emitted, lost := uint64(0), uint64(0)
		s := NewStreams(StreamOptions{MaxStreams: 3, MaxBytes: bound, Lost: func(_ wire.Loss, n int) { lost += uint64(n) }})
		emit := func(ex *wire.Exchange) {
			emitted++
			if ex.RequestSize < -1 || ex.ResponseSize < -1 || ex.Verb == "" || ex.Finished == 0 || ex.Code == 0 && ex.ErrorType == "" {
				t.Fatalf("%+v", ex)
			}
		}
		at := int64(1)
		check := func() {
			if st := s.Stats(); st.Bytes > bound || st.Bytes < 0 || st.Streams > 3 || emitted != st.Reported || lost != st.Lost || emitted+lost > st.Requests {
				t.Fatalf("%+v, emitted %d, lost %d", st, emitted, lost)
			}
		}
		for len(data) > 0 && len(cuts) >= 2 {
			n := min(int(cuts[0]), len(data))
			how := cuts[1]
			fr := wire.Fragment{Conn: uint64(how >> 6), Role: wire.RoleServer + wire.Role(how>>6&1), At: at, Arrived: at / 2, Data: data[:n], Length: uint64(n)}
			if how&1 != 0 {
				fr.Flags |= wire.FlagRequestDirection
			}
			if how&2 != 0 {
				fr.Flags |= wire.FlagOlder
			}
			if how&4 != 0 {
				fr.Length += uint64(how) << (how & 63)
			}
			if how&56 == 56 {
				fr.Flags |= wire.FlagClosed
			}
			s.Fragment(&fr, emit)
			check()
			if how&56 == 48 {
				at += int64(time.Second)
				s.Sweep(at, time.Second, emit)
				check()
			}
			at += int64(n)
			data, cuts = data[n:], cuts[2:]
		}
		for conn := range uint64(4) {
			s.Fragment(&wire.Fragment{Conn: conn, At: at, Flags: wire.FlagClosed}, emit)
		}
		check()
		if st := s.Stats(); emitted+lost != st.Requests || st.Streams != 0 {
			t.Fatalf("at the end: %+v, emitted %d, lost %d", st, emitted, lost)
		}
	})
}

// TestStreamOddities shows rarer turns of the framing, found by reading what the table above leaves out.
func TestStreamOddities(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"request's length contradicts itself", `> POST /a HTTP/1.1~Content-Length: 1~Content-Length: 2~~abc
			> GET /b HTTP/1.1~~
			< HTTP/1.1 400 B~Content-Length: 0~~HTTP/1.1 200 OK~Content-Length: 0~~`, "0 POST /a 400  3 0; 1 GET /b 200  0 0"},
		{"response's length contradicts itself", `> GET /a HTTP/1.1~~GET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 1~Content-Length: 2~~ab
			< HTTP/1.1 200 OK~Content-Length: 0~~`, "0 GET /a 200  0 2; 1 GET /b 200  0 0"},
		{"response's chunk broken", `> GET /a HTTP/1.1~~
			< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~1~aX
			x`, "0 GET /a 200 aborted 0 5"},
		{"body until the end, closed", `> GET /a HTTP/1.1~~
			< HTTP/1.1 200 OK~~ab
			x`, "0 GET /a 200  0 2"},
		{"body until the end, reset", `> GET /a HTTP/1.1~~
			< HTTP/1.1 200 OK~~ab
			reset`, "0 GET /a 200 aborted 0 2"},
		{"answered early, body later", `> POST /a HTTP/1.1~Content-Length: 9~~abc
			< HTTP/1.1 413 B~Content-Length: 0~~
			sweep 900000000
			> def
			half
			> ghi
			x`, "0 POST /a 413  9 0"},
		{"half closed without an answer, body later", `> POST /a HTTP/1.1~Content-Length: 9~~abc
			half
			> def
			x`, "0 POST /a 0 aborted 3 -1"},
		{"answered early, body cut", `> POST /a HTTP/1.1~Content-Length: 9~~abc
			< HTTP/1.1 413 B~Content-Length: 0~~
			> def
			x`, "0 POST /a 413  6 0"},
		{"answered early, end of the body missed", `> POST /a HTTP/1.1~Transfer-Encoding: chunked~~3~ab
			< HTTP/1.1 413 B~Content-Length: 0~~
			> |+99
			x`, "0 POST /a 413  -1 0"},
		{"request's last chunk found again", `> POST /a HTTP/1.1~Transfer-Encoding: chunked~~1~a|+30
			> 1~a~0~~
			> G
			> ET /b HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~HTTP/1.1 200 OK~Content-Length: 0~~`, "0 POST /a 200  45 0; 1 GET /b 200  0 0"},
		{"malformed request line in pieces", `> GET /a HTTP/1.
			> x~~
			< HTTP/1.1 400 B~Content-Length: 0~~`, "lost parse 1"},
		{"malformed status line in pieces", `> GET /a HTTP/1.1~~
			< HTTP/1.1 2
			< x~~
			x`, "lost desync 1"},
		{"timeout inside a head, then its rest", `> GET /a HTTP/1.1~
			sweep 1000000000
			> ~GET /b HTTP/1.1~~
			< HTTP/1.1 408 T~Content-Length: 0~~HTTP/1.1 200 OK~Content-Length: 0~~`, "0 GET /a 0 timeout -1 -1; 1 GET /b 200  0 0"},
		{"interim head cut by a gap", `> GET /a HTTP/1.1~~
			< HTTP/1.1 103 E~Link: x|+700
			< HTTP/1.1 200 OK~Content-Length: 0~~`, "0 GET /a 200  0 0"},
		{"gap behind everything hides a response to a hidden request", `> GET /a HTTP/1.1~~|+100
			< HTTP/1.1 200 OK~Content-Length: 0~~|+100
			> GET /c HTTP/1.1~~
			< HTTP/1.1 200 OK~Content-Length: 0~~`, "0 GET /a 200  0 0; 2 GET /c 200  0 0; lost desync 1"},
		{"event stream that is silent for long", `> GET /events HTTP/1.1~~
			< HTTP/1.1 200 OK~Transfer-Encoding: chunked~~1~a~
			sweep 400000000000
			< 0~~`, "0 GET /events 200  0 11"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tp := newTape(StreamOptions{})
			tp.play(tt.script)
			if got := tp.result(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			checkBooks(t, tp)
		})
	}
}

// A fragment that was lost on its way is noticed by the position of the next: the requests in it are lost, not made up,
// and those behind it are reported.
func TestStreamLostFragment(t *testing.T) {
	lost := 0
	s := NewStreams(StreamOptions{Lost: func(_ wire.Loss, n int) { lost += n }})
	var got []string
	emit := func(ex *wire.Exchange) { got = append(got, string(ex.Path)) }
	request, response := "GET /%d HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	at := [2]uint64{}
	for i := range 5 {
		for direction, text := range []string{fmt.Sprintf(request, i), response} {
			f := wire.Fragment{Conn: 1, Role: wire.RoleServer, At: int64(10*i + direction + 1), Data: []byte(text),
				Length: uint64(len(text)), Position: at[direction]}
			if direction == 0 {
				f.Flags = wire.FlagRequestDirection
			}
			at[direction] += f.Length
			if i != 2 {
				s.Fragment(&f, emit)
			}
		}
	}
	if len(got) != 4 || got[2] != "/3" || lost != 1 {
		t.Errorf("reported %v, lost %d: expected /0 /1 /3 /4 and 1", got, lost)
	}
}
