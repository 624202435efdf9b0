package export

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	perfhttp "github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

// samples are exchanges of every kind: usual, client, aborted, hostile.
func samples() []*wire.Exchange {
	traced := exchange()
	traced.TraceParent = []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	traced.ForwardedFor = []byte(`"[2001:db8::17]:4711"`)
	traced.ContainerID = "0123456789ab"
	given := exchange()
	given.RequestID = []byte("req-1")
	given.TraceParent = traced.TraceParent
	unix := exchange()
	unix.Flags, unix.Local, unix.Remote, unix.Host = wire.FlagUnix, netip.AddrPort{}, netip.AddrPort{}, []byte("localhost")
	aborted := exchange()
	aborted.Outcome, aborted.Responded, aborted.ResponseSize = perfhttp.CutOff(wire.ClassAborted, 0), 0, -1
	aborted.Arrived = 0
	hostile := exchange()
	hostile.Name = ""
	hostile.Path = []byte("/\x1b[2J\x00\x7f\xff\u0085\u202e\U000e0041<&>")
	hostile.Verb, hostile.MethodOriginal = "_OTHER", []byte("PROP\"FIND")
	hostile.UserAgent = []byte("line\nbreak\r")
	hostile.Host = []byte("evil\nhost")
	call := clientExchange()
	call.Convention, call.Protocol, call.Operation, call.Path = wire.ConventionRPC, "grpc", wire.Operation{Verb: "grpc", Name: "shop.Cart/Get"}, []byte("/shop.Cart/Get")
	call.Outcome = wire.Outcome{Code: 5, Class: wire.ClassClientFault, ErrorType: "NOT_FOUND"}
	return []*wire.Exchange{exchange(), clientExchange(), traced, given, unix, aborted, hostile, call}
}

// The JSON lines are exactly the golden file, and decode to what they came from. UPDATE_GOLDEN=1 writes it anew.
func TestJSONGolden(t *testing.T) {
	var got []byte
	for _, ex := range samples() {
		o := NewObject(ex, false)
		line, err := o.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, line...)
		var back Object
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatal(err)
		}
		again, err := back.AppendJSON(nil)
		if err != nil || string(again) != string(line) {
			t.Errorf("%s became %s", line, again)
		}
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile("testdata/exchanges.ndjson", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/exchanges.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("differs:\n%s", got)
	}
	for i, c := range string(got) {
		if c < ' ' && c != '\n' || c >= 0x7f && c < 0xa0 || c == 0x202e {
			t.Errorf("control character %U at %d", c, i)
		}
	}
}

// Lines of text are printable ASCII of at most 80 columns, whatever was captured, and the header fits them. Of a response that was
// cut they say that, in place of its status.
func TestLines(t *testing.T) {
	long := exchange()
	long.Service, long.Path, long.Name = strings.Repeat("s", 50), []byte("/"+strings.Repeat("é", 100)), ""
	long.Finished += 3600e9
	cut, late := exchange(), exchange()
	cut.Outcome, late.Outcome = perfhttp.CutOff(wire.ClassAborted, 200), perfhttp.CutOff(wire.ClassTimeout, 503)
	lines := LineHeader()
	for _, ex := range append([]*wire.Exchange{exchange(), clientExchange(), cut, late, long}, samples()...) {
		lines += string(NewObject(ex, false).AppendLine(nil, LineOptions{Location: time.UTC}))
	}
	for _, line := range strings.Split(strings.TrimSuffix(lines, "\n"), "\n") {
		if len(line) > LineWidth {
			t.Errorf("%d columns: %s", len(line), line)
		}
		for _, c := range line {
			if c < ' ' || c > '~' {
				t.Errorf("%q holds %U", line, c)
			}
		}
	}
	want := `TIME         SERVICE        METHOD  STATUS  DURATION TO FIRST PATH
22:13:20.123 shop           GET     200       2.05ms   2.00ms /items/{id}
22:13:20.123 >shop          GET     503       2.05ms   2.00ms ~xample/items/{id}
22:13:20.123 shop           GET     aborted   2.05ms   2.00ms /items/{id}
22:13:20.123 shop           GET     timeout   2.05ms   2.00ms /items/{id}
`
	if !strings.HasPrefix(lines, want) {
		t.Errorf("%s", lines)
	}
}

// Paths are shown masked unless raw ones are asked for: by their route, and in the client role, which has none, by their
// form.
func TestObjectPath(t *testing.T) {
	for _, c := range [][3]string{
		{"/users/42", "/users/{id}", "/users/{id}"},
		{"/static/a.js", "/static/a.js", "/static/a.js"},
		{"/f/a/b/c", "/f/{path...}", "/f/{path...}"},
		{"/v/7.json", "/v/{id}.json", "/v/{id}.json"},
		{"/v/7/alice", "/v/{id}/*", "/v/{id}/*"},
		{"/a/alice", "/a/*", "/a/*"},
		{"/users/42", "", "/users/{id}"},
		{"/users/alice@example.com", "", "/users/{email}"},
		{"/\x1b[2J", "/\x1b[2J", "/%1B[2J"},
	} {
		ex := exchange()
		ex.Path, ex.Name = []byte(c[0]), c[1]
		if got := NewObject(ex, false).Path; got != c[2] {
			t.Errorf("%s under %s: %s, want %s", c[0], c[1], got, c[2])
		}
	}
	if o := NewObject(exchange(), true); o.Path != "/items/42" {
		t.Errorf("raw path %s", o.Path)
	}
}

// What headers claim is shown as claimed: beside the observed address, cut where it is long, and not at all where it is
// not valid. Made request IDs differ for every exchange and run.
func TestObjectRequestFields(t *testing.T) {
	const trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	ex := exchange()
	ex.TraceParent = []byte("00-" + trace + "-" + span + "-01")
	ex.ForwardedFor = []byte("203.0.113.7")
	ex.UserAgent = []byte(strings.Repeat("a", 256) + "b")
	ex.RequestID = []byte(strings.Repeat("1", 128) + "2")
	ex.UserHash = 0xab
	o := NewObject(ex, false)
	if o.RequestID != strings.Repeat("1", 128)+"…" || o.UserAgent != strings.Repeat("a", 256)+"…" || o.TraceID != trace || o.SpanID != span ||
		o.ForwardedFor != "203.0.113.7" || o.ClientAddress != "10.0.0.2" || o.ClientPort != 54321 || o.UserHash != "00000000000000ab" {
		t.Errorf("%+v", o)
	}
	ex.TraceParent[0] = 'f'
	ex.TraceParent[1] = 'f'
	ex.RequestID, ex.ForwardedFor, ex.UserHash = nil, []byte("alice"), 0
	made := NewObject(ex, false)
	if made.TraceID != "" || made.SpanID != "" || made.ForwardedFor != "" || made.UserHash != "" || made.RequestID != "00005eed-0000000000000abc-7" {
		t.Errorf("%+v", made)
	}
}

func TestDurationText(t *testing.T) {
	for ns, want := range map[int64]string{
		0: "0ns", 999: "999ns", 1000: "1.00us", 9_994: "9.99us", 9_996: "10.0us", 99_960: "100us", 999_600: "1.00ms", 12_345_678: "12.3ms", 61e9: "61.0s",
		3600e9: "3600s",
	} {
		if got := durationText(&ns); got != want {
			t.Errorf("%d: %s, want %s", ns, got, want)
		}
	}
	if got := durationText(nil); got != "-" {
		t.Error(got)
	}
}

// Any captured bytes give valid JSON on one line without control characters, and a line of text within its width.
func FuzzObject(f *testing.F) {
	f.Add([]byte("/a\x00"), []byte("agent"), []byte("host:1"), []byte("00-"), []byte("1.2.3.4"), "/a/{id}")
	f.Add([]byte("\xff\xfe"), []byte("\u2028"), []byte("[::1]:99999"), []byte("x"), []byte("\"[::1]:1\""), "{")
	f.Fuzz(func(t *testing.T, path, agent, host, parent, forwarded []byte, route string) {
		ex := exchange()
		ex.Path, ex.UserAgent, ex.Host, ex.TraceParent, ex.ForwardedFor, ex.Name = path, agent, host, parent, forwarded, route
		ex.RequestID, ex.Verb, ex.MethodOriginal = path, "_OTHER", agent
		o := NewObject(ex, false)
		line, err := o.AppendJSON(nil)
		if err != nil || !json.Valid(line) || !utf8.Valid(line) {
			t.Fatalf("%v: %q", err, line)
		}
		var back Object
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{back.Path, back.Route, back.Method, back.UserAgent, back.RequestID, back.ForwardedFor, back.TraceID, string(line[:len(line)-1])} {
			if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q is not printable", s)
			}
		}
		if text := o.AppendLine(nil, LineOptions{}); len(text) > LineWidth+1 {
			t.Errorf("%d columns: %q", len(text), text)
		}
	})
}

func BenchmarkObjectJSON(b *testing.B) {
	ex := exchange()
	var line []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if line, err = NewObject(ex, false).AppendJSON(line[:0]); err != nil {
			b.Fatal(err)
		}
	}
}

// Shows that of a long path the end is kept, cut neither within a character nor within an escape, and that there is always an end.
func TestFitEnd(t *testing.T) {
	for _, c := range []struct {
		path, want string
		width      int
	}{
		{"/short", "/short", 6}, {"/orders/{id}/items", "~/items", 7}, {"/orders/{id}/items", "~", 1}, {"/a/%2F%2Fend", "~end", 5}, {"/a/%2F%2Fend", "~end", 6}, {"/a/%2F%2Fend", "~%2Fend", 7},
		{"/x/\u202eend", "~end", 6}, {"/x/\u202eend", `~\u202eend`, 10}, {"/aaaaé", "~", 4}, {"\xff\xff\xffabc", "~abc", 5}, {"%%%%%%", "~", 3},
	} {
		if got := fitEnd(c.path, c.width); got != c.want || len(got) > c.width {
			t.Errorf("%q in %d: %q, not %q", c.path, c.width, got, c.want)
		}
	}
}
