package alerts

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
)

const minute = time.Minute

// smallHost is the traffic and the resources of a small host, minute by minute.
type smallHost struct {
	*world
	random *rand.Rand
	day    float64 // of its clock, 0 to 1
}

func newSmallHost(t *testing.T) *smallHost {
	start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	h := &smallHost{newWorld(t, start, &alert.Builtin{Persistent: true}, nil), rand.New(rand.NewPCG(3, 4)), 0}
	for _, status := range []string{"200", "404", "500", "aborted"} {
		for _, route := range []string{"/", "/items/{id}", "/reports", "/stream"} {
			h.request(0, 1, route, status)
		}
	}
	return h
}

// request counts requests to a route.
func (h *smallHost) request(n int, seconds float64, route, status string) {
	pairs := []string{"service_name", "shop", "http_request_method", "GET", "http_route", route}
	switch status {
	case "500":
		pairs = append(pairs, "http_response_status_code", status, "error_type", status)
	case "aborted":
		pairs = append(pairs, "http_response_status_code", "200", "error_type", status)
	default:
		pairs = append(pairs, "http_response_status_code", status)
	}
	h.serve(n, seconds, pairs...)
	h.phases(n, seconds, .0002)
}

// phases counts the parts of requests' times.
func (h *smallHost) phases(n int, seconds, queue float64) {
	for phase, v := range map[string]float64{"queue": queue, "processing": .9 * seconds, "transfer": .1 * seconds} {
		h.add(float64(n)*v, "perfagent_http_server_phase_duration_seconds_sum", "service_name", "shop", "phase", phase)
		h.add(float64(n), "perfagent_http_server_phase_duration_seconds_count", "service_name", "shop", "phase", phase)
	}
}

// resources are what the host uses in a minute.
type resources struct {
	cpu, stalledCPU, stalledIO, fullIO, stalledMemory, fullMemory float64 // shares
	memory                                                        float64 // share used, of 4 GiB
	disk                                                          float64 // bytes available, of 40 GB
	throttled                                                     float64 // share of periods
}

func (h *smallHost) use(r resources) {
	h.add(120*r.cpu, "perfagent_host_cpu_seconds_total", "mode", "user")
	h.add(120*(1-r.cpu), "perfagent_host_cpu_seconds_total", "mode", "idle")
	for _, s := range []struct {
		resource, kind string
		share          float64
	}{{"cpu", "some", r.stalledCPU}, {"io", "some", r.stalledIO}, {"io", "full", r.fullIO}, {"memory", "some", r.stalledMemory}, {"memory", "full", r.fullMemory}} {
		h.add(60*s.share, "perfagent_host_pressure_stalled_seconds_total", "resource", s.resource, "kind", s.kind)
	}
	const memory = 4 << 30
	h.set(memory, "perfagent_host_memory_total_bytes")
	h.set(memory*r.memory, "perfagent_host_memory_used_bytes")
	h.set(memory*(1-r.memory), "perfagent_host_memory_available_bytes")
	for _, f := range []struct {
		mount, kind     string
		size, available float64
	}{{"/", "ext4", 40e9, r.disk}, {"/boot", "ext2", 500e6, 200e6}, {"/snap/core", "squashfs", 60e6, 0}} {
		h.set(f.size, "perfagent_host_filesystem_size_bytes", "mountpoint", f.mount, "fstype", f.kind, "device", "d")
		h.set(f.available, "perfagent_host_filesystem_available_bytes", "mountpoint", f.mount, "fstype", f.kind, "device", "d")
		h.set(1e6, "perfagent_host_filesystem_files", "mountpoint", f.mount, "fstype", f.kind, "device", "d")
		h.set(5e5, "perfagent_host_filesystem_files_free", "mountpoint", f.mount, "fstype", f.kind, "device", "d")
	}
	h.add(600*r.throttled, "perfagent_service_cgroup_cpu_throttled_periods_total", "service_name", "shop", "cgroup", "/shop")
	h.add(600, "perfagent_service_cgroup_cpu_periods_total", "service_name", "shop", "cgroup", "/shop")
	h.add(30*r.throttled, "perfagent_service_cgroup_cpu_throttled_seconds_total", "service_name", "shop", "cgroup", "/shop")
	h.set(20, "perfagent_service_cgroup_tasks", "service_name", "shop", "cgroup", "/shop")
	h.set(4915, "perfagent_service_cgroup_tasks_limit", "service_name", "shop", "cgroup", "/shop")
	h.set(.05, "perfagent_service_file_descriptors_used_ratio", "service_name", "shop")
	h.set(1024, "perfagent_service_max_file_descriptors", "service_name", "shop")
	h.add(0, "perfagent_host_oom_kills_total")
	h.add(0, "perfagent_service_cgroup_oom_kills_total", "service_name", "shop", "cgroup", "/shop")
	h.add(0, "perfagent_host_tcp_listen_overflows_total")
	h.add(0, "perfagent_service_start_seconds", "service_name", "shop")
}

// itself has the agent's own figures.
func (h *smallHost) itself() {
	h.add(0, "perfagent_exchanges_lost_total", "stage", "bpf", "reason", "desync")
	h.add(10, "perfagent_exchanges_total", "protocol", "http/1.1", "role", "server")
	h.set(1, "perfagent_probe_attached", "probe", "recv", "backend", "fentry")
	h.set(0, "perfagent_probe_attached", "probe", "other", "backend", "kprobe")
	h.set(1, "perfagent_part_up", "part", "probes")
	h.set(100, "perfagent_bpf_map_entries", "map", "conns")
	h.set(65536, "perfagent_bpf_map_max_entries", "map", "conns")
	h.set(1, "perfagent_config_last_reload_successful")
	h.set(1, "perfagent_history_persistent")
	h.add(0, "perfagent_history_dropped_ticks_total")
	h.add(0, "perfagent_history_damaged_total", "part", "tick")
	h.add(0, "perfagent_endpoints_overflowed_total")
	h.add(0, "perfagent_notification_attempts_failed_total", "receiver", "chat", "integration", "slack")
	h.add(0, "perfagent_notifications_total", "receiver", "chat", "integration", "slack")
	h.add(0, "perfagent_notifications_failed_total", "receiver", "chat", "integration", "slack", "reason", "rejected")
	h.add(0, "perfagent_remedies_failed_total")
	h.add(0, "perfagent_event_log_dropped_total", "reason", "write")
	h.add(0, "perfagent_rule_evaluation_failures_total", "rule_group", "f.yml;g")
}

// quietMinute is a minute of an ordinary day: a few requests, now and then a slow or a failed one, streams that browsers end, a
// crawler at times, processors that other work keeps busy, and a batch at night that takes all that there is.
func (h *smallHost) quietMinute() {
	hour := float64(h.now.Hour()) + float64(h.now.Minute())/60
	batch := hour >= 2 && hour < 3.5
	slower := 1.
	r := resources{cpu: .55 + .4*h.random.Float64(), stalledCPU: .5 * h.random.Float64(), stalledIO: .05, memory: .9 + .05*h.random.Float64(),
		disk: 14e9 - 3e8*h.now.Sub(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)).Hours()/24, throttled: .4 * h.random.Float64()}
	if batch { // it fills a third of the disk with what it removes at its end
		slower = 8
		r = resources{cpu: .99, stalledCPU: .8, stalledIO: .7, fullIO: .5, stalledMemory: .1, memory: .96, throttled: .9, disk: r.disk - 5e9*(hour-2)}
		h.request(25, .2+.3*h.random.Float64(), "/reports", "200") // what it asks for
	}
	h.use(r)
	visitors := 1 + 5*math.Max(0, math.Sin((hour-7)/14*math.Pi))
	for range poisson(h.random, visitors) {
		h.request(1, slower*.02*math.Exp(h.random.NormFloat64()), []string{"/", "/items/{id}"}[h.random.IntN(2)], "200")
	}
	switch h.random.IntN(60) {
	case 0:
		h.request(1, .05, "/items/{id}", "500")
	case 1:
		h.request(1, slower*2.5, "/reports", "200")
	case 2:
		h.request(1+h.random.IntN(4), 90, "/stream", "aborted")
	}
	if h.now.Hour() == 5 && h.now.Minute() < 10 { // a crawler that asks for what is not there
		h.request(60, .004, "/", "404")
	}
	if h.random.IntN(500) == 0 {
		h.add(3, "perfagent_exchanges_lost_total", "stage", "bpf", "reason", "desync")
	}
	if h.now.Hour() == 12 && h.now.Minute() == 0 { // a new version is started
		h.add(86400, "perfagent_service_start_seconds", "service_name", "shop")
		h.request(3, .01, "/", "500")
	}
	h.itself()
}

// poisson draws a number of visitors, as Knuth does.
func poisson(random *rand.Rand, mean float64) (n int) {
	for p := random.Float64(); p > math.Exp(-mean); p *= random.Float64() {
		n++
	}
	return n
}

// Seven ordinary days of a small host raise no built-in alert, and not even a pending one that lasts. The same rules then fire
// in an hour in which everything goes wrong, each of them.
func TestQuietWeek(t *testing.T) {
	days := 7
	if testing.Short() {
		days = 1
	}
	h := newSmallHost(t)
	defer h.close(t)
	for range days * 24 * 60 {
		h.quietMinute()
		h.pass()
		h.now = h.now.Add(minute)
	}
	if fired := h.fired(); len(fired) > 0 {
		t.Errorf("a quiet week raised %v", fired)
	}
	for _, problem := range h.failing() {
		t.Error(problem)
	}
	requests := 0.
	for _, c := range h.counters {
		requests += c.count
	}
	t.Logf("%d days, %.0f requests, no alert", days, requests)
}

// Each built-in rule fires where what it is for happens.
func TestLoudHour(t *testing.T) {
	h := newSmallHost(t)
	defer h.close(t)
	busy := func() { // a day and an hour of much traffic, so that a drop can be seen
		h.request(600, .02, "/", "200")
		h.use(resources{cpu: .3, memory: .5, disk: 30e9})
		h.itself()
	}
	for i := range 25 * 60 {
		busy()
		if h.scrape(); i > 24*60 {
			h.evaluateRules()
		}
		h.now = h.now.Add(minute)
	}
	if fired := h.fired(); len(fired) > 0 {
		t.Fatalf("fired before anything was wrong: %v", fired)
	}
	for i := range 170 {
		h.loudMinute(i)
		h.pass()
		h.now = h.now.Add(minute)
	}
	var missing []string
	for _, g := range h.Groups(false) {
		for _, r := range g.Rules {
			if r.Alerting && !slices.Contains(h.fired(), r.Name) {
				missing = append(missing, r.Name)
			}
			if r.Alerting && (r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Annotations["next_step"] == "") {
				t.Errorf("%s does not say what it means and what to do", r.Name)
			}
		}
	}
	if len(missing) > 0 {
		t.Errorf("never fired: %v", missing)
	}
	for _, problem := range h.failing() {
		t.Error(problem)
	}
	for name, i := range h.told {
		if i.begins > 2 {
			t.Errorf("%s began %d times", name, i.begins)
		}
	}
}

// loudMinute is a minute in which everything is wrong: half of all fails, the rest is slow, and nothing is left of anything.
func (h *smallHost) loudMinute(i int) {
	r := resources{cpu: .95, stalledCPU: .8, stalledIO: .9, fullIO: .6, stalledMemory: .8, fullMemory: .6, memory: .98, disk: max(4e8, 9.5e9-7e7*float64(i)), throttled: .9}
	h.use(r)
	h.itself()
	if i < 100 {
		h.request(60, 7, "/items/{id}", "200")
		h.request(100, .1, "/items/{id}", "500")
		h.phases(160, .1, 3)
	} // then hardly anybody comes
	if i%4 == 0 {
		h.add(50, "perfagent_service_start_seconds", "service_name", "shop")
		h.add(1, "perfagent_service_cgroup_oom_kills_total", "service_name", "shop", "cgroup", "/shop")
	}
	if i > 120 { // the host's own kills, when the service's are over
		h.set(0, "perfagent_service_cgroup_oom_kills_total", "service_name", "shop", "cgroup", "/shop")
		h.add(1, "perfagent_host_oom_kills_total")
	}
	h.add(20, "perfagent_host_tcp_listen_overflows_total")
	h.set(.99, "perfagent_service_file_descriptors_used_ratio", "service_name", "shop")
	h.set(4910, "perfagent_service_cgroup_tasks", "service_name", "shop", "cgroup", "/shop")
	h.set(100, "perfagent_host_filesystem_files_free", "mountpoint", "/", "fstype", "ext4", "device", "d")
	h.add(50, "perfagent_exchanges_lost_total", "stage", "bpf", "reason", "desync")
	h.set(0, "perfagent_probe_attached", "probe", "recv", "backend", "fentry")
	h.set(0, "perfagent_part_up", "part", "probes")
	h.set(65000, "perfagent_bpf_map_entries", "map", "conns")
	h.set(0, "perfagent_config_last_reload_successful")
	h.set(0, "perfagent_history_persistent")
	h.add(1, "perfagent_history_dropped_ticks_total")
	h.add(5, "perfagent_endpoints_overflowed_total")
	h.add(2, "perfagent_notification_attempts_failed_total", "receiver", "chat", "integration", "slack")
	h.add(1, "perfagent_notifications_failed_total", "receiver", "chat", "integration", "slack", "reason", "rejected")
	h.add(1, "perfagent_remedies_failed_total")
	h.add(1, "perfagent_event_log_dropped_total", "reason", "write")
	h.add(1, "perfagent_rule_evaluation_failures_total", "rule_group", "f.yml;g")
	h.set(1, "perfagent_finding_active", "service_name", "shop", "metric", "error_rate", "severity", "error")
}
