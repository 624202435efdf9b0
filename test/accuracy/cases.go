package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/clock"
	"github.com/perfagent/perfagent/test/servers"
)

const rawIPv6 servers.Kind = "raw-ipv6"

var (
	kinds = []servers.Kind{servers.Nginx, servers.Go, servers.Node, servers.Uvicorn, servers.HTTPServer, servers.Uring,
		servers.Raw, rawIPv6}
	normal = []servers.Kind{servers.Nginx, servers.Go, servers.Node, servers.Uvicorn, servers.HTTPServer, servers.Uring, servers.Raw}
	// dynamic servers have every endpoint.
	dynamic = []servers.Kind{servers.Go, servers.Node, servers.Uvicorn, servers.HTTPServer, servers.Raw}
	timed   = []servers.Kind{servers.Go, servers.Raw}
)

// instrumented reports whether the server logs its own clocks.
func instrumented(kind servers.Kind) bool {
	return kind == servers.Go || kind == servers.Uring || kind == servers.Raw || kind == rawIPv6
}

// measurement is one case: run makes the exchanges.
type measurement struct {
	name  string
	kinds []servers.Kind
	run   func(r *runner) error
}

var cases = slices.Concat([]measurement{
	{"older", normal, older}, // first, before servers close idle connections
	{"keep-alive", normal, func(r *runner) error { return r.each(101, client.Request{}) }},
	{"idle-2s", normal, idle},
	{"pipelined-16", []servers.Kind{servers.Nginx, servers.Go, servers.Node, servers.Uvicorn, servers.Raw}, pipelined},
	{"chunked", dynamic, func(r *runner) error { return r.each(53, client.Request{Target: "/chunked/7"}) }},
	{"1-mib", normal, func(r *runner) error { return r.each(13, client.Request{Target: "/bytes/1048576"}) }},
	{"64-mib", []servers.Kind{servers.Nginx, servers.Go, servers.Uring, servers.Raw}, func(r *runner) error {
		return r.each(3, client.Request{Target: "/bytes/67108864"})
	}},
	{"sendfile", []servers.Kind{servers.Raw}, func(r *runner) error {
		return r.each(13, client.Request{Target: "/sendfile/1048576"})
	}},
	{"upload-5-mib", dynamic, func(r *runner) error {
		return r.each(7, client.Request{Method: "POST", Target: "/upload", Size: 5 << 20})
	}},
	{"slow-reader", []servers.Kind{servers.Nginx, servers.Go, servers.Uring, servers.Raw}, slowReader},
	{"work-50ms", dynamic, func(r *runner) error { return r.each(11, client.Request{Target: "/sleep/50"}) }},
	{"work-500ms", dynamic, func(r *runner) error { return r.each(3, client.Request{Target: "/sleep/500"}) }},
	{"ipv6", []servers.Kind{rawIPv6}, func(r *runner) error { return r.each(101, client.Request{}) }},
}, ends)

// connection is a client's connection with what was exchanged on it.
type connection struct {
	*client.Conn
	results []client.Result
	key     string
	ours    clock.Ops
	cut     cut
	late    bool // the client read when the server had closed
}

func dial(s *servers.Server, spin bool) (*connection, error) {
	conn, err := client.Dial(client.Options{Network: s.Network, Address: s.Address, Spin: spin, Timeout: time.Minute})
	if err != nil {
		return nil, err
	}
	return &connection{Conn: conn, key: conn.Key()}, nil
}

// end closes the connection and keeps its log.
func (c *connection) end(abort bool) error {
	var err error
	if abort {
		err = c.Abort()
	} else {
		err = c.Close()
	}
	c.ours = c.Ops()
	return err
}

// runner makes the exchanges of one row.
type runner struct {
	bench       *bench
	server      *servers.Server
	kind        servers.Kind
	connections []*connection
}

// named gives a request fields that no other has: identifier, trace context, user agent, and whom it is forwarded for.
func (r *runner) named(request client.Request) client.Request {
	r.bench.next++
	n := r.bench.next
	request.ID = fmt.Sprintf("accuracy-%d", n)
	f := fieldsOf(n)
	request.Header = []string{"traceparent: 00-" + f.traceID + "-" + f.spanID + "-01", "User-Agent: " + f.userAgent, "X-Forwarded-For: " + f.forwardedFor}
	return request
}

// fields are those of the request with a number.
type fields struct{ traceID, spanID, userAgent, forwardedFor string }

func fieldsOf(n int) fields {
	return fields{fmt.Sprintf("%032x", n+1), fmt.Sprintf("%016x", 7*n+1), fmt.Sprintf("accuracy/%d", n), fmt.Sprintf("203.0.%d.%d", n/250%250, n%250+1)}
}

func (r *runner) open(spin bool) (*connection, error) {
	c, err := dial(r.server, spin)
	if err == nil {
		r.connections = append(r.connections, c)
	}
	return c, err
}

func (r *runner) do(c *connection, request client.Request) error {
	result, err := c.Do(r.named(request))
	c.results = append(c.results, result)
	return err
}

// each makes count such exchanges on one connection, reading without sleep for sharp clocks.
func (r *runner) each(count int, request client.Request) error {
	c, err := r.open(true)
	if err != nil {
		return err
	}
	for range count {
		if err := r.do(c, request); err != nil {
			return err
		}
	}
	return c.end(false)
}

// idle opens connections and sends the first request on each after two seconds.
func idle(r *runner) error {
	var open []*connection
	for range 13 {
		c, err := r.open(true)
		if err != nil {
			return err
		}
		open = append(open, c)
	}
	time.Sleep(2 * time.Second) // the silence is the workload
	for _, c := range open {
		if err := r.do(c, client.Request{}); err != nil {
			return err
		}
		if err := c.end(false); err != nil {
			return err
		}
	}
	return nil
}

func pipelined(r *runner) error {
	c, err := r.open(true)
	if err != nil {
		return err
	}
	for range 7 {
		requests := make([]client.Request, 16)
		for i := range requests {
			requests[i] = r.named(client.Request{})
		}
		results, err := c.Pipeline(requests)
		c.results = append(c.results, results...)
		if err != nil {
			return err
		}
	}
	return c.end(false)
}

func slowReader(r *runner) error {
	conn, err := client.Dial(client.Options{Network: r.server.Network, Address: r.server.Address, ReceiveBuffer: 16 << 10, Timeout: time.Minute})
	if err != nil {
		return err
	}
	c := &connection{Conn: conn, key: conn.Key()}
	r.connections = append(r.connections, c)
	for range 3 {
		// More than the server's send buffer holds, so that the server waits for the reader.
		request := client.Request{Target: "/bytes/16777216", Pace: client.Pace{Bytes: 64 << 10, Delay: time.Millisecond}}
		if err := r.do(c, request); err != nil {
			return err
		}
	}
	return c.end(false)
}

// older uses the connection that was opened before the agent started.
func older(r *runner) error {
	c := r.bench.older[r.kind]
	c.Spin = true
	r.connections = append(r.connections, c)
	for range 53 {
		if err := r.do(c, client.Request{}); err != nil {
			return err
		}
	}
	return c.end(false)
}
