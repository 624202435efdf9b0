package finding

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/perfagent/perfagent/internal/series"
)

// Whatever was captured, what is said of it is printable, ends no quotation, and is one argument of a shell's command.
func TestWordsAreInert(t *testing.T) {
	for _, evil := range []string{"a\x1b[2J", "a\u202eb", "x`; rm -rf /; `", "$(id)", "a'b", "\u00a0", "\xff", "a b", "-rf", "*"} {
		u := Subject{Role: "server", Service: evil, Method: evil, Route: "/" + evil}
		f := &Finding{Kind: Anomaly, Measure: Measure{ResponseTime, u}, Unit: "ms", Expected: 1, Peak: 9, Start: beginning}
		e := &Evidence{From: beginning, Step: 10 * time.Second, Start: 20}
		for metric, after := range map[string]float32{ResponseTime: 9, CPUThrottling: 90, MemoryResident: 9e9, Throughput: 90, ErrorRate: 50, ProcessStarts: 1} {
			for _, of := range []Subject{u, {Service: evil}, {Role: "client", Service: evil, Address: evil, Port: 80}, {Device: evil}} {
				m := Measured{Measure{metric, of}, make([]float32, 40)}
				for i := range m.Values {
					if m.Values[i] = 1; i >= 20 {
						m.Values[i] = after
					}
				}
				e.All = append(e.All, m)
			}
		}
		explain(f, e)
		texts := append([]string{f.Summary, u.String()}, f.NextSteps...)
		for i := range f.Causes {
			texts = append(texts, f.Causes[i].Summary)
		}
		for _, s := range texts[:1] {
			if strings.Count(s, "`") != 2 {
				t.Errorf("%q: quotation is ended in %q", evil, s)
			}
		}
		for _, s := range texts {
			if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) && s != u.String() {
				t.Errorf("%q: %q", evil, s)
			}
		}
		if len(f.Causes) == 0 || len(f.NextSteps) == 0 {
			t.Errorf("%q: nothing is said", evil)
		}
	}
	for text, want := range map[string]string{"shop": "shop", "a b": "'a b'", "a'b": `'a'\''b'`, "$(id)": "'$(id)'", "": "''", "-rf": "'-rf'", "a*": "'a*'", "a\nb": `'a\x0ab'`} {
		if got := quoted(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// Amounts are written as people write them.
func TestQuantity(t *testing.T) {
	for _, c := range []struct {
		v    float64
		unit string
		want string
	}{{0, "ms", "0 ms"}, {0.1234, "ms", "123 us"}, {1.24, "ms", "1.2 ms"}, {87.4, "ms", "87 ms"}, {12345, "ms", "12 s"}, {1234, "ms", "1234 ms"}, {38.2, "percent", "38 %"},
		{0.5, "percent", "0.5 %"}, {9.95, "percent", "9.9 %"}, {1.5e9, "bytes", "1.5 GB"}, {2e6, "bytes/s", "2 MB/s"}, {999.9, "bytes", "1 kB"}, {80, "requests/s", "80/s"}, {3, "1", "3"}} {
		if got := quantity(c.v, c.unit); got != c.want {
			t.Errorf("%g %s: %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}

// A sentence says who, by how much, since when or from when to when, in the grammar of one or many.
func TestSentences(t *testing.T) {
	start := time.Date(2030, 1, 2, 14, 2, 0, 0, time.UTC)
	end := start.Add(8 * time.Minute)
	target := Subject{Role: "client", Service: "shop", Address: "db", Port: 5432}
	for _, c := range []struct {
		metric         string
		of             Subject
		expected, peak float64
		over           bool
		want           string
	}{
		{ResponseTime, cart, 87, 120, false, "`POST /cart` of shop is 38 % slower than usual since 14:02 UTC (120 ms, usually 87 ms)."},
		{ResponseTime, cart, 87, 120, true, "`POST /cart` of shop was 38 % slower than usual from 14:02 UTC to 14:10 UTC (120 ms, usually 87 ms)."},
		{ResponseTime, cart, 100, 60, false, "`POST /cart` of shop is 40 % faster than usual since 14:02 UTC (60 ms, usually 100 ms)."},
		{ResponseTimeP95, shop, 100, 320, false, "shop takes 3.2 times as long as usual for one request in twenty since 14:02 UTC (320 ms, usually 100 ms)."},
		{ResponseTime, target, 10, 50, false, "Calls of shop to db:5432 take 5 times as long as usual since 14:02 UTC (50 ms, usually 10 ms)."},
		{ErrorRate, target, 0, 50, true, "Calls of shop to db:5432 failed more often from 14:02 UTC to 14:10 UTC (50 %, usually 0 %)."},
		{ErrorRate, target, 0, 50, false, "Calls of shop to db:5432 fail more often since 14:02 UTC (50 %, usually 0 %)."},
		{ErrorRate, cart, 0, 50, false, "`POST /cart` of shop fails more often since 14:02 UTC (50 %, usually 0 %)."},
		{Throughput, cart, 10, 1, false, "`POST /cart` of shop gets fewer requests than usual since 14:02 UTC (1/s, usually 10/s)."},
		{Throughput, target, 10, 30, false, "Calls of shop to db:5432 are more than usual since 14:02 UTC (30/s, usually 10/s)."},
		{MemoryUsage, theHost, 50, 97, false, "The host uses more memory than usual since 14:02 UTC (97 %, usually 50 %)."},
		{Retransmits, theHost, 1, 18, false, "The host sends lost TCP segments again more often than usual since 14:02 UTC (18/s, usually 1/s)."},
		{PressureCPU, theHost, 2, 40, true, "Tasks of the host waited for a processor for more of the time than usual from 14:02 UTC to 14:10 UTC (40 %, usually 2 %)."},
		{DiskLatency, Subject{Device: "sda"}, 1, 90, false, "Operations of disk sda take longer than usual since 14:02 UTC (90 ms, usually 1 ms)."},
		{OpenFiles, Subject{Service: "shop"}, 20, 900, false, "shop has more open files than usual since 14:02 UTC (900, usually 20)."},
		{Threads, Subject{Service: "shop"}, 900, 20, true, "shop had fewer threads than usual from 14:02 UTC to 14:10 UTC (20, usually 900)."},
		{CPUSteal, theHost, 0, 30, false, "Other virtual machines take more of the processors of the host than usual since 14:02 UTC (30 %, usually 0 %)."},
	} {
		f := &Finding{Kind: Anomaly, Measure: Measure{c.metric, c.of}, Unit: MetricOf(c.metric).Unit, Expected: c.expected, Peak: c.peak, Start: start}
		if c.over {
			f.End = &end
		}
		explain(f, &Evidence{})
		if f.Summary != c.want {
			t.Errorf("%s\nwant %s", f.Summary, c.want)
		}
	}
}

// Each metric that may be a finding of a resource has a sentence with its subject, for now and then, up and down.
func TestEveryResourceHasWords(t *testing.T) {
	for i := range Metrics {
		m := &Metrics[i]
		words, known := resourceWords[m.Name]
		if m.Values > 0 && m.rank <= 4 && !known {
			t.Errorf("%s has no words", m.Name)
		}
		for _, text := range []string{words.now + words.up, words.now + words.down, words.then + words.up, words.then + words.down} {
			if known && strings.Count(text, "%s") != 1 {
				t.Errorf("%s: %q", m.Name, text)
			}
		}
	}
}

// A service that was slow and now fails as well fails since it does so, with what explains that, and not since it was slow.
func TestSinceOfWhatLeads(t *testing.T) {
	w := newWorld(t, 5, Options{})
	shop := w.serve("shop", "GET /items", 20, 10)
	w.run(60)
	shop.ms = 200
	w.run(20)
	slow := w.opened()
	began := w.now
	shop.fails = .5
	w.run(5)
	f := w.opened()
	if slow == nil || f == nil || f.ID != slow.ID || f.Metric != ErrorRate || !f.Start.Before(began) {
		t.Fatalf("%+v, then %+v", slow, f)
	}
	if !strings.Contains(f.Summary, "fails more often since "+clock(began)) || clock(began) == clock(f.Start) {
		t.Errorf("since %s: %s", clock(began), f.Summary)
	}
	if len(f.Causes) == 0 || f.Causes[0].Metric != ErrorRate || f.Causes[0].Relationship != ofSelf {
		t.Errorf("%+v", f.Causes)
	}
}

// More calls of several kinds have the figures of the kind that they are of, and nothing of the host is to blame for them.
func TestMoreCalls(t *testing.T) {
	w := newWorld(t, 5, Options{})
	lost := 1.
	w.measured(Measure{Retransmits, Subject{}}, func() float64 { return lost })
	get, post := w.call("shop", "db", 20, 5), w.call("shop", "db", 10, 5)
	post.Verb = "POST"
	w.run(60)
	get.rps, post.rps, lost = 90, 50, 90
	w.run(6)
	for _, f := range w.Findings() {
		if f.Service == "" {
			continue
		}
		if f.Metric != Throughput || len(f.Causes) > 0 || !strings.Contains(f.Summary, "(above all `GET`: 9") && !strings.Contains(f.Summary, "(above all `POST`: 5") {
			t.Errorf("%s %+v", f.Summary, f.Causes)
		}
		return
	}
	t.Error("nothing was found")
}

// Commands of next steps can be copied: with the agent's own address and socket, and without them those of an agent with the defaults.
func TestReach(t *testing.T) {
	for _, c := range []struct {
		reach Reach
		want  string
	}{
		{Reach{}, "Look at single requests as they end: perfagent trace --service shop --slower 104ms; the slowest of late: curl -s 'http://127.0.0.1:9464/requests?kind=slowest&service=shop'"},
		{Reach{"http://localhost", "curl -s --unix-socket /run/p.sock", "perfagent trace --web.socket /run/t.sock"},
			"Look at single requests as they end: perfagent trace --web.socket /run/t.sock --service shop --slower 104ms; the slowest of late: curl -s --unix-socket /run/p.sock 'http://localhost/requests?kind=slowest&service=shop'"},
	} {
		f := &Finding{Kind: Anomaly, Measure: Measure{ResponseTime, cart}, Unit: "ms", Expected: 87, Peak: 120, Start: beginning}
		x := Explainer{Reach: func() Reach { return c.reach }}
		x.Explain(f, &Evidence{})
		if len(f.NextSteps) != 1 || f.NextSteps[0] != c.want {
			t.Errorf("%q\nwant %q", f.NextSteps, c.want)
		}
	}
}

// Each metric that may be a cause has words and a step of its own, whatever it is of.
func TestEveryCauseHasWords(t *testing.T) {
	s := newSituation(&Finding{}, &Evidence{})
	for metric, n := range natures {
		if MetricOf(metric) == nil {
			t.Errorf("%s is no metric", metric)
		}
		if n.part == partPhase || n.part == partOther && n.host == partOther {
			continue
		}
		for _, relationship := range []string{ofSelf, ofDownstream, ofNeighbour, ofHost} {
			m := Measure{metric, Subject{Service: "shop"}}
			if relationship == ofHost {
				m.Subject = Subject{Device: "sda"}
			}
			c := Cause{Measure: m, Kind: series.KindOther, Relationship: relationship}
			if c.noun(s) == metric || c.step(s) == "" || s.sentence(&candidate{Measure: m, relationship: relationship, nature: natureOf(&m)}) == "." {
				t.Errorf("%s, %s: %q, %q", metric, relationship, c.noun(s), c.step(s))
			}
		}
	}
}
