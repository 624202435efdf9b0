package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/perfagent/perfagent/internal/series"
)

// alike is the change, in percent, that nobody would call one.
const alike = 5

func momentText(t time.Time) string { return t.UTC().Format("2 January 15:04 UTC") }

// lengthText is the range, behind "in the".
func (s Span) lengthText() string {
	switch s.length() {
	case time.Hour:
		return "hour"
	case day:
		return "day"
	case 7 * day:
		return "week"
	}
	return series.SpanText(s.length())
}

// summary is the report in three to six sentences.
func (m *maker) summary() []string {
	r := m.r
	var all []string
	if r.Coverage.CountedSeconds == 0 {
		return []string{fmt.Sprintf("The agent counted nothing in this range: it did not run then, or its history does not reach back to %s.", momentText(r.From)),
			"So nothing is known of response times, failures and resources.", m.incidentSentence()}
	}
	all = append(all, m.speedSentence())
	if s := m.changeSentence(); s != "" {
		all = append(all, s)
	}
	all = append(all, m.reliabilitySentence(), m.incidentSentence(), m.aheadSentence())
	if r.Coverage.SharePercent < 99 {
		all = append(all, fmt.Sprintf("The agent counted during %s %% of the range only; of the rest nothing is known.", series.NumberText(r.Coverage.SharePercent)))
	}
	return all
}

func (m *maker) speedSentence() string {
	f := &m.r.Traffic
	if f.Requests == 0 {
		return fmt.Sprintf("No request to a service of this host was seen in the %s.", m.span.lengthText())
	}
	if f.P50 == nil {
		return fmt.Sprintf("Of %s requests none has a response time.", countText(f.Requests))
	}
	return fmt.Sprintf("In the %s %s were answered, half of them within %s, 95 of 100 within %s and 99 of 100 within %s.", m.span.lengthText(),
		plural(f.Requests, "request"), timeText(*f.P50), timeText(*f.P95), timeText(*f.P99))
}

// changeSentence compares with the range before.
func (m *maker) changeSentence() string {
	is, was := &m.r.Traffic, m.r.Before
	switch {
	case is.P95 == nil:
		return ""
	case m.beforeUnread:
		return fmt.Sprintf("That is not compared with the %s before, of which there is too much to read.", m.span.lengthText())
	case was == nil:
		return fmt.Sprintf("There is nothing to compare that with: the agent counted less than half of the %s before.", m.span.lengthText())
	case was.P95 == nil:
		return fmt.Sprintf("In the %s before there was no request.", m.span.lengthText())
	}
	speed := "about as fast as"
	for _, c := range []struct {
		share   string
		is, was float64
		least   float64
	}{{"95 of 100", *is.P95, *was.P95, alike}, {"half", *is.P50, *was.P50, 2 * alike}} {
		if change := 100 * (c.is/c.was - 1); math.Abs(change) > c.least {
			speed = fmt.Sprintf("%s (%s within %s before) than", map[bool]string{true: "slower", false: "faster"}[change > 0], c.share, timeText(c.was))
			break
		}
	}
	load := "with about as many requests"
	if *was.RPS > 0 {
		if change := 100 * (*is.RPS/(*was.RPS) - 1); math.Abs(change) > alike {
			word := "more"
			if change < 0 {
				word = "fewer"
			}
			load = fmt.Sprintf("with %s %% %s requests", series.NumberText(math.Round(math.Abs(change))), word)
			if math.Abs(change) > 1000 {
				load = fmt.Sprintf("with %s times as many requests", series.NumberText(*is.RPS / *was.RPS))
			}
		}
	}
	return fmt.Sprintf("That is %s in the %s before, %s a second.", speed, m.span.lengthText(), load)
}

func (m *maker) reliabilitySentence() string {
	f, text := &m.r.Traffic, ""
	switch {
	case f.Requests == 0:
		text = "So nothing is known of how reliable the services are"
	case f.Failures == 0:
		text = "No request failed"
	default:
		text = fmt.Sprintf("%s failed (%s %%)", plural(f.Failures, "request"), series.NumberText(*f.ErrorPercent))
		if e := m.r.Failing; len(e) > 0 {
			part := "most of them"
			switch worst := e[0].Failures; {
			case worst == f.Failures:
				part = "all of them"
			case worst*2 <= f.Failures:
				part = "the largest part"
			}
			text += fmt.Sprintf(", %s at %s of %s", part, strings.TrimSpace(e[0].Method+" "+e[0].Route), e[0].Service)
		}
	}
	if was := m.r.Before; was != nil && was.ErrorPercent != nil && f.Requests > 0 {
		text += fmt.Sprintf("; before it was %s %%", series.NumberText(*was.ErrorPercent))
	}
	known, used := 0, []string{}
	for i := range m.r.Objectives {
		if o := &m.r.Objectives[i]; o.LeftPercent != nil {
			if known++; *o.LeftPercent <= 0 {
				used = append(used, strings.TrimSpace(o.Service+" "+o.Route)+" ("+o.Kind+")")
			}
		}
	}
	switch {
	case len(used) > 0:
		text += fmt.Sprintf("; without error budget left are %d of %d objectives: %s", len(used), known, listText(used))
	case known > 0:
		text += fmt.Sprintf("; objectives with error budget left: %d of %d", known, known)
	}
	return text + "."
}

func (m *maker) incidentSentence() string {
	r := m.r
	serious := 0
	for i := range r.Incidents {
		if s := r.Incidents[i].Severity; slices.Index(severities, s) > 1 {
			serious++
		}
	}
	switch {
	case r.IncidentsTotal == 0 && (r.IncidentsUnknown != "" || len(m.o.Sources) == 0):
		return "What went wrong could not be asked."
	case r.IncidentsTotal == 0:
		return "No incident is known in this range."
	}
	worst := &r.Incidents[0]
	text := plural(uint64(r.IncidentsTotal), "incident") + " in this range"
	if r.IncidentsTotal > 1 {
		text += fmt.Sprintf(", %d of them serious, the worst", serious)
	}
	text += ": " + strings.TrimRight(worst.Summary, ". ")
	if len(worst.Causes) > 0 {
		text += "; probably because of this: " + strings.TrimRight(worst.Causes[0].Summary, ". ")
	}
	return text + "."
}

// aheadSentence is about what is about to happen.
func (m *maker) aheadSentence() string {
	var all []string
	for i := range m.r.Trends {
		for _, l := range m.r.Trends[i].Limits {
			if l.Reached || l.Likely != nil {
				all = append(all, m.r.Trends[i].Name+": "+l.Summary)
			}
		}
	}
	for i := range m.r.Incidents {
		if in := &m.r.Incidents[i]; in.End == nil && in.Foreseen != "" {
			all = append(all, in.Subject+": "+in.Foreseen)
		}
	}
	if len(all) == 0 && !slices.ContainsFunc(m.r.Trends, func(t Metric) bool { return t.Forecast != "" }) {
		return "What is about to happen is not known: nothing could be forecast."
	}
	if len(all) == 0 {
		return "As far as the trends tell, no limit of the host is reached soon."
	}
	return "Ahead: " + listText(all) + "."
}

// listText is a list for a sentence, its first three elements.
func listText(all []string) string {
	text := strings.Join(all[:min(len(all), 3)], ", ")
	if n := len(all) - 3; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

func countText(n uint64) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func plural(n uint64, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return countText(n) + " " + word + "s"
}

// timeText is a response time in ms as people say it.
func timeText(ms float64) string {
	switch {
	case ms >= 1000:
		return series.NumberText(ms/1000) + " s"
	case ms < 1:
		return series.NumberText(ms*1000) + " µs"
	}
	return series.NumberText(ms) + " ms"
}

// clean makes one line of text that shows as what it is: control characters and those that turn the direction of text are replaced.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
