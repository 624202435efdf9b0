package analytics

import (
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/http2"
	"github.com/perfagent/perfagent/internal/wire"
)

// Label is a name with its value.
type Label struct{ Name, Value string }

// Labels are a series' labels in the order of their names, which is how Prometheus wants them. One serves all series of
// a family, one after the other.
type Labels struct {
	pairs [10]Label
	n     int
}

// Add appends a label where its value is known.
func (l *Labels) Add(name, value string) {
	if value != "" {
		l.pairs[l.n] = Label{name, value}
		l.n++
	}
}

// Reset removes all labels.
func (l *Labels) Reset() { l.n = 0 }

// All returns the labels; they are valid until the next Reset.
func (l *Labels) All() []Label { return l.pairs[:l.n] }

// Family is one metric of entries, whatever projection of it is asked for: a histogram of durations (exported in seconds) or
// of sizes (in bytes), by labels.
type Family struct {
	Name, Help string // as Prometheus has them
	Convention wire.Convention
	Role       wire.Role
	// Whole tells that it is of the whole time of exchanges: the durations, of which everybody has quantiles.
	Whole bool
	each  func(l *Labels, k *Key, c *Counts, created time.Time, yield YieldSeries)
}

// YieldSeries receives a series; the labels are valid during the call.
type YieldSeries func(l *Labels, h *Histogram, created time.Time)

// Families are the metrics of all entries; those of a convention without a family are counted and in none. Their series carry
// service_namespace where it is known: without it, services of the same name in two namespaces would collide.
var Families = []Family{
	{"http_server_request_duration_seconds", "Time from the first byte of a request's arrival to the last byte of its response.", wire.ConventionHTTP, wire.RoleServer, true, eachDuration},
	{"http_client_request_duration_seconds", "Time from sending the first byte of a request to reading the last byte of its response.", wire.ConventionHTTP, wire.RoleClient, true, eachDuration},
	{"perfagent_http_server_phase_duration_seconds", "Time that requests spent in each phase.", wire.ConventionHTTP, wire.RoleServer, false, eachPhase},
	{"http_server_request_body_size_bytes", "Body bytes of requests, chunk framing included.", wire.ConventionHTTP, wire.RoleServer, false, eachRequestSize},
	{"http_server_response_body_size_bytes", "Body bytes of responses, chunk framing included.", wire.ConventionHTTP, wire.RoleServer, false, eachResponseSize},
	{"rpc_server_call_duration_seconds", "Time from the first byte of a call's arrival to the last byte of its answer, its status included.", wire.ConventionRPC, wire.RoleServer, true, eachCall},
	{"rpc_client_call_duration_seconds", "Time from sending the first byte of a call to reading the last byte of its answer, its status included.", wire.ConventionRPC, wire.RoleClient, true, eachCall},
}

// Each calls yield for every series that an entry with these counts has, where something was counted.
func (f *Family) Each(l *Labels, k *Key, c *Counts, created time.Time, yield YieldSeries) {
	if k.Role == f.Role && k.Convention == f.Convention {
		f.each(l, k, c, created, yield)
	}
}

// EachOf calls yield for every series of the snapshot that has a value.
func (f *Family) EachOf(s *Snapshot, yield YieldSeries) {
	var l Labels
	entries := s.Endpoints
	if f.Role == wire.RoleClient {
		entries = s.Targets
	}
	for _, e := range entries {
		f.Each(&l, &e.Key, &e.Counts, e.Created, yield)
	}
}

func eachDuration(l *Labels, k *Key, c *Counts, _ time.Time, yield YieldSeries) {
	for i := range c.Series {
		s := &c.Series[i]
		if s.Duration.Count() == 0 {
			continue
		}
		l.Reset()
		l.Add("error_type", s.ErrorType)
		l.Add("http_request_method", k.Verb)
		l.Add("http_response_status_code", numberText(s.Code))
		l.Add("http_route", k.Name)
		l.Add("network_protocol_version", strings.TrimPrefix(s.Protocol, "http/"))
		l.Add("server_address", k.Address)
		l.Add("server_port", numberText(k.Port))
		l.Add("service_name", k.Service)
		l.Add("service_namespace", k.Namespace)
		l.Add("url_scheme", s.scheme())
		yield(l, &s.Duration, s.Created)
	}
}

// eachCall is eachDuration of remote procedure calls.
func eachCall(l *Labels, k *Key, c *Counts, _ time.Time, yield YieldSeries) {
	for i := range c.Series {
		s := &c.Series[i]
		if s.Duration.Count() == 0 {
			continue
		}
		l.Reset()
		l.Add("error_type", s.ErrorType)
		l.Add("rpc_method", k.Name)
		if s.Result != otherResult {
			l.Add("rpc_response_status_code", callStatus(s.Outcome))
		}
		l.Add("rpc_system_name", k.Verb)
		l.Add("server_address", k.Address)
		l.Add("server_port", numberText(k.Port))
		l.Add("service_name", k.Service)
		l.Add("service_namespace", k.Namespace)
		if s.TLS { // calls in clear have no scheme in the conventions
			l.Add("url_scheme", s.scheme())
		}
		yield(l, &s.Duration, s.Created)
	}
}

// CallStatus is the name of the status that a remote procedure call ended with, empty where that is not known.
func CallStatus(ex *wire.Exchange) string { return callStatus(ex.Outcome) }

func callStatus(o wire.Outcome) string {
	if o.Code == http2.RPCStatusUnknown {
		return ""
	}
	return http2.RPCStatusName(int32(o.Code))
}

// scheme is empty for the result that stands for many.
func (r *Result) scheme() string {
	switch {
	case *r == otherResult:
		return ""
	case r.TLS:
		return "https"
	}
	return "http"
}

// numberText is the number as text, or nothing for 0, which stands for unknown.
func numberText(n uint16) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

func eachPhase(l *Labels, k *Key, c *Counts, created time.Time, yield YieldSeries) {
	shared(l, k, "queue", &c.Queue, created, yield)
	shared(l, k, "processing", &c.Processing, created, yield)
	shared(l, k, "transfer", &c.Transfer, created, yield)
}

func eachRequestSize(l *Labels, k *Key, c *Counts, created time.Time, yield YieldSeries) {
	shared(l, k, "", &c.RequestSize, created, yield)
}

func eachResponseSize(l *Labels, k *Key, c *Counts, created time.Time, yield YieldSeries) {
	shared(l, k, "", &c.ResponseSize, created, yield)
}

// shared yields a series that all results of an entry share.
func shared(l *Labels, k *Key, phase string, h *Histogram, created time.Time, yield YieldSeries) {
	if h.Count() == 0 {
		return
	}
	l.Reset()
	l.Add("http_request_method", k.Verb)
	l.Add("http_route", k.Name)
	l.Add("phase", phase)
	l.Add("service_name", k.Service)
	l.Add("service_namespace", k.Namespace)
	yield(l, h, created)
}
