package top

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"
)

const (
	// columnsMin and rowsMin are the smallest terminal that a table with its head fits on.
	columnsMin = 60
	rowsMin    = 12
	// pendingMax are the samples that are kept while the picture stands still: what is older is missing from the graphs.
	pendingMax = 1000
	// filterMax bounds a filter that is typed or pasted: it is compiled at each key, and shown on one line.
	filterMax = 500
)

// Windows are the lengths that an agent has figures of.
var Windows = []string{"1m", "5m", "15m", "60m"}

// model is the state of the terminal user interface.
type model struct {
	o      *Options
	ctx    context.Context
	client *Client
	colour *palette
	glyphs *glyphs
	now    func() time.Time

	width, height int

	sample  *sample // what is shown
	past    map[string]*past
	tick    int // of the agent, counted from the first that was seen
	pending []*sample
	paused  bool
	window  string
	gone    error // why there is no newer sample; nil while there is
	since   time.Time

	view   int
	orders [4]sorting
	cursor [4]cursor
	rows   []row // of the view, sorted and filtered
	total  int   // before the filter

	filter  string
	editing bool   // the filter
	before  string // the filter that editing began with

	detail  string // key of the row of the details; "" shows the table
	scroll  int    // of the details or the help
	help    bool
	asking  bool // a question is under way
	turn    int  // of the timers, the last that was set: earlier ones ask nothing
	lastRow *row // of the details, which may have gone since
}

// cursor is a place in a table: it stays with its row.
type cursor struct {
	key        string
	index, top int
}

type (
	sampleMsg struct{ sample *sample }
	goneMsg   struct{ err error }
	askMsg    struct{ turn int }
)

func newModel(ctx context.Context, o *Options, client *Client, first *sample) *model {
	m := &model{o: o, ctx: ctx, client: client, colour: newPalette(!o.NoColor), glyphs: &unicodeGlyphs, now: time.Now, past: make(map[string]*past),
		window: o.Window, filter: o.Filter, view: slices.Index(Views, o.View), width: 80, height: 24}
	if o.ASCII {
		m.glyphs = &asciiGlyphs
	}
	for v := range m.orders {
		m.orders[v] = sortDefault(v)
	}
	if o.Sort != "" {
		m.orders[m.view].by = columnNamed(m.view, o.Sort)
	}
	m.orders[m.view].reverse = o.Reverse
	m.take(first)
	return m
}

// Init implements tea.Model.
func (m *model) Init() tea.Cmd { return m.later() }

// later asks again after the interval, once: a question in between, of another window, takes the place of the one that was to come.
func (m *model) later() tea.Cmd {
	m.turn++
	turn := m.turn
	return tea.Tick(m.o.Interval, func(time.Time) tea.Msg { return askMsg{turn} })
}

func (m *model) ask() tea.Cmd {
	m.asking = true
	client, length, before := m.client, m.window, m.newest()
	return func() tea.Msg {
		s, err := client.read(m.ctx, length, before)
		if err != nil {
			return goneMsg{err}
		}
		return sampleMsg{s}
	}
}

// newest is the latest sample, shown or not.
func (m *model) newest() *sample {
	if n := len(m.pending); n > 0 {
		return m.pending[n-1]
	}
	return m.sample
}

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		m.place()
	case askMsg:
		if m.asking || msg.turn != m.turn {
			return m, nil
		}
		return m, m.ask()
	case sampleMsg:
		m.asking, m.gone = false, nil
		if msg.sample.Window.Name != m.window {
			return m, m.ask() // another length was chosen meanwhile
		}
		m.receive(msg.sample)
		return m, m.later()
	case goneMsg:
		m.asking = false
		if m.gone == nil {
			m.since = m.now()
		}
		m.gone = msg.err
		return m, m.later()
	case tea.KeyPressMsg:
		return m, m.press(msg)
	case tea.PasteMsg:
		if m.editing {
			first, _, _ := strings.Cut(strings.TrimLeft(msg.Content, "\r\n"), "\n")
			m.setFilter(m.filter + strings.TrimRight(first, "\r"))
		}
	}
	return m, nil
}

func (m *model) receive(s *sample) {
	if !m.paused {
		m.take(s)
		return
	}
	if m.pending = append(m.pending, s); len(m.pending) > pendingMax {
		m.pending = slices.Delete(m.pending, 0, 1)
	}
}

// take shows a sample.
func (m *model) take(s *sample) {
	if m.sample == nil || !s.Window.To.Equal(m.sample.Window.To) {
		m.tick++
		remember(m.past, s, m.tick)
	}
	m.sample = s
	m.arrange()
}

// arrange makes the rows anew.
func (m *model) arrange() {
	all := rowsOf(m.view, m.sample, m.past)
	m.total = len(all)
	m.rows = arrange(all, m.view, m.orders[m.view], matcher(m.filter))
	if m.o.Limit > 0 && len(m.rows) > m.o.Limit {
		m.rows = m.rows[:m.o.Limit]
	}
	if i := slices.IndexFunc(m.rows, func(r row) bool { return r.key == m.detail }); i >= 0 {
		m.lastRow = &m.rows[i]
	}
	m.place()
}

// place keeps the cursor on its row, or where that was, and in sight.
func (m *model) place() {
	c := &m.cursor[m.view]
	if i := slices.IndexFunc(m.rows, func(r row) bool { return r.key == c.key }); i >= 0 && c.key != "" {
		c.index = i
	}
	m.moveTo(c.index)
}

func (m *model) moveTo(index int) {
	c := &m.cursor[m.view]
	c.index = max(min(index, len(m.rows)-1), 0)
	page := max(m.page(), 1)
	c.top = max(min(c.top, c.index, len(m.rows)-page), 0)
	if c.index >= c.top+page {
		c.top = c.index - page + 1
	}
	c.key = ""
	if c.index < len(m.rows) {
		c.key = m.rows[c.index].key
	}
}

// page is how many rows fit below the head.
func (m *model) page() int { return m.height - headLines - 2 }

// press does what a key asks for.
func (m *model) press(key tea.KeyPressMsg) tea.Cmd {
	if key.Mod.Contains(tea.ModAlt) { // Esc and a key in quick succession are the same bytes
		key.Mod &^= tea.ModAlt
		if unicode.IsPrint(key.Code) {
			key.Text = string(key.Code)
		}
		return tea.Batch(m.press(tea.KeyPressMsg{Code: tea.KeyEscape}), m.press(key))
	}
	name := key.String()
	switch {
	case name == "ctrl+c":
		return tea.Quit
	case name == "ctrl+z":
		return tea.Suspend
	case m.editing:
		m.edit(name, key.Text)
		return nil
	case m.help:
		m.pressScroll(name)
		if slices.Contains([]string{"esc", "?", "h", "enter", "q"}, name) {
			m.help, m.scroll = false, 0
		}
		return nil
	}
	switch name {
	case "q":
		return tea.Quit
	case "?", "h", "f1":
		m.help, m.scroll = true, 0
	case "p", "space":
		m.pause()
	case "w":
		return m.nextWindow()
	default:
		if m.detail != "" {
			m.pressDetail(name)
		} else {
			m.pressTable(name)
		}
	}
	return nil
}

// pause lets the picture stand still, or go on with what came meanwhile.
func (m *model) pause() {
	m.paused = !m.paused
	pending := m.pending
	m.pending = nil
	for _, s := range pending {
		m.take(s)
	}
}

// nextWindow looks farther back, or the shortest way again. The graphs begin anew: their points would be of other lengths.
func (m *model) nextWindow() tea.Cmd {
	m.window = Windows[(slices.Index(Windows, m.window)+1)%len(Windows)]
	m.past, m.paused, m.pending = make(map[string]*past), false, nil
	if m.asking {
		return nil
	}
	return m.ask()
}

func (m *model) pressTable(name string) {
	c := m.cursor[m.view]
	switch name {
	case "up", "k":
		m.moveTo(c.index - 1)
	case "down", "j":
		m.moveTo(c.index + 1)
	case "pgup", "ctrl+b":
		m.moveTo(c.index - m.page())
	case "pgdown", "ctrl+f":
		m.moveTo(c.index + m.page())
	case "home", "g":
		m.moveTo(0)
	case "end", "G":
		m.moveTo(len(m.rows) - 1)
	case "tab", "right", "l":
		m.show((m.view + 1) % len(Views))
	case "shift+tab", "left":
		m.show((m.view + len(Views) - 1) % len(Views))
	case "1", "2", "3", "4":
		m.show(int(name[0] - '1'))
	case "s", ">", ".":
		m.sortBy(1)
	case "<", ",":
		m.sortBy(-1)
	case "r":
		m.orders[m.view].reverse = !m.orders[m.view].reverse
		m.arrange()
	case "/":
		m.editing, m.before = true, m.filter
	case "esc":
		m.setFilter("")
	case "enter":
		if c.index < len(m.rows) {
			m.detail, m.scroll, m.lastRow = m.rows[c.index].key, 0, &m.rows[c.index]
		}
	}
}

func (m *model) show(view int) {
	m.view = view
	m.arrange()
}

func (m *model) sortBy(step int) {
	columns := columnsOf(m.view)
	m.orders[m.view] = sorting{by: (m.orders[m.view].by + step + len(columns)) % len(columns)}
	m.arrange()
}

func (m *model) setFilter(filter string) {
	if r := []rune(filter); len(r) > filterMax {
		filter = string(r[:filterMax])
	}
	m.filter = filter
	m.arrange()
}

// edit is a key while the filter is typed; the table follows at once.
func (m *model) edit(name, text string) {
	switch name {
	case "enter":
		m.editing = false
	case "esc":
		m.editing = false
		m.setFilter(m.before)
	case "backspace":
		if r := []rune(m.filter); len(r) > 0 {
			m.setFilter(string(r[:len(r)-1]))
		}
	case "ctrl+u":
		m.setFilter("")
	default:
		if text != "" {
			m.setFilter(m.filter + text)
		}
	}
}

func (m *model) pressDetail(name string) {
	switch name {
	case "esc", "enter", "backspace", "left":
		m.detail, m.scroll = "", 0
	case "tab", "shift+tab", "1", "2", "3", "4":
		m.detail, m.scroll = "", 0
		m.pressTable(name)
	default:
		m.pressScroll(name)
	}
}

// pressScroll moves a page of text; drawing it sets how far it goes.
func (m *model) pressScroll(name string) {
	page := max(m.height-3, 1)
	switch name {
	case "up", "k":
		m.scroll--
	case "down", "j":
		m.scroll++
	case "pgup":
		m.scroll -= page
	case "pgdown":
		m.scroll += page
	case "home", "g":
		m.scroll = 0
	case "end", "G":
		m.scroll = 1 << 20
	}
	m.scroll = max(m.scroll, 0)
}
