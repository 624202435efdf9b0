package finding

import (
	"math"
	"slices"
	"time"
)

const (
	// evidenceMax bounds the series of an Evidence: comparing them takes milliseconds.
	evidenceMax = 400
	// neighbourSeries are of which metrics services are compared that have nothing else to do with a finding.
	evidenceOwn = 120
)

// explain has a finding explained by what was measured around it since what leads it began: where a service was slow before it failed, the
// causes of its failures are those of the time in which it fails.
func (e *Engine) explain(g *group, f *Finding, members []*track) {
	row, first := e.row+1, e.row
	for _, t := range members {
		first = min(first, t.episode.Row)
		if t.Metric == f.Metric && !t.over() {
			row = min(row, t.episode.Row)
		}
	}
	if row > e.row {
		row = first
	}
	e.explainRows(g, f, members, row)
}

func (e *Engine) explainRows(g *group, f *Finding, members []*track, row int64) {
	e.o.Explain(f, e.evidence(g, members, row))
}

// evidence gathers the series of whom a finding is about, of what it calls, of the host, and of its neighbours, in this order.
func (e *Engine) evidence(g *group, members []*track, start int64) *Evidence {
	rows := min(e.row, recentTicks)
	first := e.row - rows + 1
	v := &Evidence{From: e.now.Add(-time.Duration(rows) * e.o.Tick), Step: e.o.Tick, Start: int(max(start-first, 0)), Surroundings: surroundingsOf(e.sample)}
	v.Surroundings.Serves = e.o.Serves
	taken := map[*track]bool{}
	take := func(t *track) {
		if taken[t] || len(v.All) >= evidenceMax || t.values == 0 {
			return
		}
		taken[t] = true
		m := Measured{t.Measure, make([]float32, rows)}
		for k := range m.Values {
			m.Values[k] = t.rows[(first+int64(k))%recentTicks]
		}
		v.All = append(v.All, m)
	}
	for _, t := range members {
		take(t)
	}
	g.offer(take, evidenceOwn)
	groups := e.sortedGroups()
	for _, o := range groups { // what it calls
		if o.key.role == "client" && o.key.service == g.key.service && o.key.namespace == g.key.namespace {
			o.offer(take, evidenceOwn/4)
		}
	}
	if host := e.groups[groupKey{}]; host != nil {
		host.offer(take, evidenceOwn)
	}
	for _, o := range groups {
		if o.key.role == "server" && o != g {
			o.offerNeighbour(take)
		}
	}
	for _, o := range groups { // what its neighbours call, to follow slow calls through them
		if o.key.role == "client" {
			o.offer(take, seriesOfEntry)
		}
	}
	return v
}

func (e *Engine) sortedGroups() []*group {
	all := make([]*group, 0, len(e.groups))
	for _, g := range e.groups {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *group) int { return compareGroups(&a.key, &b.key) })
	return all
}

// offer offers what is of the group as a whole, then its busiest entries.
func (g *group) offer(take func(*track), most int) {
	for _, t := range g.tracks {
		if t.Method == "" && t.Route == "" && t.Metric != Throughput { // who adds up the endpoints' has that
			take(t)
			most--
		}
	}
	entries := slices.Clone(g.entries)
	slices.SortStableFunc(entries, func(a, b *entry) int {
		if a.rate != b.rate {
			return map[bool]int{true: -1, false: 1}[a.rate > b.rate]
		}
		return compareKeys(&a.key, &b.key)
	})
	for _, n := range entries {
		if most -= seriesOfEntry; most < 0 {
			return
		}
		for _, t := range n.tracks() {
			take(t)
		}
	}
}

// offerNeighbour offers what a service uses and serves as a whole.
func (g *group) offerNeighbour(take func(*track)) {
	for _, t := range g.tracks {
		if t.Method == "" && t.Route == "" {
			take(t)
		}
	}
	if g.whole != nil || len(g.entries) == 0 {
		return
	}
	for _, t := range g.entries[0].tracks() {
		take(t)
	}
}

// Past returns what was measured of late of all series that a filter wants, at equal steps.
func (e *Engine) Past(wanted func(*Measure) bool) *Evidence {
	e.mu.Lock()
	defer e.mu.Unlock()
	rows := min(e.row, recentTicks)
	first := e.row - rows + 1
	v := &Evidence{From: e.now.Add(-time.Duration(rows) * e.o.Tick), Step: e.o.Tick}
	for _, g := range e.sortedGroups() {
		for _, t := range g.tracks {
			if len(v.All) >= evidenceMax || t.values == 0 || !wanted(&t.Measure) {
				continue
			}
			m := Measured{t.Measure, make([]float32, rows)}
			for k := range m.Values {
				m.Values[k] = t.rows[(first+int64(k))%recentTicks]
			}
			v.All = append(v.All, m)
		}
	}
	return v
}

// isMissing tells whether a value of an Evidence is none.
func isMissing(v float32) bool { return math.IsNaN(float64(v)) }
