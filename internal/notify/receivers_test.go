package notify

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// aFile writes a secret.
func aFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// received is a request that a server of a test got.
type received struct {
	*http.Request
	body []byte
}

// receiving is a server that keeps what it gets and answers as told.
func receiving(t *testing.T, answer http.HandlerFunc) (*httptest.Server, func() []received) {
	var mu sync.Mutex
	var got []received
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		got = append(got, received{r, body})
		mu.Unlock()
		if answer != nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
			answer(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s, func() []received { mu.Lock(); defer mu.Unlock(); return got }
}

// deliverTo delivers to a receiver as a notifier would.
func deliverTo(t *testing.T, r Receiver, n *notification) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	notifier := &Notifier{o: Options{Host: "host-a", Version: "1.2", ExternalURL: "http://here/"}, log: slog.New(slog.DiscardHandler), files: newFiles(readFile)}
	return notifier.integration(&r, 0).deliver(ctx, n)
}

var (
	began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	over  = began.Add(time.Minute)
)

// sample is one alert that fires and one that is over, of one group.
func sample() *notification {
	labels := func(severity, route string) map[string]string {
		return map[string]string{"alertname": "Slow", "severity": severity, "service_name": "shop", "http_route": route}
	}
	return &notification{ID: "0123456789abcdef", Receiver: "r", GroupKey: `{}:{alertname="Slow"}`, GroupLabels: map[string]string{"alertname": "Slow"}, Time: over, Alerts: []item{
		{Alert: &Alert{Labels: labels("critical", "/a"), Annotations: map[string]string{"summary": "it is <!channel> slow & <b>bad</b>\r\nBcc: x@example.org", "description": "look at it"}, StartsAt: began, GeneratorURL: "http://here/graph"}, New: true, expires: over.Add(time.Hour)},
		{Alert: &Alert{Labels: labels("critical", "/b"), Annotations: map[string]string{}, StartsAt: began, EndsAt: over}, Over: true, New: true},
	}}
}

// A webhook gets Alertmanager's message, signed over its time and its body, with the value that openssl gives for the same text, and with the name of the notification.
func TestWebhook(t *testing.T) {
	s, got := receiving(t, nil)
	r := Receiver{Webhook: &Webhook{Endpoint: Endpoint{URLFile: aFile(t, s.URL+"/hook?token=x\n"), TokenFile: aFile(t, " bearer \n")}, SecretFile: aFile(t, "key\n")}}
	if err := deliverTo(t, r, sample()); err != nil {
		t.Fatal(err)
	}
	request := got()[0]
	at, found := strings.CutPrefix(request.Header.Get(SignatureHeader), "t=")
	at, _, _ = strings.Cut(at, ",")
	var seconds int64
	if _, err := fmt.Sscan(at, &seconds); err != nil || !found || time.Since(time.Unix(seconds, 0)) > time.Minute {
		t.Errorf("%s", request.Header.Get(SignatureHeader))
	}
	if want := sign("key", time.Unix(seconds, 0), request.body); request.Header.Get(SignatureHeader) != want {
		t.Errorf("%q is not %q", request.Header.Get(SignatureHeader), want)
	}
	if request.URL.RequestURI() != "/hook?token=x" || request.Header.Get(IDHeader) != "0123456789abcdef" || request.Header.Get("Authorization") != "Bearer bearer" ||
		request.Header.Get("User-Agent") != "perfagent/1.2" || request.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %v", request.URL, request.Header)
	}
	const want = `{"version":"4","groupKey":"{}:{alertname=\"Slow\"}","truncatedAlerts":0,"status":"firing","receiver":"r","groupLabels":{"alertname":"Slow"},` +
		`"commonLabels":{"alertname":"Slow","instance":"host-a","service_name":"shop","severity":"critical"},"commonAnnotations":{},"externalURL":"http://here/","alerts":[` +
		`{"status":"firing","labels":{"alertname":"Slow","http_route":"/a","instance":"host-a","service_name":"shop","severity":"critical"},"annotations":{"description":"look at it","summary":"it is \u003c!channel\u003e slow \u0026 \u003cb\u003ebad\u003c/b\u003e\r\nBcc: x@example.org"},` +
		`"startsAt":"2026-03-01T12:00:00Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://here/graph","fingerprint":"` + "%s" + `"},` +
		`{"status":"resolved","labels":{"alertname":"Slow","http_route":"/b","instance":"host-a","service_name":"shop","severity":"critical"},"annotations":{},"startsAt":"2026-03-01T12:00:00Z","endsAt":"2026-03-01T12:01:00Z","generatorURL":"","fingerprint":"%s"}]}`
	n := sample().from("host-a")
	if w := fmt.Sprintf(want, fingerprint(n.Alerts[0].Labels), fingerprint(n.Alerts[1].Labels)); string(request.body) != w {
		t.Errorf("got  %s\nwant %s", request.body, w)
	}
	// printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
	if got := sign("secret", time.Unix(1_700_000_000, 0), []byte(`{"a":1}`)); got != "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686" {
		t.Errorf("signature %s", got)
	}
	for range 2 * webhookAlertsMax {
		n.Alerts = append(n.Alerts, n.Alerts[0])
	}
	if m := newWebhookMessage(n, ""); len(m.Alerts) != webhookAlertsMax || m.TruncatedAlerts != webhookAlertsMax+2 {
		t.Errorf("%d alerts, %d left out", len(m.Alerts), m.TruncatedAlerts)
	}
}

// Answers of 5xx, 408 and 429 are tried again, with the pause that they ask for; others, and redirects, which are not followed, are not. No error, and
// nothing else that is shown, has a secret of the URL, the password, or what the server repeats of them.
func TestAnswers(t *testing.T) {
	elsewhere, followed := receiving(t, nil)
	for _, c := range []struct {
		status    int
		after     string
		permanent bool
		pause     time.Duration
	}{
		{200, "", false, 0}, {202, "", false, 0}, {204, "", false, 0}, {500, "", false, 0}, {503, "120", false, 2 * time.Minute}, {429, "7", false, 7 * time.Second},
		{429, "nonsense", false, 0}, {408, "", false, 0}, {400, "", true, 0}, {404, "", true, 0}, {410, "", true, 0}, {301, "", true, 0}, {307, "", true, 0}, {308, "", true, 0},
	} {
		s, got := receiving(t, func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			w.Header().Set("Location", elsewhere.URL)
			w.Header().Set("Retry-After", c.after)
			w.WriteHeader(c.status)
			fmt.Fprintf(w, "no, %s %s at %s\nforged line %s", user, password, r.URL, strings.Repeat("x", 10000))
		})
		r := Receiver{Slack: &Slack{Endpoint{URLFile: aFile(t, s.URL+"/services/T00/verysecret"), Username: "me", PasswordFile: aFile(t, "hunter2")}}}
		err := deliverTo(t, r, sample())
		if (err == nil) != (c.status < 300) || len(got()) != 1 {
			t.Fatalf("%d: %v after %d requests", c.status, err, len(got()))
		}
		if err == nil {
			continue
		}
		f := err.(deliveryError)
		if f.permanent != c.permanent || f.after != c.pause {
			t.Errorf("%d: %+v", c.status, f)
		}
		if text := err.Error(); strings.Contains(text, "verysecret") || strings.Contains(text, "hunter2") || strings.Contains(text, "\n") || len(text) > 400 ||
			!strings.Contains(text, fmt.Sprint(c.status)) {
			t.Errorf("%d: %q", c.status, text)
		}
	}
	if len(followed()) > 0 {
		t.Error("a redirect was followed")
	}
	if d := retryAfter(began.Add(time.Minute).Format(http.TimeFormat), began); d != time.Minute {
		t.Errorf("a date is %s", d)
	}
	dead := Receiver{Slack: &Slack{Endpoint{URLFile: aFile(t, "http://127.0.0.1:1/services/verysecret")}}}
	if err := deliverTo(t, dead, sample()); err == nil || strings.Contains(err.Error(), "verysecret") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("nobody there: %v", err)
	}
	for _, r := range []Receiver{
		{Slack: &Slack{Endpoint{URLFile: "/does/not/exist"}}}, {Slack: &Slack{Endpoint{URLFile: aFile(t, "")}}}, {Slack: &Slack{Endpoint{URLFile: aFile(t, "verysecret")}}},
		{Slack: &Slack{Endpoint{URLFile: aFile(t, "https://verysecret%zz/")}}},
		{Webhook: &Webhook{Endpoint: Endpoint{URL: "http://127.0.0.1:1", CAFile: aFile(t, "no PEM")}}}, {Webhook: &Webhook{Endpoint: Endpoint{URL: "http://127.0.0.1:1"}, SecretFile: aFile(t, "two\nlines")}},
	} {
		err := newFiles(readFile).check(&r)
		if err == nil || strings.Contains(err.Error(), "verysecret") || !strings.Contains(err.Error(), "/") {
			t.Errorf("%+v: %v", r, err)
		}
		if err := deliverTo(t, r, sample()); err == nil || strings.Contains(err.Error(), "verysecret") {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// A server that hangs ends an attempt at its deadline, and one that answers without end is read in part.
func TestSlowServers(t *testing.T) {
	release := make(chan struct{})
	hanging, _ := receiving(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	notifier := &Notifier{files: newFiles(readFile)}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := Receiver{Webhook: &Webhook{Endpoint: Endpoint{URL: hanging.URL}}}
	if err := notifier.integration(&r, 0).deliver(ctx, sample()); err == nil || err.(interface{ Unwrap() error }) == nil {
		t.Errorf("hanging: %v", err)
	}
	endless, _ := receiving(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<16)); err != nil {
				return
			}
		}
	})
	r.Webhook.URL = endless.URL
	if err := deliverTo(t, r, sample()); err != nil {
		t.Errorf("endless: %v", err)
	}
}

// Slack's text is escaped, so that no alert calls a channel or makes a link of its own, and bounded.
func TestSlack(t *testing.T) {
	s, got := receiving(t, nil)
	n := sample()
	for range 100 {
		n.Alerts = append(n.Alerts, item{Alert: &Alert{Labels: map[string]string{"alertname": strings.Repeat("<", 1000)}, Annotations: map[string]string{}}})
	}
	if err := deliverTo(t, Receiver{Slack: &Slack{Endpoint{URLFile: aFile(t, s.URL)}}}, n); err != nil {
		t.Fatal(err)
	}
	var m slackMessage
	if err := json.Unmarshal(got()[0].body, &m); err != nil || len(m.Attachments) != 1 {
		t.Fatalf("%v %s", err, got()[0].body)
	}
	text := m.Attachments[0].Text
	if !strings.HasPrefix(text, "firing: <http://here/graph|it is &lt;!channel&gt; slow &amp; &lt;b&gt;bad&lt;/b&gt;  Bcc: x@example.org>\nlook at it\n") ||
		strings.Count(text, "<") != 1 || len(text) > slackTextMax || m.Attachments[0].Color != "danger" || m.Text != "[FIRING:101] Slow on host-a" {
		t.Errorf("%+v", m)
	}
}

// PagerDuty gets a trigger with the severity, and a resolve with the same key when all is over; the routing key stands in no error.
func TestPagerDuty(t *testing.T) {
	s, got := receiving(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusAccepted) })
	r := Receiver{PagerDuty: &PagerDuty{Endpoint{URL: s.URL + "/v2/enqueue"}, aFile(t, "R0123\n")}}
	n := sample()
	if err := deliverTo(t, r, n); err != nil {
		t.Fatal(err)
	}
	n.Alerts = n.Alerts[1:]
	if err := deliverTo(t, r, n); err != nil {
		t.Fatal(err)
	}
	var events [2]pagerDutyEvent
	for i := range events {
		if err := json.Unmarshal(got()[i].body, &events[i]); err != nil {
			t.Fatal(err)
		}
	}
	p := events[0].Payload
	if events[0].Action != "trigger" || events[0].RoutingKey != "R0123" || p.Severity != "critical" || p.Source != "host-a" || p.Component != "shop" ||
		!p.Timestamp.Equal(began) || !strings.HasPrefix(p.Summary, "[FIRING:1] Slow: it is <!channel>") || len(p.Details) != 2 {
		t.Errorf("%s", got()[0].body)
	}
	if events[1].Action != "resolve" || events[1].Dedup != events[0].Dedup || events[1].Payload != nil {
		t.Errorf("%s", got()[1].body)
	}
	for severity, want := range map[string]string{"critical": "critical", "error": "error", "warning": "warning", "info": "info", "": "warning", "page": "warning"} {
		if pagerDutySeverity(severity) != want {
			t.Errorf("%q is %q", severity, pagerDutySeverity(severity))
		}
	}
	refusing, _ := receiving(t, func(w http.ResponseWriter, r *http.Request) { http.Error(w, "invalid key R0123", 400) })
	r.PagerDuty.URL = refusing.URL
	if err := deliverTo(t, r, n); err == nil || strings.Contains(err.Error(), "R0123") || !strings.Contains(err.Error(), "invalid key …") {
		t.Errorf("%v", err)
	}
}

// An Alertmanager gets alerts with when they will have ended unless repeated, and without what it would refuse all of them for.
func TestAlertmanagerMessage(t *testing.T) {
	s, got := receiving(t, nil)
	n := sample()
	n.Alerts[1].GeneratorURL = "no URL"
	n.Alerts[1].Labels["instance"] = "host-b:80"
	if err := deliverTo(t, Receiver{Alertmanager: &Alertmanager{URLs: []string{s.URL + "/prefix/"}}}, n); err != nil {
		t.Fatal(err)
	}
	var alerts []alertmanagerAlert
	if err := json.Unmarshal(got()[0].body, &alerts); err != nil || got()[0].URL.Path != "/prefix/api/v2/alerts" || len(alerts) != 2 {
		t.Fatalf("%v %s %s", err, got()[0].URL, got()[0].body)
	}
	if !alerts[0].EndsAt.Equal(over.Add(time.Hour)) || !alerts[1].EndsAt.Equal(over) || alerts[0].GeneratorURL == "" || alerts[1].GeneratorURL != "" ||
		alerts[0].Labels["instance"] != "host-a" || alerts[1].Labels["instance"] != "host-b:80" || n.Alerts[0].Labels["instance"] != "" {
		t.Errorf("%s", got()[0].body)
	}
}

// An alert that began by a clock that was ahead, and was set back since, begins no later than it ends: an Alertmanager refuses others.
func TestAlertmanagerAfterTheClockWasSetBack(t *testing.T) {
	s, got := receiving(t, nil)
	n := sample()
	for i := range n.Alerts {
		n.Alerts[i].StartsAt = over.Add(24 * time.Hour)
	}
	if err := deliverTo(t, Receiver{Alertmanager: &Alertmanager{URLs: []string{s.URL}}}, n); err != nil {
		t.Fatal(err)
	}
	var alerts []alertmanagerAlert
	if err := json.Unmarshal(got()[0].body, &alerts); err != nil || len(alerts) != 2 {
		t.Fatalf("%v %s", err, got()[0].body)
	}
	for _, a := range alerts {
		if a.StartsAt.After(a.EndsAt) {
			t.Errorf("%+v", a)
		}
	}
}

// certificate makes one for the names, and the file that it is checked with.
func certificate(t *testing.T, names ...string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, aFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// mailServer is an SMTP server of a test.
type mailServer struct {
	address    string
	startTLS   *tls.Config // nil: not offered
	implicit   bool
	mechanisms string            // of AUTH; "" none
	replies    map[string]string // to commands or their verbs, instead of what is usual

	mu       sync.Mutex
	commands []string // with +TLS in front where encrypted
	messages []string
}

func startMail(t *testing.T, s *mailServer) *mailServer {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if s.implicit {
		listener = tls.NewListener(listener, s.startTLS)
	}
	s.address = listener.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			s.serve(c)
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	return s
}

func (s *mailServer) serve(c net.Conn) {
	defer func() { c.Close() }()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(c)
	encrypted := s.implicit
	say := func(text string) { fmt.Fprintf(c, "%s\r\n", text) }
	say("220 test")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		s.mu.Lock()
		s.commands = append(s.commands, map[bool]string{true: "+TLS "}[encrypted]+line)
		s.mu.Unlock()
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		if reply := cmp.Or(s.replies[line], s.replies[verb]); reply != "" {
			say(reply)
			continue
		}
		switch verb {
		case "EHLO":
			say("250-test")
			if s.startTLS != nil && !encrypted {
				say("250-STARTTLS")
			}
			if s.mechanisms != "" {
				say("250-AUTH " + s.mechanisms)
			}
			say("250 OK")
		case "STARTTLS":
			say("220 go on")
			secured := tls.Server(c, s.startTLS)
			c, r, encrypted = secured, bufio.NewReader(secured), true
		case "AUTH":
			s.login(line, r, say)
		case "DATA":
			say("354 go on")
			s.read(r)
			say("250 OK")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 OK")
		}
	}
}

// login keeps what was said as a command.
func (s *mailServer) login(line string, r *bufio.Reader, say func(string)) {
	said := ""
	if strings.HasSuffix(line, "LOGIN") {
		for _, prompt := range []string{"Username:", "Password:"} {
			say("334 " + base64.StdEncoding.EncodeToString([]byte(prompt)))
			answer, _ := r.ReadString('\n')
			text, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(answer))
			said += string(text) + " "
		}
	} else {
		text, _ := base64.StdEncoding.DecodeString(line[strings.LastIndex(line, " ")+1:])
		said = strings.ReplaceAll(string(text), "\x00", " ")
	}
	s.mu.Lock()
	s.commands = append(s.commands, "login "+strings.TrimSpace(said))
	s.mu.Unlock()
	say("235 OK")
}

func (s *mailServer) read(r *bufio.Reader) {
	var message strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == ".\r\n" {
			break
		}
		message.WriteString(strings.TrimPrefix(line, "."))
	}
	s.mu.Lock()
	s.messages = append(s.messages, message.String())
	s.mu.Unlock()
}

func (s *mailServer) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.commands, "\n")
}

// Mail goes out encrypted where that is offered, required or begun with; a password goes over TLS only, by PLAIN or LOGIN; what a server refuses for good
// is not tried again.
func TestEmailConnections(t *testing.T) {
	cert, ca := certificate(t, "mail.test")
	secure := &tls.Config{Certificates: []tls.Certificate{cert}}
	password := aFile(t, "hunter2\n")
	for _, c := range []struct {
		name      string
		server    *mailServer // nil: a plain one
		email     Email
		said      string // among the commands
		err       string
		permanent bool
	}{
		{name: "plain", said: "\nMAIL FROM:<a@example.org>"},
		{name: "offered", server: &mailServer{startTLS: secure}, email: Email{CAFile: ca}, said: "+TLS MAIL FROM"},
		{name: "other name", server: &mailServer{startTLS: secure}, email: Email{CAFile: ca, ServerName: "mail.test"}, said: "+TLS MAIL FROM"},
		{name: "wrong name", server: &mailServer{startTLS: secure}, email: Email{CAFile: ca, ServerName: "other.test"}, err: "other.test"},
		{name: "unknown authority", server: &mailServer{startTLS: secure}, err: "unknown authority"},
		{name: "off", server: &mailServer{startTLS: secure}, email: Email{TLS: TLSOff}, said: "\nMAIL FROM"},
		{name: "not offered", email: Email{TLS: TLSRequired}, err: "TLS is required", permanent: true},
		{name: "implicit", server: &mailServer{startTLS: secure, implicit: true}, email: Email{CAFile: ca, TLS: TLSImplicit}, said: "+TLS MAIL FROM"},
		{name: "plain password", server: &mailServer{startTLS: secure, mechanisms: "PLAIN LOGIN"}, email: Email{CAFile: ca, PasswordFile: password}, said: "login a@example.org hunter2"},
		{name: "login", server: &mailServer{startTLS: secure, mechanisms: "XOAUTH2 LOGIN"}, email: Email{CAFile: ca, PasswordFile: password, Username: "me"}, said: "login me hunter2"},
		{name: "other mechanisms", server: &mailServer{startTLS: secure, mechanisms: "XOAUTH2"}, email: Email{CAFile: ca, PasswordFile: password}, err: "neither PLAIN nor LOGIN", permanent: true},
		{name: "no login", server: &mailServer{startTLS: secure}, email: Email{CAFile: ca, PasswordFile: password}, err: "takes no password", permanent: true},
		{name: "not encrypted", server: &mailServer{mechanisms: "PLAIN LOGIN"}, email: Email{PasswordFile: password}, err: "over TLS only", permanent: true},
		{name: "wrong password", server: &mailServer{startTLS: secure, mechanisms: "PLAIN", replies: map[string]string{"AUTH": "535 no"}}, email: Email{CAFile: ca, PasswordFile: password}, err: "535", permanent: true},
		{name: "refused", server: &mailServer{replies: map[string]string{"RCPT": "550 no such user"}}, err: "no such user", permanent: true},
		{name: "one refused", server: &mailServer{replies: map[string]string{"RCPT TO:<b@example.org>": "550 no such user"}}, said: "\nRCPT TO:<c@example.org>\nDATA"},
		{name: "one later", server: &mailServer{replies: map[string]string{"RCPT TO:<b@example.org>": "451 greylisted"}}, err: "greylisted"},
		{name: "talks without end", server: &mailServer{replies: map[string]string{"EHLO": strings.Repeat("250-more of it\r\n", 100_000)}}, err: "more than 1048576 bytes"},
		{name: "a line without end", server: &mailServer{replies: map[string]string{"MAIL": "250 " + strings.Repeat("x", 3_000_000)}}, err: "more than 1048576 bytes"},
		{name: "later", server: &mailServer{replies: map[string]string{"RCPT": "451 greylisted"}}, err: "greylisted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.server == nil {
				c.server = &mailServer{}
			}
			s := startMail(t, c.server)
			e := c.email
			e.Smarthost, e.From, e.To = s.address, "a@example.org", []string{"b@example.org", "c@example.org"}
			err := deliverTo(t, Receiver{Email: &e}, sample())
			if c.err == "" && (err != nil || !strings.Contains(s.said(), c.said) || len(s.messages) != 1) {
				t.Errorf("%v, said:\n%s", err, s.said())
			}
			if c.err == "" {
				return
			}
			f, _ := err.(deliveryError)
			if err == nil || !strings.Contains(err.Error(), c.err) || f.permanent != c.permanent || len(s.messages) > 0 || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v (permanent %v), said:\n%s", err, f.permanent, s.said())
			}
			if !c.server.implicit && strings.Contains(strings.ReplaceAll(s.said(), "+TLS AUTH", ""), "AUTH") {
				t.Errorf("a password in clear:\n%s", s.said())
			}
		})
	}
	for host, want := range map[string]string{"mail.example.org:25": TLSRequired, "mail.example.org:465": TLSImplicit, "localhost:25": TLSAuto, "[::1]:25": TLSAuto} {
		if got := (&emailSender{Email: &Email{Smarthost: host}}).mode(); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
}

// A test tells of a recipient who is refused, though an alert's mail would go to the others.
func TestTestTellsOfARefusedRecipient(t *testing.T) {
	s := startMail(t, &mailServer{replies: map[string]string{"RCPT TO:<b@example.org>": "550 no such user"}})
	c := Config{Receivers: []Receiver{{Name: "mail", Email: &Email{Smarthost: s.address, From: "a@example.org", To: []string{"b@example.org", "c@example.org"}}}}}
	results, err := Test(t.Context(), Options{Config: c}, "")
	if err != nil || len(results) != 1 || results[0].Err == nil || !strings.Contains(results[0].Err.Error(), "no such user") || len(s.messages) > 0 {
		t.Errorf("%+v, %v", results, err)
	}
}

// A mail has the headers that it should have and none that an alert's text would add, and the same content as text and as HTML, in which that text is none.
func TestEmailMessage(t *testing.T) {
	n := sample()
	n.GroupLabels = map[string]string{"alertname": "Slow\r\nBcc: evil@example.org\r\n\r\n<script>", "service_name": "läden"}
	s := startMail(t, &mailServer{})
	if err := deliverTo(t, Receiver{Email: &Email{Smarthost: s.address, From: "a@example.org", To: []string{"b@example.org"}}}, n); err != nil {
		t.Fatal(err)
	}
	m, err := mail.ReadMessage(strings.NewReader(s.messages[0]))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != "[FIRING:1] Slow  Bcc: evil@example.org    <script> läden on host-a" {
		t.Errorf("%v %q", err, subject)
	}
	if len(m.Header) != 8 || m.Header.Get("Bcc") != "" || m.Header.Get("Message-Id") != "<0123456789abcdef@host-a>" || m.Header.Get("To") != "b@example.org" {
		t.Errorf("%v", m.Header)
	}
	_, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(m.Body, parameters["boundary"])
	for _, want := range []struct{ kind, text string }{
		{"text/plain; charset=utf-8", "Summary: it is <!channel> slow & <b>bad</b>  Bcc: x@example.org\nDescription: look at it\n"},
		{"text/html; charset=utf-8", "<td>it is &lt;!channel&gt; slow &amp; &lt;b&gt;bad&lt;/b&gt;  Bcc: x@example.org</td>"},
	} {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil || part.Header.Get("Content-Type") != want.kind || !strings.Contains(strings.ReplaceAll(string(text), "\r\n", "\n"), want.text) || strings.Contains(string(text), "<script>") && strings.Contains(want.kind, "html") {
			t.Errorf("%v %v %s", err, part.Header, text)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("a further part: %v", err)
	}
	big := sample()
	for range 1000 {
		big.Alerts = append(big.Alerts, item{Alert: &Alert{Labels: map[string]string{"alertname": strings.Repeat("x", 1000)}, Annotations: map[string]string{}}})
	}
	if plain, page := plainBody(big, "h"), htmlBody(big, "h"); len(plain) > bodyBytesMax || len(page) > bodyBytesMax || !strings.Contains(plain, "more") {
		t.Errorf("%d and %d bytes", len(plain), len(page))
	}
}

// Test tells each receiver of an alert and its end, and says of each how that went.
func TestTest(t *testing.T) {
	good, got := receiving(t, nil)
	c := Config{Receivers: []Receiver{
		{Name: "good", Webhook: &Webhook{Endpoint: Endpoint{URL: good.URL}}},
		{Name: "bad", Webhook: &Webhook{Endpoint: Endpoint{URL: "http://127.0.0.1:1/"}}},
		{Name: "broken", Slack: &Slack{Endpoint{URLFile: "/does/not/exist"}}},
	}}
	results, err := Test(t.Context(), Options{Config: c}, "")
	if err != nil || len(results) != 3 || results[0].Err != nil || results[1].Err == nil || results[2].Err == nil {
		t.Errorf("%v %v", results, err)
	}
	if len(got()) != 2 || !bytes.Contains(got()[0].body, []byte(`"status":"firing"`)) || !bytes.Contains(got()[1].body, []byte(`"status":"resolved"`)) {
		t.Errorf("%d requests", len(got()))
	}
	if results, err := Test(t.Context(), Options{Config: c}, "good"); err != nil || len(results) != 1 {
		t.Errorf("%v %v", results, err)
	}
	if _, err := Test(t.Context(), Options{Config: c}, "nobody"); err == nil {
		t.Error("nobody was told")
	}
}

// A server with a certificate of one's own is trusted by its CA file only, and basic authentication reaches it.
func TestServerCertificate(t *testing.T) {
	var mu sync.Mutex
	logins := 0
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if user, password, _ := r.BasicAuth(); user == "me" && password == "hunter2" {
			logins++
		}
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	defer s.Close()
	e := Endpoint{CAFile: aFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))), Username: "me", PasswordFile: aFile(t, "hunter2")}
	if err := deliverTo(t, Receiver{Alertmanager: &Alertmanager{URLs: []string{s.URL}, Endpoint: e}}, sample()); err != nil || logins != 1 {
		t.Errorf("%v, %d logins", err, logins)
	}
	e.CAFile = ""
	if err := deliverTo(t, Receiver{Alertmanager: &Alertmanager{URLs: []string{s.URL}, Endpoint: e}}, sample()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without its CA: %v", err)
	}
}

// Whatever fails, neither the log nor health nor figures show a secret.
func TestNoSecretIsShown(t *testing.T) {
	s, _ := receiving(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(map[string]int{"/1/verysecret": 500, "/2/verysecret": 404, "/": 400, "/x": 403}[r.URL.Path])
		fmt.Fprintf(w, "%s %s %s", r.URL, r.Header.Get("Authorization"), body)
	})
	url := func(path string) Endpoint {
		return Endpoint{URLFile: aFile(t, s.URL+path+"/verysecret"), TokenFile: aFile(t, "verysecret-token")}
	}
	user := strings.Replace(s.URL, "http://", "http://verysecret-user:verysecret-password@", 1)
	var text lockedBuffer
	c := Config{GroupWait: -1, Receivers: []Receiver{{Name: "e", Slack: &Slack{Endpoint{URLFile: aFile(t, user+"/x?token=verysecret-token")}}},
		{Name: "f", Webhook: &Webhook{Endpoint: Endpoint{URLFile: aFile(t, strings.Replace(user, "-user:verysecret-password", "", 1)+"/x")}}}, {Name: "a", Slack: &Slack{url("/1")}}, {Name: "b", Webhook: &Webhook{url("/2"), aFile(t, "verysecret-key")}},
		{Name: "c", Slack: &Slack{Endpoint{URLFile: aFile(t, "http://127.0.0.1:1/verysecret")}}}, {Name: "d", PagerDuty: &PagerDuty{Endpoint{URL: s.URL}, aFile(t, "verysecret-routing")}}}}
	n, err := New(Options{Config: c, Log: slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { n.Run(ctx); close(ended) }()
	n.Send([]Alert{alert("Slow")})
	deadline := time.Now().Add(20 * time.Second)
	tried := func() bool {
		for _, one := range n.Stats().Sinks {
			if one.AttemptsFailed+one.Delivered == 0 {
				return false
			}
		}
		return true
	}
	for !tried() && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-ended
	shown := text.String() + fmt.Sprintf("%+v", n.Stats())
	for _, secret := range []string{"verysecret-user:verysecret-password", "verysecret:"} { // as the header has it
		if encoded := base64.StdEncoding.EncodeToString([]byte(secret)); strings.Contains(shown, encoded) {
			t.Errorf("%s stands in %s", encoded, shown)
		}
	}
	if !tried() || strings.Contains(shown, "verysecret") || strings.Count(shown, "http://127.0.0.1") < 3 {
		t.Errorf("%s", shown)
	}
}

// What a receiver repeats of a request is hidden in every form in which programs write it, also where an answer was cut within; a proxy's credentials are, too.
func TestSecretForms(t *testing.T) {
	const secret = `ab/c"d<e>é&=fgh`
	for _, form := range []string{secret, `ab/c\"d\u003ce\u003eé\u0026=fgh`, `ab\/c\"d\u003ce\u003eé\u0026=fgh`, "ab/c&#34;d&lt;e&gt;é&amp;=fgh", "ab%2Fc%22d%3Ce%3E%C3%A9%26%3Dfgh"} {
		if got := withoutSecrets("it says "+form+" and more", []string{"", "/", secret}); got != "it says … and more" {
			t.Errorf("%s: %s", form, got)
		}
	}
	if got := withoutSecrets(`invalid proxy address "http://me:hunter2@proxy:3128"`, nil); got != `invalid proxy address "http://…@proxy:3128"` {
		t.Error(got)
	}
	token := strings.Repeat("t", 300) + "verysecret" + strings.Repeat("u", 300)
	s, _ := receiving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, strings.Repeat(token, 20))
	})
	r := Receiver{Webhook: &Webhook{Endpoint: Endpoint{URL: s.URL, TokenFile: aFile(t, token)}}}
	if err := deliverTo(t, r, sample()); err == nil || strings.Contains(err.Error(), "ttt") || !strings.Contains(err.Error(), "400") {
		t.Error(err)
	}
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
