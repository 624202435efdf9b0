package history

import (
	"fmt"
	"slices"

	"github.com/perfagent/perfagent/internal/analytics"
)

// Sample is what a series did in one interval. Of a distribution it is what was counted in it, and nothing of before: what a
// Prometheus server that scrapes /metrics would have stored is the sum of all samples up to this one. Of a figure it is the value
// at the interval's end.
type Sample struct {
	Time     int64  // end of the interval, ms since 1970
	Interval int64  // its length, ms
	Untimed  uint64 // exchanges without a duration, which the histogram does not count
	Value    float64

	point *point
}

// AddTo adds a distribution to a histogram of the series' unit.
func (s *Sample) AddTo(h *analytics.Histogram) error {
	return h.AddCells(s.point.zeros, s.point.sum, s.point.cells)
}

// Count is how many values a distribution counted.
func (s *Sample) Count() uint64 { return s.CountBelow(analytics.CellsMax) }

// CountBelow is how many values of a distribution lie in a cell below one, or are 0.
func (s *Sample) CountBelow(cell int) uint64 {
	n := s.point.zeros
	for _, c := range s.point.cells {
		if c.Index >= cell {
			break
		}
		n += c.Count
	}
	return n
}

// AddBelow adds to the i-th of counts how many values of a distribution lie in a cell below the i-th of cells, which ascend, and to
// the last one how many there are.
func (s *Sample) AddBelow(cells []uint16, counts []uint64) {
	n, i := s.point.zeros, 0
	for j, end := range cells {
		for ; i < len(s.point.cells) && s.point.cells[i].Index < int(end); i++ {
			n += s.point.cells[i].Count
		}
		counts[j] += n
	}
	for ; i < len(s.point.cells); i++ {
		n += s.point.cells[i].Count
	}
	counts[len(cells)] += n
}

// Total is the sum of the values of a distribution, in nanoseconds or bytes.
func (s *Sample) Total() uint64 { return s.point.sum }

// Iterator goes through the samples of a series in the order of time; there is one for each time.
type Iterator struct {
	series *Series
	next   int // source to be opened
	active []*cursor
	spare  []*cursor
	adder  *adder
	sample Sample
	err    error
}

// cursor reads one source.
type cursor struct {
	source *columnSource
	reader columnReader
	data   []byte
	points []point // of an open source
	point  *point
	unit   int64 // slots
	slot   int64
}

// Iterate returns an iterator in front of the first sample.
func (s *Series) Iterate() *Iterator { return &Iterator{series: s} }

// Err returns what ended the iteration early, nil where all samples were seen.
func (it *Iterator) Err() error { return it.err }

// At returns the sample; it is valid until Next is called.
func (it *Iterator) At() *Sample { return &it.sample }

// Next goes on to the next sample.
func (it *Iterator) Next() bool {
	for it.err == nil {
		slot, ok := it.earliest()
		if !ok {
			return false
		}
		it.take(slot)
		if slot > it.series.to {
			return false
		}
		if slot >= it.series.from {
			return it.err == nil
		}
	}
	return false
}

// earliest opens the sources that may have the earliest point, and returns its slot.
func (it *Iterator) earliest() (slot int64, ok bool) {
	for _, c := range it.active {
		if !ok || c.slot < slot {
			slot, ok = c.slot, true
		}
	}
	for it.next < len(it.series.sources) && it.err == nil {
		source := &it.series.sources[it.next]
		if ok && source.first() > slot {
			break
		}
		it.next++
		c := it.cursor(source)
		if it.err != nil {
			return 0, false
		}
		if it.advance(c); c.point == nil {
			it.spare = append(it.spare, c)
			continue
		}
		it.active = append(it.active, c)
		if !ok || c.slot < slot {
			slot, ok = c.slot, true
		}
	}
	return slot, ok && it.err == nil
}

// take makes the sample of all points of the slot.
func (it *Iterator) take(slot int64) {
	var only *cursor
	several := false
	var unit int64
	for _, c := range it.active {
		if c.slot == slot {
			several = only != nil
			only = c
			unit = max(unit, c.unit)
			if several {
				break
			}
		}
	}
	it.sample = Sample{Time: slot * slotSeconds * 1000, point: only.point}
	if !several && only.source.segment == nil {
		// Its points stay where they are.
	} else if several {
		if it.adder == nil {
			it.adder = &adder{sums: it.series.Kind == Ticks}
		}
		for _, c := range it.active {
			if c.slot == slot {
				it.adder.add(c.point)
				unit = max(unit, c.unit)
			}
		}
		it.sample.point = it.adder.take(slot)
	} else if it.series.Kind == Distribution {
		// The cursor's point is overwritten when it advances, which is done before the sample is looked at.
		if it.adder == nil {
			it.adder = new(adder)
		}
		it.adder.point.cells = append(it.adder.point.cells[:0], only.point.cells...)
		p := *only.point
		p.cells = it.adder.point.cells
		it.sample.point = &p
	} else {
		p := *only.point
		it.sample.point = &p
	}
	it.sample.Interval, it.sample.Untimed, it.sample.Value = unit*slotSeconds*1000, it.sample.point.untimed, it.sample.point.value
	if len(it.active) == 1 {
		if it.advance(only); only.point == nil {
			it.spare, it.active = append(it.spare, only), it.active[:0]
		}
		return
	}
	it.active = slices.DeleteFunc(it.active, func(c *cursor) bool {
		if c.slot == slot {
			it.advance(c)
		}
		if c.point == nil {
			it.spare = append(it.spare, c)
		}
		return c.point == nil
	})
}

// cursor opens a source.
func (it *Iterator) cursor(source *columnSource) *cursor {
	c := new(cursor)
	if n := len(it.spare); n > 0 {
		c, it.spare = it.spare[n-1], it.spare[:n-1]
	}
	c.source, c.points, c.unit, c.point = source, source.points, 1, nil
	if g := source.segment; g != nil {
		c.unit = g.tier.unit()
		if err := it.load(c); err != nil {
			it.fail(g, err)
		}
	}
	return c
}

// load copies a column out of its file, so that the file is in use for a moment only.
func (it *Iterator) load(c *cursor) error {
	if c.source.data != nil {
		return it.open(c, c.source.data)
	}
	var b block
	err := it.series.h.view.files.get(c.source.segment, []byte(c.source.entry), func(value []byte) error {
		if err := b.parse(value); err != nil {
			return err
		}
		for i, name := range b.names {
			if string(name) == c.source.column {
				c.data = append(c.data[:0], b.data[i]...)
				return nil
			}
		}
		return fmt.Errorf("%w: a column is missing", errColumn)
	})
	if err != nil {
		return err
	}
	return it.open(c, c.data)
}

func (it *Iterator) open(c *cursor, data []byte) error {
	if it.series.Kind == Distribution {
		return c.reader.openDistributions(it.series.Unit, data)
	}
	return c.reader.openFigures(data)
}

func (it *Iterator) fail(g *segment, err error) {
	if unreadable(err) {
		it.series.h.report(g, err)
	}
	it.err = fmt.Errorf("read the history: %s: %w", g.name, err)
}

// advance goes on to a source's next point within its bounds; without one its point is nil.
func (it *Iterator) advance(c *cursor) {
	for {
		c.point = nil
		if c.source.segment == nil {
			if len(c.points) == 0 {
				return
			}
			c.point, c.points = &c.points[0], c.points[1:]
			c.slot = c.point.slot
		} else {
			ok, err := c.reader.next()
			if err != nil {
				it.fail(c.source.segment, err)
			}
			if !ok {
				return
			}
			c.point = &c.reader.point
			c.slot = c.point.slot * c.unit
		}
		if c.slot > c.source.lo && c.slot <= c.source.hi {
			return
		}
	}
}

// Sum adds up all samples of a distribution.
func (s *Series) Sum() (analytics.Histogram, error) {
	sum := analytics.NewHistogram(s.Unit)
	it := s.Iterate()
	for it.Next() {
		if err := it.At().AddTo(&sum); err != nil {
			return sum, fmt.Errorf("read the history: %w", err)
		}
	}
	return sum, it.Err()
}
