// Package http2 understands HTTP/2 in clear, and gRPC on it, from pieces of the byte streams of both directions: frames, header
// blocks (HPACK) and the life of each stream. It may join a connection in its middle and may miss any bytes; what it then does
// not know it says, and never guesses. It reads observed bytes only, allocates nothing in the steady state, and trusts nothing.
// What it must be given, and how the kernel side can, is in docs/http2.md.
package http2

import (
	"math/rand/v2"
	"time"

	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// connectionsMax bounds how many connections are followed at once (about 700 bytes each, beside what bytesMax counts).
	connectionsMax = 4096
	// bytesMax bounds the memory of streams, tables and partial frames of all connections.
	bytesMax = 32 << 20
	// idleMax is how long a connection without streams stays known without a fragment: clients of gRPC keep theirs for hours,
	// and what was learned of a table is not learned again. Its end may have been missed.
	idleMax = time.Hour
	// quietMax is how long such a connection stays where there is no room for others.
	quietMax = time.Minute
	// refusedMax bounds how many refused connections are remembered, so that they are not taken up in their middle.
	refusedMax = 1 << 14
	// spareMax bounds how many unused objects of a kind are kept for the next one.
	spareMax = 1024
	// spareTextMax is the longest text that an unused stream keeps.
	spareTextMax = 1 << 10
)

// Options bound Connections and connect it to its surroundings; the zero value is sensible.
type Options struct {
	MaxConnections int           // followed at once; 0: 4096
	MaxBytes       int           // memory of streams, tables and partial frames; 0: 32 MiB
	MaxIdle        time.Duration // a connection without streams or fragments is forgotten after this; 0: an hour

	Lost    func(loss wire.Loss, n int) // told of exchanges that happened and are not reported; nil: nobody
	Failed  func(err *Failure)          // told of what was not understood; nil: nobody
	Ignored func(conn uint64)           // told once that a connection does not speak HTTP/2 after all; nil: nobody

	// Squeezed tells how bytes are left out of fragments: not at their end, but where a frame's payload is longer than what is
	// kept of it (KeptData, KeptOther). Data are the kept ones, one behind another, and Chunks is a FrameWord.
	Squeezed bool

	User *http.UserHeader // the header that tells users apart; nil: none
}

// Stats is what Connections holds and did.
type Stats struct {
	Connections, Streams int // followed now
	Bytes                int // memory of streams, tables and partial frames

	Requests uint64 // requests that began
	Reported uint64 // exchanges emitted
	Lost     uint64 // exchanges not emitted

	Frames    [kinds]uint64 // by their type's number in RFC 9113
	Others    uint64        // frames of other types
	DataBytes uint64        // of DATA, padding included
	Padding   uint64        // bytes of padding in DATA, where their number was captured
	Credit    uint64        // bytes of flow control credit that WINDOW_UPDATE granted, where captured
	Blocks    uint64        // header blocks decoded
	Unknown   uint64        // of these with references to what was sent before the connection was joined
	Gaps      uint64        // times that the place in a direction was lost
	Found     uint64        // times that it was found again
}

// Connections follows connections of HTTP/2, from fragments of both directions. One goroutine uses it.
//
// A fragment's Data are bytes as they were on the connection (unless they are squeezed: see Options); behind it Length-len(Data) bytes were not captured, and a Position
// that jumps tells of more. Such a hole inside the payload of a frame costs nothing but what stood there: of DATA only the number
// of bytes counts, of a header block the headers behind the hole are unknown, and with them all that its direction's dynamic table
// had. Where a hole may hide a frame's head, the direction is lost until one is found again beyond reasonable doubt (seek), and the
// books are kept as follows:
//
//   - a stream whose response began and goes on behind a gap is complete when its end is seen; the size is that of its
//     content-length, or unknown;
//   - one whose end was not seen when its connection ended, or when it was silent for the deadline, is lost (desync) if there was a
//     gap in either direction since it began: else it is aborted, or a timeout;
//   - a response on a stream that began in a gap of the requests is a lost exchange (desync).
//
// An exchange under way when a connection that is older than the agent is joined is not seen. A connection that finds no room
// is counted instead of followed: one loss (streams_full) for each HEADERS frame of a request in a fragment that begins with a
// frame. A stream for which there is no memory is lost alone, and its connection is followed further.
type Connections struct {
	opts    Options
	conns   map[uint64]*connection
	refused map[uint64]int64 // connections without room: the last fragment's instant
	stats   Stats
	seed    uint32 // of the tables of streams: odd, and not known to anybody
	full    bool   // no room was found since the last sweep

	emit  func(*Exchange) // of the current call
	hpack decoder
	names names

	spareStreams []*stream
	spareConns   []*connection
}

// New returns an empty Connections.
func New(opts Options) *Connections {
	if opts.MaxConnections == 0 {
		opts.MaxConnections = connectionsMax
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = bytesMax
	}
	if opts.MaxIdle == 0 {
		opts.MaxIdle = idleMax
	}
	s := &Connections{opts: opts, conns: map[uint64]*connection{}, refused: map[uint64]int64{}, seed: rand.Uint32() | 1}
	s.hpack.setUser(opts.User)
	return s
}

// Stats returns what s holds and did.
func (s *Connections) Stats() Stats {
	st := s.stats
	st.Connections = len(s.conns)
	for _, c := range s.conns {
		st.Streams += c.streams.n
	}
	return st
}

// EachActive calls visit, for every request of HTTP, and none of gRPC, that a server was sent and has not answered to its end,
// with the process that read it and its task name. What was reported has ended.
func (s *Connections) EachActive(visit func(pid uint32, comm *[16]byte)) {
	for _, c := range s.conns {
		if c.role != wire.RoleServer || c.streams.n == 0 {
			continue
		}
		for _, st := range c.streams.slots {
			if st != nil && !st.reported && !st.answered && st.loss == (wire.Loss{}) && st.ex.Convention == wire.ConventionHTTP {
				visit(st.ex.PID, &st.ex.Comm)
			}
		}
	}
}

// Fragment takes the next piece of a connection and calls emit for each exchange that it ends. The exchange is valid during
// the call only.
func (s *Connections) Fragment(f *wire.Fragment, emit func(*Exchange)) {
	s.emit = emit
	c := s.conns[f.Conn]
	if c == nil {
		if c = s.open(f); c == nil {
			s.refuse(f)
			return
		}
	}
	c.last = f.At
	if !c.ignored {
		s.pass(c, f)
	}
	if f.Flags&wire.FlagClosed != 0 {
		s.close(c, f)
	}
}

// pass has a fragment's direction take its bytes, and those that were lost in front of it.
func (s *Connections) pass(c *connection, f *wire.Fragment) {
	d := &c.directions[1]
	if f.Flags&wire.FlagRequestDirection != 0 {
		d = &c.directions[0]
	}
	p := piece{data: f.Data, length: max(f.Length, uint64(len(f.Data)))}
	if f.Position > d.next && (d.next > 0 || d.state != stateLost) {
		s.skip(c, d, f, f.Position-d.next)
	}
	d.next = max(d.next, f.Position) + p.length
	opening := d.state == stateOpening
	if d.state == stateLost && !s.find(c, d, f, &p) {
		return
	}
	for !c.ignored && s.leftOut(c, d, f, &p) && len(p.data) > 0 {
		p.take(s.step(c, d, f, p.data))
		if d.state != stateLost {
			continue
		}
		if !opening || !s.seek(d, &p) { // what follows is no better known than what led here
			return
		}
		opening = false
	}
	if p.length > 0 && !c.ignored {
		s.skip(c, d, f, p.length)
	}
}

// piece is what is left of a fragment: captured bytes, and how many they and those that were not captured are.
type piece struct {
	data   []byte
	length uint64
}

func (p *piece) take(n int) {
	p.data = p.data[n:]
	p.length -= uint64(n)
}

// leftOut passes over the bytes of a payload that squeezed fragments leave out in front of the next captured ones; false where
// the captured bytes cannot be what they are said to be.
func (s *Connections) leftOut(c *connection, d *direction, f *wire.Fragment, p *piece) bool {
	if !s.opts.Squeezed || d.state != statePayload || d.kept > 0 {
		return true
	}
	n := min(d.left, p.length-uint64(len(p.data)))
	if n < d.left && len(p.data) > 0 {
		s.misplace(c, d, ErrGap)
		return false
	}
	p.length -= n
	s.payloadSkipped(c, d, f, n)
	return true
}

// find finds the place in a direction again with a fragment; false where it does not tell. The kernel side's own word for it counts
// where it has followed the connection from its beginning; else it has presumed it, and evidence is asked for.
func (s *Connections) find(c *connection, d *direction, f *wire.Fragment, p *piece) bool {
	if !s.opts.Squeezed {
		return s.seek(d, p)
	}
	w := FrameWord(f.Chunks)
	if w.Place() == FramePresumed {
		return s.seek(d, p)
	}
	if w.Place() != FrameKnown || len(p.data) == 0 {
		return false
	}
	if c.joined {
		kept, left := w.rest()
		if at := uint64(kept); w.got() > 0 || at > uint64(len(p.data)) || left > p.length ||
			evidence(p.data[at:], p.length-left, true) < pointsBoundary {
			return false
		}
	}
	d.place(w, f)
	s.stats.Found++
	return true
}

// seek looks for a frame in a piece of a direction whose place is lost.
func (s *Connections) seek(d *direction, p *piece) bool {
	at, ok := seek(p.data, p.length, s.opts.Squeezed)
	if !ok {
		return false
	}
	p.take(at)
	d.state, d.have, d.found = stateHead, 0, true
	s.stats.Found++
	return true
}

// Sweep does what only the passing of time tells, at the monotonic instant now: it emits, once, requests without response
// that were silent for the deadline as "timeout" (a response that comes later is not reported again), settles what waits for bytes
// that may have been missed, and forgets connections that were idle.
func (s *Connections) Sweep(now int64, deadline time.Duration, emit func(*Exchange)) {
	s.emit = emit
	idle := int64(s.opts.MaxIdle)
	if s.full {
		idle, s.full = min(idle, int64(quietMax)), false
	}
	for _, c := range s.conns {
		if c.streams.n > 0 {
			s.sweep(c, now, int64(deadline))
		}
		if now-c.last >= idle && (c.streams.n == 0 || now-c.last >= int64(s.opts.MaxIdle)) {
			s.abandon(c, wire.LostDesync)
			s.forget(c)
		}
	}
	for conn, last := range s.refused {
		if now-last >= int64(quietMax) {
			delete(s.refused, conn)
		}
	}
}

// open makes room for a connection, or returns nil.
func (s *Connections) open(f *wire.Fragment) *connection {
	if _, refused := s.refused[f.Conn]; refused {
		return nil
	}
	if len(s.conns) >= s.opts.MaxConnections || s.stats.Bytes >= s.opts.MaxBytes {
		s.full = true
		return nil
	}
	var c *connection
	if n := len(s.spareConns); n > 0 {
		c, s.spareConns = s.spareConns[n-1], s.spareConns[:n-1]
	} else {
		c = &connection{}
	}
	*c = connection{
		id: f.Conn, base: f.Seq, role: f.Role, local: f.Local, remote: f.Remote, joined: f.Flags&wire.FlagOlder != 0 && f.Seq == 0,
		directions: [2]direction{c.directions[0].cleared(), c.directions[1].cleared()}, streams: streamTable{slots: c.streams.slots},
	}
	c.requests, c.responses = &c.directions[0], &c.directions[1]
	c.requests.request = true
	for _, d := range [...]*direction{c.requests, c.responses} {
		d.table.reset(!c.joined)
		d.limit, d.maxFrame = tableDefault, frameDefault
		if c.joined {
			d.state, d.limit, d.maxFrame = stateLost, anySize, anyFrame
		}
	}
	s.conns[f.Conn] = c
	return c
}

// refuse counts the requests of a connection without room: the HEADERS in a fragment that begins with a frame.
func (s *Connections) refuse(f *wire.Fragment) {
	if f.Flags&wire.FlagRequestDirection != 0 {
		n := 0
		data := f.Data
		if len(data) >= len(preface) && string(data[:len(preface)]) == preface {
			data = data[len(preface):]
		}
		for len(data) >= frameHead {
			h := parseFrame(data)
			if h.points(data[5]&0x80 != 0) == 0 {
				break
			}
			if h.kind == kindHeaders {
				n++
			}
			data = data[min(uint64(len(data)), frameHead+uint64(h.length)):]
		}
		s.stats.Requests += uint64(n)
		s.lose(wire.LostStreams, n)
	}
	switch _, known := s.refused[f.Conn]; {
	case f.Flags&wire.FlagClosed != 0:
		delete(s.refused, f.Conn)
	case known || len(s.refused) < refusedMax:
		s.refused[f.Conn] = f.At
	}
}

// lose counts n exchanges that are not reported.
func (s *Connections) lose(loss wire.Loss, n int) {
	if n == 0 {
		return
	}
	s.stats.Lost += uint64(n)
	if s.opts.Lost != nil {
		s.opts.Lost(loss, n)
	}
}

// failed tells of what was not understood.
func (s *Connections) failed(err *Failure) {
	if s.opts.Failed != nil {
		s.opts.Failed(err)
	}
}

// reserve accounts for n more bytes, or returns false where there is no room.
func (s *Connections) reserve(n int) bool {
	if s.stats.Bytes+n > s.opts.MaxBytes {
		return false
	}
	s.stats.Bytes += n
	return true
}
