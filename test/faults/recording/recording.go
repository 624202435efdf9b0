// Package recording holds what an agent saw while something went wrong with a service: for each tick what it sealed, its sample of
// the host, and what its witness counted, with the truth beside it.
//
// A file is gzip of JSON lines. The first is a Header. Then comes a line for each column: a number or a text of the samples, by its
// path, over all ticks; then one for each tick with the exchanges. Histograms keep their cells, so that they are the same again.
package recording

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/host"
)

// Version is that of the format. Files of another one are refused.
const Version = 1

// Header begins a file.
type Header struct {
	Version  int       `json:"version"`
	Cells    int       `json:"cells"` // analytics.CellsVersion
	Recorded time.Time `json:"recorded"`
	// Squeeze is by how much a tick was shorter than one of the agent. Times and rates are stretched to the latter's.
	Squeeze int   `json:"squeeze"`
	Ticks   int   `json:"ticks"`
	Truth   Truth `json:"truth"`
}

// Normal is the fault that is none.
const Normal = "normal"

// Truth is what was done, and when.
type Truth struct {
	Fault string `json:"fault"`
	Seed  uint64 `json:"seed"`
	// From is the first tick with the fault, To the first without it again.
	From int `json:"from"`
	To   int `json:"to"`
	// Service is whose requests suffer.
	Service string `json:"service"`
	// Of is whose fault it is where that is up to chance: that of the service, or of the store.
	Of     string `json:"of,omitempty"`
	Detail string `json:"detail"` // how large it was, for people
	// OthersLoad is how many of the host's processors others took on average.
	OthersLoad float64 `json:"others_load"`
}

// Tick is what an agent has at the end of one.
type Tick struct {
	Seal    *analytics.Seal
	Host    *host.Sample
	Witness *export.HostStats // nil: nothing yet
}

// Recording is a file's content.
type Recording struct {
	Header
	All []Tick
}

// Write stores a recording in place of what is there. What it holds is used up.
func Write(name string, r *Recording) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	zip, err := gzip.NewWriterLevel(file, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := r.encode(zip); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return zip.Close()
}

func (r *Recording) encode(w io.Writer) error {
	out := json.NewEncoder(w)
	for _, t := range r.All {
		eachLatency(t.Witness, count)
	}
	r.Version, r.Cells, r.Ticks = Version, analytics.CellsVersion, len(r.All)
	if err := out.Encode(&r.Header); err != nil {
		return err
	}
	table := newTable(len(r.All))
	for i, t := range r.All {
		table.add(i, hostPath, t.Host)
		table.add(i, witnessPath, t.Witness)
	}
	for _, c := range table.columns() {
		if err := out.Encode(c); err != nil {
			return err
		}
	}
	keys := newKeys()
	for _, t := range r.All {
		if err := out.Encode(keys.encode(t.Seal)); err != nil {
			return err
		}
	}
	return nil
}

const (
	// lineBytesMax bounds a line.
	lineBytesMax = 8 << 20
	// ticksMax bounds a recording: a week.
	ticksMax = 7 * 8640
)

// Read reads a recording.
func Read(name string) (*Recording, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	zip, err := gzip.NewReader(file)
	if err == nil {
		r := new(Recording)
		if err = r.decode(zip); err == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("read %s: %w", name, err)
}

func (r *Recording) decode(from io.Reader) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, lineBytesMax)
	if !lines.Scan() {
		return errors.Join(errors.New("it is empty"), lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &r.Header); err != nil {
		return err
	}
	if r.Version != Version || r.Cells != analytics.CellsVersion {
		return fmt.Errorf("version %d with cells %d, and not %d with %d", r.Version, r.Cells, Version, analytics.CellsVersion)
	}
	if r.Ticks < 0 || r.Ticks > ticksMax {
		return fmt.Errorf("%d ticks", r.Ticks)
	}
	r.All = make([]Tick, r.Ticks)
	keys, sealed := newKeys(), 0
	for lines.Scan() {
		var line struct {
			column
			tickLine
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return err
		}
		if line.Path != "" {
			if err := r.fill(&line.column); err != nil {
				return err
			}
			continue
		}
		if sealed >= len(r.All) {
			return fmt.Errorf("more than %d ticks", len(r.All))
		}
		seal, err := keys.decode(&line.tickLine)
		if err != nil {
			return err
		}
		r.All[sealed].Seal = seal
		sealed++
	}
	if err := lines.Err(); err != nil || sealed < len(r.All) {
		return errors.Join(fmt.Errorf("%d of %d ticks", sealed, len(r.All)), err)
	}
	r.stamp()
	return nil
}

// stamp sets the times of the samples, which are those of the ticks, and the totals.
func (r *Recording) stamp() {
	totals := totals{}
	for i := range r.All {
		if h := r.All[i].Host; h != nil {
			h.Time, h.Interval, h.Number = r.All[i].Seal.To, analytics.TickInterval, uint64(i+1)
			totals.add(h)
		}
		if w := r.All[i].Witness; w != nil {
			for j := range w.Services {
				r.stretchEvents(&w.Services[j].TCP)
			}
		}
	}
}

// stretchEvents makes counts of events what they are by the agent's clock, as those of the host are (Stretcher).
func (r *Recording) stretchEvents(e *export.TCPEvents) {
	for _, n := range []*uint64{&e.Retransmits, &e.ConnectsFailed, &e.ResetsSent, &e.ResetsReceived} {
		*n *= uint64(r.Squeeze)
	}
}

// Repeater hands out the samples of a recording over and over, as if time went on.
type Repeater struct {
	*Recording
	next   int
	totals totals
}

// Repeat begins with the first sample.
func (r *Recording) Repeat() *Repeater { return &Repeater{Recording: r, totals: totals{}} }

// Sample returns the next sample with another time, and which tick of the recording it is of.
func (p *Repeater) Sample(at time.Time) (sample *host.Sample, tick int) {
	tick = p.next % len(p.All)
	p.next++
	sample = deepCopy(reflect.ValueOf(p.All[tick].Host)).Interface().(*host.Sample)
	sample.Time, sample.Number = at, uint64(p.next)
	p.totals.add(sample)
	return sample, tick
}

// count leaves a distribution one bucket, without bounds: its count and its sum are what is recorded.
func count(l *export.Latency) {
	var all uint64
	for _, n := range l.Buckets {
		all += n
	}
	l.Bounds, l.Buckets = nil, []uint64{all}
}

// eachLatency visits all latencies that a witness tells.
func eachLatency(w *export.HostStats, visit func(*export.Latency)) {
	if w == nil {
		return
	}
	if w.RunQueue != nil {
		visit(w.RunQueue)
	}
	for i := range w.Disks {
		visit(&w.Disks[i].Latency)
	}
	for i := range w.Services {
		s := &w.Services[i]
		visit(&s.RTT)
		visit(&s.Connect)
		if s.RunQueue != nil {
			visit(s.RunQueue)
		}
	}
}

// totals are what counters have counted so far, by their paths.
type totals map[string]float64

// add makes the total of each counter that is known the sum of its rates up to this sample.
func (t totals) add(sample *host.Sample) {
	eachCounter("", reflect.ValueOf(sample), func(path string, c *host.Counter) {
		if !host.Known(c.Total) {
			return
		}
		if host.Known(c.Rate) {
			t[path] += c.Rate * analytics.TickInterval.Seconds()
		}
		c.Total = t[path]
	})
}
