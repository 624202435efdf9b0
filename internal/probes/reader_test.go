package probes

import (
	"encoding/binary"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

func newPool() *sync.Pool {
	return &sync.Pool{New: func() any { return &batch{buf: make([]byte, 0, batchBytes)} }}
}

// A load that always outruns the reader does not keep it from the sweep: drain ends behind its deadline. At the stop it
// reads all that was there, and no more than a batch of what comes meanwhile.
func TestDrainEnds(t *testing.T) {
	sample := sampleOf(KindExchange, "GET / HTTP/1.1\r\n\r\n", strings.Repeat("x", 512-recordBytes-ringHeader-18))
	const size, there = 512, 1500 // of a record, so that each lap is like the one before; records that are always there
	for _, now := range []bool{false, true} {
		ring := newFakeRing(t, fakeRingSize, 0)
		for ring.put(sample, 0) {
		}
		ring.producer.Store(there * size)
		p := &Probe{ring: ring.ring, log: slog.New(slog.DiscardHandler)}
		queue := make(chan *batch, 1)
		var records counting
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for b := range queue {
				records.dropped += len(b.dropped)
				deliver(b.buf, &records, &p.lostParse)
			}
		})
		wg.Go(func() { // a producer that is always ahead
			for {
				select {
				case <-stop:
					return
				default:
					ring.producer.Store(ring.consumer.Load() + there*size)
				}
			}
		})
		ended := make(chan error, 1)
		go func() { ended <- p.drain(queue, newPool(), now) }()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(100 * pollInterval):
			t.Fatal("drain does not end")
		}
		close(stop)
		close(queue)
		wg.Wait()
		read := int(ring.consumer.Load() / size)
		dropped := records.dropped + len(p.dropped) + int(p.lostQueue.Load())
		if records.records+dropped != read || p.lostParse.Load() != 0 {
			t.Errorf("read %d; delivered %d, dropped %d, %d malformed", read, records.records, dropped, p.lostParse.Load())
		}
		if most := there + batchBytes/size; now && (read < there || read > most) {
			t.Errorf("at the stop %d records were read: expected %d to %d", read, there, most)
		}
		if !now && read < there {
			t.Errorf("%d records were read: expected %d at least", read, there)
		}
	}
}

// Where nothing comes, each poll interval ends with an empty batch: it tells the worker that everything was drained.
func TestDrainNothing(t *testing.T) {
	p := &Probe{ring: newFakeRing(t, 4096, 0).ring, log: slog.New(slog.DiscardHandler)}
	queue := make(chan *batch, 2)
	start := time.Now()
	for _, now := range []bool{false, true} {
		if err := p.drain(queue, newPool(), now); err != nil {
			t.Fatal(err)
		}
		if b := <-queue; len(b.buf) != 0 || time.Since(start) < pollInterval {
			t.Errorf("%d bytes after %v", len(b.buf), time.Since(start))
		}
	}
}

// What a full queue does not take while the ring buffer is more than half full is told with the next batch, in order:
// exchanges and swept copies whose framing is known; neither fragments nor other swept copies, nor discarded records.
func TestQueueFull(t *testing.T) {
	ring := newFakeRing(t, fakeRingSize, 0)
	p := &Probe{ring: ring.ring, log: slog.New(slog.DiscardHandler)}
	queue, pool := make(chan *batch, 1), newPool()
	put := func(seq uint32, kind byte, flags wire.Flags, header uint32) {
		s := sampleOf(kind, "GET / HTTP/1.1\r\n\r\n", "")
		binary.NativeEndian.PutUint32(s[atSeq:], seq)
		binary.NativeEndian.PutUint16(s[atFlags:], uint16(flags))
		ring.put(s, header)
	}
	enqueue := func() {
		t.Helper()
		buf, _, err := ring.read(make([]byte, 0, batchBytes))
		if err != nil {
			t.Fatal(err)
		}
		ring.producer.Add(fakeRingSize/2 + 8) // more than half full
		p.enqueue(queue, pool, &batch{buf: buf})
		ring.producer.Store(ring.at)
	}
	put(1, KindExchange, 0, 0)
	enqueue()
	put(2, KindExchange, 0, 0)
	put(3, KindExchange, wire.FlagSwept, 0)
	put(4, KindFragment, 0, 0)
	put(5, KindExchange, 0, ringDiscard)
	enqueue()
	put(6, KindExchange, wire.FlagSwept|wire.FlagFramed, 0)
	put(7, KindExchange, wire.FlagClosed, 0)
	enqueue()
	if b := <-queue; len(b.dropped) != 0 {
		t.Errorf("in front of the loss: %v", b.dropped)
	}
	put(8, KindExchange, 0, 0)
	enqueue()
	got := (<-queue).dropped
	want := []dropped{{7, 2, 0}, {7, 6, wire.FlagSwept | wire.FlagFramed}, {7, 7, wire.FlagClosed}}
	if !slices.Equal(got, want) {
		t.Errorf("dropped %v, expected %v", got, want)
	}
	enqueue()
	if b := <-queue; len(b.dropped) != 0 || p.lostQueue.Load() != 0 {
		t.Errorf("told twice: %v, %d", b.dropped, p.lostQueue.Load())
	}
}

// A full queue is waited for while the ring buffer is at most half full.
func TestQueueWaits(t *testing.T) {
	ring := newFakeRing(t, fakeRingSize, 0)
	ring.producer.Store(fakeRingSize / 2)
	p := &Probe{ring: ring.ring, log: slog.New(slog.DiscardHandler)}
	queue, done := make(chan *batch, 1), make(chan struct{})
	first, second := &batch{}, &batch{}
	p.enqueue(queue, newPool(), first)
	go func() {
		defer close(done)
		p.enqueue(queue, newPool(), second)
	}()
	if <-queue != first || <-queue != second {
		t.Error("not in order")
	}
	<-done
}

// Beyond what is remembered of dropped exchanges they are counted at once, exactly.
func TestQueueFullForLong(t *testing.T) {
	const lost = droppedMax + 1009
	ring := newFakeRing(t, fakeRingSize, 0)
	p := &Probe{ring: ring.ring, log: slog.New(slog.DiscardHandler)}
	queue, pool := make(chan *batch), newPool() // takes nothing
	sample := sampleOf(KindExchange, "GET / HTTP/1.1\r\n\r\n", "")
	for sent := 0; sent < lost; {
		for sent < lost && ring.put(sample, 0) {
			sent++
		}
		b := pool.Get().(*batch)
		for full := true; full; {
			var err error
			if b.buf, full, err = ring.read(b.buf); err != nil {
				t.Fatal(err)
			}
			ring.producer.Add(fakeRingSize/2 + 8) // more than half full
			p.enqueue(queue, pool, b)
			ring.producer.Store(ring.at)
			b = pool.Get().(*batch)
		}
	}
	if len(p.dropped) != droppedMax || p.lostQueue.Load() != 1009 {
		t.Errorf("remembered %d, counted %d", len(p.dropped), p.lostQueue.Load())
	}
}
