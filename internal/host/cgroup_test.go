package host_test

import (
	"testing"

	"github.com/perfagent/perfagent/internal/host"
)

// A group exists that has a directory, by its path in the hierarchy or in the file system, or a process; a file is none, and without
// mounts nothing is denied.
func TestCgroupExists(t *testing.T) {
	h := newFakeHost(t)
	exists := func(name string) bool {
		t.Helper()
		is, err := host.CgroupExists(h.root, name)
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	h.add(fakeProcess{pid: 1, executable: "/a/b", cgroup: "0::/inside/deep\n"})
	if !exists("/nope") {
		t.Error("without mounts it is not known that /nope does not exist")
	}
	h.write("sys/fs/cgroup/system.slice/cgroup.procs", "")
	for name, want := range map[string]bool{
		"/system.slice": true, "system.slice/": true, "/sys/fs/cgroup/system.slice": true, "/": true, "/inside": true,
		"/nope": false, "/sys/fs/cgroup/nope": false, "/system.slice/cgroup.procs": false, "/ins": false,
	} {
		if exists(name) != want {
			t.Errorf("%s exists: %v, want %v", name, !want, want)
		}
	}
}
