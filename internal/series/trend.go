package series

import "math"

// Direction is where a series goes.
type Direction string

const (
	Steady  Direction = "steady" // no trend that chance does not explain
	Rising  Direction = "rising"
	Falling Direction = "falling"
)

// Strength says how much of a series' movement a relation explains.
type Strength string

// The limits of the words are those of R² 0.1, 0.3 and 0.6: the share of the variance that is explained.
const (
	Negligible Strength = "negligible"
	Weak       Strength = "weak"
	Moderate   Strength = "moderate"
	Strong     Strength = "strong"
)

func strengthOf(r2 float64) Strength {
	switch {
	case r2 >= 0.6:
		return Strong
	case r2 >= 0.3:
		return Moderate
	case r2 >= 0.1:
		return Weak
	}
	return Negligible
}

// significance is the probability of an error of the first kind that the engines' words accept.
const significance = 0.05

const (
	// trendPointsMax is the most points that a slope is computed from; neighbours of a longer series are joined. A slope lives on
	// the longest waves of a series and loses nothing by it, while the pairs of points stay below 33,000.
	trendPointsMax = 256
	// trendTestMax is the same for the p-value: a day of minutes. Joined values drift otherwise than a drift does, and have
	// half as many trends by chance as they should.
	trendTestMax = 1500
)

// Trend is the finding of a trend over a whole series.
type Trend struct {
	Direction       Direction `json:"direction"`
	Strength        Strength  `json:"strength"`
	Slope           float64   `json:"slope"`           // change of the value per step: the median over all pairs of points
	SlopeLow        float64   `json:"slope_low"`       // 95 % interval of the slope
	SlopeHigh       float64   `json:"slope_high"`      //
	Level           float64   `json:"level"`           // value of the line at the first step
	R2              float64   `json:"r_squared"`       // share of the variance that the line explains
	P               float64   `json:"p_value"`         // probability of such a trend by chance, given the autocorrelation
	Autocorrelation float64   `json:"autocorrelation"` // from one step to the next, without the trend
	Values          int       `json:"values"`          // without the missing ones
}

// FindTrend looks for a trend in values at equal steps, NaN for a missing one. Slope and line are Theil's and Sen's (1968),
// which a quarter of outliers does not move. The p-value comes from a regression of the values' normal scores on time (see
// regression), so it needs no assumption on their distribution and holds for autocorrelated series. With fewer than six
// values there is no trend: p is 1.
func FindTrend(y []float64) Trend {
	values := finite(y)
	t := Trend{Direction: Steady, Strength: Negligible, P: 1, Values: len(present(values))}
	if t.Values == 0 {
		return t
	}
	width := (len(values) + trendPointsMax - 1) / trendPointsMax
	points := blocks(values, width, func(block []float64) float64 { return median(block) })
	center := float64(width-1) / 2 // of the first block, in steps
	t.Slope = senSlope(points) / float64(width)
	t.Level = lineLevel(points, t.Slope, center, float64(width))
	if t.Values < 6 {
		return t
	}
	t.interval(points, float64(width), center)
	width = (len(values) + trendTestMax - 1) / trendTestMax
	scores := blocks(normalScores(values), width, mean)
	one, time := line(len(scores))
	test := regress(scores, one, time)
	t.P = test.p
	if t.P < significance {
		t.name(points, test.beta, center)
	}
	if t.R2 = explained(values, t.Slope); t.Direction != Steady {
		t.Strength = strengthOf(t.R2)
	}
	return t
}

// name puts a trend into words that is there by the sign of the test. Where most values are equal, as error rates are, the median of
// the slopes is 0 and says nothing; the mean of them stands in.
func (t *Trend) name(points []float64, sign, center float64) {
	if t.Slope == 0 {
		width := 2*center + 1
		t.Slope = meanSlope(points) / width
		half := (t.SlopeHigh - t.SlopeLow) / 2
		t.SlopeLow, t.SlopeHigh = t.Slope-half, t.Slope+half
		t.Level = mean(present(points)) - t.Slope*(center+width*float64(len(points)-1)/2)
	}
	switch {
	case sign > 0 && t.Slope > 0:
		t.Direction = Rising
	case sign < 0 && t.Slope < 0:
		t.Direction = Falling
	default:
		// It went up most of the time, and far down in the rest: no line says that.
	}
}

// meanSlope is the slope of ordinary least squares.
func meanSlope(points []float64) float64 {
	_, time := line(len(points))
	for i, v := range points {
		if math.IsNaN(v) {
			time[i] = v
		}
	}
	spread := variance(time)
	if spread == 0 {
		return 0
	}
	return pearson(time, points) * math.Sqrt(variance(points)/spread)
}

// outlierMADs is how many median deviations from the line a value counts with at most in the slope's interval: 3 standard
// deviations of a normal distribution.
const outlierMADs = 4.45

// interval sets the slope's interval and the autocorrelation from the regression of the values, in which outliers are drawn towards the line.
func (t *Trend) interval(points []float64, width, center float64) {
	one, time := line(len(points))
	left := make([]float64, len(points))
	for i, v := range points {
		left[i] = v - t.Level - t.Slope*(center+width*float64(i))
	}
	deviations := present(left)
	for i, v := range deviations {
		deviations[i] = math.Abs(v)
	}
	reach := outlierMADs * median(deviations)
	for i, v := range left {
		if reach > 0 {
			left[i] = min(max(v, -reach), reach)
		}
	}
	const normal95 = 1.96
	errors := regress(left, one, time)
	half := normal95 * errors.se / width
	t.Autocorrelation = math.Pow(max(errors.phi, 0), 1/width) * (1 - errors.noise)
	t.SlopeLow, t.SlopeHigh = t.Slope-half, t.Slope+half
}

// line returns the two regressors of a trend: ones, and the step.
func line(n int) (one, time []float64) {
	one, time = make([]float64, n), make([]float64, n)
	for i := range n {
		one[i], time[i] = 1, float64(i)-float64(n-1)/2
	}
	return one, time
}

// senSlope returns the median of the slopes between all pairs of points; 0 for fewer than two.
func senSlope(points []float64) float64 {
	slopes := make([]float64, 0, len(points)*(len(points)-1)/2)
	for i, a := range points {
		for j := i + 1; j < len(points); j++ {
			if slope := (points[j] - a) / float64(j-i); !math.IsNaN(slope) {
				slopes = append(slopes, slope)
			}
		}
	}
	if len(slopes) == 0 {
		return 0
	}
	return median(slopes)
}

// lineLevel returns the value at step 0 of the line with that slope that has as many points above as below.
func lineLevel(points []float64, slope, center, width float64) float64 {
	rest := make([]float64, 0, len(points))
	for i, v := range points {
		if !math.IsNaN(v) {
			rest = append(rest, v-slope*(center+width*float64(i)))
		}
	}
	return median(rest)
}

// explained returns the share of the values' variance that a line with that slope explains, between 0 and 1.
func explained(y []float64, slope float64) float64 {
	left := make([]float64, len(y))
	for i, v := range y {
		left[i] = v - slope*float64(i)
	}
	all := variance(y)
	if !(all > 0) {
		return 0
	}
	return min(1, max(0, 1-variance(left)/all))
}
