package export

import (
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/wire"
)

const (
	levelName = "perfagent_endpoint_level"
	levelHelp = "How good an endpoint was in the last five minutes: 0 excellent, 1 good, 2 fair, 3 poor, 4 critical. " +
		"Absent where there were too few requests to say, and for throughput where no limits are set."
)

// eachLevel yields the levels that are known. There are three an endpoint, so they are streamed as histograms are.
func eachLevel(s *analytics.Snapshot, yield func(l *analytics.Labels, level analytics.Level)) {
	var l analytics.Labels
	for i := range s.Levels {
		e := &s.Levels[i]
		if e.Convention != wire.ConventionHTTP {
			continue // its operation is no method and route
		}
		for a, level := range e.Levels {
			if !level.Known {
				continue
			}
			l.Reset()
			l.Add("aspect", analytics.Aspect(a).String())
			l.Add("http_request_method", e.Verb)
			l.Add("http_route", e.Name)
			l.Add("service_name", e.Service)
			l.Add("service_namespace", e.Namespace)
			yield(&l, level.Level)
		}
	}
}

// writeLevels writes the gauge in the format.
func writeLevels(w io.Writer, format expfmt.Format, s *analytics.Snapshot, p *projection) (err error) {
	if format.FormatType() == expfmt.TypeProtoDelim {
		name, help := levelName, levelHelp
		family := &dto.MetricFamily{Name: &name, Help: &help, Type: dto.MetricType_GAUGE.Enum()}
		return writeProtoFamily(w, family, func(yield func(*dto.Metric)) {
			var value float64
			m := &dto.Metric{Gauge: &dto.Gauge{Value: &value}}
			eachLevel(s, func(l *analytics.Labels, level analytics.Level) {
				m.Label, value = p.labels(l), float64(level)
				yield(m)
			})
		})
	}
	t := textSeries{openMetrics: format.FormatType() == expfmt.TypeOpenMetrics}
	var out []byte
	eachLevel(s, func(l *analytics.Labels, level analytics.Level) {
		if err != nil {
			return
		}
		if out == nil {
			out = fmt.Appendf(nil, "# HELP %s %s\n# TYPE %s gauge\n", levelName, levelHelp, levelName)
		}
		t.setLabels(l)
		out = append(t.appendFloat(t.appendName(out, levelName, ""), float64(level)), '\n')
		if len(out) >= flushBytes {
			_, err = w.Write(out)
			out = out[:0]
		}
	})
	if err == nil && len(out) > 0 {
		_, err = w.Write(out)
	}
	return err
}

// levelMetric is one level for a registry.
type levelMetric struct {
	labels analytics.Labels
	value  float64
}

var descLevel = describe(levelName, levelHelp)

func (m *levelMetric) Desc() *prometheus.Desc { return descLevel }

func (m *levelMetric) Write(out *dto.Metric) error {
	var p projection
	out.Label, out.Gauge = p.labels(&m.labels), &dto.Gauge{Value: &m.value}
	return nil
}

// levelCollector collects the levels alone.
type levelCollector struct{ source Source }

// Describe implements prometheus.Collector; see Collector.Describe.
func (levelCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c levelCollector) Collect(ch chan<- prometheus.Metric) {
	eachLevel(c.source.Snapshot(), func(l *analytics.Labels, level analytics.Level) { ch <- &levelMetric{*l, float64(level)} })
}
