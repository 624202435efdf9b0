package web

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/series"
)

// unitWords are what people call the units.
var unitWords = map[string]string{millisecondUnit: " ms", rateUnit: " requests a second", percentUnit: " %",
	megabyteUnit: " MB", transferUnit: " MB a second", secondUnit: " a second"}

// metricWords are what people call metrics whose names do not say it.
var metricWords = map[string]string{
	"error_rate": "share of failures", "in_flight": "requests in progress", "cpu_usage": "use of processors",
	"memory_usage": "use of memory", "memory_limit_usage": "use of the memory limit", "swap_usage": "use of swap",
	"disk_space_used": "use of the fullest disk", "disk_utilisation": "use of the busiest disk", "disk_read": "reading from disks",
	"disk_write": "writing to disks", "network_receive": "receiving", "network_transmit": "sending",
	"retransmits": "TCP retransmits", "pressure_cpu": "waiting for processors", "pressure_memory": "waiting for memory",
	"pressure_io": "waiting for disks", "cpu_throttling": "CPU throttling", "open_files_usage": "use of the limit of open files",
	"query": "value",
}

func metricText(name string) string {
	if words, known := metricWords[name]; known {
		return words
	}
	return strings.ReplaceAll(name, "_", " ")
}

func (t *teller) value(v float64) string {
	if t.unit == millisecondUnit {
		return timeText(v)
	}
	return series.NumberText(v) + unitWords[t.unit]
}

// levelLeast is what a level is at least that is told from nothing.
const levelLeast = 1e-9

// level is one that was fitted, in which what cannot be below nothing may be a little: all but the values of an expression.
func (t *teller) level(v float64) float64 {
	if math.Abs(v) < levelLeast || v < 0 && t.q.expr == "" {
		return 0
	}
	return v
}

// between is a range of values, whose unit is said once where both have it.
func (t *teller) between(low, high float64) string {
	if t.unit == millisecondUnit && (low < 1000) != (high < 1000) {
		return t.value(low) + " and " + t.value(high)
	}
	if t.unit == millisecondUnit && low >= 1000 {
		low /= 1000
	}
	return series.NumberText(low) + " and " + t.value(high)
}

// timeText is a time in milliseconds as people say it.
func timeText(ms float64) string {
	if math.Abs(ms) >= 1000 {
		return series.NumberText(ms/1000) + " s"
	}
	return series.NumberText(ms) + " ms"
}

// confidenceText never says that something is certain.
func confidenceText(confidence float64) string {
	if percent := math.Floor(100 * confidence); percent <= 99 {
		return fmt.Sprintf("confidence %.0f %%", percent)
	}
	return "confidence over 99 %"
}

// windowText is the window, behind "over the" and "in the".
func windowText(q *analysisQuestion) string {
	switch window := q.to.Sub(q.from); window {
	case time.Hour:
		return "hour"
	case day:
		return "day"
	case 7 * day:
		return "week"
	default:
		return series.SpanText(window)
	}
}

// momentText is a time of the window.
func (t *teller) momentText(at time.Time) string { return at.UTC().Format("2 January 15:04 UTC") }

// slopeText is a slope per hour, or per day where the window has two of them, with its interval.
func (t *teller) slopeText(f *series.Trend) string {
	factor, per := t.hourly(1), "an hour"
	if t.q.to.Sub(t.q.from) >= 2*day {
		factor, per = 24*factor, "a day"
	}
	return fmt.Sprintf("%s %s, %s to %s", t.value(f.Slope*factor), per, series.NumberText(f.SlopeLow*factor), series.NumberText(f.SlopeHigh*factor))
}

// percentTextMax is from how much on a change is said in its own unit: 40 times of next to nothing says nothing.
const percentTextMax = 1000

// changeOf says how much a level changed: in percent, unless it is in percent itself or the level is next to nothing.
func (t *teller) changeOf(change, level float64) string {
	if percent := 100 * math.Abs(change) / level; level > 0 && percent < percentTextMax && t.unit != percentUnit {
		return series.NumberText(percent) + " %"
	}
	if t.unit == percentUnit {
		return series.NumberText(math.Abs(change)) + " percentage points"
	}
	return t.value(math.Abs(change))
}

func (t *teller) trendText(f *series.Trend, change float64) string {
	if f.Direction == series.Steady {
		return "no trend beyond chance (" + series.ProbabilityText(f.P) + ")"
	}
	verb := map[series.Direction]string{series.Rising: "rose", series.Falling: "fell"}[f.Direction]
	return fmt.Sprintf("%s by %s over the %s (%s); chance explains it with %s, the line %.0f %% of the variance", verb, t.changeOf(change, f.Level),
		windowText(t.q), t.slopeText(f), series.ProbabilityText(f.P), 100*f.R2)
}

func (t *teller) changeText(j *changeJSON, c *series.Change) string {
	text := fmt.Sprintf("on %s from %s to %s", t.momentText(j.Time), t.value(t.level(c.Before)), t.value(t.level(c.After)))
	if j.ChangePercent != nil && math.Abs(*j.ChangePercent) < percentTextMax && t.unit != percentUnit {
		text += fmt.Sprintf(" (%s%s %%)", map[bool]string{true: "+"}[*j.ChangePercent >= 0], series.NumberText(*j.ChangePercent))
	}
	return text + ", " + confidenceText(c.Confidence)
}

func (t *teller) forecastText(end series.ForecastValue, season float64) string {
	text := fmt.Sprintf("expected %s in %s", t.value(end.Mean), series.SpanText(t.horizon()))
	if end.Low < end.High {
		text += fmt.Sprintf(", between %s with 95 %%", t.between(end.Low, end.High))
	}
	if season > 0 {
		text += "; days are taken to repeat themselves"
	}
	return text
}

// horizon is how far ahead a forecast looks.
func (t *teller) horizon() time.Duration {
	return time.Duration(max(t.q.steps()/forecastShare, 1)) * t.q.step
}

func (t *teller) limitText(j *limitJSON, l analysisLimit, steps int) string {
	what := fmt.Sprintf("%s (%s)", l.name, t.value(l.value))
	within := series.SpanText(time.Duration(steps) * t.q.step)
	switch {
	case j.Reached:
		return what + " is reached"
	case j.Earliest == nil:
		return what + " is not reached within " + within
	case j.Likely == nil:
		return fmt.Sprintf("%s is not expected within %s, at the earliest on %s", what, within, t.momentText(*j.Earliest))
	}
	latest := "perhaps not within " + within
	if j.Latest != nil {
		latest = "at the latest on " + t.momentText(*j.Latest)
	}
	return fmt.Sprintf("%s is likely reached on %s, at the earliest on %s, %s", what, t.momentText(*j.Likely), t.momentText(*j.Earliest), latest)
}

// subjectText names whom a figure is of, where it is not of whom was asked for.
func subjectText(s, asked *finding.Subject) string {
	switch {
	case *s == *asked:
		return ""
	case *s == finding.Subject{}:
		return " of the host"
	case s.Route == "" && s.Method == "" && s.Role == "":
		return " of " + s.Service
	}
	return ""
}

func correlationText(j *correlationJSON, coefficient float64, m *measured) string {
	if j.Relationship == series.Unrelated {
		return ""
	}
	with := map[series.Relationship]string{series.Positive: "moves with", series.Negative: "moves against"}[j.Relationship]
	text := fmt.Sprintf("%s %s %s%s (%s, %.2f, q %s)", metricText(m.name), with, metricText(j.Metric),
		subjectText(&j.Subject, &m.Subject), j.Strength, coefficient,
		strings.TrimPrefix(strings.TrimPrefix(series.ProbabilityText(j.Q), "p "), "p"))
	if lag := time.Duration(j.LagSeconds) * time.Second; lag > 0 {
		text += ", " + series.SpanText(lag) + " later"
	} else if lag < 0 {
		text += ", " + series.SpanText(-lag) + " before it"
	}
	if j.HeldConstant != "" {
		text += ", apart from what both owe to the " + j.HeldConstant
	}
	return text
}

// changeSureFrom is the confidence from which on a change is told in a headline; those of less are in the list.
const changeSureFrom = 0.5

// ordinal writes a percentile: 95th, 50th, 99.9th.
func ordinal(p float64) string {
	text := series.NumberText(p)
	if strings.Contains(text, ".") || len(text) == 2 && text[0] == '1' {
		return text + "th"
	}
	switch text[len(text)-1] {
	case '1':
		return text + "st"
	case '2':
		return text + "nd"
	case '3':
		return text + "rd"
	}
	return text + "th"
}

// headline is the metric in one sentence, after which the statistics have theirs.
func (a *metricAnalysisJSON) headline(m *measured, q *analysisQuestion) string {
	t := teller{q: q, unit: a.Unit}
	name := metricText(m.name)
	if a.Percentile != nil {
		name = ordinal(*a.Percentile) + " percentile of the " + name
	}
	if a.Device != "" {
		name += " " + a.Device
	}
	s := &a.Statistics
	if s.Values == 0 {
		return name + ": " + a.Unknown
	}
	if s.Summary = "always " + t.value(*s.Median); *s.Min < *s.Max {
		s.Summary = fmt.Sprintf("median %s, between %s", t.value(*s.Median), t.between(*s.Min, *s.Max))
	}
	if s.Requests != nil {
		s.Summary += fmt.Sprintf("; %d requests", *s.Requests)
	}
	if s.Few {
		s.Summary += fmt.Sprintf(", only %s in the median step of %s", series.NumberText(*s.RequestsAStep), series.SpanText(q.step))
	}
	rest := a.Unknown
	if a.Trend != nil {
		rest = a.Trend.Summary
	}
	for i := len(a.Changes) - 1; i >= 0; i-- {
		if c := &a.Changes[i]; c.Confidence == nil || *c.Confidence >= changeSureFrom {
			rest += "; changed " + c.Summary
			break
		}
	}
	return fmt.Sprintf("%s: %s; %s", name, s.Summary, rest)
}
