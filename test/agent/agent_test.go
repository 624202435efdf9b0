package agent

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary doubles as an agent that speaks the contract and observes nothing.
func TestMain(m *testing.M) {
	if os.Getenv("PERFAGENT_STANDIN") != "" {
		if err := standIn(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func standIn(args []string) error {
	flags := map[string]string{}
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		flags[name] = value
	}
	if flags["--fail"] != "" {
		return fmt.Errorf("told to fail")
	}
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `perfagent_exchanges_total{role="server"} 7`)
	})
	http.HandleFunc("/trace", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, `{"request_id":"a-1","role":"server","status_code":200,"duration_ns":0}`)
		fmt.Fprintln(w, `{"dropped":3}`)
		fmt.Fprintln(w, `no JSON`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for network, address := range map[string]string{"tcp": flags["--web.listen-address"], "unix": flags["--web.socket"]} {
		listener, err := net.Listen(network, address)
		if err != nil {
			return err
		}
		go http.Serve(listener, nil)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	if err := os.WriteFile(flags["--ready-file"], nil, 0o644); err != nil {
		return err
	}
	<-stop
	return nil
}

// An agent is started, followed, scraped, measured and stopped, and its files are gone.
func TestAgent(t *testing.T) {
	t.Setenv("PERFAGENT_BINARY", "/proc/self/exe")
	a, err := Start(Options{Ports: []int{1}, Env: []string{"PERFAGENT_STANDIN=1"}})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); len(a.BadLines()) == 0 && time.Now().Before(deadline); {
		time.Sleep(pollInterval)
	}
	e := a.Exchanges()
	if len(e) != 1 || e[0].RequestID != "a-1" || e[0].DurationNS == nil || e[0].QueueNS != nil || a.Missed() != 3 || len(a.BadLines()) != 1 {
		t.Errorf("trace: %+v, missed %d, bad %q", e, a.Missed(), a.BadLines())
	}
	if m, err := a.Metrics(); err != nil || m.Sum("perfagent_exchanges_total") != 7 {
		t.Errorf("metrics: %v, %v", m, err)
	}
	if r, err := a.Resources(); err != nil || r.Resident < 1<<20 {
		t.Errorf("resources: %+v, %v", r, err)
	}
	if objects, err := a.KernelObjects(); err != nil || len(objects) != 0 {
		t.Errorf("kernel objects: %v, %v", objects, err)
	}
	if err := a.Stop(); err != nil {
		t.Error(err)
	}
	if a.ExitCode() != 0 {
		t.Errorf("exit code %d: %s", a.ExitCode(), a.Log())
	}
	if _, err := os.Stat(a.dir); !os.IsNotExist(err) {
		t.Errorf("files are left: %v", err)
	}
}

// An agent that does not start is an error with its own words in it.
func TestAgentFails(t *testing.T) {
	t.Setenv("PERFAGENT_BINARY", "/proc/self/exe")
	_, err := Start(Options{Ports: []int{1}, Args: []string{"--fail=1"}, Env: []string{"PERFAGENT_STANDIN=1"}})
	if err == nil || !strings.Contains(err.Error(), "told to fail") {
		t.Errorf("got %v", err)
	}
	if _, err := Start(Options{}); err == nil {
		t.Error("an agent that watches everything was started")
	}
}
