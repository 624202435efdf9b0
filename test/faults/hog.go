package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/test/servers"
)

// hogVariable has the program be a hog: for how long it is busy at a time, and then not.
const hogVariable = "PERFAGENT_FAULTS_HOG"

// hogPriority is one of real-time tasks, which come before all others. A group's weight alone delays nobody who needs less than
// his part.
const hogPriority = 10

// beHog takes a processor, for the same time that it leaves it, until it is ended.
func beHog(period string) error {
	d, err := time.ParseDuration(period)
	if err != nil {
		return err
	}
	for _, hierarchy := range []string{"cpu", ""} { // other groups than the root may not have real-time tasks
		if procs := filepath.Join(groupRoot, hierarchy, "cgroup.procs"); write(procs, strconv.Itoa(os.Getpid())) == nil {
			break
		}
	}
	runtime.LockOSThread()
	attributes := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: hogPriority}
	if err := unix.SchedSetAttr(0, &attributes, 0); err != nil {
		return fmt.Errorf("become a real-time task: %w", err)
	}
	for {
		for end := time.Now().Add(d); time.Now().Before(end); {
		}
		time.Sleep(d)
	}
}

// hog starts a hog for each processor, and returns what ends them.
func (r *rig) hog(period time.Duration) (stop func() error, err error) {
	var all []*servers.Process
	stop = func() (err error) {
		for _, p := range all {
			err = errors.Join(err, p.Kill())
		}
		return err
	}
	for i := range runtime.NumCPU() {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), hogVariable+"="+period.String())
		p, err := servers.StartProcess(cmd, filepath.Join(r.dir, "hog"+strconv.Itoa(i)))
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		all = append(all, p)
	}
	return stop, nil
}
