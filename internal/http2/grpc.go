package http2

import (
	"bytes"

	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

// RPC is what an exchange says as a call of gRPC; of others System is empty.
type RPC struct {
	System string // "grpc"
	Web    bool   // gRPC-Web: the trailers are in the body
	// Service and Method are the parts of the path "/package.Service/Method"; empty where it is none or not known. The
	// operation's name is both, with the slash between.
	Service, Method []byte
	// Status is that of grpc-status, in the trailers or in a response that is nothing else. Where a response has none it is what
	// gRPC makes of the HTTP status. -1: there was no response, or it is not known.
	Status   int32
	Message  []byte // grpc-message as sent: percent-encoded, at most 256 bytes
	Encoding []byte // grpc-encoding of the request
	// Messages that were sent in each direction, -1 where bytes that begin one were not captured.
	Requests, Responses int64
}

// RPCStatusUnknown is the outcome's code of a call whose status is not known, or that had no response.
const RPCStatusUnknown = 0xffff

// rpcNames are the names of gRPC's codes.
var rpcNames = [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
	"DATA_LOSS", "UNAUTHENTICATED"}

// The codes that something depends on.
const (
	rpcUnknown          = 2
	rpcDeadlineExceeded = 4
	rpcPermissionDenied = 7
	rpcUnimplemented    = 12
	rpcInternal         = 13
	rpcUnavailable      = 14
	rpcDataLoss         = 15
	rpcUnauthenticated  = 16
)

// RPCStatusName returns the name of a code of gRPC, "_OTHER" of one that has none.
func RPCStatusName(code int32) string {
	if code < 0 || int(code) >= len(rpcNames) {
		return "_OTHER"
	}
	return rpcNames[code]
}

// RPCAnswered is the outcome of a call that ended with this code. Which ones are the server's failures OpenTelemetry's
// conventions for gRPC say; for the client every code but OK is one.
func RPCAnswered(role wire.Role, code int32) wire.Outcome {
	o := wire.Outcome{Code: uint16(min(code, RPCStatusUnknown-1)), Late: code == rpcDeadlineExceeded}
	switch code {
	case 0:
		return o
	case rpcUnknown, rpcDeadlineExceeded, rpcUnimplemented, rpcInternal, rpcUnavailable, rpcDataLoss:
		o.Class, o.ErrorType = wire.ClassServerFault, RPCStatusName(code)
	default:
		if o.Class = wire.ClassClientFault; role == wire.RoleClient {
			o.ErrorType = RPCStatusName(code)
		}
	}
	return o
}

// rpcOfHTTP is what gRPC makes of a response without a grpc-status (its document http-grpc-status-mapping).
func rpcOfHTTP(status uint16) int32 {
	switch status {
	case 400:
		return rpcInternal
	case 401:
		return rpcUnauthenticated
	case 403:
		return rpcPermissionDenied
	case 404:
		return rpcUnimplemented
	case 429, 502, 503, 504:
		return rpcUnavailable
	}
	return rpcUnknown
}

// rpcType tells gRPC by a content-type.
func rpcType(contentType []byte) (rpc, web bool) {
	rest, ok := bytes.CutPrefix(contentType, []byte("application/grpc"))
	if !ok {
		return false, false
	}
	if web = bytes.HasPrefix(rest, []byte("-web")); web {
		rest = rest[len("-web"):]
	}
	return len(rest) == 0 || rest[0] == '+' || rest[0] == ';' || rest[0] == ' ' || web && bytes.HasPrefix(rest, []byte("-text")), web
}

// rpcPath splits "/package.Service/Method"; nil where a path is none.
func rpcPath(path []byte) (service, method, name []byte) {
	if len(path) < 4 || path[0] != '/' {
		return nil, nil, nil
	}
	i := bytes.LastIndexByte(path, '/')
	if i < 2 || i == len(path)-1 {
		return nil, nil, nil
	}
	return path[1:i], path[i+1:], path[1:]
}

// webTrailersMax bounds the trailers of gRPC-Web that are kept: a status and the beginning of a message.
const webTrailersMax = 512

// messages counts the messages of a direction by their prefixes of five bytes: a byte of flags and a length. They may begin
// anywhere in DATA, so a prefix that was not captured ends the count.
type messages struct {
	on, unknown bool
	text        bool // gRPC-Web's base64: no prefixes to be seen
	have        uint8
	prefix      [5]byte
	left        uint64 // of the current message
	n           int64
	trailers    bool // the current message is gRPC-Web's trailers
}

// count returns how many messages began, or -1.
func (m *messages) count() int64 {
	if !m.on || m.unknown || m.text {
		return -1
	}
	return m.n
}

// bytes takes captured bytes of the body; what is trailers in it is appended to web.
func (m *messages) bytes(b, web []byte) []byte {
	if !m.on || m.unknown || m.text {
		return web
	}
	for len(b) > 0 {
		if m.left > 0 {
			k := min(m.left, uint64(len(b)))
			if m.trailers {
				web = append(web, b[:min(k, uint64(max(webTrailersMax-len(web), 0)))]...)
			}
			m.left -= k
			b = b[k:]
			continue
		}
		k := copy(m.prefix[m.have:], b)
		b = b[k:]
		if m.have += uint8(k); int(m.have) < len(m.prefix) {
			return web
		}
		m.have = 0
		m.left, m.trailers = uint64(number(m.prefix[1:])), m.prefix[0]&0x80 != 0
		if m.prefix[0]&0x7e != 0 { // no flags of gRPC
			m.unknown = true
		}
		if !m.trailers {
			m.n++
		}
	}
	return web
}

// skip passes over bytes of the body that were not captured.
func (m *messages) skip(n uint64) {
	if n > m.left || m.trailers && n > 0 {
		m.unknown = true
	}
	m.left -= min(n, m.left)
}

// webTrailers reads grpc-status and grpc-message from the trailers of gRPC-Web: lines as HTTP/1 has them.
func webTrailers(b []byte) (status int32, message []byte) {
	status = -1
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n"))
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("grpc-status")):
			status = rpcStatus(value)
		case bytes.EqualFold(name, []byte("grpc-message")):
			message = value[:min(len(value), grpcMessageBytesMax)]
		}
	}
	return status, message
}

// rpcStatus reads the value of grpc-status. What is no number gRPC takes for UNKNOWN.
func rpcStatus(v []byte) int32 {
	n, ok := http.Decimal(v)
	if !ok || n >= RPCStatusUnknown {
		return rpcUnknown
	}
	return int32(n)
}
