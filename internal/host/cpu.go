package host

import "syscall"

// CPUMode is what processors spend their time on. Guests' time is no part of user and nice here, unlike in /proc/stat.
type CPUMode int

const (
	CPUUser CPUMode = iota
	CPUNice
	CPUSystem
	CPUIdle
	CPUIOWait
	CPUIRQ
	CPUSoftIRQ
	CPUSteal
	CPUGuest     // guests' time, nice or not
	CPUModes int = iota
)

// String returns the name that Prometheus' world uses.
func (m CPUMode) String() string {
	return [...]string{"user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest"}[m]
}

// CPUTime is the time of one mode.
type CPUTime struct {
	Counter         // seconds, of all processors together
	Percent float64 // of all processors' time in the last interval; Unknown in the first sample
}

// CPU is the use of the host's processors, from /proc/stat, to 10 ms.
type CPU struct {
	Processors int // online
	Modes      [CPUModes]CPUTime
}

// BusyPercent is the share of the last interval in which processors worked for this host: neither idle, nor waiting for
// a device, nor taken away by the hypervisor. Unknown in the first sample.
func (c *CPU) BusyPercent() float64 {
	return 100 - c.Modes[CPUIdle].Percent - c.Modes[CPUIOWait].Percent - c.Modes[CPUSteal].Percent
}

// cpuReader turns the ticks of /proc/stat, which count since boot, into seconds and shares. A mode's percent is of what all modes
// together have counted, and not of the time between two readings: that is measured by another clock, and shares would not add up.
type cpuReader struct{ last CPU }

func (r *cpuReader) read(files *fileReader, seconds float64) (*CPU, error) {
	data, err := files.read("/proc", "stat")
	if err != nil {
		return nil, &fileError{"/proc/stat", err}
	}
	ticks, processors, ok := parseCPU(data)
	if !ok {
		return nil, malformed("/proc/stat")
	}
	cpu := &CPU{Processors: processors}
	var sum float64
	for m := range cpu.Modes {
		// iowait may go back when an idle processor is asked from another one, steal by the hypervisor's mistakes.
		cpu.Modes[m].Counter = r.last.Modes[m].nextMonotonic(float64(ticks[m])/userHZ, seconds)
		sum += cpu.Modes[m].Rate
	}
	for m := range cpu.Modes {
		cpu.Modes[m].Percent = 100 * cpu.Modes[m].Rate / sum
	}
	r.last = *cpu
	return cpu, nil
}

// parseCPU parses the processors' lines of /proc/stat. Kernels before 2.6.33 leave out modes at the end.
func parseCPU(data []byte) (ticks [CPUModes]uint64, processors int, ok bool) {
	line, data := nextLine(data)
	line, ok = cutPrefix(line, "cpu ")
	if !ok {
		return ticks, 0, false
	}
	var raw [10]uint64
	read := 0
	for ; read < len(raw); read++ {
		var isNumber bool
		if raw[read], line, isNumber = nextUint(line); !isNumber {
			break
		}
	}
	if read < 4 {
		return ticks, 0, false
	}
	copy(ticks[:], raw[:8])
	guest, guestNice := min(raw[8], raw[0]), min(raw[9], raw[1])
	ticks[CPUUser] -= guest
	ticks[CPUNice] -= guestNice
	ticks[CPUGuest] = guest + guestNice
	for {
		line, data = nextLine(data)
		if _, ok := cutPrefix(line, "cpu"); !ok {
			return ticks, processors, true
		}
		processors++
	}
}

// fileError names the file of an error. It composes its text only when somebody asks.
type fileError struct {
	file string
	err  error
}

func (e *fileError) Error() string { return e.file + ": " + e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// threadCPUSeconds is the processor time of the calling thread: what a sample really cost, also on a busy host.
func threadCPUSeconds() float64 {
	const clockThreadCPU = 3
	return clockSeconds(clockThreadCPU)
}

// bootSeconds is the time since the host started, suspend included: what processes' start times are measured in.
func bootSeconds() float64 {
	const clockBoot = 7
	return clockSeconds(clockBoot)
}

func clockSeconds(clock uintptr) float64 {
	var ts syscall.Timespec
	clockGettime(clock, &ts)
	return float64(ts.Sec) + float64(ts.Nsec)/1e9
}
