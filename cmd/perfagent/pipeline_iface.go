package main

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// runningAgent is the whole pipeline, from the probes to the listeners.
type runningAgent interface {
	// Apply takes over the settings of a reload that need no restart (setting.live), and reads the files again that
	// settings name: it says in a few words which, and how many rules they have. On an error nothing has changed.
	Apply(*Config) (read string, err error)
	// Failed delivers the one error after which the pipeline cannot go on, for instance a listener that broke.
	Failed() <-chan error
	// Status describes the agent in one line for people and the service manager: backend and addresses.
	Status() string
	// Close detaches the probes, hands out what is complete, and closes the listeners; it gives up when ctx ends.
	Close(ctx context.Context) error
}

// pipelineHooks is what the pipeline needs of the command that runs it.
type pipelineHooks struct {
	// Reload re-reads the configuration, and logs how that went; POST /-/reload calls it, and answers with the outcome or the error. It calls Apply.
	Reload func() (outcome string, err error)
	// ReloadState tells how the last reload went and when the last successful one was (the start counts as one):
	// perfagent_config_last_reload_successful and its timestamp.
	ReloadState func() (successful bool, last time.Time)
	// Checklist is where people are told what is watched and seen first; the zero value leaves that to the log.
	Checklist checklist
}

// startPipeline attaches the probes, opens the listeners of config and returns once exchanges are observed. On an error
// nothing stays attached or open. pipeline.go sets it.
var startPipeline = func(context.Context, *Config, *slog.Logger, pipelineHooks) (runningAgent, error) {
	return nil, errors.New("this program was built without its pipeline")
}

// backendReport says what one backend can do on this host.
type backendReport struct {
	Name      string       `json:"name"`
	Available bool         `json:"available"` // every hook that it needs can be attached
	Reason    string       `json:"reason,omitempty"`
	Hooks     []hookReport `json:"hooks"`
}

// hookReport says whether one hook can be attached, and what is lost without it.
type hookReport struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	Reason    string `json:"reason,omitempty"` // why it is missing
	Loss      string `json:"loss,omitempty"`   // what cannot be seen without it; empty where another hook sees it
}

// hostLoss is what cannot be seen where nothing watches the host.
const hostLoss = "what the host and its TCP connections suffer from"

// checkBackends tries each backend, best first, without leaving anything attached. checkprobes.go sets it.
var checkBackends = func(context.Context, *Config) ([]backendReport, error) {
	return nil, errors.New("this program was built without its probes")
}

// checkHost tries the hooks that watch processors, disks and TCP connections, likewise. checkprobes.go sets it.
var checkHost = func() (backendReport, error) {
	return backendReport{}, errors.New("this program was built without its probes")
}

// tlsDecoded tells which kinds of TLS libraries (host.Library.Kind) this build looks into. pipeline.go may set it.
var tlsDecoded = map[string]bool{}
