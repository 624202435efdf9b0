package series

import (
	"math"
	"math/rand"
	"testing"
)

// What a person would say of a few short series: where they go, how fast and whether it is a trend at all.
func TestFindTrend(t *testing.T) {
	noise := []float64{3, -1, 2, 0, -3, 1, -2, 2, 0, -1, 1, -2, 3, -1, 0, 2, -3, 1, -1, 2, 0, -2, 1, -1}
	ramp := func(slope, level float64) []float64 {
		y := make([]float64, len(noise))
		for i, e := range noise {
			y[i] = level + slope*float64(i) + e
		}
		return y
	}
	outlier := ramp(2, 100)
	outlier[4], outlier[20] = 5000, -5000
	gaps := ramp(-2, 100)
	gaps[0], gaps[7], gaps[8], gaps[23] = nan, nan, math.Inf(1), nan
	rare := make([]float64, 60)
	rare[12], rare[25], rare[34], rare[40], rare[43], rare[47], rare[50], rare[51], rare[54] = 1, 1, 2, 1, 3, 2, 4, 2, 5
	rare[52], rare[55], rare[56], rare[58], rare[59] = 3, 4, 5, 4, 6
	for name, c := range map[string]struct {
		y         []float64
		direction Direction
		slope     float64
		values    int
	}{
		"up by 2 a step":            {ramp(2, 100), Rising, 2, 24},
		"down, with missing ones":   {gaps, Falling, -2, 20},
		"two absurd values":         {outlier, Rising, 2, 24},
		"noise":                     {noise, Steady, 0, 24},
		"constant":                  {[]float64{5, 5, 5, 5, 5, 5, 5, 5, 5, 5}, Steady, 0, 10},
		"a step back at every end":  {[]float64{1, 2, 3, 4, 5, 4, 3, 2, 1, 2, 3, 4, 5, 4, 3, 2, 1}, Steady, 0, 17},
		"too short to say":          {[]float64{1, 2, 3, 4, 5}, Steady, 1, 5},
		"rare errors, more of late": {rare, Rising, 0.05, 60},
		"nothing":                   {[]float64{nan, nan}, Steady, 0, 0},
	} {
		got := FindTrend(c.y)
		if got.Direction != c.direction || math.Abs(got.Slope-c.slope) > 0.12 || got.Values != c.values {
			t.Errorf("%s: %s by %.3f of %d values (p %.3g), want %s by %g of %d", name, got.Direction, got.Slope, got.Values, got.P, c.direction, c.slope, c.values)
		}
		if got.Direction != Steady && (got.SlopeLow > c.slope || got.SlopeHigh < c.slope || got.SlopeHigh-got.SlopeLow > 0.5) {
			t.Errorf("%s: slope between %.3f and %.3f, want %g", name, got.SlopeLow, got.SlopeHigh, c.slope)
		}
	}
	if got := FindTrend(ramp(2, 100)); got.Strength != Strong || got.R2 < 0.95 || math.Abs(got.Level-100) > 2 {
		t.Errorf("strength %s, R² %.3f, level %.1f: want strong, nearly 1, 100", got.Strength, got.R2, got.Level)
	}
}

// Long series are joined to fewer points; slope and level stay those of the steps.
func TestFindTrendLong(t *testing.T) {
	y := make([]float64, 10_007)
	for i := range y {
		y[i] = 50 + 0.01*float64(i) + float64(i%5)
	}
	got := FindTrend(y)
	if math.Abs(got.Slope-0.01) > 1e-4 || math.Abs(got.Level-52) > 1 || got.Direction != Rising {
		t.Errorf("slope %.5f, level %.2f, %s", got.Slope, got.Level, got.Direction)
	}
}

// Series without a trend have p < 0.05 in about one of twenty cases, whatever their autocorrelation, distribution or noise; series
// with a clear one nearly always. Fixed seeds, so the shares are always the same.
func TestTrendCalibration(t *testing.T) {
	if testing.Short() {
		t.Skip("a simulation")
	}
	const cases = 200
	most := 0.05 + 3*math.Sqrt(0.05*0.95/cases) // a perfect test is above once in 700
	for name, make := range nullSeries {
		r := rand.New(rand.NewSource(21))
		var rising []float64
		null := share(cases, func() bool {
			y := make(r)
			rising = append(rising, FindTrend(withRise(y, 17*longSpread(name))).P)
			return FindTrend(y).P < 0.05
		})
		power := 0.
		for _, p := range rising {
			if p < 0.05 {
				power += 1 / float64(len(rising))
			}
		}
		t.Logf("%s: %.3f without a trend, %.3f with", name, null, power)
		if null > most {
			t.Errorf("%s: %.3f of the series without a trend have one, want 0.05", name, null)
		}
		if power < 0.8 {
			t.Errorf("%s: only %.2f of the clear trends are found", name, power)
		}
	}
}

// nullSeries are stationary series of several natures.
var nullSeries = map[string]func(r *rand.Rand) []float64{
	"white": func(r *rand.Rand) []float64 { return drifting(r, 120, 0) },
	"half":  func(r *rand.Rand) []float64 { return drifting(r, 120, 0.5) },
	"slow":  func(r *rand.Rand) []float64 { return drifting(r, 300, 0.9) },
	"slow, lognormal": func(r *rand.Rand) []float64 {
		y := drifting(r, 300, 0.9)
		for i, v := range y {
			y[i] = math.Exp(v)
		}
		return y
	},
	"slow under noise": func(r *rand.Rand) []float64 {
		y := drifting(r, 300, 0.95)
		for i := range y {
			y[i] += r.NormFloat64()
		}
		return y
	},
}

// longSpread is the standard deviation of the mean over the whole series, roughly: a rise by 17 of them is five of the
// best possible slope.
func longSpread(name string) float64 {
	return map[string]float64{"white": 0.1, "half": 0.16, "slow": 0.25, "slow, lognormal": 0.4, "slow under noise": 0.4}[name]
}

func withRise(y []float64, rise float64) []float64 {
	risen := make([]float64, len(y))
	for i, v := range y {
		risen[i] = v + rise*float64(i)/float64(len(y))
	}
	return risen
}
