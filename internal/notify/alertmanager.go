package notify

import (
	"context"
	"errors"
	"net/url"
	"time"
)

// alertmanagerAlert is one of POST /api/v2/alerts. An alert that fires ends when it is no longer repeated.
type alertmanagerAlert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// alertmanagerSender tells one Alertmanager.
type alertmanagerSender struct {
	poster
	endpoint Endpoint
	url      string
	host     string
}

func (s *alertmanagerSender) deliver(ctx context.Context, n *notification) error {
	base, err := url.Parse(s.url)
	if err != nil {
		return permanently(errors.New("the Alertmanager's URL is none"))
	}
	n = n.from(s.host)
	alerts := make([]alertmanagerAlert, 0, len(n.Alerts))
	for i := range n.Alerts {
		a := &n.Alerts[i]
		one := alertmanagerAlert{Labels: a.Labels, Annotations: a.Annotations, StartsAt: a.StartsAt.UTC(), EndsAt: a.expires.UTC()}
		if a.Over {
			one.EndsAt = a.EndsAt.UTC()
		}
		if one.StartsAt.After(one.EndsAt) { // it began by a clock that was ahead, and would be refused
			one.StartsAt = one.EndsAt
		}
		if CheckURL(a.GeneratorURL) == nil { // it refuses others, and all alerts with them
			one.GeneratorURL = a.GeneratorURL
		}
		alerts = append(alerts, one)
	}
	return s.post(ctx, posting{endpoint: &s.endpoint, address: base.JoinPath("/api/v2/alerts").String(), document: alerts})
}
