package export

import (
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/perfagent/perfagent/internal/analytics"
)

// MetricsOptions configures Metrics.
type MetricsOptions struct {
	CollectorOptions
	// WithoutRuntime leaves out go_* and process_*.
	WithoutRuntime bool
	Log            *slog.Logger // nil: silent
}

// Metrics answers scrapes: with text, OpenMetrics, or protobuf with native histograms, as the client asks.
//
// The usual way, gathering all series and then encoding them, would hold every bucket of every endpoint as a message
// at once: 2,000 endpoints have 12,000 histograms of 22 buckets, about 2 KiB each. So only the agent's own metrics
// are gathered; histograms are encoded one by one, from a snapshot, through the memory of one.
type Metrics struct {
	registry *prometheus.Registry
	source   Source
	classic  Classic
	log      *slog.Logger
}

// NewMetrics returns what answers scrapes of everything that the options name.
func NewMetrics(o MetricsOptions) (*Metrics, error) {
	registry := prometheus.NewRegistry()
	all := []prometheus.Collector{agentCollector{o.CollectorOptions}, hostCollector{o.Host}, historyCollector{o.History}, rulesCollector{o.Rules},
		notifyCollector{o.Notify}, partsCollector{o.Parts}, findingsCollector{o.Findings}}
	if !o.WithoutRuntime {
		all = append(all, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	for _, c := range all {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Metrics{registry: registry, source: o.Source, classic: o.Classic, log: o.Log}, nil
}

// formats are what clients may ask for, best first. The last one is also the answer to no wish.
var formats = []expfmt.Format{expfmt.FmtProtoDelim, expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1, expfmt.FmtText}

// ScrapeFormat tells which format Scrape answers a request's header with.
func ScrapeFormat(h http.Header) string { return string(expfmt.NegotiateAccept(h, formats...)) }

// Scrape answers a request (GET or HEAD). An error says that nothing could be gathered, and that nothing was written; one
// of writing is the client's, which is gone.
func (m *Metrics) Scrape(w http.ResponseWriter, r *http.Request) error {
	families, err := m.registry.Gather()
	if err != nil {
		m.log.Error("gathering metrics", "err", err)
		if len(families) == 0 {
			return err
		} // what was gathered is right
	}
	format := expfmt.NegotiateAccept(r.Header, formats...)
	w.Header().Set("Content-Type", string(format))
	w.Header().Add("Vary", "Accept-Encoding")
	out := io.Writer(w)
	if AcceptsGzip(r.Header) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzips.Get().(*gzip.Writer)
		defer gzips.Put(z)
		z.Reset(w)
		defer z.Close()
		out = z
	}
	if r.Method == http.MethodHead {
		return nil
	}
	if err := writeMetrics(out, format, families, m.source.Snapshot(), m.classic); err != nil {
		m.log.Debug("writing metrics", "err", err) // the client is gone
	}
	return nil
}

var gzips = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
	return z
}}

// AcceptsGzip reports whether the client of these request headers takes gzip.
func AcceptsGzip(h http.Header) bool {
	for _, v := range strings.Split(h.Get("Accept-Encoding"), ",") {
		name, parameters, _ := strings.Cut(strings.TrimSpace(v), ";")
		if name == "gzip" || name == "*" {
			q := strings.ReplaceAll(parameters, " ", "")
			return q != "q=0" && q != "q=0.0"
		}
	}
	return false
}

// writeMetrics writes the gathered families and the histograms of the snapshot in the format.
func writeMetrics(w io.Writer, format expfmt.Format, families []*dto.MetricFamily, s *analytics.Snapshot, classic Classic) error {
	encoder := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if err := encoder.Encode(f); err != nil {
			return fmt.Errorf("encoding %s: %w", f.GetName(), err)
		}
	}
	write := writeText
	if format.FormatType() == expfmt.TypeProtoDelim {
		write = writeProto
	}
	var p projection
	for _, f := range analytics.Families {
		if err := write(w, format, f, s, &p, classic.has(&f)); err != nil {
			return fmt.Errorf("encoding %s: %w", f.Name, err)
		}
	}
	if err := writeLevels(w, format, s, &p); err != nil {
		return fmt.Errorf("encoding %s: %w", levelName, err)
	}
	if c, ok := encoder.(expfmt.Closer); ok {
		return c.Close() // the end mark of OpenMetrics
	}
	return nil
}

func message(f *analytics.Family, metrics ...*dto.Metric) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &f.Name, Help: &f.Help, Type: dto.MetricType_HISTOGRAM.Enum(), Metric: metrics}
}

// flushBytes is how much text is collected before it is written.
const flushBytes = 32 << 10

// writeText writes the family in Prometheus' text format or in OpenMetrics', which differ in how floats look. It writes
// what expfmt would (the tests compare), at a thirtieth of the time: names and labels of a series are laid out once, not
// once for each of its two dozen lines.
func writeText(w io.Writer, format expfmt.Format, f analytics.Family, s *analytics.Snapshot, _ *projection, classic bool) (err error) {
	t := textSeries{openMetrics: format.FormatType() == expfmt.TypeOpenMetrics}
	var out []byte
	f.EachOf(s, func(l *analytics.Labels, h *analytics.Histogram, _ time.Time) {
		if err != nil {
			return
		}
		if out == nil {
			out = fmt.Appendf(nil, "# HELP %s %s\n# TYPE %s %s\n", f.Name, f.Help, f.Name, textType(classic))
		}
		out = t.append(out, f.Name, l, h, classic)
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

// textType is the type of a family in text, which has no native histograms. What has a sum and a count and no buckets is a
// summary there, in both formats: a histogram must have buckets in OpenMetrics.
func textType(classic bool) string {
	if classic {
		return "histogram"
	}
	return "summary"
}

// metricField is the number of MetricFamily's field "metric".
const metricField = 4

// writeProto writes the family of histograms as one message.
func writeProto(w io.Writer, _ expfmt.Format, f analytics.Family, s *analytics.Snapshot, p *projection, classic bool) error {
	return writeProtoFamily(w, message(&f), func(yield func(*dto.Metric)) {
		f.EachOf(s, func(l *analytics.Labels, h *analytics.Histogram, created time.Time) {
			yield(p.fill(l, h, created, classic))
		})
	})
}

// writeProtoFamily writes a family as one message, series by series. The length comes first, so it goes over the series
// twice: that costs a third more time, and saves several megabytes of buffer.
func writeProtoFamily(w io.Writer, family *dto.MetricFamily, each func(yield func(*dto.Metric))) error {
	head, err := proto.Marshal(family)
	if err != nil {
		return err
	}
	length, series := len(head), 0
	each(func(m *dto.Metric) {
		length += protowire.SizeTag(metricField) + protowire.SizeBytes(proto.Size(m))
		series++
	})
	if series == 0 {
		return nil
	}
	if _, err := w.Write(append(protowire.AppendVarint(nil, uint64(length)), head...)); err != nil {
		return err
	}
	var buffer []byte
	each(func(m *dto.Metric) {
		if err != nil {
			return
		}
		buffer = protowire.AppendTag(buffer[:0], metricField, protowire.BytesType)
		buffer = protowire.AppendVarint(buffer, uint64(proto.Size(m)))
		if buffer, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(buffer, m); err == nil {
			_, err = w.Write(buffer)
		}
	})
	return err
}
