package series

import (
	"math"
	"slices"
)

// model forecasts horizon values of a series without missing values from what is before; nil: it has too little to do so.
type model struct {
	name     string
	prior    float64 // weight before anything is known of how well it does
	forecast func(y []float64, horizon, season int) []float64
}

// models are what a forecast is mixed from. None is best everywhere: what repeats itself exactly is best copied, what drifts is
// best smoothed, what hangs on its last values is best regressed.
var models = []model{
	{"last value", 1, lastValue},
	{"line", 1, straightOn},
	{"trend", 1, dampedTrend},
	{"season", 1, func(y []float64, horizon, season int) []float64 { return repeat(y, horizon, season) }},
	{"cycle", 1, func(y []float64, horizon, season int) []float64 { return repeat(y, horizon, seasonsPerCycle*season) }},
	{"profile", 1, cycleProfile},
	{"smoothed season", 1, func(y []float64, horizon, season int) []float64 { return smoothed(y, horizon, season, 1) }},
	{"smoothed cycle", 1, func(y []float64, horizon, season int) []float64 { return smoothed(y, horizon, season, seasonsPerCycle) }},
	{"regression", 3, lagRegression},
	{"regression of logarithms", 3, inLogs(lagRegression)},
}

// seasonsPerCycle is how many seasons make a cycle of their own: days a week.
const seasonsPerCycle = 7

func lastValue(y []float64, horizon, _ int) []float64 {
	f := make([]float64, horizon)
	for h := range f {
		f[h] = y[len(y)-1]
	}
	return f
}

// repeat copies the last period.
func repeat(y []float64, horizon, period int) []float64 {
	if period < 2 || len(y) < period {
		return nil
	}
	f := make([]float64, horizon)
	for h := range f {
		f[h] = y[len(y)-period+h%period]
	}
	return f
}

// straightOn is the line through a series, from where its last quarter is.
func straightOn(y []float64, horizon, _ int) []float64 {
	if len(y) < 8 {
		return nil
	}
	width := (len(y) + linePointsMax - 1) / linePointsMax
	slope := senSlope(blocks(y, width, mean)) / float64(width)
	last := y[len(y)-len(y)/4:]
	left := make([]float64, len(last))
	for i, v := range last {
		left[i] = v + slope*float64(len(last)-1-i)
	}
	level := median(left)
	f := make([]float64, horizon)
	for h := range f {
		f[h] = level + slope*float64(h+1)
	}
	return f
}

// linePointsMax is the most points of a line: 2,000 pairs of them.
const linePointsMax = 64

// dampedTrend is exponential smoothing of a level and a trend, which may fade (Gardner and McKenzie 1985), with the rates
// that would have been best one step ahead.
func dampedTrend(y []float64, horizon, _ int) []float64 {
	if len(y) < 5 {
		return nil
	}
	bestError := math.Inf(1)
	var level, slope, damp float64
	for _, a := range [...]float64{0.1, 0.3, 0.6, 0.9} {
		for _, b := range [...]float64{0.02, 0.1, 0.3} {
			for _, p := range [...]float64{0.9, 0.98, 1} {
				l, s, sum := y[0], y[1]-y[0], 0.
				for _, v := range y[1:] {
					e := v - l - p*s
					sum += math.Abs(e)
					l += p*s + a*e
					s = p*s + a*b*e
				}
				if sum < bestError {
					bestError, level, slope, damp = sum, l, s, p
				}
			}
		}
	}
	f := make([]float64, horizon)
	step := 1.
	for h := range f {
		step *= damp
		level += slope * step
		f[h] = level
	}
	return f
}

// cycleProfile is what each step of a cycle usually is, the recent cycles more so, above or below by what the last season was.
func cycleProfile(y []float64, horizon, season int) []float64 {
	cycle := seasonsPerCycle * season
	if season < 2 || len(y) < 2*cycle {
		return nil
	}
	profile := make([]float64, cycle)
	weights := make([]float64, cycle)
	n := len(y)
	level := mean(y[n-cycle:])
	for k := 1; k*cycle <= n; k++ {
		w := math.Pow(0.7, float64(k))
		part := y[n-k*cycle : n-(k-1)*cycle]
		own := mean(part)
		for i, v := range part {
			profile[i] += w * (v - own)
			weights[i] += w
		}
	}
	off := 0.
	for i := range profile {
		profile[i] = level + profile[i]/weights[i]
		if i >= cycle-season {
			off += (y[n-cycle+i] - profile[i]) / float64(season)
		}
	}
	f := make([]float64, horizon)
	for h := range f {
		f[h] = profile[h%cycle] + off
	}
	return f
}

// smoothed is exponential smoothing of a level, a season and (cycles > 1) a cycle of seasons, with an autoregression of the
// last error (Taylor 2003), with the rates that would have been best one step ahead.
func smoothed(y []float64, horizon, season, cycles int) []float64 {
	cycle := season * cycles
	if season < 2 || len(y) < 2*cycle {
		return nil
	}
	s := smoother{season: season, cycle: cycle}
	best := smootherRates{}
	least := math.Inf(1)
	try := func(r smootherRates) {
		if e := s.run(y, r); e < least {
			least, best = e, r
		}
	}
	for _, a := range [...]float64{0.01, 0.05, 0.2} {
		for _, g := range [...]float64{0.05, 0.2, 0.4} {
			for _, p := range [...]float64{0.3, 0.7, 0.95} {
				if cycles == 1 {
					try(smootherRates{a, g, 0, p})
					continue
				}
				for _, d := range [...]float64{0.05, 0.2, 0.4} {
					try(smootherRates{a, g, d, p})
				}
			}
		}
	}
	s.run(y, best)
	return s.forecast(horizon, best)
}

type smootherRates struct{ level, season, cycle, echo float64 }

type smoother struct {
	season, cycle  int
	level, last    float64
	seasons, weeks []float64
	at             int
}

// run smooths the series, and returns the mean absolute error of one step ahead.
func (s *smoother) run(y []float64, r smootherRates) float64 {
	first := y[:s.cycle]
	s.level, s.last, s.at = mean(first), 0, 0
	s.seasons = make([]float64, s.season)
	s.weeks = make([]float64, s.cycle)
	for i, v := range first {
		s.seasons[i%s.season] += (v - s.level) / float64(s.cycle/s.season)
	}
	if s.cycle > s.season {
		for i, v := range first {
			s.weeks[i] = (v - s.level - s.seasons[i%s.season]) / 2
		}
	}
	sum := 0.
	for i, v := range y {
		d, w := &s.seasons[i%s.season], &s.weeks[i%s.cycle]
		base := s.level + *d
		if s.cycle > s.season {
			base += *w
		}
		left := v - base
		e := left - r.echo*s.last
		if i >= s.cycle {
			sum += math.Abs(e)
		}
		s.level += r.level * e
		*d += r.season * e
		if s.cycle > s.season {
			*w += r.cycle * e
		}
		s.last = left
	}
	s.at = len(y)
	return sum / float64(len(y))
}

func (s *smoother) forecast(horizon int, r smootherRates) []float64 {
	f := make([]float64, horizon)
	echo := s.last
	for h := range f {
		echo *= r.echo
		i := s.at + h
		f[h] = s.level + s.seasons[i%s.season] + echo
		if s.cycle > s.season {
			f[h] += s.weeks[i%s.cycle]
		}
	}
	return f
}

// lagRegression regresses each value on those before it, also one season and one cycle before, and goes on from there.
func lagRegression(y []float64, horizon, season int) []float64 {
	lags := lagsFor(len(y), season)
	if lags == nil {
		return nil
	}
	longest := lags[len(lags)-1]
	k := len(lags)
	center := mean(y)
	scale := math.Sqrt(variance(y))
	if scale == 0 {
		return nil
	}
	z := make([]float64, len(y), len(y)+horizon)
	for i, v := range y {
		z[i] = (v - center) / scale
	}
	xx := make([][]float64, k+1)
	for a := range xx {
		xx[a] = make([]float64, k+2)
	}
	row := make([]float64, k+2)
	row[k] = 1
	rows := float64(len(z) - longest)
	for t := longest; t < len(z); t++ {
		for a, lag := range lags {
			row[a] = z[t-lag]
		}
		row[k+1] = z[t]
		w := math.Exp2(-float64(len(z)-t) / rows * lagRecency)
		for a := range k + 1 {
			v := w * row[a]
			for b := a; b < k+2; b++ {
				xx[a][b] += v * row[b]
			}
		}
	}
	for a := range k {
		xx[a][a] += lagRidge * rows
	}
	xx[k][k] += lagRidge * rows
	beta := solveSymmetric(xx)
	if beta == nil {
		return nil
	}
	low, high := slices.Min(z), slices.Max(z)
	room := high - low // further away a regression has left what it knows
	for range horizon {
		v := beta[k]
		for a, lag := range lags {
			v += beta[a] * z[len(z)-lag]
		}
		z = append(z, min(max(v, low-room), high+room))
	}
	f := z[len(y):]
	for h, v := range f {
		f[h] = center + scale*v
	}
	return f
}

const (
	// lagRidge draws the coefficients to zero by a hundred-thousandth of the rows: as much as keeps lags that repeat each other
	// from large coefficients of opposite signs. With 5e-4 forecasts are 4 % worse.
	lagRidge = 1e-5
	// lagRecency is how many times the weight of a row halves over the series.
	lagRecency = 1
)

func lagsFor(n, season int) []int {
	cycle := season * seasonsPerCycle
	switch {
	case season >= 4 && n >= 2*cycle+cycle/2:
		return []int{1, 2, season - 1, season, season + 1, 2*season - 1, 2 * season, 2*season + 1,
			3 * season, 4 * season, 5 * season, 6 * season, cycle - 1, cycle, cycle + 1}
	case season >= 4 && n >= 4*season:
		return []int{1, 2, 3, season - 1, season, season + 1, 2 * season}
	case n >= 30:
		return []int{1, 2, 3, 4, 5}
	}
	return nil
}

// solveSymmetric solves the upper half of a symmetric system with its right side in the last column; nil: it is singular.
func solveSymmetric(m [][]float64) []float64 {
	k := len(m)
	for a := range k {
		for b := range a {
			m[a][b] = m[b][a]
		}
	}
	for a := range k {
		if !(m[a][a] > 1e-12) {
			return nil
		}
		for b := a + 1; b < k; b++ {
			f := m[b][a] / m[a][a]
			for c := a; c <= k; c++ {
				m[b][c] -= f * m[a][c]
			}
		}
	}
	x := make([]float64, k)
	for a := k - 1; a >= 0; a-- {
		v := m[a][k]
		for b := a + 1; b < k; b++ {
			v -= m[a][b] * x[b]
		}
		x[a] = v / m[a][a]
	}
	return x
}

// inLogs has a model forecast the logarithm of a series that is positive: what grows in ratios, as traffic does.
func inLogs(forecast func([]float64, int, int) []float64) func([]float64, int, int) []float64 {
	return func(y []float64, horizon, season int) []float64 {
		z := make([]float64, len(y))
		for i, v := range y {
			if v <= 0 {
				return nil
			}
			z[i] = math.Log(v)
		}
		f := forecast(z, horizon, season)
		for i := range f {
			f[i] = math.Exp(f[i])
		}
		return f
	}
}
