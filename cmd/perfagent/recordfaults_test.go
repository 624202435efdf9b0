package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/pipeline"
	"github.com/perfagent/perfagent/internal/probes"
	"github.com/perfagent/perfagent/internal/trace"
	"github.com/perfagent/perfagent/test/faults/recording"
)

// recordVariable has the ports of the services that TestRecordFaults observes, and how much shorter its ticks are, in JSON.
const recordVariable = "PERFAGENT_RECORD_FAULTS"

// recorderOptions are what test/faults says.
type recorderOptions struct {
	Ports    []uint16
	Services []string // what belongs to others, such as who makes the load, is not recorded
	Disks    []string
	Links    []string
	Squeeze  int
}

// recorderCommand is a line of test/faults.
type recorderCommand struct {
	Begin bool             `json:"begin,omitempty"`
	End   string           `json:"end,omitempty"` // file
	Truth *recording.Truth `json:"truth,omitempty"`
}

// Is the recorder of `make record-faults`: an agent's parts with probes, whose ticks are shorter. It is no test by itself, and runs only
// where test/faults starts it. Each tick is told on a line of the standard output.
func TestRecordFaults(t *testing.T) {
	text := os.Getenv(recordVariable)
	if text == "" {
		t.Skip("test/faults starts it")
	}
	var o recorderOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	r, err := newRecorder(&o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.run(bufio.NewScanner(os.Stdin)); err != nil {
		t.Fatal(err)
	}
}

// recorder is an agent that writes down what it sees.
type recorder struct {
	*recorderOptions
	agent     *agent
	probe     *probes.Probe
	witness   *witness
	clock     recording.Clock
	stretcher recording.Stretcher

	mu        sync.Mutex
	recording *recording.Recording // nil: not now
	sealed    *analytics.Seal
}

func newRecorder(o *recorderOptions) (*recorder, error) {
	r := &recorder{recorderOptions: o, clock: recording.Clock{Origin: time.Now(), Squeeze: o.Squeeze}}
	bootAt := float64(host.Monotonic()) / float64(time.Second)
	r.stretcher = recording.Stretcher{Squeeze: o.Squeeze, Boot: bootAt}
	config := defaultConfig()
	config.Capture.Ports = o.Ports
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	a := &agent{log: log, hub: new(trace.Hub)}
	a.engine = analytics.NewEngine(analytics.Options{Now: r.clock.Now})
	a.clock = host.NewClock(host.ClockOptions{})
	a.sampler = host.NewSampler(host.SamplerOptions{Now: r.clock.Now, BootSeconds: func() float64 {
		return bootAt + r.clock.Now().Sub(r.clock.Origin).Seconds()
	}})
	a.worker = pipeline.New(pipeline.Options{
		Engine: a.engine, Requests: analytics.NewRequests(analytics.RequestsOptions{Now: host.Monotonic}), Hub: a.hub,
		Sampler: a.sampler, Clock: a.clock, Services: &a.services, Streams: config.Limits.Streams, Timeout: config.Capture.Timeout,
	})
	if err := a.attach(config, log); err != nil {
		return nil, err
	}
	h, err := probes.OpenHost(a.hostOptions(config))
	if err != nil {
		return nil, err
	}
	r.agent, r.probe, r.witness = a, a.probe.Load(), newWitness(h, o.Ports, host.Filter{}, new(atomic.Pointer[host.Services]), log)
	a.engine.OnSeal(func(s *analytics.Seal) { r.sealed = s })
	return r, nil
}

// run obeys commands until there are no more.
func (r *recorder) run(commands *bufio.Scanner) error {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	r.agent.worker.Attach(r.probe)
	failed := make(chan error, 1)
	running.Go(func() { failed <- r.probe.Run(ctx, r.agent.worker) })
	running.Go(func() { r.agent.clock.Run(ctx) })
	running.Go(func() { r.tick(ctx) })
	commands.Buffer(nil, 1<<20)
	for commands.Scan() {
		var c recorderCommand
		if err := json.Unmarshal(commands.Bytes(), &c); err != nil {
			return err
		}
		if err := r.obey(&c); err != nil {
			return err
		}
	}
	select {
	case err := <-failed:
		return err
	default:
		return commands.Err()
	}
}

func (r *recorder) obey(c *recorderCommand) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Begin {
		r.recording = &recording.Recording{Header: recording.Header{Recorded: time.Now().UTC().Truncate(time.Second), Squeeze: r.Squeeze}}
		r.stretcher = recording.Stretcher{Squeeze: r.Squeeze, Boot: r.stretcher.Boot}
		return nil
	}
	if c.End == "" || r.recording == nil {
		return nil
	}
	r.recording.Truth = *c.Truth
	err := recording.Write(c.End, r.recording)
	r.recording = nil
	fmt.Println("written")
	return err
}

// tick does each tick's work until the context ends.
func (r *recorder) tick(ctx context.Context) {
	length := analytics.TickInterval / time.Duration(r.Squeeze)
	ticks := time.NewTicker(length / 20)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		r.sealed = nil
		r.agent.engine.Tick()
		if r.sealed == nil {
			continue
		}
		sample := r.agent.sampler.Sample()
		r.witness.readOnce(time.Now())
		r.record(r.sealed, sample, r.witness.stats())
	}
}

// record keeps a tick.
func (r *recorder) record(s *analytics.Seal, h *host.Sample, w *export.HostStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.recording == nil {
		return
	}
	s.Entries = slices.DeleteFunc(s.Entries, func(e *analytics.Sealed) bool { return !slices.Contains(r.Services, e.Service) })
	stretched := r.stretcher.Stretch(h)
	stretched.Services = slices.DeleteFunc(stretched.Services, func(s host.Service) bool { return !slices.Contains(r.Services, s.Name) })
	stretched.Disks = slices.DeleteFunc(stretched.Disks, func(d host.Disk) bool { return !slices.Contains(r.Disks, d.Device) })
	stretched.Interfaces = slices.DeleteFunc(stretched.Interfaces, func(i host.Interface) bool { return !slices.Contains(r.Links, i.Name) })
	stretched.Filesystems = nil
	for i := range stretched.Services {
		for j, p := range stretched.Services[i].Processes { // the services have the rest
			stretched.Services[i].Processes[j] = host.Process{PID: p.PID, StartSeconds: p.StartSeconds, ResidentBytes: p.ResidentBytes}
		}
	}
	witnessed := *w
	witnessed.Services = slices.DeleteFunc(slices.Clone(w.Services), func(s export.ServiceStats) bool {
		return !slices.Contains(r.Services, s.Service)
	})
	witnessed.Disks = slices.DeleteFunc(slices.Clone(w.Disks), func(d export.DiskStats) bool { return !slices.Contains(r.Disks, d.Device) })
	r.recording.All = append(r.recording.All, recording.Tick{Seal: s, Host: stretched, Witness: &witnessed})
	fmt.Println("tick", len(r.recording.All))
}
