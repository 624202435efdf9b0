package main

import (
	"fmt"
	"maps"
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

// The names in paths become a parameter when there are many, and what was counted before goes over to it: also of requests
// whose heads are known, which the router does not see one by one.
func TestWorkerLearnsRoutes(t *testing.T) {
	engine := analytics.NewEngine(analytics.Options{})
	w := newWorker(defaultConfig(), host.Filter{}, engine, new(export.TraceHub))
	const rounds = 40
	names := strings.Fields("mossy amber fuzzy hollow crooked velvet rustic gloomy sleepy brisk copper lunar")
	send := func(path string) {
		request := "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"
		w.Record(&wire.Record{
			Conn: 7 << 8, Seq: 3, Role: wire.RoleServer, Arrived: 1, Read: 2, Responded: 3, Finished: 4,
			RequestBytes: uint64(len(request)), Request: []byte(request),
			ResponseBytes: 38, Response: []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
		})
	}
	for range rounds {
		for _, name := range names {
			send("/blog/" + name + "/comments")
		}
		send("/status")
	}
	w.router.Think()
	w.engine.Reroute(w.router.Current)
	got := map[string]uint64{}
	for _, e := range engine.Snapshot().Endpoints {
		got[e.Route] = e.Series[0].Duration.Count()
	}
	want := map[string]uint64{"/blog/{name}/comments": uint64(rounds * len(names)), "/status": rounds}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
