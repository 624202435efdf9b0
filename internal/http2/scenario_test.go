package http2

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/perfagent/perfagent/internal/wire"
)

// scene is a connection that a test writes frame by frame; each frame is an operation.
type scene struct {
	*maker
	p *tape
}

func newScene(t testing.TB, o Options) *scene {
	s := &scene{newMaker(1), newTape(t, o)}
	s.pass()
	return s
}

// pass feeds what was written.
func (s *scene) pass() {
	s.flush(0)
	s.flush(1)
	for _, o := range s.ops {
		s.p.send(o)
	}
	s.ops = nil
}

// plain writes HEADERS in one frame.
func (s *scene) plain(end int, id uint32, over bool, fields ...string) {
	_ = s.framers[end].WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: over, EndHeaders: true, BlockFragment: s.block(end, fields...)})
	s.pass()
}

func (s *scene) get(id uint32, path string, over bool) {
	s.plain(0, id, over, ":method", "GET", ":path", path)
}

func (s *scene) data(end int, id uint32, n int, over bool) {
	_ = s.framers[end].WriteData(id, over, make([]byte, n))
	s.pass()
}

func (s *scene) write(end int, write func(f *http2.Framer) error) {
	_ = write(s.framers[end])
	s.pass()
}

// told shows what came out, in a few words each.
func (s *scene) told() string {
	var all []string
	for i := range s.p.out {
		ex := &s.p.out[i]
		text := fmt.Sprintf("%d %s %s %d %s %d %d", ex.Stream, ex.Verb, ex.Path, ex.Code, ex.Class, ex.RequestSize, ex.ResponseSize)
		if ex.Reset.By != EndNone {
			text += " " + ex.Reset.By.String() + " " + ex.Reset.Name()
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// Shows, scene by scene, what becomes of streams that end otherwise than by a request and its response.
func TestScenes(t *testing.T) {
	reset := func(id uint32, code http2.ErrCode) func(*http2.Framer) error {
		return func(f *http2.Framer) error { return f.WriteRSTStream(id, code) }
	}
	for _, c := range []struct {
		name, want, failures string
		play                 func(s *scene)
	}{
		{"interim heads are not the response", "1 GET /a 200 ok 0 3", "map[]", func(s *scene) {
			s.get(1, "/a", true)
			s.plain(1, 1, false, ":status", "100")
			s.plain(1, 1, false, ":status", "103", "link", "</x>")
			s.plain(1, 1, false, ":status", "200")
			s.data(1, 1, 3, true)
		}},
		{"the client gives up before the response", "1 GET /a 0 aborted 0 0 client CANCEL", "map[]", func(s *scene) {
			s.get(1, "/a", true)
			s.write(0, reset(1, http2.ErrCodeCancel))
		}},
		{"the client gives up amid the response", "1 GET /a 200 aborted 0 5 client CANCEL", "map[]", func(s *scene) {
			s.get(1, "/a", true)
			s.plain(1, 1, false, ":status", "200")
			s.data(1, 1, 5, false)
			s.write(0, reset(1, http2.ErrCodeCancel))
			s.data(1, 1, 9, true) // was under way
		}},
		{"the server refuses", "1 GET /a 0 aborted 0 0 server REFUSED_STREAM", "map[]", func(s *scene) {
			s.get(1, "/a", true)
			s.write(1, reset(1, http2.ErrCodeRefusedStream))
		}},
		{"answered before the request's end, which is not wanted", "1 GET /a 413 client_fault 7 0", "map[]", func(s *scene) {
			s.get(1, "/a", false)
			s.data(0, 1, 7, false)
			s.plain(1, 1, true, ":status", "413")
			s.write(1, reset(1, http2.ErrCodeNo))
		}},
		{"answered before the request's end, which comes", "1 GET /a 200 ok 16 0", "map[]", func(s *scene) {
			s.get(1, "/a", false)
			s.data(0, 1, 7, false)
			s.plain(1, 1, true, ":status", "200")
			s.data(0, 1, 9, true)
		}},
		{"GOAWAY says what is not looked at", "3 GET /b 0 aborted 0 0 server NO_ERROR; 1 GET /a 200 ok 0 0", "map[]", func(s *scene) {
			s.get(1, "/a", true)
			s.get(3, "/b", true)
			s.write(1, func(f *http2.Framer) error { return f.WriteGoAway(1, http2.ErrCodeNo, []byte("bye")) })
			s.plain(1, 1, true, ":status", "200")
		}},
		{"a promised response", "1 GET /a 200 ok 0 0; 2 GET /a.css 200 ok 0 4", "map[]", func(s *scene) {
			s.get(1, "/a", true)
			s.write(1, func(f *http2.Framer) error {
				return f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true, PadLength: 3,
					BlockFragment: s.block(1, ":method", "GET", ":path", "/a.css")})
			})
			s.plain(1, 1, true, ":status", "200")
			s.plain(1, 2, false, ":status", "200")
			s.data(1, 2, 4, true)
		}},
		{"WebSocket ends with its head", "1 CONNECT /chat 200 ok 0 0", "map[]", func(s *scene) {
			s.plain(0, 1, false, ":method", "CONNECT", ":protocol", "websocket", ":path", "/chat")
			s.plain(1, 1, false, ":status", "200")
			s.data(0, 1, 10, false)
			s.data(1, 1, 10, true)
			s.data(0, 1, 10, true)
		}},
		{"WebSocket refused", "1 CONNECT /chat 403 client_fault 0 2", "map[]", func(s *scene) {
			s.plain(0, 1, true, ":method", "CONNECT", ":protocol", "websocket", ":path", "/chat")
			s.plain(1, 1, false, ":status", "403")
			s.data(1, 1, 2, true)
		}},
		{"streams used again, backwards, or not the client's", "5 GET /a 200 ok 0 0", "map[stream_id:3]", func(s *scene) {
			s.get(5, "/a", true)
			s.plain(1, 5, true, ":status", "200")
			s.get(5, "/again", true)
			s.get(3, "/back", true)
			s.get(6, "/even", true)
		}},
		{"trailers of both", "1 POST /a 200 ok 3 4", "map[]", func(s *scene) {
			s.plain(0, 1, false, ":method", "POST", ":path", "/a")
			s.data(0, 1, 3, false)
			s.plain(0, 1, true, "x-sum", "1")
			s.plain(1, 1, false, ":status", "200")
			s.data(1, 1, 4, false)
			s.plain(1, 1, true, "x-sum", "2")
		}},
		{"the connection ends", "3 GET /b 500 aborted 0 2; 1 GET /a 0 aborted 0 0", "map[]", func(s *scene) {
			s.get(1, "/a", true)
			s.get(3, "/b", true)
			s.plain(1, 3, false, ":status", "500")
			s.data(1, 3, 2, false)
		}},
	} {
		s := newScene(t, Options{})
		c.play(s)
		s.p.close()
		s.p.books()
		if got := s.told(); !sameParts(got, c.want) || fmt.Sprint(s.p.failures) != c.failures {
			t.Errorf("%s: %s, failures %v; want %s, %s", c.name, got, s.p.failures, c.want, c.failures)
		}
	}
}

// sameParts compares what came out, in any order.
func sameParts(a, b string) bool {
	of := func(s string) map[string]int {
		parts := map[string]int{}
		for part := range strings.SplitSeq(s, "; ") {
			parts[part]++
		}
		return parts
	}
	return fmt.Sprint(of(a)) == fmt.Sprint(of(b))
}

// Shows that a request without a response is a timeout once it was silent for the deadline, that one which still sends is not,
// and that a response which comes later is not reported again.
func TestDeadline(t *testing.T) {
	s := newScene(t, Options{})
	s.get(1, "/silent", true)
	s.get(3, "/sends", false)
	s.p.at += int64(time.Minute)
	s.data(0, 3, 1, false)
	s.p.Sweep(s.p.at, time.Minute, s.p.note)
	if got := s.told(); got != "1 GET /silent 0 timeout 0 0" {
		t.Fatal(got)
	}
	s.plain(1, 1, true, ":status", "200")
	s.plain(1, 3, true, ":status", "200")
	s.data(0, 3, 1, true)
	s.p.close()
	s.p.books()
	if got := s.told(); got != "1 GET /silent 0 timeout 0 0; 3 GET /sends 200 ok 2 0" {
		t.Error(got)
	}
}

// Shows that thousands of streams are followed at once, that memory stays within its bound, that what does not fit is counted, and
// that the connection is followed further.
func TestManyStreams(t *testing.T) {
	s := newScene(t, Options{MaxBytes: 4 << 20})
	const n = 5000
	for i := range uint32(n) {
		s.get(2*i+1, "/a", true)
	}
	if b := s.p.Stats().Bytes; b > 4<<20 {
		t.Errorf("%d bytes are held", b)
	}
	for i := range uint32(n) {
		s.plain(1, 2*i+1, true, ":status", "200")
	}
	lost := s.p.lost[wire.LostStreams]
	if lost == 0 || len(s.p.out)+lost != n || len(s.p.out) < 2500 {
		t.Errorf("%d came out, %v were lost", len(s.p.out), s.p.lost)
	}
	s.get(2*n+1, "/after", true)
	s.plain(1, 2*n+1, true, ":status", "200")
	if last := s.p.out[len(s.p.out)-1]; string(last.Path) != "/after" {
		t.Errorf("the last is %s", line(&last))
	}
	s.p.close()
	s.p.books()
}

// Shows that what a table's size is asked for counts from its acknowledgement on, and that an encoder which takes more is refused.
func TestTableSize(t *testing.T) {
	for _, c := range []struct {
		name   string
		asked  uint32
		update uint32
		fails  bool
	}{{"as asked", 8192, 8192, false}, {"less", 8192, 100, false}, {"more", 8192, 9000, true}, {"not asked", 0, 4097, true}, {"the default", 0, 4096, false}} {
		s := newScene(t, Options{})
		if c.asked > 0 {
			s.write(1, func(f *http2.Framer) error {
				return f.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: c.asked})
			})
			s.write(0, func(f *http2.Framer) error { return f.WriteSettingsAck() })
		}
		s.encoders[0].SetMaxDynamicTableSizeLimit(1 << 20)
		s.encoders[0].SetMaxDynamicTableSize(c.update)
		s.headers[0].Reset()
		s.get(1, "/a", true)
		if (s.p.failures["hpack"] > 0) != c.fails {
			t.Errorf("%s: %v", c.name, s.p.failures)
		}
	}
}

// Shows that gRPC-Web's status is read from the body where it was captured, and is unknown where it was not.
func TestGRPCWeb(t *testing.T) {
	for _, captured := range []bool{true, false} {
		s := newScene(t, Options{})
		s.plain(0, 1, true, ":method", "POST", ":path", "/shop.Items/Get", "content-type", "application/grpc-web+proto")
		s.plain(1, 1, false, ":status", "200", "content-type", "application/grpc-web+proto")
		body := "\x00\x00\x00\x00\x02ab\x80\x00\x00\x00\x20grpc-status: 5\r\ngrpc-message:no\r\n"
		if captured {
			s.write(1, func(f *http2.Framer) error { return f.WriteData(1, true, []byte(body)) })
		} else {
			s.p.at += 10
			s.p.Fragment(s.p.fragment(false, []byte("\x00\x00\x2c\x00\x01\x00\x00\x00\x01"+body[:5]), 9+44), s.p.note)
		}
		if len(s.p.out) != 1 {
			t.Fatalf("%d came out", len(s.p.out))
		}
		ex, want := s.p.out[0], int32(5)
		if !captured {
			want = -1
		}
		if ex.RPC.Status != want || captured && (ex.Code != 5 || string(ex.RPC.Message) != "no" || ex.RPC.Responses != 1) || !captured && ex.Code != RPCStatusUnknown {
			t.Errorf("captured %v: %s", captured, line(&ex))
		}
	}
}

// Shows that a connection which does not take the upgrade is left alone, and that none of its requests is counted.
func TestUpgradeRefused(t *testing.T) {
	p := newTape(t, Options{})
	p.send(op{true, []byte("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")})
	p.send(op{false, []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")})
	p.close()
	if s := p.Stats(); p.ignored != 1 || s.Requests != 0 || len(p.out) > 0 {
		t.Errorf("%+v", s)
	}
}
