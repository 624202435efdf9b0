// Package churn makes very many connections, and reads from an agent what it has of them.
package churn

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

const (
	request  = "GET /churn HTTP/1.1\r\nHost: test\r\n\r\n"
	response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	// workers make connections at the same time.
	workers = 16
	// clearTimeout is how long an agent may have state of connections that are gone.
	clearTimeout = 5 * time.Second
	pollInterval = 5 * time.Millisecond
)

// visibleTimeout is for a machine so busy that nothing runs for seconds.
var visibleTimeout = servers.Slow(20 * time.Second)

// Server answers one request after the other on each of its connections, until their end.
type Server struct {
	Port     int
	listener net.Listener
	served   atomic.Int64
	open     sync.WaitGroup
}

// Serve starts a server on a port of the loopback address.
func Serve() (*Server, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{Port: listener.Addr().(*net.TCPAddr).Port, listener: listener}
	s.open.Go(s.accept)
	return s, nil
}

// Close ends the server when its clients have closed, and returns how many requests it has read.
func (s *Server) Close() int {
	s.listener.Close()
	s.open.Wait()
	return int(s.served.Load())
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.open.Go(func() { s.answer(conn) })
	}
}

func (s *Server) answer(conn net.Conn) {
	defer conn.Close()
	for buf := make([]byte, len(request)); ; {
		if _, err := io.ReadFull(conn, buf); err != nil {
			return
		}
		s.served.Add(1)
		if _, err := conn.Write([]byte(response)); err != nil {
			return
		}
	}
}

// Short makes connections whose client sends its request and is gone, by an orderly end or by a reset. It gives the server time to
// read all requests: Close says whether it has.
func (s *Server) Short(count int, reset bool) error {
	err := inTurns(count, func(i int) error {
		conn, err := s.dial(i)
		if err != nil {
			return err
		}
		if reset {
			err = conn.(*net.TCPConn).SetLinger(0)
		}
		if _, writeErr := conn.Write([]byte(request)); writeErr != nil {
			return writeErr
		}
		if closeErr := conn.Close(); closeErr != nil {
			return closeErr
		}
		return err
	})
	// What waits to be accepted would be reset.
	until(visibleTimeout, func() bool { return int(s.served.Load()) >= count })
	return err
}

// dial spreads connections over loopback addresses: one has not ports enough.
func (s *Server) dial(i int) (net.Conn, error) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%16))}, KeepAlive: -1, Timeout: servers.Slow(20 * time.Second)}
	return dialer.Dial("tcp4", s.listener.Addr().String())
}

// inTurns runs do for each number below count, on several goroutines, until one fails.
func inTurns(count int, do func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < count && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	running.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Books are what an agent has of a load.
type Books struct {
	Server, Client int      // exchanges reported in each role
	Lost           []string // with stage and reason
	States, Active int      // connections that still have state, and requests that are still active
}

// Settle waits until the agent has accounted for so many exchanges in each role, and then, five seconds at most, until nothing is
// left of them.
func Settle(a *agent.Agent, each int) (Books, error) {
	var b Books
	var err error
	read := func() (accounted int) {
		var m agent.Metrics
		if m, err = a.Metrics(); err != nil {
			return 0
		}
		b = Books{
			Server: int(m.Sum("perfagent_exchanges_total", "role", "server")),
			Client: int(m.Sum("perfagent_exchanges_total", "role", "client")),
			Lost:   m.Lost(),
			States: int(m.Sum("perfagent_bpf_map_entries", "map", "conns")),
			Active: int(m.Sum("http_server_active_requests")),
		}
		return b.Server + b.Client + int(m.Sum("perfagent_exchanges_lost_total"))
	}
	until(visibleTimeout, func() bool { return read() >= 2*each || err != nil })
	until(clearTimeout, func() bool { read(); return b.States == 0 && b.Active == 0 || err != nil })
	return b, err
}

// Right reports whether the books show so many exchanges in each role, none lost, and nothing left.
func (b Books) Right(each int) bool {
	return b.Server == each && b.Client == each && len(b.Lost) == 0 && b.States == 0 && b.Active == 0
}

// until polls until done returns true or the time is over.
func until(timeout time.Duration, done func() bool) {
	for deadline := time.Now().Add(timeout); !done() && time.Now().Before(deadline); {
		time.Sleep(pollInterval)
	}
}
