// Package http understands HTTP/1: the captured, possibly cut heads of single exchanges (Decoder), and the whole framing of
// connections that the kernel side cannot follow (Streams). It reads observed bytes only; it never serves or sends
// anything. Nothing here allocates in the steady state, and nothing trusts its input.
package http

import (
	"bytes"
	"errors"
	"math"

	"github.com/perfagent/perfagent/internal/wire"
)

// ParseError says why bytes were not understood. Reason is the label value of perfagent_parse_errors_total.
type ParseError struct {
	reason, text string
}

// Error describes the failure.
func (e *ParseError) Error() string { return e.text }

// Reason returns the failure as a label value: lower case, words joined by underscores.
func (e *ParseError) Reason() string { return e.reason }

// Every reason for which a head is not understood.
var (
	ErrEmpty      = &ParseError{"empty", "http: no bytes of a head were captured"}
	ErrNotHTTP    = &ParseError{"not_http", "http: not an HTTP/1 message"}
	ErrMalformed  = &ParseError{"malformed", "http: malformed start line"}
	ErrStatusCut  = &ParseError{"status_cut", "http: the capture ends before the final status"}
	ErrUnreadable = &ParseError{"unreadable", "http: the bytes of a head could not be read"}
)

// ErrNoRequest is that of bytes in a request's place which are none as far as they go: they may as well be what is left of a
// body, so they are shown nowhere. What answered them is a lost exchange, and no head was misunderstood.
var ErrNoRequest = errors.New("http: not a request line, and no more came")

// Form is one of the four forms of a request target (RFC 9112, section 3.2), or none of them.
type Form uint8

// The forms; FormOther is a target that no server should accept, kept because its exchange happened all the same.
const (
	FormOther Form = iota
	FormOrigin
	FormAbsolute
	FormAuthority
	FormAsterisk
)

const (
	proto10 = "http/1.0"
	proto11 = "http/1.1"
)

// Framing is what a head says about the end of its message and the fate of its connection.
type Framing struct {
	ContentLength int64 // -1 where the head names none that is valid; the first one where several differ
	BadLength     bool  // Content-Length is not a number, or there are several that differ
	Transfer      bool  // there is a Transfer-Encoding, which overrides ContentLength
	Chunked       bool  // its last coding is chunked
	Close         bool  // Connection: close
	KeepAlive     bool  // Connection: keep-alive
	Upgrade       bool  // Connection: upgrade
}

// Request is a parsed request head. Its slices point into the parsed bytes.
type Request struct {
	Framing

	Method         string // a known method, else "_OTHER"
	MethodOriginal []byte // as sent
	Form           Form
	Path           []byte // without query and fragment; "/" for an absolute form without path; empty for authority form
	Authority      []byte // host and port of an absolute or authority form, without user information
	Proto          string // "http/1.0" or "http/1.1" (any later 1.x; also where the capture ends before the version)

	Host, UserAgent, RequestID []byte // first of each; values that the capture cuts stay empty
	TraceParent                []byte // empty where there are several
	ForwardedFor               []byte // first element of X-Forwarded-For, else the first for= of Forwarded, quotes included
	UpgradeTo                  []byte // the Upgrade header
	Expect                     bool   // Expect: 100-continue
	User                       []byte // value of the header that tells users apart, where one was named

	HeadLen   int  // bytes up to and including the blank line, empty lines in front included; 0 where cut
	Complete  bool // the blank line was seen
	TargetCut bool // the bytes end inside the method or the target; Path may be a prefix
	LineCut   bool // they end inside the request line

	xForwarded bool        // ForwardedFor is X-Forwarded-For's
	traced     bool        // there was a traceparent
	user       *UserHeader // which header User is; stays from one head to the next; nil: none
	userLine   bool        // User is of the latest line
}

// Response is a parsed response head.
type Response struct {
	Framing

	Status   uint16 // 100 to 999; 0 where the bytes end before it
	Proto    string
	HeadLen  int
	Complete bool
}

// ParseRequest parses the request head at the beginning of b, which may end anywhere, into r. It skips empty lines in
// front (RFC 9112, section 2.2), takes a bare LF for a line's end, and keeps nothing. What lies behind the end of b is
// simply not known: no error. It returns ErrEmpty, ErrNotHTTP, or ErrMalformed for a request line that is nearly one.
func ParseRequest(b []byte, r *Request) error {
	*r = Request{Framing: Framing{ContentLength: -1}, Method: methodOther, Proto: proto11, user: r.user}
	pos := skipEmptyLines(b)
	if pos == len(b) {
		return ErrEmpty
	}
	nl := bytes.IndexByte(b[pos:], '\n')
	if nl < 0 {
		return r.cutLine(b[pos:])
	}
	if err := r.line(trimCR(b[pos : pos+nl])); err != nil {
		return err
	}
	r.headers(b, pos+nl+1)
	return nil
}

// line parses a whole request line.
func (r *Request) line(line []byte) error {
	n := wire.TokenLen(line)
	if n == 0 || n == len(line) || line[n] != ' ' {
		return ErrNotHTTP
	}
	r.MethodOriginal, r.Method = line[:n], methodName(line[:n])
	rest := line[n+1:]
	// The usual end, " HTTP/1.x", at a fixed distance.
	sp := len(rest) - len(" HTTP/1.1")
	if sp < 0 || string(rest[sp:len(rest)-1]) != " HTTP/1." || !wire.IsDigit(rest[len(rest)-1]) {
		rest = bytes.TrimRight(rest, " \t")
		if sp = bytes.LastIndexByte(rest, ' '); sp < 0 {
			return ErrNotHTTP
		}
	}
	proto, err := version(rest[sp+1:])
	if err != nil {
		return err
	}
	r.Proto = proto
	target := bytes.TrimSpace(rest[:sp])
	if len(target) == 0 {
		return ErrMalformed
	}
	r.target(target)
	return nil
}

// cutLine parses a request line whose end was not captured.
func (r *Request) cutLine(line []byte) error {
	r.LineCut = true
	n := wire.TokenLen(line)
	if n == 0 {
		return ErrNotHTTP
	}
	r.MethodOriginal = line[:n]
	if n == len(line) {
		r.TargetCut = true
		return nil
	}
	if line[n] != ' ' {
		return ErrNotHTTP
	}
	r.Method = methodName(line[:n])
	rest := bytes.TrimLeft(line[n+1:], " ")
	sp := bytes.IndexByte(rest, ' ')
	if sp < 0 {
		r.TargetCut = true
		r.target(rest)
		return nil
	}
	const want = "HTTP/1."
	v := trimCR(rest[sp+1:])
	if k := min(len(v), len(want)); string(v[:k]) != want[:k] {
		return ErrNotHTTP
	}
	if len(v) > len(want) {
		proto, err := version(v)
		if err != nil {
			return err
		}
		r.Proto = proto
	}
	r.target(rest[:sp])
	return nil
}

// noRequest tells whether what was parsed may be something else than a request: its line does not end, although all that came
// was seen (whole), or it has neither a known method nor a target.
func (r *Request) noRequest(whole bool) bool {
	return r.LineCut && (whole || r.TargetCut && r.Method == methodOther && r.Form == FormOther && len(r.Path) == 0)
}

var slash = []byte("/")

// target splits a request target (RFC 9112, section 3.2).
func (r *Request) target(t []byte) {
	switch {
	case len(t) == 0:
		return
	case t[0] == '/':
		r.Form, r.Path = FormOrigin, withoutQuery(t)
		return
	case len(t) == 1 && t[0] == '*':
		r.Form, r.Path = FormAsterisk, t
		return
	case r.Method == "CONNECT":
		r.Form, r.Authority = FormAuthority, withoutUser(t)
		return
	}
	t = withoutQuery(t)
	scheme := bytes.Index(t[:min(len(t), 16)], []byte("://"))
	if scheme <= 0 {
		if !r.TargetCut { // else it may become an absolute form
			r.Path = t
		}
		return
	}
	r.Form = FormAbsolute
	rest := t[scheme+3:]
	if p := bytes.IndexByte(rest, '/'); p >= 0 {
		r.Authority, r.Path = withoutUser(rest[:p]), rest[p:]
		return
	}
	r.Authority, r.Path = withoutUser(rest), slash
	if r.TargetCut { // neither is known to the end
		r.Authority, r.Path = nil, nil
	}
}

// header names a header that is read; hNone all others.
type header uint8

const (
	hNone header = iota
	hHost
	hUserAgent
	hUpgrade
	hRequestID
	hXForwardedFor
	hForwarded
	hTraceParent
	hTransferEncoding
	hContentLength
	hConnection
	hExpect
)

// headers reads the lines from pos on. A line that the capture cuts is not known, and not used.
func (r *Request) headers(b []byte, pos int) {
	last := hNone
	for {
		nl := bytes.IndexByte(b[pos:], '\n')
		if nl < 0 {
			return
		}
		line := b[pos : pos+nl]
		pos += nl + 1
		if nl < 2 {
			if line = trimCR(line); len(line) == 0 {
				r.HeadLen, r.Complete = pos, true
				return
			}
		}
		if c := line[0]; c == ' ' || c == '\t' { // obs-fold: more of the same header
			if v := trimOWS(line); last != hNone && !goesOn(v, b[pos:]) {
				r.set(last, v)
			}
			if r.user != nil {
				r.user.fold(r)
			}
			continue
		}
		var n int
		if last, n = requestHeader(line); last != hNone {
			if v := trimOWS(line[n+1:]); !goesOn(v, b[pos:]) {
				r.set(last, v)
			}
		}
		if r.user != nil {
			r.user.read(line, r)
		}
	}
}

// requestHeader tells which header a non-empty line holds, and the length of its name. It looks at the first letter and the
// colon's place before it compares, since most lines are none that is read.
func requestHeader(line []byte) (header, int) {
	switch line[0] | 0x20 {
	case 'h':
		return named(line, "host", hHost)
	case 'u':
		if h, n := named(line, "user-agent", hUserAgent); h != hNone {
			return h, n
		}
		return named(line, "upgrade", hUpgrade)
	case 'x':
		if h, n := named(line, "x-request-id", hRequestID); h != hNone {
			return h, n
		}
		return named(line, "x-forwarded-for", hXForwardedFor)
	case 'f':
		return named(line, "forwarded", hForwarded)
	case 'e':
		return named(line, "expect", hExpect)
	case 't':
		if h, n := named(line, "traceparent", hTraceParent); h != hNone {
			return h, n
		}
		return named(line, "transfer-encoding", hTransferEncoding)
	case 'c':
		if h, n := named(line, "connection", hConnection); h != hNone {
			return h, n
		}
		return named(line, "content-length", hContentLength)
	}
	return hNone, 0
}

// responseHeader is requestHeader for the headers of a response.
func responseHeader(line []byte) (header, int) {
	switch line[0] | 0x20 {
	case 'c':
		if h, n := named(line, "connection", hConnection); h != hNone {
			return h, n
		}
		return named(line, "content-length", hContentLength)
	case 't':
		return named(line, "transfer-encoding", hTransferEncoding)
	}
	return hNone, 0
}

// named returns h and the name's length where line begins with name, in any case, and a colon.
func named(line []byte, name string, h header) (header, int) {
	if len(line) <= len(name) || line[len(name)] != ':' || !equalFold(line, name) {
		return hNone, 0
	}
	return h, len(name)
}

// set takes the value of a header; of those that hold one text, the first that is not empty.
func (r *Request) set(h header, v []byte) {
	switch h {
	case hHost:
		setFirst(&r.Host, v)
	case hUserAgent:
		setFirst(&r.UserAgent, v)
	case hRequestID:
		setFirst(&r.RequestID, v)
	case hTraceParent:
		// One that comes twice, or in two lines, says nothing: who would be the parent?
		if r.TraceParent = v; r.traced {
			r.TraceParent = nil
		}
		r.traced = true
	case hUpgrade:
		setFirst(&r.UpgradeTo, v)
	case hExpect:
		r.Expect = r.Expect || len(v) == len("100-continue") && equalFold(v, "100-continue")
	case hXForwardedFor:
		// Proxies keep this one far more often than the standard's Forwarded, so it wins over it.
		if a := firstElement(v); len(a) > 0 && !r.xForwarded {
			r.ForwardedFor, r.xForwarded = a, true
		}
	case hForwarded:
		setFirst(&r.ForwardedFor, forwardedFor(v))
	default:
		r.Framing.set(h, v)
	}
}

// set takes the value of a header that is about framing.
func (f *Framing) set(h header, v []byte) {
	switch h {
	case hContentLength:
		f.contentLength(v)
	case hConnection:
		for len(v) > 0 {
			var token []byte
			token, v = nextOf(v)
			switch {
			case len(token) == 5 && equalFold(token, "close"):
				f.Close = true
			case len(token) == 10 && equalFold(token, "keep-alive"):
				f.KeepAlive = true
			case len(token) == 7 && equalFold(token, "upgrade"):
				f.Upgrade = true
			}
		}
	case hTransferEncoding:
		for len(v) > 0 {
			var token []byte
			if token, v = nextOf(v); len(token) > 0 {
				f.Transfer = true
				f.Chunked = len(token) == 7 && equalFold(token, "chunked")
			}
		}
	}
}

// contentLength takes a Content-Length value, which may be a list of equal numbers (RFC 9110, section 8.6).
func (f *Framing) contentLength(v []byte) {
	if len(v) == 0 {
		f.BadLength = true
	}
	for len(v) > 0 {
		var token []byte
		token, v = nextOf(v)
		n, ok := decimal(token)
		switch {
		case !ok:
			f.BadLength = true
		case f.ContentLength < 0:
			f.ContentLength = n
		case f.ContentLength != n:
			f.BadLength = true
		}
	}
}

// ParseResponse parses the response head at the beginning of b, which may end anywhere, into r. It returns ErrEmpty,
// ErrNotHTTP, or ErrMalformed for a status line that is nearly one.
func ParseResponse(b []byte, r *Response) error {
	*r = Response{Framing: Framing{ContentLength: -1}, Proto: proto11}
	if len(b) == 0 {
		return ErrEmpty
	}
	nl := bytes.IndexByte(b, '\n')
	line := b
	if nl >= 0 {
		line = trimCR(b[:nl])
	}
	if err := r.line(line, nl < 0); err != nil || nl < 0 {
		return err
	}
	r.headers(b, nl+1)
	return nil
}

// line parses "HTTP/1.x NNN reason".
func (r *Response) line(line []byte, cut bool) error {
	const want = "HTTP/1."
	if k := min(len(line), len(want)); string(line[:k]) != want[:k] {
		return ErrNotHTTP
	}
	sp := bytes.IndexByte(line, ' ')
	if sp < 0 {
		if !cut {
			return ErrMalformed
		}
		return nil
	}
	proto, err := version(line[:sp])
	if err != nil {
		return err
	}
	r.Proto = proto
	code := bytes.TrimLeft(line[sp:], " ")
	if len(code) < 3 && cut {
		return nil
	}
	if len(code) < 3 || !wire.IsDigit(code[0]) || !wire.IsDigit(code[1]) || !wire.IsDigit(code[2]) || code[0] == '0' ||
		len(code) > 3 && code[3] != ' ' && code[3] != '\r' && code[3] != '\t' {
		return ErrMalformed
	}
	r.Status = uint16(code[0]-'0')*100 + uint16(code[1]-'0')*10 + uint16(code[2]-'0')
	return nil
}

// headers reads the lines from pos on, as Request.headers does.
func (r *Response) headers(b []byte, pos int) {
	last := hNone
	for {
		nl := bytes.IndexByte(b[pos:], '\n')
		if nl < 0 {
			return
		}
		line := b[pos : pos+nl]
		pos += nl + 1
		if nl < 2 {
			if line = trimCR(line); len(line) == 0 {
				r.HeadLen, r.Complete = pos, true
				return
			}
		}
		if c := line[0]; c == ' ' || c == '\t' {
			if v := trimOWS(line); last != hNone && !goesOn(v, b[pos:]) {
				r.Framing.set(last, v)
			}
			continue
		}
		var n int
		if last, n = responseHeader(line); last != hNone {
			if v := trimOWS(line[n+1:]); !goesOn(v, b[pos:]) {
				r.Framing.set(last, v)
			}
		}
	}
}

// goesOn tells whether a line's value is empty because it is in the next line (obs-fold), which begins the rest.
func goesOn(v, rest []byte) bool {
	return len(v) == 0 && len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t')
}

const methodOther = "_OTHER"

// methodName returns the method as one of the conventions' known names (RFC 9110, PATCH, QUERY), else "_OTHER".
// Methods are case-sensitive.
func methodName(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "POST":
		return "POST"
	case "PUT":
		return "PUT"
	case "HEAD":
		return "HEAD"
	case "DELETE":
		return "DELETE"
	case "PATCH":
		return "PATCH"
	case "OPTIONS":
		return "OPTIONS"
	case "CONNECT":
		return "CONNECT"
	case "TRACE":
		return "TRACE"
	case "QUERY":
		return "QUERY"
	}
	return methodOther
}

// version tells HTTP/1.0 from every later HTTP/1.x; another major version is another protocol.
func version(v []byte) (string, error) {
	const prefix = "HTTP/1."
	if len(v) < len(prefix) || string(v[:len(prefix)]) != prefix {
		if len(v) == len("HTTP/1") && string(v) == "HTTP/1" {
			return "", ErrMalformed
		}
		return "", ErrNotHTTP
	}
	minor := v[len(prefix):]
	if len(minor) == 1 && minor[0] == '0' {
		return proto10, nil
	}
	if _, ok := decimal(minor); !ok {
		return "", ErrMalformed
	}
	return proto11, nil
}

// skipEmptyLines returns where the first line that is not empty begins.
func skipEmptyLines(b []byte) int {
	i := 0
	for i < len(b) && (b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

func trimCR(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\r' {
		return b[:n-1]
	}
	return b
}

// trimOWS removes spaces and tabs on both sides, and a line's CR.
func trimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for n := len(b); n > 0 && (b[n-1] == ' ' || b[n-1] == '\t' || b[n-1] == '\r'); n-- {
		b = b[:n-1]
	}
	return b
}

// equalFold tells whether b begins with s, which is lower case. Setting bit 5 folds letters, leaves digits and hyphens
// alone, and confuses only control characters, which a header's name has no business with. (Comparing eight bytes at a
// time measured no faster.)
func equalFold(b []byte, s string) bool {
	if len(b) < len(s) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if b[i]|0x20 != s[i] {
			return false
		}
	}
	return true
}

func setFirst(p *[]byte, v []byte) {
	if len(*p) == 0 && len(v) > 0 {
		*p = v
	}
}

// nextOf splits the first element off a comma-separated list.
func nextOf(v []byte) (element, rest []byte) {
	if i := bytes.IndexByte(v, ','); i >= 0 {
		return trimOWS(v[:i]), v[i+1:]
	}
	return trimOWS(v), nil
}

// decimal parses digits, nothing else, into a number of at most 63 bits.
func decimal(b []byte) (int64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		d := int64(c - '0')
		if d > 9 || n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// withoutQuery cuts a target before its query or fragment.
func withoutQuery(t []byte) []byte {
	if i := bytes.IndexByte(t, '?'); i >= 0 {
		t = t[:i]
	}
	if i := bytes.IndexByte(t, '#'); i >= 0 {
		t = t[:i]
	}
	return t
}

// withoutUser cuts user information, which may hold a password, off an authority.
func withoutUser(a []byte) []byte { return a[bytes.LastIndexByte(a, '@')+1:] }
