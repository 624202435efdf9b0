// Package wire holds the vocabulary that every other package shares: what the kernel side observed (Record,
// Fragment), what it means (Exchange), and what was lost on the way (Loss). It imports the standard library only.
package wire

import "net/netip"

// Role tells which end of a connection was observed, as the kernel side numbers them.
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

// Flags of a Record or Fragment. The kernel side has the same bits (bpf/events.h); a test of probes compares them.
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
	// FlagUnreadable: the bytes of a head could not be read from the process's memory, or were seen by no hook; of a Fragment: no
	// hook saw its bytes, and At is when that was noticed.
	FlagUnreadable
	// FlagHeadAll, with FlagHeadCut: the request is a head and nothing else, so its length is RequestBytes.
	FlagHeadAll
	// FlagFramed: the response is complete by its framing. Response carries only the start of its status line, and
	// ResponseHead the length of its head.
	FlagFramed
	// FlagCut, with FlagClosed: the response's framing says that more was to come, or it was to last until the connection's end and
	// that was a reset; Finished is the instant of the cut. Of a Fragment: the connection was reset.
	FlagCut
	// FlagChunks marks a Fragment behind whose bytes a chunked body stands as Fragment.Chunks says.
	FlagChunks
	// FlagHalf, with FlagClosed, of a Fragment: no more responses pass, but requests may until FlagClosed comes without it.
	FlagHalf
)

// Ended tells whether a record with these flags is its exchange's last. A swept copy is where its connection or the agent's
// patience has ended; of another one only the message framing may say so.
func (f Flags) Ended() bool { return f&FlagSwept == 0 || f&(FlagClosed|FlagTimeout) != 0 }

// Record is one exchange as the kernel side saw it. Byte slices are valid only until the next record is read.
//
// Instants are CLOCK_MONOTONIC nanoseconds; 0 means not seen. On the client side Arrived holds the instant `sent`
// (first request byte handed over) and Read is 0.
type Record struct {
	Conn uint64 // identity of the connection, never reused while the agent runs
	Seq  uint32 // position of the exchange on its connection, counted by the kernel side
	PID  uint32 // process (thread group) that read the request (server) or sent it (client)
	Role Role
	// Protocol says who understands the captured bytes.
	Protocol Protocol
	Flags    Flags
	Comm     [16]byte // NUL-padded task name at the time of the request

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
	Conn uint64
	Seq  uint32 // exchanges that this connection had completed before it became irregular
	PID  uint32
	Role Role
	// Protocol is that of the connection.
	Protocol Protocol
	Flags    Flags // FlagRequestDirection, FlagClosed, FlagUnix, FlagOlder, FlagNoArrival
	Comm     [16]byte

	Local, Remote netip.AddrPort

	// At is the instant of the operation. Arrived is when the first byte of it reached the socket or, at the end that sends it,
	// was handed over (0: not seen).
	At, Arrived int64
	Length      uint64 // bytes of the operation, captured or not
	// Position counts the bytes of this direction before this fragment, from the connection's first fragment on. A jump
	// means that fragments were lost.
	Position uint64
	Chunks   Chunks // with FlagChunks: where in a chunked body the fragment ends
	Data     []byte
}
