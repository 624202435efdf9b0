package main

import (
	"net"
	"strings"
	"sync"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/web"
)

// foreseenEvery is how often it is computed at most what goes towards a limit: some milliseconds for each series that rises.
const foreseenEvery = time.Minute

// explainer explains findings by what the agent knows beside series.
func (a *agent) explainer(config *Config) *finding.Explainer {
	return &finding.Explainer{
		Reach: sync.OnceValue(func() finding.Reach { return a.reach(config) }), // it stays while the agent runs
		Objective: func(u *finding.Subject) float64 {
			if all := a.objectives.Load(); all != nil {
				return latencyObjective(*all, u)
			}
			return 0
		},
	}
}

// reach is how people reach the agent, for the commands of next steps.
func (a *agent) reach(config *Config) (r finding.Reach) {
	if config.Web.Socket != "" && config.Web.Socket != socketDefault {
		r.Trace = "perfagent trace --web.socket " + config.Web.Socket
	}
	if u := a.address(config); u != nil {
		r.URL = strings.TrimSuffix(u.String(), "/")
		return r
	}
	if a.server == nil {
		return r
	}
	for _, address := range a.server.Addresses() {
		if socket, ok := address.(*net.UnixAddr); ok {
			r.URL, r.Curl = "http://localhost", "curl -s --unix-socket "+socket.Name
		}
	}
	return r
}

// servesAt tells which service of this host answers at an address, or name, and port.
func (a *agent) servesAt(address string, port uint16) (finding.Subject, bool) {
	s, ok := a.worker.ServedAt(address, port, a.addresses.Has)
	return finding.Subject{Service: s.Service, Namespace: s.Namespace}, ok
}

// serviceAt is the service of this host that answers at an address; "": none that is known.
func (a *agent) serviceAt(address string, port uint16) string {
	s, _ := a.servesAt(address, port)
	return s.Service
}

// latencyObjective is the response time in ms that an endpoint shall not exceed: the route's, else the service's; 0: none is set.
func latencyObjective(all []alert.Objective, u *finding.Subject) (ms float64) {
	for i := range all {
		o := &all[i]
		switch {
		case o.Service != u.Service || o.LatencyMS == 0:
		case o.Route != "" && (o.Route == u.Route || o.Route == u.Method+" "+u.Route):
			return o.LatencyMS
		case o.Route == "":
			ms = o.LatencyMS
		}
	}
	return ms
}

// troubleshooting is what /troubleshoot/performance has to go by. Findings are looked for a moment after the server listens.
func (a *agent) troubleshooting(config *Config) web.TroubleshootOptions {
	if config.Anomalies.Mode == anomaliesOff {
		return web.TroubleshootOptions{Off: func() string { return "--anomalies.mode is off" }}
	}
	started := time.Now()
	foreseen := &foresight{ask: func() []finding.Foreseen {
		if e := a.findings.Load(); e != nil {
			return finding.Foresee(e.Past(finding.MayBeForeseen))
		}
		return nil
	}}
	return web.TroubleshootOptions{
		Foreseen: foreseen.at,
		Reach:    sync.OnceValue(func() finding.Reach { return a.reach(config) }),
		Findings: func() []*finding.Finding {
			if e := a.findings.Load(); e != nil {
				return e.Findings()
			}
			return nil
		},
		Watching: func() web.Watching {
			w := web.Watching{Since: started}
			if e := a.findings.Load(); e != nil {
				s := e.Stats()
				w.Series, w.Learning, w.Without = s.Series, s.Learning, s.Without
			}
			return w
		},
	}
}

// markExchanges has exchanges that are shown say which open finding they belong to.
func (a *agent) markExchanges(e *finding.Engine) {
	of := finding.NewIndexer(e.Findings).Of
	a.hub.SetFinding(of)
	a.recent.SetFinding(of)
}

// foresight remembers what is foreseen.
type foresight struct {
	ask func() []finding.Foreseen

	mu     sync.Mutex
	asked  time.Time
	answer []finding.Foreseen
}

func (f *foresight) at() []finding.Foreseen {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked.IsZero() || time.Since(f.asked) >= foreseenEvery {
		f.asked, f.answer = time.Now(), f.ask()
	}
	return f.answer
}
