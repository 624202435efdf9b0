package web

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections have no buffers, and deadlines by the clock of a synctest bubble.
type pipes struct {
	net.Listener // not used
	dialed       chan net.Conn
	closed       context.Context
	close        context.CancelFunc
}

func newPipes() *pipes {
	p := &pipes{dialed: make(chan net.Conn)}
	p.closed, p.close = context.WithCancel(context.Background())
	return p
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }
func (p *pipes) Close() error   { p.close(); return nil }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialed:
		return c, nil
	case <-p.closed.Done():
		return nil, net.ErrClosed
	}
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.dialed <- server:
		return client, nil
	case <-p.closed.Done():
		return nil, net.ErrClosed
	}
}

// overPipes serves the routes in a bubble, where hours take no time. It returns a client of HTTP/2 with TLS where it is
// given a configuration, else of HTTP/1.1, and what its URLs begin with.
func overPipes(t *testing.T, gate *Gate, config string, trusts *tls.Config, routes ...Route) (*http.Client, string) {
	t.Helper()
	s, l := NewServer(ServerOptions{Gate: gate, WebConfigFile: config, Routes: routes}), newPipes()
	s.listeners = []net.Listener{l}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	transport, base := &http.Transport{DialContext: l.dial}, "http://localhost"
	if config != "" {
		transport.TLSClientConfig, transport.ForceAttemptHTTP2, base = &tls.Config{RootCAs: trusts.RootCAs, ServerName: "example.com"}, true, "https://example.com"
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &http.Client{Transport: transport}, base
}

// bothVersions runs a test in a bubble for each version of HTTP.
func bothVersions(t *testing.T, test func(t *testing.T, version int, config string, trusts *tls.Config)) {
	config, example := tlsConfig(t)
	trusts := example.Transport.(*http.Transport).TLSClientConfig
	t.Run("HTTP/1.1", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, 1, "", nil) }) })
	t.Run("HTTP/2", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, 2, config, trusts) }) })
}

// An endless answer that says nothing for longer than any of the timeouts goes on, be it at the beginning or later; a usual
// one does not.
func TestEndlessOutlivesTimeouts(t *testing.T) {
	bothVersions(t, func(t *testing.T, version int, config string, trusts *tls.Config) {
		const quiet = 2*writeTimeout + readTimeout + idleTimeout
		for _, c := range []struct {
			endless bool
			first   string
		}{{true, "first\n"}, {true, ""}, {false, "first\n"}, {false, ""}} {
			client, base := overPipes(t, NewGate(), config, trusts, Route{Path: "/events", Endless: c.endless,
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if c.first != "" {
						_, _ = io.WriteString(w, c.first)
						_ = http.NewResponseController(w).Flush()
					}
					select {
					case <-r.Context().Done():
					case <-time.After(quiet):
						_, _ = io.WriteString(w, "second\n")
					}
				})})
			var body []byte
			w, err := client.Get(base + "/events")
			if err == nil {
				if w.ProtoMajor != version {
					t.Errorf("HTTP/%d", w.ProtoMajor)
				}
				body, err = io.ReadAll(w.Body)
				w.Body.Close()
			}
			if whole := err == nil && string(body) == c.first+"second\n"; whole != c.endless {
				t.Errorf("endless %t, first %q: %q, %v", c.endless, c.first, body, err)
			}
		}
	})
}

// Who takes a while for each event of an endless answer keeps it; who reads no more is cut off in time, and counted. With
// HTTP/2 it is the stream that ends.
func TestEndlessSlowReader(t *testing.T) {
	bothVersions(t, func(t *testing.T, version int, config string, trusts *tls.Config) {
		event, ended := []byte(strings.Repeat("x", pieceBytes-1)+"\n"), make(chan struct{})
		gate := NewGate()
		client, base := overPipes(t, gate, config, trusts,
			Route{Path: "/events", Endless: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				defer close(ended)
				for {
					if _, err := w.Write(event); err != nil {
						return
					}
				}
			})},
			Route{Path: "/more", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { plain(w, "more") })})
		w, err := client.Get(base + "/events")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Body.Close()
		lines := bufio.NewReader(w.Body)
		for begun := time.Now(); time.Since(begun) < 2*writeTimeout; time.Sleep(stallTimeout / 2) {
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatalf("cut off after %v: %v", time.Since(begun), err)
			}
		}
		stalled := time.Now()
		<-ended
		if d := time.Since(stalled); d > 2*stallTimeout {
			t.Errorf("cut off after %v", d)
		}
		synctest.Wait()
		if stats := gate.Stats(); version == 1 && stats.Closed[closedSlow].Count != 1 {
			t.Errorf("closed: %v", stats)
		}
		if status, body, _ := ask(t, client, "GET", base+"/more", nil); status != 200 || body != "more" {
			t.Errorf("after it: %d %s", status, body)
		}
	})
}

// A body that is announced and does not come holds the connection no longer than with other answers.
func TestEndlessUnsentBody(t *testing.T) {
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, Routes: []Route{{Path: "/events", Endless: true,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { plain(w, "all") })}}})
	c, err := net.Dial("tcp", s.Addresses()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * bodyTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(c); err != nil || !strings.Contains(string(answer), "\r\nall\r\n") {
		t.Errorf("%q, %v", answer, err)
	}
}

// More clients than may are refused, as the description says, until one leaves; HEAD has no answer without an end.
func TestEndlessPlaces(t *testing.T) {
	route := Route{Path: "/events", MediaType: "text/event-stream", Endless: true,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})}
	path := openAPI([]Route{route}, "")["paths"].(object)[route.Path].(object)
	if len(path) != 1 || path["get"].(object)["responses"].(object)["503"] == nil {
		t.Errorf("described as %v", path)
	}
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, Routes: []Route{route}})
	url := "http://" + s.Addresses()[0].String() + "/events"
	follow := func() (status int, leave func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		w, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Body.Close() })
		return w.StatusCode, cancel
	}
	var leave func()
	for range streamsEachMax {
		var status int
		if status, leave = follow(); status != 200 {
			t.Fatal(status)
		}
	}
	if status, _ := follow(); status != http.StatusServiceUnavailable {
		t.Errorf("%d in a crowd", status)
	}
	leave()
	eventually(t, "place after one left", func() bool { status, _ := follow(); return status == 200 })
	if status, _, header := ask(t, http.DefaultClient, "HEAD", url, nil); status != 405 || header.Get("Allow") != "GET" {
		t.Errorf("HEAD: %d %v", status, header)
	}
}
