package history

import (
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

// tier is one resolution.
type tier uint8

const (
	tierTick tier = iota
	tierMinute
	tierHour
	tiers
)

// tierData says what a tier is.
var tierData = [tiers]struct {
	name string
	unit int64         // slots of an interval
	keep time.Duration // by age; 0: as the settings say
	// share is its part of the bytes: beside the ticks' day, minutes need the most.
	share float64
}{
	{"10s", 1, 24 * time.Hour, .2},
	{"1m", 60 / slotSeconds, 0, .5},
	{"1h", 3600 / slotSeconds, 400 * 24 * time.Hour, .3},
}

func (t tier) String() string  { return tierData[t].name }
func (t tier) unit() int64     { return tierData[t].unit }
func (t tier) interval() int64 { return tierData[t].unit * slotSeconds * 1000 } // ms

// end is the end of the tier's interval that a slot belongs to, in slots.
func (t tier) end(slot int64) int64 { return (floorDiv(slot-1, t.unit()) + 1) * t.unit() }

// span numbers the spans of pointsMax intervals, each of which becomes one segment in the end.
func (t tier) span(slot int64) int64 { return floorDiv(slot-1, t.unit()*pointsMax) }

// adder makes one point of those of an interval.
type adder struct {
	counts   [analytics.CellsMax]uint64
	from, to int // cells that may hold counts
	point    point
	begun    bool
	sums     bool // values are summed up; else the last one counts
}

// add adds a point; those of one slot come one after the other.
func (a *adder) add(p *point) {
	if !a.begun {
		a.point = point{cells: a.point.cells[:0]}
		a.begun, a.from, a.to = true, analytics.CellsMax, 0
	}
	a.point.untimed += p.untimed
	a.point.zeros += p.zeros
	a.point.sum += p.sum
	if a.sums {
		a.point.value += p.value
	} else {
		a.point.value = p.value
	}
	for _, c := range p.cells {
		a.counts[c.Index] += c.Count
		a.from, a.to = min(a.from, c.Index), max(a.to, c.Index+1)
	}
}

// take returns the sum as a point of the slot, whose cells are valid until the next add.
func (a *adder) take(slot int64) *point {
	for i := a.from; i < a.to; i++ {
		if n := a.counts[i]; n != 0 {
			a.point.cells = append(a.point.cells, analytics.Cell{Index: i, Count: n})
			a.counts[i] = 0
		}
	}
	a.begun, a.point.slot = false, slot
	return &a.point
}
