package analytics

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

// collected is a consumer that adds up seals as a history would.
type collected struct {
	t      *testing.T
	counts map[Key]*Counts
	copies []*Seal // what seals looked like when they came
	seals  []*Seal
}

func (c *collected) consume(s *Seal) {
	if !slices.IsSortedFunc(s.Entries, func(a, b *Sealed) int { return a.Key.compare(&b.Key) }) {
		c.t.Error("the entries are not in the order of their keys")
	}
	for _, r := range s.Renames {
		from := c.counts[r.From]
		if from == nil {
			continue
		}
		delete(c.counts, r.From)
		c.add(r.To, from)
	}
	kept := *s
	kept.Entries = nil
	for i, n := range s.Entries {
		if i > 0 && n.Key == s.Entries[i-1].Key {
			c.t.Errorf("%+v is there twice", n.Key)
		}
		c.add(n.Key, &n.Counts)
		kept.Entries = append(kept.Entries, &Sealed{n.Key, n.RouteSource, n.Counts.clone()})
	}
	c.copies, c.seals = append(c.copies, &kept), append(c.seals, s)
}

func (c *collected) add(k Key, counts *Counts) {
	if c.counts[k] == nil {
		c.counts[k] = &Counts{Phases: newPhases()}
	}
	c.counts[k].merge(counts)
}

// summary is what of counts does not depend on how they were added up.
func summary(c *Counts) string {
	text := ""
	for i := range c.Series {
		s := &c.Series[i]
		text += fmt.Sprint(s.Result, s.Untimed, s.Duration.Count(), s.Duration.Sum(), s.Duration.Quantile(.5), " ")
	}
	return text + fmt.Sprint(c.Queue.Count(), c.Processing.Sum(), c.ResponseSize.Count(), c.ResponseSize.Cumulative(nil))
}

// Whoever adds up all seals has what the engine has, of servers and of targets, whatever becomes of routes and whoever looks;
// and no seal changes once it was handed over.
func TestSealsAddUp(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		c := newClock()
		e := NewEngine(Options{Now: c.now, Limits: Limits{Endpoints: 40}})
		all := &collected{t: t, counts: map[Key]*Counts{}}
		e.OnSeal(all.consume)
		e.Tick()
		c.advance(TickInterval)
		e.Tick()
		current := map[string]string{}
		var reported uint64
		for range 60 {
			for range r.IntN(40) {
				first := fmt.Sprint("/r", r.IntN(12))
				if current[first] == "" {
					current[first] = first
				}
				ex := serverExchange("s", current[first], []uint16{200, 404, 503}[r.IntN(3)])
				ex.RouteSource = wire.RouteLearned
				if r.IntN(4) == 0 {
					ex = clientExchange("s", fmt.Sprint("h", r.IntN(3), ".example"))
				}
				if r.IntN(10) == 0 {
					ex.Arrived = 0
				}
				if r.IntN(20) == 0 {
					ex.Outcome = http.CutOff(wire.ClassAborted, 0)
				}
				vary(ex, r)
				e.Add(ex)
				reported++
			}
			switch r.IntN(6) {
			case 0:
				e.Snapshot()
			case 1:
				from, to := current[fmt.Sprint("/r", r.IntN(12))], fmt.Sprint("/t", r.IntN(3))
				for k, v := range current {
					if v == from {
						current[k] = to
					}
				}
				e.Reroute(func(_, route string) string {
					if route == from {
						return to
					}
					return route
				})
			}
			c.advance(time.Duration(r.IntN(int(2 * TickInterval))))
			e.Tick()
		}
		c.advance(TickInterval)
		e.Tick()
		s := e.Snapshot()
		// Of an endpoint whose route has become another, and that somebody had read, the engine keeps the counts apart.
		got, want := map[wire.Role]uint64{}, map[wire.Role]uint64{}
		for k, counts := range all.counts {
			for i := range counts.Series {
				got[k.Role] += counts.Series[i].Duration.Count() + counts.Series[i].Untimed
			}
		}
		for _, n := range slices.Concat(s.Endpoints, s.Targets) {
			for i := range n.Series {
				want[n.Role] += n.Series[i].Duration.Count() + n.Series[i].Untimed
			}
			if n.Role == wire.RoleClient {
				if sealed := all.counts[n.Key]; sealed == nil || summary(sealed) != summary(&n.Counts) {
					t.Errorf("seed %d, %+v: sealed %s, counted %s", seed, n.Key, summary(sealed), summary(&n.Counts))
				}
			}
		}
		if got[wire.RoleServer] != want[wire.RoleServer] || got[wire.RoleClient] != want[wire.RoleClient] || got[wire.RoleServer]+got[wire.RoleClient] != reported {
			t.Errorf("seed %d: sealed %v, counted %v, made %d", seed, got, want, reported)
		}
		for i, s := range all.seals {
			for j, n := range s.Entries {
				if summary(&n.Counts) != summary(&all.copies[i].Entries[j].Counts) {
					t.Errorf("seed %d: the seal of tick %d has changed", seed, s.Tick)
				}
			}
			if i > 0 && (s.From != all.seals[i-1].To || s.Tick <= all.seals[i-1].Tick) {
				t.Errorf("seed %d: a seal from %v follows one to %v", seed, s.From, all.seals[i-1].To)
			}
		}
	}
}

// A seal has what happened between two ticks and nothing else, phases and sizes included.
func TestSeal(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	var got []*Seal
	e.OnSeal(func(s *Seal) {
		e.Add(serverExchange("shop", "/late", 200)) // counting goes on meanwhile, and so do readers
		e.Snapshot()
		got = append(got, s)
	})
	e.Add(serverExchange("shop", "/a", 200))
	e.Add(serverExchange("shop", "/a", 503))
	c.advance(TickInterval)
	e.Tick()
	c.advance(3 * TickInterval)
	e.Tick()
	if len(got) != 2 || len(got[0].Entries) != 1 || len(got[1].Entries) != 1 {
		t.Fatalf("%d seals: %+v", len(got), got)
	}
	a := got[0].Entries[0]
	if a.Name != "/a" || len(a.Series) != 2 || a.Queue.Count() != 2 || a.ResponseSize.Sum() != 2*1234 || a.Series[1].Class != wire.ClassServerFault {
		t.Errorf("%+v", a)
	}
	if n := got[1].Entries[0]; n.Name != "/late" || n.Series[0].Duration.Count() != 1 || got[1].Tick != got[0].Tick+3 {
		t.Errorf("%+v", n)
	}
	if w := windowOf(t, e, time.Minute); len(w.Endpoints) != 2 || !reflect.DeepEqual(w.To, got[1].To) {
		t.Errorf("%+v", w)
	}
}

// Targets have windows too.
func TestWindowTargets(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	for range 3 {
		e.Add(clientExchange("shop", "api.example"))
	}
	e.Add(serverExchange("shop", "/a", 200))
	c.advance(TickInterval)
	e.Tick()
	w := windowOf(t, e, time.Minute)
	if len(w.Targets) != 1 || w.Targets[0].Address != "api.example" || w.Targets[0].Exchanges != 3 || w.Total.Exchanges != 1 || len(w.Services) != 1 {
		t.Errorf("%+v", w)
	}
}
