package chart

import (
	"bytes"
	"image/png"
	"math"
	"strings"
	"testing"
	"time"
)

// The vertical axis begins at 0 unless something is below, and ends at a tick above the largest value; ticks are 1, 2 or 5 times a power of
// ten. A chart stays small, however many values it has.
func TestChartAxes(t *testing.T) {
	from := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		values         []float64
		min, max, step float64
	}{
		{[]float64{3, 97}, 0, 100, 20}, {[]float64{0.003}, 0, 0.003, 0.0005}, {[]float64{-3, 12}, -5, 15, 5}, {[]float64{0}, 0, 1, 0.2},
		{[]float64{math.NaN()}, 0, 1, 0.2}, {[]float64{1234}, 0, 1500, 500},
	} {
		x := &Chart{Values: c.values, From: from, To: from.Add(day), Step: time.Hour, Width: Width, Height: Height}
		x.scale()
		if near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }; !near(x.min, c.min) || !near(x.max, c.max) || !near(x.tick, c.step) {
			t.Errorf("%v: %g to %g by %g, expected %g to %g by %g", c.values, x.min, x.max, x.tick, c.min, c.max, c.step)
		}
	}
	x := &Chart{From: from, To: from.Add(1500 * time.Minute), Step: time.Minute, Width: SidesMax, Height: SidesMax, Colors: Themes["dark"]}
	for i := range 1500 {
		x.Values, x.Low, x.High = append(x.Values, float64(i)), append(x.Low, 0), append(x.High, 2e6)
		x.Marks = append(x.Marks, Mark{From: from, To: from, Text: strings.Repeat("<", 100)})
	}
	if got := x.SVG(); len(got) > 256<<10 {
		t.Errorf("a chart of 1,500 values has %d bytes", len(got))
	} else if n := bytes.Count(got, []byte("<g ")); n != marksMax {
		t.Errorf("%v", n)
	}
}

// What would take too much memory is refused; marks and values at and beyond the edges, and text of any kind, are drawn.
func TestPNG(t *testing.T) {
	from := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	x := &Chart{Title: "\x00<b>日本語", From: from, To: from.Add(day), Step: 12 * time.Hour, Values: []float64{1, math.NaN()}, Width: 240, Height: 120,
		Colors: Themes["light"], Marks: []Mark{{From: from.Add(-day), To: from.Add(9 * day), Critical: true}, {From: from.Add(day), To: from.Add(day)}}}
	data, err := x.PNG()
	if err != nil {
		t.Fatal(err)
	}
	if picture, err := png.Decode(bytes.NewReader(data)); err != nil || picture.Bounds().Dx() != 240 {
		t.Error(picture, err)
	}
	if x.Width, x.Height = PixelsMax, 2; true {
		if _, err := x.PNG(); err == nil {
			t.Error("a picture of any size is drawn")
		}
	}
}
