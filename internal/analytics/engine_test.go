package analytics

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/http2"
	"github.com/perfagent/perfagent/internal/wire"
)

// clock is an injected clock that only moves when told.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1_700_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func serverExchange(service, route string, status uint16) *wire.Exchange {
	return &wire.Exchange{
		Role: wire.RoleServer, Protocol: "http/1.1", Operation: wire.Operation{Verb: "GET", Name: route},
		Outcome: http.Answered(wire.RoleServer, status), Service: service,
		Arrived: 1_000_000_000, Read: 1_000_100_000, Responded: 1_002_000_000, Finished: 1_002_050_000,
		RequestSize: 0, ResponseSize: 1234,
	}
}

func clientExchange(service, host string) *wire.Exchange {
	return &wire.Exchange{
		Role: wire.RoleClient, Protocol: "http/1.1", Operation: wire.Operation{Verb: "GET"}, Outcome: wire.Outcome{Code: 200}, Service: service, Host: []byte(host),
		Remote:  netip.MustParseAddrPort("10.0.0.9:8080"),
		Arrived: 1_000_000_000, Responded: 1_002_000_000, Finished: 1_002_050_000, RequestSize: -1, ResponseSize: -1,
	}
}

// Exchanges are counted once under their endpoint and outcome, with all phases.
func TestEngineGroups(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	for range 3 {
		e.Add(serverExchange("shop", "/a/{id}", 200))
	}
	failed := serverExchange("shop", "/a/{id}", 503)
	failed.TLS, failed.Protocol = true, "http/1.0"
	e.Add(failed)
	e.Add(serverExchange("shop", "/b", 200))
	e.Add(clientExchange("shop", "API.example.com:8443"))

	s := e.Snapshot()
	if len(s.Endpoints) != 2 || len(s.Targets) != 1 || s.EndpointsOwn != 2 {
		t.Fatalf("%d endpoints, %d targets, %d own", len(s.Endpoints), len(s.Targets), s.EndpointsOwn)
	}
	a := s.Endpoints[0]
	if a.Key != (Key{Role: wire.RoleServer, Service: "shop", Operation: wire.Operation{Verb: "GET", Name: "/a/{id}"}}) || len(a.Series) != 2 {
		t.Fatalf("%+v", a)
	}
	if o := a.Series[1].Result; o != (Result{http.Answered(wire.RoleServer, 503), "http/1.0", true}) || a.Series[0].Duration.Count() != 3 {
		t.Errorf("%+v", a.Series)
	}
	for name, h := range map[string]struct {
		h    *Histogram
		want uint64
	}{
		"queue": {&a.Queue, 100_000}, "processing": {&a.Processing, 1_900_000}, "transfer": {&a.Transfer, 50_000},
		"request size": {&a.RequestSize, 0}, "response size": {&a.ResponseSize, 1234}, "duration": {&a.Series[0].Duration, 2_050_000},
	} {
		if h.h.Min() != h.want || h.h.Max() != h.want || h.h.Count() < 3 {
			t.Errorf("%s: %d…%d, %d times", name, h.h.Min(), h.h.Max(), h.h.Count())
		}
	}
	if k := s.Targets[0].Key; k != (Key{Role: wire.RoleClient, Service: "shop", Operation: wire.Operation{Verb: "GET"}, Address: "api.example.com", Port: 8080}) {
		t.Errorf("target %+v", k)
	}
	if b := s.Books(6); !b.Balanced() || b.Reported != 6 {
		t.Errorf("books %+v", b)
	}
}

// What the kernel side did not see enters no histogram, and is counted all the same.
func TestEngineUnknownPhases(t *testing.T) {
	e := NewEngine(Options{Now: newClock().now})
	ex := serverExchange("shop", "/", 200)
	ex.Arrived, ex.RequestSize = 0, -1
	e.Add(ex)
	s := e.Snapshot()
	p := s.Endpoints[0]
	if p.Series[0].Duration.Count() != 0 || p.Series[0].Untimed != 1 || p.Queue.Count() != 0 || p.RequestSize.Count() != 0 {
		t.Error("an unknown value was counted as a value")
	}
	if p.Processing.Count() != 1 || p.Transfer.Count() != 1 || p.ResponseSize.Count() != 1 || s.Exchanges[0].Count != 1 {
		t.Error("a known value was not counted")
	}
}

// The host name of a server comes from the Host header when that is plausible, else it is the address; the port is the
// socket's.
func TestServerAddress(t *testing.T) {
	for host, want := range map[string]string{
		"Example.com":              "example.com",
		"example.com:80":           "example.com",
		"example.com:":             "example.com",
		"[2001:db8::1]:8081":       "2001:db8::1",
		"[::1]":                    "::1",
		"127.0.0.1:65536":          "10.0.0.9",
		"127.0.0.1:x":              "10.0.0.9",
		"a b":                      "10.0.0.9",
		"a\x00b":                   "10.0.0.9",
		"":                         "10.0.0.9",
		strings.Repeat("a", 254):   "10.0.0.9",
		"user@example.com":         "10.0.0.9",
		"xn--bcher-kva.example:81": "xn--bcher-kva.example",
	} {
		if name, port := ServerAddress(clientExchange("shop", host)); name != want || port != 8080 {
			t.Errorf("%q: %q %d, want %q", host, name, port, want)
		}
	}
}

// A million distinct routes fill the endpoints up to the limit; the rest is one endpoint a method, counted, and nothing
// is lost. The same for hosts that clients call.
func TestEngineLimits(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now, Limits: Limits{Endpoints: 100}})
	for i := range 100_000 {
		e.Add(serverExchange("shop", fmt.Sprintf("/%d", i), 200))
		e.Add(clientExchange("shop", fmt.Sprintf("h%d.example", i)))
	}
	s := e.Snapshot()
	if len(s.Endpoints) != 101 || len(s.Targets) != 101 || s.EndpointsOwn != 100 || s.Overflowed != 2*99_900 {
		t.Errorf("%d endpoints, %d targets, %d own, %d overflowed", len(s.Endpoints), len(s.Targets), s.EndpointsOwn, s.Overflowed)
	}
	if b := s.Books(200_000); !b.Balanced() {
		t.Errorf("books %+v", b)
	}
	n := uint64(0)
	for _, p := range s.Endpoints {
		n += p.Series[0].Duration.Count()
	}
	if n != 100_000 {
		t.Errorf("%d in histograms", n)
	}
	// Services and methods beyond the limit are bounded, too.
	for i := range 1000 {
		e.Add(serverExchange(fmt.Sprintf("s%d", i), "/x", 200))
		e.Add(clientExchange(fmt.Sprintf("s%d", i), "x"))
	}
	c.advance(time.Second)
	s = e.Snapshot()
	if most := 100 + overflowEndpointsMax + 1; len(s.Endpoints) != most || len(s.Targets) != most {
		t.Errorf("%d endpoints, %d targets", len(s.Endpoints), len(s.Targets))
	}
}

// A server that answers with every possible status fills one endpoint's limit, and no more.
func TestEngineOutcomeLimit(t *testing.T) {
	e := NewEngine(Options{Now: newClock().now})
	for i := range 5000 {
		ex := serverExchange("shop", "/", 200)
		ex.Code = uint16(i)
		e.Add(ex)
	}
	all := e.Snapshot().Endpoints[0].Series
	if len(all) != variantsMax {
		t.Errorf("%d outcomes", len(all))
	}
	n := uint64(0)
	for i := range all {
		n += all[i].Duration.Count()
	}
	if last := all[len(all)-1]; n != 5000 || last.Result != otherResult {
		t.Errorf("%d counted, last %+v", n, last.Outcome)
	}
}

// Endpoints that are idle for the idle time are forgotten, with or without snapshots in between; busy ones stay.
func TestEngineExpiry(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now, Limits: Limits{Endpoints: 2, Idle: time.Minute}})
	e.Add(serverExchange("shop", "/busy", 200))
	e.Add(serverExchange("shop", "/idle", 200))
	e.Add(clientExchange("shop", "idle"))
	for range 5 {
		c.advance(30 * time.Second)
		e.Add(serverExchange("shop", "/busy", 200))
		e.Snapshot()
	}
	s := e.Snapshot()
	if len(s.Endpoints) != 1 || s.Endpoints[0].Name != "/busy" || s.Endpoints[0].Series[0].Duration.Count() != 6 || len(s.Targets) != 0 {
		t.Errorf("%d endpoints, %d targets", len(s.Endpoints), len(s.Targets))
	}
	// Nobody looks: a new endpoint finds room all the same once the old ones are idle.
	e.Add(serverExchange("shop", "/second", 200))
	e.Add(serverExchange("shop", "/third", 200))
	for range 3 {
		c.advance(time.Minute)
		e.Add(serverExchange("shop", "/fourth", 200))
	}
	routes := ""
	for _, p := range e.Snapshot().Endpoints {
		routes += p.Name + " "
	}
	if !strings.Contains(routes, "/fourth") || strings.Contains(routes, "/second") {
		t.Errorf("routes %s", routes)
	}
}

// A handle counts where Add counts: after its endpoint was forgotten too, and beyond the limit, where each exchange is
// counted as overflowed.
func TestEngineHandle(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now, Limits: Limits{Endpoints: 1, Idle: time.Minute}})
	var first, second Handle
	e.AddTo(&first, serverExchange("shop", "/a", 200))
	e.AddTo(&first, serverExchange("shop", "/a", 500))
	e.AddTo(&first, serverExchange("shop", "/a", 200))
	for range 3 {
		e.AddTo(&second, serverExchange("shop", "/b", 200))
	}
	s := e.Snapshot()
	if len(s.Endpoints) != 2 || len(s.Endpoints[0].Series) != 2 || s.Overflowed != 3 {
		t.Fatalf("%d endpoints, %d overflowed, expected 2 and 3", len(s.Endpoints), s.Overflowed)
	}
	c.advance(2 * time.Minute)
	e.Snapshot() // notes who was busy
	c.advance(2 * time.Minute)
	e.Snapshot() // forgets all
	e.AddTo(&second, serverExchange("shop", "/b", 200))
	e.AddTo(&first, serverExchange("shop", "/a", 200))
	c.advance(time.Second)
	s = e.Snapshot()
	var routes []string
	for _, endpoint := range s.Endpoints {
		routes = append(routes, fmt.Sprint(endpoint.Name, " ", endpoint.Series[0].Duration.Count()))
	}
	if got := strings.Join(routes, ", "); got != "/b 1, _OTHER 1" {
		t.Errorf("endpoints %s", got)
	}
}

// A snapshot does not change afterwards, is shared within 100 ms, and copies only what changed.
func TestSnapshotIsImmutable(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	e.Add(serverExchange("shop", "/a", 200))
	e.Add(serverExchange("shop", "/b", 200))
	e.SetActive(map[string]int64{"shop": 3})
	first := e.Snapshot()
	e.Add(serverExchange("shop", "/a", 200))
	if e.Snapshot() != first {
		t.Error("a second snapshot within 100 ms")
	}
	c.advance(snapshotInterval)
	second := e.Snapshot()
	if second == first || second.Endpoints[1] != first.Endpoints[1] || second.Endpoints[0] == first.Endpoints[0] {
		t.Error("copied what did not change, or not what did")
	}
	if a, b := first.Endpoints[0].Series[0].Duration.Count(), second.Endpoints[0].Series[0].Duration.Count(); a != 1 || b != 2 {
		t.Errorf("counts %d, %d", a, b)
	}
	if first.Active["shop"] != 3 {
		t.Errorf("active %v", first.Active)
	}
}

// Every loss is present from the start, and the books take each in.
func TestLosses(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	s := e.Snapshot()
	if len(s.Lost) != len(wire.Losses) {
		t.Fatalf("%d losses", len(s.Lost))
	}
	for i, l := range wire.Losses {
		if s.Lost[i].Loss != l || s.Lost[i].Count != 0 {
			t.Errorf("%+v", s.Lost[i])
		}
		e.Lose(l, uint64(i))
	}
	e.SetLost(wire.LostRingFull, 100)
	e.ParseError("http/1.1", "status_line", 2)
	e.ParseError("http/1.1", "status_line", 1)
	e.Add(serverExchange("shop", "/", 200))
	c.advance(time.Second)
	s = e.Snapshot()
	n := uint64(len(wire.Losses))
	if b := s.Books(1 + 100 + n*(n-1)/2); !b.Balanced() {
		t.Errorf("%+v", b)
	}
	if len(s.ParseErrors) != 1 || s.ParseErrors[0] != (ParseError{"http/1.1", "status_line", 3}) {
		t.Errorf("%+v", s.ParseErrors)
	}
}

// Labels are valid and bounded whatever the traffic says, and two spellings never make two series of one name.
func TestLabelsAreClean(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	for _, route := range []string{"/a\x00b\xff", "/a%00b%FF", "/a\x00b\xff", "/é", strings.Repeat("é", 1000), "/a\u0085b"} {
		e.Add(serverExchange("shop", route, 200))
	}
	seen := map[string]bool{}
	for _, p := range e.Snapshot().Endpoints {
		if !utf8.ValidString(p.Name) || len(p.Name) > labelBytesMax || strings.ContainsFunc(p.Name, func(r rune) bool { return r < ' ' || r == 0x85 }) {
			t.Errorf("label %q", p.Name)
		}
		if seen[p.Name] {
			t.Errorf("%q twice", p.Name)
		}
		seen[p.Name] = true
	}
	if len(seen) != 4 || !seen["/a%00b%FF"] || !seen["/a%C2%85b"] || !seen[strings.Repeat("é", labelBytesMax/2)] {
		t.Errorf("%d routes: %v", len(seen), seen)
	}
}

// In the steady state an exchange costs no allocation, on either side.
func TestEngineAddAllocations(t *testing.T) {
	e := NewEngine(Options{})
	for _, ex := range []*wire.Exchange{serverExchange("shop", "/a", 200), clientExchange("shop", "Example.com:80"), clientExchange("shop", "")} {
		e.Add(ex)
		if n := testing.AllocsPerRun(1000, func() { e.Add(ex) }); n != 0 {
			t.Errorf("%s: %v allocations", ex.Role, n)
		}
	}
}

// Readers take snapshots while the worker adds; the last snapshot has everything.
func TestEngineConcurrency(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	const total = 20_011
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for {
				select {
				case <-done:
					return
				default:
				}
				last := uint64(0)
				if b := e.Snapshot().Books(0); b.Reported < last {
					t.Error("the count fell")
				} else {
					last = b.Reported
				}
				c.advance(time.Second / 20)
				e.Lose(wire.LostParse, 1)
			}
		}()
	}
	for i := range total {
		e.Add(serverExchange("shop", fmt.Sprintf("/%d", i%50), 200))
		e.SetActive(map[string]int64{"shop": int64(i)})
	}
	close(done)
	readers.Wait()
	c.advance(time.Second)
	if b := e.Snapshot().Books(0); b.Reported != total {
		t.Errorf("%d of %d", b.Reported, total)
	}
}

// workload makes exchanges over n endpoints of ten services with log-normal times, typical of real servers.
func workload(n int) []*wire.Exchange {
	r := rand.New(rand.NewPCG(11, 12))
	// Strings are shared between exchanges, as those of the process table and the router are.
	services, routes := make([]string, 10), make([]string, n)
	for i := range services {
		services[i] = fmt.Sprintf("service-%d", i)
	}
	for i := range routes {
		routes[i] = fmt.Sprintf("/api/v1/things/%d/{id}", i)
	}
	all := make([]*wire.Exchange, 1<<14)
	for i := range all {
		k := r.IntN(n)
		ex := serverExchange(services[k%10], routes[k], 200)
		if r.IntN(20) == 0 {
			ex.Outcome = http.Answered(ex.Role, 404)
		}
		ex.Read = ex.Arrived + int64(math.Exp(r.NormFloat64()*.8+10))
		ex.Responded = ex.Read + int64(math.Exp(r.NormFloat64()*.8+14))
		ex.Finished = ex.Responded + int64(math.Exp(r.NormFloat64()*.8+10))
		ex.ResponseSize = int64(math.Exp(r.NormFloat64() + 8))
		all[i] = ex
	}
	return all
}

// The memory of 2,000 endpoints after a million exchanges, with a snapshot of all of it, stays below 12 KiB each.
func TestEngineMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("a million exchanges")
	}
	all := workload(2000)
	var before, after, idle runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	for i := range 1_000_000 {
		e.Add(all[i%len(all)])
	}
	runtime.GC()
	runtime.ReadMemStats(&idle)
	s := e.Snapshot()
	runtime.GC()
	runtime.ReadMemStats(&after)
	live, all2 := (idle.HeapAlloc-before.HeapAlloc)/2000, (after.HeapAlloc-before.HeapAlloc)/2000
	t.Logf("%d bytes an endpoint, %d with a snapshot", live, all2)
	if all2 > 12<<10 {
		t.Errorf("%d bytes an endpoint", all2)
	}
	runtime.KeepAlive(e)
	runtime.KeepAlive(s)
	runtime.KeepAlive(all)
}

func BenchmarkEngineAdd(b *testing.B) {
	for _, n := range []int{1, 2000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			all := workload(n)
			e := NewEngine(Options{})
			for _, ex := range all {
				e.Add(ex)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				e.Add(all[i&(len(all)-1)])
			}
		})
	}
	b.Run("client", func(b *testing.B) {
		e := NewEngine(Options{})
		ex := clientExchange("shop", "api.example.com:8443")
		b.ReportAllocs()
		for b.Loop() {
			e.Add(ex)
		}
	})
}

func BenchmarkSnapshot(b *testing.B) {
	all := workload(2000)
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for _, ex := range all {
			e.Add(ex)
		}
		c.advance(time.Second)
		b.StartTimer()
		e.Snapshot()
	}
}

// When routes become others, what they counted goes with them: one that was renamed goes on, those of the routes file stay,
// handles of before count to the right one, and snapshots of before do not change. Of two that became one the other stays
// as it is where a snapshot showed it; it is added where none did.
func TestEngineReroute(t *testing.T) {
	c := newClock()
	e := NewEngine(Options{Now: c.now})
	learned := func(route string, status uint16) *wire.Exchange {
		ex := serverExchange("blog", route, status)
		ex.RouteSource = wire.RouteLearned
		return ex
	}
	var handle Handle
	for range 3 {
		e.AddTo(&handle, learned("/posts/a", 200))
	}
	e.Add(learned("/posts/b", 200))
	e.Add(learned("/posts/b", 404))
	e.Add(learned("/old/{id}", 200))
	file := serverExchange("blog", "/posts/fixed", 200)
	file.RouteSource = wire.RouteFile
	e.Add(file)
	before := e.Snapshot()

	c.advance(time.Second)
	e.Reroute(func(service, route string) string {
		switch {
		case service != "blog":
			t.Errorf("asked for %s", service)
		case strings.HasPrefix(route, "/posts/"):
			return "/posts/{name}"
		case route == "/old/{id}":
			return "/old/7"
		}
		return route
	})
	merged := learned("/posts/{name}", 200)
	e.AddTo(&handle, merged)
	after := e.Snapshot()
	got := map[string]string{}
	for _, endpoint := range after.Endpoints {
		for _, s := range endpoint.Series {
			got[endpoint.Name] += fmt.Sprintf("%d:%d ", s.Code, s.Duration.Count())
		}
		got[endpoint.Name] += fmt.Sprint(endpoint.Queue.Count())
	}
	want := map[string]string{"/posts/{name}": "200:4 4", "/posts/b": "200:1 404:1 2", "/old/7": "200:1 1", "/posts/fixed": "200:1 1"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(before.Endpoints) != 4 || before.Endpoints[1].Name != "/posts/a" || before.Endpoints[1].Series[0].Duration.Count() != 3 {
		t.Errorf("the snapshot of before changed: %+v", before.Endpoints[1].Key)
	}
	if after.Exchanges[0].Count != 8 {
		t.Errorf("%d exchanges", after.Exchanges[0].Count)
	}

	e.Add(learned("/posts/c", 200)) // since the snapshot
	e.Reroute(func(_, route string) string { return strings.Replace(route, "/posts/c", "/posts/{name}", 1) })
	c.advance(time.Second)
	for _, endpoint := range e.Snapshot().Endpoints {
		if endpoint.Name == "/posts/c" || endpoint.Name == "/posts/{name}" && endpoint.Series[0].Duration.Count() != 5 {
			t.Errorf("%s counts %d", endpoint.Name, endpoint.Series[0].Duration.Count())
		}
	}
}

// What is no HTTP is counted, and apart from HTTP of the same verb and place, but in no metric of HTTP.
func TestConventionsApart(t *testing.T) {
	e := NewEngine(Options{})
	for _, role := range []wire.Role{wire.RoleServer, wire.RoleClient} {
		ex := wire.Exchange{Role: role, Service: "shop", Protocol: "http/1.1", Operation: wire.Operation{Verb: "GET"}, Arrived: 1, Finished: 2}
		e.Add(&ex)
		ex.Protocol, ex.Convention = "redis", wire.ConventionDatabase
		e.Add(&ex)
	}
	s := e.Snapshot()
	if len(s.Endpoints) != 2 || len(s.Targets) != 2 || s.Books(4).Reported != 4 {
		t.Errorf("%d endpoints, %d targets, %+v", len(s.Endpoints), len(s.Targets), s.Books(4))
	}
	for _, f := range Families {
		f.EachOf(s, func(l *Labels, h *Histogram, _ time.Time) {
			if h.Count() != 1 {
				t.Errorf("%s %v: %d", f.Name, l.All(), h.Count())
			}
		})
	}
}

// Calls are counted by their method at both ends, with the name of the status, which is absent where it is not known; none of them is in
// a metric of HTTP.
func TestCalls(t *testing.T) {
	e := NewEngine(Options{})
	for _, role := range []wire.Role{wire.RoleServer, wire.RoleClient} {
		ex := wire.Exchange{Role: role, Service: "shop", Protocol: "grpc", Convention: wire.ConventionRPC, Operation: wire.Operation{Verb: "grpc", Name: "shop.Cart/Add"},
			Host: []byte("cart:50051"), Arrived: 1, Finished: 2}
		e.Add(&ex)
		ex.Outcome = wire.Outcome{Code: 5, Class: wire.ClassClientFault}
		e.Add(&ex)
		ex.Outcome = wire.CutOff(wire.ClassAborted)
		ex.Code = http2.RPCStatusUnknown
		e.Add(&ex)
	}
	got := map[string]uint64{}
	s := e.Snapshot()
	for _, f := range Families {
		f.EachOf(s, func(l *Labels, h *Histogram, _ time.Time) { got[fmt.Sprint(f.Name, l.All())] = h.Count() })
	}
	want := map[string]uint64{}
	for _, name := range []string{
		"rpc_server_call_duration_seconds[{rpc_method shop.Cart/Add} %s{rpc_system_name grpc} {service_name shop}]",
		"rpc_client_call_duration_seconds[{rpc_method shop.Cart/Add} %s{rpc_system_name grpc} {server_address cart} {service_name shop}]",
	} {
		want[fmt.Sprintf(name, "{rpc_response_status_code OK} ")] = 1
		want[fmt.Sprintf(name, "{rpc_response_status_code NOT_FOUND} ")] = 1
		want[strings.Replace(fmt.Sprintf(name, ""), "[", "[{error_type aborted} ", 1)] = 1
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v\nwant\n%v", got, want)
	}
}
