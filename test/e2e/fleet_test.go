package e2e

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

// hostNet is a host's network: a network namespace without a name. It ends with the last process and the last
// descriptor in it, also when the test is killed.
type hostNet struct{ file *os.File }

// newHostNet makes a network that has a loopback interface, and nothing else.
func newHostNet(t *testing.T) *hostNet {
	t.Helper()
	n := &hostNet{}
	var err error
	elsewhere(t, func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() {
		n.file, err = os.Open("/proc/thread-self/ns/net")
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.file.Close() })
	n.ip(t, "link set lo up")
	return n
}

// in runs f with the network of n: sockets that it opens and programs that it starts itself, not in other goroutines,
// are on that host.
func (n *hostNet) in(t *testing.T, f func()) {
	t.Helper()
	elsewhere(t, func() error { return unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET) }, f)
}

// elsewhere runs f on a thread that move has put into another network, and takes the thread back. It must not end instead: programs
// that were ever started from it, by any test, end with their thread.
func elsewhere(t *testing.T, move func() error, f func()) {
	t.Helper()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	if err := move(); err != nil {
		t.Fatalf("another network: %v", err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Errorf("back to the own network: %v", err)
			return // the thread is of no use to others
		}
		runtime.UnlockOSThread()
	}()
	f()
}

// ip runs a command of ip(8) on the host.
func (n *hostNet) ip(t *testing.T, command string) {
	t.Helper()
	n.in(t, func() {
		output, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput()
		unknown := strings.Contains(string(output), "Unknown device type") || strings.Contains(string(output), "Operation not supported")
		if err != nil && unknown {
			t.Skipf("this kernel has no virtual networks: ip %s: %s", command, output)
		}
		if err != nil {
			t.Fatalf("ip %s: %v: %s", command, err, output)
		}
	})
}

// client returns an HTTP client that connects from the host.
func (n *hostNet) client(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 48, DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		n.in(t, func() { conn, err = (&net.Dialer{}).DialContext(ctx, network, address) })
		return conn, err
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: servers.Slow(time.Minute)}
}

// newFleet makes a host that observes, 10.77.0.1, and n others on the same network, 10.77.0.2 and so on.
func newFleet(t *testing.T, n int) (observer *hostNet, hosts []*hostNet) {
	t.Helper()
	observer = newHostNet(t)
	observer.ip(t, "link add br0 type bridge")
	observer.ip(t, "addr add 10.77.0.1/24 dev br0")
	observer.ip(t, "link set br0 up")
	for i := range n {
		h := newHostNet(t)
		observer.ip(t, fmt.Sprintf("link add v%d type veth peer name eth0 netns /proc/%d/fd/%d", i, os.Getpid(), h.file.Fd()))
		observer.ip(t, fmt.Sprintf("link set v%d master br0 up", i))
		h.ip(t, "addr add "+fleetAddress(i)+"/24 dev eth0")
		h.ip(t, "link set eth0 up")
		hosts = append(hosts, h)
	}
	return observer, hosts
}

func fleetAddress(i int) string { return fmt.Sprintf("10.77.0.%d", 2+i) }

// member is a host of the fleet with a server and an agent.
type member struct {
	*hostNet
	server *servers.Server
	agent  *agent.Agent
}

func startMember(t *testing.T, h *hostNet, address string) *member {
	t.Helper()
	m := &member{hostNet: h}
	h.in(t, func() {
		// The same address everywhere: only the process tells the hosts' connections apart.
		m.server = startServer(t, servers.Options{Kind: servers.Go, Port: 8080})
		m.agent = startAgent(t, agent.Options{PIDs: []int{m.server.PID()}, Host: address})
	})
	return m
}

// load requests each of the sleeps once, 48 at a time.
func (m *member) load(t *testing.T, milliseconds []int) {
	t.Helper()
	httpClient := m.client(t)
	next := make(chan int)
	var clients sync.WaitGroup
	for range 48 {
		clients.Go(func() {
			for ms := range next {
				response, err := httpClient.Get(fmt.Sprintf("http://127.0.0.1:8080/sleep/%d", ms))
				if err != nil {
					t.Error(err)
					continue
				}
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		})
	}
	for _, ms := range milliseconds {
		next <- ms
	}
	close(next)
	clients.Wait()
}

// sleeps returns count durations from low to high, evenly.
func sleeps(count, low, high int) []int {
	all := make([]int, count)
	for i := range all {
		all[i] = low + i*(high-low)/count
	}
	return all
}

// rank returns the value of rank ceil(q*n).
func rank(sorted []float64, q float64) float64 {
	return sorted[int(math.Ceil(q*float64(len(sorted))))-1]
}

// bucketBase is the width of a native histogram's bucket: its upper bound divided by its lower one.
var bucketBase = math.Pow(2, 1./32)

// inBuckets returns the two answers that versions of Prometheus give for the value below which rank durations lie, when they
// know the durations by their buckets: within one they are spread evenly over its logarithms or, which gives more, its values.
func inBuckets(sorted []float64, rank float64) (logarithmic, even float64) {
	rank = min(max(rank, 1), float64(len(sorted)))
	within := sorted[int(math.Ceil(rank))-1]
	upper := math.Pow(bucketBase, math.Ceil(math.Log(within)/math.Log(bucketBase)))
	lower := upper / bucketBase
	first := sort.Search(len(sorted), func(i int) bool { return sorted[i] > lower })
	behind := sort.Search(len(sorted), func(i int) bool { return sorted[i] > upper })
	part := (rank - float64(first)) / float64(behind-first)
	return lower * math.Pow(bucketBase, part), lower + part*(upper-lower)
}

// Three hosts, each with a server of its own speed and an agent of its own; one real Prometheus scrapes all three. Its
// quantiles over the fleet are those of all single durations together, which the agents' traces tell: what a histogram of these
// durations gives, up to a duration on the border of a bucket, and so within the width of a bucket. No average of the hosts'
// own quantiles gives that.
func TestE2EFleetQuantiles(t *testing.T) {
	requireRoot(t)
	missing(t, "ip")
	// The slowest 5 % are spread over an octave, and the p99 lies among them.
	workloads := [][]int{sleeps(3001, 1, 4), sleeps(1399, 10, 30), sleeps(241, 400, 800)}
	observer, hosts := newFleet(t, len(workloads))
	var members []*member
	var targets []string
	for i, h := range hosts {
		m := startMember(t, h, fleetAddress(i))
		members, targets = append(members, m), append(targets, m.agent.Address)
	}
	var p prometheus
	observer.in(t, func() {
		p = startPrometheusOn(t, prometheusOptions{address: "10.77.0.1:9090", targets: targets,
			args: []string{"--enable-feature=native-histograms"}})
	})
	p.client = observer.client(t)

	var loads sync.WaitGroup
	for i, m := range members {
		loads.Go(func() { m.load(t, workloads[i]) })
	}
	loads.Wait()

	const series = "http_server_request_duration_seconds"
	var pooled []float64
	var total int
	var average float64 // of the hosts' own p99
	for i, m := range members {
		var own []float64
		if !until(visibleTimeout, func() bool { return len(m.agent.Exchanges()) >= len(workloads[i]) }) {
			t.Errorf("host %d: %d exchanges are traced, %d were made", i, len(m.agent.Exchanges()), len(workloads[i]))
		}
		for _, e := range m.agent.Exchanges() {
			if e.PID != m.server.PID() || e.DurationNS == nil {
				t.Fatalf("host %d reports %+v", i, e)
			}
			own = append(own, float64(*e.DurationNS)/1e9)
		}
		n := float64(len(workloads[i]))
		p.expect(t, fmt.Sprintf("sum(histogram_count(%s{instance=%q}))", series, m.agent.Address), n, n)
		slices.Sort(own)
		average += rank(own, .99) / float64(len(members))
		pooled, total = append(pooled, own...), total+len(workloads[i])
	}
	if len(pooled) != total || t.Failed() {
		t.Fatalf("%d exchanges are traced, %d were made", len(pooled), total)
	}
	slices.Sort(pooled)
	for _, q := range []float64{.99, .5, .9, 1} {
		query, want := fmt.Sprintf("histogram_quantile(%g, sum(%s))", q, series), rank(pooled, q)
		got, err := p.query(query)
		if err != nil || math.Abs(got-want) > (bucketBase-1)*want {
			t.Errorf("%s: %g, %v; the raw durations have %g", query, got, err, want)
		}
		low, _ := inBuckets(pooled, q*float64(total)-1)
		_, high := inBuckets(pooled, q*float64(total)+1)
		if got < low || got > high {
			t.Errorf("%s: %g; a histogram of the raw durations has %g to %g", query, got, low, high)
		}
		t.Logf("quantile %g: Prometheus %.6f s, raw %.6f s, off by %+.2f %%", q, got, want, 100*(got-want)/want)
	}
	if want := rank(pooled, .99); math.Abs(average-want) < .2*want {
		t.Errorf("the average of the hosts' own p99, %g, is that of the fleet, %g: the workload shows nothing", average, want)
	}
}
