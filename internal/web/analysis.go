package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/series"
)

// AnalysisOptions is what /performance/analytics draws its conclusions from.
type AnalysisOptions struct {
	// Engine answers over the local history; nil: nothing is served.
	Engine *query.Engine
	// Findings are those of [from, to), and an error where some cannot be read; nil: nobody looks for any.
	Findings func(from, to time.Time) ([]*finding.Finding, error)
	// Objectives are limits of response times and error rates; nil: there are none.
	Objectives func() []alert.ObjectiveView
	// Timeout bounds an answer; 0 means as long as others wait for theirs.
	Timeout time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

const (
	analysisWindow    = "24h"
	analysisWindowMin = 10 * time.Minute
	analysisWindowMax = 400 * 24 * time.Hour // the history has no more
	// analysisPoints is how many steps a window has at most where nobody says how long they are, analysisPointsMax where somebody
	// does: a day of minutes.
	analysisPoints, analysisPointsMax = 300, 1500
	// analysisBytesMax is what is unpacked of requests in about half a second. Where there is more, steps become hours.
	analysisBytesMax = 4 << 20
	// analysisHours is the window from which on steps of an hour leave something to conclude from.
	analysisHours     = 12 * time.Hour
	percentileDefault = 95
)

// analysisSteps are the steps of which the first is taken that makes no more than analysisPoints of a window: each holds whole
// intervals of the history, and from 10 minutes on there are 60 of them.
var analysisSteps = []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute,
	30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 48 * time.Hour}

// analysisQuestion is what is asked.
type analysisQuestion struct {
	metric     *analysisMetric // nil: the usual ones, or expr
	expr       string
	subject    finding.Subject
	percentile float64 // 0: that of an objective, or the default
	from, to   time.Time
	step       time.Duration
	stepGiven  bool
	values     bool // are wanted
}

// steps is how many there are.
func (q *analysisQuestion) steps() int { return int(q.to.Sub(q.from) / q.step) }

// fill puts defaults where nothing is set.
func (o *AnalysisOptions) fill() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout == 0 {
		o.Timeout = answerWait
	}
}

func analysisRoute(o AnalysisOptions) Route {
	o.fill()
	return Route{
		Path: "/performance/analytics", Response: analysisJSON{}, Errors: []int{http.StatusUnprocessableEntity},
		Summary: "Conclusions from the local history: statistics, trend, changes, anomalies, correlations and forecast of a metric, or of the usual ones.",
		Parameters: []Parameter{
			{Name: "metric", Description: "What is looked at; without it, and without query, the usual metrics, briefly.", Enum: analysisMetricNames()},
			{Name: "query", Description: "In place of a metric a PromQL expression that has one series."},
			{Name: "window", Description: "How far back to look, such as 1h, 24h, 7d or 30d, unless from is given.", Default: analysisWindow},
			{Name: "from", Description: "Seconds since 1970 or RFC 3339."},
			{Name: "to", Description: "The same; now without it."},
			{Name: "service", Description: "Of this service_name; without it, and without target, of the whole host."},
			{Name: "route", Description: "Of this route: /path/{param} or METHOD /path/{param}."},
			{Name: "method", Description: "Of this method."},
			{Name: "target", Description: "Of what the host's clients ask: ADDRESS or ADDRESS:PORT."},
			{Name: "percentile", Description: "Of response times, above 0 and below 100; that of the objective where there is one, else 95."},
			{Name: "step", Description: "Seconds or a duration such as 5m; without it one that makes up to 300 points."},
			{Name: "series", Description: "Whether the values are in the answer; without it those of a single metric are.", Enum: []string{"yes", "no"}},
		},
	}.serveJSON(func(values map[string]string) (any, error) {
		q, err := o.question(values)
		if err != nil {
			return nil, statusError{http.StatusBadRequest, err}
		}
		ctx, cancel := context.WithTimeout(context.Background(), o.Timeout) // who asks for the same shares the answer
		defer cancel()
		return o.answer(ctx, q)
	})
}

// question reads the parameters.
func (o *AnalysisOptions) question(values map[string]string) (*analysisQuestion, error) {
	q := &analysisQuestion{expr: values["query"]}
	if values["metric"] != "" {
		q.metric = analysisMetricOf(values["metric"])
	}
	q.values = values["series"] == "yes" || values["series"] == "" && (q.metric != nil || q.expr != "")
	if err := cmp.Or(q.readSubject(values), q.readPercentile(values["percentile"]), o.readTimes(q, values)); err != nil {
		return nil, err
	}
	switch {
	case q.expr != "" && q.metric != nil:
		return nil, errors.New("metric and query exclude each other")
	case q.expr != "" && q.subject != finding.Subject{}:
		return nil, errors.New("query says itself what it is of: service, route, method and target belong to a metric")
	case q.metric != nil:
		return q, q.metric.suits(&q.subject)
	}
	return q, nil
}

func (q *analysisQuestion) readSubject(values map[string]string) error {
	s := finding.Subject{Service: values["service"], Method: values["method"], Route: values["route"]}
	if method, path, both := strings.Cut(s.Route, " "); both {
		if s.Method != "" && s.Method != method {
			return fmt.Errorf("route says %s, method %s", method, s.Method)
		}
		s.Method, s.Route = method, path
	}
	if target := values["target"]; target != "" {
		if s.Route != "" {
			return errors.New("target is of what clients ask, route of what servers answer: they exclude each other")
		}
		s.Role = "client"
		var err error
		if s.Address, s.Port, err = splitTarget(target); err != nil {
			return err
		}
	}
	q.subject = s
	return nil
}

// splitTarget reads ADDRESS or ADDRESS:PORT; port 0: any. An address of IPv6 with a port stands in brackets.
func splitTarget(text string) (address string, port uint16, err error) {
	bracketed := strings.HasPrefix(text, "[")
	switch {
	case bracketed && strings.HasSuffix(text, "]"):
		return text[1 : len(text)-1], 0, nil
	case !bracketed && strings.Count(text, ":") != 1:
		return text, 0, nil
	}
	address, digits, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, fmt.Errorf("target: %w", err)
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("target: %q is no port", digits)
	}
	return address, uint16(n), nil
}

func (q *analysisQuestion) readPercentile(text string) error {
	if text == "" {
		return nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v > 0 && v < 100) {
		return fmt.Errorf("percentile: %q is not a number above 0 and below 100", text)
	}
	q.percentile = v
	return nil
}

// readTimes reads the window and its steps. Both ends are multiples of a step, so that each step holds whole intervals of the history.
func (o *AnalysisOptions) readTimes(q *analysisQuestion, values map[string]string) error {
	form := url.Values{}
	for name, value := range values {
		form.Set(name, value)
	}
	p := parameters{form: form}
	q.to = p.time("to", o.Now())
	q.from = q.to.Add(-p.duration("window", true))
	if values["from"] != "" {
		q.from = p.needed("from")
	}
	q.step = p.duration("step", false)
	if p.err != nil {
		return p.err
	}
	window := q.to.Sub(q.from)
	if window < analysisWindowMin || window > analysisWindowMax {
		return fmt.Errorf("a window of %s is not between %s and %s", series.SpanText(window), series.SpanText(analysisWindowMin), series.SpanText(analysisWindowMax))
	}
	if q.stepGiven = values["step"] != ""; !q.stepGiven {
		q.choose(window, 0)
		return nil
	}
	const shortest = 10 * time.Second
	if q.step < shortest || q.step%shortest != 0 || q.step > window/2 || window/q.step > analysisPointsMax {
		return fmt.Errorf("step: %s is no multiple of 10 s with at least 2 and at most %d steps in the window", series.SpanText(q.step), analysisPointsMax)
	}
	q.align(window)
	return nil
}

// choose takes the shortest step of at least that length that makes few enough points.
func (q *analysisQuestion) choose(window, least time.Duration) {
	for _, q.step = range analysisSteps {
		if q.step >= least && window/q.step <= analysisPoints {
			break
		}
	}
	q.align(window)
}

func (q *analysisQuestion) align(window time.Duration) {
	floor := func(t time.Time) time.Time {
		ms := q.step.Milliseconds()
		return time.UnixMilli(t.UnixMilli() - ((t.UnixMilli()%ms)+ms)%ms).UTC()
	}
	q.to = floor(q.to)
	q.from = q.to.Add(-window / q.step * q.step)
}

// answer draws the conclusions.
func (o *AnalysisOptions) answer(ctx context.Context, q *analysisQuestion) (*analysisJSON, error) {
	d := &analysisData{o: o, ctx: ctx, q: q}
	metrics, err := d.metrics()
	if err != nil {
		return nil, analysisError(err, analysisAdvice)
	}
	j := &analysisJSON{Time: shown(o.Now()), Subject: q.subject, Metrics: []metricAnalysisJSON{}, Notes: []string{}}
	for _, m := range metrics {
		a, err := d.analyse(m)
		if err != nil {
			return nil, analysisError(err, analysisAdvice)
		}
		j.Metrics = append(j.Metrics, *a)
	}
	d.addIncidents(j)
	j.Window = analysisWindowJSON{From: q.from, To: q.to, StepSeconds: q.step.Seconds(), Steps: q.steps()}
	for _, note := range d.notes {
		if !slices.Contains(j.Notes, note) {
			j.Notes = append(j.Notes, note)
		}
	}
	return j, nil
}

// analysisAdvice says what takes less time.
const analysisAdvice = "ask for a service, a route or a target, a shorter window, or longer steps"

// analysisError gives, with advice where it took too long, an error of the query engine the status that its own API has for it.
func analysisError(err error, advice string) error {
	var known statusError
	if errors.As(err, &known) {
		return err
	}
	kind := query.ErrorType(err)
	status := apiStatus[kind]
	if status == apiStatus["canceled"] || errors.Is(err, context.DeadlineExceeded) {
		status = http.StatusServiceUnavailable
	}
	if kind == "timeout" || errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w; %s", err, advice)
	}
	return statusError{status, err}
}

// analyse is all that is concluded of one metric.
func (d *analysisData) analyse(m measured) (a *metricAnalysisJSON, err error) {
	a = d.conclude(&m)
	if a.Unknown == "" {
		a.Correlations, err = d.correlations(&m)
	}
	return a, err
}

// conclude is what is concluded of a metric alone.
func (d *analysisData) conclude(m *measured) *metricAnalysisJSON {
	q := d.q
	a := &metricAnalysisJSON{Metric: m.name, Unit: m.unit, Query: q.expr, Percentile: m.percentile, Device: m.device,
		Changes: []changeJSON{}, Correlations: []correlationJSON{}, Anomalies: []finding.Finding{}, Limits: []limitJSON{}}
	a.Statistics = statisticsIn(m)
	a.Anomalies, a.AnomaliesUnknown = d.anomalies(m)
	if q.values {
		a.Series = pointsOf(q, m)
	}
	if a.Unknown = unknownReason(m, q); a.Unknown == "" {
		t := teller{q: q, unit: m.unit}
		a.Trend = t.trend(m.values)
		a.Changes = t.changes(m.values)
		a.Forecast, a.Limits = t.forecast(m.values, m.limits, q.values)
	}
	a.Summary = a.headline(m, q)
	return a
}

// analysisValuesMin is the fewest values that anything but statistics is concluded from: a change needs four on each side, and a
// trend of less than a dozen is mostly chance.
const analysisValuesMin = 12

// unknownReason says why nothing is concluded, "" where something is.
func unknownReason(m *measured, q *analysisQuestion) string {
	if m.why != "" {
		return m.why
	}
	n := 0
	for _, v := range m.values {
		if !math.IsNaN(v) {
			n++
		}
	}
	switch {
	case n == 0:
		return fmt.Sprintf("there is no value in the %s", windowText(q))
	case n < analysisValuesMin:
		return fmt.Sprintf("%d of %d steps have a value; conclusions need %d", n, len(m.values), analysisValuesMin)
	}
	return ""
}
