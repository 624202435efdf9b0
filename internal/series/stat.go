package series

import (
	"math"
	"slices"
)

// normalQuantile returns the value below which a standard normal variable is with probability p, by the rational
// approximation of Acklam (relative error 1.15e-9), refined by one step of Halley's method.
func normalQuantile(p float64) float64 {
	switch {
	case p <= 0:
		return math.Inf(-1)
	case p >= 1:
		return math.Inf(1)
	case p > 0.5:
		return -normalQuantile(1 - p)
	}
	var x float64
	if p < 0.02425 {
		q := math.Sqrt(-2 * math.Log(p))
		x = (((((-7.784894002430293e-03*q-3.223964580411365e-01)*q-2.400758277161838)*q-2.549732539343734)*q+4.374664141464968)*q + 2.938163982698783) /
			((((7.784695709041462e-03*q+3.224671290700398e-01)*q+2.445134137142996)*q+3.754408661907416)*q + 1)
	} else {
		q := p - 0.5
		r := q * q
		x = (((((-3.969683028665376e+01*r+2.209460984245205e+02)*r-2.759285104469687e+02)*r+1.383577518672690e+02)*r-3.066479806614716e+01)*r + 2.506628277459239) * q /
			(((((-5.447609879822406e+01*r+1.615858368580409e+02)*r-1.556989798598866e+02)*r+6.680131188771972e+01)*r-1.328068155288572e+01)*r + 1)
	}
	e := math.Erfc(-x/math.Sqrt2)/2 - p
	u := e * math.Sqrt(2*math.Pi) * math.Exp(x*x/2)
	return x - u/(1+x*u/2)
}

// studentTwoSided returns the probability that Student's t with df degrees of freedom (a fraction is allowed) is at least as
// far from zero as t; 1 without any degree of freedom.
func studentTwoSided(t, df float64) float64 {
	if !(df > 0) || math.IsNaN(t) {
		return 1
	}
	if math.IsInf(t, 0) {
		return 0
	}
	return regularBeta(df/2, 0.5, df/(df+t*t))
}

// betaStepsMax bounds the continued fraction of the incomplete beta function, which needs about the root of its larger
// parameter: some 60 steps for a series of 4,000 values.
const betaStepsMax = 400

// regularBeta returns the regularised incomplete beta function I_x(a, b) by its continued fraction (Abramowitz and Stegun
// 26.5.8) with Lentz's method.
func regularBeta(a, b, x float64) float64 {
	switch {
	case x <= 0:
		return 0
	case x >= 1:
		return 1
	case x > (a+1)/(a+b+2):
		return 1 - regularBeta(b, a, 1-x)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab - la - lb + a*math.Log(x) + b*math.Log1p(-x))
	const tiny = 1e-300
	atLeast := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1., 1/atLeast(1-(a+b)*x/(a+1))
	h := d
	for m := 1.; m < betaStepsMax; m++ {
		for _, num := range [2]float64{m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m)), -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))} {
			d = 1 / atLeast(1+num*d)
			c = atLeast(1 + num/c)
			h *= c * d
		}
		if math.Abs(c*d-1) < 1e-14 {
			break
		}
	}
	return front * h / a
}

// normalScores returns for each value the quantile of the normal distribution at its rank (Blom's), NaN for a missing one.
// Equal values get the same score. A test on the scores depends neither on the unit nor on the shape of the distribution,
// and no outlier is further away than about sqrt(2 ln n).
func normalScores(y []float64) []float64 {
	order := make([]int, 0, len(y))
	scores := make([]float64, len(y))
	for i, v := range y {
		if math.IsNaN(v) {
			scores[i] = math.NaN()
			continue
		}
		order = append(order, i)
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case y[a] < y[b]:
			return -1
		case y[a] > y[b]:
			return 1
		}
		return a - b
	})
	n := float64(len(order))
	for from := 0; from < len(order); {
		to := from + 1
		for to < len(order) && y[order[to]] == y[order[from]] {
			to++
		}
		rank := float64(from+to+1) / 2 // the mean of the ranks from+1 to to
		score := normalQuantile((rank - 0.375) / (n + 0.25))
		for ; from < to; from++ {
			scores[order[from]] = score
		}
	}
	return scores
}

// median reorders values and returns the middle one; NaN for none.
func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile sorts values and returns the one at q, between two by interpolation; NaN for none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	at := q * float64(len(values)-1)
	low := int(at)
	if low+1 >= len(values) {
		return values[len(values)-1]
	}
	return values[low] + (at-float64(low))*(values[low+1]-values[low])
}

// present returns the values that are there, in a new slice.
func present(y []float64) []float64 {
	there := make([]float64, 0, len(y))
	for _, v := range y {
		if !math.IsNaN(v) {
			there = append(there, v)
		}
	}
	return there
}

// MagnitudeMax is the largest value that is taken for one, others are missing: its square, summed, is still a number.
const MagnitudeMax = 1e100

// finite returns a copy in which what is no number, infinite or absurd is missing.
func finite(y []float64) []float64 {
	clean := make([]float64, len(y))
	for i, v := range y {
		if clean[i] = v; math.Abs(v) > MagnitudeMax {
			clean[i] = math.NaN()
		}
	}
	return clean
}

// mean returns the mean of values without a missing one; NaN for none.
func mean(values []float64) float64 {
	sum := 0.
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// variance returns the variance of the values that are there; 0 for fewer than two.
func variance(y []float64) float64 {
	n, at, sum := 0., 0., 0. // Welford
	for _, v := range y {
		if math.IsNaN(v) {
			continue
		}
		n++
		step := v - at
		at += step / n
		sum += step * (v - at)
	}
	if n < 2 {
		return 0
	}
	return sum / n
}

// blocks joins each width neighbours into one value, by what is there of them; an incomplete block at the end is left out.
func blocks(y []float64, width int, join func([]float64) float64) []float64 {
	if width <= 1 {
		return y
	}
	joined := make([]float64, 0, len(y)/width)
	var block []float64
	for ; len(y) >= width; y = y[width:] {
		block = block[:0]
		for _, v := range y[:width] {
			if !math.IsNaN(v) {
				block = append(block, v)
			}
		}
		v := math.NaN()
		if len(block) > 0 {
			v = join(block)
		}
		joined = append(joined, v)
	}
	return joined
}
