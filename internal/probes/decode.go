package probes

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/perfagent/perfagent/internal/wire"
)

// Kinds of samples, in the lower half of a byte whose upper half is the protocol.
const (
	KindExchange = byte(trafficRecordKindKIND_EXCHANGE)
	KindFragment = byte(trafficRecordKindKIND_FRAGMENT)

	kindMask      = 1<<protocolShift - 1
	protocolShift = byte(trafficRecordKindKIND_PROTOCOL_SHIFT)
)

var (
	// ErrSample: bytes that are no sample of this version.
	ErrSample = errors.New("malformed sample")
	// ErrProtocol: a sample of a protocol that this version has no number for. What names its exchange is decoded.
	ErrProtocol = errors.New("sample of an unknown protocol")
)

// Offsets in struct record of bpf/events.h; a test compares them with the generated type.
const (
	recordBytes     = int(unsafe.Sizeof(trafficRecord{})) // in front of the captured bytes
	atConn          = 0
	atArrived       = 8
	atRead          = 16
	atResponded     = 24
	atFinished      = 32
	atRequestBytes  = 40
	atResponseBytes = 48
	atLocalAddr     = 56
	atRemoteAddr    = 72
	atComm          = 88
	atPID           = 104
	atSeq           = 108
	atLocalPort     = 112
	atRemotePort    = 114
	atRequestLen    = 116
	atResponseLen   = 118
	atFlags         = 120
	atKind          = 122
	atRole          = 123
	atFamily        = 124
	atResponseHead  = 126
)

// Offsets in struct operation, which a fragment is, where they say something else than those of a record.
const (
	atAt       = atRead
	atChunks   = atResponded
	atLength   = atRequestBytes
	atPosition = atResponseBytes
	atCaptured = atRequestLen
)

// Decoder turns samples into the shared vocabulary. The zero value is ready.
type Decoder struct{}

// Kind returns KindExchange, KindFragment, or 0 for neither.
func (Decoder) Kind(b []byte) byte {
	if len(b) < recordBytes {
		return 0
	}
	return b[atKind] & kindMask
}

// Record decodes an exchange; r's slices point into b. The error is ErrSample or ErrProtocol.
func (Decoder) Record(b []byte, r *wire.Record) error {
	if len(b) < recordBytes {
		return ErrSample
	}
	_ = b[recordBytes-1]
	e := binary.NativeEndian
	req, resp := int(e.Uint16(b[atRequestLen:])), int(e.Uint16(b[atResponseLen:]))
	if recordBytes+req+resp > len(b) {
		return ErrSample
	}
	r.Conn = e.Uint64(b[atConn:])
	r.Arrived = int64(e.Uint64(b[atArrived:]))
	r.Read = int64(e.Uint64(b[atRead:]))
	r.Responded = int64(e.Uint64(b[atResponded:]))
	r.Finished = int64(e.Uint64(b[atFinished:]))
	r.RequestBytes = e.Uint64(b[atRequestBytes:])
	r.ResponseBytes = e.Uint64(b[atResponseBytes:])
	r.PID = e.Uint32(b[atPID:])
	r.Seq = e.Uint32(b[atSeq:])
	r.Flags = wire.Flags(e.Uint16(b[atFlags:]))
	r.Role = wire.Role(b[atRole])
	if r.Protocol = wire.Protocol(b[atKind] >> protocolShift); r.Protocol >= wire.Protocols {
		return ErrProtocol
	}
	r.ResponseHead = int(e.Uint16(b[atResponseHead:]))
	r.Comm = [16]byte(b[atComm:])
	addresses(b, &r.Addresses)
	r.Request = b[recordBytes : recordBytes+req : recordBytes+req]
	r.Response = b[recordBytes+req : recordBytes+req+resp : recordBytes+req+resp]
	return nil
}

// Fragment decodes a socket operation; f's slice points into b. The error is ErrSample or ErrProtocol.
func (Decoder) Fragment(b []byte, f *wire.Fragment) error {
	if len(b) < recordBytes {
		return ErrSample
	}
	e := binary.NativeEndian
	n := int(e.Uint16(b[atCaptured:]))
	if recordBytes+n > len(b) {
		return ErrSample
	}
	f.Conn = e.Uint64(b[atConn:])
	f.Arrived = int64(e.Uint64(b[atArrived:]))
	f.At = int64(e.Uint64(b[atAt:]))
	f.Chunks = wire.Chunks(e.Uint64(b[atChunks:]))
	f.Length = e.Uint64(b[atLength:])
	f.Position = e.Uint64(b[atPosition:])
	f.PID = e.Uint32(b[atPID:])
	f.Seq = e.Uint32(b[atSeq:])
	f.Flags = wire.Flags(e.Uint16(b[atFlags:]))
	f.Role = wire.Role(b[atRole])
	if f.Protocol = wire.Protocol(b[atKind] >> protocolShift); f.Protocol >= wire.Protocols {
		return ErrProtocol
	}
	copy(f.Comm[:], b[atComm:atComm+16])
	var ends wire.Addresses
	addresses(b, &ends)
	f.Local, f.Remote = ends.Local(), ends.Remote()
	f.Data = b[recordBytes : recordBytes+n : recordBytes+n]
	if uint64(n) > f.Length {
		return ErrSample
	}
	return nil
}

func addresses(b []byte, a *wire.Addresses) {
	e := binary.NativeEndian
	a.LocalAddr, a.RemoteAddr = [16]byte(b[atLocalAddr:]), [16]byte(b[atRemoteAddr:])
	a.LocalPort, a.RemotePort = e.Uint16(b[atLocalPort:]), e.Uint16(b[atRemotePort:])
	a.Family = b[atFamily]
}
