package notify

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of one alert. Rules make a dozen labels and two sentences; what is more is a mistake in a template.
const (
	labelsMax          = 64
	labelBytesMax      = 1 << 10
	labelsBytesMax     = 6 << 10 // of names and values together
	annotationBytesMax = 2 << 10
	alertBytesMax      = 8 << 10 // of labels and annotations together
)

// leftOutLabel stands for labels that found no room, or that no receiver takes: it has their number and a hash of them, so that alerts
// that differ in nothing else stay two.
const leftOutLabel = "labels_left_out"

// Labels that mean something here.
const (
	labelName     = "alertname"
	labelSeverity = "severity"
	labelService  = "service_name"
	labelMethod   = "http_request_method"
	labelRoute    = "http_route"
	labelBurnRate = "burn_rate" // of an objective's alerts: the faster, the worse
)

var labelNames = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// cleaned returns a copy that no receiver chokes on: within the bounds, valid UTF-8, without empty values, and without characters that
// change how others are shown. Labels that differ are different ones afterwards as well.
func (a *Alert) cleaned() *Alert {
	c := *a
	c.Labels = boundLabels(a.Labels, true)
	left := alertBytesMax
	for name, value := range c.Labels {
		left -= len(name) + len(value)
	}
	c.Annotations = cleanedAnnotations(a.Annotations, left)
	c.GeneratorURL = cut(strings.ToValidUTF8(a.GeneratorURL, "�"), labelBytesMax)
	return &c
}

func cleanedAnnotations(m map[string]string, left int) map[string]string {
	c := make(map[string]string, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		value := CutAnnotation(strings.Map(inertInText, strings.ToValidUTF8(m[name], "�")))
		size := len(name) + len(value)
		if value == "" || len(name) > labelBytesMax || !labelNames.MatchString(name) || len(c) == labelsMax || size > left {
			continue
		}
		left -= size
		c[name] = value
	}
	return c
}

// CutAnnotation shortens an annotation to what a receiver gets of it.
func CutAnnotation(text string) string { return cut(text, annotationBytesMax) }

// BoundLabels returns the labels of an alert within the bounds that all of its receivers have: a value that is too long ends in an
// ellipsis and a hash of all of it, and labels that find no room are replaced by one with a hash of them. What fits is returned as it is,
// so that doing it twice changes nothing.
func BoundLabels(labels map[string]string) map[string]string { return boundLabels(labels, false) }

// Fits tells whether BoundLabels would change nothing, by the number of labels, the bytes of all names and values, and the longest value.
func Fits(labels, bytes, longest int) bool {
	return labels <= labelsMax && bytes <= labelsBytesMax && longest <= labelBytesMax
}

// boundLabels bounds labels; those for receivers are also inert, and have names that all of these take.
func boundLabels(labels map[string]string, forReceivers bool) map[string]string {
	values := make(map[string]string, len(labels))
	bytes, longest, taken := 0, 0, true
	for name, value := range labels {
		if value = boundValue(value, forReceivers); value == "" {
			continue
		}
		values[name] = value
		bytes += len(name) + len(value)
		longest = max(longest, len(value))
		taken = taken && (!forReceivers || labelNames.MatchString(name))
	}
	if taken && Fits(len(values), bytes, longest) {
		return values
	}
	bounded := make(map[string]string, len(labels))
	left, all := 0, labels[leftOutLabel] // what an earlier bounding has left out counts as well
	size := leftOutBytes
	for _, name := range slices.SortedFunc(maps.Keys(values), moreTelling) {
		value := values[name]
		switch {
		case name == leftOutLabel:
		case len(bounded) == labelsMax-1 || size+len(name)+len(value) > labelsBytesMax || forReceivers && !labelNames.MatchString(name):
			left++
			all += name + "\xff" + labels[name] + "\xff"
		default:
			bounded[name] = value
			size += len(name) + len(value)
		}
	}
	bounded[leftOutLabel] = fmt.Sprintf("%d, %s", left, shortHash(all))
	return bounded
}

// leftOutBytes is what leftOutLabel takes at most.
const leftOutBytes = 64

// moreTelling orders names: those that say most of an alert find room first.
func moreTelling(a, b string) int {
	rank := func(name string) int {
		if i := slices.Index([]string{labelName, labelSeverity, labelService, labelMethod, labelRoute}, name); i >= 0 {
			return i
		}
		return 100
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
}

// boundValue shortens what is too long, and for receivers also replaces what is not inert. A value that changes ends in a hash of what it was.
func boundValue(value string, forReceivers bool) string {
	shown := value
	if forReceivers {
		shown = strings.Map(inert, strings.ToValidUTF8(value, "�"))
	}
	if shown == value && len(value) <= labelBytesMax {
		return value
	}
	hash := shortHash(value)
	return strings.TrimSuffix(cut(shown, labelBytesMax-len("…")-len(hash)), "…") + "…" + hash
}

// shortHash is long enough for texts that come from requests, whoever makes them.
func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:12])
}

// inert replaces characters that act on others instead of being seen: of control, of the direction of text (U+202E and the like), and
// those of no width, but for the joiners that scripts and emoji need and the signs that Arabic numbers begin with.
func inert(r rune) rune {
	switch {
	case r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029:
		return ' '
	case r == 0x200c || r == 0x200d || r >= 0x600 && r <= 0x605:
		return r
	case unicode.Is(unicode.Cf, r):
		return '�'
	}
	return r
}

// inertInText is inert, and leaves the lines of a text.
func inertInText(r rune) rune {
	if r == '\n' || r == '\t' {
		return r
	}
	return inert(r)
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

// String writes the condition as ParseMatcher reads it.
func (m *Matcher) String() string { return m.name + m.operator + strconv.Quote(m.value) }

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
