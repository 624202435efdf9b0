package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// outputBytesMax is what is kept of a command's output; the rest is read and thrown away.
	outputBytesMax = 4 << 10
	// outputGrace is how long output is awaited from what a command has left behind.
	outputGrace = time.Second
	// commandPath is where commands find others.
	commandPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// account is whom a command runs as.
type account struct {
	credential *syscall.Credential // nil: the agent's user
	home       string
}

// command checks that the command can run, and returns as whom.
func (r *Remedy) command() (*account, error) {
	info, err := os.Stat(r.Command[0])
	switch {
	case err != nil:
		return nil, fmt.Errorf("the command: %w", err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return nil, fmt.Errorf("the command %s is no program", r.Command[0])
	case info.Mode().Perm()&0o002 != 0:
		return nil, fmt.Errorf("the command %s may be written by anybody", r.Command[0])
	}
	if directory, err := os.Stat(filepath.Dir(r.Command[0])); err == nil && directory.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("anybody may replace the command %s: its directory may be written by all", r.Command[0])
	}
	a, err := r.account()
	if err != nil {
		return nil, err
	}
	uid := os.Geteuid()
	if a.credential != nil {
		uid = int(a.credential.Uid)
	}
	if uid == 0 && !r.AllowRoot {
		return nil, errors.New("the command would run as root: name a user, or set allow-root")
	}
	return a, nil
}

// account looks the user up; without one, or with the agent's own, nothing is to be changed.
func (r *Remedy) account() (*account, error) {
	if r.User == "" {
		return &account{home: "/"}, nil
	}
	u, err := user.Lookup(r.User)
	if err != nil {
		return nil, fmt.Errorf("the user of the command: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("the user %s has no number", r.User)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("the user %s has no group", r.User)
	}
	a := &account{home: u.HomeDir}
	if int(uid) == os.Geteuid() {
		return a, nil
	}
	if !maySwitchUser() {
		return nil, fmt.Errorf("the agent may not run a command as %s: that needs root, or CAP_SETUID and CAP_SETGID", r.User)
	}
	a.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("the groups of %s: %w", r.User, err)
	}
	for _, text := range groups {
		if group, err := strconv.ParseUint(text, 10, 32); err == nil {
			a.credential.Groups = append(a.credential.Groups, uint32(group))
		}
	}
	return a, nil
}

// maySwitchUser reads the effective capabilities (proc(5)): CAP_SETGID is 6, CAP_SETUID 7.
func maySwitchUser() bool {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if digits, ok := strings.CutPrefix(line, "CapEff:"); ok {
			effective, _ := strconv.ParseUint(strings.TrimSpace(digits), 16, 64)
			return effective>>6&3 == 3
		}
	}
	return false
}

// execute runs the command, and ends it with all that it has started when ctx ends. It returns the beginning of its output.
func (r *Remedy) execute(ctx context.Context, n *notification) (output string, err error) {
	a, err := r.command() // it may have been replaced since the start
	if err != nil {
		return "", err
	}
	input, err := json.Marshal(newWebhookAlert(&n.Alerts[0]))
	if err != nil {
		return "", fmt.Errorf("encode the alert: %w", err)
	}
	out := &boundedBuffer{left: outputBytesMax}
	c := exec.Command(r.Command[0], r.Command[1:]...)
	c.Env = commandEnvironment(n, a)
	c.Dir = "/"
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(append(input, '\n')), out, out
	c.WaitDelay = outputGrace
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: a.credential}
	err = runConfined(ctx, c)
	switch {
	case err == nil:
	case ctx.Err() == context.DeadlineExceeded:
		err = errors.New("it did not end in time and was killed")
	case ctx.Err() != nil:
		err = errors.New("it was killed, as the agent stops")
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // it ended well; something that it started had its output open
	}
	return out.text(), err
}

// runConfined runs a command, and kills it with its process group when ctx ends, and what is left of the group when it has ended by
// itself. The group's number is free for others once the command was waited for, so all that is killed is killed before.
func runConfined(ctx context.Context, c *exec.Cmd) error {
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		// The thread lives as long as the command: its end, which is also the agent's, kills the command (Pdeathsig). It is never
		// unlocked, so it ends with this goroutine.
		runtime.LockOSThread()
		err := startConfined(c)
		started <- err
		if err == nil {
			awaitEnd(c.Process.Pid)
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	kill := func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	select {
	case <-ended:
	case <-ctx.Done():
		kill()
		<-ended
	}
	kill() // mostly nothing is left
	return c.Wait()
}

// startConfined starts a command with nothing of the agent: neither its ambient capabilities, which the calling thread gives up, nor a
// file that is open in it.
func startConfined(c *exec.Cmd) error {
	const prCapAmbient, clearAll = 47, 4
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prCapAmbient, clearAll, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("give up the agent's capabilities: %w", errno)
	}
	if err := closeOnExec(); err != nil {
		return fmt.Errorf("keep the agent's files from the command: %w", err)
	}
	return c.Start()
}

// closeOnExec has everything that is open behind standard error closed in programs that are started. Go opens files so; what the agent was
// started with, by a shell or a supervisor, may be open otherwise.
func closeOnExec() error {
	const closeRange, markOnly = 436, 4 // close_range(2), in Linux 5.11 with this flag; a new call has one number everywhere
	if _, _, errno := syscall.RawSyscall(closeRange, 3, math.MaxUint32, markOnly); errno == 0 {
		return nil
	}
	return closeEachOnExec()
}

func closeEachOnExec() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range open {
		if number, err := strconv.Atoi(entry.Name()); err == nil && number > 2 {
			syscall.CloseOnExec(number)
		}
	}
	return nil
}

// awaitEnd returns when a child has ended, and leaves it to be waited for: until then nobody else gets its number.
func awaitEnd(pid int) {
	const ofProcess, leaveIt = 1, syscall.WEXITED | syscall.WNOWAIT
	for {
		if _, _, errno := syscall.Syscall6(syscall.SYS_WAITID, ofProcess, uintptr(pid), 0, leaveIt, 0, 0); errno != syscall.EINTR {
			return
		}
	}
}

// commandEnvironment has nothing of the agent's own environment. Values come from requests, so they have no character that means something
// to a shell, and begin with none that means something to a program; standard input has them as they are.
func commandEnvironment(n *notification, a *account) []string {
	environment := []string{"PATH=" + commandPath, "HOME=" + a.home, "LANG=C.UTF-8"}
	alert := &n.Alerts[0]
	add := func(name, value string) {
		environment = append(environment, "PERFAGENT_ALERT_"+name+"="+harmless(value))
	}
	add("ID", n.ID)
	add("NAME", alert.name())
	add("STARTS_AT", alert.StartsAt.UTC().Format(time.RFC3339))
	for name, value := range alert.Labels {
		add("LABEL_"+strings.ToUpper(name), value)
	}
	slices.Sort(environment)
	return environment
}

// harmless replaces all but letters, digits and a few signs by _, and a first character that would begin an option.
func harmless(s string) string {
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._:/@,+-", r) {
			return r
		}
		return '_'
	}, s)
	if strings.HasPrefix(safe, "-") {
		safe = "_" + safe[1:]
	}
	return safe
}

// boundedBuffer keeps the beginning of what is written to it.
type boundedBuffer struct {
	kept bytes.Buffer
	left int
	cut  bool
}

// Write implements io.Writer.
func (b *boundedBuffer) Write(p []byte) (int, error) {
	keep := min(len(p), b.left)
	b.kept.Write(p[:keep])
	b.left -= keep
	b.cut = b.cut || keep < len(p)
	return len(p), nil
}

func (b *boundedBuffer) text() string {
	text := strings.ToValidUTF8(b.kept.String(), "�")
	if b.cut {
		text += "…"
	}
	return text
}
