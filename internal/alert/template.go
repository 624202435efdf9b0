package alert

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/template"
)

// external is what templates know of the agent: the address that it is reached at.
type external struct{ url *url.URL }

// templates tell which texts of an alerting rule are templates at all: most labels are none.
type templates struct {
	labels bool // some label is one
	asks   bool // some annotation asks for more than its alert knows: it must be expanded when the alert is evaluated
}

func newTemplates(r *rule) (t templates) {
	r.labels.Range(func(l labels.Label) { t.labels = t.labels || isTemplate(l.Value) })
	r.annotations.Range(func(l labels.Label) { t.asks = t.asks || isTemplate(l.Value) && strings.Contains(l.Value, "query") })
	return t
}

func isTemplate(text string) bool { return strings.Contains(text, "{{") }

// telling is what the annotations of an alert are made of, as of its latest evaluation. An expansion takes some 30 us, and
// nobody reads most of them, so they are expanded when somebody does; what asks the Source is expanded at once.
type telling struct {
	sample promql.Sample
	at     time.Time
	outer  external
	done   *labels.Labels
}

func (t *templates) label(ctx context.Context, r *rule, e *evaluation, told *telling, l labels.Label) string {
	if !isTemplate(l.Value) {
		return l.Value
	}
	text, err := told.expand(ctx, r.name, l.Value, e.source)
	if err != nil {
		e.failed(r, err)
	}
	return text
}

// eager expands the annotations now where they ask the source.
func (t *templates) eager(ctx context.Context, r *rule, e *evaluation, told *telling) {
	if !t.asks {
		return
	}
	all, err := told.expandAll(ctx, r, e.source)
	if err != nil {
		e.failed(r, err)
	}
	told.done = &all
}

// annotations returns an alert's annotations as of its latest evaluation.
func (a *instance) annotations(r *rule) labels.Labels {
	if a.told.done == nil {
		all, _ := a.told.expandAll(context.Background(), r, nil) // a failure is the text itself
		a.told.done = &all
	}
	return *a.told.done
}

func (t *telling) expandAll(ctx context.Context, r *rule, source Source) (all labels.Labels, failed error) {
	b := labels.NewScratchBuilder(r.annotations.Len())
	r.annotations.Range(func(l labels.Label) {
		text := l.Value
		if isTemplate(text) {
			var err error
			if text, err = t.expand(ctx, r.name, text, source); err != nil {
				failed = err
			}
		}
		b.Add(l.Name, text)
	})
	return b.Labels(), failed
}

// variables are what rules call the data of their templates.
const variables = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}"

// expand returns the text of a template; of one that fails, the failure.
func (t *telling) expand(ctx context.Context, name, text string, source Source) (string, error) {
	ask := func(ctx context.Context, q string, at time.Time) (promql.Vector, error) {
		if source == nil {
			return nil, fmt.Errorf("the template asks for %q though its text does not say query", q)
		}
		return source.Vector(ctx, q, at)
	}
	address := t.outer.url
	if address == nil {
		address = new(url.URL)
	}
	data := template.AlertTemplateData(t.sample.Metric.Map(), map[string]string{}, address.String(), t.sample)
	expanded, err := template.NewTemplateExpander(ctx, variables+text, "__alert_"+name, data, model.TimeFromUnixNano(t.at.UnixNano()), ask, address, nil).Expand()
	if err != nil {
		return fmt.Sprintf("<error expanding template: %s>", err), err
	}
	return expanded, nil
}
