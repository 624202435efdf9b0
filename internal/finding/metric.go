package finding

import (
	"math"

	"github.com/perfagent/perfagent/internal/series"
)

// Names of metrics, as users type them.
const (
	ResponseTime      = "response_time"
	ResponseTimeP95   = "response_time_p95"
	ErrorRate         = "error_rate"
	Throughput        = "throughput"
	QueueTime         = "queue_time"
	ProcessingTime    = "processing_time"
	TransferTime      = "transfer_time"
	SaturationUsed    = "saturation"
	CPUUsage          = "cpu_usage"
	CPUSteal          = "cpu_steal"
	CPUThrottling     = "cpu_throttling"
	RunQueueWait      = "run_queue_wait"
	MemoryUsage       = "memory_usage"
	MemoryLimitUsage  = "memory_limit_usage"
	MemoryResident    = "memory_resident"
	SwapRate          = "swap_rate"
	OOMKills          = "oom_kills"
	DiskUtilisation   = "disk_utilisation"
	DiskLatency       = "disk_latency"
	DiskRead          = "disk_read"
	DiskWrite         = "disk_write"
	DiskSpaceUsed     = "disk_space_used"
	NetworkThroughput = "network_throughput"
	Retransmits       = "retransmits"
	RTT               = "rtt"
	PressureCPU       = "pressure_cpu"
	PressureMemory    = "pressure_memory"
	PressureIO        = "pressure_io"
	OpenFiles         = "open_files"
	Threads           = "threads"
	ProcessStarts     = "process_starts"
)

// scale is on which values of a metric are compared: the one on which they scatter alike whatever their level.
type scale uint8

const (
	linear      scale = iota
	square            // counts of independent events: their root scatters alike
	logarithmic       // durations and sizes: what matters is the ratio
)

func (s scale) of(v float64) float64 {
	switch s {
	case square:
		return math.Sqrt(max(v, 0))
	case logarithmic:
		return math.Log(max(v, 1e-6))
	}
	return v
}

func (s scale) back(x float64) float64 {
	switch s {
	case square:
		return max(x, 0) * max(x, 0)
	case logarithmic:
		return math.Exp(x)
	}
	return x
}

// Metric describes a metric, and which of its changes anybody cares about.
type Metric struct {
	Name  string
	Unit  string
	Words string // for people
	Kind  series.MetricKind
	// Bad is the direction that is bad: 1 up, -1 down, 0 both. Others are no findings.
	Bad int
	// Percent and Absolute are the least effect: both of them must be reached.
	Percent, Absolute float64
	// Gross is the factor from which an effect is told as soon as it is beyond all that was seen, though series that drift may do so by chance
	// more often than is wanted; GrossAbsolute is its least size. 0: there is none.
	Gross, GrossAbsolute float64
	// Requests is how many a value rests on at least; the interval is widened until there are so many.
	Requests int
	// Values is how many unusual values in a row make a finding; 0: the metric explains others and is never a finding itself.
	Values int

	scale scale
	// rank orders the metrics of one finding: what people feel leads.
	rank int
	// long has the metric judged by the hours and days before as well.
	long bool
}

// least is the smallest effect, up or down from what was expected, that anybody cares about.
func (m *Metric) least(expected float64) float64 {
	return max(m.Absolute, m.Percent/100*math.Abs(expected))
}

// matters tells whether a value is far enough from what was expected, in a direction that is bad.
func (m *Metric) matters(v, expected float64) bool {
	effect := v - expected
	if m.Bad != 0 {
		effect *= float64(m.Bad)
	}
	return math.Abs(effect) >= m.least(expected) && (effect > 0 || m.Bad == 0)
}

// isGross tells whether an effect is one that nobody takes for chance.
func (m *Metric) isGross(v, expected float64) bool {
	return m.Gross > 0 && math.Abs(v-expected) >= m.GrossAbsolute && (v >= m.Gross*expected || v <= expected/m.Gross)
}

// Metrics are all metrics, those of requests first.
//
// Of response times the geometric mean is compared: with few requests it scatters least, and one slow request does not move it. What
// concerns one request in ten shows in the 95th percentile, which needs more of them. Least effects are what a person would look into.
var Metrics = []Metric{
	{Name: ErrorRate, Unit: "percent", Words: "error rate", Kind: series.KindErrors, Bad: 1, Percent: 50, Absolute: 1, Requests: 10, Values: 1, rank: 9},
	{Name: ResponseTime, Unit: "ms", Words: "response time", Kind: series.KindLatency, Bad: 1, Percent: 20, Absolute: 5, Gross: 2.5, GrossAbsolute: 50, Requests: 8, Values: 2, scale: logarithmic, rank: 8, long: true},
	{Name: ResponseTimeP95, Unit: "ms", Words: "95th percentile of the response time", Kind: series.KindLatency, Bad: 1, Percent: 30, Absolute: 10, Gross: 2.5, GrossAbsolute: 60, Requests: 60, Values: 2, scale: logarithmic, rank: 7},
	{Name: Throughput, Unit: "requests/s", Words: "throughput", Kind: series.KindLoad, Percent: 40, Absolute: .2, Gross: 3, GrossAbsolute: 1, Requests: 20, Values: 2, scale: square, rank: 5},
	{Name: QueueTime, Unit: "ms", Words: "time in the queue", Kind: series.KindLatency, Bad: 1, Percent: 20, Absolute: 5, Requests: 1, scale: logarithmic},
	{Name: ProcessingTime, Unit: "ms", Words: "processing time", Kind: series.KindLatency, Bad: 1, Percent: 20, Absolute: 5, Requests: 1, scale: logarithmic},
	{Name: TransferTime, Unit: "ms", Words: "transfer time", Kind: series.KindLatency, Bad: 1, Percent: 20, Absolute: 5, Requests: 1, scale: logarithmic},
	{Name: SaturationUsed, Unit: "percent", Words: "used part of the capacity", Kind: series.KindPressure, Bad: 1, Percent: 20, Absolute: 15, Values: 6, rank: 4},

	{Name: PressureCPU, Unit: "percent", Words: "time in which tasks waited for a processor", Kind: series.KindPressure, Bad: 1, Percent: 50, Absolute: 15, Values: 3, rank: 3, long: true},
	{Name: PressureMemory, Unit: "percent", Words: "time in which tasks waited for memory", Kind: series.KindPressure, Bad: 1, Percent: 50, Absolute: 5, Values: 3, rank: 3, long: true},
	{Name: PressureIO, Unit: "percent", Words: "time in which tasks waited for disks", Kind: series.KindPressure, Bad: 1, Percent: 50, Absolute: 15, Values: 3, rank: 3, long: true},
	{Name: CPUUsage, Unit: "percent", Words: "use of processors", Kind: series.KindCPU, Bad: 1, Percent: 50, Absolute: 30, Values: 3, rank: 2, long: true},
	{Name: CPUSteal, Unit: "percent", Words: "processor time taken by other machines", Kind: series.KindPressure, Bad: 1, Percent: 50, Absolute: 10, Values: 3, rank: 2, long: true},
	{Name: CPUThrottling, Unit: "percent", Words: "throttled periods", Kind: series.KindPressure, Bad: 1, Percent: 50, Absolute: 10, Values: 3, rank: 3, long: true},
	{Name: RunQueueWait, Unit: "ms", Words: "wait for a processor", Kind: series.KindPressure, Bad: 1, Percent: 100, Absolute: 2, Values: 3, scale: logarithmic, rank: 3, long: true},
	{Name: MemoryUsage, Unit: "percent", Words: "use of memory", Kind: series.KindMemory, Bad: 1, Percent: 10, Absolute: 10, Values: 3, rank: 2, long: true},
	{Name: MemoryLimitUsage, Unit: "percent", Words: "memory use", Kind: series.KindMemory, Bad: 1, Percent: 5, Absolute: 5},
	{Name: MemoryResident, Unit: "bytes", Words: "resident memory", Kind: series.KindMemory, Bad: 1, Percent: 50, Absolute: 100 << 20, Values: 3, scale: logarithmic, rank: 1, long: true},
	{Name: SwapRate, Unit: "bytes/s", Words: "swapping", Kind: series.KindMemory, Bad: 1, Percent: 100, Absolute: 1 << 20, Values: 3, scale: square, rank: 3, long: true},
	{Name: OOMKills, Unit: "1", Words: "processes killed for want of memory", Kind: series.KindMemory, Bad: 1, Absolute: 1},
	{Name: DiskUtilisation, Unit: "percent", Words: "use of the disk", Kind: series.KindDisk, Bad: 1, Percent: 50, Absolute: 40, Values: 3, rank: 2, long: true},
	{Name: DiskLatency, Unit: "ms", Words: "time of a disk's operation", Kind: series.KindDisk, Bad: 1, Percent: 100, Absolute: 10, Requests: 5, Values: 3, scale: logarithmic, rank: 3, long: true},
	{Name: DiskRead, Unit: "bytes/s", Words: "reading from disks", Kind: series.KindDisk, Bad: 1, Percent: 100, Absolute: 1 << 20, scale: square},
	{Name: DiskWrite, Unit: "bytes/s", Words: "writing to disks", Kind: series.KindDisk, Bad: 1, Percent: 100, Absolute: 1 << 20, scale: square},
	{Name: DiskSpaceUsed, Unit: "percent", Words: "used space", Kind: series.KindOther, Bad: 1, Percent: 5, Absolute: 5},
	{Name: NetworkThroughput, Unit: "bytes/s", Words: "network traffic", Kind: series.KindNetwork, Percent: 100, Absolute: 10 << 20, scale: square},
	{Name: Retransmits, Unit: "segments/s", Words: "TCP retransmissions", Kind: series.KindNetwork, Bad: 1, Percent: 200, Absolute: 5, Values: 3, scale: square, rank: 3, long: true},
	{Name: RTT, Unit: "ms", Words: "TCP round trip time", Kind: series.KindNetwork, Bad: 1, Percent: 100, Absolute: 5, Requests: 5, Values: 3, scale: logarithmic, rank: 3, long: true},
	{Name: OpenFiles, Unit: "1", Words: "open files", Kind: series.KindOther, Bad: 1, Percent: 50, Absolute: 200, Values: 3, scale: square, rank: 1},
	{Name: Threads, Unit: "1", Words: "threads", Kind: series.KindOther, Bad: 1, Percent: 50, Absolute: 100, Values: 3, scale: square, rank: 1},
	{Name: ProcessStarts, Unit: "1", Words: "started processes", Kind: series.KindOther, Absolute: 1},
}

// MetricOf returns the metric of a name, nil where there is none.
func MetricOf(name string) *Metric { return metrics[name] }

var metrics = func() map[string]*Metric {
	all := map[string]*Metric{}
	for i := range Metrics {
		all[Metrics[i].Name] = &Metrics[i]
	}
	return all
}()
