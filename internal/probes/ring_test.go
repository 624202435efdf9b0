package probes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
)

const fakeRingSize = 1 << 20

// fakeRing is a ring buffer in ordinary memory, and its producer. Nothing ever wakes its reader.
type fakeRing struct {
	*ring
	at uintptr // where the next record goes
}

// newFakeRing returns a ring whose positions begin at start.
func newFakeRing(t testing.TB, size, start uintptr) *fakeRing {
	t.Helper()
	words := make([]uint64, 2*size/8) // aligned, as pages are
	r := &ring{
		consumer: new(atomic.Uintptr), producer: new(atomic.Uintptr),
		data: unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 2*size), size: size,
	}
	r.consumer.Store(start)
	r.producer.Store(start)
	var err error
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	return &fakeRing{r, start}
}

// put writes a record with flags in its header and shows it to the reader; false where there is no room.
func (r *fakeRing) put(sample []byte, flags uint32) bool {
	header := uint32(len(sample)) | flags
	n := uintptr(recordSize(header))
	if r.at+n-r.consumer.Load() > r.size {
		return false
	}
	record := binary.NativeEndian.AppendUint32(nil, header)
	record = append(append(record, 0, 0, 0, 0), sample...)
	for i, c := range record {
		at := (r.at + uintptr(i)) & (r.size - 1)
		r.data[at], r.data[at+r.size] = c, c
	}
	r.at += n
	r.producer.Store(r.at)
	return true
}

// commit clears the flags of the record at a position.
func (r *fakeRing) commit(position uintptr) {
	at := position & (r.size - 1)
	for _, at := range []uintptr{at, at + r.size} {
		header := (*uint32)(unsafe.Pointer(&r.data[at]))
		atomic.StoreUint32(header, atomic.LoadUint32(header)&^(ringBusy|ringDiscard))
	}
}

// contents are the samples of a run.
func contents(t *testing.T, run []byte) (samples []string) {
	t.Helper()
	sample, rest, ok := nextSample(run)
	for ; ok; sample, rest, ok = nextSample(rest) {
		samples = append(samples, string(sample))
	}
	if len(rest) > 0 {
		t.Errorf("%d bytes are left", len(rest))
	}
	return samples
}

func expect(t *testing.T, r *fakeRing, room int, wantFull bool, want ...string) {
	t.Helper()
	buf, full, err := r.read(make([]byte, 0, room))
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, buf); strings.Join(got, "|") != strings.Join(want, "|") || full != wantFull {
		t.Errorf("read %q, full %v; expected %q, full %v", got, full, want, wantFull)
	}
}

// Records of many lengths come out as they went in over many laps of a small ring: in one piece where the ring wraps, and
// where positions do not begin at zero.
func TestRingWraps(t *testing.T) {
	const records = 10007
	r := newFakeRing(t, 4096, 1<<40+4096-8)
	sent, got := 0, 0
	sample := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, i%331) }
	for got < records {
		for sent < records && r.put(sample(sent), 0) {
			sent++
		}
		buf, full, err := r.read(make([]byte, 0, 4096))
		if err != nil || full {
			t.Fatal(full, err)
		}
		for _, s := range contents(t, buf) {
			if s != string(sample(got)) {
				t.Fatalf("record %d is %q", got, s)
			}
			got++
		}
		if r.available() != 0 {
			t.Fatalf("%d bytes are left", r.available())
		}
	}
	if sent != records || got != records {
		t.Errorf("sent %d, got %d", sent, got)
	}
}

// A record that is being written hides those behind it until it is there.
func TestRingBusy(t *testing.T) {
	r := newFakeRing(t, 4096, 0)
	r.put([]byte("one"), 0)
	busy := r.at
	r.put([]byte("two"), ringBusy)
	r.put([]byte("three"), 0)
	expect(t, r, 4096, false, "one")
	expect(t, r, 4096, false)
	if r.consumer.Load() != busy {
		t.Errorf("the reader is at %d, expected %d", r.consumer.Load(), busy)
	}
	r.commit(busy)
	expect(t, r, 4096, false, "two", "three")
}

// What its writer gave up is passed over, wherever it stands.
func TestRingDiscard(t *testing.T) {
	r := newFakeRing(t, 4096, 0)
	for i, s := range []string{"no", "one", "no", "no", "", "two", "no"} {
		flags := uint32(0)
		if s == "no" {
			flags = ringDiscard
		}
		if !r.put([]byte(s), flags) {
			t.Fatal("no room for record", i)
		}
	}
	expect(t, r, 4096, false, "one", "", "two")
	r.put([]byte("no"), ringDiscard)
	expect(t, r, 4096, false)
	if r.available() != 0 {
		t.Errorf("%d bytes are left", r.available())
	}
}

// A record for which the batch has no room begins the next one; one that fits exactly does not.
func TestRingFullBatch(t *testing.T) {
	r := newFakeRing(t, 4096, 0)
	long := strings.Repeat("x", 80)
	r.put([]byte("one"), 0)
	r.put([]byte(long), 0)
	r.put([]byte("two"), 0)
	expect(t, r, 100, true, "one")
	expect(t, r, 88, true, long)
	expect(t, r, 88, false, "two")
}

// Memory that is no ring buffer ends the reading, and moves nothing.
func TestRingInconsistent(t *testing.T) {
	for name, spoil := range map[string]func(*fakeRing){
		"beyond the producer":  func(r *fakeRing) { r.producer.Add(^uintptr(7)) },
		"more than its size":   func(r *fakeRing) { r.producer.Add(4096) },
		"longer than a batch":  func(r *fakeRing) { r.put(make([]byte, 2000), 0) },
		"the reader is behind": func(r *fakeRing) { r.consumer.Store(r.at + 8) },
	} {
		r := newFakeRing(t, 4096, 0)
		r.put([]byte("one"), 0)
		spoil(r)
		before := r.consumer.Load()
		if _, _, err := r.read(make([]byte, 0, 1024)); !errors.Is(err, errRing) {
			t.Errorf("%s: %v", name, err)
		}
		if r.consumer.Load() != before {
			t.Errorf("%s: the reader went on", name)
		}
	}
}

// No bytes make the walk panic or leave what it was given.
func FuzzNextSample(f *testing.F) {
	f.Add([]byte("\x03\x00\x00\x00\x00\x00\x00\x00one\x00\x00\x00\x00\x00"))
	f.Add([]byte("\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, run []byte) {
		sample, rest, ok := nextSample(run)
		for ok {
			if len(sample)+ringHeader+len(rest) > len(run) {
				t.Fatal("longer than the run")
			}
			run = rest
			sample, rest, ok = nextSample(run)
		}
	})
}

// kernelRing is a ring buffer of the kernel and a program that puts a sample with the given flags.
func kernelRing(t testing.TB, size uint32, sample int16, flags int32) (*ebpf.Map, *ebpf.Program) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	var code asm.Instructions
	for at := int16(8); at <= sample; at += 8 {
		code = append(code, asm.Mov.Imm(asm.R1, int32(at)), asm.StoreMem(asm.RFP, -at, asm.R1, asm.DWord))
	}
	code = append(code,
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, int32(-sample)),
		asm.Mov.Imm(asm.R3, int32(sample)),
		asm.Mov.Imm(asm.R4, flags),
		asm.FnRingbufOutput.Call(),
		asm.Return(),
	)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, Instructions: code, License: "GPL"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return m, prog
}

const (
	noWakeup    = 1 // BPF_RB_NO_WAKEUP
	forceWakeup = 2 // BPF_RB_FORCE_WAKEUP
)

func fill(t testing.TB, prog *ebpf.Program, records uint32) {
	t.Helper()
	if ret, err := prog.Run(&ebpf.RunOptions{Data: make([]byte, 64), Repeat: records}); err != nil || int32(ret) != 0 {
		t.Fatal(int32(ret), err)
	}
}

// What the kernel puts is read, over many laps, and closing leaves neither descriptor nor mapping.
func TestRingOfKernel(t *testing.T) {
	m, prog := kernelRing(t, 4096, 40, noWakeup)
	beforeFDs, beforeMaps := descriptors(t), ringMappings(t)
	r, err := openRing(m)
	if err != nil {
		t.Fatal(err)
	}
	if n := ringMappings(t); n != beforeMaps+2 {
		t.Errorf("%d mappings, %d before", n, beforeMaps)
	}
	for range 101 {
		fill(t, prog, 31)
		buf, full, err := r.read(make([]byte, 0, 4096))
		if err != nil || full {
			t.Fatal(full, err)
		}
		got := contents(t, buf)
		if len(got) != 31 {
			t.Fatalf("%d records, expected 31", len(got))
		}
		for _, s := range got {
			if len(s) != 40 || s[0] != 40 || s[32] != 8 {
				t.Fatalf("read %q", s)
			}
		}
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
	if fds, maps := descriptors(t), ringMappings(t); fds != beforeFDs || maps != beforeMaps {
		t.Errorf("%d descriptors and %d mappings, %d and %d before", fds, maps, beforeFDs, beforeMaps)
	}
}

func ringMappings(t *testing.T) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(maps), "bpf-map")
}

// A wake-up ends the wait at once. What is queued without one does not, though the ring buffer always says that data is
// there: a reader would spin.
func TestRingWait(t *testing.T) {
	m, prog := kernelRing(t, 4096, 40, forceWakeup)
	r, err := openRing(m)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	waited := func(d time.Duration) time.Duration {
		start := time.Now()
		if err := r.wait(d); err != nil {
			t.Error(err)
		}
		return time.Since(start)
	}
	fill(t, prog, 1)
	if d := waited(10 * time.Second); d > 5*time.Second {
		t.Errorf("woken after %v", d)
	}
	// Signals of Go's runtime may end a wait early, but not most of many.
	spins := 0
	for range 20 {
		if waited(5*time.Millisecond) < 4*time.Millisecond {
			spins++
		}
	}
	if r.available() == 0 || spins > 10 {
		t.Errorf("%d bytes are there; %d of 20 waits ended early", r.available(), spins)
	}
}

// One operation is one record of an ordinary size, read and split again.
func BenchmarkRing(b *testing.B) {
	const sample = 280 // with its header no divisor of the size: runs end anywhere
	r := newFakeRing(b, 8<<20, 0)
	for r.put(make([]byte, sample), 0) {
	}
	b.SetBytes(sample + ringHeader)
	b.ReportAllocs()
	first, last := r.consumer.Load(), r.at
	buf := make([]byte, 0, batchBytes)
	records := 0
	for b.Loop() {
		if records--; records >= 0 {
			continue
		}
		if r.available() == 0 {
			r.consumer.Store(first)
			r.producer.Store(last)
		}
		var err error
		if buf, _, err = r.read(buf[:0]); err != nil {
			b.Fatal(err)
		}
		for _, rest, ok := nextSample(buf); ok; _, rest, ok = nextSample(rest) {
			records++
		}
	}
}
