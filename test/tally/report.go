package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// restMax is how many of the last lines that belong to no test are shown when a command fails.
const restMax = 60

// event is one line of go test -json (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output and build-fail
	Test       string
	Output     string
	Elapsed    float64
}

// report counts the tests of one command and shows the failed ones.
type report struct {
	w      io.Writer
	counts counts
	output map[string][]string // by package and test, of what has not ended
	failed map[string]bool     // packages with a failed test
	rest   []string            // the last lines that belong to no test
}

// line takes one line of output.
func (r *report) line(line []byte) {
	var e event
	if len(line) > 0 && line[0] == '{' && json.Unmarshal(line, &e) == nil && e.Action != "" {
		r.event(&e)
		return
	}
	r.text(string(line))
}

// result finds what -test.v says of a test at its end.
var result = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+)`)

// text takes a line that is not JSON: it is shown as it is, without the tests that began or passed.
func (r *report) text(line string) {
	m := result.FindStringSubmatch(line)
	switch {
	case m == nil:
		if !strings.HasPrefix(line, "=== RUN") && !strings.HasPrefix(line, "=== PAUSE") && !strings.HasPrefix(line, "=== CONT") &&
			!strings.HasPrefix(line, "=== NAME") {
			fmt.Fprintln(r.w, line)
		}
	case m[1] == "PASS":
		r.counts.passed++
	case m[1] == "SKIP":
		r.counts.skipped++
		fmt.Fprintln(r.w, line)
	default:
		r.counts.failed++
		fmt.Fprintln(r.w, line)
	}
}

func (r *report) event(e *event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		r.keep(key, e)
	case "build-output":
		fmt.Fprint(r.w, e.Output)
	case "pass":
		if e.Test != "" {
			r.counts.passed++
		} else {
			fmt.Fprintf(r.w, "ok    %s (%.1f s)\n", e.Package, e.Elapsed)
		}
	case "skip":
		if e.Test != "" {
			r.counts.skipped++
			r.show("SKIP", key, e)
		}
	case "fail":
		r.fail(key, e)
	default:
		return
	}
	if e.Action != "output" {
		delete(r.output, key)
	}
}

// keep remembers output until its test is known to have failed, or not.
func (r *report) keep(key string, e *event) {
	if r.output == nil {
		r.output = make(map[string][]string)
	}
	r.output[key] = append(r.output[key], e.Output)
	if e.Test == "" {
		r.rest = append(r.rest[max(0, len(r.rest)-restMax):], e.Output)
	}
}

// fail counts a failed test; and a package that failed without one, because it did not build, crashed or leaked.
func (r *report) fail(key string, e *event) {
	if r.failed == nil {
		r.failed = make(map[string]bool)
	}
	if e.Test == "" && r.failed[e.Package] {
		fmt.Fprintf(r.w, "FAIL  %s (%.1f s)\n", e.Package, e.Elapsed)
		return
	}
	r.failed[e.Package] = true
	r.counts.failed++
	r.show("FAIL", key, e)
}

// show prints a test's name and output, without the lines that only repeat its name.
func (r *report) show(verdict, key string, e *event) {
	fmt.Fprintf(r.w, "%s  %s\n", verdict, strings.TrimSpace(key))
	for _, line := range r.output[key] {
		if !strings.HasPrefix(line, "=== ") {
			fmt.Fprint(r.w, "      "+line)
		}
	}
}

// showRest prints what belongs to no test.
func (r *report) showRest() {
	for _, line := range r.rest {
		fmt.Fprint(r.w, "      "+line)
	}
}
