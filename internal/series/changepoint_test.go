package series

import (
	"math"
	"math/rand/v2"
	"testing"
)

// A level that rises from 100 to 120 at the 150th of 300 noisy values is found within three values, with its size; missing values
// and single outliers do not move it.
func TestFindChangesStep(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	y := make([]float64, 300)
	for i := range y {
		y[i] = 100 + 5*r.NormFloat64()
		if i >= 150 {
			y[i] += 20
		}
	}
	y[20], y[21], y[200] = math.NaN(), math.NaN(), 1e6
	found := FindChanges(y)
	if len(found) != 1 {
		t.Fatalf("found %+v", found)
	}
	c := found[0]
	if c.Index < 147 || c.Index > 153 || math.Abs(c.Delta-20) > 3 || c.Confidence < 0.95 {
		t.Errorf("found %+v", c)
	}
}

// A line that bends from +1 to -1 per value at the 100th of 200 is one change of slope, not a flight of steps.
func TestFindChangesBend(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	y := make([]float64, 200)
	for i := range y {
		y[i] = 100 - math.Abs(float64(i-100)) + 2*r.NormFloat64()
	}
	found := FindChanges(y)
	if len(found) != 1 || math.Abs(float64(found[0].Index-100)) > 5 || math.Abs(found[0].Slope+2) > 0.2 {
		t.Errorf("found %+v", found)
	}
}

// Noise without a change, also where values depend on those before (AR(1), phi 0.7), shows changes in at most one of twenty
// series: 200 of each with fixed seeds.
func TestFindChangesNull(t *testing.T) {
	for _, phi := range []float64{0, 0.7} {
		false_ := 0
		for seed := range uint64(200) {
			r := rand.New(rand.NewPCG(seed, 3))
			y := make([]float64, 120)
			v := 0.0
			for i := range y {
				v = phi*v + r.NormFloat64()
				y[i] = v
			}
			if len(FindChanges(y)) > 0 {
				false_++
			}
		}
		if false_ > 10 {
			t.Errorf("phi %g: %d of 200 series without a change have one", phi, false_)
		}
	}
}

// What is no series of numbers at all has no changes: too short, constant, missing.
func TestFindChangesNothing(t *testing.T) {
	nan := math.NaN()
	for _, y := range [][]float64{nil, {1}, {1, 2, 3}, {nan, nan, nan}, make([]float64, 50), {math.Inf(1), math.Inf(-1)}} {
		if found := FindChanges(y); len(found) > 0 {
			t.Errorf("%v: %+v", y, found)
		}
	}
}

// A long series is averaged in blocks, and the index is one of its own: a step at 30,000 of 50,000.
func TestFindChangesLong(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	y := make([]float64, 50_000)
	for i := range y {
		y[i] = r.NormFloat64()
		if i >= 30_000 {
			y[i]++
		}
	}
	found := FindChanges(y)
	if len(found) != 1 || math.Abs(float64(found[0].Index-30_000)) > 100 {
		t.Errorf("found %+v", found)
	}
}
