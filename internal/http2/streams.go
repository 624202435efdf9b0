package http2

import "math/bits"

// streamTable finds the streams of a connection by their number: open addressing, a power of two of slots. seed is an odd
// number that peers do not know, so that they cannot have all streams fall together.
type streamTable struct {
	slots []*stream
	n     int
}

// slotsMin is how many slots a connection with streams has at first.
const slotsMin = 8

func (t *streamTable) slot(id, seed uint32) int {
	return int(id * seed >> (32 - bits.Len32(uint32(len(t.slots)-1))))
}

// get returns the stream with this number, or nil.
func (t *streamTable) get(id, seed uint32) *stream {
	if t.n == 0 {
		return nil
	}
	for i := t.slot(id, seed); t.slots[i] != nil; i = (i + 1) & (len(t.slots) - 1) {
		if t.slots[i].id == id {
			return t.slots[i]
		}
	}
	return nil
}

// full tells whether put needs more slots: see grow.
func (t *streamTable) full() bool { return 4*(t.n+1) > 3*len(t.slots) }

// grow doubles the slots.
func (t *streamTable) grow(seed uint32) {
	old := t.slots
	t.slots, t.n = make([]*stream, max(2*len(old), slotsMin)), 0
	for _, st := range old {
		if st != nil {
			t.put(st, seed)
		}
	}
}

// put adds a stream, for which there must be a slot.
func (t *streamTable) put(st *stream, seed uint32) {
	i := t.slot(st.id, seed)
	for t.slots[i] != nil {
		i = (i + 1) & (len(t.slots) - 1)
	}
	t.slots[i] = st
	t.n++
}

// remove removes a stream and moves up those that its slot had driven away.
func (t *streamTable) remove(st *stream, seed uint32) {
	mask := len(t.slots) - 1
	i := t.slot(st.id, seed)
	for t.slots[i] != st {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; t.slots[j] != nil; j = (j + 1) & mask {
		if home := t.slot(t.slots[j].id, seed); (j-home)&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = nil
	t.n--
}
