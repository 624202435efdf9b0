package probes

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// Counters are the kernel side's own, summed over processors, and what was dropped between ring buffer and worker.
type Counters struct {
	RingFull        uint64 // exchanges lost: no room in the ring buffer
	MapFull         uint64 // exchanges lost: no room for the connection's state
	Evicted         uint64 // exchanges lost: the captured head was displaced
	Unreadable      uint64 // exchanges lost: the process's memory could not be read
	Unpaired        uint64 // exchanges lost: responses of requests that were not recognised
	FragmentsLost   uint64 // operations of irregular connections lost: no room in the ring buffer
	NotHTTP         uint64 // connections found to carry something else
	Streams         uint64 // connections followed operation by operation
	Connections     uint64 // connections with state now
	QueueFull       uint64 // records dropped because user space fell behind, beside those that Handler.Lost was told of
	MalformedSample uint64
}

// Counters reads them. It costs one system call a counter.
func (p *Probe) Counters() (Counters, error) {
	var v [trafficCounterC_MAX]uint64
	for i := range v {
		var perCPU []uint64
		if err := p.maps[trafficMapCounters].Lookup(uint32(i), &perCPU); err != nil {
			return Counters{}, fmt.Errorf("read kernel counter %d: %w", i, err)
		}
		for _, n := range perCPU {
			v[i] += n
		}
	}
	c := Counters{
		RingFull:        v[trafficCounterC_LOST_RING_FULL],
		MapFull:         v[trafficCounterC_LOST_MAP_FULL],
		Evicted:         v[trafficCounterC_LOST_EVICTED],
		Unreadable:      v[trafficCounterC_LOST_UNREADABLE],
		Unpaired:        v[trafficCounterC_LOST_UNPAIRED],
		FragmentsLost:   v[trafficCounterC_FRAGMENTS_LOST],
		NotHTTP:         v[trafficCounterC_NOT_HTTP],
		Streams:         v[trafficCounterC_STREAMS],
		QueueFull:       p.lostQueue.Load(),
		MalformedSample: p.lostParse.Load(),
	}
	if added, removed := v[trafficCounterC_CONNECTIONS_ADDED], v[trafficCounterC_CONNECTIONS_REMOVED]; added > removed {
		c.Connections = added - removed
	}
	return c, nil
}

// MapUse is the size of one BPF map.
type MapUse struct {
	Name       string
	Entries    uint64 // 0 where the kernel does not count them
	MaxEntries uint64
	Bytes      uint64 // memory that the kernel charges for it
}

// Maps lists the sizes of all maps.
func (p *Probe) Maps() []MapUse {
	var uses []MapUse
	c, err := p.Counters()
	for name, m := range p.maps {
		u := MapUse{Name: name, MaxEntries: uint64(m.MaxEntries()), Bytes: mapBytes(m)}
		if name == trafficMapConns && err == nil {
			u.Entries = c.Connections
		}
		uses = append(uses, u)
	}
	return uses
}

func mapBytes(m *ebpf.Map) uint64 {
	info, err := m.Info()
	if err != nil {
		return 0
	}
	n, ok := info.Memlock()
	if !ok {
		return 0
	}
	return n
}
