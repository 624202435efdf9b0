package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

// prometheus is a Prometheus server of the test's own.
type prometheus struct {
	address string
	client  *http.Client
}

// startPrometheus starts one that scrapes one agent.
func startPrometheus(t *testing.T, a *agent.Agent, args ...string) prometheus {
	t.Helper()
	return startPrometheusOn(t, prometheusOptions{targets: []string{a.Address}, args: args})
}

type prometheusOptions struct {
	address string // to listen on; empty: a free port
	targets []string
	rules   string // glob of rule files; empty: none
	args    []string
}

func startPrometheusOn(t *testing.T, o prometheusOptions) prometheus {
	t.Helper()
	if o.address == "" {
		o.address = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global:\n  evaluation_interval: 1s\nrule_files: [%q]\nscrape_configs:\n- job_name: perfagent\n  scrape_interval: 1s\n"+
		"  static_configs:\n  - targets: [%s]\n", o.rules, strings.Join(o.targets, ", "))
	if o.rules == "" {
		text = strings.Replace(text, `[""]`, "[]", 1)
	}
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("prometheus", append([]string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"),
		"--web.listen-address=" + o.address}, o.args...)...)
	process, err := servers.StartProcess(cmd, filepath.Join(dir, "output"))
	if errors.Is(err, servers.ErrNotInstalled) && os.Getenv("PERFAGENT_TEST_PARTIAL") != "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(process.Log())
		}
		if err := process.Stop(); err != nil {
			t.Error(err)
		}
	})
	return prometheus{o.address, ownClient(t)}
}

// expect polls an instant query until its one value is between low and high.
func (p prometheus) expect(t *testing.T, query string, low, high float64) {
	t.Helper()
	var got float64
	var err error
	ok := until(servers.Slow(30*time.Second), func() bool {
		got, err = p.query(query)
		return err == nil && got >= low && got <= high
	})
	if !ok {
		t.Errorf("%s: expected %g to %g, got %g, %v", query, low, high, got, err)
	}
}

// query returns the one value of an instant query.
func (p prometheus) query(query string) (float64, error) {
	var answer struct {
		Error string
		Data  struct{ Result []struct{ Value [2]any } }
	}
	if err := p.get("/api/v1/query?query="+url.QueryEscape(query), &answer); err != nil {
		return 0, err
	}
	if len(answer.Data.Result) != 1 {
		return 0, fmt.Errorf("%d results %s", len(answer.Data.Result), answer.Error)
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(text, 64)
}

// get decodes an answer of the API.
func (p prometheus) get(path string, answer any) error {
	response, err := p.client.Get("http://" + p.address + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("%w: %.200s", err, body)
	}
	return nil
}
