package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/export"
)

// OTLPConfig is where metrics are pushed to.
type OTLPConfig struct {
	Endpoint string        // URL with its path; "" for none
	Interval time.Duration // between two exports
	Headers  []string      // name=value
	CAFile   string        // PEM; "" for the system's

	// What OpenTelemetry's variables made of the endpoint, and what was wrong with them: that matters only where they
	// decide.
	standard string
	problem  error
}

// Bounds of --otlp.interval: a histogram of thousands of series is not for every moment, and receivers take what they
// have not heard of for some minutes for gone.
const (
	otlpIntervalMin = time.Second
	otlpIntervalMax = time.Hour
)

// otlpPath is where receivers take metrics, below their base URL.
const otlpPath = "/v1/metrics"

// parseOTLPBase turns a receiver's base URL into the one for metrics; one that names the path is left as it is.
func parseOTLPBase(s string) (string, error) {
	u, err := parseOTLPURL(s)
	if err != nil || u == nil {
		return "", err
	}
	if !strings.HasSuffix(u.Path, otlpPath) {
		u = u.JoinPath(otlpPath)
	}
	return u.String(), nil
}

// parseOTLPURL returns nil for an empty text. Its errors leave out the text, which may hold credentials.
func parseOTLPURL(s string) (*url.URL, error) {
	if s == "" {
		return nil, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the value is no URL such as http://collector:4318")
	}
	if u.Port() == "4317" {
		return nil, errors.New("port 4317 speaks gRPC, and OTLP is exported over HTTP: the usual port is 4318")
	}
	return u, nil
}

// errNoHeader does not show the text, which may be a secret.
var errNoHeader = errors.New("the value is no header such as api-key=secret")

func parseOTLPHeader(s string) (string, error) {
	name, value, found := strings.Cut(s, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	notInName := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) }
	notInValue := func(r rune) bool { return r < ' ' || r == 0x7f }
	if !found || name == "" || strings.ContainsFunc(name, notInName) || strings.ContainsFunc(value, notInValue) {
		return "", errNoHeader
	}
	return name + "=" + value, nil
}

// applyStandard sets what OpenTelemetry's own variables say, as new defaults. The specification takes an empty variable
// for one that is not set, and the variable of one signal before that of all.
func (c *OTLPConfig) applyStandard(environ []string) {
	variables := make(map[string]string)
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if rest, ok := strings.CutPrefix(name, "OTEL_"); ok && value != "" {
			variables[rest] = value
		}
	}
	exporter := func(name string) (value, variable string) {
		variable = "EXPORTER_OTLP_METRICS_" + name
		if variables[variable] == "" {
			variable = "EXPORTER_OTLP_" + name
		}
		return variables[variable], variable
	}
	fail := func(variable string, err error) {
		if err != nil && c.problem == nil {
			c.problem = usageError{fmt.Errorf("environment variable OTEL_%s: %w", variable, err)}
		}
	}
	endpoint, variable := exporter("ENDPOINT")
	base, err := parseOTLPBase(endpoint)
	fail(variable, err)
	if c.Endpoint = base; strings.Contains(variable, "METRICS") || err != nil {
		c.Endpoint = endpoint // as it is
	}
	c.standard = c.Endpoint

	headers, variable := exporter("HEADERS")
	c.Headers, err = parseOTLPHeaders(headers)
	fail(variable, err)
	c.CAFile, _ = exporter("CERTIFICATE")
	if protocol, variable := exporter("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		fail(variable, fmt.Errorf("%q is not spoken, only http/protobuf", protocol))
	}
	fail("METRIC_EXPORT_INTERVAL", c.applyStandardInterval(variables["METRIC_EXPORT_INTERVAL"]))
}

// applyStandardInterval takes milliseconds.
func (c *OTLPConfig) applyStandardInterval(text string) error {
	if text == "" {
		return nil
	}
	ms, err := strconv.ParseInt(text, 10, 32)
	interval := time.Duration(ms) * time.Millisecond
	if err != nil || interval < otlpIntervalMin || interval > otlpIntervalMax {
		return fmt.Errorf("%q is not between 1000 and 3600000", text)
	}
	c.Interval = interval
	return nil
}

// parseOTLPHeaders reads the specification's form: name=value,name=value, with values encoded like those of a URL.
func parseOTLPHeaders(s string) (headers []string, err error) {
	for _, pair := range strings.Split(s, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		if !found {
			return nil, errNoHeader
		}
		if decoded, err := url.PathUnescape(value); err == nil {
			value = decoded
		}
		header, err := parseOTLPHeader(name + "=" + value)
		if err != nil {
			return nil, err
		}
		headers = append(headers, header)
	}
	return headers, nil
}

// newOTLPExporter returns nil where nothing is to be exported.
func newOTLPExporter(config OTLPConfig, collector export.CollectorOptions, works func(bool), log *slog.Logger) (*export.OTLPExporter, error) {
	if config.Endpoint == "" {
		return nil, nil
	}
	if config.problem != nil && config.Endpoint == config.standard {
		return nil, fmt.Errorf("%w; correct it, or set --otlp.endpoint (empty: nothing is exported)", config.problem)
	}
	if config.problem != nil {
		log.Warn("ignored: " + config.problem.Error())
	}
	if config.CAFile != "" { // the exporter reads it without a bound
		if _, err := readNamedFile(config.CAFile, pemBytesMax); err != nil {
			return nil, fmt.Errorf("reading the CA file of the OTLP endpoint: %w", err)
		}
	}
	header := http.Header{}
	for _, h := range config.Headers {
		name, value, _ := strings.Cut(h, "=")
		header.Set(name, value)
	}
	host, err := os.Hostname()
	if err != nil {
		log.Warn("metrics are exported without the host's name", "err", err)
	}
	return export.NewOTLPExporter(export.OTLPOptions{CollectorOptions: collector, Endpoint: config.Endpoint,
		Interval: config.Interval, Header: header, CAFile: config.CAFile, Host: host, Log: log, Works: works})
}
