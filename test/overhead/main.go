// overhead measures what perfagent costs: the CPU time of a saturated nginx per request with no agent, with empty
// programs on the same hooks and with the full agent, rotated within one run; and the agent's own CPU time, memory,
// start and losses. It prints one table and ends with code 1 where a limit is broken.
//
// Requests per second depend on what else the machine does; the server's CPU time per request does not. It is taken
// from the scheduler's accounts of nginx' worker and nginx' own request counter, in short slices, and each variant is
// compared with the slices without an agent before and after it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

// Limits of the project.
const (
	limitServerNS      = 600  // server CPU per request over no agent
	limitCPUPerMillion = 0.35 // agent CPU seconds per million exchanges
	limitIdleMiB       = 48
	limitBusyMiB       = 64 // after a million exchanges over many endpoints
	limitHistoryMiB    = limitBusyMiB + 30
	limitMapsMiB       = 32
	limitReady         = 2 * time.Second
)

const (
	samplesPerSlice = 8
	sampleTime      = 200 * time.Millisecond
	endpoints       = 2000
	million         = 1_000_000
)

func main() {
	rounds := flag.Int("rounds", 7, "rounds of: none, empty programs, none, full agent")
	seconds := flag.Int("seconds", 30, "seconds at full rate")
	flag.Parse()
	results, err := run(*rounds, *seconds)
	broken := printTable(results)
	if err = errors.Join(err, servers.Cleanup()); err != nil {
		fmt.Fprintln(os.Stderr, "overhead:", err)
	}
	if err != nil || broken > 0 {
		os.Exit(1)
	}
}

// result is one line of the table.
type result struct {
	what, value, limit string
	broken             bool
}

func run(rounds, seconds int) (results []result, err error) {
	s, err := servers.Start(servers.Options{Kind: servers.Nginx})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	b := &bench{server: s}
	for _, part := range []func() error{
		func() error { return b.rotate(rounds) },
		func() error { return b.fullRate(seconds) },
		b.manyEndpoints,
	} {
		if err := part(); err != nil {
			return b.results, err
		}
	}
	return b.results, nil
}

type bench struct {
	server  *servers.Server
	results []result
}

func (b *bench) add(what, value, limit string, broken bool) {
	b.results = append(b.results, result{what, value, limit, broken})
}

func printTable(results []result) (broken int) {
	fmt.Println("perfagent's overhead on this machine (nginx, 2-byte answers, keep-alive, wrk -t1 -c32)")
	for _, r := range results {
		verdict := ""
		if r.limit != "" {
			verdict = "ok"
		}
		if r.broken {
			verdict = "BROKEN"
			broken++
		}
		fmt.Printf("  %-46s %-34s %-14s %s\n", r.what, r.value, r.limit, verdict)
	}
	return broken
}

// variant is a way to run the agent, or none.
type variant struct {
	name string
	env  []string
}

var (
	emptyPrograms = variant{"empty programs on the same hooks", []string{"PERFAGENT_EMPTY_PROGRAMS=1"}}
	fullAgent     = variant{"full agent", nil}
)

// rotate measures the server's CPU per request, with the variants taking turns under one load.
func (b *bench) rotate(rounds int) (err error) {
	load, err := startWrk(b.server, "", time.Hour, "/bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.Stop()) }()
	before, err := b.slice(nil)
	if err != nil {
		return err
	}
	none, differences := []float64{before}, map[string][]float64{}
	for i := range rounds {
		fmt.Fprintf(os.Stderr, "\rround %d of %d ", i+1, rounds)
		for _, v := range []variant{emptyPrograms, fullAgent} {
			with, err := b.slice(&v)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			after, err := b.slice(nil)
			if err != nil {
				return err
			}
			differences[v.name] = append(differences[v.name], with-(before+after)/2)
			// What two slices without an agent differ by is the noise.
			differences["none"] = append(differences["none"], after-before)
			before = after
			none = append(none, after)
		}
	}
	fmt.Fprintln(os.Stderr)
	low, middle, high := quartiles(none)
	b.add("server CPU per request, no agent", fmt.Sprintf("%.0f ns (%.0f to %.0f)", middle, low, high), "", false)
	low, middle, high = quartiles(differences["none"])
	b.add("  between neighbouring slices (noise)", fmt.Sprintf("%+.0f ns (%+.0f to %+.0f)", middle, low, high), "", false)
	low, middle, high = quartiles(differences[emptyPrograms.name])
	b.add("  "+emptyPrograms.name, fmt.Sprintf("%+.0f ns (%+.0f to %+.0f)", middle, low, high), "", false)
	low, middle, high = quartiles(differences[fullAgent.name])
	b.add("  "+fullAgent.name, fmt.Sprintf("%+.0f ns (%+.0f to %+.0f)", middle, low, high),
		fmt.Sprintf("<= %d ns", limitServerNS), middle > limitServerNS)
	return nil
}

// slice returns the median server CPU per request of several samples, with an agent running or none.
func (b *bench) slice(v *variant) (nanoseconds float64, err error) {
	if v != nil {
		a, err := agent.Start(agent.Options{Ports: []int{b.server.Port}, Env: v.env, NoTrace: true})
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, a.Stop()) }()
		defer func() {
			if checkErr := checkVariant(a, v); err == nil {
				err = checkErr
			}
		}()
	}
	var samples []float64
	last, err := readUsage(b.server)
	if err != nil {
		return 0, err
	}
	for range samplesPerSlice + 1 {
		time.Sleep(sampleTime)
		now, err := readUsage(b.server)
		if err != nil {
			return 0, err
		}
		if now.requests == last.requests {
			return 0, errors.New("the load has stopped")
		}
		samples = append(samples, float64(now.cpuNS-last.cpuNS)/float64(now.requests-last.requests))
		last = now
	}
	_, middle, _ := quartiles(samples[1:]) // the first one still feels the agent's start
	return middle, nil
}

// checkVariant makes sure that the variant was what its name says.
func checkVariant(a *agent.Agent, v *variant) error {
	m, err := a.Metrics()
	if err != nil {
		return err
	}
	counted := m.Sum("perfagent_exchanges_total") > 0
	if counted != (len(v.env) == 0) {
		return fmt.Errorf("exchanges counted: %t", counted)
	}
	return nil
}

func quartiles(values []float64) (low, middle, high float64) {
	if len(values) == 0 {
		return 0, 0, 0
	}
	sorted := slices.Sorted(slices.Values(values))
	at := func(p float64) float64 { return sorted[int(p*float64(len(sorted)-1)+0.5)] }
	return at(0.25), at(0.5), at(0.75)
}
