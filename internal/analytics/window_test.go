package analytics

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

// timed is an exchange of a duration.
func timed(route string, d time.Duration) *wire.Exchange {
	ex := serverExchange("shop", route, 200)
	ex.Read, ex.Responded, ex.Finished = ex.Arrived, ex.Arrived+int64(d), ex.Arrived+int64(d)
	return ex
}

func windowOf(t testing.TB, e *Engine, length time.Duration) *Window {
	t.Helper()
	w, err := e.Window(length)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Scripts of what is loaded, and what a window says then, in numbers that a person would check. A line is one of
//
//	load COUNT ROUTE MS [STATUS]   exchanges of MS milliseconds, now
//	wait DURATION                  with a tick at each border
//	expect WINDOW ROUTE|* NAME=VALUE…   of the endpoint, or of all; "none": the window does not have the endpoint
//
// Quantiles may be off by 1.1 %, everything else is exact.
func TestWindowScripts(t *testing.T) {
	for name, script := range map[string]string{
		"quantiles": `
			load 94 /a 10
			load 5 /a 200
			load 1 /a 3000
			wait 10s
			expect 1m /a exchanges=100 p50=10 p95=200 p99=200 mean=49.4 failures=0 rps=10`,
		"rates over what was seen": `
			wait 20s
			load 60 /a 100
			wait 10s
			expect 1m /a rps=2 inflight=0.2
			expect 60m /a rps=2
			wait 30s
			expect 1m /a rps=1 inflight=0.1`,
		"errors and timeouts": `
			load 90 /a 10
			load 5 /a 10 500
			load 3 /a 10 504
			load 2 /a 10 404
			wait 10s
			expect 1m /a exchanges=100 failures=8 timeouts=3
			expect 1m * exchanges=100 failures=8 timeouts=3`,
		"one minute rolls at its border": `
			load 7 /a 10
			wait 10s
			load 1 /a 10
			wait 50s
			expect 1m /a exchanges=8
			wait 10s
			expect 1m /a exchanges=1
			wait 9s
			expect 1m /a exchanges=1
			wait 1s
			expect 1m /a none
			expect 5m /a exchanges=8`,
		// The start is at 22:13:20. At 22:18:50 a window of five minutes reaches back to 22:13:00, at 22:19:00 to 22:14:00.
		"five minutes roll with whole minutes": `
			load 7 /a 10
			wait 330s
			expect 5m /a exchanges=7
			wait 9s
			expect 5m /a exchanges=7
			wait 1s
			expect 5m /a none
			expect 15m /a exchanges=7`,
		"fifteen minutes": `
			load 7 /a 10
			wait 939s
			expect 15m /a exchanges=7
			wait 1s
			expect 15m /a none
			expect 60m /a exchanges=7`,
		// The window reaches back to 22:10 until it is 23:15.
		"sixty minutes roll with whole fives": `
			load 7 /a 10
			wait 3699s
			expect 60m /a exchanges=7
			wait 1s
			expect 60m /a none
			expect 60m * exchanges=0`,
		"all tiers are in a long window": `
			load 100 /a 10
			wait 30m
			load 100 /a 20
			wait 4m
			load 100 /a 30
			wait 50s
			load 100 /a 40
			wait 10s
			expect 60m /a exchanges=400 p50=20 p95=40 mean=25
			expect 15m /a exchanges=300 p50=30 mean=30
			expect 1m /a exchanges=200 mean=35`,
		"endpoints that the engine forgot are in windows still": `
			load 100 /a 10
			wait 20m
			load 50 /b 20
			wait 10s
			expect 60m /a exchanges=100
			expect 60m * exchanges=150
			load 10 /a 10
			wait 10s
			expect 60m /a exchanges=110 p50=10
			expect 1m /a exchanges=10`,
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			e := NewEngine(Options{Now: c.now})
			for _, line := range strings.Split(strings.TrimSpace(script), "\n") {
				play(t, e, c, strings.Fields(line))
			}
		})
	}
}

func play(t *testing.T, e *Engine, c *clock, words []string) {
	t.Helper()
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	duration := func(s string) time.Duration {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	switch words[0] {
	case "load":
		ex := timed(words[2], time.Duration(number(words[3])*1e6))
		if len(words) > 4 {
			ex.Outcome = http.Answered(ex.Role, uint16(number(words[4])))
		}
		for range int(number(words[1])) {
			e.Add(ex)
		}
	case "wait":
		for d := duration(words[1]); d > 0; d -= time.Second {
			c.advance(time.Second)
			e.Tick()
			if c.now().Second() == 0 {
				e.Snapshot() // forgets who is idle, as scrapes do
			}
		}
	case "expect":
		w := windowOf(t, e, duration(words[1]))
		stats := w.Total
		if words[2] != "*" {
			i := slices.IndexFunc(w.Endpoints, func(x EntryWindow) bool { return x.Name == words[2] })
			if words[3] == "none" || i < 0 {
				if words[3] != "none" || i >= 0 {
					t.Errorf("%v: endpoint %d of %d", words, i, len(w.Endpoints))
				}
				return
			}
			stats = w.Endpoints[i].Stats
		}
		for _, pair := range words[3:] {
			name, text, _ := strings.Cut(pair, "=")
			values := map[string]float64{
				"exchanges": float64(stats.Exchanges), "failures": float64(stats.Failures), "timeouts": float64(stats.Timeouts),
				"p50": stats.P50 / 1e6, "p95": stats.P95 / 1e6, "p99": stats.P99 / 1e6, "mean": stats.MeanDuration() / 1e6,
				"rps": float64(stats.Exchanges) / w.Seconds, "inflight": stats.InFlight(w.Seconds),
			}
			got, known := values[name]
			want, tolerance := number(text), 1e-9
			if name[0] == 'p' {
				tolerance = .011
			}
			if !known || math.Abs(got-want) > tolerance*want {
				t.Errorf("%v: %s is %v", words, name, got)
			}
		}
	}
}

// Windows equal what the raw values of their time give: counts and sums exactly, quantiles as a histogram of these values
// has them. The times of the exchanges and the lengths of pauses are random.
func TestWindowsEqualRawData(t *testing.T) {
	type raw struct {
		at       time.Time
		duration int64
		route    string
		failed   bool
	}
	r := rand.New(rand.NewPCG(3, 4))
	c := newClock()
	e := NewEngine(Options{Now: c.now, Limits: Limits{Idle: -1}})
	var all []raw
	start := c.now()
	compared := 0
	for step := range 3000 {
		for range r.IntN(8) {
			x := raw{c.now(), int64(math.Exp(r.NormFloat64()*1.2 + 15)), fmt.Sprintf("/%d", r.IntN(3)), r.IntN(10) == 0}
			ex := timed(x.route, time.Duration(x.duration))
			if x.failed {
				ex.Outcome = http.Answered(ex.Role, 500)
			}
			e.Add(ex)
			all = append(all, x)
		}
		d := time.Duration(r.IntN(4000)) * time.Millisecond
		if r.IntN(400) == 0 {
			d = time.Duration(r.IntN(600)) * time.Second
		}
		for d > 0 { // ticks come within a quarter of a second, and at each border
			border := c.now().Truncate(TickInterval).Add(TickInterval).Sub(c.now())
			part := min(d, border)
			c.advance(part)
			d -= part
			e.Tick()
		}
		if step%50 != 0 {
			continue
		}
		for _, length := range WindowLengths {
			w := windowOf(t, e, length)
			asked := w.To.Sub(w.From)
			if w.From.After(start) && (asked < length || asked > length+length/5+50*time.Second) || w.Seconds != asked.Seconds() {
				t.Fatalf("the window of %s is %s long", length, asked)
			}
			compared += len(w.Endpoints)
			for _, got := range w.Endpoints {
				var h Histogram
				var failures uint64
				for _, x := range all {
					if x.route == got.Name && !x.at.Before(w.From) && x.at.Before(w.To) {
						h.Add(x.duration)
						if x.failed {
							failures++
						}
					}
				}
				if got.Exchanges != h.Count() || got.DurationNS != h.sum || got.Failures != failures {
					t.Fatalf("%s of %s from %s to %s: %d exchanges, %d failures; raw %d, %d", got.Name, length, w.From, w.To,
						got.Exchanges, got.Failures, h.Count(), failures)
				}
				for q, v := range map[float64]float64{.5: got.P50, .95: got.P95, .99: got.P99} {
					// The histogram knows the extremes, a window does not.
					if want := h.Quantile(q); math.Abs(v-want) > .011*want || v != want && want != float64(h.max) && want != float64(h.min) &&
						v < float64(h.max) && v > float64(h.min) {
						t.Fatalf("%s of %s: quantile %v is %v, raw %v", got.Name, length, q, v, want)
					}
				}
			}
		}
	}
	if compared < 500 {
		t.Errorf("only %d endpoints were compared", compared)
	}
}

// However wide its durations, an endpoint's sub-windows stay within their share of the memory, and what they say within the
// error that the window tells.
func TestWindowMemoryBound(t *testing.T) {
	if testing.Short() {
		t.Skip("two and a half million exchanges")
	}
	const endpoints = 100
	c := newClock()
	e := NewEngine(Options{Now: c.now, Limits: Limits{Endpoints: endpoints}})
	r := rand.New(rand.NewPCG(1, 2))
	var handles [endpoints]Handle
	for range 420 { // 70 minutes
		for i := range endpoints {
			for range 60 {
				e.AddTo(&handles[i], timed(fmt.Sprint("/", i), time.Duration(math.Exp(r.NormFloat64()*1.5+15))))
			}
		}
		c.advance(TickInterval)
		e.Tick()
	}
	each := e.WindowMemory() / endpoints
	w := windowOf(t, e, time.Hour)
	t.Logf("%d bytes an endpoint, quantiles within %.1f %%", each, 100*w.QuantileError)
	if each > windowBytesPerEndpoint*9/8 {
		t.Errorf("%d bytes an endpoint, the bound is %d", each, windowBytesPerEndpoint)
	}
	if w.QuantileError > .18 {
		t.Errorf("the error is %v", w.QuantileError)
	}
	want := math.Exp(1.6449*1.5 + 15)
	for _, x := range w.Endpoints {
		if math.Abs(x.P95-want) > (w.QuantileError+.1)*want {
			t.Errorf("%s: p95 %v, the distribution's is %v", x.Name, x.P95, want)
		}
	}
	for range 400 { // and when all are quiet, nothing is left but what they had counted
		c.advance(TickInterval)
		e.Tick()
	}
	if left := e.WindowMemory() / endpoints; left > 600 {
		t.Errorf("%d bytes of a quiet endpoint", left)
	}
}

// What 2,000 endpoints need for windows after a million exchanges that took two minutes: it is what is left free when the
// windows are taken away.
func TestWindowMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("a million exchanges")
	}
	all := workload(2000)
	r := rand.New(rand.NewPCG(5, 6))
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	for i := range 1_000_000 {
		e.Add(vary(all[r.IntN(len(all))], r))
		if i%80_000 == 0 {
			c.advance(TickInterval)
			e.Tick()
		}
	}
	records := e.WindowMemory()
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	with := heap()
	e.windows.rings, e.windows.byKey, e.windows.scratch = nil, nil, scratch{}
	windows := with - heap()
	t.Logf("windows: %d KiB, of which %d are records; the engine without them and its workload: %d KiB", windows>>10, records>>10, (with-windows)>>10)
	if windows > 6<<20 || windows < records {
		t.Errorf("windows of 2,000 endpoints take %d bytes", windows)
	}
	runtime.KeepAlive(e)
	runtime.KeepAlive(all)
}

// vary gives an exchange of a workload another duration.
func vary(ex *wire.Exchange, r *rand.Rand) *wire.Exchange {
	ex.Finished = ex.Arrived + int64(math.Exp(r.NormFloat64()*.8+14))
	return ex
}

// What the engine forgets by the thousands stays countable, in bounded memory.
func TestWindowForgotten(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now, Limits: Limits{Endpoints: 10, Idle: 30 * time.Second}})
	n := 0
	for round := range 20 {
		for i := range 10 {
			e.Add(timed(fmt.Sprintf("/%d/%d", round, i), time.Millisecond))
			n++
		}
		for range 6 {
			c.advance(TickInterval)
			e.Tick()
			e.Snapshot()
		}
	}
	w := windowOf(t, e, time.Hour)
	if w.Total.Exchanges != uint64(n) || len(w.Endpoints) > 2*10+2 {
		t.Errorf("%d exchanges of %d at %d endpoints", w.Total.Exchanges, n, len(w.Endpoints))
	}
}

// A window that does not exist is refused, and before the first tick there is an empty one.
func TestWindowEdges(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	if _, err := e.Window(2 * time.Minute); err == nil {
		t.Error("a window of two minutes was accepted")
	}
	e.Add(timed("/a", time.Millisecond))
	c.advance(TickInterval - 1)
	e.Tick()
	if w := windowOf(t, e, time.Minute); len(w.Endpoints) != 0 || w.Seconds != 0 || !math.IsNaN(w.Total.P50) {
		t.Errorf("before the first border: %+v", w)
	}
	c.advance(1)
	e.Tick()
	first := windowOf(t, e, time.Minute)
	if first.Total.Exchanges != 1 || first.Seconds != 10 {
		t.Errorf("after it: %+v", first)
	}
	c.advance(5 * time.Minute) // ticks that were missed
	e.Add(timed("/a", time.Millisecond))
	e.Tick()
	if w := windowOf(t, e, time.Minute); w.Total.Exchanges != 1 || first.Total.Exchanges != 1 {
		t.Errorf("after a pause: %+v", w)
	}
	if w := windowOf(t, e, 5*time.Minute); w.Total.Exchanges != 1 && w.Total.Exchanges != 2 {
		t.Errorf("after a pause: %+v", w)
	}
	c.advance(-time.Hour) // a clock that goes back
	e.Tick()
	windowOf(t, e, time.Hour)
}

// Records survive being written and read, whatever they hold, also at a coarser resolution.
func FuzzRecord(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint16(3), uint16(300), uint8(1))
	f.Add(uint64(math.MaxUint64), uint64(1<<40), uint16(0), uint16(cellsMax-1), uint8(5))
	f.Fuzz(func(t *testing.T, a, b uint64, i, j uint16, by uint8) {
		var s scratch
		s.tally[tallyExchanges], s.tally[tallyFields-1] = a, b
		s.cells.add(int(i)%cellsMax, a>>1|1)
		s.cells.add(int(j)%cellsMax, b>>1|1)
		tallied := s.tally
		var l recordLog
		l = l.append(appendBody(nil, int64(a>>1), &s.tally, &s.cells))
		l = l.append(appendBody(nil, int64(a>>1), &s.tally, &s.cells))
		shift := uint(by % (shiftMax + 1))
		l = l.coarsen(shift, &s)
		first, rest := nextRecord(l)
		second, rest := nextRecord(rest)
		if len(rest) != 0 || first.tick != int64(a>>1) || second.shift != shift {
			t.Fatalf("%+v, %d bytes left", first, len(rest))
		}
		s.load(&first, 0)
		if s.tally != tallied {
			t.Errorf("tally %v, want %v", s.tally, tallied)
		}
		var sum uint64
		for _, n := range s.cells.n {
			sum += n
		}
		if sum != a>>1|1+b>>1|1 && sum != (a>>1|1)+(b>>1|1) {
			t.Errorf("%d in the cells", sum)
		}
		if s.cells.n[int(i)%cellsMax>>shift] == 0 || s.cells.n[int(j)%cellsMax>>shift] == 0 {
			t.Error("a count is in another cell")
		}
	})
}

// busyWindows has 2,000 endpoints that were busy for 65 minutes.
func busyWindows(tb testing.TB) (*Engine, *clock, []*wire.Exchange) {
	tb.Helper()
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	all := workload(2000)
	r := rand.New(rand.NewPCG(7, 8))
	for i := range 390 {
		for _, ex := range all[i%2*8192:][:8192] {
			e.Add(vary(ex, r))
		}
		c.advance(TickInterval)
		e.Tick()
	}
	return e, c, all
}

func BenchmarkTick(b *testing.B) {
	e, c, all := busyWindows(b)
	b.ReportAllocs()
	r := rand.New(rand.NewPCG(9, 10))
	n := 0
	for b.Loop() {
		b.StopTimer()
		for _, ex := range all {
			e.Add(vary(ex, r))
		}
		c.advance(TickInterval)
		b.StartTimer()
		e.Tick()
		n++
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(n), "ms/tick")
	b.ReportMetric(float64(e.WindowMemory())/1024, "KiB")
	b.ReportMetric(100*windowOf(b, e, time.Hour).QuantileError, "%error")
}

func BenchmarkWindow(b *testing.B) {
	e, _, _ := busyWindows(b)
	for _, length := range WindowLengths {
		b.Run(length.String(), func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				e.windows.cached = [4]*Window{}
				if w := windowOf(b, e, length); len(w.Endpoints) != 2000 {
					b.Fatal(len(w.Endpoints))
				}
				n++
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(n), "ms/window")
		})
	}
}
