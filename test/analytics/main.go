// analytics runs the scorers of a folder of benchmarks against `perfagent analyze` and prints what they measured beside what is
// asked for.
//
//	go run ./test/analytics [--only WORD] [DIRECTORY]
//
// DIRECTORY (../shared/bench) holds the scorers, Python programs that need nothing but Python, and their data. The agent is the
// one that PERFAGENT_BINARY names. Exit status 1: a figure is worse than it must be.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// run is one call of a scorer.
type run struct {
	what    string
	scorer  string                // the program and its arguments, without the command under test
	engine  string                // what follows `perfagent analyze`
	own     func() map[string]any // measures in place of a scorer
	figures []figure
}

// figure is one number of a scorer's JSON, and what is asked of it.
type figure struct {
	name      string
	path      []string // in the scorer's JSON
	must, aim bound
}

// bound is a range that a figure is asked to be in; nil: nothing is asked.
type bound func(v float64) (ok bool, text string)

func atLeast(limit float64) bound {
	return func(v float64) (bool, string) { return v >= limit, fmt.Sprintf("≥ %g", limit) }
}

func atMost(limit float64) bound {
	return func(v float64) (bool, string) { return v <= limit, fmt.Sprintf("≤ %g", limit) }
}

func between(low, high float64) bound {
	return func(v float64) (bool, string) { return v >= low && v <= high, fmt.Sprintf("%g–%g", low, high) }
}

func main() {
	only := flag.String("only", "", "run what has this word in its name only")
	flag.Parse()
	directory := filepath.Join("..", "shared", "bench")
	if flag.NArg() > 0 {
		directory = flag.Arg(0)
	}
	ok, err := bench(directory, *only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "analytics:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// bench runs everything and prints a table; ok: all that must be is.
func bench(directory, only string) (ok bool, err error) {
	agent, err := filepath.Abs(os.Getenv("PERFAGENT_BINARY"))
	if err != nil || os.Getenv("PERFAGENT_BINARY") == "" {
		return false, fmt.Errorf("PERFAGENT_BINARY names no agent")
	}
	if _, err := os.Stat(directory); err != nil {
		return false, fmt.Errorf("the scorers are not there: %w", err)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "what\tfigure\tmeasured\tmust\taim\t")
	ok = true
	for _, r := range slices.Concat(detectionRuns, statisticsRuns) {
		if !strings.Contains(r.what, only) {
			continue
		}
		start := time.Now()
		measured, err := r.measure(directory, agent)
		if err != nil {
			return false, fmt.Errorf("%s: %w", r.what, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", r.what, time.Since(start).Round(time.Second))
		for _, f := range r.figures {
			ok = f.print(table, r.what, measured) && ok
		}
	}
	return ok, table.Flush()
}

// measure runs the scorer and returns its JSON.
func (r run) measure(directory, agent string) (map[string]any, error) {
	if r.own != nil {
		return r.own(), nil
	}
	result, err := os.CreateTemp("", "analytics-*.json")
	if err != nil {
		return nil, err
	}
	defer os.Remove(result.Name())
	defer result.Close()
	words := strings.Fields(r.scorer)
	arguments := append(words, "--cmd", agent+" analyze "+r.engine, "--json", result.Name())
	command := exec.Command(python(), arguments...)
	command.Dir = directory
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", r.scorer, err, output)
	}
	var measured map[string]any
	if err := json.NewDecoder(result).Decode(&measured); err != nil {
		return nil, fmt.Errorf("read what %s measured: %w", r.scorer, err)
	}
	return measured, nil
}

// python is the interpreter for which the scorers are written, or whichever there is.
func python() string {
	if _, err := exec.LookPath("python3.11"); err == nil {
		return "python3.11"
	}
	return "python3"
}

// print writes a line of the table; ok: the figure is what it must be.
func (f figure) print(table *tabwriter.Writer, what string, measured map[string]any) (ok bool) {
	var at any = measured
	for _, key := range f.path {
		inner, _ := at.(map[string]any)
		at = inner[key]
	}
	v, found := at.(float64)
	if !found {
		fmt.Fprintf(table, "%s\t%s\tnot in the scorer's answer\t\t\t\n", what, f.name)
		return false
	}
	ok = true
	words := [2]string{}
	for i, b := range []bound{f.must, f.aim} {
		if b == nil {
			continue
		}
		held, text := b(v)
		if words[i] = text; !held {
			words[i] += " missed"
			ok = ok && i != 0
		}
	}
	fmt.Fprintf(table, "%s\t%s\t%.3f\t%s\t%s\t\n", what, f.name, v, words[0], words[1])
	return ok
}
