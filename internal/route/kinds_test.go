package route

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// kind is a kind of service: its templates, the first ones the most popular. A segment "{NAME}" is drawn from the pool of that
// name, "{a|b}" is one of these literals, and "{path:POOL:N}" is one to N segments of a pool.
type kind struct {
	name      string
	templates string
	pools     map[string]pool
}

// pool is values of one parameter: so many, made by a function, the first ones the most popular.
type pool struct {
	size int
	make func(r *rand.Rand, i int) string
}

const (
	plainWords = "anchor badger bramble cobble comet copper cricket dapple ember falcon fennel ferry gable ginger harbor hazel heron ivory " +
		"jasper juniper kelp kettle lagoon lantern larch lilac maple marble meadow nettle nimbus ochre onyx opal osprey otter pebble pepper " +
		"pigeon plover poppy quartz quill raven russet saddle saffron sorrel sparrow spruce tansy teal thistle timber topaz trellis tulip umber " +
		"velvet violet walnut willow wren yarrow zephyr"
	peopleNames = "agathe bodo cilly detlef edda frauke gesine hasso ilka jobst kuno lothar meike norbert ottilie roswitha sigrid thilo ulrike volkmar"
	fileEnds    = ".jpg .png .webp .pdf .csv .txt .gz .parquet"
)

func oneOf(r *rand.Rand, words string) string {
	f := strings.Fields(words)
	return f[r.IntN(len(f))]
}

func chars(r *rand.Rand, from string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = from[r.IntN(len(from))]
	}
	return string(b)
}

const (
	base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	lower  = "abcdefghijklmnopqrstuvwxyz"
)

// Pools that several kinds share.
var (
	numbers = pool{2000, func(r *rand.Rand, _ int) string { return fmt.Sprint(r.IntN(90_000)) }}
	small   = pool{60, func(_ *rand.Rand, i int) string { return fmt.Sprint(i) }}
	uuids   = pool{1500, func(r *rand.Rand, _ int) string {
		return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Int64N(1<<48))
	}}
	digests = pool{1500, func(r *rand.Rand, _ int) string { return "sha256:" + chars(r, "0123456789abcdef", 64) }}
	slugs   = pool{400, func(r *rand.Rand, _ int) string { return oneOf(r, plainWords) + "-" + oneOf(r, plainWords) }}
	titles  = pool{300, func(r *rand.Rand, _ int) string {
		return oneOf(r, plainWords) + "-" + oneOf(r, "and or for with the in") + "-" + oneOf(r, plainWords) + "-" + oneOf(r, plainWords)
	}}
	people = pool{300, func(r *rand.Rand, _ int) string { return oneOf(r, peopleNames) + oneOf(r, plainWords)[:3] }}
	single = pool{64, func(_ *rand.Rand, i int) string { f := strings.Fields(plainWords); return f[i%len(f)] }}
	firms  = pool{50, func(r *rand.Rand, _ int) string {
		return oneOf(r, plainWords) + oneOf(r, "-gmbh -inc -corp ware tech soft -labs")
	}}
	files  = pool{500, func(r *rand.Rand, i int) string { return oneOf(r, plainWords) + fmt.Sprint(i%100) + oneOf(r, fileEnds) }}
	photos = pool{800, func(r *rand.Rand, _ int) string { return fmt.Sprintf("img_%04d.jpg", r.IntN(9999)) }}
	tags   = pool{60, func(r *rand.Rand, i int) string {
		if i == 0 {
			return "latest"
		}
		return fmt.Sprintf("v%d.%d.%d", r.IntN(4), r.IntN(20), r.IntN(9))
	}}
	folders = pool{40, func(r *rand.Rand, _ int) string {
		return oneOf(r, "images data backup logs archive reports raw exports 2023 2024 media tmp daily users "+plainWords)
	}}
	codes   = pool{4000, func(r *rand.Rand, _ int) string { return chars(r, base62, 6) }}
	locales = pool{14, func(_ *rand.Rand, i int) string {
		return strings.Fields("en-US de-DE fr-FR es pt-BR it ja zh-CN nl sv pl da ko tr")[i]
	}}
	packages = pool{300, func(r *rand.Rand, i int) string {
		return oneOf(r, plainWords) + oneOf(r, "-utils -core js -cli -plugin ify -loader -parser")
	}}
	indices = pool{200, func(r *rand.Rand, i int) string {
		return oneOf(r, plainWords) + fmt.Sprintf("-2026.%02d.%02d", 1+r.IntN(12), 1+r.IntN(28))
	}}
	wikiTitles = pool{600, func(r *rand.Rand, _ int) string {
		up := func(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
		return up(oneOf(r, plainWords)) + "_" + oneOf(r, plainWords) + oneOf(r, "_(disambiguation) _of_1848 _II s ed")
	}}
	months = pool{12, func(_ *rand.Rand, i int) string { return fmt.Sprintf("%02d", 1+i) }}
	years  = pool{8, func(_ *rand.Rand, i int) string { return fmt.Sprint(2019 + i) }}
)

// kinds are none of the APIs that the weights were chosen on.
var kinds = []kind{
	{"forge", `/{owner}/{repo} /{owner}/{repo}/issues /{owner}/{repo}/issues/{n} /{owner}/{repo}.git/info/refs /explore /{owner} /{owner}/{repo}/raw/main/{file}
		/{owner}/{repo}/pulls /{owner}/{repo}.git/git-upload-pack /settings/profile /-/health /{owner}/{repo}/commits/{n} /robots.txt /assets/app.css`,
		map[string]pool{"owner": people, "repo": slugs, "n": numbers, "file": files}},
	{"tenants", `/{tenant}/api/orders /{tenant}/api/orders/{id} /{tenant}/dashboard /{tenant}/api/berths /{tenant}/login /healthz /{tenant}/api/crew/{id}`,
		map[string]pool{"tenant": firms, "id": numbers}},
	{"registry", `/v2/{path:name:4}/manifests/{tag} /v2/{path:name:4}/blobs/{digest} /v2/ /v2/{path:name:4}/tags/list /v2/{path:name:4}/blobs/uploads/{uuid} /v2/_catalog`,
		map[string]pool{"name": single, "tag": tags, "digest": digests, "uuid": uuids}},
	{"objects", `/{bucket}/{path:folder:5}/{file} /{bucket}/{photo} /minio/health/live`,
		map[string]pool{"bucket": firms, "folder": folders, "file": files, "photo": photos}},
	{"tiles", `/tiles/{z}/{x}/{x}.png /styles/{style}/style.json /fonts/{font}/{x}.pbf /data/v3/{x}/{x}/{x}.pbf /health`,
		map[string]pool{"z": small, "x": small, "style": slugs, "font": slugs}},
	{"locales", `/{locale}/shop/{slug} /{locale}/about /{locale}/cart /{locale}/sale /{locale} /api/session /{locale}/gifts/{slug} /{locale}/imprint`,
		map[string]pool{"locale": locales, "slug": slugs}},
	{"shortener", `/{code} /about /robots.txt /api/links /{code}/stats /favicon.ico /api/links/{code}`,
		map[string]pool{"code": codes}},
	{"packages", `/{pkg} /{pkg}/-/{tgz} /-/ping /-/v1/search /@{pkg} /-/whoami /{pkg}/latest`,
		map[string]pool{"pkg": packages, "tgz": {500, func(r *rand.Rand, _ int) string {
			return fmt.Sprintf("%s-%d.%d.%d.tgz", oneOf(r, plainWords), r.IntN(9), r.IntN(20), r.IntN(9))
		}}}},
	{"magazine", `/ /{title} /category/{word} /tag/{word} /{year}/{month}/{title} /author/{person} /feed /about /contact /imprint /sitemap.xml /wp-content/uploads/{year}/{month}/{photo}`,
		map[string]pool{"title": titles, "word": single, "year": years, "month": months, "person": people, "photo": photos}},
	{"marina", `/api/boats /api/boats/{id} /api/boats/{id}/moorings /api/skippers/{uuid} /api/skippers /api/berths/{id} /api/jetties /api/tides/today /api/buoys/{id}
		/api/boats/{id}/crew /api/weather/gusts /api/weather/swell /api/pilots/{uuid}/roster /api/fuel/diesel /api/fuel/petrol /api/locks/{id}/open
		/api/locks/{id}/close /api/regattas /api/regattas/{id}/heats /api/ferries /metrics /healthz /api/cranes/{id}/hoist`,
		map[string]pool{"id": numbers, "uuid": uuids}},
	{"twirp", `/twirp/fleet.Harbour/ListBerths /twirp/fleet.Harbour/GetBerth /twirp/fleet.Crew/Enlist /twirp/fleet.Crew/Dismiss /twirp/fleet.Tide/Watch /twirp/fleet.Tide/Ebb
		/twirp/fleet.Harbour/Dredge /twirp/fleet.Crew/Rank /healthz`, nil},
	{"search", `/{index}/_search /{index}/_doc/{id} /_cat/indices /_cluster/health /{index}/_bulk /_bulk /{index}/_count /{index} /{index}/_update/{id}`,
		map[string]pool{"index": indices, "id": codes}},
	{"keys", `/v1/kv/{path:word:5} /v1/agent/self /v1/health/service/{word} /v1/session/renew/{uuid} /v1/catalog/nodes /v1/status/leader /v1/agent/service/register`,
		map[string]pool{"word": single, "uuid": uuids}},
	{"wiki", `/wiki/{title} /w/index.php /w/load.php /wiki/{title}/edit /w/api.php /static/images/{file} /api/rest_v1/page/summary/{title}`,
		map[string]pool{"title": wikiTitles, "file": files}},
	{"devices", `/devices/{dev}/telemetry /devices/{dev} /devices/{dev}/twin /devices/{dev}/commands/{command} /ota/{tag}/{file} /devices/{dev}/shadow/reported`,
		map[string]pool{"dev": {300, func(r *rand.Rand, _ int) string { return oneOf(r, "pump valve fan meter") + "-" + oneOf(r, plainWords) }},
			"command": {6, func(_ *rand.Rand, i int) string { return strings.Fields("open close spin drain purge blink")[i] }}, "tag": tags, "file": files}},
	{"courses", `/kurse/{slug} /kurse /kurse/{slug}/lektionen/{n} /anmelden /abmelden /profil /kurse/{slug}/lektionen /suche /bild/{photo}.webp /dozenten/{person}`,
		map[string]pool{"slug": titles, "n": small, "person": people, "photo": numbers}},
	{"matches", `/live/{sport}/{n} /live /teams/{team} /teams/{team}/squad /teams/{team}/fixtures /tables/{n} /live/{sport}`,
		map[string]pool{"sport": {5, func(_ *rand.Rand, i int) string { return strings.Fields("soccer hockey rugby cricket tennis")[i] }}, "n": numbers, "team": slugs}},
	{"couch", `/{db}/_all_docs /{db}/{doc} /_all_dbs /_session /{db}/_changes /{db}/_design/{word}/_view/{word} /{db}`,
		map[string]pool{"db": {40, func(r *rand.Rand, _ int) string { return oneOf(r, plainWords) + "_" + oneOf(r, "db prod test") }}, "doc": uuids, "word": single}},
}

// enumerated are pools whose few values a truth may have as literals as well.
var enumerated = map[string]bool{"sport": true, "command": true}

// request is one with its template, {} for a parameter; "" for a scanner's.
type request struct{ path, truth, other string }

// stream makes requests of a kind: templates and values by Zipf's law, and a share of scanners.
func (k *kind) stream(seed uint64, n int, noise float64) []request {
	r := rand.New(rand.NewPCG(seed, uint64(len(k.name))))
	templates := strings.Fields(k.templates)
	values := map[string][]string{}
	for _, name := range sortedNames(k.pools) {
		for i := range k.pools[name].size {
			values[name] = append(values[name], k.pools[name].make(r, i))
		}
	}
	var out []request
	for range n {
		if r.Float64() < noise {
			out = append(out, request{path: scanned(r)})
			continue
		}
		out = append(out, fill(r, templates[zipf(r, len(templates))], values))
	}
	return out
}

func sortedNames(pools map[string]pool) []string {
	var names []string
	for name := range pools {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// zipf draws from 0 to n-1, each i with a weight of 1/(i+1).
func zipf(r *rand.Rand, n int) int {
	sum := 0.0
	for i := range n {
		sum += 1 / float64(i+1)
	}
	x := r.Float64() * sum
	for i := range n {
		if x -= 1 / float64(i+1); x < 0 {
			return i
		}
	}
	return n - 1
}

var inBraces = regexp.MustCompile(`\{[^}]*\}`)

// fill puts values into a template.
func fill(r *rand.Rand, template string, values map[string][]string) request {
	var path, truth, other []string
	for _, s := range strings.Split(template, "/") {
		if many, ok := strings.CutPrefix(s, "{path:"); ok {
			name, n, _ := strings.Cut(strings.TrimSuffix(many, "}"), ":")
			for range 1 + r.IntN(int(n[0]-'0')) {
				path, truth, other = append(path, values[name][zipf(r, len(values[name]))]), append(truth, "{}"), append(other, "{}")
			}
			continue
		}
		name := inBraces.FindString(s)
		if name == "" {
			path, truth, other = append(path, s), append(truth, s), append(other, s)
			continue
		}
		of := values[name[1:len(name)-1]]
		v := strings.Replace(s, name, of[zipf(r, len(of))], 1)
		path, truth, other = append(path, v), append(truth, "{}"), append(other, "{}")
		if enumerated[name[1:len(name)-1]] || v == "latest" {
			other[len(other)-1] = v
		}
	}
	return request{strings.Join(path, "/"), strings.Join(truth, "/"), strings.Join(other, "/")}
}

// scanned returns what scanners ask for.
func scanned(r *rand.Rand) string {
	switch r.IntN(3) {
	case 0:
		return "/" + oneOf(r, ".env .git/HEAD wp-admin/setup-config.php adminer.php login.jsp console/ manager/html struts/index.action .aws/credentials "+
			"server-status debug/pprof old/index.php telescope/requests _ignition/execute-solution")
	case 1:
		return "/" + chars(r, base62, 3+r.IntN(20))
	}
	s := ""
	for range 1 + r.IntN(4) {
		s += "/" + chars(r, lower, 2+r.IntN(8))
	}
	return s
}

// score is how well templates were found, of the second half but for card: rta is the share of requests with the right one, fta
// the F1 of templates with the right requests, merged the share of requests in templates that mix several, card how many
// templates there were for each true one in all, scanners' included.
type score struct{ rta, fta, merged, card float64 }

func bare(template string) string { return inBraces.ReplaceAllString(starred(template), "{}") }

// starred has a parameter for each segment that is partly one, and for the rest.
func starred(template string) string {
	segments := strings.Split(template, "/")
	for i, s := range segments {
		if strings.ContainsAny(s, "{*") {
			segments[i] = "{}"
		}
	}
	return strings.Join(segments, "/")
}

func (k *kind) score(seed uint64, n int, noise float64, status func(request) uint16, worst map[string]int) score {
	l := NewLearner()
	requests := k.stream(seed, n, noise)
	got := make([]string, n)
	all, truths := map[string]bool{}, map[string]bool{}
	for i, q := range requests {
		got[i] = bare(string(l.Learn(nil, "GET", []byte(q.path), status(q), 1)))
		all[got[i]] = true
		if q.truth != "" {
			truths[q.truth] = true
		}
	}
	predicted, expected := map[string]map[string]int{}, map[string]int{}
	right, counted := 0, 0
	for i := n / 2; i < n; i++ {
		q := requests[i]
		if q.truth == "" {
			continue
		}
		counted++
		expected[q.truth]++
		if predicted[got[i]] == nil {
			predicted[got[i]] = map[string]int{}
		}
		predicted[got[i]][q.truth]++
		if got[i] == q.truth || got[i] == q.other {
			right++
		} else if worst != nil {
			worst[q.truth+" as "+got[i]]++
		}
	}
	good, mixed := 0, 0
	for t, of := range predicted {
		if len(of) == 1 && of[t] > 0 && of[t] == expected[t] {
			good++
		}
		if len(of) > 1 {
			for _, c := range of {
				mixed += c
			}
		}
	}
	return score{float64(right) / float64(counted), 2 * float64(good) / float64(len(predicted)+len(expected)),
		float64(mixed) / float64(counted), float64(len(all)) / float64(len(truths))}
}

// The templates of kinds of services that the weights were not chosen on are found, also where one request in twenty is a scanner's
// and the server answers it with 200. The bounds are what was measured with these seeds, rounded towards the worse: nearly all of
// what is asked for is found in nearly every kind, and of a bucket's objects, whose names are words, three in four requests.
func TestKinds(t *testing.T) {
	answered := func(request) uint16 { return 200 }
	for _, tt := range []struct {
		noise                      float64
		rta, fta, merged, card     float64 // of the mean
		worstRTA, worstObjects     float64
		worstCard, worstCardOfMany float64
	}{
		{noise: 0, rta: 0.98, fta: 0.85, merged: 0.011, card: 3.1, worstRTA: 0.93, worstObjects: 0.78, worstCard: 4, worstCardOfMany: 18},
		{noise: 0.05, rta: 0.98, fta: 0.85, merged: 0.017, card: 4.1, worstRTA: 0.93, worstObjects: 0.8, worstCard: 7, worstCardOfMany: 8},
	} {
		mean := score{}
		for i := range kinds {
			k := &kinds[i]
			worst := map[string]int{}
			s := k.score(1+uint64(20*tt.noise), 8000, tt.noise, answered, worst)
			t.Logf("%-10s noise %.2f: RTA %.3f FTA %.3f MERGE %.3f CARD %.2f", k.name, tt.noise, s.rta, s.fta, s.merged, s.card)
			n := float64(len(kinds))
			mean = score{mean.rta + s.rta/n, mean.fta + s.fta/n, mean.merged + s.merged/n, mean.card + s.card/n}
			least, most := tt.worstRTA, tt.worstCard
			if k.name == "objects" {
				least, most = tt.worstObjects, tt.worstCardOfMany
			}
			if s.rta < least || s.card > most {
				t.Errorf("%s with noise %.2f: %.3f of the requests have their route, want %.3f; %.2f routes for each, want %.2f: %v", k.name, tt.noise, s.rta, least, s.card, most, worst)
			}
		}
		t.Logf("mean, noise %.2f: %+v", tt.noise, mean)
		if mean.rta < tt.rta || mean.fta < tt.fta || mean.merged > tt.merged || mean.card > tt.card {
			t.Errorf("mean with noise %.2f: %+v, want %+v", tt.noise, mean, tt)
		}
	}
}
