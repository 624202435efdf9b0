package host

import (
	"bytes"
	"testing"
)

// hostFileParsers are the parsers of what a sample reads, each with a file that it understands.
var hostFileParsers = []struct {
	name  string
	valid string
	parse func([]byte) bool
}{
	{"stat", "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4\nintr 1\n", func(b []byte) bool { _, _, ok := parseCPU(b); return ok }},
	{"meminfo", "MemTotal: 8 kB\nMemAvailable: 4 kB\nSwapTotal: 2 kB\nSwapFree: 1 kB\n", func(b []byte) bool { _, ok := parseMeminfo(b); return ok }},
	{"vmstat", "pswpin 1\npswpout 2\npgmajfault 3\noom_kill 4\n", func(b []byte) bool { _, ok := parseVmstat(b); return ok }},
	{"pressure", "some avg10=0.00 avg60=1.25 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", func(b []byte) bool { _, ok := parsePressure(b); return ok }},
	{"diskstats", "8 0 sda 1 2 3 4 5 6 7 8 9 10 11", func(b []byte) bool { _, ok := parseDiskstats(b); return ok }},
	{"net/dev", "  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", func(b []byte) bool { _, _, ok := parseNetDev(b); return ok }},
	{"net/snmp", "Ip: A\nIp: 1\nTcp: ActiveOpens CurrEstab\nTcp: 1 2\n", func(b []byte) bool { t := unknownTCP(); return parseNetTables(b, &t, 1) }},
	{"net/sockstat", "sockets: used 1\nTCP: inuse 1 orphan 0 tw 2 alloc 3 mem 4\n", func(b []byte) bool { _, ok := parseSockstat(b, "TCP:"); return ok }},
	{"PID/stat", "1 (a) b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22\n", func(b []byte) bool { _, ok := parseProcessStat(b); return ok }},
	{"PID/io", "rchar: 1\nread_bytes: 2\nwrite_bytes: 3\n", func(b []byte) bool { _, ok := parseProcessIO(b); return ok }},
	{"PID/limits", "Limit Soft\nMax open files            1024                 524288               files\n", func(b []byte) bool { _, ok := parseFilesMax(b); return ok }},
	{"PID/task/TID/status", "Name: a\nvoluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches:\t2\n", func(b []byte) bool { _, ok := parseSwitches(b); return ok }},
	{"cpu.stat", "usage_usec 1\nnr_periods 2\nnr_throttled 3\nthrottled_usec 4\n", func(b []byte) bool { _, ok := parseCPUStat(b); return ok }},
	{"memory.events", "low 0\noom_kill 1\n", func(b []byte) bool { _, ok := parseOOMKills(b); return ok }},
	{"io.stat", "8:0 rbytes=1 wbytes=2 rios=3\n", func(b []byte) bool { _, _, ok := parseIOStat(b); return ok }},
	{"blkio", "8:0 Read 1\n8:0 Write 2\nTotal 3\n", func(b []byte) bool { _, _, ok := parseBlkio(b); return ok }},
	{"pids.max", "max\n", func(b []byte) bool { _, ok := parseLimit(b); return ok }},
}

// Shows that each parser understands its file, and takes one that is cut anywhere without reading beyond it.
func TestTruncatedHostFiles(t *testing.T) {
	for _, p := range hostFileParsers {
		if !p.parse([]byte(p.valid)) {
			t.Errorf("%s was not understood", p.name)
		}
		for n := range len(p.valid) {
			p.parse(bytes.Clone([]byte(p.valid[:n]))[:n:n])
		}
		if p.parse([]byte("\x00 \x00")) {
			t.Errorf("%s: garbage was understood", p.name)
		}
	}
}

// Shows that parsers allocate nothing.
func TestHostFileParsersAllocateNothing(t *testing.T) {
	for _, p := range hostFileParsers {
		if p.name == "pressure" {
			continue // its result has a pointer
		}
		data := []byte(p.valid)
		if n := testing.AllocsPerRun(10, func() { p.parse(data) }); n > 0 {
			t.Errorf("%s: %v allocations", p.name, n)
		}
	}
}

// Shows the numbers that the parsers take.
func TestNumbers(t *testing.T) {
	for text, want := range map[string]uint64{"0": 0, "18446744073709551615": 1<<64 - 1, "007": 7} {
		if n, ok := parseUint([]byte(text)); n != want || !ok {
			t.Errorf("%s: %d, %v", text, n, ok)
		}
	}
	for _, text := range []string{"", "-1", "1.0", "18446744073709551616", "99999999999999999999999", "1x"} {
		if n, ok := parseUint([]byte(text)); ok {
			t.Errorf("%q is %d", text, n)
		}
	}
	for text, want := range map[string]float64{"0.00": 0, "12.34": 12.34, "100": 100, "1.5": 1.5} {
		if n, ok := parseHundredths([]byte(text)); n != want || !ok {
			t.Errorf("%s: %v, %v", text, n, ok)
		}
	}
	for _, text := range []string{"", ".", "1.", "1.234", "x.00", "9999999999.00", "-1.00", "1.-1"} {
		if n, ok := parseHundredths([]byte(text)); ok {
			t.Errorf("%q is %v", text, n)
		}
	}
}

// Shows that no bytes of the kernel's files bring a parser down, and that no cgroup path leaves its mount.
func FuzzHostFiles(f *testing.F) {
	for _, p := range hostFileParsers {
		f.Add([]byte(p.valid))
	}
	f.Add([]byte("4:memory,cpu:/a\n0::/b/../../c\n"))
	f.Add([]byte("30 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n31 30 0:28 /x /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, p := range hostFileParsers {
			p.parse(data)
		}
		paths, mounts := parseCgroupPaths(data), parseCgroupMounts(data)
		mounts.places(&paths)
		mounts = parseCgroupMounts([]byte("30 23 0:27 / /m rw - cgroup2 cgroup2 rw\n31 30 0:28 / /m/v1 rw - cgroup cgroup rw,cpu,cpuacct,memory,blkio,pids\n"))
		places, _ := mounts.places(&paths)
		for _, place := range places {
			if place.dir != "" && !bytes.HasPrefix([]byte(place.dir), []byte("/m/")) {
				t.Errorf("place %q of %q", place.dir, data)
			}
		}
	})
}
