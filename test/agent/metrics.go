package agent

import (
	"fmt"
	"strconv"
	"strings"
)

// Sample is one line of the text exposition format.
type Sample struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// Metrics are the samples of one scrape.
type Metrics []Sample

// ParseMetrics reads the text exposition format.
func ParseMetrics(text string) (Metrics, error) {
	var metrics Metrics
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		sample, err := parseSample(line)
		if err != nil {
			return nil, fmt.Errorf("metrics line %q: %w", line, err)
		}
		metrics = append(metrics, sample)
	}
	return metrics, nil
}

func parseSample(line string) (Sample, error) {
	s := Sample{Labels: map[string]string{}}
	end := strings.IndexAny(line, "{ ")
	if end < 0 {
		return s, fmt.Errorf("no value")
	}
	s.Name = line[:end]
	rest := line[end:]
	if rest[0] == '{' {
		rest = rest[1:]
		for !strings.HasPrefix(rest, "}") {
			name, after, found := strings.Cut(rest, "=")
			if !found {
				return s, fmt.Errorf("label without value")
			}
			quoted, err := strconv.QuotedPrefix(after)
			if err != nil {
				return s, err
			}
			value, err := strconv.Unquote(quoted)
			if err != nil {
				return s, err
			}
			s.Labels[name] = value
			rest = strings.TrimPrefix(after[len(quoted):], ",")
		}
		rest = rest[1:]
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return s, fmt.Errorf("no value")
	}
	var err error
	s.Value, err = strconv.ParseFloat(fields[0], 64)
	return s, err
}

// Sum adds the samples of that name whose labels contain all the given pairs: "role", "server", …
func (m Metrics) Sum(name string, labels ...string) float64 {
	var sum float64
	for _, s := range m {
		if s.Name == name && s.has(labels) {
			sum += s.Value
		}
	}
	return sum
}

// Has reports whether there is such a sample.
func (m Metrics) Has(name string, labels ...string) bool {
	for _, s := range m {
		if s.Name == name && s.has(labels) {
			return true
		}
	}
	return false
}

func (s Sample) has(labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		if s.Labels[labels[i]] != labels[i+1] {
			return false
		}
	}
	return true
}

// Lost returns the losses that are not zero, as "stage/reason=count".
func (m Metrics) Lost() []string {
	var lost []string
	for _, s := range m {
		if s.Name == "perfagent_exchanges_lost_total" && s.Value != 0 {
			lost = append(lost, fmt.Sprintf("%s/%s=%g", s.Labels["stage"], s.Labels["reason"], s.Value))
		}
	}
	return lost
}
