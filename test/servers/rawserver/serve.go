package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/test/clock"
)

type server struct {
	mode   string
	passed int        // socket to the process that answers /passed
	mu     sync.Mutex // of passed
}

// request is one request that has been read whole.
type request struct {
	method, path string
	query        string
	bodySize     int64
	more         bool // another request is already in the buffer
}

func (s *server) serve(conn *clock.Conn) {
	defer conn.Close()
	switch s.mode {
	case "echo":
		io.Copy(conn, struct{ io.Reader }{conn})
		return
	case "redis":
		serveLines(conn)
		return
	case "smtp":
		io.WriteString(conn, "220 mail.example.org ESMTP\r\n")
		serveLines(conn)
		return
	case "settings": // an empty SETTINGS frame of HTTP/2
		conn.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})
		io.Copy(io.Discard, struct{ io.Reader }{conn})
		return
	}
	reader := bufio.NewReaderSize(struct{ io.Reader }{conn}, 64<<10)
	session := &session{server: s, conn: conn, reader: reader}
	for {
		r, err := readRequest(reader, conn)
		if err != nil || !session.answer(r) {
			return
		}
	}
}

// serveLines answers every line with +PONG, as a Redis server does PING.
func serveLines(conn *clock.Conn) {
	lines := bufio.NewScanner(struct{ io.Reader }{conn})
	for lines.Scan() {
		if _, err := conn.Write([]byte("+PONG\r\n")); err != nil {
			return
		}
	}
}

func readRequest(reader *bufio.Reader, conn *clock.Conn) (request, error) {
	var line string
	for strings.TrimSpace(line) == "" { // empty lines in front of a request are nothing
		var err error
		if line, err = reader.ReadString('\n'); err != nil {
			return request{}, err
		}
	}
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return request{}, fmt.Errorf("bad request line %.40q", line)
	}
	r := request{method: fields[0]}
	r.path, r.query, _ = strings.Cut(fields[1], "?")
	if i := strings.Index(r.path, "://"); i >= 0 { // absolute form
		_, path, _ := strings.Cut(r.path[i+3:], "/")
		r.path = "/" + path
	}
	var length int64
	var chunked bool
	var err error
	for {
		header, err := reader.ReadString('\n')
		if err != nil {
			return r, err
		}
		header = strings.TrimRight(header, "\r\n")
		if header == "" {
			break
		}
		key, value, _ := strings.Cut(header, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(key) {
		case "content-length":
			length, _ = strconv.ParseInt(value, 10, 64)
		case "transfer-encoding":
			chunked = strings.EqualFold(value, "chunked")
		case "expect":
			conn.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
		}
	}
	if chunked {
		r.bodySize, err = readChunks(reader)
	} else {
		r.bodySize, err = io.CopyN(io.Discard, reader, length)
	}
	r.more = reader.Buffered() > 0
	return r, err
}

func readChunks(reader *bufio.Reader) (int64, error) {
	var total int64
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return total, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(line), 16, 64)
		if err != nil {
			return total, err
		}
		if n == 0 {
			for strings.TrimSpace(line) != "" && err == nil { // trailers
				line, err = reader.ReadString('\n')
			}
			return total, err
		}
		if _, err := io.CopyN(io.Discard, reader, n+2); err != nil {
			return total, err
		}
		total += n
	}
}

// pieceBytes is the most that one call hands over of a large body.
const pieceBytes = 64 << 10

// session is the answering side of one connection.
type session struct {
	*server
	conn   *clock.Conn
	reader *bufio.Reader
	held   []byte // responses that /batch holds back until no further request waits
}

const okResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func head(size int) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
}

// answer sends the response that the path asks for. It returns false when the connection is over.
func (s *session) answer(r request) bool {
	name, argument, _ := strings.Cut(strings.TrimPrefix(r.path, "/"), "/")
	n, _ := strconv.Atoi(argument)
	if r.method == "CONNECT" {
		name = "connect"
	}
	if r.method == "HEAD" {
		return s.send([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"))
	}
	switch name {
	case "fast":
		return s.send([]byte(okResponse))
	case "sleep":
		time.Sleep(time.Duration(n) * time.Millisecond)
		return s.send([]byte(okResponse))
	case "upload":
		return s.send(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%d", len(fmt.Sprint(r.bodySize)), r.bodySize))
	case "status":
		return s.status(n)
	case "hints":
		return s.send([]byte("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")) && s.send([]byte(okResponse))
	case "split", "bytewise", "chunked", "bytes", "writev", "sendfile", "more", "batch":
		return s.stream(name, n, r)
	case "ends":
		if kind, cut := strings.CutPrefix(argument, "cut-"); cut {
			return s.cut(kind, pauseOf(r.query))
		}
		return s.whole(argument, pauseOf(r.query))
	case "threads":
		return s.otherThread()
	case "passed":
		return s.otherProcess()
	case "unmapped":
		return s.unmapped()
	case "file":
		return s.wholeFile()
	default:
		return s.end(name, n)
	}
}

// status answers without a body, as 204 and 304 have none.
func (s *session) status(code int) bool {
	length := "Content-Length: 0\r\n"
	if code == 204 || code == 304 {
		length = ""
	}
	return s.send(fmt.Appendf(nil, "HTTP/1.1 %d Status\r\n%s\r\n", code, length))
}

func (s *session) send(p []byte) bool {
	_, err := s.conn.Write(p)
	return err == nil
}

// body sends n bytes in pieces small enough that the clocks around the last one are sharp.
func (s *session) body(n int) bool {
	block := make([]byte, min(n, pieceBytes))
	for n > 0 {
		piece := block[:min(n, len(block))]
		if !s.send(piece) {
			return false
		}
		n -= len(piece)
	}
	return true
}

// stream answers in unusual pieces.
func (s *session) stream(name string, n int, r request) bool {
	switch name {
	case "split":
		return s.send([]byte(okResponse[:n])) && pause(time.Millisecond) && s.send([]byte(okResponse[n:]))
	case "bytewise":
		for i := range okResponse {
			if !s.send([]byte(okResponse[i : i+1])) {
				return false
			}
		}
		return true
	case "chunked":
		return s.chunked(n, r.query)
	case "bytes":
		return s.send(head(n)) && s.body(n)
	case "writev":
		_, err := s.conn.Writev(head(n), make([]byte, n))
		return err == nil
	case "sendfile":
		return s.sendFile(n)
	case "more":
		_, err := s.conn.WriteMore(head(n))
		return err == nil && pause(5*time.Millisecond) && s.send(make([]byte, n))
	}
	s.held = append(s.held, okResponse...)
	if r.more {
		return true
	}
	p := s.held
	s.held = nil
	return s.send(p)
}

// pause lets the pieces of one response leave apart.
func pause(d time.Duration) bool { time.Sleep(d); return true }

func (s *session) chunked(n int, query string) bool {
	delay, _ := strconv.Atoi(strings.TrimPrefix(query, "delay="))
	if !s.send([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")) {
		return false
	}
	chunk := fmt.Appendf(nil, "64\r\n%s\r\n", bytes.Repeat([]byte{'c'}, 100))
	for range n {
		if !s.send(chunk) || !pause(time.Duration(delay)*time.Millisecond) {
			return false
		}
	}
	return s.send([]byte("0\r\n\r\n"))
}

func (s *session) sendFile(n int) bool {
	file, err := os.CreateTemp("", "sendfile")
	if err != nil {
		return false
	}
	defer file.Close()
	if os.Remove(file.Name()) != nil || file.Truncate(int64(n)) != nil {
		return false
	}
	if !s.send(head(n)) {
		return false
	}
	_, err = s.conn.SendFile(file, n, pieceBytes)
	return err == nil
}

// wholeFile sends head and body from a file, so that no memory of this process ever holds them.
func (s *session) wholeFile() bool {
	file, err := os.CreateTemp("", "response")
	if err != nil {
		return false
	}
	defer file.Close()
	if _, err := file.WriteString(okResponse); err != nil || os.Remove(file.Name()) != nil {
		return false
	}
	_, err = s.conn.SendFile(file, len(okResponse), pieceBytes)
	return err == nil
}

// unmapped answers from a file mapping whose page this process has never touched, so that only a page fault within the
// call makes the bytes readable.
func (s *session) unmapped() bool {
	file, err := os.CreateTemp("", "unmapped")
	if err != nil {
		return false
	}
	defer file.Close()
	if _, err := file.WriteString(okResponse); err != nil || os.Remove(file.Name()) != nil {
		return false
	}
	mapping, err := unix.Mmap(int(file.Fd()), 0, len(okResponse), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return false
	}
	defer unix.Munmap(mapping)
	return s.send(mapping)
}

// otherThread answers from a thread that never read from the connection.
func (s *session) otherThread() bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	done := make(chan bool)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- s.send([]byte(okResponse))
	}()
	return <-done
}

// otherProcess lets another process, which holds a copy of the descriptor, answer.
func (s *session) otherProcess() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, err := s.conn.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	var callErr error
	err = raw.Control(func(fd uintptr) {
		callErr = unix.Sendmsg(s.passed, []byte(okResponse), unix.UnixRights(int(fd)), nil, 0)
		if callErr == nil {
			_, callErr = unix.Read(s.passed, make([]byte, 16)) // until the answer is written
		}
	})
	return err == nil && callErr == nil
}

// end are the behaviours after which the connection is over.
func (s *session) end(name string, n int) bool {
	switch name {
	case "abort": // a reset instead of a response
		s.reset()
	case "fin": // an orderly end instead of a response
	case "cut": // a reset in the middle of the body
		s.send(append(head(n), make([]byte, n/2)...))
		s.reset()
	case "never": // no response until the client leaves
		io.Copy(io.Discard, s.reader)
	case "stream": // the start of a chunked response, and no end until the client leaves
		s.send([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"))
		io.Copy(io.Discard, s.reader)
	case "tail": // the same of a response that the connection's end ends
		s.send([]byte("HTTP/1.0 200 OK\r\n\r\nhello"))
		io.Copy(io.Discard, s.reader)
	case "close": // the end of the connection ends the body
		s.send(append([]byte("HTTP/1.0 200 OK\r\n\r\n"), make([]byte, n)...))
	case "garbage": // no HTTP at all
		s.send([]byte("\x00\x01\x02this is not a response\r\n\r\n"))
	case "upgrade":
		if s.send([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")) {
			io.Copy(s.conn, struct{ io.Reader }{s.reader})
		}
	case "connect":
		if s.send([]byte("HTTP/1.1 200 Connection established\r\n\r\n")) {
			io.Copy(s.conn, struct{ io.Reader }{s.reader})
		}
	default:
		s.send([]byte("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	}
	return false
}

func (s *session) reset() {
	if err := s.conn.Conn.(*net.TCPConn).SetLinger(0); err != nil {
		fmt.Fprintln(os.Stderr, "linger:", err)
	}
}
