package probes

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	pollInterval = 100 * time.Millisecond // the kernel side wakes the reader only when much is queued
	// Each sweep visits every bucket of the connections' map. With sweepIdle, and the poll, what is reported from it is
	// visible within 0.8 s.
	sweepInterval = 400 * time.Millisecond
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
	// Lost tells, in the place of Record, of a record that is lost on the way: dropped because the handler fell behind, or of
	// a protocol that is not known. Whether its exchange is lost with it, the flags and the other records of the exchange tell.
	Lost(conn uint64, seq uint32, flags wire.Flags, loss wire.Loss)
	// Delivered is called behind every batch, a good moment for housekeeping; all: everything read so far was handed over.
	Delivered(all bool)
}

// batch is a run of records as it was in the ring buffer, behind their headers.
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
	p.queue.Store(&queue)
	pool := &sync.Pool{New: func() any { return &batch{buf: make([]byte, 0, batchBytes)} }}
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := range queue {
			for _, d := range b.dropped {
				h.Lost(d.conn, d.seq, d.flags, wire.LostQueueFull)
			}
			deliver(b.buf, h, &p.lostParse)
			b.buf, b.dropped = b.buf[:0], nil
			pool.Put(b)
			h.Delivered(len(queue) == 0)
		}
	})
	err := p.read(ctx, queue, pool)
	if err != nil { // the ring may still be read, and what is there is not lost
		err = errors.Join(err, p.drain(queue, pool, true))
	}
	if len(p.dropped) > 0 {
		queue <- &batch{dropped: p.dropped}
	}
	close(queue)
	wg.Wait()
	return err
}

// Queue tells how many batches wait for the handler of Run, and how many may. It may be called from any goroutine.
func (p *Probe) Queue() (length, capacity int) {
	if queue := p.queue.Load(); queue != nil {
		return len(*queue), cap(*queue)
	}
	return 0, batchesMax
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
		if p.opts.Broken != nil {
			if err := p.opts.Broken(""); err != nil {
				return err
			}
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
		there = p.ring.available()
	} else {
		deadline = deadline.Add(pollInterval)
	}
	b := pool.Get().(*batch)
	for {
		var full bool
		var err error
		if b.buf, full, err = p.ring.read(b.buf); err != nil {
			return err
		}
		left := time.Until(deadline)
		switch {
		case full:
			there -= len(b.buf)
			p.enqueue(queue, pool, b)
			if there <= 0 && left <= 0 {
				return nil
			}
			b = pool.Get().(*batch)
		case left <= 0:
			// An empty batch still tells the worker that everything was drained.
			p.enqueue(queue, pool, b)
			return nil
		default:
			if err := p.ring.wait(left); err != nil {
				return err
			}
		}
	}
}

// enqueue hands a batch to the worker. Where the queue is full it waits as long as the ring buffer has room to spare for
// what comes meanwhile; then it drops the batch.
func (p *Probe) enqueue(queue chan<- *batch, pool *sync.Pool, b *batch) {
	b.dropped = p.dropped
	for {
		select {
		case queue <- b:
			p.dropped = nil
			return
		default:
		}
		if p.ring.available() > int(p.ring.size)/2 {
			p.drop(b.buf)
			b.buf, b.dropped = b.buf[:0], nil
			pool.Put(b)
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
	for sample, rest, ok := nextSample(buf); ok; sample, rest, ok = nextSample(rest) {
		if len(sample) < recordBytes || sample[atKind]&kindMask != KindExchange {
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
	sample, rest, ok := nextSample(buf)
	for ; ok; sample, rest, ok = nextSample(rest) {
		switch d.Kind(sample) {
		case KindExchange:
			switch d.Record(sample, &r) {
			case nil:
				h.Record(&r)
				continue
			case ErrProtocol:
				h.Lost(r.Conn, r.Seq, r.Flags, wire.LostParse)
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
	if len(rest) > 0 {
		malformed.Add(1)
	}
}
