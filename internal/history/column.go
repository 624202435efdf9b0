package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/perfagent/perfagent/internal/analytics"
)

// A column is one series in one block: its points in the order of their slots. docs/history-format.md draws it.

// slotSeconds is the length of the finest interval; times are counted in it since 1970, and name an interval by its end.
const slotSeconds = 10

// pointsMax bounds the points of a column: as many intervals as a segment spans.
const pointsMax = 360

// point is what a series did in one interval: a distribution, or a figure's value at its end.
type point struct {
	slot    int64  // end of the interval
	untimed uint64 // exchanges without a duration
	zeros   uint64
	sum     uint64
	cells   []analytics.Cell
	value   float64 // of a figure
}

var errColumn = errors.New("damaged column")

// distributionModel is what is learned of a column of distributions.
type distributionModel struct {
	slot, untimed, zeros number
	some                 chance // has cells
	first                magnitude
	gap                  [24]number // by the gap before and the size of the count before; 0 ends the cells
	count                [16]number
	sum                  [4]magnitude
}

// gapContext and countContext choose the model by what came before.
func gapContext(gap int, count uint64) int {
	return min(gap, 7) + 8*min(max(bits.Len64(count)-1, 0), 2)
}

func countContext(gap int, count uint64) int {
	n := min(bits.Len64(count), 7)
	if gap > 1 {
		n += 8
	}
	return n
}

// estimate is the sum of all values if each lay in the middle of its cell, modulo 2^64.
func estimate(u analytics.Unit, cells []analytics.Cell) (sum uint64) {
	for _, c := range cells {
		sum += c.Count * analytics.CellMiddle(u, c.Index)
	}
	return sum
}

func sumContext(cells []analytics.Cell) int {
	switch {
	case len(cells) == 0:
		return 0
	case len(cells) == 1:
		return 1
	case len(cells) < 8:
		return 2
	}
	return 3
}

// appendDistributions appends a column of distributions of the unit.
func appendDistributions(dst []byte, u analytics.Unit, points []point) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(points)))
	if len(points) == 0 {
		return dst
	}
	dst = binary.AppendVarint(dst, points[0].slot)
	m, e := new(distributionModel), newEncoder(dst)
	last, first := points[0].slot-1, 0
	for i := range points {
		p := &points[i]
		e.number(&m.slot, uint64(p.slot-last-1))
		last = p.slot
		e.number(&m.untimed, p.untimed)
		e.number(&m.zeros, p.zeros)
		if len(p.cells) == 0 {
			e.bit(&m.some, 0)
		} else {
			e.bit(&m.some, 1)
			e.magnitude(&m.first, zigzag(int64(p.cells[0].Index-first)))
			first = p.cells[0].Index
			e.cells(m, p.cells)
		}
		e.magnitude(&m.sum[sumContext(p.cells)], zigzag(int64(p.sum-estimate(u, p.cells))))
	}
	return e.end()
}

func (e *encoder) cells(m *distributionModel, cells []analytics.Cell) {
	gap, before, last := 1, uint64(0), cells[0].Index
	for i, c := range cells {
		if i > 0 {
			next := c.Index - last
			e.number(&m.gap[gapContext(gap, before)], uint64(next))
			gap, last = next, c.Index
		}
		e.number(&m.count[countContext(gap, before)], c.Count-1)
		before = c.Count
	}
	e.number(&m.gap[gapContext(gap, before)], 0)
}

// columnReader reads a column point by point.
type columnReader struct {
	d     decoder
	left  int
	last  int64
	first int
	point point // valid until the next one

	unit  analytics.Unit
	model *distributionModel
	fm    *figureModel
	scale float64
	bits  uint64
}

func (r *columnReader) open(data []byte) (rest []byte, err error) {
	n, k := binary.Uvarint(data)
	if k <= 0 || n > pointsMax {
		return nil, fmt.Errorf("%w: %d points", errColumn, n)
	}
	*r = columnReader{left: int(n), point: point{cells: r.point.cells[:0]}, model: r.model, fm: r.fm}
	if n == 0 {
		return nil, nil
	}
	slot, l := binary.Varint(data[k:])
	if l <= 0 || slot < -slotMax || slot > slotMax {
		return nil, fmt.Errorf("%w: no first slot", errColumn)
	}
	r.last = slot - 1
	return data[k+l:], nil
}

// slotMax bounds slots, so that times in milliseconds fit.
const slotMax = 1 << 44

func (r *columnReader) openDistributions(u analytics.Unit, data []byte) error {
	rest, err := r.open(data)
	if err != nil {
		return err
	}
	if r.model == nil {
		r.model = new(distributionModel)
	} else {
		*r.model = distributionModel{}
	}
	r.d, r.unit, r.fm = newDecoder(rest), u, nil
	return nil
}

// next goes on to the next point; false: there is none, or the column is damaged.
func (r *columnReader) next() (bool, error) {
	if r.left == 0 {
		return false, nil
	}
	r.left--
	if r.fm != nil {
		r.nextFigure()
	} else if err := r.nextDistribution(); err != nil {
		return false, err
	}
	if r.point.slot > slotMax || r.d.exhausted() {
		return false, fmt.Errorf("%w: ends too early", errColumn)
	}
	return true, nil
}

func (r *columnReader) nextDistribution() error {
	m, d, p := r.model, &r.d, &r.point
	p.slot = r.last + 1 + int64(d.number(&m.slot)&(1<<45-1))
	r.last = p.slot
	p.untimed, p.zeros, p.cells = d.number(&m.untimed), d.number(&m.zeros), p.cells[:0]
	if d.bit(&m.some) == 1 {
		r.first += int(unzigzag(d.magnitude(&m.first)))
		gap, before, cell := 1, uint64(0), r.first
		for {
			if cell < 0 || cell >= analytics.CellsMax {
				return fmt.Errorf("%w: cell %d", errColumn, cell)
			}
			before = d.number(&m.count[countContext(gap, before)]) + 1
			p.cells = append(p.cells, analytics.Cell{Index: cell, Count: before})
			next := d.number(&m.gap[gapContext(gap, before)])
			if next == 0 {
				break
			}
			gap = int(min(next, analytics.CellsMax))
			cell += gap
		}
	}
	p.sum = estimate(r.unit, p.cells) + uint64(unzigzag(d.magnitude(&m.sum[sumContext(p.cells)])))
	return nil
}

// Figures.

// scales are the decimal fractions that figures come in; 0 stands for any other number.
var figureScales = [...]float64{1, 100, 1e3, 1e6, 1e9, 0}

const integerMax = 1 << 53

type figureModel struct {
	slot   number
	change magnitude
}

// figureScale finds the first scale with which all values are integers.
func figureScale(points []point) int {
next:
	for i, scale := range figureScales[:len(figureScales)-1] {
		for j := range points {
			v := points[j].value
			n := math.Round(v * scale)
			if !(math.Abs(n) < integerMax) || math.Float64bits(float64(int64(n))/scale) != math.Float64bits(v) {
				continue next
			}
		}
		return i
	}
	return len(figureScales) - 1
}

// appendFigures appends a column of figures.
func appendFigures(dst []byte, points []point) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(points)))
	if len(points) == 0 {
		return dst
	}
	dst = binary.AppendVarint(dst, points[0].slot)
	scale := figureScale(points)
	dst = append(dst, byte(scale))
	m, e := new(figureModel), newEncoder(dst)
	last, before := points[0].slot-1, uint64(0)
	for i := range points {
		p := &points[i]
		e.number(&m.slot, uint64(p.slot-last-1))
		last = p.slot
		if figureScales[scale] == 0 {
			now := math.Float64bits(p.value)
			e.magnitude(&m.change, now^before)
			before = now
			continue
		}
		now := uint64(int64(math.Round(p.value * figureScales[scale])))
		e.magnitude(&m.change, zigzag(int64(now-before)))
		before = now
	}
	return e.end()
}

func (r *columnReader) openFigures(data []byte) error {
	rest, err := r.open(data)
	if err != nil {
		return err
	}
	r.fm = new(figureModel)
	if r.left == 0 {
		return nil
	}
	if len(rest) == 0 || int(rest[0]) >= len(figureScales) {
		return fmt.Errorf("%w: no scale", errColumn)
	}
	r.scale, r.d = figureScales[rest[0]], newDecoder(rest[1:])
	return nil
}

func (r *columnReader) nextFigure() {
	p := &r.point
	p.slot = r.last + 1 + int64(r.d.number(&r.fm.slot)&(1<<45-1))
	r.last = p.slot
	change := r.d.magnitude(&r.fm.change)
	if r.scale == 0 {
		r.bits ^= change
		p.value = math.Float64frombits(r.bits)
		return
	}
	r.bits += uint64(unzigzag(change))
	p.value = float64(int64(r.bits)) / r.scale
}
