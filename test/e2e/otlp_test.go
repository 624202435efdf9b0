package e2e

import (
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

// otlpReceiver keeps the latest count and buckets of http.server.request.duration, by service, that it was sent.
type otlpReceiver struct {
	mu       sync.Mutex
	requests int
	counts   map[string]uint64
	buckets  map[string]uint64
	err      error
}

func (r *otlpReceiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if err := r.read(request); err != nil {
		r.err = err
		w.WriteHeader(http.StatusBadRequest)
	}
}

func (r *otlpReceiver) read(request *http.Request) error {
	z, err := gzip.NewReader(request.Body)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(z)
	if err != nil {
		return err
	}
	var message collectorpb.ExportMetricsServiceRequest
	if err := proto.Unmarshal(body, &message); err != nil {
		return err
	}
	r.counts, r.buckets = map[string]uint64{}, map[string]uint64{}
	for _, resource := range message.ResourceMetrics {
		service := ""
		for _, a := range resource.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, m := range resource.ScopeMetrics[0].Metrics {
			if m.Name != "http.server.request.duration" {
				continue
			}
			for _, p := range m.GetExponentialHistogram().DataPoints {
				r.counts[service] += p.Count
				for _, n := range p.Positive.BucketCounts {
					r.buckets[service] += n
				}
			}
		}
	}
	return nil
}

// An agent pushes what it has seen at each interval, and once more when it ends: every request is in what the receiver
// has last.
func TestE2EOTLP(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	r := &otlpReceiver{}
	receiver := httptest.NewServer(r)
	defer receiver.Close()
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{"--otlp.endpoint=" + receiver.URL, "--otlp.interval=1s"}})
	b := newBook(t, a)
	service := "goserver"
	received := func(want uint64) func() bool {
		return func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.counts[service] == want && r.buckets[service] == want
		}
	}
	b.fast(s, 101)
	b.check()
	if !until(visibleTimeout, received(101)) {
		t.Errorf("101 requests were made; the receiver has %v", r.counts)
	}
	b.fast(s, 13)
	b.check() // the agent knows of them; the next interval may not have come
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts[service] != 114 || r.buckets[service] != 114 || r.err != nil {
		t.Errorf("114 requests were made; the receiver has %v after the end; %v", r.counts, r.err)
	}
}

// An agent that watches the receiver's port reports what the receiver answers, as any server's, and not its own requests.
func TestE2EOTLPOwnTraffic(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(&otlpReceiver{})
	defer receiver.Close()
	port := receiver.Listener.Addr().(*net.TCPAddr).Port
	a := startAgent(t, agent.Options{Ports: []int{port}, Args: []string{"--otlp.endpoint=" + receiver.URL, "--otlp.interval=1s"}})
	if !until(visibleTimeout, func() bool { return len(a.Exchanges()) >= 2 }) {
		t.Fatalf("the receiver's exchanges are not seen: %+v", a.Exchanges())
	}
	for _, e := range a.Exchanges() {
		if e.PID != os.Getpid() || e.Role != "server" || e.Path != "/v1/metrics" || e.Status != http.StatusOK {
			t.Errorf("%+v", e)
		}
	}
}

// An agent whose receiver is not there works as one without, says so once, and ends in time.
func TestE2EOTLPDead(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"}, Args: []string{"--otlp.interval=1s"}})
	b := newBook(t, a)
	b.fast(s, 101)
	b.check()
	if !until(visibleTimeout, func() bool {
		m, err := a.Metrics()
		return err == nil && m.Sum("perfagent_otlp_exports_total", "result", "superseded") >= 2
	}) {
		t.Error("the exports are not counted")
	}
	b.settle(s)
	balance(t, a, b)
}
