// Package link is a network between the host and a namespace that loses and delays packets: what netem does, without the module.
// Two TUN devices, one at each end, are read here and written to after a while.
package link

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// packetBytesMax is what a TUN device hands over at a time.
	packetBytesMax = 64 << 10
	// queueMax bounds the packets on their way in one direction; more are lost, as in a router.
	queueMax = 4096
)

// Quality is how good the link is; the zero value is as good as it gets.
type Quality struct {
	Delay, Jitter time.Duration // in each direction, the jitter on average; packets do not overtake each other
	Loss          float64       // share of packets, in each direction
}

// Link is the network. Its ends have the addresses HostAddress and FarAddress.
type Link struct {
	namespace, near, far string
	ends                 [2]*os.File
	quality              atomic.Pointer[Quality]
	done                 sync.WaitGroup
}

// Addresses of the ends.
const (
	HostAddress = "10.231.7.1"
	FarAddress  = "10.231.7.2"
)

// Open makes a namespace and a link to it.
func Open(namespace string) (l *Link, err error) {
	l = &Link{namespace: namespace, near: namespace + "0", far: namespace + "1"}
	l.quality.Store(new(Quality))
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	for i, name := range []string{l.near, l.far} {
		if l.ends[i], err = openTUN(name); err != nil {
			return l, err
		}
	}
	for _, arguments := range [][]string{
		{"netns", "add", namespace},
		{"link", "set", l.far, "netns", namespace},
		{"addr", "add", HostAddress + "/30", "dev", l.near},
		{"link", "set", l.near, "up"},
		{"-n", namespace, "addr", "add", FarAddress + "/30", "dev", l.far},
		{"-n", namespace, "link", "set", l.far, "up"},
		{"-n", namespace, "link", "set", "lo", "up"},
	} {
		if output, err := exec.Command("ip", arguments...).CombinedOutput(); err != nil {
			return l, fmt.Errorf("ip %v: %w: %s", arguments, err, output)
		}
	}
	l.done.Go(func() { l.carry(l.ends[0], l.ends[1]) })
	l.done.Go(func() { l.carry(l.ends[1], l.ends[0]) })
	return l, nil
}

func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the device %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Set changes the quality.
func (l *Link) Set(q Quality) { l.quality.Store(&q) }

// packet is one under way.
type packet struct {
	bytes []byte
	due   time.Time
}

// carry takes packets from one end to the other until it is closed.
func (l *Link) carry(from, to *os.File) {
	queue := make(chan packet, queueMax)
	l.done.Go(func() {
		for p := range queue {
			time.Sleep(time.Until(p.due))
			_, _ = to.Write(p.bytes) // an end that is down loses it
		}
	})
	defer close(queue)
	buffer := make([]byte, packetBytesMax)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		q := l.quality.Load()
		if rand.Float64() < q.Loss {
			continue
		}
		delay := q.Delay + time.Duration(float64(q.Jitter)*rand.ExpFloat64())
		select {
		case queue <- packet{append([]byte(nil), buffer[:n]...), time.Now().Add(delay)}:
		default:
		}
	}
}

// Close removes the link and the namespace.
func (l *Link) Close() error {
	var err error
	for _, end := range l.ends {
		if end != nil {
			err = errors.Join(err, end.Close())
		}
	}
	l.done.Wait()
	if _, missing := os.Stat("/run/netns/" + l.namespace); missing == nil {
		err = errors.Join(err, exec.Command("ip", "netns", "del", l.namespace).Run())
	}
	return err
}
