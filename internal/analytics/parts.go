package analytics

import (
	"fmt"
	"iter"
	"math"
)

// What follows lets a histogram be stored and made again from what it counted. Integers are nanoseconds or bytes.

// CellsMax bounds the numbers of cells, which are 0…CellsMax-1.
const CellsMax = cellsMax

// CellsVersion names the cut of values into cells, by Schema, DurationBounds and SizeBounds as they are. Stored cells mean the
// same as long as it does not change.
const CellsVersion = 1

// Cell is how many values lie in one cell.
type Cell struct {
	Index int
	Count uint64
}

// Cells iterates over the cells that hold counts, in ascending order. Zeros are in none.
func (h *Histogram) Cells() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		for i := range h.low {
			if n := h.at(uint(i)); n != 0 && !yield(int(h.base)+i, n) {
				return
			}
		}
	}
}

// Total returns the sum of all values, exactly, in nanoseconds or bytes.
func (h *Histogram) Total() uint64 { return h.sum }

// CellMiddle returns the integer in the middle of a cell, rounded down; it is the same on every machine. Cells narrower than an
// integer may hold none; theirs is the one below.
func CellMiddle(u Unit, cell int) uint64 {
	s, lower := &scales[u&1], uint64(1)
	if cell > 0 {
		lower = s.limit[cell-1] + 1
	}
	return min(lower, s.limit[cell]) + (max(s.limit[cell], lower)-lower)/2
}

// Reset makes the histogram empty and keeps its unit and its room.
func (h *Histogram) Reset() {
	clear(h.low)
	*h = Histogram{unit: h.unit, low: h.low, base: h.base}
}

// cellCountMax is the most that one cell can count: 16 and 32 bits.
const cellCountMax = 1<<48 - 1

// AddCells adds values of which only this is known: how many were 0, their sum, and how many lie in each cell, in ascending
// order. The smallest and the largest are taken to lie in the middle of their cells, as in every estimate. It fails, and
// changes nothing, where no histogram has such cells.
func (h *Histogram) AddCells(zeros, sum uint64, cells []Cell) error {
	count, last := zeros, -1
	for _, c := range cells {
		if c.Index <= last || c.Index >= cellsMax || c.Count == 0 || c.Count > cellCountMax {
			return fmt.Errorf("cell %d after %d counts %d", c.Index, last, c.Count)
		}
		last, count = c.Index, count+c.Count
	}
	if count > math.MaxInt64-h.count {
		return fmt.Errorf("%d values are too many", count)
	}
	if count == 0 {
		return nil
	}
	h.addExtremes(zeros, cells)
	h.count, h.zeros, h.sum = h.count+count, h.zeros+zeros, h.sum+sum
	if len(cells) == 0 {
		return nil
	}
	if first := cells[0].Index; len(h.low) == 0 || first < int(h.base) || last >= int(h.base)+len(h.low) {
		h.grow(first, last)
	}
	for _, c := range cells {
		at := uint(c.Index - int(h.base))
		n := c.Count + uint64(h.low[at])
		h.low[at] = uint16(n)
		if n>>16 != 0 {
			h.carry(at, uint32(n>>16))
		}
	}
	return nil
}

// addExtremes takes over the smallest and the largest value.
func (h *Histogram) addExtremes(zeros uint64, cells []Cell) {
	low, high := uint64(0), uint64(0)
	if len(cells) > 0 {
		low, high = CellMiddle(h.unit, cells[0].Index), CellMiddle(h.unit, cells[len(cells)-1].Index)
	}
	if zeros > 0 {
		low = 0
	}
	if h.count == 0 {
		h.min = low
	}
	h.min, h.max = min(h.min, low), max(h.max, high)
}

// BoundCells are the cells at which the classic buckets of a unit end: what lies in a cell below the i-th is at or below the i-th
// of ClassicBounds. The slice is shared: read only.
func BoundCells(u Unit) []uint16 { return scales[u&1].classicEnd }

// ClassicBounds are the bounds of the classic buckets of a unit, in seconds or bytes. The slice is shared: read only.
func ClassicBounds(u Unit) []float64 { return scales[u&1].classic }

// PerUnit is how many integers of a unit are one of the exported unit, seconds or bytes.
func PerUnit(u Unit) float64 { return scales[u&1].perUnit }
