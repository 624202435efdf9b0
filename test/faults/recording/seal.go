package recording

import (
	"fmt"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/wire"
)

// tickLine is a seal.
type tickLine struct {
	Tick    int64       `json:"tick,omitempty"`
	To      int64       `json:"to,omitempty"`      // seconds since 1970
	Keys    []keyLine   `json:"keys,omitempty"`    // met for the first time
	Results []resLine   `json:"results,omitempty"` // likewise
	Renames [][2]int    `json:"renames,omitempty"`
	Entries []entryLine `json:"entries,omitempty"`
}

type keyLine struct {
	Key    analytics.Key    `json:"key"`
	Source wire.RouteSource `json:"source,omitempty"`
}

type resLine struct{ analytics.Result }

// entryLine is what an entry did. Of sizes it has the counts and the means.
type entryLine struct {
	Key    int            `json:"k"`
	Series []seriesLine   `json:"s,omitempty"`
	Phases [3]distributed `json:"p,omitzero"` // queue, processing, transfer
	Sizes  [2][2]uint64   `json:"z,omitzero"` // requests, responses: count and mean
}

type seriesLine struct {
	Result   int         `json:"r"`
	Untimed  uint64      `json:"u,omitempty"`
	Duration distributed `json:"d"`
}

// distributed is a histogram: how many values are 0, and then the cell of each other value, in ascending order, as its distance to the one
// before. The sum is that of the cells' middles.
type distributed []uint64

// requestsMax is more than a tick has.
const requestsMax = 1 << 24

// phaseCells are taken together in phases, a quarter of an octave: nobody asks for their quantiles to a percent.
const phaseCells = 8

// keys are the keys and results that were met, in their order.
type keys struct {
	places  map[analytics.Key]int
	all     []keyLine
	results map[analytics.Result]int
	ends    []analytics.Result
}

func newKeys() *keys {
	return &keys{places: map[analytics.Key]int{}, results: map[analytics.Result]int{}}
}

func (k *keys) place(line *tickLine, key analytics.Key, source wire.RouteSource) int {
	at, known := k.places[key]
	if !known {
		at = len(k.places)
		k.places[key] = at
		line.Keys = append(line.Keys, keyLine{key, source})
	}
	return at
}

func (k *keys) result(line *tickLine, r analytics.Result) int {
	at, known := k.results[r]
	if !known {
		at = len(k.results)
		k.results[r] = at
		line.Results = append(line.Results, resLine{r})
	}
	return at
}

func (k *keys) encode(s *analytics.Seal) *tickLine {
	line := &tickLine{Tick: s.Tick, To: s.To.Unix()}
	for _, r := range s.Renames {
		line.Renames = append(line.Renames, [2]int{k.place(line, r.From, wire.RouteLearned), k.place(line, r.To, wire.RouteLearned)})
	}
	for _, e := range s.Entries {
		n := entryLine{Key: k.place(line, e.Key, e.RouteSource)}
		for i := range e.Series {
			s := &e.Series[i]
			n.Series = append(n.Series, seriesLine{k.result(line, s.Result), s.Untimed, distribute(&s.Duration, 1)})
		}
		for i, h := range []*analytics.Histogram{&e.Queue, &e.Processing, &e.Transfer} {
			if h.Count() > 0 {
				n.Phases[i] = distribute(h, phaseCells)
			}
		}
		for i, h := range []*analytics.Histogram{&e.RequestSize, &e.ResponseSize} {
			n.Sizes[i] = [2]uint64{h.Count(), h.Total() / max(h.Count(), 1)}
		}
		line.Entries = append(line.Entries, n)
	}
	return line
}

// distribute takes each so many cells as one, the first of them.
func distribute(h *analytics.Histogram, together int) distributed {
	d, last := distributed{h.Zeros()}, 0
	for cell, n := range h.Cells() {
		cell /= together
		for range n {
			d = append(d, uint64(cell-last))
			last = cell
		}
	}
	return d
}

func (k *keys) decode(line *tickLine) (*analytics.Seal, error) {
	k.all = append(k.all, line.Keys...)
	for _, r := range line.Results {
		k.ends = append(k.ends, r.Result)
	}
	to := time.Unix(line.To, 0).UTC()
	s := &analytics.Seal{Tick: line.Tick, From: to.Add(-analytics.TickInterval), To: to}
	for _, r := range line.Renames {
		if max(r[0], r[1]) >= len(k.all) || min(r[0], r[1]) < 0 {
			return nil, fmt.Errorf("no keys %d", r)
		}
		s.Renames = append(s.Renames, analytics.Rename{From: k.all[r[0]].Key, To: k.all[r[1]].Key})
	}
	for i := range line.Entries {
		e, err := k.entry(&line.Entries[i], to)
		if err != nil {
			return nil, err
		}
		s.Entries = append(s.Entries, e)
	}
	return s, nil
}

func (k *keys) entry(n *entryLine, to time.Time) (*analytics.Sealed, error) {
	if n.Key < 0 || n.Key >= len(k.all) {
		return nil, fmt.Errorf("no key %d", n.Key)
	}
	e := &analytics.Sealed{Key: k.all[n.Key].Key, RouteSource: k.all[n.Key].Source}
	e.RequestSize, e.ResponseSize = analytics.NewHistogram(analytics.Bytes), analytics.NewHistogram(analytics.Bytes)
	for _, s := range n.Series {
		if s.Result < 0 || s.Result >= len(k.ends) {
			return nil, fmt.Errorf("no result %d", s.Result)
		}
		series := analytics.Series{Result: k.ends[s.Result], Untimed: s.Untimed, Created: to}
		if err := s.Duration.addTo(&series.Duration, 1); err != nil {
			return nil, err
		}
		e.Series = append(e.Series, series)
	}
	for i, h := range []*analytics.Histogram{&e.Queue, &e.Processing, &e.Transfer} {
		if err := n.Phases[i].addTo(h, phaseCells); err != nil {
			return nil, err
		}
	}
	for i, h := range []*analytics.Histogram{&e.RequestSize, &e.ResponseSize} {
		if n.Sizes[i][0] > requestsMax {
			return nil, fmt.Errorf("%d requests", n.Sizes[i][0])
		}
		for range n.Sizes[i][0] {
			h.Add(int64(n.Sizes[i][1]))
		}
	}
	return e, nil
}

func (d distributed) addTo(h *analytics.Histogram, together int) error {
	if len(d) == 0 {
		return nil
	}
	var cells []analytics.Cell
	at, sum := 0, uint64(0)
	for _, distance := range d[1:] {
		at += int(min(distance, analytics.CellsMax))
		cell := at*together + together/2
		if cell >= analytics.CellsMax {
			return fmt.Errorf("no cell %d", cell)
		}
		if n := len(cells); n > 0 && cells[n-1].Index == cell {
			cells[n-1].Count++
		} else {
			cells = append(cells, analytics.Cell{Index: cell, Count: 1})
		}
		sum += analytics.CellMiddle(h.Unit(), cell)
	}
	return h.AddCells(d[0], sum, cells)
}
