package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

const (
	// answerBytesMax bounds an answer as text; packed it is about a tenth.
	answerBytesMax = 32 << 20
	// flushBytes is how much text is collected before it is written.
	flushBytes = 32 << 10
)

// ErrAnswerTooLarge says what to do.
var ErrAnswerTooLarge = fmt.Errorf("the answer has more than %d MiB; ask for fewer series, a shorter time or a longer step", answerBytesMax>>20)

// writer writes JSON as Prometheus' API has it.
type writer struct {
	out   io.Writer
	b     []byte
	total int
	err   error
}

// WriteJSON writes the whole answer of Prometheus' API: status, data, warnings.
func (a *Answer) WriteJSON(out io.Writer) error {
	w := &writer{out: out}
	w.b = append(w.b, `{"status":"success","data":{"resultType":"`...)
	w.b = append(append(w.b, a.Value.Type()...), `","result":`...)
	switch v := a.Value.(type) {
	case promql.Vector:
		w.list(len(v), func(i int) { w.sample(&v[i]) })
	case promql.Matrix:
		w.list(len(v), func(i int) { w.series(&v[i]) })
	case promql.Scalar:
		w.float(v.T, v.V)
	case promql.String:
		w.b = append(appendTime(append(w.b, '['), v.T), ',')
		w.b = append(appendString(w.b, v.V), ']')
	}
	if a.Stats != nil {
		text, err := json.Marshal(a.Stats.Builtin())
		w.err = errors.Join(w.err, err)
		w.b = append(append(w.b, `,"stats":`...), text...)
	}
	w.b = append(w.b, '}')
	w.texts("warnings", a.Warnings)
	w.texts("infos", a.Infos)
	w.b = append(w.b, '}')
	w.flush()
	return w.err
}

// WriteLabels writes the answer to a question for series.
func WriteLabels(out io.Writer, f Found[Labels]) error {
	w := &writer{out: out}
	w.b = append(w.b, `{"status":"success","data":`...)
	w.list(len(f.All), func(i int) { w.labels(f.All[i]) })
	w.texts("warnings", f.Warnings)
	w.b = append(w.b, '}')
	w.flush()
	return w.err
}

func (w *writer) list(n int, element func(i int)) {
	w.b = append(w.b, '[')
	for i := range n {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		element(i)
		if len(w.b) >= flushBytes {
			w.flush()
		}
		if w.err != nil {
			return
		}
	}
	w.b = append(w.b, ']')
}

func (w *writer) flush() {
	if w.total += len(w.b); w.total > answerBytesMax {
		w.err = errors.Join(w.err, ErrAnswerTooLarge)
	}
	if w.err == nil {
		_, w.err = w.out.Write(w.b)
	}
	w.b = w.b[:0]
}

// texts writes a field of the whole, where there are any.
func (w *writer) texts(name string, all []string) {
	if len(all) == 0 {
		return
	}
	w.b = append(append(append(w.b, `,"`...), name...), `":`...)
	w.list(len(all), func(i int) { w.b = appendString(w.b, all[i]) })
}

func (w *writer) labels(l Labels) {
	w.b = append(w.b, '{')
	first := true
	l.Range(func(l labels.Label) {
		if !first {
			w.b = append(w.b, ',')
		}
		first = false
		w.b = append(appendString(w.b, l.Name), ':')
		w.b = appendString(w.b, l.Value)
	})
	w.b = append(w.b, '}')
}

func (w *writer) sample(s *promql.Sample) {
	w.b = append(w.b, `{"metric":`...)
	w.labels(s.Metric)
	if s.H != nil {
		w.b = append(w.b, `,"histogram":`...)
		w.histogram(s.T, s.H)
	} else {
		w.b = append(w.b, `,"value":`...)
		w.float(s.T, s.F)
	}
	w.b = append(w.b, '}')
}

func (w *writer) series(s *promql.Series) {
	w.b = append(w.b, `{"metric":`...)
	w.labels(s.Metric)
	if len(s.Floats) > 0 {
		w.b = append(w.b, `,"values":`...)
		w.list(len(s.Floats), func(i int) { w.float(s.Floats[i].T, s.Floats[i].F) })
	}
	if len(s.Histograms) > 0 {
		w.b = append(w.b, `,"histograms":`...)
		w.list(len(s.Histograms), func(i int) { w.histogram(s.Histograms[i].T, s.Histograms[i].H) })
	}
	w.b = append(w.b, '}')
}

func (w *writer) float(t int64, v float64) {
	w.b = append(appendTime(append(w.b, '['), t), ',')
	w.b = append(appendFloat(w.b, v), ']')
}

func (w *writer) histogram(t int64, h *histogram.FloatHistogram) {
	w.b = append(appendTime(append(w.b, '['), t), `,{"count":`...)
	w.b = append(appendFloat(w.b, h.Count), `,"sum":`...)
	w.b = appendFloat(w.b, h.Sum)
	any := false
	for it := h.AllBucketIterator(); it.Next(); {
		b := it.At()
		if b.Count == 0 {
			continue
		}
		if any {
			w.b = append(w.b, ',')
		} else {
			w.b = append(w.b, `,"buckets":[`...)
		}
		any = true
		w.b = append(append(w.b, '['), boundaries(&b), ',')
		w.b = append(appendFloat(w.b, b.Lower), ',')
		w.b = append(appendFloat(w.b, b.Upper), ',')
		w.b = append(appendFloat(w.b, b.Count), ']')
	}
	if any {
		w.b = append(w.b, ']')
	}
	w.b = append(w.b, "}]"...)
}

// boundaries is Prometheus' digit for which bounds belong to a bucket: the upper, the lower, none, both.
func boundaries(b *histogram.Bucket[float64]) byte {
	switch {
	case b.LowerInclusive && b.UpperInclusive:
		return '3'
	case b.LowerInclusive:
		return '1'
	case b.UpperInclusive:
		return '0'
	}
	return '2'
}

// appendTime writes seconds, with milliseconds where there are any.
func appendTime(dst []byte, ms int64) []byte {
	if ms < 0 {
		dst, ms = append(dst, '-'), -ms
	}
	dst = strconv.AppendInt(dst, ms/1000, 10)
	if f := ms % 1000; f != 0 {
		dst = append(dst, '.', byte('0'+f/100), byte('0'+f/10%10), byte('0'+f%10))
	}
	return dst
}

func appendFloat(dst []byte, v float64) []byte {
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return append(strconv.AppendFloat(append(dst, '"'), v, format, -1, 64), '"')
}

// appendString writes a string of JSON.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			text, err := json.Marshal(s)
			if err != nil { // strings always marshal
				text = []byte(`""`)
			}
			return append(dst, text...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}
