package finding

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/wire"
)

// world is a simulated host: services that are asked, and what its engine says.
type world struct {
	*testing.T
	*Engine
	random    *rand.Rand
	now       time.Time
	tick      int64
	endpoints []*served
	renames   []analytics.Rename
	told      []string            // events
	found     map[string]*Finding // by ID, as they are now
	resource  map[Measure]func() float64
	load      float64 // of a day's
	cron      bool
}

// served is an endpoint or a target.
type served struct {
	analytics.Key
	rps, ms, spread float64 // spread: of the logarithm
	fails           float64 // part
	burst           float64 // spread of the logarithm of the load
	drift, drifted  float64 // spread of the logarithm of the times, which drift
}

func newWorld(t *testing.T, seed uint64, o Options) *world {
	w := &world{T: t, random: rand.New(rand.NewPCG(seed, 7)), now: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), resource: map[Measure]func() float64{}, found: map[string]*Finding{}}
	o.OnFinding = func(e Event, f *Finding) {
		w.found[f.ID] = f
		w.told = append(w.told, fmt.Sprintf("%s %s %s %s", e, f.Kind, f.Metric, f.Subject.String()))
	}
	w.Engine = New(o)
	return w
}

// serve adds an endpoint that is asked so many times a second, with a median in ms.
func (w *world) serve(service, operation string, rps, ms float64) *served {
	verb, route, _ := strings.Cut(operation, " ")
	n := &served{rps: rps, ms: ms, spread: .5}
	n.Key = analytics.Key{Role: wire.RoleServer, Service: service, Operation: wire.Operation{Verb: verb, Name: route}}
	w.endpoints = append(w.endpoints, n)
	return n
}

// call adds a target.
func (w *world) call(service, address string, rps, ms float64) *served {
	n := w.serve(service, "GET", rps, ms)
	n.Role, n.Address, n.Port = wire.RoleClient, address, 80
	return n
}

// measured adds a series of the host.
func (w *world) measured(m Measure, v func() float64) { w.resource[m] = v }

// poisson draws a number of events.
func (w *world) poisson(mean float64) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*w.random.NormFloat64())))
	}
	n, p := 0, w.random.Float64()
	for limit := math.Exp(-mean); p > limit; n++ {
		p *= w.random.Float64()
	}
	return n
}

func (n *served) sealed(w *world) *analytics.Sealed {
	load := n.rps * 10
	if n.burst > 0 {
		load *= math.Exp(n.burst * w.random.NormFloat64())
	}
	count := w.poisson(load)
	if count == 0 {
		return nil
	}
	s := &analytics.Sealed{Key: n.Key, Counts: analytics.Counts{Phases: analytics.Phases{RequestSize: analytics.NewHistogram(analytics.Bytes), ResponseSize: analytics.NewHistogram(analytics.Bytes)}}}
	good := analytics.Series{Result: analytics.Result{Outcome: wire.Outcome{Code: 200}}}
	bad := analytics.Series{Result: analytics.Result{Outcome: wire.Outcome{Code: 500, Class: wire.ClassServerFault, ErrorType: "500"}}}
	n.drifted = .9*n.drifted + math.Sqrt(1-.81)*n.drift*w.random.NormFloat64()
	for range count {
		ns := int64(1e6 * n.ms * math.Exp(n.drifted+n.spread*w.random.NormFloat64()))
		if w.random.Float64() < n.fails {
			bad.Duration.Add(ns)
		} else {
			good.Duration.Add(ns)
		}
		s.Processing.Add(ns)
	}
	for _, one := range []analytics.Series{good, bad} {
		if one.Duration.Count() > 0 {
			s.Series = append(s.Series, one)
		}
	}
	return s
}

// step lets a tick pass.
func (w *world) step() {
	w.now = w.now.Add(10 * time.Second)
	w.tick++
	s := &analytics.Seal{Tick: w.tick, From: w.now.Add(-10 * time.Second), To: w.now, Renames: w.renames}
	w.renames = nil
	for _, n := range w.endpoints {
		if sealed := n.sealed(w); sealed != nil {
			s.Entries = append(s.Entries, sealed)
		}
	}
	var readings []Reading
	for m, v := range w.resource {
		readings = append(readings, Reading{m, v()})
	}
	w.Consume(s, nil, readings)
}

func (w *world) run(ticks int) {
	for range ticks {
		w.step()
	}
}

// open returns the only open finding, within some ticks.
func (w *world) open(within int) *Finding {
	w.Helper()
	for range within {
		w.step()
		if f := w.opened(); f != nil {
			return f
		}
	}
	w.Fatalf("nothing was found in %d ticks", within)
	return nil
}

func (w *world) opened() *Finding {
	for _, f := range w.Findings() {
		if f.End == nil {
			return f
		}
	}
	return nil
}

// quiet fails where anything was found so far.
func (w *world) quiet() {
	w.Helper()
	if len(w.told) > 0 {
		w.Errorf("in a normal time: %s", strings.Join(w.told, "; "))
	}
}

// ends waits for the end of what is open.
func (w *world) ends(within int) {
	w.Helper()
	for range within {
		w.step()
		if w.opened() == nil {
			return
		}
	}
	w.Errorf("still open: %+v", *w.opened())
}
