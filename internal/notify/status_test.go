package notify

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What keeps an alert from being told, who was told when, and when it is told again, is as it happens; a receiver that does not answer is said to.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		matcher, err := ParseMatcher(`alertname="Silent"`)
		if err != nil {
			t.Fatal(err)
		}
		c := Config{Receivers: []Receiver{webhookReceiver("hook"), webhookReceiver("down"), webhookReceiver("night")}}
		c.Silences = []Silence{{Matchers: []Matcher{matcher}, To: time.Now().Add(time.Hour), Comment: "it is moved"}}
		c.Receivers[2].Quiet = []QuietHours{{Days: [7]bool{true, true, true, true, true, true, true}, From: 0, To: 6 * 60, Zone: time.UTC}}
		f := newFixture(t, c, t.TempDir()).start()
		f.listeners["down"].set(func() error { return errDown })
		slow, silent, critical, same := alert("Slow"), alert("Silent"), alert("Down", "severity", "critical", "http_route", "/a"), alert("Slow", "http_route", "/a")
		all := []Alert{slow, silent, critical, same}
		show := func() (lines []string) {
			var labels []map[string]string
			for _, a := range append(all, alert("Nobody")) {
				labels = append(labels, a.Labels)
			}
			at := func(t time.Time) string {
				if t.IsZero() {
					return "-"
				}
				return t.UTC().Format("15:04:05")
			}
			for i, status := range f.n.Status(t.Context(), labels) {
				line := labels[i]["alertname"]
				for _, s := range status.SilencedBy {
					line += " silenced by " + s.Text() + " (" + s.Comment + ")"
				}
				for _, name := range status.InhibitedBy {
					line += " inhibited by " + name
				}
				for _, s := range status.Receivers {
					line += fmt.Sprintf("; %s: %s %s %s %s", s.Receiver, s.State, at(s.ToldAt), at(s.NextAt), at(s.QuietUntil))
				}
				lines = append(lines, line)
			}
			return lines
		}
		f.pass(20*time.Second, all...)
		if got := show(); got[0] != "Slow; down: waiting - 00:00:30 -; hook: waiting - 00:00:30 -; night: quiet hours - 06:00:00 06:00:00" {
			t.Errorf("at first: %q", got)
		}
		f.pass(2*time.Minute, all...)
		got := show()
		for i := range got { // the pauses between attempts are random
			before, after, _ := strings.Cut(got[i], "down: failing - ")
			if _, rest, ok := strings.Cut(after, " "); ok {
				got[i] = before + "down: failing - " + rest
			}
		}
		want := []string{
			"Slow; down: failing - -; hook: told 00:00:30 04:00:30 -; night: quiet hours - 06:00:00 06:00:00",
			`Silent silenced by alertname="Silent" (it is moved); down: silenced - - -; hook: silenced - - -; night: silenced - - -`,
			"Down; down: failing - -; hook: told 00:00:30 04:00:30 -; night: told 00:00:30 04:00:30 -",
			"Slow inhibited by Down; down: inhibited - - -; hook: inhibited - - -; night: inhibited - - -",
			"Nobody",
		}
		if !slices.Equal(got, want) {
			t.Errorf("told:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		f.restart()
		if got := show(); !strings.Contains(got[0], "hook: told 00:00:30 04:00:30 -") {
			t.Errorf("after a restart: %q", got[0])
		}
		f.stop()
		if got := show(); got[4] != "Nobody; down: unknown - - -; hook: unknown - - -; night: unknown - - -" {
			t.Errorf("when nobody answers: %q", got)
		}
	})
}
