package analytics

import (
	"math"
	"time"
)

// Level says how good a value is, from 0 to 4: what perfagent_endpoint_level exports.
type Level uint8

// Levels, the best first.
const (
	Excellent Level = iota
	Good
	Fair
	Poor
	Critical
)

var levelNames = [...]string{"excellent", "good", "fair", "poor", "critical"}

func (l Level) String() string { return levelNames[min(l, Critical)] }

// Aspect is what a level is about.
type Aspect uint8

// Aspects of an endpoint. All are judged over the last five minutes.
const (
	ResponseTime Aspect = iota // the 95th percentile, ms
	Throughput                 // rps
	ErrorRate                  // percent
	Aspects      = 3
)

var aspectNames = [Aspects]string{"response_time", "throughput", "error_rate"}

func (a Aspect) String() string { return aspectNames[a] }

const (
	// LevelWindow is over which time levels are judged, and LevelQuantile is what of the response times.
	LevelWindow   = 5 * time.Minute
	LevelQuantile = .95

	// levelExchangesMin is from how many exchanges on there is a 95th percentile that is not merely the maximum.
	levelExchangesMin = 20
	// levelMargin is by which part of a limit a value must be beyond it to change a level.
	levelMargin = .15
	// levelSigmas is how many standard errors wide the interval is to either side in which the true value is taken to be:
	// beyond four lies one sample of 30,000, and a day has 288 windows of five minutes.
	levelSigmas = 4
	// countSigmas is the same for numbers of events: a handful of failures has a longer tail than the ranks of a quantile.
	countSigmas = 5
	// levelHold is for how many ticks in a row a change must be clear (the whole interval is beyond the limit) until it
	// is made; levelPersist, where it is not clear: twelve windows of five minutes that all say the same.
	levelHold    = 6
	levelPersist = 360
)

// LevelLimits are the limits of an aspect, from the best level's to the worst's. A value at or within the first one is
// excellent, then good, fair, poor; one beyond the fourth is critical. One beyond the fifth is critical, too, and severe:
// /health/performance then says "critical" where it would say "degraded". Throughput's limits fall, the others' rise.
type LevelLimits [5]float64

// The default limits.
var (
	ResponseTimeLimits = LevelLimits{100, 300, 500, 1000, 2000} // ms
	ThroughputLimits   = LevelLimits{1000, 500, 100, 50, 10}    // rps
	ErrorRateLimits    = LevelLimits{.1, 1, 5, 10, 25}          // percent
)

// LevelSet holds the limits of each Aspect; nil means those of the wider scope.
type LevelSet [Aspects]*LevelLimits

// ServiceLevels are a service's limits, and those of single routes of it: "/items/{id}" or "GET /items/{id}", of which the
// second goes before.
type ServiceLevels struct {
	LevelSet
	Routes map[string]LevelSet
}

// LevelOptions are the limits of all endpoints; the zero value has the defaults. Services are found by name.
type LevelOptions struct {
	LevelSet
	Services map[string]ServiceLevels
}

// aspectLimits are the limits in force for an endpoint.
type aspectLimits [Aspects]LevelLimits

// general returns the limits of endpoints for which nothing else is said.
func (o *LevelOptions) general() *aspectLimits {
	all := o.LevelSet.over(aspectLimits{ResponseTimeLimits, ThroughputLimits, ErrorRateLimits})
	return &all
}

// limitsOf returns the limits of an endpoint: its route's, else its service's, else the general ones, which is what nearly
// all endpoints share.
func (o *LevelOptions) limitsOf(k *ServerKey, general *aspectLimits) *aspectLimits {
	service, ok := o.Services[k.Service]
	if !ok {
		return general
	}
	all := service.over(*general)
	if route, ok := service.Routes[k.Route]; ok {
		all = route.over(all)
	}
	if route, ok := service.Routes[k.Method+" "+k.Route]; ok {
		all = route.over(all)
	}
	return &all
}

func (s LevelSet) over(all aspectLimits) aspectLimits {
	for a, limits := range s {
		if limits != nil {
			all[a] = *limits
		}
	}
	return all
}

// grade is a level with its severity: 0…4 are the levels, 5 is critical and severe.
type grade uint8

func (g grade) level() Level { return min(Level(g), Critical) }
func (g grade) severe() bool { return g > grade(Critical) }

// grade returns the one of a value; a factor above 1 asks for more than the limits, one below for less.
func (l *LevelLimits) grade(value, factor float64) grade {
	falling := l[0] > l[len(l)-1]
	for i, limit := range l {
		if falling && value >= limit*factor || !falling && value <= limit*factor {
			return grade(i)
		}
	}
	return grade(len(l))
}

// estimate is a value with the interval in which it may truly be.
type estimate struct{ lower, value, upper float64 }

// judged is the state of one aspect of one endpoint.
//
// A level that followed the value would change with each breath of a service whose value is near a limit. So the first
// judgement stands until there is evidence against it: it is *clearly* wrong when the whole interval of the estimate is
// beyond its limit by the margin, and changes once that was so for levelHold ticks in a row. A value that is beyond the limit
// by the margin, but of too few exchanges to be clear, must stay there for levelPersist ticks. The new level is that of the
// value, less the margin; of all ticks in the row the one nearest to the old level.
type judged struct {
	known bool
	grade grade
	// Rows of ticks that speak for a worse and for a better grade, clearly or not, and the least that they speak for.
	rows [4]row
}

type row struct {
	ticks uint16
	to    grade
}

const (
	clearlyWorse = iota
	clearlyBetter
	worse
	better
)

// step takes one tick's estimate and reports whether the grade changed.
func (j *judged) step(e estimate, l *LevelLimits) bool {
	if !j.known {
		return j.first(l.grade(e.value, 1))
	}
	badEnd, goodEnd := e.upper, e.lower
	harder, easier := 1-levelMargin, 1+levelMargin
	if l[0] > l[len(l)-1] { // falling: low values are bad
		badEnd, goodEnd = goodEnd, badEnd
		harder, easier = easier, harder
	}
	// Even the best that it may be is worse; even the worst that it may be is better.
	toWorse, toBetter := l.grade(e.value, easier), l.grade(e.value, harder)
	changed := j.row(clearlyWorse, l.grade(goodEnd, easier) > j.grade, toWorse, levelHold)
	changed = j.row(clearlyBetter, l.grade(badEnd, harder) < j.grade, toBetter, levelHold) || changed
	changed = j.row(worse, toWorse > j.grade, toWorse, levelPersist) || changed
	return j.row(better, toBetter < j.grade, toBetter, levelPersist) || changed
}

// first makes the first judgement, after levelHold ticks with an estimate: by then a start is over.
func (j *judged) first(g grade) bool {
	r := &j.rows[0]
	r.ticks++
	if r.ticks < levelHold {
		return false
	}
	*j = judged{known: true, grade: g}
	return true
}

// row continues the row where a tick speaks for a change, to g, and breaks it where not. It reports whether the grade
// changed.
func (j *judged) row(which int, speaks bool, g grade, ticks uint16) bool {
	r := &j.rows[which]
	if !speaks {
		*r = row{}
		return false
	}
	switch {
	case r.ticks == 0:
		r.to = g
	case which == clearlyWorse || which == worse:
		r.to = min(r.to, g)
	default:
		r.to = max(r.to, g)
	}
	r.ticks++
	if r.ticks < ticks {
		return false
	}
	*j = judged{known: true, grade: r.to}
	return true
}

// pause breaks all rows: what was seen is too little to speak for anything.
func (j *judged) pause() { j.rows = [4]row{} }

// grades is the judged state of an endpoint.
type grades struct {
	limits  *aspectLimits
	judged  [Aspects]judged
	visible bool // there were exchanges in the last five minutes
}

// judge takes the last five minutes and reports whether a level changed.
func (g *grades) judge(t *tally, c *cells, seconds float64) bool {
	changed := !g.visible
	g.visible = true
	steps := func(a Aspect, e estimate, ok bool) {
		if !ok {
			g.judged[a].pause()
		} else if g.judged[a].step(e, &g.limits[a]) {
			changed = true
		}
	}
	e, ok := estimateResponseTime(t, c)
	steps(ResponseTime, e, ok)
	e, ok = estimateThroughput(t, seconds)
	steps(Throughput, e, ok)
	e, ok = estimateErrorRate(t)
	steps(ErrorRate, e, ok)
	return changed
}

// hide reports whether the levels were visible: an endpoint without exchanges for five minutes has none. What they were is
// kept for its return.
func (g *grades) hide() bool {
	if !g.visible {
		return false
	}
	g.visible = false
	for a := range g.judged {
		g.judged[a].pause()
	}
	return true
}

// estimateResponseTime estimates the 95th percentile in ms. The interval is that of its rank: how many of n exchanges are
// below the true percentile is binomial, whatever the distribution.
func estimateResponseTime(t *tally, c *cells) (e estimate, ok bool) {
	n := float64(t[tallyExchanges] - t[tallyUntimed])
	if n < levelExchangesMin {
		return e, false
	}
	width := levelSigmas * math.Sqrt(n*LevelQuantile*(1-LevelQuantile))
	rank := n * LevelQuantile
	ranks := [3]uint64{uint64(max(rank-width, 1)), uint64(math.Ceil(rank)), uint64(math.Ceil(rank + width))}
	var values [3]float64
	c.quantiles(ranks[:], values[:])
	return estimate{values[0] / 1e6, values[1] / 1e6, values[2] / 1e6}, true
}

// estimateThroughput estimates requests per second as if they came independently of each other.
func estimateThroughput(t *tally, seconds float64) (e estimate, ok bool) {
	if seconds <= 0 {
		return e, false
	}
	n := t[tallyExchanges]
	lower, upper := poissonInterval(n)
	return estimate{lower / seconds, float64(n) / seconds, upper / seconds}, true
}

// estimateErrorRate estimates the share of failures in percent, as if exchanges failed independently of each other.
func estimateErrorRate(t *tally) (e estimate, ok bool) {
	n, failures := t[tallyExchanges], t[tallyFailures]
	if n < levelExchangesMin {
		return e, false
	}
	lower, upper := poissonInterval(failures)
	percent := 100 / float64(n)
	return estimate{lower * percent, float64(failures) * percent, min(upper*percent, 100)}, true
}

// poissonInterval returns between which means n events are to be expected, by Wilson and Hilferty's approximation. It holds
// for a few events, too, where a number of standard errors would make much of a single one.
func poissonInterval(n uint64) (lower, upper float64) {
	cube := func(x float64) float64 { return x * x * x }
	if k := float64(n); n > 0 {
		lower = k * cube(max(1-1/(9*k)-countSigmas/(3*math.Sqrt(k)), 0))
	}
	k := float64(n) + 1
	return lower, k * cube(1-1/(9*k)+countSigmas/(3*math.Sqrt(k)))
}
