package pipeline

import (
	"errors"
	"time"

	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

// Protocol makes exchanges of what the kernel side saw of connections that speak it. One goroutine uses it.
//
// It sets what the bytes say: protocol, operation, outcome, sizes and texts. Instants and who was involved it takes from the
// record (wire.Exchange.Witness), and may take an instant back that the bytes disprove; service, route and wall clock are set
// behind it. Which of an exchange's records counts is settled outside as well.
type Protocol interface {
	// Record understands an exchange that the kernel side saw whole. final tells that the exchange is over: where the flags say
	// so (wire.Flags.Ended), and where a swept copy shows its end. An error is a Failure where it says why the record cannot be reported.
	Record(rec *wire.Record) (u Understood, final bool, err error)
	// Fragment takes an operation of a connection that is followed byte by byte, in their order, and emits what it ends.
	Fragment(f *wire.Fragment)
	// Sweep does what only the passing of time tells of such connections, at the monotonic instant now; requests without
	// response for the deadline are timeouts.
	Sweep(now int64, deadline time.Duration)
	// EachActive calls visit for every request of such connections that a server read and has not answered to its end, with
	// the process and its task name: http_server_active_requests, so none of another convention.
	EachActive(visit func(pid uint32, comm *[16]byte))
}

// Understood is an exchange as its protocol understands it, valid until the next call.
type Understood struct {
	// Exchange has the remote end of a client right; who shows the exchange sets the addresses otherwise.
	*wire.Exchange
	// Known is the pipeline's own, kept with the request: the zero value where the request is new, else what the pipeline
	// left there. nil: the protocol remembers no requests.
	*Known
}

// Failure is an error that says, in a word, why what was captured was not understood: the reason of
// perfagent_parse_errors_total. Of one that is ReasonUnreadable the exchange is lost as unreadable.
type Failure interface {
	error
	Reason() string
}

// errUnasked is Record's where what was answered is no request: one was not seen as such, or there was none.
var errUnasked = errors.New("what was answered is no request")

// ReasonUnreadable is that of bytes that could not be read from the process's memory.
const ReasonUnreadable = "unreadable"

// Surroundings are what a protocol is opened with.
type Surroundings struct {
	Emit   func(ex *wire.Exchange)     // an exchange that fragments showed, valid during the call
	Lose   func(loss wire.Loss, n int) // exchanges that happened and are not reported
	Failed func(reason string)         // a message that was not understood, beside Record's errors

	Streams int              // connections followed byte by byte, at most; 0: the protocol's own bound
	User    *http.UserHeader // the header that tells users of HTTP apart; nil: none
}

// protocols are those that are understood: a row each, at the number that the kernel side gives it.
var protocols = [wire.Protocols]struct {
	name string // in perfagent_parse_errors_total
	open func(Surroundings) Protocol
}{
	wire.ProtocolHTTP1: {"http", openHTTP1},
	wire.ProtocolHTTP2: {"http2", openHTTP2},
}
