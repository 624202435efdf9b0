package export

import (
	"github.com/prometheus/client_golang/prometheus"
)

// FindingsState is what the detector of anomalies says.
type FindingsState struct {
	Open     []map[string]string // labels of open findings
	Scores   []AnomalyScore
	Findings uint64 // that opened so far
	Series   int    // that are followed
	Learning int    // of these, those of which too little is known
	Without  int    // endpoints and targets for which there is no room
	Dropped  uint64 // ticks that were not taken in time
	NotKept  uint64 // findings that ended, and could not be written
	Damaged  uint64 // lines of findings that ended which cannot be read
}

// AnomalyScore is how unusual somebody is.
type AnomalyScore struct {
	Labels map[string]string
	Value  float64
}

var (
	descFindingActive   = describe("perfagent_finding_active", "Incidents that go on: what is unusual of whom, by the finding that leads, with the severity of the worst; always 1.")
	descAnomalyScore    = describe("perfagent_anomaly_score", "How unusual an endpoint, target, service or the host is: the decimal logarithm of the weeks in which it is so once by chance. Who is not unusual has none.")
	descFindings        = describe("perfagent_findings_total", "Findings that opened.")
	descAnomalySeries   = describe("perfagent_anomaly_series", "Series that the detector of anomalies follows.")
	descAnomalyLearning = describe("perfagent_anomaly_series_learning", "Series of which the detector of anomalies knows too little to judge.")
	descAnomalyWithout  = describe("perfagent_anomaly_subjects_left_out", "Endpoints and targets for which the detector of anomalies has no room.")
	descAnomalyDropped  = describe("perfagent_anomaly_dropped_ticks_total", "Intervals that the detector of anomalies could not take in time.")
	descFindingsNotKept = describe("perfagent_findings_not_kept_total", "Findings that ended, and could not be written to their file.")
	descFindingsDamaged = describe("perfagent_findings_damaged_lines", "Lines of the files of findings that ended which could not be read when they were read last.")
)

// findingsCollector exports the state of the detector, where there is one.
type findingsCollector struct{ state func() *FindingsState }

// Describe implements prometheus.Collector; see Collector.Describe.
func (c findingsCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c findingsCollector) Collect(ch chan<- prometheus.Metric) {
	if c.state == nil {
		return
	}
	s := c.state()
	if s == nil {
		return
	}
	gauge, counter := figures(ch)
	gauge(descAnomalySeries, float64(s.Series))
	gauge(descAnomalyLearning, float64(s.Learning))
	gauge(descAnomalyWithout, float64(s.Without))
	counter(descAnomalyDropped, s.Dropped)
	counter(descFindings, s.Findings)
	counter(descFindingsNotKept, s.NotKept)
	gauge(descFindingsDamaged, float64(s.Damaged))
	for _, labels := range s.Open {
		ch <- newFreeMetric(descFindingActive, labels, 1)
	}
	for _, score := range s.Scores {
		ch <- newFreeMetric(descAnomalyScore, score.Labels, score.Value)
	}
}
