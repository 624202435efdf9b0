package top

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

// checkGolden compares with a file below testdata, which -update writes.
func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, name+".txt"); got != string(want) {
		t.Errorf("%s differs:\n%s\nwant:\n%s", name, got, want)
	}
}

// Shows every view, the details and the help on terminals of two sizes, and that each screen is as large as its terminal.
func TestScreens(t *testing.T) {
	for _, size := range []struct {
		name          string
		columns, rows int
	}{{"80x24", 80, 24}, {"120x40", 120, 40}} {
		for _, c := range []struct {
			name string
			keys []string
		}{
			{"endpoints", nil}, {"services", []string{"2"}}, {"calls", []string{"3"}}, {"problems", []string{"4"}},
			{"detail", []string{"down", "down", "enter"}}, {"finding", []string{"4", "down", "enter"}}, {"help", []string{"?"}},
			{"filter", []string{"/", "s", "h", "o", "p"}},
		} {
			m := modelOf(t, options(), size.columns, size.rows, 9)
			press(m, c.keys...)
			screen := m.screen()
			checkSize(t, c.name, screen, size.columns, size.rows)
			checkGolden(t, c.name+"-"+size.name, trimmed(screen))
		}
	}
}

// plainText takes away the attributes that screens without colours have.
func plainText(s string) string {
	for _, code := range []string{"\x1b[1m", "\x1b[7m", "\x1b[m"} {
		s = strings.ReplaceAll(s, code, "")
	}
	return s
}

// trimmed is a screen as text, without the blanks at the ends of lines.
func trimmed(screen string) string {
	var b strings.Builder
	for line := range strings.Lines(plainText(screen) + "\n") {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return b.String()
}

func checkSize(t *testing.T, name, screen string, columns, rows int) {
	t.Helper()
	lines := strings.Split(plainText(screen), "\n")
	if len(lines) != rows {
		t.Errorf("%s has %d lines, not %d", name, len(lines), rows)
	}
	for _, line := range lines {
		if width(line) > columns {
			t.Errorf("%s: %d columns, not %d: %q", name, width(line), columns, line)
		}
	}
	for _, r := range plainText(screen) {
		if r != '\n' && (r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || strings.ContainsRune("\u202e\u05d0\u05d1", r)) {
			t.Errorf("%s has %q", name, r)
		}
	}
}

// Shows that no size, view or key breaks a screen: every line fits, and there are as many as there is room for.
func TestEverySizeFits(t *testing.T) {
	m := modelOf(t, options(), 80, 24, 9)
	for _, keys := range [][]string{nil, {"2"}, {"3"}, {"4"}, {"1", "enter"}, {"esc", "end", "enter"}, {"esc", "4", "enter"}, {"esc", "2", "enter"}, {"?"}} {
		press(m, keys...)
		for columns := 1; columns <= 200; columns += 3 {
			for _, rows := range []int{1, 2, 5, 11, 12, 13, 24, 60} {
				m.width, m.height = columns, rows
				m.place()
				lines := strings.Split(plainText(m.screen()), "\n")
				if len(lines) > rows || columns >= columnsMin && rows >= rowsMin && len(lines) != rows {
					t.Fatalf("%v at %dx%d: %d lines", keys, columns, rows, len(lines))
				}
				for _, line := range lines {
					if width(line) > columns {
						t.Fatalf("%v at %dx%d: %d columns: %q", keys, columns, rows, width(line), line)
					}
				}
			}
		}
	}
}

// Shows that a small terminal is told so, and that the table comes back with room.
func TestSmallTerminal(t *testing.T) {
	m := modelOf(t, options(), 40, 10, 0)
	checkGolden(t, "small-40x10", trimmed(m.screen()))
	m.width, m.height = 80, 24
	if !strings.Contains(m.screen(), "/orders/{id}") {
		t.Error("the table does not come back")
	}
}

// Shows that colours come and go with the option, and that without them the same words are there: nothing is told by colour alone.
func TestColours(t *testing.T) {
	o := options()
	plain := modelOf(t, o, 120, 40, 0).screen()
	if rest := plainText(plain); strings.Contains(rest, "\x1b") {
		t.Errorf("without colours there is %q", rest)
	}
	o.NoColor = false
	coloured := modelOf(t, o, 120, 40, 0).screen()
	if !strings.Contains(coloured, "\x1b[1;31m") && !strings.Contains(coloured, "\x1b[31m") {
		t.Error("nothing is red")
	}
	for _, word := range []string{"critical!", "poor", "1 firing", "> "} {
		if word != "poor" && !strings.Contains(plain, word) {
			t.Errorf("without colours there is no %q", word)
		}
	}
	for i := range coloured { // 16 colours: no 38;5 and no 38;2
		if strings.HasPrefix(coloured[i:], "38;") {
			t.Fatal("there is a colour beyond the sixteen")
		}
	}
}

// Shows that where the locale is not UTF-8 everything is ASCII.
func TestASCII(t *testing.T) {
	o := options()
	o.ASCII = true
	m := modelOf(t, o, 120, 40, 9)
	for _, keys := range [][]string{nil, {"2"}, {"3"}, {"4"}, {"1", "enter"}, {"esc", "?"}} {
		press(m, keys...)
		for _, r := range m.screen() {
			if r > 0x7e {
				t.Errorf("%v: %q", keys, r)
			}
		}
	}
}

// Shows that captured text is inert in every output: nothing that a terminal obeys, reorders or draws wider than one column.
func TestHostileText(t *testing.T) {
	hostile := "/\x1b[2J\x1b]0;x\x07/\u202eevil\u2066/\u05d0/\u4e16\u754c/e\u0301/\u200b/\x9b31m/\U0001f4a3"
	got := inert(hostile)
	if got != `/\x1b[2J\x1b]0;x\x07/\u202eevil\u2066/\u05d0/\u4e16\u754c/e\u0301/\u200b/\x9b31m/\U0001f4a3` {
		t.Errorf("%s", got)
	}
	if got := inert("Ünïcode “µs” – Привет λ × …"); got != "Ünïcode “µs” – Привет λ × …" {
		t.Errorf("%s", got)
	}
	s := fixture(t, func(d map[string]any) {
		for _, name := range []string{"endpoints", "services", "targets"} {
			for _, e := range d[name].([]any) {
				for key := range e.(map[string]any) {
					if key == "service_name" || key == "http_route" || key == "method" || key == "server_address" {
						e.(map[string]any)[key] = hostile
					}
				}
			}
		}
		alert := d["alerts"].(map[string]any)["alerts"].([]any)[0].(map[string]any)
		for _, key := range []string{"summary", "description", "next_step", "service_name", "http_route", "severity", "alertname", "state"} {
			alert[key] = hostile
		}
	})
	o := options()
	m := newModel(t.Context(), o, nil, s)
	for _, keys := range [][]string{nil, {"2"}, {"3"}, {"4"}, {"1", "enter"}, {"esc", "4", "end", "enter"}, {"esc", "home", "enter"}} {
		press(m, keys...)
		checkSize(t, strings.Join(keys, " "), m.screen(), 80, 24)
	}
	for _, view := range Views {
		o.View = view
		var text, object bytes.Buffer
		if err := writeText(&text, o, s, 0); err != nil {
			t.Fatal(err)
		}
		if err := writeJSON(&object, o, s); err != nil {
			t.Fatal(err)
		}
		for _, out := range []string{text.String(), object.String()} {
			if i := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && r != '▼' && (r < ' ' || r > 0x7e) }); i >= 0 {
				t.Errorf("%s: %q", view, out[i:min(i+20, len(out))])
			}
		}
	}
}

// Shows numbers at the borders of their forms.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		text func(*float64) string
		v    float64
		want string
	}{
		{number, 0, "0"}, {number, .004, "<0.01"}, {number, 7.389, "7.39"}, {number, 99.96, "100"}, {number, 9999.4, "9999"}, {number, 12345, "12.3k"},
		{number, 2.5e9, "2500M"}, {percent, 0, "0"}, {percent, .01, "<0.1"}, {percent, 99.96, ">99.9"}, {percent, 100, "100"}, {percent, 145.2, "145"},
		{milliseconds, .07, "70.0us"}, {milliseconds, 9.75, "9.75ms"}, {milliseconds, 1490, "1.49s"}, {milliseconds, 90000, "90.0s"},
		{bytesText, 20, "20 B"}, {bytesText, 20480, "20.5 kB"}, {bytesText, 3e9, "3 GB"},
	} {
		if got := c.text(&c.v); got != c.want {
			t.Errorf("%v: %s, want %s", c.v, got, c.want)
		}
	}
	if number(nil) != "-" || percent(nil) != "-" || milliseconds(nil) != "-" {
		t.Error("what is not known is no number")
	}
	if got := span(26*time.Hour + 3*time.Minute); got != "1d 2h" {
		t.Error(got)
	}
	if got := clipFront("/api/v2/overview", 10) + " " + clip("service", 4); got != "~/overview ser~" {
		t.Error(got)
	}
}

// Shows what is said where there is nothing to show, and what to do about it.
func TestNothingToShow(t *testing.T) {
	empty := func(d map[string]any) {
		for _, name := range []string{"endpoints", "services", "targets", "findings"} {
			d[name] = []any{}
		}
		d["endpoints_total"], d["services_total"], d["targets_total"], d["exchanges"], d["health"] = 0, 0, 0, 0, nil
		d["alerts"].(map[string]any)["alerts"] = []any{}
	}
	m := newModel(t.Context(), options(), nil, fixture(t, empty))
	checkSize(t, "empty", m.screen(), 80, 24)
	for _, want := range []string{"No HTTP request", "curl http://", "perfagent check", "4 open connections of db are not decoded: tls"} {
		if !strings.Contains(strings.Join(strings.Fields(m.screen()), " "), want) {
			t.Errorf("nothing says %q:\n%s", want, m.screen())
		}
	}
	press(m, "4")
	if !strings.Contains(m.screen(), "Nothing is wrong") {
		t.Error(m.screen())
	}
	young := fixture(t, func(d map[string]any) { empty(d); d["window"].(map[string]any)["seconds"] = 0 })
	if m := newModel(t.Context(), options(), nil, young); !strings.Contains(m.screen(), "just started") {
		t.Error(m.screen())
	}
	var none *analytics.System
	young.System = none
	if got := hostStrip(young, 80); got != "host: not known" {
		t.Error(got)
	}
}
