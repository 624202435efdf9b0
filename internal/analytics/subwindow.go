package analytics

import (
	"encoding/binary"
	"math"
)

// A sub-window is what an entry counted between two ticks. It is kept as a record of bytes, because most cells of a
// histogram are empty most of the time, and most counts are small:
//
//	record = size  tick  shift  tally  cells        all uvarint, shift one byte
//	size   = bytes behind it
//	tick   = start of the sub-window, in ticks since the windows' origin
//	tally  = the fields of a tally, in their order
//	cells  = { 0 gap-1:2 count-1:5 }                small numbers: one byte, bits from the highest
//	       | { 1 gap:7 [gap] count }…               or any: a gap of 0 stands for a uvarint that follows
//	gap    = cells since the one before, the first from -1
//
// With shift s the cells 2^s·i … 2^s·(i+1)-1 of a histogram are one, i: estimates get coarser, counts and sums stay exact.
// Records never leave the process, so what reads them trusts them.

// shiftMax is the coarsest resolution: one cell for each power of two.
const shiftMax = Schema

// tally is what is counted of a sub-window beside the histogram of durations.
type tally [tallyFields]uint64

const (
	tallyExchanges = iota
	tallyFailures
	tallyTimeouts   // nobody answered in time
	tallyUntimed    // without a duration
	tallyUnanswered // with a duration, and without any response
	tallyDurationNS
	tallyUnqueued // without a queue phase
	tallyQueueNS
	tallyUnsizedRequests // without a size
	tallyRequestBytes
	tallyUnsizedResponses
	tallyResponseBytes
	tallyFields
)

func (t *tally) add(o *tally) {
	for i := range t {
		t[i] += o[i]
	}
}

// addCounts adds what was counted.
func (t *tally) addCounts(c *Counts) {
	var n uint64
	for i := range c.Series {
		s := &c.Series[i]
		count := s.Duration.count + s.Untimed
		n += count
		t[tallyUntimed] += s.Untimed
		if s.unanswered() {
			t[tallyUnanswered] += s.Duration.count
		}
		t[tallyDurationNS] += s.Duration.sum
		if s.Failed() { // Other among them: results beyond the limit, of which nothing is known
			t[tallyFailures] += count
		}
		if s.Late {
			t[tallyTimeouts] += count
		}
	}
	t[tallyExchanges] += n
	t[tallyUnqueued] += n - min(n, c.Queue.count)
	t[tallyQueueNS] += c.Queue.sum
	t[tallyUnsizedRequests] += n - min(n, c.RequestSize.count)
	t[tallyRequestBytes] += c.RequestSize.sum
	t[tallyUnsizedResponses] += n - min(n, c.ResponseSize.count)
	t[tallyResponseBytes] += c.ResponseSize.sum
}

// cells are the counts of a histogram of durations, laid out to add to. Outside from…to-1 all are zero.
type cells struct {
	n        [cellsMax]uint64
	from, to int
	shift    uint
}

// reset empties the cells and sets their resolution.
func (c *cells) reset(shift uint) {
	clear(c.n[c.from:c.to])
	c.from, c.to, c.shift = 0, 0, shift
}

func (c *cells) add(i int, n uint64) {
	c.include(i, i+1)
	c.n[i] += n
}

// include extends the part that may hold counts.
func (c *cells) include(from, to int) {
	if c.from == c.to {
		c.from, c.to = from, to
		return
	}
	c.from, c.to = min(c.from, from), max(c.to, to)
}

// addHistogram adds a histogram of nanoseconds to cells with shift 0. A duration of 0 counts as the shortest.
func (c *cells) addHistogram(h *Histogram) {
	if h.zeros > 0 {
		c.add(0, h.zeros)
	}
	if len(h.low) == 0 {
		return
	}
	base := int(h.base)
	from, to := h.used()
	if from == to {
		return
	}
	c.include(base+from, base+to)
	for i := from; i < to; i++ {
		c.n[base+i] += h.at(uint(i))
	}
}

// coarsen makes the resolution that of shift, or leaves a coarser one as it is.
func (c *cells) coarsen(shift uint) {
	if shift <= c.shift {
		return
	}
	by := shift - c.shift
	c.shift = shift
	if c.from == c.to {
		return
	}
	for i := c.from; i < c.to; i++ { // i>>by <= i, so what is written was read
		n := c.n[i]
		c.n[i] = 0
		c.n[i>>by] += n
	}
	c.from, c.to = c.from>>by, (c.to-1)>>by+1
}

// addTo adds the cells to others of shift 0, each at its middle.
func (c *cells) addTo(all *cells) {
	half := (1 << c.shift) / 2
	for i := c.from; i < c.to; i++ {
		if n := c.n[i]; n != 0 {
			all.add(min(i<<c.shift+half, cellsMax-1), n)
		}
	}
}

// quantiles sets values[i] to the duration of rank ranks[i] in nanoseconds; the ranks are ascending. A rank beyond the
// counts gives +Inf, one below 1 the shortest duration.
func (c *cells) quantiles(ranks []uint64, values []float64) {
	k := 0
	var seen uint64
	for i := c.from; i < c.to && k < len(ranks); i++ {
		n := c.n[i]
		if n == 0 {
			continue
		}
		for seen += n; k < len(ranks) && ranks[k] <= seen; k++ {
			values[k] = c.middle(i)
		}
	}
	for ; k < len(ranks); k++ {
		values[k] = math.Inf(1)
	}
}

// middle is Histogram.middle for a cell of these.
func (c *cells) middle(i int) float64 {
	s := &scales[Nanoseconds]
	first, last := i<<c.shift, min((i+1)<<c.shift, cellsMax)-1
	lower, upper := 1., float64(s.limit[last])
	if first > 0 {
		lower = float64(s.limit[first-1] + 1)
	}
	return 2 * lower * upper / (lower + upper)
}

// shiftError is the worst relative error of an estimate from cells of the resolution: 1.09 % for shift 0.
func shiftError(shift uint) float64 {
	ratio := math.Exp2(float64(int(1)<<shift) / bucketsPerOctave)
	return (ratio - 1) / (ratio + 1)
}

// record is one sub-window as it was read from a log.
type record struct {
	tick  int64
	shift uint
	body  []byte // tally and cells
}

// nextRecord reads a record's head and returns what follows the record.
func nextRecord(b []byte) (r record, rest []byte) {
	size, i := uvarint(b, 0)
	end := i + int(size)
	tick, i := uvarint(b, i)
	r.tick, r.shift, r.body = int64(tick), uint(b[i]), b[i+1:end]
	return r, b[end:]
}

// addTo adds the record to both, whose resolution must not be finer than the record's.
func (r *record) addTo(t *tally, c *cells) {
	b, i := r.body, 0
	for f := range t {
		var n uint64
		n, i = uvarint(b, i)
		t[f] += n
	}
	by := (c.shift - r.shift) & 63
	first, cell := -1, -1
	for i < len(b) {
		gap, n := 0, uint64(0)
		if x := b[i]; x < 0x80 {
			gap, n, i = int(x>>5)+1, uint64(x&31)+1, i+1
		} else {
			gap, n, i = cellAt(b, i)
		}
		cell += gap
		if first < 0 {
			first = cell
		}
		c.n[cell>>by] += n
	}
	if first >= 0 {
		c.include(first>>by, cell>>by+1)
	}
}

// cellAt reads the gap and the count at i, and returns where the next are.
func cellAt(b []byte, i int) (gap int, n uint64, next int) {
	x := b[i]
	i++
	if x < 0x80 {
		return int(x>>5) + 1, uint64(x&31) + 1, i
	}
	gap = int(x & 0x7f)
	if gap == 0 {
		n, i = uvarint(b, i)
		gap = int(n)
	}
	n, i = uvarint(b, i)
	return gap, n, i
}

func appendCell(dst []byte, gap int, n uint64) []byte {
	switch {
	case gap <= 4 && n <= 32:
		return append(dst, byte(gap-1)<<5|byte(n-1))
	case gap < 0x80:
		dst = append(dst, 0x80|byte(gap))
	default:
		dst = binary.AppendUvarint(append(dst, 0x80), uint64(gap))
	}
	return binary.AppendUvarint(dst, n)
}

// appendBody appends what follows a record's size.
func appendBody(dst []byte, tick int64, t *tally, c *cells) []byte {
	dst = binary.AppendUvarint(dst, uint64(tick))
	dst = append(dst, byte(c.shift))
	for _, n := range t {
		dst = binary.AppendUvarint(dst, n)
	}
	last := -1
	for i := c.from; i < c.to; i++ {
		if n := c.n[i]; n != 0 {
			dst = appendCell(dst, i-last, n)
			last = i
		}
	}
	return dst
}

// uvarint reads at i and returns where it stopped.
func uvarint(b []byte, i int) (uint64, int) {
	if n := b[i]; n < 0x80 {
		return uint64(n), i + 1
	}
	n, size := binary.Uvarint(b[i:])
	return n, i + size
}
