package main

import (
	"math"
	"slices"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
)

const megabyte = 1e6

// systemNow is the host as the sampler saw it last, nil before it did.
func systemNow(latest func() *host.Sample) func() *analytics.System {
	return func() *analytics.System {
		sample := latest()
		if sample == nil {
			return nil
		}
		s := &analytics.System{Time: &sample.Time}
		setCPU(s, sample.CPU)
		if l := sample.Load; l != nil {
			s.Load1, s.Load5, s.Load15 = figure(l.One), figure(l.Five), figure(l.Fifteen)
		}
		if m := sample.Memory; m != nil {
			s.MemoryTotalMB, s.MemoryAvailableMB = figure(m.Total/megabyte), figure(m.Available/megabyte)
			s.MemoryUsedPercent = figure(100 * m.Used / m.Total)
			s.SwapTotalMB, s.SwapUsedMB = figure(m.SwapTotal/megabyte), figure(m.SwapUsed/megabyte)
		}
		setPressure(s, &sample.Pressure)
		setDevices(s, sample)
		if t := sample.TCP; t != nil {
			s.TCPRetransmitsPerSecond, s.TCPConnections = figure(t.RetransmittedSegments.Rate), figure(t.Established)
		}
		return s
	}
}

func setCPU(s *analytics.System, c *host.CPU) {
	if c == nil {
		return
	}
	s.CPUCount, s.CPUPercent = &c.Processors, figure(c.BusyPercent())
	s.CPUUserPercent = figure(c.Modes[host.CPUUser].Percent + c.Modes[host.CPUNice].Percent)
	s.CPUSystemPercent = figure(c.Modes[host.CPUSystem].Percent + c.Modes[host.CPUIRQ].Percent + c.Modes[host.CPUSoftIRQ].Percent)
	s.CPUIOWaitPercent, s.CPUStealPercent = figure(c.Modes[host.CPUIOWait].Percent), figure(c.Modes[host.CPUSteal].Percent)
}

func setPressure(s *analytics.System, p *host.Pressure) {
	if p.CPU != nil {
		s.PressureCPUSomePercent = figure(p.CPU.Some.Avg10)
	}
	if p.Memory != nil {
		s.PressureMemorySomePercent = figure(p.Memory.Some.Avg10)
		if p.Memory.Full != nil {
			s.PressureMemoryFullPercent = figure(p.Memory.Full.Avg10)
		}
	}
	if p.IO != nil {
		s.PressureIOSomePercent = figure(p.IO.Some.Avg10)
		if p.IO.Full != nil {
			s.PressureIOFullPercent = figure(p.IO.Full.Avg10)
		}
	}
}

// setDevices sums up the disks that lie on no others, and the interfaces that are devices.
func setDevices(s *analytics.System, sample *host.Sample) {
	var read, written, received, sent []float64
	busiest := host.Unknown
	for i := range sample.Disks {
		if d := &sample.Disks[i]; !d.Stacked {
			read, written = append(read, d.ReadBytes.Rate), append(written, d.WrittenBytes.Rate)
			if b := d.BusySeconds.Rate; host.Known(b) && !(busiest > b) {
				busiest = b
			}
		}
	}
	s.DiskReadMBPerSecond, s.DiskWriteMBPerSecond = figure(sumKnown(read)/megabyte), figure(sumKnown(written)/megabyte)
	s.DiskBusyPercent = figure(100 * math.Min(busiest, 1))
	// Where no interface is a device, as in a container, all there are count.
	devices := slices.ContainsFunc(sample.Interfaces, func(n host.Interface) bool { return !n.Loopback && !n.Virtual })
	for i := range sample.Interfaces {
		if n := &sample.Interfaces[i]; !n.Loopback && !(devices && n.Virtual) {
			received, sent = append(received, n.ReceivedBytes.Rate), append(sent, n.SentBytes.Rate)
		}
	}
	s.NetworkReceiveMBPerSecond, s.NetworkTransmitMBPerSecond = figure(sumKnown(received)/megabyte), figure(sumKnown(sent)/megabyte)
}

// sumKnown sums up the rates that are known: one that was just plugged in has none yet. Without any it is Unknown.
func sumKnown(rates []float64) float64 {
	sum, known := 0., false
	for _, r := range rates {
		if host.Known(r) {
			sum, known = sum+r, true
		}
	}
	if !known {
		return host.Unknown
	}
	return sum
}

// resourcesNow is what a service used of the host when the sampler looked last, nil where it did not.
func resourcesNow(latest func() *host.Sample) func(service, namespace string) *analytics.Resources {
	return func(service, namespace string) *analytics.Resources {
		sample := latest()
		if sample == nil {
			return nil
		}
		for i := range sample.Services {
			if s := &sample.Services[i]; s.Name == service && s.Namespace == namespace {
				return resourcesOf(s)
			}
		}
		return nil
	}
}

func resourcesOf(s *host.Service) *analytics.Resources {
	processes := len(s.Processes)
	r := &analytics.Resources{
		Processes: &processes, CPUPercent: figure(s.CPUPercent()), MemoryResidentMB: figure(s.ResidentBytes / megabyte),
		Threads: figure(s.Threads), OpenFiles: figure(s.OpenFiles), OpenFilesUsedPercent: figure(100 * s.OpenFilesUsed),
		DiskReadMBPerSecond: figure(s.ReadBytes.Rate / megabyte), DiskWriteMBPerSecond: figure(s.WrittenBytes.Rate / megabyte),
		InvoluntarySwitchesRate: figure(s.InvoluntarySwitches.Rate),
	}
	for i := range s.Cgroups {
		g := &s.Cgroups[i]
		r.CPUThrottledPercent = most(r.CPUThrottledPercent, 100*g.ThrottledPeriods.Rate/g.Periods.Rate)
		if !math.IsInf(g.MemoryLimitBytes, 1) {
			r.MemoryLimitUsedPercent = most(r.MemoryLimitUsedPercent, 100*g.MemoryBytes/g.MemoryLimitBytes)
		}
	}
	return r
}

// most returns the larger of two figures, either of which may be unknown.
func most(a *float64, b float64) *float64 {
	if f := figure(b); a == nil || f != nil && *f > *a {
		return f
	}
	return a
}

// figure returns a number, rounded to four digits, or nil where it is none.
func figure(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	if v != 0 {
		scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
		if r := math.Round(v*scale) / scale; !math.IsNaN(r) && !math.IsInf(r, 0) {
			v = r
		}
	}
	return &v
}
