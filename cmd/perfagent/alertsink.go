package main

import (
	"sync"
	"time"

	"github.com/perfagent/perfagent/internal/eventlog"
	"github.com/perfagent/perfagent/internal/notify"
)

// alertSink hands alerts on: all to the notifier, and to the event log and Redis what begins and what ends. It implements
// alert.Sink.
type alertSink struct {
	notifier *notify.Notifier
	events   eventWriter
	redis    alertTaker
	now      func() time.Time

	mu    sync.Mutex
	fires map[string]time.Time // since when, by notify.Alert.Key
}

// eventWriter is what alertSink needs of an eventlog.Log.
type eventWriter interface {
	Write(kind string, at time.Time, v any)
}

// alertTaker is what alertSink needs of a redis.Publisher.
type alertTaker interface {
	Alert(at time.Time, v any)
}

// alertEvent is a line of the event log, and an entry of the stream in Redis.
type alertEvent struct {
	State       string            `json:"state"` // firing, resolved
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	StartsAt    time.Time         `json:"starts_at"`
	EndsAt      *time.Time        `json:"ends_at,omitempty"` // of one that is resolved
}

func (a *agent) newAlertSink() *alertSink {
	return &alertSink{notifier: a.notifier, events: a.events, redis: a.redis, now: time.Now, fires: map[string]time.Time{}}
}

// Send implements alert.Sink. Alerts that fire come once a minute: of these the first one is news, unless it was told before a restart.
func (s *alertSink) Send(alerts []notify.Alert) {
	if s.notifier != nil {
		s.notifier.Send(alerts)
	}
	now := s.now().Round(time.Millisecond)
	for i := range alerts {
		if event := s.news(&alerts[i], now); event != nil {
			s.events.Write(eventlog.KindAlert, now, event)
			s.redis.Alert(now, event)
		}
	}
}

// news returns what begins or ends, nil for what goes on.
func (s *alertSink) news(a *notify.Alert, now time.Time) *alertEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := a.Key()
	since, fires := s.fires[key]
	event := &alertEvent{"firing", a.Labels, a.Annotations, a.StartsAt.UTC().Round(time.Millisecond), nil}
	if !a.EndsAt.IsZero() && !a.EndsAt.After(now) {
		delete(s.fires, key)
		ends := a.EndsAt.UTC().Round(time.Millisecond)
		event.State, event.EndsAt = "resolved", &ends
		return event
	}
	s.fires[key] = a.StartsAt
	if a.Resumed || fires && since.Equal(a.StartsAt) {
		return nil
	}
	return event
}
