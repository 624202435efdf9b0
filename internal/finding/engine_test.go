package finding

import (
	"fmt"
	"testing"
)

// Shows that a response time that is three times as long is found within 30 s after 10 minutes of normal time, what is said of it, and that it ends.
func TestSlow(t *testing.T) {
	for seed := range uint64(20) {
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
