package series

import (
	"math"
	"slices"
)

const (
	// forecastValuesMax is how much of a series' end a forecast looks at: three weeks of minutes.
	forecastValuesMax = 30_240
	// HorizonMax bounds a forecast.
	HorizonMax = 20_000
	// originsMax is from how many points of the past the models are tried out, for their weights, and for the interval.
	originsForWeights, originsMax = 4, 10
	// weightPower makes weights of errors: a model with twice the error has an eighth of the weight.
	weightPower = 3
	// intervalSpreads is how many root mean squares of past errors an interval reaches to each side. It is more than the 1.96
	// of a normal distribution because the mixture has seen those errors, and errors have heavier tails.
	intervalSpreads = 2.2
)

// ForecastOptions says what is to be forecast.
type ForecastOptions struct {
	Horizon int // steps
	// Season is the length of a season in steps, such as a day; what repeats itself after seven of them, such as a week, is
	// seen too. 0: there is none.
	Season int
}

// ForecastValue is what is expected at one step.
type ForecastValue struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"` // the value is between low and high with a probability of 95 %
	High float64 `json:"high"`
}

// ForecastModel is a part of a mixture.
type ForecastModel struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight"`
}

// Forecast is the finding of what a series will do.
type Forecast struct {
	Values []ForecastValue `json:"values"` // the first is one step after the series' end
	Models []ForecastModel `json:"models"` // what it was mixed from, by weight; empty where the series is too short to try any
}

// MakeForecast forecasts values at equal steps, NaN for a missing one. It tries several models out on the series' own past, from
// several points in time, mixes them by how well they did (Bates and Granger 1969), and takes the interval from the
// mixture's errors at each distance, so it is as wide as it would have had to be. A series without any value has no forecast.
func MakeForecast(y []float64, options ForecastOptions) Forecast {
	horizon := min(max(options.Horizon, 0), HorizonMax)
	y = finite(y[max(0, len(y)-forecastValuesMax):])
	season := options.Season
	if season < 2 || season > len(y)/2 { // a season that was seen once has not repeated itself
		season = 0
	}
	values := fillGaps(y, season)
	if len(values) == 0 || horizon == 0 {
		return Forecast{}
	}
	t := newTrial(values, horizon, season)
	f := Forecast{Models: t.models()}
	mixed := t.mix(values, horizon)
	low, high := slices.Min(values), slices.Max(values)
	spreads := t.spreads(values, horizon)
	for h, v := range mixed {
		half := intervalSpreads * spreads[h]
		value := ForecastValue{Mean: v, Low: v - half, High: v + half}
		if low >= 0 { // what was never negative cannot be
			value.Mean, value.Low, value.High = max(v, 0), max(value.Low, 0), max(value.High, 0)
		}
		if low == high && len(values) > 1 {
			value = ForecastValue{low, low, low}
		}
		f.Values = append(f.Values, value)
	}
	return f
}

// fillGaps replaces missing values by those a season before, or the last one, and leaves out the missing ones at the start.
func fillGaps(y []float64, season int) []float64 {
	for len(y) > 0 && math.IsNaN(y[0]) {
		y = y[1:]
	}
	for i, v := range y {
		if !math.IsNaN(v) {
			continue
		}
		if y[i] = y[i-1]; season > 0 && i > season {
			y[i] = y[i-season]
		}
	}
	return y
}

// trial is how the models did in the past of a series.
type trial struct {
	season  int
	depth   int         // steps ahead that were tried
	weights []float64   // of the models
	errors  [][]float64 // of the mixture, per origin and step
}

func newTrial(y []float64, horizon, season int) *trial {
	t := &trial{season: season, depth: min(horizon, len(y)/3), weights: make([]float64, len(models))}
	stride := season
	if season == 0 {
		stride = max(1, t.depth/2)
	}
	var origins []int
	for origin := len(y) - t.depth; origin >= len(y)/2 && len(origins) < originsMax && t.depth > 0; origin -= stride {
		origins = append(origins, origin)
	}
	forecasts := make([][][]float64, len(models))
	mistakes := make([]float64, len(models))
	least := math.Inf(1)
	for m := range models {
		for k, origin := range origins {
			f := models[m].forecast(y[:origin], t.depth, season)
			forecasts[m] = append(forecasts[m], f)
			if k < originsForWeights {
				mistakes[m] += absoluteError(f, y[origin:])
			}
		}
		if len(origins) > 0 && !math.IsNaN(mistakes[m]) {
			least = min(least, mistakes[m])
		}
	}
	tiny := 1e-9 * (math.Abs(mean(y)) + 1e-9) // no error at all is not infinitely better
	for m := range models {
		if len(origins) > 0 && mistakes[m] < math.Inf(1) {
			t.weights[m] = models[m].prior * math.Pow((least+tiny)/(mistakes[m]+tiny), weightPower)
		}
	}
	if len(origins) == 0 || math.IsInf(least, 1) {
		t.weights[0] = 1 // the last value
	}
	for k, origin := range origins {
		at := make([][]float64, len(models))
		for m := range models {
			at[m] = forecasts[m][k]
		}
		off := weigh(at, t.weights, t.depth)
		for h := range off {
			off[h] -= y[origin+h]
		}
		t.errors = append(t.errors, off)
	}
	return t
}

// absoluteError is the sum of errors; infinite for no forecast, or one that is no number.
func absoluteError(f, truth []float64) float64 {
	if f == nil {
		return math.Inf(1)
	}
	sum := 0.
	for i, v := range f {
		sum += math.Abs(v - truth[i])
	}
	if math.IsNaN(sum) {
		return math.Inf(1)
	}
	return sum
}

// weigh mixes forecasts; those that are nil have no weight.
func weigh(forecasts [][]float64, weights []float64, horizon int) []float64 {
	mixed := make([]float64, horizon)
	total := 0.
	for m, f := range forecasts {
		if f == nil || weights[m] == 0 {
			continue
		}
		total += weights[m]
		for h := range mixed {
			mixed[h] += weights[m] * f[h]
		}
	}
	for h := range mixed {
		mixed[h] /= total
	}
	return mixed
}

// mix forecasts with the weights.
func (t *trial) mix(y []float64, horizon int) []float64 {
	forecasts := make([][]float64, len(models))
	for m := range models {
		if t.weights[m] > 0 {
			forecasts[m] = models[m].forecast(y, horizon, t.season)
		}
	}
	if mixed := weigh(forecasts, t.weights, horizon); !math.IsNaN(mixed[horizon-1]) {
		return mixed
	}
	return lastValue(y, horizon, t.season) // those that did well forecast nothing from here
}

// models returns the weights by name, those of less than a hundredth left out.
func (t *trial) models() []ForecastModel {
	total := 0.
	for _, w := range t.weights {
		total += w
	}
	var named []ForecastModel
	for m, w := range t.weights {
		if len(t.errors) > 0 && w >= 0.01*total {
			named = append(named, ForecastModel{models[m].name, w / total})
		}
	}
	slices.SortStableFunc(named, func(a, b ForecastModel) int {
		if a.Weight > b.Weight {
			return -1
		}
		return 1
	})
	return named
}

// spreads returns the root mean square of the errors at each step ahead; beyond what could be tried out it grows on as it
// did before, but at least as that of a random walk does.
func (t *trial) spreads(y []float64, horizon int) []float64 {
	spreads := make([]float64, horizon)
	const around = 3 // steps whose errors are taken together
	known := 0
	if len(t.errors) > 0 {
		known = min(horizon, t.depth)
	}
	for h := range known {
		sum, count := 0., 0.
		for _, errors := range t.errors {
			for i := max(0, h-around); i < min(t.depth, h+around+1); i++ {
				sum += errors[i] * errors[i]
				count++
			}
		}
		spreads[h] = math.Sqrt(sum / count)
	}
	from, last, power := 1., stepSpread(y), 0.5
	if known > 0 {
		from, last = float64(known), spreads[known-1]
		if before := spreads[(known-1)/2]; known > 2 && before > 0 && last > before {
			power = min(max(math.Log2(last/before), 0.5), 1)
		}
	}
	for h := known; h < horizon; h++ {
		spreads[h] = last * math.Pow(float64(h+1)/from, power)
	}
	return spreads
}

// stepSpread is the root mean square of the change from one value to the next; of a single value, all that it is.
func stepSpread(y []float64) float64 {
	if len(y) < 2 {
		return math.Abs(y[0])
	}
	sum := 0.
	for i, v := range y[1:] {
		sum += (v - y[i]) * (v - y[i])
	}
	return math.Sqrt(sum / float64(len(y)-1))
}

// Crossing is the finding of when a series reaches a limit, in steps after its end; 0 for not within the forecast.
type Crossing struct {
	Likely   int `json:"likely"`   // when the expected value does
	Earliest int `json:"earliest"` // when it may: before that the probability is below 2.5 %
	Latest   int `json:"latest"`   // by when it has, with a probability of 97.5 %
}

// Until tells when the series reaches the limit, rising to it or, with falling, down to it.
func (f Forecast) Until(limit float64, falling bool) Crossing {
	var c Crossing
	sign := 1.
	if falling {
		sign = -1
	}
	for h, v := range f.Values {
		near, far := v.High, v.Low
		if falling {
			near, far = far, near
		}
		for _, at := range [...]struct {
			value float64
			step  *int
		}{{v.Mean, &c.Likely}, {near, &c.Earliest}, {far, &c.Latest}} {
			if *at.step == 0 && sign*at.value >= sign*limit {
				*at.step = h + 1
			}
		}
	}
	return c
}
