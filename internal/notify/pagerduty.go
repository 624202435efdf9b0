package notify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

const (
	pagerDutyURL = "https://events.pagerduty.com/v2/enqueue"
	// pagerDutySummaryMax is what PagerDuty takes, in characters; bytes are never fewer.
	pagerDutySummaryMax = 1024
)

// pagerDutyEvent is one of the Events API v2.
type pagerDutyEvent struct {
	RoutingKey string            `json:"routing_key"`
	Action     string            `json:"event_action"`
	Dedup      string            `json:"dedup_key"`
	Client     string            `json:"client,omitempty"`
	Payload    *pagerDutyPayload `json:"payload,omitempty"`
}

type pagerDutyPayload struct {
	Summary   string            `json:"summary"`
	Source    string            `json:"source"`
	Severity  string            `json:"severity"`
	Timestamp time.Time         `json:"timestamp"`
	Component string            `json:"component,omitempty"`
	Class     string            `json:"class,omitempty"`
	Details   map[string]string `json:"custom_details"`
}

type pagerDutySender struct {
	poster
	*PagerDuty
	host string
}

// deliver opens one incident for a group, and closes it when nothing of the group fires. One that is over before PagerDuty heard of it wakes nobody up.
func (s *pagerDutySender) deliver(ctx context.Context, n *notification) error {
	key, err := s.files.secret(s.RoutingKeyFile)
	if err != nil {
		return err
	}
	address := cmp.Or(s.URL, pagerDutyURL)
	if s.URLFile != "" {
		if address, err = s.files.address(&s.Endpoint); err != nil {
			return err
		}
	}
	return s.post(ctx, posting{endpoint: &s.Endpoint, address: address, document: newPagerDutyEvent(n, key, s.host), secrets: []string{key}})
}

func newPagerDutyEvent(n *notification, key, host string) *pagerDutyEvent {
	dedup := sha256.Sum256([]byte(host + "\xff" + n.Receiver + "\xff" + n.GroupKey))
	e := &pagerDutyEvent{RoutingKey: key, Action: "trigger", Dedup: "perfagent-" + hex.EncodeToString(dedup[:16]), Client: "perfagent"}
	if n.status() == statusResolved {
		e.Action = "resolve"
		return e
	}
	worst := &n.Alerts[0]
	e.Payload = &pagerDutyPayload{
		Summary: cut(oneLine(n.title()+": "+worst.summary()), pagerDutySummaryMax), Source: host, Severity: pagerDutySeverity(worst.Labels[labelSeverity]),
		Timestamp: worst.StartsAt.UTC(), Component: worst.Labels[labelService], Class: worst.name(), Details: map[string]string{},
	}
	for i := range n.Alerts[:min(len(n.Alerts), listedMax)] {
		a := &n.Alerts[i]
		name := cut(oneLine(a.name()+" "+a.about()), slackLineMax)
		detail := a.status() + ": " + cmp.Or(a.Annotations["description"], a.summary())
		if advice := a.advice(); advice != "" && !a.Over {
			detail += " Next: " + advice
		}
		e.Payload.Details[name] = cut(oneLine(detail), annotationBytesMax)
	}
	return e
}

// pagerDutySeverity maps the severities to PagerDuty's; an unknown one is a warning.
func pagerDutySeverity(severity string) string {
	if slices.Contains([]string{"critical", "error", "warning", "info"}, severity) {
		return severity
	}
	return "warning"
}
