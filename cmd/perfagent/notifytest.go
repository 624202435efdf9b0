package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/notify"
)

func newNotifyCommand(environ []string) *cobra.Command {
	command := &cobra.Command{
		Use:   "notify",
		Short: "Work with the receivers of alerts",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	command.AddCommand(newNotifyTestCommand(environ))
	return command
}

func newNotifyTestCommand(environ []string) *cobra.Command {
	var only []string
	command := &cobra.Command{
		Use:   "test",
		Short: "Send a test alert to each receiver",
		Long: "Sends an alert PerfagentTest that fires, and its end, to each receiver of the\n" +
			"configuration, and prints for each whether it took both. Exit codes: 0 all did,\n" +
			"1 one did not, 2 usage.",
		Example: "  perfagent notify test --config.file /etc/perfagent.yml --receiver pager",
		Args:    noArguments,
	}
	source := addSettings(command.Flags(), environ, forNotify)
	command.Flags().StringArrayVar(&only, "receiver", nil, "only the receiver of this `name`; repeatable")
	command.RunE = func(c *cobra.Command, _ []string) error {
		config, err := source.load()
		if err != nil {
			return err
		}
		return testReceivers(c.Context(), config, only, c.OutOrStdout(), newLogger(c.OutOrStdout(), config.Log, new(slog.LevelVar)))
	}
	showProgress(command, "waiting for receivers", false)
	return command
}

// testReceivers implements `notify test`, of the receivers that are named, or of all.
func testReceivers(ctx context.Context, config *Config, only []string, w io.Writer, log *slog.Logger) error {
	only = slices.DeleteFunc(slices.Clone(only), func(name string) bool { return name == "" })
	for _, name := range only { // before any is told
		known := func(r notify.Receiver) bool { return r.Name == name }
		if len(config.Notify.Receivers.value) > 0 && !slices.ContainsFunc(config.Notify.Receivers.value, known) {
			return usageError{fmt.Errorf("flag --receiver: %q: %w", name, notify.ErrNoReceiver)}
		}
	}
	if len(only) == 0 {
		only = []string{""} // all
	}
	var results []notify.Tested
	for _, name := range only {
		some, err := notify.Test(ctx, notify.Options{Config: config.notification(), ReadFile: readNamedFile, ExternalURL: config.Web.ExternalURL, Version: readBuild().Version, Log: log}, name)
		if errors.Is(err, notify.ErrNoReceiver) {
			return usageError{fmt.Errorf("flag --receiver: %w", err)}
		}
		if err != nil {
			return err
		}
		results = append(results, some...)
	}
	failed := 0
	for _, r := range results {
		outcome := "ok"
		if r.Err != nil {
			failed++
			outcome = oneLine(r.Err)
		}
		if _, err := fmt.Fprintf(w, "%s (%s): %s\n", r.Receiver, r.Integration, outcome); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d receivers did not take the test", failed, len(results))
	}
	return nil
}
