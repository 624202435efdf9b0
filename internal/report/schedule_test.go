package report

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func names(t *testing.T, directory string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// Shows which files are there, and who is told, as time goes on: of days that were missed the last is made once, a restart makes none again,
// a failure is tried again, a range without data makes none, and of one's own files the oldest go.
func TestScheduler(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "reports")
	now := time.Date(2026, 3, 4, 14, 37, 20, 0, time.UTC)
	made, told := 0, []string{}
	var fails error
	counted := 3600.
	restart := func() *Scheduler {
		return &Scheduler{Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
			Schedules: []Schedule{{Range: "daily", Format: "html", Directory: directory, Keep: 2, Receiver: "chat"}},
			Make: func(_ context.Context, s Span) (*Report, error) {
				made++
				r := fixture()
				r.From, r.To, r.Coverage.CountedSeconds = s.From, s.To, counted
				return r, fails
			},
			Tell: func(_ context.Context, receiver string, r *Report, file string) error {
				told = append(told, receiver+" "+r.From.Format(time.DateOnly)+" "+filepath.Base(file))
				return errors.New("chat is away")
			}}
	}
	s := restart()
	expect := func(what string, files ...string) {
		t.Helper()
		s.Look(context.Background())
		if got := names(t, directory); !slices.Equal(got, files) {
			t.Errorf("%s: %v, expected %v", what, got, files)
		}
	}
	expect("missed days", "perfagent-report-daily-2026-03-03.html")
	if info, err := os.Stat(filepath.Join(directory, "perfagent-report-daily-2026-03-03.html")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	s = restart()
	expect("a restart", "perfagent-report-daily-2026-03-03.html")
	if made != 1 || len(told) != 1 || told[0] != "chat 2026-03-03 perfagent-report-daily-2026-03-03.html" {
		t.Errorf("%d made, told %v", made, told)
	}
	for _, foreign := range []string{"perfagent-report-daily-2020-01-01.html.bak", "perfagent-report-daily-2020-01-01.md", "report.html", "perfagent-report-hourly-2020-01-01T00.html"} {
		if err := os.WriteFile(filepath.Join(directory, foreign), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(directory, "perfagent-report-daily-2020-01-02.html"), 0o700); err != nil {
		t.Fatal(err)
	}
	others := []string{"perfagent-report-daily-2020-01-01.html.bak", "perfagent-report-daily-2020-01-01.md", "perfagent-report-daily-2020-01-02.html"}
	rest := []string{"perfagent-report-hourly-2020-01-01T00.html", "report.html"}
	with := func(files ...string) []string { return slices.Concat(others, files, rest) }
	now, fails = time.Date(2026, 3, 5, 0, 0, 20, 0, time.UTC), errors.New("too slow")
	expect("the day is over, its last ticks are not there", with("perfagent-report-daily-2026-03-03.html")...)
	now = now.Add(time.Minute)
	expect("a failure", with("perfagent-report-daily-2026-03-03.html")...)
	fails = nil
	expect("after a failure", with("perfagent-report-daily-2026-03-03.html", "perfagent-report-daily-2026-03-04.html")...)
	now, counted = now.Add(day), 0
	before := made
	expect("a day without data", with("perfagent-report-daily-2026-03-03.html", "perfagent-report-daily-2026-03-04.html")...)
	expect("and again", with("perfagent-report-daily-2026-03-03.html", "perfagent-report-daily-2026-03-04.html")...)
	if made != before+1 {
		t.Errorf("%d made", made-before)
	}
	now, counted = now.Add(day), 60
	expect("the third file", with("perfagent-report-daily-2026-03-04.html", "perfagent-report-daily-2026-03-06.html")...)
	body, err := os.ReadFile(filepath.Join(directory, "perfagent-report-daily-2026-03-06.html"))
	if err != nil || !strings.HasSuffix(string(body), "</html>\n") {
		t.Error(err, len(body))
	}
}

// An hour after the other each has its report in every format, once, half a minute after its end: not for a minute before the hour, nor twice within it,
// across midnight and where an agent was away for hours, of which the last is made.
func TestSchedulerHours(t *testing.T) {
	directory, start := t.TempDir(), time.Date(2026, 3, 4, 22, 58, 0, 0, time.UTC)
	now := start
	made := map[string]int{}
	s := &Scheduler{Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
		Make: func(_ context.Context, s Span) (*Report, error) {
			if s.length() != time.Hour || s.To.After(now.Add(-settle)) {
				t.Errorf("at %s the report of %s to %s is made", now, s.From, s.To)
			}
			made[s.From.Format("2 15:04")]++
			r := fixture()
			r.From, r.To = s.From, s.To
			return r, nil
		}}
	for _, format := range Formats {
		s.Schedules = append(s.Schedules, Schedule{Range: "hourly", Format: format, Directory: directory, Keep: 3})
	}
	look := func(until time.Time) {
		for ; now.Before(until); now = now.Add(lookEvery) {
			s.Look(context.Background())
		}
	}
	look(time.Date(2026, 3, 4, 23, 0, 20, 0, time.UTC))
	if got, want := names(t, directory), []string{"perfagent-report-hourly-2026-03-04T21.html", "perfagent-report-hourly-2026-03-04T21.json", "perfagent-report-hourly-2026-03-04T21.md"}; !slices.Equal(got, want) {
		t.Errorf("before the hour is over: %v", got)
	}
	look(time.Date(2026, 3, 5, 1, 30, 0, 0, time.UTC))
	now = time.Date(2026, 3, 5, 7, 12, 0, 0, time.UTC)
	look(now.Add(2 * lookEvery))
	want := map[string]int{"4 21:00": 3, "4 22:00": 3, "4 23:00": 3, "5 00:00": 3, "5 06:00": 3}
	if !maps.Equal(made, want) {
		t.Errorf("made %v, expected %v", made, want)
	}
	files := names(t, directory)
	if len(files) != 9 || files[0] != "perfagent-report-hourly-2026-03-04T23.html" || files[8] != "perfagent-report-hourly-2026-03-05T06.md" {
		t.Errorf("kept: %v", files)
	}
}
