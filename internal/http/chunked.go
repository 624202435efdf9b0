package http

import "github.com/perfagent/perfagent/internal/wire"

// chunked follows a chunked body (RFC 9112, section 7.1) over any split. The zero value stands at its beginning.
type chunked struct {
	state  wire.ChunkState
	digits uint8  // 1 where the current size has some
	remain uint64 // size so far; in ChunkData what is left of it
}

// chunkedAt returns the place that the kernel side names; ok is false where it names none inside a body.
func chunkedAt(place wire.Chunks) (c chunked, ok bool) {
	state, ok := place.State()
	return chunked{state: state, digits: place.Digits(), remain: place.Size()}, ok
}

// scan reads b and returns how many bytes of it belong to the body; done tells that the body ended there. Where ok is
// false b[n] cannot be part of a chunked body.
func (c *chunked) scan(b []byte) (n int, done, ok bool) {
	for n < len(b) {
		if c.state == wire.ChunkData {
			k := min(c.remain, uint64(len(b)-n))
			n += int(k)
			c.skip(k)
			continue
		}
		if !c.step(b[n]) {
			return n, false, false
		}
		n++
		if c.state == wire.ChunkTrailer && c.digits == doneMark {
			return n, true, true
		}
	}
	return n, false, true
}

// doneMark in digits marks the end of the body.
const doneMark = 255

// step reads a byte that is not data.
func (c *chunked) step(b byte) bool {
	switch c.state {
	case wire.ChunkSize:
		return c.size(b)
	case wire.ChunkLine:
		if b == '\n' {
			c.sized()
		}
	case wire.ChunkEnd:
		if b == '\n' {
			*c = chunked{}
		} else if b != '\r' {
			return false
		}
	case wire.ChunkTrailer, wire.ChunkCR:
		switch {
		case b == '\n':
			c.state, c.digits = wire.ChunkTrailer, doneMark
		case b == '\r' && c.state == wire.ChunkTrailer:
			c.state = wire.ChunkCR
		default:
			c.state = wire.ChunkField
		}
	case wire.ChunkField:
		if b == '\n' {
			c.state = wire.ChunkTrailer
		}
	}
	return true
}

// size reads a byte of a size line, of a number that 64 bits hold.
func (c *chunked) size(b byte) bool {
	d, ok := wire.HexDigit(b)
	switch {
	case ok && c.remain>>60 == 0:
		c.remain = c.remain<<4 | uint64(d)
		c.digits = 1
	case ok || c.digits == 0:
		return false
	case b == '\n':
		c.sized()
	case b == ';' || b == ' ' || b == '\t' || b == '\r':
		c.state = wire.ChunkLine
	default:
		return false
	}
	return true
}

// sized ends a size line.
func (c *chunked) sized() {
	c.state, c.digits = wire.ChunkData, 0
	if c.remain == 0 {
		c.state = wire.ChunkTrailer
	}
}

// skip passes over n bytes that were not captured. It returns false where they are not all data of the current chunk,
// so that the place is lost.
func (c *chunked) skip(n uint64) bool {
	if c.state != wire.ChunkData || n > c.remain {
		return false
	}
	if c.remain -= n; c.remain == 0 {
		c.state = wire.ChunkEnd
	}
	return true
}
