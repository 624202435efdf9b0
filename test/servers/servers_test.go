package servers_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := servers.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func start(t *testing.T, options servers.Options) *servers.Server {
	t.Helper()
	s, err := servers.Start(options)
	if errors.Is(err, servers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func dial(t *testing.T, s *servers.Server) *client.Conn {
	t.Helper()
	conn, err := client.Dial(client.Options{Network: s.Network, Address: s.Address, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Every server answers every endpoint it is said to have, on one kept-alive connection, and stops without leftovers.
func TestEndpoints(t *testing.T) {
	all := []client.Request{
		{Target: "/fast"}, {Target: "/sleep/5"}, {Target: "/bytes/1048576"}, {Target: "/chunked/7"}, {Target: "/status/204"},
		{Method: "POST", Target: "/upload", Size: 100_003}, {Target: "/fast"},
	}
	some := []client.Request{{Target: "/fast"}, {Target: "/bytes/1048576"}, {Target: "/fast"}}
	for _, kind := range []servers.Kind{servers.Nginx, servers.Go, servers.GoUnix, servers.Node, servers.Uvicorn,
		servers.GunicornUnix, servers.HTTPServer, servers.HTTPServerFork, servers.Uring, servers.Raw, servers.RawPrefork} {
		t.Run(string(kind), func(t *testing.T) {
			s := start(t, servers.Options{Kind: kind})
			requests := all
			if kind == servers.Nginx || kind == servers.Uring {
				requests = some
			}
			conn := dial(t, s)
			for _, r := range requests {
				if kind == servers.GunicornUnix {
					conn = dial(t, s) // its sync workers close after each response
				}
				result, err := conn.Do(r)
				if err != nil {
					t.Fatalf("%s: %v; server: %s", r.Target, err, s.Log())
				}
				check(t, result)
			}
		})
	}
}

func check(t *testing.T, r client.Result) {
	t.Helper()
	status, size := 200, int64(2)
	switch {
	case strings.HasPrefix(r.Target, "/bytes/"):
		size = 1 << 20
	case r.Target == "/status/204":
		status, size = 204, 0
	case r.Target == "/upload":
		size = int64(len(fmt.Sprint(r.Size)))
	case strings.HasPrefix(r.Target, "/chunked"):
		size = r.BodySize // the framing differs: node and nginx close or chunk as they like
		if size < 700 {
			t.Errorf("chunked body of %d bytes", size)
		}
	}
	if r.Status != status || r.BodySize != size {
		t.Errorf("%s: status %d, %d bytes; expected %d, %d", r.Target, r.Status, r.BodySize, status, size)
	}
}

// nginx passes requests on to an upstream over TCP and one over a Unix socket.
func TestProxy(t *testing.T) {
	tcp := start(t, servers.Options{Kind: servers.Go})
	unix := start(t, servers.Options{Kind: servers.GunicornUnix})
	s := start(t, servers.Options{Kind: servers.Nginx, TCPUpstream: tcp.Address, UnixUpstream: unix.Address})
	conn := dial(t, s)
	for _, target := range []string{"/tcp/fast", "/unix/fast", "/tcp/sleep/5"} {
		if r, err := conn.Do(client.Request{Target: target}); err != nil || r.Status != 200 {
			t.Errorf("%s: status %d, %v", target, r.Status, err)
		}
	}
}

// The raw server's odd behaviours arrive at the client as they are meant.
func TestRawBehaviours(t *testing.T) {
	s := start(t, servers.Options{Kind: servers.Raw})
	for _, target := range []string{"/split/9", "/bytewise", "/writev/70000", "/sendfile/1048576", "/more/5000",
		"/threads", "/passed", "/unmapped", "/close/1000", "/chunked/5", "/hints"} {
		r, err := dial(t, s).Do(client.Request{Target: target})
		if err != nil || r.Status != 200 {
			t.Errorf("%s: status %d, %v; server: %s", target, r.Status, err, s.Log())
		}
		if target == "/hints" && (len(r.Interim) != 1 || r.Interim[0] != 103) {
			t.Errorf("%s: interim %v", target, r.Interim)
		}
	}
	for _, target := range []string{"/abort", "/fin", "/cut/1000"} {
		if r, err := dial(t, s).Do(client.Request{Target: target}); err == nil {
			t.Errorf("%s: whole response %+v", target, r.Response)
		}
	}
	r, err := dial(t, s).Do(client.Request{Method: "PUT", Target: "/upload", Size: 5 << 20, Expect: true})
	if err != nil || r.Status != 200 || len(r.Interim) != 1 {
		t.Errorf("100-continue: %+v, %v", r.Response, err)
	}
	conn := dial(t, s)
	if r, err := conn.Do(client.Request{Target: "/upgrade"}); err != nil || r.Status != 101 {
		t.Fatalf("upgrade: status %d, %v", r.Status, err)
	}
	if _, err := conn.Write([]byte("\x00echo")); err != nil {
		t.Fatal(err)
	}
	echo := make([]byte, 5)
	if n, err := conn.Read(echo); err != nil || string(echo[:n]) != "\x00echo" {
		t.Errorf("after the upgrade: %q, %v", echo[:n], err)
	}
}

// Client and server agree on every byte's offset: of 16 requests written at once, each is read by the server after
// the client wrote it, and answered before the client read it.
func TestClocks(t *testing.T) {
	for _, kind := range []servers.Kind{servers.Go, servers.Raw, servers.Uring} {
		t.Run(string(kind), func(t *testing.T) {
			s := start(t, servers.Options{Kind: kind, Clock: true})
			conn := dial(t, s)
			requests := make([]client.Request, 16)
			if kind == servers.Uring {
				requests = requests[:1] // answers one request at a time
			}
			results, err := conn.Pipeline(requests)
			if err != nil {
				t.Fatal(err)
			}
			key, ours := conn.Key(), conn.Ops()
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			theirs, err := s.Ops(key)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range results {
				sent, read := ours.SpanAt(true, r.RequestStart), theirs.SpanAt(false, r.RequestStart)
				responded, received := theirs.SpanAt(true, r.First), ours.SpanAt(false, r.End-1)
				if !sent.Known() || !read.Known() || !responded.Known() || !received.Known() {
					t.Fatalf("request %d: missing clocks: %v %v %v %v", i, sent, read, responded, received)
				}
				if sent.Before > read.After || read.After > responded.After || responded.Before > received.After {
					t.Errorf("request %d out of order: %v %v %v %v", i, sent, read, responded, received)
				}
			}
		})
	}
}
