package web

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/query"
)

// analysisMetric is what may be asked for by name: of requests, or a figure of the host or of a service.
type analysisMetric struct {
	name string
	unit string
	// requests is the value of a step in which requests were counted; nil: the metric is a figure.
	requests func(p *query.Period, percentile float64) float64
	// host and service are expressions of a figure: $W is the window of a step, $S selects the service, $D the device. "": the
	// figure is not known of such.
	host, service string
	serviceUnit   string // where it is another
	device        string // an expression whose only series has the label mountpoint, of the one that is looked at
	usual         bool   // it belongs to an overview
	full          string // what is said of 100 %; "": nothing ends there
}

const (
	millisecondUnit = "ms"
	rateUnit        = "rps"
	percentUnit     = "percent"
	megabyteUnit    = "mb"
	transferUnit    = "mb_per_second"
	secondUnit      = "per_second"
	countUnit       = "count"
)

const (
	serverDurations = "http_server_request_duration_seconds"
	clientDurations = "http_client_request_duration_seconds"
	serverPhases    = "perfagent_http_server_phase_duration_seconds"
)

// analysisMetrics are in the order of an overview. Errors of an expression would show in a test.
var analysisMetrics = []analysisMetric{
	{name: "response_time", unit: millisecondUnit, usual: true, requests: func(p *query.Period, percentile float64) float64 {
		return p.Values.Quantile(percentile/100) / 1e6
	}},
	{name: "throughput", unit: rateUnit, usual: true, requests: func(p *query.Period, _ float64) float64 {
		return float64(p.Requests) / p.Counted.Seconds()
	}},
	{name: "error_rate", unit: percentUnit, usual: true, requests: func(p *query.Period, _ float64) float64 {
		return 100 * float64(p.Failures) / float64(p.Requests) // NaN without requests
	}},
	{name: "in_flight", unit: countUnit, requests: func(p *query.Period, _ float64) float64 {
		return p.Values.Sum() / p.Counted.Seconds() // Little's law
	}},
	{name: "saturation", unit: percentUnit, host: `clamp_max(100 * max(rate(perfagent_host_pressure_stalled_seconds_total{kind="some"}[$W])), 100)`},
	{name: "cpu_usage", unit: percentUnit, usual: true, full: "all processors busy",
		host:    `100 * (1 - sum(rate(perfagent_host_cpu_seconds_total{mode=~"idle|iowait|steal"}[$W])) / sum(rate(perfagent_host_cpu_seconds_total[$W])))`,
		service: `100 * sum(rate(perfagent_service_cpu_seconds_total{$S}[$W]))`},
	{name: "memory_usage", unit: percentUnit, usual: true, full: "memory used up", serviceUnit: megabyteUnit,
		host:    `100 * sum(avg_over_time(perfagent_host_memory_used_bytes[$W])) / sum(avg_over_time(perfagent_host_memory_total_bytes[$W]))`,
		service: `sum(avg_over_time(perfagent_service_resident_memory_bytes{$S}[$W])) / 1e6`},
	{name: "memory_limit_usage", unit: percentUnit, usual: true, full: "memory limit",
		service: `100 * max(avg_over_time(perfagent_service_cgroup_memory_bytes{$S}[$W]) / avg_over_time(perfagent_service_cgroup_memory_limit_bytes{$S}[$W]))`},
	{name: "swap_usage", unit: megabyteUnit, host: `sum(avg_over_time(perfagent_host_swap_used_bytes[$W])) / 1e6`},
	{name: "disk_space_used", unit: percentUnit, usual: true, full: "disk full",
		device: `topk(1, perfagent_host_filesystem_used_bytes / (perfagent_host_filesystem_used_bytes + perfagent_host_filesystem_available_bytes))`,
		host: `100 * max(avg_over_time(perfagent_host_filesystem_used_bytes{$D}[$W]) / ` +
			`(avg_over_time(perfagent_host_filesystem_used_bytes{$D}[$W]) + avg_over_time(perfagent_host_filesystem_available_bytes{$D}[$W])))`},
	{name: "disk_utilisation", unit: percentUnit, usual: true, host: `clamp_max(100 * max(rate(perfagent_host_disk_busy_seconds_total[$W])), 100)`},
	{name: "disk_read", unit: transferUnit, host: `sum(rate(perfagent_host_disk_read_bytes_total{stacked="false"}[$W])) / 1e6`,
		service: `sum(rate(perfagent_service_storage_read_bytes_total{$S}[$W])) / 1e6`},
	{name: "disk_write", unit: transferUnit, host: `sum(rate(perfagent_host_disk_written_bytes_total{stacked="false"}[$W])) / 1e6`,
		service: `sum(rate(perfagent_service_storage_written_bytes_total{$S}[$W])) / 1e6`},
	{name: "network_receive", unit: transferUnit, host: `sum(rate(perfagent_host_network_receive_bytes_total{loopback="false"}[$W])) / 1e6`},
	{name: "network_transmit", unit: transferUnit, host: `sum(rate(perfagent_host_network_transmit_bytes_total{loopback="false"}[$W])) / 1e6`},
	{name: "retransmits", unit: secondUnit, host: `sum(rate(perfagent_host_tcp_retransmitted_segments_total[$W]))`},
	{name: "pressure_cpu", unit: percentUnit, usual: true, host: stalledShare("cpu")},
	{name: "pressure_memory", unit: percentUnit, usual: true, host: stalledShare("memory")},
	{name: "pressure_io", unit: percentUnit, usual: true, host: stalledShare("io")},
	{name: "cpu_throttling", unit: percentUnit, usual: true,
		service: `100 * max(rate(perfagent_service_cgroup_cpu_throttled_periods_total{$S}[$W]) / (rate(perfagent_service_cgroup_cpu_periods_total{$S}[$W]) > 0))`},
	{name: "threads", unit: countUnit, service: `sum(avg_over_time(perfagent_service_threads{$S}[$W]))`},
	{name: "open_files_usage", unit: percentUnit, full: "limit of open files",
		service: `100 * max(avg_over_time(perfagent_service_file_descriptors_used_ratio{$S}[$W]))`},
}

// stalledShare is a share of time; what the kernel adds up late would make it a little more than all of it.
func stalledShare(resource string) string {
	return fmt.Sprintf(`clamp_max(100 * sum(rate(perfagent_host_pressure_stalled_seconds_total{kind="some",resource=%q}[$W])), 100)`, resource)
}

func analysisMetricNames() (names []string) {
	for i := range analysisMetrics {
		names = append(names, analysisMetrics[i].name)
	}
	return names
}

func analysisMetricOf(name string) *analysisMetric {
	i := slices.IndexFunc(analysisMetrics, func(m analysisMetric) bool { return m.name == name })
	return &analysisMetrics[i]
}

// ofRequests tells whether the metric is one of what requests did: saturation is where it is not the host's.
func (m *analysisMetric) ofRequests(s *finding.Subject) bool {
	return m.requests != nil || m.name == "saturation" && *s != finding.Subject{}
}

// suits says why a metric is not known of a subject; nil: it is.
func (m *analysisMetric) suits(s *finding.Subject) error {
	part := s.Route != "" || s.Method != "" || s.Role == "client"
	switch {
	case m.ofRequests(s) && m.name == "saturation" && s.Role == "client":
		return errors.New("saturation is known of the host, of services and of their routes, not of a target")
	case m.ofRequests(s):
		return nil
	case part:
		return fmt.Errorf("%s is not known of a route, a method or a target; leave these out", m.name)
	case s.Service != "" && m.service == "":
		return fmt.Errorf("%s is known of the whole host only; leave service out", m.name)
	case s.Service == "" && m.host == "":
		return fmt.Errorf("%s is known of services only; name one with service", m.name)
	}
	return nil
}

// measured is a metric's values, one for each step.
type measured struct {
	finding.Measure
	name       string // of the metric, or "query"
	unit       string
	of         *analysisMetric // nil: of an expression
	device     string
	percentile *float64
	values     []float64 // NaN: missing
	requests   []uint64  // behind each; nil: it is no metric of requests
	overall    float64   // of all requests of the window at once; NaN: there is no such
	failures   uint64
	limits     []analysisLimit
	why        string // why there is none
}

// analysisLimit is a value at which something ends.
type analysisLimit struct {
	name  string
	value float64
}

// analysisData reads what one answer needs of the history, each part once.
type analysisData struct {
	o     *AnalysisOptions
	q     *analysisQuestion
	ctx   context.Context
	notes []string

	traffic  *query.Traffic // nil: not read yet
	fixed    bool           // values were read, so that the steps stay as they are
	observed []measured     // what others are compared with
	found    []*finding.Finding
}

// noHistory tells whether there is nothing to ask, which is an answer and no error.
func noHistory(err error) bool { return errors.Is(err, query.ErrNoHistory) }

// metrics are those that are asked for.
func (d *analysisData) metrics() (all []measured, err error) {
	if d.q.expr != "" {
		m, err := d.expression()
		return []measured{m}, err
	}
	chosen := []*analysisMetric{d.q.metric}
	if d.q.metric == nil {
		chosen = nil
		for i := range analysisMetrics {
			if m := &analysisMetrics[i]; m.usual && m.suits(&d.q.subject) == nil {
				chosen = append(chosen, m)
			}
		}
	}
	for _, m := range chosen {
		v, err := d.measure(m, d.q.subject)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// measure reads a metric of a subject.
func (d *analysisData) measure(m *analysisMetric, s finding.Subject) (measured, error) {
	v := measured{Measure: finding.Measure{Metric: m.name, Subject: s}, name: m.name, unit: m.unit, of: m, overall: math.NaN()}
	if m.full != "" {
		v.limits = []analysisLimit{{m.full, 100}}
	}
	var err error
	switch {
	case m.requests != nil:
		err = d.ofTraffic(m, &v)
	case m.ofRequests(&s):
		err = d.queueShare(&v)
	default:
		err = d.figure(m, &v)
	}
	if noHistory(err) {
		v.why, err = err.Error(), nil
	}
	return v, err
}

// readTraffic reads what requests did. Where that would take too long, and nobody asked for the steps, these become hours.
func (d *analysisData) readTraffic() (*query.Traffic, error) {
	if d.traffic != nil {
		return d.traffic, nil
	}
	question := d.trafficQuestion()
	window := d.q.to.Sub(d.q.from)
	if !d.q.stepGiven && d.q.step < time.Hour && window >= analysisHours {
		question.BytesMax = analysisBytesMax
	}
	t, err := d.o.Engine.Traffic(d.ctx, question)
	if errors.Is(err, query.ErrMuchToRead) && !d.fixed {
		d.q.choose(window, time.Hour)
		d.notes = append(d.notes, "the steps are hours, because there are very many endpoints; with service, route or step they are shorter")
		t, err = d.o.Engine.Traffic(d.ctx, d.trafficQuestion())
	}
	if err != nil {
		return nil, err
	}
	d.traffic, d.fixed = t, true
	d.notes = append(d.notes, t.Warnings...)
	return t, nil
}

func (d *analysisData) trafficQuestion() query.TrafficQuestion {
	s := &d.q.subject
	question := query.TrafficQuestion{Family: serverDurations, Labels: map[string]string{}, Start: d.q.from, End: d.q.to, Step: d.q.step}
	if s.Role == "client" {
		question.Family = clientDurations
		question.Labels["server_address"] = s.Address
		if s.Port != 0 {
			question.Labels["server_port"] = strconv.Itoa(int(s.Port))
		}
	}
	for name, value := range map[string]string{"service_name": s.Service, "http_request_method": s.Method, "http_route": s.Route} {
		if value != "" {
			question.Labels[name] = value
		}
	}
	return question
}

// ofTraffic takes a metric's values from what requests did. Of a step in which the agent counted for less than half of the time nothing
// is concluded.
func (d *analysisData) ofTraffic(m *analysisMetric, v *measured) error {
	percentile := d.percentile()
	t, err := d.readTraffic()
	if err != nil {
		return err
	}
	if t.Series == 0 {
		v.why = "no request of it was seen in the " + windowText(d.q)
		return nil
	}
	whole := query.Period{}
	v.values, v.requests = make([]float64, len(t.Periods)), make([]uint64, len(t.Periods))
	for i := range t.Periods {
		p := &t.Periods[i]
		v.values[i], v.requests[i] = math.NaN(), p.Requests
		if 2*p.Counted >= d.q.step {
			v.values[i] = m.requests(p, percentile)
		}
		whole.Counted += p.Counted
		whole.Requests += p.Requests
		whole.Failures += p.Failures
		whole.Values.Merge(&p.Values)
	}
	v.overall, v.failures = m.requests(&whole, percentile), whole.Failures
	if m.name == "response_time" {
		v.percentile = &percentile
	}
	v.limits = append(v.limits, d.objectives(m, percentile)...)
	return nil
}

// objectivesOf are those of just the subject that is asked for.
func (d *analysisData) objectivesOf(kind string, yield func(percent, limit float64)) {
	s := &d.q.subject
	if d.o.Objectives == nil || s.Service == "" || s.Role == "client" {
		return
	}
	for _, v := range d.o.Objectives() {
		method, path, both := strings.Cut(v.Route, " ")
		if !both {
			method, path = "", v.Route
		}
		if v.Kind != kind || v.Service != s.Service || path != s.Route || method != s.Method {
			continue
		}
		if kind == "latency" {
			yield(v.LatencyPercent, v.LatencyMS)
		} else {
			yield(v.AvailabilityPercent, 100-v.AvailabilityPercent)
		}
	}
}

// percentile is that of response times.
func (d *analysisData) percentile() float64 {
	p := d.q.percentile
	if p == 0 {
		p = percentileDefault
		d.objectivesOf("latency", func(percent, _ float64) { p = percent })
	}
	return p
}

// objectives are the limits that an objective sets: that 99 % of the requests take at most 300 ms is one of the 99th percentile alone.
func (d *analysisData) objectives(m *analysisMetric, percentile float64) (all []analysisLimit) {
	switch m.name {
	case "response_time":
		d.objectivesOf("latency", func(percent, limit float64) {
			if percent == percentile {
				all = append(all, analysisLimit{"objective", limit})
			}
		})
	case "error_rate":
		d.objectivesOf("availability", func(_, limit float64) {
			all = append(all, analysisLimit{"objective", limit})
		})
	}
	return all
}

// queueShare is which part of their time requests waited to be read: a server that cannot take more lets them wait.
func (d *analysisData) queueShare(v *measured) error {
	t, err := d.readTraffic()
	if err != nil {
		return err
	}
	question := d.trafficQuestion()
	question.Family, question.Labels["phase"] = serverPhases, "queue"
	queued, err := d.o.Engine.Traffic(d.ctx, question)
	if err != nil {
		return err
	}
	if t.Series == 0 || queued.Series == 0 {
		v.why = "no request of it was seen waiting in the " + windowText(d.q)
		return nil
	}
	var waited, took float64
	for i := range t.Periods {
		p, w := &t.Periods[i], queued.Periods[i].Values.Sum()
		value := math.NaN()
		if 2*p.Counted >= d.q.step && p.Values.Sum() > 0 {
			value = 100 * w / p.Values.Sum()
		}
		v.values, v.requests = append(v.values, value), append(v.requests, p.Requests)
		waited, took = waited+w, took+p.Values.Sum()
	}
	v.overall = 100 * waited / took
	return nil
}

// figureSamples is how many intervals a step's figure is made of at least: minutes in steps of five, whose ends are those of the step.
// A day is read of a sixth of the samples then, and of as few files.
const figureSamples = 5

// figure reads a figure of the host or a service.
func (d *analysisData) figure(m *analysisMetric, v *measured) error {
	expr := m.host
	if v.Service != "" {
		expr = strings.ReplaceAll(m.service, "$S", "service_name="+strconv.Quote(v.Service))
		if m.serviceUnit != "" {
			v.unit, v.limits = m.serviceUnit, nil
		}
	}
	if m.device != "" {
		var err error
		if v.device, err = d.deviceOf(m.device); err != nil {
			return err
		}
		expr = strings.ReplaceAll(expr, "$D", "mountpoint="+strconv.Quote(v.device))
	}
	window := max(d.q.step, 30*time.Second) // with less there are not always two samples
	expr = strings.ReplaceAll(expr, "$W", strconv.FormatInt(window.Milliseconds(), 10)+"ms")
	all, err := d.ask(query.Question{Expr: expr, Start: d.q.from.Add(d.q.step), End: d.q.to, Step: d.q.step, WindowSamples: figureSamples})
	if err != nil {
		return err
	}
	if len(all) > 0 {
		v.values = d.onSteps(all[0])
	}
	if m.name == "memory_usage" && v.Service != "" {
		return d.memoryLimit(v)
	}
	return nil
}

// memoryLimit sets the limit of a service's control groups.
func (d *analysisData) memoryLimit(v *measured) error {
	all, err := d.ask(query.Question{Expr: "sum(perfagent_service_cgroup_memory_limit_bytes{service_name=" + strconv.Quote(v.Service) + "}) / 1e6",
		Start: d.q.to, End: d.q.to})
	if err == nil && len(all) > 0 {
		v.limits = []analysisLimit{{"memory limit", all[0].floats[0].value}}
	}
	return err
}

// deviceOf is the mount point of the only series of an expression; "" for none.
func (d *analysisData) deviceOf(expr string) (string, error) {
	all, err := d.ask(query.Question{Expr: expr, Start: d.q.to, End: d.q.to})
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[0].labels.Get("mountpoint"), nil
}

// expression reads what a PromQL expression yields.
func (d *analysisData) expression() (measured, error) {
	v := measured{Measure: finding.Measure{Metric: "query"}, name: "query", overall: math.NaN()}
	all, err := d.ask(query.Question{Expr: d.q.expr, Start: d.q.from.Add(d.q.step), End: d.q.to, Step: d.q.step})
	switch {
	case noHistory(err):
		v.why = err.Error()
	case err != nil:
		return v, err
	case len(all) > 1:
		return v, statusError{http.StatusUnprocessableEntity,
			fmt.Errorf("the expression has %d series; put them together, as with sum(…), or choose one", len(all))}
	case len(all) == 1:
		v.values = d.onSteps(all[0])
	}
	return v, nil
}

// askedSeries is a series of an answer in PromQL.
type askedSeries struct {
	labels query.Labels
	floats []askedValue
}

type askedValue struct {
	ms    int64
	value float64
}

// ask copies what the engine answers with: numbers alone.
func (d *analysisData) ask(q query.Question) (all []askedSeries, err error) {
	answer, err := d.o.Engine.Ask(d.ctx, q)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	d.fixed = true
	d.notes = append(d.notes, answer.Warnings...)
	switch v := answer.Value.(type) {
	case query.Matrix:
		for i := range v {
			s := askedSeries{labels: v[i].Metric}
			for _, f := range v[i].Floats {
				s.floats = append(s.floats, askedValue{f.T, f.F})
			}
			if len(s.floats) == 0 && len(v[i].Histograms) > 0 {
				return nil, statusError{http.StatusUnprocessableEntity,
					errors.New("the expression has histograms, no numbers; take histogram_quantile(0.95, sum(rate(…))) of them")}
			}
			all = append(all, s)
		}
	case query.Vector:
		for i := range v {
			all = append(all, askedSeries{v[i].Metric, []askedValue{{v[i].T, v[i].F}}})
		}
	}
	return all, nil
}

// valueMax is the largest value that is taken for one: sums of its squares are still numbers.
const valueMax = 1e100

// onSteps puts values where their steps are.
func (d *analysisData) onSteps(s askedSeries) []float64 {
	values := make([]float64, d.q.steps())
	for i := range values {
		values[i] = math.NaN()
	}
	for _, f := range s.floats {
		i := (f.ms-d.q.from.UnixMilli())/d.q.step.Milliseconds() - 1
		if i >= 0 && i < int64(len(values)) && math.Abs(f.value) <= valueMax {
			values[i] = f.value
		}
	}
	return values
}
