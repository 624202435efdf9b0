package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/series"
)

func newAnalyzeRootcauseCommand() *cobra.Command {
	output := "text"
	command := &cobra.Command{
		Use:   "rootcause ROW",
		Short: "Rank metrics by how likely they are to blame for what began at a row",
		Long: "Reads CSV with a header: a column per metric, a row per step. ROW is where the trouble\n" +
			"began; all before, from row 0, is normal. Prints names and scores, the most suspect first. What a\n" +
			"column measures and of what is read from its name, as in cart_cpu, db-memory, host.disk_io,\n" +
			"cart_requests, cart_latency_99, cart_errors; other names are metrics of a kind of their own.",
		Example: "  perfagent analyze rootcause 300 < metrics.csv | head -5\n  perfagent analyze rootcause 300 -o json < metrics.csv",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageError{errors.New("ROW is missing: the row at which the trouble began, the first being 0")}
			case len(args) > 1:
				return readsInput(nil, args[1:])
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkAnalyzeOutput(output); err != nil {
				return err
			}
			from, err := strconv.Atoi(args[0])
			if err != nil || from < 1 {
				return usageError{fmt.Errorf("ROW: %q is not a row after the first", args[0])}
			}
			return analyzeRootcause(c.InOrStdin(), c.OutOrStdout(), from, output == "json")
		},
	}
	command.Flags().StringVarP(&output, "output", "o", output, "text (name, tab, score) or json")
	completeWords(command, "output", "text", "json")
	return command
}

// analyzeRootcause implements `analyze rootcause`.
func analyzeRootcause(r io.Reader, w io.Writer, from int, asJSON bool) error {
	values, err := readTable(r)
	if err != nil {
		return err
	}
	if from >= values.rows() {
		return fmt.Errorf("the trouble is said to begin at row %d of %d", from, values.rows())
	}
	metrics := make([]series.CauseMetric, len(values.names))
	for i, name := range values.names {
		entity, kind := metricOf(name)
		metrics[i] = series.CauseMetric{Name: name, Entity: entity, Kind: kind, Values: values.columns[i]}
	}
	out := bufio.NewWriter(w)
	encoder := json.NewEncoder(out)
	for _, cause := range series.RankCauses(metrics, from) {
		if asJSON {
			err = encoder.Encode(cause)
		} else {
			_, err = fmt.Fprintf(out, "%s\t%.3f\n", cause.Name, cause.Score)
		}
		if err != nil {
			return err
		}
	}
	return out.Flush()
}

// kindWords are the words in a metric's name that tell its kind. Of neighbouring ones the earliest in this list counts:
// memory_pressure is a pressure, request_errors are errors, disk_latency is of the disk, request_duration is a latency.
var kindWords = []struct {
	kind  series.MetricKind
	words []string
}{
	{series.KindPressure, []string{"pressure", "psi", "throttled", "throttling", "stalled", "wait", "waiting", "lock", "locks", "pool", "queue"}},
	{series.KindErrors, []string{"error", "errors", "err", "failures", "failed", "5xx", "aborted", "timeouts"}},
	{series.KindCPU, []string{"cpu", "processor"}},
	{series.KindMemory, []string{"mem", "memory", "rss", "heap"}},
	{series.KindDisk, []string{"disk", "diskio", "io", "iops", "fs", "blkio"}},
	{series.KindNetwork, []string{"net", "network", "rtt", "retransmits", "loss", "socket"}},
	{series.KindLatency, []string{"latency", "lat", "duration", "time", "ms", "p50", "p90", "p95", "p99"}},
	{series.KindLoad, []string{"load", "lod", "requests", "request", "rps", "qps", "throughput", "connections", "workload"}},
}

// metricOf tells what a metric of that name measures, and of what: what stands before the last words that name a kind.
func metricOf(name string) (entity string, kind series.MetricKind) {
	last, inKind := len(kindWords), false
	entity, kind = name, series.KindOther
	for from := 0; from < len(name); {
		length := strings.IndexFunc(name[from:], func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		if length < 0 {
			length = len(name) - from
		}
		found, ok := kindOfWord(strings.ToLower(name[from : from+length]))
		if ok && !inKind {
			entity, last = strings.TrimRight(name[:from], "_-. :/"), len(kindWords)
		}
		if ok && found < last {
			last, kind = found, kindWords[found].kind
		}
		inKind = ok
		from += length + 1
	}
	return entity, kind
}

// kindOfWord returns the place in kindWords of what has the word.
func kindOfWord(word string) (int, bool) {
	for i := range kindWords {
		if slices.Contains(kindWords[i].words, word) {
			return i, true
		}
	}
	return 0, false
}
