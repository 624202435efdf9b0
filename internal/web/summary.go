package web

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

const (
	// rowsDefault and rowsMax are how many endpoints and services a summary lists.
	rowsDefault = 100
	rowsMax     = 10_000
)

// PerformanceOptions configures what is served of an engine's windows.
type PerformanceOptions struct {
	Engine *analytics.Engine
	// System is the host now; nil, or a result of nil: unknown.
	System func() *analytics.System
	// Resources are what services use of the host now; nil, or nil for a service: unknown.
	Resources func(service, namespace string) *analytics.Resources
	// ServiceAt is the service of this host that answers at an address; "": none that is known, or elsewhere; nil: nobody knows.
	ServiceAt func(address string, port uint16) string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// The types of a summary, as JSON. What is not known is null, or absent where its help says "if known".

type summary struct {
	Time   time.Time         `json:"time" about:"of the answer"`
	Window windowJSON        `json:"window"`
	System *analytics.System `json:"system,omitempty" about:"the host now, if known; what could not be read is absent"`
	statistics
	Concurrency       concurrency     `json:"concurrency"`
	Saturation        *saturationJSON `json:"saturation" about:"of the service that has the least capacity left; null without evidence"`
	SaturationUnknown string          `json:"saturation_unknown_reason,omitempty"`
	ServicesTotal     int             `json:"services_total"`
	Services          []serviceJSON   `json:"services" about:"the busiest first; as many as limit"`
	EndpointsTotal    int             `json:"endpoints_total"`
	Endpoints         []endpointJSON  `json:"endpoints" about:"in the order of sort; as many as limit"`
}

type windowJSON struct {
	Name                 string    `json:"name"`
	From                 time.Time `json:"from"`
	To                   time.Time `json:"to" about:"the latest tick: every 10 s"`
	Seconds              float64   `json:"seconds" about:"between them; rates are over this time. 0 before the first tick"`
	QuantileErrorPercent float64   `json:"quantile_error_percent" about:"the worst error of the estimates of percentiles"`
}

type statistics struct {
	Exchanges          uint64       `json:"exchanges"`
	Successes          uint64       `json:"successes"`
	Failures           uint64       `json:"failures" about:"5xx, aborted, timeout"`
	Timeouts           uint64       `json:"timeouts" about:"no response before the deadline, or 408 or 504"`
	ThroughputRPS      *float64     `json:"throughput_rps"`
	ErrorRatePercent   *float64     `json:"error_rate_percent" about:"null without exchanges"`
	TimeoutRatePercent *float64     `json:"timeout_rate_percent" about:"null without exchanges"`
	ResponseTime       responseTime `json:"response_time"`
	QueueSharePercent  *float64     `json:"queue_share_percent" about:"of their time that requests waited to be read; null where the queue phase is not seen"`
}

type responseTime struct {
	P50     *float64 `json:"p50_ms"`
	P95     *float64 `json:"p95_ms"`
	P99     *float64 `json:"p99_ms"`
	Average *float64 `json:"average_ms" about:"exact"`
}

type concurrency struct {
	InFlightMean *float64 `json:"in_flight_mean" about:"throughput times mean duration (Little's law)"`
	Active       *int64   `json:"active,omitempty" about:"requests in progress now, if known"`
}

type saturationJSON struct {
	Service             string   `json:"service_name"`
	Namespace           string   `json:"service_namespace,omitempty"`
	Method              string   `json:"method" about:"what shows the limit in the last 15 minutes: processors (the processor time of a request and the processors there are), waiting (how many requests are held, and how long others wait to be read), load (response times grew with the load)"`
	CapacityRPS         *float64 `json:"capacity_rps" about:"an estimate, never below served_rps"`
	CapacityLowRPS      *float64 `json:"capacity_low_rps" about:"the least that it may be by the same evidence"`
	CapacityHighRPS     *float64 `json:"capacity_high_rps" about:"the most"`
	CapacityLeftPercent *float64 `json:"capacity_left_percent" about:"an estimate: what the mean throughput of the window leaves of capacity_rps; peaks within the window leave less"`
	ServedRPS           *float64 `json:"served_rps" about:"the highest throughput in ten seconds of the last hour"`
	Points              int      `json:"points" about:"intervals of ten seconds that the estimate rests on"`
	ProcessorTime       *float64 `json:"processor_time_per_request_ms,omitempty" about:"with the method processors"`
	Workers             *float64 `json:"workers,omitempty" about:"how many requests are held at once when it is full, with the method waiting"`
	RSquared            *float64 `json:"r_squared,omitempty" about:"of the variance of response times that the method load explains"`
}

type serviceJSON struct {
	Service   string `json:"service_name"`
	Namespace string `json:"service_namespace,omitempty"`
	Endpoints int    `json:"endpoints"`
	// Level is what people look at first.
	Level *levelJSON `json:"level" about:"the worst of response time and error rate of its endpoints; null where none is judged"`
	statistics
	Concurrency       concurrency     `json:"concurrency"`
	Saturation        *saturationJSON `json:"saturation" about:"null without evidence"`
	SaturationUnknown string          `json:"saturation_unknown_reason,omitempty"`

	Resources *analytics.Resources `json:"resources,omitempty" about:"what its processes use of the host now, if known; cpu_percent is of the window"`
}

type endpointJSON struct {
	Service     string `json:"service_name"`
	Namespace   string `json:"service_namespace,omitempty"`
	Method      string `json:"method"`
	Route       string `json:"http_route"`
	RouteSource string `json:"route_source,omitempty" about:"how the route was found, if known"`
	statistics
	InFlightMean     *float64 `json:"in_flight_mean"`
	RequestSizeMean  *float64 `json:"request_size_mean_bytes"`
	ResponseSizeMean *float64 `json:"response_size_mean_bytes"`
	Levels           levels   `json:"levels" about:"over the last five minutes, whatever the window; null where there is none, with the reason"`
}

type levels struct {
	ResponseTime *levelJSON `json:"response_time" about:"of the 95th percentile"`
	Throughput   *levelJSON `json:"throughput" about:"null unless limits are set for it"`
	ErrorRate    *levelJSON `json:"error_rate"`

	ResponseTimeUnknown string `json:"response_time_unknown_reason,omitempty"`
	ThroughputUnknown   string `json:"throughput_unknown_reason,omitempty"`
	ErrorRateUnknown    string `json:"error_rate_unknown_reason,omitempty"`
}

type levelJSON struct {
	Name   string `json:"name" about:"excellent, good, fair, poor or critical"`
	Level  uint8  `json:"level" about:"0 to 4"`
	Severe bool   `json:"severe" about:"critical, and beyond the fifth limit"`
}

// allLevels are all that there can be, so that a list of thousands of endpoints refers to a few.
var allLevels = func() (all [6]levelJSON) {
	for l := analytics.Excellent; l <= analytics.Critical; l++ {
		all[l] = levelJSON{l.String(), uint8(l), false}
	}
	all[5] = levelJSON{analytics.Critical.String(), uint8(analytics.Critical), true}
	return all
}()

func levelOf(l analytics.AspectLevel) *levelJSON {
	switch {
	case !l.Known:
		return nil
	case l.Severe:
		return &allLevels[5]
	}
	return &allLevels[l.Level]
}

// windowNames are the values of the parameter window.
var windowNames = func() (names []string) {
	for _, w := range analytics.WindowLengths {
		names = append(names, windowName(w))
	}
	return names
}()

func windowName(d time.Duration) string { return strconv.Itoa(int(d.Minutes())) + "m" }

func windowParameter() Parameter {
	return Parameter{Name: "window", Description: "How far back to look.", Enum: windowNames, Default: "5m"}
}

// endpointOrders are the values of the parameter sort: by what endpoints can be ordered, the largest first.
var endpointOrders = map[string]func(e *analytics.EntryWindow) float64{
	"throughput":    func(e *analytics.EntryWindow) float64 { return float64(e.Exchanges) },
	"time":          func(e *analytics.EntryWindow) float64 { return float64(e.DurationNS) },
	"failures":      func(e *analytics.EntryWindow) float64 { return float64(e.Failures) },
	"error_rate":    func(e *analytics.EntryWindow) float64 { return e.ErrorRate() },
	"average":       func(e *analytics.EntryWindow) float64 { return e.MeanDuration() },
	"p50":           func(e *analytics.EntryWindow) float64 { return e.P50 },
	"p95":           func(e *analytics.EntryWindow) float64 { return e.P95 },
	"p99":           func(e *analytics.EntryWindow) float64 { return e.P99 },
	"response_size": func(e *analytics.EntryWindow) float64 { return e.MeanResponseSize() },
	"level":         worstLevel,
	"name":          nil, // the order that they are in
}

// worstLevel is that of response times and errors: a low throughput is nobody's fault.
func worstLevel(e *analytics.EntryWindow) float64 {
	worst := math.NaN()
	for _, a := range []analytics.Aspect{analytics.ResponseTime, analytics.ErrorRate} {
		if l := e.Levels[a]; l.Known {
			v := float64(l.Level)
			if l.Severe {
				v++
			}
			if !(v <= worst) {
				worst = v
			}
		}
	}
	return worst
}

func summaryRoute(o PerformanceOptions) Route {
	orders := []string{"throughput", "time", "failures", "error_rate", "average", "p50", "p95", "p99", "response_size", "level", "name"}
	return Route{
		Path: "/performance/summary", Summary: "The host and its endpoints over a window: response times, throughput, errors, levels.",
		Parameters: []Parameter{
			windowParameter(),
			{Name: "sort", Description: "What endpoints are ordered by, the largest first; name is ascending.", Enum: orders, Default: orders[0]},
			{Name: "limit", Description: "The most endpoints and services to list.", Least: 1, Most: rowsMax, Default: strconv.Itoa(rowsDefault)},
			{Name: "service", Description: "List only this service_name; the totals are of all."},
		},
		Response: summary{},
	}.serveJSON(func(q map[string]string) (any, error) {
		length, err := time.ParseDuration(q["window"])
		if err != nil {
			return nil, err
		}
		w, err := o.Engine.Window(length)
		if err != nil {
			return nil, err
		}
		limit, err := strconv.Atoi(q["limit"])
		if err != nil {
			return nil, err
		}
		return o.summary(w, q["sort"], limit, q["service"]), nil
	})
}

func (o *PerformanceOptions) now() time.Time {
	if o.Now != nil {
		return shown(o.Now())
	}
	return shown(time.Now())
}

func (o *PerformanceOptions) summary(w *analytics.Window, sort string, limit int, service string) *summary {
	active := o.Engine.Active()
	s := &summary{
		Time:           o.now(),
		Window:         windowOf(w),
		statistics:     statisticsOf(&w.Total, w.Seconds),
		Concurrency:    concurrency{InFlightMean: rounded(w.Total.InFlight(w.Seconds)), Active: sumActive(active)},
		ServicesTotal:  len(w.Services),
		EndpointsTotal: len(w.Endpoints),
	}
	if o.System != nil {
		s.System = systemOf(o.System())
	}
	s.Saturation, s.SaturationUnknown = mostSaturated(w)
	s.Services = o.servicesOf(w, active, limit, service)
	s.Endpoints = o.endpointsOf(w, sort, limit, service)
	return s
}

// systemOf has the instant of a sample as documents have it. What the sampler gave stays as it is.
func systemOf(sampled *analytics.System) *analytics.System {
	if sampled == nil || sampled.Time == nil {
		return sampled
	}
	system := *sampled
	system.Time = instant(*sampled.Time)
	return &system
}

func windowOf(w *analytics.Window) windowJSON {
	return windowJSON{Name: windowName(w.Length), From: shown(w.From), To: shown(w.To), Seconds: math.Round(w.Seconds*1e3) / 1e3,
		QuantileErrorPercent: math.Round(w.QuantileError*1e4) / 100}
}

func statisticsOf(s *analytics.Stats, seconds float64) statistics {
	throughput := math.NaN()
	if seconds > 0 {
		throughput = float64(s.Exchanges) / seconds
	}
	return statistics{
		Exchanges: s.Exchanges, Successes: s.Exchanges - s.Failures, Failures: s.Failures, Timeouts: s.Timeouts,
		ThroughputRPS:      rounded(throughput),
		ErrorRatePercent:   rounded(100 * s.ErrorRate()),
		TimeoutRatePercent: rounded(100 * s.TimeoutRate()),
		ResponseTime: responseTime{P50: rounded(s.P50 / 1e6), P95: rounded(s.P95 / 1e6), P99: rounded(s.P99 / 1e6),
			Average: rounded(s.MeanDuration() / 1e6)},
		QueueSharePercent: rounded(100 * s.QueueShare()),
	}
}

// rounded is the number with three decimals, or more for a small one: six significant digits are more than any of them
// is worth. What is no number is null.
func rounded(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	scale := 1e3
	if v > -1 && v < 1 {
		scale = 1e6
	}
	if math.Abs(v) < wholeFrom {
		v = math.Round(v*scale) / scale
	}
	return &v
}

// wholeFrom is from where on a number has no decimals, and its thousandfold may be none.
const wholeFrom = 1e15

func sumActive(byService map[string]int64) *int64 {
	if byService == nil {
		return nil
	}
	var sum int64
	for _, n := range byService {
		sum += n
	}
	return &sum
}

func activeOf(byService map[string]int64, service string) *int64 {
	if byService == nil {
		return nil
	}
	n := byService[service]
	return &n
}

// mostSaturated is the estimate of the service with the least capacity left.
func mostSaturated(w *analytics.Window) (*saturationJSON, string) {
	var worst *analytics.ServiceWindow
	for i := range w.Services {
		s := &w.Services[i]
		if s.Saturation.Known && (worst == nil || s.Saturation.CapacityLeft < worst.Saturation.CapacityLeft) {
			worst = s
		}
	}
	if worst != nil {
		return saturationOf(worst), ""
	}
	if len(w.Services) == 1 {
		return nil, w.Services[0].Saturation.Reason
	}
	return nil, "no service shows how much it could do"
}

func saturationOf(s *analytics.ServiceWindow) *saturationJSON {
	e := &s.Saturation
	if !e.Known {
		return nil
	}
	j := &saturationJSON{Service: s.Service, Namespace: s.Namespace, Method: e.Method,
		CapacityRPS: rounded(e.CapacityRPS), CapacityLowRPS: rounded(e.LowRPS), CapacityHighRPS: rounded(e.HighRPS),
		CapacityLeftPercent: rounded(100 * e.CapacityLeft), ServedRPS: rounded(e.ServedRPS), Points: e.Points}
	switch {
	case e.ProcessorSeconds > 0:
		j.ProcessorTime = rounded(1e3 * e.ProcessorSeconds)
	case e.Workers > 0:
		j.Workers = rounded(e.Workers)
	default:
		j.RSquared = rounded(e.RSquared)
	}
	return j
}

func (o *PerformanceOptions) servicesOf(w *analytics.Window, active map[string]int64, limit int, only string) []serviceJSON {
	chosen := make([]*analytics.ServiceWindow, 0, len(w.Services))
	for i := range w.Services {
		if s := &w.Services[i]; only == "" || s.Service == only {
			chosen = append(chosen, s)
		}
	}
	slices.SortStableFunc(chosen, func(a, b *analytics.ServiceWindow) int { return cmp.Compare(b.Exchanges, a.Exchanges) })
	chosen = chosen[:min(limit, len(chosen))]
	named := map[string]int{}
	for i := range w.Services {
		named[w.Services[i].Service]++
	}
	levels := worstLevels(w)
	all := make([]serviceJSON, len(chosen))
	for i, s := range chosen {
		all[i] = serviceJSON{Service: s.Service, Namespace: s.Namespace, Endpoints: s.Endpoints, Level: levels[[2]string{s.Namespace, s.Service}], statistics: statisticsOf(&s.Stats, w.Seconds),
			Concurrency: concurrency{rounded(s.InFlight(w.Seconds)), activeOf(active, s.Service)},
			Saturation:  saturationOf(s), SaturationUnknown: s.Saturation.Reason}
		if named[s.Service] > 1 { // in several namespaces, which requests in progress do not tell
			all[i].Concurrency.Active = nil
		}
		if o.Resources != nil {
			all[i].Resources = resourcesIn(o.Resources(s.Service, s.Namespace), s)
		}
	}
	return all
}

// worstLevels are those of services, by namespace and name.
func worstLevels(w *analytics.Window) map[[2]string]*levelJSON {
	worst := make(map[[2]string]*levelJSON)
	for i := range w.Endpoints {
		e := &w.Endpoints[i]
		level, id := worstLevel(e), [2]string{e.Namespace, e.Service}
		if known := worst[id]; !math.IsNaN(level) && (known == nil || slices.Index(allLevels[:], *known) < int(level)) {
			worst[id] = &allLevels[int(level)]
		}
	}
	return worst
}

// resourcesIn are the resources of a service with the processors that it used in the window: beside figures of the window, a sample
// would say 0 once the load has ended.
func resourcesIn(now *analytics.Resources, s *analytics.ServiceWindow) *analytics.Resources {
	if now == nil {
		return nil
	}
	r := *now
	r.CPUPercent = rounded(100 * s.Processors)
	return &r
}

func (o *PerformanceOptions) endpointsOf(w *analytics.Window, sort string, limit int, only string) []endpointJSON {
	type row struct {
		by float64
		e  *analytics.EntryWindow
	}
	order := endpointOrders[sort]
	rows := make([]row, 0, len(w.Endpoints))
	for i := range w.Endpoints {
		e := &w.Endpoints[i]
		if only != "" && e.Service != only {
			continue
		}
		r := row{e: e}
		if order != nil {
			r.by = order(e)
		}
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(b.by, a.by) }) // NaN is the least
	rows = rows[:min(limit, len(rows))]
	all := make([]endpointJSON, len(rows))
	for i, r := range rows {
		all[i] = o.endpoint(r.e, w.Seconds)
	}
	return all
}

func (o *PerformanceOptions) endpoint(e *analytics.EntryWindow, seconds float64) endpointJSON {
	valid := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
	return endpointJSON{
		Service: valid(e.Service), Namespace: valid(e.Namespace), Method: valid(e.Verb), Route: valid(e.Name), RouteSource: e.RouteSource.String(),
		statistics:      statisticsOf(&e.Stats, seconds),
		InFlightMean:    rounded(e.InFlight(seconds)),
		RequestSizeMean: rounded(e.MeanRequestSize()), ResponseSizeMean: rounded(e.MeanResponseSize()),
		Levels: levelsOf(e),
	}
}

func levelsOf(e *analytics.EntryWindow) levels {
	rt, tp, er := e.Levels[analytics.ResponseTime], e.Levels[analytics.Throughput], e.Levels[analytics.ErrorRate]
	return levels{levelOf(rt), levelOf(tp), levelOf(er), rt.Why.String(), tp.Why.String(), er.Why.String()}
}

// busiest are the entries with the most exchanges, the busiest first.
func busiest(entries []analytics.EntryWindow, limit int) []*analytics.EntryWindow {
	all := make([]*analytics.EntryWindow, len(entries))
	for i := range entries {
		all[i] = &entries[i]
	}
	slices.SortStableFunc(all, func(a, b *analytics.EntryWindow) int { return cmp.Compare(b.Exchanges, a.Exchanges) })
	return all[:min(limit, len(all))]
}
