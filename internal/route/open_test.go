package route

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// vocabularyWords is words that names are made of here, all of them in the vocabulary: nothing in their form tells them from a route's.
var vocabularyWords = strings.Fields(vocabularyText)

// apiWords are so many words of the vocabulary, others for each seed.
func apiWords(seed uint64, n int) []string {
	r := rand.New(rand.NewPCG(seed, 77))
	words := slices.Clone(vocabularyWords)
	r.Shuffle(len(words), func(i, k int) { words[i], words[k] = words[k], words[i] })
	kept := words[:0]
	for _, w := range words {
		if len(w) >= 3 {
			kept = append(kept, w)
		}
	}
	return kept[:n]
}

type openKind struct {
	name  string
	make  func(r *rand.Rand) func() (path, truth string)
	least float64 // share of the second half's requests that have their route, at least
	most  int     // routes in the second half, at most
}

// openKinds make paths of which whole tails are values, though these are words that routes are made of; {} is a value. They have
// been chosen beside those of kinds_test.go: fuzzed interfaces, stores and sites with folders, forges, and interfaces without any.
var openKinds = []openKind{
	{"fuzz", func(r *rand.Rand) func() (string, string) {
		words := apiWords(1, 700)
		return func() (string, string) { return drawn(r, "/{}/{}/{}/{}", words) }
	}, 0.99, 3},
	{"fuzz of forty", func(r *rand.Rand) func() (string, string) {
		a, b, c, d := apiWords(2, 40), apiWords(3, 40), apiWords(4, 40), apiWords(5, 40)
		return func() (string, string) { return drawn(r, "/{}/{}/{}/{}", a, b, c, d) }
	}, 0.99, 3},
	{"fuzz of twelve", func(r *rand.Rand) func() (string, string) {
		words := apiWords(6, 12)
		return func() (string, string) { return drawn(r, "/{}/{}/{}/{}", words) }
	}, 0.99, 3},
	{"fuzz beside an api", func(r *rand.Rand) func() (string, string) {
		words := apiWords(7, 200)
		return func() (string, string) {
			if r.IntN(3) > 0 {
				return drawn(r, "/api/v2/explore/{}/{}/{}", words)
			}
			p := oneOf(r, "/api/v2/orders /api/v2/orders/export /api/v2/invoices/drafts /api/v2/customers /healthz /api/v2/reports/daily /login")
			return p, p
		}
	}, 0.99, 12},
	{"store", func(r *rand.Rand) func() (string, string) {
		buckets, folders := apiWords(8, 8), apiWords(9, 60)
		return func() (string, string) {
			t := "/{}" + strings.Repeat("/{}", 1+r.IntN(4)) + "/{}"
			p, _ := drawn(r, strings.TrimSuffix(t, "/{}"), buckets, folders, folders, folders, folders)
			return p + fmt.Sprintf("/%s-%d%s", skewed(r, folders), r.IntN(90), oneOf(r, fileEnds)), t
		}
	}, 0.95, 16},
	{"skewed store", func(r *rand.Rand) func() (string, string) {
		folders := apiWords(17, 60)
		return func() (string, string) {
			p := "/files/" + oneOf(r, "public private")
			t := p
			for range 1 + r.IntN(4) {
				p, t = p+"/"+skewed(r, folders), t+"/{}"
			}
			return p + fmt.Sprintf("/%s-%d%s", skewed(r, folders), r.IntN(90), oneOf(r, fileEnds)), t + "/{}"
		}
	}, 0.95, 20},
	{"site", func(r *rand.Rand) func() (string, string) {
		sections, topics := apiWords(10, 10), apiWords(11, 90)
		return func() (string, string) {
			if r.IntN(8) == 0 {
				p := oneOf(r, "/about /login /search /sitemap.xml /assets/site.css /contact")
				return p, p
			}
			t := "/{}" + strings.Repeat("/{}", 2+r.IntN(2)) + "/{}"
			p, _ := drawn(r, strings.TrimSuffix(t, "/{}"), sections, topics, topics, topics)
			return p + "/" + skewed(r, topics) + "-" + oneOf(r, "of with for") + "-" + skewed(r, topics), t
		}
	}, 0.95, 30},
	{"forge", func(r *rand.Rand) func() (string, string) {
		owners, repos := apiWords(12, 150), apiWords(13, 400)
		return func() (string, string) {
			if r.IntN(10) == 0 {
				p := oneOf(r, "/explore /login /settings/profile /notifications")
				return p, p
			}
			tail := oneOf(r, "issues pulls wiki releases branches tags stargazers actions")
			p, t := drawn(r, "/{}/{}", owners, repos)
			return p + "/" + tail, t + "/" + tail
		}
	}, 0.97, 20},
	{"registry", func(r *rand.Rand) func() (string, string) {
		names := apiWords(14, 80)
		return func() (string, string) {
			p, t := drawn(r, strings.Repeat("/{}", 1+r.IntN(3)), names)
			switch r.IntN(4) {
			case 0:
				return "/v2" + p + "/tags/list", "/v2" + t + "/tags/list"
			case 1:
				return "/v2" + p + "/blobs/sha256:" + chars(r, "0123456789abcdef", 64), "/v2" + t + "/blobs/{}"
			}
			return "/v2" + p + "/manifests/" + fmt.Sprintf("v%d.%d.%d", r.IntN(4), r.IntN(20), r.IntN(9)), "/v2" + t + "/manifests/{}"
		}
	}, 0.95, 20},
	{"locales", func(r *rand.Rand) func() (string, string) {
		categories, items := apiWords(15, 50), apiWords(16, 300)
		return func() (string, string) {
			if r.IntN(5) == 0 {
				p := oneOf(r, "about cart imprint")
				return "/" + skewed(r, localeNames) + "/" + p, "/{}/" + p
			}
			return drawn(r, "/{}/{}/{}/{}", localeNames, categories, categories, items)
		}
	}, 0.95, 12},
}

// Kinds of which some words are in the vocabulary and others not, and whose bounds are what was measured, rounded towards the worse.
func init() {
	openKinds = append(openKinds, []openKind{
		{"mixed store", func(r *rand.Rand) func() (string, string) {
			folders := strings.Fields("images data backup logs archive reports raw exports media tmp daily users 2023 2024 thumbs avatars invoices " + plainWords)
			return func() (string, string) {
				p := "/" + oneOf(r, "acme-media acme-logs acme-data")
				t := p
				for range 1 + r.IntN(4) {
					p, t = p+"/"+skewed(r, folders), t+"/{}"
				}
				return p + fmt.Sprintf("/%s-%d%s", oneOf(r, plainWords), r.IntN(999), oneOf(r, fileEnds)), t + "/{}"
			}
		}, 0.8, 120},
		{"people's repositories", func(r *rand.Rand) func() (string, string) {
			people, repos := strings.Fields(peopleNames), apiWords(33, 300)
			return func() (string, string) {
				tail := oneOf(r, "/issues /pulls /tree/main /actions /settings")
				return "/" + skewed(r, people) + "/" + skewed(r, repos) + tail, "/{}/{}" + tail
			}
		}, 0.99, 8},
		{"tenants", func(r *rand.Rand) func() (string, string) {
			names := apiWords(34, 100)
			return func() (string, string) {
				tail := oneOf(r, "/api/orders /api/customers /dashboard /login /api/invoices/export")
				return "/" + skewed(r, names) + tail, "/{}" + tail
			}
		}, 0.99, 8},
		{"flat", func(r *rand.Rand) func() (string, string) {
			words := apiWords(35, 1200)
			return func() (string, string) { return drawn(r, "/{}", words) }
		}, 0.99, 3},
	}...)
}

var localeNames = strings.Fields("en-US de-DE fr-FR es pt-BR it ja zh-CN nl sv pl da ko tr")

// drawn fills a template with words of one pool each, the last one's for what is left: evenly from those of up to seven hundred, as
// fuzzers draw.
func drawn(r *rand.Rand, template string, pools ...[]string) (path, truth string) {
	path = template
	for i := 0; strings.Contains(path, "{}"); i++ {
		words := pools[min(i, len(pools)-1)]
		path = strings.Replace(path, "{}", words[r.IntN(len(words))], 1)
	}
	return path, template
}

// skewed draws a word by Zipf's law.
func skewed(r *rand.Rand, words []string) string { return words[zipf(r, len(words))] }

// Tails of words of the vocabulary that are ever new are values, and what stands beside them stays: 6,000 requests of each kind, all
// answered, the second half judged.
func TestOpenKinds(t *testing.T) {
	seeds := uint64(2)
	if testing.Short() { // as with the race detector
		seeds = 1
	}
	for _, k := range openKinds {
		for seed := uint64(1); seed <= seeds; seed++ {
			r := rand.New(rand.NewPCG(seed, 5))
			next := k.make(r)
			l := NewLearner()
			all, late, wrong, right := map[string]bool{}, map[string]bool{}, map[string]int{}, 0
			const n = 6000
			for i := range n {
				path, truth := next()
				got := bare(string(l.Learn(nil, "GET", []byte(path), 200, 1)))
				all[got] = true
				if i < n/2 {
					continue
				}
				late[got] = true
				if got == truth {
					right++
				} else {
					wrong[truth+" as "+got]++
				}
			}
			share := float64(right) / (n / 2)
			t.Logf("%-20s %.3f right, %4d routes, %4d in all", k.name, share, len(late), len(all))
			if share < k.least || len(late) > k.most {
				t.Errorf("%s: %.3f have their route, want %.3f; %d routes, want %d: %.600s", k.name, share, k.least, len(late), k.most, fmt.Sprint(wrong))
			}
		}
	}
}

// Large interfaces stay what they are, though their words are the same: sixty resources with the same six deeds, thirty services with
// fifty methods each, two hundred operations that a test calls once each, in order, and two hundred paths of one to three words while one
// request in twelve is a scanner's for a word at the root that never comes again.
func TestLargeInterfacesStayLiteral(t *testing.T) {
	words := apiWords(40, 400)
	for _, tt := range []struct {
		name string
		path func(r *rand.Rand, i int) string
	}{
		{"deeds", func(r *rand.Rand, _ int) string {
			return "/api/" + skewed(r, words[:60]) + "/" + oneOf(r, "list create update delete export import")
		}},
		{"services", func(r *rand.Rand, _ int) string {
			service := zipf(r, 30)
			return "/rpc/" + words[service] + "/" + skewed(r, words[100+service*10:][:50])
		}},
		{"once", func(_ *rand.Rand, i int) string { return "/rpc/" + words[i/10%20] + "/" + words[100+i%200] }},
		{"scanned", func(r *rand.Rand, i int) string {
			if i%12 == 5 {
				return "/-" + vocabularyWords[i/12] // one of the root's that is none of the interface
			}
			of := zipf(r, 200)
			return strings.TrimRight("/"+words[of%40]+"/"+[]string{"", words[100+of%70], words[200+of]}[of%3], "/")
		}},
	} {
		r := rand.New(rand.NewPCG(4, 9))
		l := NewLearner()
		for i := range 6000 {
			path := tt.path(r, i)
			if got := string(l.Learn(nil, "GET", []byte(path), 200, 1)); got != path && path[1] != '-' {
				t.Fatalf("%s: request %d for %s has the route %s", tt.name, i, path, got)
			}
		}
	}
}
