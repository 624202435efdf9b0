package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of one alert. Rules make a dozen labels and two sentences; what is more is a mistake in a template.
const (
	labelsMax          = 64
	labelBytesMax      = 1 << 10
	annotationBytesMax = 2 << 10
	alertBytesMax      = 8 << 10 // of labels and annotations together
)

// Labels that mean something here.
const (
	labelName     = "alertname"
	labelSeverity = "severity"
	labelService  = "service_name"
	labelMethod   = "http_request_method"
	labelRoute    = "http_route"
)

var labelNames = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// cleaned returns a copy that no receiver chokes on: within the bounds, valid UTF-8, without empty values.
func (a *Alert) cleaned() *Alert {
	left := alertBytesMax
	c := *a
	c.Labels = cleanedMap(a.Labels, labelBytesMax, &left)
	c.Annotations = cleanedMap(a.Annotations, annotationBytesMax, &left)
	c.GeneratorURL = cut(strings.ToValidUTF8(a.GeneratorURL, "�"), labelBytesMax)
	return &c
}

func cleanedMap(m map[string]string, valueMax int, left *int) map[string]string {
	c := make(map[string]string, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		value := cut(strings.ToValidUTF8(m[name], "�"), valueMax)
		size := len(name) + len(value)
		if value == "" || len(name) > labelBytesMax || !labelNames.MatchString(name) || len(c) == labelsMax || size > *left {
			continue
		}
		*left -= size
		c[name] = value
	}
	return c
}

// cut shortens a text to at most limit bytes, at the border of a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const mark = "…"
	end := max(limit-len(mark), 0)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

// identity is the same for the same labels, and differs for others. Values come from requests, so it is no short hash.
func identity(labels map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		h.Write([]byte(name + "\xff" + labels[name] + "\xff"))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// fingerprint is how Alertmanager names an alert: FNV-1a over its sorted labels.
func fingerprint(labels map[string]string) string {
	sum := uint64(14695981039346656037)
	add := func(s string) {
		for i := range len(s) {
			sum = (sum ^ uint64(s[i])) * 1099511628211
		}
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		add(name)
		add("\xff")
		add(labels[name])
		add("\xff")
	}
	return fmt.Sprintf("%016x", sum)
}

// Key tells alerts apart: those with the same labels are one.
func (a *Alert) Key() string { return identity(a.Labels) }

// isUrgent tells whether somebody is to be woken up.
func (a *Alert) isUrgent() bool { return severityUrgent(a.Labels[labelSeverity]) }

func severityUrgent(severity string) bool { return severity == "error" || severity == "critical" }

// isOver tells whether the alert is resolved at a moment.
func (a *Alert) isOver(now time.Time) bool { return !a.EndsAt.IsZero() && !a.EndsAt.After(now) }

// lapses returns when an alert that fires is over unless somebody repeats it. It is told by how long that is, so that a clock that is set changes nothing.
func (a *Alert) lapses(now time.Time) time.Time {
	if a.EndsAt.After(now) {
		return now.Add(a.EndsAt.Sub(now))
	}
	return now.Add(lapseAfter)
}

// labelSet writes labels as Prometheus does: {a="1", b="2"}.
func labelSet(labels map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, name+"="+strconv.Quote(labels[name]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// Matcher is a condition on one label.
type Matcher struct {
	name, operator, value string
	pattern               *regexp.Regexp // of =~ and !~
}

var matcherForm = regexp.MustCompile(`(?s)^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(.*?)\s*$`)

// ParseMatcher parses a condition as Prometheus and Alertmanager write it: service_name="shop", severity!=info,
// http_route=~"/api/.*". A label that is absent has the value "".
func ParseMatcher(s string) (Matcher, error) {
	parts := matcherForm.FindStringSubmatch(s)
	if parts == nil {
		return Matcher{}, fmt.Errorf(`%q is no matcher such as service_name="shop" or http_route=~"/api/.*"`, s)
	}
	m := Matcher{name: parts[1], operator: parts[2], value: parts[3]}
	if strings.HasPrefix(m.value, `"`) {
		value, err := strconv.Unquote(m.value)
		if err != nil {
			return Matcher{}, fmt.Errorf("%q: the value is not well quoted", s)
		}
		m.value = value
	}
	if strings.HasSuffix(m.operator, "~") {
		var err error
		if m.pattern, err = regexp.Compile("^(?s:" + m.value + ")$"); err != nil {
			return Matcher{}, fmt.Errorf("%q: %w", s, err)
		}
	}
	return m, nil
}

func (m *Matcher) matches(labels map[string]string) bool {
	value := labels[m.name]
	switch m.operator {
	case "=":
		return value == m.value
	case "!=":
		return value != m.value
	case "=~":
		return m.pattern.MatchString(value)
	}
	return !m.pattern.MatchString(value)
}

// matchAll tells whether labels meet every condition.
func matchAll(matchers []Matcher, labels map[string]string) bool {
	for i := range matchers {
		if !matchers[i].matches(labels) {
			return false
		}
	}
	return true
}
