package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

// A services file names a server by its port, in exchanges and in what is told of its resources; a new file counts from its
// reload on, and a bad one, which the answer names with its line, changes nothing.
func TestE2EServicesFile(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	name := filepath.Join(t.TempDir(), "services")
	rules := func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rules(fmt.Sprintf("# ours\nshop port=%d\n", s.Port))
	a := startAgent(t, agent.Options{Ports: []int{s.Port}, Args: []string{"--services.file=" + name, "--web.enable-lifecycle"}})
	reload := func() int {
		t.Helper()
		response, err := http.Post("http://"+a.Address+"/-/reload", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	expect := func(path, want string) {
		t.Helper()
		get(t, s, 3, func(int) string { return path })
		var got []string
		if !until(servers.Slow(20*time.Second), func() bool {
			got = nil
			for _, e := range a.Exchanges() {
				if e.Role == "server" && e.Path == path {
					got = append(got, e.Service)
				}
			}
			return len(got) == 3
		}) || strings.Join(got, " ") != strings.Join([]string{want, want, want}, " ") {
			t.Errorf("%s: services %q, want %q", path, got, want)
		}
		if !until(servers.Slow(20*time.Second), func() bool {
			metrics, err := a.Metrics()
			if err != nil {
				return false
			}
			for _, m := range metrics {
				if m.Name == "perfagent_service_processes" && m.Labels["service_name"] == want {
					return true
				}
			}
			return false
		}) {
			t.Errorf("no resources of the service %q", want)
		}
	}
	expect("/first", "shop")
	rules("till executable=*\n")
	if status := reload(); status != http.StatusOK {
		t.Errorf("reload: status %d", status)
	}
	expect("/second", "till")
	rules("till executable=*\nbad prot=1\n")
	if status := reload(); status == http.StatusOK {
		t.Error("a bad file was accepted")
	}
	expect("/third", "till")
}
