package series

import (
	"math"
	"slices"
)

const (
	// ChangesMax bounds the changes that are looked for: a report with more of them says nothing.
	ChangesMax = 12
	// changeValuesMax bounds the values that are compared with each other, which costs their square; more are averaged in blocks.
	changeValuesMax = 1000
	// changeLeast is the fewest values of a stretch without changes, and changeShare its least part of the series.
	changeLeast, changeShare = 4, 0.03
	// changePenalty is what a parameter must gain, in units of the logarithm of the values: 1 would be Schwarz's criterion, and more is
	// asked because the place of a change was searched for.
	changePenalty = 2
	// changeCoarse is with how many changes it is measured how much values depend on those before: with none steps would be taken for
	// dependence, with many dependence for steps.
	changeCoarse = 6
	// changeValuesLeast is the fewest independent values that a series is taken to have.
	changeValuesLeast = 8
	// changeFloor is the part of the variance below which nothing needs to be explained: 99 % is what a person means by "that is it".
	changeFloor = 1e-2
	// changeOutlier is how many deviations from its neighbours a single value may have before it is put back among them.
	changeOutlier = 4
)

// Change is a lasting change of a series' level or slope.
type Change struct {
	Index      int     `json:"index"`  // of the first value after it
	Before     float64 `json:"before"` // the level at the change, as what came before goes on
	After      float64 `json:"after"`
	Delta      float64 `json:"delta"`
	Slope      float64 `json:"slope_delta"` // change of the slope, per value; 0 where the stretches are level
	Confidence float64 `json:"confidence"`
}

// FindChanges returns the changes of a series, in order. NaN is a missing value. All ways to divide the series are compared
// (Bellman's dynamic programme, as in Jackson et al., An algorithm for optimal partitioning of data on an interval, 2005), once
// with level stretches and once with straight ones, and the number of changes is what lowers Schwarz's criterion most, with as many
// values as there are independent ones: what drifts is not made of steps.
func FindChanges(y []float64) []Change {
	x, index := presentValues(y)
	block := 1
	if len(x) > changeValuesMax {
		block = (len(x) + changeValuesMax - 1) / changeValuesMax
		x, index = averageBlocks(x, index, block)
	}
	if len(x) < 3*changeLeast {
		return nil
	}
	withoutOutliers(x)
	best := divide(x, 1)
	if straight := divide(x, 2); straight.criterion < best.criterion {
		best = straight
	}
	found := make([]Change, 0, len(best.cuts))
	for i := range best.cuts {
		c := best.change(x, i)
		c.Index = index[c.Index]
		found = append(found, c)
	}
	return found
}

// presentValues returns the values that are not missing, and where they were.
func presentValues(y []float64) (x []float64, index []int) {
	for i, v := range y {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			x, index = append(x, v), append(index, i)
		}
	}
	return x, index
}

func averageBlocks(x []float64, index []int, block int) ([]float64, []int) {
	var means []float64
	var starts []int
	for i := 0; i < len(x); i += block {
		part := x[i:min(i+block, len(x))]
		sum := 0.0
		for _, v := range part {
			sum += v
		}
		means, starts = append(means, sum/float64(len(part))), append(starts, index[i])
	}
	return means, starts
}

// withoutOutliers puts single values that are far from both sides back to the median of their neighbourhood.
func withoutOutliers(x []float64) {
	const side = 3
	medians := make([]float64, len(x))
	distances := make([]float64, len(x))
	var near [2*side + 1]float64
	for i := range x {
		from, to := max(0, i-side), min(len(x), i+side+1)
		part := near[:copy(near[:], x[from:to])]
		slices.Sort(part)
		medians[i] = part[len(part)/2]
		distances[i] = math.Abs(x[i] - medians[i])
	}
	sorted := slices.Clone(distances)
	slices.Sort(sorted)
	// The median of deviations is 0.67 standard deviations; of those from a running median somewhat less.
	limit := changeOutlier * sorted[len(sorted)/2] / 0.6
	for i := range x {
		if limit > 0 && distances[i] > limit {
			x[i] = medians[i]
		}
	}
}

// division is a series divided into stretches.
type division struct {
	cuts      []int // the first value of each stretch but the first
	order     int   // parameters of a stretch: 1 a level, 2 a line
	criterion float64
	sums      *sums
	free      float64 // independent values
}

// sums are running sums, from which the best line through any stretch is known at once.
type sums struct{ y, yy, ty, t, tt []float64 }

func newSums(x []float64) *sums {
	n := len(x) + 1
	s := &sums{make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)}
	mean := 0.0
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for i, v := range x {
		v -= mean // for the digits
		t := float64(i)
		s.y[i+1], s.yy[i+1], s.ty[i+1], s.t[i+1], s.tt[i+1] = s.y[i]+v, s.yy[i]+v*v, s.ty[i]+t*v, s.t[i]+t, s.tt[i]+t*t
	}
	return s
}

// cost is the sum of squares that a level or a line leaves of the values from a to b, b not included.
func (s *sums) cost(a, b, order int) float64 {
	n := float64(b - a)
	y := s.y[b] - s.y[a]
	left := s.yy[b] - s.yy[a] - y*y/n
	if order == 2 {
		t := s.t[b] - s.t[a]
		tt := s.tt[b] - s.tt[a] - t*t/n
		if ty := s.ty[b] - s.ty[a] - t*y/n; tt > 0 {
			left -= ty * ty / tt
		}
	}
	return max(left, 0)
}

// divide finds the best division with stretches of the given order.
func divide(x []float64, order int) division {
	n := len(x)
	s := newSums(x)
	least := max(changeLeast, int(changeShare*float64(n)))
	most := min(ChangesMax, n/least-1)
	left, from := partition(s, n, least, most, order)
	total := s.cost(0, n, 1)
	residual := cutsOf(from, n, min(most, changeCoarse))
	free := independent(x, s, residual, order)
	best := division{order: order, sums: s, free: free, criterion: math.Inf(1)}
	for k := 0; k <= most; k++ {
		rest := left[k] + changeFloor*total
		if rest <= 0 {
			break
		}
		parameters := float64((k+1)*order + k)
		if c := free*math.Log(rest/float64(n)) + changePenalty*math.Log(free)*parameters; c < best.criterion {
			best.criterion, best.cuts = c, cutsOf(from, n, k)
		}
	}
	// The two orders find different numbers of independent values, so they are compared per value.
	best.criterion /= free
	return best
}

// partition returns the least sum of squares with each number of changes, and for each number and end where the last stretch begins.
func partition(s *sums, n, least, most, order int) (left []float64, from [][]int32) {
	before, now := make([]float64, n+1), make([]float64, n+1)
	left = make([]float64, most+1)
	from = make([][]int32, most+1)
	for e := range before {
		if before[e] = math.Inf(1); e >= least {
			before[e] = s.cost(0, e, order)
		}
	}
	left[0] = before[n]
	for k := 1; k <= most; k++ {
		from[k] = make([]int32, n+1)
		for e := range now {
			now[e] = math.Inf(1)
			for b := k * least; b <= e-least; b++ {
				if c := before[b] + s.cost(b, e, order); c < now[e] {
					now[e], from[k][e] = c, int32(b)
				}
			}
		}
		left[k] = now[n]
		before, now = now, before
	}
	return left, from
}

func cutsOf(from [][]int32, n, k int) []int {
	cuts := make([]int, k)
	for e := n; k > 0; k-- {
		e = int(from[k][e])
		cuts[k-1] = e
	}
	return cuts
}

// line returns the level at the first value of a stretch and the slope, the mean of the series left out.
func (s *sums) line(a, b, order int) (level, slope float64) {
	n := float64(b - a)
	y, t := s.y[b]-s.y[a], s.t[b]-s.t[a]
	if order == 2 {
		if tt := s.tt[b] - s.tt[a] - t*t/n; tt > 0 {
			slope = (s.ty[b] - s.ty[a] - t*y/n) / tt
		}
	}
	return y/n + slope*(float64(a)-t/n), slope
}

// independent returns how many independent values are worth as much as those of the series, from how the residuals of a fine
// division follow each other.
func independent(x []float64, s *sums, cuts []int, order int) float64 {
	mean := 0.0
	for _, v := range x {
		mean += v / float64(len(x))
	}
	var before, squares, products float64
	a := 0
	for _, b := range append(slices.Clone(cuts), len(x)) {
		level, slope := s.line(a, b, order)
		for i := a; i < b; i++ {
			r := x[i] - mean - level - slope*float64(i-a)
			squares += r * r
			products += r * before
			before = r
		}
		a = b
	}
	phi := 0.0
	if squares > 0 {
		// In short stretches the estimate is too low (Kendall, Note on bias in the estimation of autocorrelation, 1954).
		length := float64(len(x)) / float64(len(cuts)+1)
		phi = (products/squares*length + float64(order)) / max(length-2-float64(order), 1)
		phi = max(0, min(phi, 0.99))
	}
	return max(changeValuesLeast, float64(len(x))*(1-phi)/(1+phi))
}

// change describes the change at a cut.
func (d division) change(x []float64, i int) Change {
	a, cut, b := 0, d.cuts[i], len(x)
	if i > 0 {
		a = d.cuts[i-1]
	}
	if i+1 < len(d.cuts) {
		b = d.cuts[i+1]
	}
	mean := 0.0
	for _, v := range x {
		mean += v / float64(len(x))
	}
	level, slope := d.sums.line(a, cut, d.order)
	after, afterSlope := d.sums.line(cut, b, d.order)
	before := level + slope*float64(cut-a)
	c := Change{Index: cut, Before: before + mean, After: after + mean, Delta: after - before, Slope: afterSlope - slope}
	// What both stretches leave together and apart, in independent values, is the evidence for this very change.
	joined, apart := d.sums.cost(a, b, d.order), d.sums.cost(a, cut, d.order)+d.sums.cost(cut, b, d.order)
	free := d.free * float64(b-a) / float64(len(x))
	evidence := free*math.Log(joined/max(apart, changeFloor*joined)) - changePenalty*math.Log(d.free)*float64(d.order+1)
	c.Confidence = 1 / (1 + math.Exp(-evidence/2))
	return c
}
