package analytics

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

// The bounds of a power of two are 2^(k/32), to the last place that math.Pow gives.
func TestOctaveBounds(t *testing.T) {
	for k, got := range octaveBounds {
		want := math.Pow(2, float64(k)/bucketsPerOctave-1)
		if math.Abs(got-want) > 2e-16 {
			t.Errorf("bound %d: %v, math.Pow gives %v", k, got, want)
		}
	}
}

// Every cell's limits lie in the bucket that the definition gives for the exported value, on both sides of every bound,
// and the quick look-up agrees with the binary search there.
func TestScaleIsExact(t *testing.T) {
	for u, name := range []string{"nanoseconds", "bytes"} {
		s := &scales[u]
		check := func(n uint64) {
			if n == 0 || n > math.MaxInt64 {
				return
			}
			c := s.cell(n)
			if want := s.search(n); c != want {
				t.Fatalf("%s %d: cell %d, binary search gives %d", name, n, c, want)
			}
			v := float64(n) / s.perUnit
			if got, want := int(s.native[c]), nativeIndex(v); got != want {
				t.Fatalf("%s %d: bucket %d, want %d", name, n, got, want)
			}
			if i := int(s.native[c]); v > nativeBound(i) || v <= nativeBound(i-1) {
				t.Fatalf("%s %d: %v outside bucket %d", name, n, v, i)
			}
		}
		for c := range s.limit {
			for d := range uint64(5) {
				check(s.limit[c] + d - 2)
			}
		}
		for n := range uint64(5000) {
			check(n)
		}
		r := rand.New(rand.NewPCG(1, 2))
		for range 200_000 {
			check(r.Uint64() >> (1 + r.UintN(63)))
		}
	}
}

// Classic counts are exact: they equal a count over the raw values, at the bounds themselves too.
func TestHistogramCumulativeIsExact(t *testing.T) {
	for u, bounds := range [][]float64{DurationBounds, SizeBounds} {
		h := NewHistogram(Unit(u))
		var raw []int64
		add := func(v int64) { raw = append(raw, v); h.Add(v) }
		for _, b := range bounds {
			at := int64(math.Round(b * scales[u].perUnit))
			for d := int64(-2); d <= 2; d++ {
				add(max(at+d, 0))
			}
		}
		r := rand.New(rand.NewPCG(3, 4))
		for range 50_000 {
			add(int64(math.Exp(r.NormFloat64()*3 + 15)))
		}
		got := h.Cumulative(nil)
		for k, b := range bounds {
			want := uint64(0)
			for _, v := range raw {
				if float64(v)/scales[u].perUnit <= b {
					want++
				}
			}
			if got[k] != want {
				t.Errorf("unit %d, le=%v: %d, want %d", u, b, got[k], want)
			}
		}
	}
}

// Count, sum, extremes and native buckets equal those of a plain map over the same values; quantiles stay within the
// promised error of the true order statistic.
func TestHistogramAgainstRawValues(t *testing.T) {
	var h Histogram
	var raw []int64
	want := map[int]uint64{}
	r := rand.New(rand.NewPCG(5, 6))
	for range 100_003 {
		v := int64(math.Exp(r.NormFloat64()*2 + 14))
		if r.IntN(1000) == 0 {
			v = 0
		}
		raw = append(raw, v)
		h.Add(v)
		if v > 0 {
			want[nativeIndex(float64(v)/1e9)]++
		}
	}
	got := map[int]uint64{}
	last := math.MinInt
	for i, n := range h.Native() {
		if i <= last {
			t.Fatalf("bucket %d after %d", i, last)
		}
		last = i
		got[i] = n
	}
	if len(got) != len(want) {
		t.Errorf("%d buckets, want %d", len(got), len(want))
	}
	for i, n := range want {
		if got[i] != n {
			t.Errorf("bucket %d: %d, want %d", i, got[i], n)
		}
	}
	slices.Sort(raw)
	sum := uint64(0)
	for _, v := range raw {
		sum += uint64(v)
	}
	if h.Count() != uint64(len(raw)) || h.Sum() != float64(sum)/1e9 || h.Min() != uint64(raw[0]) || h.Max() != uint64(raw[len(raw)-1]) {
		t.Errorf("count %d sum %v min %d max %d", h.Count(), h.Sum(), h.Min(), h.Max())
	}
	for _, q := range []float64{0, .001, .01, .1, .25, .5, .75, .9, .95, .99, .999, .9999, 1} {
		rank := max(int(math.Ceil(q*float64(len(raw))))-1, 0)
		exact := float64(raw[rank])
		if est := h.Quantile(q); math.Abs(est-exact) > exact*.0109+.5 {
			t.Errorf("q%v: %v, exact %v", q, est, exact)
		}
	}
}

// Merging parts gives the very histogram of the whole, whatever the parts' windows, also past 16 and 32 bits a cell.
func TestHistogramMergeIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var whole, merged Histogram
	for part := range 7 {
		var h Histogram
		for range 1 + r.IntN(100_000) {
			v := int64(math.Exp(r.NormFloat64()*.2 + float64(part)*4))
			whole.Add(v)
			h.Add(v)
		}
		c := h.Clone()
		merged.Merge(&c)
	}
	merged.Merge(&Histogram{})
	equalHistograms(t, &merged, &whole)

	// 70,000 equal values overflow 16 bits; doubling 18 times passes 2^32.
	var h Histogram
	for range 70_000 {
		h.Add(1234)
	}
	for range 18 {
		c := h.Clone()
		h.Merge(&c)
	}
	want := uint64(70_000) << 18
	for _, n := range h.Native() {
		if n != want {
			t.Errorf("cell %d, want %d", n, want)
		}
	}
	if h.Count() != want {
		t.Errorf("count %d, want %d", h.Count(), want)
	}
}

func equalHistograms(t *testing.T, got, want *Histogram) {
	t.Helper()
	type bucket struct {
		i int
		n uint64
	}
	collect := func(h *Histogram) (all []bucket) {
		for i, n := range h.Native() {
			all = append(all, bucket{i, n})
		}
		return all
	}
	if !slices.Equal(collect(got), collect(want)) {
		t.Error("buckets differ")
	}
	if !slices.Equal(got.Cumulative(nil), want.Cumulative(nil)) {
		t.Error("classic counts differ")
	}
	if got.count != want.count || got.sum != want.sum || got.min != want.min || got.max != want.max || got.zeros != want.zeros {
		t.Errorf("%d %d %d %d %d, want %d %d %d %d %d", got.count, got.sum, got.min, got.max, got.zeros, want.count, want.sum, want.min, want.max, want.zeros)
	}
}

// The ends of the range: nothing panics, everything is counted.
func TestHistogramExtremes(t *testing.T) {
	for u := range scales {
		h := NewHistogram(Unit(u))
		for _, v := range []int64{math.MinInt64, -1, 0, 1, 2, math.MaxInt64 - 1, math.MaxInt64} {
			h.Add(v)
		}
		n := h.Zeros()
		for _, c := range h.Native() {
			n += c
		}
		if n != 7 || h.Count() != 7 || h.Min() != 0 || h.Max() != math.MaxInt64 {
			t.Errorf("buckets hold %d, count %d, min %d, max %d", n, h.Count(), h.Min(), h.Max())
		}
		if got := h.Cumulative(nil); got[len(got)-1] != 5 {
			t.Errorf("classic %v", got)
		}
	}
	var empty Histogram
	if !math.IsNaN(empty.Quantile(.5)) {
		t.Error("an empty histogram has no quantile")
	}
}

// Adding within the window allocates nothing.
func TestHistogramAddAllocations(t *testing.T) {
	var h Histogram
	h.Add(1_000_000)
	if n := testing.AllocsPerRun(1000, func() { h.Add(1_000_000) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzHistogramAdd(f *testing.F) {
	f.Add(int64(0), int64(1), int64(math.MaxInt64))
	f.Add(int64(-5), int64(100_000), int64(99_999))
	f.Fuzz(func(t *testing.T, a, b, c int64) {
		values := []int64{max(a, 0), max(b, 0), max(c, 0)}
		var h, m Histogram
		for _, v := range []int64{a, b, c} {
			h.Add(v)
			var one Histogram
			one.Add(v)
			m.Merge(&one)
		}
		equalHistograms(t, &m, &h)
		sort.Slice(values, func(i, j int) bool { return values[i] < values[j] })
		if est, exact := h.Quantile(.5), float64(values[1]); math.Abs(est-exact) > exact*.0109+.5 {
			t.Errorf("median %v, exact %v", est, exact)
		}
	})
}

func BenchmarkHistogramAdd(b *testing.B) {
	values := make([]int64, 4096)
	r := rand.New(rand.NewPCG(9, 10))
	var h Histogram
	for i := range values {
		values[i] = int64(math.Exp(r.NormFloat64() + 14))
		h.Add(values[i])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h.Add(values[i&4095])
	}
}

func BenchmarkHistogramMerge(b *testing.B) {
	var h, o Histogram
	r := rand.New(rand.NewPCG(9, 10))
	for range 10_000 {
		o.Add(int64(math.Exp(r.NormFloat64() + 14)))
	}
	b.ReportAllocs()
	for b.Loop() {
		h.Merge(&o)
	}
}
