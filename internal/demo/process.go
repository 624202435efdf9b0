package demo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// process is what a part knows while it serves.
type process struct {
	needs    map[string]string   // addresses by name
	strength [kinds]atomic.Int64 // of faults; 0: there is none
	open     chan struct{}       // closed when shoppers may come
	opened   sync.Once
}

// connection is what a part serves on.
type connection struct{ net.Listener }

// Serve is the whole life of a part: it reads what its parent writes, says on out what address it serves on, and ends when its parent has.
func Serve(name string, control io.Reader, out io.Writer) error {
	// Ctrl-C is for the parent, which ends its parts.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	lines := bufio.NewScanner(control)
	p := &process{open: make(chan struct{})}
	first, err := next(lines)
	if err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	p.needs = first.Needs
	failed := make(chan error, 2)
	address, err := p.run(name, failed)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, address); err != nil {
		return err
	}
	go p.hog()
	go func() { failed <- p.obey(lines) }()
	return <-failed
}

// run has a part serve, and returns where.
func (p *process) run(name string, failed chan<- error) (address string, err error) {
	for _, part := range parts {
		if part.name != name {
			continue
		}
		for _, needed := range part.needs {
			if p.needs[needed] == "" {
				return "", errors.New(name + " is not told where " + needed + " is")
			}
		}
		if part.serve == nil {
			go p.shop()
			return "none", nil
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		go func() { failed <- part.serve(p, &connection{l}) }()
		return l.Addr().String(), nil
	}
	return "", fmt.Errorf("the demo has no %q", name)
}

// obey does what the parent says, and ends when that one has.
func (p *process) obey(lines *bufio.Scanner) error {
	for {
		m, err := next(lines)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if m.Open {
			p.opened.Do(func() { close(p.open) })
		}
		if m.Fault > 0 && m.Fault < kinds {
			p.strength[m.Fault].Store(int64(m.Strength))
		}
	}
}

func next(lines *bufio.Scanner) (m message, err error) {
	if !lines.Scan() {
		if err := lines.Err(); err != nil {
			return m, err
		}
		return m, io.EOF
	}
	return m, json.Unmarshal(lines.Bytes(), &m)
}

// milliseconds is the strength of a fault as a time.
func (p *process) milliseconds(k Kind) time.Duration {
	return time.Duration(p.strength[k].Load()) * time.Millisecond
}

const (
	hogPeriod  = 100 * time.Millisecond
	hogPercent = 60 // at most, whoever asks
)

// hog keeps a part of a processor busy while that fault lasts.
func (p *process) hog() {
	for range time.Tick(hogPeriod) {
		share := min(p.strength[Hog].Load(), hogPercent)
		end := time.Now().Add(hogPeriod * time.Duration(share) / 100)
		for share > 0 && time.Now().Before(end) {
			busy()
		}
	}
}

var sink atomic.Uint64

// busy computes for some microseconds.
func busy() {
	x := sink.Load() + 1
	for range 2000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	sink.Store(x)
}
