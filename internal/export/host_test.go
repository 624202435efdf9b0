package export

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
)

// sampleOfHost is one with everything in it; figures that a test does not tell apart are the same.
func sampleOfHost() *host.Sample {
	c := host.Counter{Total: 12.5, Rate: 1}
	unknown := host.Counter{Total: host.Unknown, Rate: host.Unknown}
	cpu := &host.CPU{Processors: 2}
	for m := range cpu.Modes {
		cpu.Modes[m].Counter = host.Counter{Total: float64(m) + 0.25}
	}
	stall := host.Stall{Avg10: 12.5, Avg60: 1, Seconds: c}
	return &host.Sample{
		Time: time.Unix(1_700_000_000, 0), Number: 7, CPUSeconds: 0.003, Watched: 3,
		Info: host.Info{Kernel: "6.1.0-28-amd64", Boot: time.Unix(1_600_000_000, 0)},
		CPU:  cpu, Load: &host.Load{One: 1, Five: 5, Fifteen: 15},
		Memory:      &host.Memory{Total: 8 << 30, Available: 6 << 30, Used: 2 << 30, SwapTotal: 1 << 30, SwapUsed: 5},
		Paging:      &host.Paging{MajorFaults: c, SwapInBytes: c, SwapOutBytes: c, OOMKills: unknown},
		Filesystems: []host.Filesystem{{Device: "/dev/sda1", Mountpoint: "/a\xff\x1b[2J\"b", Type: "ext4", Size: 10, Used: 6, Available: 3, Files: 100, FilesFree: 50}},
		Disks: []host.Disk{
			{Device: "sda", Reads: c, Writes: c, ReadBytes: c, WrittenBytes: c, ReadSeconds: c, WriteSeconds: c, BusySeconds: c, InFlight: 2},
			{Device: "dm-0", Stacked: true},
		},
		Interfaces: []host.Interface{
			{Name: "lo", Loopback: true, ReceivedBytes: c, SentBytes: c},
			{Name: "eth0", ReceivedBytes: c, SentBytes: c, ReceivedPackets: c, SentPackets: c, ReceiveErrors: c, TransmitErrors: c, ReceivesDropped: c, TransmitsDropped: c},
		},
		TCP:     &host.TCP{Established: 5, ListenOverflows: c, ListenDrops: c, RetransmittedSegments: c, ZeroWindows: unknown},
		Sockets: &host.Sockets{InUse: 9, TimeWait: 3, Orphaned: 1, Memory: 8192},
		Pressure: host.Pressure{
			CPU: &host.ResourcePressure{Some: stall},
			IO:  &host.ResourcePressure{Some: stall, Full: &stall},
		},
		Services: []host.Service{
			{
				Name: "shop", Processes: []host.Process{{PID: 1, OpenFilesMax: 1024, StartSeconds: 70}, {PID: 2, OpenFilesMax: 512, StartSeconds: 60}},
				CPUSeconds: c, ResidentBytes: 4096, Threads: 12, OpenFiles: 30, OpenFilesUsed: 0.05, ReadBytes: c, WrittenBytes: c,
				VoluntarySwitches: c, InvoluntarySwitches: c,
				Cgroups: []host.CgroupStats{
					{Path: "/system.slice/shop.service", CPUSeconds: c, CPULimit: math.Inf(1), Periods: unknown, ThrottledPeriods: unknown, ThrottledSeconds: unknown,
						MemoryBytes: 4096, MemoryLimitBytes: math.Inf(1), OOMKills: c, ReadBytes: unknown, WrittenBytes: unknown, Tasks: 5, TasksLimit: 4915},
					{Path: "/docker/" + strings.Repeat("a", 64), ContainerID: strings.Repeat("a", 64), CPUSeconds: c, CPULimit: 1.5, Periods: c, ThrottledPeriods: c, ThrottledSeconds: c,
						MemoryBytes: 4096, MemoryLimitBytes: 1 << 20, OOMKills: c, ReadBytes: c, WrittenBytes: c, Tasks: 5, TasksLimit: math.Inf(1)},
				},
			},
			{Name: "shop", Namespace: "prod", Processes: []host.Process{{PID: 3, OpenFilesMax: math.Inf(1)}}, CPUSeconds: c, OpenFiles: host.Unknown,
				OpenFilesUsed: host.Unknown, ReadBytes: unknown, WrittenBytes: unknown, VoluntarySwitches: unknown, InvoluntarySwitches: unknown},
		},
		Errors: []host.SourceErrors{{Source: "pressure_memory", Count: 2, Last: "x"}},
	}
}

func hostMetrics(t testing.TB, s *host.Sample) []byte {
	t.Helper()
	o := collectorOptions(analytics.NewEngine(analytics.Options{Now: newClock().now}))
	o.Host = func() *host.Sample { return s }
	m, err := NewMetrics(MetricsOptions{CollectorOptions: o, WithoutRuntime: true})
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for line := range bytes.Lines(scrape(t, m, "").Body.Bytes()) {
		if bytes.Contains(line, []byte("perfagent_host_")) || bytes.Contains(line, []byte("perfagent_service_")) {
			out = append(out, line...)
		}
	}
	return out
}

// The text of the host's and the services' metrics is exactly the golden file. UPDATE_GOLDEN=1 writes it anew.
func TestHostMetricsGolden(t *testing.T) {
	got := hostMetrics(t, sampleOfHost())
	const name = "testdata/host.txt"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs:\n%s", name, got)
	}
}

// Prometheus' linters have nothing to say.
func TestHostMetricsLint(t *testing.T) {
	text := hostMetrics(t, sampleOfHost())
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed")
	}
	c := exec.Command(promtool, "check", "metrics")
	c.Stdin = bytes.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// What could not be read, does not exist, or has no bound has no series; nothing has before the first sample.
func TestHostMetricsAbsent(t *testing.T) {
	if text := hostMetrics(t, nil); len(text) > 0 {
		t.Errorf("before the first sample:\n%s", text)
	}
	s := &host.Sample{Number: 1}
	for line := range strings.Lines(string(hostMetrics(t, s))) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "perfagent_host_sample") && !strings.HasPrefix(line, "perfagent_host_watched_processes ") {
			t.Errorf("nothing was read, but there is %s", line)
		}
	}
	text := string(hostMetrics(t, sampleOfHost()))
	for _, absent := range []string{"oom_kills_total 0", "NaN", "Inf", `kind="full",resource="cpu"`, `resource="memory"`, `perfagent_host_tcp_zero_windows_total `} {
		if strings.Contains(text, absent) {
			t.Errorf("there is %q", absent)
		}
	}
}

// Names that only differ in how a byte is written stay two, so that nobody can make a scrape fail by naming a control group.
func TestHostLabelsStayApart(t *testing.T) {
	seen := map[string]string{}
	for _, v := range []string{"/x\xff", `/x\xff`, `"/x\xff"`, "/x", `"/x"`, "/a\x1bb", `/a\x1bb`} {
		label := analytics.FigureLabel(v)
		if before, ok := seen[label]; ok {
			t.Errorf("%q and %q are both %q", before, v, label)
		}
		seen[label] = v
	}
}
