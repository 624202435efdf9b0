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
