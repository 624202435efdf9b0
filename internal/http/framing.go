package http

import (
	"bytes"
	"math"
	"net/netip"

	"github.com/perfagent/perfagent/internal/wire"
)

// streamState tells what is done with a connection's fragments.
type streamState uint8

const (
	streamFollowed streamState = iota
	streamIgnored              // no longer HTTP
	streamDropped              // no memory: requests are only counted
)

// stream is one irregular connection.
type stream struct {
	conn          uint64
	base, count   uint32 // Seq of the first request, and how many began
	role          wire.Role
	state         streamState
	unsure        bool // responses may have been missed since the queue was last empty
	blind         bool // requests may have been missed
	local, remote netip.AddrPort
	last          int64 // instant of the newest fragment

	requests, responses direction

	queue []*pending // requests without a whole response, oldest first, from first on
	first int
}

// dirState is where in a direction the next byte falls.
type dirState uint8

const (
	dirStart   dirState = iota // between messages
	dirHead                    // in a head
	dirLength                  // in a body, remain bytes before its end
	dirChunked                 // in a chunked body
	dirClose                   // in a body that the connection's end ends
	dirLost                    // anywhere
)

// direction follows the bytes of one direction.
type direction struct {
	next   uint64 // position of the next fragment
	state  dirState
	eol    uint8    // in a head: 1 behind a line's end, 2 behind a CR after it, else 0
	long   bool     // the head is longer than what is kept of it
	coded  bool     // lost inside a chunked body
	broken bool     // lost because that is none
	chunks chunked  // in dirChunked
	remain uint64   // in dirLength
	owner  *pending // whose message this is; nil between messages, and for one that nobody waits for
	head   []byte   // the kept beginning of the head

	begunAt, begunArrived int64 // instants of the message's first byte
	lastAt                int64 // instant of the newest fragment
	endAt                 int64 // the same, 0 where no hook saw its bytes
}

// pending is a request that waits for the end of its response.
type pending struct {
	ex       wire.Exchange
	text     []byte    // what ex's slices point into
	seen     int64     // instant at which its first byte was seen
	loss     wire.Loss // set where it cannot be reported
	known    bool      // its head was understood
	reported bool      // as a timeout
	answered bool      // its response is complete, and it is not itself
	fixed    bool      // ResponseSize is what it will be
	expects  bool      // its body is sent only if it is asked for (Expect: 100-continue)
}

// waiting returns the queue.
func (st *stream) waiting() []*pending { return st.queue[st.first:] }

// oldest returns the request that the next response answers, or nil.
func (st *stream) oldest() *pending {
	if st.first < len(st.queue) {
		return st.queue[st.first]
	}
	return nil
}

// requestFragment takes bytes of the requests' direction.
func (s *Streams) requestFragment(st *stream, f *wire.Fragment) {
	d, data := &st.requests, f.Data
	gap := uncaptured(f)
	if d.state == dirLost {
		if !s.plausibleRequest(data) {
			s.lostRequestBytes(d, f)
			return
		}
		d.state, d.owner = dirStart, nil
	}
	if d.owner.refused() && s.plausibleRequest(data) {
		s.requestEnd(st)
	}
	for len(data) > 0 && st.state == streamFollowed {
		n := 0
		switch d.state {
		case dirStart:
			n = s.requestStart(st, f, data)
		case dirHead:
			n = s.requestMore(st, data)
		case dirLost:
			n = len(data)
			d.owner.requested(uint64(n))
		default:
			var done bool
			n, done = d.body(data)
			d.owner.requested(uint64(n))
			if done {
				s.requestEnd(st)
			} else if n < len(data) {
				s.loseRequests(st)
			}
		}
		data = data[n:]
	}
	if gap > 0 && st.state == streamFollowed {
		s.requestGap(st, f, gap)
	}
}

// requestStart reads the beginning of a request.
func (s *Streams) requestStart(st *stream, f *wire.Fragment, data []byte) int {
	empty := skipEmptyLines(data)
	if data = data[empty:]; len(data) == 0 {
		return empty
	}
	err := ParseRequest(data, &s.request)
	if err == ErrNotHTTP {
		s.failed(err)
		s.loseRequests(st)
		return empty
	}
	p := s.begin(st, f)
	if p == nil {
		return empty
	}
	d := &st.requests
	d.owner = p
	switch {
	case err != nil:
		s.failed(err)
		p.loss = wire.LostParse
		s.loseRequests(st)
	case s.request.Complete:
		n := s.request.HeadLen
		s.requestHead(st)
		return empty + n
	default:
		d.state, d.eol, d.long = dirHead, 0, false
	}
	return empty
}

// requestMore reads further bytes of a request's head.
func (s *Streams) requestMore(st *stream, data []byte) int {
	d := &st.requests
	n, done, ok := s.collect(d, data)
	switch {
	case !ok:
		s.drop(st)
	case done:
		if err := ParseRequest(d.head, &s.request); err != nil {
			s.failed(err)
			if d.owner != nil {
				d.owner.loss = wire.LostParse
			}
			s.loseRequests(st)
		} else {
			s.requestHead(st)
		}
		s.dropHead(d)
	}
	return n
}

// requestHead acts on the whole head in s.request.
func (s *Streams) requestHead(st *stream) {
	d, r := &st.requests, &s.request
	if p := d.owner; p != nil {
		if !s.describe(p, r) {
			s.drop(st)
			return
		}
		if d.long {
			p.ex.Flags |= wire.FlagHeadCut
		}
		p.ex.RequestSize = 0
		p.expects = r.Expect
	}
	d.chunks = chunked{}
	switch {
	case r.Transfer && !r.Chunked || !r.Transfer && r.BadLength:
		s.loseRequests(st)
	case r.Chunked:
		d.state = dirChunked
	case r.ContentLength > 0:
		d.state, d.remain = dirLength, uint64(r.ContentLength)
	default:
		d.state, d.owner = dirStart, nil
	}
}

// requestGap passes over bytes that were not captured.
func (s *Streams) requestGap(st *stream, f *wire.Fragment, gap uint64) {
	d := &st.requests
	switch d.state {
	case dirStart:
		s.hideRequest(st, f)
	case dirLength:
		k := min(gap, d.remain)
		d.owner.requested(k)
		if d.remain -= k; d.remain == 0 {
			s.requestEnd(st)
		}
		if gap > k {
			s.hideRequest(st, f)
		}
	case dirHead:
		if d.owner != nil {
			s.understand(st, d.owner, false)
			d.owner.ex.Flags |= wire.FlagHeadCut
		}
		s.dropHead(d)
		s.loseRequests(st)
		d.owner = nil
	case dirChunked:
		d.owner.requested(gap)
		if !d.chunks.skip(gap) {
			s.loseRequests(st)
		}
	default:
		d.owner.requested(gap)
	}
}

// requestEnd stands behind a request's body.
func (s *Streams) requestEnd(st *stream) {
	d := &st.requests
	p := d.owner
	d.state, d.owner = dirStart, nil
	if p != nil && p.answered {
		s.settle(st, p)
	}
}

// settle reports the oldest request, whose response and body are complete.
func (s *Streams) settle(st *stream, p *pending) {
	s.report(p)
	s.pop(st)
}

// settleAnswered makes way for another response: the end of the body was missed, so its size is not known.
func (s *Streams) settleAnswered(st *stream) {
	if p := st.oldest(); p != nil && p.answered {
		p.ex.RequestSize = -1
		s.settle(st, p)
	}
}

// hideRequest queues the request that a gap hides, so that its response is not taken for another's.
func (s *Streams) hideRequest(st *stream, f *wire.Fragment) {
	if p := s.begin(st, f); p != nil {
		p.loss, p.known = wire.LostDesync, true
		s.loseRequests(st)
		st.requests.owner = nil
	}
}

// loseRequests gives up the place in the requests' direction.
func (s *Streams) loseRequests(st *stream) {
	d := &st.requests
	d.coded = d.state == dirChunked
	d.state, st.blind = dirLost, true
	if p := d.owner; p != nil && p.answered {
		s.settleAnswered(st)
	}
}

// lostRequestBytes passes over a fragment while the place is lost. The end of a chunked body finds it again.
func (s *Streams) lostRequestBytes(d *direction, f *wire.Fragment) {
	d.owner.requested(lengthOf(f))
	if d.coded && endsChunks(f) {
		d.state, d.owner = dirStart, nil
	}
}

// responseFragment takes bytes of the responses' direction.
func (s *Streams) responseFragment(st *stream, f *wire.Fragment) {
	d, data := &st.responses, f.Data
	gap := uncaptured(f)
	if d.state == dirLost {
		if !plausibleResponse(data) {
			s.lostResponseBytes(st, f)
			return
		}
		s.finish(st, d.endAt)
	}
	d.lastAt, d.endAt = f.At, seenAt(f)
	for len(data) > 0 && st.state == streamFollowed {
		n := 0
		switch d.state {
		case dirStart:
			n = s.responseStart(st, f, data)
		case dirHead:
			n = s.responseMore(st, f, data)
		case dirLost, dirClose:
			n = len(data)
			d.owner.responded(uint64(n))
		default:
			var done bool
			n, done = d.body(data)
			d.owner.responded(uint64(n))
			if done {
				s.finish(st, f.At)
			} else if n < len(data) {
				s.loseResponses(st)
				d.broken = d.coded
			}
		}
		data = data[n:]
	}
	if gap > 0 && st.state == streamFollowed {
		s.responseGap(st, f, gap)
	}
}

// responseStart reads the beginning of a response.
func (s *Streams) responseStart(st *stream, f *wire.Fragment, data []byte) int {
	empty := skipEmptyLines(data)
	if data = data[empty:]; len(data) == 0 {
		return empty
	}
	d := &st.responses
	if err := ParseResponse(data, &s.response); err != nil {
		s.failed(err)
		s.loseResponses(st)
		return empty
	}
	s.settleAnswered(st)
	d.owner = st.oldest()
	d.begunAt, d.begunArrived = f.At, f.Arrived
	if !s.response.Complete {
		d.state, d.eol, d.long = dirHead, 0, false
		return empty
	}
	n := s.response.HeadLen
	s.responseHead(st, f.At)
	return empty + n
}

// responseMore reads further bytes of a response's head.
func (s *Streams) responseMore(st *stream, f *wire.Fragment, data []byte) int {
	d := &st.responses
	n, done, ok := s.collect(d, data)
	switch {
	case !ok:
		s.drop(st)
	case done:
		if err := ParseResponse(d.head, &s.response); err != nil {
			s.failed(err)
			d.owner = nil
			s.loseResponses(st)
		} else {
			s.responseHead(st, f.At)
		}
		s.dropHead(d)
	}
	return n
}

// responseHead acts on the whole head in s.response.
func (s *Streams) responseHead(st *stream, at int64) {
	d, r := &st.responses, &s.response
	if interim(r.Status) {
		d.state, d.owner = dirStart, nil
		return
	}
	framing, long := r.Framing, d.long
	method := s.answer(st, r.Status)
	d.chunks = chunked{}
	end := endOf(method, r.Status, &framing)
	if long && end == endClose && !framing.Transfer {
		end = endUnknown // the header that tells may be in the part that was not kept
	}
	switch end {
	case endNone:
		s.finish(st, at)
	case endTunnel:
		s.finish(st, at)
		s.ignore(st)
	case endLength:
		d.state, d.remain = dirLength, uint64(framing.ContentLength)
	case endChunked:
		d.state = dirChunked
	case endClose:
		d.state = dirClose
	default:
		s.loseResponses(st)
	}
}

// answer books a final status for the request that it answers and returns that request's method.
func (s *Streams) answer(st *stream, status uint16) (method string) {
	d := &st.responses
	p := d.owner
	if p == nil {
		if st.blind {
			s.lose(wire.LostDesync, 1)
			s.stats.Requests++
		}
		return methodOther
	}
	s.understand(st, p, true)
	p.ex.Code, p.ex.Responded, p.ex.ResponseSize = status, d.begunAt, 0
	if d.begunArrived != 0 {
		p.ex.Responded = d.begunArrived
	}
	return p.ex.Verb
}

// responseGap passes over bytes that were not captured.
func (s *Streams) responseGap(st *stream, f *wire.Fragment, gap uint64) {
	d := &st.responses
	switch d.state {
	case dirStart:
		s.hideResponse(st)
	case dirLength:
		k := min(gap, d.remain)
		d.owner.responded(k)
		if d.remain -= k; d.remain == 0 {
			s.finish(st, seenAt(f))
		}
		if gap > k {
			s.hideResponse(st)
		}
	case dirHead:
		known := s.partialStatus(st, d)
		s.dropHead(d)
		if !known && d.owner != nil && !interim(s.response.Status) {
			d.owner = nil
			s.hideResponse(st)
			return
		}
		if !known {
			d.owner = nil
		}
		s.loseResponses(st)
	case dirChunked:
		d.owner.responded(gap)
		if !d.chunks.skip(gap) {
			s.loseResponses(st)
		}
	default:
		d.owner.responded(gap)
	}
}

// partialStatus books the final status of a head whose end will not be seen; false where that status is not known.
func (s *Streams) partialStatus(st *stream, d *direction) bool {
	if ParseResponse(d.head, &s.response) != nil || s.response.Status == 0 || interim(s.response.Status) {
		return false
	}
	length := s.response.ContentLength
	method := s.answer(st, s.response.Status)
	if p := d.owner; p != nil {
		p.fixed, p.ex.ResponseSize = true, -1
		switch endOf(method, p.ex.Code, &s.response.Framing) {
		case endLength:
			p.ex.ResponseSize = length
		case endNone, endTunnel:
			p.ex.ResponseSize = 0
		}
	}
	return true
}

// hideResponse gives up the oldest request: a gap hides its response.
func (s *Streams) hideResponse(st *stream) {
	s.settleAnswered(st)
	p := st.oldest()
	switch {
	case p != nil:
		if !p.reported {
			s.lose(wire.LostDesync, 1)
		}
		s.pop(st)
	case st.blind:
		s.stats.Requests++
		s.lose(wire.LostDesync, 1)
	}
	s.loseResponses(st)
}

// loseResponses gives up the place in the responses' direction. The owner, if any, is complete when the place is found
// again, or after silence.
func (s *Streams) loseResponses(st *stream) {
	d := &st.responses
	d.coded = d.state == dirChunked
	d.state = dirLost
	if d.owner == nil && st.oldest() != nil || len(st.waiting()) > 1 {
		st.unsure = true
	}
}

// lostResponseBytes passes over a fragment while the place is lost.
func (s *Streams) lostResponseBytes(st *stream, f *wire.Fragment) {
	d := &st.responses
	d.lastAt, d.endAt = f.At, seenAt(f)
	d.owner.responded(lengthOf(f))
	if d.coded && endsChunks(f) {
		s.finish(st, f.At)
	}
}

// finish ends the current response, at the instant of its last byte, and stands behind it.
func (s *Streams) finish(st *stream, at int64) {
	d := &st.responses
	p := d.owner
	d.state, d.owner, d.coded, d.broken = dirStart, nil, false, false
	if p == nil {
		return
	}
	switch {
	case p.reported:
	case p.loss != (wire.Loss{}):
		s.lose(p.loss, 1)
	default:
		p.ex.Finished = at
		p.ex.Outcome = Answered(st.role, p.ex.Code)
		if r := &st.requests; r.owner == p && (r.state == dirLength || r.state == dirChunked) {
			p.answered = true // its size is known once all of it was seen
			return
		}
		s.report(p)
	}
	s.pop(st)
}

// abort ends the current response short of its end.
func (s *Streams) abort(st *stream, at int64) {
	p := st.responses.owner
	st.responses.owner = nil
	if p == nil {
		return
	}
	switch {
	case p.reported:
	case p.loss != (wire.Loss{}):
		s.lose(p.loss, 1)
	default:
		p.ex.Finished, p.ex.Outcome = at, CutOff(wire.ClassAborted, p.ex.Code)
		p.ex.Flags |= wire.FlagClosed
		s.report(p)
	}
	s.pop(st)
}

// begin queues a request whose first byte is in f, or drops the connection and returns nil.
func (s *Streams) begin(st *stream, f *wire.Fragment) *pending {
	p := s.newPending()
	if p == nil {
		s.drop(st)
		s.stats.Requests++
		s.lose(wire.LostStreams, 1)
		return nil
	}
	p.seen = f.At
	p.ex = wire.Exchange{
		ID: wire.ID{Conn: st.conn, Seq: st.base + st.count}, PID: f.PID, Role: st.role, Comm: f.Comm, Local: st.local, Remote: st.remote,
		Flags:       f.Flags & (wire.FlagUnix | wire.FlagOlder),
		RequestSize: -1, ResponseSize: -1, Operation: wire.Operation{Verb: methodOther}, Protocol: proto11,
	}
	if st.role == wire.RoleClient {
		p.ex.Arrived = f.At
	} else {
		p.ex.Arrived, p.ex.Read = f.Arrived, f.At
		if f.Arrived == 0 {
			p.ex.Flags |= wire.FlagNoArrival
		}
	}
	st.count++
	s.stats.Requests++
	if st.first > 0 && len(st.queue) == cap(st.queue) { // reuse the room in front before growing
		n := copy(st.queue, st.queue[st.first:])
		clear(st.queue[n:])
		st.queue, st.first = st.queue[:n], 0
	}
	st.queue = append(st.queue, p)
	return p
}

// pop removes the oldest request.
func (s *Streams) pop(st *stream) {
	p := st.oldest()
	st.queue[st.first] = nil
	if st.first++; st.first == len(st.queue) {
		st.queue, st.first = st.queue[:0], 0
		st.unsure = st.unsure && st.responses.state == dirLost
	}
	if d := &st.requests; d.owner == p {
		d.owner = nil
		if d.state == dirHead && bytes.IndexByte(d.head, '\n') < 0 { // answered as it is: what follows is none of it
			s.dropHead(d)
			d.state = dirStart
		}
	}
	s.release(p)
}

// understand makes the best of a request whose head has not ended yet; whole: all that came of it was seen.
func (s *Streams) understand(st *stream, p *pending, whole bool) {
	d := &st.requests
	if p.known || d.owner != p || d.state != dirHead {
		return
	}
	if err := ParseRequest(d.head, &s.request); err != nil {
		s.failed(err)
		p.loss = wire.LostParse
		return
	}
	if s.request.noRequest(whole && !d.long) {
		p.loss = wire.LostDesync
		return
	}
	p.ex.RequestSize = -1
	if !s.describe(p, &s.request) {
		p.loss = wire.LostStreams
	}
	p.known = false // the rest may still come
}

// body reads a body with a known framing. Where it returns less than all of data and not done, data is not what the
// framing promised.
func (d *direction) body(data []byte) (n int, done bool) {
	if d.state == dirChunked {
		n, done, _ = d.chunks.scan(data)
		return n, done
	}
	k := min(d.remain, uint64(len(data)))
	d.remain -= k
	return int(k), d.remain == 0
}

// collect keeps further bytes of a head and looks for its end; ok is false where there is no memory.
func (s *Streams) collect(d *direction, data []byte) (n int, done, ok bool) {
	n, d.eol, done = headEnd(data, d.eol)
	keep := data[:n]
	if room := headMax - len(d.head); len(keep) > room {
		keep, d.long = keep[:room], true
	}
	if len(d.head)+len(keep) > cap(d.head) && !s.growHead(d, len(keep)) {
		return n, false, false
	}
	d.head = append(d.head, keep...)
	return n, done, true
}

// growHead makes room for n more bytes of a head.
func (s *Streams) growHead(d *direction, n int) bool {
	if spare := len(s.spareHeads); spare > 0 && d.head == nil && cap(s.spareHeads[spare-1]) >= n {
		d.head, s.spareHeads = s.spareHeads[spare-1], s.spareHeads[:spare-1]
		return true
	}
	size := min(max(2*cap(d.head), 1<<10), headMax)
	for size < len(d.head)+n {
		size *= 2
	}
	if !s.reserve(size - cap(d.head)) {
		return false
	}
	d.head = append(make([]byte, 0, size), d.head...)
	return true
}

// dropHead gives a head's memory back.
func (s *Streams) dropHead(d *direction) {
	if d.head == nil {
		return
	}
	if len(s.spareHeads) < spareMax {
		s.spareHeads = append(s.spareHeads, d.head[:0])
	} else {
		s.stats.Bytes -= cap(d.head)
	}
	d.head, d.long = nil, false
}

// pendingBytes is what a pending takes beside its text, by the allocator's size class.
const pendingBytes = 576

// newPending returns an empty pending, or nil where there is no memory.
func (s *Streams) newPending() *pending {
	if n := len(s.sparePending); n > 0 {
		p := s.sparePending[n-1]
		s.sparePending = s.sparePending[:n-1]
		*p = pending{text: p.text[:0]}
		return p
	}
	if !s.reserve(pendingBytes) {
		return nil
	}
	return &pending{}
}

// release gives a pending's memory back.
func (s *Streams) release(p *pending) {
	if len(s.sparePending) < spareMax {
		s.sparePending = append(s.sparePending, p)
		return
	}
	s.stats.Bytes -= pendingBytes + cap(p.text)
}

// describe copies what a request says into p, which outlives the bytes; texts are cut to what anyone could want to see.
// It returns false where there is no memory.
func (s *Streams) describe(p *pending, r *Request) bool {
	describe(r, &p.ex)
	ex := &p.ex
	texts := [...]struct {
		p   *[]byte
		max int
	}{
		{&ex.Path, 1024}, {&ex.Host, 256}, {&ex.UserAgent, wire.UserAgentBytesMax + 1}, {&ex.RequestID, wire.RequestIDBytesMax + 1},
		{&ex.TraceParent, traceParentBytes + 1}, {&ex.ForwardedFor, forwardedNodeMax + 3}, {&ex.MethodOriginal, wire.MethodBytesMax},
	}
	n := 0
	for _, t := range texts {
		*t.p = (*t.p)[:min(len(*t.p), t.max)]
		n += len(*t.p)
	}
	if n > cap(p.text) {
		if n = max(n, 256); !s.reserve(n - cap(p.text)) {
			for _, t := range texts {
				*t.p = nil
			}
			return false
		}
		p.text = make([]byte, 0, n)
	}
	p.text = ex.Pack(p.text)
	p.known = true
	return true
}

// refused tells whether a request's body was not asked for, and none of it has come: another request may come in its place.
func (p *pending) refused() bool {
	return p != nil && p.expects && p.answered && p.ex.Code >= 300 && p.ex.RequestSize == 0
}

// requested counts bytes of the request's body.
func (p *pending) requested(n uint64) {
	if p != nil && p.ex.RequestSize >= 0 {
		p.ex.RequestSize = addSize(p.ex.RequestSize, n)
	}
}

// responded counts bytes of the response's body.
func (p *pending) responded(n uint64) {
	if p != nil && !p.fixed && p.ex.ResponseSize >= 0 {
		p.ex.ResponseSize = addSize(p.ex.ResponseSize, n)
	}
}

// addSize adds without overflow: a length is the kernel side's word, and must not turn a size negative.
func addSize(size int64, n uint64) int64 {
	return int64(min(uint64(size)+min(n, math.MaxInt64), math.MaxInt64))
}

// lengthOf returns how many bytes a fragment stands for.
func lengthOf(f *wire.Fragment) uint64 { return max(f.Length, uint64(len(f.Data))) }

// uncaptured returns how many bytes behind f.Data were not captured.
func uncaptured(f *wire.Fragment) uint64 { return lengthOf(f) - uint64(len(f.Data)) }

// seenAt returns the instant of a fragment's last byte, or 0 where no hook saw it.
func seenAt(f *wire.Fragment) int64 {
	if f.Flags&wire.FlagUnreadable != 0 {
		return 0
	}
	return f.At
}

// endsChunks tells whether a fragment ends with a last chunk without trailers.
func endsChunks(f *wire.Fragment) bool {
	last := []byte("0\r\n\r\n")
	n := len(f.Data) - len(last)
	return uncaptured(f) == 0 && bytes.HasSuffix(f.Data, last) && (n == 0 || f.Data[n-1] == '\n')
}

// headEnd looks for the blank line that ends a head. eol is the state behind the bytes before b; n counts the bytes up
// to and including the blank line, or all.
func headEnd(b []byte, eol uint8) (n int, _ uint8, done bool) {
	for n < len(b) {
		switch {
		case eol == 0:
			k := bytes.IndexByte(b[n:], '\n')
			if k < 0 {
				return len(b), 0, false
			}
			n += k + 1
			eol = 1
		case b[n] == '\n':
			return n + 1, 0, true
		case b[n] == '\r' && eol == 1:
			n++
			eol = 2
		default:
			eol = 0
		}
	}
	return n, eol, false
}

// plausibleRequest tells whether a fragment begins with what is almost certainly a request line: a whole one, or a
// known method and the beginning of a target.
func (s *Streams) plausibleRequest(b []byte) bool {
	b = b[skipEmptyLines(b):]
	n := wire.TokenLen(b)
	if n == 0 || n+1 >= len(b) || b[n] != ' ' {
		return false
	}
	if nl := bytes.IndexByte(b, '\n'); nl >= 0 {
		return s.request.line(trimCR(b[:nl])) == nil
	}
	return methodName(b[:n]) != methodOther && b[n+1] > ' ' && s.request.cutLine(b) == nil
}

// plausibleResponse tells whether a fragment begins with a status line.
func plausibleResponse(b []byte) bool {
	b = b[skipEmptyLines(b):]
	return len(b) >= 12 && string(b[:7]) == "HTTP/1." && wire.IsDigit(b[7]) && b[8] == ' ' &&
		wire.IsDigit(b[9]) && wire.IsDigit(b[10]) && wire.IsDigit(b[11])
}
