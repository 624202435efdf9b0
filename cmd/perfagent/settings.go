package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/bits"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/eventlog"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/notify"
	"github.com/perfagent/perfagent/internal/probes"
	"github.com/perfagent/perfagent/internal/report"
)

// Bounds of settings, with the reason where it is not the type's own.
const (
	ringBytesMin     = 64 << 10 // a few dozen exchanges
	ringBytesMax     = 1 << 30
	memoryBytesMin   = 32 << 20 // an idle agent needs about that
	connectionsMax   = 1 << 22  // 4 million: more than a host's ports allow in practice
	endpointsMax     = 1 << 20
	socketPathMax    = 107 // sun_path of unix(7) without its NUL
	captureTimeout0  = 100 * time.Millisecond
	captureTimeout99 = 24 * time.Hour
)

// commands is the set of commands that take a setting.
type commands uint8

const (
	forRun commands = 1 << iota
	forTrace
	forCheck
	forHistory
	forNotify
	forReport
	forDemo
	forTop
)

// commandNames are what people call them, in the order of their bits.
var commandNames = []string{"run", "trace", "check", "history dump", "notify test", "report", "demo", "top"}

// setting is one entry of the configuration: the flag --path, the YAML key path and a variable of the environment.
type setting struct {
	path     string
	usage    string
	value    value
	commands commands
	live     bool // a running agent takes a change over at a reload
}

// settings lists every setting; the values are c's fields.
func (c *Config) settings() []setting {
	observing, notifying := forRun|forTrace, forRun|forNotify
	return []setting{
		{"web.listen-address", "`address` to serve on, host:port or unix:/path; repeatable", list(&c.Web.ListenAddresses, parseListenAddress, "address", ","), forRun | forDemo, false},
		{"web.config.file", "`file` with TLS and basic auth, exporter-toolkit format", text(&c.Web.ConfigFile, "file"), forRun, false},
		{"web.allow-unprotected", "serve beyond loopback also without TLS and password, with a warning", boolean(&c.Web.AllowUnprotected), forRun, false},
		{"web.health-address", "`address` (host:port) that answers /-/healthy and /-/ready only, without a password also beyond loopback: for an orchestrator's probes; empty for none", scalar(&c.Web.HealthAddress, parseHealthAddress, "address"), forRun, false},
		{"web.external-url", "`URL` at which people reach the agent, which links in messages begin with, and under whose name browsers may ask; empty for the address that it listens on", scalar(&c.Web.ExternalURL, parseExternalURL, "URL"), notifying, false},
		{"web.enable-lifecycle", "accept POST /-/reload", boolean(&c.Web.EnableLifecycle), forRun, false},
		{"web.socket", "Unix socket (`path`) of the agent that trace, top and report read from; empty for none", scalar(&c.Web.Socket, parseSocket, "path"), forRun | forTrace | forReport | forTop, false},
		{"capture.port", "only exchanges whose server `port` is one of these; repeatable", list(&c.Capture.Ports, parsePort, "port", ","), observing | forCheck, false},
		{"capture.pid", "only processes with this `pid`, and their descendants; repeatable", list(&c.Capture.PIDs, parsePID, "pid", ","), observing | forCheck, false},
		{"capture.executable", "only processes whose executable's path matches the `glob` (** crosses slashes); repeatable", list(&c.Capture.Executables, parseGlob, "glob", ""), observing | forCheck, false},
		{"capture.cgroup", "only processes in this cgroup v2 `path` or below; repeatable", list(&c.Capture.Cgroups, parseCgroupPath, "path", ""), observing | forCheck, false},
		{"capture.backend", "`backend`: auto, tracepoint, fentry, kprobe or syscall", oneOf(&c.Capture.Backend, "auto", "tracepoint", "fentry", "kprobe", "syscall"), observing | forCheck | forDemo, false},
		{"capture.tls", "`mode` of looking into TLS: auto or off", oneOf(&c.Capture.TLS, "auto", "off"), observing | forCheck, false},
		{"capture.host", "`mode` of watching processors, disks and TCP connections: auto or off", oneOf(&c.Capture.Host, "auto", "off"), observing | forCheck, false},
		{"capture.head-bytes", "`bytes` of a request head to capture, 64 to 4096", number(&c.Capture.HeadBytes, probes.HeadBytesMin, int64(probes.HeadBytesMax), true), observing, false},
		{"capture.timeout", "`duration` after which a request without a response is a timeout", duration(&c.Capture.Timeout, captureTimeout0, captureTimeout99), observing, false},
		{"capture.ring-bytes", "`size` of the buffer between kernel and agent, a power of two", scalar(&c.Capture.RingBytes, parseRing, "size").shownAs(showSize), observing, false},
		{"routes.file", "`file` with route templates, one METHOD /path/{param} a line", text(&c.Routes.File, "file"), observing, true},
		{"metrics.classic-histograms", "which `histograms` have classic buckets beside the native form: durations, all or none", oneOf(&c.Metrics.ClassicHistograms, export.ClassicNames[:]...), forRun, false},
		{"services.file", "`file` with names of services, one a line: NAME and port=, executable=, cgroup= or command=", text(&c.Services.File, "file"), observing, true},
		{"limits.endpoints", "most endpoints (`count`) with series of their own", number(&c.Limits.Endpoints, 1, endpointsMax, false), observing, false},
		{"limits.memory", "soft bound (`size`) on the agent's resident memory", number(&c.Limits.MemoryBytes, memoryBytesMin, math.MaxInt64, true), observing, true},
		{"limits.connections", "most connections (`count`) followed at once", number(&c.Limits.Connections, 64, connectionsMax, false), observing, false},
		{"limits.heads", "most captured heads (`count`) of requests in progress", number(&c.Limits.Heads, 64, connectionsMax, false), observing, false},
		{"limits.streams", "most irregular (pipelined) connections (`count`) followed at once", number(&c.Limits.Streams, 1, connectionsMax, false), observing, false},
		{"levels.response-time-ms", "five `limits` of the 95th percentile of response times, rising", levelLimits(&c.Levels.ResponseTimeMS, rising), forRun, true},
		{"levels.throughput-rps", "five `limits` of requests per second, falling; none: it has no level", levelLimits(&c.Levels.ThroughputRPS, falling), forRun, true},
		{"levels.error-rate-percent", "five `limits` of the share of failed requests, rising", levelLimits(&c.Levels.ErrorRatePercent, risingPercent), forRun, true},
		{"levels.services", "limits of services and routes, as `YAML`", &serviceLevels{&c.Levels.Services}, forRun, true},
		{"storage.path", "`directory` of the local history; empty keeps it in memory", text(&c.Storage.Path, "directory"), forRun | forHistory | forReport, false},
		{"storage.retention", "`age` up to which the local history is kept, such as 15d (resolution of a minute; that of an hour for 400d); 0 keeps none",
			scalar(&c.Storage.Retention, parseAge, "age").shownAs(showAge), forRun, false},
		{"storage.max-bytes", "most `bytes` of the local history; the oldest go first", number(&c.Storage.MaxBytes, storageBytesMin, math.MaxInt64, true), forRun, false},
		{"alert.rules-file", "`file` with alerting and recording rules in Prometheus' format, or a pattern of files; repeatable", list(&c.Alerts.RulesFiles, parseRulesGlob, "file", ","), forRun, true},
		{"alerts.builtin", "whether the built-in rules are evaluated beside those of files: on or off", oneOf(&c.Alerts.Builtin, "on", "off"), forRun, true},
		{"alerts.thresholds", "limits of the built-in rules, as `YAML`", &yamlValue[alert.Thresholds]{&c.Alerts.Thresholds, readThresholds}, forRun, true},
		{"anomalies.mode", "whether it is found what is unusual, by itself: on or off", oneOf(&c.Anomalies.Mode, "on", anomaliesOff), forRun, false},
		{"anomalies.sensitivity", "how many false alarms (`count`) are wanted per series and week; more of them find smaller anomalies",
			scalar(&c.Anomalies.Sensitivity, parseSensitivity, "count"), forRun, true},
		{"objectives", "availability and latency that services and routes shall reach, as `YAML`", &yamlValue[[]alert.Objective]{&c.Alerts.Objectives, readObjectives}, forRun, true},
		{"reports", "reports that are written by themselves, as `YAML`", &yamlValue[[]report.Schedule]{&c.Reports, readReports}, forRun, false},
		{"query.timeout", "longest `duration` of a question to the local history", duration(&c.Query.Timeout, queryTimeoutMin, queryTimeoutMax), forRun, false},
		{"query.max-samples", "most samples (`count`) that a question to the local history holds in memory, 16 bytes each; a series counts as 32", number(&c.Query.MaxSamples, 1000, querySamplesMax, false), forRun, false},
		{"query.max-concurrency", "most questions (`count`) to the local history that are answered at once", number(&c.Query.MaxConcurrency, 1, queryConcurrencyMax, false), forRun, false},
		{"notify.urgent", "`receiver` of alerts with the severity error or critical; repeatable", list(&c.Notify.Urgent, parseReceiverName, "receiver", ","), notifying, true},
		{"notify.regular", "`receiver` of other alerts; repeatable", list(&c.Notify.Regular, parseReceiverName, "receiver", ","), notifying, true},
		{"notify.receivers", "who is told of alerts, as `YAML`; nobody: the log", &yamlValue[[]notify.Receiver]{&c.Notify.Receivers, readReceivers}, notifying, true},
		{"notify.group-by", "`label`; alerts with the same values are told together; repeatable", list(&c.Notify.GroupBy, parseLabelName, "label", ","), notifying, true},
		{"notify.group-wait", "`duration` that a first alert waits for others", duration(&c.Notify.GroupWait, 0, notifyIntervalMax), notifying, true},
		{"notify.group-interval", "least `duration` between two notifications of a group", duration(&c.Notify.GroupInterval, notifyIntervalMin, notifyIntervalMax), notifying, true},
		{"notify.repeat-interval", "`duration` after which what still fires is told again", duration(&c.Notify.RepeatInterval, notifyIntervalMin, notifyIntervalMax), notifying, true},
		{"notify.inhibit", "tell no info and no warning of an endpoint that has a critical alert", boolean(&c.Notify.Inhibit), notifying, true},
		{"notify.silences", "which alerts are not told, and when, as `YAML`", &yamlValue[[]notify.Silence]{&c.Notify.Silences, readSilences}, notifying, true},
		{"remedies.mode", "`mode` of remedies: off, dry-run (only say what would be done) or on", oneOf(&c.Remedies.Mode, notify.RemediesOff, notify.RemediesDryRun, notify.RemediesOn), forRun, true},
		{"remedies.per-hour", "most remedies (`count`) in an hour, all together", number(&c.Remedies.PerHour, 1, remediesHourMax, false), forRun, true},
		{"remedies.rules", "what is done once when an alert begins to fire, as `YAML`", &yamlValue[[]notify.Remedy]{&c.Remedies.Rules, readRemedies}, forRun, true},
		{"event-log.file", "`file` to which exchanges, alerts and findings are written as JSON lines (mode 0600); empty for none", scalar(&c.EventLog.File, parseEventLogFile, "file"), forRun, false},
		{"event-log.max-bytes", "most `bytes` of a file; then another begins, and the oldest goes", number(&c.EventLog.MaxBytes, eventLogBytesMin, math.MaxInt64, true), forRun, false},
		{"event-log.max-age", "`age` at which another file begins, such as 1d; 0: only by size", scalar(&c.EventLog.MaxAge, parseAge, "age").shownAs(showAge), forRun, false},
		{"event-log.files", "most files (`count`), the present one included", number(&c.EventLog.Files, 1, eventLogFilesMax, false), forRun, false},
		{"event-log.kind", "`kind` of lines to write: exchange, alert, finding; repeatable", list(&c.EventLog.Kinds, parseEventKind, "kind", ",").chosenFrom(eventlog.Kinds...), forRun, false},
		{"event-log.exchanges", "`which` exchanges: all, notable (slow or failed), or sample (those, and one in --event-log.one-in of the others)", oneOf(&c.EventLog.Exchanges, eventlog.Choices...), forRun, false},
		{"event-log.slower", "`duration` from which on an exchange is slow", duration(&c.EventLog.Slower, eventLogSlowerMin, captureTimeout99), forRun, false},
		{"event-log.one-in", "one of so many (`count`) exchanges that are neither slow nor failed is in a sample", number(&c.EventLog.OneIn, 1, eventLogOneInMax, false), forRun, false},
		{"ready-file", "`file` written once probes are attached and listeners open", text(&c.ReadyFile, "file"), forRun, false},
		{"trace.raw-paths", "show paths unmasked where the route has parameters", boolean(&c.Trace.RawPaths), observing, true},
		{"otlp.endpoint", "`URL` of an OTLP/HTTP receiver to push metrics to, such as http://collector:4318; empty for none", scalar(&c.OTLP.Endpoint, parseOTLPBase, "URL"), forRun, false},
		{"otlp.interval", "`duration` between two exports over OTLP", duration(&c.OTLP.Interval, otlpIntervalMin, otlpIntervalMax), forRun, false},
		{"otlp.header", "`name=value` sent with each export; repeatable. Secrets belong in the file or the environment", list(&c.OTLP.Headers, parseOTLPHeader, "name=value", ""), forRun, false},
		{"otlp.ca-file", "`file` with the certificates (PEM) that the receiver's is checked with; the system's otherwise", text(&c.OTLP.CAFile, "file"), forRun, false},
		{"export.redis", "`URL` of a Redis server to publish the summary and alerts to: redis://[user@]host[:port][/db], rediss:// (TLS) or unix:///path; empty for none", scalar(&c.Export.Redis, parseRedisURL, "URL"), forRun, false},
		{"export.redis-password-file", "`file` with the password of Redis; the variable REDISCLI_AUTH otherwise", text(&c.Export.RedisPasswordFile, "file"), forRun, false},
		{"export.redis-ca-file", "`file` with the certificates (PEM) that the one of Redis is checked with; the system's otherwise", text(&c.Export.RedisCAFile, "file"), forRun, false},
		{"export.redis-prefix", "`prefix` of the keys in Redis", scalar(&c.Export.RedisPrefix, parseRedisPrefix, "prefix"), forRun, false},
		{"export.redis-interval", "`duration` between two publications to Redis; keys expire after three", duration(&c.Export.RedisInterval, redisIntervalMin, redisIntervalMax), forRun, false},
		{"trace.user-header", "request `header` that tells users apart, shown as user_hash: hashed with a key that lasts as long as the agent runs. Authorization and Cookie are read only if named here",
			scalar(&c.Trace.UserHeader, parseHeaderName, "header"), observing, false},
		{"log.level", "`level`: debug, info, warn or error", scalar(&c.Log.Level, parseLevel, "level").shownAs(strings.ToLower).chosenFrom("debug", "info", "warn", "error"), observing | forDemo, true},
		{"log.format", "`format`: logfmt or json", oneOf(&c.Log.Format, "logfmt", "json"), observing | forDemo, false},
	}
}

// value parses texts into one field of a Config.
type value interface {
	// set replaces the field. A scalar takes one text, a list any number. On an error the field keeps its value.
	set(texts []string) error
	// split separates the text of an environment variable into what set takes.
	split(text string) []string
	// texts returns what set would be given for the present value.
	texts() []string
	String() string
	kind() string // what flag help calls it
	isList() bool
	choices() []string // all values, where they are few words
}

// field is the one implementation of value; a scalar is a list of exactly one.
type field[T any] struct {
	get       func() []T
	put       func([]T)
	parse     func(string) (T, error)
	name      string
	many      bool
	separator string // of a list in one text; "" where elements may hold any character
	show      func(string) string
	words     []string // all values, where they are few
}

func scalar[T any](to *T, parse func(string) (T, error), name string) *field[T] {
	return &field[T]{get: func() []T { return []T{*to} }, put: func(v []T) { *to = v[0] }, parse: parse, name: name}
}

func list[T any](to *[]T, parse func(string) (T, error), name, separator string) *field[T] {
	return &field[T]{get: func() []T { return *to }, put: func(v []T) { *to = v }, parse: parse, name: name, many: true, separator: separator}
}

func text(to *string, name string) *field[string] {
	return scalar(to, func(s string) (string, error) { return s, nil }, name)
}

func boolean(to *bool) *field[bool] {
	return scalar(to, func(s string) (bool, error) {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return false, fmt.Errorf("%q is not true or false", s)
		}
		return b, nil
	}, "bool")
}

func oneOf(to *string, choices ...string) *field[string] {
	f := scalar(to, func(s string) (string, error) {
		if !slices.Contains(choices, s) {
			return "", fmt.Errorf("%q is not one of %s", s, strings.Join(choices, ", "))
		}
		return s, nil
	}, "name")
	f.words = choices
	return f
}

func duration(to *time.Duration, least, most time.Duration) *field[time.Duration] {
	return scalar(to, func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration such as 30s or 5m", s)
		}
		if d < least || d > most {
			return 0, fmt.Errorf("%q is not between %s and %s", s, least, most)
		}
		return d, nil
	}, "duration")
}

// number is an integer between two bounds; where isSize is set it may have a unit, such as 8MiB.
func number[T int | int64 | uint32](to *T, least, most int64, isSize bool) *field[T] {
	f := scalar(to, func(s string) (T, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil && isSize {
			n, err = parseSize(s)
		}
		if err != nil {
			return 0, fmt.Errorf("%q is not a whole number%s", s, map[bool]string{true: " or a size such as 8MiB"}[isSize])
		}
		if n < least && most == math.MaxInt64 {
			return 0, fmt.Errorf("%q is too little: at least %s is needed", s, showSize(strconv.FormatInt(least, 10)))
		}
		if n < least || n > most {
			return 0, fmt.Errorf("%q is not between %d and %d", s, least, most)
		}
		return T(n), nil
	}, "number")
	if isSize {
		f.show = showSize
	}
	return f
}

// shownAs changes how the value is written.
func (f *field[T]) shownAs(show func(string) string) *field[T] {
	f.show = show
	return f
}

// chosenFrom names all values of a field that parses them itself.
func (f *field[T]) chosenFrom(words ...string) *field[T] {
	f.words = words
	return f
}

func (f *field[T]) kind() string      { return f.name }
func (f *field[T]) isList() bool      { return f.many }
func (f *field[T]) choices() []string { return f.words }

func (f *field[T]) set(texts []string) error {
	if !f.many && len(texts) != 1 {
		return errors.New("needs exactly one value")
	}
	values := make([]T, 0, len(texts))
	for _, text := range texts {
		for _, element := range f.split(text) {
			v, err := f.parse(strings.TrimSpace(element))
			if err != nil {
				return err
			}
			values = append(values, v)
		}
	}
	f.put(values)
	return nil
}

func (f *field[T]) split(text string) []string {
	if !f.many || f.separator == "" {
		return []string{text}
	}
	return strings.Split(text, f.separator)
}

func (f *field[T]) texts() []string {
	var texts []string
	for _, v := range f.get() {
		text := fmt.Sprint(v)
		if f.show != nil {
			text = f.show(text)
		}
		texts = append(texts, text)
	}
	return texts
}

func (f *field[T]) String() string { return strings.Join(f.texts(), ",") }

// sizeUnits are powers of 1024; a number alone counts bytes.
var sizeUnits = []struct {
	name  string
	shift uint
}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}}

// parseSize parses 8MiB and the like.
func parseSize(s string) (int64, error) {
	digits, shift := s, uint(0)
	for _, unit := range sizeUnits {
		if rest, ok := strings.CutSuffix(s, unit.name); ok {
			digits, shift = strings.TrimSpace(rest), unit.shift
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is not a size such as 512KiB, 8MiB or 1GiB", s)
	}
	return n << shift, nil
}

// showSize writes a number of bytes with the largest unit that divides it.
func showSize(digits string) string {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return digits
	}
	for _, unit := range sizeUnits {
		if n >= 1<<unit.shift && n%(1<<unit.shift) == 0 && unit.shift > 0 {
			return strconv.FormatInt(n>>unit.shift, 10) + unit.name
		}
	}
	return digits
}

func parseRing(s string) (uint32, error) {
	n, err := parseSize(s)
	if err != nil {
		return 0, err
	}
	if n < ringBytesMin || n > ringBytesMax || bits.OnesCount64(uint64(n)) != 1 {
		return 0, fmt.Errorf("%q is not a power of two between 64KiB and 1GiB", s)
	}
	return uint32(n), nil
}

// parseExternalURL takes an address with perhaps a path, behind a proxy, and nothing that does not belong in a link to a page below it.
func parseExternalURL(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	u, err := url.Parse(s)
	if err != nil || notify.CheckURL(s) != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the value is no URL such as https://host/perfagent, without credentials and a query")
	}
	return strings.TrimRight(s, "/"), nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port (1 to 65535)", s)
	}
	return uint16(n), nil
}

func parsePID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a process id", s)
	}
	return uint32(n), nil
}

func parseGlob(s string) (string, error) {
	_, err := host.NewGlob(s)
	return s, err
}

func parseCgroupPath(s string) (string, error) {
	if s == "" {
		return "", errors.New("a cgroup path is empty; / is all of them")
	}
	return s, nil
}

func parseListenAddress(s string) (string, error) {
	if name, ok := strings.CutPrefix(s, "unix:"); ok {
		if !filepath.IsAbs(name) || len(name) > socketPathMax {
			return "", fmt.Errorf("%q is not unix: and an absolute path of at most %d bytes", s, socketPathMax)
		}
		return s, nil
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q is neither host:port nor unix:/path", s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%q has no port between 0 and 65535", s)
	}
	return s, nil
}

// parseHealthAddress takes what parseListenAddress does but a socket of the file system, at which no orchestrator probes; and "".
func parseHealthAddress(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if strings.HasPrefix(s, "unix:") {
		return "", fmt.Errorf("%q is not host:port", s)
	}
	return parseListenAddress(s)
}

// hostsOf is the host of a URL that was parsed before; "" has none.
func hostsOf(external string) []string {
	if u, err := url.Parse(external); err == nil && u.Hostname() != "" {
		return []string{u.Hostname()}
	}
	return nil
}

func parseSocket(s string) (string, error) {
	if s != "" && (!filepath.IsAbs(s) || len(s) > socketPathMax) {
		return "", fmt.Errorf("%q is not an absolute path of at most %d bytes", s, socketPathMax)
	}
	return s, nil
}

func parseHeaderName(s string) (string, error) { return s, http.CheckHeaderName(s) }

func parseLevel(s string) (slog.Level, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[strings.ToLower(s)]
	if !ok {
		return 0, fmt.Errorf("%q is not one of debug, info, warn, error", s)
	}
	return level, nil
}
