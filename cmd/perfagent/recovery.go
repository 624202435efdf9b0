package main

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/perfagent/perfagent/internal/export"
)

// recoveries knows which parts of the agent failed, and when they came back. Its zero value is ready; all of it may be called from
// any goroutine.
type recoveries struct {
	mu    sync.Mutex
	parts map[string]*outage
	now   func() time.Time // nil: time.Now
}

// outage is what one part went through.
type outage struct {
	since time.Time // zero: it works
	last  time.Time
	count uint64
	away  time.Duration // without the present one
}

// of returns what a part reports to: whether it works, at each change or more often. The part is known from then on.
func (r *recoveries) of(part string) func(works bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.parts == nil {
		r.parts = map[string]*outage{}
	}
	o := r.parts[part]
	if o == nil {
		o = new(outage)
		r.parts[part] = o
	}
	return func(works bool) { r.report(o, works) }
}

func (r *recoveries) report(o *outage, works bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.time()
	switch {
	case works && !o.since.IsZero():
		o.away += now.Sub(o.since)
		o.since, o.last = time.Time{}, now
		o.count++
	case !works && o.since.IsZero():
		o.since = now
	}
}

func (r *recoveries) time() time.Time {
	if r.now != nil {
		return r.now()
	}
	return time.Now()
}

// states are all parts, in the order of their names.
func (r *recoveries) states() []export.Recovery {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []export.Recovery
	for part, o := range r.parts {
		away := o.away
		if !o.since.IsZero() {
			away += r.time().Sub(o.since)
		}
		all = append(all, export.Recovery{Part: part, Down: !o.since.IsZero(), Since: o.since, Count: o.count, Last: o.last, AwaySeconds: away.Seconds()})
	}
	slices.SortFunc(all, func(a, b export.Recovery) int { return strings.Compare(a.Part, b.Part) })
	return all
}

// troubles are what is wrong with parts of the agent that it does without meanwhile, for its health.
func (a *agent) troubles() (all []string) {
	if trouble := a.kernelSideTrouble(); trouble != "" {
		all = append(all, trouble)
	}
	if a.state.trouble != "" {
		all = append(all, a.state.trouble)
	}
	if a.events != nil {
		if trouble := a.events.Stats().Trouble; trouble != "" {
			all = append(all, trouble)
		}
	}
	if a.redis != nil {
		if trouble := a.redis.Stats().Trouble; trouble != "" {
			all = append(all, trouble)
		}
	}
	if m := a.alerts.Load(); m != nil {
		all = append(all, m.Trouble()...)
		all = append(all, a.ruleTroubles()...)
		all = append(all, a.objectiveTroubles()...)
	}
	return all
}
