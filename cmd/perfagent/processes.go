package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/perfagent/perfagent/internal/host"
)

// checkChosen fails where --capture.pid names what is no process, or --capture.cgroup no control group: nothing would ever be seen
// of it. One that ends later is none of a start's business.
func checkChosen(config CaptureConfig) error {
	if err := checkProcesses(config.PIDs); err != nil {
		return err
	}
	for _, group := range config.Cgroups {
		exists, err := host.CgroupExists("/", group)
		if err != nil {
			return fmt.Errorf("--capture.cgroup: look for %s: %w", group, err)
		}
		if !exists {
			return usageError{fmt.Errorf("--capture.cgroup: there is no control group %s", printable(group))}
		}
	}
	return nil
}

// unmatched returns the patterns of --capture.executable that no running process matches. One may start later.
func unmatched(patterns []string) (without []string, err error) {
	for _, pattern := range patterns {
		glob, err := host.NewGlob(pattern)
		if err != nil {
			return nil, fmt.Errorf("--capture.executable: %w", err)
		}
		filter := host.Filter{Executables: []host.Glob{glob}}
		pids, err := filter.Choose("/")
		if err != nil {
			return nil, fmt.Errorf("--capture.executable: list processes: %w", err)
		}
		if len(pids) == 0 {
			without = append(without, pattern)
		}
	}
	return without, nil
}

// warnOfUnmatched logs the patterns of --capture.executable that match nothing yet.
func warnOfUnmatched(log *slog.Logger, patterns []string) {
	without, err := unmatched(patterns)
	if err != nil {
		log.Warn("it is not known whether --capture.executable matches anything", "err", err)
	}
	for _, pattern := range without {
		log.Warn("no running process matches --capture.executable", "glob", pattern)
	}
}

func checkProcesses(pids []uint32) error {
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if errors.Is(err, os.ErrNotExist) {
			return usageError{fmt.Errorf("--capture.pid: there is no process %d", pid)}
		}
		if process := threadGroup(status); process != 0 && process != pid {
			return usageError{fmt.Errorf("--capture.pid: %d is a thread: name its process, %d", pid, process)}
		}
	}
	return nil
}

// threadGroup returns the process that /proc/TID/status is of, 0 where that cannot be read.
func threadGroup(status []byte) uint32 {
	_, rest, _ := bytes.Cut(status, []byte("\nTgid:"))
	line, _, _ := bytes.Cut(rest, []byte{'\n'})
	pid, err := strconv.ParseUint(strings.TrimSpace(string(line)), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(pid)
}
