package export

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// How notifications went is exported by receiver, what never occurred as 0, and nothing where there are none.
func TestNotifyMetrics(t *testing.T) {
	state := &NotifyState{Receivers: []NotifyReceiver{{Receiver: "chat", Integration: "slack", Delivered: 7, AttemptsFailed: 5, Failed: map[string]uint64{"rejected": 1, "expired": 0},
		Dropped: map[string]uint64{"queue_full": 2}, Queue: 3, QueueAge: 90 * time.Second, WriteErrors: 1, Damaged: 4}}, Remedies: map[string]uint64{"run": 2, "silenced": 0}, RemediesFailed: 1}
	registry := prometheus.NewRegistry()
	registry.MustRegister(notifyCollector{func() *NotifyState { return state }})
	const want = `
# HELP perfagent_notifications_dropped_total Alerts that found no room in a receiver's queue.
# TYPE perfagent_notifications_dropped_total counter
perfagent_notifications_dropped_total{reason="queue_full",receiver="chat"} 2
# HELP perfagent_notifications_failed_total Notifications that were given up: rejected by the receiver, or expired after 6 hours of attempts.
# TYPE perfagent_notifications_failed_total counter
perfagent_notifications_failed_total{integration="slack",reason="expired",receiver="chat"} 0
perfagent_notifications_failed_total{integration="slack",reason="rejected",receiver="chat"} 1
# HELP perfagent_notifications_queue_age_seconds For how long one of them has been waiting; 0 without any.
# TYPE perfagent_notifications_queue_age_seconds gauge
perfagent_notifications_queue_age_seconds{receiver="chat"} 90
# HELP perfagent_notifications_queue_length Alerts whose beginning or end a receiver is to be told.
# TYPE perfagent_notifications_queue_length gauge
perfagent_notifications_queue_length{receiver="chat"} 3
# HELP perfagent_notifications_total Notifications of alerts that a receiver has taken.
# TYPE perfagent_notifications_total counter
perfagent_notifications_total{integration="slack",receiver="chat"} 7
# HELP perfagent_remedies_total Incidents that matched a remedy, by what was decided.
# TYPE perfagent_remedies_total counter
perfagent_remedies_total{decision="run"} 2
perfagent_remedies_total{decision="silenced"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "perfagent_notifications_dropped_total", "perfagent_notifications_failed_total",
		"perfagent_notifications_queue_age_seconds", "perfagent_notifications_queue_length", "perfagent_notifications_total", "perfagent_remedies_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	for _, none := range []notifyCollector{{}, {func() *NotifyState { return nil }}} {
		if n := testutil.CollectAndCount(none); n != 0 {
			t.Errorf("%d metrics of no notifications", n)
		}
	}
}
