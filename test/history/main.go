// Command history measures the local history: what 200 endpoints at one minute for 7 days need on the disk and in memory, what
// storing costs, and how long queries take. It fails where a bound is not met.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/wire"
)

// The bounds.
const (
	diskMax       = 80e6 // bytes
	memoryMax     = 30e6 // bytes, more than before
	coreMax       = .02  // of one core, while ticks come every 10 s
	dayQueryMax   = 10 * time.Millisecond
	weekQueryMax  = 40 * time.Millisecond
	wholeQueryMax = 3 * time.Second
	limit         = 128 << 20 // --limits.memory
)

// load is a synthetic host.
type load struct {
	endpoints int
	rate      float64 // requests a second of all, at noon twice the average of the night
	random    *rand.Rand
	median    []float64
	spread    []float64
	share     []float64
	calls     int // of own
}

// services is how many there are.
const services = 12

func newLoad(endpoints int, rate float64) *load {
	l := &load{endpoints: endpoints, rate: rate, random: rand.New(rand.NewPCG(1, 2))}
	sum := 0.
	for i := range endpoints {
		l.share = append(l.share, 1/float64(i+1)) // Zipf's law
		sum += l.share[i]
		l.median = append(l.median, 5e6*math.Exp(1.2*l.random.NormFloat64()))
		l.spread = append(l.spread, .3+.6*l.random.Float64())
	}
	for i := range l.share {
		l.share[i] /= sum
	}
	return l
}

var (
	fine     = analytics.Result{Outcome: wire.Outcome{Code: 200}, Protocol: "http/1.1"}
	missing  = analytics.Result{Outcome: wire.Outcome{Code: 404, Class: wire.ClassClientFault}, Protocol: "http/1.1"}
	internal = analytics.Result{Outcome: wire.Outcome{Code: 500, Class: wire.ClassServerFault, ErrorType: "500"}, Protocol: "http/1.1"}
)

// seal makes a tick of the given length.
func (l *load) seal(to time.Time, length time.Duration) *analytics.Seal {
	s := &analytics.Seal{From: to.Add(-length), To: to}
	day := 1 + .5*math.Sin(2*math.Pi*float64(to.Unix()%86400)/86400)
	for i := range l.endpoints {
		mean := l.rate * length.Seconds() * l.share[i] * day
		n := l.poisson(mean)
		if n == 0 {
			continue
		}
		s.Entries = append(s.Entries, l.entry(i, n))
	}
	return s
}

func (l *load) poisson(mean float64) int {
	if mean > 50 {
		return max(0, int(mean+math.Sqrt(mean)*l.random.NormFloat64()+.5))
	}
	n, p := 0, l.random.Float64()
	for limit := math.Exp(-mean); p > limit; n++ {
		p *= l.random.Float64()
	}
	return n
}

func (l *load) entry(i, n int) *analytics.Sealed {
	e := &analytics.Sealed{Key: analytics.Key{Role: wire.RoleServer, Service: fmt.Sprint("service-", i%services),
		Operation: wire.Operation{Verb: "GET", Name: fmt.Sprintf("/api/v1/things/%d/{id}", i)}}}
	e.RequestSize, e.ResponseSize = analytics.NewHistogram(analytics.Bytes), analytics.NewHistogram(analytics.Bytes)
	e.Series = []analytics.Series{{Result: fine}, {Result: missing}, {Result: internal}}
	r := l.random
	for range n {
		queue := 30e3 * math.Exp(.5*r.NormFloat64())
		processing := l.median[i] * math.Exp(l.spread[i]*r.NormFloat64())
		if r.IntN(100) == 0 {
			processing *= 8
		}
		transfer := 8e3 * math.Exp(.4*r.NormFloat64())
		e.Queue.Add(int64(queue))
		e.Processing.Add(int64(processing))
		e.Transfer.Add(int64(transfer))
		e.RequestSize.Add(0)
		e.ResponseSize.Add(int64(2000 * math.Exp(.3*r.NormFloat64())))
		result := 0
		if p := r.IntN(1000); p < 3 {
			result = 2
		} else if p < 13 {
			result = 1
		}
		e.Series[result].Duration.Add(int64(queue + processing + transfer))
	}
	return e
}

// latencyBuckets are those of each distribution that the kernel side counts of a service (bpf/host.h).
const latencyBuckets = 26

// own makes what an agent says of itself and of its services beside their endpoints: 100 series of the agent, half of which stay what
// they are; of each service two distributions of which few buckets are met, and seven counters; the levels of each endpoint.
func (l *load) own() (all []analytics.Figure) {
	l.calls++
	add := func(name string, counter bool, v float64, labels ...analytics.Label) {
		all = append(all, analytics.Figure{Name: name, Labels: labels, Counter: counter, Value: v})
	}
	for i := range 100 {
		v := 1.
		if i%2 == 1 {
			v = float64(l.calls * (1000*i + l.random.IntN(100)))
		}
		add(fmt.Sprint("perfagent_something_", i, "_total"), true, v)
	}
	for i := range services {
		service := analytics.Label{Name: "service_name", Value: fmt.Sprint("service-", i)}
		for _, name := range []string{"perfagent_tcp_rtt_seconds", "perfagent_process_run_queue_latency_seconds"} {
			met := 0
			for bucket := range latencyBuckets {
				if bucket >= 4 && bucket < 14 {
					met += l.calls + l.random.IntN(3)
				}
				add(name+"_bucket", true, float64(met), analytics.Label{Name: "le", Value: fmt.Sprint(bucket)}, service)
			}
			add(name+"_count", true, float64(met), service)
			add(name+"_sum", true, float64(met)*.00123, service)
		}
		for j := range 7 {
			add(fmt.Sprint("perfagent_tcp_", j, "_total"), true, float64(l.calls/(60*(j+1))), service)
		}
	}
	for i := range l.endpoints {
		for _, aspect := range []string{"error_rate", "latency"} {
			add("perfagent_endpoint_level", false, float64((l.calls/(i+7))%2), analytics.Label{Name: "aspect", Value: aspect},
				analytics.Label{Name: "http_request_method", Value: "GET"}, analytics.Label{Name: "http_route", Value: fmt.Sprintf("/api/v1/things/%d/{id}", i)},
				analytics.Label{Name: "service_name", Value: fmt.Sprint("service-", i%services)})
		}
	}
	return all
}

// process is what the process has used.
type process struct {
	resident int64
	cpu      time.Duration
}

func usage() process {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		fail(err)
	}
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		fail(err)
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return process{pages * int64(os.Getpagesize()), time.Duration(u.Utime.Nano() + u.Stime.Nano())}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "history:", err)
	os.Exit(1)
}

// bench measures one load.
type bench struct {
	load     *load
	days     int
	strict   bool
	own      bool // with what the agent says of itself and its services
	failures int
}

func main() {
	days := flag.Int("days", 7, "`days` of history")
	flag.Parse()
	debug.SetGCPercent(25) // as the agent
	debug.SetMemoryLimit(limit)
	// The bounds are for 8 requests a minute of an average endpoint; a busier host has less of the past in as many bytes.
	failures := 0
	for _, c := range []struct {
		rate        float64
		strict, own bool
	}{{26, true, false}, {26, false, true}, {100, false, false}} {
		b := &bench{load: newLoad(200, c.rate), days: *days, strict: c.strict, own: c.own}
		if !c.strict {
			b.days = 1 // for its bytes a minute
		}
		if err := b.run(); err != nil {
			fail(err)
		}
		failures += b.failures
	}
	if failures > 0 {
		fail(fmt.Errorf("%d bounds are not met", failures))
	}
}

// say prints a figure with its bound.
func (b *bench) say(what string, value, bound float64, format string) {
	verdict := ""
	if b.strict {
		verdict = fmt.Sprintf("at most "+format, bound)
		if value > bound {
			verdict += "  NOT MET"
			b.failures++
		}
	}
	fmt.Printf("  %-52s "+format+"   %s\n", what, value, verdict)
}

func (b *bench) run() error {
	path, err := os.MkdirTemp("", "perfagent-bench-history-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(path)
	fmt.Printf("200 endpoints, %.3g requests a second, %d days%s\n", b.load.rate, b.days, map[bool]string{true: ", with 1,256 figures of the agent and 12 services"}[b.own])
	o := history.Options{Path: path, MaxBytes: 4 << 30, Log: slog.New(slog.DiscardHandler)}
	if b.own {
		o.Own = b.load.own
	}
	runtime.GC()
	debug.FreeOSMemory()
	before := usage()
	h := history.Open(o)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan struct{})
	go func() { defer close(ended); h.Run(ctx) }()
	start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	end := start.Add(time.Duration(b.days) * 24 * time.Hour)
	// Minutes for all but the last hour, which has every tick, so that there is what an agent has.
	hour := end.Add(-time.Hour)
	n := uint64(0)
	peak := int64(0)
	feed := func(s *analytics.Seal) {
		h.Consume(s, nil)
		n++
		for h.Stats().Ticks < n {
			time.Sleep(50 * time.Microsecond)
		}
		if n%64 == 0 {
			peak = max(peak, usage().resident)
		}
	}
	for at := start.Add(time.Minute); !at.After(hour); at = at.Add(time.Minute) {
		feed(b.load.seal(at, time.Minute))
	}
	bytes := tierBytes(h, "1m")
	b.say("on the disk: a minute's resolution, MB", bytes/1e6, diskMax/1e6, "%8.1f")
	fmt.Printf("  %-52s %8.1f\n", "  bytes of an endpoint's minute", bytes/(200*60*hour.Sub(start).Hours()))
	fmt.Printf("  %-52s %8.1f\n", "  an hour's resolution, MB", tierBytes(h, "1h")/1e6)
	b.storing(h, hour, end, feed)
	b.say("resident memory, at most, more than before, MB", float64(peak-before.resident)/1e6, memoryMax/1e6, "%8.1f")
	if err := b.queries(h, end); err != nil {
		return err
	}
	if err := b.engineQueries(h, end.Add(analytics.TickInterval), feed); err != nil {
		return err
	}
	b.say("resident memory at the end, limit of the agent, MB", float64(usage().resident)/1e6, limit/1e6, "%8.1f")
	stop()
	<-ended
	return b.open(path)
}

func tierBytes(h *history.History, name string) float64 {
	for _, t := range h.Stats().Tiers {
		if t.Name == name {
			return float64(t.Bytes)
		}
	}
	return 0
}

// storing measures an hour of ticks, and the segments at its end, without what the load itself costs.
func (b *bench) storing(h *history.History, from, to time.Time, feed func(*analytics.Seal)) {
	var cpu time.Duration
	seals := h.Stats().Seals
	for at := from.Add(analytics.TickInterval); !at.After(to.Add(analytics.TickInterval)); at = at.Add(analytics.TickInterval) {
		s := b.load.seal(at, analytics.TickInterval)
		before := usage().cpu
		feed(s)
		cpu += usage().cpu - before
	}
	if h.Stats().Seals == seals {
		fail(errors.New("no segment was made in the hour"))
	}
	b.say("processor time, part of a core", cpu.Seconds()/to.Sub(from).Seconds(), coreMax, "%8.5f")
}

func matcher(name, value string) history.Matcher {
	return history.Matcher{Name: name, Match: func(v string) bool { return v == value }}
}

// quantile is the 99th percentile of all series that are chosen.
func quantile(h *history.History, q history.Query) (float64, uint64, error) {
	r, err := h.Select(q)
	if err != nil {
		return 0, 0, err
	}
	defer r.Close()
	var all analytics.Histogram
	for _, s := range r.Series {
		sum, err := s.Sum()
		if err != nil {
			return 0, 0, err
		}
		all.Merge(&sum)
	}
	return all.Quantile(.99), all.Count(), nil
}

func (b *bench) queries(h *history.History, end time.Time) error {
	one := []history.Matcher{matcher("__name__", "http_server_request_duration_seconds"), matcher("http_route", "/api/v1/things/20/{id}")}
	for _, q := range []struct {
		what  string
		query history.Query
		bound time.Duration
	}{
		{"p99 of an endpoint over 24 h, by minutes, ms", history.Query{From: end.Add(-24 * time.Hour), To: end, Step: time.Minute, Matchers: one}, dayQueryMax},
		{"p99 of an endpoint over 7 days, by minutes, ms", history.Query{From: end.Add(-168 * time.Hour), To: end, Step: time.Minute, Matchers: one}, weekQueryMax},
		{"p99 of all endpoints over 7 days, by hours, ms", history.Query{From: end.Add(-168 * time.Hour), To: end, Step: time.Hour, Matchers: one[:1]}, wholeQueryMax},
		{"p99 of all endpoints over 7 days, by minutes, ms", history.Query{From: end.Add(-168 * time.Hour), To: end, Step: time.Minute, Matchers: one[:1]}, 0},
	} {
		best := time.Duration(math.MaxInt64)
		var count uint64
		for range 3 {
			began := time.Now()
			_, n, err := quantile(h, q.query)
			if err != nil {
				return err
			}
			best, count = min(best, time.Since(began)), n
		}
		if count == 0 {
			return errors.New("a query found nothing")
		}
		if q.bound == 0 {
			fmt.Printf("  %-52s %8.1f   of %d requests\n", q.what, float64(best)/1e6, count)
			continue
		}
		b.say(q.what, float64(best)/1e6, float64(q.bound)/1e6, "%8.1f")
	}
	return nil
}

// open measures a start.
func (b *bench) open(path string) error {
	began := time.Now()
	h, err := history.OpenReadOnly(path)
	if err != nil {
		return err
	}
	defer h.Close()
	files, err := filepath.Glob(filepath.Join(path, "history", "*.db"))
	fmt.Printf("  %-52s %8.1f   %d files\n", "opening it, ms", float64(time.Since(began))/1e6, len(files))
	return err
}
