package history

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// must ends the test at the first error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A directory that cannot be opened at the start, or is lost later, is tried again, and then has all that memory kept, once: shown by
// ticks of which some are there before, some come while it is away, and some afterwards; routes become others in each part.
func TestRejoin(t *testing.T) {
	type state struct {
		path, directory, aside string
		other                  *History
	}
	wrongVersion := func(t *testing.T, s *state) {
		write(t, filepath.Join(s.directory, formatName), formatLine(FormatVersion+1))
	}
	away := func(t *testing.T, s *state) { // and nothing can be made in its place
		must(t, os.Rename(s.directory, s.aside), os.WriteFile(s.directory, nil, 0o600))
	}
	back := func(t *testing.T, s *state) { must(t, os.Remove(s.directory), os.Rename(s.aside, s.directory)) }
	for _, c := range []struct {
		name             string
		before, at, back int // ticks of a run before; of this one before it fails, and before the directory returns
		fail, mend       func(*testing.T, *state)
		say              string
	}{
		{"version", 20, 0, 100, wrongVersion, func(t *testing.T, s *state) {
			write(t, filepath.Join(s.directory, formatName), formatLine(FormatVersion))
		}, "another version"},
		{"version for hours", 400, 0, 900, wrongVersion, func(t *testing.T, s *state) {
			write(t, filepath.Join(s.directory, formatName), formatLine(FormatVersion))
		}, "another version"},
		{"locked", 20, 0, 100, func(t *testing.T, s *state) { s.other = Open(Options{Path: s.path, Log: quiet}) },
			func(t *testing.T, s *state) { s.other.close() }, "another agent"},
		{"no directory", 0, 0, 100, func(t *testing.T, s *state) {
			must(t, os.WriteFile(s.directory, nil, 0o600))
		}, func(t *testing.T, s *state) { must(t, os.Remove(s.directory)) }, "not a directory"},
		{"removed", 0, 107, 250, func(t *testing.T, s *state) {
			must(t, os.RemoveAll(s.directory), os.WriteFile(s.directory, nil, 0o600))
		}, func(t *testing.T, s *state) { must(t, os.Remove(s.directory)) }, "not a directory"},
		{"removed and made again at once", 0, 107, 108, func(t *testing.T, s *state) { must(t, os.RemoveAll(s.directory)) }, func(*testing.T, *state) {}, "not there any more"},
		{"unmounted", 20, 100, 250, away, back, "not a directory"},
		{"unmounted for hours", 400, 500, 1200, away, back, "not a directory"},
		{"unmounted after a seal", 400, 720, 723, away, back, "not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && c.back-c.before > 500 {
				t.Skip("a long one")
			}
			path := t.TempDir()
			s := &state{path: path, directory: filepath.Join(path, directoryName), aside: filepath.Join(path, "aside")}
			if c.before > 0 {
				fillHistory(t, path, c.before)
			}
			said, told := new(bytes.Buffer), []bool(nil)
			open := func() *History {
				return Open(Options{Path: path, Log: slog.New(slog.NewTextHandler(said, nil)), MaxBytes: 1 << 30, Retention: 1e18,
					Works: func(works bool) { told = append(told, works) }})
			}
			var h *History
			n := c.before
			if c.at > 0 {
				for h = open(); n < c.at; n++ {
					feed(h, tickOf(n), nil)
				}
				c.fail(t, s)
			} else {
				c.fail(t, s)
				h = open()
			}
			for ; n < c.back; n++ {
				feed(h, tickOf(n), nil)
			}
			if st := h.Stats(); !st.Memory || !strings.Contains(st.Trouble, c.say) {
				t.Fatalf("%+v", st)
			}
			c.mend(t, s)
			for to := n + 2*rejoinTicksMax; n < to; n++ {
				feed(h, tickOf(n), nil)
			}
			if st := h.Stats(); st.Memory || st.Trouble != "" || !slices.Equal(told, []bool{false, true}) || st.Dropped != 0 || st.Lost != 0 {
				t.Fatalf("%+v", st)
			}
			if !strings.Contains(said.String(), "the directory of the history is there") || !strings.Contains(said.String(), "written again") {
				t.Errorf("%s", said)
			}
			checkTicks(t, h, n)
			h.close()
			h = open()
			defer h.close()
			if st := h.Stats(); st.Memory || len(st.Damaged) > 0 {
				t.Errorf("%+v", st)
			}
			checkTicks(t, h, n)
		})
	}
}

// What another agent wrote while it held the directory is there once, although this one has seen the same.
func TestRejoinAfterAnother(t *testing.T) {
	path := t.TempDir()
	other := Open(Options{Path: path, Log: quiet})
	h := Open(Options{Path: path, Log: quiet})
	defer h.close()
	n := 0
	for ; n < 100; n++ {
		feed(other, tickOf(n), nil)
		feed(h, tickOf(n), nil)
	}
	other.close()
	for ; n < 120; n++ {
		feed(h, tickOf(n), nil)
	}
	if s := h.Stats(); s.Memory || s.Dropped != 100 {
		t.Errorf("%+v", s)
	}
	checkTicks(t, h, n)
}

// A head that is removed under an agent that runs is made again, with what it had, and a crash afterwards loses nothing.
func TestHeadRemoved(t *testing.T) {
	path := t.TempDir()
	h := Open(Options{Path: path, Log: quiet})
	n := 0
	for ; n < 100; n++ {
		feed(h, tickOf(n), nil)
	}
	must(t, os.Remove(filepath.Join(path, directoryName, headName)))
	for ; n < 130; n++ {
		feed(h, tickOf(n), nil)
	}
	checkTicks(t, h, n)
	copied := t.TempDir()
	copyDirectory(t, path, copied)
	h.close()
	h = Open(Options{Path: copied, Log: quiet})
	defer h.close()
	checkTicks(t, h, n)
}
