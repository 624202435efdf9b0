package history

import (
	"encoding/binary"
	"math/bits"
)

// A range coder with adaptive binary models, as G. N. N. Martin described it in 1979 and as compressors have it: every
// decision is coded with the number of bits that its chance is worth, and the chance is learned on the way. Histograms of a
// minute hold few values in many cells, so a general compressor, which has whole bytes for symbols, needs twice the room.

const (
	chanceBits = 15
	chanceOne  = 1 << chanceBits
	topValue   = 1 << 24 // below it the range is widened by a byte
	// settled is after how many decisions a model stops to learn slower: blocks are short, traffic changes within them.
	settled = 40
)

// chance is the model of one decision.
type chance struct {
	zero uint16 // how likely a 0 is, in 1/32768
	seen uint8
}

// learnRates are 65536/(n+1.6) for the n-th decision.
var learnRates = func() (r [settled + 1]uint32) {
	for i := range r {
		r[i] = uint32(655360 / (10*i + 16))
	}
	return r
}()

func (c *chance) get() uint32 {
	if c.seen == 0 {
		return chanceOne / 2
	}
	return uint32(c.zero)
}

func (c *chance) learn(bit int) {
	p := c.get()
	if bit == 0 {
		p += (chanceOne - p) * learnRates[c.seen] >> 16
	} else {
		p -= p * learnRates[c.seen] >> 16
	}
	c.zero = uint16(min(max(p, 32), chanceOne-32))
	if c.seen < settled {
		c.seen++
	}
}

// encoder appends to out.
type encoder struct {
	out   []byte
	from  int // where its part of out begins
	low   uint64
	width uint32
	held  byte // the last byte, which a carry may still change
	full  int  // bytes of 255 behind it
	begun bool
}

func newEncoder(out []byte) encoder { return encoder{out: out, from: len(out), width: 1<<32 - 1} }

func (e *encoder) bit(c *chance, bit int) {
	bound := e.width >> chanceBits * c.get()
	if bit == 0 {
		e.width = bound
	} else {
		e.low += uint64(bound)
		e.width -= bound
	}
	c.learn(bit)
	for e.width < topValue {
		e.width <<= 8
		e.shift()
	}
}

// plain codes the lowest n bits of v without a model.
func (e *encoder) plain(v uint64, n int) {
	for n--; n >= 0; n-- {
		e.width >>= 1
		if v>>n&1 != 0 {
			e.low += uint64(e.width)
		}
		for e.width < topValue {
			e.width <<= 8
			e.shift()
		}
	}
}

func (e *encoder) shift() {
	if e.low < 0xff<<24 || e.low >= 1<<32 {
		carry := byte(e.low >> 32)
		if e.begun {
			e.out = append(e.out, e.held+carry)
		}
		for ; e.full > 0; e.full-- {
			e.out = append(e.out, 0xff+carry)
		}
		e.held, e.begun = byte(e.low>>24), true
	} else {
		e.full++
	}
	e.low = e.low & 0xffffff << 8
}

// tailBytes is what the end of the coding takes. Zeros among it are left out: a decoder reads zeros there.
const tailBytes = 5

// end writes what is left and returns all.
func (e *encoder) end() []byte {
	for range tailBytes {
		e.shift()
	}
	out := e.out
	for range tailBytes {
		if len(out) > e.from && out[len(out)-1] == 0 {
			out = out[:len(out)-1]
		}
	}
	return out
}

// decoder reads what an encoder wrote. It survives any input; whether that was one, a checksum tells.
type decoder struct {
	in    []byte
	at    int
	code  uint32
	width uint32
}

func newDecoder(in []byte) decoder {
	d := decoder{in: in, width: 1<<32 - 1}
	var first [4]byte
	copy(first[:], in)
	d.code, d.at = binary.BigEndian.Uint32(first[:]), 4
	return d
}

func (d *decoder) next() {
	d.code <<= 8
	if d.at < len(d.in) {
		d.code |= uint32(d.in[d.at])
	}
	d.at++
	d.width <<= 8
}

func (d *decoder) bit(c *chance) int {
	bound, bit := d.width>>chanceBits*c.get(), 0
	if d.code < bound {
		d.width = bound
	} else {
		d.code -= bound
		d.width -= bound
		bit = 1
	}
	c.learn(bit)
	for d.width < topValue {
		d.next()
	}
	return bit
}

func (d *decoder) plain(n int) (v uint64) {
	for ; n > 0; n-- {
		d.width >>= 1
		bit := uint64(0)
		if d.code >= d.width {
			d.code -= d.width
			bit = 1
		}
		v = v<<1 | bit
		for d.width < topValue {
			d.next()
		}
	}
	return v
}

// exhausted tells that more was read than an encoder can have left out.
func (d *decoder) exhausted() bool { return d.at > len(d.in)+tailBytes }

// number models small numbers: how many bits v+1 has, one decision each, and the highest three of them.
type number struct {
	size [64]chance
	top  [5][8]chance // of numbers with 1…4 bits behind the first, and of longer ones
}

func (e *encoder) number(m *number, v uint64) {
	v++
	n := bits.Len64(v) - 1
	for i := range n {
		e.bit(&m.size[i], 1)
	}
	if n < 63 {
		e.bit(&m.size[n], 0)
	}
	node := 1
	for i := range min(n, 3) {
		bit := int(v >> (n - 1 - i) & 1)
		e.bit(&m.top[min(n, 4)][node], bit)
		node = node<<1 | bit
	}
	if n > 3 {
		e.plain(v, n-3)
	}
}

func (d *decoder) number(m *number) uint64 {
	n := 0
	for n < 63 && d.bit(&m.size[n]) == 1 {
		n++
	}
	v, node := uint64(1), 1
	for range min(n, 3) {
		bit := d.bit(&m.top[min(n, 4)][node])
		node = node<<1 | bit
		v = v<<1 | uint64(bit)
	}
	if n > 3 {
		v = v<<(n-3) | d.plain(n-3)
	}
	return v - 1
}

// magnitude models large numbers: how many bits they have, as a tree of decisions; the bits are coded as they are.
type magnitude struct{ size [128]chance }

func (e *encoder) magnitude(m *magnitude, v uint64) {
	n, node := bits.Len64(v), 1
	for i := 6; i >= 0; i-- {
		bit := n >> i & 1
		e.bit(&m.size[node], bit)
		node = node<<1 | bit
	}
	if n > 1 {
		e.plain(v, n-1)
	}
}

func (d *decoder) magnitude(m *magnitude) uint64 {
	node := 1
	for range 7 {
		node = node<<1 | d.bit(&m.size[node])
	}
	n := min(node&127, 64)
	if n == 0 {
		return 0
	}
	return 1<<(n-1) | d.plain(n-1)
}

// zigzag makes small numbers of either sign small.
func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
