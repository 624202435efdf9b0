// Package e2e tests the perfagent binary from outside: real servers, a known workload of prime counts, and then what
// the agent says of it, exactly. PERFAGENT_BINARY names a built agent, PERFAGENT_BACKEND forces its hooks,
// PERFAGENT_TEST_PARTIAL=1 skips servers that are not installed instead of failing, PERFAGENT_TEST_SLOW=3 makes every
// deadline three times as long.
//
// Tests that mostly wait run at the same time (-parallel says how many): each has servers, ports and an agent of its own, and
// the agent looks at these alone. Those that load the machine, that measure, or that watch this process run by themselves.
package e2e

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/churn"
	"github.com/perfagent/perfagent/test/servers"
)

const pollInterval = 5 * time.Millisecond

// visibleTimeout: exchanges must be visible within 1 s (TestE2ESilentConnection shows it); the rest is for a machine that is so
// busy that the agent does not run for seconds, and costs nothing on any other.
var visibleTimeout = servers.Slow(20 * time.Second)

func TestMain(m *testing.M) {
	if holder, err := churn.Hold(); holder {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if err := servers.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the agent loads BPF programs: run as root")
	}
}

// startServer starts a server and ends it with the test.
func startServer(t *testing.T, options servers.Options) *servers.Server {
	t.Helper()
	s, err := servers.Start(options)
	if errors.Is(err, servers.ErrNotInstalled) && os.Getenv("PERFAGENT_TEST_PARTIAL") != "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// startAny starts a server; a program that is not installed is an error only where that is allowed.
func startAny(t *testing.T, kind servers.Kind) (*servers.Server, error) {
	t.Helper()
	s, err := servers.Start(servers.Options{Kind: kind})
	if errors.Is(err, servers.ErrNotInstalled) && os.Getenv("PERFAGENT_TEST_PARTIAL") != "" {
		return nil, err
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s, nil
}

// startAgent starts an agent and ends it with the test, showing its log where the test failed.
func startAgent(t *testing.T, options agent.Options) *agent.Agent {
	t.Helper()
	requireRoot(t)
	a, err := agent.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("agent's log: %s", a.Log())
		}
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// freePort returns a port for a server that starts later.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := servers.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// until polls until done returns true or the time is over.
func until(timeout time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(timeout); ; time.Sleep(pollInterval) {
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
