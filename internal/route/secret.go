package route

import (
	"bytes"
	"math"
	"strings"
	"sync"

	"github.com/perfagent/perfagent/internal/wire"
)

// A path that no route stands for, as a client's, shows what was asked for. There is nobody to learn from which of its words
// are values: what may be a secret is judged by its form, and rather once too often than not at all. What it is taken for
// does not matter to anybody's figures.

const (
	// longLetters is how many letters in a row are no word, unless they are several of the vocabulary's.
	longLetters = 24
	// chanceLetters and chanceMixed are how many letters, of one case or mixed, are needed to tell words from chance.
	chanceLetters, chanceMixed = 10, 8
	// told is how long a value behind a word such as "token" is at least.
	told = 4
)

// appendDiscreet is appendMasked for a path without a route; before is the segment in front.
func appendDiscreet(dst, s, before []byte) []byte {
	if keyedName(s) > 0 {
		return appendMasked(dst, s)
	}
	if name, end := settingName(s); end > 0 {
		return appendSettings(dst, s, name, end)
	}
	if kindOf(s) == isWord && (secret(s) || tellsSecret(before) && !spoken(s)) {
		return append(append(dst, "{id}"...), extension(s)...)
	}
	return appendMasked(dst, s)
}

// settingName returns the name in front of a value, "token" in "token=abc" and "token:abc", and where the value begins; 0:
// there is none. A colon is one only behind a name of secrets: others have actions behind it ("messages:send").
func settingName(s []byte) (name []byte, end int) {
	i := bytes.IndexAny(s, "=:")
	if i <= 0 || !isIdentifier(s[:i]) && !tellsSecret(s[:i]) || s[i] == ':' && !tellsSecret(s[:i]) {
		return nil, 0
	}
	if len(bytes.TrimRight(s[i:], "=")) == 0 { // nothing behind it, or the padding of base64
		return nil, 0
	}
	return s[:i], i + 1
}

// appendSettings writes a segment of names and values with parameters in the place of the values.
func appendSettings(dst, s, name []byte, end int) []byte {
	if kindOf(name) != isWord || secret(name) {
		return append(dst, "{id}"...)
	}
	dst = append(append(append(dst, s[:end]...), '{'), name...)
	dst = append(dst, '}')
	next := bytes.IndexAny(s[end:], ",&")
	if next < 0 {
		return dst
	}
	rest := s[end+next+1:]
	dst = append(dst, s[end+next])
	if name, end := settingName(rest); end > 0 {
		return appendSettings(dst, rest, name, end)
	}
	return append(dst, '*')
}

// tellsSecret tells whether what follows a word is a secret.
func tellsSecret(w []byte) bool {
	if len(w) > 16 {
		return false
	}
	switch strings.ToLower(string(w)) {
	case "token", "tokens", "access-token", "access_token", "refresh-token", "refresh_token", "auth-token", "auth_token",
		"secret", "secrets", "password", "passwd", "pwd", "apikey", "api-key", "api_key", "otp", "magic", "magic-link", "sig",
		"signature", "reset", "password-reset", "reset-password", "reset_password", "jwt", "bearer":
		return true
	}
	return false
}

// spoken tells whether one of a segment's words is in the vocabulary, or it is a file, a version, or too short for a secret.
func spoken(s []byte) bool {
	known, _, _ := splitWords(s)
	return known > 0 || len(s) < told || reserved(s) || isVersion(s) || extension(s) != nil
}

// secret tells whether a segment that kindOf takes for words may be a secret.
func secret(s []byte) bool {
	if padding := len(s) - len(bytes.TrimRight(s, "=")); padding > 0 {
		return padding <= 2 && len(s) >= 8 && len(s)%4 == 0 // base64
	}
	for _, begin := range [...]string{"sk_", "pk_", "rk_", "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-",
		"xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "AKIA", "ASIA", "AIza", "eyJ", "SG."} {
		if bytes.HasPrefix(s, []byte(begin)) && len(s) >= len(begin)+12 {
			return true
		}
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
