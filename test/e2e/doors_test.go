package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

// descriptors returns what the agent's descriptors lead to.
func descriptors(t *testing.T, pid int) []string {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			all = append(all, target)
		} // else closed meanwhile
	}
	return all
}

// Some thousand clients that begin a request and never end it cost the agent a bounded number of descriptors and little
// memory, and everybody else is still answered.
func TestE2ECrowdAtTheDoor(t *testing.T) {
	a := startAgent(t, agent.Options{Ports: []int{freePort(t)}, NoTrace: true})
	if _, err := a.Metrics(); err != nil { // what is allocated once
		t.Fatal(err)
	}
	before, err := a.Resources()
	if err != nil {
		t.Fatal(err)
	}
	open := len(descriptors(t, a.PID()))
	const crowd, most = 3001, 192 // as in ARCHITECTURE.md: of one listener
	text := "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Long: " + strings.Repeat("x", 8<<10)
	for range crowd {
		c, err := net.Dial("tcp", a.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, text) // it may be closed already
	}
	m, err := a.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Sum("perfagent_web_connections"); n < 1 || n > most {
		t.Errorf("%g connections are open", n)
	}
	if n := m.Sum("perfagent_web_connections_closed_total", "reason", "idle"); n < crowd-most || n > crowd+1 {
		t.Errorf("%g connections were closed for newer ones", n)
	}
	if n := len(descriptors(t, a.PID())); n > open+most {
		t.Errorf("%d descriptors are open, %d before", n, open)
	}
	after, err := a.Resources()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("resident: %.1f MiB before, %.1f MiB after", float64(before.Resident)/(1<<20), float64(after.Resident)/(1<<20))
	if grown := after.Resident - before.Resident; grown > 24<<20 {
		t.Errorf("the resident memory grew by %d bytes", grown)
	}
}

// The agent needs each of its maps' descriptors once.
func TestE2EMapDescriptors(t *testing.T) {
	a := startAgent(t, agent.Options{Ports: []int{freePort(t)}, NoTrace: true})
	objects, err := a.KernelObjects()
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for _, object := range objects {
		if times[object]++; times[object] > 1 && strings.HasPrefix(object, "map ") {
			t.Errorf("%s has %d descriptors", object, times[object])
		}
	}
	maps := 0
	for _, target := range descriptors(t, a.PID()) {
		if target == "anon_inode:bpf-map" {
			maps++
		}
	}
	if maps < 10 || maps > 40 {
		t.Errorf("%d descriptors of maps", maps)
	}
	t.Logf("%d descriptors, %d of maps", len(descriptors(t, a.PID())), maps)
}

// The agent observes and answers on when who reads its log has gone, and ends as always; what a log would have been written
// for, a reload, does not end it.
func TestE2ELogReaderGone(t *testing.T) {
	requireRoot(t)
	port := freePort(t)
	dir := t.TempDir()
	address, ready := fmt.Sprintf("127.0.0.1:%d", freePort(t)), filepath.Join(dir, "ready")
	cmd := command(t, "run", fmt.Sprintf("--capture.port=%d", port), "--web.listen-address="+address, "--web.enable-lifecycle",
		"--web.socket="+filepath.Join(dir, "socket"), "--ready-file="+ready, "--log.level=debug")
	log, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer cmd.Process.Kill()
	if !until(servers.Slow(20*time.Second), func() bool { _, err := os.Stat(ready); return err == nil }) {
		t.Fatal("not ready")
	}
	log.Close()
	for range 3 {
		response, err := http.Post("http://"+address+"/-/reload", "", nil) // is logged
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 200 {
			t.Error(response.Status)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil { // is logged, too
		t.Fatal(err)
	}
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(servers.Slow(15 * time.Second)):
		t.Error("does not end")
	}
}

// A filter whose reader has gone ends, and says nothing of it: trace in front of `head`, and analyze.
func TestE2EFilterReaderGone(t *testing.T) {
	s := startServer(t, servers.Options{Kind: servers.Go})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, NoTrace: true})
	requests := strings.Repeat("GET /a/b 200\n", 100_000)
	for name, args := range map[string][]string{
		"trace": {"trace", "--web.socket=" + a.Socket, "-o", "json"}, "analyze": {"analyze", "routes"},
	} {
		cmd := command(t, args...)
		cmd.Stdin = strings.NewReader(requests)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		output, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		lines := make(chan error, 1)
		go func() { // one line, and away
			_, err := bufio.NewReader(output).ReadString('\n')
			lines <- errors.Join(err, output.Close())
		}()
		ended := make(chan error, 1)
		over := until(servers.Slow(15*time.Second), func() bool {
			get(t, s, 3, func(int) string { return "/fast" })
			select {
			case err := <-lines:
				if err != nil {
					t.Error(err)
				}
				go func() { ended <- cmd.Wait() }()
			case err = <-ended:
				var exit *exec.ExitError
				if err != nil && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE) {
					t.Errorf("%s: %v", name, err)
				}
				return true
			default:
			}
			return false
		})
		if !over || errOut.Len() > 0 {
			t.Errorf("%s: ended: %t; %s", name, over, errOut.String())
		}
	}
}

// Beyond loopback the agent does not start without protection, and says in one line what may be done; with a password, or
// where it is told to, it serves, with a warning of what is missing.
func TestE2EUnprotected(t *testing.T) {
	requireRoot(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	web := writeFile(t, "web.yml", "basic_auth_users:\n  a: "+string(hash)+"\n")
	for _, c := range []struct {
		args, env []string
		starts    bool
	}{
		{nil, nil, false},
		{[]string{"--web.allow-unprotected"}, nil, true},
		{nil, []string{"PERFAGENT_WEB_ALLOW_UNPROTECTED=true"}, true},
		{[]string{"--web.config.file=" + web}, nil, true},
	} {
		ready := filepath.Join(t.TempDir(), "ready")
		cmd := command(t, append([]string{"run", "--capture.port=1", fmt.Sprintf("--web.listen-address=0.0.0.0:%d", freePort(t)), "--capture.host=off",
			"--web.socket=" + filepath.Join(t.TempDir(), "socket"), "--ready-file=" + ready}, c.args...)...)
		cmd.Env = append(cmd.Env, c.env...)
		if !c.starts {
			_, stderr, code := run(t, cmd)
			if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "--web.config.file") || !strings.Contains(stderr, "--web.allow-unprotected") {
				t.Errorf("exit code %d: %s", code, stderr)
			}
			continue
		}
		p, err := servers.StartProcess(cmd, filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		if !until(servers.Slow(20*time.Second), func() bool { _, err := os.Stat(ready); return err == nil }) {
			t.Errorf("%v %v: not ready: %s", c.args, c.env, p.Log())
		}
		if log := p.Log(); !strings.Contains(log, `level=WARN msg="listening beyond loopback: `) {
			t.Errorf("%v %v: no warning: %s", c.args, c.env, log)
		}
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// What a client's path says of secrets is shown in trace and in /requests no more than a server's.
func TestE2EClientSecrets(t *testing.T) {
	s := startServer(t, servers.Options{Kind: servers.Go})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, NoTrace: true, Args: []string{"--trace.raw-paths=false"}})
	conn, err := client.Dial(client.Options{Address: s.Address})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	secrets := []string{"qwkjzhxvbnmtrplkdfgs", "token=hunter", "QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "AbCdEfGhIjKlMnOp"}
	for _, secret := range secrets {
		if _, err := conn.Do(client.Request{Target: "/fast/" + secret}); err != nil {
			t.Fatal(err)
		}
	}
	body := ""
	if !until(visibleTimeout, func() bool {
		var err error
		body, err = a.Get("/requests?role=client")
		return err == nil && strings.Count(body, `"path"`) >= len(secrets)
	}) {
		t.Fatalf("not shown: %s", body)
	}
	for _, secret := range secrets {
		if strings.Contains(body, strings.TrimPrefix(secret, "token=")) {
			t.Errorf("%s is shown: %s", secret, body)
		}
	}
	if strings.Count(body, `"/fast/{id}"`) != len(secrets)-1 || !strings.Contains(body, `"/fast/token={token}"`) {
		t.Errorf("paths: %s", body)
	}
}
