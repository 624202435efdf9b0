package history

import (
	"encoding/hex"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/perfagent/perfagent/internal/analytics"
)

// randomPoints makes a column of distributions, of few or many values.
func randomPoints(r *rand.Rand, n int) []point {
	var points []point
	slot := int64(r.IntN(1 << 30))
	for range n {
		slot += int64(r.ExpFloat64()*3) + 1
		h := analytics.NewHistogram(analytics.Nanoseconds)
		for range r.IntN(1 + r.IntN(100)) {
			h.Add(int64(math.Exp(r.NormFloat64()*2) * 1e6))
		}
		if r.IntN(10) == 0 {
			h.Add(0)
		}
		t := tick{slot: slot}
		points = append(points, t.point(&h, uint64(r.IntN(20)/19)))
	}
	return points
}

func readAll(t *testing.T, r *columnReader) []point {
	t.Helper()
	var points []point
	for {
		ok, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return points
		}
		p := r.point
		p.cells = slices.Clone(p.cells)
		points = append(points, p)
	}
}

func equalPoints(a, b []point) bool {
	return slices.EqualFunc(a, b, func(a, b point) bool {
		return a.slot == b.slot && a.untimed == b.untimed && a.zeros == b.zeros && a.sum == b.sum && slices.Equal(a.cells, b.cells) &&
			math.Float64bits(a.value) == math.Float64bits(b.value)
	})
}

// Columns are read as they were written: distributions, and figures of every kind of number.
func TestColumns(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var reader columnReader
	for range 300 {
		points := randomPoints(r, r.IntN(pointsMax+1))
		if err := reader.openDistributions(analytics.Nanoseconds, appendDistributions(nil, analytics.Nanoseconds, points)); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, &reader); !equalPoints(got, points) {
			t.Fatalf("is %v\nwanted %v", got, points)
		}
	}
	for _, values := range [][]float64{
		{0, 0, 0}, {1, 2, 1e15, -4}, {.01, 12345.67, -1.5}, {math.Copysign(0, -1), 1}, {1e300, math.SmallestNonzeroFloat64, 3},
		{math.Pi, math.E}, {.123456789}, {math.Inf(1), 2}, {1 << 53, 1<<53 + 2},
	} {
		var points []point
		for i, v := range values {
			points = append(points, point{slot: int64(i*i - 2), value: v})
		}
		if err := reader.openFigures(appendFigures(nil, points)); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, &reader); !equalPoints(got, points) {
			t.Fatalf("is %v\nwanted %v", got, points)
		}
	}
}

// What was stored by one version is read by the next ones, on every processor: bytes written down once, and what they mean.
func TestColumnGolden(t *testing.T) {
	points := []point{
		{slot: 178000000, untimed: 1, sum: 5_000_000, cells: []analytics.Cell{{Index: 700, Count: 1}}},
		{slot: 178000001, zeros: 2},
		{slot: 178000007, sum: 91_234_567, cells: []analytics.Cell{{Index: 690, Count: 3}, {Index: 691, Count: 7}, {Index: 720, Count: 1 << 20}}},
	}
	const want = "0380c2e0a901445ab0167616810c2540987894d2117fe7980021bf5e1bc6ab2338"
	got := appendDistributions(nil, analytics.Nanoseconds, points)
	if hex.EncodeToString(got) != want {
		t.Errorf("distributions are %x", got)
	}
	b, _ := hex.DecodeString(want)
	var r columnReader
	if err := r.openDistributions(analytics.Nanoseconds, b); err != nil {
		t.Fatal(err)
	}
	if read := readAll(t, &r); !equalPoints(read, points) {
		t.Errorf("%v", read)
	}
	figures := []point{{slot: 178000000, value: 12.5}, {slot: 178000001, value: 13}, {slot: 178000003, value: 12.75}}
	const wantFigures = "0380c2e0a901010c384279deb5a2c0"
	if got := appendFigures(nil, figures); hex.EncodeToString(got) != wantFigures {
		t.Errorf("figures are %x", got)
	}
	// The middles of cells are part of the format: sums are stored as differences to what they say.
	for cell, middle := range map[int]uint64{0: 1, 100: 8, 300: 667, 700: 3467736, 1200: 132234939589} {
		if got := analytics.CellMiddle(analytics.Nanoseconds, cell); got != middle {
			t.Errorf("middle of cell %d is %d", cell, got)
		}
	}
}

// No input makes a reader fail in another way than with an error, or never end; and what it reads from any input is written and
// read again as the same.
func FuzzColumn(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 5 {
		f.Add(appendDistributions(nil, analytics.Nanoseconds, randomPoints(r, 20)), false)
	}
	f.Add(appendFigures(nil, []point{{slot: 1, value: 3}, {slot: 2, value: .25}}), true)
	f.Fuzz(func(t *testing.T, data []byte, figures bool) {
		var reader columnReader
		open := func(b []byte) error {
			if figures {
				return reader.openFigures(b)
			}
			return reader.openDistributions(analytics.Bytes, b)
		}
		if open(data) != nil {
			return
		}
		var points []point
		for {
			ok, err := reader.next()
			if err != nil {
				return
			}
			if !ok {
				break
			}
			p := reader.point
			p.cells = slices.Clone(p.cells)
			points = append(points, p)
		}
		again := appendDistributions(nil, analytics.Bytes, points)
		if figures {
			again = appendFigures(nil, points)
		}
		if err := open(again); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, &reader); !equalPoints(got, points) {
			t.Fatalf("is %v\nwanted %v", got, points)
		}
	})
}

// Cells that were stored make the histogram that they were taken from, but for its extremes, which lie in the middle of their cells.
func TestHistogramOfCells(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		var h, got analytics.Histogram
		for range r.IntN(100_000) {
			h.Add(int64(r.ExpFloat64() * 1e5))
		}
		p := (&tick{}).point(&h, 0)
		if err := got.AddCells(p.zeros, p.sum, p.cells); err != nil {
			t.Fatal(err)
		}
		var a, b summary
		a.add(&h)
		b.add(&got)
		if !reflect.DeepEqual(a, b) || !slices.Equal(h.Cumulative(nil), got.Cumulative(nil)) {
			t.Fatalf("is %v\nwanted %v", b, a)
		}
		for _, q := range []float64{0, .5, .99, 1} {
			if x, y := h.Quantile(q), got.Quantile(q); math.Abs(x-y) > .0109*x+1 {
				t.Fatalf("quantile %v is %v, wanted %v", q, y, x)
			}
		}
	}
}
