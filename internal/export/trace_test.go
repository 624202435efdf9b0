package export

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	perfhttp "github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

func TestFilter(t *testing.T) {
	ok, failed, client := exchange(), exchange(), clientExchange()
	failed.Outcome, failed.Finished = perfhttp.CutOff(wire.ClassAborted, 0), 0
	for _, c := range []struct {
		filter             Filter
		ok, failed, client bool
	}{
		{Filter{}, true, true, true},
		{Filter{Slower: 2 * time.Millisecond}, true, false, true},
		{Filter{Slower: 3 * time.Millisecond}, false, false, false},
		{Filter{Status: []string{"200"}}, true, false, false},
		{Filter{Status: []string{"5xx", "aborted"}}, false, true, true},
		{Filter{Status: []string{"error"}}, false, true, true},
		{Filter{Services: []string{"shop"}}, true, true, true},
		{Filter{Services: []string{"x", "s*"}}, true, true, true},
		{Filter{Services: []string{"x", "y,z"}}, false, false, false},
	} {
		if err := c.filter.Validate(); err != nil {
			t.Errorf("%+v: %v", c.filter, err)
		}
		if a, b, d := c.filter.Match(ok), c.filter.Match(failed), c.filter.Match(client); a != c.ok || b != c.failed || d != c.client {
			t.Errorf("%+v: %v %v %v", c.filter, a, b, d)
		}
	}
	for _, f := range []Filter{{Slower: -1}, {Status: []string{"20"}}, {Status: []string{"xx5"}}, {Status: []string{"+12"}}, {Services: []string{"["}}, {Status: []string{"6xx"}}, {Status: []string{"099"}}, {Status: []string{""}}} {
		if f.Validate() == nil {
			t.Errorf("%+v is accepted", f)
		}
	}
}

func TestTraceQuery(t *testing.T) {
	q := TraceQuery{Filter{time.Second, []string{"404", "5xx"}, []string{"a*", "b,c"}}, 7, true}
	back, err := ParseTraceQuery(q.Values())
	if err != nil || !reflect.DeepEqual(back, q) {
		t.Errorf("%+v, %v", back, err)
	}
	if v, _ := url.ParseQuery("status=5XX,+aborted&status=404"); !slices.Equal(SplitStatus(v["status"]), []string{"5xx", "aborted", "404"}) {
		t.Errorf("%q", SplitStatus(v["status"]))
	}
	for _, bad := range []string{"slower=x", "limit=-1", "limit=x", "slower=-1s", "status=x", "status=", "raw_paths=2", "other=1"} {
		v, _ := url.ParseQuery(bad)
		if _, err := ParseTraceQuery(v); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// A slow subscriber loses what does not fit, and only it; the numbers add up.
func TestHubSlowSubscriber(t *testing.T) {
	var hub TraceHub
	slow, err := hub.Subscribe(Filter{}, 3)
	if err != nil {
		t.Fatal(err)
	}
	fast, err := hub.Subscribe(Filter{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		hub.Publish(exchange())
	}
	if len(slow.C) != 3 || slow.Dropped() != 7 || slow.Dropped() != 0 || len(fast.C) != 10 || fast.Dropped() != 0 {
		t.Errorf("slow has %d, fast has %d", len(slow.C), len(fast.C))
	}
	slow.Close()
	hub.Publish(exchange())
	if len(slow.C) != 3 || len(fast.C) != 11 {
		t.Error("a closed subscription receives")
	}
	fast.Close()
	fast.Close()
}

// What a subscriber receives stays valid when the publisher's buffers change.
func TestHubCopies(t *testing.T) {
	var hub TraceHub
	s, err := hub.Subscribe(Filter{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ex := exchange()
	hub.Publish(ex)
	copy(ex.Path, "XXXXXXXXXX")
	if got := <-s.C; string(got.Path) != "/items/42" {
		t.Errorf("%s", got.Path)
	}
}

// Subscribers come and go while exchanges are published.
func TestHubConcurrency(t *testing.T) {
	var hub TraceHub
	var watchers sync.WaitGroup
	for range 4 {
		watchers.Go(func() {
			for range 200 {
				s, err := hub.Subscribe(Filter{}, 1)
				if err != nil {
					t.Error(err)
					return
				}
				s.Dropped()
				s.Close()
			}
		})
	}
	for range 2000 {
		hub.Publish(exchange())
	}
	watchers.Wait()
	if hub.subs.Load() != nil {
		t.Error("subscriptions are left")
	}
}

func TestHubLimitAndCost(t *testing.T) {
	var hub TraceHub
	ex := exchange()
	if n := testing.AllocsPerRun(100, func() { hub.Publish(ex) }); n != 0 {
		t.Errorf("%v allocations without a subscriber", n)
	}
	for range subscribersMax {
		s, err := hub.Subscribe(Filter{Services: []string{"nobody"}}, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	if n := testing.AllocsPerRun(100, func() { hub.Publish(ex) }); n != 0 {
		t.Errorf("%v allocations for exchanges that nobody wants", n)
	}
	if _, err := hub.Subscribe(Filter{}, 1); !errors.Is(err, ErrTooManySubscribers) {
		t.Errorf("%v", err)
	}
}

// traceServer serves a hub on a socket, and returns a client of it. It ends with the test, which fails if serving did.
func traceServer(t *testing.T, hub *TraceHub) *http.Client {
	t.Helper()
	name := filepath.Join(t.TempDir(), "run", "perfagent.sock")
	l, err := ListenSocket(name)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != socketMode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := ListenSocket(name); !errors.Is(err, ErrSocketBusy) {
		t.Errorf("a second agent: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ServeTrace(ctx, l, NewGate(), hub, nil) }()
	client := unixClient(name)
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		client.CloseIdleConnections()
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return client
}

func unixClient(name string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", name)
	}}}
}

// What happens after the response's head arrived is in the stream, filtered, up to the limit.
func TestTraceStream(t *testing.T) {
	var hub TraceHub
	client := traceServer(t, &hub)
	r, err := client.Get("http://perfagent/trace?status=5xx&limit=2")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	for range 3 {
		hub.Publish(exchange())
		hub.Publish(clientExchange())
	}
	lines := bufio.NewScanner(r.Body)
	n := 0
	for lines.Scan() {
		var o Object
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil || o.StatusCode != 503 || o.Path != "/items/{id}" {
			t.Errorf("%s: %v", lines.Bytes(), err)
		}
		n++
	}
	if n != 2 || lines.Err() != nil || r.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%d lines, %v, %v", n, lines.Err(), r.Header)
	}
}

// heldWriter is a client that does not read: the first write after the head waits for the test.
type heldWriter struct {
	header http.Header
	writes chan struct{} // one send permits one write
	body   strings.Builder
}

func (w *heldWriter) Header() http.Header { return w.header }
func (w *heldWriter) WriteHeader(int)     {}
func (w *heldWriter) Flush()              {}
func (w *heldWriter) Write(b []byte) (int, error) {
	<-w.writes
	return w.body.Write(b)
}

// A stream that is not read drops, and says how many when it is read again.
func TestTraceStreamTellsDropped(t *testing.T) {
	var hub TraceHub
	s, err := hub.Subscribe(Filter{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 10 { // 2 fit, 8 do not
		hub.Publish(exchange())
	}
	w := &heldWriter{header: http.Header{}, writes: make(chan struct{}, 3)}
	for range 3 {
		w.writes <- struct{}{}
	}
	if err := stream(context.Background(), w, s, TraceQuery{Limit: 2}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(w.body.String()), "\n")
	if len(lines) != 3 || lines[2] != `{"dropped":8}` {
		t.Errorf("%q", lines)
	}
}

// What was published before the server ended is still in the streams, also to a client that does not read yet; one that
// never reads holds the end up for no longer than the drain's time.
func TestTraceStreamDrains(t *testing.T) {
	var hub TraceHub
	l, err := ListenSocket(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- ServeTrace(ctx, l, NewGate(), &hub, nil) }()
	open := func() *http.Response {
		client := unixClient(l.Addr().String())
		r, err := client.Get("http://perfagent" + TracePath)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Body.Close(); client.CloseIdleConnections() })
		return r
	}
	reading, _ := open(), open()
	const n = 5003 // some 2 MB: more than a socket holds
	for range n {
		hub.Publish(exchange())
	}
	cancel()
	lines, whole := 0, bufio.NewScanner(reading.Body)
	for whole.Scan() {
		lines++
	}
	if lines != n || whole.Err() != nil {
		t.Errorf("%d of %d lines, %v", lines, n, whole.Err())
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * drainTimeout):
		t.Error("a client that does not read holds up the end")
	}
}

// The stream ends with the server, and a client that leaves frees its place.
func TestTraceStreamEnds(t *testing.T) {
	var hub TraceHub
	client := traceServer(t, &hub)
	for range subscribersMax + 2 {
		ctx, cancel := context.WithCancel(context.Background())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://perfagent/trace", nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := client.Do(request)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%v %v", r, err)
		}
		cancel()
		_ = r.Body.Close()
		waitFor(t, func() bool { return hub.subs.Load() == nil })
	}
	r, err := client.Get("http://perfagent/trace")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Body.Close() })
	for path, want := range map[string]int{"/trace?limit=x": 400, "/other": 404} {
		r, err := client.Get("http://perfagent" + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen in time")
		}
	}
}

// A socket that a killed agent left is replaced; a file that is no socket is not touched.
func TestListenSocketStale(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	again, err := ListenSocket(name)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
	if err := os.WriteFile(name, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenSocket(name); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(name); string(b) != "precious" {
		t.Errorf("%s %v", b, err)
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{0, 1} {
		b.Run(map[int]string{0: "nobody", 1: "subscriber"}[n], func(b *testing.B) {
			var hub TraceHub
			var s *Subscription
			if n > 0 {
				s, _ = hub.Subscribe(Filter{}, 1)
				defer s.Close()
			}
			var ex *wire.Exchange = exchange()
			b.ReportAllocs()
			for b.Loop() {
				hub.Publish(ex)
				if s != nil {
					<-s.C
				}
			}
		})
	}
}
