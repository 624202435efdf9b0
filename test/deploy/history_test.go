package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/web"
	"github.com/perfagent/perfagent/internal/wire"
	"github.com/perfagent/perfagent/test/servers"
)

// past is two hours of an agent's life around a midnight, tick by tick: what it sealed, and what it would have shown to a scrape at
// that moment.
type past struct {
	start  time.Time
	random *rand.Rand
	total  map[analytics.Key]*analytics.Entry
	ticks  int
	engine *query.Engine
	feed   *history.History
	own    []analytics.Figure // of the agent, at the latest tick
}

const pastTicks = 720

func newPast(t *testing.T) *past {
	t.Helper()
	p := &past{start: time.Now().UTC().Truncate(24 * time.Hour).Add(-25 * time.Hour), random: rand.New(rand.NewPCG(1, 2)), total: map[analytics.Key]*analytics.Entry{}}
	p.feed = history.Open(history.Options{Log: slog.New(slog.DiscardHandler), Own: func() []analytics.Figure { return p.own }})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.feed.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	p.engine = query.New(query.Options{History: func() *history.History { return p.feed }})
	return p
}

// entry is what an endpoint or a target did in ten seconds.
func (p *past) entry(role wire.Role, route string, n int, ms float64) *analytics.Sealed {
	e := &analytics.Sealed{Key: analytics.Key{Role: role, Service: "shop", Operation: wire.Operation{Verb: "GET", Name: route}}}
	if role == wire.RoleClient {
		e.Name, e.Address, e.Port = "", "stock.example", 80
	}
	e.RequestSize, e.ResponseSize = analytics.NewHistogram(analytics.Bytes), analytics.NewHistogram(analytics.Bytes)
	fine := analytics.Result{Outcome: wire.Outcome{Code: 200}, Protocol: "http/1.1"}
	broken := analytics.Result{Outcome: wire.Outcome{Code: 500, Class: wire.ClassServerFault, ErrorType: "500"}, Protocol: "http/1.1"}
	e.Series = []analytics.Series{{Result: fine, Created: p.start}, {Result: broken, Created: p.start}}
	for i := range n {
		d := int64(ms * 1e6 * math.Exp(.5*p.random.NormFloat64()))
		at := 0
		if i%7 == 0 {
			at = 1
		}
		e.Series[at].Duration.Add(d)
		if role == wire.RoleServer {
			e.Queue.Add(d / 10)
			e.Processing.Add(d / 2)
			e.Transfer.Add(d / 5)
			e.RequestSize.Add(int64(i%3) * 300)
			e.ResponseSize.Add(int64(1000 * math.Exp(p.random.NormFloat64())))
		}
	}
	return e
}

// tick lets ten seconds pass, and returns what a scrape then shows, and when.
func (p *past) tick(t *testing.T) (export.MetricsOptions, time.Time) {
	from := p.start.Add(time.Duration(p.ticks) * 10 * time.Second)
	p.ticks++
	to := from.Add(10 * time.Second)
	day := 1 + .5*math.Sin(float64(p.ticks)/60)
	seal := &analytics.Seal{From: from, To: to, Entries: []*analytics.Sealed{
		p.entry(wire.RoleServer, "/cart", int(20*day), 20*day), p.entry(wire.RoleServer, "/items/{id}", 7+p.ticks%2, 3), p.entry(wire.RoleClient, "", 9, 8)}}
	if p.ticks%3 == 0 {
		seal.Entries = append(seal.Entries, p.entry(wire.RoleServer, "/rare", 7+p.ticks/3%2, 400)) // an odd number in 5 minutes: no half of it lies between two buckets
	}
	n := uint64(p.ticks)
	snapshot := &analytics.Snapshot{Time: to, Exchanges: []analytics.Kind{{Protocol: "http/1.1", Role: wire.RoleServer, Count: 40 * n}},
		Lost: []analytics.Lost{{Loss: wire.Losses[0], Count: n / 3}}, Active: map[string]int64{"shop": int64(n % 5)}}
	for _, e := range seal.Entries {
		p.add(e)
	}
	for _, e := range p.total {
		copied := *e
		copied.Series = slices.Clone(e.Series)
		for i := range copied.Series {
			copied.Series[i].Duration = e.Series[i].Duration.Clone()
		}
		for _, h := range []*analytics.Histogram{&copied.Queue, &copied.Processing, &copied.Transfer, &copied.RequestSize, &copied.ResponseSize} {
			*h = h.Clone()
		}
		if e.Role == wire.RoleClient {
			snapshot.Targets = append(snapshot.Targets, &copied)
		} else {
			snapshot.Endpoints = append(snapshot.Endpoints, &copied)
		}
	}
	s := &site{scrapes: n}
	o := export.MetricsOptions{WithoutRuntime: true, CollectorOptions: s.options()}
	o.Source = still{snapshot}
	p.own = export.NewOwn(o).Figures()
	p.feed.Consume(seal, s.host())
	for deadline := time.Now().Add(time.Minute); p.feed.Stats().Ticks < n; time.Sleep(100 * time.Microsecond) { // polling
		if time.Now().After(deadline) {
			t.Fatal("a tick was not stored")
		}
	}
	return o, to
}

func (p *past) add(e *analytics.Sealed) {
	total := p.total[e.Key]
	if total == nil {
		total = &analytics.Entry{Key: e.Key, Created: p.start}
		total.RequestSize, total.ResponseSize = analytics.NewHistogram(analytics.Bytes), analytics.NewHistogram(analytics.Bytes)
		for i := range e.Series {
			total.Series = append(total.Series, analytics.Series{Result: e.Series[i].Result, Created: p.start})
		}
		p.total[e.Key] = total
	}
	for i := range e.Series {
		total.Series[i].Duration.Merge(&e.Series[i].Duration)
	}
	total.Queue.Merge(&e.Queue)
	total.Processing.Merge(&e.Processing)
	total.Transfer.Merge(&e.Transfer)
	total.RequestSize.Merge(&e.RequestSize)
	total.ResponseSize.Merge(&e.ResponseSize)
}

// still is a source of one moment.
type still struct{ snapshot *analytics.Snapshot }

func (s still) Snapshot() *analytics.Snapshot { return s.snapshot }

// scrapes are the answers to a server's scrapes, one after the other, each with the time of its tick.
type scrapes struct {
	mu   sync.Mutex
	all  [][]byte
	kind expfmt.Format
	next int
}

func (s *scrapes) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := min(s.next/3, len(s.all)-1) // a scrape or two may fail on a busy machine; what is there already is taken for the same
	s.next++
	w.Header().Set("Content-Type", string(s.kind))
	_, _ = w.Write(s.all[i])
}

// add makes the answer of a moment, as the agent does, and writes the time beside each sample.
func (s *scrapes) add(t *testing.T, o export.MetricsOptions, at time.Time) {
	t.Helper()
	metrics, err := export.NewMetrics(o)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", string(expfmt.FmtProtoDelim))
	if err := metrics.Scrape(w, r); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	decoder, encoder := expfmt.NewDecoder(w.Body, expfmt.FmtProtoDelim), expfmt.NewEncoder(&out, s.kind)
	ms := at.UnixMilli()
	for {
		var family dto.MetricFamily
		if err := decoder.Decode(&family); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, m := range family.Metric {
			m.TimestampMs = &ms
		}
		if err := encoder.Encode(&family); err != nil {
			t.Fatal(err)
		}
	}
	s.all = append(s.all, out.Bytes())
}

// red are the seven queries of a usual dashboard of requests, errors and durations, in both forms of histograms.
var red = map[string][]string{
	"classic": {
		`sum by (service_name) (rate(http_server_request_duration_seconds_count[5m]))`,
		`sum by (http_route) (rate(http_server_request_duration_seconds_count[5m]))`,
		`sum(rate(http_server_request_duration_seconds_count{http_response_status_code=~"5.."}[5m])) / sum(rate(http_server_request_duration_seconds_count[5m]))`,
		`histogram_quantile(0.5, sum by (http_route, le) (rate(http_server_request_duration_seconds_bucket[5m])))`,
		`histogram_quantile(0.95, sum by (http_route, le) (rate(http_server_request_duration_seconds_bucket[5m])))`,
		`histogram_quantile(0.99, sum by (http_route, le) (rate(http_server_request_duration_seconds_bucket[5m])))`,
		`sum by (le) (increase(http_server_request_duration_seconds_bucket[1m]))`,
		`sum(rate(http_server_request_duration_seconds_bucket{le="0.025"}[5m])) / sum(rate(http_server_request_duration_seconds_count[5m]))`,
		`topk(2, sum by (http_route) (rate(http_server_request_duration_seconds_sum[5m])) / sum by (http_route) (rate(http_server_request_duration_seconds_count[5m])))`,
		`sum by (phase) (increase(perfagent_http_server_phase_duration_seconds_sum[1h]))`,
		`sum by (http_route) (rate(http_server_request_duration_seconds_count[1h]))`,
		`sum by (http_route, le) (increase(http_server_response_body_size_bytes_bucket[10m]))`,
		`avg_over_time(perfagent_host_memory_used_bytes[5m])`,
		`sum by (mode) (rate(perfagent_host_cpu_seconds_total[5m]))`,
		`histogram_quantile(0.9, sum by (service_name, le) (rate(perfagent_tcp_rtt_seconds_bucket[5m])))`,
		`sum by (receiver) (increase(perfagent_notification_attempts_failed_total[10m]))`,
		`perfagent_objective_burn_rate`,
	},
	"native": {
		`histogram_count(sum by (service_name) (rate(http_server_request_duration_seconds[5m])))`,
		`histogram_count(sum by (http_route) (rate(http_server_request_duration_seconds[5m])))`,
		`histogram_count(sum(rate(http_server_request_duration_seconds{http_response_status_code=~"5.."}[5m]))) / histogram_count(sum(rate(http_server_request_duration_seconds[5m])))`,
		`histogram_quantile(0.5, sum by (http_route) (rate(http_server_request_duration_seconds[5m])))`,
		`histogram_quantile(0.95, sum by (http_route) (rate(http_server_request_duration_seconds[5m])))`,
		`histogram_quantile(0.99, sum by (http_route) (rate(http_server_request_duration_seconds[5m])))`,
		`histogram_sum(sum by (http_route) (increase(http_server_request_duration_seconds[1m])))`,
		`histogram_fraction(0, 0.025, sum(rate(http_server_request_duration_seconds[5m])))`,
		`topk(2, histogram_sum(sum by (http_route) (rate(http_server_request_duration_seconds[5m]))) / histogram_count(sum by (http_route) (rate(http_server_request_duration_seconds[5m]))))`,
		`histogram_quantile(0.9, sum by (phase) (rate(perfagent_http_server_phase_duration_seconds[1h])))`,
	},
}

// historyNames are the metrics that the history has.
var historyNames = sync.OnceValue(func() map[string]bool {
	known := map[string]bool{history.TicksMetric: true}
	for _, f := range analytics.Families {
		for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
			known[f.Name+suffix] = true
		}
	}
	analytics.EachMetric(func(m *analytics.Metric) { known[m.Name] = true })
	s := &site{engine: analytics.NewEngine(analytics.Options{}), scrapes: 1}
	s.work()
	for _, f := range export.NewOwn(export.MetricsOptions{CollectorOptions: s.options()}).Figures() {
		known[f.Name] = true
	}
	known["perfagent_endpoint_level"] = true // after five minutes
	return known
})

// inHistory tells whether the history has all metrics of an expression.
func inHistory(expr string) bool {
	metrics, _ := references(expr)
	return !slices.ContainsFunc(metrics, func(name string) bool { return !historyNames()[name] })
}

// Shows that each query of the README, of deploy/ and of the documents asks for metrics that the agent's own history has: beside those,
// there are only what a server that scrapes adds, and what rules record.
func TestQueriesReadTheHistory(t *testing.T) {
	serversOwn := []string{"up", "scrape_duration_seconds"}
	recorded := map[string]bool{}
	all := slices.Concat(readmeQuestions(t), ruleQuestions(t), dashboardQuestions(t))
	for _, q := range all {
		recorded[q.where] = true
		if q.where == "recorded" {
			name, _, _ := strings.Cut(q.expr, "{")
			recorded[name] = true
		}
	}
	for _, q := range all {
		metrics, _ := references(q.expr)
		for _, name := range metrics {
			if !historyNames()[name] && !recorded[name] && !slices.Contains(serversOwn, name) {
				t.Errorf("%s: the history has no %s: %s", q.where, name, q.expr)
			}
		}
	}
}

// reads tells which form of histograms an expression reads.
func reads(expr string) (classic, native bool) {
	metrics, _ := references(expr)
	for _, name := range metrics {
		for _, f := range analytics.Families {
			rest, found := strings.CutPrefix(name, f.Name)
			classic, native = classic || found && rest != "", native || found && rest == ""
		}
	}
	return classic, native
}

// values asks a server for an expression at a time; keys are labels without what a server that scrapes adds.
func values(t *testing.T, address, expr string, at time.Time) map[string]float64 {
	t.Helper()
	response, err := http.Get("http://" + address + "/api/v1/query?" + url.Values{"query": {expr}, "time": {strconv.FormatInt(at.Unix(), 10)}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric    map[string]string
				Value     [2]any
				Histogram []json.RawMessage
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: %v %s", expr, err, answer.Error)
	}
	all := map[string]float64{}
	for _, r := range answer.Data.Result {
		unify(r.Metric)
		if len(r.Histogram) == 2 {
			var h struct{ Count, Sum string }
			if err := json.Unmarshal(r.Histogram[1], &h); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"count": h.Count, "sum": h.Sum} {
				if all[fmt.Sprint(name, " of ", r.Metric)], err = strconv.ParseFloat(text, 64); err != nil {
					t.Fatal(err)
				}
			}
			continue
		}
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("%s: %v", expr, r.Value)
		}
		all[fmt.Sprint(r.Metric)] = v
	}
	return all
}

// unify takes away what a server that scrapes adds, and how it writes bounds: 1 where it scraped the text format, else 1.0.
func unify(metric map[string]string) {
	delete(metric, "instance")
	delete(metric, "job")
	if bound, err := strconv.ParseFloat(metric["le"], 64); err == nil {
		metric["le"] = fmt.Sprint(bound)
	}
}

// histogramError is the resolution of a histogram: half a bucket of schema 5.
const histogramError = .011

// compare asks both, and returns how many numbers they gave.
func compare(t *testing.T, agent, server, expr string, at time.Time) int {
	t.Helper()
	got, want := values(t, agent, expr, at), values(t, server, expr, at)
	if len(got) != len(want) {
		t.Errorf("%s at %s: the agent has %d rows, Prometheus %d\n%v\n%v", expr, at.Format(time.TimeOnly), len(got), len(want), got, want)
	}
	for labels, w := range want {
		g, has := got[labels]
		if !has || !(g == w || math.IsNaN(g) && math.IsNaN(w) || math.Abs(g-w) <= histogramError*math.Abs(w)) {
			t.Errorf("%s at %s: %s is %v, %v for Prometheus", expr, at.Format(time.TimeOnly), labels, g, w)
		}
	}
	return len(want)
}

// compareRange asks both for each 90 s of a time, in whose 5 minutes before there always are as many requests to /rare, and returns how many numbers they gave.
func compareRange(t *testing.T, agent, server, expr string, from, to time.Time) (numbers int) {
	t.Helper()
	ask := func(address string) map[string]map[float64]float64 {
		response, err := http.PostForm("http://"+address+"/api/v1/query_range", url.Values{"query": {expr}, "start": {from.Format(time.RFC3339)},
			"end": {strconv.FormatInt(to.Unix(), 10)}, "step": {"90"}})
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string
					Values [][2]any
				}
			}
		}
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		all := map[string]map[float64]float64{}
		for _, r := range answer.Data.Result {
			unify(r.Metric)
			points := map[float64]float64{}
			for _, p := range r.Values {
				at, _ := p[0].(float64)
				text, _ := p[1].(string)
				if points[at], err = strconv.ParseFloat(text, 64); err != nil {
					t.Fatal(err)
				}
			}
			all[fmt.Sprint(r.Metric)] = points
		}
		return all
	}
	got, want := ask(agent), ask(server)
	wrong := 0
	for labels, points := range want {
		for at, w := range points {
			numbers++
			g, has := got[labels][at]
			if has && (g == w || math.IsNaN(g) && math.IsNaN(w) || math.Abs(g-w) <= histogramError*math.Abs(w)) {
				continue
			}
			if wrong++; wrong < 5 {
				t.Errorf("%s at %s: %s is %v (%v), %v for Prometheus", expr, time.Unix(int64(at), 0).UTC().Format(time.TimeOnly), labels, g, has, w)
			}
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: the agent has %d rows, Prometheus %d", expr, len(got), len(want))
	}
	return numbers
}

// serveHistory serves the agent's API, and returns its address.
func serveHistory(t *testing.T, p *past) string {
	t.Helper()
	s := web.NewServer(web.ServerOptions{Addresses: []string{"127.0.0.1:0"}, API: web.APIOptions{Engine: p.engine}})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addresses()[0].String()
}

// Shows that the local history answers as a real Prometheus that scraped the same agent every 10 s, over two hours with a midnight,
// in which the history's counts begin anew: the queries of a usual dashboard, and all of the README's and of deploy/ whose metrics
// the history has, with classic and with native histograms. Scrapes have the times of their ticks, so two hours take seconds; between
// two ticks both have the same samples in a range.
func TestHistoryAnswersLikePrometheus(t *testing.T) {
	p := newPast(t)
	forms := map[string]*scrapes{"classic": {kind: expfmt.FmtText}, "native": {kind: expfmt.FmtProtoDelim}}
	for range pastTicks {
		o, at := p.tick(t)
		for _, s := range forms {
			s.add(t, o, at)
		}
	}
	agent := serveHistory(t, p)
	all := slices.Concat(readmeQuestions(t), ruleQuestions(t), dashboardQuestions(t))
	for form, s := range forms {
		t.Run(form, func(t *testing.T) {
			t.Parallel() // it mostly waits for scrapes
			target := httptest.NewServer(s)
			defer target.Close()
			// What a server says of its scrapes has today's time. It takes samples that are older by half a block.
			args := []string{"--storage.tsdb.min-block-duration=6d", "--storage.tsdb.max-block-duration=6d"}
			if form == "native" {
				args = append(args, "--enable-feature=native-histograms")
			}
			prometheus := startServer(t, fmt.Sprintf("global: {scrape_interval: 50ms, scrape_timeout: 50ms}\nscrape_configs:\n- job_name: perfagent\n  static_configs: [{targets: [%q]}]\n",
				target.Listener.Addr()), args...)
			end := p.start.Add(pastTicks * 10 * time.Second)
			scraped := question{"all ticks", fmt.Sprintf("timestamp(perfagent_host_cpus @ %d) == %[1]d", end.Unix())}
			if left := prometheus.unanswered([]question{scraped}, servers.Slow(5*time.Minute)); left != nil {
				t.Fatal(left)
			}
			exprs := slices.Clone(red[form])
			for _, q := range all {
				// What takes either form is answered with the native one by the agent, which has both.
				_, native := reads(q.expr)
				if strings.HasPrefix(q.where, "variable") {
					continue
				}
				if inHistory(q.expr) && (form == "native") == native {
					exprs = append(exprs, q.expr)
				}
			}
			rows := 0
			for _, expr := range exprs {
				for _, minutes := range []float64{15, 55, 62.5, 90, 119} {
					if minutes < 60 && strings.Contains(expr, "[1h]") {
						continue // the agent counts a series' first ten seconds, which a Prometheus 2 does not
					}
					// Between two ticks: a range of Prometheus 2 has the sample at its beginning, one of Prometheus 3 has not.
					rows += compare(t, agent, prometheus.address, expr, p.start.Add(time.Duration(minutes*60)*time.Second).Add(5*time.Second))
				}
			}
			for _, expr := range red[form] {
				if !strings.HasPrefix(expr, "topk") && !strings.Contains(expr, "[1h]") { // whose rows come and go; whose ends are read by minutes
					rows += compareRange(t, agent, prometheus.address, expr, p.start.Add(10*time.Minute+35*time.Second), p.start.Add(119*time.Minute))
				}
			}
			t.Logf("%d expressions, %d numbers", len(exprs), rows)
			if rows < 100 {
				t.Error("that is too few to say anything")
			}
		})
	}
}

// Shows that promtool asks the agent as it asks a Prometheus server.
func TestHistoryWithPromtool(t *testing.T) {
	requirePromtool(t)
	p := newPast(t)
	for range 60 {
		p.tick(t)
	}
	agent := "http://" + serveHistory(t, p)
	end := p.start.Add(10 * time.Minute).Format(time.RFC3339)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"instant", "--time=" + end, agent, `sum(rate(http_server_request_duration_seconds_count{http_route="/rare"}[5m]))`}, "{} => 0.2"},
		{[]string{"range", "--start=" + p.start.Add(9*time.Minute).Format(time.RFC3339), "--end=" + end, "--step=15s", agent, `count(http_server_request_duration_seconds_bucket) by (http_route)`}, `{http_route="/cart"} =>`},
		{[]string{"series", "--match=http_server_request_duration_seconds_count", agent}, `http_route="/items/{id}"`},
		{[]string{"labels", agent, "http_route"}, "/cart\n/items/{id}\n/rare"},
	} {
		output, err := exec.Command("promtool", append([]string{"query"}, c.args...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(output), c.want) {
			t.Errorf("promtool query %s: %v\n%s\nwant %s", strings.Join(c.args, " "), err, output, c.want)
		}
	}
}
