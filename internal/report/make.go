package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/wire"
)

// IncidentSource knows what went wrong in a time, [from, to).
type IncidentSource interface {
	Incidents(ctx context.Context, from, to time.Time) ([]Incident, error)
}

// Options are what reports are made of. All but Engine may be missing; a report says then what it lacks.
type Options struct {
	Engine *query.Engine
	// Judge is the level of a value of an endpoint; nil: there are no levels.
	Judge func(k analytics.Key, a analytics.Aspect, value float64) analytics.AspectLevel
	// Objectives returns those that rules are made of.
	Objectives func() []alert.ObjectiveView
	// Sources know of incidents. What a later one has and an earlier one as well, the same alert at the same time, is left out.
	Sources []IncidentSource
	// Analyse concludes from the usual metrics of the host; notes say what that lacks.
	Analyse func(ctx context.Context, from, to time.Time) (all []Metric, notes []string, err error)
	// Lacks says what is not known for want of a running agent; "" for nothing.
	Lacks   string
	Host    string
	Version string
	Now     func() time.Time // nil means time.Now
	Timeout time.Duration    // 0 means TimeoutDefault
	// BytesMax is what may be unpacked of requests, of a range as of the one before it. Where there is more, steps become hours. 0 means
	// BytesMaxDefault.
	BytesMax int64
}

// BytesMaxDefault is what is unpacked of requests in about two seconds.
const BytesMaxDefault = 16 << 20

// TimeoutDefault bounds the making of a report: a week of 2,000 endpoints takes some seconds.
const TimeoutDefault = 30 * time.Second

const (
	serverDurations = "http_server_request_duration_seconds"
	// rowsMax bounds tables of endpoints, servicesMax those of services, incidentsMax and gapsMax the lists.
	rowsMax      = 15
	servicesMax  = 25
	incidentsMax = 40
	gapsMax      = 20
	objectiveMax = 100
	// beforeTimes is how much more may be unpacked for the comparison in steps of an hour, which takes about eight seconds: a report goes without
	// it rather than out of time.
	beforeTimes = 4
	// percentileRequests are what a 95th percentile needs, so that a few are beyond it.
	percentileRequests = 60
)

// Make makes the report of a time. Errors are of what nothing can be said without.
func (o *Options) Make(ctx context.Context, s Span) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(o.Timeout, TimeoutDefault))
	defer cancel()
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	m := &maker{o: o, ctx: ctx, span: s, now: now().UTC(), r: &Report{Host: o.Host, Version: o.Version, Notes: []string{}}}
	if err := m.traffic(); err != nil {
		return nil, err
	}
	r := m.r
	r.Generated, r.From, r.To = m.now, m.span.From, m.span.To
	r.Title = "Performance of " + cmp.Or(o.Host, "this host")
	if o.Lacks != "" {
		m.note(o.Lacks)
	}
	m.objectives()
	m.incidents()
	if err := m.trends(); err != nil {
		return nil, err
	}
	m.resources()
	m.losses()
	r.Summary = m.summary()
	return r, ctx.Err()
}

// maker makes one report.
type maker struct {
	o    *Options
	ctx  context.Context
	span Span
	now  time.Time
	r    *Report
	// beforeUnread: there is too much of the range before.
	beforeUnread bool
}

func (m *maker) note(text string) {
	if !slices.Contains(m.r.Notes, text) {
		m.r.Notes = append(m.r.Notes, text)
	}
}

func (s Span) length() time.Duration { return s.To.Sub(s.From) }

// before is the range of the same length before.
func (s Span) before() Span { return Span{s.From.Add(-s.length()), s.From, s.Step} }

var endpointLabels = []string{"service_namespace", "service_name", "http_request_method", "http_route"}

// sums is what was read of a time.
type sums struct {
	groups  []*query.Group
	counted []time.Duration
}

func (m *maker) read(s Span, most int64) (*sums, error) {
	q := query.TrafficQuestion{Family: serverDurations, Start: s.From, End: s.To, Step: s.Step, BytesMax: most}
	groups, counted, warnings, err := m.o.Engine.TrafficBy(m.ctx, q, endpointLabels)
	for _, w := range warnings {
		m.note(w)
	}
	if err != nil {
		return nil, err
	}
	return &sums{groups, counted}, nil
}

// traffic reads what requests did, in the range and before it.
func (m *maker) traffic() error {
	is, was, err := m.both()
	if err != nil {
		return err
	}
	m.coverage(is.counted)
	beforeCounted := total(was.counted)
	then := map[string]*query.Group{}
	if 2*beforeCounted >= m.span.length() {
		whole := merged(was.groups)
		figures := figuresOf(&whole, beforeCounted)
		m.r.Before = &figures
		for _, g := range was.groups {
			then[strings.Join(g.Values, "\x00")] = g
		}
	}
	whole := merged(is.groups)
	m.r.Traffic = figuresOf(&whole, total(is.counted))
	m.endpoints(is.groups, then)
	m.services(is.groups, was.groups, total(is.counted), m.r.Before != nil)
	return nil
}

// both reads the range and the one before it. Where either is very much both are cut to whole hours, and the one before may be left out.
func (m *maker) both() (is, was *sums, err error) {
	most := cmp.Or(m.o.BytesMax, BytesMaxDefault)
	is, err = m.read(m.span, most)
	if err == nil {
		was, err = m.read(m.span.before(), most)
	}
	if !errors.Is(err, query.ErrMuchToRead) {
		return is, was, err
	}
	if hours := m.span.hours(); hours.length() > 0 && hours != m.span {
		m.span, is = hours, nil
		m.note("the range was cut to whole hours, because there are very many endpoints")
	}
	if is == nil {
		if is, err = m.read(m.span, 0); err != nil {
			return nil, nil, err
		}
	}
	was, err = m.read(m.span.before(), beforeTimes*most)
	if m.beforeUnread = errors.Is(err, query.ErrMuchToRead); m.beforeUnread {
		m.note("nothing is compared with the range before, because there is too much to read of it")
		return is, &sums{}, nil
	}
	return is, was, err
}

// hours is the range in whole hours.
func (s Span) hours() Span {
	step := max(time.Hour, s.Step)
	return Span{s.From.Truncate(step), s.To.Truncate(step), step}
}

func total(all []time.Duration) (sum time.Duration) {
	for _, d := range all {
		sum += d
	}
	return sum
}

func merged(groups []*query.Group) (whole query.Period) {
	for _, g := range groups {
		add(&whole, g)
	}
	return whole
}

func add(to *query.Period, g *query.Group) {
	if to.Values.Count() == 0 {
		to.Values = g.Period.Values.Clone() // of the same unit
	} else {
		to.Values.Merge(&g.Period.Values)
	}
	to.Requests, to.Failures = to.Requests+g.Requests, to.Failures+g.Failures
}

func figuresOf(p *query.Period, counted time.Duration) Figures {
	f := Figures{Requests: p.Requests, Failures: p.Failures}
	if counted > 0 {
		f.RPS = rounded(float64(p.Requests) / counted.Seconds())
	}
	if p.Requests > 0 {
		f.ErrorPercent = rounded(100 * float64(p.Failures) / float64(p.Requests))
	}
	if n := p.Values.Count(); n > 0 {
		f.Average = rounded(p.Values.Sum() / float64(n) * 1e3)
		f.P50, f.P95, f.P99 = rounded(p.Values.Quantile(.5)/1e6), rounded(p.Values.Quantile(.95)/1e6), rounded(p.Values.Quantile(.99)/1e6)
	}
	return f
}

// rounded has six significant digits; what is no number is nil.
func rounded(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	if v != 0 {
		scale := math.Pow(10, 5-math.Floor(math.Log10(math.Abs(v))))
		if r := math.Round(v*scale) / scale; !math.IsNaN(r) && !math.IsInf(r, 0) {
			v = r
		}
	}
	return &v
}

// coverage says how much of the range the agent counted.
func (m *maker) coverage(counted []time.Duration) {
	c := Coverage{CountedSeconds: total(counted).Seconds(), StepSeconds: m.span.Step.Seconds(), Gaps: []Gap{}}
	c.SharePercent = min(100, *rounded(100 * c.CountedSeconds / m.span.length().Seconds()))
	open := false
	for i, d := range counted {
		from := m.span.From.Add(time.Duration(i) * m.span.Step)
		switch missing := 2*d < m.span.Step; {
		case missing && open:
			c.Gaps[len(c.Gaps)-1].To = from.Add(m.span.Step)
		case missing:
			c.Gaps = append(c.Gaps, Gap{from, from.Add(m.span.Step)})
			fallthrough
		default:
			open = missing
		}
	}
	slices.SortStableFunc(c.Gaps, func(a, b Gap) int { return cmp.Compare(b.To.Sub(b.From), a.To.Sub(a.From)) })
	c.GapsTotal = len(c.Gaps)
	c.Gaps = c.Gaps[:min(len(c.Gaps), gapsMax)]
	m.r.Coverage = c
}

// endpoints fills the tables of endpoints.
func (m *maker) endpoints(groups []*query.Group, then map[string]*query.Group) {
	var all []EndpointRow
	for _, g := range groups {
		if g.Requests == 0 {
			continue
		}
		e := EndpointRow{Namespace: g.Values[0], Service: g.Values[1], Method: g.Values[2], Route: g.Values[3], Figures: figuresOf(&g.Period, g.Counted),
			took: g.Period.Values.Sum()}
		e.Level = m.level(&e)
		if before := then[strings.Join(g.Values, "\x00")]; before != nil && before.Period.Values.Count() > 0 {
			e.P95Before = rounded(before.Period.Values.Quantile(.95) / 1e6)
		}
		all = append(all, e)
	}
	m.r.EndpointsTotal = len(all)
	top := func(by func(*EndpointRow) float64) (rows []EndpointRow, total int) {
		chosen := slices.DeleteFunc(slices.Clone(all), func(e EndpointRow) bool { return by(&e) <= 0 })
		slices.SortStableFunc(chosen, func(a, b EndpointRow) int { return cmp.Compare(by(&b), by(&a)) })
		return append([]EndpointRow{}, chosen[:min(len(chosen), rowsMax)]...), len(chosen)
	}
	m.r.Slowest, m.r.SlowestTotal = top(func(e *EndpointRow) float64 {
		if e.Requests < percentileRequests || e.P95 == nil {
			return 0
		}
		return *e.P95
	})
	m.r.Failing, m.r.FailingTotal = top(func(e *EndpointRow) float64 { return float64(e.Failures) })
	m.r.Busiest, _ = top(func(e *EndpointRow) float64 { return e.took })
}

// level is the worse one of response times and errors.
func (m *maker) level(e *EndpointRow) string {
	if m.o.Judge == nil || e.Requests < percentileRequests {
		return ""
	}
	key := analytics.Key{Role: wire.RoleServer, Service: e.Service, Namespace: e.Namespace, Operation: wire.Operation{Verb: e.Method, Name: e.Route}}
	worst, known := analytics.Excellent, false
	for a, v := range map[analytics.Aspect]*float64{analytics.ResponseTime: e.P95, analytics.ErrorRate: e.ErrorPercent} {
		if v == nil {
			continue
		}
		if l := m.o.Judge(key, a, *v); l.Known {
			worst, known = max(worst, l.Level), true
		}
	}
	if !known {
		return ""
	}
	return worst.String()
}

// services fills the table of services.
func (m *maker) services(groups, before []*query.Group, counted time.Duration, compared bool) {
	type sum struct {
		row   ServiceRow
		whole query.Period
		worst int
	}
	byName, all := map[[2]string]*sum{}, []*sum{}
	for _, g := range groups {
		if g.Requests == 0 {
			continue
		}
		key := [2]string(g.Values[:2])
		s := byName[key]
		if s == nil {
			s = &sum{row: ServiceRow{Namespace: key[0], Service: key[1]}, worst: -1}
			byName[key], all = s, append(all, s)
		}
		add(&s.whole, g)
		s.row.Endpoints++
		e := EndpointRow{Namespace: g.Values[0], Service: g.Values[1], Method: g.Values[2], Route: g.Values[3], Figures: figuresOf(&g.Period, g.Counted)}
		if level := m.level(&e); level != "" {
			s.worst = max(s.worst, slices.Index(levelNames, level))
		}
	}
	slices.SortStableFunc(all, func(a, b *sum) int { return cmp.Compare(b.whole.Requests, a.whole.Requests) })
	m.r.ServicesTotal, m.r.Services = len(all), []ServiceRow{}
	for _, s := range all[:min(len(all), servicesMax)] {
		s.row.Figures = figuresOf(&s.whole, counted)
		if s.worst >= 0 {
			s.row.Level = levelNames[s.worst]
		}
		if compared {
			var then query.Period
			for _, g := range before {
				if g.Values[0] == s.row.Namespace && g.Values[1] == s.row.Service {
					add(&then, g)
				}
			}
			if then.Values.Count() > 0 {
				s.row.P95Before = rounded(then.Values.Quantile(.95) / 1e6)
			}
		}
		m.r.Services = append(m.r.Services, s.row)
	}
}

// levelNames are those of levels, the best first.
var levelNames = func() (names []string) {
	for l := analytics.Excellent; l <= analytics.Critical; l++ {
		names = append(names, l.String())
	}
	return names
}()

func (m *maker) objectives() {
	m.r.Objectives = []Objective{}
	if m.o.Objectives == nil {
		m.r.ObjectivesUnknown = "error budgets are known to a running agent alone"
		return
	}
	views := m.o.Objectives()
	for i := range views[:min(len(views), objectiveMax)] {
		v := &views[i]
		o := Objective{Service: v.Service, Route: v.Route, Kind: v.Kind, WindowDays: cmp.Or(v.Window, alert.WindowDefault).Hours() / 24, Unmatched: v.Unmatched}
		o.Target = fmt.Sprintf("%g %% of requests succeed", v.AvailabilityPercent)
		if v.Kind == "latency" {
			o.Target = fmt.Sprintf("%g %% of requests within %g ms", v.LatencyPercent, v.LatencyMS)
		}
		if v.BudgetLeft != nil {
			o.LeftPercent = rounded(100 * *v.BudgetLeft)
		}
		m.r.Objectives = append(m.r.Objectives, o)
	}
	if n := len(views) - objectiveMax; n > 0 {
		m.note(fmt.Sprintf("%d more objectives are not listed", n))
	}
}

func (m *maker) trends() (err error) {
	m.r.Trends = []Metric{}
	if m.o.Analyse == nil {
		return nil
	}
	all, notes, err := m.o.Analyse(m.ctx, m.span.From, m.span.To)
	for _, n := range notes {
		m.note(n)
	}
	m.r.Trends = append(m.r.Trends, all...)
	return err
}
