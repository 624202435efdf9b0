package notify

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A message goes to the receiver that is named, once; what keeps the state of alerts is refused.
func TestTell(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, string(body))
	}))
	defer server.Close()
	o := Options{Config: Config{Receivers: []Receiver{{Name: "other", Log: &Log{}}, {Name: "hook", Webhook: &Webhook{Endpoint: Endpoint{URL: server.URL}}},
		{Name: "pager", PagerDuty: &PagerDuty{Endpoint: Endpoint{URL: server.URL}}}}}}
	m := Message{Name: "PerfagentReport", Summary: "a \"day\"", Description: "All is well.", URL: "http://127.0.0.1:9464/report?from=1"}
	if err := Tell(context.Background(), o, "hook", m); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !strings.Contains(got[0], `a \"day\"`) || !strings.Contains(got[0], "All is well.") || !strings.Contains(got[0], "/report?from=1") {
		t.Errorf("%q", got)
	}
	if err := Tell(context.Background(), o, "nobody", m); !errors.Is(err, ErrNoReceiver) {
		t.Error(err)
	}
	if err := Tell(context.Background(), o, "pager", m); err == nil || len(got) != 1 {
		t.Errorf("%v, %d were told", err, len(got))
	}
}
