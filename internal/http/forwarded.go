package http

import (
	"bytes"
	"net/netip"
	"strings"

	"github.com/perfagent/perfagent/internal/wire"
)

// forwardedNodeMax is the longest node that is one: an IPv6 address with a zone and a port takes less, and an obfuscated
// identifier beyond it is noise. Kept copies may be cut behind it.
const forwardedNodeMax = 63

// firstElement returns the first element of a comma-separated list that is not empty (RFC 9110, section 5.6.1), trimmed.
func firstElement(list []byte) (element []byte) {
	for len(list) > 0 && len(element) == 0 {
		element, list = nextOf(list)
	}
	return element
}

// forwardedFor returns the value of for= in the first element of a Forwarded header (RFC 7239, section 4), as sent, with
// its quotes: the first proxy's word, which names the client. It is empty where that element has none: what later proxies
// say of one another is not about the client.
func forwardedFor(v []byte) []byte {
	named := false // the element has a parameter
	for len(v) > 0 {
		n := pairEnd(v)
		pair, last := trimOWS(v[:n]), n == len(v) || v[n] == ','
		if i := bytes.IndexByte(pair, '='); i == len("for") && equalFold(pair, "for") {
			return trimOWS(pair[i+1:])
		}
		if named = named || len(pair) > 0; named && last {
			return nil
		}
		v = v[min(n+1, len(v)):]
	}
	return nil
}

// pairEnd returns where the parameter at the beginning of v ends: at a semicolon or comma outside of quotes.
func pairEnd(v []byte) int {
	quoted := false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case (c == ';' || c == ',') && !quoted:
			return i
		}
	}
	return len(v)
}

// ForwardedNode returns what an element of X-Forwarded-For or a for= of Forwarded names, without port, brackets, zone and
// quotes: an IP address in its usual form, "unknown", or an identifier that begins with an underscore (RFC 7239, section
// 6). It is empty for anything else, such as a name or a part of an attack. It may allocate.
func ForwardedNode(v []byte) string {
	s, ok := unquote(v)
	if !ok || len(s) == 0 || len(s) > forwardedNodeMax {
		return ""
	}
	if a, err := netip.ParseAddr(s); err == nil { // X-Forwarded-For has IPv6 addresses without brackets
		return addressText(a)
	}
	name, port := s, ""
	if s[0] == '[' {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return ""
		}
		if name, port = s[1:end], s[end+1:]; port != "" && !isNodePort(port) {
			return ""
		}
		a, err := netip.ParseAddr(name)
		if err != nil || !a.Is6() {
			return ""
		}
		return addressText(a)
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		if name, port = s[:i], s[i:]; !isNodePort(port) {
			return ""
		}
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return addressText(a)
	}
	if strings.EqualFold(name, "unknown") {
		return "unknown"
	}
	if isObfuscated(name) {
		return name
	}
	return ""
}

func addressText(a netip.Addr) string { return a.Unmap().WithZone("").String() }

// unquote undoes a quoted-string (RFC 9110, section 5.6.4); what has no quotes stays as it is.
func unquote(v []byte) (string, bool) {
	if len(v) == 0 || v[0] != '"' {
		return string(v), true
	}
	var s []byte
	for i := 1; i < len(v); i++ {
		switch c := v[i]; {
		case c == '"':
			return string(s), i == len(v)-1
		case c == '\\' && i+1 < len(v):
			i++
			s = append(s, v[i])
		default:
			s = append(s, c)
		}
	}
	return "", false
}

// isNodePort accepts a colon and a port: up to five digits, or an identifier.
func isNodePort(s string) bool {
	if len(s) < 2 || s[0] != ':' {
		return false
	}
	if isObfuscated(s[1:]) {
		return true
	}
	for i := 1; i < len(s); i++ {
		if !wire.IsDigit(s[i]) {
			return false
		}
	}
	return len(s) <= len(":65535")
}

// isObfuscated accepts an identifier of RFC 7239, section 6.3: an underscore, then letters, digits and "._-".
func isObfuscated(s string) bool {
	if len(s) < 2 || s[0] != '_' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !wire.IsDigit(c) && !wire.IsLetter(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
