package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/wire"
	"github.com/perfagent/perfagent/internal/wire/wiretest"
)

// TestMain fails when the tests leave goroutines of this package behind.
func TestMain(m *testing.M) {
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
			if (strings.Contains(g, "internal/web.") || strings.Contains(g, "net/http.(*conn)")) && !strings.Contains(g, "TestMain") {
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

// filledEngine has counted six exchanges, of them one of a client, and lost five.
func filledEngine(c *clock) *analytics.Engine {
	e := analytics.NewEngine(analytics.Options{Now: c.now})
	for range 5 {
		e.Add(exchange())
	}
	e.Add(clientExchange())
	e.Lose(wire.LostQueueFull, 5)
	return e
}

// metricsOf answers scrapes of an engine alone.
func metricsOf(t testing.TB, e *analytics.Engine) *export.Metrics {
	t.Helper()
	m, err := export.NewMetrics(export.MetricsOptions{CollectorOptions: export.CollectorOptions{Source: e}, WithoutRuntime: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// probeStatus is that of a kernel side with a hook on each of two backends.
func probeStatus() export.ProbeStatus {
	return export.ProbeStatus{
		Backend: func() string { return "tracepoint" },
		Probes: func() []export.ProbeState {
			return []export.ProbeState{{Probe: "tcp_sendmsg_locked", Backend: "tracepoint", Attached: true}, {Probe: "tcp_recvmsg", Backend: "kprobe"}}
		},
		Maps: func() []export.MapState {
			return []export.MapState{{Name: "connections", Entries: 12, MaxEntries: 65536, Bytes: 8 << 20}, {Name: "counters", MaxEntries: 16, Bytes: 4096}}
		},
		Undecoded: func() []analytics.Undecoded {
			return []analytics.Undecoded{{Service: "shop", Reason: "tls", Connections: 4}}
		},
	}
}

// discard is the writer of an answer that nobody reads.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// golden fails where an answer in JSON is not what the file of testdata has; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, w *httptest.ResponseRecorder, file string) {
	t.Helper()
	var got bytes.Buffer
	if err := json.Indent(&got, w.Body.Bytes(), "", "  "); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v %s", w.Code, err, w.Body)
	}
	name := filepath.Join("testdata", file)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(name, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s differs:\n%s", name, got.String())
	}
}
