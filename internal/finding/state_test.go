package finding

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

// restart ends the engine and begins another one from its file, some ticks later.
func (w *world) restart(ticks int) {
	w.Helper()
	if err := w.Save(); err != nil {
		w.Fatal(err)
	}
	w.Engine = New(w.o)
	w.now = w.now.Add(time.Duration(ticks) * 10 * time.Second)
	w.tick = 5 // ticks are counted anew
}

// Shows that a restart forgets nothing: the same traffic leads to the same findings, with the same IDs and numbers, with a restart before and
// one within an incident as without.
func TestRestart(t *testing.T) {
	run := func(restarts bool) (all []*Finding, told []string) {
		w := newWorld(t, 1, Options{File: filepath.Join(t.TempDir(), "findings.state")})
		cart := w.serve("shop", "POST /cart", 5, 80)
		w.serve("shop", "GET /items/{id}", 20, 10)
		w.run(100)
		if restarts {
			w.restart(0)
		}
		cart.ms *= 3
		cart.fails = .3
		w.run(10)
		if restarts {
			w.restart(0)
		}
		w.run(5)
		cart.ms /= 3
		cart.fails = 0
		w.run(40)
		return w.Findings(), w.told
	}
	want, wantTold := run(false)
	got, gotTold := run(true)
	if len(want) != 1 || want[0].End == nil {
		t.Errorf("%d findings: %v", len(want), wantTold)
	}
	a, _ := json.Marshal(want)
	b, _ := json.Marshal(got)
	if string(a) != string(b) || strings.Join(wantTold, "; ") != strings.Join(gotTold, "; ") {
		t.Errorf("with restarts:\n%s\n%v\nwithout:\n%s\n%v", b, gotTold, a, wantTold)
	}
}

// Shows that what was usual hours ago is not taken for what is usual now, and that an incident of before has ended.
func TestLongRestart(t *testing.T) {
	w := newWorld(t, 1, Options{File: filepath.Join(t.TempDir(), "findings.state")})
	cart := w.serve("shop", "POST /cart", 20, 80)
	w.run(100)
	cart.fails = .5
	w.open(3)
	w.restart(2000)
	cart.rps, cart.ms, cart.fails = 2, 40, 0
	w.run(200)
	if n := len(w.told); n != 2 || !strings.HasPrefix(w.told[1], "ended") {
		t.Errorf("%v", w.told)
	}
}

// Shows that a damaged file, one of another version and one of other ticks are kept under numbered names, and that learning begins anew.
func TestDamagedState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "findings.state")
	w := newWorld(t, 1, Options{File: file})
	w.serve("shop", "GET /", 5, 80)
	w.run(50)
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)/2] ^= 1
	other := append([]byte(nil), good...)
	other[len(stateMagic)-1]++
	for i, data := range [][]byte{flipped, other, good[:len(good)/2], nil} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if e := New(Options{File: file}); e.tracks != 0 {
			t.Errorf("%d: %d series", i, e.tracks)
		}
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if e := New(Options{File: file}); e.tracks != w.tracks {
		t.Errorf("%d series of %d", e.tracks, w.tracks)
	}
	if e := New(Options{File: file, Tick: time.Second}); e.tracks != 0 {
		t.Errorf("%d series of other ticks", e.tracks)
	}
	aside, err := filepath.Glob(file + ".damaged-*")
	if err != nil || len(aside) != 5 {
		t.Errorf("%v, %v", aside, err)
	}
}

// Shows that bytes that nobody wrote are refused, whatever they are.
func FuzzState(f *testing.F) {
	f.Add([]byte(stateMagic))
	f.Add([]byte(stateMagic + "\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := decodeState(data); err == nil && s.Tick != 0 {
			New(Options{}).restore(s)
		}
	})
}

// Shows that whoever asks gets answers while ticks are taken, that seals find their way through the queue or are counted, and that what was learned is
// written at the end.
func TestRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "findings.state")
	w := newWorld(t, 1, Options{File: file})
	n := w.serve("shop", "GET /", 5, 80)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.Engine.Run(ctx) })
	taken := func() int { // rows of all that was taken
		return len(w.Past(func(m *Measure) bool { return m.Metric == Throughput }).All)
	}
	const seals = 200
	for tick := range int64(seals) {
		w.now = w.now.Add(10 * time.Second)
		s := &analytics.Seal{Tick: tick + 1, From: w.now.Add(-10 * time.Second), To: w.now}
		if sealed := n.sealed(w); sealed != nil {
			s.Entries = append(s.Entries, sealed)
		}
		w.Offer(s, nil, nil)
		_, _, _ = w.Findings(), w.Scores(), w.Stats()
		w.SetSensitivity(.05)
	}
	deadline := time.Now().Add(10 * time.Second)
	for taken() == 0 && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	cancel()
	running.Wait()
	if w.Stats().Dropped+uint64(w.row) < seals || w.row == 0 {
		t.Errorf("%d taken, %d dropped of %d", w.row, w.Stats().Dropped, seals)
	}
	if e := New(Options{File: file}); e.row != w.row || e.tracks != w.tracks {
		t.Errorf("%d rows of %d, %d series of %d", e.row, w.row, e.tracks, w.tracks)
	}
}
