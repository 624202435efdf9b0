package main

import (
	"cmp"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/clock"
	"github.com/perfagent/perfagent/test/servers"
)

const (
	visibleTimeout = 5 * time.Second
	// A response up to this size is in the client's socket as soon as the server has handed it over.
	smallResponse = 16 << 10
)

// truth is what the clocks say of one exchange at one end. A span that no clock saw is zero.
type truth struct {
	id, role                         string
	status                           int
	errorType                        string
	start, read, responded, finished clock.Span
	result                           client.Result
	clientPort, serverPort           int
}

// measure runs one case and returns its rows: the server's end and the client's.
func (b *bench) measure(c measurement, kind servers.Kind) ([]*row, error) {
	truths, err := b.truths(c, kind)
	if err != nil {
		return nil, err
	}
	rows := []*row{
		{server: string(kind), name: c.name, role: "server", sent: len(truths) / 2},
		{server: string(kind), name: c.name, role: "client", sent: len(truths) / 2},
	}
	for _, e := range b.collect(truths) {
		r := rows[0]
		if e.Role == "client" {
			r = rows[1]
		}
		r.add(truths[e.RequestID+e.Role], e)
	}
	return rows, nil
}

// truths runs one case and returns what the clocks say of each exchange, by request id and role.
func (b *bench) truths(c measurement, kind servers.Kind) (map[string]truth, error) {
	s := b.running[kind]
	r := &runner{bench: b, server: s, kind: kind}
	if err := c.run(r); err != nil {
		return nil, err
	}
	truths := map[string]truth{}
	for _, conn := range r.connections {
		var theirs clock.Ops
		if instrumented(kind) {
			var err error
			if theirs, err = s.Ops(conn.key); err != nil {
				return nil, err
			}
		}
		for _, result := range conn.results {
			for _, t := range truthsOf(conn, result, theirs) {
				t.result, t.serverPort, t.clientPort = result, s.Port, portOf(conn.LocalAddr())
				truths[t.id+t.role] = t
			}
		}
	}
	return truths, nil
}

func portOf(a net.Addr) int {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.Port
	}
	return 0
}

// describes tells whether a reported exchange has the fields of the request and the response, as the client sent and got
// them.
func (t *truth) describes(e agent.Exchange) bool {
	n, err := strconv.Atoi(strings.TrimPrefix(t.id, "accuracy-"))
	if err != nil {
		return false
	}
	got := fields{e.TraceID, e.SpanID, e.UserAgent, e.ForwardedFor}
	if got != fieldsOf(n) || e.Method != methodOf(t.result) || e.Protocol != protocolOf(t.result) || e.ServerPort != t.serverPort || e.ClientPort != t.clientPort {
		return false
	}
	if t.errorType != "" {
		return true // no response, and no size of it
	}
	return e.RequestSize != nil && *e.RequestSize == t.result.RequestBodySize && e.ResponseSize != nil && *e.ResponseSize == t.result.BodySize
}

func methodOf(r client.Result) string { return cmp.Or(r.Method, "GET") }

func protocolOf(r client.Result) string { return strings.ToLower(cmp.Or(r.Proto, "HTTP/1.1")) }

// collect waits until the agent shows as many exchanges as were made, and returns them all, doubles included.
func (b *bench) collect(truths map[string]truth) []agent.Exchange {
	for deadline := time.Now().Add(visibleTimeout); ; time.Sleep(20 * time.Millisecond) {
		var found []agent.Exchange
		for _, e := range b.agent.Exchanges() {
			if _, ok := truths[e.RequestID+e.Role]; ok {
				found = append(found, e)
			}
		}
		if len(found) >= len(truths) || time.Now().After(deadline) {
			return found
		}
	}
}

// truthsOf joins the clocks of both ends for one exchange by the offsets of its bytes.
func truthsOf(c *connection, r client.Result, theirs clock.Ops) []truth {
	sent := c.ours.SpanAt(true, r.RequestStart)
	server := truth{id: r.ID, role: "server", status: r.Status, start: sent}
	server.read = theirs.SpanAt(false, r.RequestStart)
	ours := truth{id: r.ID, role: "client", status: r.Status, start: sent}
	if c.cut != whole {
		server.errorType, ours.errorType = "aborted", "aborted"
		server.finished, ours.finished = c.cut.ends(c.ours, theirs)
		return []truth{server, ours}
	}
	// An interim response of its own is no response yet.
	server.responded = theirs.SpanAt(true, r.Start)
	server.finished = theirs.SpanAt(true, r.End-1)
	// A response does not arrive before the server hands it over, nor before the request was begun.
	ours.responded = arrival(c.ours, r.Start, clock.Span{Before: max(sent.Before, server.responded.Before)})
	if c.late {
		ours.responded = server.responded // as below: nothing stands between
	}
	ours.finished = c.ours.SpanAt(false, r.End-1)
	if len(theirs) == 0 {
		// Nothing stands between handing bytes over on loopback and their arrival, which the client saw.
		server.responded = ours.responded
		if r.End-r.Start <= smallResponse {
			server.finished = arrival(c.ours, r.End-1, sent)
		}
	}
	return []truth{server, ours}
}

// arrival returns when the response byte at offset reached the client's socket: after the socket was last seen empty,
// and after from; before the client had read it.
func arrival(ours clock.Ops, offset uint64, from clock.Span) clock.Span {
	op, ok := ours.At(false, offset)
	if !ok {
		return clock.Span{}
	}
	return clock.Span{Before: max(op.Empty, from.Before), After: op.After}
}

// add compares one reported exchange with the truth.
func (r *row) add(t truth, e agent.Exchange) {
	r.reported++
	if e.Status != t.status || e.ErrorType != t.errorType {
		r.wrong++
		return
	}
	if !t.describes(e) {
		r.fields++
	}
	if t.start.Known() && t.finished.Known() {
		span := t.finished.Sub(t.start)
		r.windowsNS = append(r.windowsNS, span.After-span.Before)
	}
	compare(&r.duration, t.start, t.finished, e.DurationNS)
	if t.errorType != "" {
		return // no response: no phases
	}
	compare(&r.transfer, t.responded, t.finished, e.TransferNS)
	if r.role == "client" {
		compare(&r.first, t.start, t.responded, e.ProcessingNS)
		return
	}
	compare(&r.queue, t.start, t.read, e.QueueNS)
	compare(&r.processing, t.read, t.responded, e.ProcessingNS)
	if e.QueueNS != nil && e.ProcessingNS != nil {
		first := *e.QueueNS + *e.ProcessingNS
		compare(&r.first, t.start, t.responded, &first)
	}
}

// compare adds the error of a reported quantity. A quantity that the agent does not report although clocks saw it
// is wrong by all of it.
func compare(q *quantity, from, to clock.Span, reported *int64) {
	if !from.Known() || !to.Known() {
		return
	}
	span := to.Sub(from)
	span.Before = max(span.Before, 0) // instants are in order, whatever the clocks' windows allow
	limit := max(limitNS, limitRelative*float64(span.After))
	switch {
	case float64(span.After-span.Before) > limit:
		q.blurred++
	case reported == nil:
		q.add(max(float64(span.After), 2*limit), limit)
	default:
		q.add(float64(span.Error(*reported)), limit)
	}
}
