package finding

import "math"

const (
	// failureHalf is after how many ticks a request counts half in what is usual: an hour.
	failureHalf = 360
	// failurePrior requests, of which failurePriorPart failed, are taken to have been seen where none failed yet; fewer where some did.
	failurePrior, failurePriorPart = 50, 0.01
	// failuresLeast is how many failures are more than chance, whatever the share.
	failuresLeast = 3
	// failureTicks is how many ticks few requests are gathered for: 5 minutes.
	failureTicks = 30
	// failuresKnown is how many times requests must have been counted before: what failed from the first one on is usual.
	failuresKnown = 6
)

// failures judges error rates: how many of some requests failed, where a part of them usually does. It knows after a minute, since nothing but
// numbers of requests is needed; that failures come in clusters is measured (the dispersion) and takes from what they tell.
type failures struct {
	all, failed float64 // decayed
	dispersion  float64 // variance in units of what independent failures would have; below 1 counts as 1
	seen        float64 // ticks in it

	requests, bad float64 // gathered
	ticks         int
	run           int
	rarity        [runMost]float64
}

// usual is the share of requests that fail.
func (f *failures) usual() float64 {
	prior := failurePrior / (1 + f.failed)
	return (f.failed + prior*failurePriorPart) / (f.all + prior)
}

// add judges what a tick brought, and returns the rarity; known tells whether there were enough requests.
func (f *failures) add(requests, failed float64, least int) (rarity float64, known bool) {
	f.requests, f.bad = f.requests+requests, f.bad+failed
	f.ticks++
	if f.requests < float64(least) && f.ticks < failureTicks && f.bad < failuresLeast || f.requests == 0 {
		if f.ticks >= failureTicks {
			f.ticks = 0
		}
		return 0, false
	}
	r := f.rarityOf(f.requests, f.bad)
	if r <= 0 {
		f.run = 0
		return 0, true
	}
	copy(f.rarity[1:], f.rarity[:runMost-1])
	f.rarity[0] = r
	f.run = min(f.run+1, runMost)
	sum := 0.0
	for _, v := range f.rarity[:f.run] {
		sum += v
	}
	return sum, true
}

// rarityOf bounds how improbable so many failures are (Chernoff), which is careful.
func (f *failures) rarityOf(n, k float64) float64 {
	p, q := f.usual(), k/n
	if k < failuresLeast || q <= p {
		return 0
	}
	nats := q * math.Log(q/p)
	if q < 1 {
		nats += (1 - q) * math.Log((1-q)/(1-p))
	}
	return min(n*nats*math.Log10E/max(f.dispersion, 1), rarityMost)
}

// learn takes over what was gathered; odd tells that it is no normal time.
func (f *failures) learn(odd bool) {
	n, k := f.requests, f.bad
	f.requests, f.bad, f.ticks = 0, 0, 0
	if odd || n == 0 {
		return
	}
	p := f.usual()
	if expected := n * p * (1 - p); expected > 0 && f.all > failurePrior {
		square := (k - n*p) * (k - n*p) / max(expected, .5)
		f.seen = min(f.seen+1, failureHalf)
		f.dispersion += (square - f.dispersion) / f.seen
	}
	decay := math.Exp2(-1.0 / failureHalf)
	f.all, f.failed = f.all*decay+n, f.failed*decay+k
}
