package notify

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
)

// Alerts that differ only in what is cut, left out or made inert stay two, within the bounds of one; what fits is not changed, and doing it
// twice changes nothing.
func TestBoundLabels(t *testing.T) {
	with := func(pairs ...string) map[string]string {
		m := map[string]string{"alertname": "Slow", "severity": "warning", "service_name": "shop"}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	many := func(last string) map[string]string {
		m := with()
		for i := range 100 {
			m[fmt.Sprintf("label_%03d", i)] = "x"
		}
		m["label_099"] = last
		return m
	}
	large := func(last string) map[string]string {
		m := with()
		for i := range 20 {
			m[fmt.Sprintf("label_%03d", i)] = strings.Repeat("x", 1000)
		}
		m["label_019"] = last
		return m
	}
	long := strings.Repeat("é", 500_000)
	for name, pair := range map[string][2]map[string]string{
		"a megabyte each":           {with("a", long+"1"), with("a", long+"2")},
		"one that looks cut":        {with("a", long), BoundLabels(with("a", long+"2"))},
		"too many":                  {many("1"), many("2")},
		"too much":                  {large("1"), large("2")},
		"a name that is too long":   {with(strings.Repeat("n", 7000), "1"), with(strings.Repeat("n", 7000), "2")},
		"a name no receiver takes":  {with("http.route", "/a"), with("http.route", "/b")},
		"no valid text":             {with("a", "\xff"), with("a", "\xfe")},
		"characters one cannot see": {with("a", "x\u202ey"), with("a", "x\u200by")},
		"none of its own":           {many("1"), with()},
	} {
		both := []map[string]string{}
		for _, labels := range pair {
			for _, bounded := range []map[string]string{BoundLabels(labels), (&Alert{Labels: labels}).cleaned().Labels, (&Alert{Labels: BoundLabels(labels)}).cleaned().Labels} {
				bytes, longest := 0, 0
				for name, value := range bounded {
					bytes += len(name) + len(value)
					longest = max(longest, len(value))
				}
				if !Fits(len(bounded), bytes, longest) || bounded["alertname"] != "Slow" || bounded["service_name"] != "shop" {
					t.Errorf("%s: %d labels of %d bytes, at most %d", name, len(bounded), bytes, longest)
				}
				if again := BoundLabels(bounded); !maps.Equal(again, bounded) {
					t.Errorf("%s: twice it is %q", name, again)
				}
			}
			c := (&Alert{Labels: labels}).cleaned().Labels
			if again := (&Alert{Labels: c}).cleaned().Labels; !maps.Equal(again, c) {
				t.Errorf("%s: cleaned twice it is %q", name, again)
			}
			both = append(both, c, (&Alert{Labels: BoundLabels(labels)}).cleaned().Labels)
		}
		if identity(both[0]) == identity(both[2]) || identity(both[1]) == identity(both[3]) {
			t.Errorf("%s: two alerts have become one: %q", name, both[0])
		}
	}
	full := with()
	for i := len(full); i < labelsMax; i++ {
		full[fmt.Sprintf("label_%03d", i)] = strings.Repeat("é", 30)
	}
	for _, labels := range []map[string]string{full, with("a", strings.Repeat("x", labelBytesMax))} {
		if got := (&Alert{Labels: labels}).cleaned().Labels; !maps.Equal(got, labels) {
			t.Errorf("what fits is changed: %q", got)
		}
	}
	if got := BoundLabels(with("a", "x\u202ey", "http.route", "/")); got["a"] != "x\u202ey" || got["http.route"] != "/" {
		t.Errorf("what no receiver has to do with is changed: %q", got)
	}
}

// Characters that change how text is shown reach no receiver, neither in a title nor in a text, and not the log either; letters and emoji of all scripts do.
func TestInertMessages(t *testing.T) {
	const bad, good = "\u202e\u2066\u200b\ufeff\u00ad\x1b[31m\u2028", "شکر\u200cپاره 👩\u200d🚒 Zürich"
	check := func(t *testing.T, what, text string) {
		t.Helper()
		text = strings.ReplaceAll(text, `\u200b`, "\u200b")
		if strings.ContainsAny(text, "\u202e\u2066\u200b\ufeff\u00ad\x1b\u2028") || strings.Contains(text, `\u202e`) || strings.Contains(text, `\u001b`) || !strings.Contains(text, good) {
			t.Errorf("%s: %q", what, text)
		}
	}
	a := (&Alert{Labels: map[string]string{"alertname": "Slow" + bad, "service_name": good + bad, "severity": "critical"},
		Annotations: map[string]string{"summary": "the end" + bad + good, "description": bad + good, "next_step": good + bad, "runbook_url": "http://x/" + bad}, StartsAt: began}).cleaned()
	n := &notification{ID: "id", Receiver: "r", GroupLabels: map[string]string{"alertname": a.Labels["alertname"], "service_name": a.Labels["service_name"]}, Time: over, Alerts: []item{{Alert: a, New: true}}}
	s, got := receiving(t, nil)
	url := Endpoint{URLFile: aFile(t, s.URL)}
	for _, r := range []Receiver{{Slack: &Slack{url}}, {Webhook: &Webhook{Endpoint: url}}, {Alertmanager: &Alertmanager{URLs: []string{s.URL}}}, {PagerDuty: &PagerDuty{url, aFile(t, "key")}}} {
		before := len(got())
		if err := deliverTo(t, r, n); err != nil {
			t.Fatal(err)
		}
		var document any
		if err := json.Unmarshal(got()[before].body, &document); err != nil {
			t.Fatal(err)
		}
		check(t, r.kind(), fmt.Sprint(document))
	}
	check(t, "mail", plainBody(n, "here"))
	check(t, "mail in HTML", htmlBody(n, "here"))
	check(t, "title", n.title())
	var text strings.Builder
	if err := (&logSender{slog.New(slog.NewJSONHandler(&text, nil))}).deliver(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	check(t, "log", text.String())
}
