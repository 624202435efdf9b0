package finding

import (
	"math"
	"slices"

	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/series"
)

const (
	// rowsBefore is how many rows before a finding are its normal time: half an hour at 10 s.
	rowsBefore = 180
	// rowsSince is how many rows of a finding are looked at, from its beginning: a cause is there from the start.
	rowsSince = 180
	// levelRows is how many values a level needs (series.RankCauses). While a finding has fewer, its last value stands for those to come.
	levelRows = 3
	// candidatesMax bounds the series that are compared, so that an explanation takes a few milliseconds on the largest host.
	candidatesMax = 600
)

// Surroundings is what is known of the host beside series. What is not known is zero or missing.
type Surroundings struct {
	Processors int
	PIDs       map[Subject]uint32 // a process of each service
	// Serves tells which service of this host answers at an address, or name, and port; nil: unknown.
	Serves func(address string, port uint16) (Subject, bool)
	Reach  Reach
	// Objective is the response time in ms that requests of a subject shall not exceed; 0: none is set. nil: none is.
	Objective func(*Subject) float64
}

// surroundingsOf is what the host's figures tell.
func surroundingsOf(sample *host.Sample) *Surroundings {
	s := &Surroundings{PIDs: make(map[Subject]uint32)}
	if sample == nil {
		return s
	}
	if sample.CPU != nil {
		s.Processors = sample.CPU.Processors
	}
	for i := range sample.Services {
		if o := &sample.Services[i]; len(o.Processes) > 0 {
			s.PIDs[Subject{Service: o.Name, Namespace: o.Namespace}] = o.Processes[0].PID
		}
	}
	return s
}

// localService tells which service of this host an address leads to.
func (s *Surroundings) localService(address string, port uint16) (serviceID, bool) {
	if s == nil || s.Serves == nil {
		return serviceID{}, false
	}
	u, ok := s.Serves(address, port)
	return u.id(), ok
}

// Explainer explains with what is known beside series and the host's figures. The zero value knows nothing else.
type Explainer struct {
	// Objective returns the response time in ms that requests of a subject shall not exceed; 0: none is set. nil: none is.
	Objective func(*Subject) float64
	// Reach tells how people reach the agent; nil: by its defaults.
	Reach func() Reach
}

// Explain is for Options.Explain.
func (x *Explainer) Explain(f *Finding, e *Evidence) {
	around := Surroundings{}
	if e.Surroundings != nil {
		around = *e.Surroundings
	}
	if x.Objective != nil {
		around.Objective = x.Objective
	}
	if x.Reach != nil {
		around.Reach = x.Reach()
	}
	e.Surroundings = &around
	explain(f, e)
}

// explain says of a finding where the time went, what it probably comes from, and what to do, from what was measured around it. It is
// deterministic, and takes time in proportion to the series of the evidence.
func explain(f *Finding, e *Evidence) {
	s := newSituation(f, e)
	f.Phases = s.phases()
	f.Causes, f.NextSteps = nil, nil
	if s.from > s.first && s.from < s.to {
		f.Causes = s.causes()
	}
	f.Until = s.until()
	f.Summary = summarize(f, s)
	f.NextSteps = nextSteps(f, s)
}

// serviceID tells services apart; both are empty for the host.
type serviceID struct{ name, namespace string }

func (u *Subject) id() serviceID { return serviceID{u.Service, u.Namespace} }

// situation is a finding among what was measured around it.
type situation struct {
	finding         *Finding
	evidence        *Evidence
	all             []*Measured // that may matter, in the order of their measures
	first, from, to int         // rows: the normal time begins, the finding begins, and it ends
	self            serviceID   // whose requests are slow or fail
	effect          float64     // change of the finding's own level, in its unit

	candidates []*candidate
	targets    []*target
	loads      map[serviceID][]float64 // requests per second of all endpoints of a service, row by row
	busiest    *Measure                // the endpoint of the service itself whose load grew most
}

func newSituation(f *Finding, e *Evidence) *situation {
	s := &situation{finding: f, evidence: e, self: f.id(), loads: make(map[serviceID][]float64)}
	rows := 0
	for i := range e.All {
		rows = max(rows, len(e.All[i].Values))
	}
	s.from = min(max(e.Start, 0), rows)
	s.first = max(0, s.from-rowsBefore)
	s.to = min(rows, s.from+rowsSince)
	if f.End != nil && e.Step > 0 {
		s.to = min(s.to, max(s.from+1, int(f.End.Sub(e.From)/e.Step)+1))
	}
	s.choose()
	before, after := math.NaN(), math.NaN()
	if own := s.measured(f.Measure); own != nil {
		before, after = s.levels(own.Values)
	}
	if s.effect = after - before; math.IsNaN(s.effect) {
		s.effect = f.Peak - f.Expected
	}
	return s
}

// choose takes the series that may matter: all of the service itself, what others do, and what the host has. They are put in order,
// so that equal evidence leads to equal conclusions.
func (s *situation) choose() {
	for i := range s.evidence.All {
		m := &s.evidence.All[i]
		other := m.Role == "server" && m.id() != s.self && m.Metric != Throughput && m.Metric != ResponseTime
		if !other && (partOf(&m.Measure) != partOther || m.Metric == ProcessStarts || m.Measure == s.finding.Measure) {
			s.all = append(s.all, m)
		}
	}
	slices.SortFunc(s.all, func(a, b *Measured) int { return a.Measure.compare(&b.Measure) })
}

// measured returns the series of a measure; nil for none.
func (s *situation) measured(m Measure) *Measured {
	if i, ok := slices.BinarySearchFunc(s.all, &m, func(a *Measured, b *Measure) int { return a.Measure.compare(b) }); ok {
		return s.all[i]
	}
	return nil
}

// bad tells whether the finding is one that somebody suffers from: what got faster or is used less needs no culprit, and more requests have
// one outside: whatever the host uses more, or loses, comes of them.
func (s *situation) bad() bool {
	if partOf(&s.finding.Measure) == partLoad {
		return s.effect < 0
	}
	return s.effect > 0
}

// window returns the rows of a series that are compared, and the row among them at which the finding begins.
func (s *situation) window(values []float32) (rows []float64, from int) {
	at := func(i int) float64 {
		if i >= len(values) {
			return math.NaN()
		}
		return float64(values[i])
	}
	present, last := 0, math.NaN()
	rows = make([]float64, 0, s.to-s.first+levelRows)
	for i := s.first; i < s.to; i++ {
		v := at(i)
		rows = append(rows, v)
		if i >= s.from && !math.IsNaN(v) {
			present, last = present+1, v
		}
	}
	for ; present > 0 && present < levelRows; present++ {
		rows = append(rows, last)
	}
	return rows, s.from - s.first
}

// levels returns the medians of a series before the finding and since; NaN for too few values.
func (s *situation) levels(values []float32) (before, after float64) {
	rows, from := s.window(values)
	return level(rows[:from]), level(rows[from:])
}

// level is the median of the values that are there; NaN for none.
func level(rows []float64) float64 {
	there := slices.DeleteFunc(slices.Clone(rows), math.IsNaN)
	if len(there) == 0 {
		return math.NaN()
	}
	slices.Sort(there)
	if middle := len(there) / 2; len(there)%2 == 1 {
		return there[middle]
	} else {
		return (there[middle-1] + there[middle]) / 2
	}
}

// weighted is the mean of levels, by the requests that each stands for.
type weighted struct{ before, after, beforeWeight, afterWeight float64 }

func (w *weighted) add(before, after, beforeWeight, afterWeight float64) {
	if !math.IsNaN(before) && beforeWeight > 0 {
		w.before, w.beforeWeight = w.before+before*beforeWeight, w.beforeWeight+beforeWeight
	}
	if !math.IsNaN(after) && afterWeight > 0 {
		w.after, w.afterWeight = w.after+after*afterWeight, w.afterWeight+afterWeight
	}
}

func (w *weighted) levels() (before, after float64) {
	return w.before / w.beforeWeight, w.after / w.afterWeight
}

// phases tells in which phases a longer response time passes, of all endpoints that the finding is about; nil where that is not known.
func (s *situation) phases() []PhaseShift {
	f := s.finding
	if partOf(&f.Measure) != partDuration || f.Role == "client" {
		return nil
	}
	rates := make(map[Subject]*Measured)
	for _, m := range s.all {
		if partOf(&m.Measure) == partLoad {
			rates[m.Subject] = m
		}
	}
	var sums [len(phaseNames)]weighted
	for _, m := range s.all {
		phase := slices.Index(phaseMetrics[:], m.Metric)
		if phase < 0 || m.whole() || !f.Subject.covers(&m.Subject) {
			continue
		}
		beforeRate, afterRate := 1., 1.
		if rate := rates[m.Subject]; rate != nil {
			beforeRate, afterRate = s.levels(rate.Values)
		}
		before, after := s.levels(m.Values)
		sums[phase].add(before, after, beforeRate, afterRate)
	}
	return phaseShifts(&sums, s.effect)
}

// phaseShifts makes shifts of levels in milliseconds, the largest share first. Shares are of what all phases together grew by, into
// the direction of the effect.
func phaseShifts(sums *[len(phaseNames)]weighted, effect float64) (shifts []PhaseShift) {
	whole := 0.
	for i := range sums {
		before, after := sums[i].levels()
		if math.IsNaN(before) || math.IsNaN(after) {
			continue
		}
		shifts = append(shifts, PhaseShift{Phase: phaseNames[i], BeforeMS: short(before), AfterMS: short(after)})
		if grown := after - before; grown*effect > 0 {
			whole += grown
		}
	}
	for i := range shifts {
		p := &shifts[i]
		if grown := p.AfterMS - p.BeforeMS; whole != 0 && grown*effect > 0 {
			p.SharePercent = short(100 * grown / whole)
		}
	}
	slices.SortStableFunc(shifts, func(a, b PhaseShift) int {
		switch {
		case a.SharePercent > b.SharePercent:
			return -1
		case a.SharePercent < b.SharePercent:
			return 1
		}
		return 0
	})
	return shifts
}

// covers tells whether a finding about the one subject is about an endpoint, too.
func (u *Subject) covers(o *Subject) bool {
	return u.id() == o.id() && (u.Role == "" || u.Role == o.Role) && (u.Method == "" || u.Method == o.Method) &&
		(u.Route == "" || u.Route == o.Route) && (u.Address == "" || u.Address == o.Address && u.Port == o.Port)
}

// relate sets how the leading causes move together with the finding, with the load of the service held constant.
func (s *situation) relate(causes []Cause) {
	own := s.measured(s.finding.Measure)
	if own == nil {
		return
	}
	y, _ := s.window(own.Values)
	load := s.loads[s.self]
	for i := range causes {
		c := &causes[i]
		m := s.measured(c.Measure)
		if m == nil || i >= correlatedMax || partOf(&m.Measure) == partLoad {
			continue
		}
		x, _ := s.window(m.Values)
		n := min(len(x), len(y), s.to-s.first)
		options := series.CorrelationOptions{LagMax: lagMax}
		if len(load) >= s.to {
			options.Load = load[s.first:s.to]
		}
		if r := series.Correlate(x[:n], y[:n], options); r.Relationship != series.Unrelated {
			coefficient := short(r.Coefficient)
			c.Correlation = &coefficient
		}
	}
}

const (
	// correlatedMax is of how many causes the correlation is computed, at about a millisecond each.
	correlatedMax = 3
	// lagMax is how many rows a cause may be ahead of a finding: half a minute.
	lagMax = 3
)
