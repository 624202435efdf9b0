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

	"github.com/perfagent/perfagent/internal/wire"
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
		if r.URL.Path != tracePath {
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
	code = execute(ctx, append([]string{"trace"}, args...), nil, &out, &errs)
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
	if len(lines) != 5 || !strings.HasPrefix(lines[0], "HTTP exchanges as they end") {
		t.Fatalf("output:\n%s", out)
	}
	for i, fields := range [][]string{2: {"server", "shop", "200", "12.3ms", "GET", "/items/7"}, 3: {"client", `a\x1b[31m`, "aborted", "-", "POST", `/\u202e\n`}} {
		if fields != nil && !reflect.DeepEqual(strings.Fields(lines[i])[1:], fields) {
			t.Errorf("line %q, want %q", lines[i], fields)
		}
	}
	code, out, _ = runTrace("--web.socket", socket, "-o", "json", "--limit=1")
	if code != exitOK || out != traceSample+"\n" {
		t.Errorf("exit code %d, JSON output %q", code, out)
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

// Shows that without an agent, also where one left its socket behind, and with a --capture flag, trace observes for
// itself on a private socket, and removes that.
func TestTraceAlone(t *testing.T) {
	directory := t.TempDir()
	stale := filepath.Join(directory, "stale")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	running := filepath.Join(directory, "running")
	serveTrace(t, running, `{"path":"/wrong"}`)
	for _, args := range [][]string{
		{"--web.socket", filepath.Join(directory, "none")},
		{"--web.socket", stale},
		{"--web.socket", running, "--capture.port", "80"},
		{"--web.socket="},
	} {
		private := useTracingPipeline(t)
		code, out, errs := runTrace(append(args, "-o", "json", "--limit", "1")...)
		if code != exitOK || out != traceSample+"\n" {
			t.Errorf("%v: exit code %d, output %q, errors %q", args, code, out, errs)
		}
		socket := within(t, private, "the start")
		if _, err := os.Stat(filepath.Dir(socket)); !os.IsNotExist(err) {
			t.Errorf("%v: the private socket's directory is still there: %v", args, err)
		}
	}
}

// useTracingPipeline replaces startPipeline by one that serves the sample on its socket.
func useTracingPipeline(t *testing.T) <-chan string {
	t.Helper()
	sockets := make(chan string, 1)
	original := startPipeline
	startPipeline = func(_ context.Context, config *Config, _ *slog.Logger, _ pipelineHooks) (pipeline, error) {
		if len(config.Web.ListenAddresses) != 0 {
			t.Errorf("trace listens on %v", config.Web.ListenAddresses)
		}
		serveTrace(t, config.Web.Socket, traceSample)
		sockets <- config.Web.Socket
		return &fakePipeline{failed: make(chan error), closed: make(chan struct{})}, nil
	}
	t.Cleanup(func() { startPipeline = original })
	return sockets
}

// Shows which exchanges a filter chooses, and that it survives its way through a query.
func TestTraceFilter(t *testing.T) {
	exchange := func(status uint16, errorType, service string, took time.Duration) *wire.Exchange {
		return &wire.Exchange{Status: status, ErrorType: errorType, Service: service, Arrived: 1, Finished: 1 + int64(took)}
	}
	ok, missing := exchange(200, "", "shop", time.Millisecond), exchange(404, "", "shop", time.Second)
	broken, aborted := exchange(503, "503", "cart", time.Second), exchange(0, "aborted", "cart", time.Second)
	for _, c := range []struct {
		filter traceFilter
		want   []bool // ok, missing, broken, aborted
	}{
		{traceFilter{}, []bool{true, true, true, true}},
		{traceFilter{Slower: time.Second}, []bool{false, true, true, true}},
		{traceFilter{Statuses: []string{"4xx", "5xx"}}, []bool{false, true, true, false}},
		{traceFilter{Statuses: []string{"404", "aborted"}}, []bool{false, true, false, true}},
		{traceFilter{Services: []string{"shop", "x,y"}, Limit: 3}, []bool{true, true, false, false}},
		{traceFilter{Services: []string{"cart"}, Statuses: []string{"timeout", "503"}}, []bool{false, false, true, false}},
	} {
		parsed, err := parseTraceFilter(c.filter.query())
		if err != nil || !reflect.DeepEqual(parsed, c.filter) {
			t.Errorf("%+v came back as %+v, %v", c.filter, parsed, err)
		}
		for i, e := range []*wire.Exchange{ok, missing, broken, aborted} {
			if got := parsed.match(e); got != c.want[i] {
				t.Errorf("%+v on %d: %v, want %v", c.filter, i, got, c.want[i])
			}
		}
	}
	for _, query := range []string{"status=6xx", "status=99", "status=", "slower=x", "slower=-1s", "limit=-1", "colour=red"} {
		values, _ := url.ParseQuery(query)
		if _, err := parseTraceFilter(values); err == nil {
			t.Errorf("%q was accepted", query)
		}
	}
}

// Shows how texts and durations look on a terminal.
func TestTerminal(t *testing.T) {
	for in, want := range map[string]string{"a b é": "a b é", "\x1b]0;x\x07\n": `\x1b]0;x\a\n`, "\xff\u202e": `\xff\u202e`, "\u0085": `\u0085`} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[int64]string{-1: "-", 0: "0ns", 999: "999ns", 1000: "1.00us", 12345: "12.3us", 999_499: "999us", 999_500: "1.00ms", 1_234_567: "1.23ms", 45_600_000_000: "45.6s", 3600e9: "3600s"} {
		if got := showDuration(in); got != want {
			t.Errorf("showDuration(%d) = %q, want %q", in, got, want)
		}
	}
	if got := shorten("abcdé", 4); got != "abc…" {
		t.Errorf("shorten: %q", got)
	}
}
