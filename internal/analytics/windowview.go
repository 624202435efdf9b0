package analytics

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

// Window is what was seen in an interval that ended at the latest tick. It never changes.
type Window struct {
	Length   time.Duration // as asked for
	From, To time.Time     // what it covers: see windows
	Seconds  float64       // between them; 0 before the first tick
	// QuantileError is the worst relative error of the estimates of quantiles.
	QuantileError float64

	Total    Stats
	Services []ServiceWindow
	// Endpoints and Targets had exchanges in the window; they are in the order of their keys, as Services are. Total and
	// Services are of what servers did.
	Endpoints, Targets []EntryWindow
}

// ServiceWindow is what one service did in a window.
type ServiceWindow struct {
	Service, Namespace string
	Endpoints          int
	Stats
	Saturation Saturation
	// Processors are how many its processes kept busy on average, as far as they were watched in the window; NaN where that is not known.
	Processors float64
}

// EntryWindow is what one entry did in a window; an endpoint with its levels as of the window's end (which are judged over five
// minutes, whatever the window) and the limits of these.
type EntryWindow struct {
	Key
	Stats
	Levels      [Aspects]AspectLevel
	Limits      *[Aspects]LevelLimits
	RouteSource wire.RouteSource
}

// Stats are the statistics of some exchanges.
type Stats struct {
	// Exchanges counts all; Failures those that this end takes for failures; Timeouts those that nobody answered in time.
	Exchanges, Failures, Timeouts uint64
	// Timed exchanges have a duration; the sum of these is in nanoseconds.
	Timed      uint64
	DurationNS uint64
	// P50, P95 and P99 are quantiles of the durations, in nanoseconds; NaN without any.
	P50, P95, P99 float64
	// Queued exchanges have a queue phase.
	Queued, QueueNS uint64
	// Sized messages have a known size.
	SizedRequests, RequestBytes   uint64
	SizedResponses, ResponseBytes uint64
}

// MeanDuration returns the mean duration in nanoseconds, NaN without any.
func (s *Stats) MeanDuration() float64 { return ratio(s.DurationNS, s.Timed) }

// MeanRequestSize returns the mean size of requests' bodies in bytes, NaN where none is known.
func (s *Stats) MeanRequestSize() float64 { return ratio(s.RequestBytes, s.SizedRequests) }

// MeanResponseSize returns the mean size of responses' bodies in bytes, NaN where none is known.
func (s *Stats) MeanResponseSize() float64 { return ratio(s.ResponseBytes, s.SizedResponses) }

// ErrorRate returns the share of failures, 0 to 1, NaN without exchanges.
func (s *Stats) ErrorRate() float64 { return ratio(s.Failures, s.Exchanges) }

// TimeoutRate returns the share of timeouts, 0 to 1, NaN without exchanges.
func (s *Stats) TimeoutRate() float64 { return ratio(s.Timeouts, s.Exchanges) }

// QueueShare returns which part of their time exchanges waited to be read, 0 to 1, NaN where that is not known.
func (s *Stats) QueueShare() float64 {
	return ratio(s.QueueNS, s.Queued) / s.MeanDuration()
}

// InFlight returns how many exchanges were in progress on average, by Little's law: the throughput times the mean duration.
// Exchanges without a duration count as if they had the mean one. It is NaN without any duration or time.
func (s *Stats) InFlight(seconds float64) float64 {
	if seconds <= 0 {
		return math.NaN()
	}
	return float64(s.Exchanges) / seconds * s.MeanDuration() / 1e9
}

func ratio(a, b uint64) float64 {
	if b == 0 {
		return math.NaN()
	}
	return float64(a) / float64(b)
}

// Window returns what was seen in one of WindowLengths. The answer is made once a tick, in about 4 us an endpoint.
func (e *Engine) Window(length time.Duration) (*Window, error) {
	i := slices.Index(WindowLengths, length)
	if i < 0 {
		return nil, fmt.Errorf("no window is %s long: choose one of %v", length, WindowLengths)
	}
	w := &e.windows
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cached[i] == nil {
		w.cached[i] = w.view(length)
	}
	return w.cached[i], nil
}

// group adds up several endpoints.
type group struct {
	tally tally
	cells cells
}

func (g *group) reset() {
	g.tally = tally{}
	g.cells.reset(0)
}

// view makes a Window.
func (w *windows) view(length time.Duration) *Window {
	spans, from := w.spans(length)
	v := &Window{Length: length, To: w.at, Seconds: w.seconds(from, w.sealed), QuantileError: shiftError(0)}
	v.From = v.To.Add(-time.Duration(v.Seconds * float64(time.Second)))
	w.sort()
	v.Endpoints = make([]EntryWindow, 0, w.roles[wire.RoleServer&1])
	total, service := new(group), new(group)
	for i, r := range w.rings {
		if i > 0 && (r.key.Service != w.rings[i-1].key.Service || r.key.Namespace != w.rings[i-1].key.Namespace || r.key.Role != w.rings[i-1].key.Role) {
			v.endService(w, service, total, from)
		}
		if r.last < from {
			continue
		}
		p := r.parts(spans)
		if !w.scratch.sum(&p) {
			continue
		}
		n := EntryWindow{r.key, w.scratch.tally.stats(&w.scratch.cells), r.aspectLevels(), (*[Aspects]LevelLimits)(r.limits), r.source}
		v.QuantileError = max(v.QuantileError, shiftError(w.scratch.cells.shift))
		if r.key.Role == wire.RoleClient {
			v.Targets = append(v.Targets, n)
			continue
		}
		service.add(&w.scratch)
		v.Endpoints = append(v.Endpoints, n)
	}
	v.endService(w, service, total, from)
	v.Total = total.tally.stats(&total.cells)
	return v
}

// add adds one endpoint, whose sum the scratch holds.
func (g *group) add(s *scratch) {
	g.tally.add(&s.tally)
	s.cells.addTo(&g.cells)
}

// endService appends the service whose endpoints the latest ones are, adds it to the total, and empties the group.
func (v *Window) endService(w *windows, g, total *group, from int64) {
	if g.tally[tallyExchanges] == 0 {
		return
	}
	last := &v.Endpoints[len(v.Endpoints)-1]
	s := ServiceWindow{Service: last.Service, Namespace: last.Namespace, Stats: g.tally.stats(&g.cells)}
	for i := len(v.Endpoints) - 1; i >= 0 && v.Endpoints[i].Service == s.Service && v.Endpoints[i].Namespace == s.Namespace; i-- {
		s.Endpoints++
	}
	s.Saturation = w.loads.saturation(s.Service, s.Namespace, float64(s.Exchanges)/v.Seconds)
	s.Processors = w.loads.processors(s.Service, s.Namespace, from)
	v.Services = append(v.Services, s)
	total.tally.add(&g.tally)
	g.cells.addTo(&total.cells)
	g.reset()
}

// stats are the statistics of a tally and its durations.
func (t *tally) stats(c *cells) Stats {
	n := t[tallyExchanges]
	s := Stats{
		Exchanges: n, Failures: t[tallyFailures], Timeouts: t[tallyTimeouts],
		Timed: n - t[tallyUntimed], DurationNS: t[tallyDurationNS],
		P50: math.NaN(), P95: math.NaN(), P99: math.NaN(),
		Queued: n - t[tallyUnqueued], QueueNS: t[tallyQueueNS],
		SizedRequests: n - t[tallyUnsizedRequests], RequestBytes: t[tallyRequestBytes],
		SizedResponses: n - t[tallyUnsizedResponses], ResponseBytes: t[tallyResponseBytes],
	}
	if s.Timed > 0 {
		var ranks [3]uint64
		for i, q := range [...]float64{.5, .95, .99} {
			ranks[i] = max(uint64(math.Ceil(q*float64(s.Timed))), 1)
		}
		var values [3]float64
		c.quantiles(ranks[:], values[:])
		s.P50, s.P95, s.P99 = values[0], values[1], values[2]
	}
	return s
}
