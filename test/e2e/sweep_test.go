package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// sweeps are the ways to visit every connection, by the program of each, and what is refused so that it is taken.
var sweeps = []struct{ program, refused string }{
	{"run_sweep", "iter_sweep,iter_connections"},
	{"iter_sweep", "run_sweep,run_connections"},
}

// What only the passing of time tells comes out the same by either way to visit the connections: a request without a
// response is a timeout, once, and a response whose connection falls silent is reported within a second.
func TestE2ESweeps(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	for _, way := range sweeps {
		t.Run(way.program, func(t *testing.T) {
			s := startServer(t, servers.Options{Kind: servers.Raw})
			a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{"--capture.timeout=1s"},
				Env: []string{"PERFAGENT_REFUSE_PROGRAMS=" + way.refused}})
			requireProbe(t, a, way.program)
			b := newBook(t, a)
			silent := b.dial(s, client.Options{})
			b.do(silent, s, client.Request{})
			waiting := b.dial(s, client.Options{})
			r := client.Request{ID: b.id(), Target: "/never"}
			if _, err := waiting.Write(r.Head()); err != nil {
				t.Fatal(err)
			}
			b.expectUnanswered(r, s, "timeout")
			b.checkWithin(time.Second + visibleTimeout)
			silent.Close()
			waiting.Close()
			b.settle(s)
			balance(t, a, b)
		})
	}
}

// requireProbe skips the test where this kernel does not have a program, or forbids it, and fails where the agent does not
// say why it is missing.
func requireProbe(t *testing.T, a *agent.Agent, program string) {
	t.Helper()
	m, err := a.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	if m.Sum("perfagent_probe_attached", "probe", program) == 1 {
		return
	}
	if program == "run_sweep" && kernelWalks(t) {
		t.Fatalf("%s is not attached, although this kernel has what it needs: %s", program, a.Log())
	}
	if !m.Has("perfagent_probe_attached", "probe", program) || !strings.Contains(a.Log(), "not visible: the last exchange of a silent connection") {
		t.Fatalf("%s is not attached, and the agent does not say what is missing: %s", program, a.Log())
	}
	t.Skipf("this kernel does not take %s", program)
}

// kernelWalks tells whether programs can walk a map by themselves, which no kernel refuses that has it: since 5.13.
func kernelWalks(t *testing.T) bool {
	t.Helper()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(uts.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 5 || major == 5 && minor >= 13
}
