// Package tui types into perfagent's terminal commands and looks at what is shown, in a tmux of its own, beside a real agent that looks
// at a server of this test alone. PERFAGENT_TUI_ALL=1, as make
// test-tui has it, runs those that take long as well, and fails where tmux, a shell or setpriv is not installed.
package tui

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

func TestMain(m *testing.M) {
	code := m.Run()
	err := errors.Join(shared.close(), servers.Cleanup())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// place has what every test here looks at: a server, requests to it, an agent, and the program, in a directory that all users may read.
type place struct {
	once      sync.Once
	err       error
	directory string
	program   string // perfagent
	server    *httptest.Server
	port      int
	stop      chan struct{}
	load      sync.WaitGroup
	agent     *agent.Agent
}

var shared place

const (
	// loadInterval makes 20 rounds of requests a second: enough for a figure, and no load.
	loadInterval = 50 * time.Millisecond
	longEnd      = "/the-telling-end"
)

// longPath is too long for 80 columns, and learned as it is.
const longPath = "/articles-that-customers-have-sent-back/inventory-of-the-northern-warehouse/sorted-by-their-condition" + longEnd

// hostile are targets that a terminal would obey if they were shown as they are: clearing the screen, setting its title, reordering the
// line, wide and combining characters.
var hostile = []string{"/\x1b[2J\x1b[31mred", "/\x1b]0;title\x07", "/\u202eevil\u202c", "/\u4f60\u597d\u0301\U0001f4a9", "/\x9b31m", "/a\rb"}

// theAgent starts what is shared, once.
func theAgent(t *testing.T) *place {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the agent loads BPF programs: run as root")
	}
	shared.once.Do(func() { shared.err = shared.open() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return &shared
}

func (p *place) open() error {
	binary, err := agent.Binary()
	if err != nil {
		return err
	}
	if p.directory, err = os.MkdirTemp("", "perfagent-tui"); err != nil {
		return err
	}
	p.program = filepath.Join(p.directory, "perfagent")
	if out, err := exec.Command("cp", binary, p.program).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the program: %w: %s", err, out)
	}
	if err := errors.Join(os.Chmod(p.directory, 0o755), os.Chmod(p.program, 0o755)); err != nil {
		return err
	}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, "ok")
	}))
	p.port = p.server.Listener.Addr().(*net.TCPAddr).Port
	if p.agent, err = p.startAgent("agent.sock"); err != nil {
		return err
	}
	p.stop = make(chan struct{})
	p.load.Go(p.request)
	return nil
}

// startAgent starts an agent that looks at the server alone, with a socket of this name in the directory.
func (p *place) startAgent(socket string) (*agent.Agent, error) {
	return agent.Start(agent.Options{Ports: []int{p.port}, NoTrace: true, Args: []string{"--web.socket=" + p.socket(socket), "--storage.path=" + filepath.Join(p.directory, socket+".history")}})
}

func (p *place) socket(name string) string { return filepath.Join(p.directory, name) }

// request makes requests until the end: usual ones, failing ones, long ones, and ones that are written by hand.
func (p *place) request() {
	again := time.NewTicker(loadInterval)
	defer again.Stop()
	for i := 0; ; i++ {
		select {
		case <-p.stop:
			return
		case <-again.C:
		}
		for _, target := range []string{fmt.Sprintf("/items/%d", i), "/", "/broken", longPath, hostile[i%len(hostile)]} {
			p.send(target)
		}
	}
}

// send makes one request by hand: a client would refuse such targets.
func (p *place) send(target string) {
	c, err := net.DialTimeout("tcp", p.server.Listener.Addr().String(), time.Second)
	if err != nil {
		return // the server is being closed
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n", target)
	_, _ = io.Copy(io.Discard, c)
}

func (p *place) close() error {
	var err error
	if p.stop != nil {
		close(p.stop)
		p.load.Wait()
	}
	if p.agent != nil {
		err = p.agent.Stop()
	}
	if p.server != nil {
		p.server.Close()
	}
	if p.directory != "" {
		err = errors.Join(err, os.RemoveAll(p.directory))
	}
	return err
}

// top is the command line of top at the shared agent.
func (p *place) top(args ...string) string {
	return strings.Join(append([]string{p.program, "top", "--web.socket=" + p.socket("agent.sock"), "--interval=500ms"}, args...), " ")
}
