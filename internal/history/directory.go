package history

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// directoryName is where the history lies below --storage.path.
	directoryName = "history"
	lockName      = "lock"
	formatName    = "format"
	formatText    = "perfagent history"
	// FormatVersion is the newest that is written. Older ones down to formatFirst are read, and stay as they are until something is
	// stored that they do not have; any other is left alone.
	FormatVersion = formatRecorded
	// formatFirst has everything but what rules record.
	formatFirst = 1
	// formatRecorded has entries of recorded series, which a program of format 1 would take for damage.
	formatRecorded = 2
)

var (
	// errLocked says that another agent writes to the directory.
	errLocked = errors.New("another agent writes there")
	// errVersion says that what is there was written by a version of perfagent that does otherwise.
	errVersion = errors.New("written by another version of perfagent")
	// errForeign says that a directory has files and none that says that they are a history.
	errForeign = errors.New("not empty, and no history of perfagent")
)

// lockDirectory makes the directory where there is none, and takes it for this process.
func lockDirectory(directory string) (*os.File, error) {
	if err := os.MkdirAll(directory, directoryMode); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(directory); err != nil || !info.IsDir() {
		return nil, errors.Join(err, fmt.Errorf("%s is no directory", directory))
	}
	lock, err := openNoFollow(filepath.Join(directory, lockName), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// formatLine is the content of the format file; the checksum tells another version from damage.
func formatLine(version int) string {
	text := fmt.Sprintf("%s %d", formatText, version)
	return fmt.Sprintf("%s %08x\n", text, crc32.Checksum([]byte(text), castagnoli))
}

// checkFormat returns the directory's version, if this program knows it; fresh: there is nothing yet.
func checkFormat(directory string) (version int, fresh bool, err error) {
	b, err := os.ReadFile(filepath.Join(directory, formatName))
	if errors.Is(err, os.ErrNotExist) {
		entries, err := os.ReadDir(directory)
		if err != nil {
			return 0, false, err
		}
		ours := false
		for _, e := range entries {
			_, isSegment := parseSegmentName(e.Name())
			ours = ours || isSegment || e.Name() == headName
			if !isSegment && e.Name() != lockName && e.Name() != headName && !strings.HasPrefix(e.Name(), temporaryName) && !strings.Contains(e.Name(), damagedSuffix) {
				return 0, false, errForeign
			}
		}
		if ours {
			return FormatVersion, false, nil // of any version that this one knows
		}
		return formatFirst, true, nil
	}
	if err != nil {
		return 0, false, err
	}
	for version := formatFirst; version <= FormatVersion; version++ {
		if string(b) == formatLine(version) {
			return version, false, nil
		}
	}
	words := strings.Fields(string(b))
	if len(words) == 4 {
		if version, err := strconv.Atoi(words[2]); err == nil && string(b) == formatLine(version) {
			return 0, false, fmt.Errorf("%w: its format is %d, this one's %d", errVersion, version, FormatVersion)
		}
	}
	return 0, false, fmt.Errorf("%w: %s", errDamaged, formatName)
}

// upgrade makes the directory one of the version that is needed, before something is stored that older ones do not have.
func (s *store) upgrade() error {
	if s.version >= s.needs {
		return nil
	}
	if err := writeFormat(s.directory, s.needs); err != nil {
		return err
	}
	s.version = s.needs
	return nil
}

// writeFormat writes the format file, all at once.
func writeFormat(directory string, version int) error {
	temporary := filepath.Join(directory, temporaryName+formatName)
	f, err := openNoFollow(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(formatLine(version))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(temporary, filepath.Join(directory, formatName))
	}
	return errors.Join(err, syncDirectory(directory))
}

// setAside renames a file that is damaged, so that it is out of the way and still there.
func setAside(directory, name string) error {
	for i := range 1000 {
		to := filepath.Join(directory, name+damagedSuffix)
		if i > 0 {
			to += strconv.Itoa(i)
		}
		if _, err := os.Lstat(to); errors.Is(err, os.ErrNotExist) {
			return errors.Join(os.Rename(filepath.Join(directory, name), to), syncDirectory(directory))
		}
	}
	return fmt.Errorf("%s: too many damaged ones", name)
}

// listing is what a directory has.
type listing struct {
	segments []*segment // in the order of their ticks
	replaced []*segment // others were made of these, and they were not yet removed
	leftover []string   // files that were not finished
	damaged  int64      // bytes of what was set aside
}

func list(directory string) (*listing, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	l := new(listing)
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // united with others in this moment
		}
		if err != nil {
			return nil, err
		}
		switch {
		case !info.Mode().IsRegular():
		case strings.HasPrefix(e.Name(), temporaryName):
			l.leftover = append(l.leftover, e.Name())
		case strings.Contains(e.Name(), damagedSuffix):
			l.damaged += info.Size()
		default:
			if s, ok := parseSegmentName(e.Name()); ok {
				s.bytes = info.Size()
				l.segments = append(l.segments, s)
			}
		}
	}
	slices.SortFunc(l.segments, func(a, b *segment) int { return strings.Compare(a.name, b.name) })
	slices.SortStableFunc(l.segments, bySequence)
	kept := l.segments[:0:0]
	for _, s := range l.segments {
		if slices.ContainsFunc(l.segments, func(o *segment) bool { return o.covers(s) }) {
			l.replaced = append(l.replaced, s)
		} else {
			kept = append(kept, s)
		}
	}
	l.segments = kept
	return l, nil
}

func bySequence(a, b *segment) int {
	switch {
	case a.last != b.last:
		return int(min(max(int64(a.last-b.last), -1), 1))
	case a.tier != b.tier:
		return int(a.tier) - int(b.tier)
	}
	return 0
}
