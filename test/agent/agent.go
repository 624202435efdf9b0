// Package agent runs the perfagent binary for tests, the way a user would, and reads what it reports.
package agent

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/perfagent/perfagent/test/servers"
)

const pollInterval = 5 * time.Millisecond

// readyTimeout is many times what a start takes: half a second of processor time, and pauses of the kernel for each hook.
var readyTimeout = servers.Slow(60 * time.Second)

// Options of an agent. The agent only ever watches the ports or processes given here.
type Options struct {
	Ports   []int    // --capture.port
	PIDs    []int    // --capture.pid, for Unix sockets, which have no port
	Args    []string // further arguments
	Env     []string // further environment
	Backend string   // --capture.backend; empty: PERFAGENT_BACKEND, then the agent's choice
	NoTrace bool     // do not follow /trace
	OwnPort bool     // watch the agent's own port as well
	Host    string   // address to serve on; empty: 127.0.0.1
}

// Exchange is a line of the trace, as far as the tests look at it.
type Exchange struct {
	Time         string `json:"time"`
	RequestID    string `json:"request_id"`
	Role         string `json:"role"`
	Protocol     string `json:"protocol"`
	Service      string `json:"service_name"`
	PID          int    `json:"pid"`
	Comm         string `json:"comm"`
	Method       string `json:"method"`
	Path         string `json:"path"`
	Route        string `json:"http_route"`
	Status       int    `json:"status_code"`
	ErrorType    string `json:"error_type"`
	DurationNS   *int64 `json:"duration_ns"`
	QueueNS      *int64 `json:"queue_ns"`
	ProcessingNS *int64 `json:"processing_ns"`
	TransferNS   *int64 `json:"transfer_ns"`
	RequestSize  *int64 `json:"request_size_bytes"`
	ResponseSize *int64 `json:"response_size_bytes"`
	ClientPort   int    `json:"client_port"`
	ServerPort   int    `json:"server_port"`
	TraceID      string `json:"trace_id"`
	SpanID       string `json:"span_id"`
	UserAgent    string `json:"user_agent"`
	ForwardedFor string `json:"forwarded_for"`

	Seen time.Time `json:"-"` // when the test read the line
}

// Agent is a running agent.
type Agent struct {
	*servers.Process
	Address   string        // of its TCP listener
	Socket    string        // of its Unix listener
	ReadyTime time.Duration // from the start to the ready-file

	dir    string
	cancel context.CancelFunc
	ended  chan struct{} // closed when following the trace has ended

	mu        sync.Mutex
	exchanges []Exchange
	badLines  []string
	missed    int // exchanges that the trace says it left out, because this end was too slow
}

// Binary returns the agent's path: PERFAGENT_BINARY, or built once.
func Binary() (string, error) {
	if path := os.Getenv("PERFAGENT_BINARY"); path != "" {
		return filepath.Abs(path)
	}
	return servers.Build("github.com/perfagent/perfagent/cmd/perfagent")
}

// Environment returns this process's environment without PERFAGENT_ variables: those are settings to the agent, and
// the tests' own have the same prefix.
func Environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PERFAGENT_") })
}

// Start runs an agent and returns when it is ready and its trace is being followed.
func Start(options Options) (*Agent, error) {
	if len(options.Ports) == 0 && len(options.PIDs) == 0 {
		return nil, errors.New("an agent under test must be told which ports or processes to watch")
	}
	dir, err := os.MkdirTemp("", "perfagent-test-agent")
	if err != nil {
		return nil, err
	}
	a := &Agent{dir: dir, Socket: filepath.Join(dir, "agent.sock")}
	if err := a.start(options); err != nil {
		return nil, errors.Join(err, a.Kill())
	}
	return a, nil
}

func (a *Agent) start(options Options) error {
	binary, err := Binary()
	if err != nil {
		return err
	}
	port, err := servers.FreePort()
	if err != nil {
		return err
	}
	a.Address = fmt.Sprintf("%s:%d", cmp.Or(options.Host, "127.0.0.1"), port)
	ready := filepath.Join(a.dir, "ready")
	args := []string{"run", "--web.listen-address=" + a.Address, "--web.socket=" + a.Socket, "--ready-file=" + ready,
		"--trace.raw-paths"} // paths are compared as they were sent
	if options.OwnPort {
		options.Ports = append(options.Ports[:len(options.Ports):len(options.Ports)], port)
	}
	if options.Host != "" {
		args = append(args, "--web.allow-unprotected")
	}
	args = append(args, arguments(options)...)
	cmd := exec.Command(binary, args...)
	cmd.Env = append(Environment(), options.Env...)
	started := time.Now()
	a.Process, err = servers.StartProcess(cmd, filepath.Join(a.dir, "output"))
	if err != nil {
		return err
	}
	if err := a.waitReady(ready); err != nil {
		return err
	}
	a.ReadyTime = time.Since(started)
	if options.NoTrace {
		return nil
	}
	return a.follow()
}

func arguments(options Options) []string {
	var args []string
	for _, port := range options.Ports {
		args = append(args, fmt.Sprintf("--capture.port=%d", port))
	}
	for _, pid := range options.PIDs {
		args = append(args, fmt.Sprintf("--capture.pid=%d", pid))
	}
	backend := options.Backend
	if backend == "" {
		backend = os.Getenv("PERFAGENT_BACKEND")
	}
	if backend != "" {
		args = append(args, "--capture.backend="+backend)
	}
	return append(args, options.Args...)
}

func (a *Agent) waitReady(path string) error {
	deadline := time.After(readyTimeout)
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-a.Done():
			return fmt.Errorf("the agent ended with code %d before it was ready: %s", a.ExitCode(), a.Log())
		case <-deadline:
			return fmt.Errorf("the agent is not ready after %s: %s", readyTimeout, a.Log())
		case <-time.After(pollInterval):
		}
	}
}

// follow subscribes to the trace; it returns once the agent has accepted the subscription.
func (a *Agent) follow() error {
	ctx, cancel := context.WithCancel(context.Background())
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", a.Socket)
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/trace?raw_paths=true", nil)
	if err != nil {
		cancel()
		return err
	}
	// The agent may answer only with the first exchange; a test must not wait for that for ever.
	timer := time.AfterFunc(readyTimeout, cancel)
	response, err := transport.RoundTrip(request)
	timer.Stop()
	if err != nil {
		cancel()
		return fmt.Errorf("following the trace: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		cancel()
		return errors.Join(fmt.Errorf("following the trace: %s", response.Status), response.Body.Close())
	}
	a.cancel, a.ended = cancel, make(chan struct{})
	go func() {
		defer close(a.ended)
		defer transport.CloseIdleConnections()
		defer response.Body.Close()
		a.collect(response.Body)
	}()
	return nil
}

func (a *Agent) collect(body io.Reader) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Exchange
			Dropped int `json:"dropped"`
		}
		err := json.Unmarshal(lines.Bytes(), &line)
		line.Seen = time.Now()
		a.mu.Lock()
		switch {
		case err != nil:
			a.badLines = append(a.badLines, fmt.Sprintf("%v: %.200q", err, lines.Bytes()))
		case line.Dropped > 0:
			a.missed += line.Dropped
		default:
			a.exchanges = append(a.exchanges, line.Exchange)
		}
		a.mu.Unlock()
	}
}

// Exchanges returns what the trace has shown so far.
func (a *Agent) Exchanges() []Exchange {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Exchange(nil), a.exchanges...)
}

// Missed returns how many exchanges the trace says it left out, because a burst was faster than its reader.
func (a *Agent) Missed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.missed
}

// BadLines returns trace lines that were not valid JSON.
func (a *Agent) BadLines() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.badLines...)
}

// Get returns the body of a page of the agent.
func (a *Agent) Get(path string) (string, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone() // closing the default one's connections breaks others' requests
	defer transport.CloseIdleConnections()
	httpClient := http.Client{Transport: transport, Timeout: servers.Slow(5 * time.Second)}
	response, err := httpClient.Get("http://" + a.Address + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, response.Status)
	}
	return string(body), err
}

// Metrics scrapes the agent once.
func (a *Agent) Metrics() (Metrics, error) {
	text, err := a.Get("/metrics")
	if err != nil {
		return nil, err
	}
	return ParseMetrics(text)
}

// Stop ends the agent with SIGTERM, as an init system does.
func (a *Agent) Stop() error { return a.finish((*servers.Process).Stop) }

// Kill ends the agent with SIGKILL.
func (a *Agent) Kill() error { return a.finish((*servers.Process).Kill) }

func (a *Agent) finish(end func(*servers.Process) error) error {
	var err error
	if a.Process != nil {
		err = end(a.Process)
	}
	if a.cancel != nil {
		a.cancel()
		<-a.ended
	}
	return errors.Join(err, os.RemoveAll(a.dir))
}

// KernelObjects returns the agent's BPF objects, each as bpftool's words: "prog id 7", "map id 9", "link id 3".
func (a *Agent) KernelObjects() ([]string, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fdinfo", a.PID()))
	if err != nil {
		return nil, err
	}
	var objects []string
	for _, entry := range entries {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", a.PID(), entry.Name()))
		if err != nil {
			continue // closed in the meantime
		}
		isLink := strings.Contains(string(text), "link_id:")
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			kind, found := strings.CutSuffix(key, "_id")
			// A link's file also names the program behind it.
			if found && (kind == "link" || !isLink && (kind == "prog" || kind == "map")) {
				objects = append(objects, kind+" id "+strings.TrimSpace(value))
			}
		}
	}
	return objects, nil
}

// Resources are what the agent's process has used.
type Resources struct {
	CPU      time.Duration // user and system
	Resident int64         // bytes
}

// Resources reads the agent's use from /proc.
func (a *Agent) Resources() (Resources, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.PID()))
	if err != nil {
		return Resources{}, err
	}
	// Fields after the name, from "state" on: utime and stime are the 12th and 13th in clock ticks, rss the 22nd.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 22 {
		return Resources{}, fmt.Errorf("short /proc stat: %q", text)
	}
	const tick = time.Second / 100 // USER_HZ on every architecture that Go runs on
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	pages, err3 := strconv.ParseInt(fields[21], 10, 64)
	return Resources{CPU: time.Duration(user+system) * tick, Resident: pages * int64(os.Getpagesize())}, errors.Join(err1, err2, err3)
}
