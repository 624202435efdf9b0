package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/perfagent/perfagent/internal/query"
)

// APIOptions is what Prometheus' query API shows.
type APIOptions struct {
	// Engine answers; nil: the API is not served.
	Engine *query.Engine
	// Concurrency bounds the questions that are answered at once; others wait. 0 means query.ConcurrencyDefault.
	Concurrency int
	// Build is what /api/v1/status/buildinfo shows beside the version.
	Build APIBuild
	// Now is the time of a question without one; nil means time.Now.
	Now func() time.Time
}

// APIBuild says what program answers.
type APIBuild struct{ Version, Revision, GoVersion string }

// apiVersion is the release of Prometheus whose engine answers: what clients conclude from a version (whether there are native
// histograms, selectors for label values, warnings) holds for it. A test compares it with go.mod.
const apiVersion = "3.16.0"

const (
	// formBytesMax bounds what a question has in its body; a URL has half of it at most.
	formBytesMax = 64 << 10
	// zipLeast is what need not be packed: it fits into one packet.
	zipLeast = 1400
)

// api answers Prometheus' query API.
type api struct {
	o       APIOptions
	answers *answers
}

// apiFailure is Prometheus' form of an error.
type apiFailure struct {
	Status    string `json:"status" about:"error"`
	ErrorType string `json:"errorType" about:"bad_data, canceled, execution, internal, timeout or unavailable"`
	Error     string `json:"error"`
}

// apiStatus are the statuses that Prometheus answers errors with.
var apiStatus = map[string]int{"bad_data": http.StatusBadRequest, "execution": http.StatusUnprocessableEntity, "canceled": 499,
	"timeout": http.StatusServiceUnavailable, "unavailable": http.StatusServiceUnavailable, "internal": http.StatusInternalServerError}

// apiAnswer writes the whole of an answer.
type apiAnswer func(w io.Writer) error

// apiRoutes are the paths of Prometheus' query API.
func apiRoutes(o APIOptions) []Route {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Concurrency == 0 {
		o.Concurrency = query.ConcurrencyDefault
	}
	a := &api{o: o, answers: newAnswers()}
	a.answers.makersMax = o.Concurrency
	a.answers.refuse = func(w http.ResponseWriter) {
		fail(w, "unavailable", errors.New("too many questions are being answered"))
	}
	at := Parameter{Name: "time", Description: "when; now without it"}
	expr := Parameter{Name: "query", Description: "a PromQL expression"}
	start, end := Parameter{Name: "start", Description: "seconds since 1970 or RFC 3339"}, Parameter{Name: "end", Description: "seconds since 1970 or RFC 3339"}
	step := Parameter{Name: "step", Description: "seconds or a duration such as 1m"}
	limit := Parameter{Name: "limit", Description: "most elements of the answer; 0: no limit"}
	match := Parameter{Name: "match[]", Description: "a selector of series", Repeatable: true}
	timeout := Parameter{Name: "timeout", Description: "seconds or a duration"}
	statistics := Parameter{Name: "stats", Description: "what the evaluation cost: true or all"}
	lookback := Parameter{Name: "lookback_delta", Description: "how long a series keeps its value: seconds or a duration"}
	name := Parameter{Name: "name", Description: "a label's name", InPath: true}
	metric := Parameter{Name: "metric", Description: "a metric's name"}
	return []Route{
		a.route("query", "An expression at one time.", a.query, expr, at, timeout, limit, statistics, lookback),
		a.route("query_range", "An expression at each step of a time.", a.queryRange, expr, start, end, step, timeout, limit, statistics, lookback),
		a.route("series", "The series that selectors choose.", a.series, match, start, end, limit),
		a.route("labels", "The names of labels.", a.labels, match, start, end, limit),
		a.route("label/{name}/values", "The values of a label.", a.labelValues, name, match, start, end, limit),
		a.route("metadata", "What metrics mean.", a.metadata, metric, limit, Parameter{Name: "limit_per_metric", Description: "there is one of each"}),
		a.route("format_query", "An expression as one would write it by hand.", a.format, expr),
		a.route("query_exemplars", "Exemplars, of which there are none.", a.exemplars, expr, start, end),
		a.route("status/buildinfo", "Which Prometheus this answers as.", a.buildinfo),
	}
}

func (a *api) route(path, summary string, answer func(*http.Request) (apiAnswer, error), parameters ...Parameter) Route {
	return Route{
		Path: "/api/v1/" + path, Summary: summary, Methods: []string{http.MethodGet, http.MethodHead, http.MethodPost}, Parameters: parameters,
		Question: true, Failure: apiFailure{},
		Errors: []int{http.StatusUnprocessableEntity, http.StatusInternalServerError, http.StatusServiceUnavailable},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, formBytesMax)
			if err := r.ParseForm(); err != nil {
				fail(w, "bad_data", fmt.Errorf("error parsing form values: %w", err))
				return
			}
			// Nobody shares an answer: it ends with the request that asked for it.
			a.answers.serve(w, r, fmt.Sprintf("%p", r), func(w http.ResponseWriter) { respond(w, r, answer) })
		}),
	}
}

// respond writes an answer, packed where it is worth it, or an error in its place.
func respond(w http.ResponseWriter, r *http.Request, answer func(*http.Request) (apiAnswer, error)) {
	write, err := answer(r)
	if err != nil {
		fail(w, query.ErrorType(err), err)
		return
	}
	var body packed
	if err := errors.Join(write(&body), body.close()); err != nil {
		fail(w, query.ErrorType(err), err)
		return
	}
	body.send(w)
}

// packed collects an answer. What is larger than zipLeast is packed on its way.
type packed struct {
	b   bytes.Buffer
	zip *gzip.Writer
}

var zips = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
	return z
}}

// Write implements io.Writer.
func (p *packed) Write(b []byte) (int, error) {
	if p.zip == nil && p.b.Len()+len(b) > zipLeast {
		plain := bytes.Clone(p.b.Bytes())
		p.b.Reset()
		p.zip = zips.Get().(*gzip.Writer)
		p.zip.Reset(&p.b)
		if _, err := p.zip.Write(plain); err != nil {
			return 0, err
		}
	}
	if p.zip != nil {
		return p.zip.Write(b)
	}
	return p.b.Write(b)
}

func (p *packed) close() error {
	if p.zip == nil {
		return nil
	}
	defer zips.Put(p.zip)
	return p.zip.Close()
}

// send writes the answer, which is JSON.
func (p *packed) send(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Add("Vary", "Accept-Encoding")
	if p.zip != nil {
		w.Header().Set("Content-Encoding", "gzip")
	}
	_, _ = w.Write(p.b.Bytes()) // into memory
}

// fail answers with an error in Prometheus' form.
func fail(w http.ResponseWriter, kind string, err error) {
	body, _ := json.Marshal(apiFailure{"error", kind, err.Error()}) // strings marshal
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(apiStatus[kind])
	_, _ = w.Write(body) // into memory, or the client may be gone
}

// whole is an answer of which the data is known.
func whole(data any) (apiAnswer, error) { return wholeWith(data, nil) }

func wholeWith(data any, warnings []string) (apiAnswer, error) {
	return func(w io.Writer) error {
		text, err := json.Marshal(struct {
			Status   string   `json:"status"`
			Data     any      `json:"data"`
			Warnings []string `json:"warnings,omitempty"`
		}{"success", data, warnings})
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	}, nil
}

func (a *api) query(r *http.Request) (apiAnswer, error) {
	p := parameters{form: r.Form}
	q := p.question()
	q.Start = p.time("time", a.o.Now())
	q.End = q.Start
	return a.ask(r.Context(), q, p.err)
}

func (a *api) queryRange(r *http.Request) (apiAnswer, error) {
	p := parameters{form: r.Form}
	q := p.question()
	q.Start, q.End, q.Step = p.needed("start"), p.needed("end"), p.duration("step", true)
	switch {
	case p.err != nil:
	case q.End.Before(q.Start):
		p.fail("end", errors.New("end timestamp must not be before start time"))
	case q.Step <= 0:
		p.fail("step", errors.New("zero or negative query resolution step widths are not accepted. Try a positive integer"))
	case q.Step < time.Millisecond:
		p.fail("step", errors.New("steps below a millisecond are not accepted"))
	}
	return a.ask(r.Context(), q, p.err)
}

func (a *api) ask(ctx context.Context, q query.Question, malformed error) (apiAnswer, error) {
	if malformed != nil {
		return nil, malformed
	}
	answer, err := a.o.Engine.Ask(ctx, q)
	if err != nil {
		return nil, err
	}
	return func(w io.Writer) error {
		defer answer.Close()
		return answer.WriteJSON(w)
	}, nil
}

func (a *api) series(r *http.Request) (apiAnswer, error) {
	p := parameters{form: r.Form}
	from, to, limit := p.time("start", timeMin), p.time("end", timeMax), p.limit("limit")
	if p.err == nil && len(r.Form["match[]"]) == 0 {
		p.err = query.BadDataError{Err: errors.New("no match[] parameter provided")}
	}
	if p.err != nil {
		return nil, p.err
	}
	found, err := a.o.Engine.Series(r.Context(), r.Form["match[]"], from, to, limit)
	if err != nil {
		return nil, err
	}
	return func(w io.Writer) error { return query.WriteLabels(w, found) }, nil
}

func (a *api) labels(r *http.Request) (apiAnswer, error) {
	return a.texts(r, a.o.Engine.LabelNames)
}

func (a *api) labelValues(r *http.Request) (apiAnswer, error) {
	name := r.PathValue("name")
	if !model.UTF8Validation.IsValidLabelName(name) {
		return nil, query.BadDataError{Err: fmt.Errorf("invalid label name: %q", name)}
	}
	return a.texts(r, func(ctx context.Context, selectors []string, from, to time.Time, limit int) (query.Found[string], error) {
		return a.o.Engine.LabelValues(ctx, name, selectors, from, to, limit)
	})
}

func (a *api) texts(r *http.Request, find func(ctx context.Context, selectors []string, from, to time.Time, limit int) (query.Found[string], error)) (apiAnswer, error) {
	p := parameters{form: r.Form}
	from, to, limit := p.time("start", timeMin), p.time("end", timeMax), p.limit("limit")
	if p.err != nil {
		return nil, p.err
	}
	found, err := find(r.Context(), r.Form["match[]"], from, to, limit)
	if err != nil {
		return nil, err
	}
	return wholeWith(append([]string{}, found.All...), found.Warnings)
}

func (a *api) metadata(r *http.Request) (apiAnswer, error) {
	p := parameters{form: r.Form}
	limit := p.limit("limit")
	p.limit("limit_per_metric")
	if p.err != nil {
		return nil, p.err
	}
	return whole(a.o.Engine.Metadata(r.Form.Get("metric"), limit))
}

func (a *api) format(r *http.Request) (apiAnswer, error) {
	text, err := a.o.Engine.Format(r.Form.Get("query"))
	if err != nil {
		return nil, err
	}
	return whole(text)
}

func (a *api) exemplars(r *http.Request) (apiAnswer, error) {
	p := parameters{form: r.Form}
	p.time("start", timeMin)
	p.time("end", timeMax)
	if p.err != nil {
		return nil, p.err
	}
	if _, err := a.o.Engine.Format(r.Form.Get("query")); err != nil {
		return nil, err
	}
	return whole([]string{})
}

func (a *api) buildinfo(*http.Request) (apiAnswer, error) {
	return whole(map[string]string{"version": apiVersion, "revision": a.o.Build.Revision, "branch": "perfagent " + a.o.Build.Version,
		"buildUser": "", "buildDate": "", "goVersion": a.o.Build.GoVersion})
}

// timeMin and timeMax are what times are bounded to: years that RFC 3339 has.
var timeMin, timeMax = time.Unix(-62135596800, 0).UTC(), time.Unix(253402300799, 0).UTC()

// parameters reads the parameters of a question; err is the first that is malformed.
type parameters struct {
	form url.Values
	err  error
}

func (p *parameters) fail(name string, err error) {
	if p.err == nil {
		p.err = query.BadDataError{Err: fmt.Errorf("invalid parameter %q: %w", name, err)}
	}
}

func (p *parameters) question() query.Question {
	q := query.Question{Expr: p.form.Get("query"), Limit: p.limit("limit"), Stats: p.form.Get("stats"),
		Timeout: p.duration("timeout", false), Lookback: p.duration("lookback_delta", false)}
	if q.Lookback < 0 || q.Timeout < 0 {
		p.fail("timeout", errors.New("durations must not be negative"))
	}
	return q
}

// time reads a time that may be left out.
func (p *parameters) time(name string, without time.Time) time.Time {
	if p.form.Get(name) == "" {
		return without
	}
	return p.needed(name)
}

// needed reads a time: seconds since 1970, or RFC 3339.
func (p *parameters) needed(name string) time.Time {
	text := p.form.Get(name)
	if s, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(s) {
		ms := math.Round(min(max(s, float64(timeMin.Unix())), float64(timeMax.Unix())) * 1000)
		return time.UnixMilli(int64(ms)).UTC()
	}
	switch text { // the bounds of time that Prometheus' own clients send have too many digits for RFC 3339
	case "-292273086-05-16T16:47:06Z":
		return timeMin
	case "292277025-08-18T07:12:54.999999999Z":
		return timeMax
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		p.fail(name, fmt.Errorf("cannot parse %q to a valid timestamp", text))
	}
	return t
}

// duration reads seconds, or a duration such as 1m30s.
func (p *parameters) duration(name string, needed bool) time.Duration {
	text := p.form.Get(name)
	if text == "" && !needed {
		return 0
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil {
		ns := s * float64(time.Second)
		if math.IsNaN(ns) || ns >= math.MaxInt64 || ns <= math.MinInt64 {
			p.fail(name, fmt.Errorf("cannot parse %q to a valid duration. It overflows int64", text))
			return 0
		}
		return time.Duration(ns)
	}
	d, err := model.ParseDuration(text)
	if err != nil {
		p.fail(name, fmt.Errorf("cannot parse %q to a valid duration", text))
	}
	return time.Duration(d)
}

func (p *parameters) limit(name string) int {
	text := p.form.Get(name)
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		p.fail(name, err)
	case n < 0:
		p.fail(name, errors.New("limit must be non-negative"))
	}
	return max(n, 0)
}
