package analytics

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/host"
)

// station is a simulated service behind an engine: random arrivals, workers that hold a request each, and processors.
type station struct {
	workers int           // at a time; 0: as many as there are requests
	hold    time.Duration // mean for which a request holds its worker
	fixed   bool          // always the mean; else exponential
	inside  bool          // a request is read at once, and waits for its worker then
	wake    time.Duration // from a request's arrival to a free worker's reading it
	cost    time.Duration // processor time of a request
	// processors and threads are what it has, idle the share of the processors that others leave.
	processors int
	threads    float64
	others     float64 // processors that others keep busy
	unsampled  bool    // nothing is known of processors

	r       *rand.Rand
	busy    []float64 // when each worker is free again, seconds
	now     float64
	counter float64 // processor seconds
	idle    float64
	sample  *host.Sample
}

// run loads the service for some ticks at each of the rates, and returns the estimate and the highest throughput of a tick.
func (s *station) run(t *testing.T, ticks int, rates ...float64) (Saturation, float64) {
	t.Helper()
	if s.r == nil {
		s.r = rand.New(rand.NewPCG(20261129, 7))
	}
	c := newClock()
	c.advance(100 * time.Second) // to a whole five minutes
	e := NewEngine(Options{Now: c.now})
	if !s.unsampled {
		e.ObserveHost(func() *host.Sample { return s.sample })
	}
	s.busy = make([]float64, s.workers)
	var most float64
	for _, rps := range rates {
		for range ticks {
			n := s.tick(e, rps)
			most = max(most, float64(n)/TickInterval.Seconds())
			c.advance(TickInterval)
			s.takeSample(c.now(), n)
			e.Tick()
		}
	}
	w := windowOf(t, e, 15*time.Minute)
	if len(w.Services) != 1 {
		t.Fatalf("%d services", len(w.Services))
	}
	got := w.Services[0].Saturation
	if got.Known == (got.Reason != "") || got.Known && !(got.LowRPS <= got.CapacityRPS && got.CapacityRPS <= got.HighRPS) {
		t.Errorf("%+v", got)
	}
	return got, most
}

// tick lets ten seconds pass and returns how many requests ended.
func (s *station) tick(e *Engine, rps float64) (n int) {
	end := s.now + TickInterval.Seconds()
	for s.now += s.r.ExpFloat64() / rps; s.now < end; s.now += s.r.ExpFloat64() / rps {
		hold := s.hold.Seconds()
		if !s.fixed {
			hold *= s.r.ExpFloat64()
		}
		start := s.now
		if s.workers > 0 {
			i := slices.Index(s.busy, slices.Min(s.busy))
			start = max(start, s.busy[i])
			s.busy[i] = start + hold
		}
		read := start + s.wake.Seconds()
		if s.inside {
			read = s.now + s.wake.Seconds()
		}
		ex := timed("/a", 0)
		ex.Read = ex.Arrived + int64(1e9*(read-s.now))
		ex.Finished = ex.Arrived + int64(1e9*(max(read, start)+hold-s.now))
		ex.Responded = ex.Finished
		e.Add(ex)
		n++
	}
	s.now = end
	return n
}

func (s *station) takeSample(now time.Time, n int) {
	used := float64(n) * s.cost.Seconds()
	s.counter += used
	s.idle += max(10*(float64(s.processors)-s.others)-used, 0)
	cpu := &host.CPU{Processors: s.processors}
	cpu.Modes[host.CPUIdle].Total = s.idle
	s.sample = &host.Sample{Time: now, CPU: cpu, Services: []host.Service{{Name: "shop", Threads: s.threads, CPUSeconds: host.Counter{Total: s.counter}}}}
}

// varied are loads as a day has them, in parts of the capacity.
func varied(capacity float64) (rates []float64) {
	for _, part := range []float64{.3, .5, .7, .4, .6, .8, .85, .75, .9} {
		rates = append(rates, part*capacity)
	}
	return rates
}

// Where a limit shows, it is found: the true capacity of simulated services lies in the interval, and the estimate near it, by
// the method that can tell.
func TestCapacity(t *testing.T) {
	ms := time.Millisecond
	for name, c := range map[string]struct {
		station
		rates    []float64
		capacity float64
		method   string
		within   float64
	}{
		"one worker, half used": {station{workers: 1, hold: 10 * ms}, []float64{50}, 100, "waiting", .1},
		"one worker, varied":    {station{workers: 1, hold: 10 * ms}, varied(100), 100, "load", .1},
		// They wait half as long as random ones: the estimate is high, and the interval says so.
		"one worker, equal requests": {station{workers: 1, hold: 10 * ms, fixed: true}, []float64{70}, 100, "waiting", .25},
		"four workers":               {station{workers: 4, hold: 40 * ms}, []float64{80}, 100, "waiting", .12},
		"four workers, varied":       {station{workers: 4, hold: 40 * ms}, varied(100), 100, "waiting", .12},
		"sixteen workers, nearly":    {station{workers: 16, hold: 80 * ms}, []float64{190}, 200, "waiting", .1},
		"one, waits inside":          {station{workers: 1, hold: 10 * ms, inside: true, unsampled: true}, varied(100), 100, "load", .1},
		"four, waits inside":         {station{workers: 4, hold: 40 * ms, inside: true, unsampled: true}, varied(100), 100, "load", .12},
		"processors, 2 of 4": {station{hold: 10 * ms, fixed: true, cost: 10 * ms, processors: 4, threads: 20},
			[]float64{220}, 400, "processors", .02},
		"processors, one thread": {station{hold: 10 * ms, fixed: true, cost: 9 * ms, processors: 8, threads: 1},
			[]float64{60}, 1000. / 9, "processors", .02},
		"processors, used by others": {station{hold: 20 * ms, fixed: true, cost: 10 * ms, processors: 4, threads: 20, others: 2},
			[]float64{150}, 200, "processors", .02},
		"workers before processors": {station{workers: 4, hold: 40 * ms, cost: 25 * ms, processors: 4, threads: 4},
			[]float64{85}, 100, "waiting", .12},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := c.run(t, 90/len(c.rates), c.rates...)
			t.Logf("%+v", got)
			if got.Method != c.method || math.Abs(got.CapacityRPS-c.capacity) > c.within*c.capacity {
				t.Errorf("want %g by %s", c.capacity, c.method)
			}
			if got.LowRPS > 1.02*c.capacity || got.HighRPS < .98*c.capacity {
				t.Errorf("%g is not between %g and %g", c.capacity, got.LowRPS, got.HighRPS)
			}
		})
	}
}

// Where no limit shows there is no estimate, and the reason: an idle service whose requests wait for most of their time because
// they are quick, one that waits for others, one that might use one processor or many, a few requests, or bursts.
func TestCapacityUnknown(t *testing.T) {
	us, ms := time.Microsecond, time.Millisecond
	for name, c := range map[string]struct {
		station
		rates []float64
	}{
		"idle":                       {station{hold: 50 * us, wake: 60 * us, cost: 40 * us, processors: 2, threads: 2}, []float64{.05}},
		"a few quick requests":       {station{hold: 50 * us, wake: 300 * us, cost: 40 * us, processors: 2, threads: 2}, []float64{.5}},
		"quick ones":                 {station{hold: 50 * us, wake: 60 * us, cost: 40 * us, processors: 2, threads: 2}, []float64{500}},
		"quick ones, slowly woken":   {station{hold: 50 * us, wake: 2 * ms, cost: 40 * us, processors: 2, threads: 2}, []float64{500}},
		"quick ones, at any rate":    {station{hold: 900 * us, wake: 900 * us, unsampled: true}, []float64{800}},
		"late, whatever the load":    {station{hold: 20 * ms, wake: 30 * ms, unsampled: true}, []float64{15}},
		"late, and held for long":    {station{hold: 100 * ms, wake: 3 * ms, unsampled: true}, []float64{100}},
		"waits for others":           {station{hold: 100 * ms, wake: 60 * us, cost: 4 * ms, processors: 2, threads: 20}, []float64{200}},
		"waits for others, varied":   {station{hold: 100 * ms, wake: 60 * us, cost: 200 * us, processors: 2, threads: 20}, varied(500)},
		"one processor or many":      {station{hold: 10 * ms, fixed: true, cost: 10 * ms, processors: 3, threads: 11}, []float64{90}},
		"many workers, hardly used":  {station{workers: 32, hold: 50 * ms}, []float64{100}},
		"processors full of others":  {station{hold: 900 * us, fixed: true, cost: 600 * us, processors: 2, threads: 20, others: 1.98}, []float64{19}},
		"most of them are others'":   {station{hold: 20 * ms, fixed: true, cost: 15 * ms, processors: 4, threads: 20, others: 3.5}, []float64{24}},
		"nothing known of the times": {station{hold: 10 * ms, unsampled: true}, []float64{50}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := c.run(t, 90/len(c.rates), c.rates...); got.Known || got.Reason == "" {
				t.Errorf("%+v", got)
			}
		})
	}
}

// The reason why there is no estimate is true: of how long and of what the load was, and whether requests wait.
func TestCapacityReasons(t *testing.T) {
	ms := time.Millisecond
	for name, c := range map[string]struct {
		ticks       []int         // exchanges in each
		burst       int           // of so many at once, which one worker takes one after the other; 0: they do not wait
		hold        time.Duration // for which each holds the worker
		unseen      bool          // the queue phase is not seen
		want, never string
	}{
		"much, for half a minute": {ticks: []int{9000, 9000, 9000}, hold: ms, want: "its exchanges were observed for less than a minute", never: "few"},
		"much, now and then":      {ticks: []int{9000, 0, 0, 0, 9000, 1, 1, 1, 1}, hold: ms, want: "fewer than 6 intervals of 10 s had 20 exchanges or more in the last 15 minutes"},
		"little":                  {ticks: []int{20, 20, 20, 20, 20, 20, 20}, hold: ms, want: "fewer than 200 exchanges in the last 15 minutes"},
		"bursts": {ticks: []int{120, 180, 120, 180, 120, 180, 120, 180}, burst: 60, hold: 2 * ms,
			want: "they come in bursts", never: "hardly wait"},
		"steady": {ticks: []int{150, 150, 150, 150, 150, 150}, hold: ms, want: "requests hardly wait to be read; the load hardly varied"},
		"short, equal waits": {ticks: []int{150, 150, 150, 150, 150, 150}, burst: 2, hold: 500 * time.Microsecond,
			want: "requests wait for less than a millisecond to be read", never: "hardly wait"},
		"two loads":  {ticks: []int{100, 300, 100, 300, 100, 300, 300, 300, 300}, hold: ms, want: "too few different loads were seen", never: "hardly varied"},
		"not queued": {ticks: []int{150, 150, 150, 150, 150, 150}, hold: ms, unseen: true, want: "how long requests wait to be read is not seen", never: "hardly wait"},
	} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			e := NewEngine(Options{Now: clock.now})
			for _, n := range c.ticks {
				for i := range n {
					ex := timed("/a", 0)
					if c.burst > 0 {
						ex.Read += int64(i%c.burst) * int64(c.hold)
					}
					ex.Finished = ex.Read + int64(c.hold)
					ex.Responded = ex.Finished
					if c.unseen {
						ex.Read = 0
					}
					e.Add(ex)
				}
				clock.advance(TickInterval)
				e.Tick()
			}
			got := windowOf(t, e, time.Hour).Services[0].Saturation
			if got.Known || !strings.Contains(got.Reason, c.want) || c.never != "" && strings.Contains(got.Reason, c.never) {
				t.Errorf("%+v, want %q and not %q", got, c.want, c.never)
			}
		})
	}
}

// A capacity is never below what was served in the last hour, whatever window is asked for and whatever the load is now.
func TestCapacityServed(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for seed := range uint64(6) {
		s := station{workers: 1, hold: 15 * time.Millisecond, r: rand.New(rand.NewPCG(seed, 1))}
		var rates []float64
		for range 40 {
			rates = append(rates, 66*r.Float64())
		}
		if got, most := s.run(t, 2, rates...); got.Known && (got.CapacityRPS < most-1e-6*most || got.LowRPS < most-1e-6*most || math.Abs(got.ServedRPS-most) > 1e-6*most) {
			t.Errorf("served %v: %+v", most, got)
		}
	}
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	tick := func(n int, d time.Duration) {
		for i := range n {
			ex := timed("/a", d)
			ex.Read = ex.Arrived + int64(d)/2 + int64(i%3)
			e.Add(ex)
		}
		c.advance(TickInterval)
		e.Tick()
	}
	// A burst of 9,000/s for ten seconds; then the service is slow, as if something were in its way.
	tick(90_000, 2*time.Millisecond)
	for range loadTicks + 10 {
		tick(500, 20*time.Millisecond)
	}
	for _, length := range WindowLengths {
		got := windowOf(t, e, length).Services[0].Saturation
		if !got.Known || got.CapacityRPS < 9000 || got.LowRPS < 9000 || got.ServedRPS != 9000 {
			t.Errorf("%s after 9,000/s: %+v", length, got)
		}
	}
}

// Histories are bounded, and end an hour after the last exchange.
func TestLoadsBounded(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now, Limits: Limits{Endpoints: 2 * loadServices}})
	for i := range loadServices + 50 {
		ex := timed("/a", time.Millisecond)
		ex.Service = fmt.Sprint("s", i)
		e.Add(ex)
	}
	c.advance(TickInterval)
	e.Tick()
	if n := len(e.windows.loads.byService); n != loadServices {
		t.Errorf("%d histories", n)
	}
	for range peakTicks + 1 {
		c.advance(TickInterval)
		e.Tick()
	}
	if n := len(e.windows.loads.byService); n != 0 {
		t.Errorf("%d histories after an hour", n)
	}
}

// Counting, ticking, asking and configuring go on at the same time (for the race detector), and nothing is lost.
func TestWindowConcurrency(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now, Limits: Limits{Endpoints: 50, Idle: time.Minute}})
	const n = 20_000
	var all sync.WaitGroup
	done := make(chan struct{})
	all.Go(func() {
		defer close(done)
		var h Handle
		ex := timed("/a", time.Millisecond)
		for i := range n / 2 {
			e.AddTo(&h, ex)
			other := timed("/", time.Millisecond)
			other.Name = string(rune('a' + i%60))
			e.Add(other)
		}
	})
	moved := 0
	for _, f := range []func(){
		func() {
			if moved++; moved < 90_000 { // half an hour, of which a window of an hour forgets nothing
				c.advance(20 * time.Millisecond)
			}
			e.Tick()
		},
		func() { e.Snapshot() },
		func() {
			for _, l := range WindowLengths {
				if _, err := e.Window(l); err != nil {
					t.Error(err)
				}
			}
		},
		func() { e.SetLevels(LevelOptions{}); e.Levels(); e.WindowMemory() },
	} {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					f()
				}
			}
		})
	}
	all.Wait()
	c.advance(TickInterval)
	e.Tick()
	var windows, counted uint64
	for _, k := range e.Snapshot().Exchanges {
		counted += k.Count
	}
	windows = windowOf(t, e, time.Hour).Total.Exchanges
	if counted != n || windows != n {
		t.Errorf("%d counted, %d in the window, of %d", counted, windows, n)
	}
}
