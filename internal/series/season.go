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

// season is what a level does within a period, by the time within it, and whether knowing that has made guesses better so far.
// It is used only while it does: a season proves itself.
type season struct {
	slots       []float32 // NaN: not met yet
	span        int64     // seconds
	with        float64   // error of late with and without the season
	without     float64
	seenSeconds float64
	used        bool
}

// at returns the season's part of the level, and whether this time was met before.
func (s *season) at(unix int64) (v float64, slot int, known bool) {
	slot = int((unix%s.span + s.span) % s.span * int64(len(s.slots)) / s.span)
	if v = float64(s.slots[slot]); math.IsNaN(v) {
		return 0, slot, false
	}
	return v, slot, true
}

// learn takes the deviation from the slow level at a time; errors are those of the level with and without the season, rate how
// fast they are averaged, and elapsed the seconds since the value before.
func (s *season) learn(slot int, deviation, withError, withoutError, rate, elapsed float64) {
	s.seenSeconds += elapsed
	if math.IsNaN(float64(s.slots[slot])) {
		s.slots[slot] = float32(deviation)
		return
	}
	s.with += (withError - s.with) * rate
	s.without += (withoutError - s.without) * rate
	share := min(1, elapsed*float64(len(s.slots))/float64(s.span)) // several values in a slot share its weight
	s.slots[slot] += float32(seasonRate * share * (deviation - float64(s.slots[slot])))
	if s.used {
		s.used = s.with < seasonLoss*s.without
	} else {
		s.used = s.seenSeconds > seasonPeriods*float64(s.span) && s.with < seasonGain*s.without
	}
}

// newSeason returns a season over slots that holds nothing yet.
func newSeason(slots []float32, span int64) season {
	for i := range slots {
		slots[i] = float32(math.NaN())
	}
	return season{slots: slots, span: span}
}
