package report

import (
	"context"
	"errors"
	"log/slog"
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
