package probes

import "slices"

// Backend names, best first. They are the values of --capture.backend.
const (
	BackendAuto       = "auto"
	BackendTracepoint = "tracepoint"
	BackendFentry     = "fentry"
	BackendKprobe     = "kprobe"
	BackendSyscall    = "syscall"
)

// backendAny marks a fallback that belongs to no backend: it comes last for all of them.
const backendAny = "any"

// Backends lists every backend in the order in which auto tries them.
var Backends = []string{BackendTracepoint, BackendFentry, BackendKprobe, BackendSyscall}

// A duty is something that the kernel side has to see; a backend or a fallback fulfils it with one or more hooks.
type duty string

const (
	dutyTraffic duty = "traffic"  // bytes read and handed over
	dutySplice  duty = "sendfile" // bytes that the kernel sends from a file, before Linux 6.5
	dutyArrival duty = "arrival"  // when a request's first byte reached the socket
	dutyUnix    duty = "unix"     // Unix stream sockets
	dutyQueued  duty = "queued"   // when a request's first byte reached a Unix socket, where dutyUnix learns of sends by their return
	dutyState   duty = "state"    // connections that begin and end
	dutySweep   duty = "sweep"    // connections that fall silent
	dutyFork    duty = "fork"     // descendants of --capture.pid
)

// missingMeans says what a user does not see when nothing fulfils a duty.
var missingMeans = map[duty]string{
	dutySplice:  "responses sent by sendfile: sizes and ends are those of the head",
	dutyArrival: "queue times of requests that wait longer than 30 ms; the phase is then absent",
	dutyUnix:    "exchanges over Unix sockets",
	dutyQueued:  "durations and queue times of requests over Unix sockets that the server takes before the client's call returns",
	dutySweep:   "the last exchange of a silent connection until it moves on, and timeouts",
	dutyFork:    "processes forked after the start",
}

// A hook is one program at one point of the kernel.
type hook struct {
	program string // name in bpf/traffic.bpf.c
	symbol  string // kprobe and kretprobe: the function; "" for programs that name their target themselves
	ret     bool   // kretprobe
}

// A choice is one way to fulfil a duty: all its hooks together.
type choice struct {
	duty    duty
	backend string
	hooks   []hook
	// function, if set, must have exactly params parameters for the programs to fit.
	function string
	params   int
	// tracepoint, if set, must exist: kernels that have it have what else the programs use.
	tracepoint string
}

func tracing(programs ...string) []hook {
	hooks := make([]hook, len(programs))
	for i, p := range programs {
		hooks[i] = hook{program: p}
	}
	return hooks
}

// kprobes are the hooks of TCP's traffic, with the program that knows where tcp_recvmsg has its flags.
func kprobes(receive string) []hook {
	return []hook{
		{program: trafficProgKprobeTcpSendmsg, symbol: "tcp_sendmsg"},
		{program: trafficProgKretprobeTcpSendmsg, symbol: "tcp_sendmsg", ret: true},
		{program: receive, symbol: "tcp_recvmsg"},
		{program: trafficProgKretprobeTcpRecvmsg, symbol: "tcp_recvmsg", ret: true},
	}
}

// The traffic choices: what makes a backend.
var traffic = []choice{
	{duty: dutyTraffic, backend: BackendTracepoint, tracepoint: "tcp_sendmsg_locked", hooks: tracing(trafficProgTpSkbCopyDatagramIovec, trafficProgTpTcpSendmsgLocked)},
	{duty: dutyTraffic, backend: BackendFentry, function: "tcp_recvmsg", params: 5,
		hooks: tracing(trafficProgFentryTcpSendmsg, trafficProgFexitTcpSendmsg, trafficProgFexitTcpRecvmsg)},
	{duty: dutyTraffic, backend: BackendFentry, function: "tcp_recvmsg", params: 4,
		hooks: tracing(trafficProgFentryTcpSendmsg, trafficProgFexitTcpSendmsg, trafficProgFexitTcpRecvmsgShort)},
	{duty: dutyTraffic, backend: BackendFentry, function: "tcp_recvmsg", params: 6,
		hooks: tracing(trafficProgFentryTcpSendmsg, trafficProgFexitTcpSendmsg, trafficProgFexitTcpRecvmsgNonblock)},
	{duty: dutyTraffic, backend: BackendKprobe, function: "tcp_recvmsg", params: 5, hooks: kprobes(trafficProgKprobeTcpRecvmsg)},
	{duty: dutyTraffic, backend: BackendKprobe, function: "tcp_recvmsg", params: 4, hooks: kprobes(trafficProgKprobeTcpRecvmsg)},
	{duty: dutyTraffic, backend: BackendKprobe, function: "tcp_recvmsg", params: 6, hooks: kprobes(trafficProgKprobeTcpRecvmsgNonblock)},
	{duty: dutyTraffic, backend: BackendSyscall, hooks: tracing(trafficProgTpSysExit)},
}

// The other duties, each with its choices in the order of preference; the backend's own comes first at load.
var duties = []choice{
	{duty: dutyState, backend: BackendTracepoint, hooks: tracing(trafficProgTpInetSockSetState, trafficProgTpTcpDestroySock)},
	{duty: dutySweep, backend: backendAny, hooks: tracing(trafficProgRunSweep)},
	{duty: dutySweep, backend: backendAny, hooks: tracing(trafficProgIterSweep)},

	{duty: dutySplice, backend: BackendFentry, hooks: tracing(trafficProgFentryTcpSendpage)},
	{duty: dutySplice, backend: BackendKprobe, hooks: []hook{{program: trafficProgKprobeTcpSendpage, symbol: "tcp_sendpage"}}},

	{duty: dutyArrival, backend: BackendFentry, hooks: tracing(trafficProgFentryTcpDataReady)},
	{duty: dutyArrival, backend: BackendTracepoint, hooks: tracing(trafficProgTpSkDataReady)},
	{duty: dutyArrival, backend: BackendKprobe, hooks: []hook{{program: trafficProgKprobeTcpDataReady, symbol: "tcp_data_ready"}}},
	{duty: dutyArrival, backend: backendAny, hooks: tracing(trafficProgTpTcpProbe)},

	{duty: dutyUnix, backend: BackendFentry, hooks: tracing(trafficProgFentryUnixStreamSendmsg,
		trafficProgFexitUnixStreamSendmsg, trafficProgFexitUnixStreamRecvmsg, trafficProgFentryUnixReleaseSock)},
	{duty: dutyUnix, backend: BackendKprobe, hooks: []hook{
		{program: trafficProgKprobeUnixStreamSendmsg, symbol: "unix_stream_sendmsg"},
		{program: trafficProgKretprobeUnixStreamSendmsg, symbol: "unix_stream_sendmsg", ret: true},
		{program: trafficProgKprobeUnixStreamRecvmsg, symbol: "unix_stream_recvmsg"},
		{program: trafficProgKretprobeUnixStreamRecvmsg, symbol: "unix_stream_recvmsg", ret: true},
		{program: trafficProgKprobeUnixReleaseSock, symbol: "unix_release_sock"}}},
	{duty: dutyUnix, backend: BackendTracepoint, hooks: tracing(trafficProgTpSockSendLength, trafficProgTpSockRecvLength)},

	{duty: dutyQueued, backend: BackendFentry, hooks: tracing(trafficProgFentryUnixArrival)},
	{duty: dutyQueued, backend: BackendTracepoint, hooks: tracing(trafficProgTpSkDataReady)},
	{duty: dutyQueued, backend: BackendKprobe, hooks: []hook{{program: trafficProgKprobeUnixArrival, symbol: "unix_stream_sendmsg"}}},

	{duty: dutyFork, backend: BackendTracepoint, hooks: tracing(trafficProgTpSchedProcessFork)},
}

// choicesFor returns the ways to fulfil d, those of the given backend first.
func choicesFor(d duty, backend string) []choice {
	var own, other []choice
	for _, c := range duties {
		switch {
		case c.duty != d:
		case c.backend == backend:
			own = append(own, c)
		default:
			other = append(other, c)
		}
	}
	return append(own, other...)
}

// needed tells whether d has a meaning on this kernel, with these options and what is attached so far.
func (p *Probe) needed(d duty) bool {
	switch d {
	case dutySplice:
		return p.Backend != BackendSyscall && p.kernel.params("tcp_sendpage") >= 0
	case dutyUnix:
		return p.Backend != BackendSyscall
	case dutyQueued:
		return p.Backend == BackendSyscall || p.attached(tracing(trafficProgTpSockSendLength))
	case dutyFork:
		return len(p.opts.PIDs) > 0
	default:
		return true
	}
}

// attached tells whether all of the hooks are.
func (p *Probe) attached(hooks []hook) bool {
	for _, h := range hooks {
		if !slices.ContainsFunc(p.Hooks, func(k Hook) bool { return k.Program == h.program && k.Attached }) {
			return false
		}
	}
	return true
}
