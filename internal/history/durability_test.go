package history

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/internal/analytics"
)

// rounds is how often a writer is killed, and how many bytes of each class are flipped; make test-durability has 200.
var rounds = flag.Int("history.rounds", 6, "rounds of the durability tests")

// writerVariable makes the test's own program a writer below the path that it names.
const writerVariable = "PERFAGENT_TEST_HISTORY_WRITER"

// limitedVariable makes it one whose writes fail for a while.
const limitedVariable = "PERFAGENT_TEST_HISTORY_LIMITED"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerVariable); path != "" {
		writeUntilKilled(path)
	}
	if path := os.Getenv(limitedVariable); path != "" {
		writeLimited(path)
	}
	flag.Parse()
	os.Exit(m.Run())
}

// tickOf makes the n-th tick: one endpoint with n+1 requests of n µs; at n = 7 mod 50 a route becomes another and back.
func tickOf(n int) *analytics.Seal {
	to := start.Add(time.Duration(n+1) * analytics.TickInterval)
	s := &analytics.Seal{From: to.Add(-analytics.TickInterval), To: to}
	if n%50 == 7 {
		s.Renames = []analytics.Rename{{From: endpoint(1), To: endpoint(2)}, {From: endpoint(2), To: endpoint(1)}}
	}
	e := sealed(nil, endpoint(1), 0)
	h := analytics.Histogram{}
	for range n + 1 {
		h.Add(int64(n) * 1000)
	}
	e.Series = []analytics.Series{{Result: results[0], Duration: h}}
	s.Entries = []*analytics.Sealed{e}
	return s
}

// writeUntilKilled goes on where the history ends, and says after each tick that it lasts.
func writeUntilKilled(path string) {
	h := Open(Options{Path: path, Log: quiet})
	for n := int(h.store.next) - 1; ; n++ {
		feed(h, tickOf(n), nil)
		if h.Stats().Trouble != "" {
			fmt.Println("trouble", h.Stats().Trouble)
			os.Exit(1)
		}
		fmt.Println("stored", n)
	}
}

// checkTicks compares a history with the first n ticks; what was not told apart may be missing, but nothing may be wrong.
func checkTicks(t *testing.T, h *History, n int) {
	t.Helper()
	m := &model{map[analytics.Key][]*analytics.Seal{}}
	for i := range n {
		m.add(tickOf(i))
	}
	end := start.Add(time.Duration(n) * analytics.TickInterval)
	for _, step := range []time.Duration{0, time.Minute, time.Hour} {
		compare(t, fmt.Sprint("step ", step), stored(t, h, start, end, step), m.sums(start, end))
	}
}

// killWriter runs a writer for a while and kills it; it returns the last tick that the writer said lasts, -1 for none.
func killWriter(t *testing.T, path string, r *rand.Rand) int {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), writerVariable+"="+path)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var said []byte
	buffer := make([]byte, 64<<10)
	// The kill comes at a random instant behind a random tick, so that it meets every step of a tick and of a segment.
	ticks := r.IntN(120) + 1
	for bytes.Count(said, []byte("\n")) < ticks {
		n, err := out.Read(buffer)
		said = append(said, buffer[:n]...)
		if err != nil {
			t.Fatalf("the writer ended: %s", said)
		}
	}
	spin := time.Now().Add(time.Duration(r.IntN(8000)) * time.Microsecond)
	for time.Now().Before(spin) {
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := out.Read(buffer)
		said = append(said, buffer[:n]...)
		if err != nil {
			break
		}
	}
	c.Wait()
	lines := strings.Split(strings.TrimSpace(string(said[:bytes.LastIndexByte(said, '\n')+1])), "\n")
	last, err := strconv.Atoi(strings.TrimPrefix(lines[len(lines)-1], "stored "))
	if err != nil {
		t.Fatalf("the writer said %s", said)
	}
	return last
}

// A writer that is killed at any instant has lost at most the tick that it was about to store, and what there is is right.
func TestDurabilityKill(t *testing.T) {
	path := t.TempDir()
	r := rand.New(rand.NewPCG(uint64(*rounds), 1))
	for range *rounds {
		last := killWriter(t, path, r)
		h := Open(Options{Path: path, Log: quiet})
		s := h.Stats()
		if s.Memory || s.Trouble != "" || len(s.Damaged) > 0 {
			t.Fatalf("%+v", s)
		}
		n := int(h.store.next) - 1
		if n < last+1 || n > last+2 {
			t.Fatalf("has %d ticks, the writer had stored %d", n, last+1)
		}
		checkTicks(t, h, n)
		h.close()
	}
}

// fill makes a history of n ticks and closes it.
func fillHistory(t *testing.T, path string, n int) {
	t.Helper()
	h := Open(Options{Path: path, Log: quiet})
	for i := range n {
		feed(h, tickOf(i), nil)
	}
	if s := h.Stats(); s.Trouble != "" || s.Memory {
		t.Fatalf("%+v", s)
	}
	h.close()
}

func copyDirectory(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// checkRest tells whether what a history has after damage is a part of what was stored: each interval is as it was, or missing,
// and if any is missing the history says so.
func checkRest(t *testing.T, what string, h *History, n int) {
	t.Helper()
	missing, said := 0, uint64(0)
	for _, step := range []time.Duration{0, time.Minute, time.Hour} {
		r, err := h.Select(Query{From: start, To: start.Add(time.Duration(n) * analytics.TickInterval), Step: step})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		said += uint64(len(r.Missing))
		seen := 0
		for _, s := range r.Series {
			if s.Kind != Distribution {
				continue
			}
			if labelValue(s.Labels, "http_route") != "/r1" && labelValue(s.Labels, "http_route") != "/r2" {
				t.Fatalf("%s: series %v", what, s.Labels)
			}
			for it := s.Iterate(); ; {
				if !it.Next() {
					if it.Err() != nil {
						said++
					}
					break
				}
				sample := it.At()
				var h analytics.Histogram
				if err := sample.AddTo(&h); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				last := int(sample.Time/10_000 - start.Unix()/10)
				var want uint64
				for i := last - int(sample.Interval/10_000); i < last; i++ {
					want += uint64(i + 1)
				}
				seen += int(sample.Interval / 10_000)
				// A longer interval at an end may have lost ticks of the head, each of which counts another number.
				if h.Count() != want && (sample.Interval == 10_000 || h.Count() > want) {
					t.Fatalf("%s: %d requests until %d, not %d", what, h.Count(), last, want)
				}
			}
		}
		if seen < n {
			missing += n - seen
		}
	}
	s := h.Stats()
	for _, n := range s.Damaged {
		said += n
	}
	if missing > 0 && said == 0 && !s.Memory {
		t.Fatalf("%s: %d intervals are missing, and nothing is said: %+v", what, missing, s)
	}
}

// drain takes over what queries reported, as Run does.
func drain(h *History) {
	for {
		select {
		case broken := <-h.broken:
			h.loseRead(broken)
		default:
			return
		}
	}
}

// damagedHistory opens a copy of a history after a change to one file, reads all, goes on writing, and opens it once more.
func damagedHistory(t *testing.T, what, from, name string, n int, damage func(b []byte) []byte) {
	t.Helper()
	path := t.TempDir()
	copyDirectory(t, from, path)
	file := filepath.Join(path, directoryName, name)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, damage(b), 0o600); err != nil {
		t.Fatal(err)
	}
	h := Open(Options{Path: path, Log: quiet})
	checkRest(t, what, h, n)
	drain(h)
	checkRest(t, what+", again", h, n)
	if !h.Stats().Memory {
		next := int(h.store.next)
		for i := range 3 {
			feed(h, tickOf(max(n, next-1)+i), nil)
		}
		if s := h.Stats(); s.Trouble != "" {
			t.Fatalf("%s: %+v", what, s)
		}
	}
	h.close()
	if s := h.Stats(); s.Memory {
		return
	}
	h = Open(Options{Path: path, Log: quiet})
	if s := h.Stats(); s.Memory {
		t.Fatalf("%s: opened again: %+v", what, s)
	}
	h.close()
}

// A flipped bit or a cut at any place of any file leads to no wrong number, to no crash, and is said.
func TestDurabilityDamage(t *testing.T) {
	path := t.TempDir()
	const n = 400
	fillHistory(t, path, n)
	entries, err := os.ReadDir(filepath.Join(path, directoryName))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(uint64(*rounds), 2))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Size() == 0 {
			continue
		}
		for _, at := range offsets(t, filepath.Join(path, directoryName, e.Name()), r) {
			bit := byte(1) << r.IntN(8)
			damagedHistory(t, fmt.Sprintf("%s with bit %#x of byte %d flipped", e.Name(), bit, at), path, e.Name(), n, func(b []byte) []byte {
				b[at] ^= bit
				return b
			})
		}
		for range max(*rounds/10, 1) {
			at := r.Int64N(info.Size())
			damagedHistory(t, fmt.Sprintf("%s cut at %d", e.Name(), at), path, e.Name(), n, func(b []byte) []byte { return b[:at] })
			damagedHistory(t, fmt.Sprintf("%s torn at %d", e.Name(), at), path, e.Name(), n, func(b []byte) []byte {
				clear(b[at:min(int(at)+4096, len(b))])
				return b
			})
		}
	}
}

// offsets are places of every class: the fields of both meta pages, of page headers, of elements, and anything else.
func offsets(t *testing.T, name string, r *rand.Rand) []int {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(name, segmentSuffix) {
		return []int{r.IntN(len(b)), len(b) - 1}
	}
	var all []int
	each := max(*rounds/20, 1)
	pages := len(b) / 4096
	for range each {
		all = append(all, r.IntN(80), 4096+r.IntN(80)) // meta
		for field := range 4 {
			all = append(all, r.IntN(pages)*4096+field*4+r.IntN(4))    // page header
			all = append(all, r.IntN(pages)*4096+16+field*4+r.IntN(4)) // first element
		}
		all = append(all, r.IntN(len(b)), r.IntN(len(b)))
	}
	return all
}

// writeLimited stores ticks before, while and after no file of this process can be longer than a page, and prints the state.
func writeLimited(path string) {
	h := Open(Options{Path: path, Log: quiet})
	var before unix.Rlimit
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	fail(unix.Getrlimit(unix.RLIMIT_FSIZE, &before))
	for n := range 900 + 2*retryTicks {
		switch n {
		case 100:
			fail(unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4096, Max: before.Max}))
		case 900:
			if s := h.Stats(); s.Trouble == "" || s.WriteErrors == 0 {
				fail(fmt.Errorf("%+v", s))
			}
			fail(unix.Setrlimit(unix.RLIMIT_FSIZE, &before))
		}
		feed(h, tickOf(n), nil)
	}
	if s := h.Stats(); s.Trouble != "" || s.Stored != h.store.next-1 {
		fail(fmt.Errorf("%+v", s))
	}
	os.Exit(0)
}

// Writes that fail cost nothing while the agent runs: it says so, and stores all of it afterwards.
func TestDurabilityFailingWrites(t *testing.T) {
	path := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), limitedVariable+"="+path)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h := Open(Options{Path: path, Log: quiet})
	defer h.close()
	const n = 900 + 2*retryTicks
	if s := h.Stats(); s.Trouble != "" || len(s.Damaged) > 0 || int(h.store.next) != n+1 {
		t.Fatalf("%+v", s)
	}
	checkTicks(t, h, n)
}

// On a full file system the history goes on in memory, and is written once there is room. It needs the right to mount one.
func TestDurabilityFullDisk(t *testing.T) {
	path := t.TempDir()
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size=1m,mode=700"); errors.Is(err, unix.EPERM) {
		t.Skip("mounting a file system needs root")
	} else if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(path, unix.MNT_DETACH)
	h := Open(Options{Path: path, Log: quiet})
	n := 0
	for ; n < 50; n++ {
		feed(h, tickOf(n), nil)
	}
	ballast := filepath.Join(path, "ballast")
	fillDisk(t, ballast)
	for ; n < 500; n++ {
		feed(h, tickOf(n), nil)
	}
	if s := h.Stats(); s.Trouble == "" {
		t.Fatalf("%+v", s)
	}
	checkTicks(t, h, n)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for to := n + 2*retryTicks; n < to; n++ {
		feed(h, tickOf(n), nil)
	}
	if s := h.Stats(); s.Trouble != "" || s.Stored != uint64(n) {
		t.Fatalf("%+v", s)
	}
	h.close()
	h = Open(Options{Path: path, Log: quiet})
	defer h.close()
	checkTicks(t, h, n)
}

func fillDisk(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); errors.Is(err, unix.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// A clock that is set now and then removes nothing and counts nothing twice: what was counted is there, at the times that the clock told.
func TestDurabilityClockJumps(t *testing.T) {
	path := t.TempDir()
	r := rand.New(rand.NewPCG(1, 7))
	h := Open(Options{Path: path, Log: quiet})
	now := start
	want := uint64(0)
	for i := range 1500 {
		now = now.Add(analytics.TickInterval)
		if r.IntN(150) == 0 || i%300 == 0 { // so that it never went steadily for an hour
			now = now.Add(time.Duration(r.Int64N(int64(1000*time.Hour))) - 500*time.Hour)
		}
		if r.IntN(400) == 0 {
			now = start.Add(time.Duration(r.IntN(4)-2) * 20000 * time.Hour)
		}
		e := sealed(r, endpoint(1), 9)
		for i := range e.Series {
			want += e.Series[i].Duration.Count()
		}
		feed(h, &analytics.Seal{To: now, Entries: []*analytics.Sealed{e}}, nil)
		if r.IntN(200) == 0 {
			h.close()
			h = Open(Options{Path: path, Log: quiet})
		}
	}
	defer h.close()
	if s := h.Stats(); s.Trouble != "" || len(s.Damaged) > 0 {
		t.Fatalf("%+v", s)
	}
	var got uint64
	for name, s := range stored(t, h, start.Add(-100000*time.Hour), start.Add(100000*time.Hour), 0) {
		if strings.Contains(name, "request_duration") {
			got += s.Count
		}
	}
	if got != want {
		t.Fatalf("has %d requests of %d", got, want)
	}
}

// A directory of another version, of something else, or of another agent that runs is left alone, byte for byte; the agent
// keeps its history in memory and says why.
func TestDurabilityOthersDirectory(t *testing.T) {
	for _, c := range []struct {
		name, say string
		prepare   func(t *testing.T, directory string)
	}{
		{"newer", "another version", func(t *testing.T, d string) { write(t, filepath.Join(d, formatName), formatLine(FormatVersion+1)) }},
		{"older", "another version", func(t *testing.T, d string) { write(t, filepath.Join(d, formatName), formatLine(0)) }},
		{"foreign", "no history", func(t *testing.T, d string) {
			os.Remove(filepath.Join(d, formatName))
			write(t, filepath.Join(d, "letter.txt"), "Dear Sir")
		}},
		{"busy", "another agent", func(t *testing.T, d string) {
			other := Open(Options{Path: filepath.Dir(d), Log: quiet})
			t.Cleanup(other.close)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := t.TempDir()
			fillHistory(t, path, 20)
			directory := filepath.Join(path, directoryName)
			c.prepare(t, directory)
			before := content(t, directory)
			h := Open(Options{Path: path, Log: quiet})
			for i := range 400 {
				feed(h, tickOf(i), nil)
			}
			checkTicks(t, h, 400)
			if s := h.Stats(); !s.Memory || !strings.Contains(s.Trouble, c.say) {
				t.Errorf("%+v", s)
			}
			h.close()
			if after := content(t, directory); !maps.Equal(before, after) {
				t.Error("the directory was changed")
			}
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// content is every file of a directory.
func content(t *testing.T, directory string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(directory, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		all[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A page that names itself as its child, and one that two others name, are found before bbolt follows them.
func TestPagesInCircles(t *testing.T) {
	path := t.TempDir()
	fillHistory(t, path, 300)
	b, err := os.ReadFile(filepath.Join(path, directoryName, headName))
	if err != nil {
		t.Fatal(err)
	}
	if both, err := checkPages(b); err != nil || !both {
		t.Fatal(both, err)
	}
	branches := 0
	for at := 2 * 4096; at < len(b); at += 4096 {
		page := b[at : at+4096]
		if page[8] != pageBranch || page[10]|page[11] == 0 {
			continue
		}
		before := slices.Clone(page)
		copy(page[pageHeader+8:pageHeader+16], page[:8])
		if _, err := checkPages(b); err == nil {
			// Only a page that is in use matters; one in use names its children, so that a second mother is noticed.
			copy(page, before)
			continue
		}
		branches++
		copy(page, before)
	}
	if branches == 0 {
		t.Error("no branch in use was found")
	}
}

// Any bytes are walked without a crash.
func FuzzPages(f *testing.F) {
	f.Add(make([]byte, 16384))
	f.Fuzz(func(t *testing.T, b []byte) { checkPages(b) })
}

// Any bytes are unpacked as a tick without a crash.
func FuzzTick(f *testing.F) {
	var c tickCodec
	value, err := c.encode(3, newTick(tickOf(7), nil, nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value[sumBytes:])
	f.Fuzz(func(t *testing.T, b []byte) { decodeTick(3, sealValue(numberKey(3), b)) })
}
