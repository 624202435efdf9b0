package history

import (
	"maps"
	"time"
)

// Parts are what may be damaged.
var Parts = []string{"format", "head", "tick", "segment"}

// Stats is what a History says of itself.
type Stats struct {
	Memory          bool              // it is kept in memory alone
	Trouble         string            // what is wrong with the disk, in a user's words; "": nothing
	Ticks           uint64            // that were taken over
	Stored          uint64            // number of the latest one that lasts; they count on from the start before
	Dropped         uint64            // ticks that found the queue full
	RecordedRefused uint64            // samples of rules that found no room for one more series
	Lost            uint64            // segments that found no room in memory while the disk could not be written
	Seals           uint64            // times that segments were made
	WriteErrors     uint64            // attempts to write that failed
	ClockSteps      uint64            // jumps of the clock
	Damaged         map[string]uint64 // by one of Parts: what was not what was written
	Tiers           []TierStats
	DamageBytes     int64 // of files that were set aside
}

// TierStats is what one resolution has.
type TierStats struct {
	Name     string
	Segments int
	Bytes    int64
	Oldest   time.Time // start of the earliest; zero: there is none
}

// Stats returns the state as of now.
func (h *History) Stats() Stats {
	h.mu.RLock()
	defer h.mu.RUnlock()
	s := h.stats
	s.Damaged = maps.Clone(s.Damaged)
	s.Dropped = h.dropped.Load()
	s.RecordedRefused = h.recorded.count()
	for t := range tiers {
		s.Tiers = append(s.Tiers, TierStats{Name: t.String()})
	}
	for _, g := range h.view.segments {
		t := &s.Tiers[g.tier]
		t.Segments++
		t.Bytes += g.bytes
		if from := time.Unix((g.from-g.tier.unit())*slotSeconds, 0); t.Oldest.IsZero() || from.Before(t.Oldest) {
			t.Oldest = from
		}
	}
	return s
}

// OnlyHours tells whether, before a time, no intervals but those of an hour are kept.
func (s *Stats) OnlyHours() (before time.Time, ok bool) {
	for _, t := range s.Tiers[:tierHour] {
		if !t.Oldest.IsZero() && (before.IsZero() || t.Oldest.Before(before)) {
			before = t.Oldest
		}
	}
	hours := s.Tiers[tierHour].Oldest
	return before, !before.IsZero() && hours.Before(before)
}
