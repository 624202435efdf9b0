package web

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/report"
)

// ReportOptions is what /report is made of; without an engine it is not served.
type ReportOptions struct{ report.Options }

// reportRoute serves reports.
func reportRoute(o ReportOptions) Route {
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	return Route{
		Path: "/report", MediaType: report.MediaTypes["html"], Response: report.Report{}, Errors: []int{http.StatusUnprocessableEntity},
		Summary: "The report of a time that is over, for people: as a page, as Markdown, or as JSON with this schema.",
		Parameters: []Parameter{
			{Name: "format", Description: "How it is written.", Enum: report.Formats, Default: report.Formats[0]},
			{Name: "range", Description: "The last full hour, day or week (from Monday on), in UTC.", Enum: report.Ranges},
			{Name: "last", Description: "How far back from now, such as 6h or 7d; without this, range and from " + report.LastDefault + "."},
			{Name: "from", Description: "RFC 3339, seconds since 1970, or now-6h."},
			{Name: "to", Description: "The same; now without it."},
		},
	}.serve(func(values map[string]string) (func(http.ResponseWriter), error) {
		span, err := report.Wanted{Range: values["range"], Last: values["last"], From: values["from"], To: values["to"]}.Span(now())
		if err != nil {
			return nil, statusError{http.StatusBadRequest, err}
		}
		r, err := o.Make(context.Background(), span) // which has a time of its own; who asks for the same shares the answer
		if errors.Is(err, query.ErrNoHistory) {
			return nil, statusError{http.StatusServiceUnavailable, err}
		}
		if err != nil {
			return nil, analysisError(err, "a shorter range takes less time")
		}
		var body bytes.Buffer
		err = r.Write(&body, values["format"])
		return func(w http.ResponseWriter) {
			h := w.Header()
			h.Set("Content-Type", report.MediaTypes[values["format"]])
			h.Set("Cache-Control", "no-store")
			if values["format"] == "html" {
				h.Set("Content-Security-Policy", report.ContentPolicy+"; frame-ancestors 'none'")
			}
			_, _ = w.Write(body.Bytes()) // into memory
		}, err
	})
}

// reportConfidence is what a change needs to be in a report, where nobody sees the values beside it.
const reportConfidence = 0.8

// Report concludes from the usual metrics of the host over a time, as /performance/analytics does, for report.Options.
func (o AnalysisOptions) Report(ctx context.Context, from, to time.Time) (all []report.Metric, notes []string, err error) {
	o.fill()
	q := &analysisQuestion{from: from, to: to}
	q.choose(to.Sub(from), 0)
	d := &analysisData{o: &o, ctx: ctx, q: q}
	metrics, err := d.metrics()
	if err != nil {
		return nil, nil, err
	}
	for i := range metrics {
		m := &metrics[i]
		all = append(all, reportMetric(d.conclude(m)).Drawn(d.chartOf(m)))
	}
	return all, d.notes, nil
}

func reportMetric(a *metricAnalysisJSON) report.Metric {
	name := strings.TrimSpace(metricText(a.Metric) + " " + a.Device)
	if a.Percentile != nil {
		name += ", 95th percentile"
	}
	r := report.Metric{Metric: a.Metric, Name: name, Unit: a.Unit, Average: a.Statistics.Mean, Peak: a.Statistics.Max, Latest: a.Statistics.Latest,
		Summary: a.Summary, Unknown: a.Unknown}
	if a.Trend != nil {
		r.Trend = a.Trend.Summary
	}
	for _, c := range a.Changes {
		if c.Confidence != nil && *c.Confidence >= reportConfidence {
			r.Changes = append(r.Changes, c.Summary)
		}
	}
	if a.Forecast != nil {
		r.Forecast = a.Forecast.Summary
	}
	for _, l := range a.Limits {
		if l.Reached || l.Likely != nil {
			r.Limits = append(r.Limits, report.Ahead{Limit: l.Limit, Reached: l.Reached, Likely: l.Likely, Summary: l.Summary})
		}
	}
	return r
}
