package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/stats"
)

// Question is what a client asks.
type Question struct {
	Expr       string
	Start, End time.Time     // of an instant the same
	Step       time.Duration // 0: an instant
	Timeout    time.Duration // if it is less than the engine's; 0 means that
	Lookback   time.Duration // 0 means the usual 5 minutes, and an hour more where hours alone are kept
	Limit      int           // most series of the answer; 0: no limit
	Stats      string        // "": none; "all": by step as well
	// WindowSamples is how many intervals a window has at least, if longer ones are read where they suffice; 0 means 60, with which
	// what is extrapolated at a window's ends is next to nothing.
	WindowSamples int
}

// Answer is what was found. It must be closed.
type Answer struct {
	Value    parser.Value
	Warnings []string // what the answer may lack
	Infos    []string // what the question may have meant
	Stats    stats.QueryStats

	query promql.Query // that the value belongs to; nil: none
}

// Close gives back what the answer holds.
func (a *Answer) Close() {
	if a.query != nil {
		a.query.Close()
	}
}

// annotationsMax bounds the warnings of an answer, as in Prometheus.
const annotationsMax = 10

// Ask evaluates an expression at one time, or at each step of a range.
func (e *Engine) Ask(ctx context.Context, q Question) (*Answer, error) {
	expr, err := e.parse(q.Expr)
	if err != nil {
		return nil, BadDataError{fmt.Errorf("invalid parameter \"query\": %w", err)}
	}
	if q.Step > 0 && q.End.Sub(q.Start)/q.Step > stepsMax {
		return nil, BadDataError{errors.New("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")}
	}
	ctx, cancel := context.WithTimeout(ctx, min(cmp.Or(q.Timeout, e.o.Timeout), e.o.Timeout)) // of all its parts
	defer cancel()
	if q.Lookback == 0 {
		q.Lookback = e.lookbackOf(expr, &q)
	}
	a, err := e.evaluate(ctx, &q, expr)
	if tooMuch(err) && q.isDivisible(expr) {
		a, err = e.divide(ctx, &q, expr)
	}
	if err != nil {
		return nil, err
	}
	a.truncate(q.Limit)
	return a, nil
}

// evaluate has the engine answer a question as a whole.
func (e *Engine) evaluate(ctx context.Context, q *Question, expr parser.Expr) (*Answer, error) {
	seriesSamples, err := e.bounded(expr, q.Start, q.End, q.Step)
	if errors.Is(err, errManySelected) {
		return nil, err
	}
	if err != nil {
		return nil, BadDataError{fmt.Errorf("invalid parameter \"query\": %w", err)}
	}
	options := promql.NewPrometheusQueryOpts(q.Stats == "all", q.Lookback, nil)
	var query promql.Query
	if q.Step > 0 {
		query, err = e.queries.NewRangeQuery(ctx, e.queryable(q.Lookback, 0, seriesSamples, q.WindowSamples), options, q.Expr, q.Start, q.End, q.Step)
	} else {
		query, err = e.queries.NewInstantQuery(ctx, e.queryable(q.Lookback, 0, seriesSamples, q.WindowSamples), options, q.Expr, q.Start)
	}
	if queued := inTime(err, "query queue"); queued != nil {
		return nil, queued
	}
	if kind := ErrorType(err); err != nil && (kind == "timeout" || kind == "canceled") {
		return nil, err
	}
	if err != nil {
		return nil, BadDataError{fmt.Errorf("invalid parameter \"query\": %w", err)}
	}
	r := query.Exec(ctx)
	if r.Err != nil {
		query.Close()
		return nil, cmp.Or(inTime(r.Err, "query queue"), r.Err)
	}
	a := &Answer{Value: r.Value, query: query}
	a.Warnings, a.Infos = r.Warnings.AsStrings(q.Expr, annotationsMax, annotationsMax)
	if q.Stats != "" {
		a.Stats = stats.NewQueryStats(query.Stats())
	}
	return a, nil
}

// inTime is Prometheus' error where the time was over, or the client gone, during something; nil where it was not.
func inTime(err error, during string) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return promql.ErrQueryTimeout(during)
	case errors.Is(err, context.Canceled):
		return promql.ErrQueryCanceled(during)
	}
	return nil
}

// lookbackOf is how long a series keeps its value: where hours alone are kept, until the next one.
func (e *Engine) lookbackOf(expr parser.Expr, q *Question) time.Duration {
	h := e.history()
	if h == nil {
		return lookback
	}
	earliest, _ := promql.FindMinMaxTime(&parser.EvalStmt{Expr: expr, Start: q.Start, End: q.End, Interval: q.Step, LookbackDelta: lookback})
	state := h.Stats()
	if before, some := state.OnlyHours(); some && earliest < before.UnixMilli() {
		return lookback + time.Hour
	}
	return lookback
}

// truncate cuts the answer to a number of series; 0: it does not.
func (a *Answer) truncate(limit int) {
	if limit == 0 {
		return
	}
	switch v := a.Value.(type) {
	case promql.Vector:
		if len(v) <= limit {
			return
		}
		a.Value = v[:limit]
	case promql.Matrix:
		if len(v) <= limit {
			return
		}
		a.Value = v[:limit]
	default:
		return
	}
	a.Warnings = append(a.Warnings, truncated)
}

// Format writes an expression as one would by hand.
func (e *Engine) Format(expr string) (string, error) {
	parsed, err := e.parse(expr)
	if err != nil {
		return "", BadDataError{fmt.Errorf("invalid parameter \"query\": %w", err)}
	}
	return parsed.Pretty(0), nil
}

// ErrorType is what Prometheus' API calls an error: bad_data, canceled, timeout, unavailable, internal or execution.
func ErrorType(err error) string {
	var malformed BadDataError
	var canceled promql.ErrQueryCanceled
	var timeout promql.ErrQueryTimeout
	var storage promql.ErrStorage
	switch {
	case errors.As(err, &malformed):
		return "bad_data"
	case errors.Is(err, ErrNoHistory):
		return "unavailable"
	case errors.As(err, &timeout):
		return "timeout"
	case errors.As(err, &canceled):
		return "canceled"
	case errors.As(err, &storage):
		return "internal"
	}
	return "execution"
}
