package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/host"
)

// fakeRoot returns the root of a host of which check reads these files.
func fakeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func useBackends(t *testing.T, backends ...backendReport) {
	t.Helper()
	original, decoded, hostHooks := checkBackends, tlsDecoded, checkHost
	checkBackends = func(context.Context, *Config) ([]backendReport, error) { return backends, nil }
	tlsDecoded = map[string]bool{"go": true}
	checkHost = func() (backendReport, error) {
		return backendReport{Name: "host", Available: true, Hooks: []hookReport{{Name: "tp_sched_switch", Available: true}}}, nil
	}
	t.Cleanup(func() { checkBackends, tlsDecoded, checkHost = original, decoded, hostHooks })
}

// Shows what makes a host degraded, one host per case, and that the text says why.
func TestCheck(t *testing.T) {
	healthy := map[string]string{
		"proc/sys/kernel/osrelease":    "6.1.0-18-amd64\n",
		"proc/self/status":             "Name:\tx\nCapEff:\t000001ffffffffff\n",
		"sys/kernel/btf/vmlinux":       "",
		"sys/kernel/security/lockdown": "none [integrity] confidentiality\n",
	}
	complete := backendReport{Name: "tracepoint", Available: true, Hooks: []hookReport{{Name: "inet_sock_set_state", Available: true}}}
	partial := backendReport{Name: "fentry", Available: true, Hooks: []hookReport{
		{Name: "unix_stream_recvmsg", Reason: "no such function", Loss: "exchanges on Unix sockets"},
		{Name: "other", Reason: "no such function"},
	}}
	broken := backendReport{Name: "kprobe", Reason: "lockdown"}
	repeated := backendReport{Name: "kprobe", Reason: "kprobe: not there", Hooks: []hookReport{{Name: "a", Reason: "not there"},
		{Name: "b", Available: true}, {Name: "c", Reason: "not there"}, {Name: "d", Reason: "something else"}}}
	ssl := "7f00-7f01 r-xp 0 08:01 12 /usr/lib/libssl.so.3\n"
	for _, c := range []struct {
		name     string
		change   map[string]string // files over healthy; "-" removes one
		backends []backendReport
		settings func(*Config)
		degraded bool
		text     string
	}{
		{"healthy", nil, []backendReport{complete, broken}, nil, false, "backend     tracepoint\n"},
		{"lockdown is shown", nil, []backendReport{complete}, nil, false, "lockdown integrity"},
		{"no backend", nil, []backendReport{broken}, nil, true, "no backend is available: kprobe: lockdown"},
		{"forced backend", nil, []backendReport{complete, broken}, func(c *Config) { c.Capture.Backend = "kprobe" }, true, "backend     none\n"},
		{"hook missing", nil, []backendReport{partial}, nil, true, "! exchanges on Unix sockets: unix_stream_recvmsg: no such function\n"},
		{"host switched off", nil, []backendReport{complete}, func(c *Config) { c.Capture.Host = "off" }, false, "host       missing: switched off by --capture.host\n"},
		{"no BTF", map[string]string{"sys/kernel/btf/vmlinux": "-"}, []backendReport{complete}, nil, true, "CONFIG_DEBUG_INFO_BTF=y"},
		{"no privileges", map[string]string{"proc/self/status": "CapEff:\t0\n"}, []backendReport{complete}, nil, true, "MISSING  CAP_BPF"},
		{"old kernel", map[string]string{"proc/sys/kernel/osrelease": "5.4.0\n"}, []backendReport{complete}, nil, false, "CAP_SYS_RESOURCE"},
		{"confidentiality", map[string]string{"sys/kernel/security/lockdown": "none integrity [confidentiality]\n"}, []backendReport{complete}, nil, true, "lockdown=integrity"},
		{"TLS", map[string]string{"proc/9/maps": ssl}, []backendReport{complete}, nil, true, "not looked into, by processes: openssl (1)"},
		{"TLS switched off", map[string]string{"proc/9/maps": ssl}, []backendReport{complete}, func(c *Config) { c.Capture.TLS = "off" }, false, "openssl /usr/lib/libssl.so.3 (1 process)"},
		{"TLS of others", map[string]string{"proc/9/maps": ssl}, []backendReport{complete}, func(c *Config) { c.Capture.PIDs = []uint32{8} }, false, "TLS libraries\n  in use by none of 0 processes\n"},
		{"several libraries", map[string]string{"proc/9/maps": ssl + "7f02-7f03 r-xp 0 08:01 13 /usr/lib/libgnutls.so.30\n", "proc/8/maps": "7f00-7f01 r-xp 0 08:01 12 /bin/x\n"},
			[]backendReport{complete}, nil, true, "  in use by 1 of 2 processes\n"},
		{"same reason", nil, []backendReport{complete, repeated}, nil, false,
			"  kprobe     missing: kprobe: not there\n    a, c missing\n    b ok\n    d missing: something else\n  host "},
		{"names", map[string]string{"proc/self/status": "Uid:\t7\t7\t7\t7\nCapEff:\t000000c000000000\n"}, []backendReport{complete}, nil, true,
			"! names of processes of other users: without CAP_SYS_PTRACE and\n      CAP_DAC_READ_SEARCH; run as root, or give the service these capabilities\n"},
		{"names for root", map[string]string{"proc/self/status": "Uid:\t0\t0\t0\t0\nCapEff:\t000000c000000002\n"}, []backendReport{complete}, nil, true,
			"! names of processes of other users: without CAP_SYS_PTRACE; give this\n      container or service these capabilities\n"},
		{"not used", map[string]string{"proc/self/status": "CapEff:\t000000c000080004\n"}, []backendReport{complete}, nil, false,
			"not used CAP_SYS_RESOURCE: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			useBackends(t, c.backends...)
			files := make(map[string]string)
			for _, layer := range []map[string]string{healthy, c.change} {
				for name, content := range layer {
					if files[name] = content; content == "-" {
						delete(files, name)
					}
				}
			}
			config := defaultConfig()
			if c.settings != nil {
				c.settings(config)
			}
			report, err := check(context.Background(), fakeRoot(t, files), config)
			if err != nil {
				t.Fatal(err)
			}
			var text, document bytes.Buffer
			if err := report.write(&text, "text"); err != nil {
				t.Fatal(err)
			}
			if report.Degraded != c.degraded || !strings.Contains(text.String(), c.text) {
				t.Errorf("degraded %v, want %v and %q in:\n%s", report.Degraded, c.degraded, c.text, text.String())
			}
			for line := range strings.Lines(text.String()) {
				if len(line) > 81 {
					t.Errorf("line of %d characters: %s", len(line)-1, line)
				}
			}
			if err := report.write(&document, "json"); err != nil || !json.Valid(document.Bytes()) || strings.Contains(document.String(), "null") {
				t.Errorf("JSON: %v\n%s", err, document.String())
			}
		})
	}
}

// Shows that the numbers of processes add up where some could not be looked into.
func TestCheckUnreadable(t *testing.T) {
	report := checkReport{TLS: host.LibraryReport{Processes: 6, Unreadable: 1}}
	report.explainTLS("auto")
	var text bytes.Buffer
	if err := report.write(&text, "text"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nTLS libraries\n  in use by none of 5 processes whose mappings can be read; those of 1 more\n",
		"\n  - TLS libraries of 1 process: their mappings cannot be read\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

// Shows that the capabilities of the unit of systemd are those that check lists.
func TestPrivilegesOfUnit(t *testing.T) {
	unit, err := os.ReadFile("../../deploy/systemd/perfagent.service")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(unit), "\nAmbientCapabilities=")
	line, _, _ = strings.Cut(line, "\n")
	granted := strings.Fields(line)
	var listed []string
	held := readPrivileges(t.TempDir(), "6.1.0")
	for _, p := range held.All {
		listed = append(listed, p.Name)
	}
	slices.Sort(granted)
	slices.Sort(listed)
	if !slices.Equal(granted, listed) {
		t.Errorf("granted %v, listed %v", granted, listed)
	}
}

// Shows that a hook of the host that is missing is named with its reason, and degrades the host.
func TestCheckHost(t *testing.T) {
	useBackends(t, backendReport{Name: "tracepoint", Available: true})
	checkHost = func() (backendReport, error) {
		return backendReport{Name: "host", Available: true, Hooks: []hookReport{
			{Name: "tp_sched_switch", Reason: "no CONFIG_SCHED_INFO", Loss: "how long tasks wait for a processor"}}}, nil
	}
	report, err := check(context.Background(), fakeRoot(t, map[string]string{"proc/self/status": "CapEff:\t0\n"}), defaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	want := blindSpot{What: "how long tasks wait for a processor", Why: "tp_sched_switch: no CONFIG_SCHED_INFO", Expected: true}
	if !report.Degraded || !slices.Contains(report.NotVisible, want) {
		t.Errorf("degraded %v, not visible: %+v", report.Degraded, report.NotVisible)
	}
}

// Shows that the last line says in one sentence what the host can show, and that a loss has the hooks that are missing for it by
// name, wherever they stand, in the words that run uses.
func TestCheckSummary(t *testing.T) {
	sweep := hookReport{Name: "sweep", Reason: "permission denied", Loss: "silent connections"}
	arrival := hookReport{Name: "arrival", Reason: "not there", Loss: "queue times"}
	fine := hookReport{Name: "states", Available: true}
	with := func(hooks ...hookReport) backendReport {
		return backendReport{Name: "tracepoint", Available: true, Hooks: append(hooks, fine)}
	}
	none := map[string]string{"proc/self/status": "CapEff:\t0\n", "sys/kernel/btf/vmlinux": ""}
	root := map[string]string{"proc/self/status": "CapEff:\t000001ffffffffff\n", "sys/kernel/btf/vmlinux": ""}
	for _, c := range []struct {
		files    map[string]string
		backends []backendReport
		err      error
		gaps     []string
		want     string
	}{
		{root, []backendReport{with()}, nil, nil, "This host shows HTTP/1 exchanges and its resources."},
		{root, []backendReport{with(sweep)}, nil, []string{"silent connections: sweep: permission denied"},
			"This host shows HTTP/1 exchanges and its resources, not what is marked !."},
		{root, []backendReport{with(sweep, arrival)}, nil,
			[]string{"silent connections: sweep: permission denied", "queue times: arrival: not there"},
			"This host shows HTTP/1 exchanges and its resources, not the 2 things marked !."},
		{root, []backendReport{{Name: "kprobe", Reason: "x"}}, nil, nil, "This host shows no exchanges: no backend works."},
		{root, nil, errors.New("x"), nil, "This host shows no exchanges: BPF programs cannot be loaded."},
		{none, nil, errors.New("x"), nil, "This host shows no exchanges: CAP_BPF, CAP_PERFMON are missing."},
		{map[string]string{"proc/self/status": root["proc/self/status"]}, nil, errors.New("x"), nil,
			"This host shows no exchanges: its kernel does not describe its types."},
	} {
		useBackends(t, c.backends...)
		if c.err != nil {
			checkBackends = func(context.Context, *Config) ([]backendReport, error) { return nil, c.err }
		}
		report, err := check(context.Background(), fakeRoot(t, c.files), defaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if err := report.write(&text, "text"); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(text.String()), "\n")
		if last := lines[len(lines)-1]; last != c.want || report.Summary != c.want || len(last) > 80 {
			t.Errorf("the last line is %q (%q), expected %q", last, report.Summary, c.want)
		}
		for _, gap := range c.gaps {
			if !slices.ContainsFunc(report.NotVisible, func(s blindSpot) bool { return s.What+": "+s.Why == gap && s.Expected }) {
				t.Errorf("%q is not among %+v", gap, report.NotVisible)
			}
		}
	}
}
