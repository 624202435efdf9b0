// Command perfagent shows every HTTP exchange of a Linux host, without a change to what it watches. Each command has
// its own file; pipeline.go reads like the picture in ARCHITECTURE.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitDegraded = 3 // check only
)

// usageError is a mistake in the command line or the environment.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// errDegraded ends check where something that a user would expect is not available; it was said already.
var errDegraded = errors.New("degraded")

func main() {
	os.Exit(execute(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// execute runs one command line and returns the exit code. An error is one line on stderr.
func execute(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	root, started := newRootCommand(environ)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errDegraded):
		return exitDegraded
	}
	// Before a command starts, cobra reports what it could not make of the command line.
	usage := usageError{}
	if !*started || errors.As(err, &usage) {
		fmt.Fprintf(stderr, "perfagent: %s (see %s --help)\n", oneLine(err), command.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(stderr, "perfagent: %s\n", oneLine(err))
	return exitError
}

// oneLine joins the lines of an error, and escapes control characters that come from a file or a name.
func oneLine(err error) string {
	return printable(strings.Join(strings.Fields(err.Error()), " "))
}

// newRootCommand returns all commands, and whether one of them has started, once they have run.
func newRootCommand(environ []string) (*cobra.Command, *bool) {
	started := false
	root := newRunCommand(environ)
	root.Use = "perfagent"
	root.Short = "Shows every HTTP exchange of this host: counted once, timed right"
	root.Long = "perfagent shows every HTTP exchange of this host: its count, status, duration\n" +
		"and phases, in Prometheus' formats and on the terminal. Without a command it\n" +
		"does what `perfagent run` does.\n\n" +
		"Each flag has a key of the same path in --config.file and an environment\n" +
		"variable such as PERFAGENT_CAPTURE_PORT. Flags win over the environment, which\n" +
		"wins over the file. Exit codes: 0 ok, 1 error, 2 usage, 3 degraded (check only)."
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), "Flags.FlagUsages ", "Flags.FlagUsagesWrapped 80 "))
	root.Version = versionLine()
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "print the version, the revision and the Go version")
	root.Args = nil // an unknown command is reported as such
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newRunCommand(environ), newDemoCommand(environ), newTraceCommand(environ), newTopCommand(environ), newCheckCommand(environ), newAnalyzeCommand(),
		newHistoryCommand(environ), newNotifyCommand(environ), newReportCommand(environ), newRulesCommand(environ), newCompletionCommand(), newManCommand(environ), newVersionCommand(environ))
	completeAll(root)
	return root, &started
}

// noArguments rejects words behind a command.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}

// addSettings adds the flags of the settings that a command takes, and returns the source that reads them together
// with the environment and the file.
func addSettings(flags *pflag.FlagSet, environ []string, command commands) *configSource {
	source := &configSource{flags: make(map[string][]string), environ: environ}
	flags.StringVar(&source.file, configFileFlag, "", "YAML `file` with the same settings")
	for _, s := range defaultConfig().settings() {
		if s.commands&command == 0 {
			continue
		}
		flag := flags.VarPF(&settingFlag{setting: s, source: source}, s.path, "", s.usage)
		if s.value.kind() == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
	return source
}

// settingFlag records a flag's texts, which load applies last. A bad one fails at once, as a usage error.
type settingFlag struct {
	setting setting
	source  *configSource
}

func (f *settingFlag) String() string { return f.setting.value.String() }
func (f *settingFlag) Type() string   { return f.setting.value.kind() }

// Set is called once for each time the flag is given.
func (f *settingFlag) Set(text string) error {
	texts := []string{text}
	if f.setting.value.isList() {
		texts = append(f.source.flags[f.setting.path], text)
	}
	if err := f.setting.value.set(texts); err != nil {
		return err
	}
	f.source.flags[f.setting.path] = texts
	return nil
}
