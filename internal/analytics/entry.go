package analytics

import (
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

// variantsMax bounds the results of one entry; a server that answers with random codes fills no memory.
const variantsMax = 64

// Result tells apart the ends that the exchanges of one entry come to.
type Result struct {
	wire.Outcome
	Protocol string // "http/1.0", "http/1.1"
	TLS      bool
}

// otherResult is that of all results beyond the limit of one entry, of which nothing is known.
var otherResult = Result{Outcome: wire.Outcome{Class: wire.ClassOther, ErrorType: Other}}

// Series is one result's share of an entry.
type Series struct {
	Result
	Duration Histogram // nanoseconds
	// Untimed counts the exchanges whose duration is unknown, because the kernel side saw no first instant. They are in
	// no histogram: their count would have no bucket to stand in, and no other instant may replace the missing one.
	Untimed uint64
	Created time.Time
}

// unanswered tells that not even the head of a response came. Of results beyond the limit that is not known.
func (s *Series) unanswered() bool {
	return s.Code == 0 && (s.Class == wire.ClassAborted || s.Class == wire.ClassTimeout)
}

// Phases holds what the results of an endpoint share. Those of a target are empty.
type Phases struct {
	Queue, Processing, Transfer Histogram // nanoseconds
	RequestSize, ResponseSize   Histogram // bytes
}

func newPhases() Phases {
	return Phases{RequestSize: NewHistogram(Bytes), ResponseSize: NewHistogram(Bytes)}
}

func (p *Phases) all() [5]*Histogram {
	return [...]*Histogram{&p.Queue, &p.Processing, &p.Transfer, &p.RequestSize, &p.ResponseSize}
}

// Counts is what was counted of an entry: since it is known, or in some interval.
type Counts struct {
	Series []Series
	Phases
}

// Entry is everything known of one Key. It never changes.
type Entry struct {
	Key
	RouteSource wire.RouteSource // of the latest exchange
	Created     time.Time
	Counts
}

// entry is what the engine keeps of a key. What was counted since the latest tick is apart from what was counted before, so
// that a tick hands it over as it is.
type entry struct {
	sampling sampling // of Requests, whose caller alone uses it

	// Guarded by Engine.mu.
	key      Key
	source   wire.RouteSource
	created  time.Time
	live     Counts // since the latest tick
	changed  bool   // since the view was made
	touched  bool   // since the latest sweep
	fresh    bool   // live has something
	lastSeen time.Time
	// ended tells that its route has become another, under which its requests are counted now.
	ended bool

	// Guarded by Engine.building.
	total Counts // up to the latest tick
	view  *Entry // total and live, as of the latest snapshot; nil: somebody has still to make it
	shown bool   // somebody may have read it
}

func newEntry(k Key, now time.Time) *entry {
	return &entry{key: k, created: now, lastSeen: now, live: Counts{Phases: newPhases()}, total: Counts{Phases: newPhases()}}
}

// idle reports whether the entry saw no exchange for the time.
func (e *entry) idle(now time.Time, limit time.Duration) bool {
	if e.touched {
		e.touched, e.lastSeen = false, now
	}
	return now.Sub(e.lastSeen) > limit
}

// take returns what was counted since the latest tick, and begins anew.
func (e *entry) take() Counts {
	c := e.live
	e.live, e.fresh = Counts{Phases: newPhases()}, false
	return c
}

// absorb adds what another entry of the same service counted.
func (e *entry) absorb(o *entry) {
	e.changed, e.touched, e.fresh = true, e.touched || o.touched, e.fresh || o.fresh
	if o.lastSeen.After(e.lastSeen) {
		e.lastSeen = o.lastSeen
	}
	if o.created.Before(e.created) {
		e.created = o.created
	}
	e.total.merge(&o.total)
	e.live.merge(&o.live)
}

// addSeries counts ex under its result and returns that series' place. guess is the place of the latest exchange with the
// same protocol, if there was one.
func addSeries(all *[]Series, guess int, ex *wire.Exchange, now func() time.Time) int {
	i := guess
	if uint(i) >= uint(len(*all)) || !(*all)[i].hasOutcome(ex) {
		if i = findSeries(*all, ex); i < 0 {
			i = newSeries(all, ex, now())
		}
	}
	s := &(*all)[i]
	if d := ex.Duration(); d >= 0 {
		s.Duration.Add(d)
	} else {
		s.Untimed++
	}
	return i
}

// hasOutcome tells whether the series is that of ex, where the protocol is known to be the same. The class and whether it was
// late follow from the rest.
func (s *Series) hasOutcome(ex *wire.Exchange) bool {
	return s.Code == ex.Code && s.TLS == ex.TLS && s.ErrorType == ex.ErrorType
}

func findSeries(all []Series, ex *wire.Exchange) int {
	for i := range all {
		if s := &all[i]; s.hasOutcome(ex) && s.Protocol == ex.Protocol {
			return i
		}
	}
	return -1
}

func newSeries(all *[]Series, ex *wire.Exchange, now time.Time) int {
	r := Result{Outcome: ex.Outcome, Protocol: label(ex.Protocol), TLS: ex.TLS}
	r.ErrorType = label(r.ErrorType)
	return placeSeries(all, r, now)
}

// placeSeries returns the place of a result's series, or of the one that it shares, which it makes where there is none.
func placeSeries(all *[]Series, r Result, created time.Time) int {
	for range 2 {
		for i := range *all {
			if (*all)[i].Result == r {
				return i
			}
		}
		if len(*all) < variantsMax-1 {
			break
		}
		r = otherResult
	}
	*all = append(*all, Series{Result: r, Created: created})
	return len(*all) - 1
}

func (p *Phases) add(ex *wire.Exchange) {
	addKnown(&p.Queue, ex.Queue())
	addKnown(&p.Processing, ex.Processing())
	addKnown(&p.Transfer, ex.Transfer())
	addKnown(&p.RequestSize, ex.RequestSize)
	addKnown(&p.ResponseSize, ex.ResponseSize)
}

// addKnown leaves out what is unknown (-1).
func addKnown(h *Histogram, v int64) {
	if v >= 0 {
		h.Add(v)
	}
}

// merge adds what o counted.
func (c *Counts) merge(o *Counts) {
	for i := range o.Series {
		s := &o.Series[i]
		to := &c.Series[placeSeries(&c.Series, s.Result, s.Created)]
		to.Duration.Merge(&s.Duration)
		to.count(s)
	}
	theirs := o.Phases.all()
	for i, h := range c.Phases.all() {
		h.Merge(theirs[i])
	}
}

// count adds what is beside the histogram.
func (s *Series) count(o *Series) {
	s.Untimed += o.Untimed
	if o.Created.Before(s.Created) {
		s.Created = o.Created
	}
}

// clone returns a copy that never changes.
func (c *Counts) clone() Counts { return (&Counts{Phases: newPhases()}).plus(c) }

// plus returns the sum of both, which stay as they are. Its histograms share one allocation.
func (c *Counts) plus(o *Counts) Counts {
	sum := Counts{Series: make([]Series, len(c.Series), len(c.Series)+len(o.Series)), Phases: c.Phases}
	copy(sum.Series, c.Series)
	// Which series of o is added to which; several may share one.
	var others [variantsMax]*Series
	for i := range o.Series {
		s := &o.Series[i]
		place := placeSeries(&sum.Series, s.Result, s.Created)
		sum.Series[place].count(s)
		if others[place] == nil {
			others[place] = s
		} else {
			both := *others[place]
			both.Duration = both.Duration.Clone()
			both.Duration.Merge(&s.Duration)
			others[place] = &both
		}
	}
	var parts [5 + variantsMax]summand
	all := parts[:0]
	theirs := o.Phases.all()
	for i, h := range sum.Phases.all() {
		all = append(all, summand{h: h, o: theirs[i]})
	}
	none := new(Histogram)
	for i := range sum.Series {
		other := none
		if others[i] != nil {
			other = &others[i].Duration
		}
		all = append(all, summand{h: &sum.Series[i].Duration, o: other})
	}
	n := 0
	for i := range all {
		n += all[i].measure()
	}
	room := make([]uint16, n)
	for i := range all {
		room = all[i].add(room)
	}
	if len(sum.Series) == 0 {
		sum.Series = nil
	}
	return sum
}
