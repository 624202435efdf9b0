package finding

import "github.com/perfagent/perfagent/internal/series"

// part is what a metric is on the way from a cause to requests that are slow or fail.
type part uint8

const (
	partOther      part = iota // says nothing of causes
	partLoad                   // requests that come
	partDuration               // how long they take: a symptom
	partFailures               // how many fail: a symptom
	partPhase                  // a part of their time: a symptom
	partCPU                    // processor time that a service uses
	partHostCPU                // that all use
	partStolen                 // that other machines took
	partStarved                // ready to run, and no processor
	partThrottled              // kept from running by a limit
	partMemory                 // memory that a service takes
	partHostMemory             // that all take
	partReclaim                // waiting for memory: swap, stalls, kills
	partIO                     // bytes that a service reads from and writes to disks
	partHostIO                 // disks that are busy or slow
	partNetwork                // delay and loss between hosts
	partLimit                  // a number of things that may not become larger
)

// nature is what a metric is to whoever looks for a cause.
type nature struct {
	part  part
	kind  series.MetricKind
	unit  string
	least float64 // an amount that is worth a thought, in its unit: growth below it does not count
}

// phaseNames are the phases of a server's exchange, phaseMetrics the series of their durations.
var (
	phaseNames   = [...]string{"queue", "processing", "transfer"}
	phaseMetrics = [len(phaseNames)]string{QueueTime, ProcessingTime, TransferTime}
)

// natures are the parts of metrics: of a service, an endpoint or a target, and of the host. Amounts are smaller than those that make a finding of
// their own (Metric.Absolute): what is no trouble by itself may still be where another one comes from.
var natures = map[string]struct {
	part, host part
	least      float64
}{
	ResponseTime:    {partDuration, partOther, 5},
	ResponseTimeP95: {partDuration, partOther, 10},
	ErrorRate:       {partFailures, partOther, 1},
	Throughput:      {partLoad, partOther, 1},
	QueueTime:       {partPhase, partOther, 5},
	ProcessingTime:  {partPhase, partOther, 5},
	TransferTime:    {partPhase, partOther, 5},
	CPUUsage:        {partCPU, partHostCPU, 10},
	CPUSteal:        {partOther, partStolen, 5},
	CPUThrottling:   {partThrottled, partThrottled, 5},
	RunQueueWait:    {partStarved, partStarved, 1},
	PressureCPU:     {partStarved, partStarved, 10},
	MemoryUsage:     {partLimit, partHostMemory, 10},
	MemoryResident:  {partMemory, partOther, 50 << 20},
	SwapRate:        {partReclaim, partReclaim, 1 << 20},
	OOMKills:        {partReclaim, partReclaim, 0.2},
	PressureMemory:  {partReclaim, partReclaim, 2},
	DiskRead:        {partIO, partOther, 4 << 20},
	DiskWrite:       {partIO, partOther, 4 << 20},
	DiskUtilisation: {partOther, partHostIO, 20},
	DiskLatency:     {partOther, partHostIO, 5},
	PressureIO:      {partHostIO, partHostIO, 10},
	Retransmits:     {partNetwork, partNetwork, 2},
	RTT:             {partNetwork, partNetwork, 2},
	OpenFiles:       {partLimit, partOther, 100},
	Threads:         {partLimit, partOther, 100},
}

// natureOf returns the nature of a measure; the zero value for one that explains nothing.
func natureOf(m *Measure) nature {
	known, metric := natures[m.Metric], MetricOf(m.Metric)
	if metric == nil {
		return nature{}
	}
	n := nature{known.part, metric.Kind, metric.Unit, known.least}
	if m.Service == "" {
		n.part = known.host
	}
	return n
}

// partOf is its part alone.
func partOf(m *Measure) part { return natureOf(m).part }
