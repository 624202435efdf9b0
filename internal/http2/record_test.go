//go:build record

package http2

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

// TestRecord records what real clients and servers say to each other, into testdata; it needs nginx, node, curl and h2load:
//
//	go test -tags record -run TestRecord ./internal/http2
//
// The recordings are committed, and replayed by TestRecorded.
func TestRecord(t *testing.T) {
	servers := map[string]string{"go": goServer(t), "nginx": nginx(t), "node": node(t)}
	for name, address := range servers {
		for _, c := range []struct {
			name string
			args []string
		}{
			{"curl-get", []string{"curl", "-sS", "--http2-prior-knowledge", "-o", os.DevNull, "http://PROXY/items/42?secret=1"}},
			{"curl-post", []string{"curl", "-sS", "--http2-prior-knowledge", "-o", os.DevNull, "-d", strings.Repeat("b", 5000), "http://PROXY/orders"}},
			{"curl-head", []string{"curl", "-sS", "--http2-prior-knowledge", "-I", "http://PROXY/missing"}},
			{"curl-upgrade", []string{"curl", "-sS", "--http2", "-o", os.DevNull, "http://PROXY/upgraded?x=1"}},
			{"h2load", []string{"h2load", "-n", "16", "-c", "1", "-m", "8", "http://PROXY/items/1", "http://PROXY/big"}},
			{"nghttp", []string{"nghttp", "-n", "http://PROXY/", "http://PROXY/big"}},
		} {
			if name != "go" && c.name == "curl-upgrade" {
				continue // they have no upgrade
			}
			record(t, name+"-"+c.name, address, func(proxy string) {
				args := make([]string, len(c.args))
				for i, a := range c.args {
					args[i] = strings.ReplaceAll(a, "PROXY", proxy)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
					t.Logf("%s: %v: %s", c.name, err, out)
				}
			})
		}
		record(t, name+"-go", address, goClient)
	}
}

// goClient asks for a few things at once, gives one of them up, and stops.
func goClient(proxy string) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	var wait sync.WaitGroup
	for i := range 6 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			resp, err := client.Get(fmt.Sprintf("http://%s/items/%d", proxy, i))
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}()
		if i == 0 {
			wait.Wait() // one connection for all
		}
	}
	wait.Wait()
	resp, err := client.Post("http://"+proxy+"/orders", "text/plain", strings.NewReader("an order"))
	if err == nil {
		_ = resp.Body.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+proxy+"/slow", nil)
	if resp, err := client.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	client.CloseIdleConnections()
}

// record writes what passes between a client and a server on its first connection.
func record(t *testing.T, name, address string, client func(proxy string)) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var text strings.Builder
	done := make(chan bool)
	go func() {
		defer close(done)
		for first := true; ; first = false {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			pass := func(sign string, from, to net.Conn) {
				buf := make([]byte, 16<<10)
				for {
					n, err := from.Read(buf)
					if n > 0 {
						if mu.Lock(); first {
							fmt.Fprintf(&text, "%s %s\n", sign, hex.EncodeToString(buf[:n]))
						}
						_, _ = to.Write(buf[:n])
						mu.Unlock()
					}
					if err != nil {
						_ = to.Close()
						return
					}
				}
			}
			go pass(">", near, far)
			go pass("<", far, near)
		}
	}()
	client(listener.Addr().String())
	_ = listener.Close()
	<-done
	mu.Lock()
	defer mu.Unlock()
	text.WriteString("x\n")
	if err := os.WriteFile(filepath.Join("testdata", name+".h2"), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func goServer(t *testing.T) string {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello", r.URL.Path) })
	mux.HandleFunc("/missing", http.NotFound)
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 700)) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/orders", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h2c.NewHandler(mux, &http2.Server{})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// free returns an address that nobody listens on.
func free(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// start runs a server until the test ends, and waits for it to listen.
func start(t *testing.T, address string, command ...string) string {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return address
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not listen", command[0])
	return ""
}

func nginx(t *testing.T) string {
	dir, address := t.TempDir(), free(t)
	if err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, 700), 0o644); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http { access_log off; client_body_temp_path %[1]s/body; root %[1]s;
  server { listen %[2]s http2;
    location / { return 200 "hello"; } location /big { } location /missing { return 404; } location /orders { return 201; }
    location /slow { limit_rate 10; return 200 "slowly, slowly"; } } }`, dir, address)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	return start(t, address, "nginx", "-c", file, "-p", dir)
}

func node(t *testing.T) string {
	address := free(t)
	_, port, _ := net.SplitHostPort(address)
	return start(t, address, "node", "-e", `
const server = require("http2").createServer({enableConnectProtocol: true});
server.on("stream", (s, h) => {
  s.on("error", () => {});
  const path = h[":path"];
  if (path === "/slow") { s.respond({":status": 200}); s.write("slowly"); return; }
  if (path === "/missing") { s.respond({":status": 404}, {endStream: true}); return; }
  if (path === "/orders") { s.on("data", () => {}); s.on("end", () => { s.respond({":status": 201}, {endStream: true}); }); return; }
  if (path === "/big") { s.respond({":status": 200}); s.end(Buffer.alloc(700)); return; }
  s.additionalHeaders({":status": 103, link: "</a.css>"});
  s.respond({":status": 200, "content-type": "text/plain"}, {waitForTrailers: true});
  s.on("wantTrailers", () => s.sendTrailers({"x-sum": "1"}));
  s.end("hello " + path);
});
server.listen(`+port+`, "127.0.0.1");`)
}
