package pipeline

import (
	"strings"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/wire"
)

// Known is what follows from a request and who sent or read it, and what that rests on. A protocol that recognises requests
// keeps one with each (Understood.Known); its zero value knows nothing.
type Known struct {
	identity *host.Identity
	routed   int    // the router's epoch
	unrouted uint32 // requests that the router was not told of
	told     uint32 // requests that it was told of one by one
	handle   analytics.Handle
}

// routedMax is after how many requests with a known head the router hears of them: it learns what is requested how often. Of the
// first toldMax it hears one by one: while little is known, what is decided rests on how often each path came.
const routedMax, toldMax = 256, 64

// report completes an exchange and hands it on, also to who traces and to what keeps some for later. k is what was known of
// the same request before; rec has its addresses, or is nil where ex has them itself.
func (w *Worker) report(ex *wire.Exchange, k *Known, rec *wire.Record) {
	identity := w.identify(ex, rec)
	if !identity.Chosen {
		return
	}
	if routes := w.routes.Load(); routes != w.inForce {
		w.router.SetRoutes(routes)
		w.inForce = routes
	}
	if k.identity != identity {
		*k = Known{identity: identity, routed: -1}
		ex.Service, ex.Namespace, ex.ContainerID = identity.Service, identity.Namespace, identity.ContainerID
		w.serves.note(ex, rec, identity) // once for each head that is known
	}
	if ex.Role == wire.RoleServer && ex.Convention == wire.ConventionHTTP {
		if k.unrouted++; k.told < toldMax || k.routed != w.router.Epoch() || k.unrouted >= routedMax {
			w.route(ex, k)
		}
	}
	w.Engine.AddTo(&k.handle, ex)
	picked, wanted := w.Requests.Pick(&k.handle, ex), w.Hub.Wanted()
	if picked.Any() || wanted {
		w.show(ex, rec, picked)
	}
}

// identify returns who took part in an exchange at this end.
func (w *Worker) identify(ex *wire.Exchange, rec *wire.Record) *host.Identity {
	now := max(ex.Finished, ex.Responded, ex.Read) // the end may be unknown
	switch {
	case ex.Role == wire.RoleClient:
		return w.processes.Identify(ex.PID, &ex.Comm, now)
	case rec != nil:
		return w.processes.IdentifyServer(ex.PID, rec.Local().Port(), &ex.Comm, now)
	}
	return w.processes.IdentifyServer(ex.PID, ex.Local.Port(), &ex.Comm, now)
}

// route finds the exchange's route, by which it is counted from now on.
func (w *Worker) route(ex *wire.Exchange, k *Known) {
	k.told += min(k.unrouted, toldMax)
	epoch := w.router.Epoch() // of before: Route may think, and its answer is of before that
	route, source := w.router.Route(ex.Service, ex.Verb, ex.Path, ex.Code, k.unrouted)
	if route != ex.Name || source != ex.RouteSource {
		ex.Name, ex.RouteSource = route, source
		k.handle = analytics.Handle{}
	}
	if k.routed, k.unrouted = epoch, 0; strings.HasSuffix(route, "*") {
		k.routed = -1 // not known yet
	}
}

// show completes an exchange by what only people want to see, keeps it where it was picked and hands it to who traces.
func (w *Worker) show(ex *wire.Exchange, rec *wire.Record, picked analytics.Picked) {
	if rec != nil {
		ex.Local, ex.Remote = rec.Local(), rec.Remote()
	}
	at := ex.Arrived
	if at == 0 {
		at = ex.Read
	}
	ex.Time = w.Clock.Time(at)
	if picked.Any() {
		w.Requests.Keep(picked, ex)
	}
	w.Hub.Publish(ex)
}
