package query

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// A range of steps that is too much at once is evaluated in parts: what is found at a step does not depend on the others, and most
// expressions make few series of many. A panel over the buckets of 200 endpoints, three statuses each, has 13,200 series in its
// selection, of which 80 steps fit; its answer has 200.

// tooMuch tells whether a question was refused for what it takes at once.
func tooMuch(err error) bool {
	var samples promql.ErrTooManySamples
	return errors.Is(err, errManySelected) || errors.As(err, &samples)
}

// isDivisible tells whether a question is one of several steps, of which none says how the others are.
func (q *Question) isDivisible(expr parser.Expr) bool {
	if q.Step == 0 || q.Stats != "" || q.steps() < 2 {
		return false
	}
	whole := false // it names the range's start or end
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			whole = whole || n.StartOrEnd != 0
		case *parser.SubqueryExpr:
			whole = whole || n.StartOrEnd != 0
		case *parser.DurationExpr:
			whole = true // it may count on the step or the range
		}
		return nil
	})
	return !whole
}

// steps is how many instants the range has.
func (q *Question) steps() int { return int(q.End.Sub(q.Start)/q.Step) + 1 }

// divide evaluates a range in parts, each with half of the steps where the part before was too much.
func (e *Engine) divide(ctx context.Context, q *Question, expr parser.Expr) (*Answer, error) {
	all := parts{at: map[uint64][]int{}}
	steps := q.steps()
	for done, size := 0, (steps+1)/2; done < steps; {
		part := *q
		part.Start = q.Start.Add(q.Step * time.Duration(done))
		part.End = part.Start.Add(q.Step * time.Duration(min(size, steps-done)-1))
		a, err := e.evaluate(ctx, &part, expr)
		if tooMuch(err) && size > 1 {
			size = (size + 1) / 2
			continue
		}
		if err != nil {
			return nil, err
		}
		all.add(a)
		a.Close()
		if all.points > e.o.MaxSamples {
			return nil, errManySelected
		}
		done += size
	}
	return all.answer(), nil
}

// parts puts the answers of parts together, each of which is later than those before.
type parts struct {
	series          promql.Matrix
	at              map[uint64][]int // where series are, by the hash of their labels
	points          int              // of 16 bytes
	warnings, infos []string
}

// add takes over what the engine takes back.
func (p *parts) add(a *Answer) {
	p.warnings, p.infos = union(p.warnings, a.Warnings), union(p.infos, a.Infos)
	matrix, _ := a.Value.(promql.Matrix) // a range has no other value
	for i := range matrix {
		s := &matrix[i]
		to := p.of(s.Metric)
		to.Floats = append(to.Floats, s.Floats...)
		p.points += len(s.Floats)
		for _, h := range s.Histograms {
			to.Histograms = append(to.Histograms, promql.HPoint{T: h.T, H: h.H.Copy()})
			p.points += h.H.Size() / sampleBytes
		}
	}
}

// of returns the series with these labels, which is new where no part had it.
func (p *parts) of(metric labels.Labels) *promql.Series {
	hash := metric.Hash()
	for _, i := range p.at[hash] {
		if labels.Equal(p.series[i].Metric, metric) {
			return &p.series[i]
		}
	}
	p.at[hash] = append(p.at[hash], len(p.series))
	p.series = append(p.series, promql.Series{Metric: metric})
	p.points += seriesBytes / sampleBytes
	return &p.series[len(p.series)-1]
}

func (p *parts) answer() *Answer {
	slices.SortFunc(p.series, func(a, b promql.Series) int { return labels.Compare(a.Metric, b.Metric) })
	return &Answer{Value: p.series, Warnings: p.warnings, Infos: p.infos}
}

// union adds what is not there yet, up to annotationsMax.
func union(all, more []string) []string {
	for _, text := range more {
		if len(all) < annotationsMax && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}
