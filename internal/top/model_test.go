package top

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
)

func names(m *model) (all []string) {
	for _, r := range m.rows {
		if r.problem != nil {
			all = append(all, r.problem.Kind+" "+r.problem.Name)
			continue
		}
		all = append(all, r.entry.name())
	}
	return all
}

// Shows the order of each column, both ways: what is not known is least, names begin with a.
func TestSorting(t *testing.T) {
	long := "/api/v2/customers/{id}/addresses/billing/history/invoices/overview"
	for _, c := range []struct {
		view, sort string
		reverse    bool
		first      string
		second     string
	}{
		{"endpoints", "", false, "/orders/{id}", long}, {"endpoints", "errors", false, "/items/{id}", long}, {"endpoints", "p99", false, "/items/{id}", long},
		{"endpoints", "route", false, "/\u05d0", "/api/v2"}, {"endpoints", "route", true, "/orders", "/orders"}, {"endpoints", "level", false, "/items/{id}", long},
		{"endpoints", "queue", false, "/orders/{id}", ""}, {"endpoints", "service", true, "/", "/"},
		{"services", "cpu", false, "shop", "stock"}, {"services", "memory", false, "stock", "shop"}, {"services", "", true, "stock", "shop"},
		{"calls", "p99", false, "stock.internal:8081", "[2001:db8::5]:443"}, {"calls", "target", false, "[2001", "stock"},
		{"problems", "", false, "alert HighErrorRate", "finding spike"}, {"problems", "age", false, "finding spike", "alert HighErrorRate"},
	} {
		o := options()
		o.View, o.Sort, o.Reverse = c.view, c.sort, c.reverse
		got := names(modelOf(t, o, 80, 24, 0))
		if len(got) < 2 || !strings.HasPrefix(got[0], c.first) || !strings.HasPrefix(got[1], c.second) {
			t.Errorf("%s by %q (reverse %v): %q", c.view, c.sort, c.reverse, got)
		}
	}
}

// Shows that s, < and > go through all columns, that r turns the order, and that the title says which it is.
func TestSortKeys(t *testing.T) {
	m := modelOf(t, options(), 80, 24, 0)
	began := m.orders[0].by
	for range columnsOf(0) {
		press(m, "s")
		if c := columnsOf(0)[m.orders[0].by]; !strings.Contains(m.screen(), c.title+m.arrow(c, m.orders[0])) {
			t.Errorf("no title says that %s is sorted by:\n%s", c.name, m.screen())
		}
	}
	if m.orders[0].by != began {
		t.Error("not all columns are in turn")
	}
	first := names(m)[0]
	press(m, ">", "<", "r")
	if got := names(m); got[len(got)-1] != first || !strings.Contains(m.screen(), "REQ/S▲") {
		t.Errorf("reversed: %q", got)
	}
}

// Shows the filter as it is typed: a regular expression, a text that is none, kept with Enter, taken back with Esc.
func TestFilterKeys(t *testing.T) {
	m := modelOf(t, options(), 80, 24, 0)
	press(m, "/", "O", "R", "D", "E", "R", "|", "i", "t", "e", "m")
	if got := names(m); len(got) != 3 {
		t.Errorf("%q", got)
	}
	press(m, "backspace", "q", "enter") // ...|iteq matches nothing, orders are left
	if got := names(m); len(got) != 2 || m.editing || !strings.Contains(m.screen(), "2 of 6 shown") {
		t.Errorf("%q\n%s", got, m.screen())
	}
	press(m, "/", "x", "esc")
	if m.filter != "ORDER|iteq" || len(m.rows) != 2 {
		t.Errorf("%q", m.filter)
	}
	press(m, "/", "ctrl+u", "{", "i", "d", "}", "/", "[", "enter") // no expression, and nowhere a text
	if len(m.rows) != 0 || !strings.Contains(m.screen(), "Nothing matches") {
		t.Errorf("%q\n%s", names(m), m.screen())
	}
	press(m, "esc")
	if len(m.rows) != 6 || m.filter != "" {
		t.Errorf("%q", m.filter)
	}
	m.Update(tea.PasteMsg{Content: "x"})
	if m.filter != "" {
		t.Error("what is pasted is typed where no filter is")
	}
}

// Shows that the cursor stays with its row when the order changes, and where it was when the row goes; that it moves by rows and pages.
func TestCursor(t *testing.T) {
	m := modelOf(t, options(), 80, 24, 0)
	press(m, "down", "j")
	chosen := m.rows[m.cursor[0].index].key
	press(m, "r")
	if got := m.rows[m.cursor[0].index].key; got != chosen {
		t.Errorf("on %q, not %q", got, chosen)
	}
	for _, c := range []struct {
		key  string
		want int
	}{{"home", 0}, {"up", 0}, {"end", 5}, {"down", 5}, {"pgup", 0}, {"pgdown", 5}, {"g", 0}, {"G", 5}, {"k", 4}} {
		if press(m, c.key); m.cursor[0].index != c.want {
			t.Errorf("%s: on %d, not %d", c.key, m.cursor[0].index, c.want)
		}
	}
	many := fixture(t, func(d map[string]any) {
		e := d["endpoints"].([]any)
		for i := range 95 {
			next := make(map[string]any)
			for k, v := range e[0].(map[string]any) {
				next[k] = v
			}
			next["http_route"] = "/n" + itoa(100+i)
			e = append(e, next)
		}
		d["endpoints"], d["endpoints_total"] = e, len(e)
	})
	m.Update(sampleMsg{many})
	press(m, "home", "pgdown", "pgdown")
	if c := m.cursor[0]; c.index != 2*m.page() || c.top > c.index || c.index >= c.top+m.page() {
		t.Errorf("%+v with pages of %d", c, m.page())
	}
	if !strings.Contains(m.screen(), "\x1b[7m> ") {
		t.Error("the cursor is out of sight")
	}
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 12})
	if !strings.Contains(m.screen(), "\x1b[7m> ") {
		t.Error("the cursor is out of sight on a smaller terminal")
	}
}

// Shows the views by their keys, from the details as well, and that Esc and a key in quick succession are both.
func TestViewKeys(t *testing.T) {
	m := modelOf(t, options(), 80, 24, 0)
	for _, c := range []struct {
		key  string
		view int
	}{{"2", 1}, {"4", 3}, {"tab", 0}, {"shift+tab", 3}, {"1", 0}} {
		if press(m, c.key); m.view != c.view {
			t.Errorf("%s: %s", c.key, Views[m.view])
		}
	}
	press(m, "enter")
	if m.detail == "" || !strings.Contains(m.screen(), "GET /orders/{id} of shop") {
		t.Errorf("no details:\n%s", m.screen())
	}
	press(m, "alt+4")
	if m.detail != "" || m.view != viewProblems {
		t.Error("Esc and 4 are not both")
	}
	press(m, "?", "j", "q")
	if m.help || m.view != viewProblems {
		t.Error("q does not close the help")
	}
}

// Shows the details: what was collected, the probable cause, and that they stay where the row has gone.
func TestDetails(t *testing.T) {
	o := options()
	o.Sort = "errors"
	m := modelOf(t, o, 100, 60, 9)
	press(m, "enter")
	for _, want := range []string{"GET /items/{id} of stock", "queue - %, processing 90.0 %, transfer 10.0 %", "2xx 80.0 %, 5xx 10.0 %, none 10.0 %", "▁▂▃▄▅▆▇█",
		"The last 1m 30s", "probable cause", "throttled: 64 % of the periods", "processors 88.1 % of one", "next step", "critical!", "firing alert HighErrorRate"} {
		if !strings.Contains(strings.Join(strings.Fields(m.screen()), " "), want) {
			t.Errorf("no %q in:\n%s", want, m.screen())
		}
	}
	next := fixture(t, nil)
	next.Endpoints = next.Endpoints[:1]
	next.Window.To = next.Window.To.Add(time.Minute)
	m.Update(sampleMsg{next})
	if s := m.screen(); !strings.Contains(s, "not in the table any more") || !strings.Contains(s, "GET /items/{id} of stock") {
		t.Errorf("%s", s)
	}
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 12})
	press(m, "G")
	bottom := m.screen()
	press(m, "g")
	if bottom == m.screen() || !strings.Contains(m.screen(), "more lines below") {
		t.Error("the details cannot be scrolled")
	}
}

// Shows that a paused picture stands still, says so, and goes on with all that came meanwhile.
func TestPause(t *testing.T) {
	m := modelOf(t, options(), 80, 24, 0)
	press(m, "p")
	still := m.screen()
	for i := range 3 {
		next := fixture(t, func(d map[string]any) { d["throughput_rps"] = 777 })
		next.Window.To = next.Window.To.Add(time.Duration(i+1) * 10 * time.Second)
		m.Update(sampleMsg{next})
	}
	if m.screen() != still || !strings.Contains(still, "PAUSED") {
		t.Errorf("%s", m.screen())
	}
	press(m, "space")
	if s := m.screen(); !strings.Contains(s, "777 req/s") || strings.Contains(s, "PAUSED") {
		t.Errorf("%s", s)
	}
	if got := len(m.past[m.rows[0].key].rate); got != 4 {
		t.Errorf("%d points, not 4", got)
	}
}

// Shows that an agent that is gone is said to be, for how long and why, that it is asked again, and that its return is seen.
func TestAgentGone(t *testing.T) {
	m := modelOf(t, options(), 80, 24, 0)
	m.Update(askMsg{})
	_, again := m.Update(goneMsg{errors.New("refused\x1b[2J")})
	m.now = func() time.Time { return fixtureTime.Add(75 * time.Second) }
	if s := m.screen(); again == nil || !strings.Contains(s, `AGENT GONE for 1m 15s, trying again: refused\x1b[2J`) || !strings.Contains(s, "figures of 12:00:05") {
		t.Errorf("%s", s)
	}
	checkSize(t, "gone", m.screen(), 80, 24)
	if _, again = m.Update(sampleMsg{fixture(t, nil)}); again == nil || strings.Contains(m.screen(), "GONE") {
		t.Errorf("%s", m.screen())
	}
}

// Shows that w asks for the next window, with graphs of its own, and that an answer for the window before is not taken.
func TestWindowKey(t *testing.T) {
	m := modelOf(t, options(), 80, 24, 3)
	m.client = clientOf(t, fakeAgent(t, nil))
	m.asking = true
	if press(m, "w"); m.window != "5m" || len(m.past) != 0 || !strings.Contains(m.screen(), "asking for 5m") {
		t.Errorf("%s", m.screen())
	}
	_, ask := m.Update(sampleMsg{fixture(t, nil)}) // of 1m
	answer, ok := ask().(sampleMsg)
	if !ok || answer.sample.Window.Name != "5m" {
		t.Fatalf("%+v", answer)
	}
	m.Update(answer)
	if !strings.Contains(m.screen(), "last 1m 0s") { // what the fixture covers of five minutes
		t.Errorf("%s", m.screen())
	}
}

// Shows which keys end and suspend.
func TestEndKeys(t *testing.T) {
	for name, want := range map[string]tea.Msg{"q": tea.QuitMsg{}, "ctrl+c": tea.QuitMsg{}, "ctrl+z": tea.SuspendMsg{}} {
		if end := press(modelOf(t, options(), 80, 24, 0), name); end == nil || !reflect.DeepEqual(end(), want) {
			t.Errorf("%s does not", name)
		}
	}
	m := modelOf(t, options(), 80, 24, 0)
	if end := press(m, "/", "q"); end != nil || m.filter != "q" {
		t.Error("q ends while a filter is typed")
	}
	if end := press(m, "ctrl+c"); end == nil {
		t.Error("Ctrl-C does not while a filter is typed")
	}
}

// broken fails once it was drawn.
type broken struct {
	tea.Model
	drawn chan struct{}
}

func (b broken) Init() tea.Cmd {
	size := func() tea.Msg { return tea.WindowSizeMsg{Width: 80, Height: 24} } // nothing is drawn where there is no room
	return tea.Batch(size, func() tea.Msg {
		select {
		case <-b.drawn:
		case <-time.After(20 * time.Second): // what draws nothing has failed as well, and ends
			return tea.QuitMsg{}
		}
		panic("on purpose")
	})
}
func (b broken) Update(tea.Msg) (tea.Model, tea.Cmd) { return b, nil }
func (b broken) View() tea.View {
	v := tea.NewView("shown")
	v.AltScreen = true
	return v
}

// screenWriter tells when something was shown.
type screenWriter struct {
	bytes.Buffer
	drawn chan struct{}
	once  sync.Once
}

func (w *screenWriter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("shown")) {
		w.once.Do(func() { close(w.drawn) })
	}
	return w.Buffer.Write(p)
}

// Shows that a failure of the program's own gives the screen back, and is an error.
func TestPanicRestores(t *testing.T) {
	out := &screenWriter{drawn: make(chan struct{})}
	o := options()
	o.Output, o.Environment = out, []string{"TERM=xterm-256color"}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // what draws nothing, or goes on after a panic, would wait for ever
	defer cancel()
	err := interact(ctx, o, broken{drawn: out.drawn})
	if err == nil || !strings.Contains(err.Error(), "the display failed") {
		t.Errorf("%v", err)
	}
	on, off := strings.LastIndex(out.String(), "\x1b[?1049h"), strings.LastIndex(out.String(), "\x1b[?1049l")
	if on < 0 || on > off || strings.LastIndex(out.String(), "\x1b[?25h") < strings.LastIndex(out.String(), "\x1b[?25l") {
		t.Errorf("%q", out.String())
	}
}

// Shows what a row's past is: a point a tick, zero where it was away, forgotten when it does not come back, and its trend.
func TestPast(t *testing.T) {
	all := make(map[string]*past)
	s := fixture(t, nil)
	key := keyOf(viewEndpoints, &s.Endpoints[0])
	gone := keyOf(viewEndpoints, &s.Endpoints[1])
	remember(all, s, 1)
	less := *s
	less.Endpoints = s.Endpoints[2:]
	remember(all, &less, 2)
	less.Endpoints = s.Endpoints[:1]
	remember(all, &less, 3)
	if got := all[key].rate; !reflect.DeepEqual(got, []float64{120, 0, 120}) {
		t.Errorf("%v", got)
	}
	for tick := 4; tick < pointsMax+50; tick++ {
		remember(all, &less, tick)
	}
	if len(all[key].rate) != pointsMax || all[gone] != nil {
		t.Errorf("%d points, %v", len(all[key].rate), all[gone])
	}
	for _, c := range []struct {
		points []float64
		want   string
	}{{[]float64{1, 1, 2}, " "}, {[]float64{1, 1, 2, 2}, "↑"}, {[]float64{4, 4, 2, 2}, "↓"}, {[]float64{4, 4, 4.5, 4.5}, "→"}, {[]float64{0, 0, 1, 1}, "↑"}, {[]float64{0, 0, 0, 0}, "→"}} {
		if got := trend(c.points, &unicodeGlyphs); got != c.want {
			t.Errorf("%v: %q", c.points, got)
		}
	}
}

// Shows that a question that a key asks takes the place of the one that was to come: however often w is pressed, one timer is left.
func TestOneTimer(t *testing.T) {
	m := modelOf(t, options(), 80, 24, 0)
	m.client = clientOf(t, fakeAgent(t, nil))
	m.Init()
	old := askMsg{m.turn}
	for range 5 {
		m.Update(press(m, "w")())
	}
	if _, ask := m.Update(old); ask != nil {
		t.Error("a timer of before the key asks as well")
	}
	if _, ask := m.Update(askMsg{m.turn}); ask == nil {
		t.Error("the timer that was set last does not ask")
	}
}

// Shows that what is pasted into the filter ends with its first line, and is bounded.
func TestFilterPaste(t *testing.T) {
	m := modelOf(t, options(), 80, 24, 0)
	press(m, "/")
	m.Update(tea.PasteMsg{Content: "orders\r\nrm -rf /\n"})
	if m.filter != "orders" || len(m.rows) == 0 {
		t.Errorf("%q leaves %d rows", m.filter, len(m.rows))
	}
	m.Update(tea.PasteMsg{Content: strings.Repeat("x", 1<<20)})
	if len(m.filter) != filterMax {
		t.Errorf("%d characters", len(m.filter))
	}
	checkSize(t, "pasted", m.screen(), 80, 24)
}
