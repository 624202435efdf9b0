package http

import (
	"testing"
	"unsafe"
)

// TestSizes shows that the memory that is accounted for is the memory that is used.
func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(pending{}); n > pendingBytes || n < pendingBytes*3/4 {
		t.Errorf("a pending takes %d bytes, accounted %d", n, pendingBytes)
	}
	if n := unsafe.Sizeof(stream{}); n > 600 {
		t.Errorf("a stream takes %d bytes", n)
	}
	t.Logf("pending %d, stream %d", unsafe.Sizeof(pending{}), unsafe.Sizeof(stream{}))
}
