package web

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/perfagent/perfagent/internal/finding"
)

// chartsRoute serves metrics as pictures.
func chartsRoute(o AnalysisOptions) Route {
	o.fill()
	parameters := []Parameter{{Name: "metric", Description: "One of " + strings.Join(analysisMetricNames(), ", ") + ".", InPath: true}}
	for _, p := range analysisRoute(o).Parameters {
		if !slices.Contains([]string{"metric", "query", "series"}, p.Name) {
			parameters = append(parameters, p)
		}
	}
	side := func(name string, least, usual int) Parameter {
		return Parameter{Name: name, Description: "Of the picture, in pixels.", Least: least, Most: chartSidesMax, Default: strconv.Itoa(usual)}
	}
	parameters = append(parameters, Parameter{Name: "theme", Description: "Its colours.", Enum: []string{"light", "dark"}, Default: "light"},
		side("width", chartWidthMin, chartWidth), side("height", chartHeightMin, chartHeight))
	return Route{
		Path: "/charts/{metric}.svg", Pattern: "/charts/{metric}", MediaType: "image/svg+xml", Parameters: parameters, Errors: []int{http.StatusNotFound},
		Summary: "A metric over a time as a picture, for embedding; findings are marked.",
	}.serve(func(values map[string]string) (func(http.ResponseWriter), error) {
		name, isSVG := strings.CutSuffix(values["metric"], ".svg")
		if !isSVG || !slices.Contains(analysisMetricNames(), name) {
			return nil, statusError{http.StatusNotFound, fmt.Errorf("%q is not one of %s, with .svg", values["metric"], strings.Join(analysisMetricNames(), ", "))}
		}
		values["metric"] = name
		q, err := o.question(values)
		if err != nil {
			return nil, statusError{http.StatusBadRequest, err}
		}
		ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
		defer cancel()
		c, err := o.chart(ctx, q)
		if err != nil {
			return nil, analysisError(err)
		}
		c.colors = chartThemes[values["theme"]]
		c.width, _ = strconv.Atoi(values["width"]) // both were checked
		c.height, _ = strconv.Atoi(values["height"])
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "image/svg+xml")
			w.Header().Set("Cache-Control", "no-store")
			_, _ = w.Write(c.svg()) // into memory
		}, nil
	})
}

// chart reads what a picture shows.
func (o *AnalysisOptions) chart(ctx context.Context, q *analysisQuestion) (*chart, error) {
	d := &analysisData{o: o, ctx: ctx, q: q}
	m, err := d.measure(q.metric, q.subject)
	if err != nil {
		return nil, err
	}
	c := &chart{from: q.from, to: q.to, step: q.step, values: m.values, unit: m.unit, title: titleOf(&m, q)}
	const layout = "2 January 2006 15:04"
	c.subtitle = fmt.Sprintf("%s to %s UTC, in steps of %s", q.from.UTC().Format(layout), q.to.UTC().Format(layout), spanText(q.step))
	if m.percentile != nil && d.traffic != nil && d.traffic.Series > 0 {
		for i := range d.traffic.Periods {
			h := &d.traffic.Periods[i].Values
			low, high := h.Quantile(0.5)/1e6, h.Quantile(0.99)/1e6
			if math.IsNaN(m.values[i]) {
				low, high = math.NaN(), math.NaN()
			}
			c.low, c.high = append(c.low, low), append(c.high, high)
		}
		c.subtitle += "; band: median to 99th percentile"
	}
	if sorted, _ := presentIn(m.values); len(sorted) == 0 {
		if c.empty = m.why; c.empty == "" {
			c.empty = unknownReason(&m, q)
		}
	}
	found, _ := d.anomalies(&m)
	for i := range found {
		c.marks = append(c.marks, markOf(&found[i], q))
	}
	return c, nil
}

// titleOf says what a picture is of.
func titleOf(m *measured, q *analysisQuestion) string {
	title := metricText(m.name)
	if m.percentile != nil {
		title += fmt.Sprintf(" (percentile %s)", numberText(*m.percentile))
	}
	if m.device != "" {
		title += " " + m.device
	}
	s := &q.subject
	for _, part := range []string{s.Service, s.Method, s.Route, s.Address} {
		if part != "" {
			title += " " + part
		}
	}
	if unit := unitText(m.unit); unit != "" {
		title += ", " + unit
	}
	return title
}

func markOf(f *finding.Finding, q *analysisQuestion) chartMark {
	m := chartMark{from: f.Start, to: q.to, text: f.Summary, critical: f.Severity == finding.Error || f.Severity == finding.Critical}
	if f.End != nil {
		m.to = *f.End
	}
	return m
}
