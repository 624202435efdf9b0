// accuracy compares what perfagent reports with the clocks of the client and of the server itself, exchange by
// exchange, and prints one row per server, case and role. It ends with code 1 if a row breaks a limit: everything
// reported once, no wrong status or outcome, no wrong field (trace context, user agent, whom a request is forwarded for, method,
// ports, sizes), and at p99 no error above max(1 %, 100 us).
//
// A clock is read before and after every socket call, so each true instant is known as an interval, and an error is
// the distance to the nearest end of that interval. Where the interval is wider than the limit, because the machine
// was busy, the sample says nothing and is left out. An instant that no clock saw has no column entry.
//
// A second table has loads of very many connections, which are only counted: everything reported in both roles, nothing lost,
// and no state left of connections that are gone.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/churn"
	"github.com/perfagent/perfagent/test/servers"
)

const (
	limitRelative = 0.01
	limitNS       = 100_000
)

func main() {
	only := flag.String("only", "", "run only rows whose server/case contains this; the server of churn rows is churn")
	short := flag.Int("short", 100_000, "short connections of each churn row")
	kept := flag.Int("kept", 20_000, "connections of the churn row that keeps them")
	flag.Parse()
	holder, err := churn.Hold()
	broken := 0
	if !holder {
		broken, err = runAll(*only, *short, *kept)
		err = errors.Join(err, servers.Cleanup())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "accuracy:", err)
	}
	if err != nil || broken > 0 {
		os.Exit(1)
	}
}

func runAll(only string, short, kept int) (broken int, err error) {
	if !strings.HasPrefix(only, "churn") {
		if broken, err = run(only); err != nil {
			return broken, err
		}
	}
	more, err := runChurn(only, short, kept)
	return broken + more, err
}

func run(only string) (broken int, err error) {
	b := &bench{only: only}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.start(); err != nil {
		return 0, err
	}
	printHeader()
	for _, c := range cases {
		for _, kind := range c.kinds {
			if b.running[kind] == nil || !strings.Contains(string(kind)+"/"+c.name, only) {
				continue
			}
			rows, err := b.measure(c, kind)
			if err != nil {
				return broken, fmt.Errorf("%s/%s: %w", kind, c.name, err)
			}
			for _, r := range rows {
				broken += r.print()
			}
		}
	}
	fmt.Printf("\nErrors in microseconds, '!' where above max(1 %%, 100 us) at p99; '-' where no clock saw both instants,\n"+
		"'?' where the machine was too busy for clocks as sharp as the limit (such samples are left out).\n"+
		"wrong = exchanges with another status or outcome, fields = with another field of the request or response.\n"+
		"first = responded - arrived (server), responded - sent (client). window = how sharp the clocks of duration are (p50).\n"+
		"%d rows break a limit.\n", broken)
	lost, err := b.lost()
	if len(lost) > 0 {
		fmt.Println("lost:", strings.Join(lost, ", "))
		broken++
	}
	return broken, errors.Join(err, b.printPrice())
}

// printPrice prints what a scrape of these servers, cases and roles costs: each sample is a series.
func (b *bench) printPrice() error {
	m, err := b.agent.Metrics()
	if err != nil {
		return err
	}
	exchanges := 0
	for _, s := range m {
		if strings.HasPrefix(s.Name, "http_") || strings.HasPrefix(s.Name, "perfagent_http_") {
			exchanges++
		}
	}
	fmt.Printf("A scrape in text has %d samples, %d of them of requests.\n", len(m), exchanges)
	return nil
}

// bench is the set of running servers and the agent that watches them.
type bench struct {
	only    string
	running map[servers.Kind]*servers.Server
	stops   []func() error
	agent   *agent.Agent
	older   map[servers.Kind]*connection // opened before the agent started
	next    int

	endConnections int // of each kind of end; 0: endConnections
}

func (b *bench) start() error {
	if err := preferSelf(); err != nil {
		return err
	}
	ports, err := b.startServers()
	if err != nil {
		return err
	}
	a, err := agent.Start(agent.Options{Ports: ports})
	if err != nil {
		return err
	}
	b.agent = a
	b.stops = append(b.stops, a.Stop)
	return b.separate()
}

// startServers starts one server of each kind, opens a connection to each, and returns their ports.
func (b *bench) startServers() ([]int, error) {
	b.running, b.older = map[servers.Kind]*servers.Server{}, map[servers.Kind]*connection{}
	var ports []int
	for _, kind := range kinds {
		options := servers.Options{Kind: kind, Clock: instrumented(kind)}
		if kind == rawIPv6 {
			options.Kind, options.Host = servers.Raw, "::1"
		}
		s, err := servers.Start(options)
		if errors.Is(err, servers.ErrNotInstalled) {
			fmt.Fprintf(os.Stderr, "without %s: %v\n", kind, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		b.running[kind] = s
		b.stops = append(b.stops, s.Stop)
		ports = append(ports, s.Port)
		if b.older[kind], err = dial(s, false); err != nil {
			return nil, err
		}
	}
	return ports, nil
}

func (b *bench) stop() error {
	var err error
	for _, stop := range slices.Backward(b.stops) {
		err = errors.Join(err, stop())
	}
	return err
}

func (b *bench) lost() ([]string, error) {
	m, err := b.agent.Metrics()
	if err != nil {
		return nil, err
	}
	return m.Lost(), nil
}

// quantity is the errors of one quantity over the exchanges of a row.
type quantity struct {
	samples []sample
	blurred int // exchanges whose clocks were less sharp than the limit
}

type sample struct{ errorNS, limitNS float64 }

func (q *quantity) add(errorNS, limit float64) {
	q.samples = append(q.samples, sample{math.Abs(errorNS), limit})
}

// at returns the error at the quantile, and whether it is above its own limit; samples are ordered by how much of
// their limit they use.
func (q *quantity) at(p float64) (us float64, above bool) {
	slices.SortFunc(q.samples, func(a, b sample) int {
		return int(math.Copysign(1, a.errorNS/a.limitNS-b.errorNS/b.limitNS))
	})
	s := q.samples[int(math.Ceil(p*float64(len(q.samples))))-1]
	return s.errorNS / 1000, s.errorNS > s.limitNS
}

// row is one line of the table.
type row struct {
	server, name, role                           string
	sent, reported, wrong, fields                int
	duration, queue, processing, transfer, first quantity
	windowsNS                                    []int64
}

const format = "%-11s %-19s %-6s %4s %4s %5s %6s  %-12s %-12s %-12s %-12s %-12s %6s\n"

func printHeader() {
	fmt.Println("perfagent against the clocks of client and server, error at p50 and p99 in microseconds")
	fmt.Printf(format, "server", "case", "role", "sent", "rep", "wrong", "fields", "duration", "queue", "processing", "transfer", "first", "window")
}

// print returns 1 where the row breaks a limit.
func (r *row) print() int {
	broken := r.reported != r.sent || r.wrong > 0 || r.fields > 0
	cells := make([]any, 0, 5)
	for _, q := range []*quantity{&r.duration, &r.queue, &r.processing, &r.transfer, &r.first} {
		if len(q.samples) == 0 {
			cells = append(cells, map[bool]string{true: "?", false: "-"}[q.blurred > 0])
			continue
		}
		p50, _ := q.at(0.5)
		p99, above := q.at(0.99)
		cell := fmt.Sprintf("%.0f %.0f", p50, p99)
		if above {
			cell += "!"
			broken = true
		}
		cells = append(cells, cell)
	}
	window := "-"
	if len(r.windowsNS) > 0 {
		slices.Sort(r.windowsNS)
		window = fmt.Sprintf("%.0f", float64(r.windowsNS[len(r.windowsNS)/2])/1000)
	}
	values := []any{r.server, r.name, r.role, fmt.Sprint(r.sent), count(r.reported, r.reported != r.sent), count(r.wrong, r.wrong > 0), count(r.fields, r.fields > 0)}
	fmt.Printf(format, append(append(values, cells...), window)...)
	if broken {
		return 1
	}
	return 0
}

// count marks a number that is wrong.
func count(n int, bad bool) string {
	if bad {
		return fmt.Sprintf("%d!", n)
	}
	return fmt.Sprint(n)
}
