package analytics

import (
	"math"
	"strconv"
	"strings"

	"github.com/perfagent/perfagent/internal/host"
)

// Metric describes a figure of the host, or of its services and their control groups.
type Metric struct {
	Name, Help string // as Prometheus has them
	Counter    bool   // it only grows; else a gauge
}

// Figure is one series that the agent says of itself.
type Figure struct {
	Name    string
	Labels  []Label // in the order of their names
	Counter bool    // it only grows; else a gauge
	Value   float64
}

// YieldFigure receives a figure; the labels are valid during the call.
type YieldFigure func(m *Metric, l *Labels, value float64)

// EachFigure calls yield for every figure of a sample that is known. A limit that is none is not.
func EachFigure(s *host.Sample, yield YieldFigure) {
	var l Labels
	each(hostFigures, &l, s, yield)
	eachHostFigure(s, yield)
	for i := range s.Filesystems {
		f := &s.Filesystems[i]
		l.Reset()
		l.Add("device", f.Device)
		l.Add("fstype", f.Type)
		l.Add("mountpoint", f.Mountpoint)
		each(filesystemFigures, &l, f, yield)
	}
	for i := range s.Disks {
		l.Reset()
		l.Add("device", s.Disks[i].Device)
		l.Add("stacked", strconv.FormatBool(s.Disks[i].Stacked))
		each(diskFigures, &l, &s.Disks[i], yield)
	}
	for i := range s.Interfaces {
		l.Reset()
		l.Add("interface", s.Interfaces[i].Name)
		l.Add("loopback", strconv.FormatBool(s.Interfaces[i].Loopback))
		each(interfaceFigures, &l, &s.Interfaces[i], yield)
	}
	for i := range s.Services {
		eachServiceFigure(&s.Services[i], yield)
	}
}

// eachHostFigure yields what has one more label.
func eachHostFigure(s *host.Sample, yield YieldFigure) {
	var l Labels
	set := func(name, value string) *Labels {
		l.Reset()
		l.Add(name, value)
		return &l
	}
	none := new(Labels)
	if s.CPU != nil {
		for m := range s.CPU.Modes {
			cpuSeconds.yield(set("mode", host.CPUMode(m).String()), &s.CPU.Modes[m].Counter, yield)
		}
	}
	if s.TCP != nil {
		each(tcpFigures, none, s.TCP, yield)
	}
	for _, state := range [...]string{"established", "time_wait", "other"} {
		tcpConnections.yield(set("state", state), &connections{s, state}, yield)
	}
	for _, p := range [...]struct {
		resource string
		pressure *host.ResourcePressure
	}{{"cpu", s.Pressure.CPU}, {"memory", s.Pressure.Memory}, {"io", s.Pressure.IO}} {
		if p.pressure != nil {
			eachStall(p.resource, "some", &p.pressure.Some, yield)
			if p.pressure.Full != nil {
				eachStall(p.resource, "full", p.pressure.Full, yield)
			}
		}
	}
	for i := range s.Errors {
		sourceErrors.yield(set("source", s.Errors[i].Source), &s.Errors[i], yield)
	}
	if s.Info.Kernel != "" {
		hostInfo.yield(set("kernel_release", s.Info.Kernel), &s.Info, yield)
	}
}

func eachStall(resource, kind string, stall *host.Stall, yield YieldFigure) {
	var l Labels
	l.Add("kind", kind)
	l.Add("resource", resource)
	stalled.yield(&l, &stall.Seconds, yield)
	for _, w := range [...]struct {
		window  string
		percent float64
	}{{"10s", stall.Avg10}, {"60s", stall.Avg60}} {
		average := l
		average.Add("window", w.window)
		stalledRatio.yield(&average, &w.percent, yield)
	}
}

// eachServiceFigure yields those of a service and its control groups.
func eachServiceFigure(s *host.Service, yield YieldFigure) {
	var l Labels
	l.Add("service_name", s.Name)
	l.Add("service_namespace", s.Namespace)
	each(serviceFigures, &l, s, yield)
	for _, k := range [...]struct {
		kind    string
		counter *host.Counter
	}{{"involuntary", &s.InvoluntarySwitches}, {"voluntary", &s.VoluntarySwitches}} {
		l.Reset()
		l.Add("kind", k.kind)
		l.Add("service_name", s.Name)
		l.Add("service_namespace", s.Namespace)
		switches.yield(&l, k.counter, yield)
	}
	for i := range s.Cgroups {
		g := &s.Cgroups[i]
		l.Reset()
		l.Add("cgroup", g.Path)
		l.Add("container_id", g.ContainerID)
		l.Add("service_name", s.Name)
		l.Add("service_namespace", s.Namespace)
		each(cgroupFigures, &l, g, yield)
	}
}

// EachMetric calls yield for every metric of figures.
func EachMetric(yield func(*Metric)) {
	eachMetric(hostFigures, yield)
	for _, m := range [...]*Metric{cpuSeconds.Metric, tcpConnections.Metric, stalled.Metric, stalledRatio.Metric, sourceErrors.Metric, hostInfo.Metric, switches.Metric} {
		yield(m)
	}
	eachMetric(tcpFigures, yield)
	eachMetric(filesystemFigures, yield)
	eachMetric(diskFigures, yield)
	eachMetric(interfaceFigures, yield)
	eachMetric(serviceFigures, yield)
	eachMetric(cgroupFigures, yield)
}

func eachMetric[T any](all []figure[T], yield func(*Metric)) {
	for i := range all {
		yield(all[i].Metric)
	}
}

// figure is a metric of things of one kind.
type figure[T any] struct {
	*Metric
	of func(*T) float64
}

func gaugeOf[T any](name, help string, of func(*T) float64) figure[T] {
	return figure[T]{&Metric{Name: name, Help: help}, of}
}

func counterOf[T any](name, help string, of func(*T) float64) figure[T] {
	return figure[T]{&Metric{Name: name, Help: help, Counter: true}, of}
}

func each[T any](all []figure[T], l *Labels, thing *T, yield YieldFigure) {
	for i := range all {
		all[i].yield(l, thing, yield)
	}
}

func (f *figure[T]) yield(l *Labels, thing *T, yield YieldFigure) {
	if v := f.of(thing); host.Known(v) && !math.IsInf(v, 0) {
		yield(f.Metric, l, v)
	}
}

// connections are those of a sample in one state.
type connections struct {
	sample *host.Sample
	state  string
}

func (c *connections) count() float64 {
	tcp, sockets := c.sample.TCP, c.sample.Sockets
	switch {
	case c.state == "established" && tcp != nil:
		return tcp.Established
	case c.state == "time_wait" && sockets != nil:
		return sockets.TimeWait
	case c.state == "other" && tcp != nil && sockets != nil:
		return max(0, sockets.InUse-tcp.Established) // the two files are read one after the other
	}
	return host.Unknown
}

var (
	hostInfo = gaugeOf("perfagent_host_info", "Always 1; the label tells the kernel.", func(*host.Info) float64 { return 1 })

	cpuSeconds = counterOf("perfagent_host_cpu_seconds_total", "Time of all processors by mode; guests' time is no part of user and nice.",
		func(c *host.Counter) float64 { return c.Total })
	tcpConnections = gaugeOf("perfagent_host_tcp_connections",
		"TCP sockets by state: established (CLOSE_WAIT included), time_wait, and other (listening, in a handshake, closing).", (*connections).count)
	stalled = counterOf("perfagent_host_pressure_stalled_seconds_total",
		"Time in which some or all tasks that were not idle stood still for want of a resource.", func(c *host.Counter) float64 { return c.Total })
	stalledRatio = gaugeOf("perfagent_host_pressure_stalled_ratio", "Share of the last 10 s and 60 s in which tasks stood still, by the kernel's own average.",
		func(percent *float64) float64 { return *percent / 100 })
	sourceErrors = counterOf("perfagent_host_source_errors_total", "Attempts to read a source of host figures that failed; its metrics are absent then.",
		func(e *host.SourceErrors) float64 { return float64(e.Count) })
	switches = counterOf("perfagent_service_context_switches_total",
		"Context switches of the threads of a service's watched processes, read every 5 s or more seldom.", func(c *host.Counter) float64 { return c.Total })
)

// of turns a figure of a part that may be absent into one of the whole.
func of[S, T any](part func(*S) *T, figure func(*T) float64) func(*S) float64 {
	return func(whole *S) float64 {
		if p := part(whole); p != nil {
			return figure(p)
		}
		return host.Unknown
	}
}

func partCPU(s *host.Sample) *host.CPU         { return s.CPU }
func partLoad(s *host.Sample) *host.Load       { return s.Load }
func partMemory(s *host.Sample) *host.Memory   { return s.Memory }
func partPaging(s *host.Sample) *host.Paging   { return s.Paging }
func partSockets(s *host.Sample) *host.Sockets { return s.Sockets }

var hostFigures = []figure[host.Sample]{
	gaugeOf("perfagent_host_cpus", "Processors that are online.", of(partCPU, func(c *host.CPU) float64 { return float64(c.Processors) })),
	gaugeOf("perfagent_host_load1", "Load average of 1 minute.", of(partLoad, func(l *host.Load) float64 { return l.One })),
	gaugeOf("perfagent_host_load5", "Load average of 5 minutes.", of(partLoad, func(l *host.Load) float64 { return l.Five })),
	gaugeOf("perfagent_host_load15", "Load average of 15 minutes.", of(partLoad, func(l *host.Load) float64 { return l.Fifteen })),
	gaugeOf("perfagent_host_memory_total_bytes", "Memory of the host.", of(partMemory, func(m *host.Memory) float64 { return m.Total })),
	gaugeOf("perfagent_host_memory_available_bytes", "Memory that programs can still take without swapping.",
		of(partMemory, func(m *host.Memory) float64 { return m.Available })),
	gaugeOf("perfagent_host_memory_used_bytes", "Memory that is not available.", of(partMemory, func(m *host.Memory) float64 { return m.Used })),
	gaugeOf("perfagent_host_swap_total_bytes", "Swap space.", of(partMemory, func(m *host.Memory) float64 { return m.SwapTotal })),
	gaugeOf("perfagent_host_swap_used_bytes", "Swap space in use.", of(partMemory, func(m *host.Memory) float64 { return m.SwapUsed })),
	counterOf("perfagent_host_swap_in_bytes_total", "Memory read back from swap.", of(partPaging, func(p *host.Paging) float64 { return p.SwapInBytes.Total })),
	counterOf("perfagent_host_swap_out_bytes_total", "Memory written to swap.", of(partPaging, func(p *host.Paging) float64 { return p.SwapOutBytes.Total })),
	counterOf("perfagent_host_major_page_faults_total", "Page faults that waited for a disk.", of(partPaging, func(p *host.Paging) float64 { return p.MajorFaults.Total })),
	counterOf("perfagent_host_oom_kills_total", "Processes killed for want of memory.", of(partPaging, func(p *host.Paging) float64 { return p.OOMKills.Total })),
	gaugeOf("perfagent_host_tcp_orphans", "TCP sockets closed by their process and not yet by TCP, of all network namespaces.",
		of(partSockets, func(s *host.Sockets) float64 { return s.Orphaned })),
	gaugeOf("perfagent_host_tcp_memory_bytes", "Memory of all TCP buffers, of all network namespaces.", of(partSockets, func(s *host.Sockets) float64 { return s.Memory })),
	gaugeOf("perfagent_host_boot_time_seconds", "When the host started, in seconds since 1970.", func(s *host.Sample) float64 {
		if s.Info.Boot.IsZero() {
			return host.Unknown
		}
		return float64(s.Info.Boot.Unix())
	}),
	gaugeOf("perfagent_host_watched_processes", "Processes whose resources are read because they exchanged requests lately.",
		func(s *host.Sample) float64 { return float64(s.Watched) }),
	counterOf("perfagent_host_samples_total", "Samples taken of the host's resources.", func(s *host.Sample) float64 { return float64(s.Number) }),
	counterOf("perfagent_host_sample_cpu_seconds_total", "Processor time that sampling took.", func(s *host.Sample) float64 { return s.CPUSeconds }),
}

var filesystemFigures = []figure[host.Filesystem]{
	gaugeOf("perfagent_host_filesystem_size_bytes", "Size of the file system.", func(f *host.Filesystem) float64 { return f.Size }),
	gaugeOf("perfagent_host_filesystem_used_bytes", "Space in use.", func(f *host.Filesystem) float64 { return f.Used }),
	gaugeOf("perfagent_host_filesystem_available_bytes", "Space that users other than root can still write.", func(f *host.Filesystem) float64 { return f.Available }),
	gaugeOf("perfagent_host_filesystem_files", "Inodes of the file system; 0 where it has no limit.", func(f *host.Filesystem) float64 { return f.Files }),
	gaugeOf("perfagent_host_filesystem_files_free", "Inodes that are free.", func(f *host.Filesystem) float64 { return f.FilesFree }),
}

var diskFigures = []figure[host.Disk]{
	counterOf("perfagent_host_disk_reads_total", "Reads that finished.", func(d *host.Disk) float64 { return d.Reads.Total }),
	counterOf("perfagent_host_disk_writes_total", "Writes that finished.", func(d *host.Disk) float64 { return d.Writes.Total }),
	counterOf("perfagent_host_disk_read_bytes_total", "Bytes read.", func(d *host.Disk) float64 { return d.ReadBytes.Total }),
	counterOf("perfagent_host_disk_written_bytes_total", "Bytes written.", func(d *host.Disk) float64 { return d.WrittenBytes.Total }),
	counterOf("perfagent_host_disk_read_seconds_total", "Time that reads took, summed up: divided by the reads, their average.",
		func(d *host.Disk) float64 { return d.ReadSeconds.Total }),
	counterOf("perfagent_host_disk_write_seconds_total", "Time that writes took, summed up.", func(d *host.Disk) float64 { return d.WriteSeconds.Total }),
	counterOf("perfagent_host_disk_busy_seconds_total", "Time with any operation under way.", func(d *host.Disk) float64 { return d.BusySeconds.Total }),
	gaugeOf("perfagent_host_disk_operations", "Operations under way.", func(d *host.Disk) float64 { return d.InFlight }),
}

var interfaceFigures = []figure[host.Interface]{
	counterOf("perfagent_host_network_receive_bytes_total", "Bytes received.", func(i *host.Interface) float64 { return i.ReceivedBytes.Total }),
	counterOf("perfagent_host_network_receive_packets_total", "Packets received.", func(i *host.Interface) float64 { return i.ReceivedPackets.Total }),
	counterOf("perfagent_host_network_receive_errors_total", "Packets received with errors.", func(i *host.Interface) float64 { return i.ReceiveErrors.Total }),
	counterOf("perfagent_host_network_receive_drops_total", "Packets received and dropped.", func(i *host.Interface) float64 { return i.ReceivesDropped.Total }),
	counterOf("perfagent_host_network_transmit_bytes_total", "Bytes sent.", func(i *host.Interface) float64 { return i.SentBytes.Total }),
	counterOf("perfagent_host_network_transmit_packets_total", "Packets sent.", func(i *host.Interface) float64 { return i.SentPackets.Total }),
	counterOf("perfagent_host_network_transmit_errors_total", "Packets not sent because of errors.", func(i *host.Interface) float64 { return i.TransmitErrors.Total }),
	counterOf("perfagent_host_network_transmit_drops_total", "Packets dropped instead of sent.", func(i *host.Interface) float64 { return i.TransmitsDropped.Total }),
}

var tcpFigures = []figure[host.TCP]{
	counterOf("perfagent_host_tcp_active_opens_total", "Connections that this host began.", func(t *host.TCP) float64 { return t.ActiveOpens.Total }),
	counterOf("perfagent_host_tcp_passive_opens_total", "Connections that this host accepted.", func(t *host.TCP) float64 { return t.PassiveOpens.Total }),
	counterOf("perfagent_host_tcp_failed_attempts_total", "Handshakes that came to nothing.", func(t *host.TCP) float64 { return t.FailedAttempts.Total }),
	counterOf("perfagent_host_tcp_established_resets_total", "Open connections that ended with a reset.", func(t *host.TCP) float64 { return t.EstablishedResets.Total }),
	counterOf("perfagent_host_tcp_sent_resets_total", "Resets sent.", func(t *host.TCP) float64 { return t.SentResets.Total }),
	counterOf("perfagent_host_tcp_sent_segments_total", "Segments sent, without retransmitted ones.", func(t *host.TCP) float64 { return t.SentSegments.Total }),
	counterOf("perfagent_host_tcp_received_segments_total", "Segments received.", func(t *host.TCP) float64 { return t.ReceivedSegments.Total }),
	counterOf("perfagent_host_tcp_retransmitted_segments_total", "Segments sent again.", func(t *host.TCP) float64 { return t.RetransmittedSegments.Total }),
	counterOf("perfagent_host_tcp_syn_retransmits_total", "Handshakes' first segments sent again.", func(t *host.TCP) float64 { return t.SYNRetransmits.Total }),
	counterOf("perfagent_host_tcp_timeouts_total", "Retransmission timers that ran out.", func(t *host.TCP) float64 { return t.Timeouts.Total }),
	counterOf("perfagent_host_tcp_received_errors_total", "Segments received with errors.", func(t *host.TCP) float64 { return t.ReceivedErrors.Total }),
	counterOf("perfagent_host_tcp_listen_overflows_total", "Connections that found an accept queue full.", func(t *host.TCP) float64 { return t.ListenOverflows.Total }),
	counterOf("perfagent_host_tcp_listen_drops_total", "Connections dropped by listening sockets, overflows included.", func(t *host.TCP) float64 { return t.ListenDrops.Total }),
	counterOf("perfagent_host_tcp_syn_cookies_total", "SYN cookies sent because the queue of half-open connections was full.", func(t *host.TCP) float64 { return t.SYNCookiesSent.Total }),
	counterOf("perfagent_host_tcp_syn_drops_total", "Handshakes dropped because the queue of half-open connections was full.", func(t *host.TCP) float64 { return t.SYNQueueDrops.Total }),
	counterOf("perfagent_host_tcp_zero_windows_total", "Times that a full receive buffer closed a window.", func(t *host.TCP) float64 { return t.ZeroWindows.Total }),
	counterOf("perfagent_host_tcp_zero_windows_wanted_total", "Times that a window should have been closed, and was not so as not to shrink it.",
		func(t *host.TCP) float64 { return t.WantedZeroWindow.Total }),
	counterOf("perfagent_host_tcp_zero_windows_ended_total", "Times that a closed window was opened again.", func(t *host.TCP) float64 { return t.ReopenedWindows.Total }),
	counterOf("perfagent_host_tcp_receive_drops_total", "Segments dropped because the receive buffer was full.", func(t *host.TCP) float64 { return t.PrunedReceives.Total }),
	counterOf("perfagent_host_tcp_backlog_drops_total", "Segments dropped because a socket's backlog was full.", func(t *host.TCP) float64 { return t.BacklogDrops.Total }),
	counterOf("perfagent_host_tcp_memory_aborts_total", "Connections given up for want of memory.", func(t *host.TCP) float64 { return t.AbortsOnMemory.Total }),
	counterOf("perfagent_host_tcp_timeout_aborts_total", "Connections given up because the peer did not answer.", func(t *host.TCP) float64 { return t.AbortsOnTimeout.Total }),
}

var serviceFigures = []figure[host.Service]{
	gaugeOf("perfagent_service_processes", "Processes of the service that are watched.", func(s *host.Service) float64 { return float64(len(s.Processes)) }),
	gaugeOf("perfagent_service_start_seconds", "When the oldest watched process of the service was started, in seconds since the host's boot.", func(s *host.Service) float64 {
		oldest := host.Unknown
		for i := range s.Processes {
			if start := s.Processes[i].StartSeconds; i == 0 || start < oldest {
				oldest = start
			}
		}
		return oldest
	}),
	counterOf("perfagent_service_cpu_seconds_total", "Processor time of the service's processes while they were watched.", func(s *host.Service) float64 { return s.CPUSeconds.Total }),
	gaugeOf("perfagent_service_resident_memory_bytes", "Resident memory of the service's processes; what they share counts for each.",
		func(s *host.Service) float64 { return s.ResidentBytes }),
	gaugeOf("perfagent_service_threads", "Threads of the service's processes.", func(s *host.Service) float64 { return s.Threads }),
	gaugeOf("perfagent_service_open_file_descriptors", "Open file descriptors of the service's processes.", func(s *host.Service) float64 { return s.OpenFiles }),
	gaugeOf("perfagent_service_file_descriptors_used_ratio", "Share of its limit that the process with the highest one has open.",
		func(s *host.Service) float64 { return s.OpenFilesUsed }),
	gaugeOf("perfagent_service_max_file_descriptors", "Lowest limit of open file descriptors of the service's processes.", func(s *host.Service) float64 {
		lowest := math.Inf(1)
		for i := range s.Processes {
			lowest = min(lowest, s.Processes[i].OpenFilesMax)
		}
		return lowest
	}),
	counterOf("perfagent_service_storage_read_bytes_total", "Bytes that the service's processes caused to be read from block devices while they were watched.",
		func(s *host.Service) float64 { return s.ReadBytes.Total }),
	counterOf("perfagent_service_storage_written_bytes_total", "Bytes that the service's processes wrote to files on block devices while they were watched.",
		func(s *host.Service) float64 { return s.WrittenBytes.Total }),
}

var cgroupFigures = []figure[host.CgroupStats]{
	counterOf("perfagent_service_cgroup_cpu_seconds_total", "Processor time of the control group.", func(g *host.CgroupStats) float64 { return g.CPUSeconds.Total }),
	gaugeOf("perfagent_service_cgroup_cpu_limit", "Processors that the group may use; absent without a limit.", func(g *host.CgroupStats) float64 { return g.CPULimit }),
	counterOf("perfagent_service_cgroup_cpu_periods_total", "Periods of the quota in which the group ran.", func(g *host.CgroupStats) float64 { return g.Periods.Total }),
	counterOf("perfagent_service_cgroup_cpu_throttled_periods_total", "Periods in which the quota was used up.", func(g *host.CgroupStats) float64 { return g.ThrottledPeriods.Total }),
	counterOf("perfagent_service_cgroup_cpu_throttled_seconds_total", "Time for which the group was throttled.", func(g *host.CgroupStats) float64 { return g.ThrottledSeconds.Total }),
	gaugeOf("perfagent_service_cgroup_memory_bytes", "Memory charged to the group, with page cache.", func(g *host.CgroupStats) float64 { return g.MemoryBytes }),
	gaugeOf("perfagent_service_cgroup_memory_limit_bytes", "Memory that the group may use; absent without a limit.", func(g *host.CgroupStats) float64 { return g.MemoryLimitBytes }),
	counterOf("perfagent_service_cgroup_oom_kills_total", "Processes of the group killed for want of memory.", func(g *host.CgroupStats) float64 { return g.OOMKills.Total }),
	counterOf("perfagent_service_cgroup_storage_read_bytes_total", "Bytes that the group read from block devices.", func(g *host.CgroupStats) float64 { return g.ReadBytes.Total }),
	counterOf("perfagent_service_cgroup_storage_written_bytes_total", "Bytes that the group wrote to block devices.", func(g *host.CgroupStats) float64 { return g.WrittenBytes.Total }),
	gaugeOf("perfagent_service_cgroup_tasks", "Processes and threads of the group.", func(g *host.CgroupStats) float64 { return g.Tasks }),
	gaugeOf("perfagent_service_cgroup_tasks_limit", "Processes and threads that the group may have; absent without a limit.", func(g *host.CgroupStats) float64 { return g.TasksLimit }),
}

// FigureLabel is the value of a figure's label as it is shown: what is no UTF-8, and what a terminal would obey, is escaped in
// names that others give, such as paths. Two values stay two: one that is escaped stands in quotation marks, and so does one that
// begins with one.
func FigureLabel(value string) string {
	if isPrintableUnicode(value) && !strings.HasPrefix(value, `"`) {
		return value
	}
	return strconv.Quote(value)
}
