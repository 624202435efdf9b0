package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func (w *analysisWorld) past(parameters string) *httptest.ResponseRecorder {
	r := httptest.NewRecorder()
	w.server.handler.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/performance/past?"+parameters, nil))
	return r
}

// A known load is counted exactly in any time of the history, by endpoint and by service, whose rates are over the time that the agent counted;
// levels are of that time, and of endpoints with few requests unknown, with the reason.
func TestPast(t *testing.T) {
	w := newAnalysisWorld(t)
	for _, line := range []string{"signal ms 20 step:1h:9000", "endpoint shop GET /cart rate=2 ms=ms", "endpoint shop POST /pay rate=1 ms=200 errors=50",
		"endpoint till GET /rare rate=0.01 ms=5", "gap 80m 90m", "load 2h"} {
		w.run(line)
	}
	w.reporting(nil)
	at := func(d time.Duration) string { return fmt.Sprint(w.start.Add(d).Unix()) }
	read := func(from, to time.Duration, more string) (a pastJSON) {
		t.Helper()
		r := w.past("from=" + at(from) + "&to=" + at(to) + more)
		if r.Code != http.StatusOK {
			t.Fatalf("%d %s", r.Code, r.Body)
		}
		if err := json.Unmarshal(r.Body.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	early := read(10*time.Minute, 20*time.Minute, "")
	if early.CountedSeconds != 600 || !early.From.Equal(w.start.Add(10*time.Minute)) || !early.To.Equal(w.start.Add(20*time.Minute)) || early.EndpointsTotal != 3 || early.ServicesTotal != 2 {
		t.Fatalf("%+v", early)
	}
	cart, pay := early.Endpoints[0], early.Endpoints[1]
	if cart.Route != "/cart" || cart.Exchanges != 1200 || *cart.ThroughputRPS != 2 || *cart.ErrorRatePercent != 0 || *cart.ResponseTime.P95 < 19 || *cart.ResponseTime.P95 > 23 || *cart.InFlightMean < 0.038 || *cart.InFlightMean > 0.046 {
		t.Errorf("%+v %g %g", cart, *cart.ResponseTime.P95, *cart.InFlightMean)
	}
	if pay.Failures < 200 || pay.Failures > 400 || pay.Levels.ErrorRate == nil || pay.Levels.ErrorRate.Name != "critical" || cart.Levels.ResponseTime.Name != "excellent" {
		t.Errorf("%+v", pay)
	}
	if rare := early.Endpoints[2]; rare.Levels.ResponseTime != nil || !strings.Contains(rare.Levels.ResponseTimeUnknown, "fewer than 60") {
		t.Errorf("%+v", rare)
	}
	if shop := early.Services[0]; shop.Service != "shop" || shop.Endpoints != 2 || shop.Exchanges != cart.Exchanges+pay.Exchanges || shop.Level.Name != "critical" || early.Services[1].Level != nil {
		t.Errorf("%+v", early.Services)
	}
	if early.Exchanges != cart.Exchanges+pay.Exchanges+early.Endpoints[2].Exchanges || len(early.Targets) != 0 {
		t.Errorf("%+v", early.pastFigures)
	}
	if till := read(10*time.Minute, 20*time.Minute, "&service=till"); till.EndpointsTotal != 1 || till.Exchanges != early.Endpoints[2].Exchanges || till.ServicesTotal != 1 {
		t.Errorf("%+v", till)
	}
	// The same endpoint later is another one by its level; the gap is not counted in rates; more than an hour is read in whole minutes.
	late := read(time.Hour+5*time.Second, 2*time.Hour, "&limit=1")
	if c := late.Endpoints[0]; len(late.Endpoints) != 1 || late.EndpointsTotal != 3 || c.Levels.ResponseTime.Name != "critical" || *c.ThroughputRPS != 2 || late.CountedSeconds != 3000 {
		t.Errorf("%+v", late)
	}
	if whole := read(0, 2*time.Hour, ""); whole.CountedSeconds != 6600 || whole.Endpoints[0].Exchanges != 2*6600 {
		t.Errorf("%+v", whole)
	}
	if gap := read(82*time.Minute, 88*time.Minute, ""); gap.CountedSeconds != 0 || gap.ThroughputRPS != nil || len(gap.Endpoints) != 0 || gap.ErrorRatePercent != nil {
		t.Errorf("%+v", gap)
	}
	for parameters, says := range map[string]string{"": "from", "from=" + at(0) + "&to=" + at(10*time.Second): "between 30 seconds", "from=yesterday": "from", "from=" + at(0) + "&limit=0": "limit"} {
		if r := w.past(parameters); r.Code != http.StatusBadRequest || !strings.Contains(r.Body.String(), says) {
			t.Errorf("%s: %d %s", parameters, r.Code, r.Body)
		}
	}
}

// A range is read in whole intervals of what the history still has of it, and never beyond now.
func TestPastAligned(t *testing.T) {
	now := time.Date(2026, 3, 4, 14, 37, 23, 0, time.UTC)
	for _, c := range []struct{ from, to, readFrom, readTo string }{
		{"2026-03-04T14:20:03Z", "2026-03-04T14:30:03Z", "2026-03-04T14:20:00Z", "2026-03-04T14:30:10Z"},
		{"2026-03-04T14:30:00Z", "2026-03-04T14:37:23Z", "2026-03-04T14:30:00Z", "2026-03-04T14:37:20Z"},
		{"2026-03-02T14:20:03Z", "2026-03-02T14:30:03Z", "2026-03-02T14:20:00Z", "2026-03-02T14:31:00Z"},
		{"2026-03-04T10:00:30Z", "2026-03-04T14:37:23Z", "2026-03-04T10:00:00Z", "2026-03-04T14:37:00Z"},
		{"2026-02-01T10:20:00Z", "2026-03-01T10:20:00Z", "2026-02-01T10:00:00Z", "2026-03-01T11:00:00Z"},
		{"2026-03-04T14:36:53Z", "2026-03-05T14:00:00Z", "2026-03-04T14:36:50Z", "2026-03-04T14:37:20Z"},
	} {
		p := pastReader{o: &ReportOptions{}}
		p.o.Now = func() time.Time { return now }
		if err := p.readTimes(map[string]string{"from": c.from, "to": c.to}); err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(p.from.Format(time.RFC3339), p.to.Format(time.RFC3339)), c.readFrom+c.readTo; got != want {
			t.Errorf("%s to %s: %s, expected %s", c.from, c.to, got, want)
		}
	}
}
