package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/wire"
	"github.com/perfagent/perfagent/test/servers"
)

// site is an agent without a kernel side: the real exporter of an engine to which every scrape brings some exchanges.
type site struct {
	mu      sync.Mutex
	engine  *analytics.Engine
	metrics *export.Metrics
	scrapes uint64
}

func startSite(t *testing.T, classic export.Classic) *httptest.Server {
	t.Helper()
	s := &site{engine: analytics.NewEngine(analytics.Options{})}
	o := s.options()
	o.Classic = classic
	var err error
	s.metrics, err = export.NewMetrics(export.MetricsOptions{CollectorOptions: o})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.scrapes++
		s.work()
		if err := s.metrics.Scrape(w, r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// options are those of an agent all of whose parts have something to say.
func (s *site) options() export.CollectorOptions {
	left := .5
	some := func(names ...string) map[string]uint64 {
		all := map[string]uint64{}
		for _, name := range names {
			all[name] = s.scrapes
		}
		return all
	}
	return export.CollectorOptions{
		Source: s.engine, Classic: export.ClassicAll, Build: export.BuildInfo{Version: "1", Revision: "2", GoVersion: "3"},
		Probes: export.ProbeStatus{
			Backend: func() string { return "tracepoint" },
			Probes: func() []export.ProbeState {
				return []export.ProbeState{{Probe: "p", Backend: "tracepoint", Attached: true}}
			},
			Maps: func() []export.MapState {
				return []export.MapState{{Name: "conns", Entries: 9, MaxEntries: 10, Bytes: 1}}
			},
			Undecoded: func() []analytics.Undecoded {
				return []analytics.Undecoded{{Service: "shop", Reason: "tls", Connections: 1}}
			},
		},
		Reload: func() (bool, time.Time) { return true, time.Unix(1, 0) },
		Web: func() export.WebConnections {
			return export.WebConnections{Open: 1, Closed: []export.ClosedConnections{{Reason: "idle", Count: s.scrapes}}}
		},
		Exports: func() []export.ExportCount {
			return []export.ExportCount{{Result: "success", Count: s.scrapes}, {Result: "rejected", Count: s.scrapes}}
		},
		Host: s.host, Witness: s.witness,
		History: func() *export.HistoryState {
			return &export.HistoryState{Persistent: true, Ticks: s.scrapes, Dropped: s.scrapes, Damaged: []export.HistoryDamage{{Part: "head", Count: s.scrapes}},
				Tiers: []export.HistoryTier{{Name: "10s", Bytes: 1, Segments: 1, Oldest: time.Unix(1, 0)}}}
		},
		Rules: func() *export.RulesState {
			return &export.RulesState{Groups: []export.RuleGroupState{{Key: "f.yml;g", Rules: 3, Evaluations: 9 * s.scrapes, Failures: s.scrapes, Iterations: s.scrapes, Last: time.Unix(1, 0)}},
				Objectives: []export.ObjectiveState{{Labels: map[string]string{"service_name": "shop", "objective": "latency"}, BudgetLeft: &left, BurnRates: map[string]float64{"1h": 2}}}}
		},
		Notify: func() *export.NotifyState {
			return &export.NotifyState{RemediesFailed: s.scrapes, Remedies: some("run"), Receivers: []export.NotifyReceiver{{Receiver: "chat", Integration: "slack", Delivered: s.scrapes,
				AttemptsFailed: 2 * s.scrapes, Failed: some("rejected"), Dropped: some("queue_full"), Queue: 1, QueueAge: time.Minute}}}
		},
		Findings: func() *export.FindingsState {
			labels := map[string]string{"service_name": "shop", "metric": "error_rate", "severity": "error"}
			return &export.FindingsState{Findings: s.scrapes, Open: []map[string]string{labels}, Scores: []export.AnomalyScore{{Labels: map[string]string{"service_name": "shop"}, Value: 2}}}
		},
		Parts: export.PartsState{
			EventLog: func() *export.EventLogState {
				return &export.EventLogState{Writable: true, Lines: some("exchange"), Dropped: some("write")}
			},
			Redis: func() *export.RedisState {
				return &export.RedisState{Up: true, Published: some("success"), Alerts: some("success")}
			},
			Recoveries: func() []export.Recovery { return []export.Recovery{{Part: "redis"}} },
		},
	}
}

// work is what happens between two scrapes: requests of both roles, some of which fail, and a bit of everything that the agent
// counts.
func (s *site) work() {
	for i := range 40 {
		ex := wire.Exchange{Role: wire.RoleServer, Protocol: "http/1.1", Operation: wire.Operation{Verb: "GET", Name: "/items/{id}"}, Service: "shop",
			Arrived: 1, Read: 1 + 2e6, Responded: 1 + int64(i+3)*1e7, Finished: 2 + int64(i+3)*1e7, RequestSize: 10, ResponseSize: 1000, Outcome: wire.Outcome{Code: 200}}
		if i%10 == 0 {
			ex.Outcome = wire.Outcome{Code: 500, Class: wire.ClassServerFault, ErrorType: "500"}
		}
		s.engine.Add(&ex)
		ex.Role, ex.Host, ex.Remote = wire.RoleClient, []byte("stock.example:80"), netip.MustParseAddrPort("192.0.2.1:80")
		s.engine.Add(&ex)
	}
	s.engine.SetActive(map[string]int64{"shop": 1})
	s.engine.ParseError("http/1.1", "head", 1)
	s.engine.Lose(wire.LostQueueFull, 1)
}

func (s *site) total(perScrape float64) host.Counter {
	return host.Counter{Total: perScrape * float64(s.scrapes)}
}

func (s *site) host() *host.Sample {
	cpu := &host.CPU{Processors: 2}
	for m := range cpu.Modes {
		cpu.Modes[m].Counter = s.total(.1)
	}
	stalled := &host.ResourcePressure{Some: host.Stall{Seconds: s.total(.5)}, Full: &host.Stall{Seconds: s.total(.2)}}
	group := host.CgroupStats{Path: "/shop", CPULimit: 1, CPUSeconds: s.total(.5), Periods: s.total(10), ThrottledPeriods: s.total(5), ThrottledSeconds: s.total(.2),
		OOMKills: s.total(1), Tasks: 9, TasksLimit: 10}
	shop := host.Service{Name: "shop", CPUSeconds: s.total(.5), ResidentBytes: 1 << 20, Threads: 4, OpenFiles: 9, OpenFilesUsed: .9, Cgroups: []host.CgroupStats{group},
		Processes: []host.Process{{PID: 1, StartSeconds: float64(s.scrapes / 8), OpenFiles: 9, OpenFilesMax: 10}}}
	disk := host.Filesystem{Device: "/dev/sda1", Mountpoint: "/", Type: "ext4", Size: 1 << 30, Available: float64(1<<29 - s.scrapes), Files: 100, FilesFree: 50}
	return &host.Sample{Time: time.Now(), Number: s.scrapes, CPU: cpu, Memory: &host.Memory{Total: 4, Used: 3, Available: 1}, Paging: &host.Paging{OOMKills: s.total(1)},
		Pressure: host.Pressure{CPU: stalled, Memory: stalled, IO: stalled}, TCP: &host.TCP{ListenOverflows: s.total(1)},
		Filesystems: []host.Filesystem{disk}, Services: []host.Service{shop}}
}

func (s *site) witness() *export.HostStats {
	waits := export.Latency{Bounds: []float64{.001, .002}, Buckets: []uint64{s.scrapes, s.scrapes, 0}, Sum: .002 * float64(s.scrapes)}
	overflows := s.scrapes
	return &export.HostStats{RunQueue: &waits, Unattributed: &export.TCPEvents{}, ListenOverflows: &overflows, Ports: []export.ListenPort{{Port: 80, Drops: s.scrapes}},
		Disks: []export.DiskStats{{Device: "sda", Operation: "read", Latency: waits}}, Services: []export.ServiceStats{
			{Service: "shop", RunQueue: &waits, RTT: waits, Connect: waits, TCP: export.TCPEvents{Retransmits: s.scrapes}}}}
}

// question is a query that somebody is told to ask.
type question struct{ where, expr string }

var readmeRow = regexp.MustCompile("(?m)^\\| [^|]+ \\| `(.*?)`")

// section returns what stands below a heading of the README.
func section(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("the README has no %s", heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

// readmeConfig returns the configuration of the README as it stands, for another target and with rules.
func readmeConfig(t *testing.T, target, rules string) string {
	t.Helper()
	_, rest, _ := strings.Cut(section(t, "Prometheus"), "```yaml\n")
	config, _, found := strings.Cut(rest, "```")
	if !found || strings.Count(config, "127.0.0.1:9464") != 1 {
		t.Fatalf("the README's configuration is\n%s", config)
	}
	config = strings.Replace(config, "127.0.0.1:9464", target, 1)
	return fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\n%s", rules, config)
}

func readmeQuestions(t *testing.T) (all []question) {
	t.Helper()
	for _, row := range readmeRow.FindAllStringSubmatch(section(t, "Prometheus"), -1) {
		all = append(all, question{"README", row[1]})
	}
	if len(all) < 5 {
		t.Fatalf("only %d queries in the README", len(all))
	}
	return all
}

// A comparison keeps what is beyond a limit: without it an alert's expression has a row for all that it looks at. Nor can a test wait
// for what was a day ago.
var (
	comparison = regexp.MustCompile(`\s+(>=|>|<|==)\s+-?[0-9.]+(e\+?[0-9]+)?(\s+\*\s+[0-9.]+)?`)
	unless     = regexp.MustCompile(`\bunless\b`)
	offset     = regexp.MustCompile(` offset \w+`)
)

// withoutLimits is an alert's expression without what keeps it from having rows.
func withoutLimits(expr string) string {
	return offset.ReplaceAllString(unless.ReplaceAllString(comparison.ReplaceAllString(expr, ""), "and"), "")
}

// ruleQuestions are the expressions of all rules, and what they record.
func ruleQuestions(t *testing.T) (all []question) {
	t.Helper()
	for _, name := range yamlFiles(t, prometheusDir) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var file ruleFile
		if err := yaml.Unmarshal(data, &file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, g := range file.Groups {
			for _, r := range g.Rules {
				if r.Alert != "" {
					all = append(all, question{r.Alert, withoutLimits(r.Expr)})
					continue
				}
				labels := ""
				if form := r.Labels["histogram"]; form != "" {
					labels = fmt.Sprintf("{histogram=%q}", form)
				}
				all = append(all, question{r.Record, r.Expr}, question{"recorded", r.Record + labels})
			}
		}
	}
	return all
}

func dashboardQuestions(t *testing.T) (all []question) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(grafanaDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatal(err)
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				all = append(all, question{p.Title, variables.Replace(target.Expr)})
			}
		}
		for _, v := range d.Templating.List {
			if found := labelValues.FindStringSubmatch(v.Definition); found != nil {
				all = append(all, question{"variable " + v.Name, variables.Replace(found[1])})
			}
		}
	}
	return all
}

// server is a Prometheus of the test's own.
type server struct {
	address string
	process *servers.Process
}

// prometheusBinary is the one that the environment names, else the installed one.
func prometheusBinary() string {
	if name := os.Getenv("PERFAGENT_TEST_PROMETHEUS"); name != "" {
		return name
	}
	return "prometheus"
}

// nativeHistograms has a configuration scrape native histograms as the README says: by a key of the job since 3.8, by a flag before.
func nativeHistograms(t *testing.T, config string) (changed string, args []string) {
	t.Helper()
	if versionOf(t, prometheusBinary()) < 3008 {
		return config, []string{"--enable-feature=native-histograms"}
	}
	const job = "  - job_name: perfagent\n"
	if strings.Count(config, job) != 1 {
		t.Fatalf("the README's configuration is\n%s", config)
	}
	return strings.Replace(config, job, job+"    scrape_native_histograms: true\n", 1), nil
}

// startServer starts one with a configuration. It is skipped where none is installed, unless all tools are expected.
func startServer(t *testing.T, config string, args ...string) *server {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &server{address: freeAddress(t)}
	cmd := exec.Command(prometheusBinary(), append([]string{"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"),
		"--web.listen-address=" + s.address}, args...)...)
	var err error
	if s.process, err = servers.StartProcess(cmd, filepath.Join(dir, "log")); errors.Is(err, servers.ErrNotInstalled) && os.Getenv("PERFAGENT_TEST_PARTIAL") != "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.process.Log())
		}
		if err := s.process.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// rows returns how many rows a query has.
func (s *server) rows(expr string) (int, error) {
	response, err := http.Get("http://" + s.address + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, fmt.Errorf("%w: %.100s", err, body)
	}
	if answer.Status != "success" {
		return 0, errors.New(answer.Error)
	}
	return len(answer.Data.Result), nil
}

// unanswered polls until every question has rows, and returns those that have none in the end.
func (s *server) unanswered(all []question, patience time.Duration) (left []string) {
	deadline := time.Now().Add(patience)
	for len(all) > 0 && time.Now().Before(deadline) {
		left = left[:0]
		all = slices.DeleteFunc(all, func(q question) bool {
			n, err := s.rows(q.expr)
			if err == nil && n > 0 {
				return true
			}
			left = append(left, fmt.Sprintf("%s: %d rows, %v: %s", q.where, n, err, q.expr))
			return false
		})
		if len(all) > 0 {
			time.Sleep(200 * time.Millisecond) // polling with a deadline
		}
	}
	if len(all) == 0 {
		return nil
	}
	return left
}

// askedOf tells whether a question concerns a server with one form of histograms: those that read just one form concern just
// servers that have it. All of the README's concern both.
func (q question) askedOf(form string) bool {
	reads := map[string]bool{
		"classic": strings.Contains(q.expr, `histogram="classic"`) || strings.Contains(q.expr, "_bucket:"),
		"native":  strings.Contains(q.expr, `histogram="native"`),
	}
	metrics, _ := references(q.expr)
	for _, name := range metrics {
		for _, f := range analytics.Families {
			switch rest, found := strings.CutPrefix(name, f.Name); {
			case found && rest == "":
				reads["native"] = true
			case found:
				reads["classic"] = true
			}
		}
	}
	return q.where == "README" || reads["classic"] == reads["native"] || reads[form]
}

// Everything that users are told to ask has an answer where there is traffic: each query of the README, under its own
// configuration, of the rules and of the dashboards, from a real Prometheus with classic histograms and with native ones.
func TestQueries(t *testing.T) {
	rules, err := filepath.Abs(filepath.Join(prometheusDir, "perfagent-*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"classic", "native"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			target := startSite(t, export.ClassicDurations)
			config, args := readmeConfig(t, strings.TrimPrefix(target.URL, "http://"), rules), []string(nil)
			if form == "native" {
				config, args = nativeHistograms(t, config)
			}
			s := startServer(t, config, args...)
			var asked, others []question
			for _, q := range slices.Concat(readmeQuestions(t), ruleQuestions(t), dashboardQuestions(t)) {
				if q.askedOf(form) {
					asked = append(asked, q)
				} else {
					others = append(others, q)
				}
			}
			t.Logf("%d questions, %d more of the other form", len(asked), len(others))
			if len(asked) < 120 || len(others) > 25 {
				t.Errorf("%d questions, %d of the other form", len(asked), len(others))
			}
			for _, q := range s.unanswered(asked, servers.Slow(time.Minute)) {
				t.Error(q)
			}
			for _, q := range others { // valid all the same
				if n, err := s.rows(q.expr); err != nil || n != 0 {
					t.Errorf("%s: %d rows, %v: %s", q.where, n, err, q.expr)
				}
			}
		})
	}
}
