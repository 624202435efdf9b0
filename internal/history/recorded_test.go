package history

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

func recordedAlert(name string, v float64) RecordedSample {
	return RecordedSample{Labels: []analytics.Label{{Name: "__name__", Value: "ALERTS"}, {Name: "alertname", Value: name}}, Value: v}
}

// alerts returns the samples of ALERTS by time, the one that waits included.
func alerts(t *testing.T, h *History, step time.Duration) map[int64]float64 {
	t.Helper()
	matchers, err := ParseSelector("ALERTS")
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.Select(Query{From: start.Add(-time.Hour), To: start.Add(1000 * time.Hour), Step: step, Matchers: matchers})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all := map[int64]float64{}
	for _, s := range r.Series {
		if s.Kind != Recorded {
			t.Errorf("%v is a %v", s.Labels, s.Kind)
		}
		it := s.Iterate()
		for it.Next() {
			all[it.At().Time-start.UnixMilli()] = it.At().Value
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
		if p, waits := s.Pending(); waits {
			all[p.Time-start.UnixMilli()] = p.Value
		}
	}
	return all
}

// Shows that what rules record is there at once, then at the end of the tick that takes it, through segments, restarts and both
// kinds of reading; that a directory becomes one of format 2 with the first of it, and not before.
func TestRecorded(t *testing.T) {
	path := t.TempDir()
	format := func() string {
		b, err := os.ReadFile(filepath.Join(path, directoryName, formatName))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	h := Open(Options{Path: path, Log: quiet})
	feed(h, tickOf(0), nil)
	if got := format(); got != formatLine(formatFirst) {
		t.Errorf("%q before anything is recorded", got)
	}
	at := time.Unix(0, 0).Add(time.Duration(tickOf(0).To.UnixNano())).Add(3 * time.Second)
	if err := h.Record(at, []RecordedSample{recordedAlert("slow", 1)}); err != nil {
		t.Fatal(err)
	}
	waiting := at.UnixMilli() - start.UnixMilli()
	if got := alerts(t, h, 0); len(got) != 1 || got[waiting] != 1 {
		t.Errorf("%v", got)
	}
	want := map[int64]float64{}
	for i := 1; i < 1000; i++ {
		if i%2 == 0 {
			if err := h.Record(tickOf(i).To, []RecordedSample{recordedAlert("slow", float64(i))}); err != nil {
				t.Fatal(err)
			}
		}
		feed(h, tickOf(i), nil)
		slot := slotOf(tickOf(i).To.UnixMilli()) * slotSeconds * 1000
		switch {
		case i == 1:
			want[slot-start.UnixMilli()] = 1
		case i%2 == 0:
			want[slot-start.UnixMilli()] = float64(i)
		}
	}
	if got := alerts(t, h, 0); !maps.Equal(got, want) {
		t.Errorf("has %v, want %v", got, want)
	}
	if got := format(); got != formatLine(formatRecorded) {
		t.Errorf("%q after something was recorded", got)
	}
	minutes := alerts(t, h, time.Minute)
	h.close()
	for _, open := range []func() (*History, error){
		func() (*History, error) { return OpenReadOnly(path) },
		func() (*History, error) { return Open(Options{Path: path, Log: quiet}), nil },
	} {
		h, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if got := alerts(t, h, 0); !maps.Equal(got, want) {
			t.Errorf("after a restart %d samples, want %d", len(got), len(want))
		}
		if got := alerts(t, h, time.Minute); !maps.Equal(got, minutes) {
			t.Errorf("after a restart %v by minutes, want %v", got, minutes)
		}
		if s := h.Stats(); s.Memory && s.Trouble != "" || s.Damaged["segment"]+s.Damaged["tick"] > 0 {
			t.Errorf("%+v", s)
		}
		h.Close()
	}
}

// Shows that the number of recorded series is bounded, that the bound is said and counted, and that idle ones make room.
func TestRecordedBound(t *testing.T) {
	h := Open(Options{Log: quiet})
	var all []RecordedSample
	for i := range recordedMax {
		all = append(all, recordedAlert(fmt.Sprint(i), 1))
	}
	if err := h.Record(start, all); err != nil {
		t.Fatal(err)
	}
	feed(h, tickOf(0), nil)
	one := []RecordedSample{recordedAlert("one more", math.NaN())}
	if err := h.Record(start.Add(time.Minute), one); !errors.Is(err, ErrTooManyRecorded) {
		t.Errorf("%v", err)
	}
	if n := h.Stats().RecordedRefused; n != 1 {
		t.Errorf("%d refused", n)
	}
	if err := h.Record(start.Add(2*recordedIdle), one); err != nil {
		t.Error(err)
	}
}

// Shows that names which would not be found again are refused.
func TestRecordedNames(t *testing.T) {
	for _, labels := range [][]analytics.Label{
		nil,
		{{Name: "a", Value: "b"}},
		{{Name: "__name__", Value: "x"}, {Name: "b", Value: "1"}, {Name: "a", Value: "1"}},
		{{Name: "__name__", Value: "x"}, {Name: "__name__", Value: "y"}},
		{{Name: "__name__", Value: string(make([]byte, nameBytesMax))}},
	} {
		if err := Open(Options{Log: quiet}).Record(start, []RecordedSample{{Labels: labels}}); err == nil {
			t.Errorf("%.100v was taken", labels)
		}
	}
}
