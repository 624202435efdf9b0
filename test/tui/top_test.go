package tui

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/perfagent/perfagent/test/agent"
)

// Shows the table at several sizes, that it follows a change of the size, and what is said where there is no room.
func TestTopSizes(t *testing.T) {
	t.Parallel()
	p := theAgent(t)
	term := openTerminal(t, look{columns: 80, rows: 24, name: "tmux-256color"})
	term.enter(p.top())
	checkScreen(t, term.see("/items/{id}", "REQ/S", "q quit"), 80, 24)
	for _, size := range [][2]int{{132, 43}, {60, 12}, {200, 60}, {80, 24}} {
		term.tmux("resize-window", "-x", fmt.Sprint(size[0]), "-y", fmt.Sprint(size[1]))
		screen := term.await(fmt.Sprint("a table of ", size), func(s string) bool {
			lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
			return len(lines) == size[1] && strings.HasPrefix(lines[0], "perfagent top") && strings.HasPrefix(lines[size[1]-1], "q quit") &&
				len(strings.TrimRight(lines[0], " ")) > size[0]-3 // the clock is at the right edge
		})
		checkScreen(t, screen, size[0], size[1])
	}
	term.tmux("resize-window", "-x", "50", "-y", "10")
	term.see("This terminal is too small", "50x10")
	term.tmux("resize-window", "-x", "80", "-y", "24")
	term.see("/items/{id}")
	term.press("q")
	term.seePrompt()
}

// Shows the keys as a person has them: views, sort, filter, details with their graphs, pause, help, and back.
func TestTopKeys(t *testing.T) {
	t.Parallel()
	p := theAgent(t)
	term := openTerminal(t, look{columns: 100, rows: 40, name: "tmux-256color"})
	term.enter(p.top())
	term.see("/items/{id}", "[1 endpoints")
	term.press("2")
	term.see("[2 services", "MEM MB")
	term.press("Tab")
	term.see("[3 calls", "CALLS")
	term.press("4")
	term.see("[4 problems")
	term.press("1", "s")
	term.see("sorted by errors", "ERR%▼")
	term.press("r")
	term.see("ERR%▲")
	term.press("/")
	term.see("filter (regular expression or text)")
	term.tmux("send-keys", "-l", "items|broken")
	term.await("the two rows", func(s string) bool { return strings.Contains(s, "2 of ") && !strings.Contains(s, "telling-end") })
	term.press("Enter")
	term.see("filter items|broken")
	term.press("Home", "Enter")
	screen := term.see("requests/s", "The last ", "errors %", "phases", "statuses", "processing", "Esc back")
	if !regexp.MustCompile(`requests/s +[▁▂▃▄▅▆▇█ ]*[▁▂▃▄▅▆▇█]`).MatchString(screen) {
		t.Errorf("no graph in:\n%s", screen)
	}
	term.press("Escape")
	term.see("filter items|broken", "REQ/S")
	term.press("Escape")
	term.see("/the-telling-end")
	term.press("?")
	term.see("KEYS", "COLUMNS", "Ctrl-Z suspends")
	term.press("Escape")
	term.press("p")
	term.see("PAUSED")
	term.press("p")
	term.await("the end of the pause", func(s string) bool { return !strings.Contains(s, "PAUSED") })
	term.press("C-c")
	term.seePrompt()
}

// styleCodes are the numbers of the sequences that choose colours and weight.
var styleCodes = regexp.MustCompile("\x1b\\[([0-9;:]*)m")

// Shows that 16 colours are all that is used where a terminal has no more, none with NO_COLOR or --no-color, and ASCII without UTF-8.
func TestTopColours(t *testing.T) {
	t.Parallel()
	p := theAgent(t)
	for _, c := range []struct {
		name, arg string
		env       []string
		colours   bool
	}{
		{"screen", "", nil, true}, {"xterm-16color", "", nil, true}, {"tmux-256color", "", []string{"NO_COLOR=1"}, false}, {"screen", "--no-color", []string{"LC_ALL=C"}, false},
	} {
		t.Run(strings.Join(append(c.env, c.name), " "), func(t *testing.T) {
			t.Parallel()
			term := openTerminal(t, look{columns: 80, rows: 24, name: c.name, env: c.env})
			term.enter(p.top(c.arg, "--sort=errors"))
			term.see("/broken")
			colours := 0
			for _, m := range styleCodes.FindAllStringSubmatch(term.styled(), -1) {
				for code := range strings.SplitSeq(m[1], ";") {
					switch {
					case regexp.MustCompile(`^(3[0-7]|9[0-7])$`).MatchString(code):
						colours++
					case !regexp.MustCompile(`^(0?|1|2|7|22|27|39|49)$`).MatchString(code):
						t.Errorf("code %q in %q", code, m[0])
					}
				}
			}
			if (colours > 0) != c.colours {
				t.Errorf("%d colours", colours)
			}
			if screen := term.screen(); len(c.env) > 0 && c.env[0] == "LC_ALL=C" && strings.ContainsFunc(screen, func(r rune) bool { return r > '~' }) {
				t.Errorf("not ASCII:\n%s", screen)
			}
			term.press("q")
			term.seePrompt()
		})
	}
}

// Shows that captured text moves no cursor, sets no title and reorders nothing, in the table, in details and in trace.
func TestHostilePaths(t *testing.T) {
	t.Parallel()
	p := theAgent(t)
	term := openTerminal(t, look{columns: 100, rows: 30, name: "tmux-256color"})
	inert := func(screen string) {
		t.Helper()
		if strings.ContainsAny(screen, "\u202e\u202c\x1b\x9b\u4f60\u0301\U0001f4a9\r") || strings.Contains(term.variable("pane_title"), "title") {
			t.Errorf("title %q:\n%q", term.variable("pane_title"), screen)
		}
	}
	term.enter(p.top(`--filter=$'\u202e\x1b[2J\u4f60'`)) // no route has them: what looks like an identifier is none's name
	screen := term.see("[1 endpoints", "Nothing matches", `\u202e\x1b[2J\u4f60`)
	inert(screen)
	checkScreen(t, screen, 100, 30)
	term.press("Escape", "Enter")
	inert(term.see("Esc back"))
	term.press("q")
	term.seePrompt()
	term.enter("clear; " + p.program + " trace --limit 60 --web.socket=" + p.socket("agent.sock") + "; echo is'-'over") // the prompt may be that of before
	term.see("is-over")
	history := term.tmux("capture-pane", "-p", "-S", "-200")
	inert(history)
	if !strings.Contains(history, "/%1B[2J%1B[31mred") || !strings.Contains(history, "/%E2%80%AEevil%E2%80%AC") {
		t.Errorf("the paths are not shown:\n%s", history)
	}
}

// Shows the forms that end by themselves: a table on a terminal fits it, as in a pipe it is whole; JSON is an object a line.
func TestTopOnce(t *testing.T) {
	t.Parallel()
	p := theAgent(t)
	term := openTerminal(t, look{columns: 80, rows: 24, name: "screen"})
	term.enter(p.top())
	term.see("/items/{id}") // there are figures
	term.press("q")
	term.seePrompt()
	term.enter("clear; " + p.top("--once"))
	screen := term.see("/items/{id}", "/the-telling-end")
	for line := range strings.Lines(screen) {
		if strings.Contains(line, "their-condition") && !strings.Contains(line, "/the-telling-end") {
			t.Errorf("the end of a path is cut: %s", line)
		}
	}
	socket := "--web.socket=" + p.socket("agent.sock")
	inPipe := func(args ...string) ([]byte, error) {
		command := exec.CommandContext(t.Context(), p.program, append([]string{"top", socket, "--once"}, args...)...)
		command.Env = agent.Environment()
		return command.Output()
	}
	out, err := inPipe()
	if err != nil || !strings.Contains(string(out), "GET    "+longPath+" ") {
		t.Errorf("%v:\n%s", err, out)
	}
	out, err = inPipe("-o", "json", "--limit=3")
	var object struct {
		Rows []map[string]any `json:"rows"`
	}
	if err != nil || json.Unmarshal(out, &object) != nil || len(object.Rows) != 3 || strings.Count(string(out), "\n") != 1 {
		t.Errorf("%v: %s", err, out)
	}
}

// Shows that an agent that is restarted under the table is said to be gone, and that its return is seen without a key.
func TestTopAgentRestarts(t *testing.T) {
	long(t)
	t.Parallel()
	p := theAgent(t)
	first, err := p.startAgent("second.sock")
	if err != nil {
		t.Fatal(err)
	}
	term := openTerminal(t, look{columns: 80, rows: 24, name: "screen"})
	term.enter(p.program + " top --interval=500ms --web.socket=" + p.socket("second.sock"))
	term.see("[1 endpoints")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	term.see("AGENT GONE for", "there is no such socket")
	second, err := p.startAgent("second.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer second.Stop()
	term.await("the agent's return", func(s string) bool { return !strings.Contains(s, "GONE") && strings.Contains(s, "agent up") })
	term.see("/items/{id}")
	term.press("q")
	term.seePrompt()
}

// Shows that Ctrl-Z gives the terminal to the shell as it was and fg draws the table anew, at the size that the terminal has by then, and
// that SIGTERM and SIGINT give it back for good.
func TestTopGivesBackTheTerminal(t *testing.T) {
	t.Parallel()
	p := theAgent(t)
	term := openTerminal(t, look{columns: 80, rows: 24, name: "screen"})
	file := filepath.Join(t.TempDir(), "pid")
	term.enter("sh -c 'echo $$ >" + file + "; exec " + p.top() + "'")
	term.see("/items/{id}")
	term.press("C-z")
	term.see("Stopped")
	term.seePrompt()
	term.tmux("resize-window", "-x", "100", "-y", "30")
	term.enter("fg")
	checkScreen(t, term.await("the table", func(s string) bool {
		return strings.HasPrefix(s, "perfagent top") && strings.Contains(s, "/items/{id}") && strings.Contains(s, "\nq quit")
	}), 100, 30)
	term.press("j", "?")
	term.see("KEYS")
	signalOf(t, file, syscall.SIGTERM)
	term.seePrompt()
	term.enter("sh -c 'echo $$ >" + file + "; exec " + p.top() + "'; echo code=$?")
	term.see("/items/{id}")
	signalOf(t, file, syscall.SIGINT)
	term.see("code=0")
	term.seePrompt()
}

// Shows top of a user who is not root: refused with a clear sentence, and with the socket's group or the agent's address the table.
func TestTopWithoutRoot(t *testing.T) {
	long(t)
	t.Parallel()
	p := theAgent(t)
	const nobody = 65534
	if _, err := exec.LookPath("setpriv"); err != nil {
		missing(t, "setpriv")
	}
	own, err := p.startAgent("shared.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Stop()
	user := func(groups string) string {
		return fmt.Sprintf("clear; setpriv --reuid=%d --regid=%d --groups=%s --no-new-privs %s top --interval=500ms", nobody, nobody, groups, p.program)
	}
	term := openTerminal(t, look{columns: 200, rows: 24, name: "screen"})
	term.enter(user("65534") + " --web.socket=" + p.socket("shared.sock"))
	term.see("permission denied: be its owner or in its group")
	term.enter(strings.Replace(user("65534"), " top --interval=500ms", " trace", 1) + " --web.socket=" + p.socket("shared.sock"))
	term.see("permission denied: run this as the socket's owner or in its group")
	if err := os.Chown(p.socket("shared.sock"), -1, 12345); err != nil {
		t.Fatal(err)
	}
	term.enter(user("12345") + " --web.socket=" + p.socket("shared.sock"))
	term.see("[1 endpoints", "/items/{id}")
	term.press("q")
	term.seePrompt()
	term.enter(user("65534") + " --web.url=http://" + own.Address)
	term.see("[1 endpoints", "/items/{id}")
	term.press("q")
	term.seePrompt()
}

// Shows that trace fits 80 columns, with the end of a long path, that a limit ends it, and that Ctrl-C does.
func TestTrace(t *testing.T) {
	t.Parallel()
	p := theAgent(t)
	term := openTerminal(t, look{columns: 80, rows: 24, name: "screen"})
	term.enter("clear; " + p.program + " trace --limit 12 --web.socket=" + p.socket("agent.sock"))
	screen := term.await("the end", func(s string) bool { return strings.HasSuffix(strings.TrimSpace(s), prompt) })
	if !regexp.MustCompile(`(?m) ~[a-z/-]*/the-telling-end$`).MatchString(screen) || !strings.HasPrefix(screen, "HTTP exchanges as they end, from the agent at ") {
		t.Errorf("%s", screen)
	}
	lines := 0
	for line := range strings.Lines(screen) {
		if regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3} `).MatchString(line) {
			lines++
		}
	}
	if lines != 12 {
		t.Errorf("%d lines of 12, so some wrapped:\n%s", lines, screen)
	}
	term.enter("clear; " + p.program + " trace --web.socket=" + p.socket("agent.sock"))
	term.see("/broken")
	term.press("C-c")
	term.seePrompt()
}

// Shows the other commands on a terminal: they fit 80 columns, and the ones that take long say that they work, until they answer.
func TestOtherCommands(t *testing.T) {
	long(t)
	t.Parallel()
	p := theAgent(t)
	term := openTerminal(t, look{columns: 80, rows: 50, name: "screen"})
	for _, c := range []struct{ args, want string }{
		{"check", "This host shows HTTP/1 exchanges"}, {"report --last 1h --web.socket=" + p.socket("agent.sock"), "##"},
		{"history dump --from 1h --format csv --storage.path " + p.socket("agent.sock.history") + " | head -2", ","}, {"version", "revision"},
		{"--help | head -30", "Available Commands:"}, {"obsreve", `unknown command "obsreve"`},
	} {
		term.enter("clear; " + p.program + " " + c.args)
		screen := term.await(c.args, func(s string) bool {
			return strings.Contains(s, c.want) && strings.HasSuffix(strings.TrimSpace(s), prompt)
		})
		if strings.Contains(screen, "\x1b") || strings.Contains(screen, " s\n"+prompt) {
			t.Errorf("%s:\n%s", c.args, screen)
		}
	}
	fifo := filepath.Join(t.TempDir(), "values")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	term.enter("clear; " + p.program + " analyze trend < " + fifo)
	values, err := os.OpenFile(fifo, os.O_WRONLY, 0) // when the shell opens it, too
	if err != nil {
		t.Fatal(err)
	}
	term.see("reading and computing: ")
	for i := range 100 {
		fmt.Fprintln(values, i%7)
	}
	if err := values.Close(); err != nil {
		t.Fatal(err)
	}
	screen := term.await("the trend", func(s string) bool { return strings.HasSuffix(strings.TrimSpace(s), prompt) })
	if strings.Contains(screen, "reading and computing") {
		t.Errorf("progress is left:\n%s", screen)
	}
}

// Shows completion with the Tab key in bash, zsh and fish as people have them.
func TestCompletionKeys(t *testing.T) {
	t.Parallel()
	p := theAgent(t)
	for _, c := range []struct {
		shell  []string
		source string
	}{
		{[]string{"bash", "--norc", "--noprofile"}, "source <(perfagent completion bash)"},
		{[]string{"zsh", "-f"}, "autoload -Uz compinit && compinit -D -u && source <(perfagent completion zsh)"},
		{[]string{"fish", "--no-config"}, "function fish_prompt; echo 'ready> '; end; function fish_right_prompt; end; set -g fish_autosuggestion_enabled 0; perfagent completion fish | source"},
	} {
		t.Run(c.shell[0], func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(c.shell[0]); err != nil {
				missing(t, c.shell[0])
			}
			term := openTerminal(t, look{columns: 120, rows: 40, name: "screen", shell: c.shell, env: []string{"PATH=" + p.directory + ":" + os.Getenv("PATH")}})
			term.enter(c.source + "; echo is'-'loaded")
			term.see("is-loaded")
			for _, word := range []struct{ typed, want string }{
				{"perfagent tra", "perfagent trace"}, {"perfagent run --log.level=d", "--log.level=debug"}, {"perfagent run --capture.backend f", "--capture.backend fentry"},
				{"perfagent report --format h", "--format html"}, {"perfagent run --config.file " + p.directory + "/perfag", p.directory + "/perfagent"},
			} {
				term.press("C-u", "C-l")
				term.await("an empty line", func(s string) bool { return !strings.Contains(s, "perfagent ") })
				term.tmux("send-keys", "-l", "--", word.typed)
				term.see(word.typed)
				term.press("Tab")
				term.see(word.want)
			}
		})
	}
}
