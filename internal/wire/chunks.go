package wire

// ChunkState is where in a chunked body (RFC 9112, section 7.1) the next byte falls. The kernel side has the same states
// (bpf/maps.h); others of its follow behind these and are no place inside a body.
type ChunkState uint8

const (
	ChunkSize    ChunkState = iota // the first or a further digit of a size
	ChunkLine                      // the rest of a size's line
	ChunkData                      // data
	ChunkEnd                       // the line end behind data
	ChunkTrailer                   // the start of a trailer's line, or of the last, empty one
	ChunkCR                        // behind a CR at such a start
	ChunkField                     // inside a trailer's line
)

// Chunks is a place in a chunked body in one word, as the kernel side writes it: in the upper byte a state, in the second
// whether the current size has digits, in the other six the size so far or what is left of it.
type Chunks uint64

// State returns where the next byte falls; ok is false where the word names no place inside a body.
func (c Chunks) State() (s ChunkState, ok bool) {
	s = ChunkState(c >> 56)
	return s, s <= ChunkField
}

// Digits returns how many digits the current size has, of which the kernel side knows none and some: 0 or 1.
func (c Chunks) Digits() uint8 { return uint8(c >> 48) }

// Size returns the size of the current chunk so far, in bytes; in ChunkData what is left of it.
func (c Chunks) Size() uint64 { return uint64(c & (1<<48 - 1)) }
