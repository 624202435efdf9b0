package history

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// prune unites segments and removes what is beyond the bounds. It runs after each seal.
func (h *History) prune(now time.Time) {
	if err := h.persistIfThere(); err != nil {
		h.trouble("write a segment", err)
	}
	h.unite(slotOf(now.UnixMilli()))
	h.removeOld(now)
	h.removeLargest()
}

func (h *History) persistIfThere() error {
	if h.store.lock == nil || h.store.retry > 0 {
		return nil
	}
	return h.persist()
}

// unite makes one segment of those of a span that is over, or that has many; and of one whose names are the most outdated,
// where there are too many renames.
func (h *History) unite(now int64) {
	type place struct {
		tier tier
		span int64
	}
	if h.store.lock != nil && slices.ContainsFunc(h.view.segments, func(g *segment) bool { return g.name == "" }) {
		return // what is not on the disk yet comes first
	}
	groups := map[place][]*segment{}
	var outdated *segment
	for _, g := range h.view.segments {
		if g.oneSpan() && !g.stored && (h.store.lock == nil || g.last <= h.store.confirmed) { // else a crash would take it back
			at := place{g.tier, g.tier.span(g.from)}
			groups[at] = append(groups[at], g)
			if outdated == nil || g.renames < outdated.renames {
				outdated = g
			}
		}
	}
	for at, group := range groups {
		over := at.tier.span(now) > at.span
		if len(group) >= uniteMin || over && len(group) > 1 ||
			len(h.store.known) > renamesMax && slices.Contains(group, outdated) {
			if err := h.uniteGroup(group); err != nil {
				h.uniteFailed(group, err)
				return
			}
		}
	}
}

// uniteGroup makes one segment of several of a span.
func (h *History) uniteGroup(group []*segment) error {
	s := &h.store
	first := group[0]
	u := &segment{tier: first.tier, from: first.from, to: first.to, first: first.first, last: first.last, renames: s.renamed}
	sources := map[string][]source{}
	var bytes int64
	for _, g := range group {
		u.from, u.to = min(u.from, g.from), max(u.to, g.to)
		u.first, u.last = min(u.first, g.first), max(u.last, g.last)
		bytes += g.bytes
		err := h.view.files.each(g, func(name []byte, _ func() ([]byte, error)) error {
			current := h.view.names.current(string(name), g.renames)
			sources[current] = append(sources[current], source{g, string(name)})
			return nil
		})
		if err != nil {
			return &segmentError{g, err}
		}
	}
	w := builder{tier: u.tier}
	all := func(yield func(name string, value []byte) error) error {
		for _, name := range sortedNames(sources) {
			value, err := h.uniteEntry(&w, name, sources[name])
			if err == nil {
				err = yield(name, value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if s.lock == nil {
		u.mem = map[string][]byte{}
		if err := all(func(name string, value []byte) error {
			u.mem[name] = value
			u.bytes += int64(len(name) + len(value))
			return nil
		}); err != nil {
			return err
		}
	} else if err := u.write(s.directory, bytes, all); err != nil {
		return err
	}
	h.replace(group, u)
	for _, g := range group {
		h.view.files.remove(g)
	}
	return nil
}

// source is where an entry's block is.
type source struct {
	*segment
	name string
}

// segmentError names the segment that could not be read.
type segmentError struct {
	segment *segment
	err     error
}

func (e *segmentError) Error() string { return fmt.Sprintf("%s: %v", e.segment.name, e.err) }
func (e *segmentError) Unwrap() error { return e.err }

func (h *History) uniteEntry(w *builder, name string, sources []source) ([]byte, error) {
	blocks := make([]*block, len(sources))
	for i, g := range sources {
		err := h.view.files.get(g.segment, []byte(g.name), func(b []byte) error {
			blocks[i] = new(block)
			return blocks[i].parse(slices.Clone(b))
		})
		if err != nil {
			return nil, &segmentError{g.segment, err}
		}
	}
	united, err := w.unite(name, blocks)
	if err != nil {
		return nil, err
	}
	w.buf = united.encode(w.buf[:0])
	return sealValue([]byte(name), w.buf), nil
}

// uniteFailed sets a damaged segment aside; anything else is tried again after the next seal.
func (h *History) uniteFailed(group []*segment, err error) {
	var at *segmentError
	if errors.As(err, &at) && (errors.Is(err, errDamaged) || errors.Is(err, errColumn)) {
		h.lose(at.segment, err)
		return
	}
	h.trouble("unite segments", err)
}

// lose puts a damaged segment out of the way.
func (h *History) lose(g *segment, why error) {
	h.replace([]*segment{g}, nil)
	h.view.files.abandon(g)
	if g.name == "" {
		h.count(func(st *Stats) { st.Damaged["segment"]++ })
		return
	}
	if err := h.setAside(g.name, "segment", why); err != nil {
		h.log.Error("a damaged file of the history stays where it is", "err", err)
	}
}

// loseRead is lose for what a query met.
func (h *History) loseRead(e *segmentError) {
	if slices.Contains(h.view.segments, e.segment) && h.store.lock != nil {
		h.lose(e.segment, e.err)
	}
}

// keep is how long a tier's segments stay.
func (h *History) keep(t tier) time.Duration {
	if keep := tierData[t].keep; keep > 0 && (t == tierHour || keep < h.o.Retention) {
		return keep
	}
	return h.o.Retention
}

// removeOld removes by age, if the clock has been steady: one that jumped must not empty the history.
func (h *History) removeOld(now time.Time) {
	if now.Sub(h.store.steady) < steadyTime {
		return
	}
	for _, g := range h.view.segments {
		if time.Unix(g.to*slotSeconds, 0).Before(now.Add(-h.keep(g.tier))) {
			h.drop(g)
		}
	}
}

// drop removes a segment.
func (h *History) drop(g *segment) {
	h.replace([]*segment{g}, nil)
	h.view.files.remove(g)
}

// removeLargest removes the oldest segments of the tier that is most beyond its share, until all fit.
func (h *History) removeLargest() {
	for {
		var sum int64
		var each [tiers]float64
		// The head's and what was set aside count, but damage must not leave nothing.
		limit := max(h.o.MaxBytes-h.store.damaged-openBytesMax, h.o.MaxBytes/4)
		memory := h.store.lock == nil
		if memory {
			limit = min(memoryBytesMax, h.o.MaxBytes)
		}
		var inMemory int64
		for _, g := range h.view.segments {
			sum += g.bytes
			each[g.tier] += float64(g.bytes) / tierData[g.tier].share
			if g.name == "" {
				inMemory += g.bytes
			}
		}
		if sum <= limit && inMemory <= memoryBytesMax || len(h.view.segments) == 0 {
			return
		}
		worst := tierTick
		for t := range tiers {
			if each[t] > each[worst] {
				worst = t
			}
		}
		var oldest *segment
		for _, g := range h.view.segments {
			if g.tier == worst && (sum > limit || g.name == "") && (oldest == nil || g.to < oldest.to) {
				oldest = g
			}
		}
		if oldest == nil { // what is in memory beyond its bound belongs to another tier
			for _, g := range h.view.segments {
				if g.name == "" && (oldest == nil || g.to < oldest.to) {
					oldest = g
				}
			}
		}
		if oldest.name == "" && !memory {
			h.count(func(st *Stats) { st.Lost++ })
		}
		h.drop(oldest)
	}
}
