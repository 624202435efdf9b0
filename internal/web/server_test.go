package web

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

const webConfig = "basic_auth_users:\n  prometheus: @HASH@\n"

// startServer serves until the test's end, which fails if serving did.
func startServer(t *testing.T, o ServerOptions) *Server {
	t.Helper()
	if o.Metrics == nil {
		o.Metrics = metricsOf(t, filledEngine(newClock()))
	}
	s := NewServer(o)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func ask(t *testing.T, c *http.Client, method, url string, change func(*http.Request)) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	w, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.StatusCode, string(b), w.Header
}

// Every path answers as Prometheus' own do, errors are problem documents, and browsers are told not to guess.
func TestServerPaths(t *testing.T) {
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, Version: "1.2.3<"})
	base := "http://" + s.Addresses()[0].String()
	for _, c := range []struct {
		method, path string
		status       int
		contains     string
	}{
		{"GET", "/", 200, "/assets/app-"},
		{"GET", "/assets/index.html", 404, "no such file"},
		{"GET", "/metrics", 200, "http_server_request_duration_seconds_bucket"},
		{"GET", "/-/healthy", 200, "healthy"},
		{"GET", "/-/ready", 503, "not attached yet"},
		{"POST", "/-/reload", 403, "--web.enable-lifecycle"},
		{"GET", "/-/reload", 405, "not supported"},
		{"POST", "/", 405, "not supported"},
		{"DELETE", "/-/ready", 405, "not supported"},
		{"GET", "/trace", 404, "nothing is served"},
		{"GET", "/nothing", 404, "nothing is served"},
	} {
		status, body, header := ask(t, http.DefaultClient, c.method, base+c.path, nil)
		if status != c.status || !strings.Contains(body, c.contains) {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, body)
		}
		if header.Get("X-Content-Type-Options") != "nosniff" || status >= 400 && header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %v", c.method, c.path, header)
		}
	}
	s.SetReady(true)
	if status, body, _ := ask(t, http.DefaultClient, "GET", base+"/-/ready", nil); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

// Whatever the answer, a browser runs the server's own scripts and none that stands in a page, and connects to nobody else.
func TestServerContentPolicy(t *testing.T) {
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}})
	for _, path := range []string{"/", "/metrics", "/openapi.json", "/nothing"} {
		_, _, header := ask(t, http.DefaultClient, "GET", "http://"+s.Addresses()[0].String()+path, nil)
		policy := map[string]string{}
		for directive := range strings.SplitSeq(header.Get("Content-Security-Policy"), ";") {
			name, sources, _ := strings.Cut(strings.TrimSpace(directive), " ")
			policy[name] = sources
		}
		for name, want := range map[string]string{"default-src": "'none'", "script-src": "'self'", "connect-src": "'self'", "img-src": "'self'",
			"style-src": "'self'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'"} {
			if policy[name] != want {
				t.Errorf("%s: %s is %q, not %q", path, name, policy[name], want)
			}
		}
		if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", path, header)
		}
	}
}

// On a loopback address only names of the loopback are answered, those of this host, and those that the user gave.
func TestServerHosts(t *testing.T) {
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, Hosts: []string{"Agents.example.com"}})
	base := "http://" + s.Addresses()[0].String() + "/-/healthy"
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:9464": 200, "127.0.0.1": 200, "127.1.2.3:80": 200, "[::1]:9464": 200, "[::1]": 200,
		own: 200, own + ":9464": 200, "agents.example.com": 200, "AGENTS.example.com.:443": 200, "other.example.com": 403,
		"attacker.example": 403, "attacker.example:9464": 403, "10.0.0.1": 403, "localhost.attacker.example": 403,
	} {
		if status, body, _ := ask(t, http.DefaultClient, "GET", base, func(r *http.Request) { r.Host = host }); status != want {
			t.Errorf("%s: %d %s", host, status, body)
		}
	}
}

// Beyond loopback an address without TLS and password answers to numbers, names that nobody can register, and names that were given; with
// one of them a browser shows no other site anything, and whatever name is answered, as on a socket.
func TestHostsBeyondLoopback(t *testing.T) {
	h := newHosts([]string{"node7.example.com:9464", "unix:/run/x.sock"}, nil)
	beyond := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 9464}
	for _, c := range []struct {
		address    net.Addr
		protection Protection
		host       string
		want       int
	}{
		{beyond, Protection{}, "192.0.2.7:9464", 204},
		{beyond, Protection{}, "[2001:db8::7]", 204},
		{beyond, Protection{}, "node7:9464", 204},
		{beyond, Protection{}, "node7.example.com", 204},
		{beyond, Protection{}, "localhost", 204},
		{beyond, Protection{}, "attacker.example", 403},
		{beyond, Protection{}, "192.0.2.7.attacker.example", 403},
		{beyond, Protection{}, "", 403},
		{&net.TCPAddr{IP: net.IPv6unspecified}, Protection{}, "attacker.example", 403},
		{beyond, Protection{Authentication: true}, "attacker.example", 204},
		{beyond, Protection{TLS: true}, "attacker.example", 204},
		{&net.TCPAddr{IP: net.IPv6loopback}, Protection{TLS: true, Authentication: true}, "attacker.example", 403},
		{&net.UnixAddr{Name: "/run/x.sock", Net: "unix"}, Protection{}, "attacker.example", 204},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/dashboard", nil)
		r.Host = c.host
		h.guard(c.address, c.protection, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%v, %+v, %q: %d", c.address, c.protection, c.host, w.Code)
		}
	}
}

// Reloading works with POST and PUT, and says what is wrong with a bad configuration.
func TestServerReload(t *testing.T) {
	var failure error
	n := 0
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, Reload: func() (string, error) { n++; return "reloaded: this", failure }})
	url := "http://" + s.Addresses()[0].String() + "/-/reload"
	for _, method := range []string{"POST", "PUT"} {
		if status, body, _ := ask(t, http.DefaultClient, method, url, nil); status != 200 || body != "reloaded: this.\n" {
			t.Errorf("%d %s", status, body)
		}
	}
	failure = errors.New("perfagent.yml:3: unknown key \"colour\"")
	status, body, _ := ask(t, http.DefaultClient, "POST", url, nil)
	if status != 500 || !strings.Contains(body, `unknown key \"colour\"`) || n != 3 {
		t.Errorf("%d %s after %d", status, body, n)
	}
}

// One server listens on several addresses, TCP and Unix, each with the basic auth of the web configuration.
func TestServerBasicAuth(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "web.yml")
	if err := os.WriteFile(config, []byte(strings.Replace(webConfig, "@HASH@", hashOf(t, "secret"), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "http.sock")
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0", "127.0.0.1:0", "unix:" + socket}, WebConfigFile: config})
	unix := unixClient(socket)
	defer unix.CloseIdleConnections()
	for i, a := range s.Addresses() {
		client, url := http.DefaultClient, "http://"+a.String()+"/metrics"
		if i == 2 {
			client, url = unix, "http://any.name/metrics"
		}
		for password, want := range map[string]int{"": 401, "wrong": 401, "secret": 200} {
			status, body, _ := ask(t, client, "GET", url, func(r *http.Request) {
				if password != "" {
					r.SetBasicAuth("prometheus", password)
				}
			})
			if status != want {
				t.Errorf("%s with %q: %d %s", a, password, status, body)
			}
		}
	}
}

// Probes are answered without the password that everything else needs, on an address of their own where nothing else is, and as
// the agent is: ready only while it counts. The address closes with the others.
func TestServerHealthAddress(t *testing.T) {
	config := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(config, []byte(strings.Replace(webConfig, "@HASH@", hashOf(t, "secret"), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, HealthAddress: "0.0.0.0:0", WebConfigFile: config})
	port := s.HealthAddress().(*net.TCPAddr).Port
	if len(s.Addresses()) != 1 {
		t.Errorf("it is among the addresses for people: %v", s.Addresses())
	}
	for _, c := range []struct {
		ready        bool
		method, path string
		want         int
	}{
		{false, "GET", "/-/healthy", 200}, {false, "GET", "/-/ready", 503}, {true, "GET", "/-/ready", 200}, {true, "HEAD", "/-/ready", 200},
		{true, "POST", "/-/ready", 405}, {true, "POST", "/-/reload", 404}, {true, "GET", "/metrics", 404}, {true, "GET", "/", 404},
	} {
		s.SetReady(c.ready)
		if status, body, _ := ask(t, http.DefaultClient, c.method, fmt.Sprintf("http://127.0.0.1:%d%s", port, c.path), nil); status != c.want {
			t.Errorf("ready %v: %s %s: %d %s", c.ready, c.method, c.path, status, body)
		}
		if status, _, _ := ask(t, http.DefaultClient, "GET", "http://"+s.Addresses()[0].String()+"/-/ready", nil); status != 401 {
			t.Errorf("the other address answers %d without the password", status)
		}
	}
}

// hashOf is the password's bcrypt hash, at the least cost.
func hashOf(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

// tlsConfig writes a web configuration with a certificate, and returns a client that trusts it.
func tlsConfig(t *testing.T) (config string, client *http.Client) {
	t.Helper()
	example := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate and its client
	certificate := example.TLS.Certificates[0]
	client = example.Client()
	example.Close()
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}),
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"web.yml":  []byte("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "web.yml"), client
}

// With a certificate in the web configuration the server speaks TLS, and nothing else.
func TestServerTLS(t *testing.T) {
	config, client := tlsConfig(t)
	defer client.CloseIdleConnections()
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, WebConfigFile: config})
	address := s.Addresses()[0].String()
	if status, body, _ := ask(t, client, "GET", "https://"+address+"/-/healthy", nil); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if status, _, _ := ask(t, http.DefaultClient, "GET", "http://"+address+"/-/healthy", nil); status != 400 {
		t.Errorf("without TLS: %d", status)
	}
}

// Beyond loopback nothing is served without protection unless that is allowed, whatever the address is called; and where it is
// served, a warning says what is missing, if something is.
func TestServerUnprotected(t *testing.T) {
	for address, loopback := range map[string]bool{
		"127.0.0.1:0": true, "127.8.9.10:0": true, "[::1]:0": true, "[::ffff:127.0.0.1]:0": true, "localhost:0": true,
		"unix:" + filepath.Join(t.TempDir(), "s"): true,
		":0": false, "0.0.0.0:0": false, "[::]:0": false, "192.0.2.1:0": false, "[::ffff:192.0.2.1]:0": false,
	} {
		for _, c := range []struct {
			protection Protection
			allowed    bool
			warning    string
		}{
			{Protection{}, false, ""},
			{Protection{}, true, "everybody who reaches this address can read"},
			{Protection{TLS: true}, false, "TLS authenticates nobody"},
			{Protection{Authentication: true}, false, "in clear"},
			{Protection{TLS: true, Authentication: true}, false, ""},
		} {
			var out bytes.Buffer
			s := NewServer(ServerOptions{Addresses: []string{address}, Protection: c.protection, AllowUnprotected: c.allowed,
				Log: slog.New(slog.NewTextHandler(&out, nil))})
			err := s.Listen()
			refused := err != nil && strings.Contains(err.Error(), "--web.allow-unprotected") && strings.Contains(err.Error(), "--web.config.file")
			if want := !loopback && !c.allowed && c.protection == (Protection{}); refused != want {
				t.Errorf("%s, %+v: %v", address, c, err)
			}
			if warned, want := out.String(), !loopback && err == nil && c.warning != ""; want != (warned != "") ||
				want && (!strings.Contains(warned, "level=WARN") || !strings.Contains(warned, c.warning)) {
				t.Errorf("%s, %+v: %v, log %q", address, c, err, warned)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// 0.0.0.0 is all addresses of IPv4 and none of IPv6; [::] and an empty host are all of both.
func TestServerWildcards(t *testing.T) {
	for address, both := range map[string]bool{"0.0.0.0:0": false, "[::]:0": true, ":0": true} {
		s := NewServer(ServerOptions{Addresses: []string{address}, AllowUnprotected: true})
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
		port := strconv.Itoa(s.Addresses()[0].(*net.TCPAddr).Port)
		for host, want := range map[string]bool{"127.0.0.1": true, "::1": both} {
			c, err := net.Dial("tcp", net.JoinHostPort(host, port))
			if (err == nil) != want {
				t.Errorf("%s from %s: %v", address, host, err)
			}
			if err == nil {
				c.Close()
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What changes something is not taken from another site's page, on any path; programs and the server's own pages may.
func TestServerCrossOrigin(t *testing.T) {
	reloads := 0
	s := startServer(t, ServerOptions{Addresses: []string{"127.0.0.1:0"}, Reload: func() (string, error) { reloads++; return "", nil }})
	base := "http://" + s.Addresses()[0].String()
	for _, c := range []struct {
		method, path, header, value string
		status                      int
	}{
		{"POST", "/-/reload", "", "", 200},
		{"POST", "/-/reload", "Sec-Fetch-Site", "same-origin", 200},
		{"POST", "/-/reload", "Origin", base, 200},
		{"POST", "/-/reload", "Sec-Fetch-Site", "cross-site", 403},
		{"PUT", "/-/reload", "Sec-Fetch-Site", "same-site", 403},
		{"POST", "/-/reload", "Origin", "http://attacker.example", 403},
		{"POST", "/-/reload", "Origin", "null", 403},
		{"POST", "/metrics", "Sec-Fetch-Site", "cross-site", 403},
		{"DELETE", "/nothing", "Origin", "http://attacker.example", 403},
		{"GET", "/-/healthy", "Sec-Fetch-Site", "cross-site", 200},
	} {
		status, body, header := ask(t, http.DefaultClient, c.method, base+c.path, func(r *http.Request) {
			if c.header != "" {
				r.Header.Set(c.header, c.value)
			}
		})
		if status != c.status || status == 403 && header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s with %s: %s: %d %s", c.method, c.path, c.header, c.value, status, body)
		}
	}
	if reloads != 3 {
		t.Errorf("reloaded %d times", reloads)
	}
}

// What keeps the server from starting is one line with cause and remedy, and nothing stays open.
func TestServerListenErrors(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	free := "127.0.0.1:0"
	bad := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(bad, []byte("no_such_key: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		options  ServerOptions
		contains string
	}{
		{ServerOptions{Addresses: []string{free, busy.Addr().String()}}, "the port is in use by another process; stop that process or choose another port"},
		{ServerOptions{Addresses: []string{"192.0.2.1:0"}, AllowUnprotected: true}, "does not have the address"},
		{ServerOptions{Addresses: []string{"127.0.0.1:http2000"}}, "--web.listen-address"},
		{ServerOptions{Addresses: []string{free}, HealthAddress: busy.Addr().String()}, "choose another port with --web.health-address"},
		{ServerOptions{Addresses: []string{free}, WebConfigFile: bad}, "web configuration"},
		{ServerOptions{Addresses: []string{free}, WebConfigFile: bad + ".missing"}, "no such file"},
	} {
		s := NewServer(c.options)
		err := s.Listen()
		if err == nil || !strings.Contains(err.Error(), c.contains) || len(s.Addresses()) != 0 {
			t.Errorf("%v: %v", c.options.Addresses, err)
		}
		if err != nil && strings.Contains(strings.TrimSpace(err.Error()), "\n") && c.options.WebConfigFile == "" {
			t.Errorf("several lines: %v", err)
		}
		if s.Close() != nil {
			t.Error("closing again fails")
		}
	}
}

// A start is quiet: what the toolkit says of each address is for debugging, its warnings are not.
func TestServerLog(t *testing.T) {
	for level, want := range map[slog.Level]bool{slog.LevelInfo: false, slog.LevelDebug: true} {
		var out bytes.Buffer
		log := slog.New(chatter{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})})
		log.With("a", 1).WithGroup("g").Info("Listening on")
		if got := strings.Contains(out.String(), "level=DEBUG msg=\"Listening on\" a=1"); got != want || !want && out.Len() > 0 {
			t.Errorf("at %v: %q", level, out.String())
		}
		log.Warn("trouble")
		if !strings.Contains(out.String(), "level=WARN msg=trouble") {
			t.Errorf("at %v: %q", level, out.String())
		}
	}
}
