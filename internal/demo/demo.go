// Package demo is a small shop to look at with the agent: services that call each other, a cache, a database, and shoppers, each a process
// of its own, with faults that come and go on a schedule. Everything is on loopback, and ends with the process that started it.
package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Names of the parts, which are the names of their services.
const (
	Front     = "front"
	Orders    = "orders"
	Catalogue = "catalogue"
	Payments  = "payments"
	Database  = "database"
	Cache     = "cache"
	Shoppers  = "shoppers"
)

// part is one process of the shop.
type part struct {
	name  string
	needs []string // whom it calls
	serve func(*process, *connection) error
}

// parts stand in the order of their start: whom one calls comes before it.
var parts = []part{
	{Cache, nil, serveCache},
	{Database, nil, serveDatabase},
	{Payments, nil, servePayments},
	{Catalogue, []string{Cache, Database}, serveCatalogue},
	{Orders, []string{Catalogue, Payments, Database}, serveOrders},
	{Front, []string{Catalogue, Orders}, serveFront},
	{Shoppers, []string{Front}, nil},
}

// Names lists the parts.
func Names() (names []string) {
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

const (
	startTimeout = 20 * time.Second // of all parts, on a busy machine
	stopTimeout  = 2 * time.Second  // then they are killed
	errorBytes   = 4 << 10          // what is kept of what a part says on standard error
)

// Options of a shop.
type Options struct {
	// Command is the program of a part, and its arguments; the part's name follows. It calls Serve.
	Command []string
}

// Shop is the parts while they run.
type Shop struct {
	running []*child
	failed  chan error
	closing sync.Once
	closed  chan struct{}
}

// child is a part as its parent sees it. It ends when its standard input is closed, thus with its parent, whatever that one ends from.
type child struct {
	name    string
	cmd     *exec.Cmd
	control io.WriteCloser
	errors  tail
	address string // that it serves on
	ended   chan struct{}
}

// message is what a parent writes to a part, one JSON object a line. The first has what it calls.
type message struct {
	Needs    map[string]string `json:"needs,omitempty"`    // addresses by name
	Open     bool              `json:"open,omitempty"`     // shoppers may come
	Fault    Kind              `json:"fault,omitempty"`    // sets a fault
	Strength int               `json:"strength,omitempty"` // of it; 0 ends it
}

// Start runs all parts and returns when they serve. Nobody shops yet.
func Start(ctx context.Context, options Options) (_ *Shop, err error) {
	s := &Shop{failed: make(chan error, 1), closed: make(chan struct{})}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	addresses := make(map[string]string)
	for _, p := range parts {
		c, err := s.start(ctx, options.Command, p, addresses)
		if err != nil {
			return nil, fmt.Errorf("start %s of the demo: %w", p.name, err)
		}
		addresses[p.name] = c.address
	}
	return s, nil
}

// start runs one part and returns when it serves.
func (s *Shop) start(ctx context.Context, command []string, p part, addresses map[string]string) (*child, error) {
	c := &child{name: p.name, ended: make(chan struct{})}
	c.cmd = exec.Command(command[0], append(command[1:len(command):len(command)], p.name)...)
	c.cmd.Env = []string{"OTEL_SERVICE_NAME=" + p.name, "GOMAXPROCS=1"} // one processor at most, whatever goes wrong
	c.cmd.Stderr = &c.errors
	var err error
	if c.control, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	s.running = append(s.running, c)
	first := message{Needs: make(map[string]string)}
	for _, name := range p.needs {
		first.Needs[name] = addresses[name]
	}
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		said <- strings.TrimSpace(line)
		_ = c.cmd.Wait()
		close(c.ended)
		s.gone(c)
	}()
	sent := c.send(first)
	select {
	case c.address = <-said:
		if c.address == "" { // then the message may have met a pipe that nobody reads, which is not the reason
			return nil, fmt.Errorf("it ended: %s", c.errors.String())
		}
		if sent != nil {
			return nil, sent
		}
		return c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("it does not serve: %w", ctx.Err())
	}
}

// gone tells of a part that ended without being asked to.
func (s *Shop) gone(c *child) {
	select {
	case <-s.closed:
		return
	default:
	}
	select {
	case s.failed <- fmt.Errorf("%s of the demo ended: %s %s", c.name, c.cmd.ProcessState, c.errors.String()):
	default:
	}
}

func (c *child) send(m message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := c.control.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("tell %s of the demo: %w", c.name, err)
	}
	return nil
}

// PIDs are the processes of all parts.
func (s *Shop) PIDs() (pids []uint32) {
	for _, c := range s.running {
		pids = append(pids, uint32(c.cmd.Process.Pid))
	}
	return pids
}

// Open lets the shoppers in.
func (s *Shop) Open() error { return s.tell(Shoppers, message{Open: true}) }

// Begin has a fault begin, and End has it end.
func (s *Shop) Begin(f Fault) error {
	return s.tell(f.Part(), message{Fault: f.Kind, Strength: f.Strength})
}

// End ends a fault.
func (s *Shop) End(f Fault) error { return s.tell(f.Part(), message{Fault: f.Kind}) }

func (s *Shop) tell(name string, m message) error {
	for _, c := range s.running {
		if c.name == name {
			return c.send(m)
		}
	}
	return errors.New("the demo has no " + name)
}

// Failed delivers the first part that ended too early.
func (s *Shop) Failed() <-chan error { return s.failed }

// Close ends all parts and returns when they are gone, the shoppers first.
func (s *Shop) Close() {
	s.closing.Do(func() {
		close(s.closed)
		for i := len(s.running) - 1; i >= 0; i-- {
			_ = s.running[i].control.Close()
		}
		late := time.After(stopTimeout)
		for _, c := range s.running {
			select {
			case <-c.ended:
			case <-late:
				_ = c.cmd.Process.Kill()
				<-c.ended
				late = closedTimer
			}
		}
	})
}

// closedTimer is one that is over.
var closedTimer = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - errorBytes; over > 0 {
		t.text = bytes.Clone(t.text[over:])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}
