package cache

import (
	"fmt"
	"math"
	"slices"
)

// Policies are the policies that can be simulated, the simplest first.
var Policies = []string{"fifo", "lru", "lfu", "arc", "sieve", "s3fifo", "wtinylfu"}

// policy is the simulation of one policy in a cache of a size: request tells of a request, and returns whether it hit.
type policy interface {
	reset(keys, size int)
	request(key int32) (hit bool)
}

func newPolicy(name string) policy {
	switch name {
	case "fifo":
		return &lru{fifo: true}
	case "lru":
		return &lru{}
	case "lfu":
		return &lfu{}
	case "arc":
		return &arc{}
	case "sieve":
		return &sieve{}
	case "s3fifo":
		return &s3fifo{}
	case "wtinylfu":
		return &tinyLFU{}
	}
	return nil
}

// HitRatios returns the share of requests that a cache with that policy answers, for each size in keys.
func (r *Requests) HitRatios(name string, sizes []int) ([]float64, error) {
	p := newPolicy(name)
	if p == nil {
		return nil, fmt.Errorf("policy %q is not one of %v", name, Policies)
	}
	ratios := make([]float64, len(sizes))
	for i, size := range sizes {
		p.reset(len(r.hashes), max(1, int(math.Round(float64(size)*r.Rate()))))
		misses := 0
		for _, ref := range r.log {
			if !p.request(int32(ref.id)) {
				misses++
			}
		}
		ratios[i] = r.ratio(misses)
	}
	return ratios, nil
}

// Lifetime returns the share of requests that an unbounded cache answers whose entries live for so many requests.
func (r *Requests) Lifetime(requests int) float64 {
	since := make([]int64, len(r.hashes))
	misses := 0
	for _, ref := range r.log {
		if at := since[ref.id]; at == 0 || int64(ref.at)+1-at >= int64(requests) {
			misses++
			since[ref.id] = int64(ref.at) + 1
		}
	}
	return r.ratio(misses)
}

// ratio makes a hit ratio of the misses. How many requests the sample has depends on which of the few busiest keys are in it; these
// are hits anyway, so what there are too few or too many of is hits (SHARDS-adj).
func (r *Requests) ratio(misses int) float64 {
	expected := float64(r.seen) * r.Rate()
	if expected == 0 {
		return 0
	}
	return min(1, max(0, 1-float64(misses)/expected))
}

// lru evicts what was used least recently; as fifo, what came first.
type lru struct {
	lists
	size int
	fifo bool
}

func (p *lru) reset(keys, size int) {
	p.lists.reset(keys, 1)
	p.size = size
}

func (p *lru) request(key int32) bool {
	if p.where(key) == 0 {
		if !p.fifo {
			p.move(0, key)
		}
		return true
	}
	if p.length(0) >= p.size {
		p.pop(0)
	}
	p.push(0, key)
	return false
}

// lfu evicts what was used least often since it came, of equals the one that has been so longest.
type lfu struct {
	next, prev     []int32
	count          []int32 // 0: not in the cache
	oldest, newest []int32 // by count
	length, size   int
	least          int32
}

func (p *lfu) reset(keys, size int) {
	p.next, p.prev, p.count = make([]int32, keys), make([]int32, keys), make([]int32, keys)
	p.oldest, p.newest = []int32{none}, []int32{none}
	p.length, p.size, p.least = 0, size, 1
}

func (p *lfu) request(key int32) bool {
	if n := p.count[key]; n > 0 {
		p.unlink(key)
		if p.least == n && p.oldest[n] == none {
			p.least++
		}
		p.link(key, n+1)
		return true
	}
	if p.length >= p.size {
		for p.oldest[p.least] == none {
			p.least++
		}
		victim := p.oldest[p.least]
		p.unlink(victim)
		p.count[victim] = 0
		p.length--
	}
	p.link(key, 1)
	p.length++
	p.least = 1
	return false
}

func (p *lfu) link(key, count int32) {
	for int(count) >= len(p.oldest) {
		p.oldest, p.newest = append(p.oldest, none), append(p.newest, none)
	}
	p.count[key] = count
	p.prev[key], p.next[key] = p.newest[count], none
	if p.newest[count] == none {
		p.oldest[count] = key
	} else {
		p.next[p.newest[count]] = key
	}
	p.newest[count] = key
}

func (p *lfu) unlink(key int32) {
	n := p.count[key]
	before, after := p.prev[key], p.next[key]
	if before == none {
		p.oldest[n] = after
	} else {
		p.next[before] = after
	}
	if after == none {
		p.newest[n] = before
	} else {
		p.prev[after] = before
	}
}

// arc balances what was used once and more often by what it would have hit (Megiddo and Modha, FAST 2003).
type arc struct {
	lists
	size   int
	target float64 // of once
}

const (
	arcOnce = iota
	arcOften
	arcOnceGone
	arcOftenGone
)

func (p *arc) reset(keys, size int) {
	p.lists.reset(keys, 4)
	p.size, p.target = size, 0
}

func (p *arc) request(key int32) bool {
	once, gone, oftenGone := p.length(arcOnce), p.length(arcOnceGone), p.length(arcOftenGone)
	switch p.where(key) {
	case arcOnce, arcOften:
		p.move(arcOften, key)
		return true
	case arcOnceGone:
		p.target = min(float64(p.size), p.target+max(float64(oftenGone)/float64(gone), 1))
		p.evict(false)
		p.move(arcOften, key)
		return false
	case arcOftenGone:
		p.target = max(0, p.target-max(float64(gone)/float64(oftenGone), 1))
		p.evict(true)
		p.move(arcOften, key)
		return false
	}
	total := once + gone + p.length(arcOften) + oftenGone
	switch {
	case once+gone == p.size && once < p.size:
		p.pop(arcOnceGone)
		p.evict(false)
	case once+gone == p.size:
		p.pop(arcOnce)
	case total >= p.size:
		if total == 2*p.size {
			p.pop(arcOftenGone)
		}
		p.evict(false)
	}
	p.push(arcOnce, key)
	return false
}

// evict makes place for one; again: for what was used often and is gone.
func (p *arc) evict(again bool) {
	once := float64(p.length(arcOnce))
	if p.length(arcOften) == 0 || once > 0 && (once > p.target || again && once == p.target) {
		p.push(arcOnceGone, p.pop(arcOnce))
		return
	}
	p.push(arcOftenGone, p.pop(arcOften))
}

// sieve passes over what was used since it last looked, and evicts the first that was not (Zhang et al., NSDI 2024).
type sieve struct {
	lists
	size    int
	hand    int32
	visited []bool
}

func (p *sieve) reset(keys, size int) {
	p.lists.reset(keys, 1)
	p.size, p.hand = size, none
	p.visited = make([]bool, keys)
}

func (p *sieve) request(key int32) bool {
	if p.where(key) == 0 {
		p.visited[key] = true
		return true
	}
	if p.length(0) >= p.size {
		victim := p.hand
		if victim == none {
			victim = p.ends[0].oldest
		}
		for p.visited[victim] {
			p.visited[victim] = false
			if victim = p.next[victim]; victim == none {
				victim = p.ends[0].oldest
			}
		}
		p.hand = p.next[victim]
		p.remove(victim)
	}
	p.visited[key] = false
	p.push(0, key)
	return false
}

// s3fifo has a small queue, a main one, and remembers what left the small one unused (Yang et al., SOSP 2023).
type s3fifo struct {
	lists
	small, main int
	uses        []uint8
}

const (
	s3Small = iota
	s3Main
	s3Gone
)

func (p *s3fifo) reset(keys, size int) {
	p.lists.reset(keys, 3)
	p.small = max(1, size/10)
	p.main = max(1, size-p.small)
	p.uses = make([]uint8, keys)
}

func (p *s3fifo) request(key int32) bool {
	where := p.where(key)
	if where == s3Small || where == s3Main {
		p.uses[key] = min(3, p.uses[key]+1)
		return true
	}
	for p.length(s3Small)+p.length(s3Main) >= p.small+p.main {
		if p.length(s3Small) < p.small && p.length(s3Main) > 0 || !p.evictSmall() {
			p.evictMain()
		}
	}
	p.uses[key] = 0
	if p.where(key) == s3Gone {
		p.move(s3Main, key)
	} else {
		p.push(s3Small, key)
	}
	return false
}

// evictSmall moves what was used to the main queue, until something has left the cache; false: nothing has.
func (p *s3fifo) evictSmall() bool {
	for p.length(s3Small) > 0 {
		key := p.pop(s3Small)
		if p.uses[key] > 1 {
			p.uses[key] = 0
			if p.push(s3Main, key); p.length(s3Main) > p.main {
				p.evictMain()
				return true
			}
			continue
		}
		if p.push(s3Gone, key); p.length(s3Gone) > p.main {
			p.pop(s3Gone)
		}
		return true
	}
	return p.length(s3Main) == 0
}

func (p *s3fifo) evictMain() {
	for p.length(s3Main) > 0 {
		key := p.pop(s3Main)
		if p.uses[key] == 0 {
			return
		}
		p.uses[key]--
		p.push(s3Main, key)
	}
}

// tinyLFU lets out of a small window into the main cache what was used more often than what it would replace there
// (Einziger et al. 2017), with a window of a hundredth and exact counters that are halved.
type tinyLFU struct {
	lists
	size, window, main, protected int
	uses                          []uint8
	counted                       []int32 // keys with uses
	sum                           int
}

const (
	tinyWindow = iota
	tinyProbation
	tinyProtected
)

func (p *tinyLFU) reset(keys, size int) {
	p.lists.reset(keys, 3)
	p.size = size
	p.window = max(1, size/100)
	p.main = max(1, size-p.window)
	p.protected = int(float64(p.main) * 0.8)
	p.uses, p.counted, p.sum = make([]uint8, keys), p.counted[:0], 0
}

func (p *tinyLFU) request(key int32) bool {
	p.count(key)
	switch p.where(key) {
	case tinyWindow:
		p.move(tinyWindow, key)
		return true
	case tinyProtected:
		p.move(tinyProtected, key)
		return true
	case tinyProbation:
		p.move(tinyProtected, key)
		if p.length(tinyProtected) > p.protected {
			p.move(tinyProbation, p.ends[tinyProtected].oldest)
		}
		return true
	}
	if p.push(tinyWindow, key); p.length(tinyWindow) > p.window {
		p.admit(p.pop(tinyWindow))
	}
	return false
}

// admit lets a key that leaves the window into the main cache, or not.
func (p *tinyLFU) admit(key int32) {
	if p.length(tinyProbation)+p.length(tinyProtected) >= p.main {
		from := tinyProbation
		if p.length(tinyProbation) == 0 {
			from = tinyProtected
		}
		if p.uses[key] <= p.uses[p.ends[from].oldest] {
			return
		}
		p.pop(from)
	}
	p.push(tinyProbation, key)
}

// count counts a use, up to 15; after ten uses for each place in the cache all counts are halved.
func (p *tinyLFU) count(key int32) {
	if p.uses[key] >= 15 {
		return
	}
	if p.uses[key]++; p.uses[key] == 1 {
		p.counted = append(p.counted, key)
	}
	if p.sum++; p.sum < 10*p.size {
		return
	}
	p.sum = 0
	p.counted = slices.DeleteFunc(p.counted, func(key int32) bool {
		p.uses[key] /= 2
		p.sum += int(p.uses[key])
		return p.uses[key] == 0
	})
}
