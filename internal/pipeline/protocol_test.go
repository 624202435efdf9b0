package pipeline

import (
	"testing"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/wire"
)

// Every number that a record may have has a protocol, with a name of its own in the metrics.
func TestProtocolsComplete(t *testing.T) {
	names := map[string]bool{}
	for i, p := range protocols {
		if p.name == "" || p.open == nil || names[p.name] {
			t.Errorf("protocol %d, %q, has no row of its own", i, p.name)
		}
		names[p.name] = true
	}
}

// booked is how many exchanges an engine has counted and its worker has lost.
func booked(w *Worker) (n uint64) {
	w.Engine.SetLost(wire.LostUnreadable, w.unreadable)
	w.Engine.SetLost(wire.LostDesync, w.desync)
	w.Engine.SetLost(wire.LostParse, w.unparsed)
	w.Engine.SetLost(wire.LostQueueFull, w.dropped)
	books := w.Engine.Snapshot().Books(0)
	return books.Reported + books.Lost
}

// Whatever an exchange's bytes are, in any protocol, and whether a swept copy comes before its final record or not, it is counted
// once or lost once; and no fragments make a protocol panic or hold more than it may.
func FuzzProtocols(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), uint16(0), false)
	f.Add([]byte("POST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\n"), []byte("HTTP/1.1 100 Continue\r\n\r\n"), uint16(wire.FlagClosed), true)
	f.Add([]byte{}, []byte{}, uint16(wire.FlagUnreadable), true)
	f.Fuzz(func(t *testing.T, request, response []byte, flags uint16, sweptBefore bool) {
		for p := range wire.Protocols {
			now := int64(0)
			w := newWorker(analytics.NewEngine(analytics.Options{}), nil)
			rec := wire.Record{
				Conn: 1 << 8, Role: wire.RoleServer, Protocol: p, Flags: wire.Flags(flags) &^ wire.FlagSwept, Arrived: 1, Read: 2, Responded: 3,
				Finished: 4, RequestBytes: uint64(len(request)), ResponseBytes: uint64(len(response)), Request: request, Response: response,
			}
			if sweptBefore {
				copied := rec
				copied.Flags |= wire.FlagSwept
				w.Record(&copied)
			}
			w.Record(&rec)
			if n := booked(w); n != 1 {
				t.Errorf("protocol %d: one exchange is in the books %d times", p, n)
			}
			for i, data := range [][]byte{request, response} {
				fragment := wire.Fragment{Conn: 2 << 8, Role: wire.RoleServer, Protocol: p, At: now, Length: uint64(len(data)), Data: data}
				if i == 0 {
					fragment.Flags = wire.FlagRequestDirection
				}
				w.Fragment(&fragment)
			}
			w.protocols[p].Sweep(1<<60, 0)
			w.protocols[p].EachActive(func(uint32, *[16]byte) { t.Error("a connection without fragments is still known") })
		}
	})
}
