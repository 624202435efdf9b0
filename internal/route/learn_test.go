package route

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
)

// traffic is a small API as a client sees it: made-up values, in the places of its templates.
type traffic struct {
	r         *rand.Rand
	templates []string // METHOD /path/{kind}, the first ones the most popular
}

func (t *traffic) value(kind string) string {
	pick := func(words string) string { f := strings.Fields(words); return f[t.r.IntN(len(f))] }
	switch kind {
	case "int":
		return fmt.Sprint(t.r.IntN(100_000))
	case "uuid":
		return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", t.r.Uint32(), t.r.IntN(1<<16), t.r.IntN(1<<12), t.r.IntN(1<<12), t.r.Int64N(1<<48))
	case "hex":
		return fmt.Sprintf("%016x%08x", t.r.Uint64(), t.r.Uint32())
	case "prefixed":
		return fmt.Sprintf("cus_%dQ%dx", t.r.IntN(1e6), t.r.IntN(1e6))
	case "date":
		return fmt.Sprintf("2026-%02d-%02d", 1+t.r.IntN(12), 1+t.r.IntN(28))
	case "mail":
		return fmt.Sprintf("%s%d@example.org", pick("ann bo cy"), t.r.IntN(1000))
	case "slug":
		return pick("mossy amber fuzzy hollow crooked velvet rustic gloomy sleepy brisk copper lunar") + "-" +
			pick("otter walnut lantern harbor pebble thistle comet saddle willow kettle anchor badger")
	case "user":
		return pick("ann bea cleo dora enno fritz gus hilde ida jost karla lutz mina nele otto paula") + pick("huber meyer lang vogt roth kern wolff beck")
	}
	panic(kind)
}

// next returns a request and its template, with {} for every parameter.
func (t *traffic) next() (method, path, truth string) {
	i := int(float64(len(t.templates)) * t.r.Float64() * t.r.Float64())
	method, template, _ := strings.Cut(t.templates[i], " ")
	segments := strings.Split(template, "/")
	truths := strings.Split(template, "/")
	for i, s := range segments {
		if kind, ok := strings.CutPrefix(s, "{"); ok {
			segments[i], truths[i] = t.value(strings.TrimSuffix(kind, "}")), "{}"
		}
	}
	return method, strings.Join(segments, "/"), strings.Join(truths, "/")
}

// plain replaces the name of every parameter by nothing.
func plain(template string) string {
	segments := strings.Split(template, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") {
			segments[i] = "{}"
		}
	}
	return strings.Join(segments, "/")
}

var shop = []string{
	"GET /api/v2/articles/{slug}", "GET /api/v2/articles", "GET /api/v2/users/{user}", "GET /api/v2/users/me", "PUT /api/v2/users/{user}",
	"GET /api/v2/articles/{slug}/comments/{int}", "POST /api/v2/articles/{slug}/comments", "GET /api/v2/orders/{uuid}/items/{int}",
	"DELETE /api/v2/orders/{uuid}", "GET /api/v2/customers/{prefixed}/invoices", "GET /api/v2/reports/daily/{date}",
	"GET /api/v2/articles/search", "POST /oauth2/token", "GET /.well-known/jwks.json", "GET /i18n/de", "GET /healthz", "GET /assets/{hex}",
	"POST /api/v2/invitations/{mail}", "GET /api/v1.0/legacy/export", "POST /api/v2/users/login", "GET /api/v2/articles/{slug}/edit",
}

// A Learner finds the templates of an API with typed and untyped parameters, words beside parameters, and versions, and after
// 2,000 requests is hardly ever wrong.
func TestLearnerFindsTemplates(t *testing.T) {
	for seed := range uint64(5) {
		api := &traffic{rand.New(rand.NewPCG(seed, 1)), shop}
		l := NewLearner()
		wrong := map[string]int{}
		const learning, counted = 2000, 5000
		for i := range learning + counted {
			method, path, truth := api.next()
			got := string(l.Learn(nil, method, []byte(path), 200, 1))
			if i >= learning && plain(got) != truth {
				wrong[truth+" as "+got]++
			}
		}
		total := 0
		for _, n := range wrong {
			total += n
		}
		if total > counted/100 {
			t.Errorf("seed %d: %d of %d wrong: %v", seed, total, counted, wrong)
		}
	}
}

// What stays a route of its own, and what does not become one, after a small number of requests each.
func TestLearnerDecides(t *testing.T) {
	words := strings.Fields("users orders invoices settings roles audit reports exports imports tokens sessions webhooks plans flags quotas")
	tests := []struct {
		name   string
		learn  func(send func(method, path string))
		expect [][2]string
	}{
		{"words beside each other", func(send func(method, path string)) {
			for i := range 2000 {
				send("GET", "/admin/"+words[i%len(words)])
			}
		}, [][2]string{{"/admin/users", "/admin/users"}, {"/admin/quotas", "/admin/quotas"}}},
		{"me beside identifiers", func(send func(method, path string)) {
			for i := range 500 {
				send("GET", fmt.Sprint("/users/", i))
				send("GET", "/users/me")
			}
		}, [][2]string{{"/users/me", "/users/me"}, {"/users/77", "/users/{id}"}}},
		{"me beside names", func(send func(method, path string)) {
			api := &traffic{r: rand.New(rand.NewPCG(1, 1))}
			for range 500 {
				send("GET", "/users/"+api.value("user"))
				send("GET", "/users/me")
			}
		}, [][2]string{{"/users/me", "/users/me"}, {"/users/theodora", "/users/{name}"}}},
		{"one user's name", func(send func(method, path string)) {
			for range 500 {
				send("GET", "/users/theodora")
				send("GET", "/users/4711/orders")
			}
		}, [][2]string{{"/users/theodora", "/users/{name}"}, {"/users/4711/orders", "/users/{name}/orders"}}},
		{"versions", func(send func(method, path string)) {
			for i := range 200 {
				for _, p := range []string{"/v10/items/", "/api/1.0/items/", "/rest/3/items/"} {
					send("GET", p+fmt.Sprint(i))
					send("GET", strings.Replace(p, "items/", "tags", 1))
				}
			}
		}, [][2]string{{"/v10/items/5", "/v10/items/{id}"}, {"/api/1.0/items/5", "/api/1.0/items/{id}"}, {"/rest/3/items/5", "/rest/3/items/{id}"}}},
		{"representations", func(send func(method, path string)) {
			for i := range 100 {
				send("GET", fmt.Sprintf("/orders/%d.json", i))
			}
		}, [][2]string{{"/orders/7.json", "/orders/{id}.json"}}},
		{"keys in parentheses, beside an unknown name", func(send func(method, path string)) {
			for i := range 300 {
				send("GET", fmt.Sprintf("/odata/Products(%d)", i))
				send("GET", fmt.Sprintf("/odata/Products('k%d')/Zyklus(n=%d)", i, i))
				send("GET", "/odata/Products")
			}
		}, [][2]string{{"/odata/Products(5)", "/odata/Products({id})"}, {"/odata/Products", "/odata/Products"},
			{"/odata/Products('x')/Zyklus(n=7)", "/odata/Products({id})/Zyklus(n={n})"}}},
		{"parameters of segments", func(send func(method, path string)) {
			for i := range 300 {
				send("GET", fmt.Sprintf("/;jsessionid=%X", i))
				send("GET", fmt.Sprintf("/items;v=%d/%d;lang=de", i%3, i))
			}
		}, [][2]string{{"/;jsessionid=7", "/"}, {"/items;v=1/5;x", "/items/{id}"}}},
		{"tokens of letters, one of them the only one", func(send func(method, path string)) {
			send("GET", "/x/aZkQwPbTrY")
			r := rand.New(rand.NewPCG(2, 2))
			for range 100 {
				token := make([]byte, 20)
				for i := range token {
					token[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[r.IntN(52)]
				}
				send("GET", "/share/"+string(token)+"/view")
			}
		}, [][2]string{{"/x/aZkQwPbTrY", "/x/{id}"}, {"/share/GuzTeukzbfvTcflgICMq/view", "/share/{id}/view"}}},
		{"a file seen alone", func(send func(method, path string)) {
			for range 200 {
				send("GET", "/fonts/frobnitz.woff2")
				send("GET", "/downloads/tool-1.2.3.tar.gz")
			}
		}, [][2]string{{"/fonts/frobnitz.woff2", "/fonts/frobnitz.woff2"}, {"/downloads/tool-1.2.3.tar.gz", "/downloads/tool-1.2.3.tar.gz"}}},
		{"codes of countries, of which some are words", func(send func(method, path string)) {
			for i := range 600 {
				for _, c := range strings.Fields("fr nl pl cz dk se fi ee lv lt pt es gr hu ro bg hr sk")[i%18:][:1] {
					send("GET", "/countries/"+c)
				}
				send("GET", "/countries/"+[]string{"at", "be", "it"}[i%3])
			}
		}, [][2]string{{"/countries/at", "/countries/{name}"}, {"/countries/it", "/countries/{name}"}, {"/countries/mt", "/countries/{name}"}}},
		{"last slash and empty segments", func(send func(method, path string)) {
			for range 50 {
				send("GET", "/status/")
				send("GET", "//status")
			}
		}, [][2]string{{"/status/", "/status/"}, {"//status", "//status"}, {"/", "/"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := NewLearner()
			tt.learn(func(method, path string) { l.Learn(nil, method, []byte(path), 200, 1) })
			for _, e := range tt.expect {
				if got := string(l.Learn(nil, "GET", []byte(e[0]), 200, 1)); got != e[1] {
					t.Errorf("%s is %s, want %s", e[0], got, e[1])
				}
			}
		})
	}
}

// A file seen alone is itself at every moment.
func TestLearnerLoneFile(t *testing.T) {
	l := NewLearner()
	for i := range 500 {
		for _, path := range []string{"/fonts/frobnitz.woff2", "/downloads/tool-1.2.3.tar.gz"} {
			if got := string(l.Learn(nil, "GET", []byte(path), 200, 1)); got != path {
				t.Fatalf("request %d for %s is %s", i, path, got)
			}
		}
	}
}

// What a server refuses makes no route, whatever is asked for; what it knows is recognised all the same.
func TestLearnerRefused(t *testing.T) {
	l := NewLearner()
	for i := range 100 {
		l.Learn(nil, "GET", fmt.Appendf(nil, "/users/%d", i), 200, 1)
	}
	nodes := l.nodes
	for _, tt := range [][2]string{{"/wp-login.php", "/*"}, {"/users/9999", "/users/{id}"}, {"/users/7/x", "/users/{id}/*"}, {"/a/b/c", "/*"}} {
		if got := string(l.Learn(nil, "GET", []byte(tt[0]), 404, 1)); got != tt[1] {
			t.Errorf("%s is %s, want %s", tt[0], got, tt[1])
		}
	}
	if l.nodes != nodes {
		t.Errorf("%d nodes became %d", nodes, l.nodes)
	}
}

// Current says what has become of a template: of a name that was merged, of one that is as it was, of one never seen.
func TestLearnerCurrent(t *testing.T) {
	l := NewLearner()
	api := &traffic{r: rand.New(rand.NewPCG(1, 1))}
	first := string(l.Learn(nil, "GET", []byte("/blog/mossy-otter/issues"), 200, 1))
	if first != "/blog/mossy-otter/issues" {
		t.Fatalf("first: %s", first)
	}
	for range 200 {
		l.Learn(nil, "GET", []byte("/blog/"+api.value("slug")+"/issues"), 200, 1)
	}
	for _, tt := range [][2]string{{first, "/blog/{name}/issues"}, {"/blog/{name}/issues", "/blog/{name}/issues"},
		{"/nowhere/x/{id}", "/nowhere/x/{id}"}, {"/nowhere/*", "/nowhere/*"}, {"/blog/*", "/blog/{name}/issues"}, {"/", "/"}} {
		if got := string(l.Current(nil, tt[0])); got != tt[1] {
			t.Errorf("%s has become %s, want %s", tt[0], got, tt[1])
		}
	}
	l = NewLearner()
	one := string(l.Learn(nil, "GET", []byte("/api/1.0/users"), 200, 1))
	l.Learn(nil, "GET", []byte("/rest/3/users"), 200, 1)
	for range 100 {
		l.Learn(nil, "GET", []byte("/rest/3/users"), 200, 1)
		l.Learn(nil, "GET", []byte("/rest/3/orders"), 200, 1)
	}
	if got := string(l.Current(nil, "/rest/{id}/users")); one != "/api/1.0/users" || got != "/rest/3/users" {
		t.Errorf("a version: %s, %s", one, got)
	}
}

// A million paths of hostile clients keep a Learner within 4 MiB, and what is really requested is found afterwards.
func TestLearnerBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("a million requests")
	}
	shapes := map[string]func(r *rand.Rand) string{
		"flat": func(r *rand.Rand) string { return "/" + letters(r, 12) },
		"deep": func(r *rand.Rand) string { return "/" + letters(r, 3) + strings.Repeat("/"+letters(r, 9), 12) },
		"mixed": func(r *rand.Rand) string {
			return fmt.Sprintf("/%s/%d/%s/%x", letters(r, 2), r.IntN(1e6), letters(r, 8), r.Uint64())
		},
		"words": func(r *rand.Rand) string {
			return "/api/" + letters(r, 1) + "/user/" + letters(r, 20) + "/list/" + letters(r, 2) + "/x"
		},
		"values": func(r *rand.Rand) string { return "/list/" + letters(r, 2) + "/user/" + letters(r, 60) },
		"longer": func(r *rand.Rand) string { return "/" + strings.Repeat(letters(r, 60)+"/", 6) },
	}
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			before := heap()
			l := NewLearner()
			var buf []byte
			most := uint64(0)
			for i := range 1_000_000 / len(shapes) {
				buf = l.Learn(buf[:0], "GET", []byte(shape(r)), 200, 1)
				if i%50_000 == 49_999 {
					most = max(most, heap()-before)
				}
			}
			if most > 4<<20 {
				t.Errorf("%d KiB, %d nodes", most>>10, l.nodes)
			}
			for i := range 100 {
				buf = l.Learn(buf[:0], "GET", fmt.Appendf(nil, "/orders/%d/items", i), 200, 1)
			}
			if string(buf) != "/orders/{id}/items" && string(buf) != "/{name}/{id}/items" {
				t.Errorf("afterwards: %s", buf)
			}
			runtime.KeepAlive(l)
		})
	}
}

func letters(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(r.IntN(26))
	}
	return string(b)
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// FuzzLearner sends lines of requests: nothing panics, templates have the path's segments or end in "*", and Current is
// stable.
func FuzzLearner(f *testing.F) {
	f.Add("GET /users/1\nGET /users/2\nGET /users/me\n")
	f.Add("GET //a//\nPUT /x/%2F/\xff\nGET *\nGET \nGET /{id}/*/{}")
	f.Add(strings.Repeat("GET /repos/a/b\nGET /repos/b/c\n", 20))
	f.Fuzz(func(t *testing.T, text string) {
		l := NewLearner()
		in := bufio.NewScanner(strings.NewReader(text))
		for in.Scan() {
			method, path, _ := strings.Cut(in.Text(), " ")
			got := string(l.Learn(nil, method, []byte(path), uint16(len(path)%2)*404, 1))
			if a, b := strings.Count(got, "/"), strings.Count(path, "/"); a != b && !(strings.HasSuffix(got, "*") && a <= b) {
				t.Fatalf("%q is %q", path, got)
			}
			again := string(l.Current(nil, got))
			if third := string(l.Current(nil, again)); third != again {
				t.Fatalf("%q, then %q, then %q", got, again, third)
			}
		}
		l.Pass()
	})
}

// BenchmarkLearner prints the time of a request, paths repeated as their popularity has it.
func BenchmarkLearner(b *testing.B) {
	api := &traffic{rand.New(rand.NewPCG(1, 1)), shop}
	var methods []string
	var paths [][]byte
	for range 10_000 {
		method, path, _ := api.next()
		methods, paths = append(methods, method), append(paths, []byte(path))
	}
	l := NewLearner()
	var buf []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		buf = l.Learn(buf[:0], methods[i%len(paths)], paths[i%len(paths)], 200, 1)
	}
}

// What could be a secret or a person never becomes a label, however often it is requested and whatever stands around it.
func TestLearnerKeepsSecrets(t *testing.T) {
	for _, path := range []string{
		"/bot123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11/", "/upload/9f86d081884c7d65/", "/card/4111111111111111/", "/customer/john.doe@example.org/",
		"/session/550e8400-e29b-41d4-a716-446655440000/", "/user/J%C3%BCrgen%20Meyer/", "/users/theodora/", "/profile/theodora/", "/@theodora/",
	} {
		l := NewLearner()
		secret := strings.Split(path, "/")
		for i := range 2000 {
			l.Learn(nil, "GET", []byte(path+[]string{"start", "commit", "status"}[i%3]), 200, 1)
		}
		if got := string(l.Learn(nil, "GET", []byte(path+"start"), 200, 1)); strings.Contains(got, secret[len(secret)-2]) {
			t.Errorf("%s is %s", path, got)
		}
	}
	// A user who makes most of the requests is still one.
	l := NewLearner()
	api := &traffic{r: rand.New(rand.NewPCG(1, 1))}
	for i := range 5000 {
		name := "theodorahuber"
		if i%5 < 2 {
			name = api.value("user")
		}
		l.Learn(nil, "GET", []byte("/users/"+name), 200, 1)
	}
	if got := string(l.Learn(nil, "GET", []byte("/users/theodorahuber"), 200, 1)); got != "/users/{name}" {
		t.Errorf("the busiest user is %s", got)
	}
}

// Numbers that look like versions are values where there are many, and parameters behind a semicolon are no part of a route.
func TestLearnerNumbersAndParameters(t *testing.T) {
	l := NewLearner()
	for i := range 2000 {
		l.Learn(nil, "GET", fmt.Appendf(nil, "/reset/v%d", i%900), 200, 1)
		l.Learn(nil, "GET", fmt.Appendf(nil, "/geo/%d.%03d", i%90, i%1000), 200, 1)
		l.Learn(nil, "GET", fmt.Appendf(nil, "/app/login;jsessionid=%032x", i), 200, 1)
		l.Learn(nil, "GET", fmt.Appendf(nil, "/app/cart;jsessionid=%032x", i), 200, 1)
	}
	for path, want := range map[string]string{"/reset/v77": "/reset/{name}", "/geo/48.137": "/geo/{id}", "/app/login;jsessionid=1": "/app/login", "/app/cart": "/app/cart"} {
		if got := string(l.Learn(nil, "GET", []byte(path), 200, 1)); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

// Counts do not run over: what is requested most is known for ever.
func TestLearnerCountsForEver(t *testing.T) {
	l := NewLearner()
	for range 20 {
		l.Learn(nil, "GET", []byte("/checkout"), 200, 1<<29)
		l.Pass()
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		l.Learn(nil, "GET", []byte("/list/"+letters(r, 2)+"/user/"+letters(r, 2)+"/order"), 200, 1)
	}
	if got := string(l.Learn(nil, "GET", []byte("/checkout"), 404, 1)); got != "/checkout" {
		t.Errorf("the busiest route has become %s", got)
	}
}
