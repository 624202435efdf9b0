package analytics

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Saturation is an estimate of how much more a service could do, from what its requests of the last quarter of an hour showed.
// It is no measurement: who wants to know must load the service. There is one only where something shows a limit, and of
// several limits the nearest counts:
//
//   - processors: the processor time of a request is known, and so is how many processors there are for the service: what is
//     idle and what it uses itself, where that is not less than half of what it may use (of those that others keep busy it would
//     get some, too). Requests must spend their time on processors, or use most of those that there are.
//   - waiting: requests waited to be read, for a good part of their time. By how many are held at once (Little's law) and how
//     long they wait, a queue with c equal workers has one c that explains both; the capacity is c divided by the time for which
//     a request holds a worker.
//   - load: response times grew with the load, as they do in front of a queue of one to many servers whose capacity is K: the
//     K that fits best. A change in the mix of requests can mislead it.
//
// Each comes with the interval in which the capacity is by the same evidence, and is never below what was served in the last hour.
// Where the load is small, the share of the time that requests wait says nothing: a wait of 50 us is what a processor needs to
// wake up.
type Saturation struct {
	Known bool
	// Reason says why nothing is known.
	Reason string
	// Method is "processors", "waiting" or "load".
	Method string
	// CapacityRPS is at which throughput the service would be full, LowRPS and HighRPS the interval around it.
	CapacityRPS, LowRPS, HighRPS float64
	// ServedRPS is the highest throughput in ten seconds of the last hour.
	ServedRPS float64
	// CapacityLeft is the part of the capacity that is not used, 0 to 1.
	CapacityLeft float64
	// Points are the ticks that the estimate rests on.
	Points int
	// ProcessorSeconds are those of one request, with the method "processors"; Workers are how many requests are held at once
	// when the service is full, with the method "waiting". 0 with others.
	ProcessorSeconds, Workers float64
	// RSquared is the part of the variance of response times that the method "load" explains.
	RSquared float64
}

// Where the weights come from: D is derived, M was measured, C is a choice, with what it trades.
const (
	// saturationPointsMin ticks of saturationExchangesMin exchanges each, and saturationAllMin in all, are evidence. D: the mean of
	// 20 times that vary by their own size is known to 22 %, of 200 to 7 %. C: six ticks are the least of which a quarter may be
	// bad without moving the median, and the first minute of a service is not a rule for the next.
	saturationPointsMin    = 6
	saturationExchangesMin = 20
	saturationAllMin       = 200
	// saturationBusy is from which part of the highest load on a tick is one of the busy ones, which show limits. C: in
	// front of one worker that is half busy, requests wait a third as long with half the load, and less where it is busier: lighter
	// ticks would only thin the evidence.
	saturationBusy = .5

	// processorsNear is from which part of the processors on they are the limit, whatever else requests do. Below, requests must
	// spend processorsBound of their time on processors, and use processorsUsed of those that there are. C, tried on
	// the simulated servers of saturation_test.go: what waits for another most of the time has its limit there, and where little is
	// used the cost of a request still falls with the load, as each wake-up serves more of them.
	processorsNear, processorsBound, processorsUsed = .6, .4, .25
	// processorsUnsure is how much the processors that it may use may exceed those that it is known to. C: twice,
	// and a little for the error of what was seen. Beyond, the capacity would be a guess by more than its own size.
	processorsUnsure = 2.1

	// waitingShare is which part of their time requests must wait. D: of one worker with random arrivals and times that share is the
	// worker's load; at a quarter, a wait that is half as long makes the capacity three quarters higher, and below more. waitingSeconds is how long they must
	// wait. M: waking up takes 50 us on an idle host and up to a millisecond on a busy one, which is no queue. waitingHeld is how many
	// must be held at once on average. D: one worker that holds a fifth makes a share of a fifth wait: less than waitingShare, so that
	// a longer wait has another cause.
	waitingShare, waitingSeconds, waitingHeld = .25, 1e-3, .2
	// waitingVaried is by which factor requests may wait shorter or longer than those of a queue with random arrivals and times. D:
	// by Kingman's formula the wait goes with half the sum of the squared variations of arrivals and times, 2 with random ones: one
	// half with equal times, twice as long where most are short and a few long. M, simulated, 1 and 4 workers at half and four fifths
	// of their load: equal times .43 to .49 of it; one in ten eleven times as long as the others, 1.9 to 3.3.
	waitingVaried = 2
)

// failure is why a method knows nothing.
type failure string

func estimateCapacity(h *history) Saturation {
	points, why := evidence(h.loads)
	if why != "" {
		return Saturation{Reason: string(why)}
	}
	var best Saturation
	var reasons []string
	for _, method := range []func() (Saturation, failure){
		func() (Saturation, failure) { return byProcessors(points, h.bounds) },
		func() (Saturation, failure) { return byWaiting(points, h.bounds) },
		func() (Saturation, failure) { return byLoad(points) },
	} {
		switch s, why := method(); {
		case why != "":
			reasons = append(reasons, string(why))
		case !best.Known || s.CapacityRPS < best.CapacityRPS:
			best = s
		}
	}
	if !best.Known {
		return Saturation{Reason: strings.Join(reasons, "; ")}
	}
	best.ServedRPS = h.served()
	best.LowRPS = max(min(best.LowRPS, best.CapacityRPS), best.ServedRPS)
	best.CapacityRPS = max(best.CapacityRPS, best.LowRPS)
	best.HighRPS = max(best.HighRPS, best.CapacityRPS)
	return best
}

// evidence returns the ticks that tell something, or why these are too few.
func evidence(loads []load) ([]load, failure) {
	points, all := make([]load, 0, len(loads)), uint64(0)
	for _, n := range loads {
		if n.timed >= saturationExchangesMin {
			points, all = append(points, n), all+uint64(n.timed)
		}
	}
	switch {
	case len(loads) == 0 || loads[len(loads)-1].tick-loads[0].tick < saturationPointsMin-1:
		return nil, "its exchanges were observed for less than a minute"
	case len(points) < saturationPointsMin:
		return nil, failure(fmt.Sprintf("fewer than %d intervals of 10 s had %d exchanges or more in the last 15 minutes", saturationPointsMin, saturationExchangesMin))
	case all < saturationAllMin:
		return nil, failure(fmt.Sprintf("fewer than %d exchanges in the last 15 minutes", saturationAllMin))
	}
	return points, ""
}

// busy returns the points in which a figure was near its highest value.
func busy(points []load, figure func(*load) float32) (out []load) {
	var most float32
	for i := range points {
		if v := figure(&points[i]); v > most { // NaN is not
			most = v
		}
	}
	for i := range points {
		if v := figure(&points[i]); v > 0 && v >= saturationBusy*most {
			out = append(out, points[i])
		}
	}
	return out
}

func byProcessors(points []load, bounds processorBounds) (Saturation, failure) {
	all := busy(points, func(n *load) float32 { return n.cpu })
	if len(all) < saturationPointsMin || math.IsInf(bounds.processors, 1) {
		return Saturation{}, "its processor time is not known for long enough"
	}
	var exchanges, processors, free, held, rps, most float64
	costs := make([]float64, 0, len(all)) // processor seconds of a request
	for i := range all {
		n := &all[i]
		exchanges += float64(n.exchanges)
		processors, free, rps = processors+float64(n.cpu), free+float64(n.free), rps+float64(n.rps)
		if n.hold > 0 {
			held += float64(n.rps * n.hold)
		}
		most = max(most, float64(n.cpu))
		costs = append(costs, float64(n.cpu/n.rps))
	}
	n := float64(len(all))
	used, cost := processors/n, processors/rps
	reach := bounds.most()
	available := min(max(used+free/n, most), reach)
	if math.IsNaN(available) {
		available = reach
	}
	if available*processorsUnsure < reach {
		return Saturation{}, "others use the processors, and how many of these it would get is not known"
	}
	near := used >= processorsNear*available
	if exchanges < saturationAllMin || !near && (used < processorsUsed*available || processors < processorsBound*held) {
		return Saturation{}, "processors are not what limits it yet"
	}
	sure := min(max(most, 1), reach) // one processor anything can use
	if available > processorsUnsure*sure {
		return Saturation{}, "it is not known how many processors it can use at once"
	}
	spread := 2 * deviation(costs) / math.Sqrt(n) // two standard errors of the mean: 95 %
	return Saturation{Known: true, Method: "processors", CapacityRPS: available / cost, Points: len(all), ProcessorSeconds: cost,
		LowRPS: sure / (cost + spread), HighRPS: reach / max(cost-spread, cost/2)}, ""
}

func deviation(values []float64) float64 {
	var sum, squares float64
	for _, v := range values {
		sum += v
		squares += v * v
	}
	n := float64(len(values))
	return math.Sqrt(max(squares/n-sum*sum/n/n, 0))
}

// byWaiting judges each busy tick by itself and takes the middle one, so that a few ticks with long waits say nothing.
func byWaiting(points []load, bounds processorBounds) (Saturation, failure) {
	all := busy(points, func(n *load) float32 { return n.rps })
	if len(all) < saturationPointsMin {
		return Saturation{}, "its load is too uneven to judge how long requests wait"
	}
	type point struct{ capacity, low, high, workers float64 }
	var evident []point
	var unseen, hardly, short, bursts int
	for i := range all {
		n := &all[i]
		rps, wait, hold := float64(n.rps), float64(n.wait), float64(n.hold)
		held := rps * hold
		switch {
		case !(hold > 0) || math.IsNaN(wait):
			unseen++
			continue
		case wait < waitingShare*(wait+hold):
			hardly++
			continue
		case wait < waitingSeconds:
			short++
			continue
		case held < 1 && wait/hold > waitingVaried*relativeWait(1, held):
			bursts++ // not even one worker explains that
			continue
		case held < waitingHeld:
			continue
		}
		workers := func(wait float64) float64 { return min(workersOf(held, wait/hold), max(bounds.threads, held)) }
		c := workers(wait)
		evident = append(evident, point{c / hold, workers(wait*waitingVaried) / hold, workers(wait/waitingVaried) / hold, c})
	}
	few := 2*len(evident) < len(all) || len(evident) < saturationPointsMin
	switch {
	case 2*bursts > len(all):
		return Saturation{}, "requests wait for longer than their number explains: they come in bursts, connections hold its workers, or these wake up late"
	case few && 2*(hardly+short) >= len(all) && short > hardly: // beside a high share of the time in the queue
		return Saturation{}, "requests wait for less than a millisecond to be read, as they do for a processor to wake up"
	case few && 2*(hardly+short) >= len(all):
		return Saturation{}, "requests hardly wait to be read"
	case few && 2*unseen >= len(all):
		return Saturation{}, "how long requests wait to be read is not seen"
	case few:
		return Saturation{}, "how long requests wait is too uneven to judge"
	}
	quantile := func(q float64, figure func(point) float64) float64 {
		slices.SortFunc(evident, func(a, b point) int { return cmp.Compare(figure(a), figure(b)) })
		return figure(evident[int(q*float64(len(evident)-1)+.5)])
	}
	return Saturation{Known: true, Method: "waiting", Points: len(evident),
		CapacityRPS: quantile(.5, func(p point) float64 { return p.capacity }),
		Workers:     quantile(.5, func(p point) float64 { return p.workers }),
		LowRPS:      quantile(.25, func(p point) float64 { return p.low }),
		HighRPS:     quantile(.75, func(p point) float64 { return p.high })}, ""
}

// relativeWait is the mean wait in front of c workers that hold a number of requests on average, in units of the time for which
// one is held: Sakasegawa's approximation of the queue M/M/c (1977), exact for one worker. Simulated, four workers wait .78 to .85
// of it, sixteen at four fifths of their load .7: where it is too long, more workers are believed in, and the capacity is too high
// by less than the interval says.
func relativeWait(c, held float64) float64 {
	used := held / c
	return math.Pow(used, math.Sqrt(2*(c+1))-1) / (c * (1 - used))
}

// workersMax bounds the workers that are believed in: more than any pool of threads has, and where a search by halves begins.
const workersMax = 1 << 16

// workersOf returns for how many workers (one at least, and more than are held) the wait is the one given.
func workersOf(held, wait float64) float64 {
	low, high := max(held, 1), float64(workersMax)
	for range 60 { // halves the logarithm each time
		middle := math.Sqrt(low * high)
		if middle <= held || relativeWait(middle, held) > wait {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}
