package notify

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Silence keeps alerts from being told for a time.
type Silence struct {
	Matchers []Matcher // all must match
	From, To time.Time // From zero: since ever
	Comment  string
}

// Text writes the conditions as ParseMatcher reads them, with commas between.
func (s *Silence) Text() string {
	all := make([]string, 0, len(s.Matchers))
	for i := range s.Matchers {
		all = append(all, s.Matchers[i].String())
	}
	return strings.Join(all, ", ")
}

func (s *Silence) mutes(a *Alert, now time.Time) bool {
	return !now.Before(s.From) && now.Before(s.To) && matchAll(s.Matchers, a.Labels)
}

// QuietHours are hours of the week in which a receiver is told only what is urgent.
type QuietHours struct {
	Days     [7]bool        // by time.Weekday; the day on which they begin
	From, To int            // minutes of the day; From >= To: over midnight
	Zone     *time.Location // nil is the host's
}

func (q *QuietHours) contain(t time.Time) bool {
	if q.Zone != nil {
		t = t.In(q.Zone)
	} else {
		t = t.Local()
	}
	minute, today := t.Hour()*60+t.Minute(), t.Weekday()
	if q.From < q.To {
		return q.Days[today] && minute >= q.From && minute < q.To
	}
	return q.Days[today] && minute >= q.From || q.Days[(today+6)%7] && minute < q.To
}

// muting is why an alert is not told at a moment.
type muting int

const (
	audible   muting = iota
	silenced         // by a person
	inhibited        // by an alert that says more
	quiet            // until the quiet hours end
)

// inhibitor knows what has a critical alert.
type inhibitor struct {
	mu       sync.Mutex
	critical map[string]map[string]criticalAlert // by subject and identity
}

type criticalAlert struct {
	name      string
	condition string
	until     time.Time // when it is over unless it is repeated
}

// subjectKey is what an alert is of: an endpoint, whatever the alert; else what has its labels but for those that say how bad it is, as
// the other things that go wrong with a service or a host have nothing to do with it.
func subjectKey(labels map[string]string) string {
	if labels[labelService] != "" && labels[labelRoute] != "" {
		return labels[labelService] + "\xff" + labels[labelMethod] + "\xff" + labels[labelRoute]
	}
	return conditionKey(labels)
}

// conditionKey is what an alert says, but for how bad it is.
func conditionKey(labels map[string]string) string {
	condition := maps.Clone(labels)
	delete(condition, labelSeverity)
	delete(condition, labelBurnRate)
	return identity(condition)
}

// see takes note of an alert that fires until a moment, or that is over.
func (i *inhibitor) see(a *Alert, id string, until time.Time, over bool) {
	if a.Labels[labelSeverity] != "critical" {
		return
	}
	key := subjectKey(a.Labels)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.critical == nil {
		i.critical = make(map[string]map[string]criticalAlert)
	}
	of := i.critical[key]
	if over {
		if delete(of, id); len(of) == 0 {
			delete(i.critical, key)
		}
		return
	}
	if of == nil {
		if len(i.critical) >= alertsMax {
			return // the warning is told as well: no harm
		}
		of = make(map[string]criticalAlert)
		i.critical[key] = of
	}
	if _, known := of[id]; known || len(of) < alertsMax {
		of[id] = criticalAlert{a.name(), conditionKey(a.Labels), until}
	}
}

// inhibits tells whether a critical alert of the same subject fires; of errors, one that says the same.
func (i *inhibitor) inhibits(a *Alert, now time.Time) bool { return len(i.inhibiting(a, now)) > 0 }

// inhibiting returns the names of the critical alerts for which another one is not told.
func (i *inhibitor) inhibiting(a *Alert, now time.Time) (names []string) {
	if a.Labels[labelSeverity] == "critical" {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.critical) == 0 {
		return nil
	}
	key := subjectKey(a.Labels)
	condition := conditionKey(a.Labels)
	for id, c := range i.critical[key] {
		switch {
		case !c.until.After(now):
			delete(i.critical[key], id)
		case !a.isUrgent() || c.condition == condition:
			names = append(names, c.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// mutes is what keeps alerts from being told, whoever the receiver is.
type mutes struct {
	silences  []Silence
	inhibitor *inhibitor // nil: none
}

func (m *mutes) isSilenced(a *Alert, now time.Time) bool {
	for i := range m.silences {
		if m.silences[i].mutes(a, now) {
			return true
		}
	}
	return false
}

// silencesOf returns the silences that keep an alert from being told.
func (m *mutes) silencesOf(a *Alert, now time.Time) (all []Silence) {
	for i := range m.silences {
		if m.silences[i].mutes(a, now) {
			all = append(all, m.silences[i])
		}
	}
	return all
}

func (m *mutes) of(a *Alert, hours []QuietHours, now time.Time) muting {
	switch {
	case m.isSilenced(a, now):
		return silenced
	case m.inhibitor != nil && m.inhibitor.inhibits(a, now):
		return inhibited
	case a.isUrgent():
		return audible
	}
	for i := range hours {
		if hours[i].contain(now) {
			return quiet
		}
	}
	return audible
}
