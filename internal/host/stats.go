package host

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// sampleEvery is how often the host is sampled.
	sampleEvery = time.Second
	// sampleShare bounds what sampling costs: after a sample that took t of a processor, the next waits 200 t.
	sampleShare = 200
)

// Sample is the host's resources at one moment, and what they did since the sample before. It never changes. What could
// not be read is nil, empty, or Unknown, and counted in Errors.
type Sample struct {
	Time     time.Time
	Interval time.Duration // since the sample before; 0 in the first one, which has no rates
	Number   uint64        // 1 for the first

	Info        Info
	CPU         *CPU
	Load        *Load
	Memory      *Memory
	Paging      *Paging
	Filesystems []Filesystem // read every 10 s
	Disks       []Disk
	Interfaces  []Interface
	TCP         *TCP
	Sockets     *Sockets
	Pressure    Pressure
	Services    []Service // of watched processes, in the order of their names
	Watched     int       // processes

	Errors     []SourceErrors
	CPUSeconds float64 // processor time that all samples up to here took
}

// SamplerOptions configure a Sampler. The zero value is the live host.
type SamplerOptions struct {
	Root string           // directory that holds proc and sys; "" means "/"
	Now  func() time.Time // nil means time.Now
	// BootSeconds is the time since the host started, in which processes' start times are given; nil reads the kernel's.
	BootSeconds func() float64
}

// Sampler reads the host's resources once a second. Run or Sample has one owner; Watch and Latest may be called from any
// goroutine.
type Sampler struct {
	now     func() time.Time
	boot    func() float64
	files   fileReader
	states  [sources]sourceState
	info    Info
	latest  atomic.Pointer[Sample]
	wanted  atomic.Pointer[[]Watched]
	inForce *[]Watched // of wanted, taken over by the owner
	watcher watcher

	cpu      cpuReader
	paging   pagingReader
	disks    diskReader
	networks networkReader
	tcp      tcpReader
	sockets  socketReader
	pressure [3]pressureReader
	space    space

	number     uint64
	cpuSeconds float64
}

// NewSampler returns a sampler that has not read anything yet.
func NewSampler(o SamplerOptions) *Sampler {
	gopsutil := newGopsutilReader(o.Root)
	s := &Sampler{
		now:      o.Now,
		boot:     o.BootSeconds,
		files:    newFileReader(o.Root),
		info:     gopsutil.info(),
		space:    space{reader: gopsutil},
		pressure: [3]pressureReader{{file: "cpu"}, {file: "memory"}, {file: "io"}},
	}
	s.paging.pageSize, s.sockets.pageSize, s.watcher.pageSize = pageSize(), pageSize(), pageSize()
	if s.now == nil {
		s.now = time.Now
	}
	if s.boot == nil {
		s.boot = bootSeconds
	}
	return s
}

// Run samples each second until ctx ends, and more seldom where that would cost more than 0.5 % of a processor.
func (s *Sampler) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			before := s.cpuSeconds
			s.Sample()
			cost := time.Duration((s.cpuSeconds - before) * float64(time.Second))
			timer.Reset(max(sampleEvery, sampleShare*cost))
		}
	}
}

// Watch says which processes to read from the next sample on, instead of those before, the most important first: only 512
// are. The list is the sampler's from then on.
func (s *Sampler) Watch(list []Watched) { s.wanted.Store(&list) }

// Latest returns the latest sample, nil before the first.
func (s *Sampler) Latest() *Sample { return s.latest.Load() }

// Sample takes a sample now and publishes it.
func (s *Sampler) Sample() *Sample {
	runtime.LockOSThread() // for its processor time
	defer runtime.UnlockOSThread()
	cpuBefore := threadCPUSeconds()
	now := s.now()
	s.number++
	sample := &Sample{Time: now, Number: s.number, Info: s.info}
	if before := s.latest.Load(); before != nil {
		sample.Interval = now.Sub(before.Time)
	}
	s.readHost(sample, now)
	s.readWatched(sample, now)
	sample.Errors = s.sourceErrors()
	s.cpuSeconds += threadCPUSeconds() - cpuBefore
	sample.CPUSeconds = s.cpuSeconds
	s.latest.Store(sample)
	return sample
}

// readHost reads what belongs to no process.
func (s *Sampler) readHost(sample *Sample, now time.Time) {
	sample.CPU = attempt(s, sourceCPU, now, s.cpu.read)
	sample.Load = attempt(s, sourceLoad, now, s.space.reader.load)
	sample.Memory = attempt(s, sourceMemory, now, readMemory)
	sample.Paging = attempt(s, sourcePaging, now, s.paging.read)
	sample.Disks = attempt(s, sourceDisk, now, s.disks.read)
	sample.Interfaces = attempt(s, sourceNetwork, now, s.networks.read)
	sample.TCP = attempt(s, sourceTCP, now, s.tcp.read)
	sample.Sockets = attempt(s, sourceSockets, now, s.sockets.read)
	sample.Pressure.CPU = attempt(s, sourcePressureCPU, now, s.pressure[0].read)
	sample.Pressure.Memory = attempt(s, sourcePressureMemory, now, s.pressure[1].read)
	sample.Pressure.IO = attempt(s, sourcePressureIO, now, s.pressure[2].read)
	if s.disks.overLimit {
		s.failed(sourceDisk, errOverLimit)
	}
	if s.networks.overLimit {
		s.failed(sourceNetwork, errOverLimit)
	}
	filesystems, err := s.space.sample(now)
	if err != nil {
		s.failed(sourceFilesystem, err)
	}
	sample.Filesystems = filesystems
}

// readWatched reads the watched processes.
func (s *Sampler) readWatched(sample *Sample, now time.Time) {
	if wanted := s.wanted.Load(); wanted != s.inForce {
		s.inForce = wanted
		s.watcher.watch(*wanted)
		if len(*wanted) > WatchedMax {
			s.failed(sourceWatch, errOverLimit)
		}
	}
	sample.Services = s.watcher.sample(s, now, s.boot())
	for i := range sample.Services {
		sample.Watched += len(sample.Services[i].Processes)
	}
}
