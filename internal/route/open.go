package route

// A place is open where paths go on from it in ever new ways: a store's folders, a site's sections, a fuzzer's words. The form of the
// words tells nothing then, but their number does. How many templates there are below a place besides those met is estimated from
// those that came once and twice (Chao, 1984); no interface has as many as openRichness. That takes openOnce templates that came
// once. A test that calls each operation of a large interface a single time has as many, but then other words follow each of the
// words, or each has several (opens). Behind an open parameter less is asked for, since what is below it is below all of its values.
const (
	openOnce, openRichness             = 100, 1500
	openOnceBehind, openRichnessBehind = 40, 500
	// openWords is how many words that go on in new ways a place has at least.
	openWords = 6
	// evenWords words of which none has a tenth of the requests are values behind an open parameter. What an interface has below its
	// names is fewer words, and some of them much more often.
	evenWords = 24
	// manyWords is more than one place has in any public API (one has 174), and manyAlike more than have the same words below them there.
	manyWords, manyAlike = 250, 64
	// wideRichness is how many templates below a word, besides those met, make it wide whatever it is asked for often.
	wideRichness = 50
	// standsOut is how often a word comes, as a multiple of the mean, that is a route of its own among others that end alike.
	standsOut = 4
	// endsSeldom is which share of an open parameter's requests may end with it where words that end are routes.
	endsSeldom = 20
)

// wordSet is a set of words that takes some others for its own: one in forty where there are fifty, one in four where six hundred.
type wordSet [32]uint64

func (s *wordSet) add(word []byte) {
	if s != nil {
		h := hashOf(word) % (64 * uint32(len(s)))
		s[h/64] |= 1 << (h % 64)
	}
}

func (s *wordSet) has(word string) bool {
	if s == nil {
		return false
	}
	h := hashOf([]byte(word)) % (64 * uint32(len(s)))
	return s[h/64]&(1<<(h%64)) != 0
}

// fanning is what the words at a place that are not decided sum up to.
type fanning struct {
	words, all, once, twice uint32
	returned                uint32 // words that came more than once, as few of a scanner's do
	again, againAll         uint32 // words that stand in front as well
	wide, wideAll           uint32 // words that go on in new ways
	most                    uint32 // requests of the most frequent one
}

// fanning looks at the words alone: what a parameter beside them has says nothing of them.
func (n *node) fanning() (f fanning) {
	for _, k := range n.kids {
		if k.alone {
			continue
		}
		f.words++
		if k.all > 1 {
			f.returned++
		}
		f.all, f.once, f.twice, f.most = f.all+k.all, f.once+k.once, f.twice+k.twice, max(f.most, k.all)
		if k.isWide() {
			f.wide++
			f.wideAll += k.all
		}
		if n.again.has(k.segment) {
			f.again++
			f.againAll += k.all
		}
	}
	return f
}

// isWide tells whether a word goes on in new ways, other than versions. One that came once may.
func (n *node) isWide() bool {
	if len(n.kids) == 0 && n.wild == nil || n.versions()*2 > len(n.kids) {
		return false
	}
	return n.once*4 >= n.all || richness(n.once, n.twice) >= wideRichness
}

// richness is how many templates there are at least besides those met.
func richness(once, twice uint32) float64 {
	return float64(once) * float64(once) / 2 / float64(twice+1)
}

// leaks tells whether a fourth of the requests were for templates that never came again, and whether as many more as given must be expected.
// Without the share, an old service that met many of its routes once, long ago, would be open for ever.
func (f *fanning) leaks(once uint32, least float64) bool {
	return f.once >= once && f.once*4 >= f.all && richness(f.once, f.twice) >= least
}

// spreads tells whether the words are several that mostly go on in new ways.
func (f *fanning) spreads() bool { return f.wide >= openWords && f.wideAll*10 >= f.all*6 }

// opening is why a place is open.
type opening uint8

const (
	notOpen     opening = iota
	leaking             // ever new templates
	evenly              // many words, as frequent as each other
	asBefore            // words of a place in front
	alikeBehind         // very many words that the same ones follow
)

// opens tells whether and why a place that is not known to be open is, as of the latest sum.
func (n *node) opens() opening {
	if n.wild != nil && n.wild.opening != notOpen {
		return notOpen
	}
	behind := n.opening != notOpen
	f := n.fanning()
	switch {
	case n.wordy && n.wild.wordy && n.wild.sharesValues():
		return leaking
	case f.all*10 < n.all:
		return notOpen
	case f.spreads() && f.leaks(openOnce, openRichness) && (f.all < 3*f.words || n.sharesFollowers()),
		f.spreads() && (behind || n.name == className(isWord)) && f.leaks(openOnceBehind, openRichnessBehind), n.nests():
		return leaking
	case n.followAlike() != nil:
		return alikeBehind
	case (f.returned > manyWords || behind && f.words > evenWords) && f.most*10 < f.all:
		return evenly
	case behind && f.again >= openWords && f.againAll >= openOnce:
		return asBefore
	}
	return notOpen
}

// nests tells whether the words at a place are, most of them and mostly, below each other again, as folders are, though they are
// words of the vocabulary: that tells nothing then. It is so at no place of the public APIs.
func (n *node) nests() bool {
	const few = 6
	parents, unknown, pairs, again := 0, 0, 0, 0
	for _, k := range n.kids {
		if k.alone || len(k.kids) == 0 {
			continue
		}
		if parents++; k.lexical > routeLike {
			unknown++
		}
		for next, below := range k.kids {
			if len(below.kids) == 0 && below.wild == nil {
				continue // a file
			}
			if pairs++; n.kids[next] != nil {
				again++
			}
		}
	}
	return parents >= few && unknown*2 < parents && pairs >= few*few && again*10 >= pairs*6
}

// sharesValues tells whether several values of a parameter are values of the one behind it as well, as folders are.
func (n *node) sharesValues() bool {
	shared := 0
	for i := range n.values {
		for k := range n.wild.values {
			if v := &n.values[i]; v.word && v.text == n.wild.values[k].text {
				shared++
			}
		}
	}
	return shared >= openWords
}

// sharesFollowers tells whether half of what follows the words at a place follows several of them, unlike the methods of services of
// which each is called once.
func (n *node) sharesFollowers() bool {
	pairs, once, follow := 0, 0, map[string]int{}
	for _, k := range n.kids {
		pairs += len(k.kids)
		for next := range k.kids {
			follow[next]++
		}
		if k.wild != nil { // identifiers follow, as they may follow any
			pairs++
		}
	}
	for _, count := range follow {
		if count == 1 {
			once++
		}
	}
	return once*2 <= pairs
}

// followAlike returns what follows the words at a place, if these are very many and the same ones follow them, as those of tenants.
func (n *node) followAlike() map[string]bool {
	if len(n.kids) < manyAlike {
		return nil
	}
	parents, pairs, common, follow := 0, 0, 0, map[string]int{}
	for _, k := range n.kids {
		if k.alone || len(k.kids) == 0 {
			continue
		}
		parents++
		pairs += len(k.kids)
		for next := range k.kids {
			follow[next]++
		}
	}
	same := map[string]bool{}
	for next, count := range follow {
		if usual(count, parents) {
			common += count
			same[next] = true
		}
	}
	if parents < manyAlike || common*10 < pairs*9 {
		return nil
	}
	return same
}

// followedBy tells whether several words follow one, all of them among some.
func (n *node) followedBy(some map[string]bool) bool {
	for next := range n.kids {
		if !some[next] {
			return false
		}
	}
	return len(n.kids) > 1
}

// openUp makes values of an open place's words, but for those that are kept.
func (l *Learner) openUp(n *node, why opening) {
	again, f := n.repeats(), n.fanning()
	if n.wild == nil {
		n.wild = &node{name: className(isWord)}
	}
	w := n.wild
	w.opening = why
	switch {
	case n.again != nil:
		w.again = n.again
	case w.again == nil && (again || w.wordy && w.sharesValues()):
		w.own = &wordSet{}
		w.again = w.own
		for i := range w.values {
			w.own.add([]byte(w.values[i].text))
		}
	}
	n.wordy = true
	alike := map[string]bool(nil)
	if why == alikeBehind {
		alike = n.followAlike()
	}
	for _, wide := range [...]bool{true, false} { // first those that leave no doubt
		for _, s := range n.sorted() {
			k := n.kids[s]
			if k.alone || (k.isWide() || k.followedBy(alike)) != wide || !wide && w.keeps(k, f.words, f.all) {
				continue
			}
			delete(n.kids, s)
			k.dissolve()
			w.remember([]byte(s), k.all, true)
			w.absorb(k)
		}
		w.sum()
	}
	l.epoch++
}

// dissolve makes words again, below a word that has become a value, of values that are all remembered and end: what followed a single
// word, such as users/, is to be judged by all that follows the parameter.
func (n *node) dissolve() {
	for _, k := range n.kids {
		k.dissolve()
	}
	w := n.wild
	if w == nil {
		return
	}
	w.dissolve()
	if !n.wordy || w.opening != notOpen || len(w.kids) > 0 || w.wild != nil || w.ids > 0 || int(w.fresh) > len(w.values) {
		return
	}
	for _, v := range w.values {
		k := newWord([]byte(v.text))
		k.hits, k.methods = v.count, w.methods
		n.addKid(k)
	}
	n.wild, n.wordy = nil, false
}

// keeps tells whether a word beside an open parameter, whose values are so many in so many requests, is a route of its own: it
// does not go on in new ways, and stands out where the values do not go on either.
func (n *node) keeps(k *node, words, all uint32) bool {
	switch {
	case k.guest && max(k.all, uint32(k.seen)) < guestLeast, k.isWide(), k.all < 2:
		return false
	case n.opening == alikeBehind && len(k.kids) > 0:
		return !n.alike(k)
	case k.all*words > standsOut*all:
		return true
	case n.opening == evenly:
		return false
	case n.opening == asBefore:
		return !n.again.has(k.segment)
	}
	return k.hits == 0 || n.hits*endsSeldom < n.all
}

// repeats tells whether what follows the words at a place are mostly these words again.
func (n *node) repeats() bool {
	pairs, again := 0, 0
	for _, k := range n.kids {
		for next := range k.kids {
			pairs++
			if n.kids[next] != nil {
				again++
			}
		}
	}
	return pairs >= openWords*openWords && again*2 >= pairs
}
