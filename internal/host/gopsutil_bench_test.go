package host

import (
	"testing"
	"time"

	gopsutilcpu "github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/disk"
	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/mem"
	gopsutilnet "github.com/shirou/gopsutil/v3/net"
	gopsutilprocess "github.com/shirou/gopsutil/v3/process"
)

// BenchmarkReaders compares what gopsutil's calls cost with this package's readers of the same files: what decides which
// of them a sample uses.
func BenchmarkReaders(b *testing.B) {
	files := newFileReader("")
	var cpu cpuReader
	var disks diskReader
	var network networkReader
	reader := newGopsutilReader("")
	self, _ := gopsutilprocess.NewProcess(1)
	w := watcher{pageSize: pageSize(), fileSizes: true}
	s := NewSampler(SamplerOptions{})
	p := &processState{Watched: Watched{1, &Identity{}}, dir: "/proc/1"}
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"cpu/own", func() { cpu.read(&files, 1) }},
		{"cpu/gopsutil", func() { gopsutilcpu.Times(false) }},
		{"memory/own", func() { readMemory(&files, 1) }},
		{"memory/gopsutil", func() { mem.VirtualMemory() }},
		{"disk/own", func() { disks.read(&files, 1) }},
		{"disk/gopsutil", func() { disk.IOCounters() }},
		{"network/own", func() { network.read(&files, 1) }},
		{"network/gopsutil", func() { gopsutilnet.IOCounters(true) }},
		{"load/gopsutil", func() { load.Avg() }},
		{"filesystems/gopsutil", func() { reader.filesystems() }},
		{"info/gopsutil", func() { reader.info() }},
		{"process/own", func() { w.read(s, p, time.Now()) }},
		{"process/gopsutil", func() {
			self.Times()
			self.MemoryInfo()
			self.NumThreads()
			self.NumFDs()
			self.IOCounters()
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.run()
			}
		})
	}
}
