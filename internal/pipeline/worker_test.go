package pipeline

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/route"
	"github.com/perfagent/perfagent/internal/trace"
	"github.com/perfagent/perfagent/internal/wire"
)

// newWorker returns a worker for the engine, without a probe.
func newWorker(engine *analytics.Engine, user *http.UserHeader) *Worker {
	return New(Options{
		Engine: engine, Requests: analytics.NewRequests(analytics.RequestsOptions{Now: host.Monotonic}), Hub: new(trace.Hub),
		Sampler: host.NewSampler(host.SamplerOptions{}), Clock: host.NewClock(host.ClockOptions{}), User: user,
	})
}

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
		w := newWorker(engine, nil)
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
	w := newWorker(analytics.NewEngine(analytics.Options{}), http.NewUserHeader("X-User"))
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
	w.Requests.Each(analytics.RequestSlowest, wire.RoleServer, func(ex *wire.Exchange) {
		i := int(ex.Conn >> 8)
		seen[fmt.Sprint(i)] = true
		got := fmt.Sprintf("%s %d %d %s %t %t", ex.Client(), ex.Duration(), ex.ResponseSize, ex.Path, ex.UserHash != 0, w.Clock.Time(ex.Arrived).Equal(ex.Time))
		if want := fmt.Sprintf("10.0.0.%d:%d %d %d /fast true true", i, 1000+i, (i+1)*1000, i); got != want {
			t.Errorf("%s, expected %s", got, want)
		}
	})
	if len(seen) != 5 {
		t.Errorf("%d of 5 are kept", len(seen))
	}
}

// Series of connections that are not decoded are bounded: the largest have their service, and what is beyond the bound counts
// as another's, by reason, so that nothing is missing from the sum.
func TestUndecodedBound(t *testing.T) {
	counts := make(map[undecodedKey]uint64)
	var want uint64
	for i := range uint64(undecodedMax + 7) {
		counts[undecodedKey{fmt.Sprint("s", i), "tls"}] = i + 10
		want += i + 10
	}
	counts[undecodedKey{"small", "unknown"}] = 1
	all := undecodedBound(counts)
	var sum uint64
	others := make(map[string]uint64)
	for _, u := range all {
		sum += u.Connections
		if u.Service == analytics.Other {
			others[u.Reason] = u.Connections
		}
	}
	if len(all) != undecodedMax+2 || sum != want+1 || others["unknown"] != 1 || others["tls"] != 10+11+12+13+14+15+16 {
		t.Errorf("%d series, sum %d of %d, others %v", len(all), sum, want+1, others)
	}
	if few := undecodedBound(map[undecodedKey]uint64{{"a", "tls"}: 1, {"b", "http2"}: 2}); len(few) != 2 || few[0].Service != "b" {
		t.Errorf("%+v", few)
	}
}

// What was answered in a request's place and is none is one exchange lost as desync, and no head that was not understood.
func TestUnasked(t *testing.T) {
	engine := analytics.NewEngine(analytics.Options{})
	w := newWorker(engine, nil)
	for _, request := range []string{"SECRETBODYWORDS", "SECRET", "GET secret"} {
		w.Record(&wire.Record{
			Conn: 7 << 8, Role: wire.RoleServer, Flags: wire.FlagFramed, Request: []byte(request), RequestBytes: uint64(len(request)),
			Response: []byte("HTTP/1.1 400"), ResponseBytes: 40, ResponseHead: 40, Arrived: 1, Read: 2, Responded: 3, Finished: 4,
		})
	}
	var n uint64
	for _, kind := range engine.Snapshot().Exchanges {
		n += uint64(kind.Count)
	}
	if n != 0 || w.desync != 3 || w.unparsed != 0 {
		t.Errorf("%d exchanges, %d lost as desync, %d as parse; expected 0, 3, 0", n, w.desync, w.unparsed)
	}
}

// play lets one event of TestCountedOnce happen.
func play(w *Worker, event string) {
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
		w.emit(&wire.Exchange{ID: wire.ID{Conn: rec.Conn, Seq: rec.Seq}, Role: rec.Role, Operation: wire.Operation{Verb: "GET"}, Outcome: wire.Outcome{Code: 200}, Arrived: 1, Finished: 4})
		return
	}
	if letter == "B" || letter == "G" {
		rec.Request = []byte("\x00")
	}
	if isDropped {
		w.Lost(rec.Conn, rec.Seq, rec.Flags, wire.LostQueueFull)
		return
	}
	w.Record(&rec)
}

// The names in paths become a parameter when there are many, and what was counted before goes over to it: also of requests
// whose heads are known, which the router does not see one by one.
func TestWorkerLearnsRoutes(t *testing.T) {
	engine := analytics.NewEngine(analytics.Options{})
	w := newWorker(engine, nil)
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
	w.reroute()
	got := map[string]uint64{}
	for _, e := range engine.Snapshot().Endpoints {
		got[e.Name] = e.Series[0].Duration.Count()
	}
	want := map[string]uint64{"/blog/{name}/comments": uint64(rounds * len(names)), "/status": rounds}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A million distinct paths, hosts and user agents of hostile clients: memory stays bounded, every exchange is counted, and
// what is asked for afterwards is found under its route.
func TestWorkerBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("a million exchanges")
	}
	engine := analytics.NewEngine(analytics.Options{})
	w := newWorker(engine, nil)
	r := rand.New(rand.NewPCG(1, 1))
	shapes := []func(i int) string{
		func(i int) string { return fmt.Sprintf("/user/%x/%d", r.Uint64(), i) },
		func(i int) string { return "/" + letters(r, 12) },
		func(i int) string { return "/list/" + letters(r, 3) + "/" + letters(r, 9) + "/" + letters(r, 5) },
		func(i int) string { return "/settings/" + strings.Repeat(letters(r, 2)+"/", 9) },
	}
	send := func(role wire.Role, path, host string, status int) {
		request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n\r\n", path, host, letters(r, 20))
		response := fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", status)
		w.Record(&wire.Record{
			Conn: 7 << 8, Seq: 3, Role: role, Arrived: 1, Read: 2, Responded: 3, Finished: 4,
			RequestBytes: uint64(len(request)), Request: []byte(request), ResponseBytes: uint64(len(response)), Response: []byte(response),
		})
	}
	before := heapInUse()
	const exchanges = 1_000_000
	for i := range exchanges {
		role, status := wire.RoleServer, 200
		if i%4 == 3 {
			role = wire.RoleClient
		}
		if i%5 == 4 {
			status = 404
		}
		send(role, shapes[i/4%len(shapes)](i), letters(r, 8)+".example", status)
		if i%1000 == 999 {
			w.reroute()
		}
	}
	const mebibyte = 1 << 20
	if grown := heapInUse() - before; grown > 48*mebibyte {
		t.Errorf("%d MiB", grown/mebibyte)
	}
	for i := range 5000 {
		send(wire.RoleServer, fmt.Sprint("/account/", i), "x", 200)
	}
	w.reroute()
	s := engine.Snapshot()
	counted, account := uint64(0), uint64(0)
	for _, e := range s.Endpoints {
		for _, series := range e.Series {
			counted += series.Duration.Count()
			if e.Name == "/account/{id}" || e.Name == "/{id}/{id}" { // the root may be full of others' identifiers
				account += series.Duration.Count()
			}
		}
	}
	if want := uint64(exchanges*3/4 + 5000); counted != want || len(s.Endpoints) > analytics.EndpointsDefault+1 {
		t.Errorf("counted %d of %d, %d endpoints", counted, want, len(s.Endpoints))
	}
	if account < 5000 {
		t.Errorf("%d of 5000 under their route", account)
	}
	if targets := len(s.Targets); targets > analytics.EndpointsDefault+1 {
		t.Errorf("%d targets", targets)
	}
	runtime.KeepAlive(w)
}

func letters(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(r.IntN(26))
	}
	return string(b)
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// The agent and a Learner that hears of every request agree on the routes of a small service, though the agent tells its router of
// known heads in bulk, in any order of requests; a first request that nobody answered in time does not stay in "/*".
func TestWorkerAgreesWithLearner(t *testing.T) {
	statuses := map[string]int{"/w/ok": 200, "/w/slow": 200, "/w/err": 502, "/w/redir": 302}
	var paths []string
	for path, n := range map[string]int{"/w/ok": 40, "/w/slow": 8, "/w/err": 9, "/w/redir": 6} {
		paths = append(paths, slices.Repeat([]string{path}, n)...)
	}
	slices.Sort(paths)
	for seed := range uint64(20) {
		engine := analytics.NewEngine(analytics.Options{})
		w := newWorker(engine, nil)
		learner := route.NewLearner()
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
		want := map[string]uint64{}
		for i, path := range paths {
			request, response := "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n", fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", statuses[path])
			rec := wire.Record{Conn: 7 << 8, Seq: uint32(i), Role: wire.RoleServer, Arrived: 1, Read: 2, Responded: 3, Finished: 4,
				RequestBytes: uint64(len(request)), Request: []byte(request), ResponseBytes: uint64(len(response)), Response: []byte(response)}
			status := uint16(statuses[path])
			if i == 0 {
				rec.Flags, rec.Response, rec.ResponseBytes, rec.Responded = wire.FlagTimeout, nil, 0, 0
				status = 0
			}
			w.Record(&rec)
			want[string(learner.Learn(nil, "GET", []byte(path), status, 1))]++
		}
		w.reroute()
		got := map[string]uint64{}
		for _, e := range engine.Snapshot().Endpoints {
			for _, s := range e.Series {
				got[e.Name] += s.Duration.Count()
			}
		}
		if !maps.Equal(got, want) || len(want) != len(statuses) || want["/w/ok"] != 40 {
			t.Errorf("seed %d: the agent has %v, the learner %v", seed, got, want)
		}
	}
}

// A head that is known follows its route: also one that was refused or came in the very request that made the router think.
func TestWorkerRoutesKnownHeads(t *testing.T) {
	engine := analytics.NewEngine(analytics.Options{})
	w := newWorker(engine, nil)
	send := func(path string, status int) {
		request := "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"
		response := fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", status)
		w.Record(&wire.Record{Conn: 7 << 8, Seq: 3, Role: wire.RoleServer, Arrived: 1, Read: 2, Responded: 3, Finished: 4,
			RequestBytes: uint64(len(request)), Request: []byte(request), ResponseBytes: uint64(len(response)), Response: []byte(response)})
	}
	send("/healthz", 404) // the application is starting
	for range 250 {
		send("/healthz", 200)
	}
	for _, name := range strings.Fields("agathe bodo cilly detlef edda frauke gesine hasso ilka jobst kuno lothar meike norbert ottilie roswitha") {
		send("/member/"+name, 200)
	}
	w.reroute()
	for range 100 {
		send("/member/roswitha", 200)
	}
	got := map[string]uint64{}
	for _, e := range engine.Snapshot().Endpoints {
		for _, s := range e.Series {
			got[e.Name] += s.Duration.Count()
		}
	}
	if want := map[string]uint64{"/healthz": 251, "/member/{name}": 116}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
