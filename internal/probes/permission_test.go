package probes

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A hook that permission was denied for is said to be just that, with what is missing for it, and is never taken for one that
// the verifier rejected; nor is advice passed on that does not help.
func TestReason(t *testing.T) {
	all := ^uint64(0)
	without := func(capabilities ...int) uint64 {
		set := all &^ (1 << unix.CAP_SYS_ADMIN)
		for _, c := range capabilities {
			set &^= 1 << c
		}
		return set
	}
	for want, got := range map[string]string{
		"permission denied: without CAP_BPF and CAP_PERFMON":                                             deniedWhy(missingCapabilities(without(unix.CAP_BPF, unix.CAP_PERFMON)), ""),
		"permission denied: without CAP_PERFMON":                                                         deniedWhy(missingCapabilities(without(unix.CAP_PERFMON)), "integrity"),
		"permission denied by this kernel, whose lockdown is in the mode integrity":                      deniedWhy(missingCapabilities(without()), "integrity"),
		"permission denied by this kernel, although no capability is missing":                            deniedWhy(missingCapabilities(1<<unix.CAP_SYS_ADMIN), ""),
		"x: operation not permitted without CAP_BPF: run as root, or grant what is missing":              privilegeErrorOf("x", []string{"CAP_BPF"}, false).Error(),
		"x: operation not permitted without CAP_BPF: grant what is missing to this container or service": privilegeErrorOf("x", []string{"CAP_BPF"}, true).Error(),
	} {
		if got != want {
			t.Errorf("got %q, expected %q", got, want)
		}
	}
	if err := privilegeErrorOf("x", nil, true); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "seccomp") {
		t.Error(err)
	}
	verifier := func(err error, log ...string) error {
		return fmt.Errorf("load: %w", &ebpf.VerifierError{Cause: err, Log: log})
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("load program: %w (MEMLOCK may be too low, consider rlimit.RemoveMemlock)", unix.EPERM), "permission denied"},
		{verifier(unix.EPERM), "permission denied"},
		{fmt.Errorf("open a file of tracefs: %w", unix.EACCES), "permission denied"},
		{verifier(unix.EACCES, "R1 invalid mem access"), "rejected by the verifier"},
		{verifier(unix.EINVAL, "unknown func"), "rejected by the verifier"},
	} {
		if got := reason(c.err); !strings.HasPrefix(got, c.want) || strings.Contains(got, "MEMLOCK") {
			t.Errorf("%v: %q, expected %q", c.err, got, c.want)
		}
	}
	if err := privilegeError("x", verifier(unix.EACCES, "R1 invalid")); !rejected(err) {
		t.Errorf("the verifier's reason is lost: %v", err)
	}
}

// A loss has the hooks that are missing for it by name, wherever these stand in the list, each reason once; hooks whose part
// another one fulfils are none.
func TestGaps(t *testing.T) {
	hooks := []Hook{
		{Program: "iter_sweep", Reason: "denied", Loss: "silent connections"},
		{Program: "fentry_a", Reason: "not there"}, // kprobe_a does it
		{Program: "kprobe_a", Attached: true},
		{Program: "fentry_u", Reason: "denied", Loss: "Unix"},
		{Program: "fentry_v", Reason: "denied", Loss: "Unix"},
		{Program: "kprobe_u", Reason: "not there", Loss: "Unix"},
		{Program: "last", Attached: true, Loss: "never"},
	}
	want := "[silent connections: iter_sweep: denied Unix: fentry_u, fentry_v: denied; kprobe_u: not there]"
	if got := fmt.Sprint(Gaps(hooks)); got != want {
		t.Errorf("got %s, expected %s", got, want)
	}
}

// What a duty that nothing fulfils means is said at the hooks of that duty, and only there.
func TestLoss(t *testing.T) {
	var p Probe
	missing := errors.New("not there")
	p.note(choice{duty: dutyTraffic, hooks: tracing("traffic")}, nil)
	p.note(choice{duty: dutySweep, hooks: tracing("sweep_a")}, missing)
	p.note(choice{duty: dutySweep, hooks: tracing("sweep_b")}, missing)
	p.lose(dutySweep)
	p.note(choice{duty: dutyArrival, hooks: tracing("arrival_a")}, missing)
	p.note(choice{duty: dutyArrival, hooks: tracing("arrival_b")}, nil)
	want := fmt.Sprint([]Gap{{missingMeans[dutySweep], "sweep_a, sweep_b: not there"}})
	if got := fmt.Sprint(Gaps(p.Hooks)); got != want {
		t.Errorf("got %s, expected %s", got, want)
	}
}

// Locked memory bounds maps before Linux 5.11 only.
func TestBefore(t *testing.T) {
	for release, want := range map[string]bool{"5.10.0-46-amd64": true, "5.11.0": false, "6.1.0-50-amd64": false, "4.19": true, "10.1": false} {
		if got, err := before(release, 5, 11); err != nil || got != want {
			t.Errorf("%s: %v, %v", release, got, err)
		}
	}
}
