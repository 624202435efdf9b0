package host_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/host"
)

// BenchmarkSample is what one sample of this host costs with ten services watched, as the agent does it each second: the
// limit is 5 ms. Time passes by a second a sample, so that all that is read more seldom has its share.
func BenchmarkSample(b *testing.B) {
	for _, c := range []struct {
		name    string
		command []string
		groups  bool // each in a control group of its own
	}{
		{"threads=1", []string{"cat"}, false},
		{"threads=1,groups=10", []string{"cat"}, true},
		{"threads=20", []string{"python3", "-c", "import threading, sys\nfor _ in range(19): threading.Thread(target=threading.Event().wait, daemon=True).start()\nprint(flush=True)\nsys.stdin.read()"}, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			list := children(b, 10, c.command)
			if c.groups {
				separate(b, list)
			}
			now := time.Now()
			sampler := host.NewSampler(host.SamplerOptions{Now: func() time.Time { now = now.Add(time.Second); return now }})
			sampler.Watch(list)
			sampler.Sample()
			before := sampler.Latest().CPUSeconds
			b.ReportAllocs()
			for b.Loop() {
				sampler.Sample()
			}
			sample := sampler.Latest()
			if sample.Watched != len(list) {
				b.Fatalf("%d of %d processes were read", sample.Watched, len(list))
			}
			b.ReportMetric((sample.CPUSeconds-before)*1e9/float64(b.N), "cpu-ns/op")
		})
	}
}

// children starts idle processes, each of a service of its own, waits until they have threads, and ends them with the test.
func children(t testing.TB, n int, command []string) (list []host.Watched) {
	t.Helper()
	for i := range n {
		child := exec.Command(command[0], command[1:]...)
		input, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		output, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() {
			input.Close()
			child.Wait()
		})
		input.Write([]byte("\n"))
		output.Read(make([]byte, 1))
		list = append(list, host.Watched{PID: uint32(child.Process.Pid), Identity: &host.Identity{Service: string(rune('a' + i))}})
	}
	return list
}

// separate puts each process into a control group of its own, in every hierarchy that there is, until the end of the test.
func separate(t testing.TB, list []host.Watched) {
	t.Helper()
	tops, _ := filepath.Glob("/sys/fs/cgroup/cgroup.procs")
	if len(tops) == 0 {
		tops, _ = filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	}
	for _, top := range tops {
		for _, w := range list {
			dir := fmt.Sprintf("%s/perfagent-bench-%d", filepath.Dir(top), w.PID)
			pid := []byte(fmt.Sprint(w.PID))
			if os.Mkdir(dir, 0o755) != nil {
				continue
			}
			t.Cleanup(func() {
				os.WriteFile(top, pid, 0o644)
				os.Remove(dir)
			})
			os.WriteFile(dir+"/cgroup.procs", pid, 0o644) // cpuset refuses, and is not read
		}
	}
}
