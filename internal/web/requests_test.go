package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	perfhttp "github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

// filledRequests holds three exchanges of each kind in both roles, /items/{id} of shop and one of other.
func filledRequests(t testing.TB) *RequestsHandler {
	t.Helper()
	engine := analytics.NewEngine(analytics.Options{})
	source := analytics.NewRequests(analytics.RequestsOptions{Now: func() int64 { return 2_000_000_000 }})
	seq := uint32(0)
	add := func(ex *wire.Exchange, status uint16, errorType string, ms int64) {
		seq++
		ex.Seq, ex.Outcome = seq, perfhttp.Answered(ex.Role, status)
		if errorType == "aborted" {
			ex.Outcome = perfhttp.CutOff(wire.ClassAborted, status)
		}
		ex.Finished = ex.Arrived + ms*1_000_000
		ex.ForwardedFor, ex.RequestID = []byte("203.0.113.7"), []byte(fmt.Sprintf("req-%d", seq))
		var h analytics.Handle
		engine.AddTo(&h, ex)
		if p := source.Pick(&h, ex); p.Any() {
			source.Keep(p, ex)
		}
	}
	for i := range int64(3) {
		for _, role := range []func() *wire.Exchange{exchange, clientExchange} {
			add(role(), 200, "", 10+i)
			add(role(), 404, "", 20+i)
			add(role(), 503, "503", 30+i)
		}
	}
	other := exchange()
	other.Service, other.Verb, other.MethodOriginal, other.Name = "other", "_OTHER", []byte("PURGE"), "/cache"
	add(other, 0, "aborted", 1)
	return NewRequestsHandler(source)
}

func askRequests(t *testing.T, h http.Handler, query string) (int, RequestsDocument, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/requests"+query, nil))
	var d RequestsDocument
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
	}
	return w.Code, d, w.Body.String()
}

// Each parameter chooses, in order, what it says; an exchange of two kinds is shown once.
func TestRequests(t *testing.T) {
	h := filledRequests(t)
	for query, want := range map[string]string{
		"?kind=failed&role=server&service=shop":                    "503 32 failed, 503 31 failed, 503 30 failed",
		"?kind=slowest&limit=2":                                    "503 32 slowest, 503 32 slowest",
		"?role=server&service=shop&limit=1":                        "503 32 failed+slowest, 404 22 client_error, 200 12 sample",
		"?role=server&service=shop&status=4xx":                     "404 22 slowest+client_error, 404 21 slowest+client_error, 404 20 slowest+client_error",
		"?service=other":                                           "0 1 failed+slowest",
		"?method=purge&method=x&kind=failed":                       "",
		"?method=PURGE&kind=failed":                                "0 1 failed",
		"?method=get&slower=32ms&role=client":                      "503 32 failed+slowest",
		"?route=/cache&kind=failed,sample":                         "0 1 failed",
		"?route=/cache&status=aborted":                             "0 1 failed+slowest",
		"?route=/nothing":                                          "",
		"?kind=sample&role=client":                                 "200 12 sample, 200 11 sample, 200 10 sample",
		"?kind=sample&kind=failed&service=sh*&role=client&limit=1": "503 32 failed, 200 12 sample",
	} {
		code, d, body := askRequests(t, h, query)
		var got []string
		for _, k := range d.Requests {
			kinds := strings.Trim(strings.ReplaceAll(fmt.Sprint(k.Kinds), " ", "+"), "[]")
			got = append(got, fmt.Sprintf("%d %d %s", k.StatusCode, *k.Duration/1_000_000, kinds))
		}
		if code != 200 || strings.Join(got, ", ") != want {
			t.Errorf("%s: %s, expected %s\n%s", query, strings.Join(got, ", "), want, body)
		}
	}
	if _, d, _ := askRequests(t, h, "?limit=1"); d.Matched != 19 || len(d.Requests) != 3 || d.SlowestWindowSeconds != 900 {
		t.Errorf("%+v", d)
	}
}

// A request looks as in trace, its path masked unless raw paths are wanted.
func TestRequestsObject(t *testing.T) {
	h := filledRequests(t)
	for raw, path := range map[bool]string{false: "/items/{id}", true: "/items/42"} {
		h.SetRawPaths(raw)
		_, d, body := askRequests(t, h, "?kind=sample")
		for _, k := range d.Requests {
			if k.Path != path || k.ForwardedFor != "203.0.113.7" || k.ClientAddress == k.ForwardedFor || !strings.HasPrefix(k.RequestID, "req-") {
				t.Errorf("%+v in %s", k.Object, body)
			}
		}
	}
}

// A wrong query, method or crowd is answered with a problem document that names what is wrong.
func TestRequestsProblems(t *testing.T) {
	h := filledRequests(t)
	for query, detail := range map[string]string{
		"?limit=0": "limit", "?limit=1001": "limit", "?limit=x": "limit", "?kind=slow": "kind", "?role=both": "role", "?status=6xx": "status",
		"?slower=fast": "slower", "?slower=-1s": "slower", "?service=[": "service", "?colour=red": "colour", "?a=%zz": "malformed",
		"?raw_paths=true": "raw_paths", "?role=server&role=client": "2 times", "?limit=1&limit=2": "2 times",
	} {
		code, _, body := askRequests(t, h, query)
		var p struct {
			Status int
			Detail string
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil || code != 400 || p.Status != 400 || !strings.Contains(p.Detail, detail) {
			t.Errorf("%s: %d %s (%v)", query, code, body, err)
		}
	}
	w := httptest.NewRecorder()
	mux := http.NewServeMux()
	h.Route().register(mux)
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/requests", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// An answer with everything that is kept takes the worker's lock for a moment only.
func BenchmarkRequests(b *testing.B) {
	engine := analytics.NewEngine(analytics.Options{})
	source := analytics.NewRequests(analytics.RequestsOptions{Now: func() int64 { return 2_000_000_000 }})
	for i := range 20_000 {
		ex := exchange()
		ex.Seq, ex.Outcome, ex.Name = uint32(i), perfhttp.Answered(ex.Role, []uint16{200, 404, 500}[i%3]), fmt.Sprintf("/%d", i%300)
		var h analytics.Handle
		engine.AddTo(&h, ex)
		if p := source.Pick(&h, ex); p.Any() {
			source.Keep(p, ex)
		}
	}
	h := NewRequestsHandler(source)
	q := RequestsQuery{Limit: requestsLimitMax}
	b.Run("lock", func(b *testing.B) {
		for b.Loop() {
			source.Each(analytics.RequestSample, wire.RoleServer, func(ex *wire.Exchange) { ex.Clone() })
		}
	})
	b.Run("document", func(b *testing.B) {
		for b.Loop() {
			h.document(q, time.Time{})
		}
	})
}

// Whatever the query, the answer is a document or a problem.
func FuzzRequestsQuery(f *testing.F) {
	handler := NewRequestsHandler(analytics.NewRequests(analytics.RequestsOptions{Now: func() int64 { return 0 }}))
	f.Add("kind=failed&limit=3&status=5xx,aborted&slower=1ms")
	f.Add("service=[&route=%00")
	f.Fuzz(func(t *testing.T, query string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/requests", nil)
		r.URL.RawQuery = query
		handler.ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 400 || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%q: %d %s", query, w.Code, w.Body)
		}
	})
}
