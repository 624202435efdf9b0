package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/wire"
)

// Of an exchange and its swept copies exactly one counts, as reported or as lost, whichever of them are dropped, come in
// which order, or are not understood. A letter is an event of one exchange: F its final record, S a swept copy whose
// framing is known, s one that does not show the response's end, B a framed copy and G a final record that cannot be
// parsed; behind a minus it was dropped. P is the exchange as an irregular connection shows it.
func TestCountedOnce(t *testing.T) {
	for _, c := range []struct {
		events          string
		reported        int
		dropped, parsed uint64
	}{
		{"F", 1, 0, 0}, {"-F", 0, 1, 0},
		{"S", 1, 0, 0}, {"-S", 0, 1, 0},
		{"s", 0, 0, 0}, {"s F", 1, 0, 0}, {"s -F", 0, 1, 0},
		{"S F", 1, 0, 0}, {"S -F", 1, 0, 0}, {"-S F", 0, 1, 0}, {"-S -F", 0, 1, 0},
		{"F S", 1, 0, 0}, {"F -S", 1, 0, 0}, {"-F S", 0, 1, 0}, {"-F -S", 0, 1, 0}, // swept while it moved on
		{"S S F", 1, 0, 0}, {"S -S -F", 1, 0, 0}, {"s S F", 1, 0, 0}, {"-S S F", 0, 1, 0},
		{"G", 0, 0, 1}, {"B", 0, 0, 1}, {"B G", 0, 0, 1}, {"-B G", 0, 1, 0}, {"B -G", 0, 0, 1},
		{"P", 1, 0, 0}, {"S P", 1, 0, 0},
	} {
		engine := analytics.NewEngine(analytics.Options{})
		w := newWorker(defaultConfig(), host.Filter{}, engine, new(export.TraceHub))
		for _, event := range strings.Fields(c.events) {
			play(w, event)
		}
		reported := 0
		for _, kind := range engine.Snapshot().Exchanges {
			reported += int(kind.Count)
		}
		got := fmt.Sprint(reported, w.dropped, w.unparsed)
		if want := fmt.Sprint(c.reported, c.dropped, c.parsed); got != want {
			t.Errorf("%s: reported, dropped and parse are %s, expected %s", c.events, got, want)
		}
	}
}

// Requests with the same head, which is understood once, are kept with the addresses, times and sizes of their own, and with
// the hash of the user where a header is named.
func TestKeptRequests(t *testing.T) {
	config := defaultConfig()
	config.Trace.UserHeader = "X-User"
	w := newWorker(config, host.Filter{}, analytics.NewEngine(analytics.Options{}), new(export.TraceHub))
	const request, response = "GET /fast HTTP/1.1\r\nX-User: alice\r\nCookie: secret\r\n\r\n", "HTTP/1.1 200 OK"
	now := host.Monotonic()
	for i := range 5 {
		w.Record(&wire.Record{
			Conn: uint64(i) << 8, Role: wire.RoleServer, Flags: wire.FlagFramed, Request: []byte(request), Response: []byte(response),
			Arrived: now - int64(i+1)*1000, Read: now - 500, Responded: now - 100, Finished: now,
			RequestBytes: uint64(len(request)), ResponseHead: 20, ResponseBytes: uint64(20 + i),
			Addresses: wire.Addresses{Family: wire.FamilyIPv4, LocalAddr: [16]byte{127, 0, 0, 1}, RemoteAddr: [16]byte{10, 0, 0, byte(i)},
				LocalPort: 80, RemotePort: uint16(1000 + i)},
		})
	}
	seen := map[string]bool{}
	w.requests.Each(analytics.RequestSlowest, wire.RoleServer, func(ex *wire.Exchange) {
		i := int(ex.Conn >> 8)
		seen[fmt.Sprint(i)] = true
		got := fmt.Sprintf("%s %d %d %s %t %t", ex.Client(), ex.Duration(), ex.ResponseSize, ex.Path, ex.UserHash != 0, w.clock.Time(ex.Arrived).Equal(ex.Time))
		if want := fmt.Sprintf("10.0.0.%d:%d %d %d /fast true true", i, 1000+i, (i+1)*1000, i); got != want {
			t.Errorf("%s, expected %s", got, want)
		}
	})
	if len(seen) != 5 {
		t.Errorf("%d of 5 are kept", len(seen))
	}
}

// play lets one event of TestCountedOnce happen.
func play(w *worker, event string) {
	const request, response = "GET /fast HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	rec := wire.Record{
		Conn: 7 << 8, Seq: 3, Role: wire.RoleServer, Flags: wire.FlagFramed,
		Arrived: 1, Read: 2, Responded: 3, Finished: 4, RequestBytes: uint64(len(request)), ResponseBytes: uint64(len(response) + 5),
		Request: []byte(request), Response: []byte(response[:16]), ResponseHead: len(response),
	}
	letter, isDropped := strings.CutPrefix(event, "-")
	switch letter {
	case "S", "B":
		rec.Flags |= wire.FlagSwept
	case "s":
		rec.Flags, rec.Response, rec.ResponseBytes = wire.FlagSwept, []byte(response), uint64(len(response))
	case "P":
		w.emit(&wire.Exchange{Conn: rec.Conn, Seq: rec.Seq, Role: rec.Role, Method: "GET", Status: 200, Arrived: 1, Finished: 4})
		return
	}
	if letter == "B" || letter == "G" {
		rec.Request = []byte("\x00")
	}
	if isDropped {
		w.Dropped(rec.Conn, rec.Seq, rec.Flags)
		return
	}
	w.Record(&rec)
}
