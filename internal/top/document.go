// Package top is a live table of what a running agent observes: it reads /dashboard of the agent, again and again, and shows it on a
// terminal, as text or as JSON. What it shows of captured text is inert.
package top

import (
	"cmp"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/finding"
)

// document is what top reads of /dashboard, with the names that it has there.
type document struct {
	Version string `json:"version"`
	Window  window `json:"window"`
	statistics
	System         *analytics.System `json:"system"`
	Concurrency    concurrency       `json:"concurrency"`
	ServicesTotal  int               `json:"services_total"`
	Services       []entry           `json:"services"`
	EndpointsTotal int               `json:"endpoints_total"`
	Endpoints      []entry           `json:"endpoints"`
	TargetsTotal   int               `json:"targets_total"`
	Targets        []entry           `json:"targets"`
	Health         *health           `json:"health"`
	Alerts         *alerts           `json:"alerts"`
	Agent          *agent            `json:"agent"`
	Findings       []finding.Finding `json:"findings"`
}

type window struct {
	Name    string    `json:"name"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Seconds float64   `json:"seconds"`
}

// equal tells whether both are of the same time; the zones that times are written in do not matter.
func (w window) equal(other window) bool {
	return w.Name == other.Name && w.From.Equal(other.From) && w.To.Equal(other.To)
}

type statistics struct {
	Exchanges        uint64       `json:"exchanges"`
	Failures         uint64       `json:"failures"`
	Timeouts         uint64       `json:"timeouts"`
	ThroughputRPS    *float64     `json:"throughput_rps"`
	ErrorRatePercent *float64     `json:"error_rate_percent"`
	ResponseTime     responseTime `json:"response_time"`
}

type responseTime struct {
	P50     *float64 `json:"p50_ms"`
	P95     *float64 `json:"p95_ms"`
	P99     *float64 `json:"p99_ms"`
	Average *float64 `json:"average_ms"`
}

type concurrency struct {
	InFlightMean *float64 `json:"in_flight_mean"`
	Active       *int64   `json:"active,omitempty"`
}

// entry is an endpoint, a service or a target: what one of them does not have is absent.
type entry struct {
	Service     string `json:"service_name"`
	Namespace   string `json:"service_namespace,omitempty"`
	Method      string `json:"method,omitempty"`
	Route       string `json:"http_route,omitempty"`
	RouteSource string `json:"route_source,omitempty"`
	Address     string `json:"server_address,omitempty"`
	Port        uint16 `json:"server_port,omitempty"`
	Endpoints   int    `json:"endpoints,omitempty"`
	statistics
	Phases           *phases              `json:"phases,omitempty"`
	Statuses         *statuses            `json:"statuses,omitempty"`
	InFlightMean     *float64             `json:"in_flight_mean,omitempty"`
	RequestSizeMean  *float64             `json:"request_size_mean_bytes,omitempty"`
	ResponseSizeMean *float64             `json:"response_size_mean_bytes,omitempty"`
	Level            *level               `json:"level,omitempty"`
	Levels           *levels              `json:"levels,omitempty"`
	Concurrency      *concurrency         `json:"concurrency,omitempty"`
	Saturation       *saturation          `json:"saturation,omitempty"`
	Resources        *analytics.Resources `json:"resources,omitempty"`
}

type level struct {
	Name   string `json:"name"`
	Level  int    `json:"level"`
	Severe bool   `json:"severe"`
}

type levels struct {
	ResponseTime        *level `json:"response_time"`
	Throughput          *level `json:"throughput"`
	ErrorRate           *level `json:"error_rate"`
	ResponseTimeUnknown string `json:"response_time_unknown_reason,omitempty"`
	ErrorRateUnknown    string `json:"error_rate_unknown_reason,omitempty"`
}

type saturation struct {
	Method              string   `json:"method"`
	CapacityRPS         *float64 `json:"capacity_rps"`
	CapacityLeftPercent *float64 `json:"capacity_left_percent"`
}

type health struct {
	Status  string   `json:"status"`
	Unknown string   `json:"unknown_reason"`
	Reasons []reason `json:"reasons"`
}

type reason struct {
	Service   string `json:"service_name"`
	Namespace string `json:"service_namespace"`
	Method    string `json:"method"`
	Route     string `json:"http_route"`
	Aspect    string `json:"aspect"`
	Level     string `json:"level"`
	Severe    bool   `json:"severe"`
	Message   string `json:"message"`
}

type alerts struct {
	Evaluating bool    `json:"evaluating"`
	Why        string  `json:"why_not"`
	Firing     int     `json:"firing_total"`
	Pending    int     `json:"pending_total"`
	Alerts     []alert `json:"alerts"`
}

type alert struct {
	Name        string            `json:"alertname"`
	State       string            `json:"state"`
	Severity    string            `json:"severity"`
	Service     string            `json:"service_name"`
	Route       string            `json:"http_route"`
	Summary     string            `json:"summary"`
	Description string            `json:"description"`
	NextStep    string            `json:"next_step"`
	ActiveAt    time.Time         `json:"active_at"`
	Labels      map[string]string `json:"labels"`
}

type agent struct {
	Status        string      `json:"status"`
	Reasons       []string    `json:"reasons"`
	UptimeSeconds *float64    `json:"uptime_seconds"`
	Backend       string      `json:"backend"`
	Lost          uint64      `json:"exchanges_lost"`
	Undecoded     []undecoded `json:"undecoded"`
}

type undecoded struct {
	Service     string `json:"service_name"`
	Reason      string `json:"reason"`
	Connections uint64 `json:"connections"`
}

// phases are the shares of an endpoint's time; one that is not seen is nil.
type phases struct {
	Queue      *float64 `json:"queue_percent"`
	Processing *float64 `json:"processing_percent"`
	Transfer   *float64 `json:"transfer_percent"`
}

// statuses are the shares of an endpoint's responses by the first digit of their status, and of exchanges without any.
type statuses struct {
	Percent map[string]float64 `json:"percent"`
}

// statusNames are the keys of statuses, in their order.
var statusNames = []string{"1xx", "2xx", "3xx", "4xx", "5xx", "none"}

// id tells an entry from the others of its view.
func (e *entry) id() string {
	return strings.Join([]string{e.Namespace, e.Service, e.Method, e.Route, e.target()}, "\x00")
}

// target is what a client calls: an address, which is in brackets where it has colons and a port follows.
func (e *entry) target() string {
	switch {
	case e.Address == "" || e.Port == 0:
		return e.Address
	case strings.Contains(e.Address, ":"):
		return "[" + e.Address + "]:" + itoa(int(e.Port))
	}
	return e.Address + ":" + itoa(int(e.Port))
}

// name is the row's own: the route, what is called, or the service.
func (e *entry) name() string { return cmp.Or(e.Route, e.target(), e.service()) }

func (e *entry) service() string {
	if e.Namespace == "" {
		return e.Service
	}
	return e.Namespace + "/" + e.Service
}

// worst is the level that people look at first: of response times and errors, as few requests are nobody's fault.
func (e *entry) worst() *level {
	if e.Levels == nil {
		return e.Level
	}
	a, b := e.Levels.ResponseTime, e.Levels.ErrorRate
	if a == nil || b != nil && b.rank() > a.rank() {
		return b
	}
	return a
}

func (l *level) rank() int {
	switch {
	case l == nil:
		return -1
	case l.Severe:
		return l.Level + 1
	}
	return l.Level
}

func (l *level) String() string {
	switch {
	case l == nil:
		return "-"
	case l.Severe:
		return l.Name + "!"
	}
	return l.Name
}
