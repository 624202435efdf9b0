package export

import (
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	perfhttp "github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
	"github.com/perfagent/perfagent/internal/wire/wiretest"
)

// TestMain fails when the tests leave goroutines of this package behind.
func TestMain(m *testing.M) {
	run = 0x5eed // so that made request IDs are known
	code := m.Run()
	if code == 0 {
		if left := leaked(5 * time.Second); left != "" {
			fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
			code = 1
		}
	}
	os.Exit(code)
}

// leaked returns the stacks of goroutines that run this package's code, once they had the time to end.
func leaked(patience time.Duration) string {
	deadline := time.Now().Add(patience)
	for {
		var b strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
		var left []string
		for _, g := range strings.Split(b.String(), "\n\n") {
			if strings.Contains(g, "internal/export.") && !strings.Contains(g, "TestMain") {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return ""
		}
		if time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
		time.Sleep(time.Millisecond) // polling with a deadline
	}
}

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

var exchange, clientExchange = wiretest.Exchange, wiretest.ClientExchange

// filledEngine is one with a bit of everything.
func filledEngine(c *clock) *analytics.Engine {
	e := analytics.NewEngine(analytics.Options{Now: c.now})
	for range 3 {
		e.Add(exchange())
	}
	slow := exchange()
	slow.Finished += 250_000_000 - 2_050_000 // exactly on a bound
	slow.Namespace = "prod"
	e.Add(slow)
	aborted := exchange()
	aborted.Outcome, aborted.Responded, aborted.ResponseSize = perfhttp.CutOff(wire.ClassAborted, 0), 0, -1
	aborted.Service, aborted.TLS, aborted.Protocol = "odd \"service\"\n\\", true, "http/1.0"
	e.Add(aborted)
	e.Add(clientExchange())
	for _, call := range []*wire.Exchange{exchange(), clientExchange()} {
		call.Convention, call.Protocol, call.Operation = wire.ConventionRPC, "grpc", wire.Operation{Verb: "grpc", Name: "shop.Cart/Add"}
		call.Outcome = wire.Outcome{}
		e.Add(call)
		call.Outcome = wire.Outcome{Code: 4, Class: wire.ClassServerFault, Late: true, ErrorType: "DEADLINE_EXCEEDED"}
		e.Add(call)
	}
	e.SetActive(map[string]int64{"shop": 2})
	e.Lose(wire.LostQueueFull, 5)
	e.ParseError("http/1.1", "status_line", 3)
	return e
}

func collectorOptions(s Source) CollectorOptions {
	reload := func() (bool, time.Time) { return true, time.Unix(1_700_000_000, 500_000_000) }
	return CollectorOptions{
		Source: s, Build: BuildInfo{"1.2.3", "abcdef", "go1.26"}, Reload: reload, Web: func() WebConnections {
			return WebConnections{Closed: []ClosedConnections{{"idle", 0}, {"slow", 0}, {"refused", 0}}}
		},
		Probes: ProbeStatus{
			Backend: func() string { return "tracepoint" },
			Probes: func() []ProbeState {
				return []ProbeState{{"tcp_sendmsg_locked", "tracepoint", true}, {"tcp_recvmsg", "kprobe", false}}
			},
			Maps: func() []MapState {
				return []MapState{{"connections", 12, false, 65536, 8 << 20}, {"counters", 0, true, 16, 4096}}
			},
			Undecoded: func() []analytics.Undecoded {
				return []analytics.Undecoded{{Service: "shop", Reason: "tls", Connections: 4}}
			},
		},
	}
}
