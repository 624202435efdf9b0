package http

import (
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// streamsMax bounds how many irregular connections are followed at once (about 400 bytes each, beside what
	// streamBytesMax counts).
	streamsMax = 4096
	// streamBytesMax bounds the memory of partial heads and of requests that wait for their response.
	streamBytesMax = 16 << 20
	// streamIdleMax is how long a connection stays known without a fragment; its end may have been missed.
	streamIdleMax = 5 * time.Minute
	// answeringIdleFactor prolongs that for a connection inside a response: an event stream may be silent for long.
	answeringIdleFactor = 12
	// headMax is how much of a head is kept when it comes in pieces; the rest is only searched for its end.
	headMax = 8 << 10
	// refusedMax bounds how many refused connections are remembered, so that they are not taken up in their middle.
	refusedMax = 1 << 14
	// quietAfter is how long a response whose end was not captured must be silent to be taken for complete.
	quietAfter = 200 * time.Millisecond
	// spareMax bounds how many unused objects of a kind are kept for the next connection.
	spareMax = 256
)

// StreamOptions bound Streams and connect it to its surroundings; the zero value is sensible.
type StreamOptions struct {
	MaxStreams int           // connections followed at once; 0: 4096
	MaxBytes   int           // memory for partial heads and outstanding requests; 0: 16 MiB
	MaxIdle    time.Duration // a connection without fragments is forgotten after this; 0: 5 minutes

	Lost    func(loss wire.Loss, n int) // told of exchanges that happened and are not reported; nil: nobody
	Failed  func(err *ParseError)       // told of heads that were not understood; nil: nobody
	Ignored func(conn uint64)           // told once that a connection no longer speaks HTTP/1; nil: nobody

	User *UserHeader // the header that tells users apart; nil: none
}

// StreamStats is what Streams holds and did.
type StreamStats struct {
	Streams  int    // connections followed now
	Bytes    int    // memory of partial heads and outstanding requests
	Requests uint64 // requests that began
	Reported uint64 // exchanges emitted
	Lost     uint64 // exchanges not emitted
}

// Streams does the whole HTTP/1 framing of irregular connections, from fragments of both directions. One goroutine
// uses it.
//
// Requests are queued when their first byte is seen, and responses belong to the oldest request that has none: that
// is the only order that HTTP/1 allows. Bytes that were not captured are passed over by known body lengths. Where that
// fails, the direction is lost until a fragment begins with a start line, and the books are kept as follows:
//
//   - a gap behind the end of a message hides at least one more: a hidden request takes its place in the queue and is
//     counted as lost (desync) when its response is seen; a hidden response makes the oldest request lost;
//   - a gap inside a chunked body is taken to end within that message;
//   - requests that stay without response on a connection that lost a response's end are lost, not aborted;
//   - a response without request is a lost exchange if the requests' direction was ever lost, else unsolicited.
//
// A connection that finds no room (MaxStreams), or needs more memory than there is (MaxBytes), is counted instead of
// followed: one loss (streams_full) for each outstanding request, and for each request that begins within the captured
// bytes of a fragment that itself begins with a request.
type Streams struct {
	opts    StreamOptions
	streams map[uint64]*stream
	refused map[uint64]int64 // connections without room: the last fragment's instant
	stats   StreamStats

	emit func(*wire.Exchange) // of the current call

	request  Request // scratch
	response Response

	spareStreams []*stream
	sparePending []*pending
	spareHeads   [][]byte
}

// NewStreams returns an empty Streams.
func NewStreams(opts StreamOptions) *Streams {
	if opts.MaxStreams == 0 {
		opts.MaxStreams = streamsMax
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = streamBytesMax
	}
	if opts.MaxIdle == 0 {
		opts.MaxIdle = streamIdleMax
	}
	return &Streams{opts: opts, streams: map[uint64]*stream{}, refused: map[uint64]int64{}, request: Request{user: opts.User}}
}

// Stats returns what s holds and did.
func (s *Streams) Stats() StreamStats {
	st := s.stats
	st.Streams = len(s.streams)
	return st
}

// EachActive calls visit, for every request that a server was sent and has not answered to its end, with the process that
// read it and its task name. What was reported as a timeout has ended.
func (s *Streams) EachActive(visit func(pid uint32, comm *[16]byte)) {
	for _, st := range s.streams {
		if st.role != wire.RoleServer {
			continue
		}
		for _, p := range st.waiting() {
			if !p.reported && !p.answered {
				visit(p.ex.PID, &p.ex.Comm)
			}
		}
	}
}

// Fragment takes the next fragment of a connection and calls emit for each exchange that it ends. The exchange is
// valid during the call only.
func (s *Streams) Fragment(f *wire.Fragment, emit func(*wire.Exchange)) {
	s.emit = emit
	st := s.streams[f.Conn]
	if st == nil {
		if st = s.open(f); st == nil {
			s.refuse(f)
			return
		}
	}
	st.last = f.At
	s.missed(st, f)
	switch {
	case st.state == streamIgnored:
	case st.state == streamDropped:
		s.count(f)
	case f.Length == 0 && len(f.Data) == 0:
	case f.Flags&wire.FlagRequestDirection != 0:
		s.requestFragment(st, f)
	default:
		s.responseFragment(st, f)
	}
	if f.Flags&wire.FlagChunks != 0 && st.state == streamFollowed {
		s.place(st, f)
	}
	if f.Flags&wire.FlagClosed != 0 {
		s.close(st, f)
	}
}

// place takes over the kernel side's place in a chunked body, of whose bytes so far only the first were captured.
func (s *Streams) place(st *stream, f *wire.Fragment) {
	d := &st.responses
	if f.Flags&wire.FlagRequestDirection != 0 {
		d = &st.requests
	}
	at, ok := chunkedAt(f.Chunks)
	if !ok || d.state != dirChunked && !(d.state == dirLost && d.coded) {
		return
	}
	d.state, d.chunks, d.coded = dirChunked, at, false
	if d == &st.responses {
		st.unsure = false
	} else {
		st.blind = false
	}
}

// missed makes up for fragments that were lost on the way: bytes of unknown content, in front of f.
func (s *Streams) missed(st *stream, f *wire.Fragment) {
	d := &st.responses
	if f.Flags&wire.FlagRequestDirection != 0 {
		d = &st.requests
	}
	gap := f.Position - d.next
	if f.Position > d.next && d.next > 0 && st.state == streamFollowed {
		hole := *f
		hole.Data, hole.Length, hole.Flags = nil, gap, f.Flags&^wire.FlagClosed
		if d == &st.requests {
			s.requestFragment(st, &hole)
		} else {
			s.responseFragment(st, &hole)
		}
	}
	d.next = max(d.next, f.Position) + f.Length
}

// Sweep does what only the passing of time tells, at the monotonic instant now: it emits, once, requests without
// response for the deadline as "timeout" (a response that comes later is not reported again), ends responses whose end
// was not captured and that fell silent, and forgets connections that were idle for MaxIdle.
func (s *Streams) Sweep(now int64, deadline time.Duration, emit func(*wire.Exchange)) {
	s.emit = emit
	for _, st := range s.streams {
		if st.state == streamFollowed {
			s.sweep(st, now, deadline)
		}
		idle := int64(s.opts.MaxIdle)
		if st.responses.owner != nil {
			idle *= answeringIdleFactor
		}
		if now-st.last >= idle {
			s.abandon(st, wire.LostDesync)
			s.forget(st)
		}
	}
	for conn, last := range s.refused {
		if now-last >= int64(s.opts.MaxIdle) {
			delete(s.refused, conn)
		}
	}
}

// open makes room for a connection, or returns nil.
func (s *Streams) open(f *wire.Fragment) *stream {
	if _, refused := s.refused[f.Conn]; refused || len(s.streams) >= s.opts.MaxStreams {
		return nil
	}
	var st *stream
	if n := len(s.spareStreams); n > 0 {
		st, s.spareStreams = s.spareStreams[n-1], s.spareStreams[:n-1]
	} else {
		st = &stream{}
	}
	*st = stream{conn: f.Conn, base: f.Seq, role: f.Role, local: f.Local, remote: f.Remote, queue: st.queue[:0]}
	if f.Flags&wire.FlagOlder != 0 && f.Seq == 0 { // possibly joined inside a message
		st.requests.state, st.responses.state = dirLost, dirLost
	}
	s.streams[f.Conn] = st
	return st
}

// refuse counts the requests of a connection without room.
func (s *Streams) refuse(f *wire.Fragment) {
	s.count(f)
	switch _, known := s.refused[f.Conn]; {
	case f.Flags&wire.FlagClosed != 0:
		delete(s.refused, f.Conn)
	case known || len(s.refused) < refusedMax:
		s.refused[f.Conn] = f.At
	}
}

// count adds the requests that begin in a fragment to the losses, without any state.
func (s *Streams) count(f *wire.Fragment) {
	if f.Flags&wire.FlagRequestDirection == 0 {
		return
	}
	n := 0
	for data := f.Data; s.plausibleRequest(data); n++ {
		if ParseRequest(data, &s.request) != nil || !s.request.Complete {
			n++
			break
		}
		data = data[s.request.HeadLen:]
		switch r := &s.request; {
		case r.Chunked:
			var c chunked
			k, _, _ := c.scan(data)
			data = data[k:]
		case r.ContentLength > 0:
			data = data[min(r.ContentLength, int64(len(data))):]
		}
	}
	s.stats.Requests += uint64(n)
	s.lose(wire.LostStreams, n)
}

// sweep looks at one connection.
func (s *Streams) sweep(st *stream, now int64, deadline time.Duration) {
	d := &st.responses
	if d.state == dirLost && !d.broken && d.owner != nil && now-d.lastAt >= int64(quietAfter) {
		s.finish(st, d.endAt)
	}
	if d.owner != nil { // the oldest is being answered, and the others wait behind it
		return
	}
	for _, p := range st.waiting() {
		if p.reported || now-p.seen < int64(deadline) {
			continue
		}
		s.unanswered(st, p, wire.ClassTimeout, now)
		p.reported = true
	}
}

// unanswered reports a request without response, or counts it where it may well have had one.
func (s *Streams) unanswered(st *stream, p *pending, class wire.Class, now int64) {
	if p.reported {
		return
	}
	if p.answered {
		s.report(p)
		p.reported = true
		return
	}
	s.understand(st, p, true)
	switch {
	case p.loss != (wire.Loss{}):
		s.lose(p.loss, 1)
	case st.unsure:
		s.lose(wire.LostDesync, 1)
	default:
		p.ex.Finished, p.ex.Outcome = now, CutOff(class, p.ex.Code)
		if class == wire.ClassTimeout {
			p.ex.Flags |= wire.FlagTimeout
		} else {
			p.ex.Flags |= wire.FlagClosed
		}
		s.report(p)
	}
}

// close ends a connection: what was being answered until the end of the connection is complete, unless that was a reset, and
// what has no response is aborted.
func (s *Streams) close(st *stream, f *wire.Fragment) {
	d, at, reset := &st.responses, f.At, f.Flags&wire.FlagCut != 0
	if p := d.owner; p != nil {
		switch {
		case d.state == dirClose && !reset, d.state == dirLost && !d.broken:
			s.finish(st, d.endAt)
		case d.state == dirHead:
			if s.partialStatus(st, d) {
				s.abort(st, at)
			}
		default:
			s.abort(st, at)
		}
	}
	half, open := f.Flags&wire.FlagHalf != 0, st.requests.owner
	if half && open != nil && open.answered {
		return // how long its body is shows at the end
	}
	for _, p := range st.waiting() {
		s.unanswered(st, p, wire.ClassAborted, at)
	}
	if half {
		s.silence(st)
		return
	}
	s.forget(st)
}

// silence stops following a connection of which nothing is outstanding until its end comes: nobody answers what may still pass.
func (s *Streams) silence(st *stream) {
	for _, p := range st.waiting() {
		s.release(p)
	}
	clear(st.queue)
	st.queue, st.first = st.queue[:0], 0
	s.dropHead(&st.requests)
	s.dropHead(&st.responses)
	st.requests, st.responses = direction{}, direction{}
	st.state = streamIgnored
}

// abandon counts what a connection still owes.
func (s *Streams) abandon(st *stream, loss wire.Loss) {
	for _, p := range st.waiting() {
		switch {
		case p.reported:
		case p.answered:
			p.ex.RequestSize = -1 // not all of it was seen
			s.report(p)
		default:
			s.lose(loss, 1)
		}
		s.release(p)
	}
	st.queue, st.first = st.queue[:0], 0
	s.dropHead(&st.requests)
	s.dropHead(&st.responses)
	st.requests, st.responses = direction{}, direction{}
}

// drop stops following a connection for which there is no memory.
func (s *Streams) drop(st *stream) {
	s.abandon(st, wire.LostStreams)
	st.state = streamDropped
}

// ignore stops following a connection that is no longer HTTP. Requests behind the one that ended it were none.
func (s *Streams) ignore(st *stream) {
	for _, p := range st.waiting() {
		if !p.reported {
			p.reported = true
			s.stats.Requests--
		}
	}
	s.abandon(st, wire.Loss{})
	st.state = streamIgnored
	if s.opts.Ignored != nil {
		s.opts.Ignored(st.conn)
	}
}

// forget removes a connection.
func (s *Streams) forget(st *stream) {
	for _, p := range st.waiting() {
		s.release(p)
	}
	s.dropHead(&st.requests)
	s.dropHead(&st.responses)
	delete(s.streams, st.conn)
	clear(st.queue)
	if cap(st.queue) > 64 {
		st.queue = nil
	}
	if len(s.spareStreams) < spareMax {
		s.spareStreams = append(s.spareStreams, st)
	}
}

// report hands an exchange over.
func (s *Streams) report(p *pending) {
	s.stats.Reported++
	s.emit(&p.ex)
}

// lose counts n exchanges that are not reported.
func (s *Streams) lose(loss wire.Loss, n int) {
	if n == 0 {
		return
	}
	s.stats.Lost += uint64(n)
	if s.opts.Lost != nil {
		s.opts.Lost(loss, n)
	}
}

// failed tells of a head that was not understood.
func (s *Streams) failed(err error) {
	if e, ok := err.(*ParseError); ok && s.opts.Failed != nil {
		s.opts.Failed(e)
	}
}

// reserve accounts for n more bytes, or returns false where there is no room.
func (s *Streams) reserve(n int) bool {
	if s.stats.Bytes+n > s.opts.MaxBytes {
		return false
	}
	s.stats.Bytes += n
	return true
}
