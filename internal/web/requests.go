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
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/trace"
	"github.com/perfagent/perfagent/internal/wire"
)

const (
	requestsLimitDefault = 50
	requestsLimitMax     = 1000 // more than are kept of a kind
)

// RequestsQuery chooses kept exchanges, as query parameters of GET /requests. The zero value chooses all.
type RequestsQuery struct {
	trace.Filter          // service and status (repeatable), slower
	Routes       []string // route: exactly this http_route; repeatable
	Methods      []string // method, repeatable
	Role         string   // role: server, client; "": both
	// Kinds are the kinds to show (kind; repeatable, or separated by commas); empty: all.
	Kinds []analytics.RequestKind
	// Limit is the most exchanges of each kind; 0: 50.
	Limit int
}

// ParseRequestsQuery returns the query that the parameters ask for. The error begins with the name of the parameter that is
// wrong. Unknown parameters are errors: a filter that does nothing misleads.
func ParseRequestsQuery(v url.Values) (q RequestsQuery, err error) {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		values := v[name]
		value := values[len(values)-1]
		if len(values) > 1 && (name == "slower" || name == "role" || name == "limit") {
			return q, fmt.Errorf("%q is given %d times", name, len(values))
		}
		switch name {
		case "service":
			q.Services = values
		case "route":
			q.Routes = values
		case "method":
			q.Methods = values
		case "status":
			q.Status = trace.SplitStatus(values)
		case "slower":
			q.Slower, err = time.ParseDuration(value)
		case "role":
			if q.Role = value; value != wire.RoleServer.String() && value != wire.RoleClient.String() {
				err = errors.New("is neither server nor client")
			}
		case "kind":
			q.Kinds, err = parseKinds(values)
		case "limit":
			if q.Limit, err = strconv.Atoi(value); err != nil || q.Limit < 1 || q.Limit > requestsLimitMax {
				err = fmt.Errorf("%q is not a number from 1 to %d", value, requestsLimitMax)
			}
		default:
			err = errors.New("unknown parameter")
		}
		if err != nil {
			return q, fmt.Errorf("%q: %w", name, err)
		}
	}
	return q, q.Validate()
}

func parseKinds(lists []string) (kinds []analytics.RequestKind, err error) {
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			kind := analytics.RequestKind(strings.TrimSpace(name))
			if !slices.Contains(analytics.RequestKinds, kind) {
				return nil, fmt.Errorf("%q is none of failed, slowest, client_error, sample", name)
			}
			kinds = append(kinds, kind)
		}
	}
	return kinds, nil
}

// Match reports whether the query chooses ex.
func (q *RequestsQuery) Match(ex *wire.Exchange) bool {
	if len(q.Routes) > 0 && !slices.Contains(q.Routes, ex.Name) {
		return false
	}
	if len(q.Methods) > 0 && !slices.ContainsFunc(q.Methods, func(m string) bool {
		return strings.EqualFold(m, ex.Verb) || m == string(ex.MethodOriginal)
	}) {
		return false
	}
	return q.Filter.Match(ex)
}

// KeptRequest is an exchange of /requests: what trace shows of it, and why it was kept.
type KeptRequest struct {
	Kinds []analytics.RequestKind `json:"kinds"`
	*export.Object
}

// RequestsDocument is the answer of GET /requests. Failed exchanges come first, then the slowest, client errors, and the
// sample of the rest; the slowest by duration, the others by time, newest first. One that is of two kinds stands where the
// first of them does.
type RequestsDocument struct {
	Time                 time.Time `json:"time"`
	SlowestWindowSeconds float64   `json:"slowest_window_seconds"`
	WindowSeconds        float64   `json:"window_seconds"` // of the other kinds
	// Matched is how many kept exchanges the query chooses; fewer are shown where the limit is reached.
	Matched  int            `json:"matched"`
	Requests []*KeptRequest `json:"requests"`
}

// RequestsHandler serves GET /requests.
type RequestsHandler struct {
	source   *analytics.Requests
	rawPaths atomic.Bool
	finding  atomic.Pointer[func(*wire.Exchange) string]
	answers  *answers
}

// NewRequestsHandler returns a handler of what the source keeps.
func NewRequestsHandler(source *analytics.Requests) *RequestsHandler {
	return &RequestsHandler{source: source, answers: newAnswers()}
}

// SetRawPaths says whether paths are shown unmasked.
func (h *RequestsHandler) SetRawPaths(raw bool) { h.rawPaths.Store(raw) }

// SetFinding says what finding an exchange belongs to, "" for none.
func (h *RequestsHandler) SetFinding(of func(*wire.Exchange) string) { h.finding.Store(&of) }

// Route returns what the server serves.
func (h *RequestsHandler) Route() Route {
	var kinds []string
	for _, k := range analytics.RequestKinds {
		kinds = append(kinds, string(k))
	}
	return Route{
		Path: "/requests", Summary: "Recent exchanges: the failed, the slowest, client errors, a sample of the rest.",
		Response: RequestsDocument{}, Errors: []int{http.StatusInternalServerError, http.StatusServiceUnavailable}, Handler: h,
		Parameters: []Parameter{
			{Name: "service", Description: "service_name, a glob such as shop-* too", Repeatable: true},
			{Name: "route", Description: "exactly this http_route", Repeatable: true},
			{Name: "method", Description: "request method", Repeatable: true},
			{Name: "status", Description: "404, 5xx, error, aborted, timeout, or several separated by commas", Repeatable: true},
			{Name: "slower", Description: "only exchanges that took at least this long, such as 250ms"},
			{Name: "role", Description: "which end; both without", Enum: []string{wire.RoleServer.String(), wire.RoleClient.String()}},
			{Name: "kind", Description: "one of " + strings.Join(kinds, ", ") + ", or several separated by commas; all without", Repeatable: true},
			{Name: "limit", Description: "most exchanges of each kind", Least: 1, Most: requestsLimitMax, Default: strconv.Itoa(requestsLimitDefault)},
		},
	}
}

// ServeHTTP implements http.Handler.
func (h *RequestsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		problem(w, http.StatusBadRequest, "the query is malformed: "+err.Error())
		return
	}
	q, err := ParseRequestsQuery(v)
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	h.answers.serve(w, r, v.Encode(), func(w http.ResponseWriter) { h.answer(w, q) })
}

// answer takes some 2 MiB for a moment.
func (h *RequestsHandler) answer(w http.ResponseWriter, q RequestsQuery) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // addresses and identifiers of people
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)                                      // as in trace; browsers are told not to guess
	if err := encoder.Encode(h.document(q, time.Now())); err != nil { // and nothing was written
		problem(w, http.StatusInternalServerError, "the exchanges could not be encoded")
	}
}

// document collects what the query chooses.
func (h *RequestsHandler) document(q RequestsQuery, now time.Time) *RequestsDocument {
	d := &RequestsDocument{
		Time: shown(now), SlowestWindowSeconds: analytics.SlowestWindow.Seconds(), WindowSeconds: analytics.RequestsAge.Seconds(),
		Requests: []*KeptRequest{},
	}
	type identity struct {
		conn uint64
		seq  uint32
		role wire.Role
	}
	shown, matched := map[identity]*KeptRequest{}, map[identity]bool{}
	for _, kind := range analytics.RequestKinds {
		if len(q.Kinds) > 0 && !slices.Contains(q.Kinds, kind) {
			continue
		}
		all := h.chosen(q, kind)
		for i, ex := range all {
			id := identity{ex.Conn, ex.Seq, ex.Role}
			matched[id] = true
			if known := shown[id]; known != nil {
				known.Kinds = append(known.Kinds, kind)
				continue
			}
			if i >= cmp.Or(q.Limit, requestsLimitDefault) {
				continue
			}
			k := &KeptRequest{[]analytics.RequestKind{kind}, export.NewObject(ex, h.rawPaths.Load())}
			if of := h.finding.Load(); of != nil {
				k.Finding = (*of)(ex)
			}
			shown[id] = k
			d.Requests = append(d.Requests, k)
		}
	}
	d.Matched = len(matched)
	return d
}

// chosen returns copies of the exchanges of a kind that the query chooses, in the order in which they are shown.
func (h *RequestsHandler) chosen(q RequestsQuery, kind analytics.RequestKind) (all []*wire.Exchange) {
	for _, role := range []wire.Role{wire.RoleServer, wire.RoleClient} {
		if q.Role != "" && q.Role != role.String() {
			continue
		}
		h.source.Each(kind, role, func(ex *wire.Exchange) {
			if q.Match(ex) {
				all = append(all, ex.Clone())
			}
		})
	}
	slices.SortFunc(all, func(a, b *wire.Exchange) int {
		if kind == analytics.RequestSlowest {
			return cmp.Or(cmp.Compare(b.Duration(), a.Duration()), cmp.Compare(b.Finished, a.Finished))
		}
		return cmp.Or(cmp.Compare(b.Finished, a.Finished), cmp.Compare(b.Conn, a.Conn), cmp.Compare(b.Seq, a.Seq))
	})
	return all
}
