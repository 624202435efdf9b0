package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/test/agent"
)

// Bytes that reach or leave a socket in ways that not every hook sees, or sees in pieces.

const (
	// sweptPause is long enough for the agent to take a connection for silent.
	sweptPause = 900 * time.Millisecond
	// smallBuffer of a socket makes a send of many times that wait for the other end.
	smallBuffer = 64 << 10
	pieces      = 40
)

// call runs a system call on a connection's descriptor until it does not have to wait.
func (s *script) call(conn net.Conn, write bool, what string, f func(fd int) (int, error)) (n int) {
	s.t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		s.t.Fatal(err)
	}
	wait := raw.Read
	if write {
		wait = raw.Write
	}
	var failed error
	err = wait(func(fd uintptr) bool {
		n, failed = f(int(fd))
		return failed != unix.EAGAIN
	})
	if err != nil || failed != nil {
		s.t.Fatalf("%s: %v, %v", what, err, failed)
	}
	return n
}

func (s *script) pipe() (r, w int) {
	s.t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

// takeSpliced moves n bytes from a connection to a pipe, where no process sees them.
func (s *script) takeSpliced(conn net.Conn, n int) (at span) {
	s.t.Helper()
	r, w := s.pipe()
	buf := make([]byte, 64<<10)
	for left := n; left > 0; {
		var k int
		at = s.timed("splice", func() error {
			k = s.call(conn, false, "splice", func(fd int) (int, error) {
				k, err := unix.Splice(fd, nil, w, nil, min(left, len(buf)), unix.SPLICE_F_NONBLOCK)
				return int(k), err
			})
			return nil
		})
		if k == 0 {
			s.t.Fatalf("the connection ended %d bytes early", left)
		}
		for out := k; out > 0; {
			m, err := unix.Read(r, buf[:min(out, len(buf))])
			if err != nil {
				s.t.Fatal(err)
			}
			out -= m
		}
		left -= k
	}
	return at
}

// writeSpliced hands bytes over from a pipe.
func (s *script) writeSpliced(conn net.Conn, p string) span {
	s.t.Helper()
	r, w := s.pipe()
	if _, err := unix.Write(w, []byte(p)); err != nil {
		s.t.Fatal(err)
	}
	return s.timed("splice", func() error {
		for left := len(p); left > 0; {
			left -= s.call(conn, true, "splice", func(fd int) (int, error) {
				k, err := unix.Splice(r, nil, fd, nil, left, 0)
				return int(k), err
			})
		}
		return nil
	})
}

// cut divides p into pieces behind some empty ones.
func cut(p string, empty int) [][]byte {
	all := make([][]byte, empty, empty+pieces)
	for i := range pieces {
		all = append(all, []byte(p[len(p)*i/pieces:len(p)*(i+1)/pieces]))
	}
	return all
}

func (s *script) writePieces(conn net.Conn, p string, empty int) span {
	s.t.Helper()
	return s.timed("writev", func() error {
		if n := s.call(conn, true, "writev", func(fd int) (int, error) { return unix.Writev(fd, cut(p, empty)) }); n != len(p) {
			return fmt.Errorf("%d of %d bytes", n, len(p))
		}
		return nil
	})
}

func (s *script) takePieces(conn net.Conn, p string, empty int) span {
	s.t.Helper()
	return s.timed("readv", func() error {
		if n := s.call(conn, false, "readv", func(fd int) (int, error) { return unix.Readv(fd, cut(p, empty)) }); n != len(p) {
			return fmt.Errorf("%d of %d bytes", n, len(p))
		}
		return nil
	})
}

// writeMessages hands each text over as a message of its own, all with one call.
func (s *script) writeMessages(conn net.Conn, texts ...string) span {
	s.t.Helper()
	type message struct {
		header unix.Msghdr
		length uint32
		_      uint32
	}
	messages, buffers := make([]message, len(texts)), make([]unix.Iovec, len(texts))
	for i, p := range texts {
		b := []byte(p)
		buffers[i].Base = &b[0]
		buffers[i].SetLen(len(b))
		messages[i].header.Iov = &buffers[i]
		messages[i].header.SetIovlen(1)
	}
	return s.timed("sendmmsg", func() error {
		n := s.call(conn, true, "sendmmsg", func(fd int) (int, error) {
			n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[0])), uintptr(len(texts)), 0, 0, 0)
			if errno != 0 {
				return 0, errno
			}
			return int(n), nil
		})
		runtime.KeepAlive(buffers)
		if n != len(texts) {
			return fmt.Errorf("%d of %d messages", n, len(texts))
		}
		return nil
	})
}

// head returns a request's head and begins its exchange.
func (s *script) head(method string, header ...string) string {
	s.id, s.method, s.responseSize, s.requestSize = s.b.id(), method, 0, 0
	return strings.Join(append([]string{method + " /end HTTP/1.1", "X-Request-Id: " + s.id, "Host: test"}, header...), "\r\n") + "\r\n\r\n"
}

// blind marks the last expectations as ones whose end no hook may have seen: where a duration is shown it is the right one.
func (s *script) blind(ends int) {
	for i := range ends {
		s.b.want[len(s.b.want)-1-i].mayLackStart = true
	}
}

// spliced answers with a body of n bytes that the client takes by splice.
func (s *script) spliced(head string, n int) {
	s.t.Helper()
	s.write(s.server, head)
	s.take(s.client, len(head))
	s.responded = s.write(s.server, strings.Repeat("s", n))
	s.received = s.takeSpliced(s.client, n)
	s.responseSize += int64(n)
}

// splicedBodies are exchanges of which a body is moved by splice, as some proxies do it.
var splicedBodies = map[string]func(s *script){
	"response": func(s *script) {
		s.request("GET", nil)
		s.spliced("HTTP/1.1 200 OK\r\nContent-Length: 30011\r\n\r\n", 30011)
		s.complete(200)
		s.blind(1)
	},
	"chunk": func(s *script) {
		s.request("GET", nil)
		s.spliced("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3E8\r\n", 1000)
		s.responseSize += 5
		pauseEnd()
		s.respond("\r\n0\r\n\r\n", 7)
		s.complete(200)
	},
	"request": func(s *script) {
		body := strings.Repeat("q", 20011)
		s.request("POST", []string{"Content-Length: 20011"})
		s.write(s.client, body)
		s.takeSpliced(s.server, len(body))
		s.requestSize = int64(len(body))
		s.respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 2)
		s.complete(200)
	},
	"sent": func(s *script) {
		s.request("GET", nil)
		s.respond("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 0)
		s.responded = s.writeSpliced(s.server, "12345")
		s.received = s.take(s.client, 5)
		s.responseSize = 5
		s.complete(200)
	},
}

// inPieces are exchanges whose heads lie in many buffers, or in several messages.
var inPieces = map[string]func(s *script){
	"request": func(s *script) {
		p := s.head("GET", "X: "+strings.Repeat("x", 600))
		s.sent = s.writePieces(s.client, p, 0)
		s.read = s.take(s.server, len(p))
		s.respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 2)
		s.complete(200)
	},
	"request-taken": func(s *script) {
		p := s.head("GET")
		s.sent = s.write(s.client, p)
		s.read = s.takePieces(s.server, p, 3)
		s.respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 2)
		s.complete(200)
	},
	"response": func(s *script) {
		s.request("GET", nil)
		p := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + strings.Repeat("y", 300) + "\r\n\r\nok"
		s.responded = s.writePieces(s.server, p, 5)
		s.received = s.takePieces(s.client, p, 2)
		s.responseSize = 2
		s.complete(200)
	},
	"behind-empty-buffers": func(s *script) {
		p := s.head("GET")
		s.sent = s.writePieces(s.client, p, 7)
		s.read = s.take(s.server, len(p))
		s.respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 2)
		s.complete(200)
	},
	"messages": func(s *script) {
		p := s.head("POST", "Content-Length: 3")
		s.sent = s.writeMessages(s.client, p[:20], p[20:], "abc")
		s.read = s.take(s.server, len(p)+3)
		s.requestSize = 3
		s.responded = s.writeMessages(s.server, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", "abc", "def")
		s.received = s.take(s.client, 44)
		s.responseSize = 6
		s.complete(200)
	},
}

// earlyAnswers are exchanges that are answered before their request is complete; silence follows.
var earlyAnswers = map[string]func(s *script){
	"length": func(s *script) {
		s.request("POST", []string{"Content-Length: 70011"}, strings.Repeat("a", 20000))
		s.respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 2)
		ended := [2]span{s.responded, s.received}
		time.Sleep(sweptPause)
		for _, n := range []int{30000, 20011} {
			s.write(s.client, strings.Repeat("b", n))
			s.take(s.server, n)
		}
		s.requestSize = 70011
		s.over(200, "", ended[0], ended[1])
	},
	"chunks": func(s *script) {
		s.request("POST", []string{"Transfer-Encoding: chunked"}, "5\r\nabcde\r\n")
		s.respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 2)
		ended := [2]span{s.responded, s.received}
		time.Sleep(sweptPause)
		for _, p := range []string{"3\r\nxyz\r\n", "0\r\n\r\n"} {
			s.write(s.client, p)
			s.take(s.server, len(p))
			s.requestSize += int64(len(p))
		}
		s.over(200, "", ended[0], ended[1])
	},
}

// slowClose answers, says that nothing more comes, and reads what is left of the request.
func slowClose(s *script) {
	s.request("POST", []string{"Content-Length: 70011"}, strings.Repeat("a", 20000))
	s.respond("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno", 2)
	ended := [2]span{s.responded, s.received}
	s.halfClose(s.server)
	time.Sleep(sweptPause)
	s.write(s.client, strings.Repeat("b", 50011))
	s.take(s.server, 50011)
	s.requestSize = 70011
	s.closing(s.client)
	s.closing(s.server)
	s.over(413, "", ended[0], ended[1])
	s.b.want[len(s.b.want)-1].errorType = "413"
}

// slowTaker hands over a response that the client does not take for a while: it ends when its last byte was handed over.
func slowTaker(s *script) {
	const n = 3 << 20
	for _, conn := range []net.Conn{s.server, s.client} {
		tcp := conn.(*net.TCPConn)
		if err := tcp.SetWriteBuffer(smallBuffer); err != nil {
			s.t.Fatal(err)
		}
		if err := tcp.SetReadBuffer(smallBuffer); err != nil {
			s.t.Fatal(err)
		}
	}
	s.request("GET", nil)
	p := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n) + strings.Repeat("l", n)
	done := make(chan span, 1)
	// One buffer that is handed over by one call, which waits.
	go func() { done <- s.write(s.server, p) }()
	time.Sleep(5 * endPause)
	begun := s.take(s.client, n/4)
	s.received = s.take(s.client, len(p)-n/4)
	s.responded = <-done
	s.responded.before = begun.after
	s.responseSize = n
	s.complete(200)
}

// Exchanges are right also where bodies are spliced, heads come in many buffers, requests are answered early and responses
// are taken slowly: on regular connections, and on those that user space follows.
func TestE2EBytes(t *testing.T) {
	requireRoot(t)
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	e := &endings{a: startAgent(t, agent.Options{Ports: []int{listener.Addr().(*net.TCPAddr).Port}}), listener: listener}
	for kind, plays := range map[string]map[string]func(*script){"spliced": splicedBodies, "pieces": inPieces, "early": earlyAnswers} {
		for name, play := range plays {
			e.run(t, kind+"/"+name, func(s *script) { play(s); play(s) })
			e.run(t, kind+"/"+name+"/pipelined", func(s *script) {
				s.pipelined()
				play(s)
				s.pipelined()
				if kind == "spliced" {
					for i := range s.b.want {
						s.b.want[i].mayLackStart = true
					}
				}
			})
		}
	}
	e.run(t, "spliced/closed", func(s *script) {
		splicedBodies["response"](s)
		s.closing(s.client)
	})
	e.run(t, "spliced/silent", func(s *script) {
		splicedBodies["response"](s)
		s.b.check()
	})
	e.run(t, "early/slow-close", slowClose)
	e.run(t, "early/slow-close/pipelined", func(s *script) { s.pipelined(); slowClose(s) })
	e.run(t, "slow-taker", slowTaker)
	e.run(t, "slow-taker/pipelined", func(s *script) { s.pipelined(); slowTaker(s) })
	balance(t, e.a, e.books...)
}

// A head that is spliced can be read at neither hook: such an exchange is counted as lost at that end, on a new connection as on
// one that has spoken, and the other end shows it.
func TestE2EUnreadableHeads(t *testing.T) {
	requireRoot(t)
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	e := &endings{a: startAgent(t, agent.Options{Ports: []int{listener.Addr().(*net.TCPAddr).Port}}), listener: listener}
	all := newBook(t, e.a)
	lost := 0
	play := func(name string, f func(s *script)) {
		t.Run(name, func(t *testing.T) {
			s := &script{t: t, b: all, port: listener.Addr().(*net.TCPAddr).Port}
			var err error
			if s.client, err = net.Dial("tcp4", listener.Addr().String()); err != nil {
				t.Fatal(err)
			}
			defer s.client.Close()
			if s.server, err = listener.Accept(); err != nil {
				t.Fatal(err)
			}
			defer s.server.Close()
			f(s)
		})
	}
	request := func(s *script) {
		p := s.head("POST", "Content-Length: 3")
		s.sent = s.writeSpliced(s.client, p)
		s.write(s.client, "abc")
		s.read = s.take(s.server, len(p)+3)
		s.requestSize = 3
		s.respond(answer, 2)
		s.complete(200)
		lost++
	}
	response := func(s *script) {
		s.request("GET", nil)
		s.responded = s.writeSpliced(s.server, answer)
		s.received = s.take(s.client, len(answer))
		s.responseSize = 2
		s.complete(200)
		lost++
	}
	regular := func(s *script) {
		s.request("GET", nil)
		s.respond(answer, 2)
		s.complete(200)
	}
	play("request", func(s *script) { request(s); request(s); regular(s) })
	play("request-later", func(s *script) { regular(s); request(s); regular(s) })
	play("response", func(s *script) { response(s); regular(s); response(s) })
	all.checkLost(losses{"unreadable": lost})
}

// With TCP Fast Open a request arrives, and is answered, before the handshake is over: the server's end is shown as ever. Of the
// client's end the first request went out with the SYN, where no hook sees it: it is counted as lost, and later ones are shown.
func TestE2EFastOpen(t *testing.T) {
	requireRoot(t)
	t.Parallel()
	const conns = 3
	port := freePort(t)
	a := startAgent(t, agent.Options{Ports: []int{port}})
	listener, clients := fastOpen(t, port, conns)
	b := newBook(t, a)
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, client := range clients {
		s := &script{t: t, b: b, port: port, client: client}
		p := s.head("GET")
		s.sent = s.write(s.client, p)
		var err error
		if s.server, err = listener.Accept(); err != nil {
			t.Fatal(err)
		}
		defer s.server.Close()
		s.read = s.take(s.server, len(p))
		s.respond(answer, 2)
		s.complete(200)
		for range 2 {
			s.request("GET", nil)
			s.respond(answer, 2)
			s.complete(200)
		}
	}
	b.checkLost(losses{"unreadable": conns})
}

// fastOpen returns a listener and clients of it that connect with their first byte, in a network of their own.
func fastOpen(t *testing.T, port, count int) (net.Listener, []net.Conn) {
	t.Helper()
	var fds []int
	var err error
	elsewhere(t, func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() { fds, err = fastOpenSockets(port, count) })
	var listener net.Listener
	var clients []net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "")
		defer f.Close()
		if err != nil {
			continue
		}
		if i == 0 {
			listener, err = net.FileListener(f)
			continue
		}
		var conn net.Conn
		if conn, err = net.FileConn(f); err == nil {
			t.Cleanup(func() { conn.Close() })
			clients = append(clients, conn)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener, clients
}

// fastOpenSockets makes the descriptors, the listener's first, in this thread's network, which must be a new one.
func fastOpenSockets(port, count int) (fds []int, err error) {
	const both = 0x1 | 0x2 | 0x4 | 0x200 | 0x400 // client and server, without a cookie, of every listener
	if err := loopbackUp(); err != nil {
		return nil, err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", fmt.Append(nil, both), 0); err != nil {
		return nil, err
	}
	loopback := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	for i := range count + 1 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
		if i == 0 {
			err = unix.Bind(fd, loopback)
		} else if err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1); err == nil {
			err = unix.Connect(fd, loopback)
		}
		if err == nil && i == 0 {
			err = unix.Listen(fd, count)
		}
		if err != nil {
			return fds, err
		}
	}
	return fds, nil
}

// loopbackUp makes the loopback device of this thread's network work.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// A response that is cut while its client waits inside a read is `aborted` with its status at both ends, however the last read's
// return and the connection's end fall together.
func TestE2ERacingCuts(t *testing.T) {
	requireRoot(t)
	t.Parallel()
	const cuts = 61
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	a := startAgent(t, agent.Options{Ports: []int{port}})
	b := newBook(t, a)
	for i := range 2 * cuts {
		s := &script{t: t, b: b, port: port}
		if s.client, err = net.Dial("tcp4", listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if s.server, err = listener.Accept(); err != nil {
			t.Fatal(err)
		}
		end := (*script).closing
		if i%2 == 1 {
			end = (*script).reset
		}
		s.request("GET", nil)
		taken := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, struct{ io.Reader }{s.client})
			s.client.Close()
			taken <- err
		}()
		s.write(s.server, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		s.write(s.server, "5\r\nhello\r\n")
		s.write(s.server, "a\r\nworl")
		end(s, s.server)
		if err := <-taken; err != nil && i%2 == 0 {
			t.Fatal(err)
		}
		s.over(200, "aborted", span{}, span{})
		for j := range 2 {
			s.b.want[len(s.b.want)-1-j].maxNS = 0
		}
	}
	b.check()
	balance(t, a, b)
}
