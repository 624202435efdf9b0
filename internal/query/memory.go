package query

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/perfagent/perfagent/internal/history"
)

// Rules ask for the same series again and again, a few seconds later each time. What a selector has counted is remembered, so that
// the next evaluation reads what has come since, and not the day up to it: of numbers all samples of the window, thinned to the
// resolution that the window needs; of native histograms and of tables of buckets, whose samples are large, what had been counted
// at its beginning.

const (
	// remindersMax bounds the selectors that are remembered: some hundred rules have fewer.
	remindersMax = 512
	// statesMax bounds the series of all of them. One has 200 bytes, with a native histogram 500 more.
	statesMax = 20_000
	// footprintsMax bounds the samples that are remembered, 32 bytes each: 7 MB.
	footprintsMax = 200_000
)

// memory is what rules' selectors have counted.
type memory struct {
	mu         sync.Mutex
	reminders  map[reminderKey]*reminder
	states     int
	footprints int
}

type reminderKey struct {
	matchers string
	window   int64 // ms
	step     time.Duration
	offset   int64 // ms before the evaluation
	trails   bool
}

// reminder is what the series of a selector had counted at a time.
type reminder struct {
	h        *history.History
	revision uint64
	from     int64 // the samples from then on are remembered
	at       int64 // ms since 1970: all that ends at it or before is counted
	series   []remembered
}

// remembered is one series.
type remembered struct {
	series *history.Series // its labels alone
	states map[stateKey]*countState
}

// stateKey names what was counted of it.
type stateKey struct {
	kind projectionKind
	cell int // of a bucket; that of a table is of all
}

// find returns what helps to answer for a time, nil where nothing does.
func (m *memory) find(key reminderKey, h *history.History, revision uint64, from, to int64) *reminder {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.reminders[key]
	if r == nil || r.h != h || r.revision != revision || r.from > from || r.at > to || !key.trails && r.at >= from {
		return nil
	}
	return r
}

// keep remembers, and forgets all where there is too much.
func (m *memory) keep(key reminderKey, r *reminder) {
	states, footprints := r.size()
	if states > statesMax || footprints > footprintsMax {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if before := m.reminders[key]; before != nil {
		s, f := before.size()
		m.states, m.footprints = m.states-s, m.footprints-f
	}
	if m.reminders == nil || len(m.reminders) >= remindersMax || m.states+states > statesMax || m.footprints+footprints > footprintsMax {
		m.reminders, m.states, m.footprints = map[reminderKey]*reminder{}, 0, 0
	}
	m.reminders[key] = r
	m.states, m.footprints = m.states+states, m.footprints+footprints
}

func (r *reminder) size() (states, footprints int) {
	for i := range r.series {
		for _, state := range r.series[i].states {
			states, footprints = states+1, footprints+len(state.trail)
		}
	}
	return states, footprints
}

// selectorText tells selectors apart.
func selectorText(matchers []*Matcher) string {
	var b strings.Builder
	for _, m := range matchers {
		b.WriteString(strconv.Quote(m.Name))
		b.WriteString(m.Type.String())
		b.WriteString(strconv.Quote(m.Value))
	}
	return b.String()
}

// collect makes the reminder of a selection whose series have all been read; false: some were not, or not to the end.
func (s *selection) collect() (*reminder, bool) {
	r := &reminder{h: s.h, revision: s.revision, from: s.hints.Start, at: s.hints.Start - 1}
	if s.trails {
		r.at = s.counted - 1
		if n := len(s.grid.times); n > 0 {
			r.at = s.grid.times[n-1]
		}
	}
	for _, g := range s.groups {
		for _, w := range g.walks {
			if w.finished() {
				g.keep(w.stateKey(), w.remember(r.at, s.step.Milliseconds()))
			}
		}
		if len(g.kept) < g.keeps {
			return nil, false
		}
		states := map[stateKey]*countState{}
		for key, state := range g.kept {
			if state.alive || len(state.trail) > 0 {
				states[key] = state
			}
		}
		if g.keeps > 0 && len(states) == g.keeps {
			r.series = append(r.series, remembered{&history.Series{Labels: g.label.Labels, Kind: g.label.Kind, Unit: g.label.Unit}, states})
		}
	}
	return r, true
}

// remember returns the state at the end, with the samples of the window: of a long one those at the ends of longer intervals, but
// for the latest.
func (w *countWalk) remember(at, unit int64) *countState {
	trail := w.trail
	w.trail = nil
	state := w.countState.clone()
	state.last, state.trail = w.steps.last, trail[:0]
	for _, f := range trail {
		if f.at > at { // an end that was seen because the next interval was not stored yet
			break
		}
		if unit <= shortest || f.ended || f.at%unit == 0 || f.at > at-unit {
			state.trail = append(state.trail, f)
		}
	}
	return state
}
