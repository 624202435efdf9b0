package http2

import (
	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

// stream is a request that waits for the end of its response.
//
//	          HEADERS                  :status, not 1xx                END_STREAM
//	(none) ─────────────> requested ─────────────────────> responding ─────────────> answered ──> concluded
//	        PUSH_PROMISE      │                               │                     until the request has ended, too
//	                          └── RST_STREAM, GOAWAY, close ──┴──> aborted
type stream struct {
	ex   Exchange
	text []byte // what ex's slices point into
	web  []byte // trailers of gRPC-Web
	id   uint32
	last int64     // instant of its latest frame
	loss wire.Loss // set where it cannot be reported

	requestGaps, responseGaps uint32 // of the directions when it began: see connection.unsure

	requestEnded  bool
	responding    bool // the head of its response was seen
	answered      bool // its response is complete
	reported      bool // it is in the books, and stays only so that what follows is known to be its
	trailed       bool // a part of its response's headers is not known
	requestUnsure bool // some of its request's body may not have been seen
	head          bool // HEAD, whose response has no body

	requestLength, responseLength   int64 // content-length, -1 without one
	requestUnsized, responseUnsized bool  // some padding was not captured

	requests, responses messages
}

// streamBytes is what a stream takes beside its text, by the allocator's size class.
const streamBytes = 1024

// begin makes a stream of a request's first byte, or returns nil where there is no memory.
func (s *Connections) begin(c *connection, id uint32, m *moment) *stream {
	s.stats.Requests++
	seq := c.base + c.count
	c.count++
	if c.streams.full() && !s.growStreams(c) {
		s.lose(wire.LostStreams, 1)
		return nil
	}
	st := s.newStream()
	if st == nil {
		s.lose(wire.LostStreams, 1)
		return nil
	}
	st.id, st.last = id, m.at
	st.requestGaps, st.responseGaps = c.requests.gaps, c.responses.gaps
	ex := &st.ex
	ex.Stream, ex.ID, ex.PID, ex.Comm = id, wire.ID{Conn: c.id, Seq: seq}, m.pid, m.comm
	ex.Role, ex.Local, ex.Remote, ex.Protocol = c.role, c.local, c.remote, proto2
	ex.Flags = m.flags &^ wire.FlagUnreadable
	if c.role == wire.RoleClient {
		ex.Arrived = m.at
	} else {
		ex.Arrived, ex.Read = m.arrived, m.at
		if m.arrived == 0 {
			ex.Flags |= wire.FlagNoArrival
		}
	}
	c.streams.put(st, s.seed)
	return st
}

func (s *Connections) growStreams(c *connection) bool {
	if !s.reserve(8 * max(len(c.streams.slots), slotsMin)) {
		return false
	}
	c.streams.grow(s.seed)
	return true
}

// newStream returns an empty stream, or nil where there is no memory.
func (s *Connections) newStream() *stream {
	var st *stream
	if n := len(s.spareStreams); n > 0 {
		st, s.spareStreams = s.spareStreams[n-1], s.spareStreams[:n-1]
		*st = stream{text: st.text[:0], web: st.web[:0]}
	} else {
		if !s.reserve(streamBytes) {
			return nil
		}
		st = &stream{}
	}
	st.requestLength, st.responseLength, st.ex.RPC.Status = -1, -1, -1
	return st
}

// remove takes a stream that is settled off its connection.
func (s *Connections) remove(c *connection, st *stream) {
	c.streams.remove(st, s.seed)
	s.release(st)
}

// release gives a stream's memory back.
func (s *Connections) release(st *stream) {
	if len(s.spareStreams) < spareMax && cap(st.text)+cap(st.web) <= spareTextMax {
		s.spareStreams = append(s.spareStreams, st)
		return
	}
	s.stats.Bytes -= streamBytes + cap(st.text) + cap(st.web)
}

// keep copies a value that outlives its header block.
func (s *Connections) keep(st *stream, v []byte) []byte {
	if len(v) == 0 {
		return nil
	}
	if len(st.text)+len(v) > cap(st.text) {
		size := max(2*cap(st.text), 256)
		for size < len(st.text)+len(v) {
			size *= 2
		}
		s.stats.Bytes += size - cap(st.text)
		st.text = append(make([]byte, 0, size), st.text...) // what points into the old one stays as it is
	}
	at := len(st.text)
	st.text = append(st.text, v...)
	return st.text[at:len(st.text):len(st.text)]
}

// requestHead takes a header block of the requests' direction: a request's head, or its trailers.
func (s *Connections) requestHead(c *connection, d *direction, f *wire.Fragment, h *headers, end bool) {
	id := d.opener.stream
	st := c.streams.get(id, s.seed)
	begins := h.has(fieldMethod) || h.has(fieldPath)
	switch {
	case st != nil:
		if st.last = f.At; begins {
			s.failed(ErrStreamID)
		}
	case id%2 == 0, id <= c.lastID:
		if begins {
			s.failed(ErrStreamID)
		}
		return
	case !begins && (c.joined || c.blind) && (end || h.unknown == 0): // trailers of one that is not known
		return
	default:
		if c.lastID = id; c.blind && c.hiddenTo == 0 {
			c.hiddenTo = id
		}
		if st = s.begin(c, id, &d.begun); st == nil {
			return
		}
		st.last = f.At
		s.describe(st, h)
	}
	if end {
		s.endStream(c, d, f, id)
	}
}

// describe takes over what a request's head says.
func (s *Connections) describe(st *stream, h *headers) {
	ex, missing := &st.ex, h.unknown > 0 || !h.ended
	method := h.get(fieldMethod)
	ex.Verb = http.MethodName(method)
	if ex.Verb == http.MethodOther {
		ex.MethodOriginal = s.keep(st, method)
	}
	st.head = ex.Verb == "HEAD"
	if !h.has(fieldMethod) {
		ex.Unknown |= UnknownMethod
	}
	ex.Path = s.keep(st, h.get(fieldPath))
	if ex.Tunnel = s.keep(st, h.get(fieldProtocol)); len(ex.Path) == 0 && ex.Verb != "CONNECT" {
		ex.Unknown |= UnknownPath
	}
	host := h.get(fieldAuthority)
	if len(host) == 0 {
		host = h.get(fieldHost)
	}
	ex.Host, ex.UserAgent, ex.RequestID = s.keep(st, host), s.keep(st, h.get(fieldUserAgent)), s.keep(st, h.get(fieldRequestID))
	if h.twice>>fieldTraceParent&1 == 0 { // one that comes twice says nothing: who would be the parent?
		ex.TraceParent = s.keep(st, h.get(fieldTraceParent))
	}
	forwarded := h.get(fieldXForwardedFor) // proxies keep it far more often than the standard's
	if len(forwarded) == 0 {
		forwarded = h.get(fieldForwarded)
	}
	ex.ForwardedFor, ex.RequestType = s.keep(st, forwarded), s.keep(st, h.get(fieldContentType))
	if v := h.get(fieldUser); len(v) == 8 {
		ex.UserHash = uint64(number(v))<<32 | uint64(number(v[4:]))
	}
	st.requestLength = length(h)
	s.describeRPC(st, h)
	switch {
	case ex.Unknown == 0:
	case missing && h.ended:
		s.failed(ErrUnknownIndex)
	case h.ended: // the peer refuses it, too
		s.failed(ErrHeaders)
	}
}

// length returns the content-length, -1 without a valid one.
func length(h *headers) int64 {
	n, ok := http.Decimal(h.get(fieldContentLength))
	if !ok {
		return -1
	}
	return n
}

// describeRPC makes a call of a request whose content-type says so.
func (s *Connections) describeRPC(st *stream, h *headers) {
	ex := &st.ex
	rpc, web := rpcType(ex.RequestType)
	if !rpc {
		return
	}
	s.call(st, web)
	ex.RPC.Encoding = s.keep(st, h.get(fieldGRPCEncoding))
	if web && len(ex.RequestType) > len("application/grpc-web") && ex.RequestType[len("application/grpc-web")] == '-' {
		st.requests.text, st.responses.text = true, true
	}
}

// call makes a call of gRPC of an exchange.
func (s *Connections) call(st *stream, web bool) {
	ex := &st.ex
	ex.Convention, ex.Protocol, ex.RPC.System, ex.RPC.Web = wire.ConventionRPC, protoGRPC, protoGRPC, web
	service, method, name := rpcPath(ex.Path)
	ex.RPC.Service, ex.RPC.Method = service, method
	ex.Name = s.names.text(name)
	st.requests.on, st.responses.on = true, true
}

// promised takes the head of a request that the server promises to answer.
func (s *Connections) promised(c *connection, d *direction, f *wire.Fragment, h *headers) {
	id := d.owner
	if id == 0 || id%2 != 0 || c.streams.get(id, s.seed) != nil {
		s.failed(ErrStreamID)
		return
	}
	st := s.begin(c, id, &d.begun)
	if st == nil {
		return
	}
	st.last, st.requestEnded, st.ex.Pushed = f.At, true, true
	st.ex.Arrived, st.ex.Flags = d.begun.first(), st.ex.Flags&^wire.FlagNoArrival
	if c.role == wire.RoleServer {
		st.ex.Read = st.ex.Arrived
	}
	s.describe(st, h)
}

// responseHead takes a header block of the responses' direction: an interim head, the head of a response, or its trailers.
func (s *Connections) responseHead(c *connection, d *direction, f *wire.Fragment, h *headers, end bool) {
	id := d.opener.stream
	st := c.streams.get(id, s.seed)
	status, known := statusOf(h)
	if st == nil {
		if known && status/100 != 1 && (c.hides(id) || id%2 == 1 && id > c.lastID && !c.joined) {
			s.stats.Requests++ // of a request that was not seen
			s.lose(wire.LostDesync, 1)
		}
		return
	}
	st.last = f.At
	switch {
	case known && status/100 == 1:
	case st.responding, st.reported:
		s.trailers(st, h)
	case known:
		s.respond(c, d, st, status, h)
	case h.unknown > 0 || !h.ended:
		s.failed(ErrUnknownIndex)
		st.ex.Unknown |= UnknownStatusHTTP
		s.respond(c, d, st, 0, h)
	case st.responseGaps != d.gaps: // trailers of a response whose head was missed
		st.loss = wire.LostDesync
	default:
		s.failed(ErrHeaders)
		st.loss = wire.LostParse
	}
	if st.isTunnel() && st.responding && !st.reported {
		s.openTunnel(c, d, f, st)
	}
	if end {
		s.endStream(c, d, f, id)
	}
}

// statusOf returns the status of a response's head; false where it has none that is one.
func statusOf(h *headers) (uint16, bool) {
	v := h.get(fieldStatus)
	if len(v) != 3 || v[0] == '0' || !wire.IsDigit(v[0]) || !wire.IsDigit(v[1]) || !wire.IsDigit(v[2]) {
		return 0, false
	}
	return uint16(v[0]-'0')*100 + uint16(v[1]-'0')*10 + uint16(v[2]-'0'), true
}

// respond takes the head of a response.
func (s *Connections) respond(c *connection, d *direction, st *stream, status uint16, h *headers) {
	st.responding = true
	ex := &st.ex
	ex.Status, ex.Responded = status, d.begun.first()
	ex.ContentType = s.keep(st, h.get(fieldContentType))
	st.responseLength = length(h)
	if ex.Convention != wire.ConventionRPC && len(ex.RequestType) == 0 && ex.Verb != "GET" {
		s.recognise(st)
	}
	s.trailers(st, h) // of gRPC they may be here
}

// recognise makes a call of an exchange whose request's content-type is not known, by the response's.
func (s *Connections) recognise(st *stream) {
	if rpc, web := rpcType(st.ex.ContentType); rpc {
		s.call(st, web)
		st.requests.unknown = true // some may have come
	}
}

// trailers takes what the end of a response says of a call.
func (s *Connections) trailers(st *stream, h *headers) {
	if st.reported || st.ex.Convention != wire.ConventionRPC {
		return
	}
	if h.has(fieldGRPCStatus) {
		st.ex.RPC.Status, st.ex.RPC.Message = rpcStatus(h.get(fieldGRPCStatus)), s.keep(st, h.get(fieldGRPCMessage))
		return
	}
	st.trailed = h.unknown > 0 || !h.ended
}

// isTunnel tells whether a stream becomes a tunnel, as CONNECT asks for.
func (st *stream) isTunnel() bool { return st.ex.Verb == "CONNECT" && st.ex.Status/100 == 2 }

// openTunnel ends the exchange that opens a tunnel with the head of its response. What follows is not HTTP.
func (s *Connections) openTunnel(c *connection, d *direction, f *wire.Fragment, st *stream) {
	st.ex.Finished = seenAt(f)
	st.answered = true
	s.conclude(c, st)
	st.reported = true
}

// dataBytes takes captured bytes of a DATA frame; d.left is what of it is still to come.
func (s *Connections) dataBytes(c *connection, d *direction, f *wire.Fragment, data []byte) {
	st := c.streams.get(d.frame.stream, s.seed)
	flow := uint64(len(data))
	if d.prefix && len(data) > 0 {
		d.padding, d.prefix = uint32(data[0]), false
		s.stats.Padding += uint64(data[0]) + 1
		data = data[1:]
	}
	if st == nil {
		return
	}
	st.last = f.At
	if behind := d.left + uint64(len(data)); behind <= uint64(d.padding) {
		data = nil
	} else {
		data = data[:min(uint64(len(data)), behind-uint64(d.padding))]
	}
	if d.request {
		st.ex.RequestSize, st.ex.RequestFlow = st.ex.RequestSize+int64(len(data)), st.ex.RequestFlow+flow
		st.requests.bytes(data, nil)
		return
	}
	st.ex.ResponseSize, st.ex.ResponseFlow = st.ex.ResponseSize+int64(len(data)), st.ex.ResponseFlow+flow
	before := cap(st.web)
	st.web = st.responses.bytes(data, st.web)
	s.stats.Bytes += cap(st.web) - before
}

// dataSkipped passes over bytes of a DATA frame that were not captured.
func (s *Connections) dataSkipped(c *connection, d *direction, n uint64) {
	st := c.streams.get(d.frame.stream, s.seed)
	if st == nil {
		d.prefix = false
		return
	}
	unsized, size, flow, m := &st.responseUnsized, &st.ex.ResponseSize, &st.ex.ResponseFlow, &st.responses
	if d.request {
		unsized, size, flow, m = &st.requestUnsized, &st.ex.RequestSize, &st.ex.RequestFlow, &st.requests
	}
	*flow += n
	if d.prefix {
		d.prefix, *unsized = false, true
	}
	if behind := d.left + n; behind <= uint64(d.padding) {
		n = 0
	} else {
		n = min(n, behind-uint64(d.padding))
	}
	*size += int64(n)
	m.skip(n)
}

// endStream does what END_STREAM says.
func (s *Connections) endStream(c *connection, d *direction, f *wire.Fragment, id uint32) {
	st := c.streams.get(id, s.seed)
	if st == nil {
		return
	}
	st.last = f.At
	if d.request {
		if st.requestEnded = true; st.answered && !st.reported {
			s.conclude(c, st)
			s.remove(c, st)
		}
		return
	}
	if st.reported {
		s.remove(c, st)
		return
	}
	if !st.responding && st.loss == (wire.Loss{}) {
		if st.loss = wire.LostDesync; st.responseGaps == d.gaps {
			s.failed(ErrHeaders)
			st.loss = wire.LostParse
		}
	}
	st.answered, st.ex.Finished = true, seenAt(f)
	if st.requestEnded || st.requestGaps != c.requests.gaps {
		s.conclude(c, st)
		s.remove(c, st)
	}
}

// seenAt returns the instant of a fragment's last byte, or 0 where no hook saw it.
func seenAt(f *wire.Fragment) int64 {
	if f.Flags&wire.FlagUnreadable != 0 {
		return 0
	}
	return f.At
}

// reset does what RST_STREAM says.
func (s *Connections) reset(c *connection, d *direction, f *wire.Fragment, payload []byte) {
	st := c.streams.get(d.frame.stream, s.seed)
	if st == nil {
		return
	}
	st.last = f.At
	r := Reset{By: EndServer}
	if d.request {
		r.By = EndClient
	}
	if len(payload) >= 4 {
		r.Code = number(payload)
	} else {
		st.ex.Unknown |= UnknownReset
	}
	s.endBy(c, st, r, f.At)
}

// endBy ends a stream early.
func (s *Connections) endBy(c *connection, st *stream, r Reset, at int64) {
	switch {
	case st.reported:
	case st.answered: // only the rest of its request was not wanted
		s.conclude(c, st)
	case r.By == EndServer && r.Code == 0 && st.responseGaps != c.responses.gaps: // behind a whole response that was missed
		s.lose(wire.LostDesync, 1)
	default:
		st.ex.Reset = r
		st.ex.Flags |= wire.FlagClosed
		s.cutOff(c, st, wire.ClassAborted, at)
	}
	s.remove(c, st)
}

// goAway does what GOAWAY says: of the other end's streams those with higher numbers than the last one will not be looked at.
func (s *Connections) goAway(c *connection, d *direction, f *wire.Fragment, payload []byte) {
	if len(payload) < 8 {
		return
	}
	last, r := number(payload)&(1<<31-1), Reset{By: EndServer, Code: number(payload[4:]), GoAway: true}
	parity := uint32(1)
	if d.request {
		r.By, parity = EndClient, 0
	}
	for i := 0; i < len(c.streams.slots); {
		if st := c.streams.slots[i]; st != nil && st.id > last && st.id&1 == parity && !st.reported && !st.responding {
			s.endBy(c, st, r, f.At) // another may have moved here
			continue
		}
		i++
	}
}

// conclude books an exchange whose response is complete.
func (s *Connections) conclude(c *connection, st *stream) {
	ex := &st.ex
	if ex.Convention == wire.ConventionRPC {
		s.concludeRPC(st)
	} else if ex.Unknown&UnknownStatusHTTP != 0 && st.loss == (wire.Loss{}) {
		st.loss = wire.LostParse
	} else {
		ex.Outcome = http.Answered(ex.Role, ex.Status)
	}
	s.book(c, st)
}

// concludeRPC finds out how a call ended.
func (s *Connections) concludeRPC(st *stream) {
	ex := &st.ex
	if ex.RPC.Web && len(st.web) > 0 {
		ex.RPC.Status, ex.RPC.Message = webTrailers(st.web)
	}
	switch {
	case ex.RPC.Status >= 0:
	case ex.Unknown&UnknownStatusHTTP != 0, ex.Status == 200 && (st.trailed || ex.RPC.Web):
		ex.Unknown |= UnknownRPCStatus
		ex.Outcome = wire.Outcome{Code: RPCStatusUnknown, Class: wire.ClassOther}
		return
	default:
		ex.RPC.Status = rpcOfHTTP(ex.Status)
	}
	ex.Outcome = RPCAnswered(ex.Role, ex.RPC.Status)
}

// cutOff books an exchange that ended by something else than its response.
func (s *Connections) cutOff(c *connection, st *stream, class wire.Class, at int64) {
	ex := &st.ex
	if ex.Finished = at; class == wire.ClassTimeout {
		ex.Flags |= wire.FlagTimeout
	}
	if ex.Convention == wire.ConventionRPC {
		ex.Outcome = wire.CutOff(class)
		ex.Code = RPCStatusUnknown
	} else {
		ex.Outcome = http.CutOff(class, ex.Status)
	}
	s.book(c, st)
}

// book reports an exchange, or counts it where it cannot be.
func (s *Connections) book(c *connection, st *stream) {
	if st.loss != (wire.Loss{}) {
		s.lose(st.loss, 1)
		return
	}
	ex := &st.ex
	if st.requestUnsure || st.requestUnsized || st.requestGaps != c.requests.gaps {
		ex.RequestSize = st.requestLength
	}
	if st.responseUnsized || st.responseGaps != c.responses.gaps {
		if ex.ResponseSize = st.responseLength; st.head || ex.Status == 304 || ex.Status == 204 {
			ex.ResponseSize = 0
		}
	}
	if ex.Convention == wire.ConventionRPC {
		ex.RPC.Requests, ex.RPC.Responses = st.requests.count(), st.responses.count()
		if st.requestGaps != c.requests.gaps {
			ex.RPC.Requests = -1
		}
		if st.responseGaps != c.responses.gaps {
			ex.RPC.Responses = -1
		}
	}
	s.stats.Reported++
	s.emit(ex)
}
