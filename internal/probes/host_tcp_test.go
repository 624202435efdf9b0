package probes

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// peerVariable makes the test's program a server or a client: the host side does not count the test's own connections.
const peerVariable = "PERFAGENT_TEST_PEER"

func TestMain(m *testing.M) {
	switch role, address, _ := strings.Cut(os.Getenv(peerVariable), " "); role {
	case "server":
		servePeer(address, func(c net.Conn) {
			io.Copy(c, c)
			c.Close()
		})
	case "mute":
		servePeer(address, func(net.Conn) { select {} })
	case "client":
		commandPeer(address)
	default:
		os.Exit(m.Run())
	}
}

// servePeer serves, and says at which address.
func servePeer(address string, handle func(net.Conn)) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		go handle(c)
	}
}

// commandPeer follows commands on standard input: open and close connections, one after the other, and exchange bytes.
func commandPeer(address string) {
	var open []net.Conn
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var verb string
		var n int
		fmt.Sscan(in.Text(), &verb, &n)
		answer := "done"
		switch verb {
		case "open":
			for range n {
				c, err := net.Dial("tcp", address)
				if err != nil {
					answer = err.Error()
					continue
				}
				open = append(open, c)
			}
		case "exchange": // n bytes over each connection
			for _, c := range open {
				go c.Write(make([]byte, n))
				if _, err := io.CopyN(io.Discard, c, int64(n)); err != nil {
					answer = err.Error()
				}
			}
		case "fill": // n bytes each, whether they are read or not
			for _, c := range open {
				go c.Write(make([]byte, n))
			}
		case "close", "reset":
			for _, c := range open {
				if verb == "reset" {
					c.(*net.TCPConn).SetLinger(0)
				}
				c.Close()
			}
			open = nil
		case "inherit": // close them; a child that has copies closes the last of each
			child := exec.Command("cat")
			wait, err := child.StdinPipe()
			for _, c := range open {
				file, fileErr := c.(*net.TCPConn).File()
				err = errors.Join(err, fileErr)
				child.ExtraFiles = append(child.ExtraFiles, file)
			}
			if err = errors.Join(err, child.Start()); err == nil {
				for i, c := range open {
					c.Close()
					child.ExtraFiles[i].Close()
				}
				wait.Close()
				err = child.Wait()
			}
			if open = nil; err != nil {
				answer = err.Error()
			}
		}
		fmt.Println(answer)
	}
}

// peer is another process of this program.
type peer struct {
	t   *testing.T
	cmd *exec.Cmd
	pid uint32
	in  io.Writer
	out *bufio.Reader
}

// startPeer starts a server or a client, behind a command such as ip netns exec, which becomes it.
func startPeer(t *testing.T, role, address string, behind ...string) *peer {
	t.Helper()
	args := append(behind, os.Args[0])
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), peerVariable+"="+role+" "+address)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &peer{t, cmd, uint32(cmd.Process.Pid), in, bufio.NewReader(out)}
}

func (p *peer) answer() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func (p *peer) do(command string) string {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		p.t.Fatal(err)
	}
	return p.answer()
}

func (p *peer) must(command string) {
	p.t.Helper()
	if a := p.do(command); a != "done" {
		p.t.Fatalf("%s: %s", command, a)
	}
}

// openHostOf is openHost with a probe that follows the connections of one port, and looks at this one and the others only: what
// else this machine connects to would otherwise take the places of the test's own connections (OWNERS_MAX).
func openHostOf(t *testing.T, address string, others ...string) *Host {
	t.Helper()
	requireRoot(t)
	options := HostOptions{Ports: []uint16{portOf(t, address)}}
	for _, other := range others {
		options.Ports = append(options.Ports, portOf(t, other))
	}
	p, err := Open(Options{Ports: []uint16{portOf(t, address)}, Connections: 256, Heads: 16, RingBytes: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	options.Connections = p
	return openHostWith(t, options)
}

// Each connect, close and reset is counted once, on both sides, for the process that it belongs to: with a server that
// listened before the start, and with one that came later.
func TestHostTCP(t *testing.T) {
	requireRoot(t)
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("server late %v", late), func(t *testing.T) {
			server := startPeer(t, "server", "127.0.0.1:0")
			address := server.answer()
			later, closed := freeAddress(t), freeAddress(t)
			h, unfiltered := openHostOf(t, address, later, closed), openHostWith(t, HostOptions{})
			if late {
				server = startPeer(t, "server", later)
				address = server.answer()
			}
			client := startPeer(t, "client", address)
			readHost(t, h)
			client.must("open 23")
			client.must("exchange 100")
			client.must("close")
			client.must("open 3")
			client.must("exchange 100")
			client.must("reset")
			refused := startPeer(t, "client", closed)
			if a := refused.do("open 5"); !strings.Contains(a, "refused") {
				t.Fatal(a)
			}
			sum := make(map[uint32]*TCPHealth)
			waitFor(t, "the last close", func() bool {
				for pid, health := range readHost(t, h).TCP {
					addHealth(sum, pid, health)
				}
				return sum[server.pid] != nil && sum[server.pid].RTT.Count() >= 26
			})
			c, s, r := *sum[client.pid], *sum[server.pid], *sum[refused.pid]
			for _, check := range []struct {
				what      string
				got, want uint64
			}{
				{"client connects", c.Connect.Count(), 26}, {"client failed connects", c.ConnectsFailed, 0},
				{"client round trip times", c.RTT.Count(), 26}, {"client resets sent", c.ResetsSent, 3},
				{"client resets received", c.ResetsReceived, 0},
				{"server connects", s.Connect.Count(), 0}, {"server round trip times", s.RTT.Count(), 26},
				{"server resets sent", s.ResetsSent, 0}, {"server resets received", s.ResetsReceived, 3},
				{"refused connects", r.Connect.Count(), 0}, {"refused failed connects", r.ConnectsFailed, 5},
				{"refused resets received", r.ResetsReceived, 5}, {"refused round trip times", r.RTT.Count(), 0},
			} {
				if check.got != check.want {
					t.Errorf("%s: %d, want %d", check.what, check.got, check.want)
				}
			}
			if c.Connect.SumNS == 0 || countAbove(&c.Connect, time.Second) > 0 {
				t.Errorf("connect times on loopback: %v", c.Connect)
			}
			// Only since Linux 6.10 (19822a980e19) does the kernel tell of resets without a socket.
			// They have no port, so that who chose ports does not see them.
			nobody := readHost(t, unfiltered).TCP[0]
			if kernelSince(t, 6, 10) && nobody.ResetsSent < 5 {
				t.Errorf("resets without a socket: %+v, want at least 5", nobody)
			}
		})
	}
}

// A connection belongs to the process that opened it, also where the last copy of its descriptor is closed by another one, as
// between fork and exec.
func TestHostInheritedConnections(t *testing.T) {
	requireRoot(t)
	server := startPeer(t, "server", "127.0.0.1:0")
	address := server.answer()
	h := openHostOf(t, address)
	client := startPeer(t, "client", address)
	readHost(t, h)
	client.must("open 7")
	client.must("exchange 100")
	client.must("inherit")
	sum := make(map[uint32]*TCPHealth)
	waitFor(t, "the last close", func() bool {
		for pid, health := range readHost(t, h).TCP {
			addHealth(sum, pid, health)
		}
		return sum[server.pid] != nil && sum[server.pid].RTT.Count() >= 7
	})
	for pid, s := range sum {
		switch {
		case (pid == client.pid || pid == server.pid) && s.RTT.Count() == 7:
		case pid == 0 && s.RTT.Count() == 0:
		default:
			t.Errorf("process %d has %d round trip times; the client is %d, the server %d", pid, s.RTT.Count(), client.pid, server.pid)
		}
	}
}

// With ports chosen, connections to and from others leave no trace, and those of the chosen one are all there: also closes
// that give back their port first, and resets in both directions.
func TestHostTCPPorts(t *testing.T) {
	requireRoot(t)
	server, other := startPeer(t, "server", "127.0.0.1:0"), startPeer(t, "server", "127.0.0.1:0")
	address, otherAddress := server.answer(), other.answer()
	h, err := OpenHost(HostOptions{Ports: []uint16{portOf(t, address)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	client, otherClient := startPeer(t, "client", address), startPeer(t, "client", otherAddress)
	refused := startPeer(t, "client", freeAddress(t))
	for _, c := range []*peer{otherClient, client} {
		c.must("open 23")
		c.must("exchange 100")
		c.must("close")
		c.must("open 3")
		c.must("exchange 100")
		c.must("reset")
	}
	refused.do("open 5")
	sum := make(map[uint32]*TCPHealth)
	waitFor(t, "the last close", func() bool {
		for pid, health := range readHost(t, h).TCP {
			addHealth(sum, pid, health)
		}
		return sum[server.pid] != nil && sum[server.pid].RTT.Count() >= 26
	})
	c, s := sum[client.pid], sum[server.pid]
	if c == nil || c.Connect.Count() != 26 || c.RTT.Count() != 26 || c.ResetsSent != 3 || s.RTT.Count() != 26 || s.ResetsReceived != 3 {
		t.Errorf("client %+v, server %+v", c, s)
	}
	for pid, health := range sum {
		if pid != client.pid && pid != server.pid && (pid != 0 || *health != TCPHealth{}) {
			t.Errorf("process %d (the other server is %d, its client %d) has %+v", pid, other.pid, otherClient.pid, health)
		}
	}
}

// kernelSince tells whether the kernel is that release or a later one.
func kernelSince(t *testing.T, major, minor int) bool {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var a, b int
	if _, err := fmt.Sscanf(string(release), "%d.%d", &a, &b); err != nil {
		t.Fatal(err)
	}
	return a > major || a == major && b >= minor
}

func portOf(t *testing.T, address string) uint16 {
	t.Helper()
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port()
}

func addHealth(sum map[uint32]*TCPHealth, pid uint32, o TCPHealth) {
	s := sum[pid]
	if s == nil {
		s = new(TCPHealth)
		sum[pid] = s
	}
	s.RTT.Add(&o.RTT)
	s.Connect.Add(&o.Connect)
	s.ConnectsFailed += o.ConnectsFailed
	s.Retransmits += o.Retransmits
	s.ResetsSent += o.ResetsSent
	s.ResetsReceived += o.ResetsReceived
}

// freeAddress is an address at which nothing listens.
func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A connection that stays open has a round trip time in each reading in which it carried something, on both sides, and in
// no other.
func TestHostLongConnections(t *testing.T) {
	requireRoot(t)
	server := startPeer(t, "server", "127.0.0.1:0")
	address := server.answer()
	h := openHostOf(t, address)
	client := startPeer(t, "client", address)
	client.must("open 7")
	readHost(t, h)
	for range 3 {
		client.must("exchange 100")
		r := readHost(t, h)
		if c, s := r.TCP[client.pid].RTT.Count(), r.TCP[server.pid].RTT.Count(); c != 7 || s != 7 {
			t.Errorf("%d and %d round trip times of 7 connections", c, s)
		}
	}
	waitFor(t, "a reading without anything new", func() bool {
		r := readHost(t, h)
		return r.TCP[client.pid].RTT.Count() == 0 && r.TCP[server.pid].RTT.Count() == 0
	})
}

// A connection whose peer does not read stalls once the peer's window is full, and is counted for who wants to send.
func TestHostStalled(t *testing.T) {
	requireRoot(t)
	server := startPeer(t, "mute", "127.0.0.1:0")
	address := server.answer()
	h := openHostOf(t, address)
	client := startPeer(t, "client", address)
	client.must("open 2")
	if n := readHost(t, h).TCP[client.pid].Stalled; n != 0 {
		t.Errorf("%d connections stall that carry nothing", n)
	}
	client.must("fill 100000000")
	waitFor(t, "two connections to stall", func() bool {
		r := readHost(t, h)
		if n := r.TCP[server.pid].Stalled; n != 0 {
			t.Errorf("%d connections of the server stall", n)
		}
		return r.TCP[client.pid].Stalled == 2
	})
}

// Behind a narrow link in a network namespace of its own packets wait and are lost: the round trip times and retransmitted
// segments are those that ss shows, from the second exchange on: what is sent again before a connection comes by the hook for the first time
// cannot be told from what was before the agent.
func TestHostLossAndDelay(t *testing.T) {
	requireRoot(t)
	namespace := fmt.Sprintf("perfagent-test-%d", os.Getpid())
	run(t, "ip", "netns", "add", namespace)
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", namespace).Run() })
	inside := []string{"ip", "netns", "exec", namespace}
	run(t, append(inside, "ip", "link", "set", "lo", "mtu", "1500", "up")...)
	// netem is a module that many kernels lack; a bucket that is too small delays by its queue and drops what overflows.
	shape := append(inside, "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "20mbit", "burst", "4kb", "limit", "24kb")
	if out, err := exec.Command(shape[0], shape[1:]...).CombinedOutput(); err != nil {
		t.Skipf("this kernel cannot shape traffic: %s", out)
	}
	server := startPeer(t, "server", "127.0.0.1:0", inside...)
	address := server.answer()
	h := openHostOf(t, address)
	client := startPeer(t, "client", address, inside...)
	client.must("open 1")
	client.must("exchange 1000000")
	var before uint64
	waitFor(t, "a quiet connection", func() bool {
		out := run(t, append(inside, "ss", "-tinH", "state", "established")...)
		before, _ = readSockets(t, out)
		return isQuiet(t, out)
	})
	readHost(t, h) // the first exchange
	client.must("exchange 1000000")
	sum := make(map[uint32]*TCPHealth)
	collect := func() {
		for pid, health := range readHost(t, h).TCP {
			addHealth(sum, pid, health)
		}
	}
	waitFor(t, "acknowledgements of all bytes", func() bool {
		out := run(t, append(inside, "ss", "-tinH", "state", "established")...)
		return !strings.Contains(out, "unacked:") && strings.Count(out, "\n") >= 2
	})
	wantRetransmits, wantRTT := readSockets(t, run(t, append(inside, "ss", "-tinH", "state", "established")...))
	wantRetransmits -= before
	// Segments that no hook saw are found once the connection is quiet.
	waitFor(t, "as many segments sent again as ss shows", func() bool {
		collect()
		c, s := sum[client.pid], sum[server.pid]
		return c != nil && s != nil && c.Retransmits+s.Retransmits >= wantRetransmits
	})
	c, s := sum[client.pid], sum[server.pid]
	t.Logf("retransmits: client %d, server %d, ss %d; round trips: %v ms", c.Retransmits, s.Retransmits, wantRetransmits, wantRTT)
	if got := c.Retransmits + s.Retransmits; got != wantRetransmits || got == 0 {
		t.Errorf("%d segments sent again, ss shows %d", got, wantRetransmits)
	}
	if c.RTT.Count() != 1 || s.RTT.Count() != 1 {
		t.Fatalf("%d and %d round trip times, want one each", c.RTT.Count(), s.RTT.Count())
	}
	// ss rounds to microseconds, so does TCP's field.
	got := float64(c.RTT.SumNS+s.RTT.SumNS) / 1e6
	if want := wantRTT[0] + wantRTT[1]; got < want-0.003 || got > want+0.003 || got < 2 {
		t.Errorf("round trip times sum up to %.3f ms, ss shows %.3f", got, want)
	}
}

var (
	retransPattern = regexp.MustCompile(`retrans:\d+/(\d+)`)
	rttPattern     = regexp.MustCompile(` rtt:([0-9.]+)/`)
)

var lastPattern = regexp.MustCompile(` last(?:snd|rcv|ack):(\d+)`)

// isQuiet tells whether both ends have neither sent nor got anything for longer than segments that no hook saw wait to be counted.
func isQuiet(t *testing.T, out string) bool {
	t.Helper()
	all := lastPattern.FindAllStringSubmatch(out, -1)
	for _, m := range all {
		if ms, err := strconv.Atoi(m[1]); err != nil || ms < 20 {
			return false
		}
	}
	return len(all) == 6 && !strings.Contains(out, "unacked:")
}

// readSockets returns the sum of retransmitted segments, and each socket's round trip time in milliseconds.
func readSockets(t *testing.T, out string) (retransmits uint64, rtt []float64) {
	t.Helper()
	for _, m := range retransPattern.FindAllStringSubmatch(out, -1) {
		n, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		retransmits += n
	}
	for _, m := range rttPattern.FindAllStringSubmatch(out, -1) {
		ms, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		rtt = append(rtt, ms)
	}
	if len(rtt) != 2 {
		t.Fatalf("expected both ends of a connection:\n%s", out)
	}
	return retransmits, rtt
}

func run(t *testing.T, command ...string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// A process that ended is forgotten once its counts were read, also with its id; one whose end nobody asks for keeps its id, and is
// forgotten when it has done nothing for some readings.
func TestHostEndedProcesses(t *testing.T) {
	requireRoot(t)
	server := startPeer(t, "server", "127.0.0.1:0")
	address := server.answer()
	h := openHostOf(t, address)
	for name, reaped := range map[string]bool{"reaped": true, "not reaped": false} {
		client := startPeer(t, "client", address)
		client.must("open 2")
		unix.Kill(int(client.pid), unix.SIGKILL)
		if reaped {
			client.cmd.Wait()
		} else {
			waitFor(t, "a process to end", func() bool {
				stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", client.pid))
				return err == nil && strings.Contains(string(stat), ") Z ")
			})
		}
		first := readHost(t, h).TCP[client.pid]
		connects, readings, last := first.Connect.Count(), 1, first
		for deadline := time.Now().Add(20 * time.Second); ; readings++ {
			found, known := readHost(t, h).TCP[client.pid]
			if !known {
				break
			}
			connects, last = connects+found.Connect.Count(), found
			if time.Now().After(deadline) {
				t.Fatalf("%s: still known after %d readings, %d connects, the last one %+v", name, readings, connects, last)
			}
		}
		if connects != 2 || first.Comm == "" {
			t.Errorf("%s: %d connects of %q, want 2", name, connects, first.Comm)
		}
	}
}
