package analytics

import (
	"math"
	"time"

	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// loadTicks is how many ticks an estimate of the capacity rests on: a quarter of an hour.
	loadTicks = 90
	// peakTicks is how long the most that a service has done is remembered, in ticks, and peakEvery how finely.
	peakTicks = 360
	peakEvery = ticksPerFive
	// loadServices bounds the services of which this is kept, in some 8 KiB each.
	loadServices = 512
	// peakSeconds is the shortest time over which a throughput is one.
	peakSeconds = 5
)

// load is what a service did in one tick. What is not known is NaN.
type load struct {
	tick             int64
	rps              float32
	exchanges, timed uint32
	wait             float32 // mean seconds from a request's arrival to its being read
	hold             float32 // and from there to its end
	cpu              float32 // processors that it kept busy
	free             float32 // processors that were idle meanwhile
}

// peak is the highest throughput of some ticks.
type peak struct {
	period int64
	rps    float32
}

// history is what a service did lately.
type history struct {
	loads []load // the latest loadTicks at most, the oldest first; ticks without exchanges are left out
	peaks [peakTicks/peakEvery + 1]peak
	last  int64 // tick with exchanges

	cpuSeconds float64 // processor time as of cpuAt
	cpuAt      time.Time
	meter      meter
	bounds     processorBounds

	estimate  Saturation // but for what is left
	estimated bool       // since the latest tick
}

// processorBounds are what bounds the processors that a service can use at once; +Inf: nothing known.
type processorBounds struct{ processors, limit, threads float64 }

// most is how many processors it can use at most.
func (b processorBounds) most() float64 { return min(b.processors, b.limit, b.threads) }

type serviceName struct{ service, namespace string }

// loads keeps the histories of services.
type loads struct {
	latest    func() *host.Sample // nil: nothing is known of processors
	byService map[serviceName]*history

	idleSeconds float64 // of all processors, as of idleAt
	idleAt      time.Time
}

// ObserveHost has the engine take processor times from samples of the host, of which latest returns the newest, nil before the
// first. Without it there are no estimates that rest on them.
func (e *Engine) ObserveHost(latest func() *host.Sample) {
	e.windows.mu.Lock()
	defer e.windows.mu.Unlock()
	e.windows.loads.latest = latest
}

// consume takes a seal in.
func (l *loads) consume(s *Seal) {
	var sample *host.Sample
	if l.latest != nil {
		sample = l.latest()
	}
	free := l.free(sample)
	services := map[serviceName]*host.Service{}
	if sample != nil {
		for i := range sample.Services {
			services[serviceName{sample.Services[i].Name, sample.Services[i].Namespace}] = &sample.Services[i]
		}
	}
	done := l.sum(s)
	for name, h := range l.byService {
		h.estimated = false
		cpu := h.cpu(sample, services[name])
		h.meter.add(s.Tick, h.cpuSeconds, h.cpuAt)
		if n, ok := done[name]; ok {
			n.cpu, n.free = float32(cpu), float32(free)
			h.add(n, s.To.Sub(s.From).Seconds())
		} else if s.Tick-h.last > peakTicks {
			delete(l.byService, name)
		}
	}
}

// sum returns what each service did in a seal, and makes histories of those that are new.
func (l *loads) sum(s *Seal) map[serviceName]load {
	if l.byService == nil {
		l.byService = map[serviceName]*history{}
	}
	all := map[serviceName]load{}
	for i := 0; i < len(s.Entries); {
		first := s.Entries[i]
		name := serviceName{first.Service, first.Namespace}
		var sum loadSum
		for ; i < len(s.Entries) && s.Entries[i].Role == first.Role && s.Entries[i].Service == name.service && s.Entries[i].Namespace == name.namespace; i++ {
			sum.add(&s.Entries[i].Counts)
		}
		if first.Role == wire.RoleClient || name.service == Other {
			continue
		}
		if l.byService[name] == nil {
			if len(l.byService) >= loadServices {
				continue
			}
			l.byService[name] = &history{bounds: processorBounds{math.Inf(1), math.Inf(1), math.Inf(1)}}
		}
		all[name] = sum.load(s)
	}
	return all
}

// loadSum adds up exchanges.
type loadSum struct {
	exchanges, timed, queued uint64
	durations, queues        float64 // seconds
}

func (n *loadSum) add(c *Counts) {
	for i := range c.Series {
		r := &c.Series[i]
		n.exchanges += r.Duration.Count() + r.Untimed
		n.timed += r.Duration.Count()
		n.durations += r.Duration.Sum()
	}
	n.queued += c.Queue.Count()
	n.queues += c.Queue.Sum()
}

func (n *loadSum) load(s *Seal) load {
	out := load{tick: s.Tick, exchanges: uint32(n.exchanges), timed: uint32(n.timed),
		rps: float32(float64(n.exchanges) / s.To.Sub(s.From).Seconds())}
	wait := n.queues / float64(n.queued)
	out.wait, out.hold = float32(wait), float32(n.durations/float64(n.timed)-wait)
	if out.hold < 0 { // few of them have a queue phase, and these are others
		out.hold = float32(math.NaN())
	}
	return out
}

// free returns how many processors were idle since the sample before.
func (l *loads) free(s *host.Sample) float64 {
	if s == nil || s.CPU == nil {
		return math.NaN()
	}
	idle := s.CPU.Modes[host.CPUIdle].Total + s.CPU.Modes[host.CPUIOWait].Total
	seconds := s.Time.Sub(l.idleAt).Seconds()
	free := (idle - l.idleSeconds) / seconds
	if l.idleAt.IsZero() || seconds <= 0 {
		free = math.NaN()
	}
	l.idleSeconds, l.idleAt = idle, s.Time
	return max(free, 0)
}

// cpu returns how many processors the service kept busy since the sample before.
func (h *history) cpu(s *host.Sample, of *host.Service) float64 {
	if s == nil || s.CPU == nil || of == nil || !host.Known(of.CPUSeconds.Total) {
		h.cpuAt = time.Time{}
		return math.NaN()
	}
	h.bounds = processorBounds{processors: float64(s.CPU.Processors), limit: math.Inf(1), threads: math.Inf(1)}
	if of.Threads > 0 {
		h.bounds.threads = of.Threads
	}
	for i := range of.Cgroups {
		if limit := of.Cgroups[i].CPULimit; limit > 0 {
			h.bounds.limit = min(h.bounds.limit, limit)
		}
	}
	seconds := s.Time.Sub(h.cpuAt).Seconds()
	cpu := (of.CPUSeconds.Total - h.cpuSeconds) / seconds
	if h.cpuAt.IsZero() || seconds <= 0 || cpu < 0 {
		cpu = math.NaN()
	}
	h.cpuSeconds, h.cpuAt = of.CPUSeconds.Total, s.Time
	return cpu
}

// add appends what was done in the latest tick, which lasted for some seconds.
func (h *history) add(n load, seconds float64) {
	h.last = n.tick
	kept := h.loads[:0]
	for _, before := range h.loads {
		if n.tick-before.tick < loadTicks {
			kept = append(kept, before)
		}
	}
	h.loads = append(kept, n)
	if seconds < peakSeconds {
		return
	}
	period := n.tick / peakEvery
	if p := &h.peaks[period%int64(len(h.peaks))]; p.period != period || n.rps > p.rps {
		*p = peak{period, n.rps}
	}
}

// served returns the highest throughput of the last hour.
func (h *history) served() (most float64) {
	for _, p := range h.peaks {
		if h.last/peakEvery-p.period < int64(len(h.peaks)) {
			most = max(most, float64(p.rps))
		}
	}
	return most
}

// saturation returns the estimate for a service that has this throughput.
func (l *loads) saturation(service, namespace string, throughput float64) Saturation {
	h := l.byService[serviceName{service, namespace}]
	if h == nil {
		return Saturation{Reason: "no history of it is kept"}
	}
	if !h.estimated {
		h.estimate, h.estimated = estimateCapacity(h), true
	}
	e := h.estimate
	if e.Known {
		e.CapacityLeft = max(1-throughput/e.CapacityRPS, 0)
	}
	return e
}

// processors returns how many processors a service kept busy on average since a tick, NaN where that is not known.
func (l *loads) processors(service, namespace string, from int64) float64 {
	h := l.byService[serviceName{service, namespace}]
	if h == nil {
		return math.NaN()
	}
	return h.meter.mean(from)
}
