package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

const (
	churnRequest  = "GET /churn HTTP/1.1\r\nHost: test\r\n\r\n"
	churnResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	// shortConnections is how many the test of short connections makes, each way to end them; prime.
	shortConnections = 20_011
	// keptEach connections are open at once in each of keptProcesses, which have both ends: 20,001 in all.
	keptEach, keptProcesses = 6_667, 3
	// churnWorkers make connections at the same time.
	churnWorkers = 16
)

// churnDialer spreads connections over loopback addresses: one has not ports enough.
func churnDialer(i int) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%16))}, KeepAlive: -1, Timeout: servers.Slow(20 * time.Second)}
}

// answerAll answers one request after the other on each connection of a listener, until its end.
func answerAll(listener net.Listener) (served *atomic.Int64, wait func()) {
	served = new(atomic.Int64)
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				for buf := make([]byte, len(churnRequest)); ; {
					if _, err := io.ReadFull(conn, buf); err != nil {
						return
					}
					served.Add(1)
					if _, err := conn.Write([]byte(churnResponse)); err != nil {
						return
					}
				}
			})
		}
	})
	return served, open.Wait
}

// inTurns runs do for each number below count, on several goroutines, until one fails.
func inTurns(count int, do func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var workers sync.WaitGroup
	for range churnWorkers {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < count && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	workers.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// churned waits until the books show what happened, and checks that they show nothing else: exchanges of each role, none lost,
// and, five seconds later at the latest, no connection left and none active.
func churned(t *testing.T, a *agent.Agent, servers, clients int) {
	t.Helper()
	var m agent.Metrics
	counts := func() (server, client, lost int) {
		var err error
		if m, err = a.Metrics(); err != nil {
			t.Fatal(err)
		}
		return int(m.Sum("perfagent_exchanges_total", "role", "server")), int(m.Sum("perfagent_exchanges_total", "role", "client")),
			int(m.Sum("perfagent_exchanges_lost_total"))
	}
	until(visibleTimeout, func() bool {
		server, client, lost := counts()
		return server+client+lost >= servers+clients
	})
	server, client, lost := counts()
	if server != servers || client != clients || lost != 0 {
		t.Errorf("expected %d exchanges of servers and %d of clients, got %d and %d, and lost %v", servers, clients, server, client, m.Lost())
	}
	cleared := until(5*time.Second, func() bool {
		counts()
		return m.Sum("perfagent_bpf_map_entries", "map", "conns") == 0 && m.Sum("http_server_active_requests") == 0
	})
	if !cleared {
		t.Errorf("5 s later: %v connections have state, %v requests are active", m.Sum("perfagent_bpf_map_entries", "map", "conns"),
			m.Sum("http_server_active_requests"))
	}
}

// Connections whose client sends its request and is gone, by an orderly end or by a reset, are all in the books, at both ends,
// and leave nothing behind: also without the sweep.
func TestE2EChurnShort(t *testing.T) {
	requireRoot(t)
	for _, way := range []string{"end", "reset", "end without a sweep", "reset without a sweep"} {
		t.Run(way, func(t *testing.T) {
			listener, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			options := agent.Options{Ports: []int{listener.Addr().(*net.TCPAddr).Port}, NoTrace: true}
			if len(way) > len("reset") {
				options.Env = []string{"PERFAGENT_REFUSE_PROGRAMS=run_sweep,iter_sweep"}
			}
			a := startAgent(t, options)
			served, wait := answerAll(listener)
			err = inTurns(shortConnections, func(i int) error {
				conn, err := churnDialer(i).Dial("tcp4", listener.Addr().String())
				if err != nil {
					return err
				}
				if way[0] == 'r' {
					err = conn.(*net.TCPConn).SetLinger(0)
				}
				if _, writeErr := conn.Write([]byte(churnRequest)); writeErr != nil {
					return writeErr
				}
				if closeErr := conn.Close(); closeErr != nil {
					return closeErr
				}
				return err
			})
			// What waits to be accepted would be reset.
			until(visibleTimeout, func() bool { return served.Load() >= shortConnections })
			listener.Close()
			wait()
			if err != nil {
				t.Fatal(err)
			}
			if n := served.Load(); n != shortConnections {
				t.Fatalf("the server read %d requests of %d", n, shortConnections)
			}
			churned(t, a, shortConnections, shortConnections)
		})
	}
}

// Very many connections that are kept, each with a request in turn, lose nothing with default settings.
func TestE2EChurnKept(t *testing.T) {
	requireRoot(t)
	var holders []*holder
	var ports []int
	for range keptProcesses {
		h := startHolder(t)
		holders, ports = append(holders, h), append(ports, h.port)
	}
	a := startAgent(t, agent.Options{Ports: ports, NoTrace: true})
	for range 2 {
		for _, h := range holders {
			h.round()
		}
	}
	for _, h := range holders {
		h.end()
	}
	churned(t, a, 2*keptProcesses*keptEach, 2*keptProcesses*keptEach)
}

// holder is a process that holds both ends of many connections: one process may not open files enough.
type holder struct {
	t    *testing.T
	port int
	in   io.WriteCloser
	out  *bufio.Reader
}

const holderVariable = "PERFAGENT_TEST_HOLDER"

func startHolder(t *testing.T) *holder {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderVariable+"=1")
	cmd.Stderr = os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	h := &holder{t: t, in: in, out: bufio.NewReader(out)}
	if _, err := fmt.Fscanln(h.out, &h.port); err != nil {
		t.Fatal(err)
	}
	return h
}

// round makes one exchange on each connection, in turn.
func (h *holder) round() {
	h.t.Helper()
	if _, err := fmt.Fprintln(h.in, "round"); err != nil {
		h.t.Fatal(err)
	}
	if line, err := h.out.ReadString('\n'); line != "done\n" {
		h.t.Fatalf("%q, %v", line, err)
	}
}

// end closes the connections.
func (h *holder) end() {
	h.t.Helper()
	h.in.Close()
	if line, err := h.out.ReadString('\n'); line != "closed\n" {
		h.t.Fatalf("%q, %v", line, err)
	}
}

// hold is the process of a holder.
func hold() error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, wait := answerAll(listener)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	conns := make([]net.Conn, keptEach)
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); {
		err := inTurns(keptEach, func(i int) error {
			if conns[i] == nil {
				var err error
				if conns[i], err = churnDialer(i).Dial("tcp4", listener.Addr().String()); err != nil {
					return err
				}
			}
			if _, err := conns[i].Write([]byte(churnRequest)); err != nil {
				return err
			}
			_, err := io.ReadFull(conns[i], make([]byte, len(churnResponse)))
			return err
		})
		if err != nil {
			return err
		}
		fmt.Println("done")
	}
	for _, conn := range conns {
		conn.Close()
	}
	listener.Close()
	wait()
	fmt.Println("closed")
	return nil
}
