package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"unsafe"
)

// fileBytesMax bounds one read. /proc/stat, the largest of what is read each second, has some 100 KiB on hosts with
// thousands of interrupts.
const fileBytesMax = 1 << 20

// fileReader reads the kernel's small files over and over through one buffer. os.ReadFile would allocate for each and
// ask the poller in vain for every one: a sample reads about a hundred.
type fileReader struct {
	root  string // "" on a live host
	net   string // directory of the host's network figures
	path  []byte // NUL-terminated
	buf   []byte
	names [4 << 10]byte // a piece of a directory, apart, because its files are read at the same time
}

// struct linux_dirent64: inode and offset in 8 bytes each, length in 2, type in 1, name.
const direntLength, direntName = 16, 19

func newFileReader(root string) fileReader {
	if root == "/" {
		root = ""
	}
	r := fileReader{root: root, net: "/proc/1/net", buf: make([]byte, 16<<10)}
	// An agent in a container that shares the host's processes has a network namespace of its own; process 1 has the host's.
	if !r.exists(r.net, "dev") {
		r.net = "/proc/net"
	}
	return r
}

var errTooLarge = errors.New("larger than anything that is expected there")

// read returns what a file says, valid until the next call. Dir begins with a slash. The error is the kernel's, bare,
// so that a process that is gone costs nothing.
func (r *fileReader) read(dir, name string) ([]byte, error) {
	fd, err := r.open(dir, name)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	n := 0
	for {
		if n == len(r.buf) {
			if n >= fileBytesMax {
				return nil, errTooLarge
			}
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
		got, err := syscall.Read(fd, r.buf[n:])
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return nil, err
		case got == 0: // a short read is no end: sequential files come by the page
			return r.buf[:n], nil
		default:
			n += got
		}
	}
}

// open opens a file to read it. It does not block on a FIFO that stands where a file should.
func (r *fileReader) open(dir, name string) (int, error) {
	const (
		here  = -100 // AT_FDCWD: where relative paths start, of which there are none
		flags = syscall.O_RDONLY | syscall.O_CLOEXEC | syscall.O_NONBLOCK
	)
	r.setPath(dir, name)
	at := here
	for {
		fd, _, errno := syscall.Syscall6(syscall.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&r.path[0])), flags, 0, 0, 0)
		if errno == 0 {
			return int(fd), nil
		}
		if errno != syscall.EINTR {
			return -1, errno
		}
	}
}

func (r *fileReader) setPath(dir, name string) {
	r.path = append(append(r.path[:0], r.root...), dir...)
	if name != "" {
		r.path = append(append(r.path, '/'), name...)
	}
	r.path = append(r.path, 0)
}

// stat returns a file's status.
func (r *fileReader) stat(dir, name string) (stat syscall.Stat_t, err error) {
	r.setPath(dir, name)
	err = syscall.Stat(string(r.path[:len(r.path)-1]), &stat)
	return stat, err
}

// exists tells whether there is a file.
func (r *fileReader) exists(dir, name string) bool {
	_, err := r.stat(dir, name)
	return err == nil
}

// isGone tells of an error that its process or control group has ended, or that the kernel has no such file.
func isGone(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.ENODEV)
}

var errMalformed = errors.New("malformed")

// malformed says which file was not understood.
func malformed(file string) error { return fmt.Errorf("%s: %w", file, errMalformed) }

// The parsers of this package take what a file says as bytes, keep nothing of it and allocate nothing.

// nextLine splits off the first line, without its end.
func nextLine(b []byte) (line, rest []byte) {
	for i, c := range b {
		if c == '\n' {
			return b[:i], b[i+1:]
		}
	}
	return b, nil
}

// nextField splits off the first of the fields that blanks and tabs separate; it is empty at the end.
func nextField(b []byte) (field, rest []byte) {
	start := 0
	for start < len(b) && (b[start] == ' ' || b[start] == '\t') {
		start++
	}
	end := start
	for end < len(b) && b[end] != ' ' && b[end] != '\t' {
		end++
	}
	return b[start:end], b[end:]
}

// nextUint splits off a field that is a number.
func nextUint(b []byte) (n uint64, rest []byte, ok bool) {
	field, rest := nextField(b)
	n, ok = parseUint(field)
	return n, rest, ok
}

// parseUint parses decimal digits. What does not fit into 64 bits is no number.
func parseUint(b []byte) (n uint64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || n > (1<<64-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// parseHundredths parses a number such as 12.34, with at most nine digits before and two behind the point, as the
// kernel writes averages.
func parseHundredths(b []byte) (float64, bool) {
	whole, part := b, []byte("0")
	for i, c := range b {
		if c == '.' {
			whole, part = b[:i], b[i+1:]
			break
		}
	}
	if len(whole) > 9 || len(part) > 2 {
		return 0, false
	}
	n, ok := parseUint(whole)
	hundredths, okPart := parseUint(part)
	if len(part) == 1 {
		hundredths *= 10
	}
	return float64(n) + float64(hundredths)/100, ok && okPart
}

// cutPrefix is bytes.CutPrefix for a constant.
func cutPrefix(b []byte, prefix string) ([]byte, bool) {
	if len(b) < len(prefix) || string(b[:len(prefix)]) != prefix {
		return b, false
	}
	return b[len(prefix):], true
}

// holds tells whether a directory has an entry.
func (r *fileReader) holds(dir string) bool {
	fd, err := r.open(dir, "")
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	for {
		n, err := syscall.ReadDirent(fd, r.buf)
		if n <= 0 || err != nil {
			return false
		}
		if _, names, _ := syscall.ParseDirent(r.buf[:n], 1, nil); names > 0 { // leaves out . and ..
			return true
		}
	}
}

// eachNumber calls yield for the names of a directory that are numbers, until it returns false.
func (r *fileReader) eachNumber(dir, name string, yield func(uint32) bool) error {
	fd, err := r.open(dir, name)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	for {
		n, err := syscall.ReadDirent(fd, r.names[:])
		if err != nil || n <= 0 {
			return err
		}
		for entries := r.names[:n]; len(entries) >= direntName; {
			length := int(binary.NativeEndian.Uint16(entries[direntLength:]))
			if length < direntName || length > len(entries) {
				break
			}
			text := entries[direntName:length]
			for i, c := range text {
				if c == 0 {
					text = text[:i]
					break
				}
			}
			if number, ok := parseUint(text); ok && number <= 1<<32-1 && !yield(uint32(number)) {
				return nil
			}
			entries = entries[length:]
		}
	}
}
