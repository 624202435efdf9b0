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

// manyEndpoints makes a million exchanges over many endpoints and looks at the agent's memory.
func (b *bench) manyEndpoints() (err error) {
	script, err := endpointScript(b.server.Dir)
	if err != nil {
		return err
	}
	a, err := agent.Start(agent.Options{Ports: []int{b.server.Port}, NoTrace: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()
	load, err := startWrk(b.server, script, time.Hour, "/")
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
	b.add(fmt.Sprintf("endpoints after %.0f exchanges over %d", total, endpoints), fmt.Sprintf("%.0f", m.Sum("perfagent_endpoints")),
		fmt.Sprintf(">= %d", endpoints), total < million || m.Sum("perfagent_endpoints") < endpoints)
	b.add("resident memory after them (highest)", fmt.Sprintf("%.1f MiB", peak), fmt.Sprintf("<= %d MiB", limitBusyMiB), peak > limitBusyMiB)
	b.add("lost", strings.Join(append(m.Lost(), fmt.Sprintf("%.0f in all", m.Sum("perfagent_exchanges_lost_total"))), " "), "= 0",
		m.Sum("perfagent_exchanges_lost_total") != 0)
	return nil
}

// endpointScript writes a wrk script that asks for the paths in turn. They hold no digits, which a router could take
// for identifiers.
func endpointScript(dir string) (string, error) {
	text := `
local requests, n = {}, 0
local words = {"user", "order", "invoice", "setting", "role", "report", "export", "token", "session", "webhook", "plan", "quota", "account"}
function init()
  for i = 0, COUNT - 1 do -- words of an API, which stay routes of their own
    local a, b, c = i % 13, math.floor(i / 13) % 13, math.floor(i / 169) % 13
    requests[i + 1] = wrk.format("GET", "/many/" .. words[a + 1] .. "/" .. words[b + 1] .. "/" .. words[c + 1])
  end
end
function request()
  n = n % COUNT + 1
  return requests[n]
end
`
	path := filepath.Join(dir, "endpoints.lua")
	return path, os.WriteFile(path, []byte(strings.ReplaceAll(text, "COUNT", fmt.Sprint(endpoints))), 0o644)
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
