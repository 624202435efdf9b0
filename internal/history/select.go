package history

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/wire"
)

// Matcher chooses series by a label; a label that a series does not have counts as empty.
type Matcher struct {
	Name  string
	Match func(value string) bool
}

// Query chooses series and samples.
type Query struct {
	From, To time.Time // ends of intervals, both included
	// Step is the resolution that is wanted: intervals are the longest that are not longer, shorter at the end, where longer ones
	// are not over yet, and longer where shorter ones are not kept any more. 0 means the shortest.
	Step     time.Duration
	Matchers []Matcher   // all of them must match
	Any      [][]Matcher // and all of one of these; none: whatever there is
	// CopyBytes is how much of files is copied at once, for who reads all of very many series: each file is opened once then, and not
	// for each of them. 0 means copiedMax, which is enough for few.
	CopyBytes int
}

// Result is what a query found. It must be closed.
type Result struct {
	Series []*Series // in the order of their labels
	// Missing are files that are damaged: what they had is not there.
	Missing []string
	h       *History
	pinned  []*segment
}

// PackedBytes is how much of files must be unpacked for all samples: some 30 ns each.
func (r *Result) PackedBytes() (n int64) {
	for _, s := range r.Series {
		for i := range s.sources {
			n += int64(s.sources[i].bytes)
		}
	}
	return n
}

// Close lets what was read be removed.
func (r *Result) Close() { r.h.view.files.unpin(r.pinned) }

// Series is one series with its samples.
type Series struct {
	// Labels are those of /metrics, in the order of their names, with __name__ first.
	Labels []analytics.Label
	Kind   Kind
	Unit   analytics.Unit // of distributions

	h       *History
	from    int64 // slots that are asked for
	to      int64
	sources []columnSource

	pending    Sample // of a recorded series
	hasPending bool
}

// columnSource is where samples of a series are: a column of a segment, or points that are open.
type columnSource struct {
	segment *segment // nil: open
	entry   string
	column  string
	data    []byte // of the column, where it was copied already
	points  []point
	lo, hi  int64 // slots: lo < slot <= hi
	bytes   int   // of the column as it is stored; 0: open
}

// first is a lower bound of the source's first slot.
func (s *columnSource) first() int64 {
	if s.segment == nil {
		return s.points[0].slot
	}
	return max(s.segment.from, s.lo+1)
}

// piece is a range of slots that one tier answers for.
type piece struct {
	tier   tier
	lo, hi int64
}

// pieces divides all time among the tiers, at borders of hours, so that nothing is counted twice.
func pieces(segments []*segment, step time.Duration) []piece {
	var starts [tiers]int64
	for t := range starts {
		starts[t] = math.MaxInt64
	}
	var sealed, number int64 = math.MinInt64, -1
	for _, g := range segments {
		starts[g.tier] = min(starts[g.tier], g.from-g.tier.unit())
		if int64(g.last) > number {
			sealed, number = g.to, int64(g.last)
		}
		if int64(g.last) == number {
			sealed = min(sealed, g.to) // the finest tier knows best
		}
	}
	want := tierTick
	for t := range tiers {
		if time.Duration(t.interval())*time.Millisecond <= step {
			want = t
		}
	}
	var all []piece
	high := int64(math.MaxInt64)
	if want > tierTick {
		high = floorDiv(sealed, want.unit()) * want.unit()
	}
	for t, hi := want, high; t < tiers; t++ {
		lo := int64(math.MinInt64)
		for coarser := t + 1; coarser < tiers; coarser++ {
			if starts[t] == math.MaxInt64 && starts[coarser] < starts[t] || starts[coarser] < floorDiv(starts[t], tierHour.unit())*tierHour.unit() {
				lo = hi
				if starts[t] < hi {
					lo = min(tierHour.end(starts[t]), hi)
				}
			}
		}
		all = append(all, piece{t, lo, hi})
		if lo == math.MinInt64 {
			break
		}
		hi = lo
	}
	for t := want; t > tierTick; t-- {
		finer, hi := t-1, int64(math.MaxInt64)
		if finer > tierTick {
			hi = floorDiv(sealed, finer.unit()) * finer.unit()
		}
		all = append(all, piece{finer, high, hi})
		high = hi
	}
	return all
}

// selection is a query under way.
type selection struct {
	h       *History
	q       *Query
	from    int64
	to      int64
	names   *renames
	pieces  []piece // of the result's pinned segments
	series  map[string]*Series
	entries map[string]bool // whether an entry may have series that are chosen
	kinds   map[columnKind]bool
	figures map[string]bool // whether a metric of figures is chosen
	copied  int             // bytes of columns
}

// copiedMax bounds the columns that a query copies while it looks for series, so that each file is opened once for the few series
// that most queries choose: a week of an endpoint has 300 KiB.
const copiedMax = 1 << 20

// Select finds series. Samples are read when they are asked for.
func (h *History) Select(q Query) (*Result, error) {
	all, err := h.SelectAll(q)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// SelectAll answers several queries of one moment: no tick comes between them. Each result must be closed.
func (h *History) SelectAll(queries ...Query) ([]*Result, error) {
	all := make([]*Result, len(queries))
	selections := make([]selection, len(queries))
	h.mu.RLock()
	for i := range queries {
		all[i] = selections[i].begin(h, &queries[i])
	}
	h.mu.RUnlock()
	for i, r := range all {
		if err := selections[i].finish(r); err != nil {
			for _, r := range all {
				r.Close()
			}
			return nil, fmt.Errorf("read the history: %w", err)
		}
	}
	return all, nil
}

// begin chooses the segments of a query and takes over what is in none. The caller has locked h.mu.
func (s *selection) begin(h *History, q *Query) *Result {
	*s = selection{h: h, q: q, series: map[string]*Series{}, entries: map[string]bool{}, kinds: map[columnKind]bool{}, figures: map[string]bool{}, names: h.view.names,
		from: -floorDiv(-q.From.UnixMilli(), slotSeconds*1000), to: floorDiv(q.To.UnixMilli(), slotSeconds*1000)}
	r := &Result{h: h}
	for _, p := range pieces(h.view.segments, q.Step) {
		for _, g := range h.view.segments {
			if g.tier == p.tier && g.to > p.lo && g.from <= p.hi && g.from <= s.to && g.to >= s.from {
				r.pinned, s.pieces = append(r.pinned, g), append(s.pieces, p)
			}
		}
	}
	h.view.files.pin(r.pinned)
	if o := h.view.open; o.ticks > 0 && o.from <= s.to && o.to >= s.from {
		s.addOpen(o)
	}
	s.addPending(q)
	return r
}

// finish adds what is in segments. Files that are damaged are left out, and named.
func (s *selection) finish(r *Result) error {
	for i, g := range r.pinned {
		if err := s.addSegment(g, s.pieces[i]); err != nil {
			if !unreadable(err) {
				return err
			}
			s.h.report(g, err)
			r.Missing = append(r.Missing, fmt.Sprintf("%s: %v", g.name, err))
		}
	}
	for _, series := range s.series {
		slices.SortStableFunc(series.sources, func(a, b columnSource) int { return int(min(max(a.first()-b.first(), -1), 1)) })
		r.Series = append(r.Series, series)
	}
	slices.SortFunc(r.Series, func(a, b *Series) int { return compareLabels(a.Labels, b.Labels) })
	return nil
}

// unreadable tells whether an error is about one file, which is left out, and not about this process.
func unreadable(err error) bool {
	return errors.Is(err, errDamaged) || errors.Is(err, errColumn) || errors.Is(err, errVersion) || errors.Is(err, os.ErrNotExist)
}

// report tells the owner of a file that cannot be read, who sets it aside.
func (h *History) report(g *segment, err error) {
	if errors.Is(err, errVersion) {
		return
	}
	select {
	case h.broken <- &segmentError{g, err}:
	default: // the next query meets it again
	}
}

func compareLabels(a, b []analytics.Label) int {
	return slices.CompareFunc(a, b, func(a, b analytics.Label) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Value, b.Value)
	})
}

// addSegment adds what a segment has of the series that are chosen.
func (s *selection) addSegment(g *segment, p piece) error {
	var b block
	return s.h.view.files.each(g, func(name []byte, open func() ([]byte, error)) error {
		current := s.names.current(string(name), g.renames)
		if !s.mayHave(current) {
			return nil
		}
		value, err := open()
		if err == nil {
			err = b.parse(value)
		}
		if err != nil {
			return err
		}
		for i, column := range b.names {
			if !s.wantsColumn(current, column) {
				continue
			}
			series, err := s.find(current, column)
			if err != nil {
				return err
			}
			if series == nil {
				continue
			}
			source := columnSource{segment: g, entry: string(name), column: string(column), lo: p.lo, hi: p.hi, bytes: len(b.data[i])}
			if s.copied += len(b.data[i]); s.copied <= max(copiedMax, s.q.CopyBytes) {
				source.data = slices.Clone(b.data[i])
			}
			series.sources = append(series.sources, source)
		}
		return nil
	})
}

// addOpen adds what is in no segment yet.
func (s *selection) addOpen(o *open) {
	for name, columns := range o.entries {
		if !s.mayHave(name) {
			continue
		}
		for column, c := range columns {
			if !s.wantsColumn(name, []byte(column)) {
				continue
			}
			series, err := s.find(name, []byte(column))
			if series == nil || err != nil { // what this process named itself is well-formed
				continue
			}
			if points := c.decode(isDistribution(name), s.from); len(points) > 0 {
				series.sources = append(series.sources, columnSource{points: points, lo: math.MinInt64, hi: math.MaxInt64})
			}
		}
	}
}

// mayHave spares the columns of entries whose own labels do not match.
func (s *selection) mayHave(entry string) bool {
	may, known := s.entries[entry]
	if !known {
		may = s.entryMatches(entry)
		s.entries[entry] = may
	}
	return may
}

func (s *selection) entryMatches(entry string) bool {
	f := fields{b: []byte(entry)}
	var labels [4]analytics.Label
	switch f.byte() {
	case kindExchanges:
		k := parseKey(&f)
		if !s.nameMatches(&k) {
			return false
		}
		labels[0], labels[1] = analytics.Label{Name: "service_name", Value: k.Service}, analytics.Label{Name: "service_namespace", Value: k.Namespace}
		if k.Convention == wire.ConventionHTTP {
			labels[2], labels[3] = analytics.Label{Name: "http_request_method", Value: k.Verb}, analytics.Label{Name: "http_route", Value: k.Name}
		}
	case kindFigures:
		labels[0] = analytics.Label{Name: "service_namespace", Value: f.text()}
		labels[1] = analytics.Label{Name: "service_name", Value: f.text()}
	case kindTicks:
		labels[0] = analytics.Label{Name: "__name__", Value: TicksMetric}
	case kindRecorded:
		labels[0] = analytics.Label{Name: "__name__", Value: f.text()}
	}
	for _, m := range s.q.Matchers {
		for _, l := range labels {
			if l.Name == m.Name && !m.Match(l.Value) {
				return false
			}
		}
	}
	return true
}

// nameMatches tells whether one of the metrics that entries under such a key have is chosen.
func (s *selection) nameMatches(k *analytics.Key) bool {
	for column := range byte(columnResult + 1) {
		if s.wants(k.Role, k.Convention, column) {
			return true
		}
	}
	return false
}

// columnKind is what tells which family's metric a column of exchanges belongs to.
type columnKind struct {
	role       wire.Role
	convention wire.Convention
	column     byte
}

// wants tells whether the metric that columns of a kind belong to is chosen, so that most columns need no further look.
func (s *selection) wants(role wire.Role, convention wire.Convention, column byte) bool {
	kind := columnKind{role, convention, column}
	chosen, known := s.kinds[kind]
	if !known {
		name := []byte{column}
		if column == columnResult {
			name = appendResult(nil, new(analytics.Result))
		}
		entry := analytics.Key{Role: role, Convention: convention, Service: "any"}
		id, err := identifyExchanges(entry, name)
		chosen = err != nil // which find says
		if len(id.labels) > 0 {
			chosen = !slices.ContainsFunc(s.q.Matchers, func(m Matcher) bool { return m.Name == "__name__" && !m.Match(id.labels[0].Value) })
		}
		s.kinds[kind] = chosen
	}
	return chosen
}

// wantsColumn is wants for a column of an entry whose own labels match.
func (s *selection) wantsColumn(entry string, column []byte) bool {
	if len(entry) > 0 && entry[0] == kindFigures && len(column) > 0 {
		return s.wantsFigure(column[1:])
	}
	if len(entry) < 3 || entry[0] != kindExchanges || len(column) == 0 || column[0] > columnResult {
		return true
	}
	return s.wants(wire.Role(entry[1]), wire.Convention(entry[2]), column[0])
}

// wantsFigure tells whether the metric is chosen that the rest of a column's name begins with. A service has a hundred of them, of
// which most questions are about none.
func (s *selection) wantsFigure(rest []byte) bool {
	f := fields{b: rest}
	metric := f.bytes()
	chosen, known := s.figures[string(metric)]
	if !known {
		name := string(metric)
		chosen = !slices.ContainsFunc(s.q.Matchers, func(m Matcher) bool { return m.Name == nameLabel && !m.Match(name) })
		s.figures[name] = chosen
	}
	return chosen
}

// find returns the series of a column, nil where it is not chosen.
func (s *selection) find(entry string, column []byte) (*Series, error) {
	id, err := s.h.known.get(entry, column)
	if err != nil || len(id.labels) == 0 {
		return nil, err
	}
	if series := s.series[id.key]; series != nil {
		return series, nil
	}
	chosen := func(all []Matcher) bool { return matches(id.labels, all) }
	if !chosen(s.q.Matchers) || len(s.q.Any) > 0 && !slices.ContainsFunc(s.q.Any, chosen) {
		return nil, nil
	}
	series := &Series{Labels: id.labels, Kind: id.kind, Unit: id.unit, h: s.h, from: s.from, to: s.to}
	s.series[id.key] = series
	return series, nil
}

func matches(labels []analytics.Label, all []Matcher) bool {
	for _, m := range all {
		if !m.Match(labelValue(labels, m.Name)) {
			return false
		}
	}
	return true
}

func labelValue(labels []analytics.Label, name string) string {
	for _, l := range labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// identitiesMax bounds what is remembered of names: 2,000 endpoints with ten columns each.
const identitiesMax = 20000

// identities remembers what names say.
type identities struct {
	mu  sync.Mutex
	all map[string]*identity
}

func (n *identities) get(entry string, column []byte) (*identity, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := entry + "\x00" + string(column)
	if id := n.all[name]; id != nil {
		return id, nil
	}
	id, err := identify([]byte(entry), column)
	if err != nil {
		return nil, err
	}
	for _, l := range id.labels {
		id.key += l.Name + "\xff" + l.Value + "\xff"
	}
	if len(n.all) >= identitiesMax || n.all == nil {
		n.all = map[string]*identity{}
	}
	n.all[name] = &id
	return &id, nil
}

// LabelNames returns the names of all labels of the series that a query chooses, in their order.
func (h *History) LabelNames(q Query) ([]string, error) {
	return h.collect(q, func(labels []analytics.Label, add func(string)) {
		for _, l := range labels {
			add(l.Name)
		}
	})
}

// LabelValues returns the values that a label has in the series that a query chooses, in their order.
func (h *History) LabelValues(q Query, name string) ([]string, error) {
	return h.collect(q, func(labels []analytics.Label, add func(string)) {
		if v := labelValue(labels, name); v != "" {
			add(v)
		}
	})
}

func (h *History) collect(q Query, each func([]analytics.Label, func(string))) ([]string, error) {
	r, err := h.Select(q)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	found := map[string]struct{}{}
	for _, s := range r.Series {
		each(s.Labels, func(text string) { found[text] = struct{}{} })
	}
	return sortedNames(found), nil
}
