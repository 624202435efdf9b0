package pipeline

import "testing"

// An exchange is remembered until its final record, and the oldest is forgotten when there are too many.
func TestSwept(t *testing.T) {
	s := swept{max: 4}
	if s.seen(1, 1) || !s.reported(1, 1) || s.reported(1, 1) || s.seen(1, 2) || !s.seen(1, 1) || s.seen(1, 1) {
		t.Fatal("one exchange")
	}
	for i := range uint32(10) {
		s.reported(2, i)
		s.reported(2, i)
	}
	for i := range uint32(10) {
		if got, want := s.seen(2, i), i >= 6; got != want {
			t.Errorf("exchange %d: seen %t, want %t", i, got, want)
		}
	}
	// The same key again while its old slot is still in the ring.
	for range 20 {
		if !s.reported(3, 3) || !s.seen(3, 3) {
			t.Fatal("again")
		}
	}
	if s.len() != 0 {
		t.Errorf("%d left", s.len())
	}
	var big swept
	for i := range uint64(3 * sweptMax) {
		big.reported(i, 0)
	}
	if big.len() != sweptMax || big.seen(2*sweptMax-1, 0) || !big.seen(2*sweptMax, 0) {
		t.Errorf("%d remembered", big.len())
	}
}

func BenchmarkSwept(b *testing.B) {
	var s swept
	for i := range uint64(sweptMax) {
		s.reported(i, 0)
	}
	b.ReportAllocs()
	i := uint64(sweptMax)
	for b.Loop() {
		s.reported(i, 0)
		s.seen(i-100, 0)
		i++
	}
}
