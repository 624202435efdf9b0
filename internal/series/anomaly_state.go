package series

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// anomalyStateVersion is the first byte of a detector's state. It changes with whatever a detector remembers or means by it: a state
// of another version is refused, and its series begins anew.
const anomalyStateVersion = 1

var unmetBits = math.Float32bits(unmet)

// MarshalBinary returns all that the detector has learned, for UnmarshalBinary: after it both say the same about whatever comes.
//
//	version  1 byte
//	fields   in the order of Anomalies.code, little endian: numbers have 8 bytes, those of tails and seasons 4; what is true or
//	         false has 1, and so have the places of words in their lists, 0 for none
//
// Each state has one form, always of the same length.
func (a *Anomalies) MarshalBinary() ([]byte, error) {
	return a.AppendBinary(nil)
}

// AppendBinary appends what MarshalBinary returns.
func (a *Anomalies) AppendBinary(b []byte) ([]byte, error) {
	c := stateCoder{bytes: append(b, anomalyStateVersion)}
	a.code(&c)
	return c.bytes, nil
}

// UnmarshalBinary makes the detector go on where the one that the state is of stopped. A detector of NewAnomalies keeps its
// sensitivity; it refuses a state whose values came in another step than its own, as it does one that no detector can have written.
// After an error it is as it was.
func (a *Anomalies) UnmarshalBinary(data []byte) error {
	if len(data) == 0 || data[0] != anomalyStateVersion {
		return fmt.Errorf("state of an anomaly detector: not of version %d", anomalyStateVersion)
	}
	read := Anomalies{day: season{span: daySpan}, week: season{span: weekSpan}}
	c := stateCoder{bytes: data[1:], reading: true}
	read.code(&c)
	if c.invalid != "" {
		return fmt.Errorf("state of an anomaly detector: %s", c.invalid)
	}
	if len(c.bytes) > 0 {
		return fmt.Errorf("state of an anomaly detector: %d bytes too long", len(c.bytes))
	}
	if want := a.options.Step; want > 0 && read.options.Step > 0 && want != read.options.Step {
		return fmt.Errorf("state of an anomaly detector: of values %g s apart, not %g", read.options.Step, want)
	}
	if a.options.Sensitivity > 0 {
		read.options.Sensitivity = a.options.Sensitivity
	}
	if a.options.Step > 0 {
		read.options.Step = a.options.Step
	}
	read.applyOptions()
	*a = read
	return nil
}

// code writes or reads every field that is not made from others, in the order of the format.
func (a *Anomalies) code(c *stateCoder) {
	c.atLeast0(&a.options.Sensitivity)
	c.atLeast0(&a.options.Step)
	c.number(&a.count)
	c.time(&a.lastUnix)
	for _, v := range [...]*float64{&a.last, &a.fast, &a.middle, &a.slow, &a.raw, &a.dayLevel, &a.weekLevel} {
		c.finite(v)
	}
	for _, v := range [...]*float64{&a.stepFast, &a.stepSlow, &a.deviation, &a.residual, &a.newsPeak} {
		c.atLeast0(v)
	}
	c.between(&a.weight, 1, tailWeightMax)
	if c.number(&a.newsAt); a.newsAt > a.count {
		c.refuse("news from the future")
	}
	c.number(&a.quiet)
	for i := range a.tails {
		a.tails[i].code(c)
	}
	a.day.code(c, a.daySlot[:])
	a.week.code(c, a.weekSlot[:])
	a.rates.code(c)
	a.incident.code(c)
}

func (h *tail) code(c *stateCoder) {
	for i := range h.counts {
		c.share(&h.counts[i])
	}
	for _, v := range [...]*float32{&h.sum, &h.unseen, &h.exceeding, &h.clusters} {
		c.share(v)
	}
	c.small(&h.sinceLast, 0, math.MaxInt16)
	c.small(&h.untilMoved, 0, tailEvery)
	c.small(&h.base, -tailBaseMost, tailBaseMost)
	c.flag(&h.based)
}

func (s *season) code(c *stateCoder, slots []float32) {
	for i := range slots {
		c.slot(&slots[i])
	}
	c.atLeast0(&s.with)
	c.atLeast0(&s.without)
	c.atLeast0(&s.seenSeconds)
	c.flag(&s.used)
}

func (r *alarmRate) code(c *stateCoder) {
	for _, v := range [...]*float64{&r.values, &r.episodes, &r.height, &r.square, &r.seen, &r.peak} {
		c.atLeast0(v)
	}
	c.number(&r.since)
}

func (in *Incident) code(c *stateCoder) {
	c.time(&in.Start)
	c.time(&in.End)
	for _, v := range [...]*float64{&in.Peak, &in.Expected, &in.Effect, &in.RelativeSize, &in.Score, &in.Confidence} {
		c.finite(v)
	}
	c.number(&in.Values)
	c.word(&in.Kind, anomalyNames[:])
	c.word(&in.Severity, severities[:])
	c.flag(&in.Open)
}

// stateCoder writes fields to the end of bytes, or reads them from the beginning. The first one that no detector can have ends it.
type stateCoder struct {
	bytes   []byte
	reading bool
	invalid string // what is wrong
}

// next returns what was read, or appended and is to be filled; nil: there is no more.
func (c *stateCoder) next(n int) []byte {
	if !c.reading {
		c.bytes = append(c.bytes, make([]byte, n)...)
		return c.bytes[len(c.bytes)-n:]
	}
	if len(c.bytes) < n {
		c.refuse("cut off")
		return nil
	}
	b := c.bytes[:n]
	c.bytes = c.bytes[n:]
	return b
}

// refuse remembers the first thing that is wrong.
func (c *stateCoder) refuse(why string) {
	if c.reading && c.invalid == "" {
		c.invalid, c.bytes = why, nil
	}
}

func (c *stateCoder) bits64(v *uint64) {
	b := c.next(8)
	switch {
	case b == nil:
	case c.reading:
		*v = binary.LittleEndian.Uint64(b)
	default:
		binary.LittleEndian.PutUint64(b, *v)
	}
}

func (c *stateCoder) bits32(v *uint32) {
	b := c.next(4)
	switch {
	case b == nil:
	case c.reading:
		*v = binary.LittleEndian.Uint32(b)
	default:
		binary.LittleEndian.PutUint32(b, *v)
	}
}

// between is for a number that is neither less than least nor more than most, nor NaN.
func (c *stateCoder) between(v *float64, least, most float64) {
	bits := math.Float64bits(*v)
	c.bits64(&bits)
	if *v = math.Float64frombits(bits); !(*v >= least && *v <= most) {
		c.refuse("a number that cannot be")
	}
}

// stateMost is more than any number becomes that is made from values up to valueMost.
const stateMost = 1e4 * valueMost

func (c *stateCoder) finite(v *float64)   { c.between(v, -stateMost, stateMost) }
func (c *stateCoder) atLeast0(v *float64) { c.between(v, 0, stateMost) }

// time is for seconds since 1970.
func (c *stateCoder) time(v *int64) {
	bits := uint64(*v)
	c.bits64(&bits)
	if *v = int64(bits); *v < -timeMost || *v > timeMost {
		c.refuse("a time that cannot be")
	}
}

// number is for a count.
func (c *stateCoder) number(v *int) {
	bits := uint64(*v)
	c.bits64(&bits)
	if *v = int(bits); *v < 0 || *v > math.MaxInt32 {
		c.refuse("a count that cannot be")
	}
}

func (c *stateCoder) small(v *int32, least, most int32) {
	bits := uint32(*v)
	c.bits32(&bits)
	if *v = int32(bits); *v < least || *v > most {
		c.refuse("a place that cannot be")
	}
}

// share is for a weight in a tail.
func (c *stateCoder) share(v *float32) {
	bits := math.Float32bits(*v)
	c.bits32(&bits)
	if *v = math.Float32frombits(bits); !(*v >= 0 && *v <= math.MaxFloat32) {
		c.refuse("a weight that cannot be")
	}
}

// slot is for a time of a season: NaN, in one form, where it was not met.
func (c *stateCoder) slot(v *float32) {
	bits := math.Float32bits(*v)
	if c.bits32(&bits); bits == unmetBits {
		*v = unmet
		return
	}
	if *v = math.Float32frombits(bits); !(math.Abs(float64(*v)) <= 8*valueMost) {
		c.refuse("a season that cannot be")
	}
}

func (c *stateCoder) byte(v *byte) {
	b := c.next(1)
	switch {
	case b == nil:
	case c.reading:
		*v = b[0]
	default:
		b[0] = *v
	}
}

func (c *stateCoder) flag(v *bool) {
	var b byte
	if *v {
		b = 1
	}
	if c.byte(&b); b > 1 {
		c.refuse("neither true nor false")
	}
	*v = b == 1
}

// word is for one of a list, or none.
func (c *stateCoder) word(v *string, list []string) {
	b := byte(slices.Index(list, *v) + 1)
	if c.byte(&b); int(b) > len(list) {
		c.refuse("a word that is not known")
		return
	}
	if *v = ""; b > 0 {
		*v = list[b-1]
	}
}
