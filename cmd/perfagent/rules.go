package main

import (
	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/alert"
)

// newRulesCommand is how `make generate-rules` makes deploy/prometheus/perfagent-alerts.yml. With a configuration it prints the rules for
// that one's thresholds.
func newRulesCommand(environ []string) *cobra.Command {
	command := &cobra.Command{
		Use:    "rules",
		Short:  "Print the built-in rules for a Prometheus server that scrapes agents",
		Args:   noArguments,
		Hidden: true,
	}
	source := addSettings(command.Flags(), environ, forRun)
	command.RunE = func(c *cobra.Command, _ []string) error {
		config, err := source.load()
		if err != nil {
			return err
		}
		builtin := alert.Builtin{Thresholds: config.Alerts.Thresholds.value}
		return builtin.WriteServerRules(c.OutOrStdout())
	}
	return command
}
