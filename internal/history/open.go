package history

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math"
	"slices"

	"github.com/perfagent/perfagent/internal/analytics"
)

const (
	// openBytesMax bounds the ticks that are in no segment yet, in memory and in the head. 200 busy endpoints need 6 MiB for an hour;
	// where more is counted, segments are made sooner and united afterwards.
	openBytesMax = 8 << 20
	// columnBytes is what a column takes beside its points: names, maps, unused room.
	columnBytes = 256
)

// open is what was counted since the latest segment, by column.
type open struct {
	entries     map[string]map[string]*openColumn
	bytes       int
	packed      int // bytes in the head
	ticks       int
	from, to    int64  // slots; from is the earliest
	first, last uint64 // numbers of its ticks
}

// openColumn has its points one after the other, each as varint slot and point. Of a figure a uvarint follows: in how many further
// slots, one after the other, it stayed what it was. Most of what the agent says of itself does for hours.
type openColumn struct {
	points []byte
	n      int
	last   int64      // slot of the latest
	marks  []openMark // of every markEvery-th point; none where slots do not ascend
	mixed  bool       // they do not

	value   uint64 // bits of the latest figure
	repeats uint64 // of it
	tail    int    // where they stand; 0: there are none
}

// openMark is where a point begins.
type openMark struct {
	slot int64
	at   int
}

// cellsAtOnce is how many cells get room together: those of a few dozen points.
const cellsAtOnce = 512

// markEvery is how many points are read in vain at most, where the latest are asked for.
const markEvery = 16

// append adds a point.
func (c *openColumn) append(distribution bool, p *point, slot int64) {
	if !distribution && c.repeat(p, slot) {
		return
	}
	if c.mixed = c.mixed || c.n > 0 && slot <= c.last; c.mixed {
		c.marks = nil
	} else if c.n%markEvery == 0 {
		c.marks = append(c.marks, openMark{slot, len(c.points)})
	}
	c.n, c.last = c.n+1, slot
	c.points = appendPoint(binary.AppendVarint(c.points, slot), distribution, p)
	if !distribution {
		c.value, c.repeats, c.tail = math.Float64bits(p.value), 0, len(c.points)
		c.points = append(c.points, 0)
	}
}

// repeat notes that a figure is what it was in the slot before; false: it is not.
func (c *openColumn) repeat(p *point, slot int64) bool {
	if c.tail == 0 || slot != c.last+1 || math.Float64bits(p.value) != c.value {
		return false
	}
	c.last, c.repeats = slot, c.repeats+1
	c.points = binary.AppendUvarint(c.points[:c.tail], c.repeats)
	return true
}

// merge adds all points of another column.
func (c *openColumn) merge(o *openColumn) {
	c.points, c.n, c.mixed, c.marks, c.tail = append(c.points, o.points...), c.n+o.n, true, nil, 0
}

// since returns the points from a slot on, and some before them.
func (c *openColumn) since(slot int64) []byte {
	i, _ := slices.BinarySearchFunc(c.marks, slot, func(m openMark, slot int64) int { return cmp.Compare(m.slot, slot) })
	if i == 0 {
		return c.points
	}
	return c.points[c.marks[i-1].at:]
}

func newOpen() *open { return &open{entries: map[string]map[string]*openColumn{}} }

// fits tells whether a tick of the slot may be added, or a segment is to be made first.
func (o *open) fits(slot int64) bool {
	return o.ticks == 0 || o.bytes < openBytesMax && o.packed < openBytesMax && o.ticks < pointsMax && tierTick.span(slot) == tierTick.span(o.from)
}

func (o *open) add(number uint64, t *tick) {
	for _, r := range t.renames {
		o.rename(r)
	}
	if o.ticks == 0 {
		o.from, o.to, o.first = t.slot, t.slot, number
	}
	o.from, o.to, o.last = min(o.from, t.slot), max(o.to, t.slot), number
	o.ticks++
	o.packed += t.packed
	for i := range t.entries {
		e := &t.entries[i]
		columns := o.entries[e.name]
		if columns == nil {
			columns = make(map[string]*openColumn, len(e.columns))
			o.entries[e.name] = columns
			o.bytes += columnBytes
		}
		for j := range e.columns {
			c := columns[e.columns[j].name]
			if c == nil {
				c = new(openColumn)
				columns[e.columns[j].name] = c
				o.bytes += columnBytes
			}
			before := len(c.points)
			c.append(isDistribution(e.name), &e.columns[j].point, t.slot)
			o.bytes += len(c.points) - before
		}
	}
}

// rename has an entry go on under another name, together with what that has.
func (o *open) rename(r rename) {
	from := o.entries[r.from]
	if from == nil || r.from == r.to {
		return
	}
	delete(o.entries, r.from)
	to := o.entries[r.to]
	if to == nil {
		o.entries[r.to] = from
		return
	}
	for name, c := range from {
		if to[name] == nil {
			to[name] = c
		} else {
			to[name].merge(c)
		}
	}
}

// names returns the names of all entries in their order.
func (o *open) names() []string { return slices.Sorted(maps.Keys(o.entries)) }

// decode reads a column from a slot on in the order of slots, with one point for each.
func (c *openColumn) decode(distribution bool, from int64) []point {
	var points []point
	var room point             // of points that are not asked for
	var cells []analytics.Cell // of several points
	f := fields{b: c.since(from)}
	for len(f.b) > 0 && !f.bad {
		p := point{slot: f.signed()}
		if distribution && p.slot < from {
			readPoint(&f, distribution, &room)
			continue
		}
		p.cells = cells[len(cells):]
		readPoint(&f, distribution, &p)
		if !distribution {
			points = appendRepeated(points, p, f.number(), from)
			continue
		}
		if n := len(p.cells); n <= cap(cells)-len(cells) {
			cells = cells[:len(cells)+n]
		} else {
			cells = make([]analytics.Cell, 0, cellsAtOnce)
		}
		p.cells = slices.Clip(p.cells)
		points = append(points, p)
	}
	if !c.mixed {
		return points
	}
	sortPoints(points)
	return single(points)
}

// appendRepeated adds a figure and its repeats from a slot on.
func appendRepeated(points []point, p point, repeats uint64, from int64) []point {
	for range repeats + 1 {
		if p.slot >= from {
			points = append(points, p)
		}
		p.slot++
	}
	return points
}

func sortPoints(points []point) {
	slices.SortStableFunc(points, func(a, b point) int { return int(min(max(a.slot-b.slot, -1), 1)) })
}

// single adds up points of one slot, which are there where one entry went on under the name of another. It keeps the last of
// figures.
func single(points []point) []point {
	kept := points[:0]
	var a *adder
	for i := 0; i < len(points); {
		n := i + 1
		for n < len(points) && points[n].slot == points[i].slot {
			n++
		}
		if n == i+1 {
			kept = append(kept, points[i])
		} else {
			if a == nil {
				a = new(adder)
			}
			for j := i; j < n; j++ {
				a.add(&points[j])
			}
			sum := *a.take(points[i].slot)
			sum.cells = slices.Clone(sum.cells)
			kept = append(kept, sum)
		}
		i = n
	}
	return kept
}
