package web

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
	perfhttp "github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/wire"
)

// load adds n exchanges of the milliseconds.
func load(e *analytics.Engine, n int, service, route string, ms float64, status uint16) {
	ex := exchange()
	ex.Service, ex.Name, ex.Outcome = service, route, perfhttp.Answered(ex.Role, status)
	ex.Read, ex.Responded, ex.Finished = ex.Arrived, ex.Arrived+int64(ms*1e6), ex.Arrived+int64(ms*1e6)
	for range n {
		e.Add(ex)
	}
}

// shopEngine has two services after ten minutes.
func shopEngine(c *clock) *analytics.Engine {
	e := analytics.NewEngine(analytics.Options{Now: c.now})
	for range 60 {
		load(e, 90, "shop", "/items/{id}", 10, 200)
		load(e, 10, "shop", "/items/{id}", 400, 200)
		load(e, 40, "shop", "/pay", 1500, 200)
		load(e, 10, "shop", "/pay", 1500, 504)
		load(e, 200, "stock", "/", 2, 200)
		c.advance(10 * time.Second)
		e.Tick()
	}
	e.SetActive(map[string]int64{"shop": 7})
	return e
}

func performanceOf(e *analytics.Engine, c *clock) PerformanceOptions {
	cpu := 12.5
	return PerformanceOptions{Engine: e, Now: c.now, System: func() *analytics.System { return &analytics.System{CPUPercent: &cpu} }}
}

// get asks a server's handler, and decodes the answer.
func get(t testing.TB, s *Server, target string, into any) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatalf("%s: %v\n%s", target, err, w.Body)
		}
	}
	return w
}

// The summary of a known load is what a person would work out, and is exactly the golden file. UPDATE_GOLDEN=1 writes it
// anew.
func TestSummaryGolden(t *testing.T) {
	c := newClock()
	s := NewServer(ServerOptions{Performance: performanceOf(shopEngine(c), c)})
	w := get(t, s, "/performance/summary?window=1m", nil)
	golden(t, w, "summary.json")
}

// Figures of the summary, and what sort, limit and service do to its lists.
func TestSummary(t *testing.T) {
	c := newClock()
	s := NewServer(ServerOptions{Performance: performanceOf(shopEngine(c), c)})
	var all summary
	get(t, s, "/performance/summary?window=1m", &all)
	near := func(what string, got *float64, want, tolerance float64) {
		t.Helper()
		if got == nil || math.Abs(*got-want) > tolerance*want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	if all.Exchanges != 2100 || all.Failures != 60 || all.Timeouts != 60 || all.Successes != 2040 || all.Window.Seconds != 60 {
		t.Errorf("%+v", all.statistics)
	}
	near("throughput", all.ThroughputRPS, 35, 0)
	near("errors", all.ErrorRatePercent, 100*60./2100, 1e-4)
	near("p50", all.ResponseTime.P50, 2, .011) // 1200 of 2100 take 2 ms
	near("p95", all.ResponseTime.P95, 1500, .011)
	near("average", all.ResponseTime.Average, (540*10+60*400+300*1500+1200*2)/2100., 1e-5)
	near("in flight", all.Concurrency.InFlightMean, 35*(540*10+60*400+300*1500+1200*2)/2100./1000, 1e-4)
	if all.Concurrency.Active == nil || *all.Concurrency.Active != 7 || all.System == nil || *all.System.CPUPercent != 12.5 {
		t.Errorf("%+v, %+v", all.Concurrency, all.System)
	}
	if all.EndpointsTotal != 3 || all.ServicesTotal != 2 || all.Services[0].Service != "stock" || *all.Services[0].Concurrency.Active != 0 {
		t.Errorf("%d endpoints, %d services, %+v", all.EndpointsTotal, all.ServicesTotal, all.Services)
	}
	items := all.Endpoints[1]
	if items.Route != "/items/{id}" || items.Levels.ResponseTime.Name != "fair" || items.Levels.ErrorRate.Name != "excellent" ||
		items.Levels.Throughput != nil || items.Levels.ThroughputUnknown != "no limit is set for it" || items.Levels.ResponseTimeUnknown != "" {
		t.Errorf("%+v %+v", items, items.Levels)
	}
	near("size", items.ResponseSizeMean, 1234, 0)
	for query, want := range map[string]string{
		"sort=throughput": "/ /items/{id} /pay", "sort=time": "/pay /items/{id} /", "sort=failures": "/pay /items/{id} /",
		"sort=error_rate": "/pay /items/{id} /", "sort=p95": "/pay /items/{id} /", "sort=p50": "/pay /items/{id} /",
		"sort=average": "/pay /items/{id} /", "sort=level": "/pay /items/{id} /", "sort=name": "/items/{id} /pay /",
		"sort=p99&limit=1": "/pay", "service=shop": "/items/{id} /pay", "service=none": "", "window=60m&limit=2": "/ /items/{id}",
	} {
		var got summary
		get(t, s, "/performance/summary?"+query, &got)
		var routes []string
		for _, e := range got.Endpoints {
			routes = append(routes, e.Route)
		}
		if strings.Join(routes, " ") != want || got.EndpointsTotal != 3 {
			t.Errorf("%s: %v of %d, want %s", query, routes, got.EndpointsTotal, want)
		}
	}
}

// Before anything was seen, nothing is made up: figures are null, lists empty, and what the host does not tell is absent.
func TestSummaryOfNothing(t *testing.T) {
	c := newClock()
	e := analytics.NewEngine(analytics.Options{Now: c.now})
	s := NewServer(ServerOptions{Performance: PerformanceOptions{Engine: e, Now: c.now}})
	body := get(t, s, "/performance/summary", nil).Body.String()
	for _, want := range []string{`"throughput_rps":null`, `"error_rate_percent":null`, `"p95_ms":null`, `"in_flight_mean":null`,
		`"saturation":null`, `"services":[]`, `"endpoints":[]`, `"seconds":0`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
	for _, absent := range []string{`"system"`, `"active"`, `"cpu`} {
		if strings.Contains(body, absent) {
			t.Errorf("%s in %s", absent, body)
		}
	}
	c.advance(10 * time.Second)
	e.Tick()
	if body := get(t, s, "/performance/summary", nil).Body.String(); !strings.Contains(body, `"throughput_rps":0,`) {
		t.Errorf("ten seconds without requests: %s", body)
	}
	var h performanceHealth
	if get(t, s, "/health/performance", &h); h.Status != unknown || len(h.Reasons) != 0 || h.Unknown != "no exchanges in the last five minutes" {
		t.Errorf("%+v", h)
	}
}

// The health of what is watched follows the levels, gives reasons, worst first, and answers 200 whatever it is.
func TestPerformanceHealth(t *testing.T) {
	c := newClock()
	e := shopEngine(c)
	s := NewServer(ServerOptions{Performance: performanceOf(e, c)})
	var h performanceHealth
	w := get(t, s, "/health/performance", &h)
	if w.Code != 200 || h.Status != degraded || h.EndpointsJudged != 3 || h.ReasonsTotal != 2 {
		t.Fatalf("%d %+v", w.Code, h)
	}
	// 20 % of /pay fail, and it takes 1500 ms: both are critical, neither is severe.
	for i, want := range []string{"response_time", "error_rate"} {
		if r := h.Reasons[i]; r.Route != "/pay" || r.Aspect != want || r.Level != "critical" || r.Severe {
			t.Errorf("%+v", r)
		}
	}
	for range 60 {
		load(e, 100, "stock", "/", 5000, 200)
		load(e, 100, "shop", "/pay", 10, 200)
		c.advance(10 * time.Second)
		e.Tick()
	}
	if get(t, s, "/health/performance", &h); h.Status != critical || h.ReasonsTotal != 1 || !h.Reasons[0].Severe ||
		!strings.Contains(h.Reasons[0].Message, "is 4.98 s") {
		t.Errorf("%+v", h)
	}
	e.SetLevels(analytics.LevelOptions{LevelSet: analytics.LevelSet{{1e4, 2e4, 3e4, 4e4, 5e4}}})
	for range 10 {
		load(e, 100, "stock", "/", 5000, 200)
		c.advance(10 * time.Second)
		e.Tick()
	}
	if get(t, s, "/health/performance", &h); h.Status != healthy {
		t.Errorf("%+v", h)
	}
}

// Endpoints that are not judged are counted, and one all of whose requests fail makes nobody healthy, with a reason that never goes
// backwards.
func TestPerformanceHealthUnjudged(t *testing.T) {
	c := newClock()
	e := shopEngine(c)
	s := NewServer(ServerOptions{Performance: performanceOf(e, c)})
	step := func(failures int) (h performanceHealth) {
		t.Helper()
		load(e, 100, "stock", "/", 2, 200)
		load(e, failures, "cart", "/new", 2, 500)
		c.advance(10 * time.Second)
		e.Tick()
		get(t, s, "/health/performance", &h)
		return h
	}
	for range 40 { // what else is bad is forgotten
		step(0)
	}
	if h := step(12); h.Status != healthy || h.EndpointsJudged != 1 || h.EndpointsNotJudged != 1 || h.ReasonsTotal != 0 {
		t.Errorf("12 failures: %+v", h)
	}
	for n := 24; n <= 72; n += 12 {
		h := step(12)
		message := fmt.Sprintf("all %d requests fail; not judged yet: 20 exchanges or more in the last five minutes, but not for a minute yet", n)
		if h.Status != unknown || h.Unknown != "all requests of GET /new of cart fail, which is not judged yet" || h.ReasonsTotal != 1 || h.Reasons[0].Message != message ||
			h.Reasons[0].Level != "" || h.EndpointsNotJudged != 1 {
			t.Errorf("%d failures: %+v", n, h)
		}
	}
	if h := step(12); h.Status != critical || h.EndpointsJudged != 2 || h.EndpointsNotJudged != 0 || h.ReasonsTotal != 1 || !h.Reasons[0].Severe {
		t.Errorf("judged: %+v", h)
	}
}

// A service's processors are those of the window: nothing is known of them before two samples, whatever the latest one says.
func TestSummaryProcessors(t *testing.T) {
	c := newClock()
	e := analytics.NewEngine(analytics.Options{Now: c.now})
	sample := &host.Sample{}
	e.ObserveHost(func() *host.Sample { return sample })
	o := performanceOf(e, c)
	latest := 0.
	o.Resources = func(string, string) *analytics.Resources { return &analytics.Resources{CPUPercent: &latest} }
	s := NewServer(ServerOptions{Performance: o})
	var counter float64
	for i, processors := range []float64{1.5, 1.5, 1.5, 0} {
		load(e, 100, "shop", "/", 2, 200)
		c.advance(10 * time.Second)
		counter += 10 * processors
		sample = &host.Sample{Time: c.now(), CPU: &host.CPU{Processors: 2}, Services: []host.Service{{Name: "shop", CPUSeconds: host.Counter{Total: counter}}}}
		e.Tick()
		var all summary
		get(t, s, "/performance/summary?window=1m", &all)
		got := all.Services[0].Resources.CPUPercent
		if want := []float64{0, 150, 150, 100}[i]; (got == nil) != (i == 0) || got != nil && *got != want {
			t.Errorf("after %d samples: %v, want %g", i+1, got, want)
		}
	}
	if latest != 0 {
		t.Error("what the sampler gave was changed")
	}
}

// The agent's own health says what it has and what is wrong; losses are judged by those of the last ten minutes.
func TestAgentHealth(t *testing.T) {
	c := newClock()
	e := filledEngine(c)
	successful, limit := true, int64(math.MaxInt64)
	options := AgentOptions{
		Source: e, Probes: probeStatus(), Started: c.now().Add(-time.Minute), Now: c.now,
		Queues:      func() []QueueState { return []QueueState{{"batches", 3, 32}} },
		Reload:      func() (bool, time.Time) { return successful, c.now() },
		MemoryLimit: func() int64 { return limit }, WindowMemory: e.WindowMemory,
	}
	var h agentHealth
	ask := func() {
		t.Helper()
		h = agentHealth{}
		get(t, NewServer(ServerOptions{Agent: options}), "/monitoring/health", &h)
	}
	ask()
	if len(h.Undecoded) != 1 || h.Undecoded[0] != (undecodedJSON{"shop", "tls", 4}) {
		t.Errorf("undecoded: %+v", h.Undecoded)
	}
	if h.Backend != "tracepoint" || *h.UptimeSeconds != 60 || h.Queues[0].Length != 3 || h.Exchanges != 6 || h.Lost != 5 ||
		h.Losses[0] != (lossJSON{"queue", "queue_full", 5}) || *h.Memory.Kernel != 8.392704 && *h.Memory.Kernel != 8.393 || h.Memory.Resident == nil {
		t.Errorf("%+v", h)
	}
	if h.Status != degraded || len(h.Reasons) != 1 || !strings.Contains(h.Reasons[0], "45.5 % of the exchanges since 22:13:20 UTC were lost") {
		t.Errorf("losses: %s %q", h.Status, h.Reasons)
	}
	for range analytics.RecentWindow/analytics.TickInterval + 1 {
		c.advance(analytics.TickInterval)
		e.Tick()
	}
	// The losses were before the window now, and are still in the books.
	if ask(); h.Status != healthy || len(h.Reasons) != 0 || h.Lost != 5 || *h.LostPercent < 45 || h.Recent.Lost != 0 || h.Recent.LostPercent != nil {
		t.Errorf("%s %q, %+v", h.Status, h.Reasons, h.Recent)
	}
	e = analytics.NewEngine(analytics.Options{Now: c.now})
	options.Source = e
	if ask(); h.Status != healthy || len(h.Reasons) != 0 || h.LostPercent != nil {
		t.Errorf("%s %q", h.Status, h.Reasons)
	}
	trouble := "the history is kept in memory only: another agent writes there"
	options.History = func() string { return trouble }
	if ask(); h.Status != degraded || len(h.Reasons) != 1 || h.Reasons[0] != trouble {
		t.Errorf("%s %q", h.Status, h.Reasons)
	}
	trouble = ""
	options.Notify = func() []string { return []string{"the receiver chat takes no notifications"} }
	if ask(); h.Status != degraded || len(h.Reasons) != 1 || !strings.Contains(h.Reasons[0], "chat") {
		t.Errorf("%s %q", h.Status, h.Reasons)
	}
	options.Notify = nil
	successful, limit = false, 1
	options.Missing = func() []string { return []string{"sendfile"} }
	options.Queues = func() []QueueState { return []QueueState{{"batches", 30, 32}} }
	options.Probes.Backend = func() string { return "" }
	ask()
	for _, want := range []string{"reloaded", "resident", "sendfile", "nearly full", "no probes"} {
		if !strings.Contains(strings.Join(h.Reasons, "\n"), want) {
			t.Errorf("no %q in %q", want, h.Reasons)
		}
	}
}

// fullServer serves everything.
func fullServer(t testing.TB) *Server {
	t.Helper()
	c := newClock()
	e := shopEngine(c)
	return NewServer(ServerOptions{
		Version: "1.2.3", Performance: performanceOf(e, c), Agent: AgentOptions{Source: e}, Metrics: metricsOf(t, e),
		Requests: filledRequests(t), Analysis: AnalysisOptions{Engine: query.New(query.Options{}), Now: c.now},
		Routes: []Route{{Path: "/more", Summary: "More.", Handler: http.NotFoundHandler()}},
	})
}

// The document describes every path that is registered and no other, refers to nothing that is not there, and describes
// what is answered.
func TestOpenAPI(t *testing.T) {
	s := fullServer(t)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Summary   string
			Responses map[string]any
		}
		Components struct{ Schemas map[string]map[string]any }
	}
	w := get(t, s, "/openapi.json", &doc)
	if doc.OpenAPI != "3.1.0" || doc.Components.Schemas["Problem"] == nil {
		t.Fatalf("%s", w.Body)
	}
	routes := s.routes()
	if len(doc.Paths) != len(routes) || len(routes) < 9 {
		t.Errorf("%d paths, %d routes", len(doc.Paths), len(routes))
	}
	for _, r := range routes {
		for _, method := range r.methods() {
			operation, ok := doc.Paths[r.Path][strings.ToLower(method)]
			if method != http.MethodHead && (!ok || operation.Summary == "" || operation.Responses["405"] == nil) {
				t.Errorf("%s %s is not described", method, r.Path)
			}
		}
		// A method that nobody takes tells a path that is served from one that is not.
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, httptest.NewRequest("BREW", r.Path, nil))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") == "" || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("BREW %s: %d %v", r.Path, w.Code, w.Header())
		}
	}
	for _, reference := range strings.Split(w.Body.String(), `"$ref":"#/components/schemas/`)[1:] {
		if name, _, _ := strings.Cut(reference, `"`); doc.Components.Schemas[name] == nil {
			t.Errorf("the schema %s is missing", name)
		}
	}
	for path, name := range map[string]string{"/performance/summary": "Summary", "/health/performance": "PerformanceHealth", "/monitoring/health": "AgentHealth",
		"/requests": "RequestsDocument", "/performance/analytics": "Analysis", "/dashboard": "Dashboard"} {
		var answer map[string]any
		get(t, s, path, &answer)
		for _, problem := range mismatches(answer, doc.Components.Schemas[name], doc.Components.Schemas, name) {
			t.Errorf("%s: %s", path, problem)
		}
	}
}

// mismatches says where a JSON value does not have the form that a schema describes.
func mismatches(value any, schema map[string]any, all map[string]map[string]any, at string) (problems []string) {
	if ref, ok := schema["$ref"].(string); ok {
		return mismatches(value, all[strings.TrimPrefix(ref, "#/components/schemas/")], all, at)
	}
	if choices, ok := schema["oneOf"].([]any); ok {
		if value == nil {
			return nil
		}
		return mismatches(value, choices[0].(map[string]any), all, at)
	}
	types := fmt.Sprint(schema["type"])
	switch v := value.(type) {
	case map[string]any:
		properties, _ := schema["properties"].(map[string]any)
		for name, inner := range v {
			if p, ok := properties[name].(map[string]any); ok {
				problems = append(problems, mismatches(inner, p, all, at+"."+name)...)
			} else {
				problems = append(problems, at+"."+name+" is not described")
			}
		}
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, ok := v[name.(string)]; !ok {
				problems = append(problems, fmt.Sprintf("%s.%s is missing", at, name))
			}
		}
		return problems
	case []any:
		items, _ := schema["items"].(map[string]any)
		for i, inner := range v {
			problems = append(problems, mismatches(inner, items, all, fmt.Sprintf("%s[%d]", at, i))...)
		}
		return problems
	case nil:
		if !strings.Contains(types, "null") {
			problems = append(problems, at+" is null")
		}
	case string:
		if !strings.Contains(types, "string") {
			problems = append(problems, at+" is a string")
		}
	case float64:
		if !strings.Contains(types, "number") && !(strings.Contains(types, "integer") && v == math.Trunc(v)) {
			problems = append(problems, fmt.Sprintf("%s is the number %v, described as %s", at, v, types))
		}
	case bool:
		if !strings.Contains(types, "boolean") {
			problems = append(problems, at+" is a boolean")
		}
	}
	return problems
}

// Where a validator is installed, it finds the document valid.
func TestOpenAPIValid(t *testing.T) {
	validator, err := exec.LookPath("openapi-spec-validator")
	if err != nil {
		t.Skip("openapi-spec-validator is not installed")
	}
	name := filepath.Join(t.TempDir(), "openapi.json")
	if err := os.WriteFile(name, get(t, fullServer(t), "/openapi.json", nil).Body.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(validator, name).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Whatever is wrong with a query, the answer is a problem document that names it.
func TestQueryMistakes(t *testing.T) {
	s := fullServer(t)
	for query, want := range map[string]string{
		"?window=2m":           `\"2m\" is not one of 1m, 5m, 15m, 60m`,
		"?window=":             "is not one of",
		"?window=1m&window=5m": "window is given 2 times",
		"?limit=0":             "not a number from 1 to 10000",
		"?limit=10001":         "not a number from 1 to 10000",
		"?limit=1e3":           "not a number",
		"?sort=colour":         "is not one of throughput",
		"?service=":            "empty",
		"?windows=5m":          `unknown parameter \"windows\"; /performance/summary takes window, sort, limit, service`,
		"?a=%zz":               "malformed",
		"?a;b":                 "malformed",
	} {
		var p struct {
			Status int
			Detail string
		}
		w := get(t, s, "/performance/summary"+query, &p)
		if w.Code != 400 || p.Status != 400 || w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	for _, path := range []string{"/health/performance?x=1", "/monitoring/health?x", "/openapi.json?x=1"} {
		if w := get(t, s, path, nil); w.Code != 400 || !strings.Contains(w.Body.String(), "takes none") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	for _, path := range []string{"/performance", "/performance/summary/", "/openapi.yaml"} {
		if w := get(t, s, path, nil); w.Code != 404 || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/performance/summary", nil))
	if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "" {
		t.Errorf("HEAD: %d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
	}
}

// No query brings the server down, or makes it answer anything but a document or a problem.
func FuzzSummaryQuery(f *testing.F) {
	f.Add("window=5m&sort=p95&limit=10&service=shop")
	f.Add("window=60m&window=1m")
	f.Add("limit=-1")
	f.Add("a;b&%zz=%")
	s := fullServer(f)
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest(http.MethodGet, "/performance/summary", nil)
		r.URL = &url.URL{Path: "/performance/summary", RawQuery: query}
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 400 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%q: %d %s", query, w.Code, w.Body)
		}
	})
}

// largeWindows has 2,000 endpoints that were busy for 65 minutes, ten services.
func largeWindows(tb testing.TB) (*analytics.Engine, *clock) {
	tb.Helper()
	c := newClock()
	e := analytics.NewEngine(analytics.Options{Now: c.now})
	r := rand.New(rand.NewPCG(5, 6))
	var all [2000]*wire.Exchange
	for i := range all {
		all[i] = exchange()
		all[i].Service, all[i].Name = fmt.Sprintf("service-%d", i%10), fmt.Sprintf("/api/v1/things/%d/{id}", i)
	}
	for range 390 {
		for _, ex := range all {
			for range 4 {
				ex.Finished = ex.Arrived + int64(math.Exp(r.NormFloat64()*.8+15))
				e.Add(ex)
			}
		}
		c.advance(10 * time.Second)
		e.Tick()
	}
	return e, c
}

// BenchmarkSummary answers for 2,000 endpoints: the first request after a tick, which makes the window, and those after it.
func BenchmarkSummary(b *testing.B) {
	e, c := largeWindows(b)
	s := NewServer(ServerOptions{Performance: performanceOf(e, c)})
	for _, query := range []string{"window=1m", "window=5m", "window=60m", "window=60m&limit=2000&sort=p95"} {
		for _, first := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/first=%v", query, first), func(b *testing.B) {
				r := httptest.NewRequest(http.MethodGet, "/performance/summary?"+query, nil)
				s.handler.ServeHTTP(&discard{http.Header{}}, r)
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					if first {
						b.StopTimer()
						e.SetLevels(analytics.LevelOptions{}) // forgets the windows that were made
						b.StartTimer()
					}
					s.handler.ServeHTTP(&discard{http.Header{}}, r)
					n++
				}
				b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(n), "ms/answer")
			})
		}
	}
}
