package host

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// A server that never accepts: the connections that wait, how many may, and each attempt that is thrown away show at its
// port, and the host's overflows grow.
func TestListeners(t *testing.T) {
	const backlog = 2
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, backlog); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}
	l := NewListeners()
	port := uint16(address.Port)
	if p := readPort(t, l, port); p != (ListenPort{Port: port, BacklogMax: backlog}) {
		t.Errorf("before any connect: %+v", p)
	}
	overflows, err := ListenOverflows("")
	if err != nil {
		t.Fatal(err)
	}
	// The kernel lets one more in than it was told.
	for range backlog + 1 {
		c, err := net.DialTCP("tcp", nil, address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if p := readPort(t, l, port); p != (ListenPort{Port: port, Backlog: backlog + 1, BacklogMax: backlog}) {
		t.Errorf("with a full backlog: %+v", p)
	}
	d := net.Dialer{Timeout: 100 * time.Millisecond}
	if c, err := d.Dial("tcp", address.String()); err == nil {
		c.Close()
		t.Error("connected beyond the backlog")
	}
	p := readPort(t, l, port)
	if p.Drops == 0 {
		t.Errorf("after an attempt too many: %+v", p)
	}
	if again := readPort(t, l, port); again.Drops < p.Drops {
		t.Errorf("drops decreased: %+v, %+v", p, again)
	}
	if n, err := ListenOverflows(""); err != nil || n <= overflows {
		t.Errorf("%d overflows, %d before: %v", n, overflows, err)
	}
}

func readPort(t *testing.T, l *Listeners, port uint16) ListenPort {
	t.Helper()
	ports, err := l.Read()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		if p.Port == port {
			return p
		}
	}
	t.Fatalf("port %d is not among %+v", port, ports)
	return ListenPort{}
}

// listenDump is an answer of the kernel: two sockets, the second without attributes, and the end.
func listenDump() []byte {
	order := binary.NativeEndian
	message := func(kind uint16, body []byte) []byte {
		b := make([]byte, syscall.NLMSG_HDRLEN, syscall.NLMSG_HDRLEN+len(body))
		order.PutUint32(b, uint32(cap(b)))
		order.PutUint16(b[4:], kind)
		return append(b, body...)
	}
	socket := func(port uint16, cookie uint64, backlog, most uint32, attributes ...byte) []byte {
		b := make([]byte, diagMessageBytes)
		binary.BigEndian.PutUint16(b[4:], port)
		order.PutUint32(b[44:], uint32(cookie))
		order.PutUint32(b[48:], uint32(cookie>>32))
		order.PutUint32(b[56:], backlog)
		order.PutUint32(b[60:], most)
		return append(b, attributes...)
	}
	memory := make([]byte, 40)
	order.PutUint16(memory, uint16(len(memory)))
	order.PutUint16(memory[2:], diagMemory)
	order.PutUint32(memory[4+4*diagMemoryDrops:], 17)
	return slices.Concat(message(sockDiagByFamily, socket(80, 7<<32|5, 3, 128, memory...)),
		message(sockDiagByFamily, socket(443, 9, 0, 4096)), message(syscall.NLMSG_DONE, make([]byte, 4)))
}

// What the kernel says is read field by field; an answer that is cut is either a shorter one or an error.
func TestParseListeners(t *testing.T) {
	whole := listenDump()
	want := []listenSocket{{80, 3, 128, 17, 7<<32 | 5}, {443, 0, 4096, 0, 9}}
	for n := range len(whole) + 1 {
		var got []listenSocket
		done, err := parseListeners(whole[:n], func(s listenSocket) { got = append(got, s) })
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Fatalf("first %d bytes: %+v", n, got)
		}
		if done != (n == len(whole)) || done && (err != nil || len(got) != len(want)) {
			t.Fatalf("first %d of %d bytes: done %v, %d sockets, %v", n, len(whole), done, len(got), err)
		}
	}
}

// The kernel's refusal is an error with its number.
func TestParseListenersError(t *testing.T) {
	b := make([]byte, 20)
	binary.NativeEndian.PutUint32(b, 20)
	binary.NativeEndian.PutUint16(b[4:], syscall.NLMSG_ERROR)
	refused := -int32(syscall.ENOENT)
	binary.NativeEndian.PutUint32(b[16:], uint32(refused))
	if _, err := parseListeners(b, nil); err != syscall.ENOENT {
		t.Errorf("%v", err)
	}
}

func FuzzParseListeners(f *testing.F) {
	f.Add(listenDump())
	f.Fuzz(func(t *testing.T, b []byte) {
		sockets := 0
		parseListeners(b, func(listenSocket) { sockets++ })
		if sockets*diagMessageBytes > len(b) {
			t.Errorf("%d sockets in %d bytes", sockets, len(b))
		}
	})
}

func TestParseNetstat(t *testing.T) {
	const whole = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 333\nIpExt: InNoRoutes\nIpExt: 4\n"
	for _, c := range []struct {
		data, group, name string
		want              uint64
		ok                bool
	}{
		{whole, "TcpExt:", "ListenOverflows", 22, true},
		{whole, "TcpExt:", "ListenDrops", 333, true},
		{whole, "IpExt:", "InNoRoutes", 4, true},
		{whole, "IpExt:", "ListenDrops", 0, false},
		{whole, "TcpExt:", "TcpExt:", 0, false},
		{whole[:40], "TcpExt:", "ListenOverflows", 0, false},
		{"TcpExt: A ListenOverflows\nTcpExt: 1\n", "TcpExt:", "ListenOverflows", 0, false},
		{"TcpExt: A\nTcpExt: x\n", "TcpExt:", "A", 0, false},
		{"", "TcpExt:", "A", 0, false},
	} {
		if n, ok := parseNetstat([]byte(c.data), c.group, c.name); n != c.want || ok != c.ok {
			t.Errorf("%s of %q: %d, %v", c.name, c.data, n, ok)
		}
	}
}

func FuzzParseNetstat(f *testing.F) {
	f.Add([]byte("TcpExt: A B\nTcpExt: 1 2\n"), "B")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		if n, ok := parseNetstat(data, "TcpExt:", name); !ok && n != 0 {
			t.Errorf("%d without being there", n)
		}
	})
}

func TestDiskName(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "sys/dev/block"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../devices/virtual/block/vda", filepath.Join(root, "sys/dev/block/254:0")); err != nil {
		t.Fatal(err)
	}
	for minor, want := range map[uint32]string{0: "vda", 1: "254:1"} {
		if got := DiskName(root, 254, minor); got != want {
			t.Errorf("%d: %q, want %q", minor, got, want)
		}
	}
}
