package analytics

import (
	"math"
	"math/rand/v2"
)

// sampleOfEndpointMax bounds an endpoint's share where there are few endpoints: more than fit on a page help nobody.
const sampleOfEndpointMax = 32

// sampler shares a fixed number of places among endpoints, and within an endpoint among its exchanges.
//
// Each endpoint has a reservoir. Within a period it holds a uniform sample of that period's exchanges, by Li's algorithm L
// (ACM TOMS 20, 1994): a random skip says how many exchanges go by before the next one is taken, so that nothing is done for
// the others but counting. In terms of that algorithm, each exchange has a hidden random key in (0, 1), the reservoir holds
// those with the smallest keys, and w is the largest key in it.
//
// Endpoints get equal shares: places divided by endpoints, at least one. One that comes when all places are taken gets one of
// the endpoint with the most, whose reservoir shrinks: without a random one of its exchanges it is a uniform sample still, and
// w becomes the largest of one key less. Where every endpoint has a single place, and there are more endpoints than places,
// it is chance that decides about endpoints, in the same way.
type sampler struct {
	random  *rand.Rand
	period  uint32       // never 0
	begun   int          // endpoints that this period has met
	owners  []*reservoir // of the places; nil: free
	free    []uint16
	holders []*reservoir // those with places
	spare   *reservoir   // for the next endpoint that has none; those without a place need none of their own
}

// sampled is an endpoint's state in a sampler.
type sampled struct {
	left   uint32     // exchanges until the next one that is taken, that one included
	period uint32     // to which this belongs
	res    *reservoir // nil: has no place
}

// reservoir is the sample of an endpoint.
type reservoir struct {
	period uint32
	held   []uint16 // places: those of the period, then those of before, the oldest last
	fresh  int      // how many are of the period
	quota  int      // how many may be
	w      float64  // the chance of an exchange to be taken; 1 while there is room
	drawn  float64  // w when the skip was drawn
}

const never = math.MaxUint32

func newSampler(places int, random *rand.Rand) sampler {
	s := sampler{random: random, period: 1, owners: make([]*reservoir, places), spare: new(reservoir)}
	for i := places - 1; i >= 0; i-- {
		s.free = append(s.free, uint16(i))
	}
	return s
}

// turn begins a period.
func (s *sampler) turn() {
	s.period++
	s.begun = 0
}

// begin begins an endpoint's period: with its next exchange.
func (e *sampled) begin(period uint32) { e.period, e.left = period, 1 }

// begin begins a reservoir's period.
func (s *sampler) begin(r *reservoir) {
	s.begun++
	endpoints := len(s.holders)
	if len(r.held) == 0 {
		endpoints++
	}
	r.period, r.fresh, r.w, r.drawn = s.period, 0, 1, 1
	r.quota = min(max(len(s.owners)/endpoints, 1), sampleOfEndpointMax)
}

// pick decides about the exchange at the end of a skip, and draws the next skip.
func (s *sampler) pick(e *sampled) (uint16, bool) {
	if e.res == nil {
		e.res, s.spare.period = s.spare, 0
	}
	r := e.res
	if r.period != s.period {
		s.begin(r)
	}
	// Since the skip was drawn the reservoir may have lost places: then fewer would have been taken.
	taken := r.w >= r.drawn || s.random.Float64()*r.drawn < r.w
	if taken && r.fresh < r.quota {
		if place, ok := s.place(r); ok {
			if r == s.spare {
				s.spare = new(reservoir)
			}
			if r.fresh++; r.fresh == r.quota {
				r.w = s.largest(r.quota)
			}
			e.skip(s)
			return place, true
		}
		if r.quota = r.fresh; r.quota == 0 { // no place at all in this period
			e.res, e.left = nil, never
			return 0, false
		}
		r.w = s.largest(r.quota)
		taken = s.random.Float64() < r.w
	}
	if !taken {
		e.skip(s)
		return 0, false
	}
	place := r.held[s.random.IntN(r.quota)]
	r.w *= s.largest(r.quota)
	e.skip(s)
	return place, true
}

// largest returns the largest of n random keys.
func (s *sampler) largest(n int) float64 { return math.Pow(1-s.random.Float64(), 1/float64(n)) }

// skip draws how many exchanges go by.
func (e *sampled) skip(s *sampler) {
	r := e.res
	r.drawn = r.w
	switch {
	case r.w >= 1:
		e.left = 1
	case r.w <= 0:
		e.left = never
	default:
		n := math.Log(1-s.random.Float64()) / math.Log1p(-r.w)
		e.left = uint32(min(n, never-1)) + 1
	}
}

// place finds a place for one more exchange of the period: a free one, that of the endpoint's oldest exchange of before, or
// one that another endpoint has more of.
func (s *sampler) place(r *reservoir) (uint16, bool) {
	last := len(r.held) - 1
	if r.fresh > last || len(s.free) > 0 && len(r.held) < r.quota {
		place, ok := s.obtain(r)
		if !ok {
			return 0, false
		}
		if len(r.held) == 0 {
			s.holders = append(s.holders, r)
		}
		r.held = append(r.held, place)
		s.owners[place] = r
		last++
	}
	// The last one is new, or the oldest: it becomes the newest, and the others stay in order.
	place := r.held[last]
	copy(r.held[r.fresh+1:], r.held[r.fresh:last])
	r.held[r.fresh] = place
	return place, true
}

func (s *sampler) obtain(r *reservoir) (uint16, bool) {
	if n := len(s.free); n > 0 {
		place := s.free[n-1]
		s.free = s.free[:n-1]
		return place, true
	}
	richest := s.holders[0]
	for _, h := range s.holders {
		if len(h.held) > len(richest.held) {
			richest = h
		}
	}
	if len(richest.held) > len(r.held)+1 {
		return s.take(richest), true
	}
	if len(r.held) > 0 {
		return 0, false
	}
	return s.displace()
}

// displace makes room for one more endpoint than there are places, or does not: chance is the same for all that the period
// has met, and those that it has not met go first.
func (s *sampler) displace() (uint16, bool) {
	n := len(s.owners)
	if s.begun > n && s.random.IntN(s.begun) >= n {
		return 0, false
	}
	at := s.random.IntN(n)
	for i := range n {
		if r := s.owners[(at+i)%n]; r.period != s.period {
			at = (at + i) % n
			break
		}
	}
	return s.take(s.owners[at]), true
}

// take takes a place from a reservoir, that of an exchange of before if it has one.
func (s *sampler) take(r *reservoir) uint16 {
	last := len(r.held) - 1
	if r.fresh <= last {
		place := r.held[last]
		s.release(r, last)
		return place
	}
	at := s.random.IntN(r.fresh)
	place := r.held[at]
	if r.w >= 1 { // full as of now
		r.w = s.largest(r.fresh)
	}
	if r.fresh--; r.fresh > 0 {
		r.w *= s.largest(r.fresh)
	} else {
		r.w = 0
	}
	r.quota = r.fresh
	s.release(r, at)
	return place
}

// drop frees a place.
func (s *sampler) drop(place uint16) {
	r := s.owners[place]
	if r == nil {
		return
	}
	for i, p := range r.held {
		if p == place {
			if i < r.fresh {
				r.fresh--
			}
			s.release(r, i)
			break
		}
	}
	s.owners[place] = nil
	s.free = append(s.free, place)
}

// release removes a place from those of a reservoir, in order.
func (s *sampler) release(r *reservoir, at int) {
	r.held = append(r.held[:at], r.held[at+1:]...)
	if len(r.held) > 0 {
		return
	}
	for i, h := range s.holders {
		if h == r {
			s.holders[i] = s.holders[len(s.holders)-1]
			s.holders = s.holders[:len(s.holders)-1]
			return
		}
	}
}
