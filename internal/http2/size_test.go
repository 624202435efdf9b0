package http2

import (
	"testing"
	"unsafe"
)

// Shows that the books of memory know how large things are.
func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(stream{}); n > streamBytes || n < streamBytes*3/4 {
		t.Errorf("a stream takes %d bytes, the books have %d", n, streamBytes)
	}
	if n := unsafe.Sizeof(entry{}); n != entryBytes {
		t.Errorf("an entry takes %d bytes, the books have %d", n, entryBytes)
	}
	t.Log(unsafe.Sizeof(connection{}))
}
