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
		reader := f.proc.credentials(pid)
		return fileAnswer{name: packageNameBelow(root, directory, &reader)}
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
		fd, err := openBelow(root, name, 0, resolveInRoot)
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

// packageNameBelow walks up from a directory to the package that it belongs to, among those that reader may read.
func packageNameBelow(root int, directory string, reader *credentials) string {
	passed := false // a directory with a name of its own
	for level := range packageLevelsMax {
		if level > 0 && isShared(directory) {
			break
		}
		if description, err := readPackage(root, directory, reader); err == nil {
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

// readPackage reads the package.json of a directory, if it is what one is: a regular file, and no link to one, on an ordinary
// file system, that reader may read. Links may lead to the directory.
func readPackage(root int, directory string, reader *credentials) (d packageDescription, err error) {
	place, err := openBelow(root, directory, syscall.O_DIRECTORY, resolveInRoot)
	if err != nil {
		return d, err
	}
	defer syscall.Close(place)
	fd, err := openBelow(place, "package.json", 0, resolveBeneath|resolveNoSymlinks)
	if err != nil {
		return d, err
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return d, err
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFREG || stat.Size > packageBytesMax || !isOrdinary(fd) {
		return d, syscall.EINVAL
	}
	if !reader.may(mayRead, &stat) || !reader.reaches(root, place) {
		return d, syscall.EACCES
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
	resolveNoSymlinks   = 0x04
	resolveBeneath      = 0x08
	resolveInRoot       = 0x10
)

// openBelow opens a path below a directory, for its place only (O_PATH): nothing is done to what is there. Resolve says how
// far links may lead, with resolveInRoot as if the directory were the root.
func openBelow(directory int, name string, flags, resolve uint64) (int, error) {
	text, err := syscall.BytePtrFromString(name)
	if err != nil {
		return -1, err
	}
	how := struct{ flags, mode, resolve uint64 }{openPath | syscall.O_CLOEXEC | flags, 0, resolve | resolveNoMagicLinks}
	fd, _, errno := syscall.Syscall6(sysOpenat2, uintptr(directory), uintptr(unsafe.Pointer(text)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
