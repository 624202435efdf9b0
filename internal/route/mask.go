package route

import (
	"bytes"
	"strings"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// depthMax and pathMax bound a template: what of a path lies behind its first 16 segments, or behind the last segment
	// that ends within 256 bytes, is shown as "/*".
	depthMax = 16
	pathMax  = 256
	// segmentMax is the longest segment that can be a word.
	segmentMax = 64
)

// Mask appends path to dst with every segment that is obviously an identifier or may be a secret replaced: numbers,
// hexadecimal and base62 texts, codes that mix letters and digits, and whatever needs percent-encoding by {id}, UUIDs by {uuid}, dates by {date}, mail addresses by
// {email}, what stands behind a name (token=abc) by the name. Words stay, also technical ones with digits (v1, oauth2, i18n,
// utf8), as do an identifier's file extension (/users/{id}.json) and a last slash. A path is cut to 16 segments and 256 bytes,
// with "/*" for the rest.
func Mask(dst, path []byte) []byte {
	return mask(dst, path, 0, false)
}

// mask is Mask for what of a path begins at an offset. Where it is only shown and nothing is counted by it, dates behind a name stay.
func mask(dst, whole []byte, from int, shown bool) []byte {
	path := whole[from:]
	if len(path) == 0 || len(path) == 1 && path[0] == '*' {
		return append(dst, path...)
	}
	var buf [segmentMax]byte
	first := len(dst)
	rest := path
	if path[0] == '/' {
		dst, rest = append(dst, '/'), path[1:]
	}
	for depth := 0; ; depth++ {
		segment, more := rest, false
		if i := bytes.IndexByte(rest[:min(len(rest), pathMax)], '/'); i >= 0 {
			segment, more = rest[:i], true
		}
		if depth == depthMax || len(path)-len(rest)+len(segment) > pathMax || len(dst)-first > pathMax {
			return append(dst, '*')
		}
		if plain := plainSegment(buf[:], segment); shown && isDated(plain) {
			dst = append(dst, plain...)
		} else {
			dst = appendMasked(dst, learnedSegment(buf[:], segment), whole[:max(len(whole)-len(rest)-1, 0)])
		}
		if !more {
			return dst
		}
		dst, rest = append(dst, '/'), rest[len(segment)+1:]
	}
}

// MaskPath appends path to dst as it may be shown beside its route: the route's parameters stand for their values, and "*"
// for what it matches. In what a learned route does not name, because nobody knows it, and in a path without a route, only
// identifiers are masked, and what may be a secret: it tells what was asked for.
func MaskPath(dst, path []byte, route string, source wire.RouteSource) []byte {
	star := strings.IndexByte(route, '*')
	switch {
	case route == "":
		return mask(dst, path, 0, true)
	case star < 0 && strings.IndexByte(route, '{') >= 0, star >= 0 && source != wire.RouteLearned:
		return append(dst, route...)
	case len(path) == 1 && path[0] == '*':
		return append(dst, path...)
	case star < 0:
		return append(dst, route...) // the path is its route, but for parameters such as a session's
	}
	// As many segments as the route names before its star.
	rest := path
	for range strings.Count(route[:star], "/") {
		i := bytes.IndexByte(rest, '/')
		if i < 0 { // none follows: the star stands for nothing
			return append(dst, strings.TrimSuffix(route[:star], "/")...)
		}
		rest = rest[i+1:]
	}
	return mask(append(dst, route[:star]...), path, len(path)-len(rest), true)
}

// appendMasked appends a segment, as learnedSegment returns it, or what stands for it; front is the path in front.
func appendMasked(dst, s, front []byte) []byte {
	switch shownClass(s, front) {
	case isWord:
		return append(dst, s...)
	case isUUID:
		return append(dst, "{uuid}"...)
	case isDate:
		return append(dst, "{date}"...)
	case isEmail:
		return append(dst, "{email}"...)
	}
	return append(append(dst, "{id}"...), extension(s)...)
}

// segmentClass is what a segment looks like.
type segmentClass uint8

const (
	isWord segmentClass = iota
	isID
	isUUID
	isDate
	isEmail
)

// kindOf classifies a segment. It decides by form alone and remembers nothing, so equal segments always look equal.
func kindOf(s []byte) segmentClass {
	if n := keyedName(s); n > 0 {
		return kindOf(s[:n])
	}
	digits, odd, at, separators := 0, false, -1, false
	for i, c := range s {
		switch {
		case wire.IsDigit(c):
			digits++
		case wire.IsLetter(c):
		case c == '@':
			at = i
		case c == '%' || c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>' || c == '\\' || c == '{' || c == '}':
			odd = true
		default:
			separators = true
		}
	}
	switch {
	case isAddress(s, at):
		return isEmail
	case odd || len(s) > segmentMax || at > 0 && bytes.IndexByte(s[:at], ':') >= 0: // user:password@host
		return isID
	case digits == 0:
		return wordsClass(s)
	case digits == len(s), isNumberedFile(s):
		return isID
	case technical(s) || isVersion(s):
		return isWord
	case len(s) == 36 && isUUIDText(s):
		return isUUID
	case isDateText(s):
		return isDate
	case !separators && at < 0:
		return wordClass(s)
	case mixed(s, 20, 4):
		return isID
	}
	return wordsClass(s)
}

// isNumberedFile tells whether s is a number with a file extension: 42.json, 7.mp3.
func isNumberedFile(s []byte) bool {
	n := 0
	for n < len(s) && wire.IsDigit(s[n]) {
		n++
	}
	if n == 0 || len(s)-n < 3 || len(s)-n > 6 || s[n] != '.' || !wire.IsLetter(s[n+1]) {
		return false
	}
	for _, c := range s[n+1:] {
		if !wire.IsLetter(c) && !wire.IsDigit(c) {
			return false
		}
	}
	return true
}

// wordsClass classifies a segment of several words by its worst one.
func wordsClass(s []byte) segmentClass {
	for len(s) > 0 {
		n := 0
		for n < len(s) && (wire.IsDigit(s[n]) || wire.IsLetter(s[n])) {
			n++
		}
		if wordClass(s[:n]) == isID {
			return isID
		}
		s = s[min(n+1, len(s)):]
	}
	return isWord
}

// wordClass classifies letters and digits without separators.
func wordClass(w []byte) segmentClass {
	digits, hex := 0, 0
	for _, c := range w {
		if wire.IsDigit(c) {
			digits++
		}
		if _, ok := wire.HexDigit(c); ok {
			hex++
		}
	}
	trailing := 0
	for trailing < len(w) && wire.IsDigit(w[len(w)-1-trailing]) {
		trailing++
	}
	switch {
	case scrambled(w):
		return isID
	case digits == 0:
		return isWord
	case digits == len(w):
		if digits >= 3 {
			return isID
		}
		return isWord
	case technical(w) || isVersion(w):
		return isWord
	case trailing >= 3, // user1234
		hex == len(w) && len(w) >= 8,       // 9f86d081
		len(w) >= 16 && digits >= 2,        // 01HV3K5T9Z…
		digits >= 3 && trailing < digits,   // x1y2z3
		len(w) >= 8 && mixed(w, len(w), 3): // dQw4w9WgXcQ
		return isID
	}
	return isWord
}

// mixed tells whether s has at least shortest bytes, two digits, and so many changes between letters and digits, or from
// lower to upper case, as words do not have.
func mixed(s []byte, shortest, changes int) bool {
	if len(s) < shortest {
		return false
	}
	digits := 0
	for i, c := range s {
		if wire.IsDigit(c) {
			digits++
		}
		if i == 0 {
			continue
		}
		p := s[i-1]
		if wire.IsDigit(c) && wire.IsLetter(p) || wire.IsDigit(p) && wire.IsLetter(c) || p >= 'a' && p <= 'z' && c >= 'A' && c <= 'Z' {
			changes--
		}
	}
	return digits >= 2 && changes <= 0
}

// scrambled tells whether the letters of w come at random. Of 40,000 names of programs it takes 136 for random, most of which
// are; of random ones of 8, 12 and 22 letters it knows 37, 71 and 94 %.
func scrambled(w []byte) bool { return randomness(w) > 400 }

// randomness returns the log odds, in hundredths, that the letters of w are random ones rather than a word's, as far as that
// shows in vowels, rare letters, and small and capital ones side by side. It is 0 where there is too little to tell by. The weights
// are the logarithms of how often each occurs in random letters and in the names of programs, such as ln(0.19/0.40) for vowels.
func randomness(w []byte) int {
	if len(w) < 8 || humps(w) < 2 {
		return 0
	}
	odds := 0
	var last byte
	for _, c := range w {
		switch c | 0x20 {
		case 'a', 'e', 'i', 'o', 'u':
			odds -= 74
		case 'j', 'q', 'x', 'z':
			odds += 230
		default:
			odds += 11
		}
		upper := c >= 'A' && c <= 'Z'
		switch {
		case !wire.IsLetter(c) || !wire.IsLetter(last):
		case last >= 'a' && upper:
			odds += 135
		case last >= 'a':
			odds -= 55
		case upper:
			odds += 92
		default:
			odds -= 47
		}
		last = c
	}
	return odds
}

// humps returns how many capital letters stand behind small ones.
func humps(w []byte) int {
	n := 0
	for i := 1; i < len(w); i++ {
		if w[i]-'A' < 26 && w[i-1]-'a' < 26 {
			n++
		}
	}
	return n
}

// technical tells whether a word is one of those that end like an identifier and are none.
func technical(w []byte) bool {
	var lower [12]byte
	if len(w) > len(lower) {
		return false
	}
	for i, c := range w {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		lower[i] = c
	}
	switch string(lower[:len(w)]) {
	case "iso-8859-1", "iso-8859-15", "iso8859", "sha-224", "sha-256", "sha-384", "sha-512", "sha224", "sha256", "sha384",
		"sha512", "sha3-256", "sha3-512", "aes128", "aes192", "aes256", "rs256", "rs384", "rs512", "hs256", "hs384", "hs512",
		"es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519", "x25519", "secp256k1", "h264", "h265", "av1", "x509",
		"win32", "win64", "amd64", "arm64", "x86-64", "x86_64", "i386", "i686", "ppc64le", "s390x", "riscv64", "int128",
		"base64", "base64url", "crc32", "rfc7807", "rfc9457", "iso8601", "iso3166", "iso639", "office365", "o365", "m365",
		"microsoft365", "es2015", "oauth2", "p256", "bcp47", "log4j2":
		return true
	}
	return false
}

// isVersion tells whether s is a version: v1, V2, v1.2.3, v1beta2, 1.0, 2.1.0. Four numbers are an address.
func isVersion(s []byte) bool {
	v := len(s) > 1 && s[0]|0x20 == 'v'
	if v {
		s = s[1:]
	}
	numbers := 0
	for {
		n := 0
		for n < len(s) && wire.IsDigit(s[n]) {
			n++
		}
		if n == 0 || n > 3 || n > 2 && !v { // 48.137 is a place, not a version
			return false
		}
		numbers++
		s = s[n:]
		if len(s) == 0 {
			return numbers <= 3 && (v || numbers > 1)
		}
		if s[0] != '.' {
			break
		}
		s = s[1:]
	}
	for _, stage := range [...]string{"alpha", "beta", "preview", "rc"} {
		if v && len(s) >= len(stage) && bytes.EqualFold(s[:len(stage)], []byte(stage)) {
			s = s[len(stage):]
			return len(s) <= 2 && (len(s) < 1 || wire.IsDigit(s[0])) && (len(s) < 2 || wire.IsDigit(s[1]))
		}
	}
	return false
}

// isUUIDText tells whether 36 bytes are a UUID.
func isUUIDText(s []byte) bool {
	for i, c := range s {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if _, ok := wire.HexDigit(c); !ok {
			return false
		}
	}
	return true
}

// isDateText tells whether s is a date, or begins with one and goes on with a time: 2026-01-31, 2026-01, 2026-01-31T10:00:00Z.
func isDateText(s []byte) bool {
	const form = "dddd-dd-dd"
	for i := range min(len(s), len(form)) {
		if form[i] == 'd' && !wire.IsDigit(s[i]) || form[i] == '-' && s[i] != '-' {
			return false
		}
	}
	return len(s) == len("dddd-dd") || len(s) == len(form) || len(s) > len(form) && (s[len(form)] == 'T' || s[len(form)] == 't')
}

// isAddress tells whether s is a mail address with its @ at the given place, or as %40.
func isAddress(s []byte, at int) bool {
	behind := at + 1
	if at < 0 {
		if at = bytes.Index(s, []byte("%40")); at < 0 {
			return false
		}
		behind = at + 3
	}
	dot := bytes.LastIndexByte(s, '.')
	return at > 0 && dot > behind && dot < len(s)-1
}

// extension returns the file extension of an identifier: ".json" of "42.json".
func extension(s []byte) []byte {
	dot := bytes.LastIndexByte(s, '.')
	if dot <= 0 || len(s)-dot < 3 || len(s)-dot > 6 {
		return nil
	}
	for _, c := range s[dot+1:] {
		if c < 'a' || c > 'z' {
			return nil
		}
	}
	return s[dot:]
}
