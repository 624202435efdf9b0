package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/probes"
	"github.com/perfagent/perfagent/internal/route"
	"github.com/perfagent/perfagent/internal/trace"
	"github.com/perfagent/perfagent/internal/wire"
)

const (
	housekeepingInterval = 250 * time.Millisecond
	// connectionsShare bounds what counting by connections may cost: after a count that took t of a processor, the next waits
	// 200 t, but no longer than a gauge may be old that is scraped every few seconds.
	connectionsShare       = 200
	connectionsIntervalMin = time.Second
	connectionsIntervalMax = 5 * time.Second
	// undecodedMax is how many series say what is not decoded, beside those of _OTHER: a service has three at most.
	undecodedMax = 300
	// thinkInterval is how often a service's routes are thought over, one service at a time.
	thinkInterval = time.Second
	// watchLately is how long a process's resources are read after its last exchange.
	watchLately   = 5 * time.Minute
	watchInterval = time.Second
)

// worker turns what the kernel side saw into exchanges and hands them to the engine. One goroutine owns it; it is the
// probe's Handler.
type worker struct {
	probe     *probes.Probe
	clock     *host.Clock
	processes *host.Processes
	memo      *http.Memo[known]
	streams   *http.Streams
	swept     http.Swept
	finals    finals
	router    *route.Router
	routes    atomic.Pointer[route.Routes] // what the latest reading of the routes file found
	inForce   *route.Routes                // of routes, taken over by the owner
	rerouted  int                          // the router's epoch that the engine's endpoints have
	engine    *analytics.Engine
	requests  *analytics.Requests
	hub       *trace.Hub
	sampler   *host.Sampler
	timeout   time.Duration

	undecoded atomic.Pointer[[]export.Undecoded] // connections, as last counted

	// Lost in user space, beside what the kernel side and the reader count under the same names.
	unreadable, desync, unparsed, dropped uint64

	emit          func(*wire.Exchange)
	housekeeping  time.Time
	streamsSwept  time.Time
	connectionsAt time.Time
	thought       time.Time
	watchedAt     time.Time
}

func newWorker(config *Config, filter host.Filter, engine *analytics.Engine, hub *trace.Hub) *worker {
	w := &worker{
		clock:     host.NewClock(host.ClockOptions{}),
		processes: host.NewProcesses(host.ProcessOptions{Filter: filter}),
		router:    route.NewRouter(),
		memo:      http.NewMemo[known](),
		engine:    engine,
		requests:  analytics.NewRequests(analytics.RequestsOptions{Now: host.Monotonic}),
		hub:       hub,
		sampler:   host.NewSampler(host.SamplerOptions{}),
		timeout:   config.Capture.Timeout,
	}
	user := http.NewUserHeader(config.Trace.UserHeader)
	w.memo.SetUserHeader(user)
	w.streams = http.NewStreams(http.StreamOptions{MaxStreams: config.Limits.Streams, Lost: w.lose, Failed: w.parseError, User: user})
	w.emit = w.reportIrregular
	return w
}

// loadRoutes reads the routes file; "" means none. It may be called from any goroutine.
func (w *worker) loadRoutes(name string) error {
	if name == "" {
		w.routes.Store(nil)
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("routes file: %w", err)
	}
	defer f.Close()
	routes, err := route.ParseRoutes(f)
	if err != nil {
		return fmt.Errorf("routes file %s: %w", name, err)
	}
	w.routes.Store(routes)
	return nil
}

// Record implements probes.Handler. Of an exchange and its swept copies the first that is final decides: also where it is
// lost, because the kernel side does not count the loss of a final record behind a copy whose framing was known.
func (w *worker) Record(rec *wire.Record) {
	swept := rec.Flags&wire.FlagSwept != 0
	if !swept && w.decided(rec.Conn, rec.Seq) {
		return
	}
	k, final, err := w.memo.Exchange(rec)
	switch {
	case swept && rec.Flags&wire.FlagFramed == 0 && (err != nil || !final):
		return // it comes again
	case swept && !w.decide(rec.Conn, rec.Seq):
		return
	case err != nil:
		w.notUnderstood(err)
	default:
		w.report(&k.Exchange, &k.Value, k)
	}
}

// Fragment implements probes.Handler.
func (w *worker) Fragment(f *wire.Fragment) { w.streams.Fragment(f, w.emit) }

// Dropped implements probes.Handler.
func (w *worker) Dropped(conn uint64, seq uint32, flags wire.Flags) {
	if flags&wire.FlagSwept != 0 && w.decide(conn, seq) || flags&wire.FlagSwept == 0 && !w.decided(conn, seq) {
		w.dropped++
	}
}

// decide tells whether a swept copy is the first that is final of its exchange, and remembers that it was.
func (w *worker) decide(conn uint64, seq uint32) bool {
	return !w.finals.has(conn, seq) && w.swept.Reported(conn, seq)
}

// decided tells whether a swept copy has decided already about the exchange of a final record, and remembers that record.
func (w *worker) decided(conn uint64, seq uint32) bool {
	w.finals.add(conn, seq)
	return w.swept.Len() > 0 && w.swept.Seen(conn, seq)
}

// reportIrregular is report for an exchange of an irregular connection, which may have been regular, silent and reported
// before it became irregular.
func (w *worker) reportIrregular(ex *wire.Exchange) {
	if w.swept.Len() == 0 || !w.swept.Seen(ex.Conn, ex.Seq) {
		w.report(ex, new(known), nil)
	}
}

// known is what follows from a request head and who sent or read it, and what that rests on.
type known struct {
	identity *host.Identity
	routed   int    // the router's epoch
	unrouted uint32 // requests that the router was not told of
	handle   analytics.Handle
}

// routedMax is after how many requests with a known head the router hears of them: it learns what is requested how often.
const routedMax = 256

// report completes an exchange and hands it on, also to who traces and to what keeps some for later. k is what was known of
// the same request before; entry has its addresses, or is nil where ex has them itself.
func (w *worker) report(ex *wire.Exchange, k *known, entry *http.Known[known]) {
	identity := w.processes.Identify(ex.PID, &ex.Comm, max(ex.Finished, ex.Responded, ex.Read)) // the end may be unknown
	if !identity.Chosen {
		return
	}
	if routes := w.routes.Load(); routes != w.inForce {
		w.router.SetRoutes(routes)
		w.inForce = routes
	}
	if k.identity != identity {
		*k = known{identity: identity, routed: -1}
		ex.Service, ex.Namespace, ex.ContainerID = identity.Service, identity.Namespace, identity.ContainerID
	}
	if ex.Role == wire.RoleServer {
		if k.unrouted++; k.routed != w.router.Epoch() || k.unrouted >= routedMax {
			w.route(ex, k)
		}
	}
	w.engine.AddTo(&k.handle, ex)
	picked, wanted := w.requests.Pick(&k.handle, ex), w.hub.Wanted()
	if picked.Any() || wanted {
		w.show(ex, entry, picked)
	}
}

// route finds the exchange's route, by which it is counted from now on.
func (w *worker) route(ex *wire.Exchange, k *known) {
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
func (w *worker) show(ex *wire.Exchange, entry *http.Known[known], picked analytics.Picked) {
	if entry != nil {
		entry.Locate()
	}
	at := ex.Arrived
	if at == 0 {
		at = ex.Read
	}
	ex.Time = w.clock.Time(at)
	if picked.Any() {
		w.requests.Keep(picked, ex)
	}
	w.hub.Publish(ex)
}

// notUnderstood counts an exchange whose bytes could not be parsed.
func (w *worker) notUnderstood(err error) {
	parse, ok := err.(*http.ParseError)
	if !ok || parse.Reason() != "unreadable" {
		w.unparsed++
	} else {
		w.unreadable++
	}
	if ok {
		w.parseError(parse)
	}
}

func (w *worker) parseError(err *http.ParseError) { w.engine.ParseError("http", err.Reason(), 1) }

func (w *worker) lose(loss wire.Loss, n int) {
	switch loss {
	case wire.LostDesync:
		w.desync += uint64(n)
	case wire.LostParse:
		w.unparsed += uint64(n)
	default:
		w.engine.Lose(loss, uint64(n))
	}
}

// Delivered implements probes.Handler. Losses are taken over also while the worker is behind, when they matter. Streams are
// swept only when it is not: a connection whose bytes are in the queue would look silent.
func (w *worker) Delivered(all bool) {
	now := time.Now()
	if all && now.Sub(w.streamsSwept) >= housekeepingInterval {
		w.streamsSwept = now
		w.streams.Sweep(host.Monotonic(), w.timeout, w.emit)
	}
	if now.Sub(w.housekeeping) < housekeepingInterval {
		return
	}
	w.housekeeping = now
	w.requests.Tick()
	w.countLosses()
	w.countConnections(now)
	if now.Sub(w.thought) >= thinkInterval {
		w.thought = now
		w.router.Think()
	}
	if epoch := w.router.Epoch(); epoch != w.rerouted {
		w.rerouted = epoch
		w.engine.Reroute(w.router.Current)
		w.requests.Reroute(w.router.Current)
	}
	if now.Sub(w.watchedAt) >= watchInterval {
		w.watchedAt = now
		w.sampler.Watch(w.processes.Recent(host.Monotonic(), watchLately, host.WatchedMax+1))
	}
}

// countLosses takes over the kernel side's counters.
func (w *worker) countLosses() {
	c, err := w.probe.Counters()
	if err != nil {
		return
	}
	w.engine.SetLost(wire.LostRingFull, c.RingFull)
	w.engine.SetLost(wire.LostMapFull, c.MapFull)
	w.engine.SetLost(wire.LostEvicted, c.Evicted)
	w.engine.SetLost(wire.LostUnreadable, c.Unreadable+w.unreadable)
	w.engine.SetLost(wire.LostDesync, c.Unpaired+w.desync)
	w.engine.SetLost(wire.LostParse, c.MalformedSample+w.unparsed)
	w.engine.SetLost(wire.LostQueueFull, c.QueueFull+w.dropped)
}

// countConnections counts by service the requests under way, and the connections that are not decoded.
func (w *worker) countConnections(now time.Time) {
	if now.Before(w.connectionsAt) {
		return
	}
	runtime.LockOSThread() // whose time is measured
	defer runtime.UnlockOSThread()
	before := host.ThreadTime()
	byPID, err := w.probe.Connections(w.swept.Has)
	if err == nil {
		w.addStreams(byPID)
		active, other := w.byService(byPID)
		w.engine.SetActive(active)
		undecoded := undecodedBound(other)
		w.undecoded.Store(&undecoded)
	}
	w.connectionsAt = now.Add(min(max(connectionsIntervalMin, connectionsShare*(host.ThreadTime()-before)), connectionsIntervalMax))
}

// addStreams adds the requests under way of irregular connections.
func (w *worker) addStreams(byPID map[uint32]*probes.Connections) {
	w.streams.EachActive(func(pid uint32, comm *[16]byte) {
		of := byPID[pid]
		if of == nil {
			of = &probes.Connections{Comm: *comm}
			byPID[pid] = of
		}
		of.Active++
	})
}

// byService sums up what connections carry of all processes that are chosen.
func (w *worker) byService(byPID map[uint32]*probes.Connections) (map[string]int64, map[undecodedKey]uint64) {
	active, other := make(map[string]int64), make(map[undecodedKey]uint64)
	now := host.Monotonic()
	for pid, c := range byPID {
		name := w.processes.Describe
		if c.Active > 0 {
			name = w.processes.Identify
		}
		identity := name(pid, &c.Comm, now)
		if !identity.Chosen {
			continue
		}
		if c.Active > 0 {
			active[identity.Service] += c.Active
		}
		for reason, n := range c.Undecoded {
			if n > 0 {
				other[undecodedKey{identity.Service, probes.Undecoded(reason).String()}] += n
			}
		}
	}
	return active, other
}

// undecodedKey is the label set of perfagent_undecoded_connections.
type undecodedKey struct{ service, reason string }

// undecodedBound returns the largest counts, in a fixed order. What is beyond the bound is in the service _OTHER.
func undecodedBound(counts map[undecodedKey]uint64) []export.Undecoded {
	var all []export.Undecoded
	for k, n := range counts {
		all = append(all, export.Undecoded{Service: k.service, Reason: k.reason, Connections: n})
	}
	slices.SortFunc(all, func(a, b export.Undecoded) int {
		return cmp.Or(cmp.Compare(b.Connections, a.Connections), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Reason, b.Reason))
	})
	if len(all) <= undecodedMax {
		return all
	}
	rest := make(map[string]uint64)
	for _, u := range all[undecodedMax:] {
		rest[u.Reason] += u.Connections
	}
	all = all[:undecodedMax:undecodedMax]
	for _, reason := range slices.Sorted(maps.Keys(rest)) {
		all = append(all, export.Undecoded{Service: analytics.Other, Reason: reason, Connections: rest[reason]})
	}
	return all
}

// finals remembers the latest final records. A connection that is swept at the very moment at which it moves on may
// send its final record first; the swept copy behind it must not count.
type finals [4096]struct {
	conn uint64
	seq  uint32
}

func (f *finals) add(conn uint64, seq uint32) {
	e := &f[(conn>>8)%uint64(len(f))]
	e.conn, e.seq = conn, seq
}

func (f *finals) has(conn uint64, seq uint32) bool {
	e := &f[(conn>>8)%uint64(len(f))]
	return e.conn == conn && e.seq >= seq
}

// heldWorker is a worker that stands still at a record while a file exists. Tests fill the queue in front of it so
// (PERFAGENT_HOLD_WORKER).
type heldWorker struct {
	*worker
	file string
}

func (w heldWorker) Record(rec *wire.Record) {
	for {
		if _, err := os.Stat(w.file); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	w.worker.Record(rec)
}
