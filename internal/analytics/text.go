package analytics

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable makes captured text safe to show anywhere: what is not printable (control characters, invalid UTF-8, and
// the invisible characters that reorder or hide others) is escaped as Go does, \x1b and \u202e. The value itself is
// changed, because an escape that only JSON knows is undone by whoever decodes it.
func Printable(s string) string {
	if isPrintable(s) {
		return s
	}
	return string(appendPrintable(nil, s, -1, appendBackslash))
}

// PrintablePath is Printable for paths and routes: what is not printable is percent-encoded, %1B, as a client should
// have sent it (RFC 3986, section 2.1).
func PrintablePath(s string) string {
	if isPrintable(s) {
		return s
	}
	return string(appendPrintable(nil, s, -1, appendPercent))
}

// label returns a copy of s for a label: printable, and not longer than labelBytesMax. The copy also frees the label
// from whatever larger string s was cut from.
func label(s string) string { return makeLabel(s, appendBackslash) }

// routeLabel is label for a route.
func routeLabel(s string) string { return makeLabel(s, appendPercent) }

func makeLabel(s string, escape escapeFunc) string {
	if len(s) <= labelBytesMax && isPrintable(s) {
		return strings.Clone(s)
	}
	return string(appendPrintable(nil, s, labelBytesMax, escape))
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f {
			return isPrintableUnicode(s)
		}
	}
	return true
}

func isPrintableUnicode(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// escapeFunc appends the escape of a rune that is not printable, or of an invalid byte, of which code is utf8.RuneError;
// raw are its bytes.
type escapeFunc func(dst []byte, code rune, raw string) []byte

// appendPrintable appends s up to the last character with which dst is not longer than most; below 0 there is no limit.
func appendPrintable(dst []byte, s string, most int, escape escapeFunc) []byte {
	for i := 0; i < len(s); {
		before := len(dst)
		r, n := utf8.DecodeRuneInString(s[i:])
		if unicode.IsPrint(r) && !(r == utf8.RuneError && n == 1) {
			dst = append(dst, s[i:i+n]...)
		} else {
			dst = escape(dst, r, s[i:i+n])
		}
		if most >= 0 && len(dst) > most {
			return dst[:before]
		}
		i += n
	}
	return dst
}

func appendBackslash(dst []byte, code rune, raw string) []byte {
	switch {
	case code == utf8.RuneError: // a replacement character that was sent is printable
		return fmt.Appendf(dst, `\x%02x`, raw[0])
	case code < 0x100:
		return fmt.Appendf(dst, `\x%02x`, code)
	case code < 0x10000:
		return fmt.Appendf(dst, `\u%04x`, code)
	}
	return fmt.Appendf(dst, `\U%08x`, code)
}

func appendPercent(dst []byte, _ rune, raw string) []byte {
	for i := range len(raw) {
		dst = fmt.Appendf(dst, "%%%02X", raw[i])
	}
	return dst
}
