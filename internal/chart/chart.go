// Package chart draws metrics over a time, as SVG and as PNG.
package chart

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/perfagent/perfagent/internal/series"
)

const (
	// Width and Height are those of a chart that nobody wants otherwise, WidthMin and HeightMin the least that labels have room in.
	Width, Height       = 800, 320
	WidthMin, HeightMin = 240, 120
	// SidesMax bounds both.
	SidesMax = 4000
)

const (
	// The margins hold the labels.
	left, right, top, bottom = 64, 16, 44, 28
	// pixelsPerTick is how far apart labels of an axis are at least.
	pixelsPerTickX, pixelsPerTickY = 90, 40
	// titleCharacter and textCharacter are the mean widths of a character.
	titleCharacter, textCharacter = 8, 6
	labelWidth                    = 36 // of a label of the axis of time
	// marksMax bounds the findings that are marked: more of them are one colour anyway.
	marksMax = 200
)

// Theme is a set of colours: #rrggbb, or for SVG alone whatever CSS takes.
type Theme struct{ Ground, Text, Grid, Line, Warning, Critical string }

// Themes are those that may be asked for by name.
var Themes = map[string]Theme{
	"light": {"#ffffff", "#1f2933", "#dfe3e8", "#2563eb", "#d97706", "#dc2626"},
	"dark":  {"#111827", "#e5e7eb", "#374151", "#60a5fa", "#f59e0b", "#f87171"},
}

// PageTheme takes the colours of the page that a picture is a part of, from its custom properties.
var PageTheme = Theme{"var(--ground)", "var(--text)", "var(--grid)", "var(--line)", "var(--warning)", "var(--critical)"}

const day = 24 * time.Hour

// Chart is a metric over a time, to be drawn.
type Chart struct {
	Title, Subtitle string
	From, To        time.Time
	Step            time.Duration
	Values          []float64 // one for each step; NaN: a gap
	Low, High       []float64 // a band around them; nil: none
	Marks           []Mark
	Empty           string // what stands there where there are no values
	Width, Height   int
	Colors          Theme

	out            bytes.Buffer
	min, max, tick float64 // of the vertical axis, whose ends are multiples of a tick
}

// Mark is a time that is coloured.
type Mark struct {
	From, To time.Time
	Critical bool
	Text     string
}

// SVG draws the chart: shapes and escaped text, no script and nothing from elsewhere.
func (c *Chart) SVG() []byte {
	c.out.Reset()
	c.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s" `+
		`font-family="system-ui,sans-serif" font-size="12" fill="%s">`+"\n", c.Width, c.Height, c.Width, c.Height, escaped(c.Title), c.Colors.Text)
	c.printf(`<rect width="%d" height="%d" fill="%s"/>`+"\n", c.Width, c.Height, c.Colors.Ground)
	c.printf(`<text x="%d" y="18" font-size="14" font-weight="600">%s</text>`+"\n", right, escaped(c.fitting(c.Title, titleCharacter)))
	c.printf(`<text x="%d" y="34" opacity=".75">%s</text>`+"\n", right, escaped(c.fitting(c.Subtitle, textCharacter)))
	c.scale()
	c.axes()
	c.band()
	c.line()
	for i := range c.Marks[:min(len(c.Marks), marksMax)] {
		c.mark(&c.Marks[i])
	}
	if c.Empty != "" {
		c.printf(`<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", c.Width/2, (top+c.Height-bottom)/2, escaped(c.Empty))
	}
	c.out.WriteString("</svg>\n")
	return c.out.Bytes()
}

func (c *Chart) printf(format string, values ...any) { fmt.Fprintf(&c.out, format, values...) }

// fitting cuts a text that is wider than the picture, whose characters have that many pixels.
func (c *Chart) fitting(text string, pixels int) string {
	if all, most := []rune(text), (c.Width-2*right)/pixels; len(all) > most {
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
func (c *Chart) scale() {
	c.min, c.max = 0, 0
	for _, all := range [][]float64{c.Values, c.High, c.Low} {
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
func (c *Chart) tickStep() float64 {
	ticks := max(1, (c.Height-top-bottom)/pixelsPerTickY)
	rough := (c.max - c.min) / float64(ticks)
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= rough*0.999 {
			return m * power
		}
	}
	return 10 * power
}

func (c *Chart) x(t time.Time) float64 {
	return left + float64(t.Sub(c.From))/float64(c.To.Sub(c.From))*float64(c.Width-left-right)
}

func (c *Chart) y(v float64) float64 {
	return top + (c.max-v)/(c.max-c.min)*float64(c.Height-top-bottom)
}

// axes draws lines and labels of both.
func (c *Chart) axes() {
	c.levels(func(y float64, label string) {
		c.printf(`<path d="M%d %.1fH%d" stroke="%s"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, y, c.Width-right, c.Colors.Grid, left-8, y+4, label)
	})
	c.moments(func(x float64, label string) {
		c.printf(`<path d="M%.1f %dV%d" stroke="%s"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x, top, c.Height-bottom, c.Colors.Grid, c.labelX(x), c.Height-bottom+18, label)
	})
}

// levels calls draw for each tick of the vertical axis.
func (c *Chart) levels(draw func(y float64, label string)) {
	for i := range int(math.Round((c.max-c.min)/c.tick)) + 1 {
		v := c.min + float64(i)*c.tick
		draw(c.y(v), series.NumberText(v))
	}
}

// moments calls draw for each tick of the axis of time.
func (c *Chart) moments(draw func(x float64, label string)) {
	every := c.timeStep()
	first := c.From.Truncate(every)
	if first.Before(c.From) {
		first = first.Add(every)
	}
	for t := first; !t.After(c.To); t = t.Add(every) {
		draw(c.x(t), timeLabel(t, every))
	}
}

// labelX is where the middle of a label is that stands below a place: within the picture.
func (c *Chart) labelX(x float64) float64 { return min(x, float64(c.Width-labelWidth/2-2)) }

// timeSteps are distances of labels that people count in.
var timeSteps = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour,
	2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 7 * day, 14 * day, 28 * day, 56 * day, 112 * day}

func (c *Chart) timeStep() time.Duration {
	ticks := max(1, (c.Width-left-right)/pixelsPerTickX)
	for _, step := range timeSteps {
		if c.To.Sub(c.From)/step <= time.Duration(ticks) {
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
func (c *Chart) at(i int) float64 { return c.x(c.From.Add(time.Duration(i)*c.Step + c.Step/2)) }

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

func (c *Chart) line() {
	runs(c.Values, func(from, to int) {
		if to-from == 1 {
			c.printf(`<circle cx="%.1f" cy="%.1f" r="2" fill="%s"/>`+"\n", c.at(from), c.y(c.Values[from]), c.Colors.Line)
			return
		}
		c.printf(`<path fill="none" stroke="%s" stroke-width="1.5" stroke-linejoin="round" d="`, c.Colors.Line)
		c.path("M", c.Values, from, to)
		c.out.WriteString("\"/>\n")
	})
}

// path appends points of a run, backwards where to is before from.
func (c *Chart) path(command string, values []float64, from, to int) {
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

func (c *Chart) band() {
	if c.Low == nil {
		return
	}
	runs(c.High, func(from, to int) {
		c.printf(`<path fill="%s" opacity=".2" d="`, c.Colors.Line)
		c.path("M", c.High, from, to)
		c.path("L", c.Low, to-1, from-1)
		c.out.WriteString("Z\"/>\n")
	})
}

func (c *Chart) mark(m *Mark) {
	color := c.Colors.Warning
	if m.Critical {
		color = c.Colors.Critical
	}
	from, to := c.x(maxTime(m.From, c.From)), c.x(minTime(m.To, c.To))
	c.printf(`<g fill="%s"><title>%s</title><rect x="%.1f" y="%d" width="%.1f" height="%d" opacity=".18"/>`+
		`<path d="M%.1f %dl5 -8h-10z"/></g>`+"\n", color, escaped(m.Text), from, top, max(2, to-from), c.Height-top-bottom, from, top)
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
