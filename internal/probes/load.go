// Package probes is the kernel side's home in user space: it loads the BPF programs, attaches them with the best
// backend that the kernel offers, and reads what they send.
package probes

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Bounds and defaults of the settings.
const (
	HeadBytesMin   = 64                         // a request line with a short path
	HeadBytesMax   = int(trafficLimitsHEAD_MAX) // what the kernel side has room for
	responseMax    = int(trafficLimitsRESPONSE_MAX)
	slotBytes      = int(unsafe.Offsetof(trafficSlot{}.Data)) // of a slot in front of its heads
	portsMax       = len(trafficConfig{}.Ports)
	pidsMax        = int(trafficLimitsPIDS_MAX)
	wakeBytes      = 1 << 20
	sweepIdle      = 200 * time.Millisecond
	headDefault    = 1024
	ringDefault    = 8 << 20
	connsDefault   = 65536
	headsDefault   = 6144
	timeoutDefault = 5 * time.Minute
	// The calls that a return hook keeps track of at a time: the kernel accepts no more, and `calls` holds as many.
	returnsMax = int(trafficLimitsCALLS_MAX)
)

// ErrUnsupported: no backend can run on this kernel, or not the one that was asked for.
var ErrUnsupported = errors.New("not supported by this kernel")

// Options of a Probe. The zero value observes every process and port with default sizes.
type Options struct {
	Backend     string        // one of Backends; "" and "auto": the best that loads
	Ports       []uint16      // server ports; empty: all
	PIDs        []uint32      // processes, descendants included by the caller; empty: all
	HeadBytes   int           // captured bytes of a request head; 0: 1024
	Timeout     time.Duration // deadline of a response; 0: 5 minutes
	RingBytes   int           // size of the ring buffer, a power of two; 0: 8 MiB
	Connections int           // most connections with state; 0: 65536
	Heads       int           // most captured heads of exchanges under way; 0: 6144
	HTTP2       bool          // follow connections that speak HTTP/2; else they are not decoded
	Empty       bool          // attach programs that do nothing, to measure the floor
	Refuse      []string      // programs to treat as if the kernel refused them, for tests
	// Broken is a fault that tests inject into opening and reading (program ""), and into loading a program; nil: none.
	Broken func(program string) error
	Log    *slog.Logger // nil: silent
}

// setDefaults puts the default in the place of each zero, and refuses what the kernel would: a ring that is no power of two, more ports than
// the programs compare. Head bytes are rounded up to eight.
func (o *Options) setDefaults() error {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.HeadBytes, headDefault)
	set(&o.RingBytes, ringDefault)
	set(&o.Connections, connsDefault)
	set(&o.Heads, headsDefault)
	if o.Timeout == 0 {
		o.Timeout = timeoutDefault
	}
	if o.Backend == "" {
		o.Backend = BackendAuto
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.HeadBytes < HeadBytesMin || o.HeadBytes > HeadBytesMax:
		return fmt.Errorf("head bytes %d: want %d to %d", o.HeadBytes, HeadBytesMin, HeadBytesMax)
	case len(o.Ports) > portsMax:
		return fmt.Errorf("%d ports: at most %d can be filtered", len(o.Ports), portsMax)
	case len(o.PIDs) > pidsMax:
		return fmt.Errorf("%d processes: at most %d can be filtered", len(o.PIDs), pidsMax)
	case o.RingBytes&(o.RingBytes-1) != 0 || o.RingBytes < os.Getpagesize():
		return fmt.Errorf("ring buffer of %d bytes: want a power of two of at least one page", o.RingBytes)
	}
	o.HeadBytes = (o.HeadBytes + 7) &^ 7
	return nil
}

// Hook is the state of one hook, for self-metrics and check.
type Hook struct {
	Program  string
	Duty     string
	Backend  string
	Attached bool
	Reason   string // why not attached
	Loss     string // what a user does not see without it, where no other hook can see it
	// Transient: what keeps it from being attached may pass.
	Transient bool
}

// Probe is the attached kernel side. Close detaches everything.
type Probe struct {
	Backend string
	Hooks   []Hook

	log *slog.Logger
	object
	sweep atomic.Pointer[walk]
	ring  *ring
	queue atomic.Pointer[chan *batch] // of Run
	opts  Options
	visit visit // of Connections

	lostQueue, lostParse atomic.Uint64
	dropped              []dropped // owned by the reader, like dropLogged
	dropLogged           time.Time
}

// Open loads and attaches. Errors name the cause and the remedy; ErrUnsupported means that no backend fits.
func Open(opts Options) (*Probe, error) {
	p, err := open(opts)
	if err != nil && p != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, err
}

// open is Open that, where it fails late, also returns what there is.
func open(opts Options) (*Probe, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	if opts.Broken != nil {
		if err := opts.Broken(""); err != nil {
			return nil, err
		}
	}
	kernel, err := openKernel()
	if err != nil {
		return nil, err
	}
	if err := kernel.liftMemlock(); err != nil {
		return nil, err
	}
	p := &Probe{log: opts.Log, opts: opts, object: object{kernel: kernel, refuse: opts.Refuse, broken: opts.Broken}}
	return p, p.open()
}

// open makes maps, then what fills them before the first event (processes to filter by), then attaches: the state hook first, so that no
// connection is met by a traffic hook before its beginning or end can be seen.
func (p *Probe) open() error {
	var err error
	if p.object.spec, err = p.configure(); err != nil {
		return err
	}
	if err := p.makeMaps(nil); err != nil {
		return err
	}
	if err := p.fillPIDs(); err != nil {
		return err
	}
	// The state hook runs on every kernel with BTF: when it fails, the environment is at fault, not the kernel.
	for _, c := range choicesFor(dutyState, "") {
		if err := p.attach(c); err != nil {
			return privilegeError("see connections begin and end", err)
		}
	}
	if err := p.attachTraffic(); err != nil {
		return err
	}
	for _, d := range []duty{dutySweep, dutySplice, dutyArrival, dutyUnix, dutyQueued, dutyFork} {
		if p.needed(d) {
			p.attachDuty(d)
		}
	}
	if p.ring, err = openRing(p.maps[trafficMapRing]); err != nil {
		return fmt.Errorf("open the ring buffer: %w", err)
	}
	p.settle()
	return nil
}

// configure returns the embedded object with this instance's sizes and settings.
func (p *Probe) configure() (*ebpf.CollectionSpec, error) {
	spec, err := loadTraffic()
	if err != nil {
		return nil, fmt.Errorf("read the embedded BPF object: %w", err)
	}
	o := &p.opts
	heads := spec.Maps[trafficMapHeads]
	// The size differs from the declared type's, which the kernel would compare.
	heads.ValueSize, heads.Key, heads.Value = uint32(slotBytes+o.HeadBytes+responseMax), nil, nil
	heads.MaxEntries = uint32(o.Heads)
	processors, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count the processors: %w", err)
	}
	spec.Maps[trafficMapConns].MaxEntries = uint32(o.Connections)
	if p.kernel.allocatesWhenUsed() {
		spec.Maps[trafficMapConns].Flags |= unix.BPF_F_NO_PREALLOC
	}
	spec.Maps[trafficMapRing].MaxEntries = uint32(o.RingBytes)
	if len(o.PIDs) == 0 {
		spec.Maps[trafficMapPids].MaxEntries = 1
	}
	if o.Backend == BackendTracepoint || o.Backend == BackendSyscall {
		spec.Maps[trafficMapCalls].MaxEntries = 1 // calls under way are kept by kprobes only
	}
	cfg := trafficConfig{
		DeadlineNs:  uint64(o.Timeout),
		SweepIdleNs: uint64(sweepIdle),
		SelfPid:     initPID(),
		PortsLen:    uint32(len(o.Ports)),
		HeadMax:     uint32(o.HeadBytes),
		WakeBytes:   uint32(min(wakeBytes, o.RingBytes/4)),
		Slots:       uint32(o.Heads),
		SlotsEach:   uint32(max(1, o.Heads/processors)),
	}
	copy(cfg.Ports[:], o.Ports)
	if len(o.PIDs) > 0 {
		cfg.FilterPids = 1
	}
	if o.HTTP2 {
		cfg.Http2 = 1
	}
	if o.Empty {
		cfg.Empty = 1
	}
	if err := spec.Variables[trafficVarCFG].Set(cfg); err != nil {
		return nil, fmt.Errorf("set the kernel side's configuration: %w", err)
	}
	return spec, nil
}

// initPID is this process's id in the initial PID namespace, which is what BPF programs see.
func initPID() uint32 {
	// The first NSpid is the outermost one that this /proc can show.
	data, err := os.ReadFile("/proc/self/status")
	if err == nil {
		var pid uint32
		if _, err := fmt.Sscanf(after(string(data), "NSpid:"), "%d", &pid); err == nil {
			return pid
		}
	}
	return uint32(os.Getpid())
}

func (p *Probe) fillPIDs() error { return p.AddPIDs(p.opts.PIDs) }

// AddPIDs lets more processes through the filter of Options.PIDs.
func (p *Probe) AddPIDs(pids []uint32) error {
	for _, pid := range pids {
		if err := p.maps[trafficMapPids].Put(pid, uint8(1)); err != nil {
			return fmt.Errorf("filter process %d: %w", pid, err)
		}
	}
	return nil
}

// PIDs are the processes that the filter lets through: those of Options and AddPIDs, and what they forked since.
func (p *Probe) PIDs() (pids []uint32, err error) {
	if len(p.opts.PIDs) == 0 {
		return nil, nil
	}
	var pid uint32
	var chosen uint8
	all := p.maps[trafficMapPids].Iterate()
	for all.Next(&pid, &chosen) {
		pids = append(pids, pid)
	}
	if err := all.Err(); err != nil {
		return pids, fmt.Errorf("list the processes that are filtered: %w", err)
	}
	return pids, nil
}

// attachTraffic takes the best backend, or the one that was asked for.
func (p *Probe) attachTraffic() error {
	var reasons []error
	for _, name := range Backends {
		if p.opts.Backend != BackendAuto && p.opts.Backend != name {
			continue
		}
		err := p.attachBackend(name)
		if err == nil {
			p.Backend = name
			return nil
		}
		reasons = append(reasons, refusal{name, err})
	}
	return fmt.Errorf("%w: %w", ErrUnsupported, errors.Join(reasons...))
}

// attachBackend attaches the first of a backend's traffic choices that fits this kernel.
func (p *Probe) attachBackend(name string) error {
	var misfit error
	var unfit choice
	for _, c := range traffic {
		if c.backend != name {
			continue
		}
		if misfit = p.kernel.misfit(&c); misfit != nil {
			unfit = c
			continue
		}
		err := p.attach(c)
		if err != nil && !unsupported(err) {
			p.log.Warn("backend failed", "backend", name, "err", err)
		}
		return err
	}
	p.note(unfit, misfit)
	return misfit
}

// attachDuty fulfils a duty with the first choice that works; none is not an error, but it is told.
func (p *Probe) attachDuty(d duty) {
	for _, c := range choicesFor(d, p.Backend) {
		if p.attached(c.hooks) {
			return // for another duty
		}
		if err := p.kernel.misfit(&c); err != nil {
			p.note(c, err)
			continue
		}
		err := p.attach(c)
		if err == nil {
			return
		}
		if !unsupported(err) {
			p.log.Warn("hook failed", "duty", string(d), "backend", c.backend, "err", err)
		}
	}
	p.lose(d)
}

// lose says at the hooks of a duty what is not seen without all of them.
func (p *Probe) lose(d duty) {
	for i := range p.Hooks {
		if p.Hooks[i].Duty == string(d) {
			p.Hooks[i].Loss = missingMeans[d]
		}
	}
}

// attach loads and attaches all hooks of a choice, or none.
func (p *Probe) attach(c choice) error {
	var names []string
	for _, h := range c.hooks {
		names = append(names, h.program)
	}
	programs, err := p.load(names...)
	if err != nil {
		p.note(c, err)
		return err
	}
	var links []io.Closer
	for _, h := range c.hooks {
		l, err := p.attachHook(programs[h.program], h)
		if err != nil {
			for _, l := range links {
				err = errors.Join(err, l.Close())
			}
			p.unload(programs)
			p.note(c, err)
			return fmt.Errorf("attach %s: %w", h.program, err)
		}
		links = append(links, l)
	}
	p.links = append(p.links, links...)
	p.note(c, nil)
	return nil
}

// attachHook attaches one program to where it belongs: a kprobe to a symbol, at its entry or return; the sweeps, which are run by us; all others where their section says (fentry, fexit, tracepoints with BTF).
func (p *Probe) attachHook(prog *ebpf.Program, h hook) (io.Closer, error) {
	switch {
	case h.symbol != "" && h.ret:
		return attachReturn(prog, h.symbol)
	case h.symbol != "":
		return link.Kprobe(h.symbol, prog, nil)
	case h.program == trafficProgRunSweep:
		w, err := walkBy(prog)
		return p.sweepWith(w, err)
	case h.program == trafficProgIterSweep:
		w, err := walkOver(p.maps[trafficMapConns], prog)
		return p.sweepWith(w, err)
	default:
		return link.AttachTracing(link.TracingOptions{Program: prog})
	}
}

// sweepWith takes a walk for the sweep.
func (p *Probe) sweepWith(w *walk, err error) (io.Closer, error) {
	if err != nil {
		return nil, err
	}
	p.sweep.Store(w)
	return w, nil
}

// attachReturn hooks the return of a function that threads sleep in. A call that finds none of the hook's entries free
// returns unseen, and by default there are as many of them as processors, or ten: a server with a few more threads, each
// of which waits inside for its connection's next request, would hide all others, and what is seen of them would be
// wrong. Only tracefs takes another number; without it another backend is better than this one.
func attachReturn(prog *ebpf.Program, symbol string) (link.Link, error) {
	l, err := link.Kretprobe(symbol, prog, &link.KprobeOptions{RetprobeMaxActive: returnsMax})
	if err == nil {
		return l, nil
	}
	few, fewErr := link.Kretprobe(symbol, prog, nil)
	if fewErr != nil {
		return nil, err
	}
	// Not wrapped: that a file of tracefs is missing does not mean that the kernel lacks the function.
	err = fmt.Errorf("follow many threads inside %s (is tracefs mounted and writable?): %s", symbol, err.Error())
	return nil, errors.Join(err, few.Close())
}

func (p *Probe) note(c choice, err error) {
	for _, h := range c.hooks {
		n := Hook{Program: h.program, Duty: string(c.duty), Backend: c.backend, Attached: err == nil}
		if err != nil {
			n.Reason, n.Transient = reason(err), transient(err)
		}
		p.Hooks = append(p.Hooks, n)
	}
}

// Close detaches every program and frees every map, once Run has returned. What was not read is lost.
func (p *Probe) Close() error {
	p.changing.Lock()
	defer p.changing.Unlock()
	var errs []error
	if p.ring != nil {
		errs = append(errs, p.ring.close())
	}
	p.ring = nil
	errs = append(errs, p.object.close())
	return errors.Join(errs...)
}

// Sweep lets the kernel side report connections that fell silent and requests past their deadline.
func (p *Probe) Sweep() error {
	sweep := p.sweep.Load()
	if sweep == nil {
		return nil
	}
	if err := sweep.run(); err != nil {
		return fmt.Errorf("sweep connections: %w", err)
	}
	return nil
}

// unsupported tells whether err means that the kernel lacks something, after the state hook has shown that privileges
// suffice: then EPERM is this kernel's policy. EACCES is the verifier's: a bug of ours.
func unsupported(err error) bool {
	return errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, btf.ErrNotFound) || errors.Is(err, os.ErrNotExist) ||
		errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EBUSY)
}

// reason is the short form of why a hook is missing.
func reason(err error) string {
	switch {
	case denied(err):
		return deniedWhy(missingCapabilities(effectiveCapabilities()), lockdown())
	case rejected(err):
		return rejectedWhy + err.Error()
	case errors.Is(err, btf.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return "this kernel does not have it"
	case errors.Is(err, ebpf.ErrNotSupported):
		return "not supported by this kernel"
	default:
		return err.Error()
	}
}

// rejectedWhy is in front of what the verifier says.
const rejectedWhy = "rejected by the verifier: "

// rejected tells whether the verifier has looked at a program and refused it.
func rejected(err error) bool {
	var ve *ebpf.VerifierError
	return errors.As(err, &ve)
}

// refusal is why a backend cannot be used, in the words of reason.
type refusal struct {
	backend string
	err     error
}

func (r refusal) Error() string { return r.backend + ": " + reason(r.err) }
func (r refusal) Unwrap() error { return r.err }
