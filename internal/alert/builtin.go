package alert

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
)

// Builtin configures the built-in rules.
type Builtin struct {
	Thresholds
	// Persistent says that a directory was given for the history, so that it is a fault where it is not kept there.
	Persistent bool
}

// Thresholds are the limits of the built-in rules that people think in; zero means the default.
type Thresholds struct {
	ResponseTimeMS     float64 // of the 95th percentile of a route
	ErrorRatePercent   float64 // of the requests to a service
	CPUUsagePercent    float64 // of the host
	MemoryUsagePercent float64 // of the host
	ThroughputRPS      float64 // of the host, below which it is too little; 0: there is no such rule
}

// DefaultThresholds are those of an agent that nobody configured.
var DefaultThresholds = Thresholds{ResponseTimeMS: 1000, ErrorRatePercent: 5, CPUUsagePercent: 80, MemoryUsagePercent: 85}

// Least sizes of the built-in rules. None fires on a ratio alone: beside each stands a size below which nobody suffers, and a
// number of requests below which it is chance.
const (
	requestsMin = 100 // in five minutes: 5 of them are the slowest 5 %
	failuresMin = 20  // in five minutes
	// failingShare and failuresManyMin make failing critical: every second request.
	failingShare    = .5
	failuresManyMin = 50
	queueSecondsMin = .02 // mean time in the queue
	dropRequestsMin = 300 // requests that are expected in ten minutes of those that do not come
	dropShare       = .3  // of what was there before
	// Of memory and disks an absolute amount must be scarce as well: 15 % of 64 GiB are plenty.
	memoryAvailableMax   = 1 << 30
	memoryCriticalMax    = 128 << 20
	diskAvailableMax     = 5 << 30
	diskCriticalMax      = 512 << 20
	inodesMax            = 20_000
	descriptorsLeftMax   = 64
	tasksLeftMax         = 32
	listenOverflowsMin   = 10   // in five minutes
	lostMin              = 100  // exchanges in five minutes
	deliveryFailuresMin  = 3    // attempts in ten minutes, of the five or more that there are
	throttledPeriodsMin  = 300  // in five minutes, of 3,000
	restartsMin          = 3    // in a quarter of an hour
	restartFailuresMin   = 10   // requests that failed meanwhile
	rulesFailWindow      = "6m" // with the 10 minutes that the alert waits: rules that were mended within 4 raise nothing
	builtinInterval      = 30 * time.Second
	builtinSlowInterval  = time.Minute
	pseudoFilesystems    = "squashfs|iso9660|erofs|cramfs|udf|fuse.*"
	failure              = `error_type!="",http_response_status_code!~"[123].."` // a stream that its client ends was answered
	byService            = "service_namespace, service_name"
	byRoute              = "service_namespace, service_name, http_request_method, http_route"
	durations            = "http_server_request_duration_seconds"
	phases               = "perfagent_http_server_phase_duration_seconds"
	nextRequests         = "/requests?kind=slowest shows the requests, /performance/summary in which phase and beside which resource their time goes by."
	nextFailed           = "/requests?kind=failed shows the requests with status and error; look into the service's log at the same instants."
	nextProcesses        = "/performance/summary lists the services by processor time and memory; move or limit the largest, or give the host more."
	routeOfService       = "{{ $labels.http_request_method }} {{ $labels.http_route }} of {{ $labels.service_name }}"
	pressureShare        = .2 // of the time in which tasks stand still
	fullPressureShare    = .1 // in which all do
	criticalPressure     = .4
	descriptorsUsedShare = .9
)

// groups makes the rules.
func (b *Builtin) groups() []rulefmt.RuleGroup {
	t := b.Thresholds
	t.fill()
	return []rulefmt.RuleGroup{
		{Name: "services", Interval: model.Duration(builtinInterval), Rules: t.services()},
		{Name: "throughput", Interval: model.Duration(builtinSlowInterval), Rules: t.throughput()},
		{Name: "host", Interval: model.Duration(builtinInterval), Rules: t.host()},
		{Name: "disks", Interval: model.Duration(builtinSlowInterval), Rules: disks()},
		{Name: "limits", Interval: model.Duration(builtinInterval), Rules: t.limits()},
		{Name: "anomalies", Interval: model.Duration(builtinInterval), Rules: anomalies()},
		{Name: "agent", Interval: model.Duration(builtinInterval), Rules: b.agent()},
	}
}

// fill puts defaults where nothing is set.
func (t *Thresholds) fill() {
	for _, pair := range [][2]*float64{{&t.ResponseTimeMS, &DefaultThresholds.ResponseTimeMS}, {&t.ErrorRatePercent, &DefaultThresholds.ErrorRatePercent},
		{&t.CPUUsagePercent, &DefaultThresholds.CPUUsagePercent}, {&t.MemoryUsagePercent, &DefaultThresholds.MemoryUsagePercent}} {
		if *pair[0] == 0 {
			*pair[0] = *pair[1]
		}
	}
}

// rule makes an alert of the terms that must all hold.
func newAlert(name, severity string, hold time.Duration, summary, description, next string, terms ...string) rulefmt.Rule {
	return rulefmt.Rule{Alert: name, Expr: strings.Join(terms, "\nand "), For: model.Duration(hold), Labels: map[string]string{"severity": severity},
		Annotations: map[string]string{"summary": summary, "description": description, "next_step": next}}
}

// on joins a term by some labels alone.
func on(by, term string) string { return fmt.Sprintf("on (%s) %s", by, term) }

// atLeast counts requests of five minutes.
func atLeast(by, selector string, n int) string {
	return fmt.Sprintf("%s >= %d", requests(by, selector, "5m"), n)
}

// slowService holds for services that are asked for enough and answer slowly. Without it a host or a service that is merely used,
// as by a batch at night, would raise alerts.
func (t *Thresholds) slowService() string {
	return fmt.Sprintf("histogram_quantile(0.95, sum by (%s) (rate(%s[5m]))) > %s and %s", byService, durations, number(t.ResponseTimeMS/1000), atLeast(byService, "", requestsMin))
}

// harmed holds where there is such a service.
func (t *Thresholds) harmed() string { return "on () (count(" + t.slowService() + ") > 0)" }

func (t *Thresholds) services() []rulefmt.Rule {
	p95 := fmt.Sprintf("histogram_quantile(0.95, sum by (%s) (rate(%s[5m])))", byRoute, durations)
	failed, all := requests(byService, failure, "5m"), requests(byService, "", "5m")
	ratio := failed + " / " + all
	queue := func(selector string) string {
		return fmt.Sprintf("sum by (%s) (rate(%s_sum%s[5m]))", byService, phases, selector)
	}
	slow := func(name, severity string, factor float64, hold time.Duration) rulefmt.Rule {
		limit := t.ResponseTimeMS * factor
		return newAlert(name, severity, hold,
			"One in twenty requests to "+routeOfService+" takes {{ $value | humanizeDuration }} or longer",
			fmt.Sprintf("The 95th percentile of the response time over five minutes is above %s ms, with at least %d requests.", number(limit), requestsMin),
			nextRequests, fmt.Sprintf("%s > %s", p95, number(limit/1000)), atLeast(byRoute, "", requestsMin))
	}
	return []rulefmt.Rule{
		slow("HTTPSlow", severityWarning, 1, 5*time.Minute),
		slow("HTTPVerySlow", severityError, 5, 5*time.Minute),
		newAlert("HTTPErrors", severityError, 2*time.Minute,
			"{{ $labels.service_name }} fails {{ $value | humanizePercentage }} of its requests",
			fmt.Sprintf("Over five minutes more than %s %% of at least %d requests had a status of 5xx or no answer at all, %d or more in number.", number(t.ErrorRatePercent), requestsMin, failuresMin),
			nextFailed, fmt.Sprintf("%s > %s", ratio, number(t.ErrorRatePercent/100)), fmt.Sprintf("%s >= %d", failed, failuresMin), fmt.Sprintf("%s >= %d", all, requestsMin)),
		newAlert("HTTPFailing", severityCritical, 2*time.Minute,
			"{{ $labels.service_name }} fails {{ $value | humanizePercentage }} of its requests: it hardly works at all",
			fmt.Sprintf("Over five minutes more than half of the requests had a status of 5xx or no answer at all, %d or more in number.", failuresManyMin),
			nextFailed, fmt.Sprintf("%s > %s", ratio, number(max(failingShare, t.ErrorRatePercent/100))), fmt.Sprintf("%s >= %d", failed, failuresManyMin)),
		newAlert("HTTPQueueing", severityWarning, 10*time.Minute,
			"Requests to {{ $labels.service_name }} wait for {{ $value | humanizeDuration }} on average until they are read",
			fmt.Sprintf("More than half of the time of at least %d requests in five minutes goes by before the application reads them, and %s ms or more.", 3*requestsMin, number(1000*queueSecondsMin)),
			"The application lacks workers, threads or processor time: look at its processor time and its limits in /performance/summary.",
			fmt.Sprintf(`%s / (sum by (%s) (rate(%s_count{phase="queue"}[5m])) > 0) > %s`, queue(`{phase="queue"}`), byService, phases, number(queueSecondsMin)),
			fmt.Sprintf("%s / (%s > 0) > 0.5", queue(`{phase="queue"}`), queue("")), atLeast(byService, "", 3*requestsMin)),
		newAlert("ServiceRestarting", severityError, 0,
			"{{ $labels.service_name }} was started {{ $value }} times within 15 minutes",
			fmt.Sprintf("All of its processes were replaced %d times or more, and at least %d requests failed meanwhile.", restartsMin, restartFailuresMin),
			"Look into the service's log for why it ends; its supervisor (systemctl status, docker inspect) knows the exit status.",
			fmt.Sprintf("sum by (%s) (changes(perfagent_service_start_seconds[15m])) >= %d", byService, restartsMin),
			fmt.Sprintf("%s >= %d", requests(byService, failure, "15m"), restartFailuresMin)),
	}
}

// throughput compares with the hour before, and the same time a day and a week ago: what falls each night is no drop.
func (t *Thresholds) throughput() []rulefmt.Rule {
	rate := func(window, offset string) string {
		if offset != "" {
			offset = " offset " + offset
		}
		return fmt.Sprintf("sum by (%s) (rate(%s_count[%s]%s))", byService, durations, window, offset)
	}
	expected := func(window, offset string) string {
		return fmt.Sprintf("600 * %s >= %d", rate(window, offset), dropRequestsMin)
	}
	less := func(window, offset string) string {
		return fmt.Sprintf("%s < %s * %s", rate("10m", ""), number(dropShare), rate(window, offset))
	}
	rules := []rulefmt.Rule{newAlert("HTTPThroughputDrop", severityWarning, 5*time.Minute,
		"{{ $labels.service_name }} gets {{ printf \"%.2f\" $value }} requests a second, less than a third of what is usual",
		fmt.Sprintf("In ten minutes come less than %s %% of the requests of the hour before, and of the same time a day ago (and a week ago, where that is known); %d or more were expected.", number(100*dropShare), dropRequestsMin),
		"Find out whether clients reach it: load balancer, DNS, certificate, or the service that asks it. A quiet service that answers is not at fault itself.",
		less("1h", "15m"), expected("1h", "15m"), less("30m", "1430m"), expected("30m", "1430m"))}
	rules[0].Expr += fmt.Sprintf("\nunless 600 * %s < %d", rate("30m", "10070m"), dropRequestsMin)
	if t.ThroughputRPS > 0 {
		rules = append(rules, newAlert("HTTPThroughputLow", severityWarning, 10*time.Minute,
			"The host answers {{ printf \"%.2f\" $value }} requests a second",
			fmt.Sprintf("Over five minutes all services together answer requests at less than %s a second.", number(t.ThroughputRPS)),
			"Find out whether clients reach the host: load balancer, DNS, certificate.",
			fmt.Sprintf("(sum(rate(%s_count[5m])) or vector(0)) < %s", durations, number(t.ThroughputRPS))))
	}
	return rules
}

// host has the rules of processors and memory. They fire where somebody suffers, not where something is merely used.
func (t *Thresholds) host() []rulefmt.Rule {
	busy := `1 - sum(rate(perfagent_host_cpu_seconds_total{mode=~"idle|iowait|steal"}[5m])) / sum(rate(perfagent_host_cpu_seconds_total[5m]))`
	stalled := func(resource, kind string, share float64) string {
		return fmt.Sprintf(`on () (rate(perfagent_host_pressure_stalled_seconds_total{resource="%s",kind="%s"}[5m]) > %s)`, resource, kind, number(share))
	}
	used := "sum(perfagent_host_memory_used_bytes) / sum(perfagent_host_memory_total_bytes)"
	available := func(bytes int) string {
		return fmt.Sprintf("on () (perfagent_host_memory_available_bytes < %d)", bytes)
	}
	rules := []rulefmt.Rule{
		newAlert("HostCPUBusy", severityWarning, 10*time.Minute,
			"The processors are {{ $value | humanizePercentage }} busy, and requests wait for them",
			fmt.Sprintf("More than %s %% of the processors' time is used and tasks wait for them, while a service with at least %d requests in five minutes answers slowly (95th percentile above %s ms).",
				number(t.CPUUsagePercent), requestsMin, number(t.ResponseTimeMS)),
			nextProcesses, fmt.Sprintf("%s > %s", busy, number(t.CPUUsagePercent/100)), stalled("cpu", "some", pressureShare), t.harmed()),
		newAlert("HostMemoryLow", severityWarning, 10*time.Minute,
			"{{ $value | humanizePercentage }} of the memory is used, and tasks wait for it",
			fmt.Sprintf("More than %s %% of the memory is used, less than 1 GiB is available, and tasks stand still for want of it.", number(t.MemoryUsagePercent)),
			nextProcesses, fmt.Sprintf("%s > %s", used, number(t.MemoryUsagePercent/100)), available(memoryAvailableMax), stalled("memory", "some", pressureShare)),
		newAlert("HostMemoryExhausted", severityCritical, 2*time.Minute,
			"{{ $value | humanizePercentage }} of the memory is used: the kernel is about to kill processes",
			"Less than 128 MiB of memory is available, and at times all tasks stand still for want of it.",
			nextProcesses, fmt.Sprintf("%s > %s", used, number(max(.95, t.MemoryUsagePercent/100))), available(memoryCriticalMax), stalled("memory", "full", fullPressureShare)),
	}
	for _, p := range []struct{ resource, name, next string }{
		{"memory", "HostMemoryPressure", nextProcesses},
		{"io", "HostIOPressure", "/performance/summary shows the disks' utilisation and who reads and writes; move batch work away from the hours of traffic, or to another disk."},
	} {
		rules = append(rules, newAlert(p.name, severityWarning, 10*time.Minute,
			"All tasks stood still for want of "+strings.ToUpper(p.resource)+" for {{ $value | humanizePercentage }} of the time, and requests are slow",
			fmt.Sprintf("For more than %s %% of five minutes no task could go on, while a service with at least %d requests answers slowly (95th percentile above %s ms).",
				number(100*criticalPressure), requestsMin, number(t.ResponseTimeMS)),
			p.next, fmt.Sprintf(`sum by (resource) (rate(perfagent_host_pressure_stalled_seconds_total{resource="%s",kind="full"}[5m])) > %s`, p.resource, number(criticalPressure)), t.harmed()))
	}
	return append(rules,
		newAlert("HostOOMKill", severityError, 0,
			"The kernel killed {{ $value | printf \"%.0f\" }} processes for want of memory",
			"Within ten minutes memory ran out, of the host or of a control group, and the kernel ended processes.",
			"`journalctl -k | grep -i oom` names the processes; raise the limit of their control group, or find what grows in /performance/summary.",
			"sum(increase(perfagent_host_oom_kills_total[10m])) >= 0.5 unless on () (sum(increase(perfagent_service_cgroup_oom_kills_total[10m])) >= 0.5)"),
		newAlert("ServiceOOMKill", severityError, 0,
			"The kernel killed {{ $value | printf \"%.0f\" }} processes of {{ $labels.service_name }} for want of memory",
			"Within ten minutes the service's control group reached its memory limit, and the kernel ended processes of it.",
			"Raise the limit of its control group (MemoryMax=, --memory), or find what grows.",
			fmt.Sprintf("sum by (%s) (increase(perfagent_service_cgroup_oom_kills_total[10m])) >= 0.5", byService)))
}

func disks() []rulefmt.Rule {
	by := "device, fstype, mountpoint"
	files := fmt.Sprintf(`{fstype!~"%s"}`, pseudoFilesystems)
	figure := func(name string) string {
		return fmt.Sprintf("max by (%s) (perfagent_host_filesystem_%s%s)", by, name, files)
	}
	left := figure("available_bytes") + " / (" + figure("size_bytes") + " > 0)"
	next := "`du -xh MOUNTPOINT | sort -h | tail` shows what takes the space; logs and old images are the usual ones. Then make room or enlarge it."
	scarce := func(name, severity string, share float64, bytes int) rulefmt.Rule {
		return newAlert(name, severity, 10*time.Minute, "{{ $labels.mountpoint }} has {{ $value | humanizePercentage }} of its space left",
			fmt.Sprintf("Less than %s %% of the file system, and less than %d MiB, can still be written.", number(100*share), bytes>>20),
			next, fmt.Sprintf("%s < %s", left, number(share)), fmt.Sprintf("%s < %d", figure("available_bytes"), bytes))
	}
	return []rulefmt.Rule{
		scarce("DiskSpaceLow", severityWarning, .1, diskAvailableMax),
		scarce("DiskSpaceExhausted", severityError, .03, diskCriticalMax),
		newAlert("DiskFilling", severityWarning, time.Hour, "{{ $labels.mountpoint }} will be full within four hours",
			"As the free space fell over the last six hours, and still does in the last one, it is gone in four; a quarter of the file system or less is left, and 1 GiB or more went.",
			next, fmt.Sprintf("max by (%s) (predict_linear(perfagent_host_filesystem_available_bytes%s[6h], 4 * 3600)) < 0", by, files),
			fmt.Sprintf("max by (%s) (predict_linear(perfagent_host_filesystem_available_bytes%s[1h], 4 * 3600)) < 0", by, files),
			left+" < 0.25", fmt.Sprintf("max by (%s) (delta(perfagent_host_filesystem_available_bytes%s[6h])) < -%d", by, files, 1<<30)),
		newAlert("DiskInodesLow", severityWarning, 10*time.Minute, "{{ $labels.mountpoint }} has {{ $value | humanizePercentage }} of its inodes left",
			fmt.Sprintf("Less than 5 %% of the inodes, and less than %d, are free: then no file can be made, whatever space there is.", inodesMax),
			"Find the directory with the many small files (`du --inodes -x MOUNTPOINT | sort -n | tail`), such as sessions or a mail queue.",
			fmt.Sprintf("%s / (%s > 0) < 0.05", figure("files_free"), figure("files")), fmt.Sprintf("%s < %d", figure("files_free"), inodesMax)),
	}
}

// limits has the rules of what is nearly used up: descriptors, tasks, quotas, accept queues.
func (t *Thresholds) limits() []rulefmt.Rule {
	open := "max by (" + byService + ") (perfagent_service_file_descriptors_used_ratio)"
	return []rulefmt.Rule{
		newAlert("ServiceFileDescriptors", severityError, 5*time.Minute,
			"{{ $labels.service_name }} has {{ $value | humanizePercentage }} of its file descriptors open",
			fmt.Sprintf("A process of it has fewer than %d of them left: soon it can accept no connection.", descriptorsLeftMax),
			"Raise its limit (LimitNOFILE=, ulimit -n), or find what it leaves open (ls -l /proc/PID/fd).",
			fmt.Sprintf("%s > %s", open, number(descriptorsUsedShare)),
			fmt.Sprintf("(1 - %s) * on (%s) min by (%s) (perfagent_service_max_file_descriptors) < %d", open, byService, byService, descriptorsLeftMax)),
		newAlert("ServiceTasks", severityError, 5*time.Minute,
			"{{ $labels.service_name }} has {{ $value | humanizePercentage }} of the tasks that its control group may have",
			fmt.Sprintf("Fewer than %d processes and threads are left: soon it can start none.", tasksLeftMax),
			"Raise the limit of its control group (TasksMax=, --pids-limit), or find what it starts and does not end.",
			fmt.Sprintf("max by (%s) (perfagent_service_cgroup_tasks / perfagent_service_cgroup_tasks_limit) > %s", byService, number(descriptorsUsedShare)),
			fmt.Sprintf("min by (%s) (perfagent_service_cgroup_tasks_limit - perfagent_service_cgroup_tasks) < %d", byService, tasksLeftMax)),
		newAlert("ServiceThrottled", severityWarning, 15*time.Minute,
			"{{ $labels.service_name }} is held back by its CPU limit in {{ $value | humanizePercentage }} of the periods",
			fmt.Sprintf("In more than a quarter of at least %d periods it used its quota up, for 50 ms a second or more, while at least %d requests came and were answered slowly (95th percentile above %s ms).", throttledPeriodsMin, requestsMin, number(t.ResponseTimeMS)),
			"Raise the limit of its control group (CPUQuota=, --cpus), or give it less to do.",
			fmt.Sprintf("max by (%s) (rate(perfagent_service_cgroup_cpu_throttled_periods_total[5m]) / (rate(perfagent_service_cgroup_cpu_periods_total[5m]) > 0)) > 0.25", byService),
			fmt.Sprintf("max by (%s) (rate(perfagent_service_cgroup_cpu_throttled_seconds_total[5m])) > 0.05", byService),
			fmt.Sprintf("max by (%s) (increase(perfagent_service_cgroup_cpu_periods_total[5m])) >= %d", byService, throttledPeriodsMin),
			t.slowService()),
		newAlert("ListenOverflows", severityError, 2*time.Minute,
			"{{ $value | printf \"%.0f\" }} connections found an accept queue full within five minutes",
			fmt.Sprintf("A server accepts connections more slowly than they come, so that %d or more waited or were refused.", listenOverflowsMin),
			"`ss -ltn` shows whose Recv-Q has reached its Send-Q; give that server more workers, or a longer backlog (and net.core.somaxconn).",
			fmt.Sprintf("sum(increase(perfagent_host_tcp_listen_overflows_total[5m])) >= %d", listenOverflowsMin)),
	}
}

// agent has the rules about the agent itself.
func (b *Builtin) agent() []rulefmt.Rule {
	lost, seen := "sum(increase(perfagent_exchanges_lost_total[5m]))", "sum(increase(perfagent_exchanges_total[5m]))"
	parts := "" // of a history that should be kept another rule tells
	if b.Persistent {
		parts = `{part!="history"}`
	}
	rules := []rulefmt.Rule{
		newAlert("PerfagentExchangesLost", severityWarning, 10*time.Minute,
			"The agent loses {{ $value | humanizePercentage }} of the exchanges",
			fmt.Sprintf("More than 0.1 %% of them, and %d or more in five minutes, are not in its figures.", lostMin),
			"perfagent_exchanges_lost_total and /monitoring/health say at which stage and why; the limit that was reached stands in ARCHITECTURE.md.",
			fmt.Sprintf("%s / (%s + %s) > 0.001", lost, seen, lost), fmt.Sprintf("%s >= %d", lost, lostMin)),
		newAlert("PerfagentProbeDetached", severityError, 2*time.Minute,
			"The probe {{ $labels.probe }} is not attached any more",
			"A hook in the kernel that the agent had has gone, so that exchanges are not seen, or not all of them.",
			"Restart the agent and look at its log and at `perfagent check`; another program may have unloaded it.",
			"perfagent_probe_attached == 0", "max_over_time(perfagent_probe_attached[1h]) == 1"),
		newAlert("PerfagentPartDown", severityWarning, 5*time.Minute,
			"The agent does without a part that failed: {{ $labels.part }}",
			"It is tried again and has not come back within five minutes; what it does is missing meanwhile.",
			"/monitoring/health says why it fails.", "perfagent_part_up"+parts+" == 0"),
		newAlert("PerfagentConnectionsNearlyFull", severityWarning, 5*time.Minute,
			"The map {{ $labels.map }} of the agent is {{ $value | humanizePercentage }} full",
			"Once it is full, exchanges on further connections are lost with the reason map_full.",
			"Raise --limits.connections and restart the agent.",
			"perfagent_bpf_map_entries / perfagent_bpf_map_max_entries > 0.9", "perfagent_bpf_map_entries >= 1000"),
		newAlert("PerfagentEndpointsOverflow", severityInfo, 15*time.Minute,
			"The agent counts exchanges under _OTHER",
			"There are more endpoints than --limits.endpoints, so that further ones have no figures of their own.",
			"A routes file folds paths into templates; else raise --limits.endpoints.",
			"rate(perfagent_endpoints_overflowed_total[15m]) > 0"),
		newAlert("PerfagentReloadFailed", severityWarning, time.Minute,
			"The agent runs with an older configuration than its file has",
			"The last reload found a mistake and changed nothing.",
			"The agent's log names the file, the line and the key; correct it and reload.", "perfagent_config_last_reload_successful == 0"),
	}
	rules = append(rules, outputs()...)
	if b.Persistent {
		rules = append(rules, newAlert("PerfagentHistoryNotKept", severityError, 5*time.Minute,
			"The agent does not keep its history on the disk",
			"It could not be opened or written, so what is counted now is lost with a restart.",
			"/monitoring/health says why: the disk may be full or read-only, or another agent may use the directory.", "perfagent_history_persistent == 0"))
	}
	return append(rules, newAlert("PerfagentHistoryLoses", severityWarning, 0,
		"The agent's history lacks {{ $value | printf \"%.0f\" }} intervals",
		"Intervals of 10 s could not be taken over in time, or parts of the history were damaged.",
		"/monitoring/health says why; a slow disk and a lack of processor time are the usual reasons.",
		"sum(increase(perfagent_history_dropped_ticks_total[15m])) + sum(increase(perfagent_history_damaged_total[15m])) >= 1"))
}

// outputs has the rules about who is told: receivers, remedies, the event log, and rules themselves.
func outputs() []rulefmt.Rule {
	const byReceiver = "receiver, integration"
	return []rulefmt.Rule{
		newAlert("PerfagentReceiverDown", severityError, 5*time.Minute,
			"The receiver {{ $labels.receiver }} of alerts takes none",
			fmt.Sprintf("In ten minutes %d or more attempts to deliver failed and none succeeded, so that nobody is told by it.", deliveryFailuresMin),
			"`perfagent notify test --receiver {{ $labels.receiver }}` says why: its address, its secret or the way to it has changed, or it is down itself.",
			fmt.Sprintf("sum by (%s) (increase(perfagent_notification_attempts_failed_total[10m])) >= %d unless sum by (%[1]s) (increase(perfagent_notifications_total[10m])) >= 0.5", byReceiver, deliveryFailuresMin)),
		newAlert("PerfagentNotificationsLost", severityError, 0,
			"{{ $value | printf \"%.0f\" }} notifications to the receiver {{ $labels.receiver }} were given up",
			"Within 15 minutes the receiver rejected them, or they could not be delivered for six hours: somebody was not told.",
			"The agent's log has the receiver's answer; `perfagent notify test --receiver {{ $labels.receiver }}` asks for it again.",
			fmt.Sprintf("sum by (%s) (increase(perfagent_notifications_failed_total[15m])) >= 0.5", byReceiver)),
		newAlert("PerfagentRemedyFailed", severityError, 0,
			"{{ $value | printf \"%.0f\" }} remedies failed",
			"Within 15 minutes a command that should have mended something ended with an error or took too long.",
			"remedies.log below the storage path has the command, its exit status and what it printed; so has the log of the agent.",
			"sum(increase(perfagent_remedies_failed_total[15m])) >= 0.5"),
		newAlert("PerfagentEventLogLoses", severityWarning, 0,
			"{{ $value | printf \"%.0f\" }} lines are not in the event log",
			"Within 15 minutes it could not keep up with what is to be logged, or could not be written.",
			"/monitoring/health says why it cannot be written; where it cannot keep up, log less (exchanges: sample) or on a faster disk.",
			"sum(increase(perfagent_event_log_dropped_total[15m])) >= 1"),
		newAlert("PerfagentRulesFail", severityWarning, 10*time.Minute,
			"Rules of the group {{ $labels.rule_group }} cannot be evaluated",
			"Evaluations have been failing for ten minutes: what these rules should raise is not raised.",
			"/api/v1/rules has the error of each rule.",
			"sum by (rule_group) (increase(perfagent_rule_evaluation_failures_total["+rulesFailWindow+"])) >= 1"),
	}
}
