package eventlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fileMode keeps what is in the log to the agent's user: paths and addresses are nobody else's business.
const fileMode = 0o600

// ErrUnsafe says that a path is not one that the agent may write to without asking whose it is.
var ErrUnsafe = errors.New("not safe to write to")

// file is the present file and those that it was before: name, name.1 (the latest), name.2 … Everything is done below the directory
// that was opened, so that a directory that is exchanged meanwhile leads nowhere else.
type file struct {
	name     string // as configured
	bytesMax int64
	ageMax   time.Duration // 0: any
	files    int           // in all

	directory *os.File // nil: nothing is open
	f         *os.File
	size      int64
	born      time.Time // of the first line
	torn      bool      // it ends within a line
}

// open opens the file, or makes it. What is there must be a regular file of the agent's user with one name, and its directory one in
// which nobody else could have put it there.
func (f *file) open(now time.Time) (err error) {
	if f.f != nil {
		return nil
	}
	f.close()
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.directory, err = os.OpenFile(filepath.Dir(f.name), os.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return err
	}
	if err := checkDirectory(f.directory); err != nil {
		return err
	}
	f.remove()
	return f.openPresent(now)
}

func (f *file) openPresent(now time.Time) error {
	// Nobody waits for the other end of a FIFO.
	descriptor, err := unix.Openat(f.fd(), f.base(), unix.O_RDWR|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, fileMode)
	if errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%s: %w: it is a symbolic link", f.name, ErrUnsafe)
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: f.name, Err: err}
	}
	opened := os.NewFile(uintptr(descriptor), f.name)
	var stat unix.Statx_t
	err = unix.Statx(descriptor, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &stat)
	if err == nil {
		err = f.check(&stat)
	}
	if err == nil {
		err = opened.Chmod(fileMode)
	}
	if err != nil {
		return errors.Join(err, opened.Close())
	}
	f.f, f.size, f.born, f.torn = opened, int64(stat.Size), now, false
	if f.size > 0 {
		var last [1]byte
		_, err := opened.ReadAt(last[:], f.size-1)
		f.torn = err != nil || last[0] != '\n' // cut off by a crash, or by a disk that failed
		if stat.Mask&unix.STATX_BTIME != 0 {
			f.born = time.Unix(stat.Btime.Sec, int64(stat.Btime.Nsec))
		}
	}
	return nil
}

func (f *file) check(stat *unix.Statx_t) error {
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s: %w: it is no regular file", f.name, ErrUnsafe)
	case stat.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("%s: %w: it belongs to the user %d, the agent runs as %d", f.name, ErrUnsafe, stat.Uid, os.Geteuid())
	case stat.Nlink > 1:
		return fmt.Errorf("%s: %w: it has another name as well (a hard link)", f.name, ErrUnsafe)
	}
	return nil
}

// checkDirectory wants one of root's or the agent's user's in which others do not rename what is not theirs.
func checkDirectory(directory *os.File) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(directory.Fd()), &stat); err != nil {
		return &os.PathError{Op: "stat", Path: directory.Name(), Err: err}
	}
	switch {
	case stat.Uid != 0 && stat.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("directory %s: %w: it belongs to the user %d", directory.Name(), ErrUnsafe, stat.Uid)
	case stat.Mode&unix.S_IWOTH != 0 && stat.Mode&unix.S_ISVTX == 0:
		return fmt.Errorf("directory %s: %w: everybody may write there", directory.Name(), ErrUnsafe)
	}
	return nil
}

func (f *file) fd() int      { return int(f.directory.Fd()) }
func (f *file) base() string { return filepath.Base(f.name) }

// numbered is the name that the file gets at its n-th rotation; 0: the present one's.
func (f *file) numbered(n int) string {
	if n == 0 {
		return f.base()
	}
	return f.base() + "." + strconv.Itoa(n)
}

// moved tells whether the path does not lead to what is open any more: logrotate renamed it, or somebody removed it.
func (f *file) moved() bool {
	if f.f == nil {
		return false
	}
	there, err := os.Lstat(f.name)
	if err != nil {
		return true // also where a part of the path is no directory any more: whoever opens it anew hears why
	}
	here, err := f.f.Stat()
	return err == nil && !os.SameFile(here, there)
}

// write appends whole lines, or nothing of them. Lines that do not fit, or a file that is too old, begin another one.
func (f *file) write(lines []byte, now time.Time) (rotated bool, err error) {
	if err := f.open(now); err != nil {
		return false, err
	}
	info, err := f.f.Stat() // who copies and truncates it, as logrotate can, is no reason to count wrong
	if err != nil {
		return false, err
	}
	f.size = info.Size()
	if f.size > 0 && (f.size+int64(len(lines)) > f.bytesMax || f.ageMax > 0 && now.Sub(f.born) >= f.ageMax) {
		if err := f.rotate(now); err != nil {
			return false, fmt.Errorf("rotate: %w", err)
		}
		rotated = true
	}
	if f.torn {
		lines = append([]byte{'\n'}, lines...)
	}
	if f.size == 0 {
		f.born = now
	}
	n, err := f.f.Write(lines)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, f.f.Truncate(f.size))
		}
		return rotated, err // the file is opened anew, and looked at
	}
	f.size, f.torn = f.size+int64(n), false
	return rotated, nil
}

// rotate gives each file the next number, the oldest first, so that nothing is overwritten but what is to go, whenever it is cut off.
func (f *file) rotate(now time.Time) error {
	if f.files == 1 {
		if err := unix.Unlinkat(f.fd(), f.base(), 0); err != nil {
			return &os.PathError{Op: "remove", Path: f.name, Err: err}
		}
	}
	for n := f.files - 2; n >= 0; n-- {
		err := unix.Renameat(f.fd(), f.numbered(n), f.fd(), f.numbered(n+1))
		if err != nil && (n == 0 || !errors.Is(err, unix.ENOENT)) {
			return &os.PathError{Op: "rename", Path: f.name, Err: err}
		}
	}
	err := f.f.Close()
	f.f, f.torn = nil, false
	if err != nil {
		return err
	}
	return f.openPresent(now)
}

// remove takes away files that a smaller number of them leaves behind. What cannot be removed stays.
func (f *file) remove() {
	names, _ := f.directory.Readdirnames(-1)
	for _, name := range names {
		digits, ours := strings.CutPrefix(name, f.base()+".")
		n, err := strconv.Atoi(digits)
		if !ours || err != nil || n < f.files || name != f.numbered(n) {
			continue
		}
		var stat unix.Stat_t
		if unix.Fstatat(f.fd(), name, &stat, unix.AT_SYMLINK_NOFOLLOW) == nil && stat.Mode&unix.S_IFMT == unix.S_IFREG && stat.Uid == uint32(os.Geteuid()) {
			_ = unix.Unlinkat(f.fd(), name, 0)
		}
	}
}

// close gives file and directory back. That they could not be written shows when they are written.
func (f *file) close() {
	if f.f != nil {
		f.f.Close()
	}
	if f.directory != nil {
		f.directory.Close()
	}
	f.f, f.directory, f.torn = nil, nil, false
}

// isPathError tells whether an error is one of the path that was configured.
func isPathError(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.EISDIR, unix.EACCES, unix.EPERM, unix.ENAMETOOLONG, unix.ELOOP, unix.ENXIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
