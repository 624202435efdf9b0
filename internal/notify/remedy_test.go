package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// script writes a program that nobody else may change.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "remedy")
	if err := os.Chmod(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// remedyConfig has one remedy for alerts called Down, which appends a line to a file.
func remedyConfig(t *testing.T, mode string) (c Config, runs func() int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "runs")
	matcher, err := ParseMatcher(`alertname="Down"`)
	if err != nil {
		t.Fatal(err)
	}
	c = simple()
	c.Remedies = RemedyConfig{Mode: mode, Rules: []Remedy{{Name: "again", Matchers: []Matcher{matcher}, AllowRoot: true, Command: []string{script(t, `echo "$PERFAGENT_ALERT_NAME" >>"$1"`), file}}}}
	return c, func() int {
		data, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Count(string(data), "Down\n")
	}
}

// audited returns the decisions of the audit, in order.
func audited(t *testing.T, path string) string {
	t.Helper()
	name := filepath.Join(path, "remedies.log")
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
		return ""
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for line := range strings.Lines(string(data)) {
		var l auditLine
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Remedy != "again" || l.Labels["alertname"] != "Down" || l.Time.IsZero() || l.StartsAt.IsZero() {
			t.Errorf("%v: %s", err, line)
		}
		words = append(words, l.Decision)
	}
	return strings.Join(words, " ")
}

// A remedy is done once for an incident, however often its alert is repeated and the agent restarted; again for the next one, at most three times an hour, and
// what the limit kept from being done is not made up for. Each decision stands in the audit.
func TestRemedyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, runs := remedyConfig(t, RemediesOn)
		path := t.TempDir()
		f := newFixture(t, c, path).start()
		defer func() { f.stop() }()
		a, other := alert("Down"), alert("Slow")
		f.pass(10*time.Minute, a, other)
		f.restart()
		f.pass(10*time.Minute, a, other)
		if runs() != 1 {
			t.Errorf("done %d times", runs())
		}
		for range 4 {
			f.n.Send([]Alert{ended(a)})
			f.pass(time.Minute)
			a.StartsAt = time.Now()
			f.pass(time.Minute, a)
			f.restart()
		}
		if runs() != RemedyPerHourDefault {
			t.Errorf("done %d times in an hour", runs())
		}
		f.pass(2*time.Hour, a)
		if runs() != RemedyPerHourDefault {
			t.Errorf("made up for: %d", runs())
		}
		a.StartsAt = time.Now()
		f.pass(time.Minute, a)
		if got := audited(t, path); runs() != RemedyPerHourDefault+1 || got != "run done run done run done rate-limited rate-limited run done" {
			t.Errorf("done %d times: %s", runs(), got)
		}
		if s := f.n.Stats().Remedies; s.Decisions[decisionRun] != 1 || s.Failed != 0 { // since the last restart
			t.Errorf("%+v", s)
		}
	})
}

// All remedies together are limited as well; remedies that are off, or only tried out, do nothing; a silence keeps them from being done until it ends.
func TestRemedyModes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, runs := remedyConfig(t, RemediesOff)
		path := t.TempDir()
		f := newFixture(t, c, path).start()
		defer f.stop()
		f.pass(2*time.Minute, alert("Down", "n", "off"))
		c.Remedies.Mode = RemediesDryRun
		f.n.Apply(c)
		f.pass(2*time.Minute, alert("Down", "n", "dry"))
		if got := audited(t, path); runs() != 0 || got != "dry-run" {
			t.Errorf("done %d times: %s", runs(), got)
		}
		matcher, _ := ParseMatcher("n=quiet")
		c.Remedies.Mode, c.Remedies.PerHour = RemediesOn, 2
		c.Silences = []Silence{{Matchers: []Matcher{matcher}, To: time.Now().Add(10 * time.Minute)}}
		f.n.Apply(c)
		quiet := alert("Down", "n", "quiet")
		f.pass(5*time.Minute, quiet)
		if got := audited(t, path); runs() != 0 || got != "dry-run silenced" {
			t.Errorf("done %d times: %s", runs(), got)
		}
		f.pass(10*time.Minute, quiet)
		f.pass(time.Minute, alert("Down", "n", "1"), quiet)
		f.pass(time.Minute, alert("Down", "n", "2"), quiet)
		if got := audited(t, path); runs() != 2 || got != "dry-run silenced run done run done rate-limited" {
			t.Errorf("done %d times: %s", runs(), got)
		}
	})
	c, _ := remedyConfig(t, RemediesOn)
	if _, err := New(Options{Config: c}); err == nil || !strings.Contains(err.Error(), "remedies.mode: remedies need --storage.path") {
		t.Errorf("without a directory: %v", err)
	}
}

// Where a decision cannot be written down nothing is done, and where what was done is not known, nothing for an alert that began before.
func TestRemedyWithoutState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, runs := remedyConfig(t, RemediesOn)
		path := t.TempDir()
		f := newFixture(t, c, path).start()
		defer func() { f.stop() }()
		name := filepath.Join(path, "notify", ".remedies.json")
		inTheWay := filepath.Join(name+".new", "x") // in a directory of this name nothing can be written
		if err := os.MkdirAll(inTheWay, 0o700); err != nil {
			t.Fatal(err)
		}
		a := alert("Down")
		f.pass(3*time.Minute, a)
		if got := audited(t, path); runs() != 0 || got != "refused" {
			t.Errorf("done %d times: %s", runs(), got)
		}
		if trouble := f.n.Trouble(); len(trouble) != 1 || !strings.HasPrefix(trouble[0], "no remedy is done") || !strings.Contains(trouble[0], "directory not empty") {
			t.Errorf("%q", trouble)
		}
		if err := os.RemoveAll(name + ".new"); err != nil {
			t.Fatal(err)
		}
		f.pass(time.Minute, alert("Down", "n", "2"))
		if runs() != 1 || len(f.n.Trouble()) != 0 {
			t.Errorf("done %d times, %q", runs(), f.n.Trouble())
		}
		f.stop()
		if err := os.WriteFile(name, []byte("damage"), 0o600); err != nil {
			t.Fatal(err)
		}
		b := alert("Down", "n", "3")
		time.Sleep(time.Second)
		f.start()
		f.pass(time.Minute, b, alert("Down", "n", "4"))
		if got := audited(t, path); runs() != 2 || got != "refused run done unknown run done" {
			t.Errorf("done %d times: %s", runs(), got)
		}
	})
}

// Where the start of an alert that went on over a restart is forgotten, however that came, its remedy is not done a second time; nobody knows
// is a decision of its own. For an alert that had ended, or that came later, it is done.
func TestRemedyOfForgottenAlert(t *testing.T) {
	for name, forget := range map[string]func(path string) error{
		"the state of alerts alone": func(string) error { return nil }, // StartsAt is another: that is all of it that is seen here
		"both states, damaged":      func(path string) error { return os.WriteFile(path, []byte("damage"), 0o600) },
		"both states, gone":         os.Remove,
		"both states, of another version": func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, []byte(strings.Replace(string(data), storeMagic+" 1", storeMagic+" 2", 1)), 0o600)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, runs := remedyConfig(t, RemediesOn)
			path := t.TempDir()
			f := newFixture(t, c, path).start()
			defer func() { f.stop() }()
			goes, gone := alert("Down"), alert("Down", "n", "gone")
			f.pass(time.Minute, goes, gone)
			f.n.Send([]Alert{ended(gone)})
			f.pass(time.Minute, goes)
			f.stop()
			if err := forget(filepath.Join(path, "notify", ".remedies.json")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			f.start()
			time.Sleep(time.Minute)
			goes.StartsAt, goes.Doubtful = time.Now(), true
			f.pass(10*time.Minute, goes)
			if got := audited(t, path); runs() != 2 || got != "run done run done unknown" {
				t.Errorf("%s: done %d times: %s", name, runs(), got)
			}
			f.restart() // and it stays so
			f.pass(10*time.Minute, goes)
			goes.Doubtful = false // its state was written after the first restart
			f.pass(10*time.Minute, goes)
			later := alert("Down", "n", "later")
			f.pass(time.Minute, goes, later)
			if got := audited(t, path); runs() != 3 || got != "run done run done unknown run done" {
				t.Errorf("%s, another alert: done %d times: %s", name, runs(), got)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // what was heard to end began anew, whoever forgets it
		c, runs := remedyConfig(t, RemediesOn)
		f := newFixture(t, c, t.TempDir()).start()
		defer func() { f.stop() }()
		a := alert("Down")
		f.pass(time.Minute, a)
		again := a
		again.StartsAt = time.Now()
		f.n.Send([]Alert{ended(a)}) // both before anybody looks
		f.n.Send([]Alert{again})
		f.pass(time.Minute, again)
		f.n.Send([]Alert{ended(again)})
		f.pass(time.Minute)
		f.restart()
		a.StartsAt, a.Doubtful = time.Now(), true
		f.pass(time.Minute, a)
		if runs() != 3 {
			t.Errorf("done %d times", runs())
		}
	})
}

// A reload goes on where the program of a remedy that did not change is gone, with a warning; one that is new, changed, or begins to be in force is refused.
func TestReloadWithoutProgram(t *testing.T) {
	c, _ := remedyConfig(t, RemediesOn)
	var text lockedBuffer
	n, err := New(Options{Config: c, Path: t.TempDir(), Log: slog.New(slog.NewTextHandler(&text, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := os.Remove(c.Remedies.Rules[0].Command[0]); err != nil {
		t.Fatal(err)
	}
	if err := n.Check(&c); err != nil || !strings.Contains(text.String(), "level=WARN msg=\"a remedy cannot be done as things are\" remedy=again") {
		t.Errorf("%v, %s", err, text.String())
	}
	for name, change := range map[string]func(r *Remedy){
		"another argument": func(r *Remedy) { r.Command = append(slices.Clone(r.Command), "x") }, "another name": func(r *Remedy) { r.Name = "other" },
		"another user": func(r *Remedy) { r.User = "root" }, "other alerts": func(r *Remedy) { r.Matchers = nil }, "another time": func(r *Remedy) { r.Timeout = time.Second },
	} {
		changed := c
		changed.Remedies.Rules = slices.Clone(c.Remedies.Rules)
		change(&changed.Remedies.Rules[0])
		if err := n.Check(&changed); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	off := c
	off.Remedies.Mode = RemediesOff
	n.Apply(off)
	if err := n.Check(&c); err == nil {
		t.Error("one that begins to be in force is not refused")
	}
}

// A command finds nothing open but its input and output, also not what the agent was started with; by the call of newer kernels and without it.
func TestRemedyDescriptors(t *testing.T) {
	name := aFile(t, "secret")
	open := func() int {
		fd, err := syscall.Open(name, syscall.O_RDONLY, 0) // inherited, as by a shell that starts the agent
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(fd) })
		return fd
	}
	link := func(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
	fd := open()
	if out, err := exec.Command("/usr/bin/readlink", link(fd)).Output(); err != nil || strings.TrimSpace(string(out)) != name {
		t.Fatalf("the test is wrong: a program does not inherit it: %s %v", out, err)
	}
	out, err := execution(t, Remedy{Command: []string{"/usr/bin/readlink", link(fd), "/proc/self/fd/2"}, Timeout: 10 * time.Second, AllowRoot: true}, alert("Down"))
	if !strings.HasPrefix(out, "pipe:") || strings.Count(out, "\n") != 1 {
		t.Errorf("%q %v", out, err)
	}
	fd = open()
	if err := closeEachOnExec(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/usr/bin/readlink", link(fd)).Output(); err == nil {
		t.Errorf("without close_range: %s", out)
	}
}

// A command that has ended keeps its number until it was waited for, so that what is killed by that number is nothing else.
func TestRemedyNumber(t *testing.T) {
	c := exec.Command("/bin/true")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	awaitEnd(c.Process.Pid)
	if !isZombie(c.Process.Pid) || syscall.Kill(-c.Process.Pid, syscall.SIGKILL) != nil {
		t.Error("it has not ended, or its number is free")
	}
	if err := c.Wait(); err != nil {
		t.Errorf("it was waited for by somebody else: %v", err)
	}
}

// execution runs one remedy, as it is, for an alert.
func execution(t *testing.T, r Remedy, a Alert) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), r.Timeout)
	defer cancel()
	return r.execute(ctx, &notification{ID: "id", Alerts: []item{{Alert: &a}}})
}

// A command has nothing of the agent's environment, and nothing that an alert says means anything to a shell or a program; standard input has it as it is.
func TestRemedyEnvironment(t *testing.T) {
	t.Setenv("AGENTS_OWN_SECRET", "x")
	a := alert("Down", "http_route", "/$(reboot)`id`;|&\n\"'\\*?[]{}~#%!<>=é x", "option", "--rf", "LD_PRELOAD", "/evil.so", "nul", "a\x00b")
	out, err := execution(t, Remedy{Command: []string{script(t, "env; cat")}, Timeout: 10 * time.Second, AllowRoot: true}, a)
	if err != nil {
		t.Fatal(err)
	}
	environment, input, _ := strings.Cut(out, "{")
	for line := range strings.Lines(environment) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case name == "PATH" && value == commandPath, name == "HOME", name == "LANG", name == "PWD", name == "_", name == "SHLVL", name == "OLDPWD":
		case strings.HasPrefix(name, "PERFAGENT_ALERT_") && harmless(value) == value:
		default:
			t.Errorf("%q", line)
		}
	}
	for _, want := range []string{"PERFAGENT_ALERT_LABEL_OPTION=_-rf\n", "PERFAGENT_ALERT_LABEL_LD_PRELOAD=/evil.so\n", "PERFAGENT_ALERT_NAME=Down\n", "PERFAGENT_ALERT_LABEL_HTTP_ROUTE=/__reboot__id_",
		"PERFAGENT_ALERT_STARTS_AT=" + a.StartsAt.UTC().Format(time.RFC3339) + "\n", "PERFAGENT_ALERT_LABEL_NUL=a_b\n"} {
		if !strings.Contains(environment, want) {
			t.Errorf("%q is not in\n%s", want, environment)
		}
	}
	var got webhookAlert
	if err := json.Unmarshal([]byte("{"+input), &got); err != nil || got.Labels["http_route"] != a.Labels["http_route"] || got.Status != "firing" {
		t.Errorf("%v %+v", err, got)
	}
}

// A command ends at its timeout with all that it has started, its output is bounded, and how it failed is told.
func TestRemedyBounds(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	began := time.Now()
	_, err := execution(t, Remedy{Command: []string{script(t, `sleep 1000 & echo $! >"$1"; wait`), pidFile}, Timeout: 500 * time.Millisecond, AllowRoot: true}, alert("Down"))
	if err == nil || !strings.Contains(err.Error(), "did not end in time") || time.Since(began) > 20*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for syscall.Kill(pid, 0) == nil && !isZombie(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("%d still runs", pid)
		}
		time.Sleep(time.Millisecond)
	}
	out, err := execution(t, Remedy{Command: []string{script(t, "head -c 1000000 /dev/zero | tr '\\0' x; exit 3")}, Timeout: 10 * time.Second, AllowRoot: true}, alert("Down"))
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || len(out) > outputBytesMax+len("…") || !strings.HasPrefix(out, "xxx") {
		t.Errorf("%v, %d bytes", err, len(out))
	}
	// One that leaves something behind with its output open has ended when it has.
	out, err = execution(t, Remedy{Command: []string{script(t, "echo ok; sleep 1000 &")}, Timeout: 20 * time.Second, AllowRoot: true}, alert("Down"))
	if err != nil || out != "ok\n" {
		t.Errorf("%v %q", err, out)
	}
}

func isZombie(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(status), ") Z")
}

// A command that others may change, that is none, or that would run as root without being said so, is refused; with a user it runs as him, with his groups alone.
func TestRemedyUser(t *testing.T) {
	open := script(t, "")
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	within := script(t, "")
	if err := os.Chmod(filepath.Dir(within), 0o777); err != nil {
		t.Fatal(err)
	}
	data := aFile(t, "no program")
	for name, want := range map[string]string{open: "may be written by anybody", within: "its directory may be written by all", data: "is no program", "/does/not/exist": "no such file"} {
		r := Remedy{Command: []string{name}, AllowRoot: true}
		if _, err := r.command(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&Remedy{Command: []string{"/bin/true"}, User: "nobody-at-all", AllowRoot: true}).command(); err == nil {
		t.Error("an unknown user")
	}
	if os.Geteuid() != 0 {
		if _, err := (&Remedy{Command: []string{"/bin/true"}, User: "root", AllowRoot: true}).command(); err == nil || !strings.Contains(err.Error(), "that needs root") {
			t.Errorf("without root, as root: %v", err)
		}
		return
	}
	for _, as := range []string{"", "root"} {
		if _, err := (&Remedy{Command: []string{"/bin/true"}, User: as}).command(); err == nil || !strings.Contains(err.Error(), "would run as root") {
			t.Errorf("as %q: %v", as, err)
		}
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	out, err := execution(t, Remedy{Command: []string{"/bin/sh", "-c", `id -u; id -G; grep -E "^Cap(Inh|Prm|Eff|Amb)" /proc/self/status`}, User: "nobody", Timeout: 10 * time.Second}, alert("Down"))
	want := nobody.Uid + "\n" + nobody.Gid + "\n"
	if err != nil || !strings.HasPrefix(out, want) || strings.Count(out, "0000000000000000\n") != 4 {
		t.Errorf("%v %q", err, out)
	}
}

// confinedVariable makes this program one that has capabilities and runs a remedy.
const confinedVariable = "PERFAGENT_TEST_CONFINED"

// confinedChild prints its own effective capabilities and those of its remedy.
func confinedChild() error {
	const show = "grep -E ^Cap(Eff|Prm|Inh|Amb) /proc/self/status"
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "CapEff:") {
			fmt.Print("own " + line)
		}
	}
	r := Remedy{Command: strings.Fields("/usr/bin/" + show)}
	out, err := r.execute(context.Background(), &notification{ID: "id", Alerts: []item{{Alert: &Alert{Labels: map[string]string{"alertname": "Down"}}}}})
	fmt.Print(out)
	return err
}

// An agent without root that has capabilities, as under systemd, gives none of them to a command.
func TestRemedyCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a process capabilities needs root")
	}
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "perfagent-test-") // the test's own directory is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "notify.test")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(name, program, 0o755)); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+net_raw", "--ambient-caps=+net_raw", name)
	c.Env, c.Dir = append(os.Environ(), confinedVariable+"=1"), "/"
	out, err := c.CombinedOutput()
	const none = "\t0000000000000000\n"
	if err != nil || string(out) != "own CapEff:\t0000000000002000\nCapInh:\t0000000000002000\nCapPrm:"+none+"CapEff:"+none+"CapAmb:"+none {
		t.Errorf("%v\n%s", err, out)
	}
}

// A remedy can be a webhook: one signed request, in one attempt, whatever the answer.
func TestRemedyWebhook(t *testing.T) {
	s, got := receiving(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	matcher, err := ParseMatcher("alertname=Down")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Remedies: RemedyConfig{Mode: RemediesOn, Rules: []Remedy{{Name: "again", Matchers: []Matcher{matcher}, Webhook: &Webhook{Endpoint{URL: s.URL}, aFile(t, "key")}}}}}
	path := t.TempDir()
	n, err := New(Options{Config: c, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { n.Run(ctx); close(ended) }()
	deadline := time.Now().Add(20 * time.Second)
	a := alert("Down")
	for n.Stats().Remedies.Failed == 0 && time.Now().Before(deadline) {
		n.Send([]Alert{a})
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	<-ended
	if audited(t, path) != "run failed" || len(got()) != 1 || got()[0].Header.Get(SignatureHeader) == "" || got()[0].Header.Get(IDHeader) == "" {
		t.Errorf("%s, %d requests", audited(t, path), len(got()))
	}
}

// The audit begins a new file at its bound, and keeps the one before it.
func TestAuditBound(t *testing.T) {
	a := audit{filepath.Join(t.TempDir(), "remedies.log")}
	if err := os.WriteFile(a.path, make([]byte, auditBytesMax), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.write(auditLine{Remedy: "again"}); err != nil {
		t.Fatal(err)
	}
	now, err := os.Stat(a.path)
	if err != nil || now.Size() > 1000 {
		t.Errorf("%v %v", now, err)
	}
	if before, err := os.Stat(a.path + ".1"); err != nil || before.Size() != auditBytesMax {
		t.Errorf("%v %v", before, err)
	}
}
