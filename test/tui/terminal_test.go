package tui

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

const (
	pollInterval = 20 * time.Millisecond // a question to tmux takes a tenth of that
	prompt       = "ready>"              // of the shell
)

// shownTimeout is many times what anything takes to be shown: the agent's tick of ten seconds and a busy machine.
var shownTimeout = servers.Slow(60 * time.Second)

// terminal is a window of a tmux of its own, with a shell in it.
type terminal struct {
	t      *testing.T
	socket string
}

// allVariable is set by make test-tui, which runs all tests and needs all programs.
const allVariable = "PERFAGENT_TUI_ALL"

// long skips a test that starts agents of its own, or a command that takes long.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv(allVariable) == "" {
		t.Skip("takes long: it runs in make test-tui")
	}
}

// missing ends a test that needs a program that is not installed.
func missing(t *testing.T, program string) {
	t.Helper()
	if os.Getenv(allVariable) != "" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
}

// look is how a terminal is.
type look struct {
	columns, rows int
	name          string   // TERM
	env           []string // further environment
	shell         []string // instead of bash
}

// openTerminal starts a shell on a terminal, and ends both with the test.
func openTerminal(t *testing.T, l look) *terminal {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		missing(t, "tmux")
	}
	directory, err := os.MkdirTemp("", "tui") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t, filepath.Join(directory, "s")}
	config := filepath.Join(directory, "conf")
	if err := os.WriteFile(config, []byte("set -g default-terminal "+l.name+"\nset -g status off\nset -g escape-time 0\nset -g remain-on-exit on\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shell := l.shell
	if shell == nil {
		shell = []string{"bash", "--norc", "--noprofile"}
	}
	args := []string{"-u", "-f", config, "-S", term.socket, "new-session", "-d", "-x", strconv.Itoa(l.columns), "-y", strconv.Itoa(l.rows), "env"}
	args = append(args, "PS1="+prompt+" ", "LC_ALL=C.UTF-8", "HOME="+directory)
	command := exec.CommandContext(t.Context(), "tmux", append(append(args, l.env...), shell...)...)
	command.Env = agent.Environment()
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("start tmux: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the screen is:\n%s", term.screen())
		}
		_ = exec.Command("tmux", "-S", term.socket, "kill-server").Run() // it may have ended with its shell
		_ = os.RemoveAll(directory)
	})
	return term
}

// tmux gives a command to this terminal's tmux.
func (term *terminal) tmux(args ...string) string {
	term.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-u", "-S", term.socket}, args...)...).CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

// press sends keys by the names that tmux has for them.
func (term *terminal) press(keys ...string) {
	term.t.Helper()
	term.tmux(append([]string{"send-keys", "--"}, keys...)...)
}

// enter types a line.
func (term *terminal) enter(line string) {
	term.t.Helper()
	term.tmux("send-keys", "-l", "--", line)
	term.press("Enter")
}

func (term *terminal) screen() string { return term.tmux("capture-pane", "-p") }

// styled is the screen with its colours, as escape sequences.
func (term *terminal) styled() string { return term.tmux("capture-pane", "-p", "-e") }

// variable is one of tmux' about the window.
func (term *terminal) variable(name string) string {
	return strings.TrimSpace(term.tmux("display-message", "-p", "#{"+name+"}"))
}

// await looks at the screen until it is as wanted, and returns it.
func (term *terminal) await(what string, done func(screen string) bool) string {
	term.t.Helper()
	for deadline := time.Now().Add(shownTimeout); ; time.Sleep(pollInterval) {
		screen := term.screen()
		if done(screen) {
			return screen
		}
		if time.Now().After(deadline) {
			term.t.Fatalf("not seen: %s; the screen is:\n%s", what, screen)
		}
	}
}

// see waits until all of the texts are on the screen.
func (term *terminal) see(texts ...string) string {
	term.t.Helper()
	return term.await(fmt.Sprintf("%q", texts), func(screen string) bool {
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return false
			}
		}
		return true
	})
}

// seePrompt waits for the shell, on the terminal's own screen with its cursor, and with what was typed echoed.
func (term *terminal) seePrompt() {
	term.t.Helper()
	term.await("the prompt", func(screen string) bool {
		lines := strings.Split(strings.TrimSpace(screen), "\n")
		return strings.HasSuffix(lines[len(lines)-1], prompt) // behind the ^C that the terminal echoes
	})
	if on, cursor := term.variable("alternate_on"), term.variable("cursor_flag"); on != "0" || cursor != "1" {
		term.t.Errorf("the alternate screen is on: %s, the cursor is shown: %s", on, cursor)
	}
	if mouse := term.variable("mouse_any_flag"); mouse != "0" {
		term.t.Error("the mouse is still reported")
	}
	term.enter("stty -a | tr ';' '\\n' | grep -o -w -e '-*echo' -e '-*icanon' | paste -sd+")
	term.await("a terminal that edits lines and echoes", func(screen string) bool {
		return strings.Contains(screen, "\nicanon+echo\n") || strings.Contains(screen, "\necho+icanon\n")
	})
}

// checkScreen fails where a screen was not drawn for its size: a first line that is not the title, or a last one that is not the keys.
func checkScreen(t *testing.T, screen string, columns, rows int) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(screen, "\n"), "\n")
	if len(lines) != rows {
		t.Errorf("%d lines on a terminal of %d", len(lines), rows)
	}
	for _, line := range lines {
		if n := len([]rune(line)); n > columns {
			t.Errorf("%d columns on a terminal of %d: %s", n, columns, line)
		}
	}
	if !strings.HasPrefix(lines[0], "perfagent top") || !strings.HasPrefix(lines[len(lines)-1], "q quit") {
		t.Errorf("scrolled or wrapped:\n%s", screen)
	}
}

// signalOf sends a signal to the process whose number is in a file.
func signalOf(t *testing.T, file string, s syscall.Signal) {
	t.Helper()
	text, err := os.ReadFile(file)
	pid, err2 := strconv.Atoi(strings.TrimSpace(string(text)))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}
