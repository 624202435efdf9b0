package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/statefile"
)

// StorageConfig is where and how long the local history is kept.
type StorageConfig struct {
	Path      string        // "": in memory
	Retention time.Duration // 0: there is no history
	MaxBytes  int64
}

// storageBytesMin leaves room for what is in no segment yet.
const storageBytesMin = 32 << 20

// stateDirectoryVariable is what systemd tells a service with StateDirectory= (systemd.exec(5)).
const stateDirectoryVariable = "STATE_DIRECTORY"

// applyService makes the directory that a service manager gives the agent the new default.
func (c *StorageConfig) applyService(environ []string) {
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); name == stateDirectoryVariable {
			c.Path, _, _ = strings.Cut(value, ":")
		}
	}
}

const day = 24 * time.Hour

// parseAge parses 15d, 36h, 1d12h and 0.
func parseAge(s string) (time.Duration, error) {
	days, rest := 0., s
	if before, after, found := strings.Cut(s, "d"); found {
		var err error
		if days, err = strconv.ParseFloat(before, 64); err != nil {
			return 0, fmt.Errorf("%q is not an age such as 15d or 36h", s)
		}
		rest = after
	}
	var d time.Duration
	if rest != "" {
		var err error
		if d, err = time.ParseDuration(rest); err != nil {
			return 0, fmt.Errorf("%q is not an age such as 15d or 36h", s)
		}
	}
	age := days*float64(day) + float64(d)
	if math.IsNaN(age) || age != 0 && age < float64(time.Hour) || age > 10_000*float64(day) {
		return 0, fmt.Errorf("%q is neither 0 nor between 1h and 10000d", s)
	}
	return time.Duration(age), nil
}

// showAge writes whole days as such.
func showAge(text string) string {
	if d, err := time.ParseDuration(text); err == nil && d >= day && d%day == 0 {
		return strconv.Itoa(int(d/day)) + "d"
	}
	return text
}

// The bounds of what may be asked of the local history.
const (
	queryTimeoutMin = 100 * time.Millisecond
	queryTimeoutMax = 50 * time.Second // the server gives an answer a minute in all
	querySamplesMax = 100_000_000      // 1.6 GB
	// queryConcurrencyMax is as many as there may be clients at reading.
	queryConcurrencyMax = 16
)

// newQuery makes what answers PromQL over the local history, also while there is none.
func (a *agent) newQuery(config *Config) *query.Engine {
	return query.New(query.Options{History: a.history.Load, MaxSamples: config.Query.MaxSamples, Timeout: config.Query.Timeout,
		Concurrency: config.Query.MaxConcurrency, Describe: a.describeOwn, Log: a.log})
}

// describeOwn describes the agent's own metrics, where the history has them.
func (a *agent) describeOwn(yield func(name, kind, help string)) {
	if a.history.Load() != nil {
		a.own.Describe(yield)
	}
}

// openHistory opens the local history and has it take every tick; nothing of it is there where it is switched off, or where
// nobody can ask for it.
func (a *agent) openHistory(config *Config) {
	if config.Storage.Retention == 0 || !a.exports() {
		return
	}
	a.own = export.NewOwn(export.MetricsOptions{CollectorOptions: a.collector})
	h := history.Open(history.Options{Path: config.Storage.Path, MaxBytes: config.Storage.MaxBytes, Retention: config.Storage.Retention, Log: a.log,
		Own: a.own.Figures, Works: a.recoveries.of("history")})
	a.history.Store(h)
	a.engine.OnSeal(func(s *analytics.Seal) { h.Consume(s, a.sampler.Latest()) })
}

// checkStorage fails where others could have the agent write to files of theirs, or read what is kept.
func (c *Config) checkStorage() error {
	if c.Storage.Path == "" {
		return nil
	}
	if err := statefile.CheckDirectory(c.Storage.Path); errors.Is(err, statefile.ErrUnsafe) {
		return fmt.Errorf("--storage.path: %w; change its owner or mode, or choose another", err)
	}
	return nil
}

// historyTrouble is what is wrong with the local history, for the agent's health.
func (a *agent) historyTrouble() string {
	h := a.history.Load()
	if h == nil {
		return ""
	}
	s := h.Stats()
	damaged := uint64(0)
	for _, n := range s.Damaged {
		damaged += n
	}
	switch {
	case s.Trouble != "":
		return s.Trouble
	case s.Dropped > 0:
		return fmt.Sprintf("the history lacks %d intervals that it could not take in time", s.Dropped)
	case damaged > 0:
		return fmt.Sprintf("parts of the history were damaged and are set aside (%d)", damaged)
	}
	return ""
}

func (a *agent) historyState() *export.HistoryState {
	h := a.history.Load()
	if h == nil {
		return nil
	}
	s := h.Stats()
	state := &export.HistoryState{Persistent: !s.Memory && s.Trouble == "", Ticks: s.Ticks, Dropped: s.Dropped, WriteErrors: s.WriteErrors, ClockSteps: s.ClockSteps, RecordedRefused: s.RecordedRefused}
	for _, part := range history.Parts {
		state.Damaged = append(state.Damaged, export.HistoryDamage{Part: part, Count: s.Damaged[part]})
	}
	for _, t := range s.Tiers {
		state.Tiers = append(state.Tiers, export.HistoryTier{Name: t.Name, Bytes: t.Bytes, Segments: t.Segments, Oldest: t.Oldest})
	}
	return state
}

func newHistoryCommand(environ []string) *cobra.Command {
	command := &cobra.Command{
		Use:   "history",
		Short: "Work with the local history",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	command.AddCommand(newDumpCommand(environ))
	return command
}

// dumpOptions are the flags of `history dump`.
type dumpOptions struct {
	from, to, format string
	step             time.Duration
	match            []string
}

func newDumpCommand(environ []string) *cobra.Command {
	var o dumpOptions
	command := &cobra.Command{
		Use:   "dump",
		Short: "Print what the local history has",
		Long: "Prints the samples of a time range, from the directory of a running agent or of\n" +
			"one that ended. json has the whole distribution of every interval, csv its\n" +
			"quantiles; openmetrics is for `promtool tsdb create-blocks-from`. Times are\n" +
			"RFC 3339, or ages such as 6h and 7d.",
		Example: "  perfagent history dump --storage.path /var/lib/perfagent --from 7d --step 1h \\\n" +
			"    --match '{service_name=\"shop\"}' --format csv",
		Args: noArguments,
	}
	flags := command.Flags()
	source := addSettings(flags, environ, forHistory)
	flags.StringVar(&o.from, "from", "1d", "`time` of the first samples, or their age")
	flags.StringVar(&o.to, "to", "0", "`time` of the last samples, or their age")
	flags.DurationVar(&o.step, "step", time.Minute, "resolution that is wanted (`duration`): 10s, 1m or 1h, where it is still there")
	flags.StringVar(&o.format, "format", history.Formats[0], "`format`: "+strings.Join(history.Formats, ", "))
	flags.StringArrayVar(&o.match, "match", nil, "only series of this `selector`, such as metric{label=\"value\"}; repeatable, a series of any is printed")
	completeWords(command, "step", "10s", "1m", "1h")
	completeWords(command, "format", history.Formats...)
	command.RunE = func(c *cobra.Command, _ []string) error {
		config, err := source.load()
		if err != nil {
			return err
		}
		return o.dump(c.OutOrStdout(), config.Storage.Path)
	}
	showProgress(command, "reading the history", false)
	return command
}

func (o *dumpOptions) dump(w io.Writer, path string) error {
	if path == "" {
		return usageError{errors.New("--storage.path is needed: the history of an agent without one is in its memory")}
	}
	now := time.Now()
	from, err := parseMoment(o.from, now)
	if err != nil {
		return usageError{fmt.Errorf("flag --from: %w", err)}
	}
	to, err := parseMoment(o.to, now)
	if err != nil {
		return usageError{fmt.Errorf("flag --to: %w", err)}
	}
	if from.After(to) {
		return usageError{fmt.Errorf("--from %s is later than --to %s", o.from, o.to)}
	}
	q := history.Query{From: from, To: to, Step: o.step}
	for _, selector := range o.match {
		matchers, err := history.ParseSelector(selector)
		if err != nil {
			return usageError{fmt.Errorf("flag --match: %w", err)}
		}
		q.Any = append(q.Any, matchers)
	}
	h, err := history.OpenReadOnly(path)
	if err != nil {
		return err
	}
	defer h.Close()
	return history.Dump(w, h, q, o.format)
}

// parseMoment parses a time, or an age before now.
func parseMoment(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if s == "0" {
		return now, nil
	}
	if days, found := strings.CutSuffix(s, "d"); found {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 1e5 {
			return now.Add(-time.Duration(n * float64(day))), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return now, fmt.Errorf("%q is neither a time such as 2026-03-01T12:00:00Z nor an age such as 6h or 7d", s)
}
