package servers

import (
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/test/clock"
)

//go:embed assets
var assets embed.FS

func asset(name string) []byte {
	data, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // embedded at build time
	}
	return data
}

// Kind names a server program and its mode.
type Kind string

// The servers. Their endpoints: /fast (2 bytes), /sleep/MS, /bytes/N, /chunked/N (N chunks of 100 bytes),
// /status/CODE, POST /upload (answers the size). Uring has /fast and /bytes; HTTPServerFork as HTTPServer; nginx has
// /fast, /bytes (files, sendfile) and /status/{204,304,404,500}, and passes /tcp/… and /unix/… on to its upstreams.
// Raw has what its source lists, and Go and Node some of its /ends/KIND.
const (
	Nginx          Kind = "nginx"
	Go             Kind = "go"
	GoUnix         Kind = "go-unix"
	Node           Kind = "node"
	Uvicorn        Kind = "uvicorn"
	Gunicorn       Kind = "gunicorn"      // two workers
	GunicornUnix   Kind = "gunicorn-unix" // two workers on a Unix socket
	HTTPServer     Kind = "http.server"
	HTTPServerFork Kind = "http.server-fork" // a process per connection
	Uring          Kind = "io_uring"
	Raw            Kind = "raw"
	RawPrefork     Kind = "raw-prefork" // three processes with SO_REUSEPORT
	RawEcho        Kind = "echo"        // no HTTP: returns what it gets
	RawRedis       Kind = "redis"       // no HTTP: +PONG for every line
	RawSMTP        Kind = "smtp"        // the same behind a greeting
	RawSettings    Kind = "settings"    // HTTP/2: a SETTINGS frame before anything is read, and nothing else
	GoTLS          Kind = "go-tls"      // with a certificate of its own
	GoH2C          Kind = "go-h2c"      // HTTP/2 in clear, with prior knowledge
	NginxH2C       Kind = "nginx-h2c"   // the same
)

// Options of a server.
type Options struct {
	Kind         Kind
	Port         int    // 0: a free one
	Host         string // empty: 127.0.0.1; others only for Go and the raw kinds
	TCPUpstream  string // host:port for nginx' /tcp/…; empty: none
	UnixUpstream string // socket path for nginx' /unix/…; empty: none
	Clock        bool   // log socket calls (Go, Uring and the raw kinds)
}

// Server is a running server.
type Server struct {
	Kind    Kind
	Network string // "tcp" or "unix"
	Address string // to dial
	Port    int    // 0 for Unix sockets
	Dir     string // temporary files; access.log of nginx is here

	*Process
	clockPath string
}

// Start starts a server and waits until it listens.
func Start(options Options) (*Server, error) {
	dir, err := os.MkdirTemp("", "perfagent-test-"+string(options.Kind))
	if err != nil {
		return nil, err
	}
	// Workers of a server started as root run as another user, and need their files.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s, err := start(options, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", options.Kind, err), os.RemoveAll(dir))
	}
	return s, nil
}

func start(options Options, dir string) (*Server, error) {
	s := &Server{Kind: options.Kind, Network: "tcp", Port: options.Port, Dir: dir}
	if options.Host == "" {
		options.Host = "127.0.0.1"
	}
	if options.Kind == GoUnix || options.Kind == GunicornUnix {
		s.Network, s.Address = "unix", filepath.Join(dir, "socket")
	} else {
		if s.Port == 0 {
			port, err := FreePort()
			if err != nil {
				return nil, err
			}
			s.Port = port
		}
		s.Address = hostPort(options.Host, s.Port)
	}
	if options.Clock {
		s.clockPath = filepath.Join(dir, "clock")
	}
	cmd, err := s.command(options)
	if err != nil {
		return nil, err
	}
	cmd.Dir = dir
	s.Process, err = StartProcess(cmd, filepath.Join(dir, "output"))
	if err != nil {
		return nil, err
	}
	if err := s.waitListening(s.Network, s.Address); err != nil {
		return nil, errors.Join(err, s.Kill())
	}
	return s, nil
}

func hostPort(host string, port int) string {
	if host == "::1" {
		return fmt.Sprintf("[::1]:%d", port)
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// command builds the command line of the server's kind.
func (s *Server) command(options Options) (*exec.Cmd, error) {
	port := strconv.Itoa(s.Port)
	switch s.Kind {
	case Nginx, NginxH2C:
		return s.nginx(options)
	case Go, GoUnix:
		return built("goserver", "-network", s.Network, "-address", s.Address, "-clock", s.clockPath)
	case GoTLS, GoH2C:
		return built("goserver", "-address", s.Address, "-mode", strings.TrimPrefix(string(s.Kind), "go-"))
	case Raw:
		return built("rawserver", "-address", s.Address, "-clock", s.clockPath)
	case RawPrefork:
		return built("rawserver", "-address", s.Address, "-clock", s.clockPath, "-prefork", "3")
	case RawEcho, RawRedis, RawSMTP, RawSettings:
		return built("rawserver", "-address", s.Address, "-mode", string(s.Kind))
	case Uring:
		args := []string{port}
		if s.clockPath != "" {
			args = append(args, s.clockPath)
		}
		return built("uring", args...)
	case Node:
		return s.script("server.js", "node", "SCRIPT", port)
	case HTTPServer:
		return s.script("http_server.py", python, "SCRIPT", port)
	case HTTPServerFork:
		return s.script("http_server.py", python, "SCRIPT", port, "fork")
	case Uvicorn:
		return s.script("fastapi_app.py", python, "-m", "uvicorn", "--host", "127.0.0.1", "--port", port,
			"--no-access-log", "--timeout-keep-alive", "60", "fastapi_app:app")
	case Gunicorn:
		return s.script("wsgi_app.py", python, "-m", "gunicorn", "-w", "2", "-b", s.Address, "wsgi_app:app")
	case GunicornUnix:
		return s.script("wsgi_app.py", python, "-m", "gunicorn", "-w", "2", "-b", "unix:"+s.Address, "wsgi_app:app")
	}
	return nil, fmt.Errorf("unknown kind of server %q", s.Kind)
}

// python is the system's interpreter, which has Debian's packages; another one may come first in PATH.
const python = "/usr/bin/python3"

func built(name string, args ...string) (*exec.Cmd, error) {
	path, err := Build(name)
	if err != nil {
		return nil, err
	}
	return exec.Command(path, args...), nil
}

// script writes the asset into the server's directory and runs program, with SCRIPT in args replaced by its path.
func (s *Server) script(name, program string, args ...string) (*exec.Cmd, error) {
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, asset(name), 0o644); err != nil {
		return nil, err
	}
	for i := range args {
		if args[i] == "SCRIPT" {
			args[i] = path
		}
	}
	if len(args) > 1 && args[0] == "-m" && exec.Command(program, "-c", "import "+args[1]).Run() != nil {
		return nil, fmt.Errorf("%s: %w", args[1], ErrNotInstalled)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	return cmd, nil
}

// Stop ends the server and removes its files.
func (s *Server) Stop() error { return errors.Join(s.Process.Stop(), os.RemoveAll(s.Dir)) }

// AwaitRead returns when the server has read all that the IPv4 client at that address sent: a reset takes away what is unread.
func (s *Server) AwaitRead(client net.Addr, timeout time.Duration) error {
	ends := fmt.Sprintf("0100007F:%04X 0100007F:%04X ", s.Port, client.(*net.TCPAddr).Port)
	for deadline := time.Now().Add(timeout); ; time.Sleep(pollInterval) {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			return err
		}
		_, after, _ := strings.Cut(string(table), ends)
		line, _, _ := strings.Cut(after, "\n")
		// State, and bytes to send and to read.
		if strings.HasPrefix(line, "01 00000000:00000000 ") {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s has not read the request: %s", s.Kind, line)
		}
	}
}

// Ops returns the server's log of the connection with that client address. It waits until the connection has closed.
func (s *Server) Ops(clientAddress string) (clock.Ops, error) {
	deadline := time.Now().Add(stopTimeout)
	for {
		all, err := clock.ReadLog(s.clockPath)
		if err != nil {
			return nil, err
		}
		if ops, ok := all[clientAddress]; ok {
			return ops, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s logged no closed connection of %s", s.Kind, clientAddress)
		}
		time.Sleep(pollInterval)
	}
}
