package finding

import (
	"math"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/wire"
)

// serviceEntries is how many endpoints a service has at least that is judged as a whole as well: with one it would be the same.
const serviceEntries = 2

// excessOf is how fast it is learned who makes a service slow: a few ticks. excessPart is the part of it that an endpoint must have to
// be named.
const excessOf, excessPart = .3, .2

// addServices judges services as a whole: many endpoints with few requests each tell together what none does alone. The response time is
// freed of the mix: what is compared is by how much each request is slower than usual at its endpoint.
func (e *Engine) addServices() {
	for _, g := range e.groups {
		if !g.served {
			continue
		}
		g.sum(e)
		if g.whole == nil {
			if g.endpoints < serviceEntries || e.tracks+seriesOfEntry > e.o.Limits.Series {
				continue
			}
			g.whole = e.newWhole(g)
		}
		n := g.whole
		n.last = e.row
		n.all, n.failed = g.all, g.failed
		n.requests, n.logs = n.requests+g.timed, n.logs+g.logs
		if g.timed > 0 {
			n.variance = g.variance / g.timed
		}
		e.addTimes(n)
		e.addRequests(n, g.all, g.failed)
	}
}

// blame has the endpoints that made a service slow take part in its episode.
func (e *Engine) blame(g *group) {
	whole := g.whole
	if whole == nil || whole.response.episode == nil || whole.response.episode.Row < e.row-int64(runMost) {
		return
	}
	var all float64
	for _, n := range g.entries {
		if n.response.episode != nil {
			return // it is known
		}
		all += max(n.excess, 0)
	}
	for _, n := range g.entries {
		if n.excess < excessPart*all || n.response.values == 0 || n.response.usual.n == 0 {
			continue
		}
		if t := n.response; t.metric.matters(t.latest, math.Exp(n.mean)) {
			p := *whole.response.episode
			p.Expected, p.Peak, p.Requests = math.Exp(n.mean), t.latest, t.requests
			p.Low, p.High = p.Expected-t.metric.least(p.Expected), p.Expected+t.metric.least(p.Expected)
			p.Edge = math.Log(p.High / p.Expected)
			p.Size = math.Abs(math.Log(p.Peak / p.Expected))
			t.episode = &p
		}
	}
}

// newWhole makes the series of a service as a whole.
func (e *Engine) newWhole(g *group) *entry {
	k := analytics.Key{Role: wire.RoleServer, Service: g.key.service, Namespace: g.key.namespace}
	n := e.newEntry(&k)
	delete(e.entries, k) // it is no endpoint
	return n
}

// sum adds up what the endpoints did in the tick.
func (g *group) sum(e *Engine) {
	g.all, g.failed, g.timed, g.logs, g.variance, g.endpoints = 0, 0, 0, 0, 0, 0
	var usual float64
	for _, n := range g.entries {
		g.endpoints++
		n.excess *= 1 - excessOf
		if n.last != e.row {
			continue
		}
		g.all, g.failed = g.all+n.all, g.failed+n.failed
		if n.timed == 0 {
			continue
		}
		mean := n.logged / n.timed
		if n.knows == 0 {
			n.mean = mean
		}
		g.timed += n.timed
		g.variance += n.timed * n.variance
		g.logs += n.timed * (mean - n.mean)
		n.excess += excessOf * n.timed * (mean - n.mean)
		usual += n.timed * n.mean
		if !g.isOpen() {
			n.knows++
			n.mean += (mean - n.mean) * max(rateOf, 1/n.knows)
		}
	}
	if g.timed == 0 {
		return
	}
	if g.knows == 0 {
		g.level = usual / g.timed
	}
	if !g.isOpen() {
		g.knows++
		g.level += (usual/g.timed - g.level) * max(rateOf, 1/g.knows)
	}
	g.logs += g.timed * g.level
}
