package export

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perfagent/perfagent/internal/analytics"
)

// gapMax is the longest run of empty buckets that a span bridges; a longer one starts a new span. Writing two zeros is
// as short as a span. client_golang does the same.
const gapMax = 2

// projection turns a histogram into Prometheus' form: native buckets, and where wanted classic ones, of one count. It owns the memory of the
// message that it fills, so that a scrape of many series needs the memory of one.
type projection struct {
	metric    dto.Metric
	histogram dto.Histogram

	labelRoom  []*dto.LabelPair
	bucketRoom []*dto.Bucket
	spanRoom   []*dto.BucketSpan
	counts     []uint64
	created    timestamppb.Timestamp

	count, zeros  uint64
	sum           float64
	schema        int32
	zeroThreshold float64
}

// fill returns the series as a message, which is valid until the next call.
func (p *projection) fill(l *analytics.Labels, h *analytics.Histogram, created time.Time, classic bool) *dto.Metric {
	p.metric.Label = p.labels(l)
	p.metric.Histogram = &p.histogram
	p.count, p.zeros, p.sum = h.Count(), h.Zeros(), h.Sum()
	p.histogram.SampleCount, p.histogram.SampleSum = &p.count, &p.sum
	p.created.Seconds, p.created.Nanos = created.Unix(), int32(created.Nanosecond())
	p.histogram.CreatedTimestamp = &p.created
	p.histogram.Bucket = nil
	if classic {
		p.fillClassic(h)
	}
	p.fillNative(h)
	return &p.metric
}

func (p *projection) labels(l *analytics.Labels) []*dto.LabelPair {
	all := l.All()
	for len(p.labelRoom) < len(all) {
		p.labelRoom = append(p.labelRoom, &dto.LabelPair{Name: new(string), Value: new(string)})
	}
	for i, pair := range all {
		*p.labelRoom[i].Name, *p.labelRoom[i].Value = pair.Name, pair.Value
	}
	return p.labelRoom[:len(all)]
}

// fillClassic fills in the buckets of a classic histogram: of each bound, in the metric's unit, how many values were at most that. What is
// above the last bound is in the sample count alone, as +Inf.
func (p *projection) fillClassic(h *analytics.Histogram) {
	bounds := h.Bounds()
	p.counts = h.Cumulative(p.counts[:0])
	if len(p.bucketRoom) < len(bounds) {
		room := make([]dto.Bucket, len(bounds))
		for i := len(p.bucketRoom); i < len(bounds); i++ {
			p.bucketRoom = append(p.bucketRoom, &room[i])
		}
	}
	p.histogram.Bucket = p.bucketRoom[:len(bounds)]
	for i := range bounds {
		p.bucketRoom[i].UpperBound, p.bucketRoom[i].CumulativeCount = &bounds[i], &p.counts[i]
	}
}

// fillNative fills in the buckets of a native histogram as the protobuf format has them: spans of buckets that follow each other, and each
// count as the difference to the one before. A gap of up to gapMax empty buckets is written out, as a new span costs more bytes.
func (p *projection) fillNative(h *analytics.Histogram) {
	p.schema, p.zeroThreshold = analytics.Schema, prometheus.DefNativeHistogramZeroThreshold
	p.histogram.Schema, p.histogram.ZeroThreshold, p.histogram.ZeroCount = &p.schema, &p.zeroThreshold, &p.zeros
	deltas := p.histogram.PositiveDelta[:0]
	spans, next, last := 0, 0, int64(0)
	for index, n := range h.Native() {
		gap := index - next
		if spans == 0 || gap > gapMax {
			p.span(spans, int32(gap))
			spans++
		} else {
			for range gap {
				deltas = append(deltas, -last)
				*p.spanRoom[spans-1].Length++
				last = 0
			}
		}
		deltas = append(deltas, int64(n)-last)
		*p.spanRoom[spans-1].Length++
		last, next = int64(n), index+1
	}
	p.histogram.PositiveSpan, p.histogram.PositiveDelta = p.spanRoom[:spans], deltas
}

// span starts the i-th span.
func (p *projection) span(i int, offset int32) {
	if i == len(p.spanRoom) {
		p.spanRoom = append(p.spanRoom, &dto.BucketSpan{Offset: new(int32), Length: new(uint32)})
	}
	*p.spanRoom[i].Offset, *p.spanRoom[i].Length = offset, 0
}
