package route

import (
	"bytes"
	"math"
	"sync"

	"github.com/perfagent/perfagent/internal/wire"
)

// What may be a secret is judged by its form, and rather once too often than not at all, in both roles: it is no word of a
// learned route, and where a path is shown it is hidden.

const (
	// longLetters is how many letters in a row are no word, unless they are several of the vocabulary's.
	longLetters = 24
	// chanceLetters and chanceMixed are how many letters, of one case or mixed, are needed to tell words from chance.
	chanceLetters, chanceMixed = 10, 8
	// told is how long a value behind a word such as "token" is at least.
	told = 4
	// toldWordsMax is how many words of the vocabulary an action behind such a word has at most; more are a passphrase.
	toldWordsMax = 3
)

// classOf is kindOf, and isID for what may be a secret; front is the path up to the slash in front.
func classOf(s, front []byte) segmentClass {
	class := kindOf(s)
	if class != isWord || keyedName(s) > 0 {
		return class
	}
	if secret(s) || hasValue(s) || tellsWithin(s) || isTold(s, front) {
		return isID
	}
	return isWord
}

// isTold tells whether a segment stands behind a word that tells of a secret, and is nothing else. It is as long as told, or has a digit.
func isTold(s, front []byte) bool {
	if len(s) < told && (len(s) < 2 || bytes.IndexAny(s, "0123456789") < 0) {
		return false
	}
	kind := telling(front)
	return kind != tellsNothing && !spoken(s) && (kind != isEntrance || !entrance(s))
}

// entrance tells whether a segment behind a word such as auth says with whom or how one signs in.
func entrance(s []byte) bool {
	switch string(s) {
	case "google", "facebook", "github", "gitlab", "bitbucket", "twitter", "apple", "microsoft", "linkedin", "okta", "azure", "azuread", "entra", "keycloak",
		"discord", "slack", "amazon", "cognito", "yahoo", "dropbox", "spotify", "twitch", "steam", "adfs", "shibboleth", "kerberos", "whoami", ".well-known":
		return true
	}
	return kindOfName(s, nil) != tellsNothing
}

// shownClass is classOf where no service has a route to tell by.
func shownClass(s, front []byte) segmentClass {
	class := classOf(s, front)
	if class == isWord && coded(s) {
		return isID
	}
	return class
}

// hasValue tells whether a segment has a value behind "=", or is somebody at a host: login,user=bob, jane@localhost.
func hasValue(s []byte) bool {
	if i := bytes.IndexByte(s, '='); i >= 0 && len(bytes.TrimRight(s[i:], "=")) > 0 {
		return true
	}
	i := bytes.LastIndexByte(s, '@')
	if i <= 0 || i+1 == len(s) || !wire.IsLetter(s[i+1]) {
		return false
	}
	switch string(s[i+1:]) { // what packages have
	case "latest", "next", "main", "master", "head", "HEAD", "stable", "beta", "alpha", "canary", "dev", "edge", "nightly":
		return false
	}
	return true
}

// settingName returns the name in front of a value, "token" in "token=abc" and "token:abc", and where the value begins; 0:
// there is none. A colon is one only behind a name of secrets: others have actions behind it ("messages:send").
func settingName(s []byte) (name []byte, end int) {
	i := bytes.IndexByte(s, '=')
	if colon := bytes.IndexByte(s, ':'); colon >= 0 && (i < 0 || colon < i) && namesSecret(s[:colon]) {
		i = colon
	}
	if i <= 0 || !isIdentifier(s[:i]) && !hyphenated(s[:i]) {
		return nil, 0
	}
	if len(bytes.TrimRight(s[i:], "=")) == 0 || s[i] == ':' && i+1 == len(s) { // nothing behind it, or the padding of base64
		return nil, 0
	}
	return s[:i], i + 1
}

// hyphenated tells whether s is an identifier with hyphens in it.
func hyphenated(s []byte) bool {
	for len(s) > 0 {
		n := bytes.IndexByte(s, '-')
		if n < 0 {
			return isIdentifier(s)
		}
		if !isIdentifier(s[:n]) {
			return false
		}
		s = s[n+1:]
	}
	return false
}

// appendSettings writes a segment of names and values with parameters in the place of the values.
func appendSettings(dst, s, name []byte, end int) []byte {
	for end > 0 && kindOf(name) == isWord && !secret(name) {
		dst = append(append(append(dst, s[:end]...), '{'), name...)
		dst = append(dst, '}')
		next := bytes.IndexAny(s[end:], ",&")
		if next < 0 {
			return dst
		}
		dst = append(dst, s[end+next])
		s = s[end+next+1:]
		name, end = settingName(s)
	}
	return append(dst, "{id}"...)
}

// isDated tells whether s is a name that names no secret with a date behind it: date=2026-01-31.
func isDated(s []byte) bool {
	name, end := settingName(s)
	return end > 0 && !namesSecret(name) && kindOf(name) == isWord && !secret(name) && kindOf(s[end:]) == isDate
}

// namesSecret tells whether a word is what secrets are called.
func namesSecret(w []byte) bool {
	var buf [16]byte
	if len(w) > len(buf) {
		return false
	}
	for i, c := range w {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		} else if c == '_' {
			c = '-'
		}
		buf[i] = c
	}
	switch string(buf[:len(w)]) {
	case "token", "tokens", "access-token", "refresh-token", "auth-token", "id-token", "secret", "secrets", "client-secret", "password", "passwd",
		"pass", "pwd", "pw", "passphrase", "key", "apikey", "api-key", "x-api-key", "access-key", "secret-key", "private-key", "otp", "totp", "pin", "magic",
		"magic-link", "sig", "signature", "jwt", "bearer", "auth", "authorization", "credential", "credentials", "session", "session-id", "sessionid",
		"sid", "jsessionid", "phpsessid", "csrf", "csrf-token", "nonce":
		return true
	}
	return false
}

// spoken tells whether a segment behind a telling word is made of words of the vocabulary, few enough not to be a passphrase,
// or a version: an action or a file rather than a secret.
func spoken(s []byte) bool {
	if reserved(s) || isVersion(s) || technical(s) || bytes.IndexAny(s, "0123456789") >= 0 && namedMixture(s) {
		return true
	}
	if s = s[:len(s)-len(extension(s))]; len(s) > longLetters {
		return false
	}
	known, words, digits := splitWords(s)
	return words > 0 && known == words && words <= toldWordsMax && digits == 0
}

// secret tells whether a segment that kindOf takes for words may be a secret.
func secret(s []byte) bool {
	if len(s) < chanceMixed {
		return false
	}
	if padding := len(s) - len(bytes.TrimRight(s, "=")); padding > 0 {
		return padding <= 2 && len(s) >= 8 && len(s)%4 == 0 // base64
	}
	for _, begin := range [...]string{"sk_", "pk_", "rk_", "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-",
		"xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "AKIA", "ASIA", "AIza", "eyJ", "SG."} {
		if bytes.HasPrefix(s, []byte(begin)) && len(s) >= len(begin)+12 {
			return true
		}
	}
	if isVoucher(s) {
		return true
	}
	var all chance
	for len(s) > 0 {
		n := 0
		for n < len(s) && wire.IsLetter(s[n]) {
			n++
		}
		word := chanceOf(s[:n])
		if word.tells() || n >= longLetters && humps(s[:n]) == 0 && !spelled(s[:n]) {
			return true
		}
		all.add(word)
		s = s[min(n+1, len(s)):]
	}
	return all.tells()
}

// isVoucher tells whether s is a code in groups of capitals and digits: XK9-22L-PQ1.
func isVoucher(s []byte) bool {
	mixed, letters, digits := 0, 0, 0
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == '-':
			if letters > 0 && digits > 0 {
				mixed++
			}
			letters, digits = 0, 0
		case wire.IsDigit(s[i]):
			digits++
		case s[i] >= 'A' && s[i] <= 'Z':
			letters++
		default:
			return false
		}
	}
	return mixed >= 2 && len(s) >= 8
}

// spelled tells whether letters are words of the vocabulary, one behind the other.
func spelled(w []byte) bool {
	const shortest, longest = 2, 20
	ends := make([]bool, len(w)+1) // where a word may end
	ends[0] = true
	for end := shortest; end <= len(w); end++ {
		for start := max(0, end-longest); start <= end-shortest && !ends[end]; start++ {
			ends[end] = ends[start] && apiWord(bytes.ToLower(w[start:end]))
		}
	}
	return ends[len(w)]
}

// chance is how likely letters are words rather than random ones.
type chance struct {
	letters, humps int
	odds           float64 // natural logarithm; positive for words
}

func (c *chance) add(o chance) {
	c.letters, c.humps, c.odds = c.letters+o.letters, c.humps+o.humps, c.odds+o.odds
}

// tells tells whether the letters are rather random. Random ones come to -1 a letter, words to +1. The longer they are the
// less it takes: few words are long. Of 20,000 names of files and packages with 8 letters and more it takes one in 200 for
// random, mostly abbreviations in a row (libvtkgdcm); of random ones of 12, 16 and 20 letters it knows 85, 97 and 99 %.
func (c *chance) tells() bool {
	if c.humps >= 2 {
		return c.letters >= chanceMixed && c.odds < -5+0.3*float64(c.letters-chanceMixed)
	}
	return c.letters >= chanceLetters && c.odds < -8+0.6*float64(c.letters-chanceLetters)
}

// chanceOf judges letters by those that follow each other in the vocabulary, where capitals begin words, and by where
// capitals stand.
func chanceOf(w []byte) chance {
	c := chance{letters: len(w), humps: humps(w)}
	odds, last := letterOdds(), firstLetter
	for i, b := range w {
		small := b|0x20 == b
		if i > 0 && !small && w[i-1] >= 'a' {
			last = firstLetter
		}
		letter := int(b|0x20) - 'a'
		c.odds += odds[last][letter]
		last = letter
		if i == 0 || c.humps < 2 {
			continue
		}
		switch after := w[i-1] >= 'a'; { // as randomness weighs them
		case after && !small:
			c.odds -= 1.35
		case after:
			c.odds += 0.55
		case !small:
			c.odds -= 0.92
		default:
			c.odds += 0.47
		}
	}
	return c
}

// firstLetter is in the place of the letter before a word's first.
const firstLetter = 26

// letterOdds returns by how much likelier each letter is behind another in the vocabulary than by chance, as logarithms.
var letterOdds = sync.OnceValue(func() *[firstLetter + 1][26]float64 {
	const letters, unseen = 26, 0.5
	var odds [firstLetter + 1][letters]float64
	var sums [firstLetter + 1]float64
	for w := range vocabulary {
		last := firstLetter
		for _, b := range []byte(w) {
			if !wire.IsLetter(b) {
				break
			}
			odds[last][b-'a']++
			sums[last]++
			last = int(b - 'a')
		}
	}
	for last := range odds {
		for b, n := range odds[last] {
			odds[last][b] = math.Log((n + unseen) / (sums[last] + letters*unseen) * letters)
		}
	}
	return &odds
})
