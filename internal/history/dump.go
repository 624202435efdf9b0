package history

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

// Formats are what Dump writes.
var Formats = []string{"openmetrics", "csv", "json"}

// Dump writes all samples that a query chooses. OpenMetrics has distributions as classic buckets, counted from the beginning of the
// dump on, as promtool takes them, and behind a pause the counts that were there before as well: without those a server that reads
// them would spread what came over the pause, or not see the first of it. JSON has one sample a line, with all buckets of the native histogram; CSV has quantiles.
func Dump(w io.Writer, h *History, q Query, format string) error {
	out := bufio.NewWriterSize(w, 64<<10)
	r, err := h.Select(q)
	if err != nil {
		return err
	}
	defer r.Close()
	switch format {
	case "openmetrics":
		err = dumpOpenMetrics(out, r)
	case "csv":
		err = dumpCSV(out, r)
	case "json":
		err = dumpJSON(out, r)
	default:
		err = fmt.Errorf("%q is not one of %s", format, strings.Join(Formats, ", "))
	}
	if err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the dump: %w", err)
	}
	if len(r.Missing) > 0 {
		return fmt.Errorf("%w, and its samples are not in the dump: %s", errDamaged, strings.Join(r.Missing, "; "))
	}
	return nil
}

// eachSample calls write with every sample of a series; total is the sum up to it.
func (s *Series) eachSample(write func(sample *Sample, delta, total *analytics.Histogram) error) error {
	delta, total := analytics.NewHistogram(s.Unit), analytics.NewHistogram(s.Unit)
	it := s.Iterate()
	for it.Next() {
		sample := it.At()
		if s.Kind == Recorded && isStale(sample.Value) {
			continue
		}
		if s.Kind == Distribution {
			delta.Reset()
			if err := sample.AddTo(&delta); err != nil {
				return fmt.Errorf("read the history: %w", err)
			}
			total.Merge(&delta)
		}
		if err := write(sample, &delta, &total); err != nil {
			return err
		}
	}
	return it.Err()
}

func dumpOpenMetrics(out *bufio.Writer, r *Result) error {
	family := ""
	for _, s := range r.Series {
		name := s.Labels[0].Value
		if s.Kind == Counter {
			name = strings.TrimSuffix(name, "_total")
		}
		if name != family {
			family = name
			fmt.Fprintf(out, "# TYPE %s %s\n", name, s.Kind)
		}
		labels := labelText(s.Labels[1:])
		braces := ""
		if labels != "" {
			braces = "{" + labels + "}"
			labels += ","
		}
		w := bucketWriter{out: out, name: name, labels: labels, braces: braces, before: analytics.NewHistogram(s.Unit)}
		err := s.eachSample(func(sample *Sample, _, total *analytics.Histogram) error {
			if s.Kind == Distribution {
				return w.add(sample, total)
			}
			_, err := fmt.Fprintf(out, "%s%s %s %s\n", s.Labels[0].Value, braces, number64(sample.Value), seconds(sample.Time))
			return err
		})
		if err != nil {
			return err
		}
	}
	_, err := out.WriteString("# EOF\n")
	return err
}

// bucketWriter writes a distribution as classic buckets.
type bucketWriter struct {
	out                  *bufio.Writer
	name, labels, braces string
	before               analytics.Histogram // what was written last
	last                 int64               // when, ms since 1970; 0: nothing was
	counts               []uint64
}

// add writes a sample: of what came in its interval if nothing was written of its beginning, that as well.
func (w *bucketWriter) add(sample *Sample, total *analytics.Histogram) error {
	if begin := sample.Time - sample.Interval; begin > w.last {
		if err := w.write(&w.before, begin); err != nil {
			return err
		}
	}
	w.before.Reset()
	w.before.Merge(total)
	w.last = sample.Time
	return w.write(total, sample.Time)
}

func (w *bucketWriter) write(total *analytics.Histogram, at int64) error {
	when := seconds(at)
	w.counts = total.Cumulative(w.counts[:0])
	for i, bound := range total.Bounds() {
		fmt.Fprintf(w.out, "%s_bucket{%sle=%q} %d %s\n", w.name, w.labels, bucketText(bound), w.counts[i], when)
	}
	fmt.Fprintf(w.out, "%s_bucket{%sle=\"+Inf\"} %d %s\n", w.name, w.labels, total.Count(), when)
	fmt.Fprintf(w.out, "%s_count%s %d %s\n", w.name, w.braces, total.Count(), when)
	_, err := fmt.Fprintf(w.out, "%s_sum%s %s %s\n", w.name, w.braces, number64(total.Sum()), when)
	return err
}

// seconds is a time in ms since 1970 as OpenMetrics has it.
func seconds(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', -1, 64) }

func number64(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// bucketText is a bound as OpenMetrics wants it, with a point where it has none.
func bucketText(v float64) string {
	text := number64(v)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}

var escaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func labelText(labels []analytics.Label) string {
	parts := make([]string, len(labels))
	for i, l := range labels {
		parts[i] = l.Name + `="` + escaper.Replace(strings.ToValidUTF8(l.Value, "\uFFFD")) + `"`
	}
	return strings.Join(parts, ",")
}

// csvQuantiles are the columns of a distribution.
var csvQuantiles = []float64{.5, .9, .95, .99}

func dumpCSV(out *bufio.Writer, r *Result) error {
	w := csv.NewWriter(out)
	w.Write([]string{"time", "metric", "labels", "interval_seconds", "value", "count", "sum", "p50", "p90", "p95", "p99"})
	for _, s := range r.Series {
		labels := labelText(s.Labels[1:])
		err := s.eachSample(func(sample *Sample, delta, _ *analytics.Histogram) error {
			row := []string{timeText(sample.Time), s.Labels[0].Value, labels, number64(float64(sample.Interval) / 1000), "", "", "", "", "", "", ""}
			if s.Kind != Distribution {
				row[4] = number64(sample.Value)
				return w.Write(row)
			}
			row[5], row[6] = strconv.FormatUint(delta.Count(), 10), number64(delta.Sum())
			for i, q := range csvQuantiles {
				if v := delta.Quantile(q) / perUnit(s.Unit); !math.IsNaN(v) {
					row[7+i] = strconv.FormatFloat(v, 'g', 4, 64)
				}
			}
			return w.Write(row)
		})
		if err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// perUnit is how many integers of a histogram are one of the exported unit.
func perUnit(u analytics.Unit) float64 {
	if u == analytics.Nanoseconds {
		return 1e9
	}
	return 1
}

func timeText(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// sampleJSON is a sample of a dump.
type sampleJSON struct {
	Time     string            `json:"time"` // end of the interval
	Interval float64           `json:"interval_seconds"`
	Metric   string            `json:"metric"`
	Labels   map[string]string `json:"labels"`
	Kind     string            `json:"kind"`
	Value    *float64          `json:"value,omitempty"`
	Count    *uint64           `json:"count,omitempty"`
	Untimed  uint64            `json:"untimed,omitempty"` // exchanges without a duration, not in count
	Sum      *float64          `json:"sum,omitempty"`     // seconds or bytes
	Zeros    uint64            `json:"zeros,omitempty"`
	Schema   *int              `json:"schema,omitempty"`
	Buckets  [][2]int64        `json:"buckets,omitempty"` // index of Prometheus' native histogram, count
}

func dumpJSON(out *bufio.Writer, r *Result) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	schema := analytics.Schema
	for _, s := range r.Series {
		labels := map[string]string{}
		for _, l := range s.Labels[1:] {
			labels[l.Name] = l.Value
		}
		err := s.eachSample(func(sample *Sample, delta, _ *analytics.Histogram) error {
			j := sampleJSON{Time: timeText(sample.Time), Interval: float64(sample.Interval) / 1000, Metric: s.Labels[0].Value, Labels: labels, Kind: s.Kind.String()}
			if s.Kind != Distribution {
				if !math.IsNaN(sample.Value) && !math.IsInf(sample.Value, 0) { // which JSON does not have
					j.Value = &sample.Value
				}
				return e.Encode(&j)
			}
			count, sum := delta.Count(), delta.Sum()
			j.Count, j.Untimed, j.Sum, j.Zeros, j.Schema = &count, sample.Untimed, &sum, delta.Zeros(), &schema
			for i, n := range delta.Native() {
				j.Buckets = append(j.Buckets, [2]int64{int64(i), int64(n)})
			}
			return e.Encode(&j)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// selectorPattern is one condition of a selector.
var selectorPattern = regexp.MustCompile(`^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")\s*(,|$)`)

// ParseSelector reads a Prometheus selector, such as http_server_request_duration_seconds{service_name="shop",http_route=~"/o.*"}.
func ParseSelector(text string) ([]Matcher, error) {
	name, rest, braces := strings.Cut(strings.TrimSpace(text), "{")
	var all []Matcher
	if name = strings.TrimSpace(name); name != "" {
		all = append(all, ofAnyForm(func(v string) bool { return v == name }))
	}
	if !braces {
		if name == "" {
			return nil, fmt.Errorf("%q is no selector such as metric{label=\"value\"}", text)
		}
		return all, nil
	}
	rest, closed := strings.CutSuffix(strings.TrimSpace(rest), "}")
	for strings.TrimSpace(rest) != "" {
		m := selectorPattern.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("%q is no selector: want label=\"value\" at %q", text, rest)
		}
		value, err := strconv.Unquote(m[3])
		if err != nil {
			return nil, fmt.Errorf("%q is no selector: %s: %w", text, m[3], err)
		}
		matcher, err := newMatcher(m[1], m[2], value)
		if err != nil {
			return nil, fmt.Errorf("%q is no selector: %w", text, err)
		}
		all, rest = append(all, matcher), rest[len(m[0]):]
	}
	if !closed {
		return nil, fmt.Errorf("%q is no selector: } is missing", text)
	}
	return all, nil
}

func newMatcher(name, operator, value string) (Matcher, error) {
	switch operator {
	case "=":
		m := Matcher{name, func(v string) bool { return v == value }}
		if name == nameLabel {
			m = ofAnyForm(m.Match)
		}
		return m, nil
	case "!=":
		return Matcher{name, func(v string) bool { return v != value }}, nil
	}
	pattern, err := regexp.Compile("^(?s:" + value + ")$")
	if err != nil {
		return Matcher{}, err
	}
	if name == nameLabel && operator == "=~" {
		return ofAnyForm(pattern.MatchString), nil
	}
	return Matcher{name, func(v string) bool { return pattern.MatchString(v) == (operator == "=~") }}, nil
}

// nameLabel is the label that has a metric's name.
const nameLabel = "__name__"

// ofAnyForm matches names, and those of distributions also by the names of their classic series.
func ofAnyForm(match func(name string) bool) Matcher {
	return Matcher{nameLabel, func(name string) bool {
		return match(name) || match(name+"_count") || match(name+"_sum") || match(name+"_bucket")
	}}
}
