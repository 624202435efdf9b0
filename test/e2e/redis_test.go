package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/servers"
)

// startRedis starts a redis-server at a port; its end is the caller's, or the test's.
func startRedis(t *testing.T, port int) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	if err := cmd.Start(); errors.Is(err, exec.ErrNotFound) && os.Getenv("PERFAGENT_TEST_PARTIAL") != "" {
		cancel()
		t.Skip(err)
	} else if err != nil {
		cancel()
		t.Fatal(err)
	}
	end = func() { cancel(); _ = cmd.Wait() }
	t.Cleanup(end)
	if !until(visibleTimeout, func() bool { _, err := redisGet(port, "none"); return err == nil }) {
		t.Fatal("redis-server does not listen")
	}
	return end
}

// redisGet asks for a key; "" where there is none.
func redisGet(port int, key string) (string, error) {
	c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key)
	r := bufio.NewReader(c)
	head, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "$")))
	if err != nil || n < 0 {
		return "", err
	}
	body := make([]byte, n)
	_, err = io.ReadFull(r, body)
	return string(body), err
}

// What the summary says is in Redis, also after a server that vanished has come back; the agent goes on meanwhile, says what is wrong,
// and that it is over. Its own connection to a port that it watches is reported nowhere.
func TestE2ERedis(t *testing.T) {
	t.Parallel()
	s := startServer(t, servers.Options{Kind: servers.Go})
	port := freePort(t)
	end := startRedis(t, port)
	a := startAgent(t, agent.Options{Ports: []int{s.Port, port}, Args: []string{fmt.Sprintf("--export.redis=redis://127.0.0.1:%d", port), "--export.redis-interval=1s"}})
	b := newBook(t, a)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	published := func(want uint64) func() bool {
		return func() bool {
			var summary, service struct {
				Exchanges uint64 `json:"exchanges"`
			}
			whole, err := redisGet(port, "perfagent:"+host+":summary")
			if err != nil || json.Unmarshal([]byte(whole), &summary) != nil {
				return false
			}
			one, err := redisGet(port, "perfagent:"+host+":service:goserver")
			return err == nil && json.Unmarshal([]byte(one), &service) == nil && summary.Exchanges == want && service.Exchanges == want
		}
	}
	b.fast(s, 101)
	b.check()
	if !until(visibleTimeout, published(101)) {
		t.Error("the summary is not in Redis")
	}
	end()
	metric := func(name string, want float64, labels ...string) func() bool {
		return func() bool { m, err := a.Metrics(); return err == nil && m.Sum(name, labels...) == want }
	}
	if !until(visibleTimeout, metric("perfagent_redis_up", 0)) {
		t.Error("the agent does not know that Redis is away")
	}
	if health, err := a.Get("/monitoring/health"); err != nil || !strings.Contains(health, "nothing is published to Redis") {
		t.Errorf("%s, %v", health, err)
	}
	b.fast(s, 13)
	b.check()
	startRedis(t, port)
	if !until(visibleTimeout, published(114)) {
		t.Error("the summary is not in the Redis that came back")
	}
	if !until(visibleTimeout, metric("perfagent_recoveries_total", 1, "part", "redis")) {
		t.Error("the agent does not say that Redis is back")
	}
	for _, e := range a.Exchanges() {
		if e.PID == a.PID() {
			t.Errorf("the agent's own: %+v", e)
		}
	}
	if m, err := a.Metrics(); err != nil || m.Sum("perfagent_undecoded_connections", "service_name", "perfagent") != 0 {
		t.Errorf("the agent's own connection is counted, %v", err)
	}
	b.settle(s)
	balance(t, a, b)
}
