package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/series"
)

func newAnalyzeChangepointsCommand() *cobra.Command {
	var column, output string
	command := &cobra.Command{
		Use:   "changepoints",
		Short: "Tell where the level or the slope of a series changed for good",
		Long: "Reads one value a line, or CSV with a header, at equal steps; a missing one is NaN.\n" +
			"Prints the index of the first value after each change, the first value of all being 0,\n" +
			"or what changed by how much. Without --column, changes of any column are printed.",
		Example: "  perfagent analyze changepoints -o text < p99.csv\n  perfagent analyze changepoints --column cpu -o json < host.csv",
		Args:    readsInput,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "indexes" && checkAnalyzeOutput(output) != nil {
				return usageError{fmt.Errorf("--output: %q is neither indexes, text nor json", output)}
			}
			return analyzeChangepoints(c.InOrStdin(), c.OutOrStdout(), column, output)
		},
	}
	command.Flags().StringVar(&column, "column", "", "which column of several")
	command.Flags().StringVarP(&output, "output", "o", "indexes", "indexes, text or json")
	completeWords(command, "output", "indexes", "text", "json")
	return command
}

// columnChange is a change and the column that it is in.
type columnChange struct {
	Column string `json:"column"`
	Time   string `json:"time,omitempty"`
	series.Change
}

// analyzeChangepoints implements `analyze changepoints`.
func analyzeChangepoints(r io.Reader, w io.Writer, column, output string) error {
	values, err := readTable(r)
	if err != nil {
		return err
	}
	names, columns := values.names, values.columns
	if column != "" {
		_, y, err := values.column(column)
		if err != nil {
			return err
		}
		names, columns = []string{column}, [][]float64{y}
	}
	found := []columnChange{}
	for i, y := range columns {
		for _, c := range series.FindChanges(y) {
			at := columnChange{Column: names[i], Change: c}
			if values.times != nil {
				at.Time = values.times[c.Index]
			}
			found = append(found, at)
		}
	}
	if output == "json" {
		return json.NewEncoder(w).Encode(struct {
			Changes []columnChange `json:"changes"`
		}{found})
	}
	return writeChanges(w, values, found, output)
}

// writeChanges writes a line per change, an index alone or a sentence.
func writeChanges(w io.Writer, values *table, found []columnChange, output string) error {
	out := bufio.NewWriter(w)
	if output == "text" {
		fmt.Fprintf(out, "%s in %d values\n", counted(len(found), "change"), values.rows())
	}
	for _, c := range found {
		if output == "indexes" {
			fmt.Fprintln(out, c.Index)
			continue
		}
		when := fmt.Sprintf("row %d", c.Index)
		if t, ok := parseTime(c.Time); ok {
			when = t.UTC().Format("2006-01-02 15:04:05")
		} else if c.Time != "" {
			when = c.Time
		}
		slope := ""
		if factor, unit := slopeUnit(values); math.Abs(c.Slope)*float64(values.rows()) > math.Abs(c.Delta) {
			slope = fmt.Sprintf("; slope %+.3g %s", c.Slope*factor, unit)
		}
		fmt.Fprintf(out, "%s  %s: %.3g to %.3g (%+.3g%s), confidence %.0f %%\n", when, c.Column, c.Before, c.After, c.Delta, slope, 100*c.Confidence)
	}
	return out.Flush()
}
