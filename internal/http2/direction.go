package http2

import (
	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// preface begins what a client sends (RFC 9113, section 3.4).
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	// blockBytesMax bounds a header block that comes in pieces; servers refuse more than 8 to 64 KiB.
	blockBytesMax = 64 << 10
	// payloadBytesMax bounds what is kept of a control frame that comes in pieces: 40 settings.
	payloadBytesMax = 240
)

// step takes bytes from the beginning of data and returns how many.
func (s *Connections) step(c *connection, d *direction, f *wire.Fragment, data []byte) int {
	switch d.state {
	case stateOpening:
		return s.openingBytes(c, d, f, data)
	case stateUpgrade:
		return s.upgradeBytes(c, d, f, data)
	case stateBody:
		n := int(min(d.left, uint64(len(data))))
		s.upgradeBody(c, d, f, uint64(n))
		return n
	case stateHead:
		return s.headBytes(c, d, f, data)
	}
	n := int(min(d.left, uint64(len(data))))
	if s.opts.Squeezed {
		n = int(min(d.kept, uint64(n)))
		d.kept -= uint64(n)
	}
	s.payloadBytes(c, d, f, data[:n])
	return n
}

// skip passes over n bytes that were not captured.
func (s *Connections) skip(c *connection, d *direction, f *wire.Fragment, n uint64) {
	if d.state == stateBody {
		k := min(n, d.left)
		s.upgradeBody(c, d, f, k)
		n -= k
	}
	if d.state == statePayload {
		k := min(n, d.left)
		s.payloadSkipped(c, d, f, k)
		n -= k
	}
	if n > 0 && d.state != stateLost {
		s.misplace(c, d, ErrGap)
	}
}

// misplace gives up the place in a direction: what was passed over may have been anything.
func (s *Connections) misplace(c *connection, d *direction, err *Failure) {
	s.failed(err)
	s.stats.Gaps++
	d.state, d.gaps, d.have, d.inBlock, d.blurred = stateLost, d.gaps+1, 0, false, false
	d.payload.drop()
	d.block.drop()
	d.table.forget()
	d.limit, d.maxFrame = anySize, anyFrame // settings of the other end may be acknowledged unseen
	d.asked = limits{}
	c.other(d).limit, c.other(d).maxFrame = anySize, anyFrame
	c.other(d).asked = limits{}
	if d.request && (c.lastID > 0 || !c.joined) { // else nothing has begun that was seen
		if !c.blind || c.hiddenTo != 0 {
			c.hiddenFrom = c.lastID
		}
		c.blind, c.hiddenTo = true, 0
	}
}

// headBytes reads a frame's head.
func (s *Connections) headBytes(c *connection, d *direction, f *wire.Fragment, data []byte) int {
	n := frameHead
	if d.have == 0 {
		if len(data) < frameHead {
			d.instants = momentOf(f)
			d.have = uint8(copy(d.head[:], data))
			return len(data)
		}
		if d.frame = parseFrame(data); d.frame.opens() {
			d.instants = momentOf(f)
		}
	} else {
		n = copy(d.head[d.have:], data)
		if d.have += uint8(n); d.have < frameHead {
			return n
		}
		d.frame, d.have = parseFrame(d.head[:]), 0
	}
	if !s.beginFrame(c, d) {
		s.misplace(c, d, ErrFrame)
		return n
	}
	if d.left == 0 {
		s.endFrame(c, d, f, nil, false)
	}
	return n
}

// beginFrame makes ready for a payload; false where the head is none.
func (s *Connections) beginFrame(c *connection, d *direction) bool {
	h, kept := &d.frame, d.frame.squeezed()
	if d.blurred {
		d.blurred, h.kind = false, kindNone
	}
	if h.length > d.maxFrame || !h.valid() {
		return false
	}
	if d.found && h.kind == kindContinuation { // of a header block that began unseen
		h.kind = kindNone
	}
	if d.inBlock != (h.kind == kindContinuation) || d.inBlock && h.stream != d.opener.stream {
		return false
	}
	if h.kind < kinds {
		s.stats.Frames[h.kind]++
	} else {
		s.stats.Others++
	}
	d.state, d.left, d.kept = statePayload, uint64(h.length), kept
	d.payload.active = false
	d.padding, d.prefix = 0, false
	switch h.kind {
	case kindData:
		d.prefix = h.has(flagPadded)
		s.stats.DataBytes += uint64(h.length)
	case kindHeaders, kindPushPromise:
		d.begun, d.found = d.instants, false
	}
	return true
}

// payloadBytes takes captured bytes of a payload.
func (s *Connections) payloadBytes(c *connection, d *direction, f *wire.Fragment, data []byte) {
	whole := !d.payload.active && uint64(len(data)) == d.left && d.left == uint64(d.frame.length)
	d.left -= uint64(len(data))
	switch {
	case d.frame.kind == kindData:
		s.dataBytes(c, d, f, data)
	case whole:
		s.endFrame(c, d, f, data, false)
		return
	default:
		s.gather(&d.payload, data, d.frame.keep())
	}
	if d.left == 0 {
		s.endFrame(c, d, f, d.payload.bytes, d.payload.holed)
	}
}

// payloadSkipped passes over bytes of a payload that were not captured.
func (s *Connections) payloadSkipped(c *connection, d *direction, f *wire.Fragment, n uint64) {
	if n == 0 {
		return
	}
	d.left -= n
	if d.frame.kind == kindData {
		s.dataSkipped(c, d, n)
	} else {
		d.payload.hole()
	}
	if d.left == 0 {
		s.endFrame(c, d, f, d.payload.bytes, d.payload.holed)
	}
}

// opens tells whether a frame begins a header block, so that its first byte's instant is asked for.
func (h *frame) opens() bool { return h.kind == kindHeaders || h.kind == kindPushPromise }

// keep is how much is kept of a payload that comes in pieces.
func (h *frame) keep() int {
	switch h.kind {
	case kindHeaders, kindPushPromise, kindContinuation:
		return blockBytesMax
	case kindReset, kindSettings, kindGoAway, kindWindowUpdate:
		return payloadBytesMax
	}
	return 0
}

// gather keeps bytes of something that comes in pieces.
func (s *Connections) gather(g *gathered, data []byte, most int) {
	if !g.active {
		g.bytes, g.holed, g.active = g.bytes[:0], false, true
	}
	if g.holed {
		return
	}
	if room := most - len(g.bytes); len(data) > room {
		data, g.holed = data[:max(room, 0)], true
	}
	if need := len(g.bytes) + len(data); need > cap(g.bytes) {
		size := max(2*cap(g.bytes), 512)
		for size < need {
			size *= 2
		}
		if !s.reserve(size - cap(g.bytes)) {
			g.holed = true
			return
		}
		g.bytes = append(make([]byte, 0, size), g.bytes...)
	}
	g.bytes = append(g.bytes, data...)
}

// hole notes that bytes are missing.
func (g *gathered) hole() {
	if !g.active {
		g.bytes, g.active = g.bytes[:0], true
	}
	g.holed = true
}

// drop empties it.
func (g *gathered) drop() { g.bytes, g.holed, g.active = g.bytes[:0], false, false }

// endFrame does what a frame says, of whose payload the bytes were captured, up to the first one that was not (holed). Of DATA
// the payload has been seen to.
func (s *Connections) endFrame(c *connection, d *direction, f *wire.Fragment, payload []byte, holed bool) {
	h := d.frame
	d.state = stateHead
	switch h.kind {
	case kindData:
		if h.has(flagEndStream) {
			s.endStream(c, d, f, h.stream)
		}
	case kindHeaders, kindPushPromise:
		s.openBlock(c, d, f, payload, holed)
	case kindContinuation:
		s.gatherBlock(d, payload, holed)
		if h.has(flagEndHeaders) {
			s.endBlock(c, d, f, d.block.bytes, d.block.holed)
		}
	case kindNone:
		d.table.forget()
	case kindReset:
		s.reset(c, d, f, payload)
	case kindSettings:
		s.settings(c, d, payload)
	case kindGoAway:
		s.goAway(c, d, f, payload)
	case kindWindowUpdate:
		if len(payload) == 4 {
			s.stats.Credit += uint64(number(payload) & (1<<31 - 1))
		}
	}
	d.payload.active = false
}

// number reads the four bytes at the beginning of b.
func number(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// openBlock begins a header block with the payload of HEADERS or PUSH_PROMISE.
func (s *Connections) openBlock(c *connection, d *direction, f *wire.Fragment, payload []byte, holed bool) {
	d.opener = d.frame
	block, owner, ok := fragmentOf(&d.frame, payload, holed)
	if !ok && !holed {
		s.misplace(c, d, ErrFrame)
		return
	}
	d.owner = owner
	if d.frame.has(flagEndHeaders) {
		s.endBlock(c, d, f, block, holed)
		return
	}
	d.inBlock = true
	d.block.drop()
	s.gatherBlock(d, block, holed)
}

// fragmentOf takes padding, priority and the promised stream away from a payload; owner is the stream that the headers are of. Of
// a payload with a hole what was captured of the fragment is returned. ok is false where it is too short for what it should hold.
func fragmentOf(h *frame, payload []byte, holed bool) (block []byte, owner uint32, ok bool) {
	front, pad := 0, 0
	if h.has(flagPadded) {
		if front = 1; len(payload) == 0 {
			return nil, h.stream, false
		}
		pad = int(payload[0])
	}
	owner = h.stream
	if h.kind == kindPushPromise {
		if len(payload) < front+4 {
			return nil, 0, false
		}
		owner = number(payload[front:]) & (1<<31 - 1)
		front += 4
	} else if h.has(flagPriority) {
		front += priorityHead
	}
	end := int(h.length) - pad
	if holed {
		end = min(end, len(payload))
	}
	if end < front {
		return nil, owner, false
	}
	return payload[front:end], owner, true
}

// gatherBlock keeps a fragment of a block that others follow.
func (s *Connections) gatherBlock(d *direction, block []byte, holed bool) {
	s.gather(&d.block, block, blockBytesMax)
	if holed {
		d.block.hole()
	}
}

// endBlock decodes a header block and hands it to its stream.
func (s *Connections) endBlock(c *connection, d *direction, f *wire.Fragment, block []byte, holed bool) {
	d.inBlock = false
	s.stats.Blocks++
	err := s.hpack.decode(&d.table, block, !holed, max(d.limit, d.asked.largest()))
	s.stats.Bytes += s.hpack.inserted
	h := &s.hpack.headers
	if h.unknown > 0 {
		s.stats.Unknown++
	}
	if err != nil || holed || s.stats.Bytes > s.opts.MaxBytes {
		if err == nil && holed {
			err = ErrBlockCut
		}
		if err != nil {
			s.failed(err)
		}
		s.starve(d)
	}
	if c.joined && !c.turned && c.count == 0 && (d.request && h.has(fieldStatus) || !d.request && h.has(fieldMethod)) && d.opener.kind == kindHeaders {
		c.turn()
	}
	end := d.opener.has(flagEndStream)
	switch {
	case d.opener.kind == kindPushPromise:
		s.promised(c, d, f, h)
	case d.request:
		s.requestHead(c, d, f, h, end)
	default:
		s.responseHead(c, d, f, h, end)
	}
	d.block.drop()
}

// starve forgets a direction's dynamic table, and gives its memory back where there is too little.
func (s *Connections) starve(d *direction) {
	if s.stats.Bytes > s.opts.MaxBytes {
		s.stats.Bytes -= d.table.memory()
		d.table = table{}
	}
	d.table.forget()
}
