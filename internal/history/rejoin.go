package history

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// rejoinTicksMax bounds the ticks between two attempts to open the directory, which begin with one and double: five minutes.
const rejoinTicksMax = 30

// errGone says that the directory is not where it was: removed, unmounted, or under another one.
var errGone = errors.New("the directory is not there any more")

// away is what is known while a history that has a directory is kept in memory.
type away struct {
	wait, pause int   // ticks until the next attempt, and between the latest two
	from        int64 // the earliest slot that the directory does not have
	any         bool  // there is one
	kept        uint64
	// Of a directory that is gone: the earliest slot of what is in memory and was stored there, and the number of the latest tick that was.
	storedFrom int64
	stored     uint64
}

// note counts a tick that the directory does not have.
func (a *away) note(slot int64) {
	if !a.any || slot < a.from {
		a.from, a.any = slot, true
	}
	a.kept++
}

// isAway tells whether the directory is another than the one whose lock is held.
func (s *store) isAway() bool {
	held, err := s.lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(filepath.Join(s.directory, lockName))
	if err != nil {
		return isMissing(err)
	}
	return !os.SameFile(held, there)
}

// isMissing tells whether an error says that there is nothing at a path.
func isMissing(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// leave goes on in memory with what it has of a directory that is gone. What it had stored is marked, as it may come back with it.
func (h *History) leave() {
	s := &h.store
	if s.head != nil {
		s.head.close() // it is of no use, whether this fails or not
	}
	s.lock.Close()
	h.seal()
	s.away = away{storedFrom: math.MaxInt64, stored: h.stats.Stored}
	segments := slices.Clone(h.view.segments)
	for _, g := range segments {
		g.stored = g.first <= h.stats.Stored
		switch {
		case g.name != "":
			h.view.files.abandon(g)
		case g.tier == tierTick && g.stored:
			s.away.storedFrom = min(s.away.storedFrom, g.from)
		case g.tier == tierTick:
			s.away.note(g.from)
		}
	}
	h.publish(slices.DeleteFunc(segments, func(g *segment) bool { return g.name != "" }), nil)
	s.lock, s.head, s.unsaved = nil, nil, nil
	h.count(func(st *Stats) { st.Memory = true })
	h.trouble("find the directory", errGone)
}

// rejoin tries to open a directory that could not be opened, or is gone, and has it take what memory kept. It waits longer after
// each failure, but not for another agent: that one may end, and what both would see must not be there twice.
func (h *History) rejoin() {
	s := &h.store
	if h.o.Path == "" {
		return
	}
	if s.away.wait > 0 {
		s.away.wait--
		return
	}
	if err := h.takeOver(); err != nil {
		s.away.pause = min(max(2*s.away.pause, 1), rejoinTicksMax)
		if errors.Is(err, errLocked) {
			s.away.pause = 0
		}
		s.away.wait = s.away.pause
		h.count(func(st *Stats) {
			st.Trouble = "the history is kept in memory until its directory can be opened: " + err.Error()
		})
	}
}

// takeOver opens the directory beside what is in memory, settles what it has, and puts the two together.
func (h *History) takeOver() error {
	there := &History{o: h.o, log: h.log}
	there.view = view{open: newOpen(), names: newRenames(nil), files: new(files)}
	there.store.next, there.stats.Damaged = 1, map[string]uint64{}
	if err := there.openDirectory(filepath.Join(h.o.Path, directoryName)); err != nil {
		return err
	}
	latest := there.latestSlot()
	there.seal()
	if err := there.settle(); err != nil {
		there.close()
		return err
	}
	h.seal()
	if err := h.follow(); err != nil {
		there.close()
		return err
	}
	lost := h.join(there, latest)
	if lost > 0 {
		h.dropped.Add(lost)
		h.log.Warn("the directory of the history has other intervals of the same time; what memory kept is left out", "intervals", lost)
	}
	return nil
}

// settle writes what is open or only in memory to the directory, so that the head is empty.
func (h *History) settle() error {
	s := &h.store
	if err := h.persist(); err != nil {
		return err
	}
	if err := s.head.apply(&headChange{sealed: s.sealed, followed: s.followed(h.view.segments)}); err != nil {
		return err
	}
	s.confirmed = s.sealed
	return nil
}

// latestSlot is the latest of which the directory has something; the finest resolution knows best.
func (h *History) latestSlot() int64 {
	latest := int64(math.MinInt64)
	for _, g := range h.view.segments {
		if g.tier == tierTick {
			latest = max(latest, g.to)
		}
	}
	if o := h.view.open; o.ticks > 0 {
		latest = max(latest, o.to)
	}
	return latest
}

// follow has all segments in memory follow all renames, so that only those of the directory need any.
func (h *History) follow() error {
	for _, g := range h.view.segments {
		if g.renames == h.store.renamed {
			continue
		}
		stored := g.stored
		if err := h.uniteGroup([]*segment{g}); err != nil {
			return fmt.Errorf("rename what is in memory: %w", err)
		}
		if at := slices.IndexFunc(h.view.segments, func(u *segment) bool {
			return u.tier == g.tier && u.first == g.first && u.last == g.last
		}); stored && at >= 0 {
			h.view.segments[at].stored = true
		}
	}
	return nil
}

// join makes the opened directory's state the history's, and gives what is in memory the numbers behind it. It returns how many
// ticks were left out, since the directory has others of the same time.
func (h *History) join(there *History, latest int64) (lost uint64) {
	s, d := &h.store, &there.store
	returned, clash := latest >= s.away.storedFrom, s.away.any && s.away.from <= latest
	kept := slices.DeleteFunc(slices.Clone(h.view.segments), func(g *segment) bool {
		leftOut := g.stored && returned || !g.stored && clash
		if leftOut && g.tier == tierTick {
			lost += g.last - min(g.last, max(g.first-1, s.away.stored)) // beyond those that were stored
		}
		return leftOut
	})
	first := s.next
	for _, g := range kept {
		first = min(first, g.first)
	}
	shift := d.next - first // modulo 2^64, as it may be backwards
	for i, r := range s.newNames {
		s.newNames[i].number = d.renamed + uint64(i) + 1
		d.known = append(d.known, numbered[rename]{s.newNames[i].number, r.value})
	}
	d.newNames = s.newNames
	d.renamed += uint64(len(s.newNames))
	segments := there.view.segments
	for _, g := range kept {
		segments = append(segments, &segment{tier: g.tier, from: g.from, to: g.to, first: g.first + shift, last: g.last + shift,
			renames: d.renamed, bytes: g.bytes, mem: g.mem})
	}
	slices.SortStableFunc(segments, bySequence)
	d.next, d.steady, d.before = s.next+shift, s.steady, s.before
	ticks := s.away.kept - min(s.away.kept, lost)
	h.store = *d
	h.view.files.move(d.directory)
	h.mu.Lock()
	h.view.segments, h.view.open, h.view.names = segments, newOpen(), newRenames(d.known)
	h.stats.Memory, h.stats.DamageBytes = false, d.damaged
	for part, n := range there.stats.Damaged {
		h.stats.Damaged[part] += n
	}
	h.mu.Unlock()
	h.log.Info("the directory of the history is there", "directory", d.directory, "intervals_from_memory", ticks)
	return lost
}

// move has files be looked for in another directory; none is open.
func (f *files) move(directory string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.directory = directory
}
