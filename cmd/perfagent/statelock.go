package main

import (
	"errors"
	"os"

	"github.com/perfagent/perfagent/internal/statefile"
)

// ownState is what this agent has of its storage directory's small files: alerts and findings as they stood at the end.
type ownState struct {
	path    string   // of the directory; "": they are remembered nowhere
	lock    *os.File // nil: none
	trouble string   // why they are not, in a user's words
}

// openState takes the files for this agent. Of two with one directory, each would take the other's alerts for its own, tell their end
// where its rules are others, and overwrite what that one has to go on with.
func (a *agent) openState(config *Config) {
	if config.Storage.Path == "" || !a.exports() {
		return
	}
	lock, err := statefile.Lock(config.Storage.Path)
	if errors.Is(err, statefile.ErrLocked) {
		a.state.trouble = "alerts and findings are kept in memory only, a restart begins anew: " + err.Error()
		a.log.Error("alerts and findings are kept in memory only: a restart begins anew", "err", err)
		return
	}
	a.state = ownState{path: config.Storage.Path, lock: lock} // without a lock, as on a full disk, the writing says what is wrong
}

func (s *ownState) close() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}
