package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// Shows that a command that takes long says so on a terminal, that the line is gone before anything else is written, and that nothing
// of it gets into files and pipes.
func TestProgress(t *testing.T) {
	master, slave := openPTY(t)
	defer master.Close()
	defer slave.Close()
	seen := make(chan string)
	var all strings.Builder
	go func() {
		defer close(seen)
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			if err != nil {
				return
			}
			select {
			case seen <- string(buffer[:n]):
			case <-t.Context().Done():
				return
			}
		}
	}()
	waitFor := func(want string) {
		deadline := time.After(20 * time.Second)
		for !strings.Contains(all.String(), want) {
			select {
			case text := <-seen:
				all.WriteString(text)
			case <-deadline:
				t.Fatalf("no %q in %q", want, all.String())
			}
		}
	}
	command := &cobra.Command{RunE: func(c *cobra.Command, _ []string) error {
		waitFor("making it: 1 s")
		_, err := io.WriteString(c.OutOrStdout(), "the answer\n")
		waitFor("\r" + strings.Repeat(" ", len("making it: 1 s")) + "\rthe answer")
		return errors.Join(err, c.Context().Err())
	}}
	command.SetArgs(nil)
	command.SetOut(slave)
	command.SetErr(slave)
	command.SetIn(strings.NewReader(""))
	showProgress(command, "making it", true)
	if err := command.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}

	for name, streams := range map[string][2]any{"a pipe": {&strings.Builder{}, strings.NewReader("")}, "typed input": {slave, slave}} {
		ran := &cobra.Command{RunE: func(c *cobra.Command, _ []string) error {
			if _, wrapped := c.OutOrStdout().(progressEnd); wrapped {
				t.Errorf("%s: there is progress", name)
			}
			return nil
		}}
		ran.SetArgs(nil)
		ran.SetOut(streams[0].(io.Writer))
		ran.SetErr(streams[0].(io.Writer))
		ran.SetIn(streams[1].(io.Reader))
		showProgress(ran, "x", true)
		if err := ran.Execute(); err != nil {
			t.Error(err)
		}
	}
}
