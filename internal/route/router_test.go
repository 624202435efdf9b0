package route

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/wire"
)

// TestMask shows which segments are identifiers and which are words, one row each.
func TestMask(t *testing.T) {
	same := []string{
		"/", "", "*", "/users", "/users/", "//double//slash", "/api/v1/users", "/v10/x", "/V2/x", "/api/1.0/x", "/api/v1.2.3", "/2.1.0",
		"/apis/apps/v1beta1/deployments", "/apis/x/v2alpha1", "/oauth2/token", "/i18n/de", "/s3/bucket", "/utf8", "/utf-8",
		"/h2", "/ipv4", "/ipv6", "/.well-known/jwks.json", "/openapi.json", "/favicon.ico", "/robots.txt", "/index.html",
		"/static/jquery-3.6.0.min.js", "/md5", "/sha256", "/sha-256/x", "/base64", "/x509", "/mp3", "/k8s", "/l10n", "/a11y", "/log4j",
		"/web3", "/2fa", "/e2e", "/b2b", "/p99", "/us-east-1", "/eu-west-2a", "/iso-8859-1", "/win32", "/amd64", "/x86_64", "/es2015",
		"/how-to-install-go-1-26-on-linux", "/getUserByName", "/facade", "/route53", "/oauth2callback", "/a-b_c~d.e",
		"/messages:batchDelete", "/@alice", "/html5", "/step-1", "/top-10", "/office365", "/saml2/acs", "/auth0", "/wp-json/wp/v2/posts",
		"/ContentAndApprovals", "/GraphQLApiKeys", "/XMLHttpRequest", "/addToMyList", "/AvailablePhoneNumbers", "/AllergyIntolerance", "/McDonaldsInOhio",
		"/wiki/Mercury_(planet)", "/f/Now()", "/a(b", "/a)(", "/(5)", "/x/(a)b", "/method(string)",
		"/healthz", "/-/ready", "/metrics", "/graphql", "/3d/models", "/rfc7807",
	}
	for _, p := range same {
		if got := string(Mask(nil, []byte(p))); got != p {
			t.Errorf("%q became %q", p, got)
		}
	}
	tests := [][2]string{
		{"/users/1", "/users/{id}"},
		{"/users/12345/orders/7/", "/users/{id}/orders/{id}/"},
		{"/users/123.json", "/users/{id}.json"},
		{"/u/550e8400-e29b-41d4-a716-446655440000", "/u/{uuid}"},
		{"/u/550E8400-E29B-41D4-A716-446655440000/x", "/u/{uuid}/x"},
		{"/o/507f1f77bcf86cd799439011", "/o/{id}"},
		{"/c/9f86d081", "/c/{id}"},
		{"/c/deadbeef", "/c/{id}"},
		{"/v/dQw4w9WgXcQ", "/v/{id}"},
		{"/l/01HV3K5T9ZQ8XW2M4N6P7R8S9T", "/l/{id}"},
		{"/c/cus_9s6XKzkNRlz8i3", "/c/{id}"},
		{"/b/Zm9vYmFyMTIz_QUJDMTIz-x9", "/b/{id}"},
		{"/a/abc123", "/a/{id}"},
		{"/a/user-4711", "/a/{id}"},
		{"/a/x1y2z3", "/a/{id}"},
		{"/x/aZkQwPbTrY", "/x/{id}"},
		{"/x/VqKdLmTzRwXb", "/x/{id}"},
		{"/x/hJtYpWqZ_bVnKcXsD", "/x/{id}"},
		{"/odata/Products(5)", "/odata/Products({id})"},
		{"/odata/Products('a')/Category", "/odata/Products({id})/Category"},
		{"/odata/Products(%27a,b%27)", "/odata/Products({id})"},
		{"/odata/People(550e8400-e29b-41d4-a716-446655440000)", "/odata/People({id})"},
		{"/odata/Items(order=1,no='a,b=c')", "/odata/Items(order={order},no={no})"},
		{"/odata/Near(@p1)", "/odata/Near({id})"},
		{"/odata/9f86d081aa(5)", "/odata/{id}"},
		{"/odata/F(" + strings.Repeat("a=1,", 8) + "a=1)", "/odata/F({id})"},
		{"/a;v=1/b;x=2;y=3/c", "/a/b/c"},
		{"/42;v=1", "/{id}"},
		{"/;jsessionid=7F00", "/"},
		{"/odata/Products(5);v=1", "/odata/Products({id})"},
		{"/odata/Products('a;b')", "/odata/Products({id})"},
		{"/d/2026-01-31/x", "/d/{date}/x"},
		{"/d/2026-01", "/d/{date}"},
		{"/d/2026-01-31T10:00:00Z", "/d/{date}"},
		{"/d/20260131", "/d/{id}"},
		{"/m/a.b@example.org", "/m/{email}"},
		{"/m/a.b%40example.org", "/m/{email}"},
		{"/n/na%20me", "/n/{id}"},
		{"/n/\x00\xff", "/n/{id}"},
		{"/n/caf\xc3\xa9", "/n/{id}"},
		{"/n/{x}", "/n/{id}"},
		{"/ip/192.168.1.10", "/ip/{id}"},
		{"/app/main.4f2c9a7b.chunk.js", "/app/{id}.js"},
		{"/app/index-BxY12abc.js", "/app/{id}.js"},
		{"/123:cancel", "/{id}"},
		{"/" + strings.Repeat("a", 65), "/{id}"},
		{strings.Repeat("/a", 16), strings.Repeat("/a", 16)},
		{strings.Repeat("/a", 17), strings.Repeat("/a", 16) + "/*"},
		{strings.Repeat("/a", 1000) + "/1", strings.Repeat("/a", 16) + "/*"},
		{"/x" + strings.Repeat("/"+strings.Repeat("user-", 10), 9), "/x" + strings.Repeat("/"+strings.Repeat("user-", 10), 4) + "/*"},
		{"/x/" + strings.Repeat("b", 300), "/x/*"},
	}
	for _, tt := range tests {
		if got := string(Mask(nil, []byte(tt[0]))); got != tt[1] {
			t.Errorf("%q became %q, want %q", tt[0], got, tt[1])
		}
	}
}

// TestMaskPath shows how a path is shown beside its route.
func TestMaskPath(t *testing.T) {
	for _, tt := range [][3]string{
		{"/a/7", "/a/{id}", "/a/{id}"}, {"/a/b", "/a/b", "/a/b"}, {"/cart;jsessionid=7F00", "/cart", "/cart"}, {"/f/secret/7", "/f/*", "/f/secret/{id}"}, {"/users/7/x", "/users/{id}/*", "/users/{id}/x"}, {"/f", "/f/*", "/f"},
		{"/f/", "/f/*", "/f/"}, {"/wp-login.php", "/*", "/wp-login.php"}, {"*", "*", "*"}, {"/a/7", "", "/a/{id}"}, {"", "", ""},
	} {
		if got := string(MaskPath(nil, []byte(tt[0]), tt[1], wire.RouteLearned)); got != tt[2] {
			t.Errorf("%v: got %q", tt, got)
		}
	}
}

const routesFile = `
# general
GET  /users/{name}
GET  /users/me            # a literal wins
*    /users/{name}
GET  /static/*
POST /files/{path...}
* /

GET /odata/Products({key})/Parts(order={o},no={n})

service=shop GET /users/{shopper}
service=shop * /cart/{cart}/items/{item}
`

// TestRoutes shows precedence: service, literal, parameter, rest, method; and masking where no template matches.
func TestRoutes(t *testing.T) {
	r := NewRouter()
	if err := r.LoadRoutes(strings.NewReader(routesFile)); err != nil {
		t.Fatal(err)
	}
	tests := [][4]string{
		{"", "GET", "/users/bob", "/users/{name}"},
		{"", "GET", "/users/me", "/users/me"},
		{"", "POST", "/users/me", "/users/{name}"},
		{"", "GET", "/users/", "/users/"},
		{"", "GET", "/odata/Products(5)/Parts(order=1,no='a')", "/odata/Products({key})/Parts(order={o},no={n})"},
		{"", "GET", "/users/me;v=1", "/users/me"},
		{"", "GET", "/users/bob/x", "/users/bob/x"},
		{"shop", "GET", "/users/bob", "/users/{shopper}"},
		{"shop", "GET", "/users/me", "/users/{shopper}"},
		{"shop", "POST", "/users/me", "/users/{name}"},
		{"shop", "PUT", "/cart/a/items/b", "/cart/{cart}/items/{item}"},
		{"other", "PUT", "/cart/a/items/12", "/cart/a/items/{id}"},
		{"", "GET", "/static/a/b/c", "/static/*"},
		{"", "GET", "/static", "/static/*"},
		{"", "GET", "/static/", "/static/*"},
		{"", "PUT", "/static/12", "/static/{id}"},
		{"", "POST", "/files/1/2", "/files/{path...}"},
		{"", "GET", "/", "/"},
		{"", "OPTIONS", "*", "*"},
		{"", "CONNECT", "", ""},
		{"", "GET", "/static/" + strings.Repeat("x/", 300), "/static/*"},
	}
	for range 2 { // worked out, then cached
		for _, tt := range tests {
			if got := routeOf(r, tt[0], tt[1], []byte(tt[2])); got != tt[3] {
				t.Errorf("%s %s %s: got %q, want %q", tt[0], tt[1], tt[2], got, tt[3])
			}
		}
	}
	if err := r.LoadRoutes(strings.NewReader("GET /x/{\n")); err == nil || routeOf(r, "", "GET", []byte("/users/bob")) != "/users/{name}" {
		t.Errorf("a bad file took effect, error %v", err)
	}
	r.SetRoutes(nil)
	if got := routeOf(r, "", "GET", []byte("/users/bob")); got != "/users/bob" {
		t.Errorf("without routes: %q", got)
	}
}

// TestRoutesErrors shows that errors name the line and the cause.
func TestRoutesErrors(t *testing.T) {
	for in, want := range map[string]string{
		"\nGET":                   "line 2: want [service=NAME] METHOD /path",
		"GET /a b":                "line 1: want [service=NAME] METHOD /path",
		"service= GET /a":         "line 1: service= without a name",
		"service=x":               "line 1: want [service=NAME] METHOD /path",
		"GET a":                   `line 1: path "a" does not begin with /`,
		"GET /a?b":                `line 1: path "/a?b" has a query or fragment`,
		"G(T /a":                  `line 1: method "G(T" is not a token`,
		"GET /a{b}":               `line 1: "a{b}": a parameter is a whole segment, as in {id}`,
		"GET /{}":                 `line 1: "{}": a parameter is a whole segment, as in {id}`,
		"GET /*/a":                `line 1: "*" is not the last segment`,
		"#\nGET /{a}\n\nGET /{b}": `line 4: GET "/{b}" matches the same as "/{a}" in line 2`,
		"GTE /x":                  `line 1: unknown method "GTE"; did you mean GET?`,
		"get /x":                  `line 1: unknown method "get"; did you mean GET?`,
		"ANY /x":                  `line 1: unknown method "ANY"; did you mean *?`,
		"XYZZY /x":                `line 1: unknown method "XYZZY"; * stands for any`,
		"GET /users/:id":          `line 1: ":id": a parameter is written {name}; did you mean {id}?`,
		"GET /users/:id?":         `line 1: ":id?": a parameter is written {name}; did you mean {id}?`,
		"GET /u/<int:id>/x":       `line 1: "<int:id>": a parameter is written {name}; did you mean {id}?`,
		"GET /u/<id>":             `line 1: "<id>": a parameter is written {name}; did you mean {id}?`,
		"GET /u/[id]":             `line 1: "[id]": a parameter is written {name}; did you mean {id}?`,
		"GET /u/[...slug]":        `line 1: "[...slug]": a parameter is written {name}; did you mean {slug...}?`,
		"GET /u/*path":            `line 1: "*path": a parameter is written {name}; did you mean {path...}?`,
		"GET /u/{*path}":          `line 1: "{*path}": a parameter is written {name}; did you mean {path...}?`,
		"GET /u/**":               `line 1: "**": a parameter is written {name}; did you mean *?`,
		"GET /u/{id:[0-9]+}":      `line 1: "{id:[0-9]+}": a parameter is written {name}; did you mean {id}?`,
		"GET /u/{id?}":            `line 1: "{id?}": a parameter is written {name}; did you mean {id}?`,
		"GET /u/(?P<id>[0-9]+)":   `line 1: "(?P<id>[0-9]+)": a parameter is written {name}; did you mean {id}?`,
		"GET /u/(.*)":             `line 1: "(.*)": a parameter is written {name}; did you mean {name}?`,
		`GET /^u/\d+$`:            `line 1: "^u": a parameter is written {name}; did you mean {name}?`,
		"GET /u/${id}":            `line 1: "${id}": a parameter is written {name}; did you mean {id}?`,
		"GET /a\x1b[2J":           `line 1: control character '\x1b'`,
		"GET /a\nGET /" + strings.Repeat("x", 5000): "line 2: longer than 4096 bytes",
		"GET /" + strings.Repeat("a/", 16):          "line 1: path has more than 16 segments",
	} {
		if _, err := ParseRoutes(strings.NewReader(in)); err == nil || err.Error() != "routes: "+want {
			t.Errorf("%.40q: got %v, want %s", in, err, want)
		}
	}
	var many strings.Builder
	for i := range routesMax + 1 {
		fmt.Fprintf(&many, "GET /r%d\n", i)
	}
	if _, err := ParseRoutes(strings.NewReader(many.String())); err == nil || !strings.Contains(err.Error(), "line 10001: more than 10000 routes") {
		t.Errorf("got %v", err)
	}
}

// routeOf routes one request that was answered.
func routeOf(r *Router, service, method string, path []byte) string {
	template, _ := r.Route(service, method, path, 200, 1)
	return template
}

// TestRouterServices shows that services learn apart from each other, that there is room for a number of them, and that one
// without requests makes room.
func TestRouterServices(t *testing.T) {
	r := NewRouter()
	for i := range 100 {
		routeOf(r, "shop", "GET", fmt.Appendf(nil, "/articles/mossy-%c%c", 'a'+i%26, 'a'+i/4))
		routeOf(r, "blog", "GET", []byte("/articles/archive"))
	}
	for _, tt := range [][3]string{{"shop", "/articles/fuzzy", "/articles/{name}"}, {"blog", "/articles/archive", "/articles/archive"}} {
		if got := routeOf(r, tt[0], "GET", []byte(tt[1])); got != tt[2] {
			t.Errorf("%v: got %s", tt, got)
		}
	}
	for i := range servicesMax {
		routeOf(r, fmt.Sprint("service-", i), "GET", []byte("/x/1"))
	}
	if got, source := r.Route("late", "GET", []byte("/x/1"), 200, 1); got != "/x/{id}" || source != wire.RouteMasked {
		t.Errorf("beyond the limit: %s, %v", got, source)
	}
	r.Route("shop", "GET", []byte("/articles/archive"), 200, serviceIdle+1)
	if _, source := r.Route("late", "GET", []byte("/x/1"), 200, 1); source != wire.RouteLearned || len(r.services) > servicesMax {
		t.Errorf("with room again: %v, %d services", source, len(r.services))
	}
}

// TestRouterShrinks shows that all services together know only so much, and that what is requested often stays known.
func TestRouterShrinks(t *testing.T) {
	if testing.Short() {
		t.Skip("as many routes as there may be")
	}
	r := NewRouter()
	resources := strings.Fields("user order invoice setting role report export token session webhook plan quota account")
	parts := strings.Fields("draft entry label owner policy rate schema status template usage version volume worker")
	deeds := strings.Fields("approve archive check close copy enable grant merge move publish resend retry sync")
	for i := range servicesMax {
		for _, a := range resources {
			for _, b := range parts {
				for _, c := range deeds {
					r.Route(fmt.Sprint("s", i), "POST", []byte("/"+a+"/"+b+"/"+c), 200, 3)
				}
			}
		}
		routeOf(r, fmt.Sprint("s", i), "GET", []byte("/orders/7/items"))
		r.Route(fmt.Sprint("s", i), "GET", []byte("/orders/8/items"), 200, 1000)
		r.Shrink()
	}
	nodes := 0
	for _, s := range r.services {
		nodes += s.nodes
	}
	if nodes > nodesAllMax+nodesMax || nodes < nodesMax {
		t.Errorf("%d nodes", nodes)
	}
	for name, s := range r.services {
		if s.root.kids["orders"] == nil {
			t.Errorf("%s forgot its orders", name)
		}
	}
}

// TestRouterMemory routes a million distinct identifiers, then many distinct words: memory stays bounded.
func TestRouterMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("a million requests")
	}
	r := NewRouter()
	before := heap()
	var path []byte
	for i := range 1_000_000 {
		path = fmt.Appendf(path[:0], "/users/%d/orders", i)
		if got := routeOf(r, "s", "GET", path); got != "/users/{id}/orders" {
			t.Fatalf("%s: %s", path, got)
		}
	}
	if n := len(r.templates); n != 1 {
		t.Errorf("%d templates", n)
	}
	word := []byte("/aaaaaaaa" + strings.Repeat("/word", 40))
	for i := range 200_000 {
		for j := range 5 {
			word[1+j] = 'a' + byte(i>>(4*j)&15)
		}
		routeOf(r, "s", "GET", word)
	}
	if grown := int64(heap()) - int64(before); grown > 8<<20 || len(r.templates) > templatesMax {
		t.Errorf("%d bytes more, %d templates", grown, len(r.templates))
	}
	runtime.KeepAlive(r)
}

// TestRouteAllocations shows that known templates cost no allocation, for cached and for new paths, with and without a
// routes file.
func TestRouteAllocations(t *testing.T) {
	for _, file := range []string{"", routesFile} {
		r := NewRouter()
		if err := r.LoadRoutes(strings.NewReader(file)); err != nil {
			t.Fatal(err)
		}
		path, long := []byte("/users/1000/orders"), []byte("/static/"+strings.Repeat("x/", 300))
		for range 200_000 { // until every slot has its room
			next(path[7:11])
			routeOf(r, "s", "GET", path)
		}
		if n := testing.AllocsPerRun(1000, func() {
			next(path[7:11])
			routeOf(r, "s", "GET", path)
			routeOf(r, "s", "GET", long)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// next counts decimal digits up.
func next(digits []byte) {
	for i := len(digits) - 1; i >= 0; i-- {
		if digits[i]++; digits[i] <= '9' {
			return
		}
		digits[i] = '0'
	}
}

func BenchmarkRouteCached(b *testing.B) {
	r := NewRouter()
	path := []byte("/api/v1/users/12345/orders")
	b.ReportAllocs()
	for b.Loop() {
		routeOf(r, "s", "GET", path)
	}
}

func BenchmarkRouteNew(b *testing.B) {
	r := NewRouter()
	path := []byte("/api/v1/users/00000000/orders")
	b.ReportAllocs()
	for b.Loop() {
		next(path[14:22])
		routeOf(r, "s", "GET", path)
	}
}

// FuzzRoute routes any path: bounded length, the same answer cached and again, and masking has no more to mask in its result.
func FuzzRoute(f *testing.F) {
	for _, p := range []string{"/a/1", "*", "", "//", "/%", "a/b", ";", "/;x", "/P(5);x/Q('a')", "/x/aZkQwPbTrY", "/users/550e8400-e29b-41d4-a716-446655440000",
		"/token=a,b=c&", "/reset/a;b", "/QUJDRA==", "/secret:x", "0/00AAAA", "/s/d8Zlq8/edit", "/to%256ben;/v1/%2e/hunter", "/my-pin-is/2fa"} {
		f.Add("svc", "GET", []byte(p))
	}
	routes, err := ParseRoutes(strings.NewReader(routesFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, service, method string, path []byte) {
		ruled, plain := NewRouter(), NewRouter()
		ruled.SetRoutes(routes)
		for _, r := range []*Router{ruled, plain} {
			first := routeOf(r, service, method, path)
			if again := routeOf(r, service, method, bytes.Clone(path)); again != first {
				t.Fatalf("%q: %q, then %q", path, first, again)
			}
			if len(first) > pathMax+segmentMax+16 || first == "" && len(path) > 0 {
				t.Fatalf("%q: %q", path, first)
			}
		}
		for _, masked := range [][]byte{Mask(nil, path), MaskPath(nil, path, "", wire.RouteNone)} {
			for _, c := range masked {
				if c <= ' ' || c >= 0x7f || c == '%' {
					t.Fatalf("%q masked is %q", path, masked)
				}
			}
		}
	})
}

// FuzzRoutesFile reads any file: an error that names a line, or routes that can be used.
func FuzzRoutesFile(f *testing.F) {
	f.Add(routesFile, "/users/me")
	f.Add("GET /{a}/{b...}\n* /*", "/x/y/z")
	f.Fuzz(func(t *testing.T, file, path string) {
		routes, err := ParseRoutes(strings.NewReader(file))
		if err != nil {
			if !strings.Contains(err.Error(), "line ") || strings.ContainsFunc(err.Error(), func(c rune) bool { return c < ' ' }) {
				t.Fatalf("error %q", err)
			}
			return
		}
		r := NewRouter()
		r.SetRoutes(routes)
		if got := routeOf(r, "x", "GET", []byte(path)); got == "" && path != "" {
			t.Fatalf("no route for %q", path)
		}
	})
}
