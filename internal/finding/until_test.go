package finding

import (
	"math/rand"
	"strings"
	"testing"
	"time"
)

// climbing makes a series that rises from one value to another over so many rows of ten seconds, with noise.
func climbing(seed int64, m Measure, from, to, noise float64, rows int) Measured {
	r := rand.New(rand.NewSource(seed))
	s := Measured{Measure: m, Values: make([]float32, rows)}
	for i := range s.Values {
		s.Values[i] = float32(from + (to-from)*float64(i)/float64(rows) + noise*r.NormFloat64())
	}
	return s
}

// A disk that fills by a percent in two minutes is full when a person would work out that it is; what is steady, falls, is full already or
// would take days is not foreseen.
func TestForesee(t *testing.T) {
	disk := Measure{DiskSpaceUsed, Subject{Device: "/var"}}
	for seed := range int64(10) {
		e := &Evidence{From: beginning, Step: 10 * time.Second, All: []Measured{
			climbing(seed, disk, 80, 90, 0.1, 120), // ends at 14:05 with 90 %, and needs another 20 minutes
			climbing(seed, Measure{DiskSpaceUsed, Subject{Device: "/steady"}}, 80, 80, 0.3, 120),
			climbing(seed, Measure{DiskSpaceUsed, Subject{Device: "/falls"}}, 90, 80, 0.3, 120),
			climbing(seed, Measure{DiskSpaceUsed, Subject{Device: "/slow"}}, 50, 50.5, 0.1, 120),
			climbing(seed, Measure{MemoryUsage, Subject{}}, 100, 100, 0, 120),
			climbing(seed, Measure{CPUUsage, Subject{}}, 10, 90, 1, 120), // no limit is reached by it
			climbing(seed, Measure{DiskSpaceUsed, Subject{Device: "/young"}}, 80, 99, 0.1, 10),
		}}
		all := Foresee(e)
		if len(all) != 1 || all[0].Measure != disk {
			t.Fatalf("seed %d: %+v", seed, all)
		}
		u, want := all[0].Until, beginning.Add(40*time.Minute)
		if off := u.Likely.Sub(want).Abs(); off > 5*time.Minute || u.Earliest.After(u.Likely) || u.Latest != nil && u.Latest.Before(u.Likely) {
			t.Errorf("seed %d: %s (%s to %v), want %s", seed, u.Likely, u.Earliest, u.Latest, want)
		}
		if s := all[0].Summary; !strings.HasPrefix(s, "Used space of /var rises (9") || !strings.Contains(s, ", and reaches the end of the space at about 14:") {
			t.Error(s)
		}
	}
}

// An open finding of an endpoint with an objective says when its response time reaches it; one that is over does not, nor does one beyond it.
func TestUntilObjective(t *testing.T) {
	fault := map[at]float64{{ResponseTime, cart}: 190}
	for _, c := range []struct {
		objective float64
		over      bool
		until     bool
	}{{300, false, true}, {300, true, false}, {100, false, false}, {0, false, false}} {
		f, e := about(ResponseTime, cart, fault), around(1, fault)
		for i := range e.All {
			if e.All[i].Measure == f.Measure {
				e.All[i] = climbing(1, f.Measure, 80, 190, 2, rowsOfTest)
			}
		}
		if c.over {
			end := f.Start.Add(2 * time.Minute)
			f.End = &end
		}
		x := Explainer{Objective: func(u *Subject) float64 { return c.objective }}
		x.Explain(f, e)
		if (f.Until != nil) != c.until || c.until && !strings.Contains(f.Summary, "; if it goes on like this, it reaches its objective at about 14:") {
			t.Errorf("%+v: %+v, %s", c, f.Until, f.Summary)
		}
	}
}
