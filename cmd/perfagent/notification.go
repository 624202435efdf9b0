package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/notify"
	"github.com/perfagent/perfagent/internal/web"
)

// NotifyConfig is who is told of alerts, and when.
type NotifyConfig struct {
	Urgent, Regular []string
	// Receivers have each a name, one kind, and perhaps quiet hours. In the file:
	//
	//	notify:
	//	  receivers:
	//	    - {name: chat, slack: {url-file: /run/secrets/slack}, quiet-hours: {days: [sat, sun], from: "00:00", to: "24:00"}}
	Receivers parsed[[]notify.Receiver]
	GroupBy   []string

	GroupWait, GroupInterval, RepeatInterval time.Duration

	Inhibit  bool
	Silences parsed[[]notify.Silence]

	at map[string]string // where the keys of notifications and remedies stand: file and line
}

// RemediesConfig is what is done by itself when alerts fire.
type RemediesConfig struct {
	Mode    string
	PerHour int
	Rules   parsed[[]notify.Remedy]
}

// Bounds of the times of notifications: seconds for tests and small hosts, a month for what nobody looks at.
const (
	notifyIntervalMin = time.Second
	notifyIntervalMax = 31 * day
	remediesHourMax   = 1000
)

func defaultNotify() NotifyConfig {
	return NotifyConfig{GroupBy: slices.Clone(notify.GroupByDefault), GroupWait: notify.GroupWaitDefault, GroupInterval: notify.GroupIntervalDefault,
		RepeatInterval: notify.RepeatIntervalDefault, Inhibit: true}
}

func defaultRemedies() RemediesConfig {
	return RemediesConfig{Mode: notify.RemediesOff, PerHour: notify.RemediesPerHourDefault}
}

// notification returns the settings as the notifier takes them.
func (c *Config) notification() notify.Config {
	n := notify.Config{Urgent: c.Notify.Urgent, Regular: c.Notify.Regular, Receivers: c.Notify.Receivers.value, GroupBy: c.Notify.GroupBy,
		GroupWait: c.Notify.GroupWait, GroupInterval: c.Notify.GroupInterval, RepeatInterval: c.Notify.RepeatInterval,
		NoInhibit: !c.Notify.Inhibit, Silences: c.Notify.Silences.value,
		Remedies: notify.RemedyConfig{Mode: c.Remedies.Mode, PerHour: c.Remedies.PerHour, Rules: c.Remedies.Rules.value}}
	if n.GroupBy == nil {
		n.GroupBy = []string{} // all in one
	}
	if n.GroupWait == 0 {
		n.GroupWait = -1 // at once; 0 is the default there
	}
	return n
}

// checkNotification reports names that do not fit together; lines are those of the keys of the file.
func (c *Config) checkNotification(file string, lines map[string]int) error {
	for key, line := range lines {
		if strings.HasPrefix(key, "notify.") || strings.HasPrefix(key, "remedies.") {
			if c.Notify.at == nil {
				c.Notify.at = make(map[string]string)
			}
			c.Notify.at[key] = fmt.Sprintf("%s:%d", file, line)
		}
	}
	n := c.notification()
	return c.Notify.locate(n.CheckNames())
}

// locate adds to a mistake where its key stands. One that stands in no file is of the command line or the environment.
func (c *NotifyConfig) locate(err error) error {
	var key *notify.KeyError
	if !errors.As(err, &key) {
		return err
	}
	if at := c.at[key.Key]; at != "" {
		return fmt.Errorf("%s: %w", at, err)
	}
	return usageError{err}
}

// openNotifier makes what tells of alerts. It runs with the exporters.
func (a *agent) openNotifier(config *Config) (err error) {
	a.notifier, err = notify.New(notify.Options{Config: config.notification(), Path: config.Storage.Path, ReadFile: readNamedFile,
		ExternalURL: config.Web.ExternalURL, Version: readBuild().Version, Log: a.log})
	return config.Notify.locate(err)
}

func (a *agent) notifyTrouble() []string { return a.notifier.Trouble() }

// alertStatus is how notifications stand for alerts, as /alerts shows it.
func (a *agent) alertStatus(ctx context.Context, labels []map[string]string) []web.AlertStatus {
	all := make([]web.AlertStatus, len(labels))
	instant := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC().Round(time.Millisecond)
		return &t
	}
	for i, s := range a.notifier.Status(ctx, labels) {
		for _, silence := range s.SilencedBy {
			all[i].SilencedBy = append(all[i].SilencedBy, web.SilenceJSON{Matchers: silence.Text(), Comment: silence.Comment, Until: silence.To})
		}
		all[i].InhibitedBy = s.InhibitedBy
		for _, r := range s.Receivers {
			all[i].Notifications = append(all[i].Notifications, web.NotificationJSON{Receiver: r.Receiver, Integration: r.Integration, State: r.State,
				ToldAt: instant(r.ToldAt), NextAt: instant(r.NextAt), QuietUntil: instant(r.QuietUntil)})
		}
	}
	return all
}

// notifyState adds up the places of each receiver.
func (a *agent) notifyState() *export.NotifyState {
	s := a.notifier.Stats()
	state := &export.NotifyState{RemediesFailed: s.Remedies.Failed}
	for i := range s.Sinks {
		one := &s.Sinks[i]
		at := slices.IndexFunc(state.Receivers, func(r export.NotifyReceiver) bool { return r.Receiver == one.Receiver })
		if at < 0 {
			at = len(state.Receivers)
			state.Receivers = append(state.Receivers, export.NotifyReceiver{Receiver: one.Receiver, Integration: one.Integration,
				Failed: map[string]uint64{}, Dropped: map[string]uint64{}})
		}
		r := &state.Receivers[at]
		r.Delivered += one.Delivered
		r.AttemptsFailed += one.AttemptsFailed
		r.WriteErrors += one.SaveErrors
		r.Damaged += one.Damaged
		r.Queue += one.Queue
		for reason, n := range one.Failed {
			r.Failed[reason] += n
		}
		for reason, n := range one.Dropped {
			r.Dropped[reason] += n
		}
		if !one.Oldest.IsZero() {
			r.QueueAge = max(r.QueueAge, time.Since(one.Oldest))
		}
	}
	state.Remedies = s.Remedies.Decisions
	return state
}
