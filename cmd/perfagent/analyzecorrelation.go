package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/series"
)

// correlationPairsMax bounds the pairs of a table: those of 141 columns. A pair of 1,440 rows takes about 20 ms.
const correlationPairsMax = 10_000

// correlationLinesMax is how many pairs are shown as text.
const correlationLinesMax = 30

// correlationOptions are the flags of `analyze correlation`.
type correlationOptions struct {
	target, load string
	lagMax       int
	asJSON       bool
}

func newAnalyzeCorrelationCommand() *cobra.Command {
	var options correlationOptions
	var output string
	command := &cobra.Command{
		Use:   "correlation",
		Short: "Tell which series move together, with which delay, and whether that is chance",
		Long: "Reads CSV with a header, one row per step. Compares every pair of columns, or all with the\n" +
			"--target. The q-value is the share of the shown relations that are expected to be chance:\n" +
			"it allows for autocorrelation, for the lags and for the number of pairs. With --load, what\n" +
			"two columns owe to that one is no relation. JSON objects {\"x\": [...], \"y\": [...]} give one\n" +
			"line \"coefficient p_value\" each.",
		Example: "  perfagent analyze correlation --target p99_ms --load rps --max-lag 12 < host.csv",
		Args:    readsInput,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkAnalyzeOutput(output); err != nil {
				return err
			}
			if options.lagMax < 0 {
				return usageError{fmt.Errorf("--max-lag: %d is less than 0", options.lagMax)}
			}
			options.asJSON = output == "json"
			return analyzeCorrelation(c.InOrStdin(), c.OutOrStdout(), options)
		},
	}
	flags := command.Flags()
	flags.StringVar(&options.target, "target", "", "compare the others with this column only")
	flags.StringVar(&options.load, "load", "", "the column to hold constant")
	flags.IntVar(&options.lagMax, "max-lag", 0, "how many rows one column may be behind the other")
	flags.StringVarP(&output, "output", "o", "text", "text or json")
	completeWords(command, "output", "text", "json")
	return command
}

// pairFinding is the correlation of two columns.
type pairFinding struct {
	X string `json:"x"`
	Y string `json:"y"`
	*series.Correlation
}

// analyzeCorrelation implements `analyze correlation`.
func analyzeCorrelation(r io.Reader, w io.Writer, options correlationOptions) error {
	in := inputOf(r)
	out := bufio.NewWriter(w)
	if startsWithObject(in) {
		err := eachObject(in, func(values *struct{ X, Y []*float64 }) error {
			if len(values.X) != len(values.Y) {
				return fmt.Errorf("%d and %d values", len(values.X), len(values.Y))
			}
			c := series.Correlate(orMissing(values.X), orMissing(values.Y), series.CorrelationOptions{LagMax: options.lagMax})
			_, err := fmt.Fprintf(out, "%g %g\n", c.Coefficient, c.P)
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
	pairs, err := comparePairs(values, options)
	if err != nil {
		return err
	}
	if options.asJSON {
		encoder := json.NewEncoder(out)
		for _, p := range pairs {
			if err := encoder.Encode(p); err != nil {
				return err
			}
		}
	} else {
		writePairs(out, values, pairs)
	}
	return out.Flush()
}

// comparePairs compares the columns that the options name; the strongest evidence comes first.
func comparePairs(values *table, options correlationOptions) ([]pairFinding, error) {
	how := series.CorrelationOptions{LagMax: options.lagMax}
	if options.load != "" {
		var err error
		if _, how.Load, err = values.column(options.load); err != nil {
			return nil, err
		}
	}
	if options.target != "" {
		if _, _, err := values.column(options.target); err != nil {
			return nil, err
		}
	}
	var chosen [][2]int
	for j, y := range values.names {
		for i, x := range values.names {
			switch {
			case i == j || x == options.load || y == options.load:
			case options.target == "" && i < j, y == options.target && options.target != "":
				chosen = append(chosen, [2]int{i, j})
			}
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("%s no pair to compare", map[bool]string{true: "one column makes", false: "the columns make"}[len(values.names) == 1])
	}
	if len(chosen) > correlationPairsMax {
		return nil, fmt.Errorf("%d pairs of columns are more than %d: say which is the --target", len(chosen), correlationPairsMax)
	}
	pairs := make([]pairFinding, len(chosen))
	all := make([]*series.Correlation, len(chosen))
	for k, c := range chosen {
		found := series.Correlate(values.columns[c[0]], values.columns[c[1]], how)
		pairs[k], all[k] = pairFinding{values.names[c[0]], values.names[c[1]], &found}, &found
	}
	series.CorrectForAll(all)
	slices.SortStableFunc(pairs, func(a, b pairFinding) int {
		return cmp.Or(cmp.Compare(a.Q, b.Q), cmp.Compare(math.Abs(b.Coefficient), math.Abs(a.Coefficient)))
	})
	return pairs, nil
}

func writePairs(w io.Writer, values *table, pairs []pairFinding) {
	shown := 0
	for _, p := range pairs {
		if p.Relationship == series.Unrelated || shown == correlationLinesMax {
			break
		}
		if shown++; shown == 1 {
			fmt.Fprintf(w, "%11s  %8s  %-9s %s\n", "coefficient", "q", "", "columns")
		}
		lag := ""
		if p.Lag > 0 {
			lag = ", " + p.Y + " later by " + values.steps(float64(p.Lag))
		} else if p.Lag < 0 {
			lag = ", " + p.X + " later by " + values.steps(float64(-p.Lag))
		}
		fmt.Fprintf(w, "%11.2f  %8s  %-9s %s\n", p.Coefficient, strings.TrimPrefix(strings.TrimPrefix(series.ProbabilityText(p.Q), "p = "), "p "), p.Strength, p.X+" and "+p.Y+lag)
	}
	fmt.Fprintln(w, "of "+strconv.Itoa(len(pairs))+" pairs, "+strconv.Itoa(relatedPairs(pairs))+" are related (q < 0.05)")
}

func relatedPairs(pairs []pairFinding) int {
	n := 0
	for _, p := range pairs {
		if p.Relationship != series.Unrelated {
			n++
		}
	}
	return n
}
