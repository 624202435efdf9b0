package probes

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
)

func TestOpenBackends(t *testing.T) {
	for _, b := range Backends {
		t.Run(b, func(t *testing.T) {
			p, err := Open(Options{Backend: b, Ports: []uint16{1}})
			var ve *ebpf.VerifierError
			if errors.As(err, &ve) {
				n := len(ve.Log)
				for _, l := range ve.Log[max(0, n-60):] {
					t.Log(l)
				}
			}
			if err != nil {
				t.Log(err)
				return
			}
			for _, h := range p.Hooks {
				t.Log(h)
			}
			for _, c := range p.colls {
				for n, pr := range c.Programs {
					i, _ := pr.Info()
					v, _ := i.VerifiedInstructions()
					j, _ := i.JitedSize()
					t.Log(n, v, j)
				}
			}
			t.Log(p.Missing)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
