package series

import (
	"encoding/binary"
	"math"
	"math/rand"
	"testing"
)

// hourly returns weeks of hours with a day, a week, a trend and noise.
func hourly(r *rand.Rand, hours int, trend, noise float64) []float64 {
	y := make([]float64, hours)
	for i := range y {
		y[i] = 100 + trend*float64(i) + 30*math.Sin(2*math.Pi*float64(i%24)/24) + noise*r.NormFloat64()
		if i/24%7 >= 5 {
			y[i] -= 25 // the weekend
		}
	}
	return y
}

// A series with days and weeks goes on with them: over five days that include a weekend the error is that of the noise, and the
// interval holds what happens.
func TestForecastSeasons(t *testing.T) {
	y := hourly(rand.New(rand.NewSource(8)), 900, 0, 2)
	f := MakeForecast(y[:780], ForecastOptions{Horizon: 120, Season: 24})
	inside, off := 0, 0.
	for h, v := range f.Values {
		truth := y[780+h]
		off += math.Abs(v.Mean-truth) / 120
		if v.Low <= truth && truth <= v.High {
			inside++
		}
	}
	if off > 2.5 {
		t.Errorf("mean error %.2f where the noise has 1.6", off)
	}
	if inside < 105 || f.Values[0].High-f.Values[0].Low > 16 {
		t.Errorf("%d of 120 values are in intervals of %.1f", inside, f.Values[0].High-f.Values[0].Low)
	}
}

// Small series that a person would continue: a line, a constant, one value, missing values, what cannot be negative.
func TestForecastSimple(t *testing.T) {
	line := make([]float64, 50)
	falling := make([]float64, 50)
	for i := range line {
		line[i], falling[i] = 10+2*float64(i), 98-2*float64(i)
	}
	gap := append([]float64(nil), line...)
	gap[0], gap[20], gap[21] = nan, nan, nan
	for name, c := range map[string]struct {
		y        []float64
		at10     float64
		accuracy float64
	}{
		"line":         {line, 128, 0.5},
		"line, gaps":   {gap, 128, 2},
		"constant":     {[]float64{7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7}, 7, 0},
		"one value":    {[]float64{7}, 7, 0},
		"down to zero": {falling, 0, 0},
	} {
		f := MakeForecast(c.y, ForecastOptions{Horizon: 10})
		if v := f.Values[9]; math.Abs(v.Mean-c.at10) > c.accuracy || v.Low > v.Mean || v.High < v.Mean || v.Low < 0 {
			t.Errorf("%s: %+v, want %g", name, v, c.at10)
		}
	}
	if f := MakeForecast([]float64{nan}, ForecastOptions{Horizon: 3}); f.Values != nil {
		t.Errorf("a forecast of nothing: %+v", f)
	}
}

// A disk that fills by 3 a step from 200 has 500 after 100 steps; the earliest is before, the latest after that, and a limit that
// is not reached has no time. The same downwards.
func TestUntil(t *testing.T) {
	r := rand.New(rand.NewSource(9))
	up, down := make([]float64, 200), make([]float64, 200)
	for i := range up {
		up[i] = 200 - 3*float64(199-i) + 4*r.NormFloat64()
		down[i] = 1000 - up[i]
	}
	f := MakeForecast(up, ForecastOptions{Horizon: 300})
	if c := f.Until(500, false); c.Likely < 95 || c.Likely > 105 || c.Earliest < 80 || c.Earliest >= c.Likely || c.Latest <= c.Likely || c.Latest > 120 {
		t.Errorf("500 is reached %+v, want after 100 steps", c)
	}
	if c := f.Until(5000, false); c != (Crossing{}) {
		t.Errorf("5000 is reached %+v", c)
	}
	if c := MakeForecast(down, ForecastOptions{Horizon: 300}).Until(500, true); c.Likely < 95 || c.Likely > 105 || c.Latest <= c.Likely {
		t.Errorf("500 is reached %+v on the way down, want after 100 steps", c)
	}
}

// Intervals of 95 % hold about that share of what comes, over many series of different natures. Fixed seeds.
func TestForecastCoverage(t *testing.T) {
	if testing.Short() {
		t.Skip("a simulation")
	}
	r := rand.New(rand.NewSource(10))
	inside, all := 0, 0
	for i := range 40 {
		y := hourly(r, 672, 0.01*float64(i), 3)
		for j, e := range drifting(r, len(y), 0.9) {
			y[j] += 3 * e
		}
		for h, v := range MakeForecast(y[:624], ForecastOptions{Horizon: 48, Season: 24}).Values {
			if all++; v.Low <= y[624+h] && y[624+h] <= v.High {
				inside++
			}
		}
	}
	if covered := float64(inside) / float64(all); covered < 0.92 || covered > 0.985 {
		t.Errorf("%.3f of the values are in intervals of 95 %%", covered)
	}
}

// Every engine survives any numbers: nothing panics, probabilities stay between 0 and 1, and finite input leads to finite
// results.
func FuzzEngines(f *testing.F) {
	seed := []byte{}
	for _, v := range []float64{1, 2, nan, math.Inf(1), -1e308, 1e308, 0, 5e-324, 3, 3, 3, 4, 9, 2, 6} {
		seed = binary.LittleEndian.AppendUint64(seed, math.Float64bits(v))
	}
	f.Add(seed, 3, 5, 4)
	f.Add([]byte{}, 0, 0, -1)
	f.Fuzz(func(t *testing.T, data []byte, lag, horizon, season int) {
		var y []float64
		for ; len(data) >= 8 && len(y) < 120; data = data[8:] {
			y = append(y, math.Float64frombits(binary.LittleEndian.Uint64(data)))
		}
		trend := FindTrend(y)
		other := append(append([]float64(nil), y[len(y)/2:]...), y[:len(y)/2]...)
		c := Correlate(y, other, CorrelationOptions{Load: y, LagMax: lag})
		for _, p := range []float64{trend.P, trend.R2, c.P, c.Q, math.Abs(c.Coefficient)} {
			if !(p >= 0 && p <= 1) {
				t.Fatalf("%v is not between 0 and 1: %+v %+v", p, trend, c)
			}
		}
		for _, v := range MakeForecast(y, ForecastOptions{Horizon: horizon % 100, Season: season}).Values {
			if !(v.Low <= v.Mean && v.Mean <= v.High) || math.IsInf(v.High-v.Low, 0) {
				t.Fatalf("forecast %+v of %v", v, y)
			}
		}
		for _, cause := range RankCauses([]CauseMetric{{Values: y}, {Kind: KindLoad, Values: other}}, lag) {
			if math.IsNaN(cause.Score) || math.IsInf(cause.Score, 0) {
				t.Fatalf("cause %+v", cause)
			}
		}
	})
}
