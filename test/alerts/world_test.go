package alerts

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/notify"
)

// world is a simulated host: its series as a Prometheus that scrapes the agent would have them, and the rules over them.
type world struct {
	*testing.T
	*side
	*alert.Manager
	now      time.Time
	counters map[string]*counted
	figures  map[string]float64 // gauges and counters of the host, by series
	told     map[string]*incident
}

// counted is one distribution of response times.
type counted struct {
	labels  labels.Labels
	buckets map[int]int64 // of the native histogram
	bounds  []float64     // counts up to each classic bound
	count   float64
	sum     float64
}

// incident is what the Sink heard of one alert.
type incident struct {
	begins, ends int
	first        time.Time
}

var bounds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60, math.Inf(1)}

const durations = "http_server_request_duration_seconds"

func newWorld(t *testing.T, start time.Time, b *alert.Builtin, objectives []alert.Objective) *world {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 5e6, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true,
		Parser: parser.NewParser(parser.Options{}), Logger: slog.New(slog.DiscardHandler)})
	w := &world{T: t, side: newSide(t, engine), now: start, counters: map[string]*counted{}, figures: map[string]float64{}, told: map[string]*incident{}}
	w.Manager = alert.New(alert.Options{Source: w.side, Sink: w, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now }})
	rules, err := alert.Parse(nil, b, objectives)
	if err != nil {
		t.Fatal(err)
	}
	w.Apply(rules)
	return w
}

// Send implements alert.Sink: it counts what begins and what ends, by the alert and its start.
func (w *world) Send(alerts []notify.Alert) {
	for _, a := range alerts {
		name := a.Labels["alertname"] + a.Labels["burn_rate"]
		if w.told[name] == nil {
			w.told[name] = &incident{}
		}
		i := w.told[name]
		switch {
		case !a.EndsAt.IsZero() && !a.EndsAt.After(w.now):
			i.ends++
		case !i.first.Equal(a.StartsAt):
			i.begins++
			i.first = a.StartsAt
		}
	}
}

// seriesOf are the labels of the name and of pairs of names and values.
func seriesOf(name string, pairs ...string) labels.Labels {
	return labels.FromStrings(append([]string{"__name__", name}, pairs...)...)
}

// serve counts requests with a response time in seconds.
func (w *world) serve(n int, seconds float64, pairs ...string) {
	c := w.counter(pairs...)
	for i, bound := range bounds {
		if seconds <= bound {
			c.bounds[i] += float64(n)
		}
	}
	c.buckets[int(math.Ceil(math.Log2(seconds)*32))] += int64(n) // schema 5
	c.count += float64(n)
	c.sum += float64(n) * seconds
}

// counter returns the distribution of a series, which is there from now on.
func (w *world) counter(pairs ...string) *counted {
	key := fmt.Sprint(pairs)
	if w.counters[key] == nil {
		w.counters[key] = &counted{labels: seriesOf(durations, pairs...), buckets: map[int]int64{}, bounds: make([]float64, len(bounds))}
	}
	return w.counters[key]
}

// add adds to a counter of the host, or of the agent.
func (w *world) add(v float64, name string, pairs ...string) {
	w.figures[seriesOf(name, pairs...).String()] += v
}

// set sets a gauge.
func (w *world) set(v float64, name string, pairs ...string) {
	w.figures[seriesOf(name, pairs...).String()] = v
}

// scrape stores all series as of now.
func (w *world) scrape() {
	w.Helper()
	app := w.storage.Appender(context.Background())
	at := w.now.UnixMilli()
	put := func(l labels.Labels, v float64) {
		if _, err := app.Append(0, l, at, v); err != nil {
			w.Fatal(err)
		}
	}
	for _, c := range w.counters {
		b := labels.NewBuilder(c.labels)
		put(b.Set("__name__", durations+"_count").Labels(), c.count)
		put(b.Set("__name__", durations+"_sum").Labels(), c.sum)
		b.Set("__name__", durations+"_bucket")
		for i, bound := range bounds {
			put(b.Set("le", fmt.Sprint(bound)).Labels(), c.bounds[i])
		}
		if _, err := app.AppendHistogram(0, c.labels, at, c.native(), nil); err != nil {
			w.Fatal(err)
		}
	}
	p := parser.NewParser(parser.Options{})
	for text, v := range w.figures {
		l, err := p.ParseMetric(text)
		if err != nil {
			w.Fatal(err)
		}
		put(l, v)
	}
	if err := app.Commit(); err != nil {
		w.Fatal(err)
	}
}

// native is the distribution as a native histogram.
func (c *counted) native() *histogram.Histogram {
	h := &histogram.Histogram{Schema: 5, Count: uint64(c.count), Sum: c.sum}
	last, before := math.MinInt32, int64(0)
	for _, i := range slices.Sorted(maps.Keys(c.buckets)) {
		switch {
		case last == math.MinInt32:
			h.PositiveSpans = append(h.PositiveSpans, histogram.Span{Offset: int32(i), Length: 1})
		case i == last+1:
			h.PositiveSpans[len(h.PositiveSpans)-1].Length++
		default:
			h.PositiveSpans = append(h.PositiveSpans, histogram.Span{Offset: int32(i - last - 1), Length: 1})
		}
		h.PositiveBuckets = append(h.PositiveBuckets, c.buckets[i]-before)
		last, before = i, c.buckets[i]
	}
	return h
}

// scrapeCounts stores the numbers of requests alone.
func (w *world) scrapeCounts(all ...*counted) {
	w.Helper()
	app := w.storage.Appender(context.Background())
	for _, c := range all {
		if _, err := app.Append(0, labels.NewBuilder(c.labels).Set("__name__", durations+"_count").Labels(), w.now.UnixMilli(), c.count); err != nil {
			w.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		w.Fatal(err)
	}
}

// evaluateRules evaluates what is due, a moment after the scrape.
func (w *world) evaluateRules() {
	at := w.now
	w.now = at.Add(settle)
	w.Manager.Evaluate(context.Background(), w.now)
	w.now = at
}

// failing returns rules that could not be evaluated.
func (w *world) failing() (all []string) {
	for _, g := range w.Groups(false) {
		for _, r := range g.Rules {
			if r.Err != "" {
				all = append(all, r.Name+": "+r.Err)
			}
		}
	}
	return all
}

// fired are the names of what ever fired.
func (w *world) fired() []string {
	var all []string
	for name, i := range w.told {
		if i.begins > 0 {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// pass scrapes and evaluates.
func (w *world) pass() {
	w.scrape()
	w.evaluateRules()
}
