package route

import (
	"bytes"
	"math"

	"github.com/perfagent/perfagent/internal/wire"
)

// The weights below are log odds, found by trying on the routes of fifteen public APIs, and on those of thirteen others to see
// whether they hold elsewhere.

// routeLike is what words that look like a route's score at most (lexicalForm).
const routeLike = -0.9

// versionsMax is how many versions one place may have; more are values that look like versions.
const versionsMax = 8

// evidence is what the words at a place sum up to.
type evidence struct {
	words, ones, all float64 // different words, those seen once, requests
	lexical          float64
	likely           float64 // words that rather are values by their form,
	likelySum        float64 // and what their forms sum up to
	versions         int
	changing         int // words that are changed and deleted
}

func (e *evidence) add(s string, lexical float64, count uint32, m methods) {
	e.words++
	e.all += float64(count)
	if count == 1 {
		e.ones++
	}
	e.lexical += lexical
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

// judge returns the log odds that the words below a place are values of a parameter.
func (l *Learner) judge(n *node, depth int) float64 {
	var e evidence
	for s, k := range n.kids {
		if !k.alone || n.wordy {
			e.add(s, l.lexical(s, k), k.all, k.methods)
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
	case e.words == 0:
		return 0
	case e.versions > versionsMax:
		return 9
	}
	score := l.prior(n, depth)
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
	if e.words >= 3 && float64(e.changing) > 0.5*e.words {
		score++
	}
	if e.likely >= 20 && l.uniform(n) {
		score += 3
	}
	if n.wild != nil && n.wild.all > 0 {
		score += 0.5 + math.Log2(1+values)/2
	}
	return score
}

// uniform tells whether the same few words follow most of the words at a place that rather are values by their form, as
// what tenants have follows their names.
func (l *Learner) uniform(n *node) bool {
	follow := map[string]int{}
	places, pairs := 0, 0
	for s, k := range n.kids {
		if l.lexical(s, k) <= -0.5 || len(k.kids) == 0 {
			continue
		}
		places++
		for next := range k.kids {
			follow[next]++
			pairs++
		}
	}
	if places < 10 {
		return false
	}
	common := 0
	for _, count := range follow {
		if count*10 >= places {
			common += count
		}
	}
	return common*10 >= pairs*7
}

// prior is what the place itself tells before anything below it is looked at.
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
	switch s {
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

// lexical is what a word's form and its use elsewhere in the service tell: positive for a value.
func (l *Learner) lexical(s string, k *node) float64 {
	score := k.lexical
	if score > 0 && (k.wild != nil || len(k.kids) > 0) && plural([]byte(s)) {
		score = -0.5
	}
	if u := l.words[s]; u != nil {
		if u.value > 0 {
			score += math.Min(1+0.5*float64(u.value), 2.5)
		}
		if u.literal > 1 {
			score -= math.Min(0.5*float64(u.literal-1), 2)
		}
	}
	return score
}

// lexicalForm judges a word by its form: one made of the vocabulary's words is a route's, one with none of them a value.
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
	known, words, digits := splitWords(s)
	score := 0.0
	switch {
	case reserved(s):
		return -4
	case words == 0:
		return 0
	case known == words:
		score = -2
	case known > 0:
		score = 1 - 2*float64(known)/float64(words)
	case digits == 0 && len(s) >= 3 && bytes.Equal(s, bytes.ToUpper(s)): // AWS
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
	for i, c := range s {
		switch {
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

// compound tells whether a word is two of the vocabulary written as one.
func compound(w []byte) bool {
	for i := 3; i+3 <= len(w); i++ {
		if _, ok := vocabulary[string(w[:i])]; ok && apiWord(w[i:]) {
			return true
		}
	}
	return false
}

// standsAlone tells whether one of the words at a place with a parameter is a route of its own.
func (l *Learner) standsAlone(n *node, s string, k *node) bool {
	form := l.lexical(s, k)
	if form > 0.5 && (plural([]byte(n.segment)) || ofPeople(n.segment)) {
		return false // a name, though it may be the only one
	}
	if isVersion([]byte(s)) && n.versions() > versionsMax {
		return false
	}
	score := -form
	if w := n.wild; w != nil && w.all > 0 {
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
		if w.newWord >= manyValues && w.alike(k) {
			score -= 1.5
		}
	}
	return score >= 1.5
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
