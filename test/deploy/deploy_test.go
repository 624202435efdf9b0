// Package deploy tests the files below deploy/ with the tools that will read them, and against what the agent really
// exports.
package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"go.yaml.in/yaml/v3"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/wire"
	"github.com/perfagent/perfagent/test/agent"
)

const (
	prometheusDir = "../../deploy/prometheus"
	grafanaDir    = "../../deploy/grafana"
)

// promtool runs it and fails where it finds fault.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, output)
	}
}

func requirePromtool(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err == nil {
		return
	} else if os.Getenv("PERFAGENT_TEST_PARTIAL") != "" {
		t.Skip(err)
	} else {
		t.Fatal(err)
	}
}

// versionOf returns the version of a program of Prometheus', 2.42 as 2042. One that was built without a version is taken for a new one.
func versionOf(t *testing.T, program string) int {
	t.Helper()
	output, err := exec.Command(program, "--version").CombinedOutput()
	found := regexp.MustCompile(`version (\d+)\.(\d+)`).FindSubmatch(output)
	if err != nil {
		t.Fatalf("%s: %v: %s", program, err, output)
	}
	if found == nil {
		return math.MaxInt
	}
	major, _ := strconv.Atoi(string(found[1]))
	minor, _ := strconv.Atoi(string(found[2]))
	return 1000*major + minor
}

// The configuration and the rules are valid, and the rules compute what their tests expect.
func TestPrometheusFiles(t *testing.T) {
	requirePromtool(t)
	promtool(t, "check", "config", filepath.Join(prometheusDir, "prometheus.yml"))
	rules, tests := yamlFiles(t, prometheusDir), yamlFiles(t, filepath.Join(prometheusDir, "tests"))
	rules = slices.DeleteFunc(rules, func(name string) bool { return filepath.Base(name) == "prometheus.yml" })
	if len(rules) == 0 || len(tests) == 0 {
		t.Fatalf("%d files with rules, %d with tests", len(rules), len(tests))
	}
	promtool(t, append([]string{"check", "rules"}, rules...)...)
	for _, name := range tests {
		t.Run(filepath.Base(name), func(t *testing.T) {
			// Older ones have no notation for native histograms. The end-to-end tests load the rules into a server.
			if strings.Contains(name, "native") && versionOf(t, "promtool") < 2048 {
				t.Skip("promtool is older than 2.48")
			}
			promtool(t, "test", "rules", name)
		})
	}
}

func yamlFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// exported is what the agent has on /metrics when everything occurs.
type exported struct{ metrics, labels map[string]bool }

func agentMetrics(t *testing.T) exported {
	t.Helper()
	engine := analytics.NewEngine(analytics.Options{})
	server := wire.Exchange{Role: wire.RoleServer, Protocol: "http/1.1", Operation: wire.Operation{Verb: "GET", Name: "/"}, Service: "s", Namespace: "n",
		Arrived: 1, Read: 2, Responded: 3, Finished: 4, RequestSize: 1, ResponseSize: 1, Outcome: wire.Outcome{Code: 500, Class: wire.ClassServerFault, ErrorType: "500"}}
	client := server
	client.Role, client.Host = wire.RoleClient, []byte("h.example:80")
	client.Remote = netip.MustParseAddrPort("192.0.2.1:80")
	engine.Add(&server)
	engine.Add(&client)
	engine.SetActive(map[string]int64{"s": 1})
	engine.ParseError("http/1.1", "head", 1)
	o := (&site{engine: engine}).options()
	metrics, err := export.NewMetrics(export.MetricsOptions{CollectorOptions: o})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	if err := metrics.Scrape(w, httptest.NewRequest("GET", "/metrics", nil)); err != nil {
		t.Fatal(err)
	}
	samples, err := agent.ParseMetrics(w.Body.String())
	if err != nil {
		t.Fatal(err)
	}
	samples = append(samples, hostMetrics(t)...)
	// What Prometheus itself adds.
	all := exported{map[string]bool{"up": true, "scrape_duration_seconds": true}, map[string]bool{"instance": true, "job": true, "__name__": true}}
	for _, s := range samples {
		all.metrics[s.Name] = true
		if family, ok := strings.CutSuffix(s.Name, "_count"); ok {
			all.metrics[family] = true // the native histogram
		}
		for label := range s.Labels {
			all.labels[label] = true
		}
	}
	return all
}

// hostMetrics are those of the host's resources, as the exporter's own test expects them, and of what the kernel side sees of
// it.
func hostMetrics(t *testing.T) agent.Metrics {
	t.Helper()
	text, err := os.ReadFile("../../internal/export/testdata/host.txt")
	if err != nil {
		t.Fatal(err)
	}
	samples, err := agent.ParseMetrics(string(text))
	if err != nil {
		t.Fatal(err)
	}
	latency := export.Latency{Bounds: []float64{1}, Buckets: []uint64{1, 1}}
	overflows := uint64(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(export.NewCollector(export.CollectorOptions{Source: analytics.NewEngine(analytics.Options{}), Witness: func() *export.HostStats {
		return &export.HostStats{RunQueue: &latency, Disks: []export.DiskStats{{Device: "d", Operation: "read", Latency: latency}},
			Services:     []export.ServiceStats{{Service: "s", RTT: latency, Connect: latency, RunQueue: &latency}},
			Unattributed: &export.TCPEvents{}, Ports: []export.ListenPort{{}}, ListenOverflows: &overflows}
	}}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var witnessed strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&witnessed, f); err != nil {
			t.Fatal(err)
		}
	}
	more, err := agent.ParseMetrics(witnessed.String())
	if err != nil {
		t.Fatal(err)
	}
	return append(samples, more...)
}

func (e exported) check(t *testing.T, where, expr string) {
	t.Helper()
	metrics, labels := references(expr)
	if len(metrics) == 0 && !strings.HasPrefix(expr, "vector(") {
		t.Errorf("%s: no metric in %s", where, expr)
	}
	for _, name := range metrics {
		if !e.metrics[name] {
			t.Errorf("%s: the agent has no %s: %s", where, name, expr)
		}
	}
	for _, name := range labels {
		if !e.labels[name] {
			t.Errorf("%s: the agent has no label %s: %s", where, name, expr)
		}
	}
}

type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Record      string            `yaml:"record,omitempty"`
	Alert       string            `yaml:"alert,omitempty"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

// Every metric and label that a rule reads is one of the agent's, or of a rule's; and every alert has a severity and a
// summary.
func TestRulesReadWhatExists(t *testing.T) {
	known := agentMetrics(t)
	var all []rule
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
			all = append(all, g.Rules...)
		}
	}
	for _, r := range all {
		if r.Record != "" {
			known.metrics[r.Record] = true
		}
		for label := range r.Labels {
			known.labels[label] = true
		}
	}
	alerts := 0
	for _, r := range all {
		known.check(t, r.Record+r.Alert, r.Expr)
		if r.Alert == "" {
			continue
		}
		alerts++
		if r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
			t.Errorf("%s: no severity or summary", r.Alert)
		}
	}
	if len(all) < 20 || alerts < 5 {
		t.Errorf("only %d rules, %d of them alerts", len(all), alerts)
	}
}

// Shows that the alerts of a server are the agent's built-in ones: the file is what `make generate-rules` writes.
func TestAlertsAreBuiltIn(t *testing.T) {
	var want strings.Builder
	if err := new(alert.Builtin).WriteServerRules(&want); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(prometheusDir, "perfagent-alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want.String() {
		t.Error("perfagent-alerts.yml is not what the built-in rules are: make generate-rules")
	}
}

type dashboard struct {
	UID           string
	Title         string
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct{ Name, Type, Definition string }
	}
}

type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ RefID, Expr, LegendFormat string }
	Panels  []panel
}

// variables of Grafana, with what stands in for them where an expression is checked.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$__interval", "1m", "$__range", "1h",
	"$service", ".*", "$route", ".*", "$instance", ".*")

var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

// Dashboards are JSON of Grafana's present schema: panels have ids of their own and do not overlap, every expression is
// valid PromQL, and reads metrics and labels that the agent has.
func TestDashboards(t *testing.T) {
	requirePromtool(t)
	known := agentMetrics(t)
	names, err := filepath.Glob(filepath.Join(grafanaDir, "*.json"))
	if err != nil || len(names) < 2 {
		t.Fatalf("%v, %v", names, err)
	}
	uids := map[string]string{}
	var rules []rule
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if other := uids[d.UID]; d.UID == "" || d.Title == "" || other != "" || d.SchemaVersion < 39 {
			t.Errorf("%s: uid %q (also of %q), title %q, schema %d", name, d.UID, other, d.Title, d.SchemaVersion)
		}
		uids[d.UID] = name
		checkVariables(t, name, d, known)
		for _, expr := range checkPanels(t, name, d, known) {
			rules = append(rules, rule{Record: fmt.Sprintf("panel:%d", len(rules)), Expr: expr})
		}
	}
	if len(rules) < 40 {
		t.Errorf("only %d expressions", len(rules))
	}
	checkExpressions(t, rules)
}

// checkExpressions lets promtool parse them.
func checkExpressions(t *testing.T, rules []rule) {
	t.Helper()
	type group struct {
		Name  string `yaml:"name"`
		Rules []rule `yaml:"rules"`
	}
	data, err := yaml.Marshal(map[string][]group{"groups": {{"dashboards", rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboards.yml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

func checkVariables(t *testing.T, name string, d dashboard, known exported) {
	t.Helper()
	hasSource := false
	for _, v := range d.Templating.List {
		if v.Type == "datasource" {
			hasSource = v.Name == "datasource"
			continue
		}
		found := labelValues.FindStringSubmatch(v.Definition)
		if found == nil || !known.labels[found[2]] {
			t.Errorf("%s: variable %s: %s", name, v.Name, v.Definition)
			continue
		}
		for _, quoted := range regexp.MustCompile(`__name__=~"([^"]*)"`).FindAllStringSubmatch(found[1], -1) {
			for _, metric := range strings.Split(quoted[1], "|") {
				known.check(t, name+" variable "+v.Name, metric)
			}
		}
		if metrics, _ := references(found[1]); len(metrics) > 0 {
			known.check(t, name+" variable "+v.Name, found[1])
		}
		if variables.Replace("$"+v.Name) == "$"+v.Name {
			t.Errorf("%s: variable %s is unknown to this test", name, v.Name)
		}
	}
	if !hasSource {
		t.Errorf("%s: the data source cannot be chosen", name)
	}
}

// checkPanels returns the panels' expressions.
func checkPanels(t *testing.T, name string, d dashboard, known exported) (expressions []string) {
	t.Helper()
	var ids []int
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		where := fmt.Sprintf("%s: panel %q", filepath.Base(name), p.Title)
		if p.ID == 0 || slices.Contains(ids, p.ID) || p.Title == "" || p.Type == "" {
			t.Errorf("%s: id %d, type %q", where, p.ID, p.Type)
		}
		ids = append(ids, p.ID)
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s: at %+v", where, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s overlaps %q", where, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if (p.Type == "row") != (len(p.Targets) == 0) || len(p.Panels) > 0 {
			t.Errorf("%s: a %s with %d queries and %d panels", where, p.Type, len(p.Targets), len(p.Panels))
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if target.RefID == "" || refs[target.RefID] {
				t.Errorf("%s: query %q", where, target.RefID)
			}
			refs[target.RefID] = true
			expr := variables.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s: an unknown variable in %s", where, expr)
			}
			known.check(t, where, expr)
			for _, found := range legendLabel.FindAllStringSubmatch(target.LegendFormat, -1) {
				aggregatedAway := strings.Contains(expr, " by (") && !regexp.MustCompile(`\b`+found[1]+`\b`).MatchString(expr)
				if !known.labels[found[1]] || aggregatedAway {
					t.Errorf("%s: legend %s: %s", where, target.LegendFormat, expr)
				}
			}
			expressions = append(expressions, expr)
		}
	}
	return expressions
}

// The dashboards are written the way that Grafana exports them, so that a change made there is a small difference here.
func TestDashboardsAreIndented(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(grafanaDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, data, "", "  "); err != nil || !bytes.Equal(bytes.TrimSpace(indented.Bytes()), bytes.TrimSpace(data)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
