package finding

import (
	"math"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// widest is how many ticks requests are gathered for at most: 5 minutes.
	widest = 30
	// fewest is how many requests a value of the widest interval rests on at least.
	fewest = 4
	// idleTicks is how long an entry without a request keeps its place: 2 hours.
	idleTicks = 720
	// admitTicks is how often places are given anew.
	admitTicks = 30
	// waitingMax bounds the entries without a place that are counted.
	waitingMax = 4096
	// busier is how much busier an entry must be to take another's place.
	busier = 2
	// seriesOfEntry is how many series an endpoint or target has.
	seriesOfEntry = 7
)

// entry is an endpoint or target that is followed.
type entry struct {
	key                         analytics.Key
	group                       *group
	response, p95               *track
	throughput, errors          *track
	queue, processing, transfer *track

	last          int64   // row with requests
	ticks         int     // that it was followed
	rate          float64 // requests a tick, decayed
	all, failed   uint64  // of the latest tick
	timed, logged float64 // of it: requests that did not fail, and the sum of the logarithms of their ms

	requests, logs float64 // gathered of these
	gathered       int     // ticks
	arrived        float64 // gathered of all, for the throughput
	arriving       int     // ticks
	width          int     // ticks of a value of the throughput

	mean, knows    float64 // usual logarithm of a request's ms, and the ticks that it is known from
	variance, seen float64 // of that logarithm, and the requests that it is known from
	excess         float64 // by how much it made its service slower of late
}

func (n *entry) tracks() []*track {
	return []*track{n.response, n.p95, n.throughput, n.errors, n.queue, n.processing, n.transfer}
}

// varianceOf is from how many requests it is known how much their times scatter.
const varianceOf = 1000

// rateOf is how fast the number of requests a tick is learned: half an hour.
const rateOf = 1.0 / 180

func measureOf(k *analytics.Key, metric string) Measure { return Measure{metric, subjectOf(k)} }

// subjectOf is whom an entry is about.
func subjectOf(k *analytics.Key) Subject {
	s := Subject{Role: k.Role.String(), Service: k.Service, Namespace: k.Namespace, Method: k.Verb}
	if k.Role == wire.RoleClient {
		s.Address, s.Port = k.Address, k.Port
	} else {
		s.Route = k.Name
	}
	return s
}

// isShared tells that a key stands for many, of which nothing is known.
func isShared(k *analytics.Key) bool {
	return k.Name == analytics.Other || k.Address == analytics.Other || k.Service == analytics.Other
}

func (e *Engine) newEntry(k *analytics.Key) *entry {
	g := e.groupOf(groupKey{role: k.Role.String(), service: k.Service, namespace: k.Namespace, address: k.Address, port: k.Port})
	n := &entry{key: *k, group: g, last: e.row}
	for _, p := range []struct {
		to     **track
		metric string
	}{{&n.response, ResponseTime}, {&n.p95, ResponseTimeP95}, {&n.throughput, Throughput}, {&n.errors, ErrorRate},
		{&n.queue, QueueTime}, {&n.processing, ProcessingTime}, {&n.transfer, TransferTime}} {
		*p.to = e.newTrack(measureOf(k, p.metric), g)
	}
	e.entries[*k] = n
	if k.Verb != "" || k.Name != "" || k.Role == wire.RoleClient {
		g.entries = append(g.entries, n)
		g.served = k.Role != wire.RoleClient
	}
	return n
}

// addEntries judges what endpoints and targets did. Those that are not in the seal had no requests.
func (e *Engine) addEntries(s *analytics.Seal) {
	for _, sealed := range s.Entries {
		if isShared(&sealed.Key) {
			continue
		}
		n := e.entries[sealed.Key]
		if n == nil {
			if e.tracks+seriesOfEntry > e.o.Limits.Series {
				e.wait(sealed)
				continue
			}
			n = e.newEntry(&sealed.Key)
		}
		e.addEntry(n, &sealed.Counts)
	}
	for k, n := range e.entries {
		if n.last == e.row {
			continue
		}
		n.all, n.failed, n.timed, n.logged = 0, 0, 0, 0
		e.addTimes(n)
		e.addRequests(n, 0, 0)
		if e.row-n.last > idleTicks && !n.group.isOpen() {
			e.forget(k)
		}
	}
}

// addEntry takes what an entry did in the tick.
func (e *Engine) addEntry(n *entry, c *analytics.Counts) {
	n.last = e.row
	e.counts.reset()
	var all, failed uint64
	for i := range c.Series {
		s := &c.Series[i]
		count := s.Duration.Count() + s.Untimed
		all += count
		if s.Failed() {
			failed += count
			continue
		}
		e.counts.add(&s.Duration)
	}
	n.all, n.failed = all, failed
	n.timed, n.logged = float64(e.counts.n), e.counts.logs
	n.learnVariance(e.counts.squares)
	n.requests, n.logs = n.requests+n.timed, n.logs+n.logged
	e.addTimes(n)
	if e.counts.n >= uint64(n.p95.metric.Requests) {
		e.add(n.p95, e.counts.quantile(.95), 1, e.counts.n)
	}
	e.addRequests(n, all, failed)
	for _, p := range [...]struct {
		to *track
		h  *analytics.Histogram
	}{{n.queue, &c.Queue}, {n.processing, &c.Processing}, {n.transfer, &c.Transfer}} {
		if p.h.Count() > 0 {
			e.add(p.to, 1e3*p.h.Sum()/float64(p.h.Count()), 1, p.h.Count())
		}
	}
}

// addTimes judges the response time once there are enough requests.
func (e *Engine) addTimes(n *entry) {
	n.gathered++
	enough := n.requests >= float64(n.response.metric.Requests)
	if !enough && n.gathered < widest {
		return
	}
	if enough || n.requests >= fewest {
		n.response.noise = math.Sqrt(n.variance / n.requests)
		e.add(n.response, math.Exp(n.logs/n.requests), n.gathered, uint64(n.requests))
	}
	n.requests, n.logs, n.gathered = 0, 0, 0
}

// addRequests judges throughput and errors. The interval of a throughput does not depend on what came in it, or there would be none when
// requests stop.
func (e *Engine) addRequests(n *entry, all, failed uint64) {
	e.addFailures(n.errors, all, failed)
	n.ticks++
	n.rate += (float64(all)/float64(e.span) - n.rate) * max(rateOf, 1/float64(n.ticks))
	n.arrived += float64(all)
	if n.arriving += e.span; n.arriving == e.span {
		n.width = widest + 1
		if n.rate > 0 {
			n.width = int(math.Ceil(float64(n.throughput.metric.Requests) / n.rate))
		}
	}
	if n.arriving < min(n.width, widest) {
		return
	}
	if n.width <= widest {
		e.add(n.throughput, n.arrived/float64(n.arriving)/e.o.Tick.Seconds(), n.arriving, uint64(n.arrived))
	}
	n.arrived, n.arriving = 0, 0
}

// wait counts the requests of an entry without a place.
func (e *Engine) wait(s *analytics.Sealed) {
	if _, known := e.waiting[s.Key]; !known && len(e.waiting) >= waitingMax {
		return
	}
	for i := range s.Series {
		e.waiting[s.Key] += float64(s.Series[i].Duration.Count() + s.Series[i].Untimed)
	}
}

// admitWaiting gives the places of quiet entries to the busiest that wait.
func (e *Engine) admitWaiting() {
	for len(e.waiting) > 0 {
		var best analytics.Key
		most := -1.0
		for k, n := range e.waiting {
			if n > most || n == most && compareKeys(&k, &best) < 0 {
				best, most = k, n
			}
		}
		if e.tracks+seriesOfEntry > e.o.Limits.Series {
			quiet := e.quietest()
			if quiet == nil || most/admitTicks < busier*quiet.rate {
				break
			}
			e.forget(quiet.key)
		}
		e.newEntry(&best).rate = most / admitTicks // until it is known better
		delete(e.waiting, best)
	}
	for k := range e.waiting {
		if e.waiting[k] /= 2; e.waiting[k] < 1 {
			delete(e.waiting, k)
		}
	}
}

// quietest is the entry with the fewest requests of which nothing is to be said.
func (e *Engine) quietest() *entry {
	var found *entry
	for _, n := range e.entries {
		if !n.group.isOpen() && (found == nil || n.rate < found.rate || n.rate == found.rate && compareKeys(&n.key, &found.key) > 0) {
			found = n
		}
	}
	return found
}

func (e *Engine) forget(k analytics.Key) {
	n := e.entries[k]
	delete(e.entries, k)
	n.group.drop(n.tracks()...)
	e.tracks -= seriesOfEntry
	if whole := n.group.whole; whole != nil && len(n.group.entries) == 0 {
		n.group.drop(whole.tracks()...)
		n.group.whole = nil
		e.tracks -= seriesOfEntry
	}
	if len(n.group.tracks) == 0 {
		delete(e.groups, n.group.key)
	}
}

// rename has entries go on under other keys. Where both are there, the one that knows more goes on.
func (e *Engine) rename(all []analytics.Rename) {
	for _, r := range all {
		n := e.entries[r.From]
		if n == nil {
			delete(e.waiting, r.From)
			continue
		}
		if other := e.entries[r.To]; other != nil {
			if other.response.values >= n.response.values {
				e.forget(r.From)
				continue
			}
			e.forget(r.To)
		}
		delete(e.entries, r.From)
		n.key = r.To
		e.entries[r.To] = n
		subject := subjectOf(&r.To)
		for _, t := range n.tracks() {
			t.Subject = subject
		}
	}
}

// learnVariance learns how much the times of requests scatter, from the sum of the squares of a tick's logarithms.
func (n *entry) learnVariance(squares float64) {
	if n.timed == 0 {
		return
	}
	mean := n.logged / n.timed
	around := mean
	if n.knows > 0 {
		around = n.mean // one request scatters around what was usual
	}
	v := max(0, squares/n.timed-2*around*mean+around*around)
	n.seen += n.timed
	n.variance += (v - n.variance) * n.timed / min(n.seen, varianceOf+n.timed)
}
