package web

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

// manyEndpoints has so many endpoints after an exchange each.
func manyEndpoints(n int) *analytics.Engine {
	e := analytics.NewEngine(analytics.Options{Now: newClock().now})
	for i := range n {
		ex := exchange()
		ex.Name = fmt.Sprintf("/api/v1/things/%d/{id}", i)
		e.Add(ex)
	}
	return e
}

// crowd opens connections one after the other and sends the text on each. They stay open until the test ends.
func crowd(t *testing.T, n int, network, address, text string) {
	t.Helper()
	for range n {
		c, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_, _ = io.WriteString(c, text) // it may be closed already
	}
}

// Thousands of connections that say nothing, or begin a head and do not end it, are no more than the bound on each
// listener and on all together, and whoever asks gets an answer, on each of them.
func TestGateCrowd(t *testing.T) {
	gate := NewGate()
	socket := filepath.Join(t.TempDir(), "http.sock")
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0", "127.0.0.1:0", "unix:" + socket}, Gate: gate})
	first, second := s.Addresses()[0].String(), s.Addresses()[1].String()
	unix := unixClient(socket)
	defer unix.CloseIdleConnections()
	asked := 0
	answers := func() {
		t.Helper()
		for _, address := range []string{first, second, socket} {
			client := http.DefaultClient
			if address == socket {
				client, address = unix, "localhost"
			}
			if status, body, _ := ask(t, client, "GET", "http://"+address+"/metrics", nil); status != 200 || len(body) == 0 {
				t.Errorf("%s: %d %s", address, status, body)
			}
			asked++
		}
		http.DefaultClient.CloseIdleConnections()
		unix.CloseIdleConnections()
	}
	most := func(want int) {
		t.Helper()
		if n := gate.Stats().Open; n > want {
			t.Errorf("%d connections are open, at most %d should be", n, want)
		}
	}
	const silent, halting = 1511, 503
	crowd(t, silent, "tcp", first, "")
	answers()
	most(connectionsEachMax + 2)
	crowd(t, halting, "tcp", second, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 2048))
	crowd(t, halting, "unix", socket, "")
	answers()
	most(connectionsMax)
	stats := gate.Stats()
	if n := stats.Closed[closedIdle].Count; n < silent+2*halting-connectionsMax || n > silent+2*halting+uint64(asked) {
		t.Errorf("%d were closed for newer ones", n)
	}
	if stats.Closed[closedSlow].Count != 0 || stats.Closed[closedRefused].Count != 0 {
		t.Errorf("closed: %v", stats.Closed)
	}
}

// A request that is being answered keeps its connection, whoever else comes; and the last one that was there is gone.
func TestGateKeepsRequests(t *testing.T) {
	gate, begun, end := NewGate(), make(chan struct{}), make(chan struct{})
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, Gate: gate, Routes: []Route{{Path: "/wait", Handler: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			close(begun)
			<-end
			plain(w, "done")
		})}}})
	address := s.Addresses()[0].String()
	answer := make(chan string)
	go func() {
		w, err := http.Get("http://" + address + "/wait")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer w.Body.Close()
		body, _ := io.ReadAll(w.Body)
		answer <- string(body)
	}()
	<-begun
	crowd(t, 3*connectionsEachMax, "tcp", address, "")
	if status, _, _ := ask(t, http.DefaultClient, "GET", "http://"+address+"/-/healthy", nil); status != 200 {
		t.Error(status)
	}
	close(end)
	if got := <-answer; got != "done" {
		t.Error(got)
	}
}

// leastReluctance is that of the connection that would be closed for another.
func (g *Gate) leastReluctance() reluctance {
	g.mu.Lock()
	defer g.mu.Unlock()
	least, now := neverCloses, time.Now()
	for c := range g.open {
		least = min(least, c.reluctance(now))
	}
	return least
}

// Clients that send request after request and read no answer do not lock others out either, and are counted; nor do those
// that announce a body and do not send it.
func TestGateNeverReads(t *testing.T) {
	gate := NewGate()
	page := strings.Repeat("x", 64<<10)
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, Gate: gate, Routes: []Route{{Path: "/page", Handler: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { plain(w, page) })}}})
	address := s.Addresses()[0].String()
	healthy := func(what string) {
		t.Helper()
		eventually(t, "answer beside those that "+what, func() bool {
			http.DefaultClient.CloseIdleConnections()
			w, err := http.Get("http://" + address + "/-/healthy")
			if err != nil {
				return false // refused
			}
			w.Body.Close()
			return w.StatusCode == 200
		})
	}
	many := strings.Repeat("GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n", 8) // more than the buffers hold
	for range connectionsEachMax {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, many)
	}
	eventually(t, "stalled crowd", func() bool { return gate.leastReluctance() == doesNotRead })
	healthy("do not read")
	if gate.Stats().Closed[closedSlow].Count == 0 {
		t.Error("none was closed as slow")
	}
	crowd(t, connectionsEachMax, "tcp", address, "POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
	healthy("send no body")
}
