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
	"time"
)

// fill takes all places, and lets as many wait as may.
func fill(s *places) {
	for range answersMax {
		s.taken = append(s.taken, &place{since: time.Now()})
	}
	for range waitersMax {
		s.waiting = append(s.waiting, new(place))
	}
}

const bigBytes = 6 << 20

// bigRoute answers with more than a connection's buffers hold, and than HTTP/2 sends unasked.
func bigRoute() Route {
	text := strings.Repeat("x", bigBytes)
	return Route{Path: "/big", Summary: "Much."}.serveJSON(func(map[string]string) (any, error) { return text, nil })
}

// stall asks for a path, waits until the answer begins, and reads no further until the test ends.
func stall(t *testing.T, address, path string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReaderSize(c, 16).ReadSlice(' '); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
}

// Clients that ask and do not read the answer deny it to nobody, whatever the path: the next one gets the place of the
// slowest, and the whole answer.
func TestStalledReaders(t *testing.T) {
	gate := NewGate()
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, Gate: gate, Routes: []Route{bigRoute()},
		Metrics: metricsOf(t, manyEndpoints(400))})
	address := s.Addresses()[0].String()
	for path, least := range map[string]int{"/metrics": 2 << 20, "/big": bigBytes} {
		before := gate.Stats().Closed[closedSlow].Count
		for range answersMax {
			stall(t, address, path)
		}
		status, body, _ := ask(t, http.DefaultClient, "GET", "http://"+address+path, nil)
		if status != 200 || len(body) < least {
			t.Errorf("%s behind stalled clients: %d, %d bytes", path, status, len(body))
		}
		if n := gate.Stats().Closed[closedSlow].Count - before; n < 1 {
			t.Errorf("%s: %d closed as slow", path, n)
		}
	}
}

// The same with HTTP/2, whose clients stall a stream rather than the connection.
func TestStalledStreams(t *testing.T) {
	config, example := tlsConfig(t)
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, WebConfigFile: config, Routes: []Route{bigRoute()}})
	url := "https://" + s.Addresses()[0].String() + "/big"
	newClient := func() *http.Client { // with a connection of its own
		c := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{RootCAs: example.Transport.(*http.Transport).TLSClientConfig.RootCAs}}}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	stalled := newClient()
	for range answersMax {
		w, err := stalled.Get(url)
		if err != nil || w.ProtoMajor != 2 {
			t.Fatalf("%v, %v", w, err)
		}
		defer w.Body.Close()
	}
	if status, body, _ := ask(t, newClient(), "GET", url, nil); status != 200 || len(body) < bigBytes {
		t.Errorf("behind stalled streams: %d, %d bytes", status, len(body))
	}
}

// Who gives way is the one whose client reads the slowest, or else who has taken longest, if that is long; nobody does where
// nobody waits, and no more than wait.
func TestMakeWay(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	slow, slower, young, old, older := &place{since: ago(time.Second), writing: ago(slowAfter)}, &place{since: ago(time.Second), writing: ago(2 * slowAfter)},
		&place{since: ago(answerLeast - 1), writing: ago(slowAfter - 1)}, &place{since: ago(answerLeast)}, &place{since: ago(2 * answerLeast)}
	for name, c := range map[string]struct {
		taken   []*place
		waiting int
		ousted  []*place
	}{
		"nobody waits": {[]*place{slow, older}, 0, nil},
		"slowest":      {[]*place{slow, slower, older}, 1, []*place{slower}},
		"both slow":    {[]*place{slow, slower, young}, 3, []*place{slow, slower}},
		"oldest":       {[]*place{old, young, older}, 1, []*place{older}},
		"young":        {[]*place{young, young}, 5, nil},
	} {
		s := places{waiting: make([]*place, c.waiting)}
		for _, p := range c.taken {
			p.ResponseWriter, p.ousted = unwritable{}, false
			s.taken = append(s.taken, p)
		}
		for range 5 {
			s.makeWay(now)
		}
		for _, p := range c.taken {
			want := false
			for _, o := range c.ousted {
				want = want || o == p
			}
			if p.ousted != want {
				t.Errorf("%s: %v ousted: %t", name, p, p.ousted)
			}
		}
	}
}

type unwritable struct{ http.ResponseWriter }

// Who waits gets the next place in turn; who stops waiting leaves no trace, also at the moment of his turn.
func TestPlacesInTurn(t *testing.T) {
	var s places
	var held []*place
	for range answersMax {
		p := &place{places: &s, granted: make(chan struct{})}
		if !s.take(context.Background(), p) {
			t.Fatal("no place")
		}
		held = append(held, p)
	}
	gone, leave := context.WithCancel(context.Background())
	results := make(chan int, 3)
	for i, ctx := range []context.Context{gone, context.Background(), context.Background()} {
		p := &place{places: &s, granted: make(chan struct{})}
		go func() {
			if s.take(ctx, p) {
				results <- i
			} else {
				results <- -1
			}
		}()
		eventually(t, "a waiter", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.waiting) == i+1 })
	}
	leave()
	if got := <-results; got != -1 {
		t.Errorf("%d got a place, the first has left", got)
	}
	for want := 1; want <= 2; want++ {
		s.leave(held[want])
		if got := <-results; got != want {
			t.Errorf("%d got a place, it was the turn of %d", got, want)
		}
	}
	if len(s.waiting) != 0 || len(s.taken) != answersMax {
		t.Errorf("%d wait, %d places are taken", len(s.waiting), len(s.taken))
	}
	last := &place{granted: make(chan struct{})}
	s.grant(last)
	if !s.giveUp(last) {
		t.Error("a place that was granted at the last moment is lost")
	}
}

// eventually polls until done returns true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) { // polling with a deadline
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
	}
}
