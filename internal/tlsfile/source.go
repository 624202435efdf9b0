package tlsfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLimit: the examination of a file would have needed more bytes or time than one file is given.
var ErrLimit = errors.New("more than one file may take")

// errOutside: a table of the file points outside of it.
var errOutside = errors.New("points outside of the file")

// source is a file that is read within limits.
type source struct {
	r     io.ReaderAt
	size  int64
	left  int64 // bytes that may still be read
	until time.Time
	// cpuUntil bounds the processor time of the thread; 0: no bound, for tests.
	cpuUntil time.Duration
}

// threadTime is the processor time that this thread has used.
func threadTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// read fills p from an offset of the file.
func (s *source) read(p []byte, offset uint64) error {
	switch n := uint64(len(p)); {
	case offset > uint64(s.size) || n > uint64(s.size)-offset:
		return fmt.Errorf("%d bytes at %#x: %w", n, offset, errOutside)
	case int64(n) > s.left:
		return fmt.Errorf("bytes: %w", ErrLimit)
	case time.Now().After(s.until), s.cpuUntil != 0 && threadTime() > s.cpuUntil:
		return fmt.Errorf("time: %w", ErrLimit)
	}
	s.left -= int64(len(p))
	if _, err := s.r.ReadAt(p, int64(offset)); err != nil && !errors.Is(err, io.EOF) {
		return err
	} else if err != nil {
		return fmt.Errorf("at %#x: the file has become shorter: %w", offset, errOutside)
	}
	return nil
}

// bytes returns n bytes at an offset; n is bounded by the caller.
func (s *source) bytes(offset uint64, n int) ([]byte, error) {
	p := make([]byte, n)
	return p, s.read(p, offset)
}

// chunks calls visit with consecutive parts of a range, each but the first beginning with the last overlap bytes of the one before, so that what is
// shorter is seen whole; at is the part's offset in the range. visit returns false to end.
func (s *source) chunks(offset, size uint64, overlap int, visit func(part []byte, at uint64) bool) error {
	buf := make([]byte, chunkBytes)
	kept := 0
	for done := uint64(0); done < size; {
		n := min(uint64(len(buf)-kept), size-done)
		if err := s.read(buf[kept:kept+int(n)], offset+done); err != nil {
			return err
		}
		part := buf[:kept+int(n)]
		if !visit(part, done-uint64(kept)) {
			return nil
		}
		done += n
		kept = min(overlap, len(part))
		copy(buf, part[len(part)-kept:])
	}
	return nil
}

// text returns the bytes up to the first NUL, "" where none is among the first limit bytes.
func (s *source) text(offset, end uint64, limit int) string {
	if offset >= end {
		return ""
	}
	p, err := s.bytes(offset, int(min(uint64(limit), end-offset)))
	if err != nil {
		return ""
	}
	if i := bytes.IndexByte(p, 0); i >= 0 {
		return string(p[:i])
	}
	return ""
}
