package main

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/host"
)

// What the sampler knows is shown with its unit, and what it does not know is absent: never a zero, never NaN.
func TestSystemNow(t *testing.T) {
	var sample *host.Sample
	latest := func() *host.Sample { return sample }
	if s := systemNow(latest)(); s != nil {
		t.Errorf("before the first sample: %+v", s)
	}
	u := math.NaN()
	unknown := host.Counter{Total: 1, Rate: u}
	cpu := &host.CPU{Processors: 2}
	for m := range cpu.Modes {
		cpu.Modes[m].Percent = u
	}
	sample = &host.Sample{Time: time.Unix(7, 0).UTC(), CPU: cpu, Memory: &host.Memory{Total: 4e9, Available: 1e9, Used: 3e9},
		Disks: []host.Disk{{Device: "a", ReadBytes: host.Counter{Rate: 1_234_567}, WrittenBytes: unknown}, {Device: "b", Stacked: true, ReadBytes: host.Counter{Rate: 9e6}},
			{Device: "new", ReadBytes: unknown, WrittenBytes: unknown, BusySeconds: unknown}},
		Interfaces: []host.Interface{{Name: "eth0", ReceivedBytes: host.Counter{Rate: 3e6}, SentBytes: unknown},
			{Name: "docker0", Virtual: true, ReceivedBytes: host.Counter{Rate: 3e6}}, {Name: "lo", Loopback: true, ReceivedBytes: host.Counter{Rate: 3e6}}},
		Services: []host.Service{{Name: "shop", Namespace: "n", ResidentBytes: 5e6, Threads: 3, OpenFiles: u, OpenFilesUsed: u, CPUSeconds: host.Counter{Rate: 1.5},
			ReadBytes: unknown, WrittenBytes: unknown, InvoluntarySwitches: unknown,
			Cgroups: []host.CgroupStats{{MemoryBytes: 30, MemoryLimitBytes: 40}, {MemoryBytes: 90, MemoryLimitBytes: math.Inf(1)}}}},
	}
	show := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	want := `{"time":"1970-01-01T00:00:07Z","cpu_count":2,"memory_total_mb":4000,"memory_available_mb":1000,"memory_used_percent":75,` +
		`"swap_total_mb":0,"swap_used_mb":0,"disk_read_mb_per_second":1.235,"disk_busy_percent":0,"network_receive_mb_per_second":3}`
	if got := show(systemNow(latest)()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	want = `{"processes":0,"cpu_percent":150,"memory_resident_mb":5,"threads":3,"memory_limit_used_percent":75}`
	if got := show(resourcesNow(latest)("shop", "n")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r := resourcesNow(latest)("shop", ""); r != nil {
		t.Errorf("of another namespace: %+v", r)
	}
}
