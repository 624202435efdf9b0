package finding

import (
	"math"
	"slices"
)

// settled tells whether what is unusual has become a level that stays: the second half of the last values is where the first one is, and still far
// from what was expected.
func (e *Engine) settled(members []*track) bool {
	for _, t := range members {
		if t.over() {
			continue
		}
		first, second := e.level(t, changeTicks, changeTicks/2), e.level(t, changeTicks/2, 0)
		if math.IsNaN(first) || math.IsNaN(second) || t.Quiet > 0 || !t.metric.matters(second, t.Expected) {
			return false
		}
		if math.Abs(second-first) > math.Abs(second-t.Expected)/2 && t.metric.matters(second, first) {
			return false
		}
	}
	return true
}

// level is the median of some of the last rows; NaN without values.
func (e *Engine) level(t *track, from, to int64) float64 {
	all := e.room[:0]
	for row := max(e.row-from+1, 0); row <= e.row-to; row++ {
		if v := t.rows[row%recentTicks]; v == v {
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		return math.NaN()
	}
	slices.Sort(all)
	return float64(all[len(all)/2])
}

// change ends an anomaly that has become normal, and says since when the level is another one.
func (e *Engine) change(g *group, f *Finding, members []*track) {
	numbers := make([]int, len(members))
	for i, t := range members {
		numbers[i] = t.episode.First
	}
	e.end(g, f, members, e.now)
	c := *f
	c.Kind, c.ID = Change, f.ID+"-change"
	if f.Incident != "" {
		c.Incident = f.Incident + "-change"
	}
	c.Low, c.High = c.Expected, c.Expected
	for i, t := range members {
		level := e.level(t, changeTicks/2, 0)
		if t.Measure == f.Measure || t.Metric == f.Metric && len(c.Parts) > 0 && c.Parts[0].Measure == t.Measure {
			c.Peak, c.Latest = level, level
		}
		t.settle(numbers[i], level)
	}
	c.EffectPercent = nil
	if c.Expected != 0 {
		percent := 100 * (c.Peak - c.Expected) / math.Abs(c.Expected)
		c.EffectPercent = &percent
	}
	e.explainRows(g, &c, members, e.row-changeTicks)
	e.finish(&c)
	e.o.OnFinding(Opened, &c)
}

// settle takes what was of late, since the number of a value, for the normal time, and forgets what was before.
func (t *track) settle(since int, level float64) {
	middle := (since + t.number) / 2
	t.mark(0, middle, true)
	t.mark(middle, t.number, false)
	t.at = t.number - usualEvery
	t.usual = usual{}
	if t.fails != nil { // as much is known of it as at the beginning
		*t.fails = failures{all: failurePrior, failed: failurePrior * level / 100}
	}
}
