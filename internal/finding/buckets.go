package finding

import (
	"cmp"
	"math"
	"strings"

	"github.com/perfagent/perfagent/internal/analytics"
)

// bucketOrigin is added to the indices of buckets of seconds: a nanosecond has -957, three hundred years 1,063.
const bucketOrigin, bucketsMax = 1024, 2304

// bucketCounts sums up distributions of durations.
type bucketCounts struct {
	counts   [bucketsMax]uint32
	from, to int // in use
	n        uint64
	logs     float64 // sum of the logarithms of the milliseconds
	squares  float64 // of their squares
}

func (b *bucketCounts) reset() {
	if b.to > b.from {
		clear(b.counts[b.from:b.to])
	}
	b.from, b.to, b.n, b.logs, b.squares = bucketsMax, 0, 0, 0, 0
}

// logOf is the logarithm of the milliseconds in the middle of a bucket.
func logOf(index int) float64 {
	return (float64(index)-.5)/(1<<analytics.Schema)*math.Ln2 + math.Log(1e3)
}

// add leaves out what took no time at all: it has no logarithm.
func (b *bucketCounts) add(h *analytics.Histogram) {
	for index, n := range h.Native() {
		i := min(max(index+bucketOrigin, 0), bucketsMax-1)
		b.counts[i] += uint32(n)
		b.from, b.to = min(b.from, i), max(b.to, i+1)
		b.n += n
		l := logOf(index)
		b.logs += float64(n) * l
		b.squares += float64(n) * l * l
	}
}

// quantile in ms.
func (b *bucketCounts) quantile(q float64) float64 {
	rank := uint64(math.Ceil(q * float64(b.n)))
	var seen uint64
	for i := b.from; i < b.to; i++ {
		if seen += uint64(b.counts[i]); seen >= rank {
			return math.Exp(logOf(i - bucketOrigin))
		}
	}
	return math.NaN()
}

// compareKeys orders keys, so that what is chosen does not depend on a map's order.
func compareKeys(a, b *analytics.Key) int {
	return cmp.Or(cmp.Compare(a.Role, b.Role), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Service, b.Service),
		strings.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port), strings.Compare(a.Name, b.Name), strings.Compare(a.Verb, b.Verb),
		cmp.Compare(a.Convention, b.Convention))
}

func compareGroups(a, b *groupKey) int {
	return cmp.Or(strings.Compare(a.role, b.role), strings.Compare(a.namespace, b.namespace), strings.Compare(a.service, b.service),
		strings.Compare(a.address, b.address), cmp.Compare(a.port, b.port))
}
