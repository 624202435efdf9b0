package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/web"
)

// loadConfig loads from a file's text, variables and flags (path=value).
func loadConfig(t *testing.T, file string, environ, flags []string) (*Config, error) {
	t.Helper()
	source := &configSource{flags: make(map[string][]string), environ: environ}
	if file != "" {
		source.file = writeFile(t, "perfagent.yml", file)
	}
	for _, flag := range flags {
		path, value, _ := strings.Cut(flag, "=")
		source.flags[path] = append(source.flags[path], value)
	}
	return source.load()
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// Shows that flags win over the environment, which wins over the file, which wins over the defaults; a list is replaced
// as a whole.
func TestConfigOrder(t *testing.T) {
	file := "capture:\n  port: [1, 2]\n  head-bytes: 2KiB\n  timeout: 1m\nlog.level: warn\nlimits:\n  endpoints: 7\n"
	environ := []string{"PERFAGENT_CAPTURE_HEAD_BYTES=3072", "PERFAGENT_CAPTURE_TIMEOUT=2m", "PERFAGENT_CAPTURE_PORT=3,4", "PERFAGENT_LOG_FORMAT="}
	got, err := loadConfig(t, file, environ, []string{"capture.timeout=3m", "web.listen-address=:1", "web.listen-address=unix:/x"})
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Capture.Ports = []uint16{3, 4}
	want.Capture.HeadBytes = 3072
	want.Capture.Timeout = 3 * time.Minute
	want.Log.Level = slog.LevelWarn
	want.Limits.Endpoints = 7
	want.Web.ListenAddresses = []string{":1", "unix:/x"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Shows that every setting can be given in each of its three forms, with the value that its default has as text.
func TestEverySettingHasThreeForms(t *testing.T) {
	samples := map[string]string{
		"web.config.file": "/a", "web.health-address": ":9465", "capture.port": "80", "capture.pid": "7", "capture.executable": "/a/*", "capture.cgroup": "/a",
		"routes.file": "/r", "services.file": "/s", "ready-file": "/f", "otlp.endpoint": "http://c:4318/v1/metrics", "otlp.header": "a=b", "otlp.ca-file": "/c",
		"levels.throughput-rps": "5,4,3,2,1",
		"alerts.thresholds":     `{response-time-ms: 500, throughput-rps: 50}`,
		"alert.rules-file":      "/r/*.yml",
		"objectives":            `[{service: "a", route: "GET /b", availability-percent: 99.9, latency-ms: 300, latency-percent: 99, window: 7d}]`,
		"levels.services":       `{"a": {throughput-rps: [5, 4, 3, 2, 1]}}`,
		"notify.urgent":         "log",
		"notify.regular":        "log",
		"notify.receivers":      `[{name: hook, webhook: {url: "http://127.0.0.1:9000/", secret-file: /run/hook}}]`,
		"notify.silences":       `[{matchers: ['service_name=~"shop.*"', severity!=critical], to: '2026-03-01T12:00:00Z', comment: it is moved}]`,
		"remedies.rules":        `[{name: again, matchers: [alertname="Down"], command: [/bin/systemctl, restart, shop]}]`,
	}
	for _, s := range defaultConfig().settings() {
		value := s.value.String()
		if value == "" {
			value = samples[s.path]
		}
		for form, load := range map[string]func() (*Config, error){
			"file":        func() (*Config, error) { return loadConfig(t, s.path+": "+value+"\n", nil, nil) },
			"nested file": func() (*Config, error) { return loadConfig(t, nested(s.path, value), nil, nil) },
			"environment": func() (*Config, error) { return loadConfig(t, "", []string{variableName(s.path) + "=" + value}, nil) },
			"flag":        func() (*Config, error) { return loadConfig(t, "", nil, []string{s.path + "=" + value}) },
		} {
			config, err := load()
			if err != nil {
				t.Errorf("%s in the %s: %v", s.path, form, err)
				continue
			}
			for _, set := range config.settings() {
				if set.path == s.path && set.value.String() != value {
					t.Errorf("%s in the %s is %q, want %q", s.path, form, set.value.String(), value)
				}
			}
		}
	}
}

// nested writes a.b.c: v as YAML with one level for each dot.
func nested(path, value string) string {
	var b strings.Builder
	keys := strings.Split(path, ".")
	for i, key := range keys {
		b.WriteString(strings.Repeat("  ", i) + key + ":")
		if i == len(keys)-1 {
			b.WriteString(" " + value)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Shows that a mistake in the file stops the start with file, line and key.
func TestConfigFileMistakes(t *testing.T) {
	cases := []struct{ name, file, want string }{
		{"unknown key", "capture:\n  prot: 80\n", "yml:2: unknown key capture.prot; did you mean capture.port?"},
		{"unknown area", "\nnothing:\n  rules-file: /x\n", "yml:2: unknown key nothing; perfagent run --help"},
		{"objective without a service", "objectives:\n- {availability-percent: 99}\n", "yml:2: objectives: an objective needs a service"},
		{"objective of 100 %", "objectives:\n- service: a\n  availability-percent: 100\n", "yml:3: objectives: availability-percent: \"100\" is not a number between 50 and 100"},
		{"half an objective", "objectives:\n- {service: a, latency-ms: 3}\n", "yml:2: objectives: objective of a: latency-ms and latency-percent belong together"},
		{"unknown key of an objective", "objectives:\n- service: a\n  slow: 1\n", "yml:3: objectives: slow: unknown key"},
		{"two objectives of one service", "objectives:\n- {service: a, availability-percent: 99}\n- {service: a, availability-percent: 99.9}\n", "yml:3: objectives: a already has an objective"},
		{"threshold", "alerts:\n  thresholds: {error-rate-percent: 500}\n", "yml:2: alerts.thresholds: error-rate-percent: \"500\" is more than 100"},
		{"unknown threshold", "alerts:\n  thresholds:\n    cpu-percent: 5\n", "yml:3: alerts.thresholds: unknown key cpu-percent; "},
		{"bad value", "capture:\n  port:\n    - 80\n    - 70000\n", `yml:3: capture.port: "70000" is not a port`},
		{"bad choice", "log:\n  level: loud\n", `yml:2: log.level: "loud" is not one of debug`},
		{"bound", "capture.head-bytes: 63\n", `yml:1: capture.head-bytes: "63" is not between 64 and 4096`},
		{"size", "limits.memory: 1QiB\n", `yml:1: limits.memory: "1QiB" is not a whole number or a size`},
		{"ring", "capture.ring-bytes: 3MiB\n", "power of two"},
		{"least", "limits.memory: 1\n", `yml:1: limits.memory: "1" is too little: at least 32MiB is needed`},
		{"overflow", "limits.memory: 9999999999GiB\n", "yml:1: limits.memory"},
		{"list for one", "log.level: [info]\n", "yml:1: log.level: one value is expected"},
		{"map for one", "log.level:\n  a: b\n", "yml:2: log.level: a value is expected"},
		{"one for an area", "capture: 80\n", "yml:1: capture: keys are expected"},
		{"twice", "log.level: info\nlog:\n  level: warn\n", "yml:3: log.level: already set on line 1"},
		{"not YAML", "a: b\n c: [\n", "yml:2: not valid YAML: "},
		{"YAML: not closed, in the middle", "log.level: info\ncapture.port: [80,\n  81]\n\na: [80\nb: x\n", "yml:5: not valid YAML: "},
		{"YAML: quote", "log.level: info\na: \"x\nb: c\n", "yml:2: not valid YAML: "},
		{"YAML: indentation", "capture:\n  port: 80\n pid: 8\n", "yml:3: not valid YAML: "},
		{"YAML: tab", "# x\ncapture:\n\tport: 80\n", "yml:3: not valid YAML: "},
		{"YAML: anchor", "# x\n\na: *x\n", "yml:3: not valid YAML: unknown anchor"},
		{"YAML: control character", "log.level: info\na: \x01\n", "yml:2: not valid YAML: control characters"},
		{"YAML: encoding", "log.level: info\na: \xff\n", "yml:2: not valid YAML: "},
		{"list of files", "- a\n", "yml:1: keys such as capture.port"},
		{"another file", "config:\n  file: /x\n", "yml:2: config.file: a file cannot name another"},
		{"two documents", "log.level: info\n---\nlog.level: warn\n", "second document"},
		{"merge key", "log: &l\n  level: info\n<<: *l\n", "yml:3: <<: only plain keys"},
		{"control characters", "\"a\\eb\": 1\n", "unknown key"},
	}
	for _, c := range cases {
		_, err := loadConfig(t, c.file, nil, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
			continue
		}
		if errors.As(err, &usageError{}) {
			t.Errorf("%s: a mistake in a file is reported as one of usage", c.name)
		}
	}
}

// Shows what a file may be without being a mistake.
func TestConfigFileTolerance(t *testing.T) {
	for _, file := range []string{"", "# nothing\n", "---\n", "capture:\n", "capture:\n  port:\n", "a: &x [80]\n"[:0] + "capture.port: []\n"} {
		config, err := loadConfig(t, file, nil, nil)
		if err != nil || len(config.Capture.Ports) != 0 {
			t.Errorf("%q: %v", file, err)
		}
	}
}

// Shows that mistakes in the environment name the variable and count as usage; variables of others are let be.
func TestConfigEnvironment(t *testing.T) {
	_, err := loadConfig(t, "", []string{"PERFAGENT_CAPTURE_BACKEND=magic"}, nil)
	if !errors.As(err, &usageError{}) || !strings.Contains(err.Error(), "PERFAGENT_CAPTURE_BACKEND") {
		t.Errorf("got %v", err)
	}
	_, err = loadConfig(t, "", []string{"PERFAGENT_CAPTURE_PROT=1"}, nil)
	if !errors.As(err, &usageError{}) || err.Error() != "environment variable PERFAGENT_CAPTURE_PROT is no setting; did you mean PERFAGENT_CAPTURE_PORT?" {
		t.Errorf("got %v", err)
	}
	if _, err := loadConfig(t, "", []string{"PERFAGENT_SERVICE_HOST=x", "PERFAGENT_SERVICE_PORT_HTTP=1", "PERFAGENT_PORT=tcp://x", "PERFAGENT_PORT_80_TCP=x",
		"PERFAGENT_METRICS_PORT_80_TCP_ADDR=x", "PERFAGENT_HOLD_WORKER=/x", "PERFAGENT_NOTHING=", "PERFAGENTX=1"}, nil); err != nil {
		t.Errorf("variables of Kubernetes, tests and others: %v", err)
	}
}

// Shows which changes a running agent takes over.
func TestChanges(t *testing.T) {
	from, to := defaultConfig(), defaultConfig()
	to.Log.Level, to.Routes.File, to.Capture.Ports = slog.LevelDebug, "/r", []uint16{80}
	live, restart := changes(from, to)
	if !reflect.DeepEqual(live, []string{"routes.file", "log.level"}) || !reflect.DeepEqual(restart, []string{"capture.port"}) {
		t.Errorf("live %v, restart %v", live, restart)
	}
	merged := withLive(from, to)
	if merged.Log.Level != slog.LevelDebug || merged.Routes.File != "/r" || merged.Capture.Ports != nil || from.Routes.File != "" {
		t.Errorf("merged %+v from %+v", merged, from)
	}
}

// Shows that no file brings the reader down.
func FuzzConfigFile(f *testing.F) {
	f.Add("capture:\n  port: [80]\n")
	f.Add("a: &a [*a]\n")
	f.Add(levelsFile)
	f.Add("levels.services: {a: {routes: {b: {throughput-rps: [5, 4, 3, 2, 1]}}}}")
	f.Add("log: {level: info}\n<<: 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		name := filepath.Join(t.TempDir(), "c.yml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := applyFile(defaultConfig().settings(), name); err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("%q: the error does not name the file: %v", text, err)
		}
	})
}

// Shows how web configurations protect what is served: TLS by a certificate, authentication by passwords or certificates of
// clients that are verified. What cannot be read protects nothing.
func TestProtection(t *testing.T) {
	none, tls, password := web.Protection{}, web.Protection{TLS: true}, web.Protection{Authentication: true}
	both := web.Protection{TLS: true, Authentication: true}
	for content, want := range map[string]web.Protection{
		"":                           none,
		"basic_auth_users:\n":        none,
		"basic_auth_users: {a: x}\n": password,
		"tls_server_config: {min_version: TLS13}":                                            none,
		"tls_server_config: {cert_file: a, key_file: b}":                                     tls,
		"tls_server_config: {cert: a, key: b}\nhttp_server_config: {headers: {X-A: b}}\n":    tls,
		"tls_server_config: {cert: a, key: b}\nbasic_auth_users: {a: x}\n":                   both,
		"tls_server_config: {cert: a, key: b, client_auth_type: RequireAndVerifyClientCert}": both,
		"tls_server_config: {cert: a, key: b, client_auth_type: RequireAnyClientCert}":       tls,
		"tls_server_config: {cert: a, key: b, client_auth_type: VerifyClientCertIfGiven}":    tls,
		"tls_server_config: {client_auth_type: RequireAndVerifyClientCert}":                  none,
		"basic_auth_users: [": none,
	} {
		if got := protection(writeFile(t, "web.yml", content)); got != want {
			t.Errorf("%q: %+v", content, got)
		}
	}
	if protection("") != none || protection("/nonexistent/web.yml") != none {
		t.Error("no file protects")
	}
}
