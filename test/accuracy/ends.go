package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/clock"
	"github.com/perfagent/perfagent/test/servers"
)

// methodOf64 is as long as a method may be.
var methodOf64 = strings.Repeat("METHOD-4", 8)

// cut says how a connection was cut off before a response was whole, and so when each end's exchange was over.
type cut int

const (
	whole    cut = iota
	byServer     // which closed or reset; the client's exchange is over when it can know
	byClient     // which closed; the server's exchange goes on until its own close
	byReset      // of the client, which ends both
)

// ends returns when the server's exchange was over, and the client's.
func (c cut) ends(ours, theirs clock.Ops) (server, client clock.Span) {
	switch closed := theirs.Closed().Span; c {
	case byServer:
		told := ours.Told()
		client = clock.Span{Before: max(told.Empty, closed.Before), After: told.After}
		if !closed.Known() {
			closed = client // nothing stands between on loopback
		}
		return closed, client
	case byClient:
		return closed, ours.Closed().Span
	}
	return ours.Closed().Span, ours.Closed().Span
}

// ends are the ways in which an exchange ends.
var ends = []measurement{
	{"length", []servers.Kind{servers.Raw, servers.Go, servers.Node}, endsWhole(client.Request{}, "length")},
	{"chunk-plain", []servers.Kind{servers.Raw, servers.Go, servers.Node}, endsWhole(client.Request{}, "chunk-plain")},
	{"chunk-zeros", raw, endsWhole(client.Request{}, "chunk-zeros")},
	{"chunk-extension", raw, endsWhole(client.Request{}, "chunk-extension")},
	{"chunk-trailers", []servers.Kind{servers.Raw, servers.Go, servers.Node}, endsWhole(client.Request{}, "chunk-trailers")},
	{"chunk-bytewise", raw, endsWhole(client.Request{}, "chunk-bytewise")},
	{"chunk-bytes-trailer", raw, endsWhole(client.Request{}, "chunk-bytes-trailer")},
	{"chunk-line-feeds", raw, endsWhole(client.Request{}, "chunk-line-feeds")},
	{"chunk-behind-data", raw, endsWhole(client.Request{}, "chunk-behind-data")},
	{"interim", []servers.Kind{servers.Raw, servers.Go, servers.Node}, endsWhole(client.Request{}, "interim")},
	{"until-fin", timed, endsWhole(client.Request{Proto: "HTTP/1.0"}, "until-fin")},
	{"empty-line", []servers.Kind{servers.Raw, servers.Nginx, servers.Node}, endsWhole(client.Request{Target: "/fast", Before: "\r\n"}, "")},
	{"method-64", timed, endsWhole(client.Request{Method: methodOf64}, "length")},
	{"upload-trailers", []servers.Kind{servers.Raw, servers.Go, servers.Node, servers.Uvicorn}, endsWhole(upload, "")},

	{"cut-length", []servers.Kind{servers.Raw, servers.Go, servers.Node}, serverCuts("cut-length")},
	{"cut-chunk", raw, serverCuts("cut-chunk")},
	{"cut-between", []servers.Kind{servers.Raw, servers.Go, servers.Node}, serverCuts("cut-between")},
	{"cut-reset", raw, serverCuts("cut-reset")},
	{"cut-unanswered", []servers.Kind{servers.Raw, servers.Go, servers.Node}, serverCuts("cut-unanswered")},
	{"gone-waiting", raw, clientCuts("cut-wait", byClient)},
	{"gone-reset", timed, clientCuts("", byReset)},
	{"gone-in-response", raw, clientCuts("cut-gone", byClient)},

	{"late-fin", raw, func(r *runner) error { return late(r, "") }},
	{"late-reset", raw, func(r *runner) error { return late(r, "more than is read") }},
}

var raw = []servers.Kind{servers.Raw}

// upload is a body in chunks, which looks like requests and ends with trailers.
var upload = client.Request{Method: "POST", Target: "/upload", Body: []byte(strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1000)), Chunked: true, Trailer: []string{"T: x"}}

const (
	// endPause lies between the pieces of a response, and in front of a cut. Behind a pause the clocks are less sharp, by up to
	// 250 us: one per cent of this is more.
	endPause = 40 * time.Millisecond
	// endSilence follows a response, and is no part of its exchange: many times the limit.
	endSilence = 10 * time.Millisecond
	// endConnections are made for each kind of end; prime.
	endConnections = 11
)

func endTarget(kind string) string {
	return fmt.Sprintf("/ends/%s?pause=%d", kind, endPause.Milliseconds())
}

// endsWhole makes exchanges that end by themselves, two on each connection where it stays: what follows is to change nothing. Each
// is followed by silence.
func endsWhole(request client.Request, kind string) func(*runner) error {
	if kind != "" {
		request.Target = endTarget(kind)
	}
	return func(r *runner) error {
		for range cmp.Or(r.bench.endConnections, endConnections) {
			c, err := r.open(true)
			if err != nil {
				return err
			}
			for range 2 {
				if err := r.do(c, request); err != nil {
					return err
				}
				time.Sleep(endSilence) // the silence is the workload
				if request.Proto == "HTTP/1.0" {
					break
				}
			}
			if err := c.end(false); err != nil {
				return err
			}
		}
		return nil
	}
}

// serverCuts has the server end the connection before the response is whole.
func serverCuts(kind string) func(*runner) error {
	return func(r *runner) error {
		for range cmp.Or(r.bench.endConnections, endConnections) {
			c, err := r.open(true)
			if err != nil {
				return err
			}
			c.cut = byServer
			if err := r.do(c, client.Request{Target: endTarget(kind)}); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) &&
				!errors.Is(err, syscall.ECONNRESET) {
				return fmt.Errorf("the server did not cut the response off: %w", err)
			}
			if err := c.end(false); err != nil {
				return err
			}
		}
		return nil
	}
}

// clientCuts has the client end the connection, by a close or a reset, while it waits or, where the response has begun, within that.
func clientCuts(kind string, by cut) func(*runner) error {
	request := client.Request{Target: "/sleep/200"}
	if kind != "" {
		request.Target = endTarget(kind)
	}
	return func(r *runner) error {
		for i := range cmp.Or(r.bench.endConnections, endConnections) {
			c, err := r.begin(request)
			if err != nil {
				return err
			}
			c.cut = by
			if kind == "cut-gone" {
				if n, err := c.Read(make([]byte, 4096)); n == 0 {
					return err
				}
				c.results[0].Status = 200
			}
			time.Sleep(endPause + time.Duration(i)*time.Millisecond) // how long the client waits is the workload
			if err := c.end(by == byReset); err != nil {
				return err
			}
		}
		return nil
	}
}

// late has the client read the response when the server has closed: with a reset, where it left bytes behind the request unread.
func late(r *runner, unread string) error {
	for range cmp.Or(r.bench.endConnections, endConnections) {
		c, err := r.begin(client.Request{Target: endTarget("late")}) // the server answers after a while
		if err != nil {
			return err
		}
		if unread != "" {
			if _, err := io.WriteString(c, unread); err != nil {
				return err
			}
		}
		if _, err := r.server.Ops(c.key); err != nil { // it has closed
			return err
		}
		time.Sleep(endPause) // how late the client is is the workload
		c.late = true
		result := &c.results[0]
		if result.Response, err = c.ReadResponse(""); err != nil {
			return err
		}
		if err := c.end(false); err != nil {
			return err
		}
	}
	return nil
}

// begin sends a request on a connection of its own and waits until the server has read it.
func (r *runner) begin(request client.Request) (*connection, error) {
	c, err := r.open(true)
	if err != nil {
		return nil, err
	}
	request = r.named(request)
	if _, err := c.Write(request.Head()); err != nil {
		return nil, err
	}
	c.results = append(c.results, client.Result{Request: request})
	return c, r.server.AwaitRead(c.LocalAddr(), servers.Slow(10*time.Second))
}
