package export

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// The state of the history is exported as it is, what never occurred as 0 and what is not known not at all, and nothing where there
// is no history.
func TestHistoryMetrics(t *testing.T) {
	state := &HistoryState{Persistent: true, Ticks: 11, Dropped: 2, WriteErrors: 3, ClockSteps: 1,
		Damaged: []HistoryDamage{{"head", 1}, {"segment", 0}},
		Tiers:   []HistoryTier{{"10s", 4096, 2, time.Unix(1_700_000_000, 0)}, {"1m", 0, 0, time.Time{}}}}
	registry := prometheus.NewRegistry()
	registry.MustRegister(historyCollector{func() *HistoryState { return state }})
	const want = `
# HELP perfagent_history_bytes Size of the local history, without what is in no segment yet.
# TYPE perfagent_history_bytes gauge
perfagent_history_bytes{resolution="10s"} 4096
perfagent_history_bytes{resolution="1m"} 0
# HELP perfagent_history_damaged_total Files and values of the local history that were damaged and set aside.
# TYPE perfagent_history_damaged_total counter
perfagent_history_damaged_total{part="head"} 1
perfagent_history_damaged_total{part="segment"} 0
# HELP perfagent_history_dropped_ticks_total Intervals that the local history could not take in time.
# TYPE perfagent_history_dropped_ticks_total counter
perfagent_history_dropped_ticks_total 2
# HELP perfagent_history_oldest_timestamp_seconds From when on the local history has something.
# TYPE perfagent_history_oldest_timestamp_seconds gauge
perfagent_history_oldest_timestamp_seconds{resolution="10s"} 1.7e+09
# HELP perfagent_history_persistent Whether the local history lasts on the disk; 0: it is kept in memory, as configured or because the disk failed.
# TYPE perfagent_history_persistent gauge
perfagent_history_persistent 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "perfagent_history_bytes", "perfagent_history_damaged_total",
		"perfagent_history_dropped_ticks_total", "perfagent_history_oldest_timestamp_seconds", "perfagent_history_persistent"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	for _, none := range []historyCollector{{}, {func() *HistoryState { return nil }}} {
		if n := testutil.CollectAndCount(none); n != 0 {
			t.Errorf("%d metrics of no history", n)
		}
	}
}
