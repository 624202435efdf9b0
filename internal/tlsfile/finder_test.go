package tlsfile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Lines of /proc/PID/maps are taken apart, and those that are no executable part of a file are left out.
func TestParseMapping(t *testing.T) {
	for line, want := range map[string]string{
		"7f4c1a035000-7f4c1a093000 r-xp 0001f000 fd:01 393233                     /usr/lib/libssl.so.3": "7f4c1a035000-7f4c1a093000 fd:01 393233 /usr/lib/libssl.so.3",
		"7f4c1a035000-7f4c1a093000 r-xp 0001f000 fd:01 393233   /a b (deleted)":                         "7f4c1a035000-7f4c1a093000 fd:01 393233 /a b (deleted)",
		"7f4c1a035000-7f4c1a093000 r--p 00000000 fd:01 393233                     /usr/lib/libssl.so.3": "",
		"7ffd4b7f5000-7ffd4b7f7000 r-xp 00000000 00:00 0                          [vdso]":               "",
		"7f4c1a035000-7f4c1a093000 rwxp 00000000 00:00 0 ":                                              "",
		"7f4c1a035000-7f4c1a093000 r-xp 0001f000 fd:01 x /lib":                                          "",
		"": "",
	} {
		got := ""
		if m, ok := parseMapping([]byte(line)); ok {
			got = fmt.Sprintf("%s %s %d %s", m.area, m.file.device, m.file.inode, m.path)
		}
		if got != want {
			t.Errorf("%q: %q, expected %q", line, got, want)
		}
	}
}

// Whatever a line holds, what is taken from it are parts of it.
func FuzzParseMapping(f *testing.F) {
	f.Add([]byte("7f4c1a035000-7f4c1a093000 r-xp 0001f000 fd:01 393233   /usr/lib/libssl.so.3"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if m, ok := parseMapping(line); ok && (!strings.Contains(string(line), string(m.path)) || m.file.inode == 0) {
			t.Errorf("%q: %+v", line, m)
		}
	})
}

// started starts a program that maps files for execution until the test ends.
func started(t testing.TB, program string, files ...string) uint32 {
	t.Helper()
	cmd := exec.Command(program, files...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return uint32(cmd.Process.Pid)
}

// mapper builds the program that maps.
func mapper(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "mapper.c")
	if err := os.WriteFile(source, []byte(`#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int n, char **a) {
	for (int i = 1; i < n; i++)
		if (mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, open(a[i], O_RDONLY), 0) == MAP_FAILED)
			return 1;
	write(1, "x", 1);
	return read(0, &n, 1);
}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	build(t, nil, "gcc", "-O1", "-w", "-o", filepath.Join(dir, "mapper"), source)
	return filepath.Join(dir, "mapper")
}

// onlyProcesses makes a directory like /proc with nothing but the given processes, so that those of others are not looked at.
func onlyProcesses(t testing.TB, pids ...uint32) string {
	t.Helper()
	dir := t.TempDir()
	for _, pid := range pids {
		if err := os.Symlink(fmt.Sprint("/proc/", pid), filepath.Join(dir, fmt.Sprint(pid))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A library is found in the processes that have it mapped, also after its path leads elsewhere or nowhere, and what is opened for attaching is the mapped file. When
// the last of its processes ends, it is forgotten.
func TestFinder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("following the mappings of processes needs root")
	}
	program := mapper(t)
	library := filepath.Join(t.TempDir(), "libssl.so.3")
	data, err := os.ReadFile(sharedLibrary(t, "libssl.so.[13]*"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(library, data, 0o600); err != nil {
		t.Fatal(err)
	}
	first, second := started(t, program, library), started(t, program, library)
	proc := onlyProcesses(t, first, second)
	finder := NewFinder(proc)
	now := time.Now()
	finder.now = func() time.Time { return now }
	if err := os.Remove(library); err != nil {
		t.Fatal(err)
	}
	uses, err := finder.Scan()
	for err == nil && finder.Counts().Waiting > 0 { // on a busy machine
		uses, err = finder.Scan()
	}
	if err != nil || len(uses) != 1 || uses[0].File.Kind != OpenSSL || len(uses[0].File.Functions) == 0 || !slices.Equal(uses[0].PIDs, []uint32{min(first, second), max(first, second)}) {
		t.Fatalf("%+v, %v", uses, err)
	}
	file, err := finder.Open(uses[0])
	if err != nil {
		t.Fatal(err)
	}
	info, err := file.Stat()
	if err != nil || KeyOf(info) != uses[0].Key {
		t.Errorf("another file: %+v, %v", info, err)
	}
	file.Close()
	examined := finder.Counts().Examined
	now = now.Add(againMost)
	if uses, err = finder.Scan(); err != nil || len(uses) != 1 || finder.Counts().Examined != examined {
		t.Errorf("%+v, %v: examined %d times, before %d", uses, err, finder.Counts().Examined, examined)
	}
	if err := os.Remove(filepath.Join(proc, fmt.Sprint(first))); err != nil {
		t.Fatal(err)
	}
	if uses, err = finder.Scan(); err != nil || len(uses) != 1 || !slices.Equal(uses[0].PIDs, []uint32{second}) {
		t.Errorf("after the first ended: %+v, %v", uses, err)
	}
	if err := os.Remove(filepath.Join(proc, fmt.Sprint(second))); err != nil {
		t.Fatal(err)
	}
	if uses, err = finder.Scan(); err != nil || len(uses) != 0 || finder.Counts().Mapping != 0 {
		t.Errorf("after both ended: %+v, %v, %+v", uses, err, finder.Counts())
	}
}

// 500 processes with 20 libraries each are looked at: the aim is 500 ms of processor time.
func BenchmarkFinderManyProcesses(t *testing.B) {
	if os.Geteuid() != 0 {
		t.Skip("following the mappings of processes needs root")
	}
	program := mapper(t)
	data, err := os.ReadFile(sharedLibrary(t, "libssl.so.[13]*"))
	if err != nil {
		t.Fatal(err)
	}
	var libraries []string
	dir := t.TempDir()
	for i := range 20 {
		library := filepath.Join(dir, fmt.Sprintf("libssl-%d.so.3", i))
		if err := os.WriteFile(library, data, 0o600); err != nil {
			t.Fatal(err)
		}
		libraries = append(libraries, library)
	}
	var pids []uint32
	for range 500 {
		pids = append(pids, started(t, program, libraries...))
	}
	var cpu time.Duration
	for t.Loop() {
		finder, used := NewFinder(onlyProcesses(t, pids...)), processorTime(t)
		uses, err := finder.Scan()
		for err == nil && finder.Counts().Waiting > 0 {
			uses, err = finder.Scan()
		}
		cpu += processorTime(t) - used
		if err != nil || len(uses) != 20 || len(uses[0].PIDs) != 500 {
			t.Fatalf("%d uses, %v", len(uses), err)
		}
	}
	t.ReportMetric(cpu.Seconds()/float64(t.N)*1000, "cpu-ms/op")
}

// processorTime is what this process has used.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
