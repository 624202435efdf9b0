package route

import (
	"bytes"

	"github.com/perfagent/perfagent/internal/wire"
)

// codedLeast is how long a segment is at least that its mixture of letters and digits alone makes a value.
const codedLeast = 6

// coded tells whether a segment that kindOf takes for words mixes letters and digits, or small and capital letters, as words and the
// known names with digits do not, or is made like a code: of groups, or of hexadecimal digits. Such a segment is shown nowhere as
// long as no service is known to have a route of that name.
func coded(s []byte) bool {
	s = s[:fileEnd(s)]
	if len(s) < 4 || keyedName(s) > 0 || reserved(s) || isVersion(s) || technical(s) {
		return false
	}
	if isHexLetters(s) || isHexPairs(s) || isMeeting(s) {
		return true
	}
	weak, colon := 0, false
	part, all := s, chance{} // up to a dot, and its letters
	for rest := s; len(rest) > 0; {
		n := 0
		for n < len(rest) && (wire.IsLetter(rest[n]) || wire.IsDigit(rest[n])) {
			n++
		}
		switch codedPiece(rest[:n], len(s) >= codedLeast) {
		case 2:
			return true
		case 1:
			weak++
			if colon {
				return true
			}
		}
		for i := 0; i < n; {
			k := i
			for k < n && wire.IsLetter(rest[k]) {
				k++
			}
			all.add(chanceOf(rest[i:k]))
			i = k + 1
		}
		if n == len(rest) || rest[n] == '.' {
			part = part[:len(part)-len(rest)+n]
			if known, words, _ := splitWords(part); mixedCase(all) && known*2 < words {
				return true
			}
			all, part = chance{}, rest[min(n+1, len(rest)):]
		}
		colon = colon || n < len(rest) && rest[n] == ':'
		rest = rest[min(n+1, len(rest)):]
	}
	return weak >= 2
}

// mixedCase tells whether letters with capitals among them are rather random.
func mixedCase(c chance) bool { return c.humps > 0 && c.letters >= codedLeast && c.odds < 0 }

// codedPiece tells how much letters and digits without separators look like a code's: 2 decides, two of 1 do.
func codedPiece(p []byte, long bool) int {
	letters, digits, upper, lower, trailing := 0, 0, 0, 0, 0
	for _, c := range p {
		switch {
		case wire.IsDigit(c):
			digits++
			trailing++
			continue
		case c >= 'a':
			lower++
		default:
			upper++
		}
		letters++
		trailing = 0
	}
	if letters == 0 || digits == 0 || knownMixture(p) {
		return 0
	}
	switch {
	case len(p) >= 4 && upper > 0 && lower > 0 && (humps(p) > 0 || trailing < digits):
		return 2
	case !long || len(p) < 3:
		return 0
	case len(p) >= codedLeast || len(p) >= 4 && trailing < digits:
		return 2
	}
	return 1
}

// knownMixture tells whether letters and digits are one of the known names, alone or with words behind it (s3bucket), or words of the
// vocabulary with one digit behind them (part2) or with a 2 or 4 between them (web2print). password1 is none.
func knownMixture(p []byte) bool {
	if technical(p) || isVersion(p) || numeronym(p) == len(p) || isVersioned(p) {
		return true
	}
	n := 0
	for n < len(p) && wire.IsDigit(p[n]) {
		n++
	}
	switch string(p[n:]) { // 1st, 30d
	case "st", "nd", "rd", "th", "d", "h", "m", "s", "ms", "min", "x", "p", "k":
		return n > 0 && n <= 3
	}
	if namedMixture(p) {
		return true
	}
	known, words, digits := splitWords(p)
	if words == 0 || known < words || digits != 1 || kindOfName(p, nil) >= isOftenName {
		return false
	}
	last := p[len(p)-1]
	return wire.IsDigit(last) || wire.IsLetter(p[0]) && bytes.IndexAny(p, "24") > 0
}

// namedMixture tells whether letters and digits begin with one of the names that have both, and go on with nothing but words.
func namedMixture(p []byte) bool {
	var lower [segmentMax]byte
	w := lower[:copy(lower[:], p)]
	for i, c := range w {
		if c >= 'A' && c <= 'Z' {
			w[i] |= 0x20
		}
	}
	for _, name := range [...]string{"s3", "ec2", "ipv4", "ipv6", "oauth2", "oauth1", "web3", "mp3", "mp4", "utf8", "utf16", "saml2", "log4j", "log4shell", "x509",
		"k8s", "i18n", "l10n", "a11y", "b2b", "b2c", "p2p", "e2e", "2fa", "u2f", "fido2", "h2", "http2", "http3", "html5", "css3", "x86", "x64", "md5", "sha1",
		"sha2", "sha3", "woff2", "bz2", "m3u8", "route53", "auth0", "web2", "neo4j", "d3", "es6", "python3", "webp2", "tls12", "tls13", "iso9001"} {
		if rest, ok := bytes.CutPrefix(w, []byte(name)); ok && (len(rest) == 0 || apiWord(rest) || compound(rest)) {
			return true
		}
	}
	return false
}

// isVersioned tells whether p is words with a version behind them: projectsV2.
func isVersioned(p []byte) bool {
	n := len(p)
	for n > 0 && wire.IsDigit(p[n-1]) {
		n--
	}
	if n < 4 || len(p)-n > 2 || p[n-1] != 'V' {
		return false
	}
	known, words, digits := splitWords(p[:n-1])
	return digits == 0 && known*2 >= words
}

// isHexLetters tells whether s is eight or more hexadecimal digits that happen to be letters: deadbeef.
func isHexLetters(s []byte) bool {
	if len(s) < 8 || len(s)%2 != 0 {
		return false
	}
	for _, c := range s {
		if _, ok := wire.HexDigit(c); !ok {
			return false
		}
	}
	return true
}

// isHexPairs tells whether s is hexadecimal with colons: de:ad:be:ef.
func isHexPairs(s []byte) bool {
	const fewest = 8 // of three pairs
	if len(s) < fewest || len(s)%3 != 2 {
		return false
	}
	for i, c := range s {
		if _, ok := wire.HexDigit(c); i%3 == 2 && c != ':' || i%3 != 2 && !ok {
			return false
		}
	}
	return true
}

// isMeeting tells whether s is three, four and three letters, as the codes of meetings are, and not mostly known words.
func isMeeting(s []byte) bool {
	const form = "abc-defg-hij"
	if len(s) != len(form) {
		return false
	}
	for i, c := range s {
		if form[i] == '-' && c != '-' || form[i] != '-' && (c < 'a' || c > 'z') {
			return false
		}
	}
	known, words, _ := splitWords(s)
	return known*2 < words
}
