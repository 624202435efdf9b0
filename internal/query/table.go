package query

import (
	"slices"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/perfagent/perfagent/internal/analytics"
)

// tableTimesMax bounds the times of a table: 3 MB with the buckets of a duration. Where there are more, each bucket is counted for
// itself.
const tableTimesMax = 20_000

// table has all classic buckets of a distribution: who asks for one mostly asks for the others next, and reading is what takes time.
type table struct {
	of     *group
	cells  []uint16 // at which the buckets end
	places []place
	counts []uint64 // len(cells)+1 for each place
	failed error
}

// allBuckets stands for all buckets of a distribution.
var allBuckets = projection{kind: bucket, cell: -1}

// table returns that of the group, and forgets the one before.
func (g *group) table() *table {
	if t := g.selection.latest; t != nil && t.of == g {
		return t
	}
	t := &table{of: g, cells: analytics.BoundCells(g.label.Unit)}
	w := newCountWalk(g, &allBuckets)
	if w.buckets == nil {
		w.buckets = make([]uint64, len(t.cells)+1)
	}
	for w.next() {
		t.places = append(t.places, w.place)
		t.counts = append(t.counts, w.buckets...)
	}
	t.failed = w.err()
	g.selection.latest = t
	return t
}

// tableWalk goes through one bucket of a table.
type tableWalk struct {
	place
	table  *table
	column int // as a cell; found at the first step
	i      int
}

func (w *tableWalk) next() bool {
	if w.i == 0 {
		at := slices.Index(w.table.cells, uint16(w.column))
		if w.column == analytics.CellsMax {
			at = len(w.table.cells)
		}
		w.column = at
	}
	if w.i == len(w.table.places) {
		w.failed = w.table.failed
		return false
	}
	w.place = w.table.places[w.i]
	w.i++
	return true
}

func (w *tableWalk) float() float64 {
	return float64(w.table.counts[(w.i-1)*(len(w.table.cells)+1)+w.column])
}
func (w *tableWalk) isNative() bool                 { return false }
func (w *tableWalk) fill(*histogram.FloatHistogram) {}
