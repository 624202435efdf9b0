package probes

import (
	"context"
	"errors"
)

// BackendReport says what one backend can do on this host.
type BackendReport struct {
	Name  string
	Err   error // why it cannot run; nil when it can
	Hooks []Hook
}

// Check tries each backend, best first. The programs are attached for an instant each and see no traffic: they are bound
// to a port that nothing uses. What is needed may depend on the processes that are chosen. An error means that no BPF program
// can be loaded at all; it names the remedy.
func Check(ctx context.Context, pids []uint32) ([]BackendReport, error) {
	var reports []BackendReport
	for _, name := range Backends {
		if ctx.Err() != nil {
			return reports, ctx.Err()
		}
		p, err := open(Options{Backend: name, PIDs: pids, Ports: []uint16{1}, Connections: 16, Heads: 16, RingBytes: 1 << 16})
		if err != nil && !errors.Is(err, ErrUnsupported) {
			return nil, err
		}
		r := BackendReport{Name: name, Err: err}
		if p != nil {
			r.Hooks = p.Hooks
			if err := p.Close(); err != nil {
				return nil, err
			}
		}
		reports = append(reports, r)
	}
	return reports, nil
}
