package series

import (
	"cmp"
	"math"
	"slices"
)

// correlationPointsMax is the most rows that are compared, half a week of minutes; neighbours of longer series are joined, and a
// lag is then a multiple of what was joined.
const correlationPointsMax = 5040

// CorrelationOptions says what two series are compared with.
type CorrelationOptions struct {
	// Load is held constant: what both series owe to it is no relation between them. nil, or of fewer values: nothing is.
	Load []float64
	// LagMax is how many steps one series may be behind the other, in either direction. 0: they move together or not at all.
	LagMax int
}

// Relationship is how one series moves when the other rises.
type Relationship string

const (
	Unrelated Relationship = "none"
	Positive  Relationship = "positive"
	Negative  Relationship = "negative"
)

// Correlation is the finding of a relation between two series.
type Correlation struct {
	Relationship Relationship `json:"relationship"`
	Strength     Strength     `json:"strength"`
	Coefficient  float64      `json:"coefficient"` // of the normal scores, -1 to 1, at the lag; without what both owe to the load
	Lag          int          `json:"lag"`         // steps by which the second series is behind the first; negative: ahead of it
	P            float64      `json:"p_value"`     // probability of such a relation by chance, given autocorrelation and the lags tried
	Q            float64      `json:"q_value"`     // as P, corrected for all pairs that were compared; equal to P for one pair
	Values       int          `json:"values"`      // rows in which both series have a value, joined where there are too many
}

// Correlate looks for a relation between two series of equal length, NaN for a missing value. The coefficient is that of
// their normal scores (van der Waerden), to which neither an outlier nor a monotone change of the scale matters. The p-value is that of
// a regression of y on x with autocorrelated errors (see regression): two series that drift each on its own are not related.
//
// With lags, that without one has half of the probability of an error, and all the others share the other half (Holm's weighted
// procedure), so that looking for lags costs little where there is none.
func Correlate(x, y []float64, options CorrelationOptions) Correlation {
	n := min(len(x), len(y))
	width := max(1, (n+correlationPointsMax-1)/correlationPointsMax)
	var u, v []float64
	if len(options.Load) >= n {
		values := func(y []float64) []float64 { return blocks(clipped(finite(y[:n])), width, mean) }
		load := values(options.Load)
		u, v = without(values(x), load), without(values(y), load)
	} else {
		scores := func(y []float64) []float64 { return blocks(normalScores(finite(y[:n])), width, mean) }
		u, v = scores(x), scores(y)
	}
	test := relate(u, v)
	c := Correlation{Relationship: Unrelated, Strength: Negligible, P: test.p, Values: test.n}
	if lags := min(options.LagMax/width, len(u)/4); lags > 0 {
		c.P = min(1, 2*test.p)
		lag := bestLag(u, v, lags, test)
		shifted := relate(shift(u, lag), v)
		if p := min(1, 4*float64(lags)*shifted.p); lag != 0 && p < c.P {
			c.P, c.Lag, c.Values = p, lag, shifted.n
		}
	}
	c.Q = c.P
	c.Coefficient = pearson(shift(u, c.Lag), v)
	c.Lag *= width
	c.name()
	return c
}

// name puts the relation into words.
func (c *Correlation) name() {
	c.Relationship, c.Strength = Unrelated, Negligible
	if c.Q >= significance {
		return
	}
	c.Strength = strengthOf(c.Coefficient * c.Coefficient)
	if c.Relationship = Positive; c.Coefficient < 0 {
		c.Relationship = Negative
	}
}

// relate tests whether v depends on u.
func relate(u, v []float64) regression {
	one := make([]float64, len(v))
	for i := range one {
		one[i] = 1
	}
	return regress(v, one, u)
}

const (
	// loadShare is the part of all rows, those of the most similar load, that tell what a row owes to its load; and loadRowsLeast
	// the fewest.
	loadShare, loadRowsLeast = 0.2, 12
	// loadExplained is the part of the variance that is left where a series is nothing but the load.
	loadExplained = 1e-9
)

// without returns the scores of what a series does not owe to the load: of each value less the line through the rows of similar load.
// One line for all, through scores, would not do: these bend where the load's do, and have its gaps, those of two such series alike.
// Of 60 pairs that share nothing but a load in waves, with noise of a tenth of it, 50 were related. A row is without the load of its
// own time also where it is compared with a later one.
func without(y, load []float64) []float64 {
	var order []int
	for i, l := range load {
		if !math.IsNaN(l) && !math.IsNaN(y[i]) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(load[a], load[b]) })
	left := make([]float64, len(y))
	for i := range left {
		left[i] = math.NaN()
	}
	side := max(int(loadShare*float64(len(order))), loadRowsLeast) / 2
	for k, i := range order {
		near := order[max(0, k-side):min(len(order), k+side+1)]
		left[i] = y[i] - lineAt(load[i], load, y, near)
	}
	if variance(left) <= loadExplained*variance(y) {
		return make([]float64, len(y)) // it is the load
	}
	return normalScores(left)
}

// clipMADs is how many median deviations from the median a value counts with at most where lines are fitted, which one outlier bends.
const clipMADs = 10

// clipped draws outliers in.
func clipped(y []float64) []float64 {
	middle := median(present(y))
	deviations := present(y)
	for i, v := range deviations {
		deviations[i] = math.Abs(v - middle)
	}
	reach := clipMADs * median(deviations)
	for i, v := range y {
		if reach > 0 {
			y[i] = min(max(v, middle-reach), middle+reach)
		}
	}
	return y
}

// lineAt returns the value at x of the line through some points, by ordinary least squares.
func lineAt(at float64, x, y []float64, points []int) float64 {
	var n, mx, my, sxx, sxy float64
	for _, i := range points {
		n++
		dx := x[i] - mx
		mx += dx / n
		my += (y[i] - my) / n
		sxx += dx * (x[i] - mx)
		sxy += dx * (y[i] - my)
	}
	if !(sxx > 0) {
		return my
	}
	return my + sxy/sxx*(at-mx)
}

// shift returns the series later by lag steps.
func shift(y []float64, lag int) []float64 {
	if lag == 0 {
		return y
	}
	moved := make([]float64, len(y))
	for i := range moved {
		moved[i] = math.NaN()
		if from := i - lag; from >= 0 && from < len(y) {
			moved[i] = y[from]
		}
	}
	return moved
}

// bestLag returns the lag other than 0 at which what is new in u goes best with what is new in v.
func bestLag(u, v []float64, lagMax int, errors regression) int {
	u, v = innovations(u, errors.phi, errors.noise), innovations(v, errors.phi, errors.noise)
	best, most := 0, 0.
	for lag := -lagMax; lag <= lagMax; lag++ {
		if lag == 0 {
			continue
		}
		sum, count := 0., 0.
		for i := max(0, lag); i < min(len(v), len(u)+lag); i++ {
			if p := u[i-lag] * v[i]; !math.IsNaN(p) {
				sum += p
				count++
			}
		}
		if z := math.Abs(sum) / math.Sqrt(max(count, 1)); z > most {
			best, most = lag, z
		}
	}
	return best
}

// innovations returns what is new in each value, given those before it and the drift's parameters.
func innovations(y []float64, phi, noise float64) []float64 {
	fresh := make([]float64, len(y))
	expected, variance := 0., 1-noise
	for i, v := range y {
		gain := 0.
		if fresh[i] = v - expected; !math.IsNaN(v) {
			gain = variance / (variance + noise)
			expected += gain * fresh[i]
		}
		expected *= phi
		variance = phi*phi*variance*(1-gain) + (1-phi*phi)*(1-noise)
	}
	return fresh
}

// pearson returns the coefficient of correlation of the rows in which both have a value; 0 where one is constant.
func pearson(x, y []float64) float64 {
	var n, mx, my, sxx, syy, sxy float64
	for i, a := range x {
		b := y[i]
		if math.IsNaN(a) || math.IsNaN(b) {
			continue
		}
		n++
		dx, dy := a-mx, b-my
		mx += dx / n
		my += dy / n
		sxx += dx * (a - mx)
		syy += dy * (b - my)
		sxy += dx * (b - my)
	}
	if !(sxx > 0 && syy > 0) {
		return 0
	}
	return max(-1, min(1, sxy/math.Sqrt(sxx*syy)))
}

// CorrectForAll sets the q-values of findings that were looked for together, by Benjamini and Hochberg (1995), and names
// them anew: of those that are called related, one in twenty is expected to be so by chance.
func CorrectForAll(all []*Correlation) {
	order := slices.Clone(all)
	slices.SortStableFunc(order, func(a, b *Correlation) int {
		switch {
		case a.P > b.P:
			return -1
		case a.P < b.P:
			return 1
		}
		return 0
	})
	q := 1.
	for i, c := range order {
		q = min(q, c.P*float64(len(order))/float64(len(order)-i))
		c.Q = q
		c.name()
	}
}
