package history

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/wire"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// quiet is a log that nobody reads.
var quiet = slog.New(slog.DiscardHandler)

func endpoint(i int) analytics.Key {
	return analytics.Key{Role: wire.RoleServer, Service: fmt.Sprint("shop", i%3), Operation: wire.Operation{Verb: "GET", Name: fmt.Sprint("/r", i)}}
}

func target(i int) analytics.Key {
	return analytics.Key{Role: wire.RoleClient, Service: "shop0", Operation: wire.Operation{Verb: "POST"}, Address: fmt.Sprint("10.0.0.", i), Port: 80}
}

var results = []analytics.Result{
	{Outcome: wire.Outcome{Code: 200}, Protocol: "http/1.1"},
	{Outcome: wire.Outcome{Code: 503, Class: wire.ClassServerFault, ErrorType: "503"}, Protocol: "http/1.1"},
	{Outcome: wire.Outcome{Class: wire.ClassTimeout, Late: true, ErrorType: "timeout"}, Protocol: "http/1.0", TLS: true},
}

// sealed makes what one entry did: n exchanges.
func sealed(r *rand.Rand, k analytics.Key, n int) *analytics.Sealed {
	s := &analytics.Sealed{Key: k}
	s.RequestSize, s.ResponseSize = analytics.NewHistogram(analytics.Bytes), analytics.NewHistogram(analytics.Bytes)
	for range n {
		i := min(int(r.ExpFloat64()), len(results)-1)
		at := slices.IndexFunc(s.Series, func(x analytics.Series) bool { return x.Result == results[i] })
		if at < 0 {
			at = len(s.Series)
			s.Series = append(s.Series, analytics.Series{Result: results[i]})
		}
		if r.IntN(50) == 0 {
			s.Series[at].Untimed++
			continue
		}
		d := int64(r.ExpFloat64() * 5e6)
		s.Series[at].Duration.Add(d)
		if k.Role == wire.RoleServer {
			s.Queue.Add(d / 10)
			s.Processing.Add(d / 2)
			s.Transfer.Add(d / 5)
			s.RequestSize.Add(int64(r.IntN(2)) * 512)
			s.ResponseSize.Add(int64(r.IntN(5000)))
		}
	}
	return s
}

// model is a history that keeps everything: the sum of each series, and its samples of 10 s.
type model struct {
	entries map[analytics.Key][]*analytics.Seal // by present key
}

// sums returns the sum of each series by its labels, for ticks in (from, to].
func (m *model) sums(from, to time.Time) map[string]summary {
	all := map[string]summary{}
	var l analytics.Labels
	for k, seals := range m.entries {
		for _, s := range seals {
			if !s.To.After(from) || s.To.After(to) {
				continue
			}
			for _, f := range analytics.Families {
				f.Each(&l, &k, &s.Entries[0].Counts, start, func(l *analytics.Labels, h *analytics.Histogram, _ time.Time) {
					name := fmt.Sprint(append([]analytics.Label{{Name: "__name__", Value: f.Name}}, l.All()...))
					x := all[name]
					x.add(h)
					all[name] = x
				})
			}
		}
	}
	return all
}

// summary is what of a distribution must be exact.
type summary struct {
	Count, Zeros, Total uint64
	Cells               map[int]uint64
}

func (s *summary) add(h *analytics.Histogram) {
	if s.Cells == nil {
		s.Cells = map[int]uint64{}
	}
	s.Count += h.Count()
	s.Zeros += h.Zeros()
	s.Total += h.Total()
	for i, n := range h.Cells() {
		s.Cells[i] += n
	}
}

func (m *model) add(s *analytics.Seal) {
	for _, r := range s.Renames {
		if r.From == r.To {
			continue
		}
		m.entries[r.To] = append(m.entries[r.To], m.entries[r.From]...)
		delete(m.entries, r.From)
	}
	for _, e := range s.Entries {
		m.entries[e.Key] = append(m.entries[e.Key], &analytics.Seal{To: s.To, Entries: []*analytics.Sealed{e}})
	}
}

// stored returns the sum of each distribution that a history has, in (from, to].
func stored(t *testing.T, h *History, from, to time.Time, step time.Duration) map[string]summary {
	t.Helper()
	r, err := h.Select(Query{From: from.Add(time.Millisecond), To: to, Step: step})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if len(r.Missing) > 0 {
		t.Fatal("missing:", r.Missing)
	}
	all := map[string]summary{}
	for _, s := range r.Series {
		if s.Kind != Distribution {
			continue
		}
		name := fmt.Sprint(s.Labels)
		if _, twice := all[name]; twice {
			t.Fatalf("%s is there twice", name)
		}
		last := int64(0)
		for it := s.Iterate(); ; {
			if !it.Next() {
				if it.Err() != nil {
					t.Fatal(it.Err())
				}
				break
			}
			if it.At().Time <= last {
				t.Fatalf("%s: sample of %d after %d", name, it.At().Time, last)
			}
			last = it.At().Time
		}
		sum, err := s.Sum()
		if err != nil {
			t.Fatal(err)
		}
		if sum.Count() > 0 {
			var x summary
			x.add(&sum)
			all[name] = x
		}
	}
	return all
}

func compare(t *testing.T, what string, got, want map[string]summary) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	for name := range want {
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Fatalf("%s: %s\nis     %v\nwanted %v", what, name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Fatalf("%s: %s should not be there: %v", what, name, got[name])
		}
	}
}

// feed has a history take a tick at once, as Run does.
func feed(h *History, s *analytics.Seal, sample *host.Sample) {
	h.Consume(s, sample)
	h.add(<-h.queue)
}

// randomSeal makes a tick with some entries and renames.
func randomSeal(r *rand.Rand, to time.Time) *analytics.Seal {
	s := &analytics.Seal{From: to.Add(-analytics.TickInterval), To: to}
	for r.IntN(20) == 0 {
		s.Renames = append(s.Renames, analytics.Rename{From: endpoint(r.IntN(8)), To: endpoint(r.IntN(8))})
	}
	for i := range 8 {
		if r.IntN(3) == 0 {
			s.Entries = append(s.Entries, sealed(r, endpoint(i), r.IntN(20)+1))
		}
		if r.IntN(9) == 0 {
			s.Entries = append(s.Entries, sealed(r, target(i), r.IntN(20)+1))
		}
	}
	return s
}

// What a history has is exactly what was sealed, at every resolution, with routes that became others, on the disk and in memory,
// also after the agent ended and started again at any time.
func TestStoredIsSealed(t *testing.T) {
	for _, path := range []string{"", t.TempDir()} {
		t.Run(fmt.Sprintf("disk=%v", path != ""), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			o := Options{Path: path, Log: quiet}
			h := Open(o)
			m := &model{map[analytics.Key][]*analytics.Seal{}}
			now := start
			for range 1200 {
				now = now.Add(analytics.TickInterval)
				if r.IntN(300) == 0 {
					now = now.Add(time.Duration(r.IntN(100)) * time.Minute)
				}
				s := randomSeal(r, now)
				m.add(s)
				feed(h, s, nil)
				if path != "" && r.IntN(100) == 0 {
					h.close()
					h = Open(o)
				}
			}
			if s := h.Stats(); s.Trouble != "" || len(s.Damaged) > 0 {
				t.Fatalf("%+v", s)
			}
			for _, step := range []time.Duration{0, time.Minute, time.Hour} {
				compare(t, fmt.Sprint("step ", step), stored(t, h, start, now, step), m.sums(start, now))
				from, to := start.Add(3*time.Hour), start.Add(7*time.Hour)
				compare(t, fmt.Sprint("part, step ", step), stored(t, h, from, to, step), m.sums(from, to))
			}
			h.close()
		})
	}
}

// Files are for the agent's user alone, and a directory has nothing but what the format names.
func TestFileModes(t *testing.T) {
	path := t.TempDir()
	h := Open(Options{Path: path, Log: quiet})
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		feed(h, randomSeal(r, start.Add(time.Duration(i+1)*analytics.TickInterval)), nil)
	}
	h.close()
	directory := filepath.Join(path, directoryName)
	if info, err := os.Stat(directory); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatal(info.Mode(), err)
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Error(e.Name(), info.Mode(), err)
		}
	}
	if len(entries) != 6 { // lock, format, head.db, and a segment of each tier
		t.Error(entries)
	}
}

// Series have the names and labels that /metrics shows: those of families, and figures with what is odd in a name escaped alike.
func TestSeriesNames(t *testing.T) {
	h := Open(Options{Log: quiet})
	r := rand.New(rand.NewPCG(1, 2))
	s := &analytics.Seal{To: start.Add(analytics.TickInterval), Entries: []*analytics.Sealed{sealed(r, endpoint(1), 300), sealed(r, target(2), 300)}}
	sample := &host.Sample{Number: 1, Filesystems: []host.Filesystem{{Device: "/dev/sda", Mountpoint: "/a\xff\x1b", Type: "ext4", Size: 10}}}
	feed(h, s, sample)
	want := map[string]bool{fmt.Sprint([]analytics.Label{{Name: "__name__", Value: TicksMetric}}): true}
	var l analytics.Labels
	for _, e := range s.Entries {
		for _, f := range analytics.Families {
			f.Each(&l, &e.Key, &e.Counts, start, func(l *analytics.Labels, _ *analytics.Histogram, _ time.Time) {
				want[fmt.Sprint(append([]analytics.Label{{Name: "__name__", Value: f.Name}}, l.All()...))] = true
			})
		}
	}
	analytics.EachFigure(sample, func(m *analytics.Metric, l *analytics.Labels, _ float64) {
		all := []analytics.Label{{Name: "__name__", Value: m.Name}}
		for _, label := range l.All() {
			all = append(all, analytics.Label{Name: label.Name, Value: analytics.FigureLabel(label.Value)})
		}
		want[fmt.Sprint(all)] = true
	})
	result, err := h.Select(Query{From: start, To: start.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	defer result.Close()
	for _, series := range result.Series {
		name := fmt.Sprint(series.Labels)
		if !want[name] {
			t.Errorf("%s is no series of /metrics", name)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
}
