package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/notify"
	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

// webhookBody is what both Alertmanager and the agent send to a webhook.
type webhookBody struct {
	Version, GroupKey, Status, Receiver string
	GroupLabels, CommonLabels           map[string]string
	Alerts                              []webhookAlert
}

type webhookAlert struct {
	Status, Fingerprint string
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
}

// hook is a webhook's end.
type hook struct {
	url string

	mu   sync.Mutex
	got  []webhookBody
	keys []string // of the last document, sorted
}

func startHook(t *testing.T) *hook {
	h := new(hook)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var one webhookBody
		var raw map[string]any
		if err := errors.Join(json.Unmarshal(body, &one), json.Unmarshal(body, &raw)); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got, h.keys = append(h.got, one), nil
		for key := range raw {
			h.keys = append(h.keys, key)
		}
		for key := range raw["alerts"].([]any)[0].(map[string]any) {
			h.keys = append(h.keys, "alerts."+key)
		}
		slices.Sort(h.keys)
	}))
	t.Cleanup(s.Close)
	h.url = s.URL
	return h
}

// told is what was sent so far, in a few words.
func (h *hook) told() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var words []string
	for _, b := range h.got {
		words = append(words, fmt.Sprintf("%s:%s:%d", b.GroupLabels["service_name"], b.Status, len(b.Alerts)))
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// startAlertmanager starts one that groups by service and tells a webhook; it returns its URL.
func startAlertmanager(t *testing.T, webhook string) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "alertmanager.yml")
	text := fmt.Sprintf("route:\n  receiver: hook\n  group_by: [service_name]\n  group_wait: 1s\n  group_interval: 1s\nreceivers:\n- name: hook\n  webhook_configs:\n  - url: %s\n", webhook)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	cmd := exec.Command("prometheus-alertmanager", "--config.file="+config, "--storage.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--cluster.listen-address=")
	process, err := servers.StartProcess(cmd, filepath.Join(dir, "output"))
	if errors.Is(err, servers.ErrNotInstalled) && os.Getenv("PERFAGENT_TEST_PARTIAL") != "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(process.Log())
		}
		if err := process.Stop(); err != nil {
			t.Error(err)
		}
	})
	client := ownClient(t)
	if !until(servers.Slow(30*time.Second), func() bool {
		response, err := client.Get("http://" + address + "/-/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	}) {
		t.Fatal("the Alertmanager is not ready")
	}
	return "http://" + address
}

// A real Alertmanager takes alerts from a notifier: it groups them, tells a silenced one to nobody, and tells each beginning and end once, though alerts are
// repeated every 200 ms. The agent's own webhook has the same form as Alertmanager's, with the same fingerprints and common labels.
func TestE2EAlertmanager(t *testing.T) {
	t.Parallel()
	theirs, ours := startHook(t), startHook(t)
	url := startAlertmanager(t, theirs.url)
	n, err := notify.New(notify.Options{Path: t.TempDir(), Log: slog.New(slog.DiscardHandler), Config: notify.Config{
		Receivers: []notify.Receiver{{Name: "am", Alertmanager: &notify.Alertmanager{URLs: []string{url}}}, {Name: "hook", Webhook: &notify.Webhook{Endpoint: notify.Endpoint{URL: ours.url}}}},
		GroupBy:   []string{"service_name"}, GroupWait: time.Second, GroupInterval: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { n.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	silence(t, url, "silenced")
	began := time.Now().Truncate(time.Millisecond)
	one := func(service, route string) notify.Alert {
		return notify.Alert{Labels: map[string]string{"alertname": "Slow", "severity": "warning", "service_name": service, "http_route": route},
			Annotations: map[string]string{"summary": "slow, \"very\""}, StartsAt: began}
	}
	alerts := []notify.Alert{one("shop", "/a"), one("shop", "/é\n"), one("bank", "/a"), one("silenced", "/a")}
	expectTold := func(theirsWant, oursWant string) {
		t.Helper()
		var sent time.Time
		if !until(servers.Slow(40*time.Second), func() bool {
			if time.Since(sent) >= 200*time.Millisecond {
				sent = time.Now()
				n.Send(alerts)
			}
			return theirs.told() == theirsWant && ours.told() == oursWant
		}) {
			t.Errorf("the Alertmanager told %q, not %q; the agent %q, not %q", theirs.told(), theirsWant, ours.told(), oursWant)
		}
	}
	expectTold("bank:firing:1 shop:firing:2", "bank:firing:1 shop:firing:2 silenced:firing:1")
	if got := alertmanagerState(t, url); got != "bank/active shop/active shop/active silenced/suppressed" {
		t.Errorf("the Alertmanager has %q", got)
	}
	compareHooks(t, theirs, ours)
	for i := range alerts {
		alerts[i].EndsAt = time.Now()
	}
	expectTold("bank:firing:1 bank:resolved:1 shop:firing:2 shop:resolved:2",
		"bank:firing:1 bank:resolved:1 shop:firing:2 shop:resolved:2 silenced:firing:1 silenced:resolved:1")
	compareHooks(t, theirs, ours)
}

// silence tells an Alertmanager to be silent of a service.
func silence(t *testing.T, url, service string) {
	t.Helper()
	body := fmt.Sprintf(`{"matchers":[{"name":"service_name","value":%q,"isRegex":false,"isEqual":true}],"startsAt":%q,"endsAt":%q,"createdBy":"test","comment":"test"}`,
		service, time.Now().Add(-time.Second).Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339))
	response, err := ownClient(t).Post(url+"/api/v2/silences", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(response.Body)
		t.Fatalf("%s: %s", response.Status, answer)
	}
}

// alertmanagerState lists what an Alertmanager has.
func alertmanagerState(t *testing.T, url string) string {
	t.Helper()
	response, err := ownClient(t).Get(url + "/api/v2/alerts")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var alerts []struct {
		Labels map[string]string
		Status struct{ State string }
	}
	if err := json.NewDecoder(response.Body).Decode(&alerts); err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, a := range alerts {
		words = append(words, a.Labels["service_name"]+"/"+a.Status.State)
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// compareHooks compares the last messages of each group.
func compareHooks(t *testing.T, theirs, ours *hook) {
	t.Helper()
	theirs.mu.Lock()
	defer theirs.mu.Unlock()
	ours.mu.Lock()
	defer ours.mu.Unlock()
	if !reflect.DeepEqual(theirs.keys, ours.keys) {
		t.Errorf("keys: %v\nnot %v", ours.keys, theirs.keys)
	}
	last := func(h *hook, service string) (b webhookBody) {
		for _, one := range h.got {
			if one.GroupLabels["service_name"] == service {
				b = one
			}
		}
		b.Receiver = ""
		slices.SortFunc(b.Alerts, func(x, y webhookAlert) int { return strings.Compare(x.Fingerprint, y.Fingerprint) })
		for i := range b.Alerts { // Alertmanager keeps milliseconds
			a := &b.Alerts[i]
			a.StartsAt, a.EndsAt = a.StartsAt.UTC().Truncate(time.Millisecond), a.EndsAt.UTC().Truncate(time.Millisecond)
		}
		return b
	}
	for _, service := range []string{"shop", "bank"} {
		if got, want := last(ours, service), last(theirs, service); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v\nnot %+v", service, got, want)
		}
	}
}

// notify test of the program reaches a real Alertmanager, which tells of the alert and of its end, and says so with the exit code.
func TestE2ENotifyTest(t *testing.T) {
	t.Parallel()
	h := startHook(t)
	url := startAlertmanager(t, h.url)
	binary, err := agent.Binary()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "perfagent.yml")
	if err := os.WriteFile(config, []byte("notify.receivers: [{name: am, alertmanager: {url: '"+url+"'}}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "notify", "test", "--config.file="+config)
	cmd.Env = agent.Environment()
	output, err := cmd.CombinedOutput()
	if err != nil || !bytes.Equal(output, []byte("am (alertmanager): ok\n")) {
		t.Fatalf("%v: %s", err, output)
	}
	if got := alertmanagerState(t, url); got != "" { // it has begun and ended
		t.Errorf("the Alertmanager still has %q", got)
	}
}

// The receivers of an agent stand in its metrics and change with a reload; one with a secret that is missing is refused, and the ones before stay. What was told is
// in a directory that is the agent's alone.
func TestE2EReceivers(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	storage, config := t.TempDir(), filepath.Join(t.TempDir(), "perfagent.yml")
	write := func(receivers string) {
		t.Helper()
		if err := os.WriteFile(config, []byte("notify.receivers: ["+receivers+"]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const chat = "{name: chat, webhook: {url: 'http://127.0.0.1:1/'}}"
	write(chat)
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, NoTrace: true, Args: []string{"--storage.path=" + storage, "--config.file=" + config}})
	expect := func(want ...string) {
		t.Helper()
		metrics := ""
		if !until(servers.Slow(20*time.Second), func() bool {
			metrics, _ = a.Get("/metrics")
			return !slices.ContainsFunc(want, func(line string) bool { return !strings.Contains(metrics, line+"\n") })
		}) {
			t.Fatalf("%q is not in\n%s", want, metrics)
		}
	}
	expect(`perfagent_notifications_total{integration="webhook",receiver="chat"} 0`, `perfagent_remedies_total{decision="run"} 0`)
	write(chat + ", {name: pager, pagerduty: {routing-key-file: /does/not/exist}}")
	if err := a.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	expect("perfagent_config_last_reload_successful 0", `perfagent_notifications_queue_length{receiver="chat"} 0`)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("verysecret"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(chat + ", {name: pager, pagerduty: {routing-key-file: " + key + "}}")
	if err := a.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	expect("perfagent_config_last_reload_successful 1", `perfagent_notifications_total{integration="pagerduty",receiver="pager"} 0`)
	if info, err := os.Stat(filepath.Join(storage, "notify")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	if log := a.Log(); !strings.Contains(log, "notify.receivers: pager: read the secret: stat /does/not/exist") || strings.Contains(log, "verysecret") {
		t.Errorf("log: %s", log)
	}
}
