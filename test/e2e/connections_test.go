package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// countedTimeout: connections are counted every one to five seconds.
var countedTimeout = 5*time.Second + visibleTimeout

// open dials a server, says something to it, and reads a bit of its answer where there is one.
func open(t *testing.T, s *servers.Server, say string, answers bool) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.Address, countedTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(servers.Slow(time.Minute))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, say); err != nil {
		t.Fatal(err)
	}
	if answers {
		if _, err := conn.Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// openTLS dials a server behind TLS and makes requests on that connection.
func openTLS(t *testing.T, s *servers.Server, requests int) (conn *tls.Conn, more func(int)) {
	t.Helper()
	conn = tls.Client(open(t, s, "", false), &tls.Config{InsecureSkipVerify: true})
	answers := bufio.NewReader(conn)
	more = func(n int) {
		t.Helper()
		for range n {
			if _, err := io.WriteString(conn, "GET /fast HTTP/1.1\r\nHost: test\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				t.Fatal(err)
			}
		}
	}
	more(requests)
	return conn, more
}

// openHTTP2 makes a request in HTTP/2 with prior knowledge, on a connection of its own.
func openHTTP2(t *testing.T, s *servers.Server) net.Conn {
	t.Helper()
	var conn net.Conn
	transport := &http.Transport{
		Protocols: new(http.Protocols),
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			conn = open(t, s, "", false)
			return conn, nil
		},
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Address+"/fast", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err != nil || response.ProtoMajor != 2 || string(body) != "ok" {
		t.Fatalf("%s %q, %v", response.Proto, body, err)
	}
	return conn
}

// expectSum waits until a gauge has a value.
func expectSum(t *testing.T, a *agent.Agent, want float64, name string, labels ...string) {
	t.Helper()
	var got float64
	if !until(countedTimeout, func() bool {
		metrics, err := a.Metrics()
		got = metrics.Sum(name, labels...)
		return err == nil && got == want
	}) {
		t.Errorf("%s %q is %g, expected %g", name, labels, got, want)
	}
}

// Connections that carry TLS or something else are counted while they are open, at both ends and each by its service, by what their
// first bytes look like: also one that is older than the agent, and ones on which the server speaks first. HTTP/2 in clear is not
// among them, nor HTTP/1, whatever follows it on its connection. The agent's health lists the same.
func TestE2EUndecoded(t *testing.T) {
	requireRoot(t)
	secure, http2 := startServer(t, servers.Options{Kind: servers.GoTLS}), startServer(t, servers.Options{Kind: servers.GoH2C})
	redis, smtp := startServer(t, servers.Options{Kind: servers.RawRedis}), startServer(t, servers.Options{Kind: servers.RawSMTP})
	eager, plain := startServer(t, servers.Options{Kind: servers.RawSettings}), startServer(t, servers.Options{Kind: servers.Raw})
	older, more := openTLS(t, secure, 1)
	a := startAgent(t, agent.Options{Ports: []int{secure.Port, http2.Port, redis.Port, smtp.Port, eager.Port, plain.Port}})
	more(20)
	conns := []net.Conn{older}
	for range 4 {
		conn, _ := openTLS(t, secure, 1)
		conns = append(conns, conn)
	}
	for range 2 {
		conns = append(conns, openHTTP2(t, http2))
	}
	conns = append(conns, open(t, eager, "", true))
	for range 3 {
		conns = append(conns, open(t, redis, "*1\r\n$4\r\nPING\r\n", true), open(t, smtp, "", true))
	}
	open(t, redis, "", false) // says nothing: it may yet become anything
	for _, path := range []string{"/fast", "/upgrade", "/stream"} {
		open(t, plain, "GET "+path+" HTTP/1.1\r\nHost: test\r\n\r\n", true)
	}
	const gauge = "perfagent_undecoded_connections"
	for _, c := range []struct {
		service, reason string
		want            float64
	}{
		{"goserver", "tls", 5}, {"goserver", "unknown", 0},
		{"rawserver", "tls", 0}, {"rawserver", "unknown", 6},
		{"e2e.test", "tls", 5}, {"e2e.test", "unknown", 6},
	} {
		expectSum(t, a, c.want, gauge, "service_name", c.service, "reason", c.reason)
	}
	expectSum(t, a, 22, gauge)
	checkUndecodedHealth(t, a, 22)
	for _, conn := range conns {
		conn.Close()
	}
	expectSum(t, a, 0, gauge)
	checkUndecodedHealth(t, a, 0)
}

// checkUndecodedHealth compares what the agent's health lists.
func checkUndecodedHealth(t *testing.T, a *agent.Agent, want int) {
	t.Helper()
	text, err := a.Get("/monitoring/health")
	var health struct {
		Undecoded []struct{ Connections int }
		Reasons   []string
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &health)
	}
	sum := 0
	for _, u := range health.Undecoded {
		sum += u.Connections
	}
	if err != nil || sum != want || strings.Contains(fmt.Sprint(health.Reasons), "decode") {
		t.Errorf("%v; health has %d connections, expected %d: %s", err, sum, want, text)
	}
}

// A TLS server that looks at the first byte before it decides what to do with a connection, as nginx does, has a connection
// with TLS.
func TestE2EUndecodedPeek(t *testing.T) {
	requireRoot(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	a := startAgent(t, agent.Options{Ports: []int{listener.Addr().(*net.TCPAddr).Port}})
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	served, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	if _, err := conn.Write([]byte{0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3}); err != nil {
		t.Fatal(err)
	}
	peek(t, served)
	if _, err := served.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	expectSum(t, a, 2, "perfagent_undecoded_connections", "reason", "tls")
	expectSum(t, a, 2, "perfagent_undecoded_connections")
}

// A request counts as active from its first byte until its end: while it waits, while its response is under way, of whichever
// framing, and while it waits behind others on its connection. A response that is complete does not, however long its connection
// stays.
func TestE2EActiveRequests(t *testing.T) {
	requireRoot(t)
	s := startServer(t, servers.Options{Kind: servers.Raw})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}})
	for _, target := range []string{"GET /fast", "GET /bytes/5000", "GET /chunked/3", "HEAD /fast", "GET /status/204", "GET /hints"} {
		method, path, _ := strings.Cut(target, " ")
		conn, err := client.Dial(client.Options{Address: s.Address})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Do(client.Request{Method: method, Target: path}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n" }
	var streams, others []net.Conn
	for range 5 {
		streams = append(streams, open(t, s, get("/stream"), true))
	}
	for range 3 {
		streams = append(streams, open(t, s, get("/tail"), true))
	}
	others = append(others, open(t, s, get("/never"), false), open(t, s, get("/never"), false), open(t, s, "GET /par", false),
		open(t, s, get("/fast")+get("/never")+get("/fast"), true))
	expectSum(t, a, 13, "http_server_active_requests")
	for _, conn := range streams {
		conn.Close()
	}
	expectSum(t, a, 5, "http_server_active_requests")
	for _, conn := range others {
		conn.Close()
	}
	expectSum(t, a, 0, "http_server_active_requests")
}

// peek waits for the first byte of a connection and leaves it there.
func peek(t *testing.T, conn net.Conn) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var peekErr error
	err = raw.Read(func(fd uintptr) bool {
		_, _, peekErr = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
		return peekErr != unix.EAGAIN
	})
	if err := errors.Join(err, peekErr); err != nil {
		t.Fatal(err)
	}
}
