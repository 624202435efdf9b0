package analytics

import (
	"math"
	"slices"
	"time"
)

// meterTicks is how far back a meter is read: the longest window, which begins up to a sub-window of five minutes earlier.
const meterTicks = peakTicks + ticksPerFive

// meter is a counter of processor seconds as it was at the ticks at which windows can begin: each of the last minute, whole minutes
// before, and the first one. These are 73 readings or so, 1.7 KiB.
type meter struct{ readings []reading }

type reading struct {
	tick    int64
	seconds float64
	at      int64 // when that was, in nanoseconds since 1970
}

// add takes what the counter says at a tick, and when it said so; zero where it says nothing. Then, and where it began anew, what
// was before is forgotten: what a mean is over is without gaps.
func (m *meter) add(tick int64, seconds float64, at time.Time) {
	if at.IsZero() {
		m.readings = m.readings[:0]
		return
	}
	if n := len(m.readings); n > 0 {
		switch before := &m.readings[n-1]; {
		case at.UnixNano() <= before.at:
			return // no newer sample
		case seconds < before.seconds:
			m.readings = m.readings[:0]
		}
	}
	kept := m.readings[:0]
	for i, r := range m.readings {
		age := tick - r.tick
		if age <= meterTicks && (i == 0 || age <= ticksPerMinute || r.tick%ticksPerMinute == 0) {
			kept = append(kept, r)
		}
	}
	m.readings = kept
	m.readings = append(m.readings, reading{tick, seconds, at.UnixNano()})
}

// mean returns the seconds per second from a tick, or the first reading behind it, to the latest one; NaN without two.
func (m *meter) mean(from int64) float64 {
	first := slices.IndexFunc(m.readings, func(r reading) bool { return r.tick >= from })
	if first < 0 || first == len(m.readings)-1 {
		return math.NaN()
	}
	a, b := &m.readings[first], &m.readings[len(m.readings)-1]
	return (b.seconds - a.seconds) / (float64(b.at-a.at) / 1e9)
}
