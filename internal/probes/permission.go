package probes

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// neededCapabilities are the capabilities with which BPF programs can be loaded and attached; CAP_SYS_ADMIN stands for both.
var neededCapabilities = []struct {
	name string
	bit  int
}{
	{"CAP_BPF", unix.CAP_BPF},
	{"CAP_PERFMON", unix.CAP_PERFMON},
}

// missingCapabilities names those of the needed capabilities that are not in a set.
func missingCapabilities(effective uint64) []string {
	var missing []string
	for _, c := range neededCapabilities {
		if effective&(1<<c.bit|1<<unix.CAP_SYS_ADMIN) == 0 {
			missing = append(missing, c.name)
		}
	}
	return missing
}

// effectiveCapabilities returns this thread's, or all where the kernel does not say.
func effectiveCapabilities() uint64 {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // of 32 bits each
	if unix.Capget(&header, &data[0]) != nil {
		return ^uint64(0)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
}

// lockdownMode finds the mode in force, which stands in brackets: "none [integrity] confidentiality".
var lockdownMode = regexp.MustCompile(`\[(integrity|confidentiality)\]`)

// lockdown returns the mode of the kernel's lockdown; "" for none.
func lockdown() string {
	data, _ := os.ReadFile("/sys/kernel/security/lockdown")
	if m := lockdownMode.FindSubmatch(data); m != nil {
		return string(m[1])
	}
	return ""
}

// denied tells whether the kernel refused for want of a permission. EACCES comes from the verifier as well, which has then
// looked at the program.
func denied(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, os.ErrPermission) && !rejected(err)
}

// deniedWhy says as much as is known of why one hook was refused.
func deniedWhy(missing []string, lockdown string) string {
	switch {
	case len(missing) > 0:
		return "permission denied: without " + strings.Join(missing, " and ")
	case lockdown != "":
		return "permission denied by this kernel, whose lockdown is in the mode " + lockdown
	}
	return "permission denied by this kernel, although no capability is missing"
}

// privilegeError explains the failure of a step without which nothing works, where permission was denied.
func privilegeError(step string, err error) error {
	if !denied(err) {
		return fmt.Errorf("%s: %w", step, err)
	}
	return privilegeErrorOf(step, missingCapabilities(effectiveCapabilities()), os.Geteuid() == 0)
}

// privilegeErrorOf leaves out the text of the original error: it may advise what does not help. Nor does it help root to be
// told to become that.
func privilegeErrorOf(step string, missing []string, root bool) error {
	if len(missing) == 0 {
		return fmt.Errorf("%s: %w, although no capability is missing: a security module, a seccomp filter as containers have, "+
			"a user namespace or the kernel's lockdown forbids it", step, unix.EPERM)
	}
	remedy := "run as root, or grant what is missing"
	if root {
		remedy = "grant what is missing to this container or service"
	}
	return fmt.Errorf("%s: %w without %s: %s", step, unix.EPERM, strings.Join(missing, " and "), remedy)
}
