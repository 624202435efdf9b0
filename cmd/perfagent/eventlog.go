package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/perfagent/perfagent/internal/eventlog"
	"github.com/perfagent/perfagent/internal/export"
)

// EventLogConfig is what is written to a file of JSON lines.
type EventLogConfig struct {
	File      string // "" for none
	MaxBytes  int64  // of one file
	MaxAge    time.Duration
	Files     int
	Kinds     []string // of eventlog.Kinds
	Exchanges string   // of eventlog.Choices
	Slower    time.Duration
	OneIn     int
}

// Bounds of the event log's settings.
const (
	eventLogBytesMin  = 64 << 10 // some hundred lines
	eventLogFilesMax  = 1000
	eventLogSlowerMin = time.Millisecond
	eventLogOneInMax  = 1_000_000
)

func defaultEventLog() EventLogConfig {
	return EventLogConfig{MaxBytes: eventlog.BytesDefault, Files: eventlog.FilesDefault, Kinds: slices.Clone(eventlog.Kinds),
		Exchanges: eventlog.All, Slower: eventlog.SlowerDefault, OneIn: eventlog.OneInDefault}
}

func parseEventKind(s string) (string, error) {
	if !slices.Contains(eventlog.Kinds, s) {
		return "", fmt.Errorf("%q is not one of exchange, alert, finding", s)
	}
	return s, nil
}

// parseEventLogFile wants a path that does not depend on where the agent was started.
func parseEventLogFile(s string) (string, error) {
	if s != "" && !filepath.IsAbs(s) {
		return "", fmt.Errorf("%q is not an absolute path", s)
	}
	return s, nil
}

// openEventLog opens the event log, where there is one. a.events takes alerts and findings from then on (Write, also where it is nil).
func (a *agent) openEventLog(config EventLogConfig) error {
	if config.File == "" {
		return nil
	}
	var opened *eventlog.Log
	_, err := readInTime(config.File, func() (_ []byte, err error) {
		opened, err = eventlog.Open(eventlog.Options{File: config.File, Bytes: config.MaxBytes, Age: config.MaxAge, Files: config.Files, Kinds: config.Kinds,
			Choice: config.Exchanges, Slower: config.Slower, OneIn: config.OneIn, Hub: a.hub, Log: a.log, Works: a.recoveries.of("event_log")})
		return nil, err
	})
	if err != nil {
		return err
	}
	a.events = opened
	return nil
}

func (a *agent) eventLogState() *export.EventLogState {
	if a.events == nil {
		return nil
	}
	s := a.events.Stats()
	return &export.EventLogState{Writable: s.Trouble == "", Lines: s.Written, Dropped: s.Dropped, Rotations: s.Rotations}
}
