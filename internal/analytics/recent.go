package analytics

import (
	"sync"
	"time"
)

// RecentWindow is how far back Snapshot.Recent goes, by ticks.
const RecentWindow = 10 * time.Minute

// Recent is what became of the exchanges since a tick: since the start, while that is less than RecentWindow ago, or where
// there are no ticks.
type Recent struct {
	Books
	Since time.Time
}

// recentBooks remembers the books as they were at the ticks of one RecentWindow: at most 61 of 32 bytes.
type recentBooks struct {
	mu    sync.Mutex
	ticks []bookTick // the oldest first; never empty
}

type bookTick struct {
	tick           int64
	at             time.Time
	reported, lost uint64
}

func (r *recentBooks) start(c clockTicks) {
	r.ticks = []bookTick{{tick: c.sealed, at: c.started}}
}

// add notes the books of a tick, and forgets those that the window has left behind.
func (r *recentBooks) add(tick int64, at time.Time, b Books) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ticks = append(r.ticks, bookTick{tick, at, b.Reported, b.Lost})
	first := 0
	for r.ticks[first+1].tick <= tick-int64(RecentWindow/TickInterval) {
		first++
	}
	r.ticks = append(r.ticks[:0], r.ticks[first:]...)
}

// since returns what has happened in the window up to the present books, which may be a little older than its latest tick.
func (r *recentBooks) since(b Books) Recent {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := &r.ticks[0]
	n := Recent{Since: before.at, Books: Books{Reported: b.Reported - min(b.Reported, before.reported), Lost: b.Lost - min(b.Lost, before.lost)}}
	n.Seen = n.Reported + n.Lost
	return n
}

// books are those of the present.
func (e *Engine) books() (b Books) {
	e.mu.Lock()
	for i := range e.kinds {
		b.Reported += e.kinds[i].Count
	}
	e.mu.Unlock()
	for i := range e.lost {
		b.Lost += e.lost[i].Load()
	}
	return b
}
