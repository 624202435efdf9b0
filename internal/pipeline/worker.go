// Package pipeline turns what the kernel side saw into exchanges: it settles which record of an exchange counts, has the
// connection's protocol understand it, completes the result by process, route and wall clock, and hands it to the engine and to
// who traces. A protocol is a file with its test and fuzz target, and a row of protocols.
package pipeline

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/probes"
	"github.com/perfagent/perfagent/internal/route"
	"github.com/perfagent/perfagent/internal/trace"
	"github.com/perfagent/perfagent/internal/wire"
)

const (
	housekeepingInterval = 250 * time.Millisecond
	// shrinkInterval is how often it is looked whether the router knows too much.
	shrinkInterval = time.Second
	// watchLately is how long a process's resources are read after its last exchange.
	watchLately   = 5 * time.Minute
	watchInterval = time.Second
)

// Options says what a Worker works for and within. Engine, Requests, Hub, Sampler and Clock must be set.
type Options struct {
	Engine   *analytics.Engine   // counts exchanges and losses
	Requests *analytics.Requests // keeps some exchanges for later
	Hub      *trace.Hub          // passes them on to who traces
	Sampler  *host.Sampler       // hears which processes to watch
	Clock    *host.Clock         // tells the wall clock time of an instant

	Filter host.Filter // which processes count; the zero value: all
	// Services are the rules of the services file; nil, also inside, means none. They may be replaced at any time.
	Services *atomic.Pointer[host.Services]
	Streams  int              // irregular connections followed at once; 0: the protocol's own bound
	User     *http.UserHeader // the header that tells users apart; nil: none
	Timeout  time.Duration    // a request without response for this long has none
}

// Worker is the probe's Handler. One goroutine, the probe's, owns it; what else may be called says so.
type Worker struct {
	Options
	probe     *probes.Probe // nil before Attach
	processes *host.Processes
	protocols [wire.Protocols]Protocol
	settle    settle
	router    *route.Router
	routes    atomic.Pointer[route.Routes] // what the latest reading of the routes file found
	inForce   *route.Routes                // of routes, taken over by the owner
	rerouted  int                          // the router's epoch that the engine's endpoints have

	serves serves // whom ports belong to

	undecoded atomic.Pointer[[]analytics.Undecoded] // connections, as last counted

	// Lost in user space, beside what the kernel side and the reader count under the same names.
	unreadable, desync, unparsed, dropped uint64

	before        lossCounters // of probes that were closed
	unknown       Known        // of the exchange at hand, where its protocol remembers no requests
	housekeeping  time.Time
	streamsSwept  time.Time
	connectionsAt time.Time
	shrunk        time.Time
	watchedAt     time.Time
}

// New returns a Worker for the options.
func New(o Options) *Worker {
	w := &Worker{Options: o, processes: host.NewProcesses(host.ProcessOptions{Filter: o.Filter, Services: o.Services}), router: route.NewRouter()}
	w.openProtocols()
	return w
}

func (w *Worker) openProtocols() {
	for i, p := range protocols {
		w.protocols[i] = p.open(Surroundings{
			Emit: w.emit, Lose: w.lose, Failed: func(reason string) { w.Engine.ParseError(p.name, reason, 1) },
			Streams: w.Streams, User: w.User,
		})
	}
}

// Attach names the probe whose counters and connections are counted. It is called before the probe's Run.
func (w *Worker) Attach(p *probes.Probe) { w.probe = p }

// Detach forgets a probe whose Run has ended, before it is closed, and all that was understood of its connections. What it counted
// stays; requests that are under way are lost with it, and their number is returned.
func (w *Worker) Detach() (lost int) {
	byPID, err := w.probe.Unreported(w.settle.swept.has)
	if err != nil { // those of irregular connections are known anyway
		byPID = make(map[uint32]*probes.Connections)
	}
	w.addStreams(byPID)
	active, _ := w.byService(byPID)
	for _, n := range active {
		lost += int(n)
	}
	w.countLosses()
	w.Engine.Lose(wire.LostReader, uint64(lost))
	if c, err := w.probe.Counters(); err == nil {
		w.before.add(&c)
	}
	w.Engine.SetActive(map[string]int64{})
	w.undecoded.Store(nil)
	w.probe, w.connectionsAt = nil, time.Time{}
	w.openProtocols()
	return lost
}

// add adds what another probe lost.
func (c *lossCounters) add(o *probes.Counters) {
	c.ringFull += o.RingFull
	c.mapFull += o.MapFull
	c.evicted += o.Evicted
	c.unreadable += o.Unreadable
	c.unpaired += o.Unpaired
	c.malformed += o.MalformedSample
	c.queueFull += o.QueueFull
}

// lossCounters are the losses that probes have counted which are closed.
type lossCounters struct {
	ringFull, mapFull, evicted, unreadable, unpaired, malformed, queueFull uint64
}

// SetRoutes puts the routes of the routes file in force; nil means none. It may be called from any goroutine.
func (w *Worker) SetRoutes(routes *route.Routes) { w.routes.Store(routes) }

// Record implements probes.Handler.
func (w *Worker) Record(rec *wire.Record) {
	swept := rec.Flags&wire.FlagSwept != 0
	if !swept && w.settle.late(rec.Conn, rec.Seq) {
		return
	}
	u, final, err := w.protocols[rec.Protocol].Record(rec)
	switch {
	case again(rec.Flags) && (err != nil || !final):
	case swept && !w.settle.first(rec.Conn, rec.Seq):
	case err != nil:
		w.notUnderstood(rec.Protocol, err)
	case u.Known == nil:
		w.unknown = Known{}
		w.report(u.Exchange, &w.unknown, rec)
	default:
		w.report(u.Exchange, u.Known, rec)
	}
}

// Fragment implements probes.Handler.
func (w *Worker) Fragment(f *wire.Fragment) { w.protocols[f.Protocol].Fragment(f) }

// emit reports an exchange of an irregular connection.
func (w *Worker) emit(ex *wire.Exchange) {
	if !w.settle.superseded(ex.Conn, ex.Seq) {
		w.unknown = Known{}
		w.report(ex, &w.unknown, nil)
	}
}

// Lost implements probes.Handler.
func (w *Worker) Lost(conn uint64, seq uint32, flags wire.Flags, loss wire.Loss) {
	if !again(flags) && w.settle.counts(conn, seq, flags) {
		w.lose(loss, 1)
	}
}

// notUnderstood counts an exchange whose bytes could not be understood.
func (w *Worker) notUnderstood(p wire.Protocol, err error) {
	if errors.Is(err, errUnasked) {
		w.lose(wire.LostDesync, 1)
		return
	}
	var f Failure
	known := errors.As(err, &f)
	if known && f.Reason() == ReasonUnreadable {
		w.lose(wire.LostUnreadable, 1)
	} else {
		w.lose(wire.LostParse, 1)
	}
	if known {
		w.Engine.ParseError(protocols[p].name, f.Reason(), 1)
	}
}

// lose counts n exchanges that are not reported.
func (w *Worker) lose(loss wire.Loss, n int) {
	switch loss {
	case wire.LostDesync:
		w.desync += uint64(n)
	case wire.LostParse:
		w.unparsed += uint64(n)
	case wire.LostUnreadable:
		w.unreadable += uint64(n)
	case wire.LostQueueFull:
		w.dropped += uint64(n)
	default:
		w.Engine.Lose(loss, uint64(n))
	}
}

// Delivered implements probes.Handler. Losses are taken over also while the worker is behind, when they matter. Connections
// are swept only when it is not: one whose bytes are in the queue would look silent.
func (w *Worker) Delivered(all bool) {
	now := time.Now()
	if all && now.Sub(w.streamsSwept) >= housekeepingInterval {
		w.streamsSwept = now
		for _, p := range w.protocols {
			p.Sweep(host.Monotonic(), w.Timeout)
		}
	}
	if now.Sub(w.housekeeping) < housekeepingInterval {
		return
	}
	w.housekeeping = now
	w.Requests.Tick()
	w.countLosses()
	w.countConnections(now)
	if now.Sub(w.shrunk) >= shrinkInterval {
		w.shrunk = now
		w.router.Shrink()
	}
	w.reroute()
	if now.Sub(w.watchedAt) >= watchInterval {
		w.watchedAt = now
		w.Sampler.Watch(w.processes.Recent(host.Monotonic(), watchLately, host.WatchedMax+1))
	}
}

// reroute has what was counted go over to what its routes have become.
func (w *Worker) reroute() {
	if epoch := w.router.Epoch(); epoch != w.rerouted {
		w.rerouted = epoch
		w.Engine.Reroute(w.router.Current)
		w.Requests.Reroute(w.router.Current)
	}
}

// countLosses takes over the kernel side's counters.
func (w *Worker) countLosses() {
	c, err := w.probe.Counters()
	if err != nil {
		return
	}
	b := &w.before
	w.Engine.SetLost(wire.LostRingFull, b.ringFull+c.RingFull)
	w.Engine.SetLost(wire.LostMapFull, b.mapFull+c.MapFull)
	w.Engine.SetLost(wire.LostEvicted, b.evicted+c.Evicted)
	w.Engine.SetLost(wire.LostUnreadable, b.unreadable+c.Unreadable+w.unreadable)
	w.Engine.SetLost(wire.LostDesync, b.unpaired+c.Unpaired+w.desync)
	w.Engine.SetLost(wire.LostParse, b.malformed+c.MalformedSample+w.unparsed)
	w.Engine.SetLost(wire.LostQueueFull, b.queueFull+c.QueueFull+w.dropped)
}
