package web

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/chart"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/series"
)

// chartsRoutes serve metrics as pictures.
func chartsRoutes(o AnalysisOptions) []Route {
	o.fill()
	parameters := []Parameter{{Name: "metric", Description: "One of " + strings.Join(analysisMetricNames(), ", ") + ".", InPath: true}}
	for _, p := range analysisRoute(o).Parameters {
		if !slices.Contains([]string{"metric", "query", "series"}, p.Name) {
			parameters = append(parameters, p)
		}
	}
	side := func(name string, least, usual int) Parameter {
		return Parameter{Name: name, Description: "Of the picture, in pixels.", Least: least, Most: chart.SidesMax, Default: strconv.Itoa(usual)}
	}
	parameters = append(parameters, Parameter{Name: "theme", Description: "Its colours.", Enum: []string{"light", "dark"}, Default: "light"},
		side("width", chart.WidthMin, chart.Width), side("height", chart.HeightMin, chart.Height))
	route := Route{
		Path: "/charts/{metric}.svg", Pattern: "/charts/{metric}", MediaType: "image/svg+xml", Parameters: parameters, Errors: []int{http.StatusNotFound},
		Summary: "A metric over a time as a picture, for embedding; findings are marked.",
	}.serve(func(values map[string]string) (func(http.ResponseWriter), error) {
		name, kind := values["metric"], ""
		for suffix := range chartTypes {
			if short, is := strings.CutSuffix(name, suffix); is {
				name, kind = short, suffix
				break
			}
		}
		if kind == "" || !slices.Contains(analysisMetricNames(), name) {
			return nil, statusError{http.StatusNotFound, fmt.Errorf("%q is not one of %s, with .svg or .png", values["metric"], strings.Join(analysisMetricNames(), ", "))}
		}
		values["metric"] = name
		return o.picture(values, kind)
	})
	// A parameter is a whole segment for net/http, so that the first route serves both.
	other := Route{Path: "/charts/{metric}.png", MediaType: chartTypes[".png"], Parameters: parameters, Errors: route.Errors,
		Summary: fmt.Sprintf("The same, drawn for what takes no SVG; at most %d pixels.", chart.PixelsMax)}
	return []Route{route, other}
}

// chartTypes are the kinds of pictures by the end of their names.
var chartTypes = map[string]string{".svg": "image/svg+xml", ".png": "image/png"}

// picture answers with a chart of a kind.
func (o *AnalysisOptions) picture(values map[string]string, kind string) (func(http.ResponseWriter), error) {
	q, err := o.question(values)
	if err != nil {
		return nil, statusError{http.StatusBadRequest, err}
	}
	width, _ := strconv.Atoi(values["width"]) // both were checked
	height, _ := strconv.Atoi(values["height"])
	if kind == ".png" && width*height > chart.PixelsMax {
		return nil, statusError{http.StatusBadRequest, fmt.Errorf("%d x %d are more than %d pixels; .svg has no such bound", width, height, chart.PixelsMax)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	defer cancel()
	c, err := o.chart(ctx, q)
	if err != nil {
		return nil, analysisError(err, analysisAdvice)
	}
	c.Colors, c.Width, c.Height = chart.Themes[values["theme"]], width, height
	var body []byte
	if kind == ".png" {
		body, err = c.PNG()
	} else {
		body = c.SVG()
	}
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", chartTypes[kind])
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(body) // into memory
	}, err
}

// chart reads what a picture shows.
func (o *AnalysisOptions) chart(ctx context.Context, q *analysisQuestion) (*chart.Chart, error) {
	d := &analysisData{o: o, ctx: ctx, q: q}
	m, err := d.measure(q.metric, q.subject)
	if err != nil {
		return nil, err
	}
	return d.chartOf(&m), nil
}

// chartOf is a picture of what was read.
func (d *analysisData) chartOf(m *measured) *chart.Chart {
	q := d.q
	c := &chart.Chart{From: q.from, To: q.to, Step: q.step, Values: m.values, Title: titleOf(m, q)}
	const layout = "2 January 2006 15:04"
	end := q.to.UTC().Format(layout)
	if q.from.UTC().Format(time.DateOnly) == q.to.UTC().Format(time.DateOnly) {
		end = q.to.UTC().Format("15:04")
	}
	c.Subtitle = fmt.Sprintf("%s to %s UTC, in steps of %s", q.from.UTC().Format(layout), end, series.SpanText(q.step))
	if m.percentile != nil && d.traffic != nil && d.traffic.Series > 0 {
		for i := range d.traffic.Periods {
			h := &d.traffic.Periods[i].Values
			low, high := h.Quantile(0.5)/1e6, h.Quantile(0.99)/1e6
			if math.IsNaN(m.values[i]) {
				low, high = math.NaN(), math.NaN()
			}
			c.Low, c.High = append(c.Low, low), append(c.High, high)
		}
		c.Subtitle += "; band: median to 99th percentile"
	}
	if sorted, _ := presentIn(m.values); len(sorted) == 0 {
		if c.Empty = m.why; c.Empty == "" {
			c.Empty = unknownReason(m, q)
		}
	}
	found, _ := d.anomalies(m)
	for i := range found {
		c.Marks = append(c.Marks, markOf(&found[i], q))
	}
	return c
}

// titleOf says what a picture is of.
func titleOf(m *measured, q *analysisQuestion) string {
	title := metricText(m.name)
	if m.percentile != nil {
		title += fmt.Sprintf(" (percentile %s)", series.NumberText(*m.percentile))
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
	if unit := strings.TrimSpace(unitWords[m.unit]); unit != "" {
		title += ", " + unit
	}
	return title
}

func markOf(f *finding.Finding, q *analysisQuestion) chart.Mark {
	m := chart.Mark{From: f.Start, To: q.to, Text: f.Summary, Critical: f.Severity == finding.Error || f.Severity == finding.Critical}
	if f.End != nil {
		m.To = *f.End
	}
	return m
}
