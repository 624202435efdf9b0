package host

import "time"

// source is one of the places that figures come from.
type source uint8

const (
	sourceCPU source = iota
	sourceLoad
	sourceMemory
	sourcePaging
	sourceFilesystem
	sourceDisk
	sourceNetwork
	sourceSockets
	sourceTCP
	sourcePressureCPU
	sourcePressureMemory
	sourcePressureIO
	sourceProcess
	sourceProcessIO
	sourceProcessFiles
	sourceProcessSwitches
	sourceCgroup
	sourceCgroupCPU
	sourceCgroupMemory
	sourceCgroupIO
	sourceCgroupTasks
	sourceWatch
	sources int = iota
)

var sourceNames = [sources]string{
	"cpu", "load", "memory", "paging", "filesystem", "disk", "network", "sockets", "tcp",
	"pressure_cpu", "pressure_memory", "pressure_io",
	"process", "process_io", "process_files", "process_switches",
	"cgroup", "cgroup_cpu", "cgroup_memory", "cgroup_io", "cgroup_tasks", "watch",
}

// sourceRetry is how long a source that failed as a whole is left alone: most of them (no PSI in this kernel) fail for
// ever.
const sourceRetry = 30 * time.Second

// SourceErrors is how often a source could not be read.
type SourceErrors struct {
	// Source is cpu, load, memory, paging, filesystem, disk, network, sockets, tcp, pressure_{cpu,memory,io}, process,
	// process_{io,files,switches}, cgroup, cgroup_{cpu,memory,io,tasks}, or watch.
	Source string
	Count  uint64
	Last   string // the latest error
}

// sourceState is what is remembered of a source.
type sourceState struct {
	count  uint64
	last   error
	retry  time.Time // not read before
	readAt time.Time // when it was last read with success; zero: not, or failed since
}

// attempt reads a source unless it failed lately. The zero value stands for what could not be read.
func attempt[T any](s *Sampler, from source, now time.Time, read func(*fileReader, float64) (T, error)) T {
	var none T
	state := &s.states[from]
	if now.Before(state.retry) {
		return none
	}
	var seconds float64 // since the reading before, 0 without one
	if !state.readAt.IsZero() {
		seconds = now.Sub(state.readAt).Seconds()
	}
	value, err := read(&s.files, seconds)
	if err != nil {
		s.failed(from, err)
		state.readAt, state.retry = time.Time{}, now.Add(sourceRetry)
		return none
	}
	state.readAt = now
	return value
}

// failed counts an error of a source.
func (s *Sampler) failed(from source, err error) {
	s.states[from].count++
	s.states[from].last = err
}

// sourceErrors lists the sources that failed so far.
func (s *Sampler) sourceErrors() (all []SourceErrors) {
	for i := range s.states {
		if state := &s.states[i]; state.count > 0 {
			all = append(all, SourceErrors{sourceNames[i], state.count, state.last.Error()})
		}
	}
	return all
}
