package report

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/query"
)

// severities are in rising order.
var severities = []string{finding.Info, finding.Warning, finding.Error, finding.Critical}

func (m *maker) incidents() {
	all := []Incident{}
	for _, source := range m.o.Sources {
		more, err := source.Incidents(m.ctx, m.span.From, m.span.To)
		if err != nil {
			m.r.IncidentsUnknown = err.Error()
		}
		for _, i := range more {
			if !slices.ContainsFunc(all, i.isSame) {
				all = append(all, i)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Incident) int {
		return cmp.Or(cmp.Compare(slices.Index(severities, b.Severity), slices.Index(severities, a.Severity)), b.Start.Compare(a.Start))
	})
	m.r.IncidentsTotal = len(all)
	m.r.Incidents = all[:min(len(all), incidentsMax)]
}

// isSame tells whether two alerts are the same one, which two sources know.
func (i *Incident) isSame(o Incident) bool {
	if i.Labels == nil || !maps.Equal(i.Labels, o.Labels) {
		return false
	}
	ends := func(i *Incident) time.Time {
		if i.End == nil {
			return time.Unix(1<<40, 0)
		}
		return *i.End
	}
	return !i.Start.After(ends(&o)) && !o.Start.After(ends(i))
}

// Findings are incidents of the detector of anomalies: those of a function that touch a time. What comes beside an error counts.
type Findings func(from, to time.Time) ([]*finding.Finding, error)

// Incidents implements IncidentSource.
func (f Findings) Incidents(_ context.Context, from, to time.Time) (all []Incident, err error) {
	found, err := f(from, to)
	for _, one := range found {
		all = append(all, incidentOf(one))
	}
	return all, err
}

func incidentOf(f *finding.Finding) Incident {
	i := Incident{ID: f.ID, Kind: "finding", Severity: f.Severity, Subject: subjectText(&f.Subject), Start: f.Start.UTC(), Summary: f.Summary, NextSteps: f.NextSteps}
	if f.End != nil {
		end := f.End.UTC()
		i.End = &end
	}
	for _, c := range f.Causes {
		i.Causes = append(i.Causes, ProbableCause{c.Summary, c.Confidence})
	}
	if f.Until != nil {
		i.Foreseen = fmt.Sprintf("%s, likely on %s", f.Until.Limit, momentText(f.Until.Likely))
	}
	return i
}

func subjectText(s *finding.Subject) string {
	var parts []string
	for _, part := range []string{s.Service, s.Method, s.Route, s.Address, s.Device} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "the host"
	}
	return strings.Join(parts, " ")
}

// Alerts are incidents of a running agent's rules: alerts that fire, and of late.
type Alerts struct{ Manager func() *alert.Manager }

// Incidents implements IncidentSource.
func (a Alerts) Incidents(_ context.Context, from, to time.Time) (all []Incident, err error) {
	m := a.Manager()
	if m == nil {
		return nil, nil
	}
	views := m.Resolved()
	for _, g := range m.Groups(true) {
		for _, r := range g.Rules {
			views = append(views, r.Alerts...)
		}
	}
	for i := range views {
		v := &views[i]
		if v.FiredAt.IsZero() || !v.FiredAt.Before(to) || !v.ResolvedAt.IsZero() && !v.ResolvedAt.After(from) {
			continue
		}
		one := alertIncident(v.Labels, v.Annotations, v.FiredAt)
		if !v.ResolvedAt.IsZero() {
			end := v.ResolvedAt.UTC()
			one.End = &end
		}
		all = append(all, one)
	}
	return all, nil
}

func alertIncident(labels, annotations map[string]string, start time.Time) Incident {
	i := Incident{Kind: "alert", Severity: labels["severity"], Start: start.UTC(), Labels: labels}
	if !slices.Contains(severities, i.Severity) {
		i.Severity = finding.Warning
	}
	i.Subject = subjectText(&finding.Subject{Service: labels["service_name"], Method: labels["http_request_method"], Route: labels["http_route"]})
	i.Summary = cmp.Or(annotations["summary"], annotations["description"], annotations["message"], labels["alertname"]+" fired")
	return i
}

// RecordedAlerts are incidents by what the history has of alerts, of any time that it has, also of before a restart.
type RecordedAlerts struct{ Engine *query.Engine }

// alertSeriesMax bounds the alerts that are read.
const alertSeriesMax = 500

// Incidents implements IncidentSource.
func (a RecordedAlerts) Incidents(ctx context.Context, from, to time.Time) (all []Incident, err error) {
	step := max(to.Sub(from)/500, time.Minute).Truncate(10 * time.Second)
	series, _, err := ask(ctx, a.Engine, query.Question{Expr: fmt.Sprintf(`max_over_time(ALERTS{alertstate="firing"}[%s])`, window(step)),
		Start: from.Add(step), End: to, Step: step, Limit: alertSeriesMax, WindowSamples: 1})
	if err != nil {
		return nil, fmt.Errorf("alerts of the history: %w", err)
	}
	for _, s := range series {
		delete(s.labels, "alertstate")
		delete(s.labels, "__name__")
		for first := 0; first < len(s.times); {
			last := first
			for last+1 < len(s.times) && s.times[last+1]-s.times[last] <= step.Milliseconds() {
				last++
			}
			one := alertIncident(s.labels, nil, time.UnixMilli(s.times[first]).Add(-step))
			if end := time.UnixMilli(s.times[last]).UTC(); end.Add(step).Before(to) {
				one.End = &end
			}
			all = append(all, one)
			first = last + 1
		}
	}
	return all, nil
}

// ask copies what the engine answers with: numbers alone.
func ask(ctx context.Context, e *query.Engine, q query.Question) (all []answered, warnings []string, err error) {
	answer, err := e.Ask(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Close()
	switch v := answer.Value.(type) {
	case query.Matrix:
		for i := range v {
			s := answered{labels: v[i].Metric.Map()}
			for _, f := range v[i].Floats {
				s.times, s.values = append(s.times, f.T), append(s.values, f.F)
			}
			if len(s.values) > 0 {
				all = append(all, s)
			}
		}
	case query.Vector:
		for i := range v {
			all = append(all, answered{v[i].Metric.Map(), []int64{v[i].T}, []float64{v[i].F}})
		}
	}
	return all, answer.Warnings, nil
}
