package http

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand"
	"net/http"
	"strings"
	"testing"
)

// browserHead is a 500-byte head as a browser sends it through a proxy.
const browserHead = "GET /api/v1/users/12345/orders?limit=20&offset=40 HTTP/1.1\r\n" +
	"Host: shop.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Connection: keep-alive\r\n" +
	"Cookie: session=3f786850e387550fdab836ed7e6dc881de23001b\r\n" +
	"X-Forwarded-For: 203.0.113.7, 10.0.0.1\r\n" +
	"X-Request-Id: 0b7d5d2e-6f1c\r\n" +
	"Cache-Control: no-cache\r\n\r\n"

// TestParseRequest shows what is read of whole and cut request heads, one row each.
func TestParseRequest(t *testing.T) {
	tests := []struct {
		name, in string
		err      error
		want     string // summary: method form path authority/host proto, then flags
	}{
		{"origin", "GET /a?b#c HTTP/1.1\r\nHost: h\r\n\r\n", nil, "GET origin /a h http/1.1 cl=-1 complete=32"},
		{"1.0", "GET / HTTP/1.0\r\n\r\n", nil, "GET origin /  http/1.0 cl=-1 complete=18"},
		{"1.2 is 1.1", "GET / HTTP/1.2\r\n\r\n", nil, "GET origin /  http/1.1 cl=-1 complete=18"},
		{"minor of two digits", "GET / HTTP/1.10\r\n\r\n", nil, "GET origin /  http/1.1 cl=-1 complete=19"},
		{"bare LF", "GET / HTTP/1.1\nHost: h\n\n", nil, "GET origin / h http/1.1 cl=-1 complete=24"},
		{"empty lines in front", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", nil, "GET origin /  http/1.1 cl=-1 complete=22"},
		{"WebDAV", "PROPFIND /d HTTP/1.1\r\n\r\n", nil, "_OTHER(PROPFIND) origin /d  http/1.1 cl=-1 complete=24"},
		{"odd token", "b!#$%&'*+-.^_`|~1 /d HTTP/1.1\r\n\r\n", nil, "_OTHER(b!#$%&'*+-.^_`|~1) origin /d  http/1.1 cl=-1 complete=33"},
		{"methods have a case", "get / HTTP/1.1\r\n\r\n", nil, "_OTHER(get) origin /  http/1.1 cl=-1 complete=18"},
		{"QUERY", "QUERY / HTTP/1.1\r\n\r\n", nil, "QUERY origin /  http/1.1 cl=-1 complete=20"},
		{"absolute", "GET http://u:p@ex.org:80/a/b?q HTTP/1.1\r\nHost: other\r\n\r\n", nil, "GET absolute /a/b ex.org:80 http/1.1 cl=-1 complete=56"},
		{"absolute without path", "GET http://ex.org?q=/x HTTP/1.1\r\n\r\n", nil, "GET absolute / ex.org http/1.1 cl=-1 complete=35"},
		{"authority", "CONNECT ex.org:443 HTTP/1.1\r\n\r\n", nil, "CONNECT authority  ex.org:443 http/1.1 cl=-1 complete=31"},
		{"asterisk", "OPTIONS * HTTP/1.1\r\n\r\n", nil, "OPTIONS asterisk *  http/1.1 cl=-1 complete=22"},
		{"other form", "GET x HTTP/1.1\r\n\r\n", nil, "GET other x  http/1.1 cl=-1 complete=18"},
		{"space in target", "GET /a b HTTP/1.1\r\n\r\n", nil, "GET origin /a b  http/1.1 cl=-1 complete=21"},
		{"case and white space", "POST / HTTP/1.1\r\nhOST:\th \r\nCONTENT-length:  12\t\r\n\r\n", nil, "POST origin / h http/1.1 cl=12 complete=51"},
		{"equal lengths", "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n", nil, "POST origin /  http/1.1 cl=5 complete=41"},
		{"lengths differ", "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", nil, "POST origin /  http/1.1 cl=5 bad complete=57"},
		{"length signed", "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n", nil, "POST origin /  http/1.1 cl=-1 bad complete=39"},
		{"length beyond 63 bits", "POST / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n\r\n", nil, "POST origin /  http/1.1 cl=-1 bad complete=56"},
		{"length of 63 bits", "POST / HTTP/1.1\r\nContent-Length: 9223372036854775807\r\n\r\n", nil, "POST origin /  http/1.1 cl=9223372036854775807 complete=56"},
		{"chunked last", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n", nil, "POST origin /  http/1.1 cl=-1 te chunked complete=53"},
		{"chunked not last", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n", nil, "POST origin /  http/1.1 cl=-1 te complete=72"},
		{"fold", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip,\r\n chunked\r\nHost:\r\n\th\r\n\r\n", nil, "POST origin / h http/1.1 cl=-1 te chunked complete=66"},
		{"connection", "GET / HTTP/1.1\r\nConnection: Upgrade, close ,keep-alive\r\nUpgrade: websocket\r\nExpect: 100-Continue\r\n\r\n", nil, "GET origin /  http/1.1 cl=-1 close keep upgrade=websocket expect complete=100"},
		{"cut in method", "GE", nil, "_OTHER(GE) other   http/1.1 cl=-1 cut"},
		{"cut in target", "GET /users/1", nil, "GET origin /users/1  http/1.1 cl=-1 cut"},
		{"cut in version", "GET / HTT", nil, "GET origin /  http/1.1 cl=-1"},
		{"cut behind 1.0", "GET / HTTP/1.0\r", nil, "GET origin /  http/1.0 cl=-1"},
		{"cut in header", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1", nil, "GET origin / h http/1.1 cl=-1"},
		{"cut authority", "GET http://exa", nil, "GET absolute   http/1.1 cl=-1 cut"},
		{"NULs and invalid UTF-8", "GET /\x00\xff HTTP/1.1\r\nHost: \xff\x00\r\n\x00: \r\n\r\n", nil, "GET origin /\x00\xff \xff\x00 http/1.1 cl=-1 complete=35"},
		{"no colon", "GET / HTTP/1.1\r\nHost\r\n: x\r\n\r\n", nil, "GET origin /  http/1.1 cl=-1 complete=29"},
		{"empty", "", ErrEmpty, ""},
		{"only empty lines", "\r\n\r\n", ErrEmpty, ""},
		{"TLS", "\x16\x03\x01\x02\x00\x01", ErrNotHTTP, ""},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ErrNotHTTP, ""},
		{"HTTP/0.9", "GET /\r\n", ErrNotHTTP, ""},
		{"Redis", "*1\r\n$4\r\nPING\r\n", ErrNotHTTP, ""},
		{"SIP", "INVITE sip:a@b SIP/2.0\r\n\r\n", ErrNotHTTP, ""},
		{"text without end", "HELO this is text", ErrNotHTTP, ""},
		{"no target", "GET  HTTP/1.1\r\n\r\n", ErrMalformed, ""},
		{"bad minor", "GET / HTTP/1.x\r\n\r\n", ErrMalformed, ""},
		{"no minor", "GET / HTTP/1\r\n\r\n", ErrMalformed, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r Request
			if err := ParseRequest([]byte(tt.in), &r); err != tt.err {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if got := summary(&r); tt.err == nil && got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// summary writes what a table row compares.
func summary(r *Request) string {
	method := r.Method
	if method == methodOther {
		method += "(" + string(r.MethodOriginal) + ")"
	}
	host := r.Authority
	if len(host) == 0 {
		host = r.Host
	}
	form := [...]string{"other", "origin", "absolute", "authority", "asterisk"}[r.Form]
	s := fmt.Sprintf("%s %s %s %s %s cl=%d", method, form, r.Path, host, r.Proto, r.ContentLength)
	for _, f := range []struct {
		set  bool
		text string
	}{
		{r.BadLength, "bad"}, {r.Transfer, "te"}, {r.Chunked, "chunked"}, {r.Close, "close"}, {r.KeepAlive, "keep"},
		{r.Upgrade, "upgrade=" + string(r.UpgradeTo)}, {r.Expect, "expect"}, {r.TargetCut, "cut"},
		{r.Complete, fmt.Sprint("complete=", r.HeadLen)},
	} {
		if f.set {
			s += " " + f.text
		}
	}
	return s
}

// TestParseRequestHeaders shows the values that are taken from a browser-like head and from proxies' headers.
func TestParseRequestHeaders(t *testing.T) {
	var r Request
	if err := ParseRequest([]byte(browserHead), &r); err != nil {
		t.Fatal(err)
	}
	if string(r.Path) != "/api/v1/users/12345/orders" || string(r.Host) != "shop.example.com" ||
		!strings.HasSuffix(string(r.UserAgent), "Firefox/128.0") || string(r.RequestID) != "0b7d5d2e-6f1c" ||
		string(r.ForwardedFor) != "203.0.113.7" || !r.KeepAlive || r.HeadLen != len(browserHead) {
		t.Errorf("got %+v", r)
	}
	for in, want := range map[string]string{
		"Forwarded: proto=https;For=\"[2001:db8::1]:4711\";by=x, for=1.2.3.4": `"[2001:db8::1]:4711"`,
		"Forwarded: for=192.0.2.60":                                              "192.0.2.60",
		"Forwarded: for=192.0.2.60\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2":         "1.1.1.1",
		"X-Forwarded-For: 1.1.1.1\r\nForwarded: for=2\r\nX-Forwarded-For: 3.3.3": "1.1.1.1",
		"X-Forwarded-For: ": "",
	} {
		if err := ParseRequest([]byte("GET / HTTP/1.1\r\n"+in+"\r\n\r\n"), &r); err != nil || string(r.ForwardedFor) != want {
			t.Errorf("%q: got %q, %v, want %q", in, r.ForwardedFor, err, want)
		}
	}
	trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if err := ParseRequest([]byte("GET / HTTP/1.1\r\nTraceParent: "+trace+"\r\n\r\n"), &r); err != nil || string(r.TraceParent) != trace {
		t.Errorf("traceparent %q, %v", r.TraceParent, err)
	}
}

// TestParseResponse shows what is read of whole and cut response heads.
func TestParseResponse(t *testing.T) {
	tests := []struct {
		in   string
		err  error
		want string
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", nil, "200 http/1.1 {2 false false false false false false} 38 true"},
		{"HTTP/1.0 404\r\n\r\n", nil, "404 http/1.0 {-1 false false false false false false} 16 true"},
		{"HTTP/1.1 200 \nTransfer-Encoding: chunked\nConnection: close\n\n", nil, "200 http/1.1 {-1 false true true true false false} 60 true"},
		{"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n\r\n", nil, "101 http/1.1 {-1 false false false false false true} 47 true"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", nil, "200 http/1.1 {2 true false false false false false} 57 true"},
		{"HTTP/1.1 503", nil, "503 http/1.1 {-1 false false false false false false} 0 false"},
		{"HTTP/1.1 50", nil, "0 http/1.1 {-1 false false false false false false} 0 false"},
		{"HTTP", nil, "0 http/1.1 {-1 false false false false false false} 0 false"},
		{"", ErrEmpty, ""},
		{"HTTP/2 200\r\n\r\n", ErrNotHTTP, ""},
		{"ICY 200 OK\r\n", ErrNotHTTP, ""},
		{"HTTP/1.1 2000\r\n", ErrMalformed, ""},
		{"HTTP/1.1 099 x\r\n", ErrMalformed, ""},
		{"HTTP/1.1\r\n", ErrMalformed, ""},
		{"HTTP/1.1 20\r\n", ErrMalformed, ""},
	}
	for _, tt := range tests {
		var r Response
		err := ParseResponse([]byte(tt.in), &r)
		if err != tt.err {
			t.Errorf("%q: error %v, want %v", tt.in, err, tt.err)
			continue
		}
		got := fmt.Sprintf("%d %s %v %d %t", r.Status, r.Proto, r.Framing, r.HeadLen, r.Complete)
		if err == nil && got != tt.want {
			t.Errorf("%q:\ngot  %q\nwant %q", tt.in, got, tt.want)
		}
	}
}

// TestTruncation cuts heads at every byte: what is known of a prefix never contradicts the whole.
func TestTruncation(t *testing.T) {
	heads := []string{browserHead, "\r\nPOST http://a.b/c HTTP/1.0\nHost: a.b\nContent-Length: 77\n\n"}
	for _, head := range heads {
		var whole, r Request
		if err := ParseRequest([]byte(head), &whole); err != nil {
			t.Fatal(err)
		}
		for n := range len(head) {
			b := []byte(head[:n])
			if err := ParseRequest(b, &r); err != nil && err != ErrEmpty {
				t.Fatalf("%q: %v", b, err)
			}
			if r.Complete || r.HeadLen != 0 || !bytes.HasPrefix(whole.Path, r.Path) || !r.TargetCut && len(r.Path) > 0 && string(r.Path) != string(whole.Path) {
				t.Fatalf("%q: %+v", b, r)
			}
			for _, v := range [][2][]byte{{r.Host, whole.Host}, {r.UserAgent, whole.UserAgent}, {r.RequestID, whole.RequestID}} {
				if len(v[0]) > 0 && string(v[0]) != string(v[1]) {
					t.Fatalf("%q: value %q", b, v[0])
				}
			}
		}
	}
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 123\r\nConnection: close\r\n\r\n"
	for n := 1; n < len(head); n++ {
		var r Response
		if err := ParseResponse([]byte(head[:n]), &r); err != nil || r.Complete || r.Status != 0 && r.Status != 200 ||
			r.ContentLength != -1 && r.ContentLength != 123 {
			t.Fatalf("%q: %+v, %v", head[:n], r, err)
		}
	}
}

// TestAgainstNetHTTP compares with net/http's parser on heads made at random from sensible parts.
func TestAgainstNetHTTP(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	pick := func(of ...string) string { return of[rng.Intn(len(of))] }
	for range 2000 {
		head := pick("GET", "POST", "HEAD", "PURGE") + " " + pick("/", "/a/b?c=d", "/x?y?z", "http://h.example/p?q") + " " +
			pick("HTTP/1.1", "HTTP/1.0") + "\r\nHost: h.example\r\n"
		for range rng.Intn(4) {
			head += pick("User-Agent: ua/1\r\n", "Accept: */*\r\n", "X-Request-Id: id\r\n", "Cookie: a=b; c=d\r\n")
		}
		head += pick("", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n") + "\r\n"
		want, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "abc")))
		if err != nil {
			continue
		}
		var r Request
		if err := ParseRequest([]byte(head+"abc"), &r); err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		chunked := len(want.TransferEncoding) > 0
		length := max(r.ContentLength, 0)
		if chunked {
			length = -1
		}
		if string(r.MethodOriginal) != want.Method || string(r.Path) != want.URL.Path || string(r.UserAgent) != want.UserAgent() ||
			string(r.RequestID) != want.Header.Get("X-Request-Id") || r.HeadLen != len(head) ||
			want.ProtoMinor == 1 && (r.Chunked != chunked || length != want.ContentLength) {
			t.Fatalf("%q: got %+v", head, r)
		}
	}
}

// TestParseAllocations shows that heads are parsed without allocation.
func TestParseAllocations(t *testing.T) {
	head, response := []byte(browserHead), []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
	var r Request
	var p Response
	if n := testing.AllocsPerRun(100, func() {
		_ = ParseRequest(head, &r)
		_ = ParseResponse(response, &p)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	head := []byte(browserHead)
	var r Request
	b.ReportAllocs()
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		if err := ParseRequest(head, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseResponse(b *testing.B) {
	head := []byte("HTTP/1.1 200 OK\r\nServer: nginx/1.26.3\r\nDate: Mon, 01 Jan 2026 00:00:00 GMT\r\n" +
		"Content-Type: application/octet-stream\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n")
	var r Response
	b.ReportAllocs()
	for b.Loop() {
		if err := ParseResponse(head, &r); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzParseRequest parses anything: no panic, all slices inside the input, and a prefix never has a longer head.
func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{browserHead, "GET http://a@b/c HTTP/1.0\n\n", "CONNECT a:1 HTTP/1.1\r\n", "\r\n\x00", "POST / HTTP/1.1\r\n x\r\nContent-Length: 1,1\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, cut Request
		err := ParseRequest(b, &r)
		if r.HeadLen > len(b) || r.Complete != (r.HeadLen > 0) || r.ContentLength < -1 || err != nil && r.Complete {
			t.Fatalf("%+v, %v", r, err)
		}
		if bytes.ContainsAny(r.Path, "?#\n") || len(r.Path) > len(b)+1 {
			t.Fatalf("path %q", r.Path)
		}
		if r.Complete {
			if n, _, done := headEnd(b[skipEmptyLines(b):r.HeadLen], 0); !done || skipEmptyLines(b)+n != r.HeadLen {
				t.Fatalf("headEnd %d, HeadLen %d", n, r.HeadLen)
			}
		}
		if len(b) > 0 {
			_ = ParseRequest(b[:len(b)/2], &cut)
			if cut.Complete && cut.HeadLen != r.HeadLen {
				t.Fatalf("prefix has HeadLen %d, whole %d", cut.HeadLen, r.HeadLen)
			}
		}
	})
}

// FuzzParseResponse does the same for responses.
func FuzzParseResponse(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.0 99", "HTTP/1.1 100\n\nHTTP/1.1 200\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Response
		err := ParseResponse(b, &r)
		if r.HeadLen > len(b) || r.Complete != (r.HeadLen > 0) || r.ContentLength < -1 || r.Status > 999 || err != nil && r.Complete {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}
