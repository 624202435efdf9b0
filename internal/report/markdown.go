package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/series"
)

// markdown is the report in GitHub's Markdown, which plain Markdown's readers show as well but for tables.
func (r *Report) markdown() string {
	m := &marker{}
	m.line("# %s", marked(r.Title))
	m.line("%s to %s (%s), made %s by perfagent %s", full(r.From), full(r.To), series.SpanText(r.To.Sub(r.From)), full(r.Generated), marked(r.Version))
	for _, s := range r.Summary {
		m.item("%s", marked(s))
	}
	m.line("")
	m.figures(r)
	m.incidents(r)
	m.objectives(r)
	m.services(r)
	m.line("## Endpoints")
	m.endpoints("Slowest", "By the 95th percentile, of those with 60 requests or more", r.SlowestTotal, r.Slowest)
	m.endpoints("Most failures", "By the number of failures", r.FailingTotal, r.Failing)
	m.endpoints("Most time", "By the time that their requests took in all", r.EndpointsTotal, r.Busiest)
	m.trends(r)
	m.resources(r)
	m.unseen(r)
	return m.b.String()
}

func full(t time.Time) string { return t.UTC().Format("2 January 2006 15:04 UTC") }

// marker writes Markdown.
type marker struct{ b strings.Builder }

func (m *marker) line(format string, values ...any) { fmt.Fprintf(&m.b, format+"\n\n", values...) }
func (m *marker) item(format string, values ...any) { fmt.Fprintf(&m.b, "- "+format+"\n", values...) }

func (m *marker) row(cells ...string) { m.b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }

// head writes the head of a table, whose first columns are of text.
func (m *marker) head(texts int, cells ...string) {
	m.row(cells...)
	for i := range cells {
		m.b.WriteString(map[bool]string{true: "|---", false: "|---:"}[i < texts])
	}
	m.b.WriteString("|\n")
}

var markdownSpecial = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "|", `\|`,
	"~", `\~`, "!", `\!`, "@", `\@`, "#", `\#`, "://", `\://`, "www.", `www\.`, "$", `\$`)

// marked makes text show as it is: no mark-up, no HTML, no link.
func marked(text string) string { return markdownSpecial.Replace(clean(text)) }

// code makes a name show as it is, as code; in a table, whose cells a bar would end.
func code(parts ...string) string {
	text := strings.TrimSpace(clean(strings.Join(parts, " ")))
	if text == "" {
		return ""
	}
	return "`" + strings.NewReplacer("`", "'", "|", `\|`).Replace(text) + "`"
}

func (m *marker) figures(r *Report) {
	m.head(1, "", "Requests", "Per s", "p50", "p95", "p99", "Failed", "%")
	m.row(append([]string{"this range"}, figureCells(&r.Traffic)...)...)
	if r.Before != nil {
		m.row(append([]string{"before"}, figureCells(r.Before)...)...)
	}
	m.line("")
}

func figureCells(f *Figures) []string {
	return []string{countText(f.Requests), number(f.RPS), milliseconds(f.P50), milliseconds(f.P95), milliseconds(f.P99), countText(f.Failures), number(f.ErrorPercent)}
}

func (m *marker) incidents(r *Report) {
	m.line("## Incidents")
	if r.IncidentsUnknown != "" {
		m.line("Not all could be asked: %s", marked(r.IncidentsUnknown))
	}
	for i := range r.Incidents {
		in := &r.Incidents[i]
		m.item("**%s**, %s, %s%s (%s): %s", in.Severity, code(in.Subject), full(in.Start), untilText(in.End), in.Kind, marked(in.Summary))
		for _, c := range in.Causes {
			m.b.WriteString(fmt.Sprintf("  - probably because of: %s (%.0f %% sure)\n", marked(c.Summary), 100*c.Confidence))
		}
		for _, s := range in.NextSteps {
			m.b.WriteString("  - next: " + marked(s) + "\n")
		}
		if in.Foreseen != "" {
			m.b.WriteString("  - if it goes on: " + marked(in.Foreseen) + "\n")
		}
	}
	if len(r.Incidents) == 0 {
		m.b.WriteString("None is known.\n")
	}
	m.rest(r.IncidentsTotal-len(r.Incidents), "incidents")
	m.line("")
}

// rest counts what a list lacks.
func (m *marker) rest(n int, what string) {
	if n > 0 {
		fmt.Fprintf(&m.b, "\nNot listed: %d more %s.\n", n, what)
	}
}

func (m *marker) objectives(r *Report) {
	m.line("## Objectives")
	switch {
	case r.ObjectivesUnknown != "":
		m.line("Not known: %s.", marked(r.ObjectivesUnknown))
		return
	case len(r.Objectives) == 0:
		m.line("None is set.")
		return
	}
	m.line("Error budgets as they are now, not at the end of the range.")
	m.head(2, "Service and route", "Objective", "Days", "Budget left, %")
	for i := range r.Objectives {
		o := &r.Objectives[i]
		left := number(o.LeftPercent)
		if o.Unmatched {
			left = "no such endpoint"
		}
		m.row(code(o.Service, o.Route), o.Target, series.NumberText(o.WindowDays), left)
	}
	m.line("")
}

func (m *marker) services(r *Report) {
	m.line("## Services")
	if len(r.Services) == 0 {
		m.line("No request was seen.")
		return
	}
	m.head(2, "Service", "Level", "Endpoints", "Requests", "Per s", "p50", "p95", "p99", "Failed", "%", "p95 vs before")
	for i := range r.Services {
		s := &r.Services[i]
		name := s.Service
		if s.Namespace != "" {
			name = s.Namespace + "/" + name
		}
		cells := append([]string{code(name), dash(s.Level), fmt.Sprint(s.Endpoints)}, figureCells(&s.Figures)...)
		m.row(append(cells, changeText(s.P95, s.P95Before))...)
	}
	m.rest(r.ServicesTotal-len(r.Services), "services")
	m.line("")
}

func dash(text string) string {
	if text == "" {
		return unknownText
	}
	return text
}

func (m *marker) endpoints(title, order string, all int, rows []EndpointRow) {
	m.line("### %s", title)
	if len(rows) == 0 {
		m.line("None.")
		return
	}
	m.line("%s.", order)
	m.head(3, "Endpoint", "Service", "Level", "Requests", "Per s", "p50", "p95", "p99", "Failed", "%", "p95 vs before")
	for i := range rows {
		e := &rows[i]
		cells := append([]string{code(e.Method, e.Route), code(e.Service), dash(e.Level)}, figureCells(&e.Figures)...)
		m.row(append(cells, changeText(e.P95, e.P95Before))...)
	}
	m.rest(all-len(rows), "endpoints")
	m.line("")
}

func (m *marker) trends(r *Report) {
	m.line("## Trends of the host")
	if len(r.Trends) == 0 {
		m.line("None is known.")
		return
	}
	m.head(1, "Metric", "Average", "Peak")
	for i := range r.Trends {
		t := &r.Trends[i]
		unit := unitTexts[t.Unit]
		if t.Average == nil {
			unit = ""
		}
		m.row(marked(t.Name), number(t.Average)+unit, number(t.Peak)+unit)
	}
	m.b.WriteByte('\n')
	for i := range r.Trends {
		t := &r.Trends[i]
		if t.Trend != "" {
			m.item("%s: %s", marked(t.Name), marked(t.Trend))
		}
		for _, c := range lately(t.Changes) {
			m.item("%s: %s", marked(t.Name), marked(c))
		}
		for _, l := range t.Limits {
			m.item("%s: %s", marked(t.Name), marked(l.Summary))
		}
		if t.Unknown != "" {
			m.item("%s: no conclusion: %s", marked(t.Name), marked(t.Unknown))
		}
	}
	m.b.WriteByte('\n')
}

func (m *marker) resources(r *Report) {
	m.line("## Resources of services")
	if r.ResourcesUnknown != "" {
		m.line("Not known: %s.", marked(r.ResourcesUnknown))
	}
	if len(r.Resources) == 0 {
		return
	}
	m.line("Those that used the most processor time; 100 %% is one processor.")
	m.head(1, "Service", "Processor, average %", "peak %", "Memory, average MB", "peak MB")
	for i := range r.Resources {
		s := &r.Resources[i]
		m.row(code(s.Service), number(s.CPUAverage), number(s.CPUPeak), number(s.MemoryAverage), number(s.MemoryPeak))
	}
	m.b.WriteByte('\n')
}

func (m *marker) unseen(r *Report) {
	m.line("## What was not seen")
	m.line("%s", coverageText(r.Coverage, r))
	for _, g := range r.Coverage.Gaps {
		m.item("did not count: %s to %s (%s)", full(g.From), full(g.To), series.SpanText(g.To.Sub(g.From)))
	}
	m.rest(r.Coverage.GapsTotal-len(r.Coverage.Gaps), "gaps, which are shorter")
	switch {
	case r.LossesUnknown != "":
		m.item("losses are not known: %s", marked(r.LossesUnknown))
	case len(r.Losses) == 0:
		m.item("no exchange is known to have been lost")
	}
	for _, l := range r.Losses {
		m.item("lost: %s exchanges at %s, %s", series.NumberText(l.Exchanges), marked(l.Stage), marked(l.Reason))
	}
	for _, n := range r.Notes {
		m.item("%s", marked(n))
	}
}
