package host_test

import (
	"bufio"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/host"
)

// within tells whether two figures differ by at most an absolute tolerance.
func within(t *testing.T, name string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %v, another reading says %v (±%v)", name, got, want, tolerance)
	}
}

// Shows that the figures of this machine agree with what awk, free, df and stat say of it, read right before and after.
func TestLiveHost(t *testing.T) {
	sampler := host.NewSampler(host.SamplerOptions{})
	var s *host.Sample
	until(t, func() bool { s = sampler.Sample(); return s.Filesystems != nil || len(s.Errors) > 0 })
	before := commandNumbers(t, "awk", `NR==1 {for (i=2; i<=9; i++) printf "%.2f\n", $i/100} /^cpu[0-9]/ {n++} END {print n}`, "/proc/stat")
	s = sampler.Sample()
	after := commandNumbers(t, "awk", `NR==1 {for (i=2; i<=9; i++) printf "%.2f\n", $i/100} /^cpu[0-9]/ {n++} END {print n}`, "/proc/stat")
	for _, c := range []struct {
		mode   host.CPUMode
		column int
	}{{host.CPUNice, 1}, {host.CPUSystem, 2}, {host.CPUIdle, 3}, {host.CPUIRQ, 5}, {host.CPUSoftIRQ, 6}, {host.CPUSteal, 7}} {
		if got := s.CPU.Modes[c.mode].Total; got < before[c.column]-0.01 || got > after[c.column]+0.01 {
			t.Errorf("%s is %v s, other readings say %v and %v", c.mode, got, before[c.column], after[c.column])
		}
	}
	within(t, "processors", float64(s.CPU.Processors), before[8], 0)

	free := commandNumbers(t, "sh", "-c", `free -b | awk '/^Mem/ {print $2, $7} /^Swap/ {print $2, $3}'`)
	s = sampler.Sample()
	const tolerance = 512 << 20 // other programs run meanwhile
	within(t, "memory", s.Memory.Total, free[0], 0)
	within(t, "available", s.Memory.Available, free[1], tolerance)
	within(t, "swap", s.Memory.SwapTotal, free[2], 0)
	within(t, "swap used", s.Memory.SwapUsed, free[3], tolerance)

	loads := commandNumbers(t, "awk", `{print $1, $2, $3}`, "/proc/loadavg")
	s = sampler.Sample()
	within(t, "load15", s.Load.Fifteen, loads[2], 0.2)

	for _, f := range s.Filesystems {
		df := commandNumbers(t, "sh", "-c", `df -B1 --output=size,used,avail "$0" | tail -1`, f.Mountpoint)
		within(t, f.Mountpoint+" size", f.Size, df[0], 0)
		within(t, f.Mountpoint+" used", f.Used, df[1], 512<<20)
		within(t, f.Mountpoint+" available", f.Available, df[2], 512<<20)
	}
	for _, i := range s.Interfaces {
		received := commandNumbers(t, "cat", "/sys/class/net/"+i.Name+"/statistics/rx_bytes")
		if i.ReceivedBytes.Total > received[0] {
			t.Errorf("%s received %v, and %v later", i.Name, i.ReceivedBytes.Total, received[0])
		}
	}
	if len(s.Interfaces) == 0 || !s.Interfaces[0].Loopback {
		t.Errorf("interfaces %+v", s.Interfaces)
	}
	for _, d := range s.Disks {
		reads := commandNumbers(t, "awk", `{printf "%.0f %.0f %.0f %.0f", $1, $3*512, $5, $7*512}`, "/sys/block/"+d.Device+"/stat")
		if d.Reads.Total > reads[0] || d.ReadBytes.Total > reads[1] || d.Writes.Total > reads[2] || d.WrittenBytes.Total > reads[3] || reads[0] > 2*d.Reads.Total+1000 {
			t.Errorf("disk %+v, and later %v", d, reads)
		}
	}
	if s.TCP == nil || s.Sockets == nil || s.Sockets.InUse > 0 && s.TCP.ActiveOpens.Total+s.TCP.PassiveOpens.Total+s.Sockets.InUse <= 0 {
		t.Errorf("TCP %+v %+v", s.TCP, s.Sockets)
	}
	if _, err := os.Stat("/proc/pressure/cpu"); err == nil && (s.Pressure.CPU == nil || !(s.Pressure.CPU.Some.Seconds.Total > 0)) {
		t.Errorf("pressure %+v", s.Pressure.CPU)
	}
	if kernel := strings.TrimSpace(commandText(t, "uname", "-r")); s.Info.Kernel != kernel || time.Since(s.Info.Boot) < time.Minute {
		t.Errorf("info %+v, kernel %s", s.Info, kernel)
	}
	t.Logf("sources that this machine lacks: %+v", s.Errors)
}

// Shows the figures of a child that burns processor time, sleeps, holds memory and files and writes, against what it says
// itself of its time and its switches.
func TestLiveProcessFigures(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	const program = `
import os, resource, sys, time
switches = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
held = bytearray(50 << 20)
files = [open("/dev/null") for _ in range(40)]
with open(sys.argv[1], "wb") as f:
    f.write(held[:8 << 20]); f.flush(); os.fsync(f.fileno())
print("ready", flush=True); sys.stdin.readline()
began, before = time.process_time(), switches()
while time.process_time() < began + 0.6: pass
for _ in range(100): time.sleep(0.0005)
used = time.process_time()
print(used - began, used, switches() - before, flush=True); sys.stdin.readline()
`
	command := exec.Command("python3", "-c", program, file)
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Skip("python3 is not installed")
	}
	defer command.Wait()
	defer input.Close()
	lines := bufio.NewReader(output)
	lines.ReadString('\n')
	processes := host.NewProcesses(host.ProcessOptions{})
	pid := uint32(command.Process.Pid)
	clock := &fakeTime{now: time.Now()} // moved, so that threads have their turn
	sampler := host.NewSampler(host.SamplerOptions{Now: func() time.Time { return clock.now }})
	sampler.Watch([]host.Watched{{PID: pid, Identity: processes.Identify(pid, comm("python3"), host.Monotonic())}})
	first := sampler.Sample()
	fmt.Fprintln(input)
	// By the program's own account: what a sleep costs, and whether it gives the processor up, depends on what else runs.
	var watched, used, slept float64
	if _, err := fmt.Fscan(lines, &watched, &used, &slept); err != nil || watched < 0.6 || slept < 10 {
		t.Fatalf("the program used %v s of %v s and slept %v times: %v", watched, used, slept, err)
	}
	clock.advance(10 * time.Second)
	s := sampler.Sample()
	if len(first.Services) != 1 || len(s.Services) != 1 {
		t.Fatalf("services %+v", s.Services)
	}
	service, p := s.Services[0], s.Services[0].Processes[0]
	resident := commandNumbers(t, "awk", `/^VmRSS/ {printf "%.0f", $2*1024}`, fmt.Sprintf("/proc/%d/status", pid))
	within(t, "resident", p.ResidentBytes, resident[0], 2<<20)
	within(t, "files", p.OpenFiles, 43, 3) // with the standard ones
	within(t, "threads", p.Threads, 1, 0)
	if p.OpenFilesMax < 64 || p.ResidentBytes < 50<<20 || p.WrittenBytes.Total < 8<<20 {
		t.Errorf("process %+v", p)
	}
	within(t, "voluntary switches", service.VoluntarySwitches.Total, slept, 3) // and what waits for the test
	within(t, "processor time while watched", service.CPUSeconds.Total, watched, 0.03)
	within(t, "processor time", p.CPUSeconds.Total, used, 0.03) // two sums of ticks of 10 ms, rounded down
	fmt.Fprintln(input)
	input.Close()
	command.Wait()
	if s = sampler.Sample(); len(s.Services) != 0 {
		t.Errorf("the ended process is shown: %+v", s.Services)
	}
}

// Shows the tasks of a control group that a child is put into, and their limit.
func TestLiveCgroup(t *testing.T) {
	dir := makeCgroup(t, "pids", map[string]string{"pids.max": "12"})
	pid := inCgroup(t, dir, "cat")
	s := sampleOf(t, host.NewSampler(host.SamplerOptions{}), pid)
	within(t, "tasks", s.Tasks, 1, 0)
	within(t, "tasks limit", s.TasksLimit, 12, 0)
}

// Shows how a quota throttles a child that burns processor time, as awk reads it from the kernel's file: newer kernels may count a
// period as throttled in which no task stood still.
func TestLiveThrottling(t *testing.T) {
	dir := makeCgroup(t, "cpu", map[string]string{"cpu.cfs_period_us": "20000", "cpu.cfs_quota_us": "5000", "cpu.max": "5000 20000"})
	pid := inCgroup(t, dir, "sh", "-c", "while :; do :; done")
	throttled := func() (periods, seconds float64) {
		t.Helper()
		all := commandNumbers(t, "awk", `$1=="nr_throttled" {printf "%d ", $2} $1=="throttled_time" {printf "%.9f", $2/1e9} $1=="throttled_usec" {printf "%.6f", $2/1e6}`,
			dir+"/cpu.stat")
		return all[0], all[1]
	}
	sampler := host.NewSampler(host.SamplerOptions{})
	first := sampleOf(t, sampler, pid)
	before, stood := throttled()
	until(t, func() bool {
		periods, seconds := throttled()
		return periods >= before+10 && seconds > stood
	})
	low, least := throttled()
	last := sampleOf(t, sampler, pid)
	high, most := throttled()
	within(t, "limit", last.CPULimit, 0.25, 1e-9)
	if n := last.ThrottledPeriods.Total; n < low || n > high || first.ThrottledPeriods.Total > before || !(last.ThrottledPeriods.Rate > 0) {
		t.Errorf("throttled periods %+v after %+v, another reading says %v to %v", last.ThrottledPeriods, first.ThrottledPeriods, low, high)
	}
	const rounding = 1e-6
	if s := last.ThrottledSeconds.Total; s < least-rounding || s > most+rounding || first.ThrottledSeconds.Total > stood+rounding || last.Periods.Total < last.ThrottledPeriods.Total {
		t.Errorf("throttled for %+v after %+v in periods %+v, another reading says %v to %v", last.ThrottledSeconds, first.ThrottledSeconds, last.Periods, least, most)
	}
}

// sampleOf samples a process, and returns the figures of its control group.
func sampleOf(t *testing.T, sampler *host.Sampler, pid int) host.CgroupStats {
	t.Helper()
	sampler.Watch([]host.Watched{{PID: uint32(pid), Identity: &host.Identity{Service: "a"}}})
	s := sampler.Sample()
	if len(s.Services) != 1 || len(s.Services[0].Cgroups) != 1 {
		t.Fatalf("services %+v, errors %+v", s.Services, s.Errors)
	}
	return s.Services[0].Cgroups[0]
}

// inCgroup starts a command in a control group, and ends it with the test.
func inCgroup(t *testing.T, dir, name string, args ...string) (pid int) {
	t.Helper()
	command := exec.Command(name, args...)
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		input.Close()
		command.Process.Kill()
		command.Wait()
	})
	if err := os.WriteFile(dir+"/cgroup.procs", []byte(fmt.Sprint(command.Process.Pid)), 0o644); err != nil {
		t.Skip(err)
	}
	return command.Process.Pid
}

// makeCgroup makes a group in the hierarchy that has the controller, and sets what can be set there, which is the one
// version's files or the other's.
func makeCgroup(t *testing.T, controller string, values map[string]string) string {
	t.Helper()
	for _, top := range []string{"/sys/fs/cgroup/" + controller, "/sys/fs/cgroup"} {
		dir := top + "/perfagent-test-" + controller
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			deadline := time.Now().Add(5 * time.Second)
			for os.Remove(dir) != nil && time.Now().Before(deadline) {
				time.Sleep(time.Millisecond) // polling: the child is still being taken out
			}
		})
		isSet := false
		for _, name := range slices.Sorted(maps.Keys(values)) {
			isSet = os.WriteFile(dir+"/"+name, []byte(values[name]), 0o644) == nil || isSet
		}
		if isSet {
			return dir
		}
	}
	t.Skip("no control group can be made here")
	return ""
}

// commandText is what a command prints.
func commandText(t *testing.T, name string, args ...string) string {
	t.Helper()
	command := exec.Command(name, args...)
	command.Env = append(os.Environ(), "LC_ALL=C")
	out, err := command.Output()
	if err != nil {
		t.Skipf("%s: %v", name, err)
	}
	return string(out)
}

// commandNumbers are the numbers that a command prints.
func commandNumbers(t *testing.T, name string, args ...string) (numbers []float64) {
	t.Helper()
	for _, field := range strings.Fields(commandText(t, name, args...)) {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, n)
	}
	return numbers
}
