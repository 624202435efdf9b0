package main

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/probes"
)

// seeingHost is a kernel side that sees everything and counts nothing.
var seeingHost = &probes.Host{Hooks: []probes.Hook{{Duty: "run_queue", Attached: true}, {Duty: "tcp_state", Attached: true}}}

func latencyOf(bucket int, n uint64) (l probes.Latency) {
	l.Buckets[bucket], l.SumNS = n, n*1000
	return l
}

// Readings add up by service: this process's go to its own, what has no process stands apart, and the waits of a group go
// to the service that has it.
func TestWitness(t *testing.T) {
	w := newWitness(seeingHost, nil, host.Filter{}, nil, slog.New(slog.DiscardHandler))
	now := time.Now()
	reading := func() *probes.HostReading {
		return &probes.HostReading{
			RunQueue: latencyOf(3, 10),
			Groups:   map[uint32]probes.Latency{0: latencyOf(2, 4)},
			Disks:    []probes.DiskLatency{{Major: 1 << 20, Minor: 7, Operation: probes.DiskFlush, Latency: latencyOf(4, 2)}},
			TCP: map[uint32]probes.TCPHealth{
				uint32(os.Getpid()): {RTT: latencyOf(1, 3), Connect: latencyOf(5, 1), Retransmits: 2, ResetsSent: 1, Stalled: 6},
				0:                   {ResetsReceived: 9},
			},
			ProcessesFull: 1, OwnersFull: 2, DisksFull: 3,
		}
	}
	w.add(reading(), now) // the group is nobody's yet
	w.add(reading(), now)
	overflows := uint64(5)
	w.publish([]host.ListenPort{{Port: 80, Backlog: 1, BacklogMax: 2, Drops: 3}}, overflows, true)
	s := w.stats()
	if len(s.Services) != 1 || len(s.Disks) != 1 {
		t.Fatalf("%+v", s)
	}
	e := s.Services[0]
	if e.TCP != (export.TCPEvents{Retransmits: 4, ResetsSent: 2}) || e.Stalled != 6 || e.RTT.Buckets[1] != 6 || e.Connect.Buckets[5] != 2 ||
		e.RunQueue.Buckets[2] != 4 || s.RunQueue.Buckets[3] != 20 || s.RunQueue.Sum != 20e-6 {
		t.Errorf("service %+v, host %+v", e, s.RunQueue)
	}
	if d := s.Disks[0]; d.Device != "1048576:7" || d.Operation != "flush" || d.Latency.Buckets[4] != 4 {
		t.Errorf("disk %+v", d)
	}
	if *s.Unattributed != (export.TCPEvents{ResetsReceived: 18}) || s.Lost != (export.HostLost{Processes: 2, Connects: 4, Disks: 6}) {
		t.Errorf("unattributed %+v, lost %+v", s.Unattributed, s.Lost)
	}
	if !slices.Equal(s.Ports, []export.ListenPort{{Port: 80, Backlog: 1, BacklogMax: 2, Drops: 3}}) || *s.ListenOverflows != overflows {
		t.Errorf("ports %+v, overflows %d", s.Ports, *s.ListenOverflows)
	}
	if got := w.watched(); len(got) != 1 || got[uint32(os.Getpid())] != 0 {
		t.Errorf("watched %v", got)
	}
	w.forget(now.Add(witnessIdle + time.Second))
	if w.publish(nil, 0, false); len(w.stats().Services) != 0 || len(w.watched()) != 0 || w.stats().ListenOverflows != nil {
		t.Errorf("after a long silence: %+v", w.stats())
	}
}

// Bounds are those of the kernel side's buckets, in seconds.
func TestWitnessBounds(t *testing.T) {
	if len(latencyBounds) != probes.LatencyBuckets-1 || latencyBounds[0] != 1024e-9 || latencyBounds[10] != 1024*1024e-9 {
		t.Errorf("%v", latencyBounds)
	}
}

// Services beyond the limit share one that says so, and each group belongs to one service.
func TestWitnessManyServices(t *testing.T) {
	w := newWitness(seeingHost, nil, host.Filter{}, nil, slog.New(slog.DiscardHandler))
	groups := make(map[uint32]serviceKey)
	for i := range witnessServices + 10 {
		s := w.service(serviceKey{service: fmt.Sprint("service ", i)})
		if other, taken := groups[s.group]; taken && other != s.serviceKey {
			t.Errorf("%v and %v share group %d", other, s.serviceKey, s.group)
		}
		groups[s.group] = s.serviceKey
	}
	if len(w.services) != int(witnessServices) || groups[witnessServices-1].service != analytics.Other {
		t.Errorf("%d services, the last %v", len(w.services), groups[witnessServices-1])
	}
}
