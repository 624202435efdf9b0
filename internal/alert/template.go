package alert

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/template"

	"github.com/perfagent/perfagent/internal/notify"
)

const (
	// overdrawnPause is how long a template is left alone that went beyond its allowance: a rule may have a thousand alerts.
	overdrawnPause = 5 * time.Minute
	// templateErrorsMax is how many different errors of one rule's templates are said.
	templateErrorsMax = 8
)

// external is what templates know of the agent: the address that it is reached at.
type external struct{ url *url.URL }

// templates are those of an alerting rule. Most labels are none.
type templates struct {
	labels bool // some label is one
	asks   bool // some annotation asks for more than its alert knows: it must be expanded when the alert is evaluated

	thrifty map[string]string // by the text of the rule

	mu        sync.Mutex
	said      map[string]bool      // errors that the log has
	overdrawn map[string]overdraft // by the text of the rule
}

// overdraft is a template that went beyond its allowance.
type overdraft struct {
	err   error
	until time.Time // by the times of evaluations
}

func newTemplates(r *rule) (*templates, error) {
	t := &templates{thrifty: map[string]string{}, said: map[string]bool{}, overdrawn: map[string]overdraft{}}
	var failed error
	add := func(l labels.Label) {
		if !isTemplate(l.Value) {
			return
		}
		text, err := thrifty(variables + l.Value)
		if err != nil {
			failed = fmt.Errorf("the template of %s: %w", l.Name, err)
		}
		t.thrifty[l.Value] = text
	}
	r.labels.Range(func(l labels.Label) {
		add(l)
		t.labels = t.labels || isTemplate(l.Value)
	})
	r.annotations.Range(func(l labels.Label) {
		add(l)
		t.asks = t.asks || isTemplate(l.Value) && strings.Contains(l.Value, "query")
	})
	return t, failed
}

func isTemplate(text string) bool { return strings.Contains(text, "{{") }

// isNew tells whether an error is one that the log has not.
func (t *templates) isNew(err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text := err.Error(); !t.said[text] && len(t.said) < templateErrorsMax {
		t.said[text] = true
		return true
	}
	return false
}

// pausing returns the error of a template that is left alone at a time; nil for others.
func (t *templates) pausing(text string, at time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.overdrawn[text]; at.Before(o.until) {
		return o.err
	}
	return nil
}

func (t *templates) pause(text string, err error, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.overdrawn[text] = overdraft{err, at.Add(overdrawnPause)}
}

// telling is what the annotations of an alert are made of, as of its latest evaluation. An expansion takes some 30 us, and
// nobody reads most of them, so they are expanded when somebody does; what asks the Source is expanded at once. A template may take
// its time, so no lock is held meanwhile.
type telling struct {
	sample promql.Sample
	at     time.Time
	outer  external
	failed func(r *rule, err error) // told of templates that fail

	once sync.Once
	done labels.Labels
}

// told is one whose annotations are known.
func told(sample promql.Sample, at time.Time, annotations labels.Labels) *telling {
	t := &telling{sample: sample, at: at}
	t.once.Do(func() { t.done = annotations })
	return t
}

// label returns the value of one of the rule's labels.
func (t *telling) label(ctx context.Context, r *rule, l labels.Label, source Source) string {
	if !isTemplate(l.Value) {
		return l.Value
	}
	return t.expand(ctx, r, l.Value, source)
}

// eager expands the annotations now where they ask the source.
func (t *telling) eager(ctx context.Context, r *rule, source Source) {
	if r.templates.asks {
		t.once.Do(func() { t.done = t.expandAll(ctx, r, source) })
	}
}

// annotations returns an alert's annotations. It is called without locks.
func (t *telling) annotations(r *rule) labels.Labels {
	t.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), templateTimeout)
		defer cancel()
		t.done = t.expandAll(ctx, r, nil)
	})
	return t.done
}

func (t *telling) expandAll(ctx context.Context, r *rule, source Source) labels.Labels {
	b := labels.NewScratchBuilder(r.annotations.Len())
	r.annotations.Range(func(l labels.Label) { b.Add(l.Name, notify.CutAnnotation(t.label(ctx, r, l, source))) })
	return b.Labels()
}

// variables are what rules call the data of their templates.
const variables = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}"

// expand returns the text of a template; of one that fails, the failure.
func (t *telling) expand(ctx context.Context, r *rule, text string, source Source) string {
	err := r.templates.pausing(text, t.at)
	if err == nil {
		var expanded string
		if expanded, err = t.execute(ctx, r.name, text, r.templates.thrifty[text], source); err == nil {
			return expanded
		}
		if errors.Is(err, errOverdrawn) {
			r.templates.pause(text, err, t.at)
		}
	}
	t.failed(r, err)
	return fmt.Sprintf("<error expanding template: %s>", err)
}

// execute expands a template by its thrifty form. What fails there for another reason than its allowance fails in the form that people wrote
// at the same point, and the places in the error are then those that they see.
func (t *telling) execute(ctx context.Context, name, text, thrifty string, source Source) (string, error) {
	known := answers{source: source, all: map[string]answer{}}
	expanded, err := t.executeText(ctx, name, thrifty, &known)
	if err != nil && !errors.Is(err, errOverdrawn) && ctx.Err() == nil {
		return t.executeText(ctx, name, variables+text, &known)
	}
	return expanded, err
}

// answers are those of a source to the questions of one expansion, each asked once.
type answers struct {
	source Source
	all    map[string]answer
}

type answer struct {
	vector promql.Vector
	err    error
}

func (k *answers) ask(ctx context.Context, q string, at time.Time) (promql.Vector, error) {
	if k.source == nil {
		return nil, fmt.Errorf("the template asks for %q though its text does not say query", q)
	}
	a, known := k.all[q]
	if !known {
		a.vector, a.err = k.source.Vector(ctx, q, at)
		k.all[q] = a
	}
	return a.vector, a.err
}

func (t *telling) executeText(ctx context.Context, name, text string, known *answers) (string, error) {
	address := t.outer.url
	if address == nil {
		address = new(url.URL)
	}
	data := template.AlertTemplateData(t.sample.Metric.Map(), map[string]string{}, address.String(), t.sample)
	expander := template.NewTemplateExpander(ctx, text, "__alert_"+name, data, model.TimeFromUnixNano(t.at.UnixNano()), known.ask, address, nil)
	expander.Funcs(newAllowance(ctx).functions())
	return expander.Expand()
}

// bounded returns labels within the bounds of those of an alert.
func bounded(all labels.Labels) labels.Labels {
	bytes, longest := 0, 0
	all.Range(func(l labels.Label) {
		bytes += len(l.Name) + len(l.Value)
		longest = max(longest, len(l.Value))
	})
	if notify.Fits(all.Len(), bytes, longest) {
		return all
	}
	return labels.FromMap(notify.BoundLabels(all.Map()))
}
