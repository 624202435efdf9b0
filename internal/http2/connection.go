package http2

import (
	"net/netip"

	"github.com/perfagent/perfagent/internal/wire"
)

// connection is one connection.
type connection struct {
	id            uint64
	base, count   uint32 // Seq of the first request, and how many began
	role          wire.Role
	joined        bool // in its middle
	turned        bool // it was found out that the requests go the other way
	ignored       bool // it is none of HTTP/2, or its end has come
	local, remote netip.AddrPort
	last          int64 // instant of the newest fragment

	directions          [2]direction // that of which fragments say that it has the requests first
	requests, responses *direction
	streams             streamTable

	lastID uint32 // of the client's streams the newest that began
	// Streams that began in a gap of the requests have numbers between these; the upper one is 0 until the next request.
	hiddenFrom, hiddenTo uint32
	blind                bool // there was such a gap
}

// state is where in a direction the next byte falls.
type state uint8

const (
	stateOpening state = iota // in the preface, or in the head of an upgrade; of responses: before the first byte
	stateUpgrade              // in a head of HTTP/1
	stateBody                 // in the body of the request that asks for the upgrade
	stateHead                 // in a frame's head
	statePayload              // in a frame's payload
	stateLost                 // anywhere
)

// direction follows the bytes of one direction.
type direction struct {
	next     uint64 // position of the next fragment
	state    state
	request  bool // the requests' direction
	have     uint8
	head     [frameHead]byte // the bytes of a frame's head so far
	frame    frame
	left     uint64   // of the payload, or of the body of an upgrade's request
	kept     uint64   // of these, how many are captured, where fragments leave the others out
	found    bool     // the place was found again, and no header block has begun since
	blurred  bool     // the stream and the flags in head are not known
	instants moment   // of the first byte of the frame, or of the head of HTTP/1
	begun    moment   // of the first byte of the header block
	gaps     uint32   // how often the place was lost
	padding  uint32   // of a DATA frame
	prefix   bool     // the first byte of a padded DATA frame is still to come
	payload  gathered // of a frame that comes in pieces
	block    gathered // of header fragments up to END_HEADERS
	inBlock  bool     // CONTINUATION follows
	owner    uint32   // the stream of the block, of PUSH_PROMISE the promised one
	opener   frame    // the frame that began the block
	table    table
	limit    uint64 // the largest dynamic table that the peer allows
	asked    limits // sizes that this direction's receiver has asked for and that were not acknowledged yet
	maxFrame uint32 // the longest payload that the peer allows
}

const (
	// anySize and anyFrame are the limits of a connection whose settings were not seen.
	anySize  = 1<<32 - 1
	anyFrame = 1<<24 - 1
)

// turn is done where the first headers of a connection that was joined show that its ends are the other way round: who is the
// server was presumed by the ports.
func (c *connection) turn() {
	c.turned = true
	c.requests, c.responses = c.responses, c.requests
	c.requests.request, c.responses.request = true, false
	if c.role == wire.RoleServer {
		c.role = wire.RoleClient
	} else {
		c.role = wire.RoleServer
	}
}

// moment is when and by whom a byte was moved.
type moment struct {
	at, arrived int64
	pid         uint32
	flags       wire.Flags
	comm        [16]byte
}

// momentOf is that of a fragment's first byte.
func momentOf(f *wire.Fragment) moment {
	return moment{f.At, f.Arrived, f.PID, f.Flags & (wire.FlagUnix | wire.FlagOlder | wire.FlagUnreadable), f.Comm}
}

// first returns the earliest instant that is known of the byte.
func (m *moment) first() int64 {
	if m.arrived != 0 {
		return m.arrived
	}
	return m.at
}

// gathered are bytes that come in pieces, up to the first of them that is missing.
type gathered struct {
	bytes  []byte
	holed  bool // some are missing
	active bool
}

// cleared returns an empty direction with the memory of d.
func (d *direction) cleared() direction {
	return direction{payload: gathered{bytes: d.payload.bytes[:0]}, block: gathered{bytes: d.block.bytes[:0]}, table: d.table}
}

// memory is how many bytes a connection has in tables and partial frames.
func (c *connection) memory() (n int) {
	for _, d := range [...]*direction{c.requests, c.responses} {
		n += cap(d.payload.bytes) + cap(d.block.bytes) + d.table.memory()
	}
	return n + len(c.streams.slots)*8
}

// other returns the opposite direction.
func (c *connection) other(d *direction) *direction {
	if d.request {
		return c.responses
	}
	return c.requests
}

// unsure tells whether the end of a stream may have been missed.
func (c *connection) unsure(st *stream) bool {
	return st.requestGaps != c.requests.gaps || st.responseGaps != c.responses.gaps
}

// hides tells whether a stream that is not known may have begun in a gap.
func (c *connection) hides(id uint32) bool {
	return c.blind && id > c.hiddenFrom && (c.hiddenTo == 0 || id < c.hiddenTo)
}

// sweep looks at the streams of a connection.
func (s *Connections) sweep(c *connection, now, deadline int64) {
	for i := 0; i < len(c.streams.slots); i++ {
		st := c.streams.slots[i]
		if st == nil || st.reported || now-st.last < deadline {
			continue
		}
		switch {
		case st.answered: // the rest of its request does not come
			s.conclude(c, st)
		case c.unsure(st):
			s.lose(wire.LostDesync, 1)
			st.reported = true
		case !st.responding:
			s.cutOff(c, st, wire.ClassTimeout, now)
			st.reported = true
			continue
		default: // a response may be silent for long
			continue
		}
		s.remove(c, st)
		i-- // another may have moved here
	}
}

// close ends a connection: what has no whole response is aborted.
func (s *Connections) close(c *connection, f *wire.Fragment) {
	half := f.Flags&wire.FlagHalf != 0
	for i := 0; i < len(c.streams.slots); {
		st := c.streams.slots[i]
		if st == nil || half && st.answered && !st.reported {
			i++
			continue
		}
		s.endOf(c, st, f.At)
		s.remove(c, st) // another may have moved here
	}
	if half {
		return
	}
	s.forget(c)
}

// endOf settles a stream whose connection has ended.
func (s *Connections) endOf(c *connection, st *stream, at int64) {
	switch {
	case st.reported:
	case st.answered:
		s.conclude(c, st)
	case c.unsure(st):
		s.lose(wire.LostDesync, 1)
	default:
		st.ex.Flags |= wire.FlagClosed
		s.cutOff(c, st, wire.ClassAborted, at)
	}
}

// abandon counts what a connection still owes.
func (s *Connections) abandon(c *connection, loss wire.Loss) {
	for _, st := range c.streams.slots {
		switch {
		case st == nil || st.reported:
		case st.answered:
			st.requestUnsure = true
			s.conclude(c, st)
		default:
			s.lose(loss, 1)
		}
	}
}

// ignore stops following a connection that does not speak HTTP/2. What began on it was no request of this protocol.
func (s *Connections) ignore(c *connection) {
	for _, st := range c.streams.slots {
		if st != nil && !st.reported {
			s.stats.Requests--
		}
	}
	s.clear(c)
	c.ignored = true
	if s.opts.Ignored != nil {
		s.opts.Ignored(c.id)
	}
}

// clear gives the streams of a connection back.
func (s *Connections) clear(c *connection) {
	for i, st := range c.streams.slots {
		if st != nil {
			s.release(st)
			c.streams.slots[i] = nil
		}
	}
	c.streams.n = 0
}

// forget removes a connection. A spare one keeps little: what it has beyond that is given back.
func (s *Connections) forget(c *connection) {
	s.clear(c)
	delete(s.conns, c.id)
	if len(s.spareConns) < spareMax && c.memory() <= spareConnBytes {
		s.spareConns = append(s.spareConns, c)
		return
	}
	s.stats.Bytes -= c.memory()
}

// spareConnBytes is the most that a spare connection keeps for the next one: the tables of a client of one service.
const spareConnBytes = 8 << 10
