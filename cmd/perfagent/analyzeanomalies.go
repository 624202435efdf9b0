package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/series"
)

// anomalyFlags are what `analyze anomalies` is asked for.
type anomalyFlags struct {
	column, output string
	sensitivity    float64
	step           time.Duration
}

func newAnalyzeAnomaliesCommand() *cobra.Command {
	var f anomalyFlags
	command := &cobra.Command{
		Use:   "anomalies",
		Short: "Find what is unusual in a series, value by value as the agent does",
		Long: "Reads CSV with a header and a first column of times, or one value a line; a missing\n" +
			"one is NaN. Each value is judged by those before it only. Prints one score a line, or\n" +
			"the incidents. Sensitivity is how many false alarms are wanted per week of the series.",
		Example: "  perfagent analyze anomalies -o text < p99.csv\n  perfagent analyze anomalies --step 10s --sensitivity 1 -o json < values.txt",
		Args:    readsInput,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.output != "scores" {
				if err := checkAnalyzeOutput(f.output); err != nil {
					return usageError{fmt.Errorf("--output: %q is neither scores, text nor json", f.output)}
				}
			}
			if !(f.sensitivity > 0) || math.IsInf(f.sensitivity, 0) {
				return usageError{fmt.Errorf("--sensitivity: %g is no number of alarms above 0", f.sensitivity)}
			}
			if f.step < time.Second {
				return usageError{fmt.Errorf("--step: %s is less than a second", f.step)}
			}
			return analyzeAnomalies(c.InOrStdin(), c.OutOrStdout(), f)
		},
	}
	command.Flags().StringVar(&f.column, "column", "", "which column of several")
	command.Flags().StringVarP(&f.output, "output", "o", "scores", "scores, text or json")
	completeWords(command, "output", "scores", "text", "json")
	command.Flags().Float64Var(&f.sensitivity, "sensitivity", series.AnomalySensitivity, "wanted false alarms per week of the series")
	command.Flags().DurationVar(&f.step, "step", time.Minute, "time between two values that come without times")
	return command
}

// analyzeAnomalies implements `analyze anomalies`.
func analyzeAnomalies(r io.Reader, w io.Writer, f anomalyFlags) error {
	values, err := readTable(r)
	if err != nil {
		return err
	}
	name, y, err := values.column(f.column)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	detector := series.NewAnomalies(series.AnomalyOptions{Sensitivity: f.sensitivity})
	var found []series.Incident
	for i, v := range y {
		at := int64(i) * int64(f.step/time.Second)
		if values.times != nil {
			t, ok := parseTime(values.times[i])
			if !ok {
				return fmt.Errorf("row %d: %q is not a time", i+1, clip(values.times[i], 40))
			}
			at = t.Unix()
		}
		verdict := detector.Add(at, v)
		if verdict.Ended {
			found = append(found, detector.Incident())
		}
		if f.output == "scores" {
			out.Write(strconv.AppendFloat(out.AvailableBuffer(), verdict.Novelty, 'f', 4, 64))
			out.WriteByte('\n')
		}
	}
	if last := detector.Incident(); last.Open {
		found = append(found, last)
	}
	switch f.output {
	case "text":
		writeIncidents(out, name, values, f, found)
	case "json":
		if err := json.NewEncoder(out).Encode(incidentsDocument(name, f, detector, found)); err != nil {
			return err
		}
	}
	return out.Flush()
}

// incidentsDocument is what -o json writes.
func incidentsDocument(name string, f anomalyFlags, d *series.Anomalies, found []series.Incident) any {
	day, week := d.Seasons()
	if found == nil {
		found = []series.Incident{}
	}
	return struct {
		Column      string            `json:"column"`
		Sensitivity float64           `json:"sensitivity"`
		Daily       bool              `json:"season_of_day"`
		Weekly      bool              `json:"season_of_week"`
		Incidents   []series.Incident `json:"incidents"`
	}{name, f.sensitivity, day, week, found}
}

// analyzeAnomaliesLeast is from which value on anything is judged.
const analyzeAnomaliesLeast = 120

// lastingText is how long an incident lasted: its first value and its last one are a step apart from the next.
func lastingText(in series.Incident, values *table, f anomalyFlags) string {
	step := f.step
	if values.times != nil {
		step = values.step
	}
	lasting := time.Duration(in.End-in.Start)*time.Second + step
	t := table{step: lasting}
	return t.steps(1)
}

// writeIncidents writes a line per incident for people.
func writeIncidents(w io.Writer, name string, values *table, f anomalyFlags, found []series.Incident) {
	fmt.Fprintf(w, "%s: %s in %d values (wanted: %g false ones a week)\n", name, counted(len(found), "incident"), values.rows(), f.sensitivity)
	if values.rows() < analyzeAnomaliesLeast {
		fmt.Fprintf(w, "%d values are needed before one is judged\n", analyzeAnomaliesLeast)
	}
	for _, in := range found {
		when := "row " + strconv.FormatInt(in.Start/int64(f.step/time.Second), 10)
		if values.times != nil {
			when = time.Unix(in.Start, 0).UTC().Format("2006-01-02 15:04:05")
		}
		fmt.Fprintf(w, "%s  %-8s %s: %.3g, not %.3g, for %s (%.0f %% sure)\n",
			when, in.Severity, in.Kind, in.Peak, in.Expected, lastingText(in, values, f), 100*in.Confidence)
	}
}
