package history

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
)

// tickBytesMax bounds a tick that is unpacked: 4,000 entries of 4 KiB, and what a damaged one may claim.
const tickBytesMax = 16 << 20

// tick is what one tick adds to the history: names of entries and of columns, and a point of each.
type tick struct {
	slot    int64
	renamed uint64 // number of the latest rename, its own included
	renames []rename
	entries []tickEntry
	packed  int // bytes in the head; 0: it is not there yet
}

type tickEntry struct {
	name    string
	columns []tickColumn
}

type tickColumn struct {
	name  string
	point point
}

// rename says that an entry goes on under another name.
type rename struct{ from, to string }

// slotOf is the slot whose end is nearest.
func slotOf(unixMilli int64) int64 {
	return floorDiv(unixMilli+slotSeconds*500, slotSeconds*1000)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// newTick makes a tick of what was sealed, of the host at that time, which may be nil, and of the agent's own figures.
func newTick(s *analytics.Seal, sample *host.Sample, own []analytics.Figure) *tick {
	t := &tick{slot: slotOf(s.To.UnixMilli())}
	for _, r := range s.Renames {
		t.renames = append(t.renames, rename{string(appendKey(nil, &r.From)), string(appendKey(nil, &r.To))})
	}
	for _, n := range s.Entries {
		e := tickEntry{name: string(appendKey(nil, &n.Key))}
		for i, h := range [...]*analytics.Histogram{&n.Queue, &n.Processing, &n.Transfer, &n.RequestSize, &n.ResponseSize} {
			if h.Count() > 0 {
				e.columns = append(e.columns, tickColumn{string([]byte{byte(i)}), t.point(h, 0)})
			}
		}
		for i := range n.Series {
			r := &n.Series[i]
			if r.Duration.Count()+r.Untimed > 0 {
				e.columns = append(e.columns, tickColumn{string(appendResult(nil, &r.Result)), t.point(&r.Duration, r.Untimed)})
			}
		}
		t.entries = append(t.entries, e)
	}
	t.addFigures(sample, own)
	t.entries = append(t.entries, tickEntry{ticksName, []tickColumn{{string([]byte{columnTicks}), point{slot: t.slot, value: 1}}}})
	return t
}

func (t *tick) point(h *analytics.Histogram, untimed uint64) point {
	p := point{slot: t.slot, untimed: untimed, zeros: h.Zeros(), sum: h.Total()}
	n := 0
	for range h.Cells() {
		n++
	}
	p.cells = make([]analytics.Cell, 0, n)
	for i, n := range h.Cells() {
		p.cells = append(p.cells, analytics.Cell{Index: i, Count: n})
	}
	return p
}

// addFigures adds an entry for the host with the agent itself, and one for each service.
func (t *tick) addFigures(s *host.Sample, own []analytics.Figure) {
	f := figureEntries{tick: t, places: map[string]int{}}
	if s != nil {
		analytics.EachFigure(s, func(m *analytics.Metric, l *analytics.Labels, v float64) { f.add(m.Counter, m.Name, l.All(), v) })
	}
	for i := range own {
		f.add(own[i].Counter, own[i].Name, own[i].Labels, own[i].Value)
	}
}

// figureEntries are the entries of figures of one tick.
type figureEntries struct {
	tick         *tick
	places       map[string]int // of entries in the tick
	name, column []byte
}

func (f *figureEntries) add(counter bool, metric string, labels []analytics.Label, v float64) {
	service, namespace := "", ""
	for _, label := range labels {
		switch label.Name {
		case "service_name":
			service = label.Value
		case "service_namespace":
			namespace = label.Value
		}
	}
	f.name = appendText(appendText(append(f.name[:0], kindFigures), namespace), service)
	at, known := f.places[string(f.name)]
	if !known {
		at = len(f.tick.entries)
		f.places[string(f.name)] = at
		f.tick.entries = append(f.tick.entries, tickEntry{name: string(f.name)})
	}
	f.column = appendFigure(f.column[:0], counter, metric, labels)
	e := &f.tick.entries[at]
	e.columns = append(e.columns, tickColumn{string(f.column), point{slot: f.tick.slot, value: v}})
}

// appendPoint appends a point without its slot, as ticks and the open hour have it.
func appendPoint(dst []byte, distribution bool, p *point) []byte {
	if !distribution {
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(p.value))
	}
	dst = binary.AppendUvarint(dst, p.untimed)
	dst = binary.AppendUvarint(dst, p.zeros)
	dst = binary.AppendUvarint(dst, p.sum)
	dst = binary.AppendUvarint(dst, uint64(len(p.cells)))
	last := -1
	for _, c := range p.cells {
		gap := c.Index - last
		last = c.Index
		if gap <= 16 && c.Count <= 8 {
			dst = append(dst, byte(gap-1)<<3|byte(c.Count-1))
			continue
		}
		dst = binary.AppendUvarint(append(dst, 0x80|byte(gap>>8), byte(gap)), c.Count)
	}
	return dst
}

// readPoint reads into p, whose cells' room it uses.
func readPoint(f *fields, distribution bool, p *point) {
	if !distribution {
		if b := f.take(8); b != nil {
			p.value = math.Float64frombits(binary.LittleEndian.Uint64(b))
		}
		return
	}
	p.untimed, p.zeros, p.sum, p.cells = f.number(), f.number(), f.number(), p.cells[:0]
	last := -1
	for n := f.number(); n > 0 && !f.bad; n-- {
		x := int(f.byte())
		gap, count := x>>3+1, uint64(x&7)+1
		if x >= 0x80 {
			gap = (x&0x7f)<<8 | int(f.byte())
			count = f.number()
		}
		last += gap
		if gap < 1 || last >= analytics.CellsMax || count == 0 {
			f.bad = true
		}
		p.cells = append(p.cells, analytics.Cell{Index: last, Count: count})
	}
}

// tickCodec packs and unpacks ticks; one goroutine uses it at a time.
type tickCodec struct {
	raw  []byte
	out  bytes.Buffer
	pack *flate.Writer
}

// encode returns the value that is stored for a tick under the number: a checksum of all, and the packed rest.
func (c *tickCodec) encode(number uint64, t *tick) ([]byte, error) {
	b := binary.AppendVarint(c.raw[:0], t.slot)
	b = binary.AppendUvarint(b, t.renamed)
	b = binary.AppendUvarint(b, uint64(len(t.renames)))
	for _, r := range t.renames {
		b = appendText(appendText(b, r.from), r.to)
	}
	b = binary.AppendUvarint(b, uint64(len(t.entries)))
	for i := range t.entries {
		e := &t.entries[i]
		b = binary.AppendUvarint(appendText(b, e.name), uint64(len(e.columns)))
		for j := range e.columns {
			b = appendPoint(appendText(b, e.columns[j].name), isDistribution(e.name), &e.columns[j].point)
		}
	}
	c.raw = b
	if len(b) > tickBytesMax {
		return nil, fmt.Errorf("a tick of %d bytes is too large", len(b))
	}
	c.out.Reset()
	if c.pack == nil {
		c.pack, _ = flate.NewWriter(&c.out, flate.BestSpeed) // fails for other levels only
	}
	c.pack.Reset(&c.out)
	_, err := c.pack.Write(b)
	if err == nil {
		err = c.pack.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("pack a tick: %w", err)
	}
	return sealValue(numberKey(number), c.out.Bytes()), nil
}

// decodeTick reads a tick's value.
func decodeTick(number uint64, value []byte) (*tick, error) {
	packed, err := openValue(numberKey(number), value)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), tickBytesMax+1))
	if err != nil || len(b) > tickBytesMax {
		return nil, fmt.Errorf("%w: tick %d does not unpack: %w", errDamaged, number, err)
	}
	f := fields{b: b}
	t := &tick{slot: f.signed(), packed: len(value)}
	t.renamed = f.number()
	for n := f.number(); n > 0 && !f.bad; n-- {
		t.renames = append(t.renames, rename{f.text(), f.text()})
	}
	for n := f.number(); n > 0 && !f.bad; n-- {
		e := tickEntry{name: f.text()}
		for m := f.number(); m > 0 && !f.bad; m-- {
			c := tickColumn{name: f.text(), point: point{slot: t.slot}}
			readPoint(&f, isDistribution(e.name), &c.point)
			e.columns = append(e.columns, c)
		}
		t.entries = append(t.entries, e)
	}
	if f.bad || len(f.b) > 0 || t.slot < -slotMax || t.slot > slotMax {
		return nil, fmt.Errorf("%w: tick %d", errDamaged, number)
	}
	return t, nil
}

// numberKey is a number as a key, so that keys sort as their numbers.
func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const sumBytes = 4

// sealValue puts a checksum of key and value in front of a value, so that neither is taken for another.
func sealValue(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return append(binary.LittleEndian.AppendUint32(make([]byte, 0, sumBytes+len(value)), sum), value...)
}

// openValue checks and removes the checksum.
func openValue(key, value []byte) ([]byte, error) {
	if len(value) < sumBytes {
		return nil, fmt.Errorf("%w: value of %d bytes", errDamaged, len(value))
	}
	rest := value[sumBytes:]
	if crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, rest) != binary.LittleEndian.Uint32(value) {
		return nil, fmt.Errorf("%w: checksum", errDamaged)
	}
	return rest, nil
}
