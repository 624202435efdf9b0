package finding

import (
	"fmt"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

// Shows that a response time that is three times as long is found within 30 s after 10 minutes of normal time, what is said of it, and that it ends.
func TestSlow(t *testing.T) {
	for seed := range uint64(8) {
		w := newWorld(t, seed, Options{})
		cart := w.serve("shop", "POST /cart", 5, 80)
		w.serve("shop", "GET /items/{id}", 20, 10)
		w.run(60)
		w.quiet()
		cart.ms *= 3
		f := w.open(3)
		if f.Metric != ResponseTime || f.Route != "/cart" || f.Service != "shop" || f.Expected < 65 || f.Expected > 95 || f.Peak < 180 || f.Peak > 300 {
			t.Errorf("seed %d: %+v", seed, *f)
		}
		cart.ms /= 3
		w.ends(20)
	}
}

// Shows that failures are found after 10 minutes, and that a service whose endpoints fail together is one finding.
func TestOutage(t *testing.T) {
	w := newWorld(t, 1, Options{})
	for i := range 50 {
		w.serve("shop", fmt.Sprintf("GET /pages/%d", i), 2, 20)
	}
	w.run(60)
	w.quiet()
	for _, n := range w.endpoints {
		n.fails = .9
	}
	f := w.open(3)
	if f.Metric != ErrorRate || f.Route != "" || f.Service != "shop" || f.Severity != Critical || len(f.Parts) != partsMax {
		t.Errorf("%+v", *f)
	}
	w.run(10)
	if n := len(w.told); n > 2 {
		t.Errorf("%d messages: %v", n, w.told)
	}
	for _, n := range w.endpoints {
		n.fails = 0
	}
	w.ends(20)
	if n := len(w.Findings()); n != 1 {
		t.Errorf("%d findings", n)
	}
}

// Shows that what fails as a matter of course is no finding, however soon after the start it is seen.
func TestFailsAlways(t *testing.T) {
	for seed := range uint64(8) {
		w := newWorld(t, seed, Options{})
		for i, part := range []float64{.05, .3, .5, 1} {
			w.serve("shop", fmt.Sprintf("GET /flaky/%d", i), 1.5, 20).fails = part
			w.serve("shop", fmt.Sprintf("GET /busy/%d", i), 30, 20).fails = part
		}
		w.run(60)
		w.quiet()
	}
}

// Shows that a burst and a standstill of requests are found.
func TestThroughput(t *testing.T) {
	for factor, severity := range map[float64]string{4: Info, 0: Error} {
		w := newWorld(t, 1, Options{})
		cart := w.serve("shop", "POST /cart", 10, 80)
		w.run(60)
		w.quiet()
		cart.rps *= factor
		f := w.open(6)
		if f.Metric != Throughput || f.Severity != severity {
			t.Errorf("%g: %+v", factor, *f)
		}
	}
}

// Shows that a level that stays becomes the new normal after 20 minutes: the anomaly ends, and a change is told.
func TestChange(t *testing.T) {
	w := newWorld(t, 1, Options{})
	cart := w.serve("shop", "POST /cart", 10, 80)
	w.run(100)
	cart.ms *= 1.6
	w.open(6)
	w.run(300)
	all := w.Findings()
	if w.opened() != nil || len(all) != 2 || all[0].Kind != Change || all[0].Peak < 115 || all[0].Peak > 140 || all[0].Expected < 75 || all[0].Expected > 85 {
		t.Errorf("%v", w.told)
		for _, f := range all {
			t.Errorf("%+v", *f)
		}
	}
}

// Shows that normal days of traffic of different kinds bring no more false findings than promised: at most one in an hour of a host with
// busy services, at most one in a day of one request a minute.
func TestNormal(t *testing.T) {
	t.Parallel()
	t.Run("hours", func(t *testing.T) {
		found := 0
		const hours = 12
		w := newWorld(t, 3, Options{})
		for i := range 10 {
			n := w.serve("shop", fmt.Sprintf("GET /pages/%d", i), 1+float64(i), 20)
			n.burst = .1 * float64(i%4)
		}
		w.call("shop", "db.example", 20, 3)
		w.run(hours * 360)
		for _, f := range w.Findings() {
			t.Logf("%s: %g, usually %g, score %g", f.Summary, f.Peak, f.Expected, f.Score)
			found++
		}
		if found > hours/4 {
			t.Errorf("%d in %d hours: %v", found, hours, w.told)
		}
	})
	t.Run("thin", func(t *testing.T) {
		found := 0
		const days = 4
		for seed := range uint64(days) {
			w := newWorld(t, seed, Options{})
			w.serve("shop", "GET /", 1./60, 20)
			w.serve("shop", "GET /items", 1./60, 100).fails = .01
			w.run(8640)
			for _, f := range w.Findings() {
				t.Logf("%s: %g, usually %g, score %g", f.Summary, f.Peak, f.Expected, f.Score)
				found++
			}
		}
		if found > 1 {
			t.Errorf("%d in %d days", found, days)
		}
	})
}

// Shows that a route that gets another name goes on with what was learned: what is unusual of it is found at once.
func TestRename(t *testing.T) {
	w := newWorld(t, 1, Options{})
	n := w.serve("shop", "GET /items/*", 10, 80)
	w.run(100)
	before := n.Key
	n.Name = "/items/{id}"
	w.renames = []analytics.Rename{{From: before, To: n.Key}}
	n.ms *= 4
	if f := w.open(3); f.Route != "/items/{id}" {
		t.Errorf("%+v", *f)
	}
}

// Shows that steps of the clock, and ticks that are missing, raise nothing and hide nothing.
func TestClock(t *testing.T) {
	for _, step := range []time.Duration{-20 * time.Hour, -time.Minute, 30 * time.Second, 3 * time.Hour} {
		w := newWorld(t, 1, Options{})
		n := w.serve("shop", "GET /items", 10, 80)
		w.run(200)
		w.now = w.now.Add(step)
		if step > 0 {
			w.tick += int64(step / (10 * time.Second)) // the machine slept
		}
		w.run(60)
		w.quiet()
		n.ms *= 4
		w.open(3)
	}
}

// Shows that the busiest endpoints are followed where there is no room for all, and that the others are counted.
func TestSeriesLimit(t *testing.T) {
	w := newWorld(t, 1, Options{Limits: Limits{Series: 5 * seriesOfEntry}})
	for i := range 20 {
		w.serve(fmt.Sprintf("s%d", i), "GET /", .1, 10)
	}
	w.run(70)
	busy := w.serve("busy", "GET /", 20, 10)
	w.run(100)
	if w.entries[busy.Key] == nil || w.tracks > 5*seriesOfEntry {
		t.Errorf("the busiest has no place: %+v", w.Stats())
	}
	if s := w.Stats(); s.Without == 0 || s.Series != w.tracks {
		t.Errorf("%+v", s)
	}
}

// Shows that a resource of the host that is used far more is for information, and nothing that is small or gets better is said at all.
func TestResources(t *testing.T) {
	level := 10.
	begin := func() *world {
		level = 10
		w := newWorld(t, 1, Options{})
		w.measured(Measure{CPUUsage, Subject{}}, func() float64 { return level + w.random.NormFloat64() })
		w.run(60)
		return w
	}
	for _, small := range []float64{25, 5} {
		w := begin()
		level = small
		w.run(100)
		w.quiet()
	}
	w := begin()
	level = 60
	if f := w.open(4); f.Metric != CPUUsage || f.Severity != Info {
		t.Errorf("%+v", *f)
	}
}

// Shows how large an effect must be to be found within three intervals, after 50 intervals of normal time, by how many requests come: of 40
// incidents each at least so many are found, and what is found is of the right endpoint.
func TestPower(t *testing.T) {
	t.Parallel()
	const incidents, normal, intervals = 40, 50, 3
	for _, c := range []struct {
		rps, factor, fails float64
		least              int
	}{
		{1, 3, 0, 20}, {1, 5, 0, 36}, {1, 1, .5, 38},
		{5, 1.5, 0, 26}, {5, 2, 0, 38}, {5, 1, .1, 38}, {5, 1, .3, 38},
		{50, 1.3, 0, 38}, {50, 1.5, 0, 38}, {50, 1, .03, 38},
	} {
		found := 0
		for seed := range uint64(incidents) {
			w := newWorld(t, seed, Options{})
			cart := w.serve("shop", "POST /cart", c.rps, 80)
			w.serve("shop", "GET /items/{id}", c.rps, 10)
			w.run(normal)
			if len(w.told) > 0 {
				t.Errorf("%+v: in a normal time %v", c, w.told)
			}
			cart.ms *= c.factor
			cart.fails = c.fails
			for range intervals {
				w.step()
			}
			if f := w.opened(); f != nil && f.Route == "/cart" {
				found++
			}
		}
		t.Logf("%g requests/s, %g times slower, %g failures: %d of %d", c.rps, c.factor, c.fails, found, incidents)
		if found < c.least {
			t.Errorf("%+v: %d were found", c, found)
		}
	}
}

// Shows that on a host whose response times drift by a third, as beside other work, a fault of that size of a minute is found within four
// intervals after 7 minutes, in most cases, and how many findings such drifts bring in a normal time.
func TestDrift(t *testing.T) {
	t.Parallel()
	const runs, normal = 40, 42
	begin := func(seed uint64) (*world, *served) {
		w := newWorld(t, seed, Options{})
		cart := w.serve("shop", "POST /cart", 2, 60)
		w.serve("shop", "GET /items/{id}", 5, 35)
		for _, n := range w.endpoints {
			n.drift = .3
		}
		return w, cart
	}
	found := 0
	for seed := range uint64(runs) {
		w, cart := begin(seed)
		w.run(normal)
		cart.ms *= 3.5
		w.run(4)
		if w.opened() != nil {
			found++
		}
	}
	w, _ := begin(99)
	const hours = 48
	w.run(hours * 360)
	t.Logf("%d of %d found, %d findings in %d hours of normal time", found, runs, len(w.found), hours)
	for _, f := range w.found {
		t.Logf("%s: %g, usually %g, score %g", f.Summary, f.Peak, f.Expected, f.Score)
	}
	if found < runs*3/4 || len(w.found) > hours/8 {
		t.Errorf("%d found; %d in a normal time", found, len(w.found))
	}
}

// Shows that the instants of a finding are those of whole milliseconds, in UTC, however the clock of the seals stands.
func TestInstants(t *testing.T) {
	w := newWorld(t, 1, Options{})
	w.now = w.now.Add(-10 * time.Nanosecond).In(time.FixedZone("", 3600))
	cart := w.serve("shop", "POST /cart", 20, 80)
	w.run(60)
	cart.ms *= 3
	f := w.open(6)
	w.run(10)
	cart.ms /= 3
	w.ends(20)
	over := w.found[f.ID]
	for _, at := range []time.Time{over.Start, *over.End} {
		if at.Nanosecond()%1e6 != 0 || at.Location() != time.UTC || at.Second()%10 != 0 {
			t.Errorf("%s", at)
		}
	}
}
