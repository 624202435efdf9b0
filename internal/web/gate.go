package web

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/export"
)

// Bounds of the connections to the agent. One whose head never ends was measured at 35 KiB, with TLS at 70; in the kernel
// there is what its two buffers hold.
const (
	// connectionsEachMax is half as much again as all paths together leave to clients that do not read (readersMax, streamsEachMax), so
	// that there is nearly always one that may be closed for a newer one.
	connectionsEachMax = 192
	connectionsMax     = 256
	// leavingMax bounds connections that were closed and whose goroutine has not ended: net/http lets some of them wait
	// for half a second.
	leavingMax = 64
	// receiveBytes and sendBytes are asked of the kernel, which takes twice as much: what a client does not read would
	// otherwise fill some megabytes of each connection, and count as the agent's memory.
	receiveBytes = 16 << 10
	sendBytes    = 64 << 10
	// pieceBytes is what a client must have taken of an answer before the time for the next piece begins.
	pieceBytes = 32 << 10
	// stallTimeout is for such a piece; Prometheus gives the whole of a scrape 10 s.
	stallTimeout = 10 * time.Second
	// slowAfter is how long a piece may take where others wait: 32 KiB/s. On a busy host a client that reads may be without a
	// processor for a good part of it.
	slowAfter = time.Second
	// requestLeast is how long a request may take before its connection is closed where all are at one.
	requestLeast = 10 * time.Second
)

type closeReason int

const (
	closedIdle    closeReason = iota // in favour of a newer one: without a request, or without one that is whole
	closedSlow                       // the client did not read the answer
	closedRefused                    // all others were being answered
	closeReasons
)

var closeReasonNames = [closeReasons]string{"idle", "slow", "refused"}

// Gate bounds the connections of the listeners behind it, of each and of all. Where there are as many as may be, a new one
// takes the place of the one that has been without a whole request for longest: so that clients who open connections and
// say nothing lock nobody out who asks at once.
type Gate struct {
	mu      sync.Mutex
	left    sync.Cond // a connection that was closed has ended
	open    map[*gatedConn]struct{}
	leaving int
	closed  [closeReasons]uint64
}

// NewGate returns a gate without listeners.
func NewGate() *Gate {
	g := &Gate{open: make(map[*gatedConn]struct{})}
	g.left.L = &g.mu
	return g
}

// Stats may be called from any goroutine.
func (g *Gate) Stats() export.WebConnections {
	g.mu.Lock()
	defer g.mu.Unlock()
	stats := export.WebConnections{Open: len(g.open)}
	for reason, n := range g.closed {
		stats.Closed = append(stats.Closed, export.ClosedConnections{Reason: closeReasonNames[reason], Count: n})
	}
	return stats
}

// guard puts the gate before a server's listener. Clients of a patient one may read as slowly as they like.
func (g *Gate) guard(l net.Listener, server *http.Server, patient bool) net.Listener {
	server.ConnState = g.setState
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, gatedOf(c))
	}
	return &gatedListener{Listener: l, gate: g, patient: patient}
}

// gatedListener accepts what its gate lets in.
type gatedListener struct {
	net.Listener
	gate    *Gate
	patient bool
	open    int // the gate's
}

// Accept implements net.Listener.
func (l *gatedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g := l.gate.admit(c, l); g != nil {
			return g, nil
		}
		_ = c.Close() // counted as refused
	}
}

// admit returns nil where there is no room, and none can be made.
func (g *Gate) admit(c net.Conn, l *gatedListener) *gatedConn {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.leaving >= leavingMax {
		g.left.Wait()
	}
	if l.open >= connectionsEachMax && !g.makeRoom(l) || len(g.open) >= connectionsMax && !g.makeRoom(nil) {
		g.closed[closedRefused]++
		return nil
	}
	gated := &gatedConn{Conn: c, gate: g, from: l, since: time.Now()}
	if b, ok := c.(interface {
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	}); ok && !l.patient {
		_ = errors.Join(b.SetReadBuffer(receiveBytes), b.SetWriteBuffer(sendBytes)) // fails where the client is gone
	}
	g.open[gated] = struct{}{}
	l.open++
	return gated
}

// makeRoom closes one of the listener's connections, or of all where it is nil.
func (g *Gate) makeRoom(l *gatedListener) bool {
	now := time.Now()
	var chosen *gatedConn
	var least reluctance
	for c := range g.open {
		if l != nil && c.from != l {
			continue
		}
		r := c.reluctance(now)
		if r < neverCloses && (chosen == nil || r < least || r == least && c.since.Before(chosen.since)) {
			chosen, least = c, r
		}
	}
	if chosen == nil {
		return false
	}
	g.forget(chosen)
	g.leaving++
	if least == waitsForRequest {
		g.closed[closedIdle]++
	} else {
		chosen.countSlow()
	}
	_ = chosen.Conn.Close() // its server's goroutine finds out, and ends
	return true
}

func (g *Gate) forget(c *gatedConn) {
	delete(g.open, c)
	c.from.open--
}

// setState is an http.Server's ConnState: a connection is active from the end of a request's head to that of its answer.
func (g *Gate) setState(c net.Conn, s http.ConnState) {
	gated := gatedOf(c)
	if gated == nil || s != http.StateActive && s != http.StateIdle {
		return
	}
	g.mu.Lock()
	gated.active, gated.since = s == http.StateActive, time.Now()
	g.mu.Unlock()
}

// gatedOf returns the accepted connection below one of a server's; nil where there is none.
func gatedOf(c net.Conn) *gatedConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	gated, _ := c.(*gatedConn)
	return gated
}

type connKey struct{}

// connOf returns the connection that a request came on; nil where no gate was in front of it.
func connOf(ctx context.Context) *gatedConn {
	gated, _ := ctx.Value(connKey{}).(*gatedConn)
	return gated
}

// gatedConn is an accepted connection.
type gatedConn struct {
	net.Conn
	gate *Gate
	from *gatedListener

	active bool // the gate's, as the next two
	since  time.Time
	ended  bool
	slow   bool

	writing atomic.Int64 // since when a piece waits to be taken, Unix ns; 0: none does
	stream  atomic.Int64 // the same of a piece of an HTTP/2 stream, for which the client need not stop the connection

	mu    sync.Mutex
	until time.Time // the server's deadline for writes; zero: none
}

// reluctance is how unlike a connection is to be closed for a newer one.
type reluctance int

const (
	waitsForRequest reluctance = iota
	doesNotRead
	takesLong
	neverCloses
)

func (c *gatedConn) reluctance(now time.Time) reluctance {
	stalls := func(since int64) bool { return since != 0 && now.UnixNano()-since >= int64(slowAfter) }
	switch {
	case !c.active:
		return waitsForRequest
	case c.from.patient:
		return neverCloses
	case stalls(c.writing.Load()), stalls(c.stream.Load()):
		return doesNotRead
	case now.Sub(c.since) >= requestLeast:
		return takesLong
	}
	return neverCloses
}

// setStream says since when a piece of a stream waits; the zero time: one was taken. While any stream of a connection moves on, its client reads.
func (c *gatedConn) setStream(since time.Time) {
	switch {
	case c == nil:
	case since.IsZero():
		c.stream.Store(0)
	default:
		c.stream.CompareAndSwap(0, since.UnixNano())
	}
}

// Write hands over piece by piece. A client has some time for each: who reads on is not cut off by the size of an answer.
func (c *gatedConn) Write(p []byte) (n int, err error) {
	if c.from.patient {
		return c.Conn.Write(p)
	}
	for {
		now := time.Now()
		c.writing.Store(now.UnixNano())
		c.armWrite(now)
		m, err := c.Conn.Write(p[:min(len(p), pieceBytes)])
		c.writing.Store(0)
		n, p = n+m, p[m:]
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.gate.mu.Lock()
			c.countSlow()
			c.gate.mu.Unlock()
		}
		if err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// countSlow counts the connection once, with the gate's lock.
func (c *gatedConn) countSlow() {
	if !c.slow {
		c.slow = true
		c.gate.closed[closedSlow]++
	}
}

// armWrite sets the deadline of one piece.
func (c *gatedConn) armWrite(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	deadline := now.Add(stallTimeout)
	if !c.until.IsZero() && c.until.Before(deadline) {
		deadline = c.until
	}
	_ = c.Conn.SetWriteDeadline(deadline) // fails where the connection is closed, as the write does then
}

// SetWriteDeadline implements net.Conn. It holds for all pieces, and for one that is under way.
func (c *gatedConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *gatedConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite lets net/http say that no more comes, before it closes.
func (c *gatedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements net.Conn. The server calls it at the end, also of what was closed for a newer one.
func (c *gatedConn) Close() error {
	err := c.Conn.Close()
	g := c.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.ended {
		return err
	}
	c.ended = true
	if _, open := g.open[c]; open {
		g.forget(c)
	} else {
		g.leaving--
		g.left.Signal()
	}
	return err
}
