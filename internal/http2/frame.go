package http2

import "encoding/binary"

// kind is a frame's type (RFC 9113, section 6).
type kind uint8

const (
	kindData kind = iota
	kindHeaders
	kindPriority
	kindReset
	kindSettings
	kindPushPromise
	kindPing
	kindGoAway
	kindWindowUpdate
	kindContinuation
	kinds // those of RFC 9113
	// kindPriorityUpdate is RFC 9218's. Others are passed over.
	kindPriorityUpdate kind = 0x10
	// kindNone stands for a frame whose head was not seen.
	kindNone kind = 0xff
)

// Flags of frames.
const (
	flagEndStream  = 0x01 // DATA, HEADERS
	flagAck        = 0x01 // SETTINGS, PING
	flagEndHeaders = 0x04 // HEADERS, PUSH_PROMISE, CONTINUATION
	flagPadded     = 0x08 // DATA, HEADERS, PUSH_PROMISE
	flagPriority   = 0x20 // HEADERS
)

// flagsOf are the flags that a kind of frame has; others must be ignored where they stand, and are a sign against a frame
// where one is looked for.
var flagsOf = [kinds]uint8{
	kindData: flagEndStream | flagPadded, kindHeaders: flagEndStream | flagEndHeaders | flagPadded | flagPriority,
	kindSettings: flagAck, kindPushPromise: flagEndHeaders | flagPadded, kindPing: flagAck, kindContinuation: flagEndHeaders,
}

const (
	frameHead = 9
	// frameDefault is the longest payload before a peer allows more (RFC 9113, section 6.5.2).
	frameDefault = 16 << 10
	priorityHead = 5
)

// frame is a frame's head.
type frame struct {
	length uint32 // of the payload
	kind   kind
	flags  uint8
	stream uint32
}

// parseFrame reads nine bytes.
func parseFrame(b []byte) frame {
	w := binary.BigEndian.Uint64(b)
	return frame{uint32(w >> 40), kind(w >> 32), uint8(w >> 24), uint32(w&0xffffff)<<8&(1<<31-1) | uint32(b[8])}
}

func (f *frame) has(flag uint8) bool { return f.flags&flag != 0 }

// valid tells whether a frame with this head may be: what is none makes a peer close the connection (RFC 9113, section 6).
func (f *frame) valid() bool {
	pad := uint32(0)
	if f.kind <= kindPushPromise && f.flags&flagPadded != 0 && flagsOf[f.kind]&flagPadded != 0 {
		pad = 1
	}
	switch f.kind {
	case kindData:
		return f.stream != 0 && f.length >= pad
	case kindHeaders:
		if f.has(flagPriority) {
			pad += priorityHead
		}
		return f.stream != 0 && f.length >= pad
	case kindContinuation:
		return f.stream != 0
	case kindPriority:
		return f.stream != 0 && f.length == priorityHead
	case kindReset:
		return f.stream != 0 && f.length == 4
	case kindSettings:
		return f.stream == 0 && f.length%6 == 0 && (f.length == 0 || !f.has(flagAck))
	case kindPushPromise:
		return f.stream != 0 && f.length >= 4+pad
	case kindPing:
		return f.stream == 0 && f.length == 8
	case kindGoAway:
		return f.stream == 0 && f.length >= 8
	case kindWindowUpdate:
		return f.length == 4
	}
	return true
}

// Evidence that a frame begins somewhere, in points: see seek.
const (
	pointsBoundary = 2 // needed where an operation begins, as most frames do
	pointsInside   = 4 // needed anywhere else
)

// points tells how much a head, as the bytes have it, speaks for being one: none where it cannot be one.
func (f *frame) points(reserved bool) int {
	switch {
	case reserved, f.length > frameDefault, !f.valid():
		return 0
	case f.kind == kindPriorityUpdate:
		return 1
	case f.kind >= kinds, f.flags&^flagsOf[f.kind] != 0:
		return 0
	case f.kind == kindData, f.kind == kindHeaders, f.kind == kindPushPromise, f.kind == kindContinuation:
		return 1
	}
	return 2 // whose length and stream are nearly fixed
}

// seek looks in the captured beginning of an operation of so many bytes for a place where a frame begins beyond reasonable doubt:
// from there heads follow each other at the distances that they say, up to the operation's very end or for several in a row.
// Nine arbitrary bytes look like DATA or HEADERS once in some 2^20; an end that is hit exactly is worth as much again. In squeezed
// bytes only an operation's beginning is looked at, since elsewhere nobody knows what was left out.
func seek(data []byte, length uint64, squeezed bool) (at int, ok bool) {
	if evidence(data, length, squeezed) >= pointsBoundary {
		return 0, true
	}
	for at = 1; at+frameHead <= len(data) && !squeezed; at++ {
		if data[at] == 0 && evidence(data[at:], length-uint64(at), false) >= pointsInside {
			return at, true
		}
	}
	return 0, false
}

// evidence adds up what speaks for frames from the beginning of data on.
func evidence(data []byte, length uint64, squeezed bool) (points int) {
	for pos, passed := uint64(0), uint64(0); pos+frameHead <= uint64(len(data)) && points < pointsInside; {
		f := parseFrame(data[pos:])
		n := f.points(data[pos+5]&0x80 != 0)
		if n == 0 {
			return 0
		}
		points += n
		kept := uint64(f.length)
		if squeezed {
			kept = f.squeezed()
		}
		pos += frameHead + kept
		if passed += frameHead + uint64(f.length); passed == length {
			return points + 2
		}
	}
	return points
}
