package alert

import "time"

// jumpMin is by how much the wall clock must differ from the one that nobody sets to have been set, or to have gone on while the machine
// slept.
const jumpMin = time.Second

// keepTime looks whether the clock was set since the last time, and moves what is measured by it along: nothing becomes older or younger by
// that. What began to fire keeps its start, by which receivers and remedies know it. It is called with mu held.
func (m *Manager) keepTime(now time.Time) {
	jump := now.Round(0).Sub(m.seen.Round(0)) - m.passed(m.seen, now)
	m.seen = now
	if jump.Abs() < jumpMin {
		return
	}
	m.log.Warn("the clock was set, or the machine slept: alerts go on as they were", "by", jump.Round(time.Millisecond))
	m.epoch++ // what is evaluated for an instant of before changes nothing any more
	m.started = m.started.Add(jump)
	for _, g := range m.groups {
		for _, r := range g.rules {
			for _, a := range r.active {
				a.moveBy(jump, now)
			}
		}
	}
}

// moveBy moves an alert's times with the clock. The windows of its rule may be empty now, as after a restart.
func (a *instance) moveBy(jump time.Duration, now time.Time) {
	for _, at := range []*time.Time{&a.sentAt, &a.keepFiringSince, &a.heldUntil} {
		if !at.IsZero() {
			*at = at.Add(jump)
		}
	}
	if a.state != Firing {
		a.activeAt = a.activeAt.Add(jump)
		return
	}
	a.activeAt = a.activeAt.Add(min(0, jump)) // one that lies ahead would look like a longer `for`
	if until := now.Round(0).Add(restartHold); a.heldUntil.Before(until) {
		a.heldUntil = until
	}
}
