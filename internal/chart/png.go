package chart

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"strconv"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// PixelsMax bounds a picture in PNG, which takes 8 bytes a pixel while it is drawn.
const PixelsMax = 2 << 20

const (
	titleSize, textSize = 14, 12 // as in SVG
	lineWidth           = 1.5
	gridWidth           = 1
	markerSides         = 12 // of the polygon that stands for a circle
)

// PNG draws what SVG draws, with Go's own font, which has Latin, Greek and Cyrillic letters: others are boxes. The theme must be one of
// Themes.
func (c *Chart) PNG() ([]byte, error) {
	if c.Width*c.Height > PixelsMax {
		return nil, fmt.Errorf("a picture of %d x %d has more than %d pixels", c.Width, c.Height, PixelsMax)
	}
	p := &painter{image: image.NewRGBA(image.Rect(0, 0, c.Width, c.Height))}
	p.fill(p.image.Bounds(), colorOf(c.Colors.Ground, 1))
	text := colorOf(c.Colors.Text, 1)
	p.text(right, 18, titleSize, atStart, text, c.fitting(c.Title, titleCharacter))
	p.text(right, 34, textSize, atStart, colorOf(c.Colors.Text, .75), c.fitting(c.Subtitle, textCharacter))
	c.scale()
	grid := colorOf(c.Colors.Grid, 1)
	c.levels(func(y float64, label string) {
		p.stroke(grid, gridWidth, [2]float64{left, pixel(y)}, [2]float64{float64(c.Width - right), pixel(y)})
		p.text(left-8, y+4, textSize, atEnd, text, label)
	})
	c.moments(func(x float64, label string) {
		p.stroke(grid, gridWidth, [2]float64{pixel(x), top}, [2]float64{pixel(x), float64(c.Height - bottom)})
		p.text(c.labelX(x), float64(c.Height-bottom+18), textSize, inMiddle, text, label)
	})
	c.paintBand(p)
	c.paintLine(p)
	for i := range c.Marks[:min(len(c.Marks), marksMax)] {
		c.paintMark(p, &c.Marks[i])
	}
	if c.Empty != "" {
		p.text(float64(c.Width)/2, float64(top+c.Height-bottom)/2, textSize, inMiddle, text, c.fitting(c.Empty, textCharacter))
	}
	var out bytes.Buffer
	err := png.Encode(&out, p.image)
	return out.Bytes(), err
}

func (c *Chart) paintLine(p *painter) {
	ink := colorOf(c.Colors.Line, 1)
	runs(c.Values, func(from, to int) {
		if to-from == 1 {
			p.polygon(ink, circle(c.at(from), c.y(c.Values[from]), 2)...)
			return
		}
		p.stroke(ink, lineWidth, c.points(c.Values, from, to)...)
	})
}

func (c *Chart) paintBand(p *painter) {
	if c.Low == nil {
		return
	}
	runs(c.High, func(from, to int) {
		around := c.points(c.High, from, to)
		below := c.points(c.Low, from, to)
		for i := len(below) - 1; i >= 0; i-- {
			around = append(around, below[i])
		}
		p.polygon(colorOf(c.Colors.Line, .2), around...)
	})
}

func (c *Chart) points(values []float64, from, to int) (all [][2]float64) {
	for i := from; i < to; i++ {
		all = append(all, [2]float64{c.at(i), c.y(values[i])})
	}
	return all
}

func (c *Chart) paintMark(p *painter, m *Mark) {
	ink := c.Colors.Warning
	if m.Critical {
		ink = c.Colors.Critical
	}
	from, to := c.x(maxTime(m.From, c.From)), c.x(minTime(m.To, c.To))
	to = max(to, from+2)
	foot := float64(c.Height - bottom)
	p.polygon(colorOf(ink, .18), [2]float64{from, top}, [2]float64{to, top}, [2]float64{to, foot}, [2]float64{from, foot})
	p.polygon(colorOf(ink, 1), [2]float64{from, top}, [2]float64{from + 5, top - 8}, [2]float64{from - 5, top - 8})
}

// pixel is the middle of the pixel that a place is in, where a thin line is sharp.
func pixel(v float64) float64 { return math.Floor(v) + .5 }

func circle(x, y, radius float64) (all [][2]float64) {
	for i := range markerSides {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / markerSides)
		all = append(all, [2]float64{x + radius*cos, y + radius*sin})
	}
	return all
}

// colorOf reads #rrggbb; anything else is black.
func colorOf(text string, opacity float64) color.Color {
	n, err := strconv.ParseUint(text[min(1, len(text)):], 16, 24)
	if err != nil {
		n = 0
	}
	return color.NRGBA{uint8(n >> 16), uint8(n >> 8), uint8(n), uint8(math.Round(255 * opacity))}
}

// painter draws shapes and text on a picture.
type painter struct {
	image *image.RGBA
	shape vector.Rasterizer
}

func (p *painter) fill(r image.Rectangle, ink color.Color) {
	draw.Draw(p.image, r, image.NewUniform(ink), image.Point{}, draw.Over)
}

// polygon fills what is within some points, which are clipped to the picture.
func (p *painter) polygon(ink color.Color, points ...[2]float64) {
	origin := p.begin(points)
	p.add(origin, points...)
	p.end(ink, origin)
}

// begin makes the rasterizer as large as what is drawn, and returns where that is.
func (p *painter) begin(points [][2]float64) image.Rectangle {
	box := image.Rectangle{Min: image.Pt(math.MaxInt32, math.MaxInt32), Max: image.Pt(math.MinInt32, math.MinInt32)}
	for _, at := range points {
		box.Min.X, box.Max.X = min(box.Min.X, int(math.Floor(at[0]))-1), max(box.Max.X, int(math.Ceil(at[0]))+1)
		box.Min.Y, box.Max.Y = min(box.Min.Y, int(math.Floor(at[1]))-1), max(box.Max.Y, int(math.Ceil(at[1]))+1)
	}
	box = box.Intersect(p.image.Bounds())
	p.shape.Reset(box.Dx(), box.Dy())
	return box
}

func (p *painter) add(box image.Rectangle, points ...[2]float64) {
	place := func(at [2]float64) (x, y float32) {
		return float32(min(max(at[0]-float64(box.Min.X), 0), float64(box.Dx()))), float32(min(max(at[1]-float64(box.Min.Y), 0), float64(box.Dy())))
	}
	for i, at := range points {
		if x, y := place(at); i == 0 {
			p.shape.MoveTo(x, y)
		} else {
			p.shape.LineTo(x, y)
		}
	}
	p.shape.ClosePath()
}

func (p *painter) end(ink color.Color, box image.Rectangle) {
	if !box.Empty() {
		p.shape.Draw(p.image, box, image.NewUniform(ink), image.Point{})
	}
}

// stroke draws a line as one rectangle for each stretch: all of them turn the same way, so that none takes from another.
func (p *painter) stroke(ink color.Color, width float64, points ...[2]float64) {
	box := p.begin(points)
	for i := range points[1:] {
		a, b := points[i], points[i+1]
		dx, dy := b[0]-a[0], b[1]-a[1]
		length := math.Hypot(dx, dy)
		if length == 0 {
			continue
		}
		nx, ny := -dy/length*width/2, dx/length*width/2
		ex, ey := 0., 0.
		if len(points) > 2 { // corners are closed
			ex, ey = dx/length*width/4, dy/length*width/4
		}
		p.add(box, [2]float64{a[0] - ex + nx, a[1] - ey + ny}, [2]float64{b[0] + ex + nx, b[1] + ey + ny},
			[2]float64{b[0] + ex - nx, b[1] + ey - ny}, [2]float64{a[0] - ex - nx, a[1] - ey - ny})
	}
	p.end(ink, box)
}

type anchor float64

const (
	atStart  anchor = 0
	inMiddle anchor = .5
	atEnd    anchor = 1
)

func (p *painter) text(x, y float64, size int, a anchor, ink color.Color, text string) {
	d := font.Drawer{Dst: p.image, Src: image.NewUniform(ink), Face: newFace(size)}
	x -= float64(a) * float64(d.MeasureString(text)) / 64
	d.Dot = fixed.Point26_6{X: fixed.Int26_6(64 * x), Y: fixed.Int26_6(64 * y)}
	d.DrawString(text)
}

// goFont is parsed once it is needed.
var goFont = sync.OnceValue(func() *opentype.Font {
	f, err := opentype.Parse(goregular.TTF)
	if err != nil {
		panic(err) // the font is part of the program
	}
	return f
})

// newFace returns a face of its own, as no two may draw with one at once.
func newFace(size int) font.Face {
	face, err := opentype.NewFace(goFont(), &opentype.FaceOptions{Size: float64(size), DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		panic(err) // nothing of it is the user's
	}
	return face
}
