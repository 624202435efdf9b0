package e2e

import (
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// The resources of a service appear with its first exchange, its processor time grows with its work, and its figures end
// with its process; the host's are there from the start.
func TestE2EResources(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	a := startAgent(t, agent.Options{Ports: []int{port}, NoTrace: true})
	visible := servers.Slow(15 * time.Second)
	var metrics agent.Metrics
	has := func(name string, labels ...string) func() bool {
		return func() bool {
			var err error
			metrics, err = a.Metrics()
			return err == nil && metrics.Has(name, labels...)
		}
	}
	for _, name := range []string{"perfagent_host_load1", "perfagent_host_memory_available_bytes", "perfagent_host_network_receive_bytes_total",
		"perfagent_host_tcp_retransmitted_segments_total", "perfagent_host_cpus", "perfagent_host_filesystem_size_bytes"} {
		if !until(visible, has(name)) {
			t.Errorf("no %s", name)
		}
	}
	if metrics.Has("perfagent_service_cpu_seconds_total") {
		t.Error("a service is watched before there was traffic")
	}
	s, err := servers.Start(servers.Options{Kind: servers.HTTPServer, Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	conn, err := client.Dial(client.Options{Address: s.Address})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	service := ""
	if !until(visible, func() bool {
		if _, err := conn.Do(client.Request{}); err != nil {
			t.Fatal(err)
		}
		metrics, err = a.Metrics()
		for _, m := range metrics {
			if m.Name == "http_server_request_duration_seconds_count" {
				service = m.Labels["service_name"]
			}
		}
		return err == nil && service != "" && metrics.Has("perfagent_service_cpu_seconds_total", "service_name", service)
	}) {
		t.Fatalf("the service %q is not watched", service)
	}
	label := []string{"service_name", service}
	if metrics.Sum("perfagent_service_processes", label...) != 1 || metrics.Sum("perfagent_service_resident_memory_bytes", label...) < 1<<20 ||
		metrics.Sum("perfagent_service_open_file_descriptors", label...) < 4 {
		t.Errorf("the service's figures are %v", metrics)
	}
	before := metrics.Sum("perfagent_service_cpu_seconds_total", label...)
	if !until(visible, func() bool {
		for range 50 {
			if _, err := conn.Do(client.Request{}); err != nil {
				t.Fatal(err)
			}
		}
		return has("perfagent_service_cpu_seconds_total", label...)() && metrics.Sum("perfagent_service_cpu_seconds_total", label...) >= before+0.05
	}) {
		t.Error("the service's processor time does not grow")
	}
	// What the kernel side sees: the client's connection was opened while it was watched, and is measured at its end.
	conn.Close()
	for _, name := range []string{"perfagent_host_run_queue_latency_seconds_count", "perfagent_tcp_connect_duration_seconds_count", "perfagent_tcp_rtt_seconds_count"} {
		if !until(visible, func() bool { return has(name)() && metrics.Sum(name) > 0 }) {
			t.Errorf("%s is %g", name, metrics.Sum(name))
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if !until(visible, func() bool { return !has("perfagent_service_processes", label...)() }) {
		t.Error("the figures of an ended process stay")
	}
}
