package export

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
)

// hostCollector exports the latest sample of the host's resources. A figure that is unknown has no series; nor has a
// limit that is none.
type hostCollector struct {
	latest func() *host.Sample
}

// Describe implements prometheus.Collector; see Collector.Describe.
func (c hostCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c hostCollector) Collect(ch chan<- prometheus.Metric) {
	if c.latest == nil {
		return
	}
	s := c.latest()
	if s == nil {
		return
	}
	analytics.EachFigure(s, func(m *analytics.Metric, l *analytics.Labels, v float64) {
		kind := prometheus.GaugeValue
		if m.Counter {
			kind = prometheus.CounterValue
		}
		ch <- &plainMetric{describeOnce(m), kind, *l, v}
	})
}

// described holds the description of each metric that was collected.
var described sync.Map

func describeOnce(m *analytics.Metric) *prometheus.Desc {
	d, ok := described.Load(m)
	if !ok {
		d, _ = described.LoadOrStore(m, describe(m.Name, m.Help))
	}
	return d.(*prometheus.Desc)
}

// plainMetric is one series whose labels are those that have a value.
type plainMetric struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	labels analytics.Labels
	value  float64
}

func (m *plainMetric) Desc() *prometheus.Desc { return m.desc }

func (m *plainMetric) Write(out *dto.Metric) error {
	for _, pair := range m.labels.All() {
		value := analytics.FigureLabel(pair.Value)
		out.Label = append(out.Label, &dto.LabelPair{Name: &pair.Name, Value: &value})
	}
	if m.kind == prometheus.CounterValue {
		out.Counter = &dto.Counter{Value: &m.value}
	} else {
		out.Gauge = &dto.Gauge{Value: &m.value}
	}
	return nil
}
