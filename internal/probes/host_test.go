package probes

import (
	"testing"
)

func openHost(t *testing.T, p *Probe) *Host {
	t.Helper()
	requireRoot(t)
	h, err := OpenHost(HostOptions{Connections: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func readHost(t *testing.T, h *Host) *HostReading {
	t.Helper()
	r, err := h.Read()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// All hooks of the host side attach on this kernel, their maps stay small, and opening, reading and closing leave no
// descriptor behind.
func TestHostOpenClose(t *testing.T) {
	requireRoot(t)
	var before int
	for round := range 3 {
		p, err := Open(Options{Ports: []uint16{unusedPort}, Connections: 16, Heads: 16, RingBytes: 1 << 16})
		if err != nil {
			t.Fatal(err)
		}
		h, err := OpenHost(HostOptions{Connections: p})
		if err != nil {
			t.Fatal(err)
		}
		for _, hook := range h.Hooks {
			if !hook.Attached {
				t.Errorf("%s: %s", hook.Program, hook.Reason)
			}
		}
		if len(h.Missing) > 0 {
			t.Errorf("missing: %q", h.Missing)
		}
		readHost(t, h)
		if bytes := total(h.Maps()); bytes == 0 || bytes > 288<<10 {
			t.Errorf("maps of %d bytes: expected at most 288 KiB", bytes)
		}
		if round == 0 {
			for _, m := range h.Maps() {
				t.Log(m.Name, m.MaxEntries, m.Bytes)
			}
			t.Log("all", total(h.Maps()))
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		switch n := descriptors(t); {
		case round == 0:
			before = n
		case n != before:
			t.Errorf("round %d: %d descriptors, %d before", round, n, before)
		}
	}
}
