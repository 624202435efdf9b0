package series

import "math"

const (
	tailSlots = 64 // quarter octaves: a factor of 65,000 between the smallest and the largest magnitude that are told apart
	tailHome  = 24 // where the median of the magnitudes is kept: 1,000 times it is still told apart, for what is far out matters
	tailDrift = 8  // slots that the median may wander before everything is moved back
	tailEvery = 64 // points between two looks at where the median is
	// tailBaseMost bounds the first slot: no float64 is farther from 1 than 2^1074.
	tailBaseMost = 4*1074 + tailSlots

	// tailHalf is after how many points a value counts half: a day and a night of minutes.
	tailHalf = 1500
	// tailPrior is how many values as large as the largest are taken to have been missed. With none, each record of a short past
	// would be as rare as can be; 1 and 3 were measurably worse.
	tailPrior = 2
	// tailUnseen is the weight of values beyond everything that a tail begins with. It decays: what was long not seen is rare.
	tailUnseen = 1.5
	// tailShare is the part of the values, and tailLeast the number, from which the tail is continued beyond what was seen.
	tailShare, tailLeast = 0.01, 12
	// tailTrust is how much of the continuation counts: the Hill estimate rests on a dozen values, the rank on all.
	tailTrust = 0.25
	// tailFar ends the continuation: one in 10^12 says nothing that 10^10 does not.
	tailFar = 12

	// clusterScore is from where a value is an exceedance (one in 50), clusterGap how many points apart two belong to two clusters.
	clusterScore, clusterGap = 1.7, 25
	// clusterPart is how much of the extremal index is corrected for: it is estimated from few clusters.
	clusterPart = 0.5
	// tailWeightMax is when the growing weights are scaled back, so that they fit a float32.
	tailWeightMax = 1e4
)

// tailGrowth makes each point's weight larger than the one before, which is decay without touching what is stored.
var tailGrowth = math.Exp2(1.0 / tailHalf)

// tail remembers how large a quantity usually is, newer values counting more, and tells how rare a value is: a histogram of
// magnitudes with steps of a quarter octave, which needs to know neither the unit nor the distribution. Beyond what was seen it
// goes on like a power of the magnitude (Hill, A simple general approach to inference about the tail of a distribution, 1975),
// the heaviest of the usual tails, so that no alarm rests on a tail being thin.
type tail struct {
	counts     [tailSlots]float32
	sum        float32
	unseen     float32 // of it, in the last slot: what no value stands for
	exceeding  float32 // weight of the exceedances, and of those that began a cluster: their quotient is the extremal index
	clusters   float32
	sinceLast  int32 // points since the last exceedance
	base       int32 // the slot 0's power of 2^(1/4); valid once based
	untilMoved int32
	based      bool
}

// slot returns where a magnitude is, with the part of the slot that lies below it.
func (h *tail) slot(magnitude float64) (int, float64) {
	if !(magnitude > 0) {
		return 0, 0
	}
	at := 4 * math.Log2(magnitude)
	if !h.based {
		h.base, h.based = int32(math.Floor(at))-tailHome, true
		h.counts[tailSlots-1] += tailUnseen
		h.sum += tailUnseen
		h.unseen = tailUnseen
	}
	at -= float64(h.base)
	if at < 1 { // slot 0 is everything that is nearly nothing
		return 0, 0
	}
	at = min(at, tailSlots-1e-3)
	i := int(at)
	return i, at - float64(i)
}

// add counts a magnitude with the given weight and returns how rare one as large as this was until then: the negative decimal
// logarithm of its probability, corrected for values that come in clusters.
func (h *tail) add(magnitude, weight float64) float64 {
	i, part := h.slot(magnitude)
	score := h.score(i, part, weight)
	h.counts[i] += float32(weight)
	h.sum += float32(weight)
	if score > clusterScore {
		h.exceeding += float32(weight)
		if h.sinceLast >= clusterGap {
			h.clusters += float32(weight)
		}
		h.sinceLast = 0
	}
	h.sinceLast = min(h.sinceLast+1, math.MaxInt16)
	if h.untilMoved--; h.untilMoved <= 0 {
		h.untilMoved = tailEvery
		h.recentre()
	}
	w := float32(weight)
	// What comes in clusters is rarer than it is frequent (the extremal index: Leadbetter, Extremes and local dependence, 1983).
	return score - clusterPart*math.Log10(float64((h.clusters+2*w)/(h.exceeding+2*w)))
}

// score is the rarity of the magnitude at a slot, clusters left aside.
func (h *tail) score(i int, part, weight float64) float64 {
	if i == 0 || h.sum <= 0 {
		return 0
	}
	above := float64(h.counts[i]) * (1 - part)
	for _, c := range h.counts[i+1:] {
		above += float64(c)
	}
	sum := float64(h.sum)
	rank := -math.Log10((above + tailPrior*weight) / (sum + tailPrior*weight))
	need := max(tailShare*sum, tailLeast*weight)
	if above >= need {
		return rank
	}
	edge, count, mean := h.excess(need)
	if edge == 0 {
		if count == 0 {
			return 2 * rank // what never moved at all stood still for a reason, and there is no measure of how far it moved now
		}
		return rank
	}
	excess := float64(i) + part - edge
	if excess <= 0 {
		return rank
	}
	beyond := min(-math.Log10(count/sum)+excess/mean*math.Log10E, tailFar)
	more := max(0, beyond-rank)
	return rank + more*more/(more+tailTrust)
}

// excess looks at the largest values with a weight of at least need: the slot where they begin, their weight, and how far above
// it they are on average. What is beyond everything counts as being there, but not how far; edge 0: there are not so many values
// that are more than nothing.
func (h *tail) excess(need float64) (edge, count, mean float64) {
	unseen := float64(h.unseen)
	count = float64(h.counts[tailSlots-1]) - unseen
	sum, j := count*(tailSlots-0.5), tailSlots-2
	for ; j > 0 && count < need; j-- {
		count += float64(h.counts[j])
		sum += float64(h.counts[j]) * (float64(j) + 0.5)
	}
	if count < need {
		return 0, count, 0
	}
	edge = float64(j + 1)
	// 0.3 of a slot is as exact as the histogram is: without it the tail of a constant would end like a wall.
	return edge, count + unseen, max(sum/count-edge, 0.3)
}

// quantile returns the magnitude that the share of the values is below.
func (h *tail) quantile(share float64) float64 {
	above := (1 - share) * float64(h.sum)
	for i := tailSlots - 1; i > 0; i-- {
		c := float64(h.counts[i])
		if c > 0 && above < c {
			return math.Exp2((float64(h.base) + float64(i) + 1 - above/c) / 4)
		}
		above -= c
	}
	return 0
}

// recentre moves everything so that the median of what is not nearly nothing is at tailHome.
func (h *tail) recentre() {
	rest := (h.sum - h.counts[0] - h.counts[tailSlots-1]) / 2
	if rest <= 0 {
		return
	}
	i := 1
	for ; i < tailSlots-1; i++ {
		if rest -= h.counts[i]; rest < 0 {
			break
		}
	}
	by := i - tailHome
	if by >= -tailDrift && by <= tailDrift {
		return
	}
	var moved [tailSlots]float32
	for j, c := range h.counts {
		to := min(max(j-by, 0), tailSlots-1)
		if j == 0 || j == tailSlots-1 { // nearly nothing, and everything beyond
			to = j
		}
		moved[to] += c
	}
	h.counts = moved
	h.base += int32(by)
}

// scale makes all weights smaller by a factor.
func (h *tail) scale(factor float32) {
	for i := range h.counts {
		h.counts[i] *= factor
	}
	h.sum *= factor
	h.unseen *= factor
	h.exceeding *= factor
	h.clusters *= factor
}
