package host_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/perfagent/perfagent/internal/host"
)

// BenchmarkSample is what one sample of this host costs with ten services watched: at one a second the limit is 5 ms.
func BenchmarkSample(b *testing.B) {
	list := children(b, 9)
	list = append(list, host.Watched{PID: uint32(os.Getpid()), Identity: &host.Identity{Service: "test"}})
	sampler := host.NewSampler(host.SamplerOptions{})
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
}

// children starts idle processes, each of a service of its own, and ends them with the test.
func children(t testing.TB, n int) (list []host.Watched) {
	t.Helper()
	for i := range n {
		command := exec.Command("cat")
		input, err := command.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			input.Close()
			command.Wait()
		})
		list = append(list, host.Watched{PID: uint32(command.Process.Pid), Identity: &host.Identity{Service: string(rune('a' + i))}})
	}
	return list
}
