// tally runs commands in turn and counts the tests in what they print: go test's JSON, or the text of a test binary's
// -test.v. It shows the output of what failed and one line for the rest, and its last line is the counts.
//
//	go run ./test/tally COMMAND...
//
// Each COMMAND is a line for bash. One that runs no tests counts as one test itself; one that fails without a failed test
// counts as a failure. Exit status 1 tells of a failure.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// lineBytesMax bounds one line of output; a test that prints more in one line fails the run.
const lineBytesMax = 16 << 20

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: tally COMMAND...")
		os.Exit(2)
	}
	var total counts
	for _, command := range os.Args[1:] {
		total.add(step(command, os.Stdout))
	}
	fmt.Println()
	if total.skipped > 0 {
		fmt.Printf("%d skipped\n", total.skipped)
	}
	fmt.Printf("%d passed, %d failed\n", total.passed, total.failed)
	if total.failed > 0 {
		os.Exit(1)
	}
}

// counts are numbers of tests, subtests included.
type counts struct{ passed, failed, skipped int }

func (c *counts) add(other counts) {
	c.passed += other.passed
	c.failed += other.failed
	c.skipped += other.skipped
}

// step runs one command and says on w how it went.
func step(command string, w io.Writer) counts {
	fmt.Fprintf(w, "\n==> %s\n", command)
	began := time.Now()
	r := &report{w: w}
	err := run(command, r)
	if err != nil && r.counts.failed == 0 {
		r.counts.failed++
		r.showRest()
		fmt.Fprintf(w, "FAILED: %s: %v\n", command, err)
	} else if r.counts == (counts{}) {
		r.counts.passed++
	}
	fmt.Fprintf(w, "    %d passed, %d failed, %d skipped in %.0f s\n",
		r.counts.passed, r.counts.failed, r.counts.skipped, time.Since(began).Seconds())
	return r.counts
}

// run feeds r with what the command prints on both of its outputs.
func run(command string, r *report) error {
	cmd := exec.Command("bash", "-c", command)
	pipe, writer, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer pipe.Close()
	cmd.Stdout, cmd.Stderr = writer, writer
	err = cmd.Start()
	writer.Close()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		r.line(lines.Bytes())
	}
	if lines.Err() != nil {
		_, _ = io.Copy(io.Discard, pipe) // let the command end
	}
	if err := cmd.Wait(); err != nil {
		return err
	}
	return lines.Err()
}
