package finding

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// chain is a host with a proxy that calls a shop that calls a store, all of them local.
func chain(t *testing.T, o Options) (w *world, proxy, toShop, shop, toStore, store *served) {
	o.Serves = loopbackServes(map[uint16]Subject{80: {Service: "store"}})
	w = newWorld(t, 5, o)
	store = w.serve("store", "GET /stock", 20, 3)
	toStore = w.call("shop", "127.0.0.1", 20, 4)
	shop = w.serve("shop", "GET /items", 20, 10)
	toShop = w.call("proxy", "shop", 20, 12) // by its name
	proxy = w.serve("proxy", "GET /items", 20, 13)
	return w, proxy, toShop, shop, toStore, store
}

// names are whom the findings of an incident are about, the leader first.
func (f *Finding) names() string {
	all := []string{f.said()}
	for i := range f.Effects {
		all = append(all, f.Effects[i].said())
	}
	slices.Sort(all[1:])
	return strings.Join(all, ", ")
}

// Shows that a slow store, the shop that calls it, the proxy before that and the calls between them are one incident that the store leads,
// from the tick in which all are found until the last of them is over, that events say so, and that a restart forgets none of it.
func TestIncidentOfCalls(t *testing.T) {
	o := Options{File: t.TempDir() + "/findings.state"}
	w, proxy, toShop, shop, toStore, store := chain(t, o)
	w.run(60)
	w.quiet()
	all := []*served{proxy, toShop, shop, toStore, store}
	for _, n := range all {
		n.ms += 120
	}
	w.run(8)
	const want = "`GET /stock` of store, `GET /items` of proxy, `GET /items` of shop, calls of proxy to shop:80, calls of shop to 127.0.0.1:80"
	check := func(e *Engine, when string) {
		t.Helper()
		heads := e.Incidents()
		if len(e.Findings()) != 5 || len(heads) != 1 || heads[0].names() != want {
			t.Fatalf("%s: %d findings, %d incidents: %s", when, len(e.Findings()), len(heads), heads[0].names())
		}
		if h := heads[0]; h.Severity != Error || !strings.Contains(h.Summary, "Affected by it: ") || h.Incident != "" {
			t.Errorf("%s: %s %s", when, h.Severity, h.Summary)
		}
	}
	check(w.Engine, "while it goes on")
	head := w.Incidents()[0].ID
	for id, f := range w.found { // as the event log has them
		if id != head && f.Incident != head {
			t.Errorf("%s belongs to %q, not to %q", f.said(), f.Incident, head)
		}
	}
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	w.Engine = New(w.o)
	w.step()
	check(w.Engine, "after a restart")
	for _, n := range all {
		n.ms -= 120
	}
	w.ends(20)
	check(w.Engine, "when it is over")
}

// Shows that what one service suffers from does not join another that has nothing to do with it, and that fewer requests are due to who
// sends them no more.
func TestIncidentsApart(t *testing.T) {
	w, proxy, toShop, shop, toStore, store := chain(t, Options{})
	other := w.serve("mail", "GET /inbox", 20, 10)
	w.run(60)
	proxy.fails, other.fails = .8, .8
	for _, n := range []*served{toShop, shop, toStore, store} {
		n.rps = 1
	}
	w.run(8)
	var got []string
	for _, f := range w.Incidents() {
		got = append(got, f.names())
	}
	slices.Sort(got)
	want := []string{"`GET /inbox` of mail",
		"`GET /items` of proxy, `GET /items` of shop, `GET /stock` of store, calls of proxy to shop:80, calls of shop to 127.0.0.1:80"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Shows that two services that name the same disk are one incident, led by the finding of the disk if there is one, and that a cause that
// is found after people were told of its effect is listed below that.
func TestIncidentOfHost(t *testing.T) {
	disk := Measure{DiskLatency, Subject{Device: "sda"}}
	blame := func(f *Finding, _ *Evidence) {
		f.Summary = f.said() + "."
		if f.Service != "" {
			f.Causes = []Cause{{Measure: disk, Relationship: ofHost, Confidence: .9}}
		}
	}
	for _, c := range []struct {
		late      int // ticks by which the disk is slow later; -1: never
		names     string
		afterward string // what the summary ends with
	}{
		{-1, "`GET /a` of a, `GET /b` of b", "Affected by it: `GET /b` of b."},
		{0, "sda, `GET /a` of a, `GET /b` of b", "Affected by it: `GET /a` of a, `GET /b` of b."},
		{12, "`GET /a` of a, `GET /b` of b, sda",
			"Behind it is, as was found later: time of a disk's operation of sda. Affected by it: `GET /b` of b."},
	} {
		w := newWorld(t, 5, Options{Explain: blame})
		a, b := w.serve("a", "GET /a", 20, 10), w.serve("b", "GET /b", 20, 10)
		ms := 2.
		w.measured(disk, func() float64 { return ms + w.random.Float64() })
		w.run(60)
		a.ms, b.ms = 90, 90
		for tick := range 25 {
			if tick == c.late {
				ms = 200
			}
			w.step()
		}
		heads := w.Incidents()
		if len(heads) != 1 || heads[0].names() != c.names || !strings.HasSuffix(heads[0].Summary, c.afterward) {
			for _, f := range heads {
				t.Errorf("%d: %s: %s", c.late, f.names(), f.Summary)
			}
		}
	}
}

// Shows that whatever findings name as their causes, also each other, and however they come and go, each leads or belongs to one that leads
// or is over.
func TestIncidentsOfAnything(t *testing.T) {
	for seed := range uint64(20) {
		var w *world
		services := []string{"a", "b", "c", "d", "e"}
		w = newWorld(t, seed, Options{Explain: func(f *Finding, _ *Evidence) {
			c := Cause{Measure: Measure{ResponseTime, Subject{Service: services[w.random.IntN(5)]}}, Relationship: ofDownstream, Confidence: .9}
			if w.random.IntN(4) == 0 {
				c.Measure, c.Relationship = Measure{DiskLatency, Subject{Device: "sda"}}, ofHost
			}
			f.Causes = []Cause{c}
		}})
		all := make([]*served, len(services))
		for i, name := range services {
			all[i] = w.serve(name, "GET /", 20, 10)
		}
		w.run(60)
		for tick := range 120 {
			if n := all[w.random.IntN(5)]; tick%3 == 0 {
				n.ms = 10 + 90*float64(w.random.IntN(2))
			}
			w.step()
			open := map[string]*Finding{}
			for _, f := range w.Findings() {
				if f.End == nil {
					open[f.ID] = f
				}
			}
			for _, f := range open {
				if leader := open[f.Incident]; f.Incident == f.ID || leader != nil && leader.Incident != "" {
					t.Fatalf("seed %d, tick %d: %s is of %s, which is of %q", seed, tick, f.ID, f.Incident, leader.Incident)
				}
			}
		}
	}
}

// Shows by whom an incident is led whose leader is over or not there, and its severity and order.
func TestIncidentsLeft(t *testing.T) {
	at := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	one := func(id, incident, severity string, ends int) *Finding {
		f := &Finding{ID: id, Incident: incident, Severity: severity, Start: at, Summary: id + ".",
			Measure: Measure{ResponseTime, Subject{Service: id}}}
		if ends > 0 {
			end := at.Add(time.Duration(ends) * time.Minute)
			f.End = &end
		}
		return f
	}
	all := []*Finding{one("c", "a", Error, 0), one("d", "a", Warning, 0), one("x", "", Critical, 0), one("a", "", Info, 3),
		one("f", "e", Warning, 2), one("g", "gone", Info, 1)}
	var got []string
	for _, f := range Incidents(all) {
		got = append(got, f.Severity+" "+f.Summary)
	}
	want := []string{"critical x.", "error c. Of the same incident: d, a.", "warning f.", "info g."}
	over := Incidents([]*Finding{one("l", "", Info, 1), one("m", "l", Error, 4)})[0]
	if over.ID != "l" || over.Severity != Error || !over.End.Equal(at.Add(4*time.Minute)) {
		t.Errorf("%+v", over)
	}
	on := Incidents([]*Finding{one("l", "", Info, 0), one("m", "l", Error, 4)})[0]
	if on.Severity != Info || on.End != nil || len(on.Effects) != 1 {
		t.Errorf("%+v", on)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if all[0].Effects != nil || all[0].Severity != Error {
		t.Error("a finding was changed")
	}
}
