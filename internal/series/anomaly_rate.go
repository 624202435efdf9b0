package series

import "math"

const (
	// episodeFrom is the rarity from which values are episodes that the rate is learned from, clusterGap values apart: some 30 a week
	// of minutes, far more than anybody wants alarms, so that there is something to learn from.
	episodeFrom = 2.5
	// episodePrior is how many episodes of a series with a perfect measure of rarity are taken to have been seen at first.
	episodePrior = 7
	// episodeMemory is how many values count in the rate: ten weeks of minutes.
	episodeMemory = 100_000
	// episodeMost is how many in the mean height.
	episodeMost = 400
	// episodeClip is how many mean heights an episode counts at most: a real incident is no sign that false ones are high.
	episodeClip = 4
	// shapeLeast and shapeMost bound the tail's shape: thinner than -0.4 there would be a wall where scores leap, and thicker than 0.2
	// nothing would be rare.
	shapeLeast, shapeMost = -0.4, 0.2
	// scoreMost ends scores: once in 10^10 weeks.
	scoreMost = 10
)

// alarmRate turns the rarity of a value into how often a week brings one like it, from how often, and how high, this very series
// went beyond a level that is often passed: peaks over a threshold (Davison and Smith, Models for exceedances over high thresholds,
// 1990) with a tail of
// its own shape. The rarities alone would do if they were exact; they are careful with thin tails and generous
// with what comes in clusters, so that asked for one false alarm a week they gave between none and ten.
type alarmRate struct {
	weekly   float64 // values in a week
	values   float64 // decayed number of values
	episodes float64 // decayed number of episodes
	height   float64 // their mean above episodeFrom
	square   float64 // the mean of its square
	seen     float64 // episodes in the means
	peak     float64 // of the episode that is going on; 0: there is none
	since    int     // values since the last one that belonged to it
}

// add learns a rarity and returns its score: the negative decimal logarithm of how often such comes in a week.
func (r *alarmRate) add(rarity float64) float64 {
	score := r.score(rarity)
	r.values += 1 - r.values/episodeMemory
	r.episodes -= r.episodes / episodeMemory
	if rarity > episodeFrom {
		r.peak, r.since = max(r.peak, rarity), 0
	} else if r.since++; r.peak > 0 && r.since > clusterGap {
		r.seen = min(r.seen+1, episodeMost)
		height := min(r.peak-episodeFrom, episodeClip*max(r.height, math.Log10E))
		r.height += (height - r.height) / r.seen
		r.square += (height*height - r.square) / r.seen
		r.episodes++
		r.peak = 0
	}
	return score
}

// pareto returns the shape and scale of the generalized Pareto distribution of the heights, by their moments (Hosking and Wallis,
// Parameter and quantile estimation for the generalized Pareto distribution, 1987), the prior's among them: where rarity is exact
// it is an exponential distribution.
func (r *alarmRate) pareto() (shape, scale float64) {
	const mean = math.Log10E
	m := (r.height*r.seen + mean*episodePrior) / (r.seen + episodePrior)
	square := (r.square*r.seen + 2*mean*mean*episodePrior) / (r.seen + episodePrior)
	q := m * m / max(square-m*m, m*m*1e-3)
	return max(shapeLeast, min((1-q)/2, shapeMost)), m * (q + 1) / 2
}

// score is what add returns, without learning.
func (r *alarmRate) score(rarity float64) float64 {
	expected := math.Pow(10, -episodeFrom)
	often := -math.Log10((r.episodes + episodePrior) / (r.values + episodePrior/expected) * r.weekly)
	if rarity < episodeFrom {
		return often - (episodeFrom - rarity)
	}
	shape, scale := r.pareto()
	excess := (rarity - episodeFrom) / scale
	if math.Abs(shape) < 1e-3 {
		return often + excess*math.Log10E
	}
	if inside := 1 + shape*excess; inside > 0 {
		return min(often+math.Log10(inside)/shape, scoreMost)
	}
	return scoreMost
}
