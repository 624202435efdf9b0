package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds of one read. A process chooses the length of its own arguments and environment, so none of them is read
// without one.
const (
	// execve allows arguments and environment 6 MiB together (fs/exec.c: three quarters of _STK_LIM). It is looked through in
	// pieces: a variable that is longer than one, which execve allows up to 128 KiB, names nothing.
	environBytesMax, environPiece = 6 << 20, 16 << 10
	// A Java class path of some hundred jars comes before the main class, hence more than a usual command line.
	cmdlineBytesMax = 64 << 10
	cgroupBytesMax  = 16 << 10
	statBytesMax    = 4 << 10
)

// userHZ is the unit of start times in /proc/PID/stat: 100 on every Linux architecture that Go supports.
const userHZ = 100

// procFS reads a host's process files below root, which is "/" on a live host.
type procFS struct{ root string }

// newProcFS returns the files below root; "" means "/".
func newProcFS(root string) procFS {
	if root == "" {
		root = "/"
	}
	return procFS{root}
}

// file returns the path of a process's file, such as /proc/12/stat.
func (p procFS) file(pid uint32, name string) string {
	return filepath.Join(p.root, "proc", strconv.FormatUint(uint64(pid), 10), name)
}

// read returns at most limit bytes of a process's file.
func (p procFS) read(pid uint32, name string, limit int64) ([]byte, error) {
	return readBounded(p.file(pid, name), limit)
}

// readBounded returns at most limit bytes of a file. It does not block on a FIFO that stands where a file should.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// processStat is what identification needs of /proc/PID/stat.
type processStat struct {
	comm       string
	parent     uint32
	startTicks uint64 // since boot, in 1/userHZ seconds
}

// started returns when the process started, as time since boot with a resolution of 10 ms.
func (s processStat) started() time.Duration {
	return time.Duration(s.startTicks) * (time.Second / userHZ)
}

func (p procFS) stat(pid uint32) (processStat, error) {
	data, err := p.read(pid, "stat", statBytesMax)
	if err != nil {
		return processStat{}, err
	}
	return parseStat(data)
}

var errMalformedStat = errors.New("malformed process status")

// parseStat parses /proc/PID/stat. The task name stands in parentheses and may hold any byte, parentheses too, so the
// fields are counted from the last one.
func parseStat(data []byte) (processStat, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return processStat{}, errMalformedStat
	}
	// proc_pid_stat(5): the first field here is number 3, state; 4 is the parent, 22 the start time.
	fields := bytes.Fields(data[end+1:])
	if len(fields) < 20 {
		return processStat{}, errMalformedStat
	}
	parent, err := strconv.ParseUint(string(fields[1]), 10, 32)
	if err != nil {
		return processStat{}, fmt.Errorf("%w: parent: %w", errMalformedStat, err)
	}
	ticks, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return processStat{}, fmt.Errorf("%w: start time: %w", errMalformedStat, err)
	}
	return processStat{string(data[open+1 : end]), uint32(parent), ticks}, nil
}

// executable returns the path of a process's executable as that process sees it, "" where it cannot be read (a kernel
// thread, a process that ended). A deleted file keeps its path.
func (p procFS) executable(pid uint32) string {
	file, _ := p.executableFile(pid)
	return file
}

// deletedMark is what the kernel appends to the path of a file that was removed or replaced.
const deletedMark = " (deleted)"

// executableFile returns the same, and whether the file was removed or replaced.
func (p procFS) executableFile(pid uint32) (file string, deleted bool) {
	target, err := os.Readlink(p.file(pid, "exe"))
	if err != nil {
		return "", false
	}
	return strings.CutSuffix(target, deletedMark)
}

// directory returns a process's working directory as that process sees it, or "". One that was removed keeps its path.
func (p procFS) directory(pid uint32) string {
	target, err := os.Readlink(p.file(pid, "cwd"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(target, " (deleted)")
}

// arguments returns a process's command line, and whether the read bound cut it.
func (p procFS) arguments(pid uint32) (args []string, cut bool) {
	data, err := p.read(pid, "cmdline", cmdlineBytesMax)
	if err != nil {
		return nil, false
	}
	return splitArguments(data), len(data) == cmdlineBytesMax
}

// splitArguments separates the NUL-terminated arguments of a command line. A program that rewrites its title leaves a
// tail of NULs or spaces where its arguments were.
func splitArguments(data []byte) []string {
	text := strings.TrimRight(string(data), "\x00 ")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\x00")
}

// environment returns the values of the named variables in the environment that a process was started with. What the
// process changed later is not seen. A program that writes a long title over its arguments may overwrite it.
func (p procFS) environment(pid uint32, names ...string) map[string]string {
	f, err := os.OpenFile(p.file(pid, "environ"), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil // needs ptrace access; without it the other sources decide
	}
	defer f.Close()
	found := make(map[string]string, len(names))
	variables := bufio.NewReaderSize(io.LimitReader(f, environBytesMax), environPiece)
	for inside := false; ; { // a variable that has begun in the piece before
		entry, err := variables.ReadSlice(0)
		full := errors.Is(err, bufio.ErrBufferFull)
		if !full && !inside {
			keepVariable(found, bytes.TrimSuffix(entry, []byte{0}), names)
		}
		if err != nil && !full {
			return found
		}
		inside = full
	}
}

// keepVariable notes the value of a variable that has one of the names.
func keepVariable(found map[string]string, entry []byte, names []string) {
	for _, name := range names {
		if len(entry) > len(name) && entry[len(name)] == '=' && string(entry[:len(name)]) == name {
			found[name] = string(entry[len(name)+1:])
		}
	}
}

// pids returns every process that is alive now, in ascending order of their names as text.
func (p procFS) pids() ([]uint32, error) {
	dir, err := os.Open(filepath.Join(p.root, "proc"))
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	pids := make([]uint32, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.ParseUint(name, 10, 32); err == nil {
			pids = append(pids, uint32(pid))
		}
	}
	return pids, nil
}
