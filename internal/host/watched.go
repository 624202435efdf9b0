package host

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"slices"
	"syscall"
	"time"
)

const (
	// WatchedMax is how many processes are watched. At some 40 us each they cost 20 ms a sample, and Run samples less
	// often then.
	WatchedMax = 512
	// refreshEvery is how often what seldom changes is read: limits, and the control group.
	refreshEvery = 10 * time.Second
	// turnEvery is how often threads are gone through, at best. Each costs some 10 us.
	turnEvery = 5 * time.Second
	// turnThreads is how many threads are gone through in one sample; the rest has its turn in the next ones.
	turnThreads = 64
	// threadsMax bounds the threads that are followed, of all processes together: 4,096 of some 40 bytes.
	threadsMax = 4096
	// serviceIdle is how long a service's counters are kept without a watched process.
	serviceIdle = 10 * time.Minute
	// servicesMax bounds the services whose counters are kept.
	servicesMax = 1024
)

// Watched is a process to watch, and who it is.
type Watched struct {
	PID      uint32
	Identity *Identity
}

// Process is the use of resources by one process.
type Process struct {
	PID           uint32
	StartSeconds  float64 // when it was started, since boot
	CPUSeconds    Counter // user and system, to 10 ms
	ResidentBytes float64
	Threads       float64
	OpenFiles     float64 // descriptors; Unknown where they may not be seen
	OpenFilesMax  float64 // its soft limit, +Inf: none; Unknown where it could not be read
	ReadBytes     Counter // from block devices; Unknown without the right to trace the process
	WrittenBytes  Counter // to the page cache, of what has to be written to block devices
	// Switches are read every 5 s at best, and more seldom where there are many threads.
	VoluntarySwitches   Counter // of all threads, since the process is watched
	InvoluntarySwitches Counter
}

// CPUPercent is the share of one processor in the last interval; Unknown in the first sample of a process.
func (p *Process) CPUPercent() float64 { return 100 * p.CPUSeconds.Rate }

// Service is the use of resources by the watched processes of one service. Its counters begin at 0 when the first of
// them is watched, and count what each used since then, or since it was started. A figure that is Unknown for one of its
// processes is Unknown.
type Service struct {
	Name, Namespace string
	Processes       []Process // in the order of their PIDs
	Cgroups         []CgroupStats

	CPUSeconds          Counter
	ResidentBytes       float64 // summed up: memory that processes share counts for each
	Threads             float64
	OpenFiles           float64
	OpenFilesUsed       float64 // highest share of its limit that a process has open, 0 to 1
	ReadBytes           Counter
	WrittenBytes        Counter
	VoluntarySwitches   Counter
	InvoluntarySwitches Counter
}

// CPUPercent is the share of one processor in the last interval, above 100 with several; Unknown in the first sample.
func (s *Service) CPUPercent() float64 { return 100 * s.CPUSeconds.Rate }

type serviceKey struct{ name, namespace string }

// serviceCounter indexes a service's counters.
type serviceCounter int

const (
	countCPU serviceCounter = iota
	countRead
	countWritten
	countVoluntary
	countInvoluntary
	serviceCounters int = iota
)

// serviceState is what is remembered of a service: the sums over all processes that it ever had.
type serviceState struct {
	totals [serviceCounters]float64
	seenAt time.Time
}

// processState is what is remembered of a watched process.
type processState struct {
	Watched
	dir       string // /proc/PID
	gone      bool
	last      Process
	readAt    time.Time // zero: not yet
	refreshed time.Time
	cgroup    *cgroupState
	group     []byte // what its cgroup file said

	turnAt   time.Time // when its threads were last gone through
	switches map[uint32]switches
	counted  switches // since it is watched
	// added is what its counters grew by in this sample.
	added [serviceCounters]float64
}

// switches are the context switches of a thread.
type switches struct{ voluntary, involuntary uint64 }

// watcher reads the watched processes.
type watcher struct {
	states    []*processState // in the order of their PIDs
	services  map[serviceKey]*serviceState
	round     uint64
	readAt    time.Time // of the sample before
	bootAt    float64   // the same, in seconds since boot
	next      int       // of states, whose threads have the next turn
	threads   int       // that are followed
	fileSizes bool      // a directory of descriptors has their number as size (since 6.2)
	probed    bool
	cgroups   cgroupReader
	pageSize  float64
}

// watch takes over the list of watched processes.
func (w *watcher) watch(list []Watched) {
	states := make([]*processState, 0, len(list))
	for _, p := range list {
		if p.Identity == nil || len(states) == WatchedMax {
			continue
		}
		at, found := slices.BinarySearchFunc(w.states, p.PID, func(s *processState, pid uint32) int { return cmp.Compare(s.PID, pid) })
		if found && w.states[at].Identity.Started == p.Identity.Started {
			w.states[at].Watched = p // an exec may have changed its name
			states = append(states, w.states[at])
			continue
		}
		states = append(states, &processState{Watched: p, dir: "/proc/" + utoa(p.PID)})
	}
	slices.SortFunc(states, func(a, b *processState) int { return cmp.Compare(a.PID, b.PID) })
	w.states = slices.CompactFunc(states, func(a, b *processState) bool { return a.PID == b.PID })
	w.threads = 0
	for _, state := range w.states {
		w.threads += len(state.switches)
	}
}

// sample reads all watched processes and groups them. Services come in the order of their names.
func (w *watcher) sample(s *Sampler, now time.Time, boot float64) []Service {
	w.round++
	if !w.probed {
		w.probed, w.fileSizes = true, s.files.countsFiles()
	}
	alive := w.states[:0:0]
	for _, state := range w.states {
		if state.gone {
			continue
		}
		if state.gone = !w.read(s, state, now); !state.gone {
			alive = append(alive, state)
		}
	}
	w.takeTurns(s, alive, now)
	services := w.group(s, alive, now)
	w.cgroups.forget(w.round)
	w.readAt, w.bootAt = now, boot
	return services
}

// read reads one process, and tells whether it is still the one that was to be watched.
func (w *watcher) read(s *Sampler, p *processState, now time.Time) bool {
	data, err := s.files.read(p.dir, "stat")
	if err != nil {
		return !w.lost(s, sourceProcess, p, "stat", err)
	}
	raw, ok := parseProcessStat(data)
	if !ok {
		s.failed(sourceProcess, malformed(p.dir+"/stat"))
		return false
	}
	started := time.Duration(raw.startTicks) * (time.Second / userHZ)
	if p.Identity.Started != 0 && p.Identity.Started != started || raw.isDead {
		return false // its pid was given again, or it ended and was not waited for
	}
	seconds := 0.0
	before := p.last
	if !p.readAt.IsZero() {
		seconds = now.Sub(p.readAt).Seconds()
	} else if !w.readAt.IsZero() && started.Seconds() > w.bootAt {
		// It was started since the last sample: all that it used is of this interval.
		seconds = now.Sub(w.readAt).Seconds()
		before = Process{}
	}
	figures := p.last
	figures.PID, figures.StartSeconds = p.PID, started.Seconds()
	figures.CPUSeconds = before.CPUSeconds.next(float64(raw.userTicks+raw.systemTicks)/userHZ, seconds)
	figures.ResidentBytes = float64(raw.residentPages) * w.pageSize
	figures.Threads = float64(raw.threads)
	figures.ReadBytes, figures.WrittenBytes = w.io(s, p, &before, seconds)
	if p.refreshed.IsZero() || now.Sub(p.refreshed) >= refreshEvery {
		p.refreshed = now
		figures.OpenFilesMax = w.filesMax(s, p)
		w.findGroup(s, p, now)
	}
	if w.fileSizes {
		if stat, err := s.files.stat(p.dir, "fd"); err == nil {
			figures.OpenFiles = float64(stat.Size)
		} else {
			figures.OpenFiles = Unknown
			w.lost(s, sourceProcessFiles, p, "fd", err)
		}
	} else if p.readAt.IsZero() {
		figures.OpenFiles = Unknown // counted in turn
	}
	if p.readAt.IsZero() {
		figures.VoluntarySwitches, figures.InvoluntarySwitches = unknownCounter, unknownCounter
	}
	clear(p.added[:])
	for c, pair := range [...][2]Counter{countCPU: {figures.CPUSeconds, before.CPUSeconds}, countRead: {figures.ReadBytes, before.ReadBytes},
		countWritten: {figures.WrittenBytes, before.WrittenBytes}} {
		if seconds > 0 && pair[0].Total > pair[1].Total {
			p.added[c] = pair[0].Total - pair[1].Total
		}
	}
	p.last, p.readAt = figures, now
	return true
}

// lost counts an error, unless it says that the process has ended; it tells whether it does.
func (w *watcher) lost(s *Sampler, from source, p *processState, name string, err error) bool {
	if isGone(err) {
		return true
	}
	s.failed(from, &fileError{p.dir + "/" + name, err})
	return from == sourceProcess
}

func (w *watcher) io(s *Sampler, p *processState, before *Process, seconds float64) (read, written Counter) {
	data, err := s.files.read(p.dir, "io")
	if err != nil {
		w.lost(s, sourceProcessIO, p, "io", err)
		return unknownCounter, unknownCounter
	}
	raw, ok := parseProcessIO(data)
	if !ok {
		s.failed(sourceProcessIO, malformed(p.dir+"/io"))
		return unknownCounter, unknownCounter
	}
	return before.ReadBytes.next(float64(raw.read), seconds), before.WrittenBytes.next(float64(raw.written), seconds)
}

func (w *watcher) filesMax(s *Sampler, p *processState) float64 {
	data, err := s.files.read(p.dir, "limits")
	if err != nil {
		w.lost(s, sourceProcessFiles, p, "limits", err)
		return Unknown
	}
	limit, ok := parseFilesMax(data)
	if !ok {
		s.failed(sourceProcessFiles, malformed(p.dir+"/limits"))
		return Unknown
	}
	return limit
}

// findGroup looks up the control group of a process, which seldom changes.
func (w *watcher) findGroup(s *Sampler, p *processState, now time.Time) {
	data, err := s.files.read(p.dir, "cgroup")
	if err != nil {
		if !isGone(err) {
			s.failed(sourceCgroup, &fileError{p.dir + "/cgroup", err})
		}
		return
	}
	if p.cgroup != nil && !p.cgroup.gone && bytes.Equal(data, p.group) {
		return
	}
	p.group = append(p.group[:0], data...)
	p.cgroup = w.cgroups.find(s, p.group, now)
}

// takeTurns goes through the threads of as many processes as one sample may.
func (w *watcher) takeTurns(s *Sampler, alive []*processState, now time.Time) {
	spent := 0
	for range alive {
		if spent >= turnThreads {
			return
		}
		if w.next >= len(alive) {
			w.next = 0
		}
		p := alive[w.next]
		w.next++
		if !p.turnAt.IsZero() && now.Sub(p.turnAt) < turnEvery {
			continue
		}
		spent += w.takeTurn(s, p, now)
	}
}

// takeTurn goes through one process's threads, and returns what that cost in threads.
func (w *watcher) takeTurn(s *Sampler, p *processState, now time.Time) int {
	seconds := 0.0
	if !p.turnAt.IsZero() {
		seconds = now.Sub(p.turnAt).Seconds()
	}
	p.turnAt = now
	spent := 1
	if !w.fileSizes {
		files := 0
		if err := s.files.eachNumber(p.dir, "fd", func(uint32) bool { files++; return true }); err != nil {
			w.lost(s, sourceProcessFiles, p, "fd", err)
			p.last.OpenFiles = Unknown
		} else {
			p.last.OpenFiles = float64(files)
		}
		spent += files / 16 // an entry costs about as much less than a thread
	}
	threads, added, err := w.countSwitches(s, p, seconds == 0)
	if err != nil {
		if !isGone(err) {
			s.failed(sourceProcessSwitches, err)
		}
		p.last.VoluntarySwitches, p.last.InvoluntarySwitches = unknownCounter, unknownCounter
		return spent + threads
	}
	p.counted.voluntary += added.voluntary
	p.counted.involuntary += added.involuntary
	p.added[countVoluntary], p.added[countInvoluntary] = float64(added.voluntary), float64(added.involuntary)
	p.last.VoluntarySwitches = p.last.VoluntarySwitches.next(float64(p.counted.voluntary), seconds)
	p.last.InvoluntarySwitches = p.last.InvoluntarySwitches.next(float64(p.counted.involuntary), seconds)
	return spent + threads
}

// countSwitches returns by how much the threads' switches grew since the last turn. The kernel has no sum: the process's
// own status tells of its first thread alone. What a thread did after the last turn before its end is lost.
func (w *watcher) countSwitches(s *Sampler, p *processState, first bool) (threads int, added switches, err error) {
	w.threads -= len(p.switches)
	now := make(map[uint32]switches, len(p.switches))
	dir := p.dir + "/task"
	listErr := s.files.eachNumber(dir, "", func(tid uint32) bool {
		if w.threads+len(now) >= threadsMax {
			err = &fileError{dir, errOverLimit}
			return false
		}
		threads++
		data, readErr := s.files.read(dir, utoa(tid)+"/status")
		if readErr != nil {
			if !isGone(readErr) {
				err = &fileError{dir, readErr}
			}
			return err == nil
		}
		n, ok := parseSwitches(data)
		if !ok {
			err = malformed(dir + "/status")
			return false
		}
		now[tid] = n
		if before := p.switches[tid]; n.voluntary >= before.voluntary && n.involuntary >= before.involuntary {
			added.voluntary += n.voluntary - before.voluntary
			added.involuntary += n.involuntary - before.involuntary
		}
		return true
	})
	if err = errors.Join(listErr, err); err != nil {
		now = nil
	}
	if first || p.switches == nil {
		added = switches{}
	}
	p.switches = now
	w.threads += len(now)
	return threads, added, err
}

// group sums processes up by service.
func (w *watcher) group(s *Sampler, alive []*processState, now time.Time) []Service {
	if w.services == nil {
		w.services = make(map[serviceKey]*serviceState)
	}
	byService := slices.Clone(alive)
	slices.SortStableFunc(byService, func(a, b *processState) int {
		return cmp.Or(cmp.Compare(a.Identity.Service, b.Identity.Service), cmp.Compare(a.Identity.Namespace, b.Identity.Namespace))
	})
	var services []Service
	for len(byService) > 0 {
		key := serviceKey{byService[0].Identity.Service, byService[0].Identity.Namespace}
		n := 1
		for n < len(byService) && byService[n].Identity.Service == key.name && byService[n].Identity.Namespace == key.namespace {
			n++
		}
		if state := w.service(s, key, now); state != nil {
			services = append(services, w.sum(s, key, state, byService[:n], now))
		}
		byService = byService[n:]
	}
	return services
}

// service returns what is remembered of a service, nil where there are too many.
func (w *watcher) service(s *Sampler, key serviceKey, now time.Time) *serviceState {
	state := w.services[key]
	if state == nil {
		for key, state := range w.services {
			if now.Sub(state.seenAt) > serviceIdle {
				delete(w.services, key)
			}
		}
		if len(w.services) >= servicesMax {
			s.failed(sourceWatch, errOverLimit)
			return nil
		}
		state = new(serviceState)
		w.services[key] = state
	}
	state.seenAt = now
	return state
}

// sum adds up the processes of one service.
func (w *watcher) sum(s *Sampler, key serviceKey, state *serviceState, processes []*processState, now time.Time) Service {
	service := Service{Name: key.name, Namespace: key.namespace, Processes: make([]Process, 0, len(processes)), OpenFilesUsed: Unknown}
	counters := [serviceCounters]*Counter{&service.CPUSeconds, &service.ReadBytes, &service.WrittenBytes, &service.VoluntarySwitches,
		&service.InvoluntarySwitches}
	known := [serviceCounters]bool{true, true, true, true, true}
	var rated [serviceCounters]bool // for one of the processes at least: those that joined just now have no rate
	for _, p := range processes {
		service.Processes = append(service.Processes, p.last)
		service.ResidentBytes += p.last.ResidentBytes
		service.Threads += p.last.Threads
		service.OpenFiles += p.last.OpenFiles
		if used := p.last.OpenFiles / p.last.OpenFilesMax; !(used <= service.OpenFilesUsed) && Known(used) {
			service.OpenFilesUsed = used
		}
		for c, of := range [serviceCounters]*Counter{&p.last.CPUSeconds, &p.last.ReadBytes, &p.last.WrittenBytes, &p.last.VoluntarySwitches,
			&p.last.InvoluntarySwitches} {
			state.totals[c] += p.added[c]
			known[c] = known[c] && Known(of.Total)
			if Known(of.Rate) {
				counters[c].Rate += of.Rate
				rated[c] = true
			}
		}
		w.addGroup(s, &service, p, now)
	}
	for c, counter := range counters {
		counter.Total = state.totals[c]
		if !known[c] {
			counter.Total = Unknown
		}
		if !known[c] || !rated[c] {
			counter.Rate = Unknown
		}
	}
	return service
}

// addGroup adds the control group of a process to its service, where it is not there already.
func (w *watcher) addGroup(s *Sampler, service *Service, p *processState, now time.Time) {
	if p.cgroup == nil {
		return
	}
	p.cgroup.sharedBy = w.round
	for i := range service.Cgroups {
		if service.Cgroups[i].Path == p.cgroup.last.Path {
			return
		}
	}
	if w.cgroups.sample(s, p.cgroup, w.round, now) {
		service.Cgroups = append(service.Cgroups, p.cgroup.last)
	}
}

// countsFiles tells whether the kernel gives the number of descriptors as the size of their directory: tried on the
// agent's own, of which the listing adds one.
func (r *fileReader) countsFiles() bool {
	stat, err := r.stat("/proc/self", "fd")
	if err != nil || stat.Size == 0 {
		return false
	}
	listed := int64(0)
	err = r.eachNumber("/proc/self", "fd", func(uint32) bool { listed++; return true })
	difference := listed - stat.Size
	return err == nil && difference >= -4 && difference <= 4 // other goroutines open files meanwhile
}

// rawProcess is what figures need of /proc/PID/stat.
type rawProcess struct {
	userTicks, systemTicks, threads, startTicks, residentPages uint64
	isDead                                                     bool
}

// parseProcessStat parses /proc/PID/stat for its figures (proc_pid_stat(5)); see parseStat about the parentheses.
func parseProcessStat(data []byte) (p rawProcess, ok bool) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return p, false
	}
	rest, _ := nextLine(data[end+1:])
	state, rest := nextField(rest)
	for number := 4; number <= 24; number++ {
		var field []byte
		field, rest = nextField(rest)
		var into *uint64
		switch number {
		case 14:
			into = &p.userTicks
		case 15:
			into = &p.systemTicks
		case 20:
			into = &p.threads
		case 22:
			into = &p.startTicks
		case 24:
			into = &p.residentPages
		default:
			continue
		}
		if *into, ok = parseUint(field); !ok {
			return p, false
		}
	}
	// A first thread that has ended is a zombie also while others run.
	p.isDead = string(state) == "X" || string(state) == "Z" && p.threads <= 1
	return p, true
}

type processIO struct{ read, written uint64 }

// parseProcessIO parses /proc/PID/io.
func parseProcessIO(data []byte) (io processIO, ok bool) {
	found := 0
	ok = eachPair(data, func(key []byte, n uint64) {
		switch string(key) {
		case "read_bytes:":
			io.read = n
			found++
		case "write_bytes:":
			io.written = n
			found++
		}
	})
	return io, ok && found == 2
}

// parseFilesMax finds the soft limit of open files in /proc/PID/limits.
func parseFilesMax(data []byte) (float64, bool) {
	for len(data) > 0 {
		var line []byte
		line, data = nextLine(data)
		if value, is := cutPrefix(line, "Max open files"); is {
			field, _ := nextField(value)
			if string(field) == "unlimited" {
				return math.Inf(1), true
			}
			n, ok := parseUint(field)
			return float64(n), ok
		}
	}
	return 0, false
}

// parseSwitches finds the context switches in /proc/PID/task/TID/status.
func parseSwitches(data []byte) (n switches, ok bool) {
	found := 0
	for len(data) > 0 {
		var line []byte
		line, data = nextLine(data)
		var into *uint64
		value, is := cutPrefix(line, "voluntary_ctxt_switches:")
		if is {
			into = &n.voluntary
		} else if value, is = cutPrefix(line, "nonvoluntary_ctxt_switches:"); is {
			into = &n.involuntary
		} else {
			continue
		}
		if *into, _, ok = nextUint(value); !ok {
			return n, false
		}
		found++
	}
	return n, found == 2
}

// utoa is a number as text.
func utoa(n uint32) string {
	var b [10]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

// pageSize is the unit of the kernel's memory figures.
func pageSize() float64 { return float64(syscall.Getpagesize()) }
