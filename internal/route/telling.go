package route

import (
	"bytes"
	"strings"

	"github.com/perfagent/perfagent/internal/wire"
)

// wordsMax bounds the words that a segment is read as.
const wordsMax = 12

// tellingKind is why a secret may follow a word; of several, the largest counts.
type tellingKind uint8

const (
	tellsNothing  tellingKind = iota
	isEntrance                // where secrets are asked for: auth
	isDeed                    // what is done with one: reset
	isOftenName               // what secrets are called, and other things as well: key
	isSecretsName             // what only secrets are called: token
)

// tellingWords are in lower case. Not among them, because what follows is mostly a name that says what a path is: webhook and hook (stripe),
// saml (a configuration), download, shared and public (files), code (see tellsBehind), claim, grant, registration and authentication
// (resources).
var tellingWords = func() map[string]tellingKind {
	words := map[string]tellingKind{}
	for kind, text := range map[tellingKind]string{
		isSecretsName: `token secret password passwd pwd pw passphrase passcode apikey otp totp magiclink jwt jwts bearer sessionid sid jsessionid phpsessid
			credential cred creds nonce csrf xsrf mnemonic sso`,
		isOftenName: `pass key keys pin pins magic sig signature session ticket voucher coupon cookie share`,
		isDeed: `reset forgot forget forgotten recover recovery login logon signin signon verify verification validate validation confirm confirmation
			activate activation invite invitation join signup register unsubscribe unsub optout optin unlock accept approve decline
			rsvp redeem`,
		isEntrance: `auth oauth authenticate authorize authorization mfa tfa`,
	} {
		for w := range strings.FieldsSeq(text) {
			words[w] = kind
		}
	}
	return words
}()

// kindOfWord returns why a secret may follow a word in lower case; also a plural, but for /tickets/, which is a resource.
func kindOfWord(w []byte) tellingKind {
	kind := tellingWords[string(w)]
	if n := len(w); kind == tellsNothing && n >= 6 && w[n-1] == 's' && string(w) != "tickets" {
		kind = tellingWords[string(w[:n-1])]
	}
	return kind
}

// tellsBehind tells whether a word tells behind another only: a code is one of /oauth/code/, not of /country/code/.
func tellsBehind(w, other []byte) bool {
	switch string(w) {
	case "code", "codes":
		switch string(other) {
		case "callback", "access", "security", "backup", "device":
			return true
		}
		return kindOfWord(other) != tellsNothing
	case "link", "links":
		switch string(other) {
		case "reset", "magic", "login", "share", "shared", "invite":
			return true
		}
	case "basic":
		return string(other) == "auth" || string(other) == "authorization"
	case "in", "on", "up":
		return string(other) == "sign" || string(other) == "log"
	case "out":
		return string(other) == "opt"
	}
	return false
}

// compoundEnds and compoundBegins are the telling words that are found in others, without what is between them. Short ones would be
// found in too many (keyboard, passport).
var (
	compoundEnds = [...]string{"token", "tokens", "secret", "secrets", "password", "passwords", "passwd", "passcode", "passphrase", "login", "signin", "session",
		"voucher", "ticket", "signature", "apikey", "reset", "recovery", "verify", "verification", "confirm", "confirmation", "activate", "activation",
		"invite", "invitation", "unlock", "code", "link", "key", "keys"}
	compoundBegins = [...]string{"reset", "forgot", "recover", "login", "signin", "verify", "confirm", "activate", "invite", "unsubscribe", "unlock", "accept"}
)

// kindOfCompound is kindOfWord for two words written as one: setpassword, verifyemail. In front of what only secrets are called there may
// be anything.
func kindOfCompound(w []byte) tellingKind {
	for _, end := range compoundEnds {
		n := len(w) - len(end)
		if n < 2 || string(w[n:]) != end {
			continue
		}
		kind := kindOfWord(w[n:])
		if kind == tellsNothing && tellsBehind(w[n:], w[:n]) {
			return isOftenName
		}
		if kind == isSecretsName || kind != tellsNothing && (apiWord(w[:n]) || kindOfWord(w[:n]) != tellsNothing) {
			return max(kind, isOftenName)
		}
	}
	for _, begin := range compoundBegins {
		if n := len(begin); len(w) > n+2 && string(w[:n]) == begin && apiWord(w[n:]) {
			return isDeed
		}
	}
	return tellsNothing
}

// kindOfWords is kindOfWord, also for two words written as one.
func kindOfWords(w []byte) tellingKind {
	kind := kindOfWord(w)
	if kind == tellsNothing && len(w) >= 6 {
		kind = kindOfCompound(w)
	}
	return kind
}

// isLower tells whether s is made of small letters.
func isLower(s []byte) bool {
	for _, c := range s {
		if c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}

// wordList is a segment's words in lower case, as separators, digits and capitals divide it.
type wordList struct {
	buf    [segmentMax]byte
	ends   [wordsMax][2]uint8 // where each begins and ends
	n      int
	dotted bool // a dot is in front of the last one
}

func (l *wordList) word(i int) []byte { return l.buf[l.ends[i][0]:l.ends[i][1]] }

// split finds at most wordsMax words in the first segmentMax bytes: of what is longer, none tells. A word ends at what is no letter, before a
// capital behind a small letter, and before the last of several capitals that a small letter follows.
func (l *wordList) split(s []byte) {
	start := 0
	for i, c := range s[:min(len(s), segmentMax)] {
		l.buf[i] = c
		if c >= 'A' && c <= 'Z' {
			l.buf[i] |= 0x20
		}
		upper := c >= 'A' && c <= 'Z'
		switch {
		case !wire.IsLetter(c):
			l.add(start, i)
			start = i + 1
		case upper && i > start && (s[i-1] >= 'a' || i+1 < len(s) && s[i+1] >= 'a' && s[i+1] <= 'z'): // accessToken, JWTToken
			l.add(start, i)
			start = i
		}
	}
	l.add(start, min(len(s), segmentMax))
	if l.n > 0 {
		last := l.word(l.n - 1)
		i := bytes.LastIndexByte(s, '.')
		l.dotted = i > 0 && bytes.EqualFold(s[i+1:min(len(s), i+1+len(last))], last)
	}
}

func (l *wordList) add(start, end int) {
	if start < end && l.n < wordsMax {
		l.ends[l.n] = [2]uint8{uint8(start), uint8(end)}
		l.n++
	}
}

// filling tells whether a word behind what tells is none that changes what follows: my-password-is, session-id.
func filling(w []byte) bool {
	switch string(w) {
	case "is", "are", "was", "equals", "eq", "value", "values", "id", "ids", "for", "to", "of", "by", "with", "from", "here", "text", "string", "hash":
		return true
	}
	return false
}

// kindOfName returns why a secret may follow a segment: one of its words is what only secrets are called (userToken, token.json),
// its last one what also other things are (license-key, auth_code), or its first or last what is done with secrets (verifyEmail) or
// where they are asked for. front is the path before it.
func kindOfName(s, front []byte) tellingKind {
	if len(s) > segmentMax {
		return tellsNothing
	}
	if isLower(s) { // one word, as most are: without copying it
		if behind(s, front) {
			return isOftenName
		}
		return kindOfWords(s)
	}
	var l wordList
	l.split(s)
	end := l.n // behind the last word, without a file's extension and what fills
	if l.dotted {
		end--
	}
	for end > 1 && filling(l.word(end-1)) {
		end--
	}
	found := tellsNothing
	for i := range l.n {
		w := l.word(i)
		last := i >= l.n-1 || i == end-1
		kind := kindOfWords(w)
		switch {
		case last && (i > 0 && tellsBehind(w, l.word(i-1)) || i == 0 && behind(w, front)):
			found = max(found, isOftenName)
		case kind == isSecretsName, last, i == 0 && kind == isDeed:
			found = max(found, kind)
		}
		if last && string(w) == "fa" && l.follows(i, '2') {
			found = max(found, isEntrance)
		}
	}
	return found
}

// follows tells whether a word stands behind a byte.
func (l *wordList) follows(i int, c byte) bool {
	start := l.ends[i][0]
	return start > 0 && l.buf[start-1] == c
}

// behind is tellsBehind for the last word of the segment in front, versions left out.
func behind(w, front []byte) bool {
	switch string(w) {
	case "code", "codes", "link", "links", "basic", "in", "on", "up", "out": // as tellsBehind has them; to be quick with all others
	default:
		return false
	}
	var buf [segmentMax]byte
	s, front := lastSegment(buf[:], front)
	for isVersion(s) {
		s, front = lastSegment(buf[:], front)
	}
	var l wordList
	l.split(s)
	return l.n > 0 && tellsBehind(w, l.word(l.n-1))
}

// telling returns why a secret may follow a path's beginning, which is without its last slash. What tells is its last segment, or one in
// front of versions and the like (/token/v1/…), or of one other segment, unless it often means something else (/verify/email/…, but not
// /keys/1042/…).
func telling(front []byte) tellingKind {
	var buf [segmentMax]byte
	for between := false; len(front) > 0; {
		var s []byte
		if s, front = lastSegment(buf[:], front); isVersion(s) || string(s) == "api" {
			continue
		}
		kind := kindOfName(s, front)
		switch {
		case kind == isDeed || kind == isSecretsName || kind != tellsNothing && !between:
			return kind
		case passed(s):
		case between:
			return tellsNothing
		default:
			between = true
		}
	}
	return tellsNothing
}

// passed tells whether a segment behind one that tells changes nothing: a version, an algorithm, a language, a word as short as no
// value is, but for an action (/session/new/).
func passed(s []byte) bool {
	switch {
	case len(s) <= 2:
		return !reserved(s)
	case len(s) < told:
		return string(s) == "api" || !spoken(s)
	}
	return isVersion(s) || technical(s) || isRegion(s) || string(s) == "rest"
}

// lastSegment returns a path's last segment that leads anywhere, decoded and without parameters of its own, and what is in front of it.
// What it decodes is in buf.
func lastSegment(buf, path []byte) (segment, front []byte) {
	for len(path) > 0 {
		i := bytes.LastIndexByte(path, '/')
		segment, path = decoded(buf, path[i+1:]), path[:max(i, 0)]
		if i := bytes.IndexByte(segment, ';'); i >= 0 {
			segment = segment[:i]
		}
		if len(bytes.TrimLeft(segment, ".")) > 0 {
			return segment, path
		}
	}
	return nil, nil
}

// encodedMax is how often a segment may be percent-encoded: by a client, and again by what stands between it and the server.
const encodedMax = 3

// decoded returns a segment without percent-encoding: itself where it has none, or more than buf has room for.
func decoded(buf, s []byte) []byte {
	for range encodedMax {
		if bytes.IndexByte(s, '%') < 0 {
			return s
		}
		n := 0
		for i := 0; i < len(s); i, n = i+1, n+1 {
			if n == len(buf) {
				return s
			}
			c := s[i]
			if c == '%' && i+2 < len(s) {
				high, ok := wire.HexDigit(s[i+1])
				low, too := wire.HexDigit(s[i+2])
				if ok && too {
					c = byte(high<<4 | low)
					i += 2
				}
			}
			buf[n] = c
		}
		s = buf[:n]
	}
	return s
}

// tellsWithin tells whether a segment has a telling word with a value behind it: token-hunter, login,user=bob. Behind what is
// done with secrets, and behind names of other things as well, several words are no value (login-with-a-passkey, session_duration_95p).
func tellsWithin(s []byte) bool {
	for i := 1; i+told < len(s); i++ {
		if wire.IsLetter(s[i]) || wire.IsDigit(s[i]) {
			continue
		}
		kind, rest := kindOfName(s[:i], nil), s[i+1:]
		if kind <= isEntrance || s[i] == '.' && fileEnd(s) <= i || spoken(rest) || bytes.IndexByte(s[:i], '(') >= 0 {
			continue
		}
		if kind == isSecretsName || s[i] == ',' || s[i] == '=' || bytes.IndexAny(rest, "-_.~") < 0 {
			return true
		}
	}
	return false
}
