package analytics

import (
	"iter"
	"math"
	"math/bits"
)

// Schema is the resolution of every histogram: 2^Schema buckets per power of two, so neighbouring bounds differ by the
// factor 2^(1/32) and an estimate in the middle of a bucket is wrong by at most 1.09 %.
const Schema = 5

const (
	bucketsPerOctave = 1 << Schema

	// segmentsPerOctave is into how many equal parts the look-up table splits a power of two. With 64 a segment is at
	// most .73 buckets wide, so it holds at most one bucket bound, and at most one classic bound beside it.
	segmentBits       = 6
	segmentsPerOctave = 1 << segmentBits

	// cellsMax bounds the cells of a scale: 63 octaves of 32 buckets, the rounding at both ends, and the classic bounds.
	cellsMax = 2080

	// limits is the size of the table of cells, a power of two so that its index needs no check.
	limits = 4096

	// windowStep is how many cells a histogram's window grows at a time, a compromise between reallocations and
	// unused room: 16 cells are half an octave and 32 bytes.
	windowStep = 16
)

// Unit is what a histogram's integers count.
type Unit uint8

const (
	// Nanoseconds are exported as seconds; buckets are exact in seconds.
	Nanoseconds Unit = iota
	// Bytes are exported as they are.
	Bytes
)

// DurationBounds are the classic bucket bounds of durations, in seconds.
var DurationBounds = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60,
}

// SizeBounds are the classic bucket bounds of sizes, in bytes. The first one tells messages without a body.
var SizeBounds = []float64{0, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20, 1 << 30}

// octaveBounds are the upper bounds of the buckets in [0.5, 1): 2^(k/32-1), correctly rounded.
var octaveBounds = [bucketsPerOctave]float64{
	0.5, 0.5109485743270583, 0.5221368912137069, 0.5335702003384118,
	0.5452538663326288, 0.5571933712979462, 0.5693943173783458, 0.5818624293887887,
	0.5946035575013605, 0.6076236799902345, 0.620928906036742, 0.6345254785958666,
	0.6484197773255048, 0.6626183215798707, 0.6771277734684463, 0.691954940981916,
	0.7071067811865476, 0.7225904034885233, 0.7384130729697497, 0.7545822137967114,
	0.7711054127039704, 0.7879904225539432, 0.8052451659746271, 0.8228777390769825,
	0.8408964152537145, 0.859309649061239, 0.8781260801866497, 0.8973545375015536,
	0.9170040432046712, 0.93708381705515, 0.9576032806985737, 0.9785720620877001,
}

// Histogram is a base-2 exponential histogram of non-negative integers that is exact to merge. Its zero value counts
// nanoseconds and is ready to use; NewHistogram makes one of another unit. It is not safe for concurrent use.
//
// Bucket i holds the values v (in the exported unit: seconds or bytes) with 2^((i-1)/32) < v <= 2^(i/32): the buckets of
// Prometheus' native histograms and of OTLP. A nanosecond is no power of two of a second, so buckets cannot be told from
// the bits of the integer alone; a table holds the largest integer of each bucket (see scale).
//
// Counts live in cells. A cell is a bucket, or one of the two parts into which a classic bound cuts a bucket; so classic
// and native buckets are sums of whole cells, both exact, at no cost while counting. Counts are kept for a contiguous window
// of cells, 16 bits each, with another 32 bits allocated once the first cell reaches 65,536.
type Histogram struct {
	// What Add needs comes first, in 64 bytes.
	low   []uint16 // low 16 bits of the counts of the cells base, base+1…
	base  int32
	unit  Unit
	count uint64
	sum   uint64
	min   uint64
	max   uint64

	zeros uint64
	high  []uint32 // the bits above low; nil or as long as low
}

// NewHistogram returns an empty histogram of the unit.
func NewHistogram(u Unit) Histogram { return Histogram{unit: u} }

// Add counts one value; a negative one counts as 0.
func (h *Histogram) Add(value int64) {
	n := uint64(max(value, 0))
	if n < h.min || n > h.max {
		h.widen(n)
	}
	h.count++
	h.sum += n
	if n == 0 {
		h.zeros++
		return
	}
	c := scales[h.unit&1].cell(n)
	i := uint(c - int(h.base))
	if i >= uint(len(h.low)) {
		h.grow(c, c)
		i = uint(c - int(h.base))
	}
	h.low[i]++
	if h.low[i] == 0 {
		h.carry(i, 1)
	}
}

// widen takes n for the smallest or the largest value, or both. It is a function of its own because it is seldom called.
func (h *Histogram) widen(n uint64) {
	if h.count == 0 {
		h.min = n
	}
	h.min = min(h.min, n)
	h.max = max(h.max, n)
}

// Merge adds all values of o, which must have the same unit. The result is the same as if every value had been added
// to h.
func (h *Histogram) Merge(o *Histogram) {
	if o.count == 0 {
		return
	}
	if h.unit != o.unit {
		panic("analytics: merging histograms of different units")
	}
	if h.count == 0 {
		h.min = o.min
	}
	h.min, h.max = min(h.min, o.min), max(h.max, o.max)
	h.count += o.count
	h.sum += o.sum
	h.zeros += o.zeros
	if len(o.low) == 0 {
		return
	}
	h.grow(int(o.base), int(o.base)+len(o.low)-1)
	h.addCells(o, 0, len(o.low))
}

// Count returns the number of values.
func (h *Histogram) Count() uint64 { return h.count }

// Zeros returns the number of values that were 0.
func (h *Histogram) Zeros() uint64 { return h.zeros }

// Unit returns what the values count.
func (h *Histogram) Unit() Unit { return h.unit }

// Min returns the smallest value, exactly, in nanoseconds or bytes; 0 when empty.
func (h *Histogram) Min() uint64 { return h.min }

// Max returns the largest value, exactly, in nanoseconds or bytes; 0 when empty.
func (h *Histogram) Max() uint64 { return h.max }

// Sum returns the sum of all values in the exported unit: seconds or bytes.
func (h *Histogram) Sum() float64 { return float64(h.sum) / scales[h.unit&1].perUnit }

// Quantile estimates the q-quantile (0 <= q <= 1), in nanoseconds or bytes: the value of rank ceil(q*Count), with a
// relative error of at most 1.09 %. It returns NaN when the histogram is empty.
func (h *Histogram) Quantile(q float64) float64 {
	if h.count == 0 || math.IsNaN(q) {
		return math.NaN()
	}
	rank := uint64(math.Ceil(q * float64(h.count)))
	if rank <= 1 {
		return float64(h.min)
	}
	if rank >= h.count {
		return float64(h.max)
	}
	seen := h.zeros
	if rank <= seen {
		return 0
	}
	for i := range uint(len(h.low)) {
		if seen += h.at(i); seen >= rank {
			return h.middle(int(h.base) + int(i))
		}
	}
	return float64(h.max)
}

// Bounds returns the classic bucket bounds of the histogram's unit, in seconds or bytes. The slice is shared: read only.
func (h *Histogram) Bounds() []float64 { return scales[h.unit&1].classic }

// Cumulative appends to dst, for each bound of Bounds, the exact number of values at or below it.
func (h *Histogram) Cumulative(dst []uint64) []uint64 {
	s := &scales[h.unit&1]
	n, i := h.zeros, 0
	for _, end := range s.classicEnd {
		for ; i < len(h.low) && int(h.base)+i < int(end); i++ {
			n += h.at(uint(i))
		}
		dst = append(dst, n)
	}
	return dst
}

// Native iterates over the non-empty buckets in ascending order: Prometheus' index at schema 5 (OTLP's is one less) and
// the count. Zeros are not among them.
func (h *Histogram) Native() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		s := &scales[h.unit&1]
		for i := 0; i < len(h.low); {
			index := s.native[int(h.base)+i]
			var n uint64
			for ; i < len(h.low) && s.native[int(h.base)+i] == index; i++ {
				n += h.at(uint(i))
			}
			if n != 0 && !yield(int(index), n) {
				return
			}
		}
	}
}

// Clone returns a copy without the window's unused ends.
func (h *Histogram) Clone() Histogram {
	c := *h
	s := summand{h: &c, o: new(Histogram)}
	s.add(make([]uint16, s.measure()))
	return c
}

// used returns the part of the window between its first and last non-zero count.
func (h *Histogram) used() (from, to int) {
	from, to = 0, len(h.low)
	for from < to && h.low[from] == 0 && (h.high == nil || h.high[from] == 0) {
		from++
	}
	for to > from && h.low[to-1] == 0 && (h.high == nil || h.high[to-1] == 0) {
		to--
	}
	return from, to
}

// summand is a histogram to which another one is added, without a change to the counts that it had.
type summand struct {
	h, o                   *Histogram
	from, to               int // the cells between the first and the last non-zero count of both
	hFrom, hTo, oFrom, oTo int // of each, in its window
}

// measure returns how many cells the sum has.
func (s *summand) measure() int {
	s.hFrom, s.hTo = s.h.used()
	s.oFrom, s.oTo = s.o.used()
	h, o := int(s.h.base), int(s.o.base)
	switch {
	case s.oFrom == s.oTo:
		s.from, s.to = h+s.hFrom, h+s.hTo
	case s.hFrom == s.hTo:
		s.from, s.to = o+s.oFrom, o+s.oTo
	default:
		s.from, s.to = min(h+s.hFrom, o+s.oFrom), max(h+s.hTo, o+s.oTo)
	}
	return s.to - s.from
}

// add makes h the sum, whose counts are in the room, which is empty; it returns the rest of the room. The unit is that of h.
func (s *summand) add(room []uint16) []uint16 {
	h, o, n := s.h, s.o, s.to-s.from
	low, high, at := h.low[s.hFrom:s.hTo], h.high, int(h.base)+s.hFrom-s.from
	h.low, h.base, h.high = room[:n:n], int32(s.from), nil
	if len(low) > 0 {
		copy(h.low[at:], low)
	}
	if high != nil {
		h.high = make([]uint32, n)
		copy(h.high[max(at, 0):], high[s.hFrom:s.hTo])
	}
	if o.count > 0 {
		if h.count == 0 {
			h.min = o.min
		}
		h.min, h.max = min(h.min, o.min), max(h.max, o.max)
		h.count, h.sum, h.zeros = h.count+o.count, h.sum+o.sum, h.zeros+o.zeros
		h.addCells(o, s.oFrom, s.oTo)
	}
	return room[n:]
}

// addCells adds the counts of another histogram's cells from…to-1, for all of which there is room.
func (h *Histogram) addCells(o *Histogram, from, to int) {
	if from == to {
		return
	}
	first := from + int(o.base) - int(h.base)
	theirs := o.low[from:to]
	ours := h.low[first:][:len(theirs)]
	for i, n := range theirs {
		sum := uint32(ours[i]) + uint32(n)
		ours[i] = uint16(sum)
		if sum>>16 != 0 {
			h.carry(uint(first+i), 1)
		}
	}
	if o.high == nil {
		return
	}
	for i, n := range o.high[from:to] {
		if n != 0 {
			h.carry(uint(first+i), n)
		}
	}
}

// at returns the count of the window's cell i.
func (h *Histogram) at(i uint) uint64 {
	n := uint64(h.low[i])
	if h.high != nil {
		n += uint64(h.high[i]) << 16
	}
	return n
}

// carry adds n times 65,536 to the window's cell i.
func (h *Histogram) carry(i uint, n uint32) {
	if h.high == nil {
		h.high = make([]uint32, len(h.low))
	}
	h.high[i] += n
}

// grow extends the window to hold the cells from…to.
func (h *Histogram) grow(from, to int) {
	if len(h.low) > 0 {
		from, to = min(from, int(h.base)), max(to, int(h.base)+len(h.low)-1)
	}
	from -= from % windowStep
	to += windowStep - to%windowStep // exclusive
	if len(h.low) == to-from {
		return
	}
	low := make([]uint16, to-from)
	if len(h.low) > 0 {
		copy(low[int(h.base)-from:], h.low)
	}
	if h.high != nil {
		high := make([]uint32, to-from)
		copy(high[int(h.base)-from:], h.high)
		h.high = high
	}
	h.low, h.base = low, int32(from)
}

// middle returns the estimate for a value of the cell: the point with the same relative error to its smallest and
// largest integer, within what was seen.
func (h *Histogram) middle(cell int) float64 {
	s := &scales[h.unit&1]
	lower, upper := 1., float64(s.limit[cell])
	if cell > 0 {
		lower = float64(s.limit[cell-1] + 1)
	}
	return min(max(2*lower*upper/(lower+upper), float64(h.min)), float64(h.max))
}

// scale holds the tables that turn integers of one unit into cells.
//
// limit[c] is the largest integer of cell c. segment gives, for the 64 equal parts of each power of two, the cell of the
// part's smallest integer; two comparisons with limit find the rest. 32 + 8 KiB, of which the values of one octave touch
// less than 1 KiB.
type scale struct {
	limit   [limits]uint64                 // beyond the cells: no integer is larger
	segment [64 * segmentsPerOctave]uint16 // by leading zeros and the bits behind the leading one
	native  [cellsMax]int16                // the native bucket of a cell

	perUnit    float64 // integers per exported unit
	classic    []float64
	classicEnd []uint16 // cells below it are at or below the classic bound of the same position
}

var scales = func() (s [2]scale) {
	s[Nanoseconds].init(1e9, DurationBounds)
	s[Bytes].init(1, SizeBounds)
	return s
}()

// cell returns the cell of n > 0.
func (s *scale) cell(n uint64) int {
	lz := uint(bits.LeadingZeros64(n)) & 63
	c := uint(s.segment[lz<<segmentBits|uint(n<<lz>>(63-segmentBits))&(segmentsPerOctave-1)])
	if n > s.limit[c%limits] {
		c++
	}
	if n > s.limit[c%limits] {
		c++
	}
	return int(c)
}

// init computes the tables. It takes about a tenth of a millisecond.
func (s *scale) init(perUnit float64, classic []float64) {
	s.perUnit, s.classic = perUnit, classic
	c, k := 0, 0
	for i := nativeIndex(1 / perUnit); ; i++ {
		upper := nativeBound(i)
		limit := s.largest(upper)
		for ; k < len(classic) && classic[k] <= upper; k++ {
			if l := s.largest(classic[k]); l > 0 && l < limit {
				s.limit[c], s.native[c] = l, int16(i)
				c++
			}
		}
		s.limit[c], s.native[c] = limit, int16(i)
		c++
		if limit == math.MaxInt64 {
			break
		}
	}
	for ; c < limits; c++ {
		s.limit[c] = math.MaxUint64
	}
	s.initSegments()
	for _, b := range classic {
		end := uint16(0)
		if l := s.largest(b); l > 0 {
			end = uint16(s.search(l)) + 1
		}
		s.classicEnd = append(s.classicEnd, end)
	}
}

func (s *scale) initSegments() {
	for lz := range 64 {
		for m := range segmentsPerOctave {
			first := (uint64(1)<<63 | uint64(m)<<(63-segmentBits))
			// The smallest integer of the segment: rounded up where the octave has fewer integers than segments.
			n := first >> lz
			if n<<lz != first {
				n++
			}
			s.segment[lz<<segmentBits|m] = uint16(s.search(n))
		}
	}
}

// search returns the cell of n by binary search.
func (s *scale) search(n uint64) int {
	from, to := 0, cellsMax-1
	for from < to {
		if middle := (from + to) / 2; s.limit[middle] >= n {
			to = middle
		} else {
			from = middle + 1
		}
	}
	return from
}

// largest returns the largest integer that is at or below the bound after the conversion that exporters and Prometheus
// do, float64(n)/perUnit.
func (s *scale) largest(bound float64) uint64 {
	guess := bound * s.perUnit
	if guess >= math.MaxInt64 {
		return math.MaxInt64
	}
	// The guess is wrong by a few units in the last place; look around it by halving.
	slack := uint64(guess/(1<<50)) + 2
	from, to := uint64(guess)-min(uint64(guess), slack), uint64(guess)+slack
	for from < to {
		if middle := from + (to-from+1)/2; float64(middle)/s.perUnit <= bound {
			from = middle
		} else {
			to = middle - 1
		}
	}
	return min(from, math.MaxInt64)
}

// nativeBound returns the upper bound of the native bucket i, 2^(i/32).
func nativeBound(i int) float64 {
	octave := i >> Schema
	return math.Ldexp(octaveBounds[i&(bucketsPerOctave-1)], octave+1)
}

// nativeIndex returns the native bucket of v > 0.
func nativeIndex(v float64) int {
	fraction, exponent := math.Frexp(v)
	k := 0
	for k < bucketsPerOctave && octaveBounds[k] < fraction {
		k++
	}
	return k + (exponent-1)*bucketsPerOctave
}
