package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Route is a path that the server serves. One table of them registers the handlers and makes /openapi.json, so that
// neither knows a path that the other does not.
type Route struct {
	Path    string
	Pattern string // of net/http, where the path has a parameter that is a part of a segment; empty means the path
	Summary string // one line, for people
	// Methods are what the path takes; empty means GET, and HEAD with it unless the answer is endless.
	Methods    []string
	Parameters []Parameter
	// MediaType is of a successful answer; empty means application/json.
	MediaType string
	// Response is a value of the type that a JSON answer has; nil: any.
	Response any
	// Errors are the statuses of problem documents that it may answer with, beside 400 (with parameters) and 405.
	Errors []int
	// Failure is a value of the type that errors have where they are no problem documents; nil: they are.
	Failure any
	// Question says that a POST asks, as a GET does, with parameters in its body, and changes nothing. So it is taken from pages of
	// other sites as well, which a proxy's headers may be of; they cannot read the answer.
	Question bool
	Handler  http.Handler // nil: another route of the table serves it
	// Endless says that the answer goes on until the client leaves or the server ends, as an event stream does. What the
	// handler writes is sent at once, and the server's timeout for writing does not hold for it. It may be answered with 503.
	Endless bool
}

// Parameter is one of a path's query.
type Parameter struct {
	Name, Description string
	// Enum are the values it may have. Without, it is a number where Most is set, else a string.
	Enum        []string
	Least, Most int
	Default     string
	Repeatable  bool
	InPath      bool // it stands in the path, not in the query
}

func (r *Route) methods() []string {
	if len(r.Methods) > 0 {
		return r.Methods
	}
	if r.Endless {
		return []string{http.MethodGet}
	}
	return []string{http.MethodGet, http.MethodHead}
}

func (r *Route) mediaType() string {
	if r.MediaType != "" {
		return r.MediaType
	}
	return "application/json"
}

// register makes the mux serve the route, and refuse other methods.
func (r Route) register(mux *http.ServeMux) {
	if r.Handler == nil {
		return
	}
	pattern := cmp.Or(r.Pattern, r.Path)
	if pattern == "/" {
		pattern = "/{$}"
	}
	handler := r.Handler
	if r.Endless {
		handler = endless(handler)
	}
	mux.HandleFunc(pattern, func(w http.ResponseWriter, q *http.Request) {
		if allowMethods(w, q, r.methods()...) {
			handler.ServeHTTP(w, q)
		}
	})
}

// query returns the parameters of a request, each with its value or default. Unknown, repeated and wrong ones are errors: a
// parameter that does nothing misleads.
func (r *Route) query(raw string) (map[string]string, error) {
	given, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fmt.Errorf("the query is malformed: %w", err)
	}
	values := make(map[string]string, len(r.Parameters))
	for i := range r.Parameters {
		p := &r.Parameters[i]
		if p.InPath {
			continue
		}
		values[p.Name] = p.Default
		texts, ok := given[p.Name]
		delete(given, p.Name)
		if !ok {
			continue
		}
		if len(texts) > 1 {
			return nil, fmt.Errorf("%s is given %d times", p.Name, len(texts))
		}
		if err := p.check(texts[0]); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		values[p.Name] = texts[0]
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		return nil, fmt.Errorf("unknown parameter %q; %s takes %s", name, r.Path, r.parameterNames())
	}
	return values, nil
}

func (r *Route) parameterNames() string {
	if len(r.Parameters) == 0 {
		return "none"
	}
	var names []string
	for i := range r.Parameters {
		names = append(names, r.Parameters[i].Name)
	}
	return strings.Join(names, ", ")
}

func (p *Parameter) check(text string) error {
	switch {
	case len(p.Enum) > 0:
		if !slices.Contains(p.Enum, text) {
			return fmt.Errorf("%q is not one of %s", text, strings.Join(p.Enum, ", "))
		}
	case p.Most > 0:
		if n, err := strconv.Atoi(text); err != nil || n < p.Least || n > p.Most {
			return fmt.Errorf("%q is not a number from %d to %d", text, p.Least, p.Most)
		}
	case text == "":
		return errors.New("the value is empty")
	}
	return nil
}

// statusError is an error of an answer that has another status than the server's own.
type statusError struct {
	status int
	err    error
}

func (e statusError) Error() string { return e.err.Error() }
func (e statusError) Unwrap() error { return e.err }

// serve makes a handler of what answers a query. Its error is the server's, not the client's, unless it is a statusError.
func (r Route) serve(answer func(q map[string]string) (write func(http.ResponseWriter), err error)) Route {
	answers := newAnswers()
	r.Errors = append(r.Errors, http.StatusInternalServerError, http.StatusServiceUnavailable)
	r.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		q, err := r.query(req.URL.RawQuery)
		if err != nil {
			problem(w, http.StatusBadRequest, err.Error())
			return
		}
		for i := range r.Parameters {
			if p := &r.Parameters[i]; p.InPath {
				q[p.Name] = req.PathValue(p.Name)
			}
		}
		key := make(url.Values, len(q))
		for name, value := range q {
			key.Set(name, value)
		}
		answers.serve(w, req, key.Encode(), func(w http.ResponseWriter) {
			write, err := answer(q)
			if err != nil {
				status := statusError{http.StatusInternalServerError, err}
				errors.As(err, &status)
				problem(w, status.status, err.Error())
				return
			}
			write(w)
		})
	})
	return r
}

// serveJSON is serve for documents.
func (r Route) serveJSON(answer func(q map[string]string) (any, error)) Route {
	return r.serve(func(q map[string]string) (func(http.ResponseWriter), error) {
		document, err := answer(q)
		return func(w http.ResponseWriter) { writeJSON(w, document) }, err
	})
}

func writeJSON(w http.ResponseWriter, document any) {
	body, err := json.Marshal(document)
	if err != nil {
		problem(w, http.StatusInternalServerError, "the answer could not be encoded: "+err.Error())
		return
	}
	var answer packed
	_, err = answer.Write(append(body, '\n'))
	if err := errors.Join(err, answer.close()); err != nil {
		problem(w, http.StatusInternalServerError, "the document could not be packed: "+err.Error())
		return
	}
	answer.send(w)
}
