package wire

import (
	"net/netip"
	"time"
)

// ID names an exchange. It is never used a second time while the agent runs; the zero value names none.
type ID struct {
	Conn uint64 // the connection
	Seq  uint32 // its place on the connection
}

// Operation is what was asked for: what exchanges are grouped by, whatever their protocol. Of HTTP, Verb is the method
// ("_OTHER" where it is not a known one) and Name the route, a template; Name is empty where it is not known, and of a
// client's requests. Of other conventions see Convention.
type Operation struct {
	Verb, Name string
}

// Outcome is how an exchange ended. The parser of its protocol alone knows what a code means, and sets all of it.
type Outcome struct {
	Code  uint16 // the protocol's own; of HTTP the status, 0 where there was no response
	Class Class
	// Late tells that nobody answered in time: at the agent's deadline, or as the response itself says.
	Late bool
	// ErrorType is the error.type of OpenTelemetry: empty where this end takes the exchange for no failure, which is not the
	// same at both ends. Of HTTP it is the status as text for 5xx, for 4xx on the client side, and the name of
	// ClassAborted and ClassTimeout.
	ErrorType string
}

// Failed tells whether the observed end takes the exchange for a failure.
func (o *Outcome) Failed() bool { return o.ErrorType != "" }

// CutOff is the outcome of an exchange that ended without a response, aborted or by timeout: the same in every protocol.
func CutOff(class Class) Outcome {
	return Outcome{Class: class, Late: class == ClassTimeout, ErrorType: class.String()}
}

// Class is whose fault an outcome is, if anybody's.
type Class uint8

const (
	ClassOK          Class = iota
	ClassClientFault       // the request is to blame, as the response says
	ClassServerFault       // the server is
	ClassAborted           // the connection ended first
	ClassTimeout           // no response at the deadline
	ClassOther             // not told apart: beyond a limit
	Classes                // how many there are
)

// String returns the class as APIs show it.
func (c Class) String() string {
	return [...]string{"ok", "client_fault", "server_fault", "aborted", "timeout", "_OTHER"}[min(c, ClassOther)]
}

// Exchange is a request and its response, understood. Byte slices are valid only during the call that receives it;
// who keeps an Exchange calls Clone.
type Exchange struct {
	ID
	// Parent is the exchange in whose course this one was made; the zero value where that is not known.
	Parent ID

	PID   uint32 // the process that read the request (server) or sent it (client)
	Role  Role
	Flags Flags
	TLS   bool
	// Convention says what the operation and the outcome are to be read as.
	Convention Convention
	Comm       [16]byte

	Local, Remote netip.AddrPort

	// Monotonic instants as in Record; Finished of an exchange without a response is when that became known.
	Arrived, Read, Responded, Finished int64

	Protocol string // as metrics name it, with its version: "http/1.0" or "http/1.1"
	Operation
	Outcome

	// Body bytes after the heads, chunk framing included; -1 where the head's length is unknown.
	RequestSize, ResponseSize int64

	MethodOriginal []byte // as sent, when Verb is "_OTHER"
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
	RouteSource RouteSource // of the operation's name
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

// Witness sets what a record says of the exchange before anybody understands it: all but the addresses.
func (e *Exchange) Witness(rec *Record) {
	e.Conn, e.Seq, e.PID, e.Role, e.Flags, e.Comm = rec.Conn, rec.Seq, rec.PID, rec.Role, rec.Flags, rec.Comm
	e.Arrived, e.Read, e.Responded, e.Finished = rec.Arrived, rec.Read, rec.Responded, rec.Finished
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
	MethodBytesMax    = 64 // the kernel side takes nothing longer for a request's
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
