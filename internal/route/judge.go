package route

import (
	"bytes"
	"math"
	"strings"

	"github.com/perfagent/perfagent/internal/wire"
)

// The weights below are natural log odds for a value of a parameter. Unless a function says otherwise they were found by trying:
// first on the routes of fifteen public APIs, checked on thirteen others; those of shape, knownShare, unlike and the guests, and
// what counts scanners out, on the same fifteen with one request in twenty a scanner's, and on the kinds of services in
// kinds_test.go, checked with two other seeds. A weight of one is a hint, of two a strong one; four decide alone.

// routeLike is what words that look like a route's score at most (lexicalForm).
const routeLike = -0.9

// codedForm is what a word that looks like a code scores at least.
const codedForm = -0.5

// versionsMax is how many versions one place may have; more are values that look like versions.
const versionsMax = 8

// evidence is what the words at a place sum up to.
type evidence struct {
	words, ones, all float64 // different words, those seen once, requests
	lexical          float64
	likely           float64 // words that rather are values by their form,
	likelySum        float64 // and what their forms sum up to
	unknown          float64 // words with none of the vocabulary's
	passOnce         bool    // words that came once count as requests only
	versions         int
	changing         int // words that are changed and deleted
}

// add takes in one word. What scores above -0.5 rather is a value, and 0.5 or more has none of the vocabulary's words (lexicalForm).
func (e *evidence) add(s string, lexical float64, count uint32, m methods) {
	e.all += float64(count)
	if count == 1 {
		e.ones++
		if e.passOnce {
			return
		}
	}
	e.words++
	e.lexical += lexical
	if lexical >= 0.5 {
		e.unknown++
	}
	if lexical > -0.5 {
		e.likely++
		e.likelySum += lexical
	}
	if isVersion([]byte(s)) {
		e.versions++
	}
	if m&changing != 0 {
		e.changing++
	}
}

// rareOnce tells whether the words at a place that came once are so few of its requests that scanners may have sent them.
func (n *node) rareOnce() bool {
	ones := uint32(0)
	for _, k := range n.kids {
		if k.all == 1 && k.lexical > routeLike {
			ones++
		}
	}
	return ones*10 < n.all
}

// loneFile tells whether all that is known of a place is one file.
func (n *node) loneFile() bool {
	for s, k := range n.kids {
		return len(n.kids) == 1 && fileEnd([]byte(s)) < len(s) && len(k.kids) == 0 && k.wild == nil
	}
	return false
}

// judge returns the log odds that the words below a place are values of a parameter: what the place tells (prior), the mean of
// what its words tell, the more the more there are, but no more than three times, as they are not independent; the chance that
// the next word is new, which is the share of those seen once (Good and Turing), taken at six tenths as requests come in bursts;
// how many words there are beyond those that a place has in the public APIs (thirty, of which a dozen with none of the
// vocabulary's words); whether most are changed and deleted; what follows them (shape); and identifiers beside them. One that is
// a parameter already stays one by a weight of one, so that it does not flicker, and what rests on a dozen requests has to make up for
// another.
func (l *Learner) judge(n *node, depth int) float64 {
	if n.wordy && n.wild.opening != notOpen {
		return 9
	}
	within := n.within()
	e := evidence{passOnce: depth == 0 && n.all >= 50 && n.rareOnce()}
	for _, s := range n.sorted() {
		if k := n.kids[s]; !k.alone || n.wordy {
			e.add(s, l.lexicalIn(s, k, within[s]), k.all, k.methods)
		}
	}
	values := 0.0
	if n.wild != nil {
		values = float64(n.wild.newWord + n.wild.letters)
		if n.wordy {
			for _, v := range n.wild.values {
				if v.word {
					e.add(v.text, v.form, v.count, n.wild.methods)
				}
			}
		}
	}
	switch {
	case e.words == 0, n.wild == nil && n.loneFile():
		return 0
	case e.versions > versionsMax:
		return 9
	}
	score := l.prior(n, depth)
	if e.all < 12 && n.wild == nil && !ofPeople(n.segment) && !plural([]byte(n.segment)) {
		score-- // too few to tell
	}
	mean := e.lexical / e.words
	if e.likely >= 20 && e.likely > e.words/3 {
		mean = e.likelySum / e.likely
	}
	score += mean * math.Min(1+math.Log2(e.words)/2, 3)
	// The chance that the next one is new, as the singletons tell.
	if e.all >= 3 {
		score += math.Max(0.6*math.Log((e.ones+0.5)/(e.all-e.ones+0.5))*math.Min(1, e.all/10), -2)
	}
	if d := e.words + values; d > 30 {
		score += math.Log2(d / 30)
	}
	if e.unknown > 12 {
		score += math.Log2(e.unknown / 12)
	}
	if e.words >= 3 && float64(e.changing) > 0.5*e.words {
		score++
	}
	if !n.wordy {
		n.shape = 0
		if mean > -1 {
			n.shape = l.shape(n)
		}
	}
	score += n.shape
	if w := n.wild; w != nil && w.all*10 > n.all && (!n.wordy || w.ids > 0) {
		score += 0.5 + math.Log2(float64(1+w.letters))/2
	}
	if n.wordy {
		score++
	}
	return score
}

// shape is what follows the words at a place: the same few words follow the names of tenants, others each word of a route. In the
// public APIs the share of the words that follow most others is below 0.7, versions aside, wherever the words are not themselves
// known ones or values, and with tenants above 0.95; each doubling of the number of words counts as three, since they agree independently.
func (l *Learner) shape(n *node) float64 {
	const few, alike, unlike = 6, 0.75, 0.2
	parents, share := l.shapeOf(n)
	switch {
	case parents < few || share < 0:
		return 0
	case share < unlike:
		return -1.5
	case share < alike:
		return 0
	}
	return (share - 0.5) * 2 * math.Min(3*math.Log2(float64(parents)/2), 10)
}

// shapeOf returns how many words at a place that may be values have words below them, and the share of the latter that are
// below a fifth of the former, and more than one; -1 where there are none. Versions are below anything.
func (l *Learner) shapeOf(n *node) (parents int, share float64) {
	parents, pairs, follow := l.following(n)
	common := 0
	for _, f := range follow {
		if usual(f.count, parents) {
			common += f.count
		}
	}
	if pairs == 0 {
		return parents, -1
	}
	return parents, float64(common) / float64(pairs)
}

// followed is a word below the words at a place.
type followed struct {
	count  int  // below so many of them
	likely bool // looks like a value
}

// following returns how many words at a place that may be values have words below them, how many they have in all, and which.
// What is at the place itself as well, as names over several levels are, tells nothing, nor does a value of its own.
func (l *Learner) following(n *node) (parents, pairs int, follow map[string]followed) {
	follow = map[string]followed{}
	for s, k := range n.kids {
		if k.alone || len(k.kids) == 0 || l.lexical(s, k) <= routeLike {
			continue
		}
		parents++
		for next, below := range k.kids {
			if n.kids[next] == nil && !isVersion([]byte(next)) {
				f := follow[next]
				follow[next] = followed{f.count + 1, f.likely || below.lexical > routeLike}
			}
		}
	}
	for _, f := range follow {
		if f.count > 1 || !f.likely {
			pairs += f.count
		}
	}
	return parents, pairs, follow
}

func usual(count, parents int) bool { return count > 1 && count*5 >= parents }

// prior is what the place itself tells before anything below it is looked at. The share of words that have a parameter next at their
// other places (Laplace's rule) is scaled so that always and never count one and a half and a half.
func (l *Learner) prior(n *node, depth int) float64 {
	if depth == 0 {
		return -4
	}
	if n.segment == "" { // behind a parameter
		return -2
	}
	s := []byte(n.segment)
	p := 0.0
	switch {
	case isVersion(s) || depth <= 2 && isRoot(n.segment):
		return -4
	case plural(s), ofPeople(n.segment):
		p = 1.5
	default:
		p = -0.5
	}
	if u := l.words[n.segment]; u != nil && u.literal > 1 {
		p += 2*(float64(u.before)+0.5)/(float64(u.literal)+1) - 0.7
	}
	return p
}

// ofPeople tells whether what follows a segment is who somebody is.
func ofPeople(s string) bool {
	switch strings.ToLower(s) {
	case "user", "users", "u", "profile", "profiles", "member", "members", "customer", "customers", "account", "accounts", "author", "authors",
		"owner", "owners", "tenant", "tenants", "people", "person", "persons", "contact", "contacts", "employee", "employees", "patient", "patients",
		"student", "students", "subscriber", "subscribers", "player", "players", "followers", "friends", "teachers", "drivers", "guests", "buyers", "sellers",
		"usuarios", "benutzer", "utilisateurs":
		return true
	}
	return false
}

func isRoot(s string) bool {
	switch s {
	case "api", "apis", "rest", "rpc", "services", "public", "internal", "private", "v", "web", "admin", "_", "-":
		return true
	}
	return false
}

// plural tells whether a segment names several things.
func plural(s []byte) bool {
	n := len(s)
	if n < 4 || s[n-1]|0x20 != 's' {
		return false
	}
	switch {
	case bytes.HasSuffix(s, []byte("ss")), bytes.HasSuffix(s, []byte("us")), bytes.HasSuffix(s, []byte("is")), bytes.HasSuffix(s, []byte("sis")):
		return false
	}
	return true
}

// versions counts what looks like a version at a place.
func (n *node) versions() (count int) {
	for s := range n.kids {
		if isVersion([]byte(s)) {
			count++
		}
	}
	if n.wild != nil {
		for i := range n.wild.values {
			if isVersion([]byte(n.wild.values[i].text)) {
				count++
			}
		}
	}
	return count
}

// within returns how often the words at a place are below it as well, where that is so of most of them, as of names over several
// levels; else nil.
func (n *node) within() map[string]int {
	if n.unknown <= manyValues || n.wordy {
		return nil
	}
	words := map[string]int{}
	for _, k := range n.kids {
		k.uses(words)
	}
	again, unknown := 0, 0
	for s, k := range n.kids {
		if k.lexical > routeLike {
			unknown++
			if words[s] > 0 {
				again++
			}
		}
	}
	if again*2 < unknown {
		return nil
	}
	return words
}

// uses counts the words below a node.
func (n *node) uses(words map[string]int) {
	for s, k := range n.kids {
		words[s]++
		k.uses(words)
	}
	if n.wild != nil {
		n.wild.uses(words)
	}
}

// lexical is what a word's form and its use elsewhere in the service tell: positive for a value.
func (l *Learner) lexical(s string, k *node) float64 { return l.lexicalIn(s, k, 0) }

// The weights of form are lexicalForm's; each further place with the word as one of a route counts half, up to two, and each
// parameter with it as a value the same, since the first one tells most. lexicalIn is lexical for a word that is used so often below its own place, which is not elsewhere.
func (l *Learner) lexicalIn(s string, k *node, within int) float64 {
	score := k.lexical
	if score > 0 && (k.wild != nil || len(k.kids) > 0) && plural([]byte(s)) {
		score = -0.5
	}
	if u := l.words[s]; u != nil {
		if u.value > 0 {
			score += math.Min(1+0.5*float64(u.value), 2.5)
		}
		if literal := int(u.literal) - within; literal > 1 {
			score -= math.Min(0.5*float64(literal-1), 2)
		}
	}
	return score
}

// lexicalForm judges a word by its form: one made of the vocabulary's words is a route's (-2), one with none of them a value
// (1), in between by the share of known ones. Letters without a known word tell less
// where they are few or capitals, as abbreviations are; digits and random letters hint at identifiers, a plural at a route.
func lexicalForm(s []byte) float64 {
	if isVersion(s) {
		if bytes.Count(s, []byte(".")) < 2 {
			return -3
		}
		return 0.5
	}
	if len(s) == 0 {
		return -4
	}
	if n := keyedName(s); n > 0 { // what has keys is called so by the service
		return lexicalForm(s[:n]) - 1.5
	}
	if isRegion(s) {
		return 2
	}
	if i := fileEnd(s); i < len(s) {
		return lexicalForm(s[:i])
	}
	known, words, digits := splitWords(s)
	score := 0.0
	switch {
	case reserved(s):
		return -4
	case words == 0 && digits == 0: // /-/
		return -4
	case words == 0:
		return 0
	case known == words:
		score = -2
	case known > 0:
		score = 1 - 2*float64(known)/float64(words)
	case digits == 0 && len(s) >= 3 && !hasLower(s): // AWS
		score = 0
	case digits == 0 && len(s) <= 3:
		score = 0.3
	default:
		score = 1
	}
	if s[0] == '_' { // /_search
		score -= 4
	}
	if known < words && randomness(s) > 0 || digits > 0 && !technical(s) {
		score += 1.5
	} else if plural(s) {
		score -= 0.4
	}
	return score
}

// hasLower tells whether a segment has a small letter, of ASCII or beyond it.
func hasLower(s []byte) bool {
	for i, c := range s {
		if c >= 'a' && c <= 'z' {
			return true
		}
		if c >= 0x80 {
			return !bytes.Equal(s[i:], bytes.ToUpper(s[i:]))
		}
	}
	return false
}

// fileEnd returns where the extension of a file's name begins.
func fileEnd(s []byte) int {
	if i := bytes.LastIndexByte(s, '.'); i > 0 {
		switch string(s[i+1:]) {
		case "csv", "html", "htm", "txt", "md", "yaml", "yml", "pdf", "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "mjs",
			"map", "woff", "woff2", "ttf", "mp3", "mp4", "webm", "ts", "m3u8", "zip", "gz", "tgz", "tar", "bz2", "xz", "jar", "deb", "rpm", "whl", "parquet",
			"log", "php", "asp", "aspx", "jsp", "git", "pbf":
			return i
		}
	}
	return len(s)
}

// isRegion tells whether s is a language with a region: en-US, pt_BR, zh-Hans.
func isRegion(s []byte) bool {
	if len(s) != 5 && len(s) != 7 || s[2] != '-' && s[2] != '_' {
		return false
	}
	for i, c := range s {
		if i != 2 && !wire.IsLetter(c) {
			return false
		}
	}
	return s[0] >= 'a' && s[1] >= 'a' && (s[3] < 'a' && s[4] < 'a' && len(s) == 5 || s[3] < 'a' && s[4] >= 'a' && len(s) == 7)
}

// reserved tells whether a word is one of those that a route has beside a parameter: nothing is called like that.
func reserved(s []byte) bool {
	switch string(s) {
	case "me", "self", "@me", "current", "login", "logout", "signin", "signout", "signup", "register", "search", "create", "update", "delete",
		"remove", "add", "list", "get", "set", "count", "export", "import", "upload", "download", "batch", "bulk", "new", "edit", "latest", "validate",
		"verify", "reset", "refresh", "sync", "preview", "init", "prune", "all", "stats", "status", "health", "import-export", "_search", "_bulk", "_all", "mine",
		"autocomplete", "lookup", "query", "filter", "ids", "by-id", "restore", "archive", "enable", "disable", "cancel", "approve", "reject", "revoke", "rotate":
		return true
	}
	return false
}

// splitWords counts a segment's words, as separators and capitals divide it, those in the vocabulary, and its digits.
func splitWords(s []byte) (known, words, digits int) {
	var buf [48]byte
	w := buf[:0]
	flush := func() {
		if len(w) > 0 {
			words++
			if apiWord(w) || compound(w) {
				known++
			}
		}
		w = buf[:0]
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		n := 0
		if len(w) == 0 && (i == 0 || !wire.IsLetter(s[i-1]) && !wire.IsDigit(s[i-1])) {
			n = numeronym(s[i:])
		}
		switch {
		case n > 0:
			words++
			i += n - 1
		case wire.IsDigit(c):
			digits++
			flush()
		case !wire.IsLetter(c):
			flush()
		default:
			if c <= 'Z' && i > 0 && s[i-1] >= 'a' {
				flush()
			}
			if len(w) < cap(w) {
				w = append(w, c|0x20)
			}
		}
	}
	flush()
	return known, words, digits
}

// numeronym returns the length of a word like k8s or i18n that s begins with, or 0.
func numeronym(s []byte) int {
	n := 1
	for n < len(s) && wire.IsDigit(s[n]) {
		n++
	}
	if n < 2 || n > 3 || n == len(s) || !wire.IsLetter(s[0]) || !wire.IsLetter(s[n]) || n+1 < len(s) && (wire.IsLetter(s[n+1]) || wire.IsDigit(s[n+1])) {
		return 0
	}
	return n + 1
}

// compound tells whether a word is two of the vocabulary written as one.
func compound(w []byte) bool {
	for i := 3; i+3 <= len(w); i++ {
		if _, ok := vocabulary[string(w[:i])]; ok && apiWord(w[i:]) {
			return true
		}
	}
	return false
}

// standsAlone tells whether one of the words at a place with a parameter is a route of its own: by its form, how seldom values here
// look like it, other methods, its share of the requests, and what follows it. Where the same words follow it as follow the
// values, it is one of them: the more such words, the surer.
func (l *Learner) standsAlone(n *node, s string, k *node) bool {
	if n.wild != nil && n.wild.opening != notOpen {
		return n.wild.keeps(k, n.wild.newWord, n.wild.all)
	}
	form := l.lexical(s, k)
	if form > 0.5 && (plural([]byte(n.segment)) || ofPeople(n.segment)) {
		return false // a name, though it may be the only one
	}
	if isVersion([]byte(s)) && n.versions() > versionsMax {
		return false
	}
	w := n.wild
	if w == nil || w.all == 0 {
		return form <= -1.5
	}
	if isPair(s) && w.pairs() {
		return false
	}
	score := -form
	if form <= -1 && w.newWord >= manyValues {
		// How seldom the place's values look like words of a route.
		seldom := math.Min(math.Log(0.8/w.knownShare()), 4)
		if score = math.Max(score, seldom); w.knownShare() > knownOften {
			score = seldom
		}
	}
	if k.methods&^w.methods != 0 {
		score++
	}
	share := float64(k.all) / float64(w.all+k.all)
	if k.all >= 5 && share > 0.1 {
		score++
	}
	if share > 0.3 {
		score++
	}
	if share > 0.75 && k.all >= 20 {
		score += 3
	}
	if k.unlike(w) {
		score += 3
	}
	if k.guest && max(k.all, uint32(k.seen)) < guestLeast {
		return false
	}
	switch {
	case n.shape > 2 && len(k.kids) > 1 && w.alike(k):
		score -= 2.5
	case w.newWord >= manyValues && w.alike(k) && len(k.kids) > 2 && form > -3:
		score -= 3
	case w.newWord >= manyValues && w.alike(k):
		score -= 1.5
	}
	return score >= 1.5
}

// isPair tells whether a word is two letters, as the codes of countries and languages are.
func isPair(s string) bool { return len(s) == 2 && wire.IsLetter(s[0]) && wire.IsLetter(s[1]) }

// pairs tells whether a parameter's values are such codes, of which some happen to be words (at, be, it).
func (n *node) pairs() bool {
	const least = 6
	pairs, words := 0, 0
	for _, v := range n.values {
		if v.word {
			words++
			if isPair(v.text) {
				pairs++
			}
		}
	}
	return pairs >= least && pairs*3 >= words*2
}

const (
	// knownOften and knownSeldom are which share of a parameter's values are words of the vocabulary where such words tell
	// nothing, and where one more is no value.
	knownOften, knownSeldom = 0.1, 0.04
	// guestLeast is how often a word comes that is to be a route beside many values.
	guestLeast = 4
	// unlikeLeast is after how many requests it shows whether paths end with a parameter's value, and one in unlikeShare may.
	unlikeLeast, unlikeShare = 300, 50
)

// knownShare returns the share of a parameter's values that look like words of a route.
func (n *node) knownShare() float64 { return (float64(n.known) + 0.5) / (float64(n.newWord) + 1) }

// unlike tells whether a word ends a path where the values of a parameter hardly ever do, or does not where they always do.
func (n *node) unlike(w *node) bool {
	ends, goesOn := len(n.kids) == 0 && n.wild == nil, n.hits == 0
	return ends && n.all > 8+3*w.hits && w.goesOn() || goesOn && n.all > 8+3*(w.all-w.hits) && w.ends()
}

// goesOn and ends tell whether paths hardly ever end with a parameter's value, and whether they nearly always do.
func (n *node) goesOn() bool { return n.all >= unlikeLeast && n.hits*unlikeShare < n.all }
func (n *node) ends() bool {
	return n.all >= unlikeLeast && (n.all-min(n.hits, n.all))*unlikeShare < n.all
}

func (n *node) lexicalMean() float64 {
	sum, count := 0.0, 0.0
	for _, v := range n.values {
		if v.word {
			sum += v.form
			count++
		}
	}
	return sum / max(count, 1)
}
