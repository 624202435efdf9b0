package notify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// notification is what a receiver is told at once: the alerts of one group, as they are.
type notification struct {
	ID          string // the same for each attempt, also after a restart
	Receiver    string
	GroupKey    string
	GroupLabels map[string]string
	Alerts      []item
	Time        time.Time

	group *group
}

// item is an alert in a notification.
type item struct {
	*Alert
	Over bool
	New  bool // the last notification did not say so

	id      string
	expires time.Time // of one that fires
}

// rank puts what fires before what is over, and the worse before the better.
func (i *item) rank() int {
	rank := slices.Index([]string{"info", "warning", "error", "critical"}, i.Labels[labelSeverity])
	if !i.Over {
		rank += 10
	}
	return rank
}

func (i *item) status() string {
	if i.Over {
		return statusResolved
	}
	return statusFiring
}

// Alertmanager's words.
const (
	statusFiring   = "firing"
	statusResolved = "resolved"
)

// firing counts the alerts that fire.
func (n *notification) firing() int {
	count := 0
	for i := range n.Alerts {
		if !n.Alerts[i].Over {
			count++
		}
	}
	return count
}

// status is firing where one of the alerts does.
func (n *notification) status() string {
	if n.firing() > 0 {
		return statusFiring
	}
	return statusResolved
}

// title is one line: what, how many, of what.
func (n *notification) title() string {
	word := "RESOLVED"
	if firing := n.firing(); firing > 0 {
		word = fmt.Sprintf("FIRING:%d", firing)
	}
	name := n.GroupLabels[labelName]
	if name == "" {
		name = n.Alerts[0].name()
	}
	var others []string
	for _, label := range slices.Sorted(maps.Keys(n.GroupLabels)) {
		if label != labelName {
			others = append(others, n.GroupLabels[label])
		}
	}
	return strings.TrimSpace(fmt.Sprintf("[%s] %s %s", word, name, strings.Join(others, " ")))
}

func (a *Alert) name() string { return cmp.Or(a.Labels[labelName], "alert") }

// summary is what an alert says in one sentence.
func (a *Alert) summary() string { return cmp.Or(a.Annotations["summary"], a.name()) }

// advice is what to do next, by the annotations next_step (of built-in rules) and runbook_url; "" where neither is there.
func (a *Alert) advice() string {
	return strings.TrimSpace(a.Annotations["next_step"] + " " + a.Annotations["runbook_url"])
}

// about lists the labels that tell an alert from others of its name.
func (a *Alert) about() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
		if name != labelName {
			parts = append(parts, name+"="+a.Labels[name])
		}
	}
	return strings.Join(parts, " ")
}

// labelInstance says which agent an alert is from, as Prometheus' own label does.
const labelInstance = "instance"

// from returns the notification with the host's name in each alert that names no instance: who hears of several hosts would take the same alert of two
// of them for one. It is no part of what the agent knows an alert by, as a container's host has another name after each start.
func (n *notification) from(host string) *notification {
	c := *n
	c.Alerts = slices.Clone(n.Alerts)
	for i := range c.Alerts {
		a := *c.Alerts[i].Alert
		if host == "" || a.Labels[labelInstance] != "" {
			continue
		}
		a.Labels = maps.Clone(a.Labels)
		a.Labels[labelInstance] = host
		c.Alerts[i].Alert = &a
	}
	return &c
}

// common returns what all of the maps agree in.
func common(alerts []item, of func(*Alert) map[string]string) map[string]string {
	shared := maps.Clone(of(alerts[0].Alert))
	if shared == nil {
		shared = map[string]string{}
	}
	for i := range alerts {
		other := of(alerts[i].Alert)
		maps.DeleteFunc(shared, func(name, value string) bool { return other[name] != value })
	}
	return shared
}

// deliveryError is why a delivery failed.
type deliveryError struct {
	err       error
	permanent bool          // the same will fail again
	after     time.Duration // the receiver asks to be left alone for so long
}

func (e deliveryError) Error() string { return e.err.Error() }
func (e deliveryError) Unwrap() error { return e.err }

func permanently(err error) error { return deliveryError{err: err, permanent: true} }
