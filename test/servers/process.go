// Package servers starts real HTTP servers on free loopback ports and stops them without a trace: each one is a
// process group of its own in a temporary directory of its own.
package servers

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrNotInstalled says that a server's program is not on this machine.
var ErrNotInstalled = errors.New("not installed")

const pollInterval = 5 * time.Millisecond

var (
	startTimeout = Slow(20 * time.Second) // a cold Python with FastAPI on a busy machine takes several seconds
	stopTimeout  = Slow(5 * time.Second)
)

// Slow multiplies a deadline by PERFAGENT_TEST_SLOW where that is set: for machines in emulation.
func Slow(deadline time.Duration) time.Duration {
	factor, err := strconv.Atoi(os.Getenv("PERFAGENT_TEST_SLOW"))
	if err != nil || factor < 1 {
		return deadline
	}
	return deadline * time.Duration(factor)
}

// Process is a program that was started in a process group of its own.
type Process struct {
	cmd     *exec.Cmd
	done    chan struct{} // closed when the program has ended
	waitErr error
	logPath string
	gone    atomic.Bool // the whole group has ended: its id may belong to others by now
}

// StartProcess starts cmd with its output in the file logPath.
func StartProcess(cmd *exec.Cmd, logPath string) (*Process, error) {
	output, err := os.Create(logPath)
	if err != nil {
		return nil, fmt.Errorf("creating log of %s: %w", cmd.Path, err)
	}
	defer output.Close() // the child holds its own copy
	if cmd.Stdout == nil {
		cmd.Stdout = output
	}
	cmd.Stderr = output
	// A test that dies without cleaning up takes its servers along.
	if cmd.SysProcAttr == nil { // else it says which user it runs as
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGTERM
	if err := cmd.Start(); errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", cmd.Path, ErrNotInstalled)
	} else if err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	p := &Process{cmd: cmd, done: make(chan struct{}), logPath: logPath}
	go func() {
		p.waitErr = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID returns the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode returns the exit code once Done is closed; -1 for a signal.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Log returns the end of the process's output.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text[max(0, len(text)-2000):]))
}

// Signal sends s to the process alone.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop ends the whole process group: SIGTERM, then SIGKILL to what is left after a while. It returns when the process
// is reaped.
func (p *Process) Stop() error { return p.end(syscall.SIGTERM) }

// Kill ends the whole process group with SIGKILL.
func (p *Process) Kill() error { return p.end(syscall.SIGKILL) }

func (p *Process) end(first syscall.Signal) error {
	if p.gone.Load() {
		return nil
	}
	group := -p.cmd.Process.Pid
	if err := syscall.Kill(group, first); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signalling %s: %w", p.cmd.Path, err)
	}
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
	}
	// What the leader left behind, or the leader itself. The group's id cannot be reused while a member lives.
	if err := syscall.Kill(group, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("killing %s: %w", p.cmd.Path, err)
	}
	<-p.done
	for deadline := time.Now().Add(stopTimeout); time.Now().Before(deadline); time.Sleep(pollInterval) {
		if !groupAlive(-group) {
			p.gone.Store(true)
			return nil
		}
	}
	return fmt.Errorf("processes of %s are left in group %d", p.cmd.Path, -group)
}

// groupAlive reports whether the process group has a member that is not a zombie: those are init's to reap, and it
// may take its time.
func groupAlive(group int) bool {
	if errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
		return false
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return true
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // ended in the meantime
		}
		// The name before ") " may hold anything; then follow state, parent and group.
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(fields) > 2 && string(fields[2]) == fmt.Sprint(group) && string(fields[0]) != "Z" {
			return true
		}
	}
	return false
}

// waitListening returns when the address accepts connections.
func (p *Process) waitListening(network, address string) error {
	deadline := time.Now().Add(startTimeout)
	for {
		conn, err := net.DialTimeout(network, address, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at the start: %w: %s", p.cmd.Path, p.waitErr, p.Log())
		case <-time.After(pollInterval):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not listen on %s: %w: %s", p.cmd.Path, address, err, p.Log())
		}
	}
}

var ports struct {
	sync.Mutex
	given map[int]bool
}

// FreePort returns a TCP port on which nothing listens on either loopback address, and never the same one twice. It
// is below the range from which the kernel takes ports of outgoing connections, so none of those can take it first.
func FreePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	if ports.given == nil {
		ports.given = map[int]bool{}
	}
	const first, count = 18000, 12000
	for i := range count {
		port := first + (os.Getpid()*61+i)%count // parallel test processes start at different places
		if ports.given[port] || !free(port) {
			continue
		}
		ports.given[port] = true
		return port, nil
	}
	return 0, errors.New("no free port")
}

func free(port int) bool {
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
		if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
			continue // no IPv6 here
		}
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

var builds struct {
	sync.Mutex
	dir   string
	paths map[string]string
}

// Build compiles a program once per test process and returns its path: "goserver" and "rawserver" of this folder,
// "uring", or the import path of another Go program. PERFAGENT_TEST_BIN may name a directory with programs that are
// built already, for machines without compilers.
func Build(name string) (string, error) {
	builds.Lock()
	defer builds.Unlock()
	base := filepath.Base(name)
	if dir := os.Getenv("PERFAGENT_TEST_BIN"); dir != "" {
		path := filepath.Join(dir, base)
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s: %w", path, ErrNotInstalled)
		}
		return path, nil
	}
	if builds.paths[name] != "" {
		return builds.paths[name], nil
	}
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "perfagent-test-bin")
		if err != nil {
			return "", err
		}
		builds.dir, builds.paths = dir, map[string]string{}
	}
	path := filepath.Join(builds.dir, base)
	if err := compile(name, path); err != nil {
		return "", err
	}
	builds.paths[name] = path
	return path, nil
}

func compile(name, path string) error {
	const module = "github.com/perfagent/perfagent/"
	cmd := exec.Command("go", "build", "-o", path, name)
	switch name {
	case "goserver", "rawserver":
		cmd.Args[4] = module + "test/servers/" + name
	case "uring":
		cmd = exec.Command("gcc", "-O2", "-x", "c", "-o", path, "-")
		cmd.Stdin = bytes.NewReader(asset("uring.c"))
	}
	if output, err := cmd.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("building %s: %s: %w", name, cmd.Path, ErrNotInstalled)
	} else if err != nil {
		return fmt.Errorf("building %s: %w: %s", name, err, output)
	}
	return nil
}

// Cleanup removes what Build made. Call it at the end of the test process.
func Cleanup() error {
	builds.Lock()
	defer builds.Unlock()
	dir := builds.dir
	builds.dir, builds.paths = "", nil
	if dir == "" {
		return nil
	}
	return os.RemoveAll(dir)
}
