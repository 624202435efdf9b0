package probes

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sync/errgroup"
)

// object is one embedded BPF object on the running kernel: its maps, and what was loaded of its programs and attached.
type object struct {
	kernel *kernel
	spec   *ebpf.CollectionSpec
	maps   map[string]*ebpf.Map       // own ones and shared ones
	shared []string                   // the names of maps that are another object's
	refuse []string                   // programs that are not loaded, as if the kernel refused them
	broken func(program string) error // a fault of tests; nil: none

	changing sync.Mutex // held while hooks are attached or closed that others may look at

	programs []*ebpf.Program
	links    []io.Closer
}

// makeMaps creates the maps that the object declares, except those that another object shares with it. Errors name the
// privilege that is missing.
func (o *object) makeMaps(shared map[string]*ebpf.Map) error {
	part := o.part()
	part.Variables = o.spec.Variables // contents of maps
	coll, err := ebpf.NewCollectionWithOptions(part, ebpf.CollectionOptions{MapReplacements: shared, Cache: o.kernel.cache})
	if err != nil {
		return privilegeError("create BPF maps", err)
	}
	o.maps = coll.Maps
	for name, m := range shared {
		_ = o.maps[name].Close() // a duplicate
		o.maps[name] = m
		o.shared = append(o.shared, name)
	}
	return nil
}

// part is the object with these of its programs only. What it shares with the whole is not written to.
func (o *object) part(programs ...string) *ebpf.CollectionSpec {
	part := &ebpf.CollectionSpec{Maps: o.spec.Maps, Programs: make(map[string]*ebpf.ProgramSpec), Types: o.spec.Types, ByteOrder: o.spec.ByteOrder}
	for _, name := range programs {
		part.Programs[name] = o.spec.Programs[name].Copy()
	}
	return part
}

// load loads programs, all or none. They are verified at the same time: that is most of a start.
func (o *object) load(names ...string) (map[string]*ebpf.Program, error) {
	for _, name := range names {
		if slices.Contains(o.refuse, name) {
			return nil, errRefused
		}
		if o.broken != nil {
			if err := o.broken(name); err != nil {
				return nil, err
			}
		}
	}
	loaded := make([]*ebpf.Program, len(names))
	var all errgroup.Group
	for i, name := range names {
		all.Go(func() error {
			coll, err := ebpf.NewCollectionWithOptions(o.part(name), ebpf.CollectionOptions{MapReplacements: o.maps, Cache: o.kernel.cache})
			if err != nil {
				return fmt.Errorf("load: %w", err)
			}
			loaded[i] = coll.DetachProgram(name)
			coll.Close() // duplicates of the maps
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		closePrograms(loaded)
		return nil, err
	}
	programs := make(map[string]*ebpf.Program, len(names))
	for i, name := range names {
		programs[name] = loaded[i]
	}
	o.programs = append(o.programs, loaded...)
	return programs, nil
}

// settle frees what only a start needs: megabytes of type information.
func (o *object) settle() {
	o.kernel, o.spec = nil, nil
	debug.FreeOSMemory()
}

// unload frees programs that could not be attached.
func (o *object) unload(programs map[string]*ebpf.Program) {
	for _, p := range programs {
		o.programs = slices.DeleteFunc(o.programs, func(q *ebpf.Program) bool { return p == q })
		p.Close()
	}
}

func closePrograms(programs []*ebpf.Program) {
	for _, p := range programs {
		if p != nil {
			p.Close()
		}
	}
}

// close detaches, then frees what is the object's own.
func (o *object) close() error {
	var errs []error
	for _, l := range slices.Backward(o.links) {
		errs = append(errs, l.Close())
	}
	closePrograms(o.programs)
	for name, m := range o.maps {
		if !slices.Contains(o.shared, name) {
			errs = append(errs, m.Close())
		}
	}
	o.links, o.programs, o.maps = nil, nil, nil
	return errors.Join(errs...)
}
