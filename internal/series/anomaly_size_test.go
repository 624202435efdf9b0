package series

import (
	"testing"
	"unsafe"
)

// A series costs at most 4 KiB and no allocation per value.
func TestAnomaliesCost(t *testing.T) {
	if size := unsafe.Sizeof(Anomalies{}); size > 4<<10 {
		t.Errorf("a detector has %d bytes", size)
	}
	y := noise(8, 1000)
	d := NewAnomalies(AnomalyOptions{})
	i := 0
	if n := testing.AllocsPerRun(1000, func() { d.Add(int64(i)*60, y[i%1000]); i++ }); n > 0 {
		t.Errorf("%g allocations for a value", n)
	}
}
