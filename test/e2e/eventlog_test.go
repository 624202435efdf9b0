package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

// loggedExchanges reads the event log's files, and returns the server's exchanges by their request id.
func loggedExchanges(t *testing.T, names ...string) map[string]agent.Exchange {
	t.Helper()
	all := map[string]agent.Exchange{}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			continue // not there yet
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			var line struct {
				Kind string
				agent.Exchange
			}
			if err := json.Unmarshal(s.Bytes(), &line); err != nil || line.Kind != "exchange" {
				t.Fatalf("%q: %v", s.Text(), err)
			}
			if line.Role == "server" {
				all[line.RequestID] = line.Exchange
			}
		}
	}
	return all
}

// Every exchange is in the event log, as trace shows it, also of an agent that serves nothing; logrotate's renaming and SIGHUP lose none.
func TestE2EEventLog(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	name := filepath.Join(t.TempDir(), "events.log")
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{"--event-log.file=" + name}})
	b := newBook(t, a)
	b.fast(s, 101)
	b.check()
	if !until(visibleTimeout, func() bool { return len(loggedExchanges(t, name)) == 101 }) { // trace may be ahead of the file
		t.Fatalf("%d of 101 exchanges", len(loggedExchanges(t, name)))
	}
	if err := os.Rename(name, name+"-old"); err != nil {
		t.Fatal(err)
	}
	if err := a.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if !until(visibleTimeout, func() bool { _, err := os.Stat(name); return err == nil }) {
		t.Fatal("no other file was made")
	}
	b.fast(s, 13)
	b.check()
	if !until(visibleTimeout, func() bool { return len(loggedExchanges(t, name, name+"-old")) == 114 }) {
		t.Errorf("%d of 114 exchanges", len(loggedExchanges(t, name, name+"-old")))
	}
	traced := 0
	logged := loggedExchanges(t, name, name+"-old")
	for _, e := range a.Exchanges() {
		if e.Role == "server" && e.Time == logged[e.RequestID].Time && *e.DurationNS == *logged[e.RequestID].DurationNS {
			traced++
		}
	}
	if newer := len(loggedExchanges(t, name)); traced != 114 || newer != 13 {
		t.Errorf("%d exchanges are as trace has them; the second file has %d", traced, newer)
	}
	m, err := a.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	if lines := m.Sum("perfagent_event_log_lines_total", "kind", "exchange"); lines < 114 || m.Sum("perfagent_event_log_writable") != 1 || m.Sum("perfagent_event_log_dropped_total") != 0 {
		t.Errorf("%v lines", lines)
	}
	b.settle(s)
	balance(t, a, b)
}
