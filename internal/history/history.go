// Package history keeps what every tick sealed, and the host's figures at that moment: for a day as it was counted, for weeks by
// minute, for a year by hour. Distributions are kept as a whole and added up exactly, so that a percentile over a month is one of
// all requests of that month. docs/history-format.md draws what is on the disk, and why it lasts.
package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
)

const (
	// queueMax bounds the ticks that wait to be stored: 160 s, in which a disk may stall and segments may be united.
	queueMax = 16
	// memoryBytesMax bounds the segments in memory, where there is no directory, or while it cannot be written.
	memoryBytesMax = 16 << 20
	// renamesMax bounds the renames that some segment does not follow yet. Beyond it the oldest are made to.
	renamesMax = 4096
	// uniteMin is how many segments of a span that is not over are united: each makes a query open one file more.
	uniteMin = 12
	// steadyTime is how long the clock must not have jumped before age is a reason to remove anything.
	steadyTime = time.Hour
	// stepMax is the difference between two clocks from which on one of them has jumped.
	stepMax = 10 * time.Second
	// RetentionDefault and MaxBytesDefault are what zero in Options means.
	RetentionDefault = 15 * 24 * time.Hour
	// MaxBytesDefault bounds the directory.
	MaxBytesDefault = 512 << 20
)

// Options configure a History.
type Options struct {
	Path      string        // a directory, below which "history" is made; "" keeps all in memory, which is bounded
	MaxBytes  int64         // of all files; 0 means MaxBytesDefault
	Retention time.Duration // of intervals of a minute, and of shorter ones if it is below a day; 0 means RetentionDefault
	Log       *slog.Logger  // nil means slog.Default
	// Own yields the agent's own figures as of now, which are kept with each tick as those of the host are; nil: there are none.
	Own func() []analytics.Figure
	// Works is told whether the disk takes the history, at each change; nil: nobody is. It must return at once.
	Works func(works bool)
}

// History stores ticks and answers queries. Run has one owner; all other methods may be called from any goroutine.
type History struct {
	o     Options
	log   *slog.Logger
	queue chan delivery
	// Of Consume's one caller: renames of ticks that found no room.
	carried []analytics.Rename

	dropped  atomic.Uint64
	broken   chan *segmentError // segments that a query could not read
	known    identities
	recorded recorded
	store    store // of Run's goroutine

	mu    sync.RWMutex // guards what queries read
	view  view
	stats Stats
}

// delivery is what Consume hands over.
type delivery struct {
	seal   *analytics.Seal
	sample *host.Sample
	own    []analytics.Figure
}

// view is what queries read.
type view struct {
	segments []*segment // never changed, but replaced
	open     *open
	names    *renames // never changed, but replaced
	files    *files
	latest   int64  // slot of the latest tick, of this start
	revision uint64 // how often the past has become another
}

// Revision changes when what a query found of the past may not be what it would find now: a route became another, the clock went
// back, something was removed.
func (h *History) Revision() uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.view.revision
}

// store is what the owner alone uses.
type store struct {
	lock      *os.File // nil: in memory
	version   int      // of the directory's format
	needs     int      // that version, for what is to be written
	head      *head    // nil: in memory, or the head could not be written and is to be opened again
	directory string
	codec     tickCodec
	next      uint64             // number of the next tick
	renamed   uint64             // number of the latest rename
	unsaved   []numbered[[]byte] // ticks that the head does not have
	newNames  []numbered[rename] // renames that it does not have
	sealed    uint64             // ticks up to this are in segments that last
	confirmed uint64             // ticks up to this are not in the head any more
	known     []numbered[rename] // that some segment does not follow
	steady    time.Time          // since when the clock goes steadily
	before    time.Time          // end of the tick before
	retry     int                // ticks until the next attempt to write
	away      away
	damaged   int64 // bytes of what was set aside
}

// Open opens the history below the path, and goes on in memory where that cannot be, which it says, and tries again (rejoin.go):
// nothing that is wrong with a disk keeps the agent from running.
func Open(o Options) *History {
	if o.MaxBytes == 0 {
		o.MaxBytes = MaxBytesDefault
	}
	if o.Retention == 0 {
		o.Retention = RetentionDefault
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Works == nil {
		o.Works = func(bool) {}
	}
	h := &History{o: o, log: o.Log, queue: make(chan delivery, queueMax), broken: make(chan *segmentError, queueMax)}
	h.view = view{open: newOpen(), names: newRenames(nil), files: new(files)}
	h.store.next = 1
	h.stats.Damaged = map[string]uint64{}
	if o.Path == "" {
		h.stats.Memory = true
		return h
	}
	if err := h.openDirectory(filepath.Join(o.Path, directoryName)); err != nil {
		h.store = store{next: 1}
		h.view = view{open: newOpen(), names: newRenames(nil), files: new(files)}
		h.stats.Memory, h.stats.Trouble = true, "the history is kept in memory until its directory can be opened: "+err.Error()
		h.log.Error("the history is kept in memory until its directory can be opened", "err", err)
		o.Works(false)
	}
	return h
}

// Consume takes a tick and the host's latest sample, which may be nil, with the agent's own figures, and returns at once. Ticks that find the queue full are
// dropped and counted; their renames go with the next one. It is for Engine.OnSeal, and has one caller at a time.
func (h *History) Consume(s *analytics.Seal, sample *host.Sample) {
	if len(h.carried) > 0 {
		with := *s
		with.Renames = slices.Concat(h.carried, s.Renames)
		s = &with
	}
	d := delivery{seal: s, sample: sample}
	if h.o.Own != nil {
		d.own = h.o.Own()
	}
	select {
	case h.queue <- d:
		h.carried = nil
	default:
		h.dropped.Add(1)
		h.carried = s.Renames[max(0, len(s.Renames)-renamesMax):]
	}
}

// Run stores what is consumed until the context ends, then what waits, and closes the directory.
func (h *History) Run(ctx context.Context) {
	for {
		select {
		case d := <-h.queue:
			h.add(d)
		case broken := <-h.broken:
			h.loseRead(broken)
		case <-ctx.Done():
			for {
				select {
				case d := <-h.queue:
					h.add(d)
					continue
				default:
				}
				h.close()
				return
			}
		}
	}
}

// close gives the directory back. What is open is in the head, and needs no segment.
func (h *History) close() {
	h.view.files.close()
	var err error
	if h.store.head != nil {
		err = h.store.head.close()
		h.store.head = nil
	}
	if h.store.lock != nil {
		err = errors.Join(err, h.store.lock.Close())
		h.store.lock = nil
	}
	if err != nil {
		h.log.Error("the history was not closed", "err", err)
	}
}

// add stores one tick.
func (h *History) add(d delivery) {
	s := &h.store
	t := newTick(d.seal, d.sample, d.own)
	if t.slot < -slotMax || t.slot > slotMax {
		h.dropped.Add(1)
		return
	}
	s.watchClock(d.seal.To, h.count)
	if s.lock != nil && s.isAway() {
		h.leave()
	} else if s.lock == nil {
		h.rejoin()
	}
	if !h.view.open.fits(t.slot) {
		h.seal()
		h.prune(d.seal.To)
	}
	for _, r := range t.renames {
		s.renamed++
		s.known = append(s.known, numbered[rename]{s.renamed, r})
		s.newNames = append(s.newNames, numbered[rename]{s.renamed, r})
	}
	t.renamed = s.renamed
	number := s.next
	s.next++
	h.mu.Lock()
	recorded := h.recorded.take(t.slot) // in the same moment in which queries find it in what is open
	t.entries = append(t.entries, recorded...)
	h.view.open.add(number, t)
	if t.slot <= h.view.latest || len(t.renames) > 0 {
		h.view.revision++
	}
	h.view.latest = max(h.view.latest, t.slot)
	if len(t.renames) > 0 {
		h.view.names = newRenames(s.known)
	}
	h.stats.Ticks++
	h.mu.Unlock()
	if s.lock == nil {
		h.keepInMemory(t.slot)
		return
	}
	value, err := s.codec.encode(number, t)
	if err != nil {
		h.trouble("encode a tick", err)
		return
	}
	if len(recorded) > 0 {
		s.needs = formatRecorded
	}
	h.view.open.packed += len(value)
	s.unsaved = append(s.unsaved, numbered[[]byte]{number, value})
	h.save()
}

// keepInMemory notes a tick that goes nowhere else, and which renames a directory must follow that may be opened later.
func (h *History) keepInMemory(slot int64) {
	s := &h.store
	if h.o.Path == "" {
		s.newNames = nil
		s.forget(s.followed(h.view.segments))
		return
	}
	s.away.note(slot)
	s.newNames = s.newNames[max(0, len(s.newNames)-renamesMax):]
	s.known = s.known[max(0, len(s.known)-renamesMax):]
}

// watchClock notes when the clock jumped: when it went back, or otherwise than the monotonic one, or by an hour at once.
func (s *store) watchClock(now time.Time, count func(func(*Stats))) {
	if s.before.IsZero() {
		s.steady = now
	} else {
		passed := time.Duration(now.UnixNano() - s.before.UnixNano())
		if step := passed - now.Sub(s.before); passed < 0 || passed >= steadyTime || step > stepMax || step < -stepMax {
			s.steady = now
			count(func(st *Stats) { st.ClockSteps++ })
		}
	}
	s.before = now
}

// retryTicks is how many ticks pass between two attempts to write to a disk that fails.
const retryTicks = 6

// save writes to the head what it does not have.
func (h *History) save() {
	s := &h.store
	if s.retry > 0 {
		s.retry--
		return
	}
	err := s.upgrade()
	if err == nil {
		err = h.persist()
	}
	if err != nil {
		h.trouble("store a tick", err)
		return
	}
	err = h.reopen()
	change := &headChange{ticks: s.unsaved, renames: s.newNames, sealed: s.sealed, followed: s.followed(h.view.segments)}
	if err == nil {
		err = s.head.apply(change)
	}
	if err != nil {
		h.trouble("store a tick", err)
		if s.head != nil && !isFull(err) {
			// What the kernel dropped after a failed write is not known: the file is looked at before it is used again.
			s.head.close()
			s.head = nil
		}
		return
	}
	s.unsaved, s.newNames, s.confirmed = nil, nil, change.sealed
	s.forget(change.followed)
	h.well()
}

// reopen opens a head that failed. If it is damaged, what is open in memory becomes segments, so that the ticks that were in it
// are not lost with it.
func (h *History) reopen() error {
	s := &h.store
	name := filepath.Join(s.directory, headName)
	if s.head != nil {
		if !s.head.isGone(name) {
			return nil
		}
		h.log.Error("a file of the history was removed", "file", headName)
		s.head.close()
		s.head = nil
		if err := h.replaceHead(); err != nil {
			return err
		}
	}
	head, err := openHead(name)
	if errors.Is(err, errDamaged) {
		if err := h.setAside(headName, "head", err); err != nil {
			return err
		}
		if err := h.replaceHead(); err != nil {
			return err
		}
		head, err = openHead(name)
	}
	if err != nil {
		return err
	}
	s.head = head
	return nil
}

// replaceHead has what a head had that is not there any more last in segments, and in the next one.
func (h *History) replaceHead() error {
	s := &h.store
	h.seal()
	if err := h.persist(); err != nil {
		return err
	}
	s.unsaved, s.newNames = nil, slices.Clone(s.known)
	return nil
}

// followed is the number of the latest rename that all segments and the head's ticks follow, or that is not needed any more.
func (s *store) followed(segments []*segment) uint64 {
	n := s.renamed
	for _, g := range segments {
		n = min(n, g.renames)
	}
	return n
}

func (s *store) forget(followed uint64) {
	s.known = slices.DeleteFunc(s.known, func(r numbered[rename]) bool { return r.number <= followed })
}

// seal makes segments of what is open, in memory; persist writes them.
func (h *History) seal() {
	s := &h.store
	o := h.view.open
	if o.ticks == 0 {
		return
	}
	segments := slices.Clone(h.view.segments)
	for t := range tiers {
		g := &segment{tier: t, from: t.end(o.from), to: t.end(o.to), first: o.first, last: o.last, renames: s.renamed, mem: map[string][]byte{}}
		w := builder{tier: t}
		for _, name := range o.names() {
			w.buf = w.openBlock(name, o.entries[name]).encode(w.buf[:0])
			value := sealValue([]byte(name), w.buf)
			g.mem[name] = value
			g.bytes += int64(len(name) + len(value))
		}
		segments = append(segments, g)
	}
	h.publish(segments, newOpen())
	h.count(func(st *Stats) { st.Seals++ })
}

// publish shows queries another state.
func (h *History) publish(segments []*segment, o *open) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.view.segments = segments
	if o != nil {
		h.view.open = o
	}
}

// persist writes the segments that are in memory to the directory, the oldest first. When it has, their ticks need not be in
// the head any more.
func (h *History) persist() error {
	s := &h.store
	var last uint64
	for _, g := range h.view.segments {
		if g.name != "" {
			continue
		}
		written := &segment{tier: g.tier, from: g.from, to: g.to, first: g.first, last: g.last, renames: g.renames}
		if err := written.write(s.directory, g.bytes, g.ordered); err != nil {
			return err
		}
		h.replace([]*segment{g}, written)
		last = max(last, g.last)
	}
	if last > s.sealed {
		s.sealed = last
		s.unsaved = slices.DeleteFunc(s.unsaved, func(t numbered[[]byte]) bool { return t.number <= last })
	}
	return nil
}

// ordered yields the blocks of a segment in memory.
func (s *segment) ordered(yield func(name string, value []byte) error) error {
	for _, name := range sortedNames(s.mem) {
		if err := yield(name, s.mem[name]); err != nil {
			return err
		}
	}
	return nil
}

// replace puts a segment in the place of others; nil: nothing.
func (h *History) replace(gone []*segment, by *segment) {
	if by == nil {
		h.mu.Lock()
		h.view.revision++
		h.mu.Unlock()
	}
	segments := slices.DeleteFunc(slices.Clone(h.view.segments), func(g *segment) bool { return slices.Contains(gone, g) })
	if by != nil {
		segments = append(segments, by)
		slices.SortStableFunc(segments, bySequence)
	}
	h.publish(segments, nil)
}

// trouble notes that the disk failed, and says so once.
func (h *History) trouble(doing string, err error) {
	h.store.retry = retryTicks - 1
	h.mu.Lock()
	first := h.stats.Trouble == ""
	h.stats.Trouble = fmt.Sprintf("the history is kept in memory until it can be written: %s: %v", doing, err)
	h.stats.WriteErrors++
	h.mu.Unlock()
	if first {
		h.o.Works(false)
		h.log.Error("the history cannot be written and is kept in memory", "doing", doing, "err", err)
	}
}

// well notes that the disk works.
func (h *History) well() {
	h.mu.Lock()
	again := h.stats.Trouble != ""
	h.stats.Trouble = ""
	h.stats.Stored = h.store.next - 1
	h.mu.Unlock()
	if again {
		h.o.Works(true)
		h.log.Info("the history is written again")
	}
}

func (h *History) count(f func(*Stats)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.stats)
}
