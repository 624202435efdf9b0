package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/probes"
)

// Pauses between attempts to open the kernel side anew double from the first to the last, each with a random part.
const (
	reopenPauseMin = time.Second
	reopenPauseMax = time.Minute
	// reopenSteady is after what time without a failure the next one is taken for a new one, and not waited for.
	reopenSteady = 10 * time.Minute
)

// Pauses between attempts to attach hooks that are missing for a reason that may pass; they double likewise.
const (
	hooksPauseMin = 5 * time.Second
	hooksPauseMax = 10 * time.Minute
)

// breakVariable names a file for tests. While it is there and empty, the reader fails, and nothing can be opened; otherwise the kernel
// is busy where one of the programs is loaded that it names.
const breakVariable = "PERFAGENT_BREAK"

// errBroken is the fault that tests inject.
var errBroken = errors.New("broken by a test")

// brokenByTest returns the fault that a test injects, nil outside of tests.
func brokenByTest() func(program string) error {
	file := os.Getenv(breakVariable)
	if file == "" {
		return nil
	}
	return func(program string) error {
		names, err := os.ReadFile(file)
		switch {
		case err != nil:
			return nil
		case len(names) == 0 && program == "":
			return errBroken
		case slices.Contains(strings.Fields(string(names)), program):
			return fmt.Errorf("%w: %w", errBroken, syscall.EAGAIN)
		}
		return nil
	}
}

// watcher is the witness's goroutine.
type watcher struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// watch has the witness read until stopWatching.
func (a *agent) watch(ctx context.Context) {
	w := a.host.Load()
	if w == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	a.watching = &watcher{cancel, make(chan struct{})}
	done := a.watching.done
	go func() { defer close(done); w.run(ctx) }()
}

func (a *agent) stopWatching() {
	if a.watching != nil {
		a.watching.cancel()
		<-a.watching.done
		a.watching = nil
	}
}

// observe hands over what the kernel side sees until the context ends. Where its reader fails, the kernel side is closed and opened anew,
// as often as it takes: what is served goes on meanwhile, not ready, and says what is missing.
func (a *agent) observe(ctx context.Context, config *Config, handler probes.Handler) {
	works := a.recoveries.of("probes")
	a.opening.Lock()
	a.watch(ctx)
	a.opening.Unlock()
	for pause := time.Duration(0); ; {
		began := time.Now()
		err := a.probe.Load().Run(ctx, handler)
		if ctx.Err() != nil {
			return
		}
		failed := time.Now()
		if pause = min(2*pause, reopenPauseMax); failed.Sub(began) > reopenSteady {
			pause = 0
		}
		a.opening.Lock()
		works(false)
		a.setReady(false)
		lost := a.worker.Detach()
		a.inherited, _ = a.probe.Load().PIDs() // most of them are found below --capture.pid as well
		a.log.Error("the kernel side failed and is opened anew; nothing is observed until then", "err", err, "requests_under_way_lost", lost)
		if err := a.dropKernelSide(); err != nil {
			a.log.Warn("the kernel side was not closed well", "err", err)
		}
		open := sleep(ctx, pause) && a.reopen(ctx, config)
		a.opening.Unlock()
		if !open {
			return
		}
		pause = max(pause, reopenPauseMin/2)
		works(true)
		a.setReady(true)
		a.log.Info("observing again", "backend", a.backend(), "not_observed_from", failed.UTC(), "seconds", time.Since(failed).Seconds())
	}
}

// sleep waits for between a half and the whole of a pause, and tells whether the context lasts.
func sleep(ctx context.Context, pause time.Duration) bool {
	if pause > 1 {
		pause = pause/2 + rand.N(pause/2)
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
	return ctx.Err() == nil
}

// reopen tries until the kernel side is open, and tells whether it is: false at the end of the context.
func (a *agent) reopen(ctx context.Context, config *Config) bool {
	for pause := reopenPauseMin; ; pause = min(2*pause, reopenPauseMax) {
		err := a.attach(config, a.log)
		if err == nil {
			break
		}
		a.log.Debug("the kernel side cannot be opened yet", "err", err)
		a.kernelTrouble.Store(new(err.Error()))
		if err := a.dropKernelSide(); err != nil {
			a.log.Debug("the kernel side was not closed well", "err", err)
		}
		if !sleep(ctx, pause) {
			return false
		}
	}
	a.kernelTrouble.Store(nil)
	a.worker.Attach(a.probe.Load())
	if err := a.watchAgain(config); err != nil {
		a.log.Warn("not visible: "+hostLoss, "why", err)
	}
	a.watch(ctx)
	return true
}

// closeKernelSide closes what is open of it. What it was can still be asked for, but for its maps.
func (a *agent) closeKernelSide() (err error) {
	a.stopWatching()
	a.maps.Lock()
	defer a.maps.Unlock()
	if w := a.host.Load(); w != nil && w.host != nil {
		err = w.host.Close()
	}
	if p := a.probe.Load(); p != nil {
		err = errors.Join(err, p.Close())
	}
	a.mapsClosed = true
	return err
}

// dropKernelSide is closeKernelSide where another one is to follow: who looks at it meanwhile sees that there is none.
func (a *agent) dropKernelSide() error {
	err := a.closeKernelSide()
	a.maps.Lock()
	defer a.maps.Unlock()
	a.probe.Store(nil)
	if w := a.host.Load(); w != nil {
		w.host = nil
	}
	return err
}

// watchAgain opens the other half of the kernel side, where it was there before; its sums go on.
func (a *agent) watchAgain(config *Config) error {
	w := a.host.Load()
	if w == nil {
		return nil
	}
	h, err := probes.OpenHost(a.hostOptions(config))
	if err != nil {
		a.host.Store(nil)
		a.gapsMu.Lock()
		a.hostGaps = []probes.Gap{{What: hostLoss, Why: err.Error()}}
		a.gapsMu.Unlock()
		return err
	}
	a.maps.Lock()
	defer a.maps.Unlock()
	w.use(h)
	return nil
}

func (a *agent) hostOptions(config *Config) probes.HostOptions {
	return probes.HostOptions{Connections: a.probe.Load(), Ports: config.Capture.Ports, Refuse: refusedPrograms(), Broken: brokenByTest(), Log: a.log}
}

// attachMissing tries hooks again that could not be attached for a reason that may pass, until the context ends.
func (a *agent) attachMissing(ctx context.Context) {
	works := a.recoveries.of("hooks")
	for pause := hooksPauseMin; ; {
		missing := a.missingHooks()
		works(missing == 0)
		if missing == 0 {
			pause = hooksPauseMin
		}
		if !sleep(ctx, pause) {
			return
		}
		if missing == 0 {
			continue
		}
		pause = min(2*pause, hooksPauseMax)
		if p := a.probe.Load(); p != nil {
			if err := p.Again(); err != nil {
				a.log.Debug("hooks cannot be attached yet", "err", err)
			}
		}
		if w := a.host.Load(); w != nil {
			w.again.Store(true)
		}
		a.openHostAgain(ctx)
		if a.missingHooks() == 0 {
			works(true)
			a.log.Info("hooks that were missing are attached")
		}
	}
}

// openHostAgain opens the half of the kernel side that watches the host, where that failed for a reason that may pass.
func (a *agent) openHostAgain(ctx context.Context) {
	if a.openHost == nil || !a.opening.TryLock() { // else the other half is opened anew
		return
	}
	defer a.opening.Unlock()
	if a.probe.Load() == nil {
		return
	}
	if err := a.openHost(); err != nil {
		a.log.Debug("the host cannot be watched yet", "err", err)
		return
	}
	a.openHost = nil
	a.gapsMu.Lock()
	a.hostGaps = nil
	a.gapsMu.Unlock()
	a.watch(ctx)
}

// missingHooks is of how many duties something is not seen for a reason that may pass.
func (a *agent) missingHooks() (n int) {
	if a.openHost != nil {
		n++
	}
	if p := a.probe.Load(); p != nil {
		n = p.Missing()
	}
	a.maps.Lock()
	defer a.maps.Unlock()
	if w := a.host.Load(); w != nil && w.host != nil {
		n += w.host.Missing()
	}
	return n
}

func (a *agent) setReady(ready bool) {
	if a.server != nil {
		a.server.SetReady(ready)
	}
}

// kernelSideTrouble says why nothing is observed, "" where it is.
func (a *agent) kernelSideTrouble() string {
	for _, r := range a.recoveries.states() {
		if r.Part == "probes" && r.Down {
			why := ""
			if reason := a.kernelTrouble.Load(); reason != nil {
				why = ": " + *reason
			}
			return fmt.Sprintf("nothing is observed since %s, the kernel side is opened anew%s", r.Since.UTC().Format(time.RFC3339), why)
		}
	}
	return ""
}

// use takes a new kernel side; what was summed up stays. Processes are watched again when they are seen.
func (w *witness) use(h *probes.Host) {
	w.host = h
	w.maps = nil
	for _, m := range h.Maps() {
		w.maps = append(w.maps, export.MapState{Name: m.Name, EntriesUnknown: true, MaxEntries: m.MaxEntries, Bytes: m.Bytes})
	}
}
