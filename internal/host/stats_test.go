package host_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/host"
)

// fakeTime is a clock that a test moves, and the host's age with it.
type fakeTime struct {
	now  time.Time
	boot float64 // seconds
}

func (t *fakeTime) advance(d time.Duration) {
	t.now = t.now.Add(d)
	t.boot += d.Seconds()
}

// sampledHost is a fakeHost with a sampler.
type sampledHost struct {
	*fakeHost
	*fakeTime
	*host.Sampler
}

func newSampledHost(t testing.TB) *sampledHost {
	h := newFakeHost(t)
	clock := &fakeTime{time.Unix(1_700_000_000, 0), 1000}
	h.writeHost(0)
	for _, name := range []string{"proc/filesystems", "proc/1/mountinfo", "proc/self/mountinfo"} {
		h.write(name, "")
	}
	return &sampledHost{h, clock, host.NewSampler(host.SamplerOptions{
		Root: h.root, Now: func() time.Time { return clock.now }, BootSeconds: func() float64 { return clock.boot },
	})}
}

// after takes the sample of a later time.
func (h *sampledHost) after(d time.Duration) *host.Sample {
	h.advance(d)
	return h.Sample()
}

// writeHost writes what belongs to no process, step steps after the start.
func (h *fakeHost) writeHost(step int) {
	for name, content := range hostFiles(step) {
		h.write(name, content)
	}
}

// hostFiles are the files of a host whose every counter grows by one unit a step, or as the values say.
func hostFiles(step int) map[string]string {
	return map[string]string{
		// A step: 100 ticks user of which 40 are a guest's, 20 nice, 30 system, 25 idle, 15 iowait, 5 irq, 3 softirq, 2 steal.
		"proc/stat": fmt.Sprintf("cpu  %d %d %d %d %d %d %d %d %d 0\ncpu0 1 2 3 4\ncpu1 1 2 3 4\nintr 5 6\nctxt 7\n",
			1000+100*step, 100+20*step, 200+30*step, 5000+25*step, 10+15*step, 5*step, 3*step, 2*step, 40*step),
		"proc/loadavg": "0.50 1.25 2.00 1/100 1234\n",
		"proc/meminfo": "MemTotal:        8000 kB\nMemFree:         1000 kB\nMemAvailable:    6000 kB\nBuffers: 1 kB\nSwapCached: 0 kB\n" +
			"SwapTotal:       4000 kB\nSwapFree:        3000 kB\nHugePages_Total: 0\n",
		"proc/vmstat": fmt.Sprintf("nr_free_pages 1\npswpin %d\npswpout %d\npgfault 1\npgmajfault %d\noom_kill %d\n", step, 2*step, 3*step, step),
		"proc/diskstats": fmt.Sprintf("   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"+
			"   8       0 sda %d 0 %d %d %d 0 %d %d 2 %d 0 0 0 0 0 0 0\n   8       1 sda1 9 9 9 9 9 9 9 9 9 9 9\n"+
			" 253       0 dm-0 5 0 5 5 5 0 5 5 0 5 5\n",
			100+10*step, 1000+80*step, 500+50*step, 200+20*step, 2000+160*step, 700+400*step, 300+250*step),
		"sys/block/loop0/size":             "0\n",
		"sys/block/sda/size":               "1\n",
		"sys/block/dm-0/slaves/sda1/start": "1\n",
		"proc/1/net/dev": "Inter-|   Receive                                                |  Transmit\n" +
			" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
			fmt.Sprintf("    lo: %d 10 0 0 0 0 0 0 %d 10 0 0 0 0 0 0\n  eth0:%d %d %d %d 0 0 0 0 %d %d %d %d 0 0 0 0\n", 500+step, 500+step,
				1000*step, 10*step, 1*step, 2*step, 2000*step, 20*step, 3*step, 4*step),
		"sys/class/net/lo/type":   "772\n",
		"sys/class/net/eth0/type": "1\n",
		"proc/1/net/snmp": "Ip: Forwarding DefaultTTL\nIp: 1 64\n" +
			"Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts\n" +
			fmt.Sprintf("Tcp: 1 200 120000 -1 %d %d 3 4 5 6 %d %d 0 %d\n", 10+step, 20+2*step, 1000*step, 7*step, 2*step),
		"proc/1/net/netstat": "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPWantZeroWindowAdv\n" +
			fmt.Sprintf("TcpExt: 0 %d %d %d\n", 3*step, 4*step, 5*step) + "IpExt: InNoRoutes\nIpExt: 0\n",
		"proc/1/net/sockstat":  "sockets: used 20\nTCP: inuse 7 orphan 1 tw 3 alloc 9 mem 2\nUDP: inuse 1 mem 0\n",
		"proc/1/net/sockstat6": "TCP6: inuse 2\nUDP6: inuse 0\n",
		"proc/pressure/cpu":    pressureFile(step, true),
		"proc/pressure/memory": pressureFile(step, true),
		"proc/pressure/io":     pressureFile(step, true),
	}
}

func pressureFile(step int, full bool) string {
	text := fmt.Sprintf("some avg10=1.50 avg60=0.25 avg300=0.00 total=%d\n", 500_000*step)
	if full {
		text += fmt.Sprintf("full avg10=12.07 avg60=0.10 avg300=0.00 total=%d\n", 250_000*step)
	}
	return text
}

// near tells whether two figures are the same but for rounding; Unknown equals Unknown.
func near(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b))
}

// expect compares figures by name.
func expect(t *testing.T, rows ...figure) {
	t.Helper()
	for _, row := range rows {
		if !near(row.got, row.want) {
			t.Errorf("%s is %v, expected %v", row.name, row.got, row.want)
		}
	}
}

type figure struct {
	name      string
	got, want float64
}

func counter(name string, got host.Counter, total, rate float64) figure {
	if near(got.Total, total) && near(got.Rate, rate) {
		return figure{name, 0, 0}
	}
	return figure{fmt.Sprintf("%s (total %v, expected %v): rate", name, got.Total, total), got.Rate, math.Copysign(math.Inf(1), 1)}
}

// Shows every figure of the host, from two readings two seconds apart.
func TestHostFigures(t *testing.T) {
	h := newSampledHost(t)
	first := h.Sample()
	if first.Interval != 0 || host.Known(first.CPU.Modes[host.CPUUser].Rate) || host.Known(first.CPU.BusyPercent()) || host.Known(first.Disks[0].ReadLatency()) {
		t.Error("the first sample has rates")
	}
	h.writeHost(1)
	s := h.after(2 * time.Second)
	if len(s.Errors) > 0 {
		t.Fatalf("errors: %+v", s.Errors)
	}
	if s.Interval != 2*time.Second || s.Number != 2 || h.Latest() != s || s.CPUSeconds <= 0 {
		t.Errorf("interval %v, number %d, cost %v s", s.Interval, s.Number, s.CPUSeconds)
	}
	// 200 ticks in all, so that one tick is half a percent.
	for mode, want := range map[host.CPUMode][2]float64{
		host.CPUUser: {10.60, 30}, host.CPUNice: {1.20, 10}, host.CPUSystem: {2.30, 15}, host.CPUIdle: {50.25, 12.5},
		host.CPUIOWait: {0.25, 7.5}, host.CPUIRQ: {0.05, 2.5}, host.CPUSoftIRQ: {0.03, 1.5}, host.CPUSteal: {0.02, 1}, host.CPUGuest: {0.40, 20},
	} {
		expect(t, figure{mode.String(), s.CPU.Modes[mode].Total, want[0]}, figure{mode.String() + " percent", s.CPU.Modes[mode].Percent, want[1]})
	}
	lo, eth0, sda, dm := s.Interfaces[0], s.Interfaces[1], s.Disks[0], s.Disks[1]
	if s.CPU.Processors != 2 || lo.Name != "lo" || !lo.Loopback || eth0.Name != "eth0" || eth0.Loopback || len(s.Interfaces) != 2 {
		t.Errorf("%d processors, interfaces %+v", s.CPU.Processors, s.Interfaces)
	}
	if len(s.Disks) != 2 || sda.Device != "sda" || sda.Stacked || dm.Device != "dm-0" || !dm.Stacked {
		t.Errorf("disks %+v", s.Disks)
	}
	const kB, page = 1024, 4096
	expect(t,
		figure{"busy", s.CPU.BusyPercent(), 79},
		figure{"load1", s.Load.One, 0.5}, figure{"load5", s.Load.Five, 1.25}, figure{"load15", s.Load.Fifteen, 2},
		figure{"memory", s.Memory.Total, 8000 * kB}, figure{"available", s.Memory.Available, 6000 * kB}, figure{"used", s.Memory.Used, 2000 * kB},
		figure{"swap", s.Memory.SwapTotal, 4000 * kB}, figure{"swap used", s.Memory.SwapUsed, 1000 * kB},
		counter("swap in", s.Paging.SwapInBytes, page, page/2), counter("swap out", s.Paging.SwapOutBytes, 2*page, page),
		counter("major faults", s.Paging.MajorFaults, 3, 1.5), counter("oom kills", s.Paging.OOMKills, 1, 0.5),
		counter("reads", sda.Reads, 110, 5), counter("writes", sda.Writes, 220, 10),
		counter("read bytes", sda.ReadBytes, 1080*512, 40*512), counter("written bytes", sda.WrittenBytes, 2160*512, 80*512),
		counter("read time", sda.ReadSeconds, 0.55, 0.025), counter("write time", sda.WriteSeconds, 1.1, 0.2),
		counter("busy time", sda.BusySeconds, 0.55, 0.125), figure{"in flight", sda.InFlight, 2},
		figure{"read latency", sda.ReadLatency(), 0.005}, figure{"write latency", sda.WriteLatency(), 0.02},
		figure{"latency without operations", dm.ReadLatency(), host.Unknown},
		counter("lo", lo.ReceivedBytes, 501, 0.5),
		counter("received", eth0.ReceivedBytes, 1000, 500), counter("received packets", eth0.ReceivedPackets, 10, 5),
		counter("receive errors", eth0.ReceiveErrors, 1, 0.5), counter("receive drops", eth0.ReceivesDropped, 2, 1),
		counter("sent", eth0.SentBytes, 2000, 1000), counter("sent packets", eth0.SentPackets, 20, 10),
		counter("transmit errors", eth0.TransmitErrors, 3, 1.5), counter("transmit drops", eth0.TransmitsDropped, 4, 2),
		figure{"established", s.TCP.Established, 5}, counter("active opens", s.TCP.ActiveOpens, 11, 0.5), counter("passive opens", s.TCP.PassiveOpens, 22, 1),
		counter("retransmits", s.TCP.RetransmittedSegments, 7, 3.5), counter("sent segments", s.TCP.SentSegments, 1000, 500),
		counter("resets", s.TCP.SentResets, 2, 1), counter("overflows", s.TCP.ListenOverflows, 3, 1.5), counter("drops", s.TCP.ListenDrops, 4, 2),
		counter("zero windows wanted", s.TCP.WantedZeroWindow, 5, 2.5), counter("not in this kernel", s.TCP.ZeroWindows, host.Unknown, host.Unknown),
		figure{"sockets", s.Sockets.InUse, 9}, figure{"time wait", s.Sockets.TimeWait, 3}, figure{"orphans", s.Sockets.Orphaned, 1}, figure{"buffers", s.Sockets.Memory, 2 * page},
		figure{"avg10", s.Pressure.IO.Some.Avg10, 1.5}, figure{"avg60", s.Pressure.IO.Some.Avg60, 0.25}, figure{"full avg10", s.Pressure.IO.Full.Avg10, 12.07},
		counter("io some", s.Pressure.IO.Some.Seconds, 0.5, 0.25), counter("io full", s.Pressure.IO.Full.Seconds, 0.25, 0.125),
		counter("memory full", s.Pressure.Memory.Full.Seconds, 0.25, 0.125),
	)
	if s.Pressure.CPU.Full != nil {
		t.Error("there is no full pressure on processors, but the kernel's zeros are shown as one")
	}
}

// Shows that counters follow a device that is taken away and comes back with counters from 0, without a rate that never
// was, and that processors' times never go back.
func TestCountersThatGoBack(t *testing.T) {
	h := newSampledHost(t)
	h.writeHost(5)
	h.Sample()
	h.writeHost(2)
	s := h.after(time.Second)
	expect(t, counter("received", s.Interfaces[1].ReceivedBytes, 2000, host.Unknown), figure{"idle", s.CPU.Modes[host.CPUIdle].Total, 51.25},
		counter("overflows", s.TCP.ListenOverflows, 6, host.Unknown))
	files := hostFiles(3)
	h.write("proc/1/net/dev", strings.ReplaceAll(files["proc/1/net/dev"], "eth0", "eth1"))
	s = h.after(time.Second)
	expect(t, counter("new", s.Interfaces[1].ReceivedBytes, 3000, host.Unknown))
	h.write("proc/1/net/dev", hostFiles(4)["proc/1/net/dev"])
	s = h.after(time.Second)
	expect(t, counter("back", s.Interfaces[1].ReceivedBytes, 4000, host.Unknown))
}

// Shows that a file which is missing, or holds anything else, costs its own figures only, is counted, is left alone for a
// while, and is read again.
func TestBrokenSources(t *testing.T) {
	for _, c := range []struct {
		file, source string
		isAbsent     func(*host.Sample) bool
	}{
		{"proc/stat", "cpu", func(s *host.Sample) bool { return s.CPU == nil }},
		{"proc/meminfo", "memory", func(s *host.Sample) bool { return s.Memory == nil }},
		{"proc/vmstat", "paging", func(s *host.Sample) bool { return s.Paging == nil }},
		{"proc/diskstats", "disk", func(s *host.Sample) bool { return s.Disks == nil }},
		{"proc/1/net/dev", "network", func(s *host.Sample) bool { return s.Interfaces == nil }},
		{"proc/1/net/snmp", "tcp", func(s *host.Sample) bool { return s.TCP == nil }},
		{"proc/1/net/netstat", "tcp", func(s *host.Sample) bool { return s.TCP == nil }},
		{"proc/1/net/sockstat", "sockets", func(s *host.Sample) bool { return s.Sockets == nil }},
		{"proc/pressure/cpu", "pressure_cpu", func(s *host.Sample) bool { return s.Pressure.CPU == nil }},
		{"proc/pressure/memory", "pressure_memory", func(s *host.Sample) bool { return s.Pressure.Memory == nil }},
		{"proc/pressure/io", "pressure_io", func(s *host.Sample) bool { return s.Pressure.IO == nil }},
	} {
		for _, content := range []string{"missing", "garbage \x00\xff 12\nx y z\n", "a: b c d e f g h i j k l m\n1 2 3 -4 5 6 7 8 9 10 11 12 13\n"} {
			t.Run(c.file+"/"+strings.Fields(content)[0], func(t *testing.T) {
				h := newSampledHost(t)
				if content == "missing" {
					h.delete(c.file)
				} else {
					h.write(c.file, content)
				}
				s := h.Sample()
				if !c.isAbsent(s) || len(s.Errors) != 1 || s.Errors[0].Source != c.source || s.Errors[0].Count != 1 || s.Errors[0].Last == "" {
					t.Fatalf("absent: %v, errors %+v", c.isAbsent(s), s.Errors)
				}
				h.writeHost(1)
				if s := h.after(time.Second); !c.isAbsent(s) || s.Errors[0].Count != 1 {
					t.Errorf("read again at once; errors %+v", s.Errors)
				}
				if s := h.after(time.Minute); c.isAbsent(s) || s.Errors[0].Count != 1 {
					t.Errorf("not read again; errors %+v", s.Errors)
				}
			})
		}
	}
}

// Shows that the agent's own network namespace stands in where process 1's cannot be seen.
func TestNetworkWithoutInit(t *testing.T) {
	h := newFakeHost(t)
	h.writeHost(1)
	for _, file := range []string{"dev", "snmp", "netstat", "sockstat", "sockstat6"} {
		h.write("proc/net/"+file, hostFiles(1)["proc/1/net/"+file])
	}
	h.delete("proc/1")
	s := host.NewSampler(host.SamplerOptions{Root: h.root}).Sample()
	if len(s.Interfaces) != 2 || s.TCP == nil || s.Sockets == nil {
		t.Errorf("interfaces %+v, TCP %+v, sockets %+v", s.Interfaces, s.TCP, s.Sockets)
	}
}

// Shows load averages that cannot be read: gopsutil, which reads them, answers for this machine instead or panics.
func TestNoLoad(t *testing.T) {
	h := newSampledHost(t)
	h.delete("proc/loadavg")
	if s := h.Sample(); s.Load != nil || s.Errors[0].Source != "load" {
		t.Errorf("load %+v, errors %+v", s.Load, s.Errors)
	}
	h.write("proc/loadavg", "")
	if s := h.after(time.Minute); s.Load != nil || s.Errors[0].Count != 2 {
		t.Errorf("load %+v, errors %+v", s.Load, s.Errors)
	}
}

// Shows which file systems are looked at: each device once, where all of it is seen, and none that is full by nature or on
// the network.
func TestFilesystems(t *testing.T) {
	h := newSampledHost(t)
	h.write("proc/filesystems", "nodev\tproc\nnodev\ttmpfs\nnodev\tnfs\n\text4\n\txfs\n\tsquashfs\n")
	h.write("proc/1/mountinfo", `1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:1 /var/lib /mnt rw - ext4 /dev/sda1 rw
3 1 0:20 / /proc rw - proc proc rw
4 1 8:2 / /data rw - xfs /dev/sdb1 rw
5 1 8:2 / /a/longer/path rw - xfs /dev/sdb1 rw
6 1 7:1 / /snap/core rw - squashfs /dev/loop1 rw
7 1 0:40 / /home rw - nfs server:/home rw
8 1 8:3 / /gone rw - ext4 /dev/sdc1 rw
`)
	h.write("data/x", "")
	var s *host.Sample
	until(t, func() bool { s = h.after(time.Second); return s.Filesystems != nil })
	var found []string
	for _, f := range s.Filesystems {
		found = append(found, f.Device+" "+f.Mountpoint+" "+f.Type)
		if !(f.Size > 0) || !(f.Used+f.Available <= f.Size) || !(f.FilesFree <= f.Files) {
			t.Errorf("figures %+v", f)
		}
	}
	if want := []string{"/dev/sda1 / ext4", "/dev/sdb1 /data xfs"}; !slices.Equal(found, want) {
		t.Errorf("found %q, expected %q", found, want)
	}
	if len(s.Errors) != 1 || s.Errors[0].Source != "filesystem" || !strings.Contains(s.Errors[0].Last, "/gone") {
		t.Errorf("errors %+v", s.Errors)
	}
	h.write("proc/1/mountinfo", "1 0 8:1 / - ext4\n")
	until(t, func() bool { s = h.after(11 * time.Second); return s.Filesystems == nil })
}

// Shows that the sampler samples until it is told to stop.
func TestRun(t *testing.T) {
	sampler := host.NewSampler(host.SamplerOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { sampler.Run(ctx); close(done) }()
	until(t, func() bool { s := sampler.Latest(); return s != nil && s.Number >= 2 })
	cancel()
	<-done
	if s := sampler.Latest(); s.Interval < 900*time.Millisecond {
		t.Errorf("interval %v", s.Interval)
	}
}

func (h *fakeHost) delete(name string) {
	h.t.Helper()
	removeAll(h.t, filepath.Join(h.root, name))
}
