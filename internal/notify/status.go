package notify

import (
	"context"
	"maps"
	"slices"
	"time"
)

// How an alert stands with a receiver.
const (
	StandingTold      = "told"      // that it fires
	StandingWaiting   = "waiting"   // for NextAt
	StandingFailing   = "failing"   // telling is tried again and again
	StandingGivenUp   = "given up"  // telling failed for good
	StandingSilenced  = "silenced"  // SilencedBy
	StandingInhibited = "inhibited" // InhibitedBy
	StandingQuiet     = "quiet hours"
	StandingUnknown   = "unknown" // the receiver's sink does not say: it is busy, or does not run
)

// askPatience is how long sinks may take to say how things stand: one that writes to a slow disk answers later.
const askPatience = time.Second

// Standing is how an alert stands with one receiver.
type Standing struct {
	Receiver, Integration string
	State                 string
	ToldAt                time.Time // when it was told last; zero: never
	NextAt                time.Time // when it is told next, or again; zero: never, or nobody knows
	QuietUntil            time.Time // when the quiet hours end that hold it back; zero: none do
}

// AlertStatus is what keeps an alert from being told, and who was told of it.
type AlertStatus struct {
	SilencedBy  []Silence
	InhibitedBy []string // names of alerts
	Receivers   []Standing
}

// Status tells how each alert of a list stands, by its labels. Alerts that were not sent are told to nobody.
func (n *Notifier) Status(ctx context.Context, labels []map[string]string) []AlertStatus {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	all := make([]AlertStatus, len(labels))
	ids := make([]string, len(labels))
	alerts := make([]*Alert, len(labels))
	now, muted := time.Now(), n.mutes.Load()
	for i := range labels {
		alerts[i] = (&Alert{Labels: labels[i]}).cleaned()
		ids[i] = identity(alerts[i].Labels)
		all[i].SilencedBy = muted.silencesOf(alerts[i], now)
		if muted.inhibitor != nil {
			all[i].InhibitedBy = muted.inhibitor.inhibiting(alerts[i], now)
		}
	}
	for _, s := range n.running() {
		found, answered := s.ask(ctx, ids)
		for i, id := range ids {
			one, known := found[id]
			if !answered && s.takes(alerts[i]) {
				one, known = Standing{State: StandingUnknown}, true
			}
			if known {
				one.Receiver, one.Integration = s.receiver, s.kind
				all[i].Receivers = append(all[i].Receivers, one)
			}
		}
	}
	return all
}

// running returns the sinks in the order of their names.
func (n *Notifier) running() (all []running) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(n.sinks)) {
		all = append(all, *n.sinks[key])
	}
	return all
}

func (r *running) takes(a *Alert) bool {
	if a.isUrgent() {
		return r.urgent
	}
	return r.regular
}

// question asks a sink how alerts stand with it; the answer, which has room, is by their identities.
type question struct {
	ids    []string
	answer chan map[string]Standing
}

// ask returns how alerts stand with the sink; those that it does not know are left out. ok: it has answered in time.
func (s *sink) ask(ctx context.Context, ids []string) (found map[string]Standing, ok bool) {
	q := question{ids, make(chan map[string]Standing, 1)}
	select {
	case s.questions <- q:
	case <-ctx.Done():
		return nil, false
	}
	select {
	case found = <-q.answer:
		return found, true
	case <-ctx.Done():
		return nil, false
	}
}

// standings answers a question.
func (s *sink) standings(ids []string, now time.Time) map[string]Standing {
	found := make(map[string]Standing, len(ids))
	next := map[*group]time.Time{}
	quietUntil := quietEnd(s.policy.quiet, now)
	for _, id := range ids {
		t := s.alerts[id]
		if t == nil {
			continue
		}
		at, known := next[t.group]
		if !known {
			if due, ok := s.due(t.group, now); ok {
				at = later(due, s.retryAt)
			}
			next[t.group] = at
		}
		one := Standing{ToldAt: t.toldAt, NextAt: at}
		switch m := s.muting(t, now); {
		case m == silenced:
			one.State, one.NextAt = StandingSilenced, time.Time{}
		case m == inhibited:
			one.State, one.NextAt = StandingInhibited, time.Time{}
		case m == quiet:
			one.State, one.NextAt, one.QuietUntil = StandingQuiet, quietUntil, quietUntil
		case t.gaveUp:
			one.State = StandingGivenUp
		case t.told || s.policy.forward && !t.toldAt.IsZero():
			one.State = StandingTold
		case !t.group.failing.IsZero():
			one.State = StandingFailing
		default:
			one.State = StandingWaiting
		}
		found[id] = one
	}
	return found
}

// quietDaysMax is how far an end of quiet hours is looked for: hours that cover the whole week have none.
const quietDaysMax = 8

// quietEnd returns when quiet hours that are end, to the minute; zero where there are none, or no end.
func quietEnd(hours []QuietHours, now time.Time) time.Time {
	isQuiet := func(at time.Time) bool {
		return slices.ContainsFunc(hours, func(q QuietHours) bool { return q.contain(at) })
	}
	if !isQuiet(now) {
		return time.Time{}
	}
	for at := now.Truncate(time.Minute); at.Before(now.Add(quietDaysMax * 24 * time.Hour)); at = at.Add(time.Minute) {
		if at.After(now) && !isQuiet(at) {
			return at
		}
	}
	return time.Time{}
}
