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
	// droppedMax bounds how many dropped exchanges wait to be told to the worker; 64 Ki of them take 1 MiB. Those beyond
	// are counted without asking whether a swept copy of them was reported before.
	droppedMax = 1 << 16
	// dropLogInterval: what happens often is a counter; that it began is worth a line.
	dropLogInterval = time.Minute
)

// Handler receives what the kernel side saw, in order. Both structs and their slices are valid during the call only.
type Handler interface {
	Record(*wire.Record)
	Fragment(*wire.Fragment)
	// Dropped tells of an exchange whose record was dropped because the handler fell behind, in the place of Record. A
	// swept copy (flags) is told of only where its framing is known, so that it decides about the exchange.
	Dropped(conn uint64, seq uint32, flags wire.Flags)
	// Delivered is called behind every batch, a good moment for housekeeping; all: everything read so far was handed over.
	Delivered(all bool)
}

// ring is what is needed of the ring buffer's reader; tests have one of their own.
type ring interface {
	SetDeadline(time.Time)
	ReadInto(*ringbuf.Record) error
	AvailableBytes() int
	BufferSize() int
	Close() error
}

// batch is a run of samples, each behind its length as four bytes.
type batch struct {
	buf     []byte
	dropped []dropped // of batches that were dropped since the last one that was queued
}

// dropped names an exchange whose record was dropped.
type dropped struct {
	conn  uint64
	seq   uint32
	flags wire.Flags
}

// Run reads until the context ends, then hands over what is left, and returns. It calls h from one goroutine.
func (p *Probe) Run(ctx context.Context, h Handler) error {
	queue := make(chan *batch, batchesMax)
	pool := &sync.Pool{New: func() any { return &batch{buf: make([]byte, 0, batchBytes)} }}
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := range queue {
			for _, d := range b.dropped {
				h.Dropped(d.conn, d.seq, d.flags)
			}
			deliver(b.buf, h, &p.lostParse)
			b.buf, b.dropped = b.buf[:0], nil
			pool.Put(b)
			h.Delivered(len(queue) == 0)
		}
	})
	err := p.read(ctx, queue, pool)
	if len(p.dropped) > 0 {
		queue <- &batch{dropped: p.dropped}
	}
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

// drain reads for one poll interval, or only what is there. A load that outruns the reader never leaves the ring buffer
// empty, so each full batch is a place to stop: behind the deadline, or when as much was read as was there.
func (p *Probe) drain(queue chan<- *batch, pool *sync.Pool, now bool) error {
	deadline, there := time.Now(), 0
	if now {
		there = p.reader.AvailableBytes() // a sample takes more there than in a batch
	} else {
		deadline = deadline.Add(pollInterval)
	}
	p.reader.SetDeadline(deadline)
	b := pool.Get().(*batch)
	var rec ringbuf.Record
	for {
		n := len(b.buf)
		if cap(b.buf)-n < sampleMax+4 {
			p.enqueue(queue, b)
			if there -= n; there <= 0 && !time.Now().Before(deadline) {
				return nil
			}
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
	}
}

// enqueue hands a batch to the worker. Where the queue is full it waits as long as the ring buffer has room to spare for
// what comes meanwhile; then it drops the batch.
func (p *Probe) enqueue(queue chan<- *batch, b *batch) {
	b.dropped = p.dropped
	for {
		select {
		case queue <- b:
			p.dropped = nil
			return
		default:
		}
		if p.reader.AvailableBytes() > p.reader.BufferSize()/2 {
			p.drop(b.buf)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// drop remembers the exchanges of a batch that is not queued. Only the worker knows which of them it has reported from a
// swept copy, so they are told to it with the next batch, in their order, and counted there.
func (p *Probe) drop(buf []byte) {
	if now := time.Now(); now.Sub(p.dropLogged) >= dropLogInterval {
		p.dropLogged = now
		p.log.Warn("the worker falls behind: dropping exchanges, counted as queue_full")
	}
	for len(buf) >= 4 {
		n := int(binary.NativeEndian.Uint32(buf))
		sample := buf[4 : 4+n]
		buf = buf[4+n:]
		if len(sample) < recordBytes || sample[atKind] != KindExchange {
			continue // fragments are missed by their position
		}
		flags := wire.Flags(binary.NativeEndian.Uint16(sample[atFlags:]))
		switch {
		case flags&wire.FlagSwept != 0 && flags&wire.FlagFramed == 0: // it comes again
		case len(p.dropped) < droppedMax:
			p.dropped = append(p.dropped, dropped{binary.NativeEndian.Uint64(sample[atConn:]), binary.NativeEndian.Uint32(sample[atSeq:]), flags})
		case flags&wire.FlagSwept == 0:
			p.lostQueue.Add(1)
		}
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
