package analytics

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

// However often routes become others between ticks, windows count under each route what happened to all that became it:
// once, and in the time in which it happened.
func TestRerouteWindows(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := newClock()
		e := NewEngine(Options{Now: c.now})
		e.Tick()
		const routes = 8
		current := map[string]string{} // what the first name of a route has become
		name := func(i int) string { return fmt.Sprint("/r", i) }
		for i := range routes {
			current[name(i)] = name(i)
		}
		type event struct {
			tick  int
			route string
		}
		var events []event
		for tick := range 40 {
			if r.IntN(3) == 0 {
				e.Snapshot() // what it shows is not added to others any more
			}
			for range r.IntN(20) {
				first := name(r.IntN(routes))
				ex := serverExchange("s", current[first], 200)
				ex.RouteSource = wire.RouteLearned
				e.Add(ex)
				events = append(events, event{tick, first})
				if r.IntN(8) == 0 {
					from, to := current[name(r.IntN(routes))], current[name(r.IntN(routes))]
					if r.IntN(3) == 0 {
						to = fmt.Sprint("/new", tick, len(events))
					}
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
			}
			c.advance(TickInterval)
			e.Tick()
			for _, w := range []struct {
				length time.Duration
				ticks  int
			}{{time.Minute, 6}, {time.Hour, 400}} {
				window, err := e.Window(w.length)
				if err != nil {
					t.Fatal(err)
				}
				got, want := map[string]uint64{}, map[string]uint64{}
				for i := range window.Endpoints {
					got[window.Endpoints[i].Name] += window.Endpoints[i].Exchanges
				}
				for _, event := range events {
					if event.tick > tick-w.ticks {
						want[current[event.route]]++
					}
				}
				if !maps.Equal(got, want) {
					t.Fatalf("seed %d, tick %d, %v: got %v, want %v", seed, tick, w.length, got, want)
				}
				if window.Total.Exchanges != window.Total.Timed {
					t.Fatalf("seed %d, tick %d: %d exchanges, %d durations", seed, tick, window.Total.Exchanges, window.Total.Timed)
				}
			}
		}
	}
}
