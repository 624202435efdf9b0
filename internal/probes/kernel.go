package probes

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// ErrNoBTF: the kernel does not describe its types.
var ErrNoBTF = errors.New("this kernel has no BTF (/sys/kernel/btf/vmlinux): use one built with CONFIG_DEBUG_INFO_BTF=y, Linux 5.10 or later")

// The oldest kernel that perfagent runs on. Older ones were not tried; before 5.9 they lack what every backend
// needs (bpf_skc_to_tcp_sock).
const oldestMajor, oldestMinor = 5, 10

// ErrOldKernel: the kernel is older than what perfagent was shown to run on.
var ErrOldKernel = errors.New("this kernel is too old: use Linux 5.10 or later")

// refuseOld returns ErrOldKernel for a release such as "5.8.0".
func refuseOld(release string) error {
	older, err := before(release, oldestMajor, oldestMinor)
	if err == nil && older {
		return fmt.Errorf("Linux %s: %w", release, ErrOldKernel)
	}
	return err
}

// before tells whether a release such as "5.10.0-46-amd64" is older than a version.
func before(release string, major, minor int) (bool, error) {
	var x, y int
	if _, err := fmt.Sscanf(release, "%d.%d", &x, &y); err != nil {
		return false, fmt.Errorf("kernel release %q is not understood: %w", release, err)
	}
	return x < major || x == major && y < minor, nil
}

// kernel answers questions about the running kernel's functions.
type kernel struct {
	types   *btf.Spec
	memlock bool // BPF maps count as locked memory
	cache   *btf.Cache
}

// openKernel fails on a kernel that is too old (the error says which it is and which is needed), and with ErrNoBTF where it does not
// describe its own types, without which no field of its structures can be found.
func openKernel() (*kernel, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("ask for the kernel's release: %w", err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	if err := refuseOld(release); err != nil {
		return nil, err
	}
	memlock, err := before(release, 5, 11)
	if err != nil {
		return nil, err
	}
	cache := btf.NewCache()
	types, err := cache.Kernel()
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, btf.ErrNotSupported):
		return nil, ErrNoBTF
	case err != nil:
		return nil, fmt.Errorf("read the kernel's BTF: %w", err)
	}
	return &kernel{types, memlock, cache}, nil
}

// liftMemlock lifts the limit on locked memory where that bounds BPF maps: before Linux 5.11.
func (k *kernel) liftMemlock() error {
	if !k.memlock {
		return nil
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("raise the limit on locked memory, which maps need before Linux 5.11: grant CAP_SYS_RESOURCE: %w", err)
	}
	return nil
}

// params returns how many parameters a kernel function has, or -1 where there is none of that name.
func (k *kernel) params(function string) int {
	var f *btf.Func
	if err := k.types.TypeByName(function, &f); err != nil {
		return -1
	}
	proto, ok := f.Type.(*btf.FuncProto)
	if !ok {
		return -1
	}
	return len(proto.Params)
}

// hasTracepoint tells whether the kernel has a tracepoint of that name.
func (k *kernel) hasTracepoint(name string) bool {
	var t *btf.Typedef
	return k.types.TypeByName("btf_trace_"+name, &t) == nil
}

// hasHelper tells whether programs may call the helper of that name, such as "for_each_map_elem".
func (k *kernel) hasHelper(name string) bool {
	var ids *btf.Enum
	if err := k.types.TypeByName("bpf_func_id", &ids); err != nil {
		return false
	}
	return slices.ContainsFunc(ids.Values, func(v btf.EnumValue) bool { return v.Name == "BPF_FUNC_"+name })
}

// lacks returns why a program cannot be loaded on this kernel, or nil where it may. The verifier would say no more than that
// it does not know a number.
func (k *kernel) lacks(program string) error {
	walks := program == trafficProgRunSweep || program == hostProgRunConnections
	if walks && !k.hasHelper("for_each_map_elem") {
		return errors.New("this kernel's programs cannot walk a map by themselves (since 5.13)")
	}
	return nil
}

// allocatesWhenUsed tells whether the elements of a hash may be made when programs need them: since 6.1 (fba1a1c6c912). Before,
// memory for all of them is set aside.
func (k *kernel) allocatesWhenUsed() bool {
	var pool *btf.Struct
	return k.types.TypeByName("bpf_mem_alloc", &pool) == nil
}

// keepsTrampolines tells whether a trampoline lives on while threads sleep in the function that it calls: since 5.12
// (e21aa341785c) and in updates of 5.10. Before, whoever came back after hooks had changed returned into freed memory.
func (k *kernel) keepsTrampolines() bool {
	var image *btf.Struct
	return k.types.TypeByName("bpf_tramp_image", &image) == nil
}

// misfit returns why a choice cannot work on this kernel, or nil where it may.
func (k *kernel) misfit(c *choice) error {
	switch {
	case c.backend == BackendFentry && !k.keepsTrampolines():
		return errors.New("this kernel frees trampolines that sleeping threads return to: use an update of it, or Linux 5.12 or later")
	case c.function != "" && k.params(c.function) < 0:
		return fmt.Errorf("this kernel does not tell of the function %s", c.function)
	case c.function != "" && k.params(c.function) != c.params:
		return fmt.Errorf("this kernel's %s has an unknown number of parameters", c.function)
	case c.tracepoint != "" && !k.hasTracepoint(c.tracepoint):
		return fmt.Errorf("this kernel does not have the tracepoint %s", c.tracepoint)
	}
	for _, h := range c.hooks {
		if err := k.lacks(h.program); err != nil {
			return err
		}
	}
	return nil
}

// after returns what follows the first occurrence of marker, or "".
func after(s, marker string) string {
	_, rest, _ := strings.Cut(s, marker)
	return rest
}

// hasField tells whether a struct of the kernel has a field of that name.
func (k *kernel) hasField(structName, field string) bool {
	var s *btf.Struct
	if err := k.types.TypeByName(structName, &s); err != nil {
		return false
	}
	return slices.ContainsFunc(s.Members, func(m btf.Member) bool { return m.Name == field })
}
