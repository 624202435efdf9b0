package probes

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/perfagent/perfagent/internal/wire"
)

// The offsets that the decoder uses are those of the types that are generated from the C declarations.
func TestLayout(t *testing.T) {
	var r trafficRecord
	var o trafficOperation
	if unsafe.Sizeof(o) != unsafe.Sizeof(r) {
		t.Errorf("a fragment has %d bytes in front of its data, a record %d", unsafe.Sizeof(o), unsafe.Sizeof(r))
	}
	for name, offsets := range map[string][2]uintptr{
		"conn":           {atConn, unsafe.Offsetof(r.Conn)},
		"arrived":        {atArrived, unsafe.Offsetof(r.Arrived)},
		"read":           {atRead, unsafe.Offsetof(r.Read)},
		"responded":      {atResponded, unsafe.Offsetof(r.Responded)},
		"finished":       {atFinished, unsafe.Offsetof(r.Finished)},
		"request bytes":  {atRequestBytes, unsafe.Offsetof(r.RequestBytes)},
		"response bytes": {atResponseBytes, unsafe.Offsetof(r.ResponseBytes)},
		"local address":  {atLocalAddr, unsafe.Offsetof(r.LocalAddr)},
		"remote address": {atRemoteAddr, unsafe.Offsetof(r.RemoteAddr)},
		"comm":           {atComm, unsafe.Offsetof(r.Comm)},
		"pid":            {atPID, unsafe.Offsetof(r.Pid)},
		"seq":            {atSeq, unsafe.Offsetof(r.Seq)},
		"local port":     {atLocalPort, unsafe.Offsetof(r.LocalPort)},
		"remote port":    {atRemotePort, unsafe.Offsetof(r.RemotePort)},
		"request len":    {atRequestLen, unsafe.Offsetof(r.RequestLen)},
		"response len":   {atResponseLen, unsafe.Offsetof(r.ResponseLen)},
		"flags":          {atFlags, unsafe.Offsetof(r.Flags)},
		"kind":           {atKind, unsafe.Offsetof(r.Kind)},
		"role":           {atRole, unsafe.Offsetof(r.Role)},
		"family":         {atFamily, unsafe.Offsetof(r.Family)},
		"response head":  {atResponseHead, unsafe.Offsetof(r.ResponseHead)},

		"fragment: conn":           {atConn, unsafe.Offsetof(o.Conn)},
		"fragment: arrived":        {atArrived, unsafe.Offsetof(o.Arrived)},
		"fragment: at":             {atAt, unsafe.Offsetof(o.At)},
		"fragment: chunks":         {atChunks, unsafe.Offsetof(o.Chunks)},
		"fragment: length":         {atLength, unsafe.Offsetof(o.Length)},
		"fragment: position":       {atPosition, unsafe.Offsetof(o.Position)},
		"fragment: local address":  {atLocalAddr, unsafe.Offsetof(o.LocalAddr)},
		"fragment: remote address": {atRemoteAddr, unsafe.Offsetof(o.RemoteAddr)},
		"fragment: comm":           {atComm, unsafe.Offsetof(o.Comm)},
		"fragment: pid":            {atPID, unsafe.Offsetof(o.Pid)},
		"fragment: seq":            {atSeq, unsafe.Offsetof(o.Seq)},
		"fragment: local port":     {atLocalPort, unsafe.Offsetof(o.LocalPort)},
		"fragment: remote port":    {atRemotePort, unsafe.Offsetof(o.RemotePort)},
		"fragment: captured":       {atCaptured, unsafe.Offsetof(o.Captured)},
		"fragment: flags":          {atFlags, unsafe.Offsetof(o.Flags)},
		"fragment: kind":           {atKind, unsafe.Offsetof(o.Kind)},
		"fragment: role":           {atRole, unsafe.Offsetof(o.Role)},
		"fragment: family":         {atFamily, unsafe.Offsetof(o.Family)},
	} {
		if offsets[0] != offsets[1] {
			t.Errorf("%s: decoded at %d, is at %d", name, offsets[0], offsets[1])
		}
	}
}

func sampleOf(kind byte, request, response string) []byte {
	b := make([]byte, recordBytes, recordBytes+len(request)+len(response))
	e := binary.NativeEndian
	e.PutUint64(b[atConn:], 7)
	e.PutUint64(b[atRequestBytes:], uint64(len(request)))
	copy(b[atLocalAddr:], []byte{127, 0, 0, 1})
	e.PutUint16(b[atLocalPort:], 8080)
	e.PutUint16(b[atRequestLen:], uint16(len(request)))
	e.PutUint16(b[atResponseLen:], uint16(len(response)))
	b[atKind], b[atRole], b[atFamily] = kind, byte(wire.RoleServer), 2
	return append(append(b, request...), response...)
}

// A sample comes out as it went in, and any cut of it is refused.
func TestDecode(t *testing.T) {
	b := sampleOf(KindExchange, "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK")
	var d Decoder
	var r wire.Record
	if err := d.Record(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Conn != 7 || r.Role != wire.RoleServer || r.Local() != netip.MustParseAddrPort("127.0.0.1:8080") ||
		string(r.Request) != "GET / HTTP/1.1\r\n\r\n" || string(r.Response) != "HTTP/1.1 200 OK" {
		t.Errorf("decoded %+v", r)
	}
	for n := range b {
		if d.Record(b[:n], &r) == nil {
			t.Errorf("a sample cut at %d was accepted", n)
		}
	}
}

type counting struct {
	records, fragments, dropped, delivered int
	unknown                                []wire.ID // lost as not understood
}

func (c *counting) Record(*wire.Record)     { c.records++ }
func (c *counting) Fragment(*wire.Fragment) { c.fragments++ }
func (c *counting) Delivered(bool)          { c.delivered++ }
func (c *counting) Lost(conn uint64, seq uint32, _ wire.Flags, loss wire.Loss) {
	if loss == wire.LostParse {
		c.unknown = append(c.unknown, wire.ID{Conn: conn, Seq: seq})
	} else {
		c.dropped++
	}
}

// Every sample of a batch reaches the handler; what is none is counted.
func TestDeliver(t *testing.T) {
	var buf []byte
	for _, s := range [][]byte{
		sampleOf(KindExchange, "GET / HTTP/1.1\r\n\r\n", ""), sampleOf(KindFragment, "GET", ""), sampleOf(9, "", ""), {1, 2, 3},
		sampleOf(KindExchange, "PUT / HTTP/1.1\r\n\r\n", ""),
	} {
		buf = binary.NativeEndian.AppendUint32(buf, uint32(len(s)))
		buf = append(buf, 0, 0, 0, 0)
		buf = append(buf, s...)
		buf = append(buf, make([]byte, -len(s)&7)...)
	}
	var h counting
	var malformed atomic.Uint64
	deliver(buf, &h, &malformed)
	if h.records != 2 || h.fragments != 1 || malformed.Load() != 2 {
		t.Errorf("%+v, %d malformed", h, malformed.Load())
	}
}

// A number that no protocol has is refused: an exchange is lost under its name, so that its other records do not count again,
// and an operation is counted as none.
func TestDeliverUnknownProtocol(t *testing.T) {
	unknown := byte(wire.Protocols) << protocolShift
	var buf []byte
	for _, kind := range []byte{KindExchange | unknown, KindFragment | unknown, KindExchange | 0xf0, KindExchange} {
		s := sampleOf(kind, "GET / HTTP/1.1\r\n\r\n", "")
		buf = binary.NativeEndian.AppendUint32(buf, uint32(len(s)))
		buf = append(append(buf, 0, 0, 0, 0), s...)
		buf = append(buf, make([]byte, -len(s)&7)...)
	}
	var h counting
	var malformed atomic.Uint64
	deliver(buf, &h, &malformed)
	if !slices.Equal(h.unknown, []wire.ID{{Conn: 7}, {Conn: 7}}) || malformed.Load() != 1 || h.records != 1 || h.fragments != 0 {
		t.Errorf("%+v, %d malformed", h, malformed.Load())
	}
}

// No bytes make the decoders panic or point outside of them.
func FuzzDecode(f *testing.F) {
	f.Add(sampleOf(KindExchange, "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK"))
	f.Add(sampleOf(KindFragment, "GET", ""))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Decoder
		var r wire.Record
		var fr wire.Fragment
		if d.Record(b, &r) == nil && recordBytes+len(r.Request)+len(r.Response) > len(b) {
			t.Error("heads longer than the sample")
		}
		if d.Fragment(b, &fr) == nil && uint64(len(fr.Data)) > fr.Length {
			t.Error("more data than the operation had")
		}
		var malformed atomic.Uint64
		deliver(b, new(counting), &malformed)
	})
}

func BenchmarkDecode(b *testing.B) {
	s := sampleOf(KindExchange, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 OK")
	var d Decoder
	var r wire.Record
	b.ReportAllocs()
	for b.Loop() {
		if d.Record(s, &r) != nil {
			b.Fatal("not understood")
		}
	}
}
