package tlsfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Limits of a Finder.
const (
	processesMax  = 32768                  // that are remembered
	filesMax      = 16384                  // that are remembered
	mapsBytesMax  = 4 << 20                // of one process: 30,000 mappings
	mapsLineBytes = 8192                   // of one mapping: a path has at most 4096
	examineMax    = 250 * time.Millisecond // of one Scan; what is left waits for the next
	againFirst    = 2 * time.Second        // after which a process is looked at again: it loads libraries after its start
	againMost     = time.Minute
)

// Key is the identity of a file's content, as far as the kernel tells: a file that was changed or replaced has another.
type Key struct {
	Device, Inode    uint64
	Size             int64
	Modified, Status int64 // ns: of the last change of the content, of the file
}

// KeyOf returns the identity of what was opened or found.
func KeyOf(info fs.FileInfo) Key {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Key{}
	}
	return Key{Device: uint64(st.Dev), Inode: st.Ino, Size: st.Size, Modified: st.Mtim.Nano(), Status: st.Ctim.Nano()}
}

// Use is a file with TLS and the processes that have it mapped.
type Use struct {
	Key  Key
	File File
	Path string   // as the first of the processes sees it
	PIDs []uint32 // ascending
}

// Counts is what a Finder did since it was made.
type Counts struct {
	Examined, Failed   uint64 // files
	Bytes              uint64 // read of them
	Denied             uint64 // processes whose mappings may not be read
	Cut                uint64 // processes with more mappings than are read
	Waiting            int    // files that the last Scan left to the next
	Processes, Mapping int    // that are remembered
}

// mapped names a file by what /proc/PID/maps says of it. The device is not always that of stat (overlayfs, btrfs).
type mapped struct {
	device string
	inode  uint64
}

type process struct {
	files []mapped
	next  time.Time
	again time.Duration
}

type known struct {
	key   Key
	file  File
	path  string
	ready bool
	place string // of a mapping, for opening: "PID/map_files/FROM-TO"
	round uint64 // of the last Scan with a process that has it mapped
	seen  uint64 // of the last one that looked at such a process
}

// Finder finds the files with TLS among those that processes execute. It belongs to one goroutine.
type Finder struct {
	proc      string
	now       func() time.Time
	processes map[uint32]*process
	files     map[mapped]*known
	round     uint64
	counts    Counts
}

// NewFinder reads below proc, usually /proc.
func NewFinder(proc string) *Finder {
	return &Finder{proc: proc, now: time.Now, processes: make(map[uint32]*process), files: make(map[mapped]*known)}
}

// Counts returns what was done so far.
func (f *Finder) Counts() Counts {
	c := f.counts
	c.Processes, c.Mapping = len(f.processes), len(f.files)
	return c
}

// Scan looks at the processes that are new or whose time has come, examines the files that were not yet, and returns those with TLS. Call it
// every second or two; an error means that the list of processes could not be read.
func (f *Finder) Scan() ([]Use, error) {
	dir, err := os.Open(f.proc)
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return nil, fmt.Errorf("list of processes: %w", err)
	}
	f.round++
	now := f.now()
	alive := make(map[uint32]bool, len(names))
	for _, name := range names {
		pid, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			continue
		}
		alive[uint32(pid)] = true
		f.look(uint32(pid), now)
	}
	for pid := range f.processes {
		if !alive[pid] {
			delete(f.processes, pid)
		}
	}
	f.examine()
	return f.uses(), nil
}

// look reads a process's mappings if it is time.
func (f *Finder) look(pid uint32, now time.Time) {
	p := f.processes[pid]
	switch {
	case p == nil && len(f.processes) >= processesMax:
		return
	case p == nil:
		p = &process{again: againFirst}
		f.processes[pid] = p
	case now.Before(p.next):
		return
	default:
		p.again = min(2*p.again, againMost)
	}
	p.next = now.Add(p.again)
	p.files = p.files[:0]
	if err := f.readMaps(pid, p); errors.Is(err, fs.ErrPermission) {
		f.counts.Denied++
	}
}

// readMaps fills in the files that a process may execute.
func (f *Finder) readMaps(pid uint32, p *process) error {
	file, err := os.Open(filepath.Join(f.proc, strconv.Itoa(int(pid)), "maps"))
	if err != nil {
		return err
	}
	defer file.Close()
	limited := &io.LimitedReader{R: file, N: mapsBytesMax}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 0, mapsLineBytes), mapsLineBytes)
	for lines.Scan() {
		m, ok := parseMapping(lines.Bytes())
		if !ok || slices.Contains(p.files, m.file) {
			continue
		}
		k := f.files[m.file]
		if k == nil {
			if len(f.files) >= filesMax {
				continue
			}
			k = &known{path: string(m.path)}
			f.files[m.file] = k
		}
		if k.seen != f.round { // by one of the processes that are looked at now
			k.seen, k.place = f.round, strconv.Itoa(int(pid))+"/map_files/"+string(m.area)
		}
		p.files = append(p.files, m.file)
	}
	if limited.N == 0 {
		f.counts.Cut++
	}
	return lines.Err()
}

// mapping is a line of /proc/PID/maps: an executable part of a file.
type mapping struct {
	file       mapped
	area, path []byte
}

// parseMapping takes apart a line such as
//
//	7f4c1a035000-7f4c1a093000 r-xp 0001f000 fd:01 393233   /usr/lib/x86_64-linux-gnu/libssl.so.3
//
// and is false for what is no executable part of a file.
func parseMapping(line []byte) (mapping, bool) {
	var fields [5][]byte
	for i := range fields {
		line = bytes.TrimLeft(line, " ")
		end := bytes.IndexByte(line, ' ')
		if end < 0 {
			return mapping{}, false
		}
		fields[i], line = line[:end], line[end:]
	}
	path := bytes.TrimLeft(line, " ")
	inode, err := strconv.ParseUint(string(fields[4]), 10, 64)
	if err != nil || inode == 0 || len(path) == 0 || path[0] != '/' || len(fields[1]) < 3 || fields[1][2] != 'x' {
		return mapping{}, false
	}
	return mapping{file: mapped{device: string(fields[3]), inode: inode}, area: fields[0], path: path}, true
}

// examine looks into files that are new or changed, as long as one Scan may take, those with a likely name first, and forgets what nobody has mapped any more.
func (f *Finder) examine() {
	for _, p := range f.processes {
		for _, m := range p.files {
			f.files[m].round = f.round
		}
	}
	var todo []*known
	for m, k := range f.files {
		if k.round != f.round {
			delete(f.files, m)
			continue
		}
		info, err := os.Stat(f.path(k))
		switch {
		case err != nil: // the process of the mapping has ended, or only root may follow it
		case !k.ready || KeyOf(info) != k.key:
			todo = append(todo, k)
		}
	}
	slices.SortFunc(todo, func(a, b *known) int { return likely(b.path) - likely(a.path) })
	until := time.Now().Add(examineMax)
	f.counts.Waiting = 0
	for i, k := range todo {
		if time.Now().After(until) {
			f.counts.Waiting = len(todo) - i
			return
		}
		f.examineOne(k)
	}
}

// likely orders paths by how probable TLS is behind them.
func likely(path string) int {
	base := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case strings.Contains(base, "ssl") || strings.Contains(base, "tls"):
		return 2
	case !strings.Contains(base, ".so"):
		return 1
	}
	return 0
}

func (f *Finder) path(k *known) string { return filepath.Join(f.proc, k.place) }

// examineOne opens the mapping itself: not the path, which may lead to another file by now, or in another mount namespace.
func (f *Finder) examineOne(k *known) {
	file, err := os.Open(f.path(k))
	if err != nil {
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	k.key, k.ready = KeyOf(info), true
	f.counts.Examined++
	if k.file, err = Examine(file, info.Size()); err != nil {
		f.counts.Failed++
		k.file.Functions, k.file.Reason = nil, err.Error()
	}
	f.counts.Bytes += uint64(k.file.BytesRead)
}

// uses collects the files with TLS.
func (f *Finder) uses() []Use {
	by := make(map[mapped]*Use)
	for pid, p := range f.processes {
		for _, m := range p.files {
			k := f.files[m]
			if k == nil || !k.ready || k.file.Kind == "" {
				continue
			}
			u := by[m]
			if u == nil {
				u = &Use{Key: k.key, File: k.file, Path: k.path}
				by[m] = u
			}
			u.PIDs = append(u.PIDs, pid)
		}
	}
	list := make([]Use, 0, len(by))
	for _, u := range by {
		slices.Sort(u.PIDs)
		list = append(list, *u)
	}
	slices.SortFunc(list, func(a, b Use) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// Open opens the file of a Use through one of the mappings that were found, for attaching to its descriptor. fs.ErrNotExist means that it
// was changed, or that no mapping of it is left.
func (f *Finder) Open(use Use) (*os.File, error) {
	for _, k := range f.files {
		if !k.ready || k.key != use.Key {
			continue
		}
		file, err := os.Open(f.path(k))
		if err != nil {
			return nil, err
		}
		if info, err := file.Stat(); err == nil && KeyOf(info) == use.Key {
			return file, nil
		}
		file.Close()
	}
	return nil, fmt.Errorf("%s: %w", use.Path, fs.ErrNotExist)
}
