package main

import (
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/report"
)

// Config is every setting of the agent. settings lists how each is named, parsed and bounded.
type Config struct {
	Web       WebConfig
	Capture   CaptureConfig
	Routes    RoutesConfig
	Services  ServicesConfig
	Metrics   MetricsConfig
	Limits    LimitsConfig
	Levels    LevelsConfig
	Trace     TraceConfig
	OTLP      OTLPConfig
	Log       LogConfig
	Storage   StorageConfig
	Query     QueryConfig
	Alerts    AlertsConfig
	Anomalies AnomaliesConfig
	Notify    NotifyConfig
	Remedies  RemediesConfig
	EventLog  EventLogConfig
	Export    ExportConfig
	Reports   parsed[[]report.Schedule] // that are written by themselves

	ReadyFile string // written once the agent is ready, removed at the end; "" for none
}

// WebConfig is what the agent serves.
type WebConfig struct {
	ListenAddresses []string // host:port or unix:/path
	ConfigFile      string   // TLS and basic auth, exporter-toolkit format; "" for none
	EnableLifecycle bool     // POST /-/reload
	// AllowUnprotected lets it listen beyond loopback without TLS and password.
	AllowUnprotected bool
	HealthAddress    string // host:port for an orchestrator's probes; "" for none
	ExternalURL      string // where people reach the agent's pages; "" is an address that it listens on
	Socket           string // Unix socket that `trace` reads from; "" for none
}

// CaptureConfig is what the kernel side looks at.
type CaptureConfig struct {
	Ports       []uint16 // empty lists mean all
	PIDs        []uint32
	Executables []string
	Cgroups     []string
	Backend     string        // auto, tracepoint, fentry, kprobe, syscall
	TLS         string        // auto, off
	Host        string        // auto, off
	HeadBytes   uint32        // captured bytes of a request head, at most
	Timeout     time.Duration // a request without a response for so long is a timeout
	RingBytes   uint32        // size of the ring buffer; a power of two
}

// RoutesConfig is how paths become routes.
type RoutesConfig struct{ File string }

// MetricsConfig is what metrics look like.
type MetricsConfig struct {
	ClassicHistograms string // durations, all, none: a name of export.Classic
}

// ServicesConfig is how processes become services.
type ServicesConfig struct{ File string }

// QueryConfig bounds questions to the local history.
type QueryConfig struct {
	Timeout        time.Duration
	MaxSamples     int
	MaxConcurrency int
}

// LimitsConfig bounds what the agent keeps.
type LimitsConfig struct {
	Endpoints   int
	MemoryBytes int64
	Connections uint32
	Heads       uint32
	Streams     int
}

// TraceConfig is what an exchange shows of itself.
type TraceConfig struct {
	RawPaths   bool
	UserHeader string // whose value tells users apart, and is shown as a hash; "" for none
}

// LogConfig is the agent's own log.
type LogConfig struct {
	Level  slog.Level
	Format string // logfmt, json
}

// socketDefault is the socket of an agent that nobody configured; tests have another.
var socketDefault = "/run/perfagent/perfagent.sock"

// defaultConfig returns the settings of an agent that nobody configured.
func defaultConfig() *Config {
	return &Config{
		Web: WebConfig{ListenAddresses: []string{"127.0.0.1:9464"}, Socket: socketDefault},
		Capture: CaptureConfig{
			Backend: "auto", TLS: "auto", Host: "auto", HeadBytes: 1024, Timeout: 5 * time.Minute, RingBytes: 8 << 20,
		},
		Metrics:   MetricsConfig{ClassicHistograms: export.ClassicDurations.String()},
		Limits:    LimitsConfig{Endpoints: 2000, MemoryBytes: 128 << 20, Connections: 65536, Heads: 6144, Streams: 4096},
		OTLP:      OTLPConfig{Interval: export.OTLPIntervalDefault},
		Levels:    defaultLevels(),
		Storage:   StorageConfig{Retention: history.RetentionDefault, MaxBytes: history.MaxBytesDefault},
		Query:     QueryConfig{Timeout: query.TimeoutDefault, MaxSamples: query.MaxSamplesDefault, MaxConcurrency: query.ConcurrencyDefault},
		Alerts:    AlertsConfig{Builtin: "on"},
		Anomalies: AnomaliesConfig{Mode: "on", Sensitivity: finding.SensitivityDefault},
		Notify:    defaultNotify(),
		Remedies:  defaultRemedies(),
		EventLog:  defaultEventLog(),
		Export:    defaultExport(),
		Log:       LogConfig{Level: slog.LevelInfo, Format: "logfmt"},
	}
}

// configFileFlag names the one setting that cannot stand in the file: the file itself.
const configFileFlag = "config.file"

// environmentPrefix begins the name of every variable that configures the agent.
const environmentPrefix = "PERFAGENT_"

// configSource is where settings come from, the later over the earlier: defaults, file, environment, flags. It is kept
// for reloads.
type configSource struct {
	file    string              // --config.file; "" takes it from the environment
	flags   map[string][]string // given flags by path, as text
	environ []string
}

// load reads all sources. A bad environment is a usageError; a bad file is not, its message has file, line and key.
func (s *configSource) load() (*Config, error) {
	config := defaultConfig()
	config.OTLP.applyStandard(s.environ)
	config.Storage.applyService(s.environ)
	settings := config.settings()
	variables := s.variables()
	if err := s.checkVariables(); err != nil {
		return nil, err
	}
	file := s.file
	if file == "" {
		file = variables[variableName(configFileFlag)]
	}
	var lines map[string]int
	if file != "" {
		var err error
		if lines, err = applyFile(settings, file); err != nil {
			return nil, err
		}
	}
	for _, setting := range settings {
		text, ok := variables[variableName(setting.path)]
		if !ok {
			continue
		}
		if err := setting.value.set(setting.value.split(text)); err != nil {
			return nil, usageError{fmt.Errorf("environment variable %s: %w", variableName(setting.path), err)}
		}
	}
	for _, setting := range settings {
		texts, ok := s.flags[setting.path]
		if !ok {
			continue
		}
		if err := setting.value.set(texts); err != nil {
			return nil, usageError{fmt.Errorf("flag --%s: %w", setting.path, err)}
		}
	}
	if line := lines["alert.rules-file"]; line > 0 {
		config.Alerts.filesAt = fmt.Sprintf("%s:%d", file, line)
	}
	if err := config.checkNotification(file, lines); err != nil {
		return nil, err
	}
	if err := config.checkReports(); err != nil {
		if line := lines["reports"]; line > 0 {
			return nil, fmt.Errorf("%s:%d: %w", file, line, err)
		}
		return nil, usageError{err}
	}
	return config, nil
}

// variables returns the agent's part of the environment. An empty variable counts as unset, as shells and unit files
// leave them behind.
func (s *configSource) variables() map[string]string {
	variables := make(map[string]string)
	for _, entry := range s.environ {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, environmentPrefix) && value != "" {
			variables[name] = value
		}
	}
	return variables
}

// testVariables are settings for tests (CONTRIBUTING.md).
var testVariables = []string{"PERFAGENT_HOLD_WORKER", "PERFAGENT_EMPTY_PROGRAMS", "PERFAGENT_REFUSE_PROGRAMS", breakVariable}

// kubernetesVariable matches what Kubernetes makes for each service, here for those whose names begin with perfagent.
var kubernetesVariable = regexp.MustCompile(`_SERVICE_(HOST|PORT)(_\w+)?$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)

// checkVariables fails where a variable looks like a setting and is none.
func (s *configSource) checkVariables() error {
	known := append([]string{variableName(configFileFlag)}, testVariables...)
	for _, setting := range defaultConfig().settings() {
		known = append(known, variableName(setting.path))
	}
	variables := s.variables()
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		isKubernetes := kubernetesVariable.MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(variables[name], "://")
		if slices.Contains(known, name) || isKubernetes {
			continue
		}
		return usageError{fmt.Errorf("environment variable %s is no setting%s", name, suggestion(name, slices.Values(known)))}
	}
	return nil
}

// variableName returns the environment variable of a setting: capture.head-bytes is PERFAGENT_CAPTURE_HEAD_BYTES.
func variableName(path string) string {
	return environmentPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(path))
}

// changes returns the paths of the settings that differ between two configurations: those that a running agent takes
// over, and those that need a restart.
func changes(from, to *Config) (live, restart []string) {
	before, after := from.settings(), to.settings()
	for i := range before {
		switch {
		case before[i].value.String() == after[i].value.String():
		case before[i].live:
			live = append(live, before[i].path)
		default:
			restart = append(restart, before[i].path)
		}
	}
	return live, restart
}

// withLive returns from with the settings of to that a running agent takes over.
func withLive(from, to *Config) *Config {
	merged := *from
	merged.Notify.at, merged.Alerts.filesAt = to.Notify.at, to.Alerts.filesAt
	before, after := merged.settings(), to.settings()
	for i := range before {
		if before[i].live {
			// The text was made by the same value, so it parses.
			_ = before[i].value.set(after[i].value.texts())
		}
	}
	return &merged
}
