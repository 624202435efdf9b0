package http2

const (
	// entryOverhead is what an entry counts beside its name and value (RFC 7541, section 4.1).
	entryOverhead = 32
	// tableDefault is a dynamic table's size before anybody says otherwise (RFC 9113, section 6.5.2).
	tableDefault = 4096
	// tableJoinedMax is how much of a table is remembered whose size was announced before the decoder joined.
	tableJoinedMax = 16 << 10
	// tableBytesMax bounds the part of a dynamic table that is remembered, in the RFC's count; browsers ask for as much. Of
	// a larger table the oldest entries are unknown.
	tableBytesMax = 64 << 10
	// entryBytes is what an entry takes here, beside its value.
	entryBytes = 16
)

// table is the dynamic table of one direction, as far as it was seen. Indices count from the newest entry, so what was added
// since the decoder joined resolves, whatever was there before: that is only known to be unknown. Nobody refers to an entry
// that the encoder has evicted, so a table that holds too many is never wrong, and one that holds too few is only ignorant.
//
// Of a header that is not read only the size is kept, so that a table of 4 KiB takes some hundred bytes; what is not kept may
// hold credentials. The zero value is not ready: see reset.
type table struct {
	entries []entry // a ring, its length a power of two
	added   uint32  // how many were ever added, modulo 2^32; the newest is in front of it
	n       uint32  // how many of these are there
	size    uint32  // of those, in the RFC's count
	max     uint32  // of that
	exact   bool    // max is the encoder's own
	whole   bool    // no older entry stands in the encoder's table

	texts []byte // a ring of the values, each in one piece; its length is a power of two
	head  uint32 // where the next one goes, modulo that length
}

// entry is a header of the dynamic table.
type entry struct {
	size       uint32 // in the RFC's count
	at         uint32 // of the value in texts, modulo its length
	length     uint16 // of the value, as far as it is kept
	nameLength uint16
	field      field
}

// reset makes t the table of a connection's beginning, or, where that was missed, one of which nothing is known.
func (t *table) reset(beginning bool) {
	t.n, t.size, t.head = 0, 0, 0
	t.max, t.exact, t.whole = tableDefault, beginning, beginning
	if !beginning {
		t.max = tableJoinedMax
	}
}

// forget is done where bytes of a header block were missed: they may have added entries, so no index is known any more, or
// changed the size.
func (t *table) forget() { t.reset(false) }

// resize is done by a dynamic table size update.
func (t *table) resize(max uint64) {
	t.exact = max <= tableBytesMax
	t.max = uint32(min(max, tableBytesMax))
	for t.size > t.max {
		t.evict()
	}
	if max == 0 {
		t.n, t.whole = 0, true // whatever was there has gone
	}
}

// get returns an entry, 1 being the newest one; false where it is not known.
func (t *table) get(i uint64) (*entry, bool) {
	if i == 0 || i > uint64(t.n) {
		return nil, false
	}
	return &t.entries[(t.added-uint32(i))&uint32(len(t.entries)-1)], true
}

// value returns the kept value of an entry. It is overwritten when others are added.
func (t *table) value(e *entry) []byte {
	if e.length == 0 {
		return nil
	}
	at := e.at & uint32(len(t.texts)-1)
	return t.texts[at : at+uint32(e.length)]
}

// evict removes the oldest entry.
func (t *table) evict() {
	e, _ := t.get(uint64(t.n))
	t.size -= e.size
	t.n--
	t.whole = t.whole && t.exact // else it is not gone, only forgotten
}

// add adds a header with the lengths of its name and value, and what is kept of the value. It returns by how many bytes the
// table's memory grew.
func (t *table) add(f field, name, value uint64, kept []byte) (grown int) {
	size := name + value + entryOverhead
	if size > uint64(t.max) { // it empties the table and is not added (RFC 7541, section 4.4)
		t.n, t.size, t.whole = 0, 0, t.exact
		return 0
	}
	for uint64(t.size)+size > uint64(t.max) {
		t.evict()
	}
	if int(t.n) == len(t.entries) {
		grown = t.growEntries()
	}
	at, more := t.room(uint32(len(kept)))
	copy(t.texts[at&uint32(max(len(t.texts), 1)-1):], kept)
	t.entries[t.added&uint32(len(t.entries)-1)] = entry{uint32(size), at, uint16(len(kept)), uint16(name), f}
	t.added++
	t.n++
	t.size += uint32(size)
	return grown + more
}

// growEntries doubles the ring. A table of 64 KiB has 2,048 entries at most, as each counts 32 bytes at least.
func (t *table) growEntries() int {
	old, size := t.entries, max(2*len(t.entries), 8)
	t.entries = make([]entry, size)
	for i := range t.n {
		j := t.added - t.n + i
		t.entries[j&uint32(size-1)] = old[j&uint32(len(old)-1)]
	}
	return (size - len(old)) * entryBytes
}

// room finds a place for n bytes behind the newest value, in one piece, and makes the ring larger where there is none.
func (t *table) room(n uint32) (at uint32, grown int) {
	size, tail := uint32(len(t.texts)), t.head
	if oldest, ok := t.get(uint64(t.n)); ok {
		tail = oldest.at
	}
	at = t.head
	if n == 0 {
		return at, 0
	}
	if size > 0 && at&(size-1)+n > size {
		at += size - at&(size-1)
	}
	if at+n-tail > size {
		return t.growTexts(n)
	}
	t.head = at + n
	return at, 0
}

// growTexts moves all values to a larger ring, the oldest first, and makes room for n bytes behind them.
func (t *table) growTexts(n uint32) (at uint32, grown int) {
	need := int(n)
	for i := range t.n {
		e, _ := t.get(uint64(i) + 1)
		need += int(e.length)
	}
	size := max(len(t.texts), textsMin)
	for size < 2*need {
		size *= 2
	}
	texts := make([]byte, 0, size)
	for i := t.n; i > 0; i-- {
		e, _ := t.get(uint64(i))
		value := t.value(e)
		e.at = uint32(len(texts))
		texts = append(texts, value...)
	}
	at, grown = uint32(len(texts)), size-len(t.texts)
	t.texts, t.head = texts[:size], at+n
	return at, grown
}

// textsMin is the smallest ring of values: what a client of one service says of itself.
const textsMin = 256

// memory is how many bytes t has.
func (t *table) memory() int { return len(t.entries)*entryBytes + len(t.texts) }
