// Package wire holds the vocabulary that every other package shares: what the kernel side observed (Record,
// Fragment), what it means (Exchange), and what was lost on the way (Lost). It imports the standard library only.
package wire

import (
	"net/netip"
	"time"
)

// Role tells which end of a connection was observed.
type Role uint8

const (
	RoleServer Role = 1 // the observed process answered the request
	RoleClient Role = 2 // the observed process sent the request
)

// String returns the contract's name of the role: "server" or "client".
func (r Role) String() string {
	if r == RoleClient {
		return "client"
	}
	return "server"
}

// Flags of a Record or Fragment. They mirror the kernel side's (bpf/events.h).
type Flags uint16

const (
	// FlagClosed: the connection closed or was reset before the exchange ended by itself.
	FlagClosed Flags = 1 << iota
	// FlagTimeout: no response at the deadline; the connection is still open.
	FlagTimeout
	// FlagSwept: a copy of an exchange whose connection fell silent; the same (Conn, Seq) comes again, without this
	// flag, when the connection moves on. It is final only if the message framing says that the response is complete.
	FlagSwept
	// FlagOlder: the connection is older than the agent; its first exchange may have been joined in the middle.
	FlagOlder
	// FlagChunkedEnd: the last response bytes handed over were a final chunk ("0\r\n\r\n").
	FlagChunkedEnd
	// FlagUnix: the connection is a Unix stream socket; addresses are unset.
	FlagUnix
	// FlagNoArrival: the kernel side had no witness of the first byte's arrival; Arrived is 0.
	FlagNoArrival
	// FlagRequestDirection marks a Fragment of the request direction; without it, of the response direction.
	FlagRequestDirection
	// FlagHeadCut: the request head is longer than its capture.
	FlagHeadCut
	// FlagUnreadable: the bytes of a head could not be read from the process's memory.
	FlagUnreadable
	// FlagHeadAll, with FlagHeadCut: the request is a head and nothing else, so its length is RequestBytes.
	FlagHeadAll
	// FlagFramed: the response is complete by its framing. Response carries only the start of its status line, and
	// ResponseHead the length of its head.
	FlagFramed
	// FlagCut, with FlagClosed: the response's framing says that more was to come; Finished is the instant of the cut.
	FlagCut
	// FlagChunks marks a Fragment behind whose bytes a chunked body stands as Fragment.Chunks says.
	FlagChunks
)

// Record is one exchange as the kernel side saw it. Byte slices are valid only until the next record is read.
//
// Instants are CLOCK_MONOTONIC nanoseconds; 0 means not seen. On the client side Arrived holds the instant `sent`
// (first request byte handed over) and Read is 0.
type Record struct {
	Conn  uint64 // identity of the connection, never reused while the agent runs
	Seq   uint32 // position of the exchange on its connection, counted by the kernel side
	PID   uint32 // process (thread group) that read the request (server) or sent it (client)
	Role  Role
	Flags Flags
	Comm  [16]byte // NUL-padded task name at the time of the request

	Addresses // zero for Unix sockets

	Arrived, Read, Responded, Finished int64

	RequestBytes, ResponseBytes uint64 // heads and bodies of this exchange, as on the wire; response includes 1xx heads

	Request  []byte // the captured first bytes of the request; at most the capture limit
	Response []byte // the captured first bytes of the response (final head, or what preceded it)
	// ResponseHead is the length of the response's head, with FlagFramed.
	ResponseHead int
}

// Addresses are both ends of a connection as the kernel side copies them. They are comparable, and cheaper to copy than
// what Local and Remote make of them.
type Addresses struct {
	LocalAddr, RemoteAddr [16]byte // network byte order; the first four bytes of IPv4
	LocalPort, RemotePort uint16
	Family                uint8 // FamilyIPv4, FamilyIPv6; anything else has no addresses
}

// The kernel's address families.
const (
	FamilyIPv4 = 2
	FamilyIPv6 = 10
)

// Local returns the observed process's end; the zero value where there are no addresses.
func (a *Addresses) Local() netip.AddrPort { return a.addrPort(&a.LocalAddr, a.LocalPort) }

// Remote returns the other end.
func (a *Addresses) Remote() netip.AddrPort { return a.addrPort(&a.RemoteAddr, a.RemotePort) }

// SameRemote tells whether b has the same other end.
func (a *Addresses) SameRemote(b *Addresses) bool {
	return a.RemotePort == b.RemotePort && a.Family == b.Family && a.RemoteAddr == b.RemoteAddr
}

func (a *Addresses) addrPort(addr *[16]byte, port uint16) netip.AddrPort {
	switch a.Family {
	case FamilyIPv4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), port)
	case FamilyIPv6:
		return netip.AddrPortFrom(netip.AddrFrom16(*addr).Unmap(), port)
	default:
		return netip.AddrPort{}
	}
}

// Fragment is one socket operation of a connection that the kernel side follows byte by byte, because requests are
// pipelined on it or its framing is otherwise irregular. Fragments of a connection arrive in the order in which they
// happened. Data holds the first captured bytes; Length-len(Data) bytes behind it were not captured. When Length is 0
// and FlagClosed is set, the connection closed.
type Fragment struct {
	Conn  uint64
	Seq   uint32 // exchanges that this connection had completed before it became irregular
	PID   uint32
	Role  Role
	Flags Flags // FlagRequestDirection, FlagClosed, FlagUnix, FlagOlder, FlagNoArrival
	Comm  [16]byte

	Local, Remote netip.AddrPort

	// At is the instant of the operation. Arrived is when the first byte of it reached the socket (receives only; 0
	// where not seen).
	At, Arrived int64
	Length      uint64 // bytes of the operation, captured or not
	// Position counts the bytes of this direction before this fragment, from the connection's first fragment on. A jump
	// means that fragments were lost.
	Position uint64
	// Chunks, with FlagChunks, is where in a chunked body the fragment ends (struct conn in bpf/maps.h): in the upper byte a
	// state, in the second whether the current size has digits, in the other six the size so far or what is left of it.
	Chunks uint64
	Data   []byte
}

// Exchange is a request and its response, understood. Byte slices are valid only during the call that receives it;
// who keeps an Exchange calls Clone.
type Exchange struct {
	Conn  uint64
	Seq   uint32
	PID   uint32
	Role  Role
	Flags Flags
	TLS   bool
	Comm  [16]byte

	Local, Remote netip.AddrPort

	// Monotonic instants as in Record; Finished of an exchange without a response is when that became known.
	Arrived, Read, Responded, Finished int64

	Protocol string // "http/1.0" or "http/1.1"
	Method   string // a known method, else "_OTHER"
	Status   uint16 // 0: no response
	// ErrorType is "aborted", "timeout", the status as text for 5xx (and 4xx on the client side), or empty.
	ErrorType string

	// Body bytes after the heads, chunk framing included; -1 where the head's length is unknown.
	RequestSize, ResponseSize int64

	MethodOriginal []byte // as sent, when Method is "_OTHER"
	Path           []byte // without query and fragment; of an absolute-form target its path; empty for authority form
	Host           []byte // Host header, or the authority of the target
	UserAgent      []byte
	RequestID      []byte // X-Request-Id
	TraceParent    []byte // raw traceparent header value; empty where there are several
	ForwardedFor   []byte // first element of X-Forwarded-For, else of Forwarded, as sent, quotes included

	// UserHash is the keyed hash of the header that tells users apart, where one is configured and the request has it
	// (http.UserHeader); else 0.
	UserHash uint64

	// Set behind the parser.
	Time        time.Time // wall clock of Arrived
	Service     string
	Namespace   string
	ContainerID string
	Route       string // template, or "" where there is none
	RouteSource RouteSource
}

// RouteSource is how a route was found.
type RouteSource uint8

const (
	RouteNone    RouteSource = iota // there is none
	RouteFile                       // the routes file has it
	RouteLearned                    // learned from the requests of the service
	RouteMasked                     // the path with identifiers masked: too many services to learn from all
)

// String returns the source as APIs show it.
func (s RouteSource) String() string {
	switch s {
	case RouteFile:
		return "file"
	case RouteLearned:
		return "learned"
	case RouteMasked:
		return "masked"
	}
	return ""
}

// Duration returns finished - arrived (server) or finished - sent (client) in nanoseconds, or -1 where either instant
// is missing.
func (e *Exchange) Duration() int64 { return between(e.Arrived, e.Finished) }

// Queue returns read - arrived in nanoseconds, or -1 (always on the client side).
func (e *Exchange) Queue() int64 { return between(e.Arrived, e.Read) }

// Processing returns responded - read in nanoseconds on the server side, responded - sent on the client side, or -1.
func (e *Exchange) Processing() int64 {
	if e.Role == RoleClient {
		return between(e.Arrived, e.Responded)
	}
	return between(e.Read, e.Responded)
}

// Transfer returns finished - responded in nanoseconds, or -1.
func (e *Exchange) Transfer() int64 { return between(e.Responded, e.Finished) }

// Server returns the address of the serving end.
func (e *Exchange) Server() netip.AddrPort {
	if e.Role == RoleClient {
		return e.Remote
	}
	return e.Local
}

// Client returns the address of the requesting end.
func (e *Exchange) Client() netip.AddrPort {
	if e.Role == RoleClient {
		return e.Local
	}
	return e.Remote
}

// Clone returns a copy that shares no byte slice with e.
func (e *Exchange) Clone() *Exchange {
	c := *e
	c.Pack(nil)
	return &c
}

// Most bytes of the texts that a request brings, of those that have no form which bounds them. What is longer is cut
// where it is kept, and marked as cut where it is shown.
const (
	UserAgentBytesMax = 256
	RequestIDBytesMax = 128
)

// Texts returns where e has its byte slices, all of them.
func (e *Exchange) Texts() [7]*[]byte {
	return [7]*[]byte{&e.Path, &e.Host, &e.UserAgent, &e.RequestID, &e.TraceParent, &e.ForwardedFor, &e.MethodOriginal}
}

// Pack moves all byte slices of e to buf, which it returns: in place of what buf holds, in new memory where that is not
// enough. Empty ones become nil.
func (e *Exchange) Pack(buf []byte) []byte {
	n := 0
	for _, p := range e.Texts() {
		n += len(*p)
	}
	if n > cap(buf) {
		buf = make([]byte, 0, n)
	}
	buf = buf[:0]
	for _, p := range e.Texts() {
		if len(*p) == 0 {
			*p = nil
			continue
		}
		at := len(buf)
		buf = append(buf, *p...)
		*p = buf[at:len(buf):len(buf)]
	}
	return buf
}

// between returns to - from, or -1 where either instant is missing. Instants of two processors may be a few
// nanoseconds out of order: that is 0.
func between(from, to int64) int64 {
	if from == 0 || to == 0 {
		return -1
	}
	return max(to-from, 0)
}

// Loss names why a known exchange was not reported; the pair is the label set of perfagent_exchanges_lost_total.
type Loss struct{ Stage, Reason string }

// Every loss that perfagent counts. Stages: kernel (BPF programs), queue (between reader and worker), parse.
var (
	LostRingFull   = Loss{"kernel", "ring_full"}   // no room in the ring buffer
	LostMapFull    = Loss{"kernel", "map_full"}    // no room for the connection's state
	LostEvicted    = Loss{"kernel", "evicted"}     // the captured head was displaced by newer ones
	LostUnreadable = Loss{"kernel", "unreadable"}  // the process's memory could not be read
	LostQueueFull  = Loss{"queue", "queue_full"}   // user space fell behind
	LostParse      = Loss{"parse", "parse"}        // the captured bytes were not understood
	LostDesync     = Loss{"parse", "desync"}       // a pipelined connection's framing was lost
	LostStreams    = Loss{"parse", "streams_full"} // too many irregular connections at once
)

// Losses lists them all, in a fixed order.
var Losses = []Loss{LostRingFull, LostMapFull, LostEvicted, LostUnreadable, LostQueueFull, LostParse, LostDesync, LostStreams}
