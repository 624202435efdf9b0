package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// shells are those that completion is written for.
var shells = []string{"bash", "zsh", "fish"}

func newCompletionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the script by which a shell completes commands and flags",
		Long: "completion prints a script for a shell, which then completes commands, flags,\n" +
			"and their values where they are few. For the present shell:\n\n" +
			"\tsource <(perfagent completion bash)\n" +
			"\tsource <(perfagent completion zsh)\n" +
			"\tperfagent completion fish | source\n\n" +
			"For each new one, as root: bash looks into /etc/bash_completion.d or\n" +
			"/usr/share/bash-completion/completions, zsh for a file _perfagent in a\n" +
			"directory of $fpath, fish into /etc/fish/completions.",
		Example: "  perfagent completion bash > /etc/bash_completion.d/perfagent\n" +
			"  perfagent completion zsh > \"${fpath[1]}/_perfagent\"\n" +
			"  perfagent completion fish > ~/.config/fish/completions/perfagent.fish",
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return usageError{fmt.Errorf("completion needs one of %s", strings.Join(shells, ", "))}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return writeCompletion(c.Root(), args[0], c.OutOrStdout())
		},
	}
}

func writeCompletion(root *cobra.Command, shell string, w io.Writer) error {
	switch shell {
	case "zsh":
		return root.GenZshCompletion(w)
	case "fish":
		return root.GenFishCompletion(w, true)
	}
	if err := root.GenBashCompletionV2(w, true); err != nil {
		return err
	}
	_, err := io.WriteString(w, bashAlone)
	return err
}

// bashAlone does what cobra's script takes from the package bash-completion, where that is not loaded: the words of the line up to
// the cursor, whole where readline divides them (at = and :), and names of directories.
const bashAlone = `
__perfagent_init_completion()
{
    COMPREPLY=()
    if declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local line=${COMP_LINE:0:$COMP_POINT}
    read -r -a words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=${words[cword > 0 ? cword - 1 : 0]}
}

declare -F _filedir >/dev/null 2>&1 || _filedir()
{
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "${1:--f}" -- "$cur")
}
`

// completeAll lets shells complete the values of every flag and argument of a command and those below it: what was registered for a
// flag of its own, else what its setting or its name in the help tells. Where nothing is known, no file is offered.
func completeAll(command *cobra.Command) {
	if command.ValidArgsFunction == nil && command.ValidArgs == nil {
		command.ValidArgsFunction = cobra.NoFileCompletions
	}
	command.Flags().VisitAll(func(flag *pflag.Flag) {
		if complete := completionOf(flag); complete != nil {
			_ = command.RegisterFlagCompletionFunc(flag.Name, complete) // it has one of its own
		}
	})
	for _, child := range command.Commands() {
		completeAll(child)
	}
}

// completionOf is what a flag takes, nil for the name of any file.
func completionOf(flag *pflag.Flag) cobra.CompletionFunc {
	if s, ok := flag.Value.(*settingFlag); ok {
		if words := s.setting.value.choices(); words != nil {
			return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
		}
		switch s.setting.path {
		case "capture.cgroup":
			return completeDirectories
		case "capture.pid":
			return completeProcesses
		case "capture.executable", "web.socket":
			return nil
		}
	}
	switch name, _ := pflag.UnquoteUsage(flag); {
	case name == "file":
		return nil
	case name == "directory":
		return completeDirectories
	case flag.NoOptDefVal == "true":
		return cobra.FixedCompletions([]string{"true", "false"}, cobra.ShellCompDirectiveNoFileComp)
	}
	return cobra.NoFileCompletions
}

// completeWords lets shells complete a flag that takes few words.
func completeWords(command *cobra.Command, flag string, words ...string) {
	if err := command.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag
	}
}

// completeLists lets shells complete a flag that takes words with commas between them.
func completeLists(command *cobra.Command, flag string, words ...string) {
	complete := func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		before := begun[:strings.LastIndexByte(begun, ',')+1]
		all := make([]string, len(words))
		for i, word := range words {
			all[i] = before + word
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
	if err := command.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // there is no such flag
	}
}

func completeDirectories(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeProcesses offers the processes of this host, with their names.
func completeProcesses(_ *cobra.Command, _ []string, begun string) (all []string, _ cobra.ShellCompDirective) {
	entries, _ := os.ReadDir("/proc") // without it nothing is offered
	for _, entry := range entries {
		pid := entry.Name()
		if _, err := strconv.ParseUint(pid, 10, 31); err != nil || !strings.HasPrefix(pid, begun) {
			continue
		}
		if line, err := os.ReadFile("/proc/" + pid + "/cmdline"); err != nil || len(line) == 0 {
			continue // of the kernel's own
		}
		if name, err := os.ReadFile("/proc/" + pid + "/comm"); err == nil {
			all = append(all, pid+"\t"+printable(strings.TrimSpace(string(name))))
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}
