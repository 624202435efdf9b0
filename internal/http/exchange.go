package http

import (
	"github.com/perfagent/perfagent/internal/wire"
)

// Decoder turns the kernel side's records into exchanges. The zero value is ready; it is used by one goroutine at a
// time.
type Decoder struct {
	request  Request
	response Response
}

// SetUserHeader names the header that tells users apart (nil: none) for the requests that follow.
func (d *Decoder) SetUserHeader(u *UserHeader) { d.request.user = u }

// Exchange understands rec as an HTTP/1 exchange and fills all of ex but what is set behind the parser; its slices
// point into rec. final tells that the exchange is over: always, except for a swept record whose framing does not say
// that the response is complete. It returns a *ParseError where the record cannot be reported: no request head, or
// a response whose status is not known; ErrNoRequest where its request may be none.
func (d *Decoder) Exchange(rec *wire.Record, ex *wire.Exchange) (final bool, err error) {
	final = rec.Flags.Ended()
	if len(rec.Request) == 0 && rec.Flags&wire.FlagUnreadable != 0 {
		return final, ErrUnreadable
	}
	if err := d.parse(rec); err != nil {
		return final, err
	}
	*ex = wire.Exchange{Local: rec.Local(), Remote: rec.Remote()}
	ex.Witness(rec)
	describe(&d.request, ex)
	size := requestSize{d.request.HeadLen, d.request.Framing}
	ex.RequestSize = size.size(rec)
	return d.respond(rec, ex, final)
}

// parse understands the request of rec.
func (d *Decoder) parse(rec *wire.Record) error {
	if err := ParseRequest(rec.Request, &d.request); err != nil {
		return err
	}
	if d.request.noRequest(rec.Flags&wire.FlagHeadCut == 0 && rec.RequestBytes <= uint64(len(rec.Request))) {
		return ErrNoRequest
	}
	return nil
}

// respond completes an exchange, whose request is understood, by what the record says of the response.
func (d *Decoder) respond(rec *wire.Record, ex *wire.Exchange, final bool) (bool, error) {
	if rec.Flags&wire.FlagFramed != 0 {
		return framed(rec, ex)
	}
	ex.Outcome, ex.ResponseSize = wire.Outcome{}, -1
	heads, err := finalHead(rec.Response, &d.response)
	if err != nil {
		return final, err
	}
	if d.response.Status == 0 {
		return unanswered(rec, ex, final)
	}
	return d.answered(rec, ex, heads, final), nil
}

// framed completes an exchange whose response the kernel side has seen to its end: only the status is to be read.
func framed(rec *wire.Record, ex *wire.Exchange) (final bool, err error) {
	b := rec.Response
	if len(b) < len("HTTP/1.1 200") || !wire.IsDigit(b[9]) || !wire.IsDigit(b[10]) || !wire.IsDigit(b[11]) {
		return true, ErrMalformed
	}
	ex.Outcome = Answered(ex.Role, uint16(b[9]-'0')*100+uint16(b[10]-'0')*10+uint16(b[11]-'0'))
	ex.ResponseSize = max(int64(rec.ResponseBytes)-int64(rec.ResponseHead), 0)
	return true, nil
}

// describe copies what the request says into ex.
func describe(r *Request, ex *wire.Exchange) {
	ex.Protocol, ex.Verb = r.Proto, r.Method
	if r.Method == methodOther {
		ex.MethodOriginal = r.MethodOriginal
	}
	ex.Path, ex.Host = r.Path, r.Host
	if len(r.Authority) > 0 { // it overrides the Host header (RFC 9112, section 3.2.2)
		ex.Host = r.Authority
	}
	ex.UserAgent, ex.RequestID, ex.TraceParent, ex.ForwardedFor = r.UserAgent, r.RequestID, r.TraceParent, r.ForwardedFor
	ex.UserHash = r.user.hash(r.User)
}

// finalHead parses the first head in b that is not an interim one, and returns the bytes of the interim heads in front
// of it. Status stays 0 where b ends before the final status.
func finalHead(b []byte, r *Response) (before int, err error) {
	for before < len(b) {
		if err := ParseResponse(b[before:], r); err != nil {
			return before, err
		}
		if !interim(r.Status) {
			return before, nil
		}
		if !r.Complete {
			break
		}
		before += r.HeadLen
	}
	*r = Response{Framing: Framing{ContentLength: -1}}
	return before, nil
}

// interim tells whether another head follows one with this status: 1xx, except 101, which ends HTTP.
func interim(status uint16) bool { return status/100 == 1 && status != 101 }

// unanswered completes an exchange without a final status.
func unanswered(rec *wire.Record, ex *wire.Exchange, final bool) (bool, error) {
	ex.Responded = 0
	switch {
	case rec.Flags&wire.FlagTimeout != 0:
		ex.Outcome = CutOff(wire.ClassTimeout, 0)
	case !final: // a swept copy of an exchange that still waits
	case rec.ResponseBytes > uint64(len(rec.Response)) && rec.Flags&wire.FlagUnreadable != 0:
		return final, ErrUnreadable
	case rec.ResponseBytes > uint64(len(rec.Response)): // a status was sent, behind what was captured
		return final, ErrStatusCut
	case rec.Flags&wire.FlagClosed != 0 || len(rec.Response) == 0:
		ex.Outcome = CutOff(wire.ClassAborted, 0)
	default:
		return final, ErrStatusCut
	}
	return final, nil
}

// answered completes an exchange whose final status is known; before is the length of the interim heads.
func (d *Decoder) answered(rec *wire.Record, ex *wire.Exchange, before int, final bool) bool {
	r := &d.response
	end := endOf(ex.Verb, r.Status, &r.Framing)
	head := 0
	if r.Complete {
		head = before + r.HeadLen
	}
	switch {
	case end == endTunnel || end == endNone && !r.Complete:
		ex.ResponseSize = 0
	case end == endNone:
		ex.ResponseSize = bodySize(rec.ResponseBytes, head, nil)
	default:
		ex.ResponseSize = bodySize(rec.ResponseBytes, head, &r.Framing)
	}
	whole := complete(rec, r, end, head)
	switch {
	case rec.Flags&wire.FlagTimeout != 0:
		ex.Outcome = CutOff(wire.ClassTimeout, r.Status)
	case rec.Flags&wire.FlagCut != 0:
		ex.Outcome = CutOff(wire.ClassAborted, r.Status)
	case rec.Flags&wire.FlagClosed != 0 && whole == no:
		// The kernel side did not know, and tells of the last byte instead of the end.
		ex.Outcome, ex.Finished = CutOff(wire.ClassAborted, r.Status), 0
	default:
		ex.Outcome = Answered(rec.Role, r.Status)
	}
	return final || whole == yes
}

// bodySize returns the bytes behind a head of the given length (0: cut), by Content-Length where that is all there is,
// or -1. A message that was cut off has no more than the bytes that were seen.
func bodySize(bytes uint64, head int, f *Framing) int64 {
	switch {
	case head > 0:
		return int64(bytes - min(bytes, uint64(head)))
	case f != nil && f.ContentLength >= 0 && !f.Transfer && !f.BadLength:
		return min(f.ContentLength, int64(bytes))
	}
	return -1
}

// ending is what ends a message's body.
type ending uint8

const (
	endNone    ending = iota // there is no body
	endLength                // Content-Length
	endChunked               // the last chunk
	endClose                 // the connection's end
	endTunnel                // there is no body, and what follows is not HTTP
	endUnknown               // the framing contradicts itself, or was not seen
)

// endOf returns what ends the response to a request with this method (RFC 9112, section 6.3).
func endOf(method string, status uint16, f *Framing) ending {
	switch {
	case status == 101 || method == "CONNECT" && status/100 == 2:
		return endTunnel
	case method == "HEAD" || status == 204 || status == 304 || status/100 == 1:
		return endNone
	case f.Chunked:
		return endChunked
	case f.Transfer:
		return endClose
	case f.BadLength:
		return endUnknown
	case f.ContentLength == 0:
		return endNone
	case f.ContentLength > 0:
		return endLength
	}
	return endClose
}

// answer to whether a response is complete.
// It is one of three, as a capture may end before what would tell: what is not known counts neither as complete nor as cut.
type answer uint8

const (
	maybe answer = iota
	yes
	no
)

// complete tells whether all of a response was seen; head is the length of its heads, 0 where the capture cuts them.
func complete(rec *wire.Record, r *Response, end ending, head int) answer {
	captured := uint64(len(rec.Response))
	if head == 0 {
		switch {
		case rec.ResponseBytes <= captured:
			return no // nothing follows what was captured: the head itself is not complete
		case end == endLength && rec.ResponseBytes < captured+uint64(r.ContentLength):
			return no
		case end == endLength, end == endNone:
			// The head's length is known only to be more than the capture. That the sender paused within the last few
			// hundred bytes of this response is possible, but far less likely than that it is done.
			return yes
		case end == endChunked && rec.Flags&wire.FlagChunkedEnd != 0:
			return yes
		}
		return maybe
	}
	switch end {
	case endNone, endTunnel:
		return yes
	case endLength:
		if rec.ResponseBytes-min(rec.ResponseBytes, uint64(head)) < uint64(r.ContentLength) {
			return no
		}
		return yes
	case endChunked:
		return chunkedComplete(rec, head)
	}
	return maybe
}

// chunkedComplete trusts the captured bytes where they are all that there is, else the kernel side's look at the last
// ones. That look misses trailers, and ends that it could not read: its silence proves nothing.
func chunkedComplete(rec *wire.Record, head int) answer {
	if rec.ResponseBytes == uint64(len(rec.Response)) && head <= len(rec.Response) {
		var c chunked
		if _, done, _ := c.scan(rec.Response[head:]); !done {
			return no // what is no chunk is never complete
		}
		return yes
	}
	if rec.Flags&wire.FlagChunkedEnd != 0 {
		return yes
	}
	return maybe
}
