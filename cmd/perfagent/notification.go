package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/mail"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/notify"
)

// NotifyConfig is who is told of alerts, and when.
type NotifyConfig struct {
	Urgent, Regular []string
	// Receivers have each a name, one kind, and perhaps quiet hours. In the file:
	//
	//	notify:
	//	  receivers:
	//	    - {name: chat, slack: {url-file: /run/secrets/slack}, quiet-hours: {days: [sat, sun], from: "00:00", to: "24:00"}}
	Receivers parsed[[]notify.Receiver]
	GroupBy   []string

	GroupWait, GroupInterval, RepeatInterval time.Duration

	Inhibit  bool
	Silences parsed[[]notify.Silence]

	at map[string]string // where the keys of notifications and remedies stand: file and line
}

// RemediesConfig is what is done by itself when alerts fire.
type RemediesConfig struct {
	Mode    string
	PerHour int
	Rules   parsed[[]notify.Remedy]
}

// Bounds of the times of notifications: seconds for tests and small hosts, a month for what nobody looks at.
const (
	notifyIntervalMin = time.Second
	notifyIntervalMax = 31 * day
	remediesHourMax   = 1000
)

func defaultNotify() NotifyConfig {
	return NotifyConfig{GroupBy: slices.Clone(notify.GroupByDefault), GroupWait: notify.GroupWaitDefault, GroupInterval: notify.GroupIntervalDefault,
		RepeatInterval: notify.RepeatIntervalDefault, Inhibit: true}
}

func defaultRemedies() RemediesConfig {
	return RemediesConfig{Mode: notify.RemediesOff, PerHour: notify.RemediesPerHourDefault}
}

// notification returns the settings as the notifier takes them.
func (c *Config) notification() notify.Config {
	n := notify.Config{Urgent: c.Notify.Urgent, Regular: c.Notify.Regular, Receivers: c.Notify.Receivers.value, GroupBy: c.Notify.GroupBy,
		GroupWait: c.Notify.GroupWait, GroupInterval: c.Notify.GroupInterval, RepeatInterval: c.Notify.RepeatInterval,
		NoInhibit: !c.Notify.Inhibit, Silences: c.Notify.Silences.value,
		Remedies: notify.RemedyConfig{Mode: c.Remedies.Mode, PerHour: c.Remedies.PerHour, Rules: c.Remedies.Rules.value}}
	if n.GroupBy == nil {
		n.GroupBy = []string{} // all in one
	}
	if n.GroupWait == 0 {
		n.GroupWait = -1 // at once; 0 is the default there
	}
	return n
}

// checkNotification reports names that do not fit together; lines are those of the keys of the file.
func (c *Config) checkNotification(file string, lines map[string]int) error {
	for key, line := range lines {
		if strings.HasPrefix(key, "notify.") || strings.HasPrefix(key, "remedies.") {
			if c.Notify.at == nil {
				c.Notify.at = make(map[string]string)
			}
			c.Notify.at[key] = fmt.Sprintf("%s:%d", file, line)
		}
	}
	n := c.notification()
	return c.Notify.locate(n.CheckNames())
}

// locate adds to a mistake where its key stands. One that stands in no file is of the command line or the environment.
func (c *NotifyConfig) locate(err error) error {
	var key *notify.KeyError
	if !errors.As(err, &key) {
		return err
	}
	if at := c.at[key.Key]; at != "" {
		return fmt.Errorf("%s: %w", at, err)
	}
	return usageError{err}
}

// parsed is a value that was written as YAML, and its text.
type parsed[T any] struct {
	value T
	text  string
}

// yamlValue is a value with a structure of its own. As text, for flags and variables, it is YAML.
type yamlValue[T any] struct {
	to   *parsed[T]
	read func(*yaml.Node) (value T, at *yaml.Node, err error)
}

func (v *yamlValue[T]) kind() string               { return "YAML" }
func (v *yamlValue[T]) isList() bool               { return false }
func (v *yamlValue[T]) split(text string) []string { return []string{text} }
func (v *yamlValue[T]) texts() []string            { return []string{v.to.text} }
func (v *yamlValue[T]) String() string             { return v.to.text }

func (v *yamlValue[T]) set(texts []string) error {
	if len(texts) != 1 {
		return errors.New("needs exactly one value")
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(texts[0]), &document); err != nil {
		return fmt.Errorf("not valid YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(document.Content) == 0 {
		*v.to = parsed[T]{}
		return nil
	}
	_, err := v.setNode(document.Content[0])
	return err
}

func (v *yamlValue[T]) setNode(node *yaml.Node) (*yaml.Node, error) {
	if isNothing(node) {
		*v.to = parsed[T]{}
		return nil, nil
	}
	if alias := findAlias(node); alias != nil {
		return alias, errors.New("aliases are not understood here")
	}
	value, at, err := v.read(node)
	if err != nil {
		return at, err
	}
	text, err := yaml.Marshal(plain(node))
	if err != nil {
		return node, errors.New("the value cannot be written as YAML")
	}
	*v.to = parsed[T]{value, strings.TrimSpace(string(text))}
	return nil, nil
}

// plain returns a copy without comments, in one line: the same for the same values.
func plain(node *yaml.Node) *yaml.Node {
	c := yaml.Node{Kind: node.Kind, Tag: node.Tag, Value: node.Value, Style: yaml.FlowStyle}
	if node.Kind == yaml.ScalarNode {
		c.Style = node.Style & (yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle)
	}
	for _, inner := range node.Content {
		c.Content = append(c.Content, plain(inner))
	}
	return &c
}

func isNothing(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.Tag == "!!null"
}

func findAlias(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node
	}
	for _, inner := range node.Content {
		if alias := findAlias(inner); alias != nil {
			return alias
		}
	}
	return nil
}

// keyed reads the values of a mapping's keys. Each function returns where a mistake is, nil for its value.
type keyed map[string]func(*yaml.Node) (*yaml.Node, error)

// readKeys reads a mapping, whose name is for errors.
func readKeys(node *yaml.Node, name string, keys keyed) (*yaml.Node, error) {
	return eachKey(node, name, func(key string, value *yaml.Node) (*yaml.Node, error) {
		read := keys[key]
		if read == nil {
			return nil, fmt.Errorf("%s: unknown key %s: %s are known", name, key, strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
		}
		at, err := read(value)
		if err != nil {
			if at == nil {
				at = value
			}
			return at, fmt.Errorf("%s: %w", key, err)
		}
		return nil, nil
	})
}

// readElements reads a list; what is no list is its only element.
func readElements(node *yaml.Node, read func(*yaml.Node) (*yaml.Node, error)) (*yaml.Node, error) {
	elements := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		elements = node.Content
	}
	for _, element := range elements {
		if at, err := read(element); err != nil {
			if at == nil {
				at = element
			}
			return at, err
		}
	}
	return nil, nil
}

// into reads one plain value; its errors do not show it, as it may be a secret that stands at the wrong place.
func into[T any](to *T, parse func(string) (T, error)) func(*yaml.Node) (*yaml.Node, error) {
	return func(node *yaml.Node) (*yaml.Node, error) {
		if node.Kind != yaml.ScalarNode || node.Value == "" {
			return node, errors.New("a value is expected")
		}
		v, err := parse(node.Value)
		if err != nil {
			return node, err
		}
		*to = v
		return nil, nil
	}
}

// intoList reads one or several plain values.
func intoList[T any](to *[]T, parse func(string) (T, error)) func(*yaml.Node) (*yaml.Node, error) {
	return func(node *yaml.Node) (*yaml.Node, error) {
		return readElements(node, func(element *yaml.Node) (*yaml.Node, error) {
			var one T
			at, err := into(&one, parse)(element)
			*to = append(*to, one)
			return at, err
		})
	}
}

func anyText(s string) (string, error) { return s, nil }

var receiverName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func parseReceiverName(s string) (string, error) {
	if !receiverName.MatchString(s) {
		return "", errors.New("a name has letters, digits, - and _, at most 64")
	}
	return s, nil
}

func parseLabelName(s string) (string, error) {
	if !regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`).MatchString(s) {
		return "", fmt.Errorf("%q is no name of a label", s)
	}
	return s, nil
}

// parseReceiverURL takes no credentials: they belong in a file.
func parseReceiverURL(s string) (string, error) {
	if err := notify.CheckURL(s); err != nil {
		return "", err
	}
	if u, err := url.Parse(s); err == nil && u.User != nil {
		return "", errors.New("credentials belong in a file: username and password-file, or url-file")
	}
	return s, nil
}

func readReceivers(node *yaml.Node) (receivers []notify.Receiver, at *yaml.Node, err error) {
	if node.Kind != yaml.SequenceNode {
		return nil, node, errors.New("a list of receivers is expected")
	}
	at, err = readElements(node, func(element *yaml.Node) (*yaml.Node, error) {
		r, at, err := readReceiver(element)
		if err != nil {
			return at, err
		}
		if slices.ContainsFunc(receivers, func(o notify.Receiver) bool { return o.Name == r.Name }) {
			return element, fmt.Errorf("two receivers are called %s", r.Name)
		}
		receivers = append(receivers, r)
		return nil, nil
	})
	return receivers, at, err
}

func readReceiver(node *yaml.Node) (r notify.Receiver, at *yaml.Node, err error) {
	type reader = func(*yaml.Node) (*yaml.Node, error)
	kinds := 0
	kind := func(read reader) reader {
		return func(node *yaml.Node) (*yaml.Node, error) { kinds++; return read(node) }
	}
	keys := keyed{
		"name":        into(&r.Name, parseReceiverName),
		"quiet-hours": intoQuietHours(&r.Quiet),
		"alertmanager": kind(func(n *yaml.Node) (*yaml.Node, error) {
			r.Alertmanager = new(notify.Alertmanager)
			return readAlertmanager(n, r.Alertmanager)
		}),
		"webhook": kind(func(n *yaml.Node) (*yaml.Node, error) {
			r.Webhook = new(notify.Webhook)
			return readWebhook(n, r.Webhook)
		}),
		"slack": kind(func(n *yaml.Node) (*yaml.Node, error) { r.Slack = new(notify.Slack); return readSlack(n, r.Slack) }),
		"pagerduty": kind(func(n *yaml.Node) (*yaml.Node, error) {
			r.PagerDuty = new(notify.PagerDuty)
			return readPagerDuty(n, r.PagerDuty)
		}),
		"email": kind(func(n *yaml.Node) (*yaml.Node, error) { r.Email = new(notify.Email); return readEmail(n, r.Email) }),
		"log":   kind(func(n *yaml.Node) (*yaml.Node, error) { r.Log = new(notify.Log); return readKeys(n, "log", keyed{}) }),
	}
	if at, err := readKeys(node, "receiver", keys); err != nil {
		return r, at, err
	}
	switch {
	case r.Name == "":
		return r, node, errors.New("a receiver has no name")
	case kinds != 1:
		return r, node, fmt.Errorf("%s: exactly one of alertmanager, webhook, slack, pagerduty, email and log is expected", r.Name)
	case r.Alertmanager != nil && r.Quiet != nil:
		return r, node, fmt.Errorf("%s: an Alertmanager has mute times of its own: quiet-hours are for other receivers", r.Name)
	}
	return r, nil, nil
}

// endpointKeys are those of an endpoint but for its address.
func endpointKeys(e *notify.Endpoint, more keyed) keyed {
	keys := keyed{
		"username":      into(&e.Username, anyText),
		"password-file": into(&e.PasswordFile, anyText),
		"token-file":    into(&e.TokenFile, anyText),
		"ca-file":       into(&e.CAFile, anyText),
	}
	maps.Copy(keys, more)
	return keys
}

func checkCredentials(node *yaml.Node, e *notify.Endpoint) (*yaml.Node, error) {
	if (e.Username == "") != (e.PasswordFile == "") {
		return node, errors.New("username and password-file belong together")
	}
	if e.PasswordFile != "" && e.TokenFile != "" {
		return node, errors.New("password-file and token-file exclude each other")
	}
	return nil, nil
}

func readAlertmanager(node *yaml.Node, a *notify.Alertmanager) (*yaml.Node, error) {
	keys := endpointKeys(&a.Endpoint, keyed{"url": intoList(&a.URLs, parseReceiverURL), "urls": intoList(&a.URLs, parseReceiverURL)})
	if at, err := readKeys(node, "alertmanager", keys); err != nil {
		return at, err
	}
	if len(a.URLs) == 0 || len(a.URLs) > alertmanagersMax {
		return node, fmt.Errorf("url, or urls with at most %d, is expected", alertmanagersMax)
	}
	return checkCredentials(node, &a.Endpoint)
}

// alertmanagersMax bounds a cluster: each has a queue of its own.
const alertmanagersMax = 8

func readWebhook(node *yaml.Node, w *notify.Webhook) (*yaml.Node, error) {
	keys := endpointKeys(&w.Endpoint, keyed{"url": into(&w.URL, parseReceiverURL), "url-file": into(&w.URLFile, anyText), "secret-file": into(&w.SecretFile, anyText)})
	if at, err := readKeys(node, "webhook", keys); err != nil {
		return at, err
	}
	if (w.URL == "") == (w.URLFile == "") {
		return node, errors.New("one of url and url-file is expected")
	}
	return checkCredentials(node, &w.Endpoint)
}

func readSlack(node *yaml.Node, s *notify.Slack) (*yaml.Node, error) {
	at, err := readKeys(node, "slack", keyed{"url-file": into(&s.URLFile, anyText), "ca-file": into(&s.CAFile, anyText)})
	if err == nil && s.URLFile == "" {
		return node, errors.New("url-file is expected: the file has the URL of an incoming webhook, which is a secret")
	}
	return at, err
}

func readPagerDuty(node *yaml.Node, p *notify.PagerDuty) (*yaml.Node, error) {
	at, err := readKeys(node, "pagerduty", keyed{"routing-key-file": into(&p.RoutingKeyFile, anyText), "url": into(&p.URL, parseReceiverURL), "ca-file": into(&p.CAFile, anyText)})
	if err == nil && p.RoutingKeyFile == "" {
		return node, errors.New("routing-key-file is expected")
	}
	return at, err
}

func parseMailAddress(s string) (string, error) {
	a, err := mail.ParseAddress(s)
	if err != nil {
		return "", fmt.Errorf("%q is no address such as ops@example.org", s)
	}
	return a.Address, nil
}

func parseSmarthost(s string) (string, error) {
	if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
		return "", fmt.Errorf("%q is not host:port", s)
	}
	return s, nil
}

func readEmail(node *yaml.Node, e *notify.Email) (*yaml.Node, error) {
	at, err := readKeys(node, "email", keyed{
		"smarthost": into(&e.Smarthost, parseSmarthost), "from": into(&e.From, parseMailAddress), "to": intoList(&e.To, parseMailAddress),
		"username": into(&e.Username, anyText), "password-file": into(&e.PasswordFile, anyText), "server-name": into(&e.ServerName, anyText),
		"ca-file": into(&e.CAFile, anyText), "tls": into(&e.TLS, func(s string) (string, error) {
			if !slices.Contains(notify.TLSModes, s) {
				return "", fmt.Errorf("%q is not one of %s", s, strings.Join(notify.TLSModes, ", "))
			}
			return s, nil
		})})
	switch {
	case err != nil:
		return at, err
	case e.Smarthost == "" || e.From == "" || len(e.To) == 0:
		return node, errors.New("smarthost, from and to are expected")
	case e.PasswordFile != "" && e.TLS == notify.TLSOff:
		return node, errors.New("a password goes over TLS only: leave out tls: off, or password-file")
	}
	return nil, nil
}

// weekdays are as in time.Weekday.
var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func intoQuietHours(to *[]notify.QuietHours) func(*yaml.Node) (*yaml.Node, error) {
	return func(node *yaml.Node) (*yaml.Node, error) {
		return readElements(node, func(element *yaml.Node) (*yaml.Node, error) {
			q := notify.QuietHours{From: -1, To: -1}
			var days []int
			at, err := readKeys(element, "quiet-hours", keyed{"days": intoList(&days, parseWeekday), "from": into(&q.From, parseClock), "to": into(&q.To, parseClock),
				"time-zone": into(&q.Zone, time.LoadLocation)})
			if err != nil {
				return at, err
			}
			if q.From < 0 || q.To < 0 {
				return element, errors.New("from and to are expected, such as 22:00 and 06:00")
			}
			for _, d := range days {
				q.Days[d] = true
			}
			if days == nil {
				q.Days = [7]bool{true, true, true, true, true, true, true}
			}
			*to = append(*to, q)
			return nil, nil
		})
	}
}

func parseWeekday(s string) (int, error) {
	for i, day := range weekdays {
		if strings.EqualFold(s, day) || strings.EqualFold(s, time.Weekday(i).String()) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%q is not one of %s", s, strings.Join(weekdays, ", "))
}

// parseClock returns minutes; 24:00 is the end of a day.
func parseClock(s string) (int, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time such as 22:00", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}

func readSilences(node *yaml.Node) (silences []notify.Silence, at *yaml.Node, err error) {
	at, err = readElements(node, func(element *yaml.Node) (*yaml.Node, error) {
		var s notify.Silence
		at, err := readKeys(element, "silence", keyed{"matchers": intoList(&s.Matchers, notify.ParseMatcher), "from": into(&s.From, parseSilenceTime),
			"to": into(&s.To, parseSilenceTime), "comment": into(&s.Comment, anyText)})
		switch {
		case err != nil:
			return at, err
		case len(s.Matchers) == 0:
			return element, errors.New("a silence needs matchers")
		case !s.To.After(s.From):
			return element, errors.New("a silence needs an end (to), behind its beginning (from)")
		}
		silences = append(silences, s)
		return nil, nil
	})
	return silences, at, err
}

func parseSilenceTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%q is no time such as 2026-03-01T12:00:00Z", s)
	}
	return t, nil
}

func readRemedies(node *yaml.Node) (rules []notify.Remedy, at *yaml.Node, err error) {
	if node.Kind != yaml.SequenceNode {
		return nil, node, errors.New("a list of remedies is expected")
	}
	at, err = readElements(node, func(element *yaml.Node) (*yaml.Node, error) {
		r, at, err := readRemedy(element)
		rules = append(rules, r)
		return at, err
	})
	return rules, at, err
}

func readRemedy(node *yaml.Node) (r notify.Remedy, at *yaml.Node, err error) {
	perHour := number(&r.PerHour, 1, remediesHourMax, false)
	timeout := duration(&r.Timeout, notifyIntervalMin, notify.RemedyTimeoutMax)
	allowRoot := boolean(&r.AllowRoot)
	at, err = readKeys(node, "remedy", keyed{
		"name": into(&r.Name, parseReceiverName), "matchers": intoList(&r.Matchers, notify.ParseMatcher),
		"webhook": func(n *yaml.Node) (*yaml.Node, error) {
			r.Webhook = new(notify.Webhook)
			return readWebhook(n, r.Webhook)
		},
		"command": intoList(&r.Command, anyText), "user": into(&r.User, anyText),
		"allow-root": into(&r.AllowRoot, allowRoot.parse), "timeout": into(&r.Timeout, timeout.parse), "per-hour": into(&r.PerHour, perHour.parse),
	})
	switch {
	case err != nil:
		return r, at, err
	case r.Name == "" || len(r.Matchers) == 0:
		return r, node, errors.New("a remedy needs a name and matchers")
	case (r.Webhook == nil) == (len(r.Command) == 0):
		return r, node, fmt.Errorf("%s: one of webhook and command is expected", r.Name)
	case len(r.Command) > 0 && !filepath.IsAbs(r.Command[0]):
		return r, node, fmt.Errorf("%s: command: an absolute path is expected first, not %q", r.Name, r.Command[0])
	}
	return r, nil, nil
}

// openNotifier makes what tells of alerts. It runs with the exporters.
func (a *agent) openNotifier(config *Config) (err error) {
	a.notifier, err = notify.New(notify.Options{Config: config.notification(), Path: config.Storage.Path, ReadFile: readNamedFile,
		Version: readBuild().Version, Log: a.log})
	return config.Notify.locate(err)
}

func (a *agent) notifyTrouble() []string { return a.notifier.Trouble() }

// notifyState adds up the places of each receiver.
func (a *agent) notifyState() *export.NotifyState {
	s := a.notifier.Stats()
	state := &export.NotifyState{RemediesFailed: s.Remedies.Failed}
	for i := range s.Sinks {
		one := &s.Sinks[i]
		at := slices.IndexFunc(state.Receivers, func(r export.NotifyReceiver) bool { return r.Receiver == one.Receiver })
		if at < 0 {
			at = len(state.Receivers)
			state.Receivers = append(state.Receivers, export.NotifyReceiver{Receiver: one.Receiver, Integration: one.Integration,
				Failed: map[string]uint64{}, Dropped: map[string]uint64{}})
		}
		r := &state.Receivers[at]
		r.Delivered += one.Delivered
		r.AttemptsFailed += one.AttemptsFailed
		r.WriteErrors += one.SaveErrors
		r.Damaged += one.Damaged
		r.Queue += one.Queue
		for reason, n := range one.Failed {
			r.Failed[reason] += n
		}
		for reason, n := range one.Dropped {
			r.Dropped[reason] += n
		}
		if !one.Oldest.IsZero() {
			r.QueueAge = max(r.QueueAge, time.Since(one.Oldest))
		}
	}
	state.Remedies = s.Remedies.Decisions
	return state
}

func newNotifyCommand(environ []string) *cobra.Command {
	command := &cobra.Command{
		Use:   "notify",
		Short: "Work with the receivers of alerts",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	command.AddCommand(newNotifyTestCommand(environ))
	return command
}

func newNotifyTestCommand(environ []string) *cobra.Command {
	receiver := ""
	command := &cobra.Command{
		Use:   "test",
		Short: "Send a test alert to each receiver",
		Long: "Sends an alert PerfagentTest that fires, and its end, to each receiver of the\n" +
			"configuration, and prints for each whether it took both. Exit codes: 0 all did,\n" +
			"1 one did not, 2 usage.",
		Example: "  perfagent notify test --config.file /etc/perfagent.yml --receiver pager",
		Args:    noArguments,
	}
	source := addSettings(command.Flags(), environ, forNotify)
	command.Flags().StringVar(&receiver, "receiver", "", "only the receiver of this `name`")
	command.RunE = func(c *cobra.Command, _ []string) error {
		config, err := source.load()
		if err != nil {
			return err
		}
		return testReceivers(c.Context(), config, receiver, c.OutOrStdout(), newLogger(c.OutOrStdout(), config.Log, new(slog.LevelVar)))
	}
	return command
}

// testReceivers implements `notify test`.
func testReceivers(ctx context.Context, config *Config, receiver string, w io.Writer, log *slog.Logger) error {
	results, err := notify.Test(ctx, notify.Options{Config: config.notification(), ReadFile: readNamedFile, Version: readBuild().Version, Log: log}, receiver)
	if errors.Is(err, notify.ErrNoReceiver) {
		return usageError{fmt.Errorf("flag --receiver: %w", err)}
	}
	if err != nil {
		return err
	}
	failed := 0
	for _, r := range results {
		outcome := "ok"
		if r.Err != nil {
			failed++
			outcome = oneLine(r.Err)
		}
		if _, err := fmt.Fprintf(w, "%s (%s): %s\n", r.Receiver, r.Integration, outcome); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d receivers did not take the test", failed, len(results))
	}
	return nil
}
