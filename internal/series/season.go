package series

import "math"

const (
	seasonRate = 0.25 // weight of the newest value of a time of day or week: four periods to learn or to unlearn
	// seasonGain is how much smaller the error must be with the season than without before it is believed, seasonLoss when it is no
	// longer: apart, so that it does not flicker.
	seasonGain, seasonLoss = 0.9, 0.95
	seasonPeriods          = 2 // a pattern seen once is no pattern

	daySlots  = 288 // five minutes
	weekSlots = 84  // two hours
	daySpan   = 86400
	weekSpan  = 7 * daySpan
)

// season is whether knowing what a level does within a period, by the time within it, has made guesses better so far. It is used
// only while it does: a season proves itself. What the level does stands in slots beside it.
type season struct {
	span        int64   // seconds
	with        float64 // error of late with and without the season
	without     float64
	seenSeconds float64
	used        bool
}

// unmet is in the slots of times that were not met yet: NaN, in the one form that a state has it in.
var unmet = float32(math.NaN())

// newSeason returns a season that holds nothing yet, and empties its slots.
func newSeason(slots []float32, span int64) season {
	for i := range slots {
		slots[i] = unmet
	}
	return season{span: span}
}

// at returns the season's part of the level, and whether this time was met before.
func (s *season) at(slots []float32, unix int64) (v float64, slot int, known bool) {
	slot = int((unix%s.span + s.span) % s.span * int64(len(slots)) / s.span)
	if v = float64(slots[slot]); math.IsNaN(v) {
		return 0, slot, false
	}
	return v, slot, true
}

// learn takes the deviation from the slow level at a time; errors are those of the level with and without the season, rate how
// fast they are averaged, and elapsed the seconds since the value before.
func (s *season) learn(slots []float32, slot int, deviation, withError, withoutError, rate, elapsed float64) {
	s.seenSeconds += elapsed
	if math.IsNaN(float64(slots[slot])) {
		slots[slot] = float32(deviation)
		return
	}
	s.with += (withError - s.with) * rate
	s.without += (withoutError - s.without) * rate
	share := min(1, elapsed*float64(len(slots))/float64(s.span)) // several values in a slot share its weight
	slots[slot] += float32(seasonRate * share * (deviation - float64(slots[slot])))
	if s.used {
		s.used = s.with < seasonLoss*s.without
	} else {
		s.used = s.seenSeconds > seasonPeriods*float64(s.span) && s.with < seasonGain*s.without
	}
}
