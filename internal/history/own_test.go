package history

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

// Shows that what the agent says of itself is in the history with each tick, as counter or gauge, under its labels, and ends where it
// is not said any more.
func TestOwnFigures(t *testing.T) {
	n := 0
	own := func() []analytics.Figure {
		n++
		all := []analytics.Figure{{Name: "perfagent_notifications_total", Counter: true, Value: float64(n), Labels: []analytics.Label{{Name: "receiver", Value: "chat"}}},
			{Name: "perfagent_tcp_rtt_seconds_bucket", Counter: true, Value: 7, Labels: []analytics.Label{{Name: "le", Value: "0.5"}, {Name: "service_name", Value: "shop"}}}}
		if n > 3 {
			all = all[:1]
		}
		return all
	}
	h := Open(Options{Path: t.TempDir(), Log: quiet, Own: own})
	defer h.close()
	for i := range 5 {
		feed(h, &analytics.Seal{To: start.Add(time.Duration(i+1) * analytics.TickInterval)}, nil)
	}
	for _, sealed := range []bool{false, true} {
		if sealed {
			h.seal()
		}
		for name, want := range map[string][]float64{"perfagent_notifications_total": {1, 2, 3, 4, 5}, "perfagent_tcp_rtt_seconds_bucket": {7, 7, 7}} {
			r, err := h.Select(Query{From: start, To: start.Add(time.Hour), Matchers: []Matcher{{"__name__", func(v string) bool { return v == name }}}})
			if err != nil || len(r.Series) != 1 || r.Series[0].Kind != Counter {
				t.Fatalf("%s: %+v, %v", name, r, err)
			}
			var got []float64
			for it := r.Series[0].Iterate(); it.Next(); {
				got = append(got, it.At().Value)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
			r.Close()
		}
	}
	rtt, err := h.LabelValues(Query{From: start, To: start.Add(time.Hour), Matchers: []Matcher{{"service_name", func(v string) bool { return v == "shop" }}}}, "le")
	if err != nil || !slices.Equal(rtt, []string{"0.5"}) {
		t.Errorf("%v, %v", rtt, err)
	}
}

// Shows that an open column of figures gives back what was put in, from any slot on, though a figure that stays what it is is written
// once: a walk with gaps, repeats, and slots that go back, compared with the points themselves.
func TestOpenFigures(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		c, want := new(openColumn), map[int64]float64{}
		slot, v := int64(1000), 0.
		for range 300 {
			switch r.IntN(12) {
			case 0:
				v = []float64{1, -1, math.Inf(1), 3.5, 1e9}[r.IntN(5)]
			case 1:
				slot += int64(r.IntN(40))
			case 2:
				if round%2 == 1 {
					slot -= int64(r.IntN(5))
				}
			}
			c.append(false, &point{value: v}, slot)
			want[slot] = v
			slot++
		}
		for _, from := range []int64{math.MinInt64, 1000, 1003, 1100 + int64(r.IntN(200)), slot} {
			got := c.decode(false, from)
			left := 0
			for s := range want {
				if s >= from {
					left++
				}
			}
			if len(got) != left {
				t.Fatalf("round %d from %d: %d points, want %d", round, from, len(got), left)
			}
			for i, p := range got {
				if want[p.slot] != p.value || i > 0 && got[i-1].slot >= p.slot {
					t.Fatalf("round %d: %v at %d, want %v", round, p.value, p.slot, want[p.slot])
				}
			}
		}
	}
	c := new(openColumn)
	for i := range int64(pointsMax) {
		c.append(false, &point{value: 5}, 177_000_000+i)
	}
	if len(c.points) > 20 {
		t.Errorf("a figure that stays what it is takes %d bytes", len(c.points))
	}
}
