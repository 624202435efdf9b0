package probes

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// unusedPort is a port that nothing serves: the programs are attached and see nothing.
const unusedPort = 1

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
}

// Every backend loads and attaches, with both filters and either sweep, or says that this kernel does not support it; no program is
// ever rejected by the verifier. What PERFAGENT_TEST_LOADS names, backends and sweeps, this kernel has to support; system calls can
// be observed everywhere.
func TestBackends(t *testing.T) {
	requireRoot(t)
	required := append(strings.Fields(os.Getenv("PERFAGENT_TEST_LOADS")), BackendSyscall)
	for _, backend := range Backends {
		t.Run(backend, func(t *testing.T) { testBackend(t, backend, required, trafficProgRunSweep, trafficProgIterSweep) })
	}
	// The sweep is the same with all of them: here with the one that is there and loads soonest.
	t.Run(trafficProgIterSweep, func(t *testing.T) {
		testBackend(t, BackendSyscall, required, trafficProgIterSweep, trafficProgRunSweep)
	})
}

// testBackend opens a backend with one sweep and not the other.
func testBackend(t *testing.T, backend string, required []string, sweep, refused string) {
	t.Helper()
	p, err := Open(Options{Backend: backend, HTTP2: true, Ports: []uint16{unusedPort}, PIDs: []uint32{uint32(os.Getpid())}, Refuse: []string{refused}})
	if err != nil && (rejected(err) || !errors.Is(err, ErrUnsupported) || slices.Contains(required, backend)) {
		t.Fatalf("%+v", err)
	}
	if err != nil {
		t.Skip(err)
	}
	if p.Backend != backend {
		t.Errorf("backend %q, asked for %q", p.Backend, backend)
	}
	for _, h := range p.Hooks {
		if !h.Attached && (strings.HasPrefix(h.Reason, rejectedWhy) || h.Program == sweep && slices.Contains(required, sweep)) {
			t.Errorf("%s is not attached: %s", h.Program, h.Reason)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// auto takes the first backend that works, and opening, sweeping and closing leave no descriptor behind.
func TestOpenClose(t *testing.T) {
	requireRoot(t)
	var before int
	for round := range 3 {
		p, err := Open(Options{Ports: []uint16{unusedPort}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Sweep(); err != nil {
			t.Error(err)
		}
		c, err := p.Counters()
		if err != nil || c != (Counters{}) {
			t.Errorf("counters %+v, %v: expected zeros", c, err)
		}
		if bytes := total(p.Maps()); bytes == 0 || bytes > 32<<20 {
			t.Errorf("maps of %d bytes: expected at most 32 MiB", bytes)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		switch n := descriptors(t); {
		case round == 0:
			before = n // the runtime opened its own
		case n != before:
			t.Errorf("round %d: %d descriptors, %d before", round, n, before)
		}
	}
}

func total(maps []MapUse) (bytes uint64) {
	for _, m := range maps {
		bytes += m.Bytes
	}
	return bytes
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// check reports every backend, and at least one that works, with its hooks.
func TestCheck(t *testing.T) {
	requireRoot(t)
	reports, err := Check(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(reports) != len(Backends) {
		t.Fatalf("%d reports for %d backends", len(reports), len(Backends))
	}
	works := 0
	for _, r := range reports {
		if r.Err == nil {
			works++
		}
		for _, h := range r.Hooks {
			if !h.Attached && h.Reason == "" {
				t.Errorf("%s: %s is missing without a reason", r.Name, h.Program)
			}
		}
	}
	if works == 0 {
		t.Error("no backend works")
	}
}

// Settings out of range are refused with the range.
func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"head too small":  {HeadBytes: 8},
		"head too large":  {HeadBytes: 1 << 20},
		"ring":            {RingBytes: 12345},
		"too many ports":  {Ports: make([]uint16, portsMax+1)},
		"too many pids":   {PIDs: make([]uint32, pidsMax+1)},
		"unknown backend": {Backend: "magic"},
	} {
		if p, err := Open(o); err == nil {
			t.Errorf("%s: accepted", name)
			p.Close()
		}
	}
}

// Kernels older than those that were shown to bear the programs are refused, with the remedy.
func TestRefuseOld(t *testing.T) {
	for release, old := range map[string]bool{
		"5.9.16": true, "4.19.0": true, "3.10.0-1160.el7.x86_64": true,
		"5.10.0-46-amd64": false, "5.15.0-generic": false, "6.1.0-50-amd64": false, "6.12.117+deb13-amd64": false, "7.0": false, "10.2.1": false,
	} {
		if err := refuseOld(release); errors.Is(err, ErrOldKernel) != old {
			t.Errorf("%s: %v", release, err)
		}
	}
	if refuseOld("unknown") == nil {
		t.Error("a release without numbers was accepted")
	}
}

// Kernels whose trampolines do not outlive the hooks of a sleeping function offer no fentry hook, and all others.
func TestFreedTrampolines(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		k := &kernel{types: typesNamed(t, "sock", "bpf_tramp_image")}
		if !keeps {
			k.types = typesNamed(t, "sock")
		}
		for _, c := range duties {
			c.function, c.tracepoint, c.hooks = "", "", nil
			if fits := k.misfit(&c) == nil; fits != (keeps || c.backend != BackendFentry) {
				t.Errorf("trampolines kept: %v; %s by %s fits: %v", keeps, c.duty, c.backend, fits)
			}
		}
	}
}

// typesNamed returns type information with empty structs of these names.
func typesNamed(t *testing.T, names ...string) *btf.Spec {
	t.Helper()
	var types []btf.Type
	for _, name := range names {
		types = append(types, &btf.Struct{Name: name})
	}
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
