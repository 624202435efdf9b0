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

// forecastHorizon and forecastSeasonsMin are what `analyze forecast` does where nothing is said: a day of hours, and a season of
// a day where the times show that there were three.
const forecastHorizon, forecastSeasonsMin = 24, 3

// forecastOptions are the arguments of `analyze forecast`.
type forecastOptions struct {
	horizon int
	season  int // -1: tell from the times
	column  string
	limit   float64 // NaN: none
	output  string
}

func newAnalyzeForecastCommand() *cobra.Command {
	options := forecastOptions{horizon: forecastHorizon, season: -1}
	var limit string
	command := &cobra.Command{
		Use:   "forecast [HORIZON [SEASON]]",
		Short: "Tell what a series will do, within which limits, and when it reaches one",
		Long: "Reads one value a line, or CSV with a header, at equal steps, and prints for each of HORIZON\n" +
			"steps (24) the expected value and an interval that holds it with a probability of 95 %. SEASON\n" +
			"is the length of what repeats itself, such as 24 for hours; 0 is none. Without it a day is tried\n" +
			"where the first column has times. With --until it tells when the limit is reached.",
		Example: "  perfagent analyze forecast 48 24 < hourly.txt\n" +
			"  perfagent analyze forecast 720 --column used_bytes --until 500e9 < disk.csv",
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := options.parse(args, limit); err != nil {
				return usageError{err}
			}
			if err := checkAnalyzeOutput(options.output); err != nil {
				return err
			}
			return analyzeForecast(c.InOrStdin(), c.OutOrStdout(), options)
		},
	}
	flags := command.Flags()
	flags.StringVar(&options.column, "column", "", "which column of several")
	flags.StringVar(&limit, "until", "", "a value: tell when it is reached, from either side")
	flags.StringVarP(&options.output, "output", "o", "text", "text (lines \"mean low high\") or json")
	completeWords(command, "output", "text", "json")
	return command
}

// parse reads the arguments.
func (o *forecastOptions) parse(args []string, limit string) (err error) {
	if len(args) > 0 {
		if o.horizon, err = strconv.Atoi(args[0]); err != nil || o.horizon < 1 || o.horizon > series.HorizonMax {
			return fmt.Errorf("HORIZON: %q is not between 1 and %d", args[0], series.HorizonMax)
		}
	}
	if len(args) > 1 {
		if o.season, err = strconv.Atoi(args[1]); err != nil || o.season < 0 {
			return fmt.Errorf("SEASON: %q is not a number of steps", args[1])
		}
	}
	if o.limit = math.NaN(); limit != "" {
		if o.limit, err = strconv.ParseFloat(limit, 64); err != nil || math.IsInf(o.limit, 0) {
			return fmt.Errorf("--until: %q is not a number", limit)
		}
	}
	return nil
}

// analyzeForecast implements `analyze forecast`.
func analyzeForecast(r io.Reader, w io.Writer, options forecastOptions) error {
	values, err := readTable(r)
	if err != nil {
		return err
	}
	name, y, err := values.column(options.column)
	if err != nil {
		return err
	}
	season := options.season
	if season < 0 {
		season = 0
		if steps := int(day / max(values.step, 1)); values.step > 0 && steps > 1 && values.rows() >= forecastSeasonsMin*steps {
			season = steps
		}
	}
	last := math.NaN()
	for _, v := range y {
		if !math.IsNaN(v) {
			last = v
		}
	}
	f := series.MakeForecast(y, series.ForecastOptions{Horizon: options.horizon, Season: season})
	if len(f.Values) == 0 {
		return fmt.Errorf("column %s has no value, or none that is smaller than %g", name, series.MagnitudeMax)
	}
	crossing := f.Until(options.limit, last > options.limit)
	if options.output == "json" {
		found := struct {
			Column      string  `json:"column"`
			Season      int     `json:"season"`
			StepSeconds float64 `json:"step_seconds,omitempty"`
			series.Forecast
			Until *crossingJSON `json:"until,omitempty"`
		}{Column: name, Season: season, StepSeconds: values.step.Seconds(), Forecast: f}
		if !math.IsNaN(options.limit) {
			found.Until = &crossingJSON{stepOrNone(crossing.Likely), stepOrNone(crossing.Earliest), stepOrNone(crossing.Latest)}
		}
		return json.NewEncoder(w).Encode(found)
	}
	out := bufio.NewWriter(w)
	if !math.IsNaN(options.limit) {
		fmt.Fprintln(out, untilText(name, values, options, crossing))
		return out.Flush()
	}
	for _, v := range f.Values {
		fmt.Fprintf(out, "%.8g %.8g %.8g\n", v.Mean, v.Low, v.High)
	}
	return out.Flush()
}

// crossingJSON is when a limit is reached, in steps from the last row; null is not within the horizon.
type crossingJSON struct {
	Likely   *int `json:"likely"`
	Earliest *int `json:"earliest"`
	Latest   *int `json:"latest"`
}

func stepOrNone(step int) *int {
	if step == 0 {
		return nil
	}
	return &step
}

// untilText is a sentence of when the limit is reached.
func untilText(name string, values *table, options forecastOptions, c series.Crossing) string {
	limit := strconv.FormatFloat(options.limit, 'g', 6, 64)
	if c.Earliest == 0 {
		return fmt.Sprintf("%s does not reach %s within %s", name, limit, values.steps(float64(options.horizon)))
	}
	latest := "not surely within " + values.steps(float64(options.horizon))
	if c.Latest > 0 {
		latest = "at the latest " + values.when(c.Latest)
	}
	if c.Likely == 0 {
		return fmt.Sprintf("%s is not expected to reach %s within %[4]s\nat the earliest it may %[3]s",
			name, limit, values.when(c.Earliest), values.steps(float64(options.horizon)))
	}
	return fmt.Sprintf("%s reaches %s %s\nat the earliest %s, %s", name, limit, values.when(c.Likely), values.when(c.Earliest), latest)
}

// when writes a step after the end of the table as a time and a duration, where the times are known.
func (t *table) when(steps int) string {
	in := "in " + t.steps(float64(steps))
	if t.first.IsZero() {
		return in
	}
	at := t.first.Add(t.step * time.Duration(t.rows()-1+steps))
	return in + " (" + at.Format("2006-01-02 15:04") + ")"
}
