package probes

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// transient tells whether what kept a hook from being attached may pass: the kernel was short of something, or busy with the same
// function. A lack of privileges, and what the kernel does not have, are not.
func transient(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINTR)
}

// IsTransient tells whether what an error of Open or OpenHost says may pass.
func IsTransient(err error) bool { return transient(err) }

// Missing tells of how many duties something is not seen for a reason that may pass. It may be called from any goroutine.
func (p *Probe) Missing() int { return len(missing(p.HookStates())) }

// missing are the duties that a hook is missing of, for a reason that may pass.
func missing(hooks []Hook) (duties []string) {
	for _, h := range hooks {
		if h.Loss != "" && h.Transient && !slices.Contains(duties, h.Duty) {
			duties = append(duties, h.Duty)
		}
	}
	return duties
}

// HookStates is a copy of the state of all hooks. It may be called from any goroutine.
func (p *Probe) HookStates() []Hook {
	p.changing.Lock()
	defer p.changing.Unlock()
	return slices.Clone(p.Hooks)
}

// Again tries once more to fulfil the duties of Missing. It may be called from any goroutine, also while Run reads.
func (p *Probe) Again() error {
	p.changing.Lock()
	defer p.changing.Unlock()
	duties := missing(p.Hooks)
	if len(duties) == 0 || p.maps == nil { // closed
		return nil
	}
	var err error
	if p.kernel, err = openKernel(); err != nil {
		return err
	}
	defer p.settle()
	if p.spec, err = p.configure(); err != nil {
		return err
	}
	for _, d := range duties {
		p.Hooks = slices.DeleteFunc(slices.Clone(p.Hooks), func(h Hook) bool { return h.Duty == d })
		p.attachDuty(duty(d))
	}
	return nil
}

// Missing is that of a Probe.
func (h *Host) Missing() int { return len(missing(h.HookStates())) }

// HookStates is that of a Probe.
func (h *Host) HookStates() []Hook {
	h.changing.Lock()
	defer h.changing.Unlock()
	return slices.Clone(h.Hooks)
}

// Again is that of a Probe, for the goroutine that reads.
func (h *Host) Again() error {
	h.changing.Lock()
	defer h.changing.Unlock()
	duties := missing(h.Hooks)
	if len(duties) == 0 || h.maps == nil {
		return nil
	}
	var err error
	if h.kernel, err = openKernel(); err != nil {
		return err
	}
	defer h.settle()
	if _, err = h.configure(); err != nil {
		return err
	}
	for _, d := range hostDuties {
		if slices.Contains(duties, string(d.duty)) {
			h.Hooks = slices.DeleteFunc(slices.Clone(h.Hooks), func(k Hook) bool { return k.Duty == string(d.duty) })
			h.fulfil(d.duty, d.programs, d.missing)
		}
	}
	return nil
}
