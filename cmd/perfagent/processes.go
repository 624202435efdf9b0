package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// checkProcesses fails where --capture.pid names what is no process: nothing would ever be seen of it. A process that ends
// later is none of a start's business.
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
