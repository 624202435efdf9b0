package export

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/wire"
)

// everything is the state of an agent all of whose parts have something to say.
func everything() CollectorOptions {
	e := analytics.NewEngine(analytics.Options{})
	e.Add(&wire.Exchange{Role: wire.RoleServer, Protocol: "http/1.1", Service: "shop", Operation: wire.Operation{Verb: "GET", Name: "/"},
		Arrived: 1, Read: 2, Responded: 3, Finished: 4, Outcome: wire.Outcome{Code: 200}})
	e.ParseError("http/1.1", "head", 1)
	e.SetActive(map[string]int64{"shop": 1})
	latency := Latency{Bounds: []float64{.5, 1}, Buckets: []uint64{2, 1, 1}, Sum: 9}
	overflows, left := uint64(1), .5
	count := map[string]uint64{"some": 1}
	return CollectorOptions{Source: e,
		Probes: ProbeStatus{Backend: func() string { return "fentry" },
			Probes: func() []ProbeState { return []ProbeState{{Probe: "recv", Backend: "fentry", Attached: true}} },
			Maps:   func() []MapState { return []MapState{{Name: "conns", Entries: 1, MaxEntries: 2, Bytes: 3}} },
			Undecoded: func() []analytics.Undecoded {
				return []analytics.Undecoded{{Service: "shop", Reason: "tls", Connections: 1}}
			}},
		Reload: func() (bool, time.Time) { return true, time.Unix(1, 0) },
		Witness: func() *HostStats {
			return &HostStats{RunQueue: &latency, Disks: []DiskStats{{Device: "sda", Operation: "read", Latency: latency}}, Unattributed: &TCPEvents{},
				Services: []ServiceStats{{Service: "shop", Namespace: "x", RTT: latency, Connect: latency, RunQueue: &latency}},
				Ports:    []ListenPort{{Port: 80}}, ListenOverflows: &overflows}
		},
		Web:     func() WebConnections { return WebConnections{Open: 1, Closed: []ClosedConnections{{"idle", 1}}} },
		Exports: func() []ExportCount { return []ExportCount{{Result: "success", Count: 1}} },
		History: func() *HistoryState {
			return &HistoryState{Persistent: true, Dropped: 3, Damaged: []HistoryDamage{{"head", 1}}, Tiers: []HistoryTier{{"10s", 1, 1, time.Unix(1, 0)}}}
		},
		Rules: func() *RulesState {
			return &RulesState{Groups: []RuleGroupState{{Key: "f.yml;g", Last: time.Unix(1, 0)}}, Alerts: []map[string]string{{"alertname": "A", "alertstate": "firing"}},
				Objectives: []ObjectiveState{{Labels: map[string]string{"service_name": "shop"}, BudgetLeft: &left, BurnRates: map[string]float64{"1h": 2}}}}
		},
		Notify: func() *NotifyState {
			return &NotifyState{Receivers: []NotifyReceiver{{Receiver: "chat", Integration: "slack", Failed: count, Dropped: count}}, Remedies: count}
		},
		Parts: PartsState{EventLog: func() *EventLogState { return &EventLogState{Lines: count, Dropped: count} },
			Redis:      func() *RedisState { return &RedisState{Published: count, Alerts: count} },
			Recoveries: func() []Recovery { return []Recovery{{Part: "redis"}} }},
	}
}

// Shows that what goes to the history is all of /metrics, each series under its name, labels and value, but for what comes to the
// history another way: one answer of /metrics, as OpenMetrics has it, is compared with the series of the same moment. The host's figures are
// not among the options, and what the runtime says changes from one moment to the next.
func TestOwnIsAllOfMetrics(t *testing.T) {
	o := MetricsOptions{CollectorOptions: everything(), WithoutRuntime: true}
	got := map[string]float64{}
	for _, f := range NewOwn(o).Figures() {
		name := seriesText(f.Name, f.Labels)
		if _, twice := got[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		got[name] = f.Value
	}
	want := scraped(t, o)
	if len(want) < 100 {
		t.Fatalf("only %d series in /metrics", len(want))
	}
	for name, v := range want {
		if w, has := got[name]; !has || w != v {
			t.Errorf("%s is %v (%v), %v in /metrics", name, w, has, v)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is not in /metrics", name)
	}
}

func seriesText(name string, labels []analytics.Label) string { return fmt.Sprint(name, labels) }

// scraped are the series of /metrics without those that are in the history from elsewhere.
func scraped(t *testing.T, o MetricsOptions) map[string]float64 {
	t.Helper()
	m, err := NewMetrics(o)
	if err != nil {
		t.Fatal(err)
	}
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if err := m.Scrape(w, r); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for name, f := range families {
		isFamily := slices.ContainsFunc(analytics.Families, func(f analytics.Family) bool { return f.Name == name })
		if isFamily || name == alertsName {
			continue
		}
		for _, m := range f.Metric {
			eachValue(f, m, func(suffix string, v float64, more ...analytics.Label) {
				var labels []analytics.Label
				for _, pair := range m.Label {
					labels = append(labels, label(pair.GetName(), pair.GetValue()))
				}
				labels = append(labels, more...)
				slices.SortFunc(labels, func(a, b analytics.Label) int { return strings.Compare(a.Name, b.Name) })
				all[seriesText(name+suffix, labels)] = v
			})
		}
	}
	return all
}

// eachValue yields the series of a metric that was parsed.
func eachValue(f *dto.MetricFamily, m *dto.Metric, yield func(suffix string, v float64, more ...analytics.Label)) {
	switch f.GetType() {
	case dto.MetricType_GAUGE:
		yield("", m.Gauge.GetValue())
	case dto.MetricType_COUNTER:
		yield("", m.Counter.GetValue())
	case dto.MetricType_HISTOGRAM:
		for _, b := range m.Histogram.Bucket {
			bound := fmt.Sprint(b.GetUpperBound())
			if !strings.ContainsAny(bound, ".I") {
				bound += ".0"
			}
			yield("_bucket", float64(b.GetCumulativeCount()), label("le", bound))
		}
		yield("_count", float64(m.Histogram.GetSampleCount()))
		yield("_sum", m.Histogram.GetSampleSum())
	}
}

// Shows that what the runtime says goes to the history too, its summaries by quantile.
func TestOwnHasTheRuntime(t *testing.T) {
	names := map[string]bool{}
	own := NewOwn(MetricsOptions{CollectorOptions: CollectorOptions{Source: analytics.NewEngine(analytics.Options{})}})
	for _, f := range own.Figures() {
		names[seriesText(f.Name, f.Labels)] = true
	}
	for _, want := range []string{"process_resident_memory_bytes[]", "go_goroutines[]", "go_gc_duration_seconds[{quantile 0.5}]", "go_gc_duration_seconds_count[]"} {
		if !names[want] {
			t.Errorf("%s is missing", want)
		}
	}
	kinds := map[string]string{}
	own.Describe(func(name, kind, help string) { kinds[name] = kind })
	if kinds["go_gc_duration_seconds"] != "summary" || kinds["process_cpu_seconds_total"] != "counter" || kinds[levelName] != "gauge" {
		t.Error(kinds)
	}
}
