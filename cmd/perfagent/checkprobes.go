package main

import (
	"context"
	"slices"

	"github.com/perfagent/perfagent/internal/probes"
)

func init() {
	checkBackends = checkKernel
	checkHost = checkHostHooks
}

// checkKernel implements checkBackends.
func checkKernel(ctx context.Context, config *Config) ([]backendReport, error) {
	found, err := probes.Check(ctx, config.Capture.PIDs)
	if err != nil {
		return nil, err
	}
	var reports []backendReport
	for _, b := range found {
		r := backendReport{Name: b.Name, Available: b.Err == nil}
		if b.Err != nil {
			r.Reason = b.Err.Error()
		}
		r.addHooks(b.Hooks)
		reports = append(reports, r)
	}
	return reports, nil
}

// checkHostHooks implements checkHost.
func checkHostHooks() (backendReport, error) {
	found, err := probes.CheckHost()
	if err != nil {
		return backendReport{}, err
	}
	r := backendReport{Name: found.Name}
	r.addHooks(found.Hooks)
	r.Available = slices.ContainsFunc(r.Hooks, func(h hookReport) bool { return h.Available })
	return r, nil
}

func (r *backendReport) addHooks(hooks []probes.Hook) {
	for _, h := range hooks {
		r.Hooks = append(r.Hooks, hookReport{Name: h.Program, Available: h.Attached, Reason: h.Reason, Loss: h.Loss})
	}
}

// gaps is what is not visible with a backend, in the words of run.
func (r *backendReport) gaps() []probes.Gap {
	var hooks []probes.Hook
	for _, h := range r.Hooks {
		hooks = append(hooks, probes.Hook{Program: h.Name, Attached: h.Available, Reason: h.Reason, Loss: h.Loss})
	}
	return probes.Gaps(hooks)
}
