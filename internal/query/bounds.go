package query

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/strutil"
)

// The engine looks at its bounds while it evaluates. What it takes before that, or where it looks at neither the samples nor the
// time, is bounded here, by what the expression says.

const (
	// tokensMax bounds an expression, also its nesting: parser and engine take up to .3 s for as many signs of one term, four times
	// that for twice as many. The longest of dashboards have some hundred, and a regular expression is one.
	tokensMax = 5_000
	// subqueryStepsMax bounds the evaluations of all subqueries of an expression, for which the engine takes 16 bytes each beforehand:
	// 0.8 MB. [7d:1m] has 10,080, [30d:1m] 43,200.
	subqueryStepsMax = 50_000
	// fixedPointsMax bounds the points of windows with @ that are evaluated at each step anew, within which the engine looks at no
	// time: a second for the slowest function.
	fixedPointsMax = 5_000_000
	// regexpSizeMax bounds a regular expression whose repetitions are written out, which it is compiled to: 40 bytes each. What is
	// longer without them is bounded by the form that brings it.
	regexpSizeMax = 10_000
	// replaceSizeMax bounds those of label_replace, which is applied to thousands of values without a look at the time.
	replaceSizeMax = 500
	// seriesBytes is what a series in a selection takes with its labels, its iterator and its result.
	seriesBytes = 512
	// joinBytes is what a series more takes where it is joined with others.
	joinBytes = 640
	// valueBytes is what a label's value usually has at most.
	valueBytes = 64
	// labelBytesMax bounds the labels that an expression puts together, for one series each.
	labelBytesMax = 1 << 20
	// placesMax is for how many steps the engine has places in a series at once.
	placesMax = 5_000
	// sampleBytes is what the engine takes for a number with its time.
	sampleBytes = 16
)

var (
	errLong = fmt.Errorf("the expression has more than %d numbers, names and signs", tokensMax)
	// errSubquerySteps has the words of that of ranges.
	errSubquerySteps = fmt.Errorf("exceeded maximum resolution of %d steps in subqueries. Try a longer step ([range:step]) or a shorter range", subqueryStepsMax)
	errFixedPoints   = fmt.Errorf("a window with @ and a parameter that changes would be evaluated over more than %d points", fixedPointsMax)
	errManySelected  = errors.New("query processing would load too many samples into memory: a series counts as 32 samples and one for each step, more with label_replace and count_values. Try more matchers, fewer steps, or native histograms in place of buckets")
)

// parse reads an expression, and refuses what would take too much only to be read.
func (e *Engine) parse(text string) (parser.Expr, error) {
	if err := checkText(text); err != nil {
		return nil, err
	}
	return e.parser.ParseExpr(text)
}

// checkText bounds what the parser takes. It finds no fault with what is none to the parser.
func checkText(text string) error {
	l := parser.Lex(text)
	var item parser.Item
	isRegexp := false
	for n := 0; ; n++ {
		l.NextItem(&item)
		if item.Typ == parser.EOF || item.Typ == parser.ERROR {
			return nil
		}
		if n == tokensMax {
			return errLong
		}
		if isRegexp && item.Typ == parser.STRING {
			if re, err := strutil.Unquote(item.Val); err == nil && regexpSize(re) > regexpSizeMax+len(re) {
				return fmt.Errorf("the regular expression %.50q repeats too much", re)
			}
		}
		isRegexp = item.Typ == parser.EQL_REGEX || item.Typ == parser.NEQ_REGEX
	}
}

// CheckSelectors says which of some selectors of series takes too much to be read.
func CheckSelectors(texts []string) error {
	for _, text := range texts {
		if err := checkText(text); err != nil {
			return BadDataError{fmt.Errorf("invalid parameter \"match[]\": %w", err)}
		}
	}
	return nil
}

// regexpSize is how many characters and classes a regular expression has, its repetitions written out. 0: it is none.
func regexpSize(text string) int {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0
	}
	return expandedSize(re)
}

func expandedSize(re *syntax.Regexp) int {
	n := 0
	switch {
	case re.Op == syntax.OpLiteral:
		n = len(re.Rune)
	case len(re.Sub) == 0:
		n = max(1, len(re.Rune)/2) // a class has two for each range
	}
	for _, sub := range re.Sub {
		n += expandedSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return n
}

// evaluations are those of an expression: from the first to the last at each interval, ms.
type evaluations struct{ first, last, interval int64 }

func (e evaluations) count() int64 {
	if e.last < e.first {
		return 0
	}
	return (e.last-e.first)/e.interval + 1
}

// of returns the evaluations of what a subquery has in it, as the engine has them.
func (e evaluations) of(s *parser.SubqueryExpr) evaluations {
	step := s.Step
	if step == 0 {
		step = subqueryStep
	}
	inner := evaluations{interval: max(step.Milliseconds(), 1)}
	offset, last := s.OriginalOffset.Milliseconds(), e.first
	if s.Timestamp != nil {
		offset += e.first - *s.Timestamp
	} else if n := e.count(); n > 0 {
		last = e.first + (n-1)*e.interval
	}
	inner.first = floor(e.first-offset-s.Range.Milliseconds(), inner.interval) + inner.interval
	inner.last = last - offset
	return inner
}

// bounded checks an expression that will be evaluated, and returns what each series of its selectors takes, in samples.
func (e *Engine) bounded(expr parser.Expr, start, end time.Time, step time.Duration) (seriesSamples int, err error) {
	at := evaluations{first: start.UnixMilli(), last: end.UnixMilli(), interval: max(step.Milliseconds(), 1)}
	if step == 0 {
		at.last = at.first
	}
	if expr, err = promql.PreprocessExpr(expr, start, end, step); err != nil {
		return 0, err
	}
	var b bounds
	if err := b.walk(expr, at); err != nil {
		return 0, err
	}
	seriesSamples = seriesBytes/sampleBytes + int(b.valuesSamples)
	_, made := b.labelBytes(expr)
	if b.joins {
		seriesSamples += joinBytes / sampleBytes
	}
	if seriesSamples += made / sampleBytes; seriesSamples > e.o.MaxSamples || b.labels > labelBytesMax {
		return 0, errManySelected
	}
	return seriesSamples, nil
}

// bounds is what an expression takes so far.
type bounds struct {
	subquerySteps int64
	valuesSamples int64 // of one series, for count_values
	joins         bool  // of series that are not aggregated
	labels        int   // bytes of all labels that functions put together, for one series each
}

func (b *bounds) walk(node parser.Node, at evaluations) error {
	switch n := node.(type) {
	case *parser.StepInvariantExpr:
		at.last = at.first
	case *parser.SubqueryExpr:
		inner := at.of(n)
		if b.subquerySteps += inner.count(); b.subquerySteps > subqueryStepsMax {
			return errSubquerySteps
		}
		if n.Timestamp != nil && inner.count() > fixedPointsMax/max(at.count(), 1) {
			return errFixedPoints
		}
		at = inner
	case *parser.MatrixSelector:
		if v, is := n.VectorSelector.(*parser.VectorSelector); is && v.Timestamp != nil && n.Range.Milliseconds()/shortest > fixedPointsMax/max(at.count(), 1) {
			return errFixedPoints
		}
	case *parser.BinaryExpr:
		b.joins = b.joins || n.VectorMatching != nil && single(n)
	case *parser.AggregateExpr:
		if n.Op == parser.COUNT_VALUES { // at worst each value is a new series, with places for all steps
			b.valuesSamples += at.count() * min(at.count(), placesMax)
		}
	case *parser.Call:
		if n.Func.Name == "label_replace" && regexpSize(text(n, 4)) > replaceSizeMax {
			return fmt.Errorf("the regular expression %.50q of label_replace is too long", text(n, 4))
		}
	}
	for child := range parser.ChildrenIter(node) {
		if err := b.walk(child, at); err != nil {
			return err
		}
	}
	return nil
}

// single tells whether an expression has the series of a selector, which no aggregation has made fewer.
func single(node parser.Node) bool {
	switch node.(type) {
	case *parser.AggregateExpr:
		return false
	case *parser.VectorSelector:
		return true
	}
	for child := range parser.ChildrenIter(node) {
		if single(child) {
			return true
		}
	}
	return false
}

// labelBytes estimates what functions add to each series of an expression: value is the longest of a label, all is the sum on the
// way that adds most. A function that puts a value together of itself, twice, doubles it each time it is nested.
func (b *bounds) labelBytes(node parser.Node) (value, all int) {
	value = valueBytes
	for child := range parser.ChildrenIter(node) {
		v, a := b.labelBytes(child)
		value, all = max(value, v), max(all, a)
	}
	call, is := node.(*parser.Call)
	if !is {
		return value, all
	}
	made := 0
	switch call.Func.Name {
	case "label_replace":
		made = value*strings.Count(text(call, 2), "$") + len(text(call, 2))
	case "label_join":
		made = (value + len(text(call, 2))) * (len(call.Args) - 3)
	}
	made = min(made, labelBytesMax+1)
	b.labels += made
	return max(value, made), all + made
}

// text is a function's argument that is a text; "" where it is none.
func text(call *parser.Call, i int) string {
	if i < len(call.Args) {
		if s, is := call.Args[i].(*parser.StringLiteral); is {
			return s.Val
		}
	}
	return ""
}

// charge counts the series of a selection, and those places of the largest that the engine may make for its steps, whether there are
// samples or not. It refuses what is beyond that which a query may take.
func (q *querier) charge(series int, hints *storage.SelectHints) error {
	steps := int64(1)
	if hints.Step > 0 {
		window := hints.Range
		if window == 0 {
			window = q.lookback.Milliseconds()
		}
		steps += max(hints.End-hints.Start-(window-1), 0) / hints.Step // the window's first ms is not in it
	}
	q.samples += series * q.seriesSamples
	q.places = max(q.places, series*int(min(steps, placesMax)))
	if q.samples+q.places > q.engine.o.MaxSamples {
		return errManySelected
	}
	return nil
}
