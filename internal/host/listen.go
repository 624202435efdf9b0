package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// listenersMax bounds the sockets and ports that are told apart, some 100 bytes each. A host that listens on more ports is
// a proxy of its own kind.
const listenersMax = 1024

// ListenPort is how a TCP port that something listens on copes with its connects, over all its sockets.
type ListenPort struct {
	Port       uint16
	Backlog    uint64 // connections that wait for accept
	BacklogMax uint64 // how many may wait
	// Drops are connection attempts and finished handshakes that were thrown away, mostly because the backlog was full;
	// since the sockets began to listen.
	Drops uint64
}

// Listeners reads the TCP sockets that listen in this process's network namespace. The kernel visits no other sockets for
// it: some microseconds, however many connections there are. It has one owner.
type Listeners struct {
	drops map[uint64]uint32 // by socket, what was read of it last
	ports map[uint16]*ListenPort
}

// NewListeners returns a reader without memory.
func NewListeners() *Listeners {
	return &Listeners{drops: make(map[uint64]uint32), ports: make(map[uint16]*ListenPort)}
}

// Read returns the ports in order. Drops never decrease while a port is listened on.
func (l *Listeners) Read() ([]ListenPort, error) {
	var found []listenSocket
	for _, family := range []uint8{syscall.AF_INET, syscall.AF_INET6} {
		if err := dumpListeners(family, func(s listenSocket) { found = append(found, s) }); err != nil {
			return nil, fmt.Errorf("read listening sockets: %w", err)
		}
	}
	sockets := make(map[uint64]uint32, len(l.drops))
	for _, p := range l.ports {
		p.Backlog, p.BacklogMax = 0, 0
	}
	seen := make(map[uint16]bool, len(l.ports))
	for _, s := range found {
		p := l.ports[s.port]
		if p == nil {
			if len(l.ports) >= listenersMax {
				continue
			}
			p = &ListenPort{Port: s.port}
			l.ports[s.port] = p
		}
		seen[s.port] = true
		p.Backlog += uint64(s.backlog)
		p.BacklogMax += uint64(s.backlogMax)
		p.Drops += uint64(s.drops - l.drops[s.cookie])
		sockets[s.cookie] = s.drops
	}
	l.drops = sockets
	var ports []ListenPort
	for port, p := range l.ports {
		if !seen[port] {
			delete(l.ports, port)
			continue
		}
		ports = append(ports, *p)
	}
	slices.SortFunc(ports, func(a, b ListenPort) int { return int(a.Port) - int(b.Port) })
	return ports, nil
}

// Of linux/sock_diag.h and linux/inet_diag.h.
const (
	netlinkSockDiag  = 4
	sockDiagByFamily = 20
	diagRequestBytes = syscall.NLMSG_HDRLEN + 56
	diagMessageBytes = 72
	diagMemory       = 7 // the attribute with the socket's memory and drops
	diagMemoryDrops  = 8 // index in it
	tcpListen        = 10
)

// listenSocket is one socket that listens.
type listenSocket struct {
	port                       uint16
	backlog, backlogMax, drops uint32
	cookie                     uint64
}

// dumpListeners asks the kernel for the listening sockets of one address family.
func dumpListeners(family uint8, visit func(listenSocket)) error {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer syscall.Close(fd)
	if err := syscall.Sendto(fd, listenRequest(family), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask the kernel: %w", err)
	}
	buffer := make([]byte, 32<<10) // what the kernel fills at most at a time
	for {
		n, _, err := syscall.Recvfrom(fd, buffer, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the kernel's answer: %w", err)
		}
		if done, err := parseListeners(buffer[:n], visit); done || err != nil {
			return err
		}
	}
}

// listenRequest is a netlink header and an inet_diag_req_v2.
func listenRequest(family uint8) []byte {
	b := make([]byte, diagRequestBytes)
	order := binary.NativeEndian
	order.PutUint32(b, diagRequestBytes)
	order.PutUint16(b[4:], sockDiagByFamily)
	order.PutUint16(b[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_DUMP)
	b[16], b[17], b[18] = family, syscall.IPPROTO_TCP, 1<<(diagMemory-1)
	order.PutUint32(b[20:], 1<<tcpListen)
	return b
}

var errNetlink = errors.New("netlink message is not understood")

// parseListeners takes netlink messages, and tells whether they end the dump.
func parseListeners(b []byte, visit func(listenSocket)) (done bool, err error) {
	order := binary.NativeEndian
	for len(b) >= syscall.NLMSG_HDRLEN {
		length, kind := order.Uint32(b), order.Uint16(b[4:])
		if length < syscall.NLMSG_HDRLEN || uint64(length) > uint64(len(b)) {
			return false, errNetlink
		}
		body := b[syscall.NLMSG_HDRLEN:length]
		switch kind {
		case syscall.NLMSG_DONE:
			return true, nil
		case syscall.NLMSG_ERROR:
			if len(body) < 4 {
				return false, errNetlink
			}
			return false, syscall.Errno(-int32(order.Uint32(body)))
		case sockDiagByFamily:
			s, ok := parseListenSocket(body)
			if !ok {
				return false, errNetlink
			}
			visit(s)
		}
		b = b[min(uint64(length+3)&^3, uint64(len(b))):]
	}
	if len(b) > 0 {
		return false, errNetlink
	}
	return false, nil
}

// parseListenSocket takes an inet_diag_msg and its attributes.
func parseListenSocket(b []byte) (s listenSocket, ok bool) {
	if len(b) < diagMessageBytes {
		return s, false
	}
	order := binary.NativeEndian
	s.port = binary.BigEndian.Uint16(b[4:])
	s.cookie = uint64(order.Uint32(b[44:])) | uint64(order.Uint32(b[48:]))<<32
	s.backlog, s.backlogMax = order.Uint32(b[56:]), order.Uint32(b[60:])
	for a := b[diagMessageBytes:]; len(a) >= syscall.SizeofRtAttr; {
		length, kind := int(order.Uint16(a)), order.Uint16(a[2:])
		if length < syscall.SizeofRtAttr || length > len(a) {
			return s, false
		}
		const drops = syscall.SizeofRtAttr + 4*diagMemoryDrops
		if kind == diagMemory && length >= drops+4 {
			s.drops = order.Uint32(a[drops:])
		}
		a = a[min((length+3)&^3, len(a)):]
	}
	return s, true
}

// ListenOverflows returns how many finished handshakes and connection attempts found a full backlog, in this process's
// network namespace since it began. Root is the directory that holds proc; "" means "/".
func ListenOverflows(root string) (uint64, error) {
	data, err := os.ReadFile(filepath.Join("/", root, "proc/self/net/netstat"))
	if err != nil {
		return 0, fmt.Errorf("read TCP's counters: %w", err)
	}
	n, ok := parseNetstat(data, "TcpExt:", "ListenOverflows")
	if !ok {
		return 0, errors.New("TCP's counters do not tell of full backlogs")
	}
	return n, nil
}

// parseNetstat finds a counter: a line with a group's names is followed by one with its values.
func parseNetstat(data []byte, group, name string) (uint64, bool) {
	var names [][]byte
	for line := range bytes.Lines(data) {
		fields := bytes.Fields(line)
		if len(fields) == 0 || string(fields[0]) != group {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		at := slices.IndexFunc(names, func(n []byte) bool { return string(n) == name })
		if at < 1 || at >= len(fields) {
			return 0, false
		}
		n, err := strconv.ParseUint(string(fields[at]), 10, 64)
		if err != nil {
			return 0, false
		}
		return n, true
	}
	return 0, false
}

// DiskName returns the name of a block device, such as "vda", or "MAJOR:MINOR" where it is gone.
func DiskName(root string, major, minor uint32) string {
	number := fmt.Sprintf("%d:%d", major, minor)
	target, err := os.Readlink(filepath.Join("/", root, "sys/dev/block", number))
	if err != nil {
		return number
	}
	return cleanName(filepath.Base(target))
}
