package http2

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/perfagent/perfagent/internal/wire"
)

// op is one socket operation of a recorded or made-up connection.
type op struct {
	request bool
	data    []byte
}

// truth is what a stream was, as golang.org/x/net understands it from all bytes.
type truth struct {
	method, path, host, status string
	requestSize, responseSize  int64
	requestEnd, responseEnd    bool
	grpcStatus                 string
	resetBy                    string
	resetCode                  uint32
}

// oracle reads both directions, whole, with another implementation of HTTP/2.
func oracle(t testing.TB, ops []op) map[uint32]*truth {
	t.Helper()
	streams := map[uint32]*truth{}
	get := func(id uint32) *truth {
		if streams[id] == nil {
			streams[id] = &truth{}
		}
		return streams[id]
	}
	for _, request := range []bool{true, false} {
		var all []byte
		for _, o := range ops {
			if o.request == request {
				all = append(all, o.data...)
			}
		}
		all = bytes.TrimPrefix(all, []byte(preface))
		framer := http2.NewFramer(io.Discard, bytes.NewReader(all))
		framer.SetMaxReadFrameSize(1<<24 - 1)
		framer.MaxHeaderListSize = 1 << 20
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		framer.ReadMetaHeaders.SetAllowedMaxDynamicTableSize(1 << 20)
		for {
			frame, err := framer.ReadFrame()
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				break
			}
			if err != nil {
				t.Fatalf("the other implementation: %v", err)
			}
			read(get, frame, request)
		}
	}
	return streams
}

func read(get func(uint32) *truth, frame http2.Frame, request bool) {
	id := frame.Header().StreamID
	switch frame := frame.(type) {
	case *http2.MetaHeadersFrame:
		s := get(id)
		for _, f := range frame.Fields {
			switch f.Name {
			case ":method":
				s.method = f.Value
			case ":path":
				s.path, _, _ = strings.Cut(f.Value, "?")
			case ":authority":
				s.host = f.Value
			case ":status":
				if f.Value[0] != '1' {
					s.status = f.Value
				}
			case "grpc-status":
				s.grpcStatus = f.Value
			}
		}
		s.end(request, frame.StreamEnded())
	case *http2.DataFrame:
		s := get(id)
		if request {
			s.requestSize += int64(len(frame.Data()))
		} else {
			s.responseSize += int64(len(frame.Data()))
		}
		s.end(request, frame.StreamEnded())
	case *http2.RSTStreamFrame:
		if s := get(id); s.resetBy == "" {
			if s.resetCode, s.resetBy = uint32(frame.ErrCode), "server"; request {
				s.resetBy = "client"
			}
		}
	}
}

func (s *truth) end(request, end bool) {
	if request {
		s.requestEnd = s.requestEnd || end
	} else {
		s.responseEnd = s.responseEnd || end
	}
}

// tape feeds a connection's operations to a decoder, 10 ns apart, and notes what comes out.
type tape struct {
	*Connections
	t        testing.TB
	role     wire.Role
	flags    wire.Flags
	at       int64
	position [2]uint64
	out      []Exchange
	lost     map[wire.Loss]int
	failures map[string]int
	ignored  int
}

func newTape(t testing.TB, o Options) *tape {
	p := &tape{t: t, role: wire.RoleServer, lost: map[wire.Loss]int{}, failures: map[string]int{}}
	o.Lost = func(l wire.Loss, n int) { p.lost[l] += n }
	o.Failed = func(err *Failure) { p.failures[err.Reason()]++ }
	o.Ignored = func(uint64) { p.ignored++ }
	p.Connections = New(o)
	return p
}

func (p *tape) note(ex *Exchange) {
	c := *ex
	c.Exchange = *ex.Exchange.Clone()
	for _, b := range []*[]byte{&c.Tunnel, &c.ContentType, &c.RequestType, &c.RPC.Service, &c.RPC.Method, &c.RPC.Message, &c.RPC.Encoding} {
		*b = bytes.Clone(*b)
	}
	p.out = append(p.out, c)
}

// fragment returns the next fragment of the first connection.
func (p *tape) fragment(request bool, data []byte, length int) *wire.Fragment {
	f := &wire.Fragment{Conn: 1, PID: 7, Role: p.role, Flags: p.flags, At: p.at, Length: uint64(length), Data: data}
	i := 1
	if request {
		f.Flags |= wire.FlagRequestDirection
		i = 0
	}
	if f.Arrived = p.at; request == (p.role == wire.RoleServer) { // received
		f.Arrived -= 3
	}
	f.Position = p.position[i]
	p.position[i] += uint64(length)
	return f
}

// send passes the bytes of an operation on, in pieces that end at these places.
func (p *tape) send(o op, cuts ...int) {
	p.at += 10
	from := 0
	for _, to := range append(cuts, len(o.data)) {
		if to > from && to <= len(o.data) {
			p.Fragment(p.fragment(o.request, o.data[from:to], to-from), p.note)
			from = to
		}
	}
}

func (p *tape) close() {
	p.at += 10
	p.Fragment(&wire.Fragment{Conn: 1, Role: p.role, Flags: p.flags | wire.FlagClosed, At: p.at}, p.note)
}

// play passes a whole connection on.
func (p *tape) play(ops []op) *tape {
	for _, o := range ops {
		p.send(o)
	}
	p.close()
	return p
}

// books checks that every request has been reported or counted as lost, and that no memory is missed.
func (p *tape) books() {
	p.t.Helper()
	s := p.Stats()
	if s.Requests != s.Reported+s.Lost || int(s.Reported) != len(p.out) || s.Connections != 0 || s.Streams != 0 {
		p.t.Fatalf("the books do not balance: %+v, %d came out", s, len(p.out))
	}
	n := 0
	for _, st := range p.spareStreams {
		n += streamBytes + cap(st.text) + cap(st.web)
	}
	for _, c := range p.spareConns {
		n += c.memory()
	}
	if n != s.Bytes {
		p.t.Fatalf("%d bytes are in the books, and %d in spare objects", s.Bytes, n)
	}
}

// lines shows what came out, an exchange a line, in the order of the requests.
func (p *tape) lines() string {
	all := slices.Clone(p.out)
	slices.SortFunc(all, func(a, b Exchange) int { return int(a.Seq) - int(b.Seq) })
	var b strings.Builder
	for i := range all {
		fmt.Fprintln(&b, line(&all[i]))
	}
	return b.String()
}

func line(ex *Exchange) string {
	s := fmt.Sprintf("%d/%d %s %s %q %q -> %d %d %s%s, %d %d bytes, at %d %d %d %d", ex.Seq, ex.Stream, ex.Protocol, ex.Verb, ex.Path, ex.Host,
		ex.Status, ex.Code, ex.Class, map[bool]string{true: " " + ex.ErrorType}[ex.ErrorType != ""], ex.RequestSize, ex.ResponseSize, ex.Arrived, ex.Read,
		ex.Responded, ex.Finished)
	for _, v := range []struct {
		name  string
		value any
		shown bool
	}{
		{"agent", string(ex.UserAgent), len(ex.UserAgent) > 0}, {"trace", string(ex.TraceParent), len(ex.TraceParent) > 0},
		{"original", string(ex.MethodOriginal), len(ex.MethodOriginal) > 0}, {"type", string(ex.ContentType), len(ex.ContentType) > 0},
		{"pushed", "", ex.Pushed}, {"tunnel", string(ex.Tunnel), len(ex.Tunnel) > 0}, {"unknown", ex.Unknown, ex.Unknown != 0},
		{"reset", ex.Reset.By.String() + " " + ex.Reset.Name(), ex.Reset.By != EndNone}, {"goaway", "", ex.Reset.GoAway},
		{"rpc", fmt.Sprintf("%s.%s %s %q %s %d %d", ex.RPC.Service, ex.RPC.Method, RPCStatusName(ex.RPC.Status), ex.RPC.Message, ex.RPC.Encoding,
			ex.RPC.Requests, ex.RPC.Responses), ex.RPC.System != ""},
	} {
		if v.shown {
			s += fmt.Sprintf("; %s %v", v.name, v.value)
		}
	}
	return s
}

// agrees checks what came out of a connection against what it was: all of it where it was seen whole, else what is said to be known.
func agrees(t testing.TB, out []Exchange, streams map[uint32]*truth, whole bool) {
	t.Helper()
	for i := range out {
		ex := &out[i]
		want := streams[ex.Stream]
		if want == nil {
			t.Fatalf("stream %d was none: %s", ex.Stream, line(ex))
		}
		wrong := func(what string, got, want any) {
			t.Helper()
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s of stream %d is %v, and was %v: %s", what, ex.Stream, got, want, line(ex))
			}
		}
		if ex.Unknown&UnknownMethod == 0 {
			method := ex.Verb
			if method == "_OTHER" {
				method = string(ex.MethodOriginal)
			}
			wrong("method", method, want.method)
		}
		if ex.Unknown&UnknownPath == 0 {
			wrong("path", string(ex.Path), want.path)
		}
		if len(ex.Host) > 0 {
			wrong("host", string(ex.Host), want.host)
		}
		if ex.Status != 0 {
			wrong("status", ex.Status, want.status)
		}
		if ex.RPC.Status >= 0 && want.grpcStatus != "" {
			wrong("status of gRPC", ex.RPC.Status, want.grpcStatus)
		}
		complete := ex.Class != wire.ClassAborted && ex.Class != wire.ClassTimeout
		if complete && ex.ResponseSize >= 0 && len(ex.Tunnel) == 0 {
			wrong("size of the response", ex.ResponseSize, want.responseSize)
		}
		if complete && ex.RequestSize >= 0 && want.requestEnd && len(ex.Tunnel) == 0 && want.resetBy == "" {
			wrong("size of the request", ex.RequestSize, want.requestSize)
		}
		if ex.Reset.By != EndNone && !ex.Reset.GoAway && ex.Unknown&UnknownReset == 0 {
			wrong("reset", ex.Reset.By.String()+strconv.Itoa(int(ex.Reset.Code)), want.resetBy+strconv.Itoa(int(want.resetCode)))
		}
		if whole {
			wrong("completeness", complete, want.responseEnd || len(ex.Tunnel) > 0)
		}
	}
}
