package pipeline

import (
	"cmp"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/probes"
)

const (
	// connectionsShare bounds what counting by connections may cost: after a count that took t of a processor, the next waits
	// 200 t, but no longer than a gauge may be old that is scraped every few seconds.
	connectionsShare       = 200
	connectionsIntervalMin = time.Second
	connectionsIntervalMax = 5 * time.Second
	// undecodedMax is how many series say what is not decoded, beside those of _OTHER: a service has three at most.
	undecodedMax = 300
)

// Undecoded returns what connections carry that is not decoded, as last counted; nil before. It may be called from any
// goroutine.
func (w *Worker) Undecoded() []analytics.Undecoded {
	if u := w.undecoded.Load(); u != nil {
		return *u
	}
	return nil
}

// countConnections counts by service the requests under way, and the connections that are not decoded.
func (w *Worker) countConnections(now time.Time) {
	if now.Before(w.connectionsAt) {
		return
	}
	runtime.LockOSThread() // whose time is measured
	defer runtime.UnlockOSThread()
	before := host.ThreadTime()
	byPID, err := w.probe.Connections(w.settle.swept.has)
	if err == nil {
		w.addStreams(byPID)
		active, other := w.byService(byPID)
		w.Engine.SetActive(active)
		undecoded := undecodedBound(other)
		w.undecoded.Store(&undecoded)
	}
	w.connectionsAt = now.Add(min(max(connectionsIntervalMin, connectionsShare*(host.ThreadTime()-before)), connectionsIntervalMax))
}

// addStreams adds the requests under way of irregular connections.
func (w *Worker) addStreams(byPID map[uint32]*probes.Connections) {
	for _, p := range w.protocols {
		p.EachActive(func(pid uint32, comm *[16]byte) {
			of := byPID[pid]
			if of == nil {
				of = &probes.Connections{Comm: *comm}
				byPID[pid] = of
			}
			of.Active++
		})
	}
}

// byService sums up what connections carry of all processes that are chosen.
func (w *Worker) byService(byPID map[uint32]*probes.Connections) (map[string]int64, map[undecodedKey]uint64) {
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
func undecodedBound(counts map[undecodedKey]uint64) []analytics.Undecoded {
	var all []analytics.Undecoded
	for k, n := range counts {
		all = append(all, analytics.Undecoded{Service: k.service, Reason: k.reason, Connections: n})
	}
	slices.SortFunc(all, func(a, b analytics.Undecoded) int {
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
		all = append(all, analytics.Undecoded{Service: analytics.Other, Reason: reason, Connections: rest[reason]})
	}
	return all
}
