package vm

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed kernels.sh
var kernelsScript []byte

// kernel is a kernel in the cache; kernels.sh describes the directory.
type kernel struct {
	dir, abi string
	modules  []string // to load at boot, in order, relative to dir
}

// findKernel takes the kernel from the cache, or has kernels.sh put it there first: a download of 60 to 110 MB.
func findKernel(ctx context.Context, version string) (kernel, error) {
	if !slices.Contains(Kernels, version) {
		return kernel{}, fmt.Errorf("kernel %q is not known; known are %s", version, strings.Join(Kernels, ", "))
	}
	cmd := exec.CommandContext(ctx, "bash", "-s", "--", version)
	cmd.Stdin = bytes.NewReader(kernelsScript)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return kernel{}, fmt.Errorf("obtaining kernel %s: %w", version, err)
	}
	k := kernel{dir: strings.TrimSpace(string(out))}
	abi, err := os.ReadFile(filepath.Join(k.dir, "abi"))
	if err != nil {
		return kernel{}, fmt.Errorf("reading the cached kernel: %w", err)
	}
	modules, err := os.ReadFile(filepath.Join(k.dir, "boot-modules"))
	if err != nil {
		return kernel{}, fmt.Errorf("reading the cached kernel: %w", err)
	}
	k.abi = strings.TrimSpace(string(abi))
	k.modules = strings.Fields(string(modules))
	return k, nil
}
