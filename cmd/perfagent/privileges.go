package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/perfagent/perfagent/internal/probes"
)

// privilege is one capability of those that deploy/systemd/perfagent.service grants.
type privilege struct {
	Name    string `json:"name"`
	Why     string `json:"why"`
	Needed  bool   `json:"needed"` // on this kernel
	Present bool   `json:"present"`
	names   bool   // it is for naming processes, not for loading and attaching programs
}

// privileges are those of a process on a kernel.
type privileges struct {
	All  []privilege
	Root bool // it is root, whom it does not help to be told so
}

// Capabilities as capability(7) numbers them.
const (
	capDACOverride   = 1
	capDACReadSearch = 2
	capSysPtrace     = 19
	capSysAdmin      = 21
	capSysResource   = 24
	capPerfmon       = 38
	capBPF           = 39
)

// readPrivileges tells which capabilities observing needs on this kernel, and which of them this process has.
func readPrivileges(root, release string) privileges {
	var effective uint64
	var p privileges
	status, _ := os.ReadFile(filepath.Join(root, "proc/self/status"))
	for line := range strings.Lines(string(status)) {
		if digits, ok := strings.CutPrefix(line, "CapEff:"); ok {
			effective, _ = strconv.ParseUint(strings.TrimSpace(digits), 16, 64)
		}
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok { // real, effective, saved, file system
			fields := strings.Fields(ids)
			p.Root = len(fields) > 1 && fields[1] == "0"
		}
	}
	has := func(capability int) bool { return effective>>capability&1 == 1 }
	admin := has(capSysAdmin)
	if kernelAtLeast(release, 5, 8) {
		p.All = append(p.All,
			privilege{Name: "CAP_BPF", Why: "load programs and maps", Needed: true, Present: admin || has(capBPF)},
			privilege{Name: "CAP_PERFMON", Why: "attach to tracepoints and read socket data", Needed: true, Present: admin || has(capPerfmon)})
	} else {
		p.All = append(p.All, privilege{Name: "CAP_SYS_ADMIN", Why: "load and attach programs", Needed: true, Present: admin})
	}
	p.All = append(p.All,
		privilege{Name: "CAP_SYS_RESOURCE", Why: "lock memory for maps, before Linux 5.11", Needed: !kernelAtLeast(release, 5, 11), Present: has(capSysResource)},
		privilege{Name: "CAP_SYS_PTRACE", Why: "name the processes of other users", Needed: true, Present: has(capSysPtrace), names: true},
		privilege{Name: "CAP_DAC_READ_SEARCH", Why: "read the files that name them", Needed: true, Present: has(capDACReadSearch) || has(capDACOverride), names: true})
	return p
}

// missing names what is missing of the privileges for naming processes, or of the others.
func (p *privileges) missing(names bool) []string {
	var missing []string
	for _, one := range p.All {
		if one.Needed && !one.Present && one.names == names {
			missing = append(missing, one.Name)
		}
	}
	return missing
}

// gaps is what is not visible for want of privileges, in the words of run, check and the agent's health. Where nothing loads,
// its reason has named the privileges for that.
func (p *privileges) gaps(loads bool) []probes.Gap {
	var gaps []probes.Gap
	if missing := p.missing(false); loads && len(missing) > 0 {
		gaps = append(gaps, probes.Gap{What: "what needs " + strings.Join(missing, ", "), Why: "not among the agent's capabilities"})
	}
	if missing := p.missing(true); len(missing) > 0 {
		gaps = append(gaps, probes.Gap{What: "names of processes of other users", Why: "without " + strings.Join(missing, " and ")})
	}
	return gaps
}

// remedy is what helps against missing privileges.
func (p *privileges) remedy() string {
	if p.Root {
		return "give this container or service these capabilities"
	}
	return "run as root, or give the service these capabilities"
}
