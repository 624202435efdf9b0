package probes

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	pollInterval  = 100 * time.Millisecond // the kernel side wakes the reader only when much is queued
	sweepInterval = 250 * time.Millisecond // each visits every bucket of the connections' map
	batchBytes    = 256 << 10
	batchesMax    = 32 // queued at most: 8 MiB
)

// Handler receives what the kernel side saw, in order. Both structs and their slices are valid during the call only.
type Handler interface {
	Record(*wire.Record)
	Fragment(*wire.Fragment)
	// Drained is called when everything read so far was handed over; a good moment for housekeeping.
	Drained()
}

// batch is a run of samples, each behind its length as four bytes.
type batch struct {
	buf     []byte
	records int // exchanges that are lost with it
}

// Run reads until the context ends, then hands over what is left, and returns. It calls h from one goroutine.
func (p *Probe) Run(ctx context.Context, h Handler) error {
	queue := make(chan *batch, batchesMax)
	pool := &sync.Pool{New: func() any { return &batch{buf: make([]byte, 0, batchBytes)} }}
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := range queue {
			deliver(b.buf, h, &p.lostParse)
			b.buf, b.records = b.buf[:0], 0
			pool.Put(b)
			if len(queue) == 0 {
				h.Drained()
			}
		}
	})
	err := p.read(ctx, queue, pool)
	close(queue)
	wg.Wait()
	return err
}

// read moves samples from the ring buffer to the queue until the context ends.
func (p *Probe) read(ctx context.Context, queue chan<- *batch, pool *sync.Pool) error {
	var swept time.Time
	for {
		done := ctx.Err() != nil
		if now := time.Now(); now.Sub(swept) >= sweepInterval {
			swept = now
			if err := p.Sweep(); err != nil {
				p.log.Debug("sweep failed", "err", err)
			}
		}
		if err := p.drain(queue, pool, done); err != nil {
			return err
		}
		if done {
			return nil
		}
	}
}

// drain reads for one poll interval, or only what is there.
func (p *Probe) drain(queue chan<- *batch, pool *sync.Pool, now bool) error {
	deadline := time.Now()
	if !now {
		deadline = deadline.Add(pollInterval)
	}
	p.reader.SetDeadline(deadline)
	b := pool.Get().(*batch)
	var rec ringbuf.Record
	for {
		n := len(b.buf)
		if cap(b.buf)-n < sampleMax+4 {
			p.enqueue(queue, b)
			b = pool.Get().(*batch)
			n = 0
		}
		rec.RawSample = b.buf[n+4 : n+4 : cap(b.buf)]
		err := p.reader.ReadInto(&rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// An empty batch still tells the worker that everything was drained.
			p.enqueue(queue, b)
			return nil
		}
		if err != nil {
			return err
		}
		b.buf = b.buf[:n+4+len(rec.RawSample)]
		binary.NativeEndian.PutUint32(b.buf[n:], uint32(len(rec.RawSample)))
		if isExchange(rec.RawSample) {
			b.records++
		}
	}
}

// isExchange tells whether losing the sample loses an exchange: fragments are missed by their position, and a swept copy
// comes again.
func isExchange(sample []byte) bool {
	return len(sample) >= recordBytes && sample[atKind] == KindExchange &&
		wire.Flags(binary.NativeEndian.Uint16(sample[atFlags:]))&wire.FlagSwept == 0
}

// enqueue hands a batch to the worker. Where the queue is full it waits as long as the ring buffer has room to spare for
// what comes meanwhile; then it drops the batch and counts.
func (p *Probe) enqueue(queue chan<- *batch, b *batch) {
	for {
		select {
		case queue <- b:
			return
		default:
		}
		if p.reader.AvailableBytes() > p.reader.BufferSize()/2 {
			p.lostQueue.Add(uint64(b.records))
			b.buf, b.records = b.buf[:0], 0
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// deliver decodes a batch.
func deliver(buf []byte, h Handler, malformed *atomic.Uint64) {
	var (
		d Decoder
		r wire.Record
		f wire.Fragment
	)
	for len(buf) >= 4 {
		n := int(binary.NativeEndian.Uint32(buf))
		if n > len(buf)-4 {
			malformed.Add(1)
			return
		}
		sample := buf[4 : 4+n]
		buf = buf[4+n:]
		switch d.Kind(sample) {
		case KindExchange:
			if d.Record(sample, &r) == nil {
				h.Record(&r)
				continue
			}
		case KindFragment:
			if d.Fragment(sample, &f) == nil {
				h.Fragment(&f)
				continue
			}
		}
		malformed.Add(1)
	}
}
