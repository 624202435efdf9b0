package series

import "math"

const (
	// earlyFirst is how many values an early judgement rests on: of fewer, five that are larger than all are no surprise.
	earlyFirst = 30
	// earlyMost ends the number of values in a row that count: more would be no rarer to anybody.
	earlyMost = 8
)

// early judges a young series by order alone, which needs no distribution: that of n values the last m are the farthest out is as
// likely as any other choice of m. To hold for values that depend on those before, they must be far out: as far beyond all others as
// those are apart. So only what is gross is found, and what lasts.
type early struct {
	values    int // that were not far out
	low, high float64
	run       int // values far out, up to the last
}

// add learns a value and returns the negative decimal logarithm of how likely a run as long as the one that it ends was.
func (e *early) add(value float64) float64 {
	width := e.high - e.low
	if e.values >= earlyFirst && width > 0 && (value > e.high+width || value < e.low-width) {
		e.run++
		return logChoices(e.values+min(e.run, earlyMost), min(e.run, earlyMost))
	}
	if e.values == 0 {
		e.low, e.high = value, value
	}
	e.low, e.high = min(e.low, value), max(e.high, value)
	e.values += e.run + 1
	e.run = 0
	return 0
}

// logChoices returns the decimal logarithm of the number of ways to choose m of n.
func logChoices(n, m int) float64 {
	sum := 0.0
	for i := range m {
		sum += math.Log10(float64(n-i) / float64(m-i))
	}
	return sum
}
