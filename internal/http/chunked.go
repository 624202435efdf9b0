package http

import "github.com/perfagent/perfagent/internal/wire"

// chunkState is where in a chunked body (RFC 9112, section 7.1) the next byte falls. The kernel side has the same states, in the
// same order (bpf/maps.h).
type chunkState uint8

const (
	chunkSize    chunkState = iota // first or further hexadecimal digits
	chunkExt                       // the rest of a size line
	chunkData                      // remain bytes of data
	chunkEnd                       // the line end behind data
	chunkTrailer                   // the beginning of a trailer line, or of the last, empty one
	chunkCR                        // behind a CR at such a beginning
	chunkField                     // inside a trailer line
)

// chunked follows a chunked body over any split. The zero value stands at its beginning.
type chunked struct {
	state  chunkState
	digits uint8  // of the current size
	remain uint64 // size so far; in chunkData what is left of it
}

// The parts of what the kernel side says of its place in a body (wire.Fragment.Chunks).
const (
	chunksStateShift  = 56
	chunksDigitsShift = 48
	chunksSizeMask    = 1<<chunksDigitsShift - 1
)

// chunkedAt returns the place that the kernel side names; ok is false where it names none inside a body.
func chunkedAt(word uint64) (c chunked, ok bool) {
	c = chunked{state: chunkState(word >> chunksStateShift), digits: uint8(word >> chunksDigitsShift), remain: word & chunksSizeMask}
	return c, c.state <= chunkField
}

// scan reads b and returns how many bytes of it belong to the body; done tells that the body ended there. Where ok is
// false b[n] cannot be part of a chunked body.
func (c *chunked) scan(b []byte) (n int, done, ok bool) {
	for n < len(b) {
		if c.state == chunkData {
			k := min(c.remain, uint64(len(b)-n))
			n += int(k)
			c.skip(k)
			continue
		}
		if !c.step(b[n]) {
			return n, false, false
		}
		n++
		if c.state == chunkTrailer && c.digits == doneMark {
			return n, true, true
		}
	}
	return n, false, true
}

// doneMark in digits marks the end of the body; no size has that many.
const doneMark = 255

// step reads a byte that is not data.
func (c *chunked) step(b byte) bool {
	switch c.state {
	case chunkSize:
		return c.size(b)
	case chunkExt:
		if b == '\n' {
			c.sized()
		}
	case chunkEnd:
		if b == '\n' {
			*c = chunked{}
		} else if b != '\r' {
			return false
		}
	case chunkTrailer, chunkCR:
		switch {
		case b == '\n':
			c.state, c.digits = chunkTrailer, doneMark
		case b == '\r' && c.state == chunkTrailer:
			c.state = chunkCR
		default:
			c.state = chunkField
		}
	case chunkField:
		if b == '\n' {
			c.state = chunkTrailer
		}
	}
	return true
}

// size reads a byte of a size line. Sixteen digits are the most that 64 bits hold.
func (c *chunked) size(b byte) bool {
	d, ok := wire.HexDigit(b)
	switch {
	case ok && c.digits < 16:
		c.remain = c.remain<<4 | uint64(d)
		c.digits++
	case ok || c.digits == 0:
		return false
	case b == '\n':
		c.sized()
	case b == ';' || b == ' ' || b == '\t' || b == '\r':
		c.state = chunkExt
	default:
		return false
	}
	return true
}

// sized ends a size line.
func (c *chunked) sized() {
	c.state, c.digits = chunkData, 0
	if c.remain == 0 {
		c.state = chunkTrailer
	}
}

// skip passes over n bytes that were not captured. It returns false where they are not all data of the current chunk,
// so that the place is lost.
func (c *chunked) skip(n uint64) bool {
	if c.state != chunkData || n > c.remain {
		return false
	}
	if c.remain -= n; c.remain == 0 {
		c.state = chunkEnd
	}
	return true
}
