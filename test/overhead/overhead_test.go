package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/servers"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := servers.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// The server's CPU time per request under load is of the right size, and the script asks for many paths.
func TestMeasuring(t *testing.T) {
	s, err := servers.Start(servers.Options{Kind: servers.Nginx})
	if errors.Is(err, servers.ErrNotInstalled) {
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
	if _, err := exec.LookPath("wrk"); err != nil {
		t.Skip(err)
	}
	load, err := startWrk(s, "", time.Hour, "/bench")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{server: s}
	ns, err := b.slice(nil)
	if stopErr := load.Stop(); err != nil || stopErr != nil {
		t.Fatal(err, stopErr)
	}
	if ns < 500 || ns > 500_000 {
		t.Errorf("%.0f ns of CPU per request", ns)
	}
	t.Logf("%.0f ns of CPU per request", ns)
	script, _, err := endpointFiles(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	before, err := readUsage(s)
	if err != nil {
		t.Fatal(err)
	}
	load, err = startWrk(s, script, time.Second, "/")
	if err != nil {
		t.Fatal(err)
	}
	<-load.Done()
	after, err := readUsage(s)
	if err != nil {
		t.Fatal(err)
	}
	if load.ExitCode() != 0 || after.requests-before.requests < 100 {
		t.Errorf("wrk made %d requests: %s", after.requests-before.requests, load.Log())
	}
}

// Quartiles of a known list.
func TestQuartiles(t *testing.T) {
	if low, middle, high := quartiles([]float64{5, 1, 4, 2, 3}); low != 2 || middle != 3 || high != 4 {
		t.Errorf("%g %g %g", low, middle, high)
	}
}
