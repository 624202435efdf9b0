package main

import (
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/export"
)

// Shows where metrics are pushed to: OpenTelemetry's variables are defaults, as its specification reads them, and the
// agent's own settings win.
func TestOTLPSettings(t *testing.T) {
	const base = "OTEL_EXPORTER_OTLP_ENDPOINT=http://all:4318"
	for _, c := range []struct {
		name    string
		file    string
		environ []string
		flags   []string
		want    string
	}{
		{"nothing", "", nil, nil, ""},
		{"base", "", []string{base}, nil, "http://all:4318/v1/metrics"},
		{"base with a slash", "", []string{base + "/"}, nil, "http://all:4318/v1/metrics"},
		{"base with a path", "", []string{base + "/api/v1/otlp"}, nil, "http://all:4318/api/v1/otlp/v1/metrics"},
		{"one signal", "", []string{base, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=https://metrics/push"}, nil, "https://metrics/push"},
		{"empty is unset", "", []string{base, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="}, nil, "http://all:4318/v1/metrics"},
		{"file", "otlp.endpoint: http://file:1\n", []string{base}, nil, "http://file:1/v1/metrics"},
		{"environment", "otlp.endpoint: http://file:1\n", []string{base, "PERFAGENT_OTLP_ENDPOINT=http://own:2"}, nil, "http://own:2/v1/metrics"},
		{"flag", "", []string{base, "PERFAGENT_OTLP_ENDPOINT=http://own:2"}, []string{"otlp.endpoint=http://flag:3/v1/metrics"}, "http://flag:3/v1/metrics"},
		{"off", "", []string{base}, []string{"otlp.endpoint="}, ""},
	} {
		config, err := loadConfig(t, c.file, c.environ, c.flags)
		if err != nil || config.OTLP.Endpoint != c.want || config.OTLP.problem != nil {
			t.Errorf("%s: %q, %v, %v", c.name, config.OTLP.Endpoint, err, config.OTLP.problem)
		}
	}
	config, err := loadConfig(t, "", []string{"OTEL_EXPORTER_OTLP_HEADERS=ignored=x", "OTEL_EXPORTER_OTLP_METRICS_HEADERS=api-key=a%2Cb%20c, x = 1,",
		"OTEL_METRIC_EXPORT_INTERVAL=5000", "OTEL_EXPORTER_OTLP_CERTIFICATE=/ca.pem"}, nil)
	if err != nil || !reflect.DeepEqual(config.OTLP.Headers, []string{"api-key=a,b c", "x=1"}) || config.OTLP.Interval != 5*time.Second || config.OTLP.CAFile != "/ca.pem" {
		t.Errorf("%+v, %v", config.OTLP, err)
	}
}

// Shows that a mistake in one of OpenTelemetry's variables stops the start where it decides, and only there; and that no
// message shows what may be a secret.
func TestOTLPMistakes(t *testing.T) {
	const base = "OTEL_EXPORTER_OTLP_ENDPOINT=http://all:4318"
	for _, c := range []struct {
		name    string
		environ []string
		want    string
	}{
		{"gRPC port", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://all:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT: port 4317 speaks gRPC"},
		{"gRPC", []string{base, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"},
		{"JSON", []string{base, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/json"}, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"},
		{"no URL", []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=s3cret"}, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: the value is no URL"},
		{"headers", []string{base, "OTEL_EXPORTER_OTLP_HEADERS=s3cret"}, "OTEL_EXPORTER_OTLP_HEADERS: the value is no header"},
		{"header's value", []string{base, "OTEL_EXPORTER_OTLP_HEADERS=a=s3cret%0A"}, ""},
		{"header's control character", []string{base, "OTEL_EXPORTER_OTLP_HEADERS=a=s3%0Acret"}, "no header"},
		{"interval", []string{base, "OTEL_METRIC_EXPORT_INTERVAL=1"}, "OTEL_METRIC_EXPORT_INTERVAL"},
	} {
		start := func(flags ...string) error {
			config, err := loadConfig(t, "", c.environ, flags)
			if err != nil {
				t.Fatal(err) // trace, say, has nothing to do with it
			}
			_, err = newOTLPExporter(config.OTLP, export.CollectorOptions{}, nil, slog.New(slog.DiscardHandler))
			return err
		}
		err := start()
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &usageError{}) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, flag := range []string{"otlp.endpoint=", "otlp.endpoint=http://own:4318"} {
			if err := start(flag); err != nil {
				t.Errorf("%s, with the flag: %v", c.name, err)
			}
		}
	}
	for _, flag := range []string{"otlp.endpoint=ftp://x", "otlp.endpoint=http://x:4317", "otlp.header=a", "otlp.header=a b=c", "otlp.interval=1ms"} {
		if _, err := loadConfig(t, "", nil, []string{flag}); !errors.As(err, &usageError{}) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
