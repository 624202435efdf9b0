package web

import (
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/finding"
)

// dashboard makes the document that the pages show. Each part is what the path of its own answers.
type dashboard struct {
	performance PerformanceOptions
	agent       AgentOptions
	alerts      AlertsOptions
	findings    func() []finding.Finding // nil: nobody draws any
	version     string
}

type dashboardJSON struct {
	Version string `json:"version"`
	*summary
	TargetsTotal int                `json:"targets_total"`
	Targets      []targetJSON       `json:"targets" about:"what this host's clients call, the busiest first; as many as limit"`
	Health       *performanceHealth `json:"health" about:"as /health/performance; of the last five minutes"`
	Alerts       *alertsJSON        `json:"alerts,omitempty" about:"as /alerts, with the error budgets of objectives; absent where it is not served"`
	Agent        *agentHealth       `json:"agent,omitempty" about:"as /monitoring/health, with what is not visible and why; absent where it is not served"`
	Findings     []finding.Finding  `json:"findings,omitempty" about:"those that lead incidents that go on, the worst first"`
}

type targetJSON struct {
	Service   string `json:"service_name" about:"who calls"`
	Namespace string `json:"service_namespace,omitempty"`
	Method    string `json:"method"`
	Address   string `json:"server_address"`
	Port      uint16 `json:"server_port,omitempty"`
	// AnsweredBy is what people know an address by.
	AnsweredBy string `json:"answered_by,omitempty" about:"the service_name that answers there now, if it is one of this host"`
	statistics
	InFlightMean     *float64 `json:"in_flight_mean"`
	RequestSizeMean  *float64 `json:"request_size_mean_bytes"`
	ResponseSizeMean *float64 `json:"response_size_mean_bytes"`
}

func dashboardRoutes(d *dashboard) []Route {
	return []Route{
		Route{
			Path: "/dashboard", Summary: "Everything that the dashboard shows of now.", Response: dashboardJSON{},
			Parameters: []Parameter{
				windowParameter(),
				{Name: "limit", Description: "The most services, endpoints and targets to list.", Least: 1, Most: rowsMax, Default: strconv.Itoa(rowsDefault)},
			},
		}.serveJSON(func(q map[string]string) (any, error) {
			length, err := time.ParseDuration(q["window"])
			if err != nil {
				return nil, err
			}
			limit, err := strconv.Atoi(q["limit"])
			if err != nil {
				return nil, err
			}
			return d.document(length, limit)
		}),
		newFeed(d).route(),
	}
}

func (d *dashboard) document(length time.Duration, limit int) (*dashboardJSON, error) {
	w, err := d.performance.Engine.Window(length)
	if err != nil {
		return nil, err
	}
	judged, err := d.performance.Engine.Window(analytics.LevelWindow)
	if err != nil {
		return nil, err
	}
	document := &dashboardJSON{Version: d.version, summary: d.performance.summary(w, "throughput", limit, ""),
		TargetsTotal: len(w.Targets), Targets: d.performance.targetsOf(w, limit), Health: d.performance.health(judged), Alerts: d.alertsNow()}
	if d.agent.Source != nil {
		document.Agent = d.agent.health()
	}
	if d.findings != nil {
		document.Findings = d.findings()
	}
	return document, nil
}

func (d *dashboard) alertsNow() *alertsJSON {
	if d.alerts.Manager == nil {
		return nil
	}
	return d.alerts.document(nil)
}

func (o *PerformanceOptions) targetsOf(w *analytics.Window, limit int) []targetJSON {
	valid := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
	chosen := busiest(w.Targets, limit)
	all := make([]targetJSON, len(chosen))
	for i, t := range chosen {
		all[i] = targetJSON{Service: valid(t.Service), Namespace: valid(t.Namespace), Method: valid(t.Verb), Address: valid(t.Address), Port: t.Port,
			statistics: statisticsOf(&t.Stats, w.Seconds), InFlightMean: rounded(t.InFlight(w.Seconds)),
			RequestSizeMean: rounded(t.MeanRequestSize()), ResponseSizeMean: rounded(t.MeanResponseSize())}
		if o.ServiceAt != nil {
			all[i].AnsweredBy = valid(o.ServiceAt(t.Address, t.Port))
		}
	}
	return all
}
