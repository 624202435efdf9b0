package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/trace"
)

// traceServer serves a hub on a socket, and returns a client of it. It ends with the test, which fails if serving did.
func traceServer(t *testing.T, hub *trace.Hub) *http.Client { return socketServer(t, hub, nil) }

// socketServer serves the server's part of the socket as well.
func socketServer(t *testing.T, hub *trace.Hub, server *Server) *http.Client {
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
	go func() { done <- ServeTrace(ctx, l, NewGate(), hub, server, nil) }()
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
	var hub trace.Hub
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
		var o export.Object
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
	var hub trace.Hub
	s, err := hub.Subscribe(trace.Filter{}, 2)
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
	if err := stream(context.Background(), w, &hub, s, trace.Query{Limit: 2}); err != nil {
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
	var hub trace.Hub
	l, err := ListenSocket(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- ServeTrace(ctx, l, NewGate(), &hub, nil, nil) }()
	open := func() *http.Response {
		client := unixClient(l.Addr().String())
		r, err := client.Get("http://perfagent" + trace.Path)
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

// watchersMost is how many subscribers a hub has at most.
func watchersMost() (n int) {
	for hub := new(trace.Hub); ; n++ {
		if _, err := hub.Subscribe(trace.Filter{}, 1); err != nil {
			return n
		}
	}
}

// The stream ends with the server, and a client that leaves frees its place.
func TestTraceStreamEnds(t *testing.T) {
	var hub trace.Hub
	client := traceServer(t, &hub)
	for range watchersMost() + 2 {
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
		waitFor(t, func() bool { return !hub.Wanted() })
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

// The socket serves what top reads of the server, and nothing else of it; without a server but the trace.
func TestSocketForTop(t *testing.T) {
	c := newClock()
	server := NewServer(ServerOptions{Performance: performanceOf(shopEngine(c), c)})
	for _, x := range []struct {
		server *Server
		path   string
		status int
	}{
		{server, "/dashboard?window=1m", http.StatusOK},
		{server, "/dashboard?window=2m", http.StatusBadRequest},
		{server, "/performance/summary", http.StatusNotFound},
		{server, "/", http.StatusNotFound},
		{nil, "/dashboard", http.StatusNotFound},
	} {
		response, err := socketServer(t, &trace.Hub{}, x.server).Get("http://perfagent" + x.path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != x.status {
			t.Errorf("%s (server: %v): %s, want %d", x.path, x.server != nil, response.Status, x.status)
		}
	}
}
