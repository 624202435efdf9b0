package route

import (
	"bytes"

	"github.com/perfagent/perfagent/internal/wire"
)

// keysMax bounds the keys that are told apart in one segment.
const keysMax = 8

// plainSegment returns what of a segment is a route's: without parameters of its own (RFC 3986, section 3.3, such as a
// session's: "cart;jsessionid=7F"), and with parameters in the place of keys in parentheses, as OData has them and OpenAPI
// documents write them: "Products({id})" for Products(5) and Products('a'), "Items(order={order},no={no})" for
// Items(order=1,no=2). What it makes anew is in buf. A template's segment is its own.
func plainSegment(buf, s []byte) []byte {
	if open := bytes.IndexByte(s, '('); open > 0 {
		if plain := appendKeyed(buf[:0], s, open); plain != nil {
			return plain
		}
	}
	if i := bytes.IndexByte(s, ';'); i >= 0 {
		return s[:i]
	}
	return s
}

// learnedSegment is plainSegment for what is not written by hand: with parameters in the place of what stands behind names as
// well, "token={token}" for token=abc.
func learnedSegment(buf, s []byte) []byte {
	s = plainSegment(buf, s)
	if bytes.IndexByte(s, '=') < 0 && bytes.IndexByte(s, ':') < 0 || keyedName(s) > 0 {
		return s
	}
	if name, end := settingName(s); end > 0 {
		return appendSettings(buf[:0], s, name, end)
	}
	return s
}

// appendKeyed appends a name with keys behind it, or returns nil where a segment is none: "Mercury_(planet)".
func appendKeyed(dst, s []byte, open int) []byte {
	end := bytes.LastIndexByte(s, ')')
	if end < open+2 || end+1 < len(s) && s[end+1] != ';' || !isIdentifier(s[:open]) || s[open-1] == '_' || kindOf(s[:open]) != isWord {
		return nil
	}
	name, keys := s[:open+1], s[open+1:end]
	dst = append(dst, name...)
	for n := 0; len(keys) > 0; n++ {
		equals := bytes.IndexByte(keys, '=')
		if n == keysMax || equals < 0 || !isIdentifier(keys[:equals]) {
			if n == 0 && !isKey(keys) {
				return nil
			}
			return append(append(dst[:0], name...), "{id})"...)
		}
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, keys[:equals+1]...), '{'), keys[:equals]...)
		dst = append(dst, '}')
		keys = keys[min(valueLen(keys), len(keys)):]
	}
	return append(dst, ')')
}

// valueLen returns where the next key begins: behind a comma that is not in quotes.
func valueLen(keys []byte) int {
	quoted := false
	for i, c := range keys {
		switch {
		case c == '\'':
			quoted = !quoted
		case c == ',' && !quoted:
			return i + 1
		}
	}
	return len(keys)
}

// isKey tells whether what stands in parentheses is a value: in quotes, an identifier, or an alias for one (@p1).
func isKey(s []byte) bool {
	return s[0] == '\'' || s[0] == '@' || bytes.HasPrefix(s, []byte("%27")) || kindOf(s) != isWord
}

// isIdentifier tells whether s is a name as programs have them, also with dots.
func isIdentifier(s []byte) bool {
	if len(s) == 0 || len(s) > segmentMax || wire.IsDigit(s[0]) {
		return false
	}
	for _, c := range s {
		if !wire.IsLetter(c) && !wire.IsDigit(c) && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// keyedName returns the length of the name in a segment with keys or with a setting, as learnedSegment makes it, or 0.
func keyedName(s []byte) int {
	if len(s) == 0 || s[len(s)-1] != ')' && s[len(s)-1] != '}' {
		return 0
	}
	if bytes.HasSuffix(s, []byte("})")) {
		return max(bytes.IndexByte(s, '('), 0)
	}
	name, _ := settingName(s)
	for rest := s; len(rest) > 0; {
		n, end := settingName(rest)
		if end == 0 {
			if string(rest) == "{id}" {
				break
			}
			return 0
		}
		if rest = rest[end:]; len(rest) < len(n)+2 || rest[0] != '{' || !bytes.Equal(rest[1:1+len(n)], n) || rest[1+len(n)] != '}' {
			return 0
		}
		if rest = rest[len(n)+2:]; len(rest) > 0 && rest[0] != ',' && rest[0] != '&' || len(rest) == 1 {
			return 0
		}
		rest = rest[min(1, len(rest)):]
	}
	return len(name)
}
