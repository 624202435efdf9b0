package web

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
)

// healthReasonsMax bounds the reasons that an answer lists.
const healthReasonsMax = 20

// saturationWarn is from which part of its capacity left on a service is about to be full: in a queue that serves in turn
// requests then take ten times as long as on an idle one (1/(1-utilisation)).
const saturationWarn = .1

// The states of health, from the best to the worst; unknown says that there was nothing to judge by.
const (
	healthy  = "healthy"
	degraded = "degraded"
	critical = "critical"
	unknown  = "unknown"
)

type performanceHealth struct {
	Status             string       `json:"status" about:"healthy; degraded: a response time or error rate is poor or critical, or a service is nearly full; critical: one is beyond its fifth limit; unknown: nothing was judged, or all requests of an endpoint fail that is not judged yet"`
	Time               time.Time    `json:"time"`
	WindowName         string       `json:"window"`
	Unknown            string       `json:"unknown_reason,omitempty" about:"why the status is unknown"`
	EndpointsJudged    int          `json:"endpoints_judged" about:"with a level of response times or of errors"`
	EndpointsNotJudged int          `json:"endpoints_not_judged" about:"with exchanges in the window, and neither level"`
	ReasonsTotal       int          `json:"reasons_total"`
	Reasons            []reasonJSON `json:"reasons" about:"the worst first, at most 20"`
}

type reasonJSON struct {
	Service   string   `json:"service_name"`
	Namespace string   `json:"service_namespace,omitempty"`
	Method    string   `json:"method,omitempty"`
	Route     string   `json:"http_route,omitempty"`
	Aspect    string   `json:"aspect" about:"response_time, error_rate or saturation"`
	Level     string   `json:"level,omitempty"`
	Severe    bool     `json:"severe,omitempty"`
	Value     *float64 `json:"value" about:"ms, percent, or percent of the capacity left"`
	Message   string   `json:"message"`
	weight    float64
	exchanges uint64
}

// performanceHealthRoute serves the health of what is watched. Its status code is always 200: the agent is well, and nobody
// should restart it because a service is slow. Throughput does not count: few requests are nobody's fault.
func performanceHealthRoute(o PerformanceOptions) Route {
	return Route{
		Path: "/health/performance", Summary: "Health of what is watched, with reasons.", Response: performanceHealth{},
	}.serveJSON(func(map[string]string) (any, error) {
		w, err := o.Engine.Window(analytics.LevelWindow)
		if err != nil {
			return nil, err
		}
		return o.health(w), nil
	})
}

func (o *PerformanceOptions) health(w *analytics.Window) *performanceHealth {
	h := &performanceHealth{Status: unknown, Time: o.now(), WindowName: windowName(w.Length)}
	var reasons []reasonJSON
	for i := range w.Endpoints {
		e := &w.Endpoints[i]
		rt, er := e.Levels[analytics.ResponseTime], e.Levels[analytics.ErrorRate]
		if rt.Known || er.Known {
			h.EndpointsJudged++
		} else {
			h.EndpointsNotJudged++
		}
		reasons = appendReason(reasons, e, analytics.ResponseTime, rt, e.P95/1e6, "the 95th percentile of response times is "+timeText(e.P95/1e6))
		reasons = appendReason(reasons, e, analytics.ErrorRate, er, 100*e.ErrorRate(), fmt.Sprintf("%.3g %% of requests fail", 100*e.ErrorRate()))
		reasons = appendUnjudgedFailures(reasons, e, er)
	}
	for i := range w.Services {
		s := &w.Services[i]
		e := &s.Saturation
		// Full by all of the interval, or it is but a guess.
		if e.Known && float64(s.Exchanges)/w.Seconds > (1-saturationWarn)*e.HighRPS {
			left := 100 * e.CapacityLeft
			reasons = append(reasons, reasonJSON{Service: s.Service, Namespace: s.Namespace, Aspect: "saturation", Value: rounded(left),
				Message:   fmt.Sprintf("about %.2g %% of the capacity is left (an estimate by %s: %.4g to %.4g/s)", left, e.Method, e.LowRPS, e.HighRPS),
				exchanges: s.Exchanges})
		}
	}
	slices.SortStableFunc(reasons, func(a, b reasonJSON) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(b.exchanges, a.exchanges))
	})
	switch {
	case len(reasons) > 0 && reasons[0].Severe:
		h.Status = critical
	case len(reasons) > 0 && reasons[0].weight > weightUnjudged:
		h.Status = degraded
	case len(reasons) > 0:
		h.Unknown = fmt.Sprintf("all requests of %s %s of %s fail, which is not judged yet", reasons[0].Method, reasons[0].Route, reasons[0].Service)
	case h.EndpointsJudged > 0:
		h.Status = healthy
	default:
		h.Unknown = whyUnjudged(w)
	}
	h.ReasonsTotal = len(reasons)
	h.Reasons = append([]reasonJSON{}, reasons[:min(len(reasons), healthReasonsMax)]...)
	return h
}

// whyUnjudged says why no endpoint of the window has a level: in the words of the busiest one.
func whyUnjudged(w *analytics.Window) string {
	var busiest *analytics.EntryWindow
	for i := range w.Endpoints {
		if e := &w.Endpoints[i]; busiest == nil || e.Exchanges > busiest.Exchanges {
			busiest = e
		}
	}
	if busiest == nil {
		return analytics.Silent.String()
	}
	if why := busiest.Levels[analytics.ErrorRate].Why; why != analytics.Unlimited {
		return why.String()
	}
	return busiest.Levels[analytics.ResponseTime].Why.String()
}

const (
	// unjudgedFailuresMin failures without a success, of an endpoint that is not judged, are a reason.
	unjudgedFailuresMin = 20
	// weightUnjudged puts these behind all other reasons.
	weightUnjudged = -1
)

// appendUnjudgedFailures adds a reason where all requests of an endpoint fail whose error rate has no level yet, and will hardly have
// a good one.
func appendUnjudgedFailures(to []reasonJSON, e *analytics.EntryWindow, l analytics.AspectLevel) []reasonJSON {
	if l.Known || l.Why == analytics.Unlimited || e.Failures < unjudgedFailuresMin || e.Failures < e.Exchanges || e.Limits[analytics.ErrorRate][analytics.Fair] >= 100 {
		return to
	}
	return append(to, reasonJSON{Service: e.Service, Namespace: e.Namespace, Method: e.Verb, Route: e.Name, Aspect: analytics.ErrorRate.String(),
		Value: rounded(100), Message: fmt.Sprintf("all %d requests fail; not judged yet: %s", e.Failures, l.Why), weight: weightUnjudged, exchanges: e.Exchanges})
}

func appendReason(to []reasonJSON, e *analytics.EntryWindow, a analytics.Aspect, l analytics.AspectLevel, value float64, message string) []reasonJSON {
	if !l.Known || l.Level < analytics.Poor {
		return to
	}
	r := reasonJSON{Service: e.Service, Namespace: e.Namespace, Method: e.Verb, Route: e.Name, Aspect: a.String(), Level: l.Level.String(),
		Severe: l.Severe, Value: rounded(value), Message: message, weight: float64(l.Level), exchanges: e.Exchanges}
	if l.Severe {
		r.weight++
	}
	return append(to, r)
}

// AgentOptions configures what is served of the agent's own health.
type AgentOptions struct {
	Source export.Source
	Probes export.ProbeStatus
	// Missing is what cannot be seen on this host, in a user's words; nil: unknown.
	Missing func() []string
	// History is what is wrong with the local history, in a user's words, "" for nothing; nil: there is none.
	History func() string
	// Notify is what is wrong with the notifications of alerts, in a user's words; nil: there are none.
	Notify func() []string
	// Troubles is what else is wrong with parts of the agent, likewise; nil: nothing.
	Troubles func() []string
	// Parts are those that may fail and come back; nil: unknown.
	Parts func() []export.Recovery
	// Queues are the queues inside of the agent; nil: unknown.
	Queues func() []QueueState
	// Reload is that of export.CollectorOptions.
	Reload func() (successful bool, last time.Time)
	// MemoryLimit is the bound on resident memory, bytes; nil: unknown.
	MemoryLimit func() int64
	// WindowMemory is what windows take, bytes; nil: unknown.
	WindowMemory func() int64
	// Started is when the agent started; zero: unknown.
	Started time.Time
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// QueueState is the length of one queue.
type QueueState struct {
	Name     string `json:"name"`
	Length   int    `json:"length"`
	Capacity int    `json:"capacity"`
}

type agentHealth struct {
	Status        string          `json:"status" about:"healthy or degraded"`
	Reasons       []string        `json:"reasons"`
	Time          time.Time       `json:"time"`
	UptimeSeconds *float64        `json:"uptime_seconds,omitempty"`
	Backend       string          `json:"backend,omitempty" about:"absent before probes are attached"`
	Hooks         []hookJSON      `json:"hooks"`
	Undecoded     []undecodedJSON `json:"undecoded" about:"open connections that carry something else than HTTP/1 in clear, most first; they are no fault of the agent's health"`
	NotVisible    []string        `json:"not_visible" about:"what this host does not let the agent see"`
	Exchanges     uint64          `json:"exchanges" about:"reported since the start"`
	Lost          uint64          `json:"exchanges_lost" about:"known to have happened, and not reported"`
	LostPercent   *float64        `json:"exchanges_lost_percent" about:"of all that are known; null without any"`
	Losses        []lossJSON      `json:"losses" about:"by stage and reason, those that happened"`
	Recent        recentJSON      `json:"recent" about:"the same of the last 10 minutes, or since the start; the agent's health is judged by these"`
	Queues        []QueueState    `json:"queues"`
	Memory        memoryJSON      `json:"memory"`
	Goroutines    int             `json:"goroutines"`
	Endpoints     int             `json:"endpoints"`
	Overflowed    uint64          `json:"endpoints_overflowed" about:"exchanges counted under _OTHER"`
	Reload        *reloadJSON     `json:"config,omitempty"`
	Parts         []partJSON      `json:"parts" about:"that may fail and are tried again"`
}

type partJSON struct {
	Part         string     `json:"part"`
	Works        bool       `json:"works"`
	Since        *time.Time `json:"failed_since,omitempty"`
	Recoveries   uint64     `json:"recoveries" about:"times that it came back"`
	LastRecovery *time.Time `json:"last_recovery,omitempty"`
	AwaySeconds  *float64   `json:"away_seconds" about:"in all"`
}

type hookJSON struct {
	Probe    string `json:"probe"`
	Backend  string `json:"backend"`
	Attached bool   `json:"attached"`
}

type undecodedJSON struct {
	Service     string `json:"service_name"`
	Reason      string `json:"reason" about:"by the first bytes: tls, http2 or unknown"`
	Connections uint64 `json:"connections"`
}

type lossJSON struct {
	Stage  string `json:"stage"`
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

type recentJSON struct {
	Since       time.Time `json:"since"`
	Exchanges   uint64    `json:"exchanges"`
	Lost        uint64    `json:"exchanges_lost"`
	LostPercent *float64  `json:"exchanges_lost_percent" about:"null without any exchange"`
}

type memoryJSON struct {
	Resident *float64 `json:"resident_mb,omitempty" about:"of 10^6 bytes, as all"`
	Heap     *float64 `json:"heap_mb"`
	Windows  *float64 `json:"windows_mb,omitempty"`
	Kernel   *float64 `json:"bpf_maps_mb,omitempty"`
	Limit    *float64 `json:"limit_mb,omitempty" about:"soft, on what is resident"`
}

type reloadJSON struct {
	Successful bool      `json:"last_reload_successful"`
	Last       time.Time `json:"last_reload_success_time"`
}

const (
	// lostWarnPercent of the exchanges of analytics.RecentWindow lost is more than a burst in it.
	lostWarnPercent = 1
	// queueWarn is the fullness from which on a queue is about to lose: of the worker's 32 batches six are left, a fifth of the
	// ring buffer.
	queueWarn = .8
)

func agentHealthRoute(o AgentOptions) Route {
	return Route{
		Path: "/monitoring/health", Summary: "Health of the agent itself: probes, losses, queues, memory.", Response: agentHealth{},
	}.serveJSON(func(map[string]string) (any, error) { return o.health(), nil })
}

func (o *AgentOptions) health() *agentHealth {
	h := &agentHealth{Status: healthy, Reasons: []string{}, Hooks: []hookJSON{}, NotVisible: []string{}, Losses: []lossJSON{}, Undecoded: []undecodedJSON{},
		Queues: []QueueState{}, Parts: []partJSON{}, Goroutines: runtime.NumGoroutine(), Time: shown(time.Now())}
	if o.Now != nil {
		h.Time = shown(o.Now())
	}
	if !o.Started.IsZero() {
		h.UptimeSeconds = rounded(h.Time.Sub(o.Started).Seconds())
	}
	o.fillProbes(h)
	o.fillBooks(h)
	o.fillMemory(h)
	if o.History != nil {
		if trouble := o.History(); trouble != "" {
			h.degrade("%s", trouble)
		}
	}
	if o.Notify != nil {
		for _, trouble := range o.Notify() {
			h.degrade("%s", trouble)
		}
	}
	if o.Troubles != nil {
		for _, trouble := range o.Troubles() {
			h.degrade("%s", trouble)
		}
	}
	if o.Parts != nil {
		for _, p := range o.Parts() {
			h.Parts = append(h.Parts, partJSON{p.Part, !p.Down, instant(p.Since), p.Count, instant(p.Last), rounded(p.AwaySeconds)})
		}
	}
	if o.Queues != nil {
		for _, q := range o.Queues() {
			h.Queues = append(h.Queues, q)
			if q.Capacity > 0 && float64(q.Length) >= queueWarn*float64(q.Capacity) {
				h.degrade("the queue %s is nearly full: %d of %d", q.Name, q.Length, q.Capacity)
			}
		}
	}
	if o.Reload != nil {
		successful, last := o.Reload()
		h.Reload = &reloadJSON{successful, shown(last)}
		if !successful {
			h.degrade("the configuration could not be reloaded; the one before is in force")
		}
	}
	return h
}

func (h *agentHealth) degrade(format string, args ...any) {
	h.Status = degraded
	h.Reasons = append(h.Reasons, fmt.Sprintf(format, args...))
}

func (o *AgentOptions) fillProbes(h *agentHealth) {
	if o.Probes.Backend != nil {
		h.Backend = o.Probes.Backend()
		if h.Backend == "" {
			h.degrade("no probes are attached")
		}
	}
	if o.Probes.Probes != nil {
		for _, p := range o.Probes.Probes() {
			h.Hooks = append(h.Hooks, hookJSON{p.Probe, p.Backend, p.Attached})
		}
	}
	if o.Probes.Maps != nil {
		var bytes uint64
		for _, m := range o.Probes.Maps() {
			bytes += m.Bytes
		}
		h.Memory.Kernel = megabytes(bytes)
	}
	if o.Probes.Undecoded != nil {
		for _, u := range o.Probes.Undecoded() {
			h.Undecoded = append(h.Undecoded, undecodedJSON(u))
		}
	}
	if o.Missing != nil {
		for _, missing := range o.Missing() {
			h.NotVisible = append(h.NotVisible, missing)
			h.degrade("not visible: %s", missing)
		}
	}
}

func (o *AgentOptions) fillBooks(h *agentHealth) {
	s := o.Source.Snapshot()
	books := s.Books(0)
	h.Exchanges, h.Lost, h.Endpoints, h.Overflowed = books.Reported, books.Lost, s.EndpointsOwn, s.Overflowed
	for _, l := range s.Lost {
		if l.Count > 0 {
			h.Losses = append(h.Losses, lossJSON{l.Stage, l.Reason, l.Count})
		}
	}
	h.LostPercent = lostPercent(books)
	h.Recent = recentJSON{shown(s.Recent.Since), s.Recent.Reported, s.Recent.Lost, lostPercent(s.Recent.Books)}
	if percent := h.Recent.LostPercent; percent != nil && *percent >= lostWarnPercent {
		h.degrade("%.3g %% of the exchanges since %s were lost", *percent, h.Recent.Since.Format(time.TimeOnly+" UTC"))
	}
}

// lostPercent returns nil where nothing has happened.
func lostPercent(b analytics.Books) *float64 {
	if b.Reported+b.Lost == 0 {
		return nil
	}
	return rounded(100 * float64(b.Lost) / float64(b.Reported+b.Lost))
}

func (o *AgentOptions) fillMemory(h *agentHealth) {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	h.Memory.Heap = megabytes(heap[0].Value.Uint64())
	if o.WindowMemory != nil {
		h.Memory.Windows = megabytes(uint64(o.WindowMemory()))
	}
	resident, known := residentBytes()
	if known {
		h.Memory.Resident = megabytes(resident)
	}
	if o.MemoryLimit != nil {
		limit := uint64(o.MemoryLimit())
		h.Memory.Limit = megabytes(limit)
		if known && resident > limit {
			h.degrade("%d MB are resident, the limit is %d", resident/1e6, limit/1e6)
		}
	}
}

func megabytes(bytes uint64) *float64 { return rounded(float64(bytes) / 1e6) }

// residentBytes is the second number of /proc/self/statm, in pages (proc(5)).
func residentBytes() (uint64, bool) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	return pages * uint64(os.Getpagesize()), err == nil
}
