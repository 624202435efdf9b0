package host

import "math"

// Unknown stands for a figure that could not be read or that does not exist yet, such as the rate of a counter that was
// read once. It is not a number: compare with Known.
var Unknown = math.NaN()

// Known tells whether a figure is known.
func Known(v float64) bool { return !math.IsNaN(v) }

// Counter is a figure that only grows, in the unit that its field names.
type Counter struct {
	Total float64 // since whenever the kernel began to count; Unknown where the kernel does not count
	Rate  float64 // a second, over the last interval; Unknown at the first reading and where the counter went back
}

var unknownCounter = Counter{Unknown, Unknown}

// next is the counter at its next reading, seconds after the one before; 0 means that there was none.
func (c Counter) next(total, seconds float64) Counter {
	if seconds <= 0 || total < c.Total {
		return Counter{total, Unknown}
	}
	return Counter{total, (total - c.Total) / seconds}
}

// nextMonotonic is next for counters that the kernel lets go back by a little: such a step counts as none.
func (c Counter) nextMonotonic(total, seconds float64) Counter {
	if seconds > 0 {
		total = max(total, c.Total)
	}
	return c.next(total, seconds)
}
