package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// A request over a Unix socket has its arrival whether or not its client is watched.
func TestE2EUnixServerOnly(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	s := startServer(t, servers.Options{Kind: servers.GoUnix})
	a := startAgent(t, agent.Options{PIDs: []int{s.PID()}})
	b := newBook(t, a)
	for range 10 {
		conn := b.dial(s, client.Options{})
		for range 10 {
			b.do(conn, s, client.Request{})
			b.want = b.want[:len(b.want)-1] // this process is not watched
		}
		conn.Close()
	}
	b.check()
	balance(t, a, b)
}

// A server that polls takes a request before the client's call returns. The request has its arrival all the same (the first
// of a connection may lack it: nobody has seen the connection before), and what the client's return tells is not left over
// for the next request, which the pauses would show.
func TestE2EPolled(t *testing.T) {
	requireRoot(t)
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) { polled(t, pollingServer(t, network)) })
	}
}

func polled(t *testing.T, s *servers.Server) {
	options := agent.Options{Ports: []int{s.Port}}
	if s.Network == "unix" {
		options = agent.Options{PIDs: []int{os.Getpid()}}
	}
	a := startAgent(t, options)
	b := newBook(t, a)
	for range 10 {
		conn := b.dial(s, client.Options{})
		for i := range 50 {
			b.do(conn, s, client.Request{})
			b.want[len(b.want)-2].mayLackStart = i == 0 && s.Network == "unix"
			time.Sleep(3 * time.Millisecond)
		}
		conn.Close()
	}
	b.check()
	balance(t, a, b)
}

// A connection for each exchange, many at a time: the memory of a socket that was closed is soon another's.
func TestE2EUnixReused(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	upstream := startServer(t, servers.Options{Kind: servers.GoUnix})
	s := startServer(t, servers.Options{Kind: servers.Nginx, UnixUpstream: upstream.Address})
	a := startAgent(t, agent.Options{PIDs: []int{s.PID(), upstream.PID()}})
	books, each := make([]*book, 6), 100
	if testing.Short() {
		each = 20
	}
	t.Run("clients", func(t *testing.T) {
		for i := range books {
			books[i] = newBook(t, a)
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				b := books[i]
				b.t = t
				conn := b.dial(s, client.Options{})
				for range each {
					b.do(conn, s, client.Request{Target: "/unix/fast"})
					b.want = b.want[:len(b.want)-1] // this process is not watched
					b.expectUpstream(b.want[len(b.want)-1], upstream)
				}
			})
		}
	})
	for _, b := range books {
		b.t = t
		b.check()
	}
	balance(t, a, books...)
}

// pollingServer answers in this process and never sleeps in a read.
func pollingServer(t *testing.T, network string) *servers.Server {
	t.Helper()
	s := &servers.Server{Kind: "polled", Network: network, Address: filepath.Join(t.TempDir(), "polled.sock")}
	family, bind := unix.AF_UNIX, unix.Sockaddr(&unix.SockaddrUnix{Name: s.Address})
	if network == "tcp" {
		family, bind = unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	}
	listener, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(listener, bind), unix.Listen(listener, 1)); err != nil {
		t.Fatal(err)
	}
	if network == "tcp" {
		name, err := unix.Getsockname(listener)
		if err != nil {
			t.Fatal(err)
		}
		s.Port = name.(*unix.SockaddrInet4).Port
		s.Address = fmt.Sprintf("127.0.0.1:%d", s.Port)
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		// Wakes the accept, which tells that it is over.
		if err := errors.Join(unix.Shutdown(listener, unix.SHUT_RDWR)); err != nil {
			t.Error(err)
		}
		running.Wait()
		if err := unix.Close(listener); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for {
			fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			answerPolled(fd)
		}
	})
	return s
}

// answerPolled answers each head that it reads with two bytes, until the other end closes.
func answerPolled(fd int) {
	defer unix.Close(fd)
	var head []byte
	buffer := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buffer)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil || n == 0:
			return
		}
		if head = append(head, buffer[:n]...); !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			continue
		}
		head = head[:0]
		if _, err := unix.Write(fd, []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")); err != nil {
			return
		}
	}
}
