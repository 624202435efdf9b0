package web

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/analytics"
)

// tickAfter is how long after a stream's begin the engine ticks, ten seconds after its own: sooner than the time is told without.
const tickAfter = 3500 * time.Millisecond

// event is one of a stream, read.
type event struct {
	name   string
	fields map[string]json.RawMessage
}

// events reads a stream's events.
type events struct {
	t     *testing.T
	lines *bufio.Scanner
}

func (e *events) next() (ev event) {
	e.t.Helper()
	for e.lines.Scan() {
		line := e.lines.Text()
		switch {
		case strings.HasPrefix(line, "event: "):
			ev.name = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			if err := json.Unmarshal([]byte(line[len("data: "):]), &ev.fields); err != nil {
				e.t.Fatalf("%v: %s", err, line)
			}
		case line == "" && ev.name != "":
			return ev
		}
	}
	e.t.Fatalf("the stream ended: %v", e.lines.Err())
	return ev
}

// followEvents opens a stream.
func followEvents(t *testing.T, client *http.Client, base string) *events {
	t.Helper()
	w, err := client.Get(base + "/events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Body.Close() })
	if w.StatusCode != 200 || w.Header.Get("Content-Type") != "text/event-stream" || w.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", w.StatusCode, w.Header)
	}
	lines := bufio.NewScanner(w.Body)
	lines.Buffer(nil, 1<<20)
	return &events{t, lines}
}

// A stream begins with the whole document. A tick of the engine tells what of it is another, and nothing else; alerts that change between two
// ticks are told within a second; where nothing happens the time is told, for longer than any timeout. The last one to leave ends the
// goroutine, which the bubble would miss.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(123456) // ticks are at no whole milliseconds
		engine := analytics.NewEngine(analytics.Options{})
		manager := alert.New(alert.Options{Source: downSource{}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		rules, err := alert.Parse([]alert.File{{Name: "/r.yml", Data: []byte(testRules)}}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		manager.Apply(rules)
		d := &dashboard{PerformanceOptions{Engine: engine}, AgentOptions{Source: engine}, AlertsOptions{Manager: func() *alert.Manager { return manager }}, nil, "1.2.3"}
		client, base := overPipes(t, NewGate(), "", nil, newFeed(d).route())
		time.Sleep(tickPatience - tickAfter) // of the bubble, which takes no time
		stream := followEvents(t, client, base)
		first := stream.next()
		for _, name := range []string{"version", "window", "services", "endpoints", "targets", "health", "alerts", "agent"} {
			if first.name != "snapshot" || first.fields[name] == nil {
				t.Errorf("%s without %s", first.name, name)
			}
		}
		load(engine, 10, "shop", "/", 5, 200)
		time.Sleep(tickAfter)
		engine.Tick()
		began := time.Now()
		tick := stream.next()
		if tick.name != "delta" || !strings.Contains(string(tick.fields["services"]), `"shop"`) || tick.fields["version"] != nil || tick.fields["targets"] != nil {
			t.Errorf("%s %v", tick.name, tick.fields)
		}
		if waited := time.Since(began); waited > lookEvery {
			t.Errorf("a tick was told after %v", waited)
		}
		manager.Evaluate(context.Background(), time.Now().Add(time.Minute)) // when all groups are due
		began = time.Now()
		fires := stream.next()
		if len(fires.fields) != 1 || !strings.Contains(string(fires.fields["alerts"]), `"firing_total":1`) || time.Since(began) > lookEvery {
			t.Errorf("after %v: %v", time.Since(began), fires.fields)
		}
		quietSince := time.Now()
		defer func() {
			if each := time.Since(quietSince) / 200; each < tickPatience-lookEvery {
				t.Errorf("where nothing happens something is told every %v", each)
			}
		}()
		for range 200 {
			began = time.Now()
			if quiet := stream.next(); quiet.fields["time"] == nil || quiet.fields["services"] != nil || time.Since(began) > tickPatience+lookEvery {
				t.Fatalf("after %v: %v", time.Since(began), quiet.fields)
			}
		}
	})
}

// Who comes later begins with what the others know; more than may follow are refused.
func TestEventsFollowers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := analytics.NewEngine(analytics.Options{})
		d := &dashboard{performance: PerformanceOptions{Engine: engine}}
		client, base := overPipes(t, NewGate(), "", nil, newFeed(d).route())
		time.Sleep(tickPatience - tickAfter)
		early := followEvents(t, client, base)
		early.next()
		load(engine, 10, "shop", "/", 5, 200)
		time.Sleep(tickAfter)
		engine.Tick()
		early.next()
		for range streamsEachMax - 1 {
			if first := followEvents(t, client, base).next(); first.name != "snapshot" || !strings.Contains(string(first.fields["services"]), `"shop"`) {
				t.Errorf("%s %s", first.name, first.fields["services"])
			}
		}
		if status, _, _ := ask(t, client, http.MethodGet, base+"/events", nil); status != http.StatusServiceUnavailable {
			t.Errorf("one more: %d", status)
		}
	})
}

// A reader that takes nothing is dropped when its queue is full, and waits for nobody: the others get every event. It can come back.
func TestEventsSlowReader(t *testing.T) {
	f := newFeed(&dashboard{performance: PerformanceOptions{Engine: analytics.NewEngine(analytics.Options{})}})
	follow := func() *follower {
		t.Helper()
		me, snapshot, err := f.follow()
		if err != nil || !strings.HasPrefix(string(snapshot), "event: snapshot\ndata: {") {
			t.Fatalf("%v: %s", err, snapshot)
		}
		return me
	}
	slow, quick := follow(), follow()
	for i := range eventsWaitingMax + 1 {
		f.mu.Lock()
		f.publish([]byte{byte(i)})
		f.mu.Unlock()
		if got := <-quick.events; got[0] != byte(i) {
			t.Fatalf("event %d is %v", i, got)
		}
	}
	n := 0
	for range slow.events { // which ends
		n++
	}
	if n != eventsWaitingMax || len(f.followers) != 1 {
		t.Errorf("%d events, %d followers", n, len(f.followers))
	}
	f.leave(slow)
	again := follow()
	f.leave(again)
	f.leave(quick)
	if len(f.followers) != 0 || f.shown != nil {
		t.Errorf("%d followers, %v", len(f.followers), f.shown)
	}
}

// A client's call stands among the targets; the dashboard's parts are what the paths of their own answer.
func TestDashboardDocument(t *testing.T) {
	c := newClock()
	e := shopEngine(c)
	e.Add(clientExchange())
	c.advance(10 * time.Second)
	e.Tick()
	s := NewServer(ServerOptions{Version: "1.2.3", Performance: performanceOf(e, c), Agent: AgentOptions{Source: e, Now: c.now}})
	var all, summary map[string]json.RawMessage
	get(t, s, "/dashboard?limit=1", &all)
	get(t, s, "/performance/summary?limit=1", &summary)
	for name, value := range summary {
		if string(all[name]) != string(value) {
			t.Errorf("%s: %s, not %s", name, all[name], value)
		}
	}
	var health json.RawMessage
	get(t, s, "/health/performance", &health)
	if string(all["health"]) != strings.TrimSpace(string(health)) {
		t.Errorf("%s, not %s", all["health"], health)
	}
	if want := `"server_address":"stock.example"`; string(all["targets_total"]) != "1" || !strings.Contains(string(all["targets"]), want) {
		t.Errorf("%s: %s", all["targets_total"], all["targets"])
	}
	if string(all["version"]) != `"1.2.3"` || all["alerts"] != nil || !strings.Contains(string(all["agent"]), "not_visible") {
		t.Errorf("%s", all)
	}
}
