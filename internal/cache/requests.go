// Package cache answers what a cache in front of an endpoint would do: the share of requests that it would answer, by policy,
// size and lifetime, from the requests alone. It simulates the policies on a sample of the keys in caches scaled by the
// sampling rate (SHARDS, Waldspurger et al., FAST 2015; miniature simulation, ATC 2017): all requests of a key are in the
// sample, or none. While all keys fit there is no sampling, and the answers are exact.
package cache

import "math/bits"

const (
	// KeysDefault and RequestsDefault bound a sample: 16 MiB of requests, 12 MiB of keys, 6 MiB of simulation.
	KeysDefault, RequestsDefault = 1 << 18, 1 << 21
	// keysEnough is how many keys a sample keeps while it is thinned for having too many requests: below that it forgets the
	// oldest ones instead. 8,192 keys have a mean error of about a hundredth.
	keysEnough = 1 << 13
)

// Limits bound a sample. Zero: the defaults.
type Limits struct {
	Keys     int
	Requests int
}

// Requests is a sample of requests in their order. It is not safe for concurrent use.
type Requests struct {
	limits    Limits
	threshold uint64 // hashes above are not in the sample
	seen      uint64 // requests, sampled or not
	ids       map[uint64]uint32
	hashes    []uint64 // by id
	log       []reference
}

// reference is a sampled request: which key, and how many requests of any key came before.
type reference struct {
	at uint32
	id uint32
}

// NewRequests returns an empty sample.
func NewRequests(limits Limits) *Requests {
	if limits.Keys == 0 {
		limits.Keys = KeysDefault
	}
	if limits.Requests == 0 {
		limits.Requests = RequestsDefault
	}
	limits.Requests = max(limits.Requests, limits.Keys, 2)
	return &Requests{limits: limits, threshold: ^uint64(0), ids: make(map[uint64]uint32)}
}

// Add tells of a request of key. Positions wrap after four billion requests, which confuses lifetimes only.
func (r *Requests) Add(key []byte) {
	at := uint32(r.seen)
	r.seen++
	hash := hashOf(key)
	if hash > r.threshold {
		return
	}
	id, known := r.ids[hash]
	if !known {
		id = uint32(len(r.hashes))
		r.ids[hash] = id
		r.hashes = append(r.hashes, hash)
	}
	r.log = append(r.log, reference{at, id})
	for len(r.hashes) > r.limits.Keys || len(r.log) > r.limits.Requests && len(r.hashes) > 2*keysEnough {
		r.thin()
	}
	if len(r.log) > r.limits.Requests { // few keys: the latest half tells as much
		r.forget()
	}
}

// thin takes a quarter of the keys out of the sample.
func (r *Requests) thin() {
	r.threshold -= r.threshold / 4
	renamed := make([]uint32, len(r.hashes))
	kept := r.hashes[:0]
	for id, hash := range r.hashes {
		if hash > r.threshold {
			delete(r.ids, hash)
			continue
		}
		renamed[id] = uint32(len(kept)) + 1 // 0: dropped
		r.ids[hash] = uint32(len(kept))
		kept = append(kept, hash)
	}
	r.hashes = kept
	log := r.log[:0]
	for _, ref := range r.log {
		if id := renamed[ref.id]; id != 0 {
			log = append(log, reference{ref.at, id - 1})
		}
	}
	r.log = log
}

// forget drops the older half of the requests.
func (r *Requests) forget() {
	half := len(r.log) / 2
	dropped := uint64(r.log[half].at - r.log[0].at)
	r.log = append(r.log[:0], r.log[half:]...)
	r.seen -= min(dropped, r.seen)
	for i := range r.log {
		r.log[i].at -= uint32(dropped)
	}
}

// Seen returns how many requests the answers are of.
func (r *Requests) Seen() uint64 { return r.seen }

// Rate returns the share of the keys that is in the sample; 1: the answers are exact.
func (r *Requests) Rate() float64 { return (float64(r.threshold) + 1) / (1 << 64) }

// Keys returns how many different keys there were, estimated where there is sampling.
func (r *Requests) Keys() int { return int(float64(len(r.hashes))/r.Rate() + 0.5) }

// hashOf hashes a key, the same in every process: FNV-1a, whose low bits spread to all by two multiplications (Stafford's
// variant 13 of the finaliser of MurmurHash3).
func hashOf(key []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return bits.RotateLeft64(h^h>>31, 17)
}
