package export

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
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
	ErrorType  string    `json:"error_type,omitempty"`

	// Pointers tell 0 from unknown. Times are in nanoseconds, sizes in bytes of the bodies.
	Duration     *int64 `json:"duration_ns,omitempty"`
	Queue        *int64 `json:"queue_ns,omitempty"`
	Processing   *int64 `json:"processing_ns,omitempty"`
	Transfer     *int64 `json:"transfer_ns,omitempty"`
	RequestSize  *int64 `json:"request_size_bytes,omitempty"`
	ResponseSize *int64 `json:"response_size_bytes,omitempty"`

	UserAgent     string `json:"user_agent,omitempty"`
	ClientAddress string `json:"client_address,omitempty"`
	ClientPort    uint16 `json:"client_port,omitempty"`
	ServerAddress string `json:"server_address,omitempty"`
	ServerPort    uint16 `json:"server_port,omitempty"`
}

// NewObject describes ex. All strings are printable (analytics.Printable, analytics.PrintablePath). The path is masked where the route has a parameter, unless rawPath.
func NewObject(ex *wire.Exchange, rawPath bool) *Object {
	o := &Object{
		Time: ex.Time.UTC(), Role: ex.Role.String(), Protocol: ex.Protocol, TLS: ex.TLS, Service: analytics.Printable(ex.Service),
		PID: ex.PID, Comm: text(bytes.TrimRight(ex.Comm[:], "\x00")), Container: analytics.Printable(ex.ContainerID), Method: ex.Method,
		Path: analytics.PrintablePath(string(ex.Path)), Route: analytics.PrintablePath(ex.Route),
		StatusCode: ex.Status, ErrorType: ex.ErrorType, UserAgent: text(ex.UserAgent),
		Duration: known(ex.Duration()), Queue: known(ex.Queue()), Processing: known(ex.Processing()), Transfer: known(ex.Transfer()),
		RequestSize: known(ex.RequestSize), ResponseSize: known(ex.ResponseSize),
	}
	if ex.Method == analytics.Other && len(ex.MethodOriginal) > 0 {
		o.Method = text(ex.MethodOriginal)
	}
	if !rawPath {
		o.Path = maskPath(o.Path, o.Route)
	}
	o.TraceID, o.SpanID = parseTraceParent(ex.TraceParent)
	o.RequestID = requestID(ex, o.TraceID)
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

// maskPath replaces the segments of the path at which the route has a parameter. Where path and route do not have the
// same segments (a parameter for the rest of the path), the route stands for the path.
func maskPath(path, route string) string {
	if !strings.Contains(route, "{") {
		return path
	}
	segments, template := strings.Split(path, "/"), strings.Split(route, "/")
	if len(segments) != len(template) {
		return route
	}
	for i, t := range template {
		if strings.Contains(t, "{") {
			segments[i] = t
		}
	}
	return strings.Join(segments, "/")
}

// parseTraceParent returns the IDs of a traceparent header (W3C Trace Context, section 3.2): version, trace ID, parent
// ID and flags in lower-case hexadecimal, separated by dashes. IDs of zeros are invalid.
func parseTraceParent(b []byte) (trace, span string) {
	const traceAt, spanAt, flagsAt, end = 3, 36, 53, 55
	if len(b) < end || b[2] != '-' || b[spanAt-1] != '-' || b[flagsAt-1] != '-' {
		return "", ""
	}
	if version := string(b[:2]); version == "ff" || version == "00" && len(b) != end || len(b) > end && b[end] != '-' {
		return "", ""
	}
	trace, span = string(b[traceAt:spanAt-1]), string(b[spanAt:flagsAt-1])
	if !isID(trace) || !isID(span) || !isHex(string(b[:2])) || !isHex(string(b[flagsAt:end])) {
		return "", ""
	}
	return trace, span
}

func isID(s string) bool { return isHex(s) && strings.Trim(s, "0") != "" }

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && s == strings.ToLower(s)
}

// requestID is the one that the request brought, or the trace's, or one made of the exchange's place in the agent's run.
func requestID(ex *wire.Exchange, trace string) string {
	if len(ex.RequestID) > 0 {
		return text(ex.RequestID)
	}
	if trace != "" {
		return trace
	}
	return fmt.Sprintf("%016x-%d", ex.Conn, ex.Seq)
}

// clientAddress is the address that a proxy says it forwards for, if it is one, else the peer's (the conventions'
// client.address).
func clientAddress(ex *wire.Exchange) (string, uint16) {
	if ex.Role == wire.RoleServer {
		s := strings.Trim(string(ex.ForwardedFor), ` "`)
		if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
			return a.Unmap().WithZone("").String(), 0
		}
		if ap, err := netip.ParseAddrPort(s); err == nil {
			return ap.Addr().Unmap().WithZone("").String(), ap.Port()
		}
	}
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
	status := o.ErrorType
	if o.StatusCode != 0 {
		status = strconv.Itoa(int(o.StatusCode))
	}
	dst = fmt.Appendf(dst, lineFormat, o.Time.In(l.Location).Format("15:04:05.000"), fit(service, 14), fit(o.Method, 7), fit(status, 7),
		durationText(o.Duration), durationText(o.firstByte()))
	dst = append(dst, fit(path, max(l.Width-lineFixed, 1))...)
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

// fit escapes what is not printable ASCII and cuts to the width, the cut marked by "~".
func fit(s string, width int) string {
	q := strconv.QuoteToASCII(s)
	q = strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
	if len(q) > width {
		q = q[:width-1] + "~"
	}
	return q
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
