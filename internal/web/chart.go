package web

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	chartWidth, chartHeight       = 800, 320
	chartWidthMin, chartHeightMin = 240, 120
	chartSidesMax                 = 4000
	// The margins hold the labels.
	chartLeft, chartRight, chartTop, chartBottom = 64, 16, 44, 28
	// pixelsPerTick is how far apart labels of an axis are at least.
	pixelsPerTickX, pixelsPerTickY = 90, 40
	// titleCharacter and textCharacter are the mean widths of a character.
	titleCharacter, textCharacter = 8, 6
	// chartMarksMax bounds the findings that are marked: more of them are one colour anyway.
	chartMarksMax = 200
)

// chartColors are those of a theme.
type chartColors struct{ ground, text, grid, line, warning, critical string }

var chartThemes = map[string]chartColors{
	"light": {"#ffffff", "#1f2933", "#dfe3e8", "#2563eb", "#d97706", "#dc2626"},
	"dark":  {"#111827", "#e5e7eb", "#374151", "#60a5fa", "#f59e0b", "#f87171"},
}

// chart is a metric over a time, to be drawn.
type chart struct {
	title, subtitle string
	unit            string
	from, to        time.Time
	step            time.Duration
	values          []float64 // one for each step; NaN: a gap
	low, high       []float64 // a band around them; nil: none
	marks           []chartMark
	empty           string // what stands there where there are no values
	width, height   int
	colors          chartColors

	out            bytes.Buffer
	min, max, tick float64 // of the vertical axis, whose ends are multiples of a tick
}

// chartMark is a time that is coloured.
type chartMark struct {
	from, to time.Time
	critical bool
	text     string
}

// svg draws the chart: shapes and escaped text, no script and nothing from elsewhere.
func (c *chart) svg() []byte {
	c.out.Reset()
	c.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s" `+
		`font-family="system-ui,sans-serif" font-size="12" fill="%s">`+"\n", c.width, c.height, c.width, c.height, escaped(c.title), c.colors.text)
	c.printf(`<rect width="%d" height="%d" fill="%s"/>`+"\n", c.width, c.height, c.colors.ground)
	c.printf(`<text x="%d" y="18" font-size="14" font-weight="600">%s</text>`+"\n", chartRight, escaped(c.fitting(c.title, titleCharacter)))
	c.printf(`<text x="%d" y="34" opacity=".75">%s</text>`+"\n", chartRight, escaped(c.fitting(c.subtitle, textCharacter)))
	c.scale()
	c.axes()
	c.band()
	c.line()
	for i := range c.marks[:min(len(c.marks), chartMarksMax)] {
		c.mark(&c.marks[i])
	}
	if c.empty != "" {
		c.printf(`<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", c.width/2, (chartTop+c.height-chartBottom)/2, escaped(c.empty))
	}
	c.out.WriteString("</svg>\n")
	return c.out.Bytes()
}

func (c *chart) printf(format string, values ...any) { fmt.Fprintf(&c.out, format, values...) }

// fitting cuts a text that is wider than the picture, whose characters have that many pixels.
func (c *chart) fitting(text string, pixels int) string {
	if all, most := []rune(text), (c.width-2*chartRight)/pixels; len(all) > most {
		return string(all[:most-1]) + "…"
	}
	return text
}

// escaped makes text harmless in XML; what XML cannot hold becomes a replacement character.
func escaped(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // into memory
	return b.String()
}

// scale finds the range of the vertical axis. It begins at 0, which a length can be compared by, unless there are values below.
func (c *chart) scale() {
	c.min, c.max = 0, 0
	for _, all := range [][]float64{c.values, c.high, c.low} {
		for _, v := range all {
			if !math.IsNaN(v) {
				c.min, c.max = min(c.min, v), max(c.max, v)
			}
		}
	}
	if c.max == c.min {
		c.max = c.min + 1
	}
	c.tick = c.tickStep()
	c.min, c.max = math.Floor(c.min/c.tick)*c.tick, math.Ceil(c.max/c.tick)*c.tick
}

// tickStep is 1, 2 or 5 times a power of ten, so that labels have room.
func (c *chart) tickStep() float64 {
	ticks := max(1, (c.height-chartTop-chartBottom)/pixelsPerTickY)
	rough := (c.max - c.min) / float64(ticks)
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= rough*0.999 {
			return m * power
		}
	}
	return 10 * power
}

func (c *chart) x(t time.Time) float64 {
	return chartLeft + float64(t.Sub(c.from))/float64(c.to.Sub(c.from))*float64(c.width-chartLeft-chartRight)
}

func (c *chart) y(v float64) float64 {
	return chartTop + (c.max-v)/(c.max-c.min)*float64(c.height-chartTop-chartBottom)
}

// axes draws lines and labels of both.
func (c *chart) axes() {
	for i := range int(math.Round((c.max-c.min)/c.tick)) + 1 {
		v := c.min + float64(i)*c.tick
		c.printf(`<path d="M%d %.1fH%d" stroke="%s"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			chartLeft, c.y(v), c.width-chartRight, c.colors.grid, chartLeft-8, c.y(v)+4, numberText(v))
	}
	every := c.timeStep()
	first := c.from.Truncate(every)
	if first.Before(c.from) {
		first = first.Add(every)
	}
	for t := first; !t.After(c.to); t = t.Add(every) {
		c.printf(`<path d="M%.1f %dV%d" stroke="%s"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			c.x(t), chartTop, c.height-chartBottom, c.colors.grid, c.x(t), c.height-chartBottom+18, timeLabel(t, every))
	}
}

// timeSteps are distances of labels that people count in.
var timeSteps = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour,
	2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 7 * day, 14 * day, 28 * day, 56 * day, 112 * day}

func (c *chart) timeStep() time.Duration {
	ticks := max(1, (c.width-chartLeft-chartRight)/pixelsPerTickX)
	for _, step := range timeSteps {
		if c.to.Sub(c.from)/step <= time.Duration(ticks) {
			return step
		}
	}
	return timeSteps[len(timeSteps)-1]
}

// timeLabel is a day at midnight, else a time of day.
func timeLabel(t time.Time, every time.Duration) string {
	if t = t.UTC(); t.Hour() == 0 && t.Minute() == 0 || every >= day {
		return t.Format("2 Jan")
	}
	return t.Format("15:04")
}

// at is where a step's value stands: in its middle.
func (c *chart) at(i int) float64 { return c.x(c.from.Add(time.Duration(i)*c.step + c.step/2)) }

// runs calls draw for every run of steps without a gap.
func runs(values []float64, draw func(from, to int)) {
	from := -1
	for i, v := range values {
		switch {
		case math.IsNaN(v) && from >= 0:
			draw(from, i)
			from = -1
		case !math.IsNaN(v) && from < 0:
			from = i
		}
	}
	if from >= 0 {
		draw(from, len(values))
	}
}

func (c *chart) line() {
	runs(c.values, func(from, to int) {
		if to-from == 1 {
			c.printf(`<circle cx="%.1f" cy="%.1f" r="2" fill="%s"/>`+"\n", c.at(from), c.y(c.values[from]), c.colors.line)
			return
		}
		c.printf(`<path fill="none" stroke="%s" stroke-width="1.5" stroke-linejoin="round" d="`, c.colors.line)
		c.path("M", c.values, from, to)
		c.out.WriteString("\"/>\n")
	})
}

// path appends points of a run, backwards where to is before from.
func (c *chart) path(command string, values []float64, from, to int) {
	direction := 1
	if to < from {
		direction = -1
	}
	for i := from; i != to; i += direction {
		c.out.WriteString(command)
		c.out.WriteString(strconv.FormatFloat(c.at(i), 'f', 1, 64) + " " + strconv.FormatFloat(c.y(values[i]), 'f', 1, 64))
		command = "L"
	}
}

func (c *chart) band() {
	if c.low == nil {
		return
	}
	runs(c.high, func(from, to int) {
		c.printf(`<path fill="%s" opacity=".2" d="`, c.colors.line)
		c.path("M", c.high, from, to)
		c.path("L", c.low, to-1, from-1)
		c.out.WriteString("Z\"/>\n")
	})
}

func (c *chart) mark(m *chartMark) {
	color := c.colors.warning
	if m.critical {
		color = c.colors.critical
	}
	left, right := c.x(maxTime(m.from, c.from)), c.x(minTime(m.to, c.to))
	c.printf(`<g fill="%s"><title>%s</title><rect x="%.1f" y="%d" width="%.1f" height="%d" opacity=".18"/>`+
		`<path d="M%.1f %dl5 -8h-10z"/></g>`+"\n", color, escaped(m.text), left, chartTop, max(2, right-left), c.height-chartTop-chartBottom, left, chartTop)
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// unitText is a unit behind a title.
func unitText(unit string) string { return strings.TrimSpace(unitWords[unit]) }
