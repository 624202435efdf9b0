package finding

import (
	"math"

	"github.com/perfagent/perfagent/internal/host"
)

const (
	// servicesMax bounds the services whose resources are followed: the first ones, in the order of their names, are the same each time.
	servicesMax = 128
	// devicesMax bounds the disks, interfaces and file systems, of each.
	devicesMax = 24
	// ranMax bounds the services whose processes are remembered: those of today and those that ended, 50 bytes a process.
	ranMax = 8 * servicesMax
)

// measure judges a value of the host, of a service or of a device.
func (e *Engine) measure(m Measure, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) || MetricOf(m.Metric) == nil {
		return
	}
	t := e.resources[m]
	if t == nil {
		if e.tracks >= e.o.Limits.Series {
			return
		}
		t = e.newTrack(m, e.groupOf(groupKey{role: roleOf(&m), service: m.Service, namespace: m.Namespace}))
		e.resources[m] = t
		t.group.resources = append(t.group.resources, t)
	}
	t.last = e.row
	e.add(t, v, 1, 0)
}

// roleOf puts what a service uses beside what it serves.
func roleOf(m *Measure) string {
	if m.Service == "" {
		return ""
	}
	return "server"
}

// forgetResources forgets what is not measured any more.
func (e *Engine) forgetResources() {
	for of, r := range e.ran {
		if e.row-r.row > idleTicks {
			delete(e.ran, of)
		}
	}
	for m, t := range e.resources {
		if e.row-t.last > idleTicks && !t.group.isOpen() {
			delete(e.resources, m)
			t.group.drop(t)
			e.tracks--
			if len(t.group.tracks) == 0 {
				delete(e.groups, t.group.key)
			}
		}
	}
}

// addSample judges the host's figures. Rates are those since the seal before, not of the last second alone.
func (e *Engine) addSample(s *host.Sample) {
	before := e.sample
	e.sample = s
	for i := range min(len(s.Services), servicesMax) {
		e.addStarts(&s.Services[i])
	}
	if before == nil || !s.Time.After(before.Time) {
		return
	}
	since := s.Time.Sub(before.Time).Seconds()
	rate := func(now, then host.Counter) float64 {
		if now.Total < then.Total {
			return math.NaN()
		}
		return (now.Total - then.Total) / since
	}
	e.addHost(s, before, rate)
	e.addDevices(s, before, rate)
	then := map[[2]string]*host.Service{}
	for i := range before.Services {
		then[[2]string{before.Services[i].Name, before.Services[i].Namespace}] = &before.Services[i]
	}
	for i := range min(len(s.Services), servicesMax) {
		now := &s.Services[i]
		if was := then[[2]string{now.Name, now.Namespace}]; was != nil {
			e.addService(now, was, rate)
		}
	}
}

type rateFunc func(now, then host.Counter) float64

func (e *Engine) addHost(s, before *host.Sample, rate rateFunc) {
	set := func(metric string, v float64) { e.measure(Measure{Metric: metric}, v) }
	if s.CPU != nil && before.CPU != nil && s.CPU.Processors > 0 {
		var sum float64
		for m := range s.CPU.Modes {
			sum += rate(s.CPU.Modes[m].Counter, before.CPU.Modes[m].Counter)
		}
		share := func(m host.CPUMode) float64 {
			return 100 * rate(s.CPU.Modes[m].Counter, before.CPU.Modes[m].Counter) / sum
		}
		set(CPUUsage, 100-share(host.CPUIdle)-share(host.CPUIOWait)-share(host.CPUSteal))
		set(CPUSteal, share(host.CPUSteal))
	}
	if m := s.Memory; m != nil && m.Total > 0 {
		set(MemoryUsage, 100*m.Used/m.Total)
	}
	if s.Paging != nil && before.Paging != nil {
		set(SwapRate, rate(s.Paging.SwapInBytes, before.Paging.SwapInBytes)+rate(s.Paging.SwapOutBytes, before.Paging.SwapOutBytes))
		set(OOMKills, rate(s.Paging.OOMKills, before.Paging.OOMKills)*e.o.Tick.Seconds())
	}
	if s.TCP != nil && before.TCP != nil {
		set(Retransmits, rate(s.TCP.RetransmittedSegments, before.TCP.RetransmittedSegments))
	}
	for _, p := range [...]struct {
		metric    string
		now, then *host.ResourcePressure
	}{{PressureCPU, s.Pressure.CPU, before.Pressure.CPU}, {PressureMemory, s.Pressure.Memory, before.Pressure.Memory},
		{PressureIO, s.Pressure.IO, before.Pressure.IO}} {
		if p.now != nil && p.then != nil {
			set(p.metric, 100*rate(p.now.Some.Seconds, p.then.Some.Seconds))
		}
	}
}

func (e *Engine) addDevices(s, before *host.Sample, rate rateFunc) {
	disks := map[string]*host.Disk{}
	for i := range before.Disks {
		disks[before.Disks[i].Device] = &before.Disks[i]
	}
	for i := range min(len(s.Disks), devicesMax) {
		now := &s.Disks[i]
		was := disks[now.Device]
		if was == nil {
			continue
		}
		set := func(metric string, v float64) { e.measure(Measure{metric, Subject{Device: now.Device}}, v) }
		set(DiskUtilisation, min(100*rate(now.BusySeconds, was.BusySeconds), 100))
		operations := now.Reads.Total - was.Reads.Total + now.Writes.Total - was.Writes.Total
		if operations >= float64(MetricOf(DiskLatency).Requests) {
			took := rate(now.ReadSeconds, was.ReadSeconds) + rate(now.WriteSeconds, was.WriteSeconds) // unknown where a counter began anew
			set(DiskLatency, 1e3*took/(rate(now.Reads, was.Reads)+rate(now.Writes, was.Writes)))
		}
		set(DiskRead, rate(now.ReadBytes, was.ReadBytes))
		set(DiskWrite, rate(now.WrittenBytes, was.WrittenBytes))
	}
	interfaces := map[string]*host.Interface{}
	for i := range before.Interfaces {
		interfaces[before.Interfaces[i].Name] = &before.Interfaces[i]
	}
	for i := range min(len(s.Interfaces), devicesMax) {
		now := &s.Interfaces[i]
		if was := interfaces[now.Name]; was != nil && !now.Virtual {
			e.measure(Measure{NetworkThroughput, Subject{Device: now.Name}}, rate(now.ReceivedBytes, was.ReceivedBytes)+rate(now.SentBytes, was.SentBytes))
		}
	}
	for i := range min(len(s.Filesystems), devicesMax) {
		if f := &s.Filesystems[i]; f.Size > 0 {
			e.measure(Measure{DiskSpaceUsed, Subject{Device: f.Mountpoint}}, 100*f.Used/f.Size)
		}
	}
}

func (e *Engine) addService(now, was *host.Service, rate rateFunc) {
	who := Subject{Service: now.Name, Namespace: now.Namespace}
	set := func(metric string, v float64) { e.measure(Measure{metric, who}, v) }
	set(CPUUsage, 100*rate(now.CPUSeconds, was.CPUSeconds))
	set(MemoryResident, now.ResidentBytes)
	set(OpenFiles, now.OpenFiles)
	set(Threads, now.Threads)
	set(DiskRead, rate(now.ReadBytes, was.ReadBytes))
	set(DiskWrite, rate(now.WrittenBytes, was.WrittenBytes))
	groups := map[string]*host.CgroupStats{}
	for i := range was.Cgroups {
		groups[was.Cgroups[i].Path] = &was.Cgroups[i]
	}
	throttled, kills := math.NaN(), 0.0
	set(MemoryLimitUsage, memoryOfLimit(now))
	for i := range now.Cgroups {
		c := &now.Cgroups[i]
		then := groups[c.Path]
		if then == nil {
			continue
		}
		if periods := c.Periods.Total - then.Periods.Total; periods > 0 {
			throttled = max(zeroIfUnknown(throttled), 100*(c.ThrottledPeriods.Total-then.ThrottledPeriods.Total)/periods)
		} else if periods == 0 && !math.IsInf(c.CPULimit, 1) {
			throttled = zeroIfUnknown(throttled)
		}
		if n := c.OOMKills.Total - then.OOMKills.Total; n > 0 {
			kills += n
		}
	}
	set(CPUThrottling, throttled)
	set(OOMKills, kills)
}

// memoryOfLimit is how much of the memory is used that the fullest control group of a service may use, in percent; NaN where none has a limit.
// What its processes do not hold is page cache, which gives way.
func memoryOfLimit(s *host.Service) float64 {
	most := math.NaN()
	for i := range s.Cgroups {
		c := &s.Cgroups[i]
		if used := 100 * min(c.MemoryBytes, s.ResidentBytes) / c.MemoryLimitBytes; used > 0 && !(used <= most) {
			most = used
		}
	}
	return most
}

func zeroIfUnknown(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

// ran is what of a service was seen to run last.
type ran struct {
	processes map[process]bool
	row       int64
}

type process struct {
	pid   uint32
	start float64
}

// addStarts counts the processes of a service that were not there when it was seen last: between two versions it may be away for a while.
func (e *Engine) addStarts(now *host.Service) {
	of := Subject{Service: now.Name, Namespace: now.Namespace}
	last := e.ran[of]
	if last == nil && len(e.ran) >= ranMax {
		return
	}
	running := &ran{make(map[process]bool, len(now.Processes)), e.row}
	n := 0
	for i := range now.Processes {
		p := process{now.Processes[i].PID, now.Processes[i].StartSeconds}
		running.processes[p] = true
		if last != nil && !last.processes[p] {
			n++
		}
	}
	e.ran[of] = running
	if last != nil {
		e.measure(Measure{ProcessStarts, of}, float64(n))
	}
}
