package top

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/perfagent/perfagent/internal/analytics"
)

func itoa(n int) string { return strconv.Itoa(n) }

// inert makes text that cannot move a cursor, reorder its neighbours or be wider than it has characters: what is not printable is
// escaped as everywhere (analytics.Printable), and so is what is neither ASCII nor a Latin, Greek or Cyrillic letter, a sign of
// Latin-1, a dash, a quote or an ellipsis. Every character of the result takes one column.
func inert(s string) string {
	s = analytics.Printable(s)
	plain := func(r rune) bool {
		switch {
		case r < utf8.RuneSelf, r >= 0xa1 && r < 0x250:
			return true
		case r >= 0x370 && r < 0x530:
			return unicode.IsLetter(r)
		}
		return strings.ContainsRune("–—‘’“”…→≥≤", r)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if plain(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// width counts the columns of inert text.
func width(s string) int { return utf8.RuneCountInString(s) }

// clip cuts to the width, the cut marked by "~" as in perfagent trace.
func clip(s string, columns int) string {
	if width(s) <= columns {
		return s
	}
	if columns <= 0 {
		return ""
	}
	return string([]rune(s)[:columns-1]) + "~"
}

// clipFront cuts the front off, as paths differ at their end.
func clipFront(s string, columns int) string {
	if width(s) <= columns {
		return s
	}
	if columns <= 0 {
		return ""
	}
	r := []rune(s)
	return "~" + string(r[len(r)-columns+1:])
}

// pad clips, or fills with blanks, to just the width.
func pad(s string, columns int, right bool) string {
	s = clip(s, columns)
	blanks := strings.Repeat(" ", max(columns-width(s), 0))
	if right {
		return blanks + s
	}
	return s + blanks
}

// number has three digits or more, and a unit of thousands where it is large.
func number(v *float64) string {
	if v == nil || math.IsNaN(*v) {
		return "-"
	}
	x, unit := *v, ""
	for _, u := range []string{"k", "M", "G"} {
		if math.Abs(x) < 9999.5 {
			break
		}
		x, unit = x/1000, u
	}
	switch a := math.Abs(x); {
	case x == 0:
		return "0"
	case a < 0.01:
		return "<0.01"
	case a < 9.995:
		return strconv.FormatFloat(x, 'f', 2, 64) + unit
	case a < 99.95:
		return strconv.FormatFloat(x, 'f', 1, 64) + unit
	}
	return strconv.FormatFloat(x, 'f', 0, 64) + unit
}

// count is a whole number.
func count(v *float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v, 'f', 0, 64)
}

// covered is the time that a window's figures are of, which is shorter than its name where the agent has just started.
func covered(w window) string {
	if d := time.Duration(w.Seconds * float64(time.Second)); d < nominal(w)*9/10 {
		return span(d)
	}
	return w.Name
}

func nominal(w window) time.Duration {
	d, _ := time.ParseDuration(w.Name) // one of another form is whole
	return d
}

// percent has one digit behind the point where that is worth it; a little is not nothing, and nearly all is not all.
func percent(v *float64) string {
	if v == nil || math.IsNaN(*v) {
		return "-"
	}
	switch x := *v; {
	case x == 0:
		return "0"
	case x < 0.1:
		return "<0.1"
	case x < 99.95:
		return strconv.FormatFloat(x, 'f', 1, 64)
	case x < 100:
		return ">99.9"
	}
	return strconv.FormatFloat(*v, 'f', 0, 64)
}

// milliseconds has three digits and a unit.
func milliseconds(v *float64) string {
	if v == nil || math.IsNaN(*v) {
		return "-"
	}
	x, units, i := *v*1000, []string{"us", "ms", "s"}, 0
	for i < len(units)-1 && x >= 999.5 {
		x, i = x/1000, i+1
	}
	switch {
	case x >= 99.95:
		return fmt.Sprintf("%.0f%s", x, units[i])
	case x >= 9.995:
		return fmt.Sprintf("%.1f%s", x, units[i])
	}
	return fmt.Sprintf("%.2f%s", x, units[i])
}

// span is a time in its two largest units.
func span(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	seconds := int(d / time.Second)
	switch {
	case seconds < 60:
		return fmt.Sprintf("%ds", seconds)
	case seconds < 3600:
		return fmt.Sprintf("%dm %ds", seconds/60, seconds%60)
	case seconds < 86400:
		return fmt.Sprintf("%dh %dm", seconds/3600, seconds/60%60)
	}
	return fmt.Sprintf("%dd %dh", seconds/86400, seconds/3600%24)
}

// bytesText is a size in units of thousands.
func bytesText(v *float64) string {
	if v == nil {
		return "-"
	}
	if *v < 1000 {
		return fmt.Sprintf("%.0f B", *v)
	}
	x := *v / 1000
	for _, unit := range []string{"kB", "MB"} {
		if x < 999.5 {
			return fmt.Sprintf("%.3g %s", x, unit)
		}
		x /= 1000
	}
	return fmt.Sprintf("%.3g GB", x)
}

// Glyphs are what is drawn with, where a terminal shows more than ASCII and where not.
var (
	unicodeGlyphs = glyphs{spark: []rune("▁▂▃▄▅▆▇█"), up: "↑", down: "↓", flat: "→", descending: "▼", ascending: "▲", bars: []rune("░▓█")}
	asciiGlyphs   = glyphs{spark: []rune("_.:-=+*#"), up: "^", down: "v", flat: "-", descending: "v", ascending: "^", bars: []rune("qpt")}
)

type glyphs struct {
	spark                 []rune
	up, down, flat        string
	descending, ascending string
	bars                  []rune // queue, processing, transfer
}

// sparkline draws the latest points that fit, from zero to the largest of them; what is not known is a blank.
func (g *glyphs) sparkline(points []float64, columns int) string {
	points = points[max(len(points)-columns, 0):]
	most := 0.
	for _, v := range points {
		if v > most {
			most = v
		}
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", columns-len(points)))
	for _, v := range points {
		switch {
		case math.IsNaN(v):
			b.WriteByte(' ')
		case most == 0:
			b.WriteRune(g.spark[0])
		default:
			b.WriteRune(g.spark[min(int(v/most*float64(len(g.spark))), len(g.spark)-1)])
		}
	}
	return b.String()
}

// wrap breaks inert text at blanks into lines of at most so many columns; a longer word is cut into pieces.
func wrap(s string, columns int) (lines []string) {
	columns = max(columns, 1)
	line := ""
	for word := range strings.FieldsSeq(s) {
		for width(word) > columns {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			r := []rune(word)
			lines, word = append(lines, string(r[:columns])), string(r[columns:])
		}
		switch {
		case line == "":
			line = word
		case width(line)+1+width(word) <= columns:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
