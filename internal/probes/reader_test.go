package probes

import (
	"encoding/binary"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/perfagent/perfagent/internal/wire"
)

// fakeRing has a sample whenever it is asked, up to left of them.
type fakeRing struct {
	sample    []byte
	left      int
	reads     int
	available int // what AvailableBytes says
}

func (r *fakeRing) SetDeadline(time.Time) {}
func (r *fakeRing) BufferSize() int       { return 2 << 20 }
func (r *fakeRing) AvailableBytes() int   { return r.available }
func (r *fakeRing) Close() error          { return nil }

func (r *fakeRing) ReadInto(rec *ringbuf.Record) error {
	if r.left == 0 {
		return os.ErrDeadlineExceeded
	}
	r.left--
	r.reads++
	rec.RawSample = append(rec.RawSample[:0], r.sample...)
	return nil
}

func newPool() *sync.Pool {
	return &sync.Pool{New: func() any { return &batch{buf: make([]byte, 0, batchBytes)} }}
}

// A load that always outruns the reader does not keep it from the sweep: drain ends behind its deadline. At the stop it
// reads all that was there, and no more than a batch of what comes meanwhile.
func TestDrainEnds(t *testing.T) {
	const endless = 1 << 40
	sample := sampleOf(KindExchange, "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK")
	for _, now := range []bool{false, true} {
		const there = 4000
		ring := &fakeRing{sample: sample, left: endless} // room to spare: nothing is dropped
		p := &Probe{reader: ring, log: slog.New(slog.DiscardHandler)}
		queue := make(chan *batch, 1)
		var records counting
		done := make(chan struct{})
		go func() {
			defer close(done)
			for b := range queue {
				deliver(b.buf, &records, &p.lostParse)
			}
		}()
		if now {
			ring.available = there * (len(sample) + 8)
		}
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
		close(queue)
		<-done
		if records.records != ring.reads || len(p.dropped) != 0 {
			t.Errorf("read %d, delivered %d, dropped %d", ring.reads, records.records, len(p.dropped))
		}
		perBatch := batchBytes / (len(sample) + 4)
		if most := there + there/10 + perBatch; now && (ring.reads < there || ring.reads > most) {
			t.Errorf("at the stop %d records were read: expected %d to %d", ring.reads, there, most)
		}
	}
}

// What a full queue does not take is told with the next batch, in order: exchanges and swept copies whose framing is
// known; neither fragments nor other swept copies.
func TestQueueFull(t *testing.T) {
	record := func(seq uint32, kind byte, flags wire.Flags) []byte {
		s := sampleOf(kind, "GET / HTTP/1.1\r\n\r\n", "")
		binary.NativeEndian.PutUint32(s[atSeq:], seq)
		binary.NativeEndian.PutUint16(s[atFlags:], uint16(flags))
		return s
	}
	batchOf := func(samples ...[]byte) *batch {
		b := &batch{}
		for _, s := range samples {
			b.buf = append(binary.NativeEndian.AppendUint32(b.buf, uint32(len(s))), s...)
		}
		return b
	}
	ring := &fakeRing{available: 1<<20 + 1} // more than half full
	p := &Probe{reader: ring, log: slog.New(slog.DiscardHandler)}
	queue := make(chan *batch, 1)
	p.enqueue(queue, batchOf(record(1, KindExchange, 0)))
	p.enqueue(queue, batchOf(record(2, KindExchange, 0), record(3, KindExchange, wire.FlagSwept), record(4, KindFragment, 0)))
	p.enqueue(queue, batchOf(record(5, KindExchange, wire.FlagSwept|wire.FlagFramed), record(6, KindExchange, wire.FlagClosed)))
	if b := <-queue; len(b.dropped) != 0 {
		t.Errorf("in front of the loss: %v", b.dropped)
	}
	p.enqueue(queue, batchOf(record(7, KindExchange, 0)))
	got := (<-queue).dropped
	want := []dropped{{7, 2, 0}, {7, 5, wire.FlagSwept | wire.FlagFramed}, {7, 6, wire.FlagClosed}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("dropped %v, expected %v", got, want)
	}
	p.enqueue(queue, batchOf())
	if b := <-queue; len(b.dropped) != 0 || p.lostQueue.Load() != 0 {
		t.Errorf("told twice: %v, %d", b.dropped, p.lostQueue.Load())
	}
}

// Beyond what is remembered of dropped exchanges they are counted at once.
func TestQueueFullForLong(t *testing.T) {
	ring := &fakeRing{available: 1<<20 + 1, sample: sampleOf(KindExchange, "GET / HTTP/1.1\r\n\r\n", ""), left: droppedMax + 1009}
	p := &Probe{reader: ring, log: slog.New(slog.DiscardHandler)}
	queue := make(chan *batch) // takes nothing
	for ring.left > 0 {
		if err := p.drain(queue, newPool(), false); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.dropped) != droppedMax || p.lostQueue.Load() != 1009 {
		t.Errorf("remembered %d, counted %d", len(p.dropped), p.lostQueue.Load())
	}
}
