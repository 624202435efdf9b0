package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/web"
)

// AlertsConfig is which rules are evaluated.
type AlertsConfig struct {
	RulesFiles []string // globs
	Builtin    string   // on, off
	Thresholds parsed[alert.Thresholds]

	// Objectives of services and routes. In the file:
	//
	//	objectives:
	//	  - {service: shop, route: "GET /orders/{id}", availability-percent: 99.9, latency-ms: 300, latency-percent: 99, window: 30d}
	Objectives parsed[[]alert.Objective]

	filesAt string // where rules-file stands in the configuration file: file and line
}

const (
	// rulesBytesMax bounds a rule file: 20,000 rules of 400 bytes.
	rulesBytesMax = 8 << 20
	// rulesFilesMax bounds the files of all globs.
	rulesFilesMax = 500
	// objectivesMax bounds the objectives: each has 30 rules.
	objectivesMax = 200
	// Windows of objectives: below an hour no budget lasts, above 400 days no history does.
	objectiveWindowMin = time.Hour
	objectiveWindowMax = 400 * day
)

// readThresholds reads the limits of the built-in rules that people think in.
func readThresholds(node *yaml.Node) (t alert.Thresholds, at *yaml.Node, err error) {
	fields := map[string]struct {
		to   *float64
		most float64
	}{
		"response-time-ms": {&t.ResponseTimeMS, math.MaxFloat64}, "error-rate-percent": {&t.ErrorRatePercent, 100}, "cpu-usage-percent": {&t.CPUUsagePercent, 100},
		"memory-usage-percent": {&t.MemoryUsagePercent, 100}, "throughput-rps": {&t.ThroughputRPS, math.MaxFloat64},
	}
	at, err = eachKey(node, "thresholds", func(key string, value *yaml.Node) (*yaml.Node, error) {
		field, known := fields[key]
		if !known {
			return nil, fmt.Errorf("unknown key %s%s", key, suggestion(key, maps.Keys(fields)))
		}
		limit, err := parseThreshold(value.Value, field.most) // what is no scalar has no value
		if err != nil {
			return value, fmt.Errorf("%s: %w", key, err)
		}
		*field.to = limit
		return nil, nil
	})
	return t, at, err
}

// parseThreshold parses a limit above 0.
func parseThreshold(s string, most float64) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil || !(v > 0) || math.IsInf(v, 0):
		return 0, fmt.Errorf("%q is not a number above 0", s)
	case v > most:
		return 0, fmt.Errorf("%q is more than %s", s, number64(most))
	}
	return v, nil
}

func parseRulesGlob(s string) (string, error) {
	if _, err := filepath.Match(s, ""); err != nil || s == "" {
		return "", fmt.Errorf("%q is not a path or a pattern of paths", s)
	}
	return s, nil
}

// rules reads the rule files and makes all rules that the configuration asks for.
func (c *Config) rules() (*alert.Rules, error) {
	names, unmatched, err := c.Alerts.files()
	if err != nil {
		return nil, err
	}
	var files []alert.File
	for _, name := range names {
		data, err := readNamedFile(name, rulesBytesMax)
		if err != nil {
			return nil, fmt.Errorf("rules file: %w", err)
		}
		files = append(files, alert.File{Name: name, Data: data})
	}
	var builtin *alert.Builtin
	if c.Alerts.Builtin != "off" {
		builtin = &alert.Builtin{Thresholds: c.Alerts.Thresholds.value, Persistent: c.Storage.Path != ""}
	}
	rules, err := alert.Parse(files, builtin, c.Alerts.Objectives.value)
	if err != nil {
		return nil, fmt.Errorf("alert rules: %w", err)
	}
	if err := rules.Check(query.New(query.Options{MaxSamples: c.Query.MaxSamples}).Check); err != nil {
		return nil, fmt.Errorf("alert rules: %w", err)
	}
	rules.Warnings = append(unmatched, rules.Warnings...)
	return rules, nil
}

// rulesRead says in a few words which rule files were read; "" for none.
func rulesRead(rules *alert.Rules) string {
	files, n := rules.FromFiles()
	if files == 0 {
		return ""
	}
	return fmt.Sprintf("%s with %s", counted(files, "rule file"), counted(n, "rule"))
}

// files are those that the globs choose, each once. A name without a pattern must exist; of a pattern that chooses nothing a warning
// tells, as its files may come later.
func (c *AlertsConfig) files() (names, unmatched []string, err error) {
	for _, glob := range c.RulesFiles {
		found, err := filepath.Glob(glob)
		if err != nil {
			return nil, nil, fmt.Errorf("--alert.rules-file %s: %w", glob, err)
		}
		if len(found) == 0 && !strings.ContainsAny(glob, `*?[\`) {
			found = []string{glob} // the reading says what is wrong
		}
		if len(found) == 0 {
			unmatched = append(unmatched, c.place()+"alert.rules-file: no file matches "+glob)
		}
		for _, name := range found {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) > rulesFilesMax {
		return nil, nil, fmt.Errorf("--alert.rules-file: %d files are more than %d", len(names), rulesFilesMax)
	}
	return names, unmatched, nil
}

// place is where the rule files are named, for a message; "" where no file says it.
func (c *AlertsConfig) place() string {
	if c.filesAt == "" {
		return ""
	}
	return c.filesAt + ": "
}

// setRules puts rules into force, which are checked, and says what is odd about them.
func (a *agent) setRules(m *alert.Manager, rules *alert.Rules) {
	for _, warning := range rules.Warnings {
		a.log.Warn("alert rules: " + warning)
	}
	a.ruleWarnings.Store(&rules.Warnings)
	m.Apply(rules)
}

// ruleTroubles are what is odd about the rules, for the agent's health.
func (a *agent) ruleTroubles() []string {
	var all []string
	if warnings := a.ruleWarnings.Load(); warnings != nil {
		all = slices.Clone(*warnings)
	}
	return all
}

// alertsOff says why no rules are evaluated, "" where they are.
func (a *agent) alertsOff() string {
	if a.history.Load() == nil {
		return "rules are evaluated over the local history, which is switched off (--storage.retention=0)"
	}
	return ""
}

// openAlerts begins with the rules, where there is a history that they can be evaluated over.
func (a *agent) openAlerts(config *Config, rules *alert.Rules) {
	if why := a.alertsOff(); why != "" {
		if len(config.Alerts.RulesFiles)+len(config.Alerts.Objectives.value) > 0 && a.exports() {
			a.log.Warn("no alert rules are evaluated", "why", why)
		}
		return
	}
	o := alert.Options{Source: a.query, Sink: a.newAlertSink(), URL: a.address(config), Log: a.log}
	if a.state.path != "" {
		o.StateFile = filepath.Join(a.state.path, "alerts.state")
	}
	m := alert.New(o)
	a.setRules(m, rules)
	a.alerts.Store(m)
}

// address is where the agent's pages are, nil where it has none for a browser.
func (a *agent) address(config *Config) *url.URL {
	if config.Web.ExternalURL != "" {
		u, _ := url.Parse(config.Web.ExternalURL) // it was checked
		return u
	}
	if a.server == nil {
		return nil
	}
	for _, address := range a.server.Addresses() {
		tcp, ok := address.(*net.TCPAddr)
		if !ok {
			continue
		}
		host := tcp.IP.String()
		if tcp.IP.IsUnspecified() {
			host, _ = os.Hostname()
		}
		scheme := "http"
		if protection(config.Web.ConfigFile).TLS {
			scheme = "https"
		}
		return &url.URL{Scheme: scheme, Host: net.JoinHostPort(host, strconv.Itoa(tcp.Port))}
	}
	return nil
}

func (a *agent) alertsOptions() web.AlertsOptions {
	return web.AlertsOptions{Manager: a.alerts.Load, Off: a.alertsOff, Status: a.alertStatus}
}

// objectiveViews are those that rules are made of, none where no rules are evaluated.
func (a *agent) objectiveViews() []alert.ObjectiveView {
	m := a.alerts.Load()
	if m == nil {
		return nil
	}
	return m.Objectives()
}

// rulesState is what /metrics shows of rules.
func (a *agent) rulesState() *export.RulesState {
	m := a.alerts.Load()
	if m == nil {
		return nil
	}
	counts := m.Counts()
	s := &export.RulesState{TemplateErrors: counts.TemplateFailures, StateErrors: counts.StateFailures, ForgottenAlerts: counts.ResolvedLost}
	for _, g := range m.Groups(false) {
		s.Groups = append(s.Groups, export.RuleGroupState{Key: g.File + ";" + g.Name, Interval: g.Interval, Took: g.Took, Last: g.Last, Rules: len(g.Rules),
			Samples: g.Samples, Evaluations: g.Evaluations, Failures: g.Failures, Iterations: g.Iterations, Missed: g.Missed, Overruns: g.Overruns})
	}
	m.Series(func(labels map[string]string) { s.Alerts = append(s.Alerts, labels) })
	for _, o := range m.Objectives() {
		s.Objectives = append(s.Objectives, export.ObjectiveState{Labels: o.Labels, BudgetLeft: o.BudgetLeft, BurnRates: o.BurnRates})
	}
	return s
}

// readObjectives reads the list of objectives.
func readObjectives(node *yaml.Node) (all []alert.Objective, at *yaml.Node, err error) {
	if node.Kind != yaml.SequenceNode {
		return nil, node, errors.New("a list is expected, such as - {service: shop, availability-percent: 99.9}")
	}
	if len(node.Content) > objectivesMax {
		return nil, node, fmt.Errorf("%d objectives are more than %d", len(node.Content), objectivesMax)
	}
	for _, element := range node.Content {
		o, at, err := readObjective(element)
		if err != nil {
			return nil, at, err
		}
		if slices.ContainsFunc(all, func(other alert.Objective) bool { return other.Service == o.Service && other.Route == o.Route }) {
			return nil, element, fmt.Errorf("%s already has an objective", strings.TrimSpace(o.Service+" "+o.Route))
		}
		all = append(all, o)
	}
	return all, nil, nil
}

// readObjective reads one element of the list.
func readObjective(node *yaml.Node) (o alert.Objective, at *yaml.Node, err error) {
	at, err = eachKey(node, "objective", func(key string, value *yaml.Node) (*yaml.Node, error) {
		if value.Kind != yaml.ScalarNode {
			return value, fmt.Errorf("%s: a plain value is expected", key)
		}
		if err := setObjective(&o, key, value.Value); err != nil {
			return value, fmt.Errorf("%s: %w", key, err)
		}
		return nil, nil
	})
	if err != nil {
		return o, at, err
	}
	switch {
	case o.Service == "":
		return o, node, errors.New("an objective needs a service")
	case (o.LatencyMS > 0) != (o.LatencyPercent > 0):
		return o, node, fmt.Errorf("objective of %s: latency-ms and latency-percent belong together", o.Service)
	case o.AvailabilityPercent == 0 && o.LatencyMS == 0:
		return o, node, fmt.Errorf("objective of %s: availability-percent, or latency-ms and latency-percent, are needed", o.Service)
	}
	return o, nil, nil
}

func setObjective(o *alert.Objective, key, text string) (err error) {
	switch key {
	case "service":
		o.Service = text
	case "route":
		o.Route, err = parseObjectiveRoute(text)
	case "availability-percent":
		o.AvailabilityPercent, err = parseObjectivePercent(text)
	case "latency-percent":
		o.LatencyPercent, err = parseObjectivePercent(text)
	case "latency-ms":
		o.LatencyMS, err = parseThreshold(text, math.MaxFloat64)
	case "window":
		if o.Window, err = parseAge(text); err == nil && (o.Window < objectiveWindowMin || o.Window > objectiveWindowMax) {
			err = fmt.Errorf("%q is not between 1h and 400d", text)
		}
	default:
		return errors.New("unknown key: service, route, availability-percent, latency-ms, latency-percent and window are known")
	}
	return err
}

// objectivePercentMin is the least that a service may promise: what is less is meant as a share, or is none to watch over.
const objectivePercentMin = 50

func parseObjectivePercent(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || !(v > 0 && v < 100):
		return 0, fmt.Errorf("%q is not a number between %d and 100, and 100 leaves no budget", text, objectivePercentMin)
	case v >= float64(objectivePercentMin)/100 && v < 1:
		share, _ := strconv.ParseFloat(strconv.FormatFloat(v*100, 'g', 12, 64), 64)
		return 0, fmt.Errorf("%q is a share; did you mean %s?", text, number64(share))
	case v < objectivePercentMin:
		return 0, fmt.Errorf("%q is less than %d: give the percentage of requests that shall be good", text, objectivePercentMin)
	}
	return v, nil
}

// foreignParameter is a part of a path that other programs write a parameter as: :id, <id> and <int:id>, ${id}, $id.
var foreignParameter = regexp.MustCompile(`^(?::(\w+)|<(?:\w+:)?(\w+)>|\$\{(\w+)\}|\$(\w+))$`)

// parseObjectiveRoute parses "METHOD /path/{param}" or "/path/{param}", as the label http_route has it.
func parseObjectiveRoute(text string) (string, error) {
	method, path, hasMethod := strings.Cut(text, " ")
	if !hasMethod {
		method, path = "", text
	}
	if !strings.HasPrefix(path, "/") && path != "*" {
		return "", fmt.Errorf("%q is no route such as GET /orders/{id}: its path begins with /", text)
	}
	if hasMethod && (method == "" || method != strings.ToUpper(method) || strings.ContainsAny(method, "/{}*:")) {
		return "", fmt.Errorf("%q: %q is no method; write it as in GET %s", text, method, path)
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if m := foreignParameter.FindStringSubmatch(part); m != nil {
			parts[i] = "{" + strings.Join(m[1:], "") + "}"
		}
	}
	if meant := strings.Join(parts, "/"); meant != path {
		return "", fmt.Errorf("%q matches nothing: parameters stand in braces; did you mean %s?", text, strings.TrimSpace(method+" "+meant))
	}
	return text, nil
}
