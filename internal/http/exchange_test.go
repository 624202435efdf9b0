package http

import (
	"errors"
	"fmt"
	"testing"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	getHead  = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
	headHead = "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n"
	okHead   = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	chunkOK  = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
)

// TestExchange shows what records become, one row for each way in which an exchange ends. Byte counts of 0 stand for
// the captured length.
func TestExchange(t *testing.T) {
	const swept, closed, timeout = wire.FlagSwept, wire.FlagClosed, wire.FlagTimeout
	const old10 = "HTTP/1.0 200 OK\r\n\r\n"
	longHead := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: "
	tests := []struct {
		name              string
		flags             wire.Flags
		request, response string
		reqBytes, bytes   uint64
		want              string // status error request-size response-size final
	}{
		{"plain", 0, getHead, okHead, 0, 43, "200  0 5 true"},
		{"another request behind", 0, getHead + getHead, okHead, 0, 43, "200  0 5 true"},
		{"lines that end without CR", 0, "GET /a HTTP/1.1\nHost: h\n\n", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", 0, 0, "200  0 5 true"},
		{"lengths differ", closed, getHead, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\nabcde", 0, 0, "200  0 5 true"},
		{"length beyond 63 bits", closed, getHead, "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nabc", 0, 0, "200  0 3 true"},
		{"large upload", 0, "POST / HTTP/1.1\r\nContent-Length: 5368709120\r\n\r\n", okHead, 47 + 5<<30, 43, "200  5368709120 5 true"},
		{"request head cut, length known", 0, "POST / HTTP/1.1\r\nContent-Length: 70\r\nX: ", okHead, 5000, 43, "200  70 5 true"},
		{"request head cut, length unknown", 0, "GET / HTTP/1.1\r\nX: ", okHead, 5000, 43, "200  -1 5 true"},
		{"target cut", 0, "GET /abc", okHead, 5000, 43, "200  -1 5 true"},
		{"no response, closed", closed, getHead, "", 0, 0, "0 aborted 0 -1 true"},
		{"no response, timeout", timeout, getHead, "", 0, 0, "0 timeout 0 -1 true"},
		{"no response", 0, getHead, "", 0, 0, "0 aborted 0 -1 true"},
		{"only 100, closed", closed, getHead, "HTTP/1.1 100 Continue\r\n\r\n", 0, 0, "0 aborted 0 -1 true"},
		{"only 100, timeout", timeout, getHead, "HTTP/1.1 100 Continue\r\n\r\n", 0, 0, "0 timeout 0 -1 true"},
		{"status cut, closed", closed, getHead, "HTTP/1.1 2", 0, 0, "0 aborted 0 -1 true"},
		{"short body, closed", closed, getHead, okHead, 0, 42, "200 aborted 0 4 true"},
		{"whole body, closed", closed, getHead, okHead, 0, 43, "200  0 5 true"},
		{"head cut by close", closed, getHead, longHead, 0, 0, "200 aborted 0 5 true"},
		{"close-delimited, closed", closed, getHead, old10 + "abc", 0, 0, "200  0 3 true"},
		{"chunks cut by close", closed, getHead, chunkOK + "5\r\nab", 0, 0, "200 aborted 0 5 true"},
		{"chunks with trailer, closed", closed, getHead, chunkOK + "0\r\nA: b\r\n\r\n", 0, 0, "200  0 11 true"},
		{"HEAD", 0, headHead, okHead, 0, 0, "200  0 0 true"},
		{"304", 0, getHead, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 0, 0, "304  0 0 true"},
		{"interim heads", 0, getHead, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + okHead + "hello", 0, 0, "200  0 5 true"},
		{"101", 0, getHead, "HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x00", 0, 0, "101  0 0 true"},
		{"CONNECT", 0, "CONNECT a:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nxyz", 0, 0, "200  0 0 true"},
		{"500", 0, getHead, "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", 0, 0, "500 500 0 0 true"},
		{"404", 0, getHead, "HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n", 0, 0, "404  0 0 true"},
		{"999", 0, getHead, "HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n", 0, 0, "999 999 0 0 true"},
		{"swept, complete", swept, getHead, okHead, 0, 43, "200  0 5 true"},
		{"swept, short", swept, getHead, okHead, 0, 42, "200  0 4 false"},
		{"swept, waiting", swept, getHead, "", 0, 0, "0  0 -1 false"},
		{"swept, only 100", swept, getHead, "HTTP/1.1 100 Continue\r\n\r\n", 0, 0, "0  0 -1 false"},
		{"swept, chunks end", swept | wire.FlagChunkedEnd, getHead, chunkOK, 0, 5000, "200  0 4953 true"},
		{"swept, chunks go on", swept, getHead, chunkOK, 0, 5000, "200  0 4953 false"},
		{"swept, chunks all seen", swept, getHead, chunkOK + "1\r\na\r\n0\r\n\r\n", 0, 0, "200  0 11 true"},
		{"swept, close-delimited", swept, getHead, old10 + "abc", 0, 0, "200  0 3 false"},
		{"swept, HEAD", swept, headHead, okHead, 0, 0, "200  0 0 true"},
		{"swept, head longer than capture", swept, getHead, longHead, 0, 900, "200  0 5 true"},
		{"swept, head not complete", swept, getHead, longHead, 0, 0, "200  0 5 false"},
		{"swept, timeout", swept | timeout, getHead, "", 0, 0, "0 timeout 0 -1 true"},
		{"swept, 101", swept, getHead, "HTTP/1.1 101 S\r\n\r\n", 0, 0, "101  0 0 true"},
	}
	var d Decoder
	for _, tt := range tests {
		rec := wire.Record{
			Conn: 7, Seq: 3, PID: 9, Role: wire.RoleServer, Flags: tt.flags, Arrived: 1, Read: 2, Responded: 3, Finished: 4,
			Request: []byte(tt.request), Response: []byte(tt.response), RequestBytes: tt.reqBytes, ResponseBytes: tt.bytes,
		}
		if rec.RequestBytes == 0 {
			rec.RequestBytes = uint64(len(tt.request))
		}
		if rec.ResponseBytes == 0 {
			rec.ResponseBytes = uint64(len(tt.response))
		}
		var ex wire.Exchange
		final, err := d.Exchange(&rec, &ex)
		got := fmt.Sprint(ex.Code, " ", ex.ErrorType, " ", ex.RequestSize, " ", ex.ResponseSize, " ", final)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.name, got, err, tt.want)
		}
		ended := int64(4)
		if ex.Code != 0 && ex.ErrorType == "aborted" { // see TestExchangeCutUnnoticed
			ended = 0
		}
		if ex.Conn != 7 || ex.Seq != 3 || ex.PID != 9 || ex.Arrived != 1 || ex.Finished != ended {
			t.Errorf("%s: %+v", tt.name, ex)
		}
	}
}

// TestExchangeClient shows that a 4xx is the client's error.
func TestExchangeClient(t *testing.T) {
	var d Decoder
	var ex wire.Exchange
	rec := wire.Record{Role: wire.RoleClient, Request: []byte(getHead), Response: []byte("HTTP/1.1 404 X\r\n\r\n")}
	if _, err := d.Exchange(&rec, &ex); err != nil || ex.ErrorType != "404" {
		t.Errorf("error type %q, %v", ex.ErrorType, err)
	}
}

// TestExchangeErrors shows the reasons for which a record is not reported.
func TestExchangeErrors(t *testing.T) {
	tests := []struct {
		rec  wire.Record
		want error
	}{
		{wire.Record{}, ErrEmpty},
		{wire.Record{Flags: wire.FlagUnreadable}, ErrUnreadable},
		{wire.Record{Request: []byte("\x16\x03")}, ErrNotHTTP},
		{wire.Record{Request: []byte("GET  HTTP/1.1\r\n")}, ErrMalformed},
		{wire.Record{Request: []byte(getHead), Response: []byte("SSH-2.0"), ResponseBytes: 7}, ErrNotHTTP},
		{wire.Record{Request: []byte(getHead), ResponseBytes: 7}, ErrStatusCut},
		{wire.Record{Request: []byte(getHead), ResponseBytes: 7, Flags: wire.FlagUnreadable}, ErrUnreadable},
		{wire.Record{Request: []byte(getHead), ResponseBytes: 7, Flags: wire.FlagClosed}, ErrStatusCut},
	}
	var d Decoder
	for i, tt := range tests {
		var ex wire.Exchange
		_, err := d.Exchange(&tt.rec, &ex)
		var pe *ParseError
		if err != tt.want || !errors.As(err, &pe) || pe.Reason() == "" {
			t.Errorf("%d: got %v, want %v", i, err, tt.want)
		}
	}
}

// What is not a request line as far as it goes may be anything: it makes no exchange, remembered or not, unless more of it was
// not captured and it has a method and a target.
func TestExchangeWithoutRequest(t *testing.T) {
	memo := NewMemo[int]()
	for _, tt := range []struct {
		request string
		more    uint64
		flags   wire.Flags
		want    error
	}{
		{"SECRETBODYWORDS", 0, 0, ErrNoRequest},
		{"SECRETBODYWORDS", 9, 0, ErrNoRequest},
		{"SECRET BODY", 9, wire.FlagHeadCut, ErrNoRequest},
		{"SECRET BODY WORDS", 0, 0, ErrNotHTTP},
		{"GET secret", 0, 0, ErrNoRequest},
		{"GET /a", 9, 0, nil},
		{"GET /a", 0, 0, ErrNoRequest},
		{"GET /a", 0, wire.FlagHeadCut, nil},
		{"x", 0, 0, ErrNoRequest},
		{"GET /a HTTP/1.1", 0, 0, ErrNoRequest},
		{"GET /a HTTP/1.1\n", 0, 0, nil},
	} {
		rec := wire.Record{Flags: tt.flags, Request: []byte(tt.request), RequestBytes: uint64(len(tt.request)) + tt.more, Response: []byte(okHead), ResponseBytes: 43}
		var d Decoder
		var ex wire.Exchange
		if _, err := d.Exchange(&rec, &ex); err != tt.want {
			t.Errorf("%q, %d more: got %v, want %v", tt.request, tt.more, err, tt.want)
		}
		if _, _, err := memo.Exchange(&rec); err != tt.want {
			t.Errorf("%q, %d more, remembered: got %v, want %v", tt.request, tt.more, err, tt.want)
		}
	}
}

// An exchange that only its bytes show to be cut off has no instant of its end: the record's is that of its last byte.
func TestExchangeCutUnnoticed(t *testing.T) {
	for flags, want := range map[wire.Flags]int64{wire.FlagClosed: 0, wire.FlagClosed | wire.FlagCut: 7} {
		rec := wire.Record{Flags: flags, Request: []byte(getHead), RequestBytes: 28, ResponseBytes: 43, Finished: 7,
			Response: []byte("HTTP/1.1 200 OK\r\nContent-Length: 10, 10\r\n\r\n")}
		var d Decoder
		var ex wire.Exchange
		if _, err := d.Exchange(&rec, &ex); err != nil || ex.ErrorType != "aborted" || ex.Finished != want {
			t.Errorf("flags %v: %q at %d, expected aborted at %d; %v", flags, ex.ErrorType, ex.Finished, want, err)
		}
	}
}

// TestExchangeAllocations shows that a record is decoded without allocation.
func TestExchangeAllocations(t *testing.T) {
	rec := wire.Record{Request: []byte(browserHead), Response: []byte("HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\n")}
	var d Decoder
	var ex wire.Exchange
	if n := testing.AllocsPerRun(100, func() { _, _ = d.Exchange(&rec, &ex) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestChunkedSplit cuts chunked bodies at every byte and reads both parts.
func TestChunkedSplit(t *testing.T) {
	for _, body := range []string{
		"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "A;ext=\"x\"\r\n0123456789\r\n001\r\nz\r\n0\r\nTrailer: a\r\nB: c\r\n\r\n", "1\na\n0\n\n",
	} {
		for cut := range len(body) + 1 {
			var c chunked
			n, done, ok := c.scan([]byte(body[:cut]))
			if !ok || n != cut || done != (cut == len(body)) {
				t.Fatalf("%q at %d: %d %t %t", body, cut, n, done, ok)
			}
			if done {
				continue
			}
			if n, done, ok = c.scan([]byte(body[cut:] + "GET")); !ok || !done || n != len(body)-cut {
				t.Fatalf("%q behind %d: %d %t %t", body, cut, n, done, ok)
			}
		}
	}
	for _, body := range []string{"x", "\r\n", "5\r\nhelloX", "10000000000000000\r\n", "5 \rx5"} {
		var c chunked
		if n, done, ok := c.scan([]byte(body)); done || ok && n == len(body) && body != "5 \rx5" {
			t.Errorf("%q: %d %t %t", body, n, done, ok)
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	rec := wire.Record{
		Role: wire.RoleServer, Request: []byte(browserHead), RequestBytes: uint64(len(browserHead)), ResponseBytes: 230,
		Response: []byte("HTTP/1.1 200 OK\r\nServer: nginx/1.26.3\r\nDate: Mon, 01 Jan 2026 00:00:00 GMT\r\n" +
			"Content-Type: application/octet-stream\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n"),
	}
	var d Decoder
	var ex wire.Exchange
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Exchange(&rec, &ex); err != nil {
			b.Fatal(err)
		}
	}
}
