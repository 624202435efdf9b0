package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// MayBeTold says why a receiver cannot be told of anything but alerts; nil: it can. What keeps state of alerts would wait for an end.
func (r *Receiver) MayBeTold() error {
	if r.PagerDuty != nil || r.Alertmanager != nil {
		return fmt.Errorf("%s takes alerts, which end, and no reports", r.kind())
	}
	return nil
}

// Message is something to be told that is no alert.
type Message struct {
	Name, Summary, Description, URL string
}

// Tell gives one receiver a message, once: it is neither remembered nor tried again.
func Tell(ctx context.Context, o Options, name string, m Message) error {
	if o.ReadFile == nil {
		o.ReadFile = readFile
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Host == "" {
		o.Host, _ = os.Hostname()
	}
	n := &Notifier{o: o, log: o.Log, files: newFiles(o.ReadFile)}
	for _, r := range o.Config.receivers() {
		if r.Name != name {
			continue
		}
		if err := errors.Join(r.MayBeTold(), n.files.check(&r)); err != nil {
			return err
		}
		now := time.Now()
		alert := &Alert{Labels: map[string]string{labelName: m.Name, labelSeverity: "info", labelService: "perfagent", labelInstance: cmp.Or(n.o.Host, "unknown")},
			Annotations: map[string]string{"summary": CutAnnotation(m.Summary), "description": CutAnnotation(m.Description)}, StartsAt: now, GeneratorURL: m.URL}
		group := map[string]string{labelName: m.Name, labelService: "perfagent"}
		one := &notification{ID: identity(map[string]string{"message": fmt.Sprint(now.UnixNano(), m.Name)}), Receiver: r.Name, GroupKey: "{}:" + labelSet(group),
			GroupLabels: group, Alerts: []item{{Alert: alert, New: true, expires: now.Add(lapseAfter)}}, Time: now}
		ctx, cancel := context.WithTimeout(ctx, deliveryTimeout)
		defer cancel()
		return n.integration(&r, 0).deliver(ctx, one)
	}
	return fmt.Errorf("%q: %w", name, ErrNoReceiver)
}
