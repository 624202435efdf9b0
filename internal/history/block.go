package history

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
)

// A block is what a segment holds of an entry: its columns.
//
//	block  = count { name size }…  data…      all uvarint; the data of the columns in the same order
type block struct {
	names [][]byte
	data  [][]byte
}

// columnsMax bounds the columns of a block: the figures of a service with all control groups, and what a damaged block may claim.
const columnsMax = 1 << 16

func (b *block) append(name, data []byte) {
	b.names, b.data = append(b.names, name), append(b.data, data)
}

func (b *block) encode(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b.names)))
	for i := range b.names {
		dst = binary.AppendUvarint(appendText(dst, string(b.names[i])), uint64(len(b.data[i])))
	}
	for _, data := range b.data {
		dst = append(dst, data...)
	}
	return dst
}

// parse reads a block, whose bytes the columns keep.
func (b *block) parse(value []byte) error {
	f := fields{b: value}
	n := f.number()
	if n > columnsMax {
		return fmt.Errorf("%w: %d columns", errColumn, n)
	}
	b.names, b.data = b.names[:0], b.data[:0]
	var sizes []uint64
	for range n {
		b.names = append(b.names, f.bytes())
		sizes = append(sizes, f.number())
	}
	for _, size := range sizes {
		b.data = append(b.data, f.take(size))
	}
	if f.bad || len(f.b) > 0 {
		return fmt.Errorf("%w: block of %d columns", errColumn, n)
	}
	return nil
}

// builder makes the block of an entry in a tier out of points.
type builder struct {
	tier   tier
	adder  adder
	points []point
	buf    []byte
}

// column makes a column of points in the order of their slots, whatever tier they come from that is not coarser.
func (w *builder) column(entry string, name string, points []point) []byte {
	w.points = w.points[:0]
	w.adder.sums = entry == ticksName
	for i := range points {
		w.adder.add(&points[i])
		end := w.tier.end(points[i].slot)
		if i+1 < len(points) && w.tier.end(points[i+1].slot) == end {
			continue
		}
		p := w.adder.take(end / w.tier.unit())
		q := *p
		q.cells = slices.Clone(p.cells)
		w.points = append(w.points, q)
	}
	if isDistribution(entry) {
		return appendDistributions(nil, unitOf([]byte(name)), w.points)
	}
	return appendFigures(nil, w.points)
}

// openBlock makes the block of one of the entries that are open.
func (w *builder) openBlock(name string, columns map[string]*openColumn) *block {
	b := new(block)
	for _, column := range slices.Sorted(maps.Keys(columns)) {
		b.append([]byte(column), w.column(name, column, columns[column].decode(isDistribution(name), math.MinInt64)))
	}
	return b
}

// readColumn reads all points of a stored column, with slots of 10 s.
func readColumn(t tier, entry string, name, data []byte) ([]point, error) {
	var r columnReader
	var err error
	if isDistribution(entry) {
		err = r.openDistributions(unitOf(name), data)
	} else {
		err = r.openFigures(data)
	}
	if err != nil {
		return nil, err
	}
	points := make([]point, 0, r.left)
	for {
		ok, err := r.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			return points, nil
		}
		p := r.point
		p.slot *= t.unit()
		p.cells = slices.Clone(p.cells)
		points = append(points, p)
	}
}

// unite makes one block of an entry's blocks in several segments of a tier, in the order in which they were made.
func (w *builder) unite(name string, blocks []*block) (*block, error) {
	all := map[string][]point{}
	for _, b := range blocks {
		for i := range b.names {
			points, err := readColumn(w.tier, name, b.names[i], b.data[i])
			if err != nil {
				return nil, err
			}
			all[string(b.names[i])] = append(all[string(b.names[i])], points...)
		}
	}
	united := new(block)
	for _, column := range slices.Sorted(maps.Keys(all)) {
		points := all[column]
		sortPoints(points)
		united.append([]byte(column), w.column(name, column, points))
	}
	return united, nil
}
