package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// A known load is in the summary with its exact counts, and with the times that the client's own clock allows.
func TestE2ESummary(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, NoTrace: true})
	conn, err := client.Dial(client.Options{Address: s.Address})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var slowest time.Duration
	const fast, failed, slow = 211, 13, 7
	for i := range fast + failed + slow {
		target := "/fast"
		switch {
		case i >= fast+failed:
			target = "/sleep/100"
		case i >= fast:
			target = "/status/503"
		}
		start := time.Now()
		if _, err := conn.Do(client.Request{Target: target}); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(start))
	}
	var summary struct {
		Exchanges     uint64
		Failures      uint64
		ThroughputRPS float64 `json:"throughput_rps"`
		ResponseTime  struct {
			P50 float64 `json:"p50_ms"`
			P99 float64 `json:"p99_ms"`
		} `json:"response_time"`
		Window    struct{ Seconds float64 }
		Endpoints []struct {
			Route     string `json:"http_route"`
			Exchanges uint64
		}
	}
	ok := until(servers.Slow(25*time.Second), func() bool { // the next tick, or the one after it
		body, err := a.Get("/performance/summary?window=5m&sort=throughput")
		return err == nil && json.Unmarshal([]byte(body), &summary) == nil && summary.Exchanges == fast+failed+slow
	})
	if !ok || summary.Failures != failed || len(summary.Endpoints) != 3 || summary.Endpoints[0].Exchanges != fast ||
		summary.Endpoints[1].Exchanges != failed || summary.Endpoints[2].Exchanges != slow {
		t.Errorf("%+v", summary)
	}
	// 7 of 231 are the slowest 3 %.
	if p99 := summary.ResponseTime.P99; p99 < 99 || p99 > 1.011*slowest.Seconds()*1e3 || summary.ResponseTime.P50 > 50 {
		t.Errorf("times %+v, the client's slowest %s", summary.ResponseTime, slowest)
	}
	if got := summary.ThroughputRPS * summary.Window.Seconds; got < 230.9 || got > 231.1 {
		t.Errorf("%v requests by the throughput", got)
	}
	for _, path := range []string{"/health/performance", "/monitoring/health", "/openapi.json"} {
		body, err := a.Get(path)
		if err != nil || !json.Valid([]byte(body)) {
			t.Errorf("%s: %v %s", path, err, body)
		}
	}
}
