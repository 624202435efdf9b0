package analytics

import "math"

// Saturation is an estimate of how much more a service could do, from what its requests showed. It is no measurement: who
// wants to know must load the service. Two kinds of evidence are taken, the better one first:
//
//   - load: response times grew with the load. In a queue that serves in turn, or shares its server, 1/R = (capacity - X)/c
//     for c equal servers, R being the mean response time and X the throughput (Little's law and the mean of M/M/1). So a
//     line through the pairs (X, 1/R) of the window's sub-windows ends at the capacity. It is taken where the load varied
//     by half at least, the line falls and explains half of the variance, and the capacity is not far outside of what was
//     seen. A change in the mix of requests can mislead it.
//   - queue: requests waited a good part of their time before the application read them. In such a queue that part is
//     the utilisation, so what is left is at most the rest (with several servers it is less).
//
// Response times that do not grow with the load say only that the limit is far: then nothing is estimated.
type Saturation struct {
	Known bool
	// Reason says why nothing is known.
	Reason string
	// Method is "load" or "queue".
	Method string
	// CapacityRPS is at which throughput the service would be full; CapacityLeft is the part of it that is not used, 0 to 1,
	// with the method "queue" at most.
	CapacityRPS, CapacityLeft float64
	// Points are the sub-windows, and RSquared the part of their variance, that speak for the method "load".
	Points   int
	RSquared float64
}

const (
	// saturationPointsMin and saturationExchangesMin are how many sub-windows, of how many exchanges each, make a line.
	saturationPointsMin    = 5
	saturationExchangesMin = 20
	// saturationSpread is how much the largest load must exceed the smallest one.
	saturationSpread = 1.5
	// saturationFit is the least part of the variance that the line must explain.
	saturationFit = .5
	// saturationReach is how far beyond the largest load seen a capacity is believed.
	saturationReach = 2
	// saturationQueue is from which share of their time requests must wait to show that the service is busy.
	saturationQueue = .25
)

// point is what a service did in one sub-window.
type point struct {
	exchanges, timed, durationNS uint64
	seconds                      float64
}

func (p *point) add(rec *record) {
	var t tally
	b, i := rec.body, 0
	for f := tallyExchanges; f <= tallyDurationNS; f++ {
		t[f], i = uvarint(b, i)
	}
	p.exchanges += t[tallyExchanges]
	p.timed += t[tallyExchanges] - t[tallyUntimed]
	p.durationNS += t[tallyDurationNS]
}

func saturation(s *Stats, seconds float64, points []point) Saturation {
	throughput := float64(s.Exchanges) / seconds
	byLoad, reason := fitLoad(throughput, points)
	if byLoad.Known {
		return byLoad
	}
	if share := s.QueueShare(); share >= saturationQueue && s.Queued >= saturationExchangesMin {
		share = min(share, 1)
		return Saturation{Known: true, Method: "queue", CapacityRPS: throughput / share, CapacityLeft: 1 - share}
	}
	return Saturation{Reason: reason}
}

// fitLoad draws the line of the method "load", each point with the weight of its exchanges.
func fitLoad(throughput float64, points []point) (_ Saturation, reason string) {
	var n int
	var sw, sx, sy, sxx, sxy, syy float64
	least, most := math.Inf(1), 0.
	for i := range points {
		p := &points[i]
		if p.timed < saturationExchangesMin || p.seconds <= 0 || p.durationNS == 0 {
			continue
		}
		w, x, y := float64(p.exchanges), float64(p.exchanges)/p.seconds, 1e9*float64(p.timed)/float64(p.durationNS)
		n++
		sw, sx, sy, sxx, sxy, syy = sw+w, sx+w*x, sy+w*y, sxx+w*x*x, sxy+w*x*y, syy+w*y*y
		least, most = min(least, x), max(most, x)
	}
	switch {
	case n < saturationPointsMin:
		return Saturation{}, "too few exchanges to compare loads"
	case most < saturationSpread*least:
		return Saturation{}, "the load hardly varied, and requests hardly waited"
	}
	varX, varY, covariance := sxx-sx*sx/sw, syy-sy*sy/sw, sxy-sx*sy/sw
	slope := covariance / varX
	fit := covariance * covariance / (varX * varY)
	if !(slope < 0) || !(fit >= saturationFit) {
		return Saturation{}, "response times did not grow with the load"
	}
	capacity := sx/sw - sy/sw/slope
	if capacity > saturationReach*most {
		return Saturation{}, "response times hardly grew with the load"
	}
	capacity = max(capacity, most)
	return Saturation{
		Known: true, Method: "load", CapacityRPS: capacity, CapacityLeft: max(1-throughput/capacity, 0), Points: n, RSquared: fit,
	}, ""
}
