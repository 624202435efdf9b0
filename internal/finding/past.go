package finding

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/perfagent/perfagent/internal/statefile"
)

// Findings that ended are kept in files of JSON lines beside what was learned, a pastLine each: name, and name.1 (the latest) to name.3,
// which it was before. One that ended twice, since a crash forgot that it had, is there twice: the later line counts.
const (
	// pastBytesMax is when another file begins, pastFiles how many there are: some 6,000 findings of 2 to 3 KB each.
	pastBytesMax, pastFiles = 4 << 20, 4
	// pastWaiting is how many findings wait where they cannot be written.
	pastWaiting = FindingsDefault
)

// pastLine is a line of the file. What tells whether it is wanted comes first, and is read alone.
type pastLine struct {
	Start    int64           `json:"start_ms"` // since 1970
	End      int64           `json:"end_ms"`
	Incident string          `json:"incident"` // ID of the finding that leads it
	Finding  json.RawMessage `json:"finding"`
}

// past are the findings that ended. It may be used from any goroutine.
type past struct {
	name     string
	bytesMax int64

	mu      sync.Mutex
	waiting [][]byte
	lost    uint64
	damaged uint64 // lines, when all were read last
	failing bool
}

// add takes a finding that ended, to be written by flush.
func (p *past) add(f *Finding) {
	if p == nil {
		return
	}
	finding, err := json.Marshal(f)
	var line []byte
	if err == nil {
		line, err = json.Marshal(pastLine{f.Start.UnixMilli(), f.End.UnixMilli(), cmp.Or(f.Incident, f.ID), finding})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || len(p.waiting) >= pastWaiting {
		p.lost++
		return
	}
	p.waiting = append(p.waiting, append(line, '\n'))
}

// flush writes what waits. What could not be written waits on; of that an error is returned the first time.
func (p *past) flush() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		return nil
	}
	err := p.write(bytes.Join(p.waiting, nil))
	again := p.failing
	if p.failing = err != nil; err == nil {
		p.waiting = nil
	}
	if again {
		return nil
	}
	return err
}

func (p *past) write(lines []byte) error {
	if info, err := os.Lstat(p.name); err == nil && info.Size() > 0 && info.Size()+int64(len(lines)) > p.bytesMax {
		if err := p.rotate(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(p.name, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = &os.PathError{Op: "open", Path: p.name, Err: statefile.ErrIrregular}
	case info.Size() > 0:
		var last [1]byte
		if _, e := f.ReadAt(last[:], info.Size()-1); e == nil && last[0] != '\n' { // cut off by a crash, or a full disk
			lines = append([]byte{'\n'}, lines...)
		}
	}
	if err == nil {
		_, err = f.Write(lines)
	}
	return errors.Join(err, f.Close())
}

// rotate renames the files, the oldest of which is replaced.
func (p *past) rotate() error {
	for i := pastFiles - 1; i > 0; i-- {
		if err := os.Rename(p.file(i-1), p.file(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// file is the name of the file that was the present one so many files ago.
func (p *past) file(i int) string {
	if i == 0 {
		return p.name
	}
	return p.name + "." + strconv.Itoa(i)
}

// read returns all files' content, the oldest first. A file that cannot be read is left out, and said.
func (p *past) read() (files [][]byte, failed error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := pastFiles - 1; i >= 0; i-- {
		data, err := readPast(p.file(i), 2*p.bytesMax)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
		files = append(files, data)
	}
	return append(files, bytes.Join(p.waiting, nil)), failed
}

func readPast(name string, most int64) ([]byte, error) {
	f, err := statefile.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// within returns the findings of all incidents of which some finding touches a time, each once.
func (p *past) within(from, to time.Time) ([]*Finding, error) {
	if p == nil {
		return nil, nil
	}
	files, failed := p.read()
	var lines []pastLine
	wanted := make(map[string]bool)
	damaged := uint64(0)
	for _, data := range files {
		for text := range bytes.Lines(data) {
			var line pastLine
			switch {
			case len(bytes.TrimSpace(text)) == 0:
			case json.Unmarshal(text, &line) != nil || line.Incident == "" || line.End < line.Start:
				damaged++
			default:
				lines = append(lines, line)
				wanted[line.Incident] = wanted[line.Incident] || line.Start < to.UnixMilli() && line.End >= from.UnixMilli()
			}
		}
	}
	byID := make(map[string]*Finding)
	for i := range lines {
		if !wanted[lines[i].Incident] {
			continue
		}
		f := new(Finding)
		if json.Unmarshal(lines[i].Finding, f) != nil || f.ID == "" || f.End == nil {
			damaged++
			continue
		}
		byID[f.ID] = f
	}
	all := make([]*Finding, 0, len(byID))
	for _, f := range byID {
		all = append(all, f)
	}
	p.mu.Lock()
	p.damaged = damaged
	p.mu.Unlock()
	return all, failed
}

// stats returns how many findings were not kept, and how many lines are damaged.
func (p *past) stats() (lost, damaged uint64) {
	if p == nil {
		return 0, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost, p.damaged
}

// IncidentsIn returns the incidents of [from, to): those of which some finding touches that time, the open ones first and the worst of
// them, then the latest. They reach as far back as their files do; without these, a day. What of the files cannot be read is an error
// beside what can. It reads up to 16 MiB, and may be called from any goroutine.
func (e *Engine) IncidentsIn(from, to time.Time) ([]*Finding, error) {
	all, err := e.allIn(from, to)
	return slices.DeleteFunc(Incidents(all), func(f *Finding) bool {
		return !f.touches(from, to) && !slices.ContainsFunc(f.Effects, func(e Effect) bool {
			return (&Finding{Start: e.Start, End: e.End}).touches(from, to)
		})
	}), err
}

// FindingsIn returns the findings that touch [from, to) one by one, likewise.
func (e *Engine) FindingsIn(from, to time.Time) ([]*Finding, error) {
	all, err := e.allIn(from, to)
	return slices.DeleteFunc(all, func(f *Finding) bool { return !f.touches(from, to) }), err
}

// touches tells whether a finding is of a time.
func (f *Finding) touches(from, to time.Time) bool {
	return f.Start.Before(to) && (f.End == nil || !f.End.Before(from))
}

// allIn returns the findings that are published, and those of the files whose incident touches a time.
func (e *Engine) allIn(from, to time.Time) ([]*Finding, error) {
	all := slices.Clone(e.Findings())
	known := make(map[string]bool, len(all))
	for _, f := range all {
		known[f.ID] = true
	}
	kept, err := e.past.within(from, to)
	if err != nil {
		err = fmt.Errorf("read findings that ended: %w", err)
	}
	slices.SortFunc(kept, func(a, b *Finding) int {
		return cmp.Or(b.End.Compare(*a.End), a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID))
	})
	for _, f := range kept {
		if !known[f.ID] {
			all = append(all, f)
		}
	}
	return all, err
}
