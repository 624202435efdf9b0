package top

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/web"
)

// Shows that every field that top reads is one that the agent's description of /dashboard has.
func TestFieldsAreTheAgents(t *testing.T) {
	engine := analytics.NewEngine(analytics.Options{})
	server := web.NewServer(web.ServerOptions{Addresses: []string{"unix:" + filepath.Join(t.TempDir(), "s")},
		Performance: web.PerformanceOptions{Engine: engine}, Agent: web.AgentOptions{Source: engine}})
	if err := server.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	defer func() { cancel(); <-ended }()
	client := NewSocketClient(server.Addresses()[0].String())
	var description json.RawMessage
	if err := client.get(ctx, "/openapi.json", nil, &description); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range fieldNames(reflect.TypeFor[document](), map[reflect.Type]bool{reflect.TypeFor[statuses](): true, reflect.TypeFor[phases](): true}) {
		if seen++; name != "phases" && name != "statuses" && !bytes.Contains(description, []byte(`"`+name+`":`)) {
			t.Errorf("the agent has no field %q", name)
		}
	}
	if seen < 60 {
		t.Errorf("only %d fields were looked at", seen)
	}
	s, err := client.read(ctx, "1m", nil)
	if err == nil || !strings.Contains(err.Error(), "no agent") { // it has no version, which an agent's has
		t.Errorf("%+v, %v", s, err)
	}
}

// fieldNames are the names in JSON of a type's fields and theirs, of the types of this package.
func fieldNames(t reflect.Type, seen map[reflect.Type]bool) (names []string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] || !strings.HasSuffix(t.PkgPath(), "/internal/top") {
		return nil
	}
	seen[t] = true
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
		names = append(names, fieldNames(f.Type, seen)...)
	}
	return names
}

// Shows that phases and statuses are asked for once a tick.
func TestHistoryOnceATick(t *testing.T) {
	queries := 0
	agent := fakeAgent(t, nil)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/query" {
			queries++
		}
		agent.Config.Handler.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	client := clientOf(t, proxy)
	var s *sample
	for range 3 {
		next, err := client.read(t.Context(), "1m", s)
		if err != nil {
			t.Fatal(err)
		}
		s = next
	}
	if p := s.Endpoints[0].Phases; queries != 2 || p == nil || *p.Queue != 25 || *p.Processing != 50 {
		t.Errorf("%d queries, %+v", queries, p)
	}
	if _, err := client.read(t.Context(), "5m", s); err != nil || queries != 4 {
		t.Errorf("%d queries, %v", queries, err)
	}
}

// Shows what is said of whoever is no agent, is older, or wants a password.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		status     int
		body, want string
	}{
		{200, "<html>", "is no agent"}, {200, "{}", "is no agent"}, {404, "", "older than this command"}, {401, "", "--web.password-file"},
		{400, "Client sent an HTTP request to an HTTPS server.\n", "https://"}, {503, `{"detail":"busy \u001b[2J"}`, `busy \x1b[2J`},
		{302, "", "302 Found"}, {500, "oops", "500 Internal Server Error"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://192.0.2.1/")
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		}))
		_, err := clientOf(t, server).read(t.Context(), "1m", nil)
		if server.Close(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d %s: %v", c.status, c.body, err)
		}
	}
}

// Shows TLS with a certificate of one's own and a password from a file.
func TestURLClient(t *testing.T) {
	agent := fakeAgent(t, nil)
	secured := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		agent.Config.Handler.ServeHTTP(w, r)
	}))
	defer secured.Close()
	directory := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(directory, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	ca := write("ca", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secured.Certificate().Raw})))
	password := write("password", "secret\n")
	address := strings.TrimPrefix(secured.URL, "https://")
	for _, c := range []struct{ url, ca, password, problem string }{
		{"https://me@" + address, ca, password, ""},
		{"https://" + address, ca, "", "asks for a password"},
		{"https://me@" + address, "", password, "certificate"},
		{"https://" + address, ca, password, "needs a user"},
		{"https://me@" + address, password, "", "no certificate"},
		{"ftp://" + address, "", "", "no URL"},
		{address, "", "", "no URL"},
	} {
		client, err := NewURLClient(c.url, c.ca, c.password)
		if err == nil {
			_, err = client.read(t.Context(), "1m", nil)
		}
		if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", c.url, err)
		}
	}
}

// Shows a table as text: at a width, and whole where there is none; rows that match, as many as are wanted.
func TestOnce(t *testing.T) {
	s := fixture(t, nil)
	for _, c := range []struct {
		name    string
		columns int
		change  func(*Options)
	}{
		{"once-80", 80, func(*Options) {}},
		{"once-whole", 0, func(*Options) {}},
		{"once-some", 0, func(o *Options) { o.Sort, o.Filter, o.Limit = "p99", "shop", 2 }},
		{"once-problems", 80, func(o *Options) { o.View = "problems" }},
		{"once-nothing", 80, func(o *Options) { o.Filter = "nowhere" }},
	} {
		o := options()
		c.change(o)
		var out bytes.Buffer
		if err := writeText(&out, o, s, c.columns); err != nil {
			t.Fatal(err)
		}
		checkGolden(t, c.name, out.String())
		for line := range strings.Lines(out.String()) {
			if c.columns > 0 && width(strings.TrimRight(line, "\n")) > c.columns {
				t.Errorf("%s: %q", c.name, line)
			}
		}
	}
}

// Shows the JSON form: a line, the agent's names, sorted, filtered and limited.
func TestJSON(t *testing.T) {
	o := options()
	o.Sort, o.Filter, o.Limit = "p99", "shop|stock", 1
	var out bytes.Buffer
	if err := writeJSON(&out, o, fixture(t, nil)); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Total    int     `json:"rows_total"`
		Matched  int     `json:"rows_matched"`
		Firing   int     `json:"alerts_firing"`
		Lost     int     `json:"exchanges_lost"`
		RPS      float64 `json:"throughput_rps"`
		Endpoint []struct {
			Route  string `json:"http_route"`
			Phases phases `json:"phases"`
		} `json:"rows"`
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("%v: %s", err, out.String())
	}
	if got.Total != 6 || got.Matched != 5 || got.Firing != 1 || got.Lost != 3 || got.RPS != 201.15 || len(got.Endpoint) != 1 ||
		got.Endpoint[0].Route != "/items/{id}" || *got.Endpoint[0].Phases.Processing != 90 {
		t.Errorf("%+v", got)
	}
}

// lines delivers what is written, a write at a time.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

// Shows that objects go on after the agent has gone and come back, until the context ends.
func TestStream(t *testing.T) {
	agent := fakeAgent(t, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	serve := func(l net.Listener) *http.Server {
		server := &http.Server{Handler: agent.Config.Handler}
		go server.Serve(l)
		return server
	}
	server := serve(listener)
	client, err := NewURLClient("http://"+address, "", "")
	if err != nil {
		t.Fatal(err)
	}
	o := options()
	out := make(lines)
	o.Clients, o.JSON, o.Output, o.Interval = []*Client{NewSocketClient("/nonexistent/s"), client}, true, out, time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o); close(out) }()
	<-out
	server.Close()
	for { // what it had read before
		select {
		case <-out:
			continue
		case <-time.After(100 * time.Millisecond):
		}
		break
	}
	if listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	server = serve(listener)
	defer server.Close()
	if line := <-out; !strings.HasPrefix(line, `{"time":`) {
		t.Errorf("%s", line)
	}
	cancel()
	for range out {
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Shows that without an agent it is said where one was looked for, and what to do.
func TestNoAgent(t *testing.T) {
	o := options()
	o.Clients = []*Client{NewSocketClient("/nonexistent/\x1b/s")}
	err := Run(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), `/nonexistent/\x1b/s (there is no such socket)`) || !strings.Contains(err.Error(), "perfagent run") {
		t.Errorf("%v", err)
	}
}

// Shows which options are refused.
func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Options){
		`view: "x" is not one of endpoints, services, calls, problems`: func(o *Options) { o.View = "x" },
		`sort: "cpu" is not one of service`:                            func(o *Options) { o.Sort = "cpu" },
		"trend is of a live table":                                     func(o *Options) { o.Sort, o.Once = "trend", true },
		"limit: -1":                                                    func(o *Options) { o.Limit = -1 },
		`window: "2m"`:                                                 func(o *Options) { o.Window = "2m" },
		"interval: 1ms":                                                func(o *Options) { o.Interval = time.Millisecond },
	} {
		o := options()
		change(o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
