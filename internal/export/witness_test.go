package export

import (
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/analytics"
)

// The host's statistics appear on /metrics with cumulative buckets, in seconds, by service, device and port; what has no
// counts or is not observed has no series.
func TestWitnessMetrics(t *testing.T) {
	overflows := uint64(4)
	latency := func(counts ...uint64) Latency {
		return Latency{Bounds: []float64{0.001, 0.002}, Buckets: counts, Sum: 0.25}
	}
	runQueue := latency(5, 0, 1)
	stats := &HostStats{
		RunQueue: &runQueue,
		Disks:    []DiskStats{{"vda", "write", latency(1, 2, 3)}, {"vda", "read", latency(0, 0, 0)}},
		Services: []ServiceStats{
			{Service: "shop", Namespace: "eu", RTT: latency(7, 0, 0), Connect: latency(0, 0, 2), RunQueue: &runQueue, Stalled: 3,
				TCP: TCPEvents{Retransmits: 11, ConnectsFailed: 12, ResetsSent: 13, ResetsReceived: 14}},
			{Service: "odd\xff", RTT: latency(0, 0, 0)},
		},
		Unattributed:    &TCPEvents{ResetsSent: 21},
		Ports:           []ListenPort{{8080, 2, 128, 9}},
		ListenOverflows: &overflows,
		Lost:            HostLost{Processes: 31, Connects: 32, Disks: 33},
	}
	body := scrapeWitness(t, func() *HostStats { return stats })
	for _, want := range []string{
		`perfagent_host_run_queue_latency_seconds_bucket{le="0.001"} 5`,
		`perfagent_host_run_queue_latency_seconds_bucket{le="0.002"} 5`,
		`perfagent_host_run_queue_latency_seconds_bucket{le="+Inf"} 6`,
		`perfagent_host_run_queue_latency_seconds_sum 0.25`,
		`perfagent_host_block_io_latency_seconds_bucket{device="vda",operation="write",le="0.002"} 3`,
		`perfagent_host_block_io_latency_seconds_count{device="vda",operation="write"} 6`,
		`perfagent_tcp_rtt_seconds_count{service_name="shop",service_namespace="eu"} 7`,
		`perfagent_tcp_connect_duration_seconds_bucket{service_name="shop",service_namespace="eu",le="0.002"} 0`,
		`perfagent_tcp_connects_failed_total{service_name="shop",service_namespace="eu"} 12`,
		`perfagent_tcp_retransmits_total{service_name="shop",service_namespace="eu"} 11`,
		`perfagent_tcp_retransmits_total{service_name="odd�"} 0`,
		`perfagent_tcp_resets_total{direction="sent",service_name="shop",service_namespace="eu"} 13`,
		`perfagent_tcp_resets_total{direction="received",service_name="shop",service_namespace="eu"} 14`,
		`perfagent_tcp_stalled_connections{service_name="shop",service_namespace="eu"} 3`,
		`perfagent_process_run_queue_latency_seconds_count{service_name="shop",service_namespace="eu"} 6`,
		`perfagent_tcp_unattributed_events_total{event="reset_sent"} 21`,
		`perfagent_tcp_listen_backlog{server_port="8080"} 2`,
		`perfagent_tcp_listen_backlog_max{server_port="8080"} 128`,
		`perfagent_tcp_listen_drops_total{server_port="8080"} 9`,
		`perfagent_tcp_listen_overflows_total 4`,
		`perfagent_host_events_lost_total{reason="disks_full"} 33`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("not on /metrics: %s", want)
		}
	}
	for _, unwanted := range []string{`operation="read"`, `perfagent_tcp_rtt_seconds_count{service_name="odd`} {
		if strings.Contains(body, unwanted) {
			t.Errorf("on /metrics without counts: %s", unwanted)
		}
	}
	for name, source := range map[string]func() *HostStats{
		"nothing gathers":  nil,
		"nothing yet":      func() *HostStats { return nil },
		"nothing observed": func() *HostStats { return new(HostStats) },
	} {
		if body := scrapeWitness(t, source); strings.Contains(body, "perfagent_host_") || strings.Contains(body, "perfagent_tcp_") {
			t.Errorf("%s: %s", name, body)
		}
	}
}

func scrapeWitness(t *testing.T, source func() *HostStats) string {
	t.Helper()
	m, err := NewMetrics(MetricsOptions{CollectorOptions: CollectorOptions{Source: analytics.NewEngine(analytics.Options{}), Witness: source}})
	if err != nil {
		t.Fatal(err)
	}
	return scrape(t, m, "").Body.String()
}

// What is not observed has no series: a 0 would say that it did not happen.
func TestWitnessUnseen(t *testing.T) {
	stats := &HostStats{Services: []ServiceStats{{Service: "shop"}}, Unattributed: &TCPEvents{},
		Unseen: Unseen{Connects: true, Retransmits: true, ResetsReceived: true, Stalls: true}}
	body := scrapeWitness(t, func() *HostStats { return stats })
	for _, absent := range []string{"connects_failed", "retransmit", `direction="received"`, "reset_received", "stalled"} {
		if strings.Contains(body, absent) {
			t.Errorf("%s is there: %s", absent, body)
		}
	}
	if !strings.Contains(body, `perfagent_tcp_resets_total{direction="sent",service_name="shop"} 0`) {
		t.Errorf("%s", body)
	}
}
