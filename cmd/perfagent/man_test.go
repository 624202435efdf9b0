package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// manual writes the pages as a process does, and returns their directory.
func manual(t *testing.T) string {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "man1")
	if code, stdout, stderr := runProgram(t, []string{"SOURCE_DATE_EPOCH=1600000000"}, "man", directory); code != exitOK || !strings.HasSuffix(stdout, "manual pages are in "+directory+"\n") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	return directory
}

func pageOf(t *testing.T, directory, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(directory, name+".1"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// roffEscapes are all that pages have.
var roffEscapes = regexp.MustCompile(`\\(e|-|&|f[BIR]|\((aq|ga|ha|ti|dq)|\[u[0-9A-F]{4,6}\])`)

// shown is what a line of troff looks like.
func shown(line string) string {
	return roffEscapes.ReplaceAllStringFunc(line, func(escape string) string {
		return map[string]string{`\e`: `\`, `\-`: "-", `\(aq`: "'", `\(ga`: "`", `\(ha`: "^", `\(ti`: "~", `\(dq`: `"`}[escape]
	})
}

// tagsOf are the entries of a page's lists, as they are shown.
func tagsOf(page string) (tags []string) {
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		if line == ".TP" {
			tags = append(tags, shown(lines[i+1]))
		}
	}
	return tags
}

// Shows that every command has a page, every flag an entry on it with its argument, and every key of the configuration one of its own,
// and that there is no page besides.
func TestManualIsComplete(t *testing.T) {
	directory := manual(t)
	root, _ := newRootCommand(nil)
	var names []string
	for _, command := range documented(root) {
		names = append(names, manName(command)+".1")
		tags := tagsOf(pageOf(t, directory, manName(command)))
		if command == root {
			tags = append(tags, tagsOf(pageOf(t, directory, "perfagent-run"))...) // whose options the root has
		}
		command.Flags().VisitAll(func(flag *pflag.Flag) {
			want := "--" + flag.Name
			if name, _ := pflag.UnquoteUsage(flag); name != "" && flag.NoOptDefVal == "" {
				want += " " + name
			}
			if flag.Shorthand != "" {
				want = "-" + flag.Shorthand + ", " + want
			}
			if !slices.Contains(tags, want) {
				t.Errorf("%s has no entry %q", manName(command), want)
			}
		})
	}
	keys := tagsOf(pageOf(t, directory, "perfagent"))
	for _, s := range defaultConfig().settings() {
		if !slices.Contains(keys, s.path) && !slices.Contains(keys, s.path+" (reload)") {
			t.Errorf("no entry of the key %s", s.path)
		}
	}
	files, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.Contains(names, file.Name()) {
			t.Errorf("%s is the page of no command", file.Name())
		}
	}
	if len(files) != len(names) || len(names) < 20 {
		t.Errorf("%d pages, %d commands", len(files), len(names))
	}
}

// Shows that pages are sound without a formatter: known macros, in pairs where they are pairs, known escapes, an entry below each tag.
func TestManualIsSound(t *testing.T) {
	directory := manual(t)
	files, err := filepath.Glob(filepath.Join(directory, "*.1"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		page := pageOf(t, directory, strings.TrimSuffix(name, ".1"))
		for _, problem := range unsound(page) {
			t.Errorf("%s: %s", name, problem)
		}
		for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"} {
			if strings.Count(page, "\n.SH "+section+"\n") != 1 {
				t.Errorf("%s has no section %s", name, section)
			}
		}
	}
	for _, broken := range []string{"no macro\n.XX\n", "a\\x\n", "\n", ".EX\n", ".TP\n.PP\nx\n", "x \n", strings.Repeat("long ", 17) + "\n"} {
		if len(unsound(".TH X 1 \"2026-01-01\" \"\" \"\"\n"+broken)) == 0 {
			t.Errorf("%q passes for sound", broken)
		}
	}
}

// unsound says what of a page a formatter would complain of.
func unsound(page string) (problems []string) {
	lines := strings.Split(strings.TrimSuffix(page, "\n"), "\n")
	if !regexp.MustCompile(`^\.TH [A-Z\\-]+ 1 "\d{4}-\d\d-\d\d" `).MatchString(lines[0]) {
		problems = append(problems, "no title: "+lines[0])
	}
	literal, indented, wanted := false, 0, 0 // wanted: lines of text that must come
	for _, line := range lines[1:] {
		request := strings.HasPrefix(line, ".")
		switch name, _, _ := strings.Cut(line, " "); {
		case line == "" && !literal, strings.HasSuffix(line, " "), strings.HasPrefix(line, "'"), len(line) > troffColumns && !literal:
			problems = append(problems, "bad line: "+line)
		case strings.Contains(roffEscapes.ReplaceAllString(line, ""), `\`), strings.ContainsFunc(line, func(r rune) bool { return r >= 0x7f || r < ' ' && r != '\t' }):
			problems = append(problems, "bad characters: "+line)
		case request && !slices.Contains([]string{".SH", ".PP", ".TP", ".RS", ".RE", ".EX", ".EE", ".br", ".nh", ".ad"}, name):
			problems = append(problems, "unknown macro: "+line)
		case request && wanted > 0:
			problems = append(problems, "no text before: "+line)
		case name == ".TP":
			wanted = 3
		case name == ".EX", name == ".EE":
			literal = name == ".EX"
		case name == ".RS":
			indented++
		case name == ".RE":
			indented--
		}
		wanted = max(wanted-1, 0)
	}
	if literal || indented != 0 || wanted > 0 {
		problems = append(problems, "something is not ended")
	}
	return problems
}

// Shows that the formatters that people have find nothing to complain of.
func TestManualForFormatters(t *testing.T) {
	directory := manual(t)
	files, err := filepath.Glob(filepath.Join(directory, "*.1"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, formatter := range [][]string{{"groff", "-man", "-Tutf8", "-ww", "-rLL=80n"}, {"mandoc", "-Tlint", "-Wstyle"}} {
		t.Run(formatter[0], func(t *testing.T) {
			if _, err := exec.LookPath(formatter[0]); err != nil {
				t.Skipf("%s is not installed", formatter[0])
			}
			command := exec.CommandContext(t.Context(), formatter[0], append(formatter[1:], files...)...)
			var out, errs strings.Builder
			command.Stdout, command.Stderr = &out, &errs
			if err := command.Run(); err != nil || errs.Len() > 0 || formatter[0] == "mandoc" && out.Len() > 0 {
				t.Errorf("%v: %s%s", err, errs.String(), out.String()[:min(out.Len(), 2000)])
			}
		})
	}
}

// Shows that pages are the same whenever they are written, with the date that a packager gives, and that a bad one is refused.
func TestManualIsReproducible(t *testing.T) {
	a, b := manual(t), manual(t)
	if one, two := pageOf(t, a, "perfagent-top"), pageOf(t, b, "perfagent-top"); one != two || !strings.Contains(one, ` 1 "2020-09-13" `) {
		t.Errorf("%.80s\n%.80s", one, two)
	}
	if code, _, stderr := runProgram(t, []string{"SOURCE_DATE_EPOCH=now"}, "man", t.TempDir()); code != exitUsage || !strings.Contains(stderr, "SOURCE_DATE_EPOCH") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if code, _, stderr := runProgram(t, nil, "man", "/dev/null/x"); code != exitError || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// Shows that the configuration that the page gives as an example is one.
func TestManualExample(t *testing.T) {
	source := &configSource{file: writeFile(t, "example.yml", configurationExample)}
	config, err := source.load()
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Capture.Ports) != 2 || len(config.Alerts.Objectives.value) != 1 || config.Storage.Path != "/var/lib/perfagent" {
		t.Errorf("%+v", config)
	}
}

// Shows that text is shown as it is, whatever troff would make of it.
func TestRoff(t *testing.T) {
	const text = "a\\fB 'x' `y` -o ~^ \"q\""
	if got := shown(roff(text)); got != text || strings.ContainsAny(roff(text), "'`^~\"") {
		t.Errorf("%q: %q", roff(text), got)
	}
	if got := roff("é—"); got != `\[u00E9]\[u2014]` {
		t.Error(got)
	}
	var b troff
	b.prose(".PP is no request\n\n\t'nor here")
	if got := b.String(); got != "\\&.PP is no request\n.PP\n.RS 4\n.EX\n\\(aqnor here\n.EE\n.RE\n" {
		t.Errorf("%q", got)
	}
}
