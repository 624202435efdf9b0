package alert

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/rulefmt"
)

// Severities that receivers tell apart; the last two are urgent.
const (
	severityInfo     = "info"
	severityWarning  = "warning"
	severityError    = "error"
	severityCritical = "critical"
)

const severityLabel = "severity"

var severities = []string{severityInfo, severityWarning, severityError, severityCritical}

// checkSeverities writes the severities of a file as receivers know them, whatever their case: Critical is critical. It warns of those
// that they do not know, whose alerts are told as if they were not urgent. A template is judged by nobody.
func (r *Rules) checkSeverities(f File, groups []rulefmt.RuleGroup) {
	for i := range groups {
		g := &groups[i]
		if warning := checkSeverity(g.Labels); warning != "" {
			r.warn(f, severityLine(f.Data, "name", g.Name, 1), fmt.Sprintf("group %q: %s", g.Name, warning))
		}
		for j := range g.Rules {
			rule := &g.Rules[j]
			if rule.Alert == "" {
				continue
			}
			if warning := checkSeverity(rule.Labels); warning != "" {
				r.warn(f, severityLine(f.Data, "alert", rule.Alert, nth(groups, i, j)), fmt.Sprintf("alert %q: %s", rule.Alert, warning))
			}
		}
	}
}

func (r *Rules) warn(f File, line int, what string) {
	at := f.Name
	if line > 0 {
		at += ":" + strconv.Itoa(line)
	}
	r.Warnings = append(r.Warnings, at+": "+what)
}

// checkSeverity corrects the case of a severity, and returns what is wrong with it.
func checkSeverity(labels map[string]string) string {
	text, has := labels[severityLabel]
	if lower := strings.ToLower(text); slices.Contains(severities, lower) {
		labels[severityLabel] = lower
		return ""
	}
	if !has || strings.Contains(text, "{{") {
		return ""
	}
	return fmt.Sprintf("the severity %q is none of %s: its alerts are told as regular ones, whatever they are about", text, strings.Join(severities, ", "))
}

// nth tells which of the alerts of its name in a file a rule is, the first being 1.
func nth(groups []rulefmt.RuleGroup, group, rule int) (n int) {
	name := groups[group].Rules[rule].Alert
	for i := range groups[:group+1] {
		for j := range groups[i].Rules {
			if i == group && j > rule {
				break
			}
			if groups[i].Rules[j].Alert == name {
				n++
			}
		}
	}
	return n
}

// severityLine is the line of the severity behind the n-th line on which a key has a value; that line itself where none follows before
// the next rule, and 0 where it is not found.
func severityLine(data []byte, key, value string, n int) int {
	line, found := 0, 0
	for text := range bytes.Lines(data) {
		line++
		k, v, _ := bytes.Cut(bytes.TrimLeft(text, " -\t{"), []byte(":"))
		switch name := string(bytes.TrimSpace(k)); {
		case found == 0:
			written := strings.TrimSpace(string(v))
			if before, _, flow := strings.Cut(written, ","); flow && !strings.Contains(value, ",") { // {alert: Name, expr: …}
				written = before
			}
			if name == key && strings.Trim(written, `"'`) == value {
				if n--; n == 0 {
					found = line
				}
			}
		case name == "alert" || name == "record":
			return found
		}
		if found > 0 && bytes.Contains(text, []byte(severityLabel+":")) {
			return line
		}
	}
	return found
}
