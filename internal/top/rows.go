package top

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/finding"
)

// Views are what can be shown, in the order of their keys 1 to 4.
var Views = []string{"endpoints", "services", "calls", "problems"}

const (
	viewEndpoints = iota
	viewServices
	viewCalls
	viewProblems
)

// row is a line of a table.
type row struct {
	key     string // the same from sample to sample
	entry   *entry
	problem *problem
	past    *past
	level   *level
	text    string // what a filter looks at
}

// problem is what is wrong now: an alert, a finding, or a level that is poor without either.
type problem struct {
	Kind     string           `json:"kind"` // alert, finding, level, agent
	Name     string           `json:"name"`
	State    string           `json:"state,omitempty"` // of an alert: firing, pending
	Severity string           `json:"severity"`
	Service  string           `json:"service_name,omitempty"`
	Where    string           `json:"where,omitempty"`
	Since    *time.Time       `json:"since,omitempty"`
	Summary  string           `json:"summary"`
	Details  string           `json:"description,omitempty"`
	Steps    []string         `json:"next_steps,omitempty"`
	Finding  *finding.Finding `json:"finding,omitempty"`
}

var severities = []string{"info", "warning", "error", "critical"}

// column is one of a view's. Its name is what --sort takes.
type column struct {
	name, title string
	width       int
	flexible    bool // takes what is left
	right       bool
	rank        int // the higher, the sooner it is dropped; 0 never is
	live        bool
	cell        func(r *row, d *drawing) string
	order       func(a, b *row) int // ascending; nil: it cannot be sorted by
	ascends     bool                // by default
	style       func(r *row) styleName
}

// drawing is what cells need to know.
type drawing struct {
	glyphs *glyphs
	now    time.Time
	width  int // of the column
}

func stat(name, title string, width, rank int, text func(*float64) string, of func(*entry) *float64) column {
	return column{name: name, title: title, width: width, rank: rank, right: true,
		cell:  func(r *row, _ *drawing) string { return text(of(r.entry)) },
		order: func(a, b *row) int { return cmp.Compare(known(of(a.entry)), known(of(b.entry))) }}
}

// known is the number; what is not known is less than any.
func known(v *float64) float64 {
	if v == nil {
		return math.Inf(-1)
	}
	return *v
}

func texts(name, title string, width, rank int, front bool, of func(*row) string) column {
	return column{name: name, title: title, width: width, rank: rank, ascends: true,
		cell: func(r *row, d *drawing) string {
			if front {
				return clipFront(of(r), d.width)
			}
			return of(r)
		},
		order: func(a, b *row) int { return cmp.Compare(of(a), of(b)) }}
}

func flexible(c column) column { c.flexible = true; return c }

func rateColumn() column {
	return stat("rate", "REQ/S", 6, 0, number, func(e *entry) *float64 { return e.ThroughputRPS })
}

func errorColumn() column {
	c := stat("errors", "ERR%", 5, 1, percent, func(e *entry) *float64 { return e.ErrorRatePercent })
	c.style = func(r *row) styleName {
		if r.entry.Failures > 0 {
			return styleWarn
		}
		return stylePlain
	}
	return c
}

func quantileColumns() []column {
	return []column{
		stat("p50", "P50", 6, 7, milliseconds, func(e *entry) *float64 { return e.ResponseTime.P50 }),
		stat("p95", "P95", 6, 5, milliseconds, func(e *entry) *float64 { return e.ResponseTime.P95 }),
		stat("p99", "P99", 6, 2, milliseconds, func(e *entry) *float64 { return e.ResponseTime.P99 }),
	}
}

func levelColumn() column {
	return column{name: "level", title: "LEVEL", width: 9, rank: 3,
		cell:  func(r *row, _ *drawing) string { return r.level.String() },
		order: func(a, b *row) int { return cmp.Compare(a.level.rank(), b.level.rank()) },
		style: func(r *row) styleName { return levelStyle(r.level) }}
}

// trendColumn draws the rate of the latest minutes, and how it goes.
func trendColumn() column {
	return column{name: "trend", title: "TREND", width: 10, rank: 6, live: true,
		cell: func(r *row, d *drawing) string {
			if r.past == nil {
				return ""
			}
			return d.glyphs.sparkline(r.past.rate, d.width-2) + " " + trend(r.past.rate, d.glyphs)
		},
		order: func(a, b *row) int { return cmp.Compare(a.past.slope(), b.past.slope()) }}
}

func serviceColumn(rank int) column {
	return texts("service", "SERVICE", 12, rank, false, func(r *row) string { return inert(r.entry.service()) })
}

func methodColumn() column {
	return texts("method", "METHOD", 6, 5, false, func(r *row) string { return inert(r.entry.Method) })
}

func phasesColumn() column {
	return column{name: "queue", title: "QU/PROC/TR%", width: 11, rank: 8, right: true,
		cell: func(r *row, _ *drawing) string {
			if r.entry.Phases == nil {
				return "-"
			}
			var parts []string
			for _, v := range []*float64{r.entry.Phases.Queue, r.entry.Phases.Processing, r.entry.Phases.Transfer} {
				if v == nil {
					parts = append(parts, "-")
					continue
				}
				parts = append(parts, fmt.Sprintf("%.0f", *v))
			}
			return strings.Join(parts, "/")
		},
		order: func(a, b *row) int { return cmp.Compare(a.queueShare(), b.queueShare()) }}
}

func (r *row) queueShare() float64 {
	if r.entry.Phases == nil {
		return math.Inf(-1)
	}
	return known(r.entry.Phases.Queue)
}

// columnsOf are the columns of a view, from left to right.
func columnsOf(view int) []column {
	own := func(r *row) string { return inert(r.entry.name()) }
	switch view {
	case viewServices:
		columns := append([]column{
			flexible(texts("service", "SERVICE", 16, 0, false, own)),
			stat("endpoints", "ENDP", 4, 6, count, func(e *entry) *float64 { n := float64(e.Endpoints); return &n }),
			rateColumn(), errorColumn()}, quantileColumns()...)
		return append(columns,
			stat("cpu", "CPU%", 5, 4, percent, func(e *entry) *float64 { return resource(e).CPUPercent }),
			stat("memory", "MEM MB", 6, 5, number, func(e *entry) *float64 { return resource(e).MemoryResidentMB }),
			stat("capacity", "LEFT%", 5, 8, percent, func(e *entry) *float64 {
				if e.Saturation == nil {
					return nil
				}
				return e.Saturation.CapacityLeftPercent
			}),
			levelColumn(), trendColumn())
	case viewCalls:
		columns := append([]column{
			serviceColumn(1), methodColumn(),
			flexible(texts("target", "CALLS", 20, 0, true, own)),
			rateColumn(), errorColumn()}, quantileColumns()...)
		return append(columns, stat("in-flight", "INFLT", 5, 8, number, func(e *entry) *float64 { return e.InFlightMean }), trendColumn())
	case viewProblems:
		return problemColumns()
	}
	columns := append([]column{
		serviceColumn(4), methodColumn(),
		flexible(texts("route", "ROUTE", 20, 0, true, own)),
		rateColumn(), errorColumn()}, quantileColumns()...)
	return append(columns, phasesColumn(), levelColumn(), trendColumn())
}

func problemColumns() []column {
	severity := func(r *row) int { return slices.Index(severities, r.problem.Severity) }
	return []column{
		{name: "severity", title: "SEVERITY", width: 8, cell: func(r *row, _ *drawing) string { return inert(r.problem.Severity) },
			order: func(a, b *row) int {
				return cmp.Or(cmp.Compare(severity(a), severity(b)), -strings.Compare(a.problem.State, b.problem.State))
			},
			style: func(r *row) styleName { return severityStyle(r.problem.Severity) }},
		texts("kind", "KIND", 7, 3, false, func(r *row) string { return inert(cmp.Or(r.problem.State, r.problem.Kind)) }),
		{name: "age", title: "SINCE", width: 7, rank: 4, right: true, cell: func(r *row, d *drawing) string {
			if r.problem.Since == nil {
				return "-"
			}
			return span(d.now.Sub(*r.problem.Since))
		}, order: func(a, b *row) int { return -cmp.Compare(unix(a.problem.Since), unix(b.problem.Since)) }},
		texts("service", "SERVICE", 12, 2, false, func(r *row) string { return inert(r.problem.Service) }),
		texts("where", "WHERE", 20, 5, true, func(r *row) string { return inert(r.problem.Where) }),
		flexible(texts("what", "WHAT", 34, 0, false, func(r *row) string { return inert(r.problem.Summary) })),
	}
}

func unix(t *time.Time) int64 {
	if t == nil {
		return math.MaxInt64
	}
	return t.Unix()
}

// resource is never nil.
func resource(e *entry) *analytics.Resources {
	if e.Resources == nil {
		return &analytics.Resources{}
	}
	return e.Resources
}

// sorting is a view's order.
type sorting struct {
	by      int // column
	reverse bool
}

// sortDefault is the column that a view begins with: the busiest first, of problems the worst.
func sortDefault(view int) sorting {
	name := "rate"
	if view == viewProblems {
		name = "severity"
	}
	return sorting{by: columnNamed(view, name)}
}

func columnNamed(view int, name string) int {
	return slices.IndexFunc(columnsOf(view), func(c column) bool { return c.name == name })
}

// SortNames are the columns that a view can be sorted by, "" for a view that there is not.
func SortNames(view string) (names []string) {
	if i := slices.Index(Views, view); i >= 0 {
		for _, c := range columnsOf(i) {
			names = append(names, c.name)
		}
	}
	return names
}

// rowsOf makes a view's rows.
func rowsOf(view int, s *sample, past map[string]*past) []row {
	var entries []entry
	switch view {
	case viewEndpoints:
		entries = s.Endpoints
	case viewServices:
		entries = s.Services
	case viewCalls:
		entries = s.Targets
	case viewProblems:
		return problemRows(s)
	}
	rows := make([]row, len(entries))
	for i := range entries {
		e := &entries[i]
		key := keyOf(view, e)
		rows[i] = row{key: key, entry: e, past: past[key], level: e.worst()}
		rows[i].text = strings.Join([]string{inert(e.service()), inert(e.Method), inert(e.name()), rows[i].level.String()}, " ")
	}
	return rows
}

func keyOf(view int, e *entry) string { return Views[view] + "\x00" + e.id() }

// arrange leaves the rows that match, in the order; equal ones are in that of their keys.
func arrange(rows []row, view int, order sorting, match func(string) bool) []row {
	rows = slices.DeleteFunc(rows, func(r row) bool { return !match(r.text) })
	c := columnsOf(view)[order.by]
	slices.SortFunc(rows, func(a, b row) int {
		by := c.order(&a, &b)
		if c.ascends == order.reverse {
			by = -by
		}
		return cmp.Or(by, cmp.Compare(a.key, b.key))
	})
	return rows
}

// matcher looks for a regular expression, or for the text itself where it is none; upper and lower case are the same.
func matcher(filter string) func(string) bool {
	if filter == "" {
		return func(string) bool { return true }
	}
	if re, err := regexp.Compile("(?i)" + filter); err == nil {
		return re.MatchString
	}
	filter = strings.ToLower(filter)
	return func(s string) bool { return strings.Contains(strings.ToLower(s), filter) }
}

// problemRows are the alerts, then the findings, then the levels that are poor and the agent's own troubles.
func problemRows(s *sample) (rows []row) {
	add := func(key string, p problem) {
		r := row{key: "problems\x00" + p.Kind + "\x00" + key, problem: &p}
		r.text = strings.Join([]string{inert(p.Severity), p.Kind, inert(p.State), inert(p.Name), inert(p.Service), inert(p.Where), inert(p.Summary)}, " ")
		rows = append(rows, r)
	}
	if s.Alerts != nil {
		for i, a := range s.Alerts.Alerts {
			if a.State == "resolved" {
				continue
			}
			p := problem{Kind: "alert", Name: a.Name, State: a.State, Severity: cmp.Or(a.Severity, "warning"), Service: a.Service,
				Where: strings.TrimSpace(a.Labels["http_request_method"] + " " + a.Route), Since: &s.Alerts.Alerts[i].ActiveAt,
				Summary: cmp.Or(a.Summary, a.Name), Details: a.Description}
			if a.NextStep != "" {
				p.Steps = []string{a.NextStep}
			}
			add(fmt.Sprint(a.Labels), p) // a map is printed in the order of its keys
		}
	}
	for i := range s.Findings {
		f := &s.Findings[i]
		add(f.ID, problem{Kind: "finding", Name: f.Kind, Severity: f.Severity, Service: f.Service, Where: placeOf(f), Since: &f.Start,
			Summary: f.Summary, Steps: f.NextSteps, Finding: f})
	}
	if s.Health != nil {
		for _, r := range s.Health.Reasons {
			severity := "warning"
			if r.Level == "critical" {
				severity = "error"
			}
			where := strings.TrimSpace(r.Method + " " + r.Route)
			add(strings.Join([]string{r.Namespace, r.Service, where, r.Aspect}, "\x00"), problem{Kind: "level", Name: r.Aspect,
				Severity: severity, Service: r.Service, Where: where, Summary: r.Message})
		}
	}
	if s.Agent != nil {
		for _, text := range s.Agent.Reasons {
			add(text, problem{Kind: "agent", Name: "agent", Severity: "warning", Where: "the agent itself", Summary: text})
		}
	}
	return rows
}

// past is what was collected of a row while top runs, a point each tick of the agent, the latest last.
type past struct {
	rate, p99, errors []float64
	seen              int // the tick of the latest point
}

const (
	// pointsMax is a quarter of an hour at a tick of ten seconds.
	pointsMax = 90
	// forgetAfter is how many ticks without a row its past is kept for.
	forgetAfter = 30
)

// remember adds a sample to the past of its rows.
func remember(all map[string]*past, s *sample, tick int) {
	for view, entries := range [][]entry{s.Endpoints, s.Services, s.Targets} {
		for i := range entries {
			key := keyOf(view, &entries[i])
			p := all[key]
			if p == nil {
				p = &past{seen: tick}
				all[key] = p
			}
			for gap := p.seen + 1; gap < tick; gap++ {
				p.add(0, math.NaN(), math.NaN())
			}
			p.seen = tick
			e := &entries[i]
			p.add(finite(e.ThroughputRPS), finite(e.ResponseTime.P99), finite(e.ErrorRatePercent))
		}
	}
	for key, p := range all {
		if tick-p.seen > forgetAfter {
			delete(all, key)
		}
	}
}

func finite(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

func (p *past) add(rate, p99, errors float64) {
	for _, x := range []struct {
		to *[]float64
		v  float64
	}{{&p.rate, rate}, {&p.p99, p99}, {&p.errors, errors}} {
		*x.to = append(*x.to, x.v)
		if len(*x.to) > pointsMax {
			*x.to = slices.Delete(*x.to, 0, len(*x.to)-pointsMax)
		}
	}
}

// slope compares the latest two points with up to six before: 1 where nothing changed. NaN where there are too few.
func (p *past) slope() float64 {
	if p == nil {
		return math.NaN()
	}
	return slope(p.rate)
}

func slope(points []float64) float64 {
	points = slices.DeleteFunc(slices.Clone(points), math.IsNaN)
	if len(points) < 4 {
		return math.NaN()
	}
	late, early := points[len(points)-2:], points[max(len(points)-8, 0):len(points)-2]
	before, now := mean(early), mean(late)
	if before == 0 {
		if now == 0 {
			return 1
		}
		return math.Inf(1)
	}
	return now / before
}

func mean(v []float64) float64 {
	sum := 0.
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// trend is an arrow where the latest points are a quarter above or below those before.
func trend(points []float64, g *glyphs) string {
	switch s := slope(points); {
	case math.IsNaN(s):
		return " "
	case s > 1.25:
		return g.up
	case s < 0.8:
		return g.down
	}
	return g.flat
}

// placeOf says where a finding is within its service: an endpoint, what is called, a device, else what is measured.
func placeOf(f *finding.Finding) string {
	called := entry{Address: f.Address, Port: f.Port}
	return cmp.Or(strings.TrimSpace(f.Method+" "+cmp.Or(f.Route, called.target())), f.Device, f.Metric)
}
