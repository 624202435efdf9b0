package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manDirectory is where `man` writes to unless told otherwise.
const manDirectory = "."

func newManCommand(environ []string) *cobra.Command {
	return &cobra.Command{
		Use:   "man [DIR]",
		Short: "Write the manual pages",
		Long: "man writes a manual page for each command into DIR, the present directory\n" +
			"unless given: perfagent.1, perfagent-run.1 and so on. They say what --help\n" +
			"says, and what each setting is called in the file and the environment. Their\n" +
			"date is SOURCE_DATE_EPOCH, else that of the revision that was built.",
		Example:           "  perfagent man /usr/local/share/man/man1\n  perfagent man /tmp/pages && man -l /tmp/pages/perfagent-top.1",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeDirectories,
		RunE: func(c *cobra.Command, args []string) error {
			directory := manDirectory
			if len(args) > 0 {
				directory = args[0]
			}
			date, err := manDate(environ)
			if err != nil {
				return usageError{err}
			}
			n, err := writeManual(c.Root(), directory, date)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d manual pages are in %s\n", n, printable(directory))
			return err
		},
	}
}

// manDate is what pages say of their age. The same sources give the same pages, so it is never the present time; "" where nothing tells.
func manDate(environ []string) (string, error) {
	if text := variable(environ, "SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return "", fmt.Errorf("environment variable SOURCE_DATE_EPOCH: %q is not a number of seconds", text)
		}
		return time.Unix(seconds, 0).UTC().Format(time.DateOnly), nil
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if at, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return at.UTC().Format(time.DateOnly), nil
			}
		}
	}
	return "", nil
}

// writeManual writes the pages of a command and those below it, and returns how many there are.
func writeManual(root *cobra.Command, directory, date string) (int, error) {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return 0, fmt.Errorf("make a place for manual pages: %w", err)
	}
	all := documented(root)
	for _, command := range all {
		name := filepath.Join(directory, manName(command)+".1")
		if err := os.WriteFile(name, []byte(manPage(command, date)), 0o644); err != nil {
			return 0, fmt.Errorf("write a manual page: %w", err)
		}
	}
	return len(all), nil
}

// documented are a command and those below it that have a page: all but hidden ones and `help`.
func documented(command *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{command}
	for _, child := range command.Commands() {
		if child.IsAvailableCommand() {
			all = append(all, documented(child)...)
		}
	}
	return all
}

// manName is the page's: perfagent-history-dump.
func manName(command *cobra.Command) string {
	return strings.ReplaceAll(command.CommandPath(), " ", "-")
}

// manPage is the page of a command in the macros of man(7).
func manPage(command *cobra.Command, date string) string {
	command.InitDefaultHelpFlag()
	t := new(troff)
	fmt.Fprintf(t, `.TH %s 1 "%s" "perfagent %s" "perfagent manual"`+"\n", roff(strings.ToUpper(manName(command))), date, roff(readBuild().Version))
	t.macro("nh") // a flag that is hyphenated is another
	t.macro("ad l")
	t.section("NAME")
	t.line(roff(manName(command)) + ` \- ` + roff(command.Short))
	t.section("SYNOPSIS")
	t.synopsis(command)
	t.section("DESCRIPTION")
	t.prose(manDescription(command))
	t.commands(command)
	t.options(command)
	if !command.HasParent() {
		t.configuration()
	}
	t.section("EXIT STATUS")
	t.exitStatus(command)
	t.files(command)
	if command.Example != "" {
		t.section("EXAMPLES")
		t.literal(command.Example)
	}
	t.seeAlso(command)
	return t.String()
}

func manDescription(command *cobra.Command) string {
	if command.Long == "" {
		return command.Short + "."
	}
	return command.Long
}

// troff is a page that is being written.
type troff struct{ strings.Builder }

// roff writes text so that it is shown as it is, whatever is in it.
func roff(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '"':
			b.WriteString(`\(dq`)
		case r > '~':
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func bold(text string) string   { return `\fB` + roff(text) + `\fR` }
func italic(text string) string { return `\fI` + roff(text) + `\fR` }

// macro writes a request, with its arguments.
func (t *troff) macro(request string) { t.WriteString("." + request + "\n") }

func (t *troff) section(name string) { t.macro("SH " + name) }

// troffColumns is how long a line of a source may be before mandoc complains.
const troffColumns = 80

// line writes text that is troff already, divided at blanks.
func (t *troff) line(text string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > troffColumns-len(`\&`) {
			t.asIs(line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	t.asIs(line)
}

// asIs writes a line; one that would be taken for a request is none.
func (t *troff) asIs(line string) {
	if strings.HasPrefix(line, ".") {
		line = `\&` + line
	}
	t.WriteString(line + "\n")
}

// tagged writes an entry of a list.
func (t *troff) tagged(tag, text string) {
	t.macro("TP")
	t.line(tag)
	t.line(text)
}

// prose writes paragraphs, which blank lines divide. Lines that are indented stay as they are, and what is in backquotes is bold.
func (t *troff) prose(text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			t.macro("PP")
		}
		if strings.HasPrefix(paragraph, "\t") {
			t.literal(paragraph)
			continue
		}
		for text := range strings.SplitSeq(paragraph, "\n") {
			t.line(marked(strings.TrimSpace(text)))
		}
	}
}

// marked makes bold what is in backquotes.
func marked(text string) string {
	parts := strings.Split(text, "`")
	if len(parts)%2 == 0 {
		return roff(text)
	}
	for i := range parts {
		if i%2 == 1 {
			parts[i] = bold(parts[i])
			continue
		}
		parts[i] = roff(parts[i])
	}
	return strings.Join(parts, "")
}

// literal writes lines as they are, without the blanks that all of them begin with.
func (t *troff) literal(text string) {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	indented := len(text)
	for _, l := range lines {
		if l != "" {
			indented = min(indented, len(l)-len(strings.TrimLeft(l, " \t")))
		}
	}
	t.macro("RS 4")
	t.macro("EX")
	for _, l := range lines {
		t.asIs(roff(l[min(indented, len(l)):]))
	}
	t.macro("EE")
	t.macro("RE")
}

// synopsis writes the command with its arguments, the name in bold.
func (t *troff) synopsis(command *cobra.Command) {
	path := command.CommandPath()
	rest, hasFlags := strings.CutSuffix(strings.TrimPrefix(command.UseLine(), path), "[flags]")
	text := bold(path)
	if rest = strings.TrimSpace(rest); rest != "" {
		text += " " + roff(rest)
	}
	if hasFlags {
		text += " [" + italic("options") + "]"
	}
	t.line(text)
	if command.HasAvailableSubCommands() {
		t.macro("br")
		t.line(bold(path) + " " + italic("command") + " [" + italic("options") + "]")
	}
}

// commands lists those below.
func (t *troff) commands(command *cobra.Command) {
	if !command.HasAvailableSubCommands() {
		return
	}
	t.section("COMMANDS")
	for _, child := range command.Commands() {
		if child.IsAvailableCommand() {
			t.tagged(`\fB`+roff(manName(child))+`\fR(1)`, roff(child.Short)+".")
		}
	}
}

// options lists the flags. Those of the root are those of run, which has a page of its own, and the version.
func (t *troff) options(command *cobra.Command) {
	t.section("OPTIONS")
	if !command.HasParent() {
		t.line("Without a command, those of " + `\fBperfagent\-run\fR(1)` + ", and:")
	}
	command.Flags().VisitAll(func(flag *pflag.Flag) {
		if _, isSetting := flag.Value.(*settingFlag); flag.Hidden || !command.HasParent() && (isSetting || flag.Name == configFileFlag) {
			return
		}
		name, text := pflag.UnquoteUsage(flag)
		tag := bold("--" + flag.Name)
		if flag.Shorthand != "" {
			tag = bold("-"+flag.Shorthand) + ", " + tag
		}
		if name != "" && flag.NoOptDefVal == "" {
			tag += " " + italic(name)
		}
		if text = roff(text); hasDefault(flag) {
			text += "; by default " + bold(flag.DefValue)
		}
		t.tagged(tag, text+".")
	})
}

// hasDefault tells whether a flag has a value that is not nothing.
func hasDefault(flag *pflag.Flag) bool {
	return !slices.Contains([]string{"", "false", "0", "0s", "[]"}, flag.DefValue)
}

// configuration lists every key, once for all commands.
func (t *troff) configuration() {
	t.section("CONFIGURATION")
	t.prose("A setting is a flag, a key of the same path in the YAML file that --config.file (or PERFAGENT_CONFIG_FILE) names, and a variable of " +
		"the environment. Flags win over the environment, which wins over the file. An unknown key, a bad value, and a variable PERFAGENT_... that is no setting stop the " +
		"start. SIGHUP, and POST /-/reload where --web.enable-lifecycle allows it, read the file again: what is marked by (reload) is taken over, the others are at the next start.")
	t.macro("PP")
	t.literal(configurationExample)
	t.macro("PP")
	t.line("The keys, with their variables and the commands that take them:")
	for _, s := range defaultConfig().settings() {
		taken := []string{}
		for i, name := range commandNames {
			if s.commands&(1<<i) != 0 {
				taken = append(taken, name)
			}
		}
		tag := bold(s.path)
		if s.live {
			tag += " (reload)"
		}
		t.tagged(tag, roff(variableName(s.path))+`: `+roff(strings.Join(taken, ", "))+".")
	}
}

// configurationExample shows what has a structure of its own; a test reads it.
const configurationExample = `capture:
  port: [8080, 8443]
storage: {path: /var/lib/perfagent, retention: 15d}
alerts:
  thresholds: {response-time-ms: 1000, error-rate-percent: 5}
objectives:
  - {service: shop, route: "GET /orders/{id}",
     availability-percent: 99.9,
     latency-ms: 300, latency-percent: 99}
notify:
  receivers:
    - {name: chat, slack: {url-file: /run/secrets/slack}}
  urgent: [chat]
`

func (t *troff) exitStatus(command *cobra.Command) {
	t.tagged(bold("0"), "It did what was asked for.")
	t.tagged(bold("1"), "It failed; standard error has one line that says why.")
	t.tagged(bold("2"), "The command line, or a variable of the environment, is wrong.")
	if command.Name() == "check" || !command.HasParent() {
		t.tagged(bold("3"), `\fBperfagent check\fR only: something that a user would expect is not available.`)
	}
}

// files lists what the command's settings name by default.
func (t *troff) files(command *cobra.Command) {
	known := []struct{ flag, path, text string }{
		{"web.socket", socketDefault, "The agent's Unix socket (--web.socket), for its owner and its group."},
		{"storage.path", "/var/lib/perfagent", "The local history of an agent that systemd started (--storage.path)."},
		{"ready-file", "/etc/default/perfagent", "Variables of the environment for the agent that systemd starts."},
	}
	begun := false
	for _, f := range known {
		if command.Flags().Lookup(f.flag) == nil {
			continue
		}
		if !begun {
			t.section("FILES")
			begun = true
		}
		t.tagged(italic(f.path), roff(f.text))
	}
}

// seeAlso names the pages above, beside and below.
func (t *troff) seeAlso(command *cobra.Command) {
	var names []string
	if parent := command.Parent(); parent != nil {
		names = append(names, manName(parent))
		for _, sibling := range parent.Commands() {
			if sibling.IsAvailableCommand() && sibling != command {
				names = append(names, manName(sibling))
			}
		}
	}
	for _, child := range command.Commands() {
		if child.IsAvailableCommand() {
			names = append(names, manName(child))
		}
	}
	t.section("SEE ALSO")
	for i, name := range names {
		end := ","
		if i == len(names)-1 {
			end = ""
		}
		t.line(bold(name) + "(1)" + end)
	}
}
