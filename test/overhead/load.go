package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/test/servers"
)

// startWrk starts the load: one thread, 32 connections.
func startWrk(s *servers.Server, script string, duration time.Duration, path string) (*servers.Process, error) {
	args := []string{"-t1", "-c32", fmt.Sprintf("-d%ds", int(duration.Seconds()))}
	if script != "" {
		args = append(args, "-s", script)
	}
	cmd := exec.Command("wrk", append(args, "http://"+s.Address+path)...)
	return servers.StartProcess(cmd, filepath.Join(s.Dir, "wrk"))
}

// usage is what nginx has used and served so far.
type usage struct {
	cpuNS    int64
	requests int64
}

// readUsage reads the CPU time of nginx' workers from the scheduler and the requests from stub_status.
func readUsage(s *servers.Server) (usage, error) {
	var u usage
	var err error
	if u.requests, err = nginxRequests(s); err != nil {
		return u, err
	}
	workers, err := children(s.PID())
	if err != nil {
		return u, err
	}
	if len(workers) == 0 {
		return u, errors.New("nginx has no workers")
	}
	for _, pid := range workers {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return u, err
		}
		for _, path := range tasks {
			text, err := os.ReadFile(path)
			if err != nil {
				return u, err
			}
			running, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
			if err != nil {
				return u, fmt.Errorf("%s: %w", path, err)
			}
			u.cpuNS += running
		}
	}
	return u, nil
}

func children(pid int) ([]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		pids = append(pids, child)
	}
	return pids, nil
}

// nginxRequests returns nginx' own count of requests, the one that asks for it included.
func nginxRequests(s *servers.Server) (int64, error) {
	response, err := http.Get("http://" + s.Address + "/nginx_status")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	lines := strings.Split(string(body), "\n")
	if len(lines) < 3 {
		return 0, fmt.Errorf("unexpected status page: %.200q", body)
	}
	fields := strings.Fields(lines[2]) // accepts handled requests
	if len(fields) != 3 {
		return 0, fmt.Errorf("unexpected status page: %.200q", body)
	}
	return strconv.ParseInt(fields[2], 10, 64)
}
