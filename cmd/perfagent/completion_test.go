package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// completions asks as the scripts do, and returns the words and the directive.
func completions(args ...string) (words []string, directive string) {
	var out, errs bytes.Buffer
	execute(context.Background(), append([]string{cobra.ShellCompNoDescRequestCmd}, args...), nil, &out, &errs)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return lines[:len(lines)-1], lines[len(lines)-1]
}

// fileCompletion, nothing and directories are what a shell does besides the words: ShellCompDirectiveDefault, NoFileComp, FilterDirs.
const fileCompletion, nothing, directories = ":0", ":4", ":16"

// Shows what is completed: commands, flags, the words of flags that take few, files and directories where those are meant, and no
// files elsewhere.
func TestCompletion(t *testing.T) {
	for _, c := range []struct {
		args      string // "_" is an empty word
		want      string
		directive string
	}{
		{"to", "top", nothing}, {"history _", "dump", nothing}, {"top _", "", nothing}, {"completion _", "bash zsh fish", nothing}, {"man _", "", directories},
		{"trace --out", "--output", nothing}, {"run --log.level _", "debug info warn error", nothing}, {"run --log.level=_", "debug info warn error", nothing},
		{"run --log.level d", "debug", nothing}, {"--capture.backend _", "auto tracepoint fentry kprobe syscall", nothing},
		{"run --log.format _", "logfmt json", nothing}, {"run --event-log.kind _", "exchange alert finding", nothing}, {"trace -o _", "text json", nothing},
		{"trace --status 404,ab", "404,aborted", nothing}, {"report --format _", "html markdown json", nothing}, {"report --range w", "weekly", nothing},
		{"history dump --format _", "openmetrics csv json", nothing}, {"history dump --step _", "10s 1m 1h", nothing}, {"analyze anomalies -o _", "scores text json", nothing},
		{"top --window _", "1m 5m 15m 60m", nothing}, {"top --view p", "problems", nothing}, {"run --web.enable-lifecycle=_", "true false", nothing},
		{"run --config.file _", "", fileCompletion}, {"run --capture.executable _", "", fileCompletion}, {"top --web.ca-file _", "", fileCompletion},
		{"report -o _", "", fileCompletion}, {"run --storage.path _", "", directories}, {"check --capture.cgroup _", "", directories},
		{"trace --slower _", "", nothing}, {"run --storage.retention _", "", nothing}, {"run --objectives _", "", nothing}, {"run --capture.port _", "", nothing},
	} {
		args := strings.Fields(c.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "_", "")
		}
		words, directive := completions(args...)
		last := args[len(args)-1]
		if name, value, ok := strings.Cut(last, "="); ok && strings.HasPrefix(name, "--") {
			last = value
		}
		words = slices.DeleteFunc(words, func(word string) bool { return !strings.HasPrefix(word, last) }) // as the scripts do
		if strings.Join(words, " ") != c.want || directive != c.directive {
			t.Errorf("%s: %q %s, not %q %s", c.args, words, directive, c.want, c.directive)
		}
	}
	own := fmt.Sprint(os.Getpid())
	if words, _ := completions("run", "--capture.pid", own[:len(own)-1]); !slices.Contains(words, own) {
		t.Errorf("no %s among %q", own, words)
	}
}

// Shows that every flag whose default is a word has its words completed, that all of them are taken by the flag, and that the default is one.
func TestCompletionOfWords(t *testing.T) {
	root, _ := newRootCommand(nil)
	word, seen := regexp.MustCompile(`^[a-z]+$`), 0
	for _, command := range documented(root) {
		command.Flags().VisitAll(func(flag *pflag.Flag) {
			if !word.MatchString(flag.DefValue) || flag.NoOptDefVal != "" || flag.Name == "export.redis-prefix" { // any word is one
				return
			}
			seen++
			words, directive := completions(append(strings.Fields(command.CommandPath())[1:], "--"+flag.Name, "")...)
			if !slices.Contains(words, flag.DefValue) || directive != nothing {
				t.Errorf("%s --%s: %q %s", command.CommandPath(), flag.Name, words, directive)
			}
			for _, word := range words {
				if err := flag.Value.Set(word); err != nil {
					t.Errorf("%s --%s=%s: %v", command.CommandPath(), flag.Name, word, err)
				}
			}
		})
	}
	if seen < 20 {
		t.Errorf("%d flags with words", seen)
	}
}

// Shows completion in bash, without and with the package bash-completion, of what readline hands over: words, divided at = as well. File
// names are readline's own. Real keys in real shells are in test/tui.
func TestCompletionInBash(t *testing.T) {
	const script = `source <(perfagent completion bash)
complete -p perfagent >/dev/null || exit
while read -r LINE; do
	LINE=${LINE//_/ }
	COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9 COMPREPLY=()
	read -r -a COMP_WORDS <<<"${LINE//=/ = }"
	[[ $LINE == *" " ]] && COMP_WORDS+=('')
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	__start_perfagent 2>/dev/null
	echo "${COMPREPLY[*]}"
done`
	lines := []string{"perfagent_tra", "perfagent_--log.level=d", "perfagent_run_--log.level_w", "perfagent_run_--capture.backend_f", "perfagent_trace_--status_5xx,ab",
		"perfagent_run_--storage.path_", "perfagent_history_dump_--format_c", "perfagent_trace_--slower_", "perfagent_completion_z", "perfagent_run_--config.file_fi"}
	want := []string{"trace", "debug", "warn", "fentry", `5xx\,aborted`, "place", "csv", "", "zsh", ""}
	for name, before := range map[string]string{"alone": "", "package": "shopt -s extglob progcomp; source /usr/share/bash-completion/bash_completion\n"} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); before != "" && err != nil {
				t.Skip("bash-completion is not installed")
			}
			t.Chdir(t.TempDir())
			if err := errors.Join(os.Mkdir("place", 0o755), os.WriteFile("file.yml", nil, 0o644)); err != nil {
				t.Fatal(err)
			}
			command := exec.CommandContext(t.Context(), "bash", "--norc", "--noprofile", "-c", before+script)
			command.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
			command.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
			out, err := command.CombinedOutput()
			got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
			for i := range got {
				got[i], _, _ = strings.Cut(strings.TrimSpace(got[i]), " ")
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%v: %q, not %q", err, got, want)
			}
		})
	}
}
