package host

import (
	"context"
	"math"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	// clockRefresh is how often the offset is measured: NTP slews by at most 500 us a second.
	clockRefresh = time.Second
	// clockSamples is how many readings one measurement takes; the one that was interrupted least counts.
	clockSamples = 5
)

// ClockOptions says where a Clock reads time. The zero value reads the kernel's clocks.
type ClockOptions struct {
	Monotonic func() int64     // CLOCK_MONOTONIC in nanoseconds; nil reads it from the kernel
	Wall      func() time.Time // nil means time.Now
}

// Clock converts the kernel's monotonic instants to wall-clock time. Its methods may be called from any goroutine.
type Clock struct {
	monotonic func() int64
	wall      func() time.Time
	offset    atomic.Int64 // CLOCK_REALTIME - CLOCK_MONOTONIC, ns
}

// NewClock returns a clock whose offset is measured now.
func NewClock(options ClockOptions) *Clock {
	c := &Clock{monotonic: options.Monotonic, wall: options.Wall}
	if c.monotonic == nil {
		c.monotonic = Monotonic
	}
	if c.wall == nil {
		c.wall = time.Now
	}
	offset, _ := c.measure()
	c.offset.Store(offset)
	return c
}

// Time returns the wall-clock time of a monotonic instant in nanoseconds.
func (c *Clock) Time(monotonicNS int64) time.Time {
	return time.Unix(0, monotonicNS+c.offset.Load())
}

// Refresh measures the offset again. A difference within the error of the measurement is ignored, so that two
// conversions of one instant agree unless the wall clock was really moved.
func (c *Clock) Refresh() {
	offset, uncertainty := c.measure()
	if d := offset - c.offset.Load(); d > uncertainty || d < -uncertainty {
		c.offset.Store(offset)
	}
}

// Run refreshes the offset each second until ctx ends.
func (c *Clock) Run(ctx context.Context) {
	ticker := time.NewTicker(clockRefresh)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.Refresh()
		}
	}
}

// measure returns the offset and the largest error it can have, both in nanoseconds.
func (c *Clock) measure() (offset, uncertainty int64) {
	uncertainty = math.MaxInt64
	for range clockSamples {
		before := c.monotonic()
		wall := c.wall().UnixNano()
		after := c.monotonic()
		if width := after - before; width < uncertainty {
			offset, uncertainty = wall-(before+width/2), width
		}
	}
	return offset, uncertainty
}

// ThreadTime is what the calling thread has used of processors so far. It does not grow while others have them.
func ThreadTime() time.Duration {
	const clockThreadCPUTime = 3
	var ts syscall.Timespec
	clockGettime(clockThreadCPUTime, &ts)
	return time.Duration(ts.Nano())
}

// Monotonic returns CLOCK_MONOTONIC in nanoseconds, the clock of every instant that the kernel side takes. It is a
// system call (about 100 ns): not for use once per event.
func Monotonic() int64 {
	const clockMonotonic = 1
	var ts syscall.Timespec
	clockGettime(clockMonotonic, &ts)
	return ts.Nano()
}

// clockGettime reads a clock that the kernel always has.
func clockGettime(clock uintptr, ts *syscall.Timespec) {
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(ts)), 0)
}
