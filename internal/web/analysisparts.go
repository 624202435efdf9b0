package web

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/series"
)

// The types of an answer of /performance/analytics. What is not known is null, with a reason.

type analysisJSON struct {
	Time    time.Time            `json:"time" about:"of the answer"`
	Window  analysisWindowJSON   `json:"window"`
	Subject finding.Subject      `json:"subject" about:"of whom the metrics are; empty: the whole host"`
	Notes   []string             `json:"notes" about:"what the answer lacks, and why the steps are what they are"`
	Metrics []metricAnalysisJSON `json:"metrics" about:"the one that was asked for, or the usual ones"`
	// Incidents are those of the window, whatever is measured.
	Incidents      []finding.Effect `json:"incidents" about:"those of the window by the finding that leads, of the service if one is asked for, and of the host; the open ones, then the latest first; at most 100"`
	IncidentsTotal int              `json:"incidents_total"`
}

type analysisWindowJSON struct {
	From        time.Time `json:"from"`
	To          time.Time `json:"to" about:"the latest end of a step"`
	StepSeconds float64   `json:"step_seconds"`
	Steps       int       `json:"steps"`
}

type metricAnalysisJSON struct {
	Metric     string         `json:"metric" about:"query: an expression"`
	Unit       string         `json:"unit" about:"of all values and levels; empty where an expression does not tell"`
	Percentile *float64       `json:"percentile,omitempty" about:"of response times: which one is looked at"`
	Query      string         `json:"query,omitempty"`
	Device     string         `json:"device,omitempty" about:"the mount point of the fullest file system"`
	Summary    string         `json:"summary" about:"a sentence for people"`
	Statistics statisticsJSON `json:"statistics"`
	Unknown    string         `json:"unknown_reason,omitempty" about:"why there is no trend, forecast, change or correlation"`
	Trend      *trendJSON     `json:"trend"`
	Changes    []changeJSON   `json:"changes" about:"lasting changes of level or slope, in the order of time"`

	Anomalies        []finding.Finding `json:"anomalies" about:"findings of the subject that touch the window"`
	AnomaliesUnknown string            `json:"anomalies_unknown_reason,omitempty"`

	Correlations []correlationJSON `json:"correlations" about:"with every other metric, the surest first; none in an overview but for response times"`
	Forecast     *forecastJSON     `json:"forecast"`
	Limits       []limitJSON       `json:"limits" about:"values at which something ends, and when"`
	Series       []pointJSON       `json:"series,omitempty"`
}

type statisticsJSON struct {
	Values            int      `json:"values" about:"steps with a value"`
	Missing           int      `json:"missing" about:"steps without one: the agent did not count, or there were no requests"`
	Mean              *float64 `json:"mean" about:"this and the next ones are of the steps' values"`
	Min               *float64 `json:"min"`
	Median            *float64 `json:"median"`
	P95               *float64 `json:"p95"`
	Max               *float64 `json:"max"`
	StandardDeviation *float64 `json:"standard_deviation"`
	Latest            *float64 `json:"latest"`
	Overall           *float64 `json:"overall" about:"of all requests of the window at once; null where the metric is not one of requests"`
	Requests          *uint64  `json:"requests" about:"that stand behind it"`
	RequestsAStep     *float64 `json:"requests_per_step_median" about:"of the steps that have requests"`
	Few               bool     `json:"few_requests" about:"too few in the median step for its value to mean much"`
	Summary           string   `json:"summary"`
}

type trendJSON struct {
	Direction       series.Direction `json:"direction" about:"steady, rising, falling"`
	Strength        series.Strength  `json:"strength" about:"negligible, weak, moderate, strong: of R² 0.1, 0.3, 0.6"`
	SlopePerHour    *float64         `json:"slope_per_hour"`
	LowPerHour      *float64         `json:"slope_low_per_hour" about:"95 % interval"`
	HighPerHour     *float64         `json:"slope_high_per_hour"`
	Change          *float64         `json:"change" about:"over the whole window"`
	ChangePercent   *float64         `json:"change_percent" about:"of the line's level at the start; null where that is 0"`
	R2              *float64         `json:"r_squared"`
	P               float64          `json:"p_value" about:"probability of such a trend by chance"`
	Autocorrelation *float64         `json:"autocorrelation"`
	Summary         string           `json:"summary"`
}

type changeJSON struct {
	Time          time.Time `json:"time" about:"the beginning of the first step after it"`
	Before        *float64  `json:"before"`
	After         *float64  `json:"after"`
	ChangePercent *float64  `json:"change_percent"`
	SlopePerHour  *float64  `json:"slope_change_per_hour"`
	Confidence    *float64  `json:"confidence" about:"0 to 1"`
	Summary       string    `json:"summary"`
}

type correlationJSON struct {
	finding.Measure
	Relationship series.Relationship `json:"relationship" about:"none, positive, negative"`
	Strength     series.Strength     `json:"strength"`
	Coefficient  *float64            `json:"coefficient" about:"of the normal scores, -1 to 1, without what both owe to the load"`
	LagSeconds   float64             `json:"lag_seconds" about:"by which the metric asked for is behind this one; negative: ahead of it"`
	P            float64             `json:"p_value" about:"given autocorrelation and the lags tried"`
	Q            float64             `json:"q_value" about:"corrected for all that were compared"`
	HeldConstant string              `json:"held_constant,omitempty" about:"the load, whose effect on both is taken away"`
	Values       int                 `json:"values"`
	Summary      string              `json:"summary,omitempty"`
}

// size is how far a coefficient is from 0.
func (j *correlationJSON) size() float64 {
	if j.Coefficient == nil {
		return 0
	}
	return math.Abs(*j.Coefficient)
}

type forecastJSON struct {
	HorizonSeconds float64             `json:"horizon_seconds"`
	SeasonSeconds  float64             `json:"season_seconds" about:"what repeats itself; 0: nothing"`
	Models         []forecastModelJSON `json:"models" about:"what it was mixed from, by weight"`
	End            forecastValueJSON   `json:"end" about:"at the horizon"`
	Values         []forecastValueJSON `json:"values,omitempty"`
	Summary        string              `json:"summary"`
}

type forecastModelJSON struct {
	Name   string   `json:"name"`
	Weight *float64 `json:"weight"`
}

type forecastValueJSON struct {
	Time time.Time `json:"time"`
	Mean *float64  `json:"mean"`
	Low  *float64  `json:"low" about:"the value is between low and high with a probability of 95 %"`
	High *float64  `json:"high"`
}

type limitJSON struct {
	Limit    string     `json:"limit" about:"such as objective, memory limit, disk full"`
	Value    *float64   `json:"value"`
	Reached  bool       `json:"reached" about:"the latest value is there already"`
	Likely   *time.Time `json:"likely" about:"when the expected value is there; null: not within the forecast"`
	Earliest *time.Time `json:"earliest" about:"before it the probability is below 2.5 %"`
	Latest   *time.Time `json:"latest"`
	Summary  string     `json:"summary"`
}

type pointJSON struct {
	Time     time.Time `json:"time" about:"the end of the step"`
	Value    *float64  `json:"value"`
	Requests *uint64   `json:"requests,omitempty"`
}

// probability is a p-value with as many digits as anybody can know.
func probability(p float64) float64 {
	v, _ := strconv.ParseFloat(strconv.FormatFloat(p, 'g', 3, 64), 64)
	return v
}

// presentIn returns the values that are there, sorted, and the latest of them.
func presentIn(values []float64) (sorted []float64, latest float64) {
	latest = math.NaN()
	for _, v := range values {
		if !math.IsNaN(v) {
			sorted, latest = append(sorted, v), v
		}
	}
	slices.Sort(sorted)
	return sorted, latest
}

// sortedQuantile is a quantile of sorted values, between two by interpolation; NaN of none.
func sortedQuantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// beyondLeast is how many of a step's requests should be beyond its percentile: with one, that one is the value.
const beyondLeast = 2

// fewRequests are too few for a rate of errors.
const fewRequests = 20

func statisticsIn(m *measured) statisticsJSON {
	sorted, latest := presentIn(m.values)
	n := float64(len(sorted))
	var sum, squares float64
	for _, v := range sorted {
		sum += v
	}
	mean := sum / n // NaN of none
	for _, v := range sorted {
		squares += (v - mean) * (v - mean)
	}
	j := statisticsJSON{Values: len(sorted), Missing: len(m.values) - len(sorted), Mean: rounded(mean), Latest: rounded(latest),
		Min: rounded(sortedQuantile(sorted, 0)), Median: rounded(sortedQuantile(sorted, 0.5)), P95: rounded(sortedQuantile(sorted, 0.95)),
		Max: rounded(sortedQuantile(sorted, 1)), StandardDeviation: rounded(math.Sqrt(squares / n)), Overall: rounded(m.overall)}
	if m.requests != nil {
		total, each := uint64(0), make([]float64, 0, len(m.requests))
		for _, n := range m.requests {
			if total += n; n > 0 { // the others have no value that could rest on few
				each = append(each, float64(n))
			}
		}
		slices.Sort(each)
		median := sortedQuantile(each, 0.5)
		j.Requests, j.RequestsAStep = &total, rounded(median)
		switch {
		case m.percentile != nil:
			j.Few = median*(1-*m.percentile/100) < beyondLeast
		case m.name == "error_rate":
			j.Few = median < fewRequests
		}
	}
	return j
}

func pointsOf(q *analysisQuestion, m *measured) (all []pointJSON) {
	for i, v := range m.values {
		p := pointJSON{Time: q.from.Add(time.Duration(i+1) * q.step), Value: rounded(v)}
		if m.requests != nil {
			p.Requests = &m.requests[i]
		}
		all = append(all, p)
	}
	return all
}

// teller concludes from values, and says it in the unit.
type teller struct {
	q    *analysisQuestion
	unit string
}

// hourly turns a change per step into one per hour.
func (t *teller) hourly(slope float64) float64 {
	return slope * time.Hour.Seconds() / t.q.step.Seconds()
}

func (t *teller) trend(values []float64) *trendJSON {
	f := series.FindTrend(values)
	change := f.Slope * float64(len(values)-1)
	j := &trendJSON{Direction: f.Direction, Strength: f.Strength, SlopePerHour: rounded(t.hourly(f.Slope)), LowPerHour: rounded(t.hourly(f.SlopeLow)),
		HighPerHour: rounded(t.hourly(f.SlopeHigh)), Change: rounded(change), ChangePercent: percentOf(change, f.Level), R2: rounded(f.R2),
		P: probability(f.P), Autocorrelation: rounded(f.Autocorrelation)}
	j.Summary = t.trendText(&f, change)
	return j
}

// percentOf is a change against a level; nil where that is no ground for a share.
func percentOf(change, level float64) *float64 {
	if !(level > 0) {
		return nil
	}
	return rounded(100 * change / level)
}

func (t *teller) changes(values []float64) []changeJSON {
	all := []changeJSON{}
	for _, c := range series.FindChanges(values) {
		j := changeJSON{Time: t.q.from.Add(time.Duration(c.Index) * t.q.step), Before: rounded(c.Before), After: rounded(c.After),
			ChangePercent: percentOf(c.Delta, c.Before), SlopePerHour: rounded(t.hourly(c.Slope)), Confidence: rounded(c.Confidence)}
		j.Summary = t.changeText(&j, &c)
		all = append(all, j)
	}
	return all
}

const (
	// forecastShare is how far ahead a forecast looks, as a share of the window.
	forecastShare = 4
	// daysForSeason is how many days a window has in which what a day does is seen to repeat itself.
	daysForSeason = 2
	day           = 24 * time.Hour
)

func (t *teller) forecast(values []float64, limits []analysisLimit, withValues bool) (*forecastJSON, []limitJSON) {
	q := t.q
	options := series.ForecastOptions{Horizon: max(len(values)/forecastShare, 1)}
	if q.to.Sub(q.from) >= daysForSeason*day && day%q.step == 0 && q.step < day {
		options.Season = int(day / q.step)
	}
	f := series.MakeForecast(values, options)
	j := &forecastJSON{HorizonSeconds: (time.Duration(options.Horizon) * q.step).Seconds(),
		SeasonSeconds: (time.Duration(options.Season) * q.step).Seconds(), Models: []forecastModelJSON{}}
	for _, m := range f.Models {
		j.Models = append(j.Models, forecastModelJSON{m.Name, rounded(m.Weight)})
	}
	if len(f.Values) == 0 {
		return nil, []limitJSON{}
	}
	all := make([]forecastValueJSON, len(f.Values))
	for i, v := range f.Values {
		all[i] = forecastValueJSON{t.ahead(i + 1), rounded(v.Mean), rounded(v.Low), rounded(v.High)}
	}
	j.End = all[len(all)-1]
	if withValues {
		j.Values = all
	}
	j.Summary = t.forecastText(f.Values[len(all)-1], j.SeasonSeconds)
	_, latest := presentIn(values)
	reached := []limitJSON{}
	for _, l := range limits {
		reached = append(reached, t.limit(&f, l, latest))
	}
	return j, reached
}

// ahead is the time of a step after the window.
func (t *teller) ahead(step int) time.Time { return t.q.to.Add(time.Duration(step) * t.q.step) }

func (t *teller) limit(f *series.Forecast, l analysisLimit, latest float64) limitJSON {
	j := limitJSON{Limit: l.name, Value: rounded(l.value), Reached: latest >= l.value}
	if !j.Reached {
		at := func(step int) *time.Time {
			if step == 0 {
				return nil
			}
			when := t.ahead(step)
			return &when
		}
		c := f.Until(l.value, false)
		j.Likely, j.Earliest, j.Latest = at(c.Likely), at(c.Earliest), at(c.Latest)
	}
	j.Summary = t.limitText(&j, l, len(f.Values))
	return j
}

// anomalies are the findings of what is asked for.
func (d *analysisData) anomalies(m *measured) ([]finding.Finding, string) {
	all := []finding.Finding{}
	switch {
	case m.of == nil:
		return all, "nobody looks for findings of an expression"
	case d.o.Findings == nil:
		return all, "nobody looks for findings"
	}
	for _, f := range d.findings() {
		if concerns(f, m) {
			all = append(all, *f)
		}
	}
	return all, ""
}

// findings are those of the window; they are read once.
func (d *analysisData) findings() []*finding.Finding {
	if d.found == nil && d.o.Findings != nil {
		all, err := d.o.Findings(d.q.from, d.q.to)
		if err != nil {
			d.notes = append(d.notes, fmt.Sprintf("findings may be missing: %v", err))
		}
		d.found = append([]*finding.Finding{}, all...)
	}
	return d.found
}

// incidentsMax bounds the incidents that are listed.
const incidentsMax = 100

// addIncidents adds what happened in the window.
func (d *analysisData) addIncidents(j *analysisJSON) {
	j.Incidents = []finding.Effect{}
	for _, f := range finding.Incidents(d.findings()) {
		if service := d.q.subject.Service; service != "" && !f.Touches(func(u *finding.Subject) bool { return u.Service == service || u.Service == "" }) {
			continue
		}
		if j.IncidentsTotal++; len(j.Incidents) < incidentsMax {
			j.Incidents = append(j.Incidents, f.Brief())
		}
	}
}

// concerns tells whether a finding, or a part of it, is about what was measured.
func concerns(f *finding.Finding, m *measured) bool {
	of := func(about *finding.Measure) bool {
		return metricOfFinding(about) == m.name && covers(&m.Subject, &about.Subject, m.of.ofRequests(&about.Subject))
	}
	return of(&f.Measure) || slices.ContainsFunc(f.Parts, func(p finding.Part) bool { return of(&p.Measure) })
}

// metricOfFinding is what a finding's metric is called here: there are several of response times there, and a service's memory has
// another name than the host's.
func metricOfFinding(m *finding.Measure) string {
	switch m.Metric {
	case finding.ResponseTimeP95:
		return finding.ResponseTime
	case finding.MemoryResident:
		return finding.MemoryUsage
	}
	return m.Metric
}

// covers tells whether a finding's subject is one of those that were asked for: of requests what is left out means any, of a figure
// the host.
func covers(asked, found *finding.Subject, requests bool) bool {
	any := func(want, has string) bool { return want == has || want == "" && requests }
	return any(asked.Service, found.Service) && any(asked.Method, found.Method) && any(asked.Route, found.Route) &&
		any(asked.Address, found.Address) && (asked.Port == found.Port || asked.Port == 0) && (asked.Role == "client") == (found.Role == "client")
}

const (
	// lagsMax and lagShare bound how many steps one metric may be behind another.
	lagsMax, lagShare = 12, 10
	loadMetric        = "throughput"
)

// correlated are the metrics that every other is compared with.
var correlated = []string{
	"response_time", loadMetric, "error_rate", "saturation", "cpu_usage", "memory_usage", "disk_utilisation", "disk_read", "disk_write",
	"network_receive", "network_transmit", "retransmits", "pressure_cpu", "pressure_memory", "pressure_io", "cpu_throttling", "threads",
}

// compared reads what others are compared with: what the same requests did, and figures of their service and of the host.
func (d *analysisData) compared() ([]measured, error) {
	if d.observed != nil {
		return d.observed, nil
	}
	subjects := []finding.Subject{d.q.subject}
	if service := (finding.Subject{Service: d.q.subject.Service}); service.Service != "" && d.q.subject != service {
		subjects = append(subjects, service)
	}
	if d.q.subject != (finding.Subject{}) {
		subjects = append(subjects, finding.Subject{})
	}
	for i := range subjects {
		for _, name := range correlated {
			m := analysisMetricOf(name)
			if i > 0 && m.ofRequests(&subjects[i]) || m.suits(&subjects[i]) != nil {
				continue
			}
			v, err := d.measure(m, subjects[i])
			if errors.Is(err, query.ErrMuchToRead) {
				d.notes = append(d.notes, "figures of requests are not compared, because there are very many endpoints; with step=1h they are")
				continue
			}
			if err != nil {
				return nil, err
			}
			if v.why == "" && varies(v.values) {
				d.observed = append(d.observed, v)
			}
		}
	}
	return d.observed, nil
}

// varies tells whether values are enough, and not all the same.
func varies(values []float64) bool {
	sorted, _ := presentIn(values)
	return len(sorted) >= analysisValuesMin && sorted[0] < sorted[len(sorted)-1]
}

// correlations compares a metric with all others: of an overview response times alone, which everything else is there to explain.
func (d *analysisData) correlations(m *measured) ([]correlationJSON, error) {
	found := []correlationJSON{}
	if d.q.metric == nil && d.q.expr == "" && m.name != "response_time" || !varies(m.values) {
		return found, nil
	}
	others, err := d.compared()
	if err != nil {
		return nil, err
	}
	var load []float64
	for i := range others {
		if others[i].name == loadMetric && m.name != loadMetric {
			load = others[i].values
		}
	}
	var all []*series.Correlation
	var with []*measured
	for i := range others {
		x := &others[i]
		if x.Measure == m.Measure {
			continue
		}
		options := series.CorrelationOptions{LagMax: min(lagsMax, len(m.values)/lagShare)}
		if x.name != loadMetric {
			options.Load = load
		}
		c := series.Correlate(x.values, m.values, options)
		all, with = append(all, &c), append(with, x)
	}
	series.CorrectForAll(all)
	for i, c := range all {
		j := correlationJSON{Measure: with[i].Measure, Relationship: c.Relationship, Strength: c.Strength, Coefficient: rounded(c.Coefficient),
			LagSeconds: (time.Duration(c.Lag) * d.q.step).Seconds(), P: probability(c.P), Q: probability(c.Q), Values: c.Values}
		if load != nil && with[i].name != loadMetric {
			j.HeldConstant = loadMetric
		}
		j.Summary = correlationText(&j, c.Coefficient, m)
		found = append(found, j)
	}
	slices.SortStableFunc(found, func(a, b correlationJSON) int {
		return cmp.Or(cmp.Compare(a.Q, b.Q), cmp.Compare(b.size(), a.size()))
	})
	return found, nil
}
