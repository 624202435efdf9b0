package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/report"
	"github.com/perfagent/perfagent/internal/trace"
	"github.com/perfagent/perfagent/internal/web"
	"github.com/perfagent/perfagent/internal/wire"
)

// reportHistory is a directory whose history has a quarter of an hour.
func reportHistory(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	h := history.Open(history.Options{Path: directory, Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	start := time.Now().Truncate(time.Minute).Add(-15 * time.Minute)
	for i := range 90 {
		e := &analytics.Sealed{Key: analytics.Key{Role: wire.RoleServer, Service: "shop"}}
		e.Series = []analytics.Series{{Result: analytics.Result{Protocol: "http/1.1"}}}
		e.Key.Verb, e.Key.Name = "GET", "/cart"
		e.Series[0].Code = 200
		e.Series[0].Duration.Add(20e6)
		at := start.Add(time.Duration(i) * 10 * time.Second)
		h.Consume(&analytics.Seal{Tick: int64(i + 1), From: at, To: at.Add(10 * time.Second), Entries: []*analytics.Sealed{e}}, nil)
		for deadline := time.Now().Add(time.Minute); h.Stats().Ticks <= uint64(i); time.Sleep(time.Millisecond) { // it drops what it has no room for
			if time.Now().After(deadline) {
				t.Fatal("the history takes no ticks")
			}
		}
	}
	stop()
	<-done
	return directory
}

func runReport(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	command := newReportCommand(nil)
	command.SetArgs(args)
	command.SetOut(&out)
	command.SetErr(&errs)
	command.SilenceErrors, command.SilenceUsage = true, true
	err = command.Execute()
	return out.String(), errs.String(), err
}

// The command reads a directory without an agent, writes a file whose name says the format, asks an agent at its socket, and says what to do
// where there is neither.
func TestReportCommand(t *testing.T) {
	directory := reportHistory(t)
	file := filepath.Join(t.TempDir(), "report.html")
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--storage.path", directory, "--last", "15m"}, "# Performance of "},
		{[]string{"--storage.path", directory, "--last", "15m", "--format", "json"}, `"requests": 90,`},
		{[]string{"--storage.path", directory, "--last", "15m", "-o", file}, ""},
	} {
		out, _, err := runReport(t, c.args...)
		if err != nil || !strings.Contains(out, c.says) {
			t.Errorf("%v: %v\n%s", c.args, err, out)
		}
	}
	if body, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(body, []byte("<!DOCTYPE html>")) || !bytes.Contains(body, []byte("GET /cart")) {
		t.Errorf("%v %s", err, body)
	}
	nobody := filepath.Join(t.TempDir(), "nobody.sock")
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--web.socket", nobody}, "no agent answers at " + nobody},
		{[]string{"--web.socket", nobody, "--storage.path", directory}, "exclude each other"},
		{[]string{"--last", "1s"}, "a range of 1s is not between 10 minutes"},
		{[]string{"--range", "yearly"}, "hourly, daily, weekly"},
		{[]string{"-o", "report.pdf"}, "does not end in .html, .md or .json"},
		{[]string{"--storage.path", directory, "--last", "15m", "-o", filepath.Join(directory, "none", "r.md")}, "no such file or directory"},
		{[]string{"--storage.path", filepath.Join(directory, "none")}, "no history"},
	} {
		if _, _, err := runReport(t, c.args...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, expected %s", c.args, err, c.says)
		}
	}
}

// An agent's socket has reports beside traces.
func TestReportSocket(t *testing.T) {
	directory := reportHistory(t)
	h, err := history.OpenReadOnly(directory)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	server := web.NewServer(web.ServerOptions{Report: web.ReportOptions{Options: report.Options{Engine: query.New(query.Options{History: func() *history.History { return h }}), Host: "web-1"}}})
	go func() { done <- web.ServeTrace(ctx, l, web.NewGate(), new(trace.Hub), server, nil) }()
	out, _, err := runReport(t, "--web.socket", socket, "--last", "15m")
	if err != nil || !strings.HasPrefix(out, "# Performance of web-1\n") || !strings.Contains(out, "`GET /cart`") {
		t.Errorf("%v\n%s", err, out)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Schedules are read with their defaults; what does not fit together names the place.
func TestReportsSetting(t *testing.T) {
	read := func(text string) (*Config, error) {
		file := filepath.Join(t.TempDir(), "perfagent.yml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return (&configSource{file: file}).load()
	}
	receivers := "notify: {receivers: [{name: chat, webhook: {url: 'http://127.0.0.1:9/'}}, {name: am, alertmanager: {url: 'http://127.0.0.1:9'}}]}\n"
	c, err := read(receivers + "reports:\n  - {schedule: daily, directory: /var/lib/perfagent/reports, receiver: chat}\n  - {schedule: weekly, format: json, directory: /tmp/x/, keep: 5}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []report.Schedule{{Range: "daily", Format: "html", Directory: "/var/lib/perfagent/reports", Keep: 30, Receiver: "chat"}, {Range: "weekly", Format: "json", Directory: "/tmp/x", Keep: 5}}
	if got := c.Reports.value; len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v", got)
	}
	for _, m := range []struct{ reports, says string }{
		{"[{schedule: yearly, directory: /x}]", "hourly, daily, weekly"}, {"[{schedule: daily}]", "needs schedule and directory"},
		{"[{schedule: daily, directory: x}]", "is not an absolute path"}, {"[{schedule: daily, directory: /x, keep: 0}]", "from 1 to"},
		{"[{schedule: daily, directory: /x, every: day}]", "unknown key every"}, {"[{schedule: daily, directory: /x, receiver: mail}]", "no receiver is called so"},
		{"[{schedule: daily, directory: /x, receiver: am}]", "takes alerts"}, {"[{schedule: daily, directory: /x}, {schedule: daily, directory: /x/}]", "two reports are"},
	} {
		if _, err := read(receivers + "reports: " + m.reports + "\n"); err == nil || !strings.Contains(err.Error(), m.says) || !strings.Contains(err.Error(), ".yml:2") {
			t.Errorf("%s: %v, expected %s", m.reports, err, m.says)
		}
	}
}
