package eventlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/internal/trace"
	"github.com/perfagent/perfagent/internal/wire"
	"github.com/perfagent/perfagent/internal/wire/wiretest"
)

// clock is a time that tests set.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newClock() *clock { return &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

// open opens a log in a directory of its own; what it says goes to the buffer.
func open(t *testing.T, o Options) (*Log, *bytes.Buffer) {
	t.Helper()
	said := new(bytes.Buffer)
	o.Log = slog.New(slog.NewTextHandler(said, nil))
	if o.File == "" {
		o.File = filepath.Join(t.TempDir(), "events.log")
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l, said
}

// take does what Run does with an event, up to the file.
func (l *Log) take(kind string, v any) {
	l.Write(kind, l.o.Now(), v)
	e := <-l.events
	l.add(e.kind, e.line)
	l.flush()
}

// lines reads a file, each of whose lines must be one object with a time and a kind.
func lines(t *testing.T, name string) (all []map[string]any) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var line map[string]any
		if err := json.Unmarshal(s.Bytes(), &line); err != nil || line["kind"] == nil || line["time"] == nil {
			t.Fatalf("%s: %q: %v", name, s.Text(), err)
		}
		all = append(all, line)
	}
	return all
}

type numbered struct {
	N    int    `json:"n"`
	Text string `json:"text,omitempty"`
}

// An exchange has the fields of trace's JSON behind its kind, its path masked; others have what they were written with. All of it is
// readable for the agent's user only. Shown by a run from the hub to the file.
func TestLines(t *testing.T) {
	hub := new(trace.Hub)
	l, _ := open(t, Options{Hub: hub})
	hub.Publish(wiretest.Exchange())
	l.Write(KindAlert, time.Unix(1_700_000_000, 5), map[string]any{"name": "Slow <&>", "value": 3})
	l.Write(KindFinding, time.Unix(1, 0), struct{}{})
	l.Write("other", time.Unix(1, 0), numbered{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.Run(ctx)
	all := lines(t, l.o.File)
	if len(all) != 3 {
		t.Fatalf("%v", all)
	}
	byKind := map[any]map[string]any{}
	for _, line := range all {
		byKind[line["kind"]] = line
	}
	ex, alert := byKind[KindExchange], byKind[KindAlert]
	if ex["path"] != "/items/{id}" || ex["status_code"] != 200. || ex["duration_ns"] != 1_002_050_000.-1_000_000_000 || ex["time"] != "2023-11-14T22:13:20.123456789Z" {
		t.Errorf("%v", ex)
	}
	if alert["name"] != "Slow <&>" || alert["value"] != 3. || alert["time"] != "2023-11-14T22:13:20.000000005Z" || len(byKind[KindFinding]) != 2 {
		t.Errorf("%v", byKind)
	}
	info, err := os.Stat(l.o.File)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if s := l.Stats(); s.Written[KindExchange] != 1 || s.Written[KindAlert] != 1 || s.Trouble != "" {
		t.Errorf("%+v", s)
	}
	if hub.Wanted() {
		t.Error("the subscription lasts")
	}
}

// Of the exchanges those that were chosen are written: all, slow and failed ones, or these and one in so many of the others, which
// say so. Shown by 10,000 of which every tenth is slow and one has failed.
func TestChoices(t *testing.T) {
	for choice, want := range map[string][2]int{All: {10000, 10000}, Notable: {1001, 1001}, Sample: {1001 + 700, 1001 + 1100}} {
		hub := new(trace.Hub)
		l, _ := open(t, Options{Hub: hub, Choice: choice, OneIn: 10})
		for n := range 10000 {
			ex := wiretest.Exchange()
			switch {
			case n%10 == 0:
				ex.Finished = ex.Arrived + int64(SlowerDefault)
			case n == 1:
				ex.Outcome = wire.Outcome{Code: 404, Class: wire.ClassClientFault, ErrorType: "404"}
			}
			hub.Publish(ex)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l.Run(ctx)
		sampled, all := 0, lines(t, l.o.File)
		for _, line := range all {
			if line["sampled_one_in"] == 10. {
				sampled++
			}
		}
		if len(all) < want[0] || len(all) > want[1] || choice != Sample && sampled > 0 || choice == Sample && sampled != len(all)-1001 {
			t.Errorf("%s: %d lines, %d of a sample", choice, len(all), sampled)
		}
	}
}

// What is no object, too large, or would hide the line's own fields is refused and counted, and so is what finds the queue full; a nil
// log takes everything and does nothing.
func TestRefused(t *testing.T) {
	l, _ := open(t, Options{})
	for _, bad := range []any{3, nil, []int{1}, map[string]int{"time": 1}, map[string]int{"kind": 1}, func() {}, numbered{Text: strings.Repeat("x", lineBytesMax)}} {
		l.Write(KindAlert, time.Now(), bad)
	}
	for n := range eventsMax + 7 {
		l.Write(KindAlert, time.Now(), numbered{N: n})
	}
	l.keepHouse()
	if s := l.Stats(); s.Dropped[droppedInvalid] != 7 || s.Dropped[droppedQueue] != 7 {
		t.Errorf("%+v", s)
	}
	var off *Log
	off.Write(KindAlert, time.Now(), 3)
	off.Reopen()
}

// An overloaded log never holds up who publishes: what it does not take is counted, and the file says how many are missing. Shown
// by a queue of four that is read after ten.
func TestOverload(t *testing.T) {
	hub := new(trace.Hub)
	l, _ := open(t, Options{Hub: hub, Queue: 4})
	for range 10 {
		hub.Publish(wiretest.Exchange())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.Run(ctx)
	all := lines(t, l.o.File)
	if len(all) != 5 {
		t.Fatalf("%v", all)
	}
	if all[0]["kind"] != kindDropped || all[0]["count"] != 6. || l.Stats().Dropped[droppedQueue] != 6 {
		t.Errorf("%v, %+v", all[0], l.Stats())
	}
}

// Files change by size and by age, keep their order, and are never more than allowed, also where fewer are allowed later. Shown by
// numbered lines, of which the latest must be there without a gap.
func TestRotation(t *testing.T) {
	c := newClock()
	l, _ := open(t, Options{Bytes: 1000, Files: 3, Age: time.Hour, Now: c.Now})
	for n := range 200 {
		l.take(KindAlert, numbered{N: n})
	}
	next := 0
	for i, name := range []string{".2", ".1", ""} {
		for _, line := range lines(t, l.o.File+name) {
			if n := int(line["n"].(float64)); i > 0 && n != next {
				t.Fatalf("%s: %d, not %d", name, n, next)
			} else if i == 0 {
				i, next = 1, n
			}
			next++
		}
		if info, err := os.Stat(l.o.File + name); err != nil || info.Size() > 1000 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(l.o.File)); next != 200 || len(entries) != 3 {
		t.Errorf("%d lines, %v", next, entries)
	}
	before := l.Stats().Rotations
	c.now = c.now.Add(59 * time.Minute)
	l.take(KindAlert, numbered{})
	if got := l.Stats().Rotations; got != before {
		t.Errorf("rotated after 59 minutes")
	}
	c.now = c.now.Add(time.Minute)
	l.take(KindAlert, numbered{})
	if got := l.Stats().Rotations; got != before+1 {
		t.Errorf("%d rotations, not %d", got, before+1)
	}
	l.Close()
	foreign := l.o.File + ".x"
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, Options{File: l.o.File, Files: 1})
	if entries, _ := os.ReadDir(filepath.Dir(l.o.File)); len(entries) != 2 {
		t.Errorf("%v", entries)
	}
}

// A file that logrotate renamed is written on until the log hears of it, or looks; then another is there, and no line is lost.
func TestReopen(t *testing.T) {
	l, _ := open(t, Options{})
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { defer close(done); l.Run(ctx) }()
	for n, hear := range []func(){l.Reopen, func() {}} {
		l.Write(KindAlert, time.Now(), numbered{N: n})
		await(t, func() bool { info, err := os.Stat(l.o.File); return err == nil && info.Size() > 0 })
		if err := os.Rename(l.o.File, fmt.Sprint(l.o.File, "-", n)); err != nil {
			t.Fatal(err)
		}
		hear()
		await(t, func() bool { _, err := os.Stat(l.o.File); return err == nil })
	}
	l.Write(KindAlert, time.Now(), numbered{N: 2})
	cancel()
	<-done
	for n, name := range []string{"-0", "-1", ""} {
		if all := lines(t, l.o.File+name); len(all) != 1 || all[0]["n"] != float64(n) {
			t.Errorf("%s: %v", name, all)
		}
	}
}

func await(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}

// A path that leads to somebody else's file, or whose directory is everybody's, is refused, and nothing there is changed.
func TestUnsafePaths(t *testing.T) {
	directory := t.TempDir()
	at := func(name string) string { return filepath.Join(directory, name) }
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fail(os.WriteFile(at("victim"), []byte("precious\n"), 0o644))
	fail(os.Symlink("victim", at("link")))
	fail(os.Link(at("victim"), at("hard")))
	fail(unix.Mkfifo(at("fifo"), 0o600))
	fail(os.Mkdir(at("directory"), 0o700))
	fail(os.Mkdir(at("open"), 0o700))
	fail(os.Chmod(at("open"), 0o777))
	fail(os.Mkdir(at("sticky"), 0o700))
	fail(os.Chmod(at("sticky"), 0o777|os.ModeSticky))
	unsafe := []string{"link", "hard", "fifo", "open/events.log"}
	if os.Geteuid() == 0 {
		fail(os.WriteFile(at("other"), nil, 0o600))
		fail(os.Chown(at("other"), 12345, 12345))
		fail(os.Mkdir(at("theirs"), 0o755))
		fail(os.Chown(at("theirs"), 12345, 12345))
		unsafe = append(unsafe, "other", "theirs/events.log")
	}
	for _, name := range unsafe {
		if _, err := Open(Options{File: at(name)}); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"directory", "none/events.log", "victim/events.log"} {
		if _, err := Open(Options{File: at(name)}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	open(t, Options{File: at("sticky/events.log")})
	b, err := os.ReadFile(at("victim"))
	info, _ := os.Stat(at("victim"))
	if err != nil || string(b) != "precious\n" || info.Mode().Perm() != 0o644 {
		t.Errorf("%q, %v, %v", b, info.Mode(), err)
	}
}

// A link that is put in the place of the file while the log runs is not followed, and it goes on once the link is gone.
func TestLinkLater(t *testing.T) {
	c := newClock()
	l, said := open(t, Options{Now: c.Now})
	l.take(KindAlert, numbered{N: 1})
	victim := filepath.Join(t.TempDir(), "victim")
	if err := errors.Join(os.WriteFile(victim, nil, 0o600), os.Remove(l.o.File), os.Symlink(victim, l.o.File)); err != nil {
		t.Fatal(err)
	}
	l.keepHouse()
	l.take(KindAlert, numbered{N: 2})
	if b, err := os.ReadFile(victim); err != nil || len(b) > 0 || !strings.Contains(l.Stats().Trouble, "symbolic link") {
		t.Errorf("%q, %v, %+v", b, err, l.Stats())
	}
	if err := os.Remove(l.o.File); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(pauseMax)
	l.take(KindAlert, numbered{N: 3})
	if all := lines(t, l.o.File); len(all) != 2 || all[0]["count"] != 1. || all[1]["n"] != 3. {
		t.Errorf("%v\n%s", all, said)
	}
}

// A directory that becomes something else while the log runs is noticed: nothing goes on into a file that the path does not lead to.
func TestDirectoryLater(t *testing.T) {
	c := newClock()
	directory := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	l, said := open(t, Options{Now: c.Now, File: filepath.Join(directory, "events.log")})
	l.take(KindAlert, numbered{N: 1})
	if err := errors.Join(os.Rename(directory, directory+"-old"), os.WriteFile(directory, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	l.keepHouse()
	l.take(KindAlert, numbered{N: 2})
	if st := l.Stats(); !strings.Contains(st.Trouble, "not a directory") || st.Dropped[droppedWrite] != 1 {
		t.Errorf("%+v\n%s", st, said)
	}
	if err := errors.Join(os.Remove(directory), os.Mkdir(directory, 0o700)); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(pauseMax)
	l.take(KindAlert, numbered{N: 3})
	if all := lines(t, l.o.File); len(all) != 2 || all[0]["count"] != 1. || all[1]["n"] != 3. {
		t.Errorf("%v\n%s", all, said)
	}
}

// A full disk takes no part of a line: lines are dropped and counted, it is said once, and when there is room again the log goes on by
// itself and says what is missing. Shown on a small tmpfs.
func TestFullDisk(t *testing.T) {
	path := t.TempDir()
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size=64k,mode=700"); errors.Is(err, unix.EPERM) {
		t.Skip("mounting is for root")
	} else if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(path, unix.MNT_DETACH)
	c := newClock()
	var told []bool
	l, said := open(t, Options{File: filepath.Join(path, "events.log"), Now: c.Now, Works: func(works bool) { told = append(told, works) }})
	const all = 200
	for n := range all { // of 1 KiB and a bit each
		c.now = c.now.Add(time.Second)
		l.take(KindAlert, numbered{N: n, Text: strings.Repeat("x", 1000)})
	}
	s := l.Stats()
	written := len(lines(t, l.o.File))
	if s.Trouble == "" || written == 0 || s.Written[KindAlert] != uint64(written) || s.Dropped[droppedWrite] != uint64(all-written) {
		t.Fatalf("%d lines, %+v", written, s)
	}
	if n := strings.Count(said.String(), "cannot be written"); n != 1 {
		t.Errorf("said %d times:\n%s", n, said)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_REMOUNT, "size=1m,mode=700"); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(pauseMax)
	l.take(KindAlert, numbered{N: all})
	got := lines(t, l.o.File)[written:]
	if len(got) != 2 || got[0]["kind"] != kindDropped || got[0]["count"] != float64(all-written) || got[1]["n"] != float64(all) {
		t.Errorf("%v", got)
	}
	if s := l.Stats(); s.Trouble != "" || !slices.Equal(told, []bool{false, true}) || !strings.Contains(said.String(), "written again") {
		t.Errorf("%+v\n%s", s, said)
	}
}

// A line that a crash cut off is ended before the next one begins.
func TestTornLine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "events.log")
	if err := os.WriteFile(name, []byte(`{"kind":"alert","ti`), 0o644); err != nil {
		t.Fatal(err)
	}
	l, _ := open(t, Options{File: name})
	l.take(KindAlert, numbered{N: 1})
	b, err := os.ReadFile(name)
	if rest, ok := strings.CutPrefix(string(b), "{\"kind\":\"alert\",\"ti\n{"); err != nil || !ok || !strings.HasSuffix(rest, "\"n\":1}\n") {
		t.Errorf("%q, %v", b, err)
	}
}

// BenchmarkExchange is the cost of a line, from the queue to a file.
func BenchmarkExchange(b *testing.B) {
	l, err := Open(Options{File: filepath.Join(b.TempDir(), "events.log"), Hub: new(trace.Hub)})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	ex := wiretest.Exchange()
	b.ReportAllocs()
	for b.Loop() {
		l.addExchange(ex)
	}
}
