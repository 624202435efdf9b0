// Package statefile keeps small files of state whole over crashes and power cuts. It imports the standard library alone.
package statefile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Replace writes a file (mode 0600) so that at any instant, also after a power cut, the old one or the new one is there, whole; when it
// returns without an error it is the new one. What it writes beside it is called like the file, with ".new".
func Replace(name string, data []byte) error {
	temporary := name + ".new"
	if err := write(temporary, data); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), remove(temporary))
	}
	if err := os.Rename(temporary, name); err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", name, err), remove(temporary))
	}
	return SyncDirectory(filepath.Dir(name))
}

// ErrIrregular says that a file of state is none that can be read at once, such as a pipe.
var ErrIrregular = errors.New("it is no regular file")

// Open opens a file for reading. What would hold up whoever reads it, and a link, which may lead to somebody else's file, are refused.
func Open(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "open", Path: name, Err: ErrIrregular}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// AsideMax is how many files of one name are set aside; the last place is taken over.
const AsideMax = 4

// SetAside renames a file that cannot be used to the first free of AsideMax names, and returns that.
func SetAside(name string) (aside string, err error) {
	for i := range AsideMax {
		aside = fmt.Sprintf("%s.damaged.%d", name, i)
		if _, err := os.Lstat(aside); errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return aside, os.Rename(name, aside)
}

// ErrUnsafe says that others may write to a directory, and could have a file of theirs written in place of the agent's.
var ErrUnsafe = errors.New("others may write there")

// CheckDirectory fails with ErrUnsafe where others than root and the program's user may make links in a directory.
func CheckDirectory(path string) error {
	var stat syscall.Stat_t
	if err := syscall.Stat(path, &stat); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if stat.Uid != 0 && stat.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("directory %s: %w: it belongs to the user %d", path, ErrUnsafe, stat.Uid)
	}
	if stat.Mode&syscall.S_IWOTH != 0 && stat.Mode&syscall.S_ISVTX == 0 {
		return fmt.Errorf("directory %s: %w: its mode lets everybody", path, ErrUnsafe)
	}
	return nil
}

// write writes a file that lasts, under a name that may not. What has the name already, such as a link that another user made, or what a
// kill has left, is not written to.
func write(name string, data []byte) error {
	if err := remove(name); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// remove removes what may not be there.
func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// SyncDirectory makes names in a directory last.
func SyncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ErrLocked says that another process has a directory's files of state.
var ErrLocked = errors.New("another agent uses them")

// lockName is the file that is locked: those of the state are replaced.
const lockName = "state.lock"

// Lock makes a directory where there is none, and takes its files of state for this process until the result is closed. It fails with
// ErrLocked where another process has them.
func Lock(directory string) (*os.File, error) {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(directory, lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, errors.Join(&os.PathError{Op: "lock", Path: directory, Err: err}, f.Close())
	}
	return f, nil
}
