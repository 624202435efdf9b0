package web

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// requestLimit is the timeout of a request in these tests.
const requestLimit = time.Second

// serveLimited serves the mux with short timeouts, over TLS with a configuration, until the test ends.
func serveLimited(t *testing.T, gate *Gate, mux *http.ServeMux, config string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	server := newHTTPServer(mux, log)
	server.ReadTimeout, server.WriteTimeout = requestLimit, requestLimit
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serveAll(ctx, []served{{gate.guard(l, server, false), server}}, config, log) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// newClient returns a client with connections of its own, of HTTP/2 where it has a configuration of TLS.
func newClient(t *testing.T, trusts *http.Client) *http.Client {
	c := &http.Client{Transport: &http.Transport{}}
	if trusts != nil {
		c.Transport = &http.Transport{ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{RootCAs: trusts.Transport.(*http.Transport).TLSClientConfig.RootCAs}}
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// An endless answer that is quiet for longer than any timeout of a request goes on, in both versions of HTTP; one that is
// not called endless does not.
func TestEndlessOutlivesTimeouts(t *testing.T) {
	config, trusts := tlsConfig(t)
	for name, c := range map[string]struct {
		endless bool
		tls     bool
	}{
		"endless": {true, false}, "endless, HTTP/2": {true, true}, "usual": {false, false}, "usual, HTTP/2": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			Route{Path: "/events", Endless: c.endless, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "first\n")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
				case <-time.After(2 * requestLimit):
					_, _ = io.WriteString(w, "second\n")
				}
			})}.register(mux)
			scheme, config, trusts := "https://", config, trusts
			if !c.tls {
				scheme, config, trusts = "http://", "", nil
			}
			client := newClient(t, trusts)

			w, err := client.Get(scheme + serveLimited(t, NewGate(), mux, config) + "/events")
			if err != nil || (w.ProtoMajor == 2) != c.tls {
				t.Fatalf("%v, %v", w, err)
			}
			defer w.Body.Close()
			body, err := io.ReadAll(w.Body)
			t.Logf("%q %v", body, err)
			if whole := err == nil && string(body) == "first\nsecond\n"; whole != c.endless {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
}

// Who does not read an endless answer is cut off, and counted; with HTTP/2 it is the stream that ends. Who reads keeps it.
func TestEndlessSlowReader(t *testing.T) {
	const stall = 300 * time.Millisecond
	config, trusts := tlsConfig(t)
	for name, overTLS := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			event, ended := []byte(strings.Repeat("x", 4095)+"\n"), make(chan error, 1)
			mux := http.NewServeMux()
			mux.Handle("/events", endless(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for {
					if _, err := w.Write(event); err != nil {
						ended <- err
						return
					}
				}
			}), stall))
			mux.HandleFunc("/more", func(w http.ResponseWriter, _ *http.Request) { plain(w, "more") })
			gate := NewGate()
			scheme, config, trusts := "https://", config, trusts
			if !overTLS {
				scheme, config, trusts = "http://", "", nil
			}
			client := newClient(t, trusts)
			base := scheme + serveLimited(t, gate, mux, config)
			w, err := client.Get(base + "/events")
			if err != nil {
				t.Fatal(err)
			}
			defer w.Body.Close()
			// Reading on for longer than a piece may take, and than a request may.
			lines := bufio.NewReader(w.Body)
			for begun := time.Now(); time.Since(begun) < requestLimit+stall; {
				if _, err := lines.ReadSlice('\n'); err != nil {
					t.Fatalf("cut off after %v: %v", time.Since(begun), err)
				}
			}
			select {
			case err := <-ended:
				if err == nil {
					t.Error("no error")
				}
			case <-time.After(20 * time.Second):
				t.Fatal("a client that does not read is not cut off")
			}
			if !overTLS && gate.Stats().Closed[closedSlow].Count != 1 {
				t.Errorf("closed: %v", gate.Stats())
			}
			if status, body, _ := ask(t, client, "GET", base+"/more", nil); status != 200 || body != "more" {
				t.Errorf("after it: %d %s", status, body)
			}
		})
	}
}

// More clients than may are refused, until one leaves; HEAD has no answer without an end.
func TestEndlessPlaces(t *testing.T) {
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, Routes: []Route{{Path: "/events", MediaType: "text/event-stream", Endless: true,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})}}})
	url := "http://" + s.Addresses()[0].String() + "/events"
	client := newClient(t, nil)
	follow := func() (status int, leave func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		w, err := client.Do(r)
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
	if status, _, header := ask(t, client, "HEAD", url, nil); status != 405 || header.Get("Allow") != "GET" {
		t.Errorf("HEAD: %d %v", status, header)
	}
}
