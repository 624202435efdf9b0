package series

import (
	"math"
	"math/rand"
	"testing"
)

// nan is a missing value.
var nan = math.NaN()

// Distribution functions against printed tables: normal quantiles, Student's t at its 5 % and 1 % points, also with a
// fraction of a degree of freedom between its neighbours, and far tails.
func TestDistributions(t *testing.T) {
	for _, c := range []struct{ got, want float64 }{
		{normalQuantile(0.975), 1.959964},
		{normalQuantile(0.5), 0},
		{normalQuantile(0.001), -3.090232},
		{normalQuantile(1e-10), -6.361341},
		{studentTwoSided(12.706205, 1), 0.05},
		{studentTwoSided(2.228139, 10), 0.05},
		{studentTwoSided(-3.169273, 10), 0.01},
		{studentTwoSided(2.5758293, 1e7), 0.01},
		{studentTwoSided(0, 5), 1},
		{studentTwoSided(math.Inf(1), 5), 0},
		{studentTwoSided(3, 0), 1},
	} {
		if math.Abs(c.got-c.want) > 2e-6 {
			t.Errorf("got %.7f, want %.7f", c.got, c.want)
		}
	}
	if low, p, high := studentTwoSided(2, 4), studentTwoSided(2, 3.5), studentTwoSided(2, 3); low >= p || p >= high {
		t.Errorf("not in order: %g %g %g", low, p, high)
	}
}

// Scores are in the order of the values, symmetric, the same for equal values, and missing where these are.
func TestNormalScores(t *testing.T) {
	s := normalScores([]float64{30, 10, nan, 20, 20, 1e9})
	if !math.IsNaN(s[2]) || s[3] != s[4] || s[1] >= s[3] || s[3] >= s[0] || s[0] >= s[5] || math.Abs(s[1]+s[5]) > 1e-12 {
		t.Errorf("scores %v", s)
	}
}

// drifting returns an autoregression of order one with standard deviation 1.
func drifting(r *rand.Rand, n int, phi float64) []float64 {
	y := make([]float64, n)
	e := r.NormFloat64()
	for i := range y {
		y[i] = e
		e = phi*e + math.Sqrt(1-phi*phi)*r.NormFloat64()
	}
	return y
}

// share returns how often one of n experiments is true.
func share(n int, experiment func() bool) float64 {
	count := 0
	for range n {
		if experiment() {
			count++
		}
	}
	return float64(count) / float64(n)
}

// A regression with known coefficients and errors finds them, also with a third of the rows missing: the coefficient within
// three standard errors, and the errors' autocorrelation and noise.
func TestRegress(t *testing.T) {
	r := rand.New(rand.NewSource(5))
	const n = 1500
	one, x, y := make([]float64, n), drifting(r, n, 0.5), drifting(r, n, 0.9)
	for i := range y {
		one[i] = 1
		y[i] += 5 + 0.5*x[i] + 0.5*r.NormFloat64() // 80 % drift, 20 % noise
		if i%3 == 0 {
			y[i] = nan
		}
	}
	got := regress(y, one, x)
	if got.n != 1000 || math.Abs(got.beta-0.5) > 3*got.se || got.se > 0.1 || got.p > 1e-6 {
		t.Errorf("coefficient %.3f ± %.3f, p %.2g of %d rows, want 0.5 of 1000", got.beta, got.se, got.p, got.n)
	}
	if math.Abs(got.phi-0.9) > 0.05 || math.Abs(got.noise-0.2) > 0.1 {
		t.Errorf("autocorrelation %.2f and noise %.2f, want 0.9 and 0.2", got.phi, got.noise)
	}
}

// A regressor that another one explains has no coefficient, and neither has one without rows: p is 1, and nothing is NaN.
func TestRegressSingular(t *testing.T) {
	one, y := []float64{1, 1, 1, 1, 1, 1, 1, 1}, []float64{1, 2, 1, 3, 1, 2, 4, 1}
	for _, x := range [][]float64{one, {nan, nan, nan, nan, nan, nan, nan, 1}} {
		if got := regress(y, one, x); got.p != 1 || got.beta != 0 {
			t.Errorf("got %+v", got)
		}
	}
}
