package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/perfagent/perfagent/internal/analytics"
)

// headLines are above a table: who, the host, the traffic, the views.
const headLines = 4

// View implements tea.Model.
func (m *model) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	v.WindowTitle = "perfagent top"
	return v
}

// screen is as many lines as the terminal has, none longer than it is wide.
func (m *model) screen() string {
	if m.width < columnsMin || m.height < rowsMin {
		return m.tooSmall()
	}
	var lines []string
	switch {
	case m.help:
		lines = append([]string{m.colour.render(styleTitle, pad("perfagent top: help", m.width, false))}, m.scrolled(helpLines(m.width), m.height-2)...)
		lines = append(lines, m.hints("Esc back", "j/k scroll", "Ctrl-C quit"))
	case m.detail != "":
		lines = append(m.head()[:1], m.scrolled(m.detailLines(), m.height-2)...)
		lines = append(lines, m.hints("Esc back", "j/k scroll", "p "+m.pauseWord(), "? help", "q quit"))
	default:
		lines = append(m.head(), m.table()...)
		lines = append(lines, m.footer())
	}
	return strings.Join(lines, "\n")
}

func (m *model) tooSmall() string {
	text := fmt.Sprintf("This terminal is too small: it has %dx%d, top needs %dx%d. Make it larger; q ends.", m.width, m.height, columnsMin, rowsMin)
	lines := wrap(text, m.width)
	return strings.Join(lines[:min(len(lines), max(m.height, 1))], "\n")
}

// scrolled is the part of the lines that is in sight, filled up to the height.
func (m *model) scrolled(lines []string, height int) []string {
	m.scroll = max(min(m.scroll, len(lines)-height), 0)
	shown := slices.Clone(lines[m.scroll:min(m.scroll+height, len(lines))])
	if below := len(lines) - m.scroll - height; below > 0 {
		shown[height-1] = m.colour.render(styleFaint, fmt.Sprintf("(%d more lines below)", below+1))
	}
	for len(shown) < height {
		shown = append(shown, "")
	}
	return shown
}

// hints joins what fits.
func (m *model) hints(all ...string) string {
	return m.colour.render(styleFaint, join(all, "  ", m.width))
}

// join joins as many parts as fit, the first ones first.
func join(parts []string, separator string, most int) string {
	line := ""
	for _, part := range parts {
		if part == "" {
			continue
		}
		if line != "" {
			part = separator + part
		}
		if width(line)+width(part) > most {
			continue
		}
		line += part
	}
	return line
}

func (m *model) pauseWord() string {
	if m.paused {
		return "go on"
	}
	return "pause"
}

// head is the four lines above the table, whatever is below.
func (m *model) head() []string {
	return []string{m.who(), clip(hostStrip(m.sample, m.width), m.width), m.traffic(), m.tabs()}
}

// who is the first line: whose figures these are, of when, or that they are old.
func (m *model) who() string {
	right := "last " + covered(m.sample.Window) + "  " + m.sample.at.Format("15:04:05")
	style := styleTitle
	if m.paused {
		right = "PAUSED  " + right
	}
	if m.window != m.sample.Window.Name {
		right = "asking for " + m.window + "  " + right
	}
	left := whose(m.sample, m.o.Host)
	if m.gone != nil {
		left, style = fmt.Sprintf("AGENT GONE for %s, trying again: %s", span(m.now().Sub(m.since)), inert(explain(m.gone))), styleBad
		right = "figures of " + m.sample.at.Format("15:04:05")
	}
	left = clip(left, m.width-width(right)-2)
	return m.colour.render(style, left+strings.Repeat(" ", max(m.width-width(left)-width(right), 1))+right)
}

func whose(s *sample, host string) string {
	parts := []string{"perfagent top"}
	if host != "" {
		parts = append(parts, inert(host))
	}
	if a := s.Agent; a != nil {
		if a.UptimeSeconds != nil {
			parts = append(parts, "agent up "+span(time.Duration(*a.UptimeSeconds*float64(time.Second))))
		}
		if a.Status != "healthy" {
			parts = append(parts, "agent "+inert(a.Status))
		}
	}
	return strings.Join(parts, " - ")
}

// hostStrip is the host now; what could not be read is left out.
func hostStrip(s *sample, most int) string {
	h := s.System
	if h == nil {
		return "host: not known"
	}
	field := func(name string, v *float64, text func(*float64) string, unit string) string {
		if v == nil {
			return ""
		}
		return name + " " + text(v) + unit
	}
	cpus := "cpu"
	if h.CPUCount != nil {
		cpus = fmt.Sprintf("cpu (%d)", *h.CPUCount)
	}
	stall := []string{field("cpu", h.PressureCPUSomePercent, percent, "%"), field("mem", h.PressureMemorySomePercent, percent, "%"),
		field("io", h.PressureIOSomePercent, percent, "%")}
	pressure := ""
	if text := join(stall, " ", most); text != "" {
		pressure = "pressure " + text
	}
	load := ""
	if h.Load1 != nil {
		load = "load " + number(h.Load1)
	}
	return join([]string{field(cpus, h.CPUPercent, percent, "%"), field("mem", h.MemoryUsedPercent, percent, "%"),
		field("disk", h.DiskBusyPercent, percent, "% busy"), pressure, load, field("steal", positive(h.CPUStealPercent), percent, "%"),
		field("swap", positive(h.SwapUsedMB), number, " MB"), network(h)}, "  ", most)
}

// network is one part, as either direction alone would be taken for both.
func network(h *analytics.System) string {
	if h.NetworkReceiveMBPerSecond == nil || h.NetworkTransmitMBPerSecond == nil {
		return ""
	}
	return fmt.Sprintf("net in %s out %s MB/s", number(h.NetworkReceiveMBPerSecond), number(h.NetworkTransmitMBPerSecond))
}

func positive(v *float64) *float64 {
	if v == nil || *v <= 0 {
		return nil
	}
	return v
}

// traffic is the third line: all exchanges of the window together, and what is wrong.
func (m *model) traffic() string {
	text := join(trafficParts(m.sample), "  ", m.width)
	if a := m.sample.Alerts; a != nil && a.Firing > 0 {
		return m.colour.render(styleBad, text)
	}
	return text
}

func trafficParts(s *sample) []string {
	parts := []string{number(s.ThroughputRPS) + " req/s", "errors " + percent(s.ErrorRatePercent) + "%"}
	if s.ErrorRatePercent == nil {
		parts[1] = ""
	}
	if s.Agent != nil {
		parts = append(parts, fmt.Sprintf("lost %d", s.Agent.Lost))
	}
	parts = append(parts, alertsText(s.Alerts))
	if n := len(s.Findings); n > 0 {
		parts = append(parts, fmt.Sprintf("findings %d", n))
	}
	parts = append(parts, "p50 "+milliseconds(s.ResponseTime.P50), "p99 "+milliseconds(s.ResponseTime.P99))
	if v := s.Concurrency.InFlightMean; v != nil {
		parts = append(parts, "in flight "+number(v))
	}
	return parts
}

func alertsText(a *alerts) string {
	switch {
	case a == nil || !a.Evaluating:
		return "alerts off"
	case a.Pending > 0:
		return fmt.Sprintf("alerts %d firing, %d pending", a.Firing, a.Pending)
	}
	return fmt.Sprintf("alerts %d firing", a.Firing)
}

// tabs is the line of the views, and how the present one is sorted and filtered.
func (m *model) tabs() string {
	var parts []string
	counts := []int{m.sample.EndpointsTotal, m.sample.ServicesTotal, m.sample.TargetsTotal, len(problemRows(m.sample))}
	for i, name := range Views {
		text := fmt.Sprintf("%d %s %d", i+1, name, counts[i])
		if i == m.view {
			text = "[" + text + "]"
		}
		parts = append(parts, text)
	}
	return m.colour.render(styleTitle, clip(join(append(parts, m.state()), "  ", m.width), m.width))
}

// state says what of a view is shown.
func (m *model) state() string {
	if m.filter != "" || m.o.Limit > 0 && m.total > m.o.Limit {
		return fmt.Sprintf("%d of %d shown", len(m.rows), m.total)
	}
	return ""
}

// table is the columns' titles and the rows in sight, filled up to the page.
func (m *model) table() []string {
	columns := fitColumns(columnsOf(m.view), m.orders[m.view], m.rows, m.width-2, m.glyphs, true)
	lines := []string{m.colour.render(styleHeader, pad("  "+titles(columns), m.width, false))}
	c, page := m.cursor[m.view], max(m.page(), 1)
	d := &drawing{glyphs: m.glyphs, now: m.sample.at}
	for i := c.top; i < min(c.top+page, len(m.rows)); i++ {
		cells := cellsOf(columns, &m.rows[i], d)
		if i == c.index {
			lines = append(lines, m.colour.render(styleChosen, pad("> "+strings.Join(cells, " "), m.width, false)))
			continue
		}
		for n, column := range columns {
			if column.style != nil {
				cells[n] = m.colour.render(column.style(&m.rows[i]), cells[n])
			}
		}
		lines = append(lines, "  "+strings.Join(cells, " "))
	}
	if len(m.rows) == 0 {
		lines = append(lines, "")
		for _, text := range m.nothing() {
			for _, line := range wrap(text, m.width-4) {
				lines = append(lines, "  "+line)
			}
		}
	}
	lines = lines[:min(len(lines), page+1)]
	for len(lines) < page+1 {
		lines = append(lines, "")
	}
	return lines
}

// nothing says why there is no row, and what to do.
func (m *model) nothing() []string {
	if m.filter != "" && m.total > 0 {
		return []string{fmt.Sprintf("Nothing matches %q: / changes the filter, Esc removes it.", inert(m.filter))}
	}
	return nothing(m.sample, m.view)
}

func nothing(s *sample, view int) []string {
	switch {
	case view == viewProblems && s.Exchanges > 0:
		return []string{"Nothing is wrong now, as far as the agent can tell."}
	case view == viewProblems:
		return []string{"Nothing is wrong now; there was no traffic to judge by."}
	case view == viewCalls && s.Exchanges > 0:
		return []string{"No program of this host has called another over HTTP in the window, as far as the agent sees."}
	case s.Window.Seconds == 0:
		return []string{"The agent has just started: the first figures come within ten seconds."}
	}
	lines := []string{"No HTTP request has been answered on this host in the window of " + s.Window.Name + ", as far as the agent sees.",
		"Send one to a server here, such as: curl http://localhost:8080/ - it shows within ten seconds. w looks farther back.",
		"If there is traffic: perfagent check says what this host does not let the agent see; an agent that was started with --capture flags sees that much only."}
	if s.Agent != nil {
		for i, u := range s.Agent.Undecoded {
			if i == 3 {
				break
			}
			lines = append(lines, fmt.Sprintf("%d open connections of %s are not decoded: %s.", u.Connections, inert(cmp.Or(u.Service, "an unknown service")), inert(u.Reason)))
		}
	}
	return lines
}

func (m *model) footer() string {
	if m.editing {
		return pad("filter (regular expression or text): "+clipFront(inert(m.filter), m.width-40)+"_", m.width, false)
	}
	order := m.orders[m.view]
	c := columnsOf(m.view)[order.by]
	hints := []string{"q quit", "? help", "sorted by " + c.name + " " + m.arrow(c, order)}
	if m.filter != "" {
		hints = append(hints, "filter "+clip(inert(m.filter), 20))
	}
	return m.hints(append(hints, "Enter details", "/ filter", "s sort", "r reverse", "p "+m.pauseWord(), "Tab view", "w window")...)
}

func (m *model) arrow(c column, order sorting) string {
	if c.ascends != order.reverse {
		return m.glyphs.ascending
	}
	return m.glyphs.descending
}

// fitColumns drops columns, the least important first, until the others fit, and hands what is left to the flexible one. The one that
// is sorted by stays, and its title says so. Where the width is not to be filled, texts get no more than the longest of them needs.
func fitColumns(columns []column, order sorting, rows []row, most int, g *glyphs, fill bool) []column {
	columns[order.by].rank = 0
	arrow := g.descending
	if columns[order.by].ascends != order.reverse {
		arrow = g.ascending
	}
	for i := range columns {
		columns[i].width = max(columns[i].width, width(columns[i].title))
	}
	columns[order.by].title += arrow
	columns[order.by].width = max(columns[order.by].width, width(columns[order.by].title))
	for {
		used := len(columns) - 1
		for _, c := range columns {
			used += c.width
		}
		least := slices.MaxFunc(columns, func(a, b column) int { return cmp.Compare(a.rank, b.rank) }).rank
		if used > most && least > 0 {
			i := slices.IndexFunc(columns, func(c column) bool { return c.rank == least })
			columns = slices.Delete(columns, i, i+1)
			continue
		}
		stretch(columns, rows, most-used, g, fill)
		return columns
	}
}

// stretch hands out what is left: to texts that are cut, the flexible one first, then all that remains to the flexible one.
func stretch(columns []column, rows []row, left int, g *glyphs, fill bool) {
	d := &drawing{glyphs: g, width: 1 << 20}
	for pass := range 2 {
		for i := range columns {
			c := &columns[i]
			if c.flexible != (pass == 0) || c.live || c.right {
				continue
			}
			longest := c.width
			for r := range rows {
				longest = max(longest, width(c.cell(&rows[r], d)))
			}
			more := max(min(longest-c.width, left), 0)
			c.width, left = c.width+more, left-more
		}
	}
	for i := range columns {
		if columns[i].flexible && (fill || left < 0) {
			columns[i].width = max(columns[i].width+left, 1)
		}
	}
}

func titles(columns []column) string {
	var cells []string
	for _, c := range columns {
		cells = append(cells, pad(c.title, c.width, c.right))
	}
	return strings.Join(cells, " ")
}

func cellsOf(columns []column, r *row, d *drawing) []string {
	cells := make([]string, len(columns))
	for i, c := range columns {
		d.width = c.width
		cells[i] = pad(c.cell(r, d), c.width, c.right)
	}
	return cells
}

func helpLines(columns int) (lines []string) {
	for _, text := range helpTexts {
		lines = append(lines, wrapHanging(text, columns)...)
	}
	return lines
}

// wrapHanging keeps what stands before two blanks as a column of its own.
func wrapHanging(text string, columns int) []string {
	name, rest, found := strings.Cut(text, "\t")
	if !found {
		if text == "" {
			return []string{""}
		}
		return wrap(text, columns)
	}
	var lines []string
	for i, line := range wrap(rest, columns-18) {
		if i > 0 {
			name = ""
		}
		lines = append(lines, pad("  "+name, 17, false)+" "+line)
	}
	return lines
}

var helpTexts = []string{
	"KEYS",
	"Up Down j k\tmove; PgUp PgDn Home End g G farther",
	"Tab 1 2 3 4\tanother view: endpoints, services, calls (what this host's programs call), problems (what is wrong now)",
	"Enter, Esc\tdetails of a row, and back",
	"/\tfilter by a regular expression, or a text that is none; Enter keeps it, Esc removes it",
	"s > <\tsort by the next column, or the one before; r reverses",
	"w\tthe window that figures are of: the last 1, 5, 15 or 60 minutes",
	"p, Space\tpause: the picture stands still; it goes on with all that came meanwhile",
	"? h\tthis help",
	"q, Ctrl-C\tquit; Ctrl-Z suspends",
	"",
	"COLUMNS",
	"REQ/S\trequests per second in the window",
	"ERR%\tof them failed: 5xx, aborted, timeout",
	"P50 P95 P99\thalf, 95 % and 99 % of them took at most so long",
	"QU/PROC/TR%\tthe shares of their time: in the queue until the program read them, processing until the first byte of the answer, transfer of the rest",
	"LEVEL\texcellent, good, fair, poor, critical (! beyond the fifth limit): the worse of response times and errors in the last five minutes; - not judged",
	"TREND\tREQ/S in the latest ticks of the agent, ten seconds each, since top runs; the arrow: a quarter more or less than before",
	"CPU% MEM MB\tprocessors (100 is one) and memory of the service's processes",
	"LEFT%\tan estimate of what is left of a service's capacity",
	"INFLT\tmean number of calls under way",
	"",
	"HEAD",
	"lost\texchanges that are known to have happened and were not reported, since the agent started",
	"pressure\tthe part of the last ten seconds in which tasks waited for processors, memory or disks",
	"",
	"The agent has new figures every ten seconds; the host's are newer.",
}
