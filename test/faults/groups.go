package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// groups are the control groups of the services, below one of their own, and that of the load beside it. The processors' time goes
// to these first, so that what else runs on the machine is felt little.
type groups struct {
	v1    bool
	roots []string // the own group in each hierarchy
}

const (
	groupRoot = "/sys/fs/cgroup"
	groupName = "perfagent-faults"
	// shareFirst is what comes before tasks that are in no group, which have 1024.
	shareFirst = 100_000
	// period is that of a limit of processor time.
	period = 100 * time.Millisecond
)

// controllers of cgroup v1 that are used. Version 2 has them all in one hierarchy.
var controllers = []string{"cpu", "cpuacct", "memory", "blkio"}

// services are the groups below the own one, and beside those beside it.
var (
	services = []string{"", "shop", "store", "nginx"}
	beside   = []string{"-load"}
)

func openGroups() (*groups, error) {
	g := new(groups)
	_, missing := os.Stat(filepath.Join(groupRoot, "cgroup.controllers"))
	g.v1 = missing != nil
	if g.v1 {
		for _, c := range controllers {
			g.roots = append(g.roots, filepath.Join(groupRoot, c, groupName))
		}
	} else {
		g.roots = []string{filepath.Join(groupRoot, groupName)}
	}
	for _, root := range g.roots {
		for _, group := range services {
			if err := os.MkdirAll(filepath.Join(root, group), 0o755); err != nil {
				return g, err
			}
			if group == "" && !g.v1 {
				if err := write(filepath.Join(root, "cgroup.subtree_control"), "+cpu +memory +io"); err != nil {
					return g, err
				}
			}
		}
		for _, suffix := range beside {
			if err := os.MkdirAll(root+suffix, 0o755); err != nil {
				return g, err
			}
		}
	}
	memory := "memory.max"
	if g.v1 {
		memory = "memory.limit_in_bytes"
	}
	return g, errors.Join(g.share("", shareFirst), g.share("-load", shareFirst),
		write(filepath.Join(g.root("memory"), "shop", memory), strconv.Itoa(shopMemory)),
		write(filepath.Join(g.dir("cpu", "-load"), "cgroup.procs"), strconv.Itoa(os.Getpid())),
		write(filepath.Join(g.dir("cpuacct", "-load"), "cgroup.procs"), strconv.Itoa(os.Getpid())))
}

// share sets the part of the processors' time of the own group, or of one beside it.
func (g *groups) share(suffix string, share int) error {
	if g.v1 {
		return write(filepath.Join(g.root("cpu")+suffix, "cpu.shares"), strconv.Itoa(share))
	}
	const most = 10_000 // 100 is what 1024 is in version 1
	return write(filepath.Join(g.roots[0]+suffix, "cpu.weight"), strconv.Itoa(min(share*100/1024, most)))
}

// root is the own group in the hierarchy of a controller.
func (g *groups) root(controller string) string {
	if g.v1 {
		return filepath.Join(groupRoot, controller, groupName)
	}
	return g.roots[0]
}

// dir is the directory of a group.
func (g *groups) dir(controller, group string) string {
	if strings.HasPrefix(group, "-") {
		return g.root(controller) + group
	}
	return filepath.Join(g.root(controller), group)
}

func write(file, text string) error { return os.WriteFile(file, []byte(text), 0o644) }

// command is a program that is in a group from its first instruction on: one of services, or one of beside.
func (g *groups) command(group string, arguments ...string) *exec.Cmd {
	var script strings.Builder
	for _, root := range g.roots {
		dir := filepath.Join(root, group)
		if strings.HasPrefix(group, "-") {
			dir = root + group
		}
		fmt.Fprintf(&script, "echo $$ > %s/cgroup.procs\n", dir)
	}
	return exec.Command("sh", append([]string{"-ec", script.String() + `exec "$@"`, "sh"}, arguments...)...)
}

// limitCPU bounds the processors that a group may use; 0 ends that.
func (g *groups) limitCPU(group string, processors float64) error {
	quota := strconv.FormatInt(int64(processors*float64(period/time.Microsecond)), 10)
	if g.v1 {
		if processors == 0 {
			quota = "-1"
		}
		return write(filepath.Join(g.root("cpu"), group, "cpu.cfs_quota_us"), quota)
	}
	if processors == 0 {
		quota = "max"
	}
	return write(filepath.Join(g.root("cpu"), group, "cpu.max"), fmt.Sprintf("%s %d", quota, period/time.Microsecond))
}

// limitDisk bounds the operations a second of a group on a device; 0 ends that.
func (g *groups) limitDisk(group, device string, operations int) error {
	if !g.v1 {
		limit := "max"
		if operations > 0 {
			limit = strconv.Itoa(operations)
		}
		return write(filepath.Join(g.root("io"), group, "io.max"), fmt.Sprintf("%s riops=%s wiops=%s", device, limit, limit))
	}
	var err error
	for _, file := range []string{"blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device"} {
		err = errors.Join(err, write(filepath.Join(g.root("blkio"), group, file), fmt.Sprintf("%s %d", device, operations)))
	}
	return err
}

// used is the processor time of a group.
func (g *groups) used(group string) (time.Duration, error) {
	if g.v1 {
		text, err := os.ReadFile(filepath.Join(g.dir("cpuacct", group), "cpuacct.usage"))
		if err != nil {
			return 0, err
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return time.Duration(ns), err
	}
	text, err := os.ReadFile(filepath.Join(g.dir("cpu", group), "cpu.stat"))
	if err != nil {
		return 0, err
	}
	var us int64
	_, err = fmt.Sscanf(string(text), "usage_usec %d", &us)
	return time.Duration(us) * time.Microsecond, err
}

// usedOr0 is used where a time that cannot be read does no harm.
func (g *groups) usedOr0(group string) time.Duration {
	d, _ := g.used(group)
	return d
}

// close removes the groups. What is in them but this program has ended.
func (g *groups) close() (err error) {
	for _, root := range g.roots {
		err = errors.Join(err, write(filepath.Join(filepath.Dir(root), "cgroup.procs"), strconv.Itoa(os.Getpid())))
	}
	for _, root := range g.roots {
		for _, group := range slices.Backward(services) {
			err = errors.Join(err, removeGroup(filepath.Join(root, group)))
		}
		for _, suffix := range beside {
			err = errors.Join(err, removeGroup(root+suffix))
		}
	}
	return err
}

// removeGroup waits for the last processes to be gone, which have ended.
func removeGroup(dir string) (err error) {
	for range 200 {
		if err = unix.Rmdir(dir); err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("remove %s: %w", dir, err)
}
