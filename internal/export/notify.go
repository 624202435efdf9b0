package export

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// NotifyState is what the notifications of alerts say of themselves.
type NotifyState struct {
	Receivers      []NotifyReceiver
	Remedies       map[string]uint64 // incidents that matched one, by decision, each whether it occurred or not
	RemediesFailed uint64
}

// NotifyReceiver is how it went with one receiver.
type NotifyReceiver struct {
	Receiver, Integration string
	Delivered             uint64
	AttemptsFailed        uint64
	Failed                map[string]uint64 // each reason, whether it occurred or not
	Dropped               map[string]uint64 // likewise
	Queue                 int
	QueueAge              time.Duration
	WriteErrors           uint64
	Damaged               uint64
}

var (
	descNotifications = describe("perfagent_notifications_total", "Notifications of alerts that a receiver has taken.", "receiver", "integration")
	descNotifyTries   = describe("perfagent_notification_attempts_failed_total",
		"Attempts to deliver a notification that failed; each was made again, or its notification given up.", "receiver", "integration")
	descNotifyFailed = describe("perfagent_notifications_failed_total",
		"Notifications that were given up: rejected by the receiver, or expired after 6 hours of attempts.", "receiver", "integration", "reason")
	descNotifyDropped = describe("perfagent_notifications_dropped_total", "Alerts that found no room in a receiver's queue.", "receiver", "reason")
	descNotifyQueue   = describe("perfagent_notifications_queue_length", "Alerts whose beginning or end a receiver is to be told.", "receiver")
	descNotifyAge     = describe("perfagent_notifications_queue_age_seconds", "For how long one of them has been waiting; 0 without any.", "receiver")
	descNotifyWrites  = describe("perfagent_notifications_write_errors_total", "Attempts to write down what a receiver was told that failed.", "receiver")
	descNotifyDamaged = describe("perfagent_notifications_damaged_total", "Files of what a receiver was told that were damaged and set aside.", "receiver")
	descRemedies      = describe("perfagent_remedies_total", "Incidents that matched a remedy, by what was decided.", "decision")
	descRemediesFail  = describe("perfagent_remedies_failed_total", "Remedies that were done and failed.")
)

// notifyCollector exports the state of notifications, where there are any.
type notifyCollector struct{ state func() *NotifyState }

// Describe implements prometheus.Collector; see Collector.Describe.
func (c notifyCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c notifyCollector) Collect(ch chan<- prometheus.Metric) {
	if c.state == nil {
		return
	}
	s := c.state()
	if s == nil {
		return
	}
	gauge, counter := figures(ch)
	for i := range s.Receivers {
		r := &s.Receivers[i]
		counter(descNotifications, r.Delivered, r.Receiver, r.Integration)
		counter(descNotifyTries, r.AttemptsFailed, r.Receiver, r.Integration)
		for _, reason := range slices.Sorted(maps.Keys(r.Failed)) {
			counter(descNotifyFailed, r.Failed[reason], r.Receiver, r.Integration, reason)
		}
		for _, reason := range slices.Sorted(maps.Keys(r.Dropped)) {
			counter(descNotifyDropped, r.Dropped[reason], r.Receiver, reason)
		}
		gauge(descNotifyQueue, float64(r.Queue), r.Receiver)
		gauge(descNotifyAge, r.QueueAge.Seconds(), r.Receiver)
		counter(descNotifyWrites, r.WriteErrors, r.Receiver)
		counter(descNotifyDamaged, r.Damaged, r.Receiver)
	}
	for _, decision := range slices.Sorted(maps.Keys(s.Remedies)) {
		counter(descRemedies, s.Remedies[decision], decision)
	}
	counter(descRemediesFail, s.RemediesFailed)
}
