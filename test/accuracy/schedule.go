package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A clock is as sharp as the scheduler is prompt: a client that loses its processor between a call and the clock
// behind it knows little. So this program and its servers go before other work of the machine, and where there are two
// processors, the client has one to itself and the servers share the others. The agent runs where it likes.

// preferSelf raises the priority of this process and of what it starts.
func preferSelf() error { return prioritise(-10) }

func prioritise(priority int) error {
	return eachThread(os.Getpid(), func(thread int) error { return unix.Setpriority(unix.PRIO_PROCESS, thread, priority) })
}

// separate gives the client a processor of its own.
func (b *bench) separate() error {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	bind := func(set *unix.CPUSet) func(int) error {
		return func(thread int) error { return unix.SchedSetaffinity(thread, set) }
	}
	// What is counted later, without clocks, runs as other programs do.
	b.stops = append(b.stops, func() error { return errors.Join(prioritise(0), eachThread(os.Getpid(), bind(&all))) })
	if all.Count() < 2 {
		return nil
	}
	var ours unix.CPUSet
	theirs := all
	for cpu := range 1024 {
		if all.IsSet(cpu) {
			ours.Set(cpu)
			theirs.Clear(cpu)
			break
		}
	}
	for _, s := range b.running {
		if err := eachThread(s.PID(), bind(&theirs)); err != nil {
			return err
		}
		children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.PID()))
		if err != nil {
			return err
		}
		for _, path := range children {
			if err := eachListed(path, bind(&theirs)); err != nil {
				return err
			}
		}
	}
	return eachThread(os.Getpid(), bind(&ours))
}

// eachListed calls do for the threads of the processes whose ids the file holds.
func eachListed(path string, do func(int) error) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for field := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		if err := eachThread(pid, do); err != nil {
			return err
		}
	}
	return nil
}

// eachThread calls do with the ids of the process's threads.
func eachThread(pid int, do func(int) error) error {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		if err := do(id); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("scheduling thread %d: %w", id, err)
		}
	}
	return nil
}
