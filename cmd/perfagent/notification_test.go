package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/notify"
)

const notifyFile = `notify:
  urgent: [pager]
  regular: [chat]
  receivers:
    - {name: chat, slack: {url-file: /run/secrets/slack}, quiet-hours: {days: [sat, Sunday], from: 22:00, to: "06:00", time-zone: UTC}}
    - {name: pager, pagerduty: {routing-key-file: /run/secrets/pager}} # a comment
    - {name: am, alertmanager: {url: "http://127.0.0.1:9093"}}
    - {name: hook, webhook: {url: "http://127.0.0.1:9000/", secret-file: /run/secrets/hook}}
    - name: mail
      email: {smarthost: "127.0.0.1:25", from: "Agent <a@example.org>", to: [b@example.org], password-file: /run/secrets/mail}
  group-wait: 0s
  silences:
    - {matchers: ['service_name=~"shop.*"'], from: "2026-03-01T12:00:00Z", to: "2026-03-01T13:00:00Z", comment: it is moved}
remedies:
  mode: dry-run
  rules:
    - {name: again, matchers: [alertname="Down"], command: [/bin/systemctl, restart, shop], user: nobody, timeout: 1m, per-hour: 2}
`

// Shows that receivers, silences and remedies reach the notifier, that their text means the same, and that a reload takes them over.
func TestNotification(t *testing.T) {
	config, err := loadConfig(t, notifyFile, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := config.notification()
	if len(n.Receivers) != 5 || n.Receivers[0].Slack.URLFile != "/run/secrets/slack" || n.Receivers[1].PagerDuty.RoutingKeyFile != "/run/secrets/pager" ||
		n.Receivers[2].Alertmanager.URLs[0] != "http://127.0.0.1:9093" || n.Receivers[3].Webhook.SecretFile != "/run/secrets/hook" {
		t.Errorf("%+v", n.Receivers)
	}
	if q := n.Receivers[0].Quiet; len(q) != 1 || q[0].From != 22*60 || q[0].To != 6*60 || q[0].Days != [7]bool{time.Sunday: true, time.Saturday: true} || q[0].Zone != time.UTC {
		t.Errorf("%+v", q)
	}
	if e := n.Receivers[4].Email; e.From != "a@example.org" || !reflect.DeepEqual(e.To, []string{"b@example.org"}) {
		t.Errorf("%+v", e)
	}
	if r := n.Remedies; r.Mode != notify.RemediesDryRun || r.PerHour != notify.RemediesPerHourDefault || len(r.Rules) != 1 || r.Rules[0].Timeout != time.Minute || r.Rules[0].PerHour != 2 {
		t.Errorf("%+v", r)
	}
	if n.GroupWait >= 0 || n.GroupInterval != notify.GroupIntervalDefault || len(n.Silences) != 1 || n.NoInhibit {
		t.Errorf("%+v", n)
	}
	merged := withLive(defaultConfig(), config)
	if m := merged.notification(); !reflect.DeepEqual(m, n) {
		t.Errorf("after a reload %+v\nnot %+v", m, n)
	}
	live, restart := changes(defaultConfig(), config)
	if got := strings.Join(live, " "); restart != nil || got != "notify.urgent notify.regular notify.receivers notify.group-wait notify.silences remedies.mode remedies.rules" {
		t.Errorf("changes %s, %v", got, restart)
	}
	same, err := loadConfig(t, strings.ReplaceAll(notifyFile, "# a comment", ""), nil, nil)
	if live, _ := changes(config, same); err != nil || live != nil {
		t.Errorf("without a comment: %v, %v", live, err)
	}
	if back := withLive(config, defaultConfig()); fmt.Sprint(back.notification()) != fmt.Sprint(defaultConfig().notification()) {
		t.Errorf("after a reload without any: %+v", back.notification())
	}
}

// Shows that a mistake in what is told to whom stops the start with file, line and key, without showing what may be a secret.
func TestNotificationMistakes(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"notify:\n  urgent: [nobody]\n", `yml:2: notify.urgent: no receiver is called "nobody"`},
		{"notify:\n  receivers:\n  - name: a\n    slack: {url: https://hooks.slack.com/verysecret}\n", "yml:4: notify.receivers: slack: slack: unknown key url: ca-file, url-file are known"},
		{"notify:\n  receivers:\n  - {name: a, log: }\n  - {name: a, log: }\n", "yml:4: notify.receivers: two receivers are called a"},
		{"notify:\n  receivers:\n  - {name: a}\n", "yml:3: notify.receivers: a: exactly one of"},
		{"notify:\n  receivers:\n  - {name: a, log: , slack: {url-file: /a}}\n", "yml:3: notify.receivers: a: exactly one of"},
		{"notify:\n  receivers:\n  - {log: }\n", "yml:3: notify.receivers: a receiver has no name"},
		{"notify:\n  receivers:\n  - {name: ../a, log: }\n", "yml:3: notify.receivers: name: a name has letters"},
		{"notify:\n  receivers:\n  - {name: a, smoke: }\n", "yml:3: notify.receivers: receiver: unknown key smoke: alertmanager, email, log, name, pagerduty, quiet-hours, slack, webhook are known"},
		{"notify:\n  receivers:\n  - {name: a, webhook: {url: verysecret}}\n", "yml:3: notify.receivers: webhook: url: the value is no URL"},
		{"notify:\n  receivers:\n  - {name: a, webhook: {url: 'http://me:verysecret@host/'}}\n", "yml:3: notify.receivers: webhook: url: credentials belong in a file"},
		{"notify:\n  receivers:\n  - {name: a, webhook: {url: 'http://host/', url-file: /a}}\n", "yml:3: notify.receivers: webhook: one of url and url-file"},
		{"notify:\n  receivers:\n  - {name: a, webhook: {url: 'http://host/', username: me}}\n", "yml:3: notify.receivers: webhook: username and password-file belong together"},
		{"notify:\n  receivers:\n  - {name: a, alertmanager: {ca-file: /a}}\n", "yml:3: notify.receivers: alertmanager: url, or urls"},
		{"notify:\n  receivers:\n  - {name: a, pagerduty: {url: 'http://host/'}}\n", "yml:3: notify.receivers: pagerduty: routing-key-file is expected"},
		{"notify:\n  receivers:\n  - {name: a, email: {smarthost: host, from: a@b, to: a@b}}\n", `yml:3: notify.receivers: email: smarthost: "host" is not host:port`},
		{"notify:\n  receivers:\n  - {name: a, email: {smarthost: 'h:25', from: \"a@b\\nBcc: c@d\", to: a@b}}\n", "yml:3: notify.receivers: email: from:"},
		{"notify:\n  receivers:\n  - {name: a, email: {smarthost: 'h:25', from: a@b, to: a@b, tls: off, password-file: /a}}\n", "yml:3: notify.receivers: email: a password goes over TLS only"},
		{"notify:\n  receivers:\n  - {name: a, email: {smarthost: 'h:25', from: a@b, to: a@b, tls: maybe}}\n", `yml:3: notify.receivers: email: tls: "maybe" is not one of`},
		{"notify:\n  receivers:\n  - {name: a, log: , quiet-hours: {from: 22:00, to: 25:00}}\n", `yml:3: notify.receivers: quiet-hours: to: "25:00" is no time`},
		{"notify:\n  receivers:\n  - {name: a, log: , quiet-hours: {from: 22:00}}\n", "yml:3: notify.receivers: quiet-hours: from and to are expected"},
		{"notify:\n  receivers:\n  - {name: a, log: , quiet-hours: {from: 22:00, to: 23:00, time-zone: Nowhere}}\n", "yml:3: notify.receivers: quiet-hours: time-zone: unknown time zone Nowhere"},
		{"notify:\n  receivers:\n  - {name: a, log: , quiet-hours: {from: 22:00, to: 23:00, days: someday}}\n", `yml:3: notify.receivers: quiet-hours: days: "someday" is not one of sun`},
		{"notify:\n  receivers: {name: a}\n", "yml:2: notify.receivers: a list of receivers is expected"},
		{"notify:\n  receivers:\n  - &a {name: a, log: }\n  - *a\n", "yml:4: notify.receivers: aliases are not understood"},
		{"notify.silences: [{matchers: shop}]\n", `yml:1: notify.silences: matchers: "shop" is no matcher`},
		{"notify.silences: [{matchers: a=b}]\n", "yml:1: notify.silences: a silence needs an end"},
		{"notify.silences: [{matchers: 'a=~\"(\"', to: x}]\n", "yml:1: notify.silences: matchers:"},
		{"notify.group-by: [a b]\n", `yml:1: notify.group-by: "a b" is no name of a label`},
		{"remedies.mode: maybe\n", `yml:1: remedies.mode: "maybe" is not one of off, dry-run, on`},
		{"remedies.rules: [{name: a, matchers: a=b, command: reboot}]\n", `yml:1: remedies.rules: a: command: an absolute path is expected first, not "reboot"`},
		{"remedies.rules: [{name: a, matchers: a=b}]\n", "yml:1: remedies.rules: a: one of webhook and command"},
		{"remedies.rules: [{name: a, command: /bin/true}]\n", "yml:1: remedies.rules: a remedy needs a name and matchers"},
		{"remedies.rules:\n- {name: a, matchers: a=b, command: /bin/true}\n- {name: a, matchers: a=b, command: /bin/true}\n", "yml:1: remedies.rules: two remedies are called a"},
		{"remedies.rules: [{name: a, matchers: a=b, command: /bin/true, timeout: 1h}]\n", `yml:1: remedies.rules: timeout: "1h" is not between 1s and 10m0s`},
	} {
		if _, err := loadConfig(t, c.file, nil, nil); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "verysecret") {
			t.Errorf("%s%v", c.file, err)
		}
	}
}

// Shows what notify test prints, and its exit codes: 0 where all receivers took both, 1 where one did not, 2 for a name that is none.
func TestNotifyTest(t *testing.T) {
	var requests atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		requests.Add(1)
	}))
	defer s.Close()
	good := "notify:\n  receivers:\n  - {name: good, webhook: {url: '" + s.URL + "'}}\n"
	bad := good + "  - {name: bad, slack: {url-file: " + writeFile(t, "url", "http://127.0.0.1:1/services/verysecret") + "}}\n"
	for _, c := range []struct {
		file, receiver string
		code           int
		stdout, stderr string
		requests       int64
	}{
		{good, "", exitOK, "good (webhook): ok\n", "", 2},
		{bad, "", exitError, "good (webhook): ok\nbad (slack): post to http://127.0.0.1:1/…: ", "1 of 2 receivers did not take the test", 2},
		{bad, "good", exitOK, "good (webhook): ok\n", "", 2},
		{bad, "nobody", exitUsage, "", `"nobody": no receiver is called so`, 0},
		{"", "", exitOK, "PerfagentTest", "", 0},
	} {
		requests.Store(0)
		args := []string{"notify", "test", "--receiver=" + c.receiver}
		if c.file != "" {
			args = append(args, "--config.file="+writeFile(t, "perfagent.yml", c.file))
		}
		code, stdout, stderr := runProgram(t, nil, args...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) || strings.Contains(stdout+stderr, "verysecret") || requests.Load() != c.requests {
			t.Errorf("%q of %s: exit code %d, %d requests, output %q, errors %q", c.receiver, c.file, code, requests.Load(), stdout, stderr)
		}
	}
}

// Shows that the agent does not start with a secret that is missing, and that a reload with one changes nothing; and what metrics and health say of the receivers.
func TestNotifierOfAgent(t *testing.T) {
	config, err := loadConfig(t, "notify.receivers: [{name: chat, slack: {url-file: /does/not/exist}}]", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{log: slog.New(slog.DiscardHandler)}
	const want = "yml:1: notify.receivers: chat: read the secret: stat /does/not/exist: no such file or directory"
	if err := a.openNotifier(config); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("start: %v", err)
	}
	config, err = loadConfig(t, "notify.receivers: [{name: am, alertmanager: {urls: ['http://127.0.0.1:1', 'http://127.0.0.1:2']}}, {name: am-2, log: }]", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.openNotifier(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { a.notifier.Run(ctx); close(ended) }()
	a.notifier.Send([]notify.Alert{{Labels: map[string]string{"alertname": "Slow"}, StartsAt: time.Now()}})
	deadline := time.Now().Add(20 * time.Second)
	var s *export.NotifyState
	for s = a.notifyState(); len(s.Receivers) != 2 || s.Receivers[0].AttemptsFailed < 2 || s.Receivers[1].Delivered == 0; s = a.notifyState() {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s.Receivers)
		}
		time.Sleep(time.Millisecond)
	}
	if r := s.Receivers[0]; r.Receiver != "am" || r.Integration != "alertmanager" || r.Queue != 2 || r.QueueAge <= 0 || len(r.Failed) != 2 || len(r.Dropped) != 1 || len(s.Remedies) != 6 {
		t.Errorf("%+v", s)
	}
	cancel()
	<-ended
}

// Shows that a reload takes over every change of every kind of receiver, so that a second one finds none: also where a value is left out.
func TestReceiversAreTakenOver(t *testing.T) {
	const quiet = ", quiet-hours: {from: 22:00, to: 06:00}"
	for _, kind := range []string{"log: ", "log: null", "log: ~", "log: {}", "slack: {url-file: /a}", "webhook: {url: 'http://host/'}", "pagerduty: {routing-key-file: /a}",
		"email: {smarthost: 'h:25', from: a@b, to: a@b}", "alertmanager: {url: 'http://host/'}"} {

		load := func(more string) *Config {
			t.Helper()
			c, err := loadConfig(t, "notify.receivers: [{name: a, "+kind+more+"}]\n", nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		day := load("")
		fresh := withLive(defaultConfig(), day)
		if live, _ := changes(fresh, day); live != nil {
			t.Errorf("%s: is not taken over", kind)
		}
		if strings.HasPrefix(kind, "alertmanager") { // which has no quiet hours here
			continue
		}
		night := load(quiet)
		for _, c := range [][2]*Config{{day, night}, {night, day}} {
			if live, _ := changes(c[0], c[1]); len(live) != 1 {
				t.Errorf("%s: %v has changed", kind, live)
			}
			merged := withLive(c[0], c[1])
			if live, _ := changes(merged, c[1]); live != nil || !reflect.DeepEqual(merged.notification().Receivers, c[1].notification().Receivers) {
				t.Errorf("%s: after a reload %v has changed still: %+v", kind, live, merged.notification().Receivers)
			}
		}
	}
}

// Shows how the address in messages is set, and what it is otherwise.
func TestExternalURL(t *testing.T) {
	config, err := loadConfig(t, "web.external-url: https://proxy.example/perfagent/\n", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := new(agent).address(config); got.JoinPath("/alerts").String() != "https://proxy.example/perfagent/alerts" {
		t.Error(got)
	}
	if got := new(agent).address(defaultConfig()); got != nil {
		t.Errorf("without a server: %s", got)
	}
	for _, bad := range []string{"proxy.example", "ftp://proxy.example", "https://me:verysecret@proxy.example/", "https://proxy.example/?a=b", "https://proxy.example/#a", "https:///x"} {
		if _, err := loadConfig(t, "web.external-url: '"+bad+"'\n", nil, nil); err == nil || strings.Contains(err.Error(), "verysecret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Shows that `notify test` asks each receiver that is named, in their order, and tells none where one of the names is nobody's.
func TestSomeReceivers(t *testing.T) {
	config := defaultConfig()
	for _, name := range []string{"a", "b", "c"} {
		config.Notify.Receivers.value = append(config.Notify.Receivers.value, notify.Receiver{Name: name, Log: new(notify.Log)})
	}
	test := func(only ...string) (string, error) {
		var out bytes.Buffer
		err := testReceivers(t.Context(), config, only, &out, slog.New(slog.DiscardHandler))
		return out.String(), err
	}
	for _, c := range []struct {
		only []string
		want string
	}{{nil, "a (log): ok\nb (log): ok\nc (log): ok\n"}, {[]string{"c"}, "c (log): ok\n"}, {[]string{"c", "a"}, "c (log): ok\na (log): ok\n"}} {
		if got, err := test(c.only...); err != nil || got != c.want {
			t.Errorf("%q: %q, %v, want %q", c.only, got, err, c.want)
		}
	}
	var usage usageError
	if got, err := test("a", "nobody"); got != "" || !errors.As(err, &usage) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("%q, %v", got, err)
	}
}
