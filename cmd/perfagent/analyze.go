package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/route"
)

// analyzeLineMax bounds a line of an engine's input.
const analyzeLineMax = 64 << 10

func newAnalyzeCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "analyze",
		Short: "Run one of the agent's engines over data from standard input",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	command.AddCommand(&cobra.Command{
		Use:   "routes",
		Short: "Print the route of each request in a list",
		Long: "Reads lines \"METHOD /path [STATUS]\", all of one service, and prints for each the\n" +
			"route that the agent would show for it at that moment: it learns while it reads.\n" +
			"A query string is ignored. {...} is a parameter, \"*\" what is not known yet.",
		Example: "  awk '{ print substr($6, 2), $7, $9 }' access.log | perfagent analyze routes",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return analyzeRoutes(c.InOrStdin(), c.OutOrStdout())
		},
	})
	return command
}

// analyzeRoutes implements `analyze routes`.
func analyzeRoutes(r io.Reader, w io.Writer) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, analyzeLineMax), analyzeLineMax)
	out := bufio.NewWriter(w)
	learner := route.NewLearner()
	var template []byte
	methods := make(map[string]string) // those met so far, so that a line allocates none
	for line := 1; in.Scan(); line++ {
		method, rest, _ := bytes.Cut(in.Bytes(), []byte(" "))
		path, after, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
		path, _, _ = bytes.Cut(path, []byte("?"))
		if len(method) == 0 || len(path) == 0 {
			return fmt.Errorf("line %d: want METHOD /path [STATUS]", line)
		}
		name, known := methods[string(method)]
		if !known {
			name = string(method)
			if len(methods) < 64 {
				methods[name] = name
			}
		}
		template = learner.Learn(template[:0], name, path, statusOf(bytes.TrimSpace(after)), 1)
		out.Write(template)
		out.WriteByte('\n')
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("read requests: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write routes: %w", err)
	}
	return nil
}

// statusOf reads a status; 0: there is none, or none that means anything.
func statusOf(text []byte) uint16 {
	if len(text) == 0 {
		return 0
	}
	status, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(status)
}
