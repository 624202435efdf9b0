package analytics

import (
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

// RequestKind says why an exchange is kept.
type RequestKind string

// The kinds, in the order of their interest.
const (
	RequestFailed      RequestKind = "failed"       // status 500 and above, or ended without the end of a response
	RequestSlowest     RequestKind = "slowest"      // of any kind: the longest durations
	RequestClientError RequestKind = "client_error" // status 4xx
	RequestSample      RequestKind = "sample"       // of all others
)

// RequestKinds lists them all.
var RequestKinds = []RequestKind{RequestFailed, RequestSlowest, RequestClientError, RequestSample}

// How many exchanges are kept of each role. Together 1,504 of both, of which each takes at most 2.6 KB: the exchange
// (480 bytes), its texts (requestTexts, 1,408 bytes in the allocator's class) and names that nobody else holds any more
// (service, namespace, container, route: some 600). That is 3.7 of the 4 MiB that RequestsBytesMax allows; a thousand
// usual exchanges take a fifth.
const (
	failedMax      = 160
	clientErrorMax = 64
	sampleMax      = 384
	// RequestsBytesMax is the most memory that Requests holds.
	RequestsBytesMax = 4 << 20
)

const (
	// SlowestWindow is how long an exchange counts as one of the slowest.
	SlowestWindow = 15 * time.Minute
	// RequestsAge is how long all others are kept.
	RequestsAge = time.Hour

	// Whoever fails shows within ten seconds, and a sample of all that a minute brings is taken each minute.
	failuresPeriod = 10 * time.Second
	samplePeriod   = time.Minute

	requestPathBytesMax = 512
	requestNameBytesMax = 260 // of a service, namespace, container or route; they are bounded where they are made
)

// Requests keeps some recent exchanges for people to look at: the slowest of the last 15 minutes, those that failed, those
// that the client is to blame for, and a sample of the rest; of each role apart, since one end of a connection must not push
// the other out.
//
// Failures, client errors and the rest are sampled by endpoint (sampler), so that a busy endpoint does not hide a rare one.
// Within a period (10 s for failures, a minute for the rest) the sample of an endpoint is uniform; then it is taken anew, the
// exchanges of before giving way only to new ones. So an endpoint that fails less often than it has places for shows each
// failure, however many requests succeed.
//
// One goroutine calls Pick, Keep and Tick; Each may be called from any goroutine. An exchange that is not kept costs Pick a
// few comparisons with what the endpoint itself holds. NewRequests makes one.
type Requests struct {
	roles  [2]*roleRequests
	period uint32 // counts the periods of the sample; never 0
	ids    uint32
	now    func() int64

	sampleEnds, failuresEnd int64

	mu sync.Mutex // guards the contents of all places
}

// roleRequests is what is kept of one role.
type roleRequests struct {
	slowest
	samplers [3]sampler
	// places holds the exchanges: of the slowest, then of each sampler.
	places [slowestPlaces + failedMax + clientErrorMax + sampleMax]*request
}

// The samplers of a role, and where their places begin.
const (
	ofFailures = iota
	ofClientErrors
	ofRest
)

var samplerBase = [3]uint16{slowestPlaces, slowestPlaces + failedMax, slowestPlaces + failedMax + clientErrorMax}

// request is a place: an exchange with memory of its own.
type request struct {
	wire.Exchange
	text []byte
	used bool
}

// sampling is what Requests knows of an endpoint. It is part of it, so that it costs no look-up.
type sampling struct {
	sampled
	slow     int64 // exchanges of this period that are no slower are none of the slowest
	id       uint32
	failures *[2]sampled // ofFailures, ofClientErrors; nil: none yet
}

// RequestsOptions configures Requests.
type RequestsOptions struct {
	// Now returns monotonic nanoseconds, of the clock of an exchange's instants.
	Now func() int64
	// Random decides about the samples; nil: seeded by chance.
	Random *rand.Rand
}

// NewRequests returns Requests that hold nothing.
func NewRequests(o RequestsOptions) *Requests {
	if o.Random == nil {
		o.Random = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	r := &Requests{now: o.Now, period: 1}
	for i := range r.roles {
		r.roles[i] = &roleRequests{samplers: [3]sampler{
			newSampler(failedMax, o.Random), newSampler(clientErrorMax, o.Random), newSampler(sampleMax, o.Random),
		}}
		r.roles[i].reset()
	}
	return r
}

// Picked says where an exchange is kept; its zero value: nowhere.
type Picked struct {
	slowest, sample uint16 // places of the role, plus 1
}

// Any tells whether the exchange is kept anywhere.
func (p Picked) Any() bool { return p != Picked{} }

// Pick decides whether an exchange, which the engine has just counted with the handle, is kept. Where it is, Keep must
// follow.
func (r *Requests) Pick(h *Handle, ex *wire.Exchange) Picked {
	s := h.sampling()
	s.left--
	if s.left != 0 && s.period == r.period && ex.Class == wire.ClassOK && ex.Duration() <= s.slow {
		return Picked{}
	}
	return r.pick(s, ex)
}

func (r *Requests) role(ex *wire.Exchange) *roleRequests { return r.roles[ex.Role&1] }

// pick is Pick for an exchange that may be kept.
func (r *Requests) pick(s *sampling, ex *wire.Exchange) (p Picked) {
	role := r.role(ex)
	if s.id == 0 {
		r.ids++
		s.id = r.ids
	}
	s.left++ // sampled below, if it is one of the rest
	if s.period != r.period {
		s.slow = noDuration
		s.begin(r.period)
	}
	if place, ok := role.slowest.pick(s, ex.Duration()); ok {
		p.slowest = place + 1
	}
	which, sample := ofRest, &s.sampled
	switch {
	case ex.Class == wire.ClassClientFault:
		which = ofClientErrors
	case ex.Class != wire.ClassOK:
		which = ofFailures
	}
	sampler := &role.samplers[which]
	if which != ofRest {
		if s.failures == nil {
			s.failures = new([2]sampled)
		}
		sample = &s.failures[which]
		if sample.period != sampler.period {
			sample.begin(sampler.period)
		}
	}
	if sample.left--; sample.left == 0 {
		if place, ok := sampler.pick(sample); ok {
			p.sample = samplerBase[which] + place + 1
		}
	}
	return p
}

// Keep stores a copy of an exchange, complete by now, where Pick said.
func (r *Requests) Keep(p Picked, ex *wire.Exchange) {
	role := r.role(ex)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, place := range [...]uint16{p.slowest, p.sample} {
		if place == 0 {
			continue
		}
		at := &role.places[place-1]
		if *at == nil {
			*at = new(request)
		}
		(*at).set(ex)
	}
}

// Tick lets time pass; it is called a few times a second.
func (r *Requests) Tick() {
	now := r.now()
	if passed(&r.failuresEnd, now, failuresPeriod) {
		r.each(func(role *roleRequests) {
			role.expire(ofFailures, now)
			role.expire(ofClientErrors, now)
		})
	}
	if passed(&r.sampleEnds, now, samplePeriod) {
		r.period++
		r.each(func(role *roleRequests) {
			role.expire(ofRest, now)
			if r.period%slowestTurns == 0 {
				role.turnSlowest()
			}
		})
	}
}

// passed tells whether the period that ends at *end is over, and begins another.
func passed(end *int64, now int64, period time.Duration) bool {
	if now < *end {
		return false
	}
	first := *end == 0
	*end = now + int64(period)
	return !first
}

func (r *Requests) each(f func(*roleRequests)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, role := range r.roles {
		f(role)
	}
}

// expire begins a period of a sampler, without what is too old.
func (role *roleRequests) expire(which int, now int64) {
	s := &role.samplers[which]
	s.turn()
	for i := range s.owners {
		place := int(samplerBase[which]) + i
		if p := role.places[place]; p != nil && p.used && now-p.Finished > int64(RequestsAge) {
			s.drop(uint16(i))
			role.empty(place)
		}
	}
}

// turnSlowest begins a period of the slowest, and forgets the one whose places it takes.
func (role *roleRequests) turnSlowest() {
	first := role.slowest.turn()
	for i := range slowestOfPeriod {
		role.empty(first + i)
	}
}

// empty gives a place's memory back.
func (role *roleRequests) empty(place int) { role.places[place] = nil }

// Reroute gives exchanges that are kept the routes that theirs have become: see Engine.Reroute.
func (r *Requests) Reroute(current func(service, route string) string) {
	r.each(func(role *roleRequests) {
		for _, p := range role.places {
			if p != nil && p.used && p.RouteSource == wire.RouteLearned && len(p.Name) < requestNameBytesMax {
				p.Name = current(p.Service, p.Name)
			}
		}
	})
}

// Each calls f with the exchanges of a role that are kept as a kind, in no order. They belong to Requests: f copies what it
// wants to keep, and is quick, since nothing is kept meanwhile.
func (r *Requests) Each(kind RequestKind, role wire.Role, f func(*wire.Exchange)) {
	from, to, age := slowestPlaces, slowestPlaces+failedMax, RequestsAge
	switch kind {
	case RequestSlowest:
		from, to, age = 0, slowestPlaces, SlowestWindow
	case RequestClientError:
		from, to = to, to+clientErrorMax
	case RequestSample:
		from, to = to+clientErrorMax, to+clientErrorMax+sampleMax
	}
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.roles[role&1].places[from:to] {
		if p != nil && p.used && now-p.Finished <= int64(age) {
			f(&p.Exchange)
		}
	}
}

// set makes the place's exchange a copy of ex. Texts are cut to what is shown of them and one byte, which shows that they
// were cut; the path, of which more may be shown, is marked.
func (p *request) set(ex *wire.Exchange) {
	p.Exchange, p.used = *ex, true
	for _, t := range []struct {
		text *[]byte
		most int
	}{
		{&p.Host, 256}, {&p.UserAgent, wire.UserAgentBytesMax + 1}, {&p.RequestID, wire.RequestIDBytesMax + 1},
		{&p.TraceParent, 56}, // a valid one stays valid, and an invalid one invalid
		{&p.ForwardedFor, 66}, {&p.MethodOriginal, 32},
	} {
		*t.text = (*t.text)[:min(len(*t.text), t.most)]
	}
	const mark = "…"
	long := len(p.Path) > requestPathBytesMax
	if long {
		p.Path = append(p.Path[:requestPathBytesMax:requestPathBytesMax], mark...)
	}
	p.text = p.Pack(p.text)
	for _, name := range []*string{&p.Service, &p.Namespace, &p.ContainerID, &p.Name} {
		if len(*name) > requestNameBytesMax {
			*name = strings.Clone((*name)[:requestNameBytesMax])
		}
	}
}

const (
	// The slowest are kept by three minutes: the 24 longest, of which at most eight are of one endpoint, so that one whose
	// responses are meant to be long does not hide the others. Six such periods cover the window.
	slowestTurns      = 3 // periods of the sample, with which sampling.slow begins anew
	slowestPeriods    = 6
	slowestOfPeriod   = 24
	slowestOfEndpoint = 8
	slowestPlaces     = slowestPeriods * slowestOfPeriod
	noDuration        = -1
)

// slowest knows the longest durations of the periods.
type slowest struct {
	threshold int64 // no duration up to this one is kept; at least noDuration
	at        int   // the period's place in the ring
	count     int   // of the period
	durations [slowestOfPeriod]int64
	ids       [slowestOfPeriod]uint32
}

func (s *slowest) reset() { s.threshold, s.count = noDuration, 0 }

// turn begins a period, and returns the first of its places, which were those of the period six turns ago.
func (s *slowest) turn() int {
	s.reset()
	s.at = (s.at + 1) % slowestPeriods
	return s.at * slowestOfPeriod
}

// pick returns the place of an endpoint's exchange that took d, if it is one of the slowest.
func (s *slowest) pick(of *sampling, d int64) (uint16, bool) {
	if of.slow = max(of.slow, s.threshold); d <= of.slow {
		return 0, false
	}
	least, own, leastOwn := 0, 0, -1
	for i := range s.count {
		if s.durations[i] < s.durations[least] {
			least = i
		}
		if s.ids[i] == of.id {
			if own++; leastOwn < 0 || s.durations[i] < s.durations[leastOwn] {
				leastOwn = i
			}
		}
	}
	at := least
	switch {
	case own >= slowestOfEndpoint:
		if at = leastOwn; d <= s.durations[at] {
			of.slow = s.durations[at]
			return 0, false
		}
	case s.count < slowestOfPeriod:
		at = s.count
		s.count++
	}
	s.durations[at], s.ids[at] = d, of.id
	if s.count == slowestOfPeriod {
		s.threshold = s.durations[0]
		for _, other := range s.durations[1:] {
			s.threshold = min(s.threshold, other)
		}
	}
	return uint16(s.at*slowestOfPeriod + at), true
}
