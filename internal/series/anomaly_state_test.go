package series

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// lived returns a detector after n minutes of a day's rhythm with noise, unrest and an incident now and then.
func lived(seed uint64, n int, o AnomalyOptions) (d *Anomalies, next func() (unix int64, value float64)) {
	r := rand.New(rand.NewPCG(seed, 31))
	i := 0
	next = func() (int64, float64) {
		v := 100 + 40*math.Sin(2*math.Pi*float64(i)/1440) + (1+float64(i/500%2))*3*r.NormFloat64()
		if i%700 > 690 {
			v *= 1 + 2*r.Float64()
		}
		i++
		return int64(i) * 60, v
	}
	d = NewAnomalies(o)
	for range n {
		d.Add(next())
	}
	return d, next
}

// A detector that is stored and read says the same as the one that goes on, to the last digit, and has the same state after: stored
// at every stage of its life (new, learning, before, in and after an incident, with both seasons).
func TestAnomaliesStateRoundTrip(t *testing.T) {
	incidents := 0
	for _, n := range []int{0, 1, 2, 50, 119, 120, 600, 693, 699, 720, 1440, 5000, 16 * 1440} {
		d, next := lived(uint64(n), n, AnomalyOptions{Sensitivity: 10})
		state, err := d.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var other Anomalies
		if err := other.UnmarshalBinary(state); err != nil {
			t.Fatalf("after %d values: %v", n, err)
		}
		for i := range 2000 {
			unix, v := next()
			x, y := d.Add(unix, v), other.Add(unix, v)
			if x != y || d.Incident() != other.Incident() {
				t.Fatalf("after %d values, and %d more: %+v and %+v", n, i, x, y)
			}
			if x.Alarm {
				incidents++
			}
		}
		state, _ = d.MarshalBinary()
		if again, _ := other.MarshalBinary(); !bytes.Equal(state, again) {
			t.Errorf("after %d values and 2000 more the states differ", n)
		}
	}
	if incidents < 10 {
		t.Errorf("only %d incidents: too few to show anything", incidents)
	}
}

// The sensitivity is the reader's, if it has one, and what was learned is the state's; a state of values in another step is refused,
// and then the detector is as it was.
func TestAnomaliesStateOptions(t *testing.T) {
	d, _ := lived(1, 1440, AnomalyOptions{Sensitivity: 1})
	state, _ := d.MarshalBinary()
	often, seldom := NewAnomalies(AnomalyOptions{Sensitivity: 1000}), NewAnomalies(AnomalyOptions{Sensitivity: 1e-6, Step: 60})
	for _, a := range []*Anomalies{often, seldom} {
		if err := a.UnmarshalBinary(state); err != nil {
			t.Fatal(err)
		}
	}
	x, y := often.Add(1441*60, 1000), seldom.Add(1441*60, 1000)
	if x.Score != y.Score || x.Score < -2 {
		t.Errorf("the scores are %g and %g", x.Score, y.Score)
	}
	if !x.Alarm || y.Alarm {
		t.Errorf("alarms: %v and %v", x.Alarm, y.Alarm)
	}
	other, _ := lived(2, 300, AnomalyOptions{Step: 10})
	before, _ := other.MarshalBinary()
	if err := other.UnmarshalBinary(state); err == nil || !strings.Contains(err.Error(), "60 s") {
		t.Errorf("a step of 10 and of 60 s: %v", err)
	}
	if after, _ := other.MarshalBinary(); !bytes.Equal(before, after) {
		t.Error("a refused state has changed the detector")
	}
}

// What is cut off anywhere, too long, of another version, or holds what no detector can have, is refused.
func TestAnomaliesStateRefused(t *testing.T) {
	d, _ := lived(3, 3000, AnomalyOptions{})
	state, _ := d.MarshalBinary()
	var a Anomalies
	for n := range state {
		if err := a.UnmarshalBinary(state[:n]); err == nil {
			t.Fatalf("a state of %d of %d bytes is taken", n, len(state))
		}
	}
	if err := a.UnmarshalBinary(append(bytes.Clone(state), 0)); err == nil {
		t.Error("a state with a byte more is taken")
	}
	if err := a.UnmarshalBinary(append([]byte{anomalyStateVersion + 1}, state[1:]...)); err == nil {
		t.Error("a state of another version is taken")
	}
	for name, spoil := range map[string]func(d *Anomalies){
		"a sensitivity that is NaN": func(d *Anomalies) { d.options.Sensitivity = math.NaN() },
		"a step below 0":            func(d *Anomalies) { d.options.Step = -1 },
		"fewer than no values":      func(d *Anomalies) { d.count = -1 },
		"the end of time":           func(d *Anomalies) { d.lastUnix = math.MaxInt64 },
		"an infinite level":         func(d *Anomalies) { d.slow = math.Inf(-1) },
		"a deviation below 0":       func(d *Anomalies) { d.deviation = -1 },
		"no weight":                 func(d *Anomalies) { d.weight = 0 },
		"news from the future":      func(d *Anomalies) { d.newsAt = d.count + 1 },
		"a count below 0 in a tail": func(d *Anomalies) { d.tails[untimely].counts[tailSlots-1] = -1 },
		"a tail that is NaN":        func(d *Anomalies) { d.tails[sudden].sum = float32(math.NaN()) },
		"a tail that is far off":    func(d *Anomalies) { d.tails[sudden].base = math.MinInt32 },
		"a look that never comes":   func(d *Anomalies) { d.tails[sudden].untilMoved = math.MaxInt32 },
		"an infinite season":        func(d *Anomalies) { d.weekSlot[3] = float32(math.Inf(1)) },
		"another NaN":               func(d *Anomalies) { d.daySlot[3] = math.Float32frombits(unmetBits + 1) },
		"episodes below 0":          func(d *Anomalies) { d.rates.episodes = -1 },
		"an incident that is NaN":   func(d *Anomalies) { d.incident.Score = math.NaN() },
	} {
		spoilt, _ := lived(3, 3000, AnomalyOptions{})
		spoil(spoilt)
		state, _ := spoilt.MarshalBinary()
		if err := a.UnmarshalBinary(state); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	for back := 1; back <= 3; back++ { // the incident's kind, severity and whether it is open come last
		bad := bytes.Clone(state)
		bad[len(bad)-back] = 9
		if err := a.UnmarshalBinary(bad); err == nil {
			t.Errorf("9 as the last byte but %d is taken", back-1)
		}
	}
}

// No bytes make a detector crash, and what is taken is a state: it is written as it was read, and no verdict of it is NaN.
func FuzzAnomaliesState(f *testing.F) {
	for _, n := range []int{0, 1, 100, 695, 5000} {
		d, _ := lived(uint64(n), n, AnomalyOptions{})
		state, _ := d.MarshalBinary()
		f.Add(state, uint64(n))
	}
	f.Fuzz(func(t *testing.T, state []byte, seed uint64) {
		var a Anomalies
		if a.UnmarshalBinary(state) != nil {
			return
		}
		if again, _ := a.MarshalBinary(); !bytes.Equal(state, again) {
			t.Fatalf("read %x, written %x", state, again)
		}
		r := rand.New(rand.NewPCG(seed, 37))
		for i := range 300 {
			v := a.Add(a.lastUnix+int64(r.IntN(1000)), math.Exp(float64(r.IntN(20))*r.NormFloat64()))
			if math.IsNaN(v.Score) || math.IsNaN(v.Novelty) || math.IsNaN(v.Expected) || math.IsInf(v.Score, 0) {
				t.Fatalf("value %d: %+v", i, v)
			}
		}
	})
}
