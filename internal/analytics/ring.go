package analytics

import (
	"encoding/binary"

	"github.com/perfagent/perfagent/internal/wire"
)

// Sub-windows come in three lengths. The finest are kept for the last minute; six of them make one of a minute, and five
// of those one of five minutes. Windows take the finest ones near their end and coarser ones further back.
const (
	tiers = 3
	// ticksPerMinute and ticksPerFive are the lengths of the coarser ones, in ticks.
	ticksPerMinute = 6
	ticksPerFive   = 30
)

var (
	tierTicks = [tiers]int64{1, ticksPerMinute, ticksPerFive}
	// tierKeep is how many ticks back a window may reach for records of the tier: a minute; 15 minutes and what is missing
	// to a whole one; 60 minutes and what is missing to a whole five.
	tierKeep = [tiers]int64{6, 90 + 5, 360 + 29}
)

// ring holds an entry's sealed sub-windows. An entry that is quiet adds nothing.
type ring struct {
	key    Key
	logs   [tiers]recordLog
	shift  uint8 // the resolution of new records
	source wire.RouteSource
	born   int64 // the tick of the first sub-window, also after a silence of the whole ring
	last   int64 // the tick of the latest one
	grades
}

// recordLog is one record after another, the oldest first.
type recordLog []byte

// append appends a record. Memory is reused.
func (l recordLog) append(body []byte) recordLog {
	need := len(l) + uvarintSize(uint64(len(body))) + len(body)
	l = withRoom(l, need)
	return append(binary.AppendUvarint(l, uint64(len(body))), body...)
}

// spareRoom: a log that grows gets an eighth more than it needs, a compromise between copies of it and unused memory.
const spareRoom = 8

// withRoom returns b with a capacity of at least need. Where memory must grow, it does by a part more than needed.
func withRoom(b []byte, need int) []byte {
	if need <= cap(b) {
		return b
	}
	return append(make([]byte, 0, need+need/spareRoom), b...)
}

// dropBefore removes the records that start before the tick.
func (l recordLog) dropBefore(tick int64) recordLog {
	rest := []byte(l)
	for len(rest) > 0 {
		r, next := nextRecord(rest)
		if r.tick >= tick {
			break
		}
		rest = next
	}
	if len(rest) == 0 {
		return nil // a quiet endpoint costs nothing
	}
	if len(rest) < len(l) {
		l = l[:copy(l, rest)]
	}
	return l
}

func uvarintSize(n uint64) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// size returns the bytes of all records.
func (r *ring) size() int {
	n := 0
	for _, l := range r.logs {
		n += len(l)
	}
	return n
}

// capacity returns the bytes that are allocated for records.
func (r *ring) capacity() int {
	n := 0
	for _, l := range r.logs {
		n += cap(l)
	}
	return n
}

func (r *ring) empty() bool { return len(r.logs[0])+len(r.logs[1])+len(r.logs[2]) == 0 }

// span is a part of a window that records of one tier cover: those that start at from or later, and before to.
type span struct {
	tier     int
	from, to int64
}

// within returns the records of a span as a log.
func (r *ring) within(s span) []byte {
	l := []byte(r.logs[s.tier])
	from := len(l)
	for rest := l; len(rest) > 0; {
		rec, next := nextRecord(rest)
		if rec.tick >= s.to {
			return l[min(from, len(l)-len(rest)) : len(l)-len(rest)]
		}
		if rec.tick >= s.from {
			from = min(from, len(l)-len(rest))
		}
		rest = next
	}
	return l[from:]
}

// parts are the records of the spans of a window, span by span.
type parts [tiers][]byte

func (r *ring) parts(spans []span) (p parts) {
	for i, s := range spans {
		p[i] = r.within(s)
	}
	return p
}

// sum replaces what the scratch holds by the sum of the records, at the resolution of the coarsest. It reports whether
// there are any.
func (s *scratch) sum(p *parts) bool {
	shift, any := uint(0), false
	for _, rest := range p {
		for len(rest) > 0 {
			var rec record
			rec, rest = nextRecord(rest)
			shift, any = max(shift, rec.shift), true
		}
	}
	s.tally = tally{}
	s.cells.reset(shift)
	for _, rest := range p {
		for len(rest) > 0 {
			var rec record
			rec, rest = nextRecord(rest)
			rec.addTo(&s.tally, &s.cells)
		}
	}
	return any
}

// scratch is the memory with which records are made; one serves all rings.
type scratch struct {
	tally tally
	cells cells
	body  []byte
}

// seal appends what the entry did in the sub-window that begins at the tick.
func (r *ring) seal(tick int64, counts *Counts, s *scratch) {
	s.tally = tally{}
	s.cells.reset(0)
	s.tally.addCounts(counts)
	for i := range counts.Series {
		s.cells.addHistogram(&counts.Series[i].Duration)
	}
	s.cells.coarsen(uint(r.shift))
	r.append(0, tick, s)
}

// append appends what the scratch holds as a record of the tier.
func (r *ring) append(tier int, tick int64, s *scratch) {
	if r.empty() {
		r.born = tick
	}
	s.body = appendBody(s.body[:0], tick, &s.tally, &s.cells)
	r.logs[tier] = r.logs[tier].append(s.body)
	if tier == 0 {
		r.last = tick
	}
}

// roll makes the coarser records that end at the tick, and drops what no window reaches any more.
func (r *ring) roll(tick int64, s *scratch) {
	for tier := 1; tier < tiers; tier++ {
		step := tierTicks[tier]
		if tick%step != 0 {
			break
		}
		if s.sum(&parts{r.within(span{tier - 1, tick - step, tick})}) {
			r.append(tier, tick-step, s)
		}
	}
	for tier := range r.logs {
		if len(r.logs[tier]) > 0 {
			r.logs[tier] = r.logs[tier].dropBefore(tick - tierKeep[tier])
		}
	}
}

// finerBelow is from which part of its bytes downwards an entry's new records get finer: a step finer has at most twice the
// cells, so it fits with room to spare, and is not taken back at once.
const finerBelow = 4

// fit makes the records coarser until they fit into the bytes, and new ones finer where there is plenty of room.
func (r *ring) fit(bytes int, s *scratch) {
	size := r.size()
	if size < bytes/finerBelow && r.shift > 0 {
		r.shift--
	}
	for size > bytes && r.shift < shiftMax {
		r.shift++
		for tier, l := range r.logs {
			r.logs[tier] = l.coarsen(uint(r.shift), s)
		}
		size = r.size()
	}
}

// coarsen returns a copy of the log whose records have at least the shift.
func (l recordLog) coarsen(shift uint, s *scratch) recordLog {
	var to recordLog
	for rest := []byte(l); len(rest) > 0; {
		var rec record
		rec, rest = nextRecord(rest)
		s.load(&rec, shift)
		s.body = appendBody(s.body[:0], rec.tick, &s.tally, &s.cells)
		to = to.append(s.body)
	}
	return to
}

// load replaces what the scratch holds by the record, at the shift or a coarser one.
func (s *scratch) load(rec *record, shift uint) {
	s.tally = tally{}
	s.cells.reset(max(shift, rec.shift))
	rec.addTo(&s.tally, &s.cells)
}

// merge adds the records of o.
func (r *ring) merge(o *ring, s *scratch) {
	r.born, r.last = min(r.born, o.born), max(r.last, o.last)
	for tier := range r.logs {
		r.logs[tier] = mergeLogs(r.logs[tier], o.logs[tier], s)
	}
}

// mergeLogs returns the records of two logs, those of the same time as one.
func mergeLogs(a, b recordLog, s *scratch) recordLog {
	var to recordLog
	for restA, restB := []byte(a), []byte(b); len(restA) > 0 || len(restB) > 0; {
		var recA, recB record
		nextA, nextB := restA, restB
		if len(restA) > 0 {
			recA, nextA = nextRecord(restA)
		}
		if len(restB) > 0 {
			recB, nextB = nextRecord(restB)
		}
		tick := recA.tick
		if len(restA) == 0 || len(restB) > 0 && recB.tick < tick {
			tick = recB.tick
		}
		s.tally = tally{}
		s.cells.reset(max(recA.shift, recB.shift))
		if len(restA) > 0 && recA.tick == tick {
			recA.addTo(&s.tally, &s.cells)
			restA = nextA
		}
		if len(restB) > 0 && recB.tick == tick {
			recB.addTo(&s.tally, &s.cells)
			restB = nextB
		}
		s.body = appendBody(s.body[:0], tick, &s.tally, &s.cells)
		to = to.append(s.body)
	}
	return to
}
