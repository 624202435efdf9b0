package redis

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"golang.org/x/sys/unix"
)

// server is a real redis-server on a Unix socket of its own.
type server struct {
	t      *testing.T
	socket string
	args   []string
	cmd    *exec.Cmd
}

func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{t: t, socket: filepath.Join(t.TempDir(), "redis.sock"), args: args}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *server) start() {
	s.t.Helper()
	args := append([]string{"--port", "0", "--unixsocket", s.socket, "--save", "", "--dir", filepath.Dir(s.socket)}, s.args...)
	s.cmd = exec.Command("redis-server", args...)
	if err := s.cmd.Start(); errors.Is(err, exec.ErrNotFound) && os.Getenv("PERFAGENT_TEST_PARTIAL") != "" {
		s.t.Skip(err)
	} else if err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("unix", s.socket); err == nil {
			c.Close()
			return
		} else if time.Now().After(end) {
			s.t.Fatal(err)
		}
	}
}

func (s *server) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
	os.Remove(s.socket)
}

// ask sends a command of an administrator.
func (s *server) ask(command ...any) any {
	s.t.Helper()
	var options []redis.DialOption
	if len(s.args) > 1 && s.args[0] == "--requirepass" {
		options = append(options, redis.DialPassword(s.args[1]))
	}
	c, err := redis.Dial("unix", s.socket, options...)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	answer, err := c.Do(command[0].(string), command[1:]...)
	if err != nil {
		s.t.Fatalf("%q: %v", command, err)
	}
	return answer
}

// publisher publishes two figures to the server; what it says goes to said.
func (s *server) publisher(o Options) (p *Publisher, said *bytes.Buffer, told *[]bool) {
	said, told = new(bytes.Buffer), new([]bool)
	o.Address, o.Prefix, o.Host = Address{Network: "unix", Address: s.socket, User: o.Address.User, DB: o.Address.DB}, "perfagent", "host:1"
	o.Figures = func() ([]Figure, error) {
		return []Figure{{[]string{"summary"}, map[string]int{"n": 7}}, {[]string{"endpoint", "a:b%", "GET", "/x"}, 3}}, nil
	}
	o.Log, o.Works = slog.New(slog.NewTextHandler(said, nil)), func(works bool) { *told = append(*told, works) }
	p = New(o)
	s.t.Cleanup(p.disconnect)
	return p, said, told
}

// try makes a round without the pause after a failure.
func (p *Publisher) try(t *testing.T) Stats {
	t.Helper()
	p.next = time.Time{}
	start := time.Now()
	p.round(t.Context(), true)
	if took := time.Since(start); took > roundTimeout+5*time.Second {
		t.Errorf("a round took %v", took)
	}
	return p.Stats()
}

// Figures are keys that expire, alerts a stream, in the database of the address, with the password of a user.
func TestPublish(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--requirepass", "secret")
	s.ask("ACL", "SETUSER", "agent", "on", ">other", "~perfagent:*", "+@all")
	p, said, _ := s.publisher(Options{Address: Address{User: "agent", DB: 3}, Password: func() (string, error) { return "other", nil }})
	p.Alert(time.Unix(1_700_000_000, 0), map[string]string{"name": "Slow"})
	if st := p.try(t); st.Trouble != "" || st.Rounds["success"] != 1 || st.Alerts["sent"] != 1 {
		t.Fatalf("%+v\n%s", st, said)
	}
	if strings.Contains(said.String(), "other") {
		t.Errorf("the log shows the password: %s", said)
	}
	script := func(text string) string {
		t.Helper()
		answer, err := redis.String(s.ask("EVAL", "redis.call('SELECT', 3) "+text, "0"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	if got := script("return redis.call('GET', 'perfagent:host%3A1:summary')"); got != `{"n":7}` {
		t.Errorf("%q", got)
	}
	if got := script("return redis.call('GET', 'perfagent:host%3A1:endpoint:a%3Ab%25:GET:/x')"); got != "3" {
		t.Errorf("%q", got)
	}
	if got := script("local ttl = redis.call('PTTL', 'perfagent:host%3A1:summary') return tostring(ttl > 25000 and ttl <= 30000)"); got != "true" {
		t.Errorf("the time to live is wrong")
	}
	want := `[["host","host:1","time","2023-11-14T22:13:20Z","alert","{\"name\":\"Slow\"}"]]`
	if got := script("local e = redis.call('XRANGE', 'perfagent:alerts', '-', '+') return cjson.encode({e[1][2]})"); got != want {
		t.Errorf("%s", got)
	}
}

// A server that harms nobody: whatever keeps it from taking figures, an attempt is bounded, it is said once, alerts wait, and all goes on
// by itself once the server does.
func TestTroubles(t *testing.T) {
	for _, c := range []struct {
		name       string
		fail, mend func(*server)
		say        string
	}{
		{"vanishes", (*server).kill, (*server).start, "no such file"},
		{"hangs", func(s *server) { s.cmd.Process.Signal(unix.SIGSTOP) }, func(s *server) { s.cmd.Process.Signal(unix.SIGCONT) }, ""},
		{"is full", func(s *server) { s.ask("CONFIG", "SET", "maxmemory", "1") }, func(s *server) { s.ask("CONFIG", "SET", "maxmemory", "0") }, "OOM"},
		{"is read-only", func(s *server) { s.ask("REPLICAOF", "127.0.0.1", "1") }, func(s *server) { s.ask("REPLICAOF", "NO", "ONE") }, "READONLY"},
		{"wants a password", func(s *server) {
			s.ask("CONFIG", "SET", "requirepass", "x")
			s.args = []string{"--requirepass", "x"}
			s.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		}, func(s *server) { s.ask("CONFIG", "SET", "requirepass", "") }, "NOAUTH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			p, said, told := s.publisher(Options{})
			if st := p.try(t); st.Trouble != "" {
				t.Fatalf("%+v", st)
			}
			c.fail(s)
			p.Alert(time.Now(), 1)
			var st Stats
			for range 3 { // a connection that was closed is one failure, and the reason another
				st = p.try(t)
			}
			if st.Trouble == "" || !strings.Contains(st.Trouble, c.say) || st.Rounds["failed"] != 3 || st.Alerts["sent"] != 0 {
				t.Fatalf("%+v", st)
			}
			p.round(t.Context(), true)
			if st := p.Stats(); st.Rounds["skipped"] != 1 || p.pause != 4*pauseMin {
				t.Errorf("%+v, a pause of %v", st, p.pause)
			}
			c.mend(s)
			for end := time.Now().Add(30 * time.Second); ; {
				if st = p.try(t); st.Trouble == "" || time.Now().After(end) {
					break
				}
			}
			if st.Trouble != "" || st.Alerts["sent"] != 1 || st.Alerts["dropped"] != 0 {
				t.Errorf("%+v", st)
			}
			if lines := strings.Count(said.String(), "\n"); lines != 2 || len(*told) != 2 || (*told)[0] || !(*told)[1] {
				t.Errorf("said %d lines, told %v:\n%s", lines, *told, said)
			}
		})
	}
}

// Something that listens and never answers costs an attempt its time and no more, and the agent's end does not wait for it.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "silent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	p := New(Options{Address: Address{Network: "unix", Address: l.Addr().String()}, Figures: func() ([]Figure, error) { return nil, nil }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	c := <-accepted
	cancel()
	select {
	case <-done:
	case <-time.After(roundTimeout / 2):
		t.Error("the end waits")
	}
	c.Close()
}

// Whoever listens where a Redis server should, whatever it answers, costs an attempt and nothing else: no memory by lengths that it says, no
// depth by lists in lists, no line without end. What it repeats of the password, and characters that act on others, are not shown.
func TestAnswersOfOthers(t *testing.T) {
	for name, answer := range map[string]string{
		"a length beyond all":  "$9223372036854775807\r\n",
		"a length of 2 GB":     "$2000000000\r\n",
		"a list beyond all":    "*9223372036854775807\r\n",
		"a long list":          "*1000000000\r\n",
		"lists in lists":       strings.Repeat("*1\r\n", 1<<20),
		"a line without end":   "+" + strings.Repeat("x", 8<<20),
		"a length without end": "$" + strings.Repeat("1", 8<<20),
		"HTTP":                 "HTTP/1.1 400 Bad Request\r\n\r\n",
		"zeros":                strings.Repeat("\x00", 1<<20),
		"other texts":          "$5\r\nhello\r\n$-1\r\n:1\r\n*0\r\n",
		"the password":         "-ERR hunter2 \x1b[31m\u202e is wrong\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("unix", filepath.Join(t.TempDir(), "other.sock"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Write([]byte(answer))
					io.Copy(io.Discard, c)
					c.Close()
				}
			}()
			said := &bytes.Buffer{}
			p := New(Options{Address: Address{Network: "unix", Address: l.Addr().String()}, Password: func() (string, error) { return "hunter2", nil },
				Figures: func() ([]Figure, error) { return []Figure{{[]string{"a"}, 1}}, nil }, Log: slog.New(slog.NewJSONHandler(said, nil))})
			defer p.disconnect()
			st := p.try(t)
			if st.Trouble == "" || st.Rounds["failed"] != 1 || strings.Contains(st.Trouble, "no answer within") {
				t.Errorf("%+v", st)
			}
			for _, shown := range []string{st.Trouble, said.String()} {
				if strings.Contains(shown, "hunter2") || strings.ContainsAny(shown, "\x1b\u202e") || strings.Contains(shown, `\u001b`) || strings.Contains(shown, `\u202e`) {
					t.Errorf("%q", shown)
				}
			}
		})
	}
}

// The alerts of a server that is away are bounded: the oldest are dropped and counted, as is what no caller can hand over.
func TestAlertsBounded(t *testing.T) {
	p := New(Options{})
	for n := range alertsMax + 5 {
		p.Alert(time.Now(), n)
	}
	p.Alert(time.Now(), strings.Repeat("x", alertBytesMax))
	for n := range alertsMax + 3 {
		p.keep(alert{body: string(rune('0' + n%10))})
	}
	if st := p.Stats(); st.Alerts["dropped"] != 5+1+3 || len(p.waiting) != alertsMax || p.waiting[0].body != "3" {
		t.Errorf("%+v, %d wait", st, len(p.waiting))
	}
	var off *Publisher
	off.Alert(time.Now(), 1)
}

// URLs as redis-cli takes them; a password in one is refused without showing it.
func TestParseAddress(t *testing.T) {
	for text, want := range map[string]Address{
		"redis://localhost":             {Network: "tcp", Address: "localhost:6379"},
		"redis://u@[::1]:7000/3":        {Network: "tcp", Address: "[::1]:7000", User: "u", DB: 3},
		"rediss://h/":                   {Network: "tcp", Address: "h:6379", TLS: true},
		"unix:///run/redis/r.sock?db=2": {Network: "unix", Address: "/run/redis/r.sock", DB: 2},
	} {
		if got, err := ParseAddress(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "localhost:6379", "http://x", "redis://", "redis://h/x", "redis://h/-1", "redis://h?x=1", "unix://h/x", "unix:x", "redis://u:hunter2@h", "redis://:hunter2@h:port"} {
		if got, err := ParseAddress(bad); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %+v, %v", bad, got, err)
		}
	}
}
