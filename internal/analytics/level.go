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
	// likelySigmas is how many of them are enough where three hours say the same.
	likelySigmas = 2
	// levelHold is for how many ticks in a row a change must be clear (the whole interval is beyond the limit) until it
	// is made.
	levelHold = 6
	// levelFirst is from how many exchanges on the first judgement follows the value, whatever its interval; an endpoint that
	// does not have them in five minutes, nor in levelLong, is judged after that time.
	levelFirst = 200
	// levelLong is the longer time over which thin traffic is judged, once in longEvery ticks. A change must be clear for
	// longHold of these looks in a row, or, where it is not, be what the value says for longPersist of them.
	levelLong   = time.Hour
	longEvery   = ticksPerFive
	longHold    = 2
	longPersist = 36
)

// Unjudged says why there is no level.
type Unjudged uint8

// Reasons, in a user's words by String.
const (
	Judged Unjudged = iota // there is one
	Unlimited
	Silent
	TooFew
	TooSoon
	Unclear
	Unanswered
	Starting
	unjudgeds
)

var unjudgedTexts = [unjudgeds]string{
	Unlimited:  "no limit is set for it",
	Silent:     "no exchanges in the last five minutes",
	TooFew:     "fewer than 20 exchanges in the last five minutes",
	TooSoon:    "20 exchanges or more in the last five minutes, but not for a minute yet",
	Unclear:    "its exchanges do not tell yet on which side of a limit it is; judged after about an hour at the latest",
	Unanswered: "fewer than 20 of the exchanges in the last five minutes have a response and a known duration",
	Starting:   "judged after a minute with exchanges",
}

// String is empty where there is a level.
func (u Unjudged) String() string { return unjudgedTexts[u] }

// LevelLimits are the limits of an aspect, from the best level's to the worst's. A value at or within the first one is
// excellent, then good, fair, poor; one beyond the fourth is critical. One beyond the fifth is critical, too, and severe:
// /health/performance then says "critical" where it would say "degraded". Throughput's limits fall, the others' rise.
type LevelLimits [5]float64

// The default limits. Throughput has none: how many requests there should be only its owner knows.
var (
	ResponseTimeLimits = LevelLimits{100, 300, 500, 1000, 2000} // ms
	ErrorRateLimits    = LevelLimits{.1, 1, 5, 10, 25}          // percent
)

// none tells that there are no limits, and so no level.
func (l *LevelLimits) none() bool { return *l == LevelLimits{} }

// LevelSet holds the limits of each Aspect; nil means those of the wider scope. General limits of nil are the default ones.
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
	all := o.LevelSet.over(aspectLimits{ResponseTime: ResponseTimeLimits, ErrorRate: ErrorRateLimits})
	return &all
}

// limitsOf returns the limits of an endpoint: its route's, else its service's, else the general ones, which is what nearly
// all endpoints share.
func (o *LevelOptions) limitsOf(k *Key, general *aspectLimits) *aspectLimits {
	service, ok := o.Services[k.Service]
	if !ok {
		return general
	}
	all := service.over(*general)
	if route, ok := service.Routes[k.Name]; ok {
		all = route.over(all)
	}
	if route, ok := service.Routes[k.Verb+" "+k.Name]; ok {
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

// estimate is a value with the interval in which it may truly be, surely and likely.
type estimate struct {
	value, lower, upper      float64
	likelyLower, likelyUpper float64
	known                    bool
}

// period is what is known of an endpoint over some time.
type period struct {
	exchanges uint64
	answered  uint64 // those with a response and a duration
	seconds   float64
	estimates [Aspects]estimate
}

func newPeriod(t *tally, c *cells, seconds float64) *period {
	return &period{t[tallyExchanges], t.answered(), seconds,
		[Aspects]estimate{ResponseTime: estimateResponseTime(t, c), Throughput: estimateThroughput(t, seconds), ErrorRate: estimateErrorRate(t)}}
}

// enough tells whether a value of the period is good for a first judgement: it is right, or next to it.
func (p *period) enough(a Aspect, l *LevelLimits) bool {
	e := p.estimates[a]
	from, to := l.grade(e.likelyLower, 1), l.grade(e.likelyUpper, 1)
	return p.exchanges >= levelFirst && max(from, to)-min(from, to) <= 1 || p.seconds >= levelLong.Seconds()
}

// judged is the state of one aspect of one endpoint.
//
// A level that followed the value would change with each breath of a service whose value is near a limit. So the first
// judgement waits until there is something to judge by, and stands until there is evidence against it. It is *clearly* wrong
// when the whole interval of the estimate is beyond its limit by the margin, and changes once that was so for levelHold ticks
// in a row over five minutes, or for longHold looks in a row over an hour, of which there is one in five minutes. A value that
// is beyond the limit by the margin, but of too few exchanges to be clear even in an hour, must stay there for longPersist
// looks. The new level is that of the value, less the margin; of all in the row the one nearest to the old level.
//
// That few exchanges speak clearly against a level does not tell which is the right one: where the hour's value says less
// than that of five minutes the level goes only as far as the hour does, or as the whole interval.
type judged struct {
	known bool
	grade grade
	why   Unjudged // where it is not known
	// Rows of ticks and looks that speak for a worse and for a better grade, and the least that they speak for. Before the
	// first judgement the first one counts ticks with an estimate.
	rows [6]row
}

type row struct {
	ticks uint16
	to    grade
}

// The rows; each is followed by that for a better grade.
const (
	clearly     = iota // of five minutes
	longClearly = 2 * iota
	longValue
)

// step takes one tick's estimate over five minutes, and the hour's where it is looked at. It reports whether the grade
// changed.
func (j *judged) step(a Aspect, five *period, look *period, hour func() *period, l *LevelLimits) bool {
	if !five.estimates[a].known {
		j.rows[clearly], j.rows[clearly+1] = row{}, row{}
	}
	if !j.known {
		return j.first(a, five, look, l)
	}
	recent := speech{allows: [2]bool{true, true}}
	if e := five.estimates[a]; e.known {
		s := j.speech(e, l)
		recent = s
		for better := range 2 {
			if to, over := j.row(clearly+better, s.clear[better], s.to[better], levelHold); over {
				return j.change(between(j.speech(hour().estimates[a], l).to[better], s.least[better], to))
			}
		}
	}
	if look == nil {
		return false
	}
	e := look.estimates[a]
	s := j.speech(e, l)
	for better := range 2 {
		if to, over := j.row(longClearly+better, e.known && s.clear[better] && recent.allows[better], s.to[better], longHold); over {
			return j.change(to)
		}
		if to, over := j.row(longValue+better, e.known && s.likely[better] && recent.allows[better], s.to[better], longPersist); over {
			return j.change(to)
		}
	}
	return false
}

// first makes the first judgement, after levelHold ticks with an estimate: by then a start is over.
func (j *judged) first(a Aspect, five *period, look *period, l *LevelLimits) bool {
	e := five.estimates[a]
	if !e.known {
		j.why = TooFew
		if a == ResponseTime && five.exchanges >= levelExchangesMin {
			j.why = Unanswered
		}
		return false
	}
	if j.rows[clearly].ticks < levelHold {
		j.rows[clearly].ticks++
	}
	j.why = Unclear
	switch {
	case j.rows[clearly].ticks < levelHold:
		j.why = TooSoon
		if a == Throughput { // of which any number will do
			j.why = Starting
		}
		return false
	case l.grade(e.lower, 1) == l.grade(e.upper, 1) || five.enough(a, l):
		return j.change(l.grade(e.value, 1))
	case look != nil && look.enough(a, l):
		return j.change(l.grade(look.estimates[a].value, 1))
	}
	return false
}

func (j *judged) change(g grade) bool {
	changed := !j.known || g != j.grade
	*j = judged{known: true, grade: g}
	return changed
}

// speech is what an estimate says against a grade: that a worse one is right, and that a better one is.
type speech struct {
	// Surely, likely, and at least: the likely interval reaches there.
	clear, likely, allows [2]bool
	to, least             [2]grade // by the value, and by the end of the interval that is nearest
}

func (j *judged) speech(e estimate, l *LevelLimits) (s speech) {
	badEnd, goodEnd, likelyBad, likelyGood := e.upper, e.lower, e.likelyUpper, e.likelyLower
	harder, easier := 1-levelMargin, 1+levelMargin
	if l[0] > l[len(l)-1] { // falling: low values are bad
		badEnd, goodEnd, likelyBad, likelyGood = goodEnd, badEnd, likelyGood, likelyBad
		harder, easier = easier, harder
	}
	s.to = [2]grade{l.grade(e.value, easier), l.grade(e.value, harder)}
	// Even the best that it may be is worse; even the worst that it may be is better.
	s.least = [2]grade{l.grade(goodEnd, easier), l.grade(badEnd, harder)}
	s.likely = [2]bool{l.grade(likelyGood, easier) > j.grade, l.grade(likelyBad, harder) < j.grade}
	s.allows = [2]bool{l.grade(likelyBad, 1) > j.grade, l.grade(likelyGood, 1) < j.grade}
	s.clear = [2]bool{s.least[0] > j.grade, s.least[1] < j.grade}
	return s
}

// between returns g, or the one of two others that is nearer to it where it is not between them.
func between(g, a, b grade) grade { return max(min(a, b), min(g, max(a, b))) }

// row continues the row where a tick speaks for a change, to g, and breaks it where not. It returns the least that the row
// speaks for, and whether it is over.
func (j *judged) row(which int, speaks bool, g grade, ticks uint16) (to grade, over bool) {
	r := &j.rows[which]
	if !speaks {
		*r = row{}
		return 0, false
	}
	switch {
	case r.ticks == 0:
		r.to = g
	case which%2 == 0:
		r.to = min(r.to, g)
	default:
		r.to = max(r.to, g)
	}
	r.ticks++
	return r.to, r.ticks >= ticks
}

// pause breaks the rows of five minutes: there is nothing that could speak for anything.
func (j *judged) pause() { j.rows[clearly], j.rows[clearly+1] = row{}, row{} }

// grades is the judged state of an endpoint.
type grades struct {
	limits  *aspectLimits
	judged  [Aspects]judged
	visible bool // there were exchanges in the last five minutes
	// unanswered tells that there were enough, and not one had a response: there is no response time, whatever it was before.
	unanswered bool
}

// judge takes the last five minutes and reports whether a level changed. Hour returns the last hour; where it is time to look
// at that, look is true.
func (g *grades) judge(five *period, look bool, hour func() *period) bool {
	unanswered := five.exchanges >= levelExchangesMin && five.answered == 0
	changed := !g.visible || g.unanswered != unanswered
	g.visible, g.unanswered = true, unanswered
	var seen *period
	once := func() *period {
		if seen == nil {
			seen = hour()
		}
		return seen
	}
	var looked *period
	if look {
		looked = once()
	}
	for a := range g.judged {
		if !g.limits[a].none() {
			changed = g.judged[a].step(Aspect(a), five, looked, once, &g.limits[a]) || changed
		}
	}
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

// answered counts exchanges with a response and a duration.
func (t *tally) answered() uint64 { return t[tallyExchanges] - t[tallyUntimed] - t[tallyUnanswered] }

// estimateResponseTime estimates the 95th percentile of what was answered, in ms. The interval is that of its rank: how many of n
// exchanges are below the true percentile is binomial, whatever the distribution. Durations of exchanges without a response, which
// stand among the others, say nothing of response times, as they may all be shorter, or longer: so they widen the interval.
func estimateResponseTime(t *tally, c *cells) estimate {
	n, others := float64(t.answered()), float64(t[tallyUnanswered])
	if n < levelExchangesMin {
		return estimate{}
	}
	sigma := math.Sqrt(n * LevelQuantile * (1 - LevelQuantile))
	rank := n * LevelQuantile
	var ranks [5]uint64
	for i, r := range [...]float64{rank - levelSigmas*sigma, rank - likelySigmas*sigma, (n + others) * LevelQuantile,
		rank + others + likelySigmas*sigma, rank + others + levelSigmas*sigma} {
		ranks[i] = uint64(math.Ceil(max(r, 1)))
	}
	var values [5]float64
	c.quantiles(ranks[:], values[:])
	for i := range values {
		values[i] /= 1e6
	}
	return estimate{values[2], values[0], values[4], values[1], values[3], true}
}

// estimateThroughput estimates requests per second as if they came independently of each other.
func estimateThroughput(t *tally, seconds float64) estimate {
	if seconds <= 0 {
		return estimate{}
	}
	n := t[tallyExchanges]
	return poissonEstimate(n, 1/seconds)
}

// estimateErrorRate estimates the share of failures in percent, as if exchanges failed independently of each other.
func estimateErrorRate(t *tally) estimate {
	n, failures := t[tallyExchanges], t[tallyFailures]
	if n < levelExchangesMin {
		return estimate{}
	}
	e := poissonEstimate(failures, 100/float64(n))
	e.upper, e.likelyUpper = min(e.upper, 100), min(e.likelyUpper, 100)
	return e
}

// poissonEstimate estimates the mean of numbers of events like n, in a unit.
func poissonEstimate(n uint64, unit float64) estimate {
	lower, upper := poissonInterval(n, countSigmas)
	likelyLower, likelyUpper := poissonInterval(n, likelySigmas)
	return estimate{float64(n) * unit, lower * unit, upper * unit, likelyLower * unit, likelyUpper * unit, true}
}

// poissonInterval returns between which means n events are to be expected, by Wilson and Hilferty's approximation. It holds
// for a few events, too, where a number of standard errors would make much of a single one.
func poissonInterval(n uint64, sigmas float64) (lower, upper float64) {
	cube := func(x float64) float64 { return x * x * x }
	if k := float64(n); n > 0 {
		lower = k * cube(max(1-1/(9*k)-sigmas/(3*math.Sqrt(k)), 0))
	}
	k := float64(n) + 1
	return lower, k * cube(1-1/(9*k)+sigmas/(3*math.Sqrt(k)))
}
