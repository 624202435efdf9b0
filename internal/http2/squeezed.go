package http2

import "github.com/perfagent/perfagent/internal/wire"

// What squeezed fragments keep of a frame's payload: see Options.Squeezed.
const (
	KeptData  = 8        // of DATA: the length of its padding, and the head of a message of gRPC
	KeptOther = 16 << 10 // of any other frame
)

// squeezed returns how much of a frame's payload squeezed fragments have.
func (h *frame) squeezed() uint64 {
	if h.kind == kindData {
		return min(uint64(h.length), KeptData)
	}
	return min(uint64(h.length), KeptOther)
}

// FrameWord tells where in a frame a squeezed fragment begins, so that behind one that was lost the framing goes on:
//
//	bits  0 to 23   bytes of the current frame's payload that are left
//	     24 to 27   bytes of a frame's head that have passed
//	     28 to 29   a FramePlace
//	     32 to 63   the first four bytes of that head, as far as they have passed, the lowest first; without a head under way how
//	                many of the bytes that are left are kept
type FrameWord uint64

// FramePlace is how sure the rest of a FrameWord is.
type FramePlace uint8

// The places; of any but these nothing is known.
const (
	FrameKnown    FramePlace = iota
	FramePresumed            // an operation begins, and so, presumably, a frame
	FrameLost                // the place is not known before the next operation
)

// Place returns how sure the rest is.
func (w FrameWord) Place() FramePlace { return FramePlace(w >> 28 & 3) }

// got returns how many bytes of a frame's head have passed.
func (w FrameWord) got() uint8 { return uint8(w >> 24 & 15) }

// rest returns how many bytes are left of a payload, and how many of these are kept.
func (w FrameWord) rest() (kept, left uint64) {
	left = uint64(w & (1<<24 - 1))
	return min(uint64(w>>32), left), left
}

// place takes a direction to where w says that a fragment begins. The frame under way is not known: it is passed over.
func (d *direction) place(w FrameWord, f *wire.Fragment) {
	d.state, d.have, d.found, d.blurred = stateHead, 0, true, false
	if n := w.got(); n > 0 && n < frameHead {
		d.have, d.blurred, d.instants = n, n > 4, momentOf(f)
		for i := range 4 {
			d.head[i] = byte(w >> (32 + 8*i))
		}
		clear(d.head[4:])
		return
	}
	if kept, left := w.rest(); left > 0 {
		d.state, d.left, d.kept = statePayload, left, kept
		d.frame = frame{length: uint32(left), kind: kindNone}
		d.payload.drop()
	}
}
