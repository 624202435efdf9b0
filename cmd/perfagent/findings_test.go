package main

import (
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/wire"
)

// Shows what becomes of the kernel side's counters between two ticks: means in ms of what was added and rates, nothing of what is too little or was
// not there before.
func TestWitnessReadings(t *testing.T) {
	waits := func(n uint64, seconds float64) *export.Latency {
		return &export.Latency{Buckets: []uint64{n / 2, n - n/2}, Sum: seconds}
	}
	service := func(name string, rtts, retransmits uint64, seconds float64) export.ServiceStats {
		return export.ServiceStats{Service: name, RunQueue: waits(rtts, seconds), RTT: *waits(rtts, seconds), TCP: export.TCPEvents{Retransmits: retransmits}}
	}
	first := &export.HostStats{RunQueue: waits(100, 1), Services: []export.ServiceStats{service("shop", 10, 5, .01), service("quiet", 10, 0, .01)}}
	second := &export.HostStats{RunQueue: waits(200, 1.5), Services: []export.ServiceStats{service("new", 100, 0, 1), service("quiet", 12, 0, .02), service("shop", 30, 25, .05)}}
	now := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	var w witnessReadings
	if got := w.read(first, now); len(got) != 0 {
		t.Errorf("from the first one: %v", got)
	}
	if got := w.read(first, now.Add(5*time.Second)); len(got) != 0 {
		t.Errorf("from the same: %v", got)
	}
	got := map[finding.Measure]float64{}
	for _, r := range w.read(second, now.Add(10*time.Second)) {
		if !math.IsNaN(r.Value) {
			got[r.Measure] = r.Value
		}
	}
	want := map[finding.Measure]float64{
		{Metric: finding.RunQueueWait}:                                             5,
		{Metric: finding.RunQueueWait, Subject: finding.Subject{Service: "shop"}}:  2,
		{Metric: finding.RTT, Subject: finding.Subject{Service: "shop"}}:           2,
		{Metric: finding.Retransmits, Subject: finding.Subject{Service: "shop"}}:   2,
		{Metric: finding.RunQueueWait, Subject: finding.Subject{Service: "quiet"}}: 5,
		{Metric: finding.Retransmits, Subject: finding.Subject{Service: "quiet"}}:  0,
	}
	for m, v := range want {
		if math.Abs(got[m]-v) > 1e-9 {
			t.Errorf("%+v: %g, not %g", m, got[m], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
}

// Shows what metrics say of an outage, and that there is nothing where anomalies are switched off.
func TestFindingsState(t *testing.T) {
	a := &agent{log: slog.New(slog.DiscardHandler)}
	if s := a.findingsState(); s != nil {
		t.Errorf("switched off: %+v", s)
	}
	e := finding.New(finding.Options{OnFinding: a.tellFinding})
	a.findings.Store(e)
	now := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	for tick := range int64(70) {
		now = now.Add(10 * time.Second)
		n := &analytics.Sealed{Key: analytics.Key{Role: wire.RoleServer, Service: "shop", Operation: wire.Operation{Verb: "GET", Name: "/cart"}}}
		n.Series = []analytics.Series{{}}
		if tick >= 60 {
			n.Series[0].ErrorType = "500"
		}
		for range 50 {
			n.Series[0].Duration.Add(20e6)
		}
		e.Consume(&analytics.Seal{Tick: tick + 1, From: now.Add(-10 * time.Second), To: now, Entries: []*analytics.Sealed{n}}, nil, nil)
	}
	s := a.findingsState()
	if s.Findings != 1 || len(s.Open) != 1 || len(s.Scores) != 1 || s.Scores[0].Value < 2 {
		t.Fatalf("%+v", s)
	}
	want := map[string]string{"service_name": "shop", "http_request_method": "GET", "http_route": "/cart", "metric": "error_rate", "severity": "critical"}
	for name, value := range want {
		if s.Open[0][name] != value {
			t.Errorf("%s is %q, not %q", name, s.Open[0][name], value)
		}
	}
	if len(s.Open[0]) != len(want) {
		t.Errorf("%v", s.Open[0])
	}
}

// Shows which sensitivities are taken.
func TestSensitivity(t *testing.T) {
	for text, good := range map[string]bool{"0.05": true, "1": true, "50": true, "0": false, "-1": false, "NaN": false, "51": false, "often": false} {
		if _, err := parseSensitivity(text); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}
