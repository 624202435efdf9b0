package http2

// Settings that say what the other end may send (RFC 9113, section 6.5.2).
const (
	settingTableSize = 1
	settingFrameSize = 5
)

// limitsMax is how many sizes may wait for an acknowledgement at once; of more the largest counts.
const limitsMax = 4

// limits are the table sizes of SETTINGS that were not acknowledged yet, oldest first: an encoder may use a size from its
// acknowledgement on, and must announce it in its next header block (RFC 7541, section 4.2).
type limits struct {
	sizes [limitsMax]uint64
	n     uint8
	extra uint8 // SETTINGS beyond, which will be acknowledged too
}

// unchanged is the size of SETTINGS that name none.
const unchanged = 1 << 62

// settings reads SETTINGS that d's sender sent: they are about what comes the other way.
func (s *Connections) settings(c *connection, d *direction, payload []byte) {
	other := c.other(d)
	if d.frame.has(flagAck) {
		d.limit = d.asked.acknowledged(d.limit)
		return
	}
	size := uint64(unchanged)
	for ; len(payload) >= 6; payload = payload[6:] {
		value := number(payload[2:])
		switch int(payload[0])<<8 | int(payload[1]) {
		case settingTableSize:
			size = uint64(value)
		case settingFrameSize:
			// Frames that were sent before this came may be as long as was allowed then.
			other.maxFrame = max(other.maxFrame, min(value, anyFrame))
		}
	}
	other.asked.add(size)
}

// add notes that an acknowledgement is due.
func (l *limits) add(size uint64) {
	if l.n < limitsMax {
		l.sizes[l.n] = size
		l.n++
		return
	}
	l.extra = min(l.extra, 254) + 1
	if last := &l.sizes[limitsMax-1]; *last == unchanged || size != unchanged && size > *last {
		*last = size
	}
}

// acknowledged returns the limit that the oldest SETTINGS make of it.
func (l *limits) acknowledged(limit uint64) uint64 {
	if l.n == 0 {
		return limit
	}
	if l.n == limitsMax && l.extra > 0 { // which one this is nobody knows
		l.extra--
		return max(limit, l.largest())
	}
	size := l.sizes[0]
	copy(l.sizes[:], l.sizes[1:l.n])
	l.n--
	if size == unchanged {
		return limit
	}
	return size
}

// largest returns the largest size that waits.
func (l *limits) largest() (size uint64) {
	for _, v := range l.sizes[:l.n] {
		if v != unchanged {
			size = max(size, v)
		}
	}
	return size
}
