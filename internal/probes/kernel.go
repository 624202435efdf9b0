package probes

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// ErrNoBTF: the kernel does not describe its types.
var ErrNoBTF = errors.New("this kernel has no BTF (/sys/kernel/btf/vmlinux): use one built with CONFIG_DEBUG_INFO_BTF=y, Linux 5.10 or later")

// kernel answers questions about the running kernel's functions.
type kernel struct{ types *btf.Spec }

func openKernel() (*kernel, error) {
	types, err := btf.LoadKernelSpec()
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, btf.ErrNotSupported):
		return nil, ErrNoBTF
	case err != nil:
		return nil, fmt.Errorf("read the kernel's BTF: %w", err)
	}
	return &kernel{types}, nil
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

// after returns what follows the first occurrence of marker, or "".
func after(s, marker string) string {
	_, rest, _ := strings.Cut(s, marker)
	return rest
}
