package http

import "github.com/perfagent/perfagent/internal/wire"

// Answered is the outcome of an exchange whose response with this status is complete. A status is a failure where it is 5xx,
// and 4xx for the client, which caused it (OpenTelemetry's rule for error.type).
func Answered(role wire.Role, status uint16) wire.Outcome {
	o := wire.Outcome{Code: status}
	switch {
	case status >= 500:
		o.Class, o.ErrorType = wire.ClassServerFault, statusText(status)
	case status >= 400:
		o.Class = wire.ClassClientFault
		if role == wire.RoleClient {
			o.ErrorType = statusText(status)
		}
	}
	o.Late = late(status)
	return o
}

// CutOff is the outcome of an exchange that ended by something else than its response: status is that of what there was
// of one, or 0.
func CutOff(class wire.Class, status uint16) wire.Outcome {
	o := wire.CutOff(class)
	o.Code, o.Late = status, o.Late || late(status)
	return o
}

// late tells whether a status says that somebody waited in vain: 408 for the request, 504 for a response from behind.
func late(status uint16) bool { return status == 408 || status == 504 }

// statusText returns a status from 400 to 999, which is the most that three digits say, as text, without allocation.
func statusText(status uint16) string { return statusTexts[(int(status)-400)*3:][:3] }

// statusTexts holds "400401402…999".
var statusTexts = func() string {
	b := make([]byte, 0, 600*3)
	for s := 400; s < 1000; s++ {
		b = append(b, byte('0'+s/100), byte('0'+s/10%10), byte('0'+s%10))
	}
	return string(b)
}()
