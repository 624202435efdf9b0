package host_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/host"
)

func removeAll(t testing.TB, name string) {
	t.Helper()
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
}

// until polls with a deadline.
func until(t testing.TB, reached func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !reached() {
		if time.Now().After(deadline) {
			t.Fatal("not reached in time")
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
}

// use is what a fake process used so far.
type use struct {
	started             uint64 // clock ticks
	ticks               int
	pages               int
	threads, files      int
	read, written       int
	switched, preempted int // by each thread
	cgroup              string
	hidden              bool // nothing may be read that needs the right to trace
}

// run writes the files of a process.
func (h *fakeHost) run(pid uint32, u use) {
	h.t.Helper()
	dir := fmt.Sprintf("proc/%d", pid)
	h.write(dir+"/stat", fmt.Sprintf("%d (a) S b) R 1 0 0 0 -1 0 0 0 0 0 %d %d 0 0 20 0 %d 0 %d 100000 %d 0\n", pid, u.ticks/2, u.ticks-u.ticks/2,
		u.threads, u.started, u.pages))
	h.write(dir+"/io", fmt.Sprintf("rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: %d\nwrite_bytes: %d\ncancelled_write_bytes: 0\n", u.read, u.written))
	h.write(dir+"/limits", "Limit                     Soft Limit           Hard Limit           Units     \n"+
		"Max processes             100                  100                  processes \nMax open files            20                   524288               files     \n")
	h.write(dir+"/cgroup", u.cgroup)
	removeAll(h.t, filepath.Join(h.root, dir, "task"))
	removeAll(h.t, filepath.Join(h.root, dir, "fd"))
	for i := range u.threads {
		h.write(fmt.Sprintf("%s/task/%d/status", dir, int(pid)+i), fmt.Sprintf("Name:\ta\nvoluntary_ctxt_switches:\t%d\nnonvoluntary_ctxt_switches:\t%d\n", u.switched, u.preempted))
	}
	for i := range u.files {
		h.write(fmt.Sprintf("%s/fd/%d", dir, i), "")
	}
	if u.hidden {
		h.delete(dir + "/io")
		h.write(dir+"/io/x", "") // reading a directory fails
	}
}

func identity(service string, startTicks uint64) *host.Identity {
	return &host.Identity{Service: service, Started: time.Duration(startTicks) * 10 * time.Millisecond, Chosen: true}
}

// Shows the figures of processes and of the service that they make, whose counters begin when it is watched.
func TestServiceFigures(t *testing.T) {
	h := newSampledHost(t)
	h.run(10, use{started: 100, ticks: 1000, pages: 10, threads: 2, files: 5, read: 1000, written: 2000, switched: 50, preempted: 5})
	h.run(11, use{started: 200, ticks: 500, pages: 20, threads: 1, files: 10, switched: 7})
	h.run(12, use{started: 300, ticks: 5, threads: 1, hidden: true})
	h.Watch([]host.Watched{{PID: 12, Identity: identity("b", 300)}, {PID: 11, Identity: identity("a", 200)}, {PID: 10, Identity: identity("a", 100)}})
	s := h.Sample()
	if len(s.Services) != 2 || s.Services[0].Name != "a" || s.Services[1].Name != "b" || s.Watched != 3 {
		t.Fatalf("services %+v", s.Services)
	}
	a := s.Services[0]
	expect(t, counter("cpu at first", a.CPUSeconds, 0, host.Unknown), counter("read at first", a.ReadBytes, 0, host.Unknown),
		counter("switches at first", a.VoluntarySwitches, 0, host.Unknown))

	h.run(10, use{started: 100, ticks: 1100, pages: 11, threads: 3, files: 6, read: 1500, written: 3000, switched: 60, preempted: 6})
	h.run(11, use{started: 200, ticks: 550, pages: 20, threads: 1, files: 12, written: 100, switched: 7})
	// A worker that was started since the last sample: all that it used counts.
	h.run(13, use{started: 100_500, ticks: 30, threads: 1, files: 1, read: 10})
	h.Watch([]host.Watched{{PID: 10, Identity: identity("a", 100)}, {PID: 11, Identity: identity("a", 200)}, {PID: 12, Identity: identity("b", 300)},
		{PID: 13, Identity: identity("a", 100_500)}})
	s = h.after(10 * time.Second)
	a, b := s.Services[0], s.Services[1]
	if len(a.Processes) != 3 || a.Processes[0].PID != 10 || a.Processes[2].PID != 13 {
		t.Fatalf("processes %+v", a.Processes)
	}
	p := a.Processes[0]
	expect(t,
		counter("process cpu", p.CPUSeconds, 11, 0.1), figure{"process percent", p.CPUPercent(), 10}, figure{"resident", p.ResidentBytes, 11 * 4096},
		figure{"threads", p.Threads, 3}, figure{"files", p.OpenFiles, 6}, figure{"limit", p.OpenFilesMax, 20},
		counter("process read", p.ReadBytes, 1500, 50), counter("process written", p.WrittenBytes, 3000, 100),
		// Two threads did ten each, a third of 60 is new.
		counter("process switches", p.VoluntarySwitches, 80, 8), counter("process preempted", p.InvoluntarySwitches, 8, 0.8),
		counter("cpu", a.CPUSeconds, 1.8, 0.18), figure{"percent", a.CPUPercent(), 18}, figure{"all resident", a.ResidentBytes, 31 * 4096},
		figure{"all threads", a.Threads, 5}, figure{"all files", a.OpenFiles, 19}, figure{"fullest", a.OpenFilesUsed, 0.6},
		counter("read", a.ReadBytes, 510, 51), counter("written", a.WrittenBytes, 1100, 110),
		counter("switches", a.VoluntarySwitches, 80, 8),
		counter("hidden", b.ReadBytes, host.Unknown, host.Unknown), counter("seen", b.CPUSeconds, 0, 0),
	)
	if i := slices.IndexFunc(s.Errors, func(e host.SourceErrors) bool { return e.Source == "process_io" }); i < 0 || s.Errors[i].Count != 2 {
		t.Errorf("errors %+v", s.Errors)
	}
}

// Shows that a process that ends, before or while it is read, is left out without an error, that its service's counters
// stay, and that another process with its pid is not taken for it.
func TestVanishedProcess(t *testing.T) {
	h := newSampledHost(t)
	watch := func() {
		h.Watch([]host.Watched{{PID: 10, Identity: identity("a", 100)}, {PID: 11, Identity: identity("a", 100)}, {PID: 12, Identity: identity("never", 100)}})
	}
	watch()
	h.run(10, use{started: 100, ticks: 1000, threads: 1})
	h.run(11, use{started: 100, ticks: 1000, threads: 1})
	h.Sample()
	h.run(10, use{started: 100, ticks: 1200, threads: 1})
	h.run(11, use{started: 100, ticks: 1100, threads: 1})
	expect(t, counter("both", h.after(time.Second).Services[0].CPUSeconds, 3, 3))

	h.remove(10)
	h.run(11, use{started: 100, ticks: 1150, threads: 1})
	removeAll(t, filepath.Join(h.root, "proc/11/task")) // it ends meanwhile: stat was still there
	removeAll(t, filepath.Join(h.root, "proc/11/io"))
	s := h.after(time.Second)
	if len(s.Services) != 1 || len(s.Services[0].Processes) != 1 {
		t.Fatalf("services %+v", s.Services)
	}
	expect(t, counter("one left", s.Services[0].CPUSeconds, 3.5, 0.5))

	h.run(10, use{started: 999, ticks: 5, threads: 1}) // another one
	h.remove(11)
	watch()
	if s = h.after(time.Second); len(s.Services) != 0 || s.Watched != 0 {
		t.Errorf("services %+v", s.Services)
	}
	h.Watch([]host.Watched{{PID: 10, Identity: identity("a", 999)}})
	h.Sample()
	h.run(10, use{started: 999, ticks: 25, threads: 1})
	s = h.after(time.Second)
	expect(t, counter("its successor", s.Services[0].CPUSeconds, 3.7, 0.2))
	if len(s.Errors) > 0 {
		t.Errorf("errors %+v", s.Errors)
	}
}

// Shows that garbage in a process's files costs the figures of that file.
func TestBrokenProcess(t *testing.T) {
	for file, source := range map[string]string{"stat": "process", "io": "process_io", "limits": "process_files", "task/10/status": "process_switches"} {
		h := newSampledHost(t)
		h.run(10, use{started: 100, threads: 1, files: 1})
		h.write("proc/10/"+file, "garbage ) 1\n")
		h.Watch([]host.Watched{{PID: 10, Identity: identity("a", 100)}})
		s := h.Sample()
		if len(s.Errors) != 1 || s.Errors[0].Source != source {
			t.Errorf("%s: errors %+v", file, s.Errors)
		}
		if (source == "process") != (len(s.Services) == 0) {
			t.Errorf("%s: services %+v", file, s.Services)
			continue
		}
		for _, a := range s.Services {
			if host.Known(a.ReadBytes.Total) == (source == "process_io") || host.Known(a.OpenFilesUsed) == (source == "process_files") ||
				host.Known(a.VoluntarySwitches.Total) == (source == "process_switches") || !host.Known(a.CPUSeconds.Total) {
				t.Errorf("%s: %+v", file, a)
			}
		}
	}
}

// Shows that more processes than are followed are counted, and the first ones taken.
func TestTooManyWatched(t *testing.T) {
	h := newSampledHost(t)
	var list []host.Watched
	for pid := range uint32(600) {
		list = append(list, host.Watched{PID: pid + 10, Identity: identity("a", 100)})
		h.write(fmt.Sprintf("proc/%d/stat", pid+10), fmt.Sprintf("%d (a) R 1 0 0 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 100 0 1 0\n", pid+10))
	}
	h.Watch(list)
	if s := h.Sample(); s.Watched != 512 || s.Errors[0].Source != "watch" {
		t.Errorf("%d watched, errors %+v", s.Watched, s.Errors)
	}
}

const containerB = "89ab01f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0cdef"

const (
	mountsV2     = "30 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
	mountsV1     = "31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n32 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n33 30 0:30 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n34 30 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
	mountsHybrid = mountsV1 + "35 30 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)

// writeV2 writes a group of cgroup v2.
func (h *fakeHost) writeV2(group string, step int) {
	h.writeGroup("sys/fs/cgroup"+group, map[string]string{
		"cpu.stat": fmt.Sprintf("usage_usec %d\nuser_usec 1\nsystem_usec 2\nnr_periods %d\nnr_throttled %d\nthrottled_usec %d\nnr_bursts 0\n",
			1_000_000+500_000*step, 10*step, 4*step, 250_000*step),
		"cpu.max":        "150000 100000\n",
		"memory.current": fmt.Sprint(1000+step) + "\n",
		"memory.max":     "max\n",
		"memory.events":  fmt.Sprintf("low 0\nhigh 0\nmax 9\noom 2\noom_kill %d\noom_group_kill 0\n", step),
		"io.stat":        fmt.Sprintf("8:0 rbytes=%d wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n7:1 \n253:0 rbytes=1 wbytes=%d rios=1 wios=2\n", 100*step, 200*step),
		"pids.current":   "7\n",
		"pids.max":       "max\n",
	})
}

// writeV1 writes a group of cgroup v1, with the same figures.
func (h *fakeHost) writeV1(group string, step int) {
	h.writeGroup("sys/fs/cgroup/cpu,cpuacct"+group, map[string]string{
		"cpu.stat":         fmt.Sprintf("nr_periods %d\nnr_throttled %d\nthrottled_time %d\n", 10*step, 4*step, 250_000_000*step),
		"cpu.cfs_quota_us": "150000\n", "cpu.cfs_period_us": "100000\n",
		"cpuacct.usage": fmt.Sprint(1_000_000_000+500_000_000*step) + "\n",
	})
	h.writeGroup("sys/fs/cgroup/memory"+group, map[string]string{
		"memory.usage_in_bytes": fmt.Sprint(1000+step) + "\n",
		"memory.limit_in_bytes": "9223372036854771712\n",
		"memory.oom_control":    fmt.Sprintf("oom_kill_disable 0\nunder_oom 0\noom_kill %d\n", step),
	})
	h.writeGroup("sys/fs/cgroup/blkio"+group, map[string]string{
		"blkio.throttle.io_service_bytes": fmt.Sprintf("8:0 Read %d\n8:0 Write 20\n8:0 Sync 1\n8:0 Total 21\n253:0 Read 1\n253:0 Write %d\nTotal 999\n", 100*step, 200*step),
	})
	h.writeGroup("sys/fs/cgroup/pids"+group, map[string]string{"pids.current": "7\n", "pids.max": "max\n"})
}

func (h *fakeHost) writeGroup(dir string, files map[string]string) {
	for name, content := range files {
		h.write(dir+"/"+name, content)
	}
}

// Shows the figures of a container's control group in every kind of hierarchy, with the limits of the group above.
func TestCgroupFigures(t *testing.T) {
	group := "/kubepods/pod1/" + containerB
	for _, c := range []struct {
		name, mounts, membership string
		write                    func(h *fakeHost, step int)
		above                    map[string]string // limits of /kubepods/pod1
	}{
		{"v2", mountsV2, "0::" + group + "\n", func(h *fakeHost, step int) { h.writeV2(group, step) },
			map[string]string{"sys/fs/cgroup/kubepods/pod1/memory.max": "4096\n", "sys/fs/cgroup/kubepods/pod1/pids.max": "50\n", "sys/fs/cgroup/kubepods/pod1/cpu.max": "max 100000\n"}},
		{"v1", mountsV1, "4:pids:" + group + "\n3:cpu,cpuacct:" + group + "\n2:memory:" + group + "\n1:blkio:" + group + "\n", func(h *fakeHost, step int) { h.writeV1(group, step) },
			map[string]string{"sys/fs/cgroup/memory/kubepods/pod1/memory.limit_in_bytes": "4096\n", "sys/fs/cgroup/pids/kubepods/pod1/pids.max": "50\n",
				"sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/cpu.cfs_quota_us": "-1\n"}},
		{"hybrid", mountsHybrid, "4:pids:" + group + "\n3:cpu,cpuacct:" + group + "\n2:memory:" + group + "\n1:blkio:" + group + "\n0::/system.slice/x.scope\n",
			func(h *fakeHost, step int) { h.writeV1(group, step) },
			map[string]string{"sys/fs/cgroup/memory/kubepods/pod1/memory.limit_in_bytes": "4096\n", "sys/fs/cgroup/pids/kubepods/pod1/pids.max": "50\n"}},
		{"v2 in a container that sees its own part", strings.Replace(mountsV2, " / /sys", " /kubepods /sys", 1), "0::" + group + "\n", func(h *fakeHost, step int) { h.writeV2("/pod1/"+containerB, step) },
			map[string]string{"sys/fs/cgroup/pod1/memory.max": "4096\n", "sys/fs/cgroup/pod1/pids.max": "50\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newSampledHost(t)
			h.write("proc/self/mountinfo", "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"+c.mounts)
			h.run(10, use{started: 100, threads: 1, cgroup: c.membership})
			h.run(11, use{started: 100, threads: 1, cgroup: c.membership})
			for name, content := range c.above {
				h.write(name, content)
			}
			c.write(h.fakeHost, 0)
			h.Watch([]host.Watched{{PID: 10, Identity: identity("a", 100)}, {PID: 11, Identity: identity("a", 100)}})
			first := h.Sample()
			c.write(h.fakeHost, 1)
			s := h.after(2 * time.Second)
			if len(first.Services) != 1 || len(s.Services[0].Cgroups) != 1 {
				t.Fatalf("services %+v", s.Services)
			}
			g := s.Services[0].Cgroups[0]
			if g.Path != group || g.ContainerID != containerB || len(s.Errors) > 0 {
				t.Errorf("path %q, container %q, errors %+v", g.Path, g.ContainerID, s.Errors)
			}
			expect(t,
				counter("first", first.Services[0].Cgroups[0].CPUSeconds, 1, host.Unknown),
				counter("cpu", g.CPUSeconds, 1.5, 0.25), counter("periods", g.Periods, 10, 5), counter("throttled", g.ThrottledPeriods, 4, 2),
				counter("throttled time", g.ThrottledSeconds, 0.25, 0.125), figure{"cpu limit", g.CPULimit, 1.5},
				figure{"memory", g.MemoryBytes, 1001}, figure{"memory limit", g.MemoryLimitBytes, 4096}, counter("oom kills", g.OOMKills, 1, 0.5),
				counter("read", g.ReadBytes, 101, 50), counter("written", g.WrittenBytes, 220, 100),
				figure{"tasks", g.Tasks, 7}, figure{"tasks limit", g.TasksLimit, 50},
			)
		})
	}
}

// Shows what is not made up: the root group is nobody's container, a group outside of the agent's view is not seen, a
// controller that is not enabled has no figures, and a limit that nobody set is none.
func TestCgroupAbsent(t *testing.T) {
	sample := func(t *testing.T, mounts, membership string, prepare func(*sampledHost)) *host.Sample {
		h := newSampledHost(t)
		h.write("proc/self/mountinfo", mounts)
		h.run(10, use{started: 100, threads: 1, cgroup: membership})
		h.writeV2("", 3) // the root's
		prepare(h)
		h.Watch([]host.Watched{{PID: 10, Identity: identity("a", 100)}})
		return h.Sample()
	}
	for name, c := range map[string][2]string{
		"root":              {mountsV2, "0::/\n"},
		"outside":           {mountsV2, "0::/../../x\n"},
		"other part":        {strings.Replace(mountsV2, " / /sys", " /kubepods /sys", 1), "0::/kubepods2/x\n"},
		"root of v1":        {mountsHybrid, "3:memory:/\n0::/\n"},
		"not mounted":       {"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n", "0::/x\n"},
		"removed":           {mountsV2, "0::/gone (deleted)\n"},
		"garbage":           {mountsV2, "::::\nx\n0:/x\n"},
		"garbage in mounts": {"- cgroup2\n1 2 3 - cgroup2 x\n", "0::/x\n"},
	} {
		s := sample(t, c[0], c[1], func(*sampledHost) {})
		if len(s.Services) != 1 || len(s.Services[0].Cgroups) > 0 || len(s.Errors) > 0 {
			t.Errorf("%s: %+v, errors %+v", name, s.Services, s.Errors)
		}
	}
	s := sample(t, mountsV2, "0::/x\n", func(h *sampledHost) {
		h.writeGroup("sys/fs/cgroup/x", map[string]string{"cpu.stat": "usage_usec 2000000\nuser_usec 1\nsystem_usec 1\n", "pids.max": "max\n", "memory.current": "5\n", "memory.max": "max\n"})
	})
	g := s.Services[0].Cgroups[0]
	expect(t, counter("cpu", g.CPUSeconds, 2, host.Unknown), counter("periods", g.Periods, host.Unknown, host.Unknown), figure{"cpu limit", g.CPULimit, host.Unknown},
		figure{"memory", g.MemoryBytes, 5}, figure{"memory limit", g.MemoryLimitBytes, math.Inf(1)}, counter("read", g.ReadBytes, host.Unknown, host.Unknown))
	if len(s.Errors) > 0 {
		t.Errorf("errors %+v", s.Errors)
	}
}

// Shows that garbage in a group's files costs the figures of that file and is counted.
func TestBrokenCgroup(t *testing.T) {
	for file, source := range map[string]string{"cpu.stat": "cgroup_cpu", "cpu.max": "cgroup_cpu", "memory.current": "cgroup_memory", "memory.max": "cgroup_memory",
		"memory.events": "cgroup_memory", "io.stat": "cgroup_io", "pids.current": "cgroup_tasks", "pids.max": "cgroup_tasks"} {
		h := newSampledHost(t)
		h.write("proc/self/mountinfo", mountsV2)
		h.writeV2("/x", 1)
		h.write("sys/fs/cgroup/x/"+file, "garbage rbytes=x\n")
		h.run(10, use{started: 100, threads: 1, cgroup: "0::/x\n"})
		h.Watch([]host.Watched{{PID: 10, Identity: identity("a", 100)}})
		s := h.Sample()
		if len(s.Errors) != 1 || s.Errors[0].Source != source {
			t.Errorf("%s: errors %+v", file, s.Errors)
		}
		g := s.Services[0].Cgroups[0]
		known := []bool{host.Known(g.CPUSeconds.Total), host.Known(g.CPULimit), host.Known(g.MemoryBytes), host.Known(g.MemoryLimitBytes), host.Known(g.OOMKills.Total),
			host.Known(g.ReadBytes.Total), host.Known(g.Tasks), host.Known(g.TasksLimit)}
		unknown := 0
		for _, is := range known {
			if !is {
				unknown++
			}
		}
		if unknown != 1 {
			t.Errorf("%s: known are %v", file, known)
		}
	}
}

// Shows which processes are recent: the chosen ones, the latest first, and none that could not be read.
func TestRecent(t *testing.T) {
	h := newFakeHost(t)
	for pid := range uint32(5) {
		executable := "/usr/bin/yes"
		if pid == 3 {
			executable = "/usr/bin/no"
		}
		h.add(fakeProcess{pid: pid + 10, executable: executable})
	}
	glob, err := host.NewGlob("/usr/bin/yes")
	if err != nil {
		t.Fatal(err)
	}
	filter := host.Filter{Executables: []host.Glob{glob}}
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root, Filter: filter})
	for i, pid := range []uint32{10, 11, 12, 13, 99, 14} {
		processes.Identify(pid, comm("x"), int64(i+1)*10*second)
	}
	h.add(fakeProcess{pid: 15, executable: "/usr/bin/yes"})
	processes.Identify(15, comm("x"), 0) // of an exchange without an end
	pids := func(nowNS int64, within time.Duration, most int) (all []uint32) {
		for _, w := range processes.Recent(nowNS, within, most) {
			all = append(all, w.PID)
		}
		return all
	}
	for _, c := range []struct {
		within time.Duration
		most   int
		want   []uint32
	}{{time.Hour, 10, []uint32{15, 14, 12, 11, 10}}, {time.Hour, 2, []uint32{15, 14}}, {35 * time.Second, 10, []uint32{14, 12}}, {time.Second, 10, []uint32{14}}} {
		if got := pids(60*second, c.within, c.most); !slices.Equal(got, c.want) {
			t.Errorf("within %v, at most %d: %v, expected %v", c.within, c.most, got, c.want)
		}
	}
}
