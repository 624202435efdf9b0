package host

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"path"
	"strings"
	"time"
)

const (
	// cgroupsMax is how many control groups are followed; a node runs about a hundred containers.
	cgroupsMax = 256
	// limitsEvery is how often limits are read, which are changed by hand.
	limitsEvery = 10 * time.Second
	// mountsEvery is how often the mounts of control groups are looked up where some were not found.
	mountsEvery = time.Minute
)

// CgroupStats is the use of resources by a control group and those below it, of cgroup v1 or v2. What its hierarchy does
// not count (a controller that is not enabled, or of which the process is in the root group) is Unknown.
type CgroupStats struct {
	Path        string // in the hierarchy that tells most, such as /system.slice/nginx.service
	ContainerID string // as in Identity

	CPUSeconds       Counter
	CPULimit         float64 // processors, of the group or a group above; +Inf: none
	Periods          Counter // of the quota, in which the group wanted to run
	ThrottledPeriods Counter // of these, in which the quota was used up
	ThrottledSeconds Counter // summed over processors in v1, wall-clock time of the group in v2
	MemoryBytes      float64 // with the page cache that is charged to it
	MemoryLimitBytes float64 // of the group or a group above; +Inf: none
	OOMKills         Counter
	ReadBytes        Counter // from block devices
	WrittenBytes     Counter
	Tasks            float64 // processes and threads
	TasksLimit       float64 // of the group or a group above; +Inf: none
}

func unknownCgroup() CgroupStats {
	u := unknownCounter
	return CgroupStats{CPUSeconds: u, CPULimit: Unknown, Periods: u, ThrottledPeriods: u, ThrottledSeconds: u,
		MemoryBytes: Unknown, MemoryLimitBytes: Unknown, OOMKills: u, ReadBytes: u, WrittenBytes: u, Tasks: Unknown, TasksLimit: Unknown}
}

// controller is a resource that control groups divide.
type controller int

const (
	controllerCPU controller = iota
	controllerCPUAcct
	controllerMemory
	controllerIO
	controllerPids
	controllers int = iota
)

// v1Names are the controllers' names in cgroup v1.
var v1Names = [controllers]string{"cpu", "cpuacct", "memory", "blkio", "pids"}

// cgroupMount is where a hierarchy is mounted.
type cgroupMount struct {
	point string // a directory
	root  string // the group that is seen there, "/" for all
}

// cgroupMounts are the hierarchies' mounts; point "" for none.
type cgroupMounts struct {
	unified cgroupMount
	v1      [controllers]cgroupMount
}

// cgroupPaths is where a process stands in the hierarchies that count. "" means not at all.
type cgroupPaths struct {
	unified string
	v1      [controllers]string
}

// cgroupPlace is where the files of a controller are for a group.
type cgroupPlace struct {
	dir  string // "" for nowhere
	top  string // the mount point, above which no group is
	isV1 bool
}

// cgroupState is what is remembered of a control group.
type cgroupState struct {
	places   [controllers]cgroupPlace
	last     CgroupStats
	readAt   time.Time
	limitsAt time.Time
	round    uint64 // of the sample that last read it
	sharedBy uint64 // round in which a process of it was seen
	gone     bool
}

// cgroupReader knows the control groups of watched processes.
type cgroupReader struct {
	mounts   cgroupMounts
	mountsAt time.Time
	known    map[string]*cgroupState // by path
}

// parseCgroupPaths parses /proc/PID/cgroup for what counts.
func parseCgroupPaths(data []byte) (p cgroupPaths) {
	for len(data) > 0 {
		var line []byte
		line, data = nextLine(data)
		_, rest, ok := bytes.Cut(line, []byte(":"))
		names, where, ok2 := bytes.Cut(rest, []byte(":"))
		if !ok || !ok2 || len(where) == 0 || where[0] != '/' {
			continue
		}
		group := strings.TrimSuffix(string(where), " (deleted)")
		if len(names) == 0 {
			p.unified = group
			continue
		}
		for name := range bytes.SplitSeq(names, []byte(",")) {
			for c := range v1Names {
				if string(name) == v1Names[c] {
					p.v1[c] = group
				}
			}
		}
	}
	return p
}

// parseCgroupMounts finds the mounts of control groups in /proc/PID/mountinfo (proc_pid_mountinfo(5)).
func parseCgroupMounts(data []byte) (m cgroupMounts) {
	for len(data) > 0 {
		var line []byte
		line, data = nextLine(data)
		before, after, ok := bytes.Cut(line, []byte(" - "))
		if !ok {
			continue
		}
		kind, after := nextField(after)
		if string(kind) != "cgroup" && string(kind) != "cgroup2" {
			continue
		}
		var mount cgroupMount
		for i := range 5 {
			var field []byte
			field, before = nextField(before)
			switch i {
			case 3:
				mount.root = string(field)
			case 4:
				mount.point = string(field)
			}
		}
		if !strings.HasPrefix(mount.point, "/") || !strings.HasPrefix(mount.root, "/") {
			continue
		}
		if string(kind) == "cgroup2" {
			m.unified = widerMount(m.unified, mount)
			continue
		}
		_, after = nextField(after)
		options, _ := nextField(after)
		for option := range bytes.SplitSeq(options, []byte(",")) {
			for c := range v1Names {
				if string(option) == v1Names[c] {
					m.v1[c] = widerMount(m.v1[c], mount)
				}
			}
		}
	}
	return m
}

// widerMount prefers the mount that shows more groups, the first of equals.
func widerMount(a, b cgroupMount) cgroupMount {
	if a.point == "" || len(b.root) < len(a.root) {
		return b
	}
	return a
}

// place returns where a group's files are; "" where the group is not seen, or is the root: its figures are the host's.
func (m cgroupMount) place(group string) string {
	if m.point == "" || group == "" || group == "/" || strings.HasPrefix(group, "/..") || strings.HasPrefix(m.root, "/..") {
		return ""
	}
	if m.root != "/" {
		rest, ok := strings.CutPrefix(group, m.root)
		if !ok || rest != "" && rest[0] != '/' {
			return ""
		}
		group = rest
	}
	return strings.TrimSuffix(m.point, "/") + path.Clean("/"+group)
}

// places returns where the controllers' files are for a process, and the path that tells most.
func (m *cgroupMounts) places(p *cgroupPaths) (places [controllers]cgroupPlace, name string) {
	for c := range places {
		if places[c] = (cgroupPlace{m.v1[c].place(p.v1[c]), m.v1[c].point, true}); places[c].dir == "" {
			// Without controllers, beside v1, the unified hierarchy still tells a group's processor time.
			places[c] = cgroupPlace{m.unified.place(p.unified), m.unified.point, false}
		}
		if places[c].dir == "" {
			continue
		}
		group := p.unified
		if places[c].isV1 {
			group = p.v1[c]
		}
		if len(group) > len(name) {
			name = group
		}
	}
	return places, name
}

// find returns the control group that a process belongs to, given what its cgroup file says; nil where all that counts is
// the root group, or nothing is seen.
func (r *cgroupReader) find(s *Sampler, data []byte, now time.Time) *cgroupState {
	paths := parseCgroupPaths(data) // before another file is read
	if r.mountsAt.IsZero() || now.Sub(r.mountsAt) >= mountsEvery && r.mounts.unified.point == "" {
		r.findMounts(s, now)
	}
	places, name := r.mounts.places(&paths)
	if name == "" {
		return nil
	}
	if known := r.known[name]; known != nil && !known.gone && known.places == places {
		return known
	}
	if len(r.known) >= cgroupsMax {
		s.failed(sourceCgroup, errOverLimit)
		return nil
	}
	if r.known == nil {
		r.known = make(map[string]*cgroupState)
	}
	state := &cgroupState{places: places, last: unknownCgroup()}
	state.last.Path = name
	state.last.ContainerID = Cgroup{Unified: name}.ContainerID()
	r.known[name] = state
	return state
}

// findMounts looks the hierarchies up in the agent's own mounts, which are the ones that it can read.
func (r *cgroupReader) findMounts(s *Sampler, now time.Time) {
	r.mountsAt = now
	data, err := s.files.read("/proc/self", "mountinfo")
	if err != nil {
		s.failed(sourceCgroup, &fileError{"/proc/self/mountinfo", err})
		return
	}
	r.mounts = parseCgroupMounts(data)
}

// forget drops groups without a watched process.
func (r *cgroupReader) forget(round uint64) {
	for name, state := range r.known {
		if state.sharedBy != round {
			delete(r.known, name)
		}
	}
}

// sample reads a control group, once a round. It tells whether the group is still there.
func (r *cgroupReader) sample(s *Sampler, state *cgroupState, round uint64, now time.Time) bool {
	if state.round == round {
		return !state.gone
	}
	seconds := 0.0
	if !state.readAt.IsZero() {
		seconds = now.Sub(state.readAt).Seconds()
	}
	state.round, state.readAt = round, now
	reading := cgroupReading{s, state, seconds}
	reading.cpu()
	if state.gone = state.gone || !s.files.anyExists(&state.places); state.gone {
		return false
	}
	reading.memory()
	reading.io()
	reading.tasks()
	if state.limitsAt.IsZero() || now.Sub(state.limitsAt) >= limitsEvery {
		state.limitsAt = now
		reading.limits()
	}
	return true
}

// cgroupReading is one reading of one control group.
type cgroupReading struct {
	s       *Sampler
	state   *cgroupState
	seconds float64
}

// file reads a file of a controller. It fails where the kernel has no such file for this group, which is no error.
func (r *cgroupReading) file(from source, c controller, name string) ([]byte, bool) {
	place := &r.state.places[c]
	if place.dir == "" {
		return nil, false
	}
	data, err := r.s.files.read(place.dir, name)
	if err == nil {
		return data, true
	}
	if !isGone(err) {
		r.s.failed(from, &fileError{place.dir + "/" + name, err})
	}
	return nil, false
}

// number reads a file that holds one number; "max" is +Inf.
func (r *cgroupReading) number(from source, c controller, name string) float64 {
	data, ok := r.file(from, c, name)
	if !ok {
		return Unknown
	}
	n, ok := parseLimit(data)
	if !ok {
		r.s.failed(from, malformed(name))
		return Unknown
	}
	return n
}

// parseLimit parses a number, or "max".
func parseLimit(data []byte) (float64, bool) {
	line, _ := nextLine(data)
	field, _ := nextField(line)
	if string(field) == "max" {
		return math.Inf(1), true
	}
	n, ok := parseUint(field)
	return float64(n), ok
}

// cpu reads cpu.stat, which both versions have with fields of other names and units, and v1's cpuacct.usage.
func (r *cgroupReading) cpu() {
	last := &r.state.last
	const micro, nano = 1e-6, 1e-9
	stat := cpuStat{usage: Unknown, periods: Unknown, throttled: Unknown, throttledTime: Unknown}
	unit := micro
	if data, ok := r.file(sourceCgroupCPU, controllerCPU, "cpu.stat"); ok {
		if stat, ok = parseCPUStat(data); !ok {
			r.s.failed(sourceCgroupCPU, malformed("cpu.stat"))
		}
		if r.state.places[controllerCPU].isV1 {
			unit = nano
		}
	}
	usage := stat.usage * micro
	if r.state.places[controllerCPUAcct].isV1 {
		usage = r.number(sourceCgroupCPU, controllerCPUAcct, "cpuacct.usage") * nano
	}
	last.CPUSeconds = last.CPUSeconds.next(usage, r.seconds)
	last.Periods = last.Periods.next(stat.periods, r.seconds)
	last.ThrottledPeriods = last.ThrottledPeriods.next(stat.throttled, r.seconds)
	last.ThrottledSeconds = last.ThrottledSeconds.next(stat.throttledTime*unit, r.seconds)
}

// cpuStat is what is read of cpu.stat: microseconds in cgroup v2, of which v1 has throttled_time in nanoseconds.
type cpuStat struct{ usage, periods, throttled, throttledTime float64 }

func parseCPUStat(data []byte) (s cpuStat, ok bool) {
	s = cpuStat{Unknown, Unknown, Unknown, Unknown}
	ok = eachPair(data, func(key []byte, n uint64) {
		switch string(key) {
		case "usage_usec":
			s.usage = float64(n)
		case "nr_periods":
			s.periods = float64(n)
		case "nr_throttled":
			s.throttled = float64(n)
		case "throttled_usec", "throttled_time":
			s.throttledTime = float64(n)
		}
	})
	return s, ok
}

// eachPair calls yield for each line of a name and a number, and tells whether all lines are.
func eachPair(data []byte, yield func(key []byte, n uint64)) bool {
	for len(data) > 0 {
		var line []byte
		line, data = nextLine(data)
		key, line := nextField(line)
		n, _, ok := nextUint(line)
		if !ok {
			return false
		}
		yield(key, n)
	}
	return true
}

func (r *cgroupReading) memory() {
	last := &r.state.last
	use, events := "memory.current", "memory.events"
	if r.state.places[controllerMemory].isV1 {
		use, events = "memory.usage_in_bytes", "memory.oom_control"
	}
	last.MemoryBytes = r.number(sourceCgroupMemory, controllerMemory, use)
	kills := Unknown
	if data, ok := r.file(sourceCgroupMemory, controllerMemory, events); ok {
		if kills, ok = parseOOMKills(data); !ok {
			r.s.failed(sourceCgroupMemory, malformed(events))
		}
	}
	last.OOMKills = last.OOMKills.next(kills, r.seconds)
}

// parseOOMKills parses memory.events and memory.oom_control, which both have a line "oom_kill" (v1's since 4.13).
func parseOOMKills(data []byte) (kills float64, ok bool) {
	kills = Unknown
	ok = eachPair(data, func(key []byte, n uint64) {
		if string(key) == "oom_kill" {
			kills = float64(n)
		}
	})
	return kills, ok
}

func (r *cgroupReading) io() {
	last := &r.state.last
	name, parse := "io.stat", parseIOStat
	if r.state.places[controllerIO].isV1 {
		name, parse = "blkio.throttle.io_service_bytes_recursive", parseBlkio // since 5.2
	}
	data, ok := r.file(sourceCgroupIO, controllerIO, name)
	if !ok && r.state.places[controllerIO].isV1 {
		name = "blkio.throttle.io_service_bytes"
		data, ok = r.file(sourceCgroupIO, controllerIO, name)
	}
	read, written := Unknown, Unknown
	if ok {
		if read, written, ok = parse(data); !ok {
			read, written = Unknown, Unknown
			r.s.failed(sourceCgroupIO, malformed(name))
		}
	}
	last.ReadBytes = last.ReadBytes.next(read, r.seconds)
	last.WrittenBytes = last.WrittenBytes.next(written, r.seconds)
}

// parseIOStat sums up io.stat: a line for each device, 8:0 rbytes=1 wbytes=2….
func parseIOStat(data []byte) (read, written float64, ok bool) {
	for len(data) > 0 {
		var line []byte
		line, data = nextLine(data)
		device, line := nextField(line)
		if bytes.IndexByte(device, ':') < 0 {
			return 0, 0, false
		}
		for {
			var field []byte
			if field, line = nextField(line); len(field) == 0 {
				break
			}
			into := &written
			value, is := cutPrefix(field, "wbytes=")
			if !is {
				into = &read
				if value, is = cutPrefix(field, "rbytes="); !is {
					continue
				}
			}
			n, isNumber := parseUint(value)
			if !isNumber {
				return 0, 0, false
			}
			*into += float64(n)
		}
	}
	return read, written, true
}

// parseBlkio sums up blkio.throttle.io_service_bytes: lines of 8:0 Read 1, and a last one of Total 1.
func parseBlkio(data []byte) (read, written float64, ok bool) {
	for len(data) > 0 {
		var line []byte
		line, data = nextLine(data)
		device, line := nextField(line)
		kind, line := nextField(line)
		if string(device) == "Total" {
			continue
		}
		n, _, isNumber := nextUint(line)
		if !isNumber {
			return 0, 0, false
		}
		switch string(kind) {
		case "Read":
			read += float64(n)
		case "Write":
			written += float64(n)
		}
	}
	return read, written, true
}

func (r *cgroupReading) tasks() {
	r.state.last.Tasks = r.number(sourceCgroupTasks, controllerPids, "pids.current")
}

// limits finds the lowest limits of the group and those above it.
func (r *cgroupReading) limits() {
	last := &r.state.last
	last.CPULimit = r.lowest(sourceCgroupCPU, controllerCPU, r.cpuLimit)
	memory := "memory.max"
	if r.state.places[controllerMemory].isV1 {
		memory = "memory.limit_in_bytes"
	}
	last.MemoryLimitBytes = r.lowest(sourceCgroupMemory, controllerMemory, func(dir string) (float64, error) {
		limit, err := r.limit(dir, memory)
		if limit >= v1Unlimited {
			limit = math.Inf(1)
		}
		return limit, err
	})
	last.TasksLimit = r.lowest(sourceCgroupTasks, controllerPids, func(dir string) (float64, error) { return r.limit(dir, "pids.max") })
}

// v1Unlimited is where cgroup v1's memory limits mean none: the largest number of whole pages in 63 bits, whatever the
// page's size.
const v1Unlimited = 1<<63 - 1<<20

// lowest returns the lowest of what limit says of the group and those above it; Unknown where none says anything.
func (r *cgroupReading) lowest(from source, c controller, limit func(dir string) (float64, error)) float64 {
	place := &r.state.places[c]
	lowest := Unknown
	for dir := place.dir; len(dir) > len(place.top); dir = path.Dir(dir) {
		n, err := limit(dir)
		switch {
		case err == nil && !(lowest <= n):
			lowest = n
		case err != nil && !isGone(err) && !errors.Is(err, fs.ErrNotExist):
			r.s.failed(from, err)
		}
	}
	return lowest
}

func (r *cgroupReading) limit(dir, name string) (float64, error) {
	data, err := r.s.files.read(dir, name)
	if err != nil {
		return Unknown, err
	}
	n, ok := parseLimit(data)
	if !ok {
		return Unknown, malformed(name)
	}
	return n, nil
}

// cpuLimit returns quota / period in processors: cpu.max in v2, two files in v1.
func (r *cgroupReading) cpuLimit(dir string) (float64, error) {
	if !r.state.places[controllerCPU].isV1 {
		data, err := r.s.files.read(dir, "cpu.max")
		if err != nil {
			return Unknown, err
		}
		quota, ok := parseLimit(data)
		_, rest := nextField(data)
		line, _ := nextLine(rest)
		period, _, isNumber := nextUint(line)
		if !ok || !isNumber || period == 0 {
			return Unknown, malformed("cpu.max")
		}
		return quota / float64(period), nil
	}
	data, err := r.s.files.read(dir, "cpu.cfs_quota_us")
	if err != nil {
		return Unknown, err
	}
	if len(data) > 0 && data[0] == '-' { // -1: none
		return math.Inf(1), nil
	}
	quota, ok := parseLimit(data)
	period, err := r.limit(dir, "cpu.cfs_period_us")
	if !ok || err == nil && period == 0 {
		return Unknown, malformed("cpu.cfs_quota_us")
	}
	return quota / period, err
}

// anyExists tells whether a control group is still there.
func (r *fileReader) anyExists(places *[controllers]cgroupPlace) bool {
	for i := range places {
		if places[i].dir != "" && r.exists(places[i].dir, "") {
			return true
		}
	}
	return false
}
