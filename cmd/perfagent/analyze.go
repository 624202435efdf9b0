package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/route"
	"github.com/perfagent/perfagent/internal/wire"
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
			"A query string is ignored. Other lines are skipped and counted on standard error.\n" +
			" {...} is a parameter, \"*\" what is not known yet.",
		Example: "  awk '{ print substr($6, 2), $7, $9 }' access.log | perfagent analyze routes",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return analyzeRoutes(c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}, newAnalyzeAnomaliesCommand(), newAnalyzeChangepointsCommand(), newAnalyzeTrendCommand(), newAnalyzeCorrelationCommand(),
		newAnalyzeRootcauseCommand(), newAnalyzeForecastCommand(), newAnalyzeCacheCommand())
	for _, engine := range command.Commands() {
		showProgress(engine, "reading and computing", true)
	}
	return command
}

// analyzeRoutes implements `analyze routes`. Lines that are no requests are skipped and counted on warn: access logs have such.
func analyzeRoutes(r io.Reader, w, warn io.Writer) error {
	in := inputOf(r)
	out := bufio.NewWriter(w)
	learner := route.NewLearner()
	var template []byte
	methods := make(map[string]string) // those met so far, so that a line allocates none
	skipped, first := 0, 0
	for n := 1; ; n++ {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("read requests: %w", err)
		}
		method, path, status, ok := parseRequest(line)
		if !ok || err != nil {
			if skipped++; first == 0 {
				first = n
			}
			continue
		}
		name, known := methods[string(method)]
		if !known {
			name = string(method)
			if len(methods) < 64 {
				methods[name] = name
			}
		}
		template = learner.Learn(template[:0], name, path, status, 1)
		out.Write(template)
		out.WriteByte('\n')
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write routes: %w", err)
	}
	if skipped > 0 {
		fmt.Fprintf(warn, "skipped %d lines that are not \"METHOD /path [STATUS]\", the first is line %d\n", skipped, first)
	}
	return nil
}

// readLine returns the next line without its end, and bufio.ErrBufferFull for one that is longer than analyzeLineMax, which is skipped.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, bufio.ErrBufferFull
	}
	if len(line) > 0 && errors.Is(err, io.EOF) {
		err = nil // the last one
	}
	return bytes.TrimRight(line, "\r\n"), err
}

// parseRequest reads a line "METHOD /path [STATUS]"; the path, also "*", is without its query. ok: it is one.
func parseRequest(line []byte) (method, path []byte, status uint16, ok bool) {
	method, rest, _ := bytes.Cut(line, []byte(" "))
	path, after, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
	path, _, _ = bytes.Cut(path, []byte("?"))
	if len(method) == 0 || wire.TokenLen(method) != len(method) || len(path) == 0 || path[0] != '/' && string(path) != "*" {
		return nil, nil, 0, false
	}
	return method, path, statusOf(bytes.TrimSpace(after)), true
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
