package top

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/perfagent/perfagent/internal/analytics"
)

// unbounded is the width of a line that nothing limits.
const unbounded = math.MaxInt32

// writeText writes a view once as a table of so many columns, 0 for any number; then nothing is cut or left out.
func writeText(w io.Writer, o *Options, s *sample, columns int) error {
	if columns <= 0 {
		columns = unbounded
	}
	view := slices.Index(Views, o.View)
	order := o.order(view)
	all := rowsOf(view, s, nil)
	total := len(all)
	rows := arrange(all, view, order, matcher(o.Filter))
	matched := len(rows)
	if o.Limit > 0 {
		rows = rows[:min(len(rows), o.Limit)]
	}
	g := &unicodeGlyphs
	if o.ASCII {
		g = &asciiGlyphs
	}
	var b bytes.Buffer
	fmt.Fprintln(&b, clip(fmt.Sprintf("%s - %s of the last %s at %s", whose(s, o.Host), o.View, covered(s.Window), s.at.Format("15:04:05")), columns))
	fmt.Fprintln(&b, clip(hostStrip(s, columns), columns))
	fmt.Fprintln(&b, join(trafficParts(s), "  ", columns))
	fmt.Fprintln(&b)
	writeTable(&b, view, order, rows, s, columns, g)
	switch {
	case matched == 0 && total > 0:
		fmt.Fprintf(&b, "Nothing matches %q.\n", inert(o.Filter))
	case total == 0:
		for _, text := range nothing(s, view) {
			for _, line := range wrap(text, columns) {
				fmt.Fprintln(&b, line)
			}
		}
	case len(rows) < total:
		fmt.Fprintf(&b, "%d of %d shown\n", len(rows), total)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func writeTable(b *bytes.Buffer, view int, order sorting, rows []row, s *sample, most int, g *glyphs) {
	if len(rows) == 0 {
		return
	}
	columns := slices.DeleteFunc(columnsOf(view), func(c column) bool { return c.live }) // of the past there is nothing; they are the last ones
	fitted := fitColumns(columns, order, rows, most, g, false)
	fmt.Fprintln(b, strings.TrimRight(titles(fitted), " "))
	d := &drawing{glyphs: g, now: s.at}
	for i := range rows {
		fmt.Fprintln(b, strings.TrimRight(strings.Join(cellsOf(fitted, &rows[i], d), " "), " "))
	}
}

// snapshot is what -o json writes at each refresh.
type snapshot struct {
	Time       time.Time         `json:"time"`
	Host       string            `json:"host_name,omitempty"`
	Window     window            `json:"window"`
	System     *analytics.System `json:"system,omitempty"`
	Throughput *float64          `json:"throughput_rps"`
	ErrorRate  *float64          `json:"error_rate_percent"`
	Lost       *uint64           `json:"exchanges_lost,omitempty"`
	Firing     int               `json:"alerts_firing"`
	Pending    int               `json:"alerts_pending"`
	Findings   int               `json:"findings_open"`
	View       string            `json:"view"`
	Total      int               `json:"rows_total"`
	Matched    int               `json:"rows_matched"`
	Rows       []any             `json:"rows"`
}

// writeJSON writes a view as one line, all of it ASCII.
func writeJSON(w io.Writer, o *Options, s *sample) error {
	view := slices.Index(Views, o.View)
	all := rowsOf(view, s, nil)
	j := snapshot{Time: s.at.UTC(), Host: o.Host, Window: s.Window, System: s.System, Throughput: s.ThroughputRPS, ErrorRate: s.ErrorRatePercent,
		Findings: len(s.Findings), View: o.View, Total: len(all), Rows: []any{}}
	if s.Agent != nil {
		j.Lost = &s.Agent.Lost
	}
	if s.Alerts != nil {
		j.Firing, j.Pending = s.Alerts.Firing, s.Alerts.Pending
	}
	rows := arrange(all, view, o.order(view), matcher(o.Filter))
	j.Matched = len(rows)
	if o.Limit > 0 {
		rows = rows[:min(len(rows), o.Limit)]
	}
	for _, r := range rows {
		if r.problem != nil {
			j.Rows = append(j.Rows, r.problem)
			continue
		}
		j.Rows = append(j.Rows, r.entry)
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(j); err != nil {
		return err
	}
	_, err := w.Write(ascii(b.Bytes()))
	return err
}

// ascii escapes what of a JSON text is no printable ASCII, which can be within strings only.
func ascii(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == 0x7f || r >= utf8.RuneSelf && r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		case r >= 0x10000:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}
