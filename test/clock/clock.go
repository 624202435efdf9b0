// Package clock times the socket calls of the tests' own programs. Both ends of a connection log each call with the
// monotonic clock before and after it and the stream offset it reached; because client and server count the same
// bytes, any byte's instant at either end is looked up by its offset, whatever the protocol does.
package clock

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Now returns CLOCK_MONOTONIC in nanoseconds, the clock that the kernel side of perfagent uses.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // cannot fail with a valid clock and pointer
	}
	return ts.Nano()
}

// Span is an interval in CLOCK_MONOTONIC nanoseconds that contains one instant: a clock read before a call and one
// after it. The zero Span means that no clock saw the instant.
type Span struct{ Before, After int64 }

// Known reports whether a clock saw the instant.
func (s Span) Known() bool { return s.After != 0 }

// Sub returns the interval that contains s - from.
func (s Span) Sub(from Span) Span { return Span{s.Before - from.After, s.After - from.Before} }

// Error returns how far v lies outside the span: negative below it, positive above it, 0 inside.
func (s Span) Error(v int64) int64 {
	switch {
	case v < s.Before:
		return v - s.Before
	case v > s.After:
		return v - s.After
	}
	return 0
}

// Op is one socket call that moved bytes, or that ended the connection.
type Op struct {
	Send bool
	End  uint64 // bytes moved in this direction on this connection, this call included; 0: the call was an end
	Told bool   // of an end: a read that told of the other side's, and not this side's close
	Span
	// Empty is the last instant at which a receiving socket was known to hold nothing; 0 where unknown. It bounds
	// the arrival of the bytes from below.
	Empty int64
}

// Ops are the calls of one end of a connection, in order within each direction.
type Ops []Op

// At returns the call that moved the byte at offset in the given direction.
func (o Ops) At(send bool, offset uint64) (Op, bool) {
	for _, op := range o {
		if op.Send == send && op.End > offset {
			return op, true
		}
	}
	return Op{}, false
}

// SpanAt returns the span of the call that moved the byte at offset, or the zero Span.
func (o Ops) SpanAt(send bool, offset uint64) Span {
	op, ok := o.At(send, offset)
	if !ok {
		return Span{}
	}
	return op.Span
}

// Closed returns when this side closed the connection, Told the read that told of the other side's end, be it a reset.
func (o Ops) Closed() Op { return o.end(false) }
func (o Ops) Told() Op   { return o.end(true) }

// end returns the first such end, or the zero Op.
func (o Ops) end(told bool) Op {
	for _, op := range o {
		if op.End == 0 && op.Told == told {
			return op
		}
	}
	return Op{}
}

// Conn is a stream connection that logs its calls. It is a net.Conn; Read and Write may run in parallel.
type Conn struct {
	net.Conn
	// Spin makes Read poll the socket without sleeping, so that no scheduler stands between a byte's arrival and
	// the clock.
	Spin bool
	// OnClose, where set, receives the log once when the connection closes.
	OnClose func(Ops)

	raw  syscall.RawConn
	once sync.Once

	mu             sync.Mutex
	ops            Ops
	sent, received uint64
	drained        int64 // clock before a read that left nothing behind; 0: the last one filled its buffer
	readDeadline   time.Time
}

// Wrap returns conn, a TCP or Unix stream connection, with a log of its calls.
func Wrap(conn net.Conn) (*Conn, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.New("connection has no descriptor")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: conn, raw: raw}, nil
}

// Ops returns the calls so far.
func (c *Conn) Ops() Ops {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(Ops(nil), c.ops...)
}

// Sent and Received return the stream offsets reached so far.
func (c *Conn) Sent() uint64     { c.mu.Lock(); defer c.mu.Unlock(); return c.sent }
func (c *Conn) Received() uint64 { c.mu.Lock(); defer c.mu.Unlock(); return c.received }

// SetReadDeadline remembers the deadline for spinning reads, which no poller can interrupt.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.readDeadline = t
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	c.readDeadline = t
	c.mu.Unlock()
	return c.Conn.SetDeadline(t)
}

// Read receives into p and logs the call.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	var n int
	var callErr error
	var span Span
	var empty int64
	err := c.raw.Read(func(fd uintptr) bool {
		for {
			span.Before = Now()
			n, callErr = unix.Read(int(fd), p)
			span.After = Now()
			switch {
			case callErr == unix.EINTR:
			case callErr == unix.EAGAIN && c.Spin && !c.expired():
				empty = span.Before
			default:
				return callErr != unix.EAGAIN || c.Spin
			}
		}
	})
	switch {
	case err != nil:
		return 0, err
	case callErr == unix.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	case callErr != nil:
		c.logEnd(Op{Told: true, Span: span, Empty: empty})
		return 0, os.NewSyscallError("read", callErr)
	case n == 0:
		c.logEnd(Op{Told: true, Span: span, Empty: empty})
		return 0, io.EOF
	}
	c.log(Op{Span: span, Empty: empty}, n, n < len(p))
	return n, nil
}

func (c *Conn) expired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.readDeadline.IsZero() && time.Now().After(c.readDeadline)
}

// Write sends p and logs each call that it took.
func (c *Conn) Write(p []byte) (int, error) {
	return c.sendAll(len(p), func(fd, done int) (int, error) { return unix.Write(fd, p[done:]) })
}

// WriteMore sends p with MSG_MORE, which tells the kernel to hold the bytes back until more follow.
func (c *Conn) WriteMore(p []byte) (int, error) {
	return c.sendAll(len(p), func(fd, done int) (int, error) {
		return unix.SendmsgN(fd, p[done:], nil, nil, unix.MSG_MORE)
	})
}

// Writev sends head and body with one writev, and the rest with writes where the socket took only a part.
func (c *Conn) Writev(head, body []byte) (int, error) {
	return c.sendAll(len(head)+len(body), func(fd, done int) (int, error) {
		if done < len(head) {
			return unix.Writev(fd, [][]byte{head[done:], body})
		}
		return unix.Write(fd, body[done-len(head):])
	})
}

// SendFile sends the first size bytes of file with sendfile, at most piece bytes a call.
func (c *Conn) SendFile(file *os.File, size, piece int) (int, error) {
	var offset int64
	in := int(file.Fd())
	return c.sendAll(size, func(fd, done int) (int, error) { return unix.Sendfile(fd, in, &offset, min(size-done, piece)) })
}

// sendAll repeats call until it has moved size bytes.
func (c *Conn) sendAll(size int, call func(fd, done int) (int, error)) (int, error) {
	done := 0
	for done < size {
		var n int
		var callErr error
		var span Span
		err := c.raw.Write(func(fd uintptr) bool {
			for {
				span.Before = Now()
				n, callErr = call(int(fd), done)
				span.After = Now()
				if callErr != unix.EINTR {
					return callErr != unix.EAGAIN
				}
			}
		})
		if err != nil {
			return done, err
		}
		if callErr != nil {
			return done, os.NewSyscallError("write", callErr)
		}
		if n == 0 {
			return done, io.ErrUnexpectedEOF // sendfile at the end of a short file
		}
		done += n
		c.log(Op{Send: true, Span: span}, n, false)
	}
	return done, nil
}

func (c *Conn) log(op Op, n int, drained bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if op.Send {
		c.sent += uint64(n)
		op.End = c.sent
	} else {
		c.received += uint64(n)
		op.End = c.received
		op.Empty = max(op.Empty, c.drained)
		c.drained = 0
		if drained {
			c.drained = op.Before
		}
	}
	c.ops = append(c.ops, op)
}

// logEnd adds a call that moved no bytes.
func (c *Conn) logEnd(op Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops = append(c.ops, op)
}

// Close closes the connection and hands the log over.
func (c *Conn) Close() error {
	closing := Op{Span: Span{Before: Now()}}
	err := c.Conn.Close()
	closing.After = Now()
	c.once.Do(func() {
		c.logEnd(closing)
		if c.OnClose != nil {
			c.OnClose(c.Ops())
		}
	})
	return err
}
