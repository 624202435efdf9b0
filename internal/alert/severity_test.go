package alert

import (
	"strings"
	"testing"
)

// Shows that a severity is known whatever its case, and that one that receivers do not know is named with file and line, once for each
// rule or group that has it; a template is not judged.
func TestSeverities(t *testing.T) {
	const file = `groups:
- name: a
  rules:
  - alert: One
    expr: up == 0
    labels:
      severity: Critical
  - alert: Two
    expr: up == 0
    labels: {team: x, severity: page}
  - alert: Two
    expr: up == 1
    labels:
      team: y
      severity: "sev1"
  - record: severity
    expr: up
    labels: {severity: whatever}
- name: b
  labels:
    severity: urgent
  rules:
  - alert: Three
    expr: up == 0
    labels: {severity: '{{ if gt $value 1.0 }}error{{ else }}info{{ end }}'}
  - alert: Four
    expr: up == 0
`
	rules, err := Parse([]File{{"r.yml", []byte(file)}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := rules.groups[0].rules[0].labels.Get("severity"); got != "critical" {
		t.Errorf("Critical became %q", got)
	}
	const none = " is none of info, warning, error, critical: its alerts are told as regular ones, whatever they are about"
	want := []string{`r.yml:10: alert "Two": the severity "page"` + none, `r.yml:15: alert "Two": the severity "sev1"` + none,
		`r.yml:21: group "b": the severity "urgent"` + none}
	if got := strings.Join(rules.Warnings, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("warnings are\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}
