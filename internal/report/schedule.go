package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/perfagent/perfagent/internal/statefile"
)

// Schedule says which reports are written by themselves.
type Schedule struct {
	Range     string // one of Ranges
	Format    string // one of Formats
	Directory string
	Keep      int    // files of this range and format that stay
	Receiver  string // who gets the summary; "" for nobody
}

const (
	// settle is how long after the end of a range its last interval is awaited: history takes ticks of 10 s.
	settle = 30 * time.Second
	// lookEvery is how often it is looked whether a report is due. A file that is there says that its report was made, over restarts too.
	lookEvery = time.Minute
)

// Scheduler writes reports when their ranges are over. Run has one owner.
type Scheduler struct {
	Make      func(context.Context, Span) (*Report, error) // of Options
	Schedules []Schedule
	// Tell gives a receiver the summary of a report that was written; nil: nobody is told.
	Tell func(ctx context.Context, receiver string, r *Report, file string) error
	Log  *slog.Logger
	Now  func() time.Time // nil means time.Now

	done map[string]bool // files that are not tried again: written, or nothing was counted in their range
	said map[string]bool // files whose trouble was logged
}

// Run writes what is due until the context ends. Of reports that were missed while no agent ran the last one is made.
func (s *Scheduler) Run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		s.Look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Look writes the reports that are due and not there.
func (s *Scheduler) Look(ctx context.Context) {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	if s.done == nil {
		s.done, s.said = map[string]bool{}, map[string]bool{}
	}
	for _, one := range s.Schedules {
		if ctx.Err() != nil {
			return
		}
		span, err := Wanted{Range: one.Range}.Span(now().Add(-settle))
		file := filepath.Join(one.Directory, one.name(span))
		if err == nil && !s.done[file] {
			err = s.write(ctx, &one, span, file)
		}
		if err != nil && ctx.Err() == nil && !s.said[file] {
			s.said[file] = true
			s.Log.Error("a report could not be written; it is tried again each minute", "file", file, "err", err)
		}
	}
}

// name is that of a report's file: its range, and when that began.
func (o *Schedule) name(s Span) string {
	layout := time.DateOnly
	if o.Range == "hourly" {
		layout = "2006-01-02T15"
	}
	return "perfagent-report-" + o.Range + "-" + s.From.UTC().Format(layout) + Extensions[o.Format]
}

// write writes one report unless it is there.
func (s *Scheduler) write(ctx context.Context, o *Schedule, span Span, file string) error {
	if _, err := os.Lstat(file); err == nil {
		s.done[file] = true
		return o.prune()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r, err := s.Make(ctx, span)
	if err != nil {
		return err
	}
	if r.Coverage.CountedSeconds == 0 {
		s.done[file] = true
		s.Log.Info("no report: the agent counted nothing in its range", "file", file)
		return nil
	}
	if err := os.MkdirAll(o.Directory, 0o750); err != nil {
		return err
	}
	if err := statefile.CheckDirectory(o.Directory); err != nil {
		return fmt.Errorf("%s: %w", o.Directory, err)
	}
	var body bytes.Buffer
	if err := r.Write(&body, o.Format); err != nil {
		return err
	}
	if err := statefile.Replace(file, body.Bytes()); err != nil {
		return err
	}
	s.done[file] = true
	s.Log.Info("a report was written", "file", file)
	if s.Tell != nil && o.Receiver != "" {
		if err := s.Tell(ctx, o.Receiver, r, file); err != nil {
			s.Log.Error("a report's receiver was not told", "receiver", o.Receiver, "file", file, "err", err)
		}
	}
	return o.prune()
}

// prune removes the oldest files beyond those that are kept: regular ones that are called as this schedule calls them.
func (o *Schedule) prune() error {
	moment := `\d{4}-\d{2}-\d{2}`
	if o.Range == "hourly" {
		moment += `T\d{2}`
	}
	own := regexp.MustCompile("^perfagent-report-" + o.Range + "-" + moment + regexp.QuoteMeta(Extensions[o.Format]) + "$")
	entries, err := os.ReadDir(o.Directory)
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && own.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names) // by time
	var errs []error
	for _, name := range names[:max(0, len(names)-o.Keep)] {
		errs = append(errs, os.Remove(filepath.Join(o.Directory, name)))
	}
	return errors.Join(errs...)
}
