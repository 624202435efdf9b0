package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const (
	// closeTimeout bounds a stop; service managers kill after 90 s, people are less patient.
	closeTimeout = 10 * time.Second
	// processors is what the agent needs: one reads the ring buffer, one does the rest. More would only give the
	// garbage collector more of a busy host's processors at a time.
	processors = 2
	// gcPercent trades a little of the processor for memory: the steady state allocates nothing, so that collections are
	// rare and only the garbage of scrapes stands behind the live heap.
	gcPercent = 25
	// residentBytes is what the process holds beside the Go heap: its code, stacks and C-side mappings.
	residentBytes = 16 << 20
)

func newRunCommand(environ []string) *cobra.Command {
	command := &cobra.Command{
		Use:   "run",
		Short: "Observe this host and serve metrics (the default)",
		Args:  noArguments,
	}
	source := addSettings(command.Flags(), environ, forRun)
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		return run(cmd.Context(), source, cmd.ErrOrStderr())
	}
	return command
}

// run observes until SIGTERM or SIGINT, or until the pipeline fails.
func run(ctx context.Context, source *configSource, stderr io.Writer) (err error) {
	// Who reads the log may end or restart. By default Go takes the process along that writes to a pipe without a reader.
	signal.Ignore(syscall.SIGPIPE)
	config, err := source.load()
	if err != nil {
		return err
	}
	if err := checkChosen(config.Capture); err != nil {
		return err
	}
	level := new(slog.LevelVar)
	log := newLogger(stderr, config.Log, level)
	warnOfUnmatched(log, config.Capture.Executables)
	limitProcess(config)
	terminal := openTerminal()
	defer terminal.close()

	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	reload := newReloader(source, config, level, log)
	hooks := pipelineHooks{Reload: reload.Reload, ReloadState: reload.State, Checklist: startChecklist(stderr, config.Log)}
	agent, err := startPipeline(ctx, config, log, hooks)
	if err != nil {
		return err
	}
	defer func() {
		stop() // a second signal ends a stop that hangs
		err = errors.Join(err, closePipeline(agent))
	}()
	reload.started(agent)
	if err := hideMemory(); err != nil {
		log.Warn("captured data is readable by debuggers of the same user", "err", err)
	}
	removeReadyFile, err := writeReadyFile(config.ReadyFile)
	if err != nil {
		return err
	}
	defer removeReadyFile()
	notifier := newNotifier(source.environ)
	if err := notifier.ready(agent.Status()); err != nil {
		log.Warn("the service manager was not notified", "err", err)
	}
	log.Info("ready: " + agent.Status())
	defer notifier.stopping()
	err = serve(ctx, agent, hangup, terminal.isGone, func() {
		notifier.reloading()
		_, _ = reload.Reload() // it has logged how that went
		if ctx.Err() == nil {
			notifier.ready(agent.Status())
		}
	})
	if err == nil {
		log.Info("stopping, as asked to")
	}
	return err
}

// serve waits for the end, and calls reload at each SIGHUP, one after the other: what comes meanwhile is one more. One that comes
// because the terminal is gone is the end. The end waits for no reload.
func serve(ctx context.Context, agent runningAgent, hangup <-chan os.Signal, isGone func() bool, reload func()) error {
	waiting, reloaded := hangup, make(chan struct{}, 1)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-waiting:
			if isGone() {
				return nil
			}
			waiting = nil
			go func() { reload(); reloaded <- struct{}{} }()
		case <-reloaded:
			waiting = hangup
		case err := <-agent.Failed():
			return err
		}
	}
}

func closePipeline(agent runningAgent) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := agent.Close(ctx); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// newLogger returns the agent's log; level may be changed while it is used.
func newLogger(w io.Writer, config LogConfig, level *slog.LevelVar) *slog.Logger {
	level.Set(config.Level)
	options := &slog.HandlerOptions{Level: level}
	if config.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// limitProcess keeps the agent small and its memory out of core files.
func limitProcess(config *Config) {
	setMemoryLimit(config)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(min(processors, runtime.GOMAXPROCS(0)))
	}
	// Captured heads may hold credentials. Lowering a limit cannot fail.
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}

// setMemoryLimit makes the garbage collector work harder before the process's resident memory, of which the Go heap is
// only a part, reaches --limits.memory.
func setMemoryLimit(config *Config) {
	limit := config.Limits.MemoryBytes
	debug.SetMemoryLimit(max(limit-int64(config.Capture.RingBytes)-residentBytes, limit/4))
}

// hideMemory keeps processes of the same user from reading the agent's memory. It comes after the start, because it
// gives the agent's own /proc files to root, which an agent with capabilities alone reads then.
func hideMemory() error {
	const prSetDumpable = 4
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); errno != 0 {
		return fmt.Errorf("clear the dumpable flag: %w", errno)
	}
	return nil
}

// writeReadyFile writes the process id to name, all at once, and returns what removes the file again. Name "" writes
// nothing.
func writeReadyFile(name string) (remove func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	temporary, err := os.CreateTemp(filepath.Dir(name), ".perfagent-ready-*")
	if err != nil {
		return nil, readyFileError(name, err)
	}
	defer os.Remove(temporary.Name()) // nothing is there once it was renamed
	_, err = temporary.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	err = errors.Join(err, temporary.Chmod(0o644), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), name)
	}
	if err != nil {
		return nil, readyFileError(name, err)
	}
	return func() { os.Remove(name) }, nil
}

// readyFileError names the path as it was configured, not the temporary one beside it, and what can be done.
func readyFileError(name string, err error) error {
	var at *os.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	directory := filepath.Dir(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("write --ready-file %s: %w: create the directory %s or choose another path", name, err, directory)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("write --ready-file %s: %w: let the agent's user write to %s or choose another path", name, err, directory)
	}
	return fmt.Errorf("write --ready-file %s: %w: choose another path", name, err)
}
