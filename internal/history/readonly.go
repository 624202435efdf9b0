package history

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// readTries bounds the attempts to see a directory at one moment while an agent writes to it; it does so for some ms in 10 s.
const readTries = 20

// ErrNoHistory says that there is no history at a path.
var ErrNoHistory = errors.New("no history")

// OpenReadOnly opens the history below the path as it is at this moment, and changes nothing. An agent may write to it meanwhile.
// Close must follow.
func OpenReadOnly(path string) (*History, error) {
	directory := filepath.Join(path, directoryName)
	if _, err := os.Stat(directory); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNoHistory, directory)
	}
	if _, fresh, err := checkFormat(directory); err != nil && !errors.Is(err, errDamaged) {
		return nil, fmt.Errorf("%s: %w", directory, err)
	} else if fresh {
		return nil, fmt.Errorf("%w in %s", ErrNoHistory, directory)
	}
	var last error
	for range readTries {
		h, again, err := readDirectory(directory)
		if err == nil && !again {
			return h, nil
		}
		last = err
		if err != nil && !errors.Is(err, errDamaged) && !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	if last == nil {
		last = errors.New("it changes all the time")
	}
	return nil, fmt.Errorf("read the history in %s: %w", directory, last)
}

// readDirectory takes a view of a directory; again: it changed meanwhile.
func readDirectory(directory string) (h *History, again bool, err error) {
	h = Open(Options{Log: slog.New(slog.DiscardHandler)})
	h.view.files = &files{directory: directory}
	before, err := list(directory)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil || again {
			for _, g := range before.segments {
				g.drop()
			}
		}
	}()
	for _, g := range before.segments {
		if g.held, err = openNoFollow(filepath.Join(directory, g.name), os.O_RDONLY, 0); err != nil {
			return nil, false, err
		}
	}
	content, err := copyHead(filepath.Join(directory, headName))
	if err != nil {
		return nil, false, err
	}
	after, err := list(directory)
	if err != nil {
		return nil, false, err
	}
	if !slices.EqualFunc(before.segments, after.segments, func(a, b *segment) bool { return a.name == b.name }) {
		return nil, true, nil
	}
	h.stats.Damaged["tick"] += uint64(content.damaged)
	h.take(before.segments, content)
	return h, false, nil
}

// drop closes the file that is held.
func (s *segment) drop() {
	if s.held != nil {
		s.held.Close()
		s.held = nil
	}
}

// copyHead reads the head out of a copy in memory, since the agent that writes to it keeps others from opening it. One that was
// copied while it was written may look damaged, or have no ticks: it is read again then.
func copyHead(name string) (*headContent, error) {
	file, err := readHead(name)
	if err != nil || len(file) == 0 {
		return new(headContent), err
	}
	if _, err := checkPages(file); err != nil {
		return nil, err
	}
	again, err := readHead(name)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(file, again) {
		return nil, fmt.Errorf("%w: it was written meanwhile", errDamaged)
	}
	descriptor, err := unix.MemfdCreate("perfagent-history", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("copy %s: %w", name, err)
	}
	memory := os.NewFile(uintptr(descriptor), headName)
	defer memory.Close()
	if _, err := memory.Write(file); err != nil {
		return nil, fmt.Errorf("copy %s: %w", name, err)
	}
	db, err := openBolt(name, bolt.Options{ReadOnly: true, OpenFile: func(string, int, os.FileMode) (*os.File, error) {
		if _, err := memory.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", descriptor), os.O_RDONLY, 0)
	}})
	if err != nil {
		return nil, err
	}
	head := &head{db: db}
	content, err := head.read()
	return content, errors.Join(err, head.close())
}

// Close gives back what a History that is not run has open.
func (h *History) Close() {
	h.close()
	for _, g := range h.view.segments {
		g.drop()
	}
}
