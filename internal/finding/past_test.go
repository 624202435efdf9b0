package finding

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ended is a finding of so many minutes after a time, and of so many minutes.
func ended(at time.Time, id, incident string, minute, minutes int) *Finding {
	start := at.Add(time.Duration(minute) * time.Minute)
	end := start.Add(time.Duration(minutes) * time.Minute)
	of := Measure{ResponseTime, Subject{Role: "server", Service: id}}
	return &Finding{ID: id, Incident: incident, Severity: Warning, Start: start, End: &end, Measure: of,
		Parts: []Part{{Measure: Measure{Metric: ResponseTime}}}, Summary: id + "."}
}

func idsOf(all []*Finding) string {
	var ids []string
	for _, f := range all {
		ids = append(ids, f.ID)
		for i := range f.Effects {
			ids = append(ids, "("+f.Effects[i].ID+")")
		}
	}
	return strings.Join(ids, " ")
}

// Shows that a finding which is closed after the clock went back ends when it began at the earliest, so that its line is no damaged one.
func TestPastClockBack(t *testing.T) {
	at := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	e := New(Options{Past: filepath.Join(t.TempDir(), "findings.jsonl")})
	g := e.groupOf(groupKey{role: "server", service: "shop"})
	g.finding = ended(at, "a", "", 0, 0)
	g.finding.End = nil
	e.now = at.Add(-24 * time.Hour)
	e.close(g)
	e.keep()
	all, err := e.FindingsIn(at.Add(-time.Minute), at.Add(time.Minute))
	if _, damaged := e.past.stats(); err != nil || idsOf(all) != "a" || damaged > 0 {
		t.Errorf("%q, %d damaged lines, %v", idsOf(all), damaged, err)
	}
}

// Shows that findings that ended are there as long as their file has them, whole incidents at a time, the ends of the time as they are
// meant, that lines which are damaged or cut off are skipped and counted, and that a line that comes again counts once.
func TestPast(t *testing.T) {
	at := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	name := filepath.Join(t.TempDir(), "findings.jsonl")
	e := New(Options{Past: name})
	e.past.add(ended(at, "a", "", 0, 10))
	e.past.add(ended(at, "b", "a", 2, 3))
	e.past.add(ended(at, "c", "", 20, 10))
	e.past.add(ended(at, "c", "", 20, 12))
	e.keep()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, "garbage\n{\"start_ms\":1,\"end_ms\":2,\"incident\":\"x\",\"finding\":{\"id\":7}}\n{\"start_ms\":17000")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	e = New(Options{Past: name})
	e.past.add(ended(at, "d", "", 40, 1))
	for _, c := range []struct {
		from, to  int // minutes
		incidents string
	}{{0, 60, "d c a (b)"}, {3, 4, "a (b)"}, {6, 8, "a (b)"}, {10, 11, "a (b)"}, {11, 20, ""}, {11, 21, "c"}, {31, 32, "c"}, {33, 40, ""},
		{40, 41, "d"}} {
		all, err := e.IncidentsIn(at.Add(time.Duration(c.from)*time.Minute), at.Add(time.Duration(c.to)*time.Minute))
		if err != nil || idsOf(all) != c.incidents {
			t.Errorf("%d to %d: %s, not %s (%v)", c.from, c.to, idsOf(all), c.incidents, err)
		}
	}
	one, err := e.FindingsIn(at.Add(6*time.Minute), at.Add(8*time.Minute))
	if err != nil || idsOf(one) != "a" || len(one[0].Parts) != 1 || one[0].Summary != "a." {
		t.Errorf("%s %v", idsOf(one), err)
	}
	e.keep()
	if all, _ := New(Options{Past: name}).IncidentsIn(at, at.Add(time.Hour)); idsOf(all) != "d c a (b)" {
		t.Errorf("behind a line that was cut off: %s", idsOf(all))
	}
	if _, err := e.IncidentsIn(time.Unix(0, 0), at); err != nil {
		t.Error(err)
	}
	if s := e.Stats(); s.Damaged != 3 || s.NotKept != 0 {
		t.Errorf("%+v", s)
	}
}

// Shows that files are rotated and bounded, that a file that cannot be written leaves what waits to be written later, up to a bound, and
// says so once, and that a file which is not the agent's is left alone.
func TestPastBounds(t *testing.T) {
	at := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	directory := t.TempDir()
	p := &past{name: filepath.Join(directory, "findings.jsonl"), bytesMax: 4096}
	for i := range 100 {
		p.add(ended(at, fmt.Sprint("f", i), "", i, 1))
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(p.name + "*")
	if err != nil || len(names) != pastFiles {
		t.Errorf("%q %v", names, err)
	}
	var sum int64
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			sum += info.Size()
		}
	}
	all, err := p.within(at, at.Add(24*time.Hour))
	if err != nil || sum > pastFiles*p.bytesMax || len(all) < 20 || len(all) == 100 {
		t.Errorf("%d findings in %d bytes: %v", len(all), sum, err)
	}
	p.name = filepath.Join(directory, "away", "findings.jsonl")
	var errs int
	for i := range pastWaiting + 5 {
		p.add(ended(at, fmt.Sprint("g", i), "", 200, 1))
		if p.flush() != nil {
			errs++
		}
	}
	if lost, _ := p.stats(); errs != 1 || lost != 5 {
		t.Errorf("%d errors, %d lost", errs, lost)
	}
	p.bytesMax = pastBytesMax
	if err := os.Mkdir(filepath.Join(directory, "away"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.flush(); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(p.name); err != nil || bytes.Count(data, []byte{'\n'}) != pastWaiting {
		t.Errorf("%d lines: %v", bytes.Count(data, []byte{'\n'}), err)
	}
	other := filepath.Join(directory, "other")
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	link := &past{name: filepath.Join(directory, "link"), bytesMax: 4096}
	if err := os.Symlink(other, link.name); err != nil {
		t.Fatal(err)
	}
	link.add(ended(at, "h", "", 0, 1))
	if link.flush() == nil {
		t.Error("a link was followed")
	}
}

// Shows that what the engine concludes ends up in the file, and is there when the engine forgot it.
func TestPastOfEngine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "findings.jsonl")
	w := newWorld(t, 1, Options{Past: name})
	cart := w.serve("shop", "POST /cart", 10, 80)
	w.run(60)
	cart.ms *= 3
	f := w.open(6)
	cart.ms /= 3
	w.ends(20)
	w.keep()
	w.run(9000) // more than a day
	if len(w.Findings()) > 0 && w.Findings()[len(w.Findings())-1].ID == f.ID {
		t.Error("it was not forgotten")
	}
	all, err := w.IncidentsIn(f.Start, f.Start.Add(time.Minute))
	if err != nil || len(all) != 1 || all[0].ID != f.ID || all[0].Route != "/cart" || all[0].EffectPercent == nil || all[0].Summary == "" {
		t.Errorf("%+v %v", all, err)
	}
}
