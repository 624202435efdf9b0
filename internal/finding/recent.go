package finding

import (
	"math"
	"slices"
)

const (
	// recentTicks is how many ticks are kept of a series: 21 minutes, in which there is a normal time before a finding and the finding.
	recentTicks = 128
	// usualLeast is how many values make a normal time, with a margin that ends at usualSure: five and ten minutes.
	usualLeast, usualSure = 30, 60
	// usualEvery is how often it is judged anew what is usual.
	usualEvery = 6
	// usualTop is the part of the values that are the tail's, topLeast their least number.
	usualTop, topLeast = 0.1, 4
	// tailPrior is the tail's exponent before anything is known, tailPriorWeight the number of values that it counts as; the
	// exponent is between tailHeavy and tailThin. At three deviations a normal distribution falls like a ninth power: 4 is careful.
	tailPrior, tailPriorWeight = 4, 5
	tailHeavy, tailThin        = 2, 6
	// shareDoubt is how wrong the logarithm of a tail's share may be, times the root of the values in it: one and a half standard errors.
	shareDoubt = 0.7
	// clusterShare is how many independent values a tail is taken to have at least: values that depend on each other come in clusters.
	clusterShare = 2
	// runMost is how many values in a row count together.
	runMost = 6
	// runLearned is how many values in a row are no beginning any more: a minute.
	runLearned = 6
	// outerLeast values in a row that are farther out by outerTimes than the farthest one before, or outestLeast by outestTimes, are beyond
	// all that was seen.
	outerLeast, outerTimes   = 3, 1.35
	outestLeast, outestTimes = 2, 1.8
	// runShare is the part of its rarity that another value in a row adds where values do not depend on those before.
	runShare = 0.9
	// leastPart is the part of an effect that matters which counts as no effect at all.
	leastPart = 0.25
	// rarityMost ends rarities: a value cannot be surer than that.
	rarityMost = 8
)

// rows are the values of a series by tick, for whoever explains a finding.
type rows [recentTicks]float32

func (r *rows) put(row int64, v float64) { r[row%recentTicks] = float32(v) }

func (r *rows) clear(row int64) { r.put(row, math.NaN()) }

// recent judges a value by the last ones: peaks over a threshold, whose tail falls like a power of the distance from the median. It judges
// after 30 values. The rarities of values in a row are added, as far as values do not depend on those before, so that a small shift that
// stays is as rare as a large leap.
type recent struct {
	values [recentTicks]float32     // by number
	odd    [recentTicks / 64]uint64 // those that are no normal time
	usual  usual
	number int // of the next value
	at     int // number at which usual was found
	run    int // values in a row beyond the usual, up to runMost
	length int // of the run, without a limit
	outer  int // values in a row that are clearly beyond the farthest, and of these those that are far beyond
	outest int
	side   float64
	rarity [runMost]float64 // of these, the latest first
}

// usual is what values were before.
type usual struct {
	n                int
	middle           float64    // on the metric's scale
	edge             [2]float64 // distance from the middle where the tails begin, down and up
	power            [2]float64 // of the tails
	farthest         [2]float64 // distance of the farthest value
	share            float64    // of the values, in a tail
	doubt            float64    // of the rarity of a value, for the share is that of a sample
	dependence       float64    // of a value on the one before, 0 to 1
	low, high, typic float64    // values: all are between low and high
}

func newRecent() *recent { return &recent{at: -usualEvery} }

func (r *recent) put(v float64) {
	i := uint(r.number % recentTicks)
	r.values[i] = float32(v)
	r.odd[i/64] &^= 1 << (i % 64)
	r.number++
}

// mark takes the last values out of the normal time, or into it.
func (r *recent) mark(from, to int, odd bool) {
	for n := max(from, r.number-recentTicks, 0); n < to; n++ {
		i := uint(n % recentTicks)
		if r.odd[i/64] &^= 1 << (i % 64); odd {
			r.odd[i/64] |= 1 << (i % 64)
		}
	}
}

func (r *recent) isOdd(i int) bool { return r.odd[i/64]>>(uint(i)%64)&1 != 0 }

// learn finds out what is usual, from the values that are no part of a finding.
func (r *recent) learn(m *Metric, room []float32) {
	r.at = r.number
	all := room[:0]
	var before, sum, products, squares float64
	pairs := 0
	for n := max(r.number-recentTicks, 0); n < r.number; n++ {
		i := n % recentTicks
		v := r.values[i]
		if r.isOdd(i) {
			continue
		}
		all = append(all, v)
		x := m.scale.of(float64(v))
		if len(all) > 1 {
			pairs++
			products += (x - before) * (x - before)
		}
		sum, squares, before = sum+x, squares+x*x, x
	}
	n := len(all)
	if n < usualLeast {
		if r.usual.n == 0 || n < usualLeast/2 {
			r.usual = usual{n: n}
		}
		return
	}
	// Half of the mean squared difference of neighbours is the variance, where they do not depend on each other (von Neumann's ratio).
	u := usual{n: n, dependence: .5 / math.Sqrt(float64(n))}
	if variance := squares/float64(n) - (sum/float64(n))*(sum/float64(n)); variance > 1e-12*math.Abs(squares) {
		u.dependence = max(0, 1-products/float64(pairs)/2/variance) + u.dependence
	}
	u.dependence = min(u.dependence, 1)
	slices.Sort(all)
	u.fit(all, m)
	r.usual = u
}

// fit finds middle, edges and tails from sorted values.
func (u *usual) fit(sorted []float32, m *Metric) {
	n := len(sorted)
	u.typic = float64(sorted[n/2])
	u.middle = m.scale.of(u.typic)
	least := m.least(u.typic)
	floor := leastPart * (m.scale.of(u.typic+least) - u.middle)
	k := max(topLeast, int(usualTop*float64(n)))
	independent := float64(n) * (1 - u.dependence) / (1 + u.dependence)
	u.share = min(max(float64(k)/float64(n), clusterShare/max(independent, 1)), 1)
	u.doubt = shareDoubt / math.Sqrt(float64(k))
	weight := 1 - u.dependence
	for side, sign := range [2]float64{-1, 1} {
		at := func(i int) float64 { // the i-th farthest
			if sign < 0 {
				return u.middle - m.scale.of(float64(sorted[i]))
			}
			return m.scale.of(float64(sorted[n-1-i])) - u.middle
		}
		edge := max(at(k-1), floor)
		sum := 0.0
		for i := range k - 1 {
			sum += math.Log(max(at(i)/edge, 1))
		}
		u.edge[side], u.farthest[side] = edge, max(at(0), edge)
		u.power[side] = max(tailHeavy, min((weight*float64(k-1)+tailPriorWeight)/(weight*sum+tailPriorWeight/tailPrior), tailThin))
	}
	u.low, u.high = m.scale.back(u.middle-u.farthest[0]), m.scale.back(u.middle+u.farthest[1])
}

// judge returns how rare the last values together are: the negative decimal logarithm of their probability.
func (r *recent) judge(v float64, m *Metric) float64 {
	u := &r.usual
	if u.n < usualLeast {
		r.calm()
		return 0
	}
	distance, side, sign := m.scale.of(v)-u.middle, 1, 1.0
	if distance < 0 {
		distance, side, sign = -distance, 0, -1
	}
	if distance < u.edge[side] || m.Bad != 0 && sign != float64(m.Bad) {
		r.calm()
		return 0
	}
	if r.run > 0 && r.side != sign {
		r.calm()
	}
	r.side = sign
	r.beyond(distance / u.farthest[side])
	copy(r.rarity[1:], r.rarity[:runMost-1])
	r.rarity[0] = max(0, min(u.power[side]*math.Log10(distance/u.edge[side])-math.Log10(u.share)-u.doubt, rarityMost))
	r.run = min(r.run+1, runMost)
	r.length++
	return r.together()
}

// calm ends a run.
func (r *recent) calm() { r.run, r.length, r.outer, r.outest = 0, 0, 0, 0 }

// beyond counts values that are beyond the farthest one, by so many times its distance.
func (r *recent) beyond(times float64) {
	if r.outer++; times < outerTimes {
		r.outer = 0
	}
	if r.outest++; times < outestTimes {
		r.outest = 0
	}
}

// exceeds tells whether the last values are beyond all that was seen: whatever their distribution, that is hardly chance.
func (r *recent) exceeds() bool { return r.outer >= outerLeast || r.outest >= outestLeast }

// isLearning tells whether values are to be learned from: not while they may be the beginning of an episode.
func (r *recent) isLearning() bool {
	return r.number-r.at >= usualEvery && (r.length == 0 || r.length >= runLearned)
}

// together adds the rarities of a run, less a margin for a short past.
func (r *recent) together() float64 {
	largest, sum := 0.0, 0.0
	for _, v := range r.rarity[:r.run] {
		largest, sum = max(largest, v), sum+v
	}
	weight := runShare * (1 - r.usual.dependence)
	all := largest + (sum-largest)*weight
	independent := 1 + float64(r.run-1)*weight
	return all - severalWays(all-independent*r.usual.least(), independent) - max(0, 1-float64(r.usual.n)/usualSure)
}

// least is the rarity of a value at the edge.
func (u *usual) least() float64 { return max(0, -math.Log10(u.share)-u.doubt) }

// severalWays is by how much a sum of rarities is less rare than one of them, as there are several ways to come to it: the logarithm of the
// tail of a gamma distribution beside that of an exponential one (Fisher's method).
func severalWays(excess, values float64) float64 {
	y := math.Ln10 * max(excess, 0)
	sum, term := 1.0, 1.0
	for j := 1.0; j < values; j++ {
		term *= y / j
		sum += term * min(1, values-j)
	}
	return math.Log10(sum)
}
