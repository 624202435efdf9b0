package top

import (
	"image/color"

	"charm.land/lipgloss/v2"
)

// styleName is what a text means. Colour never says what words or signs do not.
type styleName int

const (
	stylePlain styleName = iota
	styleTitle
	styleHeader // of columns
	styleChosen // the row that the cursor is on
	styleGood
	styleWarn
	styleBad
	styleFaint
	styles
)

// palette has a style for each meaning.
type palette [styles]lipgloss.Style

// newPalette uses the sixteen colours that every terminal has, as its user has chosen them, or none.
func newPalette(colours bool) *palette {
	var p palette
	for i := range p {
		p[i] = lipgloss.NewStyle()
	}
	p[styleTitle] = p[styleTitle].Bold(true)
	p[styleHeader] = p[styleHeader].Reverse(true)
	p[styleChosen] = p[styleChosen].Reverse(true)
	p[styleBad] = p[styleBad].Bold(true)
	if colours {
		for name, c := range map[styleName]color.Color{styleGood: lipgloss.Green, styleWarn: lipgloss.Yellow, styleBad: lipgloss.Red, styleTitle: lipgloss.Cyan, styleFaint: lipgloss.BrightBlack} {
			p[name] = p[name].Foreground(c)
		}
	}
	return &p
}

func (p *palette) render(name styleName, text string) string {
	if name == stylePlain || text == "" {
		return text
	}
	return p[name].Render(text)
}

func levelStyle(l *level) styleName {
	switch {
	case l == nil:
		return styleFaint
	case l.Level >= 4:
		return styleBad
	case l.Level >= 2:
		return styleWarn
	}
	return styleGood
}

func severityStyle(severity string) styleName {
	switch severity {
	case "critical", "error":
		return styleBad
	case "warning":
		return styleWarn
	}
	return stylePlain
}
