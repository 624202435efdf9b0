package host_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeHost is a directory that looks like a host's root to this package.
type fakeHost struct {
	t    testing.TB
	root string
}

// fakeProcess describes one process of a fakeHost. Zero fields leave their file out.
type fakeProcess struct {
	pid, parent uint32
	started     uint64 // clock ticks
	comm        string
	executable  string
	args        []string
	env         []string
	cgroup      string
	maps        string
	directory   string
	root        string // what the process sees as its root directory; below the fakeHost's
}

func newFakeHost(t testing.TB) *fakeHost {
	return &fakeHost{t, t.TempDir()}
}

func (h *fakeHost) add(p fakeProcess) {
	h.t.Helper()
	dir := filepath.Join("proc", fmt.Sprint(p.pid))
	stat := fmt.Sprintf("%d (%s) S %d 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", p.pid, p.comm, p.parent, p.started)
	h.write(filepath.Join(dir, "stat"), stat)
	h.write(filepath.Join(dir, "cmdline"), terminated(p.args))
	h.write(filepath.Join(dir, "environ"), terminated(p.env))
	h.write(filepath.Join(dir, "cgroup"), p.cgroup)
	h.write(filepath.Join(dir, "maps"), p.maps)
	h.link(filepath.Join(dir, "exe"), p.executable)
	h.link(filepath.Join(dir, "cwd"), p.directory)
	if p.root != "" {
		h.link(filepath.Join(dir, "root"), filepath.Join(h.root, p.root))
	}
}

func (h *fakeHost) remove(pid uint32) {
	h.t.Helper()
	if err := os.RemoveAll(filepath.Join(h.root, "proc", fmt.Sprint(pid))); err != nil {
		h.t.Fatal(err)
	}
}

func (h *fakeHost) write(name, content string) {
	h.t.Helper()
	name = filepath.Join(h.root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *fakeHost) link(name, target string) {
	h.t.Helper()
	name = filepath.Join(h.root, name)
	os.Remove(name)
	if target == "" {
		return
	}
	if err := os.Symlink(target, name); err != nil {
		h.t.Fatal(err)
	}
}

func terminated(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return strings.Join(words, "\x00") + "\x00"
}

// comm returns a task name as the kernel side hands it over.
func comm(name string) *[16]byte {
	c := new([16]byte)
	copy(c[:15], name)
	return c
}
