package route

import (
	"bytes"

	"github.com/perfagent/perfagent/internal/wire"
)

// wordsMax bounds the words that a segment is read as.
const wordsMax = 12

// tellingKind is why a secret may follow a word.
type tellingKind uint8

const (
	tellsNothing  tellingKind = iota
	isSecretsName             // what secrets are called: token
	isDeed                    // what is done with one: reset
)

// tellingWords are in lower case. Those of a part of an API (auth, credentials, nonce, csrf) are none.
var tellingWords = map[string]tellingKind{
	"token": isSecretsName, "secret": isSecretsName, "password": isSecretsName, "passwd": isSecretsName, "pass": isSecretsName, "pwd": isSecretsName,
	"pw": isSecretsName, "passphrase": isSecretsName, "passcode": isSecretsName, "key": isSecretsName, "keys": isSecretsName, "apikey": isSecretsName,
	"otp": isSecretsName, "totp": isSecretsName, "pin": isSecretsName, "magic": isSecretsName, "magiclink": isSecretsName, "sig": isSecretsName,
	"signature": isSecretsName, "jwt": isSecretsName, "bearer": isSecretsName, "session": isSecretsName, "sessionid": isSecretsName, "sid": isSecretsName,
	"jsessionid": isSecretsName, "phpsessid": isSecretsName, "ticket": isSecretsName, "voucher": isSecretsName, "sso": isSecretsName,
	"reset": isDeed, "forgot": isDeed, "recover": isDeed, "recovery": isDeed, "login": isDeed, "signin": isDeed, "verify": isDeed, "verification": isDeed,
	"confirm": isDeed, "confirmation": isDeed, "activate": isDeed, "activation": isDeed, "invite": isDeed, "invitation": isDeed, "unsubscribe": isDeed,
	"optout": isDeed, "unlock": isDeed, "accept": isDeed,
}

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
		case "oauth", "auth", "authorization", "callback", "access", "security", "backup", "device":
			return true
		}
		return kindOfWord(other) != tellsNothing
	case "link":
		return string(other) == "reset" || string(other) == "magic" || string(other) == "login"
	case "basic":
		return string(other) == "auth" || string(other) == "authorization"
	case "in":
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
		"invite", "invitation", "unlock", "code", "link"}
	compoundBegins = [...]string{"reset", "forgot", "recover", "login", "signin", "verify", "confirm", "activate", "invite", "unsubscribe", "unlock", "accept"}
)

// kindOfCompound is kindOfWord for two words written as one: setpassword, verifyemail.
func kindOfCompound(w []byte) tellingKind {
	for _, end := range compoundEnds {
		n := len(w) - len(end)
		if n < 2 || string(w[n:]) != end {
			continue
		}
		if len(end) == len("code") {
			if tellsBehind(w[n:], w[:n]) {
				return isSecretsName
			}
		} else if apiWord(w[:n]) {
			return isSecretsName
		}
	}
	for _, begin := range compoundBegins {
		if n := len(begin); len(w) > n+2 && string(w[:n]) == begin && apiWord(w[n:]) {
			return isDeed
		}
	}
	return tellsNothing
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

// kindOfName returns why a secret may follow a segment: its last word is what secrets are called (userToken, auth_code,
// token.json), or its first or last what is done with one (verifyEmail). front is the path before it.
func kindOfName(s, front []byte) tellingKind {
	if len(s) > segmentMax {
		return tellsNothing
	}
	var l wordList
	l.split(s)
	found := tellsNothing
	for i := range l.n {
		w := l.word(i)
		last := i == l.n-1 || i == l.n-2 && l.dotted
		kind := kindOfWord(w)
		if kind == tellsNothing && len(w) >= 6 {
			kind = kindOfCompound(w)
		}
		switch {
		case kind == isSecretsName && last, last && i > 0 && tellsBehind(w, l.word(i-1)), last && i == 0 && behind(w, front):
			return isSecretsName
		case kind == isDeed && (i == 0 || last):
			found = isDeed
		}
	}
	return found
}

// behind is tellsBehind for the last word of the segment in front.
func behind(w, front []byte) bool {
	var l wordList
	s, _ := lastSegment(front)
	l.split(s)
	return l.n > 0 && tellsBehind(w, l.word(l.n-1))
}

// telling tells whether a secret may follow a path's beginning, which is without its last slash.
func telling(front []byte) bool {
	s, front := lastSegment(front)
	return kindOfName(s, front) != tellsNothing
}

// lastSegment returns a path's last segment that leads anywhere, without parameters of its own, and what is in front of it.
func lastSegment(path []byte) (segment, front []byte) {
	for len(path) > 0 {
		i := bytes.LastIndexByte(path, '/')
		segment, path = path[i+1:], path[:max(i, 0)]
		if i := bytes.IndexByte(segment, ';'); i >= 0 {
			segment = segment[:i]
		}
		if !dots(segment) {
			return segment, path
		}
	}
	return nil, nil
}

// dots tells whether a segment is empty or made of dots, which may be encoded.
func dots(s []byte) bool {
	for len(s) > 0 {
		switch {
		case s[0] == '.':
			s = s[1:]
		case len(s) >= 3 && bytes.EqualFold(s[:3], []byte("%2e")):
			s = s[3:]
		default:
			return false
		}
	}
	return true
}

// ambiguous tells whether a segment ends with a word that names other things than secrets as well.
func ambiguous(s []byte) bool {
	var l wordList
	l.split(s)
	if l.n == 0 {
		return true
	}
	switch string(l.word(l.n - 1)) {
	case "key", "keys", "session", "sessions", "magic", "pass", "signature", "signatures", "sig", "ticket", "voucher", "pin", "code", "codes", "link", "basic", "in", "out":
		return true
	}
	return false
}

// tellsWithin tells whether a segment has a telling word with a value behind it: token-hunter, login,user=bob. Behind what is
// done with secrets, and behind ambiguous names of them, several words are no value (login-with-a-passkey, session_duration_95p).
func tellsWithin(s []byte) bool {
	for i := 1; i+told < len(s); i++ {
		if wire.IsLetter(s[i]) || wire.IsDigit(s[i]) {
			continue
		}
		kind, rest := kindOfName(s[:i], nil), s[i+1:]
		if kind == tellsNothing || s[i] == '.' && fileEnd(s) <= i || spoken(rest) || bytes.IndexByte(s[:i], '(') >= 0 {
			continue
		}
		if kind == isSecretsName && !ambiguous(s[:i]) || s[i] == ',' || s[i] == '=' || bytes.IndexAny(rest, "-_.~") < 0 {
			return true
		}
	}
	return false
}
