package history

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// openDirectory takes over what is in a directory, after it has put away what a crash left unfinished:
//
//   - temporary files;
//   - segments whose ticks are in the head still: they are made again;
//   - segments that were united to one that is there.
func (h *History) openDirectory(directory string) (err error) {
	s := &h.store
	lock, err := lockDirectory(directory)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	s.directory = directory
	version, fresh, err := checkFormat(directory)
	if errors.Is(err, errDamaged) {
		err = h.setAside(formatName, "format", err)
		version, fresh = FormatVersion, true // what is there may be of any version that this one knows
	}
	if err != nil {
		return fmt.Errorf("%s: %w", directory, err)
	}
	if err := os.Chmod(directory, directoryMode); err != nil {
		return err
	}
	if _, missing := os.Lstat(filepath.Join(directory, formatName)); fresh || missing != nil {
		if err := writeFormat(directory, version); err != nil {
			return err
		}
	}
	found, err := list(directory)
	if err != nil {
		return err
	}
	s.damaged, h.stats.DamageBytes = found.damaged, found.damaged
	for _, name := range found.leftover {
		os.Remove(filepath.Join(directory, name))
	}
	h.view.files = &files{directory: directory}
	for _, g := range found.replaced {
		h.view.files.remove(g)
	}
	if err := h.openHead(found.segments); err != nil {
		return err
	}
	s.lock, s.version = lock, version
	return nil
}

// openHead reads the head and goes on where it ends.
func (h *History) openHead(segments []*segment) error {
	s := &h.store
	name := filepath.Join(s.directory, headName)
	content := new(headContent)
	head, err := openHead(name)
	if err == nil {
		if content, err = head.read(); err != nil {
			err = errors.Join(err, head.close())
		}
	}
	if errors.Is(err, errDamaged) {
		if err := h.setAside(headName, "head", err); err != nil {
			return err
		}
		content = new(headContent)
		head, err = openHead(name)
	}
	if err != nil {
		return err
	}
	s.head = head
	if content.damaged > 0 {
		h.stats.Damaged["tick"] += uint64(content.damaged)
		h.log.Error("ticks of the history are damaged and left out", "count", content.damaged)
	}
	h.take(segments, content)
	return nil
}

// take makes segments and head the state.
func (h *History) take(segments []*segment, content *headContent) {
	s := &h.store
	if len(content.ticks) > 0 {
		first := content.ticks[0].number
		segments = slices.DeleteFunc(segments, func(g *segment) bool {
			unfinished := g.last >= first
			if unfinished && g.held == nil {
				h.view.files.remove(g)
			}
			return unfinished
		})
		s.next = content.ticks[len(content.ticks)-1].number + 1
	}
	for _, g := range segments {
		s.next = max(s.next, g.last+1)
		s.sealed = max(s.sealed, g.last)
		s.renamed = max(s.renamed, g.renames)
	}
	s.known, s.confirmed = content.renames, s.sealed
	h.view.segments, h.view.names = segments, newRenames(s.known)
	latest := s.renamed
	for _, t := range content.ticks {
		if !h.view.open.fits(t.value.slot) {
			h.seal()
		}
		h.view.open.add(t.number, t.value)
		s.renamed = t.value.renamed // what segments made of these ticks follow
		latest = max(latest, s.renamed)
	}
	for _, r := range content.renames {
		latest = max(latest, r.number)
	}
	s.renamed = latest
}

// setAside renames what is damaged, and says so.
func (h *History) setAside(name, part string, why error) error {
	h.count(func(st *Stats) { st.Damaged[part]++ })
	h.log.Error("a file of the history is damaged and set aside", "file", name, "err", why)
	if info, err := os.Lstat(filepath.Join(h.store.directory, name)); err == nil {
		h.store.damaged += info.Size()
		h.count(func(st *Stats) { st.DamageBytes = h.store.damaged })
	}
	if err := setAside(h.store.directory, name); err != nil {
		return fmt.Errorf("set aside %s: %w", name, err)
	}
	return nil
}

// isFull tells whether an error only says that there is no room, after which a file is what it was before.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// renames finds the present name of an entry.
type renames struct {
	all []numbered[rename]
	of  map[string][]int // by the name before: places in all
}

func newRenames(all []numbered[rename]) *renames {
	n := &renames{all: slices.Clone(all), of: map[string][]int{}}
	for i, r := range n.all {
		n.of[r.value.from] = append(n.of[r.value.from], i)
	}
	return n
}

// current is the name under which an entry goes on that followed the renames up to a number.
func (n *renames) current(name string, followed uint64) string {
	at := -1
next:
	for _, i := range n.of[name] {
		if i > at && n.all[i].number > followed {
			name, at = n.all[i].value.to, i
			goto next
		}
	}
	return name
}
