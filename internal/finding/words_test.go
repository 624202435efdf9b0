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
		{MemoryUsage, theHost, 50, 97, false, "Use of memory of the host is higher than usual since 14:02 UTC (97 %, usually 50 %)."},
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
