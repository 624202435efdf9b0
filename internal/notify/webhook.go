package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// webhookAlertsMax bounds the alerts of a message; with alertBytesMax it is 0.8 MiB. The number of those left out is said.
	webhookAlertsMax = 100
	// SignatureHeader has the time of sending and the HMAC-SHA256, with the shared secret, over that time, a full stop and the body:
	// t=1700000000,v1=<64 hexadecimal digits>. Who receives it compares in constant time, and refuses old ones.
	SignatureHeader = "Perfagent-Signature"
	// IDHeader is the same for each attempt to deliver the same notification.
	IDHeader = "Idempotency-Key"
)

// webhookMessage is the format of Alertmanager's webhook, version 4.
type webhookMessage struct {
	Version           string            `json:"version"`
	GroupKey          string            `json:"groupKey"`
	TruncatedAlerts   int               `json:"truncatedAlerts"`
	Status            string            `json:"status"`
	Receiver          string            `json:"receiver"`
	GroupLabels       map[string]string `json:"groupLabels"`
	CommonLabels      map[string]string `json:"commonLabels"`
	CommonAnnotations map[string]string `json:"commonAnnotations"`
	ExternalURL       string            `json:"externalURL"`
	Alerts            []webhookAlert    `json:"alerts"`
}

type webhookAlert struct {
	Status       string            `json:"status"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"` // 0001-01-01T00:00:00Z while it fires, as Alertmanager's
	GeneratorURL string            `json:"generatorURL"`
	Fingerprint  string            `json:"fingerprint"`
}

func newWebhookMessage(n *notification, externalURL string) *webhookMessage {
	m := &webhookMessage{Version: "4", GroupKey: n.GroupKey, Status: n.status(), Receiver: n.Receiver, GroupLabels: n.GroupLabels,
		CommonLabels:      common(n.Alerts, func(a *Alert) map[string]string { return a.Labels }),
		CommonAnnotations: common(n.Alerts, func(a *Alert) map[string]string { return a.Annotations }), ExternalURL: externalURL}
	for i := range n.Alerts {
		if i == webhookAlertsMax {
			m.TruncatedAlerts = len(n.Alerts) - webhookAlertsMax
			break
		}
		m.Alerts = append(m.Alerts, newWebhookAlert(&n.Alerts[i]))
	}
	return m
}

func newWebhookAlert(i *item) webhookAlert {
	a := webhookAlert{Status: i.status(), Labels: i.Labels, Annotations: i.Annotations, StartsAt: i.StartsAt.UTC(), GeneratorURL: i.GeneratorURL,
		Fingerprint: fingerprint(i.Labels)}
	if i.Over {
		a.EndsAt = i.EndsAt.UTC()
	}
	return a
}

type webhookSender struct {
	poster
	*Webhook
	externalURL string
	host        string
}

func (s *webhookSender) deliver(ctx context.Context, n *notification) error {
	address, err := s.files.address(&s.Endpoint)
	if err != nil {
		return err
	}
	return s.post(ctx, posting{endpoint: &s.Endpoint, address: address, document: newWebhookMessage(n.from(s.host), s.externalURL), headers: func(h http.Header, body []byte) error {
		h.Set(IDHeader, n.ID)
		if s.SecretFile == "" {
			return nil
		}
		secret, err := s.files.secret(s.SecretFile)
		if err != nil {
			return err
		}
		h.Set(SignatureHeader, sign(secret, time.Now(), body))
		return nil
	}})
}

// sign makes the value of SignatureHeader.
func sign(secret string, now time.Time, body []byte) string {
	at := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	return fmt.Sprintf("t=%s,v1=%s", at, hex.EncodeToString(mac.Sum(nil)))
}
