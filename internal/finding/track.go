package finding

import (
	"math"
	"time"

	"github.com/perfagent/perfagent/internal/series"
)

const (
	// longTicks is how many ticks make one value for the judgement by hours and days: a minute, which scatters less and looks back
	// the longer.
	longTicks = 6
	// longCalmLeast is how many usual minutes end what is unusual of minutes.
	longCalmLeast = 10
	// quietTicks is how long values must be usual to end an episode, and quietLeast how many of them there must be.
	quietTicks, quietLeast = 6, 2
	// noiseMost is how many standard errors an effect must have, by the requests behind the value: else a few requests are chance.
	noiseMost = 3
	// grossSure is how much surer one is of what is rare than of what is only gross.
	grossSure = .7
	// surely is how much rarer than an alarm a single value must be to be enough: a hundred times.
	surely = 2
)

// track is one series: what it did of late, what is usual of it, and the episode in which it is unusual.
type track struct {
	Measure
	metric    *Metric
	group     *group
	rows      rows
	*recent   // nil: it is never a finding itself
	long      *series.Anomalies
	sum       float64 // of the values for long, on the metric's scale
	summed    int
	ticks     int // of these
	verdict   series.Verdict
	longAlarm bool // an incident began with the latest verdict
	longHigh  bool // one goes on
	longCalm  int  // verdicts since it went on
	score     float64
	values    int // that it had
	latest    float64
	requests  uint64  // behind the latest value
	width     int     // ticks for which it stands
	noise     float64 // its standard error by the requests behind it, on the metric's scale; 0: not known
	last      int64   // row of the latest value
	alarmed   bool    // and ignored, as nobody would care
	fails     *failures
	*episode  // nil: all is well
}

// episode is a time in which a series is unusual.
type episode struct {
	Start      time.Time
	End        time.Time // of its last unusual value
	Row        int64     // of its first value
	First      int       // number of that
	Expected   float64
	Low, High  float64
	Peak       float64
	Edge       float64 // distance from what was expected, on the metric's scale, up to which values are usual again
	Size       float64 // of the peak: its distance
	Score      float64
	Sure       float64 // confidence by the length of the past
	Requests   uint64
	Unusual    int // values
	Quiet      int // usual values since, and the ticks that they stand for
	QuietTicks int
}

func (e *Engine) newTrack(m Measure, g *group) *track {
	t := &track{Measure: m, metric: MetricOf(m.Metric), group: g, latest: math.NaN()}
	for i := range t.rows {
		t.rows[i] = float32(math.NaN())
	}
	if t.metric.Values > 0 {
		t.recent = newRecent()
	}
	if t.metric.Name == ErrorRate {
		t.fails = &failures{}
	}
	if t.metric.long {
		t.long = series.NewAnomalies(series.AnomalyOptions{Sensitivity: e.o.Sensitivity, Step: longTicks * e.o.Tick.Seconds()})
	}
	g.tracks = append(g.tracks, t)
	e.tracks++
	return t
}

// add takes the value of the present row, which holds for some ticks up to it and rests on some requests.
func (e *Engine) add(t *track, v float64, ticks int, requests uint64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	m := t.metric
	t.latest, t.requests, t.last, t.width = v, requests, e.row, ticks
	t.values++
	for k := range min(int64(ticks), recentTicks, e.row) {
		t.rows.put(e.row-k, v)
	}
	if t.recent == nil {
		return
	}
	if t.fails == nil {
		if !t.group.isOpen() && t.isLearning() {
			t.learn(m, e.room[:])
		}
		t.put(v)
		t.score = t.judge(v, m) - e.weekly() + math.Log10(float64(max(ticks, 1)))
		e.addLong(t, v, ticks)
	}
	e.follow(t, v, requests)
}

// addLong hands a minute's values on.
func (e *Engine) addLong(t *track, v float64, ticks int) {
	t.longAlarm = false
	if t.long == nil {
		return
	}
	t.sum += t.metric.scale.of(v)
	t.summed++
	if t.ticks += ticks; t.ticks < longTicks {
		return
	}
	t.verdict = t.long.Add(e.unix, t.sum/float64(t.summed))
	t.sum, t.summed, t.ticks = 0, 0, 0
	alarm := e.alarm()
	if t.verdict.Kind == "" {
		return // nothing is known yet
	}
	t.longAlarm = !t.longHigh && t.verdict.Score >= alarm && e.row >= e.calmUntil
	if t.longCalm++; t.verdict.Score >= alarm-1 {
		t.longCalm = 0
	}
	t.longHigh = t.longAlarm || t.longHigh && t.longCalm < longCalmLeast
}

// addFailures takes a tick's requests.
func (e *Engine) addFailures(t *track, requests, failed uint64) {
	if requests > 0 {
		v := 100 * float64(failed) / float64(requests)
		t.rows.put(e.row, v)
		t.latest = v
	}
	f := t.fails
	rarity, known := f.add(float64(requests), float64(failed), t.metric.Requests)
	if !known {
		return
	}
	t.values++
	t.last, t.width = e.row, 1
	t.score = rarity - e.weekly()
	t.requests = uint64(f.requests)
	v := 100 * f.bad / f.requests
	p := 100 * f.usual()
	if t.values <= failuresKnown {
		t.score = 0
	}
	t.put(v)
	t.usual = usual{n: t.values, typic: p, low: 0, high: p + t.metric.least(p), edge: [2]float64{p, t.metric.least(p)}}
	e.follow(t, v, uint64(f.requests))
	f.learn(t.episode != nil)
}

// follow begins, continues and ends the episode of a series.
func (e *Engine) follow(t *track, v float64, requests uint64) {
	if t.episode == nil {
		e.begins(t, v, requests)
		return
	}
	p := t.episode
	t.mark(t.number-1, t.number, true)
	s := t.metric.scale
	size := math.Abs(s.of(v) - s.of(p.Expected))
	if size <= p.Edge || !t.metric.matters(v, p.Expected) {
		p.Quiet++
		p.QuietTicks += t.width
		return
	}
	p.Quiet, p.QuietTicks = 0, 0
	p.Unusual++
	p.End = e.now
	p.Requests += requests
	p.Score = max(p.Score, t.score)
	if size >= p.Size {
		p.Size, p.Peak = size, v
	}
}

// begins begins an episode where a value is rarer than what one wants to hear of, and matters.
func (e *Engine) begins(t *track, v float64, requests uint64) {
	alarm := e.alarm()
	expected, low, high, score, byLong := t.usual.typic, t.usual.low, t.usual.high, t.score, false
	edge := t.usual.edge[0]
	if v > expected {
		edge = t.usual.edge[1]
	}
	enough := t.fails != nil || t.run >= t.metric.Values || t.metric.Values <= 2 && score >= alarm+surely
	if t.longAlarm && (score < alarm || !enough) {
		s := t.metric.scale
		expected, low, high = s.back(t.verdict.Expected), s.back(t.verdict.Low), s.back(t.verdict.High)
		score, byLong, enough = t.verdict.Score, true, true
		edge = (t.verdict.High - t.verdict.Low) / 2
		t.score = score
	}
	gross := t.fails == nil && t.exceeds() && t.metric.isGross(v, t.usual.typic)
	if gross && (score < alarm || !enough) {
		score, enough = max(score, alarm), true
	}
	if score < alarm || !enough {
		t.alarmed = t.alarmed && t.run > 0
		return
	}
	if !t.alarmed {
		e.alarms++
		if byLong {
			e.longAlarms++
		}
	}
	if s := t.metric.scale; !t.metric.matters(v, expected) || math.Abs(s.of(v)-s.of(expected)) < noiseMost*t.noise {
		if !t.alarmed {
			e.ignored++
		}
		t.alarmed = true
		return
	}
	known := float64(t.values)
	p := &episode{Start: e.now.Add(-e.o.Tick), Row: e.row, End: e.now, Expected: expected, Low: low, High: high, Edge: edge, Peak: v, Score: score,
		Unusual: 1, Requests: requests}
	p.Size = math.Abs(t.metric.scale.of(v) - t.metric.scale.of(expected))
	p.Sure = known / (known + usualSure)
	if gross && t.score < alarm {
		p.Sure *= grossSure
	}
	e.backdate(t, p)
	t.episode = p
}

// backdate moves the start to the first of the values in a row that matter.
func (e *Engine) backdate(t *track, p *episode) {
	p.First = t.number - 1
	for t.number-p.First < t.run && p.First > 0 {
		v := float64(t.recent.values[(p.First-1)%recentTicks])
		if !t.metric.matters(v, p.Expected) {
			break
		}
		p.First--
		p.Row--
		p.Start = p.Start.Add(-e.o.Tick)
		p.Unusual++
	}
	t.mark(p.First, t.number, true)
}

// confidence is the part of such that are none by chance, if there is a real one each week, and little is known with a short past.
func (p *episode) confidence() float64 { return p.Sure / (1 + math.Pow(10, -p.Score)) }

// over tells that an episode has ended.
func (p *episode) over() bool { return p.Quiet >= quietLeast && p.QuietTicks >= quietTicks }
