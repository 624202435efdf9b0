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

	reloading sync.Mutex // held by a reload, over all that it reads
	config    *Config    // in force

	mu         sync.Mutex // never held while something is read: a scrape takes it
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
// that differ and which files of names were read, in one line. A bad configuration changes nothing. Both are logged.
func (r *reloader) Reload() (outcome string, err error) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	outcome, err = r.apply()
	if err != nil {
		r.log.Error("the configuration was not reloaded", "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.successful = err == nil; r.successful {
		r.last = time.Now()
	}
	return outcome, err
}

func (r *reloader) apply() (outcome string, err error) {
	wanted, err := r.source.load()
	if err != nil {
		return "", err
	}
	live, restart := changes(r.config, wanted)
	config := withLive(r.config, wanted)
	r.mu.Lock()
	agent := r.agent
	r.mu.Unlock()
	read := ""
	if agent != nil {
		if read, err = agent.Apply(config); err != nil {
			return "", err
		}
	}
	r.level.Set(config.Log.Level)
	setMemoryLimit(config)
	r.config = config
	r.log.Info("configuration reloaded", "changed", live, "read", read)
	if len(restart) > 0 {
		r.log.Warn("changed settings need a restart", "settings", restart)
	}
	return reloadOutcome(live, restart, read), nil
}

// reloadOutcome says which settings were taken over, which are not in force before a restart, and which files were read.
func reloadOutcome(live, restart []string, read string) string {
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
	if read != "" {
		outcome += "; read " + read
	}
	return outcome
}
