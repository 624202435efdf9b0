package series

import (
	"math"
	"math/rand"
	"testing"
)

// What a person would say of pairs of series: together or against each other, which one first, and that nothing is there
// where both are constant, unrelated, or without common rows.
func TestCorrelate(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	x, other, noise := drifting(r, 200, 0.7), drifting(r, 200, 0.7), drifting(r, 200, 0)
	follow := func(slope float64, lag int) []float64 {
		y := make([]float64, len(x))
		for i := range y {
			if y[i] = 100 + 0.5*noise[i]; i >= lag {
				y[i] += slope * x[i-lag]
			}
		}
		return y
	}
	spiked := follow(1, 0)
	spiked[10], spiked[50] = 1e9, nan
	missing := make([]float64, len(x))
	for i := range missing {
		missing[i] = nan
	}
	for name, c := range map[string]struct {
		x, y         []float64
		relationship Relationship
		coefficient  float64
		lag          int
	}{
		"together":            {x, follow(1, 0), Positive, 0.89, 0},
		"against":             {x, follow(-1, 0), Negative, -0.89, 0},
		"outlier and gap":     {x, spiked, Positive, 0.89, 0},
		"three steps later":   {x, follow(1, 3), Positive, 0.89, 3},
		"three steps earlier": {follow(-1, 3), x, Negative, -0.89, -3},
		"unrelated":           {x, other, Unrelated, 0, 0},
		"constant":            {x, make([]float64, len(x)), Unrelated, 0, 0},
		"missing":             {x, missing, Unrelated, 0, 0},
		"empty":               {nil, nil, Unrelated, 0, 0},
	} {
		got := Correlate(c.x, c.y, CorrelationOptions{LagMax: 10})
		if got.Relationship != c.relationship || got.Lag != c.lag {
			t.Errorf("%s: %s with lag %d (p %.2g), want %s with %d", name, got.Relationship, got.Lag, got.P, c.relationship, c.lag)
		}
		if c.relationship != Unrelated && math.Abs(got.Coefficient-c.coefficient) > 0.06 {
			t.Errorf("%s: coefficient %.2f, want %.2f", name, got.Coefficient, c.coefficient)
		}
	}
}

// Two series that both follow the load are related, and not with the load held constant; what one owes to the other remains.
func TestCorrelateOnLoad(t *testing.T) {
	r := rand.New(rand.NewSource(3))
	load := drifting(r, 300, 0.9)
	cpu, latency, disk := make([]float64, 300), make([]float64, 300), make([]float64, 300)
	for i, l := range load {
		cpu[i] = 20 + 5*l + r.NormFloat64()
		disk[i] = 7 + 2*r.NormFloat64()
		latency[i] = 100 + 10*l + 3*disk[i] + 2*r.NormFloat64()
	}
	if got := Correlate(cpu, latency, CorrelationOptions{}); got.Relationship != Positive || got.Strength != Moderate && got.Strength != Strong {
		t.Errorf("without the load: %+v, want a positive relation", got)
	}
	if got := Correlate(cpu, latency, CorrelationOptions{Load: load}); got.Relationship != Unrelated || math.Abs(got.Coefficient) > 0.15 {
		t.Errorf("processor and latency, given the load: %+v, want none", got)
	}
	if got := Correlate(disk, latency, CorrelationOptions{Load: load}); got.Relationship != Positive || got.Coefficient < 0.8 {
		t.Errorf("disk and latency, given the load: %+v, want a strong one", got)
	}
}

// Independent series have p < 0.05 in about one of twenty cases, however slowly they drift, and also when the best of
// forty lags is looked for; related ones are found. Fixed seeds.
func TestCorrelationCalibration(t *testing.T) {
	if testing.Short() {
		t.Skip("a simulation")
	}
	const cases = 200
	most := 0.05 + 3*math.Sqrt(0.05*0.95/cases) // a perfect test is above once in 700
	for _, c := range []struct {
		n, lags int
		phi     float64
	}{{60, 0, 0}, {100, 0, 0.9}, {300, 0, 0.97}, {100, 20, 0.8}} {
		r := rand.New(rand.NewSource(4))
		found := 0
		null := share(cases, func() bool {
			x, y := drifting(r, c.n, c.phi), drifting(r, c.n, c.phi)
			p := Correlate(x, y, CorrelationOptions{LagMax: c.lags}).P
			for i := range y {
				y[i] = 0.5*x[i] + math.Sqrt(0.75)*y[i]
			}
			if Correlate(x, y, CorrelationOptions{LagMax: c.lags}).P < 0.05 {
				found++
			}
			return p < 0.05
		})
		t.Logf("%+v: %.3f of independent, %d of %d related", c, null, found, cases)
		if null > most || float64(found) < 0.9*cases {
			t.Errorf("%+v: %.3f of independent series are related, want 0.05; %d of %d related ones are found", c, null, found, cases)
		}
	}
}

// Two series that share nothing but their load have p < 0.05, given the load, in about one of twenty cases: whatever the load looks
// like, however closely they follow it, and where one follows it as the time in a queue does. Looked for with lags. Fixed seeds.
func TestCorrelationOnLoadCalibration(t *testing.T) {
	if testing.Short() {
		t.Skip("a simulation")
	}
	const cases, n = 100, 144
	most := 0.05 + 3*math.Sqrt(0.05*0.95/cases)
	for name, load := range map[string]func(r *rand.Rand) []float64{
		"drifting": func(r *rand.Rand) []float64 { return drifting(r, n, 0.9) },
		"waves": func(r *rand.Rand) []float64 {
			y, phase := make([]float64, n), 6*r.Float64()
			for i := range y {
				y[i] = 1.4 * math.Sin(phase+2*math.Pi*float64(i)/36)
			}
			return y
		},
	} {
		for _, noise := range []float64{0.02, 0.2, 1} {
			r := rand.New(rand.NewSource(5))
			null := share(cases, func() bool {
				l := load(r)
				x, y := make([]float64, n), make([]float64, n)
				for i := range l {
					x[i] = 20 + l[i] + noise*r.NormFloat64()
					y[i] = 1/(1-1/(1.2+math.Exp(-l[i]))) + noise*r.NormFloat64()
				}
				return Correlate(x, y, CorrelationOptions{Load: l, LagMax: 12}).P < 0.05
			})
			t.Logf("%s, noise %g: %.3f", name, noise, null)
			if null > most {
				t.Errorf("%s, noise %g: %.3f of pairs that share the load alone are related, want 0.05", name, noise, null)
			}
		}
	}
}

// The correction for many pairs is that of Benjamini and Hochberg, computed by hand: the smallest of p·n/rank from there on.
func TestCorrectForAll(t *testing.T) {
	p := []float64{0.04, 0.001, 0.03, 0.5}
	want := []float64{0.16 / 3, 0.004, 0.16 / 3, 0.5}
	var all []*Correlation
	for _, v := range p {
		all = append(all, &Correlation{P: v, Coefficient: -0.9})
	}
	CorrectForAll(all)
	for i, c := range all {
		if math.Abs(c.Q-want[i]) > 1e-12 || (c.Relationship == Negative) != (want[i] < 0.05) {
			t.Errorf("p %g: q %.4f (%s), want %.4f", p[i], c.Q, c.Relationship, want[i])
		}
	}
}
