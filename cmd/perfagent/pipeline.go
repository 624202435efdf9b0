package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/eventlog"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/notify"
	"github.com/perfagent/perfagent/internal/pipeline"
	"github.com/perfagent/perfagent/internal/probes"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/redis"
	"github.com/perfagent/perfagent/internal/report"
	"github.com/perfagent/perfagent/internal/trace"
	"github.com/perfagent/perfagent/internal/web"
)

func init() {
	startPipeline = startAgent
}

// agent is everything that runs, left to right: probes -> pipeline -> analytics, trace -> export, web.
type agent struct {
	log    *slog.Logger
	probe  atomic.Pointer[probes.Probe] // nil while there is none
	engine *analytics.Engine
	hub    *trace.Hub
	worker *pipeline.Worker
	// Beside the worker, which hands them what it sees.
	clock    *host.Clock
	sampler  *host.Sampler
	requests *analytics.Requests

	gate   *web.Gate               // before everything that is served
	host   atomic.Pointer[witness] // nil where nothing of the host is watched
	server *web.Server             // nil without listen addresses
	// What /metrics shows, and what of it goes to the history, which is nil where there is none.
	collector export.CollectorOptions
	own       *export.Own
	otlp      *export.OTLPExporter // nil without an endpoint
	events    *eventlog.Log        // nil where there is none, which takes nothing
	redis     *redis.Publisher     // nil where there is none, which takes nothing
	recent    *web.RequestsHandler

	notifier *notify.Notifier // who evaluates alerts calls its Send
	socket   string           // that trace reads from; "" where there is none

	services       atomic.Pointer[host.Services]   // of the latest reading of the services file
	history        atomic.Pointer[history.History] // nil where there is none
	query          *query.Engine                   // over it
	reports        report.Options                  // what reports are made of
	scheduled      []report.Schedule               // that are written by themselves
	alerts         atomic.Pointer[alert.Manager]   // nil where no rules are evaluated
	state          ownState                        // what it has of the storage directory
	ruleWarnings   atomic.Pointer[[]string]        // of the latest reading of rules
	started        time.Time                       // when it was
	findings       atomic.Pointer[finding.Engine]  // nil where there is none
	findingsOpened atomic.Uint64
	addresses      host.Addresses
	objectives     atomic.Pointer[[]alert.Objective] // in force
	reloadState    func() (successful bool, last time.Time)
	memoryLimit    atomic.Int64
	hostGaps       []probes.Gap // what of the host is not visible, where nothing watches it
	nameGaps       []probes.Gap // what is not for want of privileges

	recoveries recoveries // of its parts

	cancel context.CancelFunc
	failed chan error
	done   sync.WaitGroup
	serves sync.WaitGroup
	stop   context.CancelFunc // ends the exporters

	maps          sync.Mutex             // of the kernel side: the exporters outlive them
	mapsClosed    bool                   // guarded by maps
	inherited     []uint32               // processes that a kernel side before this one let through; of the reader's goroutine
	watching      *watcher               // of the host
	openHost      func() error           // where it failed for a reason that may pass; of attachMissing's goroutine
	opening       sync.Mutex             // held while the kernel side is closed or opened; guards watching
	kernelTrouble atomic.Pointer[string] // why the kernel side cannot be opened anew
	gapsMu        sync.Mutex             // guards hostGaps and nameGaps
}

func startAgent(ctx context.Context, config *Config, log *slog.Logger, hooks pipelineHooks) (_ runningAgent, err error) {
	a := &agent{log: log, started: time.Now(), failed: make(chan error, 1), hub: new(trace.Hub), gate: web.NewGate()}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.release())
		}
	}()
	a.engine = analytics.NewEngine(analytics.Options{Limits: analytics.Limits{Endpoints: config.Limits.Endpoints}})
	a.engine.SetLevels(config.Levels.options())
	a.memoryLimit.Store(config.Limits.MemoryBytes)
	filter, err := config.processFilter()
	if err != nil {
		return nil, err
	}
	filter.PIDs = nil // the kernel side filters these, also those that have ended since
	a.clock, a.sampler = host.NewClock(host.ClockOptions{}), host.NewSampler(host.SamplerOptions{})
	a.requests = analytics.NewRequests(analytics.RequestsOptions{Now: host.Monotonic})
	a.worker = pipeline.New(pipeline.Options{
		Engine: a.engine, Requests: a.requests, Hub: a.hub, Sampler: a.sampler, Clock: a.clock, Filter: filter, Services: &a.services,
		Streams: config.Limits.Streams, User: http.NewUserHeader(config.Trace.UserHeader), Timeout: config.Capture.Timeout,
	})
	a.engine.ObserveHost(a.sampler.Latest)
	a.recent = web.NewRequestsHandler(a.requests)
	a.objectives.Store(&config.Alerts.Objectives.value)
	a.showRawPaths(config.Trace.RawPaths)
	if _, err := a.loadFiles(config); err != nil {
		return nil, err
	}
	if err := config.checkStorage(); err != nil {
		return nil, err
	}
	rules, err := config.rules()
	if err != nil {
		return nil, err
	}
	a.query = a.newQuery(config)
	a.reports, a.scheduled = a.reportOptions(config), config.Reports.value
	a.reloadState = hooks.ReloadState
	if err := a.openNotifier(config); err != nil {
		return nil, err
	}
	// Listeners first: a busy port is the likeliest failure, and the cheapest to find.
	if err := a.listen(config, log, hooks); err != nil {
		return nil, err
	}
	if err := a.openEventLog(config.EventLog); err != nil {
		return nil, err
	}
	if err := a.attach(config, log); err != nil {
		return nil, err
	}
	a.watchHost(config, filter)
	a.openHistory(config)
	a.openState(config)
	a.openFindings(config)
	a.openAlerts(config, rules)
	return a, a.start(config, hooks.Checklist)
}

func (a *agent) listen(config *Config, log *slog.Logger, hooks pipelineHooks) error {
	build := readBuild()
	classic, err := export.ParseClassic(config.Metrics.ClassicHistograms)
	if err != nil {
		return err
	}
	collector := export.CollectorOptions{
		Source:   a.engine,
		Classic:  classic,
		Build:    export.BuildInfo{Version: build.Version, Revision: build.Revision, GoVersion: build.GoVersion},
		Probes:   a.probeStatus(),
		Reload:   hooks.ReloadState,
		Host:     a.sampler.Latest,
		Witness:  a.hostStats,
		Web:      a.gate.Stats,
		History:  a.historyState,
		Rules:    a.rulesState,
		Notify:   a.notifyState,
		Findings: a.findingsState,
		Parts:    export.PartsState{EventLog: a.eventLogState, Redis: a.redisState, Recoveries: a.recoveries.states},
	}
	if a.otlp, err = newOTLPExporter(config.OTLP, collector, a.otlpWorks(config.OTLP), log); err != nil {
		return err
	}
	performance := web.PerformanceOptions{Engine: a.engine, System: systemNow(a.sampler.Latest), Resources: resourcesNow(a.sampler.Latest), ServiceAt: a.serviceAt}
	if err := a.openRedis(config.Export, performance); err != nil {
		return err
	}
	if a.otlp != nil {
		collector.Exports = a.otlp.Exports
	}
	a.collector = collector
	if len(config.Web.ListenAddresses) == 0 {
		if config.Web.HealthAddress != "" {
			return errors.New("--web.health-address goes with an address to serve on: name one with --web.listen-address")
		}
		return nil
	}
	if err := checkWebConfig(config.Web.ConfigFile); err != nil {
		return err
	}
	metrics, err := export.NewMetrics(export.MetricsOptions{CollectorOptions: collector, Log: log})
	if err != nil {
		return err
	}
	options := web.ServerOptions{Addresses: config.Web.ListenAddresses, WebConfigFile: config.Web.ConfigFile,
		Protection: protection(config.Web.ConfigFile), AllowUnprotected: config.Web.AllowUnprotected, HealthAddress: config.Web.HealthAddress, Hosts: hostsOf(config.Web.ExternalURL), Gate: a.gate,
		Metrics: metrics, Requests: a.recent, Version: build.Version, Log: log}
	options.Performance = performance
	options.Agent = a.ownHealth(hooks)
	options.Alerts = a.alertsOptions()
	options.Troubleshoot = a.troubleshooting(config)
	options.API = web.APIOptions{Engine: a.query, Concurrency: config.Query.MaxConcurrency,
		Build: web.APIBuild{Version: build.Version, Revision: build.Revision, GoVersion: build.GoVersion}}
	options.Analysis = a.analysisOptions(config)
	if config.Anomalies.Mode != anomaliesOff {
		options.Findings = a.openedFindings
	}
	options.Report = web.ReportOptions{Options: a.reports}
	if config.Web.EnableLifecycle {
		options.Reload = hooks.Reload
	}
	server := web.NewServer(options)
	if err := server.Listen(); err != nil {
		return err
	}
	a.server = server
	return nil
}

// otlpWorks is what the exporter over OTLP reports to, where there is one.
func (a *agent) otlpWorks(config OTLPConfig) func(works bool) {
	if config.Endpoint == "" {
		return nil
	}
	return a.recoveries.of("otlp")
}

// ownHealth is what /monitoring/health needs to know.
func (a *agent) ownHealth(hooks pipelineHooks) web.AgentOptions {
	return web.AgentOptions{
		Source: a.engine,
		Probes: a.probeStatus(),
		Missing: func() (missing []string) {
			for _, gap := range a.gaps() {
				missing = append(missing, gap.String())
			}
			return missing
		},
		History:  a.historyTrouble,
		Notify:   a.notifyTrouble,
		Troubles: a.troubles,
		Parts:    a.recoveries.states,
		Queues: func() []web.QueueState {
			p := a.probe.Load()
			if p == nil {
				return nil
			}
			length, capacity := p.Queue()
			return []web.QueueState{{Name: "batches", Length: length, Capacity: capacity}}
		},
		Reload:       hooks.ReloadState,
		MemoryLimit:  a.memoryLimit.Load,
		WindowMemory: a.engine.WindowMemory,
		Started:      time.Now(),
	}
}

// attach opens the kernel side. Descendants are listed before and after: what is forked in between is in the second.
func (a *agent) attach(config *Config, log *slog.Logger) error {
	options := probes.Options{
		Backend:     config.Capture.Backend,
		Ports:       config.Capture.Ports,
		HeadBytes:   int(config.Capture.HeadBytes),
		Timeout:     config.Capture.Timeout,
		RingBytes:   int(config.Capture.RingBytes),
		Connections: int(config.Limits.Connections),
		Heads:       int(config.Limits.Heads),
		HTTP2:       true,
		Empty:       os.Getenv("PERFAGENT_EMPTY_PROGRAMS") == "1",
		Refuse:      refusedPrograms(),
		Broken:      brokenByTest(),
		Log:         log,
	}
	var err error
	if options.PIDs, err = descendants(config.Capture.PIDs); err != nil {
		return err
	}
	probe, err := probes.Open(options)
	if err != nil {
		return err
	}
	a.maps.Lock()
	a.probe.Store(probe)
	a.mapsClosed = false
	a.maps.Unlock()
	again, err := descendants(config.Capture.PIDs)
	if err != nil {
		return err
	}
	a.warn(probes.Gaps(probe.Hooks))
	held := readPrivileges("/", readKernel("/").Release)
	nameGaps := held.gaps(true)
	a.warn(nameGaps)
	a.gapsMu.Lock()
	a.nameGaps = nameGaps
	a.gapsMu.Unlock()
	return probe.AddPIDs(append(again, a.inherited...))
}

// refusedPrograms are BPF programs that tests have treated as if the kernel refused them (PERFAGENT_REFUSE_PROGRAMS), so that
// what takes their place is tested on every kernel.
func refusedPrograms() []string {
	return strings.FieldsFunc(os.Getenv("PERFAGENT_REFUSE_PROGRAMS"), func(r rune) bool { return r == ',' })
}

// watchHost opens the kernel side's other half. The agent does without where that fails.
func (a *agent) watchHost(config *Config, filter host.Filter) {
	if config.Capture.Host == "off" || !a.exports() || os.Getenv("PERFAGENT_EMPTY_PROGRAMS") == "1" {
		return
	}
	filter.PIDs = config.Capture.PIDs
	open := func() error {
		h, err := probes.OpenHost(a.hostOptions(config))
		if err != nil {
			return err
		}
		a.warn(probes.Gaps(h.Hooks))
		a.host.Store(newWitness(h, config.Capture.Ports, filter, &a.services, a.log))
		return nil
	}
	if err := open(); err != nil {
		gaps := []probes.Gap{{What: hostLoss, Why: err.Error()}}
		a.warn(gaps)
		a.hostGaps = gaps
		if probes.IsTransient(err) {
			a.openHost = open
		}
	}
}

// warn tells of what is not visible.
func (a *agent) warn(gaps []probes.Gap) {
	for _, gap := range gaps {
		a.log.Warn("not visible: "+gap.What, "why", gap.Why)
	}
}

// gaps is what is not visible on this host; nil before the probes are attached.
func (a *agent) gaps() []probes.Gap {
	p := a.probe.Load()
	if p == nil {
		return nil
	}
	a.gapsMu.Lock()
	names, gaps := a.nameGaps, a.hostGaps
	a.gapsMu.Unlock()
	a.maps.Lock()
	defer a.maps.Unlock()
	if w := a.host.Load(); w != nil && w.host != nil {
		gaps = probes.Gaps(w.host.HookStates())
	}
	return slices.Concat(probes.Gaps(p.HookStates()), names, gaps)
}

// exports tells whether anybody can ask for more than single exchanges.
func (a *agent) exports() bool {
	return a.server != nil || a.otlp != nil || a.redis != nil || len(a.scheduled) > 0
}

func (a *agent) hostStats() *export.HostStats {
	if w := a.host.Load(); w != nil {
		return w.stats()
	}
	return nil
}

func descendants(pids []uint32) ([]uint32, error) {
	if len(pids) == 0 {
		return nil, nil
	}
	all, err := host.Descendants("/", pids)
	if err != nil {
		return nil, fmt.Errorf("list the descendants of --capture.pid: %w", err)
	}
	return append(all, pids...), nil
}

// start sets everything moving. Exporters outlive the probes, so that the last exchanges are still handed out.
func (a *agent) start(config *Config, list checklist) error {
	var socket net.Listener
	if config.Web.Socket != "" {
		var err error
		socket, err = web.ListenSocket(config.Web.Socket)
		if errors.Is(err, web.ErrSocketBusy) {
			a.log.Warn("another agent serves the trace socket: trace shows that one's exchanges", "socket", config.Web.Socket)
		} else if err != nil {
			return err
		}
	}
	reading, cancel := context.WithCancel(context.Background())
	exporting, stop := context.WithCancel(context.Background())
	a.cancel, a.stop = cancel, stop
	a.worker.Attach(a.probe.Load())
	var handler probes.Handler = a.worker
	if file := os.Getenv("PERFAGENT_HOLD_WORKER"); file != "" {
		handler = pipeline.Held{Handler: a.worker, File: file}
	}
	a.done.Go(func() { a.observe(reading, config, handler) })
	a.done.Go(func() { a.attachMissing(reading) })
	a.done.Go(func() { a.clock.Run(reading) })
	a.done.Go(func() { a.watchFirst(reading, config, list) })
	if a.exports() {
		a.done.Go(func() { a.sampler.Run(reading) })
		a.done.Go(func() { a.engine.Run(reading) })
	}
	a.serves.Go(func() { a.notifier.Run(exporting) })
	if h := a.history.Load(); h != nil { // it takes over what the engine sealed last
		a.serves.Go(func() { h.Run(exporting) })
	}
	a.serves.Go(func() { a.runFindings(exporting) })
	if a.events != nil {
		a.serves.Go(func() { a.events.Run(exporting) })
	}
	if m := a.alerts.Load(); m != nil {
		a.serves.Go(func() { m.Run(exporting) })
		a.serves.Go(func() { a.watchObjectives(exporting) })
	}
	if len(a.scheduled) > 0 {
		a.serves.Go(func() { a.runReports(exporting, config) })
	}
	if socket != nil {
		a.socket = config.Web.Socket
		a.serves.Go(func() { a.serveTrace(exporting, a.socket, socket) })
	}
	if a.redis != nil {
		a.serves.Go(func() { a.redis.Run(exporting) })
	}
	if a.otlp != nil {
		a.serves.Go(func() { a.otlp.Run(exporting) })
	}
	if a.server != nil {
		a.server.SetReady(true)
		a.serves.Go(func() { a.fail(a.server.Serve(exporting)) })
	}
	return nil
}

// fail delivers the first error that ends the pipeline.
func (a *agent) fail(err error) {
	if err == nil {
		return
	}
	select {
	case a.failed <- err:
	default:
	}
}

// loadFiles reads the files that say how things are called, and says which (namesRead). A bad one changes nothing.
func (a *agent) loadFiles(config *Config) (read string, err error) {
	services, err := readServices(config.Services.File)
	if err != nil {
		return "", err
	}
	routes, err := readRoutes(config.Routes.File)
	if err != nil {
		return "", err
	}
	a.services.Store(services)
	a.worker.SetRoutes(routes)
	return namesRead(services, routes), nil
}

// Apply implements runningAgent.
func (a *agent) Apply(config *Config) (read string, err error) {
	rules, err := config.rules()
	if err != nil {
		return "", err
	}
	notification := config.notification()
	if err := a.notifier.Check(&notification); err != nil {
		return "", config.Notify.locate(err)
	}
	names, err := a.loadFiles(config)
	if err != nil {
		return "", err
	}
	a.notifier.Apply(notification)
	if m := a.alerts.Load(); m != nil { // what ends is told to the receivers as they are now
		a.setRules(m, rules)
	}
	a.showRawPaths(config.Trace.RawPaths)
	a.engine.SetLevels(config.Levels.options())
	if e := a.findings.Load(); e != nil {
		e.SetSensitivity(config.Anomalies.Sensitivity)
	}
	a.objectives.Store(&config.Alerts.Objectives.value)
	a.memoryLimit.Store(config.Limits.MemoryBytes)
	a.events.Reopen()
	all := slices.DeleteFunc([]string{names, rulesRead(rules)}, func(s string) bool { return s == "" })
	return strings.Join(all, ", "), nil
}

func (a *agent) showRawPaths(raw bool) {
	a.hub.SetRawPaths(raw)
	a.recent.SetRawPaths(raw)
}

// Failed implements runningAgent.
func (a *agent) Failed() <-chan error { return a.failed }

// Status implements runningAgent.
func (a *agent) Status() string {
	status := "observing HTTP exchanges with the " + a.backend() + " backend"
	if a.probe.Load() == nil {
		status = "opening the kernel side anew"
	}
	if a.server != nil {
		var addresses []string
		for _, address := range a.server.Addresses() {
			addresses = append(addresses, address.String())
		}
		status += "; metrics on " + strings.Join(addresses, ", ")
	}
	if a.otlp != nil {
		status += "; OTLP to " + a.otlp.Endpoint()
	}
	if a.redis != nil {
		status += "; Redis at " + a.redis.Address()
	}
	if a.socket != "" {
		status += "; trace on " + a.socket
	}
	return status
}

// Close implements runningAgent.
func (a *agent) Close(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- a.release() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the agent did not end in time: %w", ctx.Err())
	}
}

// release undoes as much as was done, in the order of the data.
func (a *agent) release() error {
	var err error
	if a.cancel != nil {
		a.cancel()
		a.done.Wait()
	}
	err = a.closeKernelSide()
	if a.stop != nil {
		a.stop()
		a.serves.Wait()
	} else {
		if a.server != nil {
			err = errors.Join(err, a.server.Close())
		}
		if h := a.history.Load(); h != nil {
			h.Close()
		}
		if a.notifier != nil {
			err = errors.Join(err, a.notifier.Close())
		}
		if a.events != nil {
			a.events.Close()
		}
	}
	return errors.Join(err, a.state.close())
}

func (a *agent) probeStatus() export.ProbeStatus {
	return export.ProbeStatus{Backend: a.backend, Probes: a.probeStates, Maps: a.mapStates, Undecoded: a.worker.Undecoded}
}

func (a *agent) backend() string {
	if p := a.probe.Load(); p != nil {
		return p.Backend
	}
	return ""
}

func (a *agent) probeStates() []export.ProbeState {
	var states []export.ProbeState
	p := a.probe.Load()
	if p == nil {
		return nil
	}
	for _, h := range p.HookStates() {
		states = append(states, export.ProbeState{Probe: h.Program, Backend: h.Backend, Attached: h.Attached})
	}
	a.maps.Lock()
	defer a.maps.Unlock()
	if w := a.host.Load(); w != nil && w.host != nil {
		for _, h := range w.host.HookStates() {
			states = append(states, export.ProbeState{Probe: "host_" + h.Program, Backend: h.Backend, Attached: h.Attached})
		}
	}
	return states
}

// countedMap is the one map whose entries the kernel side counts (probes.MapUse).
const countedMap = "conns"

func (a *agent) mapStates() []export.MapState {
	var states []export.MapState
	a.maps.Lock()
	defer a.maps.Unlock()
	p := a.probe.Load()
	if p == nil || a.mapsClosed {
		return nil
	}
	for _, m := range p.Maps() {
		states = append(states, export.MapState{Name: m.Name, Entries: m.Entries, EntriesUnknown: m.Name != countedMap,
			MaxEntries: m.MaxEntries, Bytes: m.Bytes})
	}
	if w := a.host.Load(); w != nil {
		states = append(states, w.maps...)
	}
	return states
}
