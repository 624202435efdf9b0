package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// hangupVariable makes the test's process, started again, one that waits for hangups as `run` does.
const hangupVariable = "HANGUP_TEST"

// waitForHangups answers each SIGHUP with a line, and ends where `run` ends.
func waitForHangups() {
	terminal := openTerminal()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	fmt.Println("ready")
	serve(context.Background(), &agent{failed: make(chan error)}, hangup, terminal.isGone, func() { fmt.Println("reload") })
	fmt.Println("end")
}

// openPTY returns both ends of a new terminal.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var number, unlock int32
	for request, value := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
			t.Fatal(errno)
		}
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// Shows that lines are as wide as the terminal, or as COLUMNS says, and of any width where there is no terminal, as in a pipe.
func TestLineWidth(t *testing.T) {
	master, slave := openPTY(t)
	defer master.Close()
	defer slave.Close()
	size := struct{ rows, columns, x, y uint16 }{rows: 24, columns: 132}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size))); errno != 0 {
		t.Fatal(errno)
	}
	reader, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer pipe.Close()
	for _, c := range []struct {
		w       io.Writer
		columns string
		want    int
	}{
		{slave, "", 132}, {slave, "COLUMNS=100", 100}, {slave, "COLUMNS=", 132}, {slave, "COLUMNS=-3", 132},
		{pipe, "", math.MaxInt}, {pipe, "COLUMNS=100", 100}, {pipe, "COLUMNS=x", math.MaxInt}, {new(bytes.Buffer), "", math.MaxInt},
	} {
		if got := lineWidth(c.w, []string{"LINES=7", c.columns}); got != c.want {
			t.Errorf("%T, %q: %d columns, want %d", c.w, c.columns, got, c.want)
		}
	}
}

// Shows what SIGHUP means, with processes on a terminal of their own: reload while the terminal is there, the end when it is
// closed, and under nohup, or without a terminal, always reload.
func TestHangup(t *testing.T) {
	for _, c := range []struct {
		name            string
		terminal, nohup bool
		want            string
	}{
		{"terminal", true, false, "ready reload end "},
		{"nohup", true, true, "ready reload reload "},
		{"no terminal", false, false, "ready reload reload "},
	} {
		t.Run(c.name, func(t *testing.T) {
			master, slave := openPTY(t)
			var output logBuffer
			script := `exec "$0"`
			if c.nohup {
				script = `trap "" HUP; exec "$0"`
			}
			executable, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			command := exec.Command("sh", "-c", script, executable)
			command.Env = append(os.Environ(), hangupVariable+"=1")
			command.Stdin, command.Stdout, command.Stderr = slave, &output, &output
			command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: c.terminal}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			defer command.Process.Kill()
			slave.Close()
			says := func(want string) bool { return strings.Join(strings.Fields(output.String()), " ")+" " == want }
			eventually(t, "the start", func() bool { return says("ready ") })
			if err := command.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the first reload", func() bool { return says("ready reload ") })
			master.Close() // the kernel tells the session's leader
			if !c.terminal {
				if err := command.Process.Signal(syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, c.want, func() bool { return says(c.want) })
		})
	}
}
