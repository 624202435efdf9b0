package host

import (
	"encoding/json"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	// packageBytesMax bounds a package.json; real ones have a few KiB.
	packageBytesMax = 256 << 10
	// packageLevelsMax bounds the walk up to one.
	packageLevelsMax = 16
	// filesPatience is how long files of a process may take: they may lie on a network that does not answer. Meanwhile the
	// agent stands still, so it is waited for only once.
	filesPatience = time.Second
)

// processFiles reads files as a process sees them, below /proc/PID/root and never outside of it. It has one owner.
type processFiles struct {
	proc  procFS
	stuck <-chan fileAnswer // of a reading that has not come back; until it has, nothing is read
}

type fileAnswer struct {
	name  string
	other bool
}

// packageName returns the name of the package (package.json) that a directory belongs to, or "".
func (f *processFiles) packageName(pid uint32, directory string) string {
	if !path.IsAbs(directory) {
		return ""
	}
	return f.read(func() fileAnswer {
		root, directory, err := f.root(pid, directory)
		if err != nil {
			return fileAnswer{}
		}
		defer syscall.Close(root)
		return fileAnswer{name: packageNameBelow(root, directory)}
	}).name
}

// isOtherFile tells whether a path leads to another file than a process's executable, or to none; false where that
// cannot be told.
func (f *processFiles) isOtherFile(pid uint32, name string) bool {
	if !path.IsAbs(name) {
		return false
	}
	return f.read(func() fileAnswer {
		var executable, found syscall.Stat_t
		if syscall.Stat(f.proc.file(pid, "exe"), &executable) != nil {
			return fileAnswer{}
		}
		root, name, err := f.root(pid, name)
		if err != nil {
			return fileAnswer{}
		}
		defer syscall.Close(root)
		fd, err := openBelow(root, name)
		if err != nil {
			return fileAnswer{other: err == syscall.ENOENT}
		}
		defer syscall.Close(fd)
		err = syscall.Fstat(fd, &found)
		return fileAnswer{other: err == nil && (found.Dev != executable.Dev || found.Ino != executable.Ino)}
	}).other
}

// read waits for a reading, but not for long.
func (f *processFiles) read(reading func() fileAnswer) fileAnswer {
	if f.stuck != nil {
		select {
		case <-f.stuck:
			f.stuck = nil
		default:
			return fileAnswer{}
		}
	}
	answer := make(chan fileAnswer, 1)
	go func() { answer <- reading() }()
	patience := time.NewTimer(filesPatience)
	defer patience.Stop()
	select {
	case a := <-answer:
		return a
	case <-patience.C:
		f.stuck = answer
		return fileAnswer{}
	}
}

// root opens the root directory of a process, and returns a path of its /proc entry as seen from there.
func (f *processFiles) root(pid uint32, name string) (fd int, below string, err error) {
	if target, err := os.Readlink(f.proc.file(pid, "root")); err == nil && isBelow(name, target) && target != "/" {
		name = "/" + strings.TrimPrefix(name[len(target):], "/")
	}
	fd, err = syscall.Open(f.proc.file(pid, "root"), openPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	return fd, name, err
}

// packageNameBelow walks up from a directory to the package that it belongs to.
func packageNameBelow(root int, directory string) string {
	passed := false // a directory with a name of its own
	for level := range packageLevelsMax {
		if level > 0 && isShared(directory) {
			break
		}
		if description, err := readPackage(root, path.Join(directory, "package.json")); err == nil {
			// What lies below a workspace's root is a package of its own, whether it says so or not.
			if name := description.Name; name != "" && !saysNothing(name) && !(passed && description.Workspaces != nil) {
				return name
			}
			if !saysNothing(path.Base(directory)) {
				break
			}
		}
		if directory == "/" {
			break
		}
		passed = passed || !saysNothing(path.Base(directory))
		directory = path.Dir(directory)
	}
	return ""
}

// isShared tells whether a directory holds many applications: a package.json there was left behind.
func isShared(directory string) bool {
	switch directory {
	case "/", "/tmp", "/var/tmp", "/home", "/root", "/srv", "/opt", "/usr", "/usr/local", "/var", "/var/www", "/mnt":
		return true
	}
	return path.Dir(directory) == "/home"
}

type packageDescription struct {
	Name       string          `json:"name"`
	Workspaces json.RawMessage `json:"workspaces"`
}

func readPackage(root int, name string) (d packageDescription, err error) {
	fd, err := openBelow(root, name)
	if err != nil {
		return d, err
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return d, err
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFREG || stat.Size > packageBytesMax {
		return d, syscall.EINVAL
	}
	// Not before it is known to be a regular file: opening a device or a FIFO may do something.
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return d, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, packageBytesMax))
	if err != nil {
		return d, err
	}
	return d, json.Unmarshal(data, &d)
}

// Of linux/openat2.h and asm-generic/fcntl.h; the call has the same number everywhere.
const (
	sysOpenat2          = 437
	openPath            = 0x200000
	resolveNoMagicLinks = 0x02
	resolveInRoot       = 0x10
)

// openBelow opens a path as if root were the root directory, for its place only (O_PATH): links lead nowhere else, and
// nothing is done to what is there.
func openBelow(root int, name string) (int, error) {
	text, err := syscall.BytePtrFromString(name)
	if err != nil {
		return -1, err
	}
	how := struct{ flags, mode, resolve uint64 }{openPath | syscall.O_CLOEXEC, 0, resolveInRoot | resolveNoMagicLinks}
	fd, _, errno := syscall.Syscall6(sysOpenat2, uintptr(root), uintptr(unsafe.Pointer(text)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
