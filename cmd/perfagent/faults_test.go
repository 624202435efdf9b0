package main

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/wire"
	"github.com/perfagent/perfagent/test/faults/recording"
)

var (
	faultsDir     = flag.String("faults.dir", "../../testdata/faults", "recordings to replay")
	faultsAll     = flag.Bool("faults.all", false, "replay all of them, and whole days; else one of each fault, and hours")
	faultsVerbose = flag.Bool("faults.verbose", false, "print what was found in each recording")
)

const (
	// promptly is within how many ticks a fault is to be found.
	promptly = 3
	// together is within how many ticks findings come of one thing.
	together = 6
)

// What the detector and its explanations reach on the pack as it is, in percent of the recordings and, of causes, of the faults that were found.
const (
	promptLeast = 90
	firstLeast  = 92
	threeLeast  = 95
	// joinedMost is how many incidents there are for 100 faults, at their end.
	joinedMost = 150
	// ticksOfHour is how many ticks may bring one false incident.
	ticksOfHour = int(time.Hour / analytics.TickInterval)
)

// replayed is what was concluded from a recording.
type replayed struct {
	*recording.Recording
	name   string
	before []*finding.Finding // opened while nothing was wrong
	calm   int                // of these, those for information: nobody suffers
	bursts int                // of the others, those that came together count once
	last   int                // tick of the latest of them
	opened int                // tick at which the first finding of those who suffer opened, behind the fault's beginning; -1: never
	found  *finding.Finding   // of those who suffer, as it stood at the fault's end

	open, incidents []*finding.Finding // at that time
}

// replay hands a recording to the detector, tick by tick, as the agent does.
func replay(name string) (*replayed, error) {
	r, err := recording.Read(name)
	if err != nil {
		return nil, err
	}
	out := &replayed{Recording: r, name: strings.TrimSuffix(filepath.Base(name), ".json.gz"), opened: -1}
	tick, witness, served := 0, witnessReadings{}, servedIn(r)
	var engine *finding.Engine
	engine = finding.New(finding.Options{Serves: served, OnFinding: func(event finding.Event, f *finding.Finding) {
		switch {
		case event != finding.Opened:
		case tick < r.Truth.From:
			out.add(f, tick)
		case tick < r.Truth.To && out.opened < 0 && suffers(f):
			out.opened = tick - r.Truth.From
		}
	}})
	for i := range r.All {
		tick = i
		engine.Consume(r.All[i].Seal, r.All[i].Host, witness.read(r.All[i].Witness, r.All[i].Seal.To))
		if i == r.Truth.To-1 {
			out.found = worst(engine.Findings(), &r.Truth)
			out.open, out.incidents = open(engine.Findings()), open(engine.Incidents())
		}
	}
	return out, nil
}

// servedIn tells who answers where in a recording, as an agent knows it from the sockets of both ends: nginx calls the shop, and that the
// store, which is in another network namespace of the same host.
func servedIn(r *recording.Recording) func(string, uint16) (finding.Subject, bool) {
	type place struct {
		address string
		port    uint16
	}
	served := map[place]finding.Subject{}
	for _, tick := range r.All {
		for _, e := range tick.Seal.Entries {
			if callee := map[string]string{"nginx": "shop", "shop": "store"}[e.Service]; e.Role == wire.RoleClient && callee != "" {
				served[place{e.Address, e.Port}] = finding.Subject{Service: callee}
			}
		}
	}
	return func(address string, port uint16) (finding.Subject, bool) {
		u, ok := served[place{address, port}]
		return u, ok
	}
}

// add notes a finding that opened while nothing was wrong.
func (r *replayed) add(f *finding.Finding, tick int) {
	r.before = append(r.before, f)
	switch {
	case f.Severity == finding.Info:
		r.calm++
	case r.bursts == 0 || tick-r.last > together:
		r.bursts++
		fallthrough
	default:
		r.last = tick
	}
}

// open are those that are not over.
func open(all []*finding.Finding) []*finding.Finding {
	return slices.DeleteFunc(slices.Clone(all), func(f *finding.Finding) bool { return f.End != nil })
}

// suffers tells whether a finding is of a service's requests, and not of what it uses or of the host.
func suffers(f *finding.Finding) bool {
	return f.Service != "" && slices.Contains([]string{finding.ResponseTime, finding.ResponseTimeP95, finding.ErrorRate, finding.Throughput}, f.Metric)
}

// worst is the open finding of whose requests suffer: the service's own, else one of who calls it.
func worst(all []*finding.Finding, truth *recording.Truth) (found *finding.Finding) {
	for _, f := range all {
		switch {
		case f.End != nil || !suffers(f):
		case f.Service == truth.Service && f.Role == "server":
			return f
		case found == nil:
			found = f
		}
	}
	return found
}

// blamed is a cause as a finding may name it. What is empty does not matter.
type blamed struct{ metric, service, relationship string }

// rightCauses are what a person would accept as the cause of each fault; of an error burst by whose fault it is.
var rightCauses = map[string][]blamed{
	"cpu-hog":           {{finding.PressureCPU, "", ""}, {finding.RunQueueWait, "", ""}, {finding.CPUUsage, "", "host"}, {finding.CPUUsage, "", "neighbour"}},
	"cpu-limit":         {{finding.CPUThrottling, "shop", ""}},
	"memory-pressure":   {{finding.MemoryResident, "shop", ""}, {finding.PressureMemory, "", ""}},
	"slow-disk":         {{finding.DiskLatency, "", ""}, {finding.DiskUtilisation, "", ""}, {finding.PressureIO, "", ""}},
	"packet-delay":      {{finding.RTT, "", ""}},
	"packet-loss":       {{finding.Retransmits, "", ""}, {finding.RTT, "", ""}},
	"lock-contention":   {{"concurrency", "shop", "self"}},
	"slow-downstream":   {{finding.ResponseTime, "", "downstream"}, {finding.ResponseTimeP95, "", "downstream"}},
	"error-burst shop":  {{finding.ErrorRate, "shop", "self"}},
	"error-burst store": {{finding.ErrorRate, "", "downstream"}},
	"traffic-burst":     {{finding.Throughput, "", ""}},
	"slower-deploy":     {{finding.ProcessStarts, "shop", ""}},
	"pool-exhausted":    {{"concurrency", "shop", "self"}},
}

// named is the place of the first right cause, from 0; -1: none is. A finding whose lead is the cause itself needs no other.
func (r *replayed) named() int {
	if r.found == nil {
		return -1
	}
	right := rightCauses[strings.TrimSpace(r.Truth.Fault+" "+r.Truth.Of)]
	if len(r.found.Causes) == 0 && slices.ContainsFunc(right, func(b blamed) bool { return b.metric == r.found.Metric && b.relationship != "downstream" }) {
		return 0
	}
	return slices.IndexFunc(r.found.Causes, func(c finding.Cause) bool {
		return slices.ContainsFunc(right, func(b blamed) bool {
			return b.metric == c.Metric && (b.service == "" || b.service == c.Service) && (b.relationship == "" || b.relationship == c.Relationship)
		})
	})
}

// tally counts what was concluded about a fault.
type tally struct{ runs, prompt, found, first, three, incidents, calm, ticks, open, joined int }

func (t *tally) add(r *replayed) {
	t.runs++
	t.incidents += r.bursts
	t.calm += r.calm
	t.ticks += r.Truth.From
	t.open += len(r.open)
	t.joined += len(r.incidents)
	if r.opened >= 0 {
		t.found++
	}
	if r.opened >= 0 && r.opened < promptly {
		t.prompt++
	}
	switch named := r.named(); {
	case named == 0:
		t.first++
		t.three++
	case named > 0 && named < 3:
		t.three++
	}
}

func (t *tally) sum(o *tally) {
	t.runs, t.prompt, t.found, t.first, t.three = t.runs+o.runs, t.prompt+o.prompt, t.found+o.found, t.first+o.first, t.three+o.three
	t.incidents, t.calm, t.ticks = t.incidents+o.incidents, t.calm+o.calm, t.ticks+o.ticks
	t.open, t.joined = t.open+o.open, t.joined+o.joined
}

// tallies are those of all faults.
type tallies map[string]*tally

// whole sums up all faults.
func (all tallies) whole() *tally {
	sum := new(tally)
	for fault, t := range all {
		if fault != recording.Normal {
			sum.sum(t)
		}
	}
	return sum
}

// String is a table of the figures that docs/faults.md has.
func (all tallies) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%-16s %5s %8s %6s %6s %6s %6s %5s %6s %5s %7s\n", "fault", "runs", "in time", "found", "first", "three", "false", "info", "ticks", "shown", "joined")
	for _, fault := range slices.Sorted(maps.Keys(all)) {
		t := all[fault]
		fmt.Fprintf(&text, "%-16s %5d %8d %6d %6d %6d %6d %5d %6d %5d %7d\n", fault, t.runs, t.prompt, t.found, t.first, t.three, t.incidents, t.calm, t.ticks, t.open, t.joined)
	}
	t := all.whole()
	fmt.Fprintf(&text, "%-16s %5d %7d%% %5d%% %5d%% %5d%% %6d %5d %6d %5d %7d", "all faults", t.runs, percent(t.prompt, t.runs), percent(t.found, t.runs),
		percent(t.first, t.found), percent(t.three, t.found), t.incidents, t.calm, t.ticks, t.open, t.joined)
	return text.String()
}

func percent(n, of int) int { return 100 * n / max(of, 1) }

// recordings lists the pack, or the first recording of each fault.
func recordings(t *testing.T) []string {
	t.Helper()
	pattern := "*-01.json.gz"
	if *faultsAll {
		pattern = "*.json.gz"
	}
	names, err := filepath.Glob(filepath.Join(*faultsDir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no recordings in %s: %v", *faultsDir, err)
	}
	return names
}

// Shows that recorded faults are found in time, with the right cause, and that nothing is found while nothing is wrong, by replaying what
// an agent saw.
func TestFaults(t *testing.T) {
	all := tallies{}
	for _, name := range recordings(t) {
		r, err := replay(name)
		if err != nil {
			t.Fatal(err)
		}
		if all[r.Truth.Fault] == nil {
			all[r.Truth.Fault] = new(tally)
		}
		all[r.Truth.Fault].add(r)
		if *faultsVerbose {
			t.Log(r.report())
		}
	}
	t.Log("\n" + all.String())
	whole := all.whole()
	for _, c := range []struct {
		what         string
		share, least int
	}{
		{"found in time", percent(whole.prompt, whole.runs), promptLeast},
		{"with the right cause first", percent(whole.first, whole.found), firstLeast},
		{"with the right cause among three", percent(whole.three, whole.found), threeLeast},
	} {
		if c.share < c.least {
			t.Errorf("%d %% were %s, and not %d %%", c.share, c.what, c.least)
		}
	}
	if incidents := percent(whole.joined, whole.runs); incidents > joinedMost {
		t.Errorf("100 faults were %d incidents, and not %d", incidents, joinedMost)
	}
	for fault, n := range all {
		if fault != recording.Normal && n.three == 0 {
			t.Errorf("%s: never explained: %+v", fault, n)
		}
		if n.incidents > (n.ticks+ticksOfHour-1)/ticksOfHour {
			t.Errorf("%s: %d false incidents in %d ticks", fault, n.incidents, n.ticks)
		}
	}
}

// Shows that hardly anything is found in a day of thin traffic, a request a minute, on a host that does what the recorded one did in a normal time.
func TestFaultsThin(t *testing.T) {
	ticks, seeds := ticksOfDay/12, uint64(1)
	if *faultsAll {
		ticks, seeds = ticksOfDay, 3
	}
	r, err := recording.Read(filepath.Join(*faultsDir, "normal-01.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	var readings [][]finding.Reading
	witness := witnessReadings{}
	for _, tick := range r.All {
		readings = append(readings, witness.read(tick.Witness, tick.Seal.To))
	}
	for seed := range seeds {
		var found []string
		engine := finding.New(finding.Options{OnFinding: func(event finding.Event, f *finding.Finding) {
			if event == finding.Opened {
				found = append(found, f.Severity+": "+f.Summary)
			}
		}})
		thin := newThinner(r, seed)
		samples := r.Repeat()
		for i := range ticks {
			seal := thin.seal(int64(i + 1))
			sample, tick := samples.Sample(seal.To)
			engine.Consume(seal, sample, readings[tick])
		}
		t.Logf("seed %d: %d findings in %v of %d requests: %q", seed, len(found), time.Duration(ticks)*analytics.TickInterval, thin.requests, found)
		if len(found) > thinFalseMax {
			t.Errorf("seed %d: %d findings in thin traffic: %q", seed, len(found), found)
		}
	}
}

// thinFalseMax is how many false findings a day of thin traffic may bring.
const thinFalseMax = 1

// ticksOfDay is how many ticks a day has.
const ticksOfDay = int(24 * time.Hour / analytics.TickInterval)

// thinner makes thin traffic of what was recorded: requests of a busier service, of which few come.
type thinner struct {
	random   *rand.Rand
	ticks    [][]*analytics.Sealed // those of servers
	start    time.Time
	requests int
}

func newThinner(r *recording.Recording, seed uint64) *thinner {
	t := &thinner{random: rand.New(rand.NewPCG(seed, 1)), start: r.All[0].Seal.To}
	for _, tick := range r.All {
		var servers []*analytics.Sealed
		for _, e := range tick.Seal.Entries {
			if e.Role == wire.RoleServer {
				servers = append(servers, e)
			}
		}
		t.ticks = append(t.ticks, servers)
	}
	return t
}

// seal is the n-th tick: to each service of the recording comes a request a minute, at random.
func (t *thinner) seal(n int64) *analytics.Seal {
	to := t.start.Add(time.Duration(n) * analytics.TickInterval)
	s := &analytics.Seal{Tick: n, From: to.Add(-analytics.TickInterval), To: to}
	const aTick = float64(analytics.TickInterval) / float64(time.Minute)
	for _, service := range []string{"nginx", "shop", "store"} {
		if t.random.Float64() < aTick {
			if e := t.one(service); e != nil {
				s.Entries = append(s.Entries, e)
				t.requests++
			}
		}
	}
	return s
}

// one draws one of the recorded requests of a service.
func (t *thinner) one(service string) *analytics.Sealed {
	var entries []*analytics.Sealed
	for _, e := range t.ticks[t.random.IntN(len(t.ticks))] {
		if e.Service == service && len(e.Series) > 0 && e.Series[0].Duration.Count() > 0 {
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	from := entries[t.random.IntN(len(entries))]
	series := analytics.Series{Result: from.Series[0].Result, Created: from.Series[0].Created}
	series.Duration.Add(int64(from.Series[0].Duration.Quantile(t.random.Float64())))
	e := &analytics.Sealed{Key: from.Key, RouteSource: from.RouteSource, Counts: analytics.Counts{Series: []analytics.Series{series}}}
	e.RequestSize, e.ResponseSize = analytics.NewHistogram(analytics.Bytes), analytics.NewHistogram(analytics.Bytes)
	for _, phase := range []struct{ to, from *analytics.Histogram }{{&e.Queue, &from.Queue}, {&e.Processing, &from.Processing}, {&e.Transfer, &from.Transfer}} {
		if phase.from.Count() > 0 {
			phase.to.Add(int64(phase.from.Quantile(t.random.Float64())))
		}
	}
	return e
}

// report is what was concluded of a recording, for people.
func (r *replayed) report() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s (tick %d); found after %d ticks, right cause at %d, %d before\n", r.name, r.Truth.Detail, r.Truth.From, r.opened, r.named(), len(r.before))
	for _, f := range r.before {
		fmt.Fprintf(&text, "  before: %s %s\n", f.Severity, f.Summary)
	}
	for _, f := range r.incidents {
		fmt.Fprintf(&text, "  incident: %s %s\n", f.Severity, f.Summary)
	}
	if f := r.found; f != nil {
		fmt.Fprintf(&text, "  %s %s\n", f.Severity, f.Summary)
		for _, c := range f.Causes {
			fmt.Fprintf(&text, "    %.2f %s %s %s (%s): %.4g -> %.4g\n", c.Score, c.Relationship, c.Metric, c.Subject, c.Kind, c.Before, c.After)
		}
		for _, step := range f.NextSteps {
			fmt.Fprintf(&text, "    next: %s\n", step)
		}
	}
	return text.String()
}
