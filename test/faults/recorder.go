package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/perfagent/perfagent/test/faults/recording"
	"github.com/perfagent/perfagent/test/servers"
)

// recorderReady is how long the recorder may take to begin: it builds the command first, as all tests of its package.
const recorderReady = 3 * time.Minute

// recorder is the process that records: a test of cmd/perfagent, where the agent's parts are.
type recorder struct {
	*servers.Process
	commands io.WriteCloser
	lines    chan string
}

func (r *rig) openRecorder() error {
	binary := filepath.Join(r.dir, "record.test")
	if err := command("go", "test", "-pgo=off", "-c", "-o", binary, "./cmd/perfagent"); err != nil {
		return err
	}
	options, err := json.Marshal(map[string]any{"Ports": []int{r.base, r.base + 1, r.base + 2}, "Services": []string{"nginx", "shop", "store"},
		"Disks": []string{r.disk.below, r.disk.device}, "Links": []string{"lo", namespace + "0"}, "Squeeze": squeeze})
	if err != nil {
		return err
	}
	cmd := exec.Command(binary, "-test.run", "^TestRecordFaults$", "-test.timeout", "0")
	cmd.Dir = "cmd/perfagent"
	cmd.Env = append(os.Environ(), "PERFAGENT_RECORD_FAULTS="+string(options))
	commands, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	output, input, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout = input
	p, err := servers.StartProcess(cmd, filepath.Join(r.dir, "recorder.log"))
	input.Close()
	if err != nil {
		return err
	}
	r.recorder = &recorder{Process: p, commands: commands, lines: make(chan string, 1024)}
	r.closers = append(r.closers, r.recorder.close)
	go func() {
		defer output.Close()
		defer close(r.recorder.lines)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			r.recorder.lines <- lines.Text()
		}
	}()
	if err := r.recorder.begin(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), recorderReady)
	defer cancel()
	_, err = r.recorder.tick(ctx)
	return err
}

// begin starts a recording.
func (r *recorder) begin() error {
	for len(r.lines) > 0 { // ticks of one that was given up
		<-r.lines
	}
	_, err := fmt.Fprintln(r.commands, `{"begin":true}`)
	return err
}

// tick waits for the next tick of the recording, and returns how many there are.
func (r *recorder) tick(ctx context.Context) (n int, err error) {
	line, err := r.line(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(line, "tick %d", &n); err != nil {
		return 0, fmt.Errorf("the recorder says %q", line)
	}
	return n, nil
}

func (r *recorder) line(ctx context.Context) (string, error) {
	select {
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), errors.New(r.Log()))
	case line, open := <-r.lines:
		if !open {
			return "", fmt.Errorf("the recorder ended: %s", r.Log())
		}
		return line, nil
	}
}

// end stores the recording.
func (r *recorder) end(name string, truth *recording.Truth) error {
	path, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(r.commands).Encode(map[string]any{"end": path, "truth": truth}); err != nil {
		return err
	}
	for {
		line, err := r.line(context.Background())
		if err != nil || strings.HasPrefix(line, "written") {
			return err
		}
	}
}

func (r *recorder) close() error { return errors.Join(r.commands.Close(), r.Stop()) }

// othersLoad begins to measure how many processors others than the rig use, and returns what says how many it were.
func (g *groups) othersLoad() func() float64 {
	own := func() time.Duration { return g.usedOr0("") + g.usedOr0("-load") }
	start, others := time.Now(), busyTime()-own()
	return func() float64 { return (busyTime() - own() - others).Seconds() / time.Since(start).Seconds() }
}

// mustUsed is the processor time of all groups; 0 where it cannot be read, which is no more than a note.
func (g *groups) mustUsed() time.Duration {
	d, _ := g.used("")
	return d
}

// busyTime is the time for which processors were busy.
func busyTime() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	var user, nice, system, idle, iowait, irq, softirq int64
	if _, err := fmt.Sscanf(string(text), "cpu %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq, &softirq); err != nil {
		return 0
	}
	return time.Duration(user+nice+system+irq+softirq) * 10 * time.Millisecond
}
