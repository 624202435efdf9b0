package analytics

import "time"

// System is the host at one moment. What is not known is nil, and absent wherever it is shown: it is never a zero.
type System struct {
	Time *time.Time `json:"time,omitempty"` // of the sample

	CPUCount         *int     `json:"cpu_count,omitempty"`
	CPUPercent       *float64 `json:"cpu_percent,omitempty"` // busy, of all processors: 0 to 100
	CPUUserPercent   *float64 `json:"cpu_user_percent,omitempty"`
	CPUSystemPercent *float64 `json:"cpu_system_percent,omitempty"`
	CPUIOWaitPercent *float64 `json:"cpu_iowait_percent,omitempty"`
	CPUStealPercent  *float64 `json:"cpu_steal_percent,omitempty"`

	Load1  *float64 `json:"load_1m,omitempty"`
	Load5  *float64 `json:"load_5m,omitempty"`
	Load15 *float64 `json:"load_15m,omitempty"`

	MemoryTotalMB     *float64 `json:"memory_total_mb,omitempty"` // of 10^6 bytes, as all _mb
	MemoryAvailableMB *float64 `json:"memory_available_mb,omitempty"`
	MemoryUsedPercent *float64 `json:"memory_used_percent,omitempty"` // what is not available
	SwapTotalMB       *float64 `json:"swap_total_mb,omitempty"`
	SwapUsedMB        *float64 `json:"swap_used_mb,omitempty"`

	// Pressure stall information: the part of the last 10 seconds in which some (or all) tasks that could run waited.
	PressureCPUSomePercent    *float64 `json:"pressure_cpu_some_percent,omitempty"`
	PressureMemorySomePercent *float64 `json:"pressure_memory_some_percent,omitempty"`
	PressureMemoryFullPercent *float64 `json:"pressure_memory_full_percent,omitempty"`
	PressureIOSomePercent     *float64 `json:"pressure_io_some_percent,omitempty"`
	PressureIOFullPercent     *float64 `json:"pressure_io_full_percent,omitempty"`

	// All disks and all network interfaces but the loopback.
	DiskReadMBPerSecond        *float64 `json:"disk_read_mb_per_second,omitempty"`
	DiskWriteMBPerSecond       *float64 `json:"disk_write_mb_per_second,omitempty"`
	DiskBusyPercent            *float64 `json:"disk_busy_percent,omitempty"` // of the busiest
	NetworkReceiveMBPerSecond  *float64 `json:"network_receive_mb_per_second,omitempty"`
	NetworkTransmitMBPerSecond *float64 `json:"network_transmit_mb_per_second,omitempty"`
	TCPRetransmitsPerSecond    *float64 `json:"tcp_retransmits_per_second,omitempty"`
	TCPConnections             *float64 `json:"tcp_connections,omitempty"` // open
}

// Resources are what the processes of a service use of the host at one moment; in a summary the processors are those of its window. What is not known is nil, as in System.
type Resources struct {
	Processes               *int     `json:"processes,omitempty"`
	CPUPercent              *float64 `json:"cpu_percent,omitempty" about:"of one processor: above 100 with several; the mean over the window, as far as its processes were watched"`
	MemoryResidentMB        *float64 `json:"memory_resident_mb,omitempty"`
	Threads                 *float64 `json:"threads,omitempty"`
	OpenFiles               *float64 `json:"open_files,omitempty"`
	OpenFilesUsedPercent    *float64 `json:"open_files_used_percent,omitempty"` // of its limit, of the process with the highest share
	DiskReadMBPerSecond     *float64 `json:"disk_read_mb_per_second,omitempty"`
	DiskWriteMBPerSecond    *float64 `json:"disk_write_mb_per_second,omitempty"`
	InvoluntarySwitchesRate *float64 `json:"involuntary_switches_per_second,omitempty"`

	// Of the control group that has the least left.
	CPUThrottledPercent    *float64 `json:"cpu_throttled_percent,omitempty"`     // of its periods, while it wanted to run
	MemoryLimitUsedPercent *float64 `json:"memory_limit_used_percent,omitempty"` // with the page cache that is charged to it
}
