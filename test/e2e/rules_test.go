package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

// ownClient shares its connections with no other test: the end of a test server closes those of the default client, also while
// somebody takes one.
func ownClient(t *testing.T) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// steadyLoad requests the paths over and over until the test ends.
func steadyLoad(t *testing.T, s *servers.Server, paths ...string) {
	stop := make(chan struct{})
	var clients sync.WaitGroup
	client := ownClient(t)
	for _, path := range paths {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				response, err := client.Get("http://" + s.Address + path)
				if err != nil {
					t.Error(err)
					return
				}
				response.Body.Close()
			}
		})
	}
	t.Cleanup(func() { close(stop); clients.Wait() })
}

// The rules of deploy/prometheus, in a real Prometheus that scrapes a real agent: all of them evaluate, and what they
// record of a known load is what it should be, from native histograms and from classic ones. Every expression of the
// dashboards is answered, and most have something to show.
func TestE2ERules(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	s := startServer(t, servers.Options{Kind: servers.Go})
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, NoTrace: true})
	rules, err := filepath.Abs("../../deploy/prometheus/perfagent-*.yml")
	if err != nil {
		t.Fatal(err)
	}
	native := startPrometheusOn(t, prometheusOptions{targets: []string{a.Address}, rules: rules, args: []string{"--enable-feature=native-histograms"}})
	classic := startPrometheusOn(t, prometheusOptions{targets: []string{a.Address}, rules: rules})
	steadyLoad(t, s, "/sleep/20", "/sleep/20", "/sleep/20", "/status/500?", "/status/500?")
	for _, c := range []struct {
		histogram   string
		p           prometheus
		p50         [2]float64
		expressions int // that have something to show, at least
	}{
		{"native", native, [2]float64{.0195, .03}, 30},
		{"classic", classic, [2]float64{.01, .05}, 30},
	} {
		t.Run(c.histogram, func(t *testing.T) {
			labels := fmt.Sprintf("{http_route=%q,histogram=%q}", "/sleep/{id}", c.histogram)
			c.p.expect(t, "service_route:http_server_request_duration_seconds:p50_rate5m"+labels, c.p50[0], c.p50[1])
			c.p.expect(t, "service_route:http_server_apdex:rate5m"+labels, .9, 1)
			c.p.expect(t, `service_route:http_server_errors:ratio_rate5m{http_route="/sleep/{id}"}`, 0, 0)
			c.p.expect(t, `service_route:http_server_errors:ratio_rate5m{http_route="/status/{id}"}`, .99, 1)
			c.p.expect(t, `service:http_server_apdex:rate5m{histogram="`+c.histogram+`"} < 0.9`, 0, .9)
			c.p.expect(t, "service:http_server_requests:rate5m", 1, 1e6)
			c.p.expect(t, "instance_service:http_server_queue_time:ratio_rate5m", 0, 1)
			c.p.expect(t, "instance:perfagent_exchanges_seen:rate5m > 0", 1, 1e6)
			c.p.expect(t, "instance:perfagent_exchanges_lost:ratio_rate5m", 0, 0)
			healthyRules(t, c.p)
			answered := answerDashboards(t, c.p)
			t.Logf("%d expressions have something to show", answered)
			if answered < c.expressions {
				t.Errorf("only %d expressions of the dashboards have something to show", answered)
			}
		})
	}
}

// healthyRules fails for a rule whose evaluation failed, or that is not evaluated within twice the longest interval of a group.
func healthyRules(t *testing.T, p prometheus) {
	t.Helper()
	var count int
	var problems []string
	until(servers.Slow(2*time.Minute), func() bool {
		var pending bool
		count, problems, pending = rulesNow(t, p)
		return !pending
	})
	for _, problem := range problems {
		t.Error(problem)
	}
	if count < 20 {
		t.Errorf("only %d rules", count)
	}
}

// rulesNow counts the rules and says which are not well, and whether any of these waits for its first evaluation.
func rulesNow(t *testing.T, p prometheus) (count int, problems []string, pending bool) {
	t.Helper()
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	if err := p.get("/api/v1/rules", &answer); err != nil {
		t.Fatal(err)
	}
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			count++
			if r.Health != "ok" {
				problems = append(problems, fmt.Sprintf("rule %s is %s: %s", r.Name, r.Health, r.LastError))
				pending = pending || r.Health == "unknown"
			}
		}
	}
	return count, problems, pending
}

// answerDashboards asks every expression of every dashboard, and returns how many had an answer that is not empty.
func answerDashboards(t *testing.T, p prometheus) (answered int) {
	t.Helper()
	files, err := filepath.Glob("../../deploy/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	variables := strings.NewReplacer("$__rate_interval", "1m", "$service", ".*", "$route", ".*", "$instance", ".*")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(data, &dashboard); err != nil {
			t.Fatal(err)
		}
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				var answer struct {
					Status, Error string
					Data          struct{ Result []json.RawMessage }
				}
				if err := p.get("/api/v1/query?query="+url.QueryEscape(variables.Replace(target.Expr)), &answer); err != nil {
					t.Fatal(err)
				}
				switch {
				case answer.Status != "success":
					t.Errorf("%s: %s: %s", panel.Title, answer.Error, target.Expr)
				case len(answer.Data.Result) > 0:
					answered++
				default:
					t.Logf("nothing to show: %s", panel.Title)
				}
			}
		}
	}
	return answered
}
