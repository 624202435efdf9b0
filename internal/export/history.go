package export

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// HistoryState is what the local history says of itself.
type HistoryState struct {
	Persistent      bool // what is counted lasts on the disk
	Ticks           uint64
	Dropped         uint64
	WriteErrors     uint64
	ClockSteps      uint64
	RecordedRefused uint64
	Damaged         []HistoryDamage // each part, whether it occurred or not
	Tiers           []HistoryTier
}

// HistoryDamage is how often a part of the history was found damaged.
type HistoryDamage struct {
	Part  string
	Count uint64
}

// HistoryTier is what the history has in one resolution.
type HistoryTier struct {
	Name     string
	Bytes    int64
	Segments int
	Oldest   time.Time // zero: there is nothing
}

var (
	descHistoryPersistent = describe("perfagent_history_persistent",
		"Whether the local history lasts on the disk; 0: it is kept in memory, as configured or because the disk failed.")
	descHistoryTicks   = describe("perfagent_history_ticks_total", "Intervals of 10 s that the local history took over.")
	descHistoryDropped = describe("perfagent_history_dropped_ticks_total", "Intervals that the local history could not take in time.")
	descHistoryErrors  = describe("perfagent_history_write_errors_total", "Attempts to write the local history that failed.")
	descHistorySteps   = describe("perfagent_history_clock_steps_total", "Jumps of the clock that the local history noticed.")
	descHistoryRefused = describe("perfagent_history_recorded_refused_total", "Samples of recorded series that found no room for one more series in the local history.")
	descHistoryDamaged = describe("perfagent_history_damaged_total", "Files and values of the local history that were damaged and set aside.", "part")
	descHistoryBytes   = describe("perfagent_history_bytes", "Size of the local history, without what is in no segment yet.", "resolution")
	descHistoryFiles   = describe("perfagent_history_segments", "Segments of the local history.", "resolution")
	descHistoryOldest  = describe("perfagent_history_oldest_timestamp_seconds", "From when on the local history has something.", "resolution")
)

// historyCollector exports the state of the local history, where there is one.
type historyCollector struct{ state func() *HistoryState }

// Describe implements prometheus.Collector; see Collector.Describe.
func (c historyCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c historyCollector) Collect(ch chan<- prometheus.Metric) {
	if c.state == nil {
		return
	}
	s := c.state()
	if s == nil {
		return
	}
	gauge, counter := figures(ch)
	gauge(descHistoryPersistent, oneIf(s.Persistent))
	counter(descHistoryTicks, s.Ticks)
	counter(descHistoryDropped, s.Dropped)
	counter(descHistoryErrors, s.WriteErrors)
	counter(descHistorySteps, s.ClockSteps)
	counter(descHistoryRefused, s.RecordedRefused)
	for _, d := range s.Damaged {
		counter(descHistoryDamaged, d.Count, d.Part)
	}
	for _, t := range s.Tiers {
		gauge(descHistoryBytes, float64(t.Bytes), t.Name)
		gauge(descHistoryFiles, float64(t.Segments), t.Name)
		if !t.Oldest.IsZero() {
			gauge(descHistoryOldest, float64(t.Oldest.Unix()), t.Name)
		}
	}
}
