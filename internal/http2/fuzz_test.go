package http2

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/perfagent/perfagent/internal/wire"
)

// Whatever the bytes of a block are, decoding ends without a panic, and a table that was joined knows nothing that one that saw all
// does not know, or knows otherwise; and what another implementation reads is read, too.
func FuzzHPACK(f *testing.F) {
	s := newSession(1, 4096)
	for range 20 {
		block, _ := s.block()
		f.Add(block, block)
	}
	f.Add([]byte{0x40, 1, 'a', 1, 'b'}, []byte{0xbe})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		if len(first) > blockBytesMax || len(second) > blockBytesMax {
			return
		}
		d, whole := newHpack()
		joined := &table{}
		joined.reset(false)
		var fields []hpack.HeaderField
		other := hpack.NewDecoder(4096, func(f hpack.HeaderField) { fields = append(fields, f) })
		other.SetMaxStringLength(1 << 20)
		for _, block := range [][]byte{first, second} {
			fields = nil
			_, err := other.Write(block)
			if err == nil {
				err = other.Close()
			}
			if failure := d.decode(whole, block, true, tableDefault); failure != nil {
				// What is not read is not decoded, so it is not refused either; but what is refused is wrong.
				if err == nil {
					t.Fatalf("%x: %v, and another implementation reads it", block, failure)
				}
				return
			}
			want := shown(&d.headers)
			if err == nil {
				same(t, &d.headers, fields)
			}
			if bytes.Equal(block, second) && d.decode(joined, block, true, anySize) == nil && d.unknown == 0 && shown(&d.headers) != want {
				t.Fatalf("%x: joined %q, whole %q", block, shown(&d.headers), want)
			}
			if err != nil {
				return
			}
		}
	})
}

// same checks headers against those of another implementation.
func same(t *testing.T, h *headers, fields []hpack.HeaderField) {
	for _, want := range fields {
		f := fieldOf([]byte(want.Name))
		if f == fieldOther {
			continue
		}
		if !h.has(f) {
			t.Fatalf("%s was not read", want.Name)
		}
		if f == fieldStatus && len(want.Value) < 4 && h.twice>>f&1 == 0 && string(h.get(f)) != want.Value {
			t.Fatalf("%s is %q, want %q", want.Name, h.get(f), want.Value)
		}
	}
}

// Whatever operations a connection has, squeezed or not, nothing panics, memory stays within its bound, and each request is
// reported or lost, once.
func FuzzConnection(f *testing.F) {
	for seed := range int64(6) {
		var script []byte
		for _, o := range made(seed, 40) {
			head := []byte{0, byte(len(o.data)), byte(len(o.data) >> 8)}
			if o.request {
				head[0] = 1
			}
			script = append(append(script, head...), o.data...)
		}
		f.Add(script, uint8(seed))
	}
	f.Add([]byte("\x01\x40\x00GET / HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n\x00\x19\x00HTTP/1.1 101 Switching\r\n\r\n"), uint8(0))
	f.Fuzz(func(t *testing.T, script []byte, kind uint8) {
		const most = 64 << 10
		p := newTape(t, Options{Squeezed: kind&1 != 0, MaxBytes: most})
		if kind&2 != 0 {
			p.flags = wire.FlagOlder
		}
		if kind&4 != 0 {
			p.role = wire.RoleClient
		}
		for len(script) >= 3 {
			what, n := script[0], min(int(binary.LittleEndian.Uint16(script[1:])), len(script)-3)
			data := script[3 : 3+n]
			script = script[3+n:]
			p.at += 10
			fragment := p.fragment(what&1 != 0, data, n+int(what>>4)*7)
			if what&2 != 0 {
				fragment.Position += uint64(what)
			}
			if fragment.Chunks = wire.Chunks(uint64(what>>2) << 28); what&4 != 0 && len(data) >= 8 {
				fragment.Chunks = wire.Chunks(binary.LittleEndian.Uint64(data))
			}
			p.Fragment(fragment, p.note)
			if what&8 != 0 {
				p.Sweep(p.at, 5, p.note)
			}
		}
		if s := p.Stats(); s.Bytes > most+tableBytesMax*8 {
			t.Fatalf("%d bytes are held", s.Bytes)
		}
		p.close()
		if p.ignored == 0 {
			p.books()
		}
	})
}

// Any nine bytes are read as a frame's head, and evidence is found only where frames may be.
func FuzzSeek(f *testing.F) {
	f.Add([]byte{0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0}, uint64(13), false)
	f.Fuzz(func(t *testing.T, data []byte, length uint64, squeezed bool) {
		length = max(length, uint64(len(data)))
		at, ok := seek(data, length, squeezed)
		if !ok {
			return
		}
		if h := parseFrame(data[at:]); !h.valid() || h.length > frameDefault {
			t.Fatalf("a frame was found at %d of %x", at, data)
		}
	})
}
