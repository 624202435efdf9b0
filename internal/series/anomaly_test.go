package series

import (
	"math"
	"math/rand/v2"
	"testing"
)

// feed hands values, a minute apart, to a detector and returns the places of its alarms.
func feed(d *Anomalies, from int, values []float64) (alarms []int) {
	for i, v := range values {
		if d.Add(int64(from+i)*60, v).Alarm {
			alarms = append(alarms, i)
		}
	}
	return alarms
}

// noise returns n values around 100 with a deviation of 10.
func noise(seed uint64, n int) []float64 {
	r := rand.New(rand.NewPCG(seed, 5))
	y := make([]float64, n)
	for i := range y {
		y[i] = 100 + 10*r.NormFloat64()
	}
	return y
}

// A day of 100 ± 10, then five minutes of 300, then an hour as before: one incident, from its first value to its last, with the
// peak, what was expected, and the highest severity; nobody is told anything before or after.
func TestAnomaliesIncident(t *testing.T) {
	y := noise(1, 1440+5+60)
	for i := 1440; i < 1445; i++ {
		y[i] = 300
	}
	d := NewAnomalies(AnomalyOptions{})
	alarms := feed(d, 0, y)
	if len(alarms) != 1 || alarms[0] != 1440 {
		t.Fatalf("alarms at %v", alarms)
	}
	in := d.Incident()
	if in.Open || in.Start != 1440*60 || in.End < 1444*60 || in.End > 1460*60 {
		t.Errorf("the incident is %+v", in)
	}
	if in.Peak != 300 || math.Abs(in.Expected-100) > 10 || in.Severity != "critical" || in.Confidence < 0.8 {
		t.Errorf("the incident is %+v", in)
	}
}

// After the alarm of a level that stays, the new level becomes the expected one: within a day, without a second alarm an hour later.
func TestAnomaliesLearnsLevel(t *testing.T) {
	y := noise(2, 2*1440)
	for i := 1440; i < len(y); i++ {
		y[i] += 200
	}
	d := NewAnomalies(AnomalyOptions{})
	alarms := feed(d, 0, y)
	if len(alarms) == 0 || alarms[0] < 1440 || alarms[0] > 1442 || len(alarms) > 2 {
		t.Errorf("alarms at %v", alarms)
	}
	if v := d.Add(int64(len(y))*60, 300); math.Abs(v.Expected-300) > 20 || v.Alarm {
		t.Errorf("then said %+v", v)
	}
}

// A day's rhythm proves itself after two days and is expected on the third: the band follows it, and the same value is usual at
// noon and an alarm at midnight. A series without a rhythm gets none.
func TestAnomaliesSeason(t *testing.T) {
	y := noise(3, 8*1440)
	d := NewAnomalies(AnomalyOptions{})
	feed(d, 0, y)
	if day, week := d.Seasons(); day || week {
		t.Errorf("noise has a season: %v %v", day, week)
	}
	for i := range y {
		y[i] += 200 * max(0, math.Sin(float64(i)/1440*2*math.Pi))
	}
	d = NewAnomalies(AnomalyOptions{})
	if alarms := feed(d, 0, y); len(alarms) > 3 {
		t.Errorf("alarms of a rhythm at %v", alarms)
	}
	if day, _ := d.Seasons(); !day {
		t.Fatal("the day's season is not seen")
	}
	if v := d.Add(8*86400+60, 300); !v.Alarm || math.Abs(v.Expected-100) > 25 {
		t.Errorf("300 in the night: %+v", v)
	}
}

// The sensitivity is what it says: on ten weeks of minutes of noise of several kinds, three seeds each, there are at most twice
// the wanted number of false alarms. As many as wanted are not asked for: silence on noise without tails is no fault.
func TestAnomaliesSensitivity(t *testing.T) {
	if testing.Short() {
		t.Skip("a million values")
	}
	for name, draw := range map[string]func(r *rand.Rand, before float64) float64{
		"normal":      func(r *rand.Rand, _ float64) float64 { return r.NormFloat64() },
		"exponential": func(r *rand.Rand, _ float64) float64 { return r.ExpFloat64() },
		"AR(1) 0.9":   func(r *rand.Rand, before float64) float64 { return 0.9*before + r.NormFloat64() },
	} {
		const weeks, wanted = 10, 1
		alarms := 0
		for seed := range uint64(3) {
			r := rand.New(rand.NewPCG(seed, 7))
			d := NewAnomalies(AnomalyOptions{Sensitivity: wanted})
			v := 0.0
			for i := range weeks * 7 * 1440 {
				v = draw(r, v)
				if d.Add(int64(i)*60, v).Alarm {
					alarms++
				}
			}
		}
		if most := 2 * 3 * weeks * wanted; alarms > most {
			t.Errorf("%s: %d alarms in %d weeks", name, alarms, 3*weeks)
		}
	}
}

// A series that stood still long moves its levels when it begins to live, however long it stood: within two days what is expected is
// near the values, and hardly one of them is unusual.
func TestAnomaliesAfterStandingStill(t *testing.T) {
	for _, still := range []int{100, 3000, 150_000} {
		y := append(make([]float64, still), noise(7, 3*1440)...)
		d := NewAnomalies(AnomalyOptions{})
		feed(d, 0, y[:still+2*1440])
		unusual := 0
		for i := still + 2*1440; i < len(y); i++ {
			v := d.Add(int64(i)*60, y[i])
			if v.Score > 0 {
				unusual++
			}
			if math.Abs(v.Expected-100) > 20 {
				t.Fatalf("after %d values of 0, then 100 for %d: expected %g", still, i-still, v.Expected)
			}
		}
		if unusual > 3 {
			t.Errorf("after %d values of 0 and two days: %d of the third day's are unusual", still, unusual)
		}
	}
}

// What is beyond all magnitudes that are told apart becomes usual like anything else: the hundredth is not as rare as the first.
func TestTailBeyondEverything(t *testing.T) {
	var h tail
	for range 1000 {
		h.add(1, 1)
	}
	first := h.add(1e12, 1)
	for range 98 {
		h.add(1e12, 1)
	}
	if last := h.add(1e12, 1); first < 3 || last > 2 {
		t.Errorf("the first has rarity %g, the hundredth %g", first, last)
	}
}

// Where nights are quiet a fault of the night is small next to what the day brings: requests go from 20 to 1 at night, in a series that
// has 400 ± 32 by day. It is what comes less than once a week; by its size alone it would be what comes 450 times.
func TestAnomaliesInProportion(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 5))
	y := make([]float64, 9*1440)
	for i := range y {
		y[i] = (210 - 190*math.Cos(2*math.Pi*float64(i)/1440)) * (1 + 0.08*r.NormFloat64())
	}
	d := NewAnomalies(AnomalyOptions{Sensitivity: 1})
	feed(d, 0, y)
	if v := d.Add(9*86400, 1); !v.Alarm || v.Kind != "untimely" {
		t.Errorf("1 at midnight: %+v", v)
	}
}

// A young series is judged by order alone, if asked: ten times the latency from the 45th value on is an alarm within six, with less
// confidence than later; without Early it is none. Of 3,000 series of 119 values in which nothing happens as many alarm as are wanted
// at most, drifting ones among them.
func TestAnomaliesEarly(t *testing.T) {
	for _, early := range []bool{true, false} {
		y := noise(10, 60)
		for i := 45; i < len(y); i++ {
			y[i] *= 10
		}
		d := NewAnomalies(AnomalyOptions{Early: early})
		alarms := feed(d, 0, y)
		if in := d.Incident(); early && (len(alarms) != 1 || alarms[0] < 45 || alarms[0] > 50 || in.Confidence > 0.5 || in.Peak < 500) {
			t.Errorf("alarms at %v of %+v", alarms, in)
		}
		if !early && len(alarms) > 0 {
			t.Errorf("alarms at %v of a detector that was not asked for", alarms)
		}
	}
	const seriesOf, wanted = 3000, 1
	for name, phi := range map[string]float64{"noise": 0, "drift": 0.9} {
		alarms := 0
		for seed := range uint64(seriesOf) {
			r := rand.New(rand.NewPCG(seed, 41))
			d := NewAnomalies(AnomalyOptions{Sensitivity: wanted, Early: true})
			v := 0.0
			for i := range anomalyFirst - 1 {
				v = phi*v + r.ExpFloat64()
				if d.Add(int64(i)*60, v).Alarm {
					alarms++
				}
			}
		}
		if most := float64(seriesOf*wanted*anomalyFirst) / (7 * 1440); float64(alarms) > most {
			t.Errorf("%s: %d false alarms, wanted %.0f", name, alarms, most)
		}
	}
}

// A missing value and one from the past change nothing, and a constant series alarms at its first other value only.
func TestAnomaliesMissing(t *testing.T) {
	a, b := NewAnomalies(AnomalyOptions{Step: 60}), NewAnomalies(AnomalyOptions{Step: 60})
	for i, v := range noise(4, 500) {
		x := a.Add(int64(i)*60, v)
		if y := b.Add(int64(i)*60, v); x != y {
			t.Fatalf("value %d: %+v and %+v", i, x, y)
		}
		for _, missing := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e37} {
			if y := b.Add(int64(i)*60, missing); y != (Verdict{}) {
				t.Fatalf("a missing value: %+v", y)
			}
		}
		b.Add(int64(i)*60-1, 1e9)
	}
	flat := NewAnomalies(AnomalyOptions{})
	if alarms := feed(flat, 0, make([]float64, 1000)); len(alarms) > 0 {
		t.Errorf("alarms of a constant at %v", alarms)
	}
	if v := flat.Add(1000*60, 5); v.Score <= 0 {
		t.Errorf("the first other value has score %g", v.Score)
	}
	at := NewAnomalies(AnomalyOptions{})
	for _, v := range noise(5, 500) { // without times there is no rate
		if v := at.Add(60, v); v.Alarm || v.Score != 0 {
			t.Fatalf("values of one second: %+v", v)
		}
	}
}

// Whatever comes, no score is NaN or infinite, and the same input gives the same output.
func FuzzAnomalies(f *testing.F) {
	f.Add(uint64(1), 1.0, 300)
	f.Add(uint64(2), 1e300, 300)
	f.Add(uint64(4), 1e30, 300)
	f.Add(uint64(3), 1e-300, 300)
	f.Fuzz(func(t *testing.T, seed uint64, scale float64, n int) {
		r := rand.New(rand.NewPCG(seed, 9))
		d := NewAnomalies(AnomalyOptions{Sensitivity: r.Float64()})
		for i := range max(0, min(n, 2000)) {
			v := d.Add(int64(i)*int64(1+r.IntN(1000)), scale*math.Exp(float64(r.IntN(20))*r.NormFloat64()))
			if math.IsNaN(v.Score) || math.IsInf(v.Score, 0) || math.IsNaN(v.Novelty) || math.IsInf(v.Novelty, 0) {
				t.Fatalf("value %d: %+v", i, v)
			}
		}
	})
}

// What a value costs, and that it allocates nothing.
func BenchmarkAnomalies(b *testing.B) {
	y := noise(6, 4096)
	d := NewAnomalies(AnomalyOptions{})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		d.Add(int64(i)*60, y[i&4095])
		i++
	}
}
