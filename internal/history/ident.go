package history

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/wire"
)

// Every series is a column of an entry. Both have names of bytes, which are their keys in the store.

// The kinds of entries, first byte of their names.
const (
	kindExchanges = 'e' // an endpoint or a target
	kindFigures   = 'f' // figures of the host and of the agent itself, or those of a service
	kindTicks     = 't' // when the agent counted
	kindRecorded  = 'r' // what rules recorded under one name
)

// The columns of exchanges; the last one begins the name of a result's durations.
const (
	columnQueue = iota
	columnProcessing
	columnTransfer
	columnRequestSize
	columnResponseSize
	columnResult
)

// The columns of figures, and the one of ticks.
const (
	columnCounter = 'c'
	columnGauge   = 'g'
	columnTicks   = 't'
)

// ticksName is the name of the one entry of ticks.
const ticksName = "t"

// nameBytesMax bounds the name of an entry, of which labels have the most. bbolt's keys may have 32 KiB.
const nameBytesMax = 16 << 10

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// fields reads what append… wrote; bad tells that it was something else.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) number() uint64 {
	n, k := binary.Uvarint(f.b)
	if k <= 0 {
		f.b, f.bad = nil, true
		return 0
	}
	f.b = f.b[k:]
	return n
}

func (f *fields) signed() int64 {
	n, k := binary.Varint(f.b)
	if k <= 0 {
		f.b, f.bad = nil, true
		return 0
	}
	f.b = f.b[k:]
	return n
}

func (f *fields) bytes() []byte { return f.take(f.number()) }

func (f *fields) take(n uint64) []byte {
	if n > uint64(len(f.b)) {
		f.b, f.bad = nil, true
		return nil
	}
	taken := f.b[:n]
	f.b = f.b[n:]
	return taken
}

func (f *fields) text() string { return string(f.bytes()) }

func (f *fields) byte() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

// appendKey appends the name of an endpoint or a target.
func appendKey(dst []byte, k *analytics.Key) []byte {
	dst = append(dst, kindExchanges, byte(k.Role), byte(k.Convention))
	for _, s := range [...]string{k.Namespace, k.Service, k.Address, k.Name, k.Verb} {
		dst = appendText(dst, s)
	}
	return binary.AppendUvarint(dst, uint64(k.Port))
}

func parseKey(f *fields) (k analytics.Key) {
	k.Role, k.Convention = wire.Role(f.byte()), wire.Convention(f.byte())
	k.Namespace, k.Service, k.Address, k.Name, k.Verb = f.text(), f.text(), f.text(), f.text(), f.text()
	k.Port = uint16(f.number())
	return k
}

func appendResult(dst []byte, r *analytics.Result) []byte {
	late, tls := byte(0), byte(0)
	if r.Late {
		late = 1
	}
	if r.TLS {
		tls = 1
	}
	dst = binary.AppendUvarint(append(dst, columnResult), uint64(r.Code))
	dst = append(dst, byte(r.Class), late, tls)
	return appendText(appendText(dst, r.ErrorType), r.Protocol)
}

func parseResult(f *fields) (r analytics.Result) {
	r.Code, r.Class = uint16(f.number()), wire.Class(f.byte())
	r.Late, r.TLS = f.byte() != 0, f.byte() != 0
	r.ErrorType, r.Protocol = f.text(), f.text()
	return r
}

func appendFigure(dst []byte, counter bool, metric string, labels []analytics.Label) []byte {
	kind := byte(columnGauge)
	if counter {
		kind = columnCounter
	}
	dst = appendText(append(dst, kind), metric)
	for _, l := range labels {
		dst = appendText(appendText(dst, l.Name), l.Value)
	}
	return dst
}

// Kind is what a series consists of.
type Kind uint8

const (
	// Distribution is a histogram: samples are what was counted in their intervals.
	Distribution Kind = iota
	// Counter is a figure that only grows, and begins anew with what it counts.
	Counter
	// Gauge is a figure that goes up and down.
	Gauge
	// Ticks is how many of the agent's intervals of 10 s a sample consists of.
	Ticks
	// Recorded is what rules made of other series (Record). Such a series has samples only where a rule was evaluated, a marker of
	// staleness where the rule says so, and any value.
	Recorded
)

// String returns the kind as OpenMetrics has it.
func (k Kind) String() string {
	return [...]string{"histogram", "counter", "gauge", "gauge", "gauge"}[k]
}

// TicksMetric is the name of the one series of Kind Ticks: where it has no sample, the agent did not count.
const TicksMetric = "perfagent_history_ticks"

// identity is what the names of an entry and its column say.
type identity struct {
	kind   Kind
	unit   analytics.Unit
	labels []analytics.Label // in the order of their names, __name__ first; none: no metric shows it
	key    string            // the labels as text
}

// identify reads both names.
func identify(entry, column []byte) (id identity, err error) {
	f := fields{b: entry}
	switch f.byte() {
	case kindExchanges:
		id, err = identifyExchanges(parseKey(&f), column)
	case kindFigures:
		id, err = identifyFigure(column)
	case kindTicks:
		id = identity{kind: Ticks, labels: []analytics.Label{{Name: "__name__", Value: TicksMetric}}}
		f.b = nil
	case kindRecorded:
		id, err = identifyRecorded(&f, column)
	default:
		f.bad = true
	}
	if err == nil && f.bad {
		err = fmt.Errorf("%w: entry %q", errColumn, entry)
	}
	return id, err
}

// identifyExchanges asks the families for the series that a column is, so that its labels are those of /metrics.
func identifyExchanges(k analytics.Key, column []byte) (id identity, err error) {
	var c analytics.Counts
	var h *analytics.Histogram
	f := fields{b: column}
	switch f.byte() {
	case columnQueue:
		h = &c.Queue
	case columnProcessing:
		h = &c.Processing
	case columnTransfer:
		h = &c.Transfer
	case columnRequestSize:
		h = &c.RequestSize
	case columnResponseSize:
		h = &c.ResponseSize
	case columnResult:
		c.Series = []analytics.Series{{Result: parseResult(&f)}}
		h = &c.Series[0].Duration
	default:
		f.bad = true
	}
	if f.bad {
		return id, fmt.Errorf("%w: column %q", errColumn, column)
	}
	id.unit = unitOf(column)
	*h = analytics.NewHistogram(id.unit)
	h.Add(1)
	var l analytics.Labels
	for i := range analytics.Families {
		family := &analytics.Families[i]
		family.Each(&l, &k, &c, time.Time{}, func(l *analytics.Labels, _ *analytics.Histogram, _ time.Time) {
			id.labels = append([]analytics.Label{{Name: "__name__", Value: family.Name}}, l.All()...)
		})
	}
	return id, nil
}

// unitOf is what a column of exchanges counts.
func unitOf(column []byte) analytics.Unit {
	if len(column) > 0 && (column[0] == columnRequestSize || column[0] == columnResponseSize) {
		return analytics.Bytes
	}
	return analytics.Nanoseconds
}

func identifyFigure(column []byte) (id identity, err error) {
	f := fields{b: column}
	id.kind = Gauge
	if f.byte() == columnCounter {
		id.kind = Counter
	}
	id.labels = append(id.labels, analytics.Label{Name: "__name__", Value: f.text()})
	for len(f.b) > 0 {
		id.labels = append(id.labels, analytics.Label{Name: f.text(), Value: analytics.FigureLabel(f.text())})
	}
	slices.SortFunc(id.labels[1:], func(a, b analytics.Label) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	if f.bad {
		return id, fmt.Errorf("%w: column %q", errColumn, column)
	}
	return id, nil
}

// isDistribution tells which codec the columns of an entry have.
func isDistribution(entry string) bool { return len(entry) > 0 && entry[0] == kindExchanges }
