package query

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/perfagent/perfagent/internal/history"
)

// Rules ask for the same series again and again, a few seconds later each time. What a selector has counted up to the beginning of
// its window is remembered, so that the next evaluation reads what has come since, and not the day up to it.

const (
	// remindersMax bounds the selectors that are remembered: some hundred rules have fewer.
	remindersMax = 512
	// statesMax bounds the series of all of them. One has 100 bytes, with a native histogram 500 more.
	statesMax = 20_000
)

// memory is what rules' selectors have counted.
type memory struct {
	mu        sync.Mutex
	reminders map[reminderKey]*reminder
	states    int
}

type reminderKey struct {
	matchers string
	window   int64 // ms
	step     time.Duration
}

// reminder is what the series of a selector had counted at a time.
type reminder struct {
	h        *history.History
	revision uint64
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

// find returns what helps to answer from a time on, nil where nothing does.
func (m *memory) find(key reminderKey, h *history.History, revision uint64, from int64) *reminder {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.reminders[key]
	if r == nil || r.h != h || r.revision != revision || r.at >= from {
		return nil
	}
	return r
}

// keep remembers, and forgets all where there is too much.
func (m *memory) keep(key reminderKey, r *reminder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before := m.reminders[key]; before != nil {
		m.states -= before.size()
	}
	if m.reminders == nil || len(m.reminders) >= remindersMax || m.states+r.size() > statesMax {
		m.reminders, m.states = map[reminderKey]*reminder{}, 0
	}
	if r.size() > statesMax {
		return
	}
	m.reminders[key] = r
	m.states += r.size()
}

func (r *reminder) size() (n int) {
	for i := range r.series {
		n += len(r.series[i].states)
	}
	return n
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
	r := &reminder{h: s.h, revision: s.revision, at: s.hints.Start - 1}
	for _, g := range s.groups {
		if len(g.kept) < g.keeps {
			return nil, false
		}
		if g.keeps == 0 {
			continue
		}
		any := g.any()
		states := map[stateKey]*countState{}
		for key, state := range g.kept {
			if state.alive {
				states[key] = state
			}
		}
		if len(states) == g.keeps {
			r.series = append(r.series, remembered{&history.Series{Labels: any.Labels, Kind: any.Kind, Unit: any.Unit}, states})
		}
	}
	return r, true
}
