// Package report puts together what a person wants to know of a time that is over: how fast, compared with the time before, how
// reliable, what went wrong, what is about to. Its numbers are those of the local history; what that lacks is said, and not filled.
package report

import (
	"time"

	"github.com/perfagent/perfagent/internal/chart"
)

// Report is what was found, as JSON. What is not known is null, or absent.
type Report struct {
	Title     string    `json:"title"`
	Host      string    `json:"host"`
	Version   string    `json:"version"`
	Generated time.Time `json:"generated"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`

	Summary  []string `json:"summary" about:"three to six sentences"`
	Coverage Coverage `json:"coverage"`

	Traffic Figures  `json:"traffic" about:"of all requests to this host's services"`
	Before  *Figures `json:"before" about:"the same of the range of the same length before; null where the agent counted less than half of it, or there is too much to read of it"`

	ServicesTotal  int           `json:"services_total"`
	Services       []ServiceRow  `json:"services" about:"the busiest first"`
	EndpointsTotal int           `json:"endpoints_total"`
	SlowestTotal   int           `json:"slowest_total" about:"endpoints with enough requests for a 95th percentile"`
	FailingTotal   int           `json:"failing_total" about:"endpoints with failures"`
	Slowest        []EndpointRow `json:"slowest" about:"by the 95th percentile, of those with enough requests for one"`
	Failing        []EndpointRow `json:"failing" about:"by the number of failures"`
	Busiest        []EndpointRow `json:"busiest" about:"by the time that their requests took in all"`

	Objectives        []Objective `json:"objectives"`
	ObjectivesUnknown string      `json:"objectives_unknown_reason,omitempty"`

	IncidentsTotal   int        `json:"incidents_total"`
	Incidents        []Incident `json:"incidents" about:"the most severe first"`
	IncidentsUnknown string     `json:"incidents_unknown_reason,omitempty" about:"what of them could not be asked"`

	Trends []Metric `json:"trends" about:"of the whole host, as /performance/analytics concludes them"`

	Resources        []ServiceResources `json:"resources" about:"of the services that used the most processor time"`
	ResourcesUnknown string             `json:"resources_unknown_reason,omitempty"`

	Losses        []Loss `json:"losses" about:"exchanges that are known to have happened and are in no figure"`
	LossesUnknown string `json:"losses_unknown_reason,omitempty"`

	Notes []string `json:"notes" about:"what the report lacks"`
}

// Coverage is how much of the range the agent counted.
type Coverage struct {
	CountedSeconds float64 `json:"counted_seconds"`
	SharePercent   float64 `json:"share_percent"`
	StepSeconds    float64 `json:"step_seconds" about:"a gap is found where the agent counted for less than half of such a step"`
	GapsTotal      int     `json:"gaps_total"`
	Gaps           []Gap   `json:"gaps" about:"the longest first"`
}

// Gap is a time in which the agent did not count.
type Gap struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Figures are of requests.
type Figures struct {
	Requests     uint64   `json:"requests"`
	Failures     uint64   `json:"failures" about:"a status of 5xx, or no answer"`
	RPS          *float64 `json:"throughput_rps" about:"over the time that the agent counted"`
	ErrorPercent *float64 `json:"error_rate_percent" about:"null without requests"`
	Average      *float64 `json:"average_ms"`
	P50          *float64 `json:"p50_ms"`
	P95          *float64 `json:"p95_ms"`
	P99          *float64 `json:"p99_ms"`
}

// ServiceRow is a service in a table.
type ServiceRow struct {
	Service   string `json:"service_name"`
	Namespace string `json:"service_namespace,omitempty"`
	Endpoints int    `json:"endpoints"`
	Level     string `json:"level" about:"the worst of its endpoints, of those with enough requests; empty where none is judged"`
	Figures
	P95Before *float64 `json:"p95_before_ms"`
}

// EndpointRow is an endpoint in a table.
type EndpointRow struct {
	Service   string `json:"service_name"`
	Namespace string `json:"service_namespace,omitempty"`
	Method    string `json:"http_request_method"`
	Route     string `json:"http_route"`
	Level     string `json:"level" about:"of the whole range: excellent, good, fair, poor or critical; empty where there were too few requests"`
	Figures
	P95Before *float64 `json:"p95_before_ms"`

	took float64
}

// Objective is what a service has promised, and what is left of its error budget.
type Objective struct {
	Service     string   `json:"service_name"`
	Route       string   `json:"http_route,omitempty"`
	Kind        string   `json:"kind" about:"availability or latency"`
	Target      string   `json:"target" about:"for people"`
	WindowDays  float64  `json:"window_days" about:"of the error budget, which ends now and not with the range"`
	LeftPercent *float64 `json:"budget_left_percent" about:"below 0: more than all was used; null: no request was seen"`
	Unmatched   bool     `json:"unmatched,omitempty" about:"no endpoint of its service and route is there"`
}

// Incident is something that went wrong.
type Incident struct {
	ID        string            `json:"id,omitempty"`
	Kind      string            `json:"kind" about:"finding or alert"`
	Severity  string            `json:"severity" about:"info, warning, error or critical"`
	Subject   string            `json:"subject" about:"whom it is about"`
	Start     time.Time         `json:"start"`
	End       *time.Time        `json:"end" about:"null while it goes on"`
	Summary   string            `json:"summary"`
	Causes    []ProbableCause   `json:"causes,omitempty" about:"the likeliest first"`
	NextSteps []string          `json:"next_steps,omitempty"`
	Foreseen  string            `json:"foreseen,omitempty" about:"which limit is reached, and when, if it goes on"`
	Labels    map[string]string `json:"labels,omitempty" about:"of an alert"`
}

// ProbableCause is what an incident probably comes from.
type ProbableCause struct {
	Summary    string  `json:"summary"`
	Confidence float64 `json:"confidence" about:"0 to 1"`
}

// Metric is what became of one metric.
type Metric struct {
	Metric   string   `json:"metric"`
	Name     string   `json:"name" about:"for people"`
	Unit     string   `json:"unit"`
	Average  *float64 `json:"average" about:"of the steps' values"`
	Peak     *float64 `json:"peak" about:"the highest value of a step"`
	Latest   *float64 `json:"latest"`
	Summary  string   `json:"summary"`
	Trend    string   `json:"trend,omitempty"`
	Changes  []string `json:"changes,omitempty" about:"lasting ones, of a confidence of 0.8 or more"`
	Forecast string   `json:"forecast,omitempty"`
	Limits   []Ahead  `json:"limits,omitempty" about:"that are reached if it goes on"`
	Unknown  string   `json:"unknown_reason,omitempty"`

	picture *chart.Chart
}

// Drawn returns the metric with a picture.
func (m Metric) Drawn(c *chart.Chart) Metric {
	m.picture = c
	return m
}

// Ahead is a limit that is reached if a metric goes on.
type Ahead struct {
	Limit   string     `json:"limit"`
	Reached bool       `json:"reached"`
	Likely  *time.Time `json:"likely"`
	Summary string     `json:"summary"`
}

// ServiceResources are what a service used.
type ServiceResources struct {
	Service       string   `json:"service_name"`
	CPUAverage    *float64 `json:"cpu_average_percent" about:"of one processor"`
	CPUPeak       *float64 `json:"cpu_peak_percent" about:"the highest of a step"`
	MemoryAverage *float64 `json:"memory_average_mb"`
	MemoryPeak    *float64 `json:"memory_peak_mb"`
}

// Loss is how many exchanges were lost at one place.
type Loss struct {
	Stage     string  `json:"stage"`
	Reason    string  `json:"reason"`
	Exchanges float64 `json:"exchanges"`
}
