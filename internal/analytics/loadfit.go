package analytics

import (
	"math"
	"slices"
)

// Where the weights come from, as in saturation.go: D is derived, M was measured, C is a choice.
const (
	// fitSpread is how much the largest load must exceed the smallest one, and fitGrowth how much response times must grow. D: in
	// front of one worker times go with 1/(1-load): half as much load again makes them half as long again from a load of two fifths
	// on. Below, a straight line fits as well as the curve, and its capacity is anywhere.
	fitSpread, fitGrowth = 1.5, 1.5
	// fitBins is how many different loads there must be: one more than the curve has figures (A, B, c, K).
	fitBins = saturationPointsMin - 1
	// fitHeld is how many requests must be in progress at once where the load is highest. D: one worker holds and queues half a
	// request at a third of its load; what grows below is something else than a queue, such as a cache that is cold.
	fitHeld = .5
	// fitExplained is the least part of the variance that the curve must explain. C: half, since ticks differ by their mix as well.
	fitExplained = .5
	// fitReach is how far beyond the largest load seen a capacity is believed, and fitOpen how far its interval may reach. D: at half
	// of the capacity times have doubled in front of one worker; further off, they have grown by less than their own spread. C: the
	// search goes half as far again, so that an interval that is open shows as one.
	fitReach, fitOpen = 2, 3
	// fitWidth is by which factor loads of one bin differ at most. D: 8 % of the load moves a time by 8 % at half of the capacity,
	// less than the error of a tick's mean of 100 exchanges.
	fitWidth = 1.08
	// fitF is the quantile of 95 % of Fisher's distribution with one and eight degrees of freedom, 5.32: a capacity is rejected
	// whose error exceeds the best one's by more than this share over the degrees of freedom. With four it is 7.7, with twelve 4.7.
	fitF = 5.3
)

// fitServers are the numbers of servers of the queues that are tried: the form of the curve changes with their logarithm, and from
// 64 on it is a corner.
var fitServers = [...]float64{1, 2, 4, 8, 16, 32, 64}

// bin is what was seen of about one load.
type bin struct{ rps, seconds, weight float64 }

// byLoad fits R = A + B w(c, X/K) to response times R and loads X, where w is the wait in front of c servers that are full at K.
func byLoad(points []load) (Saturation, failure) {
	bins := loadBins(points)
	if len(bins) == 0 {
		return Saturation{}, "how long requests are held is not seen"
	}
	least, most := bins[0], bins[len(bins)-1]
	switch {
	case most.rps < fitSpread*least.rps:
		return Saturation{}, "the load hardly varied"
	case len(bins) < fitBins:
		return Saturation{}, "too few different loads were seen"
	case most.rps*most.seconds < fitHeld || most.seconds < fitGrowth*quickest(bins):
		return Saturation{}, "response times did not grow with the load"
	}
	type fit struct{ capacity, error float64 }
	var fits []fit
	best, total := fit{0, math.Inf(1)}, variance(bins)
	// From where the largest load leaves the queue just finite, in steps of a hundredth: 110 capacities.
	for capacity := 1.002 * most.rps; capacity <= fitOpen*most.rps; capacity *= 1.01 {
		f := fit{capacity, math.Inf(1)}
		for _, servers := range fitServers {
			f.error = min(f.error, fitError(bins, servers, capacity))
		}
		fits = append(fits, f)
		if f.error < best.error {
			best = f
		}
	}
	if !(best.error <= (1-fitExplained)*total) {
		return Saturation{}, "response times did not grow with the load"
	}
	// Capacities that fit nearly as well as the best one; a bit of error is always there.
	freedom := max(float64(len(bins)-4), 1)
	limit := best.error*(1+fitF/freedom) + 1e-9*total
	low, high := best.capacity, best.capacity
	for _, f := range fits {
		if f.error <= limit {
			low, high = min(low, f.capacity), max(high, f.capacity)
		}
	}
	if best.capacity > fitReach*most.rps || high >= fitOpen*most.rps/1.01 {
		return Saturation{}, "response times hardly grew with the load"
	}
	return Saturation{Known: true, Method: "load", CapacityRPS: best.capacity, LowRPS: low, HighRPS: high, Points: len(points),
		RSquared: 1 - best.error/total}, ""
}

// loadBins puts points of about the same load together, the smallest load first. The weight is that of the logarithm of the
// response time, as if each exchange told as much.
func loadBins(points []load) (bins []bin) {
	sorted := make([]load, 0, len(points))
	for _, n := range points {
		if n.hold >= 0 && n.wait >= 0 && n.rps > 0 {
			sorted = append(sorted, n)
		}
	}
	slices.SortFunc(sorted, func(a, b load) int { return int(math.Copysign(1, float64(a.rps-b.rps))) })
	var first float64
	for i := range sorted {
		n := &sorted[i]
		x, y, w := float64(n.rps), float64(n.hold+n.wait), float64(n.timed)
		if len(bins) == 0 || x > fitWidth*first {
			first = x
			bins = append(bins, bin{})
		}
		b := &bins[len(bins)-1]
		b.rps += w * x
		b.seconds += w * y
		b.weight += w
	}
	for i := range bins {
		b := &bins[i]
		b.rps /= b.weight
		b.seconds /= b.weight
	}
	return bins
}

// quickest is the mean response time of the lower half of the loads.
func quickest(bins []bin) float64 {
	var sum, weight float64
	for _, b := range bins[:(len(bins)+1)/2] {
		sum, weight = sum+b.weight*b.seconds, weight+b.weight
	}
	return sum / weight
}

// variance is the sum of weighted squares around the mean, relative to each response time as in fitError.
func variance(bins []bin) float64 {
	var sw, sy, syy float64
	for _, b := range bins {
		w := b.weight / (b.seconds * b.seconds)
		sw, sy, syy = sw+w, sy+w*b.seconds, syy+w*b.seconds*b.seconds
	}
	return syy - sy*sy/sw
}

// fitError is the least sum of weighted squares of the curve with these servers and this capacity; +Inf where times would not
// grow, or be negative without load.
func fitError(bins []bin, servers, capacity float64) float64 {
	var sw, sx, sy, sxx, sxy float64
	for _, b := range bins {
		w := b.weight / (b.seconds * b.seconds)
		x, y := relativeWait(servers, servers*b.rps/capacity), b.seconds
		sw, sx, sy, sxx, sxy = sw+w, sx+w*x, sy+w*y, sxx+w*x*x, sxy+w*x*y
	}
	slope := (sxy - sx*sy/sw) / (sxx - sx*sx/sw)
	at0 := (sy - slope*sx) / sw
	if !(slope > 0) || !(at0 >= 0) {
		return math.Inf(1)
	}
	var sum float64
	for _, b := range bins {
		r := (b.seconds - at0 - slope*relativeWait(servers, servers*b.rps/capacity)) / b.seconds
		sum += b.weight * r * r
	}
	return sum
}
