package export

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Shows how findings and scores are exported, and that there is nothing where there is no detector.
func TestFindings(t *testing.T) {
	state := &FindingsState{Findings: 3, Series: 70, Learning: 7, Without: 1, Dropped: 2, NotKept: 4, Damaged: 5,
		Open:   []map[string]string{{"metric": "error_rate", "severity": "critical", "service_name": "shop"}},
		Scores: []AnomalyScore{{map[string]string{"service_name": "shop", "http_route": "/cart", "http_request_method": "POST"}, 2.5}}}
	want := `# HELP perfagent_anomaly_dropped_ticks_total Intervals that the detector of anomalies could not take in time.
# TYPE perfagent_anomaly_dropped_ticks_total counter
perfagent_anomaly_dropped_ticks_total 2
# HELP perfagent_anomaly_series_learning Series of which the detector of anomalies knows too little to judge.
# TYPE perfagent_anomaly_series_learning gauge
perfagent_anomaly_series_learning 7
# HELP perfagent_anomaly_subjects_left_out Endpoints and targets for which the detector of anomalies has no room.
# TYPE perfagent_anomaly_subjects_left_out gauge
perfagent_anomaly_subjects_left_out 1
# HELP perfagent_anomaly_score How unusual an endpoint, target, service or the host is: the decimal logarithm of the weeks in which it is so once by chance. Who is not unusual has none.
# TYPE perfagent_anomaly_score gauge
perfagent_anomaly_score{http_request_method="POST",http_route="/cart",service_name="shop"} 2.5
# HELP perfagent_finding_active Incidents that go on: what is unusual of whom, by the finding that leads, with the severity of the worst; always 1.
# TYPE perfagent_finding_active gauge
perfagent_finding_active{metric="error_rate",service_name="shop",severity="critical"} 1
# HELP perfagent_findings_damaged_lines Lines of the files of findings that ended which could not be read when they were read last.
# TYPE perfagent_findings_damaged_lines gauge
perfagent_findings_damaged_lines 5
# HELP perfagent_findings_not_kept_total Findings that ended, and could not be written to their file.
# TYPE perfagent_findings_not_kept_total counter
perfagent_findings_not_kept_total 4
# HELP perfagent_findings_total Findings that opened.
# TYPE perfagent_findings_total counter
perfagent_findings_total 3
# HELP perfagent_anomaly_series Series that the detector of anomalies follows.
# TYPE perfagent_anomaly_series gauge
perfagent_anomaly_series 70
`
	for _, c := range []struct {
		state func() *FindingsState
		want  string
	}{{func() *FindingsState { return state }, want}, {nil, ""}, {func() *FindingsState { return nil }, ""}} {
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(findingsCollector{c.state})
		if err := testutil.GatherAndCompare(registry, strings.NewReader(c.want)); err != nil {
			t.Error(err)
		}
	}
}
