package http2

import "github.com/perfagent/perfagent/internal/wire"

// Exchange is a stream: a request and its response, understood. Byte slices are valid during the call that receives it; of the
// embedded one Clone copies what it has, of the others the caller takes care.
type Exchange struct {
	wire.Exchange

	Stream  uint32
	Pushed  bool    // the server promised it: Arrived and Read are the promise's instant
	Reset   Reset   // of one that RST_STREAM or GOAWAY ended; the zero value otherwise
	Unknown Unknown // what could not be known, since it refers to what was sent before the connection was joined, or was not captured

	Tunnel       []byte // of an extended CONNECT what it asked for, as "websocket"; the exchange then ends with its response's head
	ContentType  []byte // of the response
	Status       uint16 // of HTTP, also where the outcome's code is gRPC's; 0 where there was no response
	RPC          RPC
	RequestType  []byte // the request's content-type
	RequestFlow  uint64 // bytes of DATA, padding included: what flow control counts
	ResponseFlow uint64
}

// Unknown are the parts of an exchange that are not known. Of a request without a known path the path is empty and the method
// MethodOther; an exchange of HTTP without a known status is not reported but lost.
type Unknown uint8

// What may be unknown.
const (
	UnknownMethod     Unknown = 1 << iota
	UnknownPath               // so gRPC may not have been recognised, either
	UnknownRPCStatus          // Outcome.Code is RPCStatusUnknown
	UnknownReset              // the error code of Reset
	UnknownStatusHTTP         // set while it lasts: such an exchange is lost
)

// End is one of the two ends of a connection.
type End uint8

// The ends; EndNone is neither.
const (
	EndNone End = iota
	EndClient
	EndServer
)

// String returns "client", "server" or "".
func (e End) String() string { return [...]string{"", "client", "server"}[e%3] }

// Reset is how a stream was ended early.
type Reset struct {
	By   End
	Code uint32 // RFC 9113, section 7
	// GoAway tells that the connection's GOAWAY did, which says that the server will not look at the request.
	GoAway bool
}

// resetNames are the names of error codes (RFC 9113, section 7).
var resetNames = [...]string{"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
	"FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY",
	"HTTP_1_1_REQUIRED"}

// Name returns the error code's name, "_OTHER" of one that has none, "" where nothing was reset.
func (r Reset) Name() string {
	switch {
	case r.By == EndNone:
		return ""
	case r.Code < uint32(len(resetNames)):
		return resetNames[r.Code]
	}
	return "_OTHER"
}

const (
	proto2    = "http/2"
	protoGRPC = "grpc"
)
