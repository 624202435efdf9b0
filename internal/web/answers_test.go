package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const bigBytes = 6 << 20

// bigRoute answers with more than a connection's buffers hold, and than HTTP/2 sends unasked.
func bigRoute() Route {
	text := strings.Repeat("x", bigBytes)
	return Route{Path: "/big", Summary: "Much."}.serveJSON(func(map[string]string) (any, error) { return text, nil })
}

// crowdsMax is how many crowds come, of crowdMax clients each.
const crowdsMax, crowdMax = 4, 37

// Clients that ask and do not read deny the answer to nobody, whatever the path: who asks among them gets all of it, each time.
func TestStalledReaders(t *testing.T) {
	gate := NewGate()
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, Gate: gate, Routes: []Route{bigRoute()},
		Metrics: metricsOf(t, manyEndpoints(400))})
	address := s.Addresses()[0].String()
	for path, least := range map[string]int{"/metrics": 2 << 20, "/big": bigBytes} {
		before := gate.Stats().Closed[closedSlow].Count
		for i := range crowdsMax {
			crowd(t, crowdMax, "tcp", address, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
			status, body, _ := ask(t, http.DefaultClient, "GET", "http://"+address+path, func(r *http.Request) { r.Close = true })
			if status != 200 || len(body) < least {
				t.Errorf("%s beside %d crowds: %d, %d bytes", path, i+1, status, len(body))
			}
		}
		eventually(t, "client that gave way", func() bool {
			ask(t, http.DefaultClient, "GET", "http://"+address+path, func(r *http.Request) { r.Close = true })
			return gate.Stats().Closed[closedSlow].Count > before
		})
	}
}

// The same with HTTP/2, whose clients stall a stream rather than the connection.
func TestStalledStreams(t *testing.T) {
	config, example := tlsConfig(t)
	gate := NewGate()
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, WebConfigFile: config, Gate: gate, Routes: []Route{bigRoute()}})
	url := "https://" + s.Addresses()[0].String() + "/big"
	newClient := func() *http.Client { // with a connection of its own
		c := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{RootCAs: example.Transport.(*http.Transport).TLSClientConfig.RootCAs}}}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	var stalled sync.WaitGroup
	defer stalled.Wait()
	ctx, end := context.WithCancel(context.Background())
	defer end()
	for i := range crowdsMax {
		for range crowdMax {
			client := newClient()
			stalled.Go(func() {
				r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
				if err != nil {
					t.Error(err)
					return
				}
				w, err := client.Do(r)
				if err != nil {
					return // it gave way at once
				}
				defer w.Body.Close()
				if w.ProtoMajor != 2 {
					t.Errorf("%s", w.Proto)
				}
				<-ctx.Done()
			})
		}
		if status, body, _ := ask(t, newClient(), "GET", url, nil); status != 200 || len(body) < bigBytes {
			t.Errorf("beside %d crowds of stalled streams: %d, %d bytes", i+1, status, len(body))
		}
	}
}

// A connection of which a stream stands still is one that does not read, until a piece of a stream is taken.
func TestGateStreams(t *testing.T) {
	c := &gatedConn{from: &gatedListener{}, active: true, since: time.Now()}
	now := c.since.Add(slowAfter)
	if got := c.reluctance(now); got != neverCloses {
		t.Errorf("without a stream: %d", got)
	}
	c.setStream(c.since)
	c.setStream(now) // of another stream
	if got := c.reluctance(now); got != doesNotRead {
		t.Errorf("with one that stands still: %d", got)
	}
	c.setStream(time.Time{})
	if got := c.reluctance(now); got != neverCloses {
		t.Errorf("with one that goes on: %d", got)
	}
}

// answersWith are answers of which a document of so many bytes is read by each group of readers.
func answersWith(bytes int, groups ...[]*reader) *answers {
	s := newAnswers()
	for _, group := range groups {
		d := s.join("")
		if mine, _ := s.begin(d); !mine {
			panic("no place")
		}
		s.making--
		d.body.Grow(bytes)
		d.clients, d.readers = len(group), group
		for _, p := range group {
			p.ResponseWriter, p.document, p.ousted = unwritable{}, d, false
		}
		s.made[d] = struct{}{}
	}
	for d := range s.made {
		s.held += d.body.Cap()
	}
	return s
}

type unwritable struct{ http.ResponseWriter }

func ousted(groups ...[]*reader) (all []*reader) {
	for _, group := range groups {
		for _, p := range group {
			if p.ousted {
				all = append(all, p)
			}
		}
	}
	return all
}

// Where documents take too much and somebody waits, those give way who share the one whose client has stood still for longest,
// and do not read either; or else who has taken longest, if that is long; never more than needed.
func TestMakeRoom(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	slow, slower, slow2 := &reader{since: ago(time.Second), writing: ago(slowAfter)}, &reader{since: ago(time.Second), writing: ago(2 * slowAfter)},
		&reader{since: ago(time.Second), writing: ago(slowAfter)}
	young, old, older := &reader{since: ago(answerLeast - 1), writing: ago(slowAfter - 1)}, &reader{since: ago(answerLeast)}, &reader{since: ago(2 * answerLeast)}
	for name, c := range map[string]struct {
		bytes   int
		groups  [][]*reader
		waiting bool
		ousted  []*reader
	}{
		"nobody waits":       {answerBytesMax, [][]*reader{{slow}, {older}}, false, nil},
		"room enough":        {answerBytesMax / 4, [][]*reader{{slow}, {older}}, true, nil},
		"slowest":            {answerBytesMax / 2, [][]*reader{{slow}, {slower}}, true, []*reader{slower}},
		"shared":             {answerBytesMax / 2, [][]*reader{{slow2}, {slow, slower}}, true, []*reader{slow, slower}},
		"shared with reader": {answerBytesMax / 2, [][]*reader{{slow2}, {young, slower}}, true, []*reader{slow2, slower}},
		"oldest":             {answerBytesMax / 2, [][]*reader{{old}, {older}}, true, []*reader{older}},
		"young":              {answerBytesMax / 2, [][]*reader{{young}, {young}}, true, nil},
	} {
		s := answersWith(c.bytes, c.groups...)
		if c.waiting {
			s.join("next")
		}
		for range 5 {
			s.makeRoom(now)
		}
		if got := ousted(c.groups...); !slices.Equal(got, c.ousted) {
			t.Errorf("%s: %d gave way, want %d", name, len(got), len(c.ousted))
		}
	}
}

// Of many that read, those that stand still for longest give way to a new one, and no more than are too many.
func TestReadersMax(t *testing.T) {
	now := time.Now()
	var group []*reader
	for i := range readersMax + 2 {
		group = append(group, &reader{since: now, writing: now.Add(-slowAfter - time.Duration(i)*time.Second)})
	}
	group[readersMax+1].writing = now.Add(time.Hour) // reads
	s := answersWith(1, group)
	for d := range s.made {
		s.read(&reader{ResponseWriter: unwritable{}, answers: s, document: d})
	}
	if got := ousted(group); !slices.Equal(got, group[readersMax-2:readersMax+1]) {
		t.Errorf("%d gave way", len(got))
	}
}

// asking asks for a key and sends the answer's text, or the status of another answer.
func asking(s *answers, ctx context.Context, key string, answer func(http.ResponseWriter)) <-chan string {
	got := make(chan string, 1)
	go func() {
		w := httptest.NewRecorder()
		s.serve(w, httptest.NewRequest("GET", "/", nil).WithContext(ctx), key, answer)
		if w.Code != http.StatusOK {
			got <- http.StatusText(w.Code)
			return
		}
		got <- w.Body.String()
	}()
	return got
}

// What is asked for while it waits is made once, for all who asked, in turn; who comes after its beginning gets a newer one; who
// stops waiting leaves no trace.
func TestAnswersShared(t *testing.T) {
	s := newAnswers()
	wanted := func(n, clients int) {
		t.Helper()
		eventually(t, "documents that wait", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.wanted) == n && (n == 0 || s.wanted[0].clients == clients)
		})
	}
	end, begun, made := make(chan struct{}), make(chan struct{}), 0
	held := func(w http.ResponseWriter) {
		begun <- struct{}{}
		<-end
		plain(w, "first")
	}
	later := func(w http.ResponseWriter) { // one after the other, as the makers that hold go on
		made++
		plain(w, "later "+strconv.Itoa(made))
	}
	ctx := context.Background()
	first := []<-chan string{asking(s, ctx, "a", held)}
	<-begun
	first = append(first, asking(s, ctx, "b", held))
	<-begun
	gone, leave := context.WithCancel(ctx)
	var shared []<-chan string
	for i := range 3 {
		shared = append(shared, asking(s, ctx, "a", later))
		wanted(1, i+1)
	}
	left := asking(s, gone, "c", later)
	wanted(2, 3)
	leave()
	if got := <-left; got != http.StatusText(http.StatusServiceUnavailable) {
		t.Errorf("who left got %q", got)
	}
	wanted(1, 3)
	close(end)
	for _, c := range first {
		if got := <-c; got != "first" {
			t.Errorf("got %q", got)
		}
	}
	for _, c := range shared {
		if got := <-c; got != "later 1" {
			t.Errorf("got %q", got)
		}
	}
	if len(s.wanted) != 0 || len(s.made) != 0 || s.held != 0 || s.making != 0 {
		t.Errorf("left behind: %d wanted, %d made, %d bytes, %d in the making", len(s.wanted), len(s.made), s.held, s.making)
	}
}

// An answer whose making fails is told to all who share it, and takes no place from others.
func TestAnswersPanic(t *testing.T) {
	s := newAnswers()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("net/http does not hear of it")
			}
		}()
		d := s.join("a")
		d.clients++ // another's
		defer func() {
			if d.status != http.StatusInternalServerError || d.body.Len() == 0 {
				t.Errorf("the other gets %d %q", d.status, d.body.String())
			}
		}()
		s.serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), "a", func(http.ResponseWriter) { panic("trouble") })
	}()
	if got := <-asking(s, context.Background(), "a", func(w http.ResponseWriter) { plain(w, "well") }); got != "well" {
		t.Errorf("the next gets %q", got)
	}
}

// Who finds no room for its document for answerWait is told to come again.
func TestAnswersPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, begun := newAnswers(), httptest.NewRecorder(), time.Now()
		s.making = makersMax
		s.serve(w, httptest.NewRequest("GET", "/", nil), "a", func(http.ResponseWriter) { t.Error("made") })
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || time.Since(begun) != answerWait {
			t.Errorf("%d %v after %v", w.Code, w.Header(), time.Since(begun))
		}
	})
}

// A document that is kept compressed is sent as the client takes it, with its length where that is known.
func TestAnswerEncodings(t *testing.T) {
	s := NewServer(ServerOptions{Metrics: metricsOf(t, manyEndpoints(50))})
	get := func(method, encoding string) (*http.Response, []byte) {
		r := httptest.NewRequest(method, "/metrics", nil)
		r.Header.Set("Accept-Encoding", encoding)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		return w.Result(), w.Body.Bytes()
	}
	_, want := get("GET", "")
	if !bytes.HasPrefix(want, []byte("# HELP")) || !bytes.Contains(want, []byte("/things/49/")) {
		t.Fatalf("%.100s", want)
	}
	for encoding, zipped := range map[string]bool{"gzip": true, "deflate, gzip;q=0.5": true, "*": true, "gzip;q=0": false, "br": false} {
		w, body := get("GET", encoding)
		if zipped {
			if got := w.Header.Get("Content-Length"); got != strconv.Itoa(len(body)) {
				t.Errorf("%q: Content-Length %s of %d bytes", encoding, got, len(body))
			}
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatalf("%q: %v", encoding, err)
			}
			if body, err = io.ReadAll(z); err != nil {
				t.Fatalf("%q: %v", encoding, err)
			}
		}
		if got := w.Header.Get("Content-Encoding") == "gzip"; got != zipped || !bytes.Equal(body, want) {
			t.Errorf("%q: compressed %t, %d bytes", encoding, got, len(body))
		}
	}
	if w, body := get("HEAD", "gzip"); w.StatusCode != 200 || len(body) != 0 || w.Header.Get("Content-Length") == "" {
		t.Errorf("HEAD: %d, %d bytes, %v", w.StatusCode, len(body), w.Header)
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
