package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakePipeline stands in for the probes and the listeners.
type fakePipeline struct {
	config  *Config
	hooks   pipelineHooks
	applied chan *Config
	failed  chan error
	closed  chan struct{}
}

func (p *fakePipeline) Apply(config *Config) (read string, err error) {
	p.applied <- config
	switch config.Routes.File {
	case "/broken":
		return "", errors.New("/broken:1: no route")
	case "/two":
		return "the routes file with 2 routes", nil
	}
	return "", nil
}
func (p *fakePipeline) Failed() <-chan error        { return p.failed }
func (p *fakePipeline) Status() string              { return "fake backend" }
func (p *fakePipeline) Close(context.Context) error { close(p.closed); return nil }

// useFakePipeline replaces startPipeline for one test; each start is delivered.
func useFakePipeline(t *testing.T, startErr error) <-chan *fakePipeline {
	t.Helper()
	starts := make(chan *fakePipeline, 1)
	original := startPipeline
	startPipeline = func(_ context.Context, config *Config, _ *slog.Logger, hooks pipelineHooks) (runningAgent, error) {
		if startErr != nil {
			return nil, startErr
		}
		p := &fakePipeline{config, hooks, make(chan *Config, 10), make(chan error, 1), make(chan struct{})}
		starts <- p
		return p, nil
	}
	t.Cleanup(func() { startPipeline = original })
	return starts
}

// logBuffer is a log that a test reads while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startRun runs the agent until the returned stop, which returns the exit code.
func startRun(t *testing.T, args, environ []string, log *logBuffer) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	code := make(chan int, 1)
	go func() { code <- execute(ctx, args, environ, log, log) }()
	return func() int {
		cancel()
		return within(t, code, "the end of the agent")
	}
}

// within receives from c or fails the test.
func within[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(5 * time.Second):
		t.Fatalf("waited too long for %s", what)
	}
	return v
}

// eventually polls until ok, or fails the test.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// Shows a life: ready file and service manager are told, SIGHUP applies a good file and refuses a bad one, the end
// removes the ready file. A reload answers which settings were taken over and which were not.
func TestRunLife(t *testing.T) {
	starts := useFakePipeline(t, nil)
	directory := t.TempDir()
	readyFile := filepath.Join(directory, "ready")
	manager := listenDatagrams(t, filepath.Join(directory, "notify"))
	configFile := writeFile(t, "c.yml", "log.level: info\n")
	var log logBuffer
	stop := startRun(t, []string{"--config.file", configFile, "--ready-file", readyFile, "--capture.port=80", "--capture.port=81"},
		[]string{"NOTIFY_SOCKET=" + filepath.Join(directory, "notify")}, &log)
	agent := within(t, starts, "the start")
	if got := agent.config.Capture.Ports; len(got) != 2 {
		t.Errorf("ports %v", got)
	}
	if got := within(t, manager, "READY"); !strings.HasPrefix(got, "READY=1\nSTATUS=fake backend\n") {
		t.Errorf("the manager was told %q", got)
	}
	if data, err := os.ReadFile(readyFile); err != nil || string(data) != strconv.Itoa(os.Getpid())+"\n" {
		t.Errorf("ready file %q, %v", data, err)
	}

	reload := func(file string) (bool, string) {
		t.Helper()
		if err := os.WriteFile(configFile, []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if got := within(t, manager, "RELOADING"); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
			t.Errorf("the manager was told %q", got)
		}
		within(t, manager, "READY after the reload")
		successful, _ := agent.hooks.ReloadState()
		return successful, log.String()
	}
	if ok, text := reload("log.level: debug\nlimits.endpoints: 5\ncapture.port: 9\n"); !ok || !strings.Contains(text, "limits.endpoints") {
		t.Errorf("good file: %v, log %s", ok, text)
	}
	if got := within(t, agent.applied, "Apply"); got.Log.Level != slog.LevelDebug || got.Limits.Endpoints != 2000 || len(got.Capture.Ports) != 2 {
		t.Errorf("applied %+v", got)
	}
	if ok, text := reload("log.level: loud\n"); ok || !strings.Contains(text, "c.yml:1: log.level") {
		t.Errorf("bad file: %v, log %s", ok, text)
	}
	if ok, _ := reload("routes.file: /broken\n"); ok {
		t.Error("a reload that the pipeline refused counts as successful")
	}
	const failed = "level=ERROR msg=\"the configuration was not reloaded\" err=\"/broken:1: no route\""
	logged := strings.Count(log.String(), failed)
	if _, err := agent.hooks.Reload(); err == nil || logged != 1 || strings.Count(log.String(), failed) != 2 {
		t.Errorf("POST /-/reload hides the error: %v, log %s", err, log.String())
	}
	if ok, _ := reload("log.level: info\n"); !ok {
		t.Error("the repaired file is refused")
	}

	for _, c := range []struct{ file, want string }{
		{"log.level: info\n", "reloaded: no setting has changed"},
		{"log.level: debug\nlimits.memory: 99MiB\n", "reloaded: limits.memory, log.level"},
		{"log.level: debug\nlimits.memory: 99MiB\ncapture.host: off\nlimits.endpoints: 7\n",
			"reloaded: none of the changed settings can be taken over; only a restart takes over capture.host, limits.endpoints"},
		{"log.level: info\nlimits.memory: 99MiB\ncapture.host: off\n", "reloaded: log.level; only a restart takes over capture.host"},
		{"log.level: info\nlimits.memory: 99MiB\nroutes.file: /two\n", "reloaded: routes.file; read the routes file with 2 routes"},
		{"log.level: info\nlimits.memory: 99MiB\nroutes.file: /two\n", "reloaded: no setting has changed; read the routes file with 2 routes"},
	} {
		if err := os.WriteFile(configFile, []byte(c.file), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := agent.hooks.Reload(); err != nil || got != c.want {
			t.Errorf("%q: %q, %v", c.file, got, err)
		}
	}

	if code := stop(); code != exitOK {
		t.Errorf("exit code %d, log %s", code, log.String())
	}
	if !strings.Contains(log.String(), "level=INFO msg=\"stopping, as asked to\"") {
		t.Errorf("the stop is not logged: %s", log.String())
	}
	within(t, agent.closed, "Close")
	if got := within(t, manager, "STOPPING"); !strings.HasPrefix(got, "STOPPING=1") {
		t.Errorf("the manager was told %q", got)
	}
	if _, err := os.Stat(readyFile); !os.IsNotExist(err) {
		t.Errorf("the ready file is still there: %v", err)
	}
}

// listenDatagrams receives what a service manager would.
func listenDatagrams(t *testing.T, name string) <-chan string {
	t.Helper()
	connection, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	received, done := make(chan string, 100), make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4096)
		for {
			n, err := connection.Read(buffer)
			if err != nil {
				return
			}
			received <- string(buffer[:n])
		}
	}()
	t.Cleanup(func() { connection.Close(); <-done })
	return received
}

// Shows that SIGTERM ends the agent with success, and that a failure of the pipeline ends it with its one line.
func TestRunEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*fakePipeline)
		code int
		text string
	}{
		{"SIGTERM", func(*fakePipeline) { syscall.Kill(os.Getpid(), syscall.SIGTERM) }, exitOK, ""},
		{"failure", func(p *fakePipeline) { p.failed <- errors.New("listener\nbroke") }, exitError, "perfagent: listener broke\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			starts := useFakePipeline(t, nil)
			var log logBuffer
			code := make(chan int, 1)
			go func() { code <- execute(context.Background(), []string{"run"}, nil, &log, &log) }()
			agent := within(t, starts, "the start")
			eventually(t, "ready", func() bool { return strings.Contains(log.String(), `msg="ready: fake backend"`) })
			c.end(agent)
			if got := within(t, code, "the end"); got != c.code || !strings.HasSuffix(log.String(), c.text) {
				t.Errorf("exit code %d, log %s", got, log.String())
			}
			within(t, agent.closed, "Close")
		})
	}
}

// Shows that a start that fails, and a ready file that cannot be written, are one line and leave nothing running.
func TestRunStartFailures(t *testing.T) {
	useFakePipeline(t, errors.New("listen on 127.0.0.1:9464: in use"))
	var log logBuffer
	if code := execute(context.Background(), nil, nil, &log, &log); code != exitError || log.String() != "perfagent: listen on 127.0.0.1:9464: in use\n" {
		t.Errorf("exit code %d, log %q", code, log.String())
	}
	starts := useFakePipeline(t, nil)
	log = logBuffer{}
	if code := execute(context.Background(), []string{"--ready-file=/nowhere/x"}, nil, &log, &log); code != exitError || strings.Count(log.String(), "\n") != 1 ||
		!strings.Contains(log.String(), "--ready-file /nowhere/x: no such file or directory: create the directory /nowhere") {
		t.Errorf("exit code %d, log %q", code, log.String())
	}
	within(t, within(t, starts, "the start").closed, "Close")
}
