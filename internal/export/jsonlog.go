package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/perfagent/perfagent/internal/analytics"
	perfhttp "github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/route"
	"github.com/perfagent/perfagent/internal/wire"
)

// Object is one exchange as `perfagent trace -o json` prints it: one JSON object. Unknown fields are omitted.
type Object struct {
	Time       time.Time `json:"time"`
	RequestID  string    `json:"request_id,omitempty"`
	TraceID    string    `json:"trace_id,omitempty"`
	SpanID     string    `json:"span_id,omitempty"`
	Role       string    `json:"role"`
	Protocol   string    `json:"protocol,omitempty"`
	TLS        bool      `json:"tls"`
	Service    string    `json:"service_name,omitempty"`
	PID        uint32    `json:"pid,omitempty"`
	Comm       string    `json:"comm,omitempty"`
	Container  string    `json:"container_id,omitempty"`
	Method     string    `json:"method,omitempty"`
	Path       string    `json:"path,omitempty"`
	Route      string    `json:"http_route,omitempty"`
	StatusCode uint16    `json:"status_code,omitempty"`
	// RPCStatus is what a remote procedure call ended with, by its name; such a call has no StatusCode.
	RPCStatus string `json:"rpc_response_status_code,omitempty"`
	ErrorType string `json:"error_type,omitempty"`

	// Pointers tell 0 from unknown. Times are in nanoseconds, sizes in bytes of the bodies.
	Duration     *int64 `json:"duration_ns,omitempty"`
	Queue        *int64 `json:"queue_ns,omitempty"`
	Processing   *int64 `json:"processing_ns,omitempty"`
	Transfer     *int64 `json:"transfer_ns,omitempty"`
	RequestSize  *int64 `json:"request_size_bytes,omitempty"`
	ResponseSize *int64 `json:"response_size_bytes,omitempty"`

	UserAgent string `json:"user_agent,omitempty"`
	// UserHash stands for the value of --trace.user-header: 16 hexadecimal digits, the same for the same value while the agent runs.
	UserHash string `json:"user_hash,omitempty"`
	// ClientAddress and ClientPort are the socket's other end: what was observed. ForwardedFor is what a header claims
	// (http.ForwardedNode), and anybody can send one: it never takes the place of the observed address.
	ClientAddress string `json:"client_address,omitempty"`
	ClientPort    uint16 `json:"client_port,omitempty"`
	ForwardedFor  string `json:"forwarded_for,omitempty"`
	ServerAddress string `json:"server_address,omitempty"`
	ServerPort    uint16 `json:"server_port,omitempty"`

	// Finding is the ID of the open finding that the exchange belongs to; NewObject leaves it to who knows.
	Finding string `json:"finding,omitempty"`
}

// protocol is a protocol's name where single exchanges are shown: HTTP/2 as its ends agree on it.
func protocol(name string) string {
	if name == "http/2" {
		return "h2"
	}
	return name
}

// NewObject describes ex. All strings are printable (analytics.Printable, analytics.PrintablePath). Unless rawPath, the path
// is masked as route.MaskPath does: by its route, or, in the client role, which has none, by what looks like an identifier or a
// secret.
func NewObject(ex *wire.Exchange, rawPath bool) *Object {
	o := &Object{
		Time: ex.Time.UTC(), Role: ex.Role.String(), Protocol: protocol(ex.Protocol), TLS: ex.TLS, Service: analytics.Printable(ex.Service),
		PID: ex.PID, Comm: text(bytes.TrimRight(ex.Comm[:], "\x00")), Container: analytics.Printable(ex.ContainerID), Method: ex.Verb,
		StatusCode: ex.Code, ErrorType: ex.ErrorType,
		UserAgent: cut(ex.UserAgent, wire.UserAgentBytesMax),
		Duration:  known(ex.Duration()), Queue: known(ex.Queue()), Processing: known(ex.Processing()), Transfer: known(ex.Transfer()),
		RequestSize: known(ex.RequestSize), ResponseSize: known(ex.ResponseSize),
	}
	if ex.Convention == wire.ConventionHTTP {
		o.Route = analytics.PrintablePath(ex.Name)
	}
	if ex.Convention == wire.ConventionRPC {
		o.StatusCode, o.RPCStatus = 0, analytics.CallStatus(ex)
	}
	if ex.Verb == analytics.Other && len(ex.MethodOriginal) > 0 {
		o.Method = text(ex.MethodOriginal)
	}
	path := ex.Path
	if !rawPath && ex.Convention != wire.ConventionRPC { // the path of a call is its name
		path = route.MaskPath(nil, path, ex.Name, ex.RouteSource)
	}
	o.Path = analytics.PrintablePath(string(path))
	trace, span := perfhttp.TraceParent(ex.TraceParent)
	o.TraceID, o.SpanID = string(trace), string(span)
	o.RequestID = requestID(ex, o.TraceID)
	if ex.UserHash != 0 {
		o.UserHash = fmt.Sprintf("%016x", ex.UserHash)
	}
	o.ForwardedFor = perfhttp.ForwardedNode(ex.ForwardedFor)
	o.ClientAddress, o.ClientPort = clientAddress(ex)
	o.ServerAddress, o.ServerPort = analytics.ServerAddress(ex)
	return o
}

func known(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

// text makes captured bytes a string that can be shown.
func text(b []byte) string { return analytics.Printable(string(b)) }

// cut is text of at most so many bytes, with an ellipsis where there were more.
func cut(b []byte, most int) string {
	if len(b) <= most {
		return text(b)
	}
	return text(b[:most]) + "…"
}

// run tells this run of the agent from others: connections are counted from 1 in each.
var run = rand.Uint32()

// requestID is the one that the request brought, or the trace's, or one made of the exchange's place in the agent's run. It
// is the same wherever the exchange is shown.
func requestID(ex *wire.Exchange, trace string) string {
	if len(ex.RequestID) > 0 {
		return cut(ex.RequestID, wire.RequestIDBytesMax)
	}
	if trace != "" {
		return trace
	}
	return fmt.Sprintf("%08x-%016x-%d", run, ex.Conn, ex.Seq)
}

// clientAddress is the requesting end of the socket.
func clientAddress(ex *wire.Exchange) (string, uint16) {
	peer := ex.Client()
	if !peer.IsValid() {
		return "", 0
	}
	return peer.Addr().Unmap().WithZone("").String(), peer.Port()
}

// AppendJSON appends the object and a line feed. What NewObject made holds nothing that a terminal could take for a
// command, neither as JSON nor when it was decoded.
func (o *Object) AppendJSON(dst []byte) ([]byte, error) {
	buffer := bytes.NewBuffer(dst)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(o); err != nil {
		return dst, fmt.Errorf("encoding an exchange: %w", err)
	}
	return buffer.Bytes(), nil
}

// LineWidth is the default width of a text line, in columns.
const LineWidth = 80

// The columns of a line, the path taking the rest. 15:04:05.000 is 12 wide.
const lineFormat = "%-12s %-14s %-7s %-7s %8s %8s "

// lineFixed is the width of all but the path.
const lineFixed = 12 + 1 + 14 + 1 + 7 + 1 + 7 + 1 + 8 + 1 + 8 + 1

// LineHeader names the columns of AppendLine, and so what is measured: the service (with > before it for the client
// side), the time from first to last byte, and the time to the first byte of the response.
func LineHeader() string {
	return fmt.Sprintf(lineFormat, "TIME", "SERVICE", "METHOD", "STATUS", "DURATION", "TO FIRST") + "PATH\n"
}

// LineOptions configures AppendLine.
type LineOptions struct {
	Width    int            // columns; 0: LineWidth
	Location *time.Location // of the time of day; nil: the host's
}

// AppendLine appends the exchange as one line of text, all of it printable ASCII.
func (o *Object) AppendLine(dst []byte, l LineOptions) []byte {
	if l.Width <= 0 {
		l.Width = LineWidth
	}
	if l.Location == nil {
		l.Location = time.Local
	}
	service, path := o.Service, o.Path
	if o.Role == wire.RoleClient.String() {
		service = ">" + service
		path = "//" + o.ServerAddress + path
	}
	status := o.ErrorType // of a response that was cut, this and no status
	if status == "" {
		status = o.RPCStatus
	}
	if status == "" && o.StatusCode != 0 {
		status = strconv.Itoa(int(o.StatusCode))
	}
	dst = fmt.Appendf(dst, lineFormat, o.Time.In(l.Location).Format("15:04:05.000"), fit(service, 14), fit(o.Method, 7), fit(status, 7),
		durationText(o.Duration), durationText(o.firstByte()))
	dst = append(dst, fitEnd(path, max(l.Width-lineFixed, 1))...)
	return append(dst, '\n')
}

// firstByte is the time until the first byte of the response: queue and processing together.
func (o *Object) firstByte() *int64 {
	if o.Processing == nil || o.Role == wire.RoleServer.String() && o.Queue == nil {
		return nil
	}
	n := *o.Processing
	if o.Queue != nil {
		n += *o.Queue
	}
	return &n
}

// escape writes what is not printable ASCII as Go does.
func escape(s string) string {
	q := strconv.QuoteToASCII(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// fit escapes what is not printable ASCII and cuts to the width, the cut marked by "~".
func fit(s string, width int) string {
	q := escape(s)
	if len(q) > width {
		q = q[:width-1] + "~"
	}
	return q
}

// fitEnd is fit for paths, which begin alike: of a long one the end is kept. No escape is cut into what looks like text.
func fitEnd(s string, width int) string {
	q := escape(s)
	if len(q) <= width {
		return q
	}
	rest := s[max(len(s)-width, 0):] // a byte takes a column at least
	for len(escape(rest)) >= width || isWithin(s, len(s)-len(rest)) {
		_, n := utf8.DecodeRuneInString(rest)
		rest = rest[n:]
	}
	return "~" + escape(rest)
}

// isWithin tells whether a place in a path is within a character or an escape such as %2F.
func isWithin(s string, at int) bool {
	return at < len(s) && (!utf8.RuneStart(s[at]) || s[at-1] == '%' || at > 1 && s[at-2] == '%')
}

// durationText writes a time with three digits: 123ns, 1.23us, 12.3ms, 123s.
func durationText(ns *int64) string {
	if ns == nil {
		return "-"
	}
	v, units := float64(*ns), []string{"ns", "us", "ms", "s"}
	i := 0
	for i < len(units)-1 && v >= 999.5 {
		v /= 1000
		i++
	}
	switch {
	case i == 0 || v >= 99.95:
		return fmt.Sprintf("%.0f%s", v, units[i])
	case v >= 9.995:
		return fmt.Sprintf("%.1f%s", v, units[i])
	}
	return fmt.Sprintf("%.2f%s", v, units[i])
}
