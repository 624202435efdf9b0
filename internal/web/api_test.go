package web

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/wire"
)

var apiStart = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// apiServer serves the API over a history of ten minutes: an endpoint that answers one request of 20 ms in 10 s.
func apiServer(t *testing.T, o APIOptions) *httptest.Server {
	t.Helper()
	h := history.Open(history.Options{Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	for i := range 60 {
		e := &analytics.Sealed{Key: analytics.Key{Role: wire.RoleServer, Service: "shop", Operation: wire.Operation{Verb: "GET", Name: "/cart"}}}
		e.Series = []analytics.Series{{Result: analytics.Result{Outcome: wire.Outcome{Code: 200}, Protocol: "http/1.1"}}}
		e.Series[0].Duration.Add(20e6)
		to := apiStart.Add(time.Duration(i+1) * 10 * time.Second)
		h.Consume(&analytics.Seal{From: to.Add(-10 * time.Second), To: to, Entries: []*analytics.Sealed{e}}, nil)
		for deadline := time.Now().Add(time.Minute); h.Stats().Ticks < uint64(i+1); time.Sleep(50 * time.Microsecond) { // polling
			if time.Now().After(deadline) {
				t.Fatal("a tick was not stored")
			}
		}
	}
	if o.Engine == nil {
		o.Engine = query.New(query.Options{History: func() *history.History { return h }})
	}
	o.Now = func() time.Time { return apiStart.Add(10 * time.Minute) }
	s := NewServer(ServerOptions{API: o})
	server := httptest.NewServer(newHTTPServer(s.handler, slog.New(slog.DiscardHandler), s.questions...).Handler)
	t.Cleanup(server.Close)
	return server
}

// askAPI sends a GET and a POST, whose answers must be the same, and returns it.
func askAPI(t *testing.T, server *httptest.Server, path string, form url.Values) (status int, body string) {
	t.Helper()
	for i, send := range []func() (*http.Response, error){
		func() (*http.Response, error) { return http.Get(server.URL + path + "?" + form.Encode()) },
		func() (*http.Response, error) { return http.PostForm(server.URL+path, form) },
	} {
		r, err := send()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: type %q", path, got)
		}
		if i > 0 && (r.StatusCode != status || string(b) != body) {
			t.Errorf("%s: POST answers %d %s, GET %d %s", path, r.StatusCode, b, status, body)
		}
		status, body = r.StatusCode, string(b)
	}
	return status, body
}

const cart = `"http_request_method":"GET","http_response_status_code":"200","http_route":"/cart","network_protocol_version":"1.1","service_name":"shop","url_scheme":"http"`

// Shows Prometheus' forms of answers and of errors, for GET and for POST, with times and durations as its clients write them.
func TestAPIAnswers(t *testing.T) {
	server := apiServer(t, APIOptions{Build: APIBuild{"1.2", "abc", "go1"}})
	end := "2026-03-02T12:10:00Z"
	for _, c := range []struct {
		path, form string
		status     int
		want       string
	}{
		{"query", "query=1%2B1", 200, `{"status":"success","data":{"resultType":"scalar","result":[1772453400,"2"]}}`},
		{"query", "query=1%2B1&time=1772453400.5", 200, `{"status":"success","data":{"resultType":"scalar","result":[1772453400.500,"2"]}}`},
		{"query", `query="a"`, 200, `{"status":"success","data":{"resultType":"string","result":[1772453400,"a"]}}`},
		{"query", "query=http_server_request_duration_seconds_count&time=" + end, 200,
			`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"http_server_request_duration_seconds_count",` + cart + `},"value":[1772453400,"60"]}]}}`},
		{"query", "query=http_server_request_duration_seconds", 200,
			`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"http_server_request_duration_seconds",` + cart + `},` +
				`"histogram":[1772453400,{"count":"60","sum":"1.2","buckets":[[0,"0.01982892120612083","0.020263118041422026","60"]]}]}]}}`},
		{"query", "query=nothing", 200, `{"status":"success","data":{"resultType":"vector","result":[]}}`},
		{"query", "query=perfagent_history_ticks[15s]", 200,
			`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"perfagent_history_ticks"},"values":[[1772453390,"1"],[1772453400,"1"]]}]}}`},
		{"query_range", "query=sum(rate(http_server_request_duration_seconds_count[1m]))&start=1772453280&end=" + end + "&step=1m", 200,
			`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1772453280,"0.1"],[1772453340,"0.1"],[1772453400,"0.1"]]}]}}`},
		{"query_range", "query=count(http_server_request_duration_seconds_bucket)by(le)&start=1772453400&end=1772453400&step=15&limit=1", 200,
			`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"le":"+Inf"},"values":[[1772453400,"1"]]}]},"warnings":["results truncated due to limit"]}`},
		{"series", "match[]=http_server_request_duration_seconds_count&match[]=perfagent_history_ticks", 200,
			`{"status":"success","data":[{"__name__":"http_server_request_duration_seconds_count",` + cart + `},{"__name__":"perfagent_history_ticks"}]}`},
		{"labels", "match[]=http_server_request_duration_seconds_bucket&start=1772453400", 200,
			`{"status":"success","data":["__name__","http_request_method","http_response_status_code","http_route","le","network_protocol_version","service_name","url_scheme"]}`},
		{"labels", "limit=2", 200, `{"status":"success","data":["__name__","http_request_method"],"warnings":["results truncated due to limit"]}`},
		{"label/service_name/values", "", 200, `{"status":"success","data":["shop"]}`},
		{"label/__name__/values", "match[]={__name__=~\".*ticks\"}", 200, `{"status":"success","data":["perfagent_history_ticks"]}`},
		{"label/nothing/values", "", 200, `{"status":"success","data":[]}`},
		{"metadata", "metric=http_server_request_duration_seconds&limit_per_metric=1", 200,
			`{"status":"success","data":{"http_server_request_duration_seconds":[{"type":"histogram","help":"Time from the first byte of a request's arrival to the last byte of its response.","unit":""}]}}`},
		{"format_query", "query=sum(a)by(b)", 200, `{"status":"success","data":"sum by (b) (a)"}`},
		{"query_exemplars", "query=a&start=1&end=2", 200, `{"status":"success","data":[]}`},
		{"status/buildinfo", "", 200, `{"status":"success","data":{"branch":"perfagent 1.2","buildDate":"","buildUser":"","goVersion":"go1","revision":"abc","version":"` + apiVersion + `"}}`},

		{"query", "query=sum(", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis"}`},
		{"query", "", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": unknown position: parse error: no expression found in input"}`},
		{"query", "query=a&time=soon", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"time\": cannot parse \"soon\" to a valid timestamp"}`},
		{"query", "query=a&time=NaN", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"time\": cannot parse \"NaN\" to a valid timestamp"}`},
		{"query", "query=a&limit=-1", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"limit\": limit must be non-negative"}`},
		{"query_range", "query=a&start=2&end=1&step=1", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"end\": end timestamp must not be before start time"}`},
		{"query_range", "query=a&start=1&end=2&step=0", 400,
			`{"status":"error","errorType":"bad_data","error":"invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer"}`},
		{"query_range", "query=a&start=0&end=100000&step=1", 400,
			`{"status":"error","errorType":"bad_data","error":"exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"}`},
		{"query_range", "query=perfagent_history_ticks[1m]&start=0&end=1&step=1", 400,
			`{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"}`},
		{"query", "query=perfagent_history_ticks*on()group_left()label_replace({__name__=~\"http.*_count|http.*_sum\"},\"x\",\"\",\"x\",\"\")", 422, ``},
		{"query", "query=max_over_time(vector(1)[15d:1ms])", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": ` +
			`exceeded maximum resolution of 50000 steps in subqueries. Try a longer step ([range:step]) or a shorter range"}`},
		{"format_query", "query=" + strings.Repeat("(", 5001), 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": the expression has more than 5000 numbers, names and signs"}`},
		{"series", `match[]={a=~"(.{1000}){1}` + strings.Repeat(".{1000}", 11) + `"}`, 400, ``},
		{"series", "", 400, `{"status":"error","errorType":"bad_data","error":"no match[] parameter provided"}`},
		{"series", "match[]={a=~\".*\"}", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"}`},
	} {
		form, err := url.ParseQuery(c.form)
		if err != nil {
			t.Fatal(err)
		}
		status, body := askAPI(t, server, "/api/v1/"+c.path, form)
		if status != c.status || c.want != "" && body != c.want {
			t.Errorf("%s %s:\n%d %s\nwant\n%d %s", c.path, c.form, status, body, c.status, c.want)
		}
		if !json.Valid([]byte(body)) {
			t.Errorf("%s is no JSON", body)
		}
	}
}

// Shows the limits: samples, time, without a history; and that a form is bounded.
func TestAPILimits(t *testing.T) {
	none := query.New(query.Options{})
	server := apiServer(t, APIOptions{Engine: none})
	if status, body := askAPI(t, server, "/api/v1/query", url.Values{"query": {"a"}}); status != 503 || !strings.Contains(body, `"errorType":"unavailable"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, body := askAPI(t, server, "/api/v1/labels", nil); status != 503 || !strings.Contains(body, `"errorType":"unavailable"`) {
		t.Errorf("%d %s", status, body)
	}
	r, err := http.PostForm(server.URL+"/api/v1/query", url.Values{"query": {strings.Repeat("1+", formBytesMax)}})
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != 400 {
		t.Errorf("a large form is answered with %d", r.StatusCode)
	}
	server = apiServer(t, APIOptions{})
	r, err = http.Get(server.URL + "/api/v1/query?query=a&timeout=1e-9")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 503 || !strings.Contains(string(body), `"errorType":"timeout","error":"query timed out in query `) {
		t.Errorf("%d %s %v", r.StatusCode, body, err)
	}
}

// Shows that a question is taken as Grafana sends it, also with what a browser adds on its way; that a large answer is packed;
// that the paths are listed; and that the version is the one of the engine.
func TestAPIClients(t *testing.T) {
	server := apiServer(t, APIOptions{})
	form := url.Values{"query": {`http_server_request_duration_seconds_bucket`}, "start": {"1772452800"}, "end": {"1772453400"}, "step": {"15"}}
	request, err := http.NewRequest(http.MethodPost, server.URL+"/api/v1/query_range", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", "http://grafana.example")
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	request.Header.Set("Accept-Encoding", "gzip")
	r, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != 200 || r.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("%s %v", r.Status, r.Header)
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Data struct{ Result []struct{ Values [][2]any } }
	}
	if err := json.NewDecoder(z).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if n := len(answer.Data.Result); n != len(analytics.DurationBounds)+1 || len(answer.Data.Result[0].Values) != 40 {
		t.Errorf("%d series of %d", n, len(answer.Data.Result[0].Values))
	}
	listed, err := http.Get(server.URL + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer listed.Body.Close()
	if b, err := io.ReadAll(listed.Body); err != nil || !strings.Contains(string(b), `"/api/v1/label/{name}/values"`) || !strings.Contains(string(b), `"errorType"`) {
		t.Errorf("%v: the API is not in %.200s", err, b)
	}
	module, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`github.com/prometheus/prometheus v0\.(\d)(\d\d)\.(\d+)`).FindStringSubmatch(string(module))
	if found == nil || fmt.Sprintf("%s.%s.%s", found[1], strings.TrimPrefix(found[2], "0"), found[3]) != apiVersion {
		t.Errorf("go.mod has %v, the API says %s", found, apiVersion)
	}
}

// FuzzAPIParameters shows that no parameters end the server, and that errors have Prometheus' form.
func FuzzAPIParameters(f *testing.F) {
	for _, seed := range []string{"query=1&time=1", "query=a&start=1&end=2&step=1m", "match[]=a&limit=1", "query=a&start=-1e300&end=1e300&step=1e9", "time=%zz&timeout=5"} {
		f.Add(seed)
	}
	engine := query.New(query.Options{MaxSamples: 1000, Timeout: time.Second, History: func() *history.History { return history.Open(history.Options{}) }})
	s := NewServer(ServerOptions{API: APIOptions{Engine: engine}})
	f.Fuzz(func(t *testing.T, form string) {
		for _, path := range []string{"query", "query_range", "series", "labels", "label/a/values", "metadata", "format_query", "query_exemplars"} {
			r := httptest.NewRequest(http.MethodPost, "/api/v1/"+path, strings.NewReader(form))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			var failure apiFailure
			if w.Code != 200 && (json.Unmarshal(w.Body.Bytes(), &failure) != nil || failure.Status != "error" || apiStatus[failure.ErrorType] != w.Code) {
				t.Errorf("%s %q: %d %s", path, form, w.Code, w.Body)
			}
		}
	})
}
