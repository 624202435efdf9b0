package series

import (
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
	scores := func(y []float64) []float64 { return blocks(normalScores(finite(y[:n])), width, mean) }
	u, v := scores(x), scores(y)
	var load []float64
	if len(options.Load) >= n {
		load = scores(options.Load)
	}
	test := relate(u, v, load)
	c := Correlation{Relationship: Unrelated, Strength: Negligible, P: test.p, Values: test.n}
	if lags := min(options.LagMax/width, len(u)/4); lags > 0 {
		c.P = min(1, 2*test.p)
		lag := bestLag(u, v, lags, test)
		shifted := relate(shift(u, lag), v, load)
		if p := min(1, 4*float64(lags)*shifted.p); lag != 0 && p < c.P {
			c.P, c.Lag, c.Values = p, lag, shifted.n
		}
	}
	c.Q = c.P
	c.Coefficient = partial(shift(u, c.Lag), v, load)
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

// relate tests whether v depends on u, with the load held constant.
func relate(u, v, load []float64) regression {
	one := make([]float64, len(v))
	for i := range one {
		one[i] = 1
	}
	if load == nil {
		return regress(v, one, u)
	}
	return regress(v, one, load, u)
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

// partial returns the coefficient of correlation of u and v, without what both owe to the load.
func partial(u, v, load []float64) float64 {
	r := pearson(u, v)
	if load == nil {
		return r
	}
	ul, vl := pearson(u, load), pearson(v, load)
	left := (1 - ul*ul) * (1 - vl*vl)
	if left < 1e-9 { // they are the load
		return 0
	}
	return max(-1, min(1, (r-ul*vl)/math.Sqrt(left)))
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
