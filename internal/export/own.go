package export

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"github.com/perfagent/perfagent/internal/analytics"
)

// gatheredCollectors are those of /metrics that say nothing of single endpoints: both /metrics and Own have them, so that what one of
// them is given the other has as well. hostCollector is beside them: the host's figures have their own way to the history.
func gatheredCollectors(o CollectorOptions, withoutRuntime bool) []prometheus.Collector {
	all := []prometheus.Collector{agentCollector{o}, historyCollector{o.History}, rulesCollector{o.Rules}, notifyCollector{o.Notify}, partsCollector{o.Parts},
		findingsCollector{o.Findings}}
	if !withoutRuntime {
		all = append(all, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	return all
}

// Own yields the series of /metrics that the local history does not have from elsewhere: all but the histograms of exchanges and the
// host's figures, which are sealed with each tick, and ALERTS, which rules record.
type Own struct {
	registry *prometheus.Registry
	source   Source
}

// NewOwn returns what yields the agent's own series.
func NewOwn(o MetricsOptions) *Own {
	registry := prometheus.NewRegistry()
	registry.MustRegister(gatheredCollectors(o.CollectorOptions, o.WithoutRuntime)...) // as NewMetrics, which says what is wrong with them
	return &Own{registry, o.Source}
}

// alertsName is the metric of alerts.
const alertsName = "ALERTS"

// Figures returns all series as of now. What cannot be gathered is left out.
func (o *Own) Figures() (all []analytics.Figure) {
	families, _ := o.registry.Gather()
	for _, f := range families {
		if f.GetName() == alertsName {
			continue
		}
		for _, m := range f.Metric {
			all = appendSeries(all, f.GetName(), m)
		}
	}
	eachLevel(o.source.Snapshot(), func(l *analytics.Labels, level analytics.Level) {
		all = append(all, analytics.Figure{Name: levelName, Labels: append([]analytics.Label(nil), l.All()...), Value: float64(level)})
	})
	return all
}

// appendSeries adds a metric as the series that a server makes of it.
func appendSeries(all []analytics.Figure, name string, m *dto.Metric) []analytics.Figure {
	add := func(suffix string, counter bool, v float64, more ...analytics.Label) {
		all = append(all, analytics.Figure{Name: name + suffix, Labels: ownLabels(m, more), Counter: counter, Value: v})
	}
	switch {
	case m.Gauge != nil:
		add("", false, m.Gauge.GetValue())
	case m.Counter != nil:
		add("", true, m.Counter.GetValue())
	case m.Histogram != nil:
		for _, b := range m.Histogram.Bucket {
			add("_bucket", true, float64(b.GetCumulativeCount()), label("le", boundText(b.GetUpperBound())))
		}
		add("_bucket", true, float64(m.Histogram.GetSampleCount()), label("le", "+Inf"))
		add("_count", true, float64(m.Histogram.GetSampleCount()))
		add("_sum", true, m.Histogram.GetSampleSum())
	case m.Summary != nil:
		for _, q := range m.Summary.Quantile {
			add("", false, q.GetValue(), label("quantile", boundText(q.GetQuantile())))
		}
		add("_count", true, float64(m.Summary.GetSampleCount()))
		add("_sum", true, m.Summary.GetSampleSum())
	}
	return all
}

// ownLabels are the labels of a metric, which are in the order of their names, and at most one more.
func ownLabels(m *dto.Metric, more []analytics.Label) []analytics.Label {
	labels := make([]analytics.Label, 0, len(m.Label)+len(more))
	for _, pair := range m.Label {
		if len(more) > 0 && more[0].Name < pair.GetName() {
			labels, more = append(labels, more...), nil
		}
		labels = append(labels, label(pair.GetName(), pair.GetValue()))
	}
	return append(labels, more...)
}

// boundText is a bound or a quantile as OpenMetrics writes it, and Prometheus 3 stores it: with a point where it has none.
func boundText(v float64) string {
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}

// Describe calls yield for every metric that there is now: its type in Prometheus' words, and what it is.
func (o *Own) Describe(yield func(name, kind, help string)) {
	families, _ := o.registry.Gather()
	for _, f := range families {
		if f.GetName() != alertsName {
			yield(f.GetName(), strings.ToLower(f.GetType().String()), f.GetHelp())
		}
	}
	yield(levelName, "gauge", levelHelp)
}
