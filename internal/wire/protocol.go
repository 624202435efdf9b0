package wire

// Protocol is what a connection speaks, as the kernel side numbers it in each record and fragment (enum record_protocol of
// bpf/events.h). internal/pipeline has a row for each; a number without one is refused.
type Protocol uint8

const (
	ProtocolHTTP1 Protocol = iota
	ProtocolHTTP2
	Protocols // how many there are
)

// Convention is the part of OpenTelemetry's semantic conventions that an operation belongs to: which metrics it is counted in,
// and under which labels.
type Convention uint8

const (
	// ConventionHTTP: Operation has a method and a route, which is found behind the parser; a server's requests under way are
	// http_server_active_requests.
	ConventionHTTP Convention = iota
	// ConventionRPC: Operation.Name is the method that is called.
	ConventionRPC
	// ConventionDatabase: Operation.Verb is the operation's name, Operation.Name the summary of a query.
	ConventionDatabase
)
