package top

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/finding"
)

// detailLines is all that is known of the row that was chosen.
func (m *model) detailLines() []string {
	r := m.lastRow
	lines := []string{""}
	if r.problem != nil {
		lines = append(lines, m.problemLines(r.problem)...)
	} else {
		lines = append(lines, m.entryLines(r)...)
	}
	if !slices.ContainsFunc(m.rows, func(x row) bool { return x.key == r.key }) {
		gone := "It is not in the table any more: these are the figures that it had last."
		return append([]string{lines[0]}, append(m.wrapped(gone), lines[1:]...)...)
	}
	return lines
}

// wrapped breaks text of the agent into lines.
func (m *model) wrapped(text string) []string { return wrap(inert(text), m.width) }

func (m *model) field(name, value string) []string {
	if value == "" {
		return nil
	}
	return wrapHanging(name+"\t"+value, m.width)
}

func (m *model) title(text string) string { return m.colour.render(styleTitle, text) }

func (m *model) entryLines(r *row) []string {
	e := r.entry
	heading := strings.TrimSpace(inert(e.Method) + " " + inert(e.name()))
	if e.Route != "" {
		heading += " of " + inert(e.service())
	} else if e.Address != "" {
		heading = inert(e.service()) + " calls " + heading
	}
	var lines []string
	for _, line := range wrap(heading, m.width) {
		lines = append(lines, m.title(line))
	}
	lines = append(lines, m.field("requests", fmt.Sprintf("%d in %s, %s a second", e.Exchanges, covered(m.sample.Window), number(e.ThroughputRPS)))...)
	lines = append(lines, m.field("failed", fmt.Sprintf("%d (%s %%), of them timeouts %d", e.Failures, percent(e.ErrorRatePercent), e.Timeouts))...)
	lines = append(lines, m.field("time", fmt.Sprintf("p50 %s, p95 %s, p99 %s, mean %s", milliseconds(e.ResponseTime.P50), milliseconds(e.ResponseTime.P95),
		milliseconds(e.ResponseTime.P99), milliseconds(e.ResponseTime.Average)))...)
	lines = append(lines, m.field("level", levelText(e))...)
	lines = append(lines, m.field("phases", phasesText(e, m.sample))...)
	lines = append(lines, m.phaseBar(e)...)
	lines = append(lines, m.field("statuses", statusText(e, m.sample))...)
	lines = append(lines, m.field("in flight", inFlightText(e))...)
	lines = append(lines, m.field("bodies", bodiesText(e))...)
	lines = append(lines, m.graphs(m.past[r.key])...)
	lines = append(lines, m.serviceLines(e)...)
	return append(lines, m.relatedLines(e)...)
}

func levelText(e *entry) string {
	if e.Levels == nil {
		if e.Address != "" {
			return ""
		}
		return e.Level.String()
	}
	return fmt.Sprintf("response time %s; errors %s", reasoned(e.Levels.ResponseTime, e.Levels.ResponseTimeUnknown),
		reasoned(e.Levels.ErrorRate, e.Levels.ErrorRateUnknown))
}

func reasoned(l *level, unknown string) string {
	if l == nil && unknown != "" {
		return "not judged (" + inert(unknown) + ")"
	}
	return l.String()
}

func phasesText(e *entry, s *sample) string {
	p := e.Phases
	switch {
	case e.Route == "":
		return ""
	case p == nil && s.extra != nil && s.extra.why != "":
		return "not known: " + inert(s.extra.why)
	case p == nil:
		return "not known yet"
	}
	return fmt.Sprintf("queue %s %%, processing %s %%, transfer %s %%", percent(p.Queue), percent(p.Processing), percent(p.Transfer))
}

// phaseBar draws the shares of the phases on one line.
func (m *model) phaseBar(e *entry) []string {
	if e.Phases == nil {
		return nil
	}
	columns := min(m.width-20, 60)
	bar, done := "", 0.
	for i, v := range []*float64{e.Phases.Queue, e.Phases.Processing, e.Phases.Transfer} {
		if v == nil {
			continue
		}
		from := int(math.Round(done / 100 * float64(columns)))
		done += *v
		bar += strings.Repeat(string(m.glyphs.bars[i]), max(int(math.Round(done/100*float64(columns)))-from, 0))
	}
	return []string{pad("", 18, false) + clip(bar, columns)}
}

func statusText(e *entry, s *sample) string {
	switch {
	case e.Route == "":
		return ""
	case e.Statuses == nil && s.extra != nil && s.extra.why != "":
		return "not known: " + inert(s.extra.why)
	case e.Statuses == nil:
		return "not known yet"
	}
	var parts []string
	for _, name := range statusNames {
		if v, ok := e.Statuses.Percent[name]; ok {
			parts = append(parts, name+" "+percent(&v)+" %")
		}
	}
	return strings.Join(parts, ", ")
}

func inFlightText(e *entry) string {
	mean := e.InFlightMean
	if e.Concurrency != nil {
		mean = e.Concurrency.InFlightMean
	}
	if mean == nil {
		return ""
	}
	text := number(mean) + " on average"
	if e.Concurrency != nil && e.Concurrency.Active != nil {
		text += fmt.Sprintf(", %d now", *e.Concurrency.Active)
	}
	return text
}

func bodiesText(e *entry) string {
	if e.RequestSizeMean == nil && e.ResponseSizeMean == nil {
		return ""
	}
	return fmt.Sprintf("requests %s, responses %s on average", bytesText(e.RequestSizeMean), bytesText(e.ResponseSizeMean))
}

// graphs are what was collected since top runs, the latest on the right.
func (m *model) graphs(p *past) []string {
	if p == nil {
		return nil
	}
	columns := min(m.width-44, pointsMax)
	title := "From now on, a point each tick"
	if n := len(p.rate) - 1; n > 0 {
		title = fmt.Sprintf("The last %s, a point each tick", span(time.Duration(n)*m.tickLength()))
	}
	lines := []string{"", m.title(title)}
	for _, g := range []struct {
		name   string
		points []float64
		text   func(*float64) string
	}{{"requests/s", p.rate, number}, {"p99", p.p99, milliseconds}, {"errors %", p.errors, percent}} {
		low, high, last := bounds(g.points)
		lines = append(lines, fmt.Sprintf("  %-11s %s %s  now %s, %s to %s", g.name, m.glyphs.sparkline(g.points, columns), trend(g.points, m.glyphs),
			g.text(last), g.text(low), g.text(high)))
	}
	for i := range lines {
		if i > 1 {
			lines[i] = clip(lines[i], m.width)
		}
	}
	return lines
}

// tickLength is the agent's.
func (m *model) tickLength() time.Duration { return 10 * time.Second }

// bounds are the least, the largest and the latest of the points that are known; nil: none is.
func bounds(points []float64) (low, high, last *float64) {
	for _, v := range points {
		if math.IsNaN(v) {
			last = nil
			continue
		}
		if low == nil || v < *low {
			low = &v
		}
		if high == nil || v > *high {
			high = &v
		}
		last = &v
	}
	return low, high, last
}

// serviceLines are the resources of the entry's service.
func (m *model) serviceLines(e *entry) []string {
	i := slices.IndexFunc(m.sample.Services, func(s entry) bool { return s.Service == e.Service && s.Namespace == e.Namespace })
	if i < 0 {
		return nil
	}
	s := &m.sample.Services[i]
	lines := []string{"", m.title("Service " + clip(inert(s.service()), m.width-8))}
	if r := s.Resources; r != nil {
		var parts []string
		for _, x := range []struct {
			name string
			v    *float64
			text func(*float64) string
			unit string
		}{{"processors", r.CPUPercent, percent, " % of one"}, {"throttled", r.CPUThrottledPercent, percent, " %"}, {"memory", r.MemoryResidentMB, number, " MB"},
			{"of its limit", r.MemoryLimitUsedPercent, percent, " %"}, {"threads", r.Threads, count, ""}, {"open files", r.OpenFiles, count, ""},
			{"of their limit", r.OpenFilesUsedPercent, percent, " %"}, {"disk read", r.DiskReadMBPerSecond, number, " MB/s"},
			{"written", r.DiskWriteMBPerSecond, number, " MB/s"}} {
			if x.v != nil {
				parts = append(parts, x.name+" "+x.text(x.v)+x.unit)
			}
		}
		if r.Processes != nil {
			parts = append(parts, fmt.Sprintf("processes %d", *r.Processes))
		}
		lines = append(lines, m.field("resources", strings.Join(parts, ", "))...)
	} else {
		lines = append(lines, m.field("resources", "not known")...)
	}
	if c := s.Saturation; c != nil {
		lines = append(lines, m.field("capacity", fmt.Sprintf("%s requests/s (an estimate by %s), left %s %%", number(c.CapacityRPS), inert(c.Method), percent(c.CapacityLeftPercent)))...)
	}
	return lines
}

// relatedLines are the problems of the entry, with their probable causes.
func (m *model) relatedLines(e *entry) (lines []string) {
	where := strings.TrimSpace(e.Method + " " + cmp.Or(e.Route, e.target()))
	for _, r := range problemRows(m.sample) {
		p := r.problem
		if p.Service != e.Service || p.Where != "" && where != "" && p.Where != where && !strings.HasSuffix(p.Where, e.name()) {
			continue
		}
		lines = append(lines, "")
		lines = append(lines, m.problemLines(p)...)
	}
	return lines
}

func (m *model) problemLines(p *problem) []string {
	heading := strings.Join([]string{strings.TrimSpace(inert(p.State) + " " + p.Kind), inert(p.Name), "(" + inert(p.Severity) + ")"}, " ")
	lines := []string{m.colour.render(severityStyle(p.Severity), clip(heading, m.width))}
	lines = append(lines, m.wrapped(p.Summary)...)
	lines = append(lines, m.wrapped(p.Details)...)
	lines = append(lines, m.field("service", inert(p.Service))...)
	lines = append(lines, m.field("where", inert(p.Where))...)
	if p.Since != nil {
		lines = append(lines, m.field("since", p.Since.Local().Format("2006-01-02 15:04:05")+", "+span(m.sample.at.Sub(*p.Since)))...)
	}
	if p.Finding != nil {
		lines = append(lines, m.findingLines(p.Finding)...)
	}
	for i, step := range p.Steps {
		lines = append(lines, m.field([]string{"next step", ""}[min(i, 1)], inert(step))...)
	}
	return lines
}

func (m *model) findingLines(f *finding.Finding) (lines []string) {
	expected, latest, peak := f.Expected, f.Latest, f.Peak
	lines = append(lines, m.field("measured", fmt.Sprintf("%s now, %s at most, %s expected (%s)", number(&latest), number(&peak), number(&expected), inert(f.Unit)))...)
	for _, p := range f.Phases {
		before, after, share := p.BeforeMS, p.AfterMS, p.SharePercent
		lines = append(lines, m.field("phase", fmt.Sprintf("%s: %s before, %s since, %s %% of the effect", inert(p.Phase), milliseconds(&before), milliseconds(&after), percent(&share)))...)
	}
	for _, c := range f.Causes {
		confidence := 100 * c.Confidence
		lines = append(lines, m.field("probable cause", fmt.Sprintf("%s (confidence %s %%)", inert(c.Summary), percent(&confidence)))...)
	}
	return lines
}
