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

func newAnalyzeTrendCommand() *cobra.Command {
	var column, output string
	command := &cobra.Command{
		Use:   "trend",
		Short: "Tell whether a series rises or falls, how fast, and whether that is chance",
		Long: "Reads one value a line, or CSV with a header, at equal steps; a missing one is NaN.\n" +
			"A first column of times gives the slope its unit. The p-value holds for values that\n" +
			"depend on those before. JSON objects {\"y\": [...]} give one line \"slope p_value\" each.",
		Example: "  perfagent analyze trend < p99.txt\n  perfagent analyze trend --column cpu -o json < host.csv",
		Args:    readsInput,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkAnalyzeOutput(output); err != nil {
				return err
			}
			return analyzeTrend(c.InOrStdin(), c.OutOrStdout(), column, output == "json")
		},
	}
	command.Flags().StringVar(&column, "column", "", "which column of several")
	command.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	completeWords(command, "output", "text", "json")
	return command
}

// checkAnalyzeOutput tells whether output is a form that an engine writes.
func checkAnalyzeOutput(output string) error {
	if output != "text" && output != "json" {
		return usageError{fmt.Errorf("--output: %q is neither text nor json", output)}
	}
	return nil
}

// analyzeTrend implements `analyze trend`.
func analyzeTrend(r io.Reader, w io.Writer, column string, asJSON bool) error {
	in := inputOf(r)
	if startsWithObject(in) {
		out := bufio.NewWriter(w)
		err := eachObject(in, func(values *struct{ Y []*float64 }) error {
			t := series.FindTrend(orMissing(values.Y))
			_, err := fmt.Fprintf(out, "%g %g\n", t.Slope, t.P)
			return err
		})
		if err != nil {
			return err
		}
		return out.Flush()
	}
	values, err := readTable(in)
	if err != nil {
		return err
	}
	name, y, err := values.column(column)
	if err != nil {
		return err
	}
	t := series.FindTrend(y)
	if asJSON {
		return json.NewEncoder(w).Encode(struct {
			Column      string  `json:"column"`
			StepSeconds float64 `json:"step_seconds,omitempty"`
			series.Trend
		}{name, values.step.Seconds(), t})
	}
	return writeTrend(w, name, values, t)
}

// writeTrend writes a finding for people, within 80 columns for names that are not long.
func writeTrend(w io.Writer, name string, values *table, t series.Trend) error {
	what := fmt.Sprintf("%s over %s (%d values)", name, values.steps(float64(values.rows())), t.Values)
	if t.Direction == series.Steady {
		_, err := fmt.Fprintf(w, "%s: steady (%s)\n", what, series.ProbabilityText(t.P))
		return err
	}
	factor, unit := slopeUnit(values)
	_, err := fmt.Fprintf(w, "%s: %s by %.4g %s\n95 %% interval %.4g to %.4g, %s; autocorrelation %.2f\n%s: the line explains %.0f %% of the variance\n",
		what, t.Direction, math.Abs(t.Slope*factor), unit, t.SlopeLow*factor, t.SlopeHigh*factor, series.ProbabilityText(t.P), t.Autocorrelation, t.Strength, 100*t.R2)
	return err
}

// slopeUnit returns what turns a change per step into one per hour or day, whichever is the longest that fits into the data.
func slopeUnit(values *table) (factor float64, unit string) {
	span := values.step.Seconds() * float64(values.rows())
	switch {
	case values.step <= 0:
		return 1, "per step"
	case span >= 2*86400:
		return 86400 / values.step.Seconds(), "per day"
	case span >= 2*3600:
		return 3600 / values.step.Seconds(), "per hour"
	}
	return 60 / values.step.Seconds(), "per minute"
}
