package route

import (
	"bytes"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// nodesMax bounds what is known of one service. A node takes about 250 bytes with its entry in its parent's map, and each
	// value that a parameter remembers a quarter of that: four of these count as a node. 4 MiB at the most.
	nodesMax = 8000
	// fanMax bounds the words below one place before it is decided what they are; more are taken for a parameter.
	fanMax = 512
	// A Learner thinks again after firstPass requests, then after each quarter more, and at the latest after lastGap.
	firstPass = 16
	lastGap   = 2000
	// valuesMax is how many values a parameter remembers, to recognise them elsewhere and to take a decision back.
	valuesMax = 16
	// identifiersMax of them may be identifiers, of which it only matters whether there are several.
	identifiersMax = 4
	// Words that do not look like those of a route are shown when they come for the first time, as long as there are trustedFirst
	// of them in a service, or trustedMax at a place that had trustedLeast requests; and when they come again, as long as there are
	// returnedMax at the place. Where there are more, it is thought over first.
	trustedFirst, trustedMax, trustedLeast, returnedMax = 8, 3, 50, 8
	// codedTrusted requests show a word that looks like a code, if it is a word at all: until then it may be a secret.
	codedTrusted = 50
	// strayShare and strayLeast: what lies below a service's root and a parameter is not thought over where it is one of so many
	// requests, or more: scanners' identifiers are not a tenant's.
	strayShare, strayLeast = 50, 100
	// wordBits are for counting the different words among a parameter's values.
	wordBits = 128
	// strangeShare: among many words that do not look like those of a route, one of a service's root is shown that is in one of so
	// many requests.
	strangeShare = 500
	// hiddenMax is of how many templates with a star it is known which paths they stand for, of hiddenPathsMax each, so that a
	// service's first requests do not stay in "/*".
	hiddenMax, hiddenPathsMax = 8, 12
	// countsMax is how many requests are counted before all counts are halved.
	countsMax = 1 << 30
	// manyValues different words leave no doubt that a place has a parameter: even a word of the vocabulary is then a value,
	// unless something other lies below it.
	manyValues = 12
)

// Learner finds the templates of one service's paths from the requests alone, while they come.
//
// It keeps a tree of what it has seen, one node for each place in a path. Below a place there are words, each a node of its
// own, and at most one parameter, whose node stands for all of its values. A segment that looks like an identifier goes to
// the parameter at once. A word is undecided at first: it stays a node of its own, and is its own template. Now and then a
// pass over the tree decides for each place, by the sum of the evidence, whether its words are values of a parameter
// (judge), and if so which of them are routes of their own nevertheless (standsAlone); the others are merged into the
// parameter with all that lies below them. Evidence is what stands before (users/, v1/), whether the words are of the kind
// that APIs are made of or occur as words or as values in other places of the same service, how many different ones there
// are in how many requests, and how alike what lies below them is. A pass also takes back what turned out wrong (undo).
//
// Where paths go on in ever new ways, all of this tells less than how many there are (open.go).
//
// A request that was refused (404 and the like) makes no route. An answer proves little: many servers answer anything with 200. So
// a word of no known kind is trusted at once only where few such words have come (meet); otherwise it has to come again, and
// where there are many it waits for a pass. A word that comes to a place with many values is a guest, shown as one of these, until
// it is decided. What is not known is "*" in the template, with all that follows; it is remembered which few paths that were, so
// that their requests can go over to the route that they have later (reveal).
//
// Everything rests on the requests and their order alone, not on time, so that the same requests lead to the same routes.
//
// Memory is bounded by nodesMax, time by the geometric spacing of passes. One goroutine uses it.
type Learner struct {
	root     *node
	nodes    int
	requests uint64
	nextPass uint64
	words    map[string]*wordUse
	epoch    int
	unknown  int // words that do not look like those of a route and are not alone
	hidden   []hidden
}

// node is a place in a path: the segment that leads to it, or all values of a parameter.
type node struct {
	segment string // "" for the root and for parameters
	name    string // of a parameter: {id}
	kids    map[string]*node
	wild    *node
	was     *node    // the word that the place's only value has become
	lexical float64  // of the segment
	shape   float64  // what spoke for a parameter when its words became one (Learner.shape)
	hits    uint32   // requests that end here
	all     uint32   // requests that end here or below, as of the last pass
	once    uint32   // templates that end here or below and came once, as of the last pass
	twice   uint32   // and twice
	opening opening  // of a parameter
	own     *wordSet // all its words, where these stand behind it again
	again   *wordSet // which words stand behind it again: its own or those of one in front
	methods methods  // of the requests that end here
	wordy   bool     // words that are not known here are values of the parameter
	guest   bool     // a word beside many values of a parameter, of which it is not decided whether it is one of them
	alone   bool     // decided to be a word of its own
	seen    uint8    // requests that end here or below, up to guestLeast
	coded   bool     // looks like a code
	sure    bool     // shown, though it does not look like a word of a route
	unknown uint16   // words below that do not look like those of a route, of which none is alone
	values  []value  // of a parameter: some of them
	fresh   uint32   // values that were not among the remembered ones
	words   uint32   // requests whose value was a word
	newWord uint32   // how many different words its values are
	known   uint32   // how many of these look like words of a route
	met     [wordBits / 64]uint64
	ids     uint32 // identifiers that were not among the remembered ones
	letters uint32 // of letters: where there are these, other letters are values, too
}

// value is a value of a parameter with the requests that had it.
type value struct {
	text  string
	count uint32
	word  bool
	form  float64 // lexicalForm, of a word
}

// wordUse is where a word occurs in a service.
type wordUse struct {
	literal uint16 // places where it is a node of its own
	value   uint16 // parameters that have it as a value
	before  uint16 // of the places where it is a node: how many have a parameter next
}

// methods is a set of request methods.
type methods uint16

// changing are the methods that change or delete what a path names.
const changing = methods(8 | 16 | 32)

func methodBit(method string) methods {
	switch method {
	case "GET":
		return 1
	case "HEAD":
		return 2
	case "POST":
		return 4
	case "PUT":
		return 8
	case "PATCH":
		return 16
	case "DELETE":
		return 32
	case "OPTIONS":
		return 64
	}
	return 128
}

// NewLearner returns a Learner that knows nothing.
func NewLearner() *Learner {
	return &Learner{root: &node{}, nextPass: firstPass, words: map[string]*wordUse{}}
}

// Epoch changes when the template of a path that was seen before may have changed.
func (l *Learner) Epoch() int { return l.epoch }

// Learn counts a number of equal requests, which were answered with a status (0: not known), and appends the template of
// their path, as far as it is known now, to dst. The path is without its query.
func (l *Learner) Learn(dst []byte, method string, path []byte, status uint16, count uint32) []byte {
	first := len(dst)
	if refused(status) {
		dst = l.find(dst, path)
		l.hide(dst[first:], path)
		return dst
	}
	if l.nodes > nodesMax-depthMax {
		l.Pass() // makes room
	}
	dst = l.walk(dst, method, path, count)
	l.hide(dst[first:], path)
	l.requests += uint64(count)
	if l.requests >= l.nextPass {
		l.Pass()
		l.nextPass = l.requests + uint64(max(min(l.requests/4, lastGap), firstPass, uint64(l.nodes/4)))
	}
	return dst
}

// hidden is a template with a star and the paths whose requests it stands for, as long as these are few.
type hidden struct {
	template string
	paths    []hiddenPath // none: too many
	told     bool         // Current has said what has become of all of them
}

// hiddenPath is one of them; found tells that its series has another name from now on, so that Epoch had to change.
type hiddenPath struct {
	path  string
	found bool // it came again, with a template of its own
}

// hide notes a path whose template has a star, and one that has none any more.
func (l *Learner) hide(template, path []byte) {
	starred := len(template) > 0 && template[len(template)-1] == '*'
	for i := range l.hidden {
		h := &l.hidden[i]
		for j := range h.paths {
			if p := &h.paths[j]; p.path == string(path) {
				if !starred && !p.found {
					p.found = true
					l.epoch++
				}
				if starred && h.template == string(template) {
					return
				}
			}
		}
		if !starred || h.template != string(template) {
			continue
		}
		switch {
		case h.told:
			h.told, h.paths = false, append(h.paths[:0], hiddenPath{path: string(path)})
		case len(h.paths) == 0 || len(h.paths) == hiddenPathsMax:
			h.paths = nil
		default:
			h.paths = append(h.paths, hiddenPath{path: string(path)})
		}
		return
	}
	if starred && len(l.hidden) < hiddenMax {
		l.hidden = append(l.hidden, hidden{template: string(template), paths: []hiddenPath{{path: string(path)}}})
	}
}

// reveal appends the template that all paths have by now which a template with a star stands for, if there is one.
func (l *Learner) reveal(dst []byte, template string) ([]byte, bool) {
	first := len(dst)
	for i := range l.hidden {
		h := &l.hidden[i]
		if h.template != template || len(h.paths) == 0 {
			continue
		}
		for j := range h.paths {
			at := len(dst)
			dst = l.find(dst, []byte(h.paths[j].path))
			if now := dst[at:]; now[len(now)-1] == '*' || j > 0 && !bytes.Equal(now, dst[first:at]) {
				return dst[:first], false
			}
			if j > 0 {
				dst = dst[:at]
			}
		}
		h.told = true
		return dst, true
	}
	return dst, false
}

// refused tells whether a status says that the path, or the request as a whole, means nothing to the server.
func refused(status uint16) bool {
	switch status {
	case 400, 404, 405, 410, 414, 421, 431, 501:
		return true
	}
	return false
}

// segments walks over a path's segments: the next one and what follows it, from its slash on. more is false behind the
// last one that a template has room for.
type segments struct {
	path  []byte
	at    int
	depth int
	front []byte           // the path in front of the latest segment, without the slash between them
	buf   [segmentMax]byte // of a segment that differs from the path's
}

// next returns the next segment; cut tells that the path goes on beyond what a template shows.
func (s *segments) next() (segment []byte, more, cut bool) {
	end := len(s.path)
	if i := bytes.IndexByte(s.path[s.at:], '/'); i >= 0 {
		end = s.at + i
	}
	if s.depth++; s.depth > depthMax || end > pathMax {
		return nil, false, true
	}
	raw := s.path[s.at:end]
	s.front = s.path[:max(s.at-1, 0)]
	if segment = learnedSegment(s.buf[:], raw); len(segment) == 0 && s.at == 0 { // without even a slash it is no path
		segment = raw
	}
	s.at = end + 1
	return segment, end < len(s.path), false
}

// rest returns what follows the latest segment, from its slash on.
func (s *segments) rest() []byte { return s.path[min(s.at-1, len(s.path)):] }

func newSegments(dst, path []byte) ([]byte, segments) {
	s := segments{path: path}
	if len(path) > 0 && path[0] == '/' {
		dst, s.at = append(dst, '/'), 1
	}
	return dst, s
}

// walk follows a path through the tree, adding what is missing, and appends its template. Where a word is not to be shown yet,
// and a word of the root that came for the first time stands in front, all is hidden, unless it only waits as a code does. Behind a guest the template is that of the
// parameter's values, as far as these are known to have it.
func (l *Learner) walk(dst []byte, method string, path []byte, count uint32) []byte {
	dst, s := newSegments(dst, path)
	n, first, hidden, fresh := l.root, len(dst), false, false
	for as := (*node)(nil); ; {
		segment, more, cut := s.next()
		if cut {
			if !hidden {
				dst = append(dst, '*')
			}
			break
		}
		place, nodes := n, l.nodes
		n = l.step(n, segment, &s, method, count)
		fresh = fresh || s.depth == 1 && l.nodes > nodes
		unsure := l.meet(n, place)
		if as = as.next(segment, s.front); as == nil && n.guest {
			as = place.wild
		}
		switch {
		case hidden:
		case as != nil:
			dst = as.append(dst, segment)
		case unsure && fresh && !n.coded:
			dst, hidden = append(dst[:first], '*'), true
		case unsure:
			dst, hidden = append(dst, '*'), true
		default:
			dst = n.append(dst, segment)
		}
		if !more {
			break
		}
		if !hidden {
			dst = append(dst, '/')
		}
	}
	n.hits += count
	n.methods |= methodBit(method)
	return dst
}

// next returns what is known below a node for a segment, or nil.
func (n *node) next(segment, front []byte) *node {
	if n == nil {
		return nil
	}
	k := n.kids[string(segment)]
	switch {
	case k == nil && n.wild != nil && (n.wordy || valueClass(segment, front) != isWord), k != nil && k.guest:
		return n.wild
	case k == nil || k.name == "" && !k.alone && !k.sure && k.lexical > routeLike:
		return nil
	}
	return k
}

// find appends a path's template without learning.
func (l *Learner) find(dst, path []byte) []byte {
	dst, s := newSegments(dst, path)
	for n := l.root; ; {
		segment, more, cut := s.next()
		if n = n.next(segment, s.front); cut || n == nil {
			return append(dst, '*')
		}
		dst = n.append(dst, segment)
		if !more {
			return dst
		}
		dst = append(dst, '/')
	}
}

// Current appends what has become of a template that Learn returned before: the same one, where nothing changed.
func (l *Learner) Current(dst []byte, template string) []byte {
	if strings.HasSuffix(template, "*") {
		if dst, ok := l.reveal(dst, template); ok {
			return dst
		}
	}
	dst, s := newSegments(dst, []byte(template))
	for n := l.root; ; {
		segment, more, cut := s.next()
		if cut || len(segment) == 1 && segment[0] == '*' {
			return append(dst, '*')
		}
		var k *node
		parameter := len(segment) > 1 && segment[0] == '{'
		switch {
		case parameter && n.wild == nil:
			k = n.was
		case parameter:
			k = n.wild
		default:
			if k = n.kids[string(segment)]; k == nil || k.guest && n.wild != nil {
				k = n.wild
			}
		}
		if k == nil { // forgotten
			return append(append(dst, segment...), s.rest()...)
		}
		switch {
		case parameter && k.name != "":
			dst = append(dst, segment...)
		case parameter:
			dst = append(dst, k.segment...)
		default:
			dst = k.append(dst, segment)
		}
		if !more {
			return dst
		}
		dst, n = append(dst, '/'), k
	}
}

// meet counts a request for a node at a place, and tells whether too little is known of it to show it: whether it is a word that
// does not look like one of a route, and came for the first time, or stands among many such words, which may be values of a
// parameter.
func (l *Learner) meet(n, place *node) (unsure bool) {
	if n.name != "" {
		return false
	}
	switch open := place.wild != nil && place.wild.opening != notOpen; {
	case n.seen < guestLeast:
		if n.seen++; n.guest && open && n.seen == guestLeast {
			n.sum()
			n.guest = !l.standsAlone(place, n.segment, n)
		}
	case n.guest && !open:
		n.guest = !l.standsAlone(place, n.segment, n)
	}
	if n.alone || n.sure || n.guest || n.lexical <= routeLike {
		return false
	}
	if n.coded {
		return true
	}
	n.sure = l.unknown <= trustedFirst || place != l.root && place.all >= trustedLeast && place.unknown <= trustedMax ||
		n.seen > 1 && place.unknown <= returnedMax
	return !n.sure
}

// append appends what stands for a node in a template. An identifier keeps the extension that names its representation.
func (n *node) append(dst, segment []byte) []byte {
	if n.name == "" {
		return append(dst, segment...)
	}
	return append(append(dst, n.name...), segment[representation(segment):]...)
}

// representation returns where the extension of a segment begins that names a representation of what the rest
// identifies: /orders/7.json.
func representation(segment []byte) int {
	if i := bytes.LastIndexByte(segment, '.'); i > 0 {
		switch string(segment[i:]) {
		case ".json", ".xml", ".csv", ".html", ".atom", ".rss":
			return i
		}
	}
	return len(segment)
}

// valueClass is classOf of a segment without such an extension.
func valueClass(segment, front []byte) segmentClass {
	if len(segment) > 1 && segment[0] == '@' && !reserved(segment) { // /@alice
		return isID
	}
	return classOf(segment[:representation(segment)], front)
}

// step goes down to a segment's node, which is made where it is missing.
func (l *Learner) step(n *node, segment []byte, s *segments, method string, count uint32) *node {
	if k := n.kids[string(segment)]; k != nil {
		return k
	}
	class := valueClass(segment, s.front)
	if class != isWord || n.wordy && l.isValue(n, segment, s.rest(), method) || len(n.kids) >= fanMax || l.nodes >= nodesMax {
		return l.value(n, segment, class, count)
	}
	k := newWord(segment)
	if k.lexical > 0.5 && (len(n.kids) == 0 || n.wild != nil) && ofPeople(n.segment) && l.prior(n, s.depth-1)+k.lexical > 2 {
		n.wordy = n.wordy || len(n.kids) == 0 // /users/theodora
		return l.value(n, segment, class, count)
	}
	if u := l.words[k.segment]; u != nil && u.value > 1 && u.literal == 0 && k.lexical > -3 {
		k.lexical = max(k.lexical, 0) // a name elsewhere
	}
	if w := n.wild; n.wordy {
		often := w.knownShare() > knownOften
		k.guest = w.opening != notOpen || w.newWord >= manyValues && (k.lexical > -3 || often && len(s.rest()) > 0) &&
			(k.lexical > -1 || often || w.fits(s.rest(), method))
	}
	n.addKid(k)
	if k.lexical > routeLike {
		n.unknown++
		l.unknown++
	}
	l.nodes++
	return k
}

func newWord(segment []byte) *node {
	k := &node{segment: string(segment), lexical: lexicalForm(segment), coded: coded(segment[:representation(segment)])}
	if k.coded {
		k.lexical = max(k.lexical, codedForm)
	}
	return k
}

func (n *node) addKid(k *node) {
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	n.kids[k.segment] = k
}

// isValue tells whether a new word at a place with a parameter is a value of that.
func (l *Learner) isValue(n *node, segment, rest []byte, method string) bool {
	w := n.wild
	if w.opening != notOpen && lexicalForm(segment) <= routeLike {
		return false // a guest, until it shows whether it is kept
	}
	if len(rest) == 0 && w.goesOn() || len(rest) > 0 && w.ends() {
		return false // see unlike
	}
	form := lexicalForm(segment)
	switch {
	case form > -1, isPair(string(segment)) && w.pairs():
		return true
	case isVersion(segment):
		return n.versions() > versionsMax
	case w.newWord < manyValues || w.knownShare() <= knownSeldom:
		return false
	}
	return (form > -3 || w.knownShare() > knownOften) && w.fits(rest, method)
}

// fits tells whether what follows a segment is known to follow a parameter's values, by the same method, or begins with a word
// that is.
func (n *node) fits(rest []byte, method string) bool {
	var buf [segmentMax]byte
	for first := true; len(rest) > 0; first = false {
		rest = rest[1:]
		i := bytes.IndexByte(rest, '/')
		if i < 0 {
			i = len(rest)
		}
		next := n.kids[string(plainSegment(buf[:], rest[:i]))]
		if next == nil {
			next = n.wild
		} else if first {
			return true
		}
		if next == nil {
			return false
		}
		n, rest = next, rest[i:]
	}
	return n.methods&methodBit(method) != 0
}

// value goes down to a place's parameter with one of its values.
func (l *Learner) value(n *node, segment []byte, class segmentClass, count uint32) *node {
	if n.wild == nil {
		n.wild = &node{name: className(class)}
		l.nodes++
	}
	n.wild.remember(segment, count, class == isWord)
	return n.wild
}

func className(c segmentClass) string {
	switch c {
	case isUUID:
		return "{uuid}"
	case isDate:
		return "{date}"
	case isEmail:
		return "{email}"
	case isWord:
		return "{name}"
	}
	return "{id}"
}

// remember counts a value of a parameter; the rarest of the remembered ones makes room.
func (n *node) remember(segment []byte, count uint32, word bool) {
	if word {
		n.words += count
	}
	for i := range n.values {
		if n.values[i].text == string(segment) {
			n.values[i].count += count
			return
		}
	}
	n.fresh++
	if word {
		n.own.add(segment)
		n.countWord(segment)
	} else if n.ids++; scrambled(segment) {
		n.letters++
	}
	if len(segment) > segmentMax {
		return
	}
	if len(n.values) < valuesMax && (word || len(n.values) < identifiersMax) {
		n.values = append(n.values, newValue(segment, count, word))
		return
	}
	if !word { // of identifiers the first ones are as good as any
		return
	}
	i := int(n.fresh) % valuesMax
	if n.values[i].count > 1 {
		n.values[i].count--
		return
	}
	n.values[i] = newValue(segment, count, word)
}

// countWord counts a value that is a word and not among the remembered ones, if it is new: by linear counting (Whang et al., 1990),
// in wordBits bits. Of 16 values it misses one, of 100 it knows the number to 5, and from 600 on it counts no further.
func (n *node) countWord(segment []byte) {
	at, bit := n.bitOf(segment)
	if *at&bit != 0 {
		return
	}
	*at |= bit
	n.estimate()
	if lexicalForm(segment) <= routeLike {
		n.known++
	}
}

// uncountWord takes back a countWord.
func (n *node) uncountWord(v value) {
	at, bit := n.bitOf([]byte(v.text))
	*at &^= bit
	n.estimate()
	if v.form <= routeLike && n.known > 0 {
		n.known--
	}
}

func (n *node) bitOf(segment []byte) (*uint64, uint64) {
	hash := hashOf(segment) % wordBits
	return &n.met[hash/64], 1 << (hash % 64)
}

func hashOf(segment []byte) uint32 {
	hash := uint32(2166136261) // FNV-1a
	for _, c := range segment {
		hash = (hash ^ uint32(c)) * 16777619
	}
	return hash ^ hash>>15
}

func (n *node) estimate() {
	unset := wordBits
	for _, m := range n.met {
		unset -= bits.OnesCount64(m)
	}
	n.newWord = uint32(math.Round(wordBits * math.Log(wordBits/float64(max(unset, 1)))))
}

// Pass thinks about every place again, from the root down: what is merged above is evidence below.
func (l *Learner) Pass() {
	l.root.sum()
	if l.root.all > countsMax {
		l.root.fade()
		l.root.sum()
	}
	l.survey()
	l.unknown = 0
	l.decide(l.root, 0)
	if l.nodes = l.root.size(); l.nodes >= nodesMax*3/4 {
		l.prune(nodesMax / 2)
	}
}

// prune forgets what is rarest until so many nodes are left, and lets what is left count half: what is not requested any
// more gets rare.
func (l *Learner) prune(nodes int) {
	l.root.sum()
	for rare := uint32(1); l.nodes > nodes && l.nodes > 1; rare *= 2 {
		l.root.drop(rare)
		l.nodes = l.root.size()
	}
	l.root.fade()
	l.words = map[string]*wordUse{}
	l.survey()
	l.epoch++
}

// drop forgets what came no more often than rare. What a parameter's word once was goes with it: Current then keeps its template as it is.
func (n *node) drop(rare uint32) {
	n.was = nil
	for s, k := range n.kids {
		if k.all <= rare {
			delete(n.kids, s)
		} else {
			k.drop(rare)
		}
	}
	if n.wild == nil {
		return
	}
	if n.wild.all <= rare {
		n.wild, n.wordy = nil, false
	} else {
		n.wild.drop(rare)
	}
}

func (n *node) fade() {
	n.hits, n.words = n.hits/2, n.words/2
	for i := range n.values {
		n.values[i].count = (n.values[i].count + 1) / 2
	}
	for _, k := range n.kids {
		k.fade()
	}
	if n.wild != nil {
		n.wild.fade()
	}
}

// sum counts again what ends at a node and below it.
func (n *node) sum() {
	n.all, n.once, n.twice = n.hits, 0, 0
	switch n.hits {
	case 1:
		n.once = 1
	case 2:
		n.twice = 1
	}
	for _, k := range n.kids {
		n.add(k)
	}
	if n.wild != nil {
		n.add(n.wild)
	}
}

func (n *node) add(k *node) {
	k.sum()
	n.all, n.once, n.twice = n.all+k.all, n.once+k.once, n.twice+k.twice
}

func (n *node) size() int {
	size := 1
	for _, k := range n.kids {
		size += k.size()
	}
	if n.wild != nil {
		size += n.wild.size() + len(n.wild.values)/4
	}
	return size
}

// survey notes where each word occurs.
func (l *Learner) survey() {
	clear(l.words)
	l.surveyNode(l.root)
}

func (l *Learner) use(word string) *wordUse {
	u := l.words[word]
	if u == nil {
		u = &wordUse{}
		l.words[word] = u
	}
	return u
}

// surveyNode counts a word as a route's only where it may be one: among many that look like values it would speak for itself.
func (l *Learner) surveyNode(n *node) {
	for s, k := range n.kids {
		u := l.use(s)
		if !n.wordy && (n.unknown <= manyValues || k.alone || k.lexical <= routeLike) {
			u.literal++
		}
		if k.wild != nil {
			u.before++
		}
		l.surveyNode(k)
	}
	if n.wild != nil {
		for _, v := range n.wild.values {
			l.use(v.text).value++
		}
		l.surveyNode(n.wild)
	}
}

// decide judges a place, then what lies below it: what is merged above may be the same place below. First what turned out wrong is undone and
// what is open opened, since both change the words that are judged. A parameter is given up only below -5, or -2 with few values: between these
// and 0 it stays as it is, so that a route does not change its name with each pass. Of what is below the root's parameter nothing is learned
// where that is a scanner's identifiers (strayShare).
func (l *Learner) decide(n *node, depth int) {
	l.undo(n, depth)
	if why := n.opens(); why != notOpen {
		l.openUp(n, why)
	}
	score := l.judge(n, depth)
	if n.wordy && (score < -5 || score < -2 && n.wild.newWord <= manyValues) {
		l.release(n, func(v value) bool { return v.word })
	} else if len(n.kids) > 0 && (n.wordy || score > 0) {
		l.merge(n)
	}
	n.unknown = 0
	for _, s := range n.sorted() {
		if k := n.kids[s]; !k.alone && k.lexical > routeLike {
			n.unknown++
			l.unknown++
		}
	}
	for _, s := range n.sorted() {
		k := n.kids[s]
		if !k.sure && k.seen > 1 && (!k.coded || k.all >= codedTrusted) && (n.unknown <= returnedMax || score < -1 && k.all > 4 && (depth > 0 || k.all*strangeShare >= n.all)) {
			k.sure = true
			l.epoch++
		}
		l.decide(k, depth+1)
	}
	if n.wild == nil {
		return
	}
	if depth == 0 && n.all >= strayLeast && n.wild.all*strayShare < n.all {
		n.wild.forgetNames()
		return
	}
	l.decide(n.wild, depth+1)
}

// forgetNames gives up what was taken for names below a parameter.
func (n *node) forgetNames() {
	if n.wordy {
		n.wild, n.wordy = nil, false
	}
	for _, k := range n.kids {
		k.forgetNames()
	}
	if n.wild != nil {
		n.wild.forgetNames()
	}
}

// sorted returns the words below a place in order, so that equal traffic always leads to equal templates.
func (n *node) sorted() []string {
	words := make([]string, 0, len(n.kids))
	for s := range n.kids {
		words = append(words, s)
	}
	slices.Sort(words)
	return words
}

// undo makes words again of a parameter's values where there are too few of them for so many requests, unless the place
// is one for names: what a single user is called is not to become part of a route.
func (l *Learner) undo(n *node, depth int) {
	w := n.wild
	if w == nil || w.opening != notOpen {
		return
	}
	names, several := ofPeople(n.segment), plural([]byte(n.segment))
	few := w.newWord <= 6 && w.words >= 12
	switch {
	case few && w.newWord*8 < w.words && (w.newWord <= 2 && !names && !several || w.lexicalMean() < 0.5),
		few && w.newWord*50 < w.words && !names:
		l.release(n, func(v value) bool { return v.word })
	case w.words >= 30 && w.newWord > 6 && !names:
		l.release(n, func(v value) bool {
			limit := 0.5
			if v.word && v.form <= -1 && w.knownShare() <= knownOften {
				limit = 0.12
			}
			return v.word && v.count >= 30 && float64(v.count) > limit*float64(w.words)
		})
	case !n.wordy && !names && !several && n.name == "" && w.all >= 24 && w.fresh <= 2 && w.words == 0 && w.hits == 0 && len(w.kids) > 1:
		l.release(n, func(v value) bool { return !v.word && versionLike(v.text) }) // /api/1.0/, /rest/3/
	case !names && !several && n.name == "" && depth <= 2 && w.hits < w.all/4:
		// The same among other identifiers, such as those of scanners.
		l.release(n, func(v value) bool { return !v.word && versionLike(v.text) && v.count >= 24 && v.count > w.all/4 })
	}
}

// release makes nodes of their own of some of a parameter's remembered values. What lies below is known to be of one of
// them only where there was but one. What looks like a code needs as many requests as at a place without a parameter.
func (l *Learner) release(n *node, chosen func(value) bool) {
	w := n.wild
	which := func(v value) bool {
		return chosen(v) && (!v.word || v.count >= codedTrusted || !coded([]byte(v.text[:representation([]byte(v.text))])))
	}
	if len(w.values) == 1 && w.fresh == 1 && which(w.values[0]) {
		l.epoch++
		w.segment, w.name = w.values[0].text, ""
		w.lexical = lexicalForm([]byte(w.segment))
		w.values, w.fresh, w.words, w.newWord, w.known, w.met, w.alone = nil, 0, 0, 0, 0, [2]uint64{}, true
		n.addKid(w)
		n.wild, n.wordy, n.was = nil, false, w
		return
	}
	keep := w.values[:0]
	for _, v := range w.values {
		if !which(v) {
			keep = append(keep, v)
			continue
		}
		l.epoch++
		k := newWord([]byte(v.text))
		k.alone, k.all = true, v.count
		if len(w.kids) == 0 && w.wild == nil {
			k.hits, k.methods = v.count, w.methods
		}
		n.addKid(k)
		w.fresh--
		if v.word {
			w.words -= min(w.words, v.count)
			w.uncountWord(v)
		}
	}
	w.values = keep
	if w.newWord == 0 {
		n.wordy = false
	}
	if len(w.values) == 0 && w.fresh == 0 {
		n.wild = nil
	}
}

// merge makes values of a place's words, except those that stand alone.
func (l *Learner) merge(n *node) {
	different := l.different(n)
	for _, s := range n.sorted() {
		k := n.kids[s]
		if k.alone {
			continue
		}
		if different[s] || l.standsAlone(n, s, k) {
			if k.guest {
				k.guest = false
				l.epoch++
			}
			continue
		}
		if n.wild == nil {
			n.wild = &node{name: className(isWord)}
		}
		if k.unlike(n.wild) {
			continue // until more is known
		}
		delete(n.kids, s)
		if n.wild.opening != notOpen {
			k.dissolve()
		}
		n.wild.remember([]byte(s), k.all, true)
		n.wild.absorb(k)
		l.epoch++
	}
	n.wordy = n.wild != nil
}

// different returns the words at a place that have, unlike most others, nothing below them that the others have, too.
func (l *Learner) different(n *node) map[string]bool {
	const few, most, least = 6, 0.6, 10
	parents, share := l.shapeOf(n)
	if parents < few || share < most {
		return nil
	}
	_, _, follow := l.following(n)
	words := map[string]bool{}
	for s, k := range n.kids {
		alike := len(k.kids) == 0 || k.all < least
		for next := range k.kids {
			alike = alike || usual(follow[next].count, parents)
		}
		if !alike {
			words[s] = true
		}
	}
	return words
}

// alike tells whether what lies below another node also lies below this one.
func (n *node) alike(o *node) bool {
	if o.methods&^n.methods != 0 || o.wild != nil && n.wild == nil {
		return false
	}
	for s := range o.kids {
		if n.kids[s] == nil && n.wild == nil {
			return false
		}
	}
	return true
}

// absorb takes over what another node has.
func (n *node) absorb(o *node) {
	n.hits += o.hits
	n.methods |= o.methods
	n.sure, n.seen = n.sure || o.sure, min(n.seen+o.seen, guestLeast)
	n.opening = max(n.opening, o.opening)
	if n.again == nil {
		n.own, n.again = o.own, o.again
	}
	for _, s := range o.sorted() {
		k := o.kids[s]
		if mine := n.kids[s]; mine != nil {
			mine.absorb(k)
			continue
		}
		if n.wordy && !k.alone {
			if n.wild == nil {
				n.wild = &node{name: className(isWord)}
			}
			n.wild.remember([]byte(s), k.all, true)
			n.wild.absorb(k)
			continue
		}
		n.addKid(k)
	}
	if o.wild == nil {
		return
	}
	if n.wild == nil {
		n.wild = o.wild
		return
	}
	for _, v := range o.wild.values {
		n.wild.remember([]byte(v.text), v.count, v.word)
	}
	n.wild.absorb(o.wild)
}

// versionLike tells whether an identifier may be a version all the same: a short number, or a day. Others are never made
// words, since they may be secrets.
func versionLike(s string) bool {
	for _, c := range []byte(s) {
		if !wire.IsDigit(c) {
			return isDateText([]byte(s)) && len(s) <= len("2010-04-01")
		}
	}
	return len(s) <= 2
}

func newValue(s []byte, count uint32, word bool) value {
	v := value{text: string(s), count: count, word: word}
	if word {
		v.form = lexicalForm(s)
	}
	return v
}
