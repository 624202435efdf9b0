package series

import "math"

// What an anomaly can be, in the order of the detector's tails.
const (
	sudden   = iota // far from the values just before
	unusual         // far from the level of the last hours
	untimely        // far from that level at this time of the day and week
	shifted         // the values of the last minutes together are far from it
	unsteady        // the values change more, or less, from one to the next than they used to
	anomalyKinds
)

var anomalyNames = [anomalyKinds]string{"sudden", "unusual", "untimely", "shifted", "unsteady"}

// severities of incidents, the least first.
var severities = [...]string{"warning", "error", "critical"}

// kindCosts are taken off the rarity of the kinds that are judged twice: a level that is unusual is untimely as well unless the season
// explains it, a shift comes with values that are far out, and neighbours that differ more with values that are sudden. Only what is
// clearly rarer by them is theirs.
var kindCosts = [anomalyKinds]float64{unusual: 0.5, shifted: 0.5, unsteady: 0.5}

const (
	fastRate   = 0.3   // of the level of the last values, in part of the difference per point
	middleRate = 0.05  // of the level of the last 20
	slowRate   = 0.005 // of the level of the last 200
	stepRate   = 0.02  // of how much neighbours differ, of late

	// anomalyClip is how many usual deviations a value may pull the slow levels and the season: outliers do not become normal at once.
	anomalyClip = 6
	// anomalyFirst is how many values are looked at before one is judged.
	anomalyFirst = 120

	// noveltyFloor is from where a value is news, and noveltyHold how many points later the next may be, unless its novelty is
	// larger by noveltyWorse: one incident is one finding.
	noveltyFloor, noveltyHold, noveltyWorse = 2.75, 100, 1
	// noveltyPast ends the growth of what a record means with the length of the past that it is a record of.
	noveltyPast = 8000

	// valueMost ends what is a value: a season keeps its levels in 4 bytes. timeMost ends times, so that their differences are exact.
	valueMost, timeMost = 1e36, 1 << 53

	// material is the part of the usual deviation that is nothing: what a season explains to the last digit is not judged by digits.
	material = 0.3

	// incidentQuiet is how many usual values end an incident, incidentNear how much smaller than the alarm's a score may be to go on.
	incidentQuiet, incidentNear = 10, 1

	// AnomalySensitivity is the default of AnomalyOptions.Sensitivity: one false alarm in ten weeks of a series.
	AnomalySensitivity = 0.1
)

// AnomalyOptions say what a person wants to hear.
type AnomalyOptions struct {
	// Sensitivity is how many false alarms are wanted per series and week; 0: AnomalySensitivity. More of them find smaller
	// anomalies.
	Sensitivity float64
	// Step is the time between two values in seconds; 0: as between the first two.
	Step float64
}

// Verdict is what the detector says about a value. The zero value is said about one that is missing.
type Verdict struct {
	// Score is how rare the value is: 0 for what happens once a week in such a series, 1 for once in ten weeks, 2 for a hundred.
	Score float64
	// Novelty ranks values of one past against each other and against those of other series: a score relative to the length of the
	// past, almost nothing for a while after it was high. It is for those who need one number per value, such as benchmarks.
	Novelty float64
	// Kind is what is unusual: sudden, unusual, untimely, shifted or unsteady; "" while nothing is known.
	Kind string
	// Expected is what the level, the day and the week let expect; 99 of 100 values were between Low and High.
	Expected, Low, High float64
	// Alarm: an incident began with this value.
	Alarm bool
	// Ended: the last incident ended before this value, see Anomalies.Incident.
	Ended bool
}

// Incident is an anomaly from its first value to its last.
type Incident struct {
	Start        int64   `json:"start"`         // seconds since 1970
	End          int64   `json:"end,omitempty"` // of its last unusual value
	Kind         string  `json:"kind"`
	Peak         float64 `json:"peak"`     // the value that is the farthest from what was expected
	Expected     float64 `json:"expected"` // at the peak
	Effect       float64 `json:"effect"`   // peak less expected
	RelativeSize float64 `json:"size"`     // the effect, in half widths of the band
	Score        float64 `json:"score"`    // the largest
	Values       int     `json:"values"`   // from start to end
	Confidence   float64 `json:"confidence"`
	Severity     string  `json:"severity"` // warning, error or critical
	Open         bool    `json:"open"`
}

// Anomalies finds unusual values in a series while it comes in, in 4 KiB and without allocation. It knows neither unit nor
// distribution: five quantities that are near zero while all is well (see the kinds) have their decayed histogram each, and a
// value is as rare as the rarest of them. The quantities keep their unit. Dividing them by a running deviation, as is usual,
// made it much worse: a burst would then widen the scale that it is measured by.
type Anomalies struct {
	options   AnomalyOptions
	threshold float64   // score of an alarm
	rates     alarmRate // from rarity to Score

	count               int
	last                float64
	lastUnix            int64
	fast, middle, slow  float64 // levels of what is left without the season
	raw                 float64 // slow level with it
	stepFast, stepSlow  float64
	deviation, residual float64 // usual size of value less raw, and less season and slow
	dayLevel, weekLevel float64 // what the seasons deviate from
	season              float64 // both seasons' part of the value that is judged
	weight              float64
	tails               [anomalyKinds]tail
	day, week           season
	daySlot             [daySlots]float32
	weekSlot            [weekSlots]float32

	newsPeak float64
	newsAt   int
	quiet    int
	incident Incident
}

// NewAnomalies returns a detector that has seen nothing.
func NewAnomalies(o AnomalyOptions) *Anomalies {
	if !(o.Sensitivity > 0) {
		o.Sensitivity = AnomalySensitivity
	}
	a := &Anomalies{options: o, weight: 1}
	a.day, a.week = newSeason(a.daySlot[:], daySpan), newSeason(a.weekSlot[:], weekSpan)
	a.applyOptions()
	return a
}

// applyOptions fixes what a rarity means in weeks, and which score is an alarm.
func (a *Anomalies) applyOptions() {
	a.threshold = -math.Log10(a.options.Sensitivity)
	if a.options.Step > 0 {
		a.rates.weekly = weekSpan / a.options.Step
	}
}

// Incident returns the incident that is open, or else the last one.
func (a *Anomalies) Incident() Incident { return a.incident }

// Seasons tells which seasons have proved themselves.
func (a *Anomalies) Seasons() (day, week bool) { return a.day.used, a.week.used }

// Add judges the value at a time, in seconds since 1970, by what came before, and learns it. NaN, infinities and what is as good as
// infinite are missing values, and so is one from before the last.
func (a *Anomalies) Add(unix int64, value float64) Verdict {
	if !(math.Abs(value) <= valueMost) || unix < -timeMost || unix > timeMost || a.count > 0 && unix < a.lastUnix {
		return Verdict{}
	}
	if a.count == 0 {
		a.start(unix, value)
		return Verdict{Expected: value, Low: value, High: value}
	}
	if a.options.Step <= 0 {
		a.options.Step = float64(unix - a.lastUnix)
		a.applyOptions()
	}
	a.count++
	q, expected := a.learn(unix, value)
	return a.judge(unix, value, q, expected)
}

func (a *Anomalies) start(unix int64, value float64) {
	a.count, a.lastUnix, a.last = 1, unix, value
	a.fast, a.middle, a.slow, a.raw, a.dayLevel, a.weekLevel = value, value, value, value, value, value
}

// quantities are what is near zero while all is well, in the order of the kinds.
type quantities [anomalyKinds]float64

// learn updates the levels and seasons with a value and returns how far it was from what they said before, and what that was.
func (a *Anomalies) learn(unix int64, value float64) (q quantities, expected float64) {
	elapsed := float64(unix - a.lastUnix)
	a.enterSeason(unix)
	y := value - a.season
	expected = a.slow + a.season
	q[sudden] = y - a.fast
	q[unusual] = value - a.raw
	q[untimely] = y - a.slow

	rate := a.rate(slowRate)
	fromRaw, fromSlow := clampTo(q[unusual], anomalyClip*a.deviation), clampTo(q[untimely], anomalyClip*a.residual)
	if a.count < anomalyFirst/2 {
		fromRaw, fromSlow = q[unusual], q[untimely]
	}
	mid := anomalyClip * a.residual
	if a.count < anomalyFirst/2 {
		mid = math.MaxFloat64
	}
	a.learnSeasons(unix, value, elapsed, rate)
	a.fast += fastRate * q[sudden]
	a.middle += a.rate(middleRate) * clampTo(y-a.middle, mid)
	a.slow += rate * fromSlow
	a.raw += rate * fromRaw
	usual := a.rate(math.Ln2 / tailHalf)
	a.deviation += usual * (math.Abs(fromRaw) - a.deviation)
	a.residual += usual * (math.Abs(fromSlow) - a.residual)
	q[shifted] = a.middle - a.slow

	step := math.Abs(value - a.last)
	a.stepFast += a.rate(stepRate) * (step - a.stepFast)
	if a.stepSlow > 0 {
		step = min(step, 8*a.stepSlow)
	}
	a.stepSlow += rate * (step - a.stepSlow)
	if a.stepSlow > 0 {
		q[unsteady] = math.Log(a.stepFast/a.stepSlow + 0.01) // 0.01: standing still is no more than that
	}
	a.last, a.lastUnix = value, unix
	return q, expected
}

// rate returns a rate that is an average's at first.
func (a *Anomalies) rate(wanted float64) float64 { return max(wanted, 1/float64(a.count)) }

func clampTo(v, most float64) float64 { return max(-most, min(most, v)) }

// enterSeason sets the part of the seasons in use at a time.
func (a *Anomalies) enterSeason(unix int64) {
	a.season = 0
	if v, _, known := a.day.at(a.daySlot[:], unix); a.day.used && known {
		a.season += v
	}
	if v, _, known := a.week.at(a.weekSlot[:], unix); a.week.used && known {
		a.season += v
	}
}

// learnSeasons teaches both seasons a value. One that comes into use by it, or out of use, moves the levels, so that what they say
// together stays the same.
func (a *Anomalies) learnSeasons(unix int64, value, elapsed, rate float64) {
	most := anomalyClip * a.deviation
	if a.count < anomalyFirst/2 {
		most = math.MaxFloat64
	}
	day, slot, _ := a.day.at(a.daySlot[:], unix)
	before, beforeWeek := a.day.used, a.week.used
	week, weekSlot, _ := a.week.at(a.weekSlot[:], unix)
	fromDay := value - a.dayLevel
	left := clampTo(fromDay-day, most)
	a.day.learn(a.daySlot[:], slot, day+left, math.Abs(left), math.Abs(clampTo(fromDay, most)), rate, elapsed)
	fromWeek := value - a.weekLevel - day
	left = clampTo(fromWeek-week, most)
	a.week.learn(a.weekSlot[:], weekSlot, week+left, math.Abs(left), math.Abs(clampTo(fromWeek, most)), rate, elapsed)
	a.dayLevel += max(min(elapsed/daySpan, 1), 1/float64(a.count)) * clampTo(fromDay, most)
	a.weekLevel += max(min(elapsed/weekSpan, 1), 1/float64(a.count)) * clampTo(value-a.weekLevel, most)
	change := 0.0
	if a.day.used != before {
		change += signOf(a.day.used) * day
	}
	if a.week.used != beforeWeek {
		change += signOf(a.week.used) * week
	}
	a.fast -= change
	a.middle -= change
	a.slow -= change
}

func signOf(on bool) float64 {
	if on {
		return 1
	}
	return -1
}

// judge turns quantities into a verdict.
func (a *Anomalies) judge(unix int64, value float64, q quantities, expected float64) Verdict {
	v := Verdict{Expected: expected}
	width := a.tails[untimely].quantile(0.99)
	v.Low, v.High = expected-width, expected+width
	a.weight *= tailGrowth
	if a.weight > tailWeightMax {
		for k := range a.tails {
			a.tails[k].scale(float32(1 / a.weight))
		}
		a.weight = 1
	}
	rarity, kind := 0.0, 0
	for k := range q {
		m := math.Abs(q[k])
		if k != unsteady && m < a.deviation*material || k == unsteady && m < material {
			m = 0
		}
		if r := a.tails[k].add(m, a.weight) - kindCosts[k]; r > rarity {
			rarity, kind = r, k
		}
	}
	if a.count < anomalyFirst || a.options.Step <= 0 {
		return v
	}
	v.Kind = anomalyNames[kind]
	v.Score = a.rates.add(rarity)
	v.Novelty = a.novelty(rarity)
	a.follow(unix, value, kind, &v)
	return v
}

// novelty relates a rarity to the length of the past, and holds it back for a while after news.
func (a *Anomalies) novelty(rarity float64) float64 {
	n := max(0, rarity-0.5*math.Log10(300/a.options.Step)-math.Log10(min(float64(a.count), noveltyPast)/2000))
	if a.newsAt > 0 && a.count-a.newsAt < noveltyHold && n < a.newsPeak+noveltyWorse {
		return n / 100
	}
	if n > noveltyFloor {
		a.newsPeak, a.newsAt = n, a.count
	}
	return n
}

// follow opens, continues and ends incidents.
func (a *Anomalies) follow(unix int64, value float64, kind int, v *Verdict) {
	in := &a.incident
	if !in.Open {
		if v.Score < a.threshold {
			return
		}
		v.Alarm = true
		*in = Incident{Start: unix, Kind: v.Kind, Expected: v.Expected, Peak: value, Open: true}
		a.quiet = 0
	}
	in.Values++
	if v.Score < a.threshold-incidentNear {
		if a.quiet++; a.quiet >= incidentQuiet {
			in.Open, v.Ended = false, true
			in.Values -= a.quiet
		}
		return
	}
	a.quiet = 0
	in.End, in.Score = unix, max(in.Score, v.Score)
	if width := v.High - v.Low; width > 0 {
		if size := 2 * math.Abs(value-v.Expected) / width; size >= in.RelativeSize {
			in.Peak, in.Expected, in.RelativeSize = value, v.Expected, size
		}
	}
	in.Effect = in.Peak - in.Expected
	in.Confidence = a.confidence(in.Score)
	in.Severity = severityOf(in.RelativeSize, in.Score-a.threshold)
}

// confidence is the part of incidents like this that are none by chance, if there is one real incident a week: one in ten where the
// score is -1, ten in eleven where it is 1. A short past takes away from it.
func (a *Anomalies) confidence(score float64) float64 {
	false_ := math.Pow(10, -score)
	return 1 / (1 + false_) * float64(a.count) / float64(a.count+anomalyFirst)
}

// severityOf grades an incident by how far it is outside of what is usual, and how sure that is.
func severityOf(size, excess float64) string {
	switch {
	case size >= 4 && excess >= 1:
		return severities[2]
	case size >= 2 && excess >= 0.5:
		return severities[1]
	}
	return severities[0]
}
