package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/redis"
	"github.com/perfagent/perfagent/internal/web"
)

// ExportConfig is what is pushed to others, beside OTLP.
type ExportConfig struct {
	Redis             string // URL without a password; "" for none
	RedisPasswordFile string
	RedisCAFile       string // PEM; "" for the system's
	RedisPrefix       string
	RedisInterval     time.Duration
}

const (
	// redisPasswordVariable is that of redis-cli.
	redisPasswordVariable = "REDISCLI_AUTH"
	passwordBytesMax      = 4 << 10
	redisIntervalMin      = time.Second
	redisIntervalMax      = time.Hour
	// redisEndpointsMax bounds the endpoints, and the services, that are published: the busiest.
	redisEndpointsMax = 2000
)

func defaultExport() ExportConfig {
	return ExportConfig{RedisPrefix: "perfagent", RedisInterval: redis.IntervalDefault}
}

func parseRedisURL(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	_, err := redis.ParseAddress(s)
	return s, err
}

func parseRedisPrefix(s string) (string, error) {
	if s == "" || len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("%q is not 1 to 64 printable characters without a space", s)
	}
	return s, nil
}

// openRedis makes the publisher, where one is wanted. a.redis takes alerts from then on (Alert, also where it is nil).
func (a *agent) openRedis(config ExportConfig, performance web.PerformanceOptions) error {
	if config.Redis == "" {
		return nil
	}
	address, err := redis.ParseAddress(config.Redis)
	if err != nil {
		return fmt.Errorf("--export.redis: %w", err)
	}
	password := redisPassword(config.RedisPasswordFile)
	if _, err := password(); err != nil { // a wrong name is found at the start
		return err
	}
	options := redis.Options{Address: address, Password: password, Prefix: config.RedisPrefix, Interval: config.RedisInterval, Log: a.log,
		Works: a.recoveries.of("redis"), Figures: func() ([]redis.Figure, error) { return redisFigures(performance) }}
	if options.Host, err = os.Hostname(); err != nil {
		return fmt.Errorf("name the keys in Redis: %w", err)
	}
	if config.RedisCAFile != "" {
		if options.TLS, err = trusting(config.RedisCAFile); err != nil {
			return fmt.Errorf("reading the CA file of Redis: %w", err)
		}
	}
	a.redis = redis.New(options)
	return nil
}

// redisPassword reads the password at each connect, so that one that was changed is taken.
func redisPassword(file string) func() (string, error) {
	return func() (string, error) {
		if file == "" {
			return os.Getenv(redisPasswordVariable), nil
		}
		b, err := readNamedFile(file, passwordBytesMax)
		if err != nil {
			return "", fmt.Errorf("reading the password of Redis: %w", err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
}

// trusting is a configuration that takes the certificates of a PEM file for those of authorities.
func trusting(file string) (*tls.Config, error) {
	pem, err := readNamedFile(file, pemBytesMax)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New(file + " holds no certificate in PEM")
	}
	return &tls.Config{RootCAs: roots}, nil
}

// redisFigures is what /performance/summary answers, and each service and endpoint of it by itself.
func redisFigures(performance web.PerformanceOptions) ([]redis.Figure, error) {
	documents, err := performance.Documents(redisEndpointsMax)
	if err != nil {
		return nil, err
	}
	figures := make([]redis.Figure, len(documents))
	for i, d := range documents {
		figures[i] = redis.Figure{Name: d.Name, Body: d.Body}
	}
	return figures, nil
}

func (a *agent) redisState() *export.RedisState {
	if a.redis == nil {
		return nil
	}
	s := a.redis.Stats()
	return &export.RedisState{Up: s.Trouble == "" && s.Rounds["success"] > 0, Published: s.Rounds, Alerts: s.Alerts}
}
