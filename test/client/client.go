// Package client is a raw-socket HTTP/1 client for tests: it writes exactly the bytes it is told, in the pieces it is
// told, logs every socket call with nanosecond clocks, and knows the stream offsets of each request and response.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/test/clock"
)

// Options of a connection.
type Options struct {
	Network       string        // "tcp", "tcp4", "tcp6" or "unix"; empty: "tcp"
	Address       string        // host:port or path
	Spin          bool          // poll for responses without sleeping, for the sharpest clocks
	ReceiveBuffer int           // SO_RCVBUF in bytes; 0: the kernel's default
	Timeout       time.Duration // of each Do, Pipeline or ReadResponse; 0: 20 s
}

// Pace slows reading down.
type Pace struct {
	Bytes int           // most bytes taken by one read; 0: no limit
	Delay time.Duration // pause after each read
}

// Request says what to write. The zero value of each field is the usual thing.
type Request struct {
	Method  string   // empty: GET
	Target  string   // empty: /fast
	Proto   string   // empty: HTTP/1.1
	Before  string   // empty lines in front of the head, of which the server takes no notice
	ID      string   // X-Request-Id, written first so that it is in any capture; empty: none
	Header  []string // further lines without line ends, written before Host
	NoHost  bool
	Body    []byte
	Size    int64    // of a generated body, where Body is nil
	Chunked bool     // body in chunks of 16 KiB instead of Content-Length
	Trailer []string // lines behind a body in chunks, without line ends
	Expect  bool     // Expect: 100-continue, and wait for the interim response before the body

	Split      []int         // offsets in the head at which to end one write and start the next
	SplitDelay time.Duration // pause between the pieces
	Pace       Pace          // of reading the response
}

// Response is what came back, with its place in the response stream.
type Response struct {
	Status     int
	Header     string // the final head, as received
	Interim    []int  // 1xx statuses before the final one
	First      uint64 // offset of the first byte, interim heads included
	Start, End uint64 // offsets of the final head's first byte and behind the last byte of the body
	BodySize   int64  // bytes after the final head, chunk framing included
	Closed     bool   // the body ended with the connection
}

// Result is one exchange as the client made it.
type Result struct {
	Request
	Response
	RequestStart, RequestEnd uint64 // offsets in the request stream
	RequestBodySize          int64  // bytes after the request's head, chunk framing included
}

// Conn is a connection to a server.
type Conn struct {
	*clock.Conn
	options Options
	buffer  []byte // received and not yet consumed
	pace    Pace
	scratch []byte
}

// Dial connects.
func Dial(options Options) (*Conn, error) {
	if options.Network == "" {
		options.Network = "tcp"
	}
	if options.Timeout == 0 {
		options.Timeout = 20 * time.Second
	}
	dialer := net.Dialer{Timeout: options.Timeout, KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		if options.ReceiveBuffer == 0 {
			return nil
		}
		var setErr error
		err := c.Control(func(fd uintptr) {
			setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, options.ReceiveBuffer)
		})
		return errors.Join(err, setErr)
	}}
	inner, err := dialer.DialContext(context.Background(), options.Network, options.Address)
	if err != nil {
		return nil, err
	}
	conn, err := clock.Wrap(inner)
	if err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	conn.Spin = options.Spin
	return &Conn{Conn: conn, options: options, scratch: make([]byte, 64<<10)}, nil
}

// Key returns the name of this connection in the server's clock log.
func (c *Conn) Key() string { return c.LocalAddr().String() }

// Do sends one request and reads its response.
func (c *Conn) Do(r Request) (Result, error) {
	results, err := c.exchange([]Request{r})
	if len(results) == 0 {
		return Result{Request: r}, err
	}
	return results[0], err
}

// Pipeline sends all requests with one write and then reads the responses in order.
func (c *Conn) Pipeline(requests []Request) ([]Result, error) { return c.exchange(requests) }

func (c *Conn) exchange(requests []Request) ([]Result, error) {
	if err := c.SetDeadline(time.Now().Add(c.options.Timeout)); err != nil {
		return nil, err
	}
	results := make([]Result, len(requests))
	var joined []byte
	for i, r := range requests {
		results[i] = Result{Request: r, RequestStart: c.Sent() + uint64(len(joined))}
		if len(requests) > 1 {
			joined = append(append(joined, r.Before...), r.Head()...)
			results[i].RequestStart += uint64(len(r.Before))
			joined = append(joined, r.Body...)
			results[i].RequestBodySize = int64(len(r.Body))
			results[i].RequestEnd = c.Sent() + uint64(len(joined))
		}
	}
	var err error
	if len(requests) > 1 {
		_, err = c.Write(joined)
	} else {
		err = c.send(&results[0])
	}
	if err != nil {
		return results, fmt.Errorf("sending request: %w", err)
	}
	for i := range results {
		if err := c.finish(&results[i]); err != nil {
			return results, fmt.Errorf("response %d of %d to %s: %w", i+1, len(results), results[i].Target, err)
		}
	}
	return results, nil
}

func (c *Conn) finish(r *Result) error {
	c.pace = r.Pace
	interim, first := r.Interim, r.First
	response, err := c.ReadResponse(r.Method)
	r.Response = response
	if len(interim) > 0 {
		r.Interim, r.First = append(interim, r.Interim...), first
	}
	return err
}

// Head returns the request line and headers with the blank line.
func (r *Request) Head() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", or(r.Method, "GET"), or(r.Target, "/fast"), or(r.Proto, "HTTP/1.1"))
	if r.ID != "" {
		fmt.Fprintf(&b, "X-Request-Id: %s\r\n", r.ID)
	}
	for _, line := range r.Header {
		b.WriteString(line)
		b.WriteString("\r\n")
	}
	if !r.NoHost {
		b.WriteString("Host: test.example\r\n")
	}
	switch {
	case r.Chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n")
	case r.length() > 0:
		fmt.Fprintf(&b, "Content-Length: %d\r\n", r.length())
	}
	if r.Expect {
		b.WriteString("Expect: 100-continue\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func (r *Request) length() int64 {
	if r.Body != nil {
		return int64(len(r.Body))
	}
	return r.Size
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// send writes head and body of one request; a short body goes with the head.
func (c *Conn) send(r *Result) error {
	piece := append([]byte(r.Before), r.Head()...)
	r.RequestStart += uint64(len(r.Before))
	if !r.Chunked && !r.Expect && r.Body != nil && len(r.Body) <= 4096 {
		piece = append(piece, r.Body...)
		r.RequestBodySize = int64(len(r.Body))
	}
	if err := c.SendSplit(piece, r.Split, r.SplitDelay); err != nil {
		return err
	}
	if r.RequestBodySize == 0 && (r.length() > 0 || r.Chunked) {
		if err := c.sendBody(r); err != nil {
			return err
		}
	}
	r.RequestEnd = c.Sent()
	return nil
}

// SendSplit writes p in pieces that end at the given offsets.
func (c *Conn) SendSplit(p []byte, split []int, delay time.Duration) error {
	start := 0
	for _, end := range append(append([]int(nil), split...), len(p)) {
		if end <= start || end > len(p) {
			continue
		}
		if start > 0 {
			time.Sleep(delay) // the pause between the pieces is the workload
		}
		if _, err := c.Write(p[start:end]); err != nil {
			return err
		}
		start = end
	}
	return nil
}

func (c *Conn) sendBody(r *Result) error {
	if r.Expect {
		status, first, err := c.readInterim()
		if err != nil {
			return err
		}
		r.Interim, r.First = []int{status}, first
	}
	start := c.Sent()
	block := make([]byte, 16<<10)
	source := io.LimitReader(zeros{}, r.length())
	if r.Body != nil {
		source = bytes.NewReader(r.Body)
	}
	for {
		n, err := io.ReadFull(source, block)
		if n > 0 {
			piece := block[:n]
			if r.Chunked {
				piece = fmt.Appendf(nil, "%x\r\n%s\r\n", n, block[:n])
			}
			if _, err := c.Write(piece); err != nil {
				return err
			}
		}
		if err != nil {
			break
		}
	}
	if r.Chunked {
		last := strings.Join(append(append([]string{"0"}, r.Trailer...), "", ""), "\r\n")
		if _, err := c.Write([]byte(last)); err != nil {
			return err
		}
	}
	r.RequestBodySize = int64(c.Sent() - start)
	return nil
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Abort resets the connection.
func (c *Conn) Abort() error {
	if tcp, ok := c.Conn.Conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
	}
	return c.Close()
}

// ReadResponse reads one response, interim ones included. method decides whether a body follows.
func (c *Conn) ReadResponse(method string) (Response, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.options.Timeout)); err != nil {
		return Response{}, err
	}
	r := Response{First: c.offset()}
	for {
		r.Start = c.offset()
		head, err := c.readHead()
		if err != nil {
			return r, err
		}
		status, err := parseStatus(head)
		if err != nil {
			return r, err
		}
		if status >= 200 || status == 101 {
			r.Status, r.Header = status, head
			break
		}
		r.Interim = append(r.Interim, status)
	}
	bodyStart := c.offset()
	err := c.readBody(method, &r)
	r.End = c.offset()
	r.BodySize = int64(r.End - bodyStart)
	return r, err
}

func (c *Conn) readInterim() (status int, first uint64, err error) {
	first = c.offset()
	head, err := c.readHead()
	if err != nil {
		return 0, first, err
	}
	status, err = parseStatus(head)
	if err == nil && (status < 100 || status > 199) {
		err = fmt.Errorf("status %d instead of 100", status)
	}
	return status, first, err
}

func (c *Conn) readBody(method string, r *Response) error {
	length, hasLength := headerValue(r.Header, "content-length")
	coding, _ := headerValue(r.Header, "transfer-encoding")
	switch {
	case method == "HEAD", r.Status == 204, r.Status == 304, r.Status == 101, method == "CONNECT" && r.Status < 300:
		return nil
	case strings.EqualFold(coding, "chunked"):
		return c.readChunks()
	case hasLength:
		n, err := strconv.ParseInt(length, 10, 64)
		if err != nil {
			return err
		}
		return c.discard(n)
	}
	r.Closed = true
	for {
		c.buffer = c.buffer[:0]
		if err := c.fill(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// readChunks reads chunks, with or without extensions, up to the last one and its trailers.
func (c *Conn) readChunks() error {
	for {
		line, err := c.readUntil("\n")
		if err != nil {
			return err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
		if err != nil {
			return fmt.Errorf("chunk size: %w", err)
		}
		if n == 0 {
			for strings.TrimSpace(line) != "" && err == nil {
				line, err = c.readUntil("\n")
			}
			return err
		}
		if err := c.discard(n + 2); err != nil {
			return err
		}
	}
}

func parseStatus(head string) (int, error) {
	fields := strings.SplitN(head, " ", 3)
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "HTTP/1.") {
		return 0, fmt.Errorf("not a response: %.40q", head)
	}
	return strconv.Atoi(strings.TrimSpace(fields[1]))
}

// headerValue returns the value of a header; name is in lower case.
func headerValue(head, name string) (string, bool) {
	for line := range strings.SplitSeq(head, "\r\n") {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(key, name) {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

func (c *Conn) readHead() (string, error) { return c.readUntil("\r\n\r\n") }

// offset returns the stream offset of the first byte that is not consumed.
func (c *Conn) offset() uint64 { return c.Received() - uint64(len(c.buffer)) }

func (c *Conn) readUntil(end string) (string, error) {
	for {
		if i := bytes.Index(c.buffer, []byte(end)); i >= 0 {
			text := string(c.buffer[:i+len(end)])
			c.buffer = c.buffer[i+len(end):]
			return text, nil
		}
		if err := c.fill(); err != nil {
			return "", err
		}
	}
}

func (c *Conn) discard(n int64) error {
	for n > int64(len(c.buffer)) {
		n -= int64(len(c.buffer))
		c.buffer = c.buffer[:0]
		if err := c.fill(); err == io.EOF {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
	}
	c.buffer = c.buffer[n:]
	return nil
}

func (c *Conn) fill() error {
	p := c.scratch
	if c.pace.Bytes > 0 && c.pace.Bytes < len(p) {
		p = p[:c.pace.Bytes]
	}
	n, err := c.Read(p)
	c.buffer = append(c.buffer, p[:n]...)
	if err == nil && c.pace.Delay > 0 {
		time.Sleep(c.pace.Delay) // the slow reader is the workload
	}
	return err
}
