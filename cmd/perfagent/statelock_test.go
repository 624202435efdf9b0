package main

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/redis"
)

// Of two agents with one storage directory the first has the files of alerts and findings; the other reads and writes none of them, and
// says so. Once the first has ended the next one has them.
func TestTwoAgentsOnOneStorage(t *testing.T) {
	config := defaultConfig()
	config.Storage.Path = filepath.Join(t.TempDir(), "storage")
	begin := func() *agent {
		a := &agent{log: slog.New(slog.DiscardHandler), redis: redis.New(redis.Options{})}
		a.openState(config)
		return a
	}
	first, second := begin(), begin()
	if first.state.path != config.Storage.Path || len(first.troubles()) != 0 {
		t.Errorf("the first: %+v", first.state)
	}
	if all := second.troubles(); second.state.path != "" || len(all) != 1 || !strings.Contains(all[0], "another agent uses them") {
		t.Errorf("the second: %+v, %q", second.state, all)
	}
	if err := first.state.close(); err != nil {
		t.Error(err)
	}
	third := begin()
	if third.state.path != config.Storage.Path {
		t.Errorf("the third: %+v", third.state)
	}
	if err := third.state.close(); err != nil {
		t.Error(err)
	}
}
