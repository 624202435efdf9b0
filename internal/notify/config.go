package notify

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Defaults, those of Alertmanager.
const (
	GroupWaitDefault      = 30 * time.Second
	GroupIntervalDefault  = 5 * time.Minute
	RepeatIntervalDefault = 4 * time.Hour
)

// ReceiversMax bounds the receivers: each has a goroutine, a file, and metrics of its own.
const ReceiversMax = 32

// GroupByDefault are the labels whose values tell one notification from another.
var GroupByDefault = []string{labelService, labelName}

// Config says who is told of what, and when. The zero value tells the log of everything.
type Config struct {
	// Urgent are the names of the receivers of alerts with the severity error or critical, Regular those of the others. Without Urgent, Regular gets
	// these as well; without Regular, the log gets the others; without both, every receiver gets all.
	Urgent, Regular []string
	Receivers       []Receiver

	// GroupBy are labels; alerts with the same values of them are told together. nil is GroupByDefault.
	GroupBy []string
	// GroupWait is how long the first alert of a group waits for others; negative is not at all.
	GroupWait time.Duration
	// GroupInterval is the least time between two notifications of a group.
	GroupInterval time.Duration
	// RepeatInterval is after how long what still fires is told again.
	RepeatInterval time.Duration

	// NoInhibit has infos and warnings told also while a critical alert of the same subject fires.
	NoInhibit bool
	Silences  []Silence
	Remedies  RemedyConfig
}

// Receiver is one who is told. Exactly one of the pointers is set.
type Receiver struct {
	Name         string // of letters, digits, - and _
	Alertmanager *Alertmanager
	Webhook      *Webhook
	Slack        *Slack
	PagerDuty    *PagerDuty
	Email        *Email
	Log          *Log
	Quiet        []QuietHours
}

// Endpoint is where requests go, and with which credentials. Files are read at each use.
type Endpoint struct {
	URL, URLFile           string // one of them
	Username, PasswordFile string // basic authentication
	TokenFile              string // bearer token
	CAFile                 string // PEM; "" for the system's certificates
}

// Alertmanager takes alerts as they are, and does the rest itself.
type Alertmanager struct {
	URLs []string // each gets every alert
	Endpoint
}

// Webhook takes Alertmanager's webhook format.
type Webhook struct {
	Endpoint
	SecretFile string // what requests are signed with; "" for none
}

// Slack takes messages of an incoming webhook, whose URL is the secret.
type Slack struct{ Endpoint }

// PagerDuty takes events of the Events API v2.
type PagerDuty struct {
	Endpoint       // URL "" is PagerDuty's
	RoutingKeyFile string
}

// Log writes a line for each alert into the agent's log.
type Log struct{}

// logReceiver is told where nobody else is.
var logReceiver = Receiver{Name: "log", Log: new(Log)}

// kind is the name of what the receiver is.
func (r *Receiver) kind() string {
	switch {
	case r.Alertmanager != nil:
		return "alertmanager"
	case r.Webhook != nil:
		return "webhook"
	case r.Slack != nil:
		return "slack"
	case r.PagerDuty != nil:
		return "pagerduty"
	case r.Email != nil:
		return "email"
	}
	return "log"
}

// KeyError is a mistake in the part of a configuration that Key names, such as urgent or remedies.rules.
type KeyError struct {
	Key string
	Err error
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }
func (e *KeyError) Unwrap() error { return e.Err }

// CheckNames reports names that are given twice or missing, as a KeyError.
func (c *Config) CheckNames() error {
	names := map[string]bool{}
	for i := range c.Receivers {
		name := c.Receivers[i].Name
		if names[name] {
			return &KeyError{"notify.receivers", fmt.Errorf("two receivers are called %s", name)}
		}
		names[name] = true
	}
	if len(names) > ReceiversMax {
		return &KeyError{"notify.receivers", fmt.Errorf("there are %d, and at most %d are possible", len(names), ReceiversMax)}
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{"notify.urgent", c.Urgent}, {"notify.regular", c.Regular}} {
		for _, name := range list.names {
			if !names[name] && name != logReceiver.Name {
				return &KeyError{list.key, fmt.Errorf("no receiver is called %q", name)}
			}
		}
	}
	return c.Remedies.checkNames()
}

// takes returns whether a receiver gets urgent alerts, and whether it gets the others.
func (c *Config) takes(name string) (urgent, regular bool) {
	u, r := c.Urgent, c.Regular
	switch {
	case len(u)+len(r) == 0:
		return true, true
	case len(u) == 0:
		u = r
	case len(r) == 0:
		r = []string{logReceiver.Name}
	}
	return slices.Contains(u, name), slices.Contains(r, name)
}

// receivers returns all receivers, and the log where somebody names it without saying what it is, or nobody would be told otherwise.
func (c *Config) receivers() []Receiver {
	name := logReceiver.Name
	urgent, regular := c.takes(name)
	named := len(c.Urgent)+len(c.Regular) > 0 && (urgent || regular)
	isLog := func(r Receiver) bool { return r.Name == name }
	if (named || len(c.Receivers) == 0) && !slices.ContainsFunc(c.Receivers, isLog) {
		return append(slices.Clone(c.Receivers), logReceiver)
	}
	return c.Receivers
}

// Bounds of the files that hold secrets and certificates.
const (
	secretBytesMax = 16 << 10
	pemBytesMax    = 4 << 20 // the certificates of a system have 200 KiB
)

// files reads what a configuration names, each file once at a time: who reads one may be refused while another does, as its file system
// may not answer.
type files struct {
	reading func(name string, limit int64) ([]byte, error)
	locks   *sync.Map // of *sync.Mutex by name; as many as configurations have named
}

func newFiles(reading func(name string, limit int64) ([]byte, error)) files {
	return files{reading, new(sync.Map)}
}

// read returns at most limit bytes, or an error that names the file.
func (f files) read(name string, limit int64) ([]byte, error) {
	lock, _ := f.locks.LoadOrStore(name, new(sync.Mutex))
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	return f.reading(name, limit)
}

// secret returns a file's text without the blanks around it. Errors name the file and never show what is in it.
func (f files) secret(name string) (string, error) {
	data, err := f.read(name, secretBytesMax)
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("read the secret: %s: one line of text is expected", name)
	}
	return text, nil
}

// pool returns the certificates of a file; nil, the system's, for "".
func (f files) pool(name string) (*x509.CertPool, error) {
	if name == "" {
		return nil, nil
	}
	data, err := f.read(name, pemBytesMax)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read certificates: %s: no certificate (PEM) is there", name)
	}
	return pool, nil
}

// CheckURL reports a text that is no URL of HTTP, without showing it: it may hold a secret.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("the value is no URL such as https://host/path")
	}
	return nil
}

// address returns the URL.
func (f files) address(e *Endpoint) (string, error) {
	if e.URLFile == "" {
		return e.URL, nil
	}
	text, err := f.secret(e.URLFile)
	if err != nil {
		return "", err
	}
	if err := CheckURL(text); err != nil {
		return "", fmt.Errorf("%s: %w", e.URLFile, err)
	}
	return text, nil
}

// check reads every file that a receiver needs.
func (f files) check(r *Receiver) error {
	var secrets []string
	var e Endpoint
	switch {
	case r.Alertmanager != nil:
		e = r.Alertmanager.Endpoint
	case r.Webhook != nil:
		e, secrets = r.Webhook.Endpoint, []string{r.Webhook.SecretFile}
	case r.Slack != nil:
		e = r.Slack.Endpoint
	case r.PagerDuty != nil:
		e, secrets = r.PagerDuty.Endpoint, []string{r.PagerDuty.RoutingKeyFile}
	case r.Email != nil:
		e.CAFile, secrets = r.Email.CAFile, []string{r.Email.PasswordFile}
	}
	return f.checkEndpoint(&e, secrets...)
}

func (f files) checkEndpoint(e *Endpoint, secrets ...string) error {
	for _, name := range append(secrets, e.PasswordFile, e.TokenFile) {
		if name == "" {
			continue
		}
		if _, err := f.secret(name); err != nil {
			return err
		}
	}
	if _, err := f.pool(e.CAFile); err != nil {
		return err
	}
	_, err := f.address(e)
	return err
}
