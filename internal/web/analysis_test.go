package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/series"
	"github.com/perfagent/perfagent/internal/wire"
)

// analysisWorld is a history that a script has filled.
type analysisWorld struct {
	t       testing.TB
	history *history.History
	server  *Server
	start   time.Time
	signals map[string]*signal
	order   []string
	served  []*servedSignal
	cpu     string // names of signals; "": not known
	memory  string
	disk    string
	gaps    [][2]time.Duration
	options AnalysisOptions
	busy    float64 // seconds of processors
	idle    float64
}

// storeTimeout is how long a tick may take to be stored: an hour of 2,000 endpoints becomes segments meanwhile, on a machine that does
// other things as well.
const storeTimeout = 10 * time.Minute

// signal is a number that changes over time: terms are summed up.
type signal struct {
	base   float64
	slope  float64 // an hour
	steps  map[time.Duration]float64
	wave   float64
	period time.Duration
	noise  float64
	rising map[time.Duration]float64 // slope from a time on
	of     []echo
	values []float64 // by tick
}

// echo is a part of another signal, some time later.
type echo struct {
	name   string
	factor float64
	lag    time.Duration
}

type servedSignal struct {
	service, method, route string
	client                 string // the server's address, where the exchanges are a client's
	rate, ms, errors       string // signals, or numbers
	queue                  string
}

const analysisTick = 10 * time.Second

func newAnalysisWorld(t testing.TB) *analysisWorld {
	w := &analysisWorld{t: t, start: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), signals: map[string]*signal{}}
	w.history = history.Open(history.Options{Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.history.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	w.options.Engine = query.New(query.Options{History: func() *history.History { return w.history }, Log: slog.New(slog.DiscardHandler)})
	return w
}

// serve makes the server; its clock shows the end of what was loaded.
func (w *analysisWorld) serve(length time.Duration) {
	now := w.start.Add(length)
	w.options.Now = func() time.Time { return now }
	w.server = NewServer(ServerOptions{Analysis: w.options})
}

// define reads a signal: a number, and terms such as slope:0.5 (an hour), step:12h:+10, rise:12h:2 (an hour, from then on), wave:5:3h,
// noise:2 (standard deviation) and of:NAME:FACTOR[:LAG].
func (w *analysisWorld) define(name string, terms []string) {
	s := &signal{steps: map[time.Duration]float64{}, rising: map[time.Duration]float64{}}
	for _, term := range terms {
		f := strings.Split(term, ":")
		switch f[0] {
		case "slope":
			s.slope = w.number(f[1])
		case "step":
			s.steps[w.span(f[1])] = w.number(f[2])
		case "rise":
			s.rising[w.span(f[1])] = w.number(f[2])
		case "wave":
			s.wave, s.period = w.number(f[1]), w.span(f[2])
		case "noise":
			s.noise = w.number(f[1])
		case "of":
			o := echo{name: f[1], factor: w.number(f[2])}
			if len(f) > 3 {
				o.lag = w.span(f[3])
			}
			s.of = append(s.of, o)
		default:
			s.base = w.number(term)
		}
	}
	w.signals[name], w.order = s, append(w.order, name)
}

func (w *analysisWorld) number(text string) float64 {
	w.t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *analysisWorld) span(text string) time.Duration {
	w.t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// fill computes the values of all signals.
func (w *analysisWorld) fill(ticks int) {
	r := rand.New(rand.NewPCG(7, 11))
	for _, name := range w.order {
		s := w.signals[name]
		s.values = make([]float64, ticks)
		for i := range s.values {
			at := time.Duration(i) * analysisTick
			v := s.base + s.slope*at.Hours() + s.noise*r.NormFloat64()
			for from, by := range s.steps {
				if at >= from {
					v += by
				}
			}
			for from, by := range s.rising {
				v += by * max(0, (at-from).Hours())
			}
			if s.wave != 0 {
				v += s.wave * math.Sin(2*math.Pi*at.Seconds()/s.period.Seconds())
			}
			for _, o := range s.of {
				v += o.factor * w.signals[o.name].values[max(0, i-int(o.lag/analysisTick))]
			}
			s.values[i] = v
		}
	}
}

// at is a signal at a tick, or the number that stands in its place.
func (w *analysisWorld) at(name string, tick int) float64 {
	if s := w.signals[name]; s != nil {
		return s.values[tick]
	}
	if name == "" {
		return 0
	}
	return w.number(name)
}

// load lets the time pass.
func (w *analysisWorld) load(length time.Duration) {
	ticks := int(length / analysisTick)
	w.fill(ticks)
	owed := make([]float64, 2*len(w.served))
	taken := uint64(0)
	for i := range ticks {
		at := time.Duration(i) * analysisTick
		if w.isGap(at) {
			continue
		}
		seal := &analytics.Seal{From: w.start.Add(at), To: w.start.Add(at + analysisTick)}
		for k, s := range w.served {
			owed[2*k] += max(0, w.at(s.rate, i)) * analysisTick.Seconds()
			n := int(owed[2*k])
			owed[2*k] -= float64(n)
			owed[2*k+1] += float64(n) * w.at(s.errors, i) / 100
			failed := int(owed[2*k+1])
			owed[2*k+1] -= float64(failed)
			if n > 0 {
				seal.Entries = append(seal.Entries, s.sealed(n, failed, w.at(s.ms, i), w.at(s.queue, i)))
			}
		}
		w.history.Consume(seal, w.sample(i))
		if taken++; taken%8 == 0 || i == ticks-1 {
			w.await(taken)
		}
	}
	w.await(taken)
}

func (w *analysisWorld) await(ticks uint64) {
	w.t.Helper()
	for deadline := time.Now().Add(storeTimeout); w.history.Stats().Ticks < ticks; time.Sleep(20 * time.Microsecond) { // polling
		if time.Now().After(deadline) {
			w.t.Fatal("a tick was not stored")
		}
	}
}

func (w *analysisWorld) isGap(at time.Duration) bool {
	for _, g := range w.gaps {
		if at >= g[0] && at < g[1] {
			return true
		}
	}
	return false
}

// sealed is what an endpoint did in a tick: n requests that take from 90 to 110 % of ms, evenly, of which some fail.
func (s *servedSignal) sealed(n, failed int, ms, queue float64) *analytics.Sealed {
	e := &analytics.Sealed{Key: analytics.Key{Role: wire.RoleServer, Service: s.service, Operation: wire.Operation{Verb: s.method, Name: s.route}}}
	if s.client != "" {
		e.Key.Role, e.Key.Name, e.Key.Address, e.Key.Port = wire.RoleClient, "", s.client, 8080
	}
	e.Series = []analytics.Series{{Result: analytics.Result{Outcome: wire.Outcome{Code: 200}, Protocol: "http/1.1"}},
		{Result: analytics.Result{Outcome: wire.Outcome{Code: 503, Class: wire.ClassServerFault, ErrorType: "503"}, Protocol: "http/1.1"}}}
	for i := range n {
		result := 0
		if i < failed {
			result = 1
		}
		share := 0.5
		if n > 1 {
			share = float64(i) / float64(n-1)
		}
		took := max(0.01, ms*(0.9+0.2*share))
		e.Series[result].Duration.Add(int64(took * 1e6))
		if queue > 0 {
			e.Queue.Add(int64(took * queue / 100 * 1e6))
		}
	}
	return e
}

// sample is the host at the end of a tick; nil where nothing of it is known.
func (w *analysisWorld) sample(tick int) *host.Sample {
	if w.cpu+w.memory+w.disk == "" {
		return nil
	}
	s := &host.Sample{Time: w.start.Add(time.Duration(tick+1) * analysisTick), Number: uint64(tick + 1)}
	if w.cpu != "" {
		share := min(1, max(0, w.at(w.cpu, tick)/100))
		w.busy, w.idle = w.busy+2*share*analysisTick.Seconds(), w.idle+2*(1-share)*analysisTick.Seconds()
		s.CPU = &host.CPU{Processors: 2}
		s.CPU.Modes[host.CPUUser].Total, s.CPU.Modes[host.CPUIdle].Total = w.busy, w.idle
	}
	if w.memory != "" {
		used := w.at(w.memory, tick) / 100 * 8e9
		s.Memory = &host.Memory{Total: 8e9, Used: used, Available: 8e9 - used}
	}
	if w.disk != "" {
		used := w.at(w.disk, tick) / 100 * 50e9
		s.Filesystems = []host.Filesystem{{Device: "sda1", Mountpoint: "/", Type: "ext4", Size: 50e9, Used: 5e9, Available: 45e9},
			{Device: "sdb1", Mountpoint: "/data", Type: "ext4", Size: 50e9, Used: used, Available: 50e9 - used}}
	}
	return s
}

// run does what a line of a script says.
func (w *analysisWorld) run(line string) {
	w.t.Helper()
	f := strings.Fields(line)
	switch f[0] {
	case "signal":
		w.define(f[1], f[2:])
	case "endpoint", "target":
		s := &servedSignal{service: f[1], method: f[2], route: f[3]}
		if f[0] == "target" {
			s.client = f[3]
		}
		for _, setting := range f[4:] {
			name, value, _ := strings.Cut(setting, "=")
			*map[string]*string{"rate": &s.rate, "ms": &s.ms, "errors": &s.errors, "queue": &s.queue}[name] = value
		}
		w.served = append(w.served, s)
	case "host":
		for _, setting := range f[1:] {
			name, value, _ := strings.Cut(setting, "=")
			*map[string]*string{"cpu": &w.cpu, "memory": &w.memory, "disk": &w.disk}[name] = value
		}
	case "gap":
		w.gaps = append(w.gaps, [2]time.Duration{w.span(f[1]), w.span(f[2])})
	case "objective":
		o := alert.Objective{Service: f[1], Route: strings.ReplaceAll(f[2], "_", " "), LatencyMS: w.number(f[3]), LatencyPercent: w.number(f[4])}
		w.options.Objectives = func() []alert.ObjectiveView { return []alert.ObjectiveView{{Objective: o, Kind: "latency"}} }
	case "load":
		w.load(w.span(f[1]))
		w.serve(w.span(f[1]))
	default:
		w.t.Fatalf("no script has %q", line)
	}
}

// script runs lines; those that begin with "ask" get an answer, of which each "expect" behind it names a field by its path.
func (w *analysisWorld) script(text string) {
	w.t.Helper()
	var answer any
	asked := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "ask "):
			asked = strings.TrimPrefix(line, "ask ")
			r := w.ask(asked)
			answer = nil
			if err := json.Unmarshal(r.Body.Bytes(), &answer); err != nil || r.Code != http.StatusOK {
				w.t.Errorf("%s: %d %v %s", asked, r.Code, err, r.Body)
			}
		case strings.HasPrefix(line, "expect "):
			if problem := expect(answer, strings.TrimPrefix(line, "expect ")); problem != "" {
				w.t.Errorf("%s: %s", asked, problem)
			}
		default:
			w.run(line)
		}
	}
}

func (w *analysisWorld) ask(parameters string) *httptest.ResponseRecorder {
	r := httptest.NewRecorder()
	w.server.handler.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/performance/analytics?"+strings.ReplaceAll(parameters, " ", "%20"), nil))
	return r
}

// expect compares a field with "PATH is TEXT", "PATH near NUMBER TOLERANCE", "PATH below NUMBER", "PATH above NUMBER" or "PATH says TEXT"; it
// returns what is wrong. Of a list a path has the number of an element, or NAME=VALUE of a field of the one that is meant, or its length (#).
func expect(answer any, text string) string {
	path, rest, _ := strings.Cut(text, " ")
	how, want, _ := strings.Cut(rest, " ")
	got := find(answer, path)
	v, number := got.(float64)
	numbers := strings.Fields(want)
	parse := func(i int) float64 {
		n, err := strconv.ParseFloat(numbers[i], 64)
		if err != nil {
			panic(err)
		}
		return n
	}
	ok := false
	switch how {
	case "is":
		ok = fmt.Sprint(got) == want
	case "near":
		ok = number && math.Abs(v-parse(0)) <= parse(1)
	case "below":
		ok = number && v < parse(0)
	case "above":
		ok = number && v > parse(0)
	case "says":
		ok = strings.Contains(fmt.Sprint(got), want)
	default:
		return "no script says " + text
	}
	if !ok {
		return fmt.Sprintf("%s is %v, expected %s %s", path, got, how, want)
	}
	return ""
}

func find(value any, path string) any {
	for _, name := range strings.Split(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[name]
		case []any:
			value = element(v, name)
		default:
			return nil
		}
	}
	return value
}

func element(all []any, name string) any {
	if name == "#" {
		return float64(len(all))
	}
	if key, want, named := strings.Cut(name, "="); named {
		for _, e := range all {
			if fields, _ := e.(map[string]any); fmt.Sprint(fields[key]) == want {
				return e
			}
		}
		return nil
	}
	if i, err := strconv.Atoi(name); err == nil && i < len(all) {
		return all[i]
	}
	return nil
}

// Runs each script of testdata/analytics: a history is made of signals that a person knows, and every conclusion must be the one that a
// person would draw of them: the slope that was put in, the step, the lag, and no relation of what only shares its load.
func TestAnalysisScripts(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "analytics", "*.txt"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			newAnalysisWorld(t).script(string(text))
		})
	}
}

// Whatever is wrong with a question, the answer is a problem document that says what is possible.
func TestAnalysisMistakes(t *testing.T) {
	w := newAnalysisWorld(t)
	w.run("endpoint shop GET /cart rate=1 ms=20")
	w.run("load 20m")
	for _, c := range []struct {
		parameters string
		status     int
		detail     string
	}{
		{"metric=speed", 400, "is not one of response_time, throughput, error_rate, "},
		{"speed=1", 400, `unknown parameter "speed"; /performance/analytics takes metric, query, window, `},
		{"window=5m", 400, "5 minutes is not between 10 minutes and 400 days"},
		{"window=soon", 400, `cannot parse "soon" to a valid duration`},
		{"from=yesterday", 400, `cannot parse "yesterday" to a valid timestamp`},
		{"from=2026-03-02T00:20:00Z", 400, "0 seconds is not between"},
		{"step=3s", 400, "3 seconds is no multiple of 10 s"},
		{"step=10s&window=24h", 400, "at most 1500 steps"},
		{"metric=response_time&percentile=100", 400, "above 0 and below 100"},
		{"metric=cpu_usage&service=shop&route=/cart", 400, "cpu_usage is not known of a route"},
		{"metric=disk_space_used&service=shop", 400, "known of the whole host only"},
		{"metric=threads", 400, "known of services only"},
		{"metric=saturation&target=db", 400, "not of a target"},
		{"metric=throughput&query=up", 400, "exclude each other"},
		{"query=up&service=shop", 400, "query says itself"},
		{"query=sum(", 400, "unclosed left parenthesis"},
		{"route=GET /a&method=POST", 400, "route says GET, method POST"},
		{"target=db:x", 400, `"x" is no port`},
		{"target=db&route=/a", 400, "exclude each other"},
		{"window=20m&query=http_server_request_duration_seconds_bucket", 422, "the expression has 22 series; put them together, as with sum(…)"},
		{"window=20m&query=sum(rate(http_server_request_duration_seconds[1m]))", 422, "take histogram_quantile"},
		{"series=perhaps", 400, "is not one of yes, no"},
	} {
		r := w.ask(c.parameters)
		var p struct {
			Status int
			Detail string
		}
		if err := json.Unmarshal(r.Body.Bytes(), &p); err != nil || r.Code != c.status || p.Status != c.status || !strings.Contains(p.Detail, c.detail) ||
			r.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, expected %d %s", c.parameters, r.Code, r.Body, c.status, c.detail)
		}
	}
}

// Shows that an answer which takes too long is refused within its time, and says what takes less.
func TestAnalysisTooLong(t *testing.T) {
	w := newAnalysisWorld(t)
	w.script("endpoint shop GET /items rate=1 ms=20\nload 20m")
	w.options.Timeout = time.Nanosecond
	w.serve(20 * time.Minute)
	for _, parameters := range []string{"window=20m", "metric=response_time&window=20m", "query=vector(1)&window=20m"} {
		if got := w.ask(parameters); got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), analysisAdvice) {
			t.Errorf("%s: %d %s", parameters, got.Code, got.Body)
		}
	}
}

// Without a history, and of a service that nobody asked anything, the answer says so and has no figure; and its form is the one that
// /openapi.json describes.
func TestAnalysisUnknown(t *testing.T) {
	w := newAnalysisWorld(t)
	w.run("endpoint shop GET /cart rate=1 ms=20")
	w.run("load 20m")
	w.script(`
ask metric=response_time&service=till&window=20m
expect metrics.0.unknown_reason is no request of it was seen in the 20 minutes
expect metrics.0.statistics.values is 0
expect metrics.0.statistics.mean is <nil>
expect metrics.0.trend is <nil>
ask metric=cpu_usage&window=20m
expect metrics.0.unknown_reason is there is no value in the 20 minutes
expect metrics.0.anomalies_unknown_reason is nobody looks for findings
`)
	nothing := newAnalysisWorld(t)
	nothing.options.Engine = query.New(query.Options{Log: slog.New(slog.DiscardHandler)})
	nothing.serve(0)
	nothing.script(`
ask metric=throughput
expect metrics.0.unknown_reason says there is no local history
expect metrics.0.statistics.values is 0
ask query=vector(1)
expect metrics.0.unknown_reason says there is no local history
ask window=7d
expect metrics.0.unknown_reason says there is no local history
`)
}

// Findings of the subject that is asked for are in the answer, those of others are not; the window is what they are asked for.
func TestAnalysisFindings(t *testing.T) {
	w := newAnalysisWorld(t)
	w.run("endpoint shop GET /cart rate=1 ms=20")
	var from, to time.Time
	w.options.Findings = func(f, t time.Time) (all []*finding.Finding, err error) {
		from, to = f, t
		for _, m := range []finding.Measure{
			{Metric: "response_time", Subject: finding.Subject{Role: "server", Service: "shop", Method: "GET", Route: "/cart"}},
			{Metric: "response_time", Subject: finding.Subject{Role: "server", Service: "till", Method: "GET", Route: "/"}},
			{Metric: "response_time", Subject: finding.Subject{Role: "client", Service: "shop", Address: "db", Port: 5432}},
			{Metric: "cpu_usage"}, {Metric: "cpu_usage", Subject: finding.Subject{Service: "shop"}},
		} {
			all = append(all, &finding.Finding{ID: m.Metric + m.Service + m.Address, Measure: m})
		}
		all[2].Incident = all[1].ID // db is at fault for what till suffers from
		return all, errors.New("findings.jsonl: input/output error")
	}
	w.run("load 20m")
	for parameters, want := range map[string]string{
		"metric=response_time":                          "response_timeshop response_timetill",
		"metric=response_time&service=shop":             "response_timeshop",
		"metric=response_time&route=GET /cart":          "response_timeshop",
		"metric=response_time&route=POST /cart":         "",
		"metric=response_time&target=db":                "response_timeshopdb",
		"metric=response_time&target=db:1&service=shop": "",
		"metric=cpu_usage":                              "cpu_usage",
		"metric=cpu_usage&service=shop":                 "cpu_usageshop",
		"metric=throughput":                             "",
	} {
		var answer analysisJSON
		if err := json.Unmarshal(w.ask(parameters+"&window=20m").Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range answer.Metrics[0].Anomalies {
			got = append(got, f.ID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, expected %s", parameters, got, want)
		}
		incidents := 4 // of the host, the shop (twice), and what till and the shop have to do with
		if answer.IncidentsTotal != incidents || len(answer.Incidents) != incidents || !strings.Contains(strings.Join(answer.Notes, " "), "input/output error") {
			t.Errorf("%s: %d incidents, %v", parameters, answer.IncidentsTotal, answer.Notes)
		}
	}
	if !from.Equal(w.start) || !to.Equal(w.start.Add(20*time.Minute)) {
		t.Errorf("asked for %v to %v", from, to)
	}
}

// An answer in which every part has something has the form that /openapi.json describes.
func TestAnalysisSchema(t *testing.T) {
	w := newAnalysisWorld(t)
	until := w.start.Add(time.Hour)
	w.options.Findings = func(_, _ time.Time) ([]*finding.Finding, error) {
		effect := 12.5
		cart := finding.Measure{Metric: "response_time", Subject: finding.Subject{Role: "server", Service: "shop", Method: "GET", Route: "/cart"}}
		return []*finding.Finding{{ID: "a", Measure: cart, Kind: finding.Anomaly, End: &until, EffectPercent: &effect,
			Phases: []finding.PhaseShift{{Phase: "queue"}}, Causes: []finding.Cause{{Correlation: &effect}}, Until: &finding.Until{Latest: &until}, NextSteps: []string{"wait"}}}, nil
	}
	w.script(`
signal ms 20 slope:2 step:2h:10 noise:1
signal cpu 10 of:ms:1 noise:1
endpoint shop GET /cart rate=5 ms=ms
objective shop GET_/cart 45 95
host cpu=cpu
load 4h
ask metric=response_time&window=4h&service=shop&route=GET /cart
expect metrics.0.trend.direction is rising
expect metrics.0.correlations.0.metric is cpu_usage
expect metrics.0.correlations.0.relationship is positive
expect metrics.0.limits.0.limit is objective
expect metrics.0.anomalies.# is 1
`)
	var document struct {
		Components struct{ Schemas map[string]map[string]any }
	}
	get(t, w.server, "/openapi.json", &document)
	for _, parameters := range []string{"metric=response_time&window=4h&service=shop&route=GET%20/cart", "window=4h"} {
		var answer map[string]any
		get(t, w.server, "/performance/analytics?"+parameters, &answer)
		for _, problem := range mismatches(answer, document.Components.Schemas["Analysis"], document.Components.Schemas, "Analysis") {
			t.Errorf("%s: %s", parameters, problem)
		}
	}
}

// Shows which step a window gets: always one that makes 60 to 300 points from ten minutes on, at multiples of it.
func TestAnalysisSteps(t *testing.T) {
	now := time.Date(2026, 3, 2, 11, 59, 59, 0, time.UTC)
	o := AnalysisOptions{Now: func() time.Time { return now }}
	for window := 10 * time.Minute; window <= 400*24*time.Hour; window += window / 7 {
		q, err := o.question(map[string]string{"window": strconv.Itoa(int(window.Seconds())), "metric": "throughput"})
		if err != nil {
			t.Fatal(err)
		}
		if n := q.steps(); n < 59 || n > analysisPoints || q.from.UnixMilli()%q.step.Milliseconds() != 0 || now.Sub(q.to) >= q.step || now.Before(q.to) {
			t.Errorf("%v: %d steps of %v from %v to %v", window, n, q.step, q.from, q.to)
		}
	}
	for window, want := range map[string]time.Duration{"1h": 30 * time.Second, "24h": 5 * time.Minute, "7d": time.Hour, "30d": 3 * time.Hour} {
		if q, err := o.question(map[string]string{"window": window}); err != nil || q.step != want {
			t.Errorf("%s: %v %v, expected %v", window, q.step, err, want)
		}
	}
}

// A target is an address of any kind, with a port or without.
func TestAnalysisTargets(t *testing.T) {
	for text, want := range map[string]finding.Subject{
		"db": {Address: "db"}, "db:80": {Address: "db", Port: 80}, "10.0.0.1:443": {Address: "10.0.0.1", Port: 443}, "::1": {Address: "::1"}, "fe80::1:80": {Address: "fe80::1:80"},
		"[::1]": {Address: "::1"}, "[::1]:80": {Address: "::1", Port: 80},
	} {
		address, port, err := splitTarget(text)
		if err != nil || address != want.Address || port != want.Port {
			t.Errorf("%s: %q %d %v", text, address, port, err)
		}
	}
	for _, text := range []string{"db:", "db:0", "db:65536", "[::1]:", "[::1", "[::1]x:80"} {
		if address, port, err := splitTarget(text); err == nil {
			t.Errorf("%s: %q %d", text, address, port)
		}
	}
}

// A value that no sum can hold is missing, whatever an expression makes; what is almost as large is a number of JSON still.
func TestAnalysisHugeValues(t *testing.T) {
	w := newAnalysisWorld(t)
	w.run("endpoint shop GET /cart rate=1 ms=20")
	w.run("load 20m")
	w.script(`
ask query=vector(1e307)&window=20m
expect metrics.0.unknown_reason is there is no value in the 20 minutes
ask query=vector(1e99)*time()&window=20m
expect metrics.0.unknown_reason is there is no value in the 20 minutes
ask query=1e80*vector(time()-1772409600)&window=20m
expect metrics.0.trend.direction is rising
ask query=vector(NaN)&window=20m
expect metrics.0.statistics.values is 0
`)
}

// Numbers and times are written as people write them.
func TestAnalysisWords(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1: "1", 0.01234: "0.0123", 12.345: "12.3", 123.4: "123", 123456.7: "123457", -0.5: "-0.5", 99.96: "100", 1e-9: "1e-09", 1e20: "1e+20"} {
		if got := series.NumberText(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0 seconds", time.Second: "1 second", 90 * time.Minute: "1 hour and 30 minutes", 7 * 24 * time.Hour: "7 days",
		25*time.Hour + time.Second: "1 day and 1 hour", 5 * time.Minute: "5 minutes"} {
		if got := series.SpanText(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
