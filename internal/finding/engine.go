package finding

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
)

// SensitivityDefault is how many false alarms are wanted per series and week.
const SensitivityDefault = 0.05

// Limits bound what an engine keeps. The zero value has defaults.
type Limits struct {
	// Series is how many series are followed; the busiest endpoints and targets come first. 0: SeriesDefault.
	Series int
	// Findings is how many are published, the open ones first. 0: FindingsDefault.
	Findings int
}

const (
	// SeriesDefault keeps memory below 16 MiB: a series takes 0.7 to 1.4 KiB, one that is judged by days as well 5.3 KiB.
	SeriesDefault = 8000
	// FindingsDefault is more than anybody reads.
	FindingsDefault = 256
)

// Options configure an Engine. The zero value is ready to use.
type Options struct {
	// Sensitivity is how many false alarms are wanted per series and week; 0: SensitivityDefault.
	Sensitivity float64
	// Tick is the time between two seals; 0: analytics.TickInterval.
	Tick   time.Duration
	Limits Limits
	// Explain fills in what a finding comes from, and its words, when it opens, a few ticks later and when it ends; nil: the package's own.
	Explain func(*Finding, *Evidence)
	// Serves tells which service of this host answers at an address, or name, and port, from the goroutine that consumes; nil: unknown.
	Serves func(address string, port uint16) (Subject, bool)
	// OnFinding is told when a finding opened, changed and ended, from the goroutine that consumes, which it must not hold up
	// nor ask for the past; nil: nobody is.
	OnFinding func(Event, *Finding)
	// File keeps what was learned through a restart; "": nothing does.
	File string
	// Past is the file of findings that ended; "": they are kept for a day.
	Past string
	Log  *slog.Logger // nil: silent
}

func (o *Options) setDefaults() {
	if !(o.Sensitivity > 0) {
		o.Sensitivity = SensitivityDefault
	}
	if o.Tick <= 0 {
		o.Tick = analytics.TickInterval
	}
	if o.Limits.Series <= 0 {
		o.Limits.Series = SeriesDefault
	}
	if o.Limits.Findings <= 0 {
		o.Limits.Findings = FindingsDefault
	}
	if o.Explain == nil {
		o.Explain = explain
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnFinding == nil {
		o.OnFinding = func(Event, *Finding) {}
	}
}

// Event is what happened to a finding.
type Event string

const (
	Opened  Event = "opened"
	Changed Event = "changed" // another metric leads, other endpoints are concerned, it is more or less severe, or part of another incident
	Ended   Event = "ended"
)

// Reading is a value of a series that neither seals nor samples have, of the time since the seal before.
type Reading struct {
	Measure
	Value float64 // in the metric's unit; NaN: unknown
}

// Engine finds what is unusual. Consume has one caller at a time; Findings, Scores and Stats may be called from any goroutine.
type Engine struct {
	o         Options
	queue     chan delivery
	dropped   atomic.Uint64
	threshold atomic.Uint64 // float64: score of an alarm
	published atomic.Pointer[published]

	// Of whoever consumes.
	row        int64     // ticks since the beginning, gaps included
	tick       int64     // of the latest seal
	span       int       // ticks that it covers: several where they passed at once
	now        time.Time // its end
	unix       int64     // never goes back
	entries    map[analytics.Key]*entry
	waiting    map[analytics.Key]float64 // requests of entries without room
	resources  map[Measure]*track
	ran        map[Subject]*ran // services whose processes are known
	groups     map[groupKey]*group
	tracks     int
	sample     *host.Sample // of the seal before
	ended      []*Finding   // the latest last
	past       *past        // nil: none are kept
	room       [recentTicks]float32
	counts     bucketCounts
	alarms     uint64
	ignored    uint64
	longAlarms uint64
	calmUntil  int64      // row until which hours and days are not judged by
	mu         sync.Mutex // held by Consume, and by who looks at the past
}

type delivery struct {
	seal     *analytics.Seal
	sample   *host.Sample
	readings []Reading
}

// queued is how many seals may wait: half a minute, in which a snapshot of everything is written.
const queued = 3

// New returns an engine that has seen nothing, or what the file has kept.
func New(o Options) *Engine {
	o.setDefaults()
	e := &Engine{o: o, queue: make(chan delivery, queued), entries: map[analytics.Key]*entry{}, waiting: map[analytics.Key]float64{},
		resources: map[Measure]*track{}, ran: map[Subject]*ran{}, groups: map[groupKey]*group{}}
	e.SetSensitivity(o.Sensitivity)
	e.published.Store(&published{})
	if o.File != "" {
		e.load()
	}
	if o.Past != "" {
		e.openPast()
	}
	return e
}

// SetSensitivity changes how many false alarms are wanted per series and week.
func (e *Engine) SetSensitivity(wanted float64) {
	if !(wanted > 0) {
		wanted = SensitivityDefault
	}
	e.threshold.Store(math.Float64bits(-math.Log10(wanted)))
}

func (e *Engine) alarm() float64 { return math.Float64frombits(e.threshold.Load()) }

// Offer hands a seal to Run, and returns at once. What finds the queue full is missing, and counted.
func (e *Engine) Offer(s *analytics.Seal, sample *host.Sample, readings []Reading) {
	select {
	case e.queue <- delivery{s, sample, readings}:
	default:
		e.dropped.Add(1)
	}
}

// Run consumes what is offered until the context ends, then what waits, and writes what was learned.
func (e *Engine) Run(ctx context.Context) {
	for {
		select {
		case d := <-e.queue:
			e.Consume(d.seal, d.sample, d.readings)
			e.keep()
			if e.row%saveTicks == 0 {
				e.save()
			}
		case <-ctx.Done():
			for {
				select {
				case d := <-e.queue:
					e.Consume(d.seal, d.sample, d.readings)
					continue
				default:
				}
				e.keep()
				e.save()
				return
			}
		}
	}
}

func (e *Engine) save() {
	if err := e.Save(); err != nil {
		e.o.Log.Error("what was learned of anomalies is not kept", "err", err)
	}
}

// keep writes findings that ended.
func (e *Engine) keep() {
	if err := e.past.flush(); err != nil {
		e.o.Log.Error("findings that ended cannot be kept; it is tried again", "file", e.o.Past, "err", err)
	}
}

// openPast counts what of the files cannot be read. Where there are none yet, they begin with what is known.
func (e *Engine) openPast() {
	e.past = &past{name: e.o.Past, bytesMax: pastBytesMax}
	if _, err := os.Lstat(e.o.Past); errors.Is(err, fs.ErrNotExist) {
		for _, f := range e.ended {
			e.past.add(f)
		}
	}
	_, err := e.past.within(time.Time{}, time.Time{})
	if _, damaged := e.past.stats(); err != nil || damaged > 0 {
		e.o.Log.Error("findings that ended cannot all be read", "file", e.o.Past, "lines", damaged, "err", err)
	}
}

// finish puts a finding among those that ended.
func (e *Engine) finish(f *Finding) {
	e.ended = append(e.ended, f)
	e.past.add(f)
}

// Consume judges what was sealed, with the host's figures at that moment (nil: unknown) and what else was measured.
func (e *Engine) Consume(s *analytics.Seal, sample *host.Sample, readings []Reading) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.begin(s)
	e.rename(s.Renames)
	e.addEntries(s)
	e.addServices()
	if sample != nil {
		e.addSample(sample)
	}
	for i := range readings {
		e.measure(readings[i].Measure, readings[i].Value)
	}
	e.conclude()
	if e.row%admitTicks == 0 {
		e.admitWaiting()
		e.forgetResources()
	}
}

// begin goes on to the row of a seal. Rows of ticks that were missed have no values.
func (e *Engine) begin(s *analytics.Seal) {
	steps := int64(1)
	switch {
	case e.tick > 0 && s.Tick > e.tick:
		steps = s.Tick - e.tick
	case e.tick == 0 && e.row > 0: // the first one after a restart
		steps = max(1, int64(s.To.Sub(e.now)/e.o.Tick))
	}
	e.resume(steps)
	e.span = int(min(max(int64(s.To.Sub(s.From).Round(e.o.Tick)/e.o.Tick), 1), steps))
	// Detectors want a time that does not go back. After a step back of the wall clock it is ahead of it for good, which moves the
	// time of day by the step.
	e.unix = max(s.To.Unix(), e.unix+max(int64(e.o.Tick/time.Second), 1))
	e.tick, e.now = s.Tick, s.To.UTC().Round(time.Millisecond) // what findings say of times is for people
	for range min(steps, recentTicks) {
		e.row++
		for _, g := range e.groups {
			for _, t := range g.tracks {
				t.rows.clear(e.row)
			}
		}
	}
}

// weekly is how many ticks a week has, as a decimal logarithm.
func (e *Engine) weekly() float64 { return math.Log10(float64(7*24*time.Hour) / float64(e.o.Tick)) }

// Stats is what an engine says of itself.
type Stats struct {
	Series   int    // that are followed
	Learning int    // of these, those that know too little to judge
	Without  int    // endpoints and targets that find no room
	Dropped  uint64 // seals that were not taken in time
	Alarms   uint64 // of single series
	Ignored  uint64 // of these, those that nobody would care about
	Open     int    // findings
	NotKept  uint64 // findings that ended, and could not be written
	Damaged  uint64 // lines of the files of these, when they were read last
}

// published is what others see.
type published struct {
	findings  []*Finding
	incidents []*Finding
	scores    []Score
	stats     Stats
}

// Score is how unusual a subject is: the largest score of its metrics; 0 for what comes once a week by chance, and for all below.
type Score struct {
	Subject
	Value float64
}

// Findings returns the open findings, the most severe first, then those that ended, the latest first.
func (e *Engine) Findings() []*Finding { return e.published.Load().findings }

// Incidents returns the findings that lead incidents, with the others as their effects, in the order of Findings.
func (e *Engine) Incidents() []*Finding { return e.published.Load().incidents }

// Scores returns the scores of all subjects.
func (e *Engine) Scores() []Score { return e.published.Load().scores }

// Stats returns what the engine did so far.
func (e *Engine) Stats() Stats {
	s := e.published.Load().stats
	s.Dropped = e.dropped.Load()
	s.NotKept, s.Damaged = e.past.stats()
	return s
}
