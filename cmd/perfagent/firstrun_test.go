package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/analytics"
)

// Shows what is said where no exchange was seen: the likeliest reason first.
func TestNoExchangeReason(t *testing.T) {
	tls := analytics.Undecoded{Service: "nginx\x1b", Reason: "tls", Connections: 3}
	ssh := analytics.Undecoded{Service: "ssh", Reason: "unknown", Connections: 1}
	port := CaptureConfig{Ports: []uint16{8080}}
	for _, c := range []struct {
		name string
		w    watched
		want string
	}{
		{"lost", watched{lost: 1, undecoded: []analytics.Undecoded{tls}}, "1 exchange was seen and lost: perfagent_exchanges_lost_total says why"},
		{"TLS only", watched{undecoded: []analytics.Undecoded{tls, ssh}}, `only connections that are not decoded are open: tls of nginx\x1b (3)`},
		{"others only", watched{undecoded: []analytics.Undecoded{ssh}, listening: []uint16{22, 443}},
			"no HTTP request in clear was made to or by what is watched; open connections carry something else: unknown of ssh (1). To look around: perfagent demo"},
		{"others on a chosen port", watched{capture: port, undecoded: []analytics.Undecoded{ssh}}, "only connections that are not decoded are open: unknown of ssh (1)"},
		{"port", watched{capture: port, listening: []uint16{22, 80}}, "nothing listens on port 8080 here (listened on: 22, 80), so that there can only be requests to other hosts"},
		{"port that cannot be known", watched{capture: port, unknown: true}, "no HTTP request in clear was made to or by what is watched. To look around: perfagent demo"},
		{"port without traffic", watched{capture: port, listening: []uint16{81, 8080}},
			"no HTTP request in clear was made to or by what is watched. If that is a web server, this makes one: curl http://127.0.0.1:8080/"},
		{"filter", watched{capture: CaptureConfig{Executables: []string{"/x"}, Cgroups: []string{"/y"}}},
			"no running process is chosen by --capture.cgroup and --capture.executable"},
		{"filter without traffic", watched{capture: CaptureConfig{PIDs: []uint32{1}}, processes: 2, listening: []uint16{80}},
			"no HTTP request in clear was made to or by what is watched. Ask one of the chosen processes for something"},
		{"nothing at all", watched{processes: 9}, "no HTTP request in clear was made to or by what is watched. To look around: perfagent demo"},
	} {
		if got := c.w.reason(); got != c.want {
			t.Errorf("%s: %q, expected %q", c.name, got, c.want)
		}
	}
}

// Shows the checklist's line of processes, and that long lists of ports are cut.
func TestWatched(t *testing.T) {
	many := []uint16{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for want, w := range map[string]watched{
		"1 process; listened on: none":                                                       {processes: 1},
		"2 processes; listened on: 1, 2, 3, 4, 5, 6, 7, 8, 2 more":                           {processes: 2, listening: many},
		"2 processes; what listens cannot be read":                                           {processes: 2, unknown: true},
		"3 processes; only server ports 3, 99, of these listened on: 3":                      {processes: 3, listening: many, capture: CaptureConfig{Ports: []uint16{3, 99}}},
		"0 processes chosen by --capture.executable; listened on: none":                      {capture: CaptureConfig{Executables: []string{"x"}}},
		"1 process chosen by --capture.pid; only server ports 7, of these listened on: none": {processes: 1, capture: CaptureConfig{PIDs: []uint32{7}, Ports: []uint16{7}}},
	} {
		if got := w.String(); got != want {
			t.Errorf("%q, expected %q", got, want)
		}
	}
}

// Shows that check says what no exchange can be seen with, and that what the agent itself listens on does not count.
func TestCheckWatched(t *testing.T) {
	original := listeningPorts
	t.Cleanup(func() { listeningPorts = original })
	listeningPorts = func() ([]uint16, error) { return []uint16{80, 9464}, nil }
	const stat = "7 (shop) S 1 7 7 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 1 0 100 1000 10 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0\n"
	root := fakeRoot(t, map[string]string{"proc/7/stat": stat, "proc/8/stat": stat, "proc/self/status": "CapEff:\t000001ffffffffff\n"})
	useBackends(t, backendReport{Name: "tracepoint", Available: true})
	config := defaultConfig()
	config.Capture.Ports = []uint16{81}
	report, err := check(context.Background(), root, config)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := report.write(&text, "text"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{" processes 2 processes; only server ports 81, of these listened on: none ",
		" exchanges none of a server here with these settings: nothing listens on port 81 here (listened on: 80, 9464)"} {
		if !strings.Contains(strings.Join(strings.Fields(text.String()), " "), want) {
			t.Errorf("%q is missing in\n%s", want, text.String())
		}
	}
	w, err := look(root, config, []uint16{9464})
	if err != nil || len(w.listening) != 1 {
		t.Errorf("%v, %v", w.listening, err)
	}
	config.Capture.PIDs = []uint32{7, 9} // 9 is no process
	if w, err = look(root, config, nil); err != nil || w.processes != 1 {
		t.Errorf("%d processes, %v", w.processes, err)
	}
	listeningPorts = func() ([]uint16, error) { return nil, errors.New("no netlink") }
	if w, err = look(root, config, nil); err != nil || !w.unknown || w.obstacle() != "" {
		t.Errorf("%+v, %v", w, err)
	}
}

// Shows that people are told in lines of a terminal, and nobody else but in the log.
func TestChecklist(t *testing.T) {
	var out, log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	list := checklist{&out}
	list.begin(fakeRoot(t, map[string]string{"proc/sys/kernel/osrelease": "6.1.0\n", "proc/self/status": "Uid:\t7\t7\t7\t7\nCapEff:\t000000c000000000\n"}))
	list.say(logger, "exchanges", "none yet")
	for _, want := range []string{"kernel      6.1.0 ", "\nprivileges  missing CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH: run as root", "\nexchanges   none yet\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in %q", want, out.String())
		}
	}
	if log.Len() > 0 {
		t.Errorf("logged: %s", log.String())
	}
	if list := startChecklist(&out, defaultConfig().Log); list.w != nil {
		t.Error("a buffer is no terminal")
	}
	checklist{}.say(logger, "exchanges", "the first", slog.Float64("seconds", 1.5))
	if want := `msg="exchanges: the first" seconds=1.5`; !strings.Contains(log.String(), want) {
		t.Errorf("%q is missing in %s", want, log.String())
	}
}
