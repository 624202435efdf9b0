package http

import "github.com/perfagent/perfagent/internal/wire"

// Places in a traceparent: version, trace ID, parent ID and flags, with a dash between each two.
const (
	traceAt, traceEnd = 3, 35
	spanAt, spanEnd   = 36, 52
	flagsAt, flagsEnd = 53, 55
	traceParentBytes  = flagsEnd // all of version 00
)

// TraceParent returns the trace ID and the parent's (span) ID of a traceparent header, as W3C Trace Context, levels 1 and
// 2, section 3.2, has it: lower-case hexadecimal; not version ff; IDs that are not all zeros; nothing behind the flags in
// version 00, and nothing but a dash and more in later ones. Both are parts of b, and nil where it is invalid: then none
// of it may be used. It allocates nothing.
func TraceParent(b []byte) (trace, span []byte) {
	switch {
	case len(b) < traceParentBytes, b[traceAt-1] != '-', b[traceEnd] != '-', b[spanEnd] != '-':
		return nil, nil
	case !isLowerHex(b[:traceAt-1]), b[0] == 'f' && b[1] == 'f', !isLowerHex(b[flagsAt:flagsEnd]):
		return nil, nil
	case len(b) > traceParentBytes && (b[0] == '0' && b[1] == '0' || b[traceParentBytes] != '-'):
		return nil, nil
	}
	trace, span = b[traceAt:traceEnd], b[spanAt:spanEnd]
	if !isLowerHex(trace) || !isLowerHex(span) || allZero(trace) || allZero(span) {
		return nil, nil
	}
	return trace, span
}

func isLowerHex(b []byte) bool {
	for _, c := range b {
		if !wire.IsDigit(c) && c-'a' > 'f'-'a' {
			return false
		}
	}
	return true
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != '0' {
			return false
		}
	}
	return true
}
