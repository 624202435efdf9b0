package probes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cilium/ebpf"
)

// In front of each record stand its length and two flags as four bytes, and four bytes of the kernel's own.
const (
	ringHeader  = 8       // BPF_RINGBUF_HDR_SZ; records are padded to a multiple of it
	ringBusy    = 1 << 31 // BPF_RINGBUF_BUSY_BIT: reserved, and being written
	ringDiscard = 1 << 30 // BPF_RINGBUF_DISCARD_BIT: given up by its writer
)

var errRing = errors.New("the ring buffer is inconsistent")

// ring is the reading end of the kernel side's ring buffer. The kernel gives out
//
//	page 0           the consumer's position, which we write
//	page 1           the producer's position
//	from page 2 on   the data, and the same data once more
//
// Positions count bytes and never wrap; records lie one behind the other, each behind its header, at the position modulo
// the size. As the data is mapped twice a run of records never wraps either, and is copied at once, headers and all: a
// copy for each record costs more than the record itself.
type ring struct {
	consumer, producer *atomic.Uintptr
	data               []byte // twice the size
	size               uintptr
	epoll              int

	consumerPages, producerPages []byte // as mapped
}

// openRing maps a ring buffer. Whoever opens it closes it, and keeps the map open meanwhile.
func openRing(m *ebpf.Map) (*ring, error) {
	fd, page := m.FD(), os.Getpagesize()
	r := &ring{size: uintptr(m.MaxEntries()), epoll: -1}
	var err error
	if r.consumerPages, err = unix.Mmap(fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map the consumer's position: %w", err)
	}
	if r.producerPages, err = unix.Mmap(fd, int64(page), page+2*int(r.size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, errors.Join(fmt.Errorf("map the data: %w", err), r.close())
	}
	r.consumer = (*atomic.Uintptr)(unsafe.Pointer(&r.consumerPages[0]))
	r.producer = (*atomic.Uintptr)(unsafe.Pointer(&r.producerPages[0]))
	r.data = r.producerPages[page:]
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, errors.Join(fmt.Errorf("create an epoll instance: %w", err), r.close())
	}
	// Edge triggered: the level is that there is data, and most of it is queued without a wake-up, to be left there until
	// the poll interval is over.
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}
	if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for the ring buffer: %w", err), r.close())
	}
	return r, nil
}

// read appends to buf the records that are there, behind their headers, as many as its capacity takes; full tells that
// the next one did not fit. A record that is being written ends the run, as if there were no more.
func (r *ring) read(buf []byte) (_ []byte, full bool, err error) {
	consumer := r.consumer.Load()
	there := r.producer.Load() - consumer
	start := consumer & (r.size - 1)
	room := uintptr(cap(buf) - len(buf))
	if there > r.size {
		return buf, false, fmt.Errorf("%w: %d of %d bytes in use", errRing, there, r.size)
	}
	run := uintptr(0)
	for run < there {
		// Atomic, as the kernel clears the busy bit when everything before was written.
		header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[start+run])))
		if header&ringBusy != 0 {
			break
		}
		n := uintptr(recordSize(header))
		if n > there-run || n > uintptr(cap(buf)) {
			return buf, false, fmt.Errorf("%w: a record of %d bytes", errRing, n)
		}
		if n > room-run {
			full = true
			break
		}
		run += n
	}
	if run > 0 {
		buf = append(buf, r.data[start:start+run]...)
		r.consumer.Store(consumer + run)
	}
	return buf, full, nil
}

// available is how many bytes wait to be read.
func (r *ring) available() int {
	return int(r.producer.Load() - r.consumer.Load())
}

// wait returns when the kernel side wakes the reader, at the latest behind the duration; and sometimes earlier.
func (r *ring) wait(d time.Duration) error {
	var events [1]unix.EpollEvent
	ms := (d + time.Millisecond - 1) / time.Millisecond
	if _, err := unix.EpollWait(r.epoll, events[:], int(ms)); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for the ring buffer: %w", err)
	}
	return nil
}

// close is called when nobody reads any more.
func (r *ring) close() error {
	var errs []error
	if r.epoll >= 0 {
		errs = append(errs, unix.Close(r.epoll))
	}
	for _, pages := range [][]byte{r.producerPages, r.consumerPages} {
		if pages != nil {
			errs = append(errs, unix.Munmap(pages))
		}
	}
	*r = ring{epoll: -1}
	return errors.Join(errs...)
}

// recordSize is what a record takes with its header and padding.
func recordSize(header uint32) int {
	n := header &^ (ringBusy | ringDiscard)
	return ringHeader + int((n+ringHeader-1)&^(ringHeader-1))
}

// nextSample takes the first record off a run, without those that were discarded. It returns false at the end, where rest
// is empty, or at what is no record.
func nextSample(run []byte) (sample, rest []byte, ok bool) {
	for len(run) >= ringHeader {
		header := binary.NativeEndian.Uint32(run)
		n := recordSize(header)
		if n > len(run) {
			break
		}
		if header&ringDiscard == 0 {
			return run[ringHeader : ringHeader+int(header&^ringBusy)], run[n:], true
		}
		run = run[n:]
	}
	return nil, run, false
}
