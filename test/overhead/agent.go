package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/perfagent/perfagent/test/agent"
)

// fullRate runs wrk for some time with an agent and compares its count with nginx' own.
func (b *bench) fullRate(seconds int) (err error) {
	a, err := agent.Start(agent.Options{Ports: []int{b.server.Port}, NoTrace: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()
	b.add("ready", fmt.Sprintf("%.2f s", a.ReadyTime.Seconds()), "<= 2 s", a.ReadyTime > limitReady)
	if err := b.idle(a); err != nil {
		return err
	}
	before, err := readUsage(b.server)
	if err != nil {
		return err
	}
	// That reading is a request too: once the agent has it, both counters start from the same point.
	start, cpuBefore, err := counted(a)
	for deadline := time.Now().Add(visibleTimeout); err == nil && start.server < 1; start, cpuBefore, err = counted(a) {
		if time.Now().After(deadline) {
			return errors.New("the agent does not report the request for nginx' status")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	load, err := startWrk(b.server, "", time.Duration(seconds)*time.Second, "/bench")
	if err != nil {
		return err
	}
	<-load.Done()
	after, err := readUsage(b.server)
	if err != nil {
		return err
	}
	happened := float64(after.requests - before.requests)
	end, cpuAfter, err := counted(a)
	for deadline := time.Now().Add(visibleTimeout); err == nil && end.server-start.server < happened && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
		end, cpuAfter, err = counted(a)
	}
	if err != nil {
		return err
	}
	m, err := a.Metrics()
	if err != nil {
		return err
	}
	b.rate(seconds, happened, start, end, cpuAfter-cpuBefore, m)
	return nil
}

// rate adds what a run at full rate showed.
func (b *bench) rate(seconds int, happened float64, start, end counts, cpu float64, m agent.Metrics) {
	seen := end.all - start.all
	perMillion := cpu / seen * million
	b.add("agent CPU per million exchanges (both ends)", fmt.Sprintf("%.3f s (%.2f s for %.0f)", perMillion, cpu, seen),
		fmt.Sprintf("<= %.2f s", limitCPUPerMillion), perMillion > limitCPUPerMillion)
	b.add(fmt.Sprintf("requests in %d s (nginx' own count)", seconds), fmt.Sprintf("%.0f (%.0f per second)", happened, happened/float64(seconds)), "", false)
	b.add("  of them reported by the agent", fmt.Sprintf("%.0f", end.server-start.server), "= requests", end.server-start.server != happened)
	b.add("  lost", strings.Join(append(m.Lost(), fmt.Sprintf("%.0f in all", end.lost)), " "), "= 0", end.lost != 0)
}

// visibleTimeout is how long the last exchanges may take to be counted.
const visibleTimeout = 5 * time.Second

// idle adds what the agent needs before any load.
func (b *bench) idle(a *agent.Agent) error {
	m, err := a.Metrics()
	if err != nil {
		return err
	}
	resources, err := a.Resources()
	if err != nil {
		return err
	}
	resident := mib(float64(resources.Resident))
	b.add("resident memory, idle", fmt.Sprintf("%.1f MiB", resident), fmt.Sprintf("<= %d MiB", limitIdleMiB), resident > limitIdleMiB)
	maps := mib(m.Sum("perfagent_bpf_map_bytes"))
	b.add("kernel maps", fmt.Sprintf("%.1f MiB", maps), fmt.Sprintf("<= %d MiB", limitMapsMiB), maps > limitMapsMiB || maps == 0)
	return nil
}

// manyEndpoints makes a million exchanges over many endpoints and looks at the agent's memory: once without the local history,
// once with it, which is in memory here, as in an agent that was given no directory.
func (b *bench) manyEndpoints() error {
	requests, routes, err := endpointFiles(b.server.Dir)
	if err != nil {
		return err
	}
	if err := b.busy("without a history", requests, limitBusyMiB, "--routes.file="+routes, "--storage.retention=0"); err != nil {
		return err
	}
	return b.busy("with the local history", requests, limitHistoryMiB, "--routes.file="+routes)
}

// busy adds what an agent with these arguments needs while requests over many endpoints are made.
func (b *bench) busy(what, requests string, limit float64, args ...string) (err error) {
	a, err := agent.Start(agent.Options{Ports: []int{b.server.Port}, NoTrace: true, Args: args})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()
	load, err := startWrk(b.server, requests, time.Hour, "/")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.Stop()) }()
	var total, peak float64
	for deadline := time.Now().Add(5 * time.Minute); total < million && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		c, _, err := counted(a)
		if err != nil {
			return err
		}
		resources, err := a.Resources()
		if err != nil {
			return err
		}
		total, peak = c.all, max(peak, mib(float64(resources.Resident)))
	}
	m, err := a.Metrics()
	if err != nil {
		return err
	}
	known := m.Sum("perfagent_endpoints")
	b.add(fmt.Sprintf("%s: endpoints after %.0f exchanges", what, total), fmt.Sprintf("%.0f", known),
		fmt.Sprintf(">= %d", endpoints), total < million || known < endpoints)
	b.add("  resident memory, highest", fmt.Sprintf("%.1f MiB", peak), fmt.Sprintf("<= %.0f MiB", limit), peak > limit)
	b.add("  lost", strings.Join(append(m.Lost(), fmt.Sprintf("%.0f in all", m.Sum("perfagent_exchanges_lost_total"))), " "), "= 0",
		m.Sum("perfagent_exchanges_lost_total") != 0)
	return nil
}

// endpointFiles writes a wrk script that asks for many paths in turn, and the routes that make an endpoint of each: what a router
// would learn of so many words is not measured here.
func endpointFiles(dir string) (script, routes string, err error) {
	var paths, templates strings.Builder
	for i := range endpoints {
		path := fmt.Sprintf("/many/%c%c/%c%c", 'a'+i/26%26, 'a'+i%26, 'a'+i/676%26, 'a'+i/26%26)
		fmt.Fprintf(&paths, "%q, ", path)
		fmt.Fprintf(&templates, "GET %s\n", path)
	}
	text := `
local requests, n = {}, 0
local paths = {` + paths.String() + `}
function init()
  for i, path in ipairs(paths) do requests[i] = wrk.format("GET", path) end
end
function request()
  n = n % #requests + 1
  return requests[n]
end
`
	script, routes = filepath.Join(dir, "endpoints.lua"), filepath.Join(dir, "routes")
	if err := os.WriteFile(routes, []byte(templates.String()), 0o644); err != nil {
		return "", "", err
	}
	return script, routes, os.WriteFile(script, []byte(text), 0o644)
}

// counts are the agent's counters.
type counts struct{ server, all, lost float64 }

// counted reads the agent's counters and its CPU seconds.
func counted(a *agent.Agent) (counts, float64, error) {
	m, err := a.Metrics()
	if err != nil {
		return counts{}, 0, err
	}
	resources, err := a.Resources()
	return counts{
		server: m.Sum("perfagent_exchanges_total", "role", "server"),
		all:    m.Sum("perfagent_exchanges_total"),
		lost:   m.Sum("perfagent_exchanges_lost_total"),
	}, resources.CPU.Seconds(), err
}

func mib(bytes float64) float64 { return bytes / (1 << 20) }
