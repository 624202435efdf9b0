// Package vm runs a command inside a virtual machine with one of Debian's kernels, under QEMU without KVM.
//
// The guest sees the host's files: the root is the host's, read only through 9p, below a layer of memory that takes every
// write and is gone at the end. So whatever runs on the host (nginx, node, python3, a test binary just built) runs in the
// guest under the same path, on another kernel. There is no network but loopback.
package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Kernels are the versions that can be asked for, oldest first.
var Kernels = []string{"5.10", "6.1", "6.12"}

const (
	// defaultTimeout is many times what a boot takes in emulation (5 to 10 s), to leave room for a test suite.
	defaultTimeout   = 10 * time.Minute
	defaultCPUs      = 2
	defaultMemoryMiB = 2048
	// consoleTailBytes is about what a panic prints.
	consoleTailBytes = 8 << 10
	// turnInterval is between two looks for a free processor: short beside a boot, and hardly a cost.
	turnInterval = 200 * time.Millisecond
)

// Options say what runs, and on what. Only Kernel and Command are required.
type Options struct {
	// Kernel is one of Kernels.
	Kernel string
	// Command is the program, found along PATH, and its arguments.
	Command []string
	// Dir is the working directory. Empty means the current one.
	Dir string
	// Env is added to the guest's environment, NAME=VALUE. Of the host's environment the guest gets PATH alone.
	Env []string
	// Share are directories of the host that the guest can write to, under the same path.
	Share []string
	// CPUs of the guest. Zero means 2, or 1 with ICount.
	CPUs int
	// MemoryMiB of the guest. Zero means 2048. Files that the guest writes live in it too.
	MemoryMiB int
	// ICount makes the guest's clock count instructions, one nanosecond each, and not time. A figure per second is then
	// one per 10^9 instructions: hardly anything else that runs on the host changes it. It needs one CPU.
	ICount bool
	// KernelParameters are added to the kernel's command line.
	KernelParameters string
	// Timeout after which the machine is killed. Zero means ten minutes.
	Timeout time.Duration
	// Stdout and Stderr take the command's output. Nil discards it.
	Stdout, Stderr io.Writer
}

// ExitError says that the command ran and ended with a status other than 0.
type ExitError struct {
	// Status as a shell reports it: 128 plus the signal's number for a command that a signal ended.
	Status int
}

func (e *ExitError) Error() string { return fmt.Sprintf("the command ended with status %d", e.Status) }

// ErrNoResult says that the machine ended before the command did: the kernel panicked, or the boot failed. The error that
// wraps it holds the end of the console.
var ErrNoResult = errors.New("the virtual machine ended without a result")

// Run boots the kernel, runs the command and powers off. Its error is an *ExitError when the command failed; it wraps
// context.DeadlineExceeded after the timeout and ErrNoResult after a panic.
//
// The machines of a user together have no more CPUs than the host has processors, since others would slow each other down
// until tests time out: Run waits for its turn, which does not count towards the timeout.
func Run(ctx context.Context, opts Options) error {
	opts, err := opts.withDefaults()
	if err != nil {
		return err
	}
	kernel, err := findKernel(ctx, opts.Kernel)
	if err != nil {
		return err
	}
	turn, err := takeTurn(ctx, filepath.Dir(kernel.dir), min(opts.CPUs, runtime.NumCPU()))
	if err != nil {
		return err
	}
	defer turn.pass()

	work, err := os.MkdirTemp("", "perfagent-vm-")
	if err != nil {
		return fmt.Errorf("making a working directory: %w", err)
	}
	defer os.RemoveAll(work)
	if err := writeInitramfs(filepath.Join(work, "initramfs"), kernel, opts); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	return boot(ctx, work, kernel, opts)
}

func (opts Options) withDefaults() (Options, error) {
	if len(opts.Command) == 0 {
		return opts, errors.New("no command to run")
	}
	if opts.Dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return opts, fmt.Errorf("finding the working directory: %w", err)
		}
		opts.Dir = dir
	}
	opts.Share = slices.Clone(opts.Share)
	for i, dir := range opts.Share {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return opts, fmt.Errorf("finding the directory to share %q: %w", dir, err)
		}
		opts.Share[i] = abs
	}
	if opts.ICount && opts.CPUs > 1 {
		return opts, errors.New("the instruction clock needs exactly one CPU")
	}
	if opts.CPUs == 0 {
		opts.CPUs = defaultCPUs
		if opts.ICount {
			opts.CPUs = 1
		}
	}
	if opts.MemoryMiB == 0 {
		opts.MemoryMiB = defaultMemoryMiB
	}
	if opts.Timeout == 0 {
		opts.Timeout = defaultTimeout
	}
	return opts, nil
}

// A turn is the right to keep some of the host's processors busy: a lock for each of them.
type turn []*os.File

// takeTurn waits until n of the host's processors run no machine of this user.
func takeTurn(ctx context.Context, dir string, n int) (turn, error) {
	for {
		t, err := tryTurn(dir, n)
		if t != nil || err != nil {
			return t, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for a free processor: %w", ctx.Err())
		case <-time.After(turnInterval):
		}
	}
}

// tryTurn takes n locks, or returns nil where fewer are free. It does not wait for one while it holds another.
func tryTurn(dir string, n int) (turn, error) {
	var t turn
	for i := 0; i < runtime.NumCPU() && len(t) < n; i++ {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf(".turn-%d.lock", i)), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("opening the lock: %w", err), t.pass())
		}
		t = append(t, f)
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			err = f.Close()
			t = t[:len(t)-1]
			if err != nil {
				return nil, errors.Join(err, t.pass())
			}
		case err != nil:
			return nil, errors.Join(fmt.Errorf("locking %s: %w", f.Name(), err), t.pass())
		}
	}
	if len(t) < n {
		return nil, t.pass()
	}
	return t, nil
}

// pass gives the processors to whoever waits.
func (t turn) pass() error {
	var err error
	for _, f := range t {
		err = errors.Join(err, f.Close())
	}
	return err
}

// boot starts QEMU and waits for it.
func boot(ctx context.Context, work string, kernel kernel, opts Options) error {
	// The parent-death signal is sent when the starting thread ends, so that thread has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", qemuArgs(work, kernel, opts)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var message, status bytes.Buffer
	cmd.Stderr = &message
	wait, err := connectPorts(cmd, opts.Stdout, opts.Stderr, &status)
	if err != nil {
		return err
	}
	err = cmd.Start()
	closeErr := wait.closeWriters()
	if err != nil || closeErr != nil {
		wait.copies.Wait()
		return errors.Join(fmt.Errorf("starting QEMU (apt package qemu-system-x86): %w", err), closeErr)
	}
	err = cmd.Wait()
	wait.copies.Wait()
	return result(ctx, err, status.String(), message.String(), filepath.Join(work, consoleName))
}

// ports are the pipes through which QEMU hands over what the guest writes to its virtio-serial ports.
type ports struct {
	writers []*os.File
	copies  sync.WaitGroup
}

// connectPorts gives the command one pipe per port, as descriptors 3 and up, and copies what arrives to the writers.
func connectPorts(cmd *exec.Cmd, to ...io.Writer) (*ports, error) {
	p := &ports{}
	for _, dst := range to {
		if dst == nil {
			dst = io.Discard
		}
		r, w, err := os.Pipe()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("making a pipe: %w", err), p.closeWriters())
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
		p.writers = append(p.writers, w)
		p.copies.Go(func() {
			defer r.Close()
			if _, err := io.Copy(dst, r); err != nil {
				// The guest must not block because the reader is gone.
				io.Copy(io.Discard, r)
			}
		})
	}
	return p, nil
}

func (p *ports) closeWriters() error {
	var err error
	for _, w := range p.writers {
		err = errors.Join(err, w.Close())
	}
	return err
}

// result turns what QEMU and the guest left behind into Run's error.
func result(ctx context.Context, err error, status, message, console string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("the virtual machine was stopped: %w\n%s", ctx.Err(), tail(console))
	}
	if err != nil {
		return fmt.Errorf("QEMU: %w: %s", err, strings.TrimSpace(message))
	}
	digits, ok := strings.CutPrefix(strings.TrimSpace(status), "exit ")
	code, convErr := strconv.Atoi(digits)
	if !ok || convErr != nil {
		return fmt.Errorf("%w; its console ends with:\n%s", ErrNoResult, tail(console))
	}
	if code != 0 {
		return &ExitError{Status: code}
	}
	return nil
}

// tail is the end of the console, with anything that could steer a terminal made visible.
func tail(console string) string {
	data, err := os.ReadFile(console)
	if err != nil {
		return fmt.Sprintf("(no console: %v)", err)
	}
	data = data[max(0, len(data)-consoleTailBytes):]
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return -1
		case r < ' ' && r != '\n' && r != '\t', r == 0x7f:
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(data), "?"))
}
