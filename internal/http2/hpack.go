package http2

import (
	"encoding/binary"

	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

// Most bytes that are kept of a value which has no form that bounds it: one more than what is shown, so that a cut one can be
// told, or what anyone could want to see.
const (
	pathBytesMax        = 1024
	hostBytesMax        = 256
	forwardedBytesMax   = 66 // an IPv6 address with a port, in quotes and brackets
	traceParentBytesMax = 56
	contentTypeBytesMax = 64
	grpcMessageBytesMax = 256
	wordBytesMax        = 32 // names of codings, protocols and schemes
	numberBytesMax      = 20 // the digits of 64 bits
)

// keptBytes is how much is kept of a field's value.
var keptBytes = [fields]uint16{
	fieldMethod: wire.MethodBytesMax, fieldPath: pathBytesMax, fieldAuthority: hostBytesMax, fieldScheme: wordBytesMax, fieldStatus: 4,
	fieldProtocol: wordBytesMax, fieldHost: hostBytesMax, fieldUserAgent: wire.UserAgentBytesMax + 1, fieldRequestID: wire.RequestIDBytesMax + 1,
	fieldTraceParent: traceParentBytesMax, fieldXForwardedFor: forwardedBytesMax, fieldForwarded: forwardedBytesMax,
	fieldContentType: contentTypeBytesMax, fieldContentLength: numberBytesMax, fieldGRPCStatus: numberBytesMax,
	fieldGRPCMessage: grpcMessageBytesMax, fieldGRPCEncoding: wordBytesMax, fieldUser: 8,
}

// headers are what a header block says, as far as it is read. The values are valid until the next block is decoded.
type headers struct {
	values   [fields][]byte
	seen     uint32 // a bit for each field
	unknown  int    // how many references to entries from before the decoder joined: any field that was not seen may be one
	ended    bool   // the block was decoded to its end
	twice    uint32 // fields that came again
	inserted int    // memory that the dynamic table took
}

// has tells whether a field was seen.
func (h *headers) has(f field) bool { return h.seen>>f&1 != 0 }

// set takes a value; of a field that comes several times the first. What it gets must stay as it is.
func (h *headers) set(f field, value []byte) {
	if bit := uint32(1) << f; h.seen&bit != 0 {
		h.twice |= bit
	} else {
		h.seen |= bit
		h.values[f] = value
	}
}

// get returns a value, nil where it was not seen.
func (h *headers) get(f field) []byte {
	if !h.has(f) {
		return nil
	}
	return h.values[f]
}

// decoder decodes header blocks (RFC 7541). It is shared by all connections, which bring their tables.
type decoder struct {
	headers
	scratch []byte // values that must be copied or decoded
	user    *http.UserHeader
	name    string // of the user header, "" for none
	alias   field  // that the user header is as well; fieldOther: none
}

// setUser names the header that tells users apart.
func (d *decoder) setUser(u *http.UserHeader) {
	d.user, d.name, d.alias = u, u.Name(), fieldOther
	if d.name != "" {
		d.alias = fieldOf([]byte(d.name))
	}
}

// decode reads a header block into d.headers, and what it adds into t. whole: the block ends with b; else more followed that
// is not known. An error means that t and the encoder's table may differ from here on: then t is to be forgotten, as behind a
// block that is not whole. limit is the largest size that the encoder may announce.
func (d *decoder) decode(t *table, b []byte, whole bool, limit uint64) *Failure {
	d.seen, d.twice, d.unknown, d.ended, d.inserted = 0, 0, 0, false, 0
	d.scratch = d.scratch[:0]
	fields := false
	for len(b) > 0 {
		c := b[0]
		var err *Failure
		switch {
		case c&0x80 != 0:
			b, err = d.indexed(t, b)
		case c&0x40 != 0:
			b, err = d.literal(t, b, 6, true)
		case c&0x20 != 0:
			var size uint64
			if size, b, err = integer(b, 5); err == nil {
				if fields || size > limit {
					return errTableSize
				}
				t.resize(size)
				continue
			}
		default: // without indexing, or never indexed
			b, err = d.literal(t, b, 4, false)
		}
		if err == errShort && !whole {
			return nil
		}
		if err != nil {
			return err
		}
		fields = true
	}
	d.ended = whole
	return nil
}

// indexed reads a reference to a whole header (RFC 7541, section 6.1).
func (d *decoder) indexed(t *table, b []byte) ([]byte, *Failure) {
	i, rest, err := uint64(b[0]&0x7f), b[1:], (*Failure)(nil)
	if i == 0x7f {
		if i, rest, err = integer(b, 7); err != nil {
			return b, err
		}
	}
	if i < uint64(len(staticTable)) {
		if i == 0 {
			return b, errIndex
		}
		if e := &staticTable[i]; e.field != fieldOther {
			d.set(e.field, e.value)
		}
		return rest, nil
	}
	e, ok := t.get(i - (uint64(len(staticTable)) - 1))
	switch {
	case !ok && t.whole:
		return b, errIndex
	case !ok, e.field == fieldUnknown:
		d.unknown++
	case e.field != fieldOther && !d.has(e.field):
		d.set(e.field, d.copied(t.value(e)))
		d.alsoUser(e.field)
	case e.field != fieldOther:
		d.set(e.field, nil)
	}
	return rest, nil
}

// copied keeps a value that the table may overwrite.
func (d *decoder) copied(v []byte) []byte {
	at := len(d.scratch)
	d.scratch = append(d.scratch, v...)
	return d.scratch[at:len(d.scratch):len(d.scratch)]
}

// literal reads a header with its value, and maybe its name, written out (RFC 7541, section 6.2).
func (d *decoder) literal(t *table, b []byte, prefix uint8, add bool) ([]byte, *Failure) {
	f, nameLength, rest, err := d.literalName(t, b, prefix)
	if err != nil {
		return b, err
	}
	raw, huffman, rest, err := text(rest)
	if err != nil {
		return b, err
	}
	kept := f > fieldUnknown && !d.has(f)
	if !kept && f > fieldUnknown {
		d.set(f, nil)
	}
	if !kept && !add {
		return rest, nil
	}
	value := raw
	if huffman {
		at, ok := len(d.scratch), false
		if d.scratch, ok = huffmanDecode(d.scratch, raw); !ok {
			return b, errHuffman
		}
		value = d.scratch[at:len(d.scratch):len(d.scratch)]
	}
	length := uint64(len(value))
	if f > fieldUnknown {
		value = d.keep(f, value)
	} else {
		if huffman {
			d.scratch = d.scratch[:len(d.scratch)-len(value)]
		}
		value = nil
	}
	if add {
		d.inserted += t.add(f, nameLength, length, value)
	}
	if kept {
		d.set(f, value)
		d.alsoUser(f)
	}
	return rest, nil
}

// literalName reads the name of a literal: an index, or a text.
func (d *decoder) literalName(t *table, b []byte, prefix uint8) (f field, length uint64, rest []byte, err *Failure) {
	i, rest, err := integer(b, prefix)
	if err != nil {
		return 0, 0, b, err
	}
	if i > 0 && i < uint64(len(staticTable)) {
		e := &staticTable[i]
		if f = e.field; f == fieldOther && d.name != "" && e.name == d.name {
			f = fieldUser
		}
		return f, uint64(len(e.name)), rest, nil
	}
	if i > 0 {
		e, ok := t.get(i - (uint64(len(staticTable)) - 1))
		if !ok {
			if t.whole {
				return 0, 0, b, errIndex
			}
			d.unknown++ // its length is unknown too: the table may then hold more than the encoder's
			return fieldUnknown, 0, rest, nil
		}
		if e.field == fieldUnknown {
			d.unknown++
		}
		return e.field, uint64(e.nameLength), rest, nil
	}
	name, huffman, rest, err := text(rest)
	if err != nil {
		return 0, 0, b, err
	}
	if huffman {
		at, ok := len(d.scratch), false
		if d.scratch, ok = huffmanDecode(d.scratch, name); !ok {
			return 0, 0, b, errHuffman
		}
		name, d.scratch = d.scratch[at:], d.scratch[:at]
	}
	if f = fieldOf(name); f == fieldOther && d.name != "" && string(name) == d.name {
		f = fieldUser
	}
	return f, uint64(len(name)), rest, nil
}

// keep returns of a value what may be kept of it.
func (d *decoder) keep(f field, v []byte) []byte {
	switch f {
	case fieldPath:
		v = http.WithoutQuery(v)
	case fieldAuthority, fieldHost:
		v = http.WithoutUser(v)
	case fieldXForwardedFor:
		v = http.FirstElement(v)
	case fieldForwarded:
		v = http.ForwardedFor(v)
	case fieldUser:
		return d.hashed(v)
	}
	return v[:min(len(v), int(keptBytes[f]))]
}

// hashed returns what stands for a user: eight bytes.
func (d *decoder) hashed(v []byte) []byte {
	var sum [8]byte
	binary.BigEndian.PutUint64(sum[:], d.user.Hash(v))
	return d.copied(sum[:])
}

// alsoUser takes a field that is read anyway for the one that tells users apart.
func (d *decoder) alsoUser(f field) {
	if f == d.alias && f != fieldOther {
		d.set(fieldUser, d.hashed(d.values[f]))
	}
}

// integer reads an integer with a prefix of so many bits (RFC 7541, section 5.1), of at most 32 bits.
func integer(b []byte, prefix uint8) (uint64, []byte, *Failure) {
	if len(b) == 0 {
		return 0, b, errShort
	}
	most := uint64(1)<<prefix - 1
	n := uint64(b[0]) & most
	if n < most {
		return n, b[1:], nil
	}
	for i := 1; i < len(b); i++ {
		n += uint64(b[i]&0x7f) << (7 * (i - 1))
		if n > 1<<32 {
			return 0, b, errInteger
		}
		if b[i]&0x80 == 0 {
			return n, b[i+1:], nil
		}
		if i == 5 {
			return 0, b, errInteger
		}
	}
	return 0, b, errShort
}

// text reads the bytes of a string (RFC 7541, section 5.2), and whether they are Huffman coded.
func text(b []byte) (raw []byte, huffman bool, rest []byte, err *Failure) {
	n, rest, err := integer(b, 7)
	if err != nil {
		return nil, false, b, err
	}
	if n > uint64(len(rest)) {
		return nil, false, b, errShort
	}
	return rest[:n], b[0]&0x80 != 0, rest[n:], nil
}
