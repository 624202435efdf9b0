package main

import (
	"log/slog"
	"strings"
	"sync"
	"time"
)

// reloader applies changes of the configuration to a running agent. Its methods may be called from any goroutine.
type reloader struct {
	source *configSource
	level  *slog.LevelVar
	log    *slog.Logger

	mu         sync.Mutex
	config     *Config // in force
	agent      runningAgent
	successful bool
	last       time.Time
}

func newReloader(source *configSource, config *Config, level *slog.LevelVar, log *slog.Logger) *reloader {
	return &reloader{source: source, level: level, log: log, config: config, successful: true, last: time.Now()}
}

// started tells which pipeline reloads apply to; before it they apply to none.
func (r *reloader) started(agent runningAgent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.agent = agent
}

// State tells how the last reload went, and when the last successful one was.
func (r *reloader) State() (successful bool, last time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.successful, r.last
}

// Reload reads the configuration again and applies what a running agent can take over. It returns what became of the settings
// that differ, in one line. A bad configuration changes nothing.
func (r *reloader) Reload() (outcome string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.successful = false
	wanted, err := r.source.load()
	if err != nil {
		return "", err
	}
	live, restart := changes(r.config, wanted)
	config := withLive(r.config, wanted)
	if r.agent != nil {
		if err := r.agent.Apply(config); err != nil {
			return "", err
		}
	}
	r.level.Set(config.Log.Level)
	setMemoryLimit(config)
	r.config, r.successful, r.last = config, true, time.Now()
	r.log.Info("configuration reloaded", "changed", live)
	if len(restart) > 0 {
		r.log.Warn("changed settings need a restart", "settings", restart)
	}
	return reloadOutcome(live, restart), nil
}

// reloadOutcome says which settings were taken over, and which are not in force before a restart.
func reloadOutcome(live, restart []string) string {
	outcome := "reloaded: no setting has changed"
	switch {
	case len(live) > 0:
		outcome = "reloaded: " + strings.Join(live, ", ")
	case len(restart) > 0:
		outcome = "reloaded: none of the changed settings can be taken over"
	}
	if len(restart) > 0 {
		outcome += "; only a restart takes over " + strings.Join(restart, ", ")
	}
	return outcome
}
