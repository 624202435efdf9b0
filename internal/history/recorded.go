package history

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

const (
	// recordedMax bounds the series that rules record: 5,000 and, for alerts, as many again. Each needs some 300 bytes here.
	recordedMax = 10_000
	// recordedIdle is how long a series that is not recorded any more keeps its place from others.
	recordedIdle = time.Hour
)

// ErrTooManyRecorded says that rules record more series than there is room for.
var ErrTooManyRecorded = errors.New("too many recorded series")

// staleBits are the bits of the number by which Prometheus says that a series has ended.
const staleBits = 0x7ff0000000000002

// isStale tells whether a recorded value says that the series has ended.
func isStale(v float64) bool { return math.Float64bits(v) == staleBits }

// RecordedSample is one value of a series that a rule makes.
type RecordedSample struct {
	Labels []analytics.Label // in the order of their names, __name__ first, which they must have
	Value  float64
}

// recorded are the series that rules record. Their values wait here for the next tick, with which they are stored.
type recorded struct {
	mu      sync.Mutex
	series  map[string]*recordedSeries // by the name of the entry, 0xff, and that of the column
	refused uint64
}

type recordedSeries struct {
	entry, column string
	at            int64 // ms since 1970
	value         float64
	waits         bool // for a tick
}

// Record takes values that rules found at a time. Queries see them at once, and from the next tick on at its end, at most 10 s
// later; of two values between two ticks the last one is kept. Where there are too many series, those that are new are refused,
// counted, and the error is ErrTooManyRecorded.
func (h *History) Record(at time.Time, samples []RecordedSample) error {
	r, now := &h.recorded, at.UnixMilli()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.series == nil {
		r.series = map[string]*recordedSeries{}
	}
	refused := 0
	var name []byte
	for i := range samples {
		entry, column, err := recordedNames(samples[i].Labels)
		if err != nil {
			return err
		}
		name = append(append(append(name[:0], entry...), 0xff), column...)
		s := r.series[string(name)]
		if s == nil {
			if len(r.series) >= recordedMax && !r.makeRoom(now) {
				refused++
				continue
			}
			s = &recordedSeries{entry: string(entry), column: string(column)}
			r.series[string(name)] = s
		}
		s.at, s.value, s.waits = now, samples[i].Value, true
	}
	if refused > 0 {
		r.refused += uint64(refused)
		return fmt.Errorf("%w: %d beyond %d were not recorded", ErrTooManyRecorded, refused, recordedMax)
	}
	return nil
}

// makeRoom forgets the series that have long not been recorded, and tells whether there were any.
func (r *recorded) makeRoom(now int64) bool {
	before := len(r.series)
	for name, s := range r.series {
		if !s.waits && now-s.at > recordedIdle.Milliseconds() {
			delete(r.series, name)
		}
	}
	return len(r.series) < before
}

// count is how many samples were refused.
func (r *recorded) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

// take returns what waits, as entries of a tick.
func (r *recorded) take(slot int64) []tickEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	places := map[string]int{}
	var all []tickEntry
	for _, s := range r.series {
		if !s.waits {
			continue
		}
		s.waits = false
		at, known := places[s.entry]
		if !known {
			at = len(all)
			places[s.entry] = at
			all = append(all, tickEntry{name: s.entry})
		}
		all[at].columns = append(all[at].columns, tickColumn{s.column, point{slot: slot, value: s.value}})
	}
	slices.SortFunc(all, func(a, b tickEntry) int { return strings.Compare(a.name, b.name) })
	return all
}

// recordedNames are the names of the entry and the column of a series.
func recordedNames(labels []analytics.Label) (entry, column []byte, err error) {
	for i, l := range labels {
		switch {
		case l.Name == "__name__" && i == 0:
			entry = appendText([]byte{kindRecorded}, l.Value)
		case l.Name == "__name__" || i > 1 && l.Name <= labels[i-1].Name:
			return nil, nil, fmt.Errorf("record a series: label %q is out of order", l.Name)
		default:
			column = appendText(appendText(column, l.Name), l.Value)
		}
	}
	if entry == nil {
		return nil, nil, errors.New("record a series: it has no name")
	}
	if len(entry)+len(column) > nameBytesMax {
		return nil, nil, fmt.Errorf("record a series: its labels have more than %d bytes", nameBytesMax)
	}
	return entry, column, nil
}

// identifyRecorded reads both names of a recorded series.
func identifyRecorded(entry *fields, column []byte) (id identity, err error) {
	id.kind = Recorded
	id.labels = append(id.labels, analytics.Label{Name: "__name__", Value: entry.text()})
	f := fields{b: column}
	for len(f.b) > 0 {
		id.labels = append(id.labels, analytics.Label{Name: f.text(), Value: f.text()})
	}
	if f.bad {
		return id, fmt.Errorf("%w: column %q", errColumn, column)
	}
	return id, nil
}

// addPending adds what no tick has taken yet.
func (s *selection) addPending(q *Query) {
	r := &s.h.recorded
	r.mu.Lock()
	defer r.mu.Unlock()
	from, to := q.From.UnixMilli(), q.To.UnixMilli()
	for _, p := range r.series {
		if !p.waits || p.at < from || p.at > to || !s.mayHave(p.entry) {
			continue
		}
		if series, err := s.find(p.entry, []byte(p.column)); err == nil && series != nil {
			series.pending, series.hasPending = Sample{Time: p.at, Value: p.value}, true
		}
	}
}

// Pending is the latest value of a recorded series where no tick has taken it yet, at the time of its evaluation.
func (s *Series) Pending() (Sample, bool) { return s.pending, s.hasPending }
