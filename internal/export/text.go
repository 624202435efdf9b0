package export

import (
	"bytes"
	"strconv"

	"github.com/perfagent/perfagent/internal/analytics"
)

// textSeries lays out the lines of one series after another, in memory that it keeps.
type textSeries struct {
	openMetrics bool

	labels []byte // `a="b",c="d"`
	counts []uint64
	bounds []float64 // for which limits was made
	limits [][]byte  // `le="0.5"} ` of each bound
}

// append appends all lines of a series: the buckets where wanted, its sum and its count.
func (t *textSeries) append(dst []byte, name string, l *analytics.Labels, h *analytics.Histogram, classic bool) []byte {
	t.setLabels(l)
	if classic {
		dst = t.appendBuckets(dst, name, h)
	}
	dst = append(t.appendFloat(t.appendName(dst, name, "_sum"), h.Sum()), '\n')
	return appendCount(t.appendName(dst, name, "_count"), h.Count())
}

// appendBuckets appends the lines of the classic buckets.
func (t *textSeries) appendBuckets(dst []byte, name string, h *analytics.Histogram) []byte {
	t.setLimits(h.Bounds())
	t.counts = h.Cumulative(t.counts[:0])
	line := len(dst)
	dst = append(append(append(dst, name...), "_bucket{"...), t.labels...)
	if len(t.labels) > 0 {
		dst = append(dst, ',')
	}
	start := dst[line:] // the same for every bucket
	for i, n := range t.counts {
		if i > 0 {
			dst = append(dst, start...)
		}
		dst = appendCount(append(dst, t.limits[i]...), n)
	}
	dst = append(append(dst, start...), `le="+Inf"} `...)
	return appendCount(dst, h.Count())
}

func (t *textSeries) appendName(dst []byte, name, suffix string) []byte {
	dst = append(append(dst, name...), suffix...)
	if len(t.labels) > 0 {
		dst = append(append(append(dst, '{'), t.labels...), '}')
	}
	return append(dst, ' ')
}

func appendCount(dst []byte, n uint64) []byte { return append(strconv.AppendUint(dst, n, 10), '\n') }

// appendFloat writes a finite float; OpenMetrics' have a point or an exponent.
func (t *textSeries) appendFloat(dst []byte, v float64) []byte {
	start := len(dst)
	dst = strconv.AppendFloat(dst, v, 'g', -1, 64)
	if t.openMetrics && !bytes.ContainsAny(dst[start:], "e.") {
		dst = append(dst, ".0"...)
	}
	return dst
}

func (t *textSeries) setLabels(l *analytics.Labels) {
	t.labels = t.labels[:0]
	for i, pair := range l.All() {
		if i > 0 {
			t.labels = append(t.labels, ',')
		}
		t.labels = append(append(t.labels, pair.Name...), `="`...)
		t.labels = append(appendEscaped(t.labels, pair.Value), '"')
	}
}

// appendEscaped escapes what both formats want escaped in a label's value.
func appendEscaped(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\', '"':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

func (t *textSeries) setLimits(bounds []float64) {
	if len(t.bounds) == len(bounds) && &t.bounds[0] == &bounds[0] {
		return
	}
	t.bounds, t.limits = bounds, nil
	for _, b := range bounds {
		t.limits = append(t.limits, append(t.appendFloat([]byte(`le="`), b), `"} `...))
	}
}
