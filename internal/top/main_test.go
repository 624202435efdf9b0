package top

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
)

var update = flag.Bool("update", false, "write the golden files")

var fixtureTime = time.Date(2026, 11, 30, 12, 0, 5, 0, time.UTC)

func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

// fakeAgent serves the fixture as an agent would; change may alter its document.
func fakeAgent(t *testing.T, change func(document map[string]any)) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/dashboard":
			var d map[string]any
			if err := json.Unmarshal(read(t, "dashboard.json"), &d); err != nil {
				t.Error(err)
			}
			d["window"].(map[string]any)["name"] = r.URL.Query().Get("window")
			if change != nil {
				change(d)
			}
			_ = json.NewEncoder(w).Encode(d)
		case "/api/v1/query":
			fmt.Fprint(w, answerTo(r.URL.Query().Get("query")))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// answerTo is what the history knows: of two endpoints, one of them without a queue.
func answerTo(query string) string {
	const of = `{"metric":{"service_name":%q,"http_request_method":"GET","http_route":%q,%q:%q},"value":[1,%q]}`
	var all []string
	add := func(service, route, label, value, v string) {
		all = append(all, fmt.Sprintf(of, service, route, label, value, v))
	}
	if strings.Contains(query, "phase_duration") {
		add("shop", "/orders/{id}", "phase", "queue", "1")
		add("shop", "/orders/{id}", "phase", "processing", "2")
		add("shop", "/orders/{id}", "phase", "transfer", "1")
		add("stock", "/items/{id}", "phase", "processing", "9")
		add("stock", "/items/{id}", "phase", "transfer", "1")
	} else {
		add("stock", "/items/{id}", "http_response_status_code", "200", "7")
		add("stock", "/items/{id}", "http_response_status_code", "204", "1")
		add("stock", "/items/{id}", "http_response_status_code", "503", "1")
		add("stock", "/items/{id}", "http_response_status_code", "", "1")
	}
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(all, ",") + `]}}`
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// clientOf reads from a server.
func clientOf(t *testing.T, server *httptest.Server) *Client {
	t.Helper()
	c, err := NewURLClient(server.URL, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fixture is the sample of the fake agent, read at a time that does not change.
func fixture(t *testing.T, change func(document map[string]any)) *sample {
	t.Helper()
	s, err := clientOf(t, fakeAgent(t, change)).read(context.Background(), "1m", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.at = fixtureTime
	return s
}

func options() *Options {
	return &Options{Host: "web1", View: "endpoints", Window: "1m", Interval: time.Second, NoColor: true}
}

// modelOf shows the fixture on a terminal of a size, after as many earlier ticks as given, in which rates rose.
func modelOf(t *testing.T, o *Options, columns, rows, ticks int) *model {
	t.Helper()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	s := fixture(t, nil)
	s.Window.To = s.Window.To.Add(-time.Duration(ticks) * 10 * time.Second)
	m := newModel(context.Background(), o, nil, s)
	for i := range ticks {
		next := fixture(t, nil)
		next.Window.To = next.Window.To.Add(-time.Duration(ticks-1-i) * 10 * time.Second)
		for j := range next.Endpoints {
			*next.Endpoints[j].ThroughputRPS *= 1 + float64(i)
		}
		m.Update(sampleMsg{next})
	}
	m.now = func() time.Time { return fixtureTime }
	m.Update(tea.WindowSizeMsg{Width: columns, Height: rows})
	return m
}

// press types keys, by their names as bubbletea writes them, or as single characters.
func press(m *model, names ...string) tea.Cmd {
	special := map[string]tea.KeyPressMsg{
		"enter": {Code: tea.KeyEnter}, "esc": {Code: tea.KeyEscape}, "tab": {Code: tea.KeyTab}, "shift+tab": {Code: tea.KeyTab, Mod: tea.ModShift},
		"up": {Code: tea.KeyUp}, "down": {Code: tea.KeyDown}, "pgup": {Code: tea.KeyPgUp}, "pgdown": {Code: tea.KeyPgDown},
		"home": {Code: tea.KeyHome}, "end": {Code: tea.KeyEnd}, "backspace": {Code: tea.KeyBackspace}, "space": {Code: tea.KeySpace, Text: " "},
		"ctrl+c": {Code: 'c', Mod: tea.ModCtrl}, "ctrl+z": {Code: 'z', Mod: tea.ModCtrl}, "ctrl+u": {Code: 'u', Mod: tea.ModCtrl},
		"alt+4": {Code: '4', Mod: tea.ModAlt},
	}
	var last tea.Cmd
	for _, name := range names {
		key, ok := special[name]
		if !ok {
			key = tea.KeyPressMsg{Code: []rune(name)[0], Text: name}
		}
		_, last = m.Update(key)
	}
	return last
}
