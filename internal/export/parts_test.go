package export

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Parts that are there export their state under the documented names, parts that are not export nothing.
func TestPartsCollector(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(partsCollector{PartsState{
		EventLog: func() *EventLogState {
			return &EventLogState{Lines: map[string]uint64{"alert": 3}, Dropped: map[string]uint64{"write": 2}, Rotations: 1}
		},
		Redis:      func() *RedisState { return nil },
		Recoveries: func() []Recovery { return []Recovery{{Part: "history", Down: true, Count: 4, AwaySeconds: 1.5}} },
	}})
	want := `# HELP perfagent_event_log_dropped_total Lines that are not in the event log: it could not keep up (queue_full), it could not be written (write), or they were no objects (invalid).
# TYPE perfagent_event_log_dropped_total counter
perfagent_event_log_dropped_total{reason="write"} 2
# HELP perfagent_event_log_lines_total Lines written to the event log.
# TYPE perfagent_event_log_lines_total counter
perfagent_event_log_lines_total{kind="alert"} 3
# HELP perfagent_event_log_rotations_total Times that the event log began another file.
# TYPE perfagent_event_log_rotations_total counter
perfagent_event_log_rotations_total 1
# HELP perfagent_event_log_writable Whether the event log can be written; 0: its lines are dropped.
# TYPE perfagent_event_log_writable gauge
perfagent_event_log_writable 0
# HELP perfagent_part_away_seconds_total How long a part of the agent was away after it had failed.
# TYPE perfagent_part_away_seconds_total counter
perfagent_part_away_seconds_total{part="history"} 1.5
# HELP perfagent_part_up Whether a part of the agent works; 0: it failed and is tried again.
# TYPE perfagent_part_up gauge
perfagent_part_up{part="history"} 0
# HELP perfagent_recoveries_total Times that a part of the agent came back after it had failed.
# TYPE perfagent_recoveries_total counter
perfagent_recoveries_total{part="history"} 4
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
