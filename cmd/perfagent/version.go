package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// buildVersion may be set by the linker (-X main.buildVersion=1.2.3); otherwise the module's version counts.
var buildVersion string

// build describes this program: perfagent_build_info and `version` show it.
type build struct{ Version, Revision, GoVersion string }

// readBuild returns what the compiler recorded. Revision ends in "-dirty" where the sources differed from it, and is
// "unknown" where the program was built without version control.
func readBuild() build {
	b := build{Version: buildVersion, Revision: "unknown", GoVersion: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if b.Revision != "unknown" {
		b.Revision += dirty
	}
	return b
}

func newVersionCommand(environ []string) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the revision and the Go version",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := (&configSource{environ: environ}).checkVariables(); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

// versionLine is what `version` and --version print.
func versionLine() string {
	b := readBuild()
	return fmt.Sprintf("perfagent %s (revision %s, %s, %s/%s)", b.Version, b.Revision, b.GoVersion, runtime.GOOS, runtime.GOARCH)
}
