package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/trace"
)

const traceSample = `{"time":"2030-01-02T03:04:05.678Z","role":"server","service_name":"shop","method":"GET","path":"/items/7","status_code":200,"duration_ns":12345678}`

// serveTrace serves a Unix socket as an agent would, and delivers the queries it was asked.
func serveTrace(t *testing.T, socket string, lines ...string) <-chan url.Values {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	queries := make(chan url.Values, 10)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		queries <- r.URL.Query()
		if r.URL.Path != trace.Path {
			http.NotFound(w, r)
			return
		}
		for _, line := range lines {
			fmt.Fprintln(w, line)
		}
		w.(http.Flusher).Flush()
		if lines[len(lines)-1] != "" {
			<-r.Context().Done()
		}
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return queries
}

func runTrace(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	code = execute(ctx, append([]string{"trace"}, args...), []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://192.0.2.1:4318"}, &out, &errs)
	return code, out.String(), errs.String()
}

// Shows both forms of a running agent's exchanges, that the filter reaches it, and that the limit ends the command.
func TestTraceBesideAnAgent(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	aborted := `{"time":"2030-01-02T03:04:05Z","role":"client","service_name":"a\u001b[31m","method":"POST","path":"/\u202e\n","error_type":"aborted"}`
	queries := serveTrace(t, socket, traceSample, aborted)
	code, out, errs := runTrace("--web.socket", socket, "--limit", "2", "--slower", "10ms", "--status", "5xx,404", "--status", "aborted", "--service", "a,b", "--service", "c")
	if code != exitOK || errs != "" {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	want := url.Values{"limit": {"2"}, "slower": {"10ms"}, "status": {"5xx,404,aborted"}, "service": {"a,b", "c"}}
	if got := within(t, queries, "the query"); !reflect.DeepEqual(got, want) {
		t.Errorf("query %v, want %v", got, want)
	}
	lines := strings.Split(out, "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[0], "HTTP exchanges as they end, from the agent at "+socket[:20]) || lines[1]+"\n" != export.LineHeader() {
		t.Fatalf("output:\n%s", out)
	}
	for i, fields := range [][]string{2: {"shop", "GET", "200", "12.3ms", "-", "/items/7"}, 3: {`>a\x1b[31m`, "POST", "aborted", "-", "-", `///\u202e\n`}} {
		if fields != nil && !reflect.DeepEqual(strings.Fields(lines[i])[1:], fields) {
			t.Errorf("line %q, want %q", lines[i], fields)
		}
	}
	for _, line := range lines {
		if utf8.RuneCountInString(line) > export.LineWidth {
			t.Errorf("longer than %d: %s", export.LineWidth, line)
		}
	}
	code, out, _ = runTrace("--web.socket", socket, "-o", "json", "--limit=1")
	if code != exitOK || out != traceSample+"\n" {
		t.Errorf("exit code %d, JSON output %q", code, out)
	}
}

// Shows that a path is whole where the output is no terminal, and at the columns that COLUMNS says its end.
func TestTraceLongPath(t *testing.T) {
	path := "/" + strings.Repeat("long/", 60) + "end"
	socket := filepath.Join(t.TempDir(), "s")
	serveTrace(t, socket, strings.Replace(traceSample, "/items/7", path, 1))
	for columns, want := range map[string]string{"": " " + path + "\n", "COLUMNS=90": " ~" + path[len(path)-27:] + "\n"} {
		var out, errs bytes.Buffer
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		code := execute(ctx, []string{"trace", "--web.socket", socket, "--limit=1"}, []string{columns}, &out, &errs)
		cancel()
		if code != exitOK || !strings.HasSuffix(out.String(), want) {
			t.Errorf("%q: exit code %d, %s%s", columns, code, out.String(), errs.String())
		}
	}
}

// Shows that an agent that stops or answers nonsense is an error of one line.
func TestTraceFailures(t *testing.T) {
	directory := t.TempDir()
	ending := filepath.Join(directory, "a")
	serveTrace(t, ending, traceSample, "")
	if code, _, errs := runTrace("--web.socket", ending); code != exitError || errs != "perfagent: the agent stopped\n" {
		t.Errorf("exit code %d: %q", code, errs)
	}
	nonsense := filepath.Join(directory, "b")
	serveTrace(t, nonsense, "<html>")
	if code, _, errs := runTrace("--web.socket", nonsense); code != exitError || !strings.Contains(errs, "no exchange") {
		t.Errorf("exit code %d: %q", code, errs)
	}
}

// staleSocket returns the path of a socket that an agent left behind.
func staleSocket(t *testing.T) string {
	t.Helper()
	stale := filepath.Join(t.TempDir(), "stale")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	return stale
}

// Shows that without an agent at the default socket, also where one left its socket behind, and with a --capture flag, trace
// observes for itself on a private socket, says so in its heading, and removes the socket.
func TestTraceAlone(t *testing.T) {
	directory := t.TempDir()
	running := filepath.Join(directory, "running")
	serveTrace(t, running, `{"path":"/wrong"}`)
	original := socketDefault
	t.Cleanup(func() { socketDefault = original })
	for _, c := range []struct{ socket, arg string }{
		{filepath.Join(directory, "none"), "--slower=0s"}, {staleSocket(t), "--slower=0s"},
		{running, "--capture.port=80"}, {running, "--web.socket="},
	} {
		private := useTracingPipeline(t)
		socketDefault = c.socket
		code, out, errs := runTrace(c.arg, "--limit", "1")
		if code != exitOK || !strings.HasPrefix(out, "HTTP exchanges as they end, observed by this command alone\n") || !strings.Contains(out, "/items/7") {
			t.Errorf("%v: exit code %d, output %q, errors %q", c, code, out, errs)
		}
		socket := within(t, private, "the start")
		if _, err := os.Stat(filepath.Dir(socket)); !os.IsNotExist(err) {
			t.Errorf("%v: the private socket's directory is still there: %v", c, err)
		}
	}
}

// Shows that a socket that was named is the only place where trace looks, and that nothing is observed instead: by a flag, by
// the environment, and beside what only an agent of its own could be told.
func TestTraceNamedSocket(t *testing.T) {
	useTracingPipeline(t)
	none, stale := filepath.Join(t.TempDir(), "none"), staleSocket(t)
	for _, socket := range []string{none, stale} {
		want := "perfagent: no agent answers at " + socket
		if code, out, errs := runTrace("--web.socket", socket, "--limit=1"); code != exitError || out != "" || !strings.HasPrefix(errs, want) {
			t.Errorf("by flag: exit code %d, %q %q", code, out, errs)
		}
		t.Setenv("PERFAGENT_WEB_SOCKET", socket)
		var out, errs bytes.Buffer
		code := execute(context.Background(), []string{"trace", "--limit=1"}, os.Environ(), &out, &errs)
		if code != exitError || out.Len() > 0 || !strings.HasPrefix(errs.String(), want) {
			t.Errorf("by the environment: exit code %d, %q %q", code, out.String(), errs.String())
		}
	}
	if code, out, errs := runTrace("--web.socket", none, "--capture.port=80"); code != exitUsage || out != "" || !strings.Contains(errs, "flag --web.socket: ") {
		t.Errorf("with --capture.port: exit code %d, %q %q", code, out, errs)
	}
}

// useTracingPipeline replaces startPipeline by one that serves the sample on its socket.
func useTracingPipeline(t *testing.T) <-chan string {
	t.Helper()
	sockets := make(chan string, 1)
	original := startPipeline
	startPipeline = func(_ context.Context, config *Config, _ *slog.Logger, _ pipelineHooks) (runningAgent, error) {
		if len(config.Web.ListenAddresses) != 0 {
			t.Errorf("trace listens on %v", config.Web.ListenAddresses)
		}
		if config.OTLP.Endpoint != "" {
			t.Errorf("trace exports to %s", config.OTLP.Endpoint)
		}
		serveTrace(t, config.Web.Socket, traceSample)
		sockets <- config.Web.Socket
		return &fakePipeline{failed: make(chan error), closed: make(chan struct{})}, nil
	}
	t.Cleanup(func() { startPipeline = original })
	return sockets
}

// Shows that a filter that means nothing is a usage error that names the flag, and that the limit counts exchanges
// alone, not the gaps between them.
func TestTraceFlags(t *testing.T) {
	for _, args := range [][]string{{"--slower=-1s"}, {"--status=5xx,6xx"}, {"--service=["}, {"--limit=-1"}, {"--output=xml"}} {
		name, _, _ := strings.Cut(args[0], "=")
		if code, _, errs := runTrace(args...); code != exitUsage || !strings.Contains(errs, "flag "+name+": ") {
			t.Errorf("%v: exit code %d: %q", args, code, errs)
		}
	}
	socket := filepath.Join(t.TempDir(), "s")
	queries := serveTrace(t, socket, traceSample, `{"dropped":7}`, traceSample)
	code, out, errs := runTrace("--web.socket", socket, "--limit=2", "--trace.raw-paths")
	if code != exitOK || strings.Count(out, "\n") != 5 || !strings.Contains(out, "\n(7 exchanges left out") {
		t.Errorf("exit code %d, %s: %s", code, errs, out)
	}
	if got := within(t, queries, "the query"); got.Get("raw_paths") != "true" {
		t.Errorf("query %v", got)
	}
}

// Shows how texts look on a terminal.
func TestTerminal(t *testing.T) {
	for in, want := range map[string]string{"a b é": "a b é", "\x1b]0;x\x07\n": `\x1b]0;x\a\n`, "\xff\u202e": `\xff\u202e`, "\u0085": `\u0085`} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}
