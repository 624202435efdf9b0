package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serveDashboard answers as an agent would, on a listener.
func serveDashboard(t *testing.T, listener net.Listener) {
	t.Helper()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/dashboard" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, `{"version":"1","window":{"name":%q,"seconds":60},"exchanges":60,"endpoints_total":1,"endpoints":[{"service_name":"shop","method":"GET",
			"http_route":"/items/%s","throughput_rps":1,"exchanges":60}]}`, r.URL.Query().Get("window"), strings.Repeat("long/", 30)+"end")
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
}

func runTop(environ []string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	code = execute(ctx, append([]string{"top"}, args...), environ, &out, &errs)
	return code, out.String(), errs.String()
}

func listenAt(t *testing.T, network, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// Shows where the agent is looked for: at the socket that is named, at the URL, else at the socket of the settings and then at the
// address that an agent of the same settings listens on.
func TestTopFindsTheAgent(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	serveDashboard(t, listenAt(t, "unix", socket))
	tcp := listenAt(t, "tcp", "127.0.0.1:0")
	serveDashboard(t, tcp)
	address, nobody := tcp.Addr().String(), filepath.Join(t.TempDir(), "nobody")
	for _, c := range []struct {
		name    string
		environ []string
		args    []string
		code    int
		problem string
	}{
		{"socket", nil, []string{"--web.socket", socket}, exitOK, ""},
		{"URL", nil, []string{"--web.url", "http://" + address + "/"}, exitOK, ""},
		{"socket of the environment", []string{"PERFAGENT_WEB_SOCKET=" + socket}, nil, exitOK, ""},
		{"address of the environment", []string{"PERFAGENT_WEB_SOCKET=" + nobody, "PERFAGENT_WEB_LISTEN_ADDRESS=" + address}, nil, exitOK, ""},
		{"socket that is an address", []string{"PERFAGENT_WEB_SOCKET=" + nobody, "PERFAGENT_WEB_LISTEN_ADDRESS=unix:" + socket}, nil, exitOK, ""},
		{"nobody at the socket", []string{"PERFAGENT_WEB_LISTEN_ADDRESS=" + address}, []string{"--web.socket", nobody}, exitError, "there is no such socket"},
		{"nobody at either", []string{"PERFAGENT_WEB_SOCKET=" + nobody, "PERFAGENT_WEB_LISTEN_ADDRESS=unix:" + nobody + "2"}, nil, exitError, "Start one as root with perfagent run"},
		{"both", nil, []string{"--web.socket", socket, "--web.url", "http://" + address}, exitUsage, "at one of them"},
		{"no URL", nil, []string{"--web.url", address}, exitUsage, "no URL"},
		{"password without a URL", nil, []string{"--web.password-file", "x"}, exitUsage, "need --web.url"},
	} {
		code, out, errs := runTop(c.environ, append(c.args, "--once")...)
		if code != c.code || (code == exitOK) != strings.Contains(out, "shop ") || !strings.Contains(errs, c.problem) || strings.Count(errs, "\n") > 1 {
			t.Errorf("%s: exit code %d: %s%s", c.name, code, out, errs)
		}
	}
}

// Shows the forms that need no terminal, and that the table refuses to be drawn on none.
func TestTopWithoutTerminal(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	serveDashboard(t, listenAt(t, "unix", socket))
	at := "--web.socket=" + socket
	if code, out, errs := runTop(nil, at, "--once"); code != exitOK || !strings.Contains(out, "GET    /items/"+strings.Repeat("long/", 30)+"end ") || strings.Contains(out, "\x1b") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if code, out, errs := runTop([]string{"COLUMNS=80"}, at, "--once"); code != exitOK || !strings.Contains(out, "/long/end ") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if code, out, errs := runTop(nil, at, "--once", "-o", "json"); code != exitOK || !strings.HasPrefix(out, "{") || strings.Count(out, "\n") != 1 {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	for _, args := range [][]string{{at}, {at, "-o", "xml", "--once"}, {at, "--sort=cpu", "--once"}, {at, "--interval=1ms", "--once"}, {at, "more"}} {
		if code, out, errs := runTop(nil, args...); code != exitUsage || out != "" || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: exit code %d: %s%s", args, code, out, errs)
		}
	}
	if code, _, errs := runTop(nil, at); code != exitUsage || !strings.Contains(errs, "--once") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// Shows that a socket that may not be opened is said to be, unless this is root, who may open all.
func TestTopForbiddenSocket(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may open every socket")
	}
	socket := filepath.Join(t.TempDir(), "s")
	serveDashboard(t, listenAt(t, "unix", socket))
	if err := os.Chmod(socket, 0); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := runTop(nil, "--web.socket="+socket, "--once"); code != exitError || !strings.Contains(errs, "permission denied") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// Shows that shells complete the columns of the view that was chosen.
func TestTopCompletion(t *testing.T) {
	var out, errs bytes.Buffer
	code := execute(context.Background(), []string{"__complete", "top", "--view=services", "--sort", ""}, nil, &out, &errs)
	if code != exitOK || !strings.Contains(out.String(), "cpu\n") || strings.Contains(out.String(), "route\n") {
		t.Errorf("exit code %d: %s%s", code, out.String(), errs.String())
	}
}
