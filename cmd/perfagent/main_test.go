package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// program is the built command, for tests of what only a process shows.
var program string

func TestMain(m *testing.M) {
	if os.Getenv(hangupVariable) != "" {
		waitForHangups()
		return
	}
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	directory, err := os.MkdirTemp("", "perfagent-test-*")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(directory)
	program = filepath.Join(directory, "perfagent")
	if output, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the command: %w\n%s", err, output)
	}
	return m.Run(), nil
}

// runProgram runs the command to its end.
func runProgram(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), program, args...)
	isSetting := func(v string) bool { return strings.HasPrefix(v, environmentPrefix) }
	command.Env = append(slices.DeleteFunc(os.Environ(), isSetting), environ...)
	var out, errs strings.Builder
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), out.String(), errs.String()
}

// Shows the exit code and the one line of each mistake, from a process.
func TestExitCodes(t *testing.T) {
	badFile := writeFile(t, "bad.yml", "capture:\n  prot: 80\n")
	for _, c := range []struct {
		name    string
		environ []string
		args    []string
		code    int
		want    string
	}{
		{"unknown command", nil, []string{"observe"}, exitUsage, `unknown command "observe"`},
		{"unknown flag", nil, []string{"run", "--capture.prot=80"}, exitUsage, "unknown flag: --capture.prot"},
		{"flag of another command", nil, []string{"check", "--web.listen-address=:1"}, exitUsage, "unknown flag: --web.listen-address"},
		{"flag of a later feature", nil, []string{"--report.path=/x"}, exitUsage, "unknown flag: --report.path"},
		{"bad flag", nil, []string{"--capture.head-bytes=1"}, exitUsage, "between 64 and 4096"},
		{"word behind a command", nil, []string{"run", "x"}, exitUsage, `unexpected argument "x"`},
		{"bad variable", []string{"PERFAGENT_LOG_LEVEL=loud"}, []string{"run"}, exitUsage, "PERFAGENT_LOG_LEVEL"},
		{"misspelled variable", []string{"PERFAGENT_LOG_LEVLE=info"}, []string{"check"}, exitUsage, "environment variable PERFAGENT_LOG_LEVLE is no setting; did you mean PERFAGENT_LOG_LEVEL?"},
		{"no such process", nil, []string{"run", "--capture.pid=2147483647"}, exitUsage, "--capture.pid: there is no process 2147483647"},
		{"no such control group", nil, []string{"run", "--capture.cgroup=/nope"}, exitUsage, "--capture.cgroup: there is no control group /nope"},
		{"no such control group to check", []string{"PERFAGENT_CAPTURE_CGROUP=/sys/fs/cgroup/nope"}, []string{"check"}, exitUsage, "there is no control group /sys/fs/cgroup/nope"},
		{"no such process to trace", nil, []string{"trace", "--capture.pid=2147483647"}, exitUsage, "there is no process 2147483647"},
		{"misspelled variable of version", []string{"PERFAGENT_LOG_LEVLE=info"}, []string{"version"}, exitUsage, "environment variable PERFAGENT_LOG_LEVLE is no setting; did you mean PERFAGENT_LOG_LEVEL?"},
		{"no such process to check", []string{"PERFAGENT_CAPTURE_PID=2147483647"}, []string{"check"}, exitUsage, "there is no process 2147483647"},
		{"little memory", nil, []string{"--limits.memory=1MiB"}, exitUsage, "too little: at least 32MiB"},
		{"bad filter", nil, []string{"trace", "--status=abc"}, exitUsage, "--status"},
		{"negative limit", nil, []string{"trace", "--limit=-1"}, exitUsage, "--limit"},
		{"bad output", nil, []string{"check", "-o", "xml"}, exitUsage, `"xml" is not one of text, json`},
		{"bad file", nil, []string{"--config.file", badFile}, exitError, badFile + ":2: unknown key capture.prot"},
		{"bad file of a variable", []string{"PERFAGENT_CONFIG_FILE=" + badFile}, []string{"run"}, exitError, ":2: unknown key"},
		{"missing file", nil, []string{"--config.file=/nowhere/x"}, exitError, "/nowhere/x: no such file or directory: create it"},
		{"directory", nil, []string{"--config.file=/tmp"}, exitError, "is a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := runProgram(t, c.environ, c.args...)
			if code != c.code || !strings.HasPrefix(stderr, "perfagent: ") || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
				t.Errorf("exit code %d, want %d; %q in %q; output %q", code, c.code, c.want, stderr, stdout)
			}
		})
	}
}

// Shows what the commands print that need nothing of the host.
func TestOutputs(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"version"}, "perfagent "},
		{[]string{"--version"}, "perfagent "},
		{[]string{"help"}, "Available Commands:"},
		{[]string{"run", "--help"}, "--limits.memory size"},
		{[]string{"history", "dump", "--help"}, "--storage.path directory"},
		{[]string{"completion", "bash"}, "bash completion V2 for perfagent"},
	} {
		code, stdout, stderr := runProgram(t, nil, c.args...)
		if code != exitOK || !strings.Contains(stdout, c.want) || stderr != "" {
			t.Errorf("%v: exit code %d, errors %q, output %q", c.args, code, stderr, stdout)
		}
		if !slices.Contains(c.args, "completion") {
			for line := range strings.Lines(stdout) {
				if len(line) > 81 {
					t.Errorf("%v: line of %d characters: %s", c.args, len(line)-1, line)
				}
			}
		}
	}
}

// Shows that check on this host is valid JSON, and that its exit code is what it says.
func TestCheckOfThisHost(t *testing.T) {
	code, stdout, stderr := runProgram(t, nil, "check", "-o", "json")
	var report checkReport
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	if want := map[bool]int{true: exitDegraded}[report.Degraded]; code != want || report.Kernel.Release == "" {
		t.Errorf("exit code %d, want %d; kernel %+v", code, want, report.Kernel)
	}
}
