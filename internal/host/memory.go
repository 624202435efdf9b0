package host

// Memory is the host's memory in bytes, from /proc/meminfo.
type Memory struct {
	Total     float64
	Available float64 // what programs can still take without swapping, as the kernel estimates it
	Used      float64 // Total - Available
	SwapTotal float64
	SwapUsed  float64
}

func readMemory(files *fileReader, _ float64) (*Memory, error) {
	data, err := files.read("/proc", "meminfo")
	if err != nil {
		return nil, &fileError{"/proc/meminfo", err}
	}
	memory, ok := parseMeminfo(data)
	if !ok {
		return nil, malformed("/proc/meminfo")
	}
	return &memory, nil
}

// parseMeminfo parses /proc/meminfo: NAME: NUMBER kB.
func parseMeminfo(data []byte) (m Memory, ok bool) {
	const kB = 1024
	var swapFree uint64
	var total, available, swapTotal uint64
	found := 0
	for len(data) > 0 && found < 4 {
		var line []byte
		line, data = nextLine(data)
		name, line := nextField(line)
		var into *uint64
		switch string(name) {
		case "MemTotal:":
			into = &total
		case "MemAvailable:": // since 3.14
			into = &available
		case "SwapTotal:":
			into = &swapTotal
		case "SwapFree:":
			into = &swapFree
		default:
			continue
		}
		var isNumber bool
		if *into, _, isNumber = nextUint(line); !isNumber {
			return m, false
		}
		found++
	}
	if found < 4 || available > total || swapFree > swapTotal {
		return m, false
	}
	return Memory{
		Total: float64(total) * kB, Available: float64(available) * kB, Used: float64(total-available) * kB,
		SwapTotal: float64(swapTotal) * kB, SwapUsed: float64(swapTotal-swapFree) * kB,
	}, true
}

// Paging is the traffic between memory and disks, from /proc/vmstat.
type Paging struct {
	MajorFaults  Counter // page faults that waited for a disk
	SwapInBytes  Counter
	SwapOutBytes Counter
	OOMKills     Counter // processes killed for want of memory, also of a control group's; since 4.13
}

// pagingReader reads /proc/vmstat, where swapped pages are counted in pages, and reports bytes.
type pagingReader struct {
	last     Paging
	pageSize float64
}

func (r *pagingReader) read(files *fileReader, seconds float64) (*Paging, error) {
	data, err := files.read("/proc", "vmstat")
	if err != nil {
		return nil, &fileError{"/proc/vmstat", err}
	}
	raw, ok := parseVmstat(data)
	if !ok {
		return nil, malformed("/proc/vmstat")
	}
	paging := &Paging{
		MajorFaults:  r.last.MajorFaults.next(float64(raw.majorFaults), seconds),
		SwapInBytes:  r.last.SwapInBytes.next(float64(raw.swapIn)*r.pageSize, seconds),
		SwapOutBytes: r.last.SwapOutBytes.next(float64(raw.swapOut)*r.pageSize, seconds),
		OOMKills:     unknownCounter,
	}
	if raw.countsOOM {
		paging.OOMKills = r.last.OOMKills.next(float64(raw.oomKills), seconds)
	}
	r.last = *paging
	return paging, nil
}

// vmstat is what is read of the file: numbers since boot; pages, and kills where the kernel counts them (4.13).
type vmstat struct {
	majorFaults, swapIn, swapOut, oomKills uint64
	countsOOM                              bool
}

// parseVmstat stops at the last name that it looks for: the file has 150 lines and more. It is not ok where one of the three that every
// kernel has is missing, or is no number; oom_kill may be absent.
func parseVmstat(data []byte) (v vmstat, ok bool) {
	found := 0
	for len(data) > 0 && (found < 3 || !v.countsOOM) {
		var line []byte
		line, data = nextLine(data)
		name, line := nextField(line)
		var into *uint64
		switch string(name) {
		case "pgmajfault":
			into = &v.majorFaults
		case "pswpin":
			into = &v.swapIn
		case "pswpout":
			into = &v.swapOut
		case "oom_kill":
			into, v.countsOOM = &v.oomKills, true
			found--
		default:
			continue
		}
		var isNumber bool
		if *into, _, isNumber = nextUint(line); !isNumber {
			return v, false
		}
		found++
	}
	return v, found == 3
}
