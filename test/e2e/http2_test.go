package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/clock"
	"github.com/perfagent/perfagent/test/servers"
)

// h2Client speaks HTTP/2 with prior knowledge on one connection.
func h2Client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: servers.Slow(30 * time.Second)}
}

// h2Requests are requests of a book that are made at the same time by several goroutines.
type h2Requests struct {
	b      *book
	s      *servers.Server
	client *http.Client
	mu     sync.Mutex
}

// do makes a request and expects it at both ends, timed by this end's clock.
func (h *h2Requests) do(method, path, body string) error {
	h.mu.Lock()
	id := h.b.id()
	h.mu.Unlock()
	request, err := http.NewRequest(method, "http://"+h.s.Address+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("X-Request-Id", id)
	sent := clock.Now()
	response, err := h.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	size, err := io.Copy(io.Discard, response.Body)
	if err != nil || response.ProtoMajor != 2 {
		return fmt.Errorf("%s: %s, %w", path, response.Proto, err)
	}
	e := expected(client.Result{Request: client.Request{ID: id, Method: method, Target: path}, Response: client.Response{Status: response.StatusCode, BodySize: size}}, h.s)
	e.protocol, e.requestSize, e.maxNS = "h2", int64(len(body)), clock.Now()-sent+int64(time.Millisecond)
	if _, err := fmt.Sscanf(path, "/sleep/%d", &e.minNS); err == nil {
		e.minNS *= int64(time.Millisecond) * 98 / 100
	}
	h.mu.Lock()
	h.b.expectBoth(e)
	h.mu.Unlock()
	return nil
}

// each makes n requests, so many at a time.
func (h *h2Requests) each(n, atOnce int, do func(i int) error) {
	h.b.t.Helper()
	var wg sync.WaitGroup
	slots, failed := make(chan struct{}, atOnce), make(chan error, n)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := do(i); err != nil {
				failed <- err
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		h.b.t.Error(err)
	}
}

// h2Kinds are the servers of HTTP/2 in clear.
var h2Kinds = []servers.Kind{servers.GoH2C, servers.NginxH2C}

// Exchanges of HTTP/2 are seen at both ends like those of HTTP/1, one at a time and a hundred at once on a connection: each once,
// with method, path, status, sizes and a duration within the client's own.
func TestE2EHTTP2(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	kinds, concurrencies := h2Kinds, []int{1, 10, 100}
	if testing.Short() {
		kinds, concurrencies = kinds[:1], concurrencies[1:2]
	}
	for _, kind := range kinds {
		for _, atOnce := range concurrencies {
			t.Run(fmt.Sprintf("%s/%d", kind, atOnce), func(t *testing.T) {
				t.Parallel()
				s := startServer(t, servers.Options{Kind: kind})
				a := startAgent(t, agent.Options{Ports: []int{s.Port}})
				h := &h2Requests{b: newBook(t, a), s: s, client: h2Client(t)}
				paths := []string{"/fast", "/status/404", "/bytes/2000", "/status/500", "/fast?q=1"}
				h.each(211, atOnce, func(i int) error { return h.do("GET", paths[i%len(paths)], "") })
				if kind == servers.GoH2C {
					h.each(23, atOnce, func(i int) error { return h.do("POST", "/upload", strings.Repeat("x", 1000*i)) })
					h.each(11, atOnce, func(i int) error { return h.do("GET", fmt.Sprintf("/sleep/%d", 10*i), "") })
				}
				h.b.check()
				expectSum(t, a, float64(len(h.b.want)/2), "http_server_request_duration_seconds_count", "network_protocol_version", "2")
				expectSum(t, a, 0, "perfagent_undecoded_connections")
				balance(t, a, h.b)
			})
		}
	}
}

// Bodies of 64 MiB beside small requests on the same connection have their size, and nothing is lost.
func TestE2EHTTP2LargeBodies(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	s := startServer(t, servers.Options{Kind: servers.NginxH2C})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	h := &h2Requests{b: newBook(t, a), s: s, client: h2Client(t)}
	h.each(20, 4, func(i int) error {
		if i%10 == 0 {
			return h.do("GET", "/bytes/67108864", "")
		}
		return h.do("GET", "/fast", "")
	})
	h.b.check()
	balance(t, a, h.b)
}

// A stream that the client cancels ends as aborted, at that instant and not with its connection; the others go on.
func TestE2EHTTP2Cancelled(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	s := startServer(t, servers.Options{Kind: servers.GoH2C})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	h := &h2Requests{b: newBook(t, a), s: s, client: h2Client(t)}
	h.each(1, 1, func(int) error { return h.do("GET", "/fast", "") })
	for range 7 {
		const patience = 50 * time.Millisecond
		var wrote int64
		at := clock.Now()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote = clock.Now() }})
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Address+"/sleep/2000", nil)
		if err != nil {
			t.Fatal(err)
		}
		id := h.b.id()
		request.Header.Set("X-Request-Id", id)
		sent := clock.Now()
		if response, err := h.client.Do(request); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v, %v", response, err)
		}
		cancel()
		e := expected(client.Result{Request: client.Request{ID: id, Target: "/sleep/2000"}}, s)
		e.protocol, e.errorType, e.anySize = "h2", "aborted", true
		e.minNS, e.maxNS = max(at+int64(patience)-wrote, 0), clock.Now()-sent+int64(servers.Slow(time.Second))
		ours := e
		ours.role = "client"
		h.b.want = append(h.b.want, e, ours)
		h.each(1, 1, func(int) error { return h.do("GET", "/fast", "") })
	}
	h.b.check()
	balance(t, a, h.b)
}

// A call of gRPC is counted at both ends by its method, with the status of its trailers, also where hundreds share a connection, and in no
// metric of HTTP.
func TestE2EGRPC(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	s := startServer(t, servers.Options{Kind: servers.GoH2C})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	h := &h2Requests{b: newBook(t), s: s, client: h2Client(t)}
	h.each(303, 50, func(i int) error {
		request, err := http.NewRequest(http.MethodPost, "http://"+s.Address+"/test.Calls/"+[]string{"Status0", "Status5", "Status14"}[i%3], strings.NewReader("\x00\x00\x00\x00\x03abc"))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/grpc")
		request.Header.Set("TE", "trailers")
		response, err := h.client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.Trailer.Get("Grpc-Status") == "" {
			return fmt.Errorf("no status: %v, %w", response.Trailer, err)
		}
		return nil
	})
	for method, status := range map[string]string{"Status0": "OK", "Status5": "NOT_FOUND", "Status14": "UNAVAILABLE"} {
		for _, role := range []string{"server", "client"} {
			expectSum(t, a, 101, "rpc_"+role+"_call_duration_seconds_count", "rpc_method", "test.Calls/"+method, "rpc_response_status_code", status, "rpc_system_name", "grpc")
		}
	}
	expectSum(t, a, 0, "http_server_request_duration_seconds_count")
	expectSum(t, a, 606, "perfagent_exchanges_total", "protocol", "grpc")
	if m, err := a.Metrics(); err != nil || len(m.Lost()) > 0 {
		t.Errorf("%v: lost %v", err, m.Lost())
	}
}

// A connection that is older than the agent is joined: what is asked for on it is counted, and what refers to headers from before is
// not guessed.
func TestE2EHTTP2Older(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	s := startServer(t, servers.Options{Kind: servers.GoH2C})
	h := &h2Requests{b: newBook(t), s: s, client: h2Client(t)}
	h.each(5, 1, func(int) error { return h.do("GET", "/fast", "") })
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	h.b = newBook(t, a)
	h.each(30, 1, func(i int) error { return h.do("GET", fmt.Sprintf("/bytes/%d", 100+i), "") })
	wrong := func() (problems []string, n int) {
		for _, e := range a.Exchanges() {
			if n++; e.Protocol != "h2" || e.Path != "" && !strings.HasPrefix(e.Path, "/bytes/1") || e.Status != 200 || e.DurationNS == nil {
				problems = append(problems, fmt.Sprintf("%+v", e))
			}
		}
		return problems, n
	}
	// The first operations may be needed to know it for HTTP/2.
	if !until(visibleTimeout, func() bool { _, n := wrong(); return n >= 2*28 }) {
		_, n := wrong()
		t.Errorf("%d of 60 exchanges", n)
	}
	if problems, n := wrong(); len(problems) > 0 || n > 60 {
		t.Errorf("%d exchanges: %s", n, problems)
	}
}
