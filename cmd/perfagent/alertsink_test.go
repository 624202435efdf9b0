package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/notify"
)

// takenEvents is an event log and a Redis server that note what they are given.
type takenEvents struct{ log, stream []string }

func (t *takenEvents) Write(kind string, _ time.Time, v any) {
	t.log = append(t.log, fmt.Sprint(kind, " ", describe(v)))
}
func (t *takenEvents) Alert(_ time.Time, v any) { t.stream = append(t.stream, describe(v)) }

func describe(v any) string {
	e := v.(*alertEvent)
	return fmt.Sprint(e.Labels["alertname"], " ", e.State, " ", e.EndsAt != nil)
}

// Shows that the event log and Redis get one event when an alert begins and one when it ends, whatever comes in between, and that an
// alert with the same labels that begins again is another one; of one that fired before a restart its end alone is news.
func TestAlertSink(t *testing.T) {
	taken := &takenEvents{}
	now := time.Unix(1_800_000_000, 0)
	s := &alertSink{events: taken, redis: taken, now: func() time.Time { return now }, fires: map[string]time.Time{}}
	slow := notify.Alert{Labels: map[string]string{"alertname": "Slow"}, StartsAt: now, EndsAt: now.Add(4 * time.Minute)}
	failing := notify.Alert{Labels: map[string]string{"alertname": "Failing"}, StartsAt: now}
	s.Send([]notify.Alert{slow, failing})
	now = now.Add(time.Minute)
	slow.EndsAt = now.Add(4 * time.Minute)
	s.Send([]notify.Alert{slow, failing}) // as once a minute
	over := slow
	over.EndsAt = now
	s.Send([]notify.Alert{over})
	slow.StartsAt = now
	s.Send([]notify.Alert{slow})
	resumed := notify.Alert{Labels: map[string]string{"alertname": "Resumed"}, StartsAt: now, Resumed: true} // told of before a restart
	s.Send([]notify.Alert{resumed})
	resumed.EndsAt = now
	s.Send([]notify.Alert{resumed})
	want := []string{"Slow firing false", "Failing firing false", "Slow resolved true", "Slow firing false", "Resumed resolved true"}
	if !slices.Equal(taken.stream, want) {
		t.Errorf("stream %q", taken.stream)
	}
	for i := range want {
		want[i] = "alert " + want[i]
	}
	if !slices.Equal(taken.log, want) {
		t.Errorf("event log %q", taken.log)
	}
}
