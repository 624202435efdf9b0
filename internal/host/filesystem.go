package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/disk"
	gopsutil "github.com/shirou/gopsutil/v3/host"
	"github.com/shirou/gopsutil/v3/load"
)

const (
	// filesystemsMax is how many file systems are followed.
	filesystemsMax = 64
	// filesystemsEvery is how often they are looked at: space changes slowly, and reading the mount table of a node with
	// a thousand mounts takes a millisecond.
	filesystemsEvery = 10 * time.Second
	// filesystemsStale is when figures are withdrawn: asking a file system whose device does not answer hangs.
	filesystemsStale = time.Minute
)

// Filesystem is the space of one file system on a block device (or ZFS), wherever it is mounted first. Network file
// systems are left out, because asking one may hang; so are those that are full by nature, such as squashfs.
type Filesystem struct {
	Device, Mountpoint, Type string
	Size                     float64 // bytes
	Used                     float64 // bytes
	Available                float64 // bytes that users other than root can still write
	Files, FilesFree         float64 // inodes; 0 where the file system has no limit
}

// full are types without free space by nature.
var full = []string{"squashfs", "iso9660", "udf", "cramfs", "erofs", "romfs"}

// Load is the host's load averages: tasks that run, wait for a processor, or are in uninterruptible sleep.
type Load struct{ One, Five, Fifteen float64 }

// Info is what does not change while the host runs. Fields are empty where they are not known.
type Info struct {
	Kernel string    // release, such as 6.1.0-28-amd64
	Boot   time.Time // to a second
}

// gopsutilReader reads what gopsutil reads well. It allocates a lot, so what is read each second has readers of its own;
// load averages are the exception.
type gopsutilReader struct {
	root    string
	context context.Context
}

func newGopsutilReader(root string) gopsutilReader {
	if root == "" {
		root = "/"
	}
	environment := common.EnvMap{
		common.HostProcEnvKey: filepath.Join(root, "proc"),
		common.HostSysEnvKey:  filepath.Join(root, "sys"),
		common.HostEtcEnvKey:  filepath.Join(root, "etc"),
		common.HostDevEnvKey:  filepath.Join(root, "dev"),
	}
	return gopsutilReader{root, context.WithValue(context.Background(), common.EnvKey, environment)}
}

// guard turns a panic into an error: gopsutil takes fields of lines without asking whether they are there.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", errMalformed, r)
	}
}

func (r *gopsutilReader) load(files *fileReader, _ float64) (_ *Load, err error) {
	defer guard(&err)
	// Gopsutil would answer with the load of this machine where another root has no file.
	if files.root != "" && !files.exists("/proc", "loadavg") {
		return nil, &fileError{"/proc/loadavg", os.ErrNotExist}
	}
	average, err := load.AvgWithContext(r.context)
	if err != nil {
		return nil, err
	}
	return &Load{average.Load1, average.Load5, average.Load15}, nil
}

// info reads what can be read of the host.
func (r *gopsutilReader) info() (info Info) {
	err := error(nil)
	defer guard(&err) // what was read stays
	info.Kernel, _ = gopsutil.KernelVersion()
	if seconds, err := gopsutil.BootTimeWithContext(r.context); err == nil && seconds > 0 {
		info.Boot = time.Unix(int64(seconds), 0)
	}
	return info
}

// filesystems reads the space of all file systems. It may hang where a device does. What could be read comes with the
// errors of the rest.
func (r *gopsutilReader) filesystems() (all []Filesystem, err error) {
	defer guard(&err)
	partitions, err := disk.PartitionsWithContext(r.context, false)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	base := r.mountBase()
	for _, p := range chooseMounts(partitions) {
		if len(all) == filesystemsMax {
			return all, errors.Join(err, errOverLimit)
		}
		usage, usageErr := disk.UsageWithContext(r.context, filepath.Join(base, p.Mountpoint))
		if usageErr != nil {
			err = errors.Join(err, fmt.Errorf("space of %s: %w", p.Mountpoint, usageErr))
			continue
		}
		all = append(all, Filesystem{
			Device: p.Device, Mountpoint: p.Mountpoint, Type: p.Fstype,
			Size: float64(usage.Total), Used: float64(usage.Used), Available: float64(usage.Free),
			Files: float64(usage.InodesTotal), FilesFree: float64(usage.InodesFree),
		})
	}
	return all, err
}

// mountBase is where the mount points of the table begin. The table is that of process 1, whose mounts an agent in a
// container, or a unit with a private /tmp, does not share.
func (r *gopsutilReader) mountBase() string {
	root := filepath.Join(r.root, "proc", "1", "root")
	if _, err := os.Stat(root + "/."); err == nil {
		return root
	}
	return r.root
}

// chooseMounts leaves one mount for each device, the shortest path that shows all of the file system where there is one.
func chooseMounts(partitions []disk.PartitionStat) []disk.PartitionStat {
	partitions = slices.DeleteFunc(partitions, func(p disk.PartitionStat) bool { return slices.Contains(full, p.Fstype) })
	slices.SortStableFunc(partitions, func(a, b disk.PartitionStat) int {
		if partial := slices.Contains(a.Opts, "bind"); partial != slices.Contains(b.Opts, "bind") {
			if partial {
				return 1
			}
			return -1
		}
		return len(a.Mountpoint) - len(b.Mountpoint)
	})
	seen := make(map[string]bool)
	partitions = slices.DeleteFunc(partitions, func(p disk.PartitionStat) bool {
		before := seen[p.Device]
		seen[p.Device] = true
		return before
	})
	slices.SortFunc(partitions, func(a, b disk.PartitionStat) int { return strings.Compare(a.Mountpoint, b.Mountpoint) })
	return partitions
}

// spaceReading is one reading of the file systems.
type spaceReading struct {
	at  time.Time
	all []Filesystem
	err error
}

// space reads file systems aside: samples go on while a device hangs.
type space struct {
	reader  gopsutilReader
	begun   time.Time
	results chan spaceReading // of the reading under way; nil: none is
	last    spaceReading
}

// sample begins a reading where one is due, and returns what the last one found, nil where that is too old. The error is
// that of a reading that has ended since.
func (s *space) sample(now time.Time) (all []Filesystem, err error) {
	select {
	case s.last = <-s.results:
		s.results, err = nil, s.last.err
	default:
	}
	if s.results == nil && (s.begun.IsZero() || now.Sub(s.begun) >= filesystemsEvery) {
		s.begun = now
		results := make(chan spaceReading, 1) // whoever reads may have gone
		s.results = results
		reader := s.reader
		go func() {
			all, err := reader.filesystems()
			results <- spaceReading{now, all, err}
		}()
	}
	if now.Sub(s.last.at) > filesystemsStale {
		return nil, err
	}
	return s.last.all, err
}
