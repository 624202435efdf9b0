package probes

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
)

// The ways to attach to instructions of files, best first. All cost the same for each hit; the first attaches many at once.
const (
	UprobeMulti = "uprobe_multi" // Linux 6.6
	UprobeEach  = "uprobe"       // a perf event for each, or where the kernel has none of these for uprobes, tracefs
)

// uprobePlacesMax bounds the places of one file: a library has eight.
const uprobePlacesMax = 64

// ErrFileChanged: the file is not the one any more in which the places were found.
var ErrFileChanged = errors.New("the file was changed")

// UprobePlace is an instruction of a file at which a program is to run.
type UprobePlace struct {
	Offset uint64 // in the file, of the instruction's first byte
	Cookie uint64 // what the program is told of the place, by bpf_get_attach_cookie; other than 0: Linux 5.15
	Return bool   // run when the function returns instead, whose return address must be on top of the stack at the place
}

// UprobePrograms are what runs at the places of a file and on their functions' return; nil for what no place needs.
type UprobePrograms struct{ Entry, Return *ebpf.Program }

// UprobeMethod returns the best way that this kernel has.
func UprobeMethod() string {
	if features.HaveBPFLinkUprobeMulti() == nil {
		return UprobeMulti
	}
	return UprobeEach
}

// prepareUprobe makes a program's specification fit a way to attach, before it is loaded.
func prepareUprobe(spec *ebpf.ProgramSpec, method string) {
	spec.AttachType = ebpf.AttachNone
	if method == UprobeMulti {
		spec.AttachType = ebpf.AttachTraceUprobeMulti
	}
}

// Uprobes are the places of one file with programs attached, in all processes that execute it, now and later. Close detaches them: the processes
// go on as before.
type Uprobes struct {
	Method string
	links  []link.Link
}

// AttachUprobes attaches to an open file, which is the very one that is open whatever has become of its path. unchanged is asked afterwards
// whether the content is still the one that the places were found in: else all is detached, with ErrFileChanged. Other errors are the kernel's.
func AttachUprobes(file *os.File, programs UprobePrograms, method string, places []UprobePlace, unchanged func() bool) (*Uprobes, error) {
	if len(places) > uprobePlacesMax {
		return nil, fmt.Errorf("uprobes: %d places, at most %d", len(places), uprobePlacesMax)
	}
	executable, err := link.OpenExecutable("/proc/self/fd/" + strconv.Itoa(int(file.Fd())))
	if err != nil {
		return nil, fmt.Errorf("uprobes: %w", err)
	}
	u := &Uprobes{Method: method}
	for _, ret := range []bool{true, false} { // returns first: an entry whose return is not seen would wait for it
		if err := u.attach(executable, programs, ret, places); err != nil {
			return nil, errors.Join(fmt.Errorf("uprobes in %s: %w", file.Name(), err), u.Close())
		}
	}
	if !unchanged() {
		return nil, errors.Join(fmt.Errorf("uprobes in %s: %w", file.Name(), ErrFileChanged), u.Close())
	}
	return u, nil
}

// attach does the entries or the returns.
func (u *Uprobes) attach(executable *link.Executable, programs UprobePrograms, ret bool, places []UprobePlace) error {
	program, each, multi := programs.Entry, executable.Uprobe, executable.UprobeMulti
	if ret {
		program, each, multi = programs.Return, executable.Uretprobe, executable.UretprobeMulti
	}
	var options link.UprobeMultiOptions
	for _, p := range places {
		if p.Return != ret {
			continue
		}
		options.Addresses = append(options.Addresses, p.Offset)
		options.Cookies = append(options.Cookies, p.Cookie)
	}
	if len(options.Addresses) == 0 {
		return nil
	}
	if u.Method == UprobeMulti {
		return u.keep(multi(nil, program, &options))
	}
	for i, offset := range options.Addresses {
		if err := u.keep(each("", program, &link.UprobeOptions{Address: offset, Cookie: options.Cookies[i]})); err != nil {
			return err
		}
	}
	return nil
}

func (u *Uprobes) keep(l link.Link, err error) error {
	if err == nil {
		u.links = append(u.links, l)
	}
	return err
}

// Close detaches everything.
func (u *Uprobes) Close() error {
	var errs []error
	for _, l := range u.links {
		errs = append(errs, l.Close())
	}
	u.links = nil
	return errors.Join(errs...)
}
