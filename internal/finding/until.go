package finding

import (
	"math"
	"slices"
	"time"

	"github.com/perfagent/perfagent/internal/series"
)

const (
	// foreseenTimes is how many times as far as a series reaches back it is foreseen. More is a guess.
	foreseenTimes = 4
	// foreseenRows is how many values a series needs to be foreseen.
	foreseenRows = 24
	// foreseenMax bounds the series of one question, at some milliseconds each.
	foreseenMax = 32
	// fullAt is what use in percent is meant by full.
	fullAt = 100
)

// Names of limits.
const (
	limitObjective  = "its objective"
	limitMemory     = "its memory limit"
	limitHostMemory = "the end of the host's memory"
	limitDisk       = "the end of the space"
	limitSaturation = "its capacity"
)

// Foreseen is a series that goes towards a limit though nothing of it is unusual yet.
type Foreseen struct {
	Measure
	Unit    string  `json:"unit"`
	Latest  float64 `json:"latest"`
	Until   Until   `json:"until"`
	Summary string  `json:"summary"`
}

// limitOf returns the value that a measure should not reach, and how it is called; "" for none.
func limitOf(m *Measure, around *Surroundings) (limit float64, name string) {
	switch m.Metric {
	case MemoryLimitUsage:
		return fullAt, limitMemory
	case MemoryUsage:
		return fullAt, limitHostMemory
	case DiskSpaceUsed:
		return fullAt, limitDisk
	case SaturationUsed:
		return fullAt, limitSaturation
	case ResponseTime, ResponseTimeP95:
		if around != nil && around.Objective != nil && m.Role != "client" {
			return around.Objective(&m.Subject), limitObjective
		}
	}
	return 0, ""
}

// until tells when an open finding reaches a limit; nil where it does not, or has. Of a service's memory it is the limit of its control
// group.
func (s *situation) until() *Until {
	own := s.measured(s.finding.Measure)
	limit, name := limitOf(&s.finding.Measure, s.evidence.Surroundings)
	if s.finding.Metric == MemoryResident {
		of := Measure{MemoryLimitUsage, s.finding.Subject}
		if i := slices.IndexFunc(s.evidence.All, func(m Measured) bool { return m.Measure == of }); i >= 0 {
			own, limit, name = &s.evidence.All[i], fullAt, limitMemory
		}
	}
	if own == nil || s.finding.End != nil || !(limit > 0) {
		return nil
	}
	return foresee(own.Values[:min(len(own.Values), s.to)], limit, name, s.evidence.From, s.evidence.Step)
}

// Foresee tells which resources go towards a limit, by the past of their series, the earliest first. It takes some milliseconds a series
// that rises; others cost nothing.
func Foresee(e *Evidence) []Foreseen {
	var all []Foreseen
	asked := 0
	for i := range e.All {
		m := &e.All[i]
		limit, name := limitOf(&m.Measure, nil)
		if name == "" || !rises(m.Values) || asked >= foreseenMax {
			continue
		}
		asked++
		if u := foresee(m.Values, limit, name, e.From, e.Step); u != nil {
			latest := float64(m.Values[len(m.Values)-1])
			f := Foreseen{Measure: m.Measure, Unit: MetricOf(m.Metric).Unit, Latest: latest, Until: *u}
			f.Summary = upper(MetricOf(m.Metric).Words) + " of " + m.said() + " rises (" + quantity(latest, f.Unit) + "), and reaches " + name + " at about " +
				clock(u.Likely) + " if it goes on like this."
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b Foreseen) int { return a.Until.Likely.Compare(b.Until.Likely) })
	return all
}

// rises tells by a look whether a series may go anywhere: whether its last quarter is above the first one.
func rises(values []float32) bool {
	if len(values) < foreseenRows {
		return false
	}
	quarter := len(values) / 4
	return level(wide(values[len(values)-quarter:])) > level(wide(values[:quarter]))
}

func wide(values []float32) []float64 {
	rows := make([]float64, len(values))
	for i, v := range values {
		rows[i] = float64(v)
	}
	return rows
}

// foresee tells when a rising series reaches a limit. It must rise beyond chance, and be expected there within four times its own
// length.
func foresee(values []float32, limit float64, name string, from time.Time, step time.Duration) *Until {
	y := wide(values)
	latest := math.NaN()
	for _, v := range y {
		if !math.IsNaN(v) {
			latest = v
		}
	}
	if len(y) < foreseenRows || !(latest < limit) || !rises(values) || series.FindTrend(y).Direction != series.Rising {
		return nil
	}
	crossing := series.MakeForecast(y, series.ForecastOptions{Horizon: foreseenTimes * len(y)}).Until(limit, false)
	if crossing.Likely == 0 {
		return nil
	}
	at := func(steps int) time.Time { return from.Add(time.Duration(len(y)+steps) * step) }
	u := &Until{Limit: name, Likely: at(crossing.Likely), Earliest: at(crossing.Likely)}
	if crossing.Earliest > 0 {
		u.Earliest = at(crossing.Earliest)
	}
	if crossing.Latest > 0 {
		last := at(crossing.Latest)
		u.Latest = &last
	}
	return u
}

// MayBeForeseen tells whether a measure has a limit towards which it may go: what Foresee is to be asked about.
func MayBeForeseen(m *Measure) bool {
	_, name := limitOf(m, nil)
	return name != ""
}
