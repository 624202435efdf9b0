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
	return startPrometheusOn(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), []string{a.Address}, args...)
}

// startPrometheusOn starts one that listens on the address and scrapes the targets.
func startPrometheusOn(t *testing.T, address string, targets []string, args ...string) prometheus {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("scrape_configs:\n- job_name: perfagent\n  scrape_interval: 1s\n  static_configs:\n  - targets: [%s]\n", strings.Join(targets, ", "))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("prometheus", append([]string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"),
		"--web.listen-address=" + address}, args...)...)
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
	return prometheus{address, http.DefaultClient}
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

func (p prometheus) query(query string) (float64, error) {
	response, err := p.client.Get("http://" + p.address + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Error string
		Data  struct{ Result []struct{ Value [2]any } }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, fmt.Errorf("%w: %.200s", err, body)
	}
	if len(answer.Data.Result) != 1 {
		return 0, fmt.Errorf("%d results %s", len(answer.Data.Result), answer.Error)
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(text, 64)
}
