package http

import (
	"regexp"
	"strings"
	"testing"
)

const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	spanID      = "b7ad6b7169203331"
	traceParent = "00-" + traceID + "-" + spanID + "-01"
)

// Exactly the headers that W3C Trace Context calls valid have IDs, those of its test suite among them.
func TestTraceParent(t *testing.T) {
	for header, valid := range map[string]bool{
		traceParent:                                               true,
		"00-" + traceID + "-" + spanID + "-00":                    true,
		"00-" + traceID + "-" + spanID + "-ff":                    true, // flags that nobody has defined yet
		"cc-" + traceID + "-" + spanID + "-01":                    true, // a later version
		"cc-" + traceID + "-" + spanID + "-01-x":                  true,
		"cc-" + traceID + "-" + spanID + "-01-":                   true,
		"fe-" + traceID + "-" + spanID + "-01":                    true,
		"cc-" + traceID + "-" + spanID + "-01.x":                  false,
		"cc-" + traceID + "-" + spanID + "-011":                   false,
		"00-" + traceID + "-" + spanID + "-01-":                   false, // version 00 has no more
		"00-" + traceID + "-" + spanID + "-01-x":                  false,
		"ff-" + traceID + "-" + spanID + "-01":                    false,
		"FF-" + traceID + "-" + spanID + "-01":                    false,
		"0-" + traceID + "-" + spanID + "-01":                     false,
		"000-" + traceID + "-" + spanID + "-01":                   false,
		".0-" + traceID + "-" + spanID + "-01":                    false,
		"0.-" + traceID + "-" + spanID + "-01":                    false,
		"Fe-" + traceID + "-" + spanID + "-01":                    false,
		"00-" + traceID + "-" + spanID + "-0A":                    false,
		"00-" + traceID + "-" + spanID + "-0":                     false,
		"00-" + traceID + "-" + spanID + "-":                      false,
		"00-" + traceID + "-" + spanID + "-.0":                    false,
		"00-" + traceID + "-" + spanID:                            false,
		"00_" + traceID + "-" + spanID + "-01":                    false,
		"00-" + traceID + "_" + spanID + "-01":                    false,
		"00-" + traceID + "-" + spanID + "_01":                    false,
		"00-" + traceID[1:] + "-" + spanID + "-01":                false,
		"00-" + traceID + "-" + spanID[1:] + "-01":                false,
		"00-" + strings.ToUpper(traceID) + "-" + spanID + "-01":   false,
		"00-" + traceID + "-" + strings.ToUpper(spanID) + "-01":   false,
		"00-" + strings.Repeat("0", 32) + "-" + spanID + "-01":    false,
		"00-" + traceID + "-" + strings.Repeat("0", 16) + "-01":   false,
		"00-" + strings.Repeat("g", 32) + "-" + spanID + "-01":    false,
		"00-" + traceID[:31] + "\x00-" + spanID + "-01":           false,
		"00-" + strings.Repeat("\xff", 32) + "-" + spanID + "-01": false,
		"00-" + strings.Repeat("0", 31) + "1-" + spanID + "-01":   true,
		"":  false,
		"-": false,
	} {
		trace, span := TraceParent([]byte(header))
		if got := trace != nil && span != nil; got != valid {
			t.Errorf("%q: %s %s", header, trace, span)
		}
		if valid && (string(trace) != header[3:35] || string(span) != header[36:52]) {
			t.Errorf("%q: %s %s", header, trace, span)
		}
	}
	for n := range len(traceParent) {
		if trace, span := TraceParent([]byte(traceParent[:n])); trace != nil || span != nil {
			t.Errorf("cut to %d bytes: %s %s", n, trace, span)
		}
	}
	if n := testing.AllocsPerRun(10, func() { TraceParent([]byte(traceParent)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A request with several of them, or one in two lines, has none; spaces around it and the name's case do not matter.
func TestTraceParentHeader(t *testing.T) {
	for lines, want := range map[string]string{
		"traceparent: " + traceParent + "\r\n":                                       traceParent,
		"TRACEPARENT:\t " + traceParent + " \t\r\n":                                  traceParent,
		"traceparent: " + traceParent + "\r\ntraceparent: " + traceParent + "\r\n":   "",
		"traceparent: " + traceParent + "\r\nX: y\r\nTraceparent: \r\n":              "",
		"traceparent:\r\ntraceparent: " + traceParent + "\r\ntraceparent: " + "\r\n": "",
		"traceparent: " + traceParent[:20] + "\r\n " + traceParent[20:] + "\r\n":     "",
		"trace-parent: " + traceParent + "\r\nXtraceparent: " + traceParent + "\r\n": "",
		"tracestate: a=b\r\ntraceparent: " + traceParent + "\r\ntracestate: c=d\r\n": traceParent,
		"traceparent : " + traceParent + "\r\n":                                      "",
	} {
		var r Request
		if err := ParseRequest([]byte("GET / HTTP/1.1\r\n"+lines+"\r\n"), &r); err != nil || string(r.TraceParent) != want {
			t.Errorf("%q: %q, %v", lines, r.TraceParent, err)
		}
	}
}

// Whatever comes, what is taken for valid is what the standard's grammar says.
func FuzzTraceParent(f *testing.F) {
	grammar := regexp.MustCompile(`^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-(?s:.*))?)$`)
	f.Add([]byte(traceParent))
	f.Add([]byte("cc" + traceParent[2:] + "-x"))
	f.Add([]byte("ff" + traceParent[2:]))
	f.Fuzz(func(t *testing.T, b []byte) {
		valid := grammar.Match(b) && string(b[:2]) != "ff" && (string(b[:2]) != "00" || len(b) == len(traceParent)) &&
			string(b[3:35]) != strings.Repeat("0", 32) && string(b[36:52]) != strings.Repeat("0", 16)
		trace, span := TraceParent(b)
		if (trace != nil) != valid || (span != nil) != valid {
			t.Fatalf("%q: %q %q", b, trace, span)
		}
		if valid && (string(trace) != string(b[3:35]) || string(span) != string(b[36:52])) {
			t.Fatalf("%q: %q %q", b, trace, span)
		}
	})
}
