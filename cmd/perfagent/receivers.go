package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/mail"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/perfagent/perfagent/internal/notify"
)

func anyText(s string) (string, error) { return s, nil }

var receiverName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func parseReceiverName(s string) (string, error) {
	if !receiverName.MatchString(s) {
		return "", errors.New("a name has letters, digits, - and _, at most 64")
	}
	return s, nil
}

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

func parseLabelName(s string) (string, error) {
	if !labelName.MatchString(s) {
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
